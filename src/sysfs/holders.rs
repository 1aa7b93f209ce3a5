//! Who has a disk: device-mapper and other drivers above it, mounts and swap on it or on one of its partitions.
//!
//! A partition's holder is the disk's holder: the kernel's claim of the whole disk fails all the same (block/bdev.c, bd_prepare_to_claim).

use super::{Attributes, Roots, block, link, plain};
use crate::fault::Errno;
use crate::files;
use crate::model::{DevName, DevNo, Holder, PathFacts, Sectors, Text, UUID_PREFIX, last_part};
use crate::wire::dm::partition_of;
use heapless::Vec;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::AtFlags;

/// One of the kernel's own partitions of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partition {
    pub number: u32,
    pub devno: DevNo,
    pub start: Sectors,
    pub size: Sectors,
}

/// Calls `visit` with each partition of the disk `name` and its kernel name.
pub fn partitions(roots: &Roots, name: &str, visit: &mut dyn FnMut(&str, Partition)) -> Result<(), Errno> {
    let disk = files::open_dir_at(&roots.sys, &block(name, "")?)?;
    each_partition(disk.as_fd(), name, visit)
}

#[inline(never)]
fn each_partition(disk: BorrowedFd<'_>, name: &str, visit: &mut dyn FnMut(&str, Partition)) -> Result<(), Errno> {
    let mut room = [0u8; 32];
    files::names_once(disk, &mut |entry| {
        // Everything else in the directory is an attribute or a group of them.
        if !entry.starts_with(name) || plain(entry).is_err() {
            return true;
        }
        let Ok(dir) = files::open_dir_at(disk, entry) else { return true };
        let mut at = Attributes { dir: dir.as_fd(), scratch: &mut room };
        let mut number = |attribute| at.number(attribute).ok().flatten();
        if let Some(index) = number("partition").and_then(|n| u32::try_from(n).ok()) {
            let (start, size) = (number("start").unwrap_or(0), number("size").unwrap_or(0));
            if let Some(devno) = at.text("dev").ok().and_then(DevNo::parse) {
                visit(entry, Partition { number: index, devno, start: Sectors(start), size: Sectors(size) });
            }
        }
        true
    })
    .map(|_| ())
}

/// Numbers of the disk and of its partitions, of which there are at most 256 (block/genhd.c, DISK_MAX_PARTS).
type Parts = Vec<DevNo, 257>;

#[inline(never)]
pub(super) fn find(roots: &Roots, disk: BorrowedFd<'_>, scratch: &mut [u8], facts: &mut PathFacts) -> Result<(), Errno> {
    let mut parts = Parts::new();
    let _ = parts.push(facts.devno);
    let mut best = Holder::Nobody;
    above(roots, disk, "holders", scratch, &mut best)?;
    let mut result = Ok(());
    each_partition(disk, &facts.name, &mut |entry, partition| {
        let _ = parts.push(partition.devno);
        let mut path = Text::<64>::new();
        if path.push_str(entry).and_then(|()| path.push_str("/holders")).is_ok() {
            result = result.and(above(roots, disk, &path, scratch, &mut best));
        }
    })?;
    result?;
    if !matches!(best, Holder::Device(_)) {
        mounted(roots, &parts, scratch, &mut best)?;
        swapped(roots, &parts, scratch, &mut best)?;
    }
    facts.holder = best;
    Ok(())
}

/// Is it a map of multipath, or a partition of one? That is what the disk is for; any other holder says more.
fn expected(holder: &Holder) -> bool {
    match holder {
        Holder::Nobody => true,
        Holder::Map { uuid, .. } => uuid.starts_with(UUID_PREFIX) || partition_of(uuid).is_some_and(|(_, of)| of.starts_with(UUID_PREFIX)),
        Holder::Device(_) | Holder::Mounted(_) => false,
    }
}

