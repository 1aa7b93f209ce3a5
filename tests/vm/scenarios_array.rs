//! The emulated arrays (tests/array) are what the kernel takes them for: the right handler attaches, states and
//! identities are read, activation moves a LUN once, and each fault does to the guest what its verb says.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lab::qmp::{Json, object};
use crate::lab::{Array, Guest, Kernel, Vm, agent};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

/// The disks by LUN and relative target port: ports a0, a1, b0, b1 are 1 to 4 in the order given to the array.
fn disks(guest: &Guest, count: usize) -> BTreeMap<(u16, u16), String> {
    guest.until(&format!("[ $(ls -d /sys/block/sd* 2>/dev/null | wc -l) = {count} ]"), LONG);
    let mut found = BTreeMap::new();
    for disk in guest.ok("cd /sys/block; ls -d sd*").lines() {
        let page = guest.get(&format!("/sys/block/{disk}/device/vpd_pg83"));
        // NAA 6 of the LUN first, its last two bytes the number; then the relative target port.
        let number = u16::from_be_bytes([page[22], page[23]]);
        found.insert((number, u16::from_be_bytes([page[30], page[31]])), disk.to_string());
    }
    assert_eq!(found.len(), count, "a disk without its own port: {found:?}");
    found
}

/// Scans the array anew with the handlers loaded: they attach at the scan only.
fn rescan_with(guest: &Guest, handlers: &str) {
    guest.ok(&format!("rmmod virtio_scsi && modprobe -a {handlers} && modprobe virtio_scsi"));
}

fn attribute(guest: &Guest, disk: &str, name: &str) -> String {
    guest.run(&format!("cat /sys/block/{disk}/device/{name} 2>/dev/null")).text().trim().to_string()
}

fn reads(guest: &Guest, disk: &str) -> bool {
    guest.run(&format!("lab pread /dev/{disk} --direct")).code == 0
}

/// Two SPs with one port each, LUN 0 owned by A and LUN 1 by B: handler, states, who serves; then LUN 0 is activated
/// through B. `first` is said to the array before; `sent` is the opcode that does it, `page` what the log shows of it.
fn activation(kernel: &Kernel, persona: &str, first: &str, handler: &str, sent: &str, page: &str) {
    let array = Array::start(persona, &["a0", "b0"], "--luns 2,size=16M");
    array.say(first);
    let guest = Vm::new(kernel).array(&array).boot();
    rescan_with(&guest, "scsi_dh_emc scsi_dh_alua scsi_dh_rdac scsi_dh_hp_sw");
    let disks = disks(&guest, 4);
    for disk in disks.values() {
        assert_eq!(attribute(&guest, disk, "dh_state"), handler, "{disk}");
    }
    let both_serve = handler == "alua";
    for ((lun, port), disk) in &disks {
        let owned = u16::from(*lun == 1) + 1 == *port;
        // hp_sw never sets it, rdac sets that of the last LUN asked for all of the controller (6.1 and 6.12).
        if matches!(handler, "emc" | "alua") {
            let passive = if both_serve { "active/non-optimized" } else { "standby" };
            let state = if owned { "active/optimized" } else { passive };
            // scsi_dh_alua asks in the background.
            guest.until(&format!("grep -qx {state} /sys/block/{disk}/device/access_state"), LONG);
            let preferred = u8::from(owned);
            guest.until(&format!("grep -qx {preferred} /sys/block/{disk}/device/preferred_path"), LONG);
        }
        assert_eq!(reads(&guest, disk), owned || both_serve, "{disk} lun {lun} port {port}");
    }
    assert_eq!(array.number("trespasses"), 0, "probing alone moves nothing");

    let (there, here) = (&disks[&(0, 1)], &disks[&(0, 2)]);
    guest.ok(&format!("lab write /dev/{there} --size 4m --secs 1 --direct --state /tmp/state"));
    let since = array.say("log next").trim().to_string();
    guest.ok(&format!("echo activate > /sys/block/{here}/device/dh_state"));
    array.say("wait 20 1 trespasses 0");
    if handler == "hp_sw" {
        // The handler asks again before it believes: its own state turns active with a TUR, not with START UNIT.
        guest.ok(&format!("echo activate > /sys/block/{here}/device/dh_state"));
    }
    guest.until(&format!("lab pread /dev/{here} --direct"), LONG);
    guest.ok(&format!("lab verify /dev/{here} --state /tmp/state --direct"));
    assert_eq!(reads(&guest, there), both_serve);
    assert_eq!((array.number("trespasses 0"), array.number("trespasses 1")), (1, 0));
    let log = array.say(&format!("log since={since} op={sent}"));
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("port=b0 lun=0") && log.contains(page) && log.contains("status=00"), "{log}");
}

