//! What is told of repairs to come: when all will be done and what holds it up, and why an extent's turn is when it is.

use super::Coordinator;
use super::agenda::Wait;
use super::backoff::{FAILED_ALIKE_MAX, PARKED_FOR};
use super::waits::counted;
use crate::forecast::Expected;
use crate::id::ExtentKey;
use crate::queue::RAISED_EVERY;
use serde::Serialize;

/// Budgets named in one report.
const SHOWN_MAX: usize = 8;

/// What decides when an extent is rebuilt, in this order; the least first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct TurnReport {
    /// Whether it has lost nothing, and is only to stand elsewhere: then it comes after all that has.
    lost_nothing: bool,
    /// Further losses of fault domains that it surely survives, less one for each six hours it has waited for its turn; not for that
    /// less than 2.
    class: usize,
    /// Those losses themselves.
    margin_in_domains: usize,
    /// It has lacked something for so long.
    at_risk_ms: u64,
    /// The same without what it was let wait. The longest first, in steps of ten seconds.
    waits_ms: u64,
    /// Reads since then that had to decode it, or waited. The most first.
    blocked_reads: u32,
    /// Bytes to be written; a guess where the extent's length is not known to this life of the daemon. The fewest first.
    bytes: u64,
}

/// What a repair takes from a budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ChargeReport {
    of: String,
    bytes: u64,
}

/// Until the last repair ends that can be done as things are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OutlookReport {
    /// Bytes still to be written; what is put off as lazy, or cannot be given to any disk, is not in it.
    pub left_bytes: u64,
    /// What was let through and moved in a second, over the last ten minutes or since repairs began.
    pub bytes_per_second: Option<f64>,
    /// The time left at the fastest and at the slowest pace that this speaks for.
    pub eta_band_seconds: Option<(f64, f64)>,
    /// What sets the pace; none where nothing is to be done.
    pub limited_by: Option<String>,
}

impl Coordinator {
    pub(super) fn outlook(&self) -> (OutlookReport, Option<f64>) {
        let to_move = |running: &super::repairs::Running| running.thought_bytes.saturating_sub(running.written_bytes);
        let left_bytes = self.agenda.bytes() + self.repairs.running.values().map(to_move).sum::<u64>();
        let campaign = self.repairs.campaign.as_ref();
        let expected: Option<Expected> = campaign.and_then(|campaign| campaign.forecast.expect(self.now, left_bytes));
        let report = OutlookReport {
            left_bytes,
            bytes_per_second: expected.map(|expected| expected.bytes_per_second),
            eta_band_seconds: expected.map(|expected| expected.band_seconds),
            limited_by: self.limited_by(),
        };
        (report, expected.map(|expected| expected.seconds))
    }

    fn limited_by(&self) -> Option<String> {
        let (running, ready) = (self.repairs.running.len(), self.agenda.ready_count());
        let put_off = self.agenda.waiting_for(&Wait::PutOff);
        if running >= self.config.repairs_max && ready > 0 {
            return Some(format!("repairs_max: {running} at a time"));
        }
        if let Some((resource, jobs)) = self.agenda.shortages().first() {
            return Some(format!("the budget of {resource}: {} for it", waiting(*jobs)));
        }
        match (running, self.resting(), put_off) {
            (1.., ..) => Some("the transfers under way".into()),
            (0, 1.., _) => Some("a short rest, so that one reading rebuilds all that is lost".into()),
            (0, 0, 1..) => Some("tries that failed and are made again later".into()),
            (0, 0, 0) => None,
        }
    }

