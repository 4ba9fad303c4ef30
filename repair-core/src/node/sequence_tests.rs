//! All sequences of up to three operations, with the power gone at every store operation of each: before it, after it, and in the
//! middle of it where it can be half done. Most bugs of crash safety need no more than that.
//!
//! After each restart and at the end: nothing that was answered is lost, nothing shows as committed that no row said, nothing
//! prepared that nobody asked for, and no stage stays but those that are kept: they are known, and hold nothing that did not come.
//!
//! Not looked at here: two crashes in one sequence (`crash_tests`), failing store operations and other orders of several
//! requests (`random_tests`), and the real store's own steps inside one operation.

use super::testing::*;
use super::*;
use crate::id::ExtentKey;
use crate::wire::node::Listed;
use ec_core::fragment::ExtentRecord;
use ec_core::geometry::BLOCK_BYTES;
use std::fmt;

/// Extents there are before the sequence begins: as many as it can delete.
const BEFORE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// Staged, prepared, committed, heard.
    Put,
    /// Staged, prepared, aborted.
    AbortedPut,
    /// A file rots and is built anew over what is there.
    Repair,
    /// A list is taken over with an extent that this disk never had, which is then built.
    Join,
    /// A file that belongs to nothing is put aside.
    Retire,
    /// Prepared, committed, heard.
    Delete,
    /// A file rots, and a pass finds it.
    Scrub,
    /// Another owner claims the group.
    Reclaim,
}

impl Op {
    const ALL: [Self; 8] =
        [Self::Put, Self::AbortedPut, Self::Repair, Self::Join, Self::Retire, Self::Delete, Self::Scrub, Self::Reclaim];
}

/// What is done next.
#[derive(Clone)]
enum Doing {
    Ask(NodeRequest, Body),
    /// Sent anew whenever the process started anew: what is staged does not outlive it, but for what is kept, and that is not sent again.
    Stage(NodeRequest, StageKey, Body),
    /// The disk damages a file.
    Rot(Made),
    /// A file lies there that nobody knows.
    Litter(Made),
}

/// What an answer, or the disk, makes true.
#[derive(Clone)]
enum Fact {
    Nothing,
    /// The list has come at least to this row.
    Heard((u32, u64)),
    Prepared(Made),
    DeletePrepared(AttemptId),
    Aborted(AttemptId),
    /// Built and published.
    Restored(Made),
    Rotten(Made),
    /// All that is rotten was found.
    Scrubbed,
    /// Not in the folder any more.
    Retired(Made),
}

struct Act {
    doing: Doing,
    fact: Fact,
    /// The row that goes with it.
    row: Option<PgRow>,
}

/// What happens, and what the lists of its rows are.
struct Plan {
    owner: Owner,
    acts: Vec<Act>,
    lists: BTreeMap<(u32, u64), BTreeMap<ExtentKey, RecordHash>>,
    /// By the last row, oldest first.
    listed: Vec<Made>,
}

impl Plan {
    fn ask(&mut self, request: NodeRequest, body: Body, fact: Fact) {
        let row = self.owner.row.clone();
        let list = self.listed.iter().map(|made| (made.extent, made.hash)).collect();
        self.lists.insert(row.order(), list);
        self.acts.push(Act { doing: Doing::Ask(request, body), fact, row: Some(row) });
    }

    fn hear(&mut self) {
        let request = self.owner.hear();
        self.ask(request, Body::new(), Fact::Heard(self.owner.row.order()));
    }

    fn push(&mut self, doing: Doing, fact: Fact) {
        self.acts.push(Act { doing, fact, row: None });
    }

    fn stage(&mut self, made: &Made, key: StageKey) {
        let (request, payload) = (self.owner.stage_as(made, key), Body::from(made.payload.clone()));
        self.push(Doing::Stage(request, key, payload), Fact::Nothing);
    }

    /// Staged and prepared.
    fn prepare(&mut self) -> Made {
        let made = self.owner.make(5000);
        self.stage(&made, made.key());
        let request = self.owner.prepare(&made);
        self.ask(request, made.record.clone(), Fact::Prepared(made.clone()));
        made
    }

