//! `ninefold maintenance NODE`, and `ninefold pause` and `resume`.

use super::cell::{CellArguments, as_text};
use super::{Outcome, note, print, print_json};
use crate::files::FilesError;
use std::time::Duration;

/// Arguments of `maintenance`.
#[derive(Debug, clap::Args)]
pub struct Maintenance {
    /// A node, by its domain or the last part of it, or a disk's id.
    node: String,
    /// How long it may be away without being taken for lost, from now on: 90s, 15m, 2h, 1d.
    #[arg(long = "for", value_name = "SPAN", required_unless_present = "end", value_parser = span_of)]
    span: Option<Duration>,
    /// End it now.
    #[arg(long, conflicts_with = "span")]
    end: bool,
    #[command(flatten)]
    cell: CellArguments,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// A span as people write it: a whole number and one of s, m, h, d.
fn span_of(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span of time; say 90s, 15m, 2h or 1d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let digits = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let count: u64 = digits.and_then(|digits| digits.parse().ok()).filter(|count| *count > 0).ok_or_else(wrong)?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

impl Maintenance {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let cell = self.cell.open()?;
        if self.span.is_some() {
            let answer = cell.can_stop(std::slice::from_ref(&self.node))?;
            if answer["can_stop"] != true {
                note("some data cannot be read without that node, or nobody knows: see `ninefold can-stop`");
            }
        }
        let report = cell.maintain(&self.node, self.span)?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&as_text(&report))?;
        }
        Ok(Outcome::Done)
    }
}

/// Arguments of `pause` and of `resume`.
#[derive(Debug, clap::Args)]
pub struct Pause {
    #[command(flatten)]
    cell: CellArguments,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Pause {
    pub(super) fn run(self, paused: bool) -> Result<Outcome, FilesError> {
        self.cell.open()?.pause_repairs(paused)?;
        if self.json {
            print_json(&serde_json::json!({ "schema": 1, "paused": paused }))?;
        } else if paused {
            print(
                "repairs wait, but those of extents that survive at most one further loss; `ninefold resume` ends it\n",
            )?;
        } else {
            print("repairs go on\n")?;
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_whole_numbers_with_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("1d", 86_400)] {
            assert_eq!(span_of(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "s", "2", "0h", "-1h", "+1h", "1.5h", "2 h", "2w", "99999999999999999999d", "999999999999999999d", "é"]
        {
            assert!(span_of(text).is_err(), "{text}");
        }
    }
}
