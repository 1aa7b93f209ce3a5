//! LUNs in a state of their own: those that are none (LUNZ, unbound), that are being copied, snapshots that are not active, LUNs that turn
//! into others; and the paths of many LUNs spread over an array's ports.

use std::time::Duration;

use crate::lab::site::{Site, verified, wwid};
use crate::lab::{Array, Vm, rounds};
use crate::scenario;
use crate::scenarios_activation::four;

const LONG: Duration = Duration::from_secs(30);

const CONFIGURATION: &[u8] =
    b"defaults {\n\tpolling_interval 1\n\tmax_polling_interval 2\n\tpp_balance_paths yes\n\tuser_friendly_names no\n}\n\
    overrides {\n\tno_path_retry queue\n}\n\
    devices {\n\tdevice {\n\t\tvendor COREPATH\n\t\tproduct PLAIN\n\t\tpath_grouping_policy failover\n\t}\n}\n";

scenario! {
    /// A CLARiiON with a LUNZ and an unbound LUN, which nobody claims; LUN 1 is copied while another host takes it away; LUN 2 is a snapshot
    /// that becomes inactive; LUN 3 turns into another disk. Next to it eight LUNs of an array whose ports all serve.
    fn luns_that_are_not_to_be_used(kernel) {
        let cx = four("clariion", 1, "--serial CX7 --luns 6,size=16M");
        let plain = four("plain", 2, "--serial PL8 --luns 8,size=4M");
        cx.say("lun * owner a");
        cx.say("lun * default a");
        cx.say("lun 4 unbound on");
        cx.say("lun 5 lunz on");
        let guest = Vm::new(kernel).corepath().array(&cx).array(&plain).file("/etc/multipath.conf", 0o644, CONFIGURATION).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let (site, spread) = (Site::find(&guest, &cx, "CX7", 6), Site::find(&guest, &plain, "PL8", 8));
        let daemon = guest.spawn("exec corepath daemon --strict");
        for lun in 0..4 {
            guest.until(&format!("corepath status | grep -q '^{} .* 4 usable'", site.map(lun)), LONG);
        }
        spread.until_usable(4);
        for (lun, reason) in [(4, "no-size"), (5, "lunz")] {
            for port in &cx.ports {
                let why = guest.run(&format!("corepath why {}", site.disk(lun, port)));
                assert!(why.text().contains(&format!("[{reason}]")), "{}", why.text());
            }
            assert_ne!(guest.run(&format!("lab dm table {}", site.map(lun))).code, 0, "LUN {lun} has a map");
        }

        // Eight maps of one path in use: two on each of four ports.
        let leads: Vec<String> = (0..8).map(|lun| spread.groups(lun)[0].join("+")).collect();
        println!("vm: ports that eight LUNs with a path each lead with: {}", leads.join(" "));
        for port in &plain.ports {
            assert_eq!(leads.iter().filter(|lead| *lead == port).count(), 2, "{leads:?}");
        }

        let jobs = site.writers(&[0, 1, 3]);
        std::thread::sleep(Duration::from_secs(1));
        let select = |lun: u16| cx.number(&format!("count op=MODE_SELECT_10,MODE_SELECT_6 lun={lun}"));

        // LUN 1 would go home, but is being copied: it is served where it is, and asked for now and then only.
        cx.say("lun 1 copying on");
        cx.say("lun 1 trespass b by=otherhost");
        // LUN 2: no path works and none will.
        cx.say("lun 2 inactive on");
        let reader = guest.spawn(&format!("exec lab pread /dev/mapper/{} --direct", site.map(2)));
        site.until_says("the array says the LUN is gone or inactive", 1);
        let before = cx.written(1);
        guest.ok("sleep 5");
        let (asked, more) = (select(1), cx.written(1) - before);
        println!("vm: LUN 1 is copied: {asked} requests refused in some 6 s, {more} writes meanwhile");
        // At once by the kernel, then by us, and after 1, 2 and 4 s, through both paths each time.
        assert!(more > 50 && asked <= 10 && site.owner(1) == 'b', "{asked} requests, {more} writes");
        cx.say("lun 1 copying off");
        site.guest.until(&format!("corepath status | grep -A1 '^{}' | grep -q 'group 1 active'", site.map(1)), LONG);
        // The kernel names the group as soon as it chooses it; the array moves the LUN a little later.
        cx.say("wait 20 2 trespasses 1");
        assert_eq!((site.moves()[1], site.owner(1)), (2, 'a'));
        if rounds(0, 1) == 1 {
            assert_ne!(reader.wait(Duration::from_secs(90)).code, 0, "an inactive snapshot is queued for ever");
        }
        cx.say("lun 2 inactive off");
        guest.until(&format!("corepath status | grep -q '^{} .* 4 usable'", site.map(2)), LONG);
        guest.ok(&format!("lab pread /dev/mapper/{} --direct", site.map(2)));

        // LUN 3 turns into another disk.
        let (began, since) = (std::time::Instant::now(), cx.say("log next").trim().to_string());
        cx.say("lun 3 wwn 60060160aaaaaaaaaaaaaaaaaaaaaaaa");
        guest.until(&format!("corepath status | grep -q '^{} .* 0 usable'", site.map(3)), LONG);
        let late = cx.say(&format!("log since={since} lun=3 op=WRITE_10")).lines().count();
        println!("vm: another disk behind LUN 3: seen after {:.1?}, {late} writes got through before", began.elapsed());
        let before = cx.written(3);
        guest.ok("sleep 2");
        assert_eq!(cx.written(3), before, "nothing is written to a disk that is another one");
        cx.say("lun 3 wwn home");
        guest.until(&format!("corepath status | grep -q '^{} .* 4 usable'", site.map(3)), LONG);
        verified(jobs, "LUNs in odd states");
        // And on an array that has no page of its own for it.
        let job = spread.writers(&[0]);
        std::thread::sleep(Duration::from_secs(1));
        plain.say("lun 0 wwn 60060160bbbbbbbbbbbbbbbbbbbbbbbb");
        guest.until(&format!("corepath status | grep -q '^{} .* 0 usable'", wwid("PL8", 0)), LONG);
        let before = plain.written(0);
        guest.ok("sleep 2");
        assert_eq!(plain.written(0), before);
        plain.say("lun 0 wwn home");
        spread.until_usable(4);
        verified(job, "another disk and back");
        daemon.signal(15);
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}

scenario! {
    /// Ports go away while the kernel scans the disk behind them: of one path it has no page at all, of another the serial number only, of
    /// neither a size, and it makes no attribute of what comes later. The disk itself is asked; both paths join the map, and none before
    /// it has said who it is.
    fn a_disk_is_scanned_by_halves(kernel) {
        let array = Array::start("clariion", &["a0", "b0", "b1"], "--luns 1,size=16M");
        for (port, rules) in [
            ("b1", &["page=83 do response=3", "op=READ_CAPACITY_10 do sense=02/04/03", "op=SERVICE_ACTION_IN_16 do sense=02/04/03"][..]),
            ("b0", &["page=83 do response=3", "op=READ_CAPACITY_10 do response=3", "op=SERVICE_ACTION_IN_16 do response=3"]),
            ("b0", &["page=80 do response=3", "page=00 do response=3"]),
        ] {
            rules.iter().for_each(|rule| drop(array.say(&format!("rule add port={port} {rule}"))));
        }
        let conf = b"defaults {\n find_multipaths greedy\n}\n";
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, conf).boot();
        guest.ok("modprobe -a dm_multipath dm_service_time scsi_dh_emc");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 3 ]", Duration::from_secs(20));
        let blank = guest.ok("cd /sys/block; for d in sd*; do [ $(cat $d/size) != 0 ] || ls $d/device/vpd_pg83 || ls $d/device | grep -c vpd; done 2>/dev/null; true");
        assert_eq!(blank.split_whitespace().collect::<std::collections::BTreeSet<_>>().len(), 2, "one with some pages, one with none: {blank}");
        let names = guest.ok("cd /sys/block; for d in sd*; do [ $(cat $d/size) != 0 ] || echo $d; done");
        let scan = guest.ok("corepath scan");
        assert_eq!(scan.matches("would be created").count(), 1, "{scan}");
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("corepath status | grep -q ', 1 usable'", Duration::from_secs(20));
        for name in names.split_whitespace() {
            assert!(guest.run(&format!("corepath why {name}")).fails(1).contains("[no-identity]"), "{name}");
        }
        // One's name, then its size: a member of the map without a size is not left behind. The other's port is back altogether.
        for rule in [8, 7, 6, 5, 4, 1] {
            array.say(&format!("rule del {rule}"));
        }
        // (Two, until it has one: no table takes a path without a size.)
        let named = format!("! for d in {}; do corepath why $d; done | grep -q no-identity", names.replace('\n', " "));
        guest.until(&format!("corepath status | grep -q ', 2 usable' && {named}"), LONG);
        for rule in [2, 3] {
            array.say(&format!("rule del {rule}"));
        }
        guest.until(&format!("! grep -lx 0 $(for d in {}; do echo /sys/block/$d/size; done)", names.replace('\n', " ")), LONG);
        guest.until("[ $(corepath list | grep -c 'sd.*active') = 3 ]", LONG);
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(Duration::from_secs(5)).code, 0);
    }
}

