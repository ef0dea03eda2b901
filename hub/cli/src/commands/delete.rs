//! `hub delete TYPE NAME...`, `hub delete -f FILE`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::target::{Selection, place, targets};
use crate::client::{Call, Client};
use crate::connect::Connect;
use crate::manifests;
use crate::output::print;
use crate::resources::{Place, Resource, Resources};

/// Pods take their grace period (30 s by default), and a node may be slow to say that they are gone.
const WAIT: Duration = Duration::from_secs(120);
const ASK_AGAIN: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub struct Delete {
    /// TYPE NAME... or TYPE/NAME...
    #[arg(value_name = "TYPE[/NAME]", required_unless_present = "filename")]
    words: Vec<String>,

    /// Objects that this file or directory names; - is stdin (may be repeated)
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "words")]
    filename: Vec<PathBuf>,

    /// Namespace [default: the kubeconfig's]
    #[arg(short, long)]
    namespace: Option<String>,

    #[command(flatten)]
    selection: Selection,

    /// All objects of the type
    #[arg(long)]
    all: bool,

    /// Seconds that pods have to stop by themselves
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,

    /// Do not wait until they are gone
    #[arg(long)]
    no_wait: bool,

    /// Do not mind what is gone already
    #[arg(long)]
    ignore_not_found: bool,

    #[command(flatten)]
    connect: Connect,
}

/// One object to delete.
struct Doomed {
    label: String,
    path: String,
}

impl Delete {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let from_files = match self.filename.as_slice() {
            [] => Vec::new(),
            files => manifests::read(files)?,
        };
        let mut connected = self.connect.open()?;
        let resources = Resources::load(&mut connected.client).await?;
        let place = place(self.namespace.as_ref(), &connected);
        let client = &mut connected.client;
        let doomed = if from_files.is_empty() {
            self.named(client, &resources, &place).await?
        } else {
            from_files.iter().map(|object| of_file(object, &resources, &place)).collect::<Result<_, _>>()?
        };
        if doomed.is_empty() {
            eprintln!("No resources found");
        }
        let mut going = Vec::new();
        for object in doomed {
            match self.delete(client, &object).await {
                Ok(answer) => {
                    print(&format!("{} deleted\n", object.label))?;
                    going.push((object, answer));
                }
                Err(error) if error.is_not_found() && self.ignore_not_found => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !self.no_wait {
            for (object, answer) in going {
                wait(client, &object, &answer).await?;
            }
        }
        Ok(())
    }

    async fn named(&self, client: &mut Client, resources: &Resources, place: &Place) -> anyhow::Result<Vec<Doomed>> {
        let mut doomed = Vec::new();
        for (resource, names) in targets(&self.words, resources)? {
            if !names.is_empty() {
                doomed.extend(names.iter().map(|name| Doomed::new(resource, place, name)));
                continue;
            }
            if !self.all && self.selection.is_empty() {
                bail!("name what to delete, or say --all or -l LABELS");
            }
            let path = format!("{}{}", resource.collection(place), self.selection.query());
            let list = client.json(Call::get(path)).await?;
            let names = list["items"].as_array().into_iter().flatten().filter_map(|o| o["metadata"]["name"].as_str());
            doomed.extend(names.map(|name| Doomed::new(resource, place, name)));
        }
        Ok(doomed)
    }

    async fn delete(&self, client: &mut Client, object: &Doomed) -> Result<Value, crate::client::ClientError> {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        if let Some(seconds) = self.grace_period {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        let call = Call::delete(&object.path).body("application/json", options.to_string().into_bytes());
        client.json(call).await
    }
}

impl Doomed {
    fn new(resource: &Resource, place: &Place, name: &str) -> Self {
        Self { label: format!("{} {name:?}", resource.qualified()), path: resource.object(place, name) }
    }
}

fn of_file(object: &Value, resources: &Resources, place: &Place) -> anyhow::Result<Doomed> {
    let resource = resources.of(object)?;
    let name = object["metadata"]["name"].as_str().context("an object has no metadata.name")?;
    let own = object["metadata"]["namespace"].as_str().map(|namespace| Place::One(namespace.to_owned()));
    Ok(Doomed::new(resource, own.as_ref().unwrap_or(place), name))
}

/// Until it is gone, or another one has its name.
async fn wait(client: &mut Client, object: &Doomed, answer: &Value) -> anyhow::Result<()> {
    let uid = [&answer["metadata"]["uid"], &answer["details"]["uid"]].into_iter().find(|uid| uid.is_string());
    let gone = async {
        loop {
            match client.json(Call::get(&object.path)).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error),
                Ok(now) if uid.is_some_and(|uid| now["metadata"]["uid"] != *uid) => return Ok(()),
                Ok(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    };
    match tokio::time::timeout(WAIT, gone).await {
        Ok(result) => Ok(result?),
        Err(_) => bail!("{} is still there after {} s; it goes on being deleted", object.label, WAIT.as_secs()),
    }
}
