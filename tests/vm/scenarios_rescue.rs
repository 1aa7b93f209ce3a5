//! A person at the shell of a machine whose root does not come, and a machine whose SAN is gone and that must be switched off.

use std::process::Command;
use std::time::Duration;

use crate::lab::{Guest, Vm, host};
use crate::scenario;

const MIB: u64 = 1 << 20;
const WAIT: Duration = Duration::from_secs(20);

/// A LUN with a GPT and a file system labelled `top` on its first partition.
#[track_caller]
fn with_root(guest: &Guest, name: &str) {
    let script = "set -e; PATH=$PATH:/usr/sbin:/sbin\n\
        printf 'label: gpt\nstart=2048,size=49152\n' | sfdisk -q $disk\n\
        mkfs.ext4 -q -F -L top -E offset=1048576 $disk 24M";
    host::must(Command::new("sh").arg("-c").arg(script).env("disk", guest.lun_file(name)));
}

/// What rescue says, and its exit status, told.
#[track_caller]
fn rescue(guest: &Guest, words: &str, code: i32) -> String {
    let output = guest.run(&format!("{words} 2>&1"));
    println!("vm: {words}\n{}", output.text());
    assert_eq!(output.code, code, "{words}: {}", output.text());
    output.text()
}

scenario! {
    /// No disk at all; one path that nobody claimed; a map that somebody suspended; paths offline; paths the kernel holds for failed; paths
    /// gone. Each is named with the command that helps, and `--go` does it: in an initramfs, and below a file system on the very map.
    fn rescue_names_and_mends(kernel) {
        let guest = Vm::new(kernel).corepath().debs(&["dmsetup"]).lun_later("a", 64 * MIB, 2, 0).boot();
        with_root(&guest, "a");
        guest.ok("modprobe -a dm_multipath dm_service_time ext4");
        let wwid = format!("3{}", guest.wwid("a").trim_start_matches("naa."));

        let said = rescue(&guest, "corepath rescue --root=LABEL=top", 1);
        assert!(said.contains("root: LABEL=top is nowhere: the kernel has no disk at all"), "{said}");
        assert!(said.contains("try: for h in /sys/class/scsi_host/host*"), "{said}");
        let said = rescue(&guest, "corepath rescue --root=LABEL=top --go --timeout 1", 2);
        assert!(said.contains("rescue: not yet; now root: LABEL=top is nowhere"), "{said}");

        // One path. What it asks for by content is a plain disk then; named by its WWID the disk is claimed.
        guest.plug("a.0");
        guest.until("[ -e /sys/class/block/sda1 ]", WAIT);
        let said = rescue(&guest, "corepath rescue --root=LABEL=top", 0);
        assert!(said.contains("is on sda, a disk with one way to it"), "{said}");
        let said = rescue(&guest, &format!("corepath rescue --root={wwid}"), 1);
        assert!(said.contains("is on sda, which has no map: only one path") && said.contains(&format!("try: corepath boot --root={wwid}")), "{said}");
        assert_eq!(guest.ok("dmsetup ls"), "No devices found", "nothing is done without --go");
        let said = rescue(&guest, &format!("corepath rescue --root={wwid} --go"), 0);
        assert!(said.contains("rescue: root is there: 1 usable path"), "{said}");
        guest.plug("a.1");
        guest.until("[ -e /sys/class/block/sdb ]", WAIT);
        guest.ok("corepath boot --timeout 10");
        let map = format!("/dev/mapper/{wwid}");
        guest.ok(&format!("mkdir -p /mnt /tmp/tools; mount -t ext4 {map}p1 /mnt; cd /mnt; mkdir proc sys dev run tools; cp /usr/bin/corepath /tmp/tools"));
        let said = rescue(&guest, "corepath rescue --root=LABEL=top", 0);
        assert!(said.contains("lives: root can be mounted"), "{said}");

        // Somebody suspended it and went home.
        guest.ok(&format!("dmsetup suspend {wwid}"));
        let said = rescue(&guest, "corepath rescue --root=LABEL=top", 1);
        assert!(said.contains("SUSPENDED: I/O waits") && said.contains("is suspended by somebody"), "{said}");
        rescue(&guest, "corepath rescue --root=LABEL=top --go", 0);
        assert!(guest.ok(&format!("dmsetup info {wwid}")).contains("ACTIVE"));

        // From here on "/" is the file system on the map, and the program is not on it.
        guest.ok("for d in proc sys dev run; do mount --bind /$d /mnt/$d; done; mount --bind /tmp/tools /mnt/tools; sync");
        let below = "chroot /mnt /tools/corepath rescue";
        let said = rescue(&guest, below, 0);
        assert!(said.contains("root: \"/\" is mounted from 25") && said.contains("lives"), "{said}");
        let writer = |guest: &Guest| guest.spawn("dd if=/dev/zero of=/mnt/file bs=64k count=32 conv=fsync 2>&1 && echo written");
        let starve = |guest: &Guest| {
            // Queued for, as a root disk is.
            guest.ok(&format!("lab dm message {wwid} --say queue_if_no_path"));
        };

        guest.ok(&format!("dmsetup suspend --noflush {wwid}"));
        let job = writer(&guest);
        let said = rescue(&guest, &format!("{below} --go"), 0);
        assert!(said.contains("is suspended by somebody") && said.contains("rescue: root is there: 2 usable paths"), "{said}");
        assert!(job.wait(WAIT).ok().contains("written"));

        // All paths offline, I/O waits.
        starve(&guest);
        guest.ok("for d in sda sdb; do echo offline > /sys/block/$d/device/state; done");
        let job = writer(&guest);
        guest.until(&format!("[ $(dmsetup status {wwid} | grep -o ' F ' | wc -l) = 2 ]"), WAIT);
        let said = rescue(&guest, below, 1);
        assert!(said.contains("NO PATH: I/O waits") && said.contains("has no path: all are offline"), "{said}");
        assert!(said.contains("try: echo running > /sys/block/sda/device/state"), "{said}");
        let said = rescue(&guest, &format!("{below} --go"), 0);
        assert!(said.contains("rescue: root is there"), "{said}");
        assert!(job.wait(WAIT).ok().contains("written"));

        // They answer, but nobody told the kernel.
        guest.ok(&format!("for d in sda sdb; do lab dm message {wwid} --say \"fail_path $(cat /sys/block/$d/dev)\"; done"));
        let job = writer(&guest);
        let said = rescue(&guest, below, 1);
        assert!(said.contains("though paths answer: nobody reinstates them") && said.contains("corepath release"), "{said}");
        rescue(&guest, &format!("{below} --go"), 0);
        assert!(job.wait(WAIT).ok().contains("written"));
        let table = guest.ok(&format!("dmsetup table {wwid}"));
        assert!(table.contains("queue_if_no_path"), "no table was loaded: {table}");

        // Nothing answers; then the LUN comes back as other disks.
        guest.unplug("a.0");
        guest.unplug("a.1");
        guest.until("[ ! -e /sys/block/sda ] && [ ! -e /sys/block/sdb ]", WAIT);
        let said = rescue(&guest, &format!("{below} --go --timeout 1"), 2);
        assert!(said.contains("has no path that answers: I/O waits"), "{said}");
        let job = writer(&guest);
        guest.plug("a.0");
        guest.plug("a.1");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 2 ]", WAIT);
        let said = rescue(&guest, &format!("{below} --go"), 1);
        assert!(said.contains("others lead to its disk") && said.contains("that reads the configuration"), "{said}");
        guest.ok(": > /run/empty");
        rescue(&guest, &format!("{below} --config /run/empty --go"), 0);
        assert!(job.wait(WAIT).ok().contains("written"));
        // A step of the seal that fails is a refusal, unless told otherwise.
        guest.ok("umount /mnt/proc; mount -o remount,ro /proc");
        let said = rescue(&guest, "corepath rescue", 1);
        assert!(said.contains("seal: oom-exempt failed: EROFS; --unsealed goes on without"), "{said}");
        let said = rescue(&guest, "corepath rescue --root=LABEL=top --unsealed", 0);
        assert!(said.contains("lives: root can be mounted"), "{said}");
    }
}

