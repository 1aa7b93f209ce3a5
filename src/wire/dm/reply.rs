//! What the kernel wrote back into a request's buffer.
//!
//! Every offset in it is checked against the bytes there are; a chain that does not move forward ends as malformed. Fields a kernel
//! does not fill read as zero, because `emit` zeroed the buffer.

use super::{HEADER, NAME_AT, NAME_FIELD, SPEC, UUID_AT, UUID_FIELD};
use crate::fault::Malformed;
use crate::model::{DevNo, Sectors};

/// Smallest `data_size` the kernel uses: the offset of the payload field.
const SMALLEST: usize = 305;

/// Output bits of the header. Input bits are echoed by the kernel; only those defined as output are offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u32);

impl Flags {
    pub const fn read_only(self) -> bool {
        self.0 & 0x1 != 0
    }
    pub const fn suspended(self) -> bool {
        self.0 & 0x2 != 0
    }
    /// A table is live.
    pub const fn active(self) -> bool {
        self.0 & 0x20 != 0
    }
    /// A table is loaded and waits for a resume.
    pub const fn inactive(self) -> bool {
        self.0 & 0x40 != 0
    }
    /// The data did not fit: what is there is incomplete.
    pub const fn buffer_full(self) -> bool {
        self.0 & 0x100 != 0
    }
    /// Only after Resume, Rename and Remove: an uevent was sent.
    pub const fn uevent(self) -> bool {
        self.0 & 0x2000 != 0
    }
    /// Removal waits for the last close.
    pub const fn deferred_remove(self) -> bool {
        self.0 & 0x2_0000 != 0
    }
    pub const fn internal_suspend(self) -> bool {
        self.0 & 0x4_0000 != 0
    }
}

/// The header: which device, and how it stands. Names are the kernel's bytes; see [`super::printable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info<'a> {
    /// Interface version of the kernel.
    pub version: [u32; 3],
    pub devno: DevNo,
    pub name: &'a [u8],
    pub uuid: &'a [u8],
    pub flags: Flags,
    /// Targets in the live table; for Status and TableLine, lines that follow.
    pub target_count: u32,
    pub open_count: u32,
    /// Not refreshed by Remove.
    pub event_nr: u32,
}

/// A buffer the kernel wrote back.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    header: &'a [u8; HEADER],
    bytes: &'a [u8],
    start: usize,
}

/// Bytes up to a NUL.
fn until_nul(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|&b| b == 0).map(|end| &bytes[..end])
}

fn get32(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let field = bytes.get(at..).and_then(|b| b.first_chunk()).ok_or(Malformed)?;
    Ok(u32::from_ne_bytes(*field))
}

fn get64(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    let field = bytes.get(at..).and_then(|b| b.first_chunk()).ok_or(Malformed)?;
    Ok(u64::from_ne_bytes(*field))
}

impl<'a> Reply<'a> {
    /// Checks the header's own figures. `buffer`: as it was submitted, at least [`HEADER`] bytes.
    pub fn parse(buffer: &'a [u8]) -> Result<Reply<'a>, Malformed> {
        let header = buffer.first_chunk().ok_or(Malformed)?;
        let size = get32(buffer, 12)? as usize;
        let start = get32(buffer, 16)? as usize;
        if size < SMALLEST || start > buffer.len() {
            return Err(Malformed);
        }
        // Requests without payload answer with a size that ends inside the header.
        let bytes = buffer.get(..size.max(HEADER)).ok_or(Malformed)?;
        Ok(Reply { header, bytes, start })
    }

    pub fn info(&self) -> Info<'a> {
        let word = |at| get32(self.header, at).unwrap_or(0);
        let name = &self.header[NAME_AT..NAME_AT + NAME_FIELD];
        let uuid = &self.header[UUID_AT..UUID_AT + UUID_FIELD];
        Info {
            version: [word(0), word(4), word(8)],
            devno: DevNo::from_kernel(get64(self.header, 40).unwrap_or(0)),
            name: until_nul(name).unwrap_or(name),
            uuid: until_nul(uuid).unwrap_or(uuid),
            flags: Flags(word(28)),
            target_count: word(20),
            open_count: word(24),
            event_nr: word(32),
        }
    }

    fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.start..).unwrap_or(&[])
    }

    /// Lines of Status and TableLine. Look at `buffer_full` first.
    pub fn lines(&self) -> Lines<'a> {
        Lines { payload: self.payload(), at: 0, left: self.info().target_count }
    }

    /// The one target of a multipath or partition map; `kind`: which type it must have.
    pub fn only_line(&self, kind: Option<&str>) -> Result<TargetLine<'a>, NoMatch> {
        let info = self.info();
        if info.flags.buffer_full() {
            return Err(NoMatch::Full);
        }
        match info.target_count {
            0 => return Err(NoMatch::Empty),
            1 => {}
            _ => return Err(NoMatch::Several),
        }
        let line = self.lines().next().ok_or(NoMatch::Malformed)?.map_err(|_| NoMatch::Malformed)?;
        if kind.is_some_and(|kind| kind.as_bytes() != line.kind) {
            return Err(NoMatch::Kind);
        }
        Ok(line)
    }

    /// Devices a table refers to (Deps), in the kernel's order: the reverse of the table's.
    pub fn deps(&self) -> Result<impl Iterator<Item = DevNo> + use<'a>, Malformed> {
        let payload = self.payload();
        if payload.is_empty() {
            // No live table: the kernel leaves the payload out.
            return Ok(payload.chunks_exact(8).map(dep as fn(&[u8]) -> DevNo));
        }
        let count = get32(payload, 0)? as usize;
        let end = count.checked_mul(8).and_then(|n| n.checked_add(8)).ok_or(Malformed)?;
        let numbers = payload.get(8..end).ok_or(Malformed)?;
        Ok(numbers.chunks_exact(8).map(dep as fn(&[u8]) -> DevNo))
    }

    /// Devices of List. After `buffer_full` there may be none, or some (from 5.15 on).
    pub fn entries(&self) -> Entries<'a> {
        let payload = self.payload();
        // An empty list is one record with device 0.
        let empty = get64(payload, 0).unwrap_or(0) == 0;
        Entries { payload, at: if empty { None } else { Some(0) } }
    }

    /// Targets of ListVersions and TargetVersion.
    pub fn versions(&self) -> Versions<'a> {
        let payload = self.payload();
        Versions { payload, at: if payload.is_empty() { None } else { Some(0) } }
    }
}

fn dep(bytes: &[u8]) -> DevNo {
    DevNo::from_kernel(get64(bytes, 0).unwrap_or(0))
}

/// Why a reply has no single target of the kind asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum NoMatch {
    /// No live table.
    Empty,
    Several,
    /// Another target type.
    Kind,
    /// The text did not fit the buffer.
    Full,
    Malformed,
}

/// One target of Status or TableLine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetLine<'a> {
    pub start: Sectors,
    pub length: Sectors,
    pub kind: &'a [u8],
    /// Parameters or status.
    pub text: &'a [u8],
}

impl<'a> TargetLine<'a> {
    /// The text, if it is ASCII as the multipath and linear targets write it.
    pub fn text(&self) -> Result<&'a str, Malformed> {
        if !self.text.is_ascii() {
            return Err(Malformed);
        }
        core::str::from_utf8(self.text).map_err(|_| Malformed)
    }

    /// A linear target's device and start.
    pub fn linear(&self) -> Result<(DevNo, Sectors), Malformed> {
        let text = self.text()?;
        let (devno, start) = text.trim_ascii_end().split_once(' ').ok_or(Malformed)?;
        if start.is_empty() || !start.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Malformed);
        }
        let start = start.parse().map_err(|_| Malformed)?;
        Ok((DevNo::parse(devno).ok_or(Malformed)?, Sectors(start)))
    }
}

