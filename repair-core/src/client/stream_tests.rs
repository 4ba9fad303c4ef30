use super::*;
use crate::client::test_world::{CELL, extent};
use crate::id::{ClaimId, PgId, Token};
use crate::limits::RESUMED_EXTENTS_MAX;
use crate::rng::Dice;
use std::collections::BTreeSet;

const STREAM: StreamKey = StreamKey(0xabc);

/// What goes wrong with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    /// The request never arrives.
    Lost,
    /// It is done, the answer gets lost.
    AnswerLost,
    /// The daemon is started anew: it has forgotten all but what is committed.
    Restart,
    /// The same, and meanwhile it has given the put up: nothing of it is on file any more.
    GivenUp,
    Busy,
    Invalid,
}

/// A daemon, as far as a put needs one, and the transfers.
struct Fake {
    now: Time,
    extent_bytes: u64,
    session: bool,
    names: BTreeMap<u64, NameEntry>,
    committed: BTreeMap<u64, ExtentEntry>,
    whole: bool,
    grants: BTreeMap<AttemptId, ExtentKey>,
    granted: u64,
    /// By number of the question.
    mishaps: BTreeMap<u64, Mishap>,
    asked: u64,
    /// Attempts to commit that answer Again.
    again: u64,
    /// What the transfers say, in order; Ok once they are used up.
    transfers: VecDeque<PutFailure>,
    transferring: Vec<u64>,
    at_once_max: usize,
    released: Vec<u64>,
    /// Extents whose connections are still in use.
    connected: BTreeSet<u64>,
    aborted: bool,
    last_listed: Vec<ExtentEntry>,
    queue: BTreeMap<(Time, u64), StreamEvent>,
    numbered: u64,
    dice: Dice,
    degraded: bool,
    transfer_millis: u64,
    commits_get_lost: bool,
}

impl Fake {
    fn new(extent_bytes: u64) -> Self {
        Self {
            now: Time::from_millis(50_000),
            extent_bytes,
            session: false,
            names: BTreeMap::new(),
            committed: BTreeMap::new(),
            whole: false,
            grants: BTreeMap::new(),
            granted: 0,
            mishaps: BTreeMap::new(),
            asked: 0,
            again: 0,
            transfers: VecDeque::new(),
            transferring: Vec::new(),
            at_once_max: 0,
            released: Vec::new(),
            connected: BTreeSet::new(),
            aborted: false,
            last_listed: Vec::new(),
            queue: BTreeMap::new(),
            numbered: 0,
            dice: Dice::new(3),
            degraded: false,
            transfer_millis: 40,
            commits_get_lost: false,
        }
    }

    fn schedule(&mut self, after: u64, event: StreamEvent) {
        self.numbered += 1;
        let at = self.now + Millis(after + self.dice.below(4));
        self.queue.insert((at, self.numbered), event);
    }

    fn perform(&mut self, effect: StreamEffect) -> Option<Time> {
        match effect {
            StreamEffect::WakeAt(at) => return Some(at),
            StreamEffect::Release { ordinal } => {
                self.released.push(ordinal);
                self.connected.remove(&ordinal);
            }
            StreamEffect::Transfer { entry, grant, stream_bytes, extents } => {
                assert_eq!(entry.extent, grant.extent);
                assert!(entry.offset + entry.bytes <= stream_bytes);
                if !extents.is_empty() {
                    assert_eq!(extents[entry.ordinal as usize], entry);
                    self.last_listed = extents;
                }
                assert!(self.connected.insert(entry.ordinal), "sent anew over connections that were not let go");
                self.transferring.push(entry.ordinal);
                self.at_once_max = self.at_once_max.max(self.transferring.len());
                let result = self.transfers.pop_front().map_or(Ok(Body::from_static(b"record")), Err);
                let after = self.transfer_millis;
                self.schedule(after, StreamEvent::Transferred { ordinal: entry.ordinal, result });
            }
            StreamEffect::Ask { ask, request, body } => self.ask(ask, request, &body),
        }
        None
    }

