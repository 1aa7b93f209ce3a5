//! corepath's own maps on an emulated CLARiiON, with the kernel's scsi_dh_emc: groups, failover, the four failback modes, upgrades of both
//! storage processors, another host that wants the LUN elsewhere, and a trespass without end. The array counts what was sent.

use std::time::Duration;

use crate::lab::agent::{self, Job};
use crate::lab::site::{Site, wwid};
use crate::lab::{Array, Guest, Vm};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

/// Four LUNs that belong to SP A.
pub const LUNS: &str = "--serial CX1 --lun 0,size=16M,owner=a --lun 1,size=16M,owner=a --lun 2,size=16M,owner=a --lun 3,size=16M,owner=a";

/// Checks often: what waits is then the daemon and not its schedule. LUN 0 immediate (the array table's own), 1 manual, 2 followover,
/// 3 after three quiet seconds.
pub fn configuration() -> Vec<u8> {
    let mut text = String::from("defaults {\n\tpolling_interval 1\n\tmax_polling_interval 2\n}\nmultipaths {\n");
    for (lun, failback) in [(1, "manual"), (2, "followover"), (3, "3")] {
        text += &format!("\tmultipath {{\n\t\twwid {}\n\t\tfailback {failback}\n\t}}\n", wwid("CX1", lun));
    }
    (text + "}\n").into_bytes()
}

/// Verified writes through the map of each LUN until they are ended.
pub fn writers(site: &Site<'_>, luns: &[u16]) -> Vec<Job> {
    let write = |lun: &u16| site.guest.spawn(&format!("exec lab write /dev/mapper/{} --size 2m --direct --rate 200", site.map(*lun)));
    luns.iter().map(write).collect()
}

/// Ends them: no error, nothing lost, nothing wrong.
#[track_caller]
pub fn verified(jobs: Vec<Job>, what: &str) {
    for job in &jobs {
        job.signal(15);
    }
    for job in jobs {
        let output = job.wait(LONG);
        let last = output.text().lines().last().unwrap_or("").to_string();
        println!("vm: {what}: {last}");
        assert!(output.code == 0 && last.contains("errors=0 wrong=0"), "{}", output.text());
        let written = agent::marker(&last, "@written", "written").and_then(|n| n.parse::<u64>().ok());
        assert!(written.is_some_and(|n| n > 20), "{last}");
    }
}

fn boot<'a>(guest: &'a Guest, array: &'a Array) -> Site<'a> {
    guest.ok("modprobe dm_multipath; modprobe dm_service_time");
    Site::find(guest, array, "CX1", 4)
}

scenario! {
    /// SP A's ports are pulled and come back, under verified writes: one trespass for each LUN, and one back where its policy says so; then
    /// another host moves the LUNs, which each policy answers in its own way.
    fn clariion_fails_over_and_back(kernel) {
        let array = Array::start("clariion", &["a0", "a1", "b0", "b1"], LUNS);
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, &configuration()).boot();
        let site = boot(&guest, &array);
        let daemon = guest.spawn("exec corepath daemon --strict");
        site.until_usable(4);
        for lun in 0..4 {
            assert_eq!(site.handler(lun), "emc", "LUN {lun}");
            assert_eq!(site.groups(lun), [["a0", "a1"], ["b0", "b1"]], "LUN {lun}");
        }
        println!("{}", guest.ok("corepath list"));
        let jobs = writers(&site, &[0, 1, 2, 3]);
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
