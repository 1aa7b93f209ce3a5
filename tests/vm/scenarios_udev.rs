//! Beside udev and multipath-tools: the same identities, the same links, maps that either takes from the other as they are.

use std::time::Duration;

use crate::lab::{Array, Guest, Vm, host, peer};
use crate::scenario;

const MIB: u64 = 1 << 20;

/// Both tools claim every disk but scsi_debug's, whose ALUA states change by themselves: of those the identities are compared.
const CONF: &str =
    "defaults {\n find_multipaths no\n user_friendly_names no\n}\nblacklist {\n device {\n vendor Linux\n product scsi_debug\n }\n}\n";

/// Disks of the guest with a property of udev's database, sorted.
fn by_udev(guest: &Guest, property: &str) -> String {
    guest.ok(&format!(
        "for d in /sys/block/sd*; do d=${{d##*/}}; echo $d $(udevadm info -q property -n /dev/$d | sed -n 's/^{property}=//p'); done | sort"
    ))
}

/// Our maps' tables, and how often a device-mapper event changed something about each: a reload is one.
fn tables(guest: &Guest) -> String {
    guest.ok(
        "for m in $(ls /dev/mapper | grep -v control); do echo $m $(dmsetup table $m); dmsetup info -c --noheadings -o uuid,minor $m; done",
    )
}

scenario! {
    /// What the rules of Debian call a disk (ID_SERIAL) is what we call it: registered names, and a vendor's text where there is none.
    /// Our maps get udev's links; the peer lists them as its own and has nothing to do; and the reverse.
    fn side_by_side(kernel) {
        let guest = peer::with_multipath_tools(Vm::new(kernel), CONF).debs(&["strace"]).corepath().lun("a", 16 * MIB, 2).lun("b", 16 * MIB, 3).lun_nameless("c", 4 * MIB, 2).boot();
        guest.ok("modprobe -a dm_multipath dm_service_time dm_queue_length dm_round_robin scsi_dh_alua");
        guest.ok("modprobe scsi_debug add_host=2 max_luns=2 vpd_use_hostno=0 per_host_store=0 dev_size_mb=8");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 11 ]", Duration::from_secs(20));
        peer::start_udev(&guest);
        let json: serde_json::Value = serde_json::from_str(&guest.ok("corepath scan --json")).unwrap();
        let all = json["maps"].as_array().unwrap().iter().flat_map(|map| map["paths"].as_array().unwrap());
        let all = all.chain(json["others"].as_array().unwrap());
        let mut ours: Vec<String> =
            all.map(|path| format!("{} {}", path["dev"].as_str().unwrap(), path["wwid"].as_str().unwrap())).collect();
        ours.sort();
        assert_eq!(ours.join("\n"), by_udev(&guest, "ID_SERIAL"), "{json}");
        assert_eq!(ours.len(), 11);

        // Ours first. udev makes the links, from the map's uevents.
        let boot = guest.ok("corepath boot --timeout 30");
        assert!(boot.contains("3 maps with 7 usable paths"), "{boot}");
        peer::settle(&guest);
        let [wwid, second] = ["a", "b"].map(|lun| format!("3{}", guest.wwid(lun).trim_start_matches("naa.")));
        let links = guest.ok("ls /dev/mapper /dev/disk/by-id");
        println!("vm: {} {boot}\n{links}", kernel.release);
        for link in [format!("dm-name-{wwid}"), format!("dm-uuid-mpath-{wwid}"), format!("wwn-0x{}", &wwid[1..])] {
            let path = format!("/dev/disk/by-id/{link}");
            assert!(guest.ok(&format!("readlink -f {path}")).starts_with("/dev/dm-"), "{link} leads to the map:\n{links}");
        }
        assert_eq!(guest.ok(&format!("readlink -f /dev/mapper/{wwid}")), guest.ok(&format!("readlink -f /dev/disk/by-id/dm-name-{wwid}")));

        let before = tables(&guest);
        let theirs = guest.ok("multipath -ll");
        let list = guest.ok("corepath list");
        println!("vm: theirs\n{theirs}\nvm: ours\n{list}");
        let count = |text: &str, what: &str| text.matches(what).count();
        assert_eq!((count(&theirs, " dm-"), count(&theirs, ":0:")), (3, 7), "{theirs}");
        for name in [wwid.as_str(), second.as_str(), "0QEMU_QEMU_HARDDISK_c-serial"] {
            let line = |text: &str| text.lines().find(|l| l.starts_with(name)).map(str::to_string);
            assert_eq!(line(&theirs), line(&list), "{theirs}");
        }
        // Nothing to do for the peer: `multipath` in full, and what it would do.
        let said = guest.run("strace -f -o /tmp/trace -e trace=ioctl multipath -v2 2>&1").text();
        println!("vm: {} the peer over ours: {said}", kernel.release);
        assert!(!said.contains("reload") && !said.contains("create"), "{said}");
        let loads = guest.ok("grep -oE 'DM_TABLE_LOAD|DM_DEV_CREATE|DM_DEV_RENAME|DM_DEV_REMOVE' /tmp/trace || true");
        assert_eq!((loads.as_str(), tables(&guest)), ("", before), "{said}");

        // Then theirs.
        guest.ok("corepath remove --all >&2");
        peer::settle(&guest);
        assert_eq!(guest.ok("ls /dev/mapper"), "control");
        guest.ok("multipath");
        peer::settle(&guest);
        let before = tables(&guest);
        assert_eq!(guest.ok("ls /dev/mapper | wc -l"), "4", "{before}");
        guest.ok("strace -f -o /tmp/trace -e trace=ioctl corepath boot >&2");
        let loads = guest.ok("grep -oE 'DM_TABLE_LOAD|DM_DEV_CREATE|DM_DEV_RENAME|DM_DEV_REMOVE|DM_DEV_SUSPEND|DM_TARGET_MSG' /tmp/trace || true");
        let after = tables(&guest);
        println!("vm: {} ours over theirs: {loads}\n{before}\n{after}", kernel.release);
        assert_eq!((loads.as_str(), &after), ("", &before));
        guest.ok("multipath -F");
    }
}

