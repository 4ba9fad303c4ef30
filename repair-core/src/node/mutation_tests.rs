//! What an owner may do to a member, and in which order it lasts.

use super::testing::*;
use super::*;
use crate::catalog::EntryKind;
use crate::id::ClaimId;
use crate::wire::node::{Listed, Tombstone};

fn adopt(owner: &Owner, page: u32, last: bool, made: &[&Made], tombstones: Vec<Tombstone>) -> NodeRequest {
    let listed = made.iter().map(|made| Listed { extent: made.extent, hash: made.hash }).collect();
    NodeRequest::Adopt { authority: owner.authority(), page, last, listed, tombstones }
}

fn names(disk: &Disk) -> Vec<FragmentKey> {
    disk.files.keys().copied().collect()
}

#[test]
fn a_create_is_durable_before_it_is_called_prepared() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    assert!(world.head(owner.fence()).level);
    let made = owner.make(5000);
    world.stage(&owner, &made);
    world.disk.log.clear();
    world.held = true;
    let id = world.send(owner.prepare(&made), made.record.clone());
    for step in ["finish", "publish", "sync", "append"] {
        assert_eq!(world.answer(id), None, "answered before {step}");
        let at = world.waiting.iter().position(|(_, call)| call_name(call) == step);
        world.perform(at.unwrap_or_else(|| panic!("{step} was not wanted")));
    }
    assert_eq!(world.answer(id), Some(&NodeReply::Prepared { attempt: made.attempt }));
    assert!(world.disk.files[&made.fragment()].durable);
    assert_eq!(world.node.prepared(PG).unwrap()[&made.attempt].hash, made.hash);
    assert!(world.node.list(PG).unwrap().is_empty());
}

#[test]
fn a_commit_brings_the_list_to_the_row_and_ends_the_preparation() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    assert_eq!(world.node.list(PG).unwrap().get(&made.extent), Some(&made.hash));
    assert!(world.node.prepared(PG).unwrap().is_empty());
    assert_eq!(world.node.heard(PG), Some(&owner.row));
    let head = world.head(owner.hear());
    assert_eq!((head.count, head.sum, head.heard), (1, owner.row.sum, (1, owner.row.seq)));
}

#[test]
fn every_message_may_come_twice() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    assert_eq!(world.ask(owner.fence()), world.ask(owner.fence()));
    let made = owner.make(5000);
    world.stage(&owner, &made);
    let prepared = NodeReply::Prepared { attempt: made.attempt };
    // Both in the queue at once, then a third.
    world.held = true;
    let (first, second) =
        (world.send(owner.prepare(&made), made.record.clone()), world.send(owner.prepare(&made), made.record.clone()));
    world.release();
    assert_eq!((world.answer(first), world.answer(second)), (Some(&prepared), Some(&prepared)));
    assert_eq!(world.ask_with(owner.prepare(&made), made.record.clone()), prepared);
    owner.commit(&made);
    assert_eq!(world.ask(owner.hear()), world.ask(owner.hear()));
    // On the list it counts as prepared, too: a later claim may ask so.
    assert_eq!(world.ask_with(owner.prepare(&made), made.record.clone()), prepared);
    let attempt = owner.attempt();
    let deleted = NodeReply::Prepared { attempt };
    assert_eq!(world.ask(owner.prepare_delete(&made, attempt)), deleted);
    assert_eq!(world.ask(owner.prepare_delete(&made, attempt)), deleted);
    owner.commit_delete(&made, attempt);
    assert!(world.head(owner.hear()).level);
    assert_eq!(world.ask(owner.prepare_delete(&made, attempt)), deleted);
    let dead = owner.attempt();
    assert_eq!(world.ask(owner.abort(dead)), world.ask(owner.abort(dead)));
}

