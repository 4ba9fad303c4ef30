//! Directory and trailer: written, and read from bytes that may be anything.

use ec_core::fragment::NAME_BYTES_MAX;

/// Bytes of the trailer, the last of the stream.
pub const TRAILER_BYTES: usize = 64;
/// Longest directory: about 200,000 files with the names people give them. A writer with more begins another pack.
pub const DIRECTORY_BYTES_MAX: u64 = 16 << 20;

const MAGIC: &[u8; 8] = b"NFPACK01";
/// The part of the trailer that is hashed, behind the directory.
const FIELDS_BYTES: usize = 32;
const HASH_BYTES: usize = 32;

const _: () = assert!(TRAILER_BYTES == FIELDS_BYTES + HASH_BYTES);
// The number of files is 4 bytes in the trailer; a file has at least one byte of directory.
const _: () = assert!(DIRECTORY_BYTES_MAX <= u32::MAX as u64);

/// One file of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// Its name: a relative path, `/` between its parts.
    pub name: Vec<u8>,
    /// Where it begins in the stream.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
}

/// The files of a pack, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackIndex {
    entries: Vec<PackEntry>,
}

/// Why bytes are not the directory of a pack, or why files cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// More of the end of the stream is needed, or there is no more.
    #[error("the last {needed} bytes of the pack are needed, there are {found}")]
    TooShort {
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The stream does not end in a trailer of this version.
    #[error("no trailer of a pack")]
    Magic,
    /// The trailer does not fit the length of the stream.
    #[error(
        "a directory of {directory_bytes} bytes at {offset} does not end at the trailer of a pack of {stream_bytes} bytes"
    )]
    Place {
        /// Where the directory should begin.
        offset: u64,
        /// Its length.
        directory_bytes: u64,
        /// Length of the stream.
        stream_bytes: u64,
    },
    /// Longer than any writer makes it.
    #[error("a directory of {directory_bytes} bytes; at most {DIRECTORY_BYTES_MAX} are allowed")]
    TooLong {
        /// Length of the directory.
        directory_bytes: u64,
    },
    /// Directory and trailer are not what was written.
    #[error("directory and trailer do not match their hash")]
    Damaged,
    /// The entries do not fill the directory, or are not as many as the trailer says.
    #[error("the directory ends inside or behind entry {entry}")]
    Entries {
        /// Which entry, from 0.
        entry: usize,
    },
    /// A name that could lead out of a folder, or is none.
    #[error("entry {entry}: not a relative path of at most {NAME_BYTES_MAX} bytes: {name:?}")]
    Name {
        /// Which entry, from 0.
        entry: usize,
        /// The name, as far as it is text.
        name: String,
    },
    /// Two files of one name.
    #[error("two files are named {name:?}")]
    NameTwice {
        /// The name, as far as it is text.
        name: String,
    },
    /// The files do not lie back to back from 0 to the directory.
    #[error("entry {entry} begins at {offset}, the bytes before end at {expected}")]
    Gap {
        /// Which entry; the number of entries stands for the directory.
        entry: usize,
        /// Where it begins.
        offset: u64,
        /// Where it should begin.
        expected: u64,
    },
}

impl PackIndex {
    /// Reads the directory of a pack of `stream_bytes` bytes. `end` is the end of the stream, as much of it as is at hand;
    /// where that is too little, the error says how much is needed.
    ///
    /// # Errors
    /// [`PackError`], for any bytes that [`PackSource`](super::PackSource) would not write.
    pub fn parse(stream_bytes: u64, end: &[u8]) -> Result<Self, PackError> {
        let trailer = Trailer::parse(stream_bytes, end)?;
        let needed = trailer.directory_bytes + TRAILER_BYTES as u64;
        let too_short = || PackError::TooShort { needed, found: end.len() as u64 };
        let start =
            usize::try_from(needed).ok().and_then(|needed| end.len().checked_sub(needed)).ok_or_else(too_short)?;
        let (sealed, hash) = end[start..].split_last_chunk::<HASH_BYTES>().ok_or_else(too_short)?;
        if blake3::hash(sealed).as_bytes() != hash {
            return Err(PackError::Damaged);
        }
        let directory = &sealed[..sealed.len() - FIELDS_BYTES];
        let entries = read_entries(directory, trailer.files)?;
        check_back_to_back(&entries, trailer.directory_offset)?;
        check_names_differ(&entries)?;
        Ok(Self { entries })
    }

    /// The files, in the order of their bytes.
    pub fn entries(&self) -> &[PackEntry] {
        &self.entries
    }
}

/// The fields of a trailer whose numbers fit the stream. Its hash was not looked at yet.
struct Trailer {
    directory_offset: u64,
    directory_bytes: u64,
    files: usize,
}

