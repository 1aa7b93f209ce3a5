//! How long a failover takes, and the failback after it: from the moment the ports of a LUN's controller are silent to the first read that
//! the other one completes, and from their return to the command that moves the LUN back. Our daemon and multipathd (with udev), one after
//! the other in one machine, on an emulated CLARiiON and an ALUA array. `cargo bench --bench failover`.
//!
//! All times are the array's own, from its log of commands. It prints times and ratios and asserts that the LUN moved as often as it should;
//! a time is never asserted.
#![allow(unreachable_pub)]

#[path = "../tests/vm/lab/mod.rs"]
mod lab;

use lab::{Array, Guest, Vm, host, peer};
use std::time::Duration;

const ROUNDS: usize = 3;
/// What is sent to move a LUN.
const ARRAYS: [(&str, &str); 2] = [("clariion", "MODE_SELECT_10"), ("alua", "MAINTENANCE_OUT")];
/// The defaults of both programs but for what is measured.
const CONF: &str = "defaults {\n find_multipaths no\n user_friendly_names no\n no_path_retry queue\n failback immediate\n}\n";
const LONG: Duration = Duration::from_secs(60);

/// Milliseconds of the array's clock.
fn clock(array: &Array) -> u64 {
    millis(array.say("status").split(" time=").nth(1).unwrap())
}

fn millis(text: &str) -> u64 {
    let seconds: f64 = text.split([' ', '\n']).next().unwrap().parse().unwrap();
    (seconds * 1000.0) as u64
}

/// When the first good answer to such a command was given after `since`; waits for it.
fn first(array: &Array, filter: &str, since: u64) -> u64 {
    let found = host::poll(Duration::from_secs(120), || {
        let log = array.say(&format!("log since={since} {filter}"));
        log.lines().find(|line| line.contains(" status=00")).and_then(|line| line.split(" t=").nth(1)).map(millis)
    });
    found.unwrap_or_else(|| panic!("no {filter} in two minutes:\n{}", array.say("log max=40")))
}

/// Failover and failback of each round, in milliseconds; and how often the LUN moved in all.
fn rounds(guest: &Guest, array: &Array, opcode: &str, map: &str) -> (Vec<u64>, Vec<u64>, u64) {
    let before = array.number("trespasses 0");
    let reader = guest.spawn(&format!("exec lab latency /dev/mapper/{map} --pause 5 --over 100"));
    let (mut over, mut back) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        std::thread::sleep(Duration::from_secs(3));
        let (next, down) = (array.number("log next"), clock(array));
        array.say("down sp=a");
        over.push(first(array, "sp=b op=READ_10", next) - down);
        std::thread::sleep(Duration::from_secs(3));
        let (next, up) = (array.number("log next"), clock(array));
        array.say("up sp=a");
        back.push(first(array, &format!("sp=a op={opcode}"), next) - up);
        first(array, "sp=a op=READ_10", next);
    }
    reader.signal(15);
    println!("    {}", reader.wait(LONG).text().lines().last().unwrap_or(""));
    (over, back, array.number("trespasses 0") - before)
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

fn measure(kernel: &lab::Kernel) {
    for (persona, opcode) in ARRAYS {
        let array = Array::start(persona, &["a0", "a1", "b0", "b1"], "--serial F --luns 1,size=16M");
        let vm = peer::with_multipath_tools(Vm::new(kernel).alone(), CONF).corepath().array(&array).limit(Duration::from_secs(1200));
        let guest = vm.boot();
        guest.ok("rmmod virtio_scsi && modprobe -a scsi_dh_emc scsi_dh_alua dm_multipath dm_service_time && modprobe virtio_scsi");
        let map = lab::site::wwid("F", 0);
        let live = format!("[ -e /dev/mapper/{map} ] && [ $(lab dm status {map} | grep -oE '[0-9]+:[0-9]+ A 0' | wc -l) = 4 ]");

        let daemon = guest.spawn("exec corepath daemon --strict 2>/dev/null");
        guest.until(&live, LONG);
        println!("{} {persona}, corepath daemon:", kernel.label);
        let ours = rounds(&guest, &array, opcode, &map);
        guest.ok("corepath stop");
        daemon.wait(LONG);
        guest.ok("corepath remove --all >&2");

        peer::start_udev(&guest);
        let daemon = peer::start_multipathd(&guest);
        guest.until(&live, LONG);
        println!("{} {persona}, multipathd beside udev:", kernel.label);
        let theirs = rounds(&guest, &array, opcode, &map);
        daemon.signal(15);

        println!("{} {persona}: {ROUNDS} rounds, milliseconds, {} and {} moves", kernel.label, ours.2, theirs.2);
        for (what, ours, theirs) in
            [("SP silent -> first read through the other", ours.0, theirs.0), ("SP back -> LUN moved back", ours.1, theirs.1)]
        {
            let (a, b) = (median(ours.clone()), median(theirs.clone()));
            println!("  {what}: ours {ours:?} median {a}, theirs {theirs:?} median {b}: {:.2} of theirs", a as f64 / b.max(1) as f64);
        }
        assert_eq!(ours.2, 2 * ROUNDS as u64, "one move there and one back in each round");
    }
}

fn main() {
    for (label, _) in lab::kernel::KERNELS {
        lab::kernel::with(label, measure);
    }
}
