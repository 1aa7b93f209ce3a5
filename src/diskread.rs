//! The pull seam of partition tables and superblocks over a descriptor: a block device past the page cache, or an image file.
//!
//! Direct reads, because a path's page cache is not the map's: what one path has cached another may have changed. Each read is a page at most
//! and may sleep as long as the device likes, so workers (or one-shot commands) call it; a deadline is looked at between reads, so that a disk
//! which answers slowly cannot hold its worker through a whole table. Never writes.
//!
//! System calls: openat, fstat, ioctl (sizes), pread64, clock_gettime.

use crate::dmioctl::Page;
use crate::fault::Errno;
use crate::files;
use crate::model::{DevNo, Instant};
use crate::raw::errno;
use crate::wire::cursor::try_put;
use crate::wire::partition::ReadAt;
use crate::{sgio, wait};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags};

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Block(DevNo),
    File,
    Other,
}

/// What stands under `path`, links followed, without opening it.
pub fn what(dir: impl AsFd, path: &str) -> Result<What, Errno> {
    let stat = files::stat(dir.as_fd(), path, rustix::fs::AtFlags::empty())?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => What::Block(devno(stat.st_rdev)),
        FileType::RegularFile => What::File,
        _ => What::Other,
    })
}

fn devno(raw: u64) -> DevNo {
    DevNo::new(rustix::fs::major(raw), rustix::fs::minor(raw))
}

/// A disk or image that is open for reading.
pub struct Disk {
    fd: OwnedFd,
    bytes: u64,
    block_size: u32,
}

impl Disk {
    /// Opens a block device (direct) or a regular file (512-byte blocks); `EINVAL` for anything else.
    pub fn open(dir: impl AsFd, path: &str) -> Result<Disk, Errno> {
        let kind = what(dir.as_fd(), path)?;
        let direct = if matches!(kind, What::Block(_)) { OFlags::DIRECT } else { OFlags::empty() };
        Disk::over(files::open_at(dir.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | direct)?)
    }

    /// Takes a descriptor that is open for reading. What it is, is looked up on it: a name may have changed its meaning since.
    pub fn over(fd: OwnedFd) -> Result<Disk, Errno> {
        let stat = rustix::fs::fstat(&fd).map_err(errno)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => {
                let (bytes, block_size) = (sgio::size(fd.as_fd())?.bytes(), sgio::block_size(fd.as_fd())?);
                // Larger blocks (since 6.15) do not fit the one page that is read into.
                if !(512..=4096).contains(&block_size) || !block_size.is_power_of_two() {
                    return Err(Errno::INVAL);
                }
                Ok(Disk { fd, bytes, block_size })
            }
            FileType::RegularFile => Ok(Disk { fd, bytes: u64::try_from(stat.st_size).unwrap_or(0), block_size: 512 }),
            _ => Err(Errno::INVAL),
        }
    }

    /// For an image of a disk with larger blocks.
    pub fn set_block_size(&mut self, block_size: u32) {
        self.block_size = block_size;
    }

    /// Reads through `page`; `ETIMEDOUT` from the first read on that would begin after `until`.
    pub fn reader<'a>(&'a self, page: &'a mut Page, until: Option<Instant>) -> Reader<'a> {
        Reader { fd: self.fd.as_fd(), bytes: self.bytes, block_size: self.block_size, page, held: 0..0, until }
    }
}

/// Reads one disk, whole blocks at a time.
pub struct Reader<'a> {
    fd: BorrowedFd<'a>,
    bytes: u64,
    block_size: u32,
    page: &'a mut Page,
    /// Byte range of the disk that the page holds.
    held: core::ops::Range<u64>,
    until: Option<Instant>,
}

