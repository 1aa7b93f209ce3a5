//! File system ids for `root=UUID=` and `root=LABEL=`: ext2/3/4, XFS and btrfs superblocks; and whether something lies there that others
//! open first (LUKS, LVM, MD), so that root may be inside.
//!
//! Only ids are read, and only where magic and the fields around it fit each other; whether the file system is sound is mount's to say. An ext
//! journal device has a UUID of its own and is no root.
//! Layouts: fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h, include/uapi/linux/btrfs_tree.h; LUKS on-disk format 1.2.3 and 2, LVM2's label,
//! include/uapi/linux/raid/md_p.h.

use crate::fault::Errno;
use crate::model::Sectors;
use crate::wire::partition::guid::{parse_uuid, write_uuid};
use crate::wire::partition::{ReadAt, SECTOR};
use core::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FileSystem {
    Ext,
    Xfs,
    Btrfs,
}

impl FileSystem {
    pub const fn word(self) -> &'static str {
        match self {
            FileSystem::Ext => "ext",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
        }
    }
}

/// A UUID whose bytes are written in order (RFC 9562), unlike a GPT's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// `2c6f2a3d-…`, either case, 36 characters; `None` for anything else.
    pub fn parse(text: &str) -> Option<Uuid> {
        parse_uuid(text).map(Uuid)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(self.0, f)
    }
}

/// Longest label: btrfs.
pub const LABEL_LEN: usize = 256;

/// What names a file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ids {
    pub kind: FileSystem,
    pub uuid: Uuid,
    label: heapless::Vec<u8, LABEL_LEN>,
}

impl Ids {
    /// Bytes up to the first NUL; any encoding.
    pub fn label(&self) -> &[u8] {
        &self.label
    }
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn ids(kind: FileSystem, bytes: &[u8], uuid_at: usize, label_at: usize, label_len: usize) -> Option<Ids> {
    let uuid = Uuid(bytes.get(uuid_at..uuid_at + 16)?.try_into().ok()?);
    let label = bytes.get(label_at..label_at + label_len)?.split(|b| *b == 0).next().unwrap_or_default();
    Some(Ids { kind, uuid, label: heapless::Vec::from_slice(label).ok()? })
}

/// 1024 bytes from byte 1024.
fn ext(bytes: &[u8]) -> Option<Ids> {
    const JOURNAL_DEVICE: u32 = 0x8;
    let magic = bytes.get(56..58)? == [0x53, 0xef];
    let log_block_size = le32(bytes, 24);
    if !magic || log_block_size > 6 || le32(bytes, 4) == 0 || le32(bytes, 96) & JOURNAL_DEVICE != 0 {
        return None;
    }
    ids(FileSystem::Ext, bytes, 104, 120, 16)
}

/// The first sector.
fn xfs(bytes: &[u8]) -> Option<Ids> {
    let block_size = le32(bytes, 4).swap_bytes();
    if bytes.get(..4)? != b"XFSB" || !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
        return None;
    }
    ids(FileSystem::Xfs, bytes, 32, 108, 12)
}

/// 1024 bytes from byte 65536.
fn btrfs(bytes: &[u8]) -> Option<Ids> {
    const PLACE: u32 = 65536;
    if bytes.get(64..72)? != b"_BHRfS_M" || le32(bytes, 48) != PLACE || le32(bytes, 52) != 0 {
        return None;
    }
    ids(FileSystem::Btrfs, bytes, 32, 299, LABEL_LEN)
}

/// The ids of the file system that fills `length` sectors from `start`; `None` if it is of no kind we know.
pub fn read(disk: &mut dyn ReadAt, start: Sectors, length: Sectors) -> Result<Option<Ids>, Errno> {
    let end = disk.size() / SECTOR as u64;
    let length = length.0.min(end.saturating_sub(start.0));
    let mut buffer = [0; 2 * SECTOR];
    for (sector, count, kind) in [(0, 1, FileSystem::Xfs), (2, 2, FileSystem::Ext), (128, 2, FileSystem::Btrfs)] {
        let Some(bytes) = buffer.get_mut(..count * SECTOR).filter(|_| length >= sector + count as u64) else { continue };
        // Inside the disk, as `length` is; start and sector cannot overflow for the same reason.
        disk.read_at((start.0 + sector).saturating_mul(SECTOR as u64), bytes)?;
        let ids = match kind {
            FileSystem::Ext => ext(bytes),
            FileSystem::Xfs => xfs(bytes),
            FileSystem::Btrfs => btrfs(bytes),
        };
        if ids.is_some() {
            return Ok(ids);
        }
    }
    Ok(None)
}

/// Do `length` sectors from `start` hold what others open before there is a file system: LUKS, a physical volume of LVM, a member of MD?
pub fn opened_by_others(disk: &mut dyn ReadAt, start: Sectors, length: Sectors) -> Result<bool, Errno> {
    const MD: u32 = 0xa92b_4efc;
    let end = disk.size() / SECTOR as u64;
    let length = length.0.min(end.saturating_sub(start.0));
    let mut buffer = [0; 4 * SECTOR];
    if length < 9 {
        return Ok(false);
    }
    disk.read_at(start.0.saturating_mul(SECTOR as u64), &mut buffer)?;
    // The label of LVM may stand in any of the first four sectors.
    let label = |sector: &[u8]| sector.starts_with(b"LABELONE") && sector.get(24..32) == Some(b"LVM2 001");
    if buffer.starts_with(b"LUKS\xba\xbe") || buffer.chunks(SECTOR).any(label) || le32(&buffer, 0) == MD {
        return Ok(true);
    }
    // MD 1.2: after 4 KB. 1.0: in the last 8 to 12 KB, by 4 KB. 0.90: in the last 64 to 128 KB, by 64 KB.
    for at in [Some(8), length.checked_sub(16).map(|at| at & !7), (length & !127).checked_sub(128)].into_iter().flatten() {
        let mut sector = [0; SECTOR];
        disk.read_at((start.0 + at).saturating_mul(SECTOR as u64), &mut sector)?;
        if le32(&sector, 0) == MD {
            return Ok(true);
        }
    }
    Ok(false)
}