scenario! {
    /// Of one path of an ALUA array the kernel has the size, but no page 0x83: the handler that its map wants would not attach. The disk is
    /// asked, the kernel is made to read it again, and the table is taken with the handler.
    fn a_handler_without_its_page(kernel) {
        let array = Array::start("alua", &["a0", "b0"], "--serial HLF --luns 1,size=16M");
        array.say("rule add port=b0 page=83 do response=3");
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, CONFIGURATION).boot();
        guest.ok("modprobe -a dm_multipath dm_service_time scsi_dh_alua");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 2 ]", LONG);
        let half = guest.ok("cd /sys/block; for d in sd*; do [ -e $d/device/vpd_pg83 ] || echo $d; done");
        assert!(half.starts_with("sd") && !half.contains('\n') && guest.ok(&format!("cat /sys/block/{half}/size")) != "0", "{half}");
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.ok("sleep 2");
        let why = guest.run(&format!("corepath why {half}"));
        assert!(why.text().contains("[no-identity]"), "{}", why.text());
        array.say("rule del 1");
        let map = wwid("HLF", 0);
        guest.until(&format!("corepath status | grep '^{map}' | grep -q ' 2 usable'"), LONG);
        guest.until(&format!("lab dm table {map} | grep -q multipath"), LONG);
        let table = guest.ok(&format!("lab dm table {map}"));
        assert!(table.contains(" 1 alua ") && table.contains(&guest.ok(&format!("cat /sys/block/{half}/dev"))), "{table}");
        assert_eq!(guest.ok(&format!("cat /sys/block/{half}/device/dh_state")), "alua");
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(Duration::from_secs(5)).code, 0);
    }
}

