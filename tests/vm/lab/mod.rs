//! The VM lab: boots Debian kernels under QEMU and drives them from a test.
//!
//! It is host-side std code; nothing of it is shipped. README.md beside this folder says how to write a scenario.
//! It never skips: what cannot be had (a tool, a kernel, a package) ends the test with a sentence that says what and why.
#![allow(dead_code)] // Every test target that includes the lab uses a part of it.

pub mod agent;
pub mod apt;
pub mod array;
pub mod build;
pub mod cpio;
pub mod disk;
pub mod host;
pub mod image;
pub mod kernel;
pub mod machine;
pub mod nbd;
pub mod peer;
pub mod pressure;
pub mod probe;
pub mod qmp;
pub mod root;
pub mod site;
pub mod target;
pub mod watched;

#[allow(unused_imports)]
pub use array::Array;
pub use kernel::Kernel;
pub use machine::{Guest, Vm};

/// How often something is repeated: `full` times when COREPATH_VM_ROUNDS says `full`, as for a release; else `few` times.
pub fn rounds(few: u32, full: u32) -> u32 {
    if std::env::var_os("COREPATH_VM_ROUNDS").is_some_and(|word| word == "full") { full } else { few }
}

/// Is this the kernel on which a scenario runs every day, or a release's run of all (`COREPATH_VM_ROUNDS=full`)? For what one kernel is
/// enough for: the lab's own soundness, programs whose judge is not the kernel, machines that boot for minutes. Left out, it is said so.
pub fn every_day(kernel: &Kernel, label: &str) -> bool {
    let runs = kernel.label == label || rounds(0, 1) == 1;
    if !runs {
        eprintln!("vm: on {} with COREPATH_VM_ROUNDS=full only", kernel.label);
    }
    runs
}

/// Lowest, middle and highest of some times, for printing.
pub fn spread(mut times: Vec<std::time::Duration>) -> String {
    times.sort_unstable();
    match (times.first(), times.get(times.len() / 2), times.last()) {
        (Some(least), Some(middle), Some(most)) => format!("{} times, {least:.1?} to {most:.1?}, median {middle:.1?}", times.len()),
        _ => "none".to_string(),
    }
}

/// Writes one test per kernel for a scenario: `scenario! { fn name(kernel) { ... } }` becomes the tests
/// `name::on_6_1` and `name::on_6_12`. A kernel that COREPATH_VM_KERNELS leaves out on purpose is said so on stderr.
#[macro_export]
macro_rules! scenario {
    ($(#[$meta:meta])* fn $name:ident($kernel:ident) $body:block) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$meta])*
            fn scenario($kernel: &$crate::lab::Kernel) $body

            #[test]
            fn on_6_1() {
                $crate::lab::kernel::with("6.1", scenario);
            }

            #[test]
            fn on_6_12() {
                $crate::lab::kernel::with("6.12", scenario);
            }
        }
    };
}
