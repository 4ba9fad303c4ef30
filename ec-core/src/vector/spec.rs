//! Vector codes by name.

use crate::error::CodeError;
use crate::shard::SHARDS_MAX;
use std::fmt;
use std::str::FromStr;

/// Most sub-chunks of a shard.
pub const SUB_CHUNKS_MAX: usize = 1 << 14;

/// Most sub-chunks of all nodes of a Clay code. A rebuild has 64 bytes or more of each in memory: 32 MiB.
const CLAY_SUB_CHUNKS_MAX: usize = 1 << 19;

/// Local groups of an LRC over GF(2^16): the field has 15 classes, and the globals take one.
const GF16_GROUPS_MAX: usize = 14;
/// Data fragments of one local group: the elements of GF(16) but 0.
const GF16_GROUP_DATA_MAX: usize = 15;
/// Global parities: the degree of GF(2^16) over GF(16).
const GF16_GLOBALS_MAX: usize = 4;

/// Which vector code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VectorShape {
    /// Hitchhiker-XOR: two halves, any `m` losses, cheap rebuild of a data fragment.
    Hitchhiker {
        /// Data fragments.
        k: u16,
        /// Parity fragments.
        m: u16,
    },
    /// Clay with all `n - 1` others helping: any `m` losses, the least possible reads for one.
    Clay {
        /// Data fragments.
        k: u16,
        /// Parity fragments.
        m: u16,
    },
    /// LRC over GF(2^16), maximally recoverable.
    Lrc {
        /// Data fragments.
        k: u16,
        /// Local groups, each with one parity.
        groups: u16,
        /// Global parities.
        globals: u16,
    },
}

/// `hitchhiker:K+M`, `clay:K+M` or `lrc:K,L,R@gf16`, checked: a code of these numbers exists.
///
/// ```
/// use ec_core::VectorSpec;
///
/// let spec: VectorSpec = "clay:10+4".parse()?;
/// assert_eq!((spec.n(), spec.alpha(), spec.to_string()), (14, 256, "clay:10+4".to_owned()));
/// # Ok::<(), ec_core::CodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VectorSpec {
    shape: VectorShape,
}

impl VectorSpec {
    /// The code of this shape. Limits: at least one data fragment; `hitchhiker` and `clay` two parities or more, with `k + m <= 256`;
    /// `clay` at most [`SUB_CHUNKS_MAX`] sub-chunks, 2^19 in all nodes together, and its scalar code, with the zero nodes, at most 256 shards; `lrc` at most 14
    /// groups of at most 15 data fragments, at most `k` groups and 1 to 4 globals.
    ///
    /// # Errors
    /// [`CodeError::Params`] with the limit that is broken.
    pub fn new(shape: VectorShape) -> Result<Self, CodeError> {
        let spec = Self { shape };
        let checked = match shape {
            VectorShape::Hitchhiker { k, m } => check_mds(k, m),
            VectorShape::Clay { k, m } => check_mds(k, m).and_then(|()| check_clay(k, m)),
            VectorShape::Lrc { k, groups, globals } => check_lrc(k.into(), groups.into(), globals.into()),
        };
        match checked {
            Ok(()) => Ok(spec),
            Err(reason) => Err(CodeError::Params { spec: spec.to_string(), reason }),
        }
    }

    /// Which code, with its numbers.
    pub fn shape(&self) -> VectorShape {
        self.shape
    }

    /// Data fragments.
    pub fn k(&self) -> usize {
        match self.shape {
            VectorShape::Hitchhiker { k, .. } | VectorShape::Clay { k, .. } | VectorShape::Lrc { k, .. } => k.into(),
        }
    }

    /// Parity fragments.
    pub fn m(&self) -> usize {
        match self.shape {
            VectorShape::Hitchhiker { m, .. } | VectorShape::Clay { m, .. } => m.into(),
            VectorShape::Lrc { groups, globals, .. } => usize::from(groups) + usize::from(globals),
        }
    }

    /// Fragments in all.
    pub fn n(&self) -> usize {
        self.k() + self.m()
    }

