//! What an earlier life has left behind: sessions of a daemon that was started again, a deposed daemon that lives on, clients
//! that are gone, nodes that were started again.

use super::testing::{CLIENT, World, hasty};
use super::tests::{A, B, data, locate};
use super::{Coordinator, CoordinatorConfig, CoordinatorEvent};
use crate::catalog::{Txn, TxnResult, key};
use crate::id::{DiskId, StreamKey};
use crate::node::{Body, PeerId, RequestId};
use crate::pg::CallId;
use crate::time::Millis;
use crate::wire::daemon::{EndOfStream, ExtentEntry, NameEntry};
use crate::wire::{DaemonReply, DaemonRequest, Refusal};

/// Longer than from one look at all doomed rows to the next.
const SWEPT: Millis = Millis(70_000);

fn names(bytes: u64) -> Vec<NameEntry> {
    vec![NameEntry { name: b"b".to_vec(), offset: 0, bytes }]
}

fn take_names(world: &mut World, stream: StreamKey, bytes: u64) {
    let reply = world.ask(DaemonRequest::PutNames { stream, first: 0, names: names(bytes) });
    assert_eq!(reply, DaemonReply::NamesTaken);
}

const END: Option<EndOfStream> = Some(EndOfStream { extents: 2, bytes: 2_000, names: 1 });

#[test]
fn a_session_of_an_earlier_life_takes_nothing_before_it_is_begun_again() {
    let mut world = World::new(8, hasty());
    world.begin(A);
    let (first, _) = world.put_extent(A, 0, 0, &data(1_000, 1), None);
    take_names(&mut world, A, 2_000);
    let grant = world.allocate(A, 1, 1_000);
    let last = ExtentEntry { ordinal: 1, extent: grant.extent, offset: 1_000, bytes: 1_000 };
    let record = world.stage(&grant, A, last, &data(1_000, 2));

    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 8);
    let attempt = grant.attempt;
    for (request, body) in [
        (DaemonRequest::Allocate { stream: A, ordinal: 1, bytes: 1_000 }, Body::new()),
        (DaemonRequest::Allocate { stream: A, ordinal: 2, bytes: 1_000 }, Body::new()),
        (DaemonRequest::PutNames { stream: A, first: 0, names: names(2_000) }, Body::new()),
        (DaemonRequest::CommitExtent { stream: A, entry: last, attempt, end: END }, record),
        (DaemonRequest::CommitExtent { stream: A, entry: first, attempt, end: None }, Body::new()),
    ] {
        let id = world.send(request.clone(), body);
        assert_eq!(world.answer(id).0, DaemonReply::Refused(Refusal::NotFound), "{request:?}");
    }
    assert_eq!(world.begin(A), [first]);
    take_names(&mut world, A, 2_000);
    let (_, reply) = world.put_extent(A, 1, 1_000, &data(1_000, 2), END);
    assert_eq!(reply, DaemonReply::Committed { degraded: false });
}

#[test]
fn a_session_of_an_earlier_life_is_given_up_though_its_client_talks_on_without_beginning_it() {
    let mut world = World::new(8, hasty());
    world.begin(A);
    world.put_extent(A, 0, 0, &data(1_000, 1), None);
    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 8);
    for _ in 0..10 {
        world.ask(DaemonRequest::Allocate { stream: A, ordinal: 1, bytes: 1_000 });
        world.pass(Millis(1_000));
    }
    world.settle();
    assert_eq!((world.rows(key::OPEN), world.rows(key::DOOMED), world.coordinator().status().extents), (0, 0, 0));
}

#[test]
fn a_put_begun_over_a_connection_that_has_ended_leaves_no_session() {
    let mut world = World::new(8, hasty());
    let begin = DaemonRequest::BeginPut { stream: A };
    // Its end is there before what the catalog has is known.
    world.send(begin.clone(), Body::new());
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.pass(Millis(11_000));
    assert_eq!(world.coordinator().status().puts_open, 0);

    // Another connection of the same client is not touched by it.
    let (peer, id) = (PeerId(900), RequestId(1));
    world.send(begin.clone(), Body::new());
    world.tell(CoordinatorEvent::Request { peer, id, request: begin, body: Body::new() });
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.pass(Millis(11_000));
    assert_eq!(world.coordinator().status().puts_open, 1);
    world.tell(CoordinatorEvent::PeerGone { peer });
    world.pass(Millis(11_000));
    assert_eq!(world.coordinator().status().puts_open, 0);
}

