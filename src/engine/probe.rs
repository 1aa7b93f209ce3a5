//! One check of one path under way: the checker's question that is out, or about to go out. A few slots serve all paths, because few
//! are asked at the same time and a command with its parameter list is large.

use super::checker::{Checker, Step};
use super::storage::{Head, Slot};
use crate::wire::scsi::Command;

/// Which machine runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Stage {
    #[default]
    Idle,
    Check(Checker),
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
    Read(u32),
}

/// A running probe.
pub struct ProbeSlot {
    pub(super) head: Head,
    pub(super) stage: Stage,
    pub(super) question: Question,
}

impl Default for ProbeSlot {
    fn default() -> ProbeSlot {
        ProbeSlot { head: Head::default(), stage: Stage::Idle, question: Question::None }
    }
}

impl Slot for ProbeSlot {
    fn head(&self) -> Head {
        self.head
    }
    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

impl From<Step> for Question {
    fn from(step: Step) -> Question {
        match step {
            Step::Send(command) => Question::Scsi(command),
            Step::Read { length } => Question::Read(length),
            Step::Done(_) => Question::None,
        }
    }
}
