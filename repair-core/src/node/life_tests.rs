//! A record takes another's place on a member, and what was before is released.

use super::testing::*;
use super::*;
use crate::catalog::EntryKind;
use crate::shape::{Shape, later_generation};
use crate::wire::node::{Listed, Shaped};
use ec_core::fragment::{ExtentRecord, Hash};

/// What takes the place of an extent's record.
#[derive(Clone, Debug)]
struct Next {
    made: Made,
    shape: Shape,
    code: &'static str,
}

impl Next {
    fn of(owner: &mut Owner, made: &Made, code: &'static str, counter: u64) -> Self {
        let old = ExtentRecord::parse(&made.record).unwrap();
        let (code_spec, generation): (ec_core::CodeSpec, u64) = (code.parse().unwrap(), later_generation(1, counter));
        let payload_bytes = ec_core::geometry::Geometry::new(old.extent_bytes, code_spec.k()).shard_bytes();
        let payload: Vec<u8> = (0..payload_bytes).map(|at| (at as u8).wrapping_mul(7) ^ counter as u8).collect();
        let entry = |index: u16| {
            let mut identity = old.fragments[0].identity;
            identity.generation = generation;
            identity.index = ec_core::ShardIndex::new(index);
            identity.payload_bytes = payload_bytes;
            ec_core::fragment::FragmentEntry { identity, root: identity.root(&Hash::of(&payload)) }
        };
        let fragments = code_spec.n() as u16;
        let record = ExtentRecord {
            revision: old.revision + 1,
            code: code_spec,
            fragments: (0..fragments).map(entry).collect(),
            ..old
        };
        let record = Body::from(record.to_bytes().unwrap());
        let attempt = owner.attempt();
        let made = Made { extent: made.extent, attempt, hash: RecordHash::of(&record), record, payload };
        Self { made, shape: Shape { generation, fragments }, code }
    }

    fn file(&self) -> FragmentKey {
        self.shape.place(self.made.extent, 1)
    }

    fn stage(&self, world: &mut World, owner: &Owner) {
        let (key, code) = (self.made.key(), self.code.parse::<ec_core::CodeSpec>().unwrap().to_descriptor());
        let extent_bytes = ExtentRecord::parse(&self.made.record).unwrap().extent_bytes;
        let generation = self.shape.generation;
        let stage = NodeRequest::Stage { token: owner.token, cell: CELL, key, generation, code, extent_bytes };
        assert_eq!(world.ask(stage), NodeReply::StageOpen);
        let data = NodeRequest::StageData { key, offset: 0 };
        assert_eq!(world.ask_with(data, Body::from(self.made.payload.clone())), NodeReply::StageTaken);
        assert!(matches!(world.ask(NodeRequest::StageSeal { key }), NodeReply::StageSealed { .. }));
    }

    fn request(&self, owner: &Owner, kind: EntryKind) -> NodeRequest {
        let Made { extent, attempt, hash, .. } = self.made;
        NodeRequest::Prepare { authority: owner.authority(), attempt, kind, extent, hash }
    }

    fn prepare(&self, world: &mut World, owner: &Owner) {
        self.stage(world, owner);
        let reply = world.ask_with(self.request(owner, EntryKind::Supersede), self.made.record.clone());
        assert_eq!(reply, NodeReply::Prepared { attempt: self.made.attempt });
    }

    fn commit(&self, owner: &mut Owner, old: &Made) {
        owner.row.seq += 1;
        owner.row.sum = owner.row.sum.minus(&old.hash).plus(&self.made.hash);
        owner.push(EntryKind::Supersede, &self.made, self.made.attempt);
    }
}

fn release(owner: &Owner, old: &Made, attempt: AttemptId) -> NodeRequest {
    let (authority, extent, hash) = (owner.authority(), old.extent, old.hash);
    NodeRequest::Prepare { authority, attempt, kind: EntryKind::Release, extent, hash }
}

fn commit_release(owner: &mut Owner, old: &Made, attempt: AttemptId) {
    owner.row.seq += 1;
    owner.push(EntryKind::Release, old, attempt);
}

fn names(world: &World) -> Vec<FragmentKey> {
    world.disk.files.keys().copied().collect()
}

