//! What may be kept in a store, as far as its answers say: beside [`super::model`], for stages that outlive their openings.

use super::model::Bytes;
use super::slice_map::merged;
use repair_core::wire::node::FragmentKey;
use std::collections::BTreeMap;
use std::ops::Range;

/// Long enough for some pieces.
const KEPT_BYTES: usize = 70_001;

/// What is kept under a name and of an identity: always the same, so that whatever was kept earlier can be held against it.
pub(super) fn content(fragment: FragmentKey, identity: [u8; 32]) -> Bytes {
    // 251 is prime: shifted pieces do not look alike.
    let first =
        fragment.extent.counter() as usize * 7 + usize::from(fragment.index) * 31 + usize::from(identity[0]) * 101;
    (0..KEPT_BYTES).map(|at| ((first + at) % 251) as u8).collect()
}

/// What came to a name that is kept.
#[derive(Debug)]
struct Entry {
    identity: [u8; 32],
    written: Vec<Range<u64>>,
    /// Whether all of it must be there; where an operation failed, any of it may.
    is_sure: bool,
}

/// All that may be kept.
#[derive(Debug, Default)]
pub(super) struct Keeping(BTreeMap<FragmentKey, Entry>);

impl Keeping {
    /// A name was opened under an identity, and this was found.
    pub(super) fn opened(
        &mut self,
        fragment: FragmentKey,
        identity: [u8; 32],
        found: &[Range<u64>],
    ) -> Result<(), String> {
        let before = self.0.remove(&fragment).filter(|entry| entry.identity == identity);
        let (written, is_sure) = before.map_or((Vec::new(), true), |entry| (entry.written, entry.is_sure));
        let inside = |range: &Range<u64>| written.iter().any(|all| all.start <= range.start && range.end <= all.end);
        let is_right = if is_sure { found == written } else { found.iter().all(inside) };
        if !is_right {
            return Err(format!("{fragment:?}: {found:?} is kept, where {written:?} came, all of it {is_sure}"));
        }
        self.0.insert(fragment, Entry { identity, written: found.to_vec(), is_sure: false });
        Ok(())
    }

    pub(super) fn wrote(&mut self, fragment: FragmentKey, range: Range<u64>) {
        if let Some(entry) = self.0.get_mut(&fragment) {
            entry.written.push(range);
            entry.written = merged(std::mem::take(&mut entry.written));
        }
    }

    pub(super) fn left(&mut self, fragment: FragmentKey) {
        self.0.entry(fragment).and_modify(|entry| entry.is_sure = true);
    }

    pub(super) fn dropped(&mut self, fragment: FragmentKey) {
        self.0.remove(&fragment);
    }

    /// An operation failed: it may have been done or not.
    pub(super) fn unknown(&mut self, fragment: FragmentKey) {
        self.0.entry(fragment).and_modify(|entry| entry.is_sure = false);
    }
}
