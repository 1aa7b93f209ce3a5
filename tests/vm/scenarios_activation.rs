//! Activation by corepath itself: no scsi_dh handler is there, so the LUNs of four kinds of arrays move because the daemon asks them to.
//! The arrays' own logs say what was sent, how often, and that ownership was read before and after.

use std::time::Duration;

use crate::lab::site::{Site, verified};
use crate::lab::{Array, Vm, rounds};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

const CONFIGURATION: &[u8] = b"defaults {\n\tpolling_interval 1\n\tmax_polling_interval 2\n\tno_path_retry queue\n}\n\
    overrides {\n\tfailback immediate\n}\n";

/// One array: what moves its LUNs, and what is asked about who has them (opcode, and how such a command begins).
struct Kind<'a> {
    site: Site<'a>,
    take: &'a str,
    ask: (&'a str, &'a str),
    luns: u16,
}

impl Kind<'_> {
    /// Every take-over since `since` went through a port of `sp`, one for each LUN, each after a question and before another one through
    /// the same port. Gives what was sent.
    #[track_caller]
    fn asked_once(&self, since: &str, sp: char) -> Vec<String> {
        let array = self.site.array;
        let mut sent = Vec::new();
        for lun in 0..self.luns {
            let log = array.say(&format!("log since={since} lun={lun} op={}", self.take));
            let lines: Vec<&str> = log.lines().collect();
            let [line] = lines.as_slice() else { panic!("LUN {lun} is to be taken over once:\n{log}") };
            let word = |key: &str| line.split_ascii_whitespace().find_map(|w| w.strip_prefix(key)).unwrap_or("").to_string();
            let port = word("port=");
            assert!(port.starts_with(sp) && word("status=") == "00", "{line}");
            let (ask, cdb) = self.ask;
            let around = array.say(&format!("log since={since} lun={lun} port={port} op={},{ask}", self.take));
            let around: Vec<&str> = around.lines().filter(|other| other == line || other.contains(&format!("cdb={cdb}"))).collect();
            let at = around.iter().position(|other| other == line).unwrap_or(0);
            assert!(at > 0 && at + 1 < around.len(), "ownership is read before and after:\n{}", around.join("\n"));
            sent.push(format!("{}{}", word("cdb="), if word("out=").is_empty() { String::new() } else { format!(" {}", word("out=")) }));
        }
        sent
    }
}

scenario! {
    /// CLARiiON, ALUA, RDAC and HP at once: side A is pulled and comes back, first with `--own-activation`, then with a daemon that finds
    /// the handlers' modules in depmod's index but cannot load them. Then a trespass that never ends on one of the CLARiiON's LUNs, and
    /// another host that takes the other one again and again.
    fn without_a_handler_corepath_activates(kernel) {
        let cx = four("clariion", 1, "--serial CX1 --lun 0,size=8M,owner=a --lun 1,size=8M,owner=a");
        let alua = four("alua", 2, "--serial AL2 --lun 0,size=8M,owner=a");
        let rdac = four("rdac", 3, "--serial RD3 --lun 0,size=8M,owner=a");
        let hp = four("hpsw", 4, "--serial HP4 --lun 0,size=8M,owner=a");
        // What is not optimized does not serve at all, and a change takes its time.
        alua.say("alua demote standby");
        alua.say("alua 2 standby");
        alua.say("alua transition 1");
        let vm = Vm::new(kernel).corepath().array(&cx).array(&alua).array(&rdac).array(&hp);
        let guest = vm.file("/etc/multipath.conf", 0o644, CONFIGURATION).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let kind = |array, serial, luns, take, ask| Kind { site: Site::find(&guest, array, serial, luns), take, ask, luns };
        let kinds = [
            kind(&cx, "CX1", 2, "MODE_SELECT_10,MODE_SELECT_6", ("INQUIRY", "1201c0")),
            kind(&alua, "AL2", 1, "MAINTENANCE_OUT", ("MAINTENANCE_IN", "a3")),
            kind(&rdac, "RD3", 1, "MODE_SELECT_10", ("INQUIRY", "1201c9")),
            kind(&hp, "HP4", 1, "START_STOP_UNIT", ("TEST_UNIT_READY", "00")),
        ];
        let (mut slowest, mut moves) = (0, 0);
        for phase in ["--own-activation", "no module"] {
            let daemon = guest.spawn(&format!("exec corepath daemon --strict {}", if phase == "no module" { "" } else { phase }));
            for kind in &kinds {
                kind.site.until_usable(4);
                for lun in 0..kind.luns {
                    assert_eq!((kind.site.handler(lun).as_str(), kind.site.owner(lun)), ("", 'a'), "{}", kind.take);
                }
            }
            let jobs: Vec<_> = kinds.iter().flat_map(|kind| kind.site.writers(&(0..kind.luns).collect::<Vec<_>>())).collect();
            std::thread::sleep(Duration::from_secs(1));
            for (to, usable) in [('b', 2), ('a', 4)] {
                let since: Vec<String> = kinds.iter().map(|kind| kind.site.array.say("log next").trim().to_string()).collect();
                moves += 1;
                for kind in &kinds {
                    kind.site.array.say(if to == 'b' { "down sp=a" } else { "up sp=a" });
                }
                if to == 'a' {
                    // HP's controllers have no preference: its LUN stays until the other side fails.
                    kinds[3].site.until_usable(4);
                    assert_eq!(kinds[3].site.owner(0), 'b');
                    hp.say("down sp=b");
                }
                for kind in &kinds {
                    kind.site.until_moves(&vec![moves; usize::from(kind.luns)], LONG);
                }
                hp.say("up sp=b");
                for kind in &kinds {
                    kind.site.until_usable(usable);
                }
                // Nothing follows: no second trespass, no STPG that changes nothing.
                guest.ok("sleep 2");
                if to == 'a' && phase != "no module" {
                    let asked = alua.number("count op=MAINTENANCE_IN");
                    guest.ok("sleep 4");
                    let reports = alua.number("count op=MAINTENANCE_IN") - asked;
                    println!("vm: four paths of one LUN, checked every 1 to 2 s, make {reports} REPORT TARGET PORT GROUPS in 4 s");
                    assert!(reports <= 8, "one report for each group and round, not for each path: {reports} in 4 s");
                }
                for (kind, since) in kinds.iter().zip(&since) {
                    let sent = kind.asked_once(since, to);
                    println!("vm: {phase}, to {to}: {}", sent.iter().map(|s| &s[..s.len().min(80)]).collect::<Vec<_>>().join(" | "));
                    assert_eq!(kind.site.moves(), vec![moves; usize::from(kind.luns)]);
                }
                // From now on the CLARiiON is one of the FC series, which is trespassed the short way.
                cx.say("clariion model FC4700");
            }
            slowest = slowest.max(verified(jobs, phase));
            if phase == "no module" {
                blocked(&kinds[0].site);
                quarrel(&kinds[0].site);
            }
            daemon.signal(15);
            assert_eq!(daemon.wait(LONG).code, 0);
            assert_eq!(guest.run("ls -d /sys/module/scsi_dh_* 2>/dev/null").text().trim(), "", "no handler was loaded");
            guest.run("rm -r /lib/modules/*/kernel/drivers/scsi/device_handler");
        }
        println!("vm: {} activations of five LUNs by corepath itself, slowest write {slowest} ms", 5 * moves);
    }
}

