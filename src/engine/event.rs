//! The one door, inward half: what happened outside (`Event`) and what an administrator asks (`Ask`).
//!
//! Borrowed values only; nothing here decides. Every answer names the path or map (with its generation) and the ticket of the
//! request: an answer that is late, doubled or meant for a former owner of the slot is recognised and dropped.

use crate::fault::Errno;
use crate::model::{DevNo, MapId, PathFacts, PathId, Sectors, SysState};
use crate::wire::scsi::Reply;
use crate::wire::table::{Status, Table};

/// Numbers one request of a path or of a map; its answer carries it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Ticket(pub u32);

/// One live dm device of ours (uuid `mpath-…` or `partN-mpath-…`), as the kernel tells it.
#[derive(Clone, Copy, Debug)]
pub struct LiveMap<'a> {
    pub devno: DevNo,
    pub name: &'a str,
    pub uuid: &'a str,
    /// Length of the live table; zero when there is none.
    pub size: Sectors,
    pub read_only: bool,
    pub suspended: bool,
    pub inactive_table: bool,
    pub deferred_remove: bool,
    pub open_count: u32,
    pub event_nr: u32,
    /// The constructor line; `None` when it was not asked, for a partition map, without a live table, or when it did not parse.
    pub table: Option<&'a Table>,
    /// The runtime line, likewise.
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
#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// Time passed; nothing else.
    Tick,
    /// A disk was seen or looked at again. `udev`: its properties in udev's database, a line `E:NAME=` each, where it has an entry.
    Facts {
        facts: &'a PathFacts,
        udev: Option<&'a [u8]>,
        /// sysfs does not say who it is: the disk has said it when it was asked, later than udev looked.
        own: bool,
    },
    /// sysfs has no such disk (any more).
    Gone {
        name: &'a str,
    },
    /// The answer to [`Action::Scan`](super::Action::Scan) is at its end: disks not mentioned since it was asked are gone. `complete` is
    /// false when /sys/block could not be read to the end: nobody is gone then, and the scan is asked again later.
    ScanDone {
        complete: bool,
    },
    /// Uevents were lost (ENOBUFS) or are not to be had: look at everything.
    Overrun,
    /// The dm devices of ours, one by one with table and status, then `SurveyDone`: maps not mentioned are gone.
    Live(&'a LiveMap<'a>),
    SurveyDone {
        complete: bool,
    },
    /// A dm event was signalled: a list is wanted now rather than at the next period.
    DmEvent,
    /// While a map's I/O waits: is there memory for whatever else the kernel is asked for?
    Memory {
        plenty: bool,
    },
    /// One entry of LIST_DEVICES, the answer to [`Action::List`](super::Action::List); foreign devices may be left out.
    Listed {
        devno: DevNo,
        name: &'a str,
        event_nr: u32,
    },
    ListDone {
        complete: bool,
    },
    /// Answers of one path's jobs.
    Opened {
        path: PathId,
        ticket: Ticket,
        result: Result<(), Errno>,
    },
    /// The path's sysfs state forbade the command, or the state alone was asked.
    State {
        path: PathId,
        ticket: Ticket,
        state: SysState,
    },
    Scsi {
        path: PathId,
        ticket: Ticket,
        reply: &'a Reply<'a>,
    },
    /// Data of an NVMe admin command.
    Admin {
        path: PathId,
        ticket: Ticket,
        result: Result<&'a [u8], Errno>,
    },
    /// Bytes read.
    Read {
        path: PathId,
        ticket: Ticket,
        result: Result<u32, Errno>,
    },
    Written {
        path: PathId,
        ticket: Ticket,
        result: Result<(), Errno>,
    },
    /// Answers of one map's jobs.
    Dm {
        map: MapId,
        ticket: Ticket,
        result: Result<DmAnswer<'a>, Errno>,
    },
    /// `Ok(&[])`: no partition table that we know.
    Partitions {
        map: MapId,
        ticket: Ticket,
        result: Result<&'a [PartitionSlot], Errno>,
    },
    /// The kernel's own partitions of a path were taken away, but for the one of this number, which is in use (0: all went).
    /// To [`Action::Close`](super::Action::Close), which may be asked again without it.
    Closed {
        path: PathId,
    },
    PathPartitions {
        path: PathId,
        in_use: u32,
    },
    /// Settings were replaced: derive everything anew.
    Reconfigured,
    /// A request of an administrator; answered by [`Action::Answer`](super::Action::Answer) with the same token.
    Ask {
        token: u32,
        ask: Ask<'a>,
    },
}

/// What a dm request gave back.
#[derive(Clone, Copy, Debug)]
pub enum DmAnswer<'a> {
    Done,
    Created(DevNo),
    /// `Info` (neither table nor status), `Status` (with status), `TableLine` (with table).
    Live(&'a LiveMap<'a>),
}

/// What an administrator asks for. Maps are named by dm name, WWID or `dm-N`; paths by kernel name or `major:minor`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask<'a> {
    /// Fails the path and keeps it out until `ReinstatePath`.
    FailPath(&'a str),
    ReinstatePath(&'a str),
    /// Takes the disk although the claim policy would not (never a blacklisted one).
    AddPath(&'a str),
    RemovePath(&'a str),
    AddMap(&'a str),
    RemoveMap(&'a str),
    RemoveMaps,
    /// 1-based.
    SwitchGroup {
        map: &'a str,
        group: u8,
    },
    Suspend(&'a str),
    Resume(&'a str),
    Reload(&'a str),
    Resize(&'a str),
    /// Sticky until `RestoreQueueing`.
    DisableQueueing(Option<&'a str>),
    RestoreQueueing(Option<&'a str>),
    /// The machine goes down (or does not after all): no map waits for a path longer than [`super::LAST_GRACE`], whatever
    /// `no_path_retry` says.
    HurryQueueing(bool),
    SetMarginal(&'a str),
    UnsetMarginal(&'a str),
    /// Ends the engine's work in order: queueing goes off unless `queue_without_daemon` says otherwise, maps an administrator
    /// suspended are resumed. Answered when that is done; nothing is emitted afterwards. `keep`: queueing stays as it is, for who comes next.
    Shutdown {
        keep: bool,
    },
}
