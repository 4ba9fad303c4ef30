//! What goes wrong, and when. Every fault has a number and dice of its own, so that some of them can be left out and the others stay as
//! they are. Within the tolerance: the [atlas](super::atlas) says which disks may be hurt.

use super::client::ClientHost;
use super::counts::FaultKind;
use super::disk::{FakeDisk, Lie};
use super::net::Site;
use super::queue::Instant;
use super::world::{Event, World};
use repair_core::coordinator::CoordinatorEvent;
use repair_core::id::{DiskId, PgId};
use repair_core::rng::Dice;
use repair_core::wire::node::FragmentKey;
use std::collections::BTreeSet;

/// What a fault does later, to its end.
#[derive(Clone, Copy, Debug)]
pub enum Later {
    /// One site hears another no more.
    Cut(Site, Site),
    /// It does again.
    Mend(Site, Site),
    /// A link goes up or down, so many times more.
    Flap {
        /// One end.
        here: Site,
        /// The other.
        there: Site,
        /// Whether it is down now.
        is_down: bool,
        /// How often it still turns.
        turns: u64,
        /// Time between two turns.
        micros: u64,
    },
    /// The link of a node with all daemons goes up or down, for ever.
    FlapForEver(usize, bool),
    /// A site that did not answer does.
    Unmute(Site),
    /// Loss, doubling and delay of messages are over.
    Calm,
    /// A catalog that answered oddly is as it should be.
    Catalog,
    /// So is a disk that failed, was full or slow.
    Store(usize),
    /// And one that was to lie.
    Lie(usize),
}

/// How often faults of a kind strike in a run: weights, drawn by its seed.
type Weights = Vec<(Strike, u64)>;

/// What strikes. Some have more than one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    Stop,
    PowerEverywhere,
    Wipe,
    Rot,
    Vanish,
    Journal,
    Lie,
    Cut,
    Flap,
    Swizzle,
    Mute,
    Noise,
    Catalog,
    Leader,
    Daemon,
    Pause,
    SecondDaemon,
    HandOver,
    Leases,
    Client,
    Store,
    HangUp,
}

impl Strike {
    /// Whether another daemon may be in charge after it.
    const fn is_of_daemons(self) -> bool {
        matches!(self, Self::Daemon | Self::Pause | Self::SecondDaemon | Self::HandOver | Self::Leases)
    }
}

/// The usual weight of each.
const WEIGHTS: [(Strike, u64); 22] = [
    (Strike::Stop, 12),
    (Strike::PowerEverywhere, 2),
    (Strike::Wipe, 6),
    (Strike::Rot, 9),
    (Strike::Vanish, 4),
    (Strike::Journal, 5),
    (Strike::Lie, 8),
    (Strike::Cut, 7),
    (Strike::Flap, 4),
    (Strike::Swizzle, 3),
    (Strike::Mute, 4),
    (Strike::Noise, 9),
    (Strike::Catalog, 7),
    (Strike::Leader, 3),
    (Strike::Daemon, 5),
    (Strike::Pause, 3),
    (Strike::SecondDaemon, 3),
    (Strike::HandOver, 3),
    (Strike::Leases, 4),
    (Strike::Client, 5),
    (Strike::Store, 10),
    (Strike::HangUp, 4),
];

/// Faults of a run.
#[derive(Debug)]
pub struct Faults {
    /// Whether no more strike.
    pub are_over: bool,
    /// Those that were to strike so far: the number of the next one.
    pub drawn: u64,
    /// Only these strike, where they are named.
    pub only: Option<BTreeSet<u64>>,
    /// Numbers of those that struck.
    pub struck: Vec<u64>,
    /// Disks whose content was hurt since the cell was last whole.
    pub wounded: BTreeSet<DiskId>,
    /// Strikes at daemons, and when the last one was.
    daemon_strikes: u64,
    daemon_struck: Instant,
    weights: Weights,
    disks: u64,
    source: Dice,
    /// Of the fault that strikes now.
    dice: Dice,
}

impl Faults {
    /// None yet. Which are likely is drawn.
    pub fn new(source: Dice, only: Option<BTreeSet<u64>>) -> Self {
        let mut dice = source.child("weights", 0);
        let weights =
            WEIGHTS.iter().map(|(strike, weight)| (*strike, weight * [0, 1, 1, 2, 4][dice.below(5) as usize]));
        Self {
            are_over: false,
            drawn: 0,
            only,
            struck: Vec::new(),
            daemon_strikes: 0,
            daemon_struck: Instant(0),
            wounded: BTreeSet::new(),
            weights: weights.collect(),
            disks: 0,
            source,
            dice,
        }
    }