#[test]
fn an_attempt_is_one_change_and_an_extent_has_one_record() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let mut other = made.clone();
    other.hash = RecordHash([1; 32]);
    let reply = world.ask_with(owner.prepare(&other), made.record.clone());
    assert!(matches!(refused(&reply), Refusal::Invalid(_)));
    let reply = world.ask(owner.prepare_delete(&other, AttemptId { claim: ClaimId(1), number: 99 }));
    assert!(matches!(refused(&reply), Refusal::Invalid(_)));
    // A prepared one, too.
    let waiting = owner.make(5000);
    world.stage(&owner, &waiting);
    world.ask_with(owner.prepare(&waiting), waiting.record.clone());
    let rival = Made { attempt: owner.attempt(), ..waiting.clone() };
    world.stage(&owner, &rival);
    let reply = world.ask_with(owner.prepare(&rival), rival.record.clone());
    assert!(matches!(refused(&reply), Refusal::Invalid(_)));
    let attempt = owner.attempt();
    world.ask(owner.prepare_delete(&made, attempt));
    let reply = world.ask(owner.prepare_delete(&waiting, attempt));
    assert!(matches!(refused(&reply), Refusal::Invalid(_)), "one attempt, two extents");
    // And what was deleted never comes back.
    owner.commit_delete(&made, attempt);
    world.head(owner.hear());
    let again = Made { attempt: owner.attempt(), ..made };
    world.stage(&owner, &again);
    let reply = world.ask_with(owner.prepare(&again), again.record.clone());
    assert!(matches!(refused(&reply), Refusal::Invalid(_)));
}

#[test]
fn a_create_is_refused_where_stage_record_and_hash_do_not_belong_together() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = owner.make(5000);
    // Nothing staged; then opened and not sealed.
    let reply = world.ask_with(owner.prepare(&made), made.record.clone());
    assert!(matches!(refused(&reply), Refusal::NotStaged(_)));
    world.ask(owner.stage(&made));
    let reply = world.ask_with(owner.prepare(&made), made.record.clone());
    assert!(matches!(refused(&reply), Refusal::NotStaged(_)));
    // Other bytes than the record's root.
    let mut wrong = made.payload.clone();
    wrong[17] ^= 1;
    world.ask_with(NodeRequest::StageData { key: made.key(), offset: 0 }, Body::from(wrong));
    world.ask(NodeRequest::StageSeal { key: made.key() });
    let reply = world.ask_with(owner.prepare(&made), made.record.clone());
    assert!(matches!(refused(&reply), Refusal::RootMismatch(_)));
    assert!(world.disk.files.is_empty());
    // A record with another hash, of another extent, of no sense, of another cell's extent.
    world.stage(&owner, &made);
    let other = owner.make(5000);
    let swapped = Made { hash: other.hash, ..made.clone() };
    let unlike = Made { hash: RecordHash([9; 32]), ..made.clone() };
    let nonsense = Made { hash: RecordHash::of(b"x"), ..made.clone() };
    let foreign = Made { extent: ExtentKey::compose(CellKey(1), PG, 1, 0), ..made.clone() };
    for (made, body) in [
        (&made, other.record.clone()),
        (&swapped, other.record.clone()),
        (&unlike, made.record.clone()),
        (&nonsense, Body::from_static(b"x")),
        (&foreign, made.record.clone()),
    ] {
        let reply = world.ask_with(owner.prepare(made), body);
        assert!(matches!(refused(&reply), Refusal::Invalid(_)), "{reply:?}");
    }
    assert!(world.node.prepared(PG).unwrap().is_empty());
    let reply = world.ask_with(owner.prepare(&made), made.record.clone());
    assert_eq!(reply, NodeReply::Prepared { attempt: made.attempt });
}

#[test]
fn an_aborted_attempt_is_never_prepared_however_late_it_comes() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = owner.make(5000);
    world.stage(&owner, &made);
    assert_eq!(world.ask(owner.abort(made.attempt)), NodeReply::Aborted { attempt: made.attempt });
    assert_eq!(world.disk.stages(), 0, "what was staged for it is gone");
    let reply = world.ask_with(owner.prepare(&made), made.record.clone());
    assert_eq!(refused(&reply), &Refusal::Aborted);
    assert_eq!(refused(&world.ask(owner.stage(&made))), &Refusal::Aborted);
    let delete = owner.prepare_delete(&made, made.attempt);
    let mut world = world.restart(false);
    assert_eq!(refused(&world.ask_with(owner.prepare(&made), made.record.clone())), &Refusal::Aborted);
    assert_eq!(refused(&world.ask(delete)), &Refusal::Aborted);
}

