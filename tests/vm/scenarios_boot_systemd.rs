//! From power-on to the login prompt of a Debian system on a multipathed disk, by the initramfs that Debian's own builder makes of the
//! hooks that `corepath install` puts in place.

use std::time::Duration;

use crate::lab::disk::{self, Part};
use crate::lab::root::{Builder, Inside, LUKS, Root, SECRET, Weight};
use crate::lab::watched::{self, Random, Watched};
use crate::lab::{Array, Kernel, every_day, rounds};
use crate::scenario;

/// Boots, loses a port at a random moment between initrd and multi-user, gets it back; the daemon is the one of the initrd all along.
fn boots(kernel: &Kernel, builder: Builder) {
    let root = Root::get(kernel, builder);
    // One of them has dm's own rules to make root's link, the other ours alone.
    let [ours, theirs] = ["corepath", "dmsetup"].map(|name| root.image_holds(&format!("usr/sbin/{name}")));
    assert_eq!((ours, theirs), (true, builder == Builder::InitramfsTools));
    let mut random = Random::new();
    for _ in 0..rounds(1, 10) {
        let vm = root.vm();
        let image = vm.scratch().join("root.img");
        root.disk(&image);
        let array = Array::start("clariion", &["a0", "b0"], &format!("--lun 0,file={}", image.display()));
        let guest = vm.array(&array).cmdline("root=LABEL=sanroot rw systemd.show_status=0").limit(Duration::from_secs(400)).boot();
        let (port, moment) = watched::pull(&array, &mut random, Duration::from_secs(20));
        guest.console_line("@login", Duration::from_secs(300));
        guest.agent_within(1, Duration::from_secs(60));
        let seen = Watched::of(&guest);
        assert_eq!(seen.partition, 2);
        // With the adapter's driver came what its disks may need, also what this array does not.
        guest.ok("cd /sys/module; ls -d virtio_scsi dm_multipath dm_service_time scsi_dh_alua scsi_dh_emc scsi_dh_rdac scsi_dh_hp_sw");
        guest.until("corepath status | grep -q ', 1 usable'", Duration::from_secs(60));
        let asked = array.number("count op=READ_10") + array.number("count op=TEST_UNIT_READY") + array.number("count op=INQUIRY");
        array.say(&format!("up {port}"));
        guest.until("corepath status | grep -q ', 2 usable'", Duration::from_secs(60));
        let after = array.number("count op=READ_10") + array.number("count op=TEST_UNIT_READY") + array.number("count op=INQUIRY");
        assert!(after > asked, "nobody checks the paths");
        seen.still(&guest);
        // udev had nothing to say against our rules, in the image and on the host.
        assert_eq!(guest.ok("journalctl -b -q --no-pager | grep 60-corepath.rules || true"), "");
        if builder == Builder::Dracut {
            // Whoever mounts root, or what it is on, comes after the wait for it, which nobody but our generator wants.
            let log = guest.ok("journalctl -b -q --no-pager -o short-monotonic _PID=1");
            let at = |text: &str| watched::stamp(&log, text).unwrap_or_else(|| panic!("no `{text}` in {log}"));
            let (waited, mounting) = (at("Finished corepath-wait-root.service"), at("Mounting sysroot.mount"));
            assert!(waited < mounting, "waited until {waited} s, mounting since {mounting} s");
            let before = guest.ok("systemctl show -P Before corepath-wait-root.service");
            for unit in [
                "initrd-root-device.target",
                "sysroot.mount",
                "systemd-fsck-root.service",
                "systemd-repart.service",
                "cryptsetup-pre.target",
                "lvm2-activation-early.service",
            ] {
                assert!(before.split_whitespace().any(|word| word == unit), "{unit} is not ordered after the wait: {before}");
            }
        }
        guest.console_line(" san ttyS0", Duration::from_secs(120)); // the login prompt's first line
        println!(
            "vm: {} {builder:?}: root mounted at {:.1} s, login at {:.1} s, {port} pulled {moment:.1?} after its first command",
            kernel.release, seen.mounted, seen.login
        );
    }
}

scenario! {
    /// Debian's dracut with systemd.
    fn dracut_boots(kernel) {
        if every_day(kernel, "6.12") {
            boots(kernel, Builder::Dracut);
        }
    }
}

