//! A folder of fragments, damaged step by step, then read back as a reader would.
//!
//! The model is what was written: three extents, two of them generations of one, with other bytes each. However the files were
//! changed, an extent comes back with the bytes that were written, or not at all with an error; and it must come back where
//! enough fragments are as they were and carry the record on file.
//!
//! Out of reach of the operations: other bytes with the right BLAKE3 hash. Everything below a hash is made right again by some
//! operation, so that each check is what stands alone between damage and the reader.

use crate::classes::{class_by_record, class_of_structure};
use crate::extent::{Extent, Fragment, Plan, record_range, reseal_footer, reseal_header};
use crate::{Input, bounded, set_crc};
use ec_core::fragment::{
    Class, ExtentId, ExtentRecord, FOOTER_BYTES, FragmentName, HEADER_BYTES, Hash, Header, RecordOnFile, Structure,
    Tail, bad_blocks, examine, examine_structure, examine_tail, judge, judge_payload, record_on_file,
};
use ec_core::geometry::BLOCK_BYTES;
use ec_core::{Code, CodeError, DecodeError, ShardIndex, ShardSet};
use std::collections::BTreeMap;
use std::sync::OnceLock;

const CODES: [&str; 8] = [
    "replicate:3",
    "rs:4+2",
    "lrc:4,2,2",
    "rs:3+2@cauchy",
    "rs:4+2@power",
    "rs:3+3@vandermonde",
    "lrc:6,2,2",
    "replicate:1",
];
/// Of an extent with `k` data shards: nothing, one byte, a short last block, one block each, a byte more.
const LENGTHS: [fn(usize) -> usize; 5] = [|_| 0, |_| 1, |_| 5_000, |k| k * BLOCK_BYTES, |k| k * BLOCK_BYTES + 1];
/// Kinds of operation; what is above a multiple chooses the other file.
const KINDS: u8 = 25;
const OPERATIONS_MAX: usize = 48;
/// Three whole sets of the widest code.
const FILES_MAX: usize = 30;
/// The largest file written here has 5 blocks.
const FILE_BYTES_MAX: usize = 24 * 1024;

/// The bytes choose a code and a length, then drive operations on the extent's fragments; then everything is read back.
pub fn fragment_set(bytes: &[u8]) {
    let mut input = Input(bounded(bytes));
    let world = world(input.byte().into(), input.byte().into());
    let mut folder = Folder { world, files: Vec::new() };
    folder.add_set(0);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        folder.operate(&mut input);
        assert!(folder.files.len() <= FILES_MAX && folder.files.iter().all(|file| file.bytes.len() <= FILE_BYTES_MAX));
    }
    folder.read_back();
}

/// What was written.
struct World {
    code: Code,
    /// An extent, its next generation, another extent.
    sets: [Extent; 3],
}

fn world(code: usize, length: usize) -> &'static World {
    static WORLDS: [OnceLock<World>; CODES.len() * LENGTHS.len()] =
        [const { OnceLock::new() }; CODES.len() * LENGTHS.len()];
    let (code, length) = (code % CODES.len(), length % LENGTHS.len());
    WORLDS[code * LENGTHS.len() + length].get_or_init(|| {
        let code = Code::new(&CODES[code].parse().expect("a specification")).expect("an MDS code and a kernel");
        let extent_bytes = LENGTHS[length](code.k());
        let encode = |extent, generation, paint| {
            Extent::encode(Plan { code: &code, extent: ExtentId(extent), generation, extent_bytes, paint })
        };
        World { sets: [encode(1, 1, 3), encode(1, 2, 5), encode(2, 1, 8)], code }
    })
}

/// A file in the folder. Its name is `None` where it says nothing.
#[derive(Clone)]
struct File {
    name: Option<FragmentName>,
    bytes: Vec<u8>,
    /// A checksum was made right again by hand.
    forged: bool,
}

struct Folder {
    world: &'static World,
    files: Vec<File>,
}

impl Folder {
    fn add(&mut self, file: File) {
        if self.files.len() < FILES_MAX {
            self.files.push(file);
        }
    }

