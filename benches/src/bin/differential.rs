//! ec-core against other libraries, byte by byte, on random codes, lengths, contents and losses: `cargo run --release -p benches
//! --features isal --bin differential`. What the other encodes ec-core must encode alike and decode, and the other must rebuild what ec-core
//! encoded. Matrices that no library here has are held against the schoolbook product of their rows.

use benches::rivals::{Library, Shape, compared};
use clap::Parser;
use ec_core::{Code, CodeError, ShardIndex, ShardSet, WideCode, gf};

#[derive(Debug, Parser)]
struct Arguments {
    /// Random cases for each pair.
    #[arg(long, default_value_t = 10_000)]
    cases: u64,
    /// First seed; a failure names its own.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count.max(1) as u64).unwrap_or(0)
    }

    /// Mostly small, now and then of many or of long shards; a library that wants even lengths refuses the odd ones.
    fn shape(&mut self) -> Shape {
        let wide = self.below(8) == 0;
        let (k, m) =
            if wide { (1 + self.below(60), 1 + self.below(24)) } else { (1 + self.below(12), 1 + self.below(5)) };
        let longest = match self.below(64) {
            _ if wide => 80,
            0 => 20_000,
            _ => 600,
        };
        Shape { k, m, shard_bytes: 1 + self.below(longest) }
    }

    fn shards(&mut self, count: usize, bytes: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| (0..bytes).map(|_| self.next() as u8).collect()).collect()
    }
}

fn slices(shards: &[Vec<u8>]) -> Vec<&[u8]> {
    shards.iter().map(Vec::as_slice).collect()
}

fn slices_mut(shards: &mut [Vec<u8>]) -> Vec<&mut [u8]> {
    shards.iter_mut().map(Vec::as_mut_slice).collect()
}

fn index(at: usize) -> ShardIndex {
    ShardIndex::new(u16::try_from(at).unwrap_or(u16::MAX))
}

/// Ours under the other's name: parity, and what is decoded of `lost`.
enum Ours {
    Code(Box<Code>),
    Wide(Box<WideCode>),
}

impl Ours {
    fn open(spec: &str) -> Result<Option<Self>, String> {
        let refused = |error: CodeError| format!("{spec}: {error}");
        if spec.starts_with("wide:") {
            let code = spec.parse().and_then(|spec| WideCode::new(&spec)).map_err(refused)?;
            return Ok(Some(Self::Wide(Box::new(code))));
        }
        match spec.parse().and_then(|spec| Code::new(&spec)) {
            Ok(code) => Ok(Some(Self::Code(Box::new(code)))),
            // Ours alone says so.
            Err(CodeError::NotMds { .. }) => Ok(None),
            Err(error) => Err(refused(error)),
        }
    }

    fn parity(&self, data: &[Vec<u8>], parity: &mut [Vec<u8>]) -> Result<(), String> {
        let parity = &mut slices_mut(parity)[..];
        match self {
            Self::Code(code) => code.encode(&slices(data), parity),
            Self::Wide(code) => code.encode(&slices(data), parity),
        }
        .map_err(|error| error.to_string())
    }

    /// Decodes the lost of one stripe from its other shards and compares.
    fn decodes(&self, shards: &[Vec<u8>], lost: &ShardSet) -> Result<(), String> {
        let Self::Code(code) = self else { return Ok(()) };
        let present: Vec<_> = lost.complement(shards.len()).iter().map(|at| (at, &shards[at.at()][..])).collect();
        let mut rebuilt: Vec<_> = lost.iter().map(|at| (at, vec![0; shards[0].len()])).collect();
        let mut wanted: Vec<_> = rebuilt.iter_mut().map(|(at, bytes)| (*at, &mut bytes[..])).collect();
        code.decode(&present, &mut wanted).map_err(|error| error.to_string())?;
        match rebuilt.iter().find(|(at, bytes)| *bytes != shards[at.at()]) {
            None => Ok(()),
            Some((at, _)) => Err(format!("ec-core decoded shard {at} of {lost:?} wrongly")),
        }
    }
}

