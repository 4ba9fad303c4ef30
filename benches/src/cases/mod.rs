//! The rows of the table: each a workload, those who do it, and what is aimed at.

mod convert;
mod encode;
mod fixed;
mod integrity;
mod rebuild;
mod threads;
mod update;

use crate::measure::{Budget, Series};
use crate::pool::{Pool, Stride};
use crate::report::{Aim, Line, Unit};
use crate::rivals::{self, NINEFOLD, Shape};
use crate::stream::XorStream;

/// What all rows share.
#[derive(Debug)]
pub struct Bench {
    /// The memory of all stripes.
    pub pool: Pool,
    /// For work that stays in cache.
    pub hot: Budget,
    /// For work that does not.
    pub cold: Budget,
    /// Cores the process may use; the first is the one it is pinned to.
    pub cores: Vec<usize>,
}

impl Bench {
    fn budget(&self, place: Place) -> Budget {
        match place {
            Place::Hot => self.hot,
            Place::Cold(_) => self.cold,
        }
    }
}

/// A row, or several that come from one measurement.
pub struct Case {
    /// What is done.
    pub name: String,
    /// Measures it.
    pub run: Box<Measurement>,
}

/// Measures and gives lines, or says in words why it cannot be measured here.
type Measurement = dyn Fn(&mut Bench) -> Result<Vec<Line>, String>;

impl Case {
    fn new(name: String, run: impl Fn(&str, &mut Bench) -> Result<Vec<Line>, String> + 'static) -> Self {
        let title = name.clone();
        Self { name, run: Box::new(move |bench| run(&title, bench)) }
    }
}

/// Where the bytes are when the work begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One stripe again and again, at power-of-two stride: in the smallest cache that holds it.
    Hot,
    /// Round robin over the whole pool.
    Cold(Stride),
}

impl Place {
    /// The stride, and how many stripes there may be.
    pub fn layout(self) -> (Stride, usize) {
        match self {
            Self::Hot => (Stride::PowerOfTwo, 1),
            Self::Cold(stride) => (stride, usize::MAX),
        }
    }

    /// How it is called in a report.
    pub fn name(self) -> String {
        match self {
            Self::Hot => "hot".into(),
            Self::Cold(stride) => format!("cold, {}", stride.name()),
        }
    }
}

/// Whom ec-core is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// One contestant.
    Named(&'static str),
    /// The rival that was fastest.
    BestRival,
}

/// Every row of the table.
pub fn all() -> Vec<Case> {
    [
        encode::cases(),
        rebuild::cases(),
        fixed::cases(),
        integrity::cases(),
        convert::cases(),
        update::cases(),
        threads::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Checks every rival once with every code that is measured.
///
/// # Errors
/// What is wrong with which.
pub fn check_rivals() -> Result<usize, String> {
    let mut checked = 0;
    for library in rivals::rivals() {
        for (k, m) in [(4, 2), (6, 3), (10, 4), (12, 4), (17, 3), (20, 4), (80, 20), (100, 30), (1000, 200)] {
            rivals::check(&library, Shape { k, m, shard_bytes: 4096 + 64 })?;
            checked += 1;
        }
    }
    Ok(checked)
}

/// A shard length for people.
pub fn shard_name(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn rival_names() -> Vec<&'static str> {
    rivals::rivals().iter().map(|library| library.name).collect()
}

/// Throughput lines of one measurement.
fn lines(title: &str, series: &[Series], bytes: usize, wanted: &[(Beside, Aim)]) -> Vec<Line> {
    let Some(ours) = series.iter().find(|it| it.name == NINEFOLD) else { return Vec::new() };
    let rivals = rival_names();
    let line = |&(beside, aim): &(Beside, Aim)| {
        let other = match beside {
            Beside::Named(name) => series.iter().find(|it| it.name == name),
            Beside::BestRival => series
                .iter()
                .filter(|it| rivals.contains(&it.name))
                .min_by(|a, b| ours.ratio(a).median.total_cmp(&ours.ratio(b).median)),
        };
        let label = |name: &str| if beside == Beside::BestRival { format!("best: {name}") } else { name.to_owned() };
        let other = other.map(|it| (label(it.name), it.rate(bytes), ours.ratio(it)));
        Line::new(title, Unit::Gigabytes, ours.rate(bytes), other, aim)
    };
    // Without AVX-512 there is no stream to compare with.
    let measured = |beside| XorStream::detect().is_some() || beside != Beside::Named(XorStream::NAME);
    wanted.iter().filter(|(beside, _)| measured(*beside)).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rival_is_the_one_that_leaves_the_smallest_ratio() {
        let series = |name, seconds: f64| Series { name, seconds: vec![seconds; 3] };
        let measured = [
            series(NINEFOLD, 1.0),
            series(rivals::RUSTY_ERASURE, 2.0),
            series(rivals::REED_SOLOMON_SIMD, 1.5),
            series("own", 0.5),
        ];
        let lines = lines(
            "w",
            &measured,
            1 << 30,
            &[(Beside::BestRival, Aim::Ratio(1.5)), (Beside::Named("own"), Aim::Faster)],
        );
        assert_eq!(lines[0].other_name, "best: reed-solomon-simd");
        assert_eq!((lines[0].met, lines[1].met), (Some(true), Some(false)));
    }

    #[test]
    fn names_of_rows_are_distinct() {
        let mut names: Vec<String> = all().into_iter().map(|case| case.name).collect();
        names.sort();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
