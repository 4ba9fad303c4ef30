//! Code specifications: the text users write, and the 16 bytes fragments carry.

use super::equations::{XORBAS_DATA, XORBAS_PARITIES};
use super::lrc::table_members;
use crate::error::CodeError;
use crate::shard::SHARDS_MAX;
use crate::vector::VectorSpec;
use crate::wide::WideSpec;
use std::fmt;
use std::str::FromStr;

/// Bytes of a code descriptor in headers and records.
pub const DESCRIPTOR_BYTES: usize = 16;

/// Local groups a spread LRC can have: the cosets of GF(16)* in GF(256)*.
pub const LRC_GROUPS_MAX: u16 = 17;
/// Members a local group of a spread LRC can have: the order of GF(16)*.
pub const LRC_GROUP_MEMBERS_MAX: u16 = 15;

/// How the parity rows of a Reed-Solomon code are made (`reference` in `docs/format/fragment.md`, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RsMatrix {
    /// The native matrix: column-scaled Cauchy on the points of an additive FFT (Lin, Chung, Han 2014). Always MDS.
    Lch,
    /// `1 / ((k+i) xor j)`: ISA-L `gf_gen_cauchy1_matrix`, HDFS, klauspost `WithCauchyMatrix`. Always MDS.
    Cauchy,
    /// `2^(i*j)`: ISA-L `gf_gen_rs_matrix`, RAID-6 P and Q. MDS only for small shapes; others are refused.
    Power,
    /// Systematic Vandermonde: Backblaze, klauspost's default, MinIO, SeaweedFS. Always MDS.
    Vandermonde,
    /// jerasure's `reed_sol_van`, klauspost `WithJerasureMatrix`: extended Vandermonde, first parity the XOR. Always MDS.
    Jerasure,
}

impl RsMatrix {
    /// Every matrix with its name in a specification.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Lch, "lch"),
        (Self::Cauchy, "cauchy"),
        (Self::Power, "power"),
        (Self::Vandermonde, "vandermonde"),
        (Self::Jerasure, "jerasure"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(matrix, _)| *matrix == self).map_or("lch", |(_, name)| name)
    }
}

/// A code by name, checked: its numbers are within what its family allows. Whether its matrix is MDS is checked where the
/// code is built, by [`Code::new`](crate::Code::new).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeSpec {
    shape: Shape,
}

/// The family and numbers of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shape {
    /// `n` copies.
    Replicate {
        /// Copies in all.
        n: u16,
    },
    /// Reed-Solomon.
    Rs {
        /// Data shards.
        k: u16,
        /// Parity shards.
        m: u16,
        /// Construction of the parity rows.
        matrix: RsMatrix,
    },
    /// Azure-style locally repairable code (Huang et al., ATC 2012), maximally recoverable.
    Lrc {
        /// Data shards.
        k: u16,
        /// Local groups, each with one XOR parity.
        groups: u16,
        /// Global parities; 1 or 2, or 3 or 4 where coefficients are known.
        globals: u16,
    },
    /// As [`Shape::Lrc`], with the global parities members of the groups: every shard has a group.
    LrcUniform {
        /// Data shards.
        k: u16,
        /// Local groups, each with one XOR parity.
        groups: u16,
        /// Global parities; 1 or 2.
        globals: u16,
    },
    /// LRC (10, 6, 5) of Xorbas (Sathiamoorthy et al., VLDB 2013): every shard is rebuilt from 5.
    Xorbas,
    /// Parity rows from elsewhere, by [`Code::from_parity_rows`](crate::Code::from_parity_rows) alone.
    Matrix {
        /// Data shards.
        k: u16,
        /// Parity shards.
        m: u16,
        /// Tells one matrix from another of the shape; not a proof of anything.
        digest: u32,
    },
}

impl CodeSpec {
    /// Checks a shape.
    ///
    /// # Errors
    /// [`CodeError::Params`] with the limit that is broken.
    pub fn new(shape: Shape) -> Result<Self, CodeError> {
        let spec = Self { shape };
        match spec.limit_broken() {
            Some(reason) => Err(CodeError::Params { spec: spec.to_string(), reason }),
            None => Ok(spec),
        }
    }

