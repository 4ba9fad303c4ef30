//! Frames, messages and catalog rows.

use crate::bounded;
use repair_core::catalog::{CellRow, DiskRow, NameRow, OwnerRow, PgRow, StreamRow};
use repair_core::limits::{BODY_BYTES_MAX, MESSAGE_BYTES_MAX};
use repair_core::lineage::Lineage;
use repair_core::wire::codec::{decode_message, decode_row, encode_message, encode_row};
use repair_core::wire::frame::{ENVELOPE_BYTES, Envelope, FrameKind};
use repair_core::wire::{DaemonReply, DaemonRequest, NodeReply, NodeRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Any bytes behind a byte that says what they are: 0 to 3 a message, 4 to 9 a catalog row, 10 a frame.
pub fn wire_message(bytes: &[u8]) {
    let Some((what, bytes)) = bounded(bytes).split_first() else { return };
    match what % 11 {
        0 => message::<NodeRequest>(bytes),
        1 => message::<NodeReply>(bytes),
        2 => message::<DaemonRequest>(bytes),
        3 => message::<DaemonReply>(bytes),
        4 => row::<CellRow>(bytes),
        5 => {
            row::<DiskRow>(bytes);
            row::<Lineage>(bytes);
        }
        6 => row::<OwnerRow>(bytes),
        7 => row::<PgRow>(bytes),
        8 => row::<StreamRow>(bytes),
        9 => row::<NameRow>(bytes),
        _ => frame(bytes),
    }
}

/// What is accepted is written as it was read. Only maps and sets may be written shorter or in another order: they come sorted,
/// each entry once.
fn message<M: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    match decode_message::<M>(bytes) {
        Ok(message) => {
            assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            let written = encode_message(&message).expect("not longer than what was read");
            assert!(written.len() <= bytes.len(), "{message:?}");
            assert_eq!(decode_message::<M>(&written).as_ref(), Ok(&message));
        }
        Err(refused) => assert!((1..=1_000).contains(&refused.to_string().len()), "{refused}"),
    }
}

fn row<R: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    match decode_row::<R>(bytes) {
        Ok(row) => {
            let written = encode_row(&row).expect("not longer than what was read");
            assert!(written.len() <= bytes.len(), "{row:?}");
            assert_eq!(decode_row::<R>(&written).as_ref(), Ok(&row));
        }
        Err(refused) => assert!((1..=1_000).contains(&refused.to_string().len()), "{refused}"),
    }
}

/// As given, and once more with right checksums.
fn frame(bytes: &[u8]) {
    let Some((envelope, rest)) = bytes.split_first_chunk::<ENVELOPE_BYTES>() else { return };
    let Ok(parsed) = Envelope::parse(envelope) else { return };
    assert_eq!(parsed.to_bytes(), *envelope);
    let (header_bytes, body_bytes) = (parsed.header_bytes as usize, parsed.body_bytes as usize);
    assert!(header_bytes <= MESSAGE_BYTES_MAX && body_bytes <= BODY_BYTES_MAX);
    let (header, rest) = rest.split_at(rest.len().min(header_bytes));
    let body = &rest[..rest.len().min(body_bytes)];
    let sealed = match parsed.body_crc {
        Some(_) => Envelope::new(parsed.kind, parsed.number, header, body),
        None => Envelope::of_proven_body(parsed.number, header, body.len()),
    };
    assert_eq!(sealed.check_header(header), Ok(()));
    assert_eq!(sealed.check_body(body), Ok(()));
    if parsed.check_header(header).is_ok() {
        assert_eq!(header.len(), header_bytes);
        if parsed.check_body(body).is_ok() {
            assert_eq!(parsed, sealed, "a frame has one envelope");
        }
    }
    match parsed.kind {
        FrameKind::NodeRequest => message::<NodeRequest>(header),
        FrameKind::NodeReply => message::<NodeReply>(header),
        FrameKind::DaemonRequest => message::<DaemonRequest>(header),
        FrameKind::DaemonReply => message::<DaemonReply>(header),
    }
}
