//! A whole file under a name, beside the record on file: the library's class is the one that the tables of the format give.
//!
//! `fragment_set` damages files by operations that mean something. Here any bytes are the file, or any patches of a right one, with
//! any of its checksums made right again: so every check is reached alone, and in every company.

use crate::classes::{class_by_record, class_of_structure};
use crate::extent::{Extent, Plan, record_range, reseal_footer, reseal_header};
use crate::{Input, bounded, set_crc};
use ec_core::Code;
use ec_core::fragment::{Class, ExtentId, ExtentRecord, FragmentName, HEADER_BYTES, Header, examine, judge};
use std::sync::OnceLock;

const PATCHES_MAX: usize = 16;

/// The first byte says what the others are: a file as it is, or patches of fragment 1 of one of the extents.
pub fn fragment_file(bytes: &[u8]) {
    let Some((what, bytes)) = bounded(bytes).split_first() else { return };
    if what.is_multiple_of(4) {
        return agree(bytes, &extents()[0], 1);
    }
    let mut input = Input(bytes);
    let extent = &extents()[input.below(extents().len())];
    let mut file = extent.fragments[1].file.clone();
    // Which checksums are made right again, one bit each.
    let right = input.byte();
    for _ in 0..PATCHES_MAX {
        if input.is_empty() {
            break;
        }
        patch(&mut file, &mut input);
    }
    resize(&mut file, right);
    if right & 1 != 0 {
        reseal_header(&mut file);
    }
    if right & 2 != 0
        && let Some(range) = record_range(&file)
    {
        set_crc(&mut file[range]);
    }
    if right & 4 != 0 {
        reseal_footer(&mut file);
    }
    for on_file in extents() {
        agree(&file, on_file, 1);
    }
}

/// Two generations of an extent, and one without payload.
fn extents() -> &'static [Extent; 3] {
    static EXTENTS: OnceLock<[Extent; 3]> = OnceLock::new();
    EXTENTS.get_or_init(|| {
        let code = Code::new(&"rs:3+2".parse().expect("a code")).expect("a small MDS code");
        let extent = |id, generation, extent_bytes, paint| {
            Extent::encode(Plan { code: &code, extent: ExtentId(id), generation, extent_bytes, paint })
        };
        [extent(9, 2, 20_000, 1), extent(9, 1, 20_000, 2), extent(7, 1, 0, 3)]
    })
}

/// Part (1), place in it (2), how many bytes (1), the bytes. None of the footer stands for all of it: zeros, as in room that no write reached.
fn patch(file: &mut [u8], input: &mut Input<'_>) {
    let end = file.len();
    let payload_end = Header::parse(&file[..HEADER_BYTES]).map_or(end, |header| header.layout().table_at as usize);
    let number = input.byte() % 4;
    let part = match number {
        // Where the fields are.
        0 => 0..128,
        1 => HEADER_BYTES..payload_end.min(end),
        2 => payload_end.min(end)..end,
        _ => end - 128..end,
    };
    let (at, count) = (part.start + input.below(part.len()), usize::from(input.byte()) % 9);
    if (number, count) == (3, 0) {
        file[end - 128..].fill(0);
    }
    for place in file.iter_mut().skip(at).take(count) {
        *place = input.byte();
    }
}

/// Some lengths beside the right one.
fn resize(file: &mut Vec<u8>, right: u8) {
    match right >> 5 {
        1 => file.truncate(file.len() - 4096),
        2 => file.resize(file.len() + 4096, 0),
        3 => file.truncate(file.len() - 1),
        _ => {}
    }
}

/// Class and findings are those of the model, by the file alone and beside the record on file.
fn agree(file: &[u8], on_file: &Extent, index: usize) {
    let found = examine(file);
    let structure = class_of_structure(file);
    if structure != Class::Healthy {
        assert_eq!((found.class, found.tail.is_none()), (structure, true), "{}", found.reason);
        return;
    }
    let (Some(header), Some(tail)) = (found.header, &found.tail) else {
        panic!("whole by the format, {} by the library: {}", found.class, found.reason);
    };
    let own = ExtentRecord::parse(&tail.record_bytes).expect("the first table found nothing");
    assert_eq!(found.class, class_by_record(None, file, &own, &tail.record_bytes), "{}", found.reason);
    assert_eq!(found.reason.is_empty(), found.class == Class::Healthy, "{}", found.reason);
    let name = on_file.fragments[index].name;
    let record = ExtentRecord::parse(&on_file.record_bytes).expect("as it was written");
    for name in [None, Some(name), Some(FragmentName { generation: name.generation + 1, ..name })] {
        let judged = judge(name, &header, &tail.root, &tail.record_bytes, &record, &on_file.record_bytes);
        let class = match judged {
            Err((class, _)) => class,
            // What the payload says is the same beside any record.
            Ok(()) => found.class,
        };
        assert_eq!(class, class_by_record(name, file, &record, &on_file.record_bytes), "{name:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_reach_every_class_that_a_file_can_have() {
        let class = |input: &[u8]| {
            let mut file = extents()[0].fragments[1].file.clone();
            patch(&mut file, &mut Input(input));
            (class_of_structure(&file), examine(&file).class)
        };
        assert_eq!(class(&[0, 20, 0, 1, 9]), (Class::RotHeader, Class::RotHeader));
        assert_eq!(class(&[1, 0, 0, 1, 251]), (Class::Healthy, Class::RotPayload));
        assert_eq!(class(&[2, 0, 0, 1, 251]), (Class::RotFooter, Class::RotFooter));
        assert_eq!(class(&[3, 0, 0, 1, 251]), (Class::RotFooter, Class::RotFooter));
        assert_eq!(class(&[3, 0, 0, 0]), (Class::TornCommitted, Class::TornCommitted));
    }
}