scenario! {
    /// LUNs with a partition each are taken away, or exchanged for others, behind all their paths at once. What nobody has open goes, its
    /// partitions too, and makes room; what is open stays until it is closed.
    fn luns_with_partitions_are_taken_away(kernel) {
        let array = Array::start("plain", &["a0", "a1"], "--luns 3,size=16M");
        let conf = b"defaults {\n find_multipaths greedy\n no_path_retry queue\n polling_interval 1\n max_polling_interval 2\n}\n";
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, conf).boot();
        guest.ok("modprobe -a dm_multipath dm_service_time");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 6 ]", LONG);
        let disks = |lun: u32| guest.ok(&format!("ls -d /sys/bus/scsi/devices/*:{lun}/block/* | sed 's,.*/,,'")).replace('\n', " ");
        let wwid = |lun: u32| guest.ok(&format!("corepath name $(cat /sys/block/{}/dev) 2>/dev/null || cat /sys/block/{0}/device/wwid", disks(lun).split(' ').next().unwrap_or("")));
        let maps: Vec<String> = (0..3).map(|lun| format!("3{}", wwid(lun).trim_start_matches("naa."))).collect();
        for lun in 0..3 {
            // One DOS partition: 8192 sectors from 2048 on.
            let disk = disks(lun);
            let disk = disk.split(' ').next().unwrap_or("");
            guest.ok(&format!(
                "printf '\\0\\0\\0\\0\\203\\0\\0\\0\\0\\010\\0\\0\\0\\040\\0\\0' | dd of=/dev/{disk} bs=1 seek=446 conv=notrunc; \
                 printf '\\125\\252' | dd of=/dev/{disk} bs=1 seek=510 conv=notrunc; sync"
            ));
        }
        let daemon = guest.spawn("exec corepath daemon --strict");
        let there = |map: &str| format!("[ -e /dev/mapper/{map} ] && [ -e /dev/mapper/{map}p1 -o -e /dev/mapper/{map}-part1 -o -e /dev/mapper/{map}1 ]");
        for map in &maps {
            guest.until(&there(map), LONG);
        }
        let take_away = |lun: u32| guest.ok(&format!("for d in {}; do echo 1 > /sys/block/$d/device/delete; done", disks(lun)));

        take_away(0);
        guest.until(&format!("! ls /dev/mapper | grep -q {}", maps[0]), LONG);

        let other = "60060160cccccccccccccccccccccccc";
        array.say(&format!("lun 2 wwn {other}"));
        guest.until(&there(&format!("3{other}")), Duration::from_secs(60));
        guest.until(&format!("corepath status | grep '^3{other}' | grep -q '2 usable'"), LONG);
        guest.until(&format!("! ls /dev/mapper | grep -q {}", maps[2]), LONG);

        let part = guest.ok(&format!("ls -d /dev/mapper/{}?*", maps[1]));
        let user = guest.spawn(&format!("exec sleep 1000 < {part}"));
        guest.ok("sleep 1");
        take_away(1);
        guest.until(&format!("corepath status | grep '^{}' | grep -q '0 usable'", maps[1]), LONG);
        guest.ok("sleep 3");
        guest.ok(&there(&maps[1]));
        user.signal(9);
        guest.until(&format!("! ls /dev/mapper | grep -q {}", maps[1]), Duration::from_secs(60));
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(Duration::from_secs(5)).code, 0);
    }
}