#[test]
fn doomed_rows_of_unknown_origin_are_found_in_time() {
    // Just started, when a transaction of the daemon before may still be on its way; and at any time after that.
    for (age, found_after) in [(0, 6_000), (12_345, 61_000)] {
        let mut world = World::new(8, hasty());
        let kept = world.put(A, "a", &data(1_000, 1));
        world.begin(B);
        let (entry, _) = world.put_extent(B, 0, 0, &data(1_000, 1), None);
        world.start_daemon();
        world.until("it is up", |world| world.healthy() == 8 && world.coordinator().boot.is_done());
        world.begin(B);
        world.pass(Millis(age));
        world.catalog.apply(&Txn::new().delete(key::open(B, 0)).put(key::doomed(entry.extent), vec![1]));
        world.pass(Millis(found_after));
        assert_eq!((world.rows(key::DOOMED), world.coordinator().status().extents), (0, 1), "{age} ms old");
        locate(&mut world, kept.extent);
    }
}

/// A daemon with a put of one extent so far, and the one that took its place and has the client begin again.
fn deposed_beside_a_put() -> (World, Coordinator, ExtentEntry) {
    // Nothing but what it is told moves the deposed one.
    let patient = CoordinatorConfig { suspect_after: Millis(600_000), put_resume: Millis(600_000), ..hasty() };
    let mut world = World::new(8, patient);
    world.put(A, "a", &data(1_000, 1));
    world.begin(B);
    let (first, _) = world.put_extent(B, 0, 0, &data(1_000, 2), None);
    world.pass(Millis(3_000));
    let deposed = world.coordinator.take().unwrap();
    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 8 && world.coordinator().boot.is_done());
    assert_eq!(world.begin(B), [first]);
    take_names(&mut world, B, 2_000);
    (world, deposed, first)
}

fn request(id: u64, request: DaemonRequest) -> CoordinatorEvent {
    CoordinatorEvent::Request { peer: CLIENT, id: RequestId(id), request, body: Body::new() }
}

/// Performs what the deposed daemon wanted, and tells it.
fn perform(world: &mut World, deposed: &mut Coordinator, (op, txn): (CallId, Txn)) -> bool {
    let result = world.catalog.apply(&txn);
    let done = matches!(result, TxnResult::Done { .. });
    world.live_on(deposed, CoordinatorEvent::Txn { op, result });
    done
}

/// Puts what is not there yet of the two extents, beginning again as often as it is told to.
fn put_the_rest(world: &mut World) {
    for _ in 0..5 {
        let DaemonReply::PutBegun { committed, whole, .. } = world.ask(DaemonRequest::BeginPut { stream: B }) else {
            panic!()
        };
        if whole {
            return;
        }
        take_names(world, B, 2_000);
        for ordinal in committed.len() as u64..2 {
            let end = END.filter(|_| ordinal == 1);
            let (_, reply) = world.put_extent(B, ordinal, ordinal * 1_000, &data(1_000, 2), end);
            if !matches!(reply, DaemonReply::Committed { .. }) {
                break;
            }
        }
    }
    panic!("the put does not end");
}

