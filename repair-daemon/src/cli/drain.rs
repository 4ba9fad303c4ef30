//! `ninefold drain NODE`.

use super::cell::{CellArguments, as_text};
use super::{Outcome, note, print, print_json};
use crate::client::Cell;
use crate::files::FilesError;
use crate::files::error::printable;
use serde_json::Value;
use std::time::Duration;

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `drain`.
#[derive(Debug, clap::Args)]
pub struct Drain {
    /// A node, by its domain or the last part of it, or a disk's id.
    node: String,
    /// Drain it no more. A disk that has left the cell may come back then.
    #[arg(long, conflicts_with_all = ["decommission", "wait"])]
    cancel: bool,
    /// The disk leaves the cell when it is drained.
    #[arg(long)]
    decommission: bool,
    /// Wait until it is drained, and say how far it is on standard error.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Drain {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let cell = self.cell.open()?;
        let mut report =
            if self.cancel { cell.cancel_drain(&self.node)? } else { cell.drain(&self.node, self.decommission)? };
        if self.wait {
            report = wait(&cell, report)?;
        }
        if self.json {
            print_json(&report)?;
        } else {
            print(&as_text(&report))?;
        }
        Ok(Outcome::Done)
    }
}

/// Looks until nothing is on the disk any more.
fn wait(cell: &Cell, mut report: Value) -> Result<Value, FilesError> {
    let disk = report["disk"].as_str().unwrap_or_default().to_owned();
    let mut said = String::new();
    loop {
        if report["drain"]["state"].as_str().is_some_and(|state| state != "draining") {
            return Ok(report);
        }
        let now = progress(&report["drain"]);
        if now != said {
            note(&now);
            said = now;
        }
        cell.sleep(LOOK_EVERY)?;
        let status = cell.status()?;
        let drains = status["drains"].as_array().map_or(&[][..], Vec::as_slice);
        match drains.iter().find(|drain| drain["disk"] == disk.as_str()) {
            Some(drain) => report["drain"] = drain.clone(),
            None => return Err(FilesError::Cell("the drain was given up by somebody else".into())),
        }
    }
}

/// How far a drain is, in one line and one for each group in its way.
pub(super) fn progress(drain: &Value) -> String {
    let who = drain["domain"].as_str().or(drain["disk"].as_str()).unwrap_or("?");
    let mut text = format!(
        "{}: {}, {} placement groups left it, {} still have it with {} fragments to be moved",
        printable(who),
        printable(drain["state"].as_str().unwrap_or("?")),
        drain["groups_moved"],
        drain["groups_left"],
        drain["fragments_left"]
    );
    for block in drain["blocked"].as_array().map_or(&[][..], Vec::as_slice) {
        let reason = printable(block["reason"].as_str().unwrap_or("?"));
        text.push_str(&format!("\n  placement group {} stands in the way: {reason}", block["pg"]));
        for extent in block["extents"].as_array().map_or(&[][..], Vec::as_slice) {
            text.push_str(&format!("\n    extent {}", printable(extent.as_str().unwrap_or("?"))));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_stands_in_the_way_is_named() {
        let drain = json!({"disk": "d", "domain": "a/b/c/n\n1", "state": "draining", "groups_moved": 2, "groups_left": 1,
            "fragments_left": 7, "blocked": [{"pg": 9, "reason": "no\nplace", "extents": ["e1"]}]});
        let text = progress(&drain);
        assert!(
            text.starts_with("a/b/c/n\\n1: draining, 2 placement groups left it, 1 still have it with 7 fragments"),
            "{text}"
        );
        assert!(text.ends_with("placement group 9 stands in the way: no\\nplace\n    extent e1"), "{text}");
    }
}
