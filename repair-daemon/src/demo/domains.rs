//! Folders that stand for fault domains: which fragment goes where, what is destroyed, where the rebuilt ones go.

use crate::files::FilesError;
use crate::files::encode::StreamPlan;
use crate::files::error::shown;
use crate::files::scan::{ExtentView, Scan, Slot};
use crate::files::staged::{folder_of, random_u128};
use ec_core::fragment::{ExtentId, HEADER_BYTES};
use ec_core::{Code, ShardIndex};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

/// The folder that holds the domains, removed with them unless it is kept.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    keep: bool,
}

impl Home {
    /// A new temporary folder that only this user can enter, or the folder to keep, which must be new or empty.
    ///
    /// # Errors
    /// [`FilesError::Usage`] where the folder to keep is neither, [`FilesError::Io`].
    pub fn new(keep: Option<&Path>) -> Result<Self, FilesError> {
        if let Some(path) = keep {
            check_new_or_empty(path)?;
            fs::create_dir_all(path).map_err(FilesError::io(path, "create"))?;
            return Ok(Self { path: path.to_path_buf(), keep: true });
        }
        let path = std::env::temp_dir().join(format!("ninefold-demo-{:016x}", random_u128()? >> 64));
        DirBuilder::new().mode(0o700).create(&path).map_err(FilesError::io(&path, "create"))?;
        Ok(Self { path, keep: false })
    }

    /// Refuses early what would fail late and fill the disk until then.
    ///
    /// # Errors
    /// [`FilesError::Io`] where fewer than `needed_bytes` are free.
    pub fn check_room(&self, needed_bytes: u64) -> Result<(), FilesError> {
        // Where it cannot be told, writing will tell.
        let Ok(status) = rustix::fs::statvfs(&self.path) else { return Ok(()) };
        let free_bytes = status.f_bavail.saturating_mul(status.f_frsize);
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        let reason =
            format!("they need {needed_bytes} bytes, {free_bytes} are free; name another place with --keep or TMPDIR");
        Err(FilesError::io(&self.path, "write the fragments")(io::Error::new(io::ErrorKind::StorageFull, reason)))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Refuses a folder to keep that holds something or is none, before any work is done.
///
/// # Errors
/// [`FilesError::Usage`], [`FilesError::Io`].
pub fn check_new_or_empty(path: &Path) -> Result<(), FilesError> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(FilesError::Usage(format!("{}: is not empty; name a new or an empty folder", shown(path)))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(FilesError::Usage(format!("{}: is not a folder", shown(path))))
        }
        Err(error) => Err(FilesError::io(path, "list")(error)),
    }
}

/// The domains' folders. A domain is a position in this list; whether it lives is known only by looking.
#[derive(Debug)]
pub struct Domains {
    folders: Vec<PathBuf>,
    by_folder: HashMap<PathBuf, usize>,
}

impl Domains {
    /// Makes `nodes` empty domains in `home`.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn create(home: &Path, nodes: usize) -> Result<Self, FilesError> {
        let folders: Vec<PathBuf> = (0..nodes).map(|domain| home.join(format!("domain-{domain:04}"))).collect();
        for folder in &folders {
            fs::create_dir(folder).map_err(FilesError::io(folder, "create"))?;
        }
        let by_folder = folders.iter().cloned().zip(0..).collect();
        Ok(Self { folders, by_folder })
    }

    /// How many there were at the start.
    pub fn count(&self) -> usize {
        self.folders.len()
    }

    /// The folder of a domain.
    pub fn folder(&self, domain: usize) -> &Path {
        &self.folders[domain]
    }

    /// Looks which domains are there.
    ///
    /// # Errors
    /// [`FilesError::Io`] where that cannot be told: not knowing is not the same as gone.
    pub fn alive(&self) -> Result<Vec<usize>, FilesError> {
        let mut alive = Vec::new();
        for (domain, folder) in self.folders.iter().enumerate() {
            match fs::symlink_metadata(folder) {
                Ok(metadata) if metadata.is_dir() => alive.push(domain),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FilesError::io(folder, "look at")(error)),
            }
        }
        Ok(alive)
    }

    /// The folders of some domains.
    pub fn folders(&self, domains: &[usize]) -> Vec<PathBuf> {
        domains.iter().map(|domain| self.folders[*domain].clone()).collect()
    }

    /// The domain in which the file of a slot lies; `None` where there is no file.
    pub fn of_slot(&self, slot: &Slot) -> Option<usize> {
        self.by_folder.get(folder_of(slot.usable.as_deref().unwrap_or(&slot.path))).copied()
    }

    /// Whether each fragment of the extent lies in a domain of its own.
    pub fn are_distinct(&self, view: &ExtentView) -> bool {
        let domains: BTreeSet<Option<usize>> = view.slots.iter().map(|slot| self.of_slot(slot)).collect();
        domains.len() == view.slots.len() && !domains.contains(&None)
    }
}

