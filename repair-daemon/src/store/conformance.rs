//! What every store of fragments must do, as one function: random work beside a model, crashes in between, faults on the way.

use super::contract::{FragmentStore, Published, ReadFrom, Staged};
use super::faulty::{Fault, Faults, Faulty, is_injected};
use super::kept_model::{Keeping, content};
use super::label::Label;
use super::model::{Bytes, Model};
use repair_core::id::{CellKey, DiskId, ExtentKey, PgId};
use repair_core::node::StoreError;
use repair_core::rng::Dice;
use repair_core::wire::node::FragmentKey;
use std::ops::Range;
use std::sync::Barrier;

/// Rounds of random work in each phase: enough for every operation to meet every state of a name some times.
const ROUNDS: usize = 500;
/// A crash comes once in so many rounds.
const CRASH_EVERY: u64 = 25;
/// Few names, so that operations meet.
const EXTENTS: u64 = 4;
const GROUPS: [PgId; 2] = [PgId(7), PgId(0xffff_ffff)];
/// Empty, less than a block, around blocks, several pieces.
const LENGTHS: [usize; 8] = [0, 1, 31, 4095, 4096, 4097, 20_000, 70_001];
/// Writers that want one name at the same time.
const RACERS: usize = 4;
const RACES: u64 = 12;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{phase}, round {round}: {what}")]
pub struct Difference {
    /// In which part of the suite.
    pub phase: &'static str,
    /// In which round; the same seed comes to the same one, but for races.
    pub round: usize,
    /// What was expected and what was found.
    pub what: String,
}

/// Runs random work, by `seed`, on stores that `make` makes, each empty and apart from the others. `reopen` closes a store and opens it again,
/// however the caller likes to: an orderly end or a crash, for what was made durable must be there after either.
///
/// Checked: the promises of [`FragmentStore`], with pieces in any order where the store takes them so, stages left at any point, reads behind
/// the end, listings in pages, crashes; then all of it once more behind a medium that fails, before and after it did what it was asked; then several
/// writers and a reader of one name. Not checked: a full store ([`super::conformance_full`] does that) and one that went away
/// ([`conformance_away`]).
///
/// # Errors
/// The first [`Difference`].
pub fn conformance<S: FragmentStore>(
    mut make: impl FnMut() -> S,
    mut reopen: impl FnMut(S) -> S,
    seed: u64,
) -> Result<(), Difference> {
    let dice = Dice::new(seed).child("store-conformance", 0);
    let fails = Faults::default().with(Fault::Eio, 30).with(Fault::NoSpace, 40).with(Fault::FailedSync, 40);
    for (phase, faults) in [("alone", Faults::default()), ("behind faults", fails)] {
        let store = Faulty::new(make(), Faults::default(), seed);
        let mut kit = Kit { store, dice: dice.child(phase, 0), model: Model::default(), kept: Keeping::default() };
        let difference = |round: usize| move |what: String| Difference { phase, round, what };
        let label = kit.check_label().map_err(difference(0))?;
        kit.store.set_faults(faults);
        for round in 0..ROUNDS {
            if kit.dice.chance(1, CRASH_EVERY) || kit.store.broken().is_some() {
                kit = kit.crash(&mut reopen);
            }
            kit.round().map_err(difference(round))?;
        }
        kit.store.set_faults(Faults::default());
        kit = kit.crash(&mut reopen);
        kit.check_all(label).map_err(difference(ROUNDS))?;
    }
    let difference = |what: String| Difference { phase: "at once", round: 0, what };
    race(&make(), &dice).map_err(difference)
}

