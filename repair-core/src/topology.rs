//! The domain tree: region / zone / rack / node.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A level of the tree, the widest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Regions.
    Region,
    /// Zones.
    Zone,
    /// Racks.
    Rack,
    /// Nodes.
    Node,
}

/// Where a node stands: region/zone/rack/node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain {
    text: String,
    /// Ends of the four parts in the text.
    ends: [usize; 4],
}

/// Text that is no domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Not four parts.
    #[error("{text:?}: a domain is region/zone/rack/node")]
    Parts {
        /// The text.
        text: String,
    },
    /// A part that is empty, too long, or has other characters.
    #[error("{part:?}: a part of a domain is 1 to 63 of the letters, digits and . _ -")]
    Part {
        /// The part.
        part: String,
    },
}

const PART_BYTES_MAX: usize = 63;

impl Domain {
    /// The domain at a level: the text down to it.
    pub fn at(&self, level: Level) -> &str {
        &self.text[..self.ends[level as usize]]
    }

    /// The last part.
    pub fn node_name(&self) -> &str {
        &self.text[self.ends[2] + 1..]
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let parts: Vec<&str> = text.split('/').collect();
        let Ok(parts) = <[&str; 4]>::try_from(parts) else {
            return Err(DomainError::Parts { text: text.chars().take(256).collect() });
        };
        let sound = |part: &str| {
            (1..=PART_BYTES_MAX).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if let Some(part) = parts.iter().find(|part| !sound(part)) {
            return Err(DomainError::Part { part: part.chars().take(64).collect() });
        }
        let mut ends = [0; 4];
        let mut end = 0;
        for (at, part) in parts.iter().enumerate() {
            end += part.len() + usize::from(at > 0);
            ends[at] = end;
        }
        Ok(Self { text: text.to_owned(), ends })
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "region" => Ok(Self::Region),
            "zone" => Ok(Self::Zone),
            "rack" => Ok(Self::Rack),
            "node" => Ok(Self::Node),
            _ => Err(format!("{text:?} is no level; there are region, zone, rack, node")),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Region => "region",
            Self::Zone => "zone",
            Self::Rack => "rack",
            Self::Node => "node",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_four_sound_parts() {
        let domain: Domain = "eu/a/r07/n3.example".parse().unwrap();
        assert_eq!(domain.at(Level::Region), "eu");
        assert_eq!(domain.at(Level::Rack), "eu/a/r07");
        assert_eq!(domain.at(Level::Node), domain.to_string());
        assert_eq!(domain.node_name(), "n3.example");
        let long = "x".repeat(64);
        for text in [
            "",
            "a/b/c",
            "a/b/c/d/e",
            "a//c/d",
            "a/b/c/",
            "a/b/c/d e",
            "a/b/c/\n",
            "../b/c/\u{e9}",
            &format!("a/b/c/{long}"),
        ] {
            assert!(text.parse::<Domain>().is_err(), "{text:?}");
        }
    }
}
