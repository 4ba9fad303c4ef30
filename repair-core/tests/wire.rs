//! The golden frames and rows of `testdata/wire-v1`: this program writes exactly these bytes and reads them back, and takes
//! nothing else for them.

#[path = "../examples/make_wire.rs"]
#[allow(dead_code)]
mod make_wire;

use repair_core::catalog::{CellRow, DiskRow, IntentRow, LeaseRow, NameRow, OwnerRow, PauseRow, PgRow, StreamRow};
use repair_core::id::RecordHash;
use repair_core::lineage::Lineage;
use repair_core::repair::Finding;
use repair_core::wire::codec::{CodecError, decode_message, decode_row, encode_message};
use repair_core::wire::frame::{ENVELOPE_BYTES, Envelope, FrameKind};
use repair_core::wire::{DaemonReply, DaemonRequest, NodeReply, NodeRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/wire-v1")
}

fn stored(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_stored_bytes_are_those_this_program_writes() {
    let made = make_wire::files().unwrap();
    for (name, bytes) in &made {
        assert!(stored(name) == *bytes, "{name} changed: that is another format");
    }
    let names: BTreeSet<_> = made.iter().map(|(name, _)| name.clone()).collect();
    let there = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), names);
    assert_eq!(made.len(), names.len());
}

/// Reads a frame as it lies there: envelope, header, body.
fn read(name: &str) -> (Envelope, Vec<u8>, Vec<u8>) {
    let bytes = stored(name);
    let (envelope, rest) = bytes.split_first_chunk::<ENVELOPE_BYTES>().unwrap();
    let envelope = Envelope::parse(envelope).unwrap();
    let (header, body) = rest.split_at(envelope.header_bytes as usize);
    envelope.check_header(header).unwrap();
    envelope.check_body(body).unwrap();
    (envelope, header.to_vec(), body.to_vec())
}

fn read_back<M>(prefix: &str, kind: FrameKind, samples: Vec<make_wire::Sample<M>>)
where
    M: DeserializeOwned + Serialize + PartialEq + Debug,
{
    for (name, message, sent) in samples {
        let (envelope, header, body) = read(&format!("{prefix}-{name}.bin"));
        assert_eq!(envelope.kind, kind);
        assert_eq!(decode_message::<M>(&header).as_ref(), Ok(&message), "{name}");
        assert!(body == sent, "{name}");
        refuses_all_else::<M>(name, &header);
    }
}

/// No shorter bytes and no longer ones are the message, and no length in it makes anything but an error of it.
fn refuses_all_else<M: DeserializeOwned + Serialize + PartialEq + Debug>(name: &str, header: &[u8]) {
    for end in 0..header.len() {
        let cut = decode_message::<M>(&header[..end]);
        assert!(matches!(cut, Err(CodecError::Malformed(_))), "{name} cut at {end}: {cut:?}");
    }
    for extra in [1, 4, 8] {
        let longer = [header, &vec![0; extra][..]].concat();
        assert_eq!(decode_message::<M>(&longer), Err(CodecError::Trailing { extra }), "{name}");
    }
    for at in 0..header.len().saturating_sub(7) {
        for hostile in [u64::MAX, 1 << 40, u64::from(u32::MAX), 1 << 17] {
            let mut bytes = header.to_vec();
            bytes[at..at + 8].copy_from_slice(&hostile.to_le_bytes());
            // A number that is no length may be anything: then the message is read, and is those bytes.
            if let Ok(message) = decode_message::<M>(&bytes) {
                assert_eq!(encode_message(&message).as_ref(), Ok(&bytes), "{name} at {at}");
            }
        }
    }
}

#[test]
fn every_message_reads_back_and_nothing_else_is_taken_for_it() {
    read_back::<NodeRequest>("node-request", FrameKind::NodeRequest, make_wire::node_requests());
    read_back::<NodeReply>("node-reply", FrameKind::NodeReply, make_wire::node_replies());
    read_back::<DaemonRequest>("daemon-request", FrameKind::DaemonRequest, make_wire::daemon_requests());
    read_back::<DaemonReply>("daemon-reply", FrameKind::DaemonReply, make_wire::daemon_replies());
}

/// Every variant has a stored frame: their tags are 0 and up without a gap, and the next tag is unknown.
fn every_variant<M: DeserializeOwned + Serialize + Debug>(samples: Vec<make_wire::Sample<M>>) {
    let tag = |message: &M| u32::from_le_bytes(encode_message(message).unwrap()[..4].try_into().unwrap());
    let tags: BTreeSet<u32> = samples.iter().map(|(_, message, _)| tag(message)).collect();
    let next = u32::try_from(tags.len()).unwrap();
    assert_eq!(tags, (0..next).collect());
    unknown::<M>(&next.to_le_bytes());
}

