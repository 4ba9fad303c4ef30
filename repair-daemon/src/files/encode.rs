//! A stream of bytes to fragments: encode, check by a second path, hash, write, sync.

use super::direct::DirectFile;
use super::slices::{ShardSums, SharedTree, for_each_slice, slice_bytes, strips};
use super::source::ByteSource;
use super::staged::random_u128;
use super::{FilesError, Work};
use ec_core::buffer::AlignedBuffer;
use ec_core::fragment::{
    BirthIdentity, CellId, Content, ExtentId, ExtentRecord, FragmentEntry, Hash, Header, RECORD_BYTES_MAX,
    StreamExtent, StreamId, build_tail,
};
use ec_core::geometry::{EXTENT_BYTES_MAX, EXTENT_BYTES_NOMINAL, Geometry};
use ec_core::{Code, ShardIndex, StripeCheck};
use rayon::prelude::*;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The bits of an extent id that are random in the file commands; the upper 48 are cell and placement group, both 0.
const EXTENT_ID_RANDOM_BITS: u32 = 80;

/// A stream about to be encoded: its identity and the extents it will become.
#[derive(Debug)]
pub struct StreamPlan {
    /// Name in every record.
    pub name: Vec<u8>,
    /// What the bytes are.
    pub content: Content,
    /// Random id of the stream.
    pub stream: StreamId,
    /// Length of the stream.
    pub bytes: u64,
    /// The extents in order, without gaps.
    pub extents: Vec<StreamExtent>,
}

impl StreamPlan {
    /// Cuts `bytes` into extents, as few as their usual size allows, larger ones only where the record could not list
    /// them all.
    ///
    /// # Errors
    /// [`FilesError::Usage`] where even the largest extents are too many for one record.
    pub fn new(code: &Code, name: Vec<u8>, content: Content, bytes: u64) -> Result<Self, FilesError> {
        let mut plan = Self { name, content, stream: StreamId(random_u128()?), bytes, extents: Vec::new() };
        let fixed = plan.record(code, 0, Hash::new([0; 32]), &[]).encoded_bytes();
        let listed_max = (RECORD_BYTES_MAX.saturating_sub(fixed) / StreamExtent::ENCODED_BYTES) as u64;
        let mut extent_bytes = EXTENT_BYTES_NOMINAL;
        while bytes.div_ceil(extent_bytes) > listed_max && extent_bytes < EXTENT_BYTES_MAX {
            extent_bytes *= 2;
        }
        let count = bytes.div_ceil(extent_bytes).max(1);
        if count > listed_max {
            return Err(FilesError::Usage(format!(
                "{bytes} bytes are more than one stream can hold with {} ({} bytes); split the file",
                code.spec(),
                listed_max * EXTENT_BYTES_MAX
            )));
        }
        for ordinal in 0..count {
            let offset = ordinal * extent_bytes;
            let extent = ExtentId(random_u128()? >> (128 - EXTENT_ID_RANDOM_BITS));
            plan.extents.push(StreamExtent { extent, offset, bytes: extent_bytes.min(bytes - offset) });
        }
        Ok(plan)
    }

    fn record(&self, code: &Code, ordinal: usize, extent_hash: Hash, fragments: &[FragmentEntry]) -> ExtentRecord {
        let listed = self.extents.get(ordinal);
        ExtentRecord {
            cell: CellId(0),
            extent: listed.map_or(ExtentId(0), |listed| listed.extent),
            revision: 1,
            code: *code.spec(),
            extent_bytes: listed.map_or(0, |listed| listed.bytes),
            extent_hash,
            stream: self.stream,
            ordinal: ordinal as u64,
            offset: listed.map_or(0, |listed| listed.offset),
            stream_bytes: Some(self.bytes),
            content: self.content,
            name: self.name.clone(),
            fragments: fragments.to_vec(),
            extents: self.extents.clone(),
        }
    }

    /// The identity fragment `index` of extent `ordinal` is born with.
    pub fn identity(&self, code: &Code, ordinal: usize, index: ShardIndex) -> BirthIdentity {
        let listed = self.extents[ordinal];
        BirthIdentity {
            cell: CellId(0),
            extent: listed.extent,
            generation: 1,
            index,
            payload_bytes: Geometry::new(listed.bytes, code.k()).shard_bytes(),
        }
    }