    fn ask(&mut self, ask: AskId, request: DaemonRequest, body: &Body) {
        self.asked += 1;
        self.aborted |= matches!(request, DaemonRequest::AbortPut { .. });
        if self.commits_get_lost && matches!(request, DaemonRequest::CommitExtent { .. }) {
            return self.schedule(1, StreamEvent::Ask { ask, result: Err(CallError::Lost) });
        }
        let mishap = self.mishaps.get(&self.asked).copied();
        let lost = Err(CallError::Lost);
        let result = match mishap {
            Some(Mishap::Lost) => lost,
            Some(mishap @ (Mishap::Restart | Mishap::GivenUp)) => {
                (self.session, self.names) = (false, BTreeMap::new());
                self.grants.clear();
                if mishap == Mishap::GivenUp && !self.whole {
                    self.committed.clear();
                }
                lost
            }
            Some(Mishap::AnswerLost) => {
                self.answer(request, body);
                lost
            }
            Some(Mishap::Busy) => Ok((DaemonReply::Refused(Refusal::Busy("much".into())), Body::new())),
            Some(Mishap::Invalid) => Ok((DaemonReply::Refused(Refusal::Invalid("bad".into())), Body::new())),
            None => Ok((self.answer(request, body), Body::new())),
        };
        self.schedule(1, StreamEvent::Ask { ask, result });
    }

    fn answer(&mut self, request: DaemonRequest, body: &Body) -> DaemonReply {
        if let DaemonRequest::BeginPut { .. } = request {
            // Of a stream that is whole nothing is left to go on with.
            self.session = !self.whole;
            let listed = self.committed.values().copied().take(RESUMED_EXTENTS_MAX);
            let committed = if self.whole { Vec::new() } else { listed.collect() };
            return DaemonReply::PutBegun { extent_bytes: self.extent_bytes, committed, whole: self.whole };
        }
        if !self.session {
            return DaemonReply::Refused(Refusal::NotFound);
        }
        match request {
            DaemonRequest::Allocate { stream, ordinal, bytes } => {
                assert_eq!(stream, STREAM);
                assert!(!self.committed.contains_key(&ordinal), "{ordinal} is committed already");
                self.granted += 1;
                let attempt = AttemptId { claim: ClaimId(1), number: self.granted };
                let extent = ExtentKey::compose(CELL, PgId(1), 1, self.granted);
                self.grants.insert(attempt, extent);
                assert!(bytes <= self.extent_bytes);
                let token = Token::default();
                DaemonReply::Allocated(Grant { cell: CELL, extent, attempt, token, code: [0; 16], places: vec![None] })
            }
            DaemonRequest::PutNames { first, names, .. } => {
                assert!(crate::wire::codec::encode_message(&names).unwrap().len() < 60 << 10);
                assert!(first <= self.names.len() as u64, "names after a gap");
                self.names.extend((first..).zip(names));
                DaemonReply::NamesTaken
            }
            DaemonRequest::CommitExtent { entry, attempt, end, .. } => self.commit(entry, attempt, end, body),
            DaemonRequest::AbortPut { .. } => DaemonReply::PutAborted,
            other => panic!("no put asks {other:?}"),
        }
    }

    fn commit(&mut self, entry: ExtentEntry, attempt: AttemptId, end: Option<EndOfStream>, body: &Body) -> DaemonReply {
        assert_eq!(&body[..], b"record");
        let degraded = self.degraded;
        if self.committed.get(&entry.ordinal) == Some(&entry) {
            return DaemonReply::Committed { degraded };
        }
        if self.grants.get(&attempt) != Some(&entry.extent) || self.again > 0 {
            self.again = self.again.saturating_sub(1);
            return DaemonReply::Again { reason: "a member failed".into() };
        }
        if let Some(end) = end {
            assert_eq!((end.extents, end.names), (self.committed.len() as u64 + 1, self.names.len() as u64));
            (self.whole, self.session) = (true, false);
        }
        self.committed.insert(entry.ordinal, entry);
        DaemonReply::Committed { degraded }
    }