    fn publish(&mut self, made: &Made) {
        let key = StageKey { attempt: self.owner.attempt(), ..made.key() };
        let (request, payload) = (self.owner.keep_as(made, key), Body::from(made.payload.clone()));
        self.push(Doing::Stage(request, key, payload), Fact::Nothing);
        let request = self.owner.publish(key);
        self.ask(request, made.record.clone(), Fact::Restored(made.clone()));
    }

    /// The oldest extent is what operations are about, so that they meet.
    fn rot(&mut self) -> Option<Made> {
        let made = self.listed.first()?.clone();
        self.push(Doing::Rot(made.clone()), Fact::Rotten(made.clone()));
        Some(made)
    }

    fn add(&mut self, op: Op) {
        match op {
            Op::Put => {
                let made = self.prepare();
                self.owner.commit(&made);
                self.listed.push(made);
                self.hear();
            }
            Op::AbortedPut => {
                let attempt = self.prepare().attempt;
                let request = self.owner.abort(attempt);
                self.ask(request, Body::new(), Fact::Aborted(attempt));
            }
            Op::Repair => {
                if let Some(made) = self.rot() {
                    self.publish(&made);
                }
            }
            Op::Join => self.join(),
            Op::Retire => {
                let made = self.owner.make(5000);
                self.push(Doing::Litter(made.clone()), Fact::Nothing);
                let request = self.owner.retire();
                self.ask(request, Body::new(), Fact::Retired(made));
            }
            Op::Delete => {
                let (made, attempt) = (self.listed[0].clone(), self.owner.attempt());
                let request = self.owner.prepare_delete(&made, attempt);
                self.ask(request, Body::new(), Fact::DeletePrepared(attempt));
                self.owner.commit_delete(&made, attempt);
                self.listed.remove(0);
                self.hear();
            }
            Op::Scrub => {
                self.rot();
                self.push(Doing::Ask(NodeRequest::Scrub, Body::new()), Fact::Scrubbed);
            }
            Op::Reclaim => {
                self.owner.reclaim();
                let request = self.owner.fence();
                self.ask(request, Body::new(), Fact::Heard(self.owner.row.order()));
            }
        }
    }

    fn join(&mut self) {
        // Three blocks.
        let made = self.owner.make(20_000);
        self.owner.commit(&made);
        self.owner.trim();
        self.listed.push(made.clone());
        let listed = self.listed.iter().map(|made| Listed { extent: made.extent, hash: made.hash }).collect();
        let authority = self.owner.authority();
        let request = NodeRequest::Adopt { authority, page: 0, last: true, listed, tombstones: Vec::new() };
        self.ask(request, Body::new(), Fact::Heard(self.owner.row.order()));
        self.publish(&made);
    }
}

/// A group with some extents, on a disk at rest.
struct Start {
    disk: Disk,
    owner: Owner,
    listed: Vec<Made>,
}

impl Start {
    fn new() -> Self {
        let (mut world, mut owner) = (World::new(), Owner::new());
        world.head(owner.fence());
        let listed = (0..BEFORE).map(|_| world.create(&mut owner)).collect();
        Self { disk: world.disk, owner, listed }
    }

    fn plan(&self, ops: &[Op]) -> Plan {
        let (owner, listed) = (self.owner.clone(), self.listed.clone());
        let list = listed.iter().map(|made| (made.extent, made.hash)).collect();
        let lists = BTreeMap::from([(owner.row.order(), list)]);
        let mut plan = Plan { owner, acts: Vec::new(), lists, listed };
        ops.iter().for_each(|op| plan.add(*op));
        plan
    }

    fn facts(&self) -> Vec<Fact> {
        let mut facts: Vec<Fact> = self.listed.iter().cloned().map(Fact::Prepared).collect();
        facts.push(Fact::Heard(self.owner.row.order()));
        facts
    }
}