    /// Payload bytes of all fragments together.
    pub fn payload_bytes(&self, code: &Code) -> u64 {
        let payload = |listed: &StreamExtent| Geometry::new(listed.bytes, code.k()).shard_bytes() * code.n() as u64;
        self.extents.iter().map(payload).sum()
    }

    /// Bytes of all fragment files together.
    pub fn file_bytes(&self, code: &Code) -> u64 {
        (0..self.extents.len())
            .map(|ordinal| self.header(code, ordinal, ShardIndex::new(0)).layout().file_bytes)
            .sum::<u64>()
            * code.n() as u64
    }

    fn header(&self, code: &Code, ordinal: usize, index: ShardIndex) -> Header {
        let record_bytes = self.record(code, ordinal, Hash::new([0; 32]), &[]).encoded_bytes();
        Header {
            identity: self.identity(code, ordinal, index),
            code: *code.spec(),
            extent_bytes: self.extents[ordinal].bytes,
            // `new` keeps records within their limit.
            record_bytes: u32::try_from(record_bytes).unwrap_or(u32::MAX),
        }
    }
}

/// Encodes the whole stream. `place` names the folder for each fragment; the files there are synced, their folders not.
/// The progress bar advances by payload bytes.
///
/// # Errors
/// Any [`FilesError`]; files already written are left to the caller, who knows what the folders are for.
pub fn encode_stream(
    work: &Work,
    code: &Code,
    source: &dyn ByteSource,
    plan: &StreamPlan,
    place: &(dyn Fn(usize, ShardIndex) -> PathBuf + Sync),
) -> Result<(), FilesError> {
    let ordinals: Vec<usize> = (0..plan.extents.len()).collect();
    work.for_each_extent(&ordinals, |ordinal| ExtentEncoder::new(code, source, plan, *ordinal, place)?.run(work))?;
    source.unchanged()
}

/// One fragment file being written.
struct Output {
    path: PathBuf,
    file: DirectFile,
    header: Header,
    sums: ShardSums,
}

struct ExtentEncoder<'a> {
    code: &'a Code,
    source: &'a dyn ByteSource,
    plan: &'a StreamPlan,
    ordinal: usize,
    geometry: Geometry,
    check: StripeCheck,
    outputs: Vec<Output>,
    extent_hash: SharedTree,
}

impl<'a> ExtentEncoder<'a> {
    fn new(
        code: &'a Code,
        source: &'a dyn ByteSource,
        plan: &'a StreamPlan,
        ordinal: usize,
        place: &(dyn Fn(usize, ShardIndex) -> PathBuf + Sync),
    ) -> Result<Self, FilesError> {
        let listed = plan.extents[ordinal];
        let geometry = Geometry::new(listed.bytes, code.k());
        let outputs = (0..code.n())
            .map(|at| {
                let header = plan.header(code, ordinal, ShardIndex::new(u16::try_from(at).unwrap_or(u16::MAX)));
                let path = place(ordinal, header.identity.index).join(header.identity.file_name());
                let file = File::options().read(true).write(true).create_new(true).open(&path);
                let file = file.map_err(FilesError::io(&path, "create"))?;
                let file = DirectFile::new(file, header.layout().file_bytes);
                let file = file.map_err(FilesError::io(&path, "make room for"))?;
                let sums = ShardSums::new(header.identity.seed(), geometry.shard_bytes());
                Ok(Output { path, file, header, sums })
            })
            .collect::<Result<Vec<_>, FilesError>>()?;
        let check = StripeCheck::new(code, (random_u128()? >> 64) as u64);
        let extent_hash = SharedTree::new(listed.bytes);
        Ok(Self { code, source, plan, ordinal, geometry, check, outputs, extent_hash })
    }

    fn run(self, work: &Work) -> Result<(), FilesError> {
        let slice = slice_bytes(self.code.n());
        for_each_slice(work, self.geometry.shard_bytes(), slice, |range| {
            let bytes = (range.end - range.start) as usize;
            work.with_buffer(bytes * self.code.n(), |buffer| self.encode_slice(range.start, bytes, buffer))?;
            work.progress().inc((bytes * self.code.n()) as u64);
            Ok(())
        })?;
        self.finish()
    }