    fn add_set(&mut self, set: usize) {
        for fragment in &self.world.sets[set].fragments {
            self.add(original(fragment));
        }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let (kind, distance) = (choice % KINDS, usize::from(choice / KINDS));
        if self.files.is_empty() || kind == 0 {
            return self.add_set(input.below(3));
        }
        let at = input.below(self.files.len());
        let other = (at + 1 + distance) % self.files.len();
        match kind {
            1 => self.add(original(self.some_fragment(input))),
            2 => drop(self.files.remove(at)),
            3 => self.add(self.files[at].clone()),
            4 => {
                let name = self.files[at].name;
                self.files[at].name = self.files[other].name;
                self.files[other].name = name;
            }
            5 => {
                let bytes = self.files[other].bytes.clone();
                self.files[other].bytes = std::mem::replace(&mut self.files[at].bytes, bytes);
                let forged = self.files[other].forged;
                self.files[other].forged = std::mem::replace(&mut self.files[at].forged, forged);
            }
            6 => self.files[at].name = if input.byte() == 0 { None } else { Some(self.some_fragment(input).name) },
            7 => self.files[at].bytes = self.some_fragment(input).file.clone(),
            8 => {
                let source = self.files[other].bytes.clone();
                copy(&source, &mut self.files[at].bytes, input);
                // A forged tail over the untouched file that it was forged from is as right as there.
                self.files[at].forged |= self.files[other].forged;
            }
            9 => {
                let source = &self.some_fragment(input).file;
                copy(source, &mut self.files[at].bytes, input);
            }
            kind => damage(kind, &mut self.files[at], input),
        }
    }

    fn some_fragment(&self, input: &mut Input<'_>) -> &'static Fragment {
        let world = self.world;
        let set = &world.sets[input.below(world.sets.len())];
        &set.fragments[input.below(set.fragments.len())]
    }
}

fn original(fragment: &Fragment) -> File {
    File { name: Some(fragment.name), bytes: fragment.file.clone(), forged: false }
}

/// Copies a part to the same place: header, payload, tail, footer or anything.
fn copy(source: &[u8], target: &mut [u8], input: &mut Input<'_>) {
    let common = source.len().min(target.len());
    let (start, end) = match input.byte() % 5 {
        0 => (0, HEADER_BYTES),
        1 => (HEADER_BYTES, common.saturating_sub(BLOCK_BYTES)),
        2 => (common.saturating_sub(BLOCK_BYTES), common),
        3 => (common.saturating_sub(FOOTER_BYTES), common),
        _ => {
            let at = input.below(common);
            (at, at + input.below(common))
        }
    };
    let (start, end) = (start.min(common), end.min(common));
    if start < end {
        target[start..end].copy_from_slice(&source[start..end]);
    }
}

/// Changes one file; from 16 on with some checksums made right again.
fn damage(kind: u8, file: &mut File, input: &mut Input<'_>) {
    let bytes = &mut file.bytes;
    let length = bytes.len();
    match kind {
        10 => bytes.truncate(input.below(length + 1)),
        11 => {
            let (more, byte) = (input.below(2 * BLOCK_BYTES), input.byte());
            bytes.resize((length + more).min(FILE_BYTES_MAX), byte);
        }
        12 => {
            let (at, count) = (input.below(length), input.word());
            bytes.iter_mut().skip(at).take(count).for_each(|byte| *byte = 0);
        }
        13 => bytes.fill(0),
        14 | 15 => flip(bytes, input),
        _ => {
            file.forged = true;
            forge(kind, bytes, input);
        }
    }
}

fn flip(bytes: &mut [u8], input: &mut Input<'_>) {
    let (at, mask) = (input.below(bytes.len()), input.byte().max(1));
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= mask;
    }
}

/// Writes up to 8 bytes.
fn patch(bytes: &mut [u8], input: &mut Input<'_>) {
    let (at, count) = (input.below(bytes.len()), usize::from(input.byte()) % 9);
    bytes.iter_mut().skip(at).take(count).for_each(|byte| *byte = input.byte());
}

