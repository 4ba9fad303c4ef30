//! Encoding beside the rivals and beside the XOR stream.

use super::{Bench, Beside, Case, Place, lines, shard_name};
use crate::measure::{Contestant, Series, interleave};
use crate::pool::{EncodeStripe, Ring, Stride};
use crate::report::{Aim, Line};
use crate::rivals::{
    self, Coder, NINEFOLD, Ninefold, Ours, REED_SOLOMON_ERASURE, REED_SOLOMON_SIMD, RUSTY_ERASURE, Shape,
};
use crate::stream::XorStream;
use ec_core::Locality;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The XOR stream writes past the caches, so it is a bound only where the bytes are not in them.
const STREAM_SHARE: (Beside, Aim) = (Beside::Named(XorStream::NAME), Aim::Ratio(0.95));

/// Codes with at most 24 shards.
const NARROW: [&str; 6] = ["rs:4+2", "rs:6+3", "rs:10+4", "rs:12+4", "rs:17+3", "rs:20+4"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (spec, shard_bytes, least) in [
        ("rs:10+4", 4 * KIB, 2.6),
        ("rs:10+4", 64 * KIB, 2.4),
        ("rs:12+4", 64 * KIB, 2.6),
        ("rs:17+3", 64 * KIB, 2.1),
        ("rs:20+4", 64 * KIB, 2.9),
        ("rs:4+2", 4 * KIB, 1.25),
        ("rs:6+3", 4 * KIB, 2.0),
    ] {
        cases.push(encode(spec, shard_bytes, Place::Hot, &[(Beside::Named(RUSTY_ERASURE), Aim::Ratio(least))]));
    }
    for spec in NARROW {
        for (stride, least) in [(Stride::PowerOfTwo, 1.35), (Stride::Staggered, 1.1)] {
            cases.push(hinted(spec, Place::Cold(stride), &[(Beside::BestRival, Aim::Ratio(least)), STREAM_SHARE]));
        }
    }
    for spec in NARROW {
        cases.push(hinted(spec, Place::Hot, &[(Beside::BestRival, Aim::Ratio(0.97))]));
    }
    for spec in ["rs:80+20", "rs:100+30"] {
        for (shard_bytes, place, least) in
            [(4 * KIB, Place::Hot, 4.0), (64 * KIB, Place::Hot, 4.0), (MIB, Place::Cold(Stride::PowerOfTwo), 3.5)]
        {
            let wanted = [(Beside::Named(RUSTY_ERASURE), Aim::Ratio(least)), (Beside::BestRival, Aim::None)];
            cases.push(encode(spec, shard_bytes, place, &wanted));
        }
    }
    for spec in ["rs:10+4@cauchy", "rs:10+4@vandermonde"] {
        cases.push(encode(spec, 4 * KIB, Place::Hot, &[(Beside::Named(RUSTY_ERASURE), Aim::Ratio(1.8))]));
    }
    for shard_bytes in [4 * KIB, 64 * KIB] {
        let wanted = [(Beside::Named(REED_SOLOMON_SIMD), Aim::None)];
        cases.push(encode("wide:1000+200", shard_bytes, Place::Hot, &wanted));
    }
    cases.push(local_against_global());
    cases.push(avx2_against_avx2());
    cases
}

fn encode(spec: &'static str, shard_bytes: usize, place: Place, wanted: &[(Beside, Aim)]) -> Case {
    let name = format!("encode {spec} {} {}", shard_name(shard_bytes), place.name());
    let wanted = wanted.to_vec();
    Case::new(name, move |title, bench| {
        let mut ours = Ours::open(spec, 0)?;
        let shape = ours.shape(shard_bytes);
        let needs_all = wanted.iter().any(|(beside, _)| *beside == Beside::BestRival);
        let mut others =
            open_rivals(shape, |name| needs_all || wanted.iter().any(|(beside, _)| *beside == Beside::Named(name)));
        let mut contestants = vec![encoder(NINEFOLD, &mut *ours.coder)];
        contestants.extend(others.iter_mut().map(|(name, coder)| encoder(name, &mut **coder)));
        let series = measure(bench, shape, place, contestants)?;
        Ok(lines(title, &series, shape.data_bytes(), &wanted))
    })
}

