//! The daemon where it hurts: no memory, targets that hang, kill -9, disks that go and come.

use std::time::Duration;

use crate::lab::pressure::{Plan, exhaust};
use crate::lab::{Array, Guest, Kernel, Vm, peer, rounds, spread};
use crate::scenario;

const MIB: u64 = 1 << 20;

/// Queues for ever, checks often: what waits is then the daemon and not its schedule.
const QUEUE: &[u8] = b"defaults {\n\tno_path_retry queue\n\tpath_checker tur\n\tpolling_interval 1\n\tmax_polling_interval 2\n}\n";

/// As [`QUEUE`] with all paths in one group: a path that is down when the daemon starts then differs in nothing.
const ONE_GROUP: &[u8] =
    b"defaults {\n\tno_path_retry queue\n\tpath_grouping_policy multibus\n\tpolling_interval 1\n\tmax_polling_interval 2\n}\n";

const MODULES: &str = "modprobe dm_multipath; modprobe dm_service_time";

/// Waits until so many maps have two usable paths and a name; gives the names, sorted.
#[track_caller]
fn maps(guest: &Guest, count: usize) -> Vec<String> {
    guest.until(&format!("[ $(corepath status | grep -c '2 usable') = {count} ]"), Duration::from_secs(20));
    guest.until(&format!("[ $(ls /dev/mapper | grep -vc control) = {count} ]"), Duration::from_secs(5));
    guest.ok("ls /dev/mapper | grep -v control | sort").lines().map(String::from).collect()
}

/// When the daemon said that a path was reinstated, by the kernel's log, on the guest's clock: when the line was written, so at most early.
fn reinstated(log: &str) -> Vec<Duration> {
    let lines = log.lines().filter(|line| line.contains("corepath: ") && line.contains("reinstated"));
    let seconds = lines.filter_map(|line| line.trim_start_matches('[').split(']').next()?.trim().parse::<f64>().ok());
    seconds.map(Duration::from_secs_f64).collect()
}

scenario! {
    /// What this project exists for: every path down, memory exhausted with swap on a map, and paths are reinstated when the ports answer.
    /// (COREPATH_VM_ROUNDS=full: five times, 40 s each.)
    fn daemon_recovers_without_memory(kernel) {
        let times = rounds(1, 5);
        let all: Vec<Duration> = (0..times).flat_map(|_| recovers(kernel)).collect();
        println!("vm: {} recovered {times} of {times}; from the ports' answer to a path's reinstatement: {}", kernel.release, spread(all));
    }
}

scenario! {
    /// The same with the peer in our place, to be printed beside it: nothing is asserted of it. Only in a full run.
    fn the_peer_without_memory(kernel) {
        for _ in 0..rounds(0, 1) {
            let array = Array::start("plain", &["a0", "a1"], "--luns 2,size=512M");
            let conf = String::from_utf8_lossy(QUEUE).replace("defaults {", "defaults {\n\tfind_multipaths greedy");
            let mut guest = peer::with_multipath_tools(Vm::new(kernel).array(&array), &conf).memory(768).alone().limit(Duration::from_secs(400)).boot();
            peer::start_udev(&guest);
            guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 4 ]", Duration::from_secs(20));
            let _daemon = peer::start_multipathd(&guest);
            guest.until("[ $(multipathd show paths raw format %t | grep -c active) = 4 ]", Duration::from_secs(60));
            // Their names are udev's work.
            guest.until("[ $(ls /dev/mapper | grep -vc control) = 2 ]", Duration::from_secs(60));
            let maps = guest.ok("ls /dev/mapper | grep -v control | sort");
            let (data, swap) = maps.split_once('\n').unwrap();
            let outcome = exhaust(&mut guest, &array, &format!("/dev/mapper/{data}"), &format!("/dev/mapper/{swap}"), Plan::default());
            let end = if outcome.stuck.is_empty() { "recovered" } else { "did not recover within 90 s" };
            println!("vm: {} the peer {end}: writers resumed after {:?}, stuck {:?}, least memory {} KiB", kernel.release, outcome.resumed, outcome.stuck, outcome.least);
        }
    }
}

