//! Repairs through a chain of the sources.

use super::tests::{check_published, damaged, run, suspected};
use super::*;
use crate::client::test_world::{Travel, World, place};
use crate::wire::Refusal;

fn chained(
    code: &str,
    bytes: usize,
    lost: &[u16],
) -> (World, RepairSpec, BTreeMap<u16, crate::client::test_world::Fragment>) {
    let (world, spec, originals) = damaged(code, bytes, lost);
    (world, RepairSpec { chain: true, ..spec }, originals)
}

fn requests(world: &World, is_it: fn(&NodeRequest) -> bool) -> impl Iterator<Item = &NodeRequest> {
    world.nodes.values().flat_map(|node| node.requests.iter()).filter(move |request| is_it(request))
}

fn is_read(request: &NodeRequest) -> bool {
    matches!(request, NodeRequest::Read { .. })
}

#[test]
fn a_single_loss_comes_as_sums_and_nothing_is_read_here() {
    for (code, reads) in [("rs:4+2", 4), ("rs:10+4", 10), ("lrc:4,2,2", 0)] {
        let n = World::new(code, 0).code.n() as u16;
        for lost in 0..n {
            let (mut world, spec, originals) = chained(code, 5 << 20, &[lost]);
            world.duplicates = lost % 2 == 1;
            let outcome = run(&mut world, &spec);
            let shard = world.shard_bytes();
            assert_eq!((outcome.published.clone(), outcome.chain_fault.clone()), (vec![lost], None), "{code} {lost}");
            assert_eq!((outcome.chained_bytes, outcome.read_bytes), (shard, outcome.minimum_read_bytes));
            assert!(reads == 0 || outcome.read_bytes == reads * shard, "{code} {lost}");
            assert_eq!(requests(&world, is_read).count(), 0);
            check_published(&mut world, &originals, &[lost]);
        }
    }
}

#[test]
fn every_source_is_the_one_that_is_asked_in_its_turn() {
    let (mut world, spec, _) = chained("rs:4+2", 32 << 20, &[2]);
    assert_eq!(run(&mut world, &spec).published, [2]);
    let whole_chains =
        requests(&world, |request| matches!(request, NodeRequest::Combine { hops, .. } if hops.len() == 4));
    let firsts: Vec<DiskId> = whole_chains
        .filter_map(|request| match request {
            NodeRequest::Combine { hops, .. } => Some(hops[0].place.disk),
            _ => None,
        })
        .collect();
    assert_eq!((firsts.len(), firsts.iter().collect::<BTreeSet<_>>().len()), (8, 4), "{firsts:?}");
}

#[test]
fn a_chain_that_fails_in_any_way_is_left_for_the_sources() {
    // What the third source says to the chain, from its so many-th message on.
    type Way = (&'static str, fn(&mut (NodeReply, Body)) -> Travel);
    let ways: [Way; 6] = [
        ("an older version", |answer| {
            *answer = (NodeReply::Refused(Refusal::Invalid("unknown variant".into())), Body::new());
            Travel::Now
        }),
        ("busy", |answer| {
            *answer = (NodeReply::Refused(Refusal::Busy("32 chains".into())), Body::new());
            Travel::Now
        }),
        ("silent", |_| Travel::Never),
        ("gone", |_| Travel::Fails(CallError::Lost)),
        ("too short", |answer| {
            answer.1.truncate(4096);
            Travel::Now
        }),
        ("another answer", |answer| {
            answer.0 = NodeReply::StageOpen;
            Travel::Now
        }),
    ];
    for (name, way) in ways {
        for from in [0, 2, 5] {
            let (mut world, spec, originals) = chained("rs:4+2", 32 << 20, &[1]);
            let mut chains = 0;
            world.twist(3, move |_, request, answer| {
                chains += usize::from(matches!(request, NodeRequest::Combine { .. }));
                if matches!(request, NodeRequest::Combine { .. }) && chains > from { way(answer) } else { Travel::Now }
            });
            let outcome = run(&mut world, &spec);
            assert_eq!(
                (outcome.published.clone(), suspected(&outcome)),
                (vec![1], vec![]),
                "{name} {from}: {outcome:?}"
            );
            assert!(outcome.chain_fault.is_some() && outcome.chained_bytes < world.shard_bytes(), "{name} {from}");
            // Of three in flight the one that fails may be the first to come back.
            assert!(from < 3 || outcome.chained_bytes > 0, "{name} {from}: what came before is kept");
            assert_eq!(outcome.written_bytes, world.shard_bytes(), "{name} {from}: no piece is sent twice");
            check_published(&mut world, &originals, &[1]);
        }
    }
}

#[test]
fn a_rotten_source_of_a_chain_is_proven_rotten_here_and_left_out() {
    let (mut world, spec, originals) = chained("rs:4+2", 20 << 20, &[1]);
    world.node(3).fragments.get_mut(&3).unwrap().payload[(3 << 20) + 5000] ^= 1;
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), suspected(&outcome)), (vec![1], vec![3]), "{outcome:?}");
    assert!(outcome.chain_fault.as_deref().is_some_and(|fault| fault.contains(&place(3).disk.to_string())));
    check_published(&mut world, &originals, &[1]);
}

#[test]
fn a_hop_that_adds_wrongly_is_found_by_the_root_and_the_next_round_has_no_chain() {
    let (mut world, spec, originals) = chained("rs:4+2", 9 << 20, &[1]);
    world.twist(3, |_, request, answer| {
        if let (NodeRequest::Combine { .. }, NodeReply::Combined) = (request, &answer.0) {
            let mut sums = answer.1.to_vec();
            sums[77] ^= 1;
            answer.1 = sums.into();
        }
        Travel::Now
    });
    let outcome = run(&mut world, &spec);
    // Every source has its own root: nobody is blamed who cannot be proven wrong.
    assert_eq!((outcome.published.clone(), suspected(&outcome)), (vec![1], vec![]), "{outcome:?}");
    assert_eq!(outcome.written_bytes, 2 * world.shard_bytes());
    check_published(&mut world, &originals, &[1]);
}

#[test]
fn losses_that_share_their_reads_and_copies_are_not_chained() {
    let (mut world, spec, originals) = chained("rs:4+2", 5 << 20, &[1, 4]);
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.published.clone(), outcome.chained_bytes), (vec![1, 4], 0));
    check_published(&mut world, &originals, &[1, 4]);
    let (mut world, mut spec, originals) = chained("rs:4+2", 5 << 20, &[1]);
    world.node(0).fragments.insert(1, originals[&1].clone());
    spec.sources.insert(1, vec![place(0)]);
    let outcome = run(&mut world, &spec);
    assert_eq!((outcome.read_bytes, outcome.chained_bytes), (world.shard_bytes(), 0));
    check_published(&mut world, &originals, &[1]);
}
