//! Getting into files: one name into a file, all names of a folder into a folder. Neither is there before it is whole.

use super::Cell;
use crate::files::FilesError;
use crate::files::error::{name_shown, shown};
use crate::files::staged::{Replace, StagedFile, folder_of, random_u128};
use indicatif::ProgressBar;
use repair_core::catalog::NameRow;
use repair_core::id::StreamKey;
use repair_core::wire::daemon::StoredName;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How often a name is looked up again whose bytes were replaced while they were read.
const RESTARTS_MAX: u32 = 16;

/// What was got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Gets what is stored under `name`: a file into the file `out`, replacing one that is there in one step; or all files of a folder
/// into the folder `out`, which must not exist or be empty. Of a name that is put over meanwhile it gets the old bytes or the
/// new: where they went while they were read, it begins anew. Like a copy, it is not forced to the disk.
///
/// # Errors
/// [`FilesError::NoSuchName`], [`FilesError`]; `out` is as it was then.
pub fn fetch(cell: &Cell, name: &[u8], out: &Path, progress: &ProgressBar) -> Result<Fetched, FilesError> {
    let mut restarts = 0;
    loop {
        progress.set_position(0);
        let fetched = match cell.lookup(name)? {
            Some(row) => fetch_file(cell, &row, out, progress),
            None => fetch_folder(cell, name, out, progress),
        };
        match fetched {
            Err(FilesError::Replaced(_)) if restarts < RESTARTS_MAX => restarts += 1,
            ended => return ended,
        }
    }
}

fn fetch_file(cell: &Cell, row: &NameRow, out: &Path, progress: &ProgressBar) -> Result<Fetched, FilesError> {
    let mut mode = None;
    match fs::symlink_metadata(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if out.as_os_str().as_bytes().ends_with(b"/") {
                return Err(FilesError::Usage(format!("{}: names a folder; name the file to write", shown(out))));
            }
        }
        Err(error) => return Err(FilesError::Usage(format!("{}: cannot be written: {error}", shown(out)))),
        Ok(metadata) if metadata.is_file() => mode = Some(metadata.permissions().mode() & 0o777),
        Ok(metadata) if metadata.is_dir() => {
            return Err(FilesError::Usage(format!("{}: is a folder; name the file to write", shown(out))));
        }
        Ok(_) => return Err(FilesError::Usage(format!("{}: exists and is not a regular file", shown(out)))),
    }
    progress.set_length(row.bytes);
    let mut staged = StagedFile::cached(folder_of(out), row.bytes)?;
    // A file that others may not read is not laid open by what takes its place.
    if let Some(mode) = mode {
        staged.file().file().set_permissions(Permissions::from_mode(mode)).map_err(FilesError::io(out, "write"))?;
    }
    let wanted = wanted(row)?;
    let sink = |offset: u64, bytes: &[u8]| match overlap(&wanted, offset, bytes) {
        Some((at, bytes)) => staged.file().write_all_at(bytes, at).map_err(FilesError::io(out, "write")),
        None => Ok(()),
    };
    if row.bytes > 0 {
        cell.read(row.stream, std::slice::from_ref(&wanted), &sink, progress)?;
    }
    staged.file().file().set_len(row.bytes).map_err(FilesError::io(out, "write"))?;
    staged.publish(out, Replace::Existing)?;
    Ok(Fetched { files: 1, bytes: row.bytes })
}

fn wanted(row: &NameRow) -> Result<Range<u64>, FilesError> {
    let end = row.offset.checked_add(row.bytes);
    let end = end.ok_or_else(|| FilesError::Cell("the daemon named a file beyond the end of every stream".into()))?;
    Ok(row.offset..end)
}

/// The part of a piece of a stream that lies in `wanted`, and where in it.
fn overlap<'a>(wanted: &Range<u64>, offset: u64, bytes: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let end = offset + bytes.len() as u64;
    let (from, to) = (wanted.start.max(offset), wanted.end.min(end));
    // Both lie within the piece, which is in memory.
    (from < to).then(|| (from - wanted.start, &bytes[(from - offset) as usize..(to - offset) as usize]))
}