#[test]
fn an_abort_takes_back_a_prepared_create_and_its_file_goes_with_the_next_row() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = owner.make(5000);
    world.stage(&owner, &made);
    world.ask_with(owner.prepare(&made), made.record.clone());
    world.ask(owner.abort(made.attempt));
    assert!(world.node.prepared(PG).unwrap().is_empty());
    assert!(world.disk.files.is_empty() && world.disk.quarantine.contains(&made.fragment()));
    owner.trim();
    assert!(world.head(owner.hear()).level);
    assert!(world.disk.quarantine.is_empty());
}

#[test]
fn what_is_committed_is_not_aborted() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = owner.make(5000);
    world.stage(&owner, &made);
    world.ask_with(owner.prepare(&made), made.record.clone());
    owner.commit(&made);
    // Even where the row that says so comes with the abort itself.
    assert!(matches!(refused(&world.ask(owner.abort(made.attempt))), Refusal::Invalid(_)));
    assert!(world.disk.files.contains_key(&made.fragment()));
    assert!(world.node.list(PG).unwrap().contains_key(&made.extent));
    // A deletion given up leaves the extent as it was.
    let attempt = owner.attempt();
    world.ask(owner.prepare_delete(&made, attempt));
    assert_eq!(world.ask(owner.abort(attempt)), NodeReply::Aborted { attempt });
    assert!(world.disk.files.contains_key(&made.fragment()));
    assert!(world.node.prepared(PG).unwrap().is_empty());
}

#[test]
fn a_delete_buries_the_extent_and_unlinks_only_when_its_entry_has_left_the_row() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let (made, kept) = (world.create(&mut owner), world.create(&mut owner));
    let attempt = owner.attempt();
    world.ask(owner.prepare_delete(&made, attempt));
    owner.commit_delete(&made, attempt);
    assert!(world.head(owner.hear()).level);
    assert_eq!(world.node.tombstones(PG).unwrap().get(&made.extent), Some(&owner.row.seq));
    assert!(world.node.prepared(PG).unwrap().is_empty());
    assert_eq!(names(&world.disk), [kept.fragment()]);
    // Another row that still has the entry: the bytes stay.
    owner.row.seq += 1;
    world.head(owner.hear());
    assert!(world.disk.quarantine.contains(&made.fragment()));
    // Gone from the row, also after a restart that forgot all but the journal.
    let mut world = world.restart(false);
    owner.trim();
    world.head(owner.hear());
    assert!(world.disk.quarantine.is_empty() && world.node.tombstones(PG).unwrap().is_empty());
    assert_eq!(names(&world.disk), [kept.fragment()]);
}

#[test]
fn a_lower_token_and_an_equal_one_of_another_claim_are_refused_also_after_a_restart() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let old = owner.clone();
    owner.reclaim();
    world.head(owner.fence());
    let mut rival = owner.clone();
    rival.token.claim = ClaimId(999);
    rival.row.seq += 1;
    for _ in 0..2 {
        let mut late = old.clone();
        late.row.seq += 10;
        let made = late.make(5000);
        for request in [late.fence(), late.hear(), late.abort(made.attempt), late.prepare(&made), late.retire()] {
            assert!(matches!(refused(&world.ask(request)), Refusal::Fenced(_)));
        }
        assert!(matches!(refused(&world.ask(late.stage(&made))), Refusal::Fenced(_)));
        assert!(matches!(refused(&world.ask(rival.fence())), Refusal::Fenced(_)));
        assert_eq!(world.node.token(PG), Some(owner.token));
        world = world.restart(false);
    }
}

