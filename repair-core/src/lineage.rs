//! Which of two folders with one identity is the disk: a rule that tells a disk that goes on from a copy of what it was.
//!
//! Every life of a disk has a number and the random id of the process that began it. A node that is let in by the daemon writes
//! its life durably beside its label; the catalog has the life that was let in last. Whoever comes next must show the life on
//! file. A copy that is started beside the original shows a life the original has gone on from, and so does an old image that is
//! put back: both are behind, however long the original is silent and whatever process the daemon is.
//!
//! The catalog is written first, so a crash leaves a disk that shows the life before. Until the node has said that its life is
//! stored, that one is taken too: the honest disk always goes on.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A life of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// Counted from 1.
    pub number: u64,
    /// Random, of the process that began it.
    pub boot: u64,
}

impl fmt::Display for Life {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:016x})", self.number, self.boot)
    }
}

impl Life {
    /// The one that a process begins on a disk that shows `had`.
    pub const fn after(had: Option<Self>, boot: u64) -> Self {
        let number = match had {
            Some(had) => had.number.saturating_add(1),
            None => 1,
        };
        Self { number, boot }
    }
}

/// What a node shows when it registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The life that lies beside the label; none on a disk that was never told of one.
    pub had: Option<Life>,
    /// The life that it begins, or has begun: then it is the one it had.
    pub life: Life,
}

/// What the catalog knows of a disk's lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The one let in last.
    pub life: Life,
    /// What the disk showed then.
    pub before: Option<Life>,
    /// Whether the disk has said since that it has stored the life.
    pub settled: bool,
}

impl Lineage {
    /// What is on file once this claim is let in.
    ///
    /// # Errors
    /// The life on file, where what claims to be the disk is not what that life went on as.
    pub fn step(on_file: Option<Self>, claim: Claim) -> Result<Self, Life> {
        let (had, life) = (claim.had, claim.life);
        let next = Self { life, before: had, settled: had == Some(life) };
        let Some(known) = on_file else { return Ok(next) };
        if known.life == life {
            return Ok(Self { settled: known.settled || next.settled, ..known });
        }
        // Of an earlier program, or somebody took the file away to have this folder let in.
        let Some(had) = had else { return Ok(next) };
        let goes_on = had == known.life
            || (known.life.boot == life.boot && known.life.number < life.number)
            || (!known.settled && Some(had) == known.before)
            // Then the catalog is the older one. That is found out and told elsewhere, and by the disks.
            || known.life.number < had.number;
        if goes_on { Ok(next) } else { Err(known.life) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Dice;

    /// A folder: what lies beside its label.
    type Folder = Option<Life>;

    fn begin(folder: Folder, boot: u64) -> Claim {
        Claim { had: folder, life: Life::after(folder, boot) }
    }

    fn kept(life: Life) -> Claim {
        Claim { had: Some(life), life }
    }

    /// A whole start: let in, stored, said.
    fn start(file: &mut Option<Lineage>, folder: &mut Folder, boot: u64) -> Result<Life, Life> {
        let claim = begin(*folder, boot);
        *file = Some(Lineage::step(*file, claim)?);
        *folder = Some(claim.life);
        *file = Some(Lineage::step(*file, kept(claim.life))?);
        Ok(claim.life)
    }

    #[test]
    fn the_disk_goes_on_from_start_to_start() {
        let (mut file, mut folder) = (None, None);
        for boot in 1..=5 {
            assert_eq!(start(&mut file, &mut folder, boot).unwrap().number, boot);
        }
        assert_eq!(
            file,
            Some(Lineage {
                life: folder.unwrap(),
                before: folder.map(|life| Life { number: 4, boot: life.boot - 1 }),
                settled: true
            })
        );
    }

    #[test]
    fn a_copy_is_refused_once_the_original_went_on_and_an_original_once_its_copy_did() {
        let (mut file, mut folder) = (None, None);
        start(&mut file, &mut folder, 1).unwrap();
        let mut copy = folder;
        let life = start(&mut file, &mut folder, 2).unwrap();
        assert_eq!(start(&mut file, &mut copy, 3), Err(life));
        assert_eq!(start(&mut file, &mut folder, 4).unwrap().number, 3);
        // The original is gone for good: a copy of its last state is the disk, and never again the original.
        let mut copy = folder;
        let life = start(&mut file, &mut copy, 5).unwrap();
        assert_eq!(start(&mut file, &mut folder, 6), Err(life));
        assert_eq!(start(&mut file, &mut copy, 7).unwrap().number, 5);
    }

    #[test]
    fn a_new_life_in_one_process_leaves_copies_of_it_behind() {
        let (mut file, mut folder) = (None, None);
        let life = start(&mut file, &mut folder, 1).unwrap();
        let mut copy = folder;
        let renewed = Claim { had: Some(life), life: Life { number: 2, boot: 1 } };
        file = Some(Lineage::step(file, renewed).unwrap());
        file = Some(Lineage::step(file, kept(renewed.life)).unwrap());
        assert_eq!(start(&mut file, &mut copy, 9), Err(renewed.life));
        // What the process said before comes late.
        assert_eq!(Lineage::step(file, kept(life)), Err(renewed.life));
        folder = Some(renewed.life);
        assert_eq!(start(&mut file, &mut folder, 2).unwrap().number, 3);
    }

    #[test]
    fn a_disk_without_a_life_and_one_ahead_of_the_catalog_are_let_in() {
        let (mut file, mut folder) = (None, None);
        start(&mut file, &mut folder, 1).unwrap();
        let old_catalog = file;
        start(&mut file, &mut folder, 2).unwrap();
        file = old_catalog;
        assert_eq!(start(&mut file, &mut folder, 3).unwrap().number, 3);
        assert_eq!(start(&mut file, &mut None, 4).unwrap().number, 1);
    }

    /// Crashes at every step, messages lost behind every step, catalogs that answer late: the one honest disk is never refused.
    #[test]
    fn the_honest_disk_is_let_in_after_a_crash_at_any_point() {
        let mut dice = Dice::new(11);
        for _ in 0..2_000 {
            let (mut file, mut folder): (Option<Lineage>, Folder) = (None, None);
            for boot in 1..=12 {
                let mut life = Life::after(folder, boot);
                for _ in 0..dice.below(4) {
                    let claim = Claim { had: folder, life };
                    let next = Lineage::step(file, claim).unwrap_or_else(|known| panic!("{claim:?}: {known}"));
                    // Asked again it changes nothing more.
                    assert_eq!(Lineage::step(Some(next), claim), Ok(next));
                    if dice.chance(1, 4) {
                        break;
                    }
                    file = Some(next);
                    match dice.below(4) {
                        0 => {}
                        1 => break,
                        _ => folder = Some(life),
                    }
                    if folder == Some(life) && dice.chance(1, 3) {
                        life.number += 1;
                    }
                }
            }
        }
    }
}