/// Holds a store to its fourth promise. `take_away` makes the medium of a store with something in it vanish or fail: an unmounted disk, a bucket that is
/// gone, a connection that is cut. From then on it must not say that anything is not there, nor that nothing is.
///
/// # Errors
/// The first [`Difference`].
pub fn conformance_away<S: FragmentStore>(store: &S, take_away: impl FnOnce(&S)) -> Result<(), Difference> {
    let difference = |what: String| Difference { phase: "away", round: 0, what };
    let fragment = name(GROUPS[0], 0, 0);
    let put = || -> Result<(), StoreError> {
        let mut stage = store.begin(1)?;
        stage.write_at(0, &[1])?;
        stage.seal(1)?;
        let _ = stage.publish(fragment)?;
        store.sync(GROUPS[0])
    };
    put().map_err(|error| difference(format!("before it went away: {error}")))?;
    take_away(store);
    let absent = name(GROUPS[0], 1, 0);
    let answers = [
        ("probe", store.probe()),
        ("begin", store.begin(1).map(drop)),
        ("read", store.read(absent, 0, &mut [0], ReadFrom::Device)),
        ("length", store.length(absent).map(drop)),
        ("list", store.list(GROUPS[0], None, 9).map(drop)),
        ("list of another group", store.list(GROUPS[1], None, 9).map(drop)),
        ("set aside", store.set_aside(absent, "conformance")),
    ];
    match answers.iter().find(|(_, answer)| !matches!(answer, Err(StoreError::Io(_)))) {
        Some((what, answer)) => Err(difference(format!("{what}: {answer:?}, nothing can be said"))),
        None => Ok(()),
    }
}

/// A fragment's name, by small numbers.
pub(super) fn name(pg: PgId, extent: u64, index: u16) -> FragmentKey {
    FragmentKey { extent: ExtentKey::compose(CellKey(5 << 90), pg, 1, extent), generation: 1, index }
}

fn painted(dice: &mut Dice, length: usize) -> Bytes {
    // 251 is prime: shifted pieces do not look alike.
    let first = dice.below(251) as usize;
    (0..length).map(|at| ((first + at) % 251) as u8).collect()
}

/// An error of the store itself ends the suite; one that was put in its way does not.
fn only_injected(what: &str, error: &StoreError) -> Result<(), String> {
    if is_injected(error) { Ok(()) } else { Err(format!("{what}: {error}")) }
}

struct Kit<S> {
    store: Faulty<S>,
    dice: Dice,
    model: Model,
    kept: Keeping,
}

impl<S: FragmentStore> Kit<S> {
    fn crash(self, reopen: &mut impl FnMut(S) -> S) -> Self {
        let Self { store, dice, mut model, kept } = self;
        model.crashed();
        Self { store: store.reopen(reopen), dice, model, kept }
    }

    fn check_label(&mut self) -> Result<Label, String> {
        let text = |error: StoreError| format!("label: {error}");
        let disk = match self.store.label().map_err(text)? {
            Some(label) => label.disk,
            None => DiskId(self.dice.wide()),
        };
        let label = Label { disk, cell: Some(CellKey(5 << 90)) };
        for label in [Label { cell: None, ..label }, label, label] {
            self.store.set_label(label).map_err(text)?;
            expect("label", &self.store.label().map_err(text)?, &Some(label))?;
        }
        let others = [Label { disk: DiskId(!disk.0), ..label }, Label { cell: Some(CellKey(1)), ..label }];
        for other in others {
            let refused = self.store.set_label(other);
            if !matches!(refused, Err(StoreError::Invalid(_))) {
                return Err(format!("{other:?} over {label:?}: {refused:?}"));
            }
        }
        Ok(label)
    }

    fn pick(&mut self) -> FragmentKey {
        let pg = GROUPS[self.dice.below(2) as usize];
        name(pg, self.dice.below(EXTENTS), self.dice.below(2) as u16)
    }

    fn round(&mut self) -> Result<(), String> {
        let fragment = self.pick();
        match self.dice.below(16) {
            0..6 => self.put(fragment),
            6..10 => self.read(fragment),
            10 | 11 => self.list(fragment.extent.pg()),
            12 | 13 => self.set_aside(fragment),
            14 if self.dice.chance(1, 2) => self.purge(fragment),
            14 => self.keep(fragment),
            _ => self.sync(fragment.extent.pg()),
        }
    }

    fn put(&mut self, fragment: FragmentKey) -> Result<(), String> {
        let length = *self.dice.pick(&LENGTHS).unwrap_or(&0);
        let bytes = painted(&mut self.dice, length);
        match self.staged(&bytes) {
            Ok(Some(mut stage)) => self.publish(&mut *stage, fragment, &bytes),
            Ok(None) => Ok(()),
            Err((what, error)) => only_injected(what, &error),
        }
    }

