//! A folder held open, and what is done in it: every name is one component, relative to the open folder.
//!
//! Nothing here follows a link: names are made of ids, and looked up by `openat2` in a folder that itself was opened so, which refuses links and whatever
//! leads out of the folder. Where the kernel, or a filter this process runs under, has no such call, `openat` takes one component and no link. And because
//! the folder is held open and not looked up again, an empty mount point that takes its place is never taken for it.
//!
//! Nothing but a regular file is opened for what is in it: opening a device does things, and a FIFO makes its reader wait.

use rustix::fs::{self, AtFlags, CWD, Dir, FallocateFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Only the service's own account has any business in its files.
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);

/// A disk may be mounted on a folder in a data folder: other file systems are not refused.
const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A folder held open.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

/// A new file, nameless where the file system has such.
#[derive(Debug)]
pub struct Unnamed {
    /// The file.
    pub file: File,
    /// Its name in the staging folder, where it needed one.
    name: Option<String>,
}

impl Unnamed {
    /// A file of the staging folder that has a name there.
    pub(super) fn named(file: File, name: String) -> Self {
        Self { file, name: Some(name) }
    }

    /// The file has its final name: nothing is to be discarded any more.
    pub fn keep(&mut self) {
        self.name = None;
    }
}

/// Opens a name below a folder.
fn open_below(folder: &OwnedFd, name: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    static IS_ABSENT: AtomicBool = AtomicBool::new(false);
    if IS_ABSENT.load(Ordering::Relaxed) {
        return open_component(folder, name, flags, mode);
    }
    match fs::openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode, BELOW) {
        // An old kernel says the one, a filter either. A file of which nothing may be had says the other too, to both calls.
        Err(refused @ (Errno::NOSYS | Errno::PERM)) => {
            let opened = open_component(folder, name, flags, mode);
            if refused == Errno::NOSYS || opened.is_ok() {
                IS_ABSENT.store(true, Ordering::Relaxed);
            }
            opened
        }
        other => other,
    }
}

/// The same without `openat2`: a name of one component that is no link cannot leave the folder.
fn open_component(folder: &OwnedFd, name: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    if name.contains('/') || name == ".." {
        return Err(Errno::XDEV);
    }
    fs::openat(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)
}

impl Folder {
    /// Opens a folder by its path, the only time a path is used; here links are the operator's own.
    ///
    /// # Errors
    /// That of the system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// Opens a folder in this one.
    ///
    /// # Errors
    /// That of the system; a link is no folder.
    pub fn folder(&self, name: &str) -> io::Result<Self> {
        Ok(Self { fd: open_below(&self.fd, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())? })
    }

    /// Opens a folder in this one, made if it is not there. This folder still has to be synced.
    ///
    /// # Errors
    /// That of the system.
    pub fn folder_or_new(&self, name: &str) -> io::Result<Self> {
        match fs::mkdirat(&self.fd, name, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => self.folder(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens what has this name, for reading if it is a regular file. Of anything else but a link there is a handle that says what it is and reads nothing:
    /// whoever reads looks at what it is.
    ///
    /// # Errors
    /// That of the system.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = match self.kind(name)? {
            // NONBLOCK: nor must what takes its place by now make us wait.
            FileType::RegularFile => OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            FileType::Symlink => return Err(Errno::LOOP.into()),
            _ => OFlags::PATH,
        };
        Ok(open_below(&self.fd, name, flags, Mode::empty())?.into())
    }

    /// Opens a regular file for reading and writing, made if it is not there.
    ///
    /// # Errors
    /// That of the system; `InvalidInput` for anything but a regular file.
    pub fn open_or_new_file(&self, name: &str) -> io::Result<File> {
        match self.kind(name) {
            Ok(FileType::RegularFile) | Err(Errno::NOENT) => {}
            Ok(_) => return Err(Errno::INVAL.into()),
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file: File = open_below(&self.fd, name, flags, FILE_MODE)?.into();
        if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::INVAL.into()) }
    }

