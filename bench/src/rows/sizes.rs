//! What is downloaded.

use anyhow::Result;
use harness::Binaries;

use super::Row;

/// # Errors
/// A program is not built.
pub fn measure() -> Result<Vec<Row>> {
    let binaries = Binaries::find()?;
    let row = |what: &str, path: std::path::PathBuf, budget: &str| -> Result<Row> {
        let bytes = std::fs::metadata(path)?.len();
        Ok(Row::new(what, format!("{:.1} MB", bytes as f64 / 1e6), budget))
    };
    Ok(vec![
        row("binary edge-agent", binaries.agent(), "6 MB")?,
        row("binary hub", binaries.hub(), "")?,
        row("binary hub-compiler", binaries.compiler(), "")?,
    ])
}
