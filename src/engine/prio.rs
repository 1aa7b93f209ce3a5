//! Prioritizers: how good is this path, compared with the others of its map? Small state machines like the checkers: a command out, a
//! reply in, a number after a bounded number of steps.
//!
//! Pure. When to ask, how to average over a group and what to do when a number is unknown (`Prio::UNDEFINED`: the old one is kept or
//! the path not counted) is the caller's.

pub mod alua;
pub mod ana;
pub mod array;
pub mod latency;
pub mod weighted;

use crate::conf::settings::PrioKind;
use crate::engine::checker;
use crate::fault::Errno;
use crate::model::{PathFacts, Prio};
use crate::wire::nvme::Admin;
use crate::wire::scsi::{Command, Reply};

/// Why a priority is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cause {
    #[default]
    Plain,
    /// The device or the way to it said so.
    Reply(checker::Cause),
    /// The path has no target port group.
    NoGroup,
    /// The array does not list the path's group, or not within the bytes that fit.
    NotListed,
    /// The kernel knows no access state of this path.
    NoAccessState,
    /// `prio_args` make no sense for this prioritizer.
    Arguments,
    /// The device does not know what this prioritizer asks.
    Unsupported,
}

/// What a prioritizer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub prio: Prio,
    pub cause: Cause,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
// As with the checkers' steps: on the stack for one call, never stored.
#[allow(clippy::large_enum_variant)]
pub enum Step {
    Send(Command),
    /// An NVMe admin command.
    Admin(Admin),
    /// O_DIRECT read of `length` bytes at 0, timed.
    Read {
        length: u32,
    },
    Done(Verdict),
}

impl Step {
    fn done(prio: i32, cause: Cause) -> Step {
        // Below zero is "not known", whatever a configuration says.
        Step::Done(Verdict { prio: if prio < 0 { Prio::UNDEFINED } else { Prio(prio) }, cause })
    }

    fn undefined(cause: Cause) -> Step {
        Step::done(-1, cause)
    }
}

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    Scsi(&'a Reply<'a>),
    /// Data of an NVMe admin command.
    Admin(Result<&'a [u8], Errno>),
    /// Bytes read and the microseconds it took.
    Read {
        result: Result<u32, Errno>,
        micros: u32,
    },
}

/// What a prioritizer is told of the path; the same for every step of one machine.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub facts: &'a PathFacts,
    /// `prio_args`, unless autodetection chose the prioritizer.
    pub args: &'a str,
    /// For `random`: a number the caller cannot predict either.
    pub seed: u32,
    /// Time limit of one command; 0 for the default.
    pub timeout_secs: u16,
}

/// One priority being found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prioritizer {
    kind: PrioKind,
    /// Which question is out; each prioritizer numbers its own.
    stage: u8,
    tries: u8,
    /// Group of the path: target port group, or ANA group.
    group: u32,
    /// ANA: where in the log it goes on, and how many groups follow there.
    offset: u32,
    left: u16,
    latency: latency::Mean,
}

impl Prioritizer {
    /// Begins. The step is `Done` at once where nothing has to be asked.
    #[inline(never)]
    pub fn start(kind: PrioKind, subject: &Subject<'_>) -> (Prioritizer, Step) {
        let mut machine = Prioritizer { kind, stage: 0, tries: 0, group: 0, offset: 0, left: 0, latency: latency::Mean::default() };
        let step = match kind {
            PrioKind::Const => Step::done(1, Cause::Plain),
            PrioKind::Random => Step::done(random(subject.seed), Cause::Plain),
            PrioKind::Sysfs => alua::from_facts(subject),
            PrioKind::WeightedPath => weighted::weighted_path(subject),
            PrioKind::Iet => weighted::iet(subject),
            PrioKind::Alua => alua::start(&mut machine, subject),
            PrioKind::Ana => ana::start(subject.facts),
            PrioKind::PathLatency => machine.latency.start(subject),
            PrioKind::Emc | PrioKind::Rdac | PrioKind::HpSw | PrioKind::Hds | PrioKind::Ontap | PrioKind::Datacore => {
                array::start(kind, subject)
            }
        };
        (machine, step)
    }

    /// Takes the answer to the last step. An answer of the wrong kind (which the caller's bookkeeping excludes) gives nothing.
    #[inline(never)]
    pub fn next(&mut self, subject: &Subject<'_>, answer: Answer<'_>) -> Step {
        match (self.kind, answer) {
            (PrioKind::Alua, Answer::Scsi(reply)) => alua::next(self, subject, reply),
            (PrioKind::Ana, Answer::Admin(data)) => ana::next(self, data),
            (PrioKind::PathLatency, Answer::Read { result, micros }) => self.latency.next(subject, result, micros),
            (_, Answer::Scsi(reply)) => array::next(self, subject, reply),
            _ => Step::undefined(Cause::Unsupported),
        }
    }

    /// May the command be sent again? At most `limit` times in all.
    fn again(&mut self, limit: u8) -> bool {
        self.tries = self.tries.saturating_add(1);
        self.tries < limit
    }
}

/// 1 to 10.
fn random(seed: u32) -> i32 {
    // Neighbouring seeds must not give neighbouring numbers: one round of xorshift.
    let mut x = seed | 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    1 + (x % 10) as i32
}

/// The value of `name=value` among blank separated words; of several the last.
fn argument<'a>(args: &'a str, name: &str) -> Option<&'a str> {
    args.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_stays_in_range_and_varies() {
        let mut seen = [0u32; 11];
        for seed in 0..1000 {
            seen[random(seed) as usize] += 1;
        }
        assert_eq!(seen[0], 0);
        assert!(seen[1..].iter().all(|&n| n > 20), "{seen:?}");
    }

    #[test]
    fn arguments() {
        assert_eq!(argument("a=1 b=2 a=3", "a"), Some("3"));
        assert_eq!(argument("ab=1", "a"), None);
        assert_eq!(argument("", "a"), None);
    }
}
