//! Sums over a chain of real nodes: a lost fragment comes out byte for byte, and a hop that cannot give its share is named.

#[path = "support/cell.rs"]
mod cell;

use bytes::Bytes;
use cell::{QUICK, TestCell, noise};
use ec_core::fragment::{HEADER_BYTES, Header};
use ec_core::{Code, ShardIndex, ShardSet};
use repair_core::id::{DiskId, ExtentKey};
use repair_core::time::Millis;
use repair_core::wire::node::{Field, FragmentKey, Hop, Place};
use repair_core::wire::{NodeReply, NodeRequest, Refusal};
use repair_daemon::transport::{Pool, ToNode};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const SLICE_BYTES: u32 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// A fragment of the only extent.
struct Stored {
    node: usize,
    path: PathBuf,
    hop: Hop,
}

/// A cell in which one file is one extent of three data and two parity fragments, and nobody repairs.
struct World {
    cell: TestCell,
    runtime: Runtime,
    nodes: Pool<ToNode>,
    fragments: BTreeMap<u16, Stored>,
    payload_bytes: u64,
}

impl World {
    fn stored(bytes: usize) -> Self {
        let mut cell = TestCell::start(5, &format!("{QUICK}code = \"rs:3+2\"\n"));
        cell.put("file", &noise(3, bytes));
        cell.wait_full();
        cell.kill_daemon();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (nodes, fragments) = (Pool::new(), BTreeMap::new());
        let mut world = Self { cell, runtime, nodes, fragments, payload_bytes: 0 };
        for node in 0..5 {
            let path = world.cell.fragments(node).pop().unwrap();
            let mut header = [0; HEADER_BYTES];
            File::open(&path).unwrap().read_exact_at(&mut header, 0).unwrap();
            let header = Header::parse(&header).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let extent = ExtentKey(u128::from_str_radix(name.split('.').next().unwrap(), 16).unwrap());
            let index = header.identity.index.get();
            let address = world.cell.nodes[node].address.clone();
            let place = Place { disk: world.disk(&address), address };
            let fragment = FragmentKey { extent, generation: header.identity.generation, index };
            world.payload_bytes = header.identity.payload_bytes;
            world.fragments.insert(index, Stored { node, path, hop: Hop { place, fragment, coefficients: vec![] } });
        }
        assert_eq!(world.fragments.len(), 5);
        world
    }

    fn ask(&self, address: &str, request: &NodeRequest) -> (NodeReply, Bytes) {
        self.runtime.block_on(self.nodes.call(address, request, Bytes::new(), PATIENCE)).unwrap()
    }

    fn disk(&self, address: &str) -> DiskId {
        match self.ask(address, &NodeRequest::Info).0 {
            NodeReply::Info { disk, .. } => disk,
            other => panic!("{other:?}"),
        }
    }

    fn payload(&self, index: u16) -> Vec<u8> {
        let mut payload = vec![0; self.payload_bytes as usize];
        File::open(&self.fragments[&index].path).unwrap().read_exact_at(&mut payload, HEADER_BYTES as u64).unwrap();
        payload
    }

    /// A chain that ends in these lost fragments.
    fn chain(&self, lost: &[u16]) -> Vec<Hop> {
        let code = Code::new(&"rs:3+2".parse().unwrap()).unwrap();
        let lost: ShardSet = lost.iter().copied().map(ShardIndex::new).collect();
        let plan = code.plan(&lost, &lost.complement(5)).unwrap();
        let whole = plan.partial(&plan.reads().iter().copied().collect()).unwrap();
        assert_eq!((whole.helpers().len(), whole.carries().len()), (3, lost.len()));
        let hop = |(column, index): (usize, &ShardIndex)| Hop {
            coefficients: (0..lost.len()).map(|row| whole.coefficients().get(row, column)).collect(),
            ..self.fragments[&index.get()].hop.clone()
        };
        whole.helpers().iter().enumerate().map(hop).collect()
    }

