//! From bare disks to live maps on a real kernel, without udev.

use std::time::Duration;

use crate::lab::{Guest, Vm};
use crate::scenario;

const MIB: u64 = 1 << 20;

scenario! {
    /// Two LUNs with two paths each: right identities, right groups, data goes through; a second run changes nothing; a path that comes
    /// later is taken by the next run, one that goes is given up.
    fn boot_assembles(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 64 * MIB, 2).lun("b", 32 * MIB, 2).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let scan = guest.ok("corepath scan");
        assert_eq!(scan.matches("would be created: 2 of 2 paths usable").count(), 2, "{scan}");
        let boot = guest.ok("corepath boot --timeout 20");
        println!("vm: {} {boot}", kernel.release);
        assert!(boot.contains("2 maps with 4 usable paths"), "{boot}");

        let wwid = format!("3{}", guest.wwid("a").trim_start_matches("naa."));
        let list = guest.ok("corepath list");
        println!("{list}");
        for disk in ["a.0", "a.1", "b.0", "b.1"] {
            let name = guest.disk(disk).unwrap();
            assert_eq!(list.matches(&format!(" {name} ")).count(), 1, "{name} stands once in:\n{list}");
        }
        assert!(list.contains(&format!("{wwid} dm-")) && list.contains("size=64M"), "{list}");
        assert_eq!(list.matches("active ready running").count(), 4, "{list}");

        // Written through the map, read back through a path.
        guest.ok(&format!("dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null; dd if=/tmp/data of=/dev/mapper/{wwid} bs=1M conv=fsync 2>/dev/null"));
        let path = guest.disk("a.1").unwrap();
        guest.ok(&format!("dd if=/dev/{path} bs=1M count=8 iflag=direct 2>/dev/null | cmp - /tmp/data"));

        let again = guest.ok("corepath boot --timeout 20");
        assert!(again.contains(", 0 changes)"), "a second run writes nothing: {again}");

        guest.unplug("a.1");
        guest.until(&format!("[ ! -e /sys/block/{path} ]"), Duration::from_secs(10));
        let without = guest.ok("corepath boot --timeout 20");
        assert!(without.contains("2 maps with 3 usable paths"), "{without}");
        guest.plug("a.1");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 4 ]", Duration::from_secs(20));
        let with = guest.ok("corepath boot --timeout 20");
        assert!(with.contains("2 maps with 4 usable paths"), "{with}");
        assert_eq!(guest.ok("corepath list").matches("active ready running").count(), 4);

        guest.ok("corepath remove --all");
        assert_eq!(guest.ok("ls /dev/mapper"), "control");
    }
}

scenario! {
    /// `boot --root` waits by events: at once when the disk appears, exit 2 at the deadline when it does not.
    fn boot_waits_for_root(kernel) {
        let guest = Vm::new(kernel).corepath().lun_later("late", 64 * MIB, 2, 0).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let missing = guest.run("corepath boot --root /dev/mapper/nothing --timeout 2").fails(2);
        assert!(missing.contains("did not appear within 2 s"), "{missing}");
        let job = guest.spawn("corepath boot --root /dev/mapper/35c0ae1a700000000 --timeout 40");
        std::thread::sleep(Duration::from_secs(3));
        assert!(!job.ended());
        guest.plug("late.0");
        guest.plug("late.1");
        let output = job.wait(Duration::from_secs(30));
        assert_eq!(output.code, 0, "{}", output.text());
        assert!(output.text().contains("is live"), "{}", output.text());
    }
}

