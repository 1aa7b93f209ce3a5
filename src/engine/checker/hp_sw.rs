//! HP active/passive controllers (MSA1000, HSV1x0, HSG80): INQUIRY page 0x80 says alive, TEST UNIT READY says active.

use super::{Cause, Checker, Step, TRIES, passing};
use crate::fault::Errno;
use crate::model::PathState;
use crate::wire::scsi::{Command, Outcome, Reply};
use crate::wire::sense::ILLEGAL_REQUEST;
use crate::wire::vpd::UNIT_SERIAL_NUMBER;

pub(super) const fn inquiry() -> Command {
    Command::vpd(UNIT_SERIAL_NUMBER, 255)
}

pub(super) fn next(checker: &mut Checker, reply: &Reply<'_>) -> Step {
    let outcome = reply.outcome();
    if checker.stage == 0 {
        if passing(&outcome) && checker.again(TRIES) {
            return checker.send(inquiry());
        }
        let state = match outcome {
            Outcome::Good | Outcome::Recovered(_) => {
                checker.stage = 1;
                return checker.send(Command::test_unit_ready());
            }
            // Not such a controller.
            Outcome::Check(sense) if sense.key == ILLEGAL_REQUEST => PathState::Wild,
            Outcome::Errno(Errno::NOTTY) => PathState::Wild,
            _ => PathState::Down,
        };
        return Step::done(state, Cause::from(outcome));
    }
    let state = match outcome {
        Outcome::Good | Outcome::Recovered(_) => PathState::Up,
        // The controller answered: alive, but not serving this LUN.
        Outcome::Check(_) | Outcome::Status(_) | Outcome::ReservationConflict => PathState::Ghost,
        // It did not: the path went away between the two questions.
        Outcome::Host(_) | Outcome::Driver(_) | Outcome::Errno(_) => PathState::Down,
    };
    Step::done(state, Cause::from(outcome))
}
