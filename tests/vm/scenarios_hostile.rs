//! Arrays that answer nonsense: pages cut short, too long, looping, with lengths that lie; group lists of ten thousand and of none; a page C0
//! of an unknown layout; and one answer in ten garbled. Nothing panics, no LUN is taken for another or moved for it, and maps stay served.

use std::time::Duration;

use serde_json::Value;

use crate::lab::site::{Site, wwid};
use crate::lab::{Array, Guest, Vm, agent};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

const CONF: &[u8] = b"defaults {\n\tno_path_retry queue\n\tpolling_interval 1\n\tmax_polling_interval 2\n}\ndevices {\n\tdevice {\n\t\tvendor COREPATH\n\t\tproduct ALUA\n\t\tdetect_prio no\n\t\tprio alua\n\t\tpath_grouping_policy group_by_prio\n\t\tfailback immediate\n\t}\n}\n";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Page 83 with these designators, and a length that is said instead of theirs.
fn page_83(designators: &[u8], says: usize) -> String {
    hex(&[&[0, 0x83, (says >> 8) as u8, says as u8], designators].concat())
}

/// NAA 6, made up, of a LUN that no array has.
fn naa(length: u8, lun: u8) -> Vec<u8> {
    [&[1, 3, 0, length][..], &[0x61, 0xc0, 0xae, 0x1a, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, lun]].concat()
}

/// REPORT TARGET PORT GROUPS: so many groups that nobody has, with the two real ones at this place.
fn ten_thousand(at: usize) -> Vec<u8> {
    let mut groups: Vec<[u8; 12]> = (0..10_000u32)
        .map(|n| {
            let [_, _, hi, lo] = (1000 + n).to_be_bytes();
            [3, 0x8f, hi, lo, 0, 0, 0, 1, 0, 0, hi, lo]
        })
        .collect();
    // Optimized and preferred; non-optimized.
    (groups[at], groups[at + 1]) = ([0x80, 0x8f, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1], [1, 0x8f, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4]);
    let length = (groups.len() as u32 * 12).to_be_bytes();
    [&length[..], groups.concat().as_slice()].concat()
}

/// Every disk that is there: its LUN's number by sysfs, and what `scan` says of it: WWID and map.
fn scanned(guest: &Guest) -> Vec<(String, String, Option<String>)> {
    let json: Value = serde_json::from_str(&guest.ok("corepath scan --json 2>/dev/null")).unwrap();
    assert_eq!(json["complete"], true);
    let text = |v: &Value| v.as_str().unwrap().to_string();
    let mut all = Vec::new();
    for map in json["maps"].as_array().unwrap() {
        all.extend(map["paths"].as_array().unwrap().iter().map(|p| (text(&p["dev"]), text(&p["wwid"]), Some(text(&map["wwid"])))));
    }
    all.extend(json["others"].as_array().unwrap().iter().map(|p| (text(&p["dev"]), text(&p["wwid"]), None)));
    all
}

