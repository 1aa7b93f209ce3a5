//! What the machinery tells: notes become lines in the log's ring, a bounded number for each path; answers wait for the clients that asked.

use super::clients::CLIENTS;
use crate::apps::runtime::Audience;
use crate::apps::say;
use crate::engine::{Note, Refusal, Subject};
use crate::fault::Errno;
use crate::klog::{Line, Ring};
use crate::model::Instant;
use core::fmt::Write;
use core::time::Duration;

/// Most lines one path may write in [`LIMIT_TIME`]; what is beyond is counted.
const LIMIT: u8 = 12;
const LIMIT_TIME: Duration = Duration::from_secs(30);

/// Bounded memory of who wrote how much lately.
#[derive(Clone, Copy, Default)]
struct Limit {
    key: u32,
    count: u8,
    left_out: u16,
    since: Instant,
}

/// So many bytes of texts, and the memory that they are in.
pub(super) type Read = (Result<u32, Errno>, Option<&'static mut [u8]>);

/// Takes notes to the log ring, and answers to the clients.
pub(super) struct Ears {
    pub(super) ring: Ring,
    level: u8,
    limits: [Limit; 64],
    pub(super) answers: heapless::Deque<(u32, Result<(), Refusal>), { CLIENTS + 1 }>,
    /// A map was given an alias.
    pub(super) named: bool,
    /// What came of writing them down.
    pub(super) kept: Option<Result<u32, Errno>>,
    /// The configuration's files, as a worker read them.
    pub(super) read: Option<Read>,
}

impl Ears {
    pub(super) fn new(ring: Ring, level: u8) -> Ears {
        Ears { ring, level, limits: [Limit::default(); 64], answers: heapless::Deque::new(), named: false, kept: None, read: None }
    }

    pub(super) fn say(&mut self, level: u8, text: &str) {
        self.ring.push(level, text);
    }

    /// May this path (or map) write another line?
    fn allowed(&mut self, now: Instant, key: u32) -> bool {
        let limit = &mut self.limits[(key % 64) as usize];
        if limit.key != key || now.since(limit.since) >= LIMIT_TIME {
            let left_out = limit.left_out;
            *limit = Limit { key, count: 0, left_out: 0, since: now };
            if left_out > 0 {
                let mut line = Line::new();
                let _ = write!(line, "left out {} lines about a path that changes its state too often", u32::from(left_out));
                self.ring.push(5, line.text());
            }
        }
        let limit = &mut self.limits[(key % 64) as usize];
        if limit.count >= LIMIT {
            limit.left_out = limit.left_out.saturating_add(1);
            return false;
        }
        limit.count += 1;
        true
    }
}

impl Audience for Ears {
    fn note(&mut self, now: Instant, note: &Note, subject: &Subject<'_>) {
        let level = say::level(&note.what);
        if level > self.level {
            return;
        }
        let key = note.path.map(|p| p.index).or(note.map.map(|m| m.index | 1 << 31)).unwrap_or(u32::MAX);
        if level > 2 && !self.allowed(now, key) {
            return;
        }
        let mut line = Line::new();
        let _ = say::sentence(note, subject, &mut line);
        self.ring.push(level, line.text());
    }

    fn answer(&mut self, token: u32, result: Result<(), Refusal>) {
        // Those of clients that are gone are lost first, and of our own none.
        if self.answers.is_full()
            && let Some(first) = self.answers.pop_front()
            && first.0 == super::OWN
        {
            let _ = self.answers.pop_front();
            let _ = self.answers.push_back(first);
        }
        let _ = self.answers.push_back((token, result));
    }

    fn bind(&mut self, _wwid: &str, _alias: &str) {
        self.named = true;
    }

    fn read(&mut self, result: Result<u32, Errno>, memory: Option<&'static mut [u8]>) {
        self.read = Some((result, memory));
    }

    fn kept(&mut self, result: Result<u32, Errno>) {
        self.kept = Some(result);
    }
}
