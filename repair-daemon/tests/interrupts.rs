//! Commands that are stopped, killed, crowded or starved at any moment: what is left is a whole result or none, and the next
//! run needs no operator.
mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};
use support::{Ran, Set, command, decode, encode, finish, listing, painted, repair, same_bytes, verify};
use tempfile::TempDir;

/// Signals a command at this many moments of its life.
const MOMENTS: u32 = 15;
/// Long enough to be hit in the middle, short enough to be run many times.
const FILE_BYTES: usize = 12_000_000;
const STAGING: &str = ".ninefold-staging";
const PUBLISHING: &str = ".ninefold-publishing";

fn encode_arguments(file: &Path, dir: &Path) -> Vec<OsString> {
    ["encode".as_ref(), file.as_os_str(), "--code=rs:4+2".as_ref(), "--out".as_ref(), dir.as_os_str()]
        .map(OsStr::to_owned)
        .into()
}

fn decode_arguments(dir: &Path, out: &Path) -> Vec<OsString> {
    ["decode".as_ref(), dir.as_os_str(), "--out".as_ref(), out.as_os_str()].map(OsStr::to_owned).into()
}

fn repair_arguments(dir: &Path) -> Vec<OsString> {
    ["repair".as_ref(), dir.as_os_str()].map(OsStr::to_owned).into()
}

/// How long the command takes when nobody disturbs it.
fn duration_of(arguments: &[OsString]) -> Duration {
    let started = Instant::now();
    finish(command(arguments).spawn().unwrap()).exits(0);
    started.elapsed()
}

/// The moments: spread over the whole of `undisturbed` and a little beyond, no two runs of the test alike in phase.
fn moments(undisturbed: Duration) -> impl Iterator<Item = Duration> {
    let phase = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos() % 1000;
    (0..MOMENTS).map(move |turn| undisturbed * (turn * 1000 + phase) / (MOMENTS * 900))
}

/// Runs a command and signals it after `moment`. The time is the point here: there is nothing to poll for.
fn run_signalled(arguments: &[OsString], moment: Duration, signal: Signal) -> Ran {
    let child = command(arguments).spawn().unwrap();
    std::thread::sleep(moment);
    // It may have ended; until it is waited for, its id is still its own.
    let _ = kill_process(Pid::from_child(&child), signal);
    finish(child)
}

/// Ended by itself, by the handler, or by the signal before there was a handler; whether by the handler.
fn was_interrupted(ran: &Ran, signal: Signal) -> bool {
    match ran.code {
        0 => {}
        3 => assert!(ran.stderr.contains("interrupted"), "{ran:?}"),
        code => assert_eq!(code, -signal.as_raw(), "{ran:?}"),
    }
    ran.code == 3
}

#[test]
fn a_stopped_encode_leaves_all_or_nothing() {
    let root = TempDir::new().unwrap();
    let (input, dir, probe) = (root.path().join("input"), root.path().join("d"), root.path().join("probe"));
    fs::write(&input, painted(FILE_BYTES)).unwrap();
    let undisturbed = duration_of(&encode_arguments(&input, &probe));
    let mut interrupted = 0;
    for signal in [Signal::INT, Signal::TERM] {
        for (turn, moment) in moments(undisturbed).enumerate() {
            let existed = turn % 2 == 0;
            if existed {
                fs::create_dir(&dir).unwrap();
            }
            let ran = run_signalled(&encode_arguments(&input, &dir), moment, signal);
            interrupted += u32::from(was_interrupted(&ran, signal));
            if ran.code == 0 {
                verify(&dir).exits(0);
                assert_eq!(listing(&dir).len(), 6);
                fs::remove_dir_all(&dir).unwrap();
            } else {
                assert_eq!((listing(&dir), dir.exists()), (BTreeSet::new(), existed), "{signal:?} after {moment:?}");
                let _ = fs::remove_dir(&dir);
            }
        }
    }
    // A command that heeds no signal would pass all of the above.
    assert!(interrupted > 0, "of all these moments none was in the middle");
}

