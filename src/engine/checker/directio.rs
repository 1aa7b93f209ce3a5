//! One block read at 0 with O_DIRECT, by the block layer: the same way as the map's own I/O takes, scsi_dh's filter included.
//!
//! So on a passive path with a handler attached it fails without reaching the array, and stays failing after an outside trespass
//! until the kernel activates the path again: not for CLARiiON (scsi_dh_emc.c, clariion_prep_fn).

use super::{Cause, Step};
use crate::fault::Errno;
use crate::model::PathState;

/// Bytes to read: one logical block, but never more than 4096, nor nothing when the size is unknown.
pub const fn length(block_size: u32) -> u32 {
    match block_size {
        0 => 512,
        1..=4096 => block_size,
        _ => 4096,
    }
}

pub(super) fn judge(wanted: u32, result: Result<u32, Errno>) -> Step {
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
}
