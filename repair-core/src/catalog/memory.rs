//! The catalog by definition, in memory: what redb and etcd are held to, and what the simulator uses.

use super::txn::{Found, Txn, TxnResult, Write};
use std::collections::BTreeMap;

/// All rows, and the revision of the last transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryCatalog {
    rows: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    revision: u64,
}

impl MemoryCatalog {
    /// The row of a key.
    pub fn get(&self, key: &[u8]) -> Option<Found> {
        let (revision, value) = self.rows.get(key)?;
        Some(Found { key: key.to_vec(), value: value.clone(), revision: *revision })
    }

    /// Up to `limit` rows whose keys begin with `prefix` and lie after `after` (from the start where none), by key.
    pub fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Found> {
        let from = after.map_or(prefix, |after| after.max(prefix)).to_vec();
        self.rows
            .range(from..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after))
            .take(limit)
            .map(|(key, (revision, value))| Found { key: key.clone(), value: value.clone(), revision: *revision })
            .collect()
    }

    /// Applies a transaction, or refuses it. Never unknown: that is what lies between here and the caller.
    pub fn apply(&mut self, txn: &Txn) -> TxnResult {
        let holds = |key: &Vec<u8>, revision: u64| self.rows.get(key).map_or(0, |row| row.0) == revision;
        if !txn.compares.iter().all(|compare| holds(&compare.key, compare.revision)) {
            return TxnResult::Refused;
        }
        self.revision += 1;
        for write in &txn.writes {
            match write {
                Write::Put { key, value } => {
                    self.rows.insert(key.clone(), (self.revision, value.clone()));
                }
                Write::Delete { key } => {
                    self.rows.remove(key);
                }
                Write::DeletePrefix { prefix } => {
                    let doomed: Vec<_> = self
                        .rows
                        .range(prefix.clone()..)
                        .map(|row| row.0.clone())
                        .take_while(|key| key.starts_with(prefix))
                        .collect();
                    for key in doomed {
                        self.rows.remove(&key);
                    }
                }
            }
        }
        TxnResult::Done { revision: self.revision }
    }

    /// Rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    #[test]
    fn compares_hold_or_nothing_happens() {
        let mut catalog = MemoryCatalog::default();
        assert_eq!(
            catalog.apply(&Txn::new().compare(key("a"), 0).put(key("a"), vec![1])),
            TxnResult::Done { revision: 1 }
        );
        assert_eq!(catalog.apply(&Txn::new().compare(key("a"), 0).put(key("b"), vec![1])), TxnResult::Refused);
        assert_eq!(catalog.len(), 1);
        assert_eq!(
            catalog.apply(&Txn::new().compare(key("a"), 1).put(key("a"), vec![2])),
            TxnResult::Done { revision: 2 }
        );
        assert_eq!(catalog.get(b"a").map(|row| (row.revision, row.value)), Some((2, vec![2])));
    }

    #[test]
    fn ranges_stay_in_their_prefix_and_go_on_after_a_key() {
        let mut catalog = MemoryCatalog::default();
        let puts = ["a", "n/1", "n/2", "n/3", "o"].iter().fold(Txn::new(), |txn, text| txn.put(key(text), vec![]));
        catalog.apply(&puts);
        let keys = |after: Option<&[u8]>, limit| -> Vec<Vec<u8>> {
            catalog.range(b"n/", after, limit).into_iter().map(|row| row.key).collect()
        };
        assert_eq!(keys(None, 2), [key("n/1"), key("n/2")]);
        assert_eq!(keys(Some(b"n/2"), 2), [key("n/3")]);
        assert!(keys(Some(b"n/3"), 2).is_empty());
        assert_eq!(keys(Some(b"a"), 1), [key("n/1")]);
        catalog.apply(&Txn { compares: vec![], writes: vec![Write::DeletePrefix { prefix: key("n/") }] });
        assert_eq!(catalog.len(), 2);
    }
}