    fn run(&mut self, put: &mut PutStream) -> Result<PutSummary, StreamFailure> {
        let mut wake = None;
        put.handle(self.now, StreamEvent::Tick);
        for _ in 0..200_000 {
            while let Some(effect) = put.poll_effect() {
                wake = self.perform(effect).or(wake);
            }
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wanted = wake.filter(|_| put.outcome().is_none());
            let Some(at) = [next, wanted].into_iter().flatten().min() else {
                return put.outcome().expect("nothing is under way, and it is not over");
            };
            self.now = self.now.max(at);
            if wanted == Some(at) && next.is_none_or(|next| at < next) {
                wake = None;
                put.handle(self.now, StreamEvent::Tick);
            } else if let Some((_, event)) = self.queue.pop_first() {
                if let StreamEvent::Transferred { ordinal, .. } = &event {
                    self.transferring.retain(|running| running != ordinal);
                }
                put.handle(self.now, event.clone());
                // Late and repeated answers are normal.
                put.handle(self.now, event);
            }
        }
        panic!("it goes on for ever");
    }
}

fn put(bytes: u64, names: usize) -> PutStream {
    let entry =
        |at: usize| NameEntry { name: format!("a/rather/long/name/{at:060}").into_bytes(), offset: 0, bytes: 0 };
    let plan = PutPlan {
        stream: STREAM,
        name: b"a".to_vec(),
        content: Content::Pack,
        bytes,
        names: (0..names).map(entry).collect(),
    };
    PutStream::new(plan, StreamConfig { give_up_after: Millis(10_000), parallel: 3 })
}

fn check_whole(fake: &Fake, put: &PutStream) {
    assert!(fake.whole);
    let mut at = 0;
    for (ordinal, entry) in &fake.committed {
        assert_eq!((entry.ordinal, entry.offset), (*ordinal, at));
        at += entry.bytes;
    }
    assert_eq!(at, put.plan().bytes);
    assert_eq!(fake.names.len(), put.plan().names.len());
    assert_eq!(fake.last_listed, fake.committed.values().copied().collect::<Vec<_>>(), "the last record names all");
    assert_eq!(put.progress(), (fake.committed.len(), fake.committed.len()));
    assert!(fake.connected.is_empty() && !fake.released.is_empty(), "every transfer's connections are let go");
}

#[test]
fn a_stream_is_cut_transferred_a_few_at_a_time_and_ended_with_its_last_extent() {
    for (bytes, extents) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (9_500, 10)] {
        let mut fake = Fake::new(1000);
        let mut put = put(bytes, 3000);
        assert_eq!(fake.run(&mut put), Ok(PutSummary { bytes, extents, degraded: false }));
        check_whole(&fake, &put);
        assert_eq!(fake.at_once_max, (extents as usize).clamp(1, 3));
        assert_eq!(fake.granted, extents);
        assert!(!fake.aborted);
    }
}

#[test]
fn any_one_or_two_mishaps_are_survived_and_nothing_is_stored_twice() {
    let questions = {
        let mut fake = Fake::new(1000);
        fake.run(&mut put(3_500, 1500)).unwrap();
        fake.asked
    };
    let mishaps = [Mishap::Lost, Mishap::AnswerLost, Mishap::Restart, Mishap::Busy];
    for first in 1..=questions {
        for second in (first..=questions + 4).step_by(3) {
            for (at, one) in mishaps.into_iter().enumerate() {
                let other = mishaps[(at + second as usize) % 4];
                let mut fake = Fake::new(1000);
                fake.degraded = true;
                fake.mishaps = BTreeMap::from([(second, other), (first, one)]);
                let mut put = put(3_500, 1500);
                let outcome = fake.run(&mut put);
                let context = format!("{one:?} at {first}, {other:?} at {second}");
                let summary = outcome.unwrap_or_else(|failure| panic!("{context}: {failure}"));
                // Where the end's answer was lost, whether it was degraded is not told again.
                assert_eq!((summary.bytes, summary.extents), (3_500, 4), "{context}");
                assert!(fake.whole, "{context}");
                assert_eq!(fake.committed.len(), 4, "{context}");
                assert_eq!(fake.names.len(), 1500, "{context}");
            }
        }
    }
}

