//! Reads files back out of the cell and compares them with the originals, byte by byte, as they stream by.
//!
//! Checked: every byte of every file; the names the cell lists and where it says their bytes are; for a pack the directory, parsed
//! from what was read. Not checked: names and modes of originals after they were listed.

use crate::client::Cell;
use crate::files::FilesError;
use crate::files::error::printable;
use crate::files::source::ByteSource;
use crate::pack::{ListedFile, PackIndex, PackSource, Part};
use indicatif::ProgressBar;
use repair_core::id::StreamKey;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

/// Original bytes compared at a time. On the stack: small, and large enough that system calls do not show.
const COMPARE_BYTES: usize = 32 << 10;

/// What came of one stream.
#[derive(Debug, Default)]
pub struct Compared {
    /// Files of which a byte, or what the directory says of them, is wrong, or that cannot be decoded.
    pub wrong_files: Vec<usize>,
    /// Why, where it is more than a wrong byte.
    pub reason: Option<String>,
}

/// Reads the stream that was put from `source` as `folder/...` and compares it with `source`.
///
/// # Errors
/// [`FilesError::Changed`] where an original is no longer what was put: nothing can be said then. Others where the machine
/// fails. A stream that cannot be read is no error but a difference in all its files.
pub fn read_back(
    cell: &Cell,
    folder: &[u8],
    stream: StreamKey,
    source: &PackSource,
    progress: &ProgressBar,
) -> Result<Compared, FilesError> {
    let all_wrong =
        |reason: String| Compared { wrong_files: (0..source.files().len()).collect(), reason: Some(reason) };
    let comparison = Comparison::new(source);
    let whole = 0..source.bytes();
    match cell.read(stream, std::slice::from_ref(&whole), &|offset, bytes| comparison.take(offset, bytes), progress) {
        Ok(()) => {}
        Err(FilesError::Unrecoverable(reason) | FilesError::Unavailable(reason)) => return Ok(all_wrong(reason)),
        Err(error) => return Err(error),
    }
    // Asked last: an original that was changed while it was compared excuses every difference.
    source.unchanged()?;
    let mut compared = comparison.finish()?;
    if let Some(reason) = compare_names(cell, folder, stream, source)? {
        compared = all_wrong(reason);
    }
    Ok(compared)
}

/// The names under `folder/` that are of this stream must be those of the source, each at its place.
fn compare_names(
    cell: &Cell,
    folder: &[u8],
    stream: StreamKey,
    source: &PackSource,
) -> Result<Option<String>, FilesError> {
    let expected: BTreeSet<(Vec<u8>, u64, u64)> = source
        .files()
        .iter()
        .zip(source.starts())
        .map(|(file, start)| ([folder, file.name()].join(&b'/'), *start, file.bytes()))
        .collect();
    let mut found = BTreeSet::new();
    cell.each_name(&[folder, b"/"].concat(), &mut |name| {
        if name.row.stream == stream {
            found.insert((name.name, name.row.offset, name.row.bytes));
        }
        Ok(())
    })?;
    let shown = |name: &(Vec<u8>, u64, u64)| printable(&String::from_utf8_lossy(&name.0));
    let differs = expected.symmetric_difference(&found).next();
    Ok(differs.map(|name| format!("the cell does not list {:?} as it was put", shown(name))))
}

struct Comparison<'a> {
    source: &'a PackSource,
    gathered: Mutex<Gathered>,
}

struct Gathered {
    wrong: BTreeSet<usize>,
    /// Directory and trailer as read.
    end: Vec<u8>,
    bytes: u64,
}

impl<'a> Comparison<'a> {
    fn new(source: &'a PackSource) -> Self {
        let gathered = Gathered { wrong: BTreeSet::new(), end: vec![0; source.end_bytes()], bytes: 0 };
        Self { source, gathered: Mutex::new(gathered) }
    }

    /// Takes bytes of the stream at `offset`, on any thread.
    fn take(&self, offset: u64, bytes: &[u8]) -> Result<(), FilesError> {
        let gathered = || self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if offset + bytes.len() as u64 > self.source.bytes() {
            return Err(FilesError::internal("more bytes came back than were put"));
        }
        for part in self.source.parts(offset, bytes.len()) {
            match part {
                Part::OfFile { file, offset, within } => {
                    if !is_equal(&self.source.files()[file], offset, &bytes[within])? {
                        gathered().wrong.insert(file);
                    }
                }
                Part::OfEnd { offset, within } => {
                    gathered().end[offset..offset + within.len()].copy_from_slice(&bytes[within]);
                }
            }
        }
        gathered().bytes += bytes.len() as u64;
        Ok(())
    }

    fn finish(self) -> Result<Compared, FilesError> {
        let Gathered { mut wrong, end, bytes } = self.gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
        if bytes < self.source.bytes() {
            return Err(FilesError::internal("not every byte was compared"));
        }
        let reason = if end.is_empty() { None } else { compare_directory(self.source, &end, &mut wrong) };
        Ok(Compared { wrong_files: wrong.into_iter().collect(), reason })
    }
}

