//! Keys of the catalog. Fixed-width where they hold numbers, so that ranges come in order.

use crate::id::{DiskId, ExtentKey, PgId, StreamKey};

/// The cell's own row: identity, incarnation, policy.
pub fn cell() -> Vec<u8> {
    b"cell".to_vec()
}

/// The daemon in charge of the cell.
pub fn lease() -> Vec<u8> {
    b"lease".to_vec()
}

/// A disk.
pub fn disk(disk: DiskId) -> Vec<u8> {
    format!("disk/{disk}").into_bytes()
}

/// All disks.
pub const DISKS: &[u8] = b"disk/";

/// Lives of a disk.
pub fn life(disk: DiskId) -> Vec<u8> {
    format!("life/{disk}").into_bytes()
}

/// Lives of all disks.
pub const LIVES: &[u8] = b"life/";

/// The disk of a key of [`LIVES`].
pub fn life_of(key: &[u8]) -> Option<DiskId> {
    std::str::from_utf8(key.strip_prefix(LIVES)?).ok()?.parse().ok()
}

/// A placement group.
pub fn pg(pg: PgId) -> Vec<u8> {
    format!("pg/{:08x}", pg.0).into_bytes()
}

/// All placement groups.
pub const PGS: &[u8] = b"pg/";

/// The owner of a placement group.
pub fn owner(pg: PgId) -> Vec<u8> {
    format!("owner/{:08x}", pg.0).into_bytes()
}

/// All owners.
pub const OWNERS: &[u8] = b"owner/";

/// A stream that is whole.
pub fn stream(stream: StreamKey) -> Vec<u8> {
    format!("stream/{stream}").into_bytes()
}

/// All streams.
pub const STREAMS: &[u8] = b"stream/";

/// A stream that was whole and is gone, for a client that did not hear of it.
pub fn ended(stream: StreamKey) -> Vec<u8> {
    format!("ended/{stream}").into_bytes()
}

/// All streams that were whole and are gone.
pub const ENDED: &[u8] = b"ended/";

/// The name of a stored file.
pub fn name(name: &[u8]) -> Vec<u8> {
    [NAMES, name].concat()
}

/// All names.
pub const NAMES: &[u8] = b"name/";

/// A committed extent of a stream that is not whole yet, by ordinal. Gone with the transaction that makes it whole.
pub fn open(stream: StreamKey, ordinal: u64) -> Vec<u8> {
    format!("open/{stream}/{ordinal:016x}").into_bytes()
}

/// All extents of a stream that is not whole yet.
pub fn open_stream(stream: StreamKey) -> Vec<u8> {
    format!("open/{stream}/").into_bytes()
}

/// All extents of all streams that are not whole yet.
pub const OPEN: &[u8] = b"open/";

/// An extent nothing refers to any more, still to be deleted.
pub fn doomed(extent: ExtentKey) -> Vec<u8> {
    format!("doomed/{extent}").into_bytes()
}

/// All extents still to be deleted.
pub const DOOMED: &[u8] = b"doomed/";

/// What an audit found wrong with an extent.
pub fn audit(extent: ExtentKey) -> Vec<u8> {
    format!("audit/{extent}").into_bytes()
}

/// All extents that an audit found wrong.
pub const AUDITS: &[u8] = b"audit/";

/// What an operator wants of a disk.
pub fn intent(disk: DiskId) -> Vec<u8> {
    format!("intent/{disk}").into_bytes()
}

/// That repairs are paused.
pub fn pause() -> Vec<u8> {
    b"intent/pause".to_vec()
}

/// All that operators want.
pub const INTENTS: &[u8] = b"intent/";

/// The disk of an intent's key; none of that of the pause.
pub fn intent_of(key: &[u8]) -> Option<DiskId> {
    std::str::from_utf8(key.strip_prefix(INTENTS)?).ok()?.parse().ok()
}

/// The number in a key of fixed width behind its prefix.
pub fn pg_of(key: &[u8]) -> Option<PgId> {
    let digits = key.strip_prefix(PGS).or_else(|| key.strip_prefix(OWNERS))?;
    let text = std::str::from_utf8(digits).ok().filter(|text| text.len() == 8)?;
    u32::from_str_radix(text, 16).ok().map(PgId)
}

/// Stream and ordinal of an open extent's key.
pub fn open_of(key: &[u8]) -> Option<(StreamKey, u64)> {
    let text = std::str::from_utf8(key.strip_prefix(OPEN)?).ok()?;
    let (stream, ordinal) = text.split_once('/')?;
    Some((stream.parse().ok()?, u64::from_str_radix(ordinal, 16).ok()?))
}

/// The extent of a doomed extent's key.
pub fn doomed_of(key: &[u8]) -> Option<ExtentKey> {
    std::str::from_utf8(key.strip_prefix(DOOMED)?).ok()?.parse().ok()
}

/// The extent of an audit's key.
pub fn audit_of(key: &[u8]) -> Option<ExtentKey> {
    std::str::from_utf8(key.strip_prefix(AUDITS)?).ok()?.parse().ok()
}
