//! The process ends at every store operation of a history: what had been answered before must still hold, and asking again must
//! lead to where it would have led.

use super::testing::*;
use super::*;
use crate::wire::node::Listed;

/// A request of the history, and what its answer promises for ever after, until a later promise replaces it.
struct Act {
    request: NodeRequest,
    body: Body,
    promise: Promise,
}

#[derive(Clone, Debug)]
enum Promise {
    Nothing,
    /// Sent anew whenever the process started anew: what is staged does not outlive it.
    Stage(Made),
    /// Opened again then: what has come to it is still there.
    Keep(Made),
    /// The row, and all files its list owes here.
    Heard(Box<Owner>),
    Prepared(Made),
    DeletePrepared(AttemptId),
    Aborted(AttemptId),
    /// Published again.
    Restored(Made),
}

struct History {
    acts: Vec<Act>,
    /// All extents ever made.
    made: Vec<Made>,
    end: Owner,
}

/// Creates, an abort, a delete, trims, another claim, a list taken over, a repair, a retirement.
fn history() -> History {
    let mut owner = Owner::new();
    let (mut acts, mut all) = (Vec::new(), Vec::new());
    let plain = |request, promise| Act { request, body: Body::new(), promise };
    acts.push(plain(owner.fence(), Promise::Heard(Box::new(owner.clone()))));
    let mut create = |owner: &mut Owner, acts: &mut Vec<Act>| {
        let made = owner.make(5000);
        acts.push(plain(owner.stage(&made), Promise::Stage(made.clone())));
        let promise = Promise::Prepared(made.clone());
        acts.push(Act { request: owner.prepare(&made), body: made.record.clone(), promise });
        all.push(made.clone());
        made
    };
    let heard = |owner: &Owner, acts: &mut Vec<Act>| {
        acts.push(Act { request: owner.hear(), body: Body::new(), promise: Promise::Heard(Box::new(owner.clone())) });
    };
    let a = create(&mut owner, &mut acts);
    owner.commit(&a);
    heard(&owner, &mut acts);
    let b = create(&mut owner, &mut acts);
    owner.commit(&b);
    heard(&owner, &mut acts);
    let dead = create(&mut owner, &mut acts);
    acts.push(plain(owner.abort(dead.attempt), Promise::Aborted(dead.attempt)));
    let attempt = owner.attempt();
    acts.push(plain(owner.prepare_delete(&a, attempt), Promise::DeletePrepared(attempt)));
    owner.commit_delete(&a, attempt);
    heard(&owner, &mut acts);
    owner.trim();
    heard(&owner, &mut acts);
    owner.reclaim();
    acts.push(plain(owner.fence(), Promise::Heard(Box::new(owner.clone()))));
    // Another member's extent, taken over; then rebuilt here.
    let c = owner.make(20_000);
    owner.commit(&c);
    owner.trim();
    let listed = [&b, &c].map(|made| Listed { extent: made.extent, hash: made.hash }).to_vec();
    let adopt = NodeRequest::Adopt { authority: owner.authority(), page: 0, last: true, listed, tombstones: vec![] };
    acts.push(plain(adopt, Promise::Nothing));
    acts.push(plain(owner.keep_as(&c, c.key()), Promise::Keep(c.clone())));
    let request = owner.publish(c.key());
    acts.push(Act { request, body: c.record.clone(), promise: Promise::Restored(c.clone()) });
    heard(&owner, &mut acts);
    acts.push(plain(owner.retire(), Promise::Nothing));
    all.push(c);
    History { acts, made: all, end: owner }
}

