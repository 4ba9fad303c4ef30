//! Memory that is measured: the peak of every file command on a file of several extents stays below 256 MiB.
//!
//! One gibibyte fills all buffers and every thread; more only takes longer. Measured by hand once, in the same way, with a file
//! of 20 GiB (`truncate -s 20G`, some MiB of random bytes in it) and lrc:12,2,2, on two cores: 15 MiB to encode, 8 to verify,
//! 15 to repair three losses in each of the 80 extents, 18 to decode with one.
mod support;

use std::ffi::OsStr;
use std::fs;
use std::process::Child;
use support::{command, finish, listing, same_bytes, sparse_file};
use tempfile::TempDir;

const LIMIT_KIB: u64 = 256 << 10;

/// The highest resident memory the child ever had, as the system counts it, asked until the child ends.
fn peak_kib(child: &mut Child) -> u64 {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // A child that has just ended has no such line.
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    peak
}

#[track_caller]
fn stays_small<A: AsRef<OsStr>>(label: &str, arguments: &[A]) {
    let mut child = command(arguments).spawn().unwrap();
    let peak = peak_kib(&mut child);
    finish(child).exits(0);
    println!("{label}: {} MiB at most", peak >> 10);
    assert!(peak > 0 && peak < LIMIT_KIB, "{label}: {} MiB resident", peak >> 10);
}

#[test]
fn a_file_of_many_extents_passes_through_little_memory() {
    let root = TempDir::new().unwrap();
    let (input, dir, out) = (root.path().join("input"), root.path().join("d"), root.path().join("out"));
    let (input_, dir_, out_) = (input.as_os_str(), dir.as_os_str(), out.as_os_str());
    sparse_file(&input, 1 << 30);
    let text = OsStr::new;
    stays_small("encode", &[text("encode"), input_, text("--code"), text("lrc:12,2,2"), text("--out"), dir_]);
    stays_small("verify", &[text("verify"), dir_]);
    // Three losses in each extent: one in its group alone, two that need the global parities.
    let names = listing(&dir);
    assert_eq!(names.len(), 4 * 16);
    for name in names {
        if ["00001.frag", "00007.frag", "00009.frag"].iter().any(|end| name.to_str().unwrap().ends_with(end)) {
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
    stays_small("decode", &[text("decode"), dir_, text("--out"), out_]);
    assert!(same_bytes(&input, &out));
    fs::remove_file(&out).unwrap();
    stays_small("repair", &[text("repair"), dir_]);
}
