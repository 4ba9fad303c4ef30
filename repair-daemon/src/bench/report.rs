//! The figures, as JSON and for people.

use super::bounds::{Bounds, Checksums};
use super::codes::{MeasuredCode, Rate};
use ec_core::Kernel;
use indicatif::BinaryBytes;
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// Everything that was measured. Rates are 10^9 bytes per second.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    /// The kernel that encodes.
    kernel: &'static str,
    /// All that this machine has, fastest first.
    kernels: Vec<&'static str>,
    /// The start-up test of the kernel, in microseconds.
    self_test_micros: f64,
    /// Bytes that cold work walks through.
    cold_bytes: usize,
    bounds: Bounds,
    checksums: Checksums,
    codes: Vec<MeasuredCode>,
}

impl Report {
    pub(super) fn new(
        kernel: Kernel,
        self_test: Duration,
        cold_bytes: usize,
        bounds: Bounds,
        checksums: Checksums,
        codes: Vec<MeasuredCode>,
    ) -> Self {
        Self {
            schema: 1,
            kernel: kernel.name(),
            kernels: Kernel::available().into_iter().map(Kernel::name).collect(),
            self_test_micros: self_test.as_secs_f64() * 1e6,
            cold_bytes,
            bounds,
            checksums,
            codes,
        }
    }

    /// A text for people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "kernel {} of {}; tested at start in {:.1} ms\nGB/s are 10^9 bytes of data per second on one core, parity not counted; cold: {}\n\n",
            self.kernel,
            self.kernels.join(", "),
            self.self_test_micros / 1e3,
            BinaryBytes(self.cold_bytes as u64)
        );
        let Bounds { read, write, copy, products } = self.bounds;
        let Checksums { crc32_hot, crc32_cold, blake3_hot, blake3_cold } = self.checksums;
        let _ = writeln!(text, "memory     read {read:.1} GB/s, write {write:.1}, copy {copy:.1}");
        let _ = writeln!(text, "products   {products:.1} GB/s over GF(2^8), in the first-level cache");
        let _ = writeln!(text, "CRC-32     {crc32_hot:.1} GB/s hot, {crc32_cold:.1} cold, in blocks of 4 KiB");
        let _ = writeln!(text, "BLAKE3     {blake3_hot:.1} GB/s hot, {blake3_cold:.1} cold\n");
        for code in &self.codes {
            text.push_str(&code_text(code));
        }
        text.push_str("In brackets: share of what the products (hot) or the memory (cold) allow. Above 100 % hot: fewer products were needed.\n");
        text
    }
}

/// The rates of one code, hot and cold beside each other.
fn code_text(code: &MeasuredCode) -> String {
    let mut text = format!("{}\n", code.code);
    let cell = |rate: &Rate| format!("{} {:6.1} ({:3.0} %)", rate.place, rate.gb_per_s, 100.0 * rate.share);
    for rates in code.rates.chunk_by(|a, b| (a.lost, a.shard_bytes) == (b.lost, b.shard_bytes)) {
        let first = &rates[0];
        let work = if first.lost == 0 { "encode".to_owned() } else { format!("rebuild {}", first.lost) };
        let cells: Vec<String> = rates.iter().map(cell).collect();
        let shard = BinaryBytes(first.shard_bytes as u64).to_string();
        let _ = writeln!(text, "  {work:<11} {shard:>10}   {}", cells.join("   "));
    }
    let plans: Vec<String> =
        code.plans.iter().map(|plan| format!("{} lost {:.2} us", plan.lost, plan.micros)).collect();
    let _ = writeln!(text, "  plan: {}", plans.join(", "));
    text
}
