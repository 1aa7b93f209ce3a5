//! From the kernel's hand-off to `apps::main`: relocation and stack switch (assembly per architecture), RELRO, stack guard, argument
//! vector, panic. Belongs to the executable only; the library and its tests start as std programs do.
//!
//! # Safety
//! Runs once, before any other thread exists. The initial stack is laid out by the kernel (binfmt_elf.c: argc, argv, 0, envp, 0, auxv).

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use core::cell::UnsafeCell;
use core::ffi::CStr;
use corepath::apps;
use corepath::raw::{self, LARGEST_PAGE};

/// Bytes of the main stack, guard page included. Fixed and part of the image, so that mlockall holds all of it.
/// A daemon's start takes 121 KB of it, the one-shot commands that read the live maps some more. Unoptimised code keeps a copy of every
/// value it moves.
const MAIN_STACK_SIZE: usize = if cfg!(debug_assertions) { 2 << 20 } else { 160 * 1024 };

/// What the kernel maps below the arguments of a new process at most (stack_expand in fs/exec.c).
const KERNEL_STACK: usize = 128 * 1024;

/// Memory that only the stack pointer refers to.
#[repr(C, align(4096))]
struct Stack<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: never borrowed; the assembly takes its end as the main thread's stack.
unsafe impl<const N: usize> Sync for Stack<N> {}

static MAIN_STACK: Stack<MAIN_STACK_SIZE> = Stack(UnsafeCell::new([0; MAIN_STACK_SIZE]));

/// Prebuilt libcore objects refer to it in debug builds; with panic=abort nothing calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above: referred to, never called.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    raw::exit_group(101)
}

#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    file_size: u64,
    mem_size: u64,
    align: u64,
}

/// Makes PT_GNU_RELRO read-only: ld.so would have, but there is none.
unsafe fn seal_relro(ehdr: *const u8) {
    const ET_DYN: u16 = 3;
    const PT_GNU_RELRO: u32 = 0x6474_e552;
    // SAFETY: `ehdr` is our own ELF header, mapped with the program headers in the first segment.
    unsafe {
        let bias = if ehdr.add(16).cast::<u16>().read() == ET_DYN { ehdr as usize } else { 0 };
        let headers = ehdr.add(ehdr.add(32).cast::<u64>().read() as usize).cast::<ProgramHeader>();
        let count = ehdr.add(56).cast::<u16>().read() as usize;
        for i in 0..count {
            let header = &*headers.add(i);
            if header.kind == PT_GNU_RELRO && header.mem_size != 0 {
                let start = (bias + header.vaddr as usize) & !4095;
                let end = (bias + (header.vaddr + header.mem_size) as usize) & !4095;
                if end > start {
                    let _ = rustix::mm::mprotect(start as *mut _, end - start, rustix::mm::MprotectFlags::READ);
                }
            }
        }
    }
}

/// Collects NUL-terminated strings from a NULL-terminated vector; `false` when there were more than fit.
unsafe fn collect(mut vector: *const *const core::ffi::c_char, into: &mut heapless::VecView<&'static CStr>) -> bool {
    // SAFETY: the caller passes argv or envp of the initial stack, which lives as long as the process.
    unsafe {
        while !(*vector).is_null() {
            if into.push(CStr::from_ptr(*vector)).is_err() {
                return false;
            }
            vector = vector.add(1);
        }
    }
    true
}

unsafe extern "C" fn entry(sp: *const usize, ehdr: *const u8) -> ! {
    let mut args = heapless::Vec::<&'static CStr, { apps::MAX_ARGS }>::new();
    let mut env = heapless::Vec::<&'static CStr, { apps::MAX_ENV }>::new();
    // SAFETY: the assembly passes the initial stack and our own ELF header; no other thread exists yet.
    let complete = unsafe {
        seal_relro(ehdr);
        // The kernel's stack below its arguments is never used again, and would be locked with the rest. Nothing else is near it.
        let used = sp as usize & !(LARGEST_PAGE - 1);
        let _ = rustix::mm::munmap((used - KERNEL_STACK) as *mut _, KERNEL_STACK);
        let _ = rustix::mm::mprotect(MAIN_STACK.0.get().cast(), 4096, rustix::mm::MprotectFlags::empty());
        let argv = sp.add(1).cast();
        let envp: *const *const core::ffi::c_char = sp.add(1 + *sp + 1).cast();
        // Where the vDSO is. rustix would find it by itself, with a kilobyte of code that asks the kernel.
        rustix::param::init(envp.cast_mut().cast());
        // More environment than fits is no error: what is looked up is near its front or absent.
        let _ = collect(envp, &mut env);
        collect(argv, &mut args)
    };
    raw::exit_group(apps::main(&apps::Invocation { args: &args, env: &env, complete }))
}

/// No formatting: a formatting handler costs 5 KB and could panic itself. The place is what matters.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    raw::write_best_effort(2, b"corepath: internal error at ");
    if let Some(place) = info.location() {
        raw::write_best_effort(2, place.file().as_bytes());
        let mut digits = [0u8; 10];
        let mut at = digits.len();
        let mut line = place.line();
        while line > 0 && at > 0 {
            at -= 1;
            digits[at] = b'0' + (line % 10) as u8;
            line /= 10;
        }
        raw::write_best_effort(2, b":");
        raw::write_best_effort(2, digits.get(at..).unwrap_or(&digits));
    }
    raw::write_best_effort(2, b"\n");
    raw::exit_group(101)
}
