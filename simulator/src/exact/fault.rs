//! What goes wrong, and when. Within the tolerance: disks hurt at one time are never more than the code surely survives.

use super::client::ClientHost;
use super::disk::FakeDisk;
use super::net::Site;
use super::world::{Event, World};
use repair_core::id::{DiskId, PgId};
use repair_core::rng::Dice;
use repair_core::wire::node::FragmentKey;
use std::collections::BTreeSet;

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub enum Undo {
    /// The network between two sites.
    Cut(Site, Site),
    /// A site that did not answer.
    Mute(Site),
    /// Loss, doubling and delay of messages.
    Noise,
    /// A catalog that answers oddly.
    Catalog,
    /// A disk that fails, is full or slow.
    Store(usize),
    /// A disk that loses writes.
    LostWrites(usize),
    /// A daemon that lives on beside another.
    Zombie(usize),
}

/// Faults of a run.
#[derive(Debug)]
pub struct Faults {
    /// Those that struck.
    pub struck: u64,
    /// Whether no more strike.
    pub are_over: bool,
    /// Disks whose content was hurt since the cell was last whole.
    pub wounded: BTreeSet<DiskId>,
    second_daemon: bool,
    disks: u64,
    dice: Dice,
}

impl Faults {
    /// None yet.
    pub const fn new(dice: Dice) -> Self {
        Self { struck: 0, are_over: false, wounded: BTreeSet::new(), second_daemon: false, disks: 0, dice }
    }

    /// Whether a daemon starts though one runs.
    pub fn wants_second_daemon(&mut self) -> bool {
        std::mem::take(&mut self.second_daemon)
    }
}