/// A member with an extent on file.
fn with_extent() -> (World, Owner, Made) {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    (world, owner, made)
}

/// And its record superseded.
fn superseded(code: &'static str) -> (World, Owner, Made, Next) {
    let (mut world, mut owner, old) = with_extent();
    let next = Next::of(&mut owner, &old, code, 50);
    next.prepare(&mut world, &owner);
    next.commit(&mut owner, &old);
    assert!(world.head(owner.hear()).level);
    (world, owner, old, next)
}

#[test]
fn both_files_are_kept_and_read_until_the_release_and_then_the_old_one_goes() {
    let (mut world, mut owner, old, next) = superseded("rs:2+1");
    let record = |world: &mut World, of: &Made| world.ask(NodeRequest::Record { extent: of.extent, hash: of.hash });
    for restart in [false, true] {
        if restart {
            world = world.restart(false);
            world.head(owner.fence());
        }
        assert_eq!(names(&world), [old.fragment(), next.file()]);
        assert_eq!(world.node.list(PG).unwrap()[&old.extent], next.made.hash);
        assert_eq!(world.node.owed_fragment(old.extent), Some(next.file()));
        assert_eq!(world.node.former(old.extent).map(|former| former.hash), Some(old.hash));
        assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 0, more: false });
        for of in [&old, &next.made] {
            assert_eq!(record(&mut world, of), NodeReply::Record, "a reader may have begun with it");
        }
        for file in [old.fragment(), next.file()] {
            let checked = world.ask(NodeRequest::Check { fragment: file });
            assert_eq!(checked, NodeReply::Checked { class: "healthy".into(), healthy: true }, "{file:?}");
        }
    }
    let attempt = owner.attempt();
    let prepared = NodeReply::Prepared { attempt };
    assert_eq!(world.ask(release(&owner, &old, attempt)), prepared);
    assert_eq!(world.ask(release(&owner, &old, attempt)), prepared, "twice is once");
    assert_eq!(names(&world).len(), 2, "prepared is not released");
    commit_release(&mut owner, &old, attempt);
    assert!(world.head(owner.hear()).level);
    assert_eq!(names(&world), [next.file()]);
    assert!(world.disk.quarantine.contains(&old.fragment()));
    assert_eq!(world.node.former(old.extent), None);
    assert!(world.node.prepared(PG).unwrap().is_empty());
    owner.trim();
    world.head(owner.hear());
    assert!(world.disk.unlinked.contains(&old.fragment()));
    // What came of it is in the journal.
    world = world.restart(false);
    assert!(world.head(owner.fence()).level);
    assert_eq!(world.node.owed_fragment(old.extent), Some(next.file()));
    assert_eq!(
        world.ask(release(&owner, &old, AttemptId { number: 99, ..attempt })),
        NodeReply::Prepared { attempt: AttemptId { number: 99, ..attempt } }
    );
    assert!(world.node.prepared(PG).unwrap().is_empty(), "there is nothing left to release");
}

#[test]
fn the_record_on_the_list_is_never_released() {
    let (mut world, mut owner, _, next) = superseded("rs:2+1");
    let attempt = owner.attempt();
    let reply = world.ask(release(&owner, &next.made, attempt));
    assert!(matches!(refused(&reply), Refusal::Invalid(_)), "{reply:?}");
}

#[test]
fn what_was_prepared_and_will_not_be_goes_and_the_old_file_stays() {
    let (mut world, mut owner, old) = with_extent();
    let next = Next::of(&mut owner, &old, "rs:2+1", 50);
    next.prepare(&mut world, &owner);
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 0, more: false }, "it may yet be");
    world = world.restart(false);
    world.head(owner.fence());
    assert_eq!(names(&world), [old.fragment(), next.file()]);
    assert_eq!(world.ask(owner.abort(next.made.attempt)), NodeReply::Aborted { attempt: next.made.attempt });
    assert_eq!(names(&world), [old.fragment()]);
    assert_eq!(world.node.list(PG).unwrap()[&old.extent], old.hash);
    assert!(world.head(owner.hear()).level);
    assert_eq!(
        *refused(&world.ask_with(next.request(&owner, EntryKind::Supersede), next.made.record)),
        Refusal::Aborted
    );
}