#[test]
fn a_killed_encode_is_run_again_without_an_operator() {
    let root = TempDir::new().unwrap();
    let (input, dir, probe) = (root.path().join("input"), root.path().join("d"), root.path().join("probe"));
    fs::write(&input, painted(FILE_BYTES)).unwrap();
    let undisturbed = duration_of(&encode_arguments(&input, &probe));
    for moment in moments(undisturbed) {
        run_signalled(&encode_arguments(&input, &dir), moment, Signal::KILL);
        let left = listing(&dir);
        let whole = left.contains(OsStr::new(PUBLISHING)) || left.iter().any(|name| name != STAGING);
        let again = encode(&input, "rs:4+2", &dir);
        if whole {
            // All was synced before the first file got its name: the second run finishes the first one's work.
            again.exits(2).says(&["is not empty"]);
        } else {
            again.exits(0);
        }
        verify(&dir).exits(0);
        assert_eq!(listing(&dir).len(), 6, "killed after {moment:?}");
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn an_encode_killed_between_two_renames_is_finished_by_the_next_command() {
    for command in ["encode", "repair"] {
        let set = Set::small();
        let publishing = set.dir.join(PUBLISHING);
        fs::create_dir(&publishing).unwrap();
        for index in [1, 3] {
            fs::rename(set.path(index), publishing.join(set.path(index).file_name().unwrap())).unwrap();
        }
        // Who only reads looks at both folders and changes nothing.
        verify(&set.dir).exits(0);
        decode(&set.dir, &set.beside("out")).exits(0);
        assert!(publishing.exists());
        match command {
            "encode" => encode(&set.input, "rs:4+2", &set.dir).exits(2).says(&["is not empty"]),
            _ => repair(&set.dir).exits(0),
        };
        fs::remove_file(set.beside("out")).unwrap();
        assert!(!publishing.exists());
        set.is_as_made();
    }
}

#[test]
fn what_only_looks_like_a_staging_folder_is_not_followed_or_opened() {
    let set = Set::small();
    let victim = set.beside("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("a"), "somebody's").unwrap();
    for name in [STAGING, PUBLISHING] {
        std::os::unix::fs::symlink(&victim, set.dir.join(name)).unwrap();
        verify(&set.dir).exits(0);
        repair(&set.dir).exits(0);
        fs::remove_file(set.dir.join(name)).unwrap();
        support::mkfifo(&set.dir.join(name));
        verify(&set.dir).exits(0);
        repair(&set.dir).exits(0);
        encode(&set.input, "rs:4+2", &set.dir).exits(2);
        fs::remove_file(set.dir.join(name)).unwrap();
    }
    assert!(victim.join("a").exists());
}

#[test]
fn a_stopped_or_killed_decode_leaves_all_or_nothing() {
    let set = Set::new("rs:4+2", painted(FILE_BYTES));
    set.remove(1);
    let folder = set.beside("outputs");
    fs::create_dir(&folder).unwrap();
    let out = folder.join("out");
    let undisturbed = duration_of(&decode_arguments(&set.dir, &out));
    let mut interrupted = 0;
    fs::remove_file(&out).unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        for moment in moments(undisturbed) {
            let ran = run_signalled(&decode_arguments(&set.dir, &out), moment, signal);
            interrupted += u32::from(was_interrupted(&ran, signal));
            let left = listing(&folder);
            if left.is_empty() {
                assert_ne!(ran.code, 0, "done and nothing there, {signal:?} after {moment:?}");
                continue;
            }
            assert_eq!(left, ["out".into()].into(), "{signal:?} after {moment:?}");
            assert!(same_bytes(&out, &set.input), "{signal:?} after {moment:?}");
            fs::remove_file(&out).unwrap();
        }
    }
    // A command that heeds no signal would pass all of the above.
    assert!(interrupted > 0, "of all these moments none was in the middle");
}

/// Indices that `verify` calls usable.
fn usable(dir: &Path) -> BTreeSet<u64> {
    let report = verify(dir).json();
    let fragments = report["extents"][0]["fragments"].as_array().unwrap();
    let good = fragments.iter().filter(|fragment| fragment["usable"] == true);
    good.map(|fragment| fragment["index"].as_u64().unwrap()).collect()
}

/// Everything that a repair has to do at once: rebuild, replace, put in place, set aside.
fn spoil(set: &Set) {
    set.restore();
    set.remove(0);
    set.change(3, |bytes| bytes[100_000] ^= 4);
    let (a, b) = (set.path(1), set.path(4));
    fs::rename(&a, set.dir.join("t")).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(set.dir.join("t"), &b).unwrap();
    fs::write(set.dir.join("copy"), set.original(5)).unwrap();
}

#[test]
fn a_stopped_or_killed_repair_never_makes_it_worse() {
    let set = Set::new("rs:4+2", painted(FILE_BYTES));
    spoil(&set);
    let before = usable(&set.dir);
    assert_eq!(before, [1, 2, 4, 5].into());
    let undisturbed = duration_of(&repair_arguments(&set.dir));
    let mut interrupted = 0;
    set.is_as_made();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        for moment in moments(undisturbed) {
            spoil(&set);
            let ran = run_signalled(&repair_arguments(&set.dir), moment, signal);
            interrupted += u32::from(was_interrupted(&ran, signal));
            let after = usable(&set.dir);
            assert!(after.is_superset(&before), "{signal:?} after {moment:?}: {before:?} became {after:?}");
            if ran.code == 0 {
                set.is_as_made();
            }
            set.heals();
        }
    }
    // A command that heeds no signal would pass all of the above.
    assert!(interrupted > 0, "of all these moments none was in the middle");
}

#[test]
fn two_repairs_at_once_do_no_harm() {
    let set = Set::new("rs:4+2", painted(3_000_000));
    for turn in 0..16 {
        if turn % 2 == 0 {
            set.restore();
            set.remove(turn % 6);
            set.change((turn + 1) % 6, |bytes| bytes[70_000] ^= 1);
        } else {
            spoil(&set);
        }
        let before = usable(&set.dir);
        let children: Vec<Child> = (0..3).map(|_| command(repair_arguments(&set.dir)).spawn().unwrap()).collect();
        let ran: Vec<Ran> = children.into_iter().map(finish).collect();
        assert!(usable(&set.dir).is_superset(&before), "{ran:?}");
        // A late one is told that it is late, or finds nothing to do; none says "done" of what is not.
        assert!(
            ran.iter().all(|ran| ran.code == 0 || (ran.code == 3 && ran.stderr.contains("another command"))),
            "{ran:?}"
        );
        assert!(ran.iter().any(|ran| ran.code == 0), "{ran:?}");
        assert_eq!(set.findings(), [], "{ran:?}");
        set.is_as_made();
        let copy = turn % 2;
        assert_eq!(set.quarantine().len(), copy, "a good fragment was set aside: {ran:?}");
    }
}

#[test]
fn encodes_into_one_folder_at_once_never_mix() {
    let root = TempDir::new().unwrap();
    let inputs: Vec<PathBuf> = (0..6).map(|number| root.path().join(format!("input-{number}"))).collect();
    for (number, input) in inputs.iter().enumerate() {
        // Small, so that one can be done between two steps of another.
        fs::write(input, [number as u8]).unwrap();
    }
    let (dir, out) = (root.path().join("d"), root.path().join("out"));
    for turn in 0..90 {
        // Nothing there; an empty folder; and what a killed encode left, which all of them want to clear away.
        if turn % 3 > 0 {
            fs::create_dir(&dir).unwrap();
        }
        if turn % 3 == 2 {
            fs::create_dir(dir.join(STAGING)).unwrap();
            fs::write(dir.join(STAGING).join("left"), "over").unwrap();
        }
        let children: Vec<Child> =
            inputs.iter().map(|input| command(encode_arguments(input, &dir)).spawn().unwrap()).collect();
        let ran: Vec<Ran> = children.into_iter().map(finish).collect();
        let winners: Vec<usize> = (0..ran.len()).filter(|at| ran[*at].code == 0).collect();
        assert!(ran.iter().all(|ran| [0, 2, 3].contains(&ran.code)), "{ran:?}");
        match winners[..] {
            [] => assert_eq!(listing(&dir), BTreeSet::new(), "{ran:?}"),
            [winner] => {
                assert_eq!(listing(&dir).len(), 6, "{ran:?}");
                decode(&dir, &out).exits(0);
                assert!(same_bytes(&out, &inputs[winner]), "{ran:?}");
                fs::remove_file(&out).unwrap();
            }
            _ => panic!("several were told that the folder is theirs: {ran:?}"),
        }
        let _ = fs::remove_dir_all(&dir);
    }
}

/// Encodes a file that `change` changes as soon as the encode is under way.
fn encode_while(change: impl Fn(&File)) {
    let root = TempDir::new().unwrap();
    let (input, dir, out) = (root.path().join("input"), root.path().join("d"), root.path().join("out"));
    let data = painted(4 * FILE_BYTES);
    for _ in 0..10 {
        fs::write(&input, &data).unwrap();
        let file = File::options().read(true).write(true).open(&input).unwrap();
        // So that a change is one also for a clock of coarse steps.
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
        let mut child = command(encode_arguments(&input, &dir)).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && listing(&dir.join(STAGING)).is_empty() {
            std::thread::yield_now();
        }
        change(&file);
        let ran = finish(child);
        if ran.code != 0 {
            ran.exits(3).says(&["changed while it was being read", "run again"]);
            assert!(!dir.exists());
            return;
        }
        // The change came too late to matter.
        decode(&dir, &out).exits(0);
        assert!(fs::read(&out).unwrap() == data, "a mixture was published");
        fs::remove_dir_all(&dir).unwrap();
        fs::remove_file(&out).unwrap();
    }
    panic!("no change came in time");
}

#[test]
fn a_file_that_changes_while_it_is_encoded_is_an_error() {
    encode_while(|file| file.set_len(1000).unwrap());
    encode_while(|mut file| {
        use std::io::{Seek, SeekFrom};
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"more").unwrap();
    });
    encode_while(|mut file| file.write_all(b"other").unwrap());
}

