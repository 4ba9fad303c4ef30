//! How fast each kernel encodes with buffers that stay in cache: bytes of data read per second, parity not counted. Shards
//! lie at a power-of-two stride, as an allocator returns them, and, for the fastest kernel, also staggered.
//!
//! `cargo run --release -p ec-core --example kernel_speed [CODE ...]`

use ec_core::{Code, Kernel, StripeBuffers};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// One try: thousands of calls, and still shorter than most disturbances on a busy machine.
const TRY: Duration = Duration::from_millis(40);

/// The best of several tries is the one that was disturbed least.
const TRIES: usize = 5;

const CODES: [&str; 9] =
    ["rs:4+2", "rs:6+3", "rs:10+4", "rs:10+4@cauchy", "lrc:12,2,2", "rs:17+3", "rs:20+4", "rs:12+8", "rs:80+20"];

fn main() -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let selected = Kernel::selected()?;
    println!("{} selected and tested in {:.1?}", selected.name(), begin.elapsed());
    let mut codes: Vec<String> = std::env::args().skip(1).collect();
    if codes.is_empty() {
        codes = CODES.map(String::from).to_vec();
    }
    println!("{:16} {:12} {:>8} {:>8} {:>8}  GB/s", "", "", "4 KiB", "64 KiB", "1 MiB");
    for code in &codes {
        for kernel in Kernel::available().into_iter().chain([Kernel::portable().another()]) {
            for staggered in [false, true] {
                if staggered && kernel != selected {
                    continue;
                }
                let speeds = [4 << 10, 64 << 10, 1 << 20].map(|len| speed(kernel, code, len, staggered));
                let [small, middle, large] = speeds;
                let note = if staggered { "  staggered" } else { "" };
                println!("{code:16} {:12} {:8.2} {:8.2} {:8.2}{note}", kernel.name(), small?, middle?, large?);
            }
        }
    }
    Ok(())
}

fn speed(kernel: Kernel, code: &str, len: usize, staggered: bool) -> Result<f64, Box<dyn Error>> {
    let code = Code::with_kernel(&code.parse()?, kernel)?;
    let mut stripe = StripeBuffers::zeroed(code.n(), len)?;
    // One page-aligned buffer: its slices of a power of two share the sets of the caches.
    let mut together = ec_core::AlignedBuffer::zeroed(code.n() * len)?;
    let mut shards: Vec<&mut [u8]> =
        if staggered { stripe.iter_mut().collect() } else { together.chunks_exact_mut(len).collect() };
    for (byte, value) in shards.iter_mut().flat_map(|shard| shard.iter_mut()).zip((0..251).cycle()) {
        *byte = value;
    }
    let (data, outputs) = shards.split_at_mut(code.k());
    let inputs = data.iter().map(|shard| &**shard).collect::<Vec<_>>();

    let mut best = 0.0;
    for _ in 0..TRIES {
        let begin = Instant::now();
        let mut rounds = 0;
        while begin.elapsed() < TRY {
            for _ in 0..10 {
                code.encode_with(black_box(&inputs), black_box(&mut *outputs), ec_core::Locality::Cached)?;
            }
            rounds += 10;
        }
        let bytes = (rounds * len * code.k()) as f64;
        best = f64::max(best, bytes / begin.elapsed().as_secs_f64() / 1e9);
    }
    Ok(best)
}