/// Does one act; what it promised, where it was answered as it should be. None where the world stopped before.
fn perform(world: &mut World, act: &Act) -> Option<Promise> {
    if let Promise::Stage(made) = &act.promise {
        let key = made.key();
        let id = world.send(act.request.clone(), Body::new());
        world.answer(id)?;
        world.send(NodeRequest::StageData { key, offset: 0 }, Body::from(made.payload.clone()));
        let id = world.send(NodeRequest::StageSeal { key }, Body::new());
        world.answer(id)?;
        return Some(Promise::Nothing);
    }
    if let Promise::Keep(made) = &act.promise {
        return keep(world, act, made);
    }
    let id = world.send(act.request.clone(), act.body.clone());
    let answer = world.answer(id)?.clone();
    let (good, promise) = match (&act.promise, &answer) {
        (Promise::Heard(_), NodeReply::Heard(head)) => (head.level, act.promise.clone()),
        (Promise::Prepared(_) | Promise::DeletePrepared(_), NodeReply::Prepared { .. })
        | (Promise::Aborted(_), NodeReply::Aborted { .. })
        | (Promise::Restored(_), NodeReply::Published)
        | (Promise::Nothing, NodeReply::Heard(_) | NodeReply::Retired { .. }) => (true, act.promise.clone()),
        _ => (false, Promise::Nothing),
    };
    assert!(good, "{:?} was answered {answer:?}", act.request);
    Some(promise)
}

/// Opens a kept stage and sends what is not there, block by block; the root is that of all of it.
fn keep(world: &mut World, act: &Act, made: &Made) -> Option<Promise> {
    let key = made.key();
    let id = world.send(act.request.clone(), Body::new());
    let NodeReply::StageKept { written } = world.answer(id)?.clone() else { panic!("not kept") };
    for (offset, piece) in (0..).step_by(4096).zip(made.payload.chunks(4096)) {
        if !written.iter().any(|(from, to)| (*from..*to).contains(&offset)) {
            world.send(NodeRequest::StageData { key, offset }, Body::copy_from_slice(piece));
        }
    }
    let id = world.send(NodeRequest::StageSeal { key }, Body::new());
    let record = ec_core::fragment::ExtentRecord::parse(&made.record).unwrap();
    assert_eq!(world.answer(id)?, &NodeReply::StageSealed { root: *record.fragments[1].root.as_bytes() });
    Some(Promise::Nothing)
}

fn check(world: &World, promises: &[Promise]) {
    let kept: Vec<_> = world.disk.kept().into_iter().map(|fragment| (fragment, false)).collect();
    assert_eq!(world.node.kept().collect::<Vec<_>>(), kept, "something is kept without a reservation");
    let node = &world.node;
    let listed = |made: &Made| node.list(PG).is_some_and(|list| list.get(&made.extent) == Some(&made.hash));
    for (at, promise) in promises.iter().enumerate() {
        let settled = |ends: &dyn Fn(&Promise) -> bool| promises[at + 1..].iter().any(ends);
        match promise {
            Promise::Nothing | Promise::Stage(_) | Promise::Keep(_) => {}
            Promise::Heard(owner) => {
                assert!(node.heard(PG).unwrap().order() >= owner.row.order());
                assert!(node.token(PG).unwrap().order() >= owner.token.order());
            }
            Promise::Prepared(made) => {
                if settled(&|later| matches!(later, Promise::Heard(_) | Promise::Aborted(_))) {
                    continue;
                }
                let aborted = node.abort_marks(PG).unwrap().contains(&made.attempt);
                let known = node.prepared(PG).unwrap().contains_key(&made.attempt) || listed(made);
                assert!(known || aborted, "a prepared create is forgotten: {made:?}");
                assert!(aborted || world.disk.files[&made.fragment()].durable, "prepared without its file");
            }
            Promise::DeletePrepared(attempt) => {
                if settled(&|later| matches!(later, Promise::Heard(_))) {
                    continue;
                }
                let prepared = node.prepared(PG).unwrap().contains_key(attempt);
                assert!(prepared || !node.tombstones(PG).unwrap().is_empty(), "a prepared delete is forgotten");
            }
            Promise::Aborted(attempt) => {
                assert!(!node.prepared(PG).unwrap().contains_key(attempt));
                let same_claim = node.token(PG).unwrap().claim == attempt.claim;
                assert!(!same_claim || node.abort_marks(PG).unwrap().contains(attempt));
            }
            Promise::Restored(made) => assert!(listed(made) && world.disk.files[&made.fragment()].durable),
        }
    }
}

