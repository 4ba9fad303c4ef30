//! Writes the golden fragments of `testdata/fragment-v1`, byte by byte from `docs/format/fragment.md` and without the format
//! code of the library. They are kept for ever: `cargo run -p ec-core --example make_golden DIR` writes to another place, to
//! compare.
#![allow(clippy::cast_possible_truncation)]

use ec_core::gf;
use std::path::PathBuf;

/// One stream in one code.
struct Golden {
    folder: &'static str,
    name: &'static str,
    stream: u128,
    content: u16,
    /// Family, matrix, k, n, local groups, global parities.
    code: [u8; 6],
    /// Rows of P.
    parity: Vec<Vec<u8>>,
    /// Id and length of each extent.
    extents: Vec<(u128, usize)>,
}

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/fragment-v1"), PathBuf::from);
    for (path, bytes) in files() {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

/// Every golden fragment: its path below the folder, and its bytes.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let power2 = |exponent: usize| (0..exponent).fold(1, |power, _| gf::mul(power, 2));
    // Groups {0,1,2} and {3,4,5}; coefficient 2^(g+17*i) for member i of group g.
    let spread: Vec<u8> = (0..6).map(|data| power2(data / 3 + 17 * (data % 3))).collect();
    let sets = [
        Golden {
            folder: "replicate-3",
            name: "three copies",
            stream: 0xf00d,
            content: 1,
            code: [1, 0, 1, 3, 0, 0],
            parity: vec![vec![1], vec![1]],
            extents: vec![(0x1111_2222_3333_4444_5555, 5_000)],
        },
        Golden {
            folder: "rs-4-2-power",
            name: "två delar",
            stream: 0xbeef,
            content: 1,
            code: [2, 3, 4, 6, 0, 0],
            parity: vec![vec![1, 1, 1, 1], vec![1, 2, 4, 8]],
            extents: vec![(0xffff_0000_ffff_0000_0001, 40_000), (0x0123_4567_89ab_cdef_0002, 10_007)],
        },
        Golden {
            folder: "lrc-6-2-2",
            name: "",
            stream: u128::MAX,
            content: 2,
            code: [3, 1, 6, 10, 2, 2],
            parity: vec![
                vec![1, 1, 1, 0, 0, 0],
                vec![0, 0, 0, 1, 1, 1],
                spread.clone(),
                spread.iter().map(|&a| gf::mul(a, a)).collect(),
            ],
            extents: vec![(0xaaaa_bbbb_cccc_dddd_eeee, 20_000)],
        },
    ];
    sets.iter().flat_map(Golden::files).collect()
}