/// Root's file system is in a LUKS volume, or a logical volume, on a map's partition: the disk is claimed before those open it, and nobody
/// opens it through a path. A port is pulled at a random moment, too.
fn boots_inside(kernel: &Kernel, inside: Inside) {
    let root = Root::get(kernel, Builder::Opener);
    let vm = root.vm();
    let image = vm.scratch().join("root.img");
    root.disk_inside(inside, &image);
    let array = Array::start("clariion", &["a0", "b0"], &format!("--lun 0,file={}", image.display()));
    let (words, holder) = match inside {
        Inside::Luks => (format!("rd.luks.name={LUKS}=opened rd.luks.key={LUKS}=/secret"), "CRYPT-LUKS2-"),
        Inside::Lvm => ("rd.lvm.vg=san".to_string(), "LVM-"),
    };
    let words = format!("root=LABEL=sanroot rw systemd.show_status=0 {words}");
    let guest = vm.array(&array).file("/secret", 0o400, SECRET).cmdline(&words).limit(Duration::from_secs(400)).boot();
    let (port, moment) = watched::pull(&array, &mut Random::new(), Duration::from_secs(20));
    guest.console_line("@login", Duration::from_secs(300));
    guest.agent_within(1, Duration::from_secs(60));
    let seen = Watched::of(&guest);
    assert_eq!(seen.partition, 2);
    let top = guest.ok("cat /sys/dev/block/$(mountpoint -d /)/dm/uuid");
    assert!(top.starts_with(holder), "root is not inside what was to be opened: {top}");
    if inside == Inside::Lvm {
        // By a job of dracut's queue, which no ordering of units reaches.
        let log = guest.ok("journalctl -b -q --no-pager -o short-monotonic");
        let at = |text: &str| watched::stamp(&log, text).unwrap_or_else(|| panic!("no `{text}` in {log}"));
        let (waited, scanned) = (at("Finished corepath-wait-root.service"), at("Scanning devices "));
        assert!(waited <= scanned, "waited until {waited} s, scanned for LVM at {scanned} s");
    }
    guest.until("corepath status | grep -q ', 1 usable'", Duration::from_secs(60));
    array.say(&format!("up {port}"));
    guest.until("corepath status | grep -q ', 2 usable'", Duration::from_secs(60));
    seen.still(&guest);
    println!(
        "vm: {} root inside {inside:?}: mounted at {:.1} s, login at {:.1} s, {port} pulled {moment:.1?} after its first command",
        kernel.release, seen.mounted, seen.login
    );
}

scenario! {
    /// LUKS by systemd-cryptsetup.
    fn root_inside_luks(kernel) {
        if every_day(kernel, "6.12") {
            boots_inside(kernel, Inside::Luks);
        }
    }
}

scenario! {
    /// LVM by dracut's rules for udev, and its queue.
    fn root_inside_lvm(kernel) {
        if every_day(kernel, "6.1") {
            boots_inside(kernel, Inside::Lvm);
        }
    }
}

scenario! {
    /// Told not to, the generator has systemd load neither unit of ours in the initrd: root comes through its one path, which nothing holds.
    fn dracut_boots_without(kernel) {
        if rounds(0, 1) == 0 {
            return;
        }
        let root = Root::get(kernel, Builder::Dracut);
        let vm = root.vm();
        let image = vm.scratch().join("root.img");
        root.disk(&image);
        let array = Array::start("clariion", &["a0"], &format!("--lun 0,file={}", image.display()));
        let words = "root=LABEL=sanroot rw systemd.show_status=0 rd.corepath=0";
        let guest = vm.array(&array).cmdline(words).limit(Duration::from_secs(400)).boot();
        guest.console_line("@login", Duration::from_secs(300));
        guest.agent_within(1, Duration::from_secs(60));
        assert!(guest.ok("cat /proc/self/mountinfo").contains("/dev/sda2"));
        let log = guest.ok("journalctl -b -q --no-pager -o short-monotonic");
        assert!(log.contains("Mounting sysroot.mount"), "{log}");
        let initrd = log.split("Switching root").next().unwrap_or_default();
        assert!(!initrd.contains("corepath.service") && !initrd.contains("corepath-wait-root") && !initrd.contains("@corepath"), "{initrd}");
    }
}

