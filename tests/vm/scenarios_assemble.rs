//! From bare disks to live maps on a real kernel, without udev.

use std::time::Duration;

use crate::lab::Vm;
use crate::scenario;

const MIB: u64 = 1 << 20;

scenario! {
    /// Two LUNs with four paths each and two with two: right identities, right groups; a second run changes nothing.
    fn boot_assembles(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 64 * MIB, 2).lun("b", 32 * MIB, 2).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        println!("{}", guest.run("corepath boot -v4 --timeout 5; echo rc=$?").text());
        println!("{}", guest.run("corepath list; echo rc=$?; ls -l /dev/mapper").text());
        println!("{}", guest.run("corepath boot -v4 --timeout 5; echo rc=$?").text());
        let daemon = guest.spawn("corepath daemon");
        println!("{}", guest.run("sleep 3; corepath status; echo rc=$?").text());
        guest.ok("echo offline > /sys/block/sda/device/state");
        println!("{}", guest.run("sleep 3; corepath status; corepath raw show paths; echo rc=$?").text());
        guest.ok("echo running > /sys/block/sda/device/state");
        println!("{}", guest.run("sleep 3; corepath status; corepath raw show maps json; echo rc=$?; dmesg | grep -i -e corepath -e device-mapper").text());
        println!("{}", guest.run("corepath stop; echo rc=$?; sleep 1; ps").text());
        println!("ended {}", daemon.ended());
    }
}
