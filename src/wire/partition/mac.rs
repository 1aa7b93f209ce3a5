//! Apple partition maps: big-endian, a driver descriptor in sector 0 says how large a block of the map is (mac.c). Numbers are the places in
//! the map; the map itself and free space have entries of their own and are mapped like others, as the kernel does.

use super::found::Nesting;
use super::{Complaint, Disk, Found, Kind, MAX_NUMBER, Name, Partition, SECTOR, Type, Unique, be16, be32};
use crate::fault::Errno;
use crate::model::Sectors;

const DRIVER_MAGIC: u16 = 0x4552;
const ENTRY_MAGIC: u16 = 0x504d;

pub(super) fn read(disk: &mut Disk<'_>, found: &mut Found<'_>) -> Result<bool, Errno> {
    let mut sector = [0; SECTOR];
    if !disk.read(0, &mut sector)? || be16(&sector, 0) != DRIVER_MAGIC {
        return Ok(false);
    }
    let block_size = usize::from(be16(&sector, 2));
    if block_size == 0 || !block_size.is_multiple_of(SECTOR) {
        found.complain(Complaint::Unsupported(Kind::Mac));
        return Ok(false);
    }
    let ratio = (block_size / SECTOR) as u64;
    let mut count = 1;
    let mut number = 1;
    while number <= count {
        if !disk.read(u64::from(number) * ratio, &mut sector)? || be16(&sector, 0) != ENTRY_MAGIC {
            break;
        }
        if number == 1 {
            count = be32(&sector, 4);
        }
        if number > MAX_NUMBER {
            found.complain(Complaint::TooMany { number });
            break;
        }
        let length = Sectors(u64::from(be32(&sector, 12)) * ratio);
        let partition = Partition {
            number,
            start: Sectors(u64::from(be32(&sector, 8)) * ratio),
            length,
            span: length,
            container: 0,
            kind: Type::None,
            unique: Unique::None,
            name: Name::from_bytes(&sector[16..48]),
        };
        found.put(partition, Nesting::Either);
        number += 1;
    }
    Ok(number > 1)
}
