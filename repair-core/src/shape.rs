//! Which files a record names. Lists have hashes of records only; what a member owes, keeps and puts aside hangs on this much more.
//!
//! Fragment `i` of a record lies on member `i`, whatever its code: a code of fewer fragments than the group has members uses the
//! first of them. All fragments of a record are born together, under a generation that no other record of the extent ever had. So
//! a name says the birth, and whether a file is stale is a question of who names it, never of which generation is higher.

use crate::id::{EXTENT_COUNTER_MAX, ExtentKey, INCARNATION_MAX, RecordHash};
use crate::wire::node::FragmentKey;
use ec_core::fragment::ExtentRecord;
use serde::{Deserialize, Serialize};

/// Generation of what an extent is written with. Later ones come from the group's counters ([`later_generation`]).
pub const BIRTH_GENERATION: u64 = 1;

/// The generation of a record that takes another's place. Counters are never handed out twice, not after an abort either, so
/// neither is a generation: two files of one name would be two contents.
pub fn later_generation(incarnation: u32, counter: u64) -> u64 {
    u64::from(incarnation & INCARNATION_MAX) << 36 | (counter & EXTENT_COUNTER_MAX)
}

/// Whether some catalog can have given it out.
pub fn is_generation(generation: u64) -> bool {
    generation == BIRTH_GENERATION || generation >= later_generation(1, 0)
}

/// The files of a record: fragments 0 to `fragments - 1`, all of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// Their generation.
    pub generation: u64,
    /// How many there are.
    pub fragments: u16,
}

impl Shape {
    /// What a group of so many members gives its extents at birth, where nothing else is said.
    pub fn of_group(members: usize) -> Self {
        Self { generation: BIRTH_GENERATION, fragments: u16::try_from(members).unwrap_or(u16::MAX) }
    }

    /// That of a record; none where its fragments were not born together.
    pub fn of_record(record: &ExtentRecord) -> Option<Self> {
        let generation = record.fragments.first()?.identity.generation;
        let together = record.fragments.iter().all(|fragment| fragment.identity.generation == generation);
        let fragments = u16::try_from(record.fragments.len()).ok()?;
        (together && is_generation(generation)).then_some(Self { generation, fragments })
    }

    /// Whether the member of this index holds a fragment.
    pub fn has(&self, index: u16) -> bool {
        index < self.fragments
    }

    /// The fragment of this index; none where that member holds none.
    pub fn fragment(&self, extent: ExtentKey, index: u16) -> Option<FragmentKey> {
        self.has(index).then(|| self.place(extent, index))
    }

    /// Under which name the member of this index has the record: its fragment's, or where it holds none the one it would have.
    pub fn place(&self, extent: ExtentKey, index: u16) -> FragmentKey {
        FragmentKey { extent, generation: self.generation, index }
    }

    /// Whether this is one of its files.
    pub fn names(&self, fragment: &FragmentKey) -> bool {
        fragment.generation == self.generation && self.has(fragment.index)
    }
}

/// A record that was on the list until another took its place, and whose files nothing has released yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Former {
    /// Its hash.
    pub hash: RecordHash,
    /// Its files.
    pub shape: Shape,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_generations_differ_from_the_first_and_from_each_other_and_rise_within_a_history() {
        let (first, next, restored) = (later_generation(1, 0), later_generation(1, 1), later_generation(2, 0));
        assert!(BIRTH_GENERATION < first && first < next && next < restored);
        assert_eq!(later_generation(INCARNATION_MAX, EXTENT_COUNTER_MAX), (1 << 48) - 1);
    }

    #[test]
    fn a_shape_names_its_fragments_and_no_others() {
        let (shape, extent) = (Shape { generation: 9, fragments: 3 }, ExtentKey(5));
        assert_eq!(shape.fragment(extent, 2), Some(FragmentKey { extent, generation: 9, index: 2 }));
        assert_eq!(shape.fragment(extent, 3), None);
        assert!(shape.names(&shape.place(extent, 0)) && !shape.names(&shape.place(extent, 3)));
        assert!(!shape.names(&FragmentKey { generation: 8, ..shape.place(extent, 0) }));
        assert_eq!(Shape::of_group(6), Shape { generation: 1, fragments: 6 });
    }
}