/// Looks through a holders directory.
fn above(roots: &Roots, disk: BorrowedFd<'_>, path: &str, scratch: &mut [u8], best: &mut Holder) -> Result<(), Errno> {
    let dir = match files::open_dir_at(disk, path) {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut result = Ok(());
    files::names_once(dir.as_fd(), &mut |name| {
        match holder(roots, name, scratch) {
            Ok(found) if matches!(best, Holder::Nobody) || (expected(best) && !expected(&found)) => *best = found,
            Ok(_) => {}
            Err(error) => result = Err(error),
        }
        result.is_ok()
    })?;
    result
}

#[inline(never)]
fn holder(roots: &Roots, name: &str, scratch: &mut [u8]) -> Result<Holder, Errno> {
    // A name that no device has is still somebody who holds the disk.
    let device = || Holder::Device(DevName::try_from(name).unwrap_or_else(|_| DevName::try_from("?").unwrap_or_default()));
    if plain(name).is_err() || !name.starts_with("dm-") {
        return Ok(device());
    }
    let mut at = Attributes { dir: roots.sys.as_fd(), scratch };
    let Some(devno) = DevNo::parse(at.text(&block(name, "/dev")?)?) else { return Ok(device()) };
    let mut uuid = Text::<128>::new();
    at.clean(&block(name, "/dm/uuid")?, uuid.as_mut_view())?;
    Ok(Holder::Map { devno, uuid })
}

/// /proc/self/mountinfo: `36 35 8:1 / /boot rw,... - ext4 /dev/sda1 rw` (Documentation/filesystems/proc.rst, 3.5).
fn mounted(roots: &Roots, parts: &[DevNo], scratch: &mut [u8], best: &mut Holder) -> Result<(), Errno> {
    let result = files::lines(&roots.proc, "self/mountinfo", scratch, &mut |line| {
        let Ok(line) = core::str::from_utf8(line) else { return true };
        let mut fields = line.split(' ');
        let (Some(number), Some(place)) = (fields.nth(2), fields.nth(1)) else { return true };
        let by_number = DevNo::parse(number).is_some_and(|n| parts.contains(&n));
        // btrfs and others show a number of their own; the source names the device.
        let source = fields.skip_while(|&field| field != "-").nth(2).unwrap_or("");
        if by_number || is_part(roots, parts, source) {
            *best = Holder::Mounted(shortened(place));
            return false;
        }
        true
    });
    absent_is_empty(result)
}

/// The number of the device that is mounted on `place`; 0:N for what is no block device.
pub fn mounted_from(proc: &str, place: &str) -> Option<DevNo> {
    let mut room = [0u8; 4096];
    let mut found = None;
    let proc = files::open_dir(proc).ok()?;
    // The last one is on top.
    let _ = files::lines(&proc, "self/mountinfo", &mut room, &mut |line| {
        let mut fields = core::str::from_utf8(line).unwrap_or("").split(' ');
        if let (Some(number), Some(at)) = (fields.nth(2), fields.nth(1))
            && at == place
        {
            found = DevNo::parse(number);
        }
        true
    });
    found
}

/// /proc/swaps: `/dev/sda2 partition 1048572 0 -2`, a heading first.
fn swapped(roots: &Roots, parts: &[DevNo], scratch: &mut [u8], best: &mut Holder) -> Result<(), Errno> {
    let result = files::lines(&roots.proc, "swaps", scratch, &mut |line| {
        let Ok(line) = core::str::from_utf8(line) else { return true };
        let source = line.split_ascii_whitespace().next().unwrap_or("");
        if is_part(roots, parts, source) {
            *best = Holder::Mounted(shortened("swap"));
            return false;
        }
        true
    });
    absent_is_empty(result)
}

fn absent_is_empty(result: Result<u32, Errno>) -> Result<(), Errno> {
    match result {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Is `/dev/...` one of ours, by number? Looked up below the held /dev only, without following a link out of it.
fn is_part(roots: &Roots, parts: &[DevNo], source: &str) -> bool {
    let Some(path) = source.strip_prefix("/dev/") else { return false };
    if path.is_empty() || path.split('/').any(|part| part == "..") {
        return false;
    }
    let mut room = [0u8; 128];
    // /dev/disk/by-... and /dev/mapper/... are links to a node two directories up or less.
    let name = match link(roots.dev.as_fd(), path, &mut room) {
        Ok(target) => last_part(target),
        Err(_) => path,
    };
    files::stat(roots.dev.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        let number = DevNo::new(rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        number != DevNo::default() && parts.contains(&number)
    })
}

/// As much of a mount point as fits; it is only shown.
fn shortened(place: &str) -> Text<64> {
    let mut text = Text::new();
    for c in place.chars() {
        if text.as_mut_view().push(if c.is_control() { '_' } else { c }).is_err() {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_maps_are_expected() {
        let map = |uuid: &str| Holder::Map { devno: DevNo::new(253, 0), uuid: Text::try_from(uuid).unwrap() };
        assert!(expected(&map("mpath-3600")) && expected(&map("part1-mpath-3600")));
        assert!(!expected(&map("LVM-abc")) && !expected(&map("")) && !expected(&map("part1-devnode_8:0_Wh5pYvM")));
        assert_eq!(shortened(&"/x".repeat(50)).len(), 64);
    }
}
