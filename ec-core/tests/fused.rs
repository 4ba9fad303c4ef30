//! Encoding in one walk gives the bytes of encoding alone, shows every byte once, and refuses what it should.

use ec_core::encode::{BLOCK_PIECE_BYTES, HASH_PIECE_BYTES};
use ec_core::{
    Code, DecodeError, Kernel, Locality, ShardIndex, StripeBuffers, StripeCheck, StripeEncoder, VerifyError,
};

const LENGTHS: [usize; 14] =
    [1, 63, 64, 65, 4095, 4096, 4097, 8191, 8192, 8193, 16_383, 16_384, 16_385, 3 * 16_384 + 77];

fn painted(code: &Code, len: usize) -> StripeBuffers {
    let mut shards = StripeBuffers::zeroed(code.n(), len).unwrap();
    for (at, shard) in shards.iter_mut().enumerate() {
        for (byte, value) in shard.iter_mut().zip((0..251).cycle().skip(7 * at)) {
            *byte = value;
        }
    }
    shards
}

/// Data to read and parity to write.
fn split<'a>(code: &Code, shards: &'a mut StripeBuffers) -> (Vec<&'a [u8]>, Vec<&'a mut [u8]>) {
    let mut shards = shards.iter_mut();
    (shards.by_ref().take(code.k()).map(|shard| &*shard).collect(), shards.collect())
}

fn check_walk(encoder: &StripeEncoder, code: &Code, len: usize, piece_bytes: usize, locality: Locality) {
    let name = format!("{} by {}, {len} bytes, {locality:?}", code.spec(), code.kernel().name());
    let mut expected = painted(code, len);
    let (data, mut parity) = split(code, &mut expected);
    code.encode(&data, &mut parity).unwrap();

    let mut shards = painted(code, len);
    let mut seen = vec![Vec::new(); code.n()];
    let (data, mut parity) = split(code, &mut shards);
    let mut last = (0, 0);
    encoder
        .encode(&data, &mut parity, locality, |shard, offset, piece| {
            assert_eq!((offset, offset % piece_bytes), (seen[shard].len(), 0), "{name}");
            assert!((last == (0, 0) || (offset, shard) > last) && piece.len() <= piece_bytes, "{name}");
            last = (offset, shard);
            seen[shard].extend_from_slice(piece);
            Ok::<(), VerifyError>(())
        })
        .unwrap();
    assert!(shards.iter().eq(expected.iter()), "{name}: other parity");
    assert!(seen.iter().map(Vec::as_slice).eq(expected.iter()), "{name}: other bytes shown");
}

#[test]
fn the_walk_gives_the_bytes_of_encoding_alone_by_every_kernel() {
    for kernel in Kernel::available() {
        for spec in ["replicate:3", "rs:1+1", "rs:5+2", "rs:10+4", "rs:6+3@cauchy", "lrc:12,2,2", "rs:30+8", "rs:40+35"]
        {
            let code = Code::with_kernel(&spec.parse().unwrap(), kernel).unwrap();
            for piece_bytes in [BLOCK_PIECE_BYTES, HASH_PIECE_BYTES] {
                let plain = StripeEncoder::new(&code, piece_bytes);
                let checked = StripeEncoder::new(&code, piece_bytes).checked(StripeCheck::at_speed(&code, 3));
                for len in LENGTHS {
                    for locality in [Locality::Auto, Locality::Cached, Locality::Streaming] {
                        check_walk(&plain, &code, len, piece_bytes, locality);
                        check_walk(&checked, &code, len, piece_bytes, locality);
                    }
                }
            }
        }
    }
}

#[test]
fn sizes_of_pieces_are_whole_blocks() {
    let code = Code::new(&"rs:2+1".parse().unwrap()).unwrap();
    for (asked, given) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (usize::MAX, 20_000)] {
        let mut shards = painted(&code, 20_000);
        let (data, mut parity) = split(&code, &mut shards);
        let mut longest = 0;
        StripeEncoder::new(&code, asked)
            .encode(&data, &mut parity, Locality::Cached, |_, _, piece| {
                longest = longest.max(piece.len());
                Ok::<(), VerifyError>(())
            })
            .unwrap();
        assert_eq!(longest, given, "{asked}");
    }
}

