//! Objects from files: YAML with several documents, JSON, lists; from directories and stdin, too.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

/// A manifest is written by people; what is larger is another file than they meant.
const FILE_MAX: u64 = 16 << 20;

/// The objects in these files, in the order in which they are written. `-` is stdin.
pub(crate) fn read(sources: &[PathBuf]) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for source in sources {
        for file in files(source)? {
            let text = text(&file)?;
            objects.extend(parse(&text).with_context(|| format!("cannot use {}", file.display()))?);
        }
    }
    if objects.is_empty() {
        bail!("there are no objects in what -f names");
    }
    Ok(objects)
}

/// The file itself, or the manifests in a directory, by name.
fn files(source: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let unreadable = || format!("cannot read {}", source.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(source).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let is_manifest = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|own| end == *own));
        if is_manifest && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn text(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_MAX + 1).read_to_string(&mut text)
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        opened.take(FILE_MAX + 1).read_to_string(&mut text)
    };
    read.with_context(|| format!("cannot read {}", file.display()))?;
    if text.len() as u64 > FILE_MAX {
        bail!("{} is larger than {} MiB, which no manifest is", file.display(), FILE_MAX >> 20);
    }
    Ok(text)
}

/// JSON is YAML, so one parser reads both.
fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        match Value::deserialize(document).context("it is neither YAML nor JSON")? {
            Value::Null => {}
            object => collect(object, &mut objects)?,
        }
    }
    Ok(objects)
}

fn collect(object: Value, objects: &mut Vec<Value>) -> anyhow::Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if let Some(items) = object.get("items").and_then(Value::as_array).filter(|_| kind.ends_with("List")) {
        return items.iter().try_for_each(|item| collect(item.clone(), objects));
    }
    if kind.is_empty() || !object["apiVersion"].is_string() {
        bail!("one of its objects has no apiVersion or no kind");
    }
    objects.push(object);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let got = match parse(text) {
            Ok(objects) => {
                objects.iter().map(|o| o["metadata"]["name"].as_str().unwrap_or("?")).collect::<Vec<_>>().join(" ")
            }
            Err(error) => format!("{error}"),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn documents_and_lists() {
        let pod = |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n");
        check(&format!("{}---\n{}---\n", pod("a"), pod("b")), "a b");
        check("# nothing\n", "");
        let list =
            r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}]}"#;
        check(list, "c");
        check("kind: Pod", "one of its objects has no apiVersion or no kind");
        check("just text", "one of its objects has no apiVersion or no kind");
        check("a: [", "it is neither YAML nor JSON");
    }

    #[test]
    fn directories_are_read_by_name() {
        let dir = std::env::temp_dir().join(format!("hub-cli-manifests-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("deeper.yaml")).unwrap();
        for name in ["b.yaml", "a.json", "c.yml", "notes.txt"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        let names: Vec<_> = files(&dir).unwrap().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(names, ["a.json", "b.yaml", "c.yml"]);
    }
}
