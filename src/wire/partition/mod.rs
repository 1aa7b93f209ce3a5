//! Partition tables, read through [`ReadAt`]: one file per format, tried in the order of the peer (gpt dos bsd solaris unixware
//! dasd mac sun ps3), numbers as the kernel gives them (block/partitions/*.c).
//!
//! Total on any bytes and bounded in reads: no table makes a reader loop, allocate or read outside the disk. What does not fit the
//! disk, overlaps or fails its checksum is refused with a typed [`Complaint`] and keeps its number, so that the others do not shift.
//! Never writes, never decides what is mapped.

pub mod bsd;
pub mod dasd;
pub mod dos;
pub mod found;
pub mod gpt;
pub mod guid;
pub mod mac;
pub mod ps3;
pub mod solaris;
pub mod sun;
pub mod unixware;

pub use found::Found;
pub use guid::{Guid, Name};

use crate::fault::Errno;
use crate::model::Sectors;
use core::fmt;

/// Bytes of one sector in every offset of this room, whatever the disk's logical block size (dm and the kernel's parsers agree).
pub const SECTOR: usize = 512;
/// Highest partition number that is mapped: the kernel's DISK_MAX_PARTS and the peer's slots.
pub const MAX_NUMBER: u32 = 256;

/// The pull seam: a disk (or a path, or a file) that can be read at an offset. The shell's implementations have a deadline of their
/// own; a reader asks for at most 4 KiB at a time.
pub trait ReadAt {
    /// Bytes. A last part that is no whole sector is not looked at.
    fn size(&self) -> u64;
    /// Logical block size in bytes, the unit of an LBA: a power of two, 512 or more.
    fn block_size(&self) -> u32;
    /// Fills `into` from byte `offset`. Both are multiples of 512 and inside `size`; aligning to the device is the implementation's work.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Errno>;
}

/// A format of partition table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    Gpt,
    Dos,
    Bsd,
    Solaris,
    Unixware,
    Dasd,
    Mac,
    Sun,
    Ps3,
}

impl Kind {
    /// Every kind, in the order in which they are tried; the first that recognises its table wins.
    pub const ORDER: [Kind; 9] =
        [Kind::Gpt, Kind::Dos, Kind::Bsd, Kind::Solaris, Kind::Unixware, Kind::Dasd, Kind::Mac, Kind::Sun, Kind::Ps3];

    /// The word of `kpartx -t` and of listings.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Gpt => "gpt",
            Kind::Dos => "dos",
            Kind::Bsd => "bsd",
            Kind::Solaris => "solaris",
            Kind::Unixware => "unixware",
            Kind::Dasd => "dasd",
            Kind::Mac => "mac",
            Kind::Sun => "sun",
            Kind::Ps3 => "ps3",
        }
    }

    /// The kind that `word` names, if any.
    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ORDER.into_iter().find(|kind| kind.word() == word)
    }
}

/// What the caller knows or wants beyond the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Try this reader only.
    pub only: Option<Kind>,
    /// Accept a GPT without its protective MBR.
    pub force_gpt: bool,
    /// What a DASD said of itself (BIODASDINFO2, HDIO_GETGEO); `None` where nobody could be asked.
    pub dasd: Option<dasd::Geometry>,
}

/// What an entry is, in its format's own code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Type {
    #[default]
    None,
    /// System indicator byte of a DOS table.
    Dos(u8),
    Gpt(Guid),
    /// `p_fstype` of a BSD label.
    Bsd(u8),
    /// Tag of a Solaris, UnixWare or Sun slice.
    Tag(u16),
}

/// What `PARTUUID=` can name an entry by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Unique {
    #[default]
    None,
    Guid(Guid),
    /// DOS: the disk's signature; the text is `ssssssss-nn` with the partition's number in hexadecimal (msdos.c `set_info`).
    Dos(u32),
}

/// One partition, in 512-byte sectors of the whole disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Partition {
    /// As the kernel would number it, from 1 to [`MAX_NUMBER`].
    pub number: u32,
    pub start: Sectors,
    /// What is mapped; two sectors (or one block) of an extended partition.
    pub length: Sectors,
    /// What the entry claims; larger than `length` for an extended partition only.
    pub span: Sectors,
    /// Number of the entry that this one lies in; 0 for none.
    pub container: u32,
    pub kind: Type,
    pub unique: Unique,
    /// GPT and Mac tables have names; empty elsewhere.
    pub name: Name,
}

impl Partition {
    /// The value of `PARTUUID=`; nothing where there is none.
    pub fn write_unique<W: fmt::Write + ?Sized>(&self, out: &mut W) -> fmt::Result {
        match self.unique {
            Unique::None => Ok(()),
            Unique::Guid(guid) => write!(out, "{guid}"),
            Unique::Dos(signature) => {
                signature.to_be_bytes().into_iter().try_for_each(|byte| guid::write_hex(byte, out))?;
                out.write_char('-')?;
                // At most 256: `%02x` of the kernel gives three digits for that one.
                if self.number > 0xff {
                    out.write_char('1')?;
                }
                guid::write_hex(self.number as u8, out)
            }
        }
    }
}

