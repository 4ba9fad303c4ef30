//! `ninefold status`.

use super::cell::CellArguments;
use super::{Outcome, human_bytes, print, print_json};
use crate::client::Cell;
use crate::files::FilesError;
use crate::files::error::printable;
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Waits and names shown to people; all are in the JSON.
const SHOWN_MAX: usize = 12;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Show it again every second until Ctrl-C.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    #[command(flatten)]
    cell: CellArguments,
    /// Print everything as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let cell = self.cell.open()?;
        let mut status = cell.status()?;
        if self.json {
            print_json(&status)?;
            return Ok(outcome(&status));
        }
        print(&text(&status))?;
        if self.watch {
            status = watch(&cell, status)?;
        }
        Ok(outcome(&status))
    }
}

/// Shows it again and again, until it is to stop; gives the last one shown.
fn watch(cell: &Cell, mut status: Value) -> Result<Value, FilesError> {
    loop {
        match cell.sleep(WATCH_EVERY) {
            Err(FilesError::Interrupted) => return Ok(status),
            other => other?,
        }
        status = cell.status()?;
        print(&format!("\n{}", text(&status)))?;
    }
}

fn outcome(status: &Value) -> Outcome {
    // A report that does not say whether data is at risk does not say that it is not.
    match status.get("risk").and_then(Value::as_bool) {
        Some(false) => Outcome::Done,
        _ => Outcome::DamageFound,
    }
}

/// A number by its path; what is not there is 0.
fn number(status: &Value, path: &str) -> u64 {
    status.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn word(status: &Value, path: &str) -> String {
    match status.pointer(path) {
        Some(Value::String(text)) => printable(text),
        Some(Value::Null) | None => "?".into(),
        Some(other) => printable(&other.to_string()),
    }
}

fn text(status: &Value) -> String {
    let mut text = String::new();
    let verdict = match outcome(status) {
        Outcome::Done => "no data at risk",
        Outcome::DamageFound => "DATA AT RISK OR UNAVAILABLE",
    };
    let _ = writeln!(
        text,
        "cell        {}, incarnation {}: {verdict}",
        word(status, "/cell"),
        number(status, "/incarnation")
    );
    let counts = |of: &str, kinds: &[&str]| {
        let some = kinds.iter().map(|kind| (number(status, &format!("{of}/{kind}")), kind));
        let words: Vec<String> = some.map(|(count, kind)| format!("{count} {kind}")).collect();
        words.join(", ")
    };
    let _ = writeln!(
        text,
        "nodes       {}: {}",
        number(status, "/nodes/total"),
        counts("/nodes", &["healthy", "suspect", "lost"]) + &set_apart(status)
    );
    let _ = writeln!(
        text,
        "groups      {}: {}",
        number(status, "/pgs/total"),
        counts("/pgs", &["open", "closed", "frozen", "unready"])
    );
    let _ = writeln!(text, "extents     {}{}", number(status, "/extents"), margins(status));
    let full = status.get("full_redundancy").and_then(Value::as_bool) == Some(true);
    let _ = writeln!(text, "redundancy  {}", if full { "full, by recount".to_owned() } else { not_full(status) });
    text.push_str(&repairs(status));
    text.push_str(&drains(status));
    text.push_str(&disks(status));
    text.push_str(&refused(status));
    text.push_str(&audits(status));
    text.push_str(&list(status, "/waits", "waits"));
    text.push_str(&unavailable(status));
    text
}

/// Nodes that something is to be known of, where there are any.
fn set_apart(status: &Value) -> String {
    let kinds = ["down", "maintenance", "draining", "limping", "quarantined"];
    let some =
        kinds.iter().map(|kind| (number(status, &format!("/nodes/{kind}")), kind)).filter(|(count, _)| *count > 0);
    let words: Vec<String> = some.map(|(count, kind)| format!("{count} {kind}")).collect();
    if words.is_empty() { String::new() } else { format!("; of them {}", words.join(", ")) }
}

/// Drains, and what stands in their way.
fn drains(status: &Value) -> String {
    let drains = status.pointer("/drains").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let lines = drains.iter().take(SHOWN_MAX).map(|drain| format!("drain       {}\n", super::drain::progress(drain)));
    lines.collect()
}

fn margins(status: &Value) -> String {
    let Some(Value::Object(margins)) = status.get("extents_by_margin") else { return String::new() };
    let mut margins: Vec<(i64, u64)> = margins
        .iter()
        .filter_map(|(margin, count)| Some((margin.parse().ok()?, count.as_u64()?)))
        .filter(|(_, count)| *count > 0)
        .collect();
    margins.sort_unstable();
    let words: Vec<String> =
        margins.iter().map(|(margin, count)| format!("{count} survive {margin} more losses")).collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}

fn not_full(status: &Value) -> String {
    let (at_risk, unavailable) = (number(status, "/at_risk"), number(status, "/unavailable_extents"));
    format!("NOT full; {at_risk} extents survive no further loss, {unavailable} cannot be read now")
}

fn repairs(status: &Value) -> String {
    let mut text = String::new();
    let running = status.pointer("/repairs/running").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let seconds = |path: &str| status.pointer(path).and_then(Value::as_f64);
    let band = ["/repairs/outlook/eta_band_seconds/0", "/repairs/outlook/eta_band_seconds/1"].map(seconds);
    let eta = match (seconds("/repairs/eta_seconds"), band) {
        (Some(left), [Some(least), Some(most)]) => format!("; about {left:.0} s left ({least:.0} to {most:.0})"),
        (Some(left), _) => format!("; about {left:.0} s left"),
        (None, _) => String::new(),
    };
    let _ = writeln!(
        text,
        "repairs     {} running, {} waiting, {} done, {} failed; {} rebuilt{eta}",
        running.len(),
        number(status, "/repairs/waiting"),
        number(status, "/repairs/done"),
        number(status, "/repairs/failed"),
        human_bytes(number(status, "/repairs/rebuilt_bytes")),
    );
    if status.pointer("/repairs/outlook/limited_by").is_some_and(Value::is_string) {
        let left = human_bytes(number(status, "/repairs/outlook/left_bytes"));
        let _ = writeln!(
            text,
            "            {left} to be written; limited by {}",
            word(status, "/repairs/outlook/limited_by")
        );
    }
    for repair in running.iter().take(SHOWN_MAX) {
        let _ = writeln!(
            text,
            "            {}: lost {}, margin {}, {} of {}",
            word(repair, "/extent"),
            word(repair, "/lost"),
            word(repair, "/margin"),
            human_bytes(number(repair, "/done_bytes")),
            human_bytes(number(repair, "/total_bytes")),
        );
    }
    text
}

fn audits(status: &Value) -> String {
    let last = match status.pointer("/audits/last_ms_ago").and_then(Value::as_u64) {
        Some(ago) => format!("; the last {} s ago", ago / 1000),
        None => String::new(),
    };
    let count = |of: &str| number(status, &format!("/audits/{of}"));
    let mut text = format!(
        "audits      {} done: {} sound, {} incomplete, {} found wrong; {} to be tried again, {} put off{last}\n",
        count("audited"),
        count("sound"),
        count("incomplete"),
        count("found_wrong"),
        count("to_try_again"),
        count("put_off"),
    );
    let parked = status.pointer("/audits/parked_extents").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for found in parked.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "FOUND WRONG extent {}: {}", word(found, "/extent"), word(found, "/finding"));
    }
    let more = count("parked").saturating_sub(parked.len().min(SHOWN_MAX) as u64);
    if more > 0 {
        let _ = writeln!(text, "FOUND WRONG {more} more extents");
    }
    text
}

