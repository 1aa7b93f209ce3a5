#![allow(unsafe_code)]
//! The seal: what makes the process one that never allocates, forks, waits for memory or is killed for it. Each step gives a result
//! that `status` shows; which failed step is a refusal and which a warning is the caller's policy.
//!
//! Order: descriptors, PR_SET_IO_FLUSHER and SCHED_RR before the threads are made (both are inherited, and neither can be given to a
//! thread from outside), then, with all threads there, the memory lock, the OOM score, the root cgroup, no_new_privs and seccomp.
//!
//! System calls: prlimit64, prctl, sched_setscheduler, mlockall, openat, write, close, seccomp.
//!
//! # Safety
//! Raw calls take integers and pointers to constants; the filter is built at compile time and checked by its own tests.

use crate::fault::Errno;
use crate::model::{parse_unsigned, split_last};
use crate::raw::{self, nr};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::mm::MlockAllFlags;
use rustix::process::Resource;

/// One step of the seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Step {
    /// RLIMIT_NOFILE raised to what the paths need (two descriptors each).
    Files,
    /// PR_SET_IO_FLUSHER: no allocation made for us starts I/O (Linux 5.6).
    IoFlusher,
    /// SCHED_RR: runs before what fills the memory.
    Realtime,
    /// mlockall(CURRENT|FUTURE).
    Memory,
    /// oom_score_adj -1000.
    Oom,
    /// Moved to the root cgroup: a memory limit of a unit would throttle us.
    Cgroup,
    /// Working directory off the root disk.
    Directory,
    NoNewPrivs,
    /// Allow-list of system calls for all threads.
    Seccomp,
}

/// All steps in their order, with the word `status` prints.
pub const STEPS: [(Step, &str); 9] = [
    (Step::Files, "descriptors"),
    (Step::IoFlusher, "io-flusher"),
    (Step::Realtime, "realtime"),
    (Step::Memory, "memory-locked"),
    (Step::Oom, "oom-exempt"),
    (Step::Cgroup, "root-cgroup"),
    (Step::Directory, "directory"),
    (Step::NoNewPrivs, "no-new-privs"),
    (Step::Seccomp, "seccomp"),
];

/// What came of each step; `None` is not taken yet.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seal {
    results: [Option<Result<(), Errno>>; STEPS.len()],
}

impl Seal {
    pub fn result(&self, step: Step) -> Option<Result<(), Errno>> {
        self.results[step as usize]
    }

    fn set(&mut self, step: Step, result: Result<(), Errno>) {
        self.results[step as usize] = Some(result);
    }

    /// The first step that failed.
    pub fn failed(&self) -> Option<(Step, Errno)> {
        STEPS.iter().find_map(|(step, _)| match self.result(*step) {
            Some(Err(errno)) => Some((*step, errno)),
            _ => None,
        })
    }
}

fn fault(e: rustix::io::Errno) -> Errno {
    Errno(e.raw_os_error() as u16)
}

fn put(path: &core::ffi::CStr, text: &[u8]) -> Result<(), Errno> {
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fault)?;
    rustix::io::write(&fd, text).map(|_| ()).map_err(fault)
}

/// The steps before the threads are made.
pub fn before_threads(seal: &mut Seal) {
    seal.set(Step::IoFlusher, rustix::process::configure_io_flusher_behavior(true).map_err(fault));
    seal.set(Step::Realtime, realtime(10));
}

/// Room for two descriptors per path, as many clients and half a hundred others.
pub fn descriptors(seal: &mut Seal, paths: usize) {
    let files = (paths as u64 * 2 + 512).max(4096);
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    let enough = limit.current.is_none_or(|current| current >= files);
    if !enough {
        limit.current = Some(files);
        if limit.maximum.is_some_and(|maximum| maximum < files) {
            limit.maximum = Some(files);
        }
    }
    seal.set(Step::Files, if enough { Ok(()) } else { rustix::process::setrlimit(Resource::Nofile, limit).map_err(fault) });
}

/// SCHED_RR for the calling thread and those it makes later.
fn realtime(priority: i32) -> Result<(), Errno> {
    const SCHED_RR: usize = 2;
    // SAFETY: the kernel reads one int.
    raw::check(unsafe { raw::syscall6(nr::SCHED_SETSCHEDULER, 0, SCHED_RR, &raw const priority as usize, 0, 0, 0) }).map(|_| ())
}

/// The steps with all threads and descriptors there. With `filter` false (debugging) the last two are left out.
pub fn after_threads(seal: &mut Seal, filter: bool) {
    // Resolves the vDSO: afterwards reading the clock is no system call and faults no page in.
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    seal.set(Step::Memory, rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(fault));
    seal.set(Step::Oom, put(c"/proc/self/oom_score_adj", b"-1000"));
    // Without cgroup v2 there is nothing to leave.
    seal.set(
        Step::Cgroup,
        match put(c"/sys/fs/cgroup/cgroup.procs", b"0") {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        },
    );
    // devtmpfs: a memory file system that is moved, not unmounted, by switch_root.
    seal.set(Step::Directory, rustix::process::chdir(c"/dev").map_err(fault));
    if !filter {
        return;
    }
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    // SAFETY: integers only.
    seal.set(Step::NoNewPrivs, raw::check(unsafe { raw::syscall6(nr::PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0) }).map(|_| ()));
    seal.set(Step::Seccomp, install(&FILTER));
}