/// Runs the binary where no file may grow beyond about a megabyte; the system's answer is an error, not a signal.
fn run_starved(arguments: &[OsString]) -> Ran {
    // 1,000 units of 512 or 1,024 bytes, as the shell likes.
    let script = "trap '' XFSZ && ulimit -f 1000 && exec \"$0\" \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, support::NINEFOLD]).args(arguments);
    support::piped(&mut shell);
    finish(shell.spawn().unwrap())
}

#[test]
fn a_write_that_fails_leaves_nothing_under_a_final_name() {
    let set = Set::new("rs:4+2", painted(FILE_BYTES));
    let (dir, out) = (set.beside("d"), set.beside("out"));
    run_starved(&encode_arguments(&set.input, &dir)).exits(3).says(&["cannot make room"]);
    assert!(!dir.exists());
    fs::create_dir(&dir).unwrap();
    run_starved(&encode_arguments(&set.input, &dir)).exits(3);
    assert!(listing(&dir).is_empty());
    run_starved(&decode_arguments(&set.dir, &out)).exits(3).says(&["cannot make room"]);
    fs::write(&out, "").unwrap();
    run_starved(&decode_arguments(&set.dir, &out)).exits(3);
    assert_eq!(fs::metadata(&out).unwrap().len(), 0);
    assert_eq!(listing(set.root.path()).len(), 4);
    // A repair: what there was is still there, also what it would have replaced.
    set.remove(0);
    set.change(1, |bytes| bytes[5000] ^= 1);
    let before: Vec<_> = listing(&set.dir).iter().map(|name| fs::read(set.dir.join(name)).unwrap()).collect();
    run_starved(&repair_arguments(&set.dir)).exits(3).says(&["cannot make room"]);
    let after: Vec<_> = listing(&set.dir).iter().map(|name| fs::read(set.dir.join(name)).unwrap()).collect();
    assert!(before == after, "a failed repair changed something");
    set.heals();
}

