//! What is destroyed: nodes that hold fragments, and one byte elsewhere. Chosen by looking at what lies on the nodes' disks.

use super::cell::Node;
use crate::files::FilesError;
use crate::files::error::shown;
use ec_core::fragment::{ExtentId, FragmentName, HEADER_BYTES};
use ec_core::{Code, ShardIndex};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A fragment file on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which node.
    pub node: usize,
    /// Which fragment of its extent.
    pub index: ShardIndex,
    /// The file.
    pub path: PathBuf,
}

/// Every fragment file of every extent.
pub type Placement = BTreeMap<ExtentId, Vec<Placed>>;

/// Folders of a node that hold fragments, one per placement group.
///
/// # Errors
/// [`FilesError::Io`].
pub fn fragment_folders(data: &Path) -> Result<Vec<PathBuf>, FilesError> {
    let fragments = data.join("fragments");
    let listing = match fs::read_dir(&fragments) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FilesError::io(&fragments, "list")(error)),
    };
    let entries = listing.collect::<Result<Vec<_>, _>>().map_err(FilesError::io(&fragments, "list"))?;
    let mut folders: Vec<PathBuf> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

/// Looks what lies on the nodes.
///
/// # Errors
/// [`FilesError::Io`].
pub fn look(nodes: &[Node]) -> Result<Placement, FilesError> {
    let mut placement = Placement::new();
    for (number, node) in nodes.iter().enumerate() {
        for folder in fragment_folders(&node.data)? {
            for entry in fs::read_dir(&folder).map_err(FilesError::io(&folder, "list"))? {
                let path = entry.map_err(FilesError::io(&folder, "list"))?.path();
                let name = path.file_name().and_then(|name| name.to_str()).and_then(FragmentName::parse);
                if let Some(name) = name {
                    let placed = Placed { node: number, index: name.index, path };
                    placement.entry(name.extent).or_default().push(placed);
                }
            }
        }
    }
    Ok(placement)
}

/// The `kill` nodes that hold most fragments, of those that hold any: the loss of these takes most.
fn fullest(fragments_held: &[u64], kill: usize) -> Vec<usize> {
    let mut nodes: Vec<usize> = (0..fragments_held.len()).filter(|node| fragments_held[*node] > 0).collect();
    nodes.sort_by_key(|node| (Reverse(fragments_held[*node]), *node));
    nodes.truncate(kill);
    nodes
}

/// What is destroyed, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Havoc {
    /// Nodes to kill.
    pub nodes: Vec<usize>,
    /// The fragment of which one byte changes; `None` where no extent would surely survive that too.
    pub flip: Option<(ExtentId, Placed)>,
}

impl Havoc {
    /// Chooses: the fullest nodes, and a living fragment of the extent with most margin after that.
    pub fn new(code: &Code, placement: &Placement, nodes: usize, kill: usize) -> Self {
        let mut held = vec![0; nodes];
        placement.values().flatten().for_each(|placed| held[placed.node] += 1);
        let nodes = fullest(&held, kill);
        let living = |placed: &[Placed]| placed.iter().filter(|placed| !nodes.contains(&placed.node)).count();
        let margin = |placed: &[Placed]| (code.guaranteed_tolerance() + living(placed)).saturating_sub(code.n());
        let safest = placement.iter().max_by_key(|(extent, placed)| (margin(placed), Reverse(**extent)));
        let flip = safest.filter(|(_, placed)| margin(placed) > 0).and_then(|(extent, placed)| {
            // The last one living: a parity as good as a datum, and never the first byte anybody would look at. A fragment
            // without payload has no byte to flip.
            let living = placed.iter().filter(|placed| !nodes.contains(&placed.node)).max_by_key(|placed| placed.index);
            living.map(|placed| (*extent, placed.clone()))
        });
        Self { nodes, flip }
    }
}

/// A byte that was changed.
#[derive(Debug)]
pub struct Flip {
    path: PathBuf,
    at: u64,
    was: u8,
}

