//! The forms that data is printed in.

use std::io::{self, Write};

use anyhow::Context;
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Json,
    Yaml,
    /// A table with more columns
    Wide,
    /// Only types and names
    Name,
}

/// Formats of what has no wide table and no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DataFormat {
    Json,
    Yaml,
}

impl DataFormat {
    pub(crate) fn render(self, value: &Value) -> anyhow::Result<String> {
        match self {
            Self::Json => {
                let mut text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
                text.push('\n');
                Ok(text)
            }
            Self::Yaml => serde_yaml_ng::to_string(value).context("cannot write YAML"),
        }
    }
}

/// Data goes to stdout at once, also into a pipe.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    Ok(out.write_all(bytes).and_then(|()| out.flush())?)
}
