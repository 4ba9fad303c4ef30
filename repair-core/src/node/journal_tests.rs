use super::*;
use crate::catalog::PgState;
use crate::id::{DiskId, Sum};
use crate::shape::{Former, Shape};
use std::collections::{BTreeMap, BTreeSet};

const PG: PgId = PgId(3);

fn extent(counter: u64) -> ExtentKey {
    ExtentKey(u128::from(counter) << 40 | 5)
}

fn attempt(number: u64) -> AttemptId {
    AttemptId { claim: ClaimId(77), number }
}

fn fragment(counter: u64) -> FragmentKey {
    FragmentKey { extent: extent(counter), generation: 1, index: 300 }
}

fn row(hashes: &[RecordHash]) -> PgRow {
    PgRow {
        pg: PG,
        incarnation: 2,
        seq: 9,
        epoch: 1,
        code: [1; 16],
        members: vec![DiskId(1), DiskId(2)],
        joining: BTreeMap::new(),
        behind: BTreeSet::new(),
        state: PgState::Open,
        crowded: false,
        next_id: 64,
        count: hashes.len() as u64,
        sum: Sum::of(hashes),
        trim: 0,
        entries: Vec::new(),
    }
}

/// One of every kind, in an order that leaves a sound ledger.
fn changes() -> Vec<Change> {
    let (one, two) = (RecordHash([1; 32]), RecordHash([0xee; 32]));
    let prepared = |number, kind| Prepared { attempt: attempt(number), kind, extent: extent(number), hash: two };
    vec![
        Change::Lost,
        Change::Token(Token { incarnation: 2, revision: 5, restore: 1 << 100, claim: ClaimId(77) }),
        Change::Aborted(attempt(1)),
        Change::Listed(extent(1), one),
        Change::Listed(extent(2), two),
        Change::Listed(extent(3), two),
        Change::Unlisted(extent(3)),
        Change::Heard(Box::new(row(&[one, two]))),
        Change::Prepared(prepared(4, EntryKind::Create)),
        Change::Prepared(prepared(5, EntryKind::Delete)),
        Change::Prepared(prepared(6, EntryKind::Create)),
        Change::Unprepared(attempt(6)),
        Change::Buried(extent(3), 8),
        Change::Doomed(fragment(3), 8),
        Change::Doomed(fragment(4), 8),
        Change::Undoomed(fragment(4)),
        Change::Damaged(fragment(1), "rot.payload".into()),
        Change::Damaged(fragment(2), "missing".into()),
        Change::Sound(fragment(2)),
        Change::Scrubbed(6, None),
        Change::Torn(3),
        Change::Scrubbed(7, Some(extent(2))),
        Change::Shaped(extent(1), Shape { generation: 1 << 36 | 7, fragments: 3 }),
        Change::Superseded(extent(1), Former { hash: two, shape: Shape { generation: 1, fragments: 6 } }),
        Change::Superseded(extent(2), Former { hash: one, shape: Shape { generation: 1, fragments: 6 } }),
        Change::Released(extent(2)),
        Change::Prepared(prepared(7, EntryKind::Supersede)),
        Change::PreparedShape(attempt(7), Shape { generation: 1 << 36 | 8, fragments: 2 }),
        Change::Prepared(prepared(8, EntryKind::Release)),
        Change::Prepared(prepared(9, EntryKind::CreateOther)),
    ]
}

fn ledger(changes: Vec<Change>) -> Ledger {
    let mut ledger = Ledger::default();
    changes.into_iter().for_each(|change| ledger.apply(change));
    ledger
}

/// A journal of one record for all changes up to the row, so that list and row agree, then one each.
fn journal() -> Vec<u8> {
    let (mut bytes, mut number) = snapshot(PG, &Ledger::default());
    let all = changes();
    bytes.extend(record(PG, number, &all[..8]));
    for change in &all[8..] {
        number += 1;
        bytes.extend(record(PG, number, std::slice::from_ref(change)));
    }
    bytes
}

/// Where the records begin, and the end.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let mut borders = vec![0];
    while let Some((_, _, next)) = any_record_at(PG, bytes, *borders.last().unwrap()) {
        borders.push(next);
    }
    borders
}

#[test]
fn every_change_is_read_back_and_a_snapshot_says_the_same() {
    let replayed = replay(PG, &journal()).unwrap();
    let expected = ledger(changes());
    assert_eq!(replayed.ledger, expected);
    assert!(!replayed.torn);
    assert_eq!(replayed.next_number, 2 + changes().len() as u64 - 8);
    let (bytes, number) = snapshot(PG, &expected);
    let again = replay(PG, &bytes).unwrap();
    assert_eq!((again.ledger, again.next_number, again.torn), (expected.clone(), number, false));
    // An estimate, but not far off: compaction goes by it.
    let ratio = expected.snapshot_bytes() as f64 / bytes.len() as f64;
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
}

#[test]
fn a_long_list_makes_several_records() {
    let hash = RecordHash([3; 32]);
    let mut ledger = Ledger::default();
    (0..50_000).for_each(|counter| ledger.apply(Change::Listed(extent(counter), hash)));
    ledger.apply(Change::Heard(Box::new(row(&vec![hash; 50_000]))));
    let (bytes, number) = snapshot(PG, &ledger);
    assert!(number > 3);
    assert_eq!(replay(PG, &bytes).unwrap().ledger, ledger);
}

