//! `lab`: what a test needs inside a guest that has no C library. Built by rustc alone (lab/build.rs), std only.
//!
//! `lab agent` takes commands from the host through a virtio-serial port. The other verbs are workloads: verified
//! writes, reads of a path, memory pressure, a trace of latency. Each prints lines `@verb key=value ...`.
//! Never shipped: it forks, allocates and panics as a test tool may.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

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

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or(&[]);
    let result = match args.first().map(String::as_str) {
        Some("agent") => agent(),
        Some("write") => write_verb(&Options::new(rest)),
        Some("verify") => verify_verb(&Options::new(rest)),
        Some("pread") => pread_verb(&Options::new(rest)),
        Some("latency") => latency_verb(&Options::new(rest)),
        Some("hog") => hog_verb(&Options::new(rest)),
        Some("clock") => {
            println!("{}", now_ms());
            Ok(())
        }
        _ => Err("usage: lab agent|write|verify|pread|latency|hog|clock [DEVICE] [--key value ...]".to_string()),
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

// ---- options: one positional device, then --key value; a flag has no value ----

struct Options {
    device: String,
    values: HashMap<String, String>,
}

const FLAGS: [&str; 4] = ["direct", "sync", "mlock", "quiet"];

impl Options {
    fn new(args: &[String]) -> Options {
        let mut options = Options { device: String::new(), values: HashMap::new() };
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
                None => options.device = arg.clone(),
            }
        }
        options
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

// ---- verified blocks ----
// Every 8-byte word of a block is made from (tag, block, sequence): a block is right in full or wrong, whichever part
// of it was torn, and a stale block tells its age.

const MAGIC: u64 = 0x6b63_6f6c_6264_6e61;

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn fill(buffer: &mut [u8], tag: u64, block: u64, sequence: u64) {
    let seed = mix(tag ^ mix(block ^ mix(sequence)));
    for (n, word) in buffer.chunks_exact_mut(8).enumerate() {
        let value = match n {
            0 => MAGIC,
            1 => tag,
            2 => block,
            3 => sequence,
            n => mix(seed.wrapping_add(n as u64)),
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// The sequence of a block, if it is one of this writer and whole. A block never written (zeros) is sequence 0.
fn check(buffer: &[u8], tag: u64, block: u64) -> Result<u64, String> {
    if buffer.iter().all(|b| *b == 0) {
        return Ok(0);
    }
    let word = |n: usize| u64::from_le_bytes(buffer[n * 8..n * 8 + 8].try_into().unwrap());
    if word(0) != MAGIC || word(1) != tag || word(2) != block {
        return Err(format!("foreign magic={:x} tag={} block={}", word(0), word(1), word(2)));
    }
    let sequence = word(3);
    let seed = mix(tag ^ mix(block ^ mix(sequence)));
    match (4..buffer.len() / 8).find(|n| word(*n) != mix(seed.wrapping_add(*n as u64))) {
        Some(n) => Err(format!("torn sequence={sequence} at={}", n * 8)),
        None => Ok(sequence),
    }
}

/// What may be on the disk for a block: the last acknowledged write, or any later one that failed or was cut off.
#[derive(Clone, Copy, Default)]
struct Expect {
    acked: u64,
    tried: u64,
}

struct Stats {
    written: AtomicU64,
    read: AtomicU64,
    errors: AtomicU64,
    wrong: AtomicU64,
    max_us: AtomicU64,
    max_at: AtomicU64,
    first_error: AtomicU64,
    last_error: AtomicU64,
    last_done: AtomicU64,
    slow: [AtomicU64; 8], // operations of < 1, 10, 100, 500, 1000, 1500, 5000 ms, longer
}

const SLOW_MS: [u64; 7] = [1, 10, 100, 500, 1000, 1500, 5000];

impl Stats {
    fn new() -> Stats {
        let zero = || AtomicU64::new(0);
        Stats {
            written: zero(),
            read: zero(),
            errors: zero(),
            wrong: zero(),
            max_us: zero(),
            max_at: zero(),
            first_error: zero(),
            last_error: zero(),
            last_done: zero(),
            slow: [zero(), zero(), zero(), zero(), zero(), zero(), zero(), zero()],
        }
    }

    fn took(&self, time: Duration) {
        let us = time.as_micros() as u64;
        if self.max_us.fetch_max(us, Ordering::Relaxed) < us {
            self.max_at.store(now_ms(), Ordering::Relaxed);
        }
        let class = SLOW_MS.iter().position(|ms| us < ms * 1000).unwrap_or(SLOW_MS.len());
        self.slow[class].fetch_add(1, Ordering::Relaxed);
        self.last_done.store(now_ms(), Ordering::Relaxed);
    }

    fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let now = now_ms();
        let _ = self.first_error.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.last_error.store(now, Ordering::Relaxed);
    }

    fn line(&self, verb: &str) -> String {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let slow: Vec<String> = self.slow.iter().map(|n| get(n).to_string()).collect();
        format!(
            "@{verb} t={} written={} read={} errors={} wrong={} max_ms={} max_at={} first_error={} last_error={} last_done={} slow={}",
            now_ms(),
            get(&self.written),
            get(&self.read),
            get(&self.errors),
            get(&self.wrong),
            get(&self.max_us) / 1000,
            get(&self.max_at),
            get(&self.first_error),
            get(&self.last_error),
            get(&self.last_done),
            slow.join(",")
        )
    }
}

/// `write DEVICE [--size 64m] [--offset 0] [--block 4k] [--threads 2] [--reads 30] [--secs 0] [--tag 1] [--fsync 0]
/// [--direct] [--sync] [--mlock] [--state FILE] [--to FILE] [--every 1000] [--rate 0] [--on-error stop|go]`
///
/// Writes blocks in random order until SIGTERM or for N seconds, reads some back (`--reads` percent of operations), and
/// at the end reads every block once more. Each thread owns a share of the blocks. Prints `@write` each `--every` ms
/// and `@written` at the end. `--state` keeps what must be on the disk for `verify`. Exit 0: no error, nothing wrong.
fn write_verb(o: &Options) -> Result<(), String> {
    let out = Arc::new(o.out()?);
    let block = o.number("block", 4096);
    let threads = o.number("threads", 2).max(1);
    let offset = o.number("offset", 0);
    let blocks = o.number("size", 64 << 20) / block;
    let tag = o.number("tag", 1);
    let reads = o.number("reads", 30);
    let fsync = o.number("fsync", 0);
    let secs = o.number("secs", 0);
    let rate = o.number("rate", 0);
    let go_on = o.text("on-error", "go") == "go";
    if blocks < threads || !block.is_multiple_of(512) {
        return Err(format!("{blocks} blocks of {block} bytes are too few, or no sectors"));
    }
    let stats = Arc::new(Stats::new());
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        signal(15, on_stop);
        signal(2, on_stop);
    }
    let file = Arc::new(o.open(&o.device, true)?);
    let end = (secs > 0).then(|| Instant::now() + Duration::from_secs(secs));
    let mut workers = Vec::new();
    let left = Arc::new(AtomicU64::new(threads));
    for t in 0..threads {
        let (stats, file, out, left) = (Arc::clone(&stats), Arc::clone(&file), Arc::clone(&out), Arc::clone(&left));
        let first = blocks * t / threads;
        let count = blocks * (t + 1) / threads - first;
        let work = move || {
            let mut expect = vec![Expect::default(); count as usize];
            let mut buffer = Aligned::new(block as usize);
            let mut random = mix(tag ^ mix(t + 1));
            let mut since_sync = 0;
            let mut sequence = 0;
            while !STOP.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
                random = mix(random.wrapping_add(0x9e37_79b9_7f4a_7c15));
                let n = random % count;
                let at = offset + (first + n) * block;
                let slot = &mut expect[n as usize];
                let start = Instant::now();
                if slot.tried > 0 && (random >> 32) % 100 < reads {
                    match file.read_exact_at(buffer.bytes(), at) {
                        Ok(()) => {
                            stats.read.fetch_add(1, Ordering::Relaxed);
                            judge(&stats, &out, buffer.bytes(), tag, first + n, *slot, "read back");
                        }
                        Err(e) => {
                            stats.error();
                            say(&out, &format!("@error t={} op=read block={} {e}", now_ms(), first + n));
                        }
                    }
                } else {
                    sequence += 1;
                    slot.tried = sequence;
                    fill(buffer.bytes(), tag, first + n, sequence);
                    match file.write_all_at(buffer.bytes(), at) {
                        Ok(()) => {
                            slot.acked = sequence;
                            stats.written.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(e) => {
                            stats.error();
                            say(&out, &format!("@error t={} op=write block={} {e}", now_ms(), first + n));
                        }
                    }
                    since_sync += 1;
                    if fsync > 0 && since_sync >= fsync {
                        since_sync = 0;
                        if let Err(e) = file.sync_data() {
                            stats.error();
                            say(&out, &format!("@error t={} op=sync {e}", now_ms()));
                        }
                    }
                }
                let took = start.elapsed();
                stats.took(took);
                if stats.errors.load(Ordering::Relaxed) > 0 && !go_on {
                    break;
                }
                if rate > 0 {
                    let pause = Duration::from_micros(1_000_000 * threads / rate).saturating_sub(took);
                    thread::sleep(pause);
                }
            }
            left.fetch_sub(1, Ordering::Relaxed);
            (first, expect)
        };
        workers.push(thread::Builder::new().stack_size(64 << 10).spawn(work).map_err(|e| e.to_string())?);
    }
    if o.flag("mlock") {
        // SAFETY: no memory is passed; failure is reported.
        let failed = unsafe { mlockall(3) } != 0;
        if failed {
            say(&out, "@note mlockall failed");
        }
    }
    let every = Duration::from_millis(o.number("every", 1000));
    let mut next = Instant::now() + every;
    while left.load(Ordering::Relaxed) > 0 {
        thread::sleep(Duration::from_millis(20));
        if Instant::now() >= next && !o.flag("quiet") {
            next += every;
            say(&out, &stats.line("write"));
        }
    }
    let mut state = String::new();
    let mut wanted = Vec::new();
    for worker in workers {
        let (first, expect) = worker.join().map_err(|_| "a writer panicked")?;
        for (n, e) in expect.iter().enumerate().filter(|(_, e)| e.tried > 0) {
            state += &format!("{} {} {}\n", first + n as u64, e.acked, e.tried);
            wanted.push((first + n as u64, *e));
        }
    }
    if let Err(e) = file.sync_all() {
        stats.error();
        say(&out, &format!("@error t={} op=sync {e}", now_ms()));
    }
    if let Some(path) = o.values.get("state") {
        let head = format!("{block} {offset} {tag}\n");
        std::fs::write(path, head + &state).map_err(|e| format!("{path}: {e}"))?;
    }
    compare(o, &out, &stats, &o.device, block, offset, tag, &wanted)?;
    say(&out, &stats.line("written"));
    finish(&stats)
}

/// `verify DEVICE --state FILE [--direct]`: every block of a writer's state must be on this device; it may be a path.
fn verify_verb(o: &Options) -> Result<(), String> {
    let out = o.out()?;
    let path = o.text("state", "");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let mut lines = text.lines().map(|line| {
        let mut words = line.split(' ').map(|word| word.parse::<u64>().unwrap_or(0));
        (words.next().unwrap_or(0), words.next().unwrap_or(0), words.next().unwrap_or(0))
    });
    let (block, offset, tag) = lines.next().ok_or("the state is empty")?;
    let wanted: Vec<_> = lines.map(|(n, acked, tried)| (n, Expect { acked, tried })).collect();
    let stats = Stats::new();
    compare(o, &out, &stats, &o.device, block, offset, tag, &wanted)?;
    say(&out, &stats.line("verified"));
    finish(&stats)
}

fn finish(stats: &Stats) -> Result<(), String> {
    let (errors, wrong) = (stats.errors.load(Ordering::Relaxed), stats.wrong.load(Ordering::Relaxed));
    if errors + wrong > 0 { Err(format!("{errors} errors, {wrong} wrong blocks")) } else { Ok(()) }
}

#[allow(clippy::too_many_arguments)]
fn compare(
    o: &Options,
    out: &Mutex<File>,
    stats: &Stats,
    device: &str,
    block: u64,
    offset: u64,
    tag: u64,
    wanted: &[(u64, Expect)],
) -> Result<(), String> {
    let file = o.open(device, false)?;
    if !o.flag("direct") {
        // What counts is on the disk, not in this machine's cache: BLKFLSBUF.
        // SAFETY: the ioctl takes no argument.
        unsafe { ioctl(file.as_raw_fd(), 0x1261, 0) };
    }
    let mut buffer = Aligned::new(block as usize);
    for (n, expect) in wanted {
        match file.read_exact_at(buffer.bytes(), offset + n * block) {
            Ok(()) => {
                stats.read.fetch_add(1, Ordering::Relaxed);
                judge(stats, out, buffer.bytes(), tag, *n, *expect, "at the end");
            }
            Err(e) => {
                stats.error();
                say(out, &format!("@error t={} op=verify block={n} {e}", now_ms()));
            }
        }
    }
    Ok(())
}

fn judge(stats: &Stats, out: &Mutex<File>, data: &[u8], tag: u64, block: u64, expect: Expect, when: &str) {
    let fault = match check(data, tag, block) {
        Ok(sequence) if (expect.acked..=expect.tried).contains(&sequence) => return,
        Ok(sequence) => format!("sequence={sequence}"),
        Err(e) => e,
    };
    if stats.wrong.fetch_add(1, Ordering::Relaxed) < 20 {
        let t = now_ms();
        let (acked, tried) = (expect.acked, expect.tried);
        say(out, &format!("@wrong t={t} block={block} acked={acked} tried={tried} {fault} ({when})"));
    }
}

/// `pread DEVICE [--offset 0] [--size 4k] [--direct]`: reads once; prints how long it took and a sum of the bytes.
fn pread_verb(o: &Options) -> Result<(), String> {
    let size = o.number("size", 4096) as usize;
    let file = o.open(&o.device, false)?;
    let mut buffer = Aligned::new(size);
    let start = Instant::now();
    let result = file.read_exact_at(buffer.bytes(), o.number("offset", 0));
    let ms = start.elapsed().as_millis();
    let sum = buffer.bytes().chunks(8).fold(0u64, |sum, c| mix(sum ^ c.iter().fold(0, |w, b| w << 8 | u64::from(*b))));
    match result {
        Ok(()) => {
            println!("@pread t={} ms={ms} sum={sum:016x}", now_ms());
            Ok(())
        }
        Err(e) => Err(format!("{}: {e} after {ms} ms", o.device)),
    }
}

/// `latency DEVICE [--pause 20] [--over 200]`: one direct 4 KiB read after the other until SIGTERM; prints `@gap` for each that took
/// longer than `--over` ms, `@error` for each that failed, and `@latency` at the end.
fn latency_verb(o: &Options) -> Result<(), String> {
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        signal(15, on_stop);
    }
    let out = o.out()?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_DIRECT)
        .open(&o.device)
        .map_err(|e| format!("{}: {e}", o.device))?;
    let mut buffer = Aligned::new(4096);
    let stats = Stats::new();
    let (pause, over) = (Duration::from_millis(o.number("pause", 20)), o.number("over", 200));
    let mut at = 0u64;
    while !STOP.load(Ordering::Relaxed) {
        at = (at + 4096) % o.number("size", 4 << 20);
        let start = Instant::now();
        match file.read_exact_at(buffer.bytes(), at) {
            Ok(()) => drop(stats.read.fetch_add(1, Ordering::Relaxed)),
            Err(e) => {
                stats.error();
                say(&out, &format!("@error t={} op=read {e}", now_ms()));
            }
        }
        let took = start.elapsed();
        stats.took(took);
        if took.as_millis() as u64 > over {
            say(&out, &format!("@gap t={} ms={}", now_ms(), took.as_millis()));
        }
        thread::sleep(pause);
    }
    say(&out, &stats.line("latency"));
    finish(&stats)
}

