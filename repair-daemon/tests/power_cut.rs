//! Every disk of a cell loses power at a moment of its own, or believes that it has room it has not: what was acknowledged is
//! there afterwards, and no operator is needed.

#[path = "support/cell.rs"]
mod cell;
#[path = "support/image.rs"]
mod image;

use cell::{QUICK, TestCell, TestNode, eventually, noise};
use image::{Image, Tmpfs, cut_power, may_mount};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CODE: &str = "code = \"rs:4+2\"\n";
/// One more than the code has fragments.
const NODES: usize = 7;
/// Rounds where `NINEFOLD_POWER_CUTS` does not say otherwise.
const ROUNDS: u64 = 5;
const IMAGE_BYTES: u64 = 96 << 20;
const JOURNAL_BYTES: u64 = 24 << 20;
/// From the first disk that loses power to the last one.
const SPREAD_MS: u64 = 200;

type Stored = Vec<(String, Vec<u8>)>;

/// A cell of which each disk is a file system of its own. Processes end before their disks go.
struct Rig {
    cell: TestCell,
    images: Vec<Image>,
    disks: TempDir,
}

impl Rig {
    /// Journals are on disks of their own: on one with the fragments, what forces a journal to the disk would force the names of
    /// fragments too, and hide that nobody else did.
    fn start() -> Self {
        let disks = tempfile::tempdir().unwrap();
        let place = |name: &str| disks.path().join(name);
        let image = |name: &str, bytes, mount: &Path| Image::ext4(place(&format!("{name}.img")), bytes, mount);
        let mut cell = TestCell::unstarted(&format!("{QUICK}{CODE}"));
        let mut images = vec![image("catalog", IMAGE_BYTES, &place("catalog"))];
        cell.catalog = place("catalog").join("catalog.redb");
        for number in 0..NODES {
            let data = place(&format!("node-{number}"));
            images.push(image(&format!("node-{number}"), IMAGE_BYTES, &data));
            let domain = format!("test/zone/rack-{number}/node-{number}");
            cell.nodes.push(TestNode { child: None, data, domain, address: cell::free_address() });
        }
        let mut rig = Self { cell, images, disks };
        rig.start_processes();
        rig.cell.wait_healthy(NODES as u64);
        rig.end_processes();
        for number in 0..NODES {
            let journal = rig.cell.nodes[number].data.join("journal");
            let kept = rig.cell.path(format!("journal-{number}"));
            copy(&journal, &kept);
            rig.images.push(Image::ext4(
                rig.disks.path().join(format!("journal-{number}.img")),
                JOURNAL_BYTES,
                &journal,
            ));
            copy(&kept, &journal);
        }
        rig.start_processes();
        rig.cell.wait_healthy(NODES as u64);
        rig
    }

    fn start_processes(&mut self) {
        self.cell.start_daemon();
        (0..NODES).for_each(|number| self.cell.start_node(number));
    }

    fn end_processes(&mut self) {
        self.cell.kill_daemon();
        (0..NODES).for_each(|number| self.cell.kill_node(number));
    }

    /// Ends what ran on disks without power, and starts everything again on what the disks hold.
    fn start_again(&mut self) {
        self.end_processes();
        self.images.iter().rev().for_each(Image::unmount);
        self.images.iter().for_each(Image::mount);
        self.start_processes();
        self.cell.wait_healthy(NODES as u64);
    }

    /// From now on no node forces a folder to its disk. (Files are forced by another call; journals and labels are not made anew
    /// in so short a time.)
    fn lie_about_folders(&self) -> Vec<Child> {
        let lie = ["-f", "-qq", "-e", "trace=fsync", "-e", "inject=fsync:retval=0", "-o", "/dev/null", "-p"];
        let attach = |node: &TestNode| {
            let pid = node.child.as_ref().unwrap().id().to_string();
            Command::new("strace").args(lie).arg(pid).spawn().unwrap()
        };
        let liars = self.cell.nodes.iter().map(attach).collect();
        // Nothing says when it is attached.
        std::thread::sleep(Duration::from_secs(1));
        liars
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % limit
    }
}

/// Stores one file after another until it is told to stop; gives those that were acknowledged.
fn store(cell: &TestCell, round: u64, dice: &mut Dice, stop: &AtomicBool) -> Stored {
    let mut stored = Stored::new();
    for number in 0.. {
        let (name, bytes) =
            (format!("cut-{round}-{number}"), noise(round * 1000 + number, 1 + dice.below(400_000) as usize));
        let source = cell.path("source");
        std::fs::write(&source, &bytes).unwrap();
        let mut put = cell.client(&["put", source.to_str().unwrap(), &name]);
        let mut put = put.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        match end_of(&mut put, stop) {
            Some(true) => stored.push((name, bytes)),
            Some(false) => {}
            None => break,
        }
    }
    stored
}