#[test]
fn extents_that_a_daemon_has_given_up_meanwhile_are_sent_again() {
    let questions = {
        let mut fake = Fake::new(1000);
        fake.run(&mut put(4_500, 5)).unwrap();
        fake.asked
    };
    for first in 1..=questions {
        for second in [first, first + 3, first + 8] {
            let mut fake = Fake::new(1000);
            fake.mishaps = BTreeMap::from([(second, Mishap::GivenUp), (first, Mishap::GivenUp)]);
            let mut put = put(4_500, 5);
            let outcome = fake.run(&mut put);
            assert_eq!(outcome.map(|summary| summary.extents), Ok(5), "given up at {first} and {second}");
            check_whole(&fake, &put);
        }
    }
}

#[test]
fn what_a_full_list_of_committed_extents_leaves_out_is_not_sent_again() {
    let extents = RESUMED_EXTENTS_MAX as u64 + 100;
    let mut fake = Fake::new(10);
    // Long after the list is full, and before the end.
    fake.mishaps = BTreeMap::from([(extents * 2 - 20, Mishap::Restart)]);
    let mut put = put(extents * 10, 1);
    assert_eq!(fake.run(&mut put).map(|summary| summary.extents), Ok(extents));
    check_whole(&fake, &put);
    assert!(fake.granted < extents + 10, "{} extents were sent for {extents}", fake.granted);
}

#[test]
fn extents_that_cannot_be_staged_or_committed_are_allocated_anew() {
    let mut fake = Fake::new(1000);
    fake.transfers = vec![PutFailure::Again("node died".into()); 2].into();
    fake.transfers.push_back(PutFailure::Encoder("bad cosmic ray".into()));
    fake.again = 2;
    let mut put = put(2_500, 3);
    assert_eq!(fake.run(&mut put).map(|summary| summary.extents), Ok(3));
    check_whole(&fake, &put);
    // And the last one once more: an id its record named had died.
    assert_eq!(fake.granted, 3 + 3 + 2 + 1);
}

#[test]
fn what_cannot_be_put_ends_with_its_reason_and_is_given_up() {
    let mut fake = Fake::new(1000);
    fake.transfers.push_back(PutFailure::Source("changed".into()));
    assert_eq!(fake.run(&mut put(2_500, 3)), Err(StreamFailure::Source("changed".into())));
    assert!(fake.aborted && !fake.whole);

    let mut fake = Fake::new(1000);
    fake.transfers = vec![PutFailure::Encoder("broken".into()); 9].into();
    assert!(matches!(fake.run(&mut put(2_500, 3)), Err(StreamFailure::GaveUp(reason)) if reason.contains("encoder")));

    for question in 1..5 {
        let mut fake = Fake::new(1000);
        fake.mishaps.insert(question, Mishap::Invalid);
        assert_eq!(fake.run(&mut put(2_500, 3)), Err(StreamFailure::Refused(Refusal::Invalid("bad".into()))));
        assert!(!fake.whole);
    }

    let mut fake = Fake::new(1000);
    let too_long = STREAM_EXTENTS_MAX as u64 * EXTENT_BYTES_MAX + 1;
    assert!(matches!(fake.run(&mut put(too_long, 1)), Err(StreamFailure::Refused(Refusal::Invalid(_)))));
}

