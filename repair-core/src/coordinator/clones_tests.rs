//! Copies of disks: told from the disk, whatever they come upon, and the disk never taken for one.

use super::testing::{CLIENT, OTHER, World, hasty};
use super::{CoordinatorConfig, CoordinatorEvent};
use crate::id::{CellKey, DiskId, StreamKey};
use crate::lineage::{Claim, Life};
use crate::node::{Body, NodeConfig};
use crate::pg::PgConfig;
use crate::time::Millis;
use crate::wire::{DaemonReply, DaemonRequest, Refusal};

const DISK: DiskId = DiskId(1);

/// A cell that gives no disk up while a test lasts.
fn cell() -> World {
    let pg = PgConfig { call_deadline: Millis(200), ..PgConfig::default() };
    let code = Some("rs:2+1".parse().unwrap());
    let config = CoordinatorConfig { grace: Millis(3_600_000), code, pg, ..hasty() };
    let mut world = World::new(4, config);
    world.put(StreamKey(0xa), "a", &[7; 5_000]);
    world.settle();
    world.pass(Millis(100));
    world
}

fn shown(world: &World) -> Option<Life> {
    world.nodes[&DISK].life()
}

/// A process on a folder that shows this life.
fn comes(world: &World, had: Option<Life>, boot: u64) -> DaemonRequest {
    DaemonRequest::RegisterLife {
        disk: DISK,
        cell: world.coordinator().cell().map(|row| CellKey(row.cell.0)),
        domain: "r/z/rack1/node1".into(),
        address: "elsewhere:1".into(),
        free_bytes: 1 << 40,
        total_bytes: 1 << 40,
        claim: Claim { had, life: Life::after(had, boot) },
    }
}

fn is_copy(reply: &DaemonReply) -> bool {
    matches!(reply, DaemonReply::Refused(Refusal::Duplicate(_)))
}

fn events(world: &World, kind: &str) -> usize {
    world.kinds().iter().filter(|found| **found == kind).count()
}

#[test]
fn a_copy_beside_the_disk_is_refused_and_told_once_and_nothing_else_happens() {
    let mut world = cell();
    let seen = world.notes.len();
    for _ in 0..3 {
        let copy = comes(&world, shown(&world), 99);
        let reply = world.ask(copy);
        assert!(is_copy(&reply), "{reply:?}");
        world.pass(Millis(1_000));
    }
    assert_eq!(world.kinds()[seen..], ["disk_refused"]);
    assert!(world.coordinator().idle() && world.repairs.is_empty() && world.healthy() == 4);
    let status = world.report(DaemonRequest::Status);
    assert_eq!(status["refused_nodes"][0]["address"], "elsewhere:1");
    let subject = crate::wire::daemon::Subject::Disk(DISK);
    let explained = world.report(DaemonRequest::Explain { subject });
    assert_eq!(explained["refused_nodes"][0]["disk"], DISK.to_string());
    assert_eq!(explained["life"], 1);
    // Gone, it is not shown for ever; and told again when it comes again.
    world.pass(Millis(40_000));
    assert!(world.coordinator().status().refused_nodes.is_empty());
    let copy = comes(&world, shown(&world), 99);
    assert!(is_copy(&world.ask(copy)));
    assert_eq!(events(&world, "disk_refused"), 2);
}

#[test]
fn more_copies_than_are_remembered_are_refused_and_told_no_more() {
    let mut world = cell();
    let old = Some(Life { number: 0, boot: 5 });
    for _ in 0..2 {
        for boot in 100..200 {
            let copy = comes(&world, old, boot);
            assert!(is_copy(&world.ask(copy)));
        }
    }
    assert_eq!(events(&world, "disk_refused"), 64);
}

#[test]
fn a_copy_that_comes_first_to_a_new_daemon_is_refused_while_the_disk_lives() {
    let mut world = cell();
    world.start_daemon_unseen_by(Some(DISK));
    world.until("the others are there", |world| world.healthy() == 3);
    let copy = comes(&world, shown(&world), 99);
    let reply = world.ask(copy);
    assert!(is_copy(&reply), "{reply:?}");
    world.reconnect(DISK);
    world.until("all are there", |world| world.healthy() == 4);
    world.settle();
    assert_eq!(events(&world, "disk_lost"), 0);
}