impl<'a> Reader<'a> {
    /// For a descriptor whose sizes are known: a path that is open since the start.
    pub fn new(fd: BorrowedFd<'a>, bytes: u64, block_size: u32, page: &'a mut Page, until: Option<Instant>) -> Reader<'a> {
        Reader { fd, bytes, block_size, page, held: 0..0, until }
    }

    /// Makes the page hold the block at `offset`, and as much after it as fits and is wanted.
    fn hold(&mut self, offset: u64, wanted: u64) -> Result<(), Errno> {
        if self.held.contains(&offset) {
            return Ok(());
        }
        if self.until.is_some_and(|until| wait::now() >= until) {
            return Err(Errno::TIMEDOUT);
        }
        // 0 is nothing a device says.
        let block = u64::from(self.block_size.max(1));
        let begin = offset - offset % block;
        let whole = self.bytes - self.bytes % block;
        let end = (offset + wanted).next_multiple_of(block).min(begin + self.page.0.len() as u64).min(whole);
        // The last blocks of a file need not be whole.
        let end = if end <= begin { self.bytes.min(begin + block) } else { end };
        let length = usize::try_from(end.saturating_sub(begin)).map_err(|_| Errno::INVAL)?;
        self.held = 0..0;
        let got = sgio::read(self.fd, begin, length, self.page)?;
        // A device that became smaller gives less than its size promised.
        if got < length {
            return Err(Errno::IO);
        }
        self.held = begin..end;
        Ok(())
    }
}

impl ReadAt for Reader<'_> {
    fn size(&self) -> u64 {
        self.bytes
    }
    fn block_size(&self) -> u32 {
        self.block_size
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.bytes).ok_or(Errno::INVAL)?;
        let mut at = offset;
        while at < end {
            self.hold(at, end - at)?;
            let count = (end.min(self.held.end) - at) as usize;
            let (from, to) = ((at - self.held.start) as usize, (at - offset) as usize);
            let from = self.page.0.get(from..from + count).ok_or(Errno::INVAL)?;
            try_put(into, to, from).map_err(|_| Errno::INVAL)?;
            at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn image(name: &str, size: usize) -> (String, Vec<u8>) {
        let path = std::env::temp_dir().join(std::format!("corepath-diskread-{name}-{}", std::process::id()));
        let bytes: Vec<u8> = (0..size).map(|i| (i / 7 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        (path.to_str().unwrap().into(), bytes)
    }

    #[test]
    fn any_place_and_length_in_any_block_size() {
        let (path, bytes) = image("any", 40 * 512);
        let mut disk = Disk::open(rustix::fs::CWD, &path).unwrap();
        assert_eq!(disk.reader(&mut Page::new(), None).size(), 40 * 512);
        let mut page = Page::new();
        for block_size in [512, 1024, 4096] {
            disk.set_block_size(block_size);
            let mut reader = disk.reader(&mut page, None);
            for at in (0..40usize).rev() {
                for count in 1..=(40 - at).min(8) {
                    let mut into = std::vec![0; count * 512];
                    reader.read_at(at as u64 * 512, &mut into).unwrap();
                    assert_eq!(into, bytes[at * 512..][..count * 512], "{block_size} {at} {count}");
                }
            }
            assert_eq!(reader.read_at(39 * 512, &mut [0; 1024]), Err(Errno::INVAL));
            assert_eq!(reader.read_at(u64::MAX - 511, &mut [0; 512]), Err(Errno::INVAL));
        }
        // The file shrinks under us.
        std::fs::write(&path, &bytes[..512]).unwrap();
        assert_eq!(disk.reader(&mut page, None).read_at(1024, &mut [0; 512]), Err(Errno::IO));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn deadline_and_what_is_no_disk() {
        let (path, _) = image("late", 8192);
        let disk = Disk::open(rustix::fs::CWD, &path).unwrap();
        let mut page = Page::new();
        let mut late = disk.reader(&mut page, Some(wait::now()));
        assert_eq!(late.read_at(0, &mut [0; 512]), Err(Errno::TIMEDOUT));
        assert_eq!(what(rustix::fs::CWD, &path), Ok(What::File));
        assert_eq!(what(rustix::fs::CWD, "/dev/null"), Ok(What::Other));
        assert_eq!(Disk::open(rustix::fs::CWD, "/dev/null").err(), Some(Errno::INVAL));
        assert_eq!(Disk::open(rustix::fs::CWD, "/").err(), Some(Errno::INVAL));
        std::fs::remove_file(path).unwrap();
    }
}
