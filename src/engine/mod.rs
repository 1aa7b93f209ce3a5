//! All policy: path life, checks, priorities, grouping, maps, names, failback, queueing, claim, marginal paths.
//!
//! Sans-IO: `process` takes what happened, `dispatch` names the next step that closes the gap between want and have, `poll_at` says
//! when to call again. Never a system call, a clock, a log line, an allocation. Kernel truth wins: what is live is what the last
//! TABLE_STATUS and VPD 0x83 said.

mod action;
pub mod activate;
mod answers;
mod ask;
pub mod balance;
pub mod checker;
mod checks;
pub mod claim;
mod clocks;
pub mod detect;
mod drive;
mod event;
pub mod group;
mod intake;
mod map;
mod mapnext;
mod mapsteps;
pub mod marginal;
pub mod names;
mod note;
mod parts;
mod path;
mod pathsteps;
mod ports;
pub mod prio;
mod probe;
pub mod queueing;
mod registry;
pub mod schedule;
pub mod selector;
mod sizes;
mod state;
mod storage;
mod survey;
mod sweeps;
pub mod tuning;
mod upkeep;
mod verdict;
mod view;
mod want;

pub use crate::model::Attribute;
pub use action::{Action, Refusal, Refused};
pub use drive::Unsettled;
pub use event::{Ask, DmAnswer, Event, LiveMap, PartitionSlot, Ticket};
pub use map::{MapSlot, PartSlot};
pub use note::{Cause, Difference, Note, Room, Step, Subject, What};
pub use path::{PathSlot, PortSlot, ProfileSlot};
pub use probe::ProbeSlot;
pub use queueing::{LAST_GRACE, Outage};
pub use sizes::{Sizes, Storage};
pub use state::{Engine, Options};
pub use view::{GroupView, MapView, PartView, PathView};

use crate::conf::settings::{Lookup, Stage};
use crate::model::Instant;
use core::time::Duration;

/// How long a new map waits for the first verdict on the paths that are known.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Most paths of one port that are asked at once when one of them fails: what its share of the pool can take soon.
const PORT_BURST: u32 = 64;

/// What `process` and `dispatch` are told besides the event.
pub struct Context<'a> {
    pub now: Instant,
    pub settings: &'a dyn Lookup,
}

/// Why a disk is ours or not; `corepath why` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reason {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// Taken: a live map has this WWID.
    LiveMap,
    /// Taken: named on the command line, in a multipaths section or the wwids file.
    Named,
    /// Taken: two or more paths with the same identity come through different ports.
    SeveralPaths,
    /// Taken: find_multipaths takes every disk that is not blacklisted.
    Greedy,
    /// Taken: an administrator asked for it.
    Asked,
    /// Taken for now: smart mode waits for a second path until its time is over.
    SmartWait,
    /// Not taken: only one path and not named.
    SinglePath,
    /// Not taken: several paths, but all through one port.
    SamePort,
    /// Not taken: strict mode and neither named nor live.
    Strict,
    Blacklisted(Stage),
    /// No property of the `property` exceptions is there.
    MissingProperty,
    /// No WWID, or one of blanks or zeros.
    NoIdentity,
    /// Not taken: several paths, but the identity is only a serial number or a vendor's text, which two disks may share.
    WeakIdentity,
    /// An array's stand-in for a LUN that is not bound.
    Lunz,
    /// Virtual (loop, ram, zram, rbd, dm, md) or of a kind we do not handle.
    Virtual,
    /// Native NVMe multipath owns it.
    NativeNvme,
    Usb,
    Removable,
    /// Size zero or not known.
    NoSize,
    /// Its size is not its map's.
    SizeDiffers,
    /// Mounted, swapped on, or held by another driver.
    InUse,
    /// An administrator took it out.
    TakenOut,
    /// No room left for it.
    NoRoom,
}
