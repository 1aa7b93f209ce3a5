//! DOS (MBR) tables with logical partitions and the labels inside them (msdos.c).
//!
//! Follows the kernel where the peer differs: a boot byte other than 00 or 80 means no table (a FAT boot sector), AIX disks are left
//! alone, empty links use up no number, BSD, Solaris and UnixWare labels inside a primary get the numbers after the logical ones.
//! Chains cannot loop: every link's sector is remembered. All offsets scale with the logical block size.

use super::found::Nesting;
use super::{Complaint, Disk, Found, MAX_NUMBER, Name, Partition, SECTOR, Type, Unique, bsd, le32, solaris, unixware};
use crate::fault::Errno;
use crate::model::Sectors;
use heapless::Vec;

/// A GPT's protective entry.
pub(super) const PROTECTIVE: u8 = 0xee;
/// Links without data in a row that the kernel follows.
const MAX_EMPTY_LINKS: u32 = 100;
/// Links in all: each holds a partition or is one of the empty ones between.
const MAX_LINKS: usize = 512;

/// One of the four entries of a table sector.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) boot: u8,
    pub(super) kind: u8,
    /// In logical blocks; what it is relative to depends on the table.
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Entry {
    fn extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

/// 55 AA at the end.
pub(super) fn signed(sector: &[u8; SECTOR]) -> bool {
    sector.ends_with(&[0x55, 0xaa])
}

pub(super) fn entries(sector: &[u8; SECTOR]) -> [Entry; 4] {
    core::array::from_fn(|i| {
        let at = 0x1be + 16 * i;
        Entry { boot: sector[at], kind: sector[at + 4], start: le32(sector, at + 8), length: le32(sector, at + 12) }
    })
}

/// IBMA in EBCDIC, no Linux partition, and an LVM record in sector 7: an AIX disk, whose table area means something else.
fn aix(disk: &mut Disk<'_>, mbr: &[u8; SECTOR]) -> Result<bool, Errno> {
    if mbr[..4] != [0xc9, 0xc2, 0xd4, 0xc1] || entries(mbr).iter().any(|e| e.extended() || matches!(e.kind, 0x82 | 0x83 | 0x8e | 0xfd)) {
        return Ok(false);
    }
    let mut record = [0; SECTOR];
    Ok(disk.read(7, &mut record)? && &record[..4] == b"_LVM")
}

/// True when sector 0 is a DOS table, empty or not.
#[inline(never)]
pub(super) fn read(disk: &mut Disk<'_>, found: &mut Found<'_>) -> Result<bool, Errno> {
    let mut mbr = [0; SECTOR];
    if !disk.read(0, &mut mbr)? || aix(disk, &mbr)? || !signed(&mbr) {
        return Ok(false);
    }
    let table = entries(&mbr);
    if table.iter().any(|e| !matches!(e.boot, 0 | 0x80) || e.kind == PROTECTIVE) {
        return Ok(false);
    }
    let ratio = disk.ratio();
    let signature = le32(&mbr, 0x1b8);
    let primary = |number: u32, entry: Entry| {
        let span = u64::from(entry.length) * ratio;
        // Nobody shall make a file system over the chain, yet a boot loader needs its head: two sectors, or one block if larger.
        let length = if entry.extended() { span.min(ratio.max(2)) } else { span };
        Partition {
            number,
            start: Sectors(u64::from(entry.start) * ratio),
            length: Sectors(length),
            span: Sectors(span),
            container: 0,
            kind: Type::Dos(entry.kind),
            // The kernel gives the extended partition itself no PARTUUID.
            unique: if entry.extended() { Unique::None } else { Unique::Dos(signature) },
            name: Name::default(),
        }
    };
    // Primaries first: where a logical partition overlaps one, the primary stands.
    for (number, entry) in (1..).zip(table) {
        found.put(primary(number, entry), Nesting::Inside);
    }
    let mut next = 5;
    for (number, entry) in (1..).zip(table) {
        let outer = primary(number, entry);
        if entry.extended() && entry.length > 0 && outer.start.0 < disk.sectors() {
            logicals(disk, &outer, signature, &mut next, found);
        }
    }
    for (number, entry) in (1..).zip(table) {
        let outer = primary(number, entry);
        // A label inside a primary that was refused is refused with it.
        if entry.length == 0 || !found.partitions().iter().any(|p| p.number == number) {
            continue;
        }
        let result = match entry.kind {
            0xa5 => bsd::inside(disk, &outer, true, &mut next, found),
            0xa6 | 0xa9 => bsd::inside(disk, &outer, false, &mut next, found),
            0x63 => unixware::inside(disk, &outer, &mut next, found),
            0x82 | 0xbf => solaris::inside(disk, &outer, &mut next, found),
            _ => Ok(()),
        };
        if let Err(errno) = result {
            found.complain(Complaint::Unreadable { sector: outer.start.0, errno });
        }
    }
    Ok(true)
}

/// Walks the chain of extended boot records that starts at `outer`. In each, data entries count from the record itself, the link from
/// the start of the outermost extended partition.
fn logicals(disk: &mut Disk<'_>, outer: &Partition, signature: u32, next: &mut u32, found: &mut Found<'_>) {
    let ratio = disk.ratio();
    let first = outer.start.0;
    let (mut sector, mut size) = (first, outer.span.0);
    let mut seen = Vec::<u64, MAX_LINKS>::new();
    let mut empty = 0;
    loop {
        if seen.contains(&sector) {
            return found.complain(Complaint::ChainLoop { sector });
        }
        empty += 1;
        if empty > MAX_EMPTY_LINKS || seen.push(sector).is_err() {
            return found.complain(Complaint::ChainTooLong { sector });
        }
        let mut record = [0; SECTOR];
        match disk.read(sector, &mut record) {
            Ok(true) if signed(&record) => {}
            Ok(_) => return found.complain(Complaint::ChainBroken { sector }),
            Err(errno) => return found.complain(Complaint::Unreadable { sector, errno }),
        }
        let table = entries(&record);
        for (i, entry) in table.into_iter().enumerate() {
            if entry.length == 0 || entry.extended() {
                continue;
            }
            let (offset, length) = (u64::from(entry.start) * ratio, u64::from(entry.length) * ratio);
            let start = sector.saturating_add(offset);
            // The last two entries hold garbage on some disks: the kernel takes them only where they fit.
            if i >= 2 && (offset + length > size || start.saturating_add(length) > first.saturating_add(outer.span.0)) {
                continue;
            }
            if *next > MAX_NUMBER {
                return found.complain(Complaint::TooMany { number: *next });
            }
            let partition = Partition {
                number: *next,
                start: Sectors(start),
                length: Sectors(length),
                span: Sectors(length),
                container: outer.number,
                kind: Type::Dos(entry.kind),
                unique: Unique::Dos(signature),
                name: Name::default(),
            };
            found.put(partition, Nesting::Inside);
            *next += 1;
            empty = 0;
        }
        let Some(link) = table.into_iter().find(|e| e.length > 0 && e.extended()) else { return };
        sector = first.saturating_add(u64::from(link.start) * ratio);
        size = u64::from(link.length) * ratio;
    }
}
