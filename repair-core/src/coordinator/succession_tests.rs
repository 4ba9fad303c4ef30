//! Another record in an extent's place, with the daemon's owner and real members; the test is the job that makes the fragments.

use super::testing::{World, hasty, root_of};
use super::{Coordinator, CoordinatorConfig};
use crate::id::{DiskId, ExtentKey, RecordHash, StreamKey};
use crate::node::Body;
use crate::pg::{PgConfig, PgEvent, Ticket};
use crate::time::Millis;
use crate::wire::NodeRequest;
use crate::wire::daemon::ExtentEntry;
use crate::wire::node::StageKey;
use ec_core::fragment::{BirthIdentity, ExtentRecord, FragmentEntry, Hash};
use ec_core::geometry::Geometry;
use ec_core::{CodeSpec, ShardIndex};

const DATA: [u8; 5_000] = [7; 5_000];
const RELEASE_AFTER: Millis = Millis(4_000);

/// A cell of four nodes with one extent; no disk is given up while a test lasts.
fn cell() -> (World, ExtentEntry) {
    let pg = PgConfig { call_deadline: Millis(200), release_after: RELEASE_AFTER, ..PgConfig::default() };
    let code = Some("rs:2+1".parse().unwrap());
    let mut world = World::new(4, CoordinatorConfig { grace: Millis(3_600_000), code, pg, ..hasty() });
    let entry = world.put(StreamKey(0xa), "a", &DATA);
    world.settle();
    world.pass(Millis(3_000));
    (world, entry)
}

fn coordinator(world: &mut World) -> &mut Coordinator {
    world.coordinator.as_mut().unwrap()
}

/// Two copies are staged in the place of what there is, and the owner is asked to put their record on file.
fn succeed(world: &mut World, extent: ExtentKey) -> RecordHash {
    let group = coordinator(world).groups.get_mut(&extent.pg()).unwrap();
    let succession = group.owner.grant_successor(extent).unwrap();
    coordinator(world).touched.insert(extent.pg());
    let code: CodeSpec = "replicate:2".parse().unwrap();
    let file = world.nodes.values_mut().find_map(|host| {
        host.files().iter().find(|(name, _)| name.extent == extent).map(|(_, file)| file.record.clone())
    });
    let old = ExtentRecord::parse(&file.unwrap()).unwrap();
    let payload_bytes = Geometry::new(old.extent_bytes, code.k()).shard_bytes();
    let mut payload = DATA.to_vec();
    payload.resize(payload_bytes as usize, 0);
    let mut fragments = Vec::new();
    for index in 0..2u16 {
        let identity = BirthIdentity {
            cell: old.cell,
            extent: old.extent,
            generation: succession.generation,
            index: ShardIndex::new(index),
            payload_bytes,
        };
        fragments.push(FragmentEntry { identity, root: Hash::new(root_of(&identity, &payload)) });
        let key = StageKey { attempt: succession.attempt, extent, index };
        let open = NodeRequest::Stage {
            token: succession.token,
            cell: crate::id::CellKey(old.cell.0),
            key,
            generation: succession.generation,
            code: code.to_descriptor(),
            extent_bytes: old.extent_bytes,
        };
        let root = *world.stage_fragment(succession.members[usize::from(index)], open, key, &payload);
        assert_eq!(root, root_of(&identity, &payload));
    }
    let record: Body = ExtentRecord { revision: 2, code, fragments, ..old }.to_bytes().unwrap().into();
    let (hash, attempt) = (RecordHash::of(&record), succession.attempt);
    let event = PgEvent::Supersede { ticket: Ticket(1 << 40), attempt, extent, record };
    coordinator(world).inbox.push_back((extent.pg(), event));
    world.pass(Millis(1_500));
    hash
}

/// Files of an extent: of its first record, and of later ones.
fn files(world: &mut World, extent: ExtentKey) -> (usize, usize) {
    let of = |world: &mut World, first: bool| {
        let hosts = world.nodes.values_mut();
        let names = hosts.flat_map(|host| host.files().keys().copied().collect::<Vec<_>>());
        names.filter(|name| name.extent == extent && (name.generation == 1) == first).count()
    };
    (of(world, true), of(world, false))
}

/// How many nodes have this record on their list.
fn listing(world: &World, extent: ExtentKey, hash: RecordHash) -> usize {
    let lists = world.nodes.values().filter_map(|host| host.node().list(extent.pg()));
    lists.filter(|list| list.get(&extent) == Some(&hash)).count()
}

fn members(world: &World, extent: ExtentKey) -> Vec<DiskId> {
    world.coordinator().groups[&extent.pg()].owner.row().unwrap().members.clone()
}

#[test]
fn members_take_the_new_record_and_give_the_old_files_up_once_they_were_listed() {
    let (mut world, entry) = cell();
    let hash = succeed(&mut world, entry.extent);
    assert_eq!((listing(&world, entry.extent, hash), files(&mut world, entry.extent)), (3, (3, 2)));
    world.pass(Millis(60_000));
    assert_eq!((listing(&world, entry.extent, hash), files(&mut world, entry.extent)), (3, (0, 2)));
    assert!(world.nodes.values().all(|host| host.node().former(entry.extent).is_none()));
    // Another life of the daemon finds the same, and misses nothing.
    world.stop_daemon();
    world.start_daemon();
    world.settle();
    world.pass(Millis(60_000));
    assert!(world.repairs.is_empty());
    assert_eq!(files(&mut world, entry.extent), (0, 2));
    let shape = world.coordinator().groups[&entry.extent.pg()].owner.shape(entry.extent);
    assert_eq!(shape.map(|shape| shape.fragments), Some(2));
}

#[test]
fn whoever_starts_between_the_two_steps_goes_on_with_the_second() {
    let (mut world, entry) = cell();
    let hash = succeed(&mut world, entry.extent);
    let disks = members(&world, entry.extent);
    world.stop_daemon();
    for disk in disks {
        world.kill_node(disk);
        world.start_node(disk);
    }
    assert_eq!(files(&mut world, entry.extent), (3, 2));
    world.start_daemon();
    world.pass(Millis(60_000));
    assert_eq!((listing(&world, entry.extent, hash), files(&mut world, entry.extent)), (3, (0, 2)));
}

#[test]
fn a_node_that_is_away_keeps_all_old_files_where_they_are() {
    let (mut world, entry) = cell();
    let _ = succeed(&mut world, entry.extent);
    // It holds no fragment of the new record, and was not asked yet whether the old one may go.
    let last = members(&world, entry.extent)[2];
    world.kill_node(last);
    world.pass(Millis(60_000));
    assert_eq!(files(&mut world, entry.extent), (3, 2));
    world.start_node(last);
    world.pass(Millis(60_000));
    assert_eq!(files(&mut world, entry.extent), (0, 2));
}