scenario! {
    /// The daemon seals itself, fails a path over and back, tells its state at once, and ends in order.
    fn daemon_watches(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 64 * MIB, 2).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let daemon = guest.spawn("corepath daemon --strict");
        guest.until("corepath status | grep -q '2 usable'", Duration::from_secs(20));
        let status = guest.ok("corepath status");
        for step in ["io-flusher=yes", "memory-locked=yes", "oom-exempt=yes", "realtime=yes", "seccomp=yes"] {
            assert!(status.contains(step), "{step} is missing in:\n{status}");
        }
        let map = guest.ok("ls /dev/mapper | grep -v control");
        let writer = guest.spawn(&format!("exec lab write /dev/mapper/{map} --size 16m --direct --rate 400"));
        let path = guest.disk("a.0").unwrap();
        for _ in 0..3 {
            guest.ok(&format!("echo offline > /sys/block/{path}/device/state"));
            guest.until("corepath status | grep -q '1 usable'", Duration::from_secs(10));
            guest.ok(&format!("echo running > /sys/block/{path}/device/state"));
            guest.until("corepath status | grep -q '2 usable'", Duration::from_secs(10));
        }
        writer.signal(15);
        let output = writer.wait(Duration::from_secs(60));
        assert_eq!(output.code, 0, "{}", output.text());
        println!("vm: {} {}", kernel.release, output.text().trim());
        assert!(output.text().contains("errors=0 wrong=0"), "{}", output.text());
        let status = guest.ok("corepath status");
        assert!(status.contains("page faults since the seal: 0 minor, 0 major"), "{status}");
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(Duration::from_secs(5)).code, 0);
        // The map stays.
        guest.ok(&format!("dd if=/dev/mapper/{map} of=/dev/null bs=1M count=1 2>/dev/null"));
    }
}

/// Requests to device-mapper that write, as strace prints them.
const WRITES: &str = "DM_DEV_CREATE|DM_TABLE_LOAD|DM_TABLE_CLEAR|DM_DEV_SUSPEND|DM_DEV_REMOVE|DM_DEV_RENAME|DM_TARGET_MSG";

/// Runs a command under strace and gives what it asked of device-mapper that writes, a line each.
#[track_caller]
fn writes(guest: &Guest, command: &str) -> String {
    guest.ok(&format!("strace -f -o /tmp/trace -e trace=ioctl {command} >&2"));
    // Were there none at all, strace would not have seen anything.
    assert_ne!(guest.ok("grep -cE 'DM_LIST_DEVICES|DM_TABLE_STATUS' /tmp/trace || true"), "0", "strace sees the requests");
    guest.ok(&format!("grep -oE '{WRITES}' /tmp/trace || true"))
}