#[test]
fn nothing_of_a_stream_that_became_whole_is_deleted_by_a_deposed_daemon_that_gives_it_up() {
    let mut outcomes = [0, 0];
    // At every moment from before the last commit to after it.
    for delay in 0..24 {
        let (mut world, mut deposed, first) = deposed_beside_a_put();
        let wanted = world.live_on(&mut deposed, request(0, DaemonRequest::AbortPut { stream: B }));
        let grant = world.allocate(B, 1, 1_000);
        let last = ExtentEntry { ordinal: 1, extent: grant.extent, offset: 1_000, bytes: 1_000 };
        let record = world.stage(&grant, B, last, &data(1_000, 2));
        let attempt = grant.attempt;
        let id = world.send(DaemonRequest::CommitExtent { stream: B, entry: last, attempt, end: END }, record);
        world.pass(Millis(delay));
        let given_up = perform(&mut world, &mut deposed, wanted.unwrap());
        let committed = matches!(world.answer(id).0, DaemonReply::Committed { .. });
        assert_eq!(given_up, !committed, "{delay} ms");
        outcomes[usize::from(committed)] += 1;
        put_the_rest(&mut world);
        world.pass(SWEPT);
        let page = world.ask(DaemonRequest::Extents { stream: B, offset: 0 });
        let DaemonReply::ExtentsPage { extents, more: false } = page else { panic!("{page:?}") };
        assert_eq!((extents.len(), extents[0] == first), (2, committed), "{delay} ms");
        for extent in extents {
            locate(&mut world, extent.extent);
        }
        assert_eq!(world.coordinator().status().extents, 3, "{delay} ms");
        assert_eq!((world.rows(key::OPEN), world.rows(key::DOOMED)), (0, 0), "{delay} ms");
    }
    assert!(outcomes.iter().all(|count| *count > 3), "{outcomes:?}");
}

#[test]
fn a_removal_by_a_deposed_daemon_does_not_reach_what_replaced_the_name() {
    let (mut world, mut deposed, _) = deposed_beside_a_put();
    let wanted = world.live_on(&mut deposed, request(0, DaemonRequest::Remove { name: b"a".to_vec() }));
    let new = world.put(StreamKey(0xc), "a", &data(500, 3));
    // What it has read is of the old one. What it does next is a removal of the new one, if it comes to that.
    assert!(!perform(&mut world, &mut deposed, wanted.unwrap()));
    world.pass(SWEPT);
    locate(&mut world, new.extent);
    assert!(matches!(world.ask(DaemonRequest::Lookup { name: b"a".to_vec() }), DaemonReply::Found(_)));
}

#[test]
fn a_removal_by_a_deposed_daemon_undoes_no_other_removal_from_the_same_stream() {
    let (mut world, mut deposed, _) = deposed_beside_a_put();
    let (stream, entry) = (StreamKey(0xc), |name: &str| NameEntry { name: name.into(), offset: 0, bytes: 500 });
    world.begin(stream);
    world.ask(DaemonRequest::PutNames { stream, first: 0, names: vec![entry("c"), entry("d")] });
    let (shared, _) =
        world.put_extent(stream, 0, 0, &data(500, 3), Some(EndOfStream { extents: 1, bytes: 500, names: 2 }));
    let remove = |name: &str| DaemonRequest::Remove { name: name.into() };
    let wanted = world.live_on(&mut deposed, request(0, remove("c")));
    assert_eq!(world.ask(remove("d")), DaemonReply::Removed);
    assert!(!perform(&mut world, &mut deposed, wanted.unwrap()), "it counts the other name still");
    locate(&mut world, shared.extent);
    assert_eq!(world.ask(remove("c")), DaemonReply::Removed);
    world.pass(Millis(5_000));
    let reply = world.ask(DaemonRequest::Locate { extent: shared.extent });
    assert_eq!(reply, DaemonReply::Refused(Refusal::NotFound));
}

#[test]
fn a_node_started_again_before_it_registers_at_a_new_daemon_is_fenced_again() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(1_000, 1));
    world.settle();
    let pg = entry.extent.pg();
    let disk = locate(&mut world, entry.extent).slots[2][0].disk;
    world.start_daemon_unseen_by(Some(disk));
    world.until("its new owner has fenced and counted it", |world| {
        let slots = world.coordinator().owner(pg).map(crate::pg::Owner::slots).unwrap_or_default();
        slots.iter().any(|slot| slot.disk == disk && slot.reachable && slot.missing.is_some())
    });
    assert!(world.healthy() < 8, "it has registered already");
    world.kill_node(disk);
    world.nodes.get_mut(&disk).unwrap().journals().clear();
    world.start_node(disk);
    world.until("it has registered", |world| world.healthy() == 8);
    world.settle();
    let owner = world.coordinator().owner(pg).unwrap();
    let node = world.nodes[&disk].node();
    assert_eq!(node.token(pg), owner.authority().map(|authority| authority.token));
    assert_eq!(node.list(pg), Some(owner.list()));
}

