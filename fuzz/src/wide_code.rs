//! Wide codes of any shape: the kernels against each other, and what is lost against what was there.

use crate::{Input, bounded};
use ec_core::{DecodeError, Kernel, ShardIndex, WideCode, WideSpec, WideWorkspace};

/// Larger codes cost much and have nothing new: three passes of four layers are within.
const SHARDS_MAX: usize = 700;
/// Seven blocks and anything left over.
const SHARD_BYTES_MAX: usize = 512;
const UNTOUCHED: u8 = 0xee;

/// Two numbers of shards, a length, losses: by a list of positions, and then all from one on. Every kernel must give the same
/// parity (without GFNI it is the library's own), and whatever enough is left of must come back.
pub fn wide_code(bytes: &[u8]) {
    let mut input = Input(bounded(bytes));
    // Few bits give small numbers.
    let bits = [3, 6, 9, 16][input.below(4)];
    let (k, m) = (input.word() & 0xFFFF >> (16 - bits), input.word() & 0xFFFF >> (16 - bits));
    let spec = match WideSpec::new(k as u32, m as u32) {
        Ok(spec) => spec,
        Err(refused) => {
            let (smaller, larger) = (k.min(m).next_power_of_two(), k.max(m));
            assert!(k == 0 || m == 0 || smaller + larger > 1 << 16, "{refused}");
            return;
        }
    };
    assert_eq!(spec.to_string().parse(), Ok(spec));
    if spec.n() > SHARDS_MAX {
        return;
    }
    let len = (input.below(SHARD_BYTES_MAX / 2 + 1) * 2).max(2);
    // 251 is prime and below 256: shifted or swapped shards do not look alike.
    let painted =
        |shard: usize| (0..len).map(move |at| u8::try_from((at + 7 * shard + shard / 251) % 251).unwrap_or(0));
    let data = (0..k).map(|shard| painted(shard).collect()).collect::<Vec<Vec<u8>>>();
    let codes =
        Kernel::available().into_iter().map(|kernel| WideCode::with_kernel(&spec, kernel).expect("a sound kernel"));
    let codes = codes.collect::<Vec<_>>();
    let mut workspace = WideWorkspace::new();
    let mut encoded = codes.iter().map(|code| parity(code, &mut workspace, &data, len));
    let first = encoded.next().expect("the portable kernel at least");
    assert!(encoded.all(|parity| parity == first), "{spec}, {len} bytes: kernels differ");

    let code = &codes[input.below(codes.len())];
    let mut lost = vec![false; spec.n()];
    for _ in 0..input.below(spec.m() + 2) {
        lost[input.below(spec.n())] = true;
    }
    lost.iter_mut().take(input.below(spec.m() + 2)).for_each(|lost| *lost = true);
    rebuild(code, &[data, first].concat(), &lost);
}

fn parity(code: &WideCode, workspace: &mut WideWorkspace, data: &[Vec<u8>], len: usize) -> Vec<Vec<u8>> {
    let data = data.iter().map(Vec::as_slice).collect::<Vec<_>>();
    let mut parity = vec![vec![UNTOUCHED; len]; code.m()];
    let mut targets = parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>();
    code.encode_with(workspace, &data, &mut targets).expect("equal even lengths");
    parity
}

fn rebuild(code: &WideCode, all: &[Vec<u8>], lost: &[bool]) {
    let (gone, present): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|&at| lost[at]);
    let index = |at: &usize| ShardIndex::new(u16::try_from(*at).expect("a position in a code"));
    let inputs = present.iter().map(|at| (index(at), &all[*at][..])).collect::<Vec<_>>();
    let mut rebuilt = vec![vec![UNTOUCHED; all[0].len()]; gone.len()];
    let outputs = gone.iter().map(index).zip(rebuilt.iter_mut().map(Vec::as_mut_slice));
    let decoded = code.decode(&inputs, &mut outputs.collect::<Vec<_>>());
    let decodable = code.decodable(&gone.iter().map(index).collect::<Vec<_>>());
    assert_eq!(decodable, gone.len() <= code.m());
    match decoded {
        Ok(()) => {
            assert!(decodable);
            for (at, rebuilt) in gone.iter().zip(&rebuilt) {
                assert!(*rebuilt == all[*at], "{}: shard {at} without {gone:?}", code.spec());
            }
        }
        Err(refused) => {
            assert!(!decodable && rebuilt.iter().flatten().all(|&byte| byte == UNTOUCHED), "{refused}");
            assert_eq!(refused, DecodeError::TooFewShards { needed: code.k(), present: present.len() });
        }
    }
}
