//! Faults of a node's disk: counted by kind, told to the daemon and to whoever asks.

use super::testing::*;
use super::*;
use crate::wire::node::{FaultCount, NodeHealth, NodeState};
use crate::wire::{DaemonReply, DaemonRequest};

fn health(world: &mut World) -> NodeHealth {
    match world.ask(NodeRequest::Health) {
        NodeReply::Health(health) => *health,
        other => panic!("{other:?}"),
    }
}

fn counts(faults: &[FaultCount]) -> Vec<(&str, u64)> {
    faults.iter().map(|fault| (fault.kind.as_str(), fault.count)).collect()
}

/// Asks for something, and has the first operation of that end so; then lets everything else go on.
fn fail(world: &mut World, request: NodeRequest, body: Body, result: Result<StoreOk, StoreError>) {
    world.held = true;
    world.send(request, body);
    let (op, _) = world.waiting.pop_front().expect("an operation");
    world.event(NodeEvent::Stored { op, result });
    world.release();
}

fn io(reason: &str) -> Result<StoreOk, StoreError> {
    Err(StoreError::Io(reason.into()))
}

/// The faults told in the questions asked since the last look, and the number of the last such question.
fn told(world: &mut World) -> Option<(u64, Vec<FaultCount>)> {
    let asked = std::mem::take(&mut world.asked);
    asked.into_iter().rev().find_map(|(number, request)| match request {
        DaemonRequest::Faults { faults, .. } => Some((number, faults)),
        _ => None,
    })
}

#[test]
fn each_fault_is_counted_as_what_it_is() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    assert_eq!(counts(&health(&mut world).faults), []);
    let read = NodeRequest::Read { fragment: made.fragment(), offset: 0, bytes: 4096 };
    let check = NodeRequest::Check { fragment: made.fragment() };
    fail(&mut world, read.clone(), Body::new(), io("Input/output error"));
    fail(&mut world, read.clone(), Body::new(), Err(StoreError::NotFound));
    fail(&mut world, check.clone(), Body::new(), io("Input/output error"));
    let checked = |class: &str| Ok(StoreOk::Checked { class: class.into(), root: None, bytes: 0 });
    fail(&mut world, check.clone(), Body::new(), checked("rot.payload"));
    fail(&mut world, check.clone(), Body::new(), checked("healthy"));
    fail(&mut world, read, Body::new(), Err(StoreError::Damaged("block 3".into())));
    let other = owner.make(5000);
    fail(&mut world, owner.stage(&other), Body::new(), Err(StoreError::NoSpace("full".into())));
    world.tick_at(60_000);
    let other = owner.make(5000);
    fail(&mut world, owner.stage(&other), Body::new(), io("cannot make a file"));
    let attempt = owner.attempt();
    fail(&mut world, owner.prepare_delete(&made, attempt), Body::new(), io("cannot force a journal to the disk: EIO"));
    world.event(NodeEvent::Mismatched { times: 2 });
    let expected = [
        ("write_error", 1),
        ("sync_error", 1),
        ("read_error", 2),
        ("no_space", 1),
        ("damaged", 1),
        ("read_back_mismatch", 2),
    ];
    let found = health(&mut world);
    assert_eq!(counts(&found.faults), expected);
    let ago = |kind: &str| found.faults.iter().find(|fault| fault.kind == kind).unwrap().last_ago;
    assert_eq!((ago("no_space"), ago("read_back_mismatch")), (Millis(59_000), Millis(0)));
    // What is refused because nothing is stored any more is no fault of its own.
    world.event(NodeEvent::Broken { reason: "cannot force a journal to the disk".into() });
    let other = owner.make(5000);
    fail(&mut world, owner.stage(&other), Body::new(), io("writing ended"));
    assert_eq!(counts(&health(&mut world).faults), expected);
}

