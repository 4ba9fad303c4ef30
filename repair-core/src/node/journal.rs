//! The journal of one placement group on one disk: what its member must not forget.
//!
//! ```text
//! record   "N9J1" | payload_bytes u32 | number u64 | crc u32 | payload      little-endian
//! crc      CRC-32 of placement group u32, number u64, payload
//! number   0 for the first, then one more each
//! payload  of record 0: version u16, placement group u32; of others: changes one after the other, each a tag byte and its
//!          fields, as `Change::write` has them
//! ```
//!
//! What is made durable at once is one record. So a crash leaves whole records and at most one torn one, the last, which
//! nobody was told about: it is cut off. A bad record in front of a good one is damage: then nothing in the file is believed.

use super::ledger::Ledger;
use crate::catalog::{EntryKind, PgRow};
use crate::id::{AttemptId, ClaimId, ExtentKey, PgId, RecordHash, Token};
use crate::shape::{Former, Shape};
use crate::wire::codec;
use crate::wire::node::{FragmentKey, Prepared};

const MAGIC: &[u8; 4] = b"N9J1";
const VERSION: u16 = 1;
const ENVELOPE_BYTES: usize = 20;
/// A snapshot is cut into records of about this much.
const SNAPSHOT_RECORD_BYTES: usize = 1 << 20;

/// How many times its own length of a damaged journal is summed in search of records behind the damage. The four bytes that a
/// record begins with come by chance once in four GiB.
const LOOKED_AT_MAX: usize = 16;

/// A change of a member's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This owner is obeyed, and no lower one.
    Token(Token),
    /// The list comes to this row.
    Heard(Box<PgRow>),
    /// On the list.
    Listed(ExtentKey, RecordHash),
    /// Off the list.
    Unlisted(ExtentKey),
    /// Stored, end unknown.
    Prepared(Prepared),
    /// Its end is known.
    Unprepared(AttemptId),
    /// Never to be prepared again.
    Aborted(AttemptId),
    /// Deleted at this sequence number.
    Buried(ExtentKey, u64),
    /// Its file goes to quarantine, and for good once the row of this sequence number is past.
    Doomed(FragmentKey, u64),
    /// It is gone for good.
    Undoomed(FragmentKey),
    /// Found to be of this class, which is not healthy.
    Damaged(FragmentKey, String),
    /// Sound again.
    Sound(FragmentKey),
    /// An earlier journal was lost: nothing stored here counts before a list was adopted.
    Lost,
    /// The pass of this number over all fragments has judged those of the list up to this extent; none: all, and its folder.
    Scrubbed(u64, Option<ExtentKey>),
    /// So many fragments of the list were found torn: the disk had said that they were durable.
    Torn(u32),
    /// The record on the list is of this shape and not of the group's.
    Shaped(ExtentKey, Shape),
    /// What this attempt prepared is of this shape.
    PreparedShape(AttemptId, Shape),
    /// Another record has taken this one's place.
    Superseded(ExtentKey, Former),
    /// The files of the superseded record are not needed any more.
    Released(ExtentKey),
}

