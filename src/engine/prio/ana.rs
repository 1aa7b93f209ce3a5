//! NVMe asymmetric namespace access: from `ana_state` where the kernel shows it, else asked with two admin commands and the log,
//! a page at a time.

use super::{Cause, Prioritizer, Step};
use crate::engine::checker;
use crate::fault::Errno;
use crate::model::{AccessState, PathFacts};
use crate::wire::nvme::{self, Listed};

/// Bytes of the log asked for at a time: room for 127 groups.
const LOG_LEN: u16 = 4096;
/// Nor is more asked for than these: some 2,000 groups.
const PARTS: u8 = 16;

const ASK_CONTROLLER: u8 = 0;
const ASK_GROUP: u8 = 1;
const ASK_STATES: u8 = 2;

/// What a state is worth. A state that may come back (inaccessible, change) is not nothing, persistent loss is.
pub const fn priority(state: AccessState) -> Option<i32> {
    match state {
        AccessState::Optimized => Some(50),
        AccessState::NonOptimized => Some(10),
        AccessState::Unavailable | AccessState::Transitioning => Some(1),
        AccessState::Offline => Some(0),
        AccessState::Standby | AccessState::LbaDependent | AccessState::Unknown(_) => None,
    }
}

fn judge(state: AccessState) -> Step {
    priority(state).map_or(Step::undefined(Cause::NoAccessState), |prio| Step::done(prio, Cause::Plain))
}

pub(super) fn start(facts: &PathFacts) -> Step {
    facts.access.map_or(Step::Admin(nvme::identify_controller()), judge)
}

pub(super) fn next(machine: &mut Prioritizer, data: Result<&[u8], Errno>) -> Step {
    let data = match data {
        Ok(data) => data,
        Err(errno) => return Step::undefined(Cause::Reply(checker::Cause::Errno(errno))),
    };
    let malformed = Step::undefined(Cause::Reply(checker::Cause::Malformed));
    match machine.stage {
        ASK_CONTROLLER => match nvme::reports_ana(data) {
            Ok(true) => {
                machine.stage = ASK_GROUP;
                Step::Admin(nvme::identify_namespace())
            }
            Ok(false) => Step::undefined(Cause::Unsupported),
            Err(_) => malformed,
        },
        ASK_GROUP => match nvme::ana_group(data) {
            Ok(0) => Step::undefined(Cause::NoGroup),
            Ok(group) => {
                machine.group = group;
                machine.stage = ASK_STATES;
                Step::Admin(nvme::ana_log(LOG_LEN, 0))
            }
            Err(_) => malformed,
        },
        _ => {
            let listed = match machine.offset {
                0 => nvme::ana_state(data, machine.group),
                _ => Ok(nvme::ana_further(data, machine.group, machine.left)),
            };
            match listed {
                Ok(Listed::Here(state)) => judge(state),
                Ok(Listed::Further { left, used }) if left > 0 && used > 0 && machine.tries < PARTS => {
                    (machine.offset, machine.left, machine.tries) = (machine.offset + used as u32, left, machine.tries + 1);
                    Step::Admin(nvme::ana_log(LOG_LEN, machine.offset))
                }
                Ok(Listed::Further { .. }) => Step::undefined(Cause::NotListed),
                Err(_) => malformed,
            }
        }
    }
}
