//! Activation by ourselves: makes a passive path active through SG_IO where no scsi_dh handler is attached (rescue, a kernel without
//! the module, or because we were told to).
//!
//! Ownership is read, asked for once, and read back. A take-over whose fate is unknown (no answer) is never sent again, only looked
//! for. Every machine ends after a bounded number of steps; the caller's deadline may end it sooner. Whether to activate at all, and
//! which path, is the map's policy; [`Guard`] keeps two hosts from fighting.

mod alua;
mod emc;
mod guard;
mod hp_sw;
mod rdac;

pub use guard::{BACK_WITHIN, Guard, HOLD};

use crate::engine::checker;
use crate::model::{PathFacts, Tpgs};
use crate::wire::scsi::{Command, Outcome, Reply, host};
use crate::wire::sense::UNIT_ATTENTION;

/// Seconds one command of an activation may take.
const TIMEOUT_SECS: u16 = 60;
/// Commands and waits of one activation; none needs as many.
const STEPS: u8 = 96;
/// Times a question, or a take-over that was turned away unheard, is sent.
const TRIES: u8 = 5;

/// How to make the path active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// CLARiiON/VNX trespass. `short: None`: by the storage processor's model, as the kernel does.
    Emc { short: Option<bool>, honour_reservations: bool },
    /// SET TARGET PORT GROUPS.
    Alua { group: u16, explicit: bool },
    /// Mode page 0x2C.
    Rdac,
    /// START STOP UNIT.
    HpSw,
}

impl Method {
    /// The method for a path by the handler its map would use (`1 emc`, `3 emc 1 1`, `1 alua`); `None` when there is nothing that
    /// could be sent. The parameters of emc are the kernel's: short trespass, honour reservations.
    pub fn choose(handler: &str, facts: &PathFacts) -> Option<Method> {
        let mut words = handler.split_ascii_whitespace();
        let first = words.next()?;
        let name = if first.bytes().all(|b| b.is_ascii_digit()) { words.next()? } else { first };
        Some(match name {
            "emc" => {
                let short = words.next().map(|w| w == "1");
                Method::Emc { short, honour_reservations: words.next() == Some("1") }
            }
            "alua" => Method::Alua { group: facts.target_port_group?, explicit: matches!(facts.tpgs, Tpgs::Explicit | Tpgs::Both) },
            "rdac" => Method::Rdac,
            "hp_sw" => Method::HpSw,
            _ => return None,
        })
    }
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
// On the stack for one call, never stored.
#[allow(clippy::large_enum_variant)]
pub enum Step {
    Send(Command),
    /// Come back with [`Activation::waited`] after so many seconds.
    Wait {
        secs: u8,
    },
    Done(Ended),
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Nothing had to be asked.
    Owned,
    /// Asked for, and read back.
    Taken,
    /// The array is busy with something that passes (upgrade, array copy, a transition): later.
    Busy(Why),
    Refused(Why),
    /// The array took the request but does not show it.
    Unverified(Why),
}

/// Why it did not come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    Reply(checker::Cause),
    /// The group is not in the array's list.
    NotListed,
    /// The array changes access states by itself only.
    ImplicitOnly,
    /// Still in transition after the array's own time for it.
    Transition,
    /// Still owned by the other controller.
    NotOwner,
    /// The group is offline.
    Offline,
    /// A machine that did not end by itself was stopped.
    TooManySteps,
}

/// One activation under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activation {
    method: Method,
    /// Which question is out; each method numbers its own.
    stage: u8,
    tries: u8,
    steps: u8,
    /// Looks at the result so far, and seconds waited for it.
    looks: u8,
    waited: u16,
    /// Ownership was asked for.
    asked: bool,
    /// What the take-over was answered, while that leaves its fate open.
    doubt: Option<checker::Cause>,
    state: State,
}

/// What a method has to remember between its questions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Nothing,
    Emc { wwn: [u8; 16] },
    Alua { plain_header: bool, was: crate::model::AccessState },
    Rdac { lun: u8, max_luns: u8 },
}

impl Activation {
    /// Begins: the first step is always a question.
    pub fn start(method: Method) -> (Activation, Step) {
        let mut machine =
            Activation { method, stage: 0, tries: 0, steps: 0, looks: 0, waited: 0, asked: false, doubt: None, state: State::Nothing };
        let step = match method {
            Method::Emc { .. } => emc::start(),
            Method::Alua { .. } => alua::start(&mut machine),
            Method::Rdac => rdac::start(),
            Method::HpSw => hp_sw::start(),
        };
        (machine, machine_limits(step))
    }

