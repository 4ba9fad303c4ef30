//! Lines of the table: what was reached, what stands beside it, what is aimed at.

use crate::measure::Spread;
use serde::Serialize;
use std::fmt::Write;

/// What a line must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Aim {
    /// At least this many times as fast as the other.
    Ratio(f64),
    /// Faster than the other.
    Faster,
    /// At most this many microseconds.
    Micros(f64),
    /// For information.
    None,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What was done.
    pub workload: String,
    /// Unit of `ours` and `other`.
    pub unit: Unit,
    /// ec-core.
    pub ours: Spread,
    /// What it is compared with.
    pub other_name: String,
    /// The other; `None` where nothing stands beside.
    pub other: Option<Spread>,
    /// How many times as fast ours is, round by round.
    pub ratio: Option<Spread>,
    /// What is aimed at.
    pub aim: Aim,
    /// Whether the median reaches it; `None` without an aim.
    pub met: Option<bool>,
}

/// What values count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// 10^9 bytes of data a second.
    #[serde(rename = "GB/s")]
    Gigabytes,
    /// Microseconds a call.
    #[serde(rename = "us")]
    Micros,
}

impl Line {
    /// A line whose aim is judged by the medians.
    pub fn new(
        workload: impl Into<String>,
        unit: Unit,
        ours: Spread,
        other: Option<(String, Spread, Spread)>,
        aim: Aim,
    ) -> Self {
        let (other_name, other, ratio) = match other {
            Some((name, other, ratio)) => (name, Some(other), Some(ratio)),
            None => (String::new(), None, None),
        };
        let met = match aim {
            Aim::Ratio(least) => ratio.map(|ratio| ratio.median >= least),
            Aim::Faster => ratio.map(|ratio| ratio.median > 1.0),
            Aim::Micros(most) => Some(ours.median <= most),
            Aim::None => None,
        };
        Self { workload: workload.into(), unit, ours, other_name, other, ratio, aim, met }
    }

    /// The heading over the lines.
    pub fn heading() -> String {
        format!(
            "{:<66} {:>21}  {:<24} {:>21}  {:>18}  {:>8}  met\n",
            "workload", "ninefold (min-max)", "beside", "(min-max)", "ratio (min-max)", "aim"
        )
    }

    /// The line as text.
    pub fn text(&self) -> String {
        let mut text = format!("{:<66} {:>21}", self.workload, self.value(self.ours));
        let (other, ratio) = match (self.other, self.ratio) {
            (Some(other), Some(ratio)) => {
                (self.value(other), format!("{:.2}x ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max))
            }
            _ => (String::new(), String::new()),
        };
        let aim = match self.aim {
            Aim::Ratio(least) => format!("{least:.2}x"),
            Aim::Faster => "> 1x".into(),
            Aim::Micros(most) => format!("{most} us"),
            Aim::None => "-".into(),
        };
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let _ = writeln!(text, "  {:<24} {other:>21}  {ratio:>18}  {aim:>8}  {met}", self.other_name);
        text
    }

    fn value(&self, spread: Spread) -> String {
        let Spread { median, min, max } = spread;
        match self.unit {
            Unit::Gigabytes => format!("{median:.1} ({min:.1}-{max:.1})"),
            Unit::Micros => format!("{median:.3} us ({min:.3}-{max:.3})"),
        }
    }
}

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this object.
    pub schema: u32,
    /// The processor's name.
    pub cpu: String,
    /// ec-core's kernel.
    pub kernel: &'static str,
    /// The core the run was pinned to.
    pub core: Option<usize>,
    /// Visits of each contestant per line.
    pub rounds: usize,
    /// Bytes of the cold working set.
    pub cold_bytes: usize,
    /// The table.
    pub lines: Vec<Line>,
    /// Rows that could not be measured here, and why.
    pub left_out: Vec<LeftOut>,
}

/// A row that could not be measured.
#[derive(Debug, Serialize)]
pub struct LeftOut {
    /// What would have been done.
    pub workload: String,
    /// Why it was not.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Spread {
        Spread { median, min: median / 2.0, max: median * 2.0 }
    }

    #[test]
    fn aims_are_judged_by_the_median() {
        let line = |aim| {
            let other = Some(("other".to_owned(), spread(10.0), spread(2.0)));
            Line::new("w", Unit::Gigabytes, spread(20.0), other, aim).met
        };
        assert_eq!(
            [Aim::Ratio(2.0), Aim::Ratio(2.1), Aim::Faster, Aim::None].map(line),
            [Some(true), Some(false), Some(true), None]
        );
        assert_eq!(line(Aim::Micros(20.0)), Some(true));
        assert_eq!(line(Aim::Micros(19.0)), Some(false));
        let alone = Line::new("w", Unit::Micros, spread(1.0), None, Aim::Ratio(1.0));
        assert_eq!(alone.met, None, "nothing stands beside it");
        assert!(alone.text().starts_with('w') && Line::heading().lines().count() == 1);
    }
}
