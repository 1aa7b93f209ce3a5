#![allow(unsafe_code)]
//! The device-mapper control device: one ioctl per call on buffers of the caller's, and the names under /dev/mapper where udev does
//! not make them. Which request is right is the engine's; what the bytes mean is wire::dm's.
//!
//! The control node is opened once, when the kernel has a device mapper: misc_open takes a global lock and allocates (drivers/char/misc.c),
//! and where there is none yet it loads one.
//!
//! System calls: openat, mkdirat, mknodat, ioctl, newfstatat, symlinkat, renameat, unlinkat.
//!
//! # Safety
//! The kernel writes at most `data_size` bytes back into the buffer; `call` checks that field against the buffer's length.

use crate::fault::{Errno, Malformed};
use crate::model::DevNo;
use crate::raw::{self, errno};
use crate::wire::cursor::Cursor;
use crate::wire::dm::{self, EmitError, Reply, Request, Target};
use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::{AtomicI32, Ordering};
use rustix::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

/// One page for a request and its answer. Page-aligned, so that the kernel's copy never crosses into another page.
#[repr(C, align(4096))]
#[derive(Clone)]
pub struct Page(pub [u8; 4096]);

impl Page {
    pub const fn new() -> Page {
        Page([0; 4096])
    }
}

impl Default for Page {
    fn default() -> Page {
        Page::new()
    }
}

/// Why a request gave no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The request could not be written down.
    Emit(EmitError),
    Kernel(Errno),
    /// The kernel's answer is not what the interface says.
    Reply,
}

impl Failure {
    /// The nearest error number, for those who only retry.
    pub fn errno(self) -> Errno {
        match self {
            Failure::Emit(EmitError::Full) => Errno::NOSPC,
            Failure::Emit(_) => Errno::INVAL,
            Failure::Kernel(errno) => errno,
            Failure::Reply => Errno::IO,
        }
    }
}

impl From<EmitError> for Failure {
    fn from(error: EmitError) -> Failure {
        Failure::Emit(error)
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Failure {
        Failure::Reply
    }
}

/// An open control device. It stays open as long as the process lives.
#[derive(Clone, Copy)]
pub struct Control {
    fd: BorrowedFd<'static>,
}

/// misc major and the minor of the control node (miscdevice.h, MAPPER_CTRL_MINOR).
const CONTROL: (u32, u32) = (10, 236);

impl Control {
    /// Opens `mapper/control` below the held /dev, making it where devtmpfs did not (`ENODEV` then means: no dm module).
    pub fn open(dev: BorrowedFd<'_>) -> Result<Control, Errno> {
        let open = || rustix::fs::openat(dev, c"mapper/control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(errno);
        let fd = match open() {
            Err(Errno::NOENT) => {
                let _ = rustix::fs::mkdirat(dev, c"mapper", Mode::from_raw_mode(0o755));
                let number = rustix::fs::makedev(CONTROL.0, CONTROL.1);
                rustix::fs::mknodat(dev, c"mapper/control", FileType::CharacterDevice, Mode::from_raw_mode(0o600), number)
                    .map_err(errno)?;
                let opened = open();
                if opened.is_err() {
                    // Leave no node behind that leads nowhere: others take it for dm being there.
                    let _ = rustix::fs::unlinkat(dev, c"mapper/control", AtFlags::empty());
                }
                opened?
            }
            other => other?,
        };
        // SAFETY: a descriptor given up here, which nobody else closes.
        Ok(Control { fd: unsafe { BorrowedFd::borrow_raw(fd.into_raw_fd()) } })
    }

    /// For epoll: readable when any dm event came since the last [`Request::ArmPoll`] on this very descriptor (dm 4.37).
    pub fn fd(&self) -> BorrowedFd<'static> {
        self.fd
    }

    /// One request, within one page. May sleep: on the main thread only what the interface says never does.
    pub fn submit<'p>(&self, target: Target<'_>, request: &Request<'_>, page: &'p mut Page) -> Result<Reply<'p>, Failure> {
        dm::emit(target, request, &mut page.0)?;
        self.call(request.opcode(), &mut page.0)?;
        Ok(Reply::parse(&page.0)?)
    }

    /// `List` into a buffer of any size: a list of many maps does not fit a page. Not while a map has no usable path.
    pub fn list<'b>(&self, prefix: Target<'_>, buffer: &'b mut [u8]) -> Result<Reply<'b>, Failure> {
        let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        // All of it, not only the page that `emit` zeroes: before 5.15 the kernel leaves gaps between the records as they came, and a
        // former list there would be read as flags and uuids.
        buffer.fill(0);
        dm::emit(prefix, &Request::List, buffer)?;
        if let Some(field) = buffer.get_mut(12..16) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.call(Request::List.opcode(), buffer)?;
        Ok(Reply::parse(buffer)?)
    }

    /// A request that `dm::emit` wrote into the page before.
    pub fn call_page(&self, opcode: u32, page: &mut Page) -> Result<(), Failure> {
        self.call(opcode, &mut page.0)
    }

    fn call(&self, opcode: u32, buffer: &mut [u8]) -> Result<(), Failure> {
        // The kernel goes by the size in the header, whoever wrote it.
        let size = buffer.get(12..16).and_then(|b| b.first_chunk()).map(|b| u32::from_ne_bytes(*b));
        if size.is_none_or(|size| size as usize > buffer.len()) {
            return Err(Failure::Reply);
        }
        // SAFETY: `data_size` was just checked to be at most the buffer's length, and the buffer is exclusive.
        unsafe { raw::ioctl(self.fd, opcode, buffer.as_mut_ptr() as usize) }.map(|_| ()).map_err(Failure::Kernel)
    }
}

