//! The coordinator whole, with real nodes, in virtual time.

use super::testing::{CLIENT, World, hasty};
use super::{CoordinatorConfig, CoordinatorEvent, Stopped};
use crate::catalog::{PgState, Txn, key};
use crate::id::{DiskId, StreamKey};
use crate::node::Body;
use crate::repair::RepairOutcome;
use crate::rng::Dice;
use crate::time::Millis;
use crate::wire::daemon::{EndOfStream, NameEntry, Places, Subject};
use crate::wire::node::FragmentKey;
use crate::wire::{DaemonReply, DaemonRequest, NodeReply, NodeRequest, Refusal};

pub(super) const A: StreamKey = StreamKey(0xa);
pub(super) const B: StreamKey = StreamKey(0xb);

pub(super) fn data(bytes: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    (0..bytes).map(|_| dice.bits() as u8).collect()
}

pub(super) fn locate(world: &mut World, extent: crate::id::ExtentKey) -> Places {
    match world.ask(DaemonRequest::Locate { extent }) {
        DaemonReply::Located(places) => places,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_put_is_found_and_a_killed_node_is_replaced_and_rebuilt() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "folder/a", &data(50_000, 1));
    let DaemonReply::Found(row) = world.ask(DaemonRequest::Lookup { name: b"folder/a".to_vec() }) else { panic!() };
    assert_eq!((row.stream, row.offset, row.bytes), (A, 0, 50_000));
    let page = world.ask(DaemonRequest::Extents { stream: A, offset: 7 });
    assert_eq!(page, DaemonReply::ExtentsPage { extents: vec![entry], more: false });
    let DaemonReply::NamesPage { names, more: false } =
        world.ask(DaemonRequest::Names { prefix: b"folder/".to_vec(), after: None })
    else {
        panic!()
    };
    assert_eq!((names.len(), names[0].row), (1, row));
    world.settle();
    let places = locate(&mut world, entry.extent);
    assert!(places.slots.iter().all(|slot| slot.len() == 1), "{places:?}");
    assert_eq!((places.slots.len(), places.state), (6, PgState::Open));

    let killed = places.slots[2][0].disk;
    world.notes.clear();
    world.kill_node(killed);
    let spec = world.repair_one();
    assert_eq!((spec.extent, spec.targets.keys().copied().collect::<Vec<_>>()), (entry.extent, vec![2]));
    assert!(spec.targets[&2].disk != killed && !spec.sources.contains_key(&2));
    assert_eq!(spec.sources.len(), 5);
    world.settle();
    let status = world.coordinator().status();
    assert!(status.full_redundancy && !status.risk, "{status:#?}");
    assert_eq!((status.repairs.done, status.nodes.lost, status.extents_by_margin.get(&2)), (1, 1, Some(&1)));
    let places = locate(&mut world, entry.extent);
    assert_eq!(places.slots[2][0].disk, spec.targets[&2].disk);
    let kinds = world.kinds();
    let order =
        ["disk_suspect", "disk_lost", "pg_closed", "repair_started", "repair_done", "pg_opened", "redundancy_full"];
    let positions: Vec<_> = order.iter().map(|kind| kinds.iter().position(|found| found == kind)).collect();
    assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{kinds:?}");
}

#[test]
fn a_node_that_returns_before_it_is_lost_is_caught_up_in_place() {
    let mut world = World::new(8, CoordinatorConfig { grace: Millis(600_000), ..hasty() });
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let member = locate(&mut world, entry.extent).slots[4][0].disk;
    world.kill_node(member);
    world.pass(Millis(10_000));
    let status = world.coordinator().status();
    assert_eq!((status.nodes.suspect, status.nodes.lost, status.full_redundancy), (1, 0, false));
    assert_eq!(status.extents_by_margin.get(&1), Some(&1), "what does not answer counts as lost");
    world.start_node(member);
    world.settle();
    assert_eq!(locate(&mut world, entry.extent).slots[4][0].disk, member);
    assert_eq!(world.coordinator().status().repairs.done, 0, "nothing had to be built");
}

#[test]
fn a_replacement_is_given_up_when_the_old_disk_returns() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let member = locate(&mut world, entry.extent).slots[0][0].disk;
    world.kill_node(member);
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    let joining = |world: &World| {
        let row = world.coordinator().owner(entry.extent.pg()).unwrap().row().unwrap().clone();
        (row.joining.len(), row.members[0])
    };
    assert_eq!(joining(&world), (1, member));
    world.start_node(member);
    world.until("it is given up", |world| joining(world) == (0, member));
}

#[test]
fn damage_that_a_node_finds_is_rebuilt_and_told() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = locate(&mut world, entry.extent).slots[1][0].disk;
    let fragment = FragmentKey { extent: entry.extent, generation: 1, index: 1 };
    world.nodes.get_mut(&disk).unwrap().files().get_mut(&fragment).unwrap().class = "rot.payload";
    let reply = world.ask(DaemonRequest::Suspect { disk, fragment, reason: "CRC".into() });
    assert_eq!(reply, DaemonReply::Noted);
    let spec = world.repair_one();
    assert_eq!(spec.targets.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(spec.targets[&1].disk, disk);
    world.settle();
    let damage = world.kinds().into_iter().filter(|kind| kind.starts_with("fragment_")).collect::<Vec<_>>();
    assert_eq!(damage, ["fragment_damaged", "fragment_healed"]);
    assert_eq!(world.nodes.get_mut(&disk).unwrap().files()[&fragment].class, "healthy");
}

