//! A catalog that was put back to an earlier copy: no restart may climb over what members remember.

use super::testing::{World, hasty};
use super::tests::{data, locate};
use super::{CoordinatorConfig, Stopped};
use crate::catalog::memory::MemoryCatalog;
use crate::catalog::{CellRow, Txn, key};
use crate::id::{DiskId, ExtentKey, PgId, RecordHash, StreamKey};
use crate::time::Millis;
use crate::wire::codec::{decode_row, encode_row};
use crate::wire::daemon::{EndOfStream, NameEntry};
use crate::wire::node::FragmentKey;
use crate::wire::{DaemonReply, DaemonRequest};
use std::collections::{BTreeMap, BTreeSet};

const AWAY: DiskId = DiskId(6);

/// What every node holds and remembers.
#[derive(PartialEq, Eq)]
struct Held {
    lists: BTreeMap<(DiskId, PgId), BTreeMap<ExtentKey, RecordHash>>,
    heard: BTreeMap<(DiskId, PgId), Option<(u32, u64)>>,
    files: BTreeSet<(DiskId, FragmentKey)>,
}

fn held(world: &mut World) -> Held {
    let mut held = Held { lists: BTreeMap::new(), heard: BTreeMap::new(), files: BTreeSet::new() };
    for (disk, host) in &mut world.nodes {
        held.files.extend(host.files().keys().map(|fragment| (*disk, *fragment)));
        let node = host.node();
        for pg in node.pgs() {
            held.lists.insert((*disk, pg), node.list(pg).cloned().unwrap_or_default());
            held.heard.insert((*disk, pg), node.heard(pg).map(crate::catalog::PgRow::order));
        }
    }
    held
}

struct Rollback {
    world: World,
    newest: MemoryCatalog,
    acknowledged: Vec<ExtentKey>,
}

/// A put that is acknowledged, with all fragments or not.
fn put(world: &mut World, at: u64) -> ExtentKey {
    let stream = StreamKey(100 + u128::from(at));
    world.begin(stream);
    let names = vec![NameEntry { name: format!("file{at}").into(), offset: 0, bytes: 60_000 }];
    assert_eq!(world.ask(DaemonRequest::PutNames { stream, first: 0, names }), DaemonReply::NamesTaken);
    let end = EndOfStream { extents: 1, bytes: 60_000, names: 1 };
    let (entry, reply) = world.put_extent(stream, 0, 0, &data(60_000, at), Some(end));
    assert!(matches!(reply, DaemonReply::Committed { .. }), "{reply:?}");
    entry.extent
}

/// Ten puts, a copy of the catalog, one node gone, forty more puts, the copy put back, the node there again.
fn rolled_back() -> Rollback {
    let mut world = World::new(6, CoordinatorConfig { code: "rs:4+2".parse().ok(), slots_per_disk: 10, ..hasty() });
    let mut acknowledged: Vec<ExtentKey> = (0..10).map(|at| put(&mut world, at)).collect();
    world.settle();
    let copy = world.catalog.clone();
    world.kill_node(AWAY);
    acknowledged.extend((10..50).map(|at| put(&mut world, at)));
    world.pass(Millis(5_000));
    let newest = std::mem::replace(&mut world.catalog, copy);
    world.stop_daemon();
    world.start_node(AWAY);
    world.pass(Millis(100));
    Rollback { world, newest, acknowledged }
}

fn start_again(world: &mut World) -> Option<Stopped> {
    world.start_daemon();
    world.pass(Millis(15_000));
    world.stopped.take()
}

#[test]
fn restarts_on_a_catalog_put_back_change_nothing_and_end_suspended() {
    let Rollback { mut world, newest, acknowledged } = rolled_back();
    let before = held(&mut world);
    for life in 0..25 {
        let stopped = start_again(&mut world);
        assert!(matches!(stopped, Some(Stopped::Suspended { .. })), "life {life}: {stopped:?}");
        assert!(stopped.is_some_and(|stopped| stopped.to_string().contains("docs/operating.md")));
        assert!(held(&mut world) == before, "life {life}: something was changed on a node");
    }
    // With the right catalog everything is there.
    world.catalog = newest;
    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 6);
    world.settle();
    assert_eq!(world.stopped, None);
    assert!(world.coordinator().status().full_redundancy);
    for extent in acknowledged {
        assert_eq!(locate(&mut world, extent).slots.iter().flatten().count(), 6);
    }
}

#[test]
fn the_mark_holds_where_nobody_is_left_to_remember() {
    let Rollback { mut world, .. } = rolled_back();
    assert!(start_again(&mut world).is_some());
    (1..6).for_each(|number| world.kill_node(DiskId(number)));
    for _ in 0..5 {
        let stopped = start_again(&mut world);
        assert!(matches!(stopped, Some(Stopped::Suspended { .. })), "{stopped:?}");
    }
}

#[test]
fn what_members_remember_holds_where_the_mark_is_wiped_away() {
    let Rollback { mut world, acknowledged, .. } = rolled_back();
    let before = held(&mut world);
    for life in 0..25 {
        assert!(start_again(&mut world).is_some(), "life {life}");
        let row: CellRow = decode_row(&world.catalog.get(&key::cell()).unwrap().value).unwrap();
        assert!(row.suspended.is_some());
        let wiped = encode_row(&CellRow { suspended: None, ..row }).unwrap();
        world.catalog.apply(&Txn::new().put(key::cell(), wiped));
        let now = held(&mut world);
        for (at, list) in &before.lists {
            assert!(
                list.keys().all(|extent| now.lists[at].contains_key(extent)),
                "life {life}: a list has shrunk: {at:?}"
            );
        }
        assert!(now.files.is_superset(&before.files), "life {life}: something was put aside");
    }
    let now = held(&mut world);
    for extent in acknowledged {
        assert!(now.files.iter().filter(|(_, fragment)| fragment.extent == extent).count() >= 5, "{extent}");
    }
}

#[test]
fn a_daemon_beside_the_one_that_suspends_the_cell_ends_too() {
    let mut world = World::new(6, hasty());
    world.put(StreamKey(1), "a", &data(4_000, 1));
    let row: CellRow = decode_row(&world.catalog.get(&key::cell()).unwrap().value).unwrap();
    let marked = encode_row(&CellRow { suspended: Some("seen by another".into()), ..row }).unwrap();
    world.catalog.apply(&Txn::new().put(key::cell(), marked));
    world.send(DaemonRequest::Remove { name: b"a".to_vec() }, crate::node::Body::new());
    world.until("it ends", |world| world.stopped.is_some());
    assert_eq!(world.stopped, Some(Stopped::Suspended { reason: "seen by another".into() }));
    assert_eq!(world.rows(key::NAMES), 1, "and changes nothing");
}