impl Trailer {
    fn parse(stream_bytes: u64, end: &[u8]) -> Result<Self, PackError> {
        let too_short = PackError::TooShort { needed: TRAILER_BYTES as u64, found: end.len() as u64 };
        let mut rest =
            end.split_last_chunk::<TRAILER_BYTES>().map(|(_, trailer)| trailer.as_slice()).ok_or(too_short)?;
        if take(&mut rest) != Some(*MAGIC) {
            return Err(PackError::Magic);
        }
        // A trailer is long enough for its fields; a zero would be refused like any other wrong number.
        let mut number = || take(&mut rest).map_or(0, u64::from_le_bytes);
        let (offset, directory_bytes, files) = (number(), number(), number());
        if directory_bytes > DIRECTORY_BYTES_MAX {
            return Err(PackError::TooLong { directory_bytes });
        }
        let ends_at = offset.checked_add(directory_bytes + TRAILER_BYTES as u64);
        if ends_at != Some(stream_bytes) {
            return Err(PackError::Place { offset, directory_bytes, stream_bytes });
        }
        // More files than bytes of directory are refused before anything is kept for them.
        let files = usize::try_from(files.min(directory_bytes + 1)).map_err(|_| PackError::Entries { entry: 0 })?;
        Ok(Self { directory_offset: offset, directory_bytes, files })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

fn read_entries(mut rest: &[u8], files: usize) -> Result<Vec<PackEntry>, PackError> {
    let mut entries = Vec::new();
    while entries.len() < files {
        let entry = entries.len();
        let (name, offset, bytes) = read_entry(&mut rest).ok_or(PackError::Entries { entry })?;
        check_name(entry, name)?;
        entries.push(PackEntry { name: name.to_vec(), offset, bytes });
    }
    if rest.is_empty() { Ok(entries) } else { Err(PackError::Entries { entry: files }) }
}

fn read_entry<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], u64, u64)> {
    let name_bytes = u16::from_le_bytes(take(rest)?);
    let (name, behind) = rest.split_at_checked(name_bytes.into())?;
    *rest = behind;
    Some((name, u64::from_le_bytes(take(rest)?), u64::from_le_bytes(take(rest)?)))
}

fn check_name(entry: usize, name: &[u8]) -> Result<(), PackError> {
    let good_part = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    if name.len() <= NAME_BYTES_MAX && !name.contains(&0) && name.split(|byte| *byte == b'/').all(good_part) {
        return Ok(());
    }
    Err(PackError::Name { entry, name: String::from_utf8_lossy(name).into_owned() })
}

/// Each byte before the directory is of one file and no other: no pack unpacks to more than it is.
fn check_back_to_back(entries: &[PackEntry], directory_offset: u64) -> Result<(), PackError> {
    let mut expected = 0u64;
    for (entry, PackEntry { offset, bytes, .. }) in entries.iter().enumerate() {
        let gap = PackError::Gap { entry, offset: *offset, expected };
        if *offset != expected {
            return Err(gap);
        }
        expected = expected.checked_add(*bytes).ok_or(gap)?;
    }
    if expected == directory_offset {
        return Ok(());
    }
    Err(PackError::Gap { entry: entries.len(), offset: directory_offset, expected })
}

fn check_names_differ(entries: &[PackEntry]) -> Result<(), PackError> {
    let mut names: Vec<&[u8]> = entries.iter().map(|entry| &entry.name[..]).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(PackError::NameTwice { name: String::from_utf8_lossy(pair[0]).into_owned() }),
    }
}

/// The directory's bytes for one file.
pub(super) fn directory_entry(name: &[u8], offset: u64, bytes: u64) -> Result<Vec<u8>, PackError> {
    check_name(0, name)?;
    let Ok(name_bytes) = u16::try_from(name.len()) else {
        return Err(PackError::Name { entry: 0, name: String::from_utf8_lossy(name).into_owned() });
    };
    Ok([&name_bytes.to_le_bytes(), name, &offset.to_le_bytes(), &bytes.to_le_bytes()].concat())
}