#[test]
fn without_progress_it_gives_up_in_time_and_says_whether_it_may_be_stored() {
    let last = {
        let mut fake = Fake::new(1000);
        fake.run(&mut put(2_500, 3)).unwrap();
        fake.asked
    };
    // From then on never an answer.
    for from in 1..=last {
        let mut fake = Fake::new(1000);
        fake.mishaps = (from..1000).map(|question| (question, Mishap::Lost)).collect();
        let begun = fake.now;
        let outcome = fake.run(&mut put(2_500, 3));
        let took = fake.now.since(begun);
        assert!(took >= Millis(10_000) && took < Millis(15_000), "{from}: {took:?}");
        let Err(failure) = outcome else { panic!("{from}") };
        assert!(matches!(failure, StreamFailure::GaveUp(_) | StreamFailure::Unknown(_)), "{from} {failure}");
    }
    // The end was asked for, and nothing heard: it is there.
    let mut fake = Fake::new(1000);
    fake.mishaps = (last + 1..1000).map(|question| (question, Mishap::Lost)).collect();
    fake.mishaps.insert(last, Mishap::AnswerLost);
    assert!(matches!(fake.run(&mut put(2_500, 3)), Err(StreamFailure::Unknown(_))));
    assert!(fake.whole && !fake.aborted, "what may be whole is not given up");
    // Names can be sent again and again, but that leads nowhere.
    let mut fake = Fake::new(1000);
    fake.commits_get_lost = true;
    let begun = fake.now;
    assert!(matches!(fake.run(&mut put(2_500, 1500)), Err(StreamFailure::GaveUp(_))));
    assert!(fake.now.since(begun) < Millis(15_000));
    // Always begun anew, never committed.
    let mut fake = Fake::new(1000);
    fake.again = u64::MAX;
    let begun = fake.now;
    assert!(matches!(fake.run(&mut put(2_500, 3)), Err(StreamFailure::GaveUp(reason)) if reason.contains("member")));
    assert!(fake.now.since(begun) < Millis(20_000));
}

#[test]
fn a_transfer_may_take_longer_than_the_patience_for_the_daemon() {
    let mut fake = Fake::new(1000);
    fake.transfer_millis = 25_000;
    fake.transfers = vec![PutFailure::Again("node died".into()); 1].into();
    let mut put = put(2_500, 3);
    assert_eq!(fake.run(&mut put).map(|summary| summary.extents), Ok(3));
    check_whole(&fake, &put);
}

/// Everything it asks now, with the names of the questions.
fn asked(put: &mut PutStream) -> Vec<(AskId, DaemonRequest)> {
    let question = |effect| match effect {
        StreamEffect::Ask { ask, request, .. } => Some((ask, request)),
        _ => None,
    };
    std::iter::from_fn(|| put.poll_effect()).filter_map(question).collect()
}

#[test]
fn a_late_answer_of_another_life_of_the_daemon_counts_no_names() {
    let mut put = put(100, 1500);
    let now = Time::from_millis(9);
    let answer = |reply| Ok((reply, Body::new()));
    let begun = || DaemonReply::PutBegun { extent_bytes: 1000, committed: Vec::new(), whole: false };
    put.handle(now, StreamEvent::Tick);
    let begin = asked(&mut put)[0].0;
    put.handle(now, StreamEvent::Ask { ask: begin, result: answer(begun()) });
    let first = asked(&mut put);
    assert!(matches!(first[0].1, DaemonRequest::PutNames { first: 0, .. }), "{first:?}");
    put.handle(now, StreamEvent::Ask { ask: first[1].0, result: Err(CallError::Lost) });
    let later = now + Millis(200);
    put.handle(later, StreamEvent::Tick);
    let begin = asked(&mut put)[0].0;
    put.handle(later, StreamEvent::Ask { ask: begin, result: answer(begun()) });
    let second = asked(&mut put);
    assert!(matches!(second[0].1, DaemonRequest::PutNames { first: 0, .. }), "{second:?}");
    put.handle(later, StreamEvent::Ask { ask: first[0].0, result: answer(DaemonReply::NamesTaken) });
    assert!(asked(&mut put).is_empty());
    put.handle(later, StreamEvent::Ask { ask: second[0].0, result: answer(DaemonReply::NamesTaken) });
    assert!(matches!(asked(&mut put)[0].1, DaemonRequest::PutNames { first: 1.., .. }));
}