    /// What has this name, without opening it.
    fn kind(&self, name: &str) -> rustix::io::Result<FileType> {
        let stat = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// Makes a file; what has the name already is an error.
    ///
    /// # Errors
    /// That of the system.
    pub fn new_file(&self, name: &str) -> io::Result<File> {
        Ok(open_below(&self.fd, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, FILE_MODE)?.into())
    }

    /// A new file without a name, with room for `bytes`. Where the file system needs names, it gets `name` in this folder.
    ///
    /// # Errors
    /// That of the system, `StorageFull` among them. Nothing is left then.
    pub fn unnamed(&self, name: impl FnOnce() -> String, bytes: u64) -> io::Result<Unnamed> {
        let unnamed = match open_below(&self.fd, ".", OFlags::TMPFILE | OFlags::RDWR, FILE_MODE) {
            Ok(fd) => Unnamed { file: fd.into(), name: None },
            // An old kernel says EISDIR.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let name = name();
                Unnamed { file: self.new_file(&name)?, name: Some(name) }
            }
            Err(error) => return Err(error.into()),
        };
        match reserve(&unnamed.file, bytes) {
            Ok(()) => Ok(unnamed),
            Err(error) => {
                self.discard(&unnamed);
                Err(error)
            }
        }
    }

    /// Removes the name of a file from [`Folder::unnamed`] that is not wanted any more, if it has one.
    pub fn discard(&self, unnamed: &Unnamed) {
        if let Some(name) = &unnamed.name {
            // What stays is removed at the next start.
            let _ = self.remove(name);
        }
    }

    /// Gives a file from [`Folder::unnamed`] of this folder its name in `target`; `AlreadyExists` if that is taken.
    ///
    /// # Errors
    /// That of the system.
    pub fn name(&self, unnamed: &Unnamed, target: &Self, name: &str) -> io::Result<()> {
        match &unnamed.name {
            Some(staged) => self.move_new(staged, target, name),
            None => {
                let handle = format!("/proc/self/fd/{}", unnamed.file.as_fd().as_raw_fd());
                Ok(fs::linkat(CWD, handle, &target.fd, name, AtFlags::SYMLINK_FOLLOW)?)
            }
        }
    }

    /// Moves what has the name `from` into `target`; `AlreadyExists` if the name there is taken.
    ///
    /// # Errors
    /// That of the system.
    pub fn move_new(&self, from: &str, target: &Self, to: &str) -> io::Result<()> {
        match fs::renameat_with(&self.fd, from, &target.fd, to, RenameFlags::NOREPLACE) {
            // Not every file system knows the flag; a hard link is exclusive everywhere else.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                fs::linkat(&self.fd, from, &target.fd, to, AtFlags::empty())?;
                self.remove(from)
            }
            other => Ok(other?),
        }
    }

    /// Renames, in the place of what has the name `to`.
    ///
    /// # Errors
    /// That of the system.
    pub fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(fs::renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Removes a name that is no folder's.
    ///
    /// # Errors
    /// That of the system.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Length of a regular file; `None` for anything else of that name.
    ///
    /// # Errors
    /// That of the system.
    pub fn file_bytes(&self, name: &str) -> io::Result<Option<u64>> {
        let stat = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(u64::try_from(stat.st_size).ok().filter(|_| is_file))
    }

    /// Number of the inode that has this name.
    ///
    /// # Errors
    /// That of the system.
    pub fn inode(&self, name: &str) -> io::Result<u64> {
        Ok(fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino)
    }

    /// Whether anything has this name.
    ///
    /// # Errors
    /// That of the system.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in it that are text; no other is of our making. Only for folders that nobody fills: [`Folder::each_name`] for others.
    ///
    /// # Errors
    /// That of the system.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        self.each_name(|name, _| {
            names.extend(name.map(str::to_owned));
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    /// Shows the names in it one by one, without a look at each file where the file system says what it is; `None` for one that is not text. It may be
    /// removed while it is shown.
    ///
    /// # Errors
    /// That of the system.
    pub fn each_name(&self, mut see: impl FnMut(Option<&str>, FileType) -> ControlFlow<()>) -> io::Result<()> {
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_str().ok();
            let kind = match (name, entry.file_type()) {
                (Some("." | ".."), _) => continue,
                (Some(name), FileType::Unknown) => match self.kind(name) {
                    // Put aside since it was listed.
                    Err(Errno::NOENT) => continue,
                    known => known?,
                },
                (_, kind) => kind,
            };
            if see(name, kind).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Makes new and changed names durable: making or renaming alone is not.
    ///
    /// # Errors
    /// That of the system. What is on the disk is not known then, and asking again would not tell.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.fd)?)
    }

    /// Bytes free for us, and bytes in all, of the file system.
    ///
    /// # Errors
    /// That of the system.
    pub fn room(&self) -> io::Result<(u64, u64)> {
        let stat = fs::fstatvfs(&self.fd)?;
        Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
    }
}

