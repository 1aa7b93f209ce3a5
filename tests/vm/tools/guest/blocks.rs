//! Blocks that verify themselves, and what is counted about operations on them.
//!
//! Every 8-byte word of a block is made from (tag, block, sequence): a block is right in full or wrong, whichever part
//! of it was torn, and a stale block tells its age.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::now_ms;

const MAGIC: u64 = 0x6b63_6f6c_6264_6e61;

pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub(crate) fn fill(buffer: &mut [u8], tag: u64, block: u64, sequence: u64) {
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
pub(crate) fn check(buffer: &[u8], tag: u64, block: u64) -> Result<u64, String> {
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
pub(crate) struct Expect {
    pub(crate) acked: u64,
    pub(crate) tried: u64,
}

pub(crate) struct Stats {
    tag: u64,
    pub(crate) written: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) wrong: AtomicU64,
    max_us: AtomicU64,
    max_at: AtomicU64,
    first_error: AtomicU64,
    last_error: AtomicU64,
    last_done: AtomicU64,
    slow: [AtomicU64; 8], // operations of < 1, 10, 100, 500, 1000, 1500, 5000 ms, longer
}

const SLOW_MS: [u64; 7] = [1, 10, 100, 500, 1000, 1500, 5000];

impl Stats {
    pub(crate) fn new(tag: u64) -> Stats {
        let zero = || AtomicU64::new(0);
        Stats {
            tag,
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

    pub(crate) fn took(&self, time: Duration) {
        let us = time.as_micros() as u64;
        if self.max_us.fetch_max(us, Ordering::Relaxed) < us {
            self.max_at.store(now_ms(), Ordering::Relaxed);
        }
        let class = SLOW_MS.iter().position(|ms| us < ms * 1000).unwrap_or(SLOW_MS.len());
        self.slow[class].fetch_add(1, Ordering::Relaxed);
        self.last_done.store(now_ms(), Ordering::Relaxed);
    }

    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let now = now_ms();
        let _ = self.first_error.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.last_error.store(now, Ordering::Relaxed);
    }

    pub(crate) fn line(&self, verb: &str) -> String {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let slow: Vec<String> = self.slow.iter().map(|n| get(n).to_string()).collect();
        format!(
            "@{verb} t={} tag={} written={} read={} errors={} wrong={} max_ms={} max_at={} first_error={} last_error={} last_done={} slow={}",
            now_ms(),
            self.tag,
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
