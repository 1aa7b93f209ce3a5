//! All policy: path life, checks, priorities, grouping, maps, names, failback, queueing, claim, marginal paths.
//!
//! Sans-IO: `process` takes what happened, `dispatch` names the next step that closes the gap between want and have, `poll_at` says
//! when to call again. Never a system call, a clock, a log line, an allocation. Kernel truth wins: what is live is what the last
//! TABLE_STATUS and VPD 0x83 said.

use crate::conf::settings::Lookup;
use crate::fault::Errno;
use crate::model::{DevNo, Instant, MapId, PathFacts, PathId, Sectors, SysState};
use crate::wire::dm::Request;
use crate::wire::scsi::{Command, Reply};
use crate::wire::table::{Status, Table};

/// One live dm device of ours (uuid `mpath-…` or `partN-mpath-…`), as the kernel tells it.
pub struct LiveMap<'a> {
    pub devno: DevNo,
    pub name: &'a str,
    pub uuid: &'a str,
    pub size: Sectors,
    pub read_only: bool,
    pub suspended: bool,
    pub inactive_table: bool,
    pub deferred_remove: bool,
    pub open_count: u32,
    pub event_nr: u32,
    /// `None` for a partition map or a table that did not parse.
    pub table: Option<&'a Table>,
    pub status: Option<&'a Status>,
    /// A partition map's linear target: parent device and start.
    pub linear: Option<(DevNo, Sectors)>,
}

/// One partition found on a map's disk, in 512-byte sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionSlot {
    pub number: u32,
    pub start: Sectors,
    pub length: Sectors,
}

/// What happened outside.
pub enum Event<'a> {
    /// Time passed; nothing else.
    Tick,
    /// A disk was seen or looked at again. `udev` is the raw text of its udev database entry, where one exists.
    Facts {
        facts: &'a PathFacts,
        udev: Option<&'a [u8]>,
    },
    /// sysfs has no such disk (any more).
    Gone {
        name: &'a str,
    },
    /// All of /sys/block was read: disks not mentioned since the scan began are gone.
    ScanDone,
    /// The dm devices of ours, one by one, then `SurveyDone`: maps not mentioned are gone.
    Live(&'a LiveMap<'a>),
    SurveyDone,
    /// Answers. An old generation is dropped.
    Opened {
        path: PathId,
        result: Result<(), Errno>,
    },
    State {
        path: PathId,
        state: SysState,
    },
    Scsi {
        path: PathId,
        reply: &'a Reply<'a>,
    },
    Read {
        path: PathId,
        result: Result<u32, Errno>,
    },
    Written {
        path: PathId,
        result: Result<(), Errno>,
    },
    Dm {
        map: MapId,
        result: Result<DmAnswer<'a>, Errno>,
    },
    Partitions {
        map: MapId,
        result: Result<&'a [PartitionSlot], Errno>,
    },
    /// A dm event was signalled: read statuses now rather than at the next period.
    DmEvent,
    /// Settings were replaced: derive everything anew.
    Reconfigured,
    /// A request of an administrator; answered by `Action::Answer` with the same token.
    Ask {
        token: u32,
        ask: Ask<'a>,
    },
}

/// What a dm request gave back.
pub enum DmAnswer<'a> {
    Done,
    Created(DevNo),
    Status { status: &'a Status, suspended: bool, open_count: u32, event_nr: u32, size: Sectors },
    Live(&'a LiveMap<'a>),
}

/// What an administrator asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask<'a> {
    FailPath(&'a str),
    ReinstatePath(&'a str),
    AddPath(&'a str),
    RemovePath(&'a str),
    AddMap(&'a str),
    RemoveMap(&'a str),
    RemoveMaps,
    SwitchGroup { map: &'a str, group: u8 },
    Suspend(&'a str),
    Resume(&'a str),
    Reload(&'a str),
    Resize(&'a str),
    DisableQueueing(Option<&'a str>),
    RestoreQueueing(Option<&'a str>),
    SetMarginal(&'a str),
    UnsetMarginal(&'a str),
}

/// What the shell is to do. `emit` answers `Err(Full)` when it cannot take the step now; the gap then stays open.
pub enum Action<'a> {
    /// Open the path's fds (device and its sysfs `state`).
    Open {
        path: PathId,
        name: &'a str,
        devno: DevNo,
    },
    Close {
        path: PathId,
    },
    /// Read the sysfs state, then send the command unless the state forbids it (`Event::State` is then the answer).
    Scsi {
        path: PathId,
        command: &'a Command,
    },
    /// O_DIRECT read of `length` bytes at 0 (directio checker, marginal sampling).
    Read {
        path: PathId,
        length: u32,
    },
    /// Read everything sysfs knows of this disk again.
    Facts {
        name: &'a str,
    },
    /// Write one transport or queue attribute of this path.
    Write {
        path: PathId,
        attribute: Attribute,
        value: i64,
    },
    Dm {
        map: MapId,
        device: crate::wire::dm::Target<'a>,
        request: Request<'a>,
    },
    /// List dm devices of ours.
    Survey,
    /// Read the partition table of this map through this path.
    Partitions {
        map: MapId,
        path: PathId,
    },
    /// Take away (or bring back) the kernel's own partitions of a path device.
    PathPartitions {
        path: PathId,
        keep: bool,
    },
    /// Make (`Some`) or remove /dev/mapper/`name`; only where udev does not.
    Node {
        name: &'a str,
        devno: Option<DevNo>,
    },
    Bind {
        wwid: &'a str,
        alias: &'a str,
    },
    Answer {
        token: u32,
        result: Result<(), Refusal>,
    },
    Note(Note),
}

/// sysfs attributes we tune, in the order the kernel wants them (kernel-interfaces: dev_loss before fast_io_fail before dev_loss).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attribute {
    FastIoFail,
    DevLoss,
    RecoveryTmo,
    EhDeadline,
    MaxSectorsKb,
    MaxRetries,
    Rescan,
    Delete,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    NoSuchMap,
    NoSuchPath,
    Blacklisted,
    Busy,
    SizesDiffer,
    Kernel(Errno),
    /// Not while the map has no usable path: the request would allocate in the kernel.
    NoUsablePath,
    TimedOut,
    Full,
}

/// What happened, for the log and for tests. Sentences are made in klog.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    PathFound(PathId),
    PathLost(PathId),
}

/// What `process` and `dispatch` are told besides the event.
pub struct Context<'a> {
    pub now: Instant,
    pub settings: &'a dyn Lookup,
}
