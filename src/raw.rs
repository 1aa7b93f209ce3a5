#![allow(unsafe_code)]
//! System calls that rustix has no stable interface for, and the numbers they go by on each architecture.
//!
//! Never holds policy; the shell files wrap these in safe functions. Start code and panic use `exit_group` and `write`.
//!
//! # Safety
//! One asm block per architecture; everything above it passes integers and pointers whose validity its caller states.

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
