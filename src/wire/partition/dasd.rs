//! IBM DASD volumes (s390): VOL1 with its VTOC, LNX1, CMS1, or an LDL disk without a label (ibm.c; vtoc.h for the layouts).
//!
//! A real DASD tells its geometry and where its label is; a disk that only holds a DASD's data (a virtio disk, an image) is searched in
//! the three places where the kernel looks, with the geometry of a 3390.

use super::found::Nesting;
use super::{Complaint, Disk, Found, Kind, MAX_NUMBER, Name, Partition, SECTOR, Type, Unique, be16, be32, be64};
use crate::fault::Errno;
use crate::model::Sectors;

/// What BIODASDINFO2 and HDIO_GETGEO say of a DASD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    pub cylinders: u32,
    /// Tracks per cylinder.
    pub heads: u16,
    /// Blocks per track.
    pub sectors: u16,
    /// Block that holds the label.
    pub label_block: u32,
    /// The label's place counts in sectors whatever the block size is: 9336 and 3370 (FBA under DIAG).
    pub label_in_sectors: bool,
    /// Count-key-data device.
    pub eckd: bool,
    /// Linux disk layout: a partition even without a label.
    pub ldl: bool,
}

const VOL1: [u8; 4] = [0xe5, 0xd6, 0xd3, 0xf1];
const LNX1: [u8; 4] = [0xd3, 0xd5, 0xe7, 0xf1];
const CMS1: [u8; 4] = [0xc3, 0xd4, 0xe2, 0xf1];
/// Labels of a VTOC that are looked at: three partitions make a handful, all else is a damaged one.
const MAX_DSCB: u32 = 1024;

/// Blocks per track of a 3390 by block size.
fn blocks_per_track(block_size: u32) -> u16 {
    match block_size {
        512 => 49,
        1024 => 33,
        2048 => 21,
        _ => 12,
    }
}

/// A cylinder-head address (CCHH) as a block number: the head's upper 12 bits extend the cylinder (large volumes).
fn block_of(label: &[u8], at: usize, geometry: &Geometry) -> u64 {
    let (cc, hh) = (u64::from(be16(label, at)), u64::from(be16(label, at + 2)));
    let cylinder = (hh & 0xfff0) << 12 | cc;
    let (heads, sectors) = (u64::from(geometry.heads), u64::from(geometry.sectors));
    // 28 bits times 16 times 16 bits.
    cylinder * heads * sectors + (hh & 0xf) * sectors
}

fn one(number: u32, start: u64, end: u64) -> Option<Partition> {
    let length = Sectors(end.checked_sub(start)?);
    let (kind, unique) = (Type::None, Unique::None);
    Some(Partition { number, start: Sectors(start), length, span: length, container: 0, kind, unique, name: Name::default() })
}

#[inline(never)]
pub(super) fn read(disk: &mut Disk<'_>, dasd: Option<&Geometry>, found: &mut Found<'_>) -> Result<bool, Errno> {
    let ratio = disk.ratio();
    let geometry = match dasd {
        Some(geometry) => *geometry,
        None => Geometry {
            cylinders: 0,
            heads: 15,
            sectors: blocks_per_track(disk.block_size()),
            label_block: 2,
            label_in_sectors: false,
            eckd: true,
            ldl: false,
        },
    };
    let known = u64::from(geometry.label_block) * if geometry.label_in_sectors { 1 } else { ratio };
    let places = if dasd.is_some() { [known; 3] } else { [1, ratio, 2 * ratio] };
    let mut label = [0; SECTOR];
    for place in places {
        if !disk.read(place, &mut label)? {
            continue;
        }
        if label[..4] == VOL1 {
            return volume(disk, &label, &geometry, found);
        }
        let partition = if label[..4] == LNX1 {
            linux(disk, &label, place, &geometry, dasd.is_some())
        } else if label[..4] == CMS1 {
            minidisk(&label, place)
        } else {
            continue;
        };
        match partition {
            Some(partition) => found.put(partition, Nesting::Never),
            None => found.complain(Complaint::Unsupported(Kind::Dasd)),
        }
        return Ok(true);
    }
    let Some(geometry) = dasd else { return Ok(false) };
    // A DASD without a label is still no other table's disk.
    if geometry.ldl {
        let start = (u64::from(geometry.label_block) + 1) * ratio;
        if let Some(partition) = one(1, start, disk.sectors()) {
            found.put(partition, Nesting::Never);
        }
    }
    Ok(true)
}

/// VOL1: the VTOC's format 1 and 8 labels, each with one extent.
fn volume(disk: &mut Disk<'_>, label: &[u8; SECTOR], geometry: &Geometry, found: &mut Found<'_>) -> Result<bool, Errno> {
    let ratio = disk.ratio();
    let vtoc = block_of(label, 15, geometry) + u64::from(label[19]) + 1;
    let mut number = 1;
    let mut dscb = [0; SECTOR];
    for place in vtoc..vtoc + u64::from(MAX_DSCB) {
        let sector = place.saturating_mul(ratio);
        if !disk.read(sector, &mut dscb)? {
            found.complain(Complaint::ChainBroken { sector });
            return Ok(true);
        }
        // The format, an EBCDIC digit.
        match dscb[44] {
            0xf1 | 0xf8 => {}
            0xf4 | 0xf5 | 0xf7 | 0xf9 => continue,
            _ => return Ok(true),
        }
        let start = block_of(&dscb, 107, geometry).saturating_mul(ratio);
        let last_track = block_of(&dscb, 111, geometry);
        let end = last_track.saturating_add(u64::from(geometry.sectors)).saturating_mul(ratio);
        if number > MAX_NUMBER {
            found.complain(Complaint::TooMany { number });
            return Ok(true);
        }
        match one(number, start, end) {
            Some(partition) => found.put(partition, Nesting::Never),
            None => found.complain(Complaint::Reversed { number }),
        }
        number += 1;
    }
    found.complain(Complaint::ChainTooLong { sector: vtoc.saturating_mul(ratio) });
    Ok(true)
}

/// LNX1: one partition after the label. A label of version 2 knows how much is formatted; an older one relies on the geometry.
fn linux(disk: &Disk<'_>, label: &[u8; SECTOR], place: u64, geometry: &Geometry, real: bool) -> Option<Partition> {
    let ratio = disk.ratio();
    let end = if label[79] == 0xf2 {
        be64(label, 80).checked_mul(ratio)?
    } else {
        let tracks = u64::from(geometry.cylinders) * u64::from(geometry.heads);
        let formatted = tracks.checked_mul(u64::from(geometry.sectors))?.checked_mul(ratio)?;
        if formatted == disk.sectors() || (real && !geometry.eckd) {
            disk.sectors()
        } else if real {
            formatted.min(disk.sectors())
        } else {
            return None;
        }
    };
    one(1, place + ratio, end)
}

/// CMS1: the label has its own block size; a reserved minidisk says where it starts.
fn minidisk(label: &[u8; SECTOR], place: u64) -> Option<Partition> {
    let block_size = be32(label, 12);
    if !block_size.is_power_of_two() || !(512..=4096).contains(&block_size) {
        return None;
    }
    let ratio = u64::from(block_size) / SECTOR as u64;
    let (count, offset) = (u64::from(be32(label, 28)), u64::from(be32(label, 52)));
    if offset != 0 {
        return one(1, offset * ratio, count.checked_sub(1)? * ratio);
    }
    // A CMS disk under DIAG has its label in sector 1, and the partition in block 2 nevertheless.
    let start = if place == 1 { 2 * ratio } else { place + ratio };
    one(1, start, count * ratio)
}