    /// A sealed stage of these bytes; none where it was left, as a client that goes away leaves it.
    fn staged(&mut self, bytes: &Bytes) -> Result<Option<Box<dyn Staged>>, (&'static str, StoreError)> {
        let more = self.dice.below(3) * 3000;
        let length = bytes.len() as u64;
        let mut stage = self.store.begin(length + more).map_err(|error| ("begin", error))?;
        let mut pieces: Vec<(usize, &[u8])> = bytes.chunks(9000).enumerate().collect();
        if self.store.capabilities().in_place_writes {
            self.dice.shuffle(&mut pieces);
        }
        for (number, piece) in pieces {
            stage.write_at(number as u64 * 9000, piece).map_err(|error| ("write", error))?;
            if self.dice.chance(1, 40) {
                return Ok(None);
            }
        }
        if self.dice.chance(1, 12) {
            return self.refused_unsealed(stage).map(|()| None);
        }
        stage.seal(length).map_err(|error| ("seal", error))?;
        let mut read = vec![0; bytes.len()];
        stage.read_back(0, &mut read).map_err(|error| ("read back", error))?;
        if read != bytes[..] {
            return Err(("read back", StoreError::Invalid("other bytes than were written".into())));
        }
        match self.dice.below(12) {
            0 => Ok(None),
            1 => match stage.write_at(0, &[1; 1]) {
                Ok(()) => Err(("write", StoreError::Invalid("a sealed stage was written to".into()))),
                Err(_) => Ok(None),
            },
            _ => Ok(Some(stage)),
        }
    }