#[test]
fn a_group_whose_row_cannot_be_read_keeps_nothing_but_its_own_extents_waiting() {
    let mut world = World::new(8, hasty());
    let kept = world.put(A, "a", &data(1_000, 1));
    let lost = world.coordinator().owners().map(|(pg, _)| pg).find(|pg| *pg != kept.extent.pg()).unwrap();
    let row = world.catalog.get(&key::pg(lost)).unwrap();
    for (number, broken) in [vec![9], vec![], row.value[..7].to_vec()].into_iter().enumerate() {
        world.catalog.apply(&Txn::new().put(key::pg(lost), broken));
        world.start_daemon();
        world.until("it is up", |world| world.healthy() == 8 && world.coordinator().boot.is_done());
        world.until("the extents of others are found", |world| {
            world.coordinator().owner(kept.extent.pg()).is_some_and(crate::pg::Owner::is_ready)
        });
        locate(&mut world, kept.extent);
        world.put(StreamKey(500 + number as u128), "b", &data(1_000, 2));
        assert_eq!(world.ask(DaemonRequest::Remove { name: b"b".to_vec() }), DaemonReply::Removed);
        let status = world.coordinator().status();
        let named = format!("placement group {lost}: claiming the group: the group's row cannot be read");
        assert!(status.risk && !status.full_redundancy, "what is in it nobody knows");
        assert!(status.waits.iter().any(|wait| wait.starts_with(&named)), "{:?}", status.waits);
    }
    // It is looked at again and again: a row that was mended needs no restart.
    world.catalog.apply(&Txn::new().put(key::pg(lost), row.value));
    world.settle();
    assert!(world.coordinator().owner(lost).is_some_and(crate::pg::Owner::is_ready));
}

#[test]
fn a_cell_row_of_another_revision_keeps_no_put_waiting() {
    let mut world = World::new(8, hasty());
    let cell = world.catalog.get(&key::cell()).unwrap();
    world.catalog.apply(&Txn::new().put(key::cell(), cell.value));
    world.put(A, "a", &data(1_000, 1));
    assert_eq!(world.stopped, None);
}

fn take_time(world: &mut World) {
    for _ in 0..40 {
        world.pass(Millis(500));
        while !world.repairs.is_empty() {
            world.repair_one();
        }
    }
}

#[test]
fn a_group_says_that_it_is_crowded_while_it_is() {
    let code = "rs:4+2".parse().ok();
    let mut world = World::new(6, CoordinatorConfig { code, slots_per_disk: 1, ..hasty() });
    let pg = world.put(A, "a", &data(60_000, 1)).extent.pg();
    world.settle();
    let crowded = |world: &World| world.coordinator().owner(pg).and_then(|owner| owner.row()).unwrap().crowded;
    assert!(!crowded(&world));
    // The only disk that is left shares the rack of another one.
    world.kill_node(DiskId(1));
    world.add_node(DiskId(7), "r/z/rack2/node7".into());
    take_time(&mut world);
    assert!(crowded(&world), "after a take-over that brought two together");
    world.kill_node(DiskId(7));
    world.add_node(DiskId(8), "r/z/rack8/node8".into());
    take_time(&mut world);
    assert!(!crowded(&world), "after one that brought them apart");
}

#[test]
fn a_catalog_that_is_slower_than_the_patience_of_a_start_is_waited_for() {
    let mut world = World::new(8, CoordinatorConfig { put_resume: Millis(36_000_000), ..hasty() });
    world.begin(A);
    world.put_extent(A, 0, 0, &data(1_000, 1), None);
    assert_eq!(world.rows(key::OPEN), 1);
    for takes in [9_900, 10_100, 14_000, 25_000] {
        world.range_takes = Some(Millis(takes));
        world.start_daemon();
        world.pass(Millis(12 * takes));
        assert!(world.stopped.is_none(), "{takes} ms");
        assert_eq!(world.coordinator().status().puts_open, 1, "{takes} ms: what was left open is not known");
    }
}