/// Does one act; what is true then. None where the world stopped before it was answered.
fn perform(world: &mut World, act: &Act) -> Option<Fact> {
    match &act.doing {
        Doing::Rot(made) => {
            // One that is under repair may be away just now; it is only rotten where it lies.
            world.disk.files.entry(made.fragment()).and_modify(|file| file.class = "rot.payload".into());
        }
        Doing::Litter(made) => {
            let identity = ExtentRecord::parse(&made.record).unwrap().fragments[1].identity;
            let (payload, record) = (made.payload.clone(), made.record.clone());
            let file = File { payload, record, class: "healthy".into(), identity, durable: true };
            world.disk.files.insert(made.fragment(), file);
        }
        Doing::Stage(request, key, payload) => {
            let id = world.send(request.clone(), Body::new());
            let written = match world.answer(id)? {
                NodeReply::StageKept { written } => written.clone(),
                _ => Vec::new(),
            };
            for (offset, piece) in (0..).step_by(BLOCK_BYTES).zip(payload.chunks(BLOCK_BYTES)) {
                if !written.iter().any(|(from, to)| (*from..*to).contains(&offset)) {
                    world.send(NodeRequest::StageData { key: *key, offset }, Body::copy_from_slice(piece));
                }
            }
            let id = world.send(NodeRequest::StageSeal { key: *key }, Body::new());
            world.answer(id)?;
        }
        Doing::Ask(request, body) => {
            let id = world.send(request.clone(), body.clone());
            let answer = world.answer(id)?.clone();
            let good = match (&act.fact, &answer) {
                (Fact::Heard(_), NodeReply::Heard(head)) => head.level,
                (Fact::Prepared(_) | Fact::DeletePrepared(_), NodeReply::Prepared { .. })
                | (Fact::Aborted(_), NodeReply::Aborted { .. })
                | (Fact::Restored(_), NodeReply::Published)
                | (Fact::Retired(_), NodeReply::Retired { .. }) => true,
                // It says that it goes on; what it finds is true once it is through.
                (Fact::Scrubbed, NodeReply::Scrubbing) => return world.node.is_idle().then(|| act.fact.clone()),
                _ => false,
            };
            assert!(good, "{request:?} was answered {answer:?}");
        }
    }
    Some(act.fact.clone())
}

/// What must be so on a node that has just started, by the facts so far; the act after them was asked, and may have been done.
fn check(world: &World, plan: &Plan, done: usize, facts: &[Fact]) {
    let node = &world.node;
    assert!(!node.is_journal_lost(PG), "the journal is lost");
    assert_eq!(world.disk.stages(), 0, "a stage outlived the process");
    let kept: Vec<_> = world.disk.kept().into_iter().map(|fragment| (fragment, false)).collect();
    assert_eq!(node.kept().collect::<Vec<_>>(), kept, "something is kept without a reservation");
    let heard = node.heard(PG).expect("a row was heard").order();
    let list = node.list(PG).unwrap();
    assert_eq!(Some(list), plan.lists.get(&heard), "the list is not that of the row {heard:?}");
    let asked = &plan.acts[..plan.acts.len().min(done + 1)];
    let told = |act: &Act| act.row.as_ref().is_some_and(|row| row.order() == heard);
    let first = facts.iter().any(|fact| matches!(fact, Fact::Heard(order) if *order == heard));
    assert!(first || asked.iter().any(told), "it came to a row that nobody told it: {heard:?}");
    check_prepared(node, asked, facts, heard);
    check_files(world, list, facts);
    for (at, fact) in facts.iter().enumerate() {
        match fact {
            Fact::Heard(order) => assert!(heard >= *order, "the row {order:?} is forgotten"),
            Fact::Retired(made) => {
                assert!(!world.disk.files.contains_key(&made.fragment()), "what was retired is back");
            }
            Fact::Scrubbed => {
                for made in rotten(&facts[..at]) {
                    let since =
                        facts[at..].iter().any(|fact| matches!(fact, Fact::Restored(it) if it.extent == made.extent));
                    let there = world.disk.files.contains_key(&made.fragment()) && list.contains_key(&made.extent);
                    let known = since || !there || node.is_damaged(made.fragment()) || is_sound(world, made);
                    assert!(known, "damage that was found is forgotten");
                }
            }
            _ => {}
        }
    }
}

