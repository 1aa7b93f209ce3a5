//! Read-only look at everything the listings show. Answered from memory, always; nothing here moves state.

use super::map::{Known, Member};
use super::path::{Fds, Job, Nodes};
use super::{Cause, Difference, Engine, MapSlot, PathSlot, Reason, group};
use crate::conf::settings::{CheckerKind, MapSettings, PathSettings, PrioKind, Verdict};
use crate::fault::Errno;
use crate::model::{
    AccessState, Bus, DevNo, DmPathState, GroupState, Hctl, Instant, MapId, PathFacts, PathId, PathState, Prio, Protocol, Sectors, SysState,
};
use crate::wire::table::Features;
use core::time::Duration;

/// One path.
#[derive(Clone, Copy)]
pub struct PathView<'e> {
    engine: &'e Engine<'e>,
    slot: &'e PathSlot,
    index: u32,
}

/// One map.
#[derive(Clone, Copy)]
pub struct MapView<'e> {
    engine: &'e Engine<'e>,
    slot: &'e MapSlot,
    index: u32,
}

/// One group of a live table.
#[derive(Clone, Copy)]
pub struct GroupView<'e> {
    map: MapView<'e>,
    index: u8,
}

/// How many things there are, how many there is room for, and how many were turned away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    pub used: u32,
    pub size: u32,
    pub refused: u32,
}

impl Engine<'_> {
    /// All paths that are known, orphans included, in no special order.
    pub fn paths(&self) -> impl Iterator<Item = PathView<'_>> {
        self.paths.iter().map(move |(index, slot)| PathView { engine: self, slot, index })
    }

    /// All maps that live or are wanted.
    pub fn maps(&self) -> impl Iterator<Item = MapView<'_>> {
        self.maps.iter().map(move |(index, slot)| MapView { engine: self, slot, index })
    }

    pub fn path(&self, id: PathId) -> Option<PathView<'_>> {
        let index = self.path_at(id)?;
        Some(PathView { engine: self, slot: &self.paths[index], index })
    }

    pub fn map(&self, id: MapId) -> Option<MapView<'_>> {
        let slot = self.maps.get(id.index).filter(|m| m.head.generation == id.generation)?;
        Some(MapView { engine: self, slot, index: id.index })
    }

    /// By kernel name or `major:minor`.
    pub fn find_path(&self, name: &str) -> Option<PathView<'_>> {
        let index = self.path_named(name)?;
        Some(PathView { engine: self, slot: &self.paths[index], index })
    }

    /// By dm name, WWID or `dm-N`.
    pub fn find_map(&self, name: &str) -> Option<MapView<'_>> {
        let index = self.map_named(name)?;
        Some(MapView { engine: self, slot: &self.maps[index], index })
    }

    pub fn path_room(&self) -> Room {
        Room { used: self.paths.used, size: self.paths.capacity() as u32, refused: self.paths.refused }
    }

    pub fn map_room(&self) -> Room {
        Room { used: self.maps.used, size: self.maps.capacity() as u32, refused: self.maps.refused }
    }

    /// Maps whose I/O waits for a path; while there are any, nothing that allocates in the kernel is asked.
    pub fn starved(&self) -> u32 {
        self.starved
    }
}

