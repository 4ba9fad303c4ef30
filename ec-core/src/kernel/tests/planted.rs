//! A wrong kernel is refused where users ask for one. What was decided is kept for the life of a process, so each fault is planted
//! in a process of its own.

use super::*;
use std::process::Command;

/// In a process with it, what it names gives wrong bytes: a kernel, or a way to compute over GF(2^16).
const FAULT_VARIABLE: &str = "NINEFOLD_TEST_FAULT";

static FAULT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(FAULT_VARIABLE).ok());

pub(crate) fn spoil(name: &str, outputs: &mut [&mut [u8]]) {
    if FAULT.as_deref() == Some(name)
        && let Some(byte) = outputs.last_mut().and_then(|output| output.last_mut())
    {
        *byte ^= 0x10;
    }
}

/// Nothing by itself: what the other tests of this file start.
#[test]
fn in_a_process_with_a_fault_the_door_is_shut() {
    let Some(fault) = FAULT.as_deref() else { return };
    let by_name = |name: &str| Err(KernelError::SelfTest { name: known(name) });
    if fault.starts_with("gf16") {
        #[cfg(feature = "wide")]
        {
            let kernel = Kernel::selected().unwrap();
            let refused = gf16::Gf16Kernel::of(kernel).map(|_| ());
            assert_eq!(refused, by_name(gf16::Gf16Kernel::beside(kernel).name()));
            assert_eq!(kernel.self_test(), refused);
        }
        return;
    }
    assert_eq!(Kernel::selected().map(|_| ()), by_name(fault));
    let code = crate::Code::new(&"rs:4+2".parse().unwrap());
    assert!(matches!(code, Err(crate::CodeError::Kernel(KernelError::SelfTest { .. }))));
}

fn known(name: &str) -> &'static str {
    kernels().into_iter().map(Kernel::name).find(|it| *it == name).unwrap()
}

fn is_refused_with(fault: &str) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kernel::tests::planted::in_a_process_with_a_fault_the_door_is_shut"])
        .env(FAULT_VARIABLE, fault)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success() && said.contains("1 passed"), "{fault}: {said}");
}

#[test]
fn a_wrong_kernel_and_a_wrong_one_to_check_it_by_are_refused() {
    let kernel = Kernel::selected().unwrap();
    is_refused_with(kernel.name());
    is_refused_with(kernel.another().name());
}

#[cfg(feature = "wide")]
#[test]
fn a_wrong_kernel_for_wide_codes_is_refused() {
    is_refused_with("gf16-matrix");
    is_refused_with("gf16-passes");
}
