//! Partitions on real kernels: our numbers are the kernel's, kpartx on loop files beside the peer's, tables that change under a mount.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::apt::Suite;
use crate::lab::{self, Guest, Vm, every_day, host, peer};
use crate::scenario;

#[path = "../common/disk.rs"]
mod disk;
#[path = "../common/tables.rs"]
mod tables;

use disk::MemDisk;
use tables::{NONE, logicals, mbr};

const MIB: u64 = 1 << 20;

/// (number, start, length)
type Slices = BTreeSet<(u32, u64, u64)>;

/// Writes what a test disk holds into a file.
fn write(disk: &MemDisk, file: &Path) {
    let image = std::fs::File::options().write(true).open(file).unwrap();
    for (sector, bytes) in disk.sectors.iter() {
        image.write_all_at(bytes, sector * 512).unwrap();
    }
}

/// What `corepath partitions list` says.
fn ours(guest: &Guest, device: &str) -> Slices {
    let text = guest.run(&format!("corepath partitions list {device}")).text();
    let value = |line: &str, key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.parse().ok());
    text.lines()
        .filter_map(|line| {
            let name = line.split(' ').next()?;
            let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
            Some((name[digits..].parse().ok()?, value(line, "start=")?, value(line, "size=")?))
        })
        .collect()
}

/// What the kernel made of the disk itself.
fn kernels(guest: &Guest, disk: &str) -> Slices {
    let script = format!("for p in /sys/block/{disk}/{disk}*; do [ -e $p ] && echo $(cat $p/partition $p/start $p/size); done; true");
    let number = |word: Option<&str>| word.unwrap().parse::<u64>().unwrap();
    guest
        .ok(&script)
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            (number(words.next()) as u32, number(words.next()), number(words.next()))
        })
        .collect()
}

/// Tables that both the kernel and we know, and odd chains on which the peer counts otherwise.
fn known_to_the_kernel() -> Vec<(&'static str, MemDisk)> {
    let names = ["gpt", "dos", "labels in dos", "mac", "sun"];
    let mut all: Vec<_> = tables::all().into_iter().filter(|(name, _)| names.contains(name)).collect();
    let mut empties = MemDisk::new(8 << 20);
    empties.write(0, &mbr(1, [(0x83, 8, 8), (0x0f, 64, 8000), NONE, (0x85, 9000, 100)]));
    empties.write(64 * 512, &mbr(0, [NONE, (0x05, 100, 50), NONE, NONE]));
    empties.write(164 * 512, &mbr(0, [(0x83, 1, 7), (0x0f, 200, 50), NONE, NONE]));
    empties.write(264 * 512, &mbr(0, [(0x05, 300, 50), (0x83, 3, 9), (0x83, 20, 5), (0x83, 40, 11)]));
    empties.write(364 * 512, &mbr(0, [(0, 1, 7), NONE, NONE, NONE]));
    empties.write(9000 * 512, &mbr(0, [(0x83, 2, 9), NONE, NONE, NONE]));
    all.push(("chains with empties, four entries, two extended", empties));
    let mut looped = logicals(3, 512);
    looped.write((64 + 16) * 512, &mbr(0, [(0x83, 1, 7), NONE, NONE, NONE]));
    all.push(("chain that ends", looped));
    let mut fat = MemDisk::new(8 << 20);
    let mut sector = mbr(0, [(0x83, 100, 100), NONE, NONE, NONE]);
    sector[0x1be] = b'A';
    fat.write(0, &sector);
    all.push(("no boot byte", fat));
    let mut protective = tables::all().swap_remove(0).1;
    protective.write(0, &mbr(0, [(0xee, 2, 100), NONE, NONE, NONE]));
    all.push(("protective elsewhere", protective));
    all
}

