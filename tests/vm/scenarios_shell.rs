//! The shell's files against a real kernel, one by one: what the unit tests of src/dmioctl.rs, sgio.rs, sysfs.rs, netlink.rs, workers.rs
//! and lockdown.rs cannot reach.

use std::time::Duration;

use crate::lab::{Guest, Kernel, Vm, agent, probe};
use crate::scenario;

const MIB: u64 = 1 << 20;

/// A machine with the probe and one LUN behind two paths, both there.
fn machine(kernel: &Kernel, more: impl FnOnce(Vm) -> Vm) -> (Guest, String, String) {
    let vm = Vm::new(kernel).file("/usr/bin/probe", 0o755, probe::program()).lun("a", 16 * MIB, 2);
    let guest = more(vm).boot();
    guest.until(&format!("[ $(grep -lx {} /sys/block/sd*/device/wwid | wc -l) = 2 ]", guest.wwid("a")), Duration::from_secs(10));
    let (first, second) = (guest.disk("a.0").unwrap(), guest.disk("a.1").unwrap());
    (guest, first, second)
}

scenario! {
    /// Every dm request, on a map of two real paths.
    fn a_maps_life(kernel) {
        let (guest, first, second) = machine(kernel, |vm| vm);
        let (first, second) = if first < second { (first, second) } else { (second, first) };
        guest.ok("modprobe -a dm_multipath dm_service_time");
        let said = guest.ok(&format!("probe life lab {first} {second}"));
        assert!(said.contains("@done life"), "{said}");
        assert_eq!(guest.ok("ls /sys/block | grep -c dm- || true").trim(), "0", "nothing is left");
    }
}

scenario! {
    /// The control node where nothing made it, and without its module.
    fn a_control_node_is_made(kernel) {
        let (guest, first, second) = machine(kernel, |vm| vm);
        let (first, second) = if first < second { (first, second) } else { (second, first) };
        // Opening the node makes the kernel look for the module; here it may not run the program that loads one.
        guest.ok("echo > /proc/sys/kernel/modprobe");
        let said = guest.run(&format!("probe life lab {first} {second} 2>&1")).fails(101).to_string();
        assert!(said.contains("control node"), "{said}");
        guest.ok("[ ! -e /dev/mapper/control ]");
        guest.ok("modprobe -a dm_multipath dm_service_time; rm -rf /dev/mapper");
        guest.ok(&format!("probe life lab {first} {second}"));
        guest.ok("[ -c /dev/mapper/control ]");
    }
}

scenario! {
    /// Facts, pass-through, reads, sizes and partitions agree with each other and with what the machine was made of.
    fn a_disk_is_known(kernel) {
        let (guest, first, second) = machine(kernel, |vm| vm);
        let value = |said: &str, key: &str| agent::marker(said, "@facts", key).unwrap_or_else(|| panic!("{key} in {said}"));
        let said = guest.ok(&format!("probe facts {first}"));
        let identity = guest.wwid("a").replace("naa.", "3");
        assert_eq!(value(&said, "wwid"), identity);
        assert_eq!((value(&said, "origin"), value(&said, "vendor")), ("Vpd83".into(), "QEMU".into()));
        assert_eq!((value(&said, "size"), value(&said, "block")), ((16 * MIB / 512).to_string(), "512".into()));
        assert_eq!((value(&said, "protocol"), value(&said, "state"), value(&said, "holder")), ("scsi:unspec".into(), "Running".into(), "nobody".into()));
        assert!(value(&said, "adapter").starts_with("0000:"), "{said}");
        assert_eq!(value(&guest.ok(&format!("probe facts {second}")), "wwid"), identity);

        // Two partitions, one mounted and then one swapped on: the disk is theirs.
        guest.ok(&format!("printf '\\nn\\np\\n1\\n2048\\n10000\\nn\\np\\n2\\n12288\\n20000\\nw\\n' | fdisk -u /dev/{first}"));
        guest.until(&format!("[ -b /dev/{first}2 ]"), Duration::from_secs(10));
        assert!(guest.ok(&format!("probe scsi {first}")).contains("@scsi partitions=2"));
        guest.ok(&format!("mkswap /dev/{first}2 && swapon /dev/{first}2"));
        assert_eq!(value(&guest.ok(&format!("probe facts {first}")), "holder"), "mounted=swap");
        guest.ok(&format!("swapoff /dev/{first}2; mke2fs /dev/{first}1; mkdir -p /mnt; modprobe ext4; mount -t ext4 /dev/{first}1 /mnt"));
        assert_eq!(value(&guest.ok(&format!("probe facts {first}")), "holder"), "mounted=/mnt");
        guest.ok("umount /mnt");
        assert!(guest.ok(&format!("probe offline {second}")).contains("@done offline"));
    }
}

scenario! {
    /// The kernel's uevents and nobody else's; lost ones are told.
    fn uevents_are_the_kernels(kernel) {
        let (guest, first, _) = machine(kernel, |vm| vm);
        let said = guest.ok(&format!("probe uevents {first}"));
        assert!(said.contains("@uevents dropped_after="), "{said}");
    }
}

scenario! {
    /// Sealed workers check paths without a page fault; every step of the seal is taken as root.
    fn the_seal_holds(kernel) {
        let (guest, first, second) = machine(kernel, |vm| vm);
        let said = guest.run(&format!("probe seal 4 2000 {first} {second} 2>&1")).ok().to_string();
        for step in ["descriptors", "io-flusher", "realtime", "memory-locked", "oom-exempt", "root-cgroup", "directory", "no-new-privs", "seccomp"] {
            assert!(said.contains(&format!("@step {step} ok")), "{step}: {said}");
        }
        let value = |key| agent::marker(&said, "@sealed", key).unwrap();
        assert_eq!((value("checks"), value("minor"), value("major")), ("4000".into(), "0".into(), "0".into()), "{said}");

        // What is not on the list kills: SIGSYS is 31.
        guest.run("probe outlaw nothing").ok();
        for call in ["mmap", "brk", "clone", "clone3", "fork", "vfork", "execve", "mount", "finit_module", "x32-write"] {
            let said = guest.run(&format!("probe outlaw {call} 2>&1")).fails(128 + 31).to_string();
            assert!(said.contains("@outlaw sealed") && !said.contains("survived"), "{call}: {said}");
        }
    }
}

scenario! {
    /// System calls per check of a healthy path, eight paths checked in one turn: at most four. Counted by strace as the
    /// difference of two runs, so that what the start costs does not count.
    fn a_check_costs_four_calls(kernel) {
        let (guest, first, second) = machine(kernel, |vm| vm.debs(&["strace"]));
        let paths = [first.as_str(), second.as_str()].repeat(4).join(" ");
        let calls = |rounds: u32| -> u64 {
            let run = format!("strace -f -c -o /tmp/calls probe seal 8 {rounds} {paths} >/dev/null 2>&1; cat /tmp/calls");
            let said = guest.spawn(&run).wait(Duration::from_secs(200)).ok().to_string();
            // % time, seconds, usecs/call, calls, [errors], name.
            let calls = said.lines().filter(|line| !line.ends_with("total")).filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
            let calls: u64 = calls.sum();
            assert!(calls > 100, "{said}");
            calls
        };
        let (few, many) = (calls(10), calls(60));
        let hundredths = (many - few) * 100 / (50 * 8);
        println!("vm: {}.{:02} system calls per check", hundredths / 100, hundredths % 100);
        assert!(hundredths <= 400, "{few} and {many} calls");
    }
}
