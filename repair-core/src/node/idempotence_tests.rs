//! Every message may come again: at once, long after, and in another order than it was sent. A sequence as owners, clients and
//! repairs send it is recorded, and delivered with each message twice, with every beginning of it repeated, and with every two
//! neighbours the other way about. The node must stand where the plain sequence leaves it.
//!
//! Not looked at here: crashes in between (`crash_tests`, `sequence_tests`), failing stores and several requests in work at once
//! (`random_tests`).

use super::testing::*;
use super::*;
use crate::wire::node::{Authority, Field, Head, Hop, Place};
use ec_core::fragment::ExtentRecord;

/// What happens.
#[derive(Clone)]
enum Act {
    Send(RequestId, NodeRequest, Body),
    /// The disk damages a file.
    Rot(Made),
    /// A file lies there that nobody knows.
    Litter(Made),
}

/// A recorded sequence, and the owner that spoke in it.
#[derive(Default)]
struct Record {
    acts: Vec<Act>,
}

impl Record {
    fn send(&mut self, request: NodeRequest, body: Body) {
        let id = RequestId(1_000 + self.acts.len() as u64);
        self.acts.push(Act::Send(id, request, body));
    }

    fn ask(&mut self, request: NodeRequest) {
        self.send(request, Body::new());
    }

    fn stage(&mut self, owner: &Owner, made: &Made, key: StageKey) {
        self.ask(owner.stage_as(made, key));
        // Two pieces, as a long fragment has many.
        let (first, second) = made.payload.split_at(4096);
        self.send(NodeRequest::StageData { key, offset: 0 }, Body::copy_from_slice(first));
        self.send(NodeRequest::StageData { key, offset: 4096 }, Body::copy_from_slice(second));
        self.ask(NodeRequest::StageSeal { key });
    }

    fn prepare(&mut self, owner: &mut Owner) -> Made {
        let made = owner.make(16_000);
        self.stage(owner, &made, made.key());
        self.send(owner.prepare(&made), made.record.clone());
        made
    }

    fn put(&mut self, owner: &mut Owner) -> Made {
        let made = self.prepare(owner);
        owner.commit(&made);
        self.ask(owner.hear());
        made
    }

    fn delete(&mut self, owner: &mut Owner, made: &Made) {
        let attempt = owner.attempt();
        self.ask(owner.prepare_delete(made, attempt));
        owner.commit_delete(made, attempt);
        self.ask(owner.hear());
    }
}

fn combine(made: &Made) -> NodeRequest {
    let place = Place { disk: DISK, address: "here:1".into() };
    let hops = vec![Hop { place, fragment: made.fragment(), coefficients: vec![3] }];
    NodeRequest::Combine { field: Field::Gf256, offset: 0, bytes: 4096, patience: Millis(3_000), hops }
}

/// Puts, one of them aborted, a repair in place, a scrub, sums, a stray put aside, deletes, a trim and another owner.
fn recorded() -> Vec<Act> {
    let (mut record, mut owner) = (Record::default(), Owner::new());
    record.ask(owner.fence());
    let first = record.put(&mut owner);
    let aborted = record.prepare(&mut owner);
    record.ask(owner.abort(aborted.attempt));
    let second = record.put(&mut owner);
    record.ask(NodeRequest::Read { fragment: second.fragment(), offset: 0, bytes: 4096 });
    record.ask(NodeRequest::Record { extent: second.extent, hash: second.hash });
    record.acts.push(Act::Rot(first.clone()));
    record.ask(NodeRequest::Check { fragment: first.fragment() });
    let key = StageKey { attempt: owner.attempt(), ..first.key() };
    record.stage(&owner, &first, key);
    record.send(owner.publish(key), first.record.clone());
    record.ask(NodeRequest::Scrub);
    record.ask(combine(&second));
    let stray = owner.make(16_000);
    record.acts.push(Act::Litter(stray));
    record.ask(owner.retire());
    record.ask(NodeRequest::List { pg: PG, after: None });
    record.ask(NodeRequest::Holdings { pg: PG, after: None });
    record.delete(&mut owner, &first);
    owner.trim();
    record.ask(owner.hear());
    owner.reclaim();
    record.ask(owner.fence());
    let third = record.put(&mut owner);
    record.delete(&mut owner, &second);
    record.ask(NodeRequest::Read { fragment: third.fragment(), offset: 0, bytes: 4096 });
    record.acts
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq)]
struct State {
    list: BTreeMap<ExtentKey, RecordHash>,
    heard: Option<PgRow>,
    token: Option<Token>,
    prepared: BTreeMap<AttemptId, Prepared>,
    aborted: BTreeSet<AttemptId>,
    tombstones: BTreeMap<ExtentKey, u64>,
    /// Files by their class, and whether their names are durable.
    files: BTreeMap<FragmentKey, (String, bool)>,
    quarantine: BTreeSet<FragmentKey>,
}

