//! Several threads give the bytes and the errors of one, in the caller's pool.

use ec_core::encode::BLOCK_PIECE_BYTES;
use ec_core::{
    Code, DecodeError, Kernel, Locality, ShardIndex, ShardSet, StripeBuffers, StripeCheck, StripeEncoder, VerifyError,
};
use std::collections::BTreeMap;
use std::sync::Mutex;

const LENGTHS: [usize; 8] = [1, 4096, 36_864, 36_865, 40_960, 100_000, 262_144, 1_000_003];

fn painted(code: &Code, len: usize) -> StripeBuffers {
    let mut shards = StripeBuffers::zeroed(code.n(), len).unwrap();
    for (at, shard) in shards.iter_mut().enumerate() {
        for (byte, value) in shard.iter_mut().zip((0..251).cycle().skip(7 * at)) {
            *byte = value;
        }
    }
    shards
}

fn split<'a>(code: &Code, shards: &'a mut StripeBuffers) -> (Vec<&'a [u8]>, Vec<&'a mut [u8]>) {
    let mut shards = shards.iter_mut();
    (shards.by_ref().take(code.k()).map(|shard| &*shard).collect(), shards.collect())
}

/// Of the caller's pool: more than rayon's own has on any machine, which has one for each core.
fn threads() -> usize {
    rayon::current_num_threads() + 3
}

#[test]
fn threads_give_the_bytes_of_one() {
    let threads = threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for kernel in Kernel::available().into_iter().take(2).chain([Kernel::portable()]) {
        for spec in ["rs:10+4", "lrc:12,2,2", "rs:40+9"] {
            let code = Code::with_kernel(&spec.parse().unwrap(), kernel).unwrap();
            let encoder = StripeEncoder::new(&code, BLOCK_PIECE_BYTES).checked(StripeCheck::at_speed(&code, 1));
            for len in LENGTHS {
                let mut expected = painted(&code, len);
                let (data, mut parity) = split(&code, &mut expected);
                code.encode(&data, &mut parity).unwrap();

                let mut found = painted(&code, len);
                let (data, mut parity) = split(&code, &mut found);
                pool.install(|| code.encode_parallel(&data, &mut parity, Locality::Auto)).unwrap();
                assert!(found.iter().eq(expected.iter()), "{spec}, {len} bytes");

                let mut found = painted(&code, len);
                let (data, mut parity) = split(&code, &mut found);
                let seen = Mutex::new(BTreeMap::new());
                let visit = |shard: usize, offset: usize, piece: &[u8]| {
                    assert_eq!(rayon::current_num_threads(), threads, "not in the caller's pool");
                    assert!(rayon::current_thread_index().is_some(), "not in a pool");
                    assert!(seen.lock().unwrap().insert((shard, offset), piece.to_vec()).is_none());
                    Ok::<(), VerifyError>(())
                };
                pool.install(|| encoder.encode_parallel(&data, &mut parity, Locality::Streaming, visit)).unwrap();
                assert!(found.iter().eq(expected.iter()), "{spec}, {len} bytes in one walk");
                let shown: Vec<u8> = seen.into_inner().unwrap().into_values().flatten().collect();
                assert!(shown == expected.iter().collect::<Vec<_>>().concat(), "{spec}, {len} bytes shown");

                let lost = ShardSet::from_iter([ShardIndex::new(1), ShardIndex::new(3)]);
                let plan = code.plan(&lost, &lost.complement(code.n())).unwrap();
                let all: Vec<&[u8]> = expected.iter().collect();
                let inputs: Vec<_> = plan.reads().iter().map(|index| (*index, all[usize::from(index.get())])).collect();
                let mut rebuilt = vec![vec![0xEE; len]; 2];
                let [first, last] = &mut rebuilt[..] else { unreachable!() };
                let mut outputs = [(ShardIndex::new(3), &mut last[..]), (ShardIndex::new(1), &mut first[..])];
                pool.install(|| plan.run_parallel(&inputs, &mut outputs, Locality::Auto)).unwrap();
                assert!(rebuilt[0] == all[1] && rebuilt[1] == all[3], "{spec}, {len} bytes rebuilt");
            }
        }
    }
}

#[test]
fn threads_give_the_errors_of_one() {
    let code = Code::new(&"rs:3+2".parse().unwrap()).unwrap();
    let len = 1 << 20;
    let mut shards = painted(&code, len);
    let (data, mut parity) = split(&code, &mut shards);
    let (few, short) = (&data[..2], [data[0], &data[1][1..], data[2]]);
    let found = code.encode_parallel(few, &mut parity, Locality::Auto);
    assert_eq!(found, Err(DecodeError::WrongCount { expected: 3, found: 2 }));
    let mismatch = DecodeError::LengthMismatch { index: ShardIndex::new(1), expected: len, found: len - 1 };
    assert_eq!(code.encode_parallel(&short, &mut parity, Locality::Auto), Err(mismatch.clone()));

    let other = Code::new(&"rs:3+2@cauchy".parse().unwrap()).unwrap();
    let encoder = StripeEncoder::new(&code, 4096).checked(StripeCheck::at_speed(&other, 1));
    let visit = |_: usize, _: usize, _: &[u8]| Ok::<(), VerifyError>(());
    let found = encoder.encode_parallel(&short, &mut parity, Locality::Auto, visit);
    assert_eq!(found, Err(VerifyError::Buffers(mismatch)));
    let found = encoder.encode_parallel(&data, &mut parity, Locality::Auto, visit);
    assert_eq!(found, Err(VerifyError::Mismatch { offset: 0 }));
    // Zeros fit every code: the one byte that is none is met by another thread, and named by where it is in the whole shard.
    let mut zeros = StripeBuffers::zeroed(code.n(), len).unwrap();
    zeros.iter_mut().nth(1).unwrap()[700_000] = 1;
    let (zeros, mut parity_of_zeros) = split(&code, &mut zeros);
    let found = encoder.encode_parallel(&zeros, &mut parity_of_zeros, Locality::Auto, visit);
    assert_eq!(found, Err(VerifyError::Mismatch { offset: 700_000 / 4096 * 4096 }));
    assert_eq!(found, encoder.encode(&zeros, &mut parity_of_zeros, Locality::Auto, visit));
    // One that cannot fail near the beginning: the offset is that of the whole shard, not of the chunk.
    let encoder = StripeEncoder::new(&code, 4096);
    let visit = |_: usize, offset: usize, _: &[u8]| {
        if offset == 900 << 10 { Err(VerifyError::Mismatch { offset }) } else { Ok(()) }
    };
    let found = encoder.encode_parallel(&data, &mut parity, Locality::Auto, visit);
    assert_eq!(found, Err(VerifyError::Mismatch { offset: 900 << 10 }));

    let lost = ShardSet::from_iter([ShardIndex::new(0)]);
    let plan = code.plan(&lost, &lost.complement(5)).unwrap();
    let mut rebuilt = vec![0xEE; len];
    let inputs = [(ShardIndex::new(1), data[1]), (ShardIndex::new(2), data[2])];
    let found = plan.run_parallel(&inputs, &mut [(ShardIndex::new(0), &mut rebuilt)], Locality::Auto);
    assert_eq!(found, Err(DecodeError::MissingInput { index: ShardIndex::new(3) }));
    assert!(rebuilt.iter().all(|&byte| byte == 0xEE));
}
