//! Path checkers: is this path good? Each is a small state machine: a command out, a reply in, and a verdict after a bounded number
//! of steps.
//!
//! Pure: sends nothing, keeps no clock. When to check, and what "no answer in time" means, is the caller's. What a verdict leads to
//! (fail, reinstate, purge) is the path's life, not decided here.

pub mod directio;
pub mod emc;
pub mod hp_sw;
pub mod rdac;
pub mod readsector0;
pub mod tur;

use crate::conf::settings::CheckerKind;
use crate::fault::Errno;
use crate::model::PathState;
use crate::wire::scsi::{Command, Outcome, Reply, host};
use crate::wire::sense::{self, Sense};

/// Times one command is sent when a unit attention or a passing host error is in the way.
pub const TRIES: u8 = 5;

/// Why a verdict is what it is: small, kept with the path, made into words by klog and `status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cause {
    /// Nothing to add.
    #[default]
    Plain,
    Sense(Sense),
    ReservationConflict,
    Status(u8),
    Host(u16),
    Driver(u16),
    Errno(Errno),
    /// A read gave only this many bytes.
    ShortRead(u32),
    /// The reply is too short or not the page that was asked for.
    Malformed,
    Emc(emc::Fault),
    Rdac(rdac::Fault),
}

/// What an array says is wrong, in a page of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArrayFault {
    Emc(emc::Fault),
    Rdac(rdac::Fault),
    /// Too short, or not the page that was asked for.
    Malformed,
}

impl From<Outcome> for Cause {
    fn from(outcome: Outcome) -> Cause {
        match outcome {
            Outcome::Good => Cause::Plain,
            Outcome::Recovered(sense) | Outcome::Check(sense) => Cause::Sense(sense),
            Outcome::ReservationConflict => Cause::ReservationConflict,
            Outcome::Status(status) => Cause::Status(status),
            Outcome::Host(code) => Cause::Host(code),
            Outcome::Driver(code) => Cause::Driver(code),
            Outcome::Errno(errno) => Cause::Errno(errno),
        }
    }
}

impl From<Cause> for super::Cause {
    /// As a note and the path's own record carry it.
    fn from(cause: Cause) -> super::Cause {
        match cause {
            Cause::Plain => super::Cause::Good,
            Cause::Sense(Sense { key, asc, ascq, .. }) => super::Cause::Sense { key, asc, ascq },
            Cause::ReservationConflict => super::Cause::Status(crate::wire::scsi::status::RESERVATION_CONFLICT),
            Cause::Status(status) => super::Cause::Status(status),
            Cause::Host(code) => super::Cause::Host(code),
            Cause::Errno(errno) => super::Cause::Errno(errno),
            Cause::Emc(emc::Fault::WwnChanged) => super::Cause::WwidChanged,
            Cause::Emc(fault) => super::Cause::Array(ArrayFault::Emc(fault)),
            Cause::Rdac(fault) => super::Cause::Array(ArrayFault::Rdac(fault)),
            Cause::Malformed => super::Cause::Array(ArrayFault::Malformed),
            Cause::Driver(code) => super::Cause::Driver(code),
            Cause::ShortRead(bytes) => super::Cause::ShortRead(bytes),
        }
    }
}

/// What a checker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub state: PathState,
    pub cause: Cause,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
// A command is large because parameter lists are; steps live on the stack for one call and are never stored.
#[allow(clippy::large_enum_variant)]
pub enum Step {
    Send(Command),
    /// O_DIRECT read of `length` bytes at 0.
    Read {
        length: u32,
    },
    Done(Verdict),
}

impl Step {
    pub(crate) const fn done(state: PathState, cause: Cause) -> Step {
        Step::Done(Verdict { state, cause })
    }
}

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    Scsi(&'a Reply<'a>),
    /// Bytes read.
    Read(Result<u32, Errno>),
}