#[test]
fn what_is_deleted_behind_a_node_s_back_is_noticed_by_its_digest_and_rebuilt() {
    let mut config = hasty();
    config.pg.digest_every = Millis(60_000);
    let mut world = World::new(8, config);
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    // Nothing is found where nothing is amiss.
    world.pass(Millis(300_000));
    assert!(world.coordinator().idle() && world.repairs.is_empty());
    let disk = locate(&mut world, entry.extent).slots[2][0].disk;
    let fragment = FragmentKey { extent: entry.extent, generation: 1, index: 2 };
    world.nodes.get_mut(&disk).unwrap().files().remove(&fragment).unwrap();
    world.pass(Millis(61_000));
    let spec = world.repair_one();
    assert_eq!(spec.targets.keys().copied().collect::<Vec<_>>(), [2]);
    world.settle();
    assert!(world.nodes.get_mut(&disk).unwrap().files().contains_key(&fragment));
}

#[test]
fn fragments_that_are_sound_after_all_count_again_without_a_repair() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let slots = locate(&mut world, entry.extent).slots;
    // More than the code survives: nothing can be rebuilt.
    let lost: Vec<(DiskId, FragmentKey)> = (0..3u16)
        .map(|index| (slots[usize::from(index)][0].disk, FragmentKey { extent: entry.extent, generation: 1, index }))
        .collect();
    let set = |world: &mut World, class: &'static str| {
        for (disk, fragment) in &lost {
            world.nodes.get_mut(disk).unwrap().files().get_mut(fragment).unwrap().class = class;
        }
    };
    set(&mut world, "unreadable");
    for (disk, fragment) in &lost {
        world.ask(DaemonRequest::Suspect { disk: *disk, fragment: *fragment, reason: "an error".into() });
    }
    let readable = |world: &mut World| locate(world, entry.extent).slots.iter().filter(|slot| !slot.is_empty()).count();
    world.pass(Millis(5_000));
    assert_eq!(readable(&mut world), 3);
    set(&mut world, "healthy");
    for (disk, fragment) in &lost {
        let reply = world.ask_node(*disk, NodeRequest::Check { fragment: *fragment }, Body::new());
        assert_eq!(reply, NodeReply::Checked { class: "healthy".into(), healthy: true });
    }
    world.pass(Millis(5_000));
    assert_eq!(readable(&mut world), 6);
    assert!(world.coordinator().idle());
    let told = world.kinds().into_iter().filter(|kind| *kind == "fragment_healed").count();
    assert_eq!(told, 3);
}

#[test]
fn a_reader_s_wrong_hint_changes_nothing() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = locate(&mut world, entry.extent).slots[1][0].disk;
    let fragment = FragmentKey { extent: entry.extent, generation: 1, index: 1 };
    world.ask(DaemonRequest::Suspect { disk, fragment, reason: "a lie".into() });
    world.pass(Millis(2_000));
    assert!(world.coordinator().idle() && !world.kinds().contains(&"fragment_damaged"));
}

#[test]
fn a_put_goes_on_after_the_daemon_was_started_again() {
    let mut world = World::new(8, hasty());
    world.begin(A);
    let (first, reply) = world.put_extent(A, 0, 0, &data(40_000, 1), None);
    assert_eq!(reply, DaemonReply::Committed { degraded: false });
    assert_eq!(world.ask(DaemonRequest::Lookup { name: b"a".to_vec() }), DaemonReply::Refused(Refusal::NotFound));

    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 8);
    assert_eq!(
        world.ask(DaemonRequest::Allocate { stream: B, ordinal: 1, bytes: 1 }),
        DaemonReply::Refused(Refusal::NotFound),
        "a put nobody began"
    );
    assert_eq!(world.begin(A), [first]);
    let names = ["a", "b"].map(|name| NameEntry { name: name.into(), offset: 0, bytes: 60_000 });
    // Batches in any order, and one of them twice.
    for first in [1, 0, 0] {
        let names = vec![names[first].clone()];
        let reply = world.ask(DaemonRequest::PutNames { stream: A, first: first as u64, names });
        assert_eq!(reply, DaemonReply::NamesTaken);
    }
    let end = EndOfStream { extents: 2, bytes: 60_000, names: 2 };
    let (last, reply) = world.put_extent(A, 1, 40_000, &data(20_000, 2), Some(end));
    assert_eq!(reply, DaemonReply::Committed { degraded: false });
    let page = world.ask(DaemonRequest::Extents { stream: A, offset: 0 });
    assert_eq!(page, DaemonReply::ExtentsPage { extents: vec![first, last], more: false });
    assert!(matches!(world.ask(DaemonRequest::Lookup { name: b"b".to_vec() }), DaemonReply::Found(_)));
    assert_eq!(world.rows(key::OPEN), 0);

    // The answer may have been lost: whoever asks again, also another life of the daemon, hears that it is whole.
    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 8);
    let again = world.ask(DaemonRequest::BeginPut { stream: A });
    assert!(matches!(again, DaemonReply::PutBegun { whole: true, .. }), "{again:?}");
}

