//! HP/Compaq active/passive: the passive controller answers 02/04/02 and START STOP UNIT with START
//! set makes it the active one. scsi_dh_hp_sw.c and the hp_sw checker rule what is imitated.

use super::{Ctx, Persona, Step, View};
use crate::lun::move_lun;
use crate::scsi::{Class, Command, Reply, Sense, byte, op};

pub struct HpSw;

impl Persona for HpSw {
    fn name(&self) -> &'static str {
        "hpsw"
    }

    /// In the kernel's handler list and in multipath's table, with NOSTARTONADD in the kernel's
    /// device list: sd does not send START STOP UNIT by itself while probing.
    fn identity(&self, _view: &View) -> (&'static str, &'static str, &'static str) {
        ("HP", "HSV100", "3028")
    }

    fn gate(&self, view: &View, class: Class) -> Result<(), Sense> {
        let passive = view.site.sp(view.port) != view.lun.owner;
        match class {
            Class::Ready | Class::Medium if passive => Err(Sense::PASSIVE_INIT),
            _ => Ok(()),
        }
    }

    fn command(&mut self, ctx: &mut Ctx, cmd: &Command) -> Step {
        if byte(&cmd.cdb, 0) != op::START_STOP_UNIT || byte(&cmd.cdb, 4) & 1 == 0 {
            return Step::Pass;
        }
        let to = ctx.site.sp(ctx.port);
        let Some(lun) = ctx.luns.get(&ctx.lun) else {
            return Step::Pass;
        };
        if lun.owner != to && lun.stuck {
            return Step::Stuck(ctx.lun);
        }
        move_lun(ctx.luns, ctx.lun, to, "START STOP UNIT", ctx.fx);
        Step::Done(Reply::good())
    }
}
