//! LUNs that grow, shrink, become others and go; many disks at once; a daemon that starts over maps which are not as it left them.

use std::time::Duration;

use crate::lab::{Array, Guest, Vm};
use crate::scenario;

const LONG: Duration = Duration::from_secs(20);

/// Sectors of a map.
fn sectors(guest: &Guest, map: &str) -> String {
    guest.ok(&format!("cat /sys/block/$(basename $(readlink -f /dev/mapper/{map}))/size"))
}

scenario! {
    /// auto_resize in its three modes under verified writes; a WWID that changes; maps that go with their last path, at once or with
    /// their last user.
    fn luns_change_under_a_daemon(kernel) {
        let array = Array::start("plain", &["a0", "a1"], "--luns 4,size=32M");
        let guest = Vm::new(kernel).corepath().array(&array).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 8 ]", LONG);
        // By LUN, the last part of the address.
        let wwid = |lun: u32| {
            let wwid = guest.ok(&format!("cat /sys/block/$(ls -d /sys/bus/scsi/devices/*:{lun}/block/* | head -n 1 | xargs basename)/device/wwid"));
            format!("3{}", wwid.trim_start_matches("naa."))
        };
        let more = ["", "", "\t\tflush_on_last_del always\n", "\t\tflush_on_last_del always\n\t\tdeferred_remove yes\n"];
        let sections: String = more.iter().enumerate().map(|(lun, more)| {
            format!("\tmultipath {{\n\t\twwid {}\n\t\talias lun{lun}\n{more}\t}}\n", wwid(lun as u32))
        }).collect();
        let conf = |resize: &str| {
            let text = format!("defaults {{\n\tno_path_retry queue\n\tpolling_interval 1\n\tmax_polling_interval 2\n\tauto_resize {resize}\n}}\nmultipaths {{\n{sections}}}\n");
            guest.put("/etc/multipath.conf", 0o644, text.as_bytes());
        };
        conf("grow_only");
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("[ $(corepath status | grep -c '2 usable') = 4 ] && [ $(ls /dev/mapper | grep -c ^lun) = 4 ]", LONG);
        let mib = |n: u64| (n << 11).to_string();
        let is = |n: u64| guest.until(&format!("[ $(cat /sys/block/$(basename $(readlink -f /dev/mapper/lun0))/size) = {} ]", mib(n)), LONG);
        let writer = guest.spawn("exec lab write /dev/mapper/lun0 --size 16m --direct --rate 200 --quiet");

        array.say("lun 0 resize 48M event");
        is(48);
        array.say("lun 0 resize 40M event");
        guest.until(&format!("[ $(cat /sys/bus/scsi/devices/*:0/block/*/size | sort -u) = {} ]", mib(40)), LONG);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(sectors(&guest, "lun0"), mib(48), "grow_only shrinks nothing");
        conf("grow_shrink");
        guest.ok("corepath reconfigure");
        is(40);
        conf("never");
        guest.ok("corepath reconfigure");
        array.say("lun 0 resize 56M event");
        guest.until(&format!("[ $(cat /sys/bus/scsi/devices/*:0/block/*/size | sort -u) = {} ]", mib(56)), LONG);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(sectors(&guest, "lun0"), mib(40), "never");
        guest.ok("corepath resize lun0");
        is(56);
        guest.until("corepath status | grep '^lun0 ' | grep -q '2 usable'", LONG);

        // Another disk behind the same name: failed at once, loudly, never written to; the map that is in use stays.
        let holder = guest.spawn("exec sleep 300 < /dev/mapper/lun1");
        array.say("lun 1 wwn 60060160111111111111111111110000");
        let disks = guest.ok("ls -d /sys/bus/scsi/devices/*:1/block/* | xargs -n 1 basename");
        let first = disks.lines().next().unwrap();
        guest.run("lab pread /dev/mapper/lun1 --direct");
        guest.ok(&format!("for d in {}; do echo 1 > /sys/block/$d/device/rescan; done", disks.replace('\n', " ")));
        guest.until(&format!("corepath log | grep {first} | grep -qi 'wwid'"), LONG);
        let state = guest.ok("lab dm status lun1");
        assert!(state.contains(" F ") && !state.contains(":0 A "), "{state}");
        println!("vm: {} {}", kernel.release, guest.ok(&format!("corepath log | grep {first} | grep -i wwid")));
        array.say("lun 1 wwn home");
        guest.ok(&format!("for d in {}; do echo 1 > /sys/block/$d/device/rescan; done", disks.replace('\n', " ")));
        guest.until("corepath status | grep '^lun1 ' | grep -q '2 usable'", LONG);
        holder.signal(15);

        // Read-only in the array: so is the map, until the array changes its mind.
        for (state, mode) in [("on", "ro"), ("off", "rw")] {
            array.say(&format!("lun 1 read-only {state}"));
            guest.ok("for d in /sys/bus/scsi/devices/*:1/rescan; do echo 1 > $d; done");
            guest.until(&format!("corepath list lun1 | grep -q wp={mode}"), LONG);
        }

        // The last path goes: an unused map with it, a used one when its user has gone.
        let user = guest.spawn("exec lab latency /dev/mapper/lun3");
        guest.ok("sleep 1; for d in /sys/bus/scsi/devices/*:2/delete /sys/bus/scsi/devices/*:3/delete; do echo 1 > $d; done");
        guest.until("[ ! -e /dev/mapper/lun2 ]", LONG);
        std::thread::sleep(Duration::from_secs(1));
        guest.ok("lab dm status lun3");
        user.signal(9);
        guest.until("! lab dm status lun3", LONG);
        // And they come again.
        guest.ok("for h in /sys/class/scsi_host/host*/scan; do echo '- - -' > $h; done");
        guest.until("[ $(corepath status | grep -c '2 usable') = 4 ]", LONG);

        writer.signal(15);
        let output = writer.wait(LONG);
        assert!(output.code == 0 && output.text().contains("errors=0 wrong=0"), "{}", output.text());
        assert!(guest.ok("corepath status").contains("page faults since the seal: 0 minor, 0 major"));
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}