    /// `rs:k+m` with the default matrix: `lch`, or `cauchy` where the points of `lch` do not fit.
    ///
    /// # Errors
    /// As [`CodeSpec::new`].
    pub fn rs(k: u16, m: u16) -> Result<Self, CodeError> {
        let matrix = if lch_fits(k, m) { RsMatrix::Lch } else { RsMatrix::Cauchy };
        Self::new(Shape::Rs { k, m, matrix })
    }

    /// The family and numbers.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Data shards.
    pub fn k(&self) -> usize {
        match self.shape {
            Shape::Replicate { .. } => 1,
            Shape::Rs { k, .. } | Shape::Lrc { k, .. } | Shape::LrcUniform { k, .. } | Shape::Matrix { k, .. } => {
                k.into()
            }
            Shape::Xorbas => XORBAS_DATA,
        }
    }

    /// Shards in all.
    pub fn n(&self) -> usize {
        match self.shape {
            Shape::Replicate { n } => n.into(),
            Shape::Rs { k, m, .. } | Shape::Matrix { k, m, .. } => usize::from(k) + usize::from(m),
            Shape::Lrc { k, groups, globals } | Shape::LrcUniform { k, groups, globals } => {
                usize::from(k) + usize::from(groups) + usize::from(globals)
            }
            Shape::Xorbas => XORBAS_DATA + XORBAS_PARITIES,
        }
    }

    /// Whether its coefficients come from a table rather than a theorem.
    pub(super) fn has_table(&self) -> bool {
        matches!(self.shape, Shape::Lrc { globals: 3.., .. })
    }

    fn limit_broken(&self) -> Option<String> {
        let n = self.n();
        match self.shape {
            Shape::Replicate { n: 0 } => return Some("there must be at least one copy".into()),
            Shape::Rs { k: 0, .. } | Shape::Lrc { k: 0, .. } | Shape::LrcUniform { k: 0, .. } => {
                return Some("there must be at least one data fragment".into());
            }
            Shape::Rs { m: 0, .. } => return Some("there must be at least one parity fragment".into()),
            _ => {}
        }
        if n > SHARDS_MAX {
            return Some(format!("{n} fragments, but GF(2^8) allows at most {SHARDS_MAX}"));
        }
        match self.shape {
            Shape::Rs { k, m, matrix: RsMatrix::Lch } if !lch_fits(k, m) => Some(format!(
                "the lch matrix needs k + M <= 256 with M the power of two from m on, here {k} + {}; use @cauchy",
                usize::from(m).next_power_of_two()
            )),
            Shape::Lrc { k, groups, globals } => lrc_limit_broken(k, groups, globals),
            Shape::LrcUniform { k, groups, globals } => uniform_limit_broken(k, groups, globals),
            Shape::Matrix { .. } => Some("a matrix comes with its rows, not by name".into()),
            Shape::Replicate { .. } | Shape::Rs { .. } | Shape::Xorbas => None,
        }
    }

    /// Of parity rows from elsewhere, which nobody checks by name.
    pub(super) fn of_matrix(k: u16, m: u16, digest: u32) -> Self {
        Self { shape: Shape::Matrix { k, m, digest } }
    }

    /// The 16 bytes of `docs/format/fragment.md` section 5. Of a [`Shape::Matrix`] they are ones that every reader refuses.
    pub fn to_descriptor(&self) -> [u8; DESCRIPTOR_BYTES] {
        let (family, matrix, groups, globals) = match self.shape {
            Shape::Replicate { .. } => (1, 0, 0, 0),
            Shape::Rs { matrix, .. } => (2, rs_matrix_number(matrix), 0, 0),
            Shape::Lrc { groups, globals, .. } => (3, lrc_matrix_number(globals), groups, globals),
            Shape::LrcUniform { groups, globals, .. } => (4, 1, groups, globals),
            Shape::Xorbas => (5, 1, 0, 0),
            Shape::Matrix { .. } => (u8::MAX, 0, 0, 0),
        };
        let mut bytes = [0; DESCRIPTOR_BYTES];
        bytes[..4].copy_from_slice(&[family, 1, matrix, 0]);
        for (at, value) in [(4, self.k()), (6, self.n()), (8, groups.into()), (10, globals.into())] {
            // At most 256, checked by `new`.
            bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        }
        bytes
    }