impl Change {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Token(token) => {
                to.push(1);
                to.extend_from_slice(&token.incarnation.to_le_bytes());
                to.extend_from_slice(&token.revision.to_le_bytes());
                to.extend_from_slice(&token.restore.to_le_bytes());
                to.extend_from_slice(&token.claim.0.to_le_bytes());
            }
            Self::Heard(row) => {
                to.push(2);
                // A row came in a message, so it is within the codec's limit; were it not, an empty one is refused on reading.
                let bytes = codec::encode_row(row).unwrap_or_default();
                to.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                to.extend_from_slice(&bytes);
            }
            Self::Listed(extent, hash) => {
                to.push(3);
                to.extend_from_slice(&extent.0.to_le_bytes());
                to.extend_from_slice(&hash.0);
            }
            Self::Unlisted(extent) => {
                to.push(4);
                to.extend_from_slice(&extent.0.to_le_bytes());
            }
            Self::Prepared(prepared) => {
                to.push(5);
                write_attempt(to, prepared.attempt);
                to.push(match prepared.kind {
                    EntryKind::Create => 1,
                    EntryKind::Delete => 2,
                    EntryKind::Supersede => 3,
                    EntryKind::Release => 4,
                    EntryKind::CreateOther => 5,
                });
                to.extend_from_slice(&prepared.extent.0.to_le_bytes());
                to.extend_from_slice(&prepared.hash.0);
            }
            Self::Unprepared(attempt) => {
                to.push(6);
                write_attempt(to, *attempt);
            }
            Self::Aborted(attempt) => {
                to.push(7);
                write_attempt(to, *attempt);
            }
            Self::Buried(extent, seq) => {
                to.push(8);
                to.extend_from_slice(&extent.0.to_le_bytes());
                to.extend_from_slice(&seq.to_le_bytes());
            }
            Self::Doomed(fragment, seq) => {
                to.push(9);
                write_fragment(to, fragment);
                to.extend_from_slice(&seq.to_le_bytes());
            }
            Self::Undoomed(fragment) => {
                to.push(10);
                write_fragment(to, fragment);
            }
            Self::Damaged(fragment, class) => {
                to.push(11);
                write_fragment(to, fragment);
                let class = &class.as_bytes()[..class.len().min(255)];
                to.push(class.len() as u8);
                to.extend_from_slice(class);
            }
            Self::Sound(fragment) => {
                to.push(12);
                write_fragment(to, fragment);
            }
            Self::Lost => to.push(13),
            Self::Scrubbed(pass, after) => {
                to.push(14);
                to.extend_from_slice(&pass.to_le_bytes());
                to.push(after.is_some().into());
                to.extend_from_slice(&after.map_or(0, |extent| extent.0).to_le_bytes());
            }
            Self::Torn(times) => {
                to.push(15);
                to.extend_from_slice(&times.to_le_bytes());
            }
            Self::Shaped(extent, shape) => {
                to.push(16);
                to.extend_from_slice(&extent.0.to_le_bytes());
                write_shape(to, shape);
            }
            Self::PreparedShape(attempt, shape) => {
                to.push(17);
                write_attempt(to, *attempt);
                write_shape(to, shape);
            }
            Self::Superseded(extent, former) => {
                to.push(18);
                to.extend_from_slice(&extent.0.to_le_bytes());
                to.extend_from_slice(&former.hash.0);
                write_shape(to, &former.shape);
            }
            Self::Released(extent) => {
                to.push(19);
                to.extend_from_slice(&extent.0.to_le_bytes());
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(match from.byte()? {
            1 => Self::Token(Token {
                incarnation: from.u32()?,
                revision: from.u64()?,
                restore: from.u128()?,
                claim: ClaimId(from.u128()?),
            }),
            2 => {
                let bytes = from.u32()? as usize;
                Self::Heard(Box::new(codec::decode_row(from.take(bytes)?).ok()?))
            }
            3 => Self::Listed(from.extent()?, from.hash()?),
            4 => Self::Unlisted(from.extent()?),
            5 => {
                let attempt = from.attempt()?;
                let kind = match from.byte()? {
                    1 => EntryKind::Create,
                    2 => EntryKind::Delete,
                    3 => EntryKind::Supersede,
                    4 => EntryKind::Release,
                    5 => EntryKind::CreateOther,
                    _ => return None,
                };
                Self::Prepared(Prepared { attempt, kind, extent: from.extent()?, hash: from.hash()? })
            }
            6 => Self::Unprepared(from.attempt()?),
            7 => Self::Aborted(from.attempt()?),
            8 => Self::Buried(from.extent()?, from.u64()?),
            9 => Self::Doomed(from.fragment()?, from.u64()?),
            10 => Self::Undoomed(from.fragment()?),
            11 => {
                let fragment = from.fragment()?;
                let bytes = from.byte()?.into();
                Self::Damaged(fragment, String::from_utf8_lossy(from.take(bytes)?).into_owned())
            }
            12 => Self::Sound(from.fragment()?),
            13 => Self::Lost,
            14 => {
                let (pass, is_within, extent) = (from.u64()?, from.byte()?, from.extent()?);
                Self::Scrubbed(pass, (is_within != 0).then_some(extent))
            }
            15 => Self::Torn(from.u32()?),
            16 => Self::Shaped(from.extent()?, from.shape()?),
            17 => Self::PreparedShape(from.attempt()?, from.shape()?),
            18 => Self::Superseded(from.extent()?, Former { hash: from.hash()?, shape: from.shape()? }),
            19 => Self::Released(from.extent()?),
            _ => return None,
        })
    }
}

