//! Checksums and random checks beside encoding alone.

use super::encode::measure;
use super::{Beside, Case, Place, lines, shard_name};
use crate::measure::Contestant;
use crate::pool::{EncodeStripe, Stride};
use crate::report::Aim;
use crate::rivals::{Coder, NINEFOLD, Ninefold};
use ec_core::{Locality, StripeCheck};

const COLD: Place = Place::Cold(Stride::PowerOfTwo);
const NATIVE: &str = "rs:10+4";
const DENSE: &str = "rs:10+4@cauchy";

pub(super) fn cases() -> Vec<Case> {
    vec![
        with_checksums(64 << 10, Place::Hot, Aim::None),
        with_checksums(1 << 20, COLD, Aim::Ratio(0.9)),
        with_checks(64 << 10, Place::Hot, &[(DENSE, 0.6), (NATIVE, 0.4)]),
        with_checks(1 << 20, COLD, &[(DENSE, 0.85)]),
    ]
}

/// Encoding and the CRC of every block of every fragment in one walk over memory.
fn with_checksums(shard_bytes: usize, place: Place, aim: Aim) -> Case {
    const ALONE: &str = "encode, regular stores";
    const STREAMING: &str = "encode, no hint";
    const TWO_PASSES: &str = "encode, then CRC";
    let name = format!("encode + CRC {NATIVE} {} {}", shard_name(shard_bytes), place.name());
    Case::new(name, move |title, bench| {
        let open = || Ninefold::open(NATIVE, 0);
        let (fused, mut first, mut no_hint) = (open()?, open()?, open()?);
        let mut alone = open()?.with_locality(Locality::Cached);
        let shape = fused.shape(shard_bytes);
        let (mut sums, mut later_sums) = (Vec::new(), Vec::new());
        let contestants = vec![
            Contestant::new(NINEFOLD, |stripe: &mut EncodeStripe<'_>| {
                fused.encode_with_checksums(&stripe.data, &mut stripe.parity, &mut sums);
            }),
            Contestant::new(ALONE, |stripe: &mut EncodeStripe<'_>| alone.encode(&stripe.data, &mut stripe.parity)),
            Contestant::new(STREAMING, |stripe: &mut EncodeStripe<'_>| {
                no_hint.encode(&stripe.data, &mut stripe.parity)
            }),
            Contestant::new(TWO_PASSES, |stripe: &mut EncodeStripe<'_>| {
                first.encode(&stripe.data, &mut stripe.parity);
                first.checksums(&stripe.data, &stripe.parity, &mut later_sums);
            }),
        ];
        let series = measure(bench, shape, place, contestants)?;
        let wanted = [(ALONE, aim), (STREAMING, Aim::None), (TWO_PASSES, Aim::None)]
            .map(|(name, aim)| (Beside::Named(name), aim));
        Ok(lines(title, &series, shape.data_bytes(), &wanted))
    })
}

/// Encoding, and two random linear checks of the result by another kernel.
fn with_checks(shard_bytes: usize, place: Place, least: &'static [(&'static str, f64)]) -> Case {
    let name = format!("encode + 2 checks {NATIVE} {} {}", shard_name(shard_bytes), place.name());
    Case::new(name, move |title, bench| {
        let (mut ours, mut native, mut dense) =
            (Ninefold::open(NATIVE, 0)?, Ninefold::open(NATIVE, 0)?, Ninefold::open(DENSE, 0)?);
        let check = StripeCheck::new(ours.code(), 0x5eed);
        let shape = ours.shape(shard_bytes);
        let contestants = vec![
            Contestant::new(NINEFOLD, |stripe: &mut EncodeStripe<'_>| {
                ours.encode(&stripe.data, &mut stripe.parity);
                let parity: Vec<&[u8]> = stripe.parity.iter().map(|shard| &**shard).collect();
                check.run(&stripe.data, &parity).expect("parity that was just computed");
            }),
            Contestant::new(NATIVE, |stripe: &mut EncodeStripe<'_>| native.encode(&stripe.data, &mut stripe.parity)),
            Contestant::new(DENSE, |stripe: &mut EncodeStripe<'_>| dense.encode(&stripe.data, &mut stripe.parity)),
        ];
        let series = measure(bench, shape, place, contestants)?;
        let wanted: Vec<_> = least.iter().map(|&(name, least)| (Beside::Named(name), Aim::Ratio(least))).collect();
        Ok(lines(title, &series, shape.data_bytes(), &wanted))
    })
}
