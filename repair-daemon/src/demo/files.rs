//! The files under a folder.

use crate::files::error::shown;
use crate::files::source::kind_name;
use crate::files::{FilesError, Work};
use crate::pack::ListedFile;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What cargo puts into a folder it builds in.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// What lies under a folder.
#[derive(Debug, Default)]
pub struct Found {
    /// Its regular files, folder by folder, by name.
    pub files: Vec<ListedFile>,
    /// How many entries of each other kind were skipped.
    pub skipped: BTreeMap<&'static str, u64>,
}

impl Found {
    /// How many entries were skipped.
    pub fn skipped_count(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// The same in words, kind by kind; empty where nothing was skipped.
    pub fn skipped_words(&self) -> String {
        let words =
            self.skipped.iter().map(|(kind, count)| format!("{count} {kind}{}", if *count == 1 { "" } else { "s" }));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Lists every regular file under `root`, without following a symlink below it. Left out: what is named `.git`, at any depth,
/// and folders named `target` that lie directly in `root` or that cargo marked as its own.
///
/// # Errors
/// [`FilesError::Usage`] where `root` is no folder or holds no file, [`FilesError::Io`] naming what cannot be read.
pub fn list(work: &Work, root: &Path) -> Result<Found, FilesError> {
    check_folder(root)?;
    let mut found = Found::default();
    // Folders still to be listed, the next one last. A stack of its own: no depth of folders ends the process.
    let mut folders: Vec<(PathBuf, Vec<u8>)> = vec![(root.to_path_buf(), Vec::new())];
    while let Some((folder, prefix)) = folders.pop() {
        work.check_stop()?;
        let mut below = Vec::new();
        for entry in sorted_entries(&folder)? {
            let (path, name) = (entry.path(), join(&prefix, &entry.file_name()));
            // Of the entry itself: a symlink is a symlink.
            let metadata = entry.metadata().map_err(FilesError::io(&path, "look at"))?;
            if metadata.is_dir() {
                if !is_left_out(&entry.file_name(), &path, prefix.is_empty()) {
                    below.push((path, name));
                }
            } else if entry.file_name() == ".git" {
                // A worktree or submodule has a file of this name.
            } else if metadata.is_file() {
                found.files.push(ListedFile::new(path, name)?);
            } else {
                *found.skipped.entry(kind_name(&metadata)).or_default() += 1;
            }
        }
        folders.extend(below.into_iter().rev());
    }
    if found.files.is_empty() {
        return Err(nothing(root, &found));
    }
    Ok(found)
}

fn check_folder(root: &Path) -> Result<(), FilesError> {
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(FilesError::Usage(format!("{}: is not a folder; name the folder the file is in", shown(root)))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(FilesError::Usage(format!("{}: no such folder", shown(root))))
        }
        Err(error) => Err(FilesError::io(root, "look at")(error)),
    }
}

fn nothing(root: &Path, found: &Found) -> FilesError {
    let skipped = match found.skipped_words() {
        words if words.is_empty() => String::new(),
        words => format!(" ({words} skipped)"),
    };
    FilesError::Usage(format!("{}: no regular files to protect{skipped}; name a folder that holds some", shown(root)))
}

fn sorted_entries(folder: &Path) -> Result<Vec<DirEntry>, FilesError> {
    let listing = fs::read_dir(folder).map_err(FilesError::io(folder, "list"))?;
    let mut entries = listing.collect::<Result<Vec<_>, _>>().map_err(FilesError::io(folder, "list"))?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

fn is_left_out(name: &OsStr, path: &Path, directly_in_root: bool) -> bool {
    name == ".git" || (name == "target" && (directly_in_root || path.join(CACHE_TAG).is_file()))
}

fn join(prefix: &[u8], name: &OsStr) -> Vec<u8> {
    if prefix.is_empty() { name.as_bytes().to_vec() } else { [prefix, name.as_bytes()].join(&b'/') }
}
