//! One block read at 0 with O_DIRECT, by the block layer: the same way as the map's own I/O takes, scsi_dh's filter included.
//!
//! So on a passive path with a handler attached it fails without reaching the array, and stays failing after an outside trespass
//! until the kernel activates the path again: not for CLARiiON (scsi_dh_emc.c, clariion_prep_fn). A SCSI path whose read fails is
//! asked by TEST UNIT READY, which no handler keeps back: standby is ghost as for `tur`, anything but good is the reason that is told.

use super::{Answer, Cause, Checker, Step, Verdict, tur};
use crate::fault::Errno;
use crate::model::PathState;
use crate::wire::scsi::Command;

/// Bytes to read: one logical block, but never more than 4096, nor nothing when the size is unknown.
pub const fn length(block_size: u32) -> u32 {
    match block_size {
        0 => 512,
        1..=4096 => block_size,
        _ => 4096,
    }
}

const READ: u8 = 0;
const ASK: u8 = 1;

pub(super) fn next(checker: &mut Checker, answer: Answer<'_>) -> Step {
    match (checker.stage, answer) {
        // A handler fails reads by what it last heard of the port, and hears of a change with the next reply through it: without one, a
        // path that was in standby would stay failed for ever. So the port is asked, and may say what it has.
        (READ, Answer::Read(Err(Errno::IO))) if checker.subject.scsi => {
            checker.stage = ASK;
            checker.send(Command::test_unit_ready())
        }
        (READ, Answer::Read(result)) => judge(length(checker.subject.block_size), result),
        (ASK, Answer::Scsi(reply)) => match tur::next(checker, reply) {
            Step::Done(Verdict { state: PathState::Up | PathState::Wild, .. }) => Step::done(PathState::Down, Cause::Errno(Errno::IO)),
            other => other,
        },
        _ => Step::done(PathState::Wild, Cause::Malformed),
    }
}

fn judge(wanted: u32, result: Result<u32, Errno>) -> Step {
    match result {
        Ok(got) if got == wanted => Step::done(PathState::Up, Cause::Plain),
        Ok(got) => Step::done(PathState::Down, Cause::ShortRead(got)),
        // The read was not even issued: nothing is known of the path, the old state stands.
        Err(e @ (Errno::NOMEM | Errno::AGAIN | Errno::INTR)) => Step::done(PathState::Unchecked, Cause::Errno(e)),
        Err(e) => Step::done(PathState::Down, Cause::Errno(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads() {
        let state = |wanted, result| match judge(wanted, result) {
            Step::Done(v) => v.state,
            _ => panic!("one read is all"),
        };
        assert_eq!(state(512, Ok(512)), PathState::Up);
        assert_eq!(state(4096, Ok(512)), PathState::Down);
        assert_eq!(state(512, Ok(0)), PathState::Down);
        assert_eq!(state(512, Err(Errno::IO)), PathState::Down);
        assert_eq!(state(512, Err(Errno::NODEV)), PathState::Down);
        assert_eq!(state(512, Err(Errno::NOMEM)), PathState::Unchecked);
        assert_eq!((length(0), length(512), length(4096), length(65536)), (512, 512, 4096, 4096));
    }
    #[test]
    fn a_read_that_fails_is_asked_about() {
        use crate::conf::settings::CheckerKind;
        use crate::wire::scsi::Reply;
        let good = Reply { status: 0, host: 0, driver: 0, sense: &[], data: &[], errno: None };
        let sense = |key, asc, ascq| [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0];
        let (standby, changed, moving, gone) = (sense(2, 4, 0x0b), sense(6, 0x2a, 6), sense(2, 4, 0x0a), sense(5, 0x25, 0));
        let after = |scsi, replies: &[&[u8]]| {
            let subject = super::super::Subject { scsi, block_size: 512, ..Default::default() };
            let (mut checker, _) = Checker::start(CheckerKind::Directio, subject, &Default::default());
            let mut step = next(&mut checker, Answer::Read(Err(Errno::IO)));
            for sense in replies {
                assert_eq!(step, Step::Send(Command::test_unit_ready().within(0)));
                let check = Reply { status: if sense.is_empty() { 0 } else { 2 }, sense, ..good };
                step = next(&mut checker, Answer::Scsi(&check));
            }
            match step {
                Step::Done(v) => v.state,
                step => panic!("{step:?}"),
            }
        };
        assert_eq!(after(false, &[]), PathState::Down);
        assert_eq!(after(true, &[&[]]), PathState::Down, "the read's word stands");
        assert_eq!(after(true, &[&changed, &[]]), PathState::Down);
        assert_eq!(after(true, &[&standby]), PathState::Ghost);
        assert_eq!(after(true, &[&changed, &moving]), PathState::Pending);
        assert_eq!(after(true, &[&gone]), PathState::Disconnected);
    }
}
