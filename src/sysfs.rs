//! sysfs, proc and udev's database as values: which disks there are, what is known of each, and the attributes that are tuned.
//!
//! Roots are held directories and every access is relative to one of them, so the same code runs on a fixture tree, and nothing looks
//! up a path on a root disk that may be dead. Text comes from devices and from whoever could make a file there: it is bounded, cleaned
//! and never a path. Never decides whether a disk is a path.
//!
//! Rules: drivers/scsi/scsi_sysfs.c, block/genhd.c, drivers/nvme/host/sysfs.c, scsi_transport_*.c.
//!
//! System calls: openat, read, pread64, getdents64, readlinkat, newfstatat, write (attributes), close.

use crate::fault::Errno;
use crate::files;
use crate::model::{Bus, DevName, DevNo, PathFacts, Sectors, SysState, Text, last_part};
use core::fmt::Write as _;
use heapless::string::StringView;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

mod holders;
mod identity;
mod modules;
mod transport;
mod tune;

pub use holders::{Partition, mounted_from, partitions};
pub use identity::{name_by_serial, take_page};
pub use modules::{available, disk_of_scsi, dm_major, has_mapper, has_module};
pub use transport::Lineage;
pub use tune::{hosts, write_attribute};

/// The directories everything starts from.
#[derive(Debug)]
pub struct Roots {
    pub sys: OwnedFd,
    pub dev: OwnedFd,
    pub proc: OwnedFd,
    /// `None`: no /run, hence no udev.
    pub run: Option<OwnedFd>,
}

/// Which root could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Root {
    Sys,
    Dev,
    Proc,
}

impl Roots {
    /// At start, by full path: `/sys`, `/dev`, `/proc`, `/run`, or those of a fixture.
    pub fn open(sys: &str, dev: &str, proc: &str, run: &str) -> Result<Roots, (Root, Errno)> {
        Ok(Roots {
            sys: files::open_dir(sys).map_err(|e| (Root::Sys, e))?,
            dev: files::open_dir(dev).map_err(|e| (Root::Dev, e))?,
            proc: files::open_dir(proc).map_err(|e| (Root::Proc, e))?,
            run: files::open_dir(run).ok(),
        })
    }
}

/// A path below a root; what does not fit is no path of the kernel's.
type Path = Text<200>;

fn join(parts: &[&str]) -> Result<Path, Errno> {
    let mut path = Path::new();
    for part in parts {
        path.push_str(part).map_err(|_| Errno::NAMETOOLONG)?;
    }
    Ok(path)
}

/// A name as the kernel gives devices: one path component, printable, not hidden.
fn plain(name: &str) -> Result<&str, Errno> {
    let bad = name.is_empty() || name.starts_with('.') || name.bytes().any(|b| b == b'/' || !b.is_ascii_graphic());
    if bad { Err(Errno::INVAL) } else { Ok(name) }
}

fn block(name: &str, rest: &str) -> Result<Path, Errno> {
    join(&["block/", plain(name)?, rest])
}

/// Attributes below one directory, read into a buffer of the caller's.
struct Attributes<'a> {
    dir: BorrowedFd<'a>,
    scratch: &'a mut [u8],
}

impl Attributes<'_> {
    /// An attribute's bytes; `None` when the kernel has none: absent, or present but not for this device (`EINVAL`, as `access_state`
    /// answers without a handler). Any other error is an error: a page that could not be read must not pass for a page that is not there.
    fn bytes(&mut self, path: &str) -> Result<Option<&[u8]>, Errno> {
        match files::read_front(self.dir, path, self.scratch) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::ISDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }
    /// Text without the newline; empty when absent or not UTF-8.
    fn text(&mut self, path: &str) -> Result<&str, Errno> {
        let bytes = self.bytes(path)?.unwrap_or(&[]);
        Ok(core::str::from_utf8(bytes).map_or("", str::trim_ascii_end))
    }
    /// A decimal number that fits; `None` for anything else.
    fn number(&mut self, path: &str) -> Result<Option<u64>, Errno> {
        Ok(parse_number(self.text(path)?))
    }
    fn flag(&mut self, path: &str) -> Result<bool, Errno> {
        Ok(self.number(path)?.is_some_and(|n| n != 0))
    }
    /// Cleaned text into `into`; left empty when it does not fit: half a name is another name.
    fn clean(&mut self, path: &str, into: &mut StringView) -> Result<(), Errno> {
        let bytes = self.bytes(path)?.unwrap_or(&[]);
        clean(bytes, into);
        Ok(())
    }
}