/// `hog --size 700m [--hold 60]`: touches that much memory, page by page, then touches it again and again for some seconds.
fn hog_verb(o: &Options) -> Result<(), String> {
    let size = o.number("size", 64 << 20) as usize;
    let end = Instant::now() + Duration::from_secs(o.number("hold", 60));
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        signal(15, on_stop);
    }
    let out = o.out()?;
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(size).map_err(|e| format!("cannot reserve {size} bytes: {e}"))?;
    memory.resize(size, 0);
    let mut round = 0u64;
    while Instant::now() < end && !STOP.load(Ordering::Relaxed) {
        for (n, page) in memory.chunks_mut(4096).enumerate() {
            // Content that no compression or page merging makes smaller.
            page[..8].copy_from_slice(&mix(n as u64 ^ round).to_le_bytes());
            if n % 1024 == 0 && STOP.load(Ordering::Relaxed) {
                break;
            }
        }
        if round == 0 {
            say(&out, &format!("@hog t={} bytes={size}", now_ms()));
        }
        round += 1;
        thread::sleep(Duration::from_millis(50));
    }
    say(&out, &format!("@hogged t={} rounds={round}", now_ms()));
    Ok(())
}

// ---- the agent ----

fn port() -> Result<File, String> {
    for _ in 0..500 {
        for entry in std::fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == "lab" {
                let path = std::path::Path::new("/dev").join(entry.file_name());
                if let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) {
                    return Ok(file);
                }
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err("there is no virtio-serial port called lab".to_string())
}

fn agent() -> Result<(), String> {
    let port = port()?;
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let out = Arc::new(Mutex::new(port.try_clone().map_err(|e| e.to_string())?));
    frame(&out, &format!("hello {}", now_ms()), &[]);
    let pids: Arc<Mutex<HashMap<u64, i32>>> = Arc::default();
    let mut reader = BufReader::new(port);
    loop {
        let mut head = String::new();
        match reader.read_line(&mut head) {
            Ok(0) => {
                thread::sleep(Duration::from_millis(50)); // The host has not connected, or has gone.
                continue;
            }
            Ok(_) => {}
            Err(e) => return Err(format!("the port: {e}")),
        }
        let words: Vec<String> = head.split_whitespace().map(str::to_string).collect();
        let number = |n: usize| words.get(n).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        let mut bytes = |n: u64| {
            let mut data = vec![0; n as usize];
            reader.read_exact(&mut data).map(|()| data).map_err(|e| format!("the port: {e}"))
        };
        match words.first().map(String::as_str) {
            Some("run") => {
                let script = String::from_utf8_lossy(&bytes(number(2))?).into_owned();
                let (id, out, pids) = (number(1), Arc::clone(&out), Arc::clone(&pids));
                let job = move || run(id, &script, &out, &pids);
                thread::Builder::new().stack_size(128 << 10).spawn(job).map_err(|e| e.to_string())?;
            }
            Some("put") => {
                let path = String::from_utf8_lossy(&bytes(number(2))?).into_owned();
                let data = bytes(number(3))?;
                let code = store(&path, number(1) as u32, &data).map_or_else(|e| e.raw_os_error().unwrap_or(5), |()| 0);
                frame(&out, &format!("stored {code}"), &[]);
            }
            Some("signal") => {
                if let Some(pid) = pids.lock().unwrap().get(&number(1)) {
                    // SAFETY: a system call without pointers; the group is one that this agent made.
                    unsafe { kill(-pid, number(2) as i32) };
                }
            }
            _ => eprintln!("lab agent: odd frame {head:?}"),
        }
    }
}

fn store(path: &str, mode: u32, data: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = std::path::Path::new(path).parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, data)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
}