#[test]
fn a_put_whose_client_does_not_come_back_is_given_up_and_its_bytes_deleted() {
    let mut world = World::new(8, hasty());
    for restart in [false, true] {
        let stream = StreamKey(u128::from(restart) + 0x100);
        world.begin(stream);
        let (entry, _) = world.put_extent(stream, 0, 0, &data(40_000, 1), None);
        world.allocate(stream, 1, 1);
        assert_eq!(world.rows(key::OPEN), 1);
        if restart {
            world.start_daemon();
        } else {
            world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
        }
        world.pass(Millis(4_000));
        assert_eq!(world.rows(key::OPEN), 1, "it may come back");
        world.settle();
        assert_eq!((world.rows(key::OPEN), world.rows(key::DOOMED)), (0, 0));
        let reply = world.ask(DaemonRequest::Locate { extent: entry.extent });
        assert_eq!(reply, DaemonReply::Refused(Refusal::NotFound));
        world.until("its files are gone", |world| world.coordinator().status().extents == 0);
    }
    for host in world.nodes.values_mut() {
        assert!(host.files().is_empty());
    }
}

#[test]
fn an_aborted_put_is_deleted_at_once_and_a_whole_one_is_not() {
    let mut world = World::new(8, hasty());
    world.begin(A);
    let (entry, _) = world.put_extent(A, 0, 0, &data(40_000, 1), None);
    assert_eq!(world.ask(DaemonRequest::AbortPut { stream: A }), DaemonReply::PutAborted);
    world.settle();
    let reply = world.ask(DaemonRequest::Locate { extent: entry.extent });
    assert_eq!(reply, DaemonReply::Refused(Refusal::NotFound));
    let kept = world.put(B, "b", &data(100, 2));
    assert!(matches!(world.ask(DaemonRequest::AbortPut { stream: B }), DaemonReply::Refused(Refusal::Invalid(_))));
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.pass(Millis(20_000));
    locate(&mut world, kept.extent);
}

#[test]
fn a_name_put_again_replaces_the_old_bytes_and_a_removed_one_takes_them_along() {
    let mut world = World::new(8, hasty());
    let old = world.put(A, "a", &data(40_000, 1));
    let new = world.put(B, "a", &data(50_000, 2));
    let DaemonReply::Found(row) = world.ask(DaemonRequest::Lookup { name: b"a".to_vec() }) else { panic!() };
    assert_eq!((row.stream, row.bytes), (B, 50_000));
    world.settle();
    assert_eq!(world.rows(key::STREAMS), 1);
    let reply = world.ask(DaemonRequest::Locate { extent: old.extent });
    assert_eq!(reply, DaemonReply::Refused(Refusal::NotFound));
    locate(&mut world, new.extent);

    let twice = [0, 1].map(|_| world.send(DaemonRequest::Remove { name: b"a".to_vec() }, Body::new()));
    let answers = twice.map(|id| world.answer(id).0);
    assert_eq!(answers, [DaemonReply::Removed, DaemonReply::Refused(Refusal::NotFound)]);
    world.settle();
    assert_eq!(world.rows(key::NAMES) + world.rows(key::STREAMS) + world.rows(key::DOOMED), 0);
    assert_eq!(world.coordinator().status().extents, 0);
}

#[test]
fn an_extent_two_names_share_stays_until_both_are_gone() {
    let mut world = World::new(8, hasty());
    world.begin(A);
    let names =
        [("a", 0, 10), ("b", 10, 990)].map(|(name, offset, bytes)| NameEntry { name: name.into(), offset, bytes });
    world.ask(DaemonRequest::PutNames { stream: A, first: 0, names: names.to_vec() });
    let end = EndOfStream { extents: 1, bytes: 1_000, names: 2 };
    let (entry, _) = world.put_extent(A, 0, 0, &data(1_000, 1), Some(end));
    assert_eq!(world.ask(DaemonRequest::Remove { name: b"a".to_vec() }), DaemonReply::Removed);
    world.pass(Millis(3_000));
    locate(&mut world, entry.extent);
    assert_eq!(world.ask(DaemonRequest::Remove { name: b"b".to_vec() }), DaemonReply::Removed);
    world.settle();
    assert_eq!(world.ask(DaemonRequest::Locate { extent: entry.extent }), DaemonReply::Refused(Refusal::NotFound));
}

#[test]
fn whatever_becomes_of_transactions_puts_and_removals_end_as_they_say() {
    for seed in 0..12 {
        let mut world = World::new(8, hasty());
        world.put(A, "a", &data(10_000, seed));
        world.settle();
        world.fates = Some(Dice::new(seed));
        assert!(matches!(remove(&mut world, "a"), DaemonReply::Removed), "seed {seed}");
        assert_eq!(world.rows(key::NAMES) + world.rows(key::STREAMS), 0);
        let committed = try_put(&mut world, B, "b", &data(9_000, seed + 100));
        world.fates = None;
        world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
        world.pass(Millis(30_000));
        world.settle();
        let found = matches!(world.ask(DaemonRequest::Lookup { name: b"b".to_vec() }), DaemonReply::Found(_));
        assert_eq!((found, world.coordinator().status().extents), (committed, u64::from(committed)), "seed {seed}");
        assert_eq!((world.rows(key::OPEN), world.rows(key::DOOMED)), (0, 0), "seed {seed}");
        assert_eq!(world.stopped, None);
    }
}

