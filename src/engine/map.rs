//! One multipath map: what is wanted of it, what the kernel has, and the one request under way. Data only; want.rs compares,
//! mapnext.rs chooses the next step, answers.rs moves `have`.

use super::activate;
use super::event::{LiveMap, Ticket};
use super::note::{Difference, Step};
use super::storage::{Head, List, Slot};
use crate::conf::settings::MapSettings;
use crate::fault::Errno;
use crate::model::{DevNo, DmPathState, GroupState, Instant, MAP_PATHS, MapName, Sectors, Text, Wwid};
use crate::wire::dm::Message;
use crate::wire::table::{Features, MAP_GROUPS, Table};
use heapless::Vec;

/// What is known of the live device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Known {
    /// A request failed or went overdue, or somebody else acted: to be read before anything is done.
    #[default]
    Unknown,
    Absent,
    Live,
}

/// One path of the live table. There is room for 64 in each map: a byte more is 68 KB at 4,096 paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    pub(super) devno: DevNo,
    /// Our slot for it, or NONE for a device we do not know.
    pub(super) path: u32,
    pub(super) fail_count: u32,
    pub(super) group: u8,
    pub(super) dm: DmPathState,
}

/// The kernel's side of a map, as last read. Moves only by answers.
#[derive(Default)]
pub(super) struct Have {
    pub(super) known: Known,
    pub(super) devno: DevNo,
    pub(super) size: Sectors,
    pub(super) read_only: bool,
    pub(super) suspended: bool,
    /// A table waits in the inactive slot.
    pub(super) inactive: bool,
    pub(super) deferred: bool,
    pub(super) open_count: u32,
    pub(super) event_nr: u32,
    /// A table is live (a created but never resumed device has none).
    pub(super) active: bool,
    /// `members` and the table words are those of the live table.
    pub(super) table_known: bool,
    /// The live table is not one we can read: left alone.
    pub(super) table_strange: bool,
    /// Path and group states are those of the last status.
    pub(super) status_known: bool,
    pub(super) status_at: Instant,
    pub(super) features: Features,
    pub(super) handler: Text<64>,
    pub(super) selector: Text<64>,
    /// Groups have different selectors.
    pub(super) mixed: bool,
    pub(super) first_group: u8,
    pub(super) current_group: u8,
    pub(super) queue_io: bool,
    pub(super) groups: Vec<GroupState, MAP_GROUPS, u8>,
    pub(super) members: Vec<Member, MAP_PATHS, u8>,
}

impl Have {
    /// The group in use (1-based), activated if that is needed; 0 while the kernel is only on its way to one.
    pub(super) fn arrived(&self) -> u8 {
        let state = self.current_group.checked_sub(1).and_then(|g| self.groups.get(usize::from(g)));
        if state == Some(&GroupState::Active) && !self.queue_io { self.current_group } else { 0 }
    }

    /// The header fields that every answer brings.
    pub(super) fn absorb_header(&mut self, live: &LiveMap<'_>) {
        self.known = Known::Live;
        self.devno = live.devno;
        self.read_only = live.read_only;
        self.suspended = live.suspended;
        self.inactive = live.inactive_table;
        self.deferred = live.deferred_remove;
        self.open_count = live.open_count;
        self.event_nr = live.event_nr;
    }

    /// Nothing there.
    pub(super) fn clear(&mut self) {
        *self = Have::default();
        self.known = Known::Absent;
    }

    /// The live table as a value, to be compared with a wanted one; without repeat counts, which the kernel makes 1 whatever is said.
    pub(super) fn table(&self) -> Table {
        let mut t =
            Table { features: self.features.clone(), handler: self.handler.clone(), first_group: self.first_group, ..Table::default() };
        for _ in 0..self.groups.len() {
            // As many as there were in the table they were read from: they fit.
            let _ = t.groups.push(crate::wire::table::TableGroup { selector: self.selector.clone() });
        }
        for m in &self.members {
            let path = crate::wire::table::TablePath { devno: m.devno, group: m.group, ..Default::default() };
            let _ = t.paths.push(path);
        }
        t
    }
}

/// The one request of a map that may be under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Job {
    #[default]
    None,
    Status,
    Table,
    Create,
    Load,
    Clear,
    Resume,
    Suspend,
    Rename,
    Remove,
    Message(Message),
    /// The partition table is to be read.
    Partitions,
    /// A request for this partition map.
    Part {
        part: u32,
        step: PartStep,
    },
}