    /// Takes the reply to the last command.
    #[inline(never)]
    pub fn next(&mut self, reply: &Reply<'_>) -> Step {
        let step = match self.method {
            Method::Emc { short, honour_reservations } => emc::next(self, reply, short, honour_reservations),
            Method::Alua { group, explicit } => alua::next(self, reply, group, explicit),
            Method::Rdac => rdac::next(self, reply),
            Method::HpSw => hp_sw::next(self, reply),
        };
        self.bounded(step)
    }

    /// The wait that was asked for is over.
    pub fn waited(&mut self) -> Step {
        let step = match self.method {
            Method::Emc { .. } => emc::look(self),
            Method::Alua { .. } => alua::look(self),
            Method::Rdac => rdac::look(self),
            Method::HpSw => hp_sw::look(self),
        };
        self.bounded(step)
    }

    /// Was a take-over sent? Then its result counts for the [`Guard`], whatever it was.
    pub fn asked(&self) -> bool {
        self.asked
    }

    fn bounded(&mut self, step: Step) -> Step {
        self.steps = self.steps.saturating_add(1);
        if self.steps >= STEPS && !matches!(step, Step::Done(_)) {
            return Step::Done(Ended::Unverified(Why::TooManySteps));
        }
        machine_limits(step)
    }

    /// May the last command be sent again? The count begins anew with each stage.
    fn again(&mut self) -> bool {
        self.tries = self.tries.saturating_add(1);
        self.tries < TRIES
    }

    fn enter(&mut self, stage: u8) {
        self.stage = stage;
        self.tries = 0;
    }

    fn wait(&mut self, secs: u8) -> Step {
        self.waited = self.waited.saturating_add(u16::from(secs));
        Step::Wait { secs }
    }

    /// The result has been looked at often enough: what stays is said with the reason the array gave, if it gave one.
    fn unverified(&self, why: Why) -> Step {
        Step::Done(match self.doubt {
            Some(cause) => Ended::Refused(Why::Reply(cause)),
            None => Ended::Unverified(why),
        })
    }
}

fn machine_limits(step: Step) -> Step {
    match step {
        Step::Send(command) => Step::Send(command.within(TIMEOUT_SECS)),
        other => other,
    }
}

/// How a take-over was answered.
enum Fate {
    /// Carried out, or it cannot be known (no answer came): look at the result. The doubt, if any.
    Look(Option<checker::Cause>),
    /// Turned away unheard: it may be sent again.
    Unheard,
    /// The device spoke; the method knows what it means.
    Said(crate::wire::sense::Sense),
    Refused(checker::Cause),
}

fn fate(reply: &Reply<'_>) -> Fate {
    let outcome = reply.outcome();
    let cause = checker::Cause::from(outcome);
    match outcome {
        Outcome::Good | Outcome::Recovered(_) => Fate::Look(None),
        Outcome::Check(sense) if sense.key == UNIT_ATTENTION || sense.deferred => Fate::Unheard,
        Outcome::Check(sense) => Fate::Said(sense),
        // The array never saw it.
        Outcome::Host(host::NO_CONNECT | host::BAD_TARGET) | Outcome::Errno(_) => Fate::Refused(cause),
        // Lost on the way there or on the way back, nobody knows: never a second trespass on a guess.
        Outcome::Host(_) | Outcome::Driver(_) => Fate::Look(Some(cause)),
        Outcome::Status(crate::wire::scsi::status::BUSY | crate::wire::scsi::status::TASK_SET_FULL) => Fate::Unheard,
        Outcome::Status(_) | Outcome::ReservationConflict => Fate::Refused(cause),
    }
}

/// A question was not answered: ask again, or give up with what was said.
fn unanswered(machine: &mut Activation, reply: &Reply<'_>, question: Command) -> Step {
    let outcome = reply.outcome();
    let busy = matches!(outcome, Outcome::Status(crate::wire::scsi::status::BUSY | crate::wire::scsi::status::TASK_SET_FULL));
    if (checker::passing(&outcome) || busy) && machine.again() {
        return Step::Send(question);
    }
    failed(machine, Why::Reply(checker::Cause::from(outcome)))
}

/// A page that does not say what it must.
fn malformed(machine: &Activation) -> Step {
    failed(machine, Why::Reply(checker::Cause::Malformed))
}

/// No further. Once ownership was asked for, the honest answer is that its fate is not known.
fn failed(machine: &Activation, why: Why) -> Step {
    Step::Done(if machine.asked { Ended::Unverified(why) } else { Ended::Refused(why) })
}
