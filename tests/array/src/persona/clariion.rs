//! EMC CLARiiON: two SPs, VPD page C0, trespass by MODE SELECT page 22h. scsi_dh_emc.c and the
//! emc_clariion checker rule every byte set here; what neither reads is zero.
//!
//! Failover mode 1 (page C0 byte 28 = 4, "PNR"): the SP that does not own a LUN answers TUR, READ and
//! WRITE with 02/04/03. Failover mode 4 (byte 28 = 6): ALUA on top of the same ownership.

use super::alua::{self, Entry};
use super::{Ctx, Persona, Step, View, on_off};
use crate::lun::{Holder, Lun, move_lun};
use crate::scsi::{self, Class, Command, Reply, Sense, byte, op, put};
use crate::site::{Site, Sp, sp_by_letter};

/// The trespass page of MODE SELECT.
const TRESPASS: u8 = 0x22;

pub struct Clariion {
    /// Byte 28 of page C0: 4 (PNR) and 6 (ALUA) are what hosts accept.
    pub failover: u8,
    /// Byte 27: 3 is what hosts accept.
    pub initiator: u8,
    /// Bit 2 of byte 30.
    pub comm_path: bool,
    /// Byte 9: 0 is the only revision that hosts know.
    pub revision: u8,
    /// Byte 48 per SP: not 0 while its software is being upgraded.
    pub ndu: [u8; 2],
    /// During NDU a trespass is refused with 02/04/03.
    pub ndu_refuses: bool,
    /// The passive SP answers READ CAPACITY (unverified on hardware, so it can be switched).
    pub passive_capacity: bool,
    /// At 161 + serial in the standard INQUIRY; empty or "FC..." makes the host trespass the short way.
    pub model: String,
}

impl Default for Clariion {
    fn default() -> Clariion {
        Clariion {
            failover: 4,
            initiator: 3,
            comm_path: true,
            revision: 0,
            ndu: [0; 2],
            ndu_refuses: true,
            passive_capacity: true,
            model: "CX3-40f".into(),
        }
    }
}

impl Clariion {
    fn ndu_of(&self, sp: Sp) -> u8 {
        self.ndu.get(usize::from(sp)).copied().unwrap_or(0)
    }

    fn alua(&self) -> bool {
        self.failover == 6
    }

    fn page_c0(&self, view: &View) -> Vec<u8> {
        let sp = view.site.sp(view.port);
        let mut d = vec![0u8; 252];
        d[4] = match view.lun {
            l if l.unbound || l.lunz => 0,
            l if l.owner == sp => 2,
            _ => 1,
        };
        d[5] = view.lun.default_owner;
        d[7] = view.site.port(view.port).map_or(0, |p| p.number);
        d[8] = sp;
        d[9] = self.revision;
        put(&mut d, 10, &view.lun.wwn);
        d[27] = self.initiator;
        d[28] = self.failover;
        d[30] = if self.comm_path { 0x04 } else { 0 };
        d[48] = self.ndu_of(sp);
        d.split_off(4)
    }

    /// MODE SELECT page 22h: the LUN comes to the SP that was asked. Bit 7 of the first byte says that
    /// reservations of others are not honoured.
    fn trespass(&mut self, ctx: &mut Ctx, body: &[u8]) -> Step {
        if byte(body, 0) & 0x7f != 1 {
            return Step::Done(Sense::BAD_PARAMETER.into());
        }
        let sp = ctx.site.sp(ctx.port);
        let Some(lun) = ctx.luns.get(&ctx.lun) else {
            return Step::Done(Sense::NO_LUN.into());
        };
        if lun.unbound || lun.lunz {
            return Step::Done(Sense::NO_LUN.into());
        }
        let honour = byte(body, 0) & 0x80 == 0;
        let foreign = lun.reserved.is_some_and(|h| h != Holder::Port(ctx.port));
        if honour && foreign {
            return Step::Done(Reply::status(scsi::RESERVATION_CONFLICT));
        }
        if lun.owner != sp {
            if lun.copying {
                return Step::Done(Sense::new(5, 0x04, 0).into());
            }
            if self.ndu_refuses && self.ndu_of(sp) != 0 {
                return Step::Done(Sense::PASSIVE_MANUAL.into());
            }
            if lun.stuck {
                return Step::Stuck(ctx.lun);
            }
            move_lun(ctx.luns, ctx.lun, sp, "MODE SELECT 22", ctx.fx);
        }
        Step::Done(Reply::good())
    }

    fn table(&self, site: &Site, lun: &Lun) -> Vec<Entry> {
        site.groups()
            .into_iter()
            .map(|group| {
                let sp = site.ports.iter().find(|p| p.group == group).map(|p| p.sp);
                Entry { group, state: if sp == Some(lun.owner) { 0 } else { 1 }, preferred: sp == Some(lun.default_owner), status: 1 }
            })
            .collect()
    }

    fn set_target_groups(&mut self, ctx: &mut Ctx, out: &[u8]) -> Step {
        let Some(wanted) = alua::parse_stpg(out) else {
            return Step::Done(Sense::BAD_PARAMETER.into());
        };
        for (group, state) in wanted {
            let sp = ctx.site.ports.iter().find(|p| p.group == group);
            match (sp.map(|p| p.sp), state) {
                (Some(sp), 0) => move_lun(ctx.luns, ctx.lun, sp, "STPG", ctx.fx),
                (Some(_), 1) => {}
                _ => return Step::Done(Sense::BAD_PARAMETER.into()),
            }
        }
        Step::Done(Reply::good())
    }
}

