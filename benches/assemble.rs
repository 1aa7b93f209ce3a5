//! How long assembly takes: 64 LUNs with 4 paths each, from the moment all paths are there to the last live map, in one run of one
//! machine: ours, the bare ioctls in a loop, and multipath-tools with udev. `cargo bench --bench assemble`.
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

fn measure(kernel: &lab::Kernel) {
    let guest = peer::with_multipath_tools(Vm::new(kernel).alone(), CONF).memory(1536).corepath().limit(Duration::from_secs(1800)).boot();
    guest.ok("modprobe -a dm_multipath dm_service_time");
    guest.ok(&format!("modprobe scsi_debug add_host={PATHS} max_luns={LUNS} vpd_use_hostno=0 per_host_store=0 dev_size_mb=8"));
    guest.until(&format!("[ $(ls -d /sys/block/sd* | wc -l) = {} ]", LUNS * PATHS), Duration::from_secs(120));
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (took, said) = time(&guest, "corepath boot");
        assert_eq!(live(&guest), LUNS, "{said}");
        println!("{} round {round}: ours {took} ms: {}", kernel.label, said.lines().find(|l| l.starts_with("boot:")).unwrap_or(""));
        ours.push(took);
        guest.ok("corepath remove --all");
        let (took, said) = time(&guest, "lab assemble");
        assert_eq!((live(&guest), agent::marker(&said, "@assembled", "maps")), (LUNS, Some(LUNS.to_string())));
        println!("{} round {round}: bare {took} ms: {}", kernel.label, said.lines().find(|l| l.starts_with("@assembled")).unwrap_or(""));
        bare.push(took);
        guest.ok("for n in /sys/block/dm-*/dm/name; do lab dm remove $(cat $n); done");
    }
    // The peer sees scsi_debug's disks only with their handler attached, and only beside udev.
    guest.ok("modprobe scsi_dh_alua; /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never >/dev/null 2>&1 </dev/null");
    let settle = || drop(guest.spawn("udevadm settle --timeout=550").wait(Duration::from_secs(600)));
    guest.ok("udevadm trigger --type=subsystems --action=add; udevadm trigger --type=devices --action=add");
    settle();
    let (ours_udev, said) = time(&guest, "corepath boot");
    assert_eq!(live(&guest), LUNS, "{said}");
    guest.ok("corepath remove --all");
    settle();
    let (theirs, said) = time(&guest, "multipath -v0 || true");
    let made = live(&guest);
    assert!(made > 0, "{said}");
    let (ours, bare) = (median(ours), median(bare));
    let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
    println!("{}: {LUNS} maps x {PATHS} paths, medians of {ROUNDS}", kernel.label);
    println!("  bare ioctls                {bare:>7} ms");
    println!("  corepath boot              {ours:>7} ms   {:.2} x bare (goal: at most 1.3)", ratio(ours, bare));
    println!("  corepath boot beside udev  {ours_udev:>7} ms   {:.2} x bare", ratio(ours_udev, bare));
    println!("  multipath beside udev      {theirs:>7} ms   {:.2} x bare, {made} maps", ratio(theirs, bare));
}

fn main() {
    for (label, _) in lab::kernel::KERNELS {
        lab::kernel::with(label, measure);
    }
}
