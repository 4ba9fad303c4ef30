//! Code specifications: text, descriptor, and the code that is built from them.

use crate::{Input, bounded};
use ec_core::code::{DESCRIPTOR_BYTES, Guarantee, LocalGroup, RsMatrix, Shape};
use ec_core::shard::SHARDS_MAX;
use ec_core::vector::SUB_CHUNKS_MAX;
use ec_core::wide::WIDE_SHARDS_MAX;
use ec_core::{
    Code, CodeError, CodeSpec, DecodeError, Kernel, Matrix, ShardIndex, ShardSet, StripeCheck, VectorSpec, WideSpec, gf,
};

/// Larger codes are parsed, not built: elimination grows with the cube of `k`.
const BUILT_SHARDS_MAX: usize = 40;
/// Messages quote at most 64 + 32 characters of the input, and at most 22 + 22 positions.
const MESSAGE_BYTES_MAX: usize = 1_000;
/// 31 = 16 + 8 + 4 + 2 + 1: every width of a kernel and its rest.
const SHARD_BYTES: usize = 31;

/// Any bytes as a specification, as a descriptor and as numbers of a shape; what is accepted is built and decoded.
///
/// The text ends at the first zero byte. What follows it (for the other readings: what follows their bytes) says which shards
/// are lost, and which kernel computes.
pub fn code_spec(bytes: &[u8]) {
    let bytes = bounded(bytes);
    let text_bytes = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (text, after) = bytes.split_at(text_bytes);
    let text = String::from_utf8_lossy(text);
    let found = text.parse();
    if let Ok(spec) = &found {
        written_like(&text, spec);
    }
    read(found, &mut Input(after.get(1..).unwrap_or(&[])));
    if !after.is_empty() {
        // As a whole it holds a zero byte, which no specification does.
        assert!(String::from_utf8_lossy(bytes).parse::<CodeSpec>().is_err());
    }

    let mut input = Input(bytes);
    let descriptor: [u8; DESCRIPTOR_BYTES] = input.array();
    let found = CodeSpec::from_descriptor(&descriptor);
    if let Ok(spec) = &found {
        assert_eq!(spec.to_descriptor(), descriptor, "a code has one descriptor: {spec}");
    }
    read(found, &mut input);

    let mut input = Input(bytes);
    let found = CodeSpec::new(shape(&mut input));
    read(found, &mut input);
}

/// Leading zeros and the default matrix are all that a text may have more or less than the canonical one.
fn written_like(text: &str, spec: &CodeSpec) {
    let mut plain = String::new();
    for (at, character) in text.char_indices() {
        let begins = !text[..at].ends_with(|before: char| before.is_ascii_digit()) || plain.ends_with([':', '+', ',']);
        let more = text[at + character.len_utf8()..].starts_with(|next: char| next.is_ascii_digit());
        if !(character == '0' && begins && more) {
            plain.push(character);
        }
    }
    let canonical = spec.to_string();
    let same = plain == canonical || format!("{plain}@cauchy") == canonical || plain == format!("{canonical}@lch");
    assert!(same, "{text} was read as {canonical}");
}

/// A shape with numbers near and far from the limits.
fn shape(input: &mut Input<'_>) -> Shape {
    let kind = input.byte();
    // Few bits give small numbers, which is where the codes are.
    let bits = [3, 5, 9, 16][usize::from(kind >> 4) % 4];
    let mut number = || u16::from_le_bytes(input.array()) & (u16::MAX >> (16 - bits));
    let (k, m) = (number(), number());
    match kind % 16 {
        0 => Shape::Replicate { n: k },
        at @ 1..=5 => Shape::Rs { k, m, matrix: RsMatrix::ALL[usize::from(at) - 1].0 },
        6 => Shape::Lrc { k, groups: m, globals: number() },
        at @ 7..=10 => Shape::Lrc { k, groups: m, globals: u16::from(at) - 6 },
        11 => Shape::LrcUniform { k, groups: m, globals: number() },
        at @ 12..=13 => Shape::LrcUniform { k, groups: m, globals: u16::from(at) - 11 },
        14 => Shape::Xorbas,
        _ => Shape::Matrix { k, m, digest: number().into() },
    }
}