    pub(super) fn waits_of_repairs(&self, waits: &mut Vec<String>) {
        let resting = self.resting();
        if resting > 0 {
            let extents = counted(resting, "extent");
            waits.push(format!(
                "{extents} to be rebuilt once it is known what else they lack, so that one reading does"
            ));
        }
        let most = self.config.repairs_max;
        let ready = self.agenda.ready_count();
        if self.repairs.running.len() >= most && ready > 0 {
            let needed = self.agenda.len() + self.repairs.running.len();
            waits.push(format!("{} to be rebuilt in all, {most} at a time", counted(needed, "extent")));
        }
        let shortages = self.agenda.shortages();
        for (resource, jobs) in shortages.iter().take(SHOWN_MAX) {
            waits.push(format!("{} to be rebuilt: no budget at {resource} now", counted(*jobs, "extent")));
        }
        if let Some(more) = shortages.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            waits.push(format!("extents to be rebuilt: no budget now at {more} more places"));
        }
        let lazy = self.agenda.waiting_for(&Wait::Lazy);
        if lazy > 0 {
            let longest = self.config.lazy_wait.0 / 1_000;
            waits.push(format!(
                "{} let wait for further losses (lazy_margin), {longest} s at most",
                counted(lazy, "extent")
            ));
        }
        let parked = self.agenda.waiting_for(&Wait::Parked);
        if parked > 0 {
            let extents = counted(parked, "extent");
            waits.push(format!(
                "{extents} parked, for {FAILED_ALIKE_MAX} tries failed alike: until something of their placement groups changes, {} s \
                 at most",
                PARKED_FOR.0 / 1_000
            ));
        }
        let homeless = self.agenda.waiting_for(&Wait::NoTarget);
        if homeless > 0 {
            waits.push(format!("{} that no disk can be given what it lacks of", counted(homeless, "extent")));
        }
    }

    /// What one extent waits for, if it is to be rebuilt.
    pub(super) fn wait_of_extent(&self, extent: ExtentKey) -> Option<String> {
        if self.agenda.is_ready(extent) {
            let (ready, most) = (self.agenda.ready_count(), self.config.repairs_max);
            return Some(format!("its turn: {ready} wait for theirs, {most} are rebuilt at a time"));
        }
        let later = self.agenda.wait_of(extent)?;
        let left = later.until.since(self.now).0;
        Some(match &later.wait {
            Wait::Gathering => {
                format!("what else it may lack in a moment, {left} ms at most: one reading rebuilds all")
            }
            Wait::PutOff => {
                let reason = self.repairs.backoff.get(&extent).map_or("", |backoff| backoff.reason.as_str());
                format!("the next try, in {left} ms; the last one failed: {reason}")
            }
            Wait::Parked => {
                let reason = self.repairs.backoff.get(&extent).map_or("", |backoff| backoff.reason.as_str());
                format!(
                    "any change of its placement group, {left} ms at most: {FAILED_ALIKE_MAX} tries failed alike: {reason}"
                )
            }
            Wait::Lazy => format!("further losses, {left} ms at most: it survives more than lazy_margin asks for"),
            Wait::NoTarget => "a disk that can be given what it lacks".into(),
            Wait::Paused => "the end of the pause that an operator asked for".into(),
            Wait::Budget(resource) => format!("no budget at {resource} now"),
        })
    }

    pub(super) fn turn_report(&self, extent: ExtentKey) -> Option<TurnReport> {
        let risk = self.risk_of(extent)?;
        let need = self.groups.get(&extent.pg())?.view.needs.get(&extent)?;
        Some(TurnReport {
            lost_nothing: risk.is_move,
            class: risk.class(self.now),
            margin_in_domains: risk.margin,
            at_risk_ms: self.now.since(need.since).0,
            waits_ms: self.now.since(risk.since).0,
            blocked_reads: risk.blocked_reads,
            bytes: risk.bytes,
        })
    }

    pub(super) fn charge_reports(&self, extent: ExtentKey) -> Vec<ChargeReport> {
        let running = self.repairs.running.values().find(|running| running.extent == extent);
        let charges = running.map(|running| &running.charges).into_iter().flatten();
        charges.map(|(of, bytes)| ChargeReport { of: of.to_string(), bytes: *bytes }).collect()
    }
}

fn waiting(jobs: usize) -> String {
    if jobs == 1 { "1 extent waits".into() } else { format!("{jobs} extents wait") }
}

// The words of the report above.
const _: () = assert!(RAISED_EVERY.0 == 6 * 60 * 60 * 1_000);