/// One outage without memory; when each path was reinstated after the ports answered.
fn recovers(kernel: &Kernel) -> Vec<Duration> {
    let array = Array::start("plain", &["a0", "a1"], "--luns 2,size=512M");
    let mut guest = Vm::new(kernel).corepath().array(&array).memory(768).file("/etc/multipath.conf", 0o644, QUEUE).alone().boot();
    guest.ok(MODULES);
    guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 4 ]", Duration::from_secs(20));
    let daemon = guest.spawn("exec corepath daemon --strict");
    let maps = maps(&guest, 2);
    let plan = Plan { outage: Duration::from_secs(u64::from(rounds(20, 40))), ..Plan::default() };
    let outcome = exhaust(&mut guest, &array, &format!("/dev/mapper/{}", maps[0]), &format!("/dev/mapper/{}", maps[1]), plan);
    assert!(outcome.stuck.is_empty(), "{:?}", outcome.stuck);
    assert!(outcome.least < 32 << 10, "that was no memory pressure: {} KiB were available", outcome.least);
    let log = guest.spawn("dmesg").wait(Duration::from_secs(60)).ok();
    // The ports answered a little before the host could note it.
    let after: Vec<Duration> = reinstated(&log).into_iter().map(|t| t.saturating_sub(outcome.up)).collect();
    println!(
        "vm: {} daemon: reinstated {after:?} after the ports answered, writers resumed after {:?}, least memory {} KiB",
        kernel.release, outcome.resumed, outcome.least
    );
    assert_eq!(after.len(), 4, "{log}");
    assert!(after.iter().min().is_some_and(|first| *first < Duration::from_millis(1500)), "{after:?}");
    assert!(!daemon.ended());
    let status = guest.spawn("corepath status").wait(Duration::from_secs(30)).ok();
    assert!(status.contains("page faults since the seal: 0 minor, 0 major"), "{status}");
    after
}

scenario! {
    /// One port swallows every command: status answers at once, the other array is checked as ever and its failures are seen, `stop` stops,
    /// and the next daemon takes over.
    fn hung_target_hangs_nothing(kernel) {
        let hung = Array::start("plain", &["a0", "a1"], "--luns 2,size=64M --serial hung");
        let well = Array::start("plain", &["b0", "b1"], "--luns 1,size=64M --serial well");
        let guest = Vm::new(kernel).corepath().array(&hung).array(&well).file("/etc/multipath.conf", 0o644, QUEUE).boot();
        guest.ok(MODULES);
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 6 ]", Duration::from_secs(20));
        let daemon = guest.spawn("exec corepath daemon --strict");
        maps(&guest, 3);

        hung.say("hang a0");
        std::thread::sleep(Duration::from_secs(4));
        let checks = || ["b0", "b1"].map(|port| well.number(&format!("count port={port} op=TEST_UNIT_READY")));
        let (before, since) = (checks(), guest.clock());
        let mut slowest = Duration::ZERO;
        for _ in 0..8 {
            let asked = guest.run("corepath status");
            slowest = slowest.max(asked.took());
            asked.ok();
            std::thread::sleep(Duration::from_millis(500));
        }
        let (after, time) = (checks(), guest.clock() - since);
        println!("vm: {} a port hangs: status within {slowest:?}; checks of the other array in {time:?}: {before:?} to {after:?}", kernel.release);
        assert!(slowest < Duration::from_millis(500), "{slowest:?}");
        for (before, after) in before.iter().zip(after) {
            assert!(after >= before + 2, "the other array was not checked: {before} to {after}");
        }
        well.say("down b0");
        guest.until("corepath status | grep -q '1 usable'", Duration::from_secs(8));
        well.say("up b0");
        guest.until("corepath status | grep -c '2 usable' | grep -qx 3", Duration::from_secs(8));

        let stop = guest.run("corepath stop");
        println!("vm: {} a port hangs: stop took {:?}", kernel.release, stop.took());
        assert!(stop.took() < Duration::from_secs(2), "{:?}", stop.took());
        stop.ok();
        // The worker that sleeps in the kernel keeps the process's remains until its command ends, but nothing of it answers.
        guest.until("! corepath status", Duration::from_secs(2));
        let _next = guest.spawn("exec corepath daemon --strict");
        guest.until("corepath status | grep -q 'usable'", Duration::from_secs(10));
        hung.say("release a0");
        daemon.wait(Duration::from_secs(10));
        guest.until("[ $(corepath status | grep -c '2 usable') = 3 ]", Duration::from_secs(20));
    }
}