/// Iterator of [`TargetLine`]s; ends after the first error.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    payload: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Lines<'a> {
    fn read(&mut self) -> Result<TargetLine<'a>, Malformed> {
        let (spec, text) = self.payload.get(self.at..).and_then(|b| b.split_first_chunk::<SPEC>()).ok_or(Malformed)?;
        let text = until_nul(text).ok_or(Malformed)?;
        let kind = &spec[24..40];
        let line =
            TargetLine { start: Sectors(get64(spec, 0)?), length: Sectors(get64(spec, 8)?), kind: until_nul(kind).unwrap_or(kind), text };
        // `next` counts from the first spec (dm-ioctl.c, retrieve_status).
        let next = get32(spec, 20)? as usize;
        if self.left > 0 && next <= self.at {
            return Err(Malformed);
        }
        self.at = next;
        Ok(line)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<TargetLine<'a>, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let line = self.read();
        if line.is_err() {
            self.left = 0;
        }
        Some(line)
    }
}

/// One device of List. Names are the kernel's bytes; see [`super::printable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    pub devno: DevNo,
    pub name: &'a [u8],
    pub event_nr: u32,
    /// `None` where the kernel does not list uuids (before 5.15): ask with Info. Empty for a device without one.
    pub uuid: Option<&'a [u8]>,
}

/// Iterator of [`Entry`]s; ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    payload: &'a [u8],
    at: Option<usize>,
}

impl<'a> Entries<'a> {
    fn read(&mut self, at: usize) -> Result<Entry<'a>, Malformed> {
        let record = self.payload.get(at..).ok_or(Malformed)?;
        let devno = DevNo::from_kernel(get64(record, 0)?);
        let next = get32(record, 8)? as usize;
        let name = until_nul(record.get(12..).ok_or(Malformed)?).ok_or(Malformed)?;
        // Records are 8-byte aligned in the buffer, so alignment within the record is alignment within the buffer.
        let after = (12 + name.len() + 1).next_multiple_of(8);
        let event_nr = get32(record, after)?;
        // Kernels before 5.15 end here; what follows is the zeroed buffer or the next record, hence the look at `next`.
        let flags = if next == 0 || next >= after + 8 { get32(record, after + 4).unwrap_or(0) } else { 0 };
        let uuid = match flags {
            1 => Some(until_nul(record.get(after + 8..).ok_or(Malformed)?).ok_or(Malformed)?),
            2 => Some(&[][..]),
            _ => None,
        };
        self.at = match next {
            0 => None,
            _ if next < after => return Err(Malformed),
            _ => Some(at.checked_add(next).ok_or(Malformed)?),
        };
        Ok(Entry { devno, name, event_nr, uuid })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at.take()?;
        Some(self.read(at))
    }
}

/// One target type the kernel knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version<'a> {
    pub name: &'a [u8],
    pub version: [u32; 3],
}

/// Iterator of [`Version`]s; ends after the first error.
#[derive(Clone, Debug)]
pub struct Versions<'a> {
    payload: &'a [u8],
    at: Option<usize>,
}

impl<'a> Versions<'a> {
    fn read(&mut self, at: usize) -> Result<Version<'a>, Malformed> {
        let record = self.payload.get(at..).ok_or(Malformed)?;
        let next = get32(record, 0)? as usize;
        let version = [get32(record, 4)?, get32(record, 8)?, get32(record, 12)?];
        let name = until_nul(record.get(16..).ok_or(Malformed)?).ok_or(Malformed)?;
        self.at = match next {
            0 => None,
            _ if next < 16 => return Err(Malformed),
            _ => Some(at.checked_add(next).ok_or(Malformed)?),
        };
        Ok(Version { name, version })
    }
}

impl<'a> Iterator for Versions<'a> {
    type Item = Result<Version<'a>, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at.take()?;
        Some(self.read(at))
    }
}