scenario! {
    /// scsi_dh_emc: MODE SELECT(10), page 22h, reservations not honoured.
    fn clariion_is_driven_by_emc(kernel) {
        activation(kernel, "clariion", "", "emc", "MODE_SELECT_10", "out=0000000000000000220981ffff000000000000");
    }
}

scenario! {
    /// An array of the FC series: MODE SELECT(6) with the short page.
    fn old_clariion_is_trespassed_shortly(kernel) {
        activation(kernel, "clariion", "clariion model FC4700", "emc", "MODE_SELECT_6", "out=00000000220281ff");
    }
}

scenario! {
    /// scsi_dh_alua: STPG to the group of B.
    fn alua_is_driven_by_alua(kernel) {
        activation(kernel, "alua", "", "alua", "MAINTENANCE_OUT", "out=0000000000000002");
    }
}

scenario! {
    /// scsi_dh_rdac: MODE SELECT(10), page 2Ch with its subpage, byte 81h for LUN 0.
    fn rdac_is_driven_by_rdac(kernel) {
        activation(kernel, "rdac", "", "rdac", "MODE_SELECT_10", "out=00000000000000006c010128");
    }
}

scenario! {
    /// scsi_dh_hp_sw: START STOP UNIT.
    fn hp_is_driven_by_hp_sw(kernel) {
        activation(kernel, "hpsw", "", "hp_sw", "START_STOP_UNIT", "cdb=1b0000000100");
    }
}

scenario! {
    /// A map under verified writes: SP A down and up, a switch back, late answers, all paths down for 3 s. No error,
    /// no wrong block, one command for each trespass.
    fn clariion_under_device_mapper(kernel) {
        let array = Array::start("clariion", &["a0", "a1", "b0", "b1"], "--luns 1,size=32M");
        let guest = Vm::new(kernel).array(&array).debs(&["dmsetup"]).boot();
        rescan_with(&guest, "scsi_dh_emc dm_multipath dm_service_time");
        let disks = disks(&guest, 4);
        let dev = |port: u16| guest.ok(&format!("cat /sys/block/{}/dev", disks[&(0, port)]));
        let group = |a: u16, b: u16| format!("service-time 0 2 1 {} 1 {} 1", dev(a), dev(b));
        let table = format!("0 65536 multipath 1 queue_if_no_path 1 emc 2 1 {} {}", group(1, 2), group(3, 4));
        guest.ok(&format!("dmsetup create m --noudevsync --noudevrules --table '{table}'"));
        let message = |text: &str| guest.ok(&format!("dmsetup message m 0 {text}"));

        let writer = guest.spawn("lab write /dev/dm-0 --size 16m --secs 20 --direct --rate 400 --state /tmp/state");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(array.number("trespasses 0"), 0);
        array.say("down sp=a");
        array.say("wait 20 1 trespasses 0");

        array.say("up sp=a");
        message(&format!("reinstate_path {}", dev(1)));
        message(&format!("reinstate_path {}", dev(2)));
        message("switch_group 1");
        array.say("wait 20 2 trespasses 0");

        // Written and never said so: the answer comes late, and nothing is written twice.
        array.say("hang sp=a after");
        std::thread::sleep(Duration::from_secs(2));
        array.say("release sp=a");
        // All the paths at once; the map queues.
        array.say("down * response=6 for=3");
        std::thread::sleep(Duration::from_secs(4));
        for port in 1..=4 {
            message(&format!("reinstate_path {}", dev(port)));
        }
        let said = writer.wait(Duration::from_secs(60)).ok();
        let value = |key| agent::marker(&said, "@written", key).unwrap().parse::<u64>().unwrap();
        assert_eq!((value("errors"), value("wrong")), (0, 0), "{said}");
        assert!(value("written") > 100, "{said}");
        guest.ok("lab verify /dev/dm-0 --state /tmp/state --direct");
        let moved = array.number("trespasses 0");
        assert!((2..=4).contains(&moved), "{moved} trespasses");
        assert_eq!(array.number("count op=MODE_SELECT_10"), moved, "one command for each");
        guest.ok("dmsetup message m 0 fail_if_no_path; dmsetup remove m --noudevsync");
    }
}

