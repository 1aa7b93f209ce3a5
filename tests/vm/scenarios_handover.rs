//! Two that manage the same maps for a while: `boot` beside the daemon of its initramfs, a daemon and its successor, corepath and multipathd.

use std::time::Duration;

use crate::lab::{Array, Vm, root, rounds};
use crate::scenario;

scenario! {
    /// `boot` and the daemon start in the same moment, as in an initramfs, and both make root's map: whoever is second to each step adopts
    /// what the first made, and nobody waits for a clock.
    fn boot_and_daemon_race(kernel) {
        let place = Vm::new(kernel);
        let image = place.scratch().join("root.img");
        root::busybox_disk(kernel, &image);
        let array = Array::start("clariion", &["a0", "b0"], &format!("--lun 0,file={}", image.display()));
        let guest = Vm::new(kernel).corepath().array(&array).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; modprobe scsi_dh_emc");
        guest.until("[ -e /sys/block/sda -a -e /sys/block/sdb ]", Duration::from_secs(20));
        // The partitions of the paths are gone when boot ends: by its own hand, not because it has waited long enough.
        let script = "corepath daemon >/run/daemon 2>&1 & d=$!\n\
             corepath boot -v3 --root=LABEL=sanroot --timeout 40 >/run/out 2>/run/err || { cat /run/out /run/err /run/daemon; exit 1; }\n\
             [ -b /dev/mapper/3*p2 -a ! -e /sys/block/sda/sda1 -a ! -e /sys/block/sdb/sdb1 ] || { cat /run/err /proc/partitions; exit 1; }\n\
             ! grep 'still there' /run/err || { cat /run/err /run/daemon; exit 1; }\n\
             kill $d; wait $d; corepath remove --all >/run/gone 2>&1 || { cat /run/gone; exit 1; }\n\
             cat /run/out";
        let mut times: Vec<u64> = Vec::new();
        for _ in 0..rounds(12, 100) {
            let said = guest.ok(script);
            let ms = said.split_once(" usable paths (").and_then(|(_, rest)| rest.split_once(" ms")?.0.parse().ok());
            times.push(ms.unwrap_or_else(|| panic!("{said}")));
        }
        times.sort_unstable();
        println!("vm: {} boot beside a daemon: {} times, {} to {} ms, median {}", kernel.release, times.len(), times[0], times[times.len() - 1], times[times.len() / 2]);
    }
}