scenario! {
    /// The kernel reads each table on a disk of its own, in 512-byte blocks: same numbers, starts and lengths.
    fn partitions_are_numbered_as_the_kernel_does(kernel) {
        let tables = known_to_the_kernel();
        let mut vm = Vm::new(kernel).corepath();
        for i in 0..tables.len() {
            vm = vm.lun_later(&format!("t{i}"), 16 * MIB, 1, 0);
        }
        let guest = vm.boot();
        for (i, (name, disk)) in tables.iter().enumerate() {
            write(disk, guest.lun_file(&format!("t{i}")));
            guest.plug(&format!("t{i}.0"));
            let wwid = guest.wwid(&format!("t{i}"));
            guest.until(&format!("grep -qlx {wwid} /sys/block/sd*/device/wwid"), Duration::from_secs(10));
            let device = guest.disks_of(&wwid).remove(0);
            guest.until(&format!("[ -b /dev/{device} ]"), Duration::from_secs(10));
            // The first scan has ended when the disk can be opened.
            guest.ok(&format!("dd if=/dev/{device} of=/dev/null bs=512 count=1 2>/dev/null"));
            let (kernel, ours) = (kernels(&guest, &device), ours(&guest, &format!("/dev/{device}")));
            println!("vm: {name}: {} partitions", ours.len());
            assert_eq!(ours, kernel, "{name}");
        }
    }
}

scenario! {
    /// The same with 4096-byte blocks.
    fn partitions_in_blocks_of_4096(kernel) {
        let guest = Vm::new(kernel).corepath().boot();
        guest.ok("modprobe scsi_debug dev_size_mb=64 sector_size=4096");
        let disk = guest.until("ls -d /sys/block/sd* | cut -d/ -f4", Duration::from_secs(20));
        let mut sizes = Vec::new();
        for name in ["gpt 4096", "dos 4096"] {
            let table = tables::all().into_iter().find(|(n, _)| *n == name).unwrap().1;
            let end = table.sectors.keys().copied().filter(|s| *s < 4096).max().unwrap() + 1;
            let mut head = vec![0; (end as usize).next_multiple_of(8) * 512];
            for (sector, bytes) in table.sectors.iter().filter(|(s, _)| **s < 4096) {
                head[*sector as usize * 512..][..512].copy_from_slice(bytes);
            }
            guest.put("/tmp/head", 0o600, &head);
            guest.ok(&format!("dd if=/tmp/head of=/dev/{disk} bs=4096 conv=fsync 2>/dev/null; blockdev --rereadpt /dev/{disk}"));
            let (kernel, ours) = (kernels(&guest, &disk), ours(&guest, &format!("/dev/{disk}")));
            assert_eq!(ours, kernel, "{name}");
            sizes.push(ours.len());
        }
        assert_eq!(sizes, [2, 23]);
    }
}

/// `dmsetup table` and the uuids, without the numbers of devices that differ from run to run.
fn maps(guest: &Guest) -> String {
    guest.ok("dmsetup table | sort; dmsetup info -c --noheadings -o name,uuid | sort")
}

