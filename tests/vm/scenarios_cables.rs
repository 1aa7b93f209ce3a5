//! Cables out and in under verified writes: how soon paths come back, that nothing is lost, and what each failback mode does.

use std::time::{Duration, Instant};

use crate::lab::{Array, Guest, Vm, agent, rounds, spread};
use crate::scenario;

const LONG: Duration = Duration::from_secs(20);

/// When the kernel said that so many paths were reinstated, on the guest's clock. (Our own lines are limited for each path.) Told apart from
/// earlier ones by their time: a log that is written to while it is read does not always give every line of the past.
fn reinstated_since(guest: &Guest, up: Duration, paths: usize) -> Vec<Duration> {
    let end = Instant::now() + LONG;
    loop {
        let log = guest.ok("dmesg | grep 'Reinstating path' || true");
        let seconds = log.lines().filter_map(|line| line.trim_start_matches('[').split(']').next()?.trim().parse::<f64>().ok());
        let times: Vec<Duration> = seconds.map(Duration::from_secs_f64).filter(|at| *at >= up).collect();
        if times.len() >= paths {
            return times;
        }
        assert!(Instant::now() < end, "{paths} paths answer since {up:?}, and reinstated are: {log}");
    }
}

scenario! {
    /// Each path in turn, both, and all for a while are pulled and restored under direct and buffered writes: no error, no lost or stale
    /// block, and each path is reinstated soon after it answers.
    fn cables_are_pulled_under_writes(kernel) {
        let array = Array::start("plain", &["a0", "a1"], "--luns 1,size=64M");
        let rounds = rounds(3, 50);
        let conf: &[u8] = b"defaults {\n\tno_path_retry queue\n\tpolling_interval 1\n\tmax_polling_interval 2\n}\n";
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, conf).limit(Duration::from_secs(1500));
        // All of it is counted in the end, whatever the rounds.
        let guest = guest.cmdline("log_buf_len=16M").boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; dmesg -n 1");
        let daemon = guest.spawn("exec corepath daemon --strict 2>/dev/null");
        guest.until("corepath status | grep -q '2 usable'", LONG);
        let map = format!("/dev/mapper/{}", guest.until("ls /dev/mapper | grep -v control", LONG).trim());
        // Of a size at which the cache holds little, so that reads come from the disk.
        let direct = guest.spawn(&format!("lab write {map} --size 16m --direct --rate 200 --tag 1 --quiet"));
        let buffered = guest.spawn(&format!("lab write {map} --size 16m --offset 32m --fsync 16 --rate 200 --tag 2 --quiet"));

        let mut after = Vec::new();
        for round in 0..rounds {
            let whole = if round == 0 { crate::lab::rounds(3, 30) } else { 1 };
            for (ports, seconds) in [("a0", 1), ("a1", 1), ("*", 1), ("*", whole)] {
                let paths = if ports == "*" { 2 } else { 1 };
                array.say(&format!("down {ports}"));
                guest.until(&format!("corepath status | grep -q '{} usable'", 2 - paths), LONG);
                std::thread::sleep(Duration::from_secs(u64::from(seconds)));
                let up = guest.clock();
                array.say(&format!("up {ports}"));
                guest.until("corepath status | grep -q '2 usable'", LONG);
                after.extend(reinstated_since(&guest, up, paths).into_iter().map(|at| at.saturating_sub(up)));
            }
        }
        println!("vm: {} {rounds} rounds: from a path's answer to its reinstatement: {}", kernel.release, spread(after.clone()));
        for (writer, name) in [(direct, "direct"), (buffered, "buffered")] {
            writer.signal(15);
            let output = writer.wait(Duration::from_secs(60));
            let last = output.text().lines().last().unwrap_or("").to_string();
            println!("vm: {} {name}: {last}", kernel.release);
            assert!(output.code == 0 && last.contains("errors=0 wrong=0"), "{}", output.text());
            let written = agent::marker(&last, "@written", "written").and_then(|n| n.parse::<u32>().ok());
            assert!(written.is_some_and(|n| n > 100 * rounds), "{last}");
        }
        after.sort_unstable();
        assert_eq!(after.len(), 6 * rounds as usize, "{after:?}");
        assert!(after[after.len() / 2] < Duration::from_millis(1500), "{after:?}");
        assert!(guest.ok("corepath status").contains("page faults since the seal: 0 minor, 0 major"));
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(Duration::from_secs(5)).code, 0);
    }
}