    /// Sub-chunks of a shard, and what shard lengths must be a multiple of.
    pub fn alpha(&self) -> usize {
        match self.shape {
            VectorShape::Hitchhiker { .. } | VectorShape::Lrc { .. } => 2,
            // Checked by `new`.
            VectorShape::Clay { k, m } => clay_alpha(k.into(), m.into()).unwrap_or(SUB_CHUNKS_MAX),
        }
    }
}

fn check_mds(k: u16, m: u16) -> Result<(), String> {
    let n = usize::from(k) + usize::from(m);
    match (k, m) {
        (0, _) => Err("there must be at least one data fragment".into()),
        (_, 0) => Err("there must be parity fragments".into()),
        // With one parity nothing can ride on a second one, and a rebuild reads everything whatever the layout.
        (_, 1) => Err("one parity fragment gains nothing by sub-chunks; use rs:K+1".into()),
        _ if n > SHARDS_MAX => Err(format!("{n} fragments, but GF(2^8) allows at most {SHARDS_MAX}")),
        _ => Ok(()),
    }
}

/// Rows of `m` nodes in the grid of a Clay code with `k + m` real ones.
fn clay_rows(k: usize, m: usize) -> usize {
    (k + m).div_ceil(m)
}

/// `m^t` where it is within the limit.
fn clay_alpha(k: usize, m: usize) -> Option<usize> {
    let rows = u32::try_from(clay_rows(k, m)).ok()?;
    m.checked_pow(rows).filter(|alpha| *alpha <= SUB_CHUNKS_MAX)
}

fn check_clay(k: u16, m: u16) -> Result<(), String> {
    let (k, m) = (usize::from(k), usize::from(m));
    let nodes = clay_rows(k, m) * m;
    if nodes > SHARDS_MAX {
        return Err(format!("{nodes} nodes with the zero ones, but GF(2^8) allows at most {SHARDS_MAX}"));
    }
    match clay_alpha(k, m) {
        Some(alpha) if alpha * nodes > CLAY_SUB_CHUNKS_MAX => Err(format!(
            "{nodes} nodes of {alpha} sub-chunks, but at most {CLAY_SUB_CHUNKS_MAX} sub-chunks in all are allowed"
        )),
        Some(_) => Ok(()),
        None => Err(format!("{m}^{} sub-chunks, but at most {SUB_CHUNKS_MAX} are allowed", clay_rows(k, m))),
    }
}

fn check_lrc(k: usize, groups: usize, globals: usize) -> Result<(), String> {
    if k == 0 {
        return Err("there must be at least one data fragment".into());
    }
    if groups == 0 {
        return Err("there must be at least one local group".into());
    }
    if groups > k {
        return Err(format!("{groups} local groups, but only {k} data fragments"));
    }
    if groups > GF16_GROUPS_MAX {
        return Err(format!("{groups} local groups, but GF(2^16) allows at most {GF16_GROUPS_MAX}"));
    }
    if k.div_ceil(groups) > GF16_GROUP_DATA_MAX {
        let largest = k.div_ceil(groups);
        return Err(format!(
            "a local group of {largest} data fragments, but at most {GF16_GROUP_DATA_MAX} are allowed"
        ));
    }
    if !(1..=GF16_GLOBALS_MAX).contains(&globals) {
        return Err(format!("{globals} global parities, but there must be 1 to {GF16_GLOBALS_MAX}"));
    }
    Ok(())
}

impl fmt::Display for VectorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            VectorShape::Hitchhiker { k, m } => write!(f, "hitchhiker:{k}+{m}"),
            VectorShape::Clay { k, m } => write!(f, "clay:{k}+{m}"),
            VectorShape::Lrc { k, groups, globals } => write!(f, "lrc:{k},{groups},{globals}@gf16"),
        }
    }
}

impl FromStr for VectorSpec {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let shape =
            parse(text).map_err(|reason| CodeError::Syntax { text: text.chars().take(64).collect(), reason })?;
        Self::new(shape)
    }
}

