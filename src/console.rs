#![allow(unsafe_code)]
//! Standard output and standard error as buffered `fmt::Write`rs, and what is known of the terminal. Holds no policy.
//!
//! System calls: read, write, ioctl(TIOCGWINSZ, TCGETS).
//!
//! # Safety
//! Descriptors 0, 1 and 2 are only borrowed; a closed one makes the call fail with EBADF, which is an answer.

use crate::wire::cursor::put;
use core::fmt;
use rustix::fd::BorrowedFd;

/// Which standard stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    Out,
    Error,
}

fn descriptor(stream: Stream) -> BorrowedFd<'static> {
    // SAFETY: borrowed for the length of one system call; the process never closes 1 or 2.
    unsafe {
        match stream {
            Stream::Out => rustix::stdio::stdout(),
            Stream::Error => rustix::stdio::stderr(),
        }
    }
}

/// Buffered writer on a standard stream. A failed write is remembered, not repeated: see [`Console::failed`].
pub struct Console {
    stream: Stream,
    buffer: [u8; 2048],
    used: usize,
    failed: bool,
}

impl Console {
    pub const fn new(stream: Stream) -> Console {
        Console { stream, buffer: [0; 2048], used: 0, failed: false }
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) {
        let mut at = 0;
        while let Some(rest @ [_, ..]) = self.buffer.get(at..self.used)
            && !self.failed
        {
            match rustix::io::write(descriptor(self.stream), rest) {
                Ok(0) => self.failed = true,
                Ok(n) => at += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.failed = true,
                Err(_) => self.failed = true,
            }
        }
        self.used = 0;
    }

    /// Did output get lost (closed pipe, full disk)? An applet then exits non-zero.
    pub fn failed(&self) -> bool {
        self.failed
    }

    pub fn write_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.used == self.buffer.len() {
                self.flush();
            }
            let (now, later) = bytes.split_at_checked(self.buffer.len() - self.used).unwrap_or((bytes, &[]));
            put(&mut self.buffer, self.used, now);
            self.used += now.len();
            bytes = later;
        }
    }
}

impl fmt::Write for Console {
    #[inline(never)]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_bytes(text.as_bytes());
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The next line of standard input, read byte by byte: what follows it is left there. `None` at the end; `Err` for one that does not fit or is no
/// text.
pub fn line(room: &mut [u8]) -> Option<Result<&str, ()>> {
    let mut used = 0;
    loop {
        let Some(place) = room.get_mut(used..=used) else { return Some(Err(())) };
        // SAFETY: borrowed for the length of one system call; the process never closes 0.
        match rustix::io::read(unsafe { rustix::stdio::stdin() }, &mut *place) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(1) if *place != [b'\n'] => used += 1,
            Ok(1) => break,
            _ if used == 0 => return None,
            _ => break,
        }
    }
    Some(core::str::from_utf8(room.get(..used).unwrap_or_default()).map_err(|_| ()))
}

/// Leaves the terminal: a session of its own, and nothing to read from or to write to.
pub fn let_go() -> Result<(), rustix::io::Errno> {
    let nowhere = rustix::fs::open(c"/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::process::setsid()?;
    rustix::stdio::dup2_stdin(&nowhere)?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    // It may be one of the three itself.
    core::mem::forget(nowhere);
    Ok(())
}

/// Is the stream a terminal?
pub fn is_terminal(stream: Stream) -> bool {
    // Not by its attributes: rustix would decode their speed, a third of a KB.
    rustix::termios::isatty(descriptor(stream))
}