fn remove(world: &mut World, name: &str) -> DaemonReply {
    loop {
        let reply = world.ask(DaemonRequest::Remove { name: name.into() });
        match reply {
            DaemonReply::Refused(Refusal::Busy(_) | Refusal::Unavailable(_)) => {}
            other => return other,
        }
    }
}

/// Puts as a patient client does, asking again while the outcome is not known. Whether it was committed.
fn try_put(world: &mut World, stream: StreamKey, name: &str, bytes: &[u8]) -> bool {
    world.begin(stream);
    let length = bytes.len() as u64;
    let names = vec![NameEntry { name: name.into(), offset: 0, bytes: length }];
    world.ask(DaemonRequest::PutNames { stream, first: 0, names });
    let end = EndOfStream { extents: 1, bytes: length, names: 1 };
    for _ in 0..5 {
        let grant = world.allocate(stream, 0, length);
        let entry = crate::wire::daemon::ExtentEntry { ordinal: 0, extent: grant.extent, offset: 0, bytes: length };
        let record = world.stage(&grant, stream, entry, bytes);
        for _ in 0..50 {
            match world.commit(&grant, stream, entry, Some(end), record.clone()) {
                DaemonReply::Committed { .. } => return true,
                DaemonReply::Again { .. } => break,
                DaemonReply::Refused(Refusal::Unavailable(_)) => world.pass(Millis(500)),
                other => panic!("{other:?}"),
            }
        }
    }
    false
}

#[test]
fn what_does_not_fit_together_is_refused_and_the_put_can_still_end_well() {
    let mut world = World::new(8, hasty());
    let bad = |name: &str| vec![NameEntry { name: name.into(), offset: 0, bytes: 10 }];
    world.begin(A);
    for name in ["", "/a", "a/../b", "a\0"] {
        let reply = world.ask(DaemonRequest::PutNames { stream: A, first: 0, names: bad(name) });
        assert!(matches!(reply, DaemonReply::Refused(Refusal::Invalid(_))), "{name:?}: {reply:?}");
    }
    let reply = world.ask(DaemonRequest::PutNames { stream: A, first: 1 << 20, names: bad("a") });
    assert!(matches!(reply, DaemonReply::Refused(Refusal::Invalid(_))), "too many names");
    world.ask(DaemonRequest::PutNames { stream: A, first: 0, names: bad("a") });
    let grant = world.allocate(A, 0, 10);
    let entry = crate::wire::daemon::ExtentEntry { ordinal: 0, extent: grant.extent, offset: 0, bytes: 10 };
    let record = world.stage(&grant, A, entry, &data(10, 1));
    for (extents, bytes, names) in [(2, 10, 1), (1, 11, 1), (1, 10, 2)] {
        let end = EndOfStream { extents, bytes, names };
        let reply = world.commit(&grant, A, entry, Some(end), record.clone());
        assert!(matches!(reply, DaemonReply::Refused(Refusal::Invalid(_))), "{end:?}: {reply:?}");
    }
    let end = EndOfStream { extents: 1, bytes: 10, names: 1 };
    let reply = world.commit(&grant, A, entry, Some(end), b"no record".as_slice().into());
    assert!(matches!(reply, DaemonReply::Refused(Refusal::Invalid(_))), "{reply:?}");
    let mut other = grant.clone();
    other.attempt.number += 1;
    assert!(matches!(world.commit(&other, A, entry, Some(end), record.clone()), DaemonReply::Again { .. }));
    for _ in 0..2 {
        // Also asked twice.
        let reply = world.commit(&grant, A, entry, Some(end), record.clone());
        assert_eq!(reply, DaemonReply::Committed { degraded: false });
    }
}

#[test]
fn wrong_cells_twins_and_second_processes_of_a_disk_are_refused() {
    let mut world = World::new(3, hasty());
    let register = |disk: u128, cell: Option<u128>, domain: &str, boot: u64| DaemonRequest::Register {
        disk: DiskId(disk),
        cell: cell.map(crate::id::CellKey),
        domain: domain.into(),
        address: "elsewhere:1".into(),
        boot,
        free_bytes: 1,
        total_bytes: 1,
    };
    let refused = |world: &mut World, request| match world.ask(request) {
        DaemonReply::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(&mut world, register(9, Some(1), "a/b/c/d", 1)), Refusal::WrongCell(_)));
    assert!(matches!(refused(&mut world, register(9, None, "a/b/c", 1)), Refusal::Invalid(_)));
    assert!(matches!(refused(&mut world, register(9, None, "r/z/rack1/node1", 1)), Refusal::Duplicate(_)));
    assert!(matches!(refused(&mut world, register(1, None, "r/z/rack1/node1", 99)), Refusal::Duplicate(_)));
    world.kill_node(DiskId(1));
    world.pass(Millis(100));
    let cell = world.coordinator().cell().unwrap().cell;
    let welcome = world.ask(register(9, Some(cell.0), "r/z/rack1/node1", 1));
    assert_eq!(welcome, DaemonReply::Welcome { cell, beat_every: Millis(500) });
    let beat = DaemonRequest::Beat { disk: DiskId(9), boot: 2, free_bytes: 5, broken: None, damaged: vec![] };
    assert_eq!(world.ask(beat), DaemonReply::RegisterFirst, "of another life");
    let beat = DaemonRequest::Beat { disk: DiskId(9), boot: 1, free_bytes: 5, broken: None, damaged: vec![] };
    assert_eq!(world.ask(beat), DaemonReply::BeatTaken);
    assert_eq!(world.rows(key::DISKS), 4);
}

