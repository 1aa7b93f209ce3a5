//! Tells that files of two directories have changed. Set up before the seal; afterwards nothing but its descriptor is read.
//!
//! System calls: inotify_init1 and inotify_add_watch at start only; read.

use crate::fault::Errno;
use crate::files::named;
use crate::raw::errno;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// Tells that files of some directories have changed.
pub struct Watch {
    fd: OwnedFd,
    /// The number of the first directory's watch.
    first: Option<i32>,
}

impl Watch {
    /// Watches the two directories for files that are written, put there or taken away; one that is not there is left out.
    pub fn over(dirs: [&str; 2]) -> Result<Watch, Errno> {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(errno)?;
        let events = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        let [first, _] = dirs.map(|dir| named(dir, |dir| add_watch(&fd, dir, events)).ok());
        Ok(Watch { fd, first })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes what has happened; true when it concerns a file that `mine` knows by its name, of the first directory or not. A lost event
    /// concerns all; a directory that is gone takes its watch with it, and no file more.
    pub fn changed(&self, mine: &dyn Fn(bool, &str) -> bool) -> bool {
        const OVERFLOW: u32 = 0x4000;
        let mut buffer = [0u8; 1024];
        let mut changed = false;
        while let Ok(length @ 1..) = rustix::io::read(&self.fd, &mut buffer) {
            // struct inotify_event: watch, mask, cookie, length of the name; four bytes each, the name padded with NUL.
            let mut rest = buffer.get(..length).unwrap_or(&[]);
            while let Some((head, more)) = rest.split_first_chunk::<16>() {
                let size = u32::from_ne_bytes([head[12], head[13], head[14], head[15]]) as usize;
                let Some((name, next)) = more.split_at_checked(size) else { break };
                let name = name.split(|&b| b == 0).next().unwrap_or(&[]);
                let first = self.first == Some(i32::from_ne_bytes([head[0], head[1], head[2], head[3]]));
                let mask = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
                changed |= mask & OVERFLOW != 0 || (size > 0 && core::str::from_utf8(name).is_ok_and(|name| mine(first, name)));
                rest = next;
            }
        }
        changed
    }
}
