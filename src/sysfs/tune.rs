//! Writing the attributes that shape a path's error handling. Where each lives differs by transport; in which order they must be written
//! is the engine's.
//!
//! Writes may sleep for long (a rescan talks to the device): workers only, before the seal and after it.

use super::{Lineage, Path, Roots, block, join, link};
use crate::fault::Errno;
use crate::files;
use crate::model::{Attribute, parse_unsigned};
use crate::wire::cursor::Cursor;
use rustix::fd::AsFd;
use rustix::fs::OFlags;

/// Writes one attribute of the path whose disk is `name`. `ENOENT`: its transport has none such. `EBUSY`: the remote port is blocked now.
/// `ERANGE`: a limit that was only looked at is higher.
#[inline(never)]
pub fn write_attribute(roots: &Roots, name: &str, attribute: Attribute, value: i64) -> Result<(), Errno> {
    let mut room = [0u8; 1024];
    let way = if attribute == Attribute::Scan { "" } else { link(roots.sys.as_fd(), &block(name, "")?, &mut room)? };
    let path = if attribute == Attribute::Scan {
        join(&["class/scsi_host/", name, "/scan"])?
    } else {
        place(&Lineage::parse(way), name, attribute)?
    };
    if attribute == Attribute::MaxSectorsKb && value < 0 {
        let text = files::read(&roots.sys, &path, &mut room)?;
        let now = core::str::from_utf8(text).ok().and_then(|text| parse_unsigned::<u32>(text.trim_ascii_end())).ok_or(Errno::INVAL)?;
        return if i64::from(now) <= -value { Ok(()) } else { Err(Errno::RANGE) };
    }
    let mut text = [0u8; 24];
    let text = value_text(attribute, value, &mut text).ok_or(Errno::INVAL)?;
    let fd = files::open_at(roots.sys.as_fd(), &path, OFlags::WRONLY)?;
    files::write_all(&fd, text)
}

/// Where the attribute is, below /sys.
#[inline(never)]
fn place(l: &Lineage<'_>, name: &str, attribute: Attribute) -> Result<Path, Errno> {
    let below = |class: &str, object: &str, attribute: &str| {
        if object.is_empty() { Err(Errno::NOENT) } else { join(&["class/", class, "/", object, attribute]) }
    };
    // A SAS phy's port is a `port-` too; the SRP port has no end device.
    let srp = if l.end_device.is_empty() { l.port } else { "" };
    match attribute {
        Attribute::FastIoFail if !l.rport.is_empty() => below("fc_remote_ports", l.rport, "/fast_io_fail_tmo"),
        Attribute::FastIoFail => below("srp_remote_ports", srp, "/fast_io_fail_tmo"),
        Attribute::DevLoss if !l.rport.is_empty() => below("fc_remote_ports", l.rport, "/dev_loss_tmo"),
        Attribute::DevLoss if !l.end_device.is_empty() => below("sas_end_device", l.end_device, "/I_T_nexus_loss_timeout"),
        Attribute::DevLoss => below("srp_remote_ports", srp, "/dev_loss_tmo"),
        Attribute::RecoveryTmo => below("iscsi_session", l.session, "/recovery_tmo"),
        Attribute::EhDeadline => below("scsi_host", l.host, "/eh_deadline"),
        Attribute::MaxRetries => below("scsi_disk", l.device, "/max_retries"),
        Attribute::MaxSectorsKb => block(name, "/queue/max_sectors_kb"),
        Attribute::Rescan => block(name, "/device/rescan"),
        Attribute::Delete => block(name, "/device/delete"),
        Attribute::Announce => block(name, "/uevent"),
        Attribute::Online => block(name, "/device/state"),
        Attribute::Scan => Err(Errno::INVAL),
    }
}

/// Calls `visit` with every SCSI host until it says false.
pub fn hosts(roots: &Roots, visit: &mut dyn FnMut(&str) -> bool) -> Result<(), Errno> {
    files::names(files::open_dir_at(&roots.sys, "class/scsi_host")?, visit).map(|_| ())
}

fn value_text(attribute: Attribute, value: i64, into: &mut [u8; 24]) -> Option<&[u8]> {
    let mut text = Cursor::new(into);
    let offable = matches!(attribute, Attribute::FastIoFail | Attribute::DevLoss | Attribute::EhDeadline);
    if value < 0 && offable {
        text.push_str("off").ok()?;
    } else if attribute == Attribute::Announce {
        text.push_str("change").ok()?;
    } else if attribute == Attribute::Online {
        text.push_str("running").ok()?;
    } else if attribute == Attribute::Scan {
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
        let text = |attribute, value| {
            let mut room = [0; 24];
            std::string::String::from_utf8(value_text(attribute, value, &mut room).unwrap().to_vec()).unwrap()
        };
        assert_eq!(text(Attribute::FastIoFail, -1), "off\n");
        assert_eq!(text(Attribute::DevLoss, 600), "600\n");
        assert_eq!(text(Attribute::MaxRetries, -1), "-1\n");
        assert_eq!(text(Attribute::Announce, 1), "change\n");
        assert_eq!(text(Attribute::Online, 1), "running\n");
        assert_eq!(text(Attribute::Scan, 1), "- - -\n");
        assert_eq!(text(Attribute::RecoveryTmo, i64::MIN), "-9223372036854775808\n");
    }
}
