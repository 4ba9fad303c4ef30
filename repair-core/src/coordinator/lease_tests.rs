//! Daemons that wait for each other, as the coordinator does it.

use super::testing::{CLIENT, World, hasty};
use super::tests::{A, B, data, locate};
use super::{CoordinatorConfig, CoordinatorEvent, Stopped};
use crate::catalog::{LeaseRow, Txn, key};
use crate::id::{ClaimId, DiskId};
use crate::node::Body;
use crate::ownership::LeaseConfig;
use crate::time::Millis;
use crate::wire::codec::{decode_row, encode_row};
use crate::wire::{DaemonRequest, Refusal};

const TTL: Millis = Millis(4_000);

fn shared() -> CoordinatorConfig {
    let lease = LeaseConfig { daemon: "here:1".into(), ttl: TTL, exclusive: false };
    CoordinatorConfig { lease, ..hasty() }
}

fn row(world: &World) -> LeaseRow {
    decode_row(&world.catalog.get(&key::lease()).unwrap().value).unwrap()
}

/// Another daemon writes itself into the row.
fn taken_by_another(world: &mut World) {
    let before = row(world);
    let other = LeaseRow {
        daemon: "there:2".into(),
        claim: ClaimId(77),
        counter: before.counter + 1,
        released: false,
        ..before
    };
    world.catalog.apply(&Txn::new().put(key::lease(), encode_row(&other).unwrap()));
}

fn owners(world: &World) -> Vec<crate::catalog::Found> {
    world.catalog.range(key::OWNERS, None, usize::MAX)
}

#[test]
fn a_standby_claims_nothing_and_says_whose_the_cell_is_until_that_daemon_falls_silent() {
    let mut world = World::new(8, shared());
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    world.stop_daemon();
    taken_by_another(&mut world);
    let before = owners(&world);
    world.start_daemon();
    // It comes when the cell's row is read and the lease is not: nobody is to look for another daemon yet.
    world.pass(Millis(1));
    let id = world.send(DaemonRequest::Locate { extent: entry.extent }, Body::new());
    let early = world.answer(id).0;
    let unknown = "who holds the lease is not known yet";
    assert!(
        matches!(&early, crate::wire::DaemonReply::Refused(Refusal::Unavailable(why)) if why.contains(unknown)),
        "{early:?}"
    );
    world.pass(Millis(TTL.0 * 3 / 4));
    assert_eq!(owners(&world), before, "claimed while another is at work");
    let refused = world.ask(DaemonRequest::Locate { extent: entry.extent });
    let holds = "standby: daemon there:2 holds the lease";
    assert!(matches!(&refused, crate::wire::DaemonReply::Refused(Refusal::NotOwner(why)) if why.contains(holds)));
    let status = world.coordinator().status();
    assert!(status.starting && status.waits.iter().any(|wait| wait.contains(holds)), "{:?}", status.waits);
    assert!(!world.coordinator().is_in_charge());
    world.until("it takes over", |world| world.coordinator().is_in_charge());
    world.settle();
    assert_ne!(owners(&world), before);
    locate(&mut world, entry.extent);
    assert!(world.kinds().contains(&"lease_taken"));
}

#[test]
fn a_holder_that_cannot_renew_begins_nothing_and_reads_go_on() {
    let mut world = World::new(8, shared());
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    world.loses_leases = true;
    world.pass(TTL);
    let member = locate(&mut world, entry.extent).slots[0][0].disk;
    let refused = world.ask(DaemonRequest::BeginPut { stream: B });
    assert!(
        matches!(&refused, crate::wire::DaemonReply::Refused(Refusal::Unavailable(why)) if why.contains("renewed")),
        "{refused:?}"
    );
    world.kill_node(member);
    world.pass(Millis(20_000));
    assert!(world.repairs.is_empty(), "a repair was begun without a lease");
    let lapsed = "could not be renewed";
    assert!(world.coordinator().status().waits.iter().any(|wait| wait.contains(lapsed)));
    world.loses_leases = false;
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    world.settle();
    world.loses_leases = true;
    world.pass(TTL);
    world.ask(DaemonRequest::Audit { subject: None });
    world.pass(TTL);
    assert!(world.audits.is_empty(), "an audit was begun without a lease");
    world.loses_leases = false;
    world.until("an audit is wanted", |world| !world.audits.is_empty());
    let kinds = world.kinds();
    assert!(kinds.contains(&"lease_lapsed") && kinds.contains(&"lease_regained"), "{kinds:?}");
}

#[test]
fn a_holder_that_cannot_renew_deletes_nothing() {
    let mut world = World::new(8, shared());
    world.begin(A);
    world.put_extent(A, 0, 0, &data(1_000, 1), None);
    world.loses_leases = true;
    world.pass(TTL);
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.until("the put is given up", |world| world.rows(key::DOOMED) == 1);
    world.pass(Millis(5_000));
    assert_eq!(world.rows(key::DOOMED), 1, "deleted without a lease");
    world.loses_leases = false;
    world.until("it is deleted", |world| world.rows(key::DOOMED) == 0);
}

#[test]
fn a_holder_that_finds_another_in_its_place_stops_with_the_name() {
    let mut world = World::new(4, shared());
    taken_by_another(&mut world);
    world.pass(TTL);
    assert_eq!(world.stopped, Some(Stopped::Superseded { by: "there:2".into() }));
}

#[test]
fn a_hand_over_lets_the_repair_end_begins_no_other_and_lets_go() {
    let mut world = World::new(8, CoordinatorConfig { repairs_max: 1, ..shared() });
    for (stream, name) in [(A, "a"), (B, "b")] {
        world.put(stream, name, &data(50_000, 1));
    }
    world.settle();
    world.kill_node(DiskId(3));
    world.kill_node(DiskId(4));
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    world.tell(CoordinatorEvent::HandOver);
    world.pass(Millis(TTL.0 / 4));
    assert_eq!((world.repairs.len(), world.stopped.clone(), row(&world).released), (1, None, false));
    let waits = world.coordinator().status().waits;
    assert!(waits.iter().any(|wait| wait.contains("handed over once")), "{waits:?}");
    let told = world.now;
    world.repair_one();
    world.until("it stops", |world| world.stopped.is_some());
    assert_eq!(world.stopped, Some(Stopped::HandedOver));
    assert!(row(&world).released && world.repairs.is_empty());
    assert!(world.now < told + Millis(TTL.0 / 2), "it waited for nothing");
}

#[test]
fn a_lease_that_nobody_can_read_stops_the_daemon_with_the_reason() {
    let mut world = World::new(4, shared());
    world.stop_daemon();
    world.catalog.apply(&Txn::new().put(key::lease(), vec![9, 9, 9]));
    world.start_daemon();
    world.pass(Millis(500));
    let Some(Stopped::Lease(error)) = &world.stopped else { panic!("{:?}", world.stopped) };
    assert!(error.to_string().contains("version 9"), "{error}");
}