const PAUSE_MICROS_MAX: u64 = 1_600_000;

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
        let pause = 50_000 + self.faults.dice.below(PAUSE_MICROS_MAX);
        self.queue.after(pause, Event::Fault);
        if self.one_fault() {
            self.faults.struck += 1;
        }
    }

    fn one_fault(&mut self) -> bool {
        let node = self.faults.dice.below(self.nodes.len() as u64) as usize;
        let lasts = 200_000 + self.faults.dice.below(4_000_000);
        match self.faults.dice.below(100) {
            0..14 => self.fault_stop(node, lasts),
            14..17 => self.fault_power_everywhere(),
            17..23 => self.fault_wipe(node, lasts),
            23..33 => self.fault_rot(node),
            33..36 => self.fault_vanish(node),
            36..41 => self.fault_journal(node),
            41..45 => self.fault_lost_writes(node, lasts),
            45..53 => self.fault_cut(node, lasts),
            53..57 => self.fault_mute(node, lasts),
            57..66 => self.fault_noise(lasts),
            66..75 => self.fault_catalog(lasts),
            75..80 => self.fault_daemon(lasts),
            80..83 => self.fault_second_daemon(lasts),
            83..88 => self.fault_client(),
            88..96 => self.fault_store(node, lasts),
            _ => self.fault_hang_up(node),
        }
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("FAULT {what}"));
    }

    fn fault_stop(&mut self, node: usize, lasts: u64) -> bool {
        let power = self.faults.dice.chance(1, 2);
        // Now and then long enough to be taken for lost.
        let lasts = if self.faults.dice.chance(1, 4) { lasts * 8 } else { lasts };
        self.say(format_args!("node {node} stops for {} ms, power {power}", lasts / 1000));
        let was_running = self.nodes[node].life().is_some();
        self.stop_node(node, power);
        if was_running {
            self.queue.after(lasts, Event::NodeStart { node });
        }
        was_running
    }

    fn fault_power_everywhere(&mut self) -> bool {
        self.say(format_args!("power is lost everywhere"));
        for node in 0..self.nodes.len() {
            if self.nodes[node].life().is_some() {
                self.stop_node(node, true);
                let lasts = 300_000 + self.faults.dice.below(3_000_000);
                self.queue.after(lasts, Event::NodeStart { node });
            }
        }
        if let Some(daemon) = self.current.filter(|daemon| self.daemons[*daemon].is_running()) {
            self.stop_daemon(daemon);
            self.queue.after(500_000, Event::DaemonStart);
        }
        true
    }

    /// Whether this disk may be hurt, or hurt more. In no group may the disks that are hurt, and those that are excused from
    /// what they lack, be more than the code surely survives.
    fn may_hurt(&mut self, node: usize) -> bool {
        // A disk that is to lose a write hurts what is yet to be written.
        if self.is_whole() && self.nodes.iter().all(|host| host.disk.lost_writes == 0) {
            self.faults.wounded.clear();
        }
        let disk = self.nodes[node].disk.id;
        let wounded = &self.faults.wounded;
        let bears = self.oracle.pgs.values().all(|truth| {
            let row = &truth.row;
            let lacking: BTreeSet<DiskId> = row
                .members
                .iter()
                .filter(|member| wounded.contains(member) || row.behind.contains(member) || **member == disk)
                .copied()
                .collect();
            lacking.len() <= self.profile.tolerance
        });
        let few = wounded.contains(&disk) || wounded.len() < self.profile.tolerance;
        // New disks under way count too: what lies on them is not proven yet.
        let calm = self.oracle.pgs.values().all(|truth| !truth.row.joining.values().any(|joining| *joining == disk));
        if bears && few && calm {
            self.faults.wounded.insert(disk);
        }
        bears && few && calm
    }

    /// A disk is gone for ever; an empty one takes its place.
    fn fault_wipe(&mut self, node: usize, lasts: u64) -> bool {
        if !self.may_hurt(node) {
            return false;
        }
        self.say(format_args!("the disk of node {node} is lost"));
        self.stop_node(node, true);
        let disk = self.new_disk();
        self.replace_disk(node, disk);
        self.queue.after(lasts, Event::NodeStart { node });
        true
    }

    fn pick_fragment(&mut self, node: usize) -> Option<FragmentKey> {
        let names: Vec<FragmentKey> = self.nodes[node].disk.names().keys().copied().collect();
        self.faults.dice.pick(&names).copied()
    }

    fn fault_rot(&mut self, node: usize) -> bool {
        let Some(fragment) = self.pick_fragment(node) else { return false };
        if !self.may_hurt(node) {
            return false;
        }
        self.say(format_args!("rot on node {node} in {}/{}", super::message::extent(fragment.extent), fragment.index));
        self.nodes[node].disk.rot(fragment);
        self.nodes[node].injured.insert(fragment);
        true
    }

    fn fault_vanish(&mut self, node: usize) -> bool {
        let Some(fragment) = self.pick_fragment(node) else { return false };
        if !self.may_hurt(node) {
            return false;
        }
        self.say(format_args!(
            "node {node} loses the file of {}/{}",
            super::message::extent(fragment.extent),
            fragment.index
        ));
        self.nodes[node].disk.vanish(fragment);
        self.nodes[node].injured.insert(fragment);
        true
    }

    fn fault_journal(&mut self, node: usize) -> bool {
        let pgs: Vec<PgId> = self.nodes[node].disk.journal_pgs();
        let Some(pg) = self.faults.dice.pick(&pgs).copied() else { return false };
        if !self.may_hurt(node) {
            return false;
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
        true
    }

    fn fault_lost_writes(&mut self, node: usize, lasts: u64) -> bool {
        if !self.may_hurt(node) {
            return false;
        }
        self.say(format_args!("node {node} loses a page of what it writes"));
        self.nodes[node].disk.lost_writes = 1;
        self.queue.after(lasts, Event::Undo(Undo::LostWrites(node)));
        true
    }

    fn fault_cut(&mut self, node: usize, lasts: u64) -> bool {
        let here = Site::Node(node);
        let others = self.clients.len() as u64 + 2;
        let there = match self.faults.dice.below(others) {
            0 | 1 => match self.current {
                Some(daemon) => Site::Daemon(daemon),
                None => return false,
            },
            other => Site::Client(other as usize - 2),
        };
        let (one, two) = match self.faults.dice.below(3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        self.say(format_args!("cut {here:?} {there:?}: there {one}, back {two}"));
        for (from, to, cut) in [(here, there, one), (there, here, two)] {
            if cut && self.net.cut.insert((from, to)) {
                self.queue.after(lasts, Event::Undo(Undo::Cut(from, to)));
            }
        }
        true
    }

    fn fault_mute(&mut self, node: usize, lasts: u64) -> bool {
        self.say(format_args!("node {node} accepts and never answers"));
        self.net.mute.insert(Site::Node(node));
        self.queue.after(lasts, Event::Undo(Undo::Mute(Site::Node(node))));
        true
    }

    fn fault_noise(&mut self, lasts: u64) -> bool {
        let dice = &mut self.faults.dice;
        let net = &mut self.net;
        net.lost_per_mille = [0, 5, 30][dice.below(3) as usize];
        net.twice_per_mille = [0, 30, 200][dice.below(3) as usize];
        net.slow_per_mille = [0, 20, 150][dice.below(3) as usize];
        let (lost, twice, slow) = (net.lost_per_mille, net.twice_per_mille, net.slow_per_mille);
        self.say(format_args!("of 1000 messages {lost} lost, {twice} doubled, {slow} late"));
        self.queue.after(lasts, Event::Undo(Undo::Noise));
        true
    }

    fn fault_catalog(&mut self, lasts: u64) -> bool {
        self.catalog.moods_per_mille = [30, 150, 500][self.faults.dice.below(3) as usize];
        let moods = self.catalog.moods_per_mille;
        self.say(format_args!("the catalog answers oddly, {moods} of 1000"));
        self.queue.after(lasts, Event::Undo(Undo::Catalog));
        true
    }

    fn fault_daemon(&mut self, lasts: u64) -> bool {
        let Some(daemon) = self.current.filter(|daemon| self.daemons[*daemon].is_running()) else { return false };
        self.say(format_args!("daemon {daemon} is killed"));
        self.stop_daemon(daemon);
        self.queue.after(lasts / 2, Event::DaemonStart);
        true
    }

    /// A second daemon takes over; the first lives on for a while and does not know it.
    fn fault_second_daemon(&mut self, lasts: u64) -> bool {
        let Some(daemon) = self.current.filter(|daemon| self.daemons[*daemon].is_running()) else { return false };
        self.say(format_args!("a second daemon beside {daemon}"));
        self.faults.second_daemon = true;
        self.start_daemon();
        self.queue.after(lasts, Event::Undo(Undo::Zombie(daemon)));
        true
    }

    fn fault_client(&mut self) -> bool {
        let busy = |client: &usize| self.clients[*client].operation.is_some();
        let busy: Vec<usize> = (0..self.clients.len()).filter(busy).collect();
        let Some(client) = self.faults.dice.pick(&busy).copied() else { return false };
        self.say(format_args!("client {client} is killed"));
        self.kill_client(client);
        true
    }

    fn fault_store(&mut self, node: usize, lasts: u64) -> bool {
        let kind = self.faults.dice.below(3);
        let host = &mut self.nodes[node];
        let what = match kind {
            0 => {
                host.is_full = true;
                "is full"
            }
            1 => {
                host.store_errors_per_mille = 60;
                "fails now and then"
            }
            _ => {
                host.slowness = 40;
                "is slow"
            }
        };
        self.say(format_args!("the disk of node {node} {what}"));
        self.queue.after(lasts, Event::Undo(Undo::Store(node)));
        true
    }

    fn fault_hang_up(&mut self, node: usize) -> bool {
        self.say(format_args!("node {node} loses its connections"));
        self.silence(Site::Node(node), true);
        true
    }

    /// A fault ends.
    pub fn undo(&mut self, undo: Undo) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("over: {undo:?}"));
        match undo {
            Undo::Cut(from, to) => drop(self.net.cut.remove(&(from, to))),
            Undo::Mute(site) => drop(self.net.mute.remove(&site)),
            Undo::Noise => {
                (self.net.lost_per_mille, self.net.twice_per_mille, self.net.slow_per_mille) = (0, 0, 0);
            }
            Undo::Catalog => self.catalog.moods_per_mille = 0,
            Undo::Store(node) => self.mend_store(node),
            Undo::LostWrites(node) => self.nodes[node].disk.lost_writes = 0,
            Undo::Zombie(daemon) => self.stop_daemon(daemon),
        }
    }

    fn mend_store(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        (host.is_full, host.store_errors_per_mille, host.slowness) = (false, 0, 1);
    }

    /// No more faults; what is down comes back.
    pub fn end_faults(&mut self) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("no more faults after {}", self.faults.struck));
        self.faults.are_over = true;
        self.net.mend();
        self.catalog.moods_per_mille = 0;
        for node in 0..self.nodes.len() {
            self.mend_store(node);
            self.nodes[node].disk.lost_writes = 0;
            if self.nodes[node].life().is_none() {
                self.queue.after(200_000, Event::NodeStart { node });
            }
        }
        for daemon in 0..self.daemons.len() {
            if Some(daemon) != self.current {
                self.stop_daemon(daemon);
            }
        }
        self.queue.after(200_000, Event::DaemonStart);
    }

    /// Whether all operations were done.
    pub fn work_is_done(&self) -> bool {
        self.clients
            .iter()
            .all(|client: &ClientHost| client.operation.is_none() && client.left == 0 && client.last_reads.is_empty())
    }
}
