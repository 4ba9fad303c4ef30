//! The file of a node's index, hurt in places.

use crate::{Input, bounded};
use repair_core::id::ExtentKey;
use repair_core::node::Body;
use repair_core::wire::node::FragmentKey;
use repair_daemon::store::{Index, examine_index};
use std::sync::LazyLock;

const RECORDS: u128 = 40;

/// Sound files, pages and sums, and the fragments that they have records of.
static SOUND: LazyLock<(Vec<u8>, Vec<u8>, Vec<FragmentKey>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("index.redb");
    let index = Index::open(&path);
    let fragments: Vec<FragmentKey> = (0..RECORDS).map(fragment).collect();
    fragments.iter().for_each(|fragment| index.put(*fragment, &record(fragment)));
    drop(index);
    let read = |path| std::fs::read(path).expect("a file of an index that was closed");
    (read(path.clone()), read(path.with_extension("sums")), fragments)
});

fn fragment(number: u128) -> FragmentKey {
    FragmentKey { extent: ExtentKey(number << 70 | 9), generation: 1, index: 3 }
}

fn record(fragment: &FragmentKey) -> Vec<u8> {
    fragment.extent.0.to_le_bytes().repeat(60 + (fragment.extent.0 >> 70) as usize)
}

/// Patches of sound files: bits of the sums (2), then of the pages: where, how many bytes, and those. Behind a first byte of 255, the pages themselves.
/// What is found is what was put, whatever was hurt.
pub fn store_index(bytes: &[u8]) {
    let (pages, sums, fragments) = &*SOUND;
    let bytes = bounded(bytes);
    let (hurt_pages, hurt_sums) = match bytes.split_first() {
        Some((255, file)) => (file.to_vec(), sums.clone()),
        Some((0..64, patches)) => (pages.clone(), patched(sums, patches)),
        _ => (patched(pages, bytes), sums.clone()),
    };
    match examine_index(&hurt_pages, &hurt_sums, fragments) {
        Some(found) => {
            for (fragment, found) in fragments.iter().zip(found) {
                assert_eq!(found, Some(Body::from(record(fragment))), "{fragment:?}");
            }
        }
        None => assert!(hurt_pages != *pages || hurt_sums != *sums, "a sound index"),
    }
}

fn patched(sound: &[u8], patches: &[u8]) -> Vec<u8> {
    let mut file = sound.to_vec();
    let mut input = Input(patches);
    while !input.is_empty() {
        // Pages that are used lie near the beginning, so half of all patches do.
        let far = input.byte();
        let at = if far & 1 == 0 { input.below(1 << 13) } else { input.below(1 << 16) << 6 | usize::from(far >> 2) };
        for _ in 0..=input.byte() % 16 {
            let byte = input.byte();
            if let Some(place) = file.get_mut(at % sound.len()..).and_then(<[u8]>::first_mut) {
                *place ^= byte;
            }
        }
        if far & 2 != 0 {
            file.truncate(file.len().saturating_sub(input.word()));
        }
    }
    file
}
