//! The folder in which the demo's cell lives.

use crate::files::FilesError;
use crate::files::error::shown;
use crate::files::staged::random_u128;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The folder that holds all data of the cell, removed with it unless it is kept.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    keep: bool,
}

impl Home {
    /// A new temporary folder that only this user can enter, or the folder to keep, which must be new or empty.
    ///
    /// # Errors
    /// [`FilesError::Usage`] where the folder to keep is neither, [`FilesError::Io`].
    pub fn new(keep: Option<&Path>) -> Result<Self, FilesError> {
        if let Some(path) = keep {
            check_new_or_empty(path)?;
            fs::create_dir_all(path).map_err(FilesError::io(path, "create"))?;
            return Ok(Self { path: path.to_path_buf(), keep: true });
        }
        let path = std::env::temp_dir().join(format!("ninefold-demo-{:016x}", random_u128()? >> 64));
        DirBuilder::new().mode(0o700).create(&path).map_err(FilesError::io(&path, "create"))?;
        Ok(Self { path, keep: false })
    }

    /// Refuses early what would fail late and fill the disk until then.
    ///
    /// # Errors
    /// [`FilesError::Io`] where fewer than `needed_bytes` are free.
    pub fn check_room(&self, needed_bytes: u64) -> Result<(), FilesError> {
        // Where it cannot be told, writing will tell.
        let Ok(status) = rustix::fs::statvfs(&self.path) else { return Ok(()) };
        let free_bytes = status.f_bavail.saturating_mul(status.f_frsize);
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        let reason =
            format!("they need {needed_bytes} bytes, {free_bytes} are free; name another place with --keep or TMPDIR");
        Err(FilesError::io(&self.path, "write the fragments")(io::Error::new(io::ErrorKind::StorageFull, reason)))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Refuses a folder to keep that holds something or is none, before any work is done.
///
/// # Errors
/// [`FilesError::Usage`], [`FilesError::Io`].
pub fn check_new_or_empty(path: &Path) -> Result<(), FilesError> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(FilesError::Usage(format!("{}: is not empty; name a new or an empty folder", shown(path)))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(FilesError::Usage(format!("{}: is not a folder", shown(path))))
        }
        Err(error) => Err(FilesError::io(path, "list")(error)),
    }
}
