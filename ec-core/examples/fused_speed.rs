//! What checks and checksums cost beside the encoding: each way to do it against encoding alone, in turns within one process,
//! by CPU time of this thread where the system tells it.
//!
//! `cargo run --release -p ec-core --example fused_speed [CODE ...]`

use ec_core::encode::{BLOCK_PIECE_BYTES, HASH_PIECE_BYTES};
use ec_core::fragment::{BirthIdentity, BlockSeed, CellId, ExtentId, TreeHasher};
use ec_core::{Code, Locality, ShardIndex, StripeBuffers, StripeCheck, StripeEncoder, Transform, VerifyError};
use std::error::Error;
use std::time::Duration;

/// All ways are tried this many times, one after the other; the median of each round's quotient is what is told.
const ROUNDS: usize = 9;

/// One try.
const TRY: Duration = Duration::from_millis(30);

/// Stripes from memory: ten times a large third-level cache.
const COLD_BYTES: usize = 512 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut codes: Vec<String> = std::env::args().skip(1).collect();
    if codes.is_empty() {
        codes = ["rs:10+4", "rs:10+4@cauchy"].map(String::from).to_vec();
    }
    for code in &codes {
        let code = Code::new(&code.parse()?)?;
        println!("{} by {}", code.spec(), code.kernel().name());
        measure(&code, "64 KiB hot", 64 << 10, 1)?;
        measure(&code, "1 MiB cold", 1 << 20, COLD_BYTES / (code.n() << 20))?;
    }
    Ok(())
}

/// One way to encode a stripe.
type Way<'a> = (&'static str, Box<dyn FnMut(&[&[u8]], &mut [&mut [u8]]) -> Result<(), VerifyError> + 'a>);

fn measure(code: &Code, title: &str, len: usize, stripes: usize) -> Result<(), Box<dyn Error>> {
    let mut stripes = (0..stripes.max(1)).map(|_| painted(code, len)).collect::<Result<Vec<_>, _>>()?;
    let mut ways = ways(code, len);
    let mut next = 0;
    let mut rates = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for (way, rates) in ways.iter_mut().zip(&mut rates) {
            let begin = cpu_time();
            let mut bytes = 0;
            while cpu_time() - begin < TRY {
                // Reading the clock is a system call on some machines: not for every small stripe.
                for _ in 0..((2 << 20) / (len * code.k())).max(1) {
                    next = (next + 1) % stripes.len();
                    let mut shards = stripes[next].iter_mut();
                    let data: Vec<&[u8]> = shards.by_ref().take(code.k()).map(|shard| &*shard).collect();
                    (way.1)(&data, &mut shards.collect::<Vec<_>>())?;
                    bytes += len * code.k();
                }
            }
            rates.push(bytes as f64 / (cpu_time() - begin).as_secs_f64() / 1e9);
        }
    }
    println!("  {title:40} GB/s   of alone, cached | streaming | by the matrix");
    for (way, own) in ways.iter().zip(&rates) {
        let of = |base: usize| {
            let quotients = own.iter().zip(&rates[base]).map(|(own, base)| own / base);
            spread(quotients.collect())
        };
        println!("    {:38} {:5.1}   {}  {}  {}", way.0, median(own.clone()), of(0), of(1), of(2));
    }
    Ok(())
}

