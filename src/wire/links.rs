//! Names that others look for: partition maps (`NAMEp1`, uuid `part1-…`) as kpartx and udev's rules make them, and the last parts of
//! links under /dev/disk, encoded as udev does.
//!
//! Never truncates: what does not fit is [`Full`]. Rules: kpartx.rules, 60-persistent-storage.rules, 13-dm-disk.rules; systemd's
//! `encode_devnode_name`.

use crate::fault::Full;
use crate::model::DevNo;
use crate::wire::partition::guid::{hex, write_hex};
use core::fmt::{self, Write};
use heapless::string::StringView;

/// What stands between a map's name and a partition's number: `wanted` if given, else `p` after a digit and nothing otherwise.
pub fn delimiter<'a>(parent: &str, wanted: Option<&'a str>) -> &'a str {
    match wanted {
        Some(wanted) => wanted,
        None if parent.ends_with(|c: char| c.is_ascii_digit()) => "p",
        None => "",
    }
}

fn fill(out: &mut StringView, write: impl FnOnce(&mut StringView) -> fmt::Result) -> Result<(), Full> {
    let before = out.len();
    write(out).map_err(|_| {
        out.truncate(before);
        Full
    })
}

/// Appends the name of partition `number` of `parent`. A slash becomes `!` (`cciss/c0d0`), but for one that starts the name.
pub fn partition_name(parent: &str, delimiter: &str, number: u32, out: &mut StringView) -> Result<(), Full> {
    fill(out, |out| {
        for (i, c) in parent.chars().enumerate() {
            out.write_char(if c == '/' && i > 0 { '!' } else { c })?;
        }
        write!(out, "{delimiter}{number}")
    })
}

/// Appends the uuid of partition `number` of the dm device with uuid `parent`.
pub fn partition_uuid(parent: &str, number: u32, out: &mut StringView) -> Result<(), Full> {
    fill(out, |out| write!(out, "part{number}-{parent}"))
}

/// Appends the uuid that stands for a parent which is no dm device, as the peer invents it.
pub fn devnode_uuid(parent: DevNo, out: &mut StringView) -> Result<(), Full> {
    fill(out, |out| write!(out, "devnode_{parent}_Wh5pYvM"))
}

/// Characters that udev and libdm leave as they are.
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte)
}

/// Appends `text` as the last part of a udev link: plain characters and valid UTF-8 beyond ASCII as they are, all else `\xNN`.
pub fn encode(text: &[u8], out: &mut StringView) -> Result<(), Full> {
    fill(out, |out| {
        for chunk in text.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_ascii() && !plain(c as u8) {
                    escape(c as u8, out)?;
                } else {
                    out.write_char(c)?;
                }
            }
            chunk.invalid().iter().try_for_each(|byte| escape(*byte, out))?;
        }
        Ok(())
    })
}

fn escape(byte: u8, out: &mut StringView) -> fmt::Result {
    out.write_str("\\x")?;
    write_hex(byte, out)
}

/// The bytes that `encoded` stands for. A backslash that starts no `\xNN` stands for itself.
fn decoded(encoded: &str) -> impl Iterator<Item = u8> + '_ {
    let mut rest = encoded.as_bytes();
    core::iter::from_fn(move || {
        if let [b'\\', b'x', high, low, tail @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            rest = tail;
            return Some(high << 4 | low);
        }
        let (first, tail) = rest.split_first()?;
        rest = tail;
        Some(*first)
    })
}

/// Does the encoded name stand for `text`?
pub fn names(encoded: &str, text: &[u8]) -> bool {
    decoded(encoded).eq(text.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Text;

    #[test]
    fn partition_maps_are_named_as_kpartx_names_them() {
        let name = |parent, wanted, number| {
            let mut out = Text::<127>::new();
            partition_name(parent, delimiter(parent, wanted), number, &mut out).unwrap();
            out
        };
        assert_eq!(name("mpatha", None, 1), "mpatha1");
        assert_eq!(name("mpath0", None, 12), "mpath0p12");
        assert_eq!(name("3600508b4", Some("-part"), 3), "3600508b4-part3");
        assert_eq!(name("mpatha", Some("p"), 1), "mpathap1");
        assert_eq!(name("cciss/c0d0", None, 2), "cciss!c0d0p2");
        assert_eq!(name("/a", Some(""), 2), "/a2");
        let mut small = Text::<8>::new();
        small.push_str("keep").unwrap();
        assert_eq!(partition_name("mpatha", "-part", 1, &mut small), Err(Full));
        assert_eq!(small, "keep");
    }

    #[test]
    fn partition_uuids_come_back() {
        let mut out = Text::<128>::new();
        partition_uuid("mpath-3600", 12, &mut out).unwrap();
        assert_eq!(crate::wire::dm::partition_of(&out), Some((12, "mpath-3600")));
        out.clear();
        devnode_uuid(DevNo::new(8, 0), &mut out).unwrap();
        assert_eq!(out, "devnode_8:0_Wh5pYvM");
    }

    #[test]
    fn links_are_encoded_as_udev_does() {
        let encoded = |text: &[u8]| {
            let mut out = Text::<64>::new();
            encode(text, &mut out).unwrap();
            assert!(names(&out, text), "{out}");
            out
        };
        assert_eq!(encoded(b"EFI System"), "EFI\\x20System");
        assert_eq!(encoded("wörter/1".as_bytes()), "wörter\\x2f1");
        assert_eq!(encoded(b"a\\b"), "a\\x5cb");
        assert_eq!(encoded(b"\xffz\x01"), "\\xffz\\x01");
        assert_eq!(encoded(b"#+-.:=@_"), "#+-.:=@_");
        assert!(names("a b", b"a b") && names("\\q", b"\\q") && !names("a", b"ab"));
    }
}