/// A list of texts, the first ones of it.
fn list(status: &Value, path: &str, label: &str) -> String {
    let items = status.pointer(path).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    for (at, item) in items.iter().take(SHOWN_MAX).enumerate() {
        let item = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
        let _ = writeln!(text, "{:<12}{}", if at == 0 { label } else { "" }, printable(&item));
    }
    if items.len() > SHOWN_MAX {
        let _ = writeln!(text, "{:<12}and {} more; --json has all", "", items.len() - SHOWN_MAX);
    }
    text
}

/// Disks that somebody should look at.
fn disks(status: &Value) -> String {
    let disks = status.pointer("/disks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    let who = |disk: &Value| format!("{} (disk {})", word(disk, "/domain"), word(disk, "/disk"));
    let limping = disks.iter().filter(|disk| disk.get("limping").is_some_and(Value::is_object));
    for (at, disk) in limping.take(SHOWN_MAX).enumerate() {
        let label = if at == 0 { "limping" } else { "" };
        let (own, peers) = (number(disk, "/limping/mean_us") / 1000, number(disk, "/limping/peers_us") / 1000);
        let kind = word(disk, "/limping/kind");
        let _ = writeln!(text, "{label:<12}{}: {own} ms to {kind}, its peers {peers} ms", who(disk));
    }
    let faulty = disks.iter().filter_map(|disk| match disk.get("faults") {
        Some(Value::Object(faults)) if !faults.is_empty() => Some((disk, faults)),
        _ => None,
    });
    for (at, (disk, faults)) in faulty.take(SHOWN_MAX).enumerate() {
        let label = if at == 0 { "faults" } else { "" };
        let words: Vec<String> = faults.iter().map(|(kind, count)| format!("{count} {}", printable(kind))).collect();
        let _ = writeln!(text, "{label:<12}{}: {}", who(disk), words.join(", "));
    }
    text
}

/// Nodes that ask to be taken and are not.
fn refused(status: &Value) -> String {
    let nodes = status.pointer("/refused_nodes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    for (at, node) in nodes.iter().take(SHOWN_MAX).enumerate() {
        let label = if at == 0 { "refused" } else { "" };
        let _ = writeln!(text, "{label:<12}node at {}: {}", word(node, "/address"), word(node, "/reason"));
    }
    text
}

/// Names of files that cannot be read whole now.
fn unavailable(status: &Value) -> String {
    let total = number(status, "/unavailable_names/total");
    if total == 0 {
        return String::new();
    }
    let mut text = format!("unavailable {total} names\n");
    let names = status.pointer("/unavailable_names/names").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for name in names.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "            {}", super::cell::as_line(name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_report_that_says_so_is_without_risk() {
        assert_eq!(outcome(&json!({"risk": false})), Outcome::Done);
        for status in [json!({"risk": true}), json!({}), json!({"risk": "no"}), json!(null)] {
            assert_eq!(outcome(&status), Outcome::DamageFound, "{status}");
        }
    }

    #[test]
    fn a_report_is_told_with_its_numbers() {
        let status = json!({
            "cell": "c1", "incarnation": 2, "risk": true, "full_redundancy": false, "extents": 12, "at_risk": 3,
            "unavailable_extents": 1, "nodes": {"total": 20, "healthy": 18, "suspect": 1, "lost": 1, "down": 1, "draining": 2},
            "drains": [{"disk": "d3", "domain": "a/b/c/n3", "state": "draining", "groups_moved": 1, "groups_left": 2, "fragments_left": 3, "blocked": []}],
            "extents_by_margin": {"10": 0, "4": 9, "0": 3},
            "repairs": {"running": [{"extent": "e1", "lost": [1, 2], "margin": 2, "done_bytes": 1024, "total_bytes": 2048}],
                        "waiting": 4, "done": 5, "failed": 0, "rebuilt_bytes": 1048576, "eta_seconds": 7,
                        "outlook": {"left_bytes": 2048, "eta_band_seconds": [6.2, 9.0], "limited_by": "repairs_max: 4\nat a time"}},
            "audits": {"audited": 7, "sound": 4, "incomplete": 1, "found_wrong": 2, "to_try_again": 1, "put_off": 8, "last_ms_ago": 61_500,
                       "parked": 3, "parked_extents": [{"extent": "e2", "finding": "parity 4\nis wrong"}]},
            "waits": ["pg 1: waits for\ndisk d"],
            "disks": [{"disk": "d1", "domain": "a/b/c/n1", "faults": {}, "limping": null},
                      {"disk": "d2", "domain": "a/b/c/n2", "faults": {"read_error": 3, "slow": 1},
                       "limping": {"kind": "journal", "mean_us": 812_000, "peers_us": 9_400, "since_ms": 5}}],
            "refused_nodes": [{"disk": "d1", "address": "h:1", "reason": "a copy\nof d1"}],
            "unavailable_names": {"total": 2, "names": [{"name": "a\nb", "why": "waiting"}, "c"]},
        });
        let text = text(&status);
        for part in [
            "cell        c1, incarnation 2: DATA AT RISK",
            "nodes       20: 18 healthy, 1 suspect, 1 lost; of them 1 down, 2 draining\n",
            "drain       a/b/c/n3: draining, 1 placement groups left it, 2 still have it with 3 fragments",
            "extents     12: 3 survive 0 more losses, 9 survive 4 more losses",
            "redundancy  NOT full; 3 extents survive no further loss, 1 cannot be read now",
            "repairs     1 running, 4 waiting, 5 done, 0 failed; 1.00 MiB rebuilt; about 7 s left (6 to 9)\n            2.00 KiB to be written; limited by repairs_max: 4\\nat a time\n",
            "e1: lost [1,2], margin 2, 1.00 KiB of 2.00 KiB",
            "audits      7 done: 4 sound, 1 incomplete, 2 found wrong; 1 to be tried again, 8 put off; the last 61 s ago",
            "FOUND WRONG extent e2: parity 4\\nis wrong\nFOUND WRONG 2 more extents\n",
            "waits       pg 1: waits for\\ndisk d",
            "limping     a/b/c/n2 (disk d2): 812 ms to journal, its peers 9 ms",
            "faults      a/b/c/n2 (disk d2): 3 read_error, 1 slow",
            "refused     node at h:1: a copy\\nof d1",
            "unavailable 2 names",
            "name a\\nb, why waiting",
            "            c\n",
        ] {
            assert!(text.contains(part), "{part:?} in:\n{text}");
        }
    }
}