fn state(world: &World) -> State {
    let file = |(fragment, file): (&FragmentKey, &File)| (*fragment, (file.class.clone(), file.durable));
    State {
        list: world.node.list(PG).cloned().unwrap_or_default(),
        heard: world.node.heard(PG).cloned(),
        token: world.node.token(PG),
        prepared: world.node.prepared(PG).cloned().unwrap_or_default(),
        aborted: world.node.abort_marks(PG).cloned().unwrap_or_default(),
        tombstones: world.node.tombstones(PG).cloned().unwrap_or_default(),
        files: world.disk.files.iter().map(file).collect(),
        quarantine: world.disk.quarantine.clone(),
    }
}

type Answer = (NodeReply, Body);

/// Lets what happens do so; the answer to a message.
fn perform(world: &mut World, act: &Act) -> Option<Answer> {
    match act {
        Act::Send(id, request, body) => {
            let seen = world.replies.len();
            world.event(NodeEvent::Request { peer: PEER, id: *id, request: request.clone(), body: body.clone() });
            // A pass of the scrub goes on by itself.
            let later = Time::from_millis(world.now.as_millis() + 60_000).as_millis();
            if *request == NodeRequest::Scrub {
                world.tick_at(later);
            }
            let answered = world.replies[seen..].iter().filter(|(asker, ..)| asker.id == *id);
            let answers: Vec<_> = answered.map(|(_, reply, body)| (reply.clone(), body.clone())).collect();
            assert_eq!(answers.len(), 1, "one answer to {request:?}");
            answers.into_iter().next()
        }
        Act::Rot(made) => {
            world.disk.files.entry(made.fragment()).and_modify(|file| file.class = "rot.payload".into());
            None
        }
        Act::Litter(made) => {
            let identity = ExtentRecord::parse(&made.record).unwrap().fragments[1].identity;
            let (payload, record) = (made.payload.clone(), made.record.clone());
            let file = File { payload, record, class: "healthy".into(), identity, durable: true };
            world.disk.files.insert(made.fragment(), file);
            None
        }
    }
}

/// The same message as another request: of who had no answer and asks again.
fn anew(act: &Act) -> Act {
    match act {
        Act::Send(id, request, body) => Act::Send(RequestId(id.0 + 1_000_000), request.clone(), body.clone()),
        other => other.clone(),
    }
}

fn is_message(act: &Act) -> bool {
    matches!(act, Act::Send(..))
}

fn describe(act: &Act) -> String {
    match act {
        Act::Send(_, request, _) => format!("{request:?}").chars().take(90).collect(),
        Act::Rot(_) => "a file rots".into(),
        Act::Litter(_) => "a stray file".into(),
    }
}

/// The plain sequence: what was answered, and where the node stood after each act.
fn plain(acts: &[Act]) -> (Vec<Option<Answer>>, Vec<State>, World) {
    let mut world = World::new();
    let (mut answers, mut states) = (Vec::new(), Vec::new());
    for act in acts {
        answers.push(perform(&mut world, act));
        states.push(state(&world));
    }
    (answers, states, world)
}

