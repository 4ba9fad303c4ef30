//! Anything in any order, with failures and restarts: no panic, one operation at a time where that was promised, and no answer
//! that the journal on disk does not bear out.

use super::journal;
use super::testing::*;
use super::*;
use crate::id::Sum;
use crate::rng::Dice;
use crate::wire::node::Listed;

struct Chaos {
    world: World,
    dice: Dice,
    owner: Owner,
    /// What the owner was before: for messages that come late.
    past: Vec<Owner>,
    made: Vec<Made>,
    /// Of these on the list, by the owner.
    listed: Vec<Made>,
    checked: usize,
    published: usize,
    requests: BTreeMap<RequestId, (PeerId, NodeRequest)>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        world.held = true;
        let (dice, owner) = (Dice::new(seed), Owner::new());
        let (past, made, listed) = (vec![owner.clone()], Vec::new(), Vec::new());
        Self { world, dice, owner, past, made, listed, checked: 0, published: 0, requests: BTreeMap::new() }
    }

    fn send(&mut self, request: NodeRequest, body: Body) {
        let peer = PeerId(self.dice.below(3));
        let id = self.world.send_from(peer, request.clone(), body.clone());
        self.requests.insert(id, (peer, request.clone()));
        if self.dice.chance(1, 10) {
            self.world.event(NodeEvent::Request { peer, id, request, body });
        }
    }

    fn act(&mut self) {
        let late = self.dice.chance(1, 8);
        let speaker = if late { self.dice.pick(&self.past).unwrap().clone() } else { self.owner.clone() };
        let made = self.dice.pick(&self.made).cloned();
        match (self.dice.below(16), made) {
            (0, _) => self.send(speaker.fence(), Body::new()),
            (1 | 2, _) => self.send(speaker.hear(), Body::new()),
            (3 | 4, _) => self.create(),
            (5, Some(made)) => self.send(speaker.prepare(&made), made.record),
            (6, Some(made)) => self.commit(&made),
            (7, Some(made)) => self.delete(&made),
            (8, Some(made)) if !self.listed.iter().any(|listed| listed.extent == made.extent) => {
                self.made.retain(|other| other.extent != made.extent);
                self.send(self.owner.abort(made.attempt), Body::new());
            }
            (9, Some(made)) => {
                let key = self.stage_kept(&speaker, &made);
                self.send(speaker.publish(key), made.record);
            }
            (10, _) => self.send(speaker.retire(), Body::new()),
            (11, _) => {
                let listed = self.listed.iter().map(|made| Listed { extent: made.extent, hash: made.hash }).collect();
                let authority = speaker.authority();
                self.send(
                    NodeRequest::Adopt { authority, page: 0, last: true, listed, tombstones: vec![] },
                    Body::new(),
                );
            }
            (12, Some(made)) => {
                self.send(NodeRequest::Check { fragment: made.fragment() }, Body::new());
                self.send(NodeRequest::Read { fragment: made.fragment(), offset: 0, bytes: 4096 }, Body::new());
            }
            (13, _) => {
                let gone = PeerId(self.dice.below(3));
                // Nobody waits for these answers any more.
                self.requests.retain(|_, (peer, _)| *peer != gone);
                self.world.event(NodeEvent::PeerGone { peer: gone });
            }
            (14, _) => self.next_row(),
            _ => self.send(NodeRequest::Scrub, Body::new()),
        }
    }

    fn create(&mut self) {
        let made = self.owner.make(5000);
        self.stage(&self.owner.clone(), &made);
        self.made.push(made);
    }

    fn stage(&mut self, owner: &Owner, made: &Made) {
        let key = made.key();
        self.send(owner.stage(made), Body::new());
        self.send(NodeRequest::StageData { key, offset: 0 }, Body::from(made.payload.clone()));
        self.send(NodeRequest::StageSeal { key }, Body::new());
        // Now and then the transfer is done before anything else happens.
        if self.dice.chance(2, 3) {
            self.world.release();
            self.world.held = true;
        }
    }

    /// As a repair does, under an attempt of its own or that of one before.
    fn stage_kept(&mut self, owner: &Owner, made: &Made) -> StageKey {
        let attempt = AttemptId { number: 1 << 63 | self.dice.below(3), ..made.attempt };
        let key = StageKey { attempt, ..made.key() };
        let open = if self.dice.chance(4, 5) { owner.keep_as(made, key) } else { owner.stage_as(made, key) };
        self.send(open, Body::new());
        for (offset, piece) in (0..).step_by(4096).zip(made.payload.chunks(4096)) {
            self.send(NodeRequest::StageData { key, offset }, Body::copy_from_slice(piece));
        }
        self.send(NodeRequest::StageSeal { key }, Body::new());
        if self.dice.chance(1, 3) {
            self.world.release();
            self.world.held = true;
        }
        if self.dice.chance(1, 8) {
            self.send(NodeRequest::StageDrop { key }, Body::new());
        }
        key
    }

    fn commit(&mut self, made: &Made) {
        if !self.listed.iter().any(|listed| listed.extent == made.extent) {
            self.past.push(self.owner.clone());
            self.owner.commit(made);
            self.listed.push(made.clone());
        }
    }

    fn delete(&mut self, made: &Made) {
        if let Some(at) = self.listed.iter().position(|listed| listed.extent == made.extent) {
            let attempt = self.owner.attempt();
            self.send(self.owner.prepare_delete(made, attempt), Body::new());
            self.past.push(self.owner.clone());
            self.owner.commit_delete(made, attempt);
            self.listed.remove(at);
            self.made.retain(|other| other.extent != made.extent);
        }
    }

    fn next_row(&mut self) {
        self.past.push(self.owner.clone());
        match self.dice.below(3) {
            0 => self.owner.reclaim(),
            1 => self.owner.trim(),
            _ => self.owner.row.seq += 1,
        }
    }

    /// Performs one of the operations wanted, or lets it fail, or the process dies.
    fn disturb(&mut self) {
        if self.dice.chance(1, 200) {
            let keeps = self.dice.chance(1, 2);
            let world = std::mem::replace(&mut self.world, World::new());
            self.world = world.restart(keeps);
            (self.world.held, self.checked) = (true, 0);
            self.requests.clear();
        }
        if self.dice.chance(1, 20) {
            let calls =
                ["append", "replace", "finish", "publish", "sync", "quarantine", "unlink", "open", "write", "check"];
            let kept = ["keep", "leave", "drop kept", "seal"];
            let calls = if self.dice.chance(1, 4) { &kept[..] } else { &calls[..] };
            let call = *self.dice.pick(calls).unwrap();
            let errors = [StoreError::NotFound, StoreError::Io("x".into()), StoreError::NoSpace("x".into())];
            let error = self.dice.pick(&errors).unwrap().clone();
            self.world.disk.failing.push((call, error));
        }
        if self.dice.chance(1, 30) {
            let op = OpId(self.dice.below(1000) + (1 << 40));
            self.world.event(NodeEvent::Stored { op, result: Ok(StoreOk::Published(false)) });
        }
        if self.dice.chance(1, 400) {
            self.world.tick_at(self.world.now.as_millis() + 1_200_000);
        }
        let waiting = self.world.waiting.len() as u64;
        if waiting > 0 {
            let at = self.dice.below(waiting) as usize;
            self.world.perform(at);
        }
    }

    fn check(&mut self) {
        let world = &self.world;
        let journal = |(_, call): &&(OpId, StoreCall)| matches!(call_name(call), "append" | "replace");
        assert!(world.waiting.iter().filter(journal).count() <= 1, "two writes of one journal at once");
        let (mut stages, mut kept) = (BTreeSet::new(), BTreeSet::new());
        for (_, call) in &world.waiting {
            let of_kept = match call {
                StoreCall::KeepStage { key, .. } | StoreCall::LeaveStage { key } => Some((key.extent, key.index)),
                StoreCall::DropKept { fragment } => Some((fragment.extent, fragment.index)),
                _ => None,
            };
            assert!(of_kept.is_none_or(|fragment| kept.insert(fragment)), "two operations of one kept stage at once");
            let key = match call {
                StoreCall::OpenStage { key, .. }
                | StoreCall::KeepStage { key, .. }
                | StoreCall::LeaveStage { key }
                | StoreCall::WriteStage { key, .. }
                | StoreCall::SealStage { key }
                | StoreCall::FinishStage { key, .. }
                | StoreCall::PublishStage { key }
                | StoreCall::DropStage { key } => *key,
                _ => continue,
            };
            assert!(stages.insert(key), "two operations of one stage at once");
        }
        if let (Some(list), Some(heard)) = (world.node.list(PG), world.node.heard(PG)) {
            assert_eq!((list.len() as u64, Sum::of(list.values())), (heard.count, heard.sum));
        }
        // Every answer given since the last look is borne out by what a restart would find.
        let replayed = world.disk.journals.get(&PG).map(|bytes| journal::replay(PG, bytes).unwrap().ledger);
        for (asker, reply, _) in &world.replies[self.checked..] {
            let (Some(ledger), Some((_, request))) = (&replayed, self.requests.get(&asker.id)) else { continue };
            match reply {
                NodeReply::Prepared { attempt } => {
                    let NodeRequest::Prepare { extent, .. } = request else { panic!("{request:?}") };
                    let known = ledger.prepared.contains_key(attempt) || ledger.list().contains_key(extent);
                    assert!(known || ledger.tombstones.contains_key(extent));
                }
                NodeReply::Aborted { attempt } => {
                    assert!(!ledger.prepared.contains_key(attempt));
                    assert!(ledger.aborted.contains(attempt) || ledger.token.unwrap().claim != attempt.claim);
                }
                NodeReply::Heard(head) if head.level => {
                    assert!(ledger.heard.as_ref().unwrap().order() >= head.heard);
                }
                NodeReply::Published => {
                    let NodeRequest::Publish { key, .. } = request else { panic!("{request:?}") };
                    let fragment = FragmentKey { extent: key.extent, generation: 1, index: key.index };
                    self.published += 1;
                    assert!(world.disk.files[&fragment].durable && ledger.list().contains_key(&key.extent));
                }
                _ => {}
            }
        }
        self.checked = world.replies.len();
    }

    /// In the end all is performed, answered and level.
    fn settle(mut self) -> usize {
        self.world.disk.failing.clear();
        self.world.release();
        assert!(self.world.node.is_idle());
        let answered: BTreeSet<RequestId> = self.world.replies.iter().map(|(asker, ..)| asker.id).collect();
        for (id, (_, request)) in &self.requests {
            assert!(answered.contains(id), "no answer to {request:?}");
        }
        let listed = self.listed.iter().map(|made| Listed { extent: made.extent, hash: made.hash }).collect();
        let authority = self.owner.authority();
        self.owner.row.seq += 1;
        let adopt = NodeRequest::Adopt { authority, page: 0, last: true, listed, tombstones: vec![] };
        assert!(matches!(self.world.ask(adopt), NodeReply::Heard(head) if head.level));
        assert!(self.world.head(self.owner.fence()).level);
        // What repairs staged and nobody goes on with is gone a period later, what was forgotten after an error with the next life.
        (0..3).for_each(|peer| self.world.event(NodeEvent::PeerGone { peer: PeerId(peer) }));
        let mut world = self.world.restart(false);
        let kept = world.disk.kept();
        assert_eq!(world.node.kept().collect::<Vec<_>>(), kept.iter().map(|it| (*it, false)).collect::<Vec<_>>());
        world.tick_at(world.now.as_millis() + world.node.config.staged_for.0);
        assert_eq!((world.disk.kept(), world.disk.stages()), (vec![], 0));
        kept.len()
    }
}

#[test]
fn no_order_of_events_breaks_a_promise() {
    let (mut published, mut kept) = (0, 0);
    for seed in 0..60 {
        let mut chaos = Chaos::new(seed);
        for _ in 0..400 {
            chaos.act();
            for _ in 0..4 {
                chaos.disturb();
                chaos.check();
            }
        }
        published += chaos.published;
        kept += chaos.settle();
    }
    assert!(kept > 10, "{kept}: nothing is kept");
    assert!(published > 20, "{published}: too tame to prove anything");
}
