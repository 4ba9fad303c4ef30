//! Declared limits. Nothing from outside makes anybody allocate more than these say.

use crate::time::Millis;

/// Longest message header on the wire. A record (64 KiB) travels in a body.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Longest body on the wire.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// Payload in one stage or read message. One slice: what one shard gives to one step of a transfer.
pub const SLICE_BYTES: usize = 1 << 20;
/// Hops of one chain of sums.
pub const CHAIN_HOPS_MAX: usize = 64;
/// Ranges of a kept stage that are told to who goes on with it: 16 KiB of a message header. What lies behind is sent again.
pub const KEPT_RANGES_MAX: usize = 1024;
/// Sums that one chain carries.
pub const CHAIN_SUMS_MAX: usize = 16;
/// Longest host:port of a hop: a name of 253 characters and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;
/// Longest name of a stored file, as in the fragment format.
pub const NAME_BYTES_MAX: usize = ec_core::fragment::NAME_BYTES_MAX;
/// Longest part of a name between slashes: what file systems take.
pub const NAME_PART_BYTES_MAX: usize = 255;
/// Most files of one `put` call; their names are kept in memory until the call commits.
pub const NAMES_PER_PUT_MAX: usize = 1 << 20;
/// Entries in one page of a list: 1,000 entries of 48 bytes fit a message header.
pub const LIST_PAGE_MAX: usize = 1000;
/// Entries that a PG row may hold before laggards are marked behind (`commit.md` line 14).
pub const ENTRIES_MAX: usize = 256;
/// Subsets of prepared changes tried to explain a row are those of this many changes (line 9).
pub const PREPARED_SUBSET_MAX: usize = 16;
/// Extents a stream may have: 1 TiB of nominal extents (256 MiB); its row stays far below what a catalog value may be.
pub const STREAM_EXTENTS_MAX: usize = 4096;
/// Committed extents told to a client that goes on with a put: what a message header holds. Of the extents behind the last of a list
/// as long as this, nothing is said.
pub const RESUMED_EXTENTS_MAX: usize = 1500;
/// Longest value in the catalog: etcd takes 1.5 MiB in one request.
pub const CATALOG_VALUE_BYTES_MAX: usize = 1 << 20;
/// Longest name of a daemon: a host name and a port, or what an operator calls it.
pub const DAEMON_NAME_BYTES_MAX: usize = 255;
/// Shortest TTL of a daemon's lease: below, a slow catalog alone lets it lapse.
pub const LEASE_TTL_MIN: Millis = Millis(100);
/// Longest TTL of a daemon's lease: nobody wants to wait longer for a standby.
pub const LEASE_TTL_MAX: Millis = Millis(600_000);
/// Members of a PG and fragments of an extent in the service.
pub const MEMBERS_MAX: usize = 256;

const _: () = assert!(SLICE_BYTES <= BODY_BYTES_MAX && SLICE_BYTES.is_multiple_of(ec_core::geometry::BLOCK_BYTES));
const _: () = assert!(ec_core::fragment::RECORD_BYTES_MAX <= BODY_BYTES_MAX);