impl<'e> PathView<'e> {
    pub fn id(&self) -> PathId {
        self.engine.path_id(self.index)
    }
    pub fn name(&self) -> &'e str {
        &self.slot.name
    }
    pub fn devno(&self) -> DevNo {
        self.slot.devno
    }
    pub fn wwid(&self) -> &'e str {
        &self.slot.wwid
    }
    pub fn serial(&self) -> &'e str {
        &self.slot.serial
    }
    pub fn hctl(&self) -> Option<Hctl> {
        self.slot.hctl
    }
    pub fn bus(&self) -> Bus {
        self.slot.bus
    }
    pub fn protocol(&self) -> Protocol {
        self.slot.protocol
    }
    pub fn size(&self) -> Sectors {
        self.slot.size
    }
    pub fn sys_state(&self) -> SysState {
        self.slot.sys
    }
    pub fn access(&self) -> Option<AccessState> {
        self.slot.access
    }
    pub fn handler(&self) -> &'e str {
        &self.slot.handler
    }
    pub fn target_port_group(&self) -> Option<u16> {
        self.slot.target_port_group
    }
    pub fn vendor(&self) -> &'e str {
        self.engine.profiles.get(self.slot.profile).map_or("", |p| &p.vendor)
    }
    pub fn product(&self) -> &'e str {
        self.engine.profiles.get(self.slot.profile).map_or("", |p| &p.product)
    }
    pub fn revision(&self) -> &'e str {
        self.engine.profiles.get(self.slot.profile).map_or("", |p| &p.revision)
    }
    pub fn host_node(&self) -> &'e str {
        self.engine.ports.get(self.slot.port).map_or("", |p| &p.host_node)
    }
    pub fn host_port(&self) -> &'e str {
        self.engine.ports.get(self.slot.port).map_or("", |p| &p.host_port)
    }
    pub fn target_node(&self) -> &'e str {
        self.engine.ports.get(self.slot.port).map_or("", |p| &p.target_node)
    }
    pub fn target_port(&self) -> &'e str {
        self.engine.ports.get(self.slot.port).map_or("", |p| &p.target_port)
    }
    pub fn adapter(&self) -> &'e str {
        self.engine.ports.get(self.slot.port).map_or("", |p| &p.adapter)
    }
    /// Everything at once, as the shell told it; a copy of over a kilobyte.
    pub fn facts(&self) -> PathFacts {
        self.engine.facts_of(self.index)
    }
    pub fn settings(&self) -> Option<&'e PathSettings> {
        self.engine.profiles.get(self.slot.profile).filter(|p| p.ours).map(|p| &p.settings)
    }
    /// Why it is ours or not, and what the blacklist says.
    pub fn reason(&self) -> Reason {
        self.slot.reason
    }
    /// For how many seconds a second path is waited for in all, where one is (find_multipaths smart).
    pub fn smart_wait(&self) -> Option<u64> {
        self.slot.smart_until.map(|until| until.since(self.slot.found_at).as_secs())
    }
    /// Mounted, swapped on, or held by another driver than ours.
    pub fn held_by_others(&self) -> bool {
        self.slot.held == super::path::Held::Others
    }
    pub fn verdict(&self) -> Verdict {
        self.slot.verdict
    }
    /// The map it is wanted in; `None` for an orphan.
    pub fn map(&self) -> Option<MapView<'e>> {
        let slot = self.engine.maps.get(self.slot.map)?;
        Some(MapView { engine: self.engine, slot, index: self.slot.map })
    }
    /// Is it in the live table of its map?
    pub fn live(&self) -> bool {
        self.slot.map == self.slot.live_in && self.engine.maps.get(self.slot.map).is_some()
    }
    /// What the checker says.
    pub fn state(&self) -> PathState {
        self.slot.state
    }
    pub fn cause(&self) -> Cause {
        self.slot.cause
    }
    /// What the kernel says.
    pub fn dm_state(&self) -> DmPathState {
        self.slot.dm
    }
    pub fn prio(&self) -> Prio {
        self.slot.prio
    }
    pub fn prio_kind(&self) -> PrioKind {
        self.slot.prio_kind
    }
    pub fn marginal(&self) -> bool {
        self.slot.marginal || self.slot.marginal_by_admin
    }
    /// May the kernel be told to use it?
    pub fn usable(&self) -> bool {
        self.slot.usable()
    }
    pub fn gone(&self) -> bool {
        self.slot.gone
    }
    pub fn open(&self) -> bool {
        self.slot.fds == Fds::Open
    }
    /// Has it had its first verdict?
    pub fn judged(&self) -> bool {
        self.slot.judged
    }
    /// A job is under way, or was given up while its worker is still parked.
    pub fn busy(&self) -> bool {
        self.slot.job != Job::None || self.slot.overdue.is_some()
    }
    /// Times it was found bad after good.
    pub fn failures(&self) -> u32 {
        self.slot.failures
    }
    /// Failures the kernel counted since the live table was loaded.
    pub fn fail_count(&self) -> u32 {
        self.slot.fail_count
    }
    /// The checker in use.
    pub fn checker(&self) -> CheckerKind {
        self.slot.checker
    }
    /// Shaky: until when it is held back or watched.
    pub fn shaky_until(&self) -> Option<Instant> {
        self.slot.history.until()
    }
    /// When it is checked next, and the present interval; `None` when it is not checked.
    pub fn next_check(&self) -> Option<(Instant, Duration)> {
        (self.slot.map != super::storage::NONE && !self.slot.gone)
            .then(|| (self.slot.next_check, Duration::from_secs(u64::from(self.slot.interval_secs))))
    }
}