#[test]
fn nothing_is_allocated_without_room_for_any_code() {
    let mut world = World::new(2, hasty());
    world.begin(A);
    let reply = world.ask(DaemonRequest::Allocate { stream: A, ordinal: 0, bytes: 1 });
    let DaemonReply::Refused(Refusal::NoPlace(reason)) = reply else { panic!("{reply:?}") };
    assert!(reason.contains("2 fault domains"), "{reason}");
}

#[test]
fn with_no_disk_to_spare_a_put_goes_on_with_gaps_and_they_are_filled() {
    let mut world = World::new(6, CoordinatorConfig { code: Some("rs:4+2".parse().unwrap()), ..hasty() });
    world.put(A, "a", &data(1_000, 1));
    world.settle();
    world.kill_node(DiskId(3));
    world.pass(Millis(5_000));
    world.begin(B);
    let names = vec![NameEntry { name: b"b".to_vec(), offset: 0, bytes: 10 }];
    world.ask(DaemonRequest::PutNames { stream: B, first: 0, names });
    let end = EndOfStream { extents: 1, bytes: 10, names: 1 };
    let (_, reply) = world.put_extent(B, 0, 0, &data(10, 1), Some(end));
    assert_eq!(reply, DaemonReply::Committed { degraded: true });
    let status = world.coordinator().status();
    assert!(!status.full_redundancy && !status.waits.is_empty());
    assert!(status.waits.iter().any(|wait| wait.contains("none of 0 healthy disks")), "{:?}", status.waits);
    world.start_node(DiskId(3));
    world.settle();
    assert_eq!(world.coordinator().status().extents_by_margin.get(&2), Some(&2));
}

#[test]
fn the_extents_nearest_to_loss_are_rebuilt_first() {
    let mut world =
        World::new(12, CoordinatorConfig { code: Some("rs:4+2".parse().unwrap()), repairs_max: 1, ..hasty() });
    let extents: Vec<_> =
        (0..8u128).map(|at| world.put(StreamKey(at + 50), &format!("n{at}"), &data(5_000, at as u64))).collect();
    world.settle();
    let holds = |world: &mut World, disk: DiskId| -> Vec<bool> {
        extents.iter().map(|entry| locate(world, entry.extent).slots.iter().any(|slot| slot[0].disk == disk)).collect()
    };
    let held: Vec<Vec<bool>> = (1..=12).map(|disk| holds(&mut world, DiskId(disk))).collect();
    let both = |a: usize, b: usize| (0..8).filter(|at| held[a][*at] && held[b][*at]).count();
    let one = |a: usize, b: usize| (0..8).filter(|at| held[a][*at] != held[b][*at]).count();
    let pair = (0..12).flat_map(|a| (0..a).map(move |b| (a, b))).find(|(a, b)| both(*a, *b) > 0 && one(*a, *b) > 0);
    let (a, b) = pair.unwrap();
    world.kill_node(DiskId(a as u128 + 1));
    world.kill_node(DiskId(b as u128 + 1));
    world.until("both are lost", |world| world.coordinator().status().nodes.lost == 2);
    // The first repair may begin before the second loss is known to every owner.
    world.pass(Millis(1_000));
    world.repair_one();
    let mut lost = Vec::new();
    for _ in 1..both(a, b) + one(a, b) {
        world.until("another", |world| !world.repairs.is_empty());
        lost.push(6 - world.repairs[0].1.sources.len());
        world.repair_one();
    }
    assert!(lost.iter().rev().is_sorted(), "{lost:?}");
    world.settle();
    assert_eq!(world.coordinator().status().extents_by_margin.get(&2), Some(&8));
}