scenario! {
    /// Two LUNs through four ports of an ALUA array: identities, groups by priority, data; a second run, of boot or daemon and with a
    /// path down, writes nothing; paths go and come; a removal touches nothing else.
    fn four_ways(kernel) {
        let conf = "defaults {\n find_multipaths greedy\n}\nblacklist {\n device {\n vendor QEMU\n }\n}\n";
        let guest = Vm::new(kernel).corepath().debs(&["strace"]).file("/etc/multipath.conf", 0o644, conf.as_bytes()).boot();
        // Without the kernel's handler, as in a rescue image: its states of these disks change by themselves (README.md, traps).
        guest.ok("cd /lib/modules/*; rm $(find . -name scsi_dh_alua.ko); sed -i /scsi_dh_alua.ko:/d modules.dep");
        guest.ok("modprobe -a dm_multipath dm_service_time; ln -s corepath /usr/bin/multipath");
        guest.ok("modprobe scsi_debug add_host=4 max_luns=2 vpd_use_hostno=0 per_host_store=0 dev_size_mb=16");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 8 ]", Duration::from_secs(20));
        assert!(!guest.ok("corepath scan").contains("live map"), "none lives yet");
        assert!(guest.ok("multipath -d").contains("would be created"));
        let boot = guest.ok("corepath boot --timeout 20");
        assert!(boot.contains("2 maps with "), "{boot}");
        let list = guest.ok("corepath list");
        println!("vm: {} {boot}\n{list}", kernel.release);

        // The text of the serial number is the identity: this array has no registered name (scenarios_udev.rs compares with udev's).
        let (names, mut seen) = (["1Linux_scsi_debug_2000", "1Linux_scsi_debug_2001"], 0);
        let (mut prio, mut last) = (0, i64::MAX);
        for line in list.lines() {
            if let Some(name) = names.iter().find(|name| line.starts_with(**name)) {
                (last, seen) = (i64::MAX, seen + 1);
                println!("vm: {name}");
            } else if let Some((_, rest)) = line.split_once(" prio=") {
                prio = rest.split(' ').next().unwrap().parse().unwrap();
                assert!(prio < last, "groups by falling priority:\n{list}");
                last = prio;
            } else if let Some((host, _)) = line.split_once(":0:0:") {
                // scsi_debug: optimized, non-optimized, standby, by the host's number.
                let host: usize = host.rsplit(' ').next().unwrap().parse().unwrap();
                assert_eq!(prio, [50, 10, 1][host % 3], "{line}");
            }
        }
        assert_eq!((seen, list.matches(":0:0:").count()), (2, 8), "{list}");
        let json = guest.ok("corepath list --json");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let uuids: Vec<_> = json["maps"].as_array().unwrap().iter().map(|map| map["uuid"].as_str().unwrap()).collect();
        assert!(names.iter().all(|name| uuids.contains(name)), "{json}");

        // Written through the map, read back through a path that is not standby.
        let path = guest.ok("for d in /sys/block/sd*; do h=$(basename $(readlink -f $d/device)); \
                             [ ${h##*:} = 0 ] && [ $((${h%%:*} % 3)) = 0 ] && basename $d; done | head -1");
        guest.ok(&format!("dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null; dd if=/tmp/data of=/dev/mapper/{} bs=1M conv=fsync 2>/dev/null", names[0]));
        guest.ok(&format!("dd if=/dev/{path} bs=1M count=8 iflag=direct 2>/dev/null | cmp - /tmp/data"));

        assert_eq!(writes(&guest, "corepath boot"), "", "a second run");
        guest.ok(&format!("echo offline > /sys/block/{path}/device/state"));
        guest.ok("corepath boot");
        assert_eq!(writes(&guest, "corepath boot"), "", "a second run with a path down");
        let tables = guest.ok("lab dm table 1Linux_scsi_debug_2000; lab dm table 1Linux_scsi_debug_2001");
        let daemon = guest.spawn("strace -f -o /tmp/daemon -e trace=ioctl corepath daemon");
        guest.until("corepath status | grep -q 'usable'", Duration::from_secs(30));
        // Two rounds of checks.
        guest.ok("sleep 6; corepath stop");
        daemon.wait(Duration::from_secs(20));
        assert_eq!(guest.ok(&format!("grep -oE '{WRITES}' /tmp/daemon || true")).replace("DM_TARGET_MSG", "").trim(), "", "a daemon's start");
        assert_eq!(guest.ok("lab dm table 1Linux_scsi_debug_2000; lab dm table 1Linux_scsi_debug_2001"), tables);
        guest.ok(&format!("echo running > /sys/block/{path}/device/state; corepath boot"));

        // A path of the second map goes for good; then the first map is removed, and only that is done.
        let gone = guest.ok("for d in /sys/block/sd*; do h=$(basename $(readlink -f $d/device)); [ ${h##*:} = 1 ] && echo $h $(basename $d); done | head -1");
        let (hctl, gone) = gone.split_once(' ').unwrap();
        guest.ok(&format!("echo 1 > /sys/block/{gone}/device/delete"));
        assert_eq!(writes(&guest, &format!("corepath remove {}", names[0])), "DM_DEV_REMOVE");
        assert_eq!(guest.ok("ls /dev/mapper"), format!("{}\ncontrol", names[1]));
        assert_eq!(writes(&guest, "corepath boot").lines().filter(|w| *w == "DM_TABLE_LOAD").count(), 2, "one made, one without the path");
        assert_eq!(guest.ok("corepath list").matches(":0:0:").count(), 7);
        let host = hctl.split(':').next().unwrap();
        guest.ok(&format!("echo '- - -' > /sys/class/scsi_host/host{host}/scan"));
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 8 ]", Duration::from_secs(20));
        // The map that is named, and no other.
        guest.ok(&format!("multipath -f {}", names[0]));
        assert_eq!(writes(&guest, &format!("multipath {}", names[1])).lines().filter(|w| *w != "DM_TARGET_MSG").collect::<Vec<_>>(), ["DM_TABLE_LOAD", "DM_DEV_SUSPEND"]);
        assert_eq!(guest.ok("ls /dev/mapper"), format!("{}\ncontrol", names[1]));
        assert_eq!(guest.ok("corepath list").matches(":0:0:").count(), 4);
        guest.ok("multipath -F");
    }
}