/// All files under `folder`, a name without its last slash.
fn fetch_folder(cell: &Cell, folder: &[u8], out: &Path, progress: &ProgressBar) -> Result<Fetched, FilesError> {
    let prefix = [folder, b"/"].concat();
    let names = cell.names(&prefix)?;
    if names.is_empty() {
        return Err(FilesError::NoSuchName(folder.to_vec()));
    }
    let out = &place_of_folder(out)?;
    progress.set_length(names.iter().map(|name| name.row.bytes).sum());
    let mut staged = StagedFolder::new(out)?;
    let files = make_files(&staged.path, &names, prefix.len())?;
    for (stream, files) in &files {
        fill(cell, *stream, files, progress)?;
    }
    staged.publish(out)?;
    Ok(Fetched { files: names.len() as u64, bytes: names.iter().map(|name| name.row.bytes).sum() })
}

/// Where the folder will be, by a path that a rename can take the place of: new, or an empty folder, behind no link.
fn place_of_folder(out: &Path) -> Result<PathBuf, FilesError> {
    let refused = |why: &str| Err(FilesError::Usage(format!("{}: {why}; name a new folder", shown(out))));
    match fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return refused("is not empty"),
        // A link that leads nowhere is there all the same.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(out).is_err() => {
            return Ok(out.to_path_buf());
        }
        Err(error) => return refused(&format!("is no folder to write into: {error}")),
    }
    let place = fs::canonicalize(out).map_err(FilesError::io(out, "find"))?;
    // Its users would stay in the folder that was replaced.
    if std::env::current_dir().is_ok_and(|current| current == place) {
        return refused("is the current folder");
    }
    let device =
        |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).map_err(FilesError::io(path, "look at"));
    if device(&place)? != device(folder_of(&place))? {
        return refused("is where a disk is mounted");
    }
    Ok(place)
}

/// A file to be filled, and where its bytes lie in the stream.
#[derive(Debug)]
struct Target {
    path: PathBuf,
    wanted: Range<u64>,
}

/// Makes every file and folder, empty, and says what belongs into them: by stream, in the order of the bytes.
fn make_files(
    root: &Path,
    names: &[StoredName],
    prefix_bytes: usize,
) -> Result<BTreeMap<StreamKey, Vec<Target>>, FilesError> {
    let mut files: BTreeMap<StreamKey, Vec<Target>> = BTreeMap::new();
    for StoredName { name, row } in names {
        let path = root.join(relative(name, prefix_bytes)?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| clash(name, error))?;
        }
        File::create_new(&path).map_err(|error| clash(name, error))?;
        if row.bytes > 0 {
            files.entry(row.stream).or_default().push(Target { path, wanted: wanted(row)? });
        }
    }
    for targets in files.values_mut() {
        targets.sort_by_key(|target| target.wanted.start);
    }
    Ok(files)
}

fn clash(name: &[u8], error: io::Error) -> FilesError {
    let hint = match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            "; the cell has a file and a folder of one name here, a file system cannot: get them one by one"
        }
        _ => "",
    };
    FilesError::Cell(format!("{}: cannot create its file: {error}{hint}", name_shown(name)))
}

/// The part of a name behind the prefix, as a path that does not lead out of its folder, whatever the daemon says.
fn relative(name: &[u8], prefix_bytes: usize) -> Result<&Path, FilesError> {
    let rest = name.get(prefix_bytes..).unwrap_or(b"");
    let sound = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
    if rest.split(|byte| *byte == b'/').all(sound) {
        Ok(Path::new(OsStr::from_bytes(rest)))
    } else {
        Err(FilesError::Cell(format!("{}: is no name a file can have; get the others one by one", name_shown(name))))
    }
}

/// Reads what belongs into these files of one stream.
fn fill(cell: &Cell, stream: StreamKey, files: &[Target], progress: &ProgressBar) -> Result<(), FilesError> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for target in files {
        match ranges.last_mut() {
            Some(last) if target.wanted.start <= last.end => last.end = last.end.max(target.wanted.end),
            _ => ranges.push(target.wanted.clone()),
        }
    }
    let longest = files.iter().map(|target| target.wanted.end - target.wanted.start).max().unwrap_or(0);
    let sink = |offset: u64, bytes: &[u8]| {
        let end = offset + bytes.len() as u64;
        // Two names may share bytes, so that ends need not ascend; none begins further back than the longest is long.
        let first = files.partition_point(|target| target.wanted.start.saturating_add(longest) <= offset);
        for target in files[first..].iter().take_while(|target| target.wanted.start < end) {
            if let Some((at, bytes)) = overlap(&target.wanted, offset, bytes) {
                // Opened anew for each piece: there may be more files than a process may hold open.
                let file = File::options().write(true).open(&target.path);
                let written = file.and_then(|file| file.write_all_at(bytes, at));
                written.map_err(FilesError::io(&target.path, "write"))?;
            }
        }
        Ok(())
    };
    cell.read(stream, &ranges, &sink, progress)
}

