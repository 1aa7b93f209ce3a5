//! By what way a SCSI disk is reached: what its place in the device tree and the transport classes tell.
//!
//! Rules: scsi_transport_fc.c, _iscsi.c, _sas.c, _srp.c, _spi.c name the objects between host and target.

use super::{Attributes, Roots, clean, join};
use crate::fault::Errno;
use crate::files;
use crate::model::{Hctl, PathFacts, Protocol};
use heapless::string::StringView;
use rustix::fd::AsFd;

/// The components of a disk's place in the device tree that say something. Empty: there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lineage<'a> {
    /// `host2`.
    pub host: &'a str,
    /// Kernel name of the host's parent on the bus (PCI or channel address).
    pub adapter: &'a str,
    /// `rport-2:0-1`.
    pub rport: &'a str,
    /// `session1`.
    pub session: &'a str,
    /// `end_device-2:0:1`.
    pub end_device: &'a str,
    /// `port-2:0` (SAS), `port-2:1` (SRP).
    pub port: &'a str,
    /// `target2:0:0`.
    pub target: &'a str,
    /// The SCSI device, `2:0:0:1`.
    pub device: &'a str,
    pub usb: bool,
    pub ata: bool,
    pub firewire: bool,
}

fn numbered(component: &str, prefix: &str) -> bool {
    component.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// `0000:03:00.0`, or a channel's `0.0.1900`.
#[inline(never)]
fn bus_address(component: &str) -> bool {
    let hex = |text: &str, lengths: core::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let mut parts = component.split([':', '.']);
    let (Some(a), Some(b), Some(c), d, None) = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    match d {
        Some(d) => hex(a, 4..=8) && hex(b, 2..=2) && hex(c, 2..=2) && hex(d, 1..=1) && component.contains(':'),
        None => hex(a, 1..=2) && hex(b, 1..=1) && hex(c, 4..=4) && !component.contains(':'),
    }
}

impl<'a> Lineage<'a> {
    /// From the target of the link /sys/block/NAME.
    #[inline(never)]
    pub fn parse(way: &'a str) -> Lineage<'a> {
        let mut found = Lineage::default();
        for component in way.split('/') {
            let slot = match component {
                c if c.starts_with("rport-") => &mut found.rport,
                c if numbered(c, "session") => &mut found.session,
                c if c.starts_with("end_device-") => &mut found.end_device,
                c if c.starts_with("port-") => &mut found.port,
                c if c.starts_with("target") && c.contains(':') => &mut found.target,
                c if numbered(c, "host") => &mut found.host,
                c if bus_address(c) && found.host.is_empty() => &mut found.adapter,
                c if Hctl::parse(c).is_some() => &mut found.device,
                c => {
                    found.usb |= numbered(c, "usb");
                    found.ata |= numbered(c, "ata");
                    found.firewire |= numbered(c, "fw");
                    continue;
                }
            };
            *slot = component;
        }
        found
    }
}

impl Attributes<'_> {
    /// As [`Attributes::text`] of a path in pieces.
    #[inline(never)]
    fn text_of(&mut self, path: &[&str]) -> Result<&str, Errno> {
        self.text(&join(path)?)
    }
    /// As [`Attributes::clean`] of a path in pieces.
    #[inline(never)]
    fn clean_of(&mut self, path: &[&str], into: &mut StringView) -> Result<(), Errno> {
        self.clean(&join(path)?, into)
    }
}

/// Fills in address, protocol and port names.
#[inline(never)]
pub(super) fn scsi(roots: &Roots, lineage: &Lineage<'_>, scratch: &mut [u8], facts: &mut PathFacts) -> Result<(), Errno> {
    facts.hctl = Hctl::parse(lineage.device);
    let mut at = Attributes { dir: roots.sys.as_fd(), scratch };
    let l = lineage;
    facts.protocol = if !l.rport.is_empty() {
        at.clean_of(&["class/fc_remote_ports/", l.rport, "/node_name"], facts.target_node.as_mut_view())?;
        at.clean_of(&["class/fc_remote_ports/", l.rport, "/port_name"], facts.target_port.as_mut_view())?;
        at.clean_of(&["class/fc_host/", l.host, "/node_name"], facts.host_node.as_mut_view())?;
        at.clean_of(&["class/fc_host/", l.host, "/port_name"], facts.host_port.as_mut_view())?;
        Protocol::ScsiFcp
    } else if !l.end_device.is_empty() {
        at.clean_of(&["class/sas_device/", l.end_device, "/sas_address"], facts.target_node.as_mut_view())?;
        Protocol::ScsiSas
    } else if !l.session.is_empty() {
        at.clean_of(&["class/iscsi_session/", l.session, "/targetname"], facts.target_node.as_mut_view())?;
        portal(&mut at, l.session, facts)?;
        Protocol::ScsiIscsi
    } else if l.usb {
        Protocol::ScsiUsb
    } else if l.ata {
        Protocol::ScsiAta
    } else if l.firewire {
        Protocol::ScsiSbp
    } else if at.text_of(&["class/scsi_host/", l.host, "/proc_name"])? == "ib_srp" {
        if !l.port.is_empty() {
            at.clean_of(&["class/srp_remote_ports/", l.port, "/port_id"], facts.target_node.as_mut_view())?;
        }
        Protocol::ScsiSrp
    } else if !l.target.is_empty() && files::exists(&roots.sys, &join(&["class/spi_transport/", l.target])?) {
        Protocol::ScsiSpi
    } else {
        Protocol::ScsiUnspec
    };
    Ok(())
}

/// The address a session's first connection goes to, with its port.
#[inline(never)]
fn portal(at: &mut Attributes<'_>, session: &str, facts: &mut PathFacts) -> Result<(), Errno> {
    let number = session.strip_prefix("session").unwrap_or("");
    let mut portal = crate::model::Text::<64>::new();
    at.clean_of(&["class/iscsi_connection/connection", number, ":0/persistent_address"], portal.as_mut_view())?;
    if portal.is_empty() {
        return Ok(());
    }
    let port = at.text_of(&["class/iscsi_connection/connection", number, ":0/persistent_port"])?;
    if !port.is_empty() && port.len() < 6 {
        let _ = portal.push_str(":").and_then(|()| portal.push_str(port));
    }
    clean(portal.as_bytes(), facts.target_port.as_mut_view());
    Ok(())
}