#[test]
fn an_old_copy_is_refused_however_long_the_disk_is_away_and_whoever_asks() {
    let mut world = cell();
    let old = shown(&world);
    world.kill_node(DISK);
    world.start_node(DISK);
    world.until("it is back", |world| world.healthy() == 4);
    world.pass(Millis(100));
    assert_eq!(shown(&world).unwrap().number, 2);
    world.kill_node(DISK);
    world.pass(Millis(3_700_000));
    assert_eq!(events(&world, "disk_lost"), 1);
    for _ in 0..2 {
        let copy = comes(&world, old, 99);
        let reply = world.ask(copy);
        assert!(is_copy(&reply), "{reply:?}");
        world.start_daemon();
        world.until("the others are there", |world| world.healthy() == 3);
    }
    // The disk itself is taken as ever, also at another place.
    let disk = comes(&world, shown(&world), 100);
    assert!(matches!(world.ask(disk), DaemonReply::Welcome { .. }));
}

#[test]
fn a_copy_of_an_hour_ago_is_refused_though_the_process_was_the_same() {
    let mut world = cell();
    let old = shown(&world);
    world.pass(Millis(NodeConfig::default().life_every.0 * 5 / 4 + 1_000));
    assert_eq!((old.unwrap().number, shown(&world).unwrap().number), (1, 2));
    assert_eq!(world.kinds().iter().filter(|kind| kind.starts_with("disk_")).count(), 4, "{:?}", world.kinds());
    world.kill_node(DISK);
    world.pass(Millis(5_000));
    let copy = comes(&world, old, 99);
    assert!(is_copy(&world.ask(copy)));
}

#[test]
fn a_disk_that_is_silent_is_waited_for_and_then_what_comes_in_its_place_is_the_disk() {
    let mut world = cell();
    silence(&mut world, false);
    let mut world = cell();
    let life = silence(&mut world, true);
    let disk = comes(&world, Some(Life { number: 2, boot: 99 }), 99);
    assert!(matches!(world.ask(disk), DaemonReply::Welcome { .. }));
    // What it was copied from is not the disk any more.
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.pass(Millis(5_000));
    let original = comes(&world, life, 100);
    assert!(is_copy(&world.ask_over(OTHER, original)));
}

/// The disk's machine is gone and nobody was told; its address is silent, or nobody listens there. Gives the life that its copy
/// was taken for the disk with.
fn silence(world: &mut World, is_silent: bool) -> Option<Life> {
    let life = shown(world);
    world.cut_power(DISK);
    if is_silent {
        world.deaf.insert(DISK);
    }
    let copy = comes(world, life, 99);
    let began = world.now;
    let reply = loop {
        match world.ask(copy.clone()) {
            DaemonReply::Refused(Refusal::Unavailable(_)) => world.pass(Millis(100)),
            reply => break reply,
        }
    };
    assert!(matches!(reply, DaemonReply::Welcome { .. }), "{reply:?}");
    let (waited, least) = (world.now.since(began).0, world.config.suspect_after.0 - world.config.beat_every.0);
    assert!((least..least + 1_500).contains(&waited), "{waited} ms");
    life
}

#[test]
fn the_disk_is_taken_at_another_address_as_soon_as_its_process_is_gone() {
    let mut world = cell();
    let life = shown(&world);
    world.kill_node(DISK);
    world.pass(Millis(10));
    let began = world.now;
    let disk = comes(&world, life, 99);
    assert!(matches!(world.ask(disk), DaemonReply::Welcome { .. }));
    assert!(world.now.since(began) < Millis(50));
    // It crashed before it stored the life; and again.
    for boot in [100, 101] {
        world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
        world.pass(Millis(10));
        let disk = comes(&world, life, boot);
        assert!(matches!(world.ask(disk), DaemonReply::Welcome { .. }), "boot {boot}");
    }
}

/// A disk that is not of the cell, as `comes`.
fn guest(world: &World, had: Option<Life>, life: Life) -> DaemonRequest {
    let DaemonRequest::RegisterLife { cell, free_bytes, total_bytes, .. } = comes(world, had, life.boot) else {
        panic!()
    };
    let (domain, address) = ("r/z/rack9/node9".into(), "elsewhere:9".into());
    DaemonRequest::RegisterLife {
        disk: DiskId(9),
        cell,
        domain,
        address,
        free_bytes,
        total_bytes,
        claim: Claim { had, life },
    }
}