#[test]
fn an_abort_that_comes_after_the_commit_takes_nothing() {
    let (mut world, owner, _, next) = superseded("rs:2+1");
    let reply = world.ask(owner.abort(next.made.attempt));
    assert!(matches!(refused(&reply), Refusal::Invalid(_)));
    assert!(names(&world).contains(&next.file()));
}

#[test]
fn a_deletion_takes_all_files_of_an_extent() {
    let (mut world, mut owner, old, next) = superseded("rs:2+1");
    // A further one was prepared, and nobody told its end.
    let third = Next::of(&mut owner, &next.made, "rs:2+1", 51);
    third.prepare(&mut world, &owner);
    assert_eq!(names(&world).len(), 3);
    let attempt = owner.attempt();
    world.ask(owner.prepare_delete(&next.made, attempt));
    owner.commit_delete(&next.made, attempt);
    assert!(world.head(owner.hear()).level);
    assert_eq!(names(&world), []);
    assert!(world.node.prepared(PG).unwrap().is_empty());
    assert_eq!(world.node.former(old.extent), None);
}

#[test]
fn a_member_without_a_fragment_has_the_line_and_the_record_and_owes_nothing() {
    // The disk is the last of three: two copies are for the others.
    let (mut world, mut owner) = (World::new(), Owner::new());
    owner.row.members.swap(1, 2);
    world.head(owner.fence());
    let old = owner.make(5000);
    let key = StageKey { index: 2, ..old.key() };
    world.stage_as(&owner, &old, key);
    world.ask_with(owner.prepare(&old), old.record.clone());
    owner.commit(&old);
    assert!(world.head(owner.hear()).level);
    let old_file = FragmentKey { index: 2, ..old.fragment() };
    assert_eq!(names(&world), [old_file]);
    let next = Next::of(&mut owner, &old, "replicate:2", 50);
    let prepared = world.ask_with(next.request(&owner, EntryKind::Supersede), next.made.record.clone());
    assert_eq!(prepared, NodeReply::Prepared { attempt: next.made.attempt }, "nothing was staged for it");
    world = world.restart(false);
    world.head(owner.fence());
    assert!(world.node.prepared(PG).unwrap().contains_key(&next.made.attempt));
    next.commit(&mut owner, &old);
    assert!(world.head(owner.hear()).level);
    assert_eq!((names(&world), world.node.owed_fragment(old.extent)), (vec![old_file], None));
    let attempt = owner.attempt();
    world.ask(release(&owner, &old, attempt));
    commit_release(&mut owner, &old, attempt);
    world.head(owner.hear());
    assert_eq!(names(&world), []);
    let digest = world.ask(NodeRequest::Digest { pg: PG });
    assert!(matches!(digest, NodeReply::Digest { count: 0, .. }), "{digest:?}");
    // It has the record as long as its index is: the copies have it for good.
    let again = Next::of(&mut owner, &next.made, "replicate:2", 51);
    world.ask_with(again.request(&owner, EntryKind::Supersede), again.made.record.clone());
    let asked = NodeRequest::Record { extent: old.extent, hash: again.made.hash };
    assert_eq!(world.ask(asked), NodeReply::Record);
    // A pass over all fragments has nothing to look at, and ends.
    assert_eq!(world.ask(NodeRequest::Scrub), NodeReply::Scrubbing);
    world.tick_at(10_000_000);
    assert!(!world.node.is_damaged(next.shape.place(old.extent, 2)));
}