/// A control device for all threads, opened by the first that needs it.
pub struct Later(AtomicI32);

impl Default for Later {
    fn default() -> Later {
        Later(AtomicI32::new(-1))
    }
}

impl Later {
    pub fn get(&self) -> Option<Control> {
        let fd = self.0.load(Ordering::Acquire);
        // SAFETY: only `keep` stores a number, that of a descriptor which is never closed.
        (fd >= 0).then(|| Control { fd: unsafe { BorrowedFd::borrow_raw(fd) } })
    }

    /// The first that is given is kept, and returned to all. Another stays open unused: at most one for each thread.
    pub fn keep(&self, control: Control) -> Control {
        let _ = self.0.compare_exchange(-1, control.fd.as_raw_fd(), Ordering::AcqRel, Ordering::Acquire);
        self.get().unwrap_or(control)
    }
}

/// Makes `mapper/NAME` below the held /dev lead to the map: a link to /dev/dm-N as udev makes it, or a node where devtmpfs does not make
/// that. What is there and right is left alone, anything else is replaced in one step: nobody finds the name missing.
pub fn link(dev: BorrowedFd<'_>, name: &str, devno: DevNo) -> Result<(), Errno> {
    let number = rustix::fs::makedev(devno.major, devno.minor);
    // Paths that end with NUL already: of any other rustix makes a copy on the stack, 4 KB each, and a worker's is small.
    let leads_there = |path: &CStr| {
        rustix::fs::statat(dev, path, AtFlags::empty())
            .is_ok_and(|stat| stat.st_rdev == number && FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice)
    };
    let mut rooms = [[0; 161]; 2];
    let [room, fresh] = &mut rooms;
    let path = path(room, "", name, "")?;
    if leads_there(path) {
        return Ok(());
    }
    let fresh = self::path(fresh, ".", name, ".new")?;
    let _ = rustix::fs::mkdirat(dev, c"mapper", Mode::from_raw_mode(0o755));
    let _ = rustix::fs::unlinkat(dev, fresh, AtFlags::empty());
    let mut node = heapless::String::<24>::new();
    write!(node.as_mut_view(), "../dm-{}\0", devno.minor).map_err(|_| Errno::NOSPC)?;
    let node = CStr::from_bytes_with_nul(node.as_bytes()).map_err(|_| Errno::INVAL)?;
    let here = CStr::from_bytes_with_nul(node.to_bytes_with_nul().get(3..).unwrap_or(&[])).map_err(|_| Errno::INVAL)?;
    let made = if leads_there(here) {
        rustix::fs::symlinkat(node, dev, fresh)
    } else {
        rustix::fs::mknodat(dev, fresh, FileType::BlockDevice, Mode::from_raw_mode(0o600), number)
    };
    made.and_then(|()| rustix::fs::renameat(dev, fresh, dev, path)).map_err(|error| {
        let _ = rustix::fs::unlinkat(dev, fresh, AtFlags::empty());
        errno(error)
    })
}

/// Removes `mapper/NAME` below the held /dev; absent is fine. What is neither link nor block device is not ours: `EEXIST`.
pub fn unlink(dev: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let mut room = [0; 161];
    let path = path(&mut room, "", name, "")?;
    match rustix::fs::statat(dev, path, AtFlags::SYMLINK_NOFOLLOW).map_err(errno) {
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink | FileType::BlockDevice => {}
            _ => return Err(Errno::EXIST),
        },
    }
    match rustix::fs::unlinkat(dev, path, AtFlags::empty()).map_err(errno) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn path<'r>(room: &'r mut [u8; 161], before: &str, name: &str, after: &str) -> Result<&'r CStr, Errno> {
    dm::check_name(name).map_err(|_| Errno::INVAL)?;
    let mut path = Cursor::new(room);
    for part in ["mapper/", before, name, after, "\0"] {
        path.push_str(part).map_err(|_| Errno::NAMETOOLONG)?;
    }
    CStr::from_bytes_until_nul(room).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;
    use rustix::fd::AsFd;

    #[test]
    fn names_that_are_ours_and_others() {
        let place = std::env::temp_dir().join(std::format!("corepath-dm-{}", std::process::id()));
        std::fs::create_dir_all(place.join("mapper/dir")).unwrap();
        let dir = files::open_dir(place.to_str().unwrap()).unwrap();
        let dev = dir.as_fd();
        std::os::unix::fs::symlink("nowhere", place.join("mapper/mpatha")).unwrap();
        std::fs::write(place.join("mapper/file"), b"").unwrap();
        assert_eq!(unlink(dev, "mpatha"), Ok(()));
        assert_eq!(unlink(dev, "mpatha"), Ok(()), "gone already");
        assert_eq!(unlink(dev, "dir"), Err(Errno::EXIST));
        assert_eq!(unlink(dev, "file"), Err(Errno::EXIST));
        for bad in ["", "..", "a/b", "control"] {
            assert_eq!(unlink(dev, bad), Err(Errno::INVAL));
            assert_eq!(link(dev, bad, DevNo::new(253, 0)), Err(Errno::INVAL));
        }
        // With the right to make nodes the name becomes one (nothing made dm-4001 here); without, nothing is left behind.
        let made = link(dev, "mpathb", DevNo::new(253, 4001));
        let there = rustix::fs::statat(dev, "mapper/mpathb", AtFlags::empty());
        match made {
            Ok(()) => assert_eq!(there.unwrap().st_rdev, rustix::fs::makedev(253, 4001)),
            Err(error) => assert!(error == Errno::PERM && there.is_err()),
        }
        assert_eq!(std::fs::read_dir(place.join("mapper")).unwrap().count(), if made.is_ok() { 3 } else { 2 });
        std::fs::remove_dir_all(&place).unwrap();
    }
}