impl Golden {
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        (0..self.extents.len()).flat_map(|ordinal| self.extent_files(ordinal)).collect()
    }

    fn offset(&self, ordinal: usize) -> usize {
        self.extents[..ordinal].iter().map(|(_, bytes)| bytes).sum()
    }

    fn extent_files(&self, ordinal: usize) -> Vec<(String, Vec<u8>)> {
        let (id, extent_bytes) = self.extents[ordinal];
        let data: Vec<u8> = (0..extent_bytes).map(|at| ((self.offset(ordinal) + at) % 251) as u8).collect();
        let shards = self.shards(&data);
        let identities: Vec<Vec<u8>> =
            (0..shards.len()).map(|index| identity(id, index, shards[index].len())).collect();
        let root = |index: usize| {
            *blake3::hash(&[&identities[index][..], blake3::hash(&shards[index]).as_bytes()].concat()).as_bytes()
        };
        let named: Vec<Vec<u8>> =
            (0..shards.len()).map(|index| [&identities[index][..], &root(index)].concat()).collect();
        let record = self.record(ordinal, &data, &named.concat());
        let name = |index: usize| format!("{}/{id:032x}.1.{index:05}.frag", self.folder);
        let file = |index: usize| self.file(extent_bytes, &identities[index], &shards[index], &record, &root(index));
        (0..shards.len()).map(|index| (name(index), file(index))).collect()
    }

    fn shards(&self, data: &[u8]) -> Vec<Vec<u8>> {
        let k = usize::from(self.code[2]);
        let shard_bytes = data.len().div_ceil(k).div_ceil(4096) * 4096;
        let mut padded = data.to_vec();
        padded.resize(k * shard_bytes, 0);
        let mut shards: Vec<Vec<u8>> = padded.chunks(shard_bytes).map(<[u8]>::to_vec).collect();
        for row in &self.parity {
            let byte = |at: usize| (0..k).fold(0, |sum, j| sum ^ gf::mul(row[j], shards[j][at]));
            shards.push((0..shard_bytes).map(byte).collect());
        }
        shards
    }

    fn descriptor(&self) -> [u8; 16] {
        let [family, matrix, k, n, groups, globals] = self.code;
        [family, 1, matrix, 0, k, 0, n, 0, groups, 0, globals, 0, 0, 0, 0, 0]
    }

    fn record(&self, ordinal: usize, data: &[u8], fragments: &[u8]) -> Vec<u8> {
        let stream_bytes = self.offset(self.extents.len());
        let mut record = b"NFXR\x01\0\0\0".to_vec();
        record.extend([0; 16]);
        record.extend(self.extents[ordinal].0.to_be_bytes());
        record.extend(1u64.to_le_bytes());
        record.extend(self.descriptor());
        record.extend((data.len() as u64).to_le_bytes());
        record.extend(blake3::hash(data).as_bytes());
        record.extend(self.stream.to_be_bytes());
        for number in [ordinal, self.offset(ordinal), stream_bytes] {
            record.extend((number as u64).to_le_bytes());
        }
        for number in [u32::from(self.content), self.name.len() as u32, self.code[3].into(), 0] {
            record.extend(&number.to_le_bytes()[..2]);
        }
        record.extend((self.extents.len() as u32).to_le_bytes());
        record.extend([0; 4]);
        assert_eq!(record.len(), 160);
        record.extend(self.name.as_bytes());
        record.extend(fragments);
        for (other, (id, bytes)) in self.extents.iter().enumerate() {
            record.extend(id.to_be_bytes());
            record.extend((self.offset(other) as u64).to_le_bytes());
            record.extend((*bytes as u64).to_le_bytes());
        }
        record.extend(crc32fast::hash(&record).to_le_bytes());
        record
    }

    fn file(&self, extent_bytes: usize, identity: &[u8], shard: &[u8], record: &[u8], root: &[u8; 32]) -> Vec<u8> {
        let mut header = b"\x89NFF\r\n\x1a\n\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        header.extend(identity);
        header.extend(self.descriptor());
        header.extend((extent_bytes as u64).to_le_bytes());
        header.extend((record.len() as u32).to_le_bytes());
        header.resize(4092, 0);
        header.extend(crc32fast::hash(&header).to_le_bytes());

        let seed = u32::from_le_bytes(*blake3::hash(identity).as_bytes().first_chunk().expect("32 bytes"));
        let mut tail = Vec::new();
        for (block, bytes) in (0u32..).zip(shard.chunks(4096)) {
            let mut crc = crc32fast::Hasher::new_with_initial(seed ^ block);
            crc.update(bytes);
            tail.extend(crc.finalize().to_le_bytes());
        }
        tail.extend(record);
        tail.resize((tail.len() + 128).div_ceil(4096) * 4096 - 128, 0);

        let mut footer = b"NFFSEAL1".to_vec();
        footer.extend(blake3::hash(&header).as_bytes());
        footer.extend(blake3::hash(&tail).as_bytes());
        footer.extend(root);
        footer.extend((shard.len() as u64).to_le_bytes());
        footer.resize(124, 0);
        footer.extend(crc32fast::hash(&footer).to_le_bytes());
        [&header[..], shard, &tail, &footer].concat()
    }
}

/// A birth identity in cell 0 and generation 1.
fn identity(extent: u128, index: usize, payload_bytes: usize) -> Vec<u8> {
    let mut identity = vec![0; 16];
    identity.extend(extent.to_be_bytes());
    identity.extend(1u64.to_le_bytes());
    identity.extend((payload_bytes as u64).to_le_bytes());
    identity.extend((index as u16).to_le_bytes());
    identity.extend([12, 1, 1, 0, 0, 0]);
    identity
}
