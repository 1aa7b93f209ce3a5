//! How long assembly takes: 64 LUNs with 4 paths each, from the moment all paths are there to the last live map, in one run of one
//! machine: ours, the bare ioctls in a loop, a daemon that was there before the disks; then, with fewer LUNs as udev needs its time, ours and
//! multipath-tools beside udev. `cargo bench --bench assemble`.
//!
//! The bare loop knows what to do and reads two attributes of each disk; `boot` reads all there are, asks every path, reads 64 partition
//! tables and makes the names. A daemon has done most of that when the last path comes.
//!
//! It prints times and ratios and asserts that every map was made; a time is never asserted.
#![allow(unreachable_pub)]

#[path = "../tests/vm/lab/mod.rs"]
mod lab;

use lab::{Guest, Vm, agent, peer};
use std::time::Duration;

const LUNS: usize = 64;
const PATHS: usize = 4;
const ROUNDS: usize = 5;
/// LUNs of the runs beside udev.
const FEW: usize = 16;

/// The same plain maps from all three: no handler, one group. (scsi_debug's ALUA states change by themselves.)
const CONF: &str = "defaults {\n find_multipaths greedy\n user_friendly_names no\n detect_prio no\n detect_checker no\n prio const\n \
                    path_checker tur\n path_grouping_policy multibus\n}\nblacklist {\n device {\n vendor QEMU\n }\n}\n";

/// Milliseconds of the guest's clock that a command takes.
fn time(guest: &Guest, command: &str) -> (u64, String) {
    let script = format!("lab clock; {command}; s=$?; lab clock; exit $s");
    let output = guest.spawn(&script).wait(Duration::from_secs(600));
    let text = output.text();
    assert_eq!(output.code, 0, "{command}: {text}");
    let clocks: Vec<u64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let [begin, end] = clocks[..] else { panic!("two clocks in {text}") };
    (end - begin, text)
}

fn live(guest: &Guest) -> usize {
    guest.ok("grep -l . /sys/block/dm-*/dm/name 2>/dev/null | wc -l").parse().unwrap()
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

fn disks(guest: &Guest, luns: usize) {
    guest.ok(&format!("modprobe scsi_debug add_host={PATHS} max_luns={luns} vpd_use_hostno=0 per_host_store=0 dev_size_mb=8"));
    guest.until(&format!("[ $(ls -d /sys/block/sd* | wc -l) = {} ]", luns * PATHS), Duration::from_secs(120));
}

fn bare(guest: &Guest, label: &str, luns: usize) -> u64 {
    let (took, said) = time(guest, "lab assemble");
    assert_eq!((live(guest), agent::marker(&said, "@assembled", "maps")), (luns, Some(luns.to_string())));
    println!("{label}: bare {took} ms: {}", said.lines().find(|l| l.starts_with("@assembled")).unwrap_or(""));
    guest.ok("for n in /sys/block/dm-*/dm/name; do lab dm remove $(cat $n); done");
    took
}

fn alone(kernel: &lab::Kernel) {
    let guest = Vm::new(kernel).alone().file("/etc/multipath.conf", 0o644, CONF.as_bytes()).memory(1024).corepath();
    let guest = guest.limit(Duration::from_secs(900)).boot();
    guest.ok("modprobe -a dm_multipath dm_service_time scsi_dh_alua");
    disks(&guest, LUNS);
    let (mut boots, mut bares, mut daemons) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (took, said) = time(&guest, "corepath boot");
        assert_eq!(live(&guest), LUNS, "{said}");
        println!("{} round {round}: ours {took} ms: {}", kernel.label, said.lines().find(|l| l.starts_with("boot:")).unwrap_or(""));
        boots.push(took);
        guest.ok("corepath remove --all");
        bares.push(bare(&guest, &format!("{} round {round}", kernel.label), LUNS));
    }
    // The disks go, and come while a daemon looks on.
    for round in 0..ROUNDS {
        guest.ok("rmmod scsi_debug");
        guest.until("! ls -d /sys/block/sd*", Duration::from_secs(60));
        let daemon = guest.spawn("exec corepath daemon --paths 512");
        guest.until("corepath status", Duration::from_secs(20));
        let all = LUNS * PATHS;
        let (took, said) = time(
            &guest,
            &format!(
                "modprobe scsi_debug add_host={PATHS} max_luns={LUNS} vpd_use_hostno=0 per_host_store=0 dev_size_mb=8; \
                 until [ $(ls -d /sys/block/sd* | wc -l) = {all} ]; do usleep 20000; done; echo appeared $(lab clock); \
                 until [ $(corepath status | grep -c '{PATHS} usable') = {LUNS} ]; do usleep 50000; done; echo all $(lab clock)"
            ),
        );
        let at = |word: &str| -> u64 {
            said.lines().find_map(|l| l.trim().strip_prefix(word)).and_then(|t| t.trim().parse().ok()).expect("a time")
        };
        daemons.push(at("all ") - at("appeared "));
        println!(
            "{} round {round}: daemon {} ms after the last path, {took} ms with their discovery",
            kernel.label,
            at("all ") - at("appeared ")
        );
        guest.ok("corepath stop");
        daemon.wait(Duration::from_secs(20));
        guest.ok("corepath remove --all");
    }
    let (boots, bares, daemons) = (median(boots), median(bares), median(daemons));
    println!("{}: {LUNS} maps x {PATHS} paths, medians of {ROUNDS}", kernel.label);
    println!("  bare ioctls                       {bares:>7} ms");
    println!("  corepath daemon, after last path  {daemons:>7} ms   {:.2} x bare (goal: at most 1.3)", ratio(daemons, bares));
    println!("  corepath boot, from nothing       {boots:>7} ms   {:.2} x bare", ratio(boots, bares));
}

fn beside_udev(kernel: &lab::Kernel) {
    let guest = peer::with_multipath_tools(Vm::new(kernel).alone(), CONF).memory(1536).corepath().limit(Duration::from_secs(900)).boot();
    guest.ok("modprobe -a dm_multipath dm_service_time; rm -f /usr/lib/udev/rules.d/*multipath*");
    peer::start_udev(&guest);
    disks(&guest, FEW);
    let settle = || drop(guest.spawn("udevadm settle --timeout=180").wait(Duration::from_secs(200)));
    settle();
    let (ours, said) = time(&guest, "corepath boot");
    assert_eq!(live(&guest), FEW, "{said}");
    guest.ok("corepath remove --all");
    settle();
    let (theirs, said) = time(&guest, "multipath -v0 || true");
    let made = live(&guest);
    assert!(made > 0, "{said}");
    guest.ok("multipath -F || true");
    settle();
    let plain = bare(&guest, &kernel.label, FEW);
    println!("{}: {FEW} maps x {PATHS} paths, beside udev, once", kernel.label);
    println!("  bare ioctls                       {plain:>7} ms");
    println!("  corepath boot                     {ours:>7} ms   {:.2} x bare", ratio(ours, plain));
    println!("  multipath                         {theirs:>7} ms   {:.2} x bare, {made} maps", ratio(theirs, plain));
}

fn main() {
    for (label, _) in lab::kernel::KERNELS {
        lab::kernel::with(label, alone);
        lab::kernel::with(label, beside_udev);
    }
}