/// Reserves room, so that a full disk shows before the work and not after.
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Not every file system can reserve; it will say later that it is full.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs as std_fs;

    #[test]
    fn a_file_that_needed_a_name_gets_its_final_one_once_or_goes() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let target = folder.folder_or_new("target").unwrap();
        // As on a file system without nameless files.
        let staged = |name: &str| Unnamed { file: folder.new_file(name).unwrap(), name: Some(name.to_owned()) };
        let mut first = staged("a.part");
        folder.name(&first, &target, "final").unwrap();
        first.keep();
        folder.discard(&first);
        let second = staged("b.part");
        let error = folder.name(&second, &target, "final").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        folder.discard(&second);
        assert_eq!((folder.names().unwrap(), target.names().unwrap()), (vec!["target".into()], vec!["final".into()]));
    }

    #[test]
    fn a_nameless_file_leaves_nothing_and_takes_no_name_that_is_taken() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        drop(folder.unnamed(|| "x".into(), 1 << 20).unwrap());
        assert!(folder.names().unwrap().is_empty());
        let file = folder.unnamed(|| "x".into(), 0).unwrap();
        folder.name(&file, &folder, "y").unwrap();
        let other = folder.unnamed(|| "z".into(), 0).unwrap();
        assert_eq!(folder.name(&other, &folder, "y").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        folder.discard(&other);
        assert_eq!(folder.names().unwrap(), ["y"]);
    }

    #[test]
    fn no_link_is_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std_fs::write(outside.path().join("secret"), "x").unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), temporary.path().join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), temporary.path().join("file")).unwrap();
        assert!(folder.folder("folder").is_err() && folder.folder_or_new("folder").is_err());
        assert!(folder.open_file("file").is_err() && folder.open_or_new_file("file").is_err());
        assert_eq!(folder.file_bytes("file").unwrap(), None);
        assert!(folder.has("file").unwrap() && !folder.has("other").unwrap());
    }

    #[test]
    fn nothing_leads_out_of_a_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path();
        std_fs::create_dir_all(base.join("inside/sub")).unwrap();
        std_fs::create_dir(base.join("outside")).unwrap();
        for path in ["inside/sub/file", "outside/file"] {
            std_fs::write(base.join(path), "x").unwrap();
        }
        std::os::unix::fs::symlink(base.join("outside"), base.join("inside/link")).unwrap();
        std::os::unix::fs::symlink("sub", base.join("inside/near")).unwrap();
        let folder = Folder::open(&base.join("inside")).unwrap();
        let absolute = base.join("outside/file");
        let ways =
            ["link/file", "near/file", "../outside/file", "sub/../../outside/file", "..", absolute.to_str().unwrap()];
        for way in ways {
            for open in [open_below, open_component] {
                assert!(open(&folder.fd, way, OFlags::RDONLY, Mode::empty()).is_err(), "{way}");
            }
            assert!(folder.open_file(way).is_err() && folder.open_or_new_file(way).is_err(), "{way}");
        }
        for open in [open_below, open_component] {
            assert!(open(&folder.fd, "sub", OFlags::RDONLY, Mode::empty()).is_ok());
        }
        open_below(&folder.fd, "sub/file", OFlags::RDONLY, Mode::empty()).unwrap();
    }

    #[test]
    fn only_regular_files_are_opened_for_what_is_in_them() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        folder.folder_or_new("folder").unwrap();
        fs::mknodat(&folder.fd, "fifo", FileType::Fifo, FILE_MODE, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(temporary.path().join("socket")).unwrap();
        // The one that always reads as zeros. Only root can make it.
        let made = fs::mknodat(&folder.fd, "device", FileType::CharacterDevice, FILE_MODE, fs::makedev(1, 5));
        let others = ["folder", "fifo", "socket", "device"];
        let kinds = if made.is_ok() { &others[..] } else { &others[..3] };
        for name in kinds {
            let file = folder.open_file(name).unwrap();
            assert!(!file.metadata().unwrap().is_file());
            let read = std::os::unix::fs::FileExt::read_at(&file, &mut [0; 8], 0);
            assert_eq!(read.unwrap_err().raw_os_error(), Some(Errno::BADF.raw_os_error()), "{name}");
            assert_eq!(folder.open_or_new_file(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        drop(folder.new_file("file").unwrap());
        assert!(folder.open_file("file").unwrap().metadata().unwrap().is_file());
        assert!(folder.open_or_new_file("file").is_ok());
    }
}
