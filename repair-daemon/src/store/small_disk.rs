//! A small file system of its own, for tests.

use std::path::Path;
use std::process::Command;

/// Unmounted at the end. Only root can have one.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where the machine's owner said that nothing is to be mounted.
    pub(crate) fn mount(size: &str) -> Option<Self> {
        if std::env::var_os("NINEFOLD_TEST_NO_MOUNT").is_some() {
            eprintln!("NINEFOLD_TEST_NO_MOUNT is set: not tried");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder.path()).output();
        assert!(
            mounted.is_ok_and(|output| output.status.success()),
            "cannot mount a tmpfs: run as root, or set NINEFOLD_TEST_NO_MOUNT"
        );
        Some(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
