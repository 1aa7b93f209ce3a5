//! `corepath probe` on paths of every kind of array, in both its forms: what is well, what is wrong, and what does not answer.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::site::{Site, wwid};
use crate::lab::{Array, Guest, Vm, rounds};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

const PERSONAS: [&str; 5] = ["clariion", "alua", "rdac", "hpsw", "plain"];

/// The screen, on the console; and the document, which says the same.
fn probe(guest: &Guest, device: &str, status: i32) -> (String, Value) {
    let text = guest.run(&format!("corepath probe {device}"));
    println!("vm: # corepath probe {device}\n{}\n", text.text());
    let text = if status == 0 { text.ok() } else { text.fails(status) };
    let document = guest.run(&format!("corepath probe --json {device} 2>/dev/null"));
    let document = if status == 0 { document.ok() } else { document.fails(status) };
    (text, serde_json::from_str(&document).unwrap_or_else(|e| panic!("{e}:\n{document}")))
}

/// The entry of one VPD page that has this key.
fn page(document: &Value, page: &str, key: &str) -> Value {
    let pages = document["vpd"].as_array().unwrap_or_else(|| panic!("no pages: {document}"));
    pages.iter().find(|p| p["page"] == page && !p[key].is_null()).unwrap_or_else(|| panic!("no {key} in page {page}: {document}"))[key]
        .clone()
}

