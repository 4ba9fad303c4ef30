//! The network: connections, delays, losses, partitions.

use repair_core::node::PeerId;
use repair_core::rng::Dice;
use std::collections::{BTreeMap, BTreeSet};

/// A machine in the sense of iron: what can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// A storage node.
    Node(usize),
    /// One life of a daemon.
    Daemon(usize),
    /// A client.
    Client(usize),
}

/// The asking end of connections: a process, or a transfer with connections of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint(pub u64);

/// What the network does to messages.
#[derive(Clone, Debug)]
pub struct Net {
    /// Messages from one to the other are dropped.
    pub cut: BTreeSet<(Site, Site)>,
    /// Requests to it are accepted and never answered.
    pub mute: BTreeSet<Site>,
    /// Messages lost in a thousand.
    pub lost_per_mille: u64,
    /// Requests to nodes that come twice, in a thousand.
    pub twice_per_mille: u64,
    /// Messages in a thousand that take up to a second or more.
    pub slow_per_mille: u64,
    connections: BTreeMap<(Endpoint, Site), PeerId>,
    peers: u64,
    dice: Dice,
}

impl Net {
    /// A network that works.
    pub fn new(dice: Dice) -> Self {
        Self {
            cut: BTreeSet::new(),
            mute: BTreeSet::new(),
            lost_per_mille: 0,
            twice_per_mille: 0,
            slow_per_mille: 0,
            connections: BTreeMap::new(),
            peers: 0,
            dice,
        }
    }

    /// The connection of an endpoint to a site; a new one if there is none.
    pub fn connection(&mut self, from: Endpoint, to: Site) -> PeerId {
        let peers = &mut self.peers;
        *self.connections.entry((from, to)).or_insert_with(|| {
            *peers += 1;
            PeerId(*peers)
        })
    }

    /// Ends one connection.
    pub fn end(&mut self, from: Endpoint, to: Site) -> Option<PeerId> {
        self.connections.remove(&(from, to))
    }

    /// Ends all connections of an endpoint.
    pub fn end_all(&mut self, from: Endpoint) -> Vec<(Site, PeerId)> {
        let ended: Vec<_> =
            self.connections.iter().filter(|(key, _)| key.0 == from).map(|(key, peer)| (key.1, *peer)).collect();
        self.connections.retain(|key, _| key.0 != from);
        ended
    }

    /// Forgets all connections to a site that is no more.
    pub fn forget(&mut self, to: Site) {
        self.connections.retain(|key, _| key.1 != to);
    }

    /// How long a message takes, in microseconds; none where it never comes.
    pub fn journey(&mut self, from: Site, to: Site) -> Option<u64> {
        let usual = 100 + self.dice.below(900);
        let (lost, slow) = (self.dice.below(1000), self.dice.below(1000));
        let delay = if slow < self.slow_per_mille { usual + self.dice.below(1_500_000) } else { usual };
        (lost >= self.lost_per_mille && !self.cut.contains(&(from, to))).then_some(delay)
    }

    /// Whether a request comes twice.
    pub fn is_twice(&mut self) -> bool {
        self.dice.below(1000) < self.twice_per_mille
    }

    /// All is well again.
    pub fn mend(&mut self) {
        self.cut.clear();
        self.mute.clear();
        (self.lost_per_mille, self.twice_per_mille, self.slow_per_mille) = (0, 0, 0);
    }
}
