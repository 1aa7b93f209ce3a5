//! Who a disk is: the pages the kernel keeps of a SCSI device, a NVMe namespace's wwid, a DASD's uid.
//!
//! The WWID is that of VPD page 0x83 (wire::vpd), else that of page 0x80 in scsi_id's spelling. The kernel's own `wwid` attribute is not
//! used: it chooses among designators by other rules, and a WWID that differs from udev's would be another disk's. The kernel reads the pages
//! once, when it finds the device; one that did not come then has no attribute for ever, and the device itself has to be asked ([`take_page`]).

use super::{Attributes, clean, parse_state};
use crate::fault::Errno;
use crate::model::{Hctl, PathFacts, Protocol, Text, Wwid, WwidOrigin};
use crate::wire::inquiry::Inquiry;
use crate::wire::vpd::NoWwid;
use crate::wire::{alua, nvme, vpd};
use core::fmt::Write;

#[inline(never)]
pub(super) fn scsi(at: &mut Attributes<'_>, facts: &mut PathFacts) -> Result<(), Errno> {
    at.clean("device/vendor", facts.vendor.as_mut_view())?;
    at.clean("device/model", facts.product.as_mut_view())?;
    at.clean("device/rev", facts.revision.as_mut_view())?;
    facts.sys_state = at.bytes("device/state")?.map(parse_state).unwrap_or_default();
    at.clean("device/dh_state", facts.handler.as_mut_view())?;
    if facts.handler == "detached" {
        facts.handler.clear();
    }
    facts.access = alua::parse_word(at.text("device/access_state")?);
    facts.preferred = at.flag("device/preferred_path")?;
    facts.timeout_secs = at.number("device/timeout")?.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    if let Some(inquiry) = at.bytes("device/inquiry")?.and_then(|data| Inquiry::parse(data).ok()) {
        facts.tpgs = inquiry.tpgs();
    }
    if let Some(page) = at.bytes("device/vpd_pg80")? {
        take_page(page, facts);
    }
    if let Some(page) = at.bytes("device/vpd_pg83")? {
        take_page(page, facts);
    } else if at.bytes("device/vpd_pg0")?.is_some_and(|page| vpd::supports(page, vpd::DEVICE_IDENTIFICATION)) {
        // It has a better name than its serial number, which the kernel did not get to read.
        return Ok(());
    }
    name_by_serial(facts);
    Ok(())
}

/// Takes over what VPD page 0x80 or 0x83 says.
pub fn take_page(page: &[u8], facts: &mut PathFacts) {
    if page.get(1) == Some(&vpd::UNIT_SERIAL_NUMBER) {
        // A byte more than `serial` holds: one that is longer is none. Cut short, two LUNs could have the same.
        let mut room = [0u8; 65];
        let len = vpd::serial_into(page, &mut room).unwrap_or(0);
        facts.serial_indented = page.get(4).is_some_and(u8::is_ascii_whitespace);
        return clean(room.get(..len).unwrap_or(&[]), facts.serial.as_mut_view());
    }
    (facts.target_port_group, facts.relative_port) = vpd::target_port(page);
    let named = match vpd::wwid(page) {
        Ok(wwid) => Some(wwid),
        Err(NoWwid::Absent | NoWwid::Invalid) => vpd::odd_name(page).and_then(|(kind, name, bytes)| odd_wwid(facts, kind, name, bytes)),
        Err(_) => None,
    };
    if let Some(wwid) = named {
        facts.wwid = wwid;
        facts.wwid_origin = WwidOrigin::Vpd83;
    }
}

/// scsi_id's name of a device that page 0x83 names in an odd way only ([`vpd::odd_name`]), as QEMU's disks without `wwn=`.
fn odd_wwid(facts: &PathFacts, kind: u8, name: &[u8], bytes: bool) -> Option<Wwid> {
    let mut text = Text::<64>::new();
    if bytes {
        name.iter().try_for_each(|b| write!(text, "{b:02x}")).ok()?;
    } else {
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        // One that is longer is none, as a serial number.
        let name = name.get(..end).filter(|name| name.len() <= 64)?;
        clean(name, text.as_mut_view());
    }
    let fields = [(facts.vendor.as_str(), 8), (&facts.product, 16), (&text, 0)];
    spelled(char::from(b'0' + kind), if kind == 0 { &fields } else { fields.get(2..)? })
}

/// Of a disk without a page 0x83 that names it: `S`, vendor in 8 columns, product in 16, the serial number as it stands in the page.
pub fn name_by_serial(facts: &mut PathFacts) {
    let indent = if facts.serial_indented { " " } else { "" };
    if facts.wwid.is_empty()
        && let Some(wwid) = spelled('S', &[(&facts.vendor, 8), (&facts.product, 16), (indent, 0), (&facts.serial, 0)])
    {
        facts.wwid = wwid;
        facts.wwid_origin = WwidOrigin::Vpd80;
    }
}