    fn combine(&self, hops: &[Hop], offset: u64, bytes: u32, patience: Millis) -> (NodeReply, Bytes) {
        let request = NodeRequest::Combine { field: Field::Gf256, offset, bytes, patience, hops: hops.to_vec() };
        self.ask(&hops[0].place.address, &request)
    }

    fn node_of(&self, hop: &Hop) -> usize {
        self.fragments[&hop.fragment.index].node
    }
}

#[test]
fn three_hops_give_the_lost_fragment_byte_for_byte() {
    let world = World::stored(9_000_000);
    for lost in [vec![1], vec![4], vec![0, 3]] {
        let mut hops = world.chain(&lost);
        let payloads: Vec<Vec<u8>> = lost.iter().map(|index| world.payload(*index)).collect();
        let most = u64::from(SLICE_BYTES) / lost.len() as u64;
        let mut offset = 0;
        while offset < world.payload_bytes {
            let bytes = most.min(world.payload_bytes - offset);
            let (reply, sums) = world.combine(&hops, offset, bytes as u32, Millis(5_000));
            assert_eq!(reply, NodeReply::Combined);
            let range = offset as usize..(offset + bytes) as usize;
            let expected: Vec<u8> = payloads.iter().flat_map(|payload| payload[range.clone()].to_vec()).collect();
            assert!(sums == expected, "fragments {lost:?} at {offset}");
            offset += bytes;
            // Every node is first, last and between.
            hops.rotate_left(1);
        }
    }
}

#[test]
fn a_damaged_source_enters_no_sum_and_is_named() {
    let world = World::stored(3_000_000);
    let hops = world.chain(&[1]);
    for hop in &hops {
        let path = &world.fragments[&hop.fragment.index].path;
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, HEADER_BYTES as u64 + 5000).unwrap();
        file.write_all_at(&[byte[0] ^ 4], HEADER_BYTES as u64 + 5000).unwrap();
        match world.combine(&hops, 0, 8192, Millis(5_000)).0 {
            NodeReply::HopFailed { disk, fragment, refusal: Refusal::Damaged(reason) } => {
                assert_eq!((disk, fragment), (hop.place.disk, hop.fragment));
                assert!(reason.contains("block 1"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        // Blocks that are sound are given all the same.
        assert_eq!(world.combine(&hops, 0, 4096, Millis(5_000)).0, NodeReply::Combined);
        file.write_all_at(&byte, HEADER_BYTES as u64 + 5000).unwrap();
    }
}

#[test]
fn a_hop_that_is_dead_or_asleep_is_named_before_the_asker_gives_up() {
    let mut world = World::stored(3_000_000);
    let hops = world.chain(&[1]);
    let failed = |world: &World, hops: &[Hop]| {
        let began = Instant::now();
        match world.combine(hops, 0, 4096, Millis(2_000)).0 {
            NodeReply::HopFailed { disk, refusal: Refusal::Unavailable(_), .. } => (disk, began.elapsed()),
            other => panic!("{other:?}"),
        }
    };
    let last = world.node_of(&hops[2]);
    world.cell.signal_node(last, Signal::STOP);
    let (disk, took) = failed(&world, &hops);
    assert_eq!(disk, hops[2].place.disk, "the one that sleeps, and not the one that waited for it");
    assert!(took < Duration::from_millis(2_000), "{took:?}");
    world.cell.signal_node(last, Signal::CONT);
    let middle = world.node_of(&hops[1]);
    world.cell.kill_node(middle);
    let (disk, took) = failed(&world, &hops);
    assert_eq!(disk, hops[1].place.disk);
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    world.cell.start_node(middle);
    let began = Instant::now();
    while world.combine(&hops, 0, 4096, Millis(5_000)).0 != NodeReply::Combined {
        // It has a cell by its label, so it serves without a daemon.
        assert!(began.elapsed() < PATIENCE, "it does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
}