#[test]
fn beyond_tolerance_the_status_says_which_names_wait_and_they_come_back() {
    let mut world = World::new(6, CoordinatorConfig { code: Some("rs:4+2".parse().unwrap()), ..hasty() });
    let entry = world.put(A, "folder/a", &data(1_000, 1));
    world.settle();
    for disk in 1..=2 {
        world.kill_node(DiskId(disk));
    }
    world.pass(Millis(5_000));
    let status = world.report(DaemonRequest::Status);
    assert_eq!(
        (&status["at_risk"], &status["risk"], &status["unavailable_extents"]),
        (&1.into(), &true.into(), &0.into())
    );
    world.kill_node(DiskId(3));
    world.pass(Millis(5_000));
    let status = world.report(DaemonRequest::Status);
    assert_eq!((&status["unavailable_extents"], &status["risk"]), (&1.into(), &true.into()));
    let names = &status["unavailable_names"];
    assert_eq!((&names["total"], &names["complete"]), (&1.into(), &true.into()));
    assert_eq!((&names["names"][0]["name"], &names["names"][0]["state"]), (&"folder/a".into(), &"waiting".into()));
    let why = world.report(DaemonRequest::Explain { subject: Subject::Extent(entry.extent) });
    assert_eq!((&why["decodable"], why["lost"].as_array().unwrap().len()), (&false.into(), 3));
    assert!(world.kinds().contains(&"data_unavailable"));
    for disk in 1..=3 {
        world.start_node(DiskId(disk));
    }
    world.settle();
    assert!(world.kinds().contains(&"data_available"));
    let status = world.report(DaemonRequest::Status);
    assert_eq!((&status["risk"], &status["full_redundancy"]), (&false.into(), &true.into()));
}

#[test]
fn a_daemon_whose_cell_another_one_claims_stops() {
    let mut world = World::new(8, hasty());
    world.put(A, "a", &data(1_000, 1));
    world.settle();
    let first = world.coordinator.take();
    world.start_daemon();
    world.until("the second owns all", |world| world.coordinator().idle());
    assert_eq!(world.stopped, None);
    world.coordinator = first;
    world.kill_node(DiskId(1));
    world.until("the first finds that it owns nothing", |world| world.stopped.is_some());
    assert!(matches!(world.stopped, Some(Stopped::Deposed { .. })), "{:?}", world.stopped);
}

#[test]
fn a_disk_that_beats_and_answers_no_call_is_replaced_and_comes_back_when_it_does() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(1_000, 1));
    world.settle();
    let deaf = locate(&mut world, entry.extent).slots[3][0].disk;
    world.deaf.insert(deaf);
    assert_eq!(world.ask(DaemonRequest::Scrub), DaemonReply::Noted);
    world.until("it is lost", |world| world.coordinator().status().nodes.lost == 1);
    world.repair_one();
    world.until("its fragment is elsewhere", |world| world.coordinator().status().full_redundancy);
    let place = locate(&mut world, entry.extent).slots[3][0].disk;
    assert_ne!(place, deaf);
    world.deaf.clear();
    world.until("it is back", |world| world.healthy() == 8);
}

#[test]
fn a_disk_without_room_is_not_asked_to_take_an_index_over_again() {
    for restarts in 0..4 {
        let mut world = World::new(8, hasty());
        let entry = world.put(A, "a", &data(1_000, 1));
        world.settle();
        // Other dice in each life.
        (0..restarts).for_each(|_| world.start_daemon());
        world.until("it is up", |world| world.coordinator().idle());
        let killed = locate(&mut world, entry.extent).slots[3][0].disk;
        world.kill_node(killed);
        world.until("a repair is wanted", |world| !world.repairs.is_empty());
        let (job, spec) = world.repairs.pop_front().unwrap();
        let full = spec.targets[&3].disk;
        let failed = std::collections::BTreeMap::from([(3, Refusal::NoSpace("0 bytes free".into()).to_string())]);
        let outcome = RepairOutcome { failed, ..RepairOutcome::default() };
        world.tell(CoordinatorEvent::RepairDone { job, outcome });
        let spec = world.repair_one();
        assert_ne!(spec.targets[&3].disk, full);
        world.settle();
        assert!(world.kinds().contains(&"repair_failed"));
    }
}

#[test]
fn a_disk_that_was_replaced_while_it_was_away_puts_its_files_aside_also_after_a_restart() {
    for restart in [false, true] {
        let mut world = World::new(8, hasty());
        let entry = world.put(A, "a", &data(1_000, 1));
        world.settle();
        let killed = locate(&mut world, entry.extent).slots[1][0].disk;
        world.kill_node(killed);
        world.repair_one();
        world.settle();
        if restart {
            world.start_daemon();
            world.until("it is up", |world| world.coordinator().idle());
        }
        assert_eq!(world.nodes.get_mut(&killed).unwrap().files().len(), 1);
        world.start_node(killed);
        world.until("it is back", |world| world.healthy() == 8);
        world.settle();
        world.pass(Millis(3_000));
        assert!(world.nodes.get_mut(&killed).unwrap().files().is_empty(), "restart {restart}");
        assert_eq!(locate(&mut world, entry.extent).slots.concat().len(), 6);
    }
}

#[test]
fn what_a_daemon_just_started_has_not_seen_is_unavailable_only_after_a_while() {
    let mut world = World::new(8, CoordinatorConfig { grace: Millis(600_000), ..hasty() });
    world.put(A, "a", &data(1_000, 1));
    world.settle();
    (1..=8).for_each(|disk| world.kill_node(DiskId(disk)));
    world.notes.clear();
    world.start_daemon();
    world.pass(Millis(9_000));
    let status = world.coordinator().status();
    assert_eq!((status.starting, status.unavailable_extents, status.pgs.unready > 0), (true, 0, true));
    world.pass(Millis(2_000));
    let status = world.coordinator().status();
    assert_eq!((status.starting, status.unavailable_extents, status.risk), (false, 1, true));
    assert!(world.kinds().contains(&"data_unavailable"));
    (1..=8).for_each(|disk| world.start_node(DiskId(disk)));
    world.settle();
    assert!(world.kinds().contains(&"data_available"));
}

