//! Fragments that no encoder makes: taken apart, changed, and sealed again so that every checksum is right.

use ec_core::fragment::{
    BirthIdentity, CellId, Content, ExtentId, ExtentRecord, FOOTER_BYTES, Footer, FragmentEntry, HEADER_BYTES, Hash,
    Header, StreamExtent, StreamId, examine,
};
use ec_core::geometry::Geometry;
use ec_core::{Code, ShardIndex};

/// A fragment taken apart.
#[derive(Clone)]
pub struct Parts {
    pub header: Header,
    pub payload: Vec<u8>,
    pub table: Vec<u32>,
    pub record: ExtentRecord,
    pub root: Hash,
}

impl Parts {
    pub fn of(bytes: &[u8]) -> Self {
        let found = examine(bytes);
        let (header, tail) = (found.header.unwrap(), found.tail.unwrap());
        let payload = bytes[HEADER_BYTES..header.layout().table_at as usize].to_vec();
        Self { header, payload, table: tail.table, record: tail.record, root: tail.root }
    }

    /// The CRCs its payload and identity ask for.
    pub fn right_table(&self) -> Vec<u32> {
        let seed = self.header.identity.seed();
        (0..).zip(self.payload.chunks(4096)).map(|(number, block)| seed.crc(number, block)).collect()
    }

    /// The file, sealed.
    pub fn file(&self) -> Vec<u8> {
        self.file_with_record(&self.record.to_bytes().unwrap())
    }

    /// The file with other record bytes, sealed.
    pub fn file_with_record(&self, record: &[u8]) -> Vec<u8> {
        seal(&self.header.to_bytes(), self, record)
    }

    /// The file with some bytes of its header replaced before everything is sealed.
    pub fn file_with_header(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut header = self.header.to_bytes();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32fast::hash(&header[..HEADER_BYTES - 4]);
        header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        seal(&header, self, &self.record.to_bytes().unwrap())
    }

    /// The same shard as a member of another generation, whole in itself.
    pub fn in_generation(&self, generation: u64) -> Self {
        let mut other = self.clone();
        let payload_hash = Hash::of(&self.payload);
        for entry in &mut other.record.fragments {
            entry.identity.generation = generation;
            // Only the own root can be computed here; the others only must not be those of another generation.
            *entry = FragmentEntry { root: entry.identity.root(&entry.root), ..*entry };
        }
        let own = &mut other.record.fragments[self.header.identity.index.at()];
        own.root = own.identity.root(&payload_hash);
        (other.header.identity, other.root) = (own.identity, own.root);
        other.header.record_bytes = u32::try_from(other.record.encoded_bytes()).unwrap();
        other.table = other.right_table();
        other
    }
}

fn seal(header_bytes: &[u8; HEADER_BYTES], parts: &Parts, record: &[u8]) -> Vec<u8> {
    let mut tail: Vec<u8> = parts.table.iter().flat_map(|crc| crc.to_le_bytes()).collect();
    tail.extend_from_slice(record);
    tail.resize(tail.len().max(parts.header.layout().tail_bytes as usize - FOOTER_BYTES), 0);
    let (header_hash, tail_hash) = (Hash::of(header_bytes), Hash::of(&tail));
    let footer = Footer { header_hash, tail_hash, root: parts.root, payload_bytes: parts.payload.len() as u64 };
    [&header_bytes[..], &parts.payload, &tail, &footer.to_bytes()].concat()
}

/// Moves a whole set to another generation: every root anew, one record for all.
pub fn set_in_generation(files: &[&[u8]], generation: u64) -> Vec<Vec<u8>> {
    let mut set: Vec<Parts> = files.iter().map(|bytes| Parts::of(bytes)).collect();
    let mut record = set[0].record.clone();
    for (entry, parts) in record.fragments.iter_mut().zip(&set) {
        let identity = BirthIdentity { generation, ..entry.identity };
        *entry = FragmentEntry { identity, root: identity.root(&Hash::of(&parts.payload)) };
    }
    for (parts, entry) in set.iter_mut().zip(&record.fragments) {
        (parts.header.identity, parts.root, parts.record) = (entry.identity, entry.root, record.clone());
        parts.table = parts.right_table();
    }
    set.iter().map(Parts::file).collect()
}

/// What an encoder would put on record of the only extent of a stream, but for what [`extent`] adds.
pub fn record(code: &str, id: u128, bytes: usize) -> ExtentRecord {
    ExtentRecord {
        cell: CellId(0),
        extent: ExtentId(id),
        revision: 1,
        code: code.parse().unwrap(),
        extent_bytes: bytes as u64,
        extent_hash: Hash::of(&[]),
        stream: StreamId(0xf0),
        ordinal: 0,
        offset: 0,
        stream_bytes: Some(bytes as u64),
        content: Content::File,
        name: b"forged".to_vec(),
        fragments: Vec::new(),
        extents: Vec::new(),
    }
}

/// An element of a record's list of extents.
pub fn listed(id: u128, offset: u64, bytes: u64) -> StreamExtent {
    StreamExtent { extent: ExtentId(id), offset, bytes }
}

/// All fragments of an extent with these bytes, of which the record says what it likes: whole by every checksum. The parity of
/// a code that cannot be built is zeros.
pub fn extent(mut record: ExtentRecord, bytes: &[u8]) -> Vec<Parts> {
    let (k, n) = (record.code.k(), record.code.n());
    record.extent_bytes = bytes.len() as u64;
    record.extent_hash = Hash::of(bytes);
    let shard_bytes = Geometry::new(record.extent_bytes, k).shard_bytes();
    let mut shards: Vec<Vec<u8>> = bytes.chunks(shard_bytes.max(1) as usize).map(<[u8]>::to_vec).collect();
    shards.resize(n, Vec::new());
    shards.iter_mut().for_each(|shard| shard.resize(shard_bytes as usize, 0));
    if let Ok(code) = Code::new(&record.code) {
        let (data, parity) = shards.split_at_mut(k);
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        code.encode(&data, &mut parity).unwrap();
    }
    let entry = |(index, payload): (u16, &Vec<u8>)| {
        let index = ShardIndex::new(index);
        let identity = BirthIdentity {
            cell: record.cell,
            extent: record.extent,
            generation: 1,
            index,
            payload_bytes: shard_bytes,
        };
        FragmentEntry { identity, root: identity.root(&Hash::of(payload)) }
    };
    record.fragments = (0..).zip(&shards).map(entry).collect();
    let record_bytes = u32::try_from(record.encoded_bytes()).unwrap();
    let part = |(payload, entry): (Vec<u8>, &FragmentEntry)| {
        let (code, extent_bytes) = (record.code, record.extent_bytes);
        let header = Header { identity: entry.identity, code, extent_bytes, record_bytes };
        let mut parts = Parts { header, payload, table: Vec::new(), record: record.clone(), root: entry.root };
        parts.table = parts.right_table();
        parts
    };
    shards.into_iter().zip(&record.fragments).map(part).collect()
}
