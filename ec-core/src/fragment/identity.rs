//! What a fragment is: ids, file name, birth identity, and what is derived from it.

use super::IDENTITY_BYTES;
use super::error::FormatError;
use super::wire::{Fields, limit, same};
use crate::geometry::{BLOCK_BYTES, EXTENT_BYTES_MAX};
use crate::shard::ShardIndex;
use std::fmt;
use std::str::FromStr;

/// Log2 of the block size, the only one of version 1.
const BLOCK_LOG2: u8 = 12;
/// CRC-32 with the polynomial of zip.
const CHECKSUM_CRC32: u8 = 1;
const HASH_BLAKE3: u8 = 1;
const ID_DIGITS: usize = 32;
const INDEX_DIGITS: usize = 5;

const _: () = assert!(BLOCK_BYTES == 1 << BLOCK_LOG2);

/// Text that is not 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of 32 lower-case hex digits")]
pub struct IdError;

/// One text per id: no upper case, no sign, no missing zeros.
fn parse_id(text: &str) -> Option<u128> {
    let canonical = text.len() == ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u128::from_str_radix(text, 16).ok() } else { None }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_id(text).map(Self).ok_or(IdError)
            }
        }
    };
}

id!(
    /// An extent. Never used twice.
    ExtentId
);
id!(
    /// The cell an extent belongs to; 0 in the file commands.
    CellId
);
id!(
    /// A stream: a named sequence of extents.
    StreamId
);

/// A BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// A hash from its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a fragment was born as. It never changes, and seals the fragment: block CRCs and root depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BirthIdentity {
    /// Cell of the extent.
    pub cell: CellId,
    /// The extent.
    pub extent: ExtentId,
    /// How often the extent's fragments were written anew, from 1.
    pub generation: u64,
    /// Which shard.
    pub index: ShardIndex,
    /// Bytes of the shard, a multiple of the block size.
    pub payload_bytes: u64,
}

impl BirthIdentity {
    /// The bytes that headers and records hold and that are hashed into the root.
    pub fn to_bytes(&self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        bytes[..16].copy_from_slice(&self.cell.0.to_be_bytes());
        bytes[16..32].copy_from_slice(&self.extent.0.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.generation.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[48..50].copy_from_slice(&self.index.get().to_le_bytes());
        bytes[50..53].copy_from_slice(&[BLOCK_LOG2, CHECKSUM_CRC32, HASH_BLAKE3]);
        bytes
    }

    /// Reads an identity.
    ///
    /// # Errors
    /// Unknown algorithms, reserved bytes, or numbers outside their limits.
    pub fn from_bytes(bytes: &[u8; IDENTITY_BYTES]) -> Result<Self, FormatError> {
        let mut fields = Fields::new("birth identity", bytes);
        let (cell, extent) = (CellId(fields.id()?), ExtentId(fields.id()?));
        let (generation, payload_bytes) = (fields.u64()?, fields.u64()?);
        let index = ShardIndex::new(fields.u16()?);
        for (field, known) in [
            ("log2 of the block size", BLOCK_LOG2),
            ("checksum algorithm", CHECKSUM_CRC32),
            ("hash algorithm", HASH_BLAKE3),
        ] {
            let [value] = fields.array()?;
            if value != known {
                return Err(FormatError::Unknown { field, value: value.into() });
            }
        }
        fields.zeros(3)?;
        let identity = Self { cell, extent, generation, index, payload_bytes };
        identity.check()?;
        Ok(identity)
    }

    pub(super) fn check(&self) -> Result<(), FormatError> {
        limit("generation", self.generation, 1, u64::MAX)?;
        limit("payload_bytes", self.payload_bytes, 0, EXTENT_BYTES_MAX)?;
        same("payload_bytes modulo the block size", 0, self.payload_bytes % BLOCK_BYTES as u64)
    }

    /// What the CRC of each of its blocks starts from.
    pub fn seed(&self) -> BlockSeed {
        let hash = blake3::hash(&self.to_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        BlockSeed(u32::from_le_bytes([a, b, c, d]))
    }

    /// The fragment's root, from the hash of its payload.
    pub fn root(&self, payload_hash: &Hash) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.to_bytes()).update(payload_hash.as_bytes());
        hasher.finalize().into()
    }