    fn draw(&mut self) -> Strike {
        let sum: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = self.dice.below(sum);
        let mut drawn = Strike::Stop;
        for (strike, weight) in &self.weights {
            if at < *weight {
                drawn = *strike;
                break;
            }
            at -= weight;
        }
        drawn
    }
}

impl World {
    /// A new disk, never seen before.
    pub fn new_disk(&mut self) -> FakeDisk {
        self.faults.disks += 1;
        let mut dice = self.dice.child("disk", self.faults.disks);
        let id = DiskId(u128::from(self.faults.disks) << 112 | dice.wide() >> 16);
        let mut disk = FakeDisk::new(id, dice);
        if let Some(super::mutation::Mutation::Disk(mutation)) = self.mutation {
            disk.mutation = Some(mutation);
        }
        disk
    }

    /// A fault strikes, the next one follows.
    pub fn strike(&mut self) {
        if self.faults.are_over {
            return;
        }
        let number = self.faults.drawn;
        self.faults.drawn += 1;
        self.faults.dice = self.faults.source.child("fault", number);
        let pause = self.profile.fault_every_ms * 1_000;
        let pause = pause / 10 + self.faults.dice.below(pause * 9 / 5);
        self.queue.after(pause, Event::Fault);
        if self.faults.only.as_ref().is_some_and(|only| !only.contains(&number)) {
            return;
        }
        if let Some(kind) = self.one_fault() {
            self.faults.struck.push(number);
            self.counts.fault(kind);
        }
    }

    /// Kind of the fault that struck; none where it could not.
    fn one_fault(&mut self) -> Option<FaultKind> {
        let node = self.faults.dice.below(self.nodes.len() as u64) as usize;
        let lasts = (200_000 + self.faults.dice.below(4_000_000)) * self.profile.stretch;
        let strike = self.faults.draw();
        if strike.is_of_daemons() && !self.may_strike_daemons() {
            return None;
        }
        match strike {
            Strike::Stop => self.fault_stop(node, lasts),
            Strike::PowerEverywhere => Some(self.fault_power_everywhere()),
            Strike::Wipe => self.fault_wipe(node, lasts),
            Strike::Rot => self.fault_rot(node),
            Strike::Vanish => self.fault_vanish(node),
            Strike::Journal => self.fault_journal(node),
            Strike::Lie => self.fault_lie(node, lasts),
            Strike::Cut => self.fault_cut(node, lasts),
            Strike::Flap => self.fault_flap(node),
            Strike::Swizzle => Some(self.fault_swizzle(node, lasts)),
            Strike::Mute => Some(self.fault_mute(node, lasts)),
            Strike::Noise => Some(self.fault_noise(lasts)),
            Strike::Catalog => Some(self.fault_catalog(lasts)),
            Strike::Leader => Some(self.fault_leader(lasts)),
            Strike::Daemon => self.fault_daemon(lasts),
            Strike::Pause => self.fault_pause(lasts),
            Strike::SecondDaemon => self.fault_second_daemon(),
            Strike::HandOver => self.fault_hand_over(),
            Strike::Leases => Some(self.fault_leases(lasts)),
            Strike::Client => self.fault_client(),
            Strike::Store => Some(self.fault_store(node, lasts)),
            Strike::HangUp => Some(self.fault_hang_up(node)),
        }
    }

