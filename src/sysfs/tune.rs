//! Writing the attributes that shape a path's error handling. Where each lives differs by transport; in which order they must be written
//! is the engine's.
//!
//! Writes may sleep for long (a rescan talks to the device): workers only, before the seal and after it.

use super::{Lineage, Path, Roots, block, join, link};
use crate::fault::Errno;
use crate::files;
use crate::wire::cursor::Cursor;
use rustix::fd::AsFd;
use rustix::fs::OFlags;

/// What can be tuned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Knob {
    /// Seconds; negative is `off`. FC and SRP remote ports.
    FastIoFail,
    /// Seconds; negative is `off` (SRP). FC and SRP remote ports, SAS end devices.
    DevLoss,
    /// Seconds. iSCSI sessions.
    RecoveryTmo,
    /// Seconds; negative is `off`. The SCSI host.
    EhDeadline,
    MaxSectorsKb,
    /// -1 is the kernel's default.
    MaxRetries,
    Rescan,
    Delete,
    /// The SCSI device is used again.
    Online,
    /// Of a SCSI host (`name` is the host): looks for devices.
    Scan,
}

/// Writes one attribute of the path whose disk is `name`. `ENOENT`: its transport has none such. `EBUSY`: the remote port is blocked now.
#[inline(never)]
pub fn write_attribute(roots: &Roots, name: &str, knob: Knob, value: i64) -> Result<(), Errno> {
    let mut room = [0u8; 1024];
    let way = if knob == Knob::Scan { "" } else { link(roots.sys.as_fd(), &block(name, "")?, &mut room)? };
    let path = if knob == Knob::Scan { join(&["class/scsi_host/", name, "/scan"])? } else { place(&Lineage::parse(way), name, knob)? };
    let mut text = [0u8; 24];
    let text = value_text(knob, value, &mut text).ok_or(Errno::INVAL)?;
    let fd = files::open_at(roots.sys.as_fd(), &path, OFlags::WRONLY)?;
    files::write_all(&fd, text)
}

/// Where the attribute is, below /sys.
#[inline(never)]
fn place(l: &Lineage<'_>, name: &str, knob: Knob) -> Result<Path, Errno> {
    let below = |class: &str, object: &str, attribute: &str| {
        if object.is_empty() { Err(Errno::NOENT) } else { join(&["class/", class, "/", object, attribute]) }
    };
    // A SAS phy's port is a `port-` too; the SRP port has no end device.
    let srp = if l.end_device.is_empty() { l.port } else { "" };
    match knob {
        Knob::FastIoFail if !l.rport.is_empty() => below("fc_remote_ports", l.rport, "/fast_io_fail_tmo"),
        Knob::FastIoFail => below("srp_remote_ports", srp, "/fast_io_fail_tmo"),
        Knob::DevLoss if !l.rport.is_empty() => below("fc_remote_ports", l.rport, "/dev_loss_tmo"),
        Knob::DevLoss if !l.end_device.is_empty() => below("sas_end_device", l.end_device, "/I_T_nexus_loss_timeout"),
        Knob::DevLoss => below("srp_remote_ports", srp, "/dev_loss_tmo"),
        Knob::RecoveryTmo => below("iscsi_session", l.session, "/recovery_tmo"),
        Knob::EhDeadline => below("scsi_host", l.host, "/eh_deadline"),
        Knob::MaxRetries => below("scsi_disk", l.device, "/max_retries"),
        Knob::MaxSectorsKb => block(name, "/queue/max_sectors_kb"),
        Knob::Rescan => block(name, "/device/rescan"),
        Knob::Delete => block(name, "/device/delete"),
        Knob::Online => block(name, "/device/state"),
        Knob::Scan => Err(Errno::INVAL),
    }
}

/// Calls `visit` with every SCSI host until it says false.
pub fn hosts(roots: &Roots, visit: &mut dyn FnMut(&str) -> bool) -> Result<(), Errno> {
    files::names(files::open_dir_at(&roots.sys, "class/scsi_host")?, visit).map(|_| ())
}

fn value_text(knob: Knob, value: i64, into: &mut [u8; 24]) -> Option<&[u8]> {
    let mut text = Cursor::new(into);
    let offable = matches!(knob, Knob::FastIoFail | Knob::DevLoss | Knob::EhDeadline);
    if value < 0 && offable {
        text.push_str("off").ok()?;
    } else if knob == Knob::Online {
        text.push_str("running").ok()?;
    } else if knob == Knob::Scan {
        text.push_str("- - -").ok()?;
    } else {
        if value < 0 {
            text.push_str("-").ok()?;
        }
        text.push_decimal(value.unsigned_abs()).ok()?;
    }
    // As `echo` does: some attributes insist on it (scsi_sysfs.c, store_state_field), none refuses it.
    text.push_str("\n").ok()?;
    let len = text.len();
    into.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let text = |knob, value| {
            let mut room = [0; 24];
            std::string::String::from_utf8(value_text(knob, value, &mut room).unwrap().to_vec()).unwrap()
        };
        assert_eq!(text(Knob::FastIoFail, -1), "off\n");
        assert_eq!(text(Knob::DevLoss, 600), "600\n");
        assert_eq!(text(Knob::MaxRetries, -1), "-1\n");
        assert_eq!(text(Knob::Online, 1), "running\n");
        assert_eq!(text(Knob::Scan, 1), "- - -\n");
        assert_eq!(text(Knob::RecoveryTmo, i64::MIN), "-9223372036854775808\n");
    }
}
