//! All paths down, memory exhausted, swap on the map, paths back.

use std::time::Duration;

use crate::lab::pressure::{Plan, exhaust};
use crate::lab::{Array, Vm, every_day};
use crate::scenario;

scenario! {
    /// The smallest loop that can do it (locked, bare ioctls) recovers: what is asked of corepath is possible, and the
    /// lab's way of asking is sound.
    fn bare_loop_recovers(kernel) {
        // One kernel says that the lab is sound; the daemon is asked on both.
        if !every_day(kernel, "6.12") {
            return;
        }
        let array = Array::start("plain", &["a0", "a1"], "--luns 2,size=512M");
        let mut guest = Vm::new(kernel).array(&array).memory(768).alone().boot();
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 4 ]", Duration::from_secs(20));
        let wwids = guest.ok("cat /sys/block/sd*/device/wwid | sort -u");
        let maps: Vec<String> = wwids
            .lines()
            .zip(["data", "swap"])
            .map(|(wwid, name)| guest.bare_map(name, &guest.disks_of(wwid), "1 queue_if_no_path"))
            .collect();
        let keeper = guest.spawn("echo -1000 >/proc/self/oom_score_adj; exec lab keep data swap --to /dev/ttyS0");
        guest.console_line("@keeping", Duration::from_secs(10));
        let plan = Plan { outage: Duration::from_secs(20), ..Plan::default() };
        let outcome = exhaust(&mut guest, &array, &maps[0], &maps[1], plan);
        println!("vm: {} bare loop: {outcome:?}", kernel.release);
        assert!(outcome.stuck.is_empty(), "{:?}", outcome.stuck);
        assert_eq!(outcome.reinstated.len(), 4);
        assert!(!keeper.ended());
        assert!(outcome.least < 32 << 10, "that was no memory pressure: {} KiB were available", outcome.least);
    }
}
