//! sysfs as values, on fixture trees: every transport, every holder, and content that no kernel should give.

#[path = "common/tree.rs"]
mod tree;

use corepath::fault::Errno;
use corepath::model::*;
use corepath::raw::AsFd;
use corepath::sysfs::*;
use tree::Tree;

const FC: &str = include_str!("fixtures/fc.tree");
const TRANSPORTS: &str = include_str!("fixtures/transports.tree");
const HOSTILE: &str = include_str!("fixtures/hostile.tree");

fn roots(tree: &Tree) -> Roots {
    Roots::open(&tree.path("sys"), &tree.path("dev"), &tree.path("proc"), &tree.path("run")).unwrap()
}

fn facts(tree: &Tree, name: &str) -> PathFacts {
    let mut facts = PathFacts::default();
    read_facts(&roots(tree), name, &mut [0; 4096], &mut facts).unwrap();
    facts
}

#[test]
fn fibre_channel() {
    let tree = Tree::new(&[FC]);
    let facts = facts(&tree, "sda");
    assert_eq!((facts.devno, facts.size, facts.block_size, facts.diskseq), (DevNo::new(8, 0), Sectors(4194304), 512, 17));
    assert_eq!((facts.bus, facts.protocol), (Bus::Scsi, Protocol::ScsiFcp));
    assert_eq!((facts.vendor.as_str(), facts.product.as_str(), facts.revision.as_str()), ("DGC", "VRAID", "0533"));
    assert_eq!(facts.serial, "CKM01");
    assert_eq!(facts.wwid, "36006016012345678 9abcdef011223344".replace(' ', "").as_str());
    assert_eq!(facts.wwid_origin, WwidOrigin::Vpd83);
    assert_eq!((facts.target_port_group, facts.relative_port, facts.tpgs), (Some(5), Some(2), Tpgs::Both));
    assert_eq!(facts.hctl, Hctl::parse("2:0:0:7"));
    assert_eq!((facts.target_node.as_str(), facts.target_port.as_str()), ("0x50060160bce0", "0x50060168bce0"));
    assert_eq!((facts.host_node.as_str(), facts.host_port.as_str()), ("0x20000024ff", "0x21000024ff"));
    assert_eq!(facts.adapter, "0000:05:00.1");
    assert_eq!((facts.sys_state, facts.handler.as_str()), (SysState::Running, "alua"));
    assert_eq!((facts.access, facts.preferred, facts.timeout_secs), (Some(AccessState::NonOptimized), true, 30));
    assert!(!facts.read_only && !facts.removable && !facts.hidden && !facts.usb);
    let Holder::Map { devno, uuid } = &facts.holder else { panic!("{:?}", facts.holder) };
    assert_eq!((*devno, uuid.as_str()), (DevNo::new(253, 3), "mpath-3600601601234567890abcdef"));

    let roots = roots(&tree);
    let mut room = [0u8; 100];
    assert_eq!(read_udev(&roots, DevNo::new(8, 0), &mut room), Ok(Some(&b"E:ID_SERIAL=\n"[..])));
    assert_eq!(read_udev(&roots, DevNo::new(8, 1), &mut room), Ok(None));
    assert_eq!(read_udev(&roots, DevNo::new(8, 0), &mut room[..10]), Err(Errno::OVERFLOW));
    let mut seen = Vec::new();
    partitions(&roots, "sda", &mut |name, p| seen.push((name.to_string(), p.number, p.devno, p.start.0, p.size.0))).unwrap();
    assert_eq!(seen, [("sda1".into(), 1, DevNo::new(8, 1), 2048, 4192256)]);
    // The map above it is made here: no disk to look at.
    assert_eq!(count_disks(&roots), Ok(1));
}

