//! Two that manage the same maps for a while: `boot` beside the daemon of its initramfs, a daemon and its successor, corepath and multipathd.

use std::time::{Duration, Instant};

use crate::lab::{Array, Vm, peer, root, rounds, site};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

scenario! {
    /// `boot` and the daemon start in the same moment, as in an initramfs, and both make root's map: whoever is second to each step adopts
    /// what the first made, and nobody waits for a clock.
    fn boot_and_daemon_race(kernel) {
        let place = Vm::new(kernel);
        let image = place.scratch().join("root.img");
        root::busybox_disk(kernel, &image);
        let array = Array::start("clariion", &["a0", "b0"], &format!("--lun 0,file={}", image.display()));
        let guest = Vm::new(kernel).corepath().array(&array).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; modprobe scsi_dh_emc");
        guest.until("[ -e /sys/block/sda -a -e /sys/block/sdb ]", Duration::from_secs(20));
        // The partitions of the paths are gone when boot ends: by its own hand, not because it has waited long enough.
        let script = "corepath daemon >/run/daemon 2>&1 & d=$!\n\
             corepath boot -v3 --root=LABEL=sanroot --timeout 40 >/run/out 2>/run/err || { cat /run/out /run/err /run/daemon; exit 1; }\n\
             [ -b /dev/mapper/3*p2 -a ! -e /sys/block/sda/sda1 -a ! -e /sys/block/sdb/sdb1 ] || { cat /run/err /proc/partitions; exit 1; }\n\
             ! grep 'still there' /run/err || { cat /run/err /run/daemon; exit 1; }\n\
             kill $d; wait $d; corepath remove --all >/run/gone 2>&1 || { cat /run/gone; exit 1; }\n\
             cat /run/out";
        let mut times: Vec<u64> = Vec::new();
        for _ in 0..rounds(8, 100) {
            let said = guest.ok(script);
            let ms = said.split_once(" usable paths (").and_then(|(_, rest)| rest.split_once(" ms")?.0.parse().ok());
            times.push(ms.unwrap_or_else(|| panic!("{said}")));
        }
        times.sort_unstable();
        println!("vm: {} boot beside a daemon: {} times, {} to {} ms, median {}", kernel.release, times.len(), times[0], times[times.len() - 1], times[times.len() / 2]);
    }
}

/// Who manages the paths, by the abstract socket that both kinds listen on.
const WHO: &str = "corepath raw list daemon | cut -d' ' -f2";

scenario! {
    /// A daemon is followed by another under verified writes, with a port that goes and comes around each change: corepath by corepath,
    /// corepath by multipathd, multipathd by corepath. The one before answers until its successor knows every path.
    fn daemons_follow_one_another(kernel) {
        let array = Array::start("clariion", &["a0", "a1", "b0", "b1"], "--serial CX1 --lun 0,size=16M,owner=a");
        let conf = "defaults {\n\tpolling_interval 1\n\tmax_polling_interval 2\n\tuser_friendly_names no\n\tfind_multipaths yes\n}\n\
                    devices {\n\tdevice {\n\t\tvendor DGC\n\t\tproduct .*\n\t\tno_path_retry 300\n\t}\n}\n";
        let guest = peer::with_multipath_tools(Vm::new(kernel).corepath(), conf).array(&array).limit(Duration::from_secs(400)).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; modprobe scsi_dh_emc; ln -s corepath /usr/bin/@corepath");
        peer::start_udev(&guest);
        let map = format!("/dev/mapper/{}", site::wwid("CX1", 0));
        let mut daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("corepath status | grep -q '4 usable'", LONG);
        guest.until(&format!("[ -b {map} ]"), LONG);
        let writer = guest.spawn(&format!("exec lab write {map} --size 8m --direct --rate 200"));
        let failed = |n: usize| format!("[ $(lab dm status {map} | grep -o ' F ' | wc -l) = {n} ]", map = site::wwid("CX1", 0));
        let mut before = guest.ok(WHO);
        for (name, start) in [
            ("corepath after corepath", "exec @corepath daemon --strict --take-over"),
            ("multipathd after corepath", "corepath stop; while corepath raw list daemon; do :; done; exec multipathd -d -s"),
            ("corepath after multipathd", "exec @corepath daemon --strict --take-over"),
        ] {
            // A port is away when the successor comes: it is he who sees it come back.
            array.say("down b1");
            guest.until(&failed(1), LONG);
            let began = guest.clock();
            let next = guest.spawn(&format!("{start} >/run/successor 2>&1"));
            guest.until(&format!("n=$({WHO} 2>&1) && [ -n \"$n\" ] && [ \"$n\" != {before} ] || ! cat /run/successor"), LONG);
            let took = guest.clock() - began;
            daemon.wait(LONG);
            assert!(!guest.ok("dmesg").contains("does not leave"));
            // The one before is gone to the end, and has not made the kernel fail what finds no path.
            let table = guest.ok(&format!("lab dm table {}", site::wwid("CX1", 0)));
            assert!(table.contains("queue_if_no_path") || name.starts_with("multipathd"), "{name}: {table}");
            array.say("up b1");
            guest.until(&failed(0), LONG);
            array.say("down a0");
            guest.until(&failed(1), LONG);
            array.say("up a0");
            guest.until(&failed(0), LONG);
            println!("vm: {} {name}: answers {took:.1?} after its start", kernel.release);
            (daemon, before) = (next, guest.ok(WHO));
        }
        assert!(guest.ok("corepath status").contains("4 usable"));
        writer.signal(15);
        let output = writer.wait(LONG);
        let last = output.text().lines().last().unwrap_or("").to_string();
        println!("vm: {} {last}", kernel.release);
        assert!(output.code == 0 && last.contains("errors=0 wrong=0"), "{}", output.text());

        // All paths are gone and I/O waits while one follows the other: it waits on.
        array.say("down *");
        guest.until(&failed(4), LONG);
        let reader = guest.spawn(&format!("exec lab pread {map} --direct"));
        // A map that nobody has open makes nobody wait. It is multipathd's heir who has to keep the read from failing.
        let end = Instant::now() + LONG;
        while guest.run("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -qE 'dm-|mapper/3'").code != 0 {
            if reader.ended() {
                panic!("the read came to its end: {}\n{}", reader.wait(LONG).text(), guest.ok("dmesg | tail -n 60"));
            }
            assert!(Instant::now() < end, "nobody reads {map}");
        }
        let next = guest.spawn("exec @corepath daemon --strict --take-over");
        guest.until(&format!("n=$({WHO}) && [ -n \"$n\" ] && [ \"$n\" != {before} ]"), Duration::from_secs(60));
        daemon.wait(LONG);
        assert!(guest.ok(&format!("lab dm table {}", site::wwid("CX1", 0))).contains("queue_if_no_path"));
        // Its files may be on that very disk: they are not read now.
        guest.until("corepath reconfigure >/run/said 2>&1; cat /run/said; grep -q 'no usable path' /run/said || { corepath status; ls -l /proc/[0-9]*/fd 2>/dev/null | grep dm-; false; }", LONG);
        array.say("up *");
        assert_eq!(reader.wait(LONG).code, 0);
        guest.until("corepath status | grep -q '4 usable'", LONG);
        drop(next);
    }
}
