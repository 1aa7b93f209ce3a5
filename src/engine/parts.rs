//! Partition maps: one linear map per partition of a multipath map, named by the delimiter rule, kept on resize, removed with the map.
//!
//! The table of partitions is read through a path that answers; through the map, whose reads may queue for ever, only where none does and its
//! handler has to activate one first. A disk whose table is not recognised loses no partition map.

use super::map::{Job, Known, PartSlot, PartStep, PartTable};
use super::mapsteps::Uuid;
use super::note::{Room, What};
use super::path::{Fds, Job as PathJob};
use super::storage::NONE;
use super::survey::{hash_devno, hash_part};
use super::{Action, Context, DmAnswer, Engine, LiveMap, PartitionSlot, Refused, Ticket, names};
use crate::fault::Errno;
use crate::model::{DevNo, MapId, MapName, PathState, Sectors, Tpgs};
use crate::wire::dm::{Content, Cookie, Request, Target};
use core::time::Duration;

/// Partition maps per multipath map at most, as kpartx.
const MOST: usize = 256;

impl Engine<'_> {
    fn part_uuid(&self, k: u32) -> Uuid {
        let part = &self.parts[k];
        let mut uuid = Uuid::new();
        // A WWID so long that the prefix does not fit has no partition maps: see `part_new`.
        let _ = uuid.push_str("part");
        push_number(&mut uuid, part.number);
        let _ = uuid.push_str("-");
        let _ = uuid.push_str(&self.map_uuid(part.map));
        uuid
    }

    fn part_find(&self, m: u32, number: u32) -> Option<u32> {
        self.part_keys.find(hash_part(m, number), |k| self.parts[k].map == m && self.parts[k].number == number)
    }

    fn part_new(&mut self, m: u32, number: u32) -> Option<u32> {
        // The longest: `part4294967295-`.
        if self.maps[m].wwid.len() + 15 + 6 > 128 || self.maps[m].parts.len as usize >= MOST {
            return None;
        }
        let Ok(k) = self.parts.take() else {
            self.note(None, Some(m), What::Full { what: Room::Partitions, refused: self.parts.refused });
            return None;
        };
        let head = self.parts[k].head;
        self.parts[k] = PartSlot::default();
        let part = &mut self.parts[k];
        (part.head, part.map, part.number, part.known) = (head, m, number, Known::Absent);
        self.part_keys.insert(hash_part(m, number), k);
        self.part_by_map.push_back(&mut self.maps[m].parts, k);
        Some(k)
    }

    fn part_forget(&mut self, k: u32) {
        let (m, number, devno) = (self.parts[k].map, self.parts[k].number, self.parts[k].devno);
        self.part_keys.remove(hash_part(m, number), k);
        self.part_devnos.remove(hash_devno(devno), k);
        self.part_by_map.remove(&mut self.maps[m].parts, k);
        self.parts.give(k);
    }

    fn part_devno(&mut self, k: u32, devno: DevNo) {
        let old = self.parts[k].devno;
        if old != devno {
            self.part_devnos.remove(hash_devno(old), k);
            self.parts[k].devno = devno;
            if devno != DevNo::default() {
                self.part_devnos.insert(hash_devno(devno), k);
            }
        }
    }

    /// A live partition map, in a survey or read by itself.
    pub(super) fn live_part(&mut self, _cx: &Context<'_>, live: &LiveMap<'_>, number: u32, wwid: &str) {
        let m = match self.map_by_wwid(wwid) {
            Some(m) => m,
            None => match self.map_new(wwid) {
                Some(m) => m,
                None => return,
            },
        };
        let found = self.part_find(m, number);
        let Some(k) = found.or_else(|| self.part_new(m, number)) else { return };
        self.part_absorb(k, live);
        if found.is_none() {
            // As it is, until the partition table says otherwise.
            let part = &mut self.parts[k];
            (part.start, part.length) = (part.have_start, part.have_length);
        }
        self.map_touch(m);
    }

    fn part_absorb(&mut self, k: u32, live: &LiveMap<'_>) {
        self.part_devno(k, live.devno);
        let part = &mut self.parts[k];
        part.known = Known::Live;
        part.name.clear();
        // The kernel's own limit.
        let _ = part.name.push_str(live.name);
        part.inactive = live.inactive_table;
        part.suspended = live.suspended;
        part.open_count = live.open_count;
        part.have_length = live.size;
        if let Some((parent, start)) = live.linear {
            part.parent = parent;
            part.have_start = start;
        }
    }

    /// The name this partition's map should have.
    fn part_name(&self, cx: &Context<'_>, k: u32) -> Option<MapName> {
        let part = &self.parts[k];
        names::partition(&self.maps[part.map].name, &cx.settings.globals().partition_delimiter, part.number).ok()
    }

    /// Is the partition table still to be read, and could it be?
    pub(super) fn part_pending(&self, m: u32) -> bool {
        let map = &self.maps[m];
        let able = map.have.known == Known::Live
            && map.have.active
            && !map.have.suspended
            && map.part_attempts < super::mapsteps::GIVE_UP
            && map.reading.is_none();
        able && self.part_path(m, false).is_some()
    }

    /// A path to read through; `now`: one that does nothing else. The best one: a passive one may be up and yet answer no read.
    fn part_path(&self, m: u32, now: bool) -> Option<u32> {
        let mut best = None;
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            let p = &self.paths[at];
            let free = !now || (p.job == PathJob::None && p.probe == NONE);
            let up = p.state == PathState::Up;
            // Without a handler, or where the array alone decides, nothing makes a passive one answer: a read would wait in the map.
            let passive = p.state == PathState::Ghost && p.tpgs != Tpgs::Implicit && !self.maps[m].have.handler.is_empty();
            if p.usable() && p.live_in == m && p.fds == Fds::Open && free && (up || passive) {
                let rank = (up, p.prio);
                if best.is_none_or(|(_, known)| known < rank) {
                    best = Some((at, rank));
                }
            }
            at = self.path_by_map.next(at);
        }
        best.map(|(at, _)| at)
    }

    /// What the partitions of a live map need next.
    pub(super) fn part_next(&self, cx: &Context<'_>, m: u32) -> Option<Job> {
        let map = &self.maps[m];
        if map.have.known != Known::Live || !map.have.active || map.part_table == PartTable::Never {
            return None;
        }
        if map.part_table == PartTable::Unread {
            return (self.part_pending(m) && self.part_path(m, true).is_some()).then_some(Job::Partitions);
        }
        let mut at = map.parts.head;
        while at != NONE {
            if let Some(step) = self.part_step(cx, at) {
                return Some(Job::Part { part: at, step });
            }
            at = self.part_by_map.next(at);
        }
        None
    }

    fn part_step(&self, cx: &Context<'_>, k: u32) -> Option<PartStep> {
        let part = &self.parts[k];
        let map = &self.maps[part.map];
        let wanted = part.length.0 > 0 && part.failures < super::mapsteps::GIVE_UP;
        match part.known {
            Known::Unknown => Some(PartStep::Read),
            Known::Absent if wanted => Some(PartStep::Create),
            Known::Absent => None,
            Known::Live if part.length.0 == 0 => (part.failures < super::mapsteps::GIVE_UP).then_some(PartStep::Remove),
            Known::Live if part.loaded || part.suspended => Some(PartStep::Resume),
            Known::Live if !wanted => None,
            Known::Live => {
                let differs = part.have_length != part.length || part.have_start != part.start || part.parent != map.have.devno;
                if differs {
                    return Some(PartStep::Load);
                }
                // A name of another making stays as long as it is one of this map's.
                let foreign = !part.name.starts_with(map.name.as_str());
                (foreign && self.part_name(cx, k).is_some_and(|n| n != part.name)).then_some(PartStep::Rename)
            }
        }
    }

    /// Users of the map besides its partitions, or theirs; as far as is known: one that has to be read again counts as used.
    pub(super) fn users(&self, m: u32) -> u32 {
        let open = self.maps[m].have.open_count;
        let (ours, used) = self.parts_open(m);
        if used { open.max(1) } else { open.saturating_sub(ours) }
    }

    /// How many partitions there are, and whether one is open.
    pub(super) fn parts_open(&self, m: u32) -> (u32, bool) {
        let (mut ours, mut used) = (0, false);
        let mut at = self.maps[m].parts.head;
        while at != NONE {
            let part = &self.parts[at];
            ours += u32::from(part.known == Known::Live);
            used |= part.known == Known::Unknown || part.known == Known::Live && part.open_count > 0;
            at = self.part_by_map.next(at);
        }
        (ours, used)
    }

    /// The partitions, or those in use, are to be read again.
    pub(super) fn parts_doubt(&mut self, m: u32, used: bool) {
        let mut at = self.maps[m].parts.head;
        while at != NONE {
            let part = &mut self.parts[at];
            if part.known == Known::Live && (!used || part.open_count > 0) {
                part.known = Known::Unknown;
                self.map_touch(m);
            }
            at = self.part_by_map.next(at);
        }
    }

    /// The next partition that has to be read.
    pub(super) fn part_unread(&self, m: u32) -> Option<Job> {
        let mut at = self.maps[m].parts.head;
        while at != NONE {
            if self.parts[at].known == Known::Unknown {
                return Some(Job::Part { part: at, step: PartStep::Read });
            }
            at = self.part_by_map.next(at);
        }
        None
    }

    /// The partition map to be removed before the map itself can be.
    pub(super) fn part_remove_next(&self, m: u32) -> Option<Job> {
        let mut at = self.maps[m].parts.head;
        while at != NONE {
            match self.parts[at].known {
                Known::Live => return Some(Job::Part { part: at, step: PartStep::Remove }),
                Known::Unknown => return Some(Job::Part { part: at, step: PartStep::Read }),
                Known::Absent => {}
            }
            at = self.part_by_map.next(at);
        }
        None
    }

    pub(super) fn part_send(
        &mut self,
        cx: &Context<'_>,
        m: u32,
        k: u32,
        step: PartStep,
        emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let uuid = self.part_uuid(k);
        let (map, ticket) = (self.map_id(m), self.ticket());
        let cookie = if self.options.udev { Cookie(0x0060) } else { Cookie(0) };
        let part = &self.parts[k];
        let name = self.part_name(cx, k).unwrap_or_default();
        let request = match step {
            PartStep::Read => Request::TableLine,
            PartStep::Create => Request::Create { name: &name, uuid: &uuid },
            PartStep::Load => Request::Load {
                size: part.length,
                read_only: self.maps[m].have.read_only,
                content: Content::Linear { device: self.maps[m].have.devno, start: part.start },
            },
            PartStep::Resume => Request::Resume { cookie },
            PartStep::Rename => Request::Rename { to: &name, cookie },
            PartStep::Remove => Request::Remove { deferred: false, cookie },
        };
        emit(Action::Dm { map, ticket, device: Target::Uuid(&uuid), request })?;
        let slot = &mut self.maps[m];
        (slot.job, slot.ticket, slot.deadline) = (Job::Part { part: k, step }, ticket, cx.now + Duration::from_secs(60));
        Ok(())
    }

    pub(super) fn part_answer(&mut self, cx: &Context<'_>, m: u32, k: u32, step: PartStep, result: Result<DmAnswer<'_>, Errno>) {
        if self.parts.get(k).is_none() {
            return;
        }
        match (step, result) {
            (PartStep::Read, Ok(DmAnswer::Live(live))) => self.part_absorb(k, live),
            (_, Err(Errno::NXIO)) if step != PartStep::Load => {
                self.part_devno(k, DevNo::default());
                self.parts[k].known = Known::Absent;
            }
            (PartStep::Create, Ok(answer)) => {
                if let DmAnswer::Created(devno) = answer {
                    self.part_devno(k, devno);
                }
                let name = self.part_name(cx, k).unwrap_or_default();
                let part = &mut self.parts[k];
                part.known = Known::Live;
                part.name = name;
                part.have_length = Sectors(0);
            }
            (PartStep::Load, Ok(_)) => {
                let parent = self.maps[m].have.devno;
                let part = &mut self.parts[k];
                part.loaded = true;
                // Live with the resume that follows at once.
                (part.have_start, part.have_length, part.parent) = (part.start, part.length, parent);
            }
            (PartStep::Resume, Ok(_)) => {
                let part = &mut self.parts[k];
                let made = core::mem::take(&mut part.loaded);
                part.suspended = false;
                part.failures = 0;
                let number = part.number;
                if made {
                    self.note(None, Some(m), What::PartitionMade { number });
                }
            }
            (PartStep::Rename, Ok(_)) => self.parts[k].known = Known::Unknown,
            (PartStep::Remove, Ok(_)) => {
                self.part_devno(k, DevNo::default());
                self.parts[k].known = Known::Absent;
                // It had its map open.
                self.maps[m].have.open_count = self.maps[m].have.open_count.saturating_sub(1);
                let number = self.parts[k].number;
                self.note(None, Some(m), What::PartitionRemoved { number });
            }
            (PartStep::Remove, Err(Errno::BUSY)) if self.maps[m].remove => self.remove_busy(cx, m),
            // Opened meanwhile.
            (PartStep::Remove, Err(Errno::BUSY)) if self.maps[m].parts_asked => {
                self.parts[k].known = Known::Unknown;
                self.map_backoff(cx, m, None, Job::Part { part: k, step }.step());
            }
            (_, Err(errno)) => {
                let part = &mut self.parts[k];
                part.failures = part.failures.saturating_add(1);
                part.known = Known::Unknown;
                // Made by another in the same moment: nothing to tell.
                let raced = step == PartStep::Create && errno == Errno::BUSY && part.failures == 1;
                self.map_backoff(cx, m, (!raced).then_some(errno), Job::Part { part: k, step }.step());
            }
            (_, Ok(_)) => self.parts[k].known = Known::Unknown,
        }
    }

    pub(super) fn part_read(
        &mut self,
        cx: &Context<'_>,
        m: u32,
        emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let Some(i) = self.part_path(m, true) else { return Ok(()) };
        let (map, path, ticket) = (self.map_id(m), self.path_id(i), self.ticket());
        // No path answers a read where all are passive: I/O through the map is what makes the kernel activate a group.
        let have = &self.maps[m].have;
        let passive = self.paths[i].state == PathState::Ghost || self.maps[m].part_attempts > 0;
        let through = (passive && !have.handler.is_empty()).then_some(have.devno);
        emit(Action::Partitions { map, ticket, path, through })?;
        let slot = &mut self.maps[m];
        // Counted now: one that hangs is not answered.
        slot.part_attempts = slot.part_attempts.saturating_add(1);
        slot.reading = Some(ticket);
        if through.is_some() {
            // Should the map lose its paths it ends only when one is back: each of them is to be asked meanwhile.
            return Ok(());
        }
        slot.reader = Some(path);
        let p = &mut self.paths[i];
        (p.job, p.ticket, p.deadline) = (PathJob::Partitions, ticket, cx.now + Duration::from_secs(30));
        self.port_count(i);
        self.path_arm(i);
        Ok(())
    }

    /// The path through which it is read does not answer: read through another, or the map.
    pub(super) fn part_overdue(&mut self, ticket: Ticket) {
        let Some(m) = self.maps.iter().find(|(_, map)| map.reading == Some(ticket)).map(|(m, _)| m) else { return };
        self.maps[m].reading = None;
        self.note(None, Some(m), What::StepOverdue(super::Step::Read));
        self.map_touch(m);
    }

    /// `Event::Partitions`.
    pub(super) fn partitions(&mut self, cx: &Context<'_>, id: MapId, ticket: Ticket, result: Result<&[PartitionSlot], Errno>) {
        let m = id.index;
        self.release_reader(m, ticket);
        if !self.maps.get(m).is_some_and(|map| map.head.generation == id.generation && map.reading == Some(ticket)) {
            return;
        }
        self.maps[m].reading = None;
        match result {
            Err(errno) => self.map_backoff(cx, m, Some(errno), super::Step::Read),
            // Gone meanwhile.
            Ok(_) if !self.maps[m].have.active => {}
            Ok(found) => {
                self.maps[m].part_table = PartTable::Read;
                self.maps[m].part_attempts = 0;
                if !found.is_empty() {
                    self.parts_want(m, found);
                }
            }
        }
        self.map_touch(m);
        // Its room is free: the next that was refused one need not wait out its pause.
        let waits = |x: &super::MapSlot| {
            x.part_table == PartTable::Unread
                && x.reading.is_none()
                && x.have.active
                && x.attempts == 0
                && x.retry_at.is_some_and(|t| t > cx.now)
        };
        let next = self.maps.iter().find(|(_, x)| waits(x)).map(|(i, _)| i);
        if let Some(next) = next {
            self.maps[next].retry_at = None;
            self.map_touch(next);
        }
    }

    /// The path that read the partition table is free again.
    fn release_reader(&mut self, m: u32, ticket: Ticket) {
        let Some(reader) = self.maps.get(m).and_then(|map| map.reader) else { return };
        let i = reader.index;
        let Some(p) = self.paths.get(i).filter(|p| p.head.generation == reader.generation) else { return };
        if p.job == PathJob::Partitions && p.ticket == ticket || p.overdue == Some(ticket) {
            if p.job == PathJob::Partitions {
                self.path_job_done(i);
            }
            self.path_lost(i, None);
            self.path_touch(i);
            self.path_arm(i);
        }
    }

    fn parts_want(&mut self, m: u32, found: &[PartitionSlot]) {
        let mut at = self.maps[m].parts.head;
        while at != NONE {
            let next = self.part_by_map.next(at);
            let number = self.parts[at].number;
            if !found.iter().any(|f| f.number == number) {
                self.parts[at].length = Sectors(0);
                self.parts[at].failures = 0;
                if self.parts[at].known == Known::Absent {
                    self.part_forget(at);
                }
            }
            at = next;
        }
        let size = self.maps[m].have.size;
        let mut count = 0u16;
        for f in found {
            // One that reaches beyond the disk would make a map that fails reads: left out.
            let end = f.start.0.checked_add(f.length.0);
            if f.length.0 == 0 || end.is_none_or(|e| e > size.0) {
                continue;
            }
            let Some(k) = self.part_find(m, f.number).or_else(|| self.part_new(m, f.number)) else { continue };
            let part = &mut self.parts[k];
            (part.start, part.length) = (f.start, f.length);
            part.failures = 0;
            count = count.saturating_add(1);
        }
        self.note(None, Some(m), What::PartitionsFound { count });
    }

    /// Their map is gone, and so are they: nothing can live on a device that is not there.
    pub(super) fn parts_orphaned(&mut self, m: u32) {
        let mut at = self.maps[m].parts.head;
        while at != NONE {
            let next = self.part_by_map.next(at);
            if self.parts[at].node.is_empty() {
                self.part_forget(at);
            } else {
                self.part_devno(at, DevNo::default());
                self.parts[at].known = Known::Absent;
                self.parts[at].length = Sectors(0);
            }
            at = next;
        }
        if self.maps[m].part_table == PartTable::Read {
            self.maps[m].part_table = PartTable::Unread;
        }
    }

    /// A node to be made or removed for a partition map; true when one was.
    pub(super) fn part_nodes(&mut self, m: u32, emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>) -> Result<bool, Refused> {
        let mut at = self.maps[m].parts.head;
        while at != NONE {
            let next = self.part_by_map.next(at);
            let part = &self.parts[at];
            let live = part.known == Known::Live && !part.loaded && part.have_length.0 > 0;
            let want = if live { part.name.clone() } else { MapName::new() };
            if part.node != want && part.known != Known::Unknown {
                if !part.node.is_empty() {
                    emit(Action::Node { name: &part.node, devno: None })?;
                    self.parts[at].node.clear();
                }
                if live {
                    emit(Action::Node { name: &want, devno: Some(self.parts[at].devno) })?;
                    self.parts[at].node = want;
                }
                return Ok(true);
            }
            if part.known == Known::Absent && part.length.0 == 0 && part.node.is_empty() {
                self.part_forget(at);
            }
            at = next;
        }
        Ok(false)
    }
}

fn push_number(text: &mut Uuid, number: u32) {
    let mut divisor = 1_000_000_000;
    while divisor > 0 {
        if number >= divisor || divisor == 1 {
            // Ten digits at most; room was checked when the slot was made.
            let _ = text.push(char::from(b'0' + (number / divisor % 10) as u8));
        }
        divisor /= 10;
    }
}
