//! Writes `testdata/codes.txt`: what every shipped code makes of the same small data. The file is kept for ever; a new code adds
//! lines and changes none.
//!
//!     cargo run -p ec-core --example make_codes > ec-core/testdata/codes.txt

use ec_core::Code;

/// Bytes of each shard.
pub const SHARD_BYTES: usize = 16;

/// Every family with small and usual numbers; of later slots with the slot before the name.
pub const SPECS: [&str; 51] = [
    "replicate:1",
    "replicate:3",
    "rs:1+1",
    "rs:4+2",
    "rs:6+3",
    "rs:8+3",
    "rs:10+4",
    "rs:12+4",
    "rs:16+4",
    "rs:17+3",
    "rs:20+4",
    "rs:30+16",
    "rs:4+2@cauchy",
    "rs:6+3@cauchy",
    "rs:10+4@cauchy",
    "rs:17+3@cauchy",
    "rs:200+50@cauchy",
    "rs:4+2@power",
    "rs:10+2@power",
    "rs:10+4@power",
    "rs:17+3@power",
    "rs:4+2@vandermonde",
    "rs:6+3@vandermonde",
    "rs:10+4@vandermonde",
    "rs:17+3@vandermonde",
    "rs:4+2@jerasure",
    "rs:6+3@jerasure",
    "rs:7+7@jerasure",
    "rs:10+4@jerasure",
    "lrc:6,2,1",
    "lrc:6,2,2",
    "lrc:12,2,2",
    "lrc:14,2,2",
    "lrc:12,3,2",
    "lrc:16,4,2",
    "lrc:11,3,2",
    "lrc:6,2,3",
    "lrc:12,2,3",
    "lrc:12,3,3",
    "lrc:6,2,4",
    "lrc-uniform:12,2,1",
    "lrc-uniform:12,2,2",
    "lrc-uniform:11,3,2",
    "lrc-uniform:24,2,2",
    "xorbas",
    "lrc:12,2,1",
    "lrc:24,4,2",
    "rs:80+20",
    "slot1:rs:4+2",
    "slot1:rs:10+4",
    "slot3:rs:6+3",
];

/// Byte `at` of data shard `shard`: no two shards are alike, nor two bytes of most.
pub fn data_byte(shard: usize, at: usize) -> u8 {
    ((29 * shard * shard + 13 * at * at + 7 * shard * at + shard + 3 * at + 1) % 256) as u8
}

/// A line: the code, then its parities in hex.
pub fn line(spec: &str) -> Result<String, Box<dyn std::error::Error>> {
    let code = match spec.strip_prefix("slot").and_then(|rest| rest.split_once(':')) {
        Some((slot, name)) => Code::at_slot(&name.parse()?, slot.parse()?)?,
        None => Code::new(&spec.parse()?)?,
    };
    let data: Vec<Vec<u8>> =
        (0..code.k()).map(|shard| (0..SHARD_BYTES).map(|at| data_byte(shard, at)).collect()).collect();
    let mut parity = vec![vec![0; SHARD_BYTES]; code.m()];
    code.encode(
        &data.iter().map(Vec::as_slice).collect::<Vec<_>>(),
        &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(),
    )?;
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(std::iter::once(spec.to_string()).chain(parity.iter().map(hex)).collect::<Vec<_>>().join(" "))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for spec in SPECS {
        println!("{}", line(spec)?);
    }
    Ok(())
}