/// Shards of 1 MiB, where only the caller can know whether the stripe is in a cache: with the word for it, and without.
fn hinted(spec: &'static str, place: Place, wanted: &[(Beside, Aim)]) -> Case {
    const NO_HINT: &str = "without the hint";
    let (locality, hint) = match place {
        Place::Hot => (Locality::Cached, "Cached"),
        Place::Cold(_) => (Locality::Streaming, "Streaming"),
    };
    let wanted = [wanted, &[(Beside::Named(NO_HINT), Aim::None)]].concat();
    Case::new(format!("encode {spec} 1 MiB {}, hint {hint}", place.name()), move |title, bench| {
        let mut ours = Ninefold::open(spec, 0)?.with_locality(locality);
        let mut no_hint = Ninefold::open(spec, 0)?;
        let shape = ours.shape(MIB);
        let mut others = open_rivals(shape, |_| true);
        let stream = if wanted.contains(&STREAM_SHARE) { XorStream::detect() } else { None };
        let mut contestants = vec![encoder(NINEFOLD, &mut ours), encoder(NO_HINT, &mut no_hint)];
        contestants.extend(others.iter_mut().map(|(name, coder)| encoder(name, &mut **coder)));
        if let Some(stream) = stream {
            let run = move |stripe: &mut EncodeStripe<'_>| stream.run(&stripe.data, &mut stripe.parity);
            contestants.push(Contestant::new(XorStream::NAME, run));
        }
        let series = measure(bench, shape, place, contestants)?;
        Ok(lines(title, &series, shape.data_bytes(), &wanted))
    })
}

/// Rivals that have the code, those whose names `wanted` takes.
pub(super) fn open_rivals(shape: Shape, wanted: impl Fn(&'static str) -> bool) -> Vec<(&'static str, Box<dyn Coder>)> {
    let libraries = rivals::rivals().into_iter().filter(|library| wanted(library.name));
    libraries
        .filter_map(|library| {
            let mut coder = (library.open)(shape, 0)?;
            coder.leave_results_inside();
            Some((library.name, coder))
        })
        .collect()
}

/// A contestant that encodes.
fn encoder<'a, 's>(name: &'static str, coder: &'a mut dyn Coder) -> Contestant<'a, EncodeStripe<'s>> {
    Contestant::new(name, move |stripe: &mut EncodeStripe<'s>| coder.encode(&stripe.data, &mut stripe.parity))
}

/// Measures work on stripes of a shape.
pub(super) fn measure<'p>(
    bench: &'p mut Bench,
    shape: Shape,
    place: Place,
    mut contestants: Vec<Contestant<'_, EncodeStripe<'p>>>,
) -> Result<Vec<Series>, String> {
    let (stride, stripes_max) = place.layout();
    let budget = bench.budget(place);
    let stripes = bench.pool.stripes(shape.n(), shape.shard_bytes, stride, stripes_max);
    let stripes = stripes.into_iter().map(|shards| EncodeStripe::new(shards, shape.k)).collect();
    let mut ring = Ring::new(stripes).ok_or("the pool is smaller than one stripe")?;
    Ok(interleave(budget, &mut ring, &mut contestants))
}

/// Two of the four parities of an LRC read half of the data: it must be faster than a code that reads all for each.
fn local_against_global() -> Case {
    const OTHER: &str = "rs:12+4@cauchy";
    Case::new("encode lrc:12,2,2 64 KiB hot".into(), |title, bench| {
        let (mut ours, mut other) = (Ninefold::open("lrc:12,2,2", 0)?, Ninefold::open(OTHER, 0)?);
        let shape = ours.shape(64 * KIB);
        let series = measure(bench, shape, Place::Hot, vec![encoder(NINEFOLD, &mut ours), encoder(OTHER, &mut other)])?;
        Ok(lines(title, &series, shape.data_bytes(), &[(Beside::Named(OTHER), Aim::Faster)]))
    })
}

/// What a processor without GFNI gets.
fn avx2_against_avx2() -> Case {
    Case::new("encode rs:10+4 64 KiB hot, kernel avx2".into(), |title, bench| -> Result<Vec<Line>, String> {
        let mut ours = Ninefold::with_kernel("rs:10+4", 0, "avx2")?;
        let shape = ours.shape(64 * KIB);
        let mut others = open_rivals(shape, |name| name == REED_SOLOMON_ERASURE);
        let mut contestants = vec![encoder(NINEFOLD, &mut ours)];
        contestants.extend(others.iter_mut().map(|(name, coder)| encoder(name, &mut **coder)));
        let series = measure(bench, shape, Place::Hot, contestants)?;
        Ok(lines(title, &series, shape.data_bytes(), &[(Beside::Named(REED_SOLOMON_ERASURE), Aim::Ratio(1.0))]))
    })
}
