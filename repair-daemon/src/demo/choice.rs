//! Which code, and how many nodes may be lost with it: decided before anything is written.

use crate::files::FilesError;
use ec_core::{Code, CodeSpec};

/// Fewest domains: three copies need three.
pub const NODES_MIN: usize = 3;
/// Most domains. A code has at most 256 fragments, so more domains than that only spread the load; each is a folder.
pub const NODES_MAX: usize = 1024;

/// The code by the number of domains that are left after the loss, so that there is a domain for each fragment of an extent
/// also then. The first row that fits.
const BY_DOMAINS_LEFT: [(usize, &str); 5] =
    [(16, "lrc:12,2,2"), (14, "rs:10+4"), (9, "rs:6+3"), (6, "rs:4+2"), (3, "replicate:3")];

/// The codes that may be used, the one for most domains first.
pub struct Choices {
    codes: Vec<(usize, Code)>,
    asked_for: bool,
}

impl Choices {
    /// The code that was asked for, or else those for each number of domains.
    ///
    /// # Errors
    /// [`FilesError::Code`] where a code cannot be built.
    pub fn new(asked_for: Option<&CodeSpec>) -> Result<Self, FilesError> {
        let codes = match asked_for {
            Some(spec) => vec![(spec.n(), Code::new(spec)?)],
            None => {
                let build = |(left, spec): (usize, &str)| Ok((left, Code::new(&spec.parse::<CodeSpec>()?)?));
                BY_DOMAINS_LEFT.into_iter().map(build).collect::<Result<_, FilesError>>()?
            }
        };
        Ok(Self { codes, asked_for: asked_for.is_some() })
    }

    /// Position of the code for so many domains left.
    fn for_left(&self, left: usize) -> Option<usize> {
        self.codes.iter().position(|(least, _)| left >= *least)
    }

    /// Position of the code that surely survives the loss of `kill` nodes and finds a new rack for every fragment. In the worst
    /// case an extent has a fragment on each of the lost ones.
    fn allowed(&self, nodes: usize, racks: usize, kill: usize) -> Option<usize> {
        let at = self.for_left(racks_left(nodes, racks, kill)?)?;
        (kill <= self.codes[at].1.guaranteed_tolerance()).then_some(at)
    }

    /// The largest number of nodes that may be killed; every number is tried, since fewer racks left choose another code.
    fn largest_kill(&self, nodes: usize, racks: usize) -> Option<usize> {
        (0..=nodes).rev().find(|kill| self.allowed(nodes, racks, *kill).is_some())
    }

    /// Decides, or says why not and what would be accepted.
    ///
    /// # Errors
    /// [`FilesError::Usage`].
    pub fn decide(mut self, nodes: usize, racks: usize, kill: usize) -> Result<Code, FilesError> {
        if !(NODES_MIN..=NODES_MAX).contains(&nodes) {
            let reason = format!("--nodes {nodes}: there must be {NODES_MIN} to {NODES_MAX} nodes");
            return Err(FilesError::Usage(reason));
        }
        if !(1..=nodes).contains(&racks) {
            return Err(FilesError::Usage(format!("--racks {racks}: {nodes} nodes stand in 1 to {nodes} racks")));
        }
        if let Some(at) = self.allowed(nodes, racks, kill) {
            return Ok(self.codes.swap_remove(at).1);
        }
        Err(FilesError::Usage(format!(
            "--kill {kill} of {nodes} nodes in {racks} racks: {}; {}",
            self.reason(nodes, racks, kill),
            self.way_out(nodes, racks)
        )))
    }

    fn reason(&self, nodes: usize, racks: usize, kill: usize) -> String {
        let Some(left) = racks_left(nodes, racks, kill) else { return format!("there are only {nodes}") };
        if let Some((_, code)) = self.for_left(left).and_then(|at| self.codes.get(at)) {
            return format!("{} surely survives the loss of {} only", code.spec(), code.guaranteed_tolerance());
        }
        match self.codes.last() {
            Some((least, code)) => format!(
                "{} puts each of its {} fragments into a rack of its own, which needs {least} racks after the loss, and {left} are left",
                code.spec(),
                code.n()
            ),
            None => "there is no code".into(),
        }
    }

    fn way_out(&self, nodes: usize, racks: usize) -> String {
        match self.largest_kill(nodes, racks) {
            Some(largest) => format!("the largest --kill allowed here is {largest}"),
            None if self.asked_for => "say more --nodes and --racks or another --code".into(),
            None => "say more --nodes and --racks".into(),
        }
    }
}

/// The rack of each node: one after the other, so that racks differ by at most one node.
pub fn racks_of(nodes: usize, racks: usize) -> Vec<usize> {
    (0..nodes).map(|node| node % racks.max(1)).collect()
}

