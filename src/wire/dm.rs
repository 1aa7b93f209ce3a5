//! dm ioctl requests and replies (include/uapi/linux/dm-ioctl.h) as values; `emit` fills a buffer of at most one page.
//!
//! Interface version 4.0.0 is sent: every kernel since 2.6 takes it, and what a kernel can do is probed, not derived from a number.
//! The buffer is zeroed each time, because the kernel writes name and uuid back and refuses a request that gives more than one of
//! name, uuid and device (dm-ioctl.c, `__find_device_hash_cell`).

use crate::fault::Full;
use crate::model::{DevNo, Sectors};
use crate::wire::cursor::{Cursor, put};
use crate::wire::table::Table;

mod names;
mod reply;

pub use names::{NameError, UUID_LEN, check_name, check_uuid, mangle, map_wwid, partition_of, printable};
pub use reply::{Entries, Entry, Flags, Info, Lines, NoMatch, Reply, TargetLine, Version, Versions};

/// Bytes of `struct dm_ioctl`; also where a request's payload starts.
pub const HEADER: usize = 312;
/// Largest buffer a request may use: a larger one is an allocation of more than one page in the kernel, seen to stall for seconds
/// when memory is short.
pub const PAGE: usize = 4096;

const NAME_AT: usize = 48;
const NAME_FIELD: usize = 128;
const UUID_AT: usize = 176;
const UUID_FIELD: usize = 129;
/// Bytes of `struct dm_target_spec`.
const SPEC: usize = 40;

const READONLY: u32 = 0x1;
const SUSPEND: u32 = 0x2;
const STATUS_TABLE: u32 = 0x10;
const SKIP_LOCKFS: u32 = 0x400;
const NOFLUSH: u32 = 0x800;
const UUID: u32 = 0x4000;
const DEFERRED_REMOVE: u32 = 0x2_0000;

/// How a request names its device: exactly one way, as the kernel demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    Name(&'a str),
    Uuid(&'a str),
    Device(DevNo),
}

impl Target<'_> {
    /// For requests that concern no device; for `List`: no prefix.
    pub const NONE: Target<'static> = Target::Name("");
}

/// A message to a multipath map, always sector 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    QueueIfNoPath,
    FailIfNoPath,
    FailPath(DevNo),
    ReinstatePath(DevNo),
    /// 1-based.
    SwitchGroup(u8),
    DisableGroup(u8),
    EnableGroup(u8),
    CancelDeferredRemove,
}

/// udev's flags for one uevent: the high half of the cookie (libdm's DM_UDEV_*); 0 sends no DM_COOKIE at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cookie(pub u16);

/// What to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content<'a> {
    Multipath(&'a Table),
    /// One linear target on `device` from `start`.
    Linear {
        device: DevNo,
        start: Sectors,
    },
}

/// One dm ioctl.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    Version,
    /// All devices with numbers, names, event numbers (and uuids where the kernel gives them). May need a second page: see
    /// [`Flags::buffer_full`]. A name or uuid as target is a prefix filter from 5.15 on, and ignored before.
    List,
    /// Targets whose modules are loaded.
    ListVersions,
    /// One target's version; loads its module, so never after the start.
    TargetVersion(&'a str),
    Create {
        name: &'a str,
        uuid: &'a str,
    },
    Load {
        size: Sectors,
        read_only: bool,
        content: Content<'a>,
    },
    Clear,
    /// Always NOFLUSH|SKIP_LOCKFS: a flush suspend errors queued I/O (dm-mpath.c).
    Suspend,
    /// Swaps in a loaded table, if any. NOFLUSH|SKIP_LOCKFS too: the internal suspend obeys the resume call's flags.
    Resume {
        cookie: Cookie,
    },
    Info,
    Status,
    TableLine,
    Deps,
    Message(Message),
    /// The device must be given by name: the kernel looks it up by nothing else.
    Rename {
        to: &'a str,
        cookie: Cookie,
    },
    /// Gives a uuid to a device that has none; by name, as `Rename`.
    SetUuid {
        uuid: &'a str,
    },
    Remove {
        deferred: bool,
        cookie: Cookie,
    },
    ArmPoll,
}

/// Why a request was not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum EmitError {
    /// The buffer, or one page, has no room for it.
    Full,
    /// A name or uuid the kernel or udev could not take: empty, too long, '/' or control characters in it.
    Name(NameError),
    /// The device is not named in the way this request needs, or its number is outside the kernel's range.
    Target,
}

