//! What the views of a running daemon are made from: the engine, the settings, the seal and a few counters, borrowed for one reply.

use crate::apps::engine_view::EngineView;
use crate::conf::effective::Settings;
use crate::klog::Ring;
use crate::lockdown::Seal;
use crate::model::Instant;

pub struct State<'a> {
    pub view: EngineView<'a>,
    pub settings: &'a Settings<'a>,
    pub seal: &'a Seal,
    pub started: Instant,
    /// `idle`, `configure`, `running`, `shutdown`.
    pub phase: &'static str,
    pub pid: u32,
    /// Workers that hold a job, and all.
    pub workers: (u32, usize),
    /// Bytes of the tables.
    pub memory: usize,
    /// Page faults since the seal: minor, major.
    pub faults: Option<(u64, u64)>,
    pub log_lost: u32,
    pub clients_dropped: u32,
    /// Complaints about the configuration in force.
    pub errors: u32,
    /// Its files have changed since.
    pub outdated: bool,
    pub log: &'a Ring,
}