impl Job {
    /// Allowed while a map has no usable path: what the kernel carries out without allocating.
    pub(super) fn harmless(self) -> bool {
        matches!(self, Job::None | Job::Status | Job::Table | Job::Message(_))
    }

    pub(super) fn step(self) -> Step {
        match self {
            Job::None | Job::Status | Job::Table | Job::Partitions => Step::Read,
            Job::Create => Step::Create,
            Job::Load => Step::Load,
            Job::Clear => Step::Clear,
            Job::Resume => Step::Resume,
            Job::Suspend => Step::Suspend,
            Job::Rename => Step::Rename,
            Job::Remove => Step::Remove,
            Job::Message(_) => Step::Message,
            Job::Part { step, .. } => match step {
                PartStep::Read => Step::Read,
                PartStep::Create => Step::Create,
                PartStep::Load => Step::Load,
                PartStep::Resume => Step::Resume,
                PartStep::Rename => Step::Rename,
                PartStep::Remove => Step::Remove,
            },
        }
    }
}

/// What is done to a partition map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PartStep {
    Read,
    Create,
    Load,
    Resume,
    Rename,
    Remove,
}

/// What is known of the partition table on a map's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum PartTable {
    /// To be read (again).
    #[default]
    Unread,
    Read,
    /// Not wanted for this map.
    Never,
}

/// One multipath map. `lead` is an index whose "none" is not its default: `registry::map_new` sets it.
#[repr(C)]
#[derive(Default)]
pub struct MapSlot {
    pub(super) head: Head,
    /// The settings' serial number they were derived under; 0 is never.
    pub(super) settings_of: u32,
    /// Wanted members, in the order they came.
    pub(super) paths: List,
    pub(super) seen: u32,
    pub(super) job: Job,
    pub(super) ticket: Ticket,
    pub(super) deadline: Instant,
    /// Consecutive failures of structural steps.
    pub(super) attempts: u8,
    /// Likewise for reads and messages.
    pub(super) soft_attempts: u8,
    pub(super) last_error: Option<Errno>,
    /// The table under way or last loaded into the inactive slot is ours.
    pub(super) loaded: bool,
    /// The kernel refused to swap our table in, and dropped it: the map is suspended with its old one, which is resumed without a pause.
    pub(super) go_back: bool,
    /// A table was loaded or resumed by us since: what to say when it is live.
    pub(super) changing: Difference,
    pub(super) created: bool,
    /// Something a table is made of may have changed: compare.
    pub(super) replan: bool,
    /// What the last comparison found.
    pub(super) differs: Difference,
    /// There is enough to make a table of.
    pub(super) plannable: bool,
    /// Grouping is to be compared as a whole (fresh, reconfigured, asked, failback); otherwise only members are.
    pub(super) regroup: bool,
    pub(super) force_reload: bool,
    pub(super) resize_allowed: bool,
    pub(super) force_read_only: bool,
    /// A path that was read-only is no more: so may the map be, if no other is.
    pub(super) writable: bool,
    /// A table for writing was refused though all paths could be written.
    pub(super) doubted: bool,
    /// The configured selector, features or handler do not load in this kernel.
    pub(super) plain: u8,
    pub(super) remove: bool,
    /// On an errand: it is what the errand is about.
    pub(super) named: bool,
    /// An administrator removes it: its paths are not to make it again.
    pub(super) dismiss: bool,
    /// An administrator holds it suspended.
    pub(super) admin_suspend: bool,
    pub(super) admin_no_queueing: bool,
    /// What the kernel did before an administrator disabled queueing.
    pub(super) queue_before: Option<bool>,
    /// Its LUN is moved by us: the handler it needs is not in the kernel, or was not wanted.
    pub(super) own: bool,
    /// One of its paths is being activated by us, since then.
    pub(super) activating: Option<Instant>,
    /// A priority changed then, and not all paths have been asked since.
    pub(super) prio_changed: Option<Instant>,
    /// Failback has something to do, and has had its paths' priorities asked for once more.
    pub(super) asked_anew: bool,
    /// Since then a priority was seen to be another one.
    pub(super) prio_moved: Option<Instant>,
    /// The path through which we last took the LUN.
    pub(super) taken: Option<crate::model::PathId>,
    /// Failback wants this group, which has to be made active first.
    pub(super) activate_group: u8,
    /// The kernel holds I/O back while it activates a group, since then.
    pub(super) init_since: Option<Instant>,
    pub(super) told_init: bool,
    pub(super) told_quarrel: bool,
    pub(super) activate_failures: u8,
    /// A path came since: a deferred removal is called off.
    pub(super) keep_after_all: bool,
    /// Port of the path it leads with.
    pub(super) lead: u32,
    pub(super) next_status: Instant,
    pub(super) switch_to: Option<u8>,
    /// Times failback decided the same in vain.
    pub(super) failback_tries: u8,
    /// Since failback was last asked: a path became unusable, or usable.
    pub(super) path_failed: bool,
    pub(super) path_came: bool,
    /// Groups of the live table that had a usable path when failback was last asked, a bit each.
    pub(super) alive_groups: u64,
    /// Its last path is gone and it goes with it; `flush_quiet`: its queueing ends before.
    pub(super) flush: bool,
    pub(super) flush_quiet: bool,
    /// Its last path is gone, and who has its partitions open is being asked.
    pub(super) parts_asked: bool,
    pub(super) told_selector: bool,
    pub(super) told_handler: bool,
    pub(super) told_alias: bool,
    /// It was said that its disks go by another name.
    pub(super) told_names: bool,
    /// How often the kernel said that the chosen name is another device's.
    pub(super) names_taken: u8,
    /// The alias just chosen is to be written to the bindings.
    pub(super) bind: bool,
    /// Serial number of the last survey at the time of the last answer.
    pub(super) touched: u32,
    pub(super) part_attempts: u8,
    /// Serial number of the last list that had it.
    pub(super) listed: u32,
    /// Members that the kernel may use, as last counted.
    pub(super) usable: u8,
    /// Members that are usable by their last checks.
    pub(super) standing: u8,
    /// Counted among the maps whose I/O waits for a path.
    pub(super) starved: bool,
    /// Counted among the maps that are not settled.
    pub(super) open: bool,
    /// Name of the node in /dev/mapper that we made; empty for none.
    pub(super) node: MapName,
    pub(super) part_table: PartTable,
    pub(super) parts: List,
    pub(super) path_faults: u32,
    pub(super) switch_groups: u32,
    pub(super) map_loads: u32,
    pub(super) queue_time_secs: u64,
    pub(super) queue_timeouts: u32,

