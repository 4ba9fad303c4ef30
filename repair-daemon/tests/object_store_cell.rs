//! A cell of real processes in which two nodes keep their fragments in buckets.

#[path = "support/cell.rs"]
mod cell;
#[path = "support/emulator.rs"]
mod emulator;

use cell::{QUICK, TestCell, TestNode, eventually, free_address, noise};
use emulator::{Emulator, Kind};
use std::fs::File;
use std::process::Stdio;

/// Starts a node over a bucket, of a number that is there already or is the next.
fn start(cell: &mut TestCell, number: usize, emulator: &Emulator) {
    if number == cell.nodes.len() {
        let (data, domain) = (cell.path(format!("node-{number}")), format!("test/zone/rack-{number}/node-{number}"));
        cell.nodes.push(TestNode { child: None, data, domain, address: free_address() });
    }
    let mut command = cell.node_command(number);
    command.args(["--store", &emulator.url(&format!("cell/{number}")), "--store-endpoint", &emulator.endpoint]);
    match emulator.kind {
        Kind::S3 => command.arg("--store-ca").arg(emulator.authority()),
        Kind::Azure => command.arg("--store-allow-http"),
    };
    command.envs(emulator.environment());
    let log = File::options().create(true).append(true).open(cell.path(format!("node-{number}.log"))).unwrap();
    cell.nodes[number].child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
}

fn used_bytes(emulator: &Emulator, number: usize) -> u64 {
    use repair_daemon::store::FragmentStore;
    let spool = tempfile::tempdir().unwrap();
    let capacity = |settings: &mut repair_daemon::store::bucket::Settings| settings.capacity_bytes = Some(1 << 40);
    let store =
        emulator::open(&emulator.address(&format!("cell/{number}")), spool.path().to_owned(), capacity).unwrap();
    let room = store.room().unwrap();
    room.total_bytes - room.free_bytes
}

#[test]
fn buckets_are_nodes_of_a_cell() {
    // One over TLS.
    let (s3, azure) = (Emulator::start_with(Kind::S3, true, &[]), Emulator::start(Kind::Azure));
    let mut cell = TestCell::unstarted(&format!("{QUICK}code = \"rs:2+2\"\nextent_bytes = 4194304\n"));
    cell.start_daemon();
    start(&mut cell, 0, &s3);
    start(&mut cell, 1, &azure);
    cell.add_node("test/zone/rack-2/node-2");
    cell.add_node("test/zone/rack-3/node-3");
    cell.wait_healthy(4);

    // Every extent has a fragment on each of the four.
    let bytes = noise(3, 10_000_000);
    cell.put("file", &bytes);
    for (number, emulator) in [(0, &s3), (1, &azure)] {
        assert!(used_bytes(emulator, number) > 5_000_000, "half of it on each");
        assert_eq!(cell.fragments(number).len(), 0, "nothing in the data folder");
    }
    // The buckets alone are enough.
    cell.kill_node(2);
    cell.kill_node(3);
    assert!(cell.get("file").unwrap() == bytes);
    // A life later they still are.
    cell.kill_node(0);
    start(&mut cell, 0, &s3);
    cell.kill_node(1);
    start(&mut cell, 1, &azure);
    eventually("two nodes over buckets come back", || match cell.get("file") {
        Ok(read) => {
            assert!(read == bytes);
            Ok(())
        }
        Err(error) => Err(format!("{error:?}")),
    });

    // One of them is lost for good, and its part is made anew in another bucket.
    cell.start_node(2);
    cell.start_node(3);
    cell.wait_healthy(4);
    let seen = cell.event_count();
    cell.kill_node(1);
    start(&mut cell, 4, &azure);
    cell.wait_repaired(seen);
    assert!(used_bytes(&azure, 4) > 5_000_000);
    cell.kill_node(2);
    cell.kill_node(3);
    assert!(cell.get("file").unwrap() == bytes);
}
