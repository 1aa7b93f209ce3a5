//! INQUIRY, REPORT LUNS and REQUEST SENSE (SPC-4), the same for all personalities but for what each of
//! them puts on top. Lengths are always true here: pages that lie are made with a rule (rule.rs).

use crate::lun::{Lun, Luns};
use crate::persona::{Persona, View};
use crate::scsi::{Reply, Sense, be16, be32, byte, padded, put};
use crate::site::Site;

/// Standard INQUIRY data or a VPD page.
pub fn inquiry(view: &View, persona: &dyn Persona, cdb: &[u8]) -> Reply {
    let allocation = usize::from(be16(cdb, 3));
    if byte(cdb, 1) & 1 == 0 {
        if byte(cdb, 2) != 0 {
            return Sense::BAD_FIELD.into(); // SPC-4 6.4.1: a page code without EVPD
        }
        return Reply::data(standard(view, persona)).cut(allocation);
    }
    let page = byte(cdb, 2);
    match vpd(view, persona, page) {
        Some(body) => {
            let mut d = vec![0, page];
            let len = u16::try_from(body.len()).unwrap_or(u16::MAX);
            d.extend_from_slice(&len.to_be_bytes());
            d.extend_from_slice(&body);
            Reply::data(d).cut(allocation)
        }
        None => Sense::BAD_FIELD.into(),
    }
}

fn standard(view: &View, persona: &dyn Persona) -> Vec<u8> {
    let site = view.site;
    let (vendor, product, revision) = persona.identity(view);
    let pick = |own: &str, default: &str| if own.is_empty() { default } else { own }.to_string();
    let mut d = vec![0u8; 96];
    d[2] = 6; // SPC-4: below SPC-3 the kernel would not ask for VPD pages
    d[3] = 0x12; // HISUP, response data format 2
    d[5] = persona.tpgs() << 4;
    d[6] = 0x10; // MULTIP
    d[7] = 0x02; // CMDQUE
    put(&mut d, 8, &padded(&pick(&site.vendor, vendor), 8));
    // LUNZ is the array's word, not the administrator's: --product does not hide it.
    let own = if product == "LUNZ" { "" } else { &site.product };
    put(&mut d, 16, &padded(&pick(own, product), 16));
    put(&mut d, 32, &padded(&pick(&site.revision, revision), 4));
    // Version descriptors: SAM-5, SPC-4, SBC-3.
    put(&mut d, 58, &[0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0]);
    persona.inquiry(view, &mut d);
    d[4] = u8::try_from(d.len().saturating_sub(5)).unwrap_or(u8::MAX);
    d
}

/// What an INQUIRY to a LUN that this port does not present gets: qualifier 3, type 1Fh.
pub fn absent_inquiry(cdb: &[u8]) -> Reply {
    if byte(cdb, 1) & 1 == 1 {
        return Sense::NO_LUN.into();
    }
    let mut d = vec![0u8; 36];
    put(&mut d, 0, &[0x7f, 0, 6, 0x12, 31]);
    put(&mut d, 8, &padded("", 28));
    Reply::data(d).cut(usize::from(be16(cdb, 3)))
}

/// The body of a page, without its four header bytes.
fn vpd(view: &View, persona: &dyn Persona, page: u8) -> Option<Vec<u8>> {
    if persona.pages().contains(&page) {
        return persona.vpd(view, page);
    }
    match page {
        0x00 => {
            let mut pages = vec![0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2];
            pages.extend_from_slice(persona.pages());
            pages.sort_unstable();
            pages.dedup();
            Some(pages)
        }
        0x80 => Some(view.lun.serial.clone().into_bytes()),
        0x83 => Some(designators(view, persona.tpgs() != 0)),
        0xb0 => Some(block_limits(view.site)),
        0xb1 => {
            let mut d = vec![0u8; 60];
            put(&mut d, 0, &1u16.to_be_bytes()); // non-rotating
            Some(d)
        }
        0xb2 => Some(vec![0u8; 4]), // no provisioning: UNMAP and WRITE SAME are not offered
        _ => None,
    }
}

/// NAA 6 of the LUN, then relative target port and, with TPGS, the target port group (SPC-4 7.8.6).
fn designators(view: &View, grouped: bool) -> Vec<u8> {
    let mut d = vec![0x01, 0x03, 0, 16];
    d.extend_from_slice(&view.lun.wwn);
    if let Some(port) = view.site.port(view.port) {
        d.extend_from_slice(&[0x01, 0x14, 0, 4, 0, 0]);
        d.extend_from_slice(&port.rtpi.to_be_bytes());
        if grouped {
            d.extend_from_slice(&[0x01, 0x15, 0, 4, 0, 0]);
            d.extend_from_slice(&port.group.to_be_bytes());
        }
    }
    d
}

fn block_limits(site: &Site) -> Vec<u8> {
    let mut d = vec![0u8; 60];
    put(&mut d, 4, &site.max_blocks.to_be_bytes());
    d
}

/// LUNs presented through the port, in order.
pub fn report_luns(luns: &Luns, port: usize, cdb: &[u8]) -> Reply {
    let select = byte(cdb, 2);
    let allocation = be32(cdb, 6) as usize;
    if select > 2 || allocation < 16 {
        return Sense::BAD_FIELD.into();
    }
    let mut d = vec![0u8; 8];
    if select != 1 {
        // 1 asks for well-known LUNs only: there are none
        for lun in luns.values().filter(|l| l.visible(port)) {
            d.extend_from_slice(&lun_address(lun));
        }
    }
    let len = u32::try_from(d.len() - 8).unwrap_or(0);
    put(&mut d, 0, &len.to_be_bytes());
    Reply::data(d).cut(allocation)
}

/// Peripheral addressing below 256, flat space above (SAM-5 4.7.7).
fn lun_address(lun: &Lun) -> [u8; 8] {
    let [hi, lo] = lun.number.to_be_bytes();
    let hi = if lun.number < 256 { 0 } else { 0x40 | hi };
    [hi, lo, 0, 0, 0, 0, 0, 0]
}

/// A pending unit attention is given as data and cleared (SPC-4 6.39), else NO SENSE.
pub fn request_sense(pending: Option<Sense>, cdb: &[u8]) -> Reply {
    let sense = pending.unwrap_or(Sense::NONE);
    let d = if byte(cdb, 1) & 1 == 1 { sense.descriptor() } else { sense.fixed() };
    Reply::data(d).cut(usize::from(byte(cdb, 4)))
}
