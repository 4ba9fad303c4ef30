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
    /// Messages from one to the other are dropped, for so many reasons.
    cut: BTreeMap<(Site, Site), u32>,
    /// The same for ever: nobody mends it. A daemon stands for all lives of all daemons.
    broken: BTreeSet<(Site, Site)>,
    /// Requests to it are accepted and never answered.
    pub mute: BTreeSet<Site>,
    /// Messages lost in a thousand.
    pub lost_per_mille: u64,
    /// Requests to nodes that come twice, in a thousand.
    pub twice_per_mille: u64,
    /// Messages in a thousand that take up to a second or more.
    pub slow_per_mille: u64,
    /// Messages in a thousand that others overtake.
    pub reordered_per_mille: u64,
    connections: BTreeMap<(Endpoint, Site), PeerId>,
    peers: u64,
    dice: Dice,
}

impl Net {
    /// A network that works.
    pub fn new(dice: Dice) -> Self {
        Self {
            cut: BTreeMap::new(),
            broken: BTreeSet::new(),
            mute: BTreeSet::new(),
            lost_per_mille: 0,
            twice_per_mille: 0,
            slow_per_mille: 0,
            reordered_per_mille: 0,
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

    /// Forgets all connections to a site; who was at their other ends, as the site knows them.
    pub fn forget(&mut self, to: Site) -> Vec<PeerId> {
        let peers = self.connections.iter().filter(|(key, _)| key.1 == to).map(|(_, peer)| *peer).collect();
        self.connections.retain(|key, _| key.1 != to);
        peers
    }

    /// How long a message takes, in microseconds; none where it never comes.
    pub fn journey(&mut self, from: Site, to: Site) -> Option<u64> {
        let usual = 100 + self.dice.below(900);
        let (lost, slow) = (self.dice.below(1000), self.dice.below(1000));
        let delay = if slow < self.slow_per_mille {
            usual + self.dice.below(1_500_000)
        } else if 999 - slow < self.reordered_per_mille {
            usual + self.dice.below(80_000)
        } else {
            usual
        };
        (lost >= self.lost_per_mille && !self.is_cut(from, to)).then_some(delay)
    }

    /// Whether a request comes twice.
    pub fn is_twice(&mut self) -> bool {
        self.dice.below(1000) < self.twice_per_mille
    }

    /// Cuts one from the other.
    pub fn cut(&mut self, from: Site, to: Site) {
        *self.cut.entry((from, to)).or_default() += 1;
    }

    /// One reason less to be cut.
    pub fn uncut(&mut self, from: Site, to: Site) {
        if let Some(reasons) = self.cut.get_mut(&(from, to)) {
            *reasons -= 1;
        }
        self.cut.retain(|_, reasons| *reasons > 0);
    }

    /// Cuts one from the other for ever, or undoes it.
    pub fn set_broken(&mut self, from: Site, to: Site, is_broken: bool) {
        let link = (any_life(from), any_life(to));
        if is_broken {
            self.broken.insert(link);
        } else {
            self.broken.remove(&link);
        }
    }

    /// Whether nothing comes from one to the other.
    pub fn is_cut(&self, from: Site, to: Site) -> bool {
        let is_broken = !self.broken.is_empty() && self.broken.contains(&(any_life(from), any_life(to)));
        is_broken || self.cut.contains_key(&(from, to))
    }

    /// All is well again, but for what is broken for ever.
    pub fn mend(&mut self) {
        self.cut.clear();
        self.mute.clear();
        self.calm();
    }

    /// Messages come once, soon and in order again.
    pub fn calm(&mut self) {
        (self.lost_per_mille, self.twice_per_mille) = (0, 0);
        (self.slow_per_mille, self.reordered_per_mille) = (0, 0);
    }
}

/// A daemon whichever life of it.
const fn any_life(site: Site) -> Site {
    match site {
        Site::Daemon(_) => Site::Daemon(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_cut_as_long_as_there_is_a_reason_and_what_is_broken_stays_so() {
        let mut net = Net::new(Dice::new(1));
        let (node, daemon) = (Site::Node(1), Site::Daemon(2));
        net.cut(node, daemon);
        net.cut(node, daemon);
        net.uncut(node, daemon);
        assert!(net.is_cut(node, daemon) && !net.is_cut(daemon, node));
        assert_eq!(net.journey(node, daemon), None);
        net.set_broken(daemon, node, true);
        net.mend();
        // An end that comes after all was mended.
        net.uncut(node, daemon);
        assert!(!net.is_cut(node, daemon) && net.is_cut(Site::Daemon(7), node));
        net.set_broken(daemon, node, false);
        assert!(net.journey(daemon, node).is_some_and(|micros| micros < 1_000));
    }
}
