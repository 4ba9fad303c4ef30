//! What every catalog must do, as one function: random transactions and reads beside a model.

use super::{Catalog, CatalogError};
use repair_core::catalog::{Compare, Found, Txn, TxnResult, Write};
use repair_core::rng::Dice;
use std::collections::BTreeMap;

/// Rounds of random work: enough for every kind of write to meet every state of its key many times.
const ROUNDS: usize = 600;
/// How often the catalog is closed and opened again, in rounds.
const REOPEN_EVERY: usize = 97;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("round {round}: {what}")]
pub struct Difference {
    /// In which round; the same seed comes to the same one.
    pub round: usize,
    /// What was expected and what was found.
    pub what: String,
}

/// The rows there must be, each with the revision the catalog itself named when it wrote it.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    revision: u64,
}

/// Runs random work, by `seed`, on an empty catalog. `reopen` closes and opens it, however the caller likes to: an orderly end or
/// a crash, for what was acknowledged must be there after either.
///
/// Checked: transactions are whole, conditional, in order and durable, revisions rise, reads see every write before them.
/// Not checked: several callers at once.
///
/// # Errors
/// The first [`Difference`].
pub fn conformance<C: Catalog>(catalog: C, mut reopen: impl FnMut(C) -> C, seed: u64) -> Result<(), Difference> {
    let mut dice = Dice::new(seed).child("catalog-conformance", 0);
    let (mut catalog, mut model) = (catalog, Model::default());
    for round in 0..ROUNDS {
        let difference = |what: String| Difference { round, what };
        if round % REOPEN_EVERY == REOPEN_EVERY - 1 {
            catalog = reopen(catalog);
        }
        let txn = random_txn(&mut dice, &model);
        let result = catalog.txn(&txn).map_err(|error| difference(format!("{txn:?}: {error}")))?;
        model.check_txn(&txn, result).map_err(difference)?;
        model.check_reads(&mut catalog, &mut dice).map_err(difference)?;
    }
    catalog = reopen(catalog);
    let all =
        catalog.range(b"", None, usize::MAX).map_err(|error| Difference { round: ROUNDS, what: error.to_string() })?;
    same("all rows", &all, &model.range(b"", None, usize::MAX)).map_err(|what| Difference { round: ROUNDS, what })
}

impl Model {
    fn holds(&self, compare: &Compare) -> bool {
        self.rows.get(&compare.key).map_or(0, |row| row.0) == compare.revision
    }

    fn check_txn(&mut self, txn: &Txn, result: TxnResult) -> Result<(), String> {
        let expected = txn.compares.iter().all(|compare| self.holds(compare));
        match result {
            TxnResult::Refused if !expected => Ok(()),
            TxnResult::Done { revision } if expected && revision > self.revision => {
                self.apply(txn, revision);
                Ok(())
            }
            other => Err(format!("{txn:?}: {other:?} after revision {}; compares hold: {expected}", self.revision)),
        }
    }

    fn apply(&mut self, txn: &Txn, revision: u64) {
        self.revision = revision;
        for write in &txn.writes {
            match write {
                Write::Put { key, value } => {
                    self.rows.insert(key.clone(), (revision, value.clone()));
                }
                Write::Delete { key } => {
                    self.rows.remove(key);
                }
                Write::DeletePrefix { prefix } => self.rows.retain(|key, _| !key.starts_with(prefix)),
            }
        }
    }

    fn found(&self, key: &[u8]) -> Option<Found> {
        let (revision, value) = self.rows.get(key)?;
        Some(Found { key: key.to_vec(), value: value.clone(), revision: *revision })
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Found> {
        let wanted = |key: &&Vec<u8>| key.starts_with(prefix) && after.is_none_or(|after| key.as_slice() > after);
        self.rows.keys().filter(wanted).take(limit).filter_map(|key| self.found(key)).collect()
    }

    fn check_reads(&self, catalog: &mut impl Catalog, dice: &mut Dice) -> Result<(), String> {
        let text = |error: CatalogError| error.to_string();
        let keys: Vec<Vec<u8>> = (0..dice.below(5)).map(|_| random_key(dice)).collect();
        let expected: Vec<Option<Found>> = keys.iter().map(|key| self.found(key)).collect();
        same("rows", &catalog.get(&keys).map_err(text)?, &expected)?;
        let mut prefix = random_key(dice);
        prefix.truncate(dice.below(4) as usize);
        let after = dice.chance(1, 2).then(|| random_key(dice));
        let limit = dice.below(6) as usize;
        let found = catalog.range(&prefix, after.as_deref(), limit).map_err(text)?;
        same("range", &found, &self.range(&prefix, after.as_deref(), limit))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

/// Keys from a small set, so that they meet; with 0x00 and 0xff, so that the end of a prefix is not taken for a letter.
fn random_key(dice: &mut Dice) -> Vec<u8> {
    let letters = [0x00, b'a', b'/', 0xff];
    (0..=dice.below(3)).map(|_| *dice.pick(&letters).unwrap_or(&0)).collect()
}

fn random_txn(dice: &mut Dice, model: &Model) -> Txn {
    let mut txn = Txn::new();
    for _ in 0..dice.below(4) {
        let key = random_key(dice);
        // Mostly true, or nearly all transactions would be refused.
        let now = model.rows.get(&key).map_or(0, |row| row.0);
        let revision = if dice.chance(7, 8) { now } else { dice.below(model.revision + 2) };
        txn = txn.compare(key, revision);
    }
    for _ in 0..1 + dice.below(5) {
        let key = random_key(dice);
        txn = match dice.below(6) {
            0 => txn.delete(key),
            1 => {
                txn.writes.push(Write::DeletePrefix { prefix: key });
                txn
            }
            _ => {
                // Empty values, small ones, and some that fill pages of a store.
                let length = [0, 1, 40, 9_000][dice.below(4) as usize];
                let fill = dice.bits() as u8;
                txn.put(key, vec![fill; length])
            }
        };
    }
    txn
}
