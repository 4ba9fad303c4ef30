//! Clients that read from files which nodes on their host give them: right bytes in every case, and the network where there is no
//! file to be had.

#[path = "support/cell.rs"]
mod cell;

use cell::{QUICK, TestCell, eventually, noise, text};
use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const RS: &str = "code = \"rs:4+2\"\n";
/// Whole blocks of every shard, so that what is read is what is stored.
const BYTES: usize = 24 << 20;

fn stored() -> (TestCell, Vec<u8>) {
    let cell = TestCell::start(7, &format!("{QUICK}{RS}"));
    let bytes = noise(31, BYTES);
    cell.put("file", &bytes);
    (cell, bytes)
}

fn command(cell: &TestCell) -> (Command, PathBuf) {
    let out = cell.path("out");
    let command = cell.client(&["get".as_ref(), "file".as_ref(), out.as_os_str(), "--json".as_ref()]);
    (command, out)
}

/// The bytes that a command got, and how many came from files.
fn got(output: &Output, out: &PathBuf) -> (Vec<u8>, usize) {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bytes = fs::read(out).unwrap();
    fs::remove_file(out).unwrap();
    (bytes, usize::try_from(report["local_bytes"].as_u64().unwrap()).unwrap())
}

fn get(cell: &TestCell) -> (Vec<u8>, usize) {
    let (mut command, out) = command(cell);
    got(&command.output().unwrap(), &out)
}

/// On a busy machine a piece may be asked for over the network: whatever is late or not in memory is.
fn assert_mostly_local(local: usize) {
    assert!(local > BYTES / 2 && local <= BYTES, "{local} of {BYTES}");
}

/// Nodes that hold a data fragment, by its index.
fn data_holders(cell: &TestCell) -> Vec<(usize, PathBuf)> {
    let index = |path: &PathBuf| path.file_name()?.to_str()?.split('.').nth(2)?.parse::<u16>().ok();
    let held = |node| cell.fragments(node).into_iter().map(move |path| (node, path));
    let mut held: Vec<(usize, PathBuf)> = (0..cell.nodes.len()).flat_map(held).collect();
    held.sort_by_key(|(_, path)| index(path));
    held.truncate(4);
    held
}

#[test]
fn a_fresh_client_reads_all_from_files_and_a_short_range_over_the_network() {
    let (cell, bytes) = stored();
    let (read, local) = get(&cell);
    assert!(read == bytes);
    assert_mostly_local(local);
    let socket = cell.nodes[0].data.join("door");
    assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
    let short = noise(32, 1 << 20);
    cell.put("file", &short);
    assert_eq!(get(&cell), (short, 0));
}

#[test]
fn a_node_that_died_leaves_its_socket_and_its_next_life_opens_it_again() {
    let (mut cell, bytes) = stored();
    let (node, _) = data_holders(&cell)[0].clone();
    cell.kill_node(node);
    assert!(cell.nodes[node].data.join("door").exists());
    let (read, local) = get(&cell);
    assert!(read == bytes);
    assert_mostly_local(local);
    cell.start_node(node);
    cell.wait_healthy(7);
    cell.wait_full();
    let (read, local) = get(&cell);
    assert!(read == bytes);
    assert_mostly_local(local);
}

#[test]
fn without_doors_all_is_read_over_the_network() {
    let (cell, bytes) = stored();
    let mut silent = Vec::new();
    for (way, node) in (0..7).enumerate() {
        let socket = cell.nodes[node].data.join("door");
        fs::remove_file(&socket).unwrap();
        match way % 3 {
            0 => {}
            1 => fs::write(&socket, "not a socket").unwrap(),
            // One that takes connections and never answers.
            _ => silent.push(UnixListener::bind(&socket).unwrap()),
        }
    }
    let began = Instant::now();
    let (read, local) = get(&cell);
    assert!(read == bytes);
    assert_eq!(local, 0);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn another_user_reads_over_the_network() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only root can be two users");
        return;
    }
    let (cell, bytes) = stored();
    fs::set_permissions(cell.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Even where the modes would let it.
    for node in &cell.nodes {
        fs::set_permissions(&node.data, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(node.data.join("door"), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let folder = cell.path("theirs");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
    // A copy that they may run: the build's folder may be closed to them.
    let binary = folder.join("ninefold");
    fs::copy(env!("CARGO_BIN_EXE_ninefold"), &binary).unwrap();
    let out = folder.join("out");
    let mut theirs = Command::new(&binary);
    theirs.args(["get", "file"]).arg(&out).args(["--json", "--cell", &cell.address]).uid(65534).current_dir(&folder);
    let output = eventually("the copy can be run", || theirs.output().map_err(|error| error.to_string()));
    let (read, local) = got(&output, &out);
    assert!(read == bytes);
    assert_eq!(local, 0);
}

#[test]
fn a_file_that_rots_gives_no_wrong_byte_and_is_reported() {
    let (cell, bytes) = stored();
    let (_, fragment) = data_holders(&cell)[1].clone();
    let file = File::options().read(true).write(true).open(&fragment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 3 << 20).unwrap();
    let seen = cell.event_count();
    file.write_all_at(&[byte[0] ^ 1], 3 << 20).unwrap();
    let (read, local) = get(&cell);
    assert!(read == bytes);
    assert!(local > BYTES / 2, "{local}");
    eventually("the rot is found", || {
        let kinds = cell.kinds_after(seen);
        if kinds.iter().any(|kind| kind == "fragment_damaged") { Ok(()) } else { Err(format!("{kinds:?}")) }
    });
}

#[test]
fn a_file_without_its_name_is_not_given() {
    let (cell, bytes) = stored();
    // Opened and kept open by the node for earlier readers.
    assert_mostly_local(get(&cell).1);
    let (node, fragment) = data_holders(&cell)[2].clone();
    let moved = cell.path("moved");
    fs::rename(&fragment, &moved).unwrap();
    let before = cell.event_count();
    let (read, _) = get(&cell);
    assert!(read == bytes);
    eventually("its node noticed, as it does when it is asked over the network", || {
        let events = cell.events_after(before);
        let of_it = |event: &serde_json::Value| event.to_string().contains(&format!("node-{node}"));
        if events.iter().any(of_it) { Ok(()) } else { Err(format!("{events:?}")) }
    });
}

#[test]
fn a_node_that_stands_still_is_not_waited_for() {
    let (cell, bytes) = stored();
    let (node, _) = data_holders(&cell)[3].clone();
    cell.signal_node(node, Signal::STOP);
    let began = Instant::now();
    let (read, _) = get(&cell);
    let took = began.elapsed();
    cell.signal_node(node, Signal::CONT);
    assert!(read == bytes);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_data_folder_deeper_than_a_socket_path_can_be_long_is_read_from_too() {
    let mut cell = TestCell::start(0, &format!("{QUICK}{RS}"));
    for number in 0..6 {
        let node = cell.add_node(&format!("test/zone/rack-{number}/node-{number}"));
        cell.kill_node(node);
        cell.nodes[node].data = cell.path("deep".repeat(40)).join("er".repeat(50)).join(format!("node-{number}"));
        cell.start_node(node);
    }
    cell.wait_healthy(6);
    let bytes = noise(33, BYTES);
    cell.put("file", &bytes);
    let (read, local) = get(&cell);
    assert!(read == bytes);
    assert_mostly_local(local);
}