fn forge(kind: u8, file: &mut [u8], input: &mut Input<'_>) {
    let record = record_range(file);
    match (kind, record) {
        (16 | 17, _) if file.len() >= HEADER_BYTES => {
            patch(&mut file[..HEADER_BYTES], input);
            reseal_header(file);
            if kind == 17 {
                reseal_footer(file);
            }
        }
        // The footer's own fields.
        (18, _) if file.len() >= FOOTER_BYTES => {
            let footer_at = file.len() - FOOTER_BYTES;
            patch(&mut file[footer_at..], input);
            set_crc(&mut file[footer_at..]);
        }
        (19, Some(record)) => {
            patch(&mut file[record.clone()], input);
            set_crc(&mut file[record]);
            reseal_footer(file);
        }
        // Anything in the tail, zeros included.
        (20, Some(record)) => {
            flip(&mut file[record.start..], input);
            reseal_footer(file);
        }
        // Nothing else: what an operation before left is made to look right.
        (24, _) => {
            reseal_header(file);
            reseal_footer(file);
        }
        (21..=23, Some(record)) => forge_payload(kind, file, record.start, input),
        _ => flip(file, input),
    }
}

/// Another payload with right block CRCs (21), and the footer's root (22), and the root in its own record (23).
fn forge_payload(kind: u8, file: &mut [u8], record_at: usize, input: &mut Input<'_>) {
    let Ok(header) = Header::parse(&file[..HEADER_BYTES]) else { return };
    let identity = header.identity;
    let payload_bytes = usize::try_from(identity.payload_bytes).expect("the file has its length");
    let table_at = HEADER_BYTES + payload_bytes;
    flip(&mut file[HEADER_BYTES..table_at], input);
    let payload = file[HEADER_BYTES..table_at].to_vec();
    for (number, block) in (0u32..).zip(payload.chunks(BLOCK_BYTES)) {
        let crc = identity.seed().crc(number, block).to_le_bytes();
        file[table_at + 4 * number as usize..][..4].copy_from_slice(&crc);
    }
    let root = identity.root(&Hash::of(&payload));
    if kind >= 22 {
        let root_at = file.len() - FOOTER_BYTES + 72;
        file[root_at..root_at + 32].copy_from_slice(root.as_bytes());
    }
    if kind >= 23 {
        let end = record_at + header.record_bytes as usize;
        if let Ok(mut record) = ExtentRecord::parse(&file[record_at..end]) {
            record.fragments.iter_mut().filter(|entry| entry.identity == identity).for_each(|entry| entry.root = root);
            let bytes = record.to_bytes().expect("a record that was right");
            if bytes.len() == end - record_at {
                file[record_at..end].copy_from_slice(&bytes);
            }
        }
    }
    reseal_footer(file);
}

/// A file whose header and tail are right.
struct Whole<'a> {
    file: &'a File,
    header: Header,
    tail: Tail,
    payload: &'a [u8],
}

/// Why an extent does not come back.
#[derive(Debug)]
#[expect(dead_code, reason = "shown by failing assertions")]
enum Refused {
    Code(CodeError),
    Decode(DecodeError),
    Root(ShardIndex),
    ExtentHash,
}

impl Folder {
    fn read_back(&self) {
        let whole: Vec<Whole<'_>> = self.files.iter().filter_map(|file| self.look_at(file)).collect();
        let candidates = || whole.iter().map(|whole| (whole.header.identity.extent, &whole.tail.record_bytes[..]));
        let on_file = record_on_file(candidates());
        assert_eq!(on_file, record_on_file(candidates().rev()), "the order of the files must not matter");
        let of_another = whole.iter().map(|whole| (ExtentId(0xbad), &whole.tail.record_bytes[..]));
        assert!(record_on_file(of_another).is_empty(), "a record stands for an extent it does not name");
        for (extent, record) in &on_file {
            let of_extent: Vec<&Whole<'_>> =
                whole.iter().filter(|whole| whole.header.identity.extent == *extent).collect();
            most_carried(record, &of_extent);
            self.read_extent(record, &of_extent);
        }
    }

