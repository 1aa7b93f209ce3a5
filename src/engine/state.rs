//! All that the engine keeps: slots, indexes, lists and queues, over storage that it is given once; and how it is to behave.

use super::map::{MapSlot, PartSlot};
use super::note::Note;
use super::path::{PathSlot, PortSlot, ProfileSlot};
use super::probe::ProbeSlot;
use super::selector::Kernel;
use super::sizes::{Sizes, Storage};
use super::storage::{Chain, Index, List, NONE, Pool, Timers, cut};
use super::sweeps::Sweep;
use crate::conf::settings::Policy;
use crate::model::{Instant, PathId};
use core::time::Duration;
use heapless::Deque;

/// Notes that wait to be told.
const NOTES: usize = 128;

/// How the engine is to behave; fixed at construction.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Checks go on for ever and clocks run; else everything is done once.
    pub resident: bool,
    /// udev runs: it makes the nodes, and uevents carry its flags.
    pub udev: bool,
    /// Nothing can be swapped out yet: a map without paths does not hold up the others.
    pub boot: bool,
    /// Nothing is written to the kernel; what would be is to be seen in the views.
    pub dry_run: bool,
    /// Only what is asked for is done: a map that no request names is looked at, never written to, and its paths are not asked.
    pub errand: bool,
    /// Activation is ours where the kernel has no handler attached.
    pub own_activation: bool,
    /// Partition maps are made.
    pub partitions: bool,
    /// The kernel's own partitions of path devices are taken away.
    pub path_partitions: bool,
    /// Aliases may be chosen anew and bound.
    pub write_bindings: bool,
    /// The grouping policy forced by the command line.
    pub policy: Option<Policy>,
    /// Reload every map once, different or not.
    pub force_reload: bool,
    /// The kernel's nvme_core.multipath is on.
    pub native_nvme: bool,
    pub kernel: Kernel,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            resident: false,
            udev: false,
            boot: false,
            dry_run: false,
            errand: false,
            own_activation: false,
            partitions: false,
            path_partitions: false,
            write_bindings: false,
            policy: None,
            force_reload: false,
            native_nvme: false,
            kernel: Kernel::FULL,
        }
    }
}

/// All policy, over slots given at construction.
#[repr(C)]
pub struct Engine<'s> {
    pub(super) paths: Pool<'s, PathSlot>,
    pub(super) maps: Pool<'s, MapSlot>,
    pub(super) parts: Pool<'s, PartSlot>,
    pub(super) ports: Pool<'s, PortSlot>,
    pub(super) profiles: Pool<'s, ProfileSlot>,
    pub(super) probes: Pool<'s, ProbeSlot>,
    pub(super) now: Instant,

    pub(super) path_names: Index<'s>,
    pub(super) path_devnos: Index<'s>,
    pub(super) path_wwids: Index<'s>,
    pub(super) map_wwids: Index<'s>,
    pub(super) map_names: Index<'s>,
    pub(super) map_devnos: Index<'s>,
    pub(super) part_keys: Index<'s>,
    pub(super) part_devnos: Index<'s>,
    pub(super) port_keys: Index<'s>,
    pub(super) profile_keys: Index<'s>,

    pub(super) path_by_map: Chain<'s>,
    pub(super) path_by_port: Chain<'s>,
    pub(super) path_waiting: Chain<'s>,
    /// Paths that wait for a probe slot.
    pub(super) path_probe_chain: Chain<'s>,
    pub(super) probe_wait: List,
    pub(super) path_order: Chain<'s>,
    pub(super) path_seen_list: List,
    pub(super) path_ready_chain: Chain<'s>,
    pub(super) path_ready: List,
    pub(super) map_order: Chain<'s>,
    pub(super) map_seen_list: List,
    pub(super) map_chain: Chain<'s>,
    pub(super) map_ready: List,
    pub(super) map_heavy_chain: Chain<'s>,
    pub(super) map_heavy: List,
    pub(super) part_by_map: Chain<'s>,
    pub(super) port_chain: Chain<'s>,
    /// Ports whose paths are being asked because they answer again.
    pub(super) rousing: List,

    pub(super) timers: Timers<'s>,
    pub(super) lost_notes: u32,

    pub(super) scan: Sweep,
    pub(super) survey: Sweep,
    pub(super) list: Sweep,
    /// A scan and a survey were completed once.
    pub(super) scanned: bool,
    pub(super) surveyed: bool,
    /// Counts up with every replacement of the settings.
    pub(super) settings_serial: u32,
    /// `polling_interval`, as last seen.
    pub(super) interval: Duration,
    pub(super) last_ticket: u32,
    /// Workers for paths, and how many of them are with a path behind a port.
    pub(super) workers: u16,
    pub(super) away: u16,
    /// Maps whose I/O waits for a path.
    pub(super) starved: u32,
    /// When the last of them began to wait.
    pub(super) starved_since: Instant,
    /// They have waited long, and memory is plenty: what else is to be done need not wait with them.
    pub(super) roomy: bool,
    /// Paths that are opened while maps starve.
    pub(super) opening: [Option<PathId>; 2],
    /// What was put off may be possible again: everything is looked at once more.
    pub(super) wake: bool,
    pub(super) wake_path: u32,
    pub(super) wake_map: u32,
    pub(super) open_maps: u32,
    pub(super) open_paths: u32,
    pub(super) stopping: bool,
    /// Since when the machine goes down.
    pub(super) hurried: Option<Instant>,
    /// Stopping for one that takes over: who queues goes on queueing.
    pub(super) keep_queueing: bool,
    pub(super) asks: super::ask::Asks,
    /// A queue that was refused rests until then, or until the next event.
    pub(super) stalled: [Option<Instant>; 3],
    pub(super) options: Options,
    pub(super) notes: Deque<Note, NOTES>,
}