scenario! {
    /// One map for each mode of failback; the better port goes and comes back.
    fn failback_does_what_it_says(kernel) {
        let array = Array::start("plain", &["a0", "a1"], "--luns 4,size=16M");
        let guest = Vm::new(kernel).corepath().array(&array).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 8 ]", LONG);
        // The host whose disks tell relative target port 1 is behind a0.
        let disk = guest.ok("ls /sys/block | grep sd | head -n 1");
        let page = guest.get(&format!("/sys/block/{disk}/device/vpd_pg83"));
        let host = guest.ok(&format!("basename $(readlink -f /sys/block/{disk}/device) | cut -d: -f1"));
        let better = if u16::from_be_bytes([page[30], page[31]]) == 1 { ("a0", "a1") } else { ("a1", "a0") }.0;
        let wwids = guest.ok("cat /sys/block/sd*/device/wwid | sort -u");
        let modes = ["manual", "immediate", "followover", "5"];
        let sections: String = wwids.lines().zip(modes).map(|(wwid, mode)| {
            format!("\tmultipath {{\n\t\twwid 3{}\n\t\talias m{mode}\n\t\tfailback {mode}\n\t}}\n", wwid.trim_start_matches("naa."))
        }).collect();
        let conf = format!(
            "defaults {{\n\tno_path_retry queue\n\tpolling_interval 1\n\tmax_polling_interval 2\n\tpath_grouping_policy group_by_prio\n\tprio weightedpath\n\
             \tprio_args \"hbtl {host}:.:.:. 50 .:.:.:. 10\"\n}}\nmultipaths {{\n{sections}}}\n"
        );
        guest.put("/etc/multipath.conf", 0o644, conf.as_bytes());
        let _daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("[ $(corepath status | grep -c '2 usable') = 4 ] && [ $(ls /dev/mapper | grep -c ^m) = 4 ]", LONG);
        for mode in modes {
            guest.spawn(&format!("exec lab latency /dev/mapper/m{mode}"));
        }
        // Which group a map uses, from the kernel: 1 or 2 is the first letter A in its status.
        let group = |guest: &Guest, mode: &str| {
            let status = guest.ok(&format!("lab dm status m{mode}"));
            status.split_whitespace().filter(|word| matches!(*word, "A" | "E" | "D")).position(|word| word == "A").map(|n| n + 1)
        };
        let all = |guest: &Guest| modes.map(|mode| group(guest, mode));
        let used = |wanted: [usize; 4], why: &str| {
            let seen = all(&guest);
            assert_eq!(seen, wanted.map(Some), "{why} (manual, immediate, followover, 5 s)");
        };
        std::thread::sleep(Duration::from_secs(1));
        used([1; 4], "at first");
        array.say(&format!("down {better}"));
        guest.until("[ $(corepath status | grep -c '1 usable') = 4 ]", LONG);
        std::thread::sleep(Duration::from_secs(1));
        used([2; 4], "the better port is down");
        let up = guest.clock();
        array.say(&format!("up {better}"));
        let mut back = [None; 4];
        while guest.clock() - up < Duration::from_secs(9) {
            let seen = all(&guest);
            let now = guest.clock() - up;
            for (back, seen) in back.iter_mut().zip(seen) {
                if seen == Some(1) {
                    back.get_or_insert(now);
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("vm: {} in the better group again after: manual {:?}, immediate {:?}, followover {:?}, 5 s {:?}", kernel.release, back[0], back[1], back[2], back[3]);
        used([2, 1, 1, 1], "9 s after it came back");
        let deferred = back[3].unwrap();
        assert!(deferred >= Duration::from_secs(5) && deferred > back[1].unwrap() && deferred > back[2].unwrap(), "{back:?}");
        // An administrator's word stands, in both directions; none of it loads a table.
        guest.ok("corepath switch-group mmanual 1 && corepath switch-group mfollowover 2");
        std::thread::sleep(Duration::from_secs(2));
        used([1, 1, 2, 1], "the administrator switched");
        let metrics = guest.ok("corepath metrics | grep -E 'loads_total|switches_total'");
        assert_eq!(metrics.lines().filter(|line| line.contains("loads_total") && line.ends_with(" 1")).count(), 4, "{metrics}");
        println!("vm: {} {metrics}", kernel.release);
        assert!(guest.ok("corepath show m5").contains("prio=50 status=active"));
    }
}
