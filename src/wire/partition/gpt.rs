//! GUID partition table (UEFI 2.10 chapter 5; efi.c `is_gpt_valid`, `is_pmbr_valid`), logical blocks of any size.
//!
//! Header and entries are believed only if both checksums hold; a damaged primary gives way to the backup in the last block, then to
//! where the damaged one says its twin is. The kernel does so only with `gpt` on its command line; the peer always, and we with it.
//! The header's own size bounds what its checksum covers before the checksum is computed, which the peer forgets.

use super::found::Nesting;
use super::{Complaint, Disk, Found, GptCopy, GptFault, Guid, Name, Partition, SECTOR, Type, Unique, dos, le32, le64};
use crate::fault::Errno;
use crate::model::Sectors;

/// CRC-32 as UEFI wants it; one table of 1 KiB.
const CRC: crc::Crc<u32, crc::Table<1>> = crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);
/// Bytes of a header that have a meaning.
const HEADER: u32 = 92;
/// Bytes of an entry; UEFI allows larger ones, no Linux reader takes them.
const ENTRY: usize = 128;
/// Most entries: what the kernel can allocate for a table (KMALLOC_MAX_SIZE, 4 MiB).
const MAX_ENTRIES: u32 = 4 * 1024 * 1024 / ENTRY as u32;
/// Bytes read at a time.
const CHUNK: usize = 4096;

/// What a header that passed its checks says.
struct Header {
    entries_block: u64,
    count: u32,
    entries_crc: u32,
}

/// True when the disk has a GPT that can be believed.
pub(super) fn read(disk: &mut Disk<'_>, force: bool, found: &mut Found<'_>) -> Result<bool, Errno> {
    if !force && !protective(disk, found)? {
        return Ok(false);
    }
    let blocks = disk.sectors().checked_div(disk.ratio());
    let Some(last) = blocks.and_then(|blocks| blocks.checked_sub(1)).filter(|last| *last >= 1) else { return Ok(false) };
    let mut buffer = [0; CHUNK];
    let mut alternate = None;
    let primary = copy(disk, 1, last, &mut buffer, found, &mut alternate);
    if primary.is_ok() {
        return Ok(true);
    }
    let mut unreadable = complain(found, GptCopy::Primary, primary);
    let tries = [(GptCopy::Backup, Some(last)), (GptCopy::Alternate, alternate.filter(|block| *block > 1 && *block < last))];
    for (which, block) in tries {
        let Some(block) = block else { continue };
        let result = copy(disk, block, last, &mut buffer, found, &mut None);
        if result.is_ok() {
            found.complain(Complaint::GptBackupUsed(which));
            return Ok(true);
        }
        unreadable = unreadable.or(complain(found, which, result));
    }
    // A table that may be there but could not be read is not the same as none.
    unreadable.map_or(Ok(false), Err)
}

/// Notes why a copy was refused; gives back the error if it could not be read.
fn complain(found: &mut Found<'_>, copy: GptCopy, result: Result<(), GptFault>) -> Option<Errno> {
    let Err(fault) = result else { return None };
    found.complain(Complaint::Gpt { copy, fault });
    if let GptFault::Unreadable(errno) = fault { Some(errno) } else { None }
}

/// A protective (or hybrid) MBR: an entry of type EE that starts at block 1.
fn protective(disk: &mut Disk<'_>, found: &mut Found<'_>) -> Result<bool, Errno> {
    let mut mbr = [0; SECTOR];
    if !disk.read(0, &mut mbr)? || !dos::signed(&mbr) {
        return Ok(false);
    }
    let mut odd = None;
    for entry in dos::entries(&mbr) {
        match (entry.kind, entry.start) {
            (dos::PROTECTIVE, 1) => return Ok(true),
            (dos::PROTECTIVE, start) => odd = Some(start),
            _ => {}
        }
    }
    if let Some(start) = odd {
        found.complain(Complaint::Protective { start });
    }
    Ok(false)
}

/// Reads one copy of the table into `found`, which is as it was if the copy is not to be believed. `alternate` gets what an intact-looking
/// header says of its twin, also when the rest fails.
#[inline(never)]
fn copy(
    disk: &mut Disk<'_>,
    block: u64,
    last: u64,
    buffer: &mut [u8; CHUNK],
    found: &mut Found<'_>,
    alternate: &mut Option<u64>,
) -> Result<(), GptFault> {
    let header = header(disk, block, last, buffer, alternate)?;
    let mark = found.mark();
    let read = entries(disk, &header, last, buffer, found);
    if read.is_err() {
        found.back_to(mark);
    }
    read
}

