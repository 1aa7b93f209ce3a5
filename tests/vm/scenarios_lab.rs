//! The lab itself: boots, disks, hot-plug, faults and verified writes must be what the other scenarios take them for.

use std::time::Duration;

use crate::lab::{self, Array, Vm, agent, disk, every_day, image, nbd, peer};
use crate::scenario;

const MIB: u64 = 1 << 20;

scenario! {
    /// The right kernel, quickly; scsi_debug with 2 LUNs behind 4 hosts is 8 disks of 2 identities.
    fn boots_and_scans(kernel) {
        let guest = Vm::new(kernel).boot();
        println!("vm: {} ready after {:?}", kernel.release, guest.boot_time);
        assert_eq!(guest.ok("uname -r"), kernel.release);
        assert!(guest.boot_time < Duration::from_secs(30), "booting took {:?}", guest.boot_time);

        guest.ok("modprobe scsi_debug add_host=4 max_luns=2 vpd_use_hostno=0 per_host_store=0 dev_size_mb=8");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 8 ]", Duration::from_secs(20));
        let wwids = guest.until("cat /sys/block/sd*/device/wwid", Duration::from_secs(5));
        let mut wwids: Vec<&str> = wwids.lines().collect();
        assert_eq!(wwids.len(), 8);
        wwids.sort_unstable();
        wwids.dedup();
        assert_eq!(wwids.len(), 2, "2 LUNs: {wwids:?}");
        assert_eq!(guest.disks_of(wwids[0]).len(), 4);
    }
}