/// What a message may be answered when it comes again: the same, or a reason for which it is not done again.
fn is_fair(first: &NodeReply, again: &NodeReply) -> bool {
    match (first, again) {
        (_, NodeReply::Refused(refusal)) => !matches!(refusal, Refusal::Invalid(_) | Refusal::Store(_)),
        // Nothing is left to be put aside.
        (NodeReply::Retired { .. }, NodeReply::Retired { files: 0, .. }) => true,
        // What is prepared by then is a matter of the order.
        (NodeReply::Heard(first), NodeReply::Heard(again)) => {
            let head = |head: &Head| (head.heard, head.count, head.sum, head.level);
            head(first) == head(again)
        }
        (first, again) => first == again,
    }
}

/// No file is put aside or removed more often than without repetitions.
fn nothing_twice(world: &World, once: &World, what: &str) {
    let times = |world: &World, call: &str| world.disk.log.iter().filter(|logged| **logged == call).count();
    assert!(times(world, "quarantine") <= times(once, "quarantine"), "{what}");
    let unlinked = |world: &World, fragment| world.disk.unlinked.iter().filter(|other| **other == fragment).count();
    for fragment in &world.disk.unlinked {
        assert!(unlinked(world, *fragment) <= unlinked(once, *fragment), "{what}");
    }
}

/// The end: nothing is under way, and a node that starts on the disk stands where this one does.
fn ends_as(mut world: World, expected: &State, what: &str) {
    world.event(NodeEvent::PeerGone { peer: PEER });
    assert!(world.node.is_idle() && world.disk.stages() == 0, "{what}");
    assert_eq!(state(&world), *expected, "{what}");
    let world = world.restart(false);
    assert_eq!(state(&world), *expected, "after a restart: {what}");
}

#[test]
fn every_message_may_come_twice() {
    let acts = recorded();
    let (answers, states, once) = plain(&acts);
    assert!(!states.last().unwrap().list.is_empty() && !states.last().unwrap().tombstones.is_empty());
    for as_new in [false, true] {
        let mut world = World::new();
        for ((act, answer), expected) in acts.iter().zip(&answers).zip(&states) {
            let what = describe(act);
            let first = perform(&mut world, act);
            assert_eq!(first, *answer, "{what}");
            if let (Some((first, body)), true) = (&first, is_message(act)) {
                let again = if as_new { anew(act) } else { act.clone() };
                let (reply, again_body) = perform(&mut world, &again).unwrap();
                assert!(is_fair(first, &reply), "{what}: {first:?}, and again {reply:?}");
                assert!(matches!(reply, NodeReply::Refused(_)) || again_body == *body, "{what}");
            }
            assert_eq!(state(&world), *expected, "{what}");
        }
        nothing_twice(&world, &once, "each twice");
        ends_as(world, states.last().unwrap(), "each twice");
    }
}

/// The owner's word, where a message has it.
fn authority_of(act: &mut Act) -> Option<&mut Box<Authority>> {
    let Act::Send(_, request, _) = act else { return None };
    match request {
        NodeRequest::Fence { authority }
        | NodeRequest::Hear { authority }
        | NodeRequest::Prepare { authority, .. }
        | NodeRequest::Abort { authority, .. }
        | NodeRequest::Publish { authority, .. }
        | NodeRequest::Retire { authority } => Some(authority),
        _ => None,
    }
}

