//! All paths down while the guest's memory is exhausted, with swap on a multipath map: what corepath exists for.
//!
//! The outage is made on the host and costs the guest nothing. Programs that must report are started before, locked,
//! with the console already open; nothing is asked of the guest while its memory is scarce.

use std::time::{Duration, Instant};

use super::agent::marker;
use super::array::Array;
use super::machine::Guest;

/// When what happens, counted from the moment the ports go down.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How long no port answers.
    pub outage: Duration,
    /// When memory begins to be filled.
    pub fill: Duration,
    /// How long after the ports answer again everything may take to be finished and verified.
    pub recover: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { outage: Duration::from_secs(40), fill: Duration::from_secs(6), recover: Duration::from_secs(90) }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The guest's clock when the ports answered again.
    pub up: Duration,
    /// For each writer: from there to its first completed operation.
    pub resumed: Vec<Duration>,
    /// For each writer that was not done in time: what it said last.
    pub stuck: Vec<String>,
    /// The `@reinstated` lines of the console, as time after the ports answered.
    pub reinstated: Vec<Duration>,
    /// The least memory that was available before the ports answered again, in KiB.
    pub least: u64,
}

/// Runs the plan on a guest with two maps: `data` (at least 64 MiB, written by a direct and a buffered writer) and
/// `swap`. What keeps the maps alive runs already, and the guest has 768 to 1,024 MiB. Errors and wrong blocks end the
/// test; writers that do not finish are told in the outcome.
#[track_caller]
pub fn exhaust(guest: &mut Guest, array: &Array, data: &str, swap: &str, plan: Plan) -> Outcome {
    let memory: u64 = guest.ok("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo").parse().expect("MemTotal is a number");
    guest.ok(&format!(
        "mkswap {swap} >/dev/null && swapon {swap} && echo 1 >/proc/sys/vm/overcommit_memory && dmesg -n 1\n\
         mkdir -p /fill && mount -t tmpfs -o size=90% fill /fill"
    ));
    // The guest's clock at an instant of the host, to compare times of both: good to some milliseconds.
    let (before, guest_then) = (Instant::now(), guest.clock());
    let host_then = before + before.elapsed() / 2;
    let busy = (plan.outage + Duration::from_secs(8)).as_secs();
    let writers = [("1", "--direct --offset 0"), ("2", "--fsync 64 --offset 32m")];
    let _jobs = writers.map(|(tag, options)| {
        guest.spawn(&format!(
            "echo -1000 >/proc/self/oom_score_adj\n\
             exec lab write {data} --size 24m --secs {busy} --tag {tag} --every 1000 --mlock --to /dev/ttyS0 {options}"
        ))
    });
    guest.spawn("echo -1000 >/proc/self/oom_score_adj; exec lab gauge --to /dev/ttyS0");
    std::thread::sleep(Duration::from_secs(3));
    let down = Instant::now();
    array.say(&format!("down * for={}", plan.outage.as_secs()));
    std::thread::sleep(plan.fill.saturating_sub(down.elapsed()));
    let size = memory * 8 / 10;
    let hold = (plan.outage + plan.recover).as_secs();
    guest.spawn(&format!(
        "echo 500 >/proc/self/oom_score_adj\n\
         lab hog --size {size}k --hold {hold} & lab hog --size {size}k --hold {hold} &\n\
         dd if=/dev/zero of=/fill/zeros bs=64k 2>/dev/null; wait"
    ));
    std::thread::sleep(plan.outage.saturating_sub(down.elapsed()));
    let up = guest_then + (down + plan.outage).saturating_duration_since(host_then);
    let end = down + plan.outage + plan.recover;
    let mut done = [false; 2];
    while Instant::now() < end && done != [true; 2] && !guest.is_off() {
        std::thread::sleep(Duration::from_millis(200));
        let console = guest.console();
        for (done, (tag, _)) in done.iter_mut().zip(writers) {
            *done = console.lines().any(|line| line.starts_with("@written") && line.contains(&format!(" tag={tag} ")));
        }
    }
    let console = guest.console();
    if done != [true; 2] {
        guest.sysrq('w'); // Where it sleeps: the console shows it when the test fails.
        guest.sysrq('m');
        std::thread::sleep(Duration::from_secs(3));
    }
    outcome(&console, up, writers.map(|(tag, _)| tag), done)
}

fn outcome(console: &str, up: Duration, tags: [&str; 2], done: [bool; 2]) -> Outcome {
    let mut outcome = Outcome { up, resumed: Vec::new(), stuck: Vec::new(), reinstated: Vec::new(), least: u64::MAX };
    for (tag, done) in tags.into_iter().zip(done) {
        let mine: String = console.lines().filter(|line| line.contains(&format!(" tag={tag} "))).map(|line| format!("{line}\n")).collect();
        if !done {
            outcome.stuck.push(mine.lines().last().unwrap_or("nothing").to_string());
            continue;
        }
        let number = |key: &str| marker(&mine, "@written", key).and_then(|v| v.parse::<u64>().ok()).unwrap_or(u64::MAX);
        let (errors, wrong) = (number("errors"), number("wrong"));
        assert!(errors == 0 && wrong == 0, "writer {tag}: {errors} errors, {wrong} wrong blocks:\n{mine}");
        // The longest operation is the one that waited for the paths: it ended when they were back.
        outcome.resumed.push(Duration::from_millis(number("max_at")).saturating_sub(up));
    }
    for line in console.lines().filter(|line| line.starts_with("@memory")) {
        let number = |key: &str| marker(line, "@memory", key).and_then(|v| v.parse::<u64>().ok());
        if let (Some(t), Some(available)) = (number("t"), number("available"))
            && Duration::from_millis(t) < up
        {
            outcome.least = outcome.least.min(available);
        }
    }
    let times = console.lines().filter(|line| line.starts_with("@reinstated"));
    let times = times.filter_map(|line| marker(line, "@reinstated", "t")?.parse().ok());
    outcome.reinstated = times.map(|t| Duration::from_millis(t).saturating_sub(up)).collect();
    outcome
}