fn draw(n: usize, count: usize, dice: &mut Dice) -> ShardSet {
    let mut lost = ShardSet::EMPTY;
    while lost.len() < count {
        lost.insert(index(dice.below(n)));
    }
    lost
}

/// Whether the case was one that both have.
fn beside(library: &Library, spec: fn(Shape) -> String, dice: &mut Dice) -> Result<bool, String> {
    let shape = dice.shape();
    let Shape { k, m, shard_bytes } = shape;
    let Some(ours) = Ours::open(&spec(shape))? else { return Ok(false) };
    let lost = 1 + dice.below(m.min(k));
    let Some(mut theirs) = (library.open)(shape, lost) else { return Ok(false) };
    let data = dice.shards(k, shard_bytes);
    let (mut own, mut other) = (vec![vec![1; shard_bytes]; m], vec![vec![2; shard_bytes]; m]);
    ours.parity(&data, &mut own)?;
    theirs.encode(&slices(&data), &mut slices_mut(&mut other));
    if own != other {
        return Err(format!("{} is not what {} encodes", spec(shape), library.name));
    }
    let shards = [data, other].concat();
    let pattern = draw(k + m, 1 + dice.below(m), dice);
    ours.decodes(&shards, &pattern)?;
    let mut damaged = shards.clone();
    damaged[..lost].iter_mut().for_each(|shard| shard.fill(0xA5));
    theirs.rebuild(&mut slices_mut(&mut damaged));
    if damaged[..lost] != shards[..lost] {
        return Err(format!("{} does not rebuild {}", library.name, spec(shape)));
    }
    Ok(true)
}

/// A matrix without a library here, beside the product of its rows by the definition of the field.
fn by_the_schoolbook(matrix: &str, dice: &mut Dice) -> Result<(), String> {
    let Shape { k, m, shard_bytes } = dice.shape();
    let spec = format!("rs:{k}+{m}@{matrix}");
    let code = spec.parse().and_then(|spec| Code::new(&spec)).map_err(|error| format!("{spec}: {error}"))?;
    let mut shards = dice.shards(k + m, shard_bytes);
    let (data, parity) = shards.split_at_mut(k);
    code.encode(&slices(data), &mut slices_mut(parity)).map_err(|error| error.to_string())?;
    let at = dice.below(shard_bytes);
    for (row, parity) in parity.iter().enumerate() {
        let sum = (0..k).fold(0, |sum, column| {
            sum ^ gf::mul_by_definition(code.generator().get(k + row, column), data[column][at])
        });
        if parity[at] != sum {
            return Err(format!("{spec}: byte {at} of parity {row} is not the product of its row"));
        }
    }
    let pattern = draw(k + m, 1 + dice.below(m), dice);
    Ours::Code(Box::new(code)).decodes(&shards, &pattern)
}

/// Runs the cases; a seed makes a case again.
fn run(
    name: &str,
    arguments: &Arguments,
    mut case: impl FnMut(&mut Dice) -> Result<bool, String>,
) -> Result<(), String> {
    let (mut compared, mut seed) = (0, arguments.seed);
    while compared < arguments.cases {
        compared += u64::from(case(&mut Dice(seed)).map_err(|error| format!("{name}, --seed {seed}: {error}"))?);
        seed += 1;
    }
    println!("{name}: {compared} cases alike, {} not had by both", seed - arguments.seed - compared);
    Ok(())
}

fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    for library in compared() {
        let Some(spec) = library.same_bytes else { continue };
        run(library.name, &arguments, |dice| beside(&library, spec, dice))?;
    }
    for matrix in ["lch", "jerasure"] {
        run(&format!("@{matrix} by the schoolbook"), &arguments, |dice| {
            by_the_schoolbook(matrix, dice).map(|()| true)
        })?;
    }
    Ok(())
}
