//! Journals of a node: the truth of what it stores, read at every start from whatever a crash or a bad disk left.

use crate::{Input, bounded};
use repair_core::catalog::{PgRow, PgState};
use repair_core::id::{DiskId, PgId, RecordHash, Sum};
use repair_core::node::{JournalSays, examine_journal};
use repair_core::wire::codec::{decode_row, encode_row};
use std::collections::{BTreeMap, BTreeSet};

/// The placement group of a journal that is made here.
const PG: PgId = PgId(7);
const RECORDS_MAX: u64 = 64;
/// Magic, length, number, CRC.
const ENVELOPE_BYTES: usize = 20;

/// The first byte says what the others are: a journal as it is, or the payloads of records whose envelopes are made here.
pub fn node_journal(bytes: &[u8]) {
    let Some((what, bytes)) = bounded(bytes).split_first() else { return };
    if what.is_multiple_of(2) {
        return journal(bytes);
    }
    let mut input = Input(bytes);
    // An even version is not this program's.
    let version = 1 ^ (what >> 7);
    let mut whole = record(0, &[&[version, 0][..], &PG.0.to_le_bytes()].concat());
    let (mut list, mut known, mut last) = (List::default(), true, 0);
    for number in 1..=RECORDS_MAX {
        if input.is_empty() {
            break;
        }
        let payload_bytes = input.below(2_000).min(input.0.len());
        let (payload, rest) = input.0.split_at(payload_bytes);
        input.0 = rest;
        whole.extend(record(number, payload));
        (known, last) = (known && list.take(payload).is_some(), number);
    }
    journal(&whole);
    // With a row behind it that the list sums to, only what nobody knows can be refused.
    let mut level = whole.clone();
    level.extend(record(last + 1, &list.heard(u64::from(*what))));
    assert_eq!(examine_journal(PG, &level).is_ok(), known && version == 1);
    journal(&level);
    // The end of it torn, in the way that a byte says.
    let kept = whole.len() - usize::from(*what / 2 % 32).min(whole.len());
    journal(&whole[..kept]);
    let mut turned = whole.clone();
    turned[usize::from(*what) * 7 % whole.len()] ^= 1 << (what % 8);
    journal(&turned);
}

/// The list of extents that changes make, by the table of the format read once more.
#[derive(Default)]
struct List(BTreeMap<[u8; 16], RecordHash>);

impl List {
    /// None at what is no change.
    fn take(&mut self, mut payload: &[u8]) -> Option<()> {
        while let Some((tag, fields)) = payload.split_first() {
            let bytes = match tag {
                1 => 4 + 8 + 16 + 16,
                2 => {
                    let bytes = u32::from_le_bytes(*fields.first_chunk()?) as usize;
                    decode_row::<PgRow>(fields.get(4..)?.get(..bytes)?).ok()?;
                    4 + bytes
                }
                3 => 16 + 32,
                4 => 16,
                5 => 24 + 1 + 16 + 32,
                6..=8 => 24,
                9 => 26 + 8,
                10 | 12 => 26,
                11 => 27 + usize::from(*fields.get(26)?),
                13 => 0,
                14 => 8 + 1 + 16,
                _ => return None,
            };
            let (fields, rest) = fields.split_at_checked(bytes)?;
            match tag {
                3 => _ = self.0.insert(*fields.first_chunk()?, RecordHash(*fields.last_chunk()?)),
                4 => _ = self.0.remove(fields.first_chunk()?),
                5 if !(1..=2).contains(&fields[24]) => return None,
                _ => {}
            }
            payload = rest;
        }
        Some(())
    }

    /// That a row was heard which this list sums to.
    fn heard(&self, trim: u64) -> Vec<u8> {
        let row = PgRow {
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
            count: self.0.len() as u64,
            sum: Sum::of(self.0.values()),
            trim,
            entries: Vec::new(),
        };
        let row = encode_row(&row).expect("a small row");
        let bytes = u32::try_from(row.len()).expect("a small row");
        [&[2][..], &bytes.to_le_bytes(), &row].concat()
    }
}

fn record(number: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a part of a bounded input");
    let seal = crc32fast::hash(&[&PG.0.to_le_bytes()[..], &number.to_le_bytes(), payload].concat());
    [&b"N9J1"[..], &length.to_le_bytes(), &number.to_le_bytes(), &seal.to_le_bytes(), payload].concat()
}

/// Where each whole record of the right number ends.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![];
    let mut at = 0;
    while let Some(envelope) = bytes.get(at..at + ENVELOPE_BYTES) {
        let length = u32::from_le_bytes(*envelope[4..].first_chunk().expect("20 bytes")) as usize;
        let payload = bytes.get(at + ENVELOPE_BYTES..).and_then(|rest| rest.get(..length));
        let Some(payload) = payload.filter(|payload| bytes[at..].starts_with(&record(ends.len() as u64, payload)))
        else {
            break;
        };
        at += ENVELOPE_BYTES + payload.len();
        ends.push(at);
    }
    ends
}

/// What is believed is the whole records at the beginning; written anew it says the same.
fn journal(bytes: &[u8]) {
    let says = match examine_journal(PG, bytes) {
        Ok(says) => says,
        Err(refused) => return assert!((1..=300).contains(&refused.len()), "{refused}"),
    };
    let ends = ends(bytes);
    assert_eq!(says.records, ends.len() as u64);
    assert_eq!(says.torn, ends.last() != Some(&bytes.len()));
    let again = examine_journal(PG, &says.snapshot).expect("what was written from what was believed");
    let ends_anew = self::ends(&says.snapshot).len() as u64;
    assert_eq!(again, JournalSays { records: ends_anew, torn: false, snapshot: says.snapshot });
    // In front of a sound record nothing may be wrong: neither one bit nor a record that is not there.
    if let [first, second, .., last] = ends[..] {
        for at in [0, first - 1, first, second - 1] {
            let mut turned = bytes.to_vec();
            turned[at] ^= 1;
            assert!(examine_journal(PG, &turned).is_err(), "bit 0 of byte {at}");
        }
        let without = [&bytes[..first], &bytes[second..last]].concat();
        assert!(examine_journal(PG, &without).is_err(), "without record 1");
    }
    assert!(examine_journal(PgId(PG.0 + 1), bytes).is_err(), "another group's");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_made_here_are_believed() {
        let mut whole = record(0, &[1, 0, 7, 0, 0, 0]);
        for number in 1..4 {
            // That an earlier journal was lost.
            whole.extend(record(number, &[13]));
        }
        let says = examine_journal(PG, &whole).unwrap();
        assert_eq!((says.records, says.torn), (4, false));
        journal(&whole);
        journal(&whole[..whole.len() - 1]);
        assert_eq!(examine_journal(PG, &whole[..whole.len() - 1]).map(|says| (says.records, says.torn)), Ok((3, true)));
    }
}
