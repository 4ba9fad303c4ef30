//! A data folder: locked by one process, labelled, with room held back. Fragments, journals and the index lie in it.

use super::Fence;
use super::folder::Folder;
use super::label::{LABEL, Label, LabelError, read_life, write_life};
use super::reserve::Reserve;
use crate::files::staged::random_u128;
use repair_core::id::DiskId;
use repair_core::lineage::Life;
use repair_core::node::StoreError;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const LOCK: &str = "lock";
/// How long a lock is waited for: its process may be ending, or it is held a moment longer by a process that was just forked from it.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("another node is running on it; stop that one or give this one a folder of its own")]
    Locked,
    /// There is no label, and it is not empty.
    #[error(
        "it is not empty and has no label, so it is not a disk of ours, or the disk is not mounted; give an empty or new folder"
    )]
    Foreign,
    /// There is no label, and nobody asked for a new disk.
    #[error(
        "there is no disk of ours: no folder, or no label in it; if its disk is not mounted, mount it and start again; to make a new disk of this folder, start once with --format"
    )]
    Unformatted,
    /// There is a label nobody can read.
    #[error("{0}; nothing was changed")]
    Label(String),
    /// The system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// What becomes of a data folder that is not there, or is empty and without a label. An empty mount point looks just like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlabelled {
    /// It is refused, and nothing is made in it.
    Refuse,
    /// It is made, and becomes a new disk. A disk that is one already is opened as it is.
    Format,
}

/// A data folder, locked by this process.
#[derive(Debug)]
pub(super) struct DataFolder {
    root: Folder,
    label: Mutex<Label>,
    life: Mutex<Option<Life>>,
    reserve: Reserve,
    pub(super) fence: Fence,
    /// Unlocks the folder when it is closed: last.
    _lock: File,
}

