//! CLARiiON/VNX: VPD page 0xC0, MODE SELECT of page 0x22, page 0xC0 again. scsi_dh_emc.c, with the reading back in earnest.

use super::{Activation, Ended, Fate, State, Step, Why, failed, fate, malformed, unanswered};
use crate::engine::checker::{Cause, emc as rules, emc::Fault};
use crate::wire::emc::{Lun, Page, inquiry, trespass};
use crate::wire::inquiry::Inquiry;
use crate::wire::scsi::{Command, Reply};

const OWNER: u8 = 0;
const MODEL: u8 = 1;
const ASK_SHORT: u8 = 2;
const ASK_LONG: u8 = 3;
const VERIFY: u8 = 4;

/// The model's name stands behind the standard INQUIRY data.
const INQUIRY_LEN: u16 = 255;
/// Looks at the result, a second apart: a trespass is done when its command ends, but a busy processor shows it late.
const LOOKS: u8 = 10;

pub(super) const fn start() -> Step {
    Step::Send(inquiry())
}

pub(super) fn look(_: &mut Activation) -> Step {
    Step::Send(inquiry())
}

pub(super) fn next(machine: &mut Activation, reply: &Reply<'_>, short: Option<bool>, honour: bool) -> Step {
    match machine.stage {
        OWNER | VERIFY => owner(machine, reply, short, honour),
        MODEL => {
            if !reply.done() {
                return unanswered(machine, reply, Command::inquiry(INQUIRY_LEN));
            }
            let Ok(inquiry) = Inquiry::parse(reply.data) else { return malformed(machine) };
            ask(machine, inquiry.short_trespass(), honour)
        }
        stage => asked(machine, reply, trespass(stage == ASK_SHORT, honour)),
    }
}

fn owner(machine: &mut Activation, reply: &Reply<'_>, short: Option<bool>, honour: bool) -> Step {
    if !reply.done() {
        return unanswered(machine, reply, inquiry());
    }
    let Ok(page) = Page::parse(reply.data) else { return malformed(machine) };
    let fault = |f| Why::Reply(Cause::Emc(f));
    if let Some(found) = rules::misconfigured(&page) {
        return failed(machine, fault(found));
    }
    if let State::Emc { wwn } = machine.state
        && wwn != page.wwn
    {
        return failed(machine, fault(Fault::WwnChanged));
    }
    let verifying = machine.stage == VERIFY;
    match page.lun {
        Lun::Owned => return Step::Done(if verifying { Ended::Taken } else { Ended::Owned }),
        Lun::Unbound => return failed(machine, fault(Fault::Unbound)),
        Lun::Unknown(state) => return failed(machine, fault(Fault::State(state))),
        Lun::Bound => {}
    }
    // An upgrade moves the LUNs itself; to trespass now is to fight it.
    if page.operations != 0 {
        return Step::Done(Ended::Busy(fault(Fault::Operations(page.operations))));
    }
    if verifying {
        machine.looks += 1;
        return if machine.looks < LOOKS { machine.wait(1) } else { machine.unverified(Why::NotOwner) };
    }
    machine.state = State::Emc { wwn: page.wwn };
    match short {
        Some(short) => ask(machine, short, honour),
        None => {
            machine.enter(MODEL);
            Step::Send(Command::inquiry(INQUIRY_LEN))
        }
    }
}

fn ask(machine: &mut Activation, short: bool, honour: bool) -> Step {
    machine.enter(if short { ASK_SHORT } else { ASK_LONG });
    machine.asked = true;
    Step::Send(trespass(short, honour))
}

fn asked(machine: &mut Activation, reply: &Reply<'_>, command: Command) -> Step {
    match fate(reply) {
        Fate::Look(doubt) => {
            machine.doubt = doubt;
            machine.enter(VERIFY);
            Step::Send(inquiry())
        }
        Fate::Unheard if machine.again() => Step::Send(command),
        Fate::Unheard => Step::Done(Ended::Refused(Why::Reply(Cause::from(reply.outcome())))),
        // Array copy, or an upgrade.
        Fate::Said(sense) if sense.is(5, 0x04, 0x00) || sense.is(2, 0x04, 0x03) => Step::Done(Ended::Busy(Why::Reply(Cause::Sense(sense)))),
        Fate::Said(sense) => Step::Done(Ended::Refused(Why::Reply(Cause::Sense(sense)))),
        Fate::Refused(cause) => Step::Done(Ended::Refused(Why::Reply(cause))),
    }
}
