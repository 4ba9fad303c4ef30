//! `ninefold events`.

use super::cell::CellArguments;
use super::{Outcome, print, print_json};
use crate::files::FilesError;
use crate::files::error::printable;
use serde_json::{Value, json};
use std::time::Duration;

/// How often to look for new events.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub struct Events {
    /// Only those after the event of this number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// Go on with what happens from now on, until Ctrl-C.
    #[arg(long, conflicts_with = "json")]
    follow: bool,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the events as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Events {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let cell = self.cell.open()?;
        let mut after = self.after;
        let mut all = Vec::new();
        loop {
            let mut page = cell.events(after)?;
            let events = page.get_mut("events").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            let newest = page.get("newest").and_then(Value::as_u64).unwrap_or(0);
            let last = events.last().map_or(after, |event| number(event).max(after));
            let more = last > after && last < newest;
            after = last;
            if self.json {
                all.extend(events);
            } else {
                print(&events.iter().map(line).collect::<String>())?;
            }
            if more {
                continue;
            }
            if !self.follow {
                break;
            }
            match cell.sleep(FOLLOW_EVERY) {
                Err(FilesError::Interrupted) => break,
                other => other?,
            }
        }
        if self.json {
            print_json(&json!({ "schema": 1, "events": all }))?;
        }
        Ok(Outcome::Done)
    }
}

fn number(event: &Value) -> u64 {
    event.get("number").and_then(Value::as_u64).unwrap_or(0)
}

fn line(event: &Value) -> String {
    let text = |key: &str| printable(event.get(key).and_then(Value::as_str).unwrap_or(""));
    let at_ms = event.get("at_ms").and_then(Value::as_u64).unwrap_or(0);
    format!("{:>6}  {}  {:<20}  {}\n", number(event), utc(at_ms), text("kind"), text("text"))
}

/// Milliseconds since 1970 as date and time of day, UTC.
fn utc(at_ms: u64) -> String {
    let (days, ms) = (at_ms / 86_400_000, at_ms % 86_400_000);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{:04}-{month:02}-{day_of_month:02} {:02}:{:02}:{:02}.{:03}",
        year + era * 400 + carry,
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1_000 % 60,
        ms % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000");
        // date -u -d @951782399; -d @951782400; -d @1795392000
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59.999");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000");
        assert_eq!(utc(1_795_392_000_001), "2026-11-23 00:00:00.001");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let event = json!({"number": 3, "at_ms": 1000, "kind": "disk_lost", "text": "a\nb"});
        assert_eq!(line(&event), "     3  1970-01-01 00:00:01.000  disk_lost             a\\nb\n");
        assert_eq!(line(&json!({})).lines().count(), 1);
    }
}
