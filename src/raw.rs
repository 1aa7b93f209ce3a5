#![allow(unsafe_code)]
//! System calls that rustix has no stable interface for, and the numbers they go by on each architecture.
//!
//! Never holds policy; the shell files wrap these in safe functions. Start code and panic use `exit_group` and `write`.
//!
//! # Safety
//! One asm block per architecture; everything above it passes integers and pointers whose validity its caller states.

use crate::fault::Errno;
/// Descriptors, for the rooms that may hold but not make them.
pub use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The largest page this architecture's kernels may have.
pub const LARGEST_PAGE: usize = if cfg!(target_arch = "x86_64") { 4096 } else { 64 * 1024 };

#[cfg(target_arch = "x86_64")]
pub mod nr {
    pub const WRITE: usize = 1;
    pub const IOCTL: usize = 16;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const CLONE: usize = 56;
    pub const EXIT: usize = 60;
    pub const PRCTL: usize = 157;
    pub const SCHED_SETSCHEDULER: usize = 144;
    pub const EXIT_GROUP: usize = 231;
    pub const SIGNALFD4: usize = 289;
    pub const SECCOMP: usize = 317;
    pub const GETSOCKOPT: usize = 55;
    pub const FINIT_MODULE: usize = 313;
}

#[cfg(target_arch = "aarch64")]
pub mod nr {
    pub const WRITE: usize = 64;
    pub const IOCTL: usize = 29;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const CLONE: usize = 220;
    pub const EXIT: usize = 93;
    pub const PRCTL: usize = 167;
    pub const SCHED_SETSCHEDULER: usize = 119;
    pub const EXIT_GROUP: usize = 94;
    pub const SIGNALFD4: usize = 74;
    pub const SECCOMP: usize = 277;
    pub const GETSOCKOPT: usize = 209;
    pub const FINIT_MODULE: usize = 273;
}

/// One system call; the kernel's value or negative errno.
///
/// # Safety
/// The arguments must be valid for system call `number`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn syscall6(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the clobbers are those of the syscall instruction.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// One system call; the kernel's value or negative errno.
///
/// # Safety
/// The arguments must be valid for system call `number`.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub unsafe fn syscall6(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the arguments.
    unsafe {
        core::arch::asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f, options(nostack));
    }
    result
}

/// Ends the whole process.
pub fn exit_group(code: i32) -> ! {
    // SAFETY: exit_group takes an integer and does not return.
    unsafe { syscall6(nr::EXIT_GROUP, code as usize, 0, 0, 0, 0, 0) };
    loop {
        core::hint::spin_loop();
    }
}

/// Best effort write to a descriptor number: for the panic handler, which may not rely on anything else.
pub fn write_best_effort(fd: i32, bytes: &[u8]) {
    // SAFETY: the pointer and length are those of a live slice.
    unsafe { syscall6(nr::WRITE, fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0) };
}

/// Share memory, files and signals with the caller; one process.
const CLONE_FLAGS: usize = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000; // VM FS FILES SIGHAND THREAD SYSVSEM

/// Starts a thread that calls `run(arg)` on the stack that ends at `top`.
///
/// # Safety
/// `top` is the 16-aligned end of memory that is the thread's alone for ever; `arg` means to `run` what it expects.
#[cfg(target_arch = "x86_64")]
pub unsafe fn spawn(top: *mut u8, run: extern "C" fn(usize) -> !, arg: usize) -> Result<(), Errno> {
    let result: isize;
    // SAFETY: the child runs on its own stack and never returns through this frame: it goes from clone straight into `run`.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") nr::CLONE as isize => result,
            in("rdi") CLONE_FLAGS, in("rsi") top, in("rdx") 0usize, in("r10") 0usize, in("r8") 0usize,
            in("r12") arg, in("r13") run,
            lateout("rcx") _, lateout("r11") _, options(nostack)
        );
    }
    check(result).map(|_| ())
}

/// Starts a thread that calls `run(arg)` on the stack that ends at `top`.
///
/// # Safety
/// `top` is the 16-aligned end of memory that is the thread's alone for ever; `arg` means to `run` what it expects.
#[cfg(target_arch = "aarch64")]
pub unsafe fn spawn(top: *mut u8, run: extern "C" fn(usize) -> !, arg: usize) -> Result<(), Errno> {
    let result: isize;
    // SAFETY: as on x86_64.
    unsafe {
        core::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, #0",
            "mov x30, #0",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") nr::CLONE, inlateout("x0") CLONE_FLAGS as isize => result,
            in("x1") top, in("x2") 0usize, in("x3") 0usize, in("x4") 0usize,
            in("x20") arg, in("x21") run, options(nostack)
        );
    }
    check(result).map(|_| ())
}

/// A second process, a copy of this one, which goes on from here too and is told 0. Before any thread is made.
pub fn fork() -> Result<usize, Errno> {
    const SIGCHLD: usize = 17;
    // SAFETY: without CLONE_VM the child has memory of its own and returns on a copy of this stack.
    check(unsafe { syscall6(nr::CLONE, SIGCHLD, 0, 0, 0, 0, 0) })
}

/// The kernel's convention: -4095..-1 is an error number.
pub fn check(result: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&result) { Err(Errno(-result as u16)) } else { Ok(result as usize) }
}

/// rustix's error number as ours.
pub fn errno(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error() as u16)
}

/// One ioctl with a pointer or integer argument.
///
/// # Safety
/// `argument` must be what `request` expects of the device behind `fd`: memory of the right size, live and exclusive if it is written.
pub unsafe fn ioctl(fd: BorrowedFd<'_>, request: u32, argument: usize) -> Result<usize, Errno> {
    // SAFETY: the caller vouches for the argument.
    check(unsafe { syscall6(nr::IOCTL, fd.as_raw_fd() as usize, request as usize, argument, 0, 0, 0) })
}