/// Our own process' number, for `status`.
pub fn pid() -> u32 {
    rustix::process::getpid().as_raw_pid() as u32
}

/// Page faults of the process so far (/proc/self/stat), held open: a look at them opens nothing.
pub struct Faults(OwnedFd);

/// Minor and major page faults (fields 10 and 12); for the proof that the seal holds.
pub fn faults(stat: &Faults) -> Option<(u64, u64)> {
    let mut buffer = [0u8; 1024];
    let n = rustix::io::pread(&stat.0, &mut buffer, 0).ok()?;
    let text = core::str::from_utf8(buffer.get(..n)?).ok()?;
    // The name in parentheses may hold blanks: count from behind it.
    let mut fields = split_last(text, b')')?.1.strip_prefix(' ')?.split(' ');
    let minor = parse_unsigned(fields.nth(7)?)?;
    let major = parse_unsigned(fields.nth(1)?)?;
    Some((minor, major))
}

/// Before the seal.
pub fn open_faults() -> Option<Faults> {
    rustix::fs::open(c"/proc/self/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok().map(Faults)
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u16,
    when: u8,
    unless: u8,
    operand: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// System calls allowed after the seal, with who needs them. No fork, clone, execve, mmap, brk, module call, mount, ptrace.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED: [u32; 28] = [
    0, 1, 17,               // read write pread64: all
    257, 3,                 // openat close: sysfs, new paths
    217, 267,               // getdents64 readlinkat: sysfs
    5, 262,                 // fstat newfstatat: sysfs, files
    202, 228,               // futex clock_gettime: workers, wait
    281, 233,               // epoll_pwait epoll_ctl: wait
    45, 44, 288, 55,        // recvfrom sendto accept4 getsockopt: netlink, sock
    264, 263, 266, 259, 258, 74, // renameat unlinkat symlinkat mknodat mkdirat fsync: files, /dev/mapper
    81, 161,                // fchdir chroot: files, the configuration of the host from an initramfs' daemon
    219, 39,                // restart_syscall (the kernel's own, after SIGSTOP and SIGCONT in a sleep) getpid: status
    231,                    // exit_group
];
#[cfg(target_arch = "aarch64")]
#[rustfmt::skip]
const ALLOWED: [u32; 28] = [
    63, 64, 67,
    56, 57,
    61, 78,
    80, 79,
    98, 113,
    22, 21,
    207, 206, 242, 209,
    38, 35, 36, 33, 34, 82,
    50, 51,
    128, 172,
    94,
];

/// ioctl commands allowed after the seal.
#[rustfmt::skip]
const IOCTLS: [u32; 24] = [
    0x2285,                                     // SG_IO
    0xc138_fd00, 0xc138_fd02, 0xc138_fd03, 0xc138_fd04, 0xc138_fd05, 0xc138_fd06, 0xc138_fd07, 0xc138_fd09, 0xc138_fd0a,
    0xc138_fd0b, 0xc138_fd0c, 0xc138_fd0d, 0xc138_fd0e, 0xc138_fd10, 0xc138_fd11, // dm, without REMOVE_ALL, WAIT, GEOMETRY
    0x1269, 0x125f, 0x125e, 0x1268, 0x127b, 0x8008_1272, // BLKPG BLKRRPART BLKROGET BLKSSZGET BLKPBSZGET BLKGETSIZE64
    0xc048_4e41, 0x4e40,                        // NVME_IOCTL_ADMIN_CMD NVME_IOCTL_ID
];

const LENGTH: usize = ALLOWED.len() + IOCTLS.len() + 10;
const _: () = assert!(LENGTH < 255, "jumps are one byte");

static FILTER: [Instruction; LENGTH] = build();

const fn instruction(code: u16, when: u8, unless: u8, operand: u32) -> Instruction {
    Instruction { code, when, unless, operand }
}

/// Checks architecture, the x32 range, then the allow-lists; everything else kills the process.
const fn build() -> [Instruction; LENGTH] {
    let (n, m) = (ALLOWED.len(), IOCTLS.len());
    let mut p = [instruction(RETURN, 0, 0, KILL_PROCESS); LENGTH];
    p[0] = instruction(LOAD, 0, 0, 4);
    p[1] = instruction(EQUAL, 1, 0, AUDIT_ARCH);
    p[3] = instruction(LOAD, 0, 0, 0);
    let kill = 5 + n + 1;
    p[4] = instruction(AT_LEAST, (kill - 5) as u8, 0, 0x4000_0000);
    let mut i = 0;
    while i < n {
        p[5 + i] = instruction(EQUAL, (LENGTH - 1 - (5 + i) - 1) as u8, 0, ALLOWED[i]);
        i += 1;
    }
    p[5 + n] = instruction(EQUAL, 1, 0, nr::IOCTL as u32);
    p[kill + 1] = instruction(LOAD, 0, 0, 24); // low half of the second argument
    let mut i = 0;
    while i < m {
        p[kill + 2 + i] = instruction(EQUAL, (m - i) as u8, 0, IOCTLS[i]);
        i += 1;
    }
    p[LENGTH - 1] = instruction(RETURN, 0, 0, ALLOW);
    p
}

fn install(filter: &'static [Instruction; LENGTH]) -> Result<(), Errno> {
    const SET_MODE_FILTER: usize = 1;
    const TSYNC: usize = 1;
    let program = Program { length: LENGTH as u16, instructions: filter.as_ptr() };
    // SAFETY: the program outlives the call; the kernel copies it.
    match raw::check(unsafe { raw::syscall6(nr::SECCOMP, SET_MODE_FILTER, TSYNC, &raw const program as usize, 0, 0, 0) })? {
        0 => Ok(()),
        // The number of a thread that could not be brought under the filter.
        _ => Err(Errno::BUSY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn verdict(arch: u32, number: u32, argument: u32) -> u32 {
        let mut at = 0;
        let mut value = 0;
        loop {
            let i = FILTER[at];
            at += 1;
            match i.code {
                LOAD => {
                    value = match i.operand {
                        4 => arch,
                        0 => number,
                        24 => argument,
                        other => panic!("load {other}"),
                    }
                }
                EQUAL => at += usize::from(if value == i.operand { i.when } else { i.unless }),
                AT_LEAST => at += usize::from(if value >= i.operand { i.when } else { i.unless }),
                RETURN => return i.operand,
                other => panic!("instruction {other}"),
            }
        }
    }

    #[test]
    fn only_what_is_listed_passes() {
        for number in ALLOWED {
            assert_eq!(verdict(AUDIT_ARCH, number, 0), ALLOW, "{number}");
            assert_eq!(verdict(AUDIT_ARCH + 1, number, 0), KILL_PROCESS);
            assert_eq!(verdict(AUDIT_ARCH, number | 0x4000_0000, 0), KILL_PROCESS);
        }
        for command in IOCTLS {
            assert_eq!(verdict(AUDIT_ARCH, nr::IOCTL as u32, command), ALLOW);
        }
        for command in [0x5401, 0xc138_fd01, 0xc138_fd08, 0] {
            assert_eq!(verdict(AUDIT_ARCH, nr::IOCTL as u32, command), KILL_PROCESS);
        }
        for number in 0..600 {
            if !ALLOWED.contains(&number) && number != nr::IOCTL as u32 {
                assert_eq!(verdict(AUDIT_ARCH, number, 0), KILL_PROCESS, "{number}");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn nothing_that_makes_a_process_or_maps_memory_is_listed() {
        // clone clone3 fork vfork execve execveat mmap brk mprotect ptrace mount init_module finit_module io_uring_setup
        for number in [56, 435, 57, 58, 59, 322, 9, 12, 10, 101, 165, 175, 313, 425] {
            assert!(!ALLOWED.contains(&number), "{number}");
        }
    }

    /// Each row has somebody in the shell who makes that call, in the words of its source; the kernel's own has none.
    #[test]
    fn nothing_is_listed_that_nobody_calls() {
        #[rustfmt::skip]
        const CALLERS: [&str; ALLOWED.len()] = [
            "io::read(", "io::write(", "io::pread(", "fs::openat(", "OwnedFd", "fs::RawDir::new(", "fs::readlinkat_raw(", "fs::fstat(", "fs::statat(",
            "futex::wait_bitset(", "clock_gettime(", "epoll::wait(", "epoll::modify(", "net::recv(", "net::send(", "net::accept_with(", "nr::GETSOCKOPT,",
            "fs::renameat(", "fs::unlinkat(", "fs::symlinkat(", "fs::mknodat(", "fs::mkdirat(", "fs::fsync(", "fchdir(", "chroot(", "", "process::getpid(",
            "nr::EXIT_GROUP,",
        ];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let texts = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let texts = texts.map(|path| std::fs::read_to_string(path).unwrap());
        let shell: std::string::String = texts.flat_map(|text| text.split("mod tests {").next().map(std::string::String::from)).collect();
        for (number, caller) in ALLOWED.iter().zip(CALLERS) {
            assert!(shell.contains(caller), "nobody calls {caller} any more: {number} can go");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_sleep_survives_stop_and_continue() {
        // After SIGCONT the kernel resumes nanosleep, poll and timed futex waits as restart_syscall, and asks the filter about that.
        assert_eq!(verdict(AUDIT_ARCH, 219, 0), ALLOW);
    }

    #[test]
    fn faults_are_read() {
        let stat = open_faults().unwrap();
        let before = faults(&stat).unwrap();
        let memory = std::vec![1u8; 16 << 20];
        assert!(faults(&stat).unwrap().0 > before.0 && before.0 > 0 && memory[0] == 1, "read anew each time");
    }
}
