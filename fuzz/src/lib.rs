//! Fuzz targets as functions: any bytes in, a panic where `ec-core` or `repair-core` breaks a promise.
//!
//! | function | what the bytes are | what must hold |
//! |---|---|---|
//! | [`code_spec()`] | a specification, a descriptor, losses | what is accepted comes back the same; what is decodable by rank decodes |
//! | [`decode_set()`] | a code, positions and lengths of buffers | the right bytes, or a refusal that is true with nothing written |
//! | [`fragment_file()`] | a file, or patches of a right one, with right checksums or not | the class is that of the format's tables |
//! | [`fragment_header()`] | a header, record, footer or tail, as given and with right checksums | what is accepted keeps to the limits and is written back byte for byte |
//! | [`fragment_set()`] | operations on a folder of fragments | the original bytes or an error, never other bytes |
//! | [`fragment_tail()`] | a tail behind headers of every size, as given and sealed | the class is that of the format's table, and what is read is what is there |
//! | [`kernel_pair()`] | a shape, a length, places, coefficients | two kernels give the same bytes and write nothing beside them |
//! | [`matrix_file()`] | parity rows as text, losses | what is accepted survives exactly what it says |
//! | [`node_journal()`] | a journal of a node, as given and with right seals | what is believed is written anew and says the same; damage before a sound record is not believed |
//! | [`planner()`] | a code, costs, losses, parts, a range | no subset is cheaper; parts add up to the whole |
//! | [`store_index()`] | the file of a node's index, hurt | records are as they were put, or the node begins a new index |
//! | [`vector_set()`] | a vector code, losses, costs, a wrong input | plans rebuild, the cheaper one is; what is wrong is refused |
//! | [`wide_code()`] | a shape, a length, losses | every kernel gives the same parity; what enough is left of comes back |
//! | [`wire_message()`] | a message, a catalog row or a frame | what is accepted keeps to the limits and is written back the same |
//!
//! ```
//! fuzz::code_spec(b"lrc:12,2,2\0\x07\x80");
//! ```
//!
//! `fuzz_targets/` hands libFuzzer's inputs to these functions. `tests/replay.rs` hands them every input of `saved/`, and a few
//! thousand changed ones, under plain `cargo test`. The inputs in `saved/` are written by `examples/make_saved.rs`; inputs that
//! once broke something are added by hand and kept.
//!
//! Each call is bounded: [`INPUT_BYTES_MAX`] bytes are looked at, and the folder of `fragment_set` has its own limits.

#![forbid(unsafe_code)]

mod classes;
mod code_spec;
mod decode_set;
mod extent;
mod fragment_file;
mod fragment_header;
mod fragment_set;
mod fragment_tail;
mod kernel_pair;
mod matrix_file;
mod node_journal;
mod planner;
mod store_index;
mod vector_set;
mod wide_code;
mod wire_message;

pub use code_spec::code_spec;
pub use decode_set::decode_set;
pub use fragment_file::fragment_file;
pub use fragment_header::fragment_header;
pub use fragment_set::fragment_set;
pub use fragment_tail::fragment_tail;
pub use kernel_pair::kernel_pair;
pub use matrix_file::matrix_file;
pub use node_journal::node_journal;
pub use planner::planner;
pub use store_index::store_index;
pub use vector_set::vector_set;
pub use wide_code::wide_code;
pub use wire_message::wire_message;

/// Bytes of an input that are looked at; the rest is ignored. A largest record (65,536 bytes) fits.
pub const INPUT_BYTES_MAX: usize = 80_000;

/// A target: one input in, nothing out.
pub type Target = fn(&[u8]);

/// Every target by the name of its binary and of its folder in `saved/`, with the bytes of memory that one input may have it
/// hold at once. What a target makes once and keeps counts for the input that came first. Parsers of fragments stay below what
/// a few copies of the longest input take. Where the length of a list in a message or row is a lie, serde reserves up to a MiB
/// before it looks, for each list inside another. Stripes, of the wide codes most of all, are as large as the target makes them.
pub const TARGETS: [(&str, Target, usize); 14] = [
    ("code_spec", code_spec, 1 << 20),
    ("decode_set", decode_set, 1 << 20),
    ("fragment_file", fragment_file, 1 << 20),
    ("fragment_header", fragment_header, 1 << 20),
    ("fragment_set", fragment_set, 4 << 20),
    ("fragment_tail", fragment_tail, 1 << 20),
    ("kernel_pair", kernel_pair, 16 << 20),
    ("matrix_file", matrix_file, 1 << 20),
    ("node_journal", node_journal, 4 << 20),
    ("planner", planner, 1 << 20),
    ("store_index", store_index, 1 << 20),
    ("vector_set", vector_set, 1 << 20),
    ("wide_code", wide_code, 16 << 20),
    ("wire_message", wire_message, 4 << 20),
];

/// The first [`INPUT_BYTES_MAX`] bytes.
fn bounded(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(INPUT_BYTES_MAX)]
}

/// An input read as numbers. At its end it gives zeros; who loops over it asks [`Input::is_empty`].
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn word(&mut self) -> usize {
        u16::from_le_bytes(self.array()).into()
    }

    /// A number below `count`; 0 where `count` is 0.
    fn below(&mut self, count: usize) -> usize {
        self.word() % count.max(1)
    }
}

/// Makes the last four bytes the CRC of those before.
fn set_crc(bytes: &mut [u8]) {
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32fast::hash(body).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_ends_in_zeros() {
        let mut input = Input(&[1, 2, 3, 4]);
        assert_eq!((input.byte(), input.word(), input.is_empty()), (1, 0x0302, false));
        assert_eq!((input.array::<3>(), input.is_empty(), input.below(0)), ([4, 0, 0], true, 0));
    }

    #[test]
    fn every_target_takes_nothing_and_too_much() {
        for (_, target, _) in TARGETS {
            target(&[]);
            target(&vec![0x5a; INPUT_BYTES_MAX + 1]);
        }
    }
}
