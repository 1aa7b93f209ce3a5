//! Solaris x86 labels: in sector 1 of the disk, or of a DOS partition of type 82 or BF (msdos.c `parse_solaris_x86`).
//!
//! The fields are 32 bits wide on disk. The peer declares them `long` and so misses every real label on a 64-bit machine.

use super::found::Nesting;
use super::{Complaint, Disk, Found, Kind, Name, Partition, SECTOR, Type, Unique, le16, le32};
use crate::fault::Errno;
use crate::model::Sectors;

const SANE: u32 = 0x600d_deee;
const SLICES: usize = 72;

struct Slice {
    tag: u16,
    start: u32,
    length: u32,
}

/// Used slices: eight, or sixteen where the label says that it has more.
fn slices(label: &[u8]) -> impl Iterator<Item = Slice> + '_ {
    let count = if le16(label, 30) > 8 { 16 } else { 8 };
    (0..count).filter_map(|i| {
        let at = SLICES + 12 * i;
        let length = le32(label, at + 8);
        (length != 0).then(|| Slice { tag: le16(label, at), start: le32(label, at + 4), length })
    })
}

/// Reads the label in the sector after `start`; `false` when there is none of version 1.
fn label(disk: &mut Disk<'_>, start: u64, into: &mut [u8; SECTOR], found: &mut Found<'_>) -> Result<bool, Errno> {
    if !disk.read(start.saturating_add(1), into)? || le32(into, 12) != SANE {
        return Ok(false);
    }
    let known = le32(into, 16) == 1;
    if !known {
        found.complain(Complaint::Unsupported(Kind::Solaris));
    }
    Ok(known)
}

pub(super) fn read(disk: &mut Disk<'_>, found: &mut Found<'_>) -> Result<bool, Errno> {
    let mut sector = [0; SECTOR];
    if !label(disk, 0, &mut sector, found)? {
        return Ok(false);
    }
    for (number, slice) in (1..).zip(slices(&sector)) {
        let length = Sectors(u64::from(slice.length));
        let partition = Partition {
            number,
            start: Sectors(u64::from(slice.start)),
            length,
            span: length,
            container: 0,
            kind: Type::Tag(slice.tag),
            unique: Unique::None,
            name: Name::default(),
        };
        found.put(partition, Nesting::Either);
    }
    Ok(true)
}

/// The label inside DOS primary `outer`: its offsets count from there. Type 82 is Linux swap far more often; the magic decides.
pub(super) fn inside(disk: &mut Disk<'_>, outer: &Partition, next: &mut u32, found: &mut Found<'_>) -> Result<(), Errno> {
    let mut sector = [0; SECTOR];
    if !label(disk, outer.start.0, &mut sector, found)? {
        return Ok(());
    }
    for slice in slices(&sector) {
        let start = outer.start.0.saturating_add(u64::from(slice.start));
        found.put_inside(outer, start, slice.length, Type::Tag(slice.tag), next);
    }
    Ok(())
}