    /// Reads, encodes, checks, hashes and writes one slice; `buffer` holds it for all shards, one behind the other.
    fn encode_slice(&self, start: u64, bytes: usize, buffer: &mut [u8]) -> Result<(), FilesError> {
        let (data, parity) = buffer.split_at_mut(bytes * self.code.k());
        for (shard, slice) in data.chunks_exact_mut(bytes).enumerate() {
            let range = self.geometry.extent_range(shard, start..start + bytes as u64);
            let (filled, padding) = slice.split_at_mut((range.end - range.start) as usize);
            self.source.read_at(self.plan.extents[self.ordinal].offset + range.start, filled)?;
            padding.fill(0);
            // Here and not by strips: shards begin anywhere in the extent's hash tree, and long pieces hold the large subtrees.
            self.extent_hash.add(range.start, filled)?;
        }
        for strip in strips(self.code.n(), bytes) {
            let data: Vec<&[u8]> = data.chunks_exact(bytes).map(|slice| &slice[strip.clone()]).collect();
            let mut targets: Vec<&mut [u8]> =
                parity.chunks_exact_mut(bytes).map(|slice| &mut slice[strip.clone()]).collect();
            self.encode_strip(start + strip.start as u64, &data, &mut targets)?;
        }
        for (output, slice) in self.outputs.iter().zip(data.chunks_exact(bytes).chain(parity.chunks_exact(bytes))) {
            let at = output.header.layout().payload_at + start;
            output.file.write_all_at(slice, at).map_err(FilesError::io(&output.path, "write"))?;
        }
        Ok(())
    }

    /// Everything that is computed from one strip, which starts at `start` of the shards.
    fn encode_strip(&self, start: u64, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), FilesError> {
        self.code.encode(data, parity)?;
        let parity: Vec<&[u8]> = parity.iter().map(|strip| &**strip).collect();
        let extent = self.plan.extents[self.ordinal].extent;
        self.check.run(data, &parity).map_err(|error| FilesError::encoding(extent, &error))?;
        for (output, strip) in self.outputs.iter().zip(data.iter().chain(&parity)) {
            output.sums.add(start, strip)?;
        }
        Ok(())
    }

    /// All roots are known: writes headers and tails, and syncs.
    fn finish(self) -> Result<(), FilesError> {
        let extent_hash = self.extent_hash.finish()?;
        let mut entries = Vec::with_capacity(self.outputs.len());
        let mut files = Vec::with_capacity(self.outputs.len());
        for output in self.outputs {
            let (payload_hash, table) = output.sums.finish()?;
            entries.push(FragmentEntry {
                identity: output.header.identity,
                root: output.header.identity.root(&payload_hash),
            });
            files.push((output.path, output.file, output.header, table));
        }
        let record = self.plan.record(self.code, self.ordinal, extent_hash, &entries).to_bytes()?;
        files.into_par_iter().zip(entries).try_for_each(|((path, file, header, table), entry)| {
            write_frame(&path, &file, &header, &table, &record, &entry.root)?;
            file.file().sync_data().map_err(FilesError::io(&path, "force to the disk"))
        })
    }
}

/// Writes what surrounds the payload of a fragment.
pub fn write_frame(
    path: &Path,
    file: &DirectFile,
    header: &Header,
    table: &[u32],
    record: &[u8],
    root: &Hash,
) -> Result<(), FilesError> {
    let header_bytes = header.to_bytes();
    let tail = build_tail(header, &header_bytes, table, record, root)?;
    // One aligned copy, so that the file can stay direct to its end.
    let mut aligned = AlignedBuffer::zeroed(header_bytes.len() + tail.len()).map_err(FilesError::internal)?;
    let (head, rest) = aligned.split_at_mut(header_bytes.len());
    head.copy_from_slice(&header_bytes);
    rest.copy_from_slice(&tail);
    file.write_all_at(head, 0).map_err(FilesError::io(path, "write"))?;
    file.write_all_at(rest, header.layout().table_at).map_err(FilesError::io(path, "write"))
}
