//! `hub token create | list | delete`

use jiff::Timestamp;
use serde_json::{Value, json};

use super::duration::seconds;
use crate::client::Call;
use crate::connect::Connect;
use crate::output::{DataFormat, print};
use crate::resources::encode;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a token and print the command to paste on the node
    Create(Create),
    /// List tokens; their secrets are not kept
    List(List),
    /// Delete a token, so that nobody joins with it any more
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Only for the node of this name
    #[arg(long)]
    node: Option<String>,

    /// How long it can be used, such as 30m or 7d [default: a day]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    ttl: Option<u64>,

    /// Good for any number of nodes until it expires
    #[arg(long)]
    reusable: bool,

    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<DataFormat>,

    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<DataFormat>,

    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct Delete {
    /// The token's id: what stands before its first dot
    id: String,

    #[command(flatten)]
    connect: Connect,
}

impl Token {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Create(create) => create.run().await,
            Action::List(list) => list.run().await,
            Action::Delete(delete) => delete.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let mut wish = json!({"reusable": self.reusable});
        if let Some(seconds) = self.ttl {
            wish["ttl_seconds"] = json!(seconds);
        }
        if let Some(node) = &self.node {
            wish["node"] = json!(node);
        }
        let made = self.connect.open()?.client.json(Call::post("/wherry/v1/tokens", &wish)).await?;
        match self.output {
            Some(format) => print(&format.render(&made)?),
            None => {
                eprintln!("Run this on the node:");
                print(&format!("{}\n", made["command"].as_str().unwrap_or_default()))
            }
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let list = self.connect.open()?.client.json(Call::get("/wherry/v1/tokens")).await?;
        match self.output {
            Some(format) => print(&format.render(&list)?),
            None => print(&table(&list).render()),
        }
    }
}

impl Delete {
    async fn run(self) -> anyhow::Result<()> {
        // People paste whole tokens.
        let id = self.id.split('.').next().unwrap_or(&self.id);
        self.connect.open()?.client.bytes(Call::delete(format!("/wherry/v1/tokens/{}", encode(id)))).await?;
        print(&format!("token {id} deleted\n"))
    }
}

fn table(list: &Value) -> Table {
    let row = |token: &Value| {
        let text = |field: &str| token[field].as_str().unwrap_or("<any>").to_owned();
        let expires = token["expires_unix"].as_i64().and_then(|at| Timestamp::from_second(at).ok());
        let state = match (token["used_by"].as_str(), token["expired"].as_bool()) {
            (Some(node), _) => format!("used by {node}"),
            (None, Some(true)) => "expired".to_owned(),
            (None, _) => "valid".to_owned(),
        };
        let expires = expires.map_or("<unknown>".to_owned(), |at| at.to_string());
        vec![text("id"), text("uses"), text("node"), state, expires]
    };
    let rows = list["tokens"].as_array().into_iter().flatten().map(row).collect();
    Table { header: ["ID", "USES", "NODE", "STATE", "EXPIRES"].map(str::to_owned).to_vec(), rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_columns() {
        let list = json!({"tokens": [
            {"id": "0a1b", "uses": "once", "node": null, "used_by": "pi-1", "expired": false, "expires_unix": 0},
            {"id": "22", "uses": "until-expiry", "node": "pi-2", "used_by": null, "expired": true, "expires_unix": 60},
        ]});
        let expected = "\
ID     USES           NODE    STATE          EXPIRES
0a1b   once           <any>   used by pi-1   1970-01-01T00:00:00Z
22     until-expiry   pi-2    expired        1970-01-01T00:01:00Z
";
        assert_eq!(table(&list).render(), expected);
    }
}
