//! RDAC: pages 0xC9, 0xC8, 0xC2, MODE SELECT of page 0x2C for this one LUN, page 0xC9 again. scsi_dh_rdac.c.

use super::{Activation, Ended, Fate, State, Step, Why, failed, fate, malformed, unanswered};
use crate::engine::checker::{Cause, rdac::Fault};
use crate::wire::rdac::{ALLOCATION, EXTENDED_DEVICE, SOFTWARE_VERSION, VOLUME_ACCESS, VolumeAccess, lun, max_luns, transfer};
use crate::wire::scsi::{Command, Reply};
use crate::wire::sense::{ABORTED_COMMAND, NO_SENSE};

const OWNER: u8 = 0;
const LUN: u8 = 1;
const MAX_LUNS: u8 = 2;
const ASK: u8 = 3;
const VERIFY: u8 = 4;

/// The volume may take 20 s to quiesce (we say so in the page): looks, two seconds apart.
const LOOKS: u8 = 15;
const PAUSE_SECS: u8 = 2;

const fn inquiry() -> Command {
    Command::vpd(VOLUME_ACCESS, 48)
}

pub(super) const fn start() -> Step {
    Step::Send(inquiry())
}

/// After a wait: a look at the result, or the request that had found the command lock taken.
pub(super) fn look(machine: &mut Activation) -> Step {
    match (machine.stage, machine.state) {
        (ASK, State::Rdac { lun, max_luns }) => Step::Send(transfer(lun, max_luns)),
        _ => Step::Send(inquiry()),
    }
}

pub(super) fn next(machine: &mut Activation, reply: &Reply<'_>) -> Step {
    match machine.stage {
        OWNER | VERIFY => owner(machine, reply),
        LUN => {
            let question = Command::vpd(EXTENDED_DEVICE, ALLOCATION);
            if !reply.done() {
                return unanswered(machine, reply, question);
            }
            let Ok(lun) = lun(reply.data) else { return malformed(machine) };
            machine.state = State::Rdac { lun, max_luns: 0 };
            machine.enter(MAX_LUNS);
            Step::Send(Command::vpd(SOFTWARE_VERSION, ALLOCATION))
        }
        MAX_LUNS => {
            if !reply.done() {
                return unanswered(machine, reply, Command::vpd(SOFTWARE_VERSION, ALLOCATION));
            }
            let (State::Rdac { lun, .. }, Ok(max_luns)) = (machine.state, max_luns(reply.data)) else { return malformed(machine) };
            machine.state = State::Rdac { lun, max_luns };
            machine.enter(ASK);
            machine.asked = true;
            Step::Send(transfer(lun, max_luns))
        }
        _ => asked(machine, reply),
    }
}

fn owner(machine: &mut Activation, reply: &Reply<'_>) -> Step {
    if !reply.done() {
        return unanswered(machine, reply, inquiry());
    }
    let Ok(volume) = VolumeAccess::parse(reply.data) else { return malformed(machine) };
    if !volume.connected {
        return failed(machine, Why::Reply(Cause::Rdac(Fault::NotConnected)));
    }
    let verifying = machine.stage == VERIFY;
    // With automatic transfer the first I/O moves the volume; with I/O shipping only the preferred controller is worth a transfer.
    let serves = volume.owner || volume.avt || (volume.ioship && volume.preference != 1);
    if serves {
        return Step::Done(if verifying { Ended::Taken } else { Ended::Owned });
    }
    if verifying {
        machine.looks += 1;
        return if machine.looks < LOOKS { machine.wait(PAUSE_SECS) } else { machine.unverified(Why::NotOwner) };
    }
    machine.enter(LUN);
    Step::Send(Command::vpd(EXTENDED_DEVICE, ALLOCATION))
}

fn asked(machine: &mut Activation, reply: &Reply<'_>) -> Step {
    let State::Rdac { lun, max_luns } = machine.state else { return malformed(machine) };
    match fate(reply) {
        Fate::Look(doubt) => {
            machine.doubt = doubt;
            machine.enter(VERIFY);
            Step::Send(inquiry())
        }
        Fate::Unheard if machine.again() => Step::Send(transfer(lun, max_luns)),
        // Not carried out, the array says: aborted, becoming ready, or another host holds the command lock.
        Fate::Said(sense) if matches!(sense.key, NO_SENSE | ABORTED_COMMAND) || sense.is(2, 0x04, 0x01) || sense.is(5, 0x91, 0x36) => {
            if machine.again() {
                return machine.wait(1);
            }
            Step::Done(Ended::Busy(Why::Reply(Cause::Sense(sense))))
        }
        Fate::Said(sense) => Step::Done(Ended::Refused(Why::Reply(Cause::Sense(sense)))),
        Fate::Unheard => Step::Done(Ended::Refused(Why::Reply(Cause::from(reply.outcome())))),
        Fate::Refused(cause) => Step::Done(Ended::Refused(Why::Reply(cause))),
    }
}