/// What a checker is told of the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subject {
    /// What sysfs or the last check said; the `none` checker hands it back.
    pub state: PathState,
    /// Logical block size in bytes; 0 when unknown.
    pub block_size: u32,
    /// Time limit of one command; 0 for the default.
    pub timeout_secs: u16,
    /// A SCSI disk: other commands than a read can be sent.
    pub scsi: bool,
}

/// What a checker remembers of one path from check to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathMemory {
    /// EMC: the LUN's WWN at the first check. A LUN that changed it is another LUN.
    pub emc_wwn: Option<[u8; 16]>,
    /// EMC: it was another one at the last check.
    pub emc_changed: bool,
    /// EMC: a second check found the same. Before that the first one may have been garbled.
    pub emc_wwn_sure: bool,
    /// RDAC: the control mode page was looked at (once in a path's life).
    pub rdac_prepared: bool,
}

/// What the checkers of one map's paths share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MapMemory {
    /// EMC: the owning controller said 05/25/01. The other controller cannot tell, so its paths look at this.
    pub inactive_snapshot: bool,
}

/// One check under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checker {
    kind: CheckerKind,
    subject: Subject,
    /// Which question is out; each checker numbers its own.
    stage: u8,
    tries: u8,
}

impl Checker {
    /// Begins a check. The step may already be `Done`.
    pub fn start(kind: CheckerKind, subject: Subject, memory: &PathMemory) -> (Checker, Step) {
        let mut checker = Checker { kind, subject, stage: 0, tries: 0 };
        let step = match kind {
            // cciss_tur's own ioctl left the kernel with the cciss driver; its LUNs are SCSI disks now and are asked as such.
            CheckerKind::Tur | CheckerKind::CcissTur => checker.send(Command::test_unit_ready()),
            CheckerKind::ReadSector0 => checker.send(Command::read_first_block()),
            CheckerKind::Directio => Step::Read { length: directio::length(subject.block_size) },
            CheckerKind::Rdac => rdac::start(&mut checker, memory),
            CheckerKind::EmcClariion => checker.send(emc::inquiry()),
            CheckerKind::HpSw => checker.send(hp_sw::inquiry()),
            CheckerKind::None => Step::done(subject.state, Cause::Plain),
        };
        (checker, step)
    }

    /// Takes the answer to the last step. An answer of the wrong kind (which the caller's bookkeeping excludes) judges nothing.
    #[inline(never)]
    pub fn next(&mut self, answer: Answer<'_>, path: &mut PathMemory, map: &mut MapMemory) -> Step {
        match (self.kind, answer) {
            (CheckerKind::Directio, answer) => directio::next(self, answer),
            (CheckerKind::Tur | CheckerKind::CcissTur, Answer::Scsi(reply)) => tur::next(self, reply),
            (CheckerKind::ReadSector0, Answer::Scsi(reply)) => readsector0::next(self, reply),
            (CheckerKind::Rdac, Answer::Scsi(reply)) => rdac::next(self, reply, path),
            (CheckerKind::EmcClariion, Answer::Scsi(reply)) => emc::next(self, reply, path, map),
            (CheckerKind::HpSw, Answer::Scsi(reply)) => hp_sw::next(self, reply),
            _ => Step::done(PathState::Wild, Cause::Malformed),
        }
    }

    fn send(&mut self, command: Command) -> Step {
        Step::Send(command.within(self.subject.timeout_secs))
    }

    /// May the command be sent again? At most `limit` times in all.
    fn again(&mut self, limit: u8) -> bool {
        self.tries = self.tries.saturating_add(1);
        self.tries < limit
    }
}

/// A unit attention, an error that belongs to an earlier command (the kernel's scsi_check_sense retries those as well), or a host
/// error that may pass: the command itself was not judged.
pub(crate) fn passing(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Check(sense) => sense.key == sense::UNIT_ATTENTION || sense.deferred,
        Outcome::Host(code) => host::transient(*code),
        _ => false,
    }
}
