//! Answers of dm requests: the only place where `have` moves.
//!
//! A failure leaves the gap open with a time to try again; where it leaves the truth in doubt, the truth is read first. A resume that
//! follows a load is never given up.

use super::map::{Job, Known, PartTable};
use super::note::{Difference, Step, What};
use super::storage::NONE;
use super::{Context, DmAnswer, Engine, LiveMap, Ticket};
use crate::fault::Errno;
use crate::model::{DmPathState, MapId, PathState};
use crate::wire::dm::Message;
use crate::wire::table::{Status, Table};

/// A path that the kernel fails again and again although its checks are good is reinstated so often.
pub(super) const PACE: core::time::Duration = core::time::Duration::from_secs(1);

impl Engine<'_> {
    /// `Event::Dm`.
    #[inline(never)]
    pub(super) fn dm_answer(&mut self, cx: &Context<'_>, id: MapId, ticket: Ticket, result: Result<DmAnswer<'_>, Errno>) {
        let m = id.index;
        let known =
            self.maps.get(m).is_some_and(|map| map.head.generation == id.generation && map.ticket == ticket && map.job != Job::None);
        if !known {
            return;
        }
        let job = self.maps[m].job;
        self.maps[m].job = Job::None;
        self.maps[m].touched = self.survey.serial;
        if let Job::Part { part, step } = job {
            self.part_answer(cx, m, part, step, result);
            self.map_touch(m);
            return;
        }
        match result {
            Ok(answer) => self.dm_done(cx, m, job, answer),
            Err(errno) => self.dm_failed(cx, m, job, errno),
        }
        self.map_touch(m);
    }

    fn dm_done(&mut self, cx: &Context<'_>, m: u32, job: Job, answer: DmAnswer<'_>) {
        let map = &mut self.maps[m];
        if job.harmless() {
            map.soft_attempts = 0;
            map.soft_retry_at = None;
        }
        match job {
            Job::None | Job::Partitions | Job::Part { .. } => {}
            Job::Status | Job::Table => match answer {
                DmAnswer::Live(live) => self.absorb(cx, m, live),
                // Not the answer to what was asked: ask again.
                _ => self.map_backoff(cx, m, None, Step::Read),
            },
            Job::Create => {
                map.have.clear();
                map.have.known = Known::Live;
                if let DmAnswer::Created(devno) = answer {
                    self.map_devno_index(m, devno);
                }
                let map = &mut self.maps[m];
                map.created = true;
                map.loaded = false;
                map.names_taken = 0;
                self.judge_map(cx, m);
            }
            Job::Load => {
                map.have.inactive = true;
                map.loaded = true;
                map.writable = false;
                map.map_loads = map.map_loads.saturating_add(1);
            }
            Job::Clear => map.have.inactive = false,
            Job::Resume => self.resumed(cx, m),
            Job::Suspend => map.have.suspended = true,
            Job::Rename => {
                // The name is what the kernel says it is.
                map.have.status_known = false;
                map.attempts = 0;
            }
            Job::Remove => {
                if map.settings.deferred_remove {
                    // Gone, or to go with its last user: the kernel says which.
                    map.have.known = Known::Unknown;
                    map.have.deferred = true;
                    map.keep_after_all = false;
                    map.remove = false;
                } else {
                    self.map_gone(cx, m);
                }
            }
            Job::Message(message) => self.told(cx, m, message),
        }
    }

    fn resumed(&mut self, cx: &Context<'_>, m: u32) {
        let map = &mut self.maps[m];
        let swapped = map.have.inactive;
        let was_suspended = map.have.suspended;
        let changing = core::mem::take(&mut map.changing);
        let created = core::mem::take(&mut map.created);
        map.have.suspended = false;
        // To the old table: what was refused keeps its pause.
        if core::mem::take(&mut map.go_back) && !swapped {
            return self.refresh_usable(cx, m);
        }
        map.attempts = 0;
        map.retry_at = None;
        map.last_error = None;
        if swapped {
            map.have.inactive = false;
            map.have.active = true;
            map.have.table_known = false;
            map.have.table_strange = false;
            map.have.status_known = false;
            map.loaded = false;
            map.regroup = false;
            map.force_reload = false;
            map.resize_allowed &= !changing.size;
            map.switch_to = None;
            map.replan = true;
            map.differs = Difference::default();
            if changing.size && map.part_table == PartTable::Read {
                map.part_table = PartTable::Unread;
            }
        }
        if swapped {
            map.alive_groups = 0;
        }
        let what = match (swapped, created) {
            (true, true) => What::MapCreated,
            (true, false) if changing.size => What::MapResized,
            (true, false) => What::MapReloaded(changing),
            (false, _) => What::MapResumed,
        };
        if swapped || was_suspended {
            self.note(None, Some(m), what);
        }
        self.refresh_usable(cx, m);
    }

    /// A message took effect.
    fn told(&mut self, cx: &Context<'_>, m: u32, message: Message) {
        let (devno, to) = match message {
            Message::FailPath(devno) => (devno, DmPathState::Failed),
            Message::ReinstatePath(devno) => (devno, DmPathState::Active),
            Message::QueueIfNoPath | Message::FailIfNoPath => {
                let on = message == Message::QueueIfNoPath;
                self.maps[m].have.features.queue_if_no_path = on;
                self.note(None, Some(m), if on { What::QueueingOn } else { What::QueueingOff });
                self.refresh_usable(cx, m);
                return;
            }
            Message::SwitchGroup(group) => {
                let map = &mut self.maps[m];
                map.switch_to = None;
                map.have.status_known = false;
                map.switch_groups = map.switch_groups.saturating_add(1);
                self.note(None, Some(m), What::GroupSwitched { group });
                return;
            }
            Message::DisableGroup(_) | Message::EnableGroup(_) | Message::CancelDeferredRemove => {
                let map = &mut self.maps[m];
                map.keep_after_all &= message != Message::CancelDeferredRemove;
                map.have.status_known = false;
                return;
            }
        };
        let have = &mut self.maps[m].have;
        let mut slot = NONE;
        for x in &mut have.members {
            if x.devno == devno {
                x.dm = to;
                slot = x.path;
            }
        }
        if to == DmPathState::Active {
            // The kernel may have switched groups for it; failback wants to know.
            have.status_known = false;
        }
        if slot != NONE {
            if self.paths[slot].live_in == m {
                self.paths[slot].dm = to;
                // One that is failed for being another disk is asked who it is from now on.
                self.path_touch(slot);
            }
            self.note(Some(slot), Some(m), What::DmState { to, by_us: true });
        }
        self.refresh_usable(cx, m);
    }

    fn dm_failed(&mut self, cx: &Context<'_>, m: u32, job: Job, errno: Errno) {
        let step = job.step();
        if job == Job::Resume {
            let map = &mut self.maps[m];
            map.go_back = map.have.inactive && map.have.active;
            if map.go_back {
                // Most likely a path is smaller than was known: the next table is made of what they are now.
                self.members_look(cx, m);
            }
        }
        let map = &mut self.maps[m];
        match (job, errno) {
            // No such device: that is an answer.
            (Job::Status | Job::Table | Job::Message(_) | Job::Suspend | Job::Clear | Job::Remove | Job::Rename, Errno::NXIO)
            | (Job::Status | Job::Table, Errno::NODEV) => {
                let was = map.have.known == Known::Live;
                if was && job != Job::Remove {
                    self.note(None, Some(m), What::MapVanished);
                }
                self.map_gone(cx, m);
                return;
            }
            // Also what the kernel says when a path does not open: read which it was.
            (Job::Load | Job::Resume, Errno::NXIO) => {
                map.have.known = Known::Unknown;
                self.members_look(cx, m);
            }
            // The map is suspended, or its table is not the one we think.
            (Job::Message(_), _) => {
                map.have.status_known = false;
                if errno == Errno::INVAL {
                    map.have.table_known = false;
                    if matches!(job, Job::Message(Message::SwitchGroup(_))) {
                        map.switch_to = None;
                    }
                }
            }
            // All its paths were read anew and can be written to. sd.c says so while it still asks the disk (sd_read_write_protect_flag clears
            // the mark first, sd_open goes by the last answer), and no uevent comes after it: again later. The live table stays.
            (Job::Load, Errno::ROFS) if map.doubted && map.have.active && map.have.read_only => self.members_look(cx, m),
            (Job::Load, Errno::ROFS) if !map.force_read_only => {
                map.force_read_only = true;
                map.replan = true;
                // The kernel knows of a path what sysfs told us otherwise a moment ago: each counts as read-only until it is read again.
                // Once, as long as no table for writing is taken: a load must not be tried for ever.
                let (doubted, mut at) = (core::mem::replace(&mut map.doubted, true), map.paths.head);
                self.note(None, Some(m), What::ReadOnly);
                if !doubted {
                    while at != NONE {
                        self.paths[at].read_only = true;
                        at = self.path_by_map.next(at);
                    }
                    self.members_look(cx, m);
                }
                return;
            }
            (Job::Load, Errno::INVAL) => {
                // Words this kernel does not take: the plainest table next. But first the same once more: while a handler's module is
                // being loaded for another map, the kernel says so as well.
                map.plain = map.plain.saturating_add(1);
                map.replan = true;
                self.members_look(cx, m);
            }
            (Job::Load, Errno::BUSY) => self.members_look(cx, m),
            (Job::Create, Errno::BUSY) => {
                // The uuid is there already, or another device has the name.
                map.have.known = Known::Unknown;
                map.names_taken = map.names_taken.saturating_add(1);
                if map.names_taken == 1 {
                    // Where boot and a daemon start together one of them is second: nothing to tell.
                    self.map_backoff(cx, m, None, step);
                    return;
                }
            }
            (Job::Rename, Errno::BUSY) => {
                map.rename_to.clear();
                self.note(None, Some(m), What::AliasTaken);
                return;
            }
            // On request: it is told. One that went with its last path: its users are counted anew, and later again.
            // While its table is read through it we are a user ourselves.
            (Job::Remove, Errno::BUSY) if map.remove && map.reading.is_none() => {
                self.remove_busy(cx, m);
                return;
            }
            (Job::Resume | Job::Suspend | Job::Remove | Job::Rename | Job::Create | Job::Clear, _) => map.have.known = Known::Unknown,
            _ => {}
        }
        self.map_backoff(cx, m, Some(errno), step);
    }

    /// The kernel's own words on map `m`.
    #[inline(never)]
    pub(super) fn absorb(&mut self, cx: &Context<'_>, m: u32, live: &LiveMap<'_>) {
        let map = &mut self.maps[m];
        let before = map.have.known;
        if map.name.as_str() != live.name {
            if before == Known::Live && map.rename_to.as_str() != live.name && !map.name.is_empty() {
                // What was decided elsewhere stays: an existing map keeps its name.
                map.rename_to.clear();
                self.note(None, Some(m), What::MapRenamedByOther);
            } else if before == Known::Live {
                self.note(None, Some(m), What::MapRenamed);
            }
            self.map_rename_index(m, live.name);
        }
        self.map_devno_index(m, live.devno);
        let map = &mut self.maps[m];
        let had_table = map.have.active;
        let had_inactive = map.have.inactive;
        map.have.absorb_header(live);
        if !live.inactive_table {
            map.loaded = false;
        } else if !had_inactive {
            // Not by our hand.
            map.loaded = false;
            map.replan = true;
        }
        if let Some(table) = live.table {
            self.absorb_table(cx, m, table, live);
        }
        if let Some(status) = live.status {
            self.absorb_status(cx, m, status);
        }
        let map = &mut self.maps[m];
        if live.size.0 == 0 {
            map.have.active = false;
            map.have.table_known = false;
            map.have.size = live.size;
            self.unbind_members(m);
        } else if !had_table && live.table.is_none() {
            map.have.active = true;
            map.have.table_known = false;
            map.have.size = live.size;
        } else if live.table.is_none() && live.size != map.have.size {
            // Another table than the one that was read.
            map.have.table_known = false;
        }
        match before {
            Known::Absent => self.map_came(cx, m),
            // Made by a request whose answer was lost: who was refused meanwhile is spoken for now.
            Known::Unknown => self.judge_map(cx, m),
            Known::Live => {}
        }
        if before != Known::Live || !had_table {
            // Whatever waited for a live map: their partitions are to go.
            for &i in &self.member_slots(m) {
                self.path_touch(i);
            }
        }
        self.refresh_usable(cx, m);
    }

    fn absorb_table(&mut self, cx: &Context<'_>, m: u32, table: &Table, live: &LiveMap<'_>) {
        let map = &mut self.maps[m];
        let old = core::mem::take(&mut map.have.members);
        map.have.active = true;
        map.have.table_known = true;
        map.have.table_strange = false;
        map.have.size = live.size;
        map.have.features = table.features.clone();
        map.have.handler = table.handler.clone();
        map.have.first_group = table.first_group;
        map.have.selector = table.groups.first().map(|g| g.selector.clone()).unwrap_or_default();
        map.have.mixed = table.groups.iter().any(|g| g.selector != map.have.selector);
        map.have.groups.clear();
        for _ in &table.groups {
            let _ = map.have.groups.push(crate::model::GroupState::Undefined);
        }
        map.replan = true;
        for path in &table.paths {
            let before = old.iter().find(|x| x.devno == path.devno);
            // A number that stayed in the table is still the device it was, whoever has the number in sysfs now.
            let slot = before.map(|x| x.path).filter(|&p| p != NONE).or_else(|| self.path_by_devno(path.devno)).unwrap_or(NONE);
            let member = super::map::Member {
                devno: path.devno,
                path: slot,
                fail_count: before.map_or(0, |x| x.fail_count),
                group: path.group,
                dm: before.map_or(DmPathState::Undefined, |x| x.dm),
            };
            let _ = self.maps[m].have.members.push(member);
            // The table of another map may hold it as well, for a while, if it became another LUN: it lives in its own.
            if slot != NONE
                && (self.paths[slot].live_in == NONE || self.paths[slot].live_in != self.paths[slot].map)
                && self.paths[slot].live_in != m
            {
                self.paths[slot].live_in = m;
                self.path_touch(slot);
            }
        }
        for x in &old {
            if x.path != NONE && !self.maps[m].have.members.iter().any(|y| y.path == x.path) {
                self.unbind(m, x.path);
            }
        }
        if live.status.is_none() {
            self.maps[m].have.status_known = false;
        }
        for &i in &self.member_slots(m) {
            // Who is not one of ours is asked again: being in a live table of this WWID speaks for it.
            let p = &self.paths[i];
            if p.map != m && !p.gone {
                let facts = self.facts_of(i);
                self.judge(cx, i, &facts);
            }
        }
    }

    /// A path is no longer in the live table of `m`.
    fn unbind(&mut self, m: u32, i: u32) {
        self.unbound(m, i);
        let target = self.paths[i].map;
        self.map_touch(target);
        if target != NONE {
            self.maps[target].replan = true;
        }
    }

    /// `m` has let go of the path. If it lived there, it lives in its own map, where that one's table holds it too, or in none.
    fn unbound(&mut self, m: u32, i: u32) {
        // Held twice, it was not free for its own map, nor its slot for another.
        self.paths[i].look |= self.paths[i].held != super::path::Held::Nobody && !self.paths[i].gone;
        self.path_touch(i);
        if self.paths[i].live_in != m {
            return;
        }
        let home = self.paths[i].map;
        let own = self.maps.get(home).filter(|_| home != m).and_then(|map| map.have.members.iter().find(|x| x.path == i));
        let dm = own.map(|x| x.dm);
        let p = &mut self.paths[i];
        p.announced = true;
        p.live_in = if dm.is_some() { home } else { NONE };
        p.dm = dm.unwrap_or_default();
        p.exchanged = false;
    }

    pub(super) fn unbind_members(&mut self, m: u32) {
        let slots = self.member_slots(m);
        let map = &mut self.maps[m];
        map.have.members.clear();
        map.have.groups.clear();
        map.replan = true;
        for &i in &slots {
            self.unbound(m, i);
        }
    }

    fn absorb_status(&mut self, cx: &Context<'_>, m: u32, status: &Status) {
        let map = &mut self.maps[m];
        let before = map.have.arrived();
        map.have.status_known = true;
        map.have.status_at = cx.now;
        map.have.queue_io = status.queue_io;
        map.have.current_group = status.current_group;
        // A fresh map holds I/O back as well, until the first comes.
        let active = status.paths.iter().any(|p| p.state == DmPathState::Active);
        let init = status.queue_io && status.pg_init_count > 0 && active && !map.have.handler.is_empty() && map.have.open_count > 0;
        map.init_since = if init { map.init_since.or(Some(cx.now)) } else { None };
        if map.have.groups.len() == status.groups.len() {
            map.have.groups.clone_from(&status.groups);
        } else {
            map.have.table_known = false;
        }
        if map.have.members.len() != status.paths.len() {
            map.have.table_known = false;
        }
        if !map.have.handler.is_empty() && map.have.arrived() != before && map.have.arrived() != 0 {
            // The LUN may have moved to where that group leads: what the paths were worth before says nothing any more.
            self.ask_prios(cx, m);
        }
        for s in &status.paths {
            let map = &mut self.maps[m];
            let Some(x) = map.have.members.iter_mut().find(|x| x.devno == s.devno && x.group == s.group) else {
                // Another table than the one that was read.
                map.have.table_known = false;
                continue;
            };
            let (before, slot) = (x.dm, x.path);
            x.dm = s.state;
            x.fail_count = s.fail_count;
            if slot == NONE || before == s.state || self.paths[slot].live_in != m {
                continue;
            }
            if s.state == DmPathState::Failed && before == DmPathState::Active {
                map.path_faults = map.path_faults.saturating_add(1);
            }
            self.paths[slot].dm = s.state;
            if self.paths[slot].map == NONE {
                self.path_touch(slot);
            }
            if before != DmPathState::Undefined {
                self.note(Some(slot), Some(m), What::DmState { to: s.state, by_us: false });
            }
            // The kernel has tried it; what the checker said before that says nothing any more.
            let p = &mut self.paths[slot];
            if s.state == DmPathState::Failed && matches!(p.state, PathState::Up | PathState::Ghost) {
                p.stale = before == DmPathState::Active || p.judged;
                p.dips = if cx.now.since(p.dipped_at) < PACE.saturating_mul(5) { p.dips.saturating_add(1) } else { 0 };
                (p.dipped, p.dipped_at, p.prio_at) = (true, cx.now, None);
                let map = &mut self.maps[m];
                map.prio_changed = map.prio_changed.or(Some(cx.now));
                self.check_now(cx, slot);
            }
        }
        if self.maps[m].parts_asked {
            // Nothing tells when its users close them.
            self.parts_doubt(m, true);
        }
        let map = &mut self.maps[m];
        map.doubted &= map.have.read_only;
        let next = self.status_due(cx, m);
        self.maps[m].next_status = next;
    }

    /// All paths of the map are asked anew what they are worth; failback waits for it.
    pub(super) fn ask_prios(&mut self, cx: &Context<'_>, m: u32) {
        let map = &mut self.maps[m];
        map.prio_changed = map.prio_changed.or(Some(cx.now));
        let mut at = map.paths.head;
        while at != NONE {
            let next = self.path_by_map.next(at);
            let p = &mut self.paths[at];
            if p.stands() {
                p.prio_at = None;
                self.check_now(cx, at);
            }
            at = next;
        }
    }

    /// The map's device is no more.
    pub(super) fn map_gone(&mut self, cx: &Context<'_>, m: u32) {
        let map = &mut self.maps[m];
        let removed = map.remove || core::mem::take(&mut map.flush) || (map.have.deferred && !map.keep_after_all);
        if removed {
            // Its disks are plain disks again: the kernel reads their tables, also where an earlier process took the partitions away.
            for &i in &self.member_slots(m) {
                self.paths[i].nodes = super::path::Nodes::Gone;
            }
        }
        self.unbind_members(m);
        let node = self.maps[m].have.devno;
        self.map_devno_drop(m, node);
        let map = &mut self.maps[m];
        map.have.clear();
        map.loaded = false;
        map.created = false;
        map.regroup = true;
        map.replan = true;
        map.plannable = false;
        map.differs = Difference::default();
        map.switch_to = None;
        map.queue = Default::default();
        map.queue.hurry(self.hurried, cx.now);
        map.failback.reset();
        if removed {
            map.remove = false;
            let dismiss = core::mem::take(&mut map.dismiss);
            self.note(None, Some(m), What::MapRemoved);
            if dismiss {
                self.map_dismiss(cx, m);
            }
        } else {
            map.first_wait = Some(cx.now + super::FIRST_WAIT);
        }
        self.parts_orphaned(m);
        self.refresh_usable(cx, m);
        self.map_touch(m);
    }
}
