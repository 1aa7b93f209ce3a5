#![allow(unsafe_code)]
//! The device-mapper control device: one ioctl per call on buffers of the caller's, and the names under /dev/mapper where udev does
//! not make them. Which request is right is the engine's; what the bytes mean is wire::dm's.
//!
//! The control node is opened once at start: misc_open takes a global lock and allocates (drivers/char/misc.c).
//!
//! System calls: openat, mkdirat, mknodat, ioctl, symlinkat, unlinkat, readlinkat.
//!
//! # Safety
//! The kernel writes at most `data_size` bytes back into the buffer; `call` checks that field against the buffer's length.

use crate::fault::{Errno, Malformed};
use crate::model::DevNo;
use crate::raw::{self, errno};
use crate::wire::dm::{self, EmitError, Reply, Request, Target};
use core::fmt::Write;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
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

/// An open control device.
pub struct Control {
    fd: OwnedFd,
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
        Ok(Control { fd })
    }

    /// For epoll: readable when any dm event came since the last [`Request::ArmPoll`] on this very descriptor (dm 4.37).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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
        unsafe { raw::ioctl(self.fd.as_fd(), opcode, buffer.as_mut_ptr() as usize) }.map(|_| ()).map_err(Failure::Kernel)
    }
}

/// Makes `mapper/NAME` below the held /dev a link to the map's node. A link that is there and right is left alone.
pub fn link(dev: BorrowedFd<'_>, name: &str, devno: DevNo) -> Result<(), Errno> {
    let mut to = heapless::String::<24>::new();
    write!(to, "../dm-{}\0", devno.minor).map_err(|_| Errno::NOSPC)?;
    let to = core::ffi::CStr::from_bytes_with_nul(to.as_bytes()).map_err(|_| Errno::INVAL)?;
    let path = path(name)?;
    let path = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::INVAL)?;
    let _ = rustix::fs::mkdirat(dev, c"mapper", Mode::from_raw_mode(0o755));
    match rustix::fs::symlinkat(to, dev, path).map_err(errno) {
        Err(Errno::EXIST) => {
            let mut buffer = [core::mem::MaybeUninit::uninit(); 32];
            if let Ok((there, _)) = rustix::fs::readlinkat_raw(dev, path, &mut buffer)
                && there == to.to_bytes()
            {
                return Ok(());
            }
            rustix::fs::unlinkat(dev, path, AtFlags::empty()).map_err(errno)?;
            rustix::fs::symlinkat(to, dev, path).map_err(errno)
        }
        other => other,
    }
}

/// Removes `mapper/NAME` below the held /dev; absent is fine.
pub fn unlink(dev: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let path = path(name)?;
    let path = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::INVAL)?;
    match rustix::fs::unlinkat(dev, path, AtFlags::empty()).map_err(errno) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn path(name: &str) -> Result<heapless::String<160>, Errno> {
    dm::check_name(name).map_err(|_| Errno::INVAL)?;
    let mut path = heapless::String::new();
    write!(path, "mapper/{name}\0").map_err(|_| Errno::NOSPC)?;
    Ok(path)
}
