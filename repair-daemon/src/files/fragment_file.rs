//! One fragment's file: opened without being fooled by what lies at its name, and looked at by ranged reads.

use super::direct::DirectReader;
use super::slices::first_block;
use super::source::kind_name;
use super::{FilesError, Work};
use crate::piped::Piped;
use ec_core::fragment::{
    Class, FOOTER_BYTES, HEADER_BYTES, Hash, Header, Layout, Structure, Tail, bad_blocks, examine_structure,
    examine_tail, judge_payload,
};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes read at a time where a payload is read from one end to the other.
const READ_BYTES: usize = 1 << 20;

/// What is wrong with one fragment, and why that is known.
pub type Finding = (Class, String);

/// Either something about a fragment or what is wrong with it; the outer errors are not the fragment's fault.
pub type Looked<T> = Result<Result<T, Finding>, FilesError>;

/// A fragment whose header and tail are right. Its payload was not read yet.
#[derive(Debug)]
pub struct FragmentFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its header.
    pub header: Header,
    /// Its tail.
    pub tail: Tail,
    file: DirectReader,
}

impl FragmentFile {
    /// Opens the file at `path` and looks at header and tail.
    ///
    /// # Errors
    /// Only where the process is short of something: that says nothing about the fragment.
    pub fn open(path: &Path) -> Looked<Self> {
        // NOFOLLOW: a symlink is not a fragment. NONBLOCK: a FIFO put here must not make us wait.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) => return unreadable(path, error),
        };
        Self::of(file, path)
    }

    /// Looks at an open file; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`FragmentFile::open`].
    pub fn of(file: File, path: &Path) -> Looked<Self> {
        Self::read_by(file, path, |reader, buffer, offset| reader.file().read_exact_at(buffer, offset))
    }

    /// Looks at what an open file has on the device.
    ///
    /// # Errors
    /// As [`FragmentFile::open`].
    pub fn of_device(file: File, path: &Path) -> Looked<Self> {
        Self::read_by(file, path, DirectReader::read_exact_from_device)
    }

    fn read_by(
        file: File,
        path: &Path,
        read: impl Fn(&DirectReader, &mut [u8], u64) -> io::Result<()>,
    ) -> Looked<Self> {
        let file = DirectReader::new(file);
        let looked = file.file().metadata().and_then(|metadata| {
            if metadata.is_file() {
                look(metadata.len(), |offset, bytes| {
                    let mut buffer = vec![0; bytes];
                    read(&file, &mut buffer, offset)?;
                    Ok(buffer)
                })
            } else {
                Ok(Err((Class::Unreadable, format!("is a {}, not a file", kind_name(&metadata)))))
            }
        });
        match looked {
            Ok(Ok((header, tail))) => Ok(Ok(Self { path: path.to_path_buf(), header, tail, file })),
            Ok(Err(finding)) => Ok(Err(finding)),
            Err(error) => unreadable(path, error),
        }
    }

    /// The layout its header gives it.
    pub fn layout(&self) -> Layout {
        self.header.layout()
    }

    /// Reads a range of the payload. Nothing is compared yet: [`FragmentFile::check_blocks`].
    ///
    /// # Errors
    /// As [`FragmentFile::open`].
    pub fn read_payload(&self, offset: u64, buffer: &mut [u8]) -> Looked<()> {
        match self.file.read_exact_at(buffer, self.layout().payload_at + offset) {
            Ok(()) => Ok(Ok(())),
            Err(error) => unreadable(&self.path, error),
        }
    }

    /// Reads a range of the payload from the device, whatever is in memory. Nothing is compared yet.
    ///
    /// # Errors
    /// As [`FragmentFile::open`].
    pub fn read_payload_from_device(&self, offset: u64, buffer: &mut [u8]) -> Looked<()> {
        match self.file.read_exact_from_device(buffer, self.layout().payload_at + offset) {
            Ok(()) => Ok(Ok(())),
            Err(error) => unreadable(&self.path, error),
        }
    }

    /// A range of the payload as pages of the file, where they are in memory. Nothing is compared yet.
    pub fn pipe_payload(&self, offset: u64, bytes: usize) -> Option<Piped> {
        Piped::of(self.file.file(), self.layout().payload_at + offset, bytes)
    }

    /// Compares the CRCs of whole blocks that were read from `offset` of the payload.
    ///
    /// # Errors
    /// The finding.
    pub fn check_blocks(&self, offset: u64, blocks: &[u8]) -> Result<(), Finding> {
        let bad = bad_blocks(self.header.identity.seed(), &self.tail.table, first_block(offset), blocks);
        match bad.first() {
            None => Ok(()),
            Some(first) => Err((Class::RotPayload, format!("block {first} does not have its CRC"))),
        }
    }

    /// Reads the whole payload and compares every CRC and the root.
    ///
    /// # Errors
    /// As [`FragmentFile::open`], and [`FilesError::Interrupted`].
    pub fn check_payload(&self, work: &Work) -> Looked<()> {
        let bytes = self.layout().payload_bytes;
        let seed = self.header.identity.seed();
        let mut hasher = blake3::Hasher::new();
        let mut bad = Vec::new();
        let mut offset = 0;
        let read = work.with_buffer(READ_BYTES, |buffer| {
            while offset < bytes {
                work.check_stop()?;
                let piece = &mut buffer[..READ_BYTES.min(usize::try_from(bytes - offset).unwrap_or(READ_BYTES))];
                if let Err(finding) = self.read_payload(offset, piece)? {
                    return Ok(Err(finding));
                }
                bad.extend(bad_blocks(seed, &self.tail.table, first_block(offset), piece));
                hasher.update(piece);
                offset += piece.len() as u64;
                work.progress().inc(piece.len() as u64);
            }
            Ok(Ok(()))
        })?;
        let root = self.header.identity.root(&Hash::from(hasher.finalize()));
        Ok(read.and_then(|()| judge_payload(bad.len() as u64, &root, &self.tail.root)).map_err(|(class, reason)| {
            match bad.first() {
                Some(first) => (class, format!("{reason}, the first is block {first}")),
                None => (class, reason),
            }
        }))
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.file.file()
    }

    /// Number of the open file's inode: whether a name is still this file's.
    ///
    /// # Errors
    /// That of the system.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.file.file().metadata()?.ino())
    }

    /// Makes the next reads come from the device and not from memory, where the system lets us.
    pub fn forget_cached(&self) {
        let _ = rustix::fs::fadvise(self.file.file(), 0, None, rustix::fs::Advice::DontNeed);
    }
}

