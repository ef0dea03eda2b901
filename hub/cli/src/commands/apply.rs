//! `hub apply -f FILE`

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::client::{Call, Client};
use crate::connect::Connect;
use crate::manifests;
use crate::merge;
use crate::output::print;
use crate::resources::{Place, Resource, Resources};

#[derive(Debug, clap::Args)]
pub struct Apply {
    /// File or directory with YAML or JSON; - is stdin (may be repeated)
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,

    /// Namespace of objects that name none [default: the kubeconfig's]
    #[arg(short, long)]
    namespace: Option<String>,

    /// Let the hub check everything, and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    connect: Connect,
}

/// What became of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applied {
    Created,
    Configured,
    Unchanged,
}

impl Apply {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let objects = manifests::read(&self.filename)?;
        let mut connected = self.connect.open()?;
        let resources = Resources::load(&mut connected.client).await?;
        let mut failed = 0;
        let total = objects.len();
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            // One bad object does not keep the others from being applied.
            match self.apply(&mut connected.client, &resources, object, &connected.namespace).await {
                Ok((resource, applied)) => {
                    let word = match applied {
                        Applied::Created => "created",
                        Applied::Configured => "configured",
                        Applied::Unchanged => "unchanged",
                    };
                    let dry = if self.dry_run { " (dry run)" } else { "" };
                    print(&format!("{}/{name} {word}{dry}\n", resource.qualified()))?;
                }
                Err(error) => {
                    eprintln!("hub: {error:#}");
                    failed += 1;
                }
            }
        }
        if failed > 0 {
            bail!("{failed} of {total} objects could not be applied");
        }
        Ok(())
    }

    async fn apply<'a>(
        &self,
        client: &mut Client,
        resources: &'a Resources,
        mut object: Value,
        default_namespace: &str,
    ) -> anyhow::Result<(&'a Resource, Applied)> {
        let resource = resources.of(&object)?;
        let name = object["metadata"]["name"].as_str().context("an object has no metadata.name")?.to_owned();
        let place = if resource.namespaced {
            let own = object["metadata"]["namespace"].as_str().map(str::to_owned);
            if let (Some(own), Some(asked)) = (&own, &self.namespace)
                && own != asked
            {
                bail!("{}/{name} is of namespace {own}, and -n says {asked}", resource.qualified());
            }
            let namespace = own.or_else(|| self.namespace.clone()).unwrap_or_else(|| default_namespace.to_owned());
            object["metadata"]["namespace"] = Value::String(namespace.clone());
            Place::One(namespace)
        } else {
            Place::All
        };
        let query = if self.dry_run { "?fieldValidation=Strict&dryRun=All" } else { "?fieldValidation=Strict" };
        let object = merge::with_note(object);
        let path = resource.object(&place, &name);
        let live = match client.json(Call::get(&path)).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => {
                let path = format!("{}{query}", resource.collection(&place));
                client.json(Call::post(path, &object)).await?;
                return Ok((resource, Applied::Created));
            }
            Err(error) => return Err(error.into()),
        };
        let Some(patch) = merge::patch(&merge::noted(&live), &object, &live) else {
            return Ok((resource, Applied::Unchanged));
        };
        let now = client.json(Call::merge_patch(format!("{path}{query}"), &patch)).await?;
        let is_same = now["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"];
        Ok((resource, if is_same { Applied::Unchanged } else { Applied::Configured }))
    }
}
