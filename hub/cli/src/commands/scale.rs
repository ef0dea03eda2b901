//! `hub scale TYPE/NAME --replicas N`

use anyhow::bail;
use serde_json::json;

use super::target::{place, targets};
use crate::client::Call;
use crate::connect::Connect;
use crate::output::print;
use crate::resources::Resources;

#[derive(Debug, clap::Args)]
pub struct Scale {
    /// TYPE NAME... or TYPE/NAME...
    #[arg(required = true, value_name = "TYPE/NAME")]
    words: Vec<String>,

    /// How many shall run
    #[arg(long)]
    replicas: u32,

    /// Namespace [default: the kubeconfig's]
    #[arg(short, long)]
    namespace: Option<String>,

    #[command(flatten)]
    connect: Connect,
}

impl Scale {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut connected = self.connect.open()?;
        let resources = Resources::load(&mut connected.client).await?;
        let place = place(self.namespace.as_ref(), &connected);
        let patch = json!({"spec": {"replicas": self.replicas}});
        for (resource, names) in targets(&self.words, &resources)? {
            if names.is_empty() {
                bail!("name what to scale: hub scale {}/NAME --replicas {}", resource.plural, self.replicas);
            }
            for name in names {
                let path = format!("{}/scale", resource.object(&place, &name));
                connected.client.json(Call::merge_patch(path, &patch)).await?;
                print(&format!("{}/{name} scaled\n", resource.qualified()))?;
            }
        }
        Ok(())
    }
}