/// The kernel reads a disk's pages once. Of one whose page 0x83 did not come the serial number is no name, if there is a page 0x83.
#[test]
fn pages_that_did_not_come() {
    let without = |pages: &[&str]| FC.lines().filter(|line| !pages.iter().any(|page| line.contains(page))).collect::<Vec<_>>().join("\n");
    let tree = Tree::new(&[&format!("{}\n@dev/vpd_pg0 : 00 00 00 03 00 80 83\n", without(&["vpd_pg83"]))]);
    let (half, serial) = (facts(&tree, "sda"), "CKM01");
    assert_eq!((half.wwid.as_str(), half.wwid_origin, half.serial.as_str()), ("", WwidOrigin::default(), serial));
    assert_eq!((half.target_port_group, half.relative_port), (None, None));
    let tree = Tree::new(&[&format!("{}\n@dev/vpd_pg0 : 00 00 00 02 00 80\n", without(&["vpd_pg83"]))]);
    let named = facts(&tree, "sda");
    assert_eq!((named.wwid.as_str(), named.wwid_origin), ("SDGC_VRAID_CKM01", WwidOrigin::Vpd80));
    // An early kernel keeps no page 0x00.
    assert_eq!(facts(&Tree::new(&[&without(&["vpd_pg83"])]), "sda").wwid, "SDGC_VRAID_CKM01");
    let none = facts(&Tree::new(&[&without(&["vpd_pg"])]), "sda");
    assert_eq!((none.wwid.as_str(), none.serial.as_str(), none.size), ("", "", Sectors(4194304)));

    // What the disk itself answers is taken over in the same way.
    let mut asked = none;
    take_page(&[0, 0x80, 0, 5, b'C', b'K', b'M', b'0', b'1'], &mut asked);
    assert_eq!((asked.serial.as_str(), asked.wwid.as_str()), (serial, ""));
    let mut other = asked.clone();
    name_by_serial(&mut other);
    assert_eq!(other.wwid, "SDGC_VRAID_CKM01");
    let naa = [0x60, 0x06, 0x01, 0x60, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11, 0x22, 0x33, 0x44];
    let mut page = vec![0, 0x83, 0, 28, 1, 3, 0, 16];
    page.extend(naa);
    page.extend([1, 0x15, 0, 4, 0, 0, 0, 5]);
    take_page(&page, &mut asked);
    name_by_serial(&mut asked);
    assert_eq!(
        (asked.wwid.as_str(), asked.wwid_origin),
        ("3600601601234567 89abcdef011223344".replace(' ', "").as_str(), WwidOrigin::Vpd83)
    );
    assert_eq!(asked.target_port_group, Some(5));
}

#[test]
fn memory_has_clean_or_not() {
    let with = |available: &str, dirty: &str, writeback: &str| {
        format!(
            "MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    {available} kB\nDirty: {dirty} kB\nWriteback:  {writeback} kB\n"
        )
    };
    for (text, plenty) in [
        (with("250", "0", "0"), true),
        (with("249", "0", "0"), false),
        (with("900", "500", "150"), true),
        (with("900", "500", "151"), false),
        (with("900", "18446744073709551615", "1"), false),
        (with("900 kB\nDirty: 1", "1", "1"), true),
        ("MemTotal:       1000 kB\nMemFree:         900 kB\n".into(), false),
        ("MemTotal:       1000 kB\nMemAvailable:   1000\n".into(), false),
        (String::new(), false),
        ("\u{fffd}MemTotal: 1 kB\n".into(), false),
    ] {
        let tree = Tree::new(&[FC]);
        std::fs::create_dir_all(tree.path("proc")).unwrap();
        std::fs::write(format!("{}/meminfo", tree.path("proc")), &text).unwrap();
        let memory = open_memory(&roots(&tree)).unwrap();
        assert_eq!(has_clean(memory.as_fd(), 4), plenty, "{text}");
        assert_eq!(has_clean(memory.as_fd(), 32), plenty || text.contains(" 24") || text.contains(" 151 "), "{text}");
    }
}

