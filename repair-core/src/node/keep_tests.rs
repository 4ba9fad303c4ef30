use super::testing::*;
use super::*;

const OTHER: PeerId = PeerId(2);
const HOUR: u64 = 3_600_000;

fn ready() -> (World, Owner) {
    let (mut world, owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    (world, owner)
}

/// A repair's name for the fragment: attempts of repairs differ from each other, and from that of the put.
fn key(made: &Made, number: u64) -> StageKey {
    StageKey { attempt: AttemptId { number: 1 << 63 | number, ..made.attempt }, ..made.key() }
}

fn blocks(made: &Made, from: usize, to: usize) -> Body {
    Body::copy_from_slice(&made.payload[from * 4096..to * 4096])
}

fn write(world: &mut World, made: &Made, key: StageKey, from: usize, to: usize) -> NodeReply {
    world.ask_with(NodeRequest::StageData { key, offset: from as u64 * 4096 }, blocks(made, from, to))
}

fn kept(written: &[(u64, u64)]) -> NodeReply {
    let written = written.iter().flat_map(|(from, to)| *from..*to).map(|at| (at * 4096, at * 4096 + 4096)).collect();
    NodeReply::StageKept { written }
}

fn root(made: &Made) -> NodeReply {
    let record = ec_core::fragment::ExtentRecord::parse(&made.record).unwrap();
    NodeReply::StageSealed { root: *record.fragments[1].root.as_bytes() }
}

fn not_staged(reply: &NodeReply) -> bool {
    matches!(reply, NodeReply::Refused(Refusal::NotStaged(_)))
}

/// Blocks 1 and 2 of 5 have come to a kept stage.
fn begun() -> (World, Owner, Made) {
    let (mut world, mut owner) = ready();
    let made = owner.make(5 * 8192);
    assert_eq!(world.ask(owner.keep_as(&made, key(&made, 1))), kept(&[]));
    assert_eq!(write(&mut world, &made, key(&made, 1), 1, 3), NodeReply::StageTaken);
    (world, owner, made)
}

fn goes_on(world: &mut World, owner: &Owner, made: &Made, number: u64) {
    assert_eq!(world.ask(owner.keep_as(made, key(made, number))), kept(&[(1, 3)]));
    assert_eq!(write(world, made, key(made, number), 1, 3), NodeReply::StageTaken, "sent again all the same");
    for (from, to) in [(0, 1), (3, 5)] {
        assert_eq!(write(world, made, key(made, number), from, to), NodeReply::StageTaken);
    }
    assert_eq!(world.ask(NodeRequest::StageSeal { key: key(made, number) }), root(made));
}

#[test]
fn a_lost_connection_leaves_it_and_another_attempt_goes_on() {
    let (mut world, owner, made) = begun();
    world.event(NodeEvent::PeerGone { peer: PEER });
    assert_eq!((world.disk.stages(), world.disk.kept()), (0, vec![made.fragment()]));
    assert!(not_staged(&write(&mut world, &made, key(&made, 1), 3, 4)), "nobody has it");
    goes_on(&mut world, &owner, &made, 2);
    assert!(world.node.is_idle());
}

#[test]
fn a_new_life_finds_it() {
    let (world, owner, made) = begun();
    let mut world = world.restart(false);
    assert_eq!(world.node.kept().collect::<Vec<_>>(), [(made.fragment(), false)]);
    goes_on(&mut world, &owner, &made, 2);
    assert_eq!(world.node.kept().collect::<Vec<_>>(), [(made.fragment(), true)]);
}

#[test]
fn who_comes_later_takes_over_and_the_one_before_is_refused() {
    let (mut world, owner, made) = begun();
    world.held = true;
    // Of the one before: in work, and waiting.
    let writing = world.send(NodeRequest::StageData { key: key(&made, 1), offset: 0 }, blocks(&made, 0, 1));
    let waiting = world.send(NodeRequest::StageSeal { key: key(&made, 1) }, Body::new());
    let opens = world.send_from(OTHER, owner.keep_as(&made, key(&made, 2)), Body::new());
    let again = world.send_from(OTHER, owner.keep_as(&made, key(&made, 2)), Body::new());
    world.release();
    assert_eq!(world.answer(writing), Some(&NodeReply::StageTaken));
    assert!(not_staged(world.answer(waiting).unwrap()));
    assert_eq!(world.answer(opens), Some(&kept(&[(0, 3)])));
    assert_eq!(world.answer(again), Some(&kept(&[(0, 3)])), "let go of and taken again");
    assert!(not_staged(&write(&mut world, &made, key(&made, 1), 3, 4)));
    assert_eq!(world.ask(NodeRequest::StageDrop { key: key(&made, 1) }), NodeReply::StageDropped);
    // The end of the earlier one's connection is nothing to it, either.
    world.event(NodeEvent::PeerGone { peer: PEER });
    assert_eq!(write(&mut world, &made, key(&made, 2), 3, 5), NodeReply::StageTaken);
    assert_eq!(world.ask(NodeRequest::StageSeal { key: key(&made, 2) }), root(&made));
}

#[test]
fn three_that_want_it_at_once_get_it_one_after_the_other() {
    let (mut world, owner, made) = begun();
    world.held = true;
    let asked: Vec<RequestId> = (2..5)
        .map(|number| world.send_from(PeerId(number), owner.keep_as(&made, key(&made, number)), Body::new()))
        .collect();
    world.release();
    assert!(asked.iter().all(|id| world.answer(*id) == Some(&kept(&[(1, 3)]))));
    let open: Vec<u64> =
        (1..5).filter(|number| !not_staged(&write(&mut world, &made, key(&made, *number), 3, 4))).collect();
    assert_eq!((open.len(), world.disk.stages()), (1, 1), "{open:?}");
    assert!(world.node.is_idle());
}

#[test]
fn it_ends_a_period_after_its_last_use_with_or_without_somebody_who_has_it() {
    let (mut world, owner, made) = begun();
    for millis in [HOUR / 2, HOUR] {
        world.tick_at(1000 + millis);
        assert_eq!(world.node.kept().count(), 1);
        // Used: it lives for another period.
        assert_eq!(write(&mut world, &made, key(&made, 1), 1, 3), NodeReply::StageTaken);
    }
    world.event(NodeEvent::PeerGone { peer: PEER });
    assert!(world.wake.is_some_and(|wake| wake <= Time::from_millis(1000 + 2 * HOUR)), "{:?}", world.wake);
    world.tick_at(1000 + 2 * HOUR);
    assert_eq!((world.node.kept().count(), world.disk.kept()), (0, vec![]));
    // Open, and nobody sends anything.
    assert_eq!(world.ask(owner.keep_as(&made, key(&made, 2))), kept(&[]));
    world.tick_at(1000 + 3 * HOUR);
    assert_eq!((world.node.kept().count(), world.disk.stages(), world.disk.kept()), (0, 0, vec![]));
    assert!(not_staged(&write(&mut world, &made, key(&made, 2), 3, 4)));
    // A restart gives a fresh period to what it finds.
    assert_eq!(world.ask(owner.keep_as(&made, key(&made, 3))), kept(&[]));
    let mut world = world.restart(false);
    world.tick_at(HOUR);
    assert_eq!(world.disk.kept(), [made.fragment()]);
    world.tick_at(1000 + HOUR);
    assert_eq!(world.disk.kept(), []);
    assert!(world.node.is_idle());
}

#[test]
fn a_drop_an_abort_and_a_name_leave_nothing_of_it() {
    let (mut world, owner, made) = begun();
    assert_eq!(world.ask(NodeRequest::StageDrop { key: key(&made, 1) }), NodeReply::StageDropped);
    assert_eq!((world.node.kept().count(), world.disk.stages(), world.disk.kept()), (0, 0, vec![]));
    assert_eq!(world.ask(owner.keep_as(&made, key(&made, 1))), kept(&[]));
    world.ask(owner.abort(key(&made, 1).attempt));
    assert_eq!((world.node.kept().count(), world.disk.stages(), world.disk.kept()), (0, 0, vec![]));

    let (mut world, mut owner) = ready();
    let made = world.create(&mut owner);
    world.disk.files.remove(&made.fragment());
    assert_eq!(world.ask(owner.keep_as(&made, key(&made, 1))), kept(&[]));
    world.ask_with(NodeRequest::StageData { key: key(&made, 1), offset: 0 }, Body::from(made.payload.clone()));
    world.ask(NodeRequest::StageSeal { key: key(&made, 1) });
    assert_eq!(world.ask_with(owner.publish(key(&made, 1)), made.record.clone()), NodeReply::Published);
    assert_eq!((world.node.kept().count(), world.disk.stages()), (0, 0));
    assert!(world.disk.files[&made.fragment()].durable && world.node.is_idle());
}

#[test]
fn a_plain_stage_of_the_same_key_begins_anew_without_it() {
    let (mut world, owner, made) = begun();
    assert_eq!(world.ask(owner.stage_as(&made, key(&made, 1))), NodeReply::StageOpen);
    assert_eq!((world.node.kept().count(), world.disk.stages(), world.disk.kept()), (0, 1, vec![]));
    // And the other way round.
    assert_eq!(world.ask(owner.keep_as(&made, key(&made, 1))), kept(&[]));
    assert_eq!((world.node.kept().count(), world.disk.stages()), (1, 1));
}

#[test]
fn wrong_bytes_that_were_kept_show_in_the_root() {
    let (mut world, owner, made) = begun();
    world.event(NodeEvent::PeerGone { peer: PEER });
    world.disk.rot_kept(made.fragment());
    assert_eq!(world.ask(owner.keep_as(&made, key(&made, 2))), kept(&[(1, 3)]));
    for (from, to) in [(0, 1), (3, 5)] {
        write(&mut world, &made, key(&made, 2), from, to);
    }
    let sealed = world.ask(NodeRequest::StageSeal { key: key(&made, 2) });
    assert!(matches!(sealed, NodeReply::StageSealed { .. }) && sealed != root(&made), "{sealed:?}");
}

#[test]
fn a_store_that_keeps_none_gives_one_that_goes_with_its_connection() {
    let (mut world, mut owner) = ready();
    world.disk.keeps_none = true;
    let made = owner.make(5 * 8192);
    assert_eq!(world.ask(owner.keep_as(&made, key(&made, 1))), kept(&[]));
    write(&mut world, &made, key(&made, 1), 1, 3);
    assert_eq!(world.node.kept().count(), 0);
    world.event(NodeEvent::PeerGone { peer: PEER });
    assert_eq!((world.disk.stages(), world.disk.kept()), (0, vec![]));
}

#[test]
fn a_store_call_that_fails_ends_it_and_who_waits_begins_anew() {
    for call in ["keep", "write", "seal", "leave"] {
        let (mut world, owner, made) = begun();
        world.disk.failing.push((call, StoreError::Io("failed".into())));
        if call == "keep" {
            world.event(NodeEvent::PeerGone { peer: PEER });
            let failed = world.ask(owner.keep_as(&made, key(&made, 2)));
            assert!(matches!(refused(&failed), Refusal::Store(_)), "{failed:?}");
            // This disk still has it, as one may that failed for a moment.
            assert_eq!(world.ask(owner.keep_as(&made, key(&made, 2))), kept(&[(1, 3)]));
            continue;
        }
        world.held = true;
        match call {
            "write" => world.send(NodeRequest::StageData { key: key(&made, 1), offset: 0 }, blocks(&made, 0, 1)),
            "seal" => {
                world.send(NodeRequest::StageData { key: key(&made, 1), offset: 0 }, blocks(&made, 0, 1));
                world.send(NodeRequest::StageData { key: key(&made, 1), offset: 12_288 }, blocks(&made, 3, 5));
                world.send(NodeRequest::StageSeal { key: key(&made, 1) }, Body::new())
            }
            _ => RequestId(0),
        };
        let wants_seal = call == "seal";
        if wants_seal {
            world.release();
            world.held = true;
        }
        let opens = world.send_from(OTHER, owner.keep_as(&made, key(&made, 2)), Body::new());
        world.release();
        let written = if call == "leave" { world.answer(opens).cloned() } else { Some(kept(&[])) };
        assert_eq!(world.answer(opens).cloned(), written, "{call}");
        assert!(matches!(written, Some(NodeReply::StageKept { .. })), "{call}");
        assert!(world.node.is_idle() && world.node.kept().count() == 1, "{call}");
    }
}

#[test]
fn what_nobody_has_open_counts_and_makes_way_for_what_comes() {
    let config = NodeConfig { stages_max: 2, ..config() };
    let (mut world, mut owner) = (World::boot(config, Disk::default(), Some(CELL)), Owner::new());
    world.head(owner.fence());
    let made: Vec<Made> = (0..3).map(|_| owner.make(5000)).collect();
    for made in &made[..2] {
        world.ask(owner.keep_as(made, key(made, 1)));
        world.tick_at(world.now.as_millis() + 10);
    }
    let full = world.ask(owner.stage(&made[2]));
    assert!(matches!(refused(&full), Refusal::Busy(_)), "both are in use: {full:?}");
    world.event(NodeEvent::PeerGone { peer: PEER });
    // One's own is gone on with, however many there are.
    assert_eq!(world.ask(owner.keep_as(&made[1], key(&made[1], 2))), kept(&[]));
    let full = world.ask(owner.stage(&made[2]));
    assert!(matches!(refused(&full), Refusal::Busy(_)), "{full:?}");
    assert_eq!(world.disk.kept(), [], "the one that nobody had open went");
    assert_eq!(world.ask(owner.stage(&made[2])), NodeReply::StageOpen);
    // No more are found at a start than may be there.
    let mut disk = world.disk;
    for made in &made {
        let mut one = World::boot(testing::config(), disk, Some(CELL));
        one.ask(owner.keep_as(made, key(made, 3)));
        disk = one.disk;
        disk.crash(false);
    }
    assert_eq!(disk.kept().len(), 3);
    let world = World::boot(config, disk, Some(CELL));
    assert_eq!((world.node.kept().count(), world.disk.kept().len()), (2, 2));
}

fn free_bytes(world: &mut World) -> u64 {
    match world.ask(NodeRequest::Info) {
        NodeReply::Info { free_bytes, .. } => free_bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_nobody_has_open_is_room_and_goes_for_what_needs_it() {
    let (mut world, mut owner, made) = begun();
    world.event(NodeEvent::Room { free_bytes: 0, total_bytes: 1 << 30 });
    assert_eq!(free_bytes(&mut world), 0);
    world.event(NodeEvent::PeerGone { peer: PEER });
    let kept_bytes = free_bytes(&mut world);
    assert!((6 * 4096..10 * 4096).contains(&kept_bytes), "{kept_bytes}");
    // What is there has its room: it is gone on with in a full store.
    assert_eq!(world.ask(owner.keep_as(&made, key(&made, 2))), kept(&[(1, 3)]));
    assert_eq!(free_bytes(&mut world), 0);
    world.event(NodeEvent::PeerGone { peer: PEER });
    // For what would not fit without it either, it stays.
    let long = owner.make(10 * 8192);
    let full = world.ask(owner.stage(&long));
    assert!(matches!(refused(&full), Refusal::NoSpace(_)), "{full:?}");
    assert_eq!((world.disk.kept(), free_bytes(&mut world)), (vec![made.fragment()], kept_bytes));
    // What fits waits until it is gone, and is not refused.
    let others = [owner.make(5000), owner.make(5000), owner.make(5000)];
    world.held = true;
    let opens: Vec<RequestId> =
        others.iter().map(|other| world.send_from(OTHER, owner.stage(other), Body::new())).collect();
    assert!(world.waiting.iter().all(|(_, call)| call_name(call) == "drop kept"), "{:?}", world.waiting);
    world.release();
    let answers: Vec<&NodeReply> = opens.iter().map(|id| world.answer(*id).unwrap()).collect();
    assert_eq!(answers[..2], [&NodeReply::StageOpen, &NodeReply::StageOpen]);
    assert!(matches!(refused(answers[2]), Refusal::NoSpace(_)), "{answers:?}");
    assert_eq!((world.node.kept().count(), world.disk.kept()), (0, vec![]));
    // And what became free counts before it is measured, and not once more after that.
    assert!(free_bytes(&mut world) < kept_bytes / 2);
    world.event(NodeEvent::Room { free_bytes: 5, total_bytes: 1 << 30 });
    assert_eq!(free_bytes(&mut world), 5);
    assert!(world.node.is_idle());
}

#[test]
fn a_period_of_nothing_or_next_to_it_holds_up_no_repair() {
    for staged_for in [Millis(0), Millis(1)] {
        let config = NodeConfig { staged_for, ..config() };
        let (mut world, mut owner) = (World::boot(config, Disk::default(), Some(CELL)), Owner::new());
        world.head(owner.fence());
        let made = owner.make(5 * 8192);
        assert_eq!(world.ask(owner.keep_as(&made, key(&made, 1))), kept(&[]));
        let plain = world.disk.log.contains(&"open") && !world.disk.log.contains(&"keep");
        assert_eq!(plain, staged_for == Millis(0), "{:?}", world.disk.log);
        for (from, to) in [(1, 3), (0, 1), (3, 5)] {
            assert!(world.wake.is_none_or(|at| at > world.now), "woken over and over: {staged_for:?}");
            world.tick_at(world.now.as_millis() + 2_000);
            assert_eq!(write(&mut world, &made, key(&made, 1), from, to), NodeReply::StageTaken, "{staged_for:?}");
        }
        assert_eq!(world.ask(NodeRequest::StageSeal { key: key(&made, 1) }), root(&made));
        world.event(NodeEvent::PeerGone { peer: PEER });
        assert_eq!(world.node.kept().count() as u64, staged_for.0, "nothing is kept for no time");
        world.tick_at(world.now.as_millis() + 1);
        assert_eq!((world.node.kept().count(), world.disk.stages(), world.disk.kept()), (0, 0, vec![]));
        assert!(world.node.is_idle());
    }
}

#[test]
fn a_drop_that_was_asked_for_is_done_though_the_connection_ends_or_somebody_takes_over() {
    for takes_over in [false, true] {
        let (mut world, owner, made) = begun();
        world.held = true;
        world.send(NodeRequest::StageData { key: key(&made, 1), offset: 0 }, blocks(&made, 0, 1));
        let drops = world.send(NodeRequest::StageDrop { key: key(&made, 1) }, Body::new());
        if takes_over {
            let opens = world.send_from(OTHER, owner.keep_as(&made, key(&made, 2)), Body::new());
            world.release();
            assert_eq!(world.answer(opens), Some(&kept(&[])), "nothing of it is left");
            assert_eq!(world.answer(drops), Some(&NodeReply::StageDropped));
            continue;
        }
        world.event(NodeEvent::PeerGone { peer: PEER });
        world.release();
        assert_eq!((world.node.kept().count(), world.disk.stages(), world.disk.kept()), (0, 0, vec![]));
    }
}

#[test]
fn what_could_not_be_opened_and_is_still_there_is_not_forgotten() {
    let (mut world, owner, made) = begun();
    world.event(NodeEvent::PeerGone { peer: PEER });
    world.disk.failing.push(("keep", StoreError::Io("writing ended".into())));
    let failed = world.ask(owner.keep_as(&made, key(&made, 2)));
    assert!(matches!(refused(&failed), Refusal::Store(_)), "{failed:?}");
    assert_eq!(world.node.kept().collect::<Vec<_>>(), [(made.fragment(), false)]);
    world.tick_at(world.now.as_millis() + HOUR);
    assert_eq!((world.node.kept().count(), world.disk.kept()), (0, vec![]));
    // One that was not there before is not there now.
    world.disk.failing.push(("keep", StoreError::Io("failed".into())));
    world.ask(owner.keep_as(&made, key(&made, 3)));
    assert_eq!(world.node.kept().count(), 0);
}

#[test]
fn a_token_that_was_overtaken_opens_none() {
    let (mut world, owner, made) = begun();
    let mut later = owner.clone();
    later.reclaim();
    world.head(later.fence());
    let refusal = world.ask(owner.keep_as(&made, key(&made, 2)));
    assert!(matches!(refused(&refusal), Refusal::Fenced(_)), "{refusal:?}");
    assert_eq!(world.ask(later.keep_as(&made, key(&made, 3))), kept(&[(1, 3)]));
}
