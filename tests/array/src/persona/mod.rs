//! A personality: what makes the array this make of array. One file each; the common commands call
//! these hooks and know nothing of the makes.

pub mod alua;
pub mod clariion;
pub mod hpsw;
pub mod plain;
pub mod rdac;

use crate::lun::{Effect, Lun, Luns};
use crate::scsi::{Class, Command, Reply, Sense};
use crate::site::Site;

/// Read-only look at one LUN through one port.
pub struct View<'a> {
    pub site: &'a Site,
    pub lun: &'a Lun,
    pub port: usize,
    /// Milliseconds since the array started.
    pub now: u64,
}

/// What a personality may change while it handles a command or a control verb.
pub struct Ctx<'a> {
    pub site: &'a Site,
    pub luns: &'a mut Luns,
    pub port: usize,
    pub lun: u16,
    pub now: u64,
    pub fx: &'a mut Vec<Effect>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not mine: the common code answers.
    Pass,
    Done(Reply),
    /// Taken, executed, and its answer kept for so many milliseconds.
    Late(Reply, u64),
    /// Taken and never answered, as long as this LUN is `stuck`.
    Stuck(u16),
}

pub trait Persona: Send {
    fn name(&self) -> &'static str;

    /// Vendor, product, revision of the standard INQUIRY.
    fn identity(&self, view: &View) -> (&'static str, &'static str, &'static str);

    /// TPGS field: 0 none, 1 implicit, 2 explicit, 3 both.
    fn tpgs(&self) -> u8 {
        0
    }

    /// More in the standard INQUIRY data; the buffer may grow, its length byte is set afterwards.
    fn inquiry(&self, _view: &View, _data: &mut Vec<u8>) {}

    /// Vendor VPD pages, listed in page 00.
    fn pages(&self) -> &'static [u8] {
        &[]
    }

    /// The body of one of `pages`.
    fn vpd(&self, _view: &View, _page: u8) -> Option<Vec<u8>> {
        None
    }

    /// May a command of this class be served here and now?
    fn gate(&self, _view: &View, _class: Class) -> Result<(), Sense> {
        Ok(())
    }

    /// Commands of its own, after unit attentions and reservations, before the gate.
    fn command(&mut self, _ctx: &mut Ctx, _cmd: &Command) -> Step {
        Step::Pass
    }

    fn mode_pages(&self) -> &'static [(u8, u8)] {
        &[]
    }

    /// A whole mode page, header included.
    fn mode_page(&self, _view: &View, _page: u8, _sub: u8) -> Option<Vec<u8>> {
        None
    }

    /// A page of a MODE SELECT; Pass when it is not a page of this make.
    fn mode_select(&mut self, _ctx: &mut Ctx, _page: u8, _sub: u8, _body: &[u8]) -> Step {
        Step::Pass
    }

    /// Ends what has run out by `now` (transitions).
    fn settle(&mut self, _ctx: &mut Ctx) {}

    /// When `settle` has something to do next.
    fn due(&self) -> Option<u64> {
        None
    }

    /// Control words behind the personality's name.
    fn control(&mut self, _ctx: &mut Ctx, _words: &[&str]) -> Result<String, String> {
        Err(format!("{} has no controls", self.name()))
    }

    /// Words for the status line of a LUN.
    fn status(&self, _site: &Site, _lun: &Lun) -> String {
        String::new()
    }

    /// The array itself or another host moves a LUN to another SP.
    fn moved(&mut self, ctx: &mut Ctx, to: u8, by: &str) {
        crate::lun::move_lun(ctx.luns, ctx.lun, to, by, ctx.fx);
    }
}

pub fn by_name(name: &str) -> Option<Box<dyn Persona>> {
    Some(match name {
        "plain" => Box::new(plain::Plain),
        "alua" => Box::new(alua::Alua::default()),
        "clariion" => Box::new(clariion::Clariion::default()),
        "rdac" => Box::new(rdac::Rdac::default()),
        "hpsw" => Box::new(hpsw::HpSw),
        _ => return None,
    })
}

pub const NAMES: &[&str] = &["plain", "alua", "clariion", "rdac", "hpsw"];

pub(crate) fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" | "yes" | "1" => Ok(true),
        "off" | "no" | "0" => Ok(false),
        _ => Err(format!("'{text}' is neither on nor off")),
    }
}
