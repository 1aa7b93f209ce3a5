//! Typed notes: one for every transition, for the log and for tests. The sentence is made at the edge.

use crate::fault::Errno;
use crate::model::{DevNo, DmPathState, Hctl, MapId, PathId, PathState, SysState};

/// Something that happened, with the path and the map it happened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    pub path: Option<PathId>,
    pub map: Option<MapId>,
    pub what: What,
}

/// The names behind a note's ids at the time it is told; empty when the slot has been reused since.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subject<'a> {
    pub path: &'a str,
    pub devno: DevNo,
    pub hctl: Option<Hctl>,
    pub map: &'a str,
    pub wwid: &'a str,
}

/// Why a path changed its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cause {
    #[default]
    Unknown,
    /// The checker was content.
    Good,
    /// Sense key, additional code and qualifier.
    Sense {
        key: u8,
        asc: u8,
        ascq: u8,
    },
    /// DID_* host byte.
    Host(u16),
    /// SAM status byte.
    Status(u8),
    Errno(Errno),
    /// What sysfs says of the device.
    Sys(SysState),
    /// The checker's own time ran out.
    NoAnswer,
    /// The kernel failed or reinstated it by itself.
    Kernel,
    /// An administrator said so.
    Admin,
    WwidChanged,
    /// The array's own answer in a vendor page (wrong mode, unbound LUN, ...).
    Array(super::checker::ArrayFault),
    /// DRIVER_* code of kernels before 5.14.
    Driver(u16),
    /// The check's read gave only so many bytes.
    ShortRead(u32),
    Gone,
    /// Fails too often.
    Shaky,
}

/// Which dm request a note is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Create,
    Load,
    Resume,
    Suspend,
    Rename,
    Remove,
    Clear,
    Message,
    Read,
}

/// What a reload changes; several may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    pub size: bool,
    pub handler: bool,
    pub selector: bool,
    pub features: bool,
    pub members: bool,
    /// Groups or the order of groups and paths.
    pub groups: bool,
    pub best_group: bool,
    pub read_only: bool,
    /// An administrator asked for it.
    pub forced: bool,
}

impl Difference {
    pub fn any(self) -> bool {
        self != Difference::default()
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    PathFound,
    /// Gone from sysfs.
    PathLost,
    /// The same disk came with another WWID: failed at once.
    WwidChanged,
    /// The checker's verdict changed.
    PathState {
        from: PathState,
        to: PathState,
        cause: Cause,
    },
    /// The kernel's view changed, by itself or because we said so.
    DmState {
        to: DmPathState,
        by_us: bool,
    },
    PathRefused(super::Reason),
    /// Its size is not its map's; left out.
    SizeDiffers,
    SizeChanged,
    OpenFailed(Errno),
    /// More paths of one WWID than one table can carry; left out.
    TooManyPaths,
    PrioChanged {
        from: i32,
        to: i32,
    },
    Shaky,
    Steady,
    /// All paths behind this path's port fail, or answer again.
    PortDown,
    PortUp,
    MapAdopted,
    MapCreated,
    MapReloaded(Difference),
    MapRenamed,
    MapResized,
    MapRemoved,
    /// Someone else took it away.
    MapVanished,
    /// Someone else renamed it: the new name stays.
    MapRenamedByOther,
    /// Found suspended, resumed.
    MapResumed,
    /// The alias is taken by another map; the WWID is used.
    AliasTaken,
    StepFailed {
        step: Step,
        errno: Errno,
    },
    /// No answer within the deadline.
    StepOverdue(Step),
    /// A path is write protected: the map was made read-only.
    ReadOnly,
    /// The wanted path selector is not in this kernel; another is used.
    SelectorReplaced,
    HandlerMissing,
    GroupSwitched {
        group: u8,
    },
    /// The LUN was made to answer through this path by us.
    Activated,
    ActivationFailed(super::activate::Ended),
    /// The kernel (or we) began to activate a group so many seconds ago, and no end is seen.
    ActivationSlow {
        secs: u32,
    },
    /// Another host took back what was moved for us: it is left there.
    Quarrel,
    /// All its disks say that they are another one, and said so before: it was made by other names.
    OtherwiseNamed,
    /// The last usable path failed; `queueing` says what happens to I/O.
    NoUsablePath {
        queueing: bool,
    },
    UsableAgain,
    /// `no_path_retry` ran out: I/O fails from now on.
    QueueExpired,
    /// From now on no map waits long for a path, or as configured again.
    GoingDown {
        on: bool,
    },
    QueueingOff,
    QueueingOn,
    /// The array says on every path that the LUN is gone (05/25/00), unbound, or a snapshot that is not active.
    LunGone,
    /// The kernel's own partition of a path is in use, so it stays.
    PartitionInUse {
        number: u32,
    },
    PartitionsFound {
        count: u16,
    },
    PartitionMade {
        number: u32,
    },
    PartitionRemoved {
        number: u32,
    },
    /// No room for another path, map or partition: refused. The number is how many so far.
    Full {
        what: Room,
        refused: u32,
    },
    /// A disk's attributes cannot be read, time and again.
    ScanIncomplete,
    /// Notes that found no room.
    Lost {
        count: u32,
    },
}

/// What was full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    Paths,
    Maps,
    Partitions,
    Ports,
    Profiles,
}