/// Directory and trailer of a pack; what a reader would refuse is refused here.
pub(super) fn seal(directory: Vec<u8>, directory_offset: u64, files: usize) -> Result<Vec<u8>, PackError> {
    let directory_bytes = directory.len() as u64;
    let mut end = directory;
    end.extend_from_slice(MAGIC);
    for field in [directory_offset, directory_bytes, files as u64] {
        end.extend_from_slice(&field.to_le_bytes());
    }
    let hash = blake3::hash(&end);
    end.extend_from_slice(hash.as_bytes());
    PackIndex::parse(directory_offset.saturating_add(end.len() as u64), &end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pack whose trailer and hash are right, whatever the directory says.
    fn forged(content_bytes: usize, directory: &[u8], files: u64) -> Vec<u8> {
        let mut bytes = vec![7; content_bytes];
        let mut end = directory.to_vec();
        end.extend_from_slice(MAGIC);
        for field in [content_bytes as u64, directory.len() as u64, files] {
            end.extend_from_slice(&field.to_le_bytes());
        }
        let hash = blake3::hash(&end);
        bytes.extend(end);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    fn entry(name: &[u8], offset: u64, bytes: u64) -> Vec<u8> {
        [&(name.len() as u16).to_le_bytes(), name, &offset.to_le_bytes(), &bytes.to_le_bytes()].concat()
    }

    fn parse(bytes: &[u8]) -> Result<PackIndex, PackError> {
        PackIndex::parse(bytes.len() as u64, bytes)
    }

    fn small() -> Vec<u8> {
        forged(12, &[entry(b"a", 0, 5), entry(b"b/\xff\n", 5, 0), entry(b"b/c", 5, 7)].concat(), 3)
    }

    #[test]
    fn a_pack_reads_as_it_was_written() {
        let index = parse(&small()).unwrap();
        let entries: Vec<_> = index.entries().iter().map(|e| (&e.name[..], e.offset, e.bytes)).collect();
        assert_eq!(entries, [(&b"a"[..], 0, 5), (b"b/\xff\n", 5, 0), (b"b/c", 5, 7)]);
        assert!(parse(&forged(0, b"", 0)).unwrap().entries().is_empty());
    }

    #[test]
    fn the_golden_end_of_a_pack() {
        let end = seal(entry(b"a", 0, 1), 1, 1).unwrap();
        let hex: String = end.iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = "01006100000000000000000100000000000000\
                      4e465041434b3031010000000000000013000000000000000100000000000000";
        assert_eq!(hex, format!("{fields}{}", blake3::hash(&end[..end.len() - 32]).to_hex()));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_of_the_end_is_refused() {
        let good = small();
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "{length} bytes");
            assert!(
                PackIndex::parse(good.len() as u64, &good[..length]).is_err(),
                "{length} bytes, right length claimed"
            );
        }
        for bit in 12 * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad).is_err(), "bit {bit}");
        }
        assert!(PackIndex::parse(good.len() as u64 + 1, &good).is_err());
    }

    #[test]
    fn too_little_of_the_end_says_how_much_is_needed() {
        let good = small();
        for length in 0..good.len() - 12 {
            let Err(PackError::TooShort { needed, found }) =
                PackIndex::parse(good.len() as u64, &good[good.len() - length..])
            else {
                panic!("{length} bytes are not enough");
            };
            assert_eq!(found, length as u64);
            assert!(needed > found);
        }
        assert!(PackIndex::parse(good.len() as u64, &good[12..]).is_ok());
    }

    #[test]
    fn hostile_directories_with_right_hashes_are_refused() {
        for name in
            [&b""[..], b".", b"..", b"/a", b"a/", b"a//b", b"a/../b", b"./a", b"a\0b", &[b'x'; NAME_BYTES_MAX + 1]]
        {
            let refused = parse(&forged(4, &entry(name, 0, 4), 1));
            assert!(matches!(refused, Err(PackError::Name { entry: 0, .. })), "{name:?}: {refused:?}");
        }
        let two = |b: &[u8], at, bytes| [entry(b"a", 0, 2), entry(b, at, bytes)].concat();
        let cases = [
            (forged(4, &two(b"a", 2, 2), 2), "two equal names"),
            (forged(4, &two(b"b", 1, 3), 2), "overlap"),
            (forged(4, &two(b"b", 3, 1), 2), "gap"),
            (forged(4, &two(b"b", 2, 3), 2), "into the directory"),
            (forged(4, &two(b"b", 2, 1), 2), "gap before the directory"),
            (forged(4, &two(b"b", 2, u64::MAX), 2), "end near 2^64"),
            (forged(4, &two(b"b", u64::MAX, 2), 2), "offset near 2^64"),
            (forged(4, &two(b"b", 2, 2), 1), "fewer files than entries"),
            (forged(4, &two(b"b", 2, 2), 3), "more files than entries"),
            (forged(4, &two(b"b", 2, 2), u64::MAX), "2^64 files"),
            (forged(4, &[0xFF; 30], 1), "name beyond the directory"),
            (forged(4, b"", 0), "bytes of no file"),
        ];
        for (bytes, case) in cases {
            assert!(parse(&bytes).is_err(), "{case}");
        }
    }

    #[test]
    fn hostile_trailers_are_refused_before_anything_is_allocated() {
        for (at, value) in [(8, u64::MAX), (8, 13), (16, u64::MAX), (16, DIRECTORY_BYTES_MAX + 1), (16, 0)] {
            let mut bytes = small();
            let trailer = bytes.len() - TRAILER_BYTES;
            bytes[trailer + at..trailer + at + 8].copy_from_slice(&value.to_le_bytes());
            let refused = parse(&bytes);
            assert!(
                matches!(refused, Err(PackError::Place { .. } | PackError::TooLong { .. })),
                "{at} {value}: {refused:?}"
            );
        }
    }
}