#[test]
fn a_held_state_is_read_again() {
    let tree = Tree::new(&[FC, TRANSPORTS]);
    let roots = roots(&tree);
    let state = open_state(&roots, "sda").unwrap();
    let now = || read_state(state.as_fd());
    assert_eq!(now(), SysState::Running);
    let file = tree.root.join("sys/block/sda/device/state");
    for (word, value) in [
        ("offline", SysState::Offline),
        ("transport-offline", SysState::TransportOffline),
        ("blocked", SysState::Blocked),
        ("created-blocked", SysState::Blocked),
        ("quiesce", SysState::Quiesce),
        ("cancel", SysState::Deleted),
        ("created", SysState::Created),
        ("something new", SysState::Unknown),
        ("", SysState::Unknown),
    ] {
        std::fs::write(&file, format!("{word}\n")).unwrap();
        assert_eq!(now(), value, "{word}");
    }
    let dasd = open_state(&roots, "dasda").unwrap();
    assert_eq!(read_state(dasd.as_fd()), SysState::Running);
    assert_eq!(open_state(&roots, "loop0").unwrap_err(), Errno::NOENT);
}

#[test]
fn transports() {
    let tree = Tree::new(&[TRANSPORTS]);
    let iscsi = facts(&tree, "sdb");
    assert_eq!((iscsi.protocol, iscsi.adapter.as_str(), iscsi.sys_state), (Protocol::ScsiIscsi, "", SysState::Blocked));
    assert_eq!((iscsi.target_node.as_str(), iscsi.target_port.as_str()), ("iqn.2003-01.org.linux-iscsi:array1", "192.168.1.2:3260"));
    assert_eq!(iscsi.handler, "", "detached is none");
    assert_eq!((iscsi.wwid.as_str(), iscsi.wwid_origin), ("SLIO-ORG_disk_1_sn_1", WwidOrigin::Vpd80));
    let sas = facts(&tree, "sdc");
    assert_eq!((sas.protocol, sas.target_node.as_str(), sas.adapter.as_str()), (Protocol::ScsiSas, "0x5000c50012345678", "0000:02:00.0"));
    assert_eq!((sas.wwid.as_str(), sas.wwid_origin, sas.sys_state), ("", WwidOrigin::Nowhere, SysState::Unknown));
    let srp = facts(&tree, "sdd");
    assert_eq!((srp.protocol, srp.target_node.as_str()), (Protocol::ScsiSrp, "fe80:0000:0000:0000"));
    let usb = facts(&tree, "sde");
    assert_eq!((usb.protocol, usb.usb, usb.removable), (Protocol::ScsiUsb, true, true));
    assert_eq!(facts(&tree, "sdf").protocol, Protocol::ScsiAta);
    assert_eq!(facts(&tree, "sdg").protocol, Protocol::ScsiSpi);
    assert_eq!(facts(&tree, "sdh").protocol, Protocol::ScsiUnspec);
    let zfcp = facts(&tree, "sdi");
    assert_eq!((zfcp.protocol, zfcp.adapter.as_str()), (Protocol::ScsiFcp, "0.0.1900"));
    assert_eq!(zfcp.hctl.unwrap().lun, 1077035009);
    let nvme = facts(&tree, "nvme3n2");
    assert_eq!((nvme.bus, nvme.protocol, nvme.sys_state), (Bus::Nvme, Protocol::NvmeTcp, SysState::Running));
    assert_eq!((nvme.wwid.as_str(), nvme.wwid_origin), ("uuid.0f01fb42-9f7f-4856-b0b3-51e60b8de349", WwidOrigin::NvmeSysfs));
    assert_eq!((nvme.vendor.as_str(), nvme.product.as_str(), nvme.serial.as_str()), ("NVME", "Linux", "0123456789abcdef"));
    assert_eq!((nvme.target_node.as_str(), nvme.target_port.as_str()), ("nqn.2014-08.org.example:array", "192.168.1.9"));
    assert_eq!(nvme.hctl, Some(Hctl { host: 3, channel: 5, target: 2, lun: 0 }));
    assert!(!native_nvme(&roots(&tree)));
    let dasd = facts(&tree, "dasda");
    assert_eq!((dasd.bus, dasd.protocol, dasd.product.as_str()), (Bus::Dasd, Protocol::Ccw, "S/390 DASD ECKD"));
    assert_eq!((dasd.wwid.as_str(), dasd.wwid_origin), ("IBM.750000000ABCD1.2a00.1a", WwidOrigin::DasdUid));
    assert_eq!(facts(&tree, "loop0").bus, Bus::Other);
    tree.add("sys/module/nvme_core/parameters/multipath = Y");
    assert!(native_nvme(&roots(&tree)));
}