fn write_attempt(to: &mut Vec<u8>, attempt: AttemptId) {
    to.extend_from_slice(&attempt.claim.0.to_le_bytes());
    to.extend_from_slice(&attempt.number.to_le_bytes());
}

fn write_fragment(to: &mut Vec<u8>, fragment: &FragmentKey) {
    to.extend_from_slice(&fragment.extent.0.to_le_bytes());
    to.extend_from_slice(&fragment.generation.to_le_bytes());
    to.extend_from_slice(&fragment.index.to_le_bytes());
}

fn write_shape(to: &mut Vec<u8>, shape: &Shape) {
    to.extend_from_slice(&shape.generation.to_le_bytes());
    to.extend_from_slice(&shape.fragments.to_le_bytes());
}

/// Fields from bytes; none past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    fn extent(&mut self) -> Option<ExtentKey> {
        self.u128().map(ExtentKey)
    }

    fn hash(&mut self) -> Option<RecordHash> {
        self.array().map(RecordHash)
    }

    fn attempt(&mut self) -> Option<AttemptId> {
        Some(AttemptId { claim: ClaimId(self.u128()?), number: self.u64()? })
    }

    fn shape(&mut self) -> Option<Shape> {
        Some(Shape { generation: self.u64()?, fragments: self.u16()? })
    }

    fn fragment(&mut self) -> Option<FragmentKey> {
        Some(FragmentKey { extent: self.extent()?, generation: self.u64()?, index: self.u16()? })
    }
}

fn seal(pg: PgId, number: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&pg.0.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn push_record(to: &mut Vec<u8>, pg: PgId, number: u64, payload: &[u8]) {
    to.extend_from_slice(MAGIC);
    to.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    to.extend_from_slice(&number.to_le_bytes());
    to.extend_from_slice(&seal(pg, number, payload).to_le_bytes());
    to.extend_from_slice(payload);
}

/// One record of these changes.
pub(super) fn record(pg: PgId, number: u64, changes: &[Change]) -> Vec<u8> {
    let mut payload = Vec::new();
    changes.iter().for_each(|change| change.write(&mut payload));
    let mut bytes = Vec::with_capacity(ENVELOPE_BYTES + payload.len());
    push_record(&mut bytes, pg, number, &payload);
    bytes
}

/// A whole journal that says what `ledger` says, and the number of the record that would follow.
pub(super) fn snapshot(pg: PgId, ledger: &Ledger) -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let mut head = VERSION.to_le_bytes().to_vec();
    head.extend_from_slice(&pg.0.to_le_bytes());
    push_record(&mut bytes, pg, 0, &head);
    let (mut number, mut payload) = (1, Vec::new());
    for change in ledger.changes() {
        change.write(&mut payload);
        if payload.len() >= SNAPSHOT_RECORD_BYTES {
            push_record(&mut bytes, pg, number, &payload);
            payload.clear();
            number += 1;
        }
    }
    if !payload.is_empty() {
        push_record(&mut bytes, pg, number, &payload);
        number += 1;
    }
    (bytes, number)
}

