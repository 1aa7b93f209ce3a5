//! ALUA: REPORT, SET, REPORT TARGET PORT GROUPS. A group in transition is waited for, as long as the array says it may take.

use super::{Activation, Ended, Fate, State, Step, Why, failed, fate, malformed, unanswered};
use crate::engine::checker::Cause;
use crate::model::AccessState;
use crate::wire::alua::{Report, code};
use crate::wire::scsi::{Command, DATA_LEN, Outcome, Reply};
use crate::wire::sense::ILLEGAL_REQUEST;

const ASK: u8 = 1;
const VERIFY: u8 = 2;

/// Seconds between looks at a transition, and its time when the array names none (alua: ALUA_RTPG_DELAY_MSECS, ALUA_FAILOVER_TIMEOUT).
const PAUSE_SECS: u8 = 2;
const TRANSITION_SECS: u16 = 60;
/// Looks at a result that does not come, without a transition being shown.
const LOOKS: u8 = 5;

/// The plain header is for arrays that refused the extended one.
fn report(machine: &Activation) -> Command {
    Command::report_target_port_groups(DATA_LEN, !matches!(machine.state, State::Alua { plain_header: true, .. }))
}

fn set(group: u16) -> Command {
    Command::set_target_port_group(group, code(AccessState::Optimized))
}

pub(super) fn start(machine: &mut Activation) -> Step {
    machine.state = State::Alua { plain_header: false, was: AccessState::Unknown(0) };
    Step::Send(report(machine))
}

pub(super) fn look(machine: &mut Activation) -> Step {
    Step::Send(report(machine))
}

pub(super) fn next(machine: &mut Activation, reply: &Reply<'_>, group: u16, explicit: bool) -> Step {
    if machine.stage == ASK {
        return asked(machine, reply, group);
    }
    let State::Alua { plain_header, was } = machine.state else { return malformed(machine) };
    if !reply.done() {
        // SPC-6 lets an array refuse the extended header with "invalid field"; some say it with another code.
        if let Outcome::Check(sense) = reply.outcome()
            && sense.key == ILLEGAL_REQUEST
            && !plain_header
        {
            machine.state = State::Alua { plain_header: true, was };
            return Step::Send(report(machine));
        }
        let command = report(machine);
        return unanswered(machine, reply, command);
    }
    let Ok(report) = Report::parse(reply.data) else { return malformed(machine) };
    let Some(found) = report.find(group) else {
        return failed(machine, Why::NotListed);
    };
    if found.state == AccessState::Transitioning {
        let limit = if report.transition_secs == 0 { TRANSITION_SECS } else { u16::from(report.transition_secs) };
        return if machine.waited < limit { machine.wait(PAUSE_SECS) } else { Step::Done(Ended::Busy(Why::Transition)) };
    }
    if machine.stage == VERIFY {
        return verify(machine, found.state, was);
    }
    match (found.state, explicit) {
        (AccessState::Optimized, _) => Step::Done(Ended::Owned),
        // It serves; better than that this array makes it only by itself.
        (AccessState::NonOptimized | AccessState::LbaDependent, false) => Step::Done(Ended::Owned),
        (AccessState::Offline, _) => Step::Done(Ended::Refused(Why::Offline)),
        (_, false) => Step::Done(Ended::Refused(Why::ImplicitOnly)),
        (state, true) => {
            machine.state = State::Alua { plain_header, was: state };
            machine.enter(ASK);
            machine.asked = true;
            Step::Send(set(group))
        }
    }
}

fn asked(machine: &mut Activation, reply: &Reply<'_>, group: u16) -> Step {
    let look = |machine: &mut Activation, doubt| {
        machine.doubt = doubt;
        machine.waited = 0;
        machine.enter(VERIFY);
        Step::Send(report(machine))
    };
    match fate(reply) {
        Fate::Look(doubt) => look(machine, doubt),
        Fate::Unheard if machine.again() => Step::Send(set(group)),
        Fate::Unheard => Step::Done(Ended::Refused(Why::Reply(Cause::from(reply.outcome())))),
        // The array has begun.
        Fate::Said(sense) if sense.is(2, 0x04, 0x0a) => look(machine, None),
        Fate::Said(sense) => Step::Done(Ended::Refused(Why::Reply(Cause::Sense(sense)))),
        Fate::Refused(cause) => Step::Done(Ended::Refused(Why::Reply(cause))),
    }
}

fn verify(machine: &mut Activation, now: AccessState, was: AccessState) -> Step {
    // What served before must have become better; what did not must serve now.
    let better = now == AccessState::Optimized || (now == AccessState::NonOptimized && was != AccessState::NonOptimized);
    if better {
        return Step::Done(Ended::Taken);
    }
    machine.looks += 1;
    if machine.looks < LOOKS { machine.wait(PAUSE_SECS) } else { machine.unverified(Why::NotOwner) }
}
