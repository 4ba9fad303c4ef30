//! Sums over a chain, at one of its hops.

use super::combine::add_share;
use super::testing::*;
use super::*;
use crate::limits::{CHAIN_HOPS_MAX, CHAIN_SUMS_MAX, SLICE_BYTES};
use crate::wire::CallError;
use crate::wire::node::{Field, Hop, Place};
use ec_core::gf;

fn hop(disk: DiskId, fragment: FragmentKey, coefficients: &[u8]) -> Hop {
    let place = Place { disk, address: format!("node-{}:1", disk.0) };
    Hop { place, fragment, coefficients: coefficients.to_vec() }
}

fn combine(hops: Vec<Hop>) -> NodeRequest {
    NodeRequest::Combine { field: Field::Gf256, offset: 0, bytes: 4096, patience: Millis(3000), hops }
}

/// A node with one fragment, and a chain in which it is the first of `hops`.
fn with_chain(hops: u16) -> (World, Made, Vec<Hop>) {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let other = |at: u16| FragmentKey { index: 100 + at, ..made.fragment() };
    let rest = (1..hops).map(|at| hop(DiskId(50 + u128::from(at)), other(at), &[9, 1]));
    let chain = std::iter::once(hop(DISK, made.fragment(), &[3, 0x8e])).chain(rest).collect();
    (world, made, chain)
}

fn share(payload: &[u8], coefficients: &[u8]) -> Vec<u8> {
    coefficients.iter().flat_map(|factor| payload.iter().map(|byte| gf::mul(*factor, *byte))).collect()
}

fn body_of(world: &World, id: RequestId) -> (NodeReply, Body) {
    let (_, reply, body) = world.replies.iter().find(|(asker, ..)| asker.id == id).expect("no answer");
    (reply.clone(), body.clone())
}

#[test]
fn the_last_of_a_chain_gives_its_share_and_the_others_add_theirs() {
    let (mut world, made, chain) = with_chain(1);
    let own = share(&made.payload[..4096], &[3, 0x8e]);
    let id = world.send(combine(chain), Body::new());
    assert_eq!(body_of(&world, id), (NodeReply::Combined, Body::from(own.clone())));

    let (mut world, _, chain) = with_chain(3);
    let id = world.send(combine(chain.clone()), Body::new());
    assert!(world.answer(id).is_none(), "it cannot know the sums of the others");
    let (op, to, request, deadline) = world.forwards.pop().unwrap();
    assert_eq!((&to, world.forwards.len()), (&chain[1].place, 0));
    assert!(deadline < Millis(3000) && deadline > Millis(1000), "{deadline:?}");
    let behind = NodeRequest::Combine {
        field: Field::Gf256,
        offset: 0,
        bytes: 4096,
        patience: deadline,
        hops: chain[1..].to_vec(),
    };
    assert_eq!(request, behind);
    assert!(!world.disk.log.contains(&"combine"), "while it waits it holds no payload");
    let upstream: Vec<u8> = (0..2 * 4096u32).map(|at| ((at * 7) >> 2) as u8).collect();
    let result = Ok((NodeReply::Combined, Body::from(upstream.clone())));
    world.event(NodeEvent::Forwarded { op, result: result.clone() });
    let sums: Vec<u8> = own.iter().zip(upstream).map(|(a, b)| a ^ b).collect();
    assert_eq!(body_of(&world, id), (NodeReply::Combined, Body::from(sums)));
    // The same answer once more is nobody's.
    let replies = world.replies.len();
    world.event(NodeEvent::Forwarded { op, result });
    assert_eq!(world.replies.len(), replies);
}

#[test]
fn whoever_fails_is_named_by_disk_and_fragment() {
    let none = Body::new;
    let named = |disk, fragment, refusal| NodeReply::HopFailed { disk, fragment, refusal };
    let (_, _, chain) = with_chain(3);
    let (next, far) = (chain[1].clone(), chain[2].clone());
    let far_failed = named(far.place.disk, far.fragment, Refusal::NotFound);
    let by_next = |refusal| named(next.place.disk, next.fragment, refusal);
    let silent = |error: CallError| by_next(Refusal::Unavailable(error.to_string()));
    let cases = [
        (Ok((far_failed.clone(), none())), far_failed),
        (Ok((NodeReply::Refused(Refusal::Busy("x".into())), none())), by_next(Refusal::Busy("x".into()))),
        (Err(CallError::Timeout), silent(CallError::Timeout)),
        (Err(CallError::Unreachable), silent(CallError::Unreachable)),
        (Ok((NodeReply::StageOpen, none())), silent(CallError::Nonsense)),
        // Sums of another length.
        (Ok((NodeReply::Combined, Body::from(vec![0; 4096]))), silent(CallError::Nonsense)),
    ];
    for (result, expected) in cases {
        let (mut world, _, chain) = with_chain(3);
        let id = world.send(combine(chain), none());
        let (op, ..) = world.forwards.pop().unwrap();
        world.event(NodeEvent::Forwarded { op, result });
        assert_eq!(body_of(&world, id).0, expected);
        assert!(!world.disk.log.contains(&"combine") && world.node.is_idle());
    }
}