scenario! {
    /// An image with udev and without dm's rules and kpartx's: ours give a map and its partition the links by identity that udev's own rules
    /// give to the paths, and they stay through events at which nothing is read.
    fn links_without_rules_of_dm(kernel) {
        let rules = include_bytes!("../../initramfs/udev/60-corepath.rules");
        let vm = Vm::new(kernel).debs(&["udev"]).memory(768).corepath().file("/usr/lib/udev/rules.d/60-corepath.rules", 0o644, rules);
        let guest = vm.lun_later("a", 64 * MIB, 2, 0).boot();
        let script = "PATH=$PATH:/usr/sbin:/sbin; printf 'label: gpt\n1: start=2048,size=16384\n2: start=20480\n' | sfdisk -q $disk";
        host::must(std::process::Command::new("sh").arg("-c").arg(script).env("disk", guest.lun_file("a")));
        assert_eq!(guest.ok("ls /lib/udev/rules.d /usr/lib/udev/rules.d | grep -E -- '-dm[-.]|kpartx|multipath' || true"), "");
        peer::start_udev(&guest);
        guest.ok("modprobe -a dm_multipath dm_service_time");
        guest.plug("a.0");
        guest.plug("a.1");
        let wwid = format!("3{}", guest.wwid("a").trim_start_matches("naa."));
        let by_id = format!("cd /dev/disk/by-id; for disk in wwn-0x{0} scsi-{1}; do for part in '' -part1 -part2; do readlink -f $disk$part; done; done", &wwid[1..], wwid);
        guest.until("[ $(ls -d /sys/class/block/sd*[0-9] | wc -l) = 4 ]", Duration::from_secs(20));
        peer::settle(&guest);
        assert!(guest.ok(&format!("readlink -f /dev/disk/by-id/wwn-0x{}", &wwid[1..])).starts_with("/dev/sd"), "a path, without a map");
        guest.ok("corepath boot --timeout 30");
        peer::settle(&guest);
        let names = guest.ok("ls /dev/mapper | grep -v control");
        let nodes = names.lines().map(|name| guest.ok(&format!("readlink -f /dev/mapper/{name}"))).collect::<Vec<_>>().join("\n");
        let wanted = format!("{nodes}\n{nodes}");
        assert!(names.lines().count() == 3 && wanted.lines().all(|node| node.starts_with("/dev/dm-")), "{names}: {nodes}");
        let path = guest.disk("a.0").unwrap();
        for event in [
            "true".to_string(),
            "udevadm trigger --action=change --subsystem-match=block".to_string(),
            format!("lab dm message {wwid} --say \"fail_path $(cat /sys/block/{path}/dev)\""),
            format!("lab dm message {wwid} --say \"reinstate_path $(cat /sys/block/{path}/dev)\""),
        ] {
            guest.ok(&event);
            peer::settle(&guest);
            assert_eq!(guest.ok(&by_id), wanted, "after {event}");
        }
        guest.ok("corepath remove --all");
        peer::settle(&guest);
        assert!(!guest.run(&by_id).text().contains("/dev/dm-"), "with the maps go their links");
    }
}