#[test]
fn a_higher_token_in_any_message_fences_and_takes_the_old_marks_away() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let dead = owner.attempt();
    world.ask(owner.abort(dead));
    let old = owner.clone();
    owner.reclaim();
    assert!(world.head(owner.hear()).level);
    assert!(matches!(refused(&world.ask(old.hear())), Refusal::Fenced(_)));
    assert!(world.node.abort_marks(PG).unwrap().is_empty());
}

#[test]
fn an_older_row_and_another_row_of_the_same_number_raise_an_alarm() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let before = owner.clone();
    let made = world.create(&mut owner);
    let mut late = before.clone();
    late.token.revision += 1;
    for request in [before.hear(), before.fence(), late.fence()] {
        assert!(matches!(refused(&world.ask(request)), Refusal::OldRow(_)));
    }
    assert_eq!(world.node.token(PG), Some(owner.token), "an alarm accepts nothing");
    let mut fork = owner.clone();
    fork.row.sum = fork.row.sum.plus(&made.hash);
    assert!(matches!(refused(&world.ask(fork.fence())), Refusal::Fork(_)));
    let mut fork = owner.clone();
    fork.row.members.swap(0, 2);
    assert!(matches!(refused(&world.ask(fork.fence())), Refusal::Fork(_)));
    // An older sequence of a newer incarnation is a later row.
    let mut restored = owner.clone();
    (restored.token.incarnation, restored.row.incarnation, restored.row.seq) = (2, 2, 1);
    restored.row.entries.clear();
    assert!(world.head(restored.fence()).level);
}

#[test]
fn a_member_that_cannot_come_to_the_row_says_so_and_changes_nothing() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let heard = owner.row.clone();
    // It was away while others created, stored and trimmed.
    let missed = owner.make(5000);
    owner.commit(&missed);
    owner.trim();
    let attempt = owner.attempt();
    let fresh = owner.make(5000);
    world.stage(&owner, &fresh);
    let head = world.head(owner.fence());
    assert!(!head.level);
    assert_eq!((head.heard, head.count), (heard.order(), 1));
    for (request, body) in [
        (owner.prepare(&fresh), fresh.record.clone()),
        (owner.prepare_delete(&made, attempt), Body::new()),
        (owner.publish(fresh.key()), fresh.record.clone()),
        (owner.retire(), Body::new()),
    ] {
        assert!(matches!(refused(&world.ask_with(request, body)), Refusal::Behind(_)));
    }
    assert_eq!(world.node.heard(PG), Some(&heard));
    assert_eq!(names(&world.disk), [made.fragment()]);
    // It can be told that an attempt is dead.
    assert_eq!(world.ask(owner.abort(attempt)), NodeReply::Aborted { attempt });
}

#[test]
fn a_list_is_adopted_in_pages_and_only_if_it_sums() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let (kept, lost) = (world.create(&mut owner), world.create(&mut owner));
    let waiting = owner.make(5000);
    world.stage(&owner, &waiting);
    world.ask_with(owner.prepare(&waiting), waiting.record.clone());
    // Away: `lost` was deleted, `waiting` and `new` committed, all of it trimmed but for the tombstone.
    let new = owner.make(5000);
    owner.commit(&new);
    owner.commit(&waiting);
    let gone = owner.attempt();
    owner.commit_delete(&lost, gone);
    let buried = Tombstone { extent: lost.extent, seq: owner.row.seq };
    owner.row.seq += 1;
    owner.row.entries.clear();
    assert!(!world.head(owner.fence()).level);
    let pages = |world: &mut World, owner: &Owner, last: &[&Made]| {
        assert_eq!(world.ask(adopt(owner, 0, false, &[&kept], vec![])), NodeReply::AdoptedPage);
        assert_eq!(world.ask(adopt(owner, 1, false, &[&new], vec![])), NodeReply::AdoptedPage);
        assert_eq!(world.ask(adopt(owner, 1, false, &[&new], vec![])), NodeReply::AdoptedPage, "a page sent again");
        world.ask(adopt(owner, 2, true, last, vec![buried]))
    };
    assert!(matches!(refused(&world.ask(adopt(&owner, 1, true, &[&new], vec![]))), Refusal::Invalid(_)), "no page 0");
    assert!(matches!(refused(&pages(&mut world, &owner, &[])), Refusal::Behind(_)));
    assert_eq!(world.node.list(PG).unwrap().len(), 2, "what does not sum leaves no trace");
    world.ask(adopt(&owner, 0, false, &[&kept], vec![]));
    assert!(
        matches!(refused(&world.ask(adopt(&owner, 2, true, &[], vec![]))), Refusal::Invalid(_)),
        "a page is missing"
    );
    let NodeReply::Heard(head) = pages(&mut world, &owner, &[&waiting]) else { panic!("not adopted") };
    assert!(head.level && head.prepared.is_empty());
    for _ in 0..2 {
        assert_eq!(world.node.list(PG).unwrap().len(), 3);
        assert_eq!(world.node.tombstones(PG).unwrap().get(&lost.extent), Some(&buried.seq));
        assert_eq!(world.node.heard(PG), Some(&owner.row));
        assert!(world.disk.files.contains_key(&lost.fragment()), "left for the retirement");
        world = world.restart(false);
    }
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 1, more: false });
    assert_eq!(names(&world.disk), [kept.fragment(), waiting.fragment()]);
}

