//! One file per applet: compose shell and engine, print. May use everything but rustix and unsafe.

use core::ffi::CStr;

/// Most arguments one call may have; more are refused, never cut.
pub const MAX_ARGS: usize = 256;
/// Most environment entries that are looked at.
pub const MAX_ENV: usize = 512;

/// How the program was started.
pub struct Invocation<'a> {
    /// Arguments, the program's own name first.
    pub args: &'a [&'a CStr],
    /// `NAME=value` entries.
    pub env: &'a [&'a CStr],
    /// False when there were more than [`MAX_ARGS`] arguments.
    pub complete: bool,
}

/// Runs the applet that the arguments name; the value is the exit status.
pub fn main(invocation: &Invocation<'_>) -> i32 {
    if invocation.args.is_empty() { 1 } else { 0 }
}