scenario! {
    /// Debian's initramfs-tools with udev.
    fn initramfs_tools_boots(kernel) {
        if every_day(kernel, "6.1") {
            boots(kernel, Builder::InitramfsTools);
        }
    }
}

scenario! {
    /// systemd switches off a machine of which a data disk's SAN is gone: a file system with unwritten data on a map that queues for ever.
    fn systemd_powers_off_without_the_san(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let root = Root::get(kernel, Builder::Dracut);
        let vm = root.vm();
        let (image, data, empty) = (vm.scratch().join("root.img"), vm.scratch().join("data.img"), vm.scratch().join("empty"));
        root.disk(&image);
        std::fs::create_dir(&empty).unwrap();
        disk::partitioned(&data, 40, "gpt", &[Part { mib: 36, ext4: Some(("data", &empty)) }]);
        let array = Array::start("clariion", &["a0", "b0"], &format!("--lun 0,file={}", data.display()));
        let guest = vm
            .lun_image("local", &image, 1)
            .array(&array)
            .file("/etc/multipath.conf", 0o644, b"defaults {\n no_path_retry queue\n}\n")
            .cmdline("root=LABEL=sanroot rw systemd.show_status=1")
            .limit(Duration::from_secs(400))
            .boot();
        guest.console_line("@login", Duration::from_secs(300));
        guest.agent_within(1, Duration::from_secs(60));
        guest.until("corepath status | grep -q ', 2 usable'", Duration::from_secs(60));
        let name = guest.ok("cat /sys/block/dm-0/dm/name");
        guest.ok(&format!("mount /dev/mapper/{name}p1 /srv && dd if=/dev/zero of=/srv/lost bs=64k count=64 2>/dev/null"));
        array.say("down *");
        let _lost = guest.spawn("sync");
        guest.until("corepath status | grep -q ', 0 usable' && grep -qE '^(Dirty|Writeback): *[1-9]' /proc/meminfo", Duration::from_secs(30));
        let began = guest.clock();
        let _ = guest.spawn("systemctl poweroff");
        let line = guest.console_line("reboot: Power down", Duration::from_secs(300));
        // The login prompt may stand in front of it.
        let off = watched::stamp(&line[line.rfind('[').unwrap_or(0)..], "Power down").unwrap_or_else(|| panic!("no time in {line}"));
        let took = off - began.as_secs_f64();
        println!("vm: {} off {took:.1} s after `systemctl poweroff`, with the SAN of a mounted disk gone", kernel.release);
        guest.wait_off(Duration::from_secs(60));
        // 30 s are promised, and printed; where nobody ends the waiting it takes more than 300, and a busy host is no reason to fail.
        assert!(took < 60.0, "{took} s");
    }
}

scenario! {
    /// What dracut's image gets heavier by with Debian's multipath module, and with ours.
    fn an_image_weighs_little(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let root = Root::get(kernel, Builder::Scales);
        let [ours, theirs] = [("corepath", "multipath"), ("multipath", "corepath")].map(|(with, without)| root.weigh(with, without));
        // What an image without either has costs one image more: theirs brings dracut's `dm` module, ours does without.
        let bases: &[(&str, &str)] = if rounds(0, 1) == 1 { &[("", "neither")] } else { &[] };
        let say = |name: &str, than: &str, added: Weight| {
            println!(
                "vm: {} dracut with {name} has more than with {than}: {} files, {} KiB; the image {} KiB, {} KiB by gzip",
                kernel.release,
                added.files,
                added.bytes >> 10,
                added.whole >> 10,
                added.packed >> 10
            );
        };
        say("multipath", "corepath", theirs - ours);
        for (add, than) in bases {
            let base = root.weigh(add, "multipath corepath");
            say("multipath", than, theirs - base);
            say("corepath", than, ours - base);
        }
        assert!(theirs.files > ours.files + 35 && theirs.bytes > ours.bytes + (2 << 20) && theirs.packed > ours.packed, "{ours:?} {theirs:?}");
    }
}