    /// Reads a descriptor. Unknown values are refused, never defaulted.
    ///
    /// # Errors
    /// [`CodeError::Params`] naming the field that is wrong.
    pub fn from_descriptor(bytes: &[u8; DESCRIPTOR_BYTES]) -> Result<Self, CodeError> {
        let bad = |reason: String| CodeError::Params { spec: "code descriptor".into(), reason };
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let (family, field, matrix, zero) = (bytes[0], bytes[1], bytes[2], bytes[3]);
        let (k, n, groups, globals) = (word(4), word(6), word(8), word(10));
        if field != 1 {
            return Err(bad(format!("unknown field {field}")));
        }
        if zero != 0 || bytes[12..] != [0; 4] {
            return Err(bad("reserved bytes are not zero".into()));
        }
        let Some(parities) = n.checked_sub(k).filter(|_| usize::from(n) <= SHARDS_MAX) else {
            return Err(bad(format!("k = {k}, n = {n}")));
        };
        let shape = match (family, matrix) {
            (1, 0) if k == 1 => Shape::Replicate { n },
            (2, _) => match RsMatrix::ALL.iter().find(|(known, _)| rs_matrix_number(*known) == matrix) {
                Some((matrix, _)) => Shape::Rs { k, m: parities, matrix: *matrix },
                None => return Err(bad(format!("unknown rs matrix {matrix}"))),
            },
            (3, _) if groups.checked_add(globals) == Some(parities) && matrix == lrc_matrix_number(globals) => {
                Shape::Lrc { k, groups, globals }
            }
            (4, 1) if groups.checked_add(globals) == Some(parities) => Shape::LrcUniform { k, groups, globals },
            (5, 1) if (usize::from(k), usize::from(parities)) == (XORBAS_DATA, XORBAS_PARITIES) => Shape::Xorbas,
            _ => {
                return Err(bad(format!(
                    "family {family}, matrix {matrix}, k = {k}, n = {n}, groups {groups}, globals {globals}"
                )));
            }
        };
        if !matches!(shape, Shape::Lrc { .. } | Shape::LrcUniform { .. }) && (groups, globals) != (0, 0) {
            return Err(bad(format!("groups {groups}, globals {globals} in a code without them")));
        }
        Self::new(shape)
    }
}

fn rs_matrix_number(matrix: RsMatrix) -> u8 {
    match matrix {
        RsMatrix::Lch => 1,
        RsMatrix::Cauchy => 2,
        RsMatrix::Power => 3,
        RsMatrix::Vandermonde => 4,
        RsMatrix::Jerasure => 5,
    }
}

/// 1: spread; 2: tables.
fn lrc_matrix_number(globals: u16) -> u8 {
    if globals <= 2 { 1 } else { 2 }
}

fn lch_fits(k: u16, m: u16) -> bool {
    usize::from(k) + usize::from(m).next_power_of_two() <= SHARDS_MAX
}

fn lrc_limit_broken(k: u16, groups: u16, globals: u16) -> Option<String> {
    if let Some(broken) = groups_broken(k, groups) {
        return Some(broken);
    }
    match globals {
        1 | 2 => members_broken(groups, k.div_ceil(groups)),
        3 | 4 => {
            let most = table_members(groups, globals);
            (usize::from(k) > most).then(|| {
                format!(
                    "{k} data fragments in {groups} local groups with {globals} global parities; maximally recoverable codes of this \
                     shape are known in GF(2^8) for at most {most}"
                )
            })
        }
        _ => Some(format!("{globals} global parities; maximally recoverable codes are known for 1 to 4")),
    }
}

fn uniform_limit_broken(k: u16, groups: u16, globals: u16) -> Option<String> {
    if !(1..=2).contains(&globals) {
        return Some(format!("{globals} global parities; with these in the groups, codes are known for 1 and 2"));
    }
    groups_broken(k, groups).or_else(|| members_broken(groups, (k + globals).div_ceil(groups)))
}

fn groups_broken(k: u16, groups: u16) -> Option<String> {
    (groups == 0 || groups > k).then(|| format!("{groups} local groups for {k} data fragments; there must be 1 to {k}"))
}