/// Looks at header and tail of a fragment of so many bytes, wherever `read` (offset, bytes) has them from.
pub(crate) fn look<E>(
    file_bytes: u64,
    read: impl Fn(u64, usize) -> Result<Vec<u8>, E>,
) -> Result<Result<(Header, Tail), Finding>, E> {
    // At most a block: the conversion fits.
    let within = |limit: usize| file_bytes.min(limit as u64) as usize;
    let header_bytes = read(0, within(HEADER_BYTES))?;
    let last = read(file_bytes - within(FOOTER_BYTES) as u64, within(FOOTER_BYTES))?;
    let (header, layout) = match examine_structure(file_bytes, &header_bytes, &last) {
        Structure::Ok(header, layout) => (header, layout),
        Structure::Damaged(class, reason) => return Ok(Err((class, reason))),
    };
    // The header's limits keep a tail below 1.1 MiB.
    let tail = read(layout.table_at, usize::try_from(layout.tail_bytes).unwrap_or(0))?;
    Ok(examine_tail(&header, &header_bytes, &tail).map(|tail| (header, tail)))
}

/// Turns an I/O error into a finding, unless it is about this process and not about the file.
pub(crate) fn unreadable<T>(path: &Path, error: io::Error) -> Looked<T> {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    if error.raw_os_error().is_some_and(|code| ours.iter().any(|errno| errno.raw_os_error() == code)) {
        return Err(FilesError::io(path, "open")(error));
    }
    Ok(Err(match error.kind() {
        io::ErrorKind::NotFound => (Class::Missing, "there is no such file".into()),
        // A file that shrinks between the look at its length and the read.
        io::ErrorKind::UnexpectedEof => (Class::TornCommitted, "ends before its length".into()),
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            (Class::Unreadable, "is a symlink, not a file".into())
        }
        _ if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            (Class::Unreadable, "is a socket, not a file".into())
        }
        _ => (Class::Unreadable, error.to_string()),
    }))
}