#[test]
fn nodes_away_for_a_moment_do_not_change_the_code_of_new_groups() {
    let mut world = World::new(9, CoordinatorConfig { grace: Millis(600_000), ..hasty() });
    [2, 5].into_iter().for_each(|disk| world.kill_node(DiskId(disk)));
    world.pass(Millis(3_000));
    let entry = world.put(A, "a", &data(1_000, 1));
    assert_eq!(locate(&mut world, entry.extent).slots.len(), 6, "rs:4+2 as with nine nodes, not replicate:3");
}

#[test]
fn a_take_over_is_given_up_though_its_owner_cannot_write_that_down_yet() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(1_000, 1));
    world.settle();
    let member = locate(&mut world, entry.extent).slots[0][0].disk;
    world.kill_node(member);
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    // Every second transaction and more is not heard of: the row keeps the joining disk while the old one is back.
    world.fates = Some(Dice::new(3));
    world.start_node(member);
    world.until("it is back", |world| world.healthy() == 8);
    world.pass(Millis(2_000));
    world.fates = None;
    world.settle();
    assert_eq!(world.coordinator().owner(entry.extent.pg()).unwrap().row().unwrap().members[0], member);
}

#[test]
fn what_the_catalog_does_not_say_to_be_doomed_is_not_deleted() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(1_000, 1));
    world.settle();
    let coordinator = world.coordinator.as_mut().unwrap();
    coordinator.doom(entry.extent);
    // Read, and doomed no more when it would be deleted.
    coordinator.delete(entry.extent, 12_345);
    world.settle();
    world.pass(Millis(20_000));
    locate(&mut world, entry.extent);
}

#[test]
fn a_stream_does_not_end_whose_extents_another_daemon_gave_up() {
    let mut world = World::new(8, hasty());
    world.begin(A);
    let (first, _) = world.put_extent(A, 0, 0, &data(1_000, 1), None);
    let names = vec![NameEntry { name: b"a".to_vec(), offset: 0, bytes: 2_000 }];
    world.ask(DaemonRequest::PutNames { stream: A, first: 0, names });
    world.catalog.apply(&Txn::new().delete(key::open(A, 0)).put(key::doomed(first.extent), vec![1]));
    let end = EndOfStream { extents: 2, bytes: 2_000, names: 1 };
    let (_, reply) = world.put_extent(A, 1, 1_000, &data(1_000, 2), Some(end));
    assert_eq!(reply, DaemonReply::Refused(Refusal::NotFound));
    assert_eq!(world.ask(DaemonRequest::Lookup { name: b"a".to_vec() }), DaemonReply::Refused(Refusal::NotFound));
    assert!(world.begin(A).is_empty(), "the session begins anew with what the catalog has");
}

#[test]
fn nothing_is_not_found_by_a_list_that_may_be_old() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(1_000, 1));
    world.settle();
    let pg = entry.extent.pg();
    let unknown = crate::id::ExtentKey::compose(world.coordinator().cell().unwrap().cell, pg, 1, 999);
    assert_eq!(world.ask(DaemonRequest::Locate { extent: unknown }), DaemonReply::Refused(Refusal::NotFound));
    let row = world.catalog.get(&key::pg(pg)).unwrap().value;
    world.catalog.apply(&Txn::new().put(key::pg(pg), row));
    let reply = world.ask(DaemonRequest::Locate { extent: unknown });
    assert!(matches!(reply, DaemonReply::Refused(Refusal::Unavailable(_))), "{reply:?}");
    let damaged = crate::id::ExtentKey(unknown.0 ^ 1);
    assert!(matches!(world.ask(DaemonRequest::Locate { extent: damaged }), DaemonReply::Refused(Refusal::Invalid(_))));
}

#[test]
fn a_repair_that_fails_is_tried_again_later_and_later() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(1_000, 1));
    world.settle();
    let killed = locate(&mut world, entry.extent).slots[3][0].disk;
    world.kill_node(killed);
    let mut begun = Vec::new();
    for _ in 0..4 {
        world.until("a repair is wanted", |world| !world.repairs.is_empty());
        begun.push(world.now);
        let (job, _) = world.repairs.pop_front().unwrap();
        let failed = std::collections::BTreeMap::from([(3, "no reason".to_owned())]);
        world.tell(CoordinatorEvent::RepairDone { job, outcome: RepairOutcome { failed, ..RepairOutcome::default() } });
    }
    let waited: Vec<u64> = begun.windows(2).map(|pair| pair[1].since(pair[0]).0 / 1_000).collect();
    assert_eq!(waited, [1, 2, 4]);
    let status = world.coordinator().status();
    assert!(status.waits.iter().any(|wait| wait.contains("no reason")), "{:?}", status.waits);
    world.settle();
    assert_eq!((world.coordinator().status().repairs.done, world.coordinator().status().repairs.failed), (1, 4));
}

