//! Effective settings of one path, of one map, and of the whole process: what the engine reads. Small values, copied at adoption.

use crate::model::{MapName, Text};
use core::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    #[default]
    Failover,
    Multibus,
    GroupBySerial,
    GroupByPrio,
    GroupByNodeName,
    GroupByTpg,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Failback {
    #[default]
    Manual,
    Immediate,
    Followover,
    /// Deferred; seconds, not rounds.
    After(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NoPathRetry {
    /// Leave the kernel's state as it is; a new map does not queue.
    #[default]
    Unset,
    Fail,
    Queue,
    /// Retries of `polling_interval`; the engine counts them as seconds of the clock.
    Retries(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlushOnLastDel {
    Never,
    Always,
    #[default]
    Unused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FindMultipaths {
    Off,
    On,
    #[default]
    Strict,
    Greedy,
    Smart,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AutoResize {
    #[default]
    Never,
    GrowOnly,
    GrowShrink,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MarginalPathgroups {
    #[default]
    Off,
    On,
    Fpin,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CheckerKind {
    #[default]
    Tur,
    Directio,
    ReadSector0,
    Rdac,
    EmcClariion,
    HpSw,
    CcissTur,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PrioKind {
    #[default]
    Const,
    Alua,
    Sysfs,
    Ana,
    Rdac,
    Emc,
    HpSw,
    Hds,
    Ontap,
    Datacore,
    Iet,
    Random,
    WeightedPath,
    PathLatency,
}

/// `off`, unset, or seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Timeout {
    #[default]
    Unset,
    Off,
    Secs(u32),
    Infinity,
}

/// `san_path_err_*` and `marginal_path_*`; `None` is off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shaky {
    pub san_path_err_threshold: Option<u32>,
    pub san_path_err_forget_rate: Option<u32>,
    pub san_path_err_recovery_time: Option<u32>,
    pub marginal_path_err_sample_time: Option<u32>,
    pub marginal_path_err_rate_threshold: Option<u32>,
    pub marginal_path_err_recheck_gap_time: Option<u32>,
    pub marginal_path_double_failed_time: Option<u32>,
}

/// Effective settings of one path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PathSettings {
    pub checker: CheckerKind,
    pub detect_checker: bool,
    /// A name that is none of these was complained about when it was read, and is not in force.
    pub prio: PrioKind,
    pub prio_args: Text<128>,
    pub detect_prio: bool,
    /// udev property that holds the WWID; empty for sysfs/VPD.
    pub uid_attribute: Text<32>,
    pub fast_io_fail: Timeout,
    pub dev_loss: Timeout,
    pub eh_deadline: Timeout,
    pub recheck_wwid: bool,
    pub purge_disconnected: bool,
    pub vpd_vendor_hp3par: bool,
    /// An entry of devices or of the built-in table is for this device.
    pub known: bool,
}

/// Effective settings of one map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MapSettings {
    /// From a multipaths section; empty for none.
    pub alias: MapName,
    pub user_friendly_names: bool,
    pub alias_prefix: Text<64>,
    pub policy: Policy,
    pub detect_policy: bool,
    pub detect_policy_use_tpg: bool,
    /// `service-time 0`: name, argument count, arguments.
    pub selector: Text<64>,
    /// Feature words with their count, queue_if_no_path already taken out (it became `no_path_retry`).
    pub features: Text<64>,
    /// Handler with its word count (`1 alua`), `0` for none, empty where nobody says. What the kernel attached wins over it.
    pub handler: Text<64>,
    pub retain_handler: bool,
    pub failback: Failback,
    pub no_path_retry: NoPathRetry,
    pub flush_on_last_del: FlushOnLastDel,
    /// rr_min_io_rq (rr_min_io for bio-based maps).
    pub repeat_count: u32,
    pub rr_weight_priorities: bool,
    pub deferred_remove: bool,
    pub skip_kpartx: bool,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub max_sectors_kb: Option<u32>,
    pub ghost_delay: Option<u32>,
    pub shaky: Shaky,
}

/// Settings of the whole process (the defaults section).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Globals {
    pub verbosity: u8,
    pub polling_interval: Duration,
    pub max_polling_interval: Duration,
    pub find_multipaths: FindMultipaths,
    /// The configuration itself says so; false for the program's own default.
    pub find_multipaths_given: bool,
    /// Seconds for smart mode; negative as the grammar says.
    pub find_multipaths_timeout: i32,
    pub allow_usb_devices: bool,
    /// `None`: the SCSI device's own timeout, else 30 s.
    pub checker_timeout: Option<u32>,
    pub queue_without_daemon: bool,
    pub marginal_pathgroups: MarginalPathgroups,
    pub auto_resize: AutoResize,
    pub remove_retries: u32,
    pub partition_delimiter: Text<16>,
    pub reassign_maps: bool,
    pub log_checker_err_once: bool,
    pub uxsock_timeout: Duration,
    pub missing_uev_wait: Duration,
    pub max_retries: Timeout,
    /// Spread the paths of all maps evenly over the target ports of one array (the paper's path balancer; our own keyword).
    pub pp_balance_paths: bool,
}

/// Which list of the blacklist a verdict comes from, in the order they are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Property,
    Devnode,
    Device,
    Protocol,
    Wwid,
}

/// Where a rule or a value stands: a file by its number in the load order, and a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// The program's own default.
    #[default]
    Default,
    /// The built-in array table: row number.
    Table(u16),
    File {
        file: u16,
        line: u32,
    },
    CommandLine,
}

/// What the blacklist says of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Accepted,
    /// An exception matched at the last stage that had an opinion.
    Whitelisted {
        stage: Stage,
        origin: Origin,
    },
    Rejected {
        stage: Stage,
        origin: Origin,
    },
    /// No property allows it (the `property` exception list).
    MissingProperty,
}

/// What the engine asks of the configuration. A trait, so that the engine's tests need no configuration text.
pub trait Lookup {
    fn globals(&self) -> &Globals;
    fn path(&self, facts: &crate::model::PathFacts) -> PathSettings;
    /// `facts`: any path of the map (its vendor, product, protocol select the device entries).
    fn map(&self, wwid: &str, facts: &crate::model::PathFacts) -> MapSettings;
    /// `udev`: the properties in udev's database, a line `E:NAME=` each, where the disk has an entry.
    fn filter(&self, facts: &crate::model::PathFacts, udev: Option<&[u8]>) -> Verdict;
    /// Is this WWID named by a multipaths section, the wwids file, or the command line? Named disks are claimed with one path.
    fn named(&self, wwid: &str) -> bool;
    /// The alias the bindings file gives a WWID, if any.
    fn binding(&self, wwid: &str) -> Option<&str>;
    /// Calls `seen` with every alias that is spoken for and the WWID it belongs to: bindings and multipaths sections.
    fn aliases(&self, seen: &mut dyn FnMut(&str, &str));
}
