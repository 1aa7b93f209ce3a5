//! What the lab takes from the machine it runs on: a cache folder, locks between processes, and programs.
//!
//! It names no path or server of any one machine: folders come from the environment, package sources from /etc/apt.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The folder of this crate's `tests/vm`.
pub fn lab_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm")
}

/// The cache outside the build tree: `$COREPATH_CACHE`, else `$XDG_CACHE_HOME/corepath`, else `~/.cache/corepath`.
/// The last part is the layout's version: bump it when a cached thing changes its shape.
pub fn cache() -> PathBuf {
    let base = match std::env::var_os("COREPATH_CACHE") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => match std::env::var_os("XDG_CACHE_HOME") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir).join("corepath"),
            _ => {
                let home = std::env::var_os("HOME")
                    .filter(|home| !home.is_empty())
                    .expect("the VM lab needs a cache folder: set COREPATH_CACHE or HOME");
                PathBuf::from(home).join(".cache/corepath")
            }
        },
    };
    let dir = base.join("lab2");
    make_dir(&dir);
    dir
}

/// Does this process run as root?
pub fn is_root() -> bool {
    must(Command::new("id").arg("-u")) == b"0\n"
}

/// Makes a folder and its parents, or ends the test.
pub fn make_dir(dir: &Path) {
    fs::create_dir_all(dir).unwrap_or_else(|e| panic!("cannot make the folder {}: {e}", dir.display()));
}

/// A folder for the sockets, images and logs of one VM, removed on drop unless kept.
#[derive(Debug)]
pub struct Scratch {
    /// The folder. Its path is short: a unix socket's path has 108 bytes at most.
    pub dir: PathBuf,
    /// Leave the folder where it is when the value goes.
    pub keep: bool,
}

impl Scratch {
    /// A new empty folder under the system's folder for temporary files.
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("cpvm-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        make_dir(&dir);
        Scratch { dir, keep: std::env::var_os("COREPATH_VM_KEEP").is_some_and(|v| v == "1") }
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("vm: kept {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// An exclusive lock on a file, between threads and processes, until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of this name in the cache folder.
    pub fn wait(name: &str) -> Lock {
        let file = open_lock(name);
        assert!(flocked(&file, 0), "cannot lock {name} in the cache folder");
        Lock { _file: file }
    }

    /// Takes the lock if it is free.
    pub fn take(name: &str) -> Option<Lock> {
        let file = open_lock(name);
        flocked(&file, 4).then(|| Lock { _file: file })
    }
}

unsafe extern "C" {
    fn flock(fd: i32, operation: i32) -> i32;
}

/// LOCK_EX with these flags. Not `File::lock`: it came after the Rust that this crate promises to build with.
#[allow(unsafe_code)]
fn flocked(file: &File, flags: i32) -> bool {
    loop {
        // SAFETY: a system call on a descriptor that is open as long as `file` is borrowed.
        if unsafe { flock(file.as_raw_fd(), 2 | flags) } == 0 {
            return true;
        }
        if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return false;
        }
    }
}

fn open_lock(name: &str) -> File {
    let path = cache().join(format!("{name}.lock"));
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .unwrap_or_else(|e| panic!("cannot open the lock {}: {e}", path.display()))
}

/// The right to run a VM: at most COREPATH_VM_JOBS (default: three, on one core one) run at once on this machine, which wait half of their time; what measures time runs alone.
#[derive(Debug)]
pub struct Slot {
    _locks: Vec<Lock>,
}

thread_local! {
    /// How many machines the test of this thread runs.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

impl Drop for Slot {
    fn drop(&mut self) {
        HELD.set(HELD.get().saturating_sub(1));
    }
}

impl Slot {
    /// Waits for one slot, or for all of them when the scenario measures and wants the machine to itself.
    /// A test that has a machine already gets its second one at once: it would wait for itself for ever.
    pub fn wait(alone: bool) -> Slot {
        HELD.set(HELD.get() + 1);
        if HELD.get() > 1 {
            return Slot { _locks: Vec::new() };
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = std::env::var("COREPATH_VM_JOBS").ok().and_then(|v| v.parse().ok()).unwrap_or(if cores > 1 { 3 } else { 1 }).max(1);
        if alone {
            return Slot { _locks: (0..jobs).map(|n| Lock::wait(&format!("slot{n}"))).collect() };
        }
        let begin = Instant::now();
        let mut said = false;
        loop {
            if !said && begin.elapsed() > Duration::from_secs(20) {
                said = true;
                eprintln!("vm: another machine is running, waiting for it to end");
            }
            for n in 0..jobs {
                if let Some(lock) = Lock::take(&format!("slot{n}")) {
                    return Slot { _locks: vec![lock] };
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Installs what is missing (tests/vm/setup.sh), once per process. Ends the test if that cannot be done.
pub fn tools() {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        let _lock = Lock::wait("setup");
        let script = lab_dir().join("setup.sh");
        run(Command::new("sh").arg(script)).map(|_| ())
    });
    if let Err(e) = done {
        panic!("the VM tests need programs that are not on this machine: {e}");
    }
}

/// A program found in PATH or in the folders of root's programs, which are not in everyone's PATH.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    for dir in dirs {
        let full = dir.join(name);
        if full.is_file() {
            return full;
        }
    }
    panic!("the program {name} is not on this machine, although tests/vm/setup.sh found nothing missing");
}

/// Runs a program to its end and gives its standard output; the error is a sentence with the end of its stderr.
pub fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot start {name}: {e}"))?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let said = String::from_utf8_lossy(&out.stderr);
    Err(format!("{name} {}: {}: {}", args.join(" "), out.status, said.trim()))
}

/// As [`run`], for what must not fail.
pub fn must(command: &mut Command) -> Vec<u8> {
    run(command).unwrap_or_else(|e| panic!("{e}"))
}

/// Processor time of a running process and its threads.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name in parentheses: state is field 3, user and system time are 14 and 15, in hundredths of a second.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Duration::from_millis((user + system) * 10))
}

/// A short name for some content, stable between builds: 64-bit FNV-1a in hexadecimal.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// The name under which a file is made before it gets its own.
pub fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".part{}", std::process::id()));
    PathBuf::from(name)
}

/// Marks a cached file as in use, and removes those of its folder that nobody used for two weeks: each change of the
/// lab or of what it builds leaves one behind.
pub fn used(path: &Path) {
    let touch = |path: &Path| File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    let _ = touch(path);
    let old = SystemTime::now() - Duration::from_secs(14 * 86_400);
    for entry in path.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|data| data.modified());
        if modified.is_ok_and(|time| time < old) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes a file so that others see the old one or the whole new one, never a part.
pub fn write_whole(path: &Path, data: &[u8]) {
    let part = part(path);
    fs::write(&part, data).and_then(|()| fs::rename(&part, path)).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}

/// Calls `ready` every few milliseconds until it gives a value; `None` at the deadline.
pub fn poll<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
