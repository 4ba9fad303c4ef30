//! What the code needs to read for what the demo destroyed: computed from the files on the disks, not from what the daemon says.

use super::havoc::{Havoc, Placed, Placement, payload_bytes};
use crate::files::FilesError;
use ec_core::{Code, ShardSet};

/// Payload bytes to read at least, where all that each extent lost is rebuilt in one go. To be called while all files are there.
///
/// # Errors
/// [`FilesError`]: a file cannot be read, or more is destroyed of an extent than its code survives.
pub fn joint_minimum(code: &Code, placement: &Placement, havoc: &Havoc) -> Result<u64, FilesError> {
    let mut bytes = 0;
    for (extent, placed) in placement {
        let flipped = havoc.flip.as_ref().filter(|(flipped, _)| flipped == extent).map(|(_, placed)| placed);
        let is_lost = |placed: &&Placed| havoc.nodes.contains(&placed.node) || flipped == Some(*placed);
        let lost: ShardSet = placed.iter().filter(is_lost).map(|placed| placed.index).collect();
        if lost.is_empty() {
            continue;
        }
        let left: ShardSet = placed.iter().filter(|placed| !is_lost(placed)).map(|placed| placed.index).collect();
        let plan = code.plan(&lost, &left).map_err(FilesError::internal)?;
        // Every fragment of an extent is as long as every other.
        let any = placed.first().map_or(Ok(0), |placed| payload_bytes(&placed.path))?;
        bytes += plan.reads().len() as u64 * any;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ec_core::fragment::{BirthIdentity, CellId, ExtentId, Header};
    use ec_core::{CodeSpec, ShardIndex};
    use std::path::{Path, PathBuf};

    /// One extent, fragment `i` on node `i`, of three blocks each.
    fn placement(folder: &Path, code: &Code) -> Placement {
        let place = |index: u16| {
            let path = folder.join(index.to_string());
            let identity = BirthIdentity {
                cell: CellId(1),
                extent: ExtentId(5),
                generation: 1,
                index: ShardIndex::new(index),
                payload_bytes: 3 * 4096,
            };
            let extent_bytes = 3 * 4096 * code.k() as u64;
            let header = Header { identity, code: *code.spec(), extent_bytes, record_bytes: 200 };
            std::fs::write(&path, header.to_bytes()).unwrap();
            Placed { node: usize::from(index), index: ShardIndex::new(index), path }
        };
        [(ExtentId(5), (0..code.n() as u16).map(place).collect())].into()
    }

    #[test]
    fn one_reading_is_enough_for_all_that_an_extent_lost() {
        let folder = tempfile::tempdir().unwrap();
        let least = |spec: &str, nodes: &[usize], flip: Option<usize>| {
            let code = Code::new(&spec.parse::<CodeSpec>().unwrap()).unwrap();
            let placement = placement(folder.path(), &code);
            let flip = flip.map(|index| (ExtentId(5), placement[&ExtentId(5)][index].clone()));
            joint_minimum(&code, &placement, &Havoc { nodes: nodes.to_vec(), flip }).unwrap() / (3 * 4096)
        };
        assert_eq!(least("rs:4+2", &[], None), 0);
        assert_eq!(least("rs:4+2", &[1, 4], None), 4);
        assert_eq!(least("rs:4+2", &[1], Some(5)), 4);
        assert_eq!(least("lrc:12,2,2", &[0], None), 6);
        assert_eq!(least("lrc:12,2,2", &[0, 6], None), 12);
        assert_eq!(least("lrc:12,2,2", &[0, 1], Some(13)), 12);
        assert_eq!(least("replicate:3", &[2], Some(0)), 1);
        assert_eq!(least("rs:4+2", &[17], None), 0);
    }

    #[test]
    fn more_than_the_code_survives_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let code = Code::new(&"rs:4+2".parse().unwrap()).unwrap();
        let placement = placement(folder.path(), &code);
        assert!(joint_minimum(&code, &placement, &Havoc { nodes: vec![0, 1, 2], flip: None }).is_err());
        let gone: Placement =
            [(ExtentId(5), vec![Placed { node: 0, index: ShardIndex::new(0), path: PathBuf::from("/nonexistent/0") }])]
                .into();
        assert!(joint_minimum(&code, &gone, &Havoc { nodes: vec![0], flip: None }).is_err());
    }
}
