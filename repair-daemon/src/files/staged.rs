//! Files that get their name only once they are whole, proven and on the disk.
//!
//! A staged file has no name (`O_TMPFILE`), so a crash leaves nothing. Where the file system cannot do that, and for the moment in
//! which it takes the place of another, it has a name that no reader takes for a result, and is removed on every way out but a
//! crash.

use super::FilesError;
use super::direct::DirectFile;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// A file in the making.
#[derive(Debug)]
pub struct StagedFile {
    file: DirectFile,
    folder: PathBuf,
    named: Option<PathBuf>,
}

/// Whether publishing may take the place of a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// An existing name is an error.
    Never,
    /// An existing file is replaced in one step.
    Existing,
}

impl StagedFile {
    /// A new file in `folder`, with room for `bytes`, that is written past the cache: its bytes are to be synced.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn new(folder: &Path, bytes: u64) -> Result<Self, FilesError> {
        Self::made(folder, bytes, DirectFile::new)
    }

    /// The same, written into the cache: its bytes are not to be synced.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn cached(folder: &Path, bytes: u64) -> Result<Self, FilesError> {
        Self::made(folder, bytes, DirectFile::cached)
    }

    fn made(
        folder: &Path,
        bytes: u64,
        reserve: impl FnOnce(File, u64) -> io::Result<DirectFile>,
    ) -> Result<Self, FilesError> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // 0o666 less the umask, as any program's output.
        let mode = Mode::from_raw_mode(0o666);
        let (file, named) = match rustix::fs::openat(CWD, folder, flags, mode) {
            Ok(file) => (File::from(file), None),
            // Not every file system has nameless files; an old kernel says EISDIR.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
                let path = folder.join(staging_name()?);
                let file = File::options().read(true).write(true).create_new(true).open(&path);
                (file.map_err(FilesError::io(&path, "create"))?, Some(path))
            }
            Err(error) => return Err(FilesError::io(folder, "create a file in")(error.into())),
        };
        match reserve(file, bytes) {
            Ok(file) => Ok(Self { file, folder: folder.to_path_buf(), named }),
            Err(error) => {
                if let Some(path) = named {
                    let _ = fs::remove_file(path);
                }
                Err(FilesError::io(folder, "make room for a file in")(error))
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> &DirectFile {
        &self.file
    }

    /// Opens the file once more, for reading as anybody would.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn reopen(&self) -> Result<File, FilesError> {
        File::open(self.handle()).map_err(FilesError::io(&self.folder, "read back a new file in"))
    }

    /// A path to the file whether it has a name or not.
    fn handle(&self) -> String {
        format!("/proc/self/fd/{}", self.file.file().as_fd().as_raw_fd())
    }

    /// Forces the content to the disk. An error poisons the file: it is dropped, never synced again.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn sync(&self) -> Result<(), FilesError> {
        self.file.file().sync_data().map_err(FilesError::io(&self.folder, "force a new file to the disk in"))
    }

    /// Gives the synced file its name. The folder still has to be synced: [`sync_folder`].
    ///
    /// # Errors
    /// [`FilesError::Io`]; the file then has no name.
    pub fn publish(&mut self, path: &Path, replace: Replace) -> Result<(), FilesError> {
        let refused = |error: io::Error| FilesError::io(path, "publish")(error);
        if let Some(staging) = &self.named {
            rename(staging, path, replace).map_err(refused)?;
            self.named = None;
            return Ok(());
        }
        match self.link(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && replace == Replace::Existing => {
                let staging = self.folder.join(staging_name()?);
                self.link(&staging).map_err(refused)?;
                fs::rename(&staging, path).map_err(|error| {
                    let _ = fs::remove_file(&staging);
                    refused(error)
                })
            }
            other => other.map_err(refused),
        }
    }

    fn link(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::linkat(CWD, self.handle(), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(path) = &self.named {
            let _ = fs::remove_file(path);
        }
    }
}

/// Renames a file, without replacing another if so asked.
///
/// # Errors
/// That of the system; `AlreadyExists` where the name is taken and [`Replace::Never`] was asked for.
pub fn rename(from: &Path, to: &Path, replace: Replace) -> io::Result<()> {
    match replace {
        Replace::Existing => fs::rename(from, to),
        Replace::Never => match rustix::fs::renameat_with(CWD, from, CWD, to, rustix::fs::RenameFlags::NOREPLACE) {
            // Not every file system knows the flag; a hard link is exclusive everywhere else.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
            other => Ok(other?),
        },
    }
}

/// Makes new and changed names in the folder durable: a rename alone is not.
///
/// # Errors
/// [`FilesError::Io`].
pub fn sync_folder(folder: &Path) -> Result<(), FilesError> {
    let opened = File::open(folder).map_err(FilesError::io(folder, "open"))?;
    opened.sync_all().map_err(FilesError::io(folder, "force to the disk"))
}

/// A name that no command takes for a fragment or a result.
fn staging_name() -> Result<String, FilesError> {
    Ok(format!(".ninefold-staged-{:016x}", random_u128()? >> 64))
}

/// Random bits of the system.
///
/// # Errors
/// [`FilesError::Io`] where the system has none.
pub fn random_u128() -> Result<u128, FilesError> {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| FilesError::io(Path::new("system"), "draw random bits")(error.into()))?;
    }
    Ok(u128::from_le_bytes(bytes))
}

/// The folder a path lies in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