impl Persona for Clariion {
    fn name(&self) -> &'static str {
        "clariion"
    }

    fn identity(&self, view: &View) -> (&'static str, &'static str, &'static str) {
        let product = if view.lun.lunz { "LUNZ" } else { "VRAID" };
        ("DGC", product, "0326")
    }

    fn tpgs(&self) -> u8 {
        if self.alua() { 3 } else { 0 }
    }

    /// scsi_dh_emc wants the model's length at 99, the serial's at 160, serial and model behind it.
    fn inquiry(&self, view: &View, d: &mut Vec<u8>) {
        let serial = view.site.serial.as_bytes();
        let (serial, model) = (&serial[..serial.len().min(16)], &self.model.as_bytes()[..self.model.len().min(16)]);
        d.resize(161 + serial.len() + model.len(), 0);
        d[99] = model.len() as u8;
        d[160] = serial.len() as u8;
        put(d, 161, serial);
        put(d, 161 + serial.len(), model);
    }

    fn pages(&self) -> &'static [u8] {
        &[0xc0]
    }

    fn vpd(&self, view: &View, page: u8) -> Option<Vec<u8>> {
        (page == 0xc0).then(|| self.page_c0(view))
    }

    fn gate(&self, view: &View, class: Class) -> Result<(), Sense> {
        let asked = matches!(class, Class::Ready | Class::Medium);
        let lun = view.lun;
        if lun.unbound || lun.lunz {
            return match class {
                Class::Ready | Class::Medium => Err(Sense::PASSIVE_MANUAL),
                Class::Capacity => Err(Sense::NO_LUN),
                _ => Ok(()),
            };
        }
        let owned = view.site.sp(view.port) == lun.owner;
        if !owned && !self.alua() {
            if asked || (class == Class::Capacity && !self.passive_capacity) {
                return Err(Sense::PASSIVE_MANUAL);
            }
            return Ok(());
        }
        if lun.inactive && class == Class::Medium {
            return Err(Sense::new(5, 0x25, 0x01));
        }
        Ok(())
    }

    fn command(&mut self, ctx: &mut Ctx, cmd: &Command) -> Step {
        if !self.alua() {
            return Step::Pass;
        }
        match (byte(&cmd.cdb, 0), byte(&cmd.cdb, 1) & 0x1f) {
            (op::MAINTENANCE_IN, 0x0a) => match ctx.luns.get(&ctx.lun) {
                Some(lun) => {
                    let table = self.table(ctx.site, lun);
                    Step::Done(alua::rtpg(ctx.site, &table, 0x0f, Some(60), &cmd.cdb))
                }
                None => Step::Pass,
            },
            (op::MAINTENANCE_OUT, 0x0a) => self.set_target_groups(ctx, &cmd.out),
            _ => Step::Pass,
        }
    }

    fn mode_pages(&self) -> &'static [(u8, u8)] {
        &[(TRESPASS, 0)]
    }

    fn mode_page(&self, _view: &View, page: u8, sub: u8) -> Option<Vec<u8>> {
        (page == TRESPASS && sub == 0).then(|| vec![TRESPASS, 0x02, 0x00, 0x00])
    }

    fn mode_select(&mut self, ctx: &mut Ctx, page: u8, sub: u8, body: &[u8]) -> Step {
        match (page, sub) {
            (TRESPASS, 0) => self.trespass(ctx, body),
            _ => Step::Pass,
        }
    }

    fn control(&mut self, _ctx: &mut Ctx, words: &[&str]) -> Result<String, String> {
        let number = |t: &str| {
            let hex = t.strip_prefix("0x").unwrap_or(t);
            u8::from_str_radix(hex, 16).map_err(|_| format!("bad byte '{t}'"))
        };
        match *words {
            ["failover", v] => self.failover = number(v)?,
            ["initiator", v] => self.initiator = number(v)?,
            ["comm-path", v] => self.comm_path = on_off(v)?,
            ["revision", v] => self.revision = number(v)?,
            ["passive-capacity", v] => self.passive_capacity = on_off(v)?,
            ["ndu-refuses", v] => self.ndu_refuses = on_off(v)?,
            ["model", v] => self.model = v.to_string(),
            ["model"] => self.model.clear(),
            ["ndu", ref rest @ .., v] => {
                let value = match on_off(v) {
                    Ok(on) => u8::from(on),
                    Err(_) => number(v)?,
                };
                let sp = match rest {
                    [] => None,
                    [sp] => Some(sp_by_letter(sp).ok_or("bad SP")?),
                    _ => return Err("ndu [SP] on|off|BYTE".into()),
                };
                for (i, n) in self.ndu.iter_mut().enumerate() {
                    if sp.is_none_or(|s| usize::from(s) == i) {
                        *n = value;
                    }
                }
            }
            _ => {
                return Err("clariion failover|initiator|revision HEX, comm-path|passive-capacity|\
                            ndu-refuses on|off, ndu [SP] on|off|HEX, model [TEXT]"
                    .into());
            }
        }
        Ok(String::new())
    }

    fn status(&self, _site: &Site, lun: &Lun) -> String {
        let mut s = format!("failover={} ndu={:02x},{:02x}", self.failover, self.ndu[0], self.ndu[1]);
        for (set, word) in [(lun.unbound, " unbound"), (lun.lunz, " lunz"), (lun.copying, " copying"), (lun.inactive, " inactive")] {
            if set {
                s.push_str(word);
            }
        }
        s
    }
}
