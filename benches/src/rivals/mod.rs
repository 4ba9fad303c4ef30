//! Every library in one form, and the proof that each does its work before it is timed.

#[cfg(feature = "isal")]
mod isal;
mod ninefold;
mod reed_solomon_erasure;
mod reed_solomon_simd;
mod rusty_erasure;

pub use ninefold::{NAME as NINEFOLD, Ninefold, OneWalk, Ours, decodability, planner, worst_planner};

use crate::pool::{EncodeStripe, Pool, Stride};

/// Numbers of a code, and the length of its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Data shards.
    pub k: usize,
    /// Parity shards.
    pub m: usize,
    /// Bytes of each shard.
    pub shard_bytes: usize,
}

impl Shape {
    /// Shards in all.
    pub fn n(self) -> usize {
        self.k + self.m
    }

    /// Data bytes of a stripe: what rates count.
    pub fn data_bytes(self) -> usize {
        self.k * self.shard_bytes
    }
}

/// A library made ready for one code and one pattern of losses.
pub trait Coder {
    /// Computes the parity shards.
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]);

    /// Rebuilds the data shards `0..lost` from the others, in place. `lost` is what it was opened with.
    fn rebuild(&mut self, shards: &mut [&mut [u8]]);

    /// From now on results may stay in memory of the library's own, if it has such: the copy to the caller is not timed.
    fn leave_results_inside(&mut self) {}
}

/// Work that is done anew at each call.
pub type Work = Box<dyn FnMut()>;

/// A library by name.
#[derive(Clone, Copy)]
pub struct Library {
    /// What reports call it.
    pub name: &'static str,
    /// Makes it ready; `None` where it has no such code.
    pub open: fn(shape: Shape, lost: usize) -> Option<Box<dyn Coder>>,
    /// Makes its decode plan for the loss of data shards `0..lost` at each call; `None` where it has none that stands alone.
    pub planner: Option<fn(shape: Shape, lost: usize) -> Work>,
    /// The specification under which ec-core computes the same parity, if there is one.
    pub same_bytes: Option<fn(Shape) -> String>,
}

/// The table's named rival.
pub const RUSTY_ERASURE: &str = "rusty_erasure";
/// The rival of the AVX2 row.
pub const REED_SOLOMON_ERASURE: &str = "reed-solomon-erasure";
/// The rival of wide codes.
pub const REED_SOLOMON_SIMD: &str = "reed-solomon-simd";
/// Intel's library, with feature `isal`.
pub const ISA_L: &str = "ISA-L";

/// All rivals that were built in.
pub fn rivals() -> Vec<Library> {
    vec![
        Library {
            name: RUSTY_ERASURE,
            open: rusty_erasure::open,
            planner: Some(rusty_erasure::planner),
            same_bytes: Some(|shape| format!("rs:{}+{}@cauchy", shape.k, shape.m)),
        },
        #[cfg(feature = "isal")]
        Library {
            name: ISA_L,
            open: isal::open,
            planner: Some(isal::planner),
            same_bytes: Some(|shape| format!("rs:{}+{}@cauchy", shape.k, shape.m)),
        },
        Library {
            name: REED_SOLOMON_ERASURE,
            open: reed_solomon_erasure::open,
            planner: None,
            same_bytes: Some(|shape| format!("rs:{}+{}@vandermonde", shape.k, shape.m)),
        },
        Library {
            name: REED_SOLOMON_SIMD,
            open: reed_solomon_simd::open,
            planner: None,
            same_bytes: Some(|shape| format!("wide:{}+{}", shape.k, shape.m)),
        },
    ]
}

/// Those whose bytes are compared with ours, and one that no row of the table is beside: ISA-L's other generator.
pub fn compared() -> Vec<Library> {
    #[allow(unused_mut)] // Without ISA-L.
    let mut libraries = rivals();
    #[cfg(feature = "isal")]
    libraries.push(Library {
        name: "ISA-L, Vandermonde",
        open: isal::open_vandermonde,
        planner: None,
        same_bytes: Some(|shape| format!("rs:{}+{}@power", shape.k, shape.m)),
    });
    libraries
}

/// Whether a library can be believed: it rebuilds what it encoded, and where its matrix is known its parity is that of ec-core.
///
/// # Errors
/// What is wrong, with the library's name.
pub fn check(library: &Library, shape: Shape) -> Result<(), String> {
    let says = |what: String| format!("{} {}+{}, {} bytes: {what}", library.name, shape.k, shape.m, shape.shard_bytes);
    let lost = shape.m.min(shape.k);
    let Some(mut coder) = (library.open)(shape, lost) else { return Ok(()) };
    let mut pool = Pool::new(shape.n() * shape.shard_bytes);
    let shards = pool.stripes(shape.n(), shape.shard_bytes, Stride::PowerOfTwo, 1).remove(0);

    let mut stripe = EncodeStripe::new(shards, shape.k);
    coder.encode(&stripe.data, &mut stripe.parity);
    if let Some(spec) = library.same_bytes {
        let mut ours = Ours::open(&spec(shape), 0).map_err(&says)?.coder;
        let mut expected = vec![vec![0; shape.shard_bytes]; shape.m];
        ours.encode(&stripe.data, &mut expected.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
        if let Some(at) = (0..shape.m).find(|&at| *stripe.parity[at] != expected[at][..]) {
            return Err(says(format!("parity {at} is not that of {}", spec(shape))));
        }
    }

    let whole: Vec<Vec<u8>> =
        stripe.data.iter().copied().chain(stripe.parity.iter().map(|it| &**it)).map(<[u8]>::to_vec).collect();
    let mut shards = whole.clone();
    shards[..lost].iter_mut().for_each(|shard| shard.fill(0xA5));
    coder.rebuild(&mut shards.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    match (0..lost).find(|&at| shards[at] != whole[at]) {
        Some(at) => Err(says(format!("shard {at} of {lost} lost ones was not rebuilt"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rival_encodes_and_rebuilds_and_a_wrong_one_is_told() {
        for library in rivals() {
            for (k, m, shard_bytes) in [(4, 2, 64), (10, 4, 4096), (17, 3, 128), (80, 20, 192), (1000, 200, 64)] {
                assert_eq!(check(&library, Shape { k, m, shard_bytes }), Ok(()));
            }
        }
        let shape = Shape { k: 4, m: 2, shard_bytes: 64 };
        let other_matrix = Library { same_bytes: Some(|_| "rs:4+2".into()), ..rivals()[0] };
        assert!(check(&other_matrix, shape).unwrap_err().contains("parity 0 is not that of rs:4+2"));
        struct Idle;
        impl Coder for Idle {
            fn encode(&mut self, _: &[&[u8]], _: &mut [&mut [u8]]) {}
            fn rebuild(&mut self, _: &mut [&mut [u8]]) {}
        }
        let idle = Library { name: "idle", open: |_, _| Some(Box::new(Idle)), planner: None, same_bytes: None };
        assert!(check(&idle, shape).unwrap_err().contains("shard 0 of 2 lost ones was not rebuilt"));
    }
}
