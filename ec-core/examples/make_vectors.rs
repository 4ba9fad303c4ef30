//! Writes `testdata/vector.txt`: what every vector code makes of the same small data. The file is kept for ever; a new code adds
//! lines and changes none.
//!
//!     cargo run -p ec-core --features clay --example make_vectors > ec-core/testdata/vector.txt
#![allow(clippy::cast_possible_truncation)]

use ec_core::VectorCode;

/// Every family with small and usual numbers.
pub const SPECS: &[&str] = &[
    "hitchhiker:4+2",
    "hitchhiker:6+3",
    "hitchhiker:10+4",
    "hitchhiker:12+4",
    "hitchhiker:2+4",
    "lrc:6,2,3@gf16",
    "lrc:7,3,2@gf16",
    "lrc:12,2,3@gf16",
    "lrc:12,2,4@gf16",
    "lrc:12,3,3@gf16",
    "lrc:16,2,3@gf16",
    "clay:4+2",
    "clay:3+2",
    "clay:6+3",
    "clay:10+4",
];

/// Sub-chunks of some bytes for the codes of few, of one byte for those of many.
const SHARD_BYTES_MIN: usize = 16;

/// The spec and all shards in hexadecimal.
pub fn line(spec: &str) -> Result<String, Box<dyn std::error::Error>> {
    let code = VectorCode::new(&spec.parse()?)?;
    let len = code.alpha().max(SHARD_BYTES_MIN).next_multiple_of(code.alpha());
    let mut shards: Vec<Vec<u8>> =
        (0..code.n()).map(|i| (0..len).map(|j| ((i * 31 + j * 7 + 1) % 256) as u8).collect()).collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>())?;
    let hex = |shard: &Vec<u8>| shard.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(std::iter::once(spec.to_owned()).chain(shards.iter().map(hex)).collect::<Vec<_>>().join(" "))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "# CODE, then its shards in hexadecimal: data byte j of shard i is (31 i + 7 j + 1) mod 256, then the parities."
    );
    println!("# Made by examples/make_vectors.rs, derived again by vector.py.");
    for spec in SPECS {
        println!("{}", line(spec)?);
    }
    Ok(())
}