/// Prepared is what was asked for and has no end; and all of it that was answered.
fn check_prepared(node: &Node, asked: &[Act], facts: &[Fact], heard: (u32, u64)) {
    let prepared = node.prepared(PG).unwrap();
    let wanted = |attempt: &AttemptId| {
        let of =
            |act: &Act| matches!(&act.doing, Doing::Ask(NodeRequest::Prepare { attempt: it, .. }, _) if it == attempt);
        asked.iter().any(of)
    };
    assert!(prepared.keys().all(wanted), "prepared, and nobody asked for it");
    for (at, fact) in facts.iter().enumerate() {
        let ended = |attempt: AttemptId| {
            let aborted = |fact: &Fact| matches!(fact, Fact::Aborted(it) if *it == attempt);
            // An owner commits what he prepared with the next row, and takes another one's end for his own.
            facts[at..].iter().any(|fact| matches!(fact, Fact::Heard(_)) || aborted(fact))
        };
        match fact {
            Fact::Prepared(Made { attempt, .. }) | Fact::DeletePrepared(attempt) if !ended(*attempt) => {
                let committed = asked.iter().filter_map(|act| act.row.as_ref());
                let committed = committed.filter(|row| row.order() <= heard).flat_map(|row| &row.entries);
                let known = prepared.contains_key(attempt)
                    || committed.map(|entry| entry.attempt).any(|it| it == *attempt)
                    || node.abort_marks(PG).unwrap().contains(attempt);
                assert!(known, "what was prepared is forgotten: {attempt:?}");
            }
            Fact::Aborted(attempt) => {
                assert!(!prepared.contains_key(attempt), "an aborted attempt is prepared");
                let same_claim = node.token(PG).unwrap().claim == attempt.claim;
                assert!(!same_claim || node.abort_marks(PG).unwrap().contains(attempt), "an abort is forgotten");
            }
            _ => {}
        }
    }
}

/// Extents whose file is rotten by the facts: a repair that was not answered may have it away, or sound already.
fn rotten(facts: &[Fact]) -> impl Iterator<Item = &Made> {
    facts.iter().enumerate().filter_map(|(at, fact)| match fact {
        Fact::Rotten(made) => {
            let restored = |fact: &Fact| matches!(fact, Fact::Restored(it) if it.extent == made.extent);
            (!facts[at..].iter().any(restored)).then_some(made)
        }
        _ => None,
    })
}

fn is_sound(world: &World, made: &Made) -> bool {
    let file = world.disk.files.get(&made.fragment());
    file.is_some_and(|file| (file.class.as_str(), &file.payload) == ("healthy", &made.payload) && file.durable)
}

/// Every file that was answered for is there, durably, with its bytes.
fn check_files(world: &World, list: &BTreeMap<ExtentKey, RecordHash>, facts: &[Fact]) {
    let rotten: BTreeSet<ExtentKey> = rotten(facts).map(|made| made.extent).collect();
    for (at, fact) in facts.iter().enumerate() {
        let (Fact::Prepared(made) | Fact::Restored(made)) = fact else { continue };
        let aborted = |fact: &Fact| matches!(fact, Fact::Aborted(it) if *it == made.attempt);
        let heard = facts[at..].iter().any(|fact| matches!(fact, Fact::Heard(_)));
        let marked = world.node.abort_marks(PG).unwrap().contains(&made.attempt);
        let over = facts[at..].iter().any(aborted) || marked || heard && !list.contains_key(&made.extent);
        let gone = over
            || !heard
                && !list.contains_key(&made.extent)
                && !world.node.prepared(PG).unwrap().contains_key(&made.attempt);
        assert!(gone || rotten.contains(&made.extent) || is_sound(world, made), "a file is lost: {}", made.extent);
    }
}

/// How the power goes while an operation is under way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// The operation was not begun.
    Before,
    /// It was done, nobody was told.
    After,
    /// It was half done, in one of the ways there are.
    Torn(usize),
}

impl Cut {
    const ALL: [Self; 5] = [Self::Before, Self::After, Self::Torn(0), Self::Torn(1), Self::Torn(2)];
}