/// Who has the disk: anyone else is told before our own map.
#[test]
fn holders() {
    let held = |more: &str| facts(&Tree::new(&[FC, more]), "sda").holder;
    let mounted = |place: &str| Holder::Mounted(Text::try_from(place).unwrap());
    assert_eq!(held("proc/self/mountinfo = 22 1 8:1 / /boot\\x5c040x rw - ext4 /dev/other rw"), mounted("/boot\\040x"));
    assert_eq!(held("proc/self/mountinfo = 20 1 0:5 / /a rw - tmpfs none rw\\n22 1 8:0 / /whole rw - xfs /dev/x rw"), mounted("/whole"));
    assert!(matches!(held("proc/self/mountinfo = 22 1 8:2 / /other rw - ext4 /dev/sda2 rw"), Holder::Map { .. }), "not ours");
    let block = "@h = sys/devices/pci0000:00/0000:00:03.0/0000:05:00.1/host2/rport-2:0-1/target2:0:0/2:0:0:7/block/sda\n";
    let held_by = |lines: &str| held(&format!("{block}{lines}"));
    assert_eq!(held_by("@h/sda1/holders/md0 /"), Holder::Device(DevName::try_from("md0").unwrap()));
    assert_eq!(held_by("@h/holders/bcache0 /"), Holder::Device(DevName::try_from("bcache0").unwrap()));
    let lvm = "sys/block/dm-1/dev = 253:1\nsys/block/dm-1/dm/uuid = LVM-abc\n@h/sda1/holders/dm-1 /";
    assert_eq!(held_by(lvm), Holder::Map { devno: DevNo::new(253, 1), uuid: Text::try_from("LVM-abc").unwrap() });
    let part = "sys/block/dm-1/dev = 253:1\nsys/block/dm-1/dm/uuid = part1-mpath-x\n@h/sda1/holders/dm-1 /";
    let Holder::Map { uuid, .. } = held_by(part) else { panic!("a map") };
    assert_eq!(uuid, "mpath-3600601601234567890abcdef", "both expected: the disk's own holder stays");
}

/// Swap and file systems that give a number of their own are found by the node that /dev has for their source.
#[test]
fn swap_by_number() {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let tree = Tree::new(&[FC, "dev/disk/by-label/swap -> ../../sda1"]);
    let node =
        |name: &str, minor| mknodat(CWD, tree.path(name).as_str(), FileType::BlockDevice, Mode::from_raw_mode(0o600), makedev(8, minor));
    if node("dev/sda1", 1) == Err(rustix::io::Errno::PERM) {
        eprintln!("not run: no right to make device nodes here; the machines under tests/vm swap on a partition");
        return;
    }
    node("dev/sdb", 16).unwrap();
    let swap = Holder::Mounted(Text::try_from("swap").unwrap());
    let with = |line: &str| {
        tree.add(&format!("proc/swaps = Filename Type Size Used Priority\\n{line}"));
        facts(&tree, "sda").holder
    };
    assert_eq!(with("/dev/sda1 partition 1048572 0 -2"), swap);
    assert_eq!(with("/dev/disk/by-label/swap partition 1048572 0 -2"), swap);
    for other in ["/dev/sdb partition 1 0 -2", "/swapfile file 1 0 -2", "/dev/../dev/sda1 partition 1 0 -2", "/dev/ partition"] {
        assert!(matches!(with(other), Holder::Map { .. }), "{other}");
    }
    tree.add("proc/self/mountinfo = 22 1 0:41 /sub /data rw - btrfs /dev/sda1 rw");
    assert_eq!(facts(&tree, "sda").holder, Holder::Mounted(Text::try_from("/data").unwrap()));
}