    /// The first two steps, compared with [`examine`], which does all of them, and with the definition.
    fn look_at<'a>(&self, file: &'a File) -> Option<Whole<'a>> {
        let examination = examine(&file.bytes);
        assert_eq!(examination.reason.is_empty(), examination.class == Class::Healthy, "{}", examination.reason);
        if examination.class == Class::Healthy && !file.forged {
            let written = self.world.sets.iter().flat_map(|set| &set.fragments).any(|known| known.file == file.bytes);
            assert!(written, "damage went unseen");
        }
        let class = class_of_structure(&file.bytes);
        let header_bytes = &file.bytes[..file.bytes.len().min(HEADER_BYTES)];
        let last = &file.bytes[file.bytes.len().saturating_sub(FOOTER_BYTES)..];
        let (header, layout) = match examine_structure(file.bytes.len() as u64, header_bytes, last) {
            Structure::Ok(header, layout) => (header, layout),
            Structure::Damaged(found, reason) => {
                assert_eq!((found, &reason, found), (examination.class, &examination.reason, class));
                return None;
            }
        };
        let table_at = usize::try_from(layout.table_at).expect("inside the file");
        match examine_tail(&header, header_bytes, &file.bytes[table_at..]) {
            Ok(tail) => {
                let by_itself = class_by_record(None, &file.bytes, &tail.record, &tail.record_bytes);
                assert_eq!((Class::Healthy, by_itself), (class, examination.class), "{}", examination.reason);
                Some(Whole { file, header, tail, payload: &file.bytes[HEADER_BYTES..table_at] })
            }
            Err((found, reason)) => {
                assert_eq!((found, &reason, found), (examination.class, &examination.reason, class));
                None
            }
        }
    }

    fn read_extent(&self, on_file: &RecordOnFile, whole: &[&Whole<'_>]) {
        let set = self.world.sets.iter().find(|set| set.record_bytes == on_file.bytes);
        let mut usable: BTreeMap<ShardIndex, &[u8]> = BTreeMap::new();
        let mut as_written = ShardSet::EMPTY;
        for whole in whole {
            let identity = whole.header.identity;
            let healthy = settle(whole, on_file);
            if let Some(fragment) = set.and_then(|set| set.fragments.get(identity.index.at())) {
                let intact =
                    whole.file.bytes == fragment.file && whole.file.name.is_none_or(|name| name == fragment.name);
                assert!(healthy || !intact, "{} is as it was written", fragment.name);
                assert!(!healthy || whole.payload == fragment.payload(), "{} has other bytes", fragment.name);
                if intact {
                    as_written.insert(identity.index);
                }
            }
            if healthy {
                let first = usable.entry(identity.index).or_insert(whole.payload);
                assert!(*first == whole.payload, "two verified copies of {} differ", identity.index);
            }
        }
        let outcome = decode(&on_file.record, &usable);
        if let Ok(bytes) = &outcome {
            let written = self.world.sets.iter().any(|known| known.bytes == *bytes);
            assert!(written, "other bytes came back than any that were written");
        }
        let Some(set) = set else { return };
        match outcome {
            Ok(bytes) => assert!(bytes == set.bytes, "the bytes of another extent came back"),
            Err(refused) => {
                let missing = as_written.complement(self.world.code.n());
                assert!(!self.world.code.decodable(&missing), "{refused:?} with {as_written:?} as they were written");
                assert!(matches!(refused, Refused::Decode(DecodeError::NotDecodable { .. })), "{refused:?}");
            }
        }
    }
}

