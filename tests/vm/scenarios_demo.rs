//! `make demo`: the main job as a timeline worth looking at. It is a test like any other: what it shows is also asserted.

use std::time::{Duration, Instant};

use crate::lab::{Array, Vm, every_day};
use crate::scenario;

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const BLUE: &str = "\x1b[36m";
const OFF: &str = "\x1b[0m";

/// One line of the timeline.
fn say(began: Instant, colour: &str, what: &str, text: &str) {
    println!("{colour}{:>6.1} s  {BOLD}{what:<18}{OFF} {text}", began.elapsed().as_secs_f64());
}

/// Indented lines of what a command printed.
fn show(text: &str) {
    for line in text.lines() {
        println!("          {BLUE}|{OFF} {line}");
    }
}

/// Ports of one array that are down, one after the other, while I/O goes on.
const PORTS: [&str; 4] = ["p0", "p1", "p2", "p3"];

scenario! {
    /// Two arrays with four paths each: found, assembled, one cable after the other pulled under I/O, all back, nothing lost.
    fn timeline(kernel) {
        if !every_day(kernel, "6.12") {
            return;
        }
        println!("\n{BOLD}corepath: two arrays, four paths each, Linux {}{OFF}\n", kernel.release);
        let first = Array::start("plain", &PORTS, "--luns 1,size=64M");
        let second = Array::start("alua", &["q0", "q1", "q2", "q3"], "--luns 1,size=64M --serial 777");
        let began = Instant::now();
        let guest = Vm::new(kernel).memory(640).corepath().array(&first).array(&second).boot();
        say(began, BLUE, "machine is up", "kernel, busybox, one static binary; no udev, no libc");
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; modprobe scsi_dh_alua");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 8 ]", Duration::from_secs(30));
        say(began, BLUE, "disks found", "8 paths; corepath scan:");
        show(&guest.ok("corepath scan"));

        let boot = guest.ok("corepath boot --timeout 30");
        say(began, GREEN, "maps made", boot.trim());
        show(&guest.ok("corepath list"));
        assert!(boot.contains("2 maps with 8 usable paths"), "{boot}");

        let _daemon = guest.spawn("corepath daemon --strict");
        guest.until("corepath status | grep -q 'memory-locked=yes'", Duration::from_secs(20));
        let sealed = guest.ok("corepath status | grep seal:");
        say(began, GREEN, "daemon watches", "sealed: no fork, no allocation, memory locked");
        show(&sealed);

        let map = guest.ok("corepath list | grep PLAIN | cut -d' ' -f1");
        let writer = guest.spawn(&format!("lab write /dev/mapper/{} --size 16m --secs 16 --direct", map.trim()));
        std::thread::sleep(Duration::from_secs(2));
        say(began, GREEN, "I/O is running", "verified writes through the first map");

        first.say("down p0,p1,p2");
        say(began, RED, "three cables out", "ports p0, p1, p2 of the first array answer nothing");
        guest.until("corepath status | grep -q ' 1 usable'", Duration::from_secs(20));
        say(began, GREEN, "I/O goes on", "through the one path that is left");
        show(&guest.ok("corepath status | tail -n +4 | head -8"));

        first.say("up p0,p1,p2");
        let back = Instant::now();
        guest.until("corepath status | grep -c ' 4 usable' | grep -q 2", Duration::from_secs(20));
        say(began, GREEN, "cables back in", &format!("all paths reinstated {:.1} s later", back.elapsed().as_secs_f64()));

        let written = writer.wait(Duration::from_secs(60));
        assert_eq!(written.code, 0, "{}", written.text());
        assert!(written.text().contains("errors=0 wrong=0"), "{}", written.text());
        let line = written.text();
        say(began, GREEN, "nothing was lost", line.lines().find(|l| l.contains("@written")).unwrap_or(line.trim()));
        guest.ok("corepath stop");
        println!();
    }
}
