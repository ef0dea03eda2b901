//! `hub rmi NAME[:TAG]...`

use crate::client::Call;
use crate::connect::Connect;
use crate::output::print;

#[derive(Debug, clap::Args)]
pub struct Rmi {
    /// NAME, NAME:TAG, NAME@sha256:... or sha256:...
    #[arg(required = true)]
    names: Vec<String>,

    #[command(flatten)]
    connect: Connect,
}

impl Rmi {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut connected = self.connect.open()?;
        for name in &self.names {
            // Slashes are part of the name.
            let path = name.split('/').map(crate::resources::encode).collect::<Vec<_>>().join("/");
            connected.client.bytes(Call::delete(format!("/wherry/v1/images/{path}"))).await?;
            print(&format!("{name} removed\n"))?;
        }
        Ok(())
    }
}
