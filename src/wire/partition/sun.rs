//! Sun (SPARC) labels: big-endian, in sector 0, starts in cylinders (sun.c). Numbers are the slices' places, used or not.

use super::found::Nesting;
use super::{Complaint, Disk, Found, Kind, Name, Partition, SECTOR, Type, Unique, be16, be32};
use crate::fault::Errno;
use crate::model::Sectors;

const MAGIC: u16 = 0xdabe;
const VTOC_SANE: u32 = 0x600d_deee;
const SLICES: usize = 444;
const TAGS: usize = 142;

pub(super) fn read(disk: &mut Disk<'_>, found: &mut Found<'_>) -> Result<bool, Errno> {
    let mut label = [0; SECTOR];
    if !disk.read(0, &mut label)? || be16(&label, 508) != MAGIC {
        return Ok(false);
    }
    if label.chunks_exact(2).fold(0, |sum, word| sum ^ be16(word, 0)) != 0 {
        found.complain(Complaint::Checksum(Kind::Sun));
        return Ok(false);
    }
    let (version, count, sanity) = (be32(&label, 128), be16(&label, 140), be32(&label, 188));
    let vtoc = sanity == VTOC_SANE && version == 1 && count <= 8;
    let count = if vtoc { usize::from(count) } else { 8 };
    let sectors_per_cylinder = u64::from(be16(&label, 436)) * u64::from(be16(&label, 438));
    for i in 0..count {
        let at = SLICES + 8 * i;
        let length = Sectors(u64::from(be32(&label, at + 4)));
        let partition = Partition {
            number: i as u32 + 1,
            // 32 bits times 32 bits.
            start: Sectors(u64::from(be32(&label, at)) * sectors_per_cylinder),
            length,
            span: length,
            container: 0,
            kind: if vtoc { Type::Tag(be16(&label, TAGS + 4 * i)) } else { Type::None },
            unique: Unique::None,
            name: Name::default(),
        };
        found.put(partition, Nesting::Either);
    }
    Ok(true)
}
