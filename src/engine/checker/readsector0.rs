//! READ(10) of the first block through SG_IO. Unlike TEST UNIT READY it makes the LUN work; a passive controller refuses it.

use super::{Cause, Checker, Step, passing};
use crate::fault::Errno;
use crate::model::PathState;
use crate::wire::scsi::{Command, Outcome, Reply};

/// Times the read is sent when a unit attention is in the way.
const TRIES: u8 = 3;

pub(super) fn next(checker: &mut Checker, reply: &Reply<'_>) -> Step {
    let outcome = reply.outcome();
    let attention = matches!(outcome, Outcome::Check(_)) && passing(&outcome);
    if attention && checker.again(TRIES) {
        return checker.send(Command::read_first_block());
    }
    Step::done(state(&outcome), Cause::from(outcome))
}

/// What one reply to the read says of the path.
pub fn state(outcome: &Outcome) -> PathState {
    match outcome {
        // ENOMEM is this host's trouble, not the path's.
        Outcome::Good | Outcome::Recovered(_) | Outcome::Errno(Errno::NOMEM) => PathState::Up,
        _ => PathState::Down,
    }
}