/// Leaves of an operation what the cut leaves; false where it cannot be torn so.
fn cut(disk: &mut Disk, call: StoreCall, cut: Cut) -> bool {
    let Cut::Torn(way) = cut else {
        if cut == Cut::After {
            let _ = disk.perform(call);
        }
        return true;
    };
    match (call, way) {
        // Some bytes, most bytes, all but the last: the record has no end.
        (StoreCall::AppendJournal { pg, bytes }, way) => {
            let kept = [1, bytes.len() * 2 / 3, bytes.len() - 1][way];
            disk.journals.get_mut(&pg).unwrap().extend_from_slice(&bytes[..kept]);
        }
        // It is one file or the other, whatever the store leaves beside them.
        (StoreCall::ReplaceJournal { .. }, 0) => {}
        (call @ StoreCall::ReplaceJournal { .. }, 1) => drop(disk.perform(call)),
        // A file without a name is gone, however much of it was written.
        (StoreCall::FinishStage { .. }, 0) => {}
        // Some of the bytes are there, and the map of what is kept does not say so.
        (StoreCall::WriteStage { key, offset, body }, 0) => return disk.tear_write(key, offset, &body),
        // The first of the names that wait for it.
        (StoreCall::SyncFolder { .. }, 0) => {
            if let Some(file) = disk.files.values_mut().find(|file| !file.durable) {
                file.durable = true;
            }
        }
        // The new name is there, the old one still, too.
        (StoreCall::Quarantine { fragment, .. }, 0) => drop(disk.quarantine.insert(fragment)),
        _ => return false,
    }
    true
}

#[derive(Default)]
struct Counts {
    sequences: u64,
    crashes: BTreeMap<&'static str, [u64; 3]>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.crashes.values().flatten().sum();
        writeln!(f, "{} sequences, {all} crashes: before, after, torn", self.sequences)?;
        self.crashes.iter().try_for_each(|(call, counts)| writeln!(f, "{call:<14} {counts:?}"))
    }
}

