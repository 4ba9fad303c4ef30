//! Wide codes by name.

use crate::error::CodeError;
use std::fmt;
use std::str::FromStr;

/// Most fragments of a wide code, and the elements of its field.
pub const WIDE_SHARDS_MAX: usize = 1 << 16;

/// `wide:k+m`, checked: the points of its field suffice.
///
/// ```
/// use ec_core::WideSpec;
///
/// let spec: WideSpec = "wide:1000+200".parse()?;
/// assert_eq!((spec.k(), spec.m(), spec.to_string()), (1000, 200, "wide:1000+200".to_owned()));
/// # Ok::<(), ec_core::CodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WideSpec {
    k: u32,
    m: u32,
}

impl WideSpec {
    /// `k` data and `m` parity fragments. The smaller of the two, rounded up to a power of two, and the larger together may be
    /// at most [`WIDE_SHARDS_MAX`].
    ///
    /// # Errors
    /// [`CodeError::Params`] with the limit that is broken.
    pub fn new(k: u32, m: u32) -> Result<Self, CodeError> {
        let spec = Self { k, m };
        let refused = |reason: String| CodeError::Params { spec: spec.to_string(), reason };
        if k == 0 {
            return Err(refused("there must be at least one data fragment".into()));
        }
        if m == 0 {
            return Err(refused("there must be at least one parity fragment".into()));
        }
        let (smaller, larger) = (u64::from(k.min(m)).next_power_of_two(), u64::from(k.max(m)));
        if smaller + larger > WIDE_SHARDS_MAX as u64 {
            return Err(refused(format!(
                "the smaller number, rounded up to a power of two, and the larger are {smaller} + {larger}, but GF(2^16) allows \
                 at most {WIDE_SHARDS_MAX}"
            )));
        }
        Ok(spec)
    }

    /// Data fragments.
    pub fn k(&self) -> usize {
        self.k as usize
    }

    /// Parity fragments.
    pub fn m(&self) -> usize {
        self.m as usize
    }

    /// Fragments in all.
    pub fn n(&self) -> usize {
        self.k() + self.m()
    }

    /// `k+m` of a `wide:k+m`; errors are reasons.
    fn numbers(text: &str) -> Result<(u32, u32), String> {
        let (k, m) = text.split_once('+').ok_or("wide needs K+M")?;
        let number = |text: &str| {
            // `parse` alone would take "+4".
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!("\"{}\" is not a number", text.chars().take(32).collect::<String>()));
            }
            // Larger numbers are over every limit; the limit's own message names it.
            Ok(text.parse().unwrap_or(u32::MAX))
        };
        Ok((number(k)?, number(m)?))
    }
}

impl fmt::Display for WideSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wide:{}+{}", self.k, self.m)
    }
}

impl FromStr for WideSpec {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let syntax = |reason: String| CodeError::Syntax { text: text.chars().take(64).collect(), reason };
        let numbers = text.strip_prefix("wide:").ok_or_else(|| syntax("not a wide code".into()))?;
        let (k, m) = Self::numbers(numbers).map_err(syntax)?;
        Self::new(k, m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::CodeSpec;

    #[test]
    fn text_comes_back_the_same() {
        for text in
            ["wide:1+1", "wide:1000+200", "wide:200+1000", "wide:32768+32768", "wide:61440+4096", "wide:65535+1"]
        {
            assert_eq!(text.parse::<WideSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_text_and_numbers_are_refused() {
        for text in ["", "wide", "wide:", "wide:4", "wide:4+", "wide:+4+2", "wide:4+2@lch", "wide:-1+2", "rs:4+2"] {
            assert!(matches!(text.parse::<WideSpec>(), Err(CodeError::Syntax { .. })), "{text}");
        }
        for text in ["wide:0+1", "wide:1+0", "wide:32769+32768", "wide:65536+1", "wide:99999999999999999999+1"] {
            assert!(matches!(text.parse::<WideSpec>(), Err(CodeError::Params { .. })), "{text}");
        }
    }

    #[test]
    fn where_fragments_are_wanted_a_wide_code_is_refused_with_the_reason() {
        let error = "wide:1000+200".parse::<CodeSpec>().unwrap_err();
        assert_eq!(error, CodeError::LibraryOnly { spec: "wide:1000+200".into() });
        assert!(error.to_string().contains("at most 256 fragments"), "{error}");
        assert!(matches!("wide:0+200".parse::<CodeSpec>(), Err(CodeError::Params { .. })));
        assert!(matches!("wide:1000".parse::<CodeSpec>(), Err(CodeError::Syntax { .. })));
    }
}
