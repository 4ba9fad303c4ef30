//! Which kernel is used.

use super::*;

#[test]
fn a_kernel_is_chosen_by_name_or_by_rank() {
    let available = Kernel::available();
    assert_eq!(available.last(), Some(&Kernel::portable()));
    for unset in [None, Some("")] {
        assert_eq!(choose(unset, &available), Ok(available[0]));
    }
    for &kernel in &available {
        assert_eq!(choose(Some(kernel.name()), &available), Ok(kernel));
    }
    for unknown in ["abacus", "PORTABLE", "portable-log", " portable"] {
        let names = available.iter().map(|kernel| kernel.name()).collect::<Vec<_>>().join(", ");
        let error = KernelError::Unavailable { name: unknown.into(), available: names };
        assert_eq!(choose(Some(unknown), &available), Err(error));
    }
    let error = choose(Some("avx512-gfni"), &[Kernel::portable()]).unwrap_err();
    assert_eq!(error, KernelError::Unavailable { name: "avx512-gfni".into(), available: "portable".into() });
}

#[test]
fn the_selected_kernel_is_the_one_the_environment_asks_for() {
    let name = std::env::var(KERNEL_VARIABLE).ok();
    assert_eq!(Kernel::selected(), choose(name.as_deref(), &Kernel::available()));
    assert_eq!(Kernel::selected(), Kernel::selected());
}

#[test]
fn another_kernel_multiplies_by_other_means() {
    for kernel in kernels() {
        let another = kernel.another();
        assert_ne!(another.multiplier(), kernel.multiplier(), "{} and {}", kernel.name(), another.name());
    }
    assert_eq!(Kernel::portable().another().name(), "portable-log");
    assert_eq!(Kernel::PORTABLE_LOG.another(), Kernel::portable());
    for gfni in Kernel::available().into_iter().filter(|kernel| kernel.name().ends_with("gfni")) {
        assert_eq!(gfni.another().name(), "avx2");
    }
}
