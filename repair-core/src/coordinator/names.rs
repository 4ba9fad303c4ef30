//! Names and what they refer to: which are allowed, and what is left of a stream when names go.

use crate::catalog::{NameRow, StreamExtentRow, StreamRow};
use crate::id::ExtentKey;
use crate::limits::{NAME_BYTES_MAX, NAME_PART_BYTES_MAX};
use crate::wire::daemon::{EndOfStream, ExtentEntry, NameEntry};
use std::collections::BTreeSet;

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or too much.
    #[error("a name is 1 to {NAME_BYTES_MAX} bytes; this one is {bytes}")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// A byte no file system takes.
    #[error("a name holds no NUL byte")]
    Nul,
    /// A part between slashes that is empty, or that file systems give another meaning.
    #[error("a part of a name between slashes is neither empty nor `.` nor `..`")]
    Part,
    /// A part too long for file systems.
    #[error("a part of a name between slashes is at most {NAME_PART_BYTES_MAX} bytes; this one is {bytes}")]
    LongPart {
        /// Its length.
        bytes: usize,
    },
}

/// Whether a name may be stored: as a relative path it must be possible to write it back into a folder, and nowhere else.
///
/// # Errors
/// [`NameError`].
pub fn check_name(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(NameError::Length { bytes: name.len() });
    }
    if name.contains(&0) {
        return Err(NameError::Nul);
    }
    for part in name.split(|byte| *byte == b'/') {
        if part.is_empty() || part == b"." || part == b".." {
            return Err(NameError::Part);
        }
        if part.len() > NAME_PART_BYTES_MAX {
            return Err(NameError::LongPart { bytes: part.len() });
        }
    }
    Ok(())
}

/// Whether bytes of a name lie in an extent.
fn refers(offset: u64, bytes: u64, extent: &StreamExtentRow) -> bool {
    let end = offset.saturating_add(bytes);
    bytes > 0 && extent.bytes > 0 && offset < extent.offset.saturating_add(extent.bytes) && end > extent.offset
}

/// The row of a stream that ends now, from its extents and its names.
///
/// # Errors
/// What does not fit together, in words.
pub fn whole_stream<'a>(
    stream: crate::id::StreamKey,
    extents: &[ExtentEntry],
    names: impl IntoIterator<Item = &'a NameEntry>,
    end: &EndOfStream,
) -> Result<StreamRow, String> {
    if extents.len() as u64 != end.extents {
        return Err(format!("{} extents are committed, the stream is said to have {}", extents.len(), end.extents));
    }
    let mut at = 0u64;
    for (ordinal, extent) in (0u64..).zip(extents) {
        if extent.ordinal != ordinal || extent.offset != at {
            return Err(format!(
                "extent {ordinal} should begin at byte {at}; extent {} at {}",
                extent.ordinal, extent.offset
            ));
        }
        at = at.checked_add(extent.bytes).ok_or("extents longer than a number holds")?;
    }
    if at != end.bytes {
        return Err(format!("the extents hold {at} bytes, the stream is said to have {}", end.bytes));
    }
    let row_of = |extent: &ExtentEntry| StreamExtentRow {
        extent: extent.extent,
        offset: extent.offset,
        bytes: extent.bytes,
        names: 0,
    };
    let mut row = StreamRow { stream, bytes: end.bytes, extents: extents.iter().map(row_of).collect(), names: 0 };
    let mut seen = BTreeSet::new();
    for name in names {
        check_name(&name.name).map_err(|error| error.to_string())?;
        if !seen.insert(&name.name) {
            return Err(format!("a name comes twice: {:?}", String::from_utf8_lossy(&name.name)));
        }
        if name.offset.checked_add(name.bytes).is_none_or(|end| end > row.bytes) {
            return Err(format!("{} bytes at {} are not in the stream", name.bytes, name.offset));
        }
        row.names += 1;
        for extent in touched(&mut row.extents, name.offset, name.bytes) {
            extent.names += 1;
        }
    }
    match row.names {
        0 => Err("a stream without a name could never be found or removed".into()),
        names if names != end.names => Err(format!("{names} names were sent, there are said to be {}", end.names)),
        _ => Ok(row),
    }
}

fn touched(extents: &mut [StreamExtentRow], offset: u64, bytes: u64) -> impl Iterator<Item = &mut StreamExtentRow> {
    // In order of offset: those before the first byte are skipped by halves, a stream may have thousands.
    let first = extents.partition_point(|extent| extent.offset.saturating_add(extent.bytes) <= offset);
    extents[first..]
        .iter_mut()
        .take_while(move |extent| extent.offset < offset.saturating_add(bytes))
        .filter(move |extent| refers(offset, bytes, extent))
}

