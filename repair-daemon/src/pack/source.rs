//! Files on the disk as the bytes of one stream.

use super::index::{DIRECTORY_BYTES_MAX, directory_entry, seal};
use super::{ListedFile, PackError};
use crate::files::FilesError;
use crate::files::source::ByteSource;
use std::ops::Range;

/// Files back to back, and behind them a directory and its trailer. Nothing is copied: the files are read where they lie.
#[derive(Debug)]
pub struct PackSource {
    files: Vec<ListedFile>,
    /// Where each file begins in the stream, and last where the files end.
    starts: Vec<u64>,
    /// Directory and trailer; empty for a file that is a stream of its own.
    end: Vec<u8>,
}

/// A run of bytes of a [`PackSource`] that lie in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes of a file.
    OfFile {
        /// Which file of the list.
        file: usize,
        /// Where they begin in the file.
        offset: u64,
        /// Where they lie in the range that was asked for.
        within: Range<usize>,
    },
    /// Bytes of directory and trailer.
    OfEnd {
        /// Where they begin in these.
        offset: usize,
        /// Where they lie in the range that was asked for.
        within: Range<usize>,
    },
}

impl PackSource {
    /// A pack of `files`.
    ///
    /// # Errors
    /// [`PackError`] where no reader would accept the directory: two equal names, a name that is no relative path, or too
    /// many files.
    pub fn new(files: Vec<ListedFile>) -> Result<Self, PackError> {
        let mut pack = Self::back_to_back(files);
        let mut directory = Vec::new();
        for (file, start) in pack.files.iter().zip(&pack.starts) {
            directory.extend(directory_entry(file.name(), *start, file.bytes())?);
        }
        pack.end = seal(directory, pack.directory_offset(), pack.files.len())?;
        Ok(pack)
    }

    /// One file as it is: a stream of its own.
    pub fn bare(file: ListedFile) -> Self {
        Self::back_to_back(vec![file])
    }

    /// Cuts a list into as many packs as the limit on a directory makes of it; usually one.
    ///
    /// # Errors
    /// As [`PackSource::new`].
    pub fn packs(files: Vec<ListedFile>) -> Result<Vec<Self>, PackError> {
        let (mut packs, mut next, mut directory_bytes) = (Vec::new(), Vec::new(), 0);
        for file in files {
            let entry_bytes = directory_entry(file.name(), 0, file.bytes())?.len() as u64;
            if directory_bytes + entry_bytes > DIRECTORY_BYTES_MAX {
                packs.push(Self::new(std::mem::take(&mut next))?);
                directory_bytes = 0;
            }
            directory_bytes += entry_bytes;
            next.push(file);
        }
        if !next.is_empty() {
            packs.push(Self::new(next)?);
        }
        Ok(packs)
    }

    fn back_to_back(files: Vec<ListedFile>) -> Self {
        let mut starts = vec![0];
        let mut at = 0;
        for file in &files {
            at += file.bytes();
            starts.push(at);
        }
        Self { files, starts, end: Vec::new() }
    }

    /// The files, in the order of their bytes.
    pub fn files(&self) -> &[ListedFile] {
        &self.files
    }

    /// Where each file begins, in the same order.
    pub fn starts(&self) -> &[u64] {
        &self.starts[..self.files.len()]
    }

    /// Bytes of directory and trailer; 0 where there is none.
    pub fn end_bytes(&self) -> usize {
        self.end.len()
    }

    fn directory_offset(&self) -> u64 {
        self.starts[self.files.len()]
    }

    /// The places of `bytes` bytes from `offset`, in order and without gaps. The range lies within the length.
    pub fn parts(&self, offset: u64, bytes: usize) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut done = 0;
        while done < bytes {
            let at = offset + done as u64;
            // The last that begins here or before: empty files begin where the next does and are passed over.
            let file = self.starts.partition_point(|start| *start <= at) - 1;
            let Some(next) = self.starts.get(file + 1) else {
                // Directory and trailer are in memory: their offsets fit.
                parts.push(Part::OfEnd { offset: (at - self.directory_offset()) as usize, within: done..bytes });
                break;
            };
            let here = usize::try_from(next - at).map_or(bytes - done, |left| left.min(bytes - done));
            parts.push(Part::OfFile { file, offset: at - self.starts[file], within: done..done + here });
            done += here;
        }
        parts
    }
}

impl ByteSource for PackSource {
    fn bytes(&self) -> u64 {
        self.directory_offset() + self.end.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FilesError> {
        for part in self.parts(offset, buffer.len()) {
            match part {
                Part::OfFile { file, offset, within } => self.files[file].read_at(offset, &mut buffer[within])?,
                Part::OfEnd { offset, within } => {
                    let end = self.end.get(offset..offset + within.len());
                    let end = end.ok_or_else(|| FilesError::internal("read past the end of a pack"))?;
                    buffer[within].copy_from_slice(end);
                }
            }
        }
        Ok(())
    }

    fn unchanged(&self) -> Result<(), FilesError> {
        self.files.iter().try_for_each(ListedFile::unchanged)
    }
}

#[cfg(test)]
mod tests {
    use super::super::PackIndex;
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Lengths with empty files first, last and side by side.
    const LENGTHS: &[usize] = &[0, 5, 0, 0, 1, 4096, 31, 0];

