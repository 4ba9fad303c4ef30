//! One seed from its beginning to its end.

use super::client::ClientHost;
use super::counts::{Counts, FaultKind};
use super::mode::Mode;
use super::mutation::Mutation;
use super::node::NodeHost;
use super::profile::Profile;
use super::queue::Instant;
use super::trace::Trace;
use super::world::{Event, World};
use repair_core::invariant::{Invariant, Violation};
use repair_core::rng::Dice;
use std::collections::BTreeSet;

/// How a seed is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Print every line of the trace.
    pub prints: bool,
    /// Break this on purpose.
    pub mutation: Option<Mutation>,
    /// What is asked of the cell; drawn by the seed where nothing is said.
    pub mode: Option<Mode>,
    /// What is left out.
    pub limits: Limits,
}

/// What of a seed is left out, to see whether the rest fails too. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Only the faults of these numbers strike.
    pub only_faults: Option<BTreeSet<u64>>,
    /// Clients do no more operations than that, in all.
    pub operations: Option<u64>,
    /// The cell has no more nodes than that, but enough for its code.
    pub nodes: Option<usize>,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// What was asked of its cell.
    pub mode: Mode,
    /// What broke.
    pub violation: Option<Violation>,
    /// Hash of its trace: the same for the same seed, always.
    pub trace_hash: u64,
    /// The last lines of its trace.
    pub last_lines: Vec<String>,
    /// Events that happened.
    pub events: u64,
    /// Operations of clients.
    pub operations: u64,
    /// Of these ended without success; that is allowed while faults last.
    pub in_vain: u64,
    /// Numbers of the faults that struck.
    pub struck: Vec<u64>,
    /// What it went through.
    pub counts: Counts,
    /// Recounts of groups.
    pub recounts: u64,
    /// Extents on file in the end.
    pub extents: usize,
    /// Virtual time it took.
    pub virtual_ms: u64,
    /// The code of its cell.
    pub code: String,
    /// Nodes of its cell.
    pub nodes: usize,
}

impl Run {
    /// Faults that struck.
    pub fn faults(&self) -> u64 {
        self.counts.faults_in_all()
    }

