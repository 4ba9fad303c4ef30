//! Why bytes are not a header, a record or a tail of this format.

use crate::error::CodeError;

/// Why bytes were refused, or why they cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Another number of bytes than this part has.
    #[error("{what}: {found} bytes where {expected} are needed")]
    Length {
        /// The part.
        what: &'static str,
        /// Bytes needed.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// The part does not begin with its magic.
    #[error("{what}: no magic")]
    Magic {
        /// The part.
        what: &'static str,
    },
    /// The CRC over the part is wrong.
    #[error("{what}: CRC is {found:08x}, stored is {stored:08x}")]
    Checksum {
        /// The part.
        what: &'static str,
        /// The CRC in the bytes.
        stored: u32,
        /// The CRC of the bytes.
        found: u32,
    },
    /// Written by a newer format that says this reader must not read it. Not damage.
    #[error("{what}: newer format, needs reader version {needed}, this is {known}")]
    NewerFormat {
        /// The part.
        what: &'static str,
        /// The version it asks for.
        needed: u16,
        /// The version of this reader.
        known: u16,
    },
    /// A critical flag or extension this reader does not know. Not damage.
    #[error("{what}: newer format, unknown critical bits {bits:#x}")]
    CriticalFlags {
        /// The part.
        what: &'static str,
        /// The bits not known; for an extension its type.
        bits: u32,
    },
    /// A value of an enumerated field that this reader does not know, in bytes that do not say they are of a newer format.
    /// Whoever writes a new value says so, hence damage.
    #[error("{field} has unknown value {value}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The code descriptor is refused, in bytes that do not say they are of a newer format. Damage, as an unknown value is.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// Bytes that version 1 keeps zero are not.
    #[error("{what}: reserved bytes are not zero")]
    NotZero {
        /// The part.
        what: &'static str,
    },
    /// A number is outside its limits.
    #[error("{what} is {value}, allowed are {min} to {max}")]
    Limit {
        /// The number.
        what: &'static str,
        /// Its value.
        value: u64,
        /// Least value allowed.
        min: u64,
        /// Greatest value allowed.
        max: u64,
    },
    /// Two numbers that must agree do not.
    #[error("{what} is {found}, expected {expected}")]
    Mismatch {
        /// The number.
        what: &'static str,
        /// What the other fields make it.
        expected: u64,
        /// Its value.
        found: u64,
    },
    /// Two parts that must name the same thing do not.
    #[error("{what}")]
    Inconsistent {
        /// What does not agree with what.
        what: &'static str,
    },
}

impl FormatError {
    /// Whether the bytes themselves say, under a CRC that held, that this reader must not read them. Such a file is left
    /// alone; it is neither rot nor torn. A value that is merely unknown does not say so: left alone, it would be damage that
    /// nobody repairs.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::NewerFormat { .. } | Self::CriticalFlags { .. })
    }
}

/// Why the last bytes of a file are not the tail that belongs to its header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TailError {
    /// There are zeros where the footer should be: the file was never finished, or what finished it did not last.
    #[error("no seal")]
    Absent,
    /// The bytes are not as long as the header makes the tail.
    #[error("tail of {found} bytes where the header makes it {expected}")]
    Length {
        /// Bytes of the tail by the header.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// There is a seal, but the footer is not what was written.
    #[error("damaged footer: {0}")]
    Footer(FormatError),
    /// The footer is right and is the seal of another header.
    #[error("the header is not the one the footer seals")]
    HeaderHash,
    /// The footer is right and table, record or zeros are not what it seals.
    #[error("table, record or zeros are not what the footer seals")]
    TailHash,
    /// What the footer seals is not a record of this format.
    #[error("sealed record refused: {0}")]
    Record(FormatError),
}
