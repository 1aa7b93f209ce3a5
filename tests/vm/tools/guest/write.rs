//! The verified writer, and the verifier that reads the same blocks elsewhere or later.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::blocks::{Expect, Stats, check, fill, mix};
use crate::{Aligned, Options, ioctl, lock_memory, now_ms, on_signals, say, stopped};

/// `write DEVICE [--size 64m] [--offset 0] [--block 4k] [--threads 2] [--reads 30] [--secs 0] [--tag 1] [--fsync 0]
/// [--direct] [--sync] [--mlock] [--state FILE] [--to FILE] [--every 1000] [--rate 0] [--on-error stop|go]`
///
/// Writes blocks in random order until SIGTERM or for N seconds, reads some back (`--reads` percent of operations), and
/// at the end reads every block once more. Each thread owns a share of the blocks. Prints `@write` each `--every` ms
/// and `@written` at the end. `--state` keeps what must be on the disk for `verify`. Exit 0: no error, nothing wrong.
pub(crate) fn write_verb(o: &Options) -> Result<(), String> {
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
    let stats = Arc::new(Stats::new(tag));
    on_signals();
    let file = Arc::new(o.open(o.device(), true)?);
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
            while !stopped() && end.is_none_or(|end| Instant::now() < end) {
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
        lock_memory(&out);
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
    compare(o, &out, &stats, o.device(), block, offset, tag, &wanted)?;
    say(&out, &stats.line("written"));
    finish(&stats)
}

/// `verify DEVICE --state FILE [--direct]`: every block of a writer's state must be on this device; it may be a path.
pub(crate) fn verify_verb(o: &Options) -> Result<(), String> {
    let out = o.out()?;
    let path = o.text("state", "");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let mut lines = text.lines().map(|line| {
        let mut words = line.split(' ').map(|word| word.parse::<u64>().unwrap_or(0));
        (words.next().unwrap_or(0), words.next().unwrap_or(0), words.next().unwrap_or(0))
    });
    let (block, offset, tag) = lines.next().ok_or("the state is empty")?;
    let wanted: Vec<_> = lines.map(|(n, acked, tried)| (n, Expect { acked, tried })).collect();
    let stats = Stats::new(tag);
    compare(o, &out, &stats, o.device(), block, offset, tag, &wanted)?;
    say(&out, &stats.line("verified"));
    finish(&stats)
}

pub(crate) fn finish(stats: &Stats) -> Result<(), String> {
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
