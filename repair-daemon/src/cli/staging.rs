//! A folder that fills in one go: files are made in a staging folder inside it and get their names when all are whole.
//!
//! Who writes into a folder of fragments holds a lock on it. What a killed command left there is finished or removed by whoever
//! comes next: in the staging folder nothing is whole yet, so it is removed; in the publishing folder everything is whole and
//! synced, so the rest is moved to its place.

use crate::files::FilesError;
use crate::files::error::shown;
use crate::files::staged::{Replace, folder_of, rename, sync_folder};
use ec_core::fragment::FragmentName;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const STAGING: &str = ".ninefold-staging";
/// What the staging folder is called once everything in it is whole and synced.
const PUBLISHING: &str = ".ninefold-publishing";

/// The right to write into a folder of fragments, for as long as it lives.
#[derive(Debug)]
pub struct FolderLock {
    /// `None` where the file system has no locks.
    _locked: Option<File>,
}

impl FolderLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`FilesError::Busy`] where another command has it, [`FilesError::Io`].
    pub fn take(folder: &Path) -> Result<Self, FilesError> {
        Self::try_take(folder)?.ok_or_else(|| in_use(folder))
    }

    /// The lock, or `None` where another command has it.
    fn try_take(folder: &Path) -> Result<Option<Self>, FilesError> {
        let opened = File::open(folder).map_err(FilesError::io(folder, "open"))?;
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _locked: Some(opened) })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS) => Ok(Some(Self { _locked: None })),
            Err(error) => Err(FilesError::io(folder, "lock")(error.into())),
        }
    }
}

/// A target folder and the staging folder in it. Dropped before [`Staging::publish`] succeeded, it takes away all it made.
#[derive(Debug)]
pub struct Staging {
    target: PathBuf,
    staging: PathBuf,
    /// Folders that did not exist before, outermost first.
    made: Vec<PathBuf>,
    _lock: FolderLock,
}

impl Staging {
    /// Takes a folder that does not exist or is empty.
    ///
    /// # Errors
    /// [`FilesError::Usage`] where it is neither, [`FilesError::Io`].
    pub fn new(target: &Path) -> Result<Self, FilesError> {
        let mut made = Vec::new();
        let staging = target.join(STAGING);
        match make_folders(target, &mut made).and_then(|()| take_empty(target, &staging)) {
            Ok(lock) => Ok(Self { target: target.to_path_buf(), staging, made, _lock: lock }),
            Err(error) => {
                remove_made(&made);
                Err(error)
            }
        }
    }

    /// Where files are made.
    pub fn folder(&self) -> &Path {
        &self.staging
    }

    /// Gives every file its name in the target folder.
    ///
    /// # Errors
    /// [`FilesError::Io`]. Either nothing has its name then, or the next command on the folder finishes what was begun.
    pub fn publish(mut self) -> Result<(), FilesError> {
        sync_folder(&self.staging)?;
        let publishing = self.target.join(PUBLISHING);
        rename(&self.staging, &publishing, Replace::Existing).map_err(FilesError::io(&publishing, "publish"))?;
        let made = std::mem::take(&mut self.made);
        sync_folder(&self.target)?;
        move_out(&publishing, &self.target)?;
        made.iter().try_for_each(|folder| sync_folder(folder_of(folder)))
    }
}

/// Moves everything in the publishing folder to its place. Can be stopped and begun again anywhere.
fn move_out(publishing: &Path, target: &Path) -> Result<(), FilesError> {
    for entry in fs::read_dir(publishing).map_err(FilesError::io(publishing, "list"))? {
        let staged = entry.map_err(FilesError::io(publishing, "list"))?.path();
        let file_name = staged.file_name().unwrap_or_default();
        // Nothing else was put here by an encode.
        if file_name.to_str().and_then(FragmentName::parse).is_some() {
            let name = target.join(file_name);
            rename(&staged, &name, Replace::Never).map_err(FilesError::io(&name, "publish"))?;
        }
    }
    sync_folder(target)?;
    fs::remove_dir(publishing).map_err(FilesError::io(publishing, "remove"))?;
    sync_folder(target)
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.staging);
        remove_made(&self.made);
    }
}

/// Creates the folder and those above it that are missing, and notes which.
fn make_folders(target: &Path, made: &mut Vec<PathBuf>) -> Result<(), FilesError> {
    match fs::create_dir(target) {
        Ok(()) => made.push(target.to_path_buf()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = target.parent().filter(|above| !above.as_os_str().is_empty());
            make_folders(above.ok_or_else(|| FilesError::io(target, "create")(error))?, made)?;
            fs::create_dir(target).map_err(FilesError::io(target, "create"))?;
            made.push(target.to_path_buf());
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {
            if !target.is_dir() {
                return Err(FilesError::Usage(format!("{}: is not a folder", shown(target))));
            }
        }
        Err(error) => return Err(FilesError::io(target, "create")(error)),
    }
    Ok(())
}

fn remove_made(made: &[PathBuf]) {
    for folder in made.iter().rev() {
        // Only if empty: somebody may have put something there.
        let _ = fs::remove_dir(folder);
    }
}

/// Locks an empty folder and makes its staging folder.
fn take_empty(target: &Path, staging: &Path) -> Result<FolderLock, FilesError> {
    let lock = FolderLock::take(target)?;
    finish_abandoned(&lock, target)?;
    if fs::read_dir(target).map_err(FilesError::io(target, "list"))?.next().is_some() {
        return Err(FilesError::Usage(format!("{}: is not empty; name a new or an empty folder", shown(target))));
    }
    fs::create_dir(staging).map_err(FilesError::io(staging, "create"))?;
    Ok(lock)
}

/// The folders a reader of `target` looks at: also what a killed encode had not moved to its place yet.
pub fn folders_of(target: &Path) -> Vec<PathBuf> {
    let publishing = target.join(PUBLISHING);
    let mut folders = vec![target.to_path_buf()];
    folders.extend(Some(publishing).filter(|publishing| is_folder(publishing)));
    folders
}

/// Finishes or removes what an encode into this folder left that was killed. With the lock held, nobody else owns these folders.
///
/// # Errors
/// [`FilesError::Io`].
pub fn finish_abandoned(_lock: &FolderLock, target: &Path) -> Result<(), FilesError> {
    let (publishing, staging) = (target.join(PUBLISHING), target.join(STAGING));
    if is_folder(&publishing) {
        move_out(&publishing, target)?;
    }
    if is_folder(&staging) {
        fs::remove_dir_all(&staging).map_err(FilesError::io(&staging, "remove"))?;
    }
    Ok(())
}

/// A folder and not a symlink to one.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn in_use(target: &Path) -> FilesError {
    FilesError::Busy(target.to_path_buf())
}
