//! Is it the rack? Where most disks of one domain fall silent at about the same time, what failed is what they share: a switch, a
//! power supply. Its data comes back with it, and to build it all elsewhere meanwhile would be the greatest load the cell can make
//! for itself. So it is waited for longer; how long, and for which data not, is the caller's to say.

use crate::time::{Millis, Time};
use crate::topology::{Domain, Level};

/// Fewer silent disks than these are that many single failures.
const SILENT_MIN: usize = 2;

/// Levels above a node, the narrowest first.
const LEVELS: [Level; 3] = [Level::Rack, Level::Zone, Level::Region];

/// A disk, as it counts here.
#[derive(Clone, Copy, Debug)]
pub struct Listener<'a> {
    /// Where it stands.
    pub domain: &'a Domain,
    /// When it was last heard, where it is silent.
    pub silent_since: Option<Time>,
}

/// A domain whose disks fell silent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The level of the domain.
    pub level: Level,
    /// Which.
    pub domain: String,
    /// Disks that fell silent together.
    pub silent: usize,
    /// Disks of the domain.
    pub of: usize,
}

/// The widest domain around `domain` most of whose disks fell silent within `together` of `since`.
pub fn around<'a>(
    domain: &Domain,
    since: Time,
    together: Millis,
    disks: impl Iterator<Item = Listener<'a>> + Clone,
) -> Option<Outage> {
    let at_level = |level: Level| {
        let name = domain.at(level);
        let inside = disks.clone().filter(|disk| disk.domain.at(level) == name);
        let (mut of, mut silent) = (0, 0);
        for disk in inside {
            of += 1;
            let gap = |heard: Time| heard.since(since).0.max(since.since(heard).0);
            silent += usize::from(disk.silent_since.is_some_and(|heard| gap(heard) <= together.0));
        }
        let is_shared = silent >= SILENT_MIN && 2 * silent > of;
        is_shared.then(|| Outage { level, domain: name.to_owned(), silent, of })
    };
    LEVELS.into_iter().filter_map(at_level).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    /// Disks by domain and when each was last heard, where it is silent. Judged for the first.
    fn judged(disks: &[(&str, Option<u64>)]) -> Option<(Level, usize, usize)> {
        let disks: Vec<(Domain, Option<Time>)> =
            disks.iter().map(|(domain, since)| (domain.parse().unwrap(), since.map(at))).collect();
        let listeners = disks.iter().map(|(domain, silent_since)| Listener { domain, silent_since: *silent_since });
        around(&disks[0].0, disks[0].1.unwrap(), Millis(100), listeners)
            .map(|outage| (outage.level, outage.silent, outage.of))
    }

    #[test]
    fn most_of_a_rack_at_once_is_the_rack() {
        let rack = [("r/z/a/1", Some(1_000)), ("r/z/a/2", Some(1_090)), ("r/z/a/3", None), ("r/z/b/1", None)];
        assert_eq!(judged(&rack), Some((Level::Rack, 2, 3)));
        let half = [&rack[..], &[("r/z/a/4", None)]].concat();
        assert_eq!(judged(&half), None, "half is not most");
        let apart = [("r/z/a/1", Some(1_000)), ("r/z/a/2", Some(1_101)), ("r/z/b/1", None)];
        assert_eq!(judged(&apart), None, "one after the other");
        assert_eq!(judged(&[("r/z/a/1", Some(1_000)), ("r/z/b/1", None)]), None, "a rack of one is a node");
    }

    #[test]
    fn the_widest_that_is_silent_is_named() {
        let zone = [
            ("r/z/a/1", Some(1_000)),
            ("r/z/a/2", Some(1_000)),
            ("r/z/b/1", Some(950)),
            ("r/y/c/1", None),
            ("r/y/c/2", None),
            ("r/y/c/3", None),
        ];
        assert_eq!(judged(&zone), Some((Level::Zone, 3, 3)));
    }
}