/// A folder in the making, beside where it will be; removed on every way out but a crash.
#[derive(Debug)]
struct StagedFolder {
    path: PathBuf,
    published: bool,
}

impl StagedFolder {
    fn new(out: &Path) -> Result<Self, FilesError> {
        let path = folder_of(out).join(format!(".ninefold-get-{:016x}", random_u128()? >> 64));
        fs::create_dir(&path).map_err(FilesError::io(&path, "create"))?;
        Ok(Self { path, published: false })
    }

    fn publish(&mut self, out: &Path) -> Result<(), FilesError> {
        // Takes the place of an empty folder, of nothing else.
        fs::rename(&self.path, out).map_err(FilesError::io(out, "publish"))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_a_piece_that_is_wanted() {
        let bytes = b"0123456789";
        assert_eq!(overlap(&(100..110), 100, bytes), Some((0, &bytes[..])));
        assert_eq!(overlap(&(95..103), 100, bytes), Some((5, &b"012"[..])));
        assert_eq!(overlap(&(104..200), 100, bytes), Some((0, &b"456789"[..])));
        assert_eq!(overlap(&(103..105), 100, bytes), Some((0, &b"34"[..])));
        assert_eq!(overlap(&(90..100), 100, bytes), None);
        assert_eq!(overlap(&(110..120), 100, bytes), None);
    }

    #[test]
    fn no_name_leads_out_of_its_folder() {
        assert_eq!(relative(b"d/a/b", 2).unwrap(), Path::new("a/b"));
        for name in [&b"d/../x"[..], b"d/a/../../x", b"d//x", b"d/./x", b"d/", b"d", b"d//etc/passwd", b"d/a\0b"] {
            assert!(relative(name, 2).is_err(), "{}", name_shown(name));
        }
    }

    #[test]
    fn a_folder_where_a_disk_is_mounted_is_refused() {
        let Some(disk) = crate::store::small_disk::SmallDisk::mount("64k") else { return };
        let refused = place_of_folder(disk.path()).unwrap_err().to_string();
        assert!(refused.contains("a disk is mounted"), "{refused}");
        assert!(place_of_folder(&disk.path().join("new")).is_ok());
    }

    #[test]
    fn a_staged_folder_leaves_nothing_and_takes_the_place_of_an_empty_one_only() {
        let home = tempfile::tempdir().unwrap();
        let (empty, full) = (home.path().join("empty"), home.path().join("full"));
        fs::create_dir(&empty).unwrap();
        fs::create_dir(&full).unwrap();
        fs::write(full.join("x"), "x").unwrap();
        let (link, new, broken) = (home.path().join("link"), home.path().join("new"), home.path().join("broken"));
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        std::os::unix::fs::symlink(&new, &broken).unwrap();
        let real = fs::canonicalize(&empty).unwrap();
        assert_eq!(place_of_folder(&new).unwrap(), new);
        assert_eq!(place_of_folder(&empty).unwrap(), real);
        assert_eq!(place_of_folder(&link).unwrap(), real);
        for refused in [&full, &full.join("x"), &broken, Path::new("/"), Path::new("/proc"), Path::new(".")] {
            assert!(matches!(place_of_folder(refused), Err(FilesError::Usage(_))), "{}", refused.display());
        }
        fs::remove_file(link).unwrap();
        fs::remove_file(broken).unwrap();
        for (out, ok) in [(&empty, true), (&full, false)] {
            let mut staged = StagedFolder::new(out).unwrap();
            fs::write(staged.path.join("a"), "a").unwrap();
            assert_eq!(staged.publish(out).is_ok(), ok);
            drop(staged);
        }
        assert!(empty.join("a").is_file() && full.join("x").is_file());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }
}
