//! How much may be set aside without an operator: a rule that finds disks bad may itself be wrong, and what it may do then is
//! bounded. Whether data stays decodable without them is asked of the groups beside this.

/// One disk in so many, though always one.
const SHARE: usize = 50;

/// Why no more may be set aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Capped {
    /// So many are already.
    #[error("{quarantined} of {disks} disks are in quarantine, as many as may be without an operator")]
    Share {
        /// In quarantine.
        quarantined: usize,
        /// In the cell.
        disks: usize,
    },
    /// Those that are stand in another domain.
    #[error("disks of {domain} are in quarantine, and no two fault domains may lose disks so at once")]
    Domain {
        /// That one.
        domain: String,
    },
}

/// Whether one more disk, of this fault domain, may be set aside beside those that are, given by their fault domains.
///
/// # Errors
/// [`Capped`].
pub fn may_add(domain: &str, quarantined: &[&str], disks: usize) -> Result<(), Capped> {
    if let Some(other) = quarantined.iter().find(|other| **other != domain) {
        return Err(Capped::Domain { domain: (*other).to_owned() });
    }
    if quarantined.len() >= (disks / SHARE).max(1) {
        return Err(Capped::Share { quarantined: quarantined.len(), disks });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_fifty_of_one_domain_at_most() {
        assert_eq!(may_add("a", &[], 3), Ok(()), "always one");
        assert_eq!(may_add("a", &["a"], 99), Err(Capped::Share { quarantined: 1, disks: 99 }));
        assert_eq!(may_add("a", &["a"], 100), Ok(()));
        assert_eq!(may_add("a", &["a", "a"], 149), Err(Capped::Share { quarantined: 2, disks: 149 }));
        assert_eq!(may_add("b", &["a"], 1_000), Err(Capped::Domain { domain: "a".into() }));
    }
}
