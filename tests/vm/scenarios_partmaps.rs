//! Partitions of multipathed disks on real kernels: root on one of them without udev, the kernel's own partitions of the paths, and what the
//! daemon does when a disk grows, goes, or is told otherwise by the configuration.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Guest, Vm, host};
use crate::scenario;

const MIB: u64 = 1 << 20;
const WAIT: Duration = Duration::from_secs(20);

/// Runs host tools: shell lines with `$disk`, and `$at`, a file beside it.
#[track_caller]
fn on_host(disk: &Path, script: &str) {
    let script = format!("set -e; PATH=$PATH:/usr/sbin:/sbin; {script}");
    host::must(Command::new("sh").arg("-c").arg(script).env("disk", disk).env("at", disk.with_extension("part")));
}

/// The kernel's partitions of all SCSI disks.
fn of_paths(guest: &Guest) -> String {
    guest.ok("cd /sys/class/block; ls -d sd*[0-9] 2>/dev/null | tr '\\n' ' '").trim_end().to_string()
}

const ROOTS: &str = "label: gpt\n\
    1: start=2048,size=32768,name=\"my root\",uuid=11111111-2222-3333-4444-555555555555\n\
    2: start=34816,size=614400,uuid=22222222-2222-3333-4444-555555555555\n\
    3: start=649216,size=262144,uuid=33333333-2222-3333-4444-555555555555\n";
const EXT4: &str = "aaaaaaaa-8c43-4f04-9a0c-7f0b1f5e1a2b";
const XFS: &str = "bbbbbbbb-8c43-4f04-9a0c-7f0b1f5e1a2b";
const BTRFS: &str = "cccccccc-8c43-4f04-9a0c-7f0b1f5e1a2b";

scenario! {
    /// Root by what is on a partition, on a GPT, without udev: the map's partition is mounted and none of a path is there; each spelling of
    /// root=; a partition of a path in use stays and is named; all come back when the map goes; and left alone when told so.
    fn root_on_a_partition(kernel) {
        let guest = Vm::new(kernel).corepath().lun_later("a", 512 * MIB, 2, 0).boot();
        on_host(guest.lun_file("a"), &format!(
            "printf '{ROOTS}' | sfdisk -q $disk\n\
             mkfs.ext4 -q -F -L top -U {EXT4} -E offset=1048576 $disk 16M\n\
             truncate -s 300M $at; mkfs.xfs -q -L middle -m uuid={XFS} $at; dd if=$at of=$disk bs=1M seek=17 conv=sparse,notrunc 2>/dev/null; rm $at\n\
             truncate -s 128M $at; mkfs.btrfs -q -L low -U {BTRFS} $at; dd if=$at of=$disk bs=1M seek=317 conv=sparse,notrunc 2>/dev/null; rm $at"));
        guest.ok("modprobe -a dm_multipath dm_service_time ext4");
        guest.plug("a.0");
        guest.plug("a.1");
        guest.until("[ $(ls -d /sys/class/block/sd*[0-9] | wc -l) = 6 ]", Duration::from_secs(20));
        let (map, uuid) = (format!("3{}", guest.wwid("a").trim_start_matches("naa.")), "11111111-2222-3333-4444-555555555555");

        let said = guest.ok(&format!("corepath boot --root=PARTUUID={uuid} --only-root --links --timeout 20"));
        println!("vm: {} {said}", kernel.release);
        assert!(said.contains(&format!("PARTUUID={uuid} is live: 1 maps with 2 usable paths")), "{said}");
        assert_eq!(of_paths(&guest), "", "partitions of paths");
        let device = guest.ok(&format!("readlink -f /dev/disk/by-partuuid/{uuid}"));
        assert_eq!(device, guest.ok(&format!("readlink -f /dev/mapper/{map}p1 || readlink -f /dev/mapper/{map}1")), "{}", guest.ok("ls /dev/mapper"));
        guest.ok(&format!("mkdir -p /mnt; mount -t ext4 /dev/disk/by-partuuid/{uuid} /mnt; echo kept > /mnt/file; sync; umount /mnt"));

        // Whoever removes the maps, the disks are plain disks again.
        guest.ok("corepath remove --all");
        assert_eq!(of_paths(&guest), "sda1 sda2 sda3 sdb1 sdb2 sdb3");
        for spec in ["PARTLABEL='my root'", "PARTLABEL=my\\\\x20root", "LABEL=top", &format!("UUID={EXT4}"), &format!("UUID={XFS}"),
            "LABEL=middle", &format!("UUID={BTRFS}"), "/dev/disk/by-label/low", &map, &format!("/dev/mapper/{map}p2"), &format!("/dev/mapper/{map}-part2"),
            &format!("/dev/disk/by-id/dm-uuid-part3-mpath-{map}")] {
            let said = guest.ok(&format!("corepath boot --root={spec} --only-root --timeout 10"));
            assert!(said.contains("is live: 1 maps with 2 usable paths"), "{spec}: {said}");
            assert_eq!(of_paths(&guest), "", "{spec}");
            guest.ok("corepath remove --all");
        }
        // The name of another maker of partition maps: the one that is there.
        let device = guest.ok(&format!("corepath boot --root=/dev/mapper/{map}-part3 --device --only-root --timeout 10"));
        assert!(device.starts_with(&format!("/dev/mapper/{map}")) && device.ends_with('3') && !device.contains("-part"), "{device}");
        guest.ok(&format!("[ -b {device} ]; corepath remove --all"));
        let said = guest.run("corepath boot --root=LABEL=nosuch --only-root --timeout 2").fails(2);
        assert!(said.contains("LABEL=nosuch did not appear within 2 s: 2 disks seen"), "{said}");
        assert_eq!(of_paths(&guest), "sda1 sda2 sda3 sdb1 sdb2 sdb3");

        // Somebody has a partition of one path open.
        let user = guest.spawn("exec 3</dev/sdb2; echo open; sleep 60");
        user.line("open", Duration::from_secs(5));
        let said = guest.ok("corepath boot --timeout 10 2>&1");
        assert!(said.contains("path sdb") && said.contains("keeps its partition 2, which is in use"), "{said}");
        assert_eq!(of_paths(&guest), "sdb2");
        user.signal(9);
        user.wait(Duration::from_secs(5));
        guest.ok("corepath remove --all");
        assert_eq!(of_paths(&guest), "sda1 sda2 sda3 sdb1 sdb2 sdb3");

        guest.ok("echo $(cat /proc/cmdline) dont_del_part_nodes > /tmp/words; mount --bind /tmp/words /proc/cmdline");
        guest.ok("corepath boot --timeout 10; ls /dev/mapper | grep -c 3$ | grep -x 1");
        assert_eq!(of_paths(&guest), "sda1 sda2 sda3 sdb1 sdb2 sdb3");
        guest.ok("umount /proc/cmdline; corepath boot --timeout 10");
        assert_eq!(of_paths(&guest), "", "a later run tidies up what is live already");
    }
}

