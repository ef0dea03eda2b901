//! The table, for terminals and for Markdown.

use crate::rows::Row;

pub fn text(rows: &[Row]) -> String {
    let width = |cell: fn(&Row) -> &str| rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or(0);
    let (what, figure) = (width(|row| &row.what), width(|row| &row.figure));
    let lines = rows.iter().map(|row| {
        let line = format!("{:what$}  {:figure$}  {}", row.what, row.figure, row.budget);
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub fn markdown(rows: &[Row]) -> String {
    let lines: String =
        rows.iter().map(|row| format!("| {} | {} | {} |\n", row.what, row.figure, row.budget)).collect();
    format!("| what | figure | budget |\n|---|---|---|\n{lines}")
}