scenario! {
    /// With nobody's rules but ours: a disk that a map holds is marked for all others, from the daemon's claim on, without another event of
    /// its own; one that left is not, nor is one that other device-mapper devices hold. A daemon that comes later disturbs nobody.
    fn udev_knows_the_paths(kernel) {
        let rules = include_bytes!("../../initramfs/udev/60-corepath.rules");
        let vm = Vm::new(kernel).debs(&["udev"]).memory(768).corepath().file("/usr/lib/udev/rules.d/60-corepath.rules", 0o644, rules);
        let guest = vm.lun_later("a", 64 * MIB, 2, 0).lun("c", 64 * MIB, 1).boot();
        let script = "PATH=$PATH:/usr/sbin:/sbin; printf 'label: gpt\n1: start=2048,size=16384\n' | sfdisk -q $disk";
        host::must(std::process::Command::new("sh").arg("-c").arg(script).env("disk", guest.lun_file("a")));
        host::must(std::process::Command::new("sh").arg("-c").arg(script).env("disk", guest.lun_file("c")));
        peer::start_udev(&guest);
        guest.ok("modprobe -a dm_multipath dm_service_time");
        let other = guest.disk("c.0").unwrap();
        guest.ok(&format!("blockdev --rereadpt /dev/{other}; corepath partitions add /dev/{other}; udevadm trigger --action=change /dev/{other}"));
        peer::settle(&guest);
        assert_eq!(guest.ok(&format!("cat /sys/block/{other}/holders/*/dm/uuid | cut -c1-4")), "part");
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.plug("a.0");
        guest.plug("a.1");
        guest.until("corepath status | grep -q ', 2 usable'", Duration::from_secs(20));
        let marks = |disk: &str| guest.ok(&format!("udevadm info -q property -n /dev/{disk} | grep -E '^(DM_MULTIPATH_DEVICE_PATH|ID_FS_TYPE|SYSTEMD_READY)=' | sort || true"));
        let paths = ["a.0", "a.1"].map(|path| guest.disk(path).unwrap());
        for path in &paths {
            guest.until(&format!("udevadm info -q property -n /dev/{path} | grep -qx DM_MULTIPATH_DEVICE_PATH=1"), Duration::from_secs(20));
            assert_eq!(marks(path), "DM_MULTIPATH_DEVICE_PATH=1\nID_FS_TYPE=mpath_member\nSYSTEMD_READY=0");
        }
        assert_eq!(marks(&other), "");
        guest.ok(&format!("corepath raw del path {}", paths[0]));
        guest.until(&format!("! udevadm info -q property -n /dev/{} | grep -q DM_MULTIPATH_DEVICE_PATH", paths[0]), Duration::from_secs(20));
        assert_eq!(marks(&paths[0]), "");
        guest.ok(&format!("corepath raw add path {}", paths[0]));
        guest.until(&format!("udevadm info -q property -n /dev/{} | grep -qx SYSTEMD_READY=0", paths[0]), Duration::from_secs(20));
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(Duration::from_secs(10)).code, 0);
        peer::settle(&guest);
        let seen = "udevadm info --export-db | grep -c . ; cat /sys/kernel/uevent_seqnum";
        let before = guest.ok(seen);
        let next = guest.spawn("exec corepath daemon --strict");
        guest.until("corepath status | grep -q ', 2 usable'", Duration::from_secs(20));
        guest.ok("sleep 3");
        assert_eq!(guest.ok(seen), before, "events for nothing");
        guest.ok("corepath stop");
        assert_eq!(next.wait(Duration::from_secs(10)).code, 0);
    }
}

