//! How large this CPU says its caches are.

use core::arch::x86_64::{__cpuid, __cpuid_count};

/// Bytes of a core's second-level cache. `None` where the CPU, or the hypervisor in its name, does not say.
///
/// The leaves are those of Intel (4) and AMD (8000_001D, in the same form); each leaves the other's empty.
pub(in super::super) fn second_level_bytes() -> Option<usize> {
    [(0, 4), (0x8000_0000, 0x8000_001d)].into_iter().find_map(|(range, leaf)| second_level_of(range, leaf))
}

fn second_level_of(range: u32, leaf: u32) -> Option<usize> {
    // Enough for every cache of every CPU there is; the list ends with a type of 0.
    const CACHES_MAX: u32 = 16;
    #[allow(unused_unsafe)] // Safe in newer Rust, not in the oldest that this crate is for.
    // SAFETY: every x86-64 CPU has the instruction.
    let (highest, caches) = unsafe {
        (
            __cpuid(range).eax,
            (0..CACHES_MAX).map(|cache| __cpuid_count(leaf, cache)).take_while(|it| it.eax & 0x1f != 0),
        )
    };
    if highest < leaf {
        return None;
    }
    caches.filter(|it| it.eax >> 5 & 7 == 2).map(|it| bytes(it.ebx, it.ecx)).next()
}

/// Line size, partitions, ways and sets, each less one.
fn bytes(ebx: u32, ecx: u32) -> usize {
    [ebx & 0xfff, ebx >> 12 & 0x3ff, ebx >> 22, ecx]
        .into_iter()
        .fold(1, |bytes, less_one| bytes * (less_one as usize + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_cache_are_its_size() {
        // 1 MiB with 16 ways of 1024 sets (Zen 5, as Linux says of the same words), 1.25 MiB with 20 ways (Ice Lake, by its data sheet).
        assert_eq!(bytes(15 << 22 | 63, 1023), 1 << 20);
        assert_eq!(bytes(19 << 22 | 63, 1023), 5 << 18);
    }

    #[test]
    fn what_this_cpu_says_can_be() {
        let Some(bytes) = second_level_bytes() else { return };
        assert!((64 << 10..=1 << 30).contains(&bytes), "{bytes}");
    }
}
