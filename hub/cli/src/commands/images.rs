//! `hub images`

use jiff::Timestamp;
use serde_json::Value;

use crate::client::Call;
use crate::clock::{age, now};
use crate::connect::Connect;
use crate::output::{DataFormat, Format, print};
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub struct Images {
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Format>,

    #[command(flatten)]
    connect: Connect,
}

impl Images {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let list = self.connect.open()?.client.json(Call::get("/wherry/v1/images")).await?;
        match self.output {
            Some(Format::Json) => print(&DataFormat::Json.render(&list)?),
            Some(Format::Yaml) => print(&DataFormat::Yaml.render(&list)?),
            Some(Format::Name) => {
                let names: String = images(&list).map(|image| format!("{}\n", reference(image))).collect();
                print(&names)
            }
            Some(Format::Wide) => print(&table(&list, now(), Detail::Wide).render()),
            None => print(&table(&list, now(), Detail::Normal).render()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Normal,
    Wide,
}

fn images(list: &Value) -> impl Iterator<Item = &Value> {
    list["images"].as_array().into_iter().flatten()
}

fn reference(image: &Value) -> String {
    let text = |field: &str| image[field].as_str().unwrap_or_default();
    match image["tag"].as_str() {
        Some(tag) => format!("{}:{tag}", text("name")),
        None => format!("{}@{}", text("name"), text("digest")),
    }
}

fn table(list: &Value, now: Timestamp, detail: Detail) -> Table {
    let mut header = ["NAME", "TAG", "KIND", "SIZE", "AGE", "DIGEST"].map(str::to_owned).to_vec();
    if detail == Detail::Wide {
        header.push("COMPONENT".to_owned());
    }
    let row = |image: &Value| {
        let text = |field: &str| image[field].as_str().unwrap_or("<none>").to_owned();
        let pushed = image["pushedUnixSeconds"].as_i64().and_then(|at| Timestamp::from_second(at).ok());
        let size = size(image["bytes"].as_u64().unwrap_or(0));
        let pushed = pushed.map_or("<unknown>".to_owned(), |at| age(at, now));
        // As long as needed to tell images apart by eye; -o wide and json have the whole.
        let digest = |field| match detail {
            Detail::Normal => text(field).chars().take("sha256:".len() + 12).collect(),
            Detail::Wide => text(field),
        };
        let mut row = vec![text("name"), text("tag"), text("kind"), size, pushed, digest("digest")];
        if detail == Detail::Wide {
            row.push(digest("component"));
        }
        row
    };
    Table { header, rows: images(list).map(row).collect() }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_in_columns() {
        let list = json!({"images": [
            {"name": "hello", "tag": "latest", "kind": "command", "bytes": 70_000, "pushedUnixSeconds": 40,
             "digest": format!("sha256:{}", "ab".repeat(32)), "component": "sha256:cd"},
            {"name": "a/web", "tag": null, "kind": "http", "bytes": 12, "digest": "sha256:00"},
        ]});
        let expected = "\
NAME    TAG      KIND      SIZE     AGE         DIGEST
hello   latest   command   68 KiB   60s         sha256:abababababab
a/web   <none>   http      12 B     <unknown>   sha256:00
";
        assert_eq!(table(&list, Timestamp::from_second(100).unwrap(), Detail::Normal).render(), expected);
        assert_eq!(images(&list).map(reference).collect::<Vec<_>>(), ["hello:latest", "a/web@sha256:00"]);
    }
}
