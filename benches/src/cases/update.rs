//! A small write beside encoding the stripe anew.

use super::encode::measure;
use super::{Beside, Case, Place, lines, shard_name};
use crate::measure::Contestant;
use crate::pool::{EncodeStripe, Stride};
use crate::report::Aim;
use crate::rivals::{NINEFOLD, Ninefold};
use ec_core::{ParityDelta, ShardIndex, ShardSet};

const ANEW: &str = "encode anew";

pub(super) fn cases() -> Vec<Case> {
    let places = [(64 << 10, Place::Hot), (1 << 20, Place::Cold(Stride::PowerOfTwo))];
    let all = ["lrc:12,2,2", "rs:10+4"].into_iter().flat_map(|spec| places.map(|place| (spec, place)));
    all.map(|(spec, (bytes, place))| one_shard(spec, bytes, place)).collect()
}

/// Rates count the data of the whole stripe, of which one shard is written.
fn one_shard(spec: &'static str, bytes: usize, place: Place) -> Case {
    let name = format!("update 1 data shard of {spec}, {} {}", shard_name(bytes), place.name());
    Case::new(name, move |title, bench| {
        let ours = Ninefold::open(spec, 0)?;
        let first = ShardIndex::new(0);
        let delta = ParityDelta::new(ours.code(), &ShardSet::from_iter([first])).map_err(|error| error.to_string())?;
        let (shape, k) = (ours.shape(bytes), ours.code().k());
        let update = |stripe: &mut EncodeStripe<'_>| {
            // Old and new bytes are two shards: what they are does not matter to the time.
            let change = (first, stripe.data[0], stripe.data[1]);
            let position = |at: usize| ShardIndex::new(u16::try_from(k + at).unwrap_or(u16::MAX));
            let parity = stripe.parity.iter_mut().enumerate().map(|(at, bytes)| (position(at), &mut **bytes));
            let mut parity: Vec<_> = parity.filter(|(at, _)| delta.parities().contains(at)).collect();
            delta.update(&[change], &mut parity).expect("one change and the parities it touches");
        };
        let encode = |stripe: &mut EncodeStripe<'_>| {
            ours.code().encode(&stripe.data, &mut stripe.parity).expect("buffers of one stripe");
        };
        let series =
            measure(bench, shape, place, vec![Contestant::new(NINEFOLD, update), Contestant::new(ANEW, encode)])?;
        Ok(lines(title, &series, shape.data_bytes(), &[(Beside::Named(ANEW), Aim::None)]))
    })
}