scenario! {
    /// kpartx on files: ours and the peer's make the same maps, and each removes what the other made.
    fn kpartx_on_files(kernel) {
        let guest = Vm::new(kernel).corepath().debs(&["dmsetup", "kpartx"]).link("/usr/bin/kpartx.ours", "corepath").boot();
        guest.ok("modprobe -a loop dm_mod");
        let names = ["gpt", "dos", "mac", "bsd", "unixware", "sun"];
        for (name, table) in tables::all().into_iter().filter(|(name, _)| names.contains(name)) {
            let end = table.sectors.keys().copied().filter(|s| *s < 4096).max().unwrap() + 1;
            let mut head = vec![0; end as usize * 512];
            for (sector, bytes) in table.sectors.iter().filter(|(s, _)| **s < 4096) {
                head[*sector as usize * 512..][..512].copy_from_slice(bytes);
            }
            guest.put("/tmp/img", 0o600, &head);
            guest.ok(&format!("truncate -s {} /tmp/img", table.size));

            // The peer takes the first loop device for a listing, too; it says more on standard error.
            let listed = guest.ok("kpartx -l /tmp/img 2>/dev/null");
            guest.ok("kpartx -as /tmp/img");
            let theirs = maps(&guest);
            assert_eq!(guest.ok("corepath kpartx -dv /tmp/img | tail -1"), "loop deleted : /dev/loop0");
            assert_eq!(guest.ok("dmsetup ls"), "No devices found");
            assert_eq!(guest.run("losetup -a").text(), "");

            let said = guest.ok("corepath kpartx -asv /tmp/img");
            let ours = maps(&guest);
            assert_eq!(ours, theirs, "{name}");
            assert!(said.lines().all(|line| line.starts_with("add map loop0p")), "{said}");
            let nodes = guest.ok("for m in $(dmsetup ls | cut -f1); do [ -b /dev/mapper/$m ] || echo $m; done");
            assert_eq!(nodes, "", "there on return");
            // A second time changes nothing; the listing is the peer's but for contained slices, which it counts from their container.
            guest.ok("corepath kpartx -a /tmp/img");
            assert_eq!(maps(&guest), ours);
            let plain = |text: &str| text.lines().filter(|l| !l.contains("/dev/dm-")).map(str::to_string).collect::<BTreeSet<_>>();
            let mine = guest.ok("corepath kpartx -l /tmp/img");
            assert!(plain(&listed).is_subset(&plain(&mine)), "{name}: {listed}\n{mine}");
            assert_eq!(listed.lines().count(), mine.lines().count(), "{name}: {listed}\n{mine}");
            // The peer does not find its own loop device over a file of an initramfs either: by device it does.
            guest.ok("kpartx -d /dev/loop0");
            assert_eq!(guest.ok("dmsetup ls"), "No devices found", "{name}");
            guest.ok("losetup -d /dev/loop0");
        }
    }
}

scenario! {
    /// Exit statuses, read-only maps, delimiters, foreign maps, files without a table.
    fn kpartx_says_what_it_did(kernel) {
        let guest = Vm::new(kernel).corepath().debs(&["dmsetup"]).boot();
        guest.ok("modprobe -a loop dm_mod");
        let image = |entries| {
            let mut head = mbr(7, entries).to_vec();
            head.resize(1024, 0);
            head
        };
        guest.put("/tmp/img", 0o600, &image([(0x83, 8, 8), (0x83, 16, 8), NONE, NONE]));
        guest.ok("truncate -s 1M /tmp/img");
        guest.ok("corepath kpartx -ar -p -part /tmp/img");
        assert_eq!(guest.ok("dmsetup info -c --noheadings -o name,attr | grep -c 'loop0-part[12]:L.*r'"), "2");
        guest.ok("corepath kpartx -d -p -part /tmp/img");

        // A map of somebody else has the name of partition 2.
        guest.ok("dmsetup create loop0p2 --uuid mine --table '0 8 error'");
        let said = guest.run("corepath kpartx -a /tmp/img").fails(1);
        assert!(said.contains("loop0p2: the name belongs to another map"), "{said}");
        assert_eq!(guest.ok("dmsetup table loop0p2"), "0 8 error");
        guest.ok("corepath kpartx -d /tmp/img");
        assert_eq!(guest.ok("dmsetup ls | cut -f1"), "loop0p2");
        guest.ok("dmsetup remove loop0p2");

        // In use: counted, named, and the loop device stays.
        guest.ok("corepath kpartx -a /tmp/img");
        let user = guest.spawn("exec 3</dev/mapper/loop0p1; echo open; sleep 30");
        user.line("open", Duration::from_secs(5));
        let said = guest.run("corepath kpartx -dv /tmp/img").fails(1);
        assert!(said.contains("loop0p1: device-mapper refuses: EBUSY") && said.contains("del devmap : loop0p2"), "{said}");
        user.signal(9);
        user.wait(Duration::from_secs(5));
        guest.ok("corepath kpartx -d /tmp/img");
        guest.ok("corepath kpartx -d /tmp/img");

        // Outside the disk: refused by name, the other is there.
        guest.put("/tmp/img", 0o600, &image([(0x83, 8, 8), (0x83, 16, 8000), NONE, NONE]));
        guest.ok("truncate -s 1M /tmp/img");
        let said = guest.run("corepath kpartx -a /tmp/img").fails(1);
        assert!(said.contains("partition 2 refused: 8000 sectors from 16 are not all on the disk"), "{said}");
        assert_eq!(guest.ok("dmsetup ls | cut -f1"), "loop0p1");
        guest.ok("corepath kpartx -d /tmp/img");

        guest.ok("head -c 100000 /dev/zero > /tmp/none; corepath kpartx -a /tmp/none");
        assert_eq!(guest.run("losetup -a").text(), "", "no loop device is left over a file without a table");
        assert_eq!(guest.run("corepath kpartx -l /tmp/absent").fails(1), "failed to stat() /tmp/absent");
        guest.run("corepath kpartx -l /dev/null").fails(1);
        guest.run("corepath kpartx -z /tmp/img").fails(1);
    }
}

