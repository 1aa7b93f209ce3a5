//! Names and uuids of dm devices: what may be sent to the kernel, and udev's spelling of the rest.
//!
//! The kernel takes any byte but '/' (dm-ioctl.c, `check_name`), udev's rules only a few, so libdevmapper stores every other byte as
//! `\xNN`; we store that form too, or the two would see different devices. Map uuids are `mpath-` and the WWID, partitions'
//! `partN-` and their map's uuid.

use crate::model::{NAME_LEN, UUID_PREFIX, parse_decimal, shorten};
use heapless::string::StringView;

/// Longest uuid: 129 bytes with the NUL (dm-ioctl.h, DM_UUID_LEN).
pub const UUID_LEN: usize = 128;

/// What is wrong with a name or uuid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum NameError {
    Empty,
    TooLong,
    /// '/' or a control character.
    Character,
    /// `.`, `..` and `control`, which the kernel keeps for itself from 6.5 on.
    Reserved,
    /// Partly mangled already: `\x20` and a raw blank in one name.
    Mixed,
}

fn check(text: &str, longest: usize) -> Result<&str, NameError> {
    if text.len() > longest {
        return Err(NameError::TooLong);
    }
    if text.bytes().any(|b| b == b'/' || b < b' ' || b == 0x7f) {
        return Err(NameError::Character);
    }
    Ok(text)
}

/// The name itself, if the kernel takes it as a device's name.
pub fn check_name(name: &str) -> Result<&str, NameError> {
    match name {
        "" => Err(NameError::Empty),
        "." | ".." | "control" => Err(NameError::Reserved),
        _ => check(name, NAME_LEN),
    }
}

/// The uuid itself, if it can be sent; empty is allowed: a device without one.
pub fn check_uuid(uuid: &str) -> Result<&str, NameError> {
    check(uuid, UUID_LEN)
}

/// Bytes that libdevmapper leaves as they are.
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte)
}

/// What stands behind the `\xNN` sequence at the front, if there is one.
fn behind_sequence(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [b'\\', b'x', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => Some(rest),
        _ => None,
    }
}

/// Appends `name` in udev's spelling, as libdevmapper's automatic mode: a name that is mangled already stays as it is, a mixture is
/// refused. On an error `out` is as before.
pub fn mangle(name: &str, out: &mut StringView) -> Result<(), NameError> {
    let (mut mangled, mut raw) = (false, false);
    let mut rest = name.as_bytes();
    while let [byte, next @ ..] = rest {
        let behind = behind_sequence(rest);
        mangled |= behind.is_some();
        raw |= behind.is_none() && !plain(*byte);
        rest = behind.unwrap_or(next);
    }
    if mangled && raw {
        return Err(NameError::Mixed);
    }
    let start = out.len();
    let result = name.bytes().try_for_each(|byte| {
        if mangled || plain(byte) {
            return out.push(char::from(byte)).map_err(|_| NameError::TooLong);
        }
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for b in [b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]] {
            out.push(char::from(b)).map_err(|_| NameError::TooLong)?;
        }
        Ok(())
    });
    if result.is_err() {
        shorten(out, start);
    }
    result
}

/// Kernel bytes as text, if they are valid UTF-8 without control characters: what may be shown or put in a path.
pub fn printable(bytes: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(bytes).ok()?;
    if text.chars().any(char::is_control) { None } else { Some(text) }
}

/// The WWID in a multipath map's uuid; `None` for every other device's.
pub fn map_wwid(uuid: &str) -> Option<&str> {
    uuid.strip_prefix(UUID_PREFIX).filter(|wwid| !wwid.is_empty())
}

/// Partition number and parent uuid, for the uuid of a partition map (`part3-mpath-3600…`); the parent may be of any kind.
pub fn partition_of(uuid: &str) -> Option<(u32, &str)> {
    let (number, parent) = uuid.strip_prefix("part")?.split_once('-')?;
    if parent.is_empty() {
        return None;
    }
    Some((parse_decimal(number)?, parent))
}
