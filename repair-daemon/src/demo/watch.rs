//! Follows what the daemon says of itself: its events, one by one, and its status.

use crate::files::FilesError;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// One event of the daemon's log.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    number: u64,
    at_ms: u64,
    kind: String,
    text: String,
    fields: BTreeMap<String, String>,
}

/// A page of the log.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    events: Vec<Event>,
    newest: u64,
}

/// What the events said so far.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    seen: u64,
    lost_disks: BTreeSet<String>,
    damaged: BTreeSet<(String, String)>,
    first_repair_ms: Option<u64>,
    last_repair_ms: Option<u64>,
    repaired: u64,
}

impl Follower {
    /// Number of the last event seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes a page; gives what of it a person wants to read. Whether more follows is the second.
    pub fn take(&mut self, page: Page) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        for event in page.events {
            self.seen = self.seen.max(event.number);
            let field = |key: &str| event.fields.get(key).cloned().unwrap_or_default();
            let interesting = match event.kind.as_str() {
                "disk_lost" => self.lost_disks.insert(field("disk")),
                "fragment_damaged" => self.damaged.insert((field("extent"), field("index"))),
                "repair_started" => {
                    self.first_repair_ms.get_or_insert(event.at_ms);
                    true
                }
                "repair_done" => {
                    self.last_repair_ms = Some(event.at_ms);
                    self.repaired += 1;
                    true
                }
                "fragment_healed" | "repair_failed" | "redundancy_full" | "data_unavailable" => true,
                _ => false,
            };
            if interesting {
                lines.push(event.text);
            }
        }
        (lines, self.seen < page.newest)
    }

    /// Disks that were declared lost.
    pub fn lost_disks(&self) -> usize {
        self.lost_disks.len()
    }

    /// Whether this fragment was found damaged.
    pub fn found_damaged(&self, extent: &str, index: &str) -> bool {
        self.damaged.contains(&(extent.to_owned(), index.to_owned()))
    }

    /// From the start of the first repair to the end of the last one.
    pub fn rebuild_seconds(&self) -> f64 {
        match (self.first_repair_ms, self.last_repair_ms) {
            (Some(first), Some(last)) => last.saturating_sub(first) as f64 / 1000.0,
            _ => 0.0,
        }
    }

    /// Repairs that ended well.
    pub fn repaired(&self) -> u64 {
        self.repaired
    }
}

/// What the demo needs of the daemon's status.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Status {
    /// How many nodes are in which state.
    pub nodes: NodeCounts,
    /// Extents on file.
    pub extents: u64,
    /// Whether nothing is missing, by the daemon's own recounts.
    pub full_redundancy: bool,
    /// Its repairs.
    pub repairs: Repairs,
}

/// Nodes by state.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeCounts {
    /// Alive.
    pub healthy: u64,
}

/// Repairs of one life of the daemon. Bytes are payload of fragments.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Repairs {
    /// Extents that wait for a repair.
    pub waiting: u64,
    /// Extents in repair.
    pub running: Vec<serde_json::Value>,
    /// Of published fragments.
    pub rebuilt_bytes: u64,
    /// Read for them.
    pub read_bytes: u64,
    /// The least the code must read for them.
    pub minimum_read_bytes: u64,
    /// Written for them.
    pub written_bytes: u64,
    /// Until all is done, at the rate of late; none where that is not known.
    pub eta_seconds: Option<f64>,
}

/// Reads an answer of the daemon.
///
/// # Errors
/// [`FilesError::Internal`]: daemon and demo are one program.
pub fn parse<T: for<'a> Deserialize<'a>>(answer: serde_json::Value) -> Result<T, FilesError> {
    serde_json::from_value(answer).map_err(FilesError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(number: u64, at_ms: u64, kind: &str, fields: serde_json::Value) -> serde_json::Value {
        json!({"number": number, "at_ms": at_ms, "kind": kind, "text": format!("{kind} {number}"), "fields": fields})
    }

    #[test]
    fn what_was_lost_found_and_mended_is_read_from_the_events() {
        let mut follower = Follower::default();
        let page = json!({"events": [
            event(1, 10, "disk_registered", json!({"disk": "a"})),
            event(2, 1000, "disk_lost", json!({"disk": "a"})),
            event(3, 1001, "disk_lost", json!({"disk": "b"})),
            event(4, 1002, "fragment_damaged", json!({"extent": "e", "index": "7"})),
            event(5, 1100, "repair_started", json!({"extent": "e"})),
            event(6, 1500, "repair_started", json!({"extent": "f"})),
            event(7, 2600, "repair_done", json!({})),
        ], "oldest": 1, "newest": 9});
        let (lines, more) = follower.take(parse(page).unwrap());
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(more);
        assert_eq!((follower.seen(), follower.lost_disks(), follower.repaired()), (7, 2, 1));
        assert!(follower.found_damaged("e", "7") && !follower.found_damaged("e", "8"));
        assert!((follower.rebuild_seconds() - 1.5).abs() < 1e-9);
        let page = json!({"events": [event(9, 4100, "repair_done", json!({}))], "oldest": 1, "newest": 9});
        assert!(!follower.take(parse(page).unwrap()).1);
        assert!((follower.rebuild_seconds() - 3.0).abs() < 1e-9);
        assert!(Follower::default().rebuild_seconds().abs() < 1e-9);
    }
}
