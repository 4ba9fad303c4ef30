//! Conversions beside encoding the new code anew.

use super::encode::measure;
use super::{Beside, Case, Place, lines, shard_name};
use crate::measure::Contestant;
use crate::pool::{EncodeStripe, Stride};
use crate::report::Aim;
use crate::rivals::{NINEFOLD, Ninefold};
use ec_core::Conversion;
use ec_core::convert::StripeShard;

const ANEW: &str = "encode anew";

/// Part, long stripe, and the fragments that have to be read and written of two parts.
const MERGES: [(&str, &str, usize, usize); 3] =
    [("lrc:12,2,2", "lrc:24,4,2", 4, 2), ("rs:10+4", "rs:20+4", 8, 4), ("rs:10+4@power", "rs:20+4@power", 8, 4)];

pub(super) fn cases() -> Vec<Case> {
    let places = [(64 << 10, Place::Hot), (1 << 20, Place::Cold(Stride::PowerOfTwo))];
    let all = MERGES.iter().flat_map(|merge| places.map(|place| (merge, place)));
    all.map(|(merge, (bytes, place))| merged(merge, bytes, place)).collect()
}

/// Rates count the data of the long stripe, which a conversion does not touch.
fn merged(
    &(part, whole, reads, writes): &(&'static str, &'static str, usize, usize),
    bytes: usize,
    place: Place,
) -> Case {
    let name = format!(
        "convert 2 x {part} to {whole}, {reads} fragments read, {writes} written, {} {}",
        shard_name(bytes),
        place.name()
    );
    Case::new(name, move |title, bench| {
        let told = |error: &dyn ToString| error.to_string();
        let (part, spec) = (part.parse().map_err(|it| told(&it))?, whole.parse().map_err(|it| told(&it))?);
        let conversion = Conversion::merge(&part, 2, &spec).map_err(|it| told(&it))?;
        if (conversion.reads().len(), conversion.writes().len()) != (reads, writes) {
            return Err(format!("reads or writes something else: {conversion}"));
        }
        let anew = Ninefold::open(whole, 0)?;
        let shape = anew.shape(bytes);
        let convert = |stripe: &mut EncodeStripe<'_>| {
            // What the bytes are does not matter to the time they take.
            let inputs: Vec<(StripeShard, &[u8])> =
                conversion.reads().iter().copied().zip(stripe.data.iter().copied()).collect();
            let outputs = conversion.writes().iter().copied().zip(stripe.parity.iter_mut());
            let mut outputs: Vec<(StripeShard, &mut [u8])> = outputs.map(|(it, bytes)| (it, &mut **bytes)).collect();
            conversion.run(&inputs, &mut outputs).expect("what it reads and writes, equally long");
        };
        let encode = |stripe: &mut EncodeStripe<'_>| {
            anew.code().encode(&stripe.data, &mut stripe.parity).expect("buffers of one stripe");
        };
        let contestants = vec![Contestant::new(NINEFOLD, convert), Contestant::new(ANEW, encode)];
        let series = measure(bench, shape, place, contestants)?;
        Ok(lines(title, &series, shape.data_bytes(), &[(Beside::Named(ANEW), Aim::None)]))
    })
}
