//! Names and streams that a task is changing. Compares in the catalog decide; locks only spare tasks of one daemon the pain of
//! failing each other, which for the end of a put would cost its client all bytes of an extent.

use std::collections::{BTreeMap, BTreeSet};

/// Catalog keys held by tasks.
#[derive(Debug, Default)]
pub(super) struct Locks {
    held: BTreeMap<Vec<u8>, u64>,
    waiting: BTreeSet<u64>,
}

impl Locks {
    /// Takes all of `keys` for a task or none; a task that gets none waits. Keys it holds already are no hindrance.
    pub(super) fn take(&mut self, task: u64, keys: &[Vec<u8>]) -> bool {
        if keys.iter().any(|key| self.held.get(key).is_some_and(|holder| *holder != task)) {
            self.waiting.insert(task);
            return false;
        }
        self.held.extend(keys.iter().map(|key| (key.clone(), task)));
        true
    }

    /// How many tasks wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Gives up what a task holds. Returns tasks that waited, the oldest first: each tries again.
    pub(super) fn release(&mut self, task: u64) -> BTreeSet<u64> {
        self.held.retain(|_, holder| *holder != task);
        self.waiting.remove(&task);
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_gets_all_or_waits() {
        let keys = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let mut locks = Locks::default();
        assert!(locks.take(1, &keys(&["a", "b"])));
        assert!(!locks.take(2, &keys(&["c", "b"])));
        assert!(locks.take(3, &keys(&["c"])), "a task that waits holds nothing");
        assert!(locks.take(1, &keys(&["b", "d"])));
        assert_eq!(locks.release(1), BTreeSet::from([2]));
        assert!(!locks.take(2, &keys(&["c", "b"])));
        assert_eq!(locks.release(3), BTreeSet::from([2]));
        assert!(locks.take(2, &keys(&["c", "b"])));
    }
}
