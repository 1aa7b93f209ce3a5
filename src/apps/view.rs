//! What the listings show, as rows: one trait between the engine's state and every text form (tree, columns, JSON), so that
//! each form is tested on rows made by hand and no form reaches into the engine.

use crate::conf::settings::Failback;
use crate::engine::Outage;
use crate::failback::Hold;
use crate::model::{DevNo, DmPathState, GroupState, Hctl, PathState, Prio, Protocol, Sectors, SysState, Text, Tpgs};

/// What the queueing column says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Queueing {
    /// no_path_retry is not set: the kernel's state stands.
    #[default]
    Unset,
    Off,
    On,
    /// Counting down: seconds left.
    Seconds(u32),
    /// Retries configured, not counting: checks.
    Checks(u32),
}

/// One map.
#[derive(Clone, Debug, Default)]
pub struct MapRow<'a> {
    pub name: &'a str,
    pub wwid: &'a str,
    pub devno: DevNo,
    /// Of the first path that has them; empty when none has.
    pub vendor: &'a str,
    pub product: &'a str,
    pub revision: &'a str,
    pub size: Sectors,
    /// As the kernel's table has them, with their count: `0`, `1 queue_if_no_path`.
    pub features: Text<128>,
    /// `0` or `1 alua`.
    pub handler: Text<72>,
    pub read_only: bool,
    pub suspended: bool,
    pub failback: Failback,
    /// Deferred failback under way: seconds left.
    pub failback_in: Option<u32>,
    /// Why failback rests.
    pub held: Option<Hold>,
    /// Its LUN is being activated: since so many seconds.
    pub activating: Option<u64>,
    pub queueing: Queueing,
    /// Usable paths (up or ghost).
    pub usable: u32,
    /// Without a usable path: why.
    pub outage: Option<Outage>,
    /// The last thing that was done to it (`create`, `reload`, ...); empty for nothing.
    pub action: &'static str,
    pub path_faults: u32,
    pub group_switches: u32,
    pub loads: u32,
    pub queue_seconds: u32,
    pub queue_timeouts: u32,
    /// Times the map began to fail I/O.
    pub failures: u32,
}

/// One priority group.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupRow<'a> {
    pub selector: &'a str,
    pub prio: i32,
    pub state: GroupState,
    pub marginal: bool,
    pub paths: usize,
}

/// One path.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathRow<'a> {
    pub name: &'a str,
    pub devno: DevNo,
    pub hctl: Option<Hctl>,
    pub wwid: &'a str,
    pub vendor: &'a str,
    pub product: &'a str,
    pub revision: &'a str,
    pub serial: &'a str,
    pub size: Sectors,
    pub protocol: Protocol,
    pub sys_state: SysState,
    pub tpgs: Tpgs,
    pub target_port_group: Option<u16>,
    pub host_node: &'a str,
    pub host_port: &'a str,
    pub target_node: &'a str,
    pub target_port: &'a str,
    pub adapter: &'a str,
    pub dm: DmPathState,
    pub state: PathState,
    pub prio: Prio,
    pub checker: &'static str,
    /// The map it is in; `None` for an orphan.
    pub map: Option<&'a str>,
    pub marginal: bool,
    pub failures: u32,
    /// Seconds until the next check and the present interval; `None` when it is not checked.
    pub next_check: Option<(u32, u32)>,
    /// Is it one that could not be taken fully yet?
    pub partial: bool,
}

/// Read-only look at everything the listings show. Indices are positions, valid while nothing is processed.
pub trait View {
    fn maps(&self) -> usize;
    fn map(&self, map: usize) -> MapRow<'_>;
    fn groups(&self, map: usize) -> usize;
    fn group(&self, map: usize, group: usize) -> GroupRow<'_>;
    fn group_path(&self, map: usize, group: usize, path: usize) -> PathRow<'_>;
    /// All paths that are known, orphans included.
    fn paths(&self) -> usize;
    fn path(&self, path: usize) -> PathRow<'_>;
}

/// The word of a dm path state.
pub const fn dm_word(state: DmPathState) -> &'static str {
    match state {
        DmPathState::Undefined => "undef",
        DmPathState::Active => "active",
        DmPathState::Failed => "failed",
    }
}

/// The word of a group state.
pub const fn group_word(state: GroupState) -> &'static str {
    match state {
        GroupState::Undefined => "undef",
        GroupState::Enabled => "enabled",
        GroupState::Disabled => "disabled",
        GroupState::Active => "active",
    }
}

/// The word of the device's own state in sysfs; the peer has no words but the first two and the last.
pub const fn sys_word(state: SysState) -> &'static str {
    match state {
        SysState::Running => "running",
        SysState::Offline | SysState::TransportOffline => "offline",
        SysState::Created => "created",
        SysState::Blocked => "blocked",
        SysState::Quiesce => "quiesce",
        SysState::Deleted => "deleted",
        SysState::Unknown => "unknown",
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! One map of three paths and an orphan, made by hand.
    use super::*;

    pub(crate) struct Fixture;

    const NAMES: [&str; 4] = ["sda", "sdb", "sdc", "sdaa"];
    const HOSTS: [u32; 4] = [2, 3, 4, 10];
    const MINORS: [u32; 4] = [0, 16, 32, 416];

    impl View for Fixture {
        fn maps(&self) -> usize {
            1
        }
        fn map(&self, _: usize) -> MapRow<'_> {
            MapRow {
                name: "mpatha",
                wwid: "3600a",
                devno: DevNo::new(254, 3),
                vendor: "ACME",
                product: "Disk \"7\"",
                size: Sectors(16384),
                features: Text::try_from("1 queue_if_no_path").unwrap(),
                handler: Text::try_from("1 alua").unwrap(),
                usable: 2,
                queueing: Queueing::Seconds(7),
                failback: Failback::After(9),
                ..MapRow::default()
            }
        }
        fn groups(&self, _: usize) -> usize {
            2
        }
        fn group(&self, _: usize, group: usize) -> GroupRow<'_> {
            if group == 0 {
                GroupRow { selector: "service-time 0", prio: 50, state: GroupState::Active, marginal: false, paths: 2 }
            } else {
                GroupRow { selector: "service-time 0", prio: 10, state: GroupState::Enabled, marginal: false, paths: 1 }
            }
        }
        fn group_path(&self, _: usize, group: usize, path: usize) -> PathRow<'_> {
            self.path(group * 2 + path)
        }
        fn paths(&self) -> usize {
            4
        }
        fn path(&self, path: usize) -> PathRow<'_> {
            PathRow {
                name: NAMES[path],
                devno: DevNo::new(8, MINORS[path]),
                hctl: Some(Hctl { host: HOSTS[path], channel: 0, target: 0, lun: 1 }),
                vendor: "ACME",
                product: "Disk \"7\"",
                protocol: Protocol::ScsiFcp,
                sys_state: SysState::Running,
                dm: if path == 1 { DmPathState::Failed } else { DmPathState::Active },
                state: if path == 1 { PathState::Down } else { PathState::Up },
                prio: Prio(if path < 2 { 50 } else { 10 }),
                checker: "tur",
                map: (path < 3).then_some("mpatha"),
                failures: 1,
                next_check: (path < 3).then_some((2, 5)),
                ..PathRow::default()
            }
        }
    }
}