/// No readable record of the extent is carried by more fragments.
fn most_carried(on_file: &RecordOnFile, whole: &[&Whole<'_>]) {
    let carriers = |bytes: &[u8]| whole.iter().filter(|whole| whole.tail.record_bytes == bytes).count();
    assert_eq!(on_file.carriers, carriers(&on_file.bytes));
    for other in whole {
        let (found, tail) = (carriers(&other.tail.record_bytes), &other.tail);
        assert!(found <= on_file.carriers, "{found} carry another record, {} this one", on_file.carriers);
        assert!(found < on_file.carriers || tail.record.revision <= on_file.record.revision, "a later revision");
    }
}

/// Whether a whole fragment is verified against the record on file: the last two steps.
fn settle(whole: &Whole<'_>, on_file: &RecordOnFile) -> bool {
    let (header, tail) = (&whole.header, &whole.tail);
    let judged = judge(whole.file.name, header, &tail.root, &tail.record_bytes, &on_file.record, &on_file.bytes)
        .and_then(|()| {
            // In two pieces, as a payload streams by.
            let split = whole.payload.len().min(BLOCK_BYTES);
            let (first, rest) = whole.payload.split_at(split);
            let seed = header.identity.seed();
            let bad = bad_blocks(seed, &tail.table, 0, first).len() + bad_blocks(seed, &tail.table, 1, rest).len();
            judge_payload(bad as u64, &header.identity.root(&Hash::of(whole.payload)), &tail.root)
        });
    let by_definition = class_by_record(whole.file.name, &whole.file.bytes, &on_file.record, &on_file.bytes);
    match judged {
        Ok(()) => assert_eq!(by_definition, Class::Healthy),
        Err((class, reason)) => {
            assert_eq!(by_definition, class, "{reason}");
            assert!(!reason.is_empty());
        }
    }
    by_definition == Class::Healthy
}

/// Reads an extent from verified payloads: all missing shards are rebuilt and compared with their roots, the extent with its
/// hash.
fn decode(record: &ExtentRecord, usable: &BTreeMap<ShardIndex, &[u8]>) -> Result<Vec<u8>, Refused> {
    let code = Code::new(&record.code).map_err(Refused::Code)?;
    let available: ShardSet = usable.keys().copied().collect();
    let present: Vec<(ShardIndex, &[u8])> = usable.iter().map(|(index, payload)| (*index, *payload)).collect();
    let lost_data: ShardSet = available.complement(code.k());
    let plan = code.plan(&lost_data, &available).map_err(|refused| {
        assert!(!code.decodable(&available.complement(code.n())), "{refused}");
        Refused::Decode(refused)
    })?;
    assert!(plan.reads().iter().all(|index| available.contains(*index)));

    // A verified payload is as long as its record says, so what is allocated is at most a file for each of the n shards.
    let shard_bytes = present.first().map_or(0, |(_, payload)| payload.len());
    let lost = available.complement(code.n());
    let mut rebuilt: BTreeMap<ShardIndex, Vec<u8>> = lost.iter().map(|index| (index, vec![0; shard_bytes])).collect();
    let mut wanted: Vec<(ShardIndex, &mut [u8])> =
        rebuilt.iter_mut().map(|(index, bytes)| (*index, &mut bytes[..])).collect();
    // An extent without bytes has shards without bytes, and nothing to decode.
    if shard_bytes > 0 {
        code.decode(&present, &mut wanted).map_err(Refused::Decode)?;
    }
    for (index, bytes) in &rebuilt {
        let entry = record.fragments[index.at()];
        if entry.identity.root(&Hash::of(bytes)) != entry.root {
            return Err(Refused::Root(*index));
        }
    }
    let mut planned: Vec<(ShardIndex, Vec<u8>)> = lost_data.iter().map(|index| (index, vec![0; shard_bytes])).collect();
    let mut wanted: Vec<(ShardIndex, &mut [u8])> =
        planned.iter_mut().map(|(index, bytes)| (*index, &mut bytes[..])).collect();
    if shard_bytes > 0 {
        plan.run(&present, &mut wanted).map_err(Refused::Decode)?;
    }
    assert!(planned.iter().all(|(index, bytes)| rebuilt[index] == *bytes), "plan and decode differ");

    let mut bytes = Vec::new();
    for index in ShardSet::first(code.k()).iter() {
        bytes.extend_from_slice(usable.get(&index).copied().unwrap_or_else(|| &rebuilt[&index]));
    }
    bytes.truncate(usize::try_from(record.extent_bytes).unwrap_or(usize::MAX));
    if Hash::of(&bytes) == record.extent_hash { Ok(bytes) } else { Err(Refused::ExtentHash) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(code: usize, length: usize) -> Folder {
        let mut folder = Folder { world: world(code, length), files: Vec::new() };
        folder.add_set(0);
        folder
    }

    fn usable(folder: &Folder) -> (RecordOnFile, Vec<u16>) {
        let whole: Vec<Whole<'_>> = folder.files.iter().filter_map(|file| folder.look_at(file)).collect();
        let candidates = whole.iter().map(|whole| (whole.header.identity.extent, &whole.tail.record_bytes[..]));
        let on_file = record_on_file(candidates).remove(&ExtentId(1)).unwrap();
        let healthy = whole.iter().filter(|whole| settle(whole, &on_file));
        let indices = healthy.map(|whole| whole.header.identity.index.get()).collect();
        (on_file, indices)
    }

    #[test]
    fn every_world_reads_back_as_it_was_written() {
        for code in 0..CODES.len() {
            for length in 0..LENGTHS.len() {
                let folder = folder(code, length);
                assert!(folder.files.iter().all(|file| file.bytes.len() <= FILE_BYTES_MAX));
                assert!(3 * folder.world.code.n() <= FILES_MAX);
                folder.read_back();
                let n = u16::try_from(folder.world.code.n()).unwrap();
                assert_eq!(usable(&folder).1, (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn forgeries_get_as_far_as_they_should() {
        // rs:4+2 with short blocks; what the files of index 0 are found to be.
        let forged = |operation: &[u8]| {
            let mut folder = folder(1, 2);
            folder.operate(&mut Input(operation));
            let (class, file) = (examine(&folder.files[0].bytes).class, folder.files[0].clone());
            folder.read_back();
            assert!(file.forged && !usable(&folder).1.contains(&0));
            class
        };
        assert_eq!(forged(&[16, 0, 0, 56, 0, 1, 9]), Class::RotHeader); // another generation
        assert_eq!(forged(&[17, 0, 0, 56, 0, 1, 9]), Class::OrphanNewer);
        assert_eq!(forged(&[17, 0, 0, 10, 0, 1, 2]), Class::Unsupported); // min_reader 2
        assert_eq!(forged(&[17, 0, 0, 80, 0, 1, 9]), Class::RotHeader); // a family that nobody knows, and no min_reader
        assert_eq!(forged(&[19, 0, 0, 6, 0, 1, 1]), Class::Unsupported); // a critical flag of the record
        assert_eq!(forged(&[19, 0, 0, 144, 0, 1, 9]), Class::RotFooter); // a content that nobody knows
        assert_eq!(forged(&[18, 0, 0, 112, 0, 1, 9]), Class::RotFooter);
        assert_eq!(forged(&[19, 0, 0, 72, 0, 1, 9]), Class::Healthy); // by itself: another extent hash
        assert_eq!(forged(&[20, 0, 0, 0, 0, 9]), Class::RotFooter); // the record's own CRC
        assert_eq!(forged(&[21, 0, 0, 5, 0, 9]), Class::Impossible);
        assert_eq!(forged(&[22, 0, 0, 5, 0, 9]), Class::Conflict);
        assert_eq!(forged(&[23, 0, 0, 5, 0, 9]), Class::Healthy); // by itself
    }

    #[test]
    fn a_lone_forged_copy_does_not_become_the_extent() {
        // replicate:1 whose only fragment carries a record that fits its other payload, but for the hash of the extent.
        let mut folder = folder(7, 2);
        folder.operate(&mut Input(&[23, 0, 0, 5, 0, 9]));
        let (on_file, healthy) = usable(&folder);
        assert_eq!(healthy, [0]);
        let payloads =
            BTreeMap::from([(ShardIndex::new(0), &folder.files[0].bytes[HEADER_BYTES..][..2 * BLOCK_BYTES])]);
        assert!(matches!(decode(&on_file.record, &payloads), Err(Refused::ExtentHash)));
        folder.read_back();
    }
}