/// The peer of the older kernel's suite (0.9) does not choose the grouping of an ALUA array by itself; later ones and we do.
const BY_PRIO: &str = "defaults {\n find_multipaths no\n user_friendly_names no\n}\ndevices {\n device {\n vendor COREPATH\n product ALUA\n path_grouping_policy group_by_prio\n }\n}\n";

/// A tree's maps: size line's handler, and the paths of each group in order.
fn bones(tree: &str) -> Vec<String> {
    let mut maps: Vec<String> = Vec::new();
    for line in tree.lines() {
        let words: Vec<&str> = line.split(['|', '`', ' ']).filter(|word| !word.is_empty() && !word.starts_with(['-', '+'])).collect();
        if line.contains(" dm-") {
            maps.push(words[0].to_string());
        } else if let Some(map) = maps.last_mut() {
            if let Some((_, handler)) = line.split_once("hwhandler='") {
                *map += &format!(" [{}]", handler.split('\'').next().unwrap_or(""));
            } else if line.contains("status=") {
                *map += " :";
            } else {
                *map += &format!(" {}", words[1]);
            }
        }
    }
    maps.sort();
    maps
}

scenario! {
    /// Five kinds of arrays, assembled by the peer and then by us: the same handler, the same groups in the same order.
    fn arrays_side_by_side(kernel) {
        let arrays: Vec<Array> = ["plain", "alua", "clariion", "rdac", "hpsw"]
            .iter()
            .enumerate()
            .map(|(n, persona)| {
                let ports = ["a", "b"].iter().flat_map(|side| (0..2).map(move |p| format!("{side}{n}{p}"))).collect::<Vec<_>>();
                Array::start(persona, &ports.iter().map(String::as_str).collect::<Vec<_>>(), &format!("--serial S{n} --luns 2,size=8M"))
            })
            .collect();
        let vm = arrays.iter().fold(Vm::new(kernel).corepath(), Vm::array);
        let guest = peer::with_multipath_tools(vm, BY_PRIO).boot();
        guest.ok("rmmod virtio_scsi && modprobe -a scsi_dh_emc scsi_dh_alua scsi_dh_rdac scsi_dh_hp_sw dm_multipath dm_service_time dm_queue_length dm_round_robin && modprobe virtio_scsi");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 40 ]", Duration::from_secs(30));
        peer::start_udev(&guest);
        guest.spawn("multipath >/dev/null 2>&1").wait(Duration::from_secs(60));
        peer::settle(&guest);
        let theirs = guest.ok("multipath -ll 2>/dev/null");
        let counted = |array: &Array| (array.number("trespasses"), array.number("count op=MODE_SELECT_10"), array.number("count op=START_STOP_UNIT"));
        let moved: Vec<_> = arrays.iter().map(counted).collect();
        guest.ok("multipath -F >&2");
        peer::settle(&guest);
        guest.ok("corepath boot --timeout 30 >&2");
        let ours = guest.ok("corepath list 2>/dev/null");
        println!("vm: {} theirs:\n{theirs}\nvm: ours:\n{ours}", kernel.release);
        assert_eq!(bones(&ours).len(), 10, "{ours}");
        println!("vm: {} trespasses and commands theirs {moved:?}, with ours {:?}", kernel.release, arrays.iter().map(counted).collect::<Vec<_>>());
        assert_eq!(bones(&ours), bones(&theirs));
    }
}
