//! A regular file as it was when it was listed.

use crate::files::FilesError;
use crate::files::source::Stamp;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that was listed, and the promise to read no other: each read opens it anew, since a list may be longer than the
/// number of files a process may hold open, and compares it with what was listed.
#[derive(Clone, Debug)]
pub struct ListedFile {
    name: Vec<u8>,
    path: PathBuf,
    listed: Stamp,
}

impl ListedFile {
    /// Lists the regular file at `path` under `name`. It is opened once, so that one that cannot be read is found now and not
    /// half-way through the work.
    ///
    /// # Errors
    /// [`FilesError::Io`] where it cannot be opened, [`FilesError::Changed`] where it is no longer a regular file.
    pub fn new(path: PathBuf, name: Vec<u8>) -> Result<Self, FilesError> {
        let (_, listed) = open(&path)?;
        Ok(Self { name, path, listed })
    }

    /// Its name in the stream.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length when it was listed.
    pub fn bytes(&self) -> u64 {
        self.listed.bytes
    }

    /// Opens the file that was listed.
    ///
    /// # Errors
    /// [`FilesError::Changed`] where another file, or another state of it, is there now; [`FilesError::Io`].
    pub fn open(&self) -> Result<File, FilesError> {
        let (file, now) = open(&self.path)?;
        if now == self.listed { Ok(file) } else { Err(self.changed()) }
    }

    /// Fills `buffer` from `offset`; the range lies within the length.
    ///
    /// # Errors
    /// As [`ListedFile::open`].
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FilesError> {
        self.open()?.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(),
            _ => FilesError::io(&self.path, "read")(error),
        })
    }

    /// `Err` where the file is not what was listed.
    ///
    /// # Errors
    /// As [`ListedFile::open`].
    pub fn unchanged(&self) -> Result<(), FilesError> {
        self.open().map(drop)
    }

    #[cfg(test)]
    pub(super) fn renamed(&self, name: Vec<u8>) -> Self {
        Self { name, ..self.clone() }
    }

    fn changed(&self) -> FilesError {
        FilesError::Changed { path: self.path.clone() }
    }
}

fn open(path: &Path) -> Result<(File, Stamp), FilesError> {
    // Between the listing of a folder and now a FIFO or a symlink may have taken the name: wait for neither, follow neither.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let changed = || FilesError::Changed { path: path.to_path_buf() };
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO];
        match error.raw_os_error() {
            Some(code) if gone.iter().any(|errno| errno.raw_os_error() == code) => changed(),
            _ => FilesError::io(path, "open for reading")(error),
        }
    })?;
    let metadata = file.metadata().map_err(FilesError::io(path, "look at"))?;
    if metadata.is_file() { Ok((file, Stamp::of(&metadata))) } else { Err(changed()) }
}