    fn listed(folder: &Path) -> (Vec<ListedFile>, Vec<u8>) {
        let mut all = Vec::new();
        let mut files = Vec::new();
        for (at, length) in LENGTHS.iter().enumerate() {
            let bytes: Vec<u8> = (0..*length).map(|i| ((i + 7 * at) % 251) as u8).collect();
            let path = folder.join(format!("f{at}"));
            fs::write(&path, &bytes).unwrap();
            files.push(ListedFile::new(path, format!("d/f{at}").into_bytes()).unwrap());
            all.extend(bytes);
        }
        (files, all)
    }

    fn read_all(source: &PackSource) -> Vec<u8> {
        let mut bytes = vec![0; source.bytes() as usize];
        source.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_pack_is_its_files_and_a_directory_that_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let (files, content) = listed(folder.path());
        let pack = PackSource::new(files).unwrap();
        let bytes = read_all(&pack);
        assert_eq!(&bytes[..content.len()], content);
        let index = PackIndex::parse(pack.bytes(), &bytes[content.len()..]).unwrap();
        let entries: Vec<_> =
            index.entries().iter().map(|entry| (&entry.name[..], entry.offset, entry.bytes)).collect();
        let expected: Vec<_> =
            pack.files().iter().zip(pack.starts()).map(|(file, start)| (file.name(), *start, file.bytes())).collect();
        assert_eq!(entries, expected);
        pack.unchanged().unwrap();
    }

    #[test]
    fn every_range_reads_as_the_whole_does() {
        let folder = tempfile::tempdir().unwrap();
        let pack = PackSource::new(listed(folder.path()).0).unwrap();
        let whole = read_all(&pack);
        for start in (0..whole.len()).filter(|at| !(20..4080).contains(at)) {
            for end in (start..=whole.len()).filter(|at| !(20..4080).contains(at)).step_by(3) {
                let mut piece = vec![0xAA; end - start];
                pack.read_at(start as u64, &mut piece).unwrap();
                assert_eq!(piece, whole[start..end], "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_bare_file_is_its_bytes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _) = listed(folder.path());
        let file = files[5].clone();
        let content = fs::read(file.path()).unwrap();
        assert_eq!(read_all(&PackSource::bare(file)), content);
    }

    #[test]
    fn a_file_that_is_not_what_was_listed_is_a_typed_error() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 5] = [
            ("grown", |path| fs::write(path, vec![1; 4097]).unwrap()),
            ("shrunk", |path| fs::write(path, b"x").unwrap()),
            ("touched", |path| {
                let later = fs::metadata(path).unwrap().modified().unwrap() + std::time::Duration::from_secs(1);
                fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
            }),
            ("gone", |path| fs::remove_file(path).unwrap()),
            ("a symlink", |path| {
                let elsewhere = path.with_extension("moved");
                fs::rename(path, &elsewhere).unwrap();
                std::os::unix::fs::symlink(elsewhere, path).unwrap();
            }),
        ];
        for (name, change) in changes {
            let folder = tempfile::tempdir().unwrap();
            let pack = PackSource::new(listed(folder.path()).0).unwrap();
            change(pack.files()[5].path());
            let mut bytes = vec![0; pack.bytes() as usize];
            let read = pack.read_at(0, &mut bytes);
            assert!(matches!(read, Err(FilesError::Changed { .. })), "{name}: {read:?}");
            assert!(matches!(pack.unchanged(), Err(FilesError::Changed { .. })), "{name}");
        }
    }

    #[test]
    fn a_list_too_long_for_one_directory_becomes_several_packs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        fs::write(&path, b"").unwrap();
        let long = |at: usize| format!("{:04000}", at).into_bytes();
        let one = ListedFile::new(path, long(0)).unwrap();
        let count = DIRECTORY_BYTES_MAX as usize / 4018 + 1;
        let files: Vec<ListedFile> = (0..count).map(|at| one.renamed(long(at))).collect();
        let packs = PackSource::packs(files).unwrap();
        assert_eq!(packs.iter().map(|pack| pack.files().len()).collect::<Vec<_>>(), [count - 1, 1]);
        for pack in &packs {
            PackIndex::parse(pack.bytes(), &read_all(pack)).unwrap();
        }
        assert!(PackSource::packs(Vec::new()).unwrap().is_empty());
    }

    #[test]
    fn names_that_no_reader_would_take_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _) = listed(folder.path());
        let named = |name: &[u8]| files[1].renamed(name.to_vec());
        assert!(matches!(PackSource::new(vec![named(b"../x")]), Err(PackError::Name { .. })));
        assert!(matches!(PackSource::new(vec![named(b"x"), named(b"x")]), Err(PackError::NameTwice { .. })));
    }
}
