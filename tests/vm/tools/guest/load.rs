//! Small loads: one read, a trace of read latency, memory that is touched.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::blocks::{Stats, mix};
use crate::write::finish;
use crate::{Aligned, O_DIRECT, Options, lock_memory, now_ms, on_signals, say, stopped};

/// `pread DEVICE [--offset 0] [--size 4k] [--direct]`: reads once; prints how long it took and a sum of the bytes.
pub(crate) fn pread_verb(o: &Options) -> Result<(), String> {
    let size = o.number("size", 4096) as usize;
    let file = o.open(o.device(), false)?;
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
        Err(e) => Err(format!("{}: {e} after {ms} ms", o.device())),
    }
}

/// `latency DEVICE [--pause 20] [--over 200]`: one direct 4 KiB read after the other until SIGTERM; prints `@gap` for each that took
/// longer than `--over` ms, `@error` for each that failed, and `@latency` at the end.
pub(crate) fn latency_verb(o: &Options) -> Result<(), String> {
    on_signals();
    let out = o.out()?;
    let file = OpenOptions::new().read(true).custom_flags(O_DIRECT).open(o.device()).map_err(|e| format!("{}: {e}", o.device()))?;
    let mut buffer = Aligned::new(4096);
    let stats = Stats::new(0);
    let (pause, over) = (Duration::from_millis(o.number("pause", 20)), o.number("over", 200));
    let mut at = 0u64;
    while !stopped() {
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
pub(crate) fn hog_verb(o: &Options) -> Result<(), String> {
    let size = o.number("size", 64 << 20) as usize;
    let end = Instant::now() + Duration::from_secs(o.number("hold", 60));
    on_signals();
    let out = o.out()?;
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(size).map_err(|e| format!("cannot reserve {size} bytes: {e}"))?;
    memory.resize(size, 0);
    let mut round = 0u64;
    while Instant::now() < end && !stopped() {
        for (n, page) in memory.chunks_mut(4096).enumerate() {
            // Content that no compression or page merging makes smaller.
            page[..8].copy_from_slice(&mix(n as u64 ^ round).to_le_bytes());
            if n % 1024 == 0 && stopped() {
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

/// `gauge [--every 500] [--to FILE]`: prints how much memory is left, from a file opened before it became scarce.
pub(crate) fn gauge_verb(o: &Options) -> Result<(), String> {
    on_signals();
    let out = o.out()?;
    let path = "/proc/meminfo";
    let file = std::fs::File::open(path).map_err(|e| format!("{path}: {e}"))?;
    let mut buffer = vec![0u8; 8192];
    lock_memory(&out);
    while !stopped() {
        let n = file.read_at(&mut buffer, 0).map_err(|e| format!("{path}: {e}"))?;
        let text = std::str::from_utf8(&buffer[..n]).unwrap_or("");
        let kib = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let swapped = kib("SwapTotal").saturating_sub(kib("SwapFree"));
        let (free, available, dirty) = (kib("MemFree"), kib("MemAvailable"), kib("Dirty") + kib("Writeback"));
        say(&out, &format!("@memory t={} free={free} available={available} dirty={dirty} swapped={swapped}", now_ms()));
        thread::sleep(Duration::from_millis(o.number("every", 500)));
    }
    Ok(())
}