impl<'e> MapView<'e> {
    pub fn id(&self) -> MapId {
        self.engine.map_id(self.index)
    }
    /// The live name; of a map that is not there yet, the name it will get, or nothing.
    pub fn name(&self) -> &'e str {
        &self.slot.name
    }
    pub fn wwid(&self) -> &'e str {
        &self.slot.wwid
    }
    /// Does it live in the kernel?
    pub fn live(&self) -> bool {
        self.slot.have.known == Known::Live
    }
    /// Does it have a live table?
    pub fn active(&self) -> bool {
        self.live() && self.slot.have.active
    }
    pub fn devno(&self) -> DevNo {
        self.slot.have.devno
    }
    pub fn size(&self) -> Sectors {
        self.slot.have.size
    }
    pub fn read_only(&self) -> bool {
        self.slot.have.read_only
    }
    pub fn suspended(&self) -> bool {
        self.slot.have.suspended
    }
    pub fn open_count(&self) -> u32 {
        self.slot.have.open_count
    }
    /// As the kernel's table has them.
    pub fn features(&self) -> &'e Features {
        &self.slot.have.features
    }
    /// Name and arguments; empty for none.
    pub fn handler(&self) -> &'e str {
        &self.slot.have.handler
    }
    pub fn settings(&self) -> &'e MapSettings {
        &self.slot.settings
    }
    pub fn queueing(&self) -> bool {
        self.slot.have.features.queue_if_no_path
    }
    pub fn queueing_disabled_by_admin(&self) -> bool {
        self.slot.admin_no_queueing
    }
    /// What a reload would change.
    pub fn differs(&self) -> Difference {
        self.slot.differs
    }
    /// Has it been put off because some map's I/O waits for a path?
    pub fn postponed(&self) -> bool {
        !self.engine.quiet() && (self.slot.differs.any() || (!self.live() && self.slot.plannable))
    }
    /// When I/O begins to fail for want of a path; `None` while one is usable, or for never.
    pub fn queue_until(&self) -> Option<Instant> {
        let interval = self.engine.interval;
        self.slot.queue.poll_at(self.slot.settings.no_path_retry, interval).filter(|_| !self.slot.admin_no_queueing)
    }
    /// Why no path is usable; `None` while one is.
    pub fn outage(&self) -> Option<super::queueing::Outage> {
        self.slot.queue.outage()
    }
    /// When deferred failback is due.
    pub fn failback_at(&self) -> Option<Instant> {
        self.slot.failback.poll_at()
    }
    /// Why failback rests although there is a better group.
    pub fn failback_held(&self) -> Option<crate::failback::Hold> {
        let ours = self.slot.own && !self.slot.guard.may_take(self.engine.now);
        self.slot.failback.held().or(ours.then_some(crate::failback::Hold::Quarrel))
    }
    /// Since when its LUN is being activated.
    pub fn activation_since(&self) -> Option<Instant> {
        self.slot.activation_since()
    }
    pub fn queue_io(&self) -> bool {
        self.slot.have.queue_io
    }
    /// Paths the kernel may use.
    pub fn usable(&self) -> u32 {
        u32::from(self.slot.usable)
    }
    /// I/O waits for a path.
    pub fn starved(&self) -> bool {
        self.slot.starved
    }
    /// 1-based; 0 for none.
    pub fn current_group(&self) -> u8 {
        self.slot.have.current_group
    }
    /// The trouble it is in.
    pub fn last_error(&self) -> Option<Errno> {
        self.slot.last_error
    }
    /// It stays out of its map's table: for its size, or because the table is full.
    pub fn paths_left_out(&self) -> bool {
        self.paths().any(|path| path.slot.told_odd)
    }
    /// The alias that the configuration gives it is another map's, or no name at all.
    pub fn alias_refused(&self) -> bool {
        self.slot.told_alias
    }
    pub fn path_faults(&self) -> u32 {
        self.slot.path_faults
    }
    pub fn group_switches(&self) -> u32 {
        self.slot.switch_groups
    }
    pub fn loads(&self) -> u32 {
        self.slot.map_loads
    }
    pub fn queue_seconds(&self) -> u64 {
        self.slot.queue_time_secs
    }
    pub fn queue_timeouts(&self) -> u32 {
        self.slot.queue_timeouts
    }
    /// Its size and the words of the table it should have now; `None` when there is nothing to make one of.
    pub fn wanted_table<'b>(&self, cx: &super::Context<'_>, out: &'b mut [u8]) -> Option<(Sectors, &'b [u8])> {
        let plan = self.engine.plan(cx, self.index)?;
        let length = plan.table.emit(out).ok()?;
        Some((plan.size, out.get(..length)?))
    }
    /// Wanted members, in the order they came.
    pub fn paths(&self) -> impl Iterator<Item = PathView<'e>> {
        let engine = self.engine;
        let mut at = self.slot.paths.head;
        core::iter::from_fn(move || {
            let slot = engine.paths.get(at)?;
            let index = at;
            at = engine.path_by_map.next(at);
            Some(PathView { engine, slot, index })
        })
    }
    /// Are the kernel's own partitions of its usable paths gone, so that nobody mounts one of them?
    pub fn tidy(&self) -> bool {
        !self.engine.options.path_partitions || self.paths().all(|p| p.slot.nodes == Nodes::Gone || !p.slot.usable() || !p.live())
    }
    /// Has it its name under /dev/mapper, where no udev makes that?
    pub fn named(&self) -> bool {
        self.engine.options.udev || self.slot.node == self.slot.name
    }
    /// Groups of the live table, in its order.
    pub fn groups(&self) -> impl Iterator<Item = GroupView<'e>> {
        let map = *self;
        (0..self.slot.have.groups.len() as u8).map(move |index| GroupView { map, index })
    }
    /// Device numbers of the live table that belong to no disk we know.
    pub fn strangers(&self) -> impl Iterator<Item = DevNo> {
        self.slot.have.members.iter().filter(|x| x.path == super::storage::NONE).map(|x| x.devno)
    }
}