#[test]
fn what_is_found_out_while_a_list_is_adopted_is_not_forgotten() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let (rotten, mended) = (world.create(&mut owner), world.create(&mut owner));
    let check = |made: &Made| NodeRequest::Check { fragment: made.fragment() };
    let spoil = |world: &mut World, made: &Made, class: &str| {
        world.disk.files.get_mut(&made.fragment()).unwrap().class = class.into();
    };
    spoil(&mut world, &mended, "rot.payload");
    world.ask(check(&mended));
    assert!(world.node.is_damaged(mended.fragment()));
    owner.row.seq += 1;
    world.held = true;
    let id = world.send(adopt(&owner, 0, true, &[&rotten, &mended], vec![]), Body::new());
    while world.waiting.iter().all(|(_, call)| call_name(call) != "replace") {
        world.perform(0);
    }
    // The new journal is on its way to the disk when a reader and a check find out about two files.
    spoil(&mut world, &rotten, "rot.payload");
    spoil(&mut world, &mended, "healthy");
    for made in [&rotten, &mended] {
        world.send(check(made), Body::new());
        let at = world.waiting.iter().position(|(_, call)| call_name(call) == "check").unwrap();
        world.perform(at);
    }
    world.release();
    assert!(matches!(world.answer(id), Some(NodeReply::Heard(head)) if head.level));
    for life in ["this life", "the next"] {
        assert!(world.node.is_damaged(rotten.fragment()), "{life}");
        assert!(!world.node.is_damaged(mended.fragment()), "{life}");
        world = world.restart(false);
    }
}

#[test]
fn pages_of_two_owners_are_not_one_list() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = owner.make(5000);
    owner.commit(&made);
    owner.trim();
    world.ask(adopt(&owner, 0, false, &[&made], vec![]));
    owner.reclaim();
    assert!(matches!(refused(&world.ask(adopt(&owner, 1, true, &[], vec![]))), Refusal::Invalid(_)));
    assert!(matches!(world.ask(adopt(&owner, 0, true, &[&made], vec![])), NodeReply::Heard(head) if head.level));
}

#[test]
fn a_lost_journal_means_behind_until_a_list_was_adopted() {
    for bytes in [Err("input/output error".to_string()), Ok(vec![]), Ok(vec![7; 300])] {
        let owner = Owner::new();
        let journals = vec![JournalFile { pg: PG, bytes }];
        let mut world = World::boot_with(config(), Disk::default(), Some(CELL), journals);
        // The row is empty, and an empty list sums to it: still nobody knows what was prepared here.
        for _ in 0..2 {
            assert!(world.node.is_journal_lost(PG));
            assert!(!world.head(owner.fence()).level);
            assert_eq!(world.node.heard(PG), None);
            world = world.restart(false);
        }
        assert!(matches!(world.ask(adopt(&owner, 0, true, &[], vec![])), NodeReply::Heard(head) if head.level));
        let mut world = world.restart(false);
        assert!(world.head(owner.fence()).level);
    }
}

