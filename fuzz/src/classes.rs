//! Classes of damage as `docs/format/fragment.md` section 7 has them, table by table, for a file in memory. What is a header
//! and what is a record is taken from `ec-core`; every comparison between them is made here a second time.

use ec_core::fragment::{
    Class, ExtentRecord, FOOTER_BYTES, FormatError, FragmentName, HEADER_BYTES, Hash, Header, RECORD_BYTES_MAX,
};
use ec_core::geometry::BLOCK_BYTES;

/// The first table of the section: the class the bytes have by themselves, `Healthy` where it says "with all of these right".
pub(crate) fn class_of_structure(bytes: &[u8]) -> Class {
    let header_bytes = &bytes[..bytes.len().min(HEADER_BYTES)];
    let footer = bytes.last_chunk::<FOOTER_BYTES>();
    let seal_right = footer.is_some_and(|footer| footer.starts_with(b"NFFSEAL1") && footer_right(footer));
    let header = match Header::parse(header_bytes) {
        Ok(header) => header,
        Err(_) if header_says_newer(header_bytes) => return Class::Unsupported,
        Err(_) if seal_right => return Class::RotHeader,
        Err(_) => return Class::TornUncommitted,
    };
    let Some(footer) = footer.filter(|_| bytes.len() as u64 == file_bytes(&header)) else {
        return Class::TornCommitted;
    };
    if *footer == [0; FOOTER_BYTES] {
        return Class::TornCommitted;
    }
    if !seal_right {
        return Class::RotFooter;
    }
    if footer[8..40] != *Hash::of(header_bytes).as_bytes() {
        return Class::RotHeader;
    }
    let sealed = sealed(&header, bytes);
    if footer[40..72] != *Hash::of(sealed).as_bytes() || footer[104..112] != header.identity.payload_bytes.to_le_bytes()
    {
        return Class::RotFooter;
    }
    class_of_record(&header, sealed)
}

fn class_of_record(header: &Header, sealed: &[u8]) -> Class {
    let (record_at, record_end) = record_place(header);
    assert!(record_end - record_at <= RECORD_BYTES_MAX);
    let record = &sealed[record_at..record_end];
    match ExtentRecord::parse(record) {
        Err(refused) if record_says_newer(record, &refused) => Class::Unsupported,
        Ok(record)
            if (record.cell, record.extent) == (header.identity.cell, header.identity.extent)
                && sealed[record_end..].iter().all(|&byte| byte == 0) =>
        {
            Class::Healthy
        }
        _ => Class::RotFooter,
    }
}

/// Whether the bytes are a header with a right CRC that asks for a later reader or has a critical flag. No other field counts.
pub(crate) fn header_says_newer(bytes: &[u8]) -> bool {
    bytes.len() == HEADER_BYTES
        && bytes.starts_with(b"\x89NFF\r\n\x1a\n")
        && crc_right(bytes)
        && (u16::from_le_bytes([bytes[10], bytes[11]]) > 1 || bytes[12..16] != [0; 4])
}

/// As [`header_says_newer`] for a record. A critical extension says the same, once everything before it is right; only there
/// the reason that `ec-core` gave is asked.
pub(crate) fn record_says_newer(bytes: &[u8], refused: &FormatError) -> bool {
    let critical_extension = matches!(refused, FormatError::CriticalFlags { what: "record extension", .. });
    let (version, flags) = match bytes {
        [b'N', b'F', b'X', b'R', a, b, flags @ .., _, _, _, _] if flags.len() >= 2 => {
            (u16::from_le_bytes([*a, *b]), &flags[..2])
        }
        _ => return false,
    };
    bytes.len() <= RECORD_BYTES_MAX
        && crc_right(bytes)
        && (version > 1 || version == 1 && flags != [0; 2] || critical_extension)
}

/// Whether the last four bytes are the CRC of those before.
fn crc_right(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<4>().is_some_and(|(body, crc)| crc32fast::hash(body).to_le_bytes() == *crc)
}

/// The second table, for a file of which the first found nothing.
pub(crate) fn class_by_record(
    name: Option<FragmentName>,
    bytes: &[u8],
    on_file: &ExtentRecord,
    on_file_bytes: &[u8],
) -> Class {
    let header = Header::parse(&bytes[..HEADER_BYTES]).expect("the first table found nothing");
    let identity = header.identity;
    let own = FragmentName { extent: identity.extent, generation: identity.generation, index: identity.index };
    let sealed = sealed(&header, bytes);
    let (record_at, record_end) = record_place(&header);
    let root = &bytes[bytes.len() - FOOTER_BYTES + 72..][..32];
    let entry = on_file.fragments.get(identity.index.at());
    let Some(entry) = entry.filter(|_| (identity.cell, identity.extent) == (on_file.cell, on_file.extent)) else {
        return if name.is_none_or(|name| name == own) { Class::Conflict } else { Class::Identity };
    };
    let payload = &bytes[HEADER_BYTES..bytes.len() - sealed.len() - FOOTER_BYTES];
    let seed = u32::from_le_bytes(*Hash::of(&identity.to_bytes()).as_bytes().first_chunk().expect("32 bytes"));
    let block_wrong = (0u32..).zip(payload.chunks(BLOCK_BYTES)).any(|(number, block)| {
        let mut crc = crc32fast::Hasher::new_with_initial(seed ^ number);
        crc.update(block);
        sealed[4 * number as usize..][..4] != crc.finalize().to_le_bytes()
    });
    let computed = Hash::of(&[&identity.to_bytes()[..], Hash::of(payload).as_bytes()].concat());
    let compared = [
        (Class::Identity, name.is_some_and(|name| name != own)),
        (Class::Stale, identity.generation < entry.identity.generation),
        (Class::OrphanNewer, identity.generation > entry.identity.generation),
        (Class::Conflict, identity != entry.identity || root != entry.root.as_bytes()),
        (Class::Conflict, sealed[record_at..record_end] != *on_file_bytes),
        (Class::RotPayload, block_wrong),
        (Class::Impossible, root != computed.as_bytes()),
    ];
    compared.into_iter().find(|(_, differs)| *differs).map_or(Class::Healthy, |(class, _)| class)
}

/// CRC and zeros.
fn footer_right(footer: &[u8; FOOTER_BYTES]) -> bool {
    crc_right(footer) && footer[112..124] == [0; 12]
}

fn file_bytes(header: &Header) -> u64 {
    let (payload, record) = (header.identity.payload_bytes, u64::from(header.record_bytes));
    4096 + payload + (4 * (payload / 4096) + record + 128).div_ceil(4096) * 4096
}

/// Table, record and zeros of a file of the right size.
fn sealed<'a>(header: &Header, bytes: &'a [u8]) -> &'a [u8] {
    let payload_bytes = usize::try_from(header.identity.payload_bytes).expect("inside the file");
    &bytes[HEADER_BYTES + payload_bytes..bytes.len() - FOOTER_BYTES]
}

/// Where the record lies in what is sealed.
fn record_place(header: &Header) -> (usize, usize) {
    let table_bytes = usize::try_from(header.identity.payload_bytes / 4096 * 4).expect("inside the file");
    (table_bytes, table_bytes + header.record_bytes as usize)
}