scenario! {
    /// 200 disks at once, first without the room for them, then with it; then a dead daemon's maps lose a quarter of their paths and gain as
    /// many under other names: the next one adopts all, and the writer sees no error.
    fn two_hundred_disks_at_once(kernel) {
        let conf: &[u8] = b"defaults {\n\tno_path_retry queue\n\tfind_multipaths greedy\n\tdetect_prio no\n\tprio const\n\tpath_grouping_policy multibus\n\tpolling_interval 1\n\tmax_polling_interval 4\n}\n";
        let guest = Vm::new(kernel).corepath().file("/etc/multipath.conf", 0o644, conf).memory(768).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("corepath status | grep -q ' running for '", LONG);
        guest.ok("modprobe scsi_debug add_host=4 max_luns=50 vpd_use_hostno=0 per_host_store=0 dev_size_mb=8");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 200 ]", LONG * 2);
        guest.until("corepath status | grep -q 'REFUSED: .* paths'", LONG);
        println!("vm: {} {}", kernel.release, guest.ok("corepath status | grep REFUSED"));
        guest.until("corepath status | grep -q '4 usable\\|3 usable\\|2 usable'", LONG);
        guest.ok("corepath stop");
        daemon.wait(LONG);

        let daemon = guest.spawn("exec corepath daemon --strict");
        let begin = guest.clock();
        guest.until("[ $(corepath status | grep -c '4 usable') = 50 ]", LONG * 2);
        println!("vm: {} a daemon started over 200 disks has 50 maps of 4 paths after {:?}", kernel.release, guest.clock() - begin);
        let map = guest.ok("ls /dev/mapper | grep -v control | head -n 1");
        let writer = guest.spawn(&format!("exec lab write /dev/mapper/{map} --size 4m --direct --rate 100 --quiet"));
        std::thread::sleep(Duration::from_secs(1));
        daemon.signal(9);
        daemon.wait(LONG);
        // The last host goes with its 50 disks and comes again with 50 others.
        let before = guest.ok("ls /sys/block | grep ^sd");
        guest.ok("echo -1 > /sys/bus/pseudo/drivers/scsi_debug/add_host");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 150 ]", LONG);
        guest.ok("echo 1 > /sys/bus/pseudo/drivers/scsi_debug/add_host");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 200 ]", LONG);
        let after = guest.ok("ls /sys/block | grep ^sd");
        println!("vm: {} {} disks have other names", kernel.release, after.lines().filter(|disk| !before.lines().any(|d| d == *disk)).count());
        let daemon = guest.spawn("exec corepath daemon --strict --paths 400");
        guest.until("[ $(corepath status | grep -c '4 usable') = 50 ]", LONG * 2);
        let metrics = guest.ok("corepath metrics | grep loads_total");
        // One load to take the lost quarter out and the new one in, two when the new disk was read after that.
        let loads: Vec<u32> = metrics.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        println!("vm: {} loads after the restart: {} in all, {:?} at most for a map", kernel.release, loads.iter().sum::<u32>(), loads.iter().max());
        assert!(loads.len() == 50 && loads.iter().all(|n| *n <= 2), "{metrics}");
        assert!(!guest.ok("corepath log").contains("reloaded") || loads.iter().any(|n| *n > 0));
        writer.signal(15);
        let output = writer.wait(LONG);
        assert!(output.code == 0 && output.text().contains("errors=0 wrong=0"), "{}", output.text());
        assert!(guest.ok("corepath status").contains("page faults since the seal: 0 minor, 0 major"));
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}