    /// Opens what is kept under a name, holds what is there against what came, writes some more, and leaves it, drops it, or gives it its name.
    fn keep(&mut self, fragment: FragmentKey) -> Result<(), String> {
        let identity = [u8::from(self.dice.chance(1, 5)); 32];
        let bytes = content(fragment, identity);
        let mut stage = match self.store.begin_kept(fragment, identity, bytes.len() as u64) {
            Ok(Some(stage)) => stage,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.kept.unknown(fragment);
                return only_injected("begin kept", &error);
            }
        };
        let found = stage.found();
        self.kept.opened(fragment, identity, &found)?;
        let worked = self.work_on_kept(fragment, &mut *stage, &bytes, &found);
        drop(stage);
        match worked {
            Ok(()) => Ok(()),
            Err((what, error)) => {
                self.kept.unknown(fragment);
                only_injected(what, &error)
            }
        }
    }

    fn work_on_kept(
        &mut self,
        fragment: FragmentKey,
        stage: &mut dyn Staged,
        bytes: &Bytes,
        found: &[Range<u64>],
    ) -> Result<(), (&'static str, StoreError)> {
        for range in found {
            let mut read = vec![0; (range.end - range.start) as usize];
            stage.read_back(range.start, &mut read).map_err(|error| ("read back", error))?;
            if read != bytes[range.start as usize..range.end as usize] {
                return Err(("read back", StoreError::Invalid(format!("{range:?} of what was kept is other bytes"))));
            }
        }
        let mut pieces: Vec<(usize, &[u8])> = bytes.chunks(9000).enumerate().collect();
        self.dice.shuffle(&mut pieces);
        let some = self.dice.below(pieces.len() as u64 + 1) as usize;
        let all = self.dice.chance(1, 3);
        for (number, piece) in &pieces[..if all { pieces.len() } else { some }] {
            let offset = *number as u64 * 9000;
            stage.write_at(offset, piece).map_err(|error| ("write", error))?;
            self.kept.wrote(fragment, offset..offset + piece.len() as u64);
            if self.dice.chance(1, 3) {
                stage.checkpoint().map_err(|error| ("checkpoint", error))?;
            }
        }
        match self.dice.below(4) {
            0 => self.kept.dropped(fragment),
            1 if all => {
                self.kept.dropped(fragment);
                stage.seal(bytes.len() as u64).map_err(|error| ("seal", error))?;
                let published = self.publish(stage, fragment, bytes);
                published.map_err(|what| ("publish what was kept", StoreError::Invalid(what)))?;
            }
            _ => {
                stage.leave().map_err(|error| ("leave", error))?;
                self.kept.left(fragment);
            }
        }
        Ok(())
    }

    /// Whatever is not sealed gets no name.
    fn refused_unsealed(&mut self, mut stage: Box<dyn Staged>) -> Result<(), (&'static str, StoreError)> {
        let fragment = self.pick();
        match stage.publish(fragment) {
            Ok(_) => Err(("publish", StoreError::Invalid("a stage that is not sealed got a name".into()))),
            Err(StoreError::Invalid(_)) => Ok(()),
            Err(error) if is_injected(&error) => Ok(()),
            Err(error) => Err(("publish", error)),
        }
    }

    fn publish(&mut self, stage: &mut dyn Staged, fragment: FragmentKey, bytes: &Bytes) -> Result<(), String> {
        let is_durable = self.store.capabilities().durable_names;
        match stage.publish(fragment) {
            Ok(Published::New) => {
                self.model.observed(fragment, "published", None)?;
                self.model.published(fragment, bytes, is_durable);
                match stage.publish(fragment) {
                    Ok(other) => Err(format!("a stage that has a name was published again: {other:?}")),
                    Err(_) => Ok(()),
                }
            }
            Ok(Published::NameTaken) => {
                self.model.is_there(fragment, "the name is said to be taken")?;
                self.read(fragment)?;
                if self.dice.chance(1, 3) {
                    // What is in the way is put aside, and it is published after all.
                    self.set_aside(fragment)?;
                    return self.publish(stage, fragment, bytes);
                }
                Ok(())
            }
            Err(error) => {
                self.model.perhaps_published(fragment, bytes);
                only_injected("publish", &error)
            }
        }
    }

    fn read(&mut self, fragment: FragmentKey) -> Result<(), String> {
        let length = match self.store.length(fragment) {
            Ok(length) => length,
            Err(StoreError::NotFound) => return self.model.observed(fragment, "length", None),
            Err(error) => return only_injected("length", &error),
        };
        self.model.has_length(fragment, length)?;
        let start = self.dice.below(length + 1);
        let bytes = self.dice.below(length - start + 1);
        // Whole, or a piece.
        let (start, bytes) = if self.dice.chance(1, 2) { (0, length) } else { (start, bytes) };
        let from = if self.dice.chance(1, 2) { ReadFrom::Device } else { ReadFrom::Cache };
        // What was not filled does not look like anything written: 0xff is no byte of a painted file.
        let mut buffer = vec![0xff; bytes as usize];
        match self.store.read(fragment, start, &mut buffer, from) {
            Ok(()) => self.model.has_bytes(fragment, start as usize, &buffer)?,
            Err(error) => return only_injected("read", &error),
        }
        // One byte more than there is.
        let mut buffer = vec![0; (length - start) as usize + 1];
        match self.store.read(fragment, start, &mut buffer, from) {
            Err(StoreError::Damaged(_)) => Ok(()),
            other => Err(format!("{fragment:?} has {length} bytes; one more from {start} on: {other:?}")),
        }
    }

    fn list(&mut self, pg: PgId) -> Result<(), String> {
        let max = 1 + self.dice.below(5) as usize;
        let full = max.min(self.store.capabilities().list_max);
        let mut names: Vec<FragmentKey> = Vec::new();
        loop {
            let page = match self.store.list(pg, names.last().copied(), max) {
                Ok(page) => page,
                Err(error) => return only_injected("list", &error),
            };
            let is_last = page.len() < full;
            if page.len() > full {
                return Err(format!("{} names where {full} were asked for", page.len()));
            }
            names.extend(page);
            if !names.is_sorted_by(|one, next| one < next) {
                return Err(format!("a listing that is not in order: {names:?}"));
            }
            if is_last {
                return self.model.lists(pg, &names);
            }
        }
    }

    fn set_aside(&mut self, fragment: FragmentKey) -> Result<(), String> {
        match self.store.set_aside(fragment, "conformance") {
            Ok(()) => self.model.set_aside(fragment),
            Err(StoreError::NotFound) => self.model.nothing_to_set_aside(fragment),
            Err(error) => {
                self.model.perhaps_set_aside(fragment);
                only_injected("set aside", &error)
            }
        }
    }

    fn purge(&mut self, fragment: FragmentKey) -> Result<(), String> {
        match self.store.purge(fragment) {
            Ok(()) => self.model.purged(fragment),
            Err(error) => {
                self.model.perhaps_purged(fragment);
                return only_injected("purge", &error);
            }
        }
        Ok(())
    }

    fn sync(&mut self, pg: PgId) -> Result<(), String> {
        match self.store.sync(pg) {
            Ok(()) => self.model.synced(pg),
            Err(error) => return only_injected("sync", &error),
        }
        Ok(())
    }

    /// Everything, at the end of a phase.
    fn check_all(&mut self, label: Label) -> Result<(), String> {
        let text = |error: StoreError| format!("at the end: {error}");
        expect("label", &self.store.label().map_err(text)?, &Some(label))?;
        self.store.probe().map_err(text)?;
        let room = self.store.room().map_err(text)?;
        if room.free_bytes > room.total_bytes {
            return Err(format!("more room free than there is: {room:?}"));
        }
        for pg in GROUPS {
            self.list(pg)?;
            for extent in 0..EXTENTS {
                (0..2).try_for_each(|index| self.read(name(pg, extent, index)))?;
            }
        }
        Ok(())
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

/// Several writers of one name and a reader: one writer wins, and the reader sees nothing or the winner's bytes.
fn race<S: FragmentStore>(store: &S, dice: &Dice) -> Result<(), String> {
    for number in 0..RACES {
        let mut dice = dice.child("race", number);
        let fragment = name(GROUPS[0], number, 0);
        let start = Barrier::new(RACERS + 1);
        let contents: Vec<Bytes> = (0..RACERS).map(|racer| painted(&mut dice, 5000 + racer)).collect();
        let outcomes = std::thread::scope(|scope| {
            let run = |bytes: &Bytes| {
                let prepared = sealed(store, bytes);
                // Everybody comes to the start, or nobody would.
                start.wait();
                prepared?.publish(fragment).map_err(|error| format!("publish: {error}"))
            };
            let racers: Vec<_> = contents.iter().map(|bytes| scope.spawn(move || run(bytes))).collect();
            start.wait();
            let seen: Vec<_> = (0..20).map(|_| whole(store, fragment)).collect();
            let ended = racers.into_iter().map(|racer| racer.join().unwrap_or_else(|_| Err("a panic".into())));
            ended.collect::<Result<Vec<_>, String>>().map(|ended| (ended, seen))
        });
        let (ended, mut seen) = outcomes?;
        let winners: Vec<usize> = (0..RACERS).filter(|at| ended[*at] == Published::New).collect();
        let [winner] = winners[..] else { return Err(format!("of {RACERS} writers of one name won {winners:?}")) };
        seen.push(whole(store, fragment));
        for seen in seen {
            match seen {
                Err(StoreError::NotFound) => {}
                Ok(bytes) if bytes[..] == contents[winner][..] => {}
                other => return Err(format!("writer {winner} won, and the reader saw {:?}", other.map(|b| b.len()))),
            }
        }
    }
    Ok(())
}

pub(super) fn sealed<S: FragmentStore>(store: &S, bytes: &[u8]) -> Result<Box<dyn Staged>, String> {
    let staged = || {
        let mut stage = store.begin(bytes.len() as u64)?;
        stage.write_at(0, bytes)?;
        stage.seal(bytes.len() as u64).map(|()| stage)
    };
    staged().map_err(|error: StoreError| format!("stage: {error}"))
}

pub(super) fn whole<S: FragmentStore>(store: &S, fragment: FragmentKey) -> Result<Vec<u8>, StoreError> {
    let mut buffer = vec![0; store.length(fragment)? as usize];
    store.read(fragment, 0, &mut buffer, ReadFrom::Cache).map(|()| buffer)
}