scenario! {
    /// Exit codes, both outputs, background jobs, signals, files: what `run` and `spawn` promise.
    fn agent_tells_the_truth(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let mut guest = Vm::new(kernel).boot();
        assert_eq!(guest.run("echo one; echo two >&2; exit 3").fails(3), "one\ntwo");
        assert_eq!(guest.run("kill -9 $$").code, 137);

        let data: Vec<u8> = (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect();
        guest.put("/tmp/deep/data", 0o600, &data);
        assert_eq!(guest.get("/tmp/deep/data"), data);
        assert_eq!(guest.ok("stat -c %a /tmp/deep/data"), "600");

        let sleeper = guest.spawn("echo begun; sleep 100");
        sleeper.line("begun", Duration::from_secs(5));
        assert_eq!(guest.ok("echo beside"), "beside");
        assert!(!sleeper.ended());
        sleeper.signal(15);
        assert_eq!(sleeper.wait(Duration::from_secs(5)).code, 143);

        // A daemon that keeps the output open does not keep `run` waiting.
        let output = guest.run("sleep 50 & echo left");
        assert_eq!(output.ok(), "left");
        assert!(output.took() < Duration::from_secs(5));

        guest.ok("echo '@seen by=console' >/dev/console");
        let line = guest.console_line("@seen", Duration::from_secs(5));
        assert_eq!(agent::marker(&line, "@seen", "by").as_deref(), Some("console"));

        // What a hung guest is asked: it needs no process of the guest.
        guest.sysrq('m');
        guest.console_line("Mem-Info", Duration::from_secs(10));
    }
}

scenario! {
    /// Two virtio-scsi paths to one file: one identity; unplugged, plugged, resized; offline and running.
    fn paths_come_and_go(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let guest = Vm::new(kernel).lun("a", 32 * MIB, 2).lun_later("b", 16 * MIB, 2, 0).boot();
        let wwid = guest.wwid("a");
        guest.until(&format!("[ $(grep -lx {wwid} /sys/block/sd*/device/wwid | wc -l) = 2 ]"), Duration::from_secs(10));
        let (first, second) = (guest.disk("a.0").unwrap(), guest.disk("a.1").unwrap());
        assert_ne!(first, second);

        // What goes in through one path comes out of the other.
        guest.ok(&format!("echo through-the-first | dd of=/dev/{first} bs=512 conv=sync,fsync oflag=direct 2>/dev/null"));
        assert!(guest.ok(&format!("dd if=/dev/{second} bs=512 count=1 iflag=direct 2>/dev/null")).starts_with("through-the-first"));
        let file = std::fs::read(guest.lun_file("a")).unwrap();
        assert!(file.starts_with(b"through-the-first"));

        guest.unplug("a.1");
        guest.until(&format!("[ ! -e /sys/block/{second} ]"), Duration::from_secs(10));
        guest.plug("a.1");
        guest.until(&format!("[ $(grep -lx {wwid} /sys/block/sd*/device/wwid | wc -l) = 2 ]"), Duration::from_secs(10));

        assert!(guest.disks_of(&guest.wwid("b")).is_empty());
        guest.plug("b.0");
        guest.until(&format!("grep -x {} /sys/block/sd*/device/wwid", guest.wwid("b")), Duration::from_secs(10));

        // The device tells "capacity changed"; rescanning is the guest's business (Linux leaves it to user space).
        guest.resize("a", 48 * MIB);
        guest.ok(&format!("echo 1 > /sys/block/{first}/device/rescan"));
        assert_eq!(guest.ok(&format!("cat /sys/block/{first}/size")), (48 * MIB / 512).to_string());

        let state = format!("/sys/block/{first}/device/state");
        guest.ok(&format!("echo offline > {state}"));
        assert_ne!(guest.run(&format!("lab pread /dev/{first} --direct")).code, 0);
        guest.ok(&format!("echo running > {state}"));
        guest.ok(&format!("lab pread /dev/{first} --direct"));
    }
}

scenario! {
    /// The verified writer sees what is there: right data is right, a changed byte, a stale and a torn block are not.
    fn verified_writes(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let guest = Vm::new(kernel).lun("a", 32 * MIB, 2).boot();
        guest.until(&format!("[ $(grep -lx {} /sys/block/sd*/device/wwid | wc -l) = 2 ]", guest.wwid("a")), Duration::from_secs(10));
        let (first, second) = (guest.disk("a.0").unwrap(), guest.disk("a.1").unwrap());

        for mode in ["--direct", "--fsync 16"] {
            let said = guest.ok(&format!("lab write /dev/{first} --size 8m --secs 2 --state /tmp/state {mode}"));
            let value = |key| agent::marker(&said, "@written", key).unwrap().parse::<u64>().unwrap();
            assert!(value("written") > 20, "{said}");
            assert_eq!((value("errors"), value("wrong")), (0, 0), "{said}");
            guest.ok(&format!("lab verify /dev/{second} --state /tmp/state --direct"));
        }

        // Keep the state of one run, write again: now its blocks are too new, and it must say so.
        guest.ok("cp /tmp/state /tmp/old");
        guest.ok(&format!("lab write /dev/{first} --size 8m --secs 1 --reads 0 --direct --state /tmp/state"));
        let said = guest.run(&format!("lab verify /dev/{second} --state /tmp/old --direct")).fails(1);
        assert!(said.contains("@wrong"), "{said}");

        // One byte of the first written block.
        guest.ok(&format!("lab verify /dev/{second} --state /tmp/state --direct"));
        guest.ok(&format!("n=$(sed -n '2{{s/ .*//;p}}' /tmp/state); printf x | dd of=/dev/{second} bs=1 seek=$((n * 4096 + 1000)) conv=notrunc,fsync 2>/dev/null"));
        let said = guest.run(&format!("lab verify /dev/{first} --state /tmp/state --direct")).fails(1);
        assert!(said.contains("torn"), "{said}");
        assert_eq!(agent::marker(&said, "@verified", "wrong").as_deref(), Some("1"), "{said}");
    }
}

scenario! {
    /// The cable of an NBD path: errors while it is pulled, silence while it hangs, and all is well after.
    fn cables_are_pulled(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let vm = Vm::new(kernel);
        let servers = nbd::paths(vm.scratch(), "c", 16 * MIB, 2);
        let guest = vm.lun_nbd("c", &nbd::sockets(&servers)).boot();
        guest.until(&format!("[ $(grep -lx {} /sys/block/sd*/device/wwid | wc -l) = 2 ]", guest.wwid("c")), Duration::from_secs(10));
        let disk = guest.disk("c.0").unwrap();
        let read = format!("lab pread /dev/{disk} --direct");
        guest.ok(&read);

        servers[0].set(nbd::Cable::Fails);
        assert!(guest.run(&read).fails(1).contains("os error 5"));
        servers[0].set(nbd::Cable::Up);
        guest.ok(&read);

        servers[0].set(nbd::Cable::Hangs);
        let hung = guest.spawn(&read);
        std::thread::sleep(Duration::from_secs(1));
        assert!(!hung.ended());
        servers[0].set(nbd::Cable::Up);
        hung.wait(Duration::from_secs(10)).ok();
    }
}

scenario! {
    /// udev and multipath-tools of the suite work in a guest: the peer makes its maps and lists them.
    fn the_peer_runs(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let conf = "defaults {\n find_multipaths no\n user_friendly_names no\n}\nblacklist {\n device {\n vendor QEMU\n }\n}\n";
        let guest = peer::with_multipath_tools(Vm::new(kernel), conf).boot();
        peer::start_udev(&guest);
        guest.ok("modprobe -a dm_multipath dm_service_time scsi_dh_alua");
        guest.ok("modprobe scsi_debug add_host=4 max_luns=2 vpd_use_hostno=0 per_host_store=0 dev_size_mb=8");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 8 ]", Duration::from_secs(20));
        peer::settle(&guest);
        guest.ok("multipath");
        peer::settle(&guest);
        let list = guest.ok("multipath -ll");
        assert_eq!(list.lines().filter(|line| line.contains("dm-")).count(), 2, "{list}");
        assert_eq!(list.lines().filter(|line| line.contains("ready running")).count(), 8, "{list}");
        assert_eq!(guest.ok("ls -l /dev/mapper | grep -c dm-"), "2");
        let daemon = peer::start_multipathd(&guest);
        assert_eq!(guest.ok("multipathd show paths raw format %d | wc -l"), "8");
        daemon.signal(15);
        daemon.wait(Duration::from_secs(10));
        guest.ok("multipath -F");
    }
}