#[test]
fn a_disk_that_is_not_in_the_row_is_a_guest_and_its_retirement_forgets_all_but_the_token() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    owner.row.members[1] = DiskId(99);
    (owner.row.seq, owner.row.epoch) = (owner.row.seq + 1, 2);
    assert!(!world.head(owner.hear()).level);
    // What it has can still be read, with the record.
    let read = world.ask(NodeRequest::Read { fragment: made.fragment(), offset: 0, bytes: 4096 });
    assert!(matches!(read, NodeReply::Data { .. }));
    assert_eq!(world.ask(NodeRequest::Record { extent: made.extent, hash: made.hash }), NodeReply::Record);
    assert!(matches!(refused(&world.ask(adopt(&owner, 0, true, &[&made], vec![]))), Refusal::Behind(_)));
    let other = owner.make(5000);
    world.stage(&owner, &other);
    assert!(matches!(refused(&world.ask_with(owner.prepare(&other), other.record)), Refusal::Behind(_)));
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 1, more: false });
    assert!(world.disk.files.is_empty() && world.disk.quarantine.contains(&made.fragment()));
    for _ in 0..2 {
        assert!(world.node.list(PG).unwrap().is_empty() && world.node.heard(PG).is_none());
        assert_eq!(world.node.token(PG), Some(owner.token));
        world = world.restart(false);
    }
    // It may come back through joining.
    owner.row.joining.insert(2, DISK);
    owner.trim();
    assert!(!world.head(owner.fence()).level);
    assert!(matches!(world.ask(adopt(&owner, 0, true, &[&made], vec![])), NodeReply::Heard(head) if head.level));
    assert_eq!(world.node.list(PG).unwrap().len(), 1);
}

#[test]
fn retiring_puts_aside_what_neither_list_nor_preparation_names() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let kept = world.create(&mut owner);
    let waiting = owner.make(5000);
    world.stage(&owner, &waiting);
    world.ask_with(owner.prepare(&waiting), waiting.record.clone());
    let orphan = owner.make(5000);
    let file = world.disk.files[&kept.fragment()].clone();
    let other_index = FragmentKey { index: 2, ..kept.fragment() };
    world.disk.files.insert(orphan.fragment(), file.clone());
    world.disk.files.insert(other_index, file);
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 2, more: false });
    assert_eq!(names(&world.disk), [kept.fragment(), waiting.fragment()]);
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 0, more: false });
    // The next row ends their time in quarantine.
    owner.trim();
    world.head(owner.hear());
    assert!(world.disk.quarantine.is_empty());
}

#[test]
fn a_file_put_aside_published_anew_and_deleted_goes_for_good() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    // Published here, but the node died before it could say so; retired; committed by the others; rebuilt here.
    let made = owner.make(5000);
    let kept = world.create(&mut owner);
    let mut file = world.disk.files[&kept.fragment()].clone();
    file.record = made.record.clone();
    world.disk.files.insert(made.fragment(), file);
    assert_eq!(world.ask(owner.retire()), NodeReply::Retired { files: 1, more: false });
    owner.commit(&made);
    world.stage(&owner, &made);
    assert_eq!(world.ask_with(owner.publish(made.key()), made.record.clone()), NodeReply::Published);
    // Its journal may still say that the file is on its way out.
    let mut world = world.restart(false);
    owner.row.seq += 1;
    world.head(owner.hear());
    assert_eq!(names(&world.disk), [made.fragment(), kept.fragment()], "wanted again, it stays");
    let attempt = owner.attempt();
    owner.commit_delete(&made, attempt);
    world.head(owner.hear());
    assert_eq!(names(&world.disk), [kept.fragment()]);
}

