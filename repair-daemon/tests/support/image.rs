//! Disks that can lose power: ext4 on image files, mounted by a loop device, for the tests that are run as root.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where nothing is to be mounted, by the word of the machine's owner.
pub fn may_mount() -> bool {
    let may = std::env::var_os("NINEFOLD_TEST_NO_MOUNT").is_none();
    if !may {
        eprintln!("NINEFOLD_TEST_NO_MOUNT is set: not tried");
    }
    may
}

fn must(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {said}; needs root and e2fsprogs, which scripts/test installs; or set NINEFOLD_TEST_NO_MOUNT"
    );
}

/// An image and where it is mounted.
pub struct Image {
    file: PathBuf,
    mount: PathBuf,
    options: &'static str,
}

impl Image {
    /// An empty ext4 of so many bytes on `file`, mounted at `mount`. It writes metadata back by itself only after minutes, so that what
    /// nobody forced is still in memory when the power goes.
    pub fn ext4(file: PathBuf, bytes: u64, mount: &Path) -> Self {
        fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        // The file system's own journal and tables are written now: what is short later is room for data.
        let written =
            ["-b", "4096", "-N", "4096", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
        must(Command::new("mkfs.ext4").args(["-q", "-F"]).args(written).arg(&file));
        fs::create_dir_all(mount).unwrap();
        let image = Self { file, mount: mount.to_owned(), options: "loop,commit=300,noauto_da_alloc" };
        image.mount();
        fs::remove_dir(mount.join("lost+found")).unwrap();
        image
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Mounts it, as after the start of a machine.
    pub fn mount(&self) {
        must(Command::new("mount").args(["-t", "ext4", "-o", self.options]).arg(&self.file).arg(&self.mount));
    }

    /// Takes it away; nobody may have a file open.
    pub fn unmount(&self) {
        must(Command::new("umount").arg(&self.mount));
    }

    /// Takes its name away at once; who has files open keeps them.
    pub fn unmount_lazily(&self) {
        must(Command::new("umount").arg("--lazy").arg(&self.mount));
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", "--quiet"]).arg(&self.mount).output();
    }
}

/// Cuts the power of each at its own moment, in milliseconds from now: whatever its journal has not on the disk is gone, and every
/// call fails. By the file system's own ioctl (`EXT4_IOC_SHUTDOWN`, without flushing its journal).
pub fn cut_power(moments: &mut [(u64, &Path)]) {
    const CUT: &str = "import fcntl, os, sys, time\n\
        begun = time.monotonic()\n\
        for moment, path in zip(sys.argv[1::2], sys.argv[2::2]):\n\
        \x20   time.sleep(max(0, begun + int(moment) / 1000 - time.monotonic()))\n\
        \x20   folder = os.open(path, os.O_RDONLY)\n\
        \x20   fcntl.ioctl(folder, 0x8004587D, (2).to_bytes(4, sys.byteorder))\n";
    moments.sort_unstable();
    let python = std::env::var_os("NINEFOLD_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command.args(["-c", CUT]);
    moments.iter().for_each(|(moment, path)| _ = command.arg(moment.to_string()).arg(path));
    must(&mut command);
}

/// A tmpfs of so many bytes, under an image that believes it has more.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounted at `mount`.
    pub fn new(mount: &Path, bytes: u64) -> Self {
        fs::create_dir_all(mount).unwrap();
        must(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(mount));
        Self(mount.to_owned())
    }

    /// Gives it another size.
    pub fn resize(&self, bytes: u64) {
        must(Command::new("mount").args(["-o", &format!("remount,size={bytes}")]).arg(&self.0));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", "--quiet"]).arg(&self.0).output();
    }
}