scenario! {
    /// Identities that lie, before anything is assembled; then a daemon with verified writes over three arrays that lie to it.
    fn arrays_that_lie(kernel) {
        let plain = Array::start("plain", &["a0", "b0"], "--serial P --luns 10,size=16M");
        let clariion = Array::start("clariion", &["a10", "a11", "a12", "b10", "b11", "b12"], "--serial C --luns 1,size=16M");
        let alua = Array::start("alua", &["a20", "a21", "a22", "b20", "b21", "b22"], "--serial U --luns 1,size=16M");
        // A length above 0xfffb in page 00 or 83 makes the kernel itself ask for ever: that is its scan, not ours.
        let loops = [1u8, 3, 0, 0].repeat(1000);
        let lies = [
            (1, "83", page_83(&naa(16, 1)[..10], 0x20)),                           // cut short
            (2, "83", page_83(&[naa(16, 2), vec![0; 300]].concat(), 0x0ff0)), // declares more than there is
            (3, "83", page_83(&naa(255, 3), 20)),                                   // a designator longer than its page
            (4, "83", page_83(&loops, loops.len())),                                // a thousand empty ones
            (5, "83", hex(&[&[0, 0x80, 0, 20][..], &naa(16, 5)].concat())),         // another page
            (6, "83", page_83(&[1, 3, 0, 16].into_iter().chain([0; 16]).collect::<Vec<u8>>(), 20)), // an identity of zeros
            (7, "00", hex(&[&[0, 0, 0x0f, 0xf0][..], &[0x83; 12]].concat())),      // the same page again and again (the kernel asks for it as often)
            (8, "80", hex(&[&[0, 0x80, 0x0f, 0xf0][..], b"\x1b[2J\x00\xff\"\\\n", &[b'x'; 230]].concat())), // a serial number that is none
            (9, "83", String::from("00")),                                          // one byte
        ];
        for (lun, page, data) in &lies {
            plain.say(&format!("rule add op=INQUIRY page={page} lun={lun} do data={data}"));
        }
        let vm = Vm::new(kernel).corepath().file("/etc/multipath.conf", 0o644, CONF);
        let lists = [0, 9_998].map(|at| {
            let file = vm.scratch().join(format!("groups.{at}"));
            std::fs::write(&file, ten_thousand(at)).unwrap();
            file.display().to_string()
        });
        let guest = vm.array(&plain).array(&clariion).array(&alua).boot();
        guest.ok("rmmod virtio_scsi && modprobe -a scsi_dh_emc dm_multipath dm_service_time && modprobe virtio_scsi");
        let (c, u) = (Site::find(&guest, &clariion, "C", 1), Site::find(&guest, &alua, "U", 1));
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 32 ]", LONG);

        // No two LUNs are one; those that can be told are taken, and the others named with a reason.
        let all = scanned(&guest);
        assert_eq!(all.len(), 32);
        let mut luns: Vec<(String, String)> = Vec::new();
        let places = guest.ok("cd /sys/block; for d in sd*; do echo $d $(readlink $d/device | sed 's/.*://') $(cat $d/device/model) $(cat $d/device/vpd_pg83 2>/dev/null | wc -c); done");
        for (disk, wwid, map) in &all {
            let place: Vec<&str> = places.lines().find(|line| line.starts_with(&format!("{disk} "))).unwrap().split(' ').collect();
            let (lun, product) = (place[1], place[2]);
            println!("vm: {} {product} LUN {lun} {disk} {wwid:?} map {}, page 83 of {:?} bytes", kernel.release, map.is_some(), place.get(3));
            luns.extend(map.clone().map(|map| (map, format!("{product} {lun}"))));
        }
        for lun in 0..10 {
            let disk = places.lines().find(|line| line.contains(&format!(" {lun} PLAIN"))).unwrap().split(' ').next().unwrap();
            let probe = guest.run(&format!("corepath probe {disk} 2>&1")).ok();
            println!("vm: {} LUN {lun}:\n{}", kernel.release, probe.lines().filter(|line| line.starts_with("vpd 8")).collect::<Vec<_>>().join("\n"));
            assert!(probe.lines().count() < 40 && probe.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{probe:?}");
        }
        luns.sort();
        luns.dedup();
        let mut names: Vec<&String> = luns.iter().map(|(map, _)| map).collect();
        names.dedup();
        assert_eq!(names.len(), luns.len(), "two LUNs in one map: {luns:?}");
        let claimed = |lun: u8| luns.iter().any(|(_, l)| *l == format!("PLAIN {lun}"));
        // What did not arrive of LUN 1's page the kernel has filled up, so it has an identity of its own all the same.
        for (lun, taken) in [(0, true), (1, true), (3, false), (4, false), (5, false), (6, false), (9, false)] {
            assert_eq!(claimed(lun), taken, "LUN {lun}: {luns:?}");
        }

        let daemon = guest.spawn("exec corepath daemon --strict 2>/dev/null");
        c.until_usable(6);
        u.until_usable(6);
        let (a, b) = (vec!["a10", "a11", "a12"], vec!["b10", "b11", "b12"]);
        let (a2, b2) = (vec!["a20", "a21", "a22"], vec!["b20", "b21", "b22"]);
        let whole = |when: &str| {
            assert_eq!((c.groups(0), u.groups(0)), (vec![a.clone(), b.clone()].into_iter().map(|g| g.into_iter().map(String::from).collect()).collect(), vec![a2.clone(), b2.clone()].into_iter().map(|g| g.into_iter().map(String::from).collect()).collect::<Vec<Vec<String>>>()), "{when}");
            assert_eq!((clariion.number("trespasses"), clariion.number("count op=MODE_SELECT_10")), (0, 0), "{when}");
            assert_eq!((alua.number("trespasses"), alua.number("count op=MAINTENANCE_OUT")), (0, 0), "{when}");
            assert!(guest.ok("corepath status").contains("page faults since the seal: 0 minor, 0 major"), "{when}");
        };
        whole("before");
        let maps = [wwid("C", 0), wwid("U", 0), wwid("P", 0)];
        let jobs = maps.each_ref().map(|map| guest.spawn(&format!("exec lab write /dev/mapper/{map} --size 4m --offset 4m --direct --rate 200")));

        // The lists that the prioritizer asks for. (The kernel's own handler gets them, too.)
        let mut answers: Vec<String> = lists.iter().map(|file| format!("@{file}")).collect();
        answers.extend(["00000000", "ffffffff", "7fffffff808f000100000001"].map(String::from));
        for answer in &answers {
            alua.say(&format!("rule add op=MAINTENANCE_IN do data={answer}"));
            let asked = alua.number("count op=MAINTENANCE_IN");
            alua.say(&format!("wait 20 {} count op=MAINTENANCE_IN", asked + 4));
            alua.say("rule del all");
            assert_eq!(guest.ok("corepath status | grep -c ' 6 usable'"), "2", "{answer}");
        }
        whole("lists of groups");

        // One controller's pages: its paths stay out one by one, and the LUN stays where it is.
        for (port, answer) in [("a10", "00c0"), ("a11", "00c000ff0201000000ff"), ("a10", "0080002d"), ("a11", &hex(&[0xc0; 200]))] {
            clariion.say(&format!("rule add op=INQUIRY page=c0 port={port} do data={answer}"));
            c.until_usable(5);
            clariion.say("rule del all");
            c.until_usable(6);
        }
        whole("pages C0");
        // A layout that nobody knows, on every path: I/O waits until it is the known one again.
        let mut unknown = [0; 49];
        (unknown[1], unknown[4], unknown[9]) = (0xc0, 2, 9);
        let rules: Vec<String> = ["a", "b"].iter().map(|sp| clariion.say(&format!("rule add op=INQUIRY page=c0 sp={sp} do data={}", hex(&unknown)))).collect();
        guest.until(&format!("corepath status | grep '^{}' | grep -q 'NO USABLE PATH'", maps[0]), LONG);
        assert!(guest.ok("corepath log").contains("page C0 has a layout that is not known, revision 0x09"));
        for (rule, usable) in rules.iter().zip([3, 6]) {
            clariion.say(&format!("rule del {}", rule.trim().trim_start_matches("rule ")));
            c.until_usable(usable);
        }
        whole("an unknown revision");

        // One answer in ten to everything but the data's own commands.
        for (seed, array) in [(7, &clariion), (8, &alua), (9, &plain)] {
            for filter in ["op=INQUIRY", "op=TEST_UNIT_READY", "op=MAINTENANCE_IN", "op=READ_10 lba=0-7"] {
                array.say(&format!("garbage 10 seed={seed} {filter}"));
            }
            array.say("counters reset");
        }
        std::thread::sleep(Duration::from_secs(6));
        let heard: u64 = [&clariion, &alua, &plain].iter().map(|array| array.number("count op=INQUIRY") + array.number("count op=TEST_UNIT_READY") + array.number("count op=MAINTENANCE_IN")).sum();
        let log = guest.ok("corepath log");
        println!("vm: {} {heard} answers, of which one in ten was garbled; the daemon said:\n{log}", kernel.release);
        for array in [&clariion, &alua, &plain] {
            array.say("rule del all");
        }
        c.until_usable(6);
        u.until_usable(6);
        whole("garbage");
        for (job, map) in jobs.into_iter().zip(&maps) {
            job.signal(15);
            let said = job.wait(LONG);
            let last = said.text().lines().last().unwrap_or("").to_string();
            println!("vm: {} {map}: {last}", kernel.release);
            assert!(said.code == 0 && last.contains("errors=0 wrong=0"), "{}", said.text());
            assert!(agent::marker(&last, "@written", "written").and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n > 200), "{last}");
        }
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}