/// Payload bytes of the fragment at `path`, by its header.
///
/// # Errors
/// [`FilesError`].
pub fn payload_bytes(path: &Path) -> Result<u64, FilesError> {
    let mut header = [0; HEADER_BYTES];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut header, 0));
    read.map_err(FilesError::io(path, "read"))?;
    let header = ec_core::fragment::Header::parse(&header).map_err(|error| {
        FilesError::Unrecoverable(format!("{}: was damaged before the demo did anything: {error}", shown(path)))
    })?;
    Ok(header.identity.payload_bytes)
}

impl Flip {
    /// Changes the byte in the middle of the payload of the fragment at `path`, which has payload.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn make(path: &Path) -> Result<Self, FilesError> {
        let at = HEADER_BYTES as u64 + payload_bytes(path)? / 2;
        let file = File::options().read(true).write(true).open(path).map_err(FilesError::io(path, "open"))?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).map_err(FilesError::io(path, "read"))?;
        file.write_all_at(&[byte[0] ^ 0x10], at).map_err(FilesError::io(path, "write"))?;
        file.sync_data().map_err(FilesError::io(path, "force to the disk"))?;
        Ok(Self { path: path.to_path_buf(), at, was: byte[0] })
    }

    /// Looks whether the byte is what it was. While the node replaces the file there may be none: then it is not.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn is_healed(&self) -> Result<bool, FilesError> {
        let mut byte = [0];
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(FilesError::io(&self.path, "open")(error)),
        };
        file.read_exact_at(&mut byte, self.at).map_err(FilesError::io(&self.path, "read"))?;
        Ok(byte[0] == self.was)
    }
}

#[cfg(test)]
mod tests {
    use super::super::choice::Choices;
    use super::*;

    /// `extents` extents whose fragments lie on nodes in a rotated order.
    fn placement(code: &Code, nodes: usize, extents: usize) -> Placement {
        let place = |extent: usize, index: usize| Placed {
            node: (extent * 5 + index) % nodes,
            index: ShardIndex::new(index as u16),
            path: PathBuf::from(format!("{extent}.{index}")),
        };
        (0..extents)
            .map(|extent| (ExtentId(extent as u128), (0..code.n()).map(|index| place(extent, index)).collect()))
            .collect()
    }

    #[test]
    fn only_nodes_that_hold_something_are_killed_and_the_fullest_first() {
        assert_eq!(fullest(&[1, 0, 3, 3, 0], 2), [2, 3]);
        assert_eq!(fullest(&[1, 0, 3, 3, 0], 5), [2, 3, 0]);
        assert_eq!(fullest(&[1, 1], 0), [0usize; 0]);
    }

    #[test]
    fn no_havoc_takes_more_of_an_extent_than_the_code_surely_survives() {
        for nodes in 3..=40 {
            for kill in 0..=nodes {
                let Ok(code) = Choices::new(None).unwrap().decide(nodes, nodes, kill) else { continue };
                for extents in [1, 2, 7] {
                    let placement = placement(&code, nodes, extents);
                    let havoc = Havoc::new(&code, &placement, nodes, kill);
                    assert_eq!(havoc.nodes.len(), kill, "every killed node held something");
                    let mut with_margin = 0;
                    for (extent, placed) in &placement {
                        let killed = placed.iter().filter(|placed| havoc.nodes.contains(&placed.node)).count();
                        let flipped = havoc.flip.as_ref().filter(|(flipped, _)| flipped == extent);
                        assert!(
                            killed + usize::from(flipped.is_some()) <= code.guaranteed_tolerance(),
                            "{nodes} {kill}"
                        );
                        with_margin += usize::from(killed < code.guaranteed_tolerance());
                        assert!(flipped.is_none_or(|(_, placed)| !havoc.nodes.contains(&placed.node)));
                    }
                    assert_eq!(havoc.flip.is_some(), with_margin > 0, "{nodes} {kill}");
                }
            }
        }
    }
}