impl DataFolder {
    /// Opens a data folder.
    pub(super) fn open(path: &Path, unlabelled: Unlabelled) -> Result<Self, OpenError> {
        let io = |action: &'static str| move |source: io::Error| OpenError::Io { action, source };
        if unlabelled == Unlabelled::Format {
            make_folder(path, &mut sync_folder).map_err(io("make the folder"))?;
        }
        let root = match Folder::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::Unformatted),
            other => other.map_err(io("open the folder"))?,
        };
        let lock = lock(&root, unlabelled)?;
        let label = label(&root)?;
        let life = read_life(&root).map_err(unreadable)?;
        let reserve = Reserve::new(&root);
        Ok(Self {
            root,
            label: Mutex::new(label),
            life: Mutex::new(life),
            reserve,
            fence: Fence::default(),
            _lock: lock,
        })
    }

    /// A folder in it, made if it is not there. Durable after [`DataFolder::sync`].
    pub(super) fn part(&self, name: &str) -> io::Result<Folder> {
        self.root.folder_or_new(name)
    }

    /// Makes the names of its parts durable, those too of a life that ended before it synced them.
    pub(super) fn sync(&self) -> Result<(), OpenError> {
        self.root.sync().map_err(|source| OpenError::Io { action: "force the folder to the disk", source })
    }

    /// The label, as it was last read or written.
    pub(super) fn label(&self) -> Label {
        *self.label.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life beside the label, as it was last read or written.
    pub(super) fn life(&self) -> Option<Life> {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts this life beside the label, durably.
    pub(super) fn set_life(&self, wanted: Life) -> Result<(), StoreError> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if *life != Some(wanted) {
            write_life(&self.root, wanted).map_err(|error| super::as_store_error("write the life", &error))?;
            *life = Some(wanted);
        }
        Ok(())
    }

    /// Gives the label its cell, durably.
    pub(super) fn set_label(&self, wanted: Label) -> Result<(), StoreError> {
        let mut label = self.label.lock().unwrap_or_else(PoisonError::into_inner);
        if *label == wanted {
            return Ok(());
        }
        Label::check_change(Some(*label), wanted)?;
        wanted.write(&self.root).map_err(|error| self.fence.close("write the label", &error))?;
        *label = wanted;
        Ok(())
    }

    /// Whether the disk is there at all: its label is.
    pub(super) fn is_there(&self) -> Result<(), StoreError> {
        let disk = self.label().disk;
        let what = match Label::read(&self.root) {
            Ok(Some(label)) if label.disk == disk => return Ok(()),
            // The system may be short of something for a moment: that says nothing about the disk.
            Err(LabelError::Io(error)) => return Err(StoreError::Io(format!("cannot read the label: {error}"))),
            Ok(Some(_)) => "the label is another disk's".to_owned(),
            Ok(None) => "the label is gone".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(self.fence.close_over(format!("{what}: nothing can be said about this disk")))
    }

    /// Bytes free and bytes in all; takes the room held back again, if there is plenty.
    pub(super) fn room(&self) -> io::Result<(u64, u64)> {
        // A disk that vanished leaves its folder open and empty, with the room of whatever lies under it.
        self.is_there().map_err(io::Error::other)?;
        self.reserve.restore(&self.root);
        self.root.room()
    }

    /// Deletes must work on a full disk, and they need room: the reserve is for that.
    pub(super) fn even_if_full<T>(&self, job: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.fence.check()?;
        match job() {
            Err(StoreError::NoSpace(_)) if self.reserve.release(&self.root) => {
                self.fence.check()?;
                job()
            }
            other => other,
        }
    }
}

/// Makes the folder, and those it lies in, and has the name of each made durable by `sync` of the folder that has it. One that is
/// there may be of a life that ended before it could do so.
fn make_folder(path: &Path, sync: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if path.is_dir() {
        return match sync(parent) {
            // Somebody else's folder, and made by somebody else, who saw to it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    make_folder(parent, sync)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync(parent)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn lock(root: &Folder, unlabelled: Unlabelled) -> Result<File, OpenError> {
    let io = |source: io::Error| OpenError::Io { action: "lock the folder", source };
    // Not even a lock is left in a folder that is not ours.
    if !root.has(LABEL).map_err(io)? {
        if !is_ours(root).map_err(io)? {
            return Err(OpenError::Foreign);
        }
        if unlabelled == Unlabelled::Refuse {
            return Err(OpenError::Unformatted);
        }
    }
    let file = root.open_or_new_file(LOCK).map_err(io)?;
    let since = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if since.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(OpenError::Locked),
            Err(error) => return Err(io(error.into())),
        }
    }
}

/// Whether a folder without a label is empty, or holds only what a crash leaves that came before the label.
fn is_ours(root: &Folder) -> io::Result<bool> {
    let before_label = [LOCK, "label.new", "lost+found"];
    Ok(root.names()?.iter().all(|name| before_label.contains(&name.as_str())))
}

fn unreadable(error: LabelError) -> OpenError {
    match error {
        LabelError::Io(source) => OpenError::Io { action: "read the label", source },
        other => OpenError::Label(other.to_string()),
    }
}

/// The label, written if there is none.
fn label(root: &Folder) -> Result<Label, OpenError> {
    if let Some(label) = Label::read(root).map_err(unreadable)? {
        return Ok(label);
    }
    let io = |source: io::Error| OpenError::Io { action: "write the label", source };
    let disk = random_u128().map_err(|error| io(io::Error::other(error)))?;
    let label = Label { disk: DiskId(disk), cell: None };
    label.write(root).map_err(io)?;
    Ok(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_name_of_every_folder_made_is_made_durable() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path();
        let synced = |path: &Path| {
            let mut synced: Vec<PathBuf> = Vec::new();
            make_folder(path, &mut |folder| {
                synced.push(folder.strip_prefix(base).map(Path::to_owned).unwrap_or_default());
                sync_folder(folder)
            })
            .unwrap();
            synced
        };
        let path = base.join("a/b/c");
        let made = synced(&path);
        for parent in ["", "a", "a/b"] {
            assert!(made.contains(&PathBuf::from(parent)), "{parent:?} in {made:?}");
        }
        assert!(path.is_dir());
        // A life that was killed behind a `mkdir`.
        assert_eq!(synced(&path), [PathBuf::from("a/b")]);
        assert_eq!(synced(&base.join("a/b/d")), [PathBuf::from("a"), PathBuf::from("a/b")]);
    }
}