    /// The name its file has.
    pub fn file_name(&self) -> String {
        FragmentName { extent: self.extent, generation: self.generation, index: self.index }.to_string()
    }
}

/// Start of the CRCs of one fragment's blocks. A block of another fragment, or at another place, has another CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSeed(u32);

impl BlockSeed {
    /// The CRC that the table holds for a block.
    pub fn crc(self, block_number: u32, block: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0 ^ block_number);
        hasher.update(block);
        hasher.finalize()
    }
}

/// What a file name says a fragment is. A convenience: the header and the root decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FragmentName {
    /// The extent.
    pub extent: ExtentId,
    /// Its generation.
    pub generation: u64,
    /// Which shard.
    pub index: ShardIndex,
}

impl FragmentName {
    /// Reads a name that [`Display`](fmt::Display) would write; every other text is no fragment's name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".frag")?.split('.');
        let (extent, generation, index) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let canonical =
            digits(generation) && !generation.starts_with('0') && index.len() == INDEX_DIGITS && digits(index);
        if !canonical || parts.next().is_some() {
            return None;
        }
        let index = ShardIndex::new(index.parse().ok()?);
        Some(Self { extent: ExtentId(parse_id(extent)?), generation: generation.parse().ok()?, index })
    }
}

impl fmt::Display for FragmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:05}.frag", self.extent, self.generation, self.index.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> BirthIdentity {
        let (cell, extent) = (CellId(1), ExtentId(0x0123_4567_89ab_cdef_0011_2233_4455_6677));
        BirthIdentity { cell, extent, generation: 3, index: ShardIndex::new(65_535), payload_bytes: 8192 }
    }

    #[test]
    fn an_identity_is_its_bytes() {
        let bytes = identity().to_bytes();
        assert_eq!(BirthIdentity::from_bytes(&bytes), Ok(identity()));
        assert_eq!(bytes[15..20], [1, 0x01, 0x23, 0x45, 0x67]);
        for (at, value) in [(50, 13), (51, 2), (52, 0), (53, 1), (55, 1), (40, 1), (47, 1), (32, 0)] {
            let mut other = bytes;
            other[at] = value;
            assert!(BirthIdentity::from_bytes(&other).is_err(), "byte {at} = {value}");
        }
    }

    #[test]
    fn only_the_canonical_name_is_a_name() {
        let name = "0123456789abcdef0011223344556677.3.65535.frag";
        assert_eq!(identity().file_name(), name);
        assert_eq!(FragmentName::parse(name).unwrap().to_string(), name);
        let extent = "0123456789abcdef0011223344556677";
        for rest in [
            ".0.00000.frag",
            ".03.00000.frag",
            ".+3.00000.frag",
            "..00000.frag",
            ".3.0.frag",
            ".3.000000.frag",
            ".3.65536.frag",
            ".3.+0001.frag",
            ".3.00000.frag ",
            ".3.00000",
            ".3.00000.frag.frag",
            ".3.4.00000.frag",
            ".18446744073709551616.00000.frag",
            ".3.0000٣.frag",
        ] {
            assert_eq!(FragmentName::parse(&format!("{extent}{rest}")), None, "{rest}");
        }
        for extent in [
            "",
            "0123456789ABCDEF0011223344556677",
            "123456789abcdef0011223344556677",
            "+123456789abcdef0011223344556677",
        ] {
            assert_eq!(FragmentName::parse(&format!("{extent}.3.00000.frag")), None, "{extent}");
        }
        assert!(FragmentName::parse(&format!("{extent}.18446744073709551615.00000.frag")).is_some());
    }

    /// The CRC as the polynomial defines it, continued as zlib does.
    fn crc_by_definition(start: u32, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!start, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    #[test]
    fn block_crcs_continue_from_the_seed() {
        assert_eq!(crc_by_definition(0, b"123456789"), 0xCBF4_3926);
        let block: Vec<u8> = (0..4096).map(|at| (at % 251) as u8).collect();
        let seed = identity().seed();
        let hash = blake3::hash(&identity().to_bytes());
        let start = u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap());
        for number in [0, 1, 77, u32::MAX] {
            assert_eq!(seed.crc(number, &block), crc_by_definition(start ^ number, &block));
        }
    }
}
