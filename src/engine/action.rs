//! The one door, outward half: what the shell is to do next (`Action`).
//!
//! An action is one step, named only when nothing of the same path or map is under way. Nothing here decides.

use super::event::Ticket;
use super::note::{Note, Subject};
use crate::fault::Errno;
use crate::model::{Attribute, DevNo, MapId, PathId};
use crate::wire::dm::{Request, Target};
use crate::wire::nvme::Admin;
use crate::wire::scsi::Command;

/// Why the shell does not take a step now. The gap stays open either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No room for this kind of step: asked again after the next event.
    Full,
    /// An earlier job of this very path or map has not come back (a worker is parked on it): asked again at its next turn.
    Busy,
}

/// What the shell is to do.
pub enum Action<'a> {
    /// Read all of /sys/block: `Facts` for each disk, then `ScanDone`.
    Scan,
    /// Read all dm devices of ours with table and status: `Live` for each, then `SurveyDone`.
    Survey,
    /// LIST_DEVICES only: `Listed` for each device of ours, then `ListDone`.
    List,
    /// Read everything sysfs knows of this disk again: `Facts` or `Gone`.
    Facts {
        name: &'a str,
    },
    /// Open the path's fds (device and its sysfs `state`): `Opened`.
    Open {
        path: PathId,
        ticket: Ticket,
        name: &'a str,
        devno: DevNo,
    },
    /// Close the path's fds. `Busy` until it is done, with `Closed`: closing may hang like any other job, and waits for the one under way.
    Close {
        path: PathId,
    },
    /// Read the sysfs state only: `State`.
    State {
        path: PathId,
        ticket: Ticket,
    },
    /// Read the sysfs state, then send the command: `Scsi`, or `State` when the state forbids it.
    Scsi {
        path: PathId,
        ticket: Ticket,
        command: &'a Command,
    },
    /// As `Scsi`, but an NVMe admin command that reads data: `Admin`, or `State`.
    Admin {
        path: PathId,
        ticket: Ticket,
        command: &'a Admin,
    },
    /// As `Scsi`, but an O_DIRECT read of `length` bytes at 0 (directio checker, marginal sampling): `Read`, or `State`.
    Read {
        path: PathId,
        ticket: Ticket,
        length: u32,
    },
    /// Write one transport or queue attribute of this path: `Written`.
    Write {
        path: PathId,
        ticket: Ticket,
        name: &'a str,
        attribute: Attribute,
        value: i64,
    },
    /// One dm ioctl: `Dm`. `Rename` is given with the uuid although the kernel looks it up by name only: the shell asks for the name
    /// that uuid has now and renames that, so a foreign map that took the name meanwhile is not touched.
    Dm {
        map: MapId,
        ticket: Ticket,
        device: Target<'a>,
        request: Request<'a>,
    },
    /// Read the partition table of this map's disk through this path, or through the map itself (`through`): `Partitions`.
    Partitions {
        map: MapId,
        ticket: Ticket,
        path: PathId,
        through: Option<DevNo>,
    },
    /// Take away (`keep` false) or bring back the kernel's own partitions of a path device: `PathPartitions`.
    PathPartitions {
        path: PathId,
        keep: bool,
    },
    /// Make (`Some`) or remove /dev/mapper/`name`; only where udev does not. No answer.
    Node {
        name: &'a str,
        devno: Option<DevNo>,
    },
    /// Remember this alias in the bindings file (only where that is written). No answer.
    Bind {
        wwid: &'a str,
        alias: &'a str,
    },
    Answer {
        token: u32,
        result: Result<(), Refusal>,
    },
    Note {
        note: Note,
        subject: Subject<'a>,
    },
}

/// Why a request was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    NoSuchMap,
    NoSuchPath,
    NoSuchGroup,
    Blacklisted,
    /// The path has no usable identity (no WWID).
    NoIdentity,
    /// The map is open or has partitions in use.
    InUse,
    SizesDiffer,
    /// The path is in no map.
    NoMap,
    Kernel(Errno),
    /// Not while the map has no usable path: the request would allocate in the kernel.
    NoUsablePath,
    TimedOut,
    Full,
    ShuttingDown,
}
