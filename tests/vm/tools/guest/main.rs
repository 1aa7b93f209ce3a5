//! `lab`: what a test needs inside a guest that has no C library. Built by rustc alone (lab/build.rs), std only.
//!
//! `lab agent` takes commands from the host. The other verbs are workloads and bare tools: verified writes, reads of a
//! path, memory pressure, a trace of latency, device-mapper by ioctl, TEST UNIT READY. Each prints lines
//! `@verb key=value ...`. Never shipped: it forks, allocates and panics as a test tool may.

mod abuse;
mod agent;
mod bare;
mod blocks;
mod load;
mod write;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::exit;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const O_DIRECT: i32 = 0x4000; // x86_64
const O_SYNC: i32 = 0x10_1000;

unsafe extern "C" {
    fn mlockall(flags: i32) -> i32;
    fn kill(pid: i32, signal: i32) -> i32;
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    fn ioctl(fd: i32, request: u64, ...) -> i32;
}

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_stop(_: i32) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on SIGTERM and SIGINT end the verb's loop instead of the process.
fn on_signals() {
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        signal(15, on_stop);
        signal(2, on_stop);
    }
}

fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// `as UID PROGRAM [ARG ...]`: becomes the program, as that user and group.
fn run_as(words: &[String]) -> Result<(), String> {
    let [uid, program, args @ ..] = words else { return Err("usage: lab as UID PROGRAM [ARG ...]".to_string()) };
    let uid = uid.parse().map_err(|_| format!("{uid} is no number"))?;
    Err(format!("{program}: {}", std::process::Command::new(program).args(args).gid(uid).uid(uid).exec()))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = Options::new(args.get(1..).unwrap_or(&[]));
    let result = match args.first().map(String::as_str) {
        Some("agent") => agent::agent(),
        Some("write") => write::write_verb(&options),
        Some("verify") => write::verify_verb(&options),
        Some("pread") => load::pread_verb(&options),
        Some("latency") => load::latency_verb(&options),
        Some("hog") => load::hog_verb(&options),
        Some("gauge") => load::gauge_verb(&options),
        Some("dm") => bare::dm_verb(&options),
        Some("assemble") => bare::assemble_verb(&options),
        Some("tur") => bare::tur_verb(&options),
        Some("keep") => bare::keep_verb(&options),
        Some("listen") => abuse::listen_verb(&options),
        Some("client") => abuse::client_verb(&options),
        Some("lie") => abuse::lie_verb(&options),
        Some("poke") => abuse::poke_verb(&options),
        Some("as") => run_as(args.get(1..).unwrap_or(&[])),
        Some("clock") => {
            println!("{}", now_ms());
            Ok(())
        }
        _ => {
            Err("usage: lab agent|write|verify|pread|latency|hog|gauge|dm|assemble|tur|keep|listen|client|lie|poke|as|clock [WORD ...] [--key value ...]".to_string())
        }
    };
    if let Err(e) = result {
        eprintln!("lab: {e}");
        exit(1);
    }
}

/// Milliseconds of CLOCK_BOOTTIME: the guest's clock, which all verbs print.
fn now_ms() -> u64 {
    let mut time = [0i64; 2];
    // SAFETY: the buffer has the two 64-bit fields of a timespec on x86_64.
    unsafe { clock_gettime(7, &mut time) };
    time[0] as u64 * 1000 + time[1] as u64 / 1_000_000
}

/// Prints a line at once, to stdout or to the console that was opened before memory became scarce.
fn say(out: &Mutex<File>, line: &str) {
    let mut out = out.lock().unwrap();
    let _ = out.write_all(format!("{line}\n").as_bytes());
}

/// Locks all memory, now and later.
fn lock_memory(out: &Mutex<File>) {
    // SAFETY: no memory is passed; failure is reported.
    if unsafe { mlockall(3) } != 0 {
        say(out, "@note mlockall failed");
    }
}

/// Words, then `--key value`; a flag has no value.
struct Options {
    words: Vec<String>,
    values: HashMap<String, String>,
}

const FLAGS: [&str; 4] = ["direct", "sync", "mlock", "quiet"];

impl Options {
    fn new(args: &[String]) -> Options {
        let mut options = Options { words: Vec::new(), values: HashMap::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.strip_prefix("--") {
                Some(flag) if FLAGS.contains(&flag) => drop(options.values.insert(flag.into(), "1".into())),
                Some(key) => match args.next() {
                    Some(value) => drop(options.values.insert(key.into(), value.clone())),
                    None => {
                        eprintln!("lab: --{key} needs a value");
                        exit(2);
                    }
                },
                None => options.words.push(arg.clone()),
            }
        }
        options
    }

    /// The first word: a device, for most verbs.
    fn device(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn flag(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    fn text(&self, key: &str, default: &str) -> String {
        self.values.get(key).map_or(default, String::as_str).to_string()
    }

    /// A number with an optional k, m or g.
    fn number(&self, key: &str, default: u64) -> u64 {
        let Some(text) = self.values.get(key) else { return default };
        let (digits, unit) = match text.as_bytes().last() {
            Some(b'k') => (&text[..text.len() - 1], 1 << 10),
            Some(b'm') => (&text[..text.len() - 1], 1 << 20),
            Some(b'g') => (&text[..text.len() - 1], 1 << 30),
            _ => (text.as_str(), 1),
        };
        match digits.parse::<u64>() {
            Ok(n) => n * unit,
            Err(_) => {
                eprintln!("lab: --{key} {text} is no number");
                exit(2);
            }
        }
    }

    fn out(&self) -> Result<Mutex<File>, String> {
        let Some(path) = self.values.get("to") else {
            let stdout = std::io::stdout().as_fd().try_clone_to_owned();
            return stdout.map(|fd| Mutex::new(File::from(fd))).map_err(|e| e.to_string());
        };
        OpenOptions::new().append(true).open(path).map(Mutex::new).map_err(|e| format!("{path}: {e}"))
    }

    fn open(&self, path: &str, write: bool) -> Result<File, String> {
        let mut flags = if self.flag("direct") { O_DIRECT } else { 0 };
        if self.flag("sync") {
            flags |= O_SYNC;
        }
        OpenOptions::new().read(true).write(write).custom_flags(flags).open(path).map_err(|e| format!("{path}: {e}"))
    }
}

/// A buffer on a 4 KiB boundary, as O_DIRECT asks.
struct Aligned(Vec<Page>, usize);

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

impl Aligned {
    fn new(len: usize) -> Aligned {
        Aligned(vec![Page([0; 4096]); len.div_ceil(4096)], len)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the pages are contiguous and hold at least `len` bytes of plain data.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.1) }
    }
}