scenario! {
    /// Each path in turn is unplugged while data is written and plugged in again: out of the map, in again, no error.
    fn paths_are_unplugged(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 64 * MIB, 2).file("/etc/multipath.conf", 0o644, QUEUE).boot();
        guest.ok(MODULES);
        let daemon = guest.spawn("exec corepath daemon --strict");
        let map = maps(&guest, 1).remove(0);
        let writer = guest.spawn(&format!("exec lab write /dev/mapper/{map} --size 16m --direct --rate 400"));
        for device in ["a.0", "a.1", "a.0", "a.1"] {
            let path = guest.disk(device).unwrap();
            guest.unplug(device);
            guest.until(&format!("[ ! -e /sys/block/{path} ]"), Duration::from_secs(10));
            guest.until("corepath status | grep -q '1 usable' && [ $(ls /sys/block/dm-0/slaves | wc -l) = 1 ]", Duration::from_secs(10));
            guest.plug(device);
            guest.until("corepath status | grep -q '2 usable' && [ $(ls /sys/block/dm-0/slaves | wc -l) = 2 ]", Duration::from_secs(10));
        }
        writer.signal(15);
        let output = writer.wait(Duration::from_secs(60));
        let last = output.text().lines().last().unwrap_or("").to_string();
        println!("vm: {} unplugged four times: {last}", kernel.release);
        assert!(output.code == 0 && last.contains("errors=0 wrong=0"), "{}", output.text());
        assert!(guest.ok("corepath status").contains("page faults since the seal: 0 minor, 0 major"));
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(Duration::from_secs(5)).code, 0);
    }
}

/// Microseconds into a failover or failback at which round `n` kills: anywhere within the first one and a quarter second, which is how long
/// a path may wait for its check; the same each time.
fn moment(n: usize) -> u64 {
    (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_250_000
}

scenario! {
    /// Killed in the middle of failovers and failbacks, started again: it adopts what is live and loads nothing; the writer sees no error.
    fn killed_daemon_adopts(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 64 * MIB, 2).lun("b", 64 * MIB, 2).file("/etc/multipath.conf", 0o644, ONE_GROUP).boot();
        guest.ok(MODULES);
        let mut daemon = guest.spawn("exec corepath daemon --strict");
        let map = maps(&guest, 2).remove(0);
        let writer = guest.spawn(&format!("lab write /dev/mapper/{map} --size 16m --direct --rate 400"));
        let path = guest.disk("a.0").unwrap();
        for round in 0..rounds(6, 20) as usize {
            let (state, usable) = if round % 2 == 0 { ("offline", "1 usable") } else { ("running", "2 usable") };
            guest.ok(&format!("echo {state} > /sys/block/{path}/device/state; usleep {}", moment(round)));
            daemon.signal(9);
            daemon.wait(Duration::from_secs(5));
            daemon = guest.spawn("exec corepath daemon --strict");
            guest.until(&format!("corepath status | grep '^{map} ' | grep -q '{usable}'"), Duration::from_secs(10));
            guest.until("corepath status | head -n 1 | grep -q running", Duration::from_secs(5));
            let metrics = guest.ok("corepath metrics");
            let loads: Vec<&str> = metrics.lines().filter(|line| line.starts_with("corepath_map_loads_total{")).collect();
            assert_eq!(loads.len(), 2, "{metrics}");
            assert!(loads.iter().all(|line| line.ends_with(" 0")), "a table was loaded in round {round}: {metrics}");
        }
        writer.signal(15);
        let output = writer.wait(Duration::from_secs(60));
        let last = output.text().lines().last().unwrap_or("").to_string();
        println!("vm: {} killed {} times: {last}", kernel.release, rounds(6, 20));
        assert!(output.code == 0 && last.contains("errors=0 wrong=0"), "{}", output.text());
    }
}
