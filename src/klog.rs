#![allow(unsafe_code)]
//! Where lines go: the kernel's log (/dev/kmsg) and standard error, through a ring with counted loss. Makes no sentences and has no policy.
//!
//! Writing to kmsg allocates in the kernel and may sleep, so after the seal the clerk does it: the main thread puts lines into the
//! ring, the clerk is handed what is there. When the ring is full the newest line is dropped and counted; "lost n" follows when
//! there is room again.
//!
//! System calls: openat, write.
//!
//! # Safety
//! Standard error is borrowed for one write.

use crate::fault::Errno;
use crate::wire::cursor::put;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// Longest line; what is longer is cut and marked.
pub const LINE: usize = 480;

/// Descriptors of /dev/kmsg, used in turn: the kernel silently drops what one of them writes beyond ten lines in five seconds
/// (kernel/printk/printk.c, devkmsg_write), and an outage has more to tell. To switch that off for everybody (printk.devkmsg) is not ours.
const KMSG: usize = 8;

/// Where lines are written to.
pub struct Sink {
    kmsg: [Option<OwnedFd>; KMSG],
    next: AtomicUsize,
    stderr: bool,
}

impl Sink {
    /// Standard error only.
    pub const fn stderr() -> Sink {
        Sink { kmsg: [const { None }; KMSG], next: AtomicUsize::new(0), stderr: true }
    }

    /// Opens /dev/kmsg for lines below the daemon's seal.
    pub fn open(kmsg: bool, stderr: bool) -> Result<Sink, Errno> {
        let mut sink = Sink { stderr, ..Sink::stderr() };
        for place in sink.kmsg.iter_mut().filter(|_| kmsg) {
            let fd = rustix::fs::open(c"/dev/kmsg", OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
            *place = Some(fd.map_err(|e| Errno(e.raw_os_error() as u16))?);
        }
        Ok(sink)
    }

    /// One line: `level` is syslog's (0 emergency .. 7 debug).
    pub fn write(&self, level: u8, text: &str) {
        let mut line = Line::new();
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % KMSG;
        if let Some(kmsg) = &self.kmsg[turn] {
            let _ = write!(line, "<{}>corepath: ", 24 + (level & 7)); // facility daemon
            let _ = line.write_str(text);
            line.end();
            let _ = rustix::io::write(kmsg.as_fd(), line.bytes());
        }
        if self.stderr {
            line.clear();
            let _ = line.write_str(text);
            line.end();
            // SAFETY: descriptor 2 is only borrowed; a closed one answers EBADF.
            let stderr: BorrowedFd<'_> = unsafe { rustix::stdio::stderr() };
            let _ = rustix::io::write(stderr, line.bytes());
        }
    }
}

/// One line under construction; cut at [`LINE`] bytes on a character's border.
pub struct Line {
    text: [u8; LINE + 1],
    used: usize,
    cut: bool,
}

impl Line {
    pub const fn new() -> Line {
        Line { text: [0; LINE + 1], used: 0, cut: false }
    }

    pub fn clear(&mut self) {
        (self.used, self.cut) = (0, false);
    }

    /// Ends the line with a newline, `~` before it when it was cut.
    pub fn end(&mut self) {
        if self.cut
            && let Some(last) = self.used.checked_sub(1)
        {
            put(&mut self.text, last, b"~");
        }
        put(&mut self.text, self.used, b"\n");
        self.used += 1;
    }

    pub fn bytes(&self) -> &[u8] {
        self.text.get(..self.used).unwrap_or(&self.text)
    }

    pub fn text(&self) -> &str {
        core::str::from_utf8(self.bytes()).unwrap_or("")
    }
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            // Text from arrays reaches logs and terminals: no control character passes.
            let c = if c.is_control() { '?' } else { c };
            let mut utf8 = [0; 4];
            let bytes = c.encode_utf8(&mut utf8).as_bytes();
            if self.used + bytes.len() > LINE {
                self.cut = true;
                break;
            }
            put(&mut self.text, self.used, bytes);
            self.used += bytes.len();
        }
        Ok(())
    }
}

/// Lines waiting for the clerk: a byte ring of records `level, second (4 bytes), length (2 bytes), text`. What was taken stays readable
/// until its place is needed.
pub struct Ring {
    memory: &'static mut [u8],
    head: usize,
    used: usize,
    /// Bytes before `head` that hold whole records already taken.
    past: usize,
    lost: u32,
    /// The second on the caller's clock that lines are marked with.
    pub second: u32,
}

const RECORD: usize = 7;

impl Ring {
    pub fn new(memory: &'static mut [u8]) -> Ring {
        Ring { memory, head: 0, used: 0, past: 0, lost: 0, second: 0 }
    }