/// A name in scsi_id's spelling: these fields in so many columns, with every run of blanks one `_` and what udev does not take `_` too. None
/// without the last.
fn spelled(kind: char, fields: &[(&str, usize)]) -> Option<Wwid> {
    if fields.last()?.0.is_empty() {
        return None;
    }
    let mut wwid = Wwid::new();
    wwid.push(kind).ok()?;
    let mut blank = false;
    for (field, width) in fields {
        let padding = width.saturating_sub(field.len());
        for byte in field.bytes().chain(core::iter::repeat_n(b' ', padding)) {
            if byte == b' ' {
                blank = true;
                continue;
            }
            if core::mem::take(&mut blank) {
                wwid.push('_').ok()?;
            }
            let plain = byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte);
            wwid.push(if plain { char::from(byte) } else { '_' }).ok()?;
        }
    }
    Some(wwid)
}

pub(super) fn nvme(at: &mut Attributes<'_>, facts: &mut PathFacts) -> Result<(), Errno> {
    let _ = facts.vendor.push_str("NVME");
    at.clean("device/model", facts.product.as_mut_view())?;
    at.clean("device/firmware_rev", facts.revision.as_mut_view())?;
    at.clean("device/serial", facts.serial.as_mut_view())?;
    at.clean("wwid", facts.wwid.as_mut_view())?;
    if !facts.wwid.is_empty() {
        facts.wwid_origin = WwidOrigin::NvmeSysfs;
    }
    facts.sys_state = at.bytes("device/state")?.map(parse_state).unwrap_or_default();
    facts.protocol = match at.text("device/transport")? {
        "pcie" => Protocol::NvmePcie,
        "rdma" => Protocol::NvmeRdma,
        "fc" => Protocol::NvmeFc,
        "tcp" => Protocol::NvmeTcp,
        "loop" => Protocol::NvmeLoop,
        "apple-nvme" => Protocol::NvmeApple,
        _ => Protocol::NvmeUnspec,
    };
    // Only where native multipath is on does the kernel know it; elsewhere the prioritizer asks.
    facts.access = nvme::parse_word(at.text("ana_state")?);
    at.clean("device/subsysnqn", facts.target_node.as_mut_view())?;
    // `traddr=192.168.1.2,trsvcid=4420,...`, or a PCI address alone.
    let address = at.text("device/address")?;
    let port = address.split(',').find_map(|field| field.strip_prefix("traddr=")).unwrap_or(address);
    clean(port.as_bytes(), facts.target_port.as_mut_view());
    // The peer's h:c:t:l of a namespace: controller, controller id, namespace, 0.
    let host = facts.name.strip_prefix("nvme").and_then(|rest| rest.split(['n', 'c']).next()).and_then(crate::model::parse_decimal);
    let small = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let (channel, target) = (small(at.number("device/cntlid")?), small(at.number("nsid")?));
    facts.hctl = host.map(|host| Hctl { host, channel, target, lun: 0 });
    Ok(())
}