    /// Whether the daemon in charge may be struck. Silence counts from when a daemon took over, so one of four has the time to find what is
    /// lost: where none ever has it, nothing can be rebuilt, and that is no fault of the machines.
    fn may_strike_daemons(&mut self) -> bool {
        let now = self.queue.now();
        let calm_ms = self.profile.grace.0 + 4 * self.profile.lease_ttl_ms();
        let is_spared = self.faults.daemon_strikes % 4 == 3 && now < self.faults.daemon_struck.after_ms(2 * calm_ms);
        if !is_spared {
            self.faults.daemon_strikes += 1;
            self.faults.daemon_struck = now;
        }
        !is_spared
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("FAULT {what}"));
    }

    fn fault_stop(&mut self, node: usize, lasts: u64) -> Option<FaultKind> {
        let power = self.faults.dice.chance(1, 2);
        // Now and then long enough to be taken for lost.
        let lasts = if self.faults.dice.chance(1, 4) { lasts * 8 } else { lasts };
        self.say(format_args!("node {node} stops for {} ms, power {power}", lasts / 1000));
        let was_running = self.nodes[node].life().is_some();
        self.stop_node(node, power);
        if !was_running {
            return None;
        }
        self.queue.after(lasts, Event::NodeStart { node });
        Some(if power { FaultKind::NodePowerLost } else { FaultKind::NodeKilled })
    }

    fn fault_power_everywhere(&mut self) -> FaultKind {
        self.say(format_args!("power is lost everywhere"));
        for node in 0..self.nodes.len() {
            if self.nodes[node].life().is_some() {
                self.stop_node(node, true);
                let lasts = (300_000 + self.faults.dice.below(3_000_000)) * self.profile.stretch;
                self.queue.after(lasts, Event::NodeStart { node });
            }
        }
        for slot in 0..self.slots.len() {
            if let Some(daemon) = self.slots[slot].last {
                self.stop_daemon(daemon);
            }
            let lasts = 500_000 + 100_000 * slot as u64;
            self.queue.after(lasts, Event::DaemonStart { slot });
        }
        FaultKind::PowerLostEverywhere
    }

    /// A disk is gone for ever; an empty one takes its place.
    fn fault_wipe(&mut self, node: usize, lasts: u64) -> Option<FaultKind> {
        if !self.may_hurt(node) {
            return None;
        }
        self.say(format_args!("the disk of node {node} is lost"));
        self.stop_node(node, true);
        let disk = self.new_disk();
        self.replace_disk(node, disk);
        self.queue.after(lasts, Event::NodeStart { node });
        Some(FaultKind::DiskLost)
    }

    fn pick_fragment(&mut self, node: usize) -> Option<FragmentKey> {
        let names: Vec<FragmentKey> = self.nodes[node].disk.names().keys().copied().collect();
        self.faults.dice.pick(&names).copied()
    }

    fn fault_rot(&mut self, node: usize) -> Option<FaultKind> {
        let fragment = self.pick_fragment(node)?;
        if !self.may_hurt(node) {
            return None;
        }
        self.say(format_args!("rot on node {node} in {}/{}", super::message::extent(fragment.extent), fragment.index));
        self.nodes[node].disk.rot(fragment);
        self.nodes[node].injured.insert(fragment);
        Some(FaultKind::Rot)
    }

    fn fault_vanish(&mut self, node: usize) -> Option<FaultKind> {
        let fragment = self.pick_fragment(node)?;
        if !self.may_hurt(node) {
            return None;
        }
        self.say(format_args!(
            "node {node} loses the file of {}/{}",
            super::message::extent(fragment.extent),
            fragment.index
        ));
        self.nodes[node].disk.vanish(fragment);
        self.nodes[node].injured.insert(fragment);
        Some(FaultKind::FileLost)
    }

    fn fault_journal(&mut self, node: usize) -> Option<FaultKind> {
        let pgs: Vec<PgId> = self.nodes[node].disk.journal_pgs();
        let pg = self.faults.dice.pick(&pgs).copied()?;
        if !self.may_hurt(node) {
            return None;
        }
        self.say(format_args!("node {node} stops, its journal of pg {pg} is damaged"));
        let was_running = self.nodes[node].life().is_some();
        self.nodes[node].injured_journals.insert(pg);
        self.stop_node(node, true);
        self.nodes[node].disk.damage_journal(pg);
        self.nodes[node].promises.retain(|promise| promise.pg != pg);
        self.reread_journals(node);
        if was_running {
            self.queue.after(500_000, Event::NodeStart { node });
        }
        Some(FaultKind::JournalDamaged)
    }

    /// A disk says that a page is durable, and it is not, or lies elsewhere. Counted when it does.
    fn fault_lie(&mut self, node: usize, lasts: u64) -> Option<FaultKind> {
        if !self.may_hurt(node) {
            return None;
        }
        let lie = [Lie::Lost, Lie::Torn, Lie::Misdirected][self.faults.dice.below(3) as usize];
        self.say(format_args!("node {node} lies about a page of what it writes: {lie:?}"));
        let disk = &mut self.nodes[node].disk;
        // A new extent that is written without some of its members bears no loss beside.
        (disk.lie, disk.lies_about_new) = (Some(lie), !self.profile.degraded_creates);
        self.faults.struck.push(self.faults.drawn - 1);
        self.queue.after(lasts, Event::Later(Later::Lie(node)));
        None
    }

    /// A site that talks with a node: mostly the daemon.
    fn someone(&mut self) -> Option<Site> {
        let others = self.clients.len() as u64 + 2;
        match self.faults.dice.below(others) {
            0 | 1 => self.running_daemon().map(Site::Daemon),
            other => Some(Site::Client(other as usize - 2)),
        }
    }

    fn fault_cut(&mut self, node: usize, lasts: u64) -> Option<FaultKind> {
        let (here, there) = (Site::Node(node), self.someone()?);
        let (one, two) = [(true, false), (false, true), (true, true)][self.faults.dice.below(3) as usize];
        self.say(format_args!("cut {here:?} {there:?}: there {one}, back {two}"));
        for (from, to, _) in [(here, there, one), (there, here, two)].iter().filter(|(.., cut)| *cut) {
            self.later(0, Later::Cut(*from, *to));
            self.queue.after(lasts, Event::Later(Later::Mend(*from, *to)));
        }
        Some(if one && two { FaultKind::LinkCut } else { FaultKind::LinkCutOneWay })
    }

    fn fault_flap(&mut self, node: usize) -> Option<FaultKind> {
        let (here, there) = (Site::Node(node), self.someone()?);
        let micros = (100_000 + self.faults.dice.below(2_000_000)) * self.profile.stretch / 2;
        let turns = 3 + 2 * self.faults.dice.below(4);
        self.say(format_args!("{here:?} {there:?} turns {turns} times, every {} ms", micros / 1000));
        self.later(0, Later::Flap { here, there, is_down: false, turns, micros });
        Some(FaultKind::LinkFlaps)
    }

    /// All links of a node go, one after the other, and come back in another order.
    fn fault_swizzle(&mut self, node: usize, lasts: u64) -> FaultKind {
        self.say(format_args!("the links of node {node} go one by one"));
        let here = Site::Node(node);
        let others = (0..self.nodes.len()).filter(|other| *other != node).map(Site::Node);
        let clients = (0..self.clients.len()).map(Site::Client);
        let mut links: Vec<Site> = others.chain(clients).chain(self.running_daemon().map(Site::Daemon)).collect();
        let one_way = self.faults.dice.chance(1, 3);
        self.faults.dice.shuffle(&mut links);
        let step = lasts / 2 / links.len() as u64;
        for (at, there) in (0..).zip(&links) {
            self.later(at * step, Later::Cut(here, *there));
            if !one_way {
                self.later(at * step, Later::Cut(*there, here));
            }
        }
        self.faults.dice.shuffle(&mut links);
        for (at, there) in (0..).zip(&links) {
            self.later(lasts / 2 + at * step, Later::Mend(here, *there));
            if !one_way {
                self.later(lasts / 2 + at * step, Later::Mend(*there, here));
            }
        }
        FaultKind::LinksSwizzled
    }

    /// Turns the link of a node with all daemons, again and again.
    pub fn flap_for_ever(&mut self, node: usize, is_down: bool) {
        let (here, daemon) = (Site::Node(node), Site::Daemon(0));
        self.net.set_broken(here, daemon, is_down);
        self.net.set_broken(daemon, here, is_down);
        let micros = (100_000 + self.faults.dice.below(2_000_000)) * self.profile.stretch;
        self.queue.after(micros, Event::Later(Later::FlapForEver(node, !is_down)));
    }

    fn fault_mute(&mut self, node: usize, lasts: u64) -> FaultKind {
        self.say(format_args!("node {node} accepts and never answers"));
        self.net.mute.insert(Site::Node(node));
        self.queue.after(lasts, Event::Later(Later::Unmute(Site::Node(node))));
        FaultKind::NodeMute
    }

    fn fault_noise(&mut self, lasts: u64) -> FaultKind {
        let dice = &mut self.faults.dice;
        let net = &mut self.net;
        let (what, kind) = match dice.below(4) {
            0 => (&mut net.lost_per_mille, FaultKind::MessagesLost),
            1 => (&mut net.twice_per_mille, FaultKind::MessagesDoubled),
            2 => (&mut net.slow_per_mille, FaultKind::MessagesLate),
            _ => (&mut net.reordered_per_mille, FaultKind::MessagesReordered),
        };
        *what = match kind {
            FaultKind::MessagesLost => [5, 30][dice.below(2) as usize],
            FaultKind::MessagesReordered => 500,
            _ => [30, 200][dice.below(2) as usize],
        };
        let per_mille = *what;
        self.say(format_args!("{} of 1000: {per_mille}", kind.as_str()));
        self.queue.after(lasts, Event::Later(Later::Calm));
        kind
    }

    fn fault_catalog(&mut self, lasts: u64) -> FaultKind {
        self.catalog.moods_per_mille = [30, 150, 500][self.faults.dice.below(3) as usize];
        let moods = self.catalog.moods_per_mille;
        self.say(format_args!("the catalog answers oddly, {moods} of 1000"));
        self.queue.after(lasts, Event::Later(Later::Catalog));
        FaultKind::CatalogOutcomesUnknown
    }

    fn fault_leader(&mut self, lasts: u64) -> FaultKind {
        let micros = lasts / 4;
        self.say(format_args!("nobody leads the catalog for {} ms", micros / 1000));
        self.catalog.leaderless_until = Instant(self.queue.now().0 + micros);
        FaultKind::CatalogLeaderLost
    }

    /// The daemon in charge; where there is none, any that runs.
    fn running_daemon(&self) -> Option<usize> {
        let runs = |daemon: &usize| self.daemons[*daemon].is_running();
        self.holder().or_else(|| self.slots.iter().filter_map(|slot| slot.last).find(runs))
    }

    fn fault_daemon(&mut self, lasts: u64) -> Option<FaultKind> {
        let any = self.faults.dice.below(4 * self.slots.len() as u64) as usize;
        // Now and then one that stands by.
        let last = self.slots.get(any).and_then(|slot| slot.last).filter(|daemon| self.daemons[*daemon].is_running());
        let daemon = last.or_else(|| self.running_daemon())?;
        self.say(format_args!("daemon {daemon} is killed"));
        self.stop_daemon(daemon);
        let slot = self.daemons[daemon].slot;
        // Soon back and in charge again, or long after another took over.
        let long = if self.slots.len() > 1 { 3_000 * self.profile.lease_ttl_ms() } else { 0 };
        let micros = if self.faults.dice.chance(1, 2) { lasts / 8 } else { lasts / 2 + long };
        self.queue.after(micros, Event::DaemonStart { slot });
        Some(FaultKind::DaemonKilled)
    }

    /// A daemon stands still; perhaps another takes its place meanwhile, and it does not know when it goes on.
    fn fault_pause(&mut self, lasts: u64) -> Option<FaultKind> {
        let daemon = self.running_daemon().filter(|daemon| !self.paused.contains_key(daemon))?;
        self.say(format_args!("daemon {daemon} stands still for {} ms", lasts / 1000));
        self.paused.insert(daemon, Instant(self.queue.now().0 + lasts));
        Some(FaultKind::DaemonPaused)
    }

    /// A daemon that stood by is started anew and waits for nobody; the one in charge does not know it.
    fn fault_second_daemon(&mut self) -> Option<FaultKind> {
        let first = self.running_daemon()?;
        let others: Vec<usize> = (0..self.slots.len()).filter(|slot| *slot != self.daemons[first].slot).collect();
        let slot = *self.faults.dice.pick(&others)?;
        self.say(format_args!("a second daemon beside {first}"));
        if let Some(daemon) = self.slots[slot].last {
            self.stop_daemon(daemon);
        }
        self.slots[slot].usurps = true;
        self.start_daemon(slot);
        Some(FaultKind::SecondDaemon)
    }

    fn fault_hand_over(&mut self) -> Option<FaultKind> {
        let serves = |daemon: &usize| !self.paused.contains_key(daemon) && !self.daemons[*daemon].leaves;
        let daemon = self.holder().filter(serves)?;
        self.say(format_args!("daemon {daemon} is to hand over"));
        self.daemons[daemon].leaves = true;
        if self.mutation != Some(super::mutation::Mutation::HandOverKeepsOwning) {
            self.coordinator(daemon, CoordinatorEvent::HandOver);
        }
        Some(FaultKind::DaemonHandsOver)
    }

    fn fault_leases(&mut self, lasts: u64) -> FaultKind {
        self.say(format_args!("writes of the lease fail for {} ms", lasts / 1000));
        self.catalog.leases_fail_until = Instant(self.queue.now().0 + lasts);
        FaultKind::LeaseWritesFail
    }

    fn fault_client(&mut self) -> Option<FaultKind> {
        let busy = |client: &usize| self.clients[*client].operation.is_some();
        let busy: Vec<usize> = (0..self.clients.len()).filter(busy).collect();
        let client = self.faults.dice.pick(&busy).copied()?;
        self.say(format_args!("client {client} is killed"));
        self.kill_client(client);
        Some(FaultKind::ClientKilled)
    }

    fn fault_store(&mut self, node: usize, lasts: u64) -> FaultKind {
        let host = &mut self.nodes[node];
        let kind = match self.faults.dice.below(4) {
            0 => {
                host.is_full = true;
                FaultKind::DiskFull
            }
            1 => {
                host.store_errors_per_mille = 60;
                FaultKind::StoreFails
            }
            2 => {
                host.sync_errors_per_mille = 200;
                FaultKind::SyncFails
            }
            _ => {
                host.slowness = 40;
                FaultKind::DiskSlow
            }
        };
        self.say(format_args!("node {node}: {}", kind.as_str()));
        self.queue.after(lasts, Event::Later(Later::Store(node)));
        kind
    }

    fn fault_hang_up(&mut self, node: usize) -> FaultKind {
        self.say(format_args!("node {node} loses its connections"));
        // The node lives on, and both ends hear of it.
        for peer in self.silence(Site::Node(node), true) {
            self.queue.after(1_000, Event::Gone { at: Site::Node(node), peer });
        }
        FaultKind::ConnectionsLost
    }

    fn later(&mut self, micros: u64, later: Later) {
        if micros == 0 { self.goes_on(later) } else { self.queue.after(micros, Event::Later(later)) }
    }

    /// A fault goes on, or ends.
    pub fn goes_on(&mut self, later: Later) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("later: {later:?}"));
        match later {
            Later::Cut(from, to) if !self.faults.are_over => self.net.cut(from, to),
            Later::Cut(..) => (),
            Later::Mend(from, to) => self.net.uncut(from, to),
            Later::Flap { here, there, is_down, turns, micros } => {
                for (from, to) in [(here, there), (there, here)] {
                    self.later(0, if is_down { Later::Mend(from, to) } else { Later::Cut(from, to) });
                }
                // The last turn is one up.
                if turns > 0 && (is_down || !self.faults.are_over) {
                    let next = Later::Flap { here, there, is_down: !is_down, turns: turns - 1, micros };
                    self.queue.after(micros, Event::Later(next));
                }
            }
            Later::FlapForEver(node, is_down) => self.flap_for_ever(node, is_down),
            Later::Unmute(Site::Node(node)) if self.broken.contains_key(&node) => (),
            Later::Unmute(site) => drop(self.net.mute.remove(&site)),
            Later::Calm => self.net.calm(),
            Later::Catalog => self.catalog.moods_per_mille = 0,
            Later::Store(node) => self.mend_store(node),
            Later::Lie(node) => self.nodes[node].disk.lie = None,
        }
    }

    fn mend_store(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        (host.is_full, host.store_errors_per_mille, host.sync_errors_per_mille, host.slowness) = (false, 0, 0, 1);
    }

    /// No more faults; what is down comes back.
    pub fn end_faults(&mut self) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("no more faults after {}", self.faults.struck.len()));
        self.faults.are_over = true;
        self.net.mend();
        self.catalog.moods_per_mille = 0;
        self.catalog.leaderless_until = Instant(0);
        self.catalog.leases_fail_until = Instant(0);
        self.paused.clear();
        for node in 0..self.nodes.len() {
            self.mend_store(node);
            self.nodes[node].disk.lie = None;
            if self.nodes[node].life().is_none() {
                self.queue.after(200_000, Event::NodeStart { node });
            }
        }
        for slot in 0..self.slots.len() {
            // One that waits for nobody renews nothing either.
            if let Some(daemon) = self.slots[slot].last.filter(|daemon| self.daemons[*daemon].usurps) {
                self.stop_daemon(daemon);
            }
            self.queue.after(200_000, Event::DaemonStart { slot });
        }
    }

    /// Whether all operations were done.
    pub fn work_is_done(&self) -> bool {
        self.clients
            .iter()
            .all(|client: &ClientHost| client.operation.is_none() && client.left == 0 && client.last_reads.is_empty())
    }
}
