//! What a store must do that has no room left.

use super::conformance::{Difference, name, sealed, whole};
use super::contract::{FragmentStore, Published, ReadFrom};
use repair_core::id::PgId;
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;

/// Of each file: a store of a few MiB takes some tens of them.
const FILE_BYTES: usize = 150_000;
/// A store that takes more than this is not a small one.
const FILES_MAX: u64 = 2_000;
/// How often what was begun is left lying: many times what a small store has room for.
const LEFT: usize = 3_000;
const PG: PgId = PgId(7);

/// Holds a small, empty store to what is promised of a full one: it says [`StoreError::NoSpace`] and nothing else, loses nothing for it, still
/// deletes, and takes as much again afterwards. Room that was reserved and not used comes back at once.
///
/// The store must have room for some MiB and little more, with nobody else taking any of it.
///
/// # Errors
/// The first [`Difference`].
pub fn conformance_full<S: FragmentStore>(store: &S) -> Result<(), Difference> {
    let difference = |round: usize| move |what: String| Difference { phase: "full", round, what };
    let mut taken = Vec::new();
    for round in 0..3 {
        leave(store).map_err(difference(round))?;
        let files = fill(store).map_err(difference(round))?;
        check(store, &files).map_err(difference(round))?;
        delete(store, &files).map_err(difference(round))?;
        taken.push(files.len());
    }
    // What the store writes for itself may take a little.
    if taken.iter().any(|files| files + 2 < taken[0]) {
        return Err(difference(taken.len())(format!("it took {taken:?} files, one time after the other")));
    }
    Ok(())
}

fn text(what: &'static str) -> impl Fn(StoreError) -> String {
    move |error| format!("{what}: {error}")
}

/// Begins far more than there is room for, each time without ending it.
fn leave<S: FragmentStore>(store: &S) -> Result<(), String> {
    for left in 0..LEFT {
        let mut stage = store.begin(FILE_BYTES as u64).map_err(text("begin, where all others were left"))?;
        if left % 100 == 0 {
            stage.write_at(0, &[1; FILE_BYTES]).map_err(text("write"))?;
        }
    }
    Ok(())
}

fn bytes_of(number: u64) -> Vec<u8> {
    vec![number as u8 ^ 0x5a; FILE_BYTES]
}

/// Publishes until there is no room. What has a name then is given back.
fn fill<S: FragmentStore>(store: &S) -> Result<Vec<FragmentKey>, String> {
    let mut files = Vec::new();
    for number in 0..FILES_MAX {
        let fragment = name(PG, number, 0);
        let put = || -> Result<Published, StoreError> {
            let mut stage = store.begin(FILE_BYTES as u64)?;
            stage.write_at(0, &bytes_of(number))?;
            stage.seal(FILE_BYTES as u64)?;
            let published = stage.publish(fragment)?;
            store.sync(PG).map(|()| published)
        };
        match put() {
            Ok(Published::New) => files.push(fragment),
            Ok(Published::NameTaken) => return Err(format!("the name of file {number} is taken")),
            Err(StoreError::NoSpace(_)) if files.is_empty() => return Err("it has no room at all".into()),
            Err(StoreError::NoSpace(_)) => return Ok(files),
            Err(error) => return Err(format!("file {number}: {error}, which is not that there is no room")),
        }
    }
    Err(format!("it took {FILES_MAX} files of {FILE_BYTES} bytes: not a small store"))
}

/// Nothing that was there is lost, what found no room is not there, and nobody is told that the store is broken.
fn check<S: FragmentStore>(store: &S, files: &[FragmentKey]) -> Result<(), String> {
    if let Some(reason) = store.broken() {
        return Err(format!("being full broke it: {reason}"));
    }
    let mut listed = Vec::new();
    loop {
        let page = store.list(PG, listed.last().copied(), 10).map_err(text("list"))?;
        let more = page.len() >= store.capabilities().list_max.min(10);
        listed.extend(page);
        if !more {
            break;
        }
    }
    if listed != files {
        return Err(format!("{} files were published, {} are listed", files.len(), listed.len()));
    }
    for (number, fragment) in files.iter().enumerate() {
        if whole(store, *fragment).map_err(text("read"))? != bytes_of(number as u64) {
            return Err(format!("file {number} is other bytes"));
        }
    }
    let absent = name(PG, files.len() as u64, 0);
    match store.read(absent, 0, &mut [0], ReadFrom::Cache) {
        Err(StoreError::NotFound) => Ok(()),
        other => Err(format!("what found no room: {other:?}")),
    }
}

/// Deletes make room, in a full store too.
fn delete<S: FragmentStore>(store: &S, files: &[FragmentKey]) -> Result<(), String> {
    for (number, fragment) in files.iter().enumerate() {
        store.set_aside(*fragment, "conformance").map_err(text("set aside, in a full store"))?;
        store.purge(*fragment).map_err(text("purge, in a full store"))?;
        if number == 0 {
            // One file went, one fits.
            drop(sealed(store, &bytes_of(0)).map_err(|error| format!("in the room of a file that is gone: {error}"))?);
        }
    }
    Ok(())
}