    /// Whether links were cut one way, turned, or went one by one.
    pub fn has_odd_links(&self) -> bool {
        let odd = [FaultKind::LinkCutOneWay, FaultKind::LinkFlaps, FaultKind::LinksSwizzled];
        odd.iter().any(|kind| self.counts.of_fault(*kind) > 0)
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Clients work, faults strike.
    Faults,
    /// No faults any more, since then; some nodes are broken for ever as soon as the cell bears it.
    Mended(Instant),
    /// No faults any more, since then; redundancy has to come back.
    Settling(Instant),
    /// More disks are gone than the code bears, until then.
    Beyond(Instant),
    /// The catalog is an earlier copy, until then.
    RolledBack(Instant),
    /// Everything is read, with no excuse, since then.
    Reading(Instant),
    /// Nobody wants anything any more, since then; what belongs to nothing has to go.
    Clearing(Instant),
    /// Done.
    Over,
}

impl Phase {
    /// Whether the catalog is an earlier copy.
    pub const fn is_rolled_back(self) -> bool {
        matches!(self, Self::RolledBack(_))
    }
}

const LAST_LINES: usize = 60;
/// Ten times what the longest runs take.
const EVENTS_MAX: u64 = 5_000_000;
/// Effects of one machine after one event. More are a loop that never ends.
pub const EFFECTS_MAX: usize = 200_000;
const LOOK_EVERY_MICROS: u64 = 1_000_000;
/// Virtual time in which clients' operations must end, faults and all.
const WORK_MS_MAX: u64 = 4_000_000;
/// Virtual time in which full redundancy must come back, in the shortest of cells.
const SETTLE_MS_MAX: u64 = 120_000;
/// Virtual time in which all must be read.
const READ_MS_MAX: u64 = 300_000;
/// Time for which more is gone than the code bears, beside the grace; in the shortest of cells.
const BEYOND_MS: u64 = 8_000;
/// Operations of each client after the faults: in a cell that is partly broken, or lacks more than its code bears.
const LATE_OPERATIONS: u64 = 4;

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Run {
    let dice = Dice::new(seed).child("world", seed);
    let trace = Trace::new(LAST_LINES, options.prints);
    let mode = options.mode.unwrap_or_else(|| Mode::draw(&mut dice.child("mode", 0)));
    let mut profile = Profile::of(seed, mode, &mut dice.child("profile", 0));
    profile.limit(&options.limits);
    let (code, nodes) = (profile.code.to_string(), profile.nodes);
    let mut world = World::new(profile, options.mutation, options.limits.only_faults.clone(), trace, dice);
    world.begin();
    let mut events = 0;
    while world.phase != Phase::Over && world.step() {
        events += 1;
        if events == EVENTS_MAX {
            world.judge(Err(Violation::new(Invariant::Recovers, format!("no end after {events} events"))));
        }
    }
    if world.violation.is_none() && world.phase != Phase::Over {
        world.judge(Err(Violation::new(Invariant::Recovers, "nothing happens any more")));
    }
    Run {
        seed,
        mode,
        trace_hash: world.trace.hash(),
        last_lines: world.trace.last(),
        events,
        operations: world.clients.iter().map(|client| client.done).sum(),
        in_vain: world.clients.iter().map(|client| client.in_vain).sum(),
        struck: world.faults.struck.clone(),
        counts: world.counts.clone(),
        recounts: world.recounts.counted,
        extents: world.oracle.extents(),
        virtual_ms: world.queue.now().0 / 1000,
        code,
        nodes,
        violation: world.violation,
    }
}

impl World {
    /// Nodes, clients and a daemon start.
    pub fn begin(&mut self) {
        for node in 0..self.profile.nodes {
            let disk = self.new_disk();
            let dice = self.dice.child("node", node as u64);
            self.nodes.push(NodeHost::new(disk, dice));
            self.queue.after(node as u64 * 1_000, Event::NodeStart { node });
        }
        let clients = self.profile.clients;
        for client in 0..clients {
            let dice = self.dice.child("client", client as u64);
            let share = self.profile.operations.div_ceil(clients as u64);
            self.clients.push(ClientHost::new(share, dice));
            self.queue.after(1_500_000, Event::ClientNext { client });
        }
        for slot in 0..self.slots.len() {
            self.queue.after(slot as u64 * 300, Event::DaemonStart { slot });
        }
        self.queue.after(3_000_000, Event::Fault);
        self.queue.after(LOOK_EVERY_MICROS, Event::Look);
    }

    /// Is it over?
    pub fn look(&mut self) {
        self.queue.after(LOOK_EVERY_MICROS, Event::Look);
        self.look_at_handover();
        let now = self.queue.now();
        let (since, limit_ms) = match self.phase {
            Phase::Faults => (Instant(0), WORK_MS_MAX),
            Phase::Mended(since) | Phase::Settling(since) => (since, self.profile.span_ms(SETTLE_MS_MAX)),
            Phase::Reading(since) => (since, READ_MS_MAX),
            Phase::Clearing(since) => (since, self.clearing_ms_max()),
            Phase::Beyond(_) | Phase::RolledBack(_) => (now, 0),
            Phase::Over => return,
        };
        if now > since.after_ms(limit_ms) {
            if matches!(self.phase, Phase::Clearing(_)) {
                let left = self.left_over().unwrap_or_default();
                return self.judge(Err(Violation::new(Invariant::NothingLeft, left)));
            }
            let what = format!("{:?} did not end: {}", self.phase, self.unfinished());
            return self.judge(Err(Violation::new(Invariant::Recovers, what)));
        }
        match self.phase {
            Phase::Faults if self.work_is_done() => self.end_of_work(),
            Phase::Faults => self.copy_catalog_in_time(),
            Phase::Mended(_) => self.break_in_time(),
            Phase::Settling(_) if self.work_is_done() && self.unfinished().is_empty() => self.settled(),
            Phase::Beyond(until) => self.look_beyond(until),
            Phase::RolledBack(_) => self.look_at_rollback(),
            Phase::Reading(_) if self.work_is_done() => self.all_read(),
            Phase::Clearing(_) if self.left_over().is_none() => self.phase = Phase::Over,
            _ => (),
        }
    }

