//! One probe of one path under way: which machine runs (detection, checker, prioritizer, activation) and the question that is about to
//! go out. A few slots serve all paths, because few are asked at the same time and a command with its parameter list is large.

use super::activate::{self, Activation};
use super::checker::{self, Checker};
use super::prio::{self, Prioritizer};
use super::storage::{Head, Slot};
use crate::model::Instant;
use crate::wire::nvme::Admin;
use crate::wire::scsi::Command;

/// Which machine runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Stage {
    /// Only the state in sysfs is asked.
    #[default]
    State,
    /// Which checker and prioritizer suit the device.
    Detect,
    Check(Checker),
    Prio(Prioritizer),
    Activate(Activation),
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, Default)]
// A command is large because parameter lists are; there are few of these.
#[allow(clippy::large_enum_variant)]
pub(super) enum Question {
    /// Nothing: the answer is awaited.
    #[default]
    None,
    State,
    Scsi(Command),
    Admin(Admin),
    Read(u32),
    /// The machine wants to be asked again then.
    Wait(Instant),
}

/// A running probe.
#[derive(Default)]
pub struct ProbeSlot {
    pub(super) head: Head,
    pub(super) stage: Stage,
    pub(super) question: Question,
    /// When the question went out.
    pub(super) sent: Instant,
}

impl Slot for ProbeSlot {
    fn head(&self) -> Head {
        self.head
    }
    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

impl From<checker::Step> for Question {
    fn from(step: checker::Step) -> Question {
        match step {
            checker::Step::Send(command) => Question::Scsi(command),
            checker::Step::Read { length } => Question::Read(length),
            checker::Step::Done(_) => Question::None,
        }
    }
}

impl From<prio::Step> for Question {
    fn from(step: prio::Step) -> Question {
        match step {
            prio::Step::Send(command) => Question::Scsi(command),
            prio::Step::Admin(admin) => Question::Admin(admin),
            prio::Step::Read { length } => Question::Read(length),
            prio::Step::Done(_) => Question::None,
        }
    }
}

/// An activation's next question; its end is none.
pub(super) fn question(step: activate::Step, now: Instant) -> Question {
    match step {
        activate::Step::Send(command) => Question::Scsi(command),
        activate::Step::Wait { secs } => Question::Wait(now + core::time::Duration::from_secs(u64::from(secs))),
        activate::Step::Done(_) => Question::None,
    }
}