scenario! {
    /// A map that queues for ever loses its paths after the machine began to go down: the daemon, and without one `release --starved` itself,
    /// ends the waiting; one that somebody has suspended is left to the end.
    fn a_starving_map_is_released(kernel) {
        let guest = Vm::new(kernel).corepath().debs(&["dmsetup"]).lun("a", 16 * MIB, 2).lun("b", 16 * MIB, 2).boot();
        guest.ok("modprobe -a dm_multipath dm_service_time; mkdir -p /etc; printf 'defaults {\n no_path_retry queue\n}\n' >/etc/multipath.conf");
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("corepath status | grep -c ', 2 usable' | grep -q 2", WAIT);
        let [a, b] = ["a", "b"].map(|lun| format!("3{}", guest.wwid(lun).trim_start_matches("naa.")));
        let paths: Vec<String> = ["a.0", "a.1"].iter().map(|path| guest.disk(path).unwrap()).collect();
        let set = |state: &str| guest.ok(&paths.iter().map(|path| format!("echo {state} > /sys/block/{path}/device/state\n")).collect::<String>());
        let read = format!("dd if=/dev/mapper/{a} of=/dev/null bs=4k count=1 iflag=direct 2>&1");
        let queues = |map: &str| guest.ok(&format!("dmsetup table {map}")).contains("queue_if_no_path");

        assert!(guest.ok("corepath release --starved").contains("no map wait long"));
        set("offline");
        let lost = guest.run(&read);
        assert!(lost.code != 0 && lost.took() >= Duration::from_secs(9), "{lost:?}");
        assert!(!queues(&a) && queues(&b));
        guest.until(&format!("corepath status | grep '{a}' | grep -q 'queueing off'"), WAIT);
        // Not going down after all.
        guest.ok("corepath raw restorequeueing starved");
        set("running");
        guest.until("corepath status | grep -c ', 2 usable' | grep -q 2", WAIT);
        assert!(queues(&a));

        guest.ok("corepath stop");
        assert_eq!(daemon.wait(WAIT).code, 0);
        guest.ok(&format!("for map in {a} {b}; do lab dm message $map --say queue_if_no_path; done; dmsetup suspend --noflush {b}"));
        set("offline");
        let reader = guest.spawn(&read);
        guest.until(&format!("[ $(dmsetup status {a} | grep -o ' F ' | wc -l) = 2 ]"), WAIT);
        assert!(guest.ok("corepath release --starved").contains("release: 1 maps"));
        assert_ne!(reader.wait(WAIT).code, 0, "it waited for a path that never came");
        assert!(guest.ok(&format!("dmsetup info {b}")).contains("SUSPENDED"));
    }
}