scenario! {
    /// On a multipathed disk: made through a path, mounted, then the table changes: gone, grown and new ones beside the mounted.
    fn a_table_changes_under_a_mount(kernel) {
        let guest = Vm::new(kernel).corepath().debs(&["dmsetup", "fdisk"]).lun_later("a", 64 * MIB, 2, 0).boot();
        let file = guest.lun_file("a").to_path_buf();
        let name = file.to_str().unwrap();
        let table = "label: gpt\nstart=2048,size=32768,name=root\nstart=34816,size=8192\nstart=43008,size=8192\n";
        host::must(Command::new("sh").arg("-c").arg(format!("PATH=$PATH:/usr/sbin; printf '{table}' | sfdisk -q {name}")));
        host::must(Command::new("sh").arg("-c").arg(format!("PATH=$PATH:/usr/sbin; mkfs.ext4 -q -F -E offset=1048576 -L top {name} 16M")));
        guest.plug("a.0");
        guest.plug("a.1");
        guest.until(&format!("[ $(grep -lx {} /sys/block/sd*/device/wwid | wc -l) = 2 ]", guest.wwid("a")), Duration::from_secs(10));
        let disks = guest.disks_of(&guest.wwid("a"));
        guest.bare_map("mpatha", &disks, "1 queue_if_no_path");
        assert_eq!(guest.ok("corepath kpartx -av /dev/mapper/mpatha | wc -l"), "3");
        guest.ok("modprobe ext4; mkdir -p /mnt; mount -t ext4 /dev/mapper/mpatha1 /mnt; echo kept > /mnt/file; sync");
        // The map itself is not needed to read the table: all its paths but one fail.
        guest.ok(&format!("lab dm message mpatha --say 'fail_path {}'", guest.ok(&format!("cat /sys/block/{}/dev", disks[0]))));
        let uuids = guest.ok("dmsetup info -c --noheadings -o name,uuid | sort | cut -d: -f2");
        assert_eq!(uuids.lines().filter(|uuid| uuid.starts_with("part")).count(), 3, "{uuids}");



        guest.ok("printf 'label: gpt\\n1: start=2048,size=32768,name=root\\n3: start=43008,size=16384\\n4: start=65536,size=4096,name=new\\n' \
                  | sfdisk -q --force --no-reread --no-tell-kernel /dev/mapper/mpatha; sync; blockdev --flushbufs /dev/mapper/mpatha");
        let said = guest.ok("corepath kpartx -uv /dev/mapper/mpatha");
        assert!(said.contains("del devmap : mpatha2"), "{said}");
        let table = guest.ok("dmsetup table | grep mpatha[0-9] | sort | cut -d' ' -f1-4,6");
        assert_eq!(table, "mpatha1: 0 32768 linear 2048\nmpatha3: 0 16384 linear 43008\nmpatha4: 0 4096 linear 65536");
        assert_eq!(guest.ok("cat /mnt/file; cat /sys/class/block/$(basename $(readlink /dev/mapper/mpatha3))/size"), "kept\n16384");
        assert!(guest.ok("corepath partitions list mpatha").contains("name=\"new\""));

        // Gone from the table, but mounted: kept, counted and named.
        guest.ok("printf 'label: gpt\\n3: start=43008,size=16384\\n' | sfdisk -q --force --no-reread --no-tell-kernel /dev/mapper/mpatha; sync; blockdev --flushbufs /dev/mapper/mpatha");
        let said = guest.run("corepath kpartx -u /dev/mapper/mpatha").fails(1);
        assert!(said.contains("mpatha1: device-mapper refuses: EBUSY"), "{said}");
        assert_eq!(guest.ok("cat /mnt/file; dmsetup ls | cut -f1 | sort"), "kept\nmpatha\nmpatha1\nmpatha3");

        // Without a usable path nothing hangs, and nothing is removed.
        guest.ok(&format!("lab dm message mpatha --say 'fail_path {}'", guest.ok(&format!("cat /sys/block/{}/dev", disks[1]))));
        let said = guest.run("corepath kpartx -u /dev/mapper/mpatha").fails(1);
        assert!(said.contains("no usable path"), "{said}");
        assert_eq!(guest.ok("dmsetup ls | cut -f1 | sort"), "mpatha\nmpatha1\nmpatha3");
        // To remove the maps needs no path; the mounted one stays.
        let said = guest.run("corepath kpartx -dv /dev/mapper/mpatha").fails(1);
        assert!(said.contains("del devmap : mpatha3") && !said.contains("no usable path"), "{said}");
        assert_eq!(guest.ok("dmsetup ls | cut -f1 | sort"), "mpatha\nmpatha1");
        guest.ok(&format!("lab dm message mpatha --say 'reinstate_path {}'", guest.ok(&format!("cat /sys/block/{}/dev", disks[1]))));
        guest.ok("umount /mnt; corepath partitions delete mpatha");
        assert_eq!(guest.ok("dmsetup ls | cut -f1"), "mpatha");

        // No udev here: its links on request, and gone with the map. They need a map that knows its disk.
        guest.ok("dmsetup rename mpatha --setuuid mpath-36001405aabbccdd0aabbccdd0aabbccd");
        guest.ok("printf 'label: gpt\\n1: start=2048,size=32768,name=\"my root\",uuid=0fc63daf-8483-4772-8e79-3d69d8477de4\\n' \
                  | sfdisk -q --force --no-reread --no-tell-kernel /dev/mapper/mpatha; sync; blockdev --flushbufs /dev/mapper/mpatha");
        let links = "cd /dev/disk && for l in */*; do echo $l $(readlink $l); done | sort";
        assert_eq!(guest.ok("corepath partitions add --links mpatha | cut -d' ' -f1"), "mpatha1");
        let (map, part) = (guest.ok("readlink /dev/mapper/mpatha"), guest.ok("readlink /dev/mapper/mpatha1"));
        let uuid = guest.ok("lab pread /dev/mapper/mpatha1 >/dev/null; dd if=/dev/mapper/mpatha1 bs=1 skip=1128 count=16 2>/dev/null | od -An -tx1 | tr -d ' \\n'");
        let uuid = format!("{}-{}-{}-{}-{}", &uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]);
        let said = guest.ok(links);
        for (link, to) in [
            ("by-id/dm-name-mpatha", &map),
            ("by-id/dm-uuid-mpath-36001405aabbccdd0aabbccdd0aabbccd", &map),
            ("by-id/wwn-0x6001405aabbccdd0aabbccdd0aabbccd", &map),
            ("by-id/wwn-0x6001405aabbccdd0aabbccdd0aabbccd-part1", &part),
            ("by-partuuid/0fc63daf-8483-4772-8e79-3d69d8477de4", &part),
            ("by-partlabel/my\\x20root", &part),
            ("by-label/top", &part),
            (format!("by-uuid/{uuid}").as_str(), &part),
        ] {
            assert!(said.contains(&format!("{link} ../{to}")), "{link} {to}: {said}");
        }
        guest.ok("corepath partitions delete mpatha");
        assert!(!guest.ok(links).contains(part.trim_start_matches("../")));
    }
}