/// Names only, whatever the values are: a property that is not read could not keep a disk out.
#[test]
fn properties_of_udev() {
    let tree = Tree::new(&[HOSTILE]);
    std::fs::create_dir_all(tree.root.join("run/udev/data")).unwrap();
    let long = "x".repeat(9000);
    let entry =
        format!("S:disk/by-id/{long}\nE:DEVLINKS={long}\nEx=1\nE\n\nE:\nE:NO_VALUE\nE:=\nI:7\nE:SCSI_IDENT=a=b\nG:systemd\nE:LAST=");
    std::fs::write(tree.root.join("run/udev/data/b8:77"), &entry).unwrap();
    let roots = roots(&tree);
    let (devno, mut room) = (DevNo::new(8, 77), [0; 4096]);
    assert_eq!(read_udev(&roots, devno, &mut room), Ok(Some(&b"E:DEVLINKS=\nE:=\nE:SCSI_IDENT=\n"[..])), "the last line has no end");
    std::fs::write(tree.root.join("run/udev/data/b8:77"), entry + "\n").unwrap();
    let ended = b"E:DEVLINKS=\nE:=\nE:SCSI_IDENT=\nE:LAST=\n";
    assert_eq!(read_udev(&roots, devno, &mut room), Ok(Some(&ended[..])));
    assert_eq!(read_udev(&roots, devno, &mut room[..ended.len()]), Ok(Some(&ended[..])));
    assert_eq!(read_udev(&roots, devno, &mut room[..ended.len() - 1]), Err(Errno::OVERFLOW));
}

#[test]
fn hostile() {
    let tree = Tree::new(&[HOSTILE]);
    std::fs::create_dir(tree.root.join("sys/block/with blank")).unwrap();
    let facts = facts(&tree, "sdz");
    assert_eq!((facts.vendor.as_str(), facts.product.as_str()), ("A", "_[31m/../__%n"));
    assert_eq!(facts.revision, "", "what does not fit is not cut");
    assert_eq!((facts.sys_state, facts.handler.as_str(), facts.access), (SysState::Unknown, "", None));
    assert_eq!((facts.timeout_secs, facts.size, facts.block_size, facts.read_only), (0, Sectors(0), 0, false));
    assert_eq!((facts.wwid.as_str(), facts.wwid_origin), ("", WwidOrigin::Nowhere), "a page cut short names nobody");
    assert_eq!((facts.target_node.as_str(), facts.host_node.as_str()), ("", ""));
    assert_eq!(facts.holder, Holder::Device(DevName::try_from("dm-9").unwrap()), "a holder without a number holds all the same");
    let roots = roots(&tree);
    assert_eq!(read_udev(&roots, facts.devno, &mut [0; 4096]), Ok(Some(&b""[..])), "no line of it is a property");
    let mut names = Vec::new();
    disks(&roots, &mut |name| {
        names.push(name.to_string());
        true
    })
    .unwrap();
    names.sort();
    assert_eq!(names, ["a-name-that-is-longer-than-any-the-kernel-gives", "sdz"]);
    let read = |name: &str| read_facts(&roots, name, &mut [0; 4096], &mut PathFacts::default());
    assert_eq!(read("a-name-that-is-longer-than-any-the-kernel-gives"), Err(Errno::NAMETOOLONG));
    assert_eq!(read("sdy"), Err(Errno::NOENT));
    for bad in ["", ".", "..", "../block/sdz", "sdz/", "a b", "a\nb", ".hidden"] {
        assert_eq!(read(bad), Err(Errno::INVAL), "{bad:?}");
    }
    // A buffer too small for anything gives facts without text, and does no harm.
    let mut small = PathFacts::default();
    assert_eq!(read_facts(&roots, "sdz", &mut [0; 0], &mut small), Err(Errno::NODEV));
    assert!(Roots::open("/nonexistent-corepath", "/", "/", "/").is_err_and(|e| e == (Root::Sys, Errno::NOENT)));
}

