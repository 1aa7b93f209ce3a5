//! Maps that are live and in use, and no daemon: what `boot` and `multipath` make of it when the LUN, its paths or the configuration
//! have changed since.

use std::time::Duration;

use crate::lab::{Array, Vm};
use crate::scenario;

const LONG: Duration = Duration::from_secs(20);

scenario! {
    /// Under verified writes: a LUN that grew on all its paths, on one only, that became read-only; a new alias; an ordinary user.
    fn boot_mends_what_is_in_use(kernel) {
        let array = Array::start("plain", &["a0", "a1"], "--luns 2,size=32M");
        let guest = Vm::new(kernel).corepath().array(&array).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 4 ]", LONG);
        let wwids: Vec<String> = (0..2).map(|lun| guest.ok(&format!("echo 3$(cat /sys/bus/scsi/devices/0:*:{lun}/wwid | cut -d. -f2)"))).collect();
        let conf = |alias: &str, resize: &str| {
            let map = format!("multipath {{\n wwid {}\n{alias}}}\n", wwids[0]);
            guest.put("/etc/multipath.conf", 0o644, format!("defaults {{\n auto_resize {resize}\n}}\nmultipaths {{\n{map}}}\n").as_bytes());
        };
        conf("", "grow_only");
        guest.ok("corepath boot --timeout 10");
        let device = guest.ok(&format!("basename $(readlink -f /dev/mapper/{})", wwids[0]));
        let writer = guest.spawn(&format!("exec lab write /dev/{device} --size 16m --direct --rate 200 --quiet"));
        let size = || guest.ok(&format!("cat /sys/block/{device}/size"));
        let rescan = |paths: &str| guest.ok(&format!("for d in /sys/bus/scsi/devices/{paths}/rescan; do echo 1 > $d; done"));

        array.say("lun 0 resize 48M quiet");
        rescan("*:0");
        let said = guest.ok("corepath boot --timeout 10 2>&1");
        println!("vm: {} grown: {said}", kernel.release);
        assert_eq!(size(), (48 << 11).to_string(), "{said}");

        // One path is smaller than the map: left out, and it is said which; the other carries on.
        array.say("lun 0 resize 40M quiet");
        rescan("0:*:0");
        let said = guest.run("corepath boot --timeout 10 2>&1");
        println!("vm: {} one path only: {} {}", kernel.release, said.code, said.text());
        assert!(said.code == 1 && said.text().contains("another size"), "{}", said.text());
        assert_eq!((size(), guest.ok(&format!("lab dm table {} | grep -o ' 8:' | wc -l", wwids[0]))), ((48 << 11).to_string(), "1".to_string()));
        array.say("lun 0 resize 56M quiet");
        rescan("*:0");
        let said = guest.ok("corepath boot --timeout 10 2>&1");
        assert!(said.contains("2 maps with 4 usable paths"), "{said}");
        assert_eq!(size(), (56 << 11).to_string());

        conf(" alias data\n", "never");
        let said = guest.ok("corepath boot --timeout 10 2>&1");
        println!("vm: {} alias: {said}", kernel.release);
        assert_eq!(guest.ok("basename $(readlink -f /dev/mapper/data)"), device, "{said}");
        guest.run(&format!("ls /dev/mapper/{}", wwids[0])).fails(1);
        assert!(guest.ok("corepath boot --timeout 10").contains(", 0 changes)"));

        // The peer's command line.
        guest.ok("ln -s $(command -v corepath) /usr/bin/multipath");
        let path = guest.ok("ls -d /sys/bus/scsi/devices/0:*:0/block/* | xargs basename");
        assert_eq!(guest.ok(&format!("multipath -c /dev/{path} >/dev/null; echo $?")), "0");
        assert!(guest.ok(&format!("multipath -u /dev/{path}")).contains("DM_MULTIPATH_DEVICE_PATH=\"1\""));
        assert_eq!(guest.ok("multipath -ll data").matches("active ready running").count(), 2);
        let kernels = guest.ok("multipath -l data");
        assert!(kernels.matches(" active undef running").count() == 2 && kernels.contains(" prio=0 status=active"), "{kernels}");
        guest.ok("multipath -r data");
        guest.run("multipath -f data").fails(1);
        assert_eq!(guest.ok("basename $(readlink -f /dev/mapper/data)"), device);

        // Read-only in the array: so is the map, and it stays.
        array.say("lun 1 read-only on");
        rescan("*:1");
        let said = guest.ok("corepath boot --timeout 10 2>&1");
        println!("vm: {} read-only: {said}", kernel.release);
        let list = guest.ok(&format!("corepath list {}", wwids[1]));
        assert!(list.contains("wp=ro") && list.matches("active ready running").count() == 2, "{list}");
        array.say("lun 1 read-only off");
        rescan("*:1");
        // Who made the map read-only is not known to a later run: it is asked for.
        assert!(guest.ok("corepath boot --timeout 10").contains(", 0 changes)"));
        guest.ok(&format!("multipath -r {}", wwids[1]));
        assert!(guest.ok(&format!("corepath list {}", wwids[1])).contains("wp=rw"));

        // Who may not.
        for command in ["boot --timeout 5", "remove data", "daemon"] {
            let said = guest.run(&format!("lab as 65534 corepath {command} 2>&1")).fails(1);
            println!("vm: {} as nobody: {said}", kernel.release);
            assert!(said.contains("CAP_SYS_ADMIN") || said.contains("root"), "{said}");
            assert!(said.lines().count() <= 3, "{said}");
        }
        writer.signal(15);
        let output = writer.wait(LONG);
        println!("vm: {} {}", kernel.release, output.text().trim());
        assert!(output.code == 0 && output.text().contains("errors=0 wrong=0"), "{}", output.text());

        // A disk that hangs holds up whoever wants its state, not who wants to know what there is.
        array.say("hang a0");
        for (command, says) in [("-l data", " undef "), ("-c sda", "\"1\""), ("-u sda", "\"1\""), ("-a sda", "added")] {
            let said = guest.ok(&format!("timeout 10 multipath {command}"));
            assert!(said.contains(says), "{command}: {said}");
        }
        let states = guest.spawn("multipath -ll data 2>&1");
        // Past its patience. That its process is there as long as the disk hangs is the kernel's doing.
        guest.ok("sleep 23");
        array.say("release a0");
        let said = states.wait(LONG);
        assert!(said.text().contains("multipath: a disk did not answer within 20 s") && said.text().contains(" ready running"), "{}", said.text());
    }
}
