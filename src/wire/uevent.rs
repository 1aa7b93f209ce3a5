//! Kernel uevents: one netlink datagram -> what happened to which device.
//!
//! Total: every check is made in [`Uevent::parse`]. Whether the kernel sent it (netlink pid 0, group 1) only the socket knows, so that
//! check is the shell's; a datagram in libudev's format is refused here. lib/kobject_uevent.c.

use crate::fault::Malformed;
use crate::model::{DevNo, last_part, parse_decimal, split_last};

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Add,
    Remove,
    Change,
    Move,
    Online,
    Offline,
    Bind,
    Unbind,
    /// A word this version does not know.
    Other,
}

impl Action {
    fn parse(word: &str) -> Action {
        match word {
            "add" => Action::Add,
            "remove" => Action::Remove,
            "change" => Action::Change,
            "move" => Action::Move,
            "online" => Action::Online,
            "offline" => Action::Offline,
            "bind" => Action::Bind,
            "unbind" => Action::Unbind,
            _ => Action::Other,
        }
    }
}

/// `KEY=value` entries, each ended by a NUL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Any bytes: entries without `=` or that are not UTF-8 are not found, and do no harm.
    pub const fn new(bytes: &'a [u8]) -> Properties<'a> {
        Properties { bytes }
    }

    /// Value of the first entry with exactly this key.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.bytes.split(|&b| b == 0).find_map(|entry| {
            let value = entry.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
            core::str::from_utf8(value).ok()
        })
    }

    /// As [`Properties::get`], for a plain decimal number.
    pub fn number(&self, key: &str) -> Option<u32> {
        parse_decimal(self.get(key)?)
    }

    /// As [`Properties::number`] with 64 bits (SEQNUM, DISKSEQ).
    pub fn long(&self, key: &str) -> Option<u64> {
        let text = self.get(key)?;
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        text.parse().ok()
    }

    pub fn devno(&self) -> Option<DevNo> {
        Some(DevNo { major: self.number("MAJOR")?, minor: self.number("MINOR")? })
    }

    /// Is this the event of a multipath map? The prefix alone is nobody's WWID.
    pub fn is_mpath(&self) -> bool {
        self.get("DM_UUID").and_then(super::dm::map_wwid).is_some()
    }
}

/// One kernel event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uevent<'a> {
    pub action: Action,
    /// Below /sys, with a leading slash.
    pub devpath: &'a str,
    pub subsystem: &'a str,
    pub properties: Properties<'a>,
}

impl<'a> Uevent<'a> {
    /// One whole datagram. It must end with a NUL (else it was cut), begin with `action@/devpath`, and its ACTION and DEVPATH must
    /// say the same; anything else was not made by kobject_uevent_env.
    pub fn parse(datagram: &'a [u8]) -> Result<Uevent<'a>, Malformed> {
        let datagram = datagram.strip_suffix(&[0]).ok_or(Malformed)?;
        let end = datagram.iter().position(|&b| b == 0).ok_or(Malformed)?;
        let (header, rest) = datagram.split_at_checked(end).ok_or(Malformed)?;
        let header = core::str::from_utf8(header).map_err(|_| Malformed)?;
        let (action, devpath) = header.split_once('@').ok_or(Malformed)?;
        let properties = Properties { bytes: rest.get(1..).unwrap_or(&[]) };
        let agreed = properties.get("ACTION") == Some(action) && properties.get("DEVPATH") == Some(devpath);
        if !agreed || !devpath.starts_with('/') || split_last(devpath, b'/').is_some_and(|(way, _)| way.split('/').any(|part| part == ".."))
        {
            return Err(Malformed);
        }
        let subsystem = properties.get("SUBSYSTEM").ok_or(Malformed)?;
        Ok(Uevent { action: Action::parse(action), devpath, subsystem, properties })
    }

    /// The kernel's name of the device: the last part of the path, where `!` stands for a `/`.
    pub fn name(&self) -> &'a str {
        last_part(self.devpath)
    }

    /// A whole disk (not a partition)?
    pub fn is_disk(&self) -> bool {
        self.subsystem == "block" && self.properties.get("DEVTYPE") == Some("disk")
    }
}

/// The property that holds the WWID, by the `uid_attrs` setting (`sd:ID_SERIAL dasd:ID_UID`): the first entry whose device name is
/// a prefix of `kernel`.
pub fn uid_attribute<'a>(uid_attrs: &'a str, kernel: &str) -> Option<&'a str> {
    uid_attrs.split_ascii_whitespace().find_map(|entry| {
        let (prefix, attribute) = entry.split_once(':')?;
        (!attribute.is_empty() && kernel.starts_with(prefix)).then_some(attribute)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADD: &[u8] = b"add@/devices/pci0/host2/target2:0:0/2:0:0:1/block/sdb\0ACTION=add\0\
        DEVPATH=/devices/pci0/host2/target2:0:0/2:0:0:1/block/sdb\0SUBSYSTEM=block\0MAJOR=8\0MINOR=16\0DEVNAME=sdb\0DEVTYPE=disk\0\
        DISKSEQ=17\0SEQNUM=4294967297\0";

    #[test]
    fn a_disk_appears() {
        let e = Uevent::parse(ADD).unwrap();
        assert_eq!((e.action, e.name(), e.subsystem), (Action::Add, "sdb", "block"));
        assert!(e.is_disk());
        assert_eq!(e.properties.devno(), Some(DevNo::new(8, 16)));
        assert_eq!(e.properties.long("SEQNUM"), Some(4294967297));
        assert_eq!(e.properties.number("SEQNUM"), None, "does not fit, does not wrap");
    }

    #[test]
    fn maps() {
        for (entry, is_map) in
            [("DM_UUID=mpath-x", true), ("DM_UUID=mpath-", false), ("DM_UUID=mpath", false), ("DM_UUID=part1-mpath-x", false)]
        {
            assert_eq!(Properties::new(entry.as_bytes()).is_mpath(), is_map, "{entry}");
        }
    }

    #[test]
    fn forgeries_and_fragments() {
        assert_eq!(Uevent::parse(&ADD[..ADD.len() - 1]), Err(Malformed), "cut");
        assert_eq!(Uevent::parse(b""), Err(Malformed));
        assert_eq!(Uevent::parse(b"\0"), Err(Malformed));
        assert_eq!(Uevent::parse(b"libudev\0\xfe\xed\xca\xfe\0"), Err(Malformed));
        assert_eq!(Uevent::parse(b"add@/a\0ACTION=remove\0DEVPATH=/a\0SUBSYSTEM=block\0"), Err(Malformed));
        assert_eq!(Uevent::parse(b"add@/a\0ACTION=add\0DEVPATH=/b\0SUBSYSTEM=block\0"), Err(Malformed));
        assert_eq!(Uevent::parse(b"add@a\0ACTION=add\0DEVPATH=a\0SUBSYSTEM=block\0"), Err(Malformed));
        assert!(Uevent::parse(b"dance@/a\0ACTION=dance\0DEVPATH=/a\0SUBSYSTEM=x\0").is_ok_and(|e| e.action == Action::Other));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..240, at in 0usize..240, with in any::<u8>()) {
            let _ = Uevent::parse(&bytes);
            let _ = Properties::new(&bytes).devno();
            let mut near = ADD[..cut.min(ADD.len())].to_vec();
            if let Some(b) = near.get_mut(at) {
                *b = with;
            }
            if let Ok(e) = Uevent::parse(&near) {
                prop_assert!(e.devpath.ends_with(e.name()));
            }
        }
    }
}