scenario! {
    /// A port answers nothing, a command is delayed, and each response code is the error that virtio_scsi makes of it.
    fn ports_fail_hang_and_return(kernel) {
        let array = Array::start("plain", &["a0", "b0"], "--luns 1,size=16M");
        let guest = Vm::new(kernel).array(&array).boot();
        let disks = disks(&guest, 2);
        let (first, second) = (&disks[&(0, 1)], &disks[&(0, 2)]);
        assert!(reads(&guest, first) && reads(&guest, second));

        array.say("down a0 for=2");
        assert!(!reads(&guest, first) && reads(&guest, second));
        guest.until(&format!("lab pread /dev/{first} --direct"), LONG);

        // TRANSPORT_FAILURE is tried again by the kernel: six times in all, within a tenth of a second.
        array.say("down a0 response=transport-failure");
        array.say("counters reset");
        assert!(!reads(&guest, first));
        assert_eq!(array.number("count port=a0 op=READ_10"), 6);
        array.say("up a0");
        array.say("counters reset");

        array.say("hang a0");
        let hung = guest.spawn(&format!("lab pread /dev/{first} --direct"));
        array.say("wait 10 1 count port=a0 op=READ_10");
        std::thread::sleep(Duration::from_secs(1));
        assert!(!hung.ended() && reads(&guest, second));
        array.say("down a0");
        assert_ne!(hung.wait(LONG).code, 0, "down ends what hangs");
        array.say("up a0");

        array.say("delay 300 port=a0 op=READ_10");
        let took = guest.run(&format!("lab pread /dev/{first} --direct"));
        assert!(took.took() >= Duration::from_millis(300), "{:?}", took.took());
        array.say("rule del all");

        // One write is executed and reported as a failure: the other port shows what really is on the disk.
        guest.ok(&format!("lab write /dev/{first} --size 1m --secs 1 --direct --state /tmp/state"));
        array.say("rule add op=WRITE_10 lba=0-7 count=1 after do sense=0b/00/00");
        array.say("garbage 4 seed=11 port=a0");
        for _ in 0..20 {
            guest.run(&format!("lab pread /dev/{first} --direct"));
        }
        guest.ok(&format!("lab verify /dev/{second} --state /tmp/state --direct"));
    }
}

scenario! {
    /// Explicit transition of four seconds: the kernel waits for it, sends one STPG, and sees the new state at its end.
    fn alua_takes_its_time(kernel) {
        let array = Array::start("alua", &["a0", "b0"], "--luns 1,size=16M");
        let guest = Vm::new(kernel).array(&array).boot();
        rescan_with(&guest, "scsi_dh_alua");
        let disks = disks(&guest, 2);
        let (first, second) = (&disks[&(0, 1)], &disks[&(0, 2)]);
        array.say("alua transition 4");
        array.say("alua demote standby");
        let begin = guest.clock();
        guest.ok(&format!("echo activate > /sys/block/{second}/device/dh_state"));
        guest.until(&format!("grep -qx active/optimized /sys/block/{second}/device/access_state"), LONG);
        assert!(guest.clock() - begin >= Duration::from_secs(4));
        assert_eq!((array.number("count op=MAINTENANCE_OUT"), array.number("trespasses 0")), (1, 1));
        assert!(reads(&guest, second) && !reads(&guest, first));

        // The array changes by itself: the attention makes the kernel ask, and it sees the state.
        array.say("alua 1 non-optimized");
        array.say("alua 2 unavailable");
        guest.run(&format!("lab pread /dev/{first} --direct"));
        guest.run(&format!("lab pread /dev/{second} --direct"));
        guest.until(&format!("grep -qx unavailable /sys/block/{second}/device/access_state"), LONG);
        guest.until(&format!("grep -qx active/non-optimized /sys/block/{first}/device/access_state"), LONG);
        assert!(reads(&guest, first) && !reads(&guest, second));
    }
}