#[test]
fn a_repair_publishes_only_what_the_list_names() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let unlisted = owner.make(5000);
    world.stage(&owner, &unlisted);
    let reply = world.ask_with(owner.publish(unlisted.key()), unlisted.record.clone());
    assert!(matches!(refused(&reply), Refusal::Invalid(_)));
    // Lost, then rebuilt under another attempt.
    world.disk.files.clear();
    let key = StageKey { attempt: owner.attempt(), ..made.key() };
    let reply = world.ask_with(owner.publish(key), made.record.clone());
    assert!(matches!(refused(&reply), Refusal::NotStaged(_)));
    world.stage_as(&owner, &made, StageKey { index: 2, ..key });
    let reply = world.ask_with(owner.publish(StageKey { index: 2, ..key }), made.record.clone());
    assert!(matches!(refused(&reply), Refusal::Invalid(_)), "another's index");
    world.stage_as(&owner, &made, key);
    let reply = world.ask_with(owner.publish(key), unlisted.record);
    assert!(matches!(refused(&reply), Refusal::Invalid(_)));
    assert_eq!(world.ask_with(owner.publish(key), made.record.clone()), NodeReply::Published);
    assert!(world.disk.files[&made.fragment()].durable);
    // The answer was lost; the stage is gone.
    assert_eq!(world.ask_with(owner.publish(key), made.record), NodeReply::Published);
}

#[test]
fn a_repair_replaces_a_damaged_file_and_keeps_a_sound_one() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let key = StageKey { attempt: owner.attempt(), ..made.key() };
    for class in ["healthy", "rot.payload"] {
        let file = world.disk.files.get_mut(&made.fragment()).unwrap();
        file.class = class.into();
        world.ask(NodeRequest::Check { fragment: made.fragment() });
        assert_eq!(world.node.is_damaged(made.fragment()), class != "healthy");
        world.stage_as(&owner, &made, key);
        assert_eq!(world.ask_with(owner.publish(key), made.record.clone()), NodeReply::Published);
        assert!(!world.node.is_damaged(made.fragment()));
        assert_eq!(world.disk.files[&made.fragment()].class, "healthy");
        // What it replaced is of no use any more.
        assert_eq!(world.disk.unlinked.contains(&made.fragment()), class != "healthy");
        assert!(world.disk.quarantine.is_empty());
        assert_eq!(world.disk.stages(), 0);
    }
    assert!(!world.restart(false).node.is_damaged(made.fragment()));
}

#[test]
fn a_long_repair_goes_by_the_row_the_member_has_heard_meanwhile() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    let began = owner.clone();
    world.disk.files.clear();
    let key = StageKey { attempt: owner.attempt(), ..made.key() };
    world.stage_as(&owner, &made, key);
    world.create(&mut owner);
    assert_eq!(world.ask_with(began.publish(key), made.record.clone()), NodeReply::Published);
    // Not after another claim, and not once the extent is deleted.
    world.disk.files.remove(&made.fragment());
    world.stage_as(&owner, &made, key);
    let attempt = owner.attempt();
    owner.commit_delete(&made, attempt);
    world.head(owner.hear());
    assert!(matches!(refused(&world.ask_with(began.publish(key), made.record.clone())), Refusal::Invalid(_)));
    owner.reclaim();
    world.head(owner.fence());
    assert!(matches!(refused(&world.ask_with(began.publish(key), made.record)), Refusal::Fenced(_)));
}

