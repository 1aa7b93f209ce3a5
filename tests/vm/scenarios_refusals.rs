//! What `corepath boot` says when it cannot or must not: each a clear line, and nothing touched.

use std::time::Duration;

use crate::lab::disk::{Part, partitioned};
use crate::lab::{Vm, host};
use crate::scenario;

const MIB: u64 = 1 << 20;

scenario! {
    /// No device-mapper in the kernel, and none to be had.
    fn no_device_mapper(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 16 * MIB, 2).boot();
        // Opening the control node makes the kernel look for the module; here it may not run the program that loads one.
        guest.ok("echo > /proc/sys/kernel/modprobe");
        let said = guest.run("corepath boot --timeout 5 2>&1").fails(1);
        println!("vm: {} {said}", kernel.release);
        assert!(said.contains("device-mapper") || said.contains("dm_mod") || said.contains("dm-mod"), "{said}");
        assert!(said.lines().count() <= 3, "{said}");
        // Without the target's module there is a device-mapper but no map, and nothing is left behind.
        guest.ok("modprobe dm_mod");
        let said = guest.run("corepath boot --timeout 5 2>&1").fails(1);
        println!("vm: {} {said}", kernel.release);
        assert!(said.contains("multipath"), "{said}");
        assert_eq!(guest.ok("ls /sys/block | grep -c dm- || true").trim(), "0");
        guest.ok("modprobe -a dm_multipath dm_service_time");
        assert!(guest.ok("corepath boot --timeout 5").contains("1 maps with 2 usable paths"));
    }
}

scenario! {
    /// Two LUNs, one alias: one has it, the other keeps its WWID, and it is said.
    fn an_alias_twice(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 16 * MIB, 2).lun("b", 16 * MIB, 2).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let wwids = ["a", "b"].map(|lun| format!("3{}", guest.wwid(lun).trim_start_matches("naa.")));
        let section = wwids.each_ref().map(|wwid| format!("multipath {{\n wwid {wwid}\n alias data\n}}\n")).concat();
        guest.put("/etc/multipath.conf", 0o644, format!("multipaths {{\n{section}}}\n").as_bytes());
        let said = guest.run("corepath boot --timeout 10 2>&1");
        println!("vm: {} {} {}", kernel.release, said.code, said.text());
        assert_eq!(said.code, 1, "{}", said.text());
        let names = guest.ok("ls /dev/mapper | grep -v control | sort");
        println!("vm: {names}");
        assert!(names.lines().any(|name| name == "data"), "{names}");
        assert!(names.lines().any(|name| wwids.iter().any(|wwid| wwid == name)), "{names}");
        assert!(said.text().contains("data"), "{}", said.text());
        let list = guest.ok("corepath list");
        assert_eq!(list.matches("active ready running").count(), 4, "{list}");
        assert!(guest.run("corepath boot --timeout 10").fails(1).contains(", 0 changes)"));
    }
}

scenario! {
    /// A partition of one path is mounted: no map over any of the LUN's paths, and `why` names the place.
    fn a_path_is_mounted(kernel) {
        let vm = Vm::new(kernel).corepath();
        let (image, tree) = (vm.scratch().join("disk"), vm.scratch().join("tree"));
        host::make_dir(&tree);
        partitioned(&image, 32, "gpt", &[Part { mib: 24, ext4: Some(("held", &tree)) }]);
        let guest = vm.lun_image("a", &image, 2).lun("b", 16 * MIB, 2).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; modprobe ext4; true");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 4 ]", Duration::from_secs(10));
        let (held, other) = (guest.disk("a.0").unwrap(), guest.disk("a.1").unwrap());
        guest.ok(&format!("mkdir -p /held && mount /dev/{held}1 /held"));
        let said = guest.run("corepath boot --timeout 10 2>&1");
        println!("vm: {} {} {}", kernel.release, said.code, said.text());
        assert!(said.code == 1 && said.text().contains("the file system mounted on /held"), "{}", said.text());
        let why = guest.run(&format!("corepath why {held} 2>&1")).text();
        println!("vm: {} {why}\n{}", kernel.release, guest.run(&format!("corepath why {other} 2>&1")).text());
        assert!(why.contains("/held") && why.contains("in-use"), "{why}");
        assert_eq!(guest.ok("ls /dev/mapper | grep -vc control"), "1", "b's map only: {}", guest.ok("corepath list"));
        assert_eq!(guest.ok(&format!("ls /sys/block/{held}/holders /sys/block/{other}/holders | grep -c dm- || true")), "0");
        guest.ok("umount /held; corepath boot --timeout 10");
        assert_eq!(guest.ok("corepath list").matches("active ready running").count(), 4);
    }
}

scenario! {
    /// No selector, no control node, no /sys, aliases that are no names: each is said in a line, is exit 1, and what works is left alone.
    fn what_cannot_be(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 16 * MIB, 2).boot();
        guest.ok("modprobe dm_multipath");
        let wwid = format!("3{}", guest.wwid("a").trim_start_matches("naa."));
        let refused = |script: &str, words: &str| {
            let said = guest.run(&format!("{script} 2>&1")).fails(1);
            println!("vm: {} {script}: {said}", kernel.release);
            assert!(said.contains(words) && said.lines().count() <= 6, "{said}");
            said
        };
        // No path selector at all, then only one that is not the wanted one.
        guest.ok(
            "mkdir /tmp/kept; cd /lib/modules/*; for m in round-robin queue-length service-time historical-service-time io-affinity; do \
                  rmmod dm_$m 2>/dev/null; f=$(find . -name dm-$m.ko); [ -z \"$f\" ] || mv $f /tmp/kept/; sed -i /dm-$m.ko:/d modules.dep; done; true",
        );
        refused("corepath boot --timeout 5", "selector");
        assert_eq!(guest.ok("ls /dev/mapper; ls /sys/block | grep -c dm- || true"), "control\n0");
        guest.ok("insmod /tmp/kept/dm-round-robin.ko");
        let said = guest.run("corepath boot --timeout 5 2>&1");
        println!("vm: {} {}", kernel.release, said.text());
        assert!(said.text().contains("selector") && said.text().contains("1 maps with 2 usable paths"), "{}", said.text());
        assert!(guest.ok(&format!("lab dm table {wwid}")).contains("round-robin"));
        let table = guest.ok(&format!("lab dm table {wwid}"));

        // Names that are none: the map keeps the one it has.
        for alias in ["\"a b\"", "a/b", "\"\"", "control", ".."] {
            guest.put("/etc/multipath.conf", 0o644, format!("multipaths {{\nmultipath {{\nwwid {wwid}\nalias {alias}\n}}\n}}\n").as_bytes());
            let said = guest.run("corepath boot 2>&1");
            println!("vm: {alias}: {} {}", said.code, said.text());
            assert!(said.code == 1 && said.text().contains("alias") && said.text().contains("0 changes"), "{}", said.text());
        }
        guest.ok("rm /etc/multipath.conf");
        // A device of somebody's with blanks in its name is nobody we know.
        guest.ok("lab dm create 'odd name' --table '0 8 error'; corepath boot; corepath list; lab dm remove 'odd name'");

        refused("corepath boot --sysfs /nothing", "/nothing cannot be opened; it must be mounted");
        refused("corepath boot --dev /proc", "/dev/mapper/control");
        assert_eq!(guest.ok(&format!("lab dm table {wwid}")), table);
    }
}
