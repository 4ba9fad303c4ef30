//! Names of things: 128-bit ids with what they say, tokens, sums.

use ec_core::fragment::{CellId, ExtentId, Hash, StreamId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! wide_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ec_core::fragment::identity::IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                // One text per id, by the fragment format's rule.
                text.parse::<ExtentId>().map(|id| Self(id.0))
            }
        }
    };
}

wide_id!(
    /// A cell: one deployment. Random, made with the catalog; in the label of every disk.
    CellKey
);
wide_id!(
    /// A disk (here: the data folder of one node). Random, made with its label, never used again.
    DiskId
);
wide_id!(
    /// A stream: what one `put` call makes.
    StreamKey
);
wide_id!(
    /// A claim of ownership: random, of one life of one daemon.
    ClaimId
);
wide_id!(
    /// An extent of the service, from the top: cell 16 bits | placement group 32 | sequence 48 | check 32. The sequence is
    /// incarnation 12 | counter 36.
    ExtentKey
);

impl CellKey {
    /// As fragments carry it.
    pub const fn id(self) -> CellId {
        CellId(self.0)
    }

    /// The bits of the cell in an extent's id.
    pub const fn short(self) -> u16 {
        (self.0 >> 112) as u16
    }
}

impl StreamKey {
    /// As records carry it.
    pub const fn id(self) -> StreamId {
        StreamId(self.0)
    }
}

/// Highest counter of an extent in its placement group and incarnation.
pub const EXTENT_COUNTER_MAX: u64 = (1 << 36) - 1;
/// Highest incarnation of a catalog.
pub const INCARNATION_MAX: u32 = (1 << 12) - 1;

impl ExtentKey {
    /// The id of an extent. `incarnation` and `counter` are cut to 12 and 36 bits; owners never reach those limits unnoticed
    /// ([`INCARNATION_MAX`], [`EXTENT_COUNTER_MAX`]).
    pub fn compose(cell: CellKey, pg: PgId, incarnation: u32, counter: u64) -> Self {
        let sequence = u128::from(incarnation & INCARNATION_MAX) << 36 | u128::from(counter & EXTENT_COUNTER_MAX);
        let high = u128::from(cell.short()) << 112 | u128::from(pg.0) << 80 | sequence << 32;
        Self(high | u128::from(check(high)))
    }

    /// The id in a fragment's header or name, where it is one the service makes.
    pub fn from_id(id: ExtentId) -> Option<Self> {
        let key = Self(id.0);
        key.is_sound().then_some(key)
    }

    /// Whether the check digits fit: an id typed wrongly names no extent.
    pub fn is_sound(self) -> bool {
        let high = self.0 & !u128::from(u32::MAX);
        self.0 as u32 == check(high)
    }

    /// As fragments and records carry it.
    pub const fn id(self) -> ExtentId {
        ExtentId(self.0)
    }

    /// The placement group it lives in, for ever.
    pub const fn pg(self) -> PgId {
        PgId((self.0 >> 80) as u32)
    }

    /// The incarnation of the catalog that made it.
    pub const fn incarnation(self) -> u32 {
        (self.0 >> 68) as u32 & INCARNATION_MAX
    }

    /// Its counter in the placement group.
    pub const fn counter(self) -> u64 {
        (self.0 >> 32) as u64 & EXTENT_COUNTER_MAX
    }
}

fn check(high: u128) -> u32 {
    let hash = blake3::hash(&high.to_be_bytes()[..12]);
    u32::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2], hash.as_bytes()[3]])
}

/// A placement group: n disks in order, one per fragment index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PgId(pub u32);

impl fmt::Display for PgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One try to change a placement group. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttemptId {
    /// The claim that made it.
    pub claim: ClaimId,
    /// Its number in that claim.
    pub number: u64,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.claim, self.number)
    }
}

/// Proof of ownership of a placement group. Ordered by incarnation, then revision; the rest tells equals apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// Incarnation of the catalog; rises with every restore.
    pub incarnation: u32,
    /// Rises with every claim.
    pub revision: u64,
    /// Random, made with the incarnation.
    pub restore: u128,
    /// Whose claim.
    pub claim: ClaimId,
}

/// A token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// A later owner has been here.
    #[error("token {refused} is below {accepted}: a later owner has been here")]
    Low {
        /// What was refused, as incarnation.revision.
        refused: TokenOrder,
        /// The highest accepted.
        accepted: TokenOrder,
    },
    /// Same order, other ids: two catalogs or two owners made it.
    #[error("token {order} is of another catalog or claim than the one accepted")]
    Fork {
        /// The order both have.
        order: TokenOrder,
    },
}

