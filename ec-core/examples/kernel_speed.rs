//! How fast each kernel encodes with buffers that stay in cache: bytes of data read per second, parity not counted.
//!
//! `cargo run --release -p ec-core --example kernel_speed [CODE ...]`

use ec_core::{AlignedBuffer, Code, Kernel};
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
            let speeds = [4 << 10, 64 << 10, 1 << 20].map(|len| speed(kernel, code, len));
            let [small, middle, large] = speeds;
            println!("{code:16} {:12} {:8.2} {:8.2} {:8.2}", kernel.name(), small?, middle?, large?);
        }
    }
    Ok(())
}

fn speed(kernel: Kernel, code: &str, len: usize) -> Result<f64, Box<dyn Error>> {
    let code = Code::with_kernel(&code.parse()?, kernel)?;
    let mut data = (0..code.k()).map(|_| AlignedBuffer::zeroed(len)).collect::<Result<Vec<_>, _>>()?;
    let mut parity = (0..code.m()).map(|_| AlignedBuffer::zeroed(len)).collect::<Result<Vec<_>, _>>()?;
    for (byte, value) in data.iter_mut().flat_map(|buffer| buffer.iter_mut()).zip((0..251).cycle()) {
        *byte = value;
    }
    let inputs = data.iter().map(|buffer| &**buffer).collect::<Vec<_>>();
    let mut outputs = parity.iter_mut().map(|buffer| &mut **buffer).collect::<Vec<_>>();

    let mut best = 0.0;
    for _ in 0..TRIES {
        let begin = Instant::now();
        let mut rounds = 0;
        while begin.elapsed() < TRY {
            for _ in 0..10 {
                code.encode_with(black_box(&inputs), black_box(&mut outputs), ec_core::Locality::Cached)?;
            }
            rounds += 10;
        }
        let bytes = (rounds * len * code.k()) as f64;
        best = f64::max(best, bytes / begin.elapsed().as_secs_f64() / 1e9);
    }
    Ok(best)
}
