use super::*;
use crate::id::{ClaimId, ExtentKey, PgId};
use crate::node::testing::*;
use crate::node::{NodeConfig, NodeEvent, RequestId};
use crate::wire::node::NodeRequest;

fn ready() -> (World, Owner) {
    let (mut world, owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    (world, owner)
}

fn data(made: &Made, offset: u64) -> NodeRequest {
    NodeRequest::StageData { key: made.key(), offset }
}

fn blocks(made: &Made, from: usize, to: usize) -> Body {
    Body::copy_from_slice(&made.payload[from * 4096..to * 4096])
}

fn opens(sent: &World) -> usize {
    sent.disk.log.iter().filter(|call| **call == "open").count()
}

#[test]
fn pieces_come_in_any_order_and_the_root_is_of_what_came() {
    let (mut world, mut owner) = ready();
    let made = owner.make(5 * 8192);
    assert_eq!(made.payload.len(), 5 * 4096);
    world.ask(owner.stage(&made));
    for (from, to) in [(3, 5), (0, 1), (1, 3)] {
        let not_all = world.ask(NodeRequest::StageSeal { key: made.key() });
        assert!(matches!(refused(&not_all), Refusal::NotStaged(_)));
        assert_eq!(world.ask_with(data(&made, from * 4096), blocks(&made, from as usize, to)), NodeReply::StageTaken);
    }
    let sealed = world.ask(NodeRequest::StageSeal { key: made.key() });
    let record = ec_core::fragment::ExtentRecord::parse(&made.record).unwrap();
    assert_eq!(sealed, NodeReply::StageSealed { root: *record.fragments[1].root.as_bytes() });
    assert_eq!(world.ask(NodeRequest::StageSeal { key: made.key() }), sealed, "asked again");
}

#[test]
fn a_piece_sent_again_counts_once_and_one_that_fits_nowhere_is_refused() {
    let (mut world, mut owner) = ready();
    let made = owner.make(4 * 8192);
    world.ask(owner.stage(&made));
    world.ask_with(data(&made, 4096), blocks(&made, 1, 3));
    let writes = |world: &World| world.disk.log.iter().filter(|call| **call == "write").count();
    assert_eq!(world.ask_with(data(&made, 4096), blocks(&made, 1, 3)), NodeReply::StageTaken);
    assert_eq!(world.ask_with(data(&made, 8192), blocks(&made, 2, 3)), NodeReply::StageTaken);
    assert_eq!(writes(&world), 1);
    for (offset, body) in [
        (0, blocks(&made, 0, 2)),
        (8192, blocks(&made, 2, 4)),
        (12288, blocks(&made, 0, 2)),
        (u64::MAX - 4095, blocks(&made, 0, 1)),
        (100, blocks(&made, 0, 1)),
        (0, Body::from_static(b"x")),
        (0, Body::new()),
        (0, Body::from(vec![0; SLICE_BYTES + 4096])),
    ] {
        let reply = world.ask_with(data(&made, offset), body);
        assert!(matches!(refused(&reply), Refusal::Invalid(_)), "at {offset}");
    }
    assert_eq!(writes(&world), 1);
}

#[test]
fn a_stage_asked_for_anew_begins_anew_but_not_when_a_message_comes_twice() {
    let (mut world, mut owner) = ready();
    let made = owner.make(8192);
    let request = owner.stage(&made);
    let id = world.send(request.clone(), Body::new());
    world.ask_with(data(&made, 0), blocks(&made, 0, 1));
    world.event(NodeEvent::Request { peer: PEER, id, request: request.clone(), body: Body::new() });
    let sealed = world.ask(NodeRequest::StageSeal { key: made.key() });
    assert!(matches!(sealed, NodeReply::StageSealed { .. }), "the piece is still there");
    assert_eq!(world.ask(request), NodeReply::StageOpen);
    let sealed = world.ask(NodeRequest::StageSeal { key: made.key() });
    assert!(matches!(refused(&sealed), Refusal::NotStaged(_)));
    assert_eq!((opens(&world), world.disk.stages()), (2, 1));
}

#[test]
fn operations_of_one_stage_are_wanted_one_after_the_other() {
    let (mut world, mut owner) = ready();
    let made = owner.make(2 * 8192);
    world.held = true;
    let ids: Vec<RequestId> = [
        (owner.stage(&made), Body::new()),
        (data(&made, 4096), blocks(&made, 1, 2)),
        (data(&made, 0), blocks(&made, 0, 1)),
        (NodeRequest::StageSeal { key: made.key() }, Body::new()),
        (NodeRequest::StageDrop { key: made.key() }, Body::new()),
        (owner.stage(&made), Body::new()),
    ]
    .into_iter()
    .map(|(request, body)| world.send(request, body))
    .collect();
    for id in ids {
        assert_eq!(world.waiting.len(), 1);
        assert_eq!(world.answer(id), None);
        world.perform(0);
        assert!(world.answer(id).is_some_and(|reply| !matches!(reply, NodeReply::Refused(_))));
    }
}

#[test]
fn what_a_peer_staged_goes_with_it_unless_it_is_being_prepared() {
    let (mut world, mut owner) = ready();
    let (dropped, taken, other) = (owner.make(5000), owner.make(5000), owner.make(5000));
    for made in [&dropped, &taken] {
        world.stage(&owner, made);
    }
    world.send_from(PeerId(2), owner.stage(&other), Body::new());
    world.held = true;
    let id = world.send_from(PeerId(3), owner.prepare(&taken), taken.record.clone());
    // One more is just being opened.
    let late = owner.make(5000);
    world.send(owner.stage(&late), Body::new());
    world.event(NodeEvent::PeerGone { peer: PEER });
    world.release();
    assert_eq!(world.answer(id), Some(&NodeReply::Prepared { attempt: taken.attempt }));
    assert_eq!(world.disk.stages(), 1, "the other peer's");
    assert_eq!(world.node.stages.slots.len(), 1);
    let reply = world.ask_with(owner.prepare(&dropped), dropped.record.clone());
    assert!(matches!(refused(&reply), Refusal::NotStaged(_)));
}

#[test]
fn a_stage_in_use_waits_for_the_end_of_its_preparation() {
    let (mut world, mut owner) = ready();
    let made = owner.make(5000);
    world.stage(&owner, &made);
    world.held = true;
    let prepare = world.send(owner.prepare(&made), made.record.clone());
    let drop = world.send(NodeRequest::StageDrop { key: made.key() }, Body::new());
    assert_eq!(world.answer(drop), None);
    world.release();
    assert_eq!(world.answer(prepare), Some(&NodeReply::Prepared { attempt: made.attempt }));
    assert_eq!(world.answer(drop), Some(&NodeReply::StageDropped));
    assert!(world.disk.files.contains_key(&made.fragment()));
}

#[test]
fn stages_take_no_more_room_than_there_is_and_give_it_back() {
    let (mut world, mut owner) = ready();
    world.node.config.headroom_bytes = 100_000;
    // A fragment of 40 KiB takes 48 KiB with header and tail.
    let (first, second, third) = (owner.make(80_000), owner.make(80_000), owner.make(80_000));
    let room = |free_bytes| NodeEvent::Room { free_bytes, total_bytes: 1 << 30 };
    world.event(room(200_000));
    assert_eq!(world.ask(owner.stage(&first)), NodeReply::StageOpen);
    assert!(matches!(refused(&world.ask(owner.stage(&second))), Refusal::NoSpace(_)));
    assert_eq!(world.node.stages.slots.len(), 1, "a refused one leaves nothing");
    world.ask(NodeRequest::StageDrop { key: first.key() });
    assert_eq!(world.ask(owner.stage(&second)), NodeReply::StageOpen);
    // A measurement has seen what was promised before; giving it back adds nothing to it.
    world.event(room(160_000));
    assert_eq!(world.ask(owner.stage(&first)), NodeReply::StageOpen);
    world.ask(NodeRequest::StageDrop { key: second.key() });
    assert!(matches!(refused(&world.ask(owner.stage(&third))), Refusal::NoSpace(_)));
}

#[test]
fn a_failed_open_or_write_leaves_nothing() {
    let (mut world, mut owner) = ready();
    let made = owner.make(5000);
    world.disk.failing.push(("open", StoreError::NoSpace("full".into())));
    assert!(matches!(refused(&world.ask(owner.stage(&made))), Refusal::NoSpace(_)));
    assert_eq!(world.node.stages.slots.len(), 0);
    for call in ["write", "seal"] {
        world.ask(owner.stage(&made));
        world.disk.failing.push((call, StoreError::Io("gone".into())));
        world.send(data(&made, 0), blocks(&made, 0, 1));
        world.send(NodeRequest::StageSeal { key: made.key() }, Body::new());
        let refused =
            world.replies.iter().filter(|(_, reply, _)| matches!(reply, NodeReply::Refused(Refusal::Store(_))));
        assert!(refused.count() > 0);
        assert_eq!((world.disk.stages(), world.node.stages.slots.len()), (0, 0), "{call}");
    }
}

#[test]
fn what_makes_no_sense_is_not_staged() {
    let (mut world, mut owner) = ready();
    let made = owner.make(5000);
    let NodeRequest::Stage { token, cell, key, generation, code, extent_bytes } = owner.stage(&made) else { return };
    let wish = |token, cell, key, generation, code, extent_bytes| NodeRequest::Stage {
        token,
        cell,
        key,
        generation,
        code,
        extent_bytes,
    };
    let elsewhere = |extent| StageKey { extent, ..key };
    let mut unsound = made.extent;
    unsound.0 ^= 1;
    for (request, expected) in [
        (wish(token, CellKey(1), key, generation, code, extent_bytes), "cell"),
        (wish(token, cell, elsewhere(unsound), generation, code, extent_bytes), "invalid"),
        (wish(token, cell, elsewhere(ExtentKey::compose(CellKey(1), PG, 1, 0)), 1, code, extent_bytes), "invalid"),
        (wish(token, cell, StageKey { index: 3, ..key }, generation, code, extent_bytes), "invalid"),
        (wish(token, cell, key, 0, code, extent_bytes), "invalid"),
        (wish(token, cell, key, 2, code, extent_bytes), "invalid"),
        (wish(token, cell, key, generation, [0xff; DESCRIPTOR_BYTES], extent_bytes), "invalid"),
        (wish(token, cell, key, generation, code, (1 << 30) + 1), "invalid"),
        (wish(token, cell, key, generation, code, u64::MAX), "invalid"),
        (wish(Token { claim: ClaimId(5), ..token }, cell, key, generation, code, extent_bytes), "fenced"),
    ] {
        let reply = world.ask(request.clone());
        let fits = match refused(&reply) {
            Refusal::WrongCell(_) => "cell",
            Refusal::Invalid(_) => "invalid",
            Refusal::Fenced(_) => "fenced",
            other => panic!("{other:?}"),
        };
        assert_eq!(fits, expected, "{request:?}");
    }
    assert_eq!((opens(&world), world.node.stages.slots.len()), (0, 0));
    // Of a group that was never heard of a fragment may be staged: its owner's first message may be late.
    let other = elsewhere(ExtentKey::compose(CELL, PgId(99), 1, 0));
    assert_eq!(world.ask(wish(token, cell, other, generation, code, extent_bytes)), NodeReply::StageOpen);
}

#[test]
fn there_are_only_so_many_stages_and_so_many_requests_of_each() {
    let config = NodeConfig { stages_max: 2, ..config() };
    let (mut world, mut owner) = (World::boot(config, Disk::default(), Some(CELL)), Owner::new());
    let made: Vec<Made> = (0..3).map(|_| owner.make(5000)).collect();
    assert_eq!(world.ask(owner.stage(&made[0])), NodeReply::StageOpen);
    assert_eq!(world.ask(owner.stage(&made[1])), NodeReply::StageOpen);
    assert!(matches!(refused(&world.ask(owner.stage(&made[2]))), Refusal::Busy(_)));
    world.ask(NodeRequest::StageDrop { key: made[0].key() });
    assert_eq!(world.ask(owner.stage(&made[2])), NodeReply::StageOpen);
    world.held = true;
    let ids: Vec<_> = (0..66).map(|_| world.send(data(&made[1], 0), blocks(&made[1], 0, 1))).collect();
    assert!(matches!(refused(world.answer(ids[65]).unwrap()), Refusal::Busy(_)));
    assert_eq!(world.answer(ids[64]), None);
}

#[test]
fn an_empty_extent_is_staged_and_prepared_like_any_other() {
    let (mut world, mut owner) = ready();
    let made = owner.make(0);
    world.stage(&owner, &made);
    let reply = world.ask_with(owner.prepare(&made), made.record.clone());
    assert_eq!(reply, NodeReply::Prepared { attempt: made.attempt });
}

#[test]
fn written_parts_are_joined() {
    let mut written = Written::default();
    for (from, to) in [(10, 20), (30, 40), (0, 10), (20, 30), (60, 70)] {
        assert!(!written.has_any(from, to));
        written.add(from, to);
        assert!(written.has_all(from, to));
    }
    assert_eq!(written.0, [(0, 40), (60, 70)].into());
    assert!(written.has_all(5, 35) && !written.has_all(35, 65) && written.has_any(35, 65));
    assert!(!written.has_any(40, 60));
}
