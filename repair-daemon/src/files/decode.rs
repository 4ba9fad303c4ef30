//! A stream from its fragments, proven before it gets a name.

use super::fragment_file::Finding;
use super::rebuild::{Job, Piece, undecodable};
use super::scan::{ExtentView, Scan, StreamView};
use super::slices::SharedTree;
use super::{FilesError, Work};
use ec_core::fragment::StreamId;
use ec_core::geometry::Geometry;
use ec_core::{Code, ShardIndex, ShardSet};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Takes bytes of the stream at their offset; called from several threads.
pub type StreamSink<'a> = &'a (dyn Fn(u64, &[u8]) -> Result<(), FilesError> + Sync);

/// What a decode met.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Bytes of the stream.
    pub bytes: u64,
    /// Data fragments that had to be rebuilt.
    pub rebuilt_fragments: usize,
    /// Fragments that were read and found bad.
    pub findings: Vec<(ec_core::fragment::ExtentId, ShardIndex, Finding)>,
}

/// Whether the stream can be decoded, from what is known before payloads are read; gives its length in bytes.
///
/// # Errors
/// [`FilesError::Unrecoverable`] naming every extent that cannot be decoded, or why the extents are not the whole stream.
pub fn check_stream(scan: &Scan, stream: StreamId) -> Result<u64, FilesError> {
    let view = scan.streams.get(&stream).ok_or_else(|| FilesError::internal("unknown stream"))?;
    if let Some(fault) = &view.fault {
        return Err(FilesError::Unrecoverable(format!("the fragments do not make a whole stream: {fault}")));
    }
    check_decodable(scan, view)?;
    view.bytes.ok_or_else(|| FilesError::internal("a whole stream without a length"))
}

/// Decodes every extent of `stream` into `sink`. What the sink got is the stream only if this returns `Ok`.
///
/// # Errors
/// As [`check_stream`], and where that is only found out by reading.
pub fn decode_stream(work: &Work, scan: &Scan, stream: StreamId, sink: StreamSink) -> Result<Decoded, FilesError> {
    let bytes = check_stream(scan, stream)?;
    let decoded = Mutex::new(Decoded { bytes, ..Decoded::default() });
    let extents = scan.streams.get(&stream).map_or(&[][..], |view| &view.extents);
    work.for_each_extent(extents, |listed| {
        let extent = scan.extents.get(&listed.extent).ok_or_else(|| FilesError::internal("unlisted extent"))?;
        let (rebuilt, findings) = decode_extent(work, extent, listed.offset, sink)?;
        let mut decoded = decoded.lock().unwrap_or_else(PoisonError::into_inner);
        decoded.rebuilt_fragments += rebuilt;
        decoded.findings.extend(findings.into_iter().map(|(index, finding)| (extent.id, index, finding)));
        Ok(())
    })?;
    Ok(decoded.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Looks at all extents before the first byte is written, so that one error names all that is lost.
fn check_decodable(scan: &Scan, stream: &StreamView) -> Result<(), FilesError> {
    let mut reasons = Vec::new();
    for listed in &stream.extents {
        let Some(extent) = scan.extents.get(&listed.extent) else { continue };
        let reason = match extent.record() {
            Err(error) => Some(lost_whole(extent, &error)),
            Ok(record) => {
                let code = Code::new(&record.code)?;
                let plan = code.plan(&extent.lost(), &extent.usable());
                plan.err().map(|error| undecodable(extent, &error, &BTreeMap::new()).to_string())
            }
        };
        reasons.extend(reason);
    }
    if reasons.is_empty() { Ok(()) } else { Err(FilesError::Unrecoverable(reasons.join("\n"))) }
}

fn lost_whole(extent: &ExtentView, error: &FilesError) -> String {
    match extent.code {
        Some(code) => format!("{error}; at least {} of its {} fragments are needed", code.k(), code.n()),
        None => error.to_string(),
    }
}

/// Decodes one extent, the first byte of which is byte `offset` of its stream; gives the number of rebuilt data fragments and the sources found bad.
fn decode_extent(
    work: &Work,
    view: &ExtentView,
    offset: u64,
    sink: StreamSink,
) -> Result<(usize, BTreeMap<ShardIndex, Finding>), FilesError> {
    let record = view.record()?;
    let code = Code::new(&record.code)?;
    let data = ShardSet::first(code.k());
    let usable = view.usable();
    let lost: ShardSet = data.iter().filter(|index| !usable.contains(*index)).collect();
    let always_read: ShardSet = data.iter().filter(|index| usable.contains(*index)).collect();
    let geometry = Geometry::new(record.extent_bytes, code.k());
    let hash = SharedTree::new(record.extent_bytes);
    let mut findings = BTreeMap::new();
    let pass = Job { view, code: &code, lost, always_read }.run(
        work,
        &mut findings,
        &mut |_| {
            hash.reset();
            Ok(())
        },
        &|start, sources, rebuilt| {
            for piece in sources.iter().chain(rebuilt).filter(|(index, _)| index.at() < code.k()) {
                write_data(&geometry, offset, &hash, *piece, start, sink)?;
            }
            Ok(())
        },
    )?;
    if hash.finish()? != record.extent_hash {
        let reason = format!("every fragment is proven, but the extent's hash is not {}", record.extent_hash);
        return Err(FilesError::Miscomputed { extent: view.id, reason });
    }
    Ok((pass.rebuilt.len(), findings))
}

fn write_data(
    geometry: &Geometry,
    offset: u64,
    hash: &SharedTree,
    (index, slice): Piece,
    start: u64,
    sink: StreamSink,
) -> Result<(), FilesError> {
    let range = geometry.extent_range(index.at(), start..start + slice.len() as u64);
    let bytes = &slice[..(range.end - range.start) as usize];
    if bytes.is_empty() {
        return Ok(());
    }
    hash.add(range.start, bytes)?;
    sink(offset + range.start, bytes)
}
