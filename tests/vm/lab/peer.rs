//! The peer: multipath-tools and udev of the kernel's suite in a guest, for runs side by side.
//!
//! multipath-tools finds nothing without udevd, and sees scsi_debug's disks only with scsi_dh_alua loaded.

use std::time::Duration;

use super::agent::Job;
use super::machine::{Guest, Vm};

/// udev alone, with the rules of Debian: the second kind of system that corepath must work on.
pub const UDEV: [&str; 3] = ["udev", "dmsetup", "sg3-utils-udev"];

/// udev and multipath-tools.
pub const PEER: [&str; 5] = ["udev", "dmsetup", "sg3-utils-udev", "multipath-tools", "kpartx"];

/// Adds udev to an image.
pub fn with_udev(vm: Vm) -> Vm {
    vm.debs(&UDEV).memory(768)
}

/// Adds udev and multipath-tools to an image, with a configuration file.
pub fn with_multipath_tools(vm: Vm, conf: &str) -> Vm {
    vm.debs(&PEER).memory(768).file("/etc/multipath.conf", 0o644, conf.as_bytes())
}

/// Starts udevd, lets it see every device and waits until it has nothing to do.
#[track_caller]
pub fn start_udev(guest: &Guest) {
    guest.ok("modprobe dm_mod; modprobe scsi_dh_alua; true");
    guest.ok("udevd=/usr/lib/systemd/systemd-udevd\n\
         $udevd --daemon --resolve-names=never >/dev/null 2>&1 </dev/null\n\
         udevadm trigger --type=subsystems --action=add; udevadm trigger --type=devices --action=add");
    settle(guest);
}

/// Waits until udev has handled every event.
#[track_caller]
pub fn settle(guest: &Guest) {
    guest.spawn("udevadm settle --timeout=60").wait(Duration::from_secs(70)).ok();
}

/// Starts multipathd in the foreground, as a background job, and waits until it answers.
#[track_caller]
pub fn start_multipathd(guest: &Guest) -> Job {
    guest.ok("modprobe -a dm_multipath dm_service_time dm_round_robin dm_queue_length scsi_dh_alua scsi_dh_emc scsi_dh_rdac; true");
    let job = guest.spawn("exec multipathd -d -s");
    guest.until("[ \"$(multipathd show daemon | cut -d' ' -f3)\" = idle ]", Duration::from_secs(60));
    job
}
