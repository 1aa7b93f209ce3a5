//! LSI/Engenio/NetApp RDAC: VPD pages C2, C4, C8, C9, ownership moved by MODE SELECT page 2Ch.
//! scsi_dh_rdac.c and multipath's rdac checker and prioritizer rule every byte set here.
//!
//! A controller that does not own a LUN answers READ and WRITE with 05/94/01; TEST UNIT READY is good
//! on both (which is why RDAC has a checker of its own), unless `passive-tur off`.

use super::{Ctx, Persona, Step, View, on_off};
use crate::lun::{Lun, move_lun};
use crate::scsi::{Class, Command, Reply, Sense, byte, put};
use crate::site::Site;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Active/passive.
    Rdac,
    /// Auto volume transfer: I/O on the other controller moves the LUN there.
    Avt,
    /// Both controllers serve, the owner better.
    Ioship,
}

pub struct Rdac {
    pub mode: Mode,
    /// Byte 4 of C9 bit 4 and the access states of bytes 10 to 13.
    pub tpgde: bool,
    /// Access state and vendor state of this controller, then of the other.
    pub states: [u8; 4],
    pub passive_tur: bool,
    /// Byte 15 of C2: from 32 on the host uses MODE SELECT(10).
    pub max_luns: u8,
    /// "vac1" or "vace", the two that exist.
    pub c9_id: [u8; 4],
}

impl Default for Rdac {
    fn default() -> Rdac {
        Rdac { mode: Mode::Rdac, tpgde: false, states: [0; 4], passive_tur: true, max_luns: 255, c9_id: *b"vac1" }
    }
}

const ARRAY_LABEL: &str = "corepath";
const PAGE: u8 = 0x2c;
/// Bytes of the page before its LUN table.
const COMMON: usize = 38;

impl Rdac {
    fn c2(&self) -> Vec<u8> {
        let mut d = vec![0u8; 251];
        put(&mut d, 0, b"swr4");
        put(&mut d, 4, &[7, 84, 0, 1, 1, 20, 0, self.max_luns]);
        d
    }

    /// The slot decides which controller the kernel takes it for: "01" is A, "02" is B.
    fn c4(&self, view: &View) -> Vec<u8> {
        let mut d = vec![b' '; 28];
        put(&mut d, 0, b"subs");
        put(&mut d, 4, view.site.serial.as_bytes().get(..16).unwrap_or(view.site.serial.as_bytes()));
        put(&mut d, 20, b"0784");
        put(&mut d, 24, &[0x30, 0x31 + view.site.sp(view.port)]);
        put(&mut d, 26, &[0, 0]);
        d
    }

    /// LUN number, volume and array names; labels are two bytes per character.
    fn c8(&self, view: &View) -> Vec<u8> {
        let mut d = vec![0u8; 171];
        let label = |text: &str| -> Vec<u8> { text.bytes().flat_map(|b| [0, b]).take(60).collect() };
        put(&mut d, 0, b"edid");
        d[7] = 16;
        put(&mut d, 8, &view.lun.wwn);
        let volume = label(&format!("lun{}", view.lun.number));
        d[24] = volume.len() as u8;
        put(&mut d, 25, &volume);
        d[85] = 16;
        let mut id = crate::lun::default_wwn(&view.site.serial, 0);
        id[15] = 0xff;
        put(&mut d, 86, &id);
        let array = label(ARRAY_LABEL);
        d[102] = array.len() as u8;
        put(&mut d, 103, &array);
        d[169..171].copy_from_slice(&view.lun.number.to_be_bytes());
        d
    }

    fn c9(&self, view: &View) -> Vec<u8> {
        let sp = view.site.sp(view.port);
        let mut d = vec![0u8; 44];
        put(&mut d, 0, &self.c9_id);
        d[4] = u8::from(view.lun.owner == sp);
        d[4] |= match self.mode {
            Mode::Rdac => 0,
            Mode::Avt => 0x80,
            Mode::Ioship => 0x20,
        };
        if self.tpgde {
            d[4] |= 0x10;
            put(&mut d, 6, &self.states);
        }
        d[5] = if view.lun.default_owner == sp { 1 } else { 2 };
        d
    }