    /// Lines dropped and not yet told of.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn put(&mut self, byte: u8) {
        let at = self.head + self.used;
        if let Some(place) = at.checked_rem(self.memory.len()).and_then(|at| self.memory.get_mut(at)) {
            *place = byte;
        }
        self.used += 1;
    }

    fn get(&mut self) -> u8 {
        let byte = self.byte(self.head);
        self.head = (self.head + 1).checked_rem(self.memory.len()).unwrap_or(0);
        self.used -= 1;
        self.past += 1;
        byte
    }

    fn fits(&self, length: usize) -> bool {
        self.used + RECORD + length <= self.memory.len()
    }

    /// Adds a line, or counts it as lost.
    pub fn push(&mut self, level: u8, text: &str) {
        if self.lost > 0 {
            let mut line = Line::new();
            let _ = write!(line, "lost {} log lines", self.lost);
            let length = line.bytes().len();
            if self.fits(length + RECORD + text.len()) {
                self.lost = 0;
                self.record(4, line.bytes());
            }
        }
        if self.lost > 0 || text.len() > LINE || !self.fits(text.len()) {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.record(level, text.as_bytes());
    }

    fn record(&mut self, level: u8, text: &[u8]) {
        while self.past > 0 && self.past + self.used + RECORD + text.len() > self.memory.len() {
            let length = self.header(self.oldest()).2;
            self.past = self.past.saturating_sub(RECORD + length);
        }
        self.put(level);
        let second = self.second.to_le_bytes();
        for &byte in second.iter().chain(&(text.len() as u16).to_le_bytes()).chain(text) {
            self.put(byte);
        }
    }

    /// Takes the oldest line into `buffer` (at least [`LINE`] bytes); its level and length.
    pub fn pop(&mut self, buffer: &mut [u8]) -> Option<(u8, usize)> {
        if self.used < RECORD {
            return None;
        }
        let (level, _, length) = self.header(self.head);
        for _ in 0..RECORD {
            self.get();
        }
        let length = length.min(self.used);
        for i in 0..length {
            let byte = self.get();
            if let Some(place) = buffer.get_mut(i) {
                *place = byte;
            }
        }
        Some((level, length.min(buffer.len())))
    }

    fn oldest(&self) -> usize {
        (self.head + self.memory.len() - self.past).checked_rem(self.memory.len()).unwrap_or(0)
    }

    fn byte(&self, at: usize) -> u8 {
        at.checked_rem(self.memory.len()).and_then(|at| self.memory.get(at)).copied().unwrap_or(0)
    }

    /// Level, second and length of the record at `at`.
    fn header(&self, at: usize) -> (u8, u32, usize) {
        let byte = |n| self.byte(at + n);
        let second = u32::from_le_bytes([byte(1), byte(2), byte(3), byte(4)]);
        (byte(0), second, usize::from(u16::from_le_bytes([byte(5), byte(6)])))
    }

    /// Every line that is still there, taken or not, from the oldest on: its second and its text.
    pub fn each(&self, tell: &mut dyn FnMut(u32, &str)) {
        let (mut at, mut left) = (self.oldest(), self.past + self.used);
        let mut text = [0u8; LINE + 1];
        while left >= RECORD {
            let (_, second, length) = self.header(at);
            for (n, place) in text.iter_mut().enumerate().take(length) {
                *place = self.byte(at + RECORD + n);
            }
            tell(second, core::str::from_utf8(text.get(..length.min(LINE)).unwrap_or(&[])).unwrap_or(""));
            at += RECORD + length;
            left = left.saturating_sub(RECORD + length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn ring(size: usize) -> Ring {
        Ring::new(vec![0u8; size].leak())
    }

    fn pop(ring: &mut Ring) -> Option<(u8, std::string::String)> {
        let mut buffer = [0u8; LINE];
        let (level, n) = ring.pop(&mut buffer)?;
        Some((level, std::string::String::from_utf8(buffer[..n].to_vec()).unwrap()))
    }

    #[test]
    fn lines_come_out_in_order_around_the_end() {
        let mut ring = ring(100);
        for round in 0..50u8 {
            ring.push(round & 7, "thirty bytes of text, or nearly");
            ring.push(3, "x");
            assert_eq!(pop(&mut ring), Some((round & 7, "thirty bytes of text, or nearly".into())));
            assert_eq!(pop(&mut ring), Some((3, "x".into())));
            assert_eq!(pop(&mut ring), None);
        }
    }

    #[test]
    fn taken_lines_stay_readable_until_their_place_is_needed() {
        let mut ring = ring(100);
        let all = |ring: &Ring| {
            let mut lines = vec![];
            ring.each(&mut |second, text| lines.push(std::format!("{second} {text}")));
            lines
        };
        for n in 0..500u32 {
            ring.second = n;
            ring.push(6, &"0123456789abcdef"[..(n % 17) as usize]);
            if n % 3 != 0 {
                while pop(&mut ring).is_some() {}
            }
            let lines = all(&ring);
            assert!(lines.len() >= 4.min(n as usize + 1), "{lines:?}");
            for (line, n) in lines.iter().rev().zip((0..=n).rev()) {
                assert_eq!(*line, std::format!("{n} {}", &"0123456789abcdef"[..(n % 17) as usize]));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told() {
        let mut ring = ring(68);
        ring.push(5, "first line that takes up most of the ring");
        ring.push(5, "second line that does not fit");
        ring.push(5, "third");
        assert_eq!(ring.lost(), 2);
        assert_eq!(pop(&mut ring).unwrap().1, "first line that takes up most of the ring");
        ring.push(5, "fourth");
        assert_eq!(pop(&mut ring).unwrap().1, "lost 2 log lines");
        assert_eq!(pop(&mut ring).unwrap().1, "fourth");
        assert_eq!(ring.lost(), 0);
    }

    #[test]
    fn control_characters_and_length_are_tamed() {
        let mut line = Line::new();
        line.write_str("a\x1b[31m\nb").unwrap();
        assert_eq!(line.text(), "a?[31m?b");
        for _ in 0..1000 {
            line.write_str("é").unwrap();
        }
        line.end();
        assert!(line.bytes().len() <= LINE + 1 && line.bytes().ends_with(b"~\n"));
    }
}
