//! Small extents with all their fragments, and the checksums that make changed ones look right.

use crate::set_crc;
use ec_core::fragment::{
    BirthIdentity, CellId, Content, ExtentId, ExtentRecord, FOOTER_BYTES, FragmentEntry, FragmentName, HEADER_BYTES,
    Hash, Header, StreamExtent, StreamId, build_tail,
};
use ec_core::geometry::BLOCK_BYTES;
use ec_core::{Code, Geometry, ShardIndex};
use std::ops::Range;

/// What an extent is to become.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) code: &'a Code,
    pub(crate) extent: ExtentId,
    pub(crate) generation: u64,
    pub(crate) extent_bytes: usize,
    /// Extents of other paint have other bytes.
    pub(crate) paint: usize,
}

/// An extent as it was written: the truth that whatever is read back is compared with.
pub(crate) struct Extent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) record_bytes: Vec<u8>,
    /// By index.
    pub(crate) fragments: Vec<Fragment>,
}

pub(crate) struct Fragment {
    pub(crate) name: FragmentName,
    pub(crate) file: Vec<u8>,
    payload: Range<usize>,
}

impl Fragment {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.file[self.payload.clone()]
    }
}

impl Extent {
    /// Encodes painted bytes.
    pub(crate) fn encode(plan: Plan<'_>) -> Self {
        let bytes: Vec<u8> = (0..plan.extent_bytes)
            .map(|at| u8::try_from((at + plan.paint * (at / 251 + 7)) % 251).unwrap_or(0))
            .collect();
        let shards = shards(plan.code, &bytes);
        let fragments: Vec<FragmentEntry> =
            (0u16..).zip(&shards).map(|(index, shard)| entry(plan, index, shard)).collect();
        let record = record(plan, &bytes, fragments);
        let record_bytes = record.to_bytes().expect("a record that is right");
        let fragments =
            record.fragments.iter().zip(&shards).map(|(entry, shard)| fragment(&record, &record_bytes, entry, shard));
        Self { fragments: fragments.collect(), bytes, record_bytes }
    }
}

fn shards(code: &Code, bytes: &[u8]) -> Vec<Vec<u8>> {
    let geometry = Geometry::new(bytes.len() as u64, code.k());
    let shard_bytes = usize::try_from(geometry.shard_bytes()).expect("small");
    let mut shards = vec![vec![0; shard_bytes]; code.n()];
    let (data, parity) = shards.split_at_mut(code.k());
    for (shard, piece) in data.iter_mut().zip(bytes.chunks(shard_bytes.max(1))) {
        shard[..piece.len()].copy_from_slice(piece);
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    // An extent without bytes has shards without bytes, and nothing to encode.
    if shard_bytes > 0 {
        code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("equal lengths");
    }
    shards
}

fn entry(plan: Plan<'_>, index: u16, shard: &[u8]) -> FragmentEntry {
    let identity = BirthIdentity {
        cell: CellId(0),
        extent: plan.extent,
        generation: plan.generation,
        index: ShardIndex::new(index),
        payload_bytes: shard.len() as u64,
    };
    FragmentEntry { identity, root: identity.root(&Hash::of(shard)) }
}

fn record(plan: Plan<'_>, bytes: &[u8], fragments: Vec<FragmentEntry>) -> ExtentRecord {
    let extent_bytes = bytes.len() as u64;
    ExtentRecord {
        cell: CellId(0),
        extent: plan.extent,
        revision: plan.generation,
        code: *plan.code.spec(),
        extent_bytes,
        extent_hash: Hash::of(bytes),
        stream: StreamId(7),
        ordinal: 0,
        offset: 0,
        stream_bytes: Some(extent_bytes),
        content: Content::File,
        name: b"painted".to_vec(),
        fragments,
        extents: vec![StreamExtent { extent: plan.extent, offset: 0, bytes: extent_bytes }],
    }
}

fn fragment(record: &ExtentRecord, record_bytes: &[u8], entry: &FragmentEntry, shard: &[u8]) -> Fragment {
    let identity = entry.identity;
    let header = Header {
        identity,
        code: record.code,
        extent_bytes: record.extent_bytes,
        record_bytes: u32::try_from(record_bytes.len()).expect("small"),
    };
    let table: Vec<u32> =
        (0..).zip(shard.chunks(BLOCK_BYTES)).map(|(at, block)| identity.seed().crc(at, block)).collect();
    let header_bytes = header.to_bytes();
    let tail = build_tail(&header, &header_bytes, &table, record_bytes, &entry.root).expect("parts of one fragment");
    Fragment {
        name: FragmentName { extent: identity.extent, generation: identity.generation, index: identity.index },
        file: [&header_bytes, shard, &tail].concat(),
        payload: HEADER_BYTES..HEADER_BYTES + shard.len(),
    }
}

/// Where the record of a file lies, as far as its header can be read and its length is right.
pub(crate) fn record_range(file: &[u8]) -> Option<Range<usize>> {
    let layout = Header::parse(file.get(..HEADER_BYTES)?).ok()?.layout();
    let at = usize::try_from(layout.record_at).ok()?;
    let end = at.checked_add(usize::try_from(layout.record_bytes).ok()?)?;
    (layout.file_bytes == file.len() as u64).then_some(at..end)
}

/// Makes the CRC of the header right, whatever it holds.
pub(crate) fn reseal_header(file: &mut [u8]) {
    if let Some(header) = file.get_mut(..HEADER_BYTES) {
        set_crc(header);
    }
}

/// Makes the footer the seal of what is there: header hash, hash of the tail, CRC.
pub(crate) fn reseal_footer(file: &mut [u8]) {
    let Some(footer_at) = file.len().checked_sub(FOOTER_BYTES).filter(|&at| at >= HEADER_BYTES) else { return };
    let layout = Header::parse(&file[..HEADER_BYTES]).ok().map(|header| header.layout());
    let table_at = layout.and_then(|layout| usize::try_from(layout.table_at).ok());
    let header_hash = Hash::of(&file[..HEADER_BYTES]);
    let tail_hash = table_at.and_then(|at| file.get(at..footer_at)).map(Hash::of);
    let footer = &mut file[footer_at..];
    footer[8..40].copy_from_slice(header_hash.as_bytes());
    if let Some(hash) = tail_hash {
        footer[40..72].copy_from_slice(hash.as_bytes());
    }
    set_crc(footer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ec_core::fragment::{Class, examine};

    #[test]
    fn what_is_encoded_is_healthy_and_stays_so_when_sealed_again() {
        let code = Code::new(&"rs:3+2".parse().unwrap()).unwrap();
        for extent_bytes in [0, 1, 12_288, 12_289] {
            let plan = Plan { code: &code, extent: ExtentId(5), generation: 2, extent_bytes, paint: 3 };
            let extent = Extent::encode(plan);
            for fragment in &extent.fragments {
                let mut file = fragment.file.clone();
                assert_eq!(examine(&file).class, Class::Healthy);
                assert_eq!(&file[record_range(&file).unwrap()], extent.record_bytes);
                reseal_header(&mut file);
                reseal_footer(&mut file);
                assert!(file == fragment.file);
                file[16] = 1; // an info flag, which a reader ignores
                reseal_header(&mut file);
                assert_eq!(examine(&file).class, Class::RotHeader);
                reseal_footer(&mut file);
                assert_eq!(examine(&file).class, Class::Healthy);
            }
            let data: Vec<u8> = extent.fragments[..3].iter().flat_map(|fragment| fragment.payload()).copied().collect();
            assert_eq!(data[..extent_bytes], extent.bytes);
        }
    }
}