/// The domains in the order an extent uses them: fragment `i` goes to the `i`th. Each extent has an order of its own, drawn
/// from its id, so that all domains carry about the same load and anybody can compute it again.
pub fn order(extent: ExtentId, nodes: usize) -> Vec<usize> {
    let mut dice =
        blake3::Hasher::new().update(b"ninefold demo placement").update(&extent.0.to_be_bytes()).finalize_xof();
    let mut domains: Vec<usize> = (0..nodes).collect();
    for last in (1..nodes).rev() {
        let mut draw = [0; 8];
        dice.fill(&mut draw);
        // Multiply and keep the upper half: a number in 0..=last, with a bias below 2^-53 for 1,024 domains.
        let other = (u128::from(u64::from_le_bytes(draw)) * (last as u128 + 1)) >> 64;
        domains.swap(last, other as usize);
    }
    domains
}

/// The `kill` domains that hold most fragments, of those that hold any: the loss of these takes most.
pub fn fullest(fragments_held: &[u64], kill: usize) -> Vec<usize> {
    let mut domains: Vec<usize> = (0..fragments_held.len()).filter(|domain| fragments_held[*domain] > 0).collect();
    domains.sort_by_key(|domain| (Reverse(fragments_held[*domain]), *domain));
    domains.truncate(kill);
    domains
}

/// What is destroyed, in what order of things: whole domains and then one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Havoc {
    /// Domains whose folders are removed.
    pub domains: Vec<usize>,
    /// The fragment of which one byte changes; `None` where no extent would surely survive that too.
    pub flip: Option<(ExtentId, ShardIndex, usize)>,
}

impl Havoc {
    /// Chooses: the fullest domains, and a living fragment of the extent with most margin after that.
    pub fn new(code: &Code, extents: &[ExtentId], nodes: usize, kill: usize) -> Self {
        let mut held = vec![0; nodes];
        for extent in extents {
            order(*extent, nodes).into_iter().take(code.n()).for_each(|domain| held[domain] += 1);
        }
        let domains = fullest(&held, kill);
        let living = |extent: ExtentId| {
            let placed = order(extent, nodes).into_iter().take(code.n()).zip(0..);
            placed
                .filter(|(domain, _)| !domains.contains(domain))
                .map(|(domain, index)| (ShardIndex::new(index), domain))
        };
        let margin = |living: usize| (code.guaranteed_tolerance() + living).saturating_sub(code.n());
        let safest = extents.iter().copied().max_by_key(|extent| (margin(living(*extent).count()), Reverse(*extent)));
        let flip = safest.filter(|extent| margin(living(*extent).count()) > 0).and_then(|extent| {
            // The last one living: a parity as good as a datum, and never the first byte anybody would look at.
            living(extent).last().map(|(index, domain)| (extent, index, domain))
        });
        Self { domains, flip }
    }
}

/// A byte that was changed.
#[derive(Debug)]
pub struct Flip {
    path: PathBuf,
    at: u64,
    was: u8,
}

