//! The order of stores past the caches, outside the loops that make them.

/// Orders all stores past the caches that this thread has made before all its later stores.
pub(crate) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64.
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
}
