//! The files of a folder to be put.

use crate::files::FilesError;
use crate::files::error::shown;
use crate::files::source::kind_name;
use crate::pack::ListedFile;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What lies under a folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// Its regular files, folder by folder, by name; each name is relative to the folder.
    pub files: Vec<ListedFile>,
    /// How many entries of each other kind were skipped.
    pub skipped: BTreeMap<&'static str, u64>,
}

impl Listing {
    /// How many entries were skipped.
    pub fn skipped_count(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// The same in words, kind by kind.
    pub fn skipped_words(&self) -> String {
        let words =
            self.skipped.iter().map(|(kind, count)| format!("{count} {kind}{}", if *count == 1 { "" } else { "s" }));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Lists every regular file under `root`, whatever its name, without following a symlink below it.
///
/// # Errors
/// [`FilesError::Usage`] where there is none, [`FilesError::Io`] naming what cannot be read, and that of `check_stop`.
pub fn list_folder(root: &Path, check_stop: &dyn Fn() -> Result<(), FilesError>) -> Result<Listing, FilesError> {
    let mut found = Listing::default();
    // Folders still to be listed, the next one last. A stack of its own: no depth of folders ends the process.
    let mut folders: Vec<(PathBuf, Vec<u8>)> = vec![(root.to_path_buf(), Vec::new())];
    while let Some((folder, prefix)) = folders.pop() {
        check_stop()?;
        let listing = fs::read_dir(&folder).map_err(FilesError::io(&folder, "list"))?;
        let mut entries = listing.collect::<Result<Vec<_>, _>>().map_err(FilesError::io(&folder, "list"))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        let mut below = Vec::new();
        for entry in entries {
            let (path, own) = (entry.path(), entry.file_name());
            let name = if prefix.is_empty() { own.as_bytes().to_vec() } else { [&prefix, own.as_bytes()].join(&b'/') };
            // Of the entry itself: a symlink is a symlink.
            let metadata = entry.metadata().map_err(FilesError::io(&path, "look at"))?;
            if metadata.is_dir() {
                below.push((path, name));
            } else if metadata.is_file() {
                found.files.push(ListedFile::new(path, name)?);
            } else {
                *found.skipped.entry(kind_name(&metadata)).or_default() += 1;
            }
        }
        folders.extend(below.into_iter().rev());
    }
    if found.files.is_empty() {
        return Err(FilesError::Usage(format!("{}: holds no regular file; there is nothing to store", shown(root))));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_are_listed_and_all_else_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("b/.git")).unwrap();
        for name in ["a", "b/.git/x", "b/c", "b.txt"] {
            fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let found = list_folder(root.path(), &|| Ok(())).unwrap();
        let names: Vec<_> = found.files.iter().map(|file| String::from_utf8_lossy(file.name()).into_owned()).collect();
        assert_eq!(names, ["a", "b.txt", "b/c", "b/.git/x"]);
        assert_eq!((found.skipped_count(), found.skipped_words().as_str()), (1, "1 symlink"));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(list_folder(empty.path(), &|| Ok(())), Err(FilesError::Usage(_))));
        let stop = list_folder(root.path(), &|| Err(FilesError::Interrupted));
        assert!(matches!(stop, Err(FilesError::Interrupted)));
    }
}