#[test]
fn a_disk_that_cannot_be_read_is_an_error() {
    // Not "it has no identity": a path whose page could not be read must not lose its WWID.
    let tree = Tree::new(&[FC]);
    let page = tree.root.join("sys/block/sda/device/vpd_pg83");
    std::fs::remove_file(&page).unwrap();
    std::os::unix::fs::symlink("vpd_pg83", &page).unwrap();
    let result = read_facts(&roots(&tree), "sda", &mut [0; 4096], &mut PathFacts::default());
    assert_eq!(result, Err(Errno(40)), "ELOOP");
}

#[test]
fn knobs() {
    let tree = Tree::new(&[FC, TRANSPORTS]);
    for file in ["sys/block/sda/device/rescan", "sys/block/sda/device/delete"] {
        std::fs::write(tree.root.join(file), "").unwrap();
    }
    let roots = roots(&tree);
    let write = |name: &str, knob, value| write_attribute(&roots, name, knob, value);
    for (name, knob, value, file, text) in [
        ("sda", Attribute::FastIoFail, 5, "sys/class/fc_remote_ports/rport-2:0-1/fast_io_fail_tmo", "5"),
        ("sda", Attribute::DevLoss, 600, "sys/class/fc_remote_ports/rport-2:0-1/dev_loss_tmo", "600"),
        ("sda", Attribute::EhDeadline, -1, "sys/class/scsi_host/host2/eh_deadline", "off"),
        ("sda", Attribute::MaxRetries, -1, "sys/class/scsi_disk/2:0:0:7/max_retries", "-1"),
        ("sda", Attribute::MaxSectorsKb, 1024, "sys/block/sda/queue/max_sectors_kb", "1024"),
        ("sda", Attribute::Rescan, 1, "sys/block/sda/device/rescan", "1"),
        ("sda", Attribute::Delete, 1, "sys/block/sda/device/delete", "1"),
        ("sdb", Attribute::RecoveryTmo, 5, "sys/class/iscsi_session/session1/recovery_tmo", "5"),
        ("sdc", Attribute::DevLoss, 30, "sys/class/sas_end_device/end_device-4:1/I_T_nexus_loss_timeout", "30"),
        ("sdd", Attribute::DevLoss, -1, "sys/class/srp_remote_ports/port-5:1/dev_loss_tmo", "off"),
    ] {
        assert_eq!(write(name, knob, value), Ok(()), "{name} {knob:?}");
        let found = tree.read(file);
        assert!(found.starts_with(text), "{file}: {found}");
    }
    for (name, knob) in [
        ("sda", Attribute::RecoveryTmo),
        ("sdb", Attribute::FastIoFail),
        ("sdb", Attribute::DevLoss),
        ("sdc", Attribute::FastIoFail),
        ("loop0", Attribute::EhDeadline),
        ("nvme3n2", Attribute::Delete),
    ] {
        assert_eq!(write(name, knob, 5), Err(Errno::NOENT), "{name} {knob:?}: not for this transport");
    }
    assert_eq!(write("../sda", Attribute::Delete, 1), Err(Errno::INVAL));
    // A limit that is looked at only.
    assert_eq!(write("sda", Attribute::MaxSectorsKb, 512), Ok(()));
    assert_eq!([-511, -512, -513].map(|kb| write("sda", Attribute::MaxSectorsKb, kb)), [Err(Errno::RANGE), Ok(()), Ok(())]);
    assert!(tree.read("sys/block/sda/queue/max_sectors_kb").starts_with("512"));
}

#[test]
fn lineage() {
    let way = "../devices/pci0000:00/0000:00:1c.0/0000:05:00.0/host1/vport-1:0-0/host12/rport-12:0-3/target12:0:3/12:0:3:1/block/sdq";
    let l = Lineage::parse(way);
    assert_eq!((l.host, l.adapter, l.rport, l.device), ("host12", "0000:05:00.0", "rport-12:0-3", "12:0:3:1"), "a virtual port's own host");
    assert_eq!(Lineage::parse(""), Lineage::default());
    assert_eq!(Lineage::parse("////host/hostx/usb/sessions/0000:0000:00.0"), Lineage::default());
}