fn members_broken(groups: u16, members: u16) -> Option<String> {
    (groups > LRC_GROUPS_MAX || members > LRC_GROUP_MEMBERS_MAX).then(|| {
        format!(
            "{groups} groups of up to {members} members; GF(2^8) allows {LRC_GROUPS_MAX} groups of {LRC_GROUP_MEMBERS_MAX}"
        )
    })
}

impl fmt::Display for CodeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::Replicate { n } => write!(f, "replicate:{n}"),
            Shape::Rs { k, m, matrix: RsMatrix::Lch } => write!(f, "rs:{k}+{m}"),
            Shape::Rs { k, m, matrix } => write!(f, "rs:{k}+{m}@{}", matrix.name()),
            Shape::Lrc { k, groups, globals } => write!(f, "lrc:{k},{groups},{globals}"),
            Shape::LrcUniform { k, groups, globals } => write!(f, "lrc-uniform:{k},{groups},{globals}"),
            Shape::Xorbas => f.write_str("xorbas"),
            Shape::Matrix { k, m, digest } => write!(f, "matrix:{k}+{m}#{digest:08x}"),
        }
    }
}

impl FromStr for CodeSpec {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let syntax = |reason: String| CodeError::Syntax { text: text.chars().take(64).collect(), reason };
        if text == "xorbas" {
            return Self::new(Shape::Xorbas);
        }
        let (family, numbers) = text.split_once(':').ok_or_else(|| syntax("no \":\"".into()))?;
        match family {
            "replicate" => Self::new(Shape::Replicate { n: number(numbers).map_err(syntax)? }),
            "rs" => {
                let (shape, matrix) = match numbers.split_once('@') {
                    Some((shape, name)) => (shape, Some(name)),
                    None => (numbers, None),
                };
                let (k, m) = shape.split_once('+').ok_or_else(|| syntax("rs needs K+M".into()))?;
                let (k, m) = (number(k).map_err(syntax)?, number(m).map_err(syntax)?);
                let Some(name) = matrix else { return Self::rs(k, m) };
                let found = RsMatrix::ALL.iter().find(|(_, known)| *known == name);
                let (matrix, _) = found.ok_or_else(|| syntax(format!("unknown matrix \"{}\"", cut(name))))?;
                Self::new(Shape::Rs { k, m, matrix: *matrix })
            }
            "lrc" | "lrc-uniform" => {
                if numbers.ends_with("@gf16") {
                    return Err(of_the_library::<VectorSpec>(text));
                }
                let parts: Vec<&str> = numbers.split(',').collect();
                let [k, groups, globals] = parts[..] else { return Err(syntax(format!("{family} needs K,L,R"))) };
                let (k, groups) = (number(k).map_err(syntax)?, number(groups).map_err(syntax)?);
                let globals = number(globals).map_err(syntax)?;
                Self::new(match family {
                    "lrc" => Shape::Lrc { k, groups, globals },
                    _ => Shape::LrcUniform { k, groups, globals },
                })
            }
            "matrix" => Err(CodeError::MatrixByName { text: cut(text) }),
            "wide" => Err(of_the_library::<WideSpec>(text)),
            "hitchhiker" | "clay" => Err(of_the_library::<VectorSpec>(text)),
            _ => Err(syntax(format!("unknown family \"{}\"", cut(family)))),
        }
    }
}