/// An owner that had no answer asks again with the row it has by then.
#[test]
fn every_beginning_may_come_again_with_the_newest_row() {
    let acts = recorded();
    let (_, states, _) = plain(&acts);
    // Behind a trim nothing is remembered of what was deleted, and nobody asks about it any more.
    let trimmed = states.iter().position(|state| state.heard.as_ref().is_some_and(|row| row.trim > 0)).unwrap();
    for end in 1..=trimmed {
        let mut world = World::new();
        acts[..end].iter().for_each(|act| _ = perform(&mut world, act));
        let newest = acts[..end].iter().rev().find_map(|act| authority_of(&mut act.clone()).cloned());
        for act in acts[..end].iter().filter(|act| is_message(act)) {
            let mut again = anew(act);
            if let (Some(authority), Some(newest)) = (authority_of(&mut again), &newest) {
                authority.clone_from(newest);
            }
            perform(&mut world, &again);
            assert_eq!(state(&world), states[end - 1], "{}, after {}", describe(act), describe(&acts[end - 1]));
        }
        let journal = world.disk.journals.get(&PG).map_or(0, Vec::len);
        let mut once = World::new();
        acts[..end].iter().for_each(|act| _ = perform(&mut once, act));
        let plain = once.disk.journals.get(&PG).map_or(0, Vec::len);
        assert_eq!(journal, plain, "written again, after {}", describe(&acts[end - 1]));
        ends_as(world, &states[end - 1], &describe(&acts[end - 1]));
    }
}

#[test]
fn every_beginning_may_come_again() {
    let acts = recorded();
    let (answers, states, once) = plain(&acts);
    for as_new in [false, true] {
        for end in 1..=acts.len() {
            let what = format!("repeated up to {}: {}", end - 1, describe(&acts[end - 1]));
            let mut world = World::new();
            acts[..end].iter().for_each(|act| _ = perform(&mut world, act));
            for act in acts[..end].iter().filter(|act| is_message(act)) {
                perform(&mut world, &if as_new { anew(act) } else { act.clone() });
                let now = state(&world);
                assert_eq!(now, states[end - 1], "{what}, by {}", describe(act));
            }
            // Stages that were opened again are in nobody's way.
            for (act, answer) in acts[end..].iter().zip(&answers[end..]) {
                let reply = perform(&mut world, act);
                let fair = reply.as_ref().zip(answer.as_ref()).is_none_or(|((now, _), (then, _))| is_fair(then, now));
                assert!(fair, "{what}, then {}: {reply:?}", describe(act));
            }
            nothing_twice(&world, &once, &what);
            ends_as(world, states.last().unwrap(), &what);
        }
    }
}

/// The sequence with one message that never came: another serial outcome.
fn without(acts: &[Act], at: usize) -> World {
    let mut world = World::new();
    let others = acts.iter().enumerate().filter(|(other, _)| *other != at);
    others.for_each(|(_, act)| _ = perform(&mut world, act));
    world.event(NodeEvent::PeerGone { peer: PEER });
    world
}

#[test]
fn neighbours_may_come_the_other_way_about() {
    let acts = recorded();
    let (answers, states, once) = plain(&acts);
    let mut refused_in_the_end = 0;
    for at in 0..acts.len() - 1 {
        if !is_message(&acts[at]) || !is_message(&acts[at + 1]) {
            continue;
        }
        let what = format!("{} before {}", describe(&acts[at + 1]), describe(&acts[at]));
        let mut world = World::new();
        acts[..at].iter().for_each(|act| _ = perform(&mut world, act));
        perform(&mut world, &acts[at + 1]);
        let (late, _) = perform(&mut world, &acts[at]).unwrap();
        let (then, _) = answers[at].as_ref().unwrap();
        assert!(is_fair(then, &late), "{what}: {then:?}, and late {late:?}");
        // Whoever was refused, or had no answer in time, asks again; then all goes on.
        acts[at + 1..].iter().for_each(|act| _ = perform(&mut world, act));
        // What was not acknowledged may as well never have come. What was is there.
        if matches!(late, NodeReply::Refused(_)) && state(&world) != *states.last().unwrap() {
            refused_in_the_end += 1;
            let other = without(&acts, at);
            nothing_twice(&world, &other, &what);
            ends_as(world, &state(&other), &what);
        } else {
            nothing_twice(&world, &once, &what);
            ends_as(world, states.last().unwrap(), &what);
        }
    }
    assert!(refused_in_the_end <= 8, "{refused_in_the_end}: so few that each can be looked at");
}