impl<'e> GroupView<'e> {
    /// 1-based, as messages have it.
    pub fn number(&self) -> u8 {
        self.index.saturating_add(1)
    }
    pub fn selector(&self) -> &'e str {
        &self.map.slot.have.selector
    }
    pub fn state(&self) -> GroupState {
        self.map.slot.have.groups.get(usize::from(self.index)).copied().unwrap_or_default()
    }
    fn members(&self) -> impl Iterator<Item = &'e Member> {
        let index = self.index;
        self.map.slot.have.members.iter().filter(move |x| x.group == index)
    }
    pub fn paths(&self) -> impl Iterator<Item = PathView<'e>> {
        let engine = self.map.engine;
        self.members().filter_map(move |x| engine.paths.get(x.path).map(|slot| PathView { engine, slot, index: x.path }))
    }
    pub fn rating(&self) -> group::Rating {
        let engine = self.map.engine;
        group::rate(self.members().filter(|x| engine.paths.get(x.path).is_some()).map(move |x| engine.group_member(x.path)))
    }
}

/// One live or wanted partition map.
#[derive(Clone, Copy, Debug)]
pub struct PartView<'e> {
    pub number: u32,
    pub name: &'e str,
    pub devno: DevNo,
    /// It has its table, and its name under /dev/mapper where no udev makes that.
    pub live: bool,
}

impl<'e> MapView<'e> {
    /// Its partition maps.
    pub fn partitions(&self) -> impl Iterator<Item = PartView<'e>> {
        let engine = self.engine;
        let mut at = self.slot.parts.head;
        core::iter::from_fn(move || {
            let part = engine.parts.get(at)?;
            at = engine.part_by_map.next(at);
            let made = part.known == Known::Live && part.have_length.0 > 0 && !part.loaded && !part.suspended;
            let live = made && (engine.options.udev || engine.options.dry_run || part.node == part.name);
            Some(PartView { number: part.number, name: &part.name, devno: part.devno, live })
        })
    }
}