/// A script run where `$MOUNT` is a small file system of its own, seen by nobody else and gone with the script. Mounting takes
/// root or user namespaces; where there are neither, the test before this has shown the same path with another error.
fn on_a_small_disk(options: &str, set: &Set, script: &str) -> Option<Ran> {
    if std::env::var_os("NINEFOLD_TEST_NO_MOUNT").is_some() {
        eprintln!("NINEFOLD_TEST_NO_MOUNT is set: not tried");
        return None;
    }
    let mount = set.beside("mount");
    fs::create_dir_all(&mount).unwrap();
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let script = format!("set -u; mount -t tmpfs -o {options} tmpfs \"$MOUNT\" || exit 99\n{script}");
    let mut shell = std::process::Command::new("unshare");
    shell.args([flags, "sh", "-c", &script]);
    shell.env("MOUNT", mount).env("NINEFOLD", support::NINEFOLD).env("INPUT", &set.input).env("SET", &set.dir);
    support::piped(&mut shell);
    let child = shell.spawn().unwrap_or_else(|error| panic!("unshare (util-linux) is needed: {error}"));
    let ran = finish(child);
    let advice = "cannot mount a tmpfs: run as root, allow user namespaces, or set NINEFOLD_TEST_NO_MOUNT";
    assert!(ran.code != 99 && !ran.stderr.contains("unshare failed"), "{advice}: {}", ran.stderr);
    Some(ran)
}