fn header(disk: &mut Disk<'_>, block: u64, last: u64, buffer: &mut [u8; CHUNK], alternate: &mut Option<u64>) -> Result<Header, GptFault> {
    // `block` is at most `last`, so neither product nor sum can overflow.
    let first_sector = block * disk.ratio();
    let mut head = [0; SECTOR];
    match disk.read(first_sector, &mut head) {
        Ok(true) => {}
        Ok(false) => return Err(GptFault::NoSignature),
        Err(errno) => return Err(GptFault::Unreadable(errno)),
    }
    if &head[..8] != b"EFI PART" {
        return Err(GptFault::NoSignature);
    }
    *alternate = Some(le64(&head, 32));
    let size = le32(&head, 12);
    if size < HEADER || size > disk.block_size() {
        return Err(GptFault::HeaderSize(size));
    }
    let mut first = true;
    let crc = checksum(disk, first_sector, size, buffer, &mut |chunk| {
        // Where the checksum itself stands counts as zero.
        if let Some(own) = chunk.get_mut(16..20).filter(|_| core::mem::take(&mut first)) {
            own.fill(0);
        }
    })?;
    match crc {
        None => return Err(GptFault::HeaderSize(size)),
        Some(crc) if crc != le32(&head, 16) => return Err(GptFault::HeaderCrc),
        Some(_) => {}
    }
    let my_lba = le64(&head, 24);
    if my_lba != block {
        return Err(GptFault::MyLba(my_lba));
    }
    let (first_usable, last_usable) = (le64(&head, 40), le64(&head, 48));
    if first_usable > last || last_usable > last || last_usable < first_usable {
        return Err(GptFault::Usable);
    }
    let entry_size = le32(&head, 84);
    if entry_size as usize != ENTRY {
        return Err(GptFault::EntrySize(entry_size));
    }
    let count = le32(&head, 80);
    if count > MAX_ENTRIES {
        return Err(GptFault::EntryCount(count));
    }
    Ok(Header { entries_block: le64(&head, 72), count, entries_crc: le32(&head, 88) })
}

/// One pass: entries go into `found` while their checksum is computed, so that what was checked is what is used.
fn entries(disk: &mut Disk<'_>, header: &Header, last: u64, buffer: &mut [u8; CHUNK], found: &mut Found<'_>) -> Result<(), GptFault> {
    if header.entries_block > last {
        return Err(GptFault::EntryCount(header.count));
    }
    let ratio = disk.ratio();
    let mut number = 0;
    // `MAX_ENTRIES` of them are 4 MiB.
    let crc = checksum(disk, header.entries_block * ratio, header.count * ENTRY as u32, buffer, &mut |chunk| {
        for entry in chunk.chunks_exact(ENTRY) {
            number += 1;
            put(ratio, entry, number, found);
        }
    })?;
    match crc {
        None => Err(GptFault::EntryCount(header.count)),
        Some(crc) if crc != header.entries_crc => Err(GptFault::EntriesCrc),
        Some(_) => Ok(()),
    }
}

/// The checksum of `size` bytes from `sector`, each chunk as `see` leaves it; `None` when they are not all inside the disk.
#[inline(never)]
fn checksum(
    disk: &mut Disk<'_>,
    mut sector: u64,
    size: u32,
    buffer: &mut [u8; CHUNK],
    see: &mut dyn FnMut(&mut [u8]),
) -> Result<Option<u32>, GptFault> {
    let mut digest = CRC.digest();
    let mut left = size as usize;
    while left > 0 {
        let taken = left.min(CHUNK);
        // A chunk is whole sectors: the room is always there.
        let Some(chunk) = buffer.get_mut(..taken.next_multiple_of(SECTOR)) else { return Ok(None) };
        if !disk.read(sector, chunk).map_err(GptFault::Unreadable)? {
            return Ok(None);
        }
        let Some(chunk) = chunk.get_mut(..taken) else { return Ok(None) };
        see(chunk);
        digest.update(chunk);
        left -= taken;
        sector += (CHUNK / SECTOR) as u64;
    }
    Ok(Some(digest.finalize()))
}

fn put(ratio: u64, entry: &[u8], number: u32, found: &mut Found<'_>) {
    let guid = |at: usize| entry.get(at..at + 16).and_then(|bytes| bytes.try_into().ok()).map(Guid).unwrap_or_default();
    let kind = guid(0);
    if kind.is_nil() {
        return;
    }
    let (first, end) = (le64(entry, 32), le64(entry, 40));
    if end < first {
        return found.complain(Complaint::Reversed { number });
    }
    let start = first.checked_mul(ratio);
    let length = (end - first).checked_add(1).and_then(|blocks| blocks.checked_mul(ratio));
    let (Some(start), Some(length)) = (start, length) else {
        return found.complain(Complaint::Outside { number, start: first, length: end - first });
    };
    let partition = Partition {
        number,
        start: Sectors(start),
        length: Sectors(length),
        span: Sectors(length),
        container: 0,
        kind: Type::Gpt(kind),
        unique: Unique::Guid(guid(16)),
        name: Name::from_utf16le(entry.get(56..128).unwrap_or_default()),
    };
    found.put(partition, Nesting::Never);
}
