//! `root=` and its kind: text that names one block device -> what to look for, and whether a device is it.
//!
//! Understands what the kernel does (`PARTUUID=`, also of DOS tables and with `/PARTNROFF=`, `PARTLABEL=`, `MAJOR:MINOR`), what every
//! initramfs adds (`UUID=`, `LABEL=`, paths under /dev) and dracut's `block:`. Never opens anything. Rule: block/early-lookup.c.

use crate::model::{DevNo, UUID_PREFIX, parse_decimal, same_word, split_last};
use crate::wire::dm::partition_of;
use crate::wire::links;
use crate::wire::partition::{Guid, Name, Partition, Unique, guid::hex};
use crate::wire::superblock::{Ids, Uuid};

/// The value of `PARTUUID=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartUuid {
    Guid(Guid),
    /// Signature of a DOS table and partition number.
    Dos(u32, u32),
}

impl PartUuid {
    /// A GUID, or `ssssssss-nn` in hexadecimal.
    pub fn parse(text: &str) -> Option<PartUuid> {
        if let Some(guid) = Guid::parse(text) {
            return Some(PartUuid::Guid(guid));
        }
        let (signature, number) = text.split_once('-')?;
        if signature.len() != 8 || number.len() != 2 {
            return None;
        }
        let value = |text: &str| text.bytes().try_fold(0u32, |v, digit| Some(v << 4 | u32::from(hex(digit)?)));
        Some(PartUuid::Dos(value(signature)?, value(number)?))
    }

    fn is(self, partition: &Partition) -> bool {
        match (self, partition.unique) {
            (PartUuid::Guid(wanted), Unique::Guid(guid)) => wanted == guid,
            (PartUuid::Dos(signature, number), Unique::Dos(disk)) => signature == disk && number == partition.number,
            _ => false,
        }
    }
}