/// The directory must name the files that were packed, with their places; adds those that it does not.
fn compare_directory(source: &PackSource, end: &[u8], wrong: &mut BTreeSet<usize>) -> Option<String> {
    let index = match PackIndex::parse(source.bytes(), end) {
        Ok(index) => index,
        Err(error) => {
            wrong.extend(0..source.files().len());
            return Some(format!("the directory that came back is refused: {error}"));
        }
    };
    for (at, (file, start)) in source.files().iter().zip(source.starts()).enumerate() {
        let same = |entry: &crate::pack::PackEntry| {
            (&entry.name[..], entry.offset, entry.bytes) == (file.name(), *start, file.bytes())
        };
        if !index.entries().get(at).is_some_and(same) {
            wrong.insert(at);
        }
    }
    let (found, expected) = (index.entries().len(), source.files().len());
    (found != expected).then(|| format!("the directory that came back has {found} files, {expected} were packed"))
}

fn is_equal(original: &ListedFile, offset: u64, bytes: &[u8]) -> Result<bool, FilesError> {
    let file = original.open()?;
    let mut equal = true;
    for (piece, at) in bytes.chunks(COMPARE_BYTES).zip((offset..).step_by(COMPARE_BYTES)) {
        let mut buffer = [0; COMPARE_BYTES];
        let expected = &mut buffer[..piece.len()];
        read_original(&file, original, at, expected)?;
        equal &= expected == piece;
    }
    Ok(equal)
}

fn read_original(file: &File, original: &ListedFile, at: u64, buffer: &mut [u8]) -> Result<(), FilesError> {
    file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FilesError::Changed { path: original.path().to_path_buf() },
        _ => FilesError::io(original.path(), "read")(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn pack(folder: &Path) -> (PackSource, Vec<u8>) {
        let contents: [&[u8]; 4] = [b"first", b"", b"second", b"third"];
        let files = contents.iter().enumerate().map(|(at, content)| {
            let path = folder.join(at.to_string());
            fs::write(&path, content).unwrap();
            ListedFile::new(path, at.to_string().into_bytes()).unwrap()
        });
        let source = PackSource::new(files.collect()).unwrap();
        let mut bytes = vec![0; source.bytes() as usize];
        source.read_at(0, &mut bytes).unwrap();
        (source, bytes)
    }

    fn compare(source: &PackSource, decoded: &[u8], piece: usize) -> Compared {
        let comparison = Comparison::new(source);
        for (at, bytes) in decoded.chunks(piece).enumerate() {
            comparison.take((at * piece) as u64, bytes).unwrap();
        }
        comparison.finish().unwrap()
    }

    #[test]
    fn a_wrong_byte_anywhere_is_found_and_counts_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let (source, good) = pack(folder.path());
        for piece in [1, 3, 7, good.len()] {
            assert_eq!(compare(&source, &good, piece).wrong_files, [0usize; 0]);
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1;
                let wrong = compare(&source, &bad, piece).wrong_files;
                let expected: &[usize] = match at {
                    0..5 => &[0],
                    5..11 => &[2],
                    11..16 => &[3],
                    // The directory is sealed: no file of a pack with a broken one can be told from another.
                    _ => &[0, 1, 2, 3],
                };
                assert_eq!(wrong, expected, "byte {at} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_sound_directory_of_other_files_is_a_difference() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (source, good) = pack(one.path());
        let (same, _) = pack(two.path());
        let renamed = same.files().iter().enumerate().map(|(at, file)| {
            let name = if at == 2 { b"X".to_vec() } else { file.name().to_vec() };
            ListedFile::new(file.path().to_path_buf(), name).unwrap()
        });
        let other = PackSource::new(renamed.collect()).unwrap();
        let mut decoded = vec![0; other.bytes() as usize];
        other.read_at(0, &mut decoded).unwrap();
        assert_eq!(decoded.len(), good.len());
        assert_eq!(compare(&source, &decoded, 64).wrong_files, [2]);
    }

    #[test]
    fn bytes_that_never_came_are_not_taken_for_right() {
        let folder = tempfile::tempdir().unwrap();
        let (source, good) = pack(folder.path());
        let comparison = Comparison::new(&source);
        comparison.take(0, &good[..10]).unwrap();
        assert!(comparison.finish().is_err());
    }

    #[test]
    fn an_original_that_changed_is_an_error_and_no_difference() {
        let folder = tempfile::tempdir().unwrap();
        let (source, good) = pack(folder.path());
        fs::write(source.files()[2].path(), b"second, longer").unwrap();
        let refused = Comparison::new(&source).take(0, &good);
        assert!(matches!(refused, Err(FilesError::Changed { .. })), "{refused:?}");
    }
}
