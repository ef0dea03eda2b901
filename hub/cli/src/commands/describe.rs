//! `hub describe TYPE NAME`

use serde_json::Value;

use super::target::{Selection, place, targets};
use crate::client::{Call, Client};
use crate::connect::Connect;
use crate::output::print;
use crate::resources::{Place, Resource, Resources, encode};
use crate::{clock, describe};

#[derive(Debug, clap::Args)]
pub struct Describe {
    /// TYPE, TYPE NAME... or TYPE/NAME...
    #[arg(required = true, value_name = "TYPE[/NAME]")]
    words: Vec<String>,

    /// Namespace [default: the kubeconfig's]
    #[arg(short, long)]
    namespace: Option<String>,

    #[command(flatten)]
    selection: Selection,

    #[command(flatten)]
    connect: Connect,
}

impl Describe {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut connected = self.connect.open()?;
        let resources = Resources::load(&mut connected.client).await?;
        let place = place(self.namespace.as_ref(), &connected);
        let client = &mut connected.client;
        let mut described = Vec::new();
        for (resource, names) in targets(&self.words, &resources)? {
            for object in self.objects(client, resource, &names, &place).await? {
                let events = events_of(client, &object).await?;
                described.push(describe::describe(&object, &events, clock::now()));
            }
        }
        if described.is_empty() {
            eprintln!("No resources found");
        }
        print(&described.join("\n\n"))
    }

    async fn objects(
        &self,
        client: &mut Client,
        resource: &Resource,
        names: &[String],
        place: &Place,
    ) -> anyhow::Result<Vec<Value>> {
        let mut objects = Vec::new();
        for name in names {
            objects.push(client.json(Call::get(resource.object(place, name))).await?);
        }
        if names.is_empty() {
            let path = format!("{}{}", resource.collection(place), self.selection.query());
            let list = client.json(Call::get(path)).await?;
            for item in list["items"].as_array().into_iter().flatten() {
                let mut item = item.clone();
                item["kind"] = Value::String(resource.kind.clone());
                objects.push(item);
            }
        }
        Ok(objects)
    }
}

/// What happened to it. Events of a node and other objects of the cluster lie in any namespace.
async fn events_of(client: &mut Client, object: &Value) -> anyhow::Result<Vec<Value>> {
    let metadata = &object["metadata"];
    let fields = [
        ("involvedObject.name", metadata["name"].as_str().unwrap_or_default()),
        ("involvedObject.kind", object["kind"].as_str().unwrap_or_default()),
    ];
    let selector = fields.map(|(field, value)| format!("{field}={value}")).join(",");
    let root = match metadata["namespace"].as_str() {
        Some(namespace) => format!("/api/v1/namespaces/{}/events", encode(namespace)),
        None => "/api/v1/events".to_owned(),
    };
    let list = client.json(Call::get(format!("{root}?fieldSelector={}", encode(&selector)))).await?;
    // Another object may have had the name before.
    let uid = &metadata["uid"];
    let own = |event: &&Value| {
        let about = &event["involvedObject"]["uid"];
        about.is_null() || about == "" || about == uid || object["kind"] == "Node"
    };
    Ok(list["items"].as_array().into_iter().flatten().filter(own).cloned().collect())
}