/// What orders tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenOrder(pub u32, pub u64);

impl fmt::Display for TokenOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Token {
    /// What orders it.
    pub const fn order(&self) -> TokenOrder {
        TokenOrder(self.incarnation, self.revision)
    }

    /// Whether a member that accepted `self` as its highest may accept `next`.
    ///
    /// # Errors
    /// [`Fenced`]: lower, or equal with other ids.
    pub fn admits(&self, next: &Self) -> Result<(), Fenced> {
        if next.order() < self.order() {
            return Err(Fenced::Low { refused: next.order(), accepted: self.order() });
        }
        if next.order() == self.order() && next != self {
            return Err(Fenced::Fork { order: next.order() });
        }
        Ok(())
    }
}

/// BLAKE3 of a committed record's bytes, as first stored.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordHash(pub [u8; 32]);

impl RecordHash {
    /// The hash of a record's bytes.
    pub fn of(record: &[u8]) -> Self {
        Self(*Hash::of(record).as_bytes())
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Sum modulo 2^256 of record hashes, as little-endian integers: what a list must add up to. Finds accidents; whoever can choose
/// records can forge it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sum([u8; 32]);

impl Sum {
    /// The sum of a list.
    pub fn of<'a>(hashes: impl IntoIterator<Item = &'a RecordHash>) -> Self {
        hashes.into_iter().fold(Self::default(), |sum, hash| sum.plus(hash))
    }

    /// With one more.
    #[must_use]
    pub fn plus(self, hash: &RecordHash) -> Self {
        let mut carry = 0u16;
        let mut sum = self;
        for (byte, add) in sum.0.iter_mut().zip(hash.0) {
            let total = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (total as u8, total >> 8);
        }
        sum
    }

    /// With one less.
    #[must_use]
    pub fn minus(self, hash: &RecordHash) -> Self {
        let mut borrow = 0i16;
        let mut sum = self;
        for (byte, take) in sum.0.iter_mut().zip(hash.0) {
            let rest = i16::from(*byte) - i16::from(take) - borrow;
            (*byte, borrow) = (rest as u8, i16::from(rest < 0));
        }
        sum
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_id_says_what_it_was_made_of_and_a_typing_error_is_seen() {
        let cell = CellKey(0xabcd << 112 | 7);
        let key = ExtentKey::compose(cell, PgId(u32::MAX - 1), INCARNATION_MAX, EXTENT_COUNTER_MAX - 5);
        assert_eq!(
            (key.pg(), key.incarnation(), key.counter()),
            (PgId(u32::MAX - 1), INCARNATION_MAX, EXTENT_COUNTER_MAX - 5)
        );
        assert_eq!((key.0 >> 112) as u16, 0xabcd);
        assert!(key.is_sound());
        for bit in 0..128 {
            assert!(!ExtentKey(key.0 ^ 1 << bit).is_sound(), "bit {bit}");
        }
    }

    #[test]
    fn tokens_admit_the_same_and_later_ones_only() {
        let token = Token { incarnation: 2, revision: 5, restore: 1, claim: ClaimId(9) };
        assert_eq!(token.admits(&token), Ok(()));
        assert_eq!(token.admits(&Token { revision: 6, claim: ClaimId(1), ..token }), Ok(()));
        assert_eq!(token.admits(&Token { incarnation: 3, revision: 0, restore: 8, claim: ClaimId(1) }), Ok(()));
        assert!(matches!(token.admits(&Token { revision: 4, ..token }), Err(Fenced::Low { .. })));
        assert!(matches!(token.admits(&Token { incarnation: 1, revision: 9, ..token }), Err(Fenced::Low { .. })));
        assert!(matches!(token.admits(&Token { claim: ClaimId(1), ..token }), Err(Fenced::Fork { .. })));
        assert!(matches!(token.admits(&Token { restore: 2, ..token }), Err(Fenced::Fork { .. })));
    }

    #[test]
    fn sums_carry_borrow_and_do_not_depend_on_order() {
        let (a, b) = (RecordHash([0xff; 32]), RecordHash([0x81; 32]));
        assert_eq!(Sum::of([&a, &b]), Sum::of([&b, &a]));
        assert_eq!(Sum::of([&a, &b]).minus(&a), Sum::of([&b]));
        assert_eq!(Sum::default().minus(&b).plus(&b), Sum::default());
        // 2^256 - 1, plus 1.
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(Sum::of([&a]).plus(&RecordHash(one)), Sum::default());
        assert_eq!(Sum::of([&RecordHash(one)]).to_string(), format!("{:064x}", 1));
    }
}