/// Takes names off a stream. Returns the extents that no name refers to any more; all of them, where no name is left.
///
/// An extent that no name ever referred to (the index of a pack may have one of its own) stays as long as the stream.
pub fn forget(row: &mut StreamRow, names: impl IntoIterator<Item = NameRow>) -> Vec<ExtentKey> {
    let mut doomed = Vec::new();
    for name in names {
        row.names = row.names.saturating_sub(1);
        for extent in touched(&mut row.extents, name.offset, name.bytes) {
            if extent.names == 1 {
                doomed.push(extent.extent);
            }
            extent.names = extent.names.saturating_sub(1);
        }
    }
    if row.names == 0 {
        // Also those doomed before: to delete them again does nothing.
        doomed = row.extents.iter().map(|extent| extent.extent).collect();
    }
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StreamKey;

    #[test]
    fn names_are_relative_paths_that_can_be_written_back() {
        let long_part = [b'x'; 256];
        let long: Vec<u8> = [&[b'x'; 255][..], b"/"].concat().repeat(17);
        for good in [&b"a"[..], b"a/b/c", b"...", b"a b\n\xff", b".hidden/..x", &long_part[..255]] {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
        for bad in [&b""[..], b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"a/.", b"a\0b", &long_part, &long] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(check_name(&vec![b'x'; 5000]), Err(NameError::Length { bytes: 5000 }));
        assert_eq!(check_name(&long_part), Err(NameError::LongPart { bytes: 256 }));
    }

    fn extents(lengths: &[u64]) -> Vec<ExtentEntry> {
        let mut offset = 0;
        let mut entry = |(ordinal, bytes): (u64, &u64)| {
            offset += bytes;
            ExtentEntry { ordinal, extent: ExtentKey(u128::from(ordinal) + 100), offset: offset - bytes, bytes: *bytes }
        };
        (0..).zip(lengths).map(&mut entry).collect()
    }

    fn name(name: &str, offset: u64, bytes: u64) -> NameEntry {
        NameEntry { name: name.into(), offset, bytes }
    }

    fn end(extents: u64, bytes: u64, names: u64) -> EndOfStream {
        EndOfStream { extents, bytes, names }
    }

    const STREAM: StreamKey = StreamKey(5);

    #[test]
    fn a_stream_counts_the_names_of_each_extent() {
        let names = [name("a", 0, 10), name("b", 10, 15), name("c", 25, 0), name("d", 20, 5)];
        let row = whole_stream(STREAM, &extents(&[10, 10, 5, 3]), &names, &end(4, 28, 4)).unwrap();
        assert_eq!(row.extents.iter().map(|extent| extent.names).collect::<Vec<_>>(), [1, 1, 2, 0]);
        assert_eq!((row.names, row.bytes), (4, 28));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let one = [name("a", 0, 10)];
        let refused = |extents: &[ExtentEntry], names: &[NameEntry], end: EndOfStream| {
            whole_stream(STREAM, extents, names, &end).unwrap_err()
        };
        assert!(refused(&extents(&[10]), &one, end(2, 10, 1)).contains("1 extents"));
        assert!(refused(&extents(&[10]), &one, end(1, 11, 1)).contains("10 bytes"));
        assert!(refused(&extents(&[10]), &one, end(1, 10, 2)).contains("1 names"));
        assert!(refused(&extents(&[10]), &[], end(1, 10, 0)).contains("without a name"));
        assert!(refused(&extents(&[10]), &[name("a", 5, 6)], end(1, 10, 1)).contains("not in the stream"));
        assert!(refused(&extents(&[10]), &[name("a", u64::MAX, 6)], end(1, 10, 1)).contains("not in the stream"));
        assert!(refused(&extents(&[10]), &[name("a", 0, 1), name("a", 1, 1)], end(1, 10, 2)).contains("twice"));
        assert!(refused(&extents(&[10]), &[name("a/../b", 0, 1)], end(1, 10, 1)).contains(".."));
        let mut gap = extents(&[10, 10]);
        gap[1].offset = 11;
        assert!(refused(&gap, &one, end(2, 20, 1)).contains("begin at byte 10"));
        gap[1] = ExtentEntry { ordinal: 2, offset: 10, ..gap[1] };
        assert!(refused(&gap, &one, end(2, 20, 1)).contains("extent 2"));
        let endless = [
            ExtentEntry { bytes: u64::MAX, ..extents(&[1])[0] },
            ExtentEntry { ordinal: 1, offset: u64::MAX, bytes: 2, ..gap[0] },
        ];
        assert!(refused(&endless, &one, end(2, 1, 1)).contains("longer"));
    }

    #[test]
    fn an_extent_goes_with_the_last_name_in_it_and_the_rest_with_the_last_of_all() {
        let names = [name("a", 0, 12), name("b", 12, 8), name("c", 0, 0)];
        let mut row = whole_stream(STREAM, &extents(&[10, 10, 7]), &names, &end(3, 27, 3)).unwrap();
        let gone = |offset, bytes| [NameRow { stream: STREAM, offset, bytes }];
        assert_eq!(forget(&mut row, gone(0, 12)), [ExtentKey(100)]);
        assert_eq!(forget(&mut row, gone(0, 0)), []);
        assert_eq!(row.names, 1);
        assert_eq!(forget(&mut row, gone(12, 8)), [ExtentKey(100), ExtentKey(101), ExtentKey(102)]);
        assert_eq!(row.names, 0);
    }

    #[test]
    fn names_that_go_together_are_counted_together() {
        let names = [name("a", 0, 5), name("b", 5, 5), name("c", 10, 5)];
        let mut row = whole_stream(STREAM, &extents(&[10, 5]), &names, &end(2, 15, 3)).unwrap();
        let both = [(0, 5), (5, 5)].map(|(offset, bytes)| NameRow { stream: STREAM, offset, bytes });
        assert_eq!(forget(&mut row, both), [ExtentKey(100)]);
        assert_eq!(row.extents[0].names, 0);
    }
}
