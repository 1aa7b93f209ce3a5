//! TEST UNIT READY: the cheapest question, and the one that ALUA arrays answer with the port's state.
//!
//! Answers of the storage: standby is ghost, transitioning is pending, "no such logical unit" is disconnected. SPC-6 6.47, table F.1.

use super::{Cause, Checker, Step, TRIES, passing};
use crate::fault::Errno;
use crate::model::PathState;
use crate::wire::scsi::{Command, Outcome, Reply};

pub(super) fn next(checker: &mut Checker, reply: &Reply<'_>) -> Step {
    let outcome = reply.outcome();
    if passing(&outcome) && checker.again(TRIES) {
        return checker.send(Command::test_unit_ready());
    }
    Step::done(state(&outcome), Cause::from(outcome))
}

/// What one reply to TEST UNIT READY says of the path.
pub fn state(outcome: &Outcome) -> PathState {
    match outcome {
        // A reservation of another host does not stop us from reaching the LUN.
        Outcome::Good | Outcome::Recovered(_) | Outcome::ReservationConflict => PathState::Up,
        Outcome::Check(sense) if sense.is(2, 0x04, 0x0b) => PathState::Ghost,
        Outcome::Check(sense) if sense.is(2, 0x04, 0x0a) => PathState::Pending,
        Outcome::Check(sense) if sense.is(5, 0x25, 0x00) => PathState::Disconnected,
        // No SCSI device: this checker cannot judge it.
        Outcome::Errno(Errno::NOTTY) => PathState::Wild,
        _ => PathState::Down,
    }
}