scenario! {
    /// Names and numbers of maps, both ways.
    fn names_of_maps(kernel) {
        let guest = Vm::new(kernel).corepath().debs(&["dmsetup"]).boot();
        guest.ok("modprobe dm_mod; dmsetup create one --table '0 8 error'");
        let number = guest.ok("dmsetup info -c --noheadings -o major,minor one | tr -d ' '");
        let (major, minor) = number.split_once(':').unwrap();
        for command in [format!("devmap_name {number}"), format!("devmap_name {major} {minor}"), format!("name {number}"), format!("name dm-{minor}"), format!("name /dev/dm-{minor}")] {
            assert_eq!(guest.ok(&format!("corepath {command}")), "one", "{command}");
        }
        assert_eq!(guest.ok("corepath name one"), format!("{number} dm-{minor}"));
        guest.run(&format!("corepath devmap_name {major}:99")).fails(1);
        guest.run("corepath name two").fails(1);
        guest.run("corepath devmap_name x").fails(1);
    }
}

/// A guest with udev and what the peer's tests call; `kpartx` is ours.
fn for_the_peers_tests(kernel: &lab::Kernel, packages: &[&str]) -> Guest {
    let vm = peer::with_udev(Vm::new(kernel)).corepath().modules(&["dm_mod", "loop"]).debs(packages);
    let guest = vm.file("/usr/sbin/kpartx", 0o755, b"#!/bin/sh\nexec corepath kpartx \"$@\"\n").boot();
    peer::start_udev(&guest);
    guest.ok("modprobe loop");
    guest
}