#[test]
fn the_failure_that_ends_all_writing_is_counted_though_the_end_is_told_first() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    world.held = true;
    let attempt = owner.attempt();
    world.send(owner.prepare_delete(&made, attempt), Body::new());
    let (op, _) = world.waiting.pop_front().expect("an append");
    // The order of a host: whoever is answered should find it broken.
    let reason = "cannot force a journal to the disk: EIO";
    world.event(NodeEvent::Broken { reason: reason.into() });
    world.event(NodeEvent::Stored { op, result: io(reason) });
    world.release();
    assert_eq!(counts(&health(&mut world).faults), [("sync_error", 1)]);
    let other = owner.make(5000);
    // Said by the answer alone: another thread's may overtake the word that it is broken.
    let (mut before, key) = (World::new(), owner.stage(&other));
    before.head(owner.fence());
    fail(&mut before, key, Body::new(), io("writing ended until the node is started again: EIO"));
    assert_eq!(counts(&health(&mut before).faults), []);
    let ended = io("writing ended until the node is started again: cannot force a journal to the disk: EIO");
    fail(&mut world, owner.stage(&other), Body::new(), ended);
    assert_eq!(counts(&health(&mut world).faults), [("sync_error", 1)]);
}

#[test]
fn a_fragment_that_rots_is_counted_once_until_it_was_sound_again() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let fragment = made.fragment();
    let damaged = |world: &mut World| counts(&health(world).faults).first().map(|(_, count)| *count);
    for (class, times) in [("rot.payload", 1), ("rot.footer", 1), ("healthy", 1), ("rot.payload", 2)] {
        world.disk.files.get_mut(&fragment).unwrap().class = class.into();
        if class != "healthy" {
            let read = NodeRequest::Read { fragment, offset: 0, bytes: 4096 };
            fail(&mut world, read, Body::new(), Err(StoreError::Damaged("block 3".into())));
        }
        world.ask(NodeRequest::Check { fragment });
        world.ask(NodeRequest::Check { fragment });
        assert_eq!(damaged(&mut world), Some(times), "{class}");
    }
    // One that is gone is no rot, and one that is nobody's is no fault.
    let other = world.create(&mut owner);
    world.disk.files.remove(&other.fragment());
    world.ask(NodeRequest::Check { fragment: other.fragment() });
    assert_eq!(counts(&health(&mut world).faults), [("damaged", 2)]);
}

#[test]
fn what_nobody_waits_for_is_not_slow_and_a_seal_reads() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let staged = owner.make(5000);
    world.ask(owner.stage(&staged));
    let key = staged.key();
    world.ask_with(NodeRequest::StageData { key, offset: 0 }, Body::from(staged.payload.clone()));
    for request in [NodeRequest::Check { fragment: made.fragment() }, NodeRequest::StageSeal { key }] {
        world.held = true;
        world.send(request, Body::new());
        world.now = world.now + Millis(60_000);
        world.release();
    }
    assert_eq!(counts(&health(&mut world).faults), []);
    let staged = owner.make(5000);
    world.ask(owner.stage(&staged));
    world.ask_with(NodeRequest::StageData { key: staged.key(), offset: 0 }, Body::from(staged.payload.clone()));
    fail(&mut world, NodeRequest::StageSeal { key: staged.key() }, Body::new(), io("cannot read a fragment back: EIO"));
    assert_eq!(counts(&health(&mut world).faults), [("read_error", 1)]);
}

#[test]
fn what_takes_long_is_slow_and_the_mean_follows_the_last_operations() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let took = |world: &mut World, millis: u64| {
        world.held = true;
        world.send(NodeRequest::Read { fragment: made.fragment(), offset: 0, bytes: 4096 }, Body::new());
        world.now = world.now + Millis(millis);
        world.release();
    };
    let read = |world: &mut World| {
        let service = health(world).service;
        service.into_iter().find(|time| time.kind == "read").map(|time| (time.count, time.mean_us)).unwrap()
    };
    took(&mut world, 10);
    took(&mut world, 30);
    assert_eq!(read(&mut world), (2, 20_000));
    (0..100).for_each(|_| took(&mut world, 20));
    (0..100).for_each(|_| took(&mut world, 100));
    let (count, mean_us) = read(&mut world);
    assert!(count == 202 && (99_000..=100_000).contains(&mean_us), "{count} {mean_us}");
    took(&mut world, 5_000);
    assert_eq!(counts(&health(&mut world).faults), []);
    took(&mut world, 5_001);
    assert_eq!(counts(&health(&mut world).faults), [("slow", 1)]);
}