scenario! {
    /// Five arrays behind one host, a path of each through either controller; a disk with one path; a set-up that is wrong; an SP that answers
    /// nothing; and names that are none.
    fn a_path_on_one_screen(kernel) {
        let serial = |n: usize| format!("S{n}");
        let arrays: Vec<Array> = PERSONAS
            .iter()
            .enumerate()
            .map(|(n, persona)| Array::start(persona, &[&format!("a{n}"), &format!("b{n}")], &format!("--serial {} --luns 1,size=16M", serial(n))))
            .collect();
        let guest = arrays.iter().fold(Vm::new(kernel).corepath().lun("alone", 16 << 20, 1), Vm::array).boot();
        guest.ok("rmmod virtio_scsi && modprobe -a scsi_dh_emc scsi_dh_alua scsi_dh_rdac scsi_dh_hp_sw dm_multipath dm_service_time && modprobe virtio_scsi");
        let sites: Vec<Site<'_>> = arrays.iter().enumerate().map(|(n, array)| Site::find(&guest, array, &serial(n), 1)).collect();
        let handlers = ["emc", "alua", "rdac", "hp_sw", "none"];
        let checkers = ["emc_clariion", "tur", "rdac", "hp_sw", "tur"];
        let priorities = [["emc", "alua", "rdac", "hp_sw", "const"], ["4", "50", "6", "4", "1"], ["1", "10", "1", "2", "1"]];
        for (n, site) in sites.iter().enumerate() {
            let disks = ["a", "b"].map(|side| site.disk(0, &format!("{side}{n}")));
            for (side, disk) in disks.iter().enumerate() {
                let (text, got) = probe(&guest, disk, 0);
                let wwid = wwid(&serial(n), 0);
                assert!(text.lines().count() < 30 && text.lines().all(|line| line.len() < 240), "more than a screen");
                assert_eq!(got["disk"]["name"], **disk);
                assert_eq!(got["identity"]["wwid"], wwid);
                assert_eq!(page(&got, "83", "naa"), wwid[1..]);
                assert_eq!(page(&got, "83", "wwid"), wwid);
                assert_eq!(page(&got, "83", "relative_port"), side as i64 + 1);
                assert!(page(&got, "80", "serial").as_str().unwrap().starts_with(&serial(n)));
                assert_eq!((&got["kernel"]["state"], &got["kernel"]["handler"]), (&json!("running"), &json!(handlers[n])));
                assert_eq!((&got["checker"]["name"], &got["checker"]["prio"]), (&json!(checkers[n]), &json!(priorities[0][n])));
                assert_eq!(got["checker"]["value"].to_string(), priorities[1 + side][n], "{text}");
                let passive = side == 1 && matches!(PERSONAS[n], "rdac" | "hpsw");
                assert_eq!(got["checker"]["state"], if passive { "ghost" } else { "ready" }, "{text}");
                assert_eq!((&got["plan"]["claim"], &got["plan"]["reason"]), (&json!(true), &json!("several-paths")));
                // What it shows is what is loaded then: by the first path of each group, at least.
                let table = got["map"]["table"].as_str().unwrap();
                let numbers = disks.each_ref().map(|disk| guest.ok(&format!("cat /sys/block/{disk}/dev")));
                let at = numbers.map(|number| table.find(&format!(" 1 {number} 1")).unwrap_or_else(|| panic!("{number} is not in {table}")));
                assert!(table.starts_with("0 32768 multipath ") && at[0] < at[1] && table.contains(&format!(" 1 {} ", handlers[n])) == (handlers[n] != "none"));
                let sp = ["A", "B"][side];
                let expect = |code: &str, keys: &[&str], values: &[&str]| {
                    let found: Vec<String> = keys.iter().map(|key| page(&got, code, key).to_string().replace('"', "")).collect();
                    assert_eq!(found, values, "{text}");
                };
                match PERSONAS[n] {
                    "clariion" => expect(
                        "c0",
                        &["sp", "port", "owner", "default_owner", "failover_mode", "initiator_type", "array_comm_path", "wrong"],
                        &[sp, "0", "A", "A", "4 (passive not ready)", "3", "true", "nothing"],
                    ),
                    "rdac" => {
                        expect("c4", &["controller"], &[sp]);
                        let wrong = if side == 0 { "nothing" } else { "the other controller owns the volume" };
                        expect("c9", &["owner", "default_owner", "mode", "wrong"], &["A", "A", "RDAC", wrong]);
                    }
                    "alua" => {
                        let group = |n: i64, state: &str| json!({"id": n, "state": state, "preferred": n == 1, "here": n == side as i64 + 1, "ports": n.to_string()});
                        assert_eq!(got["groups"], json!([group(1, "active/optimized"), group(2, "active/non-optimized")]));
                        expect("83", &["port_group"], &[if side == 0 { "1" } else { "2" }]);
                    }
                    _ => {}
                }
            }
            let sent = ["START_STOP_UNIT", "MAINTENANCE_OUT", "WRITE_10"].map(|op| arrays[n].number(&format!("count op={op}")));
            assert_eq!((sent, arrays[n].number("trespasses")), ([0; 3], 0), "it only asks");
        }

        // By another name, live, and held.
        let disk = sites[4].disk(0, "a4");
        guest.ok(&format!("corepath boot --timeout 20 >&2; ln -s ../{disk} /dev/disk-by-a-link; mkdir -p /dev/by; ln -s ../{disk} /dev/by/link"));
        let (_, live) = probe(&guest, "/dev/by/link", 0);
        assert_eq!((&live["disk"]["name"], &live["map"]["live"]), (&json!(disk), &json!(true)));
        assert!(live["kernel"]["held_by"].as_str().unwrap().starts_with("dm device "), "{live}");
        let number = guest.ok(&format!("cat /sys/block/{disk}/dev"));
        assert_eq!(probe(&guest, &number, 0).1["disk"]["name"], *disk);
        let alone = guest.disk("alone.0").unwrap();
        let (_, single) = probe(&guest, &alone, 0);
        assert_eq!((&single["plan"]["claim"], &single["plan"]["reason"], &single["checker"]["state"]), (&json!(false), &json!("single-path"), &json!("ready")));

        // Wrong set-ups of a CLARiiON, each by its name.
        let (disk, other) = (sites[0].disk(0, "a0"), sites[0].disk(0, "b0"));
        for (verb, wrong, back) in [
            ("clariion failover 1", "failover mode is neither 4 (passive not ready) nor 6 (ALUA) but 0x01", "clariion failover 4"),
            ("clariion comm-path off", "arraycommpath is off for this host", "clariion comm-path on"),
            ("clariion initiator 2", "this host is not registered as CLARiiON Open (3) but as initiator type 0x02", "clariion initiator 3"),
            ("clariion ndu a on", "an upgrade of the storage processor is under way, code 0x01", "clariion ndu a off"),
            ("clariion revision 9", "page C0 has a layout that is not known, revision 0x09", "clariion revision 0"),
        ] {
            arrays[0].say(verb);
            let (text, got) = probe(&guest, &disk, 0);
            assert_eq!(page(&got, "c0", "wrong"), wrong, "{text}");
            assert_eq!(got["checker"]["because"], wrong, "{text}");
            arrays[0].say(back);
        }
        // The LUN moves, and is asked anew.
        arrays[0].say("lun 0 trespass b by=otherhost");
        for (disk, sp) in [(&disk, "A"), (&other, "B")] {
            let (_, got) = probe(&guest, disk, 0);
            assert_eq!((page(&got, "c0", "sp"), page(&got, "c0", "owner"), page(&got, "c0", "default_owner")), (json!(sp), json!("B"), json!("A")));
        }
        arrays[0].say("lun 0 unbound on");
        assert_eq!(page(&probe(&guest, &disk, 0).1, "c0", "wrong"), "no LUN is bound here");
        arrays[0].say("lun 0 unbound off");

        // A dead port, and one that keeps what it is asked: the screen comes all the same.
        let disk = sites[1].disk(0, "a1");
        arrays[1].say("down a1");
        let (text, _) = probe(&guest, &disk, 0);
        assert!(text.contains("fault host byte 0x04 (bad target)") && text.contains("state faulty"), "{text}");
        arrays[1].say("up a1");
        // Twenty seconds of patience; a thread that waits for the disk keeps the process until it is free.
        for _ in 0..rounds(0, 1) {
            arrays[1].say("hang a1");
            let hung = guest.spawn(&format!("corepath probe {disk}"));
            hung.line("plan ", LONG);
            println!("vm: {} a port that keeps what it is asked:\n{}", kernel.release, hung.so_far());
            arrays[1].say("release a1");
            assert!(hung.wait(LONG).fails(2).contains("no answer"));
        }

        for (device, says) in [
            ("sdzz", "probe: no disk 'sdzz' in sysfs"),
            ("/dev/nothing/here", "probe: /dev/nothing/here: ENOENT"),
            ("/proc/mounts", "probe: /proc/mounts is no block device"),
            ("../../etc", "is no block device"),
            ("", "probe: "),
            ("sda sdb", "probe: "),
            ("--jsno sda", "probe: "),
        ] {
            let said = guest.run(&format!("corepath probe {device} 2>&1")).fails(1);
            assert!(said.contains(says) && said.lines().count() == 1, "{device}: {said}");
        }
        let map = wwid(&serial(4), 0);
        for device in [map.clone(), format!("/dev/mapper/{map}"), "dm-0".to_string()] {
            let said = guest.run(&format!("corepath probe {device} 2>&1")).fails(1);
            assert!(said.contains("is a map; ask one of its paths: sd"), "{said}");
        }
    }
}
