//! MODE SENSE and MODE SELECT, both sizes (SPC-4 6.9 to 6.12). Caching and control pages live here,
//! the vendor pages that move LUNs in the personalities.

use crate::persona::{Ctx, Persona, Step, View};
use crate::scsi::{Command, Reply, Sense, be16, byte, op, put};

/// TAS, the one bit of the control mode page that may be changed (byte 5).
const TAS: u8 = 0x40;

pub fn sense(view: &View, persona: &dyn Persona, cdb: &[u8]) -> Reply {
    let ten = byte(cdb, 0) == op::MODE_SENSE_10;
    let (page, sub) = (byte(cdb, 2) & 0x3f, byte(cdb, 3));
    let control = byte(cdb, 2) >> 6;
    if control == 3 {
        return Sense::new(5, 0x39, 0).into(); // saved values are not kept
    }
    let mut pages = Vec::new();
    if page == 0x3f {
        if sub != 0 && sub != 0xff {
            return Sense::BAD_FIELD.into();
        }
        for p in [0x08, 0x0a] {
            pages.extend(standard_page(view, p, control).unwrap_or_default());
        }
        for (p, s) in persona.mode_pages() {
            if *s == 0 || sub == 0xff {
                pages.extend(persona.mode_page(view, *p, *s).unwrap_or_default());
            }
        }
    } else {
        let found = match sub {
            0 => standard_page(view, page, control).or_else(|| persona.mode_page(view, page, 0)),
            _ => persona.mode_page(view, page, sub),
        };
        match found {
            Some(p) => pages = p,
            None => return Sense::BAD_FIELD.into(),
        }
    }
    let mut descriptor = Vec::new();
    if byte(cdb, 1) & 0x08 == 0 {
        let blocks = u32::try_from(view.lun.blocks()).unwrap_or(u32::MAX);
        descriptor.extend_from_slice(&blocks.to_be_bytes());
        descriptor.extend_from_slice(&view.lun.block.to_be_bytes());
    }
    let specific = if view.lun.read_only { 0x80 } else { 0 };
    let mut d;
    let allocation;
    if ten {
        d = vec![0, 0, 0, specific, 0, 0, 0, descriptor.len() as u8];
        d.extend(descriptor);
        d.extend(pages);
        let len = u16::try_from(d.len() - 2).unwrap_or(u16::MAX);
        put(&mut d, 0, &len.to_be_bytes());
        allocation = usize::from(be16(cdb, 7));
    } else {
        d = vec![0, 0, specific, descriptor.len() as u8];
        d.extend(descriptor);
        d.extend(pages);
        d[0] = u8::try_from(d.len() - 1).unwrap_or(u8::MAX);
        allocation = usize::from(byte(cdb, 4));
    }
    Reply::data(d).cut(allocation)
}

/// Current (and default) values, or with `control` 1 the mask of what may be changed.
fn standard_page(view: &View, page: u8, control: u8) -> Option<Vec<u8>> {
    let mask = control == 1;
    match page {
        0x08 => {
            let mut p = vec![0u8; 20];
            put(&mut p, 0, &[0x08, 18]);
            if view.site.write_cache && !mask {
                p[2] = 0x04; // WCE
            }
            Some(p)
        }
        0x0a => {
            let mut p = vec![0u8; 12];
            put(&mut p, 0, &[0x0a, 10]);
            if mask {
                p[5] = TAS;
            } else {
                p[2] = if view.site.descriptor_sense { 0x04 } else { 0 };
                p[5] = view.lun.control5;
            }
            Some(p)
        }
        _ => None,
    }
}

/// Walks the parameter list and hands each page on. The length of the list is the smaller of what
/// the CDB says and what came: scsi_dh_emc leaves stack content in the CDB bytes it does not set, so
/// byte 7 of its MODE SELECT(10) is not to be trusted, nor are the reserved bits.
pub fn select(ctx: &mut Ctx, persona: &mut dyn Persona, cmd: &Command) -> Step {
    let ten = byte(&cmd.cdb, 0) == op::MODE_SELECT_10;
    let said = if ten { usize::from(be16(&cmd.cdb, 7)) } else { usize::from(byte(&cmd.cdb, 4)) };
    if said == 0 {
        return Step::Done(Reply::good());
    }
    let list = cmd.out.get(..said).unwrap_or(&cmd.out);
    let header = if ten { 8 } else { 4 };
    let skip = if ten { usize::from(be16(list, 6)) } else { usize::from(byte(list, 3)) };
    let Some(mut rest) = list.get(header + skip..) else {
        return Step::Done(Sense::BAD_LENGTH.into());
    };
    while !rest.is_empty() {
        let spf = byte(rest, 0) & 0x40 != 0;
        let page = byte(rest, 0) & 0x3f;
        let (sub, at, len) = if spf { (byte(rest, 1), 4, usize::from(be16(rest, 2))) } else { (0, 2, usize::from(byte(rest, 1))) };
        let Some(body) = rest.get(at..at + len) else {
            return Step::Done(Sense::BAD_LENGTH.into());
        };
        match persona.mode_select(ctx, page, sub, body) {
            Step::Pass => match standard_select(ctx, page, sub, body) {
                Some(reply) if reply.status != 0 => return Step::Done(reply),
                Some(_) => {}
                None => return Step::Done(Sense::BAD_PARAMETER.into()),
            },
            Step::Done(reply) if reply.status == 0 => {}
            other => return other,
        }
        rest = rest.get(at + len..).unwrap_or(&[]);
    }
    Step::Done(Reply::good())
}

fn standard_select(ctx: &mut Ctx, page: u8, sub: u8, body: &[u8]) -> Option<Reply> {
    match (page, sub) {
        (0x08, 0) => Some(Reply::good()), // taken, nothing in it is changeable
        (0x0a, 0) if body.len() >= 10 => {
            if let Some(lun) = ctx.luns.get_mut(&ctx.lun) {
                lun.control5 = byte(body, 3) & TAS;
            }
            Some(Reply::good())
        }
        _ => None,
    }
}
