//! corepath's own maps on an emulated CLARiiON, with the kernel's scsi_dh_emc: groups, failover, the four failback modes, upgrades of both
//! storage processors, another host that wants the LUN elsewhere, and a trespass without end. The array counts what was sent.

use std::time::Duration;

use crate::lab::site::{Site, verified, wwid};
use crate::lab::{Array, Guest, Vm};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

/// Four LUNs that belong to SP A.
pub const LUNS: &str = "--serial CX1 --lun 0,size=16M,owner=a --lun 1,size=16M,owner=a --lun 2,size=16M,owner=a --lun 3,size=16M,owner=a";

/// Checks often: what waits is then the daemon and not its schedule. LUN 0 immediate (the array table's own), 1 manual, 2 followover,
/// 3 after three quiet seconds.
pub fn configuration(serial: &str) -> Vec<u8> {
    let mut text = String::from("defaults {\n\tpolling_interval 1\n\tmax_polling_interval 2\n}\nmultipaths {\n");
    for (lun, failback) in [(1, "manual"), (2, "followover"), (3, "3")] {
        text += &format!("\tmultipath {{\n\t\twwid {}\n\t\tfailback {failback}\n\t}}\n", wwid(serial, lun));
    }
    (text + "}\n").into_bytes()
}

fn boot<'a>(guest: &'a Guest, array: &'a Array, serial: &str) -> Site<'a> {
    guest.ok("modprobe dm_multipath; modprobe dm_service_time");
    Site::find(guest, array, serial, 4)
}

scenario! {
    /// SP A's ports are pulled and come back, under verified writes: one trespass for each LUN, and one back where its policy says so; then
    /// another host moves the LUNs, which each policy answers in its own way.
    fn clariion_fails_over_and_back(kernel) {
        let array = Array::start("clariion", &["a0", "a1", "b0", "b1"], LUNS);
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, &configuration("CX1")).boot();
        let site = boot(&guest, &array, "CX1");
        let daemon = guest.spawn("exec corepath daemon --strict");
        site.until_usable(4);
        for lun in 0..4 {
            assert_eq!(site.handler(lun), "emc", "LUN {lun}");
            assert_eq!(site.groups(lun), [["a0", "a1"], ["b0", "b1"]], "LUN {lun}");
        }
        println!("{}", guest.ok("corepath list"));
        let jobs = site.writers(&[0, 1, 2, 3]);
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(site.moves(), [0; 4], "nothing moves that is where it belongs");

        array.say("down sp=a");
        site.until_moves(&[1; 4], LONG);
        site.until_usable(2);
        array.say("up sp=a");
        site.until_usable(4);
        // Immediate and followover (our own path failures had emptied the group) go back at once, deferred after its time, manual never.
        site.until_moves(&[2, 1, 2, 2], LONG);
        guest.ok("sleep 2");
        assert_eq!(site.moves(), [2, 1, 2, 2]);
        assert_eq!(array.number("count op=MODE_SELECT_10"), 7, "one command for each trespass");
        guest.ok(&format!("corepath switch-group {} 1", site.map(1)));
        site.until_moves(&[2, 2, 2, 2], LONG);
        guest.ok("sleep 1"); // The kernel asks through each path of the group; the array counts the first.

        // Another host moves them. What it does within a minute of our own failback is a quarrel, which is not fought out; followover and
        // manual would leave the LUN there anyhow.
        for lun in 0..4 {
            array.say(&format!("lun {lun} trespass b by=otherhost"));
        }
        site.until_says("another host took the LUN back", 2);
        site.until_usable(4);
        guest.ok("sleep 2");
        assert_eq!(site.moves(), [3, 3, 3, 3]);
        assert_eq!(daemon.so_far().matches("another host took the LUN back: it is left there until").count(), 2);
        verified(jobs, "four failback modes");
    }
}