/// Another host takes LUN 1 to B again and again: it is fetched back once at most, then left there, and that is said.
fn quarrel(site: &Site<'_>) {
    let jobs = site.writers(&[1]);
    let (since, moved) = (site.array.say("log next").trim().to_string(), site.moves()[1]);
    let secs = rounds(2, 5);
    site.array.say(&format!("every {secs} lun 1 trespass b by=otherhost"));
    site.until_says("another host took the LUN back", 1);
    site.guest.ok(&format!("sleep {}", rounds(5, 60)));
    let ours = site.array.say(&format!("log since={since} lun=1 op=MODE_SELECT_10,MODE_SELECT_6")).lines().count();
    println!("vm: another host trespasses every {secs} s: {} moves, {ours} of them ours", site.moves()[1] - moved);
    assert!(ours <= 1 && site.owner(1) == 'b', "{ours} MODE SELECTs");
    site.array.say("cancel all");
    verified(jobs, "another host trespasses");
}

/// A trespass of LUN 1 that never ends: LUN 0 fails over all the same, and the status names LUN 1.
fn blocked(site: &Site<'_>) {
    let jobs = site.writers(&[0, 1]);
    std::thread::sleep(Duration::from_secs(1));
    let moved = site.moves();
    site.array.say("lun 1 stuck on");
    site.array.say("down sp=a");
    site.until_moves(&[moved[0] + 1, moved[1]], LONG);
    site.until_says("ITS LUN IS BEING ACTIVATED", 1);
    let before = (site.array.written(0), site.array.written(1));
    site.guest.ok("sleep 2");
    let after = (site.array.written(0), site.array.written(1));
    assert!(after.0 > before.0 + 20 && after.1 == before.1, "{before:?} {after:?}");
    let status = site.guest.ok("corepath status");
    let line = status.lines().find(|line| line.contains("ITS LUN IS BEING ACTIVATED")).unwrap_or("");
    assert!(line.starts_with(&site.map(1)), "{status}");
    site.array.say("lun 1 stuck off");
    site.until_moves(&[moved[0] + 1, moved[1] + 1], LONG);
    site.array.say("up sp=a");
    site.until_moves(&[moved[0] + 2, moved[1] + 2], LONG);
    site.until_usable(4);
    verified(jobs, "a trespass without end on one LUN");
}

/// An array with two ports on each of two sides; `n` keeps the names of several arrays' ports apart.
pub fn four(persona: &str, n: u8, options: &str) -> Array {
    let ports: Vec<String> = ["a", "b"].iter().flat_map(|sp| [format!("{sp}{n}0"), format!("{sp}{n}1")]).collect();
    Array::start(persona, &ports.iter().map(String::as_str).collect::<Vec<_>>(), options)
}
