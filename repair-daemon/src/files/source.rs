//! Where the bytes of a stream come from.

use super::FilesError;
use super::error::shown;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of known length that can be read anywhere, from several threads.
pub trait ByteSource: Sync {
    /// Length in bytes.
    fn bytes(&self) -> u64;

    /// Fills `buffer` from `offset`; the range lies within the length.
    ///
    /// # Errors
    /// [`FilesError::Io`], or [`FilesError::Changed`] where the bytes are no longer there.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FilesError>;

    /// Asked once after everything was read: is what was read still what is there?
    ///
    /// # Errors
    /// [`FilesError::Changed`] where it is not.
    fn unchanged(&self) -> Result<(), FilesError>;
}

/// A regular file, opened once.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    path: PathBuf,
    opened: Stamp,
}

/// What changes when a file is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl FileSource {
    /// Opens a regular file; symlinks are followed, as a user who names one expects.
    ///
    /// # Errors
    /// [`FilesError::Usage`] where the path is missing or no regular file, [`FilesError::Io`] where it cannot be read.
    pub fn open(path: &Path) -> Result<Self, FilesError> {
        // O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file =
            OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => FilesError::Usage(format!("{}: no such file", shown(path))),
                // ENXIO: a socket, or a device without a driver.
                _ if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                    not_regular(path, "socket")
                }
                _ => FilesError::io(path, "open for reading")(error),
            })?;
        let metadata = file.metadata().map_err(FilesError::io(path, "look at"))?;
        if !metadata.is_file() {
            return Err(not_regular(path, kind_name(&metadata)));
        }
        Ok(Self { file, path: path.to_path_buf(), opened: Stamp::of(&metadata) })
    }
}

fn not_regular(path: &Path, kind: &str) -> FilesError {
    FilesError::Usage(format!("{}: is a {kind}; only regular files can be stored", shown(path)))
}

/// A word for the kind of a file that is not regular.
pub fn kind_name(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "folder"
    } else if kind.is_symlink() {
        "symlink"
    } else if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

impl ByteSource for FileSource {
    fn bytes(&self) -> u64 {
        self.opened.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FilesError> {
        self.file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => FilesError::Changed { path: self.path.clone() },
            _ => FilesError::io(&self.path, "read")(error),
        })
    }

    fn unchanged(&self) -> Result<(), FilesError> {
        // Some files say they are empty and are not (/proc), and a file may have grown.
        let mut more = [0];
        if self.file.read_at(&mut more, self.opened.bytes).map_err(FilesError::io(&self.path, "read"))? > 0 {
            return Err(FilesError::Changed { path: self.path.clone() });
        }
        let now = self.file.metadata().map_err(FilesError::io(&self.path, "look at"))?;
        if Stamp::of(&now) == self.opened { Ok(()) } else { Err(FilesError::Changed { path: self.path.clone() }) }
    }
}
