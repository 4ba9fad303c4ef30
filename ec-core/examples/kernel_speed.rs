//! How fast each kernel encodes with buffers that stay in cache: bytes of data read per second, parity not counted.
//!
//! `cargo run --release --example kernel_speed`

use ec_core::{AlignedBuffer, Kernel, Matrix, Transform, gf};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// One try: thousands of calls, and still shorter than most disturbances on a busy machine.
const TRY: Duration = Duration::from_millis(60);

/// The best of several tries is the one that was disturbed least.
const TRIES: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let selected = Kernel::selected()?;
    println!("{} selected and tested in {:.1?}", selected.name(), begin.elapsed());

    let cauchy = |rows: usize, columns: usize| {
        Matrix::from_fn(rows, columns, |row, column| gf::inverse(gf::exp2(row) ^ gf::exp2(100 + column)).unwrap_or(1))
    };
    // Two local parities over six each, two global ones over all twelve.
    let local_and_global = Matrix::from_fn(4, 12, |row, column| match row {
        0 | 1 => u8::from(column / 6 == row),
        _ => gf::exp2(column * (row - 1)),
    });
    let cases = [
        ("rs 10+4, 64 KiB", cauchy(4, 10), 64 << 10),
        ("rs 10+4, 4 KiB", cauchy(4, 10), 4 << 10),
        ("rs 10+4, 1 MiB", cauchy(4, 10), 1 << 20),
        ("lrc 12,2,2, 64 KiB", local_and_global, 64 << 10),
        ("rs 20+7, 64 KiB", cauchy(7, 20), 64 << 10),
    ];
    for (name, coefficients, len) in &cases {
        for kernel in Kernel::available().into_iter().chain([Kernel::portable().another()]) {
            println!("{name:20} {:12} {:6.2} GB/s", kernel.name(), speed(kernel, coefficients, *len)?);
        }
    }
    Ok(())
}

fn speed(kernel: Kernel, coefficients: &Matrix, len: usize) -> Result<f64, Box<dyn Error>> {
    let transform = Transform::new(kernel, coefficients);
    let mut data = (0..coefficients.columns()).map(|_| AlignedBuffer::zeroed(len)).collect::<Result<Vec<_>, _>>()?;
    let mut parity = (0..coefficients.rows()).map(|_| AlignedBuffer::zeroed(len)).collect::<Result<Vec<_>, _>>()?;
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
                transform.apply(black_box(&inputs), black_box(&mut outputs))?;
            }
            rounds += 10;
        }
        let bytes = (rounds * len * coefficients.columns()) as f64;
        best = f64::max(best, bytes / begin.elapsed().as_secs_f64() / 1e9);
    }
    Ok(best)
}