#[test]
fn faults_are_told_with_the_next_beat_and_until_they_were_taken_and_to_every_new_daemon() {
    let mut world = World::new();
    world.reach_daemon(Millis(1_000));
    world.tick_at(2_000);
    assert!(told(&mut world).is_none(), "there is nothing to tell");
    world.event(NodeEvent::Mismatched { times: 1 });
    for beat in 3..6 {
        world.tick_at(1_000 * beat);
        let (_, faults) = told(&mut world).expect("not taken yet");
        assert_eq!(counts(&faults), [("read_back_mismatch", 1)]);
    }
    world.tick_at(6_000);
    let (number, _) = told(&mut world).unwrap();
    world.event(NodeEvent::Mismatched { times: 1 });
    world.daemon_says(number, DaemonReply::BeatTaken);
    world.tick_at(7_000);
    let (number, faults) = told(&mut world).expect("there was one since");
    assert_eq!(counts(&faults), [("read_back_mismatch", 2)]);
    world.daemon_says(number, DaemonReply::BeatTaken);
    world.tick_at(8_000);
    assert!(told(&mut world).is_none());
    world.reach_daemon(Millis(1_000));
    world.tick_at(9_500);
    assert!(told(&mut world).is_some());
}

#[test]
fn a_node_says_what_it_does_and_why_not() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    assert_eq!(health(&mut world).state, NodeState::Unregistered);
    world.reach_daemon(Millis(1_000));
    world.event(NodeEvent::Room { free_bytes: 70_000, total_bytes: 90_000 });
    let made = owner.make(5000);
    assert_eq!(world.ask(owner.stage(&made)), NodeReply::StageOpen);
    // One that was refused and one that waits for the store are not open.
    let long = owner.make(1 << 30);
    assert!(matches!(world.ask(owner.stage(&long)), NodeReply::Refused(Refusal::NoSpace(_))));
    world.held = true;
    let other = owner.make(5000);
    world.send(owner.stage(&other), Body::new());
    let found = health(&mut world);
    world.release();
    assert_eq!((found.state, found.total_bytes, found.stages), (NodeState::Serving, 90_000, 1));
    assert!(found.free_bytes > 0 && found.free_bytes < 70_000, "{}", found.free_bytes);
    assert_eq!((found.scrub_groups_left, found.scrub_ended_ago), (None, None));
    assert_eq!(world.ask(NodeRequest::Scrub), NodeReply::Scrubbing);
    world.tick_at(100_000);
    world.now = Time::from_millis(101_500);
    let ended = health(&mut world).scrub_ended_ago;
    assert!(ended.is_some(), "the pass ended");
    // A refused node answers too: that is when it is asked.
    world.event(NodeEvent::DaemonReached);
    let (number, _) = world.asked.pop().unwrap();
    world.daemon_says(number, DaemonReply::Refused(Refusal::Duplicate("a copy".into())));
    assert_eq!(health(&mut world).state, NodeState::Refused { reason: "duplicate: a copy".into() });
    world.event(NodeEvent::Broken { reason: "no sync".into() });
    assert_eq!(health(&mut world).state, NodeState::ReadOnly { reason: "no sync".into() });
}

#[test]
fn what_went_to_quarantine_and_from_there_is_counted() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let attempt = owner.attempt();
    world.ask(owner.prepare_delete(&made, attempt));
    owner.commit_delete(&made, attempt);
    world.head(owner.hear());
    assert_eq!(health(&mut world).quarantined, 1);
    owner.trim();
    world.head(owner.hear());
    assert_eq!(health(&mut world).quarantined, 0);
}