/// These bytes end in the tag of a variant there is not, whatever follows.
fn unknown<M: DeserializeOwned + Debug>(bytes: &[u8]) {
    let found = decode_message::<M>(&[bytes, &[0; 4096]].concat());
    let Err(CodecError::Malformed(why)) = found else { panic!("{found:?}") };
    assert!(why.contains("variant"), "{why}");
}

#[test]
fn every_variant_is_stored() {
    every_variant(make_wire::node_requests());
    every_variant(make_wire::node_replies());
    every_variant(make_wire::daemon_requests());
    every_variant(make_wire::daemon_replies());
    // The second tag, of refusals: 0 is that of Refused.
    let refusals = u8::try_from(make_wire::refusals().len()).unwrap() + 1;
    unknown::<NodeReply>(&[0, 0, 0, 0, refusals, 0, 0, 0]);
    unknown::<DaemonReply>(&[4, 0, 0, 0, 3, 0, 0, 0]);
    unknown::<DaemonRequest>(&[15, 0, 0, 0, 4, 0, 0, 0]);
}

#[test]
fn every_row_reads_back_and_nothing_else_is_taken_for_it() {
    assert_eq!(row::<CellRow>("cell"), make_wire::cell_row());
    assert_eq!(row::<DiskRow>("disk"), make_wire::disk_row());
    assert_eq!(row::<Lineage>("life"), make_wire::lineage());
    assert_eq!(row::<(RecordHash, Finding)>("audit"), make_wire::audit_row());
    assert_eq!(row::<IntentRow>("intent"), make_wire::intent_row());
    assert_eq!(row::<PauseRow>("pause"), make_wire::pause_row());
    assert_eq!(row::<OwnerRow>("owner").token.revision, 33);
    assert_eq!(row::<LeaseRow>("lease"), make_wire::lease_row());
    assert_eq!(row::<PgRow>("pg"), make_wire::pg_row());
    assert_eq!(row::<StreamRow>("stream"), make_wire::stream_row());
    assert_eq!(row::<NameRow>("name"), make_wire::name_row());
}

fn row<R: DeserializeOwned + PartialEq + Debug>(name: &str) -> R {
    let bytes = stored(&format!("row-{name}.bin"));
    for end in 0..bytes.len() {
        assert!(matches!(decode_row::<R>(&bytes[..end]), Err(CodecError::Malformed(_))), "{name} cut at {end}");
    }
    assert_eq!(decode_row::<R>(&[&bytes[..], &[0]].concat()), Err(CodecError::Trailing { extra: 1 }), "{name}");
    let later = [&[2], &bytes[1..]].concat();
    assert_eq!(decode_row::<R>(&later), Err(CodecError::Version { found: 2 }), "{name}");
    decode_row(&bytes).unwrap()
}

/// By hand, from `docs/format/wire.md` alone.
#[test]
fn a_frame_is_what_the_format_page_says() {
    let body: Vec<u8> = (0..4096u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut header = Vec::new();
    // StageData: the ninth question to a node; key {attempt {claim, number}, extent, index}, offset.
    header.extend(8u32.to_le_bytes());
    header.extend(0xc1a1u128.to_le_bytes());
    header.extend(9u64.to_le_bytes());
    let high = 0xabcdu128 << 112 | 7 << 80 | 2 << 68 | 0x1_2345 << 32;
    let check = blake3::hash(&high.to_be_bytes()[..12]);
    let check = u32::from_le_bytes(check.as_bytes()[..4].try_into().unwrap());
    header.extend((high | u128::from(check)).to_le_bytes());
    header.extend(5u16.to_le_bytes());
    header.extend(8192u64.to_le_bytes());
    let mut frame = b"N9W1\x01\0\0\0".to_vec();
    frame.extend(0x0123_4567_89ab_0008u64.to_le_bytes());
    frame.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    frame.extend(4096u32.to_le_bytes());
    frame.extend(crc32fast::hash(&body).to_le_bytes());
    let crc = crc32fast::hash(&[&frame[..], &header].concat());
    frame.extend(crc.to_le_bytes());
    frame.extend(header);
    frame.extend(body);
    assert!(frame == stored("node-request-stage-data.bin"));
}