/// Whatever was said or not: what list and journal say of each other, and no file is gone that the list owes.
fn check_always(world: &World, history: &History) {
    let (Some(list), Some(heard)) = (world.node.list(PG), world.node.heard(PG)) else { return };
    assert_eq!((list.len() as u64, crate::id::Sum::of(list.values())), (heard.count, heard.sum));
    for made in &history.made {
        // The last one is another member's until it is rebuilt.
        let ours = made.extent != history.made.last().unwrap().extent;
        assert!(!ours || !list.contains_key(&made.extent) || world.disk.files.contains_key(&made.fragment()));
    }
}

/// How the power goes while an operation is under way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// The operation was not begun.
    Before,
    /// It was done, nobody was told.
    After,
    /// Part of what was appended is there.
    Torn,
}

/// Runs until so many operations were performed, then loses power in the next; goes on after the restart by sending everything
/// that was not answered, and ends as an undisturbed history does. False where there were fewer operations.
fn run(history: &History, ops: usize, cut: Cut, keeps: bool) -> bool {
    let mut world = World::new();
    world.ops_left = Some(ops);
    let (mut promises, mut at) = (Vec::new(), 0);
    while let Some(act) = history.acts.get(at) {
        let Some(promise) = perform(&mut world, act) else { break };
        promises.push(promise);
        at += 1;
    }
    let Some((_, call)) = world.waiting.pop_front() else { return false };
    match (cut, call) {
        (Cut::Before, _) => {}
        (Cut::After, call) => {
            let _ = world.disk.perform(call);
        }
        (Cut::Torn, StoreCall::AppendJournal { pg, bytes }) => {
            world.disk.journals.get_mut(&pg).unwrap().extend_from_slice(&bytes[..bytes.len() * 2 / 3]);
        }
        (Cut::Torn, StoreCall::WriteStage { key, offset, body }) => _ = world.disk.tear_write(key, offset, &body),
        (Cut::Torn, _) => {}
    }
    let mut world = world.restart(keeps);
    check(&world, &promises);
    check_always(&world, history);
    // Stages are gone: the one of the act that follows is sent again.
    if at > 0
        && let Some(Act { promise: Promise::Stage(_) | Promise::Keep(_), .. }) = history.acts.get(at - 1)
    {
        at -= 1;
    }
    for act in &history.acts[at..] {
        promises.push(perform(&mut world, act).expect("no answer"));
        assert!(world.node.is_idle());
        // What was written behind a torn record is read back, too.
        if !matches!(act.promise, Promise::Stage(_) | Promise::Keep(_)) {
            world = world.restart(false);
        }
        check_always(&world, history);
        assert!(!world.node.is_journal_lost(PG));
    }
    check(&world, &promises);
    let kept: Vec<FragmentKey> = world.disk.files.keys().copied().collect();
    let owed = [history.made[1].fragment(), history.made[3].fragment()];
    assert_eq!(kept, owed, "nothing else is left in the folder");
    assert_eq!((world.disk.stages(), world.disk.kept()), (0, vec![]), "nor staged");
    assert_eq!(world.node.heard(PG), Some(&history.end.row));
    true
}

#[test]
fn a_crash_at_every_operation_keeps_what_was_answered() {
    let history = history();
    for cut in [Cut::Before, Cut::After, Cut::Torn] {
        for keeps in [false, true] {
            let mut ops = 0;
            while run(&history, ops, cut, keeps) {
                ops += 1;
            }
            assert!(ops > 40, "{ops} operations");
        }
    }
}

#[test]
fn a_second_crash_soon_after_the_first_changes_nothing() {
    let history = history();
    let mut world = World::new();
    // The very same history, a restart after every act.
    for act in &history.acts {
        perform(&mut world, act).unwrap();
        if !matches!(act.promise, Promise::Stage(_) | Promise::Keep(_)) {
            world = world.restart(false).restart(true);
            check_always(&world, &history);
        }
    }
    assert_eq!(world.node.heard(PG), Some(&history.end.row));
    assert_eq!(world.disk.files.len(), 2);
}