impl Flip {
    /// Changes the byte in the middle of the payload of the fragment at `path`.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn make(path: PathBuf, payload_bytes: u64) -> Result<Self, FilesError> {
        let file = File::options().read(true).write(true).open(&path).map_err(FilesError::io(&path, "open"))?;
        let at = HEADER_BYTES as u64 + payload_bytes / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).map_err(FilesError::io(&path, "read"))?;
        file.write_all_at(&[byte[0] ^ 0x10], at).map_err(FilesError::io(&path, "write"))?;
        file.sync_data().map_err(FilesError::io(&path, "force to the disk"))?;
        Ok(Self { path, at, was: byte[0] })
    }

    /// Looks whether the byte is what it was.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn is_healed(&self) -> Result<bool, FilesError> {
        let mut byte = [0];
        let file = File::open(&self.path).map_err(FilesError::io(&self.path, "open"))?;
        file.read_exact_at(&mut byte, self.at).map_err(FilesError::io(&self.path, "read"))?;
        Ok(byte[0] == self.was)
    }
}

/// The folder for a fragment of a stream that is being encoded.
pub fn home_of(domains: &Domains, plan: &StreamPlan, ordinal: usize, index: ShardIndex) -> PathBuf {
    let order = order(plan.extents[ordinal].extent, domains.count());
    domains.folder(order[index.at()]).to_path_buf()
}

/// Folders for the fragments that have to be rebuilt.
#[derive(Debug, Default)]
pub struct NewHomes(BTreeMap<(ExtentId, ShardIndex), PathBuf>);

impl NewHomes {
    /// Finds a folder for each lost fragment of a checked scan. A damaged one is rebuilt where it lies; a missing one goes to a
    /// living domain that holds nothing of its extent, the one that took fewest bytes so far.
    ///
    /// # Errors
    /// [`FilesError::Unrecoverable`] where an extent has more fragments than there are domains.
    pub fn new(domains: &Domains, alive: &[usize], scan: &Scan) -> Result<Self, FilesError> {
        let mut homes = BTreeMap::new();
        let mut taken_bytes = vec![0; domains.count()];
        for view in scan.extents.values() {
            let record = view.record()?;
            let order = order(view.id, domains.count());
            let mut held: BTreeSet<usize> = view.slots.iter().filter_map(|slot| domains.of_slot(slot)).collect();
            for slot in view.slots.iter().filter(|slot| slot.usable.is_none()) {
                let bytes = record.fragments.get(slot.index.at()).map_or(0, |entry| entry.identity.payload_bytes);
                let domain = match domains.of_slot(slot) {
                    Some(domain) => domain,
                    None => emptiest(&order, alive, &held, &taken_bytes).ok_or_else(|| {
                        FilesError::Unrecoverable(format!(
                            "extent {}: no domain is left for fragment {}",
                            view.id, slot.index
                        ))
                    })?,
                };
                held.insert(domain);
                taken_bytes[domain] += bytes;
                homes.insert((view.id, slot.index), domains.folder(domain).to_path_buf());
            }
        }
        Ok(Self(homes))
    }

    /// The folder for a fragment that was lost when this was made.
    pub fn folder(&self, extent: ExtentId, index: ShardIndex) -> Option<&Path> {
        self.0.get(&(extent, index)).map(PathBuf::as_path)
    }
}

/// The living domain outside `held` that took fewest bytes, the first in the extent's order where several did.
fn emptiest(order: &[usize], alive: &[usize], held: &BTreeSet<usize>, taken_bytes: &[u64]) -> Option<usize> {
    let free = order.iter().copied().filter(|domain| alive.binary_search(domain).is_ok() && !held.contains(domain));
    free.min_by_key(|domain| taken_bytes[*domain])
}

#[cfg(test)]
mod tests {
    use super::super::choice::Choices;
    use super::*;

    fn ids(count: u128) -> Vec<ExtentId> {
        (0..count).map(|id| ExtentId(id * 0x9e37_79b9_7f4a_7c15)).collect()
    }

