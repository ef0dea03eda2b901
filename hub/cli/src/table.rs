//! The server's tables, in columns. The server decides what is shown; this only aligns it.

use serde_json::Value;

/// Blanks between columns, as kubectl has them.
const GAP: usize = 3;

/// Rows of text under headings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Normal,
    /// With the columns that the server marks as less important.
    Wide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamespaceColumn {
    Shown,
    Hidden,
}

impl Table {
    /// From a `meta.k8s.io/v1` Table.
    pub(crate) fn from_server(table: &Value, width: Width, namespace: NamespaceColumn) -> Self {
        let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let columns = items(&table["columnDefinitions"]);
        let shown: Vec<usize> = (0..columns.len())
            .filter(|at| width == Width::Wide || columns[*at]["priority"].as_i64().unwrap_or(0) == 0)
            .collect();
        let mut header: Vec<String> =
            shown.iter().map(|at| columns[*at]["name"].as_str().unwrap_or_default().to_uppercase()).collect();
        let mut rows = Vec::new();
        for row in items(&table["rows"]) {
            let cells = items(&row["cells"]);
            let mut texts: Vec<String> = shown.iter().map(|at| cell(cells.get(*at))).collect();
            if namespace == NamespaceColumn::Shown {
                texts.insert(0, cell(row["object"]["metadata"].get("namespace")));
            }
            rows.push(texts);
        }
        if namespace == NamespaceColumn::Shown {
            header.insert(0, "NAMESPACE".to_owned());
        }
        Self { header, rows }
    }

    /// How wide each column must be.
    pub(crate) fn widths(&self) -> Vec<usize> {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let column = |at: usize| lines().filter_map(|line| line.get(at)).map(|text| text.chars().count()).max();
        (0..self.header.len()).map(|at| column(at).unwrap_or(0)).collect()
    }

    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        std::iter::once(&self.header).chain(&self.rows).map(|line| render_line(line, &widths)).collect()
    }
}

/// One line with its end; nothing trails the last column.
pub(crate) fn render_line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (text, width) in cells.iter().zip(widths) {
        line.push_str(text);
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(text.chars().count()) + GAP));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "<none>".to_owned(),
        // One object, one line.
        Some(Value::String(text)) => text.replace(['\n', '\r', '\t'], " "),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pods() -> Value {
        json!({
            "columnDefinitions": [
                {"name": "Name", "priority": 0}, {"name": "Restarts", "priority": 0}, {"name": "Node", "priority": 1},
            ],
            "rows": [
                {"cells": ["web-1", 0, "pi-1"], "object": {"metadata": {"namespace": "default"}}},
                {"cells": ["größer", 12, null], "object": {"metadata": {"namespace": "lab"}}},
            ],
        })
    }

    #[test]
    fn columns_are_aligned() {
        let check = |width, namespace, expected: &str| {
            assert_eq!(Table::from_server(&pods(), width, namespace).render(), expected);
        };
        let normal = "NAME     RESTARTS\nweb-1    0\ngrößer   12\n";
        check(Width::Normal, NamespaceColumn::Hidden, normal);
        let wide = "NAMESPACE   NAME     RESTARTS   NODE\n\
                    default     web-1    0          pi-1\n\
                    lab         größer   12         <none>\n";
        check(Width::Wide, NamespaceColumn::Shown, wide);
    }

    #[test]
    fn nonsense_from_the_server_is_an_empty_table() {
        let table = Table::from_server(&json!({"rows": [{"cells": 7}]}), Width::Normal, NamespaceColumn::Hidden);
        assert_eq!(table.render(), "\n\n");
    }
}
