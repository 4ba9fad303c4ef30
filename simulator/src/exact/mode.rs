//! What is asked of a cell: to be right while faults come and go, to become whole though a part of it stays broken for ever, or to lie
//! and to destroy nothing when more is gone than its code bears.

use super::counts::FaultKind;
use super::net::Site;
use super::world::World;
use ec_core::ShardIndex;
use repair_core::id::{DiskId, ExtentKey, PgId};
use repair_core::invariant::{Invariant, Violation};
use repair_core::rng::Dice;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Faults within the tolerance come and go; then all must be whole.
    Safety,
    /// The same, but then some nodes stay broken for ever; what the others can hold must be whole.
    Liveness,
    /// In the end more disks go than the code bears, and come back.
    Beyond,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Safety, Self::Liveness, Self::Beyond];

    /// The name in options and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Safety => "safety",
            Self::Liveness => "liveness",
            Self::Beyond => "beyond",
        }
    }

    /// The mode of a seed where none is asked for.
    pub fn draw(dice: &mut Dice) -> Self {
        match dice.below(100) {
            0..32 => Self::Liveness,
            32..48 => Self::Beyond,
            _ => Self::Safety,
        }
    }
}

/// How a node is broken for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It is off.
    Off,
    /// It and the daemons do not hear each other.
    Cut,
    /// The daemons do not hear it.
    Unheard,
    /// It does not hear the daemons.
    Deaf,
    /// It accepts what it is asked and never answers.
    Mute,
    /// Its link to the daemons goes down and up.
    Flapping,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Off, Self::Cut, Self::Unheard, Self::Deaf, Self::Mute, Self::Flapping];
}

impl World {
    /// Breaks nodes for ever, as many as the cell surely bears now. False where it bears none yet.
    pub fn break_for_ever(&mut self) -> bool {
        let mut dice = self.dice.child("broken", 0);
        let mut nodes: Vec<usize> = (0..self.nodes.len()).collect();
        dice.shuffle(&mut nodes);
        let wanted = 1 + dice.below(self.profile.tolerance as u64) as usize;
        for node in nodes {
            if self.broken.len() < wanted && self.bears_without(node) {
                let how = Broken::ALL[dice.below(Broken::ALL.len() as u64) as usize];
                self.broken.insert(node, how);
                self.break_node(node, how);
            }
        }
        if !self.broken.is_empty() && dice.chance(1, 2) {
            self.lose_daemon_for_ever();
        }
        !self.broken.is_empty()
    }

    /// The daemon in charge is gone, where another can follow.
    fn lose_daemon_for_ever(&mut self) {
        let Some(daemon) = self.holder().filter(|_| self.slots.len() > 1) else { return };
        let now = self.queue.now();
        self.trace.line(now, format_args!("daemon {daemon} is gone for ever"));
        self.counts.fault(FaultKind::DaemonGoneForEver);
        self.slots[self.daemons[daemon].slot].is_gone = true;
        self.stop_daemon(daemon);
    }

    fn break_node(&mut self, node: usize, how: Broken) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("node {node} is broken for ever: {how:?}"));
        self.counts.fault(FaultKind::NodeBrokenForEver);
        let (here, daemon) = (Site::Node(node), Site::Daemon(0));
        match how {
            Broken::Off => self.stop_node(node, false),
            Broken::Cut => {
                self.net.set_broken(here, daemon, true);
                self.net.set_broken(daemon, here, true);
            }
            Broken::Unheard => self.net.set_broken(here, daemon, true),
            Broken::Deaf => self.net.set_broken(daemon, here, true),
            Broken::Mute => drop(self.net.mute.insert(here)),
            Broken::Flapping => self.flap_for_ever(node, true),
        }
    }

    /// Whether every extent can be decoded without what the broken nodes and this one have.
    fn bears_without(&self, node: usize) -> bool {
        let gone = |disk: &DiskId| {
            self.node_of(*disk).is_none_or(|holder| holder == node || self.broken.contains_key(&holder))
        };
        self.oracle.pgs.values().all(|truth| {
            let members = || (0..).zip(&truth.row.members).filter(|(_, disk)| !gone(disk));
            // A group without extents loses nothing, and cannot become whole from fewer members than its code needs.
            let lacking =
                truth.row.members.len() - members().filter(|(_, disk)| !truth.row.behind.contains(disk)).count();
            if truth.list.is_empty() && lacking > self.profile.tolerance {
                return false;
            }
            truth.list.keys().all(|extent| {
                let have = members().filter(|(index, disk)| self.has_unhurt(**disk, *extent, *index));
                self.is_enough(&have.map(|(index, _)| index).collect())
            })
        })
    }

    /// Whether an extent can be decoded from these fragments.
    pub fn is_enough(&self, have: &BTreeSet<u16>) -> bool {
        let lost: Vec<u16> = (0..self.profile.code.n() as u16).filter(|index| !have.contains(index)).collect();
        lost.len() <= self.profile.tolerance || self.code.decodable(&lost.into_iter().map(ShardIndex::new).collect())
    }

    /// Whether there are racks enough for all fragments without the broken nodes.
    pub fn has_racks_enough(&self) -> bool {
        let racks: BTreeSet<usize> = (0..self.nodes.len())
            .filter(|node| !self.broken.contains_key(node))
            .map(|node| node % self.profile.racks)
            .collect();
        racks.len() >= self.profile.code.n()
    }

    /// More disks of one group go than its code bears; their bytes stay as they are.
    pub fn go_beyond(&mut self) -> Vec<usize> {
        let mut dice = self.dice.child("beyond", 0);
        let groups: Vec<PgId> =
            self.oracle.pgs.iter().filter(|(_, truth)| !truth.list.is_empty()).map(|(pg, _)| *pg).collect();
        let Some(pg) = dice.pick(&groups).copied() else { return Vec::new() };
        let mut members: Vec<usize> =
            self.oracle.pgs[&pg].row.members.iter().filter_map(|disk| self.node_of(*disk)).collect();
        dice.shuffle(&mut members);
        let parity = self.profile.code.n() - self.profile.code.k();
        members.truncate(parity + 1 + dice.below(2) as usize);
        self.counts.fault(FaultKind::DisksBeyondTolerance);
        let power = dice.chance(1, 2);
        members.iter().for_each(|node| self.stop_node(*node, power));
        members
    }

    /// The sound fragments of all extents, wherever they lie.
    fn sound_fragments(&self) -> BTreeMap<ExtentKey, BTreeSet<u16>> {
        let mut sound: BTreeMap<ExtentKey, BTreeSet<u16>> = BTreeMap::new();
        for host in &self.nodes {
            for (fragment, named) in host.disk.names() {
                if named.sound(*fragment).is_some() {
                    sound.entry(fragment.extent).or_default().insert(fragment.index);
                }
            }
        }
        sound
    }

    /// Every extent on a list can be decoded from what lies sound on disks, whether these can be reached or not.
    ///
    /// # Errors
    /// One cannot.
    pub fn all_is_there(&self) -> Result<(), Violation> {
        let sound = self.sound_fragments();
        for extent in self.oracle.pgs.values().flat_map(|truth| truth.list.keys()) {
            let have = sound.get(extent).cloned().unwrap_or_default();
            if !self.is_enough(&have) {
                let what = format!("extent {extent} is on a list, and sound on disks are only its fragments {have:?}");
                return Err(Violation::new(Invariant::StaysDecodable, what));
            }
        }
        Ok(())
    }
}