#[test]
fn a_restart_forgets_nothing_and_says_of_nothing_that_it_is_unavailable() {
    let mut world = World::new(8, hasty());
    for at in 0..5u128 {
        world.put(StreamKey(at + 1), &format!("n{at}"), &data(3_000, at as u64));
    }
    world.settle();
    world.notes.clear();
    world.start_daemon();
    world.until("it is up", |world| world.coordinator().idle());
    let status = world.coordinator().status();
    assert_eq!((status.extents, status.full_redundancy, status.risk), (5, true, false));
    assert!(
        !world.kinds().contains(&"data_unavailable") && !world.kinds().contains(&"disk_lost"),
        "{:?}",
        world.kinds()
    );
}

#[test]
fn explanations_are_given_for_everything_and_for_nothing_else() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(1_000, 1));
    world.settle();
    let extent = world.report(DaemonRequest::Explain { subject: Subject::Extent(entry.extent) });
    assert_eq!((&extent["margin"], &extent["bytes"], &extent["code"]), (&2.into(), &1_000.into(), &"rs:4+2".into()));
    let pg = world.report(DaemonRequest::Explain { subject: Subject::Pg(entry.extent.pg()) });
    assert_eq!((&pg["extents"], &pg["state"], &pg["full_redundancy"]), (&1.into(), &"open".into(), &true.into()));
    let disk = world.report(DaemonRequest::Explain { subject: Subject::Disk(DiskId(1)) });
    for name in ["node1", "r/z/rack1/node1"] {
        let node = world.report(DaemonRequest::Explain { subject: Subject::Node(name.into()) });
        assert_eq!(node["disk"]["disk"], disk["disk"]["disk"]);
    }
    let unknown = [
        Subject::Extent(crate::id::ExtentKey(5)),
        Subject::Pg(crate::id::PgId(99)),
        Subject::Disk(DiskId(99)),
        Subject::Node("no".into()),
    ];
    for subject in unknown {
        assert_eq!(world.ask(DaemonRequest::Explain { subject }), DaemonReply::Refused(Refusal::NotFound));
    }
}

#[test]
fn a_disk_that_says_it_is_broken_is_replaced_at_once_and_read_meanwhile() {
    let mut world = World::new(8, CoordinatorConfig { grace: Millis(3_600_000), ..hasty() });
    let entry = world.put(A, "a", &data(5_000, 1));
    world.settle();
    let broken = locate(&mut world, entry.extent).slots[3][0].disk;
    world.break_node(broken);
    let began = world.now;
    let spec = world.repair_one();
    assert!(world.now.since(began) < Millis(5_000), "nobody waited for the grace: {}", world.now.since(began).0);
    assert_ne!(spec.targets[&3].disk, broken);
    let lost = world.notes.iter().find(|note| note.kind == "disk_lost").unwrap();
    assert!(lost.text.contains("cannot force a journal to the disk"), "{}", lost.text);
    world.settle();
    assert!(locate(&mut world, entry.extent).slots[3].iter().all(|place| place.disk != broken));
    // It goes on beating and stays what it is, also behind a new connection to another daemon.
    world.pass(Millis(5_000));
    world.start_daemon();
    world.until("it is up", |world| world.coordinator().idle());
    world.pass(Millis(5_000));
    assert_eq!(world.coordinator().status().nodes.lost, 1);
    // Another disk goes: this one is no place for its fragments.
    let killed = locate(&mut world, entry.extent).slots[0][0].disk;
    world.kill_node(killed);
    world.pass(Millis(5_000));
    world.kill_node(broken);
    world.start_node(broken);
    world.until("a new life counts anew", |world| world.coordinator().status().nodes.lost == 0);
}

#[test]
fn a_target_whose_store_refuses_again_and_again_is_given_up_for_another() {
    for why in [Refusal::Store("input/output error".into()), Refusal::NoSpace("0 bytes free".into())] {
        let mut world = World::new(8, hasty());
        let entry = world.put(A, "a", &data(1_000, 1));
        world.settle();
        let member = locate(&mut world, entry.extent).slots[3][0].disk;
        world.nodes.get_mut(&member).unwrap().files().values_mut().for_each(|file| file.class = "rot.payload");
        let fragment = FragmentKey { extent: entry.extent, generation: 1, index: 3 };
        world.ask(DaemonRequest::Suspect { disk: member, fragment, reason: "crc".into() });
        for _ in 0..3 {
            world.until("a repair is wanted", |world| !world.repairs.is_empty());
            let (job, spec) = world.repairs.pop_front().unwrap();
            assert_eq!(spec.targets[&3].disk, member);
            let failed = std::collections::BTreeMap::from([(3, why.to_string())]);
            let outcome = RepairOutcome { failed, ..RepairOutcome::default() };
            world.tell(CoordinatorEvent::RepairDone { job, outcome });
        }
        world.until("another disk joins", |world| {
            world.repairs.front().is_some_and(|(_, spec)| spec.targets[&3].disk != member)
        });
        world.settle();
        assert!(locate(&mut world, entry.extent).slots[3].iter().all(|place| place.disk != member), "{why}");
    }
}
