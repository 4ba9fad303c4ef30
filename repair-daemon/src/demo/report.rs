//! What the demo found, as a table and as JSON.

use serde::Serialize;
use std::fmt::Write;

/// Version of the JSON object.
const SCHEMA: u32 = 1;

/// The result. Bytes of the repair are payload of fragments, without headers, scrub and read-back.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    schema: u32,
    /// Files protected.
    pub files: u64,
    /// Entries that are no regular files.
    pub skipped: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Extents they became.
    pub extents: u64,
    /// The code.
    pub code: String,
    /// Nodes at the start.
    pub nodes: u64,
    /// Nodes killed.
    pub killed: u64,
    /// From the first kill until the daemon had declared every killed node lost and found the flipped byte.
    pub detected_seconds: f64,
    /// Payload of published fragments.
    pub rebuilt_bytes: u64,
    /// Payload read to rebuild them.
    pub read_bytes: u64,
    /// The least the code must read for the losses of each repair.
    pub minimum_read_bytes: u64,
    /// Payload written.
    pub written_bytes: u64,
    /// From the start of the first repair to the end of the last one.
    pub rebuild_seconds: f64,
    /// Whether an independent recount after the rebuild found every fragment healthy and in a rack of its own.
    pub full_redundancy: bool,
    /// Files of which a byte came back wrong or not at all.
    pub mismatches: u64,
}

impl Report {
    /// A report of which only the beginning is known.
    pub(super) fn new(code: String, nodes: usize) -> Self {
        Self {
            schema: SCHEMA,
            files: 0,
            skipped: 0,
            bytes: 0,
            extents: 0,
            code,
            nodes: nodes as u64,
            killed: 0,
            detected_seconds: 0.0,
            rebuilt_bytes: 0,
            read_bytes: 0,
            minimum_read_bytes: 0,
            written_bytes: 0,
            rebuild_seconds: 0.0,
            full_redundancy: false,
            mismatches: 0,
        }
    }

    /// Whether everything is as it was before the loss.
    pub fn is_good(&self) -> bool {
        self.full_redundancy && self.mismatches == 0
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let rows: [(&str, String); 14] = [
            ("files", count(self.files)),
            ("skipped", count(self.skipped)),
            ("bytes", format!("{} ({})", count(self.bytes), binary(self.bytes))),
            ("extents", count(self.extents)),
            ("code", self.code.clone()),
            ("nodes", count(self.nodes)),
            ("killed", count(self.killed)),
            ("detected in", format!("{:.3} s", self.detected_seconds)),
            ("rebuilt", format!("{} ({})", count(self.rebuilt_bytes), binary(self.rebuilt_bytes))),
            (
                "read per byte",
                match (ratio(self.read_bytes, self.rebuilt_bytes), ratio(self.minimum_read_bytes, self.rebuilt_bytes)) {
                    (Some(read), Some(minimum)) => format!("{read:.3} (least this code needs: {minimum:.3})"),
                    _ => "nothing was rebuilt".into(),
                },
            ),
            ("rebuilt in", format!("{:.3} s", self.rebuild_seconds)),
            ("throughput", throughput(self.rebuilt_bytes, self.rebuild_seconds)),
            ("redundancy", if self.full_redundancy { "full".into() } else { "NOT FULL".into() }),
            ("mismatches", count(self.mismatches)),
        ];
        let mut table = String::new();
        for (label, value) in rows {
            let _ = writeln!(table, "  {label:<14} {value}");
        }
        table
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn throughput(bytes: u64, seconds: f64) -> String {
    if bytes == 0 || seconds <= 0.0 {
        return "-".into();
    }
    format!("{}/s rebuilt", binary((bytes as f64 / seconds) as u64))
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Bytes in a form for people.
pub(super) fn binary(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_floats_in_json_also_when_they_are_whole() {
        let report = Report { detected_seconds: 1.0, ..Report::new("rs:4+2".into(), 6) };
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""detected_seconds":1.0"#) && json.contains(r#""rebuild_seconds":0.0"#), "{json}");
    }

    #[test]
    fn only_full_redundancy_and_no_mismatch_is_good() {
        let report =
            |full_redundancy, mismatches| Report { full_redundancy, mismatches, ..Report::new(String::new(), 3) };
        assert!(report(true, 0).is_good());
        assert!(!report(false, 0).is_good() && !report(true, 1).is_good());
    }

    #[test]
    fn a_table_without_a_rebuild_divides_by_nothing() {
        let table = Report::new("rs:4+2".into(), 6).table();
        assert!(table.contains("nothing was rebuilt") && table.contains("NOT FULL"), "{table}");
    }
}