/// Why a copy of a GPT was not believed (UEFI 5.3.2; efi.c `is_gpt_valid`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum GptFault {
    NoSignature,
    HeaderSize(u32),
    HeaderCrc,
    /// The header says that it lies elsewhere.
    MyLba(u64),
    /// First or last usable block outside the disk, or in the wrong order.
    Usable,
    EntrySize(u32),
    /// More entries than any reader takes, or a table outside the disk.
    EntryCount(u32),
    EntriesCrc,
    Unreadable(Errno),
}

/// Which copy of a GPT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum GptCopy {
    Primary,
    /// In the last block of the disk.
    Backup,
    /// Where a damaged primary says that the other copy is.
    Alternate,
}

/// What a reader refused or found odd. Sentences are made at the edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Complaint {
    /// Type EE, but not from block 1: the kernel takes it for no GPT (efi.c `pmbr_part_valid`).
    Protective {
        start: u32,
    },
    Gpt {
        copy: GptCopy,
        fault: GptFault,
    },
    /// The table in use is not the primary one.
    GptBackupUsed(GptCopy),
    /// Starts or ends past the end of the disk.
    Outside {
        number: u32,
        start: u64,
        length: u64,
    },
    /// Ends before it starts.
    Reversed {
        number: u32,
    },
    /// Shares sectors with an earlier entry.
    Overlap {
        number: u32,
        with: u32,
    },
    /// A slice of a label inside a DOS partition that reaches out of it.
    NotInParent {
        number: u32,
        parent: u32,
    },
    /// A number above [`MAX_NUMBER`], or more partitions than the caller has room for.
    TooMany {
        number: u32,
    },
    /// A chain of extended boot records came back to a sector that it had been at.
    ChainLoop {
        sector: u64,
    },
    /// A link of the chain has no signature, or lies outside the disk.
    ChainBroken {
        sector: u64,
    },
    /// More links than the kernel follows.
    ChainTooLong {
        sector: u64,
    },
    /// This part of the table could not be read: what was found is not all there may be.
    Unreadable {
        sector: u64,
        errno: Errno,
    },
    /// The label's magic is there, its checksum is wrong.
    Checksum(Kind),
    /// The label's magic is there, a field has a value that no reader takes (version, block size).
    Unsupported(Kind),
}

/// A disk under its readers: sector reads that cannot leave it.
pub(crate) struct Disk<'a> {
    under: &'a mut dyn ReadAt,
    sectors: u64,
    block_size: u32,
}

impl Disk<'_> {
    /// Whole 512-byte sectors.
    fn sectors(&self) -> u64 {
        self.sectors
    }
    /// Sectors per logical block.
    fn ratio(&self) -> u64 {
        u64::from(self.block_size) / SECTOR as u64
    }
    fn block_size(&self) -> u32 {
        self.block_size
    }
    /// Reads from `sector`; `false`, and nothing is read, when that is not all inside the disk. `into` holds whole sectors.
    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<bool, Errno> {
        let count = (into.len() / SECTOR) as u64;
        match sector.checked_add(count) {
            Some(end) if end <= self.sectors => {}
            _ => return Ok(false),
        }
        self.under.read_at(sector * SECTOR as u64, into)?;
        Ok(true)
    }
}

/// Reads the partition table of `disk`, if it has one, into `found`.
///
/// `Ok(None)`: no table known (there may be complaints). An error: the disk could not be read far enough to say which table it has; what
/// was found before is dropped, because a later format must not win only since an earlier one was unreadable. `found.complete()` is
/// false when the table was recognised and part of it could not be read.
pub fn read(disk: &mut dyn ReadAt, options: &Options, found: &mut Found<'_>) -> Result<Option<Kind>, Errno> {
    let block_size = disk.block_size();
    if !block_size.is_power_of_two() || !(512..=1 << 20).contains(&block_size) {
        return Err(Errno::INVAL);
    }
    let sectors = disk.size() / SECTOR as u64;
    let mut disk = Disk { under: disk, sectors, block_size };
    found.start(sectors);
    for kind in Kind::ORDER {
        if options.only.is_some_and(|only| only != kind) {
            continue;
        }
        let read = match kind {
            Kind::Gpt => gpt::read(&mut disk, options.force_gpt, found),
            Kind::Dos => dos::read(&mut disk, found),
            Kind::Bsd => bsd::read(&mut disk, found),
            Kind::Solaris => solaris::read(&mut disk, found),
            Kind::Unixware => unixware::read(&mut disk, found),
            Kind::Dasd => dasd::read(&mut disk, options.dasd.as_ref(), found),
            Kind::Mac => mac::read(&mut disk, found),
            Kind::Sun => sun::read(&mut disk, found),
            Kind::Ps3 => ps3::read(&mut disk, found),
        };
        match read {
            Ok(true) => {
                found.finish();
                return Ok(Some(kind));
            }
            Ok(false) => {}
            Err(errno) => {
                found.drop_all();
                return Err(errno);
            }
        }
    }
    Ok(None)
}

/// Little-endian fields of a sector; `at` is a constant of the format, inside the buffer.
fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}
fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}
fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}
/// Big-endian fields, as above.
fn be16(bytes: &[u8], at: usize) -> u16 {
    le16(bytes, at).swap_bytes()
}
fn be32(bytes: &[u8], at: usize) -> u32 {
    le32(bytes, at).swap_bytes()
}
fn be64(bytes: &[u8], at: usize) -> u64 {
    le64(bytes, at).swap_bytes()
}