/// A put of three extents with daemon and transfers in the tester's hand.
struct ByHand {
    put: PutStream,
    now: Time,
    asks: VecDeque<(AskId, DaemonRequest)>,
    /// The last transfer of each extent, with the ids it was told to name.
    transfers: BTreeMap<u64, Vec<ExtentKey>>,
    released: Vec<u64>,
    granted: u64,
}

impl ByHand {
    /// Extents 0 and 1 are being transferred, leave to write the last one is asked for.
    fn begun() -> Self {
        let (now, transfers) = (Time::from_millis(9), BTreeMap::new());
        let (put, asks, released) = (put(2_500, 1), VecDeque::new(), Vec::new());
        let mut hand = Self { put, now, asks, transfers, released, granted: 0 };
        hand.tell(StreamEvent::Tick);
        let begun = DaemonReply::PutBegun { extent_bytes: 1000, committed: Vec::new(), whole: false };
        hand.answer(|request| matches!(request, DaemonRequest::BeginPut { .. }), begun);
        hand.answer(|request| matches!(request, DaemonRequest::PutNames { .. }), DaemonReply::NamesTaken);
        assert!(!hand.wants_id(2), "it is to name the others");
        hand.grant(0);
        hand.grant(1);
        assert!(hand.wants_id(2));
        hand
    }

    fn tell(&mut self, event: StreamEvent) {
        self.put.handle(self.now, event);
        while let Some(effect) = self.put.poll_effect() {
            match effect {
                StreamEffect::Ask { ask, request, .. } => self.asks.push_back((ask, request)),
                StreamEffect::Transfer { entry, extents, .. } => {
                    self.transfers.insert(entry.ordinal, extents.iter().map(|entry| entry.extent).collect());
                }
                StreamEffect::Release { ordinal } => self.released.push(ordinal),
                StreamEffect::WakeAt(_) => {}
            }
        }
    }

    fn answer(&mut self, asked: impl Fn(&DaemonRequest) -> bool, reply: DaemonReply) {
        let at = self.asks.iter().position(|(_, request)| asked(request)).expect("it is not asked");
        let (ask, _) = self.asks.remove(at).unwrap();
        self.tell(StreamEvent::Ask { ask, result: Ok((reply, Body::new())) });
    }

    fn wants_id(&self, ordinal: u64) -> bool {
        self.asks.iter().any(|(_, request)| is_allocate(request, ordinal))
    }

    fn grant(&mut self, ordinal: u64) -> ExtentKey {
        self.granted += 1;
        let attempt = AttemptId { claim: ClaimId(1), number: self.granted };
        let extent = ExtentKey::compose(CELL, PgId(1), 1, self.granted);
        let grant = Grant { cell: CELL, extent, attempt, token: Token::default(), code: [0; 16], places: vec![None] };
        self.answer(|request| is_allocate(request, ordinal), DaemonReply::Allocated(grant));
        extent
    }

    fn transferred(&mut self, ordinal: u64, result: Result<(), PutFailure>) {
        let result = result.map(|()| Body::from_static(b"record"));
        self.tell(StreamEvent::Transferred { ordinal, result });
    }

    fn fails(&mut self, ordinal: u64) {
        self.transferred(ordinal, Err(PutFailure::Again("a node died".into())));
    }

    fn pass(&mut self, span: Millis) {
        self.now = self.now + span;
        self.tell(StreamEvent::Tick);
    }

    fn commit(&mut self, ordinal: u64) {
        let commit = |request: &DaemonRequest| is_commit(request, ordinal);
        self.answer(commit, DaemonReply::Committed { degraded: false });
    }
}

