//! ALUA: the access state of the path's target port group, from sysfs (`sysfs`) or asked with REPORT TARGET PORT GROUPS (`alua`).
//!
//! One reply serves every path of the array: [`priority_from`] is all that differs between them. SPC-6 5.17.

use super::{Cause, Prioritizer, Step, Subject};
use crate::engine::checker::{self, passing};
use crate::model::{AccessState, Prio, Tpgs};
use crate::wire::alua::Report;
use crate::wire::inquiry::Inquiry;
use crate::wire::scsi::{Command, DATA_LEN, Outcome, Reply};
use crate::wire::sense::NOT_READY;
use crate::wire::vpd;

/// The scale that the field knows: what an administrator sees in listings.
pub const fn priority(state: AccessState, preferred: bool, exclusive: bool) -> Prio {
    let base = match state {
        AccessState::Optimized => 50,
        AccessState::NonOptimized => 10,
        AccessState::LbaDependent => 5,
        AccessState::Standby => 1,
        AccessState::Unavailable | AccessState::Offline | AccessState::Transitioning | AccessState::Unknown(_) => 0,
    };
    // A preferred path that is optimized is in one group with the other optimized ones, unless told to stand alone.
    let lifted = preferred && (base != 50 || exclusive);
    Prio(if lifted { base + 80 } else { base })
}

/// Priority of a path in `group` by one RTPG reply; `None` when the reply does not list the group.
pub fn priority_from(rtpg: &[u8], group: u16, exclusive: bool) -> Option<Prio> {
    let group = Report::parse(rtpg).ok()?.find(group)?;
    Some(priority(group.state, group.preferred, exclusive))
}

/// The command whose reply [`priority_from`] reads.
pub const fn report() -> Command {
    Command::report_target_port_groups(DATA_LEN, false)
}

/// Is `exclusive_pref_bit` among the words of `prio_args`?
pub fn exclusive(args: &str) -> bool {
    args.split_ascii_whitespace().any(|word| word == "exclusive_pref_bit")
}

/// `sysfs`: what the kernel's handler knows. It may be as old as the last path group initialization.
pub(super) fn from_facts(subject: &Subject<'_>) -> Step {
    match subject.facts.access {
        Some(state) => {
            let Prio(prio) = priority(state, subject.facts.preferred, exclusive(subject.args));
            Step::done(prio, Cause::Plain)
        }
        None => Step::undefined(Cause::NoAccessState),
    }
}

const ASK_GROUP: u8 = 0;
const ASK_TPGS: u8 = 1;
const ASK_STATES: u8 = 2;

/// Times REPORT TARGET PORT GROUPS is sent while the array says "unit attention" or "not ready".
const TRIES: u8 = 4;
/// Room for the standard INQUIRY data where only TPGS is wanted.
const INQUIRY_LEN: u16 = 96;

pub(super) fn start(machine: &mut Prioritizer, subject: &Subject<'_>) -> Step {
    match subject.facts.target_port_group {
        Some(group) => ask(machine, subject, group),
        None => {
            machine.stage = ASK_GROUP;
            Step::Send(Command::vpd(vpd::DEVICE_IDENTIFICATION, DATA_LEN).within(subject.timeout_secs))
        }
    }
}

fn ask(machine: &mut Prioritizer, subject: &Subject<'_>, group: u16) -> Step {
    machine.group = u32::from(group);
    machine.stage = ASK_STATES;
    machine.tries = 0;
    Step::Send(report().within(subject.timeout_secs))
}

pub(super) fn next(machine: &mut Prioritizer, subject: &Subject<'_>, reply: &Reply<'_>) -> Step {
    let outcome = reply.outcome();
    let done = matches!(outcome, Outcome::Good | Outcome::Recovered(_));
    let reason = Cause::Reply(checker::Cause::from(outcome));
    let stage = machine.stage;
    match stage {
        ASK_GROUP if done => match vpd::target_port(reply.data).0 {
            Some(group) => ask(machine, subject, group),
            // Say why: an array without ALUA, or one that does not tell where the path ends.
            None if subject.facts.tpgs == Tpgs::Unknown => {
                machine.stage = ASK_TPGS;
                Step::Send(Command::inquiry(INQUIRY_LEN).within(subject.timeout_secs))
            }
            None => no_group(subject.facts.tpgs),
        },
        ASK_GROUP if passing(&outcome) && machine.again(TRIES) => {
            Step::Send(Command::vpd(vpd::DEVICE_IDENTIFICATION, DATA_LEN).within(subject.timeout_secs))
        }
        ASK_TPGS if done => no_group(Inquiry::parse(reply.data).map_or(Tpgs::Unknown, |i| i.tpgs())),
        ASK_STATES if done => states(machine, subject, reply.data),
        ASK_STATES if unsettled(&outcome) && machine.again(TRIES) => Step::Send(report().within(subject.timeout_secs)),
        _ => Step::undefined(reason),
    }
}

fn no_group(tpgs: Tpgs) -> Step {
    Step::undefined(if tpgs == Tpgs::None { Cause::Unsupported } else { Cause::NoGroup })
}

/// A unit attention, or not ready (a transition): the same question may be answered a moment later.
fn unsettled(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Check(sense) if sense.key == NOT_READY || passing(outcome))
}

fn states(machine: &Prioritizer, subject: &Subject<'_>, data: &[u8]) -> Step {
    let group = u16::try_from(machine.group).unwrap_or(u16::MAX);
    if let Some(Prio(prio)) = priority_from(data, group, exclusive(subject.args)) {
        return Step::done(prio, Cause::Plain);
    }
    let malformed = Report::parse(data).is_err();
    // A list that is longer than the page is not read on: see docs/differences.md, Priorities.
    Step::undefined(if malformed { Cause::Reply(checker::Cause::Malformed) } else { Cause::NotListed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reply_for_all_paths() {
        let rtpg = [0, 0, 0, 24, 0x80, 0x8f, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x01, 0x8f, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(priority_from(&rtpg, 1, false), Some(Prio(50)));
        assert_eq!(priority_from(&rtpg, 1, true), Some(Prio(130)));
        assert_eq!(priority_from(&rtpg, 2, true), Some(Prio(10)));
        assert_eq!(priority_from(&rtpg, 3, true), None);
        assert_eq!(priority_from(&[], 1, false), None);
    }
}
