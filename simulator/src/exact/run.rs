//! One seed from its beginning to its end.

use super::client::ClientHost;
use super::mutation::Mutation;
use super::node::NodeHost;
use super::profile::Profile;
use super::queue::Instant;
use super::trace::Trace;
use super::world::{Event, World};
use repair_core::invariant::{Invariant, Violation};
use repair_core::rng::Dice;

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Print every line of the trace.
    pub prints: bool,
    /// Break this on purpose.
    pub mutation: Option<Mutation>,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
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
    /// Faults that struck.
    pub faults: u64,
    /// Extents on file in the end.
    pub extents: usize,
    /// Payload that repairs got as the sums of chains, and chains that were given up.
    pub chained: (u64, u64),
    /// Audits that found an extent sound, and others.
    pub audited: (u64, u64),
    /// Payload that repairs found staged by one before them.
    pub resumed_bytes: u64,
    /// Virtual time it took.
    pub virtual_ms: u64,
    /// The code of its cell.
    pub code: String,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Clients work, faults strike.
    Faults,
    /// No faults any more, since then; redundancy has to come back.
    Settling(Instant),
    /// Everything is read, with no excuse, since then.
    Reading(Instant),
    /// Done.
    Over,
}

const LAST_LINES: usize = 60;
/// Ten times what the longest runs take.
const EVENTS_MAX: u64 = 2_000_000;
/// Effects of one machine after one event. More are a loop that never ends.
pub const EFFECTS_MAX: usize = 200_000;
const LOOK_EVERY_MICROS: u64 = 250_000;
/// Virtual time in which clients' operations must end, faults and all.
const WORK_MS_MAX: u64 = 1_500_000;
/// Virtual time in which full redundancy must come back.
const SETTLE_MS_MAX: u64 = 180_000;
/// Virtual time in which all must be read.
const READ_MS_MAX: u64 = 120_000;

/// Runs a seed.
pub fn run(seed: u64, options: Options) -> Run {
    let dice = Dice::new(seed).child("world", seed);
    let trace = Trace::new(LAST_LINES, options.prints);
    let profile = Profile::of(seed, &mut dice.child("profile", 0));
    let code = profile.code.to_string();
    let mut world = World::new(profile, options.mutation, trace, dice);
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
        trace_hash: world.trace.hash(),
        last_lines: world.trace.last(),
        events,
        operations: world.clients.iter().map(|client| client.done).sum(),
        in_vain: world.clients.iter().map(|client| client.in_vain).sum(),
        faults: world.faults.struck,
        extents: world.oracle.extents(),
        chained: world.chained,
        audited: world.audited,
        resumed_bytes: world.resumed_bytes,
        virtual_ms: world.queue.now().0 / 1000,
        code,
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
            self.clients.push(ClientHost::new(self.profile.operations / clients as u64, dice));
            self.queue.after(1_500_000, Event::ClientNext { client });
        }
        self.queue.after(0, Event::DaemonStart);
        self.queue.after(3_000_000, Event::Fault);
        self.queue.after(LOOK_EVERY_MICROS, Event::Look);
    }

    /// Is it over?
    pub fn look(&mut self) {
        self.queue.after(LOOK_EVERY_MICROS, Event::Look);
        let now = self.queue.now();
        let (since, limit_ms) = match self.phase {
            Phase::Faults => (Instant(0), WORK_MS_MAX),
            Phase::Settling(since) => (since, SETTLE_MS_MAX),
            Phase::Reading(since) => (since, READ_MS_MAX),
            Phase::Over => return,
        };
        if now > since.after_ms(limit_ms) {
            let what = format!("{:?} did not end: {}", self.phase, self.unfinished());
            return self.judge(Err(Violation::new(Invariant::Recovers, what)));
        }
        match self.phase {
            Phase::Faults if self.work_is_done() => self.end_of_work(),
            Phase::Settling(_) if self.unfinished().is_empty() => self.begin_last_reads(),
            Phase::Reading(_) if self.work_is_done() => {
                let leak = self.oracle.unreferred();
                if let Some(extent) = leak {
                    let what = format!("extent {extent} is on a list and nothing refers to it");
                    self.judge(Err(Violation::new(Invariant::Recovers, what)));
                }
                self.phase = Phase::Over;
            }
            _ => (),
        }
    }

    fn end_of_work(&mut self) {
        if self.faults.struck < self.profile.faults {
            for client in 0..self.clients.len() {
                self.clients[client].left += 2;
                self.queue.after(0, Event::ClientNext { client });
            }
            return;
        }
        self.phase = Phase::Settling(self.queue.now());
        self.end_faults();
    }

    /// What is still to be done; nothing where all is well.
    pub fn unfinished(&self) -> String {
        if self.phase == Phase::Faults || matches!(self.phase, Phase::Reading(_)) {
            return "operations of clients".into();
        }
        if let Some(flaw) = self.flaw() {
            return flaw;
        }
        let coordinator = self.current.and_then(|daemon| self.daemons[daemon].coordinator.as_ref());
        match coordinator {
            None => "no daemon runs".into(),
            Some(coordinator) if !coordinator.idle() => {
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