#[test]
fn a_node_that_begins_its_next_life_stays_welcome_while_that_is_written_and_every_question_is_answered() {
    let mut world = cell();
    let first = Life { number: 1, boot: 99 };
    let next = Life { number: 2, boot: 99 };
    let beat = DaemonRequest::Beat { disk: DiskId(9), boot: 99, free_bytes: 1, broken: None, damaged: Vec::new() };
    // The first time it is not welcome before its row is written, and what was asked twice is answered twice.
    let send = |world: &mut World, request: &DaemonRequest| world.send_over(CLIENT, request.clone(), Body::new());
    let request = guest(&world, None, first);
    let asked = [send(&mut world, &request), send(&mut world, &beat), send(&mut world, &request)];
    let replies = asked.map(|id| world.answer(id).0);
    assert!(matches!(replies[0], DaemonReply::Refused(Refusal::Unavailable(_))), "{replies:?}");
    assert_eq!(replies[1], DaemonReply::RegisterFirst);
    assert!(matches!(replies[2], DaemonReply::Welcome { .. }), "{replies:?}");
    let seen = world.notes.len();
    let request = guest(&world, Some(first), next);
    let asked =
        [send(&mut world, &request), send(&mut world, &beat), send(&mut world, &request), send(&mut world, &beat)];
    let replies = asked.map(|id| world.answer(id).0);
    assert!(matches!(replies[0], DaemonReply::Refused(Refusal::Unavailable(_))), "{replies:?}");
    assert!(matches!(replies[2], DaemonReply::Welcome { .. }), "{replies:?}");
    assert_eq!([&replies[1], &replies[3]], [&DaemonReply::BeatTaken; 2]);
    assert_eq!(world.kinds()[seen..], [""; 0]);
    assert_eq!(world.coordinator().status().nodes.healthy, 5);
}

#[test]
fn who_asks_again_while_the_other_process_is_called_is_answered_both_times() {
    let mut world = cell();
    let copy = comes(&world, shown(&world), 99);
    let first = world.send_over(CLIENT, copy.clone(), Body::new());
    let second = world.send_over(CLIENT, copy, Body::new());
    assert!(matches!(world.answer(first).0, DaemonReply::Refused(Refusal::Unavailable(_))));
    assert!(is_copy(&world.answer(second).0));
}

#[test]
fn a_folder_without_a_life_takes_the_place_of_a_lost_disk_only_and_then_the_disk_is_refused() {
    let mut world = cell();
    let original = shown(&world);
    let bare = comes(&world, None, 99);
    assert!(is_copy(&world.ask(bare.clone())));
    world.kill_node(DISK);
    world.pass(Millis(60_000));
    assert!(is_copy(&world.ask(bare.clone())), "the disk may come back");
    world.pass(Millis(3_700_000));
    assert_eq!(events(&world, "disk_lost"), 1);
    let reply = world.ask(bare);
    assert!(matches!(reply, DaemonReply::WelcomeAs { life_number: 2, .. }), "{reply:?}");
    // It is gone before it stored that, and after.
    for had in [None, Some(Life { number: 2, boot: 99 })] {
        world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
        world.pass(Millis(5_000));
        let disk = comes(&world, original, 100);
        assert!(is_copy(&world.ask_over(OTHER, disk)), "{had:?}");
        if let Some(had) = had {
            let kept = with_claim(&world, Claim { had: Some(had), life: had });
            assert!(matches!(world.ask(kept), DaemonReply::Welcome { .. }));
        }
    }
}

fn with_claim(world: &World, shown: Claim) -> DaemonRequest {
    let mut request = comes(world, None, shown.life.boot);
    if let DaemonRequest::RegisterLife { claim, .. } = &mut request {
        *claim = shown;
    }
    request
}

#[test]
fn a_refused_copy_at_the_disks_old_address_does_not_keep_the_disk_out() {
    let mut world = cell();
    let old = shown(&world);
    world.kill_node(DISK);
    world.start_node(DISK);
    world.until("it is back", |world| world.healthy() == 4);
    world.pass(Millis(100));
    let disk = comes(&world, shown(&world), 99);
    world.kill_node(DISK);
    world.nodes.get_mut(&DISK).unwrap().put_back(old);
    world.start_node(DISK);
    world.until("the copy is refused", |world| events(world, "disk_refused") == 1);
    assert!(matches!(world.ask(disk), DaemonReply::Welcome { .. }));
}

#[test]
fn a_disk_that_was_started_again_and_did_not_ask_yet_is_not_taken_for_gone() {
    let mut world = cell();
    let copy = comes(&world, shown(&world), 99);
    world.stop_daemon();
    world.kill_node(DISK);
    world.start_node(DISK);
    world.pass(Millis(10));
    world.start_daemon_unseen_by(Some(DISK));
    world.until("the others are there", |world| world.healthy() == 3);
    assert!(is_copy(&world.ask(copy)));
    world.until("the disk is there", |world| world.healthy() == 4);
}
