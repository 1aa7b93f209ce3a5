//! BSD disk labels: the whole disk's (sector 1, or byte 64 of sector 0), and those inside a DOS partition of type A5, A6 or A9
//! (msdos.c `parse_bsd`).
//!
//! The kernel knows no label without a DOS table around it: there the numbers are the peer's, used slices counted from 1.

use super::found::Nesting;
use super::{Disk, Found, Name, Partition, SECTOR, Type, Unique, le16, le32};
use crate::fault::Errno;
use crate::model::Sectors;

const MAGIC: u32 = 0x8256_4557;
/// `d_npartitions` and the first slice, from the label's start.
const COUNT: usize = 138;
const SLICES: usize = 148;
/// Most slices: BSD_MAXPARTITIONS; OpenBSD's and NetBSD's 16 are as many.
const MAX_SLICES: usize = 16;

struct Slice {
    start: u32,
    length: u32,
    kind: u8,
}

/// Used slices of the label at the front of `label`.
fn slices(label: &[u8]) -> impl Iterator<Item = Slice> + '_ {
    (0..MAX_SLICES.min(usize::from(le16(label, COUNT)))).filter_map(|i| {
        let at = SLICES + 16 * i;
        let kind = label.get(at + 12).copied().unwrap_or(0);
        (kind != 0).then(|| Slice { length: le32(label, at), start: le32(label, at + 4), kind })
    })
}

pub(super) fn read(disk: &mut Disk<'_>, found: &mut Found<'_>) -> Result<bool, Errno> {
    let mut sector = [0; SECTOR];
    for (number, offset) in [(1, 0), (0, 64)] {
        if !disk.read(number, &mut sector)? {
            continue;
        }
        let Some(label) = sector.get(offset..).filter(|label| le32(label, 0) == MAGIC) else { continue };
        for (number, slice) in (1..).zip(slices(label)) {
            let length = Sectors(u64::from(slice.length));
            let partition = Partition {
                number,
                start: Sectors(u64::from(slice.start)),
                length,
                span: length,
                container: 0,
                kind: Type::Bsd(slice.kind),
                unique: Unique::None,
                name: Name::default(),
            };
            found.put(partition, Nesting::Either);
        }
        return Ok(true);
    }
    Ok(false)
}

/// The label inside DOS primary `outer`. FreeBSD's offsets may count from the primary: they do if slice `c` starts at 0.
pub(super) fn inside(disk: &mut Disk<'_>, outer: &Partition, freebsd: bool, next: &mut u32, found: &mut Found<'_>) -> Result<(), Errno> {
    let mut label = [0; SECTOR];
    if !disk.read(outer.start.0.saturating_add(1), &mut label)? || le32(&label, 0) != MAGIC {
        return Ok(());
    }
    let relative = freebsd && le32(&label, SLICES + 16 * 2 + 4) == 0;
    for slice in slices(&label) {
        let start = u64::from(slice.start).saturating_add(if relative { outer.start.0 } else { 0 });
        let length = u64::from(slice.length);
        let whole = start == outer.start.0 && length == outer.span.0;
        let within = start >= outer.start.0 && start.saturating_add(length) <= outer.start.0.saturating_add(outer.span.0);
        // Neither the twin of the primary nor a slice out of its bounds uses up a number: so does the kernel count.
        if whole {
            continue;
        }
        if !within {
            found.complain(super::Complaint::NotInParent { number: *next, parent: outer.number });
            continue;
        }
        found.put_inside(outer, start, slice.length, Type::Bsd(slice.kind), next);
    }
    Ok(())
}