scenario! {
    /// `--only-root` and `--min-paths`: root's disk alone, as many paths as asked for, and other maps live on unmentioned.
    fn roots_disk_alone(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 64 * MIB, 2).lun("b", 32 * MIB, 2).lun("c", 16 * MIB, 1).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time;true");
        let [a, _, c] = ["a", "b", "c"].map(|lun| format!("3{}", guest.wwid(lun).trim_start_matches("naa.")));

        // Root's disk alone, with as many paths as asked for.
        let said = guest.ok(&format!("corepath boot --only-root --root {a} --min-paths 2 --timeout 20"));
        assert!(said.contains(&format!("{a} is live: 1 maps with 2 usable paths")), "{said}");
        assert_eq!(guest.ok("ls /dev/mapper"), format!("{a}\ncontrol"));
        let said = guest.run(&format!("corepath boot --only-root --root {a} --min-paths 3 --timeout 1")).fails(2);
        assert!(said.contains("did not appear within 1 s"), "{said}");
        assert!(guest.ok("corepath boot").contains("2 maps with 4 usable paths"));
        // The other map lives on, and nobody says that it is in trouble.
        let said = guest.run(&format!("corepath boot --only-root --root {a} 2>&1")).text();
        assert!(said.contains("is live") && said.contains(" 0 changes") && !said.contains("NO USABLE"), "{said}");
        guest.ok("corepath remove --all");
        // Every disk has such a link, also one that is in the machine: no reason to claim it, and none to wait.
        for (spec, device) in [("wwn-0x", ""), ("scsi-3", ""), ("wwn-0x", "-part2")] {
            let spec = |wwid: &str| format!("/dev/disk/by-id/{spec}{}{device}", &wwid[1..]);
            let said = guest.ok(&format!("corepath boot --root {} --only-root --timeout 20", spec(&c)));
            assert!(said.contains(" a disk with one way to it; nothing to wait for"), "{said}");
            assert_eq!(guest.ok("ls /dev/mapper"), "control");
            let disk = guest.disk("c.0").unwrap();
            let node = guest.ok(&format!("corepath boot --root {} --device --only-root --timeout 20", spec(&c)));
            assert_eq!(node, format!("/dev/{disk}{}", device.trim_start_matches("-part")));
            if device.is_empty() {
                let said = guest.ok(&format!("corepath boot --root {} --only-root --timeout 20", spec(&a)));
                assert!(said.contains("is live: 1 maps with 2 usable paths"), "{said}");
                guest.ok("corepath remove --all");
            }
        }
        // By its number: of a disk, of a partition of it, of a LUN with two paths, which are no root but through their map.
        let [disk, path] = ["c.0", "a.0"].map(|place| guest.disk(place).unwrap());
        guest.ok(&format!("printf ',,83\\n' | sfdisk -q /dev/{disk} || printf 'n\\np\\n1\\n\\n\\nw\\n' | fdisk /dev/{disk} >/dev/null"));
        let number = |name: &str| guest.ok(&format!("cat /sys/class/block/{name}/dev"));
        for (name, node) in [(disk.clone(), format!("/dev/{disk}")), (format!("{disk}1"), format!("/dev/{disk}1"))] {
            let root = number(&name);
            let said = guest.ok(&format!("corepath boot --root {root} --only-root --timeout 20"));
            assert!(said.contains(&format!("{root} is on {disk}, a disk with one way to it; nothing to wait for")), "{said}");
            assert_eq!(guest.ok(&format!("corepath boot --root {root} --device --only-root --timeout 20")), node);
            assert_eq!(guest.ok("ls /dev/mapper"), "control");
        }
        for root in [number(&path), format!("/dev/{path}")] {
            let node = guest.ok(&format!("corepath boot --root {root} --device --only-root --timeout 20"));
            assert_eq!(node, format!("/dev/mapper/{a}"), "{root}");
            guest.ok("corepath remove --all");
        }
        // Nor for what others make.
        for spec in ["/dev/md0", "/dev/disk/by-id/dm-uuid-LVM-0aB1", "/dev/dm-7", "9:0"] {
            let said = guest.ok(&format!("corepath boot --root {spec} --timeout 20"));
            assert!(said.contains(&format!("{spec} is no map of corepath's: not waited for; 2 maps with 4 usable paths")), "{said}");
        }
    }
}