scenario! {
    /// LUNs appear, vanish, grow, change their identity and are taken away, as the array says.
    fn luns_come_go_and_change(kernel) {
        let array = Array::start("plain", &["a0"], "--luns 2,size=16M");
        let guest = Vm::new(kernel).array(&array).boot();
        let before = disks(&guest, 2);
        let disk = &before[&(0, 1)];
        array.say("event a0 removed lun=1");
        disks(&guest, 1);
        array.say("event a0 rescan lun=1");
        disks(&guest, 2);
        array.say("lun 7 add size=8M quiet");
        array.say("event a0 rescan lun=7");
        assert!(disks(&guest, 3).contains_key(&(7, 1)));

        array.say("lun 0 resize 48M event");
        guest.until(&format!("grep -qx {} /sys/block/{disk}/size", 48 * 2048), LONG);
        array.say("lun 0 resize 64M"); // the unit attention alone: the kernel leaves it to user space
        guest.ok(&format!("lab pread /dev/{disk} --direct"));
        assert_eq!(guest.ok(&format!("cat /sys/block/{disk}/size")).trim(), (48 * 2048).to_string());
        guest.ok(&format!("echo 1 > /sys/block/{disk}/device/rescan"));
        assert_eq!(guest.ok(&format!("cat /sys/block/{disk}/size")).trim(), (64 * 2048).to_string());

        array.say("lun 0 wwn 60060160111111111111111111110000");
        guest.run(&format!("lab pread /dev/{disk} --direct"));
        guest.ok(&format!("echo 1 > /sys/block/{disk}/device/rescan"));
        guest.until(&format!("grep -qx naa.60060160111111111111111111110000 /sys/block/{disk}/device/wwid"), LONG);

        array.say("lun 0 unmap");
        assert!(!reads(&guest, disk));
        array.say("lun 0 map");
        guest.until(&format!("lab pread /dev/{disk} --direct"), LONG);
    }
}

scenario! {
    /// A host adapter is unplugged under I/O and plugged in again: the array takes the new login, with 29/00.
    fn an_adapter_is_unplugged_and_plugged(kernel) {
        let array = Array::start("plain", &["a0", "b0"], "--luns 1,size=16M");
        let guest = Vm::new(kernel).array(&array).boot();
        let (first, second) = (disks(&guest, 2)[&(0, 1)].clone(), disks(&guest, 2)[&(0, 2)].clone());
        let reader = guest.spawn(&format!("while lab pread /dev/{second} --direct; do :; done"));
        guest.ok(&format!("lab write /dev/{first} --size 1m --secs 1 --direct --state /tmp/state"));
        let qmp = |verb: &str, arguments: Json| guest.qmp.command(verb, arguments).unwrap_or_else(|e| panic!("{e}"));
        qmp("device_del", object([("id", "b0".into())]));
        assert!(guest.qmp.event("DEVICE_DELETED", "\"device\": \"b0\"", LONG).is_some());
        reader.wait(LONG);
        qmp("chardev-remove", object([("id", "b0.socket".into())]));
        disks(&guest, 1);

        let path = array.socket("b0");
        let address = object([("type", "unix".into()), ("data", object([("path", path.to_string_lossy().as_ref().into())]))]);
        let backend = object([("type", "socket".into()), ("data", object([("addr", address), ("server", false.into())]))]);
        qmp("chardev-add", object([("id", "again".into()), ("backend", backend)]));
        let device = [("driver", "vhost-user-scsi-pci".into()), ("id", "b0".into()), ("chardev", "again".into()), ("num_queues", 1.into())];
        qmp("device_add", object(device));
        let again = disks(&guest, 2)[&(0, 2)].clone();
        guest.ok(&format!("lab verify /dev/{again} --state /tmp/state --direct"));
        assert!(array.say("log port=b0 op=TEST_UNIT_READY").matches("sense=06/29/00").count() >= 2);
    }
}