scenario! {
    /// A CLARiiON of the host: two LUNs through four ports; a port goes down and comes back, another hangs; the kernel's
    /// handler trespasses are counted.
    fn arrays_on_the_host(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let array = Array::start("clariion", &["a0", "a1", "b0", "b1"], "--luns 2,size=32M");
        let guest = Vm::new(kernel).array(&array).boot();
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 8 ]", Duration::from_secs(20));
        let wwids = guest.ok("cat /sys/block/sd*/device/wwid | sort -u");
        assert_eq!(wwids.lines().count(), 2, "{wwids}");
        let paths = guest.disks_of(wwids.lines().next().unwrap());
        assert_eq!(paths.len(), 4, "{paths:?}");
        // Two of them are on the side that owns the LUN and can be read.
        let readable = |guest: &lab::Guest| {
            let read = |disk: &&String| guest.run(&format!("lab pread /dev/{disk} --direct")).code == 0;
            paths.iter().filter(read).cloned().collect::<Vec<_>>()
        };
        let active = readable(&guest);
        assert_eq!(active.len(), 2, "{active:?} of {paths:?}");

        array.say("down *");
        assert!(readable(&guest).is_empty());
        array.say("up *");
        assert_eq!(readable(&guest), active);

        array.say("hang *");
        let hung = guest.spawn(&format!("lab pread /dev/{} --direct", active[0]));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!hung.ended());
        array.say("release *");
        hung.wait(Duration::from_secs(10)).ok();
        assert!(array.number("count op=READ_10") >= 4);
        assert_eq!(array.number("trespasses 0"), 0);
    }
}

scenario! {
    /// A partitioned disk with a root file system behind two paths: its partitions are there, it can be mounted and becomes
    /// the root, from where the agent speaks again.
    fn roots_on_disks(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let vm = Vm::new(kernel);
        let (tree, image) = (vm.scratch().join("tree"), vm.scratch().join("root.img"));
        let init = "#!/bin/sh\nmount -t devtmpfs dev /dev\nmount -t sysfs sys /sys\nmount -t proc proc /proc\n\
                    echo '@root up=1' >/dev/console\n/run/lab agent\n";
        disk::root_tree(&tree, &image::busybox_program(kernel), init);
        let parts = [disk::Part { mib: 8, ext4: None }, disk::Part { mib: 40, ext4: Some(("root", &tree)) }];
        disk::partitioned(&image, 64, "gpt", &parts);
        let script = "#!/bin/sh\nexport PATH=/usr/bin\nmount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n\
                      modprobe -a virtio_pci virtio_console virtio_scsi sd_mod ext4\n\
                      mount -t tmpfs run /run; cp /usr/bin/lab /run/lab\n\
                      while [ ! -b /dev/sda2 ] || [ ! -b /dev/sdb2 ]; do sleep 0.1; done\n\
                      mount -t ext4 -o ro /dev/sda2 /mnt && mount --move /run /mnt/run && umount /dev /sys /proc\n\
                      exec switch_root /mnt /sbin/init\n";
        let guest = vm.lun_image("root", &image, 2).init(script).boot();
        guest.console_line("@root", Duration::from_secs(30));
        guest.agent_up(1);
        assert!(guest.ok("cat /proc/mounts").lines().any(|line| line.starts_with("/dev/sda2 / ext4 ro")));
    }
}

#[cfg(feature = "bin")]
scenario! {
    /// The binary under test runs in a guest that has no C library and no loader.
    fn corepath_runs(kernel) {
        let guest = Vm::new(kernel).corepath().boot();
        let host = lab::host::must(std::process::Command::new(lab::build::corepath(kernel)).arg("version"));
        assert_eq!(guest.ok("corepath version"), String::from_utf8_lossy(&host).trim_end());
        assert!(guest.ok("corepath help").contains("boot"));
    }
}

scenario! {
    /// 64 LUNs x 4 paths, as one process makes them with nothing but ioctls: the yardstick for assembly.
    fn bare_assembly(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        let guest = Vm::new(kernel).memory(1024).boot();
        guest.ok("modprobe -a dm_multipath dm_service_time");
        guest.ok("modprobe scsi_debug add_host=4 max_luns=64 vpd_use_hostno=0 per_host_store=0 dev_size_mb=8");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 256 ]", Duration::from_secs(60));
        let said = guest.ok("lab assemble");
        let value = |key| agent::marker(&said, "@assembled", key).unwrap();
        assert_eq!((value("maps").as_str(), value("paths").as_str()), ("64", "256"), "{said}");
        println!("vm: {} {said}", kernel.release);
        let node = guest.ok("readlink -f /dev/mapper/bare-63");
        assert!(guest.ok(&format!("cat /sys/block/{}/dm/name", node.trim_start_matches("/dev/"))) == "bare-63");
        assert_eq!(guest.ok("lab dm table bare-0").split_whitespace().nth(2), Some("multipath"));
    }
}
