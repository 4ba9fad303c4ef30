//! Table, record, zeros and footer behind headers of every size: what is read is what is there, and nothing is read before the
//! footer's CRC and hashes held.

use crate::classes::record_says_newer;
use crate::extent::{Extent, Plan};
use crate::{Input, bounded, set_crc};
use ec_core::Code;
use ec_core::fragment::{Class, ExtentId, ExtentRecord, FOOTER_BYTES, Footer, Hash, Header, examine_tail, parse_tail};
use ec_core::geometry::BLOCK_BYTES;
use std::sync::OnceLock;

/// Blocks of the payload of which a table is made: more than one block of table.
const BLOCKS_MAX: usize = 2_000;

/// Blocks of the payload (2), bytes of the record less one (2), what is made right (1), then the tail: as it is; with a right
/// footer; or with the record that belongs there between, too.
pub fn fragment_tail(bytes: &[u8]) {
    let mut input = Input(bounded(bytes));
    let (blocks, record_bytes, right) = (input.below(BLOCKS_MAX + 1), input.word() + 1, input.byte());
    let (header, record) = header(blocks, (right & 2 == 0).then_some(record_bytes));
    let header_bytes = header.to_bytes();
    let layout = header.layout();
    let rest = input.0;
    if right & 1 == 0 {
        return tail(&header, &header_bytes, rest);
    }
    let mut sealed = rest[..rest.len().min(layout.table_bytes as usize)].to_vec();
    sealed.resize(layout.table_bytes as usize, 0);
    sealed.extend_from_slice(if right & 2 == 0 { &rest[rest.len().min(sealed.len())..] } else { record });
    sealed.resize(layout.tail_bytes as usize - FOOTER_BYTES, right & 4);
    let footer = Footer {
        header_hash: Hash::of(&header_bytes),
        tail_hash: Hash::of(&sealed),
        root: Hash::of(rest),
        payload_bytes: layout.payload_bytes,
    };
    let mut whole = [&sealed[..], &footer.to_bytes()].concat();
    tail(&header, &header_bytes, &whole);
    // One byte of the footer changed, with its CRC right again.
    let (at, end) = (whole.len() - FOOTER_BYTES + usize::from(right) % (FOOTER_BYTES - 4), whole.len());
    whole[at] ^= 1 << (rest.len() % 8);
    tail(&header, &header_bytes, &whole);
    set_crc(&mut whole[end - FOOTER_BYTES..]);
    tail(&header, &header_bytes, &whole);
}

/// A header for so many blocks, with a record of so many bytes or the one that belongs there.
fn header(blocks: usize, record_bytes: Option<usize>) -> (Header, &'static [u8]) {
    static BASE: OnceLock<Extent> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let code = Code::new(&"rs:2+1".parse().expect("a code")).expect("a small MDS code");
        Extent::encode(Plan { code: &code, extent: ExtentId(9), generation: 1, extent_bytes: 5_000, paint: 1 })
    });
    let mut header = Header::parse(&base.fragments[0].file[..4096]).expect("as it was written");
    header.identity.payload_bytes = (blocks * BLOCK_BYTES) as u64;
    header.extent_bytes = 2 * header.identity.payload_bytes;
    header.record_bytes = u32::try_from(record_bytes.unwrap_or(base.record_bytes.len())).expect("two bytes");
    (header, &base.record_bytes)
}

/// What the library makes of a tail is what the bytes say, read here once more.
fn tail(header: &Header, header_bytes: &[u8], bytes: &[u8]) {
    let expected = class(header, header_bytes, bytes);
    match (parse_tail(header, header_bytes, bytes), examine_tail(header, header_bytes, bytes)) {
        (Ok(found), Ok(examined)) => {
            assert_eq!((expected, &found), (None, &examined));
            let table: Vec<u8> = found.table.iter().flat_map(|crc| crc.to_le_bytes()).collect();
            assert_eq!(found.table.len() as u64, header.identity.payload_bytes / BLOCK_BYTES as u64);
            let (record, zeros) = bytes[table.len()..bytes.len() - FOOTER_BYTES].split_at(header.record_bytes as usize);
            assert!(bytes.starts_with(&table) && found.record_bytes == record && zeros.iter().all(|&byte| byte == 0));
            assert_eq!(ExtentRecord::parse(record).as_ref(), Ok(&found.record));
            assert_eq!(*found.root.as_bytes(), bytes[bytes.len() - 56..][..32]);
        }
        (Err(refused), Err((class, reason))) => {
            assert_eq!((Some(class), refused.to_string()), (expected, reason));
        }
        (parsed, examined) => panic!("{parsed:?} and {examined:?}"),
    }
}

/// The class of a tail that is refused, by the first table of the format.
fn class(header: &Header, header_bytes: &[u8], bytes: &[u8]) -> Option<Class> {
    let (table_bytes, record_bytes) = (header.identity.payload_bytes / 1024, u64::from(header.record_bytes));
    let tail_bytes = (table_bytes + record_bytes + 128).div_ceil(4096) * 4096;
    let Some((sealed, footer)) = bytes.split_last_chunk::<FOOTER_BYTES>().filter(|_| bytes.len() as u64 == tail_bytes)
    else {
        return Some(Class::TornCommitted);
    };
    if *footer == [0; FOOTER_BYTES] {
        return Some(Class::TornCommitted);
    }
    let (body, crc) = footer.split_last_chunk::<4>().expect("128 bytes");
    if !body.starts_with(b"NFFSEAL1") || crc32fast::hash(body).to_le_bytes() != *crc || body[112..] != [0; 12] {
        return Some(Class::RotFooter);
    }
    if body[8..40] != *Hash::of(header_bytes).as_bytes() {
        return Some(Class::RotHeader);
    }
    if body[40..72] != *Hash::of(sealed).as_bytes() || body[104..112] != header.identity.payload_bytes.to_le_bytes() {
        return Some(Class::RotFooter);
    }
    let (record, zeros) = sealed[table_bytes as usize..].split_at(record_bytes as usize);
    match ExtentRecord::parse(record) {
        Err(refused) if record_says_newer(record, &refused) => Some(Class::Unsupported),
        Ok(record) if (record.cell, record.extent) == (header.identity.cell, header.identity.extent) => {
            zeros.iter().any(|&byte| byte != 0).then_some(Class::RotFooter)
        }
        _ => Some(Class::RotFooter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ec_core::fragment::TailError;

    #[test]
    fn a_right_tail_is_reached_whatever_the_table() {
        for blocks in [0, 1, 1_000, BLOCKS_MAX] {
            let (header, record) = header(blocks, None);
            assert!(matches!(Header::parse(&header.to_bytes()), Ok(found) if found == header));
            let mut sealed = vec![7; 4 * blocks];
            sealed.extend_from_slice(record);
            sealed.resize(header.layout().tail_bytes as usize - FOOTER_BYTES, 0);
            let footer = Footer {
                header_hash: Hash::of(&header.to_bytes()),
                tail_hash: Hash::of(&sealed),
                root: Hash::of(b"any"),
                payload_bytes: header.identity.payload_bytes,
            };
            let bytes = [&sealed[..], &footer.to_bytes()].concat();
            assert!(parse_tail(&header, &header.to_bytes(), &bytes).is_ok());
            assert_eq!(class(&header, &header.to_bytes(), &bytes), None);
            assert!(matches!(parse_tail(&header, &header.to_bytes(), &bytes[1..]), Err(TailError::Length { .. })));
        }
    }
}
