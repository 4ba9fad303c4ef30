//! What all commands share that speak to a cell.

use crate::client::Cell;
use crate::files::FilesError;
use std::fmt::Write;
use std::time::Duration;

/// Says which cell.
const CELL_VARIABLE: &str = "NINEFOLD_CELL";

/// The cell to speak to.
#[derive(Debug, clap::Args)]
pub struct CellArguments {
    /// Where the cell's daemon listens, as host:port. Without it the environment variable NINEFOLD_CELL says it.
    #[arg(long, value_name = "ADDR")]
    cell: Option<String>,
    /// How long to wait for a daemon that does not answer, and for bytes that cannot be read now.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
}

impl CellArguments {
    /// Opens it, for a command that Ctrl-C ends in good order.
    pub(super) fn open(&self) -> Result<Cell, FilesError> {
        let from_environment = || std::env::var(CELL_VARIABLE).ok();
        let address =
            self.cell.clone().or_else(from_environment).ok_or_else(|| {
                FilesError::Usage(format!("which cell? Say --cell HOST:PORT, or set {CELL_VARIABLE}"))
            })?;
        let port = address.rsplit_once(':').map(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>()));
        if !matches!(port, Some(Some(Ok(_)))) {
            return Err(FilesError::Usage(format!("{address:?}: a cell is named by host:port of its daemon")));
        }
        Cell::open(&address, Duration::from_secs(self.timeout.into()), super::stop_flag()?)
    }
}

/// A JSON value as indented text, for reports whose every field matters and whose order does not.
pub(super) fn as_text(value: &serde_json::Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value, 0);
    text
}

fn write_value(text: &mut String, value: &serde_json::Value, depth: usize) {
    use serde_json::Value;
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (format!("{}:", plain(key)), value)).collect(),
        Value::Array(items) => items.iter().map(|item| ("-".to_owned(), item)).collect(),
        scalar => {
            let _ = writeln!(text, "{}", scalar_text(scalar));
            return;
        }
    };
    for (label, value) in entries {
        let _ = write!(text, "{:indent$}{label}", "", indent = 2 * depth);
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                write_value(text, value, depth + 1);
            }
            Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
                text.push('\n');
                write_value(text, value, depth + 1);
            }
            Value::Array(items) if items.is_empty() => text.push_str(" none\n"),
            Value::Object(_) => text.push_str(" none\n"),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(scalar_text).collect();
                let _ = writeln!(text, " {}", items.join(", "));
            }
            scalar => {
                let _ = writeln!(text, " {}", scalar_text(scalar));
            }
        }
    }
}

/// A JSON value on one line.
pub(super) fn as_line(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(fields) => {
            let words: Vec<String> =
                fields.iter().map(|(key, value)| format!("{} {}", plain(key), as_line(value))).collect();
            words.join(", ")
        }
        serde_json::Value::Array(items) => items.iter().map(as_line).collect::<Vec<_>>().join(" "),
        scalar => scalar_text(scalar),
    }
}

fn scalar_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => plain(text),
        serde_json::Value::Null => "-".into(),
        other => other.to_string(),
    }
}

fn plain(text: &str) -> String {
    crate::files::error::printable(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn any_report_becomes_text_without_control_characters() {
        let report = json!({
            "pg": 7, "state": "closed\u{1b}[2J", "lost": [1, 2], "waits": [], "note": null,
            "slots": [{"disk": "d1", "has": true}, {"disk": "d2", "has": false}],
            "job": {"done": 5},
        });
        let text = as_text(&report);
        let expected = "job:\n  done: 5\nlost: 1, 2\nnote: -\npg: 7\nslots:\n  -\n    disk: d1\n    has: true\n  -\n    disk: d2\n    has: false\nstate: closed\\u{1b}[2J\nwaits: none\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_cell_is_named_by_host_and_port() {
        let open = |cell: &str| CellArguments { cell: Some(cell.into()), timeout: 1 }.open();
        assert!(open("127.0.0.1:7000").is_ok() && open("[::1]:7000").is_ok() && open("host.example:1").is_ok());
        for cell in ["", "host", ":7000", "host:", "host:70000", "host:http"] {
            assert!(matches!(open(cell), Err(FilesError::Usage(_))), "{cell}");
        }
    }
}