fn ways(code: &Code, len: usize) -> Vec<Way<'_>> {
    let (n, k) = (code.n(), code.k());
    let parity_rows = code.generator().select_rows(&(k..n).collect::<Vec<_>>());
    let by_matrix = Transform::new(code.kernel(), &parity_rows).expect("a matrix of a code");
    let (independent, at_speed) = (StripeCheck::new(code, 1), StripeCheck::at_speed(code, 1));
    let seeds: Vec<BlockSeed> = (0..n).map(|at| identity(at, len).seed()).collect();
    let mut ways: Vec<Way<'_>> = vec![
        ("encode, cached", Box::new(|data, parity| Ok(code.encode_with(data, parity, Locality::Cached)?))),
        ("encode, streaming", Box::new(|data, parity| Ok(code.encode_with(data, parity, Locality::Streaming)?))),
        ("encode by the matrix", Box::new(move |data, parity| Ok(by_matrix.apply(data, parity)?))),
        (
            "encode, then check by another kernel",
            Box::new(move |data, parity| {
                code.encode(data, parity)?;
                independent.run(data, &parity.iter().map(|shard| &**shard).collect::<Vec<_>>())
            }),
        ),
        (
            "encode, then check at speed",
            Box::new(move |data, parity| {
                code.encode(data, parity)?;
                at_speed.run(data, &parity.iter().map(|shard| &**shard).collect::<Vec<_>>())
            }),
        ),
    ];
    for locality in [Locality::Cached, Locality::Streaming] {
        let encoder = StripeEncoder::new(code, BLOCK_PIECE_BYTES).checked(StripeCheck::at_speed(code, 1));
        let name =
            if locality == Locality::Cached { "checked in one walk, cached" } else { "checked in one walk, streaming" };
        ways.push((name, Box::new(move |data, parity| encoder.encode(data, parity, locality, |_, _, _| Ok(())))));
    }
    let mut table = vec![0; n * len.div_ceil(4096)];
    let crc_seeds = seeds.clone();
    ways.push((
        "encode, then CRC of all",
        Box::new(move |data, parity| {
            code.encode_with(data, parity, Locality::Cached)?;
            for (at, shard) in data.iter().copied().chain(parity.iter().map(|shard| &**shard)).enumerate() {
                for (block, bytes) in (0..).zip(shard.chunks(4096)) {
                    table[at * (len / 4096) + block as usize] = crc_seeds[at].crc(block, bytes);
                }
            }
            Ok(())
        }),
    ));
    for locality in [Locality::Cached, Locality::Streaming] {
        let encoder = StripeEncoder::new(code, BLOCK_PIECE_BYTES);
        let mut table = vec![0; n * len.div_ceil(4096)];
        let seeds = seeds.clone();
        let name = if locality == Locality::Cached { "CRC in one walk, cached" } else { "CRC in one walk, streaming" };
        ways.push((
            name,
            Box::new(move |data, parity| {
                encoder.encode(data, parity, locality, |at, offset, piece| {
                    let block = offset / 4096;
                    table[at * (len / 4096) + block] = seeds[at].crc(block as u32, piece);
                    Ok(())
                })
            }),
        ));
    }
    ways.push((
        "encode, then BLAKE3 of all",
        Box::new(move |data, parity| {
            code.encode_with(data, parity, Locality::Cached)?;
            for shard in data.iter().copied().chain(parity.iter().map(|shard| &**shard)) {
                let mut tree = TreeHasher::new(len as u64);
                tree.add(0, shard).map_err(|_| VerifyError::Mismatch { offset: 0 })?;
            }
            Ok(())
        }),
    ));
    for locality in [Locality::Cached, Locality::Streaming] {
        let encoder = StripeEncoder::new(code, HASH_PIECE_BYTES);
        let name =
            if locality == Locality::Cached { "BLAKE3 in one walk, cached" } else { "BLAKE3 in one walk, streaming" };
        ways.push((
            name,
            Box::new(move |data, parity| {
                let mut trees = vec![TreeHasher::new(len as u64); n];
                encoder.encode(data, parity, locality, |at, offset, piece| {
                    trees[at].add(offset as u64, piece).map_err(|_| VerifyError::Mismatch { offset })
                })
            }),
        ));
    }
    ways
}

fn identity(at: usize, len: usize) -> BirthIdentity {
    let index = ShardIndex::new(u16::try_from(at).unwrap_or(u16::MAX));
    BirthIdentity { cell: CellId(0), extent: ExtentId(1), generation: 1, index, payload_bytes: len as u64 }
}

fn painted(code: &Code, len: usize) -> Result<StripeBuffers, Box<dyn Error>> {
    let mut shards = StripeBuffers::zeroed(code.n(), len)?;
    for (at, shard) in shards.iter_mut().enumerate() {
        for (byte, value) in shard.iter_mut().zip((0..251).cycle().skip(7 * at)) {
            *byte = value;
        }
    }
    Ok(shards)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Median, least and most.
fn spread(values: Vec<f64>) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2}-{most:.2})", median(values))
}

/// CPU time of this thread: what other processes take of a busy machine does not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