#[test]
fn a_failed_write_is_refused_counts_for_nothing_and_its_journal_is_written_anew() {
    for (call, error) in [
        ("finish", StoreError::NoSpace("full".into())),
        ("publish", StoreError::Io("gone".into())),
        ("sync", StoreError::Io("gone".into())),
        ("append", StoreError::Io("gone".into())),
    ] {
        let (mut world, mut owner) = (World::new(), Owner::new());
        world.head(owner.fence());
        let made = owner.make(5000);
        world.stage(&owner, &made);
        world.disk.failing.push((call, error.clone()));
        let reply = world.ask_with(owner.prepare(&made), made.record.clone());
        match error {
            StoreError::NoSpace(_) => assert!(matches!(refused(&reply), Refusal::NoSpace(_))),
            _ => assert!(matches!(refused(&reply), Refusal::Store(_)), "{call}"),
        }
        assert!(world.node.prepared(PG).unwrap().is_empty());
        assert_eq!(world.disk.stages(), 0, "{call}");
        world.disk.log.clear();
        let dead = owner.attempt();
        world.ask(owner.abort(dead));
        let expected = if call == "append" { "replace" } else { "append" };
        assert_eq!(world.disk.log, [expected]);
        let again = Made { attempt: owner.attempt(), ..made.clone() };
        world.stage(&owner, &again);
        let reply = world.ask_with(owner.prepare(&again), made.record.clone());
        assert_eq!(reply, NodeReply::Prepared { attempt: again.attempt }, "{call}");
    }
}

#[test]
fn one_change_of_a_group_is_in_work_at_a_time_and_the_queue_is_bounded() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    world.held = true;
    let attempts: Vec<_> = (0..258).map(|_| owner.attempt()).collect();
    let ids: Vec<_> = attempts.iter().map(|attempt| world.send(owner.abort(*attempt), Body::new())).collect();
    assert_eq!(world.waiting.len(), 1, "one append at a time");
    assert!(matches!(refused(world.answer(ids[257]).unwrap()), Refusal::Busy(_)));
    assert_eq!(world.answer(ids[256]), None);
    world.release();
    assert_eq!(world.answer(ids[256]), Some(&NodeReply::Aborted { attempt: attempts[256] }));
    assert_eq!(world.node.abort_marks(PG).unwrap().len(), 257);
}

#[test]
fn another_group_does_not_wait() {
    let (mut world, owner) = (World::new(), Owner::new());
    let mut other = Owner::new();
    other.row.pg = PgId(8);
    world.held = true;
    let first = world.send(owner.fence(), Body::new());
    let second = world.send(other.fence(), Body::new());
    world.perform(1);
    assert_eq!(world.answer(first), None);
    assert!(matches!(world.answer(second), Some(NodeReply::Heard(head)) if head.level));
}

#[test]
fn a_journal_that_grew_long_is_written_anew_and_says_the_same() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = world.create(&mut owner);
    owner.trim();
    world.head(owner.hear());
    for _ in 0..400 {
        owner.row.seq += 1;
        assert!(world.head(owner.hear()).level);
    }
    let bytes = world.disk.journals[&PG].len();
    assert!(bytes < 80 << 10, "{bytes} bytes");
    assert!(world.disk.log.iter().filter(|call| **call == "replace").count() > 1);
    let world = world.restart(false);
    assert_eq!(world.node.heard(PG), Some(&owner.row));
    assert_eq!(world.node.list(PG).unwrap().get(&made.extent), Some(&made.hash));
}

#[test]
fn rows_that_make_no_sense_are_refused() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    let made = owner.make(5000);
    owner.commit(&made);
    let mut descending = owner.clone();
    descending.row.entries.push(descending.row.entries[0]);
    descending.row.entries[1].seq = 0;
    let mut future = owner.clone();
    future.row.entries[0].seq += 1;
    let mut nobody = owner.clone();
    nobody.row.members.clear();
    for owner in [descending, future, nobody] {
        assert!(matches!(refused(&world.ask(owner.fence())), Refusal::Invalid(_)));
    }
    assert_eq!(world.node.pgs().count(), 0, "refused, they leave nothing behind");
}

#[test]
fn a_delete_of_what_was_never_there_is_no_success() {
    let (mut world, mut owner) = (World::new(), Owner::new());
    world.head(owner.fence());
    let made = owner.make(5000);
    let attempt = owner.attempt();
    let kind = EntryKind::Delete;
    let (extent, hash) = (made.extent, made.hash);
    let request = NodeRequest::Prepare { authority: owner.authority(), attempt, kind, extent, hash };
    assert!(matches!(refused(&world.ask(request)), Refusal::Invalid(_)));
}
