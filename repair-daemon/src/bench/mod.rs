//! `ninefold bench`: what this machine's processor and memory give the codes, beside what they could give at most.
//!
//! Every rate is the median of a few tries and counts bytes of data: the parity that is written and the fragments that are rebuilt
//! do not count. *Hot* work finds its stripe where the last call left it; *cold* work takes the next of more stripes than a cache
//! holds.

mod bounds;
mod codes;
mod report;
mod timing;

pub use report::Report;

use crate::files::FilesError;
use bounds::Bounds;
use ec_core::{AlignedBuffer, CodeError, Kernel};
use std::path::Path;
use std::time::Instant;
use timing::Effort;

/// Codes that are measured: small, the usual, long, local, wide.
const CODES: [&str; 5] = ["rs:4+2", "rs:10+4", "rs:17+3", "lrc:12,2,2", "rs:80+20"];

/// Several times the last cache of most machines, and still a memory that a small one has.
const COLD_BYTES: usize = 512 << 20;

/// A look whether all is well needs no more than one stripe of the longest.
const QUICK_COLD_BYTES: usize = COLD_BYTES / 4;

// 80+20 at 1 MiB.
const _: () = assert!(QUICK_COLD_BYTES >= 100 << 20);

/// Measures everything; `tell` is told what is measured next.
///
/// # Errors
/// A kernel that cannot be used, memory that cannot be had.
pub fn run(quick: bool, tell: &dyn Fn(&str)) -> Result<Report, FilesError> {
    let begin = Instant::now();
    let kernel = Kernel::selected().map_err(CodeError::from)?;
    let self_test = begin.elapsed();
    let (effort, cold_bytes) = if quick { (Effort::QUICK, QUICK_COLD_BYTES) } else { (Effort::FULL, COLD_BYTES) };
    let mut memory = AlignedBuffer::zeroed(cold_bytes).map_err(|error| {
        let error = std::io::Error::new(std::io::ErrorKind::OutOfMemory, error);
        FilesError::io(Path::new("memory"), "get")(error)
    })?;
    // Not zeros: some memories are quicker with them.
    memory.iter_mut().zip((0..251).cycle()).for_each(|(byte, value)| *byte = value);

    tell("measuring memory and products");
    let bounds = Bounds::measure(effort, kernel, &mut memory);
    tell("measuring checksums");
    let checksums = bounds::checksums(effort, &memory);
    let mut measured = Vec::new();
    for spec in CODES {
        tell(&format!("measuring {spec}"));
        measured.push(codes::measure(effort, spec, &bounds, &mut memory)?);
    }
    Ok(Report::new(kernel, self_test, cold_bytes, bounds, checksums, measured))
}
