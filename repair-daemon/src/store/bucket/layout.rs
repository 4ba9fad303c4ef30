//! Where everything lies in a bucket, and what a name object says.
//!
//! ```text
//! PREFIX/label                  which disk, of which cell; not there: this is not the store
//! PREFIX/names/PG/NAME          a fragment: 64 bytes, then its bytes, or none where they lie apart
//! PREFIX/data/PG/NAME/ATTEMPT   bytes that lie apart
//! PREFIX/aside/PG/NAME/ATTEMPT  a name object that was set aside
//! PREFIX/uploads/ATTEMPT        bytes that are on their way to `data`, and the upload they come by
//! ```

use object_store::path::Path;
use repair_core::id::{ExtentKey, PgId};
use repair_core::wire::node::FragmentKey;

/// Bytes of a name object before the fragment's own.
pub(super) const PREAMBLE_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"9FNAME\x00\x01";
/// The CRC is of all before it.
const CRC_AT: usize = 60;

/// One try to publish, unlike any other: how a store knows its own work again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Attempt(pub u128);

impl Attempt {
    fn text(self) -> String {
        format!("{:032x}", self.0)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_text = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_text.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

/// What a name object says about the fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) attempt: Attempt,
    pub(super) bytes: u64,
    /// The bytes are an object of their own.
    pub(super) is_apart: bool,
}

impl Entry {
    pub(super) fn preamble(&self) -> [u8; PREAMBLE_BYTES as usize] {
        let mut out = [0; PREAMBLE_BYTES as usize];
        out[..8].copy_from_slice(MAGIC);
        out[8] = u8::from(self.is_apart);
        out[16..32].copy_from_slice(&self.attempt.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = crc32fast::hash(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// What a name object of `object_bytes` says that begins so; `None` where it says nothing that can be true.
    pub(super) fn parse(preamble: &[u8], object_bytes: u64) -> Option<Self> {
        let preamble: &[u8; PREAMBLE_BYTES as usize] = preamble.try_into().ok()?;
        let attempt = Attempt(u128::from_le_bytes(preamble[16..32].try_into().ok()?));
        let bytes = u64::from_le_bytes(preamble[32..40].try_into().ok()?);
        let entry = Self { attempt, bytes, is_apart: preamble[8] == 1 };
        let inline_bytes = if entry.is_apart { 0 } else { bytes };
        // Whatever is not exactly what would be written is damaged.
        let is_whole = entry.preamble() == *preamble && PREAMBLE_BYTES.checked_add(inline_bytes) == Some(object_bytes);
        is_whole.then_some(entry)
    }
}

/// The paths below a prefix.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: Path,
}

impl Layout {
    pub(super) fn new(prefix: Path) -> Self {
        Self { prefix }
    }

    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }

    pub(super) fn label(&self) -> Path {
        self.prefix.clone().join("label")
    }

    pub(super) fn group(&self, pg: PgId) -> Path {
        self.prefix.clone().join("names").join(group_text(pg))
    }

    pub(super) fn name(&self, fragment: FragmentKey) -> Path {
        self.group(fragment.extent.pg()).join(name_text(fragment))
    }

    pub(super) fn data_of(&self, fragment: FragmentKey) -> Path {
        let data = self.prefix.clone().join("data");
        data.join(group_text(fragment.extent.pg())).join(name_text(fragment))
    }

    pub(super) fn data(&self, fragment: FragmentKey, attempt: Attempt) -> Path {
        self.data_of(fragment).join(attempt.text())
    }

    pub(super) fn aside_of(&self, fragment: FragmentKey) -> Path {
        let aside = self.prefix.clone().join("aside");
        aside.join(group_text(fragment.extent.pg())).join(name_text(fragment))
    }

    pub(super) fn aside(&self, fragment: FragmentKey, attempt: Attempt) -> Path {
        self.aside_of(fragment).join(attempt.text())
    }

    pub(super) fn uploads(&self) -> Path {
        self.prefix.clone().join("uploads")
    }

    pub(super) fn upload(&self, attempt: Attempt) -> Path {
        self.uploads().join(attempt.text())
    }
}

fn group_text(pg: PgId) -> String {
    format!("{:08x}", pg.0)
}

/// Of fixed width, so that names in the order of their text are in the order of their keys.
pub(super) fn name_text(fragment: FragmentKey) -> String {
    format!("{:032x}.{:020}.{:05}", fragment.extent.0, fragment.generation, fragment.index)
}

/// The fragment of a name, if it is one that would be written.
pub(super) fn parse_name(text: &str) -> Option<FragmentKey> {
    let mut parts = text.split('.');
    let extent = ExtentKey(u128::from_str_radix(parts.next()?, 16).ok()?);
    let (generation, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let fragment = FragmentKey { extent, generation, index };
    (name_text(fragment) == text).then_some(fragment)
}

/// What an object in `uploads` says: whose bytes they are, and by which upload they come.
pub(super) fn upload_text(fragment: FragmentKey, upload: &str) -> String {
    format!("{}\n{upload}", name_text(fragment))
}

pub(super) fn parse_upload(text: &str) -> Option<(FragmentKey, &str)> {
    let (name, upload) = text.split_once('\n')?;
    Some((parse_name(name)?, upload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(extent: u128, generation: u64, index: u16) -> FragmentKey {
        FragmentKey { extent: ExtentKey(extent), generation, index }
    }

    #[test]
    fn names_in_the_order_of_text_are_in_the_order_of_keys() {
        let mut keys =
            vec![key(9, 10, 2), key(9, 9, 3), key(1 << 127, 0, 0), key(9, 9, 12), key(0, u64::MAX, u16::MAX)];
        let mut texts: Vec<String> = keys.iter().copied().map(name_text).collect();
        keys.sort_unstable();
        texts.sort_unstable();
        let parsed: Vec<_> = texts.iter().map(|text| parse_name(text).unwrap()).collect();
        assert_eq!(parsed, keys);
        let good = name_text(key(9, 9, 3));
        for bad in ["", "label", &good[1..], &format!("{good}.1"), &good.replace(".0", ".+"), &format!("{good} ")] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
        let text = upload_text(keys[1], "id\nwith a line");
        assert_eq!(parse_upload(&text), Some((keys[1], "id\nwith a line")));
    }

    #[test]
    fn a_preamble_is_what_was_written_or_nothing() {
        for (is_apart, object_bytes) in [(false, PREAMBLE_BYTES + 77), (true, PREAMBLE_BYTES)] {
            let entry = Entry { attempt: Attempt(u128::MAX / 7), bytes: 77, is_apart };
            let good = entry.preamble();
            assert_eq!(Entry::parse(&good, object_bytes), Some(entry));
            assert_eq!(Entry::parse(&good, object_bytes + 1), None, "an object of another length");
            assert_eq!(Entry::parse(&good[1..], object_bytes), None);
            for bit in 0..good.len() * 8 {
                let mut bad = good;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Entry::parse(&bad, object_bytes), None, "bit {bit}");
            }
        }
    }
}
