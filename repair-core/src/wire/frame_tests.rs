//! Envelopes: what is refused, and when.

use super::*;

fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let envelope = Envelope::new(FrameKind::DaemonRequest, 0x0102_0304_0506_0708, header, body);
    [&envelope.to_bytes()[..], header, body].concat()
}

/// As a receiver reads: nothing is believed before it was checked.
fn read(frame: &[u8]) -> Result<Envelope, FrameError> {
    let (envelope, rest) = frame.split_first_chunk().ok_or(FrameError::Magic)?;
    let envelope = Envelope::parse(envelope)?;
    let (header, body) = rest.split_at(rest.len().min(envelope.header_bytes as usize));
    envelope.check_header(header)?;
    envelope.check_body(body)?;
    Ok(envelope)
}

#[test]
fn an_envelope_reads_back() {
    for (header, body) in [(&b"header"[..], &b"body"[..]), (b"", b""), (&[0; MESSAGE_BYTES_MAX], &[7; 5000])] {
        let envelope = read(&frame(header, body)).unwrap();
        assert_eq!((envelope.kind, envelope.number), (FrameKind::DaemonRequest, 0x0102_0304_0506_0708));
        assert_eq!((envelope.header_bytes as usize, envelope.body_bytes as usize), (header.len(), body.len()));
    }
}

#[test]
fn every_changed_bit_is_seen() {
    let sound = frame(b"header", b"body");
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn every_missing_byte_is_seen() {
    let sound = frame(b"header", b"body");
    for end in 0..sound.len() {
        assert!(read(&sound[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(read(&[&sound[..], b"x"].concat()), Err(FrameError::Crc));
}

#[test]
fn lengths_over_their_limits_are_refused_before_anything_else_is_looked_at() {
    let sound = Envelope::new(FrameKind::NodeReply, 1, b"", b"");
    let with = |header_bytes, body_bytes| Envelope { header_bytes, body_bytes, ..sound };
    let (header, body) = (MESSAGE_BYTES_MAX as u32, BODY_BYTES_MAX as u32);
    assert!(Envelope::parse(&with(header, body).to_bytes()).is_ok());
    for envelope in [with(header + 1, 0), with(0, body + 1), with(u32::MAX, u32::MAX)] {
        let refused = Envelope::parse(&envelope.to_bytes());
        assert_eq!(refused, Err(FrameError::TooLong { header: envelope.header_bytes, body: envelope.body_bytes }));
    }
}

#[test]
fn other_protocols_versions_and_kinds_are_refused() {
    let sound = Envelope::new(FrameKind::NodeRequest, 1, b"", b"").to_bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = sound;
        bytes[at] = byte;
        Envelope::parse(&bytes)
    };
    assert_eq!(with(3, b'2'), Err(FrameError::Magic));
    assert_eq!(Envelope::parse(b"GET / HTTP/1.1\r\nHost: example.co"), Err(FrameError::Magic));
    for kind in (0..=255).filter(|kind| !(1..=4).contains(kind)) {
        assert_eq!(with(4, kind), Err(FrameError::Kind));
    }
    for at in 5..8 {
        assert_eq!(with(at, 1), Err(FrameError::Kind));
    }
}

#[test]
fn only_a_nodes_reply_may_leave_the_proof_of_its_body_to_the_message() {
    let sound = Envelope::of_proven_body(7, b"header", 4);
    let frame = [&sound.to_bytes()[..], b"header", b"body"].concat();
    assert_eq!(read(&frame), Ok(sound));
    // The body is not looked at; all else is.
    assert_eq!(read(&[&frame[..frame.len() - 1], b"Y"].concat()), Ok(sound));
    assert_eq!(read(&frame[..frame.len() - 1]), Err(FrameError::Crc));
    for bit in 0..(ENVELOPE_BYTES + 6) * 8 {
        let mut bytes = frame.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes).is_err(), "bit {bit}");
    }
    for (at, byte) in [(4, 1), (4, 3), (4, 4), (5, 2), (6, 1), (24, 1)] {
        let mut bytes = sound.to_bytes();
        bytes[at] = byte;
        assert_eq!(Envelope::parse(&bytes), Err(FrameError::Kind));
    }
}
