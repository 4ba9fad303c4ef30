//! Code specifications: the text users write, and the 16 bytes fragments carry.

use crate::error::CodeError;
use crate::shard::SHARDS_MAX;
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
}

impl RsMatrix {
    /// Every matrix with its name in a specification.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Lch, "lch"), (Self::Cauchy, "cauchy"), (Self::Power, "power"), (Self::Vandermonde, "vandermonde")];

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
    /// Azure-style locally repairable code with two global parities (Huang et al., ATC 2012), spread coefficients.
    Lrc {
        /// Data shards.
        k: u16,
        /// Local groups, each with one XOR parity.
        groups: u16,
        /// Global parities; 2.
        globals: u16,
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
            Shape::Rs { k, .. } | Shape::Lrc { k, .. } => k.into(),
        }
    }

    /// Shards in all.
    pub fn n(&self) -> usize {
        match self.shape {
            Shape::Replicate { n } => n.into(),
            Shape::Rs { k, m, .. } => usize::from(k) + usize::from(m),
            Shape::Lrc { k, groups, globals } => usize::from(k) + usize::from(groups) + usize::from(globals),
        }
    }

    fn limit_broken(&self) -> Option<String> {
        let n = self.n();
        match self.shape {
            Shape::Replicate { n: 0 } => return Some("there must be at least one copy".into()),
            Shape::Rs { k: 0, .. } | Shape::Lrc { k: 0, .. } => {
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
            _ => None,
        }
    }

    /// The 16 bytes of `docs/format/fragment.md` section 5.
    pub fn to_descriptor(&self) -> [u8; DESCRIPTOR_BYTES] {
        let (family, matrix, groups, globals) = match self.shape {
            Shape::Replicate { .. } => (1, 0, 0, 0),
            Shape::Rs { matrix, .. } => (2, rs_matrix_number(matrix), 0, 0),
            Shape::Lrc { groups, globals, .. } => (3, 1, groups, globals),
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
            (3, 1) if groups.checked_add(globals) == Some(parities) => Shape::Lrc { k, groups, globals },
            _ => {
                return Err(bad(format!(
                    "family {family}, matrix {matrix}, k = {k}, n = {n}, groups {groups}, globals {globals}"
                )));
            }
        };
        if !matches!(shape, Shape::Lrc { .. }) && (groups, globals) != (0, 0) {
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
    }
}

fn lch_fits(k: u16, m: u16) -> bool {
    usize::from(k) + usize::from(m).next_power_of_two() <= SHARDS_MAX
}

fn lrc_limit_broken(k: u16, groups: u16, globals: u16) -> Option<String> {
    if globals != 2 {
        return Some(format!(
            "{globals} global parities; only 2 are supported, where the coefficients are proven maximally recoverable"
        ));
    }
    if groups == 0 || groups > k {
        return Some(format!("{groups} local groups for {k} data fragments; there must be 1 to {k}"));
    }
    if groups > LRC_GROUPS_MAX || k.div_ceil(groups) > LRC_GROUP_MEMBERS_MAX {
        return Some(format!(
            "{groups} groups of up to {} members; GF(2^8) allows {LRC_GROUPS_MAX} groups of {LRC_GROUP_MEMBERS_MAX}",
            k.div_ceil(groups)
        ));
    }
    None
}

impl fmt::Display for CodeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::Replicate { n } => write!(f, "replicate:{n}"),
            Shape::Rs { k, m, matrix: RsMatrix::Lch } => write!(f, "rs:{k}+{m}"),
            Shape::Rs { k, m, matrix } => write!(f, "rs:{k}+{m}@{}", matrix.name()),
            Shape::Lrc { k, groups, globals } => write!(f, "lrc:{k},{groups},{globals}"),
        }
    }
}

impl FromStr for CodeSpec {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let syntax = |reason: String| CodeError::Syntax { text: text.chars().take(64).collect(), reason };
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
            "lrc" => {
                let parts: Vec<&str> = numbers.split(',').collect();
                let [k, groups, globals] = parts[..] else { return Err(syntax("lrc needs K,L,2".into())) };
                let (k, groups) = (number(k).map_err(syntax)?, number(groups).map_err(syntax)?);
                Self::new(Shape::Lrc { k, groups, globals: number(globals).map_err(syntax)? })
            }
            "wide" => Err(match text.parse::<WideSpec>() {
                Ok(spec) => CodeError::LibraryOnly { spec: spec.to_string() },
                Err(error) => error,
            }),
            _ => Err(syntax(format!("unknown family \"{}\"", cut(family)))),
        }
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
        for text in
            ["", "rs", "rs:", "rs:4", "rs:4+", "rs:+4+2", "rs:4+2+1", "rs:4+2@", "rs:4+2@foo", "rs: 4+2", "RS:4+2"]
        {
            let error = text.parse::<CodeSpec>().unwrap_err();
            assert!(matches!(error, CodeError::Syntax { .. }), "{text}: {error}");
            assert!(error.to_string().contains("accepted are replicate:N, rs:K+M"), "{error}");
        }
        for text in ["raid:6", "lrc:12,2", "lrc:12,2,2,2", "lrc:a,2,2", "replicate:-1", "replicate:٣", "\u{0}:\u{0}"] {
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
            "lrc:12,2,1",
            "lrc:12,2,3",
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
        for (at, value) in
            [(0, 0), (0, 4), (1, 2), (2, 2), (3, 1), (4, 0), (5, 1), (6, 15), (7, 2), (8, 3), (10, 3), (12, 1), (15, 1)]
        {
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
