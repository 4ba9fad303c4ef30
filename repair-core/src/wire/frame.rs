//! The envelope of every message, laid out by hand.
//!
//! ```text
//! 0   magic        4   "N9W1"
//! 4   kind         1   1 node request, 2 node reply, 3 daemon request, 4 daemon reply
//! 5   proof        1   0 the CRC of the body is below; 1 node replies only: the message proves the body, the field is 0
//! 6   zero         2
//! 8   number       8   of the request; its reply has the same
//! 16  header_bytes 4   at most 65,536
//! 20  body_bytes   4   at most 8 MiB
//! 24  body_crc     4   CRC-32 of the body, or 0
//! 28  crc          4   CRC-32 of bytes 0 to 27, then the header
//! 32  header           the message, by the codec
//!     body             raw bytes
//! ```

use crate::limits::{BODY_BYTES_MAX, MESSAGE_BYTES_MAX};

/// Bytes before the header.
pub const ENVELOPE_BYTES: usize = 32;

const MAGIC: &[u8; 4] = b"N9W1";

/// Who speaks, and whether it is question or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// [`NodeRequest`](super::NodeRequest).
    NodeRequest = 1,
    /// [`NodeReply`](super::NodeReply).
    NodeReply = 2,
    /// [`DaemonRequest`](super::DaemonRequest).
    DaemonRequest = 3,
    /// [`DaemonReply`](super::DaemonReply).
    DaemonReply = 4,
}

/// An envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the header is.
    pub kind: FrameKind,
    /// Number of the request.
    pub number: u64,
    /// Length of the header.
    pub header_bytes: u32,
    /// Length of the body.
    pub body_bytes: u32,
    /// CRC of the body; none where the message has what proves it.
    pub body_crc: Option<u32>,
    /// CRC of the envelope before it and the header.
    pub crc: u32,
}

/// Bytes that are no frame of this version. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Not the first bytes of a frame.
    #[error("not a frame of this protocol")]
    Magic,
    /// A kind this version does not know, or bytes that must be zero.
    #[error("a frame of an unknown kind")]
    Kind,
    /// A length over its limit.
    #[error(
        "a frame of {header} header and {body} body bytes; at most {MESSAGE_BYTES_MAX} and {BODY_BYTES_MAX} are allowed"
    )]
    TooLong {
        /// Header bytes.
        header: u32,
        /// Body bytes.
        body: u32,
    },
    /// Bytes changed on the way.
    #[error("a frame was altered on the way")]
    Crc,
}

impl Envelope {
    /// The envelope of a header and a body. The caller has kept to the limits.
    pub fn new(kind: FrameKind, number: u64, header: &[u8], body: &[u8]) -> Self {
        Self::sealed(kind, number, header, body.len(), Some(crc32fast::hash(body)))
    }

    /// The envelope of a node's reply whose message proves its body: [`NodeReply::Data`](super::NodeReply::Data) has the CRC of each
    /// block. The sender need not see the body.
    pub fn of_proven_body(number: u64, header: &[u8], body_bytes: usize) -> Self {
        Self::sealed(FrameKind::NodeReply, number, header, body_bytes, None)
    }

    fn sealed(kind: FrameKind, number: u64, header: &[u8], body_bytes: usize, body_crc: Option<u32>) -> Self {
        let (header_bytes, body_bytes) = (header.len() as u32, body_bytes as u32);
        let mut envelope = Self { kind, number, header_bytes, body_bytes, body_crc, crc: 0 };
        envelope.crc = envelope.seal(header);
        envelope
    }

    fn seal(&self, header: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.to_bytes()[..ENVELOPE_BYTES - 4]);
        hasher.update(header);
        hasher.finalize()
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; ENVELOPE_BYTES] {
        let mut bytes = [0; ENVELOPE_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4] = self.kind as u8;
        bytes[5] = u8::from(self.body_crc.is_none());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.header_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_crc.unwrap_or(0).to_le_bytes());
        bytes[28..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    /// Reads an envelope. Its lengths are within their limits, and not believed before [`Envelope::check_header`].
    ///
    /// # Errors
    /// [`FrameError`], before anything is allocated.
    pub fn parse(bytes: &[u8; ENVELOPE_BYTES]) -> Result<Self, FrameError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if &bytes[..4] != MAGIC {
            return Err(FrameError::Magic);
        }
        let (kind, body_crc) = match (&bytes[4..8], word(24)) {
            ([1, 0, 0, 0], crc) => (FrameKind::NodeRequest, Some(crc)),
            ([2, 0, 0, 0], crc) => (FrameKind::NodeReply, Some(crc)),
            ([2, 1, 0, 0], 0) => (FrameKind::NodeReply, None),
            ([3, 0, 0, 0], crc) => (FrameKind::DaemonRequest, Some(crc)),
            ([4, 0, 0, 0], crc) => (FrameKind::DaemonReply, Some(crc)),
            _ => return Err(FrameError::Kind),
        };
        let number = u64::from(word(8)) | u64::from(word(12)) << 32;
        let (header, body) = (word(16), word(20));
        if header as usize > MESSAGE_BYTES_MAX || body as usize > BODY_BYTES_MAX {
            return Err(FrameError::TooLong { header, body });
        }
        Ok(Self { kind, number, header_bytes: header, body_bytes: body, body_crc, crc: word(28) })
    }

    /// Whether envelope and header are as they were sent.
    ///
    /// # Errors
    /// [`FrameError::Crc`].
    pub fn check_header(&self, header: &[u8]) -> Result<(), FrameError> {
        if header.len() == self.header_bytes as usize && self.seal(header) == self.crc {
            Ok(())
        } else {
            Err(FrameError::Crc)
        }
    }

    /// Whether the body is as it was sent; of one that its message proves, whether it is as long.
    ///
    /// # Errors
    /// [`FrameError::Crc`].
    pub fn check_body(&self, body: &[u8]) -> Result<(), FrameError> {
        if body.len() == self.body_bytes as usize && self.body_crc.is_none_or(|crc| crc32fast::hash(body) == crc) {
            Ok(())
        } else {
            Err(FrameError::Crc)
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
