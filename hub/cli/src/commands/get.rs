//! `hub get TYPE [NAME...]`

use std::time::Duration;

use anyhow::bail;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::target::{Selection, place, targets};
use crate::client::{Call, Client};
use crate::connect::{Connect, Connected};
use crate::output::{DataFormat, Format, print};
use crate::resources::{Place, Resource, Resources, encode};
use crate::table::{NamespaceColumn, Table, Width, render_line};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// The server ends watches by itself now and then; until then silence means that nothing happens.
const WATCH_TIME: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Args)]
pub struct Get {
    /// TYPE, TYPE NAME... or TYPE/NAME...; types may be joined by commas
    #[arg(required = true, value_name = "TYPE[/NAME]")]
    words: Vec<String>,

    /// Namespace [default: the kubeconfig's]
    #[arg(short, long)]
    namespace: Option<String>,

    /// Objects of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,

    #[command(flatten)]
    selection: Selection,

    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Format>,

    /// Go on and show changes as they happen
    #[arg(short, long)]
    watch: bool,

    #[command(flatten)]
    connect: Connect,
}

impl Get {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut connected = self.connect.open()?;
        let resources = Resources::load(&mut connected.client).await?;
        let targets = targets(&self.words, &resources)?;
        let place = if self.all_namespaces { Place::All } else { place(self.namespace.as_ref(), &connected) };
        if self.all_namespaces && targets.iter().any(|(_, names)| !names.is_empty()) {
            bail!("a name is of one namespace: leave out -A, or the name");
        }
        if self.watch {
            return self.watch(&mut connected.client, &targets, &place).await;
        }
        match self.output {
            None => self.tables(connected, &targets, &place, Width::Normal).await,
            Some(Format::Wide) => self.tables(connected, &targets, &place, Width::Wide).await,
            Some(Format::Name) => {
                for (resource, object) in self.objects(&mut connected.client, &targets, &place).await?.1 {
                    print(&format!(
                        "{}/{}\n",
                        resource.qualified(),
                        object["metadata"]["name"].as_str().unwrap_or("")
                    ))?;
                }
                Ok(())
            }
            Some(Format::Json) => self.whole(&mut connected.client, &targets, &place, DataFormat::Json).await,
            Some(Format::Yaml) => self.whole(&mut connected.client, &targets, &place, DataFormat::Yaml).await,
        }
    }

    async fn tables(
        &self,
        mut connected: Connected,
        targets: &[(&Resource, Vec<String>)],
        place: &Place,
        width: Width,
    ) -> anyhow::Result<()> {
        let (mut first, mut empty) = (true, true);
        for (resource, names) in targets {
            let table = self.table(&mut connected.client, resource, names, place).await?;
            let mut table = Table::from_server(&table, width, self.namespace_column(resource));
            if table.rows.is_empty() {
                continue;
            }
            empty = false;
            if targets.len() > 1 && names.is_empty() {
                // Of several types, each line says which it is of.
                for row in &mut table.rows {
                    let at = usize::from(self.namespace_column(resource) == NamespaceColumn::Shown);
                    row[at] = format!("{}/{}", resource.qualified(), row[at]);
                }
                if !first {
                    print("\n")?;
                }
            }
            first = false;
            print(&table.render())?;
        }
        if empty {
            match place {
                Place::One(namespace) if targets.iter().any(|(resource, _)| resource.namespaced) => {
                    eprintln!("No resources found in {namespace} namespace.");
                }
                Place::One(_) | Place::All => eprintln!("No resources found"),
            }
        }
        Ok(())
    }

    fn namespace_column(&self, resource: &Resource) -> NamespaceColumn {
        if self.all_namespaces && resource.namespaced { NamespaceColumn::Shown } else { NamespaceColumn::Hidden }
    }

    /// One table: of the whole collection, or with one row for each name.
    async fn table(
        &self,
        client: &mut Client,
        resource: &Resource,
        names: &[String],
        place: &Place,
    ) -> anyhow::Result<Value> {
        if names.is_empty() {
            let path = format!("{}{}", resource.collection(place), self.selection.query());
            return Ok(client.json(Call::get(path).accept(TABLE)).await?);
        }
        let mut whole = Value::Null;
        for name in names {
            let table = client.json(Call::get(resource.object(place, name)).accept(TABLE)).await?;
            match whole["rows"].as_array_mut() {
                Some(rows) => rows.extend(table["rows"].as_array().cloned().unwrap_or_default()),
                None => whole = table,
            }
        }
        Ok(whole)
    }

    async fn whole(
        &self,
        client: &mut Client,
        targets: &[(&Resource, Vec<String>)],
        place: &Place,
        format: DataFormat,
    ) -> anyhow::Result<()> {
        let (asked, objects) = self.objects(client, targets, place).await?;
        let mut objects: Vec<Value> = objects.into_iter().map(|(_, object)| object).collect();
        let value = match (asked, objects.pop()) {
            (Asked::One, Some(object)) => object,
            (Asked::One | Asked::Many, last) => {
                objects.extend(last);
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
            }
        };
        print(&format.render(&value)?)
    }

    async fn objects<'a>(
        &self,
        client: &mut Client,
        targets: &[(&'a Resource, Vec<String>)],
        place: &Place,
    ) -> anyhow::Result<(Asked, Vec<(&'a Resource, Value)>)> {
        let mut objects = Vec::new();
        let mut asked = Asked::One;
        for (resource, names) in targets {
            for name in names {
                objects.push((*resource, client.json(Call::get(resource.object(place, name))).await?));
            }
            if names.is_empty() {
                asked = Asked::Many;
                let path = format!("{}{}", resource.collection(place), self.selection.query());
                let list = client.json(Call::get(path)).await?;
                for item in list["items"].as_array().into_iter().flatten() {
                    objects.push((*resource, whole_item(&list, item)));
                }
            }
        }
        if objects.len() > 1 {
            asked = Asked::Many;
        }
        Ok((asked, objects))
    }

    async fn watch(
        &self,
        client: &mut Client,
        targets: &[(&Resource, Vec<String>)],
        place: &Place,
    ) -> anyhow::Result<()> {
        let [(resource, names)] = targets else { bail!("watch one resource type at a time") };
        let width = match self.output {
            None => Width::Normal,
            Some(Format::Wide) => Width::Wide,
            Some(Format::Json | Format::Yaml | Format::Name) => {
                bail!("a watch shows tables: take -o wide, or leave out -o")
            }
        };
        let mut selection = self.selection.clone();
        match names.as_slice() {
            [] => {}
            [name] => selection.field_selector = Some(format!("metadata.name={name}")),
            _ => bail!("watch one object, or all of a type"),
        }
        let list = format!("{}{}", resource.collection(place), selection.query());
        let table = client.json(Call::get(&list).accept(TABLE)).await?;
        let shown = Table::from_server(&table, width, self.namespace_column(resource));
        let widths = shown.widths();
        print(&shown.render())?;

        let version = table["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let join = if list.contains('?') { '&' } else { '?' };
        let path = format!("{list}{join}watch=1&resourceVersion={}", encode(&version));
        let response = client.send(Call::get(path).accept(TABLE).patience(WATCH_TIME)).await?;
        let mut lines = Lines::default();
        let mut body = response.into_body();
        // Only the first event tells the columns.
        let mut columns = table["columnDefinitions"].clone();
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame?.into_data() else { continue };
            for line in lines.feed(&bytes) {
                let event: Value = serde_json::from_slice(&line)?;
                if event["type"] == "ERROR" {
                    bail!("the watch ended: {}", event["object"]["message"].as_str().unwrap_or("no reason given"));
                }
                let mut table = event["object"].clone();
                match table["columnDefinitions"].as_array() {
                    Some(told) if !told.is_empty() => columns = table["columnDefinitions"].clone(),
                    Some(_) | None => table["columnDefinitions"] = columns.clone(),
                }
                for row in &Table::from_server(&table, width, self.namespace_column(resource)).rows {
                    print(&render_line(row, &widths))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether the answer is one object or a list, also where the list has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    One,
    Many,
}

/// Items of a list leave out what the list says for all.
fn whole_item(list: &Value, item: &Value) -> Value {
    let kind = list["kind"].as_str().unwrap_or_default().trim_end_matches("List");
    let mut whole = json!({"apiVersion": list["apiVersion"], "kind": kind});
    if let (Some(whole), Some(item)) = (whole.as_object_mut(), item.as_object()) {
        whole.extend(item.clone());
    }
    whole
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.0.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let rest = self.0.split_off(end + 1);
            let line = std::mem::replace(&mut self.0, rest);
            if line.len() > 1 {
                lines.push(line);
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_any_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"{\"a\""), Vec::<Vec<u8>>::new());
        assert_eq!(lines.feed(b":1}\n\n{}\n{"), [b"{\"a\":1}\n".to_vec(), b"{}\n".to_vec()]);
        assert_eq!(lines.feed(b"}\n"), [b"{}\n".to_vec()]);
    }

    #[test]
    fn items_become_whole_objects() {
        let list = json!({"apiVersion": "apps/v1", "kind": "DeploymentList"});
        let whole = whole_item(&list, &json!({"metadata": {"name": "a"}}));
        assert_eq!(whole, json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}));
    }
}
