//! HP active/passive controllers: TEST UNIT READY, START STOP UNIT, TEST UNIT READY. scsi_dh_hp_sw.c.

use super::{Activation, Ended, Fate, Step, Why, fate, unanswered};
use crate::engine::checker::Cause;
use crate::wire::scsi::{Command, Outcome, Reply};

const OWNER: u8 = 0;
const ASK: u8 = 1;
const VERIFY: u8 = 2;

/// Looks at the result, two seconds apart: a controller takes up to half a minute to move a LUN.
const LOOKS: u8 = 15;
const PAUSE_SECS: u8 = 2;

pub(super) const fn start() -> Step {
    Step::Send(Command::test_unit_ready())
}

pub(super) fn look(machine: &mut Activation) -> Step {
    Step::Send(if machine.stage == ASK { Command::start_unit() } else { Command::test_unit_ready() })
}

/// "Initializing command required": this controller stands by.
fn passive(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Check(sense) if sense.is(2, 0x04, 0x02))
}

/// "Manual intervention required": the LUN is on its way between controllers.
fn moving(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Check(sense) if sense.is(2, 0x04, 0x03) || sense.is(2, 0x04, 0x01))
}

pub(super) fn next(machine: &mut Activation, reply: &Reply<'_>) -> Step {
    let outcome = reply.outcome();
    match machine.stage {
        OWNER if reply.done() => Step::Done(Ended::Owned),
        OWNER if passive(&outcome) => {
            machine.enter(ASK);
            machine.asked = true;
            Step::Send(Command::start_unit())
        }
        OWNER if moving(&outcome) => Step::Done(Ended::Busy(Why::Reply(Cause::from(outcome)))),
        VERIFY if reply.done() => Step::Done(Ended::Taken),
        VERIFY if passive(&outcome) || moving(&outcome) => {
            machine.looks += 1;
            if machine.looks < LOOKS { machine.wait(PAUSE_SECS) } else { machine.unverified(Why::NotOwner) }
        }
        ASK => match fate(reply) {
            Fate::Look(doubt) => {
                machine.doubt = doubt;
                machine.enter(VERIFY);
                Step::Send(Command::test_unit_ready())
            }
            Fate::Unheard if machine.again() => Step::Send(Command::start_unit()),
            Fate::Said(_) if moving(&outcome) => {
                if machine.again() {
                    return machine.wait(1);
                }
                Step::Done(Ended::Busy(Why::Reply(Cause::from(outcome))))
            }
            _ => Step::Done(Ended::Refused(Why::Reply(Cause::from(outcome)))),
        },
        _ => unanswered(machine, reply, Command::test_unit_ready()),
    }
}