/// A code that no fragment carries, or what is wrong with its text.
fn of_the_library<S: FromStr<Err = CodeError> + fmt::Display>(text: &str) -> CodeError {
    match text.parse::<S>() {
        Ok(spec) => CodeError::LibraryOnly { spec: spec.to_string() },
        Err(error) => error,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(32).collect()
}

fn number(text: &str) -> Result<u16, String> {
    // `parse` alone would take "+4".
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("\"{}\" is not a number", cut(text)));
    }
    // Larger numbers are over every limit; a limit's own message names it.
    Ok(text.parse().unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_descriptor_come_back_the_same() {
        for text in [
            "replicate:1",
            "replicate:3",
            "replicate:256",
            "rs:4+2",
            "rs:10+4",
            "rs:1+1",
            "rs:128+128",
            "rs:10+4@cauchy",
            "rs:255+1@cauchy",
            "rs:10+3@power",
            "rs:10+4@vandermonde",
            "lrc:6,2,2",
            "lrc:12,2,2",
            "lrc:11,3,2",
            "lrc:15,1,2",
            "lrc:12,2,1",
            "lrc:12,2,3",
            "lrc:12,3,3",
            "lrc:6,2,4",
            "lrc-uniform:12,2,2",
            "lrc-uniform:24,2,1",
            "xorbas",
            "rs:10+4@jerasure",
        ] {
            let spec: CodeSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
            assert_eq!(CodeSpec::from_descriptor(&spec.to_descriptor()), Ok(spec), "{text}");
        }
    }

    #[test]
    fn the_default_matrix_is_lch_and_cauchy_where_lch_has_no_room() {
        assert_eq!("rs:10+4@lch".parse::<CodeSpec>().unwrap().to_string(), "rs:10+4");
        assert_eq!("rs:200+50".parse::<CodeSpec>().unwrap().to_string(), "rs:200+50@cauchy");
        assert!(matches!("rs:200+50@lch".parse::<CodeSpec>(), Err(CodeError::Params { .. })));
    }

    #[test]
    fn bad_text_is_refused_with_what_is_accepted() {
        for text in [
            "",
            "rs",
            "xorbas:",
            "xorbas:10",
            "lrc-uniform:12",
            "rs:",
            "rs:4",
            "rs:4+",
            "rs:+4+2",
            "rs:4+2+1",
            "rs:4+2@",
            "rs:4+2@foo",
            "rs: 4+2",
            "RS:4+2",
        ] {
            let error = text.parse::<CodeSpec>().unwrap_err();
            assert!(matches!(error, CodeError::Syntax { .. }), "{text}: {error}");
            assert!(error.to_string().contains("accepted are replicate:N, rs:K+M"), "{error}");
        }
        for text in [
            "raid:6",
            "lrc-:4,2,2",
            "lrc:12,2",
            "lrc:12,2,2,2",
            "lrc:a,2,2",
            "replicate:-1",
            "replicate:٣",
            "\u{0}:\u{0}",
        ] {
            assert!(matches!(text.parse::<CodeSpec>(), Err(CodeError::Syntax { .. })), "{text}");
        }
        let long = "x".repeat(1 << 20);
        assert!(long.parse::<CodeSpec>().unwrap_err().to_string().len() < 500);
    }

    #[test]
    fn numbers_outside_the_limits_are_refused() {
        for text in [
            "replicate:0",
            "replicate:257",
            "replicate:99999999999999999999",
            "rs:0+1",
            "rs:1+0",
            "rs:256+1",
            "rs:65535+65535",
            "rs:129+127@cauchy2",
            "lrc:0,1,2",
            "lrc:4,0,2",
            "lrc:4,5,2",
            "lrc:12,2,0",
            "lrc:12,2,5",
            "lrc:16,2,3",
            "lrc:14,2,3",
            "lrc:12,7,3",
            "lrc:12,2,4",
            "lrc:2,65535,3",
            "lrc:65535,2,3",
            "lrc-uniform:12,2,3",
            "lrc-uniform:29,2,2",
            "lrc-uniform:65535,65535,2",
            "lrc-uniform:65535,1,65535",
            "matrix:4+2#00000000",
            "lrc:16,1,2",
            "lrc:18,18,2",
            "lrc:255,17,2",
        ] {
            assert!(text.parse::<CodeSpec>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn unknown_descriptor_values_are_refused() {
        let good = "lrc:12,2,2".parse::<CodeSpec>().unwrap().to_descriptor();
        for (at, value) in [
            (0, 0),
            (0, 5),
            (0, 6),
            (0, 255),
            (1, 2),
            (2, 2),
            (3, 1),
            (4, 0),
            (5, 1),
            (6, 15),
            (7, 2),
            (8, 3),
            (10, 3),
            (12, 1),
            (15, 1),
        ] {
            let mut bytes = good;
            bytes[at] = value;
            assert!(CodeSpec::from_descriptor(&bytes).is_err(), "byte {at} = {value}");
        }
        let mut copies = "replicate:3".parse::<CodeSpec>().unwrap().to_descriptor();
        copies[4] = 2;
        assert!(CodeSpec::from_descriptor(&copies).is_err());
        let mut rs = "rs:10+4".parse::<CodeSpec>().unwrap().to_descriptor();
        rs[8] = 1;
        assert!(CodeSpec::from_descriptor(&rs).is_err());
    }
}