fn read(found: Result<CodeSpec, CodeError>, losses: &mut Input<'_>) {
    match found {
        Ok(spec) => accepted(&spec, losses),
        Err(refused) => {
            match &refused {
                CodeError::LibraryOnly { spec } => {
                    let (n, written) = match spec.parse::<WideSpec>() {
                        Ok(wide) => (wide.n(), wide.to_string()),
                        Err(_) => {
                            let vector: VectorSpec = spec.parse().expect("the canonical form of a wide or vector code");
                            assert!(vector.alpha() <= SUB_CHUNKS_MAX && vector.n() <= SHARDS_MAX, "{spec}");
                            (vector.n(), vector.to_string())
                        }
                    };
                    assert!((2..=WIDE_SHARDS_MAX).contains(&n) && written == *spec, "{spec}");
                }
                _ => assert!(
                    matches!(
                        refused,
                        CodeError::Syntax { .. } | CodeError::Params { .. } | CodeError::MatrixByName { .. }
                    ),
                    "{refused:?}"
                ),
            }
            says_why(&refused);
        }
    }
}

fn says_why(error: &impl ToString) {
    let message = error.to_string();
    assert!((1..=MESSAGE_BYTES_MAX).contains(&message.len()), "{} bytes: {message}", message.len());
}

fn accepted(spec: &CodeSpec, losses: &mut Input<'_>) {
    assert!(1 <= spec.k() && spec.k() <= spec.n() && spec.n() <= SHARDS_MAX, "{spec}");
    assert_eq!(spec.to_string().parse().as_ref(), Ok(spec));
    assert_eq!(CodeSpec::from_descriptor(&spec.to_descriptor()).as_ref(), Ok(spec));
    assert_eq!(CodeSpec::new(spec.shape()).as_ref(), Ok(spec));
    if spec.n() > BUILT_SHARDS_MAX {
        return;
    }
    let bits: [u8; BUILT_SHARDS_MAX / 8] = losses.array();
    let kernels = Kernel::available();
    match Code::with_kernel(spec, kernels[losses.below(kernels.len())]) {
        Ok(code) => built(spec, &code, bits),
        Err(refused) => {
            let CodeError::NotMds { parities, data, .. } = &refused else { panic!("{refused:?}") };
            assert!(matches!(spec.shape(), Shape::Rs { matrix: RsMatrix::Power, .. }), "{refused}");
            let element = |row: usize, column: usize| gf::exp2(usize::from(parities[row]) * usize::from(data[column]));
            let named = Matrix::from_fn(parities.len(), data.len(), element);
            assert!(named.rank() < parities.len() && parities.len() == data.len(), "{refused}");
            says_why(&refused);
        }
    }
}

/// `losses` has one bit per shard.
fn built(spec: &CodeSpec, code: &Code, losses: [u8; BUILT_SHARDS_MAX / 8]) {
    assert_eq!((code.spec(), code.k(), code.n(), code.m()), (spec, spec.k(), spec.n(), spec.n() - spec.k()));
    let shards = encoded(code);
    let lost: ShardSet = (0..code.n()).filter(|at| losses[at / 8] >> (at % 8) & 1 == 1).map(index).collect();
    let decodable = code.decodable(&lost);
    // The definition: the rows at hand have the rank of the data.
    let rows: Vec<usize> = lost.complement(code.n()).iter().map(ShardIndex::at).collect();
    assert_eq!(decodable, code.generator().select_rows(&rows).rank() == code.k(), "{spec} without {lost:?}");
    assert!(decodable || lost.len() > code.guaranteed_tolerance(), "{spec} without {lost:?}");
    assert_eq!(decodable, survivable(code, &lost), "{spec} without {lost:?}");
    decode(code, &shards, &lost, decodable);
}

/// What the code promises. MDS: as many losses as parities. Maximally recoverable: one loss in each group, and as many more
/// anywhere as there are parities beyond one a group.
fn survivable(code: &Code, lost: &ShardSet) -> bool {
    match code.guarantee() {
        Guarantee::Mds => return lost.len() <= code.m(),
        Guarantee::MaximallyRecoverable => {}
        Guarantee::Ranked => return code.decodable(lost),
    }
    let in_group = |group: &LocalGroup| group.members().iter().filter(|at| lost.contains(*at)).count();
    let repaired_locally = code.groups().iter().filter(|group| in_group(group) > 0).count();
    lost.len() - repaired_locally <= code.m() - code.groups().len()
}

fn index(at: usize) -> ShardIndex {
    ShardIndex::new(u16::try_from(at).expect("a position in a code"))
}

