//! The one place that names bincode: message headers and catalog rows to bytes and back.
//!
//! bincode 2.0.1 is the last of its line. Its *legacy* configuration (little-endian, fixed-width integers) is read and written
//! by other crates too, so leaving is a change of this file. Without a limit it can be made to allocate anything; here every
//! call has one, and trailing bytes, which it ignores, are refused.

use crate::limits::{CATALOG_VALUE_BYTES_MAX, MESSAGE_BYTES_MAX};
use bincode::config::{self, Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// First byte of every catalog value.
const ROW_VERSION: u8 = 1;

const MESSAGE: Configuration<LittleEndian, Fixint, Limit<MESSAGE_BYTES_MAX>> =
    config::legacy().with_limit::<MESSAGE_BYTES_MAX>();
const ROW: Configuration<LittleEndian, Fixint, Limit<CATALOG_VALUE_BYTES_MAX>> =
    config::legacy().with_limit::<CATALOG_VALUE_BYTES_MAX>();

/// Bytes that are no value, or a value that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Longer than the limit.
    #[error("{bytes} bytes encoded; at most {limit} are allowed")]
    TooLong {
        /// Bytes it takes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not the bytes of such a value.
    #[error("not a value of this kind: {0}")]
    Malformed(String),
    /// The value ends before the bytes do.
    #[error("{extra} bytes behind the value")]
    Trailing {
        /// Bytes left over.
        extra: usize,
    },
    /// A version this program does not know.
    #[error("version {found}, this program knows {ROW_VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
}

/// A message as bytes.
///
/// # Errors
/// [`CodecError::TooLong`] past [`MESSAGE_BYTES_MAX`].
pub fn encode_message(message: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(message, config::legacy())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    fits(bytes, MESSAGE_BYTES_MAX)
}

/// A message from bytes, which it must fill.
///
/// # Errors
/// [`CodecError`] for anything else than the bytes of one message.
pub fn decode_message<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: bytes.len(), limit: MESSAGE_BYTES_MAX });
    }
    whole(bincode::serde::decode_from_slice(bytes, MESSAGE), bytes.len())
}

/// A catalog row as bytes.
///
/// # Errors
/// [`CodecError::TooLong`] past [`CATALOG_VALUE_BYTES_MAX`].
pub fn encode_row(row: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![ROW_VERSION];
    bincode::serde::encode_into_std_write(row, &mut bytes, config::legacy())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    fits(bytes, CATALOG_VALUE_BYTES_MAX)
}

/// A catalog row from bytes.
///
/// # Errors
/// [`CodecError`] for anything else than the bytes of one row of a known version.
pub fn decode_row<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > CATALOG_VALUE_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: bytes.len(), limit: CATALOG_VALUE_BYTES_MAX });
    }
    match bytes.split_first() {
        Some((&ROW_VERSION, rest)) => whole(bincode::serde::decode_from_slice(rest, ROW), rest.len()),
        Some((&found, _)) => Err(CodecError::Version { found }),
        None => Err(CodecError::Malformed("no bytes".into())),
    }
}

fn fits(bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, CodecError> {
    if bytes.len() > limit { Err(CodecError::TooLong { bytes: bytes.len(), limit }) } else { Ok(bytes) }
}

fn whole<T>(decoded: Result<(T, usize), bincode::error::DecodeError>, length: usize) -> Result<T, CodecError> {
    let (value, used) = decoded.map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used == length { Ok(value) } else { Err(CodecError::Trailing { extra: length - used }) }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
