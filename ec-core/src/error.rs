//! Errors of codes and shards. Each carries the numbers a caller needs to say what to do.

use crate::buffer::AllocationError;
use crate::shard::ShardIndex;

/// Why a code could not be made from its specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// The text is not one of the forms below.
    #[error(
        "unknown code \"{text}\": {reason}; accepted are replicate:N, rs:K+M, rs:K+M@lch|cauchy|power|vandermonde|jerasure, lrc:K,L,R, lrc-uniform:K,L,R, xorbas, and in the library wide:K+M, hitchhiker:K+M, clay:K+M, lrc:K,L,R@gf16"
    )]
    Syntax {
        /// What was given, cut to 64 characters.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A number is outside what the code family allows.
    #[error("{spec}: {reason}")]
    Params {
        /// The specification in canonical form.
        spec: String,
        /// Which limit is broken, with both numbers.
        reason: String,
    },
    /// The matrix has a singular square submatrix, so some loss the code should survive would lose data.
    #[error(
        "{spec} is not MDS: losing data {data:?} and keeping only parities {parities:?} of those that remain cannot be decoded; use rs:K+M or rs:K+M@cauchy"
    )]
    NotMds {
        /// The specification in canonical form.
        spec: String,
        /// Parity rows of the singular submatrix.
        parities: Vec<u16>,
        /// Data columns of the singular submatrix.
        data: Vec<u16>,
    },
    /// A stripe cannot be encoded at this slot.
    #[error("{spec} at slot {slot}: {reason}")]
    Slot {
        /// The specification in canonical form.
        spec: String,
        /// The slot that was asked for.
        slot: u16,
        /// What does not fit.
        reason: String,
    },
    /// A matrix where a code is wanted by name.
    #[error(
        "{text}: a matrix is no name of a code: fragments that carry it could not be read without the file; `ninefold code matrix:FILE` and ec_core::Code::from_parity_rows judge and use it"
    )]
    MatrixByName {
        /// What was given, cut to 32 characters.
        text: String,
    },
    /// Parity rows are no code.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// A wide code or a vector code where fragments are wanted.
    #[error(
        "{spec} is for the library alone (ec_core::WideCode, ec_core::VectorCode): the fragment format and the service have codes of at most 256 fragments without sub-chunks; use rs:K+M or lrc:K,L,2"
    )]
    LibraryOnly {
        /// The specification in canonical form.
        spec: String,
    },
    /// The kernel asked for by `NINEFOLD_KERNEL` cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Why parity rows from elsewhere are no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// There is no row, or there are no columns.
    #[error("the matrix is empty: it needs a parity row of at least one coefficient")]
    Empty,
    /// A row is not as long as those before it.
    #[error("line {line} has {found} coefficients where those before have {expected}")]
    Ragged {
        /// Counted from 1.
        line: usize,
        /// Coefficients of the first row.
        expected: usize,
        /// Coefficients of this one.
        found: usize,
    },
    /// A line is not written in pairs of hexadecimal digits.
    #[error("line {line} is not in pairs of hexadecimal digits")]
    NotHex {
        /// Counted from 1.
        line: usize,
    },
    /// More shards than a code over GF(2^8) has.
    #[error("{k} data and {m} parity fragments, but GF(2^8) allows at most 256 in all")]
    TooLarge {
        /// Columns.
        k: usize,
        /// Rows; those after the first 256 are not counted.
        m: usize,
    },
    /// A parity that says nothing.
    #[error("parity row {row} is singular: all its coefficients are zero")]
    ZeroRow {
        /// Counted from 0.
        row: usize,
    },
    /// A data shard in no parity: its loss could never be made good.
    #[error("data fragment {column} is in no parity: the matrix is singular, and its loss would be for ever")]
    ZeroColumn {
        /// Counted from 0.
        column: usize,
    },
}

/// Why no kernel could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// `NINEFOLD_KERNEL` names none that this machine can run.
    #[error("NINEFOLD_KERNEL={name} is unknown or not supported by this CPU; available: {available}")]
    Unavailable {
        /// The name that was asked for.
        name: String,
        /// Names that would work, comma separated.
        available: String,
    },
    /// The kernel computed wrong bytes at start-up. The CPU or the build is not to be trusted.
    #[error("kernel {name} failed its self-test: wrong bytes; set NINEFOLD_KERNEL to another one and check this CPU")]
    SelfTest {
        /// The kernel that failed.
        name: &'static str,
    },
}

/// Why coefficients could not be prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a matrix of {rows} x {columns} is too large for a transform: at most {limit} rows and {limit} columns")]
pub struct TransformError {
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// The most of either.
    pub limit: usize,
}

/// Why shards could not be encoded, planned or decoded. Outputs are untouched whenever one of these is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The fragments at hand do not determine what is wanted.
    #[error("not decodable: {present} fragments at hand, missing {missing:?}; at least {needed_more} more are needed")]
    NotDecodable {
        /// How many fragments are at hand.
        present: usize,
        /// Fragments that are not at hand.
        missing: Vec<u16>,
        /// The least number of further fragments that could make it decodable.
        needed_more: usize,
    },
    /// A buffer differs in length from the first one.
    #[error("fragment {index} has {found} bytes where {expected} were expected")]
    LengthMismatch {
        /// Fragment whose buffer is wrong.
        index: ShardIndex,
        /// Bytes of the first buffer.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The index is not below `n`.
    #[error("fragment index {index} is outside 0..{shards}")]
    IndexOutOfRange {
        /// The offending index.
        index: ShardIndex,
        /// `n` of the code.
        shards: usize,
    },
    /// The same index was given twice, or as input and output at once.
    #[error("fragment index {index} was given twice")]
    Duplicate {
        /// The offending index.
        index: ShardIndex,
    },
    /// Another number of buffers than the code or plan has.
    #[error("{found} buffers were given where {expected} are needed")]
    WrongCount {
        /// Buffers the code or plan needs.
        expected: usize,
        /// Buffers found.
        found: usize,
    },
    /// An input the plan reads was not given.
    #[error("the plan reads fragment {index}, which was not given")]
    MissingInput {
        /// The fragment the plan needs.
        index: ShardIndex,
    },
    /// Fewer shards of a wide code are at hand than it needs.
    #[error("not decodable: {present} fragments at hand where {needed} are needed")]
    TooFewShards {
        /// `k` of the code.
        needed: usize,
        /// Those at hand.
        present: usize,
    },
    /// A buffer ends inside an element.
    #[error("buffers of {found} bytes, which is no multiple of {granularity}")]
    Granularity {
        /// Bytes of the first buffer.
        found: usize,
        /// Bytes it must be a multiple of.
        granularity: usize,
    },
    /// The buffers hold nothing.
    #[error("the buffers are empty; each needs at least {granularity} bytes")]
    Empty {
        /// Bytes a buffer is a multiple of.
        granularity: usize,
    },
    /// The plan does not rebuild the fragment of this output.
    #[error("the plan does not rebuild fragment {index}")]
    NotPlanned {
        /// The position that was given.
        index: ShardIndex,
    },
    /// The memory to work in could not be had.
    #[error(transparent)]
    Allocation(#[from] AllocationError),
    /// A library below refused what was checked before.
    #[error("reed-solomon-simd: {reason}")]
    Library {
        /// What it said.
        reason: String,
    },
}