scenario! {
    /// LUNs in use lose all their disks and come back under other names, all but one: its I/O waits, and the others' does not. Where memory
    /// is plenty a new LUN gets its map beside it after a minute. Then it comes back too, and nothing was lost.
    fn luns_come_back_under_other_names(kernel) {
        let array = Array::start("plain", &["a0", "a1"], "--serial BCK --luns 4,size=8M");
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, CONFIGURATION).boot();
        guest.ok("modprobe -a dm_multipath dm_service_time");
        let site = Site::find(&guest, &array, "BCK", 4);
        let take_away = |lun: u16| guest.ok(&format!("for d in {} {}; do echo 1 > /sys/block/$d/device/delete; done", site.disk(lun, "a0"), site.disk(lun, "a1")));
        let hosts = guest.ok("ls -d /sys/bus/scsi/devices/*:*:*:* | sed 's,.*/,,; s,:.*,,' | sort -u").replace('\n', " ");
        let give_back = |lun: u16| guest.ok(&format!("for h in {hosts}; do echo \"0 0 {lun}\" > /sys/class/scsi_host/host$h/scan; done"));
        let usable = |lun: u16, paths: usize| format!("corepath status | grep '^{}' | grep -q ' {paths} usable'", site.map(lun));
        take_away(3);
        let daemon = guest.spawn("exec corepath daemon --strict");
        (0..3).for_each(|lun| drop(guest.until(&usable(lun, 2), LONG)));
        let jobs = site.writers(&[0, 1, 2]);
        std::thread::sleep(Duration::from_secs(1));

        (0..3).for_each(|lun| drop(take_away(lun)));
        (0..3).for_each(|lun| drop(guest.until(&usable(lun, 0), LONG)));
        std::thread::sleep(Duration::from_secs(1));
        let began = std::time::Instant::now();
        (1..3).for_each(|lun| drop(give_back(lun)));
        // The first path of each is the way out; the second waits like all else.
        (1..3).for_each(|lun| drop(guest.until(&format!("! {}", usable(lun, 0)), LONG)));
        println!("vm: {}: back under other names after {:.1?}", kernel.release, began.elapsed());
        let before = (array.written(1), array.written(2), array.written(0));
        std::thread::sleep(Duration::from_secs(2));
        assert!(array.written(1) > before.0 && array.written(2) > before.1, "writes go on");
        assert_eq!(array.written(0), before.2);

        // Another daemon finds it so: a map that waits, disks that have numbers which its table holds.
        daemon.signal(9);
        let _ = daemon.wait(Duration::from_secs(5));
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until(&usable(0, 0), LONG);
        (1..3).for_each(|lun| drop(guest.until(&format!("! {}", usable(lun, 0)), LONG)));
        let before = (array.written(1), array.written(2));
        std::thread::sleep(Duration::from_secs(1));
        assert!(array.written(1) > before.0 && array.written(2) > before.1, "writes go on");

        if kernel.label == "6.12" || rounds(0, 1) == 1 {
            give_back(3);
            guest.until("corepath scan | grep -q 'would be created'", LONG);
            assert_ne!(guest.run(&format!("lab dm table {}", site.map(3))).code, 0, "not at once");
            guest.until(&usable(3, 2), Duration::from_secs(120));
            println!("vm: {}: a new LUN beside one that waits has its map after {:.1?}", kernel.release, began.elapsed());
            (1..3).for_each(|lun| drop(guest.until(&usable(lun, 2), LONG)));
            guest.until(&usable(0, 0), LONG);
        }
        give_back(0);
        (0..3).for_each(|lun| drop(guest.until(&usable(lun, 2), LONG)));
        verified(jobs, "other names");
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(Duration::from_secs(5)).code, 0);
    }
}