    fn end_of_work(&mut self) {
        let all_struck = match &self.faults.only {
            Some(only) => only.last().is_none_or(|last| *last < self.faults.drawn),
            None => self.counts.faults_in_all() >= self.profile.faults,
        };
        if !all_struck {
            return self.more_work(2);
        }
        let now = self.queue.now();
        self.phase = if self.profile.mode == Mode::Liveness { Phase::Mended(now) } else { Phase::Settling(now) };
        self.end_faults();
    }

    fn more_work(&mut self, operations: u64) {
        for client in 0..self.clients.len() {
            self.clients[client].left += operations;
            self.queue.after(0, Event::ClientNext { client });
        }
    }

    /// The part that stays broken is chosen, and broken.
    fn break_in_time(&mut self) {
        if self.break_for_ever() {
            self.phase = Phase::Settling(self.queue.now());
            self.more_work(LATE_OPERATIONS);
        }
    }

    /// All is whole again. There may be more to come.
    fn settled(&mut self) {
        self.recount_all();
        self.oracle.forget_removals();
        let held = self.rests_truly();
        self.judge(held);
        if self.profile.mode == Mode::Beyond && self.gone.is_none() {
            let gone = self.go_beyond();
            let span = self.profile.grace.0 + self.profile.span_ms(BEYOND_MS);
            self.gone = Some(gone);
            self.phase = Phase::Beyond(self.queue.now().after_ms(span));
            return self.more_work(LATE_OPERATIONS);
        }
        if !self.roll_back() {
            self.begin_last_reads();
        }
    }

    /// Nothing goes that is still there, though it cannot be read; then it comes back.
    fn look_beyond(&mut self, until: Instant) {
        let held = self.all_is_there();
        self.judge(held);
        let now = self.queue.now();
        if now >= until {
            self.trace.line(now, format_args!("what was gone comes back"));
            for node in self.gone.clone().unwrap_or_default() {
                self.queue.after(1_000 * node as u64, Event::NodeStart { node });
            }
            self.phase = Phase::Settling(now);
        }
    }

    fn all_read(&mut self) {
        let leak = self.oracle.unreferred();
        if let Some(extent) = leak {
            let what = format!("extent {extent} is on a list and nothing refers to it");
            self.judge(Err(Violation::new(Invariant::Recovers, what)));
        }
        self.recount_all();
        self.phase = Phase::Clearing(self.queue.now());
    }

    /// What is still to be done; nothing where all is well.
    pub fn unfinished(&self) -> String {
        if !self.work_is_done() || matches!(self.phase, Phase::Mended(_)) {
            return format!("operations of clients, or nothing could be broken; {}", self.flaw().unwrap_or_default());
        }
        if let Some(flaw) = self.flaw() {
            return flaw;
        }
        let coordinator = self.holder().and_then(|daemon| self.daemons[daemon].coordinator.as_ref());
        match coordinator {
            None => "no daemon is in charge".into(),
            // A node that is broken for ever keeps its daemon waiting for ever.
            Some(coordinator) if !coordinator.idle() && self.broken.is_empty() => {
                let status = coordinator.status();
                format!(
                    "the coordinator is not idle: pgs {:?}, full {}, repairs {:?}, puts {}, doomed {}, waits {:?}",
                    status.pgs, status.full_redundancy, status.repairs, status.puts_open, status.doomed, status.waits
                )
            }
            Some(_) => self
                .oracle
                .unreferred()
                .map(|extent| format!("extent {extent} is referred to by nothing"))
                .unwrap_or_default(),
        }
    }

    fn begin_last_reads(&mut self) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("all is well; reading everything"));
        self.phase = Phase::Reading(now);
        let names: Vec<Vec<u8>> = self.oracle.names().filter(|name| self.oracle.now(name).is_some()).cloned().collect();
        let clients = self.clients.len();
        for (at, name) in names.into_iter().enumerate() {
            self.clients[at % clients].last_reads.push(name);
        }
        for client in 0..clients {
            self.queue.after(0, Event::ClientNext { client });
        }
    }
}