    /// Entry n of the table with bit 0 set: LUN n comes to this controller.
    fn transfer(&mut self, ctx: &mut Ctx, body: &[u8]) -> Step {
        if byte(body, 33) != 0x02 {
            return Step::Done(Sense::BAD_PARAMETER.into()); // only "transfer specified LUNs"
        }
        let table = body.get(COMMON..).unwrap_or(&[]);
        let table = &table[..table.len().min(256)];
        let sp = ctx.site.sp(ctx.port);
        let wanted: Vec<u16> =
            ctx.luns.values().filter(|l| byte(table, usize::from(l.number)) & 1 == 1 && l.owner != sp).map(|l| l.number).collect();
        // One LUN that sticks holds the whole command, as one MODE SELECT carries them all.
        if let Some(n) = wanted.iter().find(|n| ctx.luns.get(n).is_some_and(|l| l.stuck)) {
            return Step::Stuck(*n);
        }
        for n in wanted {
            move_lun(ctx.luns, n, sp, "MODE SELECT 2C", ctx.fx);
        }
        Step::Done(Reply::good())
    }
}

impl Persona for Rdac {
    fn name(&self) -> &'static str {
        "rdac"
    }

    fn identity(&self, _view: &View) -> (&'static str, &'static str, &'static str) {
        ("LSI", "INF-01-00", "0784")
    }

    fn pages(&self) -> &'static [u8] {
        &[0xc2, 0xc4, 0xc8, 0xc9]
    }

    fn vpd(&self, view: &View, page: u8) -> Option<Vec<u8>> {
        Some(match page {
            0xc2 => self.c2(),
            0xc4 => self.c4(view),
            0xc8 => self.c8(view),
            0xc9 => self.c9(view),
            _ => return None,
        })
    }

    fn gate(&self, view: &View, class: Class) -> Result<(), Sense> {
        if self.mode != Mode::Rdac || view.site.sp(view.port) == view.lun.owner {
            return Ok(());
        }
        match class {
            Class::Medium => Err(Sense::new(5, 0x94, 0x01)),
            Class::Ready if !self.passive_tur => Err(Sense::new(5, 0x94, 0x01)),
            _ => Ok(()),
        }
    }

    fn command(&mut self, ctx: &mut Ctx, cmd: &Command) -> Step {
        if self.mode == Mode::Avt && crate::scsi::class(&cmd.cdb) == Class::Medium {
            let sp = ctx.site.sp(ctx.port);
            move_lun(ctx.luns, ctx.lun, sp, "AVT", ctx.fx);
        }
        Step::Pass
    }

    fn mode_pages(&self) -> &'static [(u8, u8)] {
        &[(PAGE, 0), (PAGE, 1)]
    }

    /// Mode byte 2 (dual active), the table with 81h for each LUN this controller owns.
    fn mode_page(&self, view: &View, page: u8, sub: u8) -> Option<Vec<u8>> {
        if page != PAGE || sub > 1 {
            return None;
        }
        let (head, luns, tail): (Vec<u8>, usize, usize) = match sub {
            0 => (vec![PAGE, 0x68], 32, 34),
            _ => (vec![PAGE | 0x40, 1, 0x01, 0x28], 256, 2),
        };
        let mut d = head;
        let at = d.len();
        d.resize(at + COMMON + luns + tail, 0);
        put(&mut d, at, view.site.serial.as_bytes().get(..16).unwrap_or(view.site.serial.as_bytes()));
        put(&mut d, at + 32, &[0, 0x02, 0, 0x02]);
        let n = usize::from(view.lun.number);
        if n < luns && view.lun.owner == view.site.sp(view.port) {
            put(&mut d, at + COMMON + n, &[0x81]);
        }
        Some(d)
    }

    fn mode_select(&mut self, ctx: &mut Ctx, page: u8, sub: u8, body: &[u8]) -> Step {
        match (page, sub) {
            (PAGE, 0 | 1) => self.transfer(ctx, body),
            _ => Step::Pass,
        }
    }

    fn control(&mut self, _ctx: &mut Ctx, words: &[&str]) -> Result<String, String> {
        match *words {
            ["mode", "rdac"] => self.mode = Mode::Rdac,
            ["mode", "avt"] => self.mode = Mode::Avt,
            ["mode", "ioship"] => self.mode = Mode::Ioship,
            ["passive-tur", v] => self.passive_tur = on_off(v)?,
            ["max-luns", v] => self.max_luns = v.parse().map_err(|_| "bad number")?,
            ["c9-id", v] if v.len() == 4 => self.c9_id.copy_from_slice(v.as_bytes()),
            ["tpgde", "off"] => self.tpgde = false,
            ["tpgde", v] => {
                let b = crate::rule::parse_hex(v).ok_or("bad hex")?;
                self.states = b.try_into().map_err(|_| "four bytes")?;
                self.tpgde = true;
            }
            _ => {
                return Err("rdac mode rdac|avt|ioship, passive-tur on|off, max-luns N, \
                            c9-id vac1|vace, tpgde off|HEX8"
                    .into());
            }
        }
        Ok(String::new())
    }

    fn status(&self, _site: &Site, _lun: &Lun) -> String {
        format!("mode={:?}", self.mode).to_lowercase()
    }
}
