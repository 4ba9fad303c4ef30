//! A node inside another program, over a store of that program's: here in memory, in a cell of real processes.

#[path = "support/cell.rs"]
mod cell;

use cell::{QUICK, TestCell, eventually, free_address, noise};
use repair_core::id::PgId;
use repair_core::node::NodeConfig;
use repair_daemon::node::{Options, run_over};
use repair_daemon::store::{Counted, FragmentStore, MemoryStore, ReadBack, Unlabelled};
use std::sync::Arc;

fn options(cell: &TestCell) -> Options {
    Options {
        data: cell.path("embedded"),
        unlabelled: Unlabelled::Format,
        listen: free_address(),
        advertise: None,
        domain: "test/zone/rack-memory/node-memory".parse().unwrap(),
        daemon: cell.address.clone(),
        disk_threads: 8,
        read_back: ReadBack::Always,
        config: NodeConfig { headroom_bytes: 0, ..NodeConfig::default() },
    }
}

/// How many fragments there are, in all groups a small cell has.
fn fragments(store: &MemoryStore) -> usize {
    let in_group = |pg| store.list(PgId(pg), None, usize::MAX).unwrap().len();
    (0..10_000).map(in_group).sum()
}

#[test]
fn a_node_serves_fragments_from_a_store_of_its_program() {
    // With two nodes as processes and codes of three fragments, every extent needs the one in memory.
    let cell = TestCell::start(2, &format!("{QUICK}code = \"rs:2+1\"\nextent_bytes = 1048576\n"));
    let memory = MemoryStore::new(1 << 30);
    let counted = Arc::new(Counted::new(memory.clone()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.spawn(run_over(options(&cell), Arc::clone(&counted) as Arc<dyn FragmentStore>));
    cell.wait_healthy(3);

    let bytes = noise(7, 5_000_000);
    cell.put("file", &bytes);
    assert_eq!(fragments(&memory), 5, "one of each extent");
    assert!(cell.get("file").unwrap() == bytes);
    assert!(counted.counts().read_backs >= 15, "header, payload and tail of each: {:?}", counted.counts());
    assert!(counted.counts().seals >= 5 && counted.counts().failures == 0, "{:?}", counted.counts());

    // Whatever the others lack is read from memory.
    let mut cell = cell;
    cell.kill_node(0);
    assert!(cell.get("file").unwrap() == bytes);
    cell.good(&["rm", "file"]);
    eventually("what was removed leaves the store", || match fragments(&memory) {
        0 => Ok(()),
        some => Err(format!("{some} fragments")),
    });
    runtime.shutdown_background();
}