#[test]
fn a_damaged_fragment_enters_no_sum_and_is_looked_at() {
    for (class, gone) in [("rot", false), ("missing", true)] {
        let (mut world, made, chain) = with_chain(1);
        if gone {
            world.disk.files.remove(&made.fragment());
        } else {
            world.disk.files.get_mut(&made.fragment()).unwrap().class = class.into();
        }
        let reply = world.ask(combine(chain));
        let refusal = if gone { Refusal::NotFound } else { Refusal::Damaged(class.into()) };
        assert_eq!(reply, NodeReply::HopFailed { disk: DISK, fragment: made.fragment(), refusal });
        assert!(world.node.is_damaged(made.fragment()), "{class}");
    }
    // A cable says nothing about the fragment.
    let (mut world, made, chain) = with_chain(1);
    world.disk.failing.push(("combine", StoreError::Io("cable".into())));
    let NodeReply::HopFailed { refusal, .. } = world.ask(combine(chain)) else { panic!("it gave sums") };
    assert!(matches!(refusal, Refusal::Unavailable(_)) && !world.node.is_damaged(made.fragment()));
}

#[test]
fn what_makes_no_sense_is_refused_and_nobody_is_asked() {
    let (mut world, made, chain) = with_chain(2);
    let twist = |change: &dyn Fn(&mut Vec<Hop>)| {
        let mut hops = chain.clone();
        change(&mut hops);
        combine(hops)
    };
    let ranged = |offset, bytes, patience| NodeRequest::Combine {
        field: Field::Gf256,
        offset,
        bytes,
        patience: Millis(patience),
        hops: chain.clone(),
    };
    let whole = SLICE_BYTES as u32;
    let many = |hops: &mut Vec<Hop>| {
        let more = (0..CHAIN_HOPS_MAX as u16)
            .map(|at| hop(DiskId(9), FragmentKey { index: 200 + at, ..made.fragment() }, &[1, 1]));
        hops.extend(more);
    };
    for (at, request) in [
        combine(Vec::new()),
        twist(&many),
        twist(&|hops| hops.iter_mut().for_each(|hop| hop.coefficients.clear())),
        twist(&|hops| hops.iter_mut().for_each(|hop| hop.coefficients = vec![1; CHAIN_SUMS_MAX + 1])),
        twist(&|hops| hops[1].coefficients.push(1)),
        twist(&|hops| hops[1].place.address = "a".repeat(261)),
        twist(&|hops| hops[1].fragment.index = hops[0].fragment.index),
        twist(&|hops| hops[1].fragment.generation += 1),
        twist(&|hops| hops[1].fragment.extent = ExtentKey(hops[1].fragment.extent.0 + 1)),
        ranged(0, 0, 1),
        ranged(0, 100, 1),
        ranged(100, 4096, 1),
        ranged(u64::MAX - 4095, 4096, 1),
        // Two sums of more than half a slice.
        ranged(0, whole / 2 + 4096, 1),
        ranged(0, 4096, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = world.ask(request);
        assert!(matches!(refused(&reply), Refusal::Invalid(_)), "{at}: {reply:?}");
    }
    let elsewhere = world.ask(twist(&|hops| hops[0].place.disk = DiskId(77)));
    assert!(matches!(refused(&elsewhere), Refusal::Unavailable(_)), "another disk is asked for");
    assert!(world.forwards.is_empty() && world.node.is_idle());
}

#[test]
fn so_many_chains_go_through_a_node_and_no_more() {
    let (mut world, _, chain) = with_chain(2);
    let asked: Vec<RequestId> = (0..32).map(|_| world.send(combine(chain.clone()), Body::new())).collect();
    assert_eq!(world.forwards.len(), 32);
    assert!(matches!(refused(&world.ask(combine(chain.clone()))), Refusal::Busy(_)), "refused at once, not kept");
    let (op, ..) = world.forwards.remove(0);
    world.event(NodeEvent::Forwarded { op, result: Err(CallError::Timeout) });
    assert!(world.answer(asked[0]).is_some());
    world.send(combine(chain), Body::new());
    assert_eq!(world.forwards.len(), 32, "one ended, another begins");
}

#[test]
fn every_hop_has_less_time_than_the_one_before() {
    let (_, _, chain) = with_chain(CHAIN_HOPS_MAX as u16);
    let mut patience = Millis(5_000);
    for at in 0..chain.len() - 1 {
        let (mut world, made, _) = with_chain(1);
        let mut hops = chain[at..].to_vec();
        hops[0] = hop(DISK, FragmentKey { index: hops[0].fragment.index, ..made.fragment() }, &[1, 2]);
        world.send(NodeRequest::Combine { field: Field::Gf256, offset: 0, bytes: 4096, patience, hops }, Body::new());
        let (_, _, _, deadline) = world.forwards.pop().unwrap();
        assert!(deadline.0 < patience.0 && deadline.0 > 0, "hop {at}: {deadline:?} of {patience:?}");
        patience = deadline;
    }
}

#[test]
fn shares_fit_or_are_refused() {
    let sums = |bytes: usize| Body::from(vec![1; bytes]);
    for (coefficients, payload, so_far) in [(2usize, 64usize, 64usize), (1, 64, 63), (0, 64, 0), (1, 0, 0), (1, 0, 5)] {
        let refused = add_share(&vec![1; coefficients], &vec![1; payload], sums(so_far));
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{coefficients} {payload} {so_far}");
    }
    assert_eq!(add_share(&[1, 0], &[7; 64], sums(128)).unwrap(), [vec![6; 64], vec![1; 64]].concat());
}
