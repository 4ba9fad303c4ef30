//! Checksums and random checks beside encoding alone.

use super::encode::measure;
use super::{Beside, Case, Place, lines, shard_name};
use crate::measure::Contestant;
use crate::pool::{EncodeStripe, Stride};
use crate::report::Aim;
use crate::rivals::{Coder, NINEFOLD, Ninefold, OneWalk};
use ec_core::{Locality, StripeCheck};

const COLD: Place = Place::Cold(Stride::PowerOfTwo);
const NATIVE: &str = "rs:10+4";
const DENSE: &str = "rs:10+4@cauchy";

pub(super) fn cases() -> Vec<Case> {
    vec![
        with_checksums(64 << 10, Place::Hot, [Aim::None; 2]),
        // Without a hint it takes the better of the two kinds of stores: no worse than either, but for what cannot be told apart.
        with_checksums(1 << 20, COLD, [Aim::Ratio(0.9), Aim::Ratio(0.92)]),
        with_checks(64 << 10, Place::Hot, &[(DENSE, 0.6), (NATIVE, 0.4)]),
        with_checks(1 << 20, COLD, &[(DENSE, 0.85)]),
    ]
}

/// Encoding and the CRC of every block of every fragment in one walk over memory, with what is aimed at beside encoding alone and
/// beside the walk with either kind of stores.
fn with_checksums(shard_bytes: usize, place: Place, [beside_encoding, beside_either]: [Aim; 2]) -> Case {
    const ALONE: &str = "encode, regular stores";
    const NO_HINT: &str = "encode, no hint";
    const TWO_PASSES: &str = "encode, then CRC";
    // What the walk without a hint has to choose between.
    const REGULAR: &str = "the walk, regular stores";
    const STREAMING: &str = "the walk, past the caches";
    let name = format!("encode + CRC {NATIVE} {} {}", shard_name(shard_bytes), place.name());
    Case::new(name, move |title, bench| {
        let open = || Ninefold::open(NATIVE, 0);
        let (mut first, mut no_hint, mut alone) = (open()?, open()?, open()?.with_locality(Locality::Cached));
        let shape = first.shape(shard_bytes);
        let mut walks = [(NINEFOLD, Locality::Auto), (REGULAR, Locality::Cached), (STREAMING, Locality::Streaming)]
            .map(|(name, locality)| (name, OneWalk::with_checksums(alone.code(), locality)));
        let mut sums = Vec::new();
        let mut contestants = vec![
            Contestant::new(ALONE, |stripe: &mut EncodeStripe<'_>| alone.encode(&stripe.data, &mut stripe.parity)),
            Contestant::new(NO_HINT, |stripe: &mut EncodeStripe<'_>| no_hint.encode(&stripe.data, &mut stripe.parity)),
            Contestant::new(TWO_PASSES, |stripe: &mut EncodeStripe<'_>| {
                first.encode(&stripe.data, &mut stripe.parity);
                first.checksums(&stripe.data, &stripe.parity, &mut sums);
            }),
        ];
        contestants.extend(walks.iter_mut().map(|(name, walk)| walker(name, walk)));
        let series = measure(bench, shape, place, contestants)?;
        let wanted = [
            (ALONE, beside_encoding),
            (NO_HINT, Aim::None),
            (REGULAR, beside_either),
            (STREAMING, beside_either),
            (TWO_PASSES, Aim::None),
        ];
        Ok(lines(title, &series, shape.data_bytes(), &wanted.map(|(name, aim)| (Beside::Named(name), aim))))
    })
}

/// Encoding with two random linear checks of the result, in one walk over memory.
fn with_checks(shard_bytes: usize, place: Place, least: &'static [(&'static str, f64)]) -> Case {
    const OTHER_KERNEL: &str = "checks by another kernel";
    let name = format!("encode + 2 checks {NATIVE} {} {}", shard_name(shard_bytes), place.name());
    Case::new(name, move |title, bench| {
        let (mut other, mut native, mut dense) =
            (Ninefold::open(NATIVE, 0)?, Ninefold::open(NATIVE, 0)?, Ninefold::open(DENSE, 0)?);
        let mut walk = OneWalk::with_checks(native.code(), Locality::Auto);
        let check = StripeCheck::new(native.code(), 0x5eed);
        let shape = native.shape(shard_bytes);
        let contestants = vec![
            walker(NINEFOLD, &mut walk),
            Contestant::new(OTHER_KERNEL, |stripe: &mut EncodeStripe<'_>| {
                other.encode(&stripe.data, &mut stripe.parity);
                let parity: Vec<&[u8]> = stripe.parity.iter().map(|shard| &**shard).collect();
                check.run(&stripe.data, &parity).expect("parity that was just computed");
            }),
            Contestant::new(NATIVE, |stripe: &mut EncodeStripe<'_>| native.encode(&stripe.data, &mut stripe.parity)),
            Contestant::new(DENSE, |stripe: &mut EncodeStripe<'_>| dense.encode(&stripe.data, &mut stripe.parity)),
        ];
        let series = measure(bench, shape, place, contestants)?;
        let mut wanted: Vec<_> = least.iter().map(|&(name, least)| (Beside::Named(name), Aim::Ratio(least))).collect();
        wanted.push((Beside::Named(OTHER_KERNEL), Aim::None));
        Ok(lines(title, &series, shape.data_bytes(), &wanted))
    })
}

fn walker<'a, 's>(name: &'static str, walk: &'a mut OneWalk) -> Contestant<'a, EncodeStripe<'s>> {
    Contestant::new(name, move |stripe: &mut EncodeStripe<'s>| walk.run(&stripe.data, &mut stripe.parity))
}