scenario! {
    /// The software of both SPs is upgraded, one after the other; then both say that an upgrade is under way while the cables of one fail.
    /// The array moves the LUNs, nobody else does; each goes home once when its SP is back, if its policy says so. At the end a trespass
    /// by the kernel's handler has no end on one LUN, whose map is named while the others are served.
    fn clariion_is_upgraded(kernel) {
        let luns = "--serial CX2 --lun 0,size=16M,owner=a --lun 1,size=16M,owner=a --lun 2,size=16M,owner=b --lun 3,size=16M,owner=b";
        let array = Array::start("clariion", &["a0", "a1", "b0", "b1"], luns);
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, &configuration("CX2")).boot();
        let site = boot(&guest, &array, "CX2");
        let daemon = guest.spawn("exec corepath daemon --strict");
        site.until_usable(4);
        let jobs = site.writers(&[0, 1, 2, 3]);
        std::thread::sleep(Duration::from_secs(1));
        // What met the unattended "power on" of an SP that comes back was sent once more.
        let sent = || array.say("log op=MODE_SELECT_10,MODE_SELECT_6").lines().filter(|line| !line.contains("sense=06/29/00")).count();
        let flagged = |sp: char| {
            array.say(&format!("sp {sp} reboot ndu=3 down=4"));
            site.until_says(" shaky", 8);
            // Shaky is not down: it serves, nothing moves, nothing is asked.
            assert_eq!(guest.ok("corepath status | grep -c ' active shaky'").trim(), "8");
        };

        flagged('a');
        assert_eq!((site.moves(), sent()), (vec![0; 4], 0));
        site.until_moves(&[1, 1, 0, 0], LONG);
        site.until_usable(2);
        assert_eq!(sent(), 0, "the array itself moves what is on an SP that is upgraded");
        site.until_usable(4);
        // LUN 0 goes home, LUN 1 is manual, the others were at home.
        site.until_moves(&[2, 1, 0, 0], LONG);
        guest.ok("sleep 1");
        assert_eq!(sent(), 1);
        flagged('b');
        assert_eq!((site.moves(), sent()), (vec![2, 1, 0, 0], 1));
        site.until_moves(&[2, 2, 1, 1], LONG);
        site.until_usable(2);
        assert_eq!(sent(), 1);
        site.until_usable(4);
        site.until_moves(&[2, 2, 2, 2], LONG);
        assert_eq!((0..4).map(|lun| site.owner(lun)).collect::<String>(), "aabb");
        assert_eq!(sent(), 3, "LUN 2 follows over, LUN 3 waits three quiet seconds");

        // No SP takes a LUN now: I/O of 0 and 1 waits, and goes on where it was.
        array.say("clariion ndu on");
        site.until_says(" shaky", 16);
        array.say("down sp=a for=3");
        guest.ok("sleep 4");
        assert_eq!((site.moves(), sent()), (vec![2; 4], 3), "nothing is trespassed during an upgrade");
        array.say("clariion ndu off");
        site.until_usable(4);
        guest.ok("sleep 4");
        // The kernel finishes what it had begun when A's paths failed; LUN 0 goes home again.
        let moves = site.moves();
        println!("vm: two upgrades and an outage during one: moves {moves:?}, {} of them by command", sent());
        assert!(moves[0] <= 4 && moves[1] <= 4 && moves[2..] == [2, 2] && site.owner(0) == 'a', "{moves:?}");

        // To the other side and no further.
        let home = site.owner(1) == 'a';
        array.say("lun 1 stuck on");
        guest.ok(&format!("corepath switch-group {} {}", site.map(1), site.group_of(1, if home { "b0" } else { "a0" })));
        site.until_says("ITS LUN IS BEING ACTIVATED", 1);
        let written = |lun: u16| array.number(&format!("count op=WRITE_10 lun={lun}"));
        let before: Vec<u64> = (0..4).map(written).collect();
        guest.ok("sleep 2");
        for (lun, before) in before.iter().enumerate() {
            let more = written(lun as u16) - before;
            assert!(if lun == 1 { more == 0 } else { more > 20 }, "LUN {lun}: {more} writes");
        }
        let status = guest.ok("corepath status");
        assert!(status.lines().any(|line| line.starts_with(&site.map(1)) && line.contains("ITS LUN IS BEING ACTIVATED")), "{status}");
        array.say("lun 1 stuck off");
        site.until_moves(&[moves[0], moves[1] + 1, 2, 2], LONG);
        verified(jobs, "upgrades of both SPs");
        daemon.signal(15);
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}
