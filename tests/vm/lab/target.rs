//! The kernel's own SCSI target in the guest: one disk, a file of 64 MiB, that scenarios lead paths to.

use super::machine::Guest;

/// Where the target is configured.
pub const TARGET: &str = "/sys/kernel/config/target";
/// Its disk.
pub const DISK: &str = "/sys/kernel/config/target/core/fileio_0/disk";
/// The WWID of that disk: LIO's company id, then its serial number.
pub const WWID: &str = "360014050123456789abcdef000000000";

/// Loads the target, and `modules` besides, and makes the disk.
#[track_caller]
pub fn disk(guest: &Guest, modules: &str) {
    guest.ok(&format!(
        "modprobe -a dm_multipath dm_service_time target_core_mod target_core_file {modules}
        mount -t configfs none /sys/kernel/config
        mkdir -p {DISK}
        truncate -s 64M /tmp/disk
        echo fd_dev_name=/tmp/disk,fd_dev_size=67108864 > {DISK}/control
        echo 0123456789abcdef > {DISK}/wwn/vpd_unit_serial
        echo 1 > {DISK}/enable"
    ));
}
