//! What a path in a map gets besides checks: transport attributes, sampling reads while it is shaky, its partitions taken away, its
//! removal when the array says that the LUN is gone, and activation where the kernel has no handler for it.

use super::activate::{self, Activation, Ended, Method};
use super::map::{self, Known, PartTable};
use super::note::What;
use super::path::{Fds, Job, Limit, Nodes};
use super::pathsteps::{Emit, Turn};
use super::probe::{self, ProbeSlot, Stage};
use super::storage::NONE;
use super::{Action, Attribute, Context, Engine, Ticket, tuning};
use crate::conf::settings::PrioKind;
use crate::fault::Errno;
use crate::model::{PathId, PathState, Prio, Tpgs};
use crate::wire::scsi::Reply;
use core::time::Duration;

/// A write to sysfs may wait for a port that is blocked.
const WRITE: Duration = Duration::from_secs(60);
/// A sampling read is given this long.
const SAMPLE: Duration = Duration::from_secs(10);
/// Bytes of one sampling read.
const SAMPLE_BYTES: u32 = 4096;

impl Engine<'_> {
    /// The next of these for path `i`, which is open and has no check due.
    #[inline(never)]
    pub(super) fn path_extras(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let (path, m) = (self.path_id(i), self.paths[i].map);
        if self.paths[i].history.read_due(cx.now) {
            let ticket = self.ticket();
            if !self.port_take(i) {
                self.paths[i].history.not_sent();
                return Turn::Idle;
            }
            if let Err(refused) = emit(Action::Read { path, ticket, length: SAMPLE_BYTES }) {
                self.port_release(i);
                self.paths[i].history.not_sent();
                return Turn::Refused(refused);
            }
            self.path_sent(i, Job::Sample, ticket, cx.now + SAMPLE);
            return Turn::Sent;
        }
        self.sample_over(cx, i);
        if self.options.dry_run {
            return Turn::Idle;
        }
        if self.spare()
            && let Some(turn) = self.path_tune(cx, i, emit)
        {
            return turn;
        }
        let p = &self.paths[i];
        let live = self.maps.get(m).is_some_and(|map| map.have.known == Known::Live && map.have.active);
        if self.options.path_partitions && matches!(p.nodes, Nodes::There | Nodes::Again) && live && p.live_in == m && self.spare() {
            if let Err(refused) = emit(Action::PathPartitions { path, keep: false }) {
                return Turn::Refused(refused);
            }
            self.paths[i].nodes = Nodes::Asked;
            return Turn::Sent;
        }
        let p = &self.paths[i];
        if live && p.live_in == m && p.tuned == u8::MAX && !p.announced && self.announces() {
            return self.path_announce(cx, i, true, emit);
        }
        if self.activation_path(cx, m) == Some(i) {
            return self.activation_start(cx, i);
        }
        Turn::Idle
    }

    /// udev's rules look at who holds a disk, with its events. Neither a claim nor its end makes one.
    pub(super) fn announces(&self) -> bool {
        self.options.udev && self.options.resident && self.spare()
    }

    pub(super) fn path_announce(&mut self, cx: &Context<'_>, i: u32, ours: bool, emit: &mut Emit<'_>) -> Turn {
        let turn = self.path_write(cx, i, Attribute::Announce, 1, emit);
        if matches!(turn, Turn::Sent) {
            self.paths[i].announced = ours;
        }
        turn
    }

    /// `Event::PathPartitions`.
    pub(super) fn path_partitions(&mut self, id: PathId, in_use: u32) {
        let Some(i) = self.path_at(id) else { return };
        self.path_touch(i);
        let p = &mut self.paths[i];
        let m = p.map;
        if p.nodes == Nodes::Asked {
            p.nodes = Nodes::Gone;
        }
        // Said once, though it is tried again with every event of the disk.
        if core::mem::replace(&mut p.told_nodes, in_use > 0) != (in_use > 0) && in_use > 0 {
            self.note(Some(i), self.map_id_of(i), What::PartitionInUse { number: in_use });
        }
        // The map's own table may wait to be read through this path, whose worker was away.
        if let Some(slot) = self.maps.get(m).filter(|slot| slot.attempts == 0 && slot.part_attempts == 0 && slot.job == map::Job::None)
            && slot.part_table == PartTable::Unread
        {
            self.maps[m].retry_at = None;
            self.map_touch(m);
        }
    }

    /// The next attribute to be written: those of the transport once per port, those of the disk once per path.
    #[inline(never)]
    fn path_tune(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Option<Turn> {
        let p = &self.paths[i];
        if p.purge && p.live_in == p.map && p.dm != crate::model::DmPathState::Active && self.other_paths(i) {
            let turn = self.path_write(cx, i, Attribute::Delete, 1, emit);
            self.paths[i].purge = !matches!(turn, Turn::Sent);
            return Some(turn);
        }
        if p.tuned == u8::MAX || p.live_in != p.map {
            return None;
        }
        let globals = cx.settings.globals();
        let (settings, map) = (&self.profiles[p.profile].settings, &self.maps[p.map].settings);
        let wish = tuning::Wish {
            fast_io_fail: settings.fast_io_fail,
            dev_loss: settings.dev_loss,
            eh_deadline: settings.eh_deadline,
            max_retries: globals.max_retries,
            no_path_retry: map.no_path_retry,
            polling_interval: globals.polling_interval,
        };
        let (writes, _) = tuning::plan(&wish, p.protocol);
        let shared =
            |a: Attribute| matches!(a, Attribute::FastIoFail | Attribute::DevLoss | Attribute::RecoveryTmo | Attribute::EhDeadline);
        let mut sum = 0u32;
        for w in writes.iter().filter(|w| shared(w.attribute)) {
            sum = sum.wrapping_mul(31).wrapping_add(w.attribute as u32).wrapping_mul(31).wrapping_add(w.value as u32) | 1;
        }
        let port = p.port;
        while let Some(w) = writes.get(usize::from(self.paths[i].tuned)) {
            let done = shared(w.attribute) && self.ports.get(port).is_some_and(|port| port.tuned == sum);
            if !done {
                return Some(self.path_write(cx, i, w.attribute, w.value, emit));
            }
            self.paths[i].tuned += 1;
        }
        if self.ports.get(port).is_some() && sum != 0 {
            self.ports[port].tuned = sum;
        }
        self.paths[i].tuned = u8::MAX;
        None
    }

    /// Does the map have another path that works, so that this one may be given up for good?
    fn other_paths(&self, i: u32) -> bool {
        self.maps.get(self.paths[i].map).is_some_and(|map| map.usable > 0)
    }

    pub(super) fn path_write(&mut self, cx: &Context<'_>, i: u32, attribute: Attribute, value: i64, emit: &mut Emit<'_>) -> Turn {
        if !self.port_take(i) {
            return Turn::Idle;
        }
        if matches!(self.paths[i].limit, Limit::Asked | Limit::Stale) {
            // That write was given up.
            self.paths[i].limit = Limit::Refused;
        }
        let (path, ticket) = (self.path_id(i), self.ticket());
        if let Err(refused) = emit(Action::Write { path, ticket, name: &self.paths[i].name, attribute, value }) {
            self.port_release(i);
            return Turn::Refused(refused);
        }
        self.path_sent(i, Job::Write, ticket, cx.now + WRITE);
        Turn::Sent
    }

    /// An attribute was written.
    pub(super) fn written(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, result: Result<(), Errno>) {
        let Some(i) = self.path_answer(cx, id, ticket, Job::Write) else { return };
        if self.paths[i].map == NONE {
            // Asked who it is, not tuned.
            self.paths[i].look = true;
            return self.path_arm(i);
        }
        let m = self.paths[i].map;
        match (self.paths[i].limit, result) {
            (Limit::Asked, result) => {
                self.paths[i].limit = if result.is_ok() { Limit::Set } else { Limit::Refused };
                self.map_touch(m);
            }
            (Limit::Stale, _) => self.paths[i].limit = Limit::Open,
            (_, Ok(())) => self.write_done(i),
            (_, Err(errno)) => self.write_failed(cx, i, errno),
        }
        self.path_arm(i);
    }

    /// Another limit is wanted, or none.
    pub(super) fn limits_changed(&mut self, m: u32) {
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            let p = &mut self.paths[at];
            p.limit = p.limit.renewed();
            self.path_touch(at);
            at = self.path_by_map.next(at);
        }
    }

    /// What path `i` is to be limited to now: before its map has a table, or when that was made of limited paths. Of one that was here
    /// before us this has to be seen first.
    pub(super) fn limit_due(&self, i: u32) -> Option<i64> {
        let (p, map) = (&self.paths[i], &self.maps[self.paths[i].map]);
        let kb = i64::from(map.settings.max_sectors_kb.filter(|&kb| kb > 0 && p.limit == Limit::Open)?);
        if p.live_in != NONE && p.live_in != p.map {
            // Another map's table has it.
            return None;
        }
        let kb = match map.have.known {
            // Not once a table may be on its way: who comes later finds it made.
            Known::Absent if map.first_wait.is_some_and(|t| t > self.now) => kb,
            Known::Live if self.limited(p.map) => kb,
            Known::Live if p.live_in == p.map => -kb,
            Known::Live | Known::Absent | Known::Unknown => return None,
        };
        (!self.options.dry_run && self.spare()).then_some(kb)
    }

    /// Was the table of a live map made with a limited path in it?
    fn limited(&self, m: u32) -> bool {
        let limited = |x: &map::Member| self.paths.get(x.path).is_some_and(|p| p.map == m && p.live_in == m && p.limit == Limit::Set);
        self.maps[m].have.members.iter().any(limited)
    }

    pub(super) fn path_limit(&mut self, cx: &Context<'_>, i: u32, kb: i64, emit: &mut Emit<'_>) -> Turn {
        let turn = self.path_write(cx, i, Attribute::MaxSectorsKb, kb, emit);
        if matches!(turn, Turn::Sent) {
            self.paths[i].limit = Limit::Asked;
        }
        turn
    }

    /// Does a path of a map without a table still wait for its limit? It is seen to.
    pub(super) fn limits_due(&mut self, m: u32) -> bool {
        let (mut at, mut due) = (self.maps[m].paths.head, false);
        while at != NONE {
            let p = &self.paths[at];
            let asked = matches!(p.limit, Limit::Asked | Limit::Stale) && p.job == Job::Write;
            if !p.gone && (asked || (p.fds == Fds::Open && self.limit_due(at).is_some())) {
                due = true;
                self.path_touch(at);
            }
            at = self.path_by_map.next(at);
        }
        due
    }

    fn write_done(&mut self, i: u32) {
        let p = &mut self.paths[i];
        p.tuned = p.tuned.saturating_add(1);
        p.tune_failures = 0;
    }

    /// A port that is blocked says EBUSY: tried again a few times. What else fails is not there, or not to be had.
    pub(super) fn write_failed(&mut self, cx: &Context<'_>, i: u32, errno: Errno) {
        let p = &mut self.paths[i];
        p.tune_failures = p.tune_failures.saturating_add(1);
        if errno == Errno::BUSY && p.tune_failures < 10 {
            p.retry_at = Some(cx.now + Duration::from_secs(1));
        } else {
            self.write_done(i);
        }
    }

    /// Is the path passive, by what is known of it? What is sent through it fails.
    pub(super) fn passive(&self, i: u32) -> bool {
        let p = &self.paths[i];
        p.state == PathState::Ghost || passive(p.prio_kind, p.prio)
    }

    /// Would the array serve better through it if asked to? A passive path, or one that an explicit ALUA array has not optimized.
    pub(super) fn idle(&self, i: u32) -> bool {
        let p = &self.paths[i];
        let alua = matches!(p.prio_kind, PrioKind::Alua | PrioKind::Sysfs) && matches!(p.tpgs, Tpgs::Explicit | Tpgs::Both);
        self.passive(i) || (alua && matches!(p.prio.0, 10 | 90))
    }

    /// The first usable path of the live table's group (1-based), when all its usable ones are idle.
    fn idle_group(&self, m: u32, group: u8) -> Option<u32> {
        let mut first = None;
        for x in self.maps[m].have.members.iter().filter(|x| x.group.saturating_add(1) == group) {
            if self.paths.get(x.path).is_some_and(|p| p.usable() && p.map == m) {
                if !self.idle(x.path) {
                    return None;
                }
                first = first.or(Some(x.path));
            }
        }
        first
    }

    /// Does the group (1-based) have to be made active by us before the kernel is sent there?
    pub(super) fn own_idle_group(&self, m: u32, group: u8) -> bool {
        let map = &self.maps[m];
        // What was taken and still looks passive is not taken again: the array contradicts itself, and the kernel may try it.
        let wanted = |i: u32| map.taken != Some(self.path_id(i)) && self.method(i).is_some();
        map.own && map.have.open_count > 0 && self.idle_group(m, group).is_some_and(wanted)
    }

    /// The path through which the LUN must be made to answer by us, now. When the group that the kernel uses, or is going to use, has
    /// usable paths and all of them are passive, its I/O fails path after path until somebody activates one.
    pub(super) fn activation_path(&self, cx: &Context<'_>, m: u32) -> Option<u32> {
        let map = &self.maps[m];
        let have = &map.have;
        let steady = have.known == Known::Live && have.active && have.table_known && have.status_known && !have.suspended;
        if !map.own || self.options.dry_run || !steady || !have.handler.is_empty() || map.activating.is_some() {
            return None;
        }
        if !map.guard.may_take(cx.now) || map.activate_after.is_some_and(|t| t > cx.now) {
            return None;
        }
        let best = if self.group_usable(m, have.current_group) {
            have.current_group
        } else {
            (1..=have.groups.len() as u8).find(|&g| self.group_usable(m, g))?
        };
        // A LUN is not moved for nobody; a one-shot run, which is followed by a mount, moves it only where nothing else serves.
        let serves = |x: &super::map::Member| self.paths.get(x.path).is_some_and(|p| p.usable()) && !self.passive(x.path);
        let wanted = if self.options.resident { have.open_count > 0 } else { !have.members.iter().any(serves) };
        let group = if map.activate_group != 0 { map.activate_group } else { best };
        let i = self.idle_group(m, group).filter(|_| wanted)?;
        let p = &self.paths[i];
        (p.fds == Fds::Open && p.live_in == m && p.handler.is_empty() && self.method(i).is_some()).then_some(i)
    }

    fn method(&self, i: u32) -> Option<Method> {
        let map = self.maps.get(self.paths[i].map)?;
        let facts = self.facts_of(i);
        // An array that changes access states by itself only is not asked.
        let asked = |m: &Method| !matches!(m, Method::Alua { explicit: false, .. });
        let by_name = |name| Method::choose(name, &facts);
        Method::choose(&map.settings.handler, &facts)
            .or_else(|| match self.paths[i].prio_kind {
                PrioKind::Alua | PrioKind::Sysfs => by_name("alua"),
                PrioKind::Emc => by_name("emc"),
                PrioKind::Rdac => by_name("rdac"),
                PrioKind::HpSw => by_name("hp_sw"),
                _ => None,
            })
            .filter(asked)
    }

    fn activation_start(&mut self, cx: &Context<'_>, i: u32) -> Turn {
        let Some(method) = self.method(i) else { return Turn::Idle };
        let Ok(k) = self.probes.take() else { return Turn::Stalled };
        let head = self.probes[k].head;
        let (machine, step) = Activation::start(method);
        let question = probe::question(step, cx.now);
        self.probes[k] = ProbeSlot { head, stage: Stage::Activate(machine), question, sent: cx.now };
        let m = self.paths[i].map;
        self.paths[i].probe = k;
        let map = &mut self.maps[m];
        (map.activating, map.activate_group) = (Some(cx.now), 0);
        self.path_touch(i);
        Turn::Idle
    }

    /// A reply to an activation's question, or (`None`) the end of a wait.
    #[inline(never)]
    pub(super) fn activation_answer(&mut self, cx: &Context<'_>, i: u32, reply: Option<&Reply<'_>>) {
        let k = self.paths[i].probe;
        let Stage::Activate(machine) = &mut self.probes[k].stage else { return };
        let step = match reply {
            Some(reply) => machine.next(reply),
            None => machine.waited(),
        };
        let asked = machine.asked();
        match step {
            activate::Step::Done(ended) => {
                self.probe_end(i);
                self.activated(cx, i, ended, asked);
            }
            other => self.probes[k].question = probe::question(other, cx.now),
        }
        self.path_arm(i);
    }

    /// No answer to a question of an activation: a take-over may have happened or not.
    pub(super) fn activation_lost(&mut self, cx: &Context<'_>, i: u32) {
        let m = self.paths[i].map;
        if m != NONE {
            let map = &mut self.maps[m];
            map.activating = None;
            map.guard.took(cx.now);
            map.activate_after = Some(cx.now + Duration::from_secs(30));
        }
    }

    /// The path leaves its map: an activation under way ends with it.
    pub(super) fn activation_dropped(&mut self, cx: &Context<'_>, i: u32) {
        if self.probes.get(self.paths[i].probe).is_some_and(|p| matches!(p.stage, Stage::Activate(_))) {
            self.activation_lost(cx, i);
        }
    }

    fn activated(&mut self, cx: &Context<'_>, i: u32, ended: Ended, asked: bool) {
        let m = self.paths[i].map;
        if m == NONE {
            return;
        }
        self.maps[m].activating = None;
        if asked {
            self.maps[m].guard.took(cx.now);
        }
        let good = matches!(ended, Ended::Owned | Ended::Taken);
        if good {
            self.maps[m].taken = Some(self.path_id(i));
        }
        self.note(Some(i), Some(m), if good { What::Activated } else { What::ActivationFailed(ended) });
        self.map_touch(m);
        // Long enough for all paths to be asked again; after a failure, which the guard does not count unless something was asked, longer
        // each time.
        let map = &mut self.maps[m];
        map.activate_failures = if good { 0 } else { map.activate_failures.saturating_add(1) };
        map.activate_after = Some(cx.now + Duration::from_secs(5 << map.activate_failures.min(6)));
        // Who is active and who is not has changed for all of them.
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            self.paths[at].prio_at = None;
            self.check_now(cx, at);
            at = self.path_by_map.next(at);
        }
    }
}

fn passive(kind: PrioKind, prio: Prio) -> bool {
    let Ok(prio) = u32::try_from(prio.0) else { return false };
    match kind {
        // Standby and worse; the preferred bit adds 80.
        PrioKind::Alua | PrioKind::Sysfs => prio % 80 <= 1,
        // Owned is 2, and 4 on the default controller.
        PrioKind::Emc => !matches!(prio, 2 | 4),
        PrioKind::Rdac => prio & 2 == 0,
        PrioKind::HpSw => prio == 2,
        _ => false,
    }
}

impl Engine<'_> {
    /// The priority of path `i` was `before`: has somebody taken the LUN from where we had moved it?
    pub(super) fn ownership(&mut self, cx: &Context<'_>, i: u32, before: Prio) {
        let (p, id) = (&self.paths[i], self.path_id(i));
        let m = p.map;
        if !self.maps.get(m).is_some_and(|map| map.own && map.activating.is_none() && map.taken == Some(id)) {
            return;
        }
        let lost = !passive(p.prio_kind, before) && passive(p.prio_kind, p.prio);
        if lost {
            self.maps[m].taken = None;
        }
        if lost && self.maps[m].guard.lost(cx.now) {
            self.note(None, Some(m), What::Quarrel);
        }
    }
}
