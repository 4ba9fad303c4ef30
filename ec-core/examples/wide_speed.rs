//! How fast a wide code encodes and rebuilds beside reed-solomon-simd: bytes of data a second (parity not counted), the median and
//! the range of rounds in which both take turns. Hot: one stripe again and again. Cold: stripes of at least 512 MiB in turn.
//!
//! `cargo run --release -p ec-core --features wide --example wide_speed [encode|rebuild]`

use ec_core::{ShardIndex, WideCode, WideWorkspace};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Rounds of each comparison; an odd number, so that there is a median.
const ROUNDS: usize = 9;

/// One turn of one side: long against the clock, short against the noise of a shared machine.
const TURN: Duration = Duration::from_millis(120);

/// Beyond any third-level cache.
const COLD_BYTES: usize = 512 << 20;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let what = std::env::args().nth(1);
    let wants = |name: &str| what.as_deref().is_none_or(|what| what == name);
    let begin = Instant::now();
    let code = WideCode::new(&"wide:1000+200".parse()?)?;
    println!("{} with {}, made in {:.1?}", code.spec(), code.kernel_name(), begin.elapsed());
    if wants("encode") {
        for (shard, stripes, name) in [
            (4 << 10, 1, "4 KiB, hot"),
            (64 << 10, 1, "64 KiB, hot"),
            (4 << 10, COLD_BYTES / (1000 << 12), "4 KiB, cold"),
            (64 << 10, COLD_BYTES / (1000 << 16), "64 KiB, cold"),
        ] {
            encode(&code, shard, stripes, name)?;
        }
    }
    if wants("rebuild") {
        for shard in [4 << 10, 64 << 10] {
            for lost in [1, 4, 20, 200] {
                rebuild(&code, shard, lost)?;
            }
        }
    }
    Ok(())
}

struct Stripe {
    data: Vec<Vec<u8>>,
    parity: Vec<Vec<u8>>,
}

impl Stripe {
    fn new(code: &WideCode, shard: usize, seed: usize) -> Self {
        let painted = |at: usize| (0..251).cycle().skip((7 * at + seed) % 251).take(shard).collect();
        Self { data: (0..code.k()).map(painted).collect(), parity: vec![vec![1; shard]; code.m()] }
    }
}

fn encode(code: &WideCode, shard: usize, stripes: usize, name: &str) -> Result<(), Failure> {
    let mut stripes = (0..stripes).map(|seed| Stripe::new(code, shard, seed)).collect::<Vec<_>>();
    let mut workspace = WideWorkspace::new();
    let mut encoder = ReedSolomonEncoder::new(code.k(), code.m(), shard)?;
    let mut theirs = |stripe: &mut Stripe| -> Result<(), Failure> {
        for data in &stripe.data {
            encoder.add_original_shard(data)?;
        }
        // Its results stay in its own memory; taking them out is not counted.
        black_box(encoder.encode()?.recovery(0));
        Ok(())
    };
    let mut ours = |stripe: &mut Stripe| -> Result<(), Failure> {
        let data = stripe.data.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let mut parity = stripe.parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>();
        Ok(code.encode_with(&mut workspace, black_box(&data), black_box(&mut parity))?)
    };
    let bytes = code.k() * shard;
    compare(&format!("encode {name}"), bytes, &mut stripes, &mut ours, &mut theirs)
}

fn rebuild(code: &WideCode, shard: usize, lost: usize) -> Result<(), Failure> {
    let mut stripe = Stripe::new(code, shard, 0);
    {
        let data = stripe.data.iter().map(Vec::as_slice).collect::<Vec<_>>();
        code.encode(&data, &mut stripe.parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>())?;
    }
    let lost_indices = (0..lost).map(|at| Ok(ShardIndex::new(u16::try_from(at * code.k() / lost)?)));
    let lost_indices = lost_indices.collect::<Result<Vec<_>, Failure>>()?;
    let others = (0..u16::try_from(code.n())?).map(ShardIndex::new);
    let others = others.filter(|index| lost_indices.binary_search(index).is_err()).collect::<Vec<_>>();
    let begin = Instant::now();
    let plan = code.plan(&lost_indices, &others)?;
    let planned = begin.elapsed();

    let all = [&stripe.data[..], &stripe.parity[..]].concat();
    let mut rebuilt = vec![vec![0; shard]; lost];
    let mut workspace = WideWorkspace::new();
    let mut decoder = ReedSolomonDecoder::new(code.k(), code.m(), shard)?;
    let mut theirs = |_: &mut ()| -> Result<(), Failure> {
        for index in plan.reads() {
            match index.at().checked_sub(code.k()) {
                None => decoder.add_original_shard(index.at(), &all[index.at()])?,
                Some(parity) => decoder.add_recovery_shard(parity, &all[index.at()])?,
            }
        }
        black_box(decoder.decode()?.restored_original(0));
        Ok(())
    };
    let mut ours = |_: &mut ()| -> Result<(), Failure> {
        let inputs = plan.reads().iter().map(|index| (*index, &all[index.at()][..])).collect::<Vec<_>>();
        let outputs = lost_indices.iter().copied().zip(rebuilt.iter_mut().map(Vec::as_mut_slice));
        Ok(plan.run_with(&mut workspace, &inputs, &mut outputs.collect::<Vec<_>>())?)
    };
    let name = format!("rebuild {lost} of {} KiB, {:?}, planned in {planned:.0?}", shard >> 10, plan.method());
    compare(&name, code.k() * shard, &mut [()], &mut ours, &mut theirs)?;
    assert!(lost_indices.iter().zip(&rebuilt).all(|(index, rebuilt)| *rebuilt == all[index.at()]));
    Ok(())
}

fn compare<T>(
    name: &str,
    bytes: usize,
    stripes: &mut [T],
    ours: &mut dyn FnMut(&mut T) -> Result<(), Failure>,
    theirs: &mut dyn FnMut(&mut T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut next = 0;
    let mut turn = |work: &mut dyn FnMut(&mut T) -> Result<(), Failure>| -> Result<f64, Failure> {
        let (begin, mut done) = (Instant::now(), 0);
        while done == 0 || begin.elapsed() < TURN {
            work(&mut stripes[next])?;
            next = (next + 1) % stripes.len();
            done += bytes;
        }
        Ok(done as f64 / begin.elapsed().as_secs_f64() / 1e9)
    };
    turn(ours)?;
    turn(theirs)?;
    let (mut own, mut other, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own.push(turn(ours)?);
        other.push(turn(theirs)?);
        ratios.push(own[own.len() - 1] / other[other.len() - 1]);
    }
    println!("{name:52} {} GB/s, reed-solomon-simd {}, ratio {}", shown(own), shown(other), shown(ratios));
    Ok(())
}

fn shown(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:6.2} ({:.2} to {:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}