fn parse_number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Printable ASCII up to a NUL or newline, blanks at the end cut, anything else `_`. Empty when it does not fit.
fn clean(bytes: &[u8], into: &mut StringView) {
    into.clear();
    let end = bytes.iter().position(|&b| b == 0 || b == b'\n').unwrap_or(bytes.len());
    let bytes = bytes.get(..end).unwrap_or(bytes).trim_ascii_end();
    for &byte in bytes {
        let c = if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '_' };
        if into.push(c).is_err() {
            return into.clear();
        }
    }
}

/// Where a link points.
fn link<'b>(dir: BorrowedFd<'_>, path: &str, into: &'b mut [u8]) -> Result<&'b str, Errno> {
    let room = into.len();
    let there = files::read_link(dir, path, into)?;
    if there.len() == room {
        return Err(Errno::NAMETOOLONG);
    }
    core::str::from_utf8(there).map_err(|_| Errno::INVAL)
}

/// Is this the name of a device that is made in this machine and can never be a path? Of these there may be hundreds.
pub fn made_here(name: &str) -> bool {
    let numbered = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    numbered("dm-") || numbered("loop") || numbered("ram") || numbered("zram") || numbered("md") || numbered("nbd")
}

/// Calls `visit` with the name of every disk in /sys/block until it answers false; devices that are [`made_here`] are passed over.
pub fn disks(roots: &Roots, visit: &mut dyn FnMut(&str) -> bool) -> Result<(), Errno> {
    let dir = files::open_dir_at(&roots.sys, "block")?;
    files::names_once(dir.as_fd(), &mut |name| plain(name).is_err() || made_here(name) || visit(name)).map(|_| ())
}

/// How many disks there are: the tables are sized by it.
pub fn count_disks(roots: &Roots) -> Result<usize, Errno> {
    let mut count = 0;
    disks(roots, &mut |_| {
        count += 1;
        true
    })?;
    Ok(count)
}

/// Reads all that is known of the disk `name`. `scratch`: a page; larger for devices whose VPD page 0x83 is larger. `ENOENT` and
/// `ENODEV`: there is no such disk (any more). After an error `facts` means nothing.
///
/// Plain memory reads in the kernel, but for allocations of a page per attribute: not while a map has no usable path.
#[inline(never)]
pub fn read_facts(roots: &Roots, name: &str, scratch: &mut [u8], facts: &mut PathFacts) -> Result<(), Errno> {
    *facts = PathFacts::default();
    facts.name = DevName::try_from(plain(name)?).map_err(|_| Errno::NAMETOOLONG)?;
    // Held: if the name goes to another disk meanwhile, these reads end with ENODEV and do not mix the two.
    let disk = files::open_dir_at(&roots.sys, &block(name, "")?)?;
    let mut room = [0u8; 1024];
    let mut at = Attributes { dir: disk.as_fd(), scratch };
    facts.devno = DevNo::parse(at.text("dev")?).ok_or(Errno::NODEV)?;
    facts.diskseq = at.number("diskseq")?.unwrap_or(0);
    facts.size = Sectors(at.number("size")?.unwrap_or(0));
    facts.block_size = at.number("queue/logical_block_size")?.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    facts.read_only = at.flag("ro")?;
    facts.removable = at.flag("removable")?;
    facts.hidden = at.flag("hidden")?;
    facts.bus = bus(disk.as_fd(), &mut room);
    // Relative to /sys/block: the disk's way through the machine.
    let way = link(roots.sys.as_fd(), &block(name, "")?, &mut room).unwrap_or("");
    let lineage = Lineage::parse(way);
    facts.usb = lineage.usb;
    let _ = facts.adapter.push_str(lineage.adapter);
    match facts.bus {
        Bus::Scsi => {
            identity::scsi(&mut at, facts)?;
            transport::scsi(roots, &lineage, at.scratch, facts)?;
        }
        Bus::Nvme => identity::nvme(&mut at, facts)?,
        Bus::Dasd => identity::dasd(&mut at, facts)?,
        Bus::Other => {}
    }
    holders::find(roots, disk.as_fd(), scratch, facts)?;
    // Everything above was absent rather than wrong if the disk went meanwhile: look once more.
    let mut at = Attributes { dir: disk.as_fd(), scratch };
    if DevNo::parse(at.text("dev")?) != Some(facts.devno) {
        return Err(Errno::NODEV);
    }
    Ok(())
}

/// The subsystem of the device a disk stands on.
fn bus(disk: BorrowedFd<'_>, room: &mut [u8]) -> Bus {
    match link(disk, "device/subsystem", room).map(last_part) {
        Ok("scsi") => Bus::Scsi,
        Ok("nvme" | "nvme-subsystem") => Bus::Nvme,
        Ok("ccw") => Bus::Dasd,
        _ => Bus::Other,
    }
}

