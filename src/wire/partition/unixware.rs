//! UnixWare labels: in sector 29 of the disk, or of a DOS partition of type 63 (msdos.c `parse_unixware`). Offsets count from the disk's
//! start in both. Slice 0 is the whole disk and is left out.

use super::found::Nesting;
use super::{Disk, Found, Name, Partition, SECTOR, Type, Unique, le16, le32};
use crate::fault::Errno;
use crate::model::Sectors;

const LABEL_SECTOR: u64 = 29;
const MAGIC: u32 = 0xca5e_600d;
const VTOC_MAGIC: u32 = 0x600d_deee;
const SLICES: usize = 216;

struct Slice {
    label: u16,
    start: u32,
    length: u32,
}

fn slices(label: &[u8]) -> impl Iterator<Item = Slice> + '_ {
    (1..16).filter_map(|i| {
        let at = SLICES + 12 * i;
        let tag = le16(label, at);
        (tag != 0).then(|| Slice { label: tag, start: le32(label, at + 4), length: le32(label, at + 8) })
    })
}

fn label(disk: &mut Disk<'_>, start: u64, into: &mut [u8; SECTOR]) -> Result<bool, Errno> {
    Ok(disk.read(start.saturating_add(LABEL_SECTOR), into)? && le32(into, 4) == MAGIC && le32(into, 156) == VTOC_MAGIC)
}

pub(super) fn read(disk: &mut Disk<'_>, found: &mut Found<'_>) -> Result<bool, Errno> {
    let mut sector = [0; SECTOR];
    if !label(disk, 0, &mut sector)? {
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
            kind: Type::Tag(slice.label),
            unique: Unique::None,
            name: Name::default(),
        };
        found.put(partition, Nesting::Either);
    }
    Ok(true)
}

/// The label inside DOS primary `outer`.
pub(super) fn inside(disk: &mut Disk<'_>, outer: &Partition, next: &mut u32, found: &mut Found<'_>) -> Result<(), Errno> {
    let mut sector = [0; SECTOR];
    if !label(disk, outer.start.0, &mut sector)? {
        return Ok(());
    }
    for slice in slices(&sector) {
        found.put_inside(outer, u64::from(slice.start), slice.length, Type::Tag(slice.label), next);
    }
    Ok(())
}
