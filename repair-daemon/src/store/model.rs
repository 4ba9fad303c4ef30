//! What may be in a store, as far as its answers say. Where an operation failed, or a crash came between, it is one of several things.

use repair_core::id::PgId;
use repair_core::wire::node::FragmentKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A file's content.
pub(super) type Bytes = Arc<[u8]>;

#[derive(Debug)]
struct Entry {
    /// Never empty. None: nothing has the name.
    possible: Vec<Option<Bytes>>,
    /// Whether what it is survives a crash.
    is_durable: bool,
    /// Whether something was set aside under this name, where that is known.
    aside: Option<bool>,
}

impl Default for Entry {
    fn default() -> Self {
        Self { possible: vec![None], is_durable: true, aside: Some(false) }
    }
}

impl Entry {
    fn may_be_there(&self) -> bool {
        self.possible.iter().any(Option::is_some)
    }

    /// What was just seen leaves fewer possibilities; none is a difference.
    fn narrow(&mut self, fits: impl Fn(Option<&Bytes>) -> bool) -> bool {
        let narrowed: Vec<_> = self.possible.iter().filter(|what| fits(what.as_ref())).cloned().collect();
        let is_possible = !narrowed.is_empty();
        if is_possible {
            self.possible = narrowed;
        }
        is_possible
    }

    fn lengths(&self) -> Vec<Option<usize>> {
        self.possible.iter().map(|what| what.as_ref().map(|bytes| bytes.len())).collect()
    }
}

/// What may be there.
#[derive(Debug, Default)]
pub(super) struct Model {
    names: BTreeMap<FragmentKey, Entry>,
}

impl Model {
    fn entry(&mut self, fragment: FragmentKey) -> &mut Entry {
        self.names.entry(fragment).or_default()
    }

    fn narrowed(
        &mut self,
        fragment: FragmentKey,
        what: &str,
        fits: impl Fn(Option<&Bytes>) -> bool,
    ) -> Result<(), String> {
        let entry = self.entry(fragment);
        if entry.narrow(fits) {
            return Ok(());
        }
        Err(format!("{fragment:?}: {what}; possible are files of these lengths: {:?}", entry.lengths()))
    }

    /// The name was seen to have this content, or to be nothing's.
    pub(super) fn observed(&mut self, fragment: FragmentKey, what: &str, found: Option<&Bytes>) -> Result<(), String> {
        let state = if found.is_some() { "there" } else { "not there" };
        self.narrowed(fragment, &format!("{what}: {state}"), |possible| possible == found)
    }

    pub(super) fn is_there(&mut self, fragment: FragmentKey, what: &str) -> Result<(), String> {
        self.narrowed(fragment, what, |possible| possible.is_some())
    }

    pub(super) fn has_length(&mut self, fragment: FragmentKey, length: u64) -> Result<(), String> {
        let fits = |possible: Option<&Bytes>| possible.is_some_and(|bytes| bytes.len() as u64 == length);
        self.narrowed(fragment, &format!("{length} bytes long"), fits)
    }

    pub(super) fn has_bytes(&mut self, fragment: FragmentKey, start: usize, found: &[u8]) -> Result<(), String> {
        let fits = |possible: Option<&Bytes>| {
            possible.is_some_and(|bytes| bytes.get(start..start + found.len()) == Some(found))
        };
        self.narrowed(fragment, &format!("other bytes, {} from {start}", found.len()), fits)
    }

    /// The names of a group, all of them.
    pub(super) fn lists(&mut self, pg: PgId, found: &[FragmentKey]) -> Result<(), String> {
        for fragment in found {
            if fragment.extent.pg() != pg {
                return Err(format!("{fragment:?} listed in group {pg:?}"));
            }
            self.is_there(*fragment, "listed")?;
        }
        let others = |fragment: &&FragmentKey| fragment.extent.pg() == pg && !found.contains(fragment);
        let others: Vec<FragmentKey> = self.names.keys().filter(others).copied().collect();
        others.into_iter().try_for_each(|fragment| self.observed(fragment, "listing", None))
    }

    pub(super) fn published(&mut self, fragment: FragmentKey, bytes: &Bytes, is_durable: bool) {
        let entry = self.entry(fragment);
        (entry.possible, entry.is_durable) = (vec![Some(Arc::clone(bytes))], is_durable);
    }

    /// The answer did not come: what was not there may be there.
    pub(super) fn perhaps_published(&mut self, fragment: FragmentKey, bytes: &Bytes) {
        let entry = self.entry(fragment);
        if entry.possible.contains(&None) {
            entry.possible.push(Some(Arc::clone(bytes)));
            entry.is_durable = false;
        }
    }

    pub(super) fn synced(&mut self, pg: PgId) {
        let names = self.names.iter_mut().filter(|(fragment, _)| fragment.extent.pg() == pg);
        names.for_each(|(_, entry)| entry.is_durable = true);
    }

    pub(super) fn set_aside(&mut self, fragment: FragmentKey) -> Result<(), String> {
        let entry = self.entry(fragment);
        if !entry.may_be_there() && entry.aside == Some(false) {
            return Err(format!("{fragment:?} was set aside, and was not there"));
        }
        *entry = Entry { possible: vec![None], is_durable: true, aside: Some(true) };
        Ok(())
    }

    pub(super) fn nothing_to_set_aside(&mut self, fragment: FragmentKey) -> Result<(), String> {
        self.observed(fragment, "set aside", None)?;
        let entry = self.entry(fragment);
        if entry.aside == Some(true) {
            return Err(format!("{fragment:?} was set aside before, and that is forgotten"));
        }
        entry.aside = Some(false);
        Ok(())
    }

    pub(super) fn perhaps_set_aside(&mut self, fragment: FragmentKey) {
        let entry = self.entry(fragment);
        if entry.may_be_there() {
            if !entry.possible.contains(&None) {
                entry.possible.push(None);
            }
            entry.aside = entry.aside.filter(|aside| *aside);
        }
    }

    pub(super) fn purged(&mut self, fragment: FragmentKey) {
        self.entry(fragment).aside = Some(false);
    }

    pub(super) fn perhaps_purged(&mut self, fragment: FragmentKey) {
        let entry = self.entry(fragment);
        entry.aside = entry.aside.filter(|aside| !*aside);
    }

    /// Names that were not synced are there or not.
    pub(super) fn crashed(&mut self) {
        for entry in self.names.values_mut().filter(|entry| !entry.is_durable) {
            if !entry.possible.contains(&None) {
                entry.possible.push(None);
            }
        }
    }
}