fn frame(out: &Mutex<File>, head: &str, data: &[u8]) {
    let mut whole = format!("{head}\n").into_bytes();
    whole.extend_from_slice(data);
    let mut out = out.lock().unwrap();
    let _ = out.write_all(&whole);
}

fn run(id: u64, script: &str, out: &Arc<Mutex<File>>, pids: &Mutex<HashMap<u64, i32>>) {
    let start = now_ms();
    let failed = |what: &str, e: std::io::Error| {
        let text = format!("{what}: {e}\n");
        frame(out, &format!("out {id} {}", text.len()), text.as_bytes());
        frame(out, &format!("exit {id} 127 {start} {}", now_ms()), &[]);
    };
    let (mut reader, writer) = match std::io::pipe() {
        Ok(ends) => ends,
        Err(e) => return failed("pipe", e),
    };
    let errors = match writer.try_clone() {
        Ok(errors) => errors,
        Err(e) => return failed("pipe", e),
    };
    let mut command = Command::new("/bin/sh");
    // The agent is never to be killed by the kernel for its memory; what it runs may be.
    command.arg("-c").arg(format!("echo 0 >/proc/self/oom_score_adj\n{script}"));
    command.stdin(Stdio::null()).stdout(writer).stderr(errors).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return failed("/bin/sh", e),
    };
    drop(command); // It holds the writing ends of the pipe.
    pids.lock().unwrap().insert(id, child.id() as i32);
    let drained = Arc::new((Mutex::new(false), Condvar::new()));
    let (theirs, sink) = (Arc::clone(&drained), Arc::clone(out));
    let drain = move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n) = reader.read(&mut buffer) {
            if n == 0 {
                break;
            }
            frame(&sink, &format!("out {id} {n}"), &buffer[..n]);
        }
        *theirs.0.lock().unwrap() = true;
        theirs.1.notify_all();
    };
    let spawned = thread::Builder::new().stack_size(128 << 10).spawn(drain);
    if let Err(e) = spawned {
        return failed("thread", e);
    }
    let status = child.wait();
    pids.lock().unwrap().remove(&id);
    // All that the command itself wrote comes before its exit. A daemon that it left behind may keep the pipe open:
    // it is not waited for.
    let guard = drained.0.lock().unwrap();
    drop(drained.1.wait_timeout_while(guard, Duration::from_millis(200), |done| !*done));
    let code = status.map_or(127, |s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0)));
    frame(out, &format!("exit {id} {code} {start} {}", now_ms()), &[]);
}