    #[test]
    fn an_order_is_every_domain_once_and_the_same_each_time() {
        for nodes in 1..=40 {
            for extent in ids(20) {
                let mut order = order(extent, nodes);
                assert_eq!(order, super::order(extent, nodes));
                order.sort_unstable();
                assert_eq!(order, (0..nodes).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn orders_spread_the_load() {
        let mut held = [0u32; 20];
        for extent in ids(1000) {
            order(extent, 20).into_iter().take(16).for_each(|domain| held[domain] += 1);
        }
        // 800 on average; the standard deviation of a fair draw is 12.6.
        assert!(held.iter().all(|held| (740..=860).contains(held)), "{held:?}");
    }

    #[test]
    fn only_domains_that_hold_something_are_killed_and_the_fullest_first() {
        assert_eq!(fullest(&[1, 0, 3, 3, 0], 2), [2, 3]);
        assert_eq!(fullest(&[1, 0, 3, 3, 0], 5), [2, 3, 0]);
        assert_eq!(fullest(&[1, 1], 0), [0usize; 0]);
    }

    /// For every number of domains and losses that is allowed at all.
    fn for_all_allowed(check: impl Fn(&Code, usize, usize)) {
        for nodes in 3..=40 {
            for kill in 0..=nodes {
                if let Ok(code) = Choices::new(None).unwrap().decide(nodes, kill) {
                    check(&code, nodes, kill);
                }
            }
        }
    }

    #[test]
    fn no_havoc_takes_more_of_an_extent_than_the_code_surely_survives() {
        for_all_allowed(|code, nodes, kill| {
            for count in [1, 2, 7] {
                let extents = ids(count);
                let havoc = Havoc::new(code, &extents, nodes, kill);
                assert_eq!(havoc.domains.len(), kill, "every killed domain held something");
                let mut with_margin = 0;
                for extent in &extents {
                    let placed = &order(*extent, nodes)[..code.n()];
                    let killed = placed.iter().filter(|domain| havoc.domains.contains(domain)).count();
                    let flipped = havoc.flip.filter(|(flipped, _, _)| flipped == extent);
                    assert!(killed + usize::from(flipped.is_some()) <= code.guaranteed_tolerance(), "{nodes} {kill}");
                    with_margin += usize::from(killed < code.guaranteed_tolerance());
                    if let Some((_, index, domain)) = flipped {
                        assert_eq!(placed[index.at()], domain);
                        assert!(!havoc.domains.contains(&domain), "what was removed cannot be flipped");
                    }
                }
                assert_eq!(havoc.flip.is_some(), with_margin > 0, "{nodes} {kill}");
            }
        });
    }

    #[test]
    fn every_lost_fragment_finds_a_living_domain_of_its_own() {
        for_all_allowed(|code, nodes, kill| {
            let extents = ids(7);
            let killed = Havoc::new(code, &extents, nodes, kill).domains;
            let alive: Vec<usize> = (0..nodes).filter(|domain| !killed.contains(domain)).collect();
            let mut taken = vec![0; nodes];
            for extent in extents {
                let order = order(extent, nodes);
                let (lost, kept): (Vec<usize>, Vec<usize>) =
                    order[..code.n()].iter().partition(|domain| killed.contains(domain));
                let mut held: BTreeSet<usize> = kept.into_iter().collect();
                for _ in lost {
                    let domain = emptiest(&order, &alive, &held, &taken).expect("a domain is left");
                    assert!(!killed.contains(&domain) && held.insert(domain), "{nodes} {kill}");
                    taken[domain] += 1;
                }
                assert_eq!(held.len(), code.n());
            }
        });
    }

    #[test]
    fn a_new_fragment_goes_where_fewest_bytes_went() {
        let held = BTreeSet::from([3]);
        assert_eq!(
            emptiest(&[4, 3, 1, 0], &[0, 1, 3], &held, &[5, 5, 0, 0, 0]),
            Some(1),
            "the first in the extent's order"
        );
        assert_eq!(emptiest(&[4, 3, 1, 0], &[0, 1, 3], &held, &[4, 5, 0, 0, 0]), Some(0));
        assert_eq!(emptiest(&[4, 3], &[3], &held, &[0; 5]), None);
    }
}