    // The large ones come last: what is near the front is reached with shorter instructions (`repr(C)` keeps the order).
    pub(super) retry_at: Option<Instant>,
    pub(super) soft_retry_at: Option<Instant>,
    /// Not again before.
    pub(super) activate_after: Option<Instant>,
    /// Made for want of active paths only: udev was told "not ready" until then.
    pub(super) not_ready_until: Option<Instant>,
    /// Wait for the members' first verdict until then.
    pub(super) first_wait: Option<Instant>,
    /// Failback decided; until then it is not asked again.
    pub(super) failback_rest: Option<Instant>,
    /// The partition table is being read. Not a job of the map: a reinstate must not wait for it, for it may wait for that itself.
    pub(super) reading: Option<Ticket>,
    /// Through which path the partition table was last read.
    pub(super) reader: Option<crate::model::PathId>,
    pub(super) queue: super::queueing::State,
    pub(super) failback: crate::failback::State,
    pub(super) guard: activate::Guard,
    pub(super) memory: super::checker::MapMemory,
    /// The live device's name; before there is one, the name it will get.
    pub(super) name: MapName,
    /// The name the configuration gives it, where that is not a default.
    pub(super) rename_to: MapName,
    pub(super) wwid: Wwid,
    pub(super) settings: MapSettings,
    pub(super) have: Have,
}

impl MapSlot {
    /// Since when the LUN is being activated, by the kernel or by us.
    pub(super) fn activation_since(&self) -> Option<Instant> {
        self.activating.or(self.init_since)
    }
}

impl Slot for MapSlot {
    fn head(&self) -> Head {
        self.head
    }
    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

/// One partition map.
#[derive(Default)]
pub struct PartSlot {
    pub(super) head: Head,
    pub(super) map: u32,
    pub(super) number: u32,
    /// Wanted, from the partition table; length 0: not wanted (any more).
    pub(super) start: Sectors,
    pub(super) length: Sectors,
    pub(super) known: Known,
    pub(super) devno: DevNo,
    pub(super) name: MapName,
    pub(super) have_start: Sectors,
    pub(super) have_length: Sectors,
    pub(super) parent: DevNo,
    pub(super) inactive: bool,
    pub(super) suspended: bool,
    /// A table of ours waits to be resumed.
    pub(super) loaded: bool,
    pub(super) open_count: u32,
    pub(super) failures: u8,
    pub(super) node: MapName,
}

impl Slot for PartSlot {
    fn head(&self) -> Head {
        self.head
    }
    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}