scenario! {
    /// Upstream's kpartx/test-kpartx, unmodified, from the suite's source package.
    fn upstreams_own_test(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let script = Suite::new("bookworm").source_file("multipath-tools", "kpartx/test-kpartx");
        let guest = for_the_peers_tests(kernel, &["bash", "parted", "lvm2", "mount", "fdisk"]);
        guest.put("/tmp/test-kpartx", 0o755, &script);
        // parted maps the partitions of a dm device itself, as NAMEp1 and without a uuid. Such a map has the name that the test then wants for
        // another device: the peer's kpartx fails over it, too.
        guest.put("/usr/local/bin/parted", 0o755, b"#!/bin/sh\nmap=\nfor w in \"$@\"; do case $w in /dev/mapper/*) map=${w##*/};; esac; done\n\
            /usr/sbin/parted \"$@\" || exit\n[ -z \"$map\" ] || dmsetup remove ${map}p1 2>/dev/null || true\n");
        let test = guest.spawn("cd /tmp && PATH=/usr/local/bin:/usr/sbin:/sbin:/usr/bin:/bin KPARTX=/usr/sbin/kpartx bash /tmp/test-kpartx");
        let output = test.wait(Duration::from_secs(120));
        assert!(output.ok().contains("all tests completed successfully"), "{}", output.text());
    }
}

scenario! {
    /// Debian's autopkgtest kpartx-file-loopback, unmodified.
    fn debians_own_test(kernel) {
        if !every_day(kernel, "6.1") {
            return;
        }
        let script = Suite::new("bookworm").source_file("multipath-tools", "debian/tests/kpartx-file-loopback");
        let guest = for_the_peers_tests(kernel, &["bash", "gdisk", "mount"]);
        // All that the test wants of QEMU's tools is an empty file.
        guest.put("/usr/bin/qemu-img", 0o755, b"#!/bin/sh\nexec truncate -s \"$3\" \"$2\"\n");
        guest.put("/tmp/test", 0o755, &script);
        // Not busybox's sh: it takes its own losetup before the one in the path.
        let output = guest.spawn("PATH=/usr/sbin:/sbin:/usr/bin:/bin bash --posix /tmp/test").wait(Duration::from_secs(60));
        let said = output.ok();
        for word in ["standard_filename: OK", "standard_filename_cleanup: OK", "filename_with_spaces: OK", "filename_with_spaces_cleanup: OK"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
