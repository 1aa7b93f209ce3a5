//! LSI/Engenio RDAC: VPD page 0xC9 says which controller owns the volume. Owner (or I/O shipping) is up, the other is ghost.
//!
//! Once in a path's life the control mode page is looked at and Task Aborted Status switched on where the array lets us, as the
//! field's checker does: without it a command that another host aborted never ends.

use super::{Cause, Checker, PathMemory, Step, TRIES, passing};
use crate::fault::Errno;
use crate::model::PathState;
use crate::wire::mode;
use crate::wire::rdac::{VOLUME_ACCESS, VolumeAccess};
use crate::wire::scsi::{Command, Outcome, Reply};
use crate::wire::sense::ILLEGAL_REQUEST;

const ASK_CHANGEABLE: u8 = 1;
const ASK_CURRENT: u8 = 2;
const SET: u8 = 3;

/// What is wrong with an RDAC path that answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The volume is not mapped to this host.
    NotConnected,
    /// The controller says that it cannot serve the volume; its reason byte.
    Unavailable(u8),
    /// This controller is changing state and the other one is not.
    Transitioning,
    NotOwner,
}

const fn inquiry() -> Command {
    Command::vpd(VOLUME_ACCESS, 48)
}

pub(super) fn start(checker: &mut Checker, memory: &PathMemory) -> Step {
    if memory.rdac_prepared {
        return checker.send(inquiry());
    }
    checker.stage = ASK_CHANGEABLE;
    checker.send(Command::mode_sense10(mode::CONTROL, 1, mode::ALLOCATION))
}

pub(super) fn next(checker: &mut Checker, reply: &Reply<'_>, memory: &mut PathMemory) -> Step {
    let outcome = reply.outcome();
    if checker.stage != 0 {
        return prepare(checker, reply, outcome, memory);
    }
    match outcome {
        Outcome::Good | Outcome::Recovered(_) => {}
        // Not an RDAC array.
        Outcome::Check(sense) if sense.key == ILLEGAL_REQUEST => return Step::done(PathState::Wild, Cause::Sense(sense)),
        Outcome::Errno(Errno::NOTTY) => return Step::done(PathState::Wild, Cause::Errno(Errno::NOTTY)),
        _ if (passing(&outcome) || busy(&outcome)) && checker.again(TRIES) => return checker.send(inquiry()),
        _ => return Step::done(PathState::Down, Cause::from(outcome)),
    }
    match VolumeAccess::parse(reply.data) {
        Ok(volume) => judge(&volume),
        Err(_) => Step::done(PathState::Down, Cause::Malformed),
    }
}

/// BUSY or TASK SET FULL.
fn busy(outcome: &Outcome) -> bool {
    use crate::wire::scsi::status;
    matches!(outcome, Outcome::Status(status::BUSY | status::TASK_SET_FULL))
}

/// The looks at the control mode page. Nothing that goes wrong here keeps the path from being checked.
fn prepare(checker: &mut Checker, reply: &Reply<'_>, outcome: Outcome, memory: &mut PathMemory) -> Step {
    let done = reply.done();
    if !done && passing(&outcome) && checker.stage != SET && checker.again(TRIES) {
        let control = u8::from(checker.stage == ASK_CHANGEABLE);
        return checker.send(Command::mode_sense10(mode::CONTROL, control, mode::ALLOCATION));
    }
    if done && checker.stage == ASK_CHANGEABLE && mode::tas_changeable(reply.data) {
        checker.stage = ASK_CURRENT;
        return checker.send(Command::mode_sense10(mode::CONTROL, 0, mode::ALLOCATION));
    }
    if done
        && checker.stage == ASK_CURRENT
        && let Some(select) = mode::set_tas(reply.data)
    {
        checker.stage = SET;
        return checker.send(select);
    }
    // A path that nobody answers on is asked again next time.
    memory.rdac_prepared = !matches!(outcome, Outcome::Host(_) | Outcome::Driver(_) | Outcome::Errno(_));
    checker.stage = 0;
    checker.tries = 0;
    checker.send(inquiry())
}

/// Why the volume cannot be used here now.
pub fn fault(volume: &VolumeAccess) -> Option<Fault> {
    const UNAVAILABLE: u8 = 0x3;
    const TRANSITIONING: u8 = 0xf;
    match volume {
        _ if !volume.connected => Some(Fault::NotConnected),
        _ if volume.tpgde && volume.state == UNAVAILABLE => Some(Fault::Unavailable(volume.reason)),
        _ if volume.tpgde && volume.state == TRANSITIONING && volume.alternate_state != TRANSITIONING => Some(Fault::Transitioning),
        _ if volume.owner || volume.ioship => None,
        _ => Some(Fault::NotOwner),
    }
}

fn judge(volume: &VolumeAccess) -> Step {
    match fault(volume) {
        None => Step::done(PathState::Up, Cause::Plain),
        Some(Fault::NotOwner) => Step::done(PathState::Ghost, Cause::Rdac(Fault::NotOwner)),
        Some(fault) => Step::done(PathState::Down, Cause::Rdac(fault)),
    }
}