impl From<Full> for EmitError {
    fn from(_: Full) -> EmitError {
        EmitError::Full
    }
}

impl From<NameError> for EmitError {
    fn from(error: NameError) -> EmitError {
        EmitError::Name(error)
    }
}

impl Request<'_> {
    /// The command's number within the 0xfd group.
    pub const fn number(&self) -> u8 {
        match self {
            Request::Version => 0x00,
            Request::List => 0x02,
            Request::Create { .. } => 0x03,
            Request::Remove { .. } => 0x04,
            Request::Rename { .. } | Request::SetUuid { .. } => 0x05,
            Request::Suspend | Request::Resume { .. } => 0x06,
            Request::Info => 0x07,
            Request::Load { .. } => 0x09,
            Request::Clear => 0x0a,
            Request::Deps => 0x0b,
            Request::Status | Request::TableLine => 0x0c,
            Request::ListVersions => 0x0d,
            Request::Message(_) => 0x0e,
            Request::ArmPoll => 0x10,
            Request::TargetVersion(_) => 0x11,
        }
    }

    /// `_IOWR(0xfd, number, struct dm_ioctl)` of the architectures with the generic encoding.
    pub const fn opcode(&self) -> u32 {
        0xc138_fd00 | self.number() as u32
    }

    /// Does the kernel answer with data, so that the whole buffer is offered to it?
    const fn answers(&self) -> bool {
        matches!(
            self,
            Request::List | Request::ListVersions | Request::TargetVersion(_) | Request::Status | Request::TableLine | Request::Deps
        )
    }

    const fn flags(&self) -> u32 {
        match self {
            Request::List | Request::SetUuid { .. } => UUID,
            Request::Load { read_only: true, .. } => READONLY,
            Request::Suspend => SUSPEND | NOFLUSH | SKIP_LOCKFS,
            Request::Resume { .. } => NOFLUSH | SKIP_LOCKFS,
            Request::TableLine => STATUS_TABLE,
            Request::Remove { deferred: true, .. } => DEFERRED_REMOVE,
            _ => 0,
        }
    }

    const fn cookie(&self) -> Cookie {
        match *self {
            Request::Resume { cookie } | Request::Rename { cookie, .. } | Request::Remove { cookie, .. } => cookie,
            _ => Cookie(0),
        }
    }

    /// How the header names the device.
    fn addresses<'a>(&'a self, target: Target<'a>) -> Result<Address<'a>, EmitError> {
        match *self {
            Request::Version | Request::ListVersions | Request::ArmPoll => Ok(Address::default()),
            Request::TargetVersion(name) => Ok(Address { name: check_name(name)?, ..Address::default() }),
            Request::Create { name, uuid } => Ok(Address { name: check_name(name)?, uuid: check_uuid(uuid)?, devno: None }),
            Request::List => match target {
                Target::Name("") | Target::Uuid("") => Ok(Address::default()),
                Target::Device(_) => Err(EmitError::Target),
                _ => Address::of(target),
            },
            Request::Rename { .. } | Request::SetUuid { .. } if !matches!(target, Target::Name(_)) => Err(EmitError::Target),
            _ => Address::of(target),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Address<'a> {
    name: &'a str,
    uuid: &'a str,
    devno: Option<DevNo>,
}

impl<'a> Address<'a> {
    fn of(target: Target<'a>) -> Result<Address<'a>, EmitError> {
        match target {
            Target::Name(name) => Ok(Address { name: check_name(name)?, ..Address::default() }),
            Target::Uuid("") => Err(EmitError::Target),
            Target::Uuid(uuid) => Ok(Address { uuid: check_uuid(uuid)?, ..Address::default() }),
            // kdev_t.h: 12 bits of major, 20 of minor; more would name another device.
            Target::Device(devno) if devno.major > 0xfff || devno.minor > 0xf_ffff => Err(EmitError::Target),
            Target::Device(devno) => Ok(Address { devno: Some(devno), ..Address::default() }),
        }
    }
}

/// Writes `request` for the device `target` into `buffer` and returns how many bytes of it the kernel is offered (`data_size`): all of
/// the buffer, or one page, where the kernel answers with data, else no more than the payload needs. Those bytes are zeroed before.
#[inline(never)]
pub fn emit(target: Target<'_>, request: &Request<'_>, buffer: &mut [u8]) -> Result<usize, EmitError> {
    let room = buffer.len().min(PAGE);
    let buffer = buffer.get_mut(..room).ok_or(EmitError::Full)?;
    buffer.fill(0);
    let payload = buffer.get_mut(HEADER..).ok_or(EmitError::Full)?;
    let address = request.addresses(target)?;
    let payload = emit_payload(request, payload)?;
    let size = if request.answers() { room } else { HEADER + payload };
    put32(buffer, 0, 4);
    put32(buffer, 12, size as u32);
    put32(buffer, 16, HEADER as u32);
    put32(buffer, 20, u32::from(matches!(request, Request::Load { .. })));
    put32(buffer, 28, request.flags());
    put32(buffer, 32, u32::from(request.cookie().0) << 16);
    if let Some(devno) = address.devno {
        put(buffer, 40, &devno.to_kernel().to_ne_bytes());
    }
    // The checks above leave room for the NUL.
    put(buffer, NAME_AT, address.name.as_bytes());
    put(buffer, UUID_AT, address.uuid.as_bytes());
    Ok(size)
}

fn put32(buffer: &mut [u8], at: usize, value: u32) {
    put(buffer, at, &value.to_ne_bytes());
}

/// Writes what follows the header; returns its length with the terminating NUL and padding.
#[inline(never)]
fn emit_payload(request: &Request<'_>, buffer: &mut [u8]) -> Result<usize, EmitError> {
    match *request {
        Request::Load { size, content, .. } => emit_load(size, content, buffer),
        Request::Message(message) => {
            // struct dm_target_msg: u64 sector, then the text.
            let text = buffer.get_mut(8..).ok_or(EmitError::Full)?;
            let mut line = Cursor::new(text);
            emit_message(message, &mut line)?;
            line.push(&[0])?;
            Ok(8 + line.len())
        }
        Request::Rename { to, .. } => emit_string(check_name(to)?, buffer),
        Request::SetUuid { uuid } => emit_string(check_uuid(uuid)?, buffer),
        _ => Ok(0),
    }
}

fn emit_string(text: &str, buffer: &mut [u8]) -> Result<usize, EmitError> {
    if text.is_empty() {
        return Err(EmitError::Name(NameError::Empty));
    }
    let mut line = Cursor::new(buffer);
    line.push_str(text)?;
    line.push(&[0])?;
    Ok(line.len())
}

#[inline(never)]
fn emit_load(size: Sectors, content: Content<'_>, buffer: &mut [u8]) -> Result<usize, EmitError> {
    let (spec, text) = buffer.split_at_mut_checked(SPEC).ok_or(EmitError::Full)?;
    let (kind, len) = match content {
        Content::Multipath(table) => ("multipath", table.emit(text)?),
        Content::Linear { device, start } => {
            let mut line = Cursor::new(text);
            line.push_devno(device)?;
            line.push_number(start.0)?;
            ("linear", line.len())
        }
    };
    // Room for the NUL; the length is padded to 8 bytes, which kernels from 6.5 on insist upon.
    let whole = (SPEC + len + 1).next_multiple_of(8);
    if whole > SPEC + text.len() {
        return Err(EmitError::Full);
    }
    // A writer that ran full may have left bytes; nothing else follows the text.
    text.get_mut(len..).unwrap_or(&mut []).fill(0);
    put(spec, 8, &size.0.to_ne_bytes());
    put32(spec, 20, whole as u32);
    put(spec, 24, kind.as_bytes());
    Ok(whole)
}

fn emit_message(message: Message, line: &mut Cursor<'_>) -> Result<(), Full> {
    let group = |line: &mut Cursor<'_>, word, number: u8| {
        line.push_str(word)?;
        line.push_number(u64::from(number))
    };
    let path = |line: &mut Cursor<'_>, word, devno| {
        line.push_str(word)?;
        line.push_devno(devno)
    };
    match message {
        Message::QueueIfNoPath => line.push_str("queue_if_no_path"),
        Message::FailIfNoPath => line.push_str("fail_if_no_path"),
        Message::FailPath(devno) => path(line, "fail_path", devno),
        Message::ReinstatePath(devno) => path(line, "reinstate_path", devno),
        Message::SwitchGroup(number) => group(line, "switch_group", number),
        Message::DisableGroup(number) => group(line, "disable_group", number),
        Message::EnableGroup(number) => group(line, "enable_group", number),
        Message::CancelDeferredRemove => line.push_str("@cancel_deferred_remove"),
    }
}
