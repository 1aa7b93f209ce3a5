//! PlayStation 3 disk labels: big-endian, eight regions in the first three sectors. No kernel parser exists; the numbers are the peer's, used
//! regions counted from 1.

use super::found::Nesting;
use super::{Disk, Found, Name, Partition, SECTOR, Type, Unique, be64};
use crate::fault::Errno;
use crate::model::Sectors;

const MAGIC: [(usize, u64); 2] = [(16, 0x0face0ff), (24, 0xdeadface)];
const REGIONS: usize = 48;
const REGION_LEN: usize = 144;

pub(super) fn read(disk: &mut Disk<'_>, found: &mut Found<'_>) -> Result<bool, Errno> {
    let mut label = [0; 3 * SECTOR];
    if !disk.read(0, &mut label)? || MAGIC.into_iter().any(|(at, magic)| be64(&label, at) != magic) {
        return Ok(false);
    }
    let regions = (0..8).map(|i| REGIONS + REGION_LEN * i).map(|at| (be64(&label, at), be64(&label, at + 8)));
    for (number, (start, length)) in (1..).zip(regions.filter(|(start, length)| *start != 0 && *length != 0)) {
        let partition = Partition {
            number,
            start: Sectors(start),
            length: Sectors(length),
            span: Sectors(length),
            container: 0,
            kind: Type::None,
            unique: Unique::None,
            name: Name::default(),
        };
        found.put(partition, Nesting::Either);
    }
    Ok(true)
}
