//! corepath: multipath I/O in one static binary without libc.
//!
//! A pure core in a thin shell. The engine never makes a system call, reads no clock and allocates nothing; the shell holds one
//! kind of system call per file and no policy; the apps compose them. `ls src` is the architecture, ARCHITECTURE.md says why.
//!
//! ```text
//!   apps --> engine --> conf --> model          apps --> shell (sysfs, dmioctl, sgio, ...) --> wire --> model
//! ```
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod fault;
pub mod model;
pub mod order;

pub mod conf;
pub mod engine;
pub mod failback;
pub mod wire;

// The shell: one kind of system call each, no policy.
pub mod arena;
pub mod console;
pub mod devlinks;
pub mod diskread;
pub mod dmioctl;
pub mod files;
pub mod inotify;
pub mod klog;
pub mod lockdown;
pub mod loopdev;
pub mod netlink;
pub mod raw;
pub mod sgio;
pub mod sock;
pub mod sysfs;
pub mod wait;
pub mod workers;

pub mod apps;