/// Racks that still have a node after the loss of `kill` nodes, if these are chosen as badly as can be: small racks first.
fn racks_left(nodes: usize, racks: usize, kill: usize) -> Option<usize> {
    nodes.checked_sub(kill)?;
    let small = nodes / racks.max(1);
    let (larger_racks, small_racks) = (nodes % racks.max(1), racks - nodes % racks.max(1));
    let lost_small = (kill / small.max(1)).min(small_racks);
    let lost_larger = ((kill - lost_small * small) / (small + 1)).min(larger_racks);
    Some(racks - lost_small - lost_larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table, written once more.
    fn expected_spec(left: usize) -> Option<(&'static str, usize)> {
        match left {
            16.. => Some(("lrc:12,2,2", 3)),
            14..=15 => Some(("rs:10+4", 4)),
            9..=13 => Some(("rs:6+3", 3)),
            6..=8 => Some(("rs:4+2", 2)),
            3..=5 => Some(("replicate:3", 2)),
            _ => None,
        }
    }

    fn expected(nodes: usize, kill: usize) -> Option<&'static str> {
        expected_spec(nodes.checked_sub(kill)?).filter(|(_, tolerance)| kill <= *tolerance).map(|(spec, _)| spec)
    }

    #[test]
    fn every_number_of_domains_and_losses_gets_its_code_or_the_largest_number_allowed() {
        for nodes in 3..=40 {
            let largest = (0..=nodes).filter(|kill| expected(nodes, *kill).is_some()).max().unwrap();
            for kill in 0..=nodes + 1 {
                let decided = Choices::new(None).unwrap().decide(nodes, nodes, kill);
                match (decided, expected(nodes, kill)) {
                    (Ok(code), Some(spec)) => assert_eq!(code.spec().to_string(), spec, "{nodes} {kill}"),
                    (Err(FilesError::Usage(reason)), None) => {
                        assert!(reason.ends_with(&format!("the largest --kill allowed here is {largest}")), "{reason}");
                    }
                    (decided, expected) => {
                        panic!("{nodes} {kill}: {:?}, not {expected:?}", decided.map(|code| *code.spec()))
                    }
                }
            }
        }
    }

    /// By trying every choice of nodes.
    fn racks_left_by_trying(nodes: usize, racks: usize, kill: usize) -> usize {
        let racks_of = racks_of(nodes, racks);
        let left = |killed: u32| {
            let living = (0..nodes).filter(|node| killed >> node & 1 == 0);
            living.map(|node| racks_of[node]).collect::<std::collections::BTreeSet<_>>().len()
        };
        (0..1u32 << nodes).filter(|killed| killed.count_ones() as usize == kill).map(left).min().unwrap()
    }

    #[test]
    fn racks_left_are_those_of_the_worst_choice_of_nodes() {
        for nodes in 1..=10 {
            for racks in 1..=nodes {
                for kill in 0..=nodes {
                    let expected = racks_left_by_trying(nodes, racks, kill);
                    assert_eq!(racks_left(nodes, racks, kill), Some(expected), "{nodes} {racks} {kill}");
                }
                assert_eq!(racks_left(nodes, racks, nodes + 1), None);
            }
        }
    }

    #[test]
    fn fewer_racks_than_nodes_choose_by_the_racks() {
        let spec = |nodes, racks, kill| {
            Choices::new(None).unwrap().decide(nodes, racks, kill).map(|code| code.spec().to_string())
        };
        assert_eq!(spec(20, 10, 2).ok().as_deref(), Some("rs:6+3"), "two nodes of one rack leave nine");
        assert_eq!(spec(20, 10, 1).ok().as_deref(), Some("rs:6+3"));
        assert_eq!(spec(20, 6, 2).ok().as_deref(), Some("rs:4+2"));
        for (nodes, racks) in [(20, 2), (20, 1)] {
            assert!(spec(nodes, racks, 0).is_err(), "{nodes} {racks}");
        }
        for racks in [0, 21] {
            let refused = Choices::new(None).unwrap().decide(20, racks, 0);
            assert!(matches!(&refused, Err(FilesError::Usage(reason)) if reason.contains("1 to 20 racks")), "{racks}");
        }
    }

    #[test]
    fn more_losses_may_be_allowed_where_fewer_choose_a_code_that_survives_less() {
        assert_eq!(Choices::new(None).unwrap().largest_kill(19, 19), Some(4), "15 left: rs:10+4");
        assert_eq!(
            Choices::new(None).unwrap().largest_kill(20, 20),
            Some(3),
            "16 left would be lrc:12,2,2, which survives 3"
        );
        assert_eq!(Choices::new(None).unwrap().largest_kill(3, 3), Some(0));
    }

    #[test]
    fn a_code_asked_for_needs_its_domains_after_the_loss() {
        for (spec, n, tolerance) in [("rs:10+4", 14, 4), ("replicate:2", 2, 1), ("lrc:6,2,2", 10, 3), ("rs:2+1", 3, 1)]
        {
            let parsed = spec.parse::<CodeSpec>().unwrap();
            for nodes in 3..=40usize {
                for kill in 0..=nodes {
                    let decided = Choices::new(Some(&parsed)).unwrap().decide(nodes, nodes, kill);
                    assert_eq!(decided.is_ok(), nodes - kill >= n && kill <= tolerance, "{spec} {nodes} {kill}");
                    let Err(error) = decided else { continue };
                    let way_out = match nodes.checked_sub(n) {
                        Some(spare) => format!("the largest --kill allowed here is {}", spare.min(tolerance)),
                        None => "say more --nodes and --racks or another --code".into(),
                    };
                    assert!(error.to_string().ends_with(&way_out), "{error}");
                }
            }
        }
    }

    #[test]
    fn too_few_and_too_many_domains_are_refused() {
        for nodes in [0, 1, 2, 1025, usize::MAX] {
            let refused = Choices::new(None).unwrap().decide(nodes, nodes, 0);
            assert!(matches!(&refused, Err(FilesError::Usage(reason)) if reason.contains("3 to 1024")), "{nodes}");
        }
        assert!(Choices::new(None).unwrap().decide(1024, 1024, 0).is_ok());
    }
}