/// How a run went.
#[derive(Debug, PartialEq)]
enum Ran {
    /// The sequence was over before as many operations were performed.
    Over,
    /// The operation cannot be cut so.
    Whole,
    Crashed(&'static str),
}

/// Runs until so many operations were performed, then loses power in the next; goes on after the restart by sending everything
/// that was not answered, and ends as an undisturbed sequence does.
fn run(start: &Start, plan: &Plan, ops: usize, how: Cut, keeps: bool) -> Ran {
    let mut world = World::boot(config(), start.disk.clone(), Some(CELL));
    world.ops_left = Some(ops);
    let (mut facts, mut at) = (start.facts(), 0);
    while let Some(fact) = plan.acts.get(at).and_then(|act| perform(&mut world, act)) {
        facts.push(fact);
        at += 1;
    }
    let Some((_, call)) = world.waiting.pop_front() else {
        assert_eq!(at, plan.acts.len(), "no answer, and nothing waits");
        return Ran::Over;
    };
    let name = call_name(&call);
    if !cut(&mut world.disk, call, how) {
        return Ran::Whole;
    }
    let mut world = world.restart(keeps);
    check(&world, plan, at, &facts);
    // Stages are gone: the one of the act that follows is sent again.
    at -= usize::from(at > 0 && matches!(plan.acts[at - 1].doing, Doing::Stage(..)));
    for (at, act) in plan.acts.iter().enumerate().skip(at) {
        facts.push(perform(&mut world, act).expect("no answer"));
        assert!(world.node.is_idle());
        // What was written behind a torn record is read back, too.
        if !matches!(act.doing, Doing::Stage(..)) {
            // A client that is gone leaves no stage: not one that an answer made needless, either.
            world.event(NodeEvent::PeerGone { peer: PEER });
            assert_eq!(world.disk.stages(), 0, "a stage stays");
            world = world.restart(false);
            check(&world, plan, at, &facts);
        }
    }
    finish(world, plan);
    Ran::Crashed(name)
}

/// Everybody has stored everything, and what belongs to nothing is retired: then list and folder are one.
fn finish(mut world: World, plan: &Plan) {
    let mut owner = plan.owner.clone();
    for _ in 0..2 {
        owner.trim();
        assert!(world.head(owner.hear()).level);
        assert!(matches!(world.ask(owner.retire()), NodeReply::Retired { more: false, .. }));
    }
    assert_eq!(world.ask(NodeRequest::Scrub), NodeReply::Scrubbing);
    assert!(world.node.is_idle());
    assert_eq!(world.node.prepared(PG).unwrap().len(), 0, "something stays prepared");
    assert_eq!(world.disk.kept(), [], "a kept stage outlived its fragment's publication");
    let kept: BTreeSet<FragmentKey> = world.disk.files.keys().copied().collect();
    assert_eq!(kept, plan.listed.iter().map(Made::fragment).collect(), "list and folder differ");
    let mut rotten = BTreeSet::new();
    for act in &plan.acts {
        match &act.fact {
            Fact::Rotten(made) => _ = rotten.insert(made.extent),
            Fact::Restored(made) => _ = rotten.remove(&made.extent),
            _ => {}
        }
    }
    for made in &plan.listed {
        let sound = !rotten.contains(&made.extent);
        assert_eq!(
            (is_sound(&world, made), world.node.is_damaged(made.fragment())),
            (sound, !sound),
            "{}",
            made.extent
        );
    }
}

/// Tries all crashes of the sequence.
fn crash_everywhere(start: &Start, ops: &[Op], counts: &mut Counts) {
    let plan = start.plan(ops);
    counts.sequences += 1;
    'operations: for performed in 0.. {
        for how in Cut::ALL {
            for keeps in [false, true] {
                let ran = std::panic::catch_unwind(|| run(start, &plan, performed, how, keeps));
                let ran = ran.unwrap_or_else(|panic| {
                    eprintln!(
                        "{ops:?}, {how:?} the operation after {performed}, names that were not synced kept: {keeps}"
                    );
                    std::panic::resume_unwind(panic);
                });
                match ran {
                    Ran::Over => break 'operations,
                    Ran::Whole => {}
                    Ran::Crashed(call) => {
                        let kind = match how {
                            Cut::Before => 0,
                            Cut::After => 1,
                            Cut::Torn(_) => 2,
                        };
                        counts.crashes.entry(call).or_default()[kind] += 1;
                    }
                }
            }
        }
    }
}

/// All of one, two and three operations, in order.
fn sequences() -> Vec<Vec<Op>> {
    let longer = |shorter: &[Vec<Op>]| -> Vec<Vec<Op>> {
        let with = |ops: &Vec<Op>| Op::ALL.map(|op| [&ops[..], &[op]].concat());
        shorter.iter().flat_map(with).collect()
    };
    let one = longer(&[Vec::new()]);
    let two = longer(&one);
    let three = longer(&two);
    [one, two, three].concat()
}

#[test]
fn crashes_in_short_sequences_and_in_some_of_three_operations() {
    let (start, all) = (Start::new(), sequences());
    assert_eq!(all.len(), 8 + 64 + 512);
    let mut counts = Counts::default();
    // 3 and 8 have no common factor, so the sampled ones differ in every place.
    for (at, ops) in all.iter().enumerate() {
        if ops.len() < 3 || at % 3 == 0 {
            crash_everywhere(&start, ops, &mut counts);
        }
    }
    print!("{counts}");
    for call in ["append", "replace", "finish", "publish", "sync", "quarantine", "unlink"] {
        let [before, after, torn] = counts.crashes[call];
        let tears = !matches!(call, "publish" | "unlink");
        assert!(before > 0 && after > 0 && (torn > 0) == tears, "{call}: {before}, {after}, {torn}");
    }
}

#[test]
#[ignore = "all of them; the command is in CONTRIBUTING.md"]
fn crashes_in_all_sequences_of_three_operations() {
    let (start, mut counts) = (Start::new(), Counts::default());
    for ops in sequences() {
        crash_everywhere(&start, &ops, &mut counts);
    }
    print!("{counts}");
    assert_eq!(counts.sequences, 584);
}
