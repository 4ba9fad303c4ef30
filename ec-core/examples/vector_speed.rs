//! How fast vector codes encode, plan and rebuild: one thread, stripes that fit a second-level cache and ones that do not.
//!
//! `cargo run --release -p ec-core --features clay --example vector_speed`

use ec_core::{ShardIndex, ShardSet, VectorCode};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes of a shard, about; rounded to whole sub-chunks of 64 bytes or more.
const SHARD_BYTES: [usize; 2] = [64 << 10, 1 << 20];

fn main() {
    for spec in ["hitchhiker:10+4", "lrc:12,2,3@gf16", "clay:4+2", "clay:10+4"] {
        let code = match VectorCode::new(&spec.parse().expect("specs here are right")) {
            Ok(code) => code,
            Err(error) => {
                println!("{spec}: {error}");
                continue;
            }
        };
        for bytes in SHARD_BYTES {
            measure(&code, bytes.next_multiple_of(64 * code.alpha()));
        }
    }
}

fn measure(code: &VectorCode, shard_bytes: usize) {
    let mut shards: Vec<Vec<u8>> =
        (0..code.n()).map(|i| (0..shard_bytes).map(|j| ((j + 7 * i) % 251) as u8).collect()).collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    let encode = best(|| code.encode(&data, &mut parity).expect("equal lengths"));

    let lost = ShardSet::from_iter([ShardIndex::new(1)]);
    let others = lost.complement(code.n());
    let planning = best(|| drop(black_box(code.plan(&lost, &others).expect("one loss"))));
    let plan = code.plan(&lost, &others).expect("one loss");
    let wholes: Vec<_> = others.iter().map(|index| (index, &shards[index.at()][..])).collect();
    let mut rebuilt = vec![0; shard_bytes];
    let rebuild = best(|| plan.run_whole(&wholes, &mut [(ShardIndex::new(1), &mut rebuilt)]).expect("equal lengths"));
    assert_eq!(rebuilt, shards[1]);

    println!(
        "{} {}: shards of {} KiB: encode {:.2} GB/s of data; plan of shard 1 {:.1} us, reads {:.2} shards, rebuild {:.2} GB/s read",
        code.spec(),
        code.kernel().name(),
        shard_bytes >> 10,
        speed(code.k() as f64 * shard_bytes as f64, encode),
        planning.as_secs_f64() * 1e6,
        plan.read_shards(),
        speed(plan.read_shards() * shard_bytes as f64, rebuild),
    );
}

fn speed(bytes: f64, time: Duration) -> f64 {
    bytes / time.as_secs_f64() / 1e9
}

/// The shortest of the runs in a fifth of a second: what disturbs only ever adds.
fn best(mut run: impl FnMut()) -> Duration {
    let until = Instant::now() + Duration::from_millis(200);
    let mut best = Duration::MAX;
    while best == Duration::MAX || Instant::now() < until {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    best
}
