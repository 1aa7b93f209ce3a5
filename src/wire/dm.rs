//! dm ioctl requests and replies (include/uapi/linux/dm-ioctl.h) as values; `emit` fills a buffer of at most one page.

use crate::model::{DevNo, Sectors};
use crate::wire::table::Table;

/// How a request names its device: exactly one way, as the kernel demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    Name(&'a str),
    Uuid(&'a str),
    Device(DevNo),
}

/// A message to a multipath map, always sector 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    QueueIfNoPath,
    FailIfNoPath,
    FailPath(DevNo),
    ReinstatePath(DevNo),
    /// 1-based.
    SwitchGroup(u8),
    DisableGroup(u8),
    EnableGroup(u8),
    CancelDeferredRemove,
}

/// udev's flags for one uevent: the high half of the cookie (libdm's DM_UDEV_*); 0 sends no DM_COOKIE at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cookie(pub u16);

/// What to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content<'a> {
    Multipath(&'a Table),
    /// One linear target on `device` from `start`.
    Linear {
        device: DevNo,
        start: Sectors,
    },
}

/// One dm ioctl.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    Version,
    /// All devices with numbers, names, event numbers (and uuids where the kernel gives them). May need a second page: see `Full`.
    List,
    ListVersions,
    Create {
        name: &'a str,
        uuid: &'a str,
    },
    Load {
        size: Sectors,
        read_only: bool,
        content: Content<'a>,
    },
    Clear,
    /// Always NOFLUSH|SKIP_LOCKFS: a flush suspend errors queued I/O (dm-mpath.c).
    Suspend,
    /// Swaps in a loaded table, if any. NOFLUSH|SKIP_LOCKFS too: the internal suspend obeys the resume call's flags.
    Resume {
        cookie: Cookie,
    },
    Info,
    Status,
    TableLine,
    Deps,
    Message(Message),
    Rename {
        to: &'a str,
        cookie: Cookie,
    },
    SetUuid {
        uuid: &'a str,
    },
    Remove {
        deferred: bool,
        cookie: Cookie,
    },
    ArmPoll,
}
