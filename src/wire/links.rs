//! Names that others look for: partition maps (`NAMEp1`, uuid `part1-…`) as kpartx and udev's rules make them, and the last parts of
//! links under /dev/disk, encoded as udev does.
//!
//! Never truncates: what does not fit is [`Full`]. Rules: kpartx.rules, 60-persistent-storage.rules, 13-dm-disk.rules; systemd's
//! `encode_devnode_name`.

use crate::fault::Full;
use crate::model::{DevNo, Text, shorten};
use crate::wire::partition::guid::{hex, write_hex};
use crate::wire::partition::{Partition, Unique};
use crate::wire::superblock::Ids;
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
        shorten(out, before);
        Full
    })
}

#[inline(never)]
fn append(out: &mut StringView, what: fmt::Arguments<'_>) -> Result<(), Full> {
    fill(out, |out| out.write_fmt(what))
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
    append(out, format_args!("part{number}-{parent}"))
}

/// Appends the uuid that stands for a parent which is no dm device, as the peer invents it.
pub fn devnode_uuid(parent: DevNo, out: &mut StringView) -> Result<(), Full> {
    append(out, format_args!("devnode_{parent}_Wh5pYvM"))
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

/// Where a link goes, below /dev.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Id,
    PartUuid,
    PartLabel,
    Uuid,
    Label,
}

impl Place {
    pub const fn dir(self) -> &'static str {
        match self {
            Place::Id => "disk/by-id",
            Place::PartUuid => "disk/by-partuuid",
            Place::PartLabel => "disk/by-partlabel",
            Place::Uuid => "disk/by-uuid",
            Place::Label => "disk/by-label",
        }
    }
}

/// A dm device that links shall lead to.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub name: &'a str,
    pub uuid: &'a str,
    /// The disk's; empty when unknown.
    pub wwid: &'a str,
    pub partition: Option<&'a Partition>,
    pub ids: Option<&'a Ids>,
}

/// Longest name of a link: a btrfs label, all of it escaped.
pub const LINK_LEN: usize = 4 * 256;

/// Calls `visit` with each link that udev's rules would make for a device of multipath. One whose name has no room is left out: names come from
/// labels on the disk, and none of them is needed to find root.
pub fn each(subject: &Subject<'_>, visit: &mut dyn FnMut(Place, &str)) {
    let mut name = Text::<LINK_LEN>::new();
    let mut link = |place, write: &dyn Fn(&mut StringView) -> Result<(), Full>| {
        name.clear();
        // A name of nothing, or one that leads out of its directory, is none.
        if write(name.as_mut_view()).is_ok() && !matches!(name.as_str(), "" | "." | "..") {
            visit(place, &name);
        }
    };
    link(Place::Id, &|out| append(out, format_args!("dm-name-{}", subject.name)));
    if !subject.uuid.is_empty() {
        link(Place::Id, &|out| append(out, format_args!("dm-uuid-{}", subject.uuid)));
    }
    // NAA identifiers only, as udev's ID_WWN_WITH_EXTENSION: 64 or 128 bits.
    let naa = subject.wwid.strip_prefix('3').filter(|id| matches!(id.len(), 16 | 32) && id.bytes().all(|b| b.is_ascii_hexdigit()));
    if let Some(id) = naa {
        link(Place::Id, &|out| match subject.partition {
            Some(p) => append(out, format_args!("wwn-0x{id}-part{}", p.number)),
            None => append(out, format_args!("wwn-0x{id}")),
        });
    }
    if let Some(p) = subject.partition {
        if p.unique != Unique::None {
            link(Place::PartUuid, &|out| fill(out, |out| p.write_unique(out)));
        }
        if !p.name.is_empty() {
            link(Place::PartLabel, &|out| {
                let mut utf8 = Text::<{ 36 * 4 }>::new();
                append(utf8.as_mut_view(), format_args!("{}", p.name))?;
                encode(utf8.as_bytes(), out)
            });
        }
    }
    if let Some(ids) = subject.ids {
        link(Place::Uuid, &|out| append(out, format_args!("{}", ids.uuid)));
        link(Place::Label, &|out| encode(ids.label(), out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_map_and_a_partition() {
        use crate::wire::partition::{Guid, Name};
        use std::string::{String, ToString};
        let list = |subject: &Subject<'_>| {
            let mut all = std::vec::Vec::<String>::new();
            each(subject, &mut |place, name| all.push(place.dir().to_string() + "/" + name));
            all
        };
        let wwid = "3600a098000aabbccddeeff0011223344";
        let map = Subject { name: "mpatha", uuid: "mpath-3600a", wwid, partition: None, ids: None };
        let wwn = "disk/by-id/wwn-0x600a098000aabbccddeeff0011223344";
        assert_eq!(list(&map), ["disk/by-id/dm-name-mpatha", "disk/by-id/dm-uuid-mpath-3600a", wwn]);
        let guid = Guid::parse("0fc63daf-8483-4772-8e79-3d69d8477de4").unwrap();
        let gpt = Partition { number: 2, unique: Unique::Guid(guid), name: Name::from_bytes(b"my root"), ..Partition::default() };
        let part = Subject { name: "mpatha2", uuid: "part2-mpath-3600a", partition: Some(&gpt), ..map };
        let all = list(&part);
        assert_eq!(
            all[2..],
            [
                (wwn.to_string() + "-part2").as_str(),
                "disk/by-partuuid/0fc63daf-8483-4772-8e79-3d69d8477de4",
                "disk/by-partlabel/my\\x20root"
            ]
        );
        let dos = Partition { number: 11, unique: Unique::Dos(0xdeca0de1), name: Name::from_bytes(b".."), ..gpt };
        let all = list(&Subject { partition: Some(&dos), uuid: "", wwid: "1ATA", ..part });
        assert_eq!(all, ["disk/by-id/dm-name-mpatha2", "disk/by-partuuid/deca0de1-0b"], "no link out of its directory");
    }

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