/// What a journal says.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) ledger: Ledger,
    /// Number of the next record.
    pub(super) next_number: u64,
    /// Whether a torn record follows: nothing can be appended behind it.
    pub(super) torn: bool,
}

/// Reads a journal.
///
/// # Errors
/// Why nothing in it can be believed.
pub(super) fn replay(pg: PgId, bytes: &[u8]) -> Result<Replayed, String> {
    let (head, mut at) =
        record_at(pg, 0, bytes, 0).ok_or("its first record is damaged or of another placement group")?;
    let mut head = Reader(head);
    let version = head.u16().ok_or("its first record is too short")?;
    if version != VERSION {
        return Err(format!("version {version}, this program knows {VERSION}"));
    }
    if head.u32() != Some(pg.0) {
        return Err("it is of another placement group".into());
    }
    let (mut ledger, mut number) = (Ledger::default(), 1);
    while let Some((payload, next)) = record_at(pg, number, bytes, at) {
        let mut fields = Reader(payload);
        while !fields.0.is_empty() {
            let change =
                Change::read(&mut fields).ok_or(format!("record {number} says what this program does not know"))?;
            ledger.apply(change);
        }
        (at, number) = (next, number + 1);
    }
    if followed_by_a_record(pg, number, bytes, at) {
        return Err(format!("record {number} is damaged and others follow it"));
    }
    ledger.check()?;
    Ok(Replayed { ledger, next_number: number, torn: at != bytes.len() })
}

/// What can be said of a journal without a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSays {
    /// Whole records, the first included.
    pub records: u64,
    /// Whether a torn record follows them.
    pub torn: bool,
    /// A journal that says the same and no more.
    pub snapshot: Vec<u8>,
}

/// Reads a journal as a node does that starts on it, and writes what it says anew.
///
/// # Errors
/// Why nothing in it can be believed.
pub fn examine_journal(pg: PgId, bytes: &[u8]) -> Result<JournalSays, String> {
    let replayed = replay(pg, bytes)?;
    let (snapshot, _) = snapshot(pg, &replayed.ledger);
    Ok(JournalSays { records: replayed.next_number, torn: replayed.torn, snapshot })
}

/// The payload of a sound record of this number, and where the next begins.
fn record_at(pg: PgId, number: u64, bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (found, payload, next) = any_record_at(pg, bytes, at)?;
    (found == number).then_some((payload, next))
}

fn any_record_at(pg: PgId, bytes: &[u8], at: usize) -> Option<(u64, &[u8], usize)> {
    let mut fields = Reader(bytes.get(at..)?);
    if fields.array::<4>()? != *MAGIC {
        return None;
    }
    let length = fields.u32()? as usize;
    let (number, crc) = (fields.u64()?, fields.u32()?);
    let payload = fields.take(length)?;
    (seal(pg, number, payload) == crc).then_some((number, payload, at + ENVELOPE_BYTES + length))
}

/// Whether a sound record with a later number begins anywhere behind `at`. The length of the bad one may itself be damaged, so
/// every place is looked at that could be a beginning. Where so much looks like one that summing it all would take for ever, it was made
/// to, and is not believed.
fn followed_by_a_record(pg: PgId, number: u64, bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut begins = rest.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC);
    let mut patience_bytes = bytes.len().saturating_mul(LOOKED_AT_MAX);
    begins.any(|(offset, _)| {
        let begin = at + offset;
        let claimed = bytes.get(begin + 4..begin + 8).and_then(|length| Reader(length).u32());
        patience_bytes = patience_bytes.saturating_sub(claimed.unwrap_or(0).min(rest.len() as u32) as usize);
        patience_bytes == 0 || any_record_at(pg, bytes, begin).is_some_and(|(found, ..)| found >= number)
    })
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
