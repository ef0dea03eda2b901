//! `hub version`

use serde_json::json;

use crate::client::Call;
use crate::connect::Connect;
use crate::output::{DataFormat, print};

#[derive(Debug, clap::Args)]
pub struct Version {
    /// Only of this program; do not ask the hub
    #[arg(long)]
    client: bool,

    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<DataFormat>,

    #[command(flatten)]
    connect: Connect,
}

impl Version {
    pub(crate) async fn run(self, program: &clap::Command) -> anyhow::Result<()> {
        let own = program.get_version().unwrap_or("unknown").to_owned();
        let mut answer = json!({ "client": own });
        let mut unreachable = None;
        if !self.client {
            match self.ask().await {
                Ok(server) => answer["server"] = server,
                // Who asks for a version may well be looking for what is wrong.
                Err(error) => unreachable = Some(error),
            }
        }
        match self.output {
            Some(format) => print(&format.render(&answer)?)?,
            None => {
                print(&format!("client {own}\n"))?;
                if let Some(server) = answer["server"]["gitVersion"].as_str() {
                    print(&format!("server {server}\n"))?;
                }
            }
        }
        if let Some(error) = unreachable {
            eprintln!("hub: {error:#}");
        }
        Ok(())
    }

    async fn ask(&self) -> anyhow::Result<serde_json::Value> {
        Ok(self.connect.open()?.client.json(Call::get("/version")).await?)
    }
}