scenario! {
    /// The SAN is gone, no daemon runs, a file system with unwritten data is mounted on a map that queues for ever, and another map is
    /// suspended: the hook of the shutdown, called first, ends the waiting, and the machine is off within 30 s of its own clock.
    fn a_machine_without_its_san_powers_off(kernel) {
        let hook = include_bytes!("../../initramfs/systemd/corepath-shutdown");
        let vm = Vm::new(kernel).corepath().debs(&["dmsetup"]);
        let vm = vm.file("/usr/lib/systemd/system-shutdown/corepath", 0o755, hook);
        let guest = vm.lun_later("a", 64 * MIB, 2, 0).lun("b", 16 * MIB, 2).boot();
        with_root(&guest, "a");
        guest.plug("a.0");
        guest.plug("a.1");
        guest.ok("modprobe -a dm_multipath dm_service_time ext4");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 4 ]", WAIT);
        guest.ok("corepath boot --timeout 10");
        let map = |lun: &str| format!("3{}", guest.wwid(lun).trim_start_matches("naa."));
        let (a, b) = (map("a"), map("b"));
        guest.ok(&format!("mkdir -p /mnt; mount -t ext4 /dev/mapper/{a}p1 /mnt; lab dm message {a} --say queue_if_no_path"));
        let dirty = "dd if=/dev/zero of=/mnt/lost bs=64k count=64 2>/dev/null";
        guest.ok(&format!("{dirty}; for d in /sys/block/sd*; do echo offline > $d/device/state; done; dmsetup suspend {b}"));
        let _lost = guest.spawn("sync");
        guest.until(&format!("[ $(dmsetup status {a} | grep -o ' F ' | wc -l) = 2 ] && grep -qE '^(Dirty|Writeback): *[1-9]' /proc/meminfo"), WAIT);
        // The hook, what is mounted, the power: without the first the second would never return. systemd calls the hook after it has tried
        // to unmount; what it does as a whole is shown by systemd_powers_off_without_the_san.
        let began = guest.clock();
        let _ = guest.spawn("/usr/lib/systemd/system-shutdown/corepath poweroff > /dev/ttyS0 2>&1; umount /mnt; sync; \
            echo \"@off at $(lab clock)\" > /dev/ttyS0; poweroff -f");
        guest.console_line("release: 2 maps", WAIT);
        let line = guest.console_line("@off at ", Duration::from_secs(60));
        let at = line.split("@off at ").nth(1).and_then(|rest| rest.trim().trim_start_matches("t=").split(' ').next()?.parse().ok());
        let took = Duration::from_millis(at.unwrap_or_else(|| panic!("no time in {line}"))) - began;
        println!("vm: {} off {took:?} after the shutdown's hook was called, with the SAN gone", kernel.release);
        assert!(took < Duration::from_secs(30), "{took:?}");
        guest.wait_off(Duration::from_secs(60));
    }
}