/// The partition maps that there are: name, first sector and length, in order.
fn maps(guest: &Guest) -> String {
    let table = guest.ok("dmsetup table --target linear | sort");
    let words = |line: &str| {
        let w: Vec<&str> = line.split(' ').collect();
        format!("{} {}+{}", w[0].trim_end_matches(':'), w[5], w[2])
    };
    table.lines().filter(|line| line.contains(" linear ")).map(words).collect::<Vec<_>>().join(", ")
}

scenario! {
    /// The daemon makes partition maps with the map, under the configured delimiter, where it is not told to skip them, read-only where the
    /// disk is; it keeps them when the disk grows, finds new ones then, takes them away with the map, and reads nothing through a dead map.
    fn the_daemon_keeps_partitions(kernel) {
        let conf = b"defaults {\n\tpartition_delimiter \"-part\"\n\tno_path_retry queue\n\tpolling_interval 1\n}\n\
            multipaths {\n\tmultipath {\n\t\twwid 35c0ae1a700000000\n\t\talias data\n\t}\n\
            \tmultipath {\n\t\twwid 35c0ae1a700000100\n\t\talias whole\n\t\tskip_kpartx yes\n\t}\n\
            \tmultipath {\n\t\twwid 35c0ae1a700000200\n\t\talias safe\n\t}\n}\n";
        let vm = Vm::new(kernel).corepath().debs(&["dmsetup", "fdisk"]).file("/etc/multipath.conf", 0o644, conf);
        let guest = vm.lun_later("a", 64 * MIB, 2, 0).lun_later("b", 16 * MIB, 2, 0).lun_later("c", 16 * MIB, 2, 0).boot();
        on_host(guest.lun_file("a"), "printf 'label: dos\\n1: start=2048,size=32768\\n2: start=34816,size=8192\\n' | sfdisk -q $disk");
        on_host(guest.lun_file("a"), "mkfs.ext4 -q -F -E offset=1048576 $disk 16M");
        for lun in ["b", "c"] {
            on_host(guest.lun_file(lun), "printf 'label: dos\\n1: start=2048,size=8192\\n' | sfdisk -q $disk");
        }
        guest.ok("modprobe -a dm_multipath dm_service_time ext4");
        for path in ["a.0", "a.1", "b.0", "b.1", "c.0", "c.1"] {
            guest.plug(path);
        }
        guest.until("[ $(ls -d /sys/class/block/sd*[0-9] | wc -l) = 8 ]", WAIT);
        let safe = [guest.disk("c.0").unwrap(), guest.disk("c.1").unwrap()];
        guest.ok(&format!("for d in {} {}; do blockdev --setro /dev/$d; done", safe[0], safe[1]));
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("[ -e /dev/mapper/data-part2 ] && [ -e /dev/mapper/safe-part1 ] && [ -e /dev/mapper/whole ]", WAIT);
        assert_eq!(maps(&guest), "data-part1 2048+32768, data-part2 34816+8192, safe-part1 2048+8192");
        assert_eq!(guest.ok("dmsetup info -c --noheadings -o name,attr,uuid | grep '^safe' | cut -d: -f1,2 | sort"), "safe-part1:L--r\nsafe:L--r");
        let uuids = guest.ok("dmsetup info -c --noheadings -o uuid | sort | tr '\\n' ' '");
        assert!(uuids.contains("part1-mpath-35c0ae1a700000000 part1-mpath-35c0ae1a700000200 part2-mpath-35c0ae1a700000000"), "{uuids}");
        guest.until("[ $(ls -d /sys/class/block/sd*[0-9] 2>/dev/null | wc -l) = 0 ]", WAIT);

        // The disk grows while a partition of it is mounted, and somebody adds one in the new space.
        guest.ok("mkdir -p /mnt; mount -t ext4 /dev/mapper/data-part1 /mnt; echo kept > /mnt/file; sync");
        guest.resize("a", 96 * MIB);
        guest.ok("for d in /sys/block/sd*; do echo 1 > $d/device/rescan; done");
        guest.ok("printf 'start=135168,size=16384\\n' | sfdisk -q -a --force --no-reread --no-tell-kernel /dev/sda 2>&1; sync");
        guest.until("corepath resize data", WAIT);
        guest.until("[ -e /dev/mapper/data-part3 ]", WAIT);
        assert_eq!(maps(&guest), "data-part1 2048+32768, data-part2 34816+8192, data-part3 135168+16384, safe-part1 2048+8192");
        assert_eq!(guest.ok("cat /mnt/file; cat /sys/block/$(basename $(readlink /dev/mapper/data))/size"), "kept\n196608");
        assert_eq!(of_paths(&guest), "", "growing brought partitions of paths back");

        // A map whose paths are all dead: nothing that is asked of it hangs, and its partitions stay.
        let both = "$(grep -lx naa.5c0ae1a700000000 /sys/block/sd*/device/wwid | cut -d/ -f4)";
        guest.ok(&format!("for d in {both}; do echo offline > /sys/block/$d/device/state; done"));
        guest.until("corepath status | grep '^data ' | grep -q '0 usable'", WAIT);
        for command in ["corepath partitions list data", "corepath partitions add data", "corepath kpartx -u /dev/mapper/data", "corepath kpartx -l /dev/mapper/data"] {
            let output = guest.run(&format!("{command} 2>&1"));
            assert!(output.code == 1 && output.text().contains("no usable path"), "{command}: {} {}", output.code, output.text());
        }
        guest.ok(&format!("for d in {both}; do echo running > /sys/block/$d/device/state; done"));
        guest.until("corepath status | grep '^data ' | grep -q '2 usable'", WAIT);

        // With the map: refused while mounted, and nothing of it goes; then all of it.
        let said = guest.run("corepath raw del map data 2>&1; corepath remove data 2>&1").text();
        assert!(said.contains("in use"), "{said}");
        assert!(maps(&guest).contains("data-part1 2048+32768"), "{}", maps(&guest));
        assert_eq!(guest.ok("cat /mnt/file; umount /mnt"), "kept");
        guest.ok("corepath raw del map data");
        guest.until("[ ! -e /dev/mapper/data ] && [ ! -e /dev/mapper/data-part1 ]", WAIT);
        assert_eq!(maps(&guest), "safe-part1 2048+8192");
        guest.until("[ $(ls -d /sys/class/block/sd*[0-9] | wc -l) = 6 ]", WAIT);
        assert!(guest.ok("corepath status").contains("page faults since the seal: 0 minor, 0 major"));
        guest.ok("corepath stop");
        daemon.wait(WAIT).ok();
        assert_eq!(maps(&guest), "safe-part1 2048+8192");
    }
}