#[test]
fn a_list_with_other_records_is_given_and_taken_over_with_what_they_are_of() {
    let (mut world, mut owner, old, next) = superseded("rs:2+1");
    let plain = world.create(&mut owner);
    let page = world.ask(NodeRequest::List { pg: PG, after: None });
    let NodeReply::ShapedPage { listed, shapes, more: false, .. } = page else { panic!("{page:?}") };
    let line = |made: &Made, shape, is_former| Shaped { extent: made.extent, hash: made.hash, shape, is_former };
    let birth = Shape { generation: 1, fragments: 3 };
    assert_eq!(shapes, [line(&next.made, next.shape, false), line(&old, birth, true)]);
    assert_eq!(listed.len(), 2);
    // Another disk takes the place, with the same files by chance.
    let mut disk = world.disk.clone();
    disk.journals.clear();
    let mut world = World::boot(config(), disk, Some(CELL));
    let adopt = |listed: Vec<Listed>, shapes: Vec<Shaped>| NodeRequest::AdoptShaped {
        authority: owner.authority(),
        page: 0,
        last: true,
        listed,
        tombstones: vec![],
        shapes,
    };
    assert!(!world.head(owner.fence()).level);
    assert!(world.head(adopt(listed, shapes)).level);
    assert_eq!(world.node.owed_fragment(old.extent), Some(next.file()));
    assert_eq!(world.node.owed_fragment(plain.extent), Some(plain.fragment()));
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 0, more: false }, "all three are named");
    // A file that this catalog cannot have given a generation to is not judged; one that it can have is surplus.
    let file = world.disk.files[&next.file()].clone();
    let (ours, theirs) = (later_generation(1, 60), later_generation(1, owner.row.next_id));
    for generation in [ours, theirs] {
        world.disk.files.insert(FragmentKey { generation, ..next.file() }, file.clone());
    }
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 1, more: false });
    assert!(names(&world).contains(&FragmentKey { generation: theirs, ..next.file() }));
    assert!(!names(&world).contains(&FragmentKey { generation: ours, ..next.file() }));
}

#[test]
fn a_record_that_was_not_prepared_here_brings_the_member_to_no_row() {
    let (mut world, mut owner, old) = with_extent();
    let next = Next::of(&mut owner, &old, "rs:2+1", 50);
    next.commit(&mut owner, &old);
    let head = world.head(owner.hear());
    assert!(!head.level, "nobody said which files it is of");
    assert_eq!(world.node.list(PG).unwrap()[&old.extent], old.hash);
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let born = owner.make(5000);
    owner.commit(&born);
    owner.row.entries.last_mut().unwrap().kind = EntryKind::CreateOther;
    assert!(!world.head(owner.hear()).level);
}

#[test]
fn a_member_that_was_excused_asks_what_became_of_a_release_it_prepared() {
    let (mut world, mut owner, old, _) = superseded("rs:2+1");
    let attempt = owner.attempt();
    world.ask(release(&owner, &old, attempt));
    // The release was committed, the row excused this disk, and the entry is gone.
    owner.row.entries.clear();
    owner.row.seq += 2;
    owner.row.behind.insert(DISK);
    assert!(!world.head(owner.hear()).level, "by the sum it would be level, with a file too many for ever");
    let listed: Vec<Listed> =
        world.node.list(PG).unwrap().iter().map(|(extent, hash)| Listed { extent: *extent, hash: *hash }).collect();
    let shape = Shape { generation: later_generation(1, 50), fragments: 3 };
    let shapes = vec![Shaped { extent: old.extent, hash: listed[0].hash, shape, is_former: false }];
    let authority = owner.authority();
    let adopt = NodeRequest::AdoptShaped { authority, page: 0, last: true, listed, tombstones: vec![], shapes };
    assert!(world.head(adopt).level);
    assert!(world.node.prepared(PG).unwrap().is_empty());
    owner.row.seq += 1;
    owner.row.behind.clear();
    assert!(world.head(owner.hear()).level);
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 1, more: false });
    assert_eq!(names(&world), [shape.place(old.extent, 1)]);
}

#[test]
fn a_stale_file_is_one_that_no_record_names_whatever_its_generation() {
    let (mut world, mut owner, old, next) = superseded("rs:2+1");
    let attempt = owner.attempt();
    world.ask(release(&owner, &old, attempt));
    commit_release(&mut owner, &old, attempt);
    world.head(owner.hear());
    // A file between the two, and one above: neither is named.
    let file = world.disk.files[&next.file()].clone();
    for (generation, class) in [
        (later_generation(1, 40), "stale"),
        (later_generation(1, 60), "stale"),
        (later_generation(9, 0), "orphan-newer"),
    ] {
        let name = FragmentKey { generation, ..next.file() };
        world.disk.files.insert(name, file.clone());
        let reply = world.ask(NodeRequest::Check { fragment: name });
        let NodeReply::Checked { class: found, healthy: false } = &reply else { panic!("{reply:?}") };
        assert!(found.replace('.', "-").contains(class), "{found} {generation}");
    }
}