pub(super) fn dasd(at: &mut Attributes<'_>, facts: &mut PathFacts) -> Result<(), Errno> {
    facts.protocol = Protocol::Ccw;
    let _ = facts.vendor.push_str("IBM");
    let kind = at.text("device/devtype")?;
    let fba = kind.starts_with("3370") || kind.starts_with("9336");
    let _ = facts.product.push_str(if fba { "S/390 DASD FBA" } else { "S/390 DASD ECKD" });
    facts.sys_state = at.bytes("device/online")?.map(parse_state).unwrap_or_default();
    // vendor.serial.subsystem.unit, as udev's ID_UID: a fifth field (z/VM's minidisk token) is cut there. Two minidisks of one volume
    // therefore look alike; no claim is made on such an identity without a name for it (engine::claim, Weak).
    let mut uid = Text::<128>::new();
    at.clean("device/uid", uid.as_mut_view())?;
    let end = uid.match_indices('.').nth(3).map_or(uid.len(), |(at, _)| at);
    if let Some(uid) = uid.get(..end).filter(|uid| !uid.is_empty())
        && facts.wwid.push_str(uid).is_ok()
    {
        facts.wwid_origin = WwidOrigin::DasdUid;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::ToOwned;
    use std::string::String;

    #[test]
    fn a_serial_number_as_scsi_id_writes_it() {
        let named = |vendor: &str, product: &str, serial: &[u8]| {
            let mut facts = PathFacts::default();
            facts.vendor.push_str(vendor).unwrap();
            facts.product.push_str(product).unwrap();
            let mut page = std::vec![0, 0x80, 0, serial.len() as u8];
            page.extend(serial);
            take_page(&page, &mut facts);
            name_by_serial(&mut facts);
            facts.wwid.as_str().to_owned()
        };
        assert_eq!(named("LIO-ORG", "disk one", b"42 a"), "SLIO-ORG_disk_one_42_a");
        assert_eq!(named("12345678", "1234567890123456", b"x/y"), "S123456781234567890123456x_y");
        // udev_replace_whitespace leaves out what stands before the first character, and that is the S.
        assert_eq!(named("", "", b" 7"), "S_7");
        assert_eq!(named(" A", "B", b"7"), "S_A_B_7");
        // Blanks before the number only show where no column's do.
        assert_eq!(named("12345678", "1234567890123456", b"   77  "), "S123456781234567890123456_77");
        assert_eq!(named("12345678", "123456789012345", b"   77  "), "S12345678123456789012345_77");
        assert_eq!(named("ACME", "DISK", b"\t7\t 7\x01 \n"), "SACME_DISK_7_7_");
        assert_eq!(named("a", "b", b""), "");
        assert_eq!(named("a", "b", b"  \0  7"), "");
        assert_eq!(spelled('S', &[("a", 8), (&"x".repeat(122), 0)]), None, "not cut");
    }

    /// Where page 0x83 holds nothing that SPC knows, scsi_id takes what comes nearest.
    #[test]
    fn an_odd_designator() {
        let named = |designators: &[&[u8]]| {
            let mut facts = PathFacts::default();
            facts.vendor.push_str("ACME").unwrap();
            let mut page = std::vec![0, 0x83, 0, designators.iter().map(|d| d.len() as u8).sum()];
            designators.iter().for_each(|d| page.extend(*d));
            take_page(&page, &mut facts);
            facts.wwid.as_str().to_owned()
        };
        let naa4: &[u8] = b"\x01\x03\0\x08\x41\x23\x45\x67\x89\xab\xcd\xef";
        let eui10: &[u8] = b"\x01\x02\0\x0a\0\x24\x40\0\0\0\0\x01\0\0";
        let short: &[u8] = b"\x02\x01\0\x05SH RT";
        let own: &[u8] = b"\x02\0\0\x03own";
        assert_eq!(named(&[own, short, eui10, naa4]), "34123456789abcdef");
        assert_eq!(named(&[b"\x02\x03\0\x02xy", naa4]), "34123456789abcdef", "bytes before text");
        assert_eq!(named(&[own, short, eui10]), "200244000000000010000");
        assert_eq!(named(&[own, short]), "1SH_RT");
        assert_eq!(named(&[own]), "0ACME_own");
        // Not before what it should be; none of a port's, none in UTF-8.
        assert_eq!(named(&[naa4, b"\x01\x02\0\x08\0\x24\x40\0\0\0\0\x01"]), "20024400000000001");
        assert_eq!(named(&[b"\x01\x13\0\x08\x41\x23\x45\x67\x89\xab\xcd\xef", b"\x03\0\0\x01x"]), "");
    }

    /// What udev says of it: ID_SERIAL=0QEMU_QEMU_HARDDISK_drive-scsi0.
    #[test]
    fn a_vendors_own_name() {
        let named = |set: u8, kind: u8, name: &[u8]| {
            let mut facts = PathFacts::default();
            facts.vendor.push_str("QEMU").unwrap();
            facts.product.push_str("QEMU HARDDISK").unwrap();
            let len = name.len() as u8;
            // A target port's name before it, as a disk with a port WWN has.
            let mut page = std::vec![0, 0x83, 0, len + 16, 1, 0x93, 0, 8, 0x50, 0, 0, 0, 0, 0, 0, 1, set, kind, 0, len];
            page.extend(name);
            take_page(&page, &mut facts);
            (facts.wwid.as_str().to_owned(), facts.wwid_origin)
        };
        let own = |text: &str| (text.to_owned(), WwidOrigin::Vpd83);
        assert_eq!(named(2, 0, b"drive-scsi0"), own("0QEMU_QEMU_HARDDISK_drive-scsi0"));
        assert_eq!(named(2, 0, b"a b/c \0x"), own("0QEMU_QEMU_HARDDISK_a_b_c"));
        assert_eq!(named(1, 0, &[0xab, 0x01]), own("0QEMU_QEMU_HARDDISK_ab01"));
        for (set, kind, name) in [(2, 0x10, &b"x"[..]), (3, 0, b"x"), (2, 0, b""), (2, 0, &[b'x'; 65]), (1, 0, &[7; 33])] {
            assert_eq!(named(set, kind, name), (String::new(), WwidOrigin::Nowhere));
        }
    }

    #[test]
    fn a_serial_number_that_is_too_long_is_none() {
        let serial = |len: u8| {
            let mut facts = PathFacts::default();
            let mut page = std::vec![0, 0x80, 0, len];
            page.resize(4 + usize::from(len), b'x');
            take_page(&page, &mut facts);
            facts.serial.len()
        };
        assert_eq!((serial(64), serial(65), serial(74)), (64, 0, 0));
    }
}