impl<'s> Engine<'s> {
    /// `Err` when `storage` has fewer words or times than its slots need.
    #[inline(never)]
    pub fn new(storage: Storage<'s>, options: Options) -> Result<Engine<'s>, crate::fault::Full> {
        let sizes = Sizes {
            paths: storage.paths.len(),
            maps: storage.maps.len(),
            partitions: storage.partitions.len(),
            ports: storage.ports.len(),
            profiles: storage.profiles.len(),
            probes: storage.probes.len(),
        };
        if storage.words.len() < sizes.words() || storage.times.len() < sizes.timers() {
            return Err(crate::fault::Full);
        }
        let (p, m, k) = (sizes.paths, sizes.maps, sizes.partitions);
        let w = &mut { storage.words };
        let timers = sizes.timers();
        Ok(Engine {
            options,
            now: Instant::ZERO,
            paths: Pool::new(storage.paths, w),
            maps: Pool::new(storage.maps, w),
            parts: Pool::new(storage.partitions, w),
            ports: Pool::new(storage.ports, w),
            profiles: Pool::new(storage.profiles, w),
            probes: Pool::new(storage.probes, w),
            path_names: Index::cut(w, p),
            path_devnos: Index::cut(w, p),
            path_wwids: Index::cut(w, p),
            map_wwids: Index::cut(w, m),
            map_names: Index::cut(w, m),
            map_devnos: Index::cut(w, m),
            part_keys: Index::cut(w, k),
            part_devnos: Index::cut(w, k),
            port_keys: Index::cut(w, sizes.ports),
            profile_keys: Index::cut(w, sizes.profiles),
            path_by_map: Chain::cut(w, p),
            path_by_port: Chain::cut(w, p),
            path_waiting: Chain::cut(w, p),
            path_probe_chain: Chain::cut(w, p),
            probe_wait: List::EMPTY,
            path_order: Chain::cut(w, p),
            path_seen_list: List::EMPTY,
            path_ready_chain: Chain::cut(w, p),
            path_ready: List::EMPTY,
            map_order: Chain::cut(w, m),
            map_seen_list: List::EMPTY,
            map_chain: Chain::cut(w, m),
            map_ready: List::EMPTY,
            map_heavy_chain: Chain::cut(w, m),
            map_heavy: List::EMPTY,
            part_by_map: Chain::cut(w, k),
            port_chain: Chain::cut(w, sizes.ports),
            rousing: List::EMPTY,
            timers: Timers::new(cut(w, timers, NONE), cut(w, timers, NONE), storage.times),
            notes: Deque::new(),
            lost_notes: 0,
            scan: Sweep { want: true, ..Sweep::default() },
            survey: Sweep { want: true, ..Sweep::default() },
            list: Sweep::default(),
            scanned: false,
            surveyed: false,
            settings_serial: 1,
            interval: Duration::from_secs(5),
            last_ticket: 0,
            workers: 16,
            away: 0,
            starved: 0,
            starved_since: Instant::ZERO,
            roomy: false,
            opening: [None; 2],
            wake: false,
            wake_path: NONE,
            wake_map: NONE,
            open_maps: 0,
            open_paths: 0,
            stopping: false,
            hurried: None,
            keep_queueing: false,
            asks: Default::default(),
            stalled: [None; 3],
        })
    }
}