fn is_allocate(request: &DaemonRequest, wanted: u64) -> bool {
    matches!(request, DaemonRequest::Allocate { ordinal, .. } if *ordinal == wanted)
}

fn is_commit(request: &DaemonRequest, wanted: u64) -> bool {
    matches!(request, DaemonRequest::CommitExtent { entry, .. } if entry.ordinal == wanted)
}

#[test]
fn the_last_extent_is_made_anew_wherever_it_was_when_an_id_it_names_died() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Was {
        Allocating,
        Transferring,
        Staged,
    }
    for was in [Was::Allocating, Was::Transferring, Was::Staged] {
        let mut hand = ByHand::begun();
        if was != Was::Allocating {
            hand.grant(2);
        }
        if was == Was::Staged {
            hand.transferred(2, Ok(()));
        }
        hand.fails(0);
        if was == Was::Allocating {
            hand.grant(2);
        }
        let dead = hand.transfers[&2][0];
        if was != Was::Staged {
            hand.transferred(2, Ok(()));
        }
        assert_eq!(hand.released, [0, 2], "{was:?}");
        hand.transferred(1, Ok(()));
        hand.commit(1);
        hand.pass(Millis(200));
        assert!(!hand.wants_id(2), "{was:?}");
        let alive = hand.grant(0);
        assert_ne!(alive, dead);
        hand.pass(Millis(200));
        let last = hand.grant(2);
        assert_eq!((hand.transfers[&2][0], hand.transfers[&2][2]), (alive, last), "{was:?}");
        hand.transferred(0, Ok(()));
        hand.transferred(2, Ok(()));
        hand.commit(0);
        hand.commit(2);
        assert!(matches!(hand.put.outcome(), Some(Ok(_))), "{was:?}");
        assert_eq!(hand.granted, 5);
    }
}

#[test]
fn the_last_extent_is_made_anew_only_once_for_an_id_that_died_before_it_had_one_of_its_own() {
    let mut hand = ByHand::begun();
    hand.fails(0);
    let busy = DaemonReply::Refused(Refusal::Busy("much".into()));
    hand.answer(|request| is_allocate(request, 2), busy);
    hand.pass(Millis(200));
    let alive = hand.grant(0);
    hand.pass(Millis(200));
    hand.grant(2);
    assert_eq!(hand.transfers[&2][0], alive);
    (0..3).for_each(|ordinal| hand.transferred(ordinal, Ok(())));
    (0..3).for_each(|ordinal| hand.commit(ordinal));
    assert!(matches!(hand.put.outcome(), Some(Ok(_))));
}

#[test]
fn extents_the_daemon_has_already_are_kept_and_others_than_ours_refused() {
    let mut fake = Fake::new(1000);
    let entry = ExtentEntry { ordinal: 1, extent: extent(), offset: 1000, bytes: 1000 };
    fake.committed.insert(1, entry);
    let mut first = put(2_500, 3);
    assert_eq!(fake.run(&mut first).map(|summary| summary.extents), Ok(3));
    assert_eq!((fake.granted, fake.committed[&1]), (2, entry));
    assert_eq!(fake.last_listed[1], entry);

    let mut fake = Fake::new(1000);
    fake.committed.insert(1, ExtentEntry { bytes: 999, ..entry });
    assert!(matches!(fake.run(&mut put(2_500, 3)), Err(StreamFailure::Refused(Refusal::Invalid(_)))));
}

#[test]
fn long_streams_get_larger_extents_rather_than_too_many() {
    let count = |bytes, extent_bytes| cut(bytes, extent_bytes).map(|extents| extents.len());
    assert_eq!(count(4096 * 1000, 1000), Some(4096));
    assert_eq!(count(4096 * 1000 + 1, 1000), Some(2049));
    assert_eq!(count(4096 << 30, 1), Some(4096));
    assert_eq!(count((4096 << 30) + 1, 1), None);
    assert_eq!(count(10, 0), Some(10), "a daemon's nonsense divides by nothing");
}