/// What a `root=` looks for. Text borrows from the argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Root<'a> {
    /// The partition so many numbers after the one with this id.
    PartUuid(PartUuid, i32),
    PartLabel(&'a str),
    Uuid(Uuid),
    Label(&'a str),
    /// A dm device's name, as it stands under /dev/mapper.
    MapName(&'a str),
    /// A dm device's uuid (`by-id/dm-uuid-…`).
    MapUuid(&'a str),
    /// A disk by an identifier udev links it with, less its prefix; a partition of it by number.
    Disk {
        id: DiskId<'a>,
        partition: Option<u32>,
    },
    Device(DevNo),
    /// A kernel name (`sda2`, `dm-3`): which device that is, sysfs knows.
    Kernel(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskId<'a> {
    /// `wwn-0x600…`: the hexadecimal digits.
    Wwn(&'a str),
    /// `scsi-3600…`, `nvme-eui.00…`: the WWID as it is.
    Wwid(&'a str),
}

impl DiskId<'_> {
    fn is(self, wwid: &str) -> bool {
        match self {
            // udev's wwn- leaves the type digit of the WWID out: 3 for NAA.
            DiskId::Wwn(wwn) => wwid.strip_prefix('3').is_some_and(|wwid| same_word(wwid, wwn)),
            DiskId::Wwid(id) => wwid == id,
        }
    }
}

/// A device that could be the root, with what is known of it.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    pub devno: DevNo,
    pub name: &'a str,
    pub uuid: &'a str,
    /// Wwid of the disk behind it; empty when unknown.
    pub wwid: &'a str,
    /// Its entry and all entries of its table, for a partition.
    pub partition: Option<(&'a Partition, &'a [Partition])>,
    pub ids: Option<&'a Ids>,
}

impl<'a> Root<'a> {
    /// The value of a `root=` argument; `None` if it names no block device in a way that we know (`nfs`, `/dev/ram0`, an empty one).
    pub fn parse(text: &'a str) -> Option<Root<'a>> {
        let text = text.strip_prefix("block:").unwrap_or(text);
        if let Some(path) = text.strip_prefix("/dev/") {
            return Root::path(path);
        }
        if let Some((tag, value)) = text.split_once('=') {
            return Root::tag(tag, unquoted(value));
        }
        DevNo::parse(text).filter(|_| !text.ends_with('\n')).map(Root::Device)
    }

    /// Does it name a disk by its identity alone, the WWID or the name its map has or would have? A partition of it counts.
    pub fn names(&self, wwid: &str, name: &str) -> bool {
        match *self {
            Root::MapName(_) => self.part_of(name).is_some(),
            Root::MapUuid(text) => wwid_in(text) == Some(wwid),
            Root::Disk { id, .. } => id.is(wwid),
            _ => false,
        }
    }

    /// Is it a dm device whose uuid says that another subsystem made it (`LVM-`, `CRYPT-`), or by its number (uapi/linux/major.h) a RAM disk,
    /// loop, MD or nbd?
    pub fn of_others(&self) -> bool {
        match *self {
            Root::MapUuid(text) => wwid_in(text).is_none(),
            Root::Device(devno) => matches!(devno.major, 1 | 7 | 9 | 43),
            _ => false,
        }
    }

    /// Which partition of the disk with this WWID an identifier of udev's means, 0 for the disk itself.
    pub fn on_disk(&self, wwid: &str) -> Option<u32> {
        match *self {
            Root::Disk { id, partition } if id.is(wwid) => Some(partition.unwrap_or(0)),
            _ => None,
        }
    }

    /// Which partition of the map called `name` a map name means, 0 for the map itself. Whatever stands between in our own partition maps:
    /// kpartx (`p`, or nothing), Debian's rules (`-part`) and ours do not agree, and who made the others is not known in an initramfs.
    /// Without a delimiter only where the name does not end in a digit, which nobody does.
    pub fn part_of(&self, name: &str) -> Option<u32> {
        let Root::MapName(text) = *self else { return None };
        let rest = text.strip_prefix(name)?;
        if rest.is_empty() {
            return Some(0);
        }
        let number = rest.strip_prefix("-part").or_else(|| rest.strip_prefix('p'));
        let number = number.or((!name.ends_with(|c: char| c.is_ascii_digit())).then_some(rest))?;
        // Nobody writes a number with a nought before it: `data01` is another map than `data`.
        parse_decimal(number).filter(|_| !number.starts_with('0'))
    }

    fn tag(tag: &str, value: &'a str) -> Option<Root<'a>> {
        if value.is_empty() {
            return None;
        }
        Some(match tag {
            "PARTUUID" => {
                let (id, offset) = match value.split_once('/') {
                    Some((id, offset)) => (id, offset.strip_prefix("PARTNROFF=")?.parse().ok()?),
                    None => (value, 0),
                };
                Root::PartUuid(PartUuid::parse(id)?, offset)
            }
            "PARTLABEL" => Root::PartLabel(value),
            "UUID" => Root::Uuid(Uuid::parse(value)?),
            "LABEL" => Root::Label(value),
            _ => return None,
        })
    }

    fn path(path: &'a str) -> Option<Root<'a>> {
        if path.is_empty() {
            return None;
        }
        let Some((dir, name)) = split_last(path, b'/') else {
            return (!path.starts_with("ram") && path != "nfs").then_some(Root::Kernel(path));
        };
        if name.is_empty() {
            return None;
        }
        match dir {
            "mapper" => Some(Root::MapName(name)),
            "disk/by-uuid" => Root::tag("UUID", name),
            "disk/by-label" => Root::tag("LABEL", name),
            "disk/by-partuuid" => Root::tag("PARTUUID", name),
            "disk/by-partlabel" => Root::tag("PARTLABEL", name),
            "disk/by-id" => Root::id(name),
            _ => None,
        }
    }

    fn id(name: &'a str) -> Option<Root<'a>> {
        if let Some(name) = name.strip_prefix("dm-name-") {
            return Some(Root::MapName(name));
        }
        if let Some(uuid) = name.strip_prefix("dm-uuid-") {
            return Some(Root::MapUuid(uuid));
        }
        let part = split_last(name, b'-').and_then(|(disk, part)| Some((disk, parse_decimal(part.strip_prefix("part")?)?)));
        let (name, partition) = part.map_or((name, None), |(disk, number)| (disk, Some(number)));
        let id = match name.split_once('-')? {
            ("wwn", id) => DiskId::Wwn(id.strip_prefix("0x")?),
            ("scsi", id) => DiskId::Wwid(id),
            // The other names of NVMe are made of model and serial number.
            ("nvme", id) if ["uuid.", "eui.", "nvme."].iter().any(|kind| id.starts_with(kind)) => DiskId::Wwid(id),
            _ => return None,
        };
        Some(Root::Disk { id, partition })
    }

    /// Does this name `candidate`? `Kernel` names nothing here: it must be turned into a device number first.
    pub fn is(&self, candidate: &Candidate<'_>) -> bool {
        let partition = candidate.partition.map(|(own, _)| own);
        match *self {
            Root::PartUuid(id, offset) => candidate.partition.is_some_and(|(own, table)| {
                table.iter().any(|p| id.is(p) && i64::from(p.number) + i64::from(offset) == i64::from(own.number))
            }),
            Root::PartLabel(label) => partition.is_some_and(|p| !p.name.is_empty() && label_is(label, &p.name)),
            Root::Uuid(uuid) => candidate.ids.is_some_and(|ids| ids.uuid == uuid),
            Root::Label(label) => candidate.ids.is_some_and(|ids| ids.label() == label.as_bytes() || links::names(label, ids.label())),
            Root::MapName(name) => candidate.name == name,
            Root::MapUuid(uuid) => candidate.uuid == uuid,
            Root::Disk { id, partition: number } => id.is(candidate.wwid) && number == partition.map(|p| p.number),
            Root::Device(devno) => candidate.devno == devno,
            Root::Kernel(_) => false,
        }
    }
}

/// The WWID in the uuid of a multipath map or of a partition of one.
fn wwid_in(uuid: &str) -> Option<&str> {
    partition_of(uuid).map_or(uuid, |(_, parent)| parent).strip_prefix(UUID_PREFIX)
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)
}

/// Is it this label, plain or encoded as in a link?
fn label_is(label: &str, name: &Name) -> bool {
    if name.is(label) {
        return true;
    }
    // 36 characters of at most four bytes: none is left out.
    let mut utf8 = heapless::String::<{ 36 * 4 }>::new();
    for c in name.chars() {
        let _ = utf8.push(c);
    }
    links::names(label, utf8.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sectors;

    #[test]
    fn a_disk_named_by_its_identity() {
        let named = |text: &str, name: &str| Root::parse(text).unwrap().names("36001405aa9", name);
        for text in ["mapper/36001405aa9", "mapper/36001405aa9p1", "mapper/36001405aa9-part12", "disk/by-id/dm-name-36001405aa9p2"] {
            assert!(named(&std::format!("/dev/{text}"), "36001405aa9"), "{text}");
        }
        for text in ["dm-uuid-mpath-36001405aa9", "dm-uuid-part3-mpath-36001405aa9", "wwn-0x6001405AA9-part1", "scsi-36001405aa9"] {
            assert!(named(&std::format!("/dev/disk/by-id/{text}"), "x"), "{text}");
        }
        for text in ["36001405aa91", "36001405aa9p", "36001405aa9q1", "36001405aa9-part", "36001405aa9-part0", "36001405aa", "data"] {
            assert!(!named(&std::format!("/dev/mapper/{text}"), "36001405aa9"), "{text}");
        }
        assert!(named("/dev/mapper/data1", "data") && named("/dev/mapper/data-part1", "data"));
        assert!(named("/dev/mapper/datap1", "data") && !named("/dev/mapper/data01", "data"));
        assert!(!named("LABEL=36001405aa9", "36001405aa9"));
    }

    #[test]
    fn what_others_made() {
        for (name, others) in [
            ("dm-uuid-LVM-0aB1", true),
            ("dm-uuid-CRYPT-LUKS2-5f0c9c43-root", true),
            ("dm-uuid-part1-LVM-0aB1", true),
            ("dm-uuid-mpath-36001405aa9", false),
            ("dm-uuid-part3-mpath-36001405aa9", false),
            ("dm-name-vg-root", false),
            ("wwn-0x6001405aa9", false),
        ] {
            assert_eq!(Root::parse(&std::format!("/dev/disk/by-id/{name}")).unwrap().of_others(), others, "{name}");
        }
        let on_disk = |name: &str| Root::parse(&std::format!("/dev/disk/by-id/{name}")).unwrap().on_disk("36001405aa9");
        assert_eq!([on_disk("wwn-0x6001405aa9"), on_disk("wwn-0x6001405AA9-part2")], [Some(0), Some(2)]);
        assert_eq!([on_disk("scsi-36001405aa9-part3"), on_disk("scsi-36001405aa8"), on_disk("dm-name-36001405aa9")], [Some(3), None, None]);
    }

    #[test]
    fn a_partition_by_whatever_name() {
        let part_of = |text: &str, name: &str| Root::parse(text).unwrap().part_of(name);
        for (text, number) in [("data", 0), ("data2", 2), ("datap2", 2), ("data-part2", 2), ("data12", 12)] {
            assert_eq!(part_of(&std::format!("/dev/mapper/{text}"), "data"), Some(number), "{text}");
            assert_eq!(part_of(&std::format!("/dev/disk/by-id/dm-name-{text}"), "data"), Some(number), "{text}");
        }
        for (text, number) in [("a1", Some(0)), ("a1p2", Some(2)), ("a1-part2", Some(2)), ("a12", None), ("a1_part2", None), ("b1p2", None)]
        {
            assert_eq!(part_of(&std::format!("/dev/mapper/{text}"), "a1"), number, "{text}");
        }
        assert_eq!(part_of("/dev/data2", "data"), None);
        assert_eq!(part_of("LABEL=data2", "data"), None);
    }

    #[test]
    fn what_a_root_argument_names() {
        let guid = Guid::parse("0fc63daf-8483-4772-8e79-3d69d8477de4").unwrap();
        let uuid = Uuid::parse("0fc63daf-8483-4772-8e79-3d69d8477de4").unwrap();
        for (text, wanted) in [
            ("PARTUUID=0FC63DAF-8483-4772-8e79-3d69d8477de4", Root::PartUuid(PartUuid::Guid(guid), 0)),
            ("PARTUUID=0fc63daf-8483-4772-8e79-3d69d8477de4/PARTNROFF=-1", Root::PartUuid(PartUuid::Guid(guid), -1)),
            ("PARTUUID=deca0de1-0A", Root::PartUuid(PartUuid::Dos(0xdeca0de1, 10), 0)),
            ("/dev/disk/by-partuuid/deca0de1-02", Root::PartUuid(PartUuid::Dos(0xdeca0de1, 2), 0)),
            ("PARTLABEL=my root", Root::PartLabel("my root")),
            ("UUID=\"0fc63daf-8483-4772-8e79-3d69d8477de4\"", Root::Uuid(uuid)),
            ("block:LABEL=root", Root::Label("root")),
            ("block:/dev/disk/by-label/a\\x20b", Root::Label("a\\x20b")),
            ("/dev/mapper/mpatha2", Root::MapName("mpatha2")),
            ("/dev/disk/by-id/dm-name-mpatha-part2", Root::MapName("mpatha-part2")),
            ("/dev/disk/by-id/dm-uuid-part2-mpath-3600", Root::MapUuid("part2-mpath-3600")),
            ("/dev/disk/by-id/wwn-0x600a-part12", Root::Disk { id: DiskId::Wwn("600a"), partition: Some(12) }),
            ("/dev/disk/by-id/scsi-3600a", Root::Disk { id: DiskId::Wwid("3600a"), partition: None }),
            ("/dev/disk/by-id/nvme-eui.0025-part2", Root::Disk { id: DiskId::Wwid("eui.0025"), partition: Some(2) }),
            ("/dev/sda2", Root::Kernel("sda2")),
            ("253:4", Root::Device(DevNo::new(253, 4))),
        ] {
            assert_eq!(Root::parse(text), Some(wanted), "{text}");
        }
        for bad in [
            "",
            "nfs",
            "/dev/nfs",
            "/dev/ram0",
            "/dev/",
            "/dev/mapper/",
            "UUID=",
            "UUID=1234-ABCD",
            "PARTUUID=xyz",
            "PARTUUID=deca0de1-2",
            "PARTUUID=deca0de1-02/PARTNROFF=99999999999",
            "ROOT=x",
            "253:",
            "8:1\n",
            "/dev/disk/by-path/x",
            "PARTUUID=+eca0de1-02",
        ] {
            assert_eq!(Root::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn which_device_it_is() {
        let entry = |number: u32, name: &[u8]| Partition {
            number,
            length: Sectors(8),
            unique: Unique::Dos(0xdeca0de1),
            name: Name::from_bytes(name),
            ..Partition::default()
        };
        let table = [entry(1, b"boot"), entry(2, b"my root")];
        let map = Candidate { devno: DevNo::new(253, 0), name: "mpatha", uuid: "mpath-3600a", wwid: "3600a", partition: None, ids: None };
        let second = Candidate {
            devno: DevNo::new(253, 2),
            name: "mpatha2",
            uuid: "part2-mpath-3600a",
            partition: Some((&table[1], &table)),
            ..map
        };
        let is = |text: &str, candidate: &Candidate<'_>| Root::parse(text).unwrap().is(candidate);
        for text in [
            "PARTUUID=deca0de1-02",
            "PARTUUID=deca0de1-01/PARTNROFF=1",
            "PARTLABEL=my root",
            "/dev/disk/by-partlabel/my\\x20root",
            "/dev/mapper/mpatha2",
            "/dev/disk/by-id/dm-uuid-part2-mpath-3600a",
            "/dev/disk/by-id/wwn-0x600A-part2",
            "/dev/disk/by-id/scsi-3600a-part2",
            "253:2",
        ] {
            assert!(is(text, &second), "{text}");
            assert!(!is(text, &map), "{text}");
        }
        assert!(is("/dev/disk/by-id/wwn-0x600a", &map) && !is("/dev/disk/by-id/wwn-0x600a", &second));
        assert!(!is("PARTUUID=deca0de1-01", &second) && !is("PARTLABEL=root", &second) && !is("/dev/sda2", &second));
    }
}
