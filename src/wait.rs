#![allow(unsafe_code)]
//! The main loop's ears: epoll, signals as a descriptor, eventfd, and the clock. Decides nothing.
//!
//! The loop's deadline is epoll's own timeout: a timerfd would cost two more system calls per turn. The clock is CLOCK_MONOTONIC: it
//! does not jump when the date is set; time spent in suspend does not count, as no path was checked then.
//!
//! System calls: epoll_create1, epoll_ctl (start, new clients), epoll_pwait, signalfd4, rt_sigprocmask, eventfd2, read, clock_gettime (vDSO).
//!
//! # Safety
//! Signal sets are eight bytes, as the kernel's are on all architectures we build for.

use crate::fault::Errno;
use crate::model::Instant;
use crate::raw::{self, errno, nr};
use core::mem::MaybeUninit;
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Now, on the clock that everything is measured by.
pub fn now() -> Instant {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Instant::from_micros((t.tv_sec as u64).saturating_mul(1_000_000).saturating_add(t.tv_nsec as u64 / 1000))
}

/// Sleeps; for one-shot commands only.
pub fn sleep(millis: u32) {
    let time = rustix::time::Timespec { tv_sec: i64::from(millis / 1000), tv_nsec: i64::from(millis % 1000) * 1_000_000 };
    let _ = rustix::thread::nanosleep(&time);
}

/// What is heard of a descriptor. Never what is not wanted now: it would be told again at once, each time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hears {
    Nothing,
    Input,
    /// Room to write.
    Room,
}

/// What is waited on.
pub struct Poll {
    fd: OwnedFd,
}

/// Most events one turn takes; the rest stays for the next.
pub const BATCH: usize = 16;

impl Poll {
    pub fn new() -> Result<Poll, Errno> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(|fd| Poll { fd }).map_err(errno)
    }

    /// Listens for input on `fd`; `token` names it.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        epoll::add(&self.fd, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN).map_err(errno)
    }

    /// Listens for each new write to an eventfd: nobody has to read it, which saves a system call per turn. What it told of must be
    /// collected to the end each time.
    pub fn add_edge(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        epoll::add(&self.fd, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN | epoll::EventFlags::ET).map_err(errno)
    }

    /// Listens for that from now on. An end of the connection is always told.
    pub fn listen(&self, fd: BorrowedFd<'_>, token: u64, what: Hears) -> Result<(), Errno> {
        let flags = match what {
            Hears::Nothing => epoll::EventFlags::empty(),
            Hears::Input => epoll::EventFlags::IN,
            Hears::Room => epoll::EventFlags::OUT,
        };
        epoll::modify(&self.fd, fd, epoll::EventData::new_u64(token), flags).map_err(errno)
    }

    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.fd, fd);
    }

    /// Waits until something is ready or `until` has come (`None`: for ever); gives the tokens to `ready`.
    pub fn wait(&self, until: Option<Instant>, mut ready: impl FnMut(u64)) -> Result<(), Errno> {
        // Rounded up to milliseconds: waking early would only mean another turn.
        let timeout = until.map(|until| {
            let micros = until.as_micros().saturating_sub(now().as_micros());
            let millis = micros.div_ceil(1000).min(3_600_000);
            rustix::time::Timespec { tv_sec: (millis / 1000) as i64, tv_nsec: (millis % 1000) as i64 * 1_000_000 }
        });
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        match epoll::wait(&self.fd, &mut events, timeout.as_ref()) {
            Ok((events, _)) => {
                for event in events {
                    ready(event.data.u64());
                }
                Ok(())
            }
            // SIGSTOP and SIGCONT end the wait: just another turn.
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(errno(e)),
        }
    }
}

/// A counter that wakes the loop.
pub fn eventfd() -> Result<OwnedFd, Errno> {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK).map_err(errno)
}

/// Empties an eventfd.
#[cfg(test)]
fn drain(fd: &OwnedFd) {
    let mut count = [0u8; 8];
    let _ = rustix::io::read(fd.as_fd(), &mut count);
}

/// Signals that mean something to us, by number.
pub const SIGHUP: u32 = 1;
pub const SIGINT: u32 = 2;
pub const SIGUSR1: u32 = 10;
pub const SIGTERM: u32 = 15;
const SIGPIPE: u32 = 13;

/// Blocks the signals above (and SIGPIPE) for this thread and those made later, and gives the descriptor they arrive at instead.
pub fn signals() -> Result<OwnedFd, Errno> {
    const SIG_BLOCK: usize = 0;
    const SFD_CLOEXEC_NONBLOCK: usize = 0o2_000_000 | 0o4000;
    let bit = |signal: u32| 1u64 << (signal - 1);
    let heard = bit(SIGHUP) | bit(SIGINT) | bit(SIGUSR1) | bit(SIGTERM);
    let blocked = heard | bit(SIGPIPE);
    // SAFETY: the kernel reads eight bytes of each set.
    unsafe {
        raw::check(raw::syscall6(nr::RT_SIGPROCMASK, SIG_BLOCK, &raw const blocked as usize, 0, 8, 0, 0))?;
        let fd = raw::check(raw::syscall6(nr::SIGNALFD4, usize::MAX, &raw const heard as usize, 8, SFD_CLOEXEC_NONBLOCK, 0, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// The next signal that has arrived, if any (signalfd_siginfo, 128 bytes, number first).
pub fn next_signal(fd: &OwnedFd) -> Option<u32> {
    let mut info = [0u8; 128];
    match rustix::io::read(fd.as_fd(), &mut info) {
        Ok(128) => info.first_chunk().map(|b| u32::from_ne_bytes(*b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn waits_for_events_and_until_the_deadline() {
        let poll = Poll::new().unwrap();
        let event = eventfd().unwrap();
        poll.add(event.as_fd(), 7).unwrap();
        let begin = now();
        let mut seen = std::vec::Vec::new();
        poll.wait(Some(begin + Duration::from_millis(20)), |t| seen.push(t)).unwrap();
        assert!(seen.is_empty() && now().since(begin) >= Duration::from_millis(20));
        rustix::io::write(event.as_fd(), &1u64.to_ne_bytes()).unwrap();
        poll.wait(None, |t| seen.push(t)).unwrap();
        assert_eq!(seen, [7]);
        let edge = Poll::new().unwrap();
        edge.add_edge(event.as_fd(), 8).unwrap();
        let mut edges = 0;
        let mut turn = || edge.wait(Some(now()), |_| edges += 1).unwrap();
        turn();
        turn();
        rustix::io::write(event.as_fd(), &1u64.to_ne_bytes()).unwrap();
        turn();
        turn();
        assert_eq!(edges, 2, "once per write, unread");
        drain(&event);
        poll.wait(Some(now()), |t| seen.push(t)).unwrap();
        assert_eq!(seen, [7]);
    }
}
