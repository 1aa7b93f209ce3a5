#![allow(unsafe_code)]
//! Loop devices for `kpartx FILE`: find the one over a file, make one, take it away. Nothing else of ours needs them, so this is a shell file
//! of its own that an initramfs never reaches.
//!
//! Races with other users of loop devices are the kernel's to settle: LOOP_CONFIGURE (5.8) binds file and settings at once and says EBUSY
//! when somebody was faster, then the next free one is taken. A device is recognised by the file's device and inode, never by its name.
//!
//! System calls: openat, fstat, getdents64, ioctl, close.
//!
//! # Safety
//! Structures are those of linux/loop.h, their sizes asserted; the kernel reads and writes no more than they hold.

use crate::fault::Errno;
use crate::files;
use crate::model::parse_decimal;
use crate::raw;
use crate::wire::cursor::put;
use core::fmt::Write;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, OFlags};

const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_GET_STATUS64: u32 = 0x4c05;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;
const READ_ONLY: u32 = 1;

#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo64>() == 232 && size_of::<LoopConfig>() == 304);

const EMPTY: LoopInfo64 = LoopInfo64 {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// Times that somebody else may be faster.
const TRIES: u32 = 32;

fn open(dev: BorrowedFd<'_>, number: u32, write: bool) -> Result<OwnedFd, Errno> {
    let mut name = heapless::String::<16>::new();
    write!(name.as_mut_view(), "loop{number}").map_err(|_| Errno::INVAL)?;
    let mode = if write { OFlags::RDWR } else { OFlags::RDONLY };
    files::open_at(dev, &name, mode)
}

/// The number of the loop device that would be used next.
pub fn free(dev: impl AsFd) -> Result<u32, Errno> {
    let control = files::open_at(dev.as_fd(), "loop-control", OFlags::RDWR)?;
    // SAFETY: takes no argument; the answer is the number.
    let number = unsafe { raw::ioctl(control.as_fd(), LOOP_CTL_GET_FREE, 0) }?;
    u32::try_from(number).map_err(|_| Errno::RANGE)
}

/// The loop device over all of the file `path`, if there is one. `dev` is /dev, `block` /sys/block.
pub fn find(dev: impl AsFd, block: impl AsFd, dir: impl AsFd, path: &str) -> Result<Option<u32>, Errno> {
    let wanted = files::stat(dir.as_fd(), path, AtFlags::empty())?;
    let mut found = None;
    files::names(block, &mut |name| {
        if let Some(number) = name.strip_prefix("loop").and_then(parse_decimal)
            && let Ok(fd) = open(dev.as_fd(), number, false)
        {
            let mut info = EMPTY;
            // SAFETY: the kernel writes one LoopInfo64. An unbound device answers ENXIO.
            let status = unsafe { raw::ioctl(fd.as_fd(), LOOP_GET_STATUS64, &raw mut info as usize) };
            let whole = info.offset == 0 && info.size_limit == 0;
            if status.is_ok() && whole && info.inode == wanted.st_ino && info.device == wanted.st_dev {
                found = Some(number);
            }
        }
        found.is_none()
    })?;
    Ok(found)
}

/// Binds a free loop device to the file `path` and gives its number. Read-only where that is asked for, or where the file cannot be
/// written. The kernel keeps the last 63 bytes of the path for listings.
pub fn attach(dev: impl AsFd, dir: impl AsFd, path: &str, read_only: bool) -> Result<u32, Errno> {
    let open_file = |mode| files::open_at(dir.as_fd(), path, mode);
    let (file, read_only) = match if read_only { Err(Errno::ROFS) } else { open_file(OFlags::RDWR) } {
        Err(Errno::ROFS | Errno::ACCES) => (open_file(OFlags::RDONLY)?, true),
        other => (other?, false),
    };
    let mut last = Errno::BUSY;
    for _ in 0..TRIES {
        let number = free(dev.as_fd())?;
        let device = open(dev.as_fd(), number, !read_only)?;
        let fd = u32::try_from(file.as_fd().as_raw_fd()).map_err(|_| Errno::INVAL)?;
        let mut config = LoopConfig { fd, block_size: 0, info: EMPTY, reserved: [0; 8] };
        config.info.flags = if read_only { READ_ONLY } else { 0 };
        let hidden = path.len().saturating_sub(config.info.file_name.len() - 1);
        put(&mut config.info.file_name, 0, path.as_bytes().get(hidden..).unwrap_or(&[]));
        // SAFETY: the kernel reads one LoopConfig.
        match unsafe { raw::ioctl(device.as_fd(), LOOP_CONFIGURE, &raw const config as usize) } {
            Ok(_) => return Ok(number),
            Err(Errno::BUSY) => last = Errno::BUSY,
            Err(other) => return Err(other),
        }
    }
    Err(last)
}

/// Lets go of the file. A device that is still open is let go of when the last user closes it (loop.c, autoclear).
pub fn detach(dev: impl AsFd, number: u32) -> Result<(), Errno> {
    let device = open(dev.as_fd(), number, false)?;
    // SAFETY: takes no argument.
    unsafe { raw::ioctl(device.as_fd(), LOOP_CLR_FD, 0) }.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root and the loop driver; says so when it does not run.
    #[test]
    fn over_a_file_and_gone_again() {
        let dev = files::open_dir("/dev").unwrap();
        let block = files::open_dir("/sys/block").unwrap();
        if let Err(e) = free(&dev) {
            return std::eprintln!("no loop devices here: {e:?}");
        }
        let path = std::env::temp_dir().join(std::format!("corepath-loop-{}", std::process::id()));
        std::fs::write(&path, std::vec![0; 1 << 20]).unwrap();
        let (here, name) = (rustix::fs::CWD, path.to_str().unwrap());
        assert_eq!(find(&dev, &block, here, name), Ok(None));
        let number = attach(&dev, here, name, true).unwrap();
        assert_eq!(find(&dev, &block, here, name), Ok(Some(number)));
        let shown = std::fs::read_to_string(std::format!("/sys/block/loop{number}/loop/backing_file")).unwrap();
        assert_eq!(shown.trim_end(), path.to_str().unwrap());
        assert_eq!(std::fs::read_to_string(std::format!("/sys/block/loop{number}/ro")).unwrap(), "1\n");
        detach(&dev, number).unwrap();
        assert_eq!(find(&dev, &block, here, name), Ok(None));
        assert_eq!(detach(&dev, number), Err(Errno::NXIO), "nothing to let go of");
        std::fs::remove_file(&path).unwrap();
    }
}