/// Errors are reasons.
fn parse(text: &str) -> Result<VectorShape, String> {
    const FORMS: &str = "a vector code is hitchhiker:K+M, clay:K+M or lrc:K,L,R@gf16";
    let (family, numbers) = text.split_once(':').ok_or(FORMS)?;
    match family {
        "hitchhiker" | "clay" => {
            let (k, m) = numbers.split_once('+').ok_or_else(|| format!("{family} needs K+M"))?;
            let (k, m) = (number(k)?, number(m)?);
            Ok(if family == "clay" { VectorShape::Clay { k, m } } else { VectorShape::Hitchhiker { k, m } })
        }
        "lrc" => {
            let numbers = numbers.strip_suffix("@gf16").ok_or("lrc as a vector code needs @gf16")?;
            let numbers = numbers.split(',').map(number).collect::<Result<Vec<_>, _>>()?;
            let [k, groups, globals] = numbers[..] else { return Err("lrc needs K,L,R".into()) };
            Ok(VectorShape::Lrc { k, groups, globals })
        }
        _ => Err(FORMS.into()),
    }
}

fn number(text: &str) -> Result<u16, String> {
    // `parse` alone would take "+4".
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("\"{}\" is not a number", text.chars().take(32).collect::<String>()));
    }
    // Larger numbers are over every limit; the limit's own message names it.
    Ok(text.parse().unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_the_same() {
        for text in [
            "hitchhiker:10+4",
            "hitchhiker:1+2",
            "hitchhiker:252+4",
            "clay:4+2",
            "clay:24+4",
            "clay:26+2",
            "lrc:12,2,4@gf16",
            "lrc:210,14,4@gf16",
            "lrc:1,1,1@gf16",
        ] {
            assert_eq!(text.parse::<VectorSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn sub_chunks_are_those_of_the_paper() {
        for (text, alpha) in [
            ("clay:4+2", 8),
            ("clay:6+3", 27),
            ("clay:9+3", 81),
            ("clay:8+4", 64),
            ("clay:10+4", 256),
            ("clay:16+4", 1024),
            ("clay:20+4", 4096),
            ("hitchhiker:10+4", 2),
            ("lrc:12,2,3@gf16", 2),
        ] {
            assert_eq!(text.parse::<VectorSpec>().unwrap().alpha(), alpha, "{text}");
        }
    }

    #[test]
    fn bad_text_is_refused() {
        for text in [
            "",
            "hitchhiker",
            "hitchhiker:",
            "hitchhiker:4",
            "hitchhiker:+4+2",
            "hitchhiker:4+2@lch",
            "clay:4,2",
            "clay:-1+2",
            "clay:4+2+5",
            "lrc:12,2,3",
            "lrc:12,2@gf16",
            "lrc:12,2,3,4@gf16",
            "lrc:12,2,x@gf16",
            "rs:4+2",
            "wide:4+2",
        ] {
            assert!(matches!(text.parse::<VectorSpec>(), Err(CodeError::Syntax { .. })), "{text}");
        }
    }

    #[test]
    fn each_limit_has_its_reason() {
        for (text, reason) in [
            ("hitchhiker:0+2", "at least one data"),
            ("hitchhiker:4+0", "there must be parity"),
            ("hitchhiker:4+1", "one parity fragment"),
            ("hitchhiker:253+4", "257 fragments"),
            ("hitchhiker:99999999999999999999+4", "65539 fragments"),
            ("clay:28+2", "2^15 sub-chunks"),
            ("clay:200+56", "280 nodes"),
            ("clay:128+128", "256 nodes of 16384"),
            ("clay:4+1", "one parity fragment"),
            ("lrc:0,1,2@gf16", "at least one data"),
            ("lrc:4,0,2@gf16", "at least one local group"),
            ("lrc:4,5,2@gf16", "only 4 data"),
            ("lrc:30,15,2@gf16", "15 local groups"),
            ("lrc:31,2,2@gf16", "group of 16"),
            ("lrc:12,2,0@gf16", "0 global"),
            ("lrc:12,2,5@gf16", "5 global"),
        ] {
            match text.parse::<VectorSpec>() {
                Err(CodeError::Params { reason: found, .. }) => assert!(found.contains(reason), "{text}: {found}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
