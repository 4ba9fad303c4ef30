//! One stripe by several threads against one, 1 MiB shards from memory, in turns within one process. Where a core is busy with
//! something else, only the rate per CPU-second can be compared.
//!
//! `cargo run --release -p ec-core --features parallel --example parallel_speed [CODE]`

use ec_core::{Code, Locality, StripeBuffers};
use std::error::Error;
use std::time::{Duration, Instant};

const SHARD_BYTES: usize = 1 << 20;

/// Stripes from memory: ten times a large third-level cache.
const COLD_BYTES: usize = 512 << 20;

const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "rs:10+4".into());
    let code = Code::new(&name.parse()?)?;
    let mut stripes =
        (0..COLD_BYTES / (code.n() * SHARD_BYTES)).map(|_| painted(&code)).collect::<Result<Vec<_>, _>>()?;
    let threads = std::thread::available_parallelism()?.get();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let (mut wall, mut per_cpu) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let alone = pass(&code, &mut stripes, |data, parity| code.encode_with(data, parity, Locality::Streaming))?;
        let together = pass(&code, &mut stripes, |data, parity| {
            pool.install(|| code.encode_parallel(data, parity, Locality::Streaming))
        })?;
        wall.push(together.0 / alone.0);
        per_cpu.push(together.1 / alone.1);
        println!(
            "one thread {:5.1} GB/s, {:5.1} per CPU-second; {threads} threads {:5.1} GB/s, {:5.1} per CPU-second",
            alone.0, alone.1, together.0, together.1
        );
    }
    wall.sort_by(f64::total_cmp);
    per_cpu.sort_by(f64::total_cmp);
    println!("{name} by {}: {threads} threads over one", code.kernel().name());
    for (name, ratios) in [("wall time", &wall), ("per CPU-second", &per_cpu)] {
        println!("  {name:15} {:.2} ({:.2}-{:.2})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
    }
    Ok(())
}

/// GB/s of data bytes by the clock and by CPU time.
fn pass(
    code: &Code,
    stripes: &mut [StripeBuffers],
    mut encode: impl FnMut(&[&[u8]], &mut [&mut [u8]]) -> Result<(), ec_core::DecodeError>,
) -> Result<(f64, f64), ec_core::DecodeError> {
    let (begin, cpu) = (Instant::now(), cpu_time());
    let bytes = (stripes.len() * code.k() * SHARD_BYTES) as f64 / 1e9;
    for stripe in stripes {
        let mut shards = stripe.iter_mut();
        let data: Vec<&[u8]> = shards.by_ref().take(code.k()).map(|shard| &*shard).collect();
        encode(&data, &mut shards.collect::<Vec<_>>())?;
    }
    Ok((bytes / begin.elapsed().as_secs_f64(), bytes / (cpu_time() - cpu).as_secs_f64()))
}

fn painted(code: &Code) -> Result<StripeBuffers, Box<dyn Error>> {
    let mut shards = StripeBuffers::zeroed(code.n(), SHARD_BYTES)?;
    for shard in shards.iter_mut() {
        shard.iter_mut().zip((0..251).cycle()).for_each(|(byte, value)| *byte = value);
    }
    Ok(shards)
}

/// CPU time of all threads of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