#[test]
fn a_full_disk() {
    let set = Set::new("rs:4+2", painted(3_000_000));
    // Too small from the start; and full of files, not bytes, in the middle of the work.
    let script = r#""$NINEFOLD" encode "$INPUT" --code rs:4+2 --out "$MOUNT/d"; echo "exit $?"; ls -A "$MOUNT""#;
    for (options, words) in [("size=2m", "are free"), ("size=16m,nr_inodes=6", "make room")] {
        let Some(ran) = on_a_small_disk(options, &set, script) else { return };
        let ran = ran.exits(0).says(&[words]);
        assert_eq!(ran.stdout, "exit 3\n", "{options}: something was left");
    }
    let script = r#""$NINEFOLD" decode "$SET" --out "$MOUNT/out"; echo "exit $?"; ls -A "$MOUNT""#;
    let ran = on_a_small_disk("size=2m", &set, script).unwrap().exits(0).says(&["make room"]);
    assert_eq!(ran.stdout, "exit 3\n");
    let script = r#"
        cp -r "$SET" "$MOUNT/d"; cd "$MOUNT/d"; rm *.00002.frag
        head -c 100000000 /dev/zero >../filler 2>/dev/null
        before=$(ls -A; cat * | cksum)
        "$NINEFOLD" repair .; echo "exit $?"
        [ "$before" = "$(ls -A; cat * | cksum)" ] && echo "unchanged"
        rm ../filler
        "$NINEFOLD" repair . >/dev/null && "$NINEFOLD" verify . >/dev/null && cmp "$SET"/*.00002.frag *.00002.frag && echo "healed""#;
    let ran = on_a_small_disk("size=6m", &set, script).unwrap().exits(0).says(&["make room"]);
    assert_eq!(ran.stdout, "exit 3\nunchanged\nhealed\n");
    repair(&set.dir).exits(0);
}
