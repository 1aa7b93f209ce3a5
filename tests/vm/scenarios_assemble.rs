//! From bare disks to live maps on a real kernel, without udev.

use std::time::Duration;

use crate::lab::Vm;
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
        let writer = guest.spawn(&format!("lab write /dev/mapper/{map} --size 16m --secs 25 --direct"));
        let path = guest.disk("a.0").unwrap();
        for _ in 0..3 {
            guest.ok(&format!("echo offline > /sys/block/{path}/device/state"));
            guest.until("corepath status | grep -q '1 usable'", Duration::from_secs(10));
            guest.ok(&format!("echo running > /sys/block/{path}/device/state"));
            guest.until("corepath status | grep -q '2 usable'", Duration::from_secs(10));
        }
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
