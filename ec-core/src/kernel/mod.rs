//! Sums of products over GF(2^8), as fast as this CPU can: all that encoding and decoding do to bytes.
//!
//! A [`Kernel`] is a way to compute, chosen once: by detection, by [`KERNEL_VARIABLE`], and only after it has
//! reproduced every product of the field and known parities. A [`Transform`] is a matrix prepared for one kernel; it is made once per code
//! or erasure pattern and applied to many buffers.
//!
//! This module and the page-aligned buffer hold all the unsafe code of the crate. Buffers are checked in `transform`;
//! only after that does a CPU family see a pointer.
//!
//! ```
//! use ec_core::{Kernel, Matrix, Transform};
//!
//! let sum_of_both = Matrix::from_fn(1, 2, |_, _| 1);
//! let mut parity = [0; 3];
//! Transform::new(Kernel::selected()?, &sum_of_both)?.apply(&[&[1, 2, 3], &[4, 4, 4]], &mut [&mut parity])?;
//! assert_eq!(parity, [5, 6, 7]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod dense;
mod divide;
mod family;
#[cfg(feature = "wide")]
pub(crate) mod gf16;
mod lanes;
mod lch;
mod memory;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod nibble;
mod portable;
mod self_test;
mod syndrome;
#[cfg(test)]
pub(crate) mod tests;
mod transform;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use memory::{LINE_BYTES, fence, prefetch};
pub(crate) use syndrome::Syndromes;
pub use transform::{Locality, SIDE_MAX, Transform};

use crate::error::KernelError;
use family::Family;
use portable::Portable;
use std::sync::OnceLock;

/// The environment variable that names the kernel to use. Unset or empty: the fastest.
pub const KERNEL_VARIABLE: &str = "NINEFOLD_KERNEL";

/// A way to compute, chosen once at run time. Made only by detection, so whoever holds one may run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Backend);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    #[cfg(target_arch = "x86_64")]
    Avx512Gfni(x86::Avx512Gfni),
    #[cfg(target_arch = "x86_64")]
    Avx2Gfni(x86::Avx2Gfni),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    Ssse3(x86::Ssse3),
    #[cfg(target_arch = "aarch64")]
    Neon(aarch64::Neon),
    Portable(Portable),
}

/// What a kernel multiplies with. Two kernels that share it would share its faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Multiplier {
    #[cfg(target_arch = "x86_64")]
    AffineInstruction,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    NibbleShuffle,
    ProductTable,
    LogarithmTable,
}

impl Kernel {
    const PORTABLE_LOG: Self = Self(Backend::Portable(Portable::Logarithms));

    /// Every kernel this CPU can run, fastest first, the portable one last.
    pub fn available() -> Vec<Self> {
        let detected = [
            #[cfg(target_arch = "x86_64")]
            x86::Avx512Gfni::detect().map(Backend::Avx512Gfni),
            #[cfg(target_arch = "x86_64")]
            x86::Avx2Gfni::detect().map(Backend::Avx2Gfni),
            #[cfg(target_arch = "x86_64")]
            x86::Avx2::detect().map(Backend::Avx2),
            #[cfg(target_arch = "x86_64")]
            x86::Ssse3::detect().map(Backend::Ssse3),
            #[cfg(target_arch = "aarch64")]
            aarch64::Neon::detect().map(Backend::Neon),
            Some(Self::portable().0),
        ];
        detected.into_iter().flatten().map(Self).collect()
    }

    /// The fastest kernel, or the one [`KERNEL_VARIABLE`] names. The first call decides, and tests it and [`Kernel::another`],
    /// which is to check what it computes; later calls repeat the answer, good or bad.
    pub fn selected() -> Result<Self, KernelError> {
        static SELECTED: OnceLock<Result<Kernel, KernelError>> = OnceLock::new();
        SELECTED
            .get_or_init(|| {
                let name = std::env::var_os(KERNEL_VARIABLE).map(|name| name.to_string_lossy().into_owned());
                let kernel = choose(name.as_deref(), &Self::available())?;
                kernel.self_test_of_bytes()?;
                Ok(kernel)
            })
            .clone()
    }

    /// All tests that a program with this kernel goes through: this one and [`Kernel::another`], and with the feature `wide` what
    /// goes with it over GF(2^16). [`Kernel::selected`] and the first wide code do so by themselves.
    ///
    /// # Errors
    /// [`KernelError::SelfTest`] with the name of the one that is wrong.
    pub fn self_test(self) -> Result<(), KernelError> {
        self.self_test_of_bytes()?;
        #[cfg(feature = "wide")]
        gf16::Gf16Kernel::beside(self).self_test()?;
        Ok(())
    }

    fn self_test_of_bytes(self) -> Result<(), KernelError> {
        let known = self_test::Known::new();
        self_test::self_test(self, &known)?;
        self_test::self_test(self.another(), &known)
    }

    /// The kernel that runs everywhere.
    pub fn portable() -> Self {
        Self(Backend::Portable(Portable::Products))
    }

    /// A kernel to check this one by: the fastest of the slower ones that multiplies by other means. Below the portable
    /// one there is `portable-log`, and for that one the portable one.
    pub fn another(self) -> Self {
        let mut slower = Self::available();
        slower.push(Self::PORTABLE_LOG);
        slower
            .into_iter()
            .skip_while(|kernel| *kernel != self)
            .find(|kernel| kernel.multiplier() != self.multiplier())
            .unwrap_or(Self::portable())
    }

    /// Its name: that of [`KERNEL_VARIABLE`], but for `portable-log`, which [`Kernel::another`] gives and nobody can choose.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(_) => "avx512-gfni",
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2Gfni(_) => "avx2-gfni",
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Backend::Ssse3(_) => "ssse3",
            #[cfg(target_arch = "aarch64")]
            Backend::Neon(_) => "neon",
            Backend::Portable(Portable::Products) => "portable",
            Backend::Portable(Portable::Logarithms) => "portable-log",
        }
    }

    /// `target += coefficient * source` for rows of coefficients; as many elements as the shorter one has.
    #[inline]
    pub(crate) fn add_scaled(self, target: &mut [u8], source: &[u8], coefficient: u8) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(family) => family.add_scaled(target, source, coefficient),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2Gfni(family) => family.add_scaled(target, source, coefficient),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(family) => family.add_scaled(target, source, coefficient),
            #[cfg(target_arch = "x86_64")]
            Backend::Ssse3(family) => family.add_scaled(target, source, coefficient),
            #[cfg(target_arch = "aarch64")]
            Backend::Neon(family) => family.add_scaled(target, source, coefficient),
            Backend::Portable(family) => family.add_scaled(target, source, coefficient),
        }
    }

    fn multiplier(self) -> Multiplier {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(_) | Backend::Avx2Gfni(_) => Multiplier::AffineInstruction,
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(_) | Backend::Ssse3(_) => Multiplier::NibbleShuffle,
            #[cfg(target_arch = "aarch64")]
            Backend::Neon(_) => Multiplier::NibbleShuffle,
            Backend::Portable(Portable::Products) => Multiplier::ProductTable,
            Backend::Portable(Portable::Logarithms) => Multiplier::LogarithmTable,
        }
    }
}

fn choose(name: Option<&str>, available: &[Kernel]) -> Result<Kernel, KernelError> {
    let found = match name {
        None | Some("") => available.first(),
        Some(name) => available.iter().find(|kernel| kernel.name() == name),
    };
    found.copied().ok_or_else(|| KernelError::Unavailable {
        name: name.unwrap_or_default().to_owned(),
        available: available.iter().map(|kernel| kernel.name()).collect::<Vec<_>>().join(", "),
    })
}
