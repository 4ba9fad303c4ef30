//! Which of two folders with one identity is the disk: a rule that tells a disk that goes on from a copy of what it was.
//!
//! Every life of a disk has a number and the random id of the process that began it. A node that is let in by the daemon writes
//! its life durably beside its label; the catalog has the life that was let in last. Whoever comes next must show the life on
//! file. A copy that is started beside the original shows a life the original has gone on from, and so does an old image that is
//! put back: both are behind, however long the original is silent and whatever process the daemon is.
//!
//! The catalog is written first, so a crash leaves a disk that shows the life before. Until the node has said that its life is
//! stored, that one is taken too: the honest disk always goes on.
//!
//! Numbers on file never fall: only a disk that shows a higher one than was ever let in knows more than the catalog does.

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
    /// What is on file once this claim is let in; its life may have a higher number than the claim's. `is_lost` where the disk on
    /// file counts as lost.
    ///
    /// # Errors
    /// The life on file, where what claims to be the disk is not what that life went on as.
    pub fn step(on_file: Option<Self>, claim: Claim, is_lost: bool) -> Result<Self, Life> {
        let (had, life) = (claim.had, claim.life);
        let Some(known) = on_file else { return Ok(Self { life, before: had, settled: had == Some(life) }) };
        if known.life == life {
            return Ok(Self { settled: known.settled || had == Some(life), ..known });
        }
        let crashed = !known.settled && had == known.before;
        let Some(had) = had else {
            // It asked before, and did not hear the number it was let in with.
            if crashed && known.life.boot == life.boot {
                return Ok(known);
            }
            // Nothing tells this folder from a state of long ago: it takes the place of a disk, and never of one that may come back.
            let number = known.life.number.saturating_add(1);
            let next = Self { life: Life { number, ..life }, before: None, settled: false };
            return if crashed || is_lost { Ok(next) } else { Err(known.life) };
        };
        let goes_on = had == known.life
            || (known.life.boot == life.boot && known.life.number < life.number)
            || crashed
            // A catalog put back from between two crashes has the life that the first of them ended.
            || (!known.settled && had.number == known.life.number)
            // Then the catalog is the older one. That is found out and told elsewhere, and by the disks.
            || known.life.number < had.number;
        let number = life.number.max(known.life.number);
        let next = Self { life: Life { number, ..life }, before: Some(had), settled: had == life };
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
        *file = Some(Lineage::step(*file, claim, false)?);
        *folder = Some(claim.life);
        *file = Some(Lineage::step(*file, kept(claim.life), false)?);
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
        file = Some(Lineage::step(file, renewed, false).unwrap());
        file = Some(Lineage::step(file, kept(renewed.life), false).unwrap());
        assert_eq!(start(&mut file, &mut copy, 9), Err(renewed.life));
        // What the process said before comes late.
        assert_eq!(Lineage::step(file, kept(life), false), Err(renewed.life));
        folder = Some(renewed.life);
        assert_eq!(start(&mut file, &mut folder, 2).unwrap().number, 3);
    }

    #[test]
    fn a_disk_ahead_of_the_catalog_is_let_in() {
        let (mut file, mut folder) = (None, None);
        start(&mut file, &mut folder, 1).unwrap();
        let old_catalog = file;
        start(&mut file, &mut folder, 2).unwrap();
        file = old_catalog;
        assert_eq!(start(&mut file, &mut folder, 3).unwrap().number, 3);
    }

    #[test]
    fn a_folder_without_a_life_takes_the_place_of_a_lost_disk_and_is_the_disk_from_then_on() {
        let (mut file, mut original) = (None, None);
        (1..=17).for_each(|boot| _ = start(&mut file, &mut original, boot).unwrap());
        let last = original.unwrap();
        let claim = begin(None, 50);
        assert_eq!(Lineage::step(file, claim, false), Err(last), "the disk may come back");
        let taken = Lineage::step(file, claim, true).unwrap();
        assert_eq!(taken, Lineage { life: Life { number: 18, boot: 50 }, before: None, settled: false });
        // It did not hear its number, or crashed before it stored it, and is not lost any more.
        assert_eq!(Lineage::step(Some(taken), claim, false), Ok(taken));
        let again = Lineage::step(Some(taken), begin(None, 51), false).unwrap();
        assert_eq!(again.life, Life { number: 19, boot: 51 });
        for unsettled in [taken, again] {
            assert_eq!(Lineage::step(Some(unsettled), begin(original, 60), true), Err(unsettled.life));
        }
        let mut copy = Some(again.life);
        file = Some(Lineage::step(Some(again), kept(again.life), false).unwrap());
        assert_eq!(start(&mut file, &mut original, 61), Err(again.life));
        assert_eq!(start(&mut file, &mut copy, 52).unwrap().number, 20);
        assert_eq!(start(&mut file, &mut original, 62), Err(copy.unwrap()));
    }

    #[test]
    fn a_catalog_from_between_two_crashes_knows_the_disk() {
        let (mut file, mut folder) = (None, None);
        start(&mut file, &mut folder, 1).unwrap();
        // Let in, and crashed before it stored the life.
        file = Some(Lineage::step(file, begin(folder, 2), false).unwrap());
        let (kept_aside, mut copy) = (file, folder);
        start(&mut file, &mut folder, 3).unwrap();
        assert_eq!(start(&mut file, &mut copy, 8).map_err(|known| known.number), Err(2));
        file = kept_aside;
        assert_eq!(start(&mut file, &mut folder, 4).unwrap().number, 3);
        assert_eq!(start(&mut file, &mut copy, 9).map_err(|known| known.number), Err(3));
    }

    #[test]
    fn numbers_on_file_never_fall() {
        let (mut file, mut folder) = (None, None);
        (1..=5).for_each(|boot| _ = start(&mut file, &mut folder, boot).unwrap());
        let claim = Claim { had: folder, life: Life { number: 1, boot: 6 } };
        assert_eq!(Lineage::step(file, claim, false).unwrap().life, Life { number: 5, boot: 6 });
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
                    let next = Lineage::step(file, claim, false).unwrap_or_else(|known| panic!("{claim:?}: {known}"));
                    assert!(file.is_none_or(|file: Lineage| file.life.number <= next.life.number));
                    // Asked again it changes nothing more.
                    assert_eq!(Lineage::step(Some(next), claim, false), Ok(next));
                    if dice.chance(1, 4) {
                        break;
                    }
                    file = Some(next);
                    match dice.below(4) {
                        0 => {}
                        1 => break,
                        _ => {
                            life.number = next.life.number;
                            folder = Some(life);
                        }
                    }
                    if folder == Some(life) && dice.chance(1, 3) {
                        life.number += 1;
                    }
                }
            }
        }
    }
}
