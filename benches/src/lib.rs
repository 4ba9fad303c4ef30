//! What ec-core reaches, beside other erasure coders and beside what memory allows, measured in one process on the same buffers.
//!
//! - [`pool`] is the memory: huge pages, power-of-two or staggered stride, one stripe (hot) or a gibibyte of them (cold).
//! - [`rivals`] brings every library, ec-core included, into one form, and checks that each rebuilds what it encoded.
//! - [`stream`] reads and writes the same bytes with nothing but XOR between.
//! - [`mod@measure`] times them interleaved; the [`cases`] say what, and which ratio is aimed at; [`report`] prints it.
//! - [`machine`] pins the thread.
//!
//! `cargo run --release -p benches --bin compare` prints the table; `cargo bench -p benches` runs the same work under criterion.
//! The README beside this crate says how to read a number.

#![deny(unsafe_code)]

pub mod cases;
pub mod machine;
pub mod measure;
pub mod pool;
pub mod report;
pub mod rivals;
pub mod stream;