#[test]
fn a_journal_cut_anywhere_says_what_its_whole_records_say() {
    let bytes = journal();
    let borders = borders(&bytes);
    for end in borders[1]..bytes.len() {
        let whole = borders.iter().filter(|border| **border <= end).count() - 1;
        let replayed = replay(PG, &bytes[..end]).unwrap();
        assert_eq!(replayed.next_number, whole as u64);
        assert_eq!(replayed.torn, !borders.contains(&end), "cut at {end}");
        let prefix = replay(PG, &bytes[..borders[whole]]).unwrap();
        assert_eq!(replayed.ledger, prefix.ledger);
    }
    // Without its first record it is nothing.
    for end in 0..borders[1] {
        assert!(replay(PG, &bytes[..end]).is_err());
    }
}

#[test]
fn a_last_record_with_garbage_or_zeros_for_its_end_is_torn() {
    let bytes = journal();
    let borders = borders(&bytes);
    let last = borders[borders.len() - 2];
    for (from, fill) in [(last, 0), (last + 3, 0), (last + 25, 0), (last + 25, 0xa5)] {
        let mut torn = bytes.clone();
        torn[from..].fill(fill);
        torn.extend([fill; 5000]);
        let replayed = replay(PG, &torn).unwrap();
        assert!(replayed.torn);
        assert_eq!(replayed.next_number, borders.len() as u64 - 2);
    }
}

#[test]
fn a_bit_turned_in_front_of_a_sound_record_loses_the_journal() {
    let bytes = journal();
    let borders = borders(&bytes);
    for at in 0..borders[borders.len() - 2] {
        let mut rotten = bytes.clone();
        rotten[at] ^= 1 << (at % 8);
        assert!(replay(PG, &rotten).is_err(), "byte {at}");
    }
}

#[test]
fn a_record_taken_out_or_another_groups_journal_is_not_believed() {
    let bytes = journal();
    let borders = borders(&bytes);
    let without = [&bytes[..borders[3]], &bytes[borders[4]..]].concat();
    assert!(replay(PG, &without).is_err());
    assert!(replay(PgId(4), &bytes).is_err());
    assert!(replay(PG, &[]).is_err());
}

#[test]
fn a_journal_whose_list_does_not_sum_to_its_row_is_not_believed() {
    let (mut bytes, number) = snapshot(PG, &Ledger::default());
    bytes.extend(record(PG, number, &[Change::Listed(extent(1), RecordHash([1; 32]))]));
    assert!(replay(PG, &bytes).is_err());
    bytes.extend(record(PG, number + 1, &[Change::Heard(Box::new(row(&[RecordHash([2; 32])])))]));
    assert!(replay(PG, &bytes).is_err());
}

#[test]
fn a_sealed_record_that_says_what_nobody_knows_is_refused() {
    let (head, number) = snapshot(PG, &Ledger::default());
    for payload in [&[99u8][..], &[3, 1], &[2, 255, 255, 255, 255], &[2, 0, 0, 0, 0], &[5; 30], &[4]] {
        let mut bytes = head.clone();
        push_record(&mut bytes, PG, number, payload);
        assert!(replay(PG, &bytes).is_err(), "{payload:?}");
    }
    let mut newer = Vec::new();
    push_record(&mut newer, PG, 0, &[2, 0, 3, 0, 0, 0]);
    assert!(replay(PG, &newer).is_err());
}

#[test]
fn a_journal_made_to_be_searched_for_ever_is_not_believed() {
    let (head, number) = snapshot(PG, &Ledger::default());
    // A torn record whose payload looks like the beginning of a record now and then is torn all the same.
    let mut torn = record(PG, number, &[Change::Lost]);
    torn[20] ^= 1;
    torn.extend_from_slice(&[MAGIC, &[200, 0, 0, 0, 0, 0][..], MAGIC, &[255; 300]].concat());
    assert!(replay(PG, &[head.clone(), torn].concat()).unwrap().torn);
    // This one would have each of its places summed to the end.
    let mut hostile = head;
    while hostile.len() < 1 << 20 {
        let rest = (1u32 << 20).saturating_sub(hostile.len() as u32 + ENVELOPE_BYTES as u32);
        hostile.extend_from_slice(&[&MAGIC[..], &rest.to_le_bytes()].concat());
    }
    assert!(replay(PG, &hostile).is_err());
}

#[test]
fn the_place_of_a_scrub_is_a_tag_and_25_bytes() {
    let mut bytes = Vec::new();
    Change::Scrubbed(0x0102, Some(ExtentKey(0x0304))).write(&mut bytes);
    Change::Scrubbed(5, None).write(&mut bytes);
    let mut expected = [&[14, 2, 1][..], &[0; 6], &[1, 4, 3], &[0; 14]].concat();
    expected.extend([&[14, 5][..], &[0; 7], &[0; 17]].concat());
    assert_eq!(bytes, expected);
}

#[test]
fn what_a_disk_lost_is_a_tag_and_four_bytes() {
    let mut bytes = Vec::new();
    Change::Torn(0x0102).write(&mut bytes);
    assert_eq!(bytes, [15, 2, 1, 0, 0]);
}