/// Painted data and its parity, checked against the rows of the generator by the schoolbook product.
fn encoded(code: &Code) -> Vec<Vec<u8>> {
    // 251 is prime and below 256: shifted or swapped shards do not look alike.
    let mut shards: Vec<Vec<u8>> = (0..code.n())
        .map(|shard| (0..SHARD_BYTES).map(|at| u8::try_from((at + 7 * shard) % 251).unwrap_or(0)).collect())
        .collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("equal lengths");
    for (at, shard) in shards.iter().enumerate() {
        for (byte, &found) in shard.iter().enumerate() {
            let expected = (0..code.k()).fold(0, |sum, column| {
                sum ^ gf::mul_by_definition(code.generator().get(at, column), shards[column][byte])
            });
            assert_eq!(found, expected, "{} shard {at} byte {byte}", code.spec());
        }
    }
    let all: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
    let (data, parity) = all.split_at(code.k());
    assert_eq!(StripeCheck::new(code, 9).run(data, parity), Ok(()), "{}", code.spec());
    shards
}

fn decode(code: &Code, shards: &[Vec<u8>], lost: &ShardSet, decodable: bool) {
    const UNTOUCHED: u8 = 0xee;
    let available = lost.complement(code.n());
    let present: Vec<(ShardIndex, &[u8])> = available.iter().map(|at| (at, &shards[at.at()][..])).collect();
    let mut rebuilt: Vec<(ShardIndex, Vec<u8>)> = lost.iter().map(|at| (at, vec![UNTOUCHED; SHARD_BYTES])).collect();
    let mut wanted: Vec<(ShardIndex, &mut [u8])> =
        rebuilt.iter_mut().map(|(at, bytes)| (*at, &mut bytes[..])).collect();
    let (plan, decoded) = (code.plan(lost, &available), code.decode(&present, &mut wanted));
    assert_eq!(decoded.is_ok(), decodable, "{} without {lost:?}: {decoded:?}", code.spec());
    match (plan, decoded) {
        (Ok(plan), Ok(())) => {
            assert!(plan.reads().iter().all(|at| available.contains(*at)));
            let local_reads = code.groups().iter().map(|group| group.len()).sum::<usize>();
            assert!(plan.reads().len() <= code.k().max(local_reads), "{plan}");
            for (at, bytes) in &rebuilt {
                assert_eq!(*bytes, shards[at.at()], "{} shard {at} without {lost:?}", code.spec());
            }
        }
        (Err(plan), Err(decoded)) => {
            assert_eq!(plan, decoded);
            let DecodeError::NotDecodable { present, missing, needed_more } = plan else { panic!("{plan}") };
            assert_eq!((present, missing.len()), (available.len(), lost.len()));
            assert!((1..=code.k()).contains(&needed_more), "{needed_more} of {}", code.spec());
            assert!(rebuilt.iter().all(|(_, bytes)| bytes.iter().all(|&byte| byte == UNTOUCHED)));
        }
        (plan, decoded) => panic!("{}: the plan says {plan:?}, decode {decoded:?}", code.spec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn shapes_of_every_family_are_drawn() {
        let drawn = |bytes: &[u8]| CodeSpec::new(shape(&mut Input(bytes))).map(|spec| spec.to_string());
        assert_eq!(drawn(&[0, 3]).as_deref(), Ok("replicate:3"));
        assert_eq!(drawn(&[1, 4, 0, 2]).as_deref(), Ok("rs:4+2"));
        assert_eq!(drawn(&[0x13, 10, 0, 3]).as_deref(), Ok("rs:10+3@power"));
        assert_eq!(drawn(&[0x18, 12, 0, 2]).as_deref(), Ok("lrc:12,2,2"));
        assert!(drawn(&[0x36, 255, 255, 255, 255, 255, 255]).is_err());
    }

    #[test]
    fn no_code_that_is_built_takes_long() {
        let built_shards_max = u16::try_from(BUILT_SHARDS_MAX).unwrap();
        let began = Instant::now();
        for k in 1..built_shards_max {
            for m in 1..=built_shards_max - k {
                // Every square submatrix is looked at until one is singular.
                let _ = Code::new(&CodeSpec::new(Shape::Rs { k, m, matrix: RsMatrix::Power }).unwrap());
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{:?} for all of them", began.elapsed());
    }
}
