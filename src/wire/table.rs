//! The multipath target's table and status text (dm-mpath.c, `multipath_ctr` and `multipath_status`) as values.

use crate::model::{DevNo, DmPathState, GroupState, MAP_PATHS, Text};
use heapless::Vec;

/// Most priority groups one map holds.
pub const MAP_GROUPS: usize = MAP_PATHS;

/// Feature words of a multipath table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Features {
    pub queue_if_no_path: bool,
    pub retain_attached_hw_handler: bool,
    pub pg_init_retries: Option<u32>,
    pub pg_init_delay_msecs: Option<u32>,
    /// `queue_mode bio|rq|mq`; empty when not given.
    pub queue_mode: Text<4>,
    /// Words this version does not know, kept in order and blank separated, so that a newer table survives being read and written.
    pub other: Text<64>,
}

/// One path line of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TablePath {
    pub devno: DevNo,
    /// Index into [`Table::groups`].
    pub group: u8,
    /// First per-path selector argument (repeat count); `None` when the table had none.
    pub repeat: Option<u32>,
}

/// One priority group: its selector. Members are the [`TablePath`]s that carry its index, in table order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableGroup {
    /// Selector name and its arguments with their count, as `service-time 0` or `historical-service-time 2 100 5`.
    pub selector: Text<64>,
}

/// The constructor line of one multipath map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    pub features: Features,
    /// Hardware handler and arguments without the count (`alua`, `emc 1 0`); empty for none.
    pub handler: Text<64>,
    /// 1-based group to use first; 0 only in a table without groups.
    pub first_group: u8,
    pub groups: Vec<TableGroup, MAP_GROUPS, u8>,
    pub paths: Vec<TablePath, MAP_PATHS, u8>,
}

/// One path of a status line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusPath {
    pub devno: DevNo,
    pub group: u8,
    pub state: DmPathState,
    /// Failures since this table was loaded.
    pub fail_count: u32,
}

/// The runtime line of one multipath map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// I/O is held because activation is required or running (or a fresh map has seen no I/O yet).
    pub queue_io: bool,
    pub pg_init_count: u32,
    /// 1-based group in use or next to be used.
    pub current_group: u8,
    pub groups: Vec<GroupState, MAP_GROUPS, u8>,
    pub paths: Vec<StatusPath, MAP_PATHS, u8>,
}