/// Opens the attribute that tells the state of a disk's device, to be read again with [`read_state`] before each command.
pub fn open_state(roots: &Roots, name: &str) -> Result<OwnedFd, Errno> {
    match files::open_read(&roots.sys, &block(name, "/device/state")?) {
        // A DASD is on or off.
        Err(Errno::NOENT) => files::open_read(&roots.sys, &block(name, "/device/online")?),
        result => result,
    }
}

/// Reads an open state attribute: one system call, no allocation in the kernel after the first. A device that is gone says so.
pub fn read_state(state: BorrowedFd<'_>) -> SysState {
    let mut room = [0u8; 64];
    match files::reread(state, &mut room) {
        Ok(bytes) => parse_state(bytes),
        Err(Errno::NODEV | Errno::NXIO | Errno::NOENT) => SysState::Deleted,
        Err(_) => SysState::Unknown,
    }
}

/// The words of scsi_sysfs.c (sdev_states), of nvme's controllers, and `online` of channel devices.
pub fn parse_state(bytes: &[u8]) -> SysState {
    // Words between bars. A match on literals compares inline, at three times the size.
    const WORDS: [(&str, SysState); 7] = [
        ("running|live|1", SysState::Running),
        ("offline|dead|0", SysState::Offline),
        ("transport-offline", SysState::TransportOffline),
        ("blocked|created-blocked|resetting|connecting", SysState::Blocked),
        ("created|new", SysState::Created),
        ("quiesce", SysState::Quiesce),
        ("cancel|deleted|deleting|deleting (no IO)", SysState::Deleted),
    ];
    let word = bytes.trim_ascii_end();
    let known = WORDS.iter().find(|(words, _)| words.split('|').any(|w| w.as_bytes() == word));
    known.map_or(SysState::Unknown, |&(_, state)| state)
}

/// A disk's properties in udev's database: the lines `E:NAME=` of its entry, without their values, which may be of any length; `None` when
/// udev does not run or has not seen it.
pub fn read_udev<'b>(roots: &Roots, devno: DevNo, into: &'b mut [u8]) -> Result<Option<&'b [u8]>, Errno> {
    let Some(run) = &roots.run else { return Ok(None) };
    let mut path = Path::new();
    write!(path.as_mut_view(), "udev/data/b{devno}").map_err(|_| Errno::NAMETOOLONG)?;
    let entry = match files::open_read(run, &path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        entry => entry?,
    };
    // What is written, and where the line began; how far the line is read, if it is none of these, if its name is whole.
    let (mut used, mut start, mut column, mut other, mut named) = (0, 0, 0usize, false, false);
    let mut piece = [0; 512];
    loop {
        let count = files::fill_once(entry.as_fd(), &mut piece)?;
        for &b in piece.iter().take(count) {
            if b != b'\n' {
                other |= b"E:".get(column).is_some_and(|&head| head != b);
                column += 1;
            }
            if b == b'\n' && (other || !named) {
                used = start;
            } else if b == b'\n' || !other && !named {
                *into.get_mut(used).ok_or(Errno::OVERFLOW)? = b;
                used += 1;
                named = b == b'=';
            }
            if b == b'\n' {
                (start, column, other, named) = (used, 0, false, false);
            }
        }
        if count == 0 {
            return Ok(into.get(..start));
        }
    }
}

/// For [`has_clean`]: opened before memory may be short.
pub fn open_memory(roots: &Roots) -> Result<OwnedFd, Errno> {
    let memory = files::open_read(&roots.proc, "meminfo")?;
    // The kernel keeps the room it takes for the first reader.
    has_clean(memory.as_fd(), 1);
    Ok(memory)
}

/// Is one in so many parts of all memory free, or could it be without anything being written? No: also when that cannot be told.
pub fn has_clean(memory: BorrowedFd<'_>, parts: u64) -> bool {
    let mut room = [0u8; 1024];
    let text = files::reread(memory, &mut room).ok().and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("");
    let kilobytes = |key: &str| text.lines().find_map(|line| parse_number(line.strip_prefix(key)?.trim_ascii_start().strip_suffix(" kB")?));
    let [total, available, dirty, writeback] = ["MemTotal:", "MemAvailable:", "Dirty:", "Writeback:"].map(kilobytes);
    // Available counts what is to be written first.
    let clean = available
        .zip(dirty)
        .zip(writeback)
        .map(|((available, dirty), writeback)| available.saturating_sub(dirty.saturating_add(writeback)));
    clean.zip(total).is_some_and(|(clean, total)| clean >= total / parts)
}

/// Does the NVMe driver join paths itself? Then its disks are none of ours.
pub fn native_nvme(roots: &Roots) -> bool {
    let mut room = [0u8; 8];
    matches!(files::read_front(&roots.sys, "module/nvme_core/parameters/multipath", &mut room), Ok([b'Y' | b'y' | b'1', ..]))
}