/// Whether it went well; `None` where it was stopped.
fn end_of(put: &mut Child, stop: &AtomicBool) -> Option<bool> {
    loop {
        if let Some(status) = put.try_wait().unwrap() {
            return Some(status.success());
        }
        if stop.load(Ordering::Relaxed) {
            let _ = put.kill();
            let status = put.wait().unwrap();
            return status.success().then_some(true);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Puts run while the power goes; what was acknowledged.
fn round(rig: &mut Rig, round: u64) -> Stored {
    let (mut dice, mut moments) = (Dice(round), Dice(!round));
    let stop = AtomicBool::new(false);
    let wait = Duration::from_millis(300 + moments.below(1500));
    let stored = std::thread::scope(|scope| {
        let cell = &rig.cell;
        let writer = scope.spawn(|| store(cell, round, &mut dice, &stop));
        std::thread::sleep(wait);
        let mut cuts: Vec<(u64, &Path)> =
            rig.images.iter().map(|image| (moments.below(SPREAD_MS), image.path())).collect();
        cut_power(&mut cuts);
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    rig.start_again();
    stored
}

#[test]
fn what_was_acknowledged_is_there_after_the_power_went() {
    if !may_mount() {
        return;
    }
    let rounds = std::env::var("NINEFOLD_POWER_CUTS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut rig = Rig::start();
    let (mut all, began) = (Stored::new(), Instant::now());
    for number in 1..=rounds {
        all.extend(round(&mut rig, number));
        for (name, bytes) in &all {
            eventually(name, || match rig.cell.get(name) {
                Ok(found) if found == *bytes => Ok(()),
                Ok(found) => panic!("{name}: other bytes, {} of {}", found.len(), bytes.len()),
                Err((code, said)) => Err(format!("{code:?}: {said}")),
            });
        }
    }
    assert!(all.len() as u64 >= 2 * rounds, "{} files were stored", all.len());
    println!("{rounds} power cuts, {} acknowledged files, all there; {:?}", all.len(), began.elapsed());
}

/// The same cuts, with nodes that do not force their folders to the disk: were this seen to lose nothing, the test above would
/// show nothing.
#[test]
fn without_forced_folders_the_power_takes_what_was_acknowledged() {
    if !may_mount() {
        return;
    }
    let mut rig = Rig::start();
    let mut lost = 0;
    for number in 1..=ROUNDS {
        let mut liars = rig.lie_about_folders();
        let stored = round(&mut rig, number);
        liars.iter_mut().for_each(|liar| _ = liar.wait());
        lost += stored.iter().filter(|(name, bytes)| rig.cell.get(name).ok().as_ref() != Some(bytes)).count();
        if lost > 0 {
            break;
        }
    }
    assert!(lost > 0, "{ROUNDS} power cuts took nothing");
}

/// A disk that says it has room where it has none: files are written into memory, and cannot be forced to the disk.
#[test]
fn what_a_starved_disk_could_not_keep_was_not_acknowledged_as_kept() {
    if !may_mount() {
        return;
    }
    const BACKED_BYTES: u64 = 24 << 20;
    let folder = tempfile::tempdir().unwrap();
    let small = Tmpfs::new(&folder.path().join("small"), BACKED_BYTES);
    let disk = Image::ext4(folder.path().join("small/disk.img"), 200 << 20, &folder.path().join("disk"));
    let mut cell = TestCell::unstarted(&format!("{QUICK}{CODE}"));
    cell.start_daemon();
    (0..NODES - 1).for_each(|number| _ = cell.add_node(&format!("test/zone/rack-{number}/node-{number}")));
    let (data, domain) = (disk.path().to_owned(), "test/zone/rack-x/node-x".to_owned());
    cell.nodes.push(TestNode { child: None, data, domain, address: cell::free_address() });
    cell.start_node(NODES - 1);
    cell.wait_healthy(NODES as u64);

    // Five times what is there to hold it, were the disk given as much as the others.
    let mut stored = Stored::new();
    for number in 0..40 {
        let (name, bytes) = (format!("file-{number}"), noise(number, 12 << 20));
        cell.put(&name, &bytes);
        stored.push((name, bytes));
    }
    let log = cell.log(&format!("node-{}.log", NODES - 1));
    assert!(log.contains("Input/output error") || log.contains("No space left on device"), "nothing failed: {log}");

    small.resize(300 << 20);
    cell.kill_node(NODES - 1);
    disk.unmount();
    disk.mount();
    cell.start_node(NODES - 1);
    cell.wait_healthy(NODES as u64);
    // Every fragment that counts is looked at where it lies: nothing was taken for stored that the disk does not have.
    cell.good(&["scrub"]);
    std::thread::sleep(Duration::from_secs(5));
    cell.wait_full();
    let damaged: Vec<_> =
        cell.events_after(0).into_iter().filter(|event| event["kind"] == "fragment_damaged").collect();
    assert!(damaged.is_empty(), "{damaged:#?}");
    for (name, bytes) in &stored {
        assert!(cell.get(name).unwrap() == *bytes, "{name}");
    }
}