/// The check of another matrix stands for an encoder that computes wrongly.
#[test]
fn wrong_parity_is_found_before_it_is_shown() {
    let code = Code::new(&"rs:10+4".parse().unwrap()).unwrap();
    let other = Code::new(&"rs:10+4@cauchy".parse().unwrap()).unwrap();
    for check in [StripeCheck::new(&other, 1), StripeCheck::at_speed(&other, 1)] {
        let encoder = StripeEncoder::new(&code, BLOCK_PIECE_BYTES).checked(check);
        for locality in [Locality::Cached, Locality::Streaming] {
            let mut shards = painted(&code, 10_000);
            let (data, mut parity) = split(&code, &mut shards);
            let found = encoder.encode::<VerifyError>(&data, &mut parity, locality, |_, _, _| panic!("shown"));
            assert_eq!(found, Err(VerifyError::Mismatch { offset: 0 }));
        }
    }
}

#[test]
fn buffers_that_are_no_stripe_are_refused_with_parity_untouched() {
    let code = Code::new(&"rs:3+2".parse().unwrap()).unwrap();
    let check = StripeCheck::at_speed(&Code::new(&"rs:3+3".parse().unwrap()).unwrap(), 1);
    let (plain, of_another) = (StripeEncoder::new(&code, 4096), StripeEncoder::new(&code, 4096).checked(check));
    let count = |expected, found| Err(VerifyError::Buffers(DecodeError::WrongCount { expected, found }));
    let length = |index, found| {
        let index = ShardIndex::new(index);
        Err(VerifyError::Buffers(DecodeError::LengthMismatch { index, expected: 100, found }))
    };
    let cases = [
        (&plain, vec![100; 2], vec![100; 2], count(3, 2)),
        (&plain, vec![100; 4], vec![100; 2], count(3, 4)),
        (&plain, vec![100; 3], vec![100; 1], count(2, 1)),
        (&plain, vec![100; 3], vec![100; 3], count(2, 3)),
        (&plain, vec![100, 99, 100], vec![100; 2], length(1, 99)),
        (&plain, vec![100; 3], vec![100, 0], length(4, 0)),
        (&plain, vec![0; 3], vec![0; 2], Err(VerifyError::Buffers(DecodeError::Empty { granularity: 1 }))),
        (&of_another, vec![100; 3], vec![100; 2], count(3, 2)),
    ];
    for (encoder, data, parity, expected) in cases {
        let data: Vec<Vec<u8>> = data.iter().map(|&len| vec![1; len]).collect();
        let mut parity: Vec<Vec<u8>> = parity.iter().map(|&len| vec![0xEE; len]).collect();
        let inputs: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        let found = encoder.encode::<VerifyError>(&inputs, &mut outputs, Locality::Auto, |_, _, _| panic!("shown"));
        assert_eq!(found, expected);
        assert!(parity.iter().flatten().all(|&byte| byte == 0xEE), "{expected:?}");
    }
}

#[test]
fn what_the_caller_returns_ends_the_walk() {
    let code = Code::new(&"rs:3+2".parse().unwrap()).unwrap();
    let mut shards = painted(&code, 10_000);
    let (data, mut parity) = split(&code, &mut shards);
    let mut calls = 0;
    let found = StripeEncoder::new(&code, 4096).encode(&data, &mut parity, Locality::Streaming, |_, offset, _| {
        calls += 1;
        if offset == 4096 { Err(VerifyError::Mismatch { offset: 77 }) } else { Ok(()) }
    });
    assert_eq!((found, calls), (Err(VerifyError::Mismatch { offset: 77 }), 6));
}
