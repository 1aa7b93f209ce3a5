//! Maps become known and are forgotten: slots, indexes, settings, names, and the counts that hang on them.

use super::map::{Known, MapSlot, PartTable};
use super::names::{self, NameOrigin};
use super::note::{Note, Room, What};
use super::storage::{NONE, hash, hash_pair};
use super::{Context, Engine, FIRST_WAIT};
use crate::conf::settings::FindMultipaths;
use crate::model::{DevNo, Instant, MapId, MapName, PathFacts, PathId};
use core::time::Duration;

impl Engine<'_> {
    pub(super) fn map_id(&self, m: u32) -> MapId {
        MapId { index: m, generation: self.maps[m].head.generation }
    }

    pub(super) fn path_id(&self, i: u32) -> PathId {
        PathId { index: i, generation: self.paths[i].head.generation }
    }

    /// The map a path is wanted in, or else lives in.
    pub(super) fn map_id_of(&self, i: u32) -> Option<u32> {
        let p = &self.paths[i];
        [p.map, p.live_in].into_iter().find(|&m| m != NONE)
    }

    pub(super) fn map_by_wwid(&self, wwid: &str) -> Option<u32> {
        self.map_wwids.find(hash(wwid.as_bytes()), |m| self.maps[m].wwid == wwid)
    }

    pub(super) fn map_by_name(&self, name: &str) -> Option<u32> {
        self.map_names.find(hash(name.as_bytes()), |m| self.maps[m].name == name)
    }

    pub(super) fn map_by_devno(&self, devno: DevNo) -> Option<u32> {
        self.map_devnos.find(hash_pair(devno.major, devno.minor), |m| self.maps[m].have.devno == devno)
    }

    /// A slot for this WWID. Before the first survey nobody knows whether it lives.
    #[inline(never)]
    pub(super) fn map_new(&mut self, wwid: &str) -> Option<u32> {
        let Ok(m) = self.maps.take() else {
            self.note(None, None, What::Full { what: Room::Maps, refused: self.maps.refused });
            return None;
        };
        // In its place: a slot with some fields of its own is put together from the pieces of two.
        let map = &mut self.maps[m];
        let head = map.head;
        *map = MapSlot::default();
        (map.head, map.regroup, map.replan, map.lead) = (head, true, true, NONE);
        // A WWID's capacity.
        let _ = map.wwid.push_str(wwid);
        map.have.known = if self.surveyed { Known::Absent } else { Known::Unknown };
        map.queue.hurry(self.hurried, self.now);
        map.part_table = if self.options.partitions { PartTable::Unread } else { PartTable::Never };
        map.seen = self.survey.serial;
        self.map_wwids.insert(hash(wwid.as_bytes()), m);
        self.map_order.push_back(&mut self.map_seen_list, m);
        self.map_touch(m);
        Some(m)
    }

    pub(super) fn map_forget(&mut self, m: u32) {
        let map = &self.maps[m];
        let (wwid, name) = (hash(map.wwid.as_bytes()), hash(map.name.as_bytes()));
        let named = !map.name.is_empty();
        self.map_wwids.remove(wwid, m);
        if named {
            self.map_names.remove(name, m);
        }
        let devno = map.have.devno;
        self.map_devno_drop(m, devno);
        self.map_order.remove(&mut self.map_seen_list, m);
        self.map_chain.remove(&mut self.map_ready, m);
        self.map_heavy_chain.remove(&mut self.map_heavy, m);
        let timer = self.map_timer(m);
        self.timers.set(timer, None);
        let map = &mut self.maps[m];
        self.starved -= u32::from(core::mem::take(&mut map.starved));
        self.open_maps -= u32::from(core::mem::take(&mut map.open));
        let lead = map.lead;
        if self.ports.get(lead).is_some() {
            self.ports[lead].leads = self.ports[lead].leads.saturating_sub(1);
        }
        self.maps.give(m);
    }

    /// Gives the map its name, in the index too.
    pub(super) fn map_rename_index(&mut self, m: u32, name: &str) {
        if self.maps[m].name.as_str() == name {
            return;
        }
        if !self.maps[m].name.is_empty() {
            let old = hash(self.maps[m].name.as_bytes());
            self.map_names.remove(old, m);
        }
        let map = &mut self.maps[m];
        map.name.clear();
        // The kernel's names have the same limit.
        let _ = map.name.push_str(name);
        if !map.name.is_empty() {
            self.map_names.insert(hash(name.as_bytes()), m);
        }
    }

    pub(super) fn map_devno_index(&mut self, m: u32, devno: DevNo) {
        let old = self.maps[m].have.devno;
        if old == devno {
            return;
        }
        self.map_devno_drop(m, old);
        self.maps[m].have.devno = devno;
        self.map_devnos.insert(hash_pair(devno.major, devno.minor), m);
    }

    pub(super) fn map_devno_drop(&mut self, m: u32, devno: DevNo) {
        if devno != DevNo::default() {
            self.map_devnos.remove(hash_pair(devno.major, devno.minor), m);
            self.maps[m].have.devno = DevNo::default();
        }
    }

    /// Settings as the configuration has them now.
    #[inline(never)]
    pub(super) fn map_settings(&mut self, cx: &Context<'_>, m: u32, facts: &PathFacts) {
        let wwid = self.maps[m].wwid.clone();
        let settings = cx.settings.map(&wwid, facts);
        let map = &mut self.maps[m];
        map.settings_of = self.settings_serial;
        let changed = map.settings != settings;
        let other_limit = map.settings.max_sectors_kb != settings.max_sectors_kb;
        map.settings = settings;
        if changed {
            map.replan = true;
            map.regroup = true;
            map.failback.reset();
            map.plain = 0;
            map.told_selector = false;
            map.told_handler = false;
        }
        if other_limit {
            self.limits_changed(m);
        }
        let map = &mut self.maps[m];
        // An existing map keeps its name unless the configuration gives this very WWID one.
        map.rename_to.clear();
        if !map.settings.alias.is_empty() {
            map.rename_to = map.settings.alias.clone();
        }
        if map.settings.skip_kpartx {
            map.part_table = PartTable::Never;
        } else if self.options.partitions && map.part_table == PartTable::Never {
            map.part_table = PartTable::Unread;
        }
        self.check_alias(m);
    }

    /// An alias that another map has is not taken from it, and one that is no name for a map is none for a live one either.
    fn check_alias(&mut self, m: u32) {
        let wanted = self.maps[m].rename_to.clone();
        if wanted.is_empty() {
            return;
        }
        if names::check(&wanted).is_err() || self.map_by_name(&wanted).is_some_and(|other| other != m) {
            self.maps[m].rename_to.clear();
            if !self.maps[m].told_alias {
                self.maps[m].told_alias = true;
                self.note(None, Some(m), What::AliasTaken);
            }
        }
    }

    /// The name a new device gets. What the kernel said is taken by another device is not tried again: then the WWID, and where even
    /// that is somebody else's name, the uuid.
    #[inline(never)]
    pub(super) fn create_name(&mut self, cx: &Context<'_>, m: u32) -> MapName {
        let map = &self.maps[m];
        let book = Names { engine: self, cx, m };
        let read_only = !self.options.write_bindings;
        let chosen = names::choose(&map.wwid, None, &map.settings, read_only, &book);
        let (mut name, origin) = chosen.map_or((MapName::new(), NameOrigin::Wwid), |c| (c.name, c.origin));
        let unique = map.names_taken > 1 || (map.names_taken > 0 && matches!(origin, NameOrigin::Wwid | NameOrigin::ReadOnly));
        if unique {
            let uuid = self.map_uuid(m);
            if uuid.len() <= crate::model::NAME_LEN {
                name.clear();
                // Checked just now.
                let _ = name.push_str(&uuid);
            }
        }
        let clash = unique || matches!(origin, NameOrigin::Conflict | NameOrigin::Invalid(_));
        self.maps[m].bind = origin == NameOrigin::New && !clash;
        if clash && !self.maps[m].told_alias {
            self.maps[m].told_alias = true;
            self.note(None, Some(m), What::AliasTaken);
        }
        name
    }

    /// A member came: it is looked at with all the others.
    pub(super) fn map_new_member(&mut self, cx: &Context<'_>, m: u32) {
        let map = &mut self.maps[m];
        map.replan = true;
        map.regroup = true;
        map.attempts = 0;
        map.retry_at = None;
        map.keep_after_all = !map.dismiss;
        map.remove &= map.dismiss;
        if map.first_wait.is_none() {
            map.first_wait = Some(cx.now + FIRST_WAIT);
        }
    }

    /// A device of ours was found live that was not there a moment ago.
    pub(super) fn map_came(&mut self, cx: &Context<'_>, m: u32) {
        self.note(None, Some(m), What::MapAdopted);
        let map = &mut self.maps[m];
        map.replan = true;
        map.regroup = true;
        map.force_reload |= self.options.force_reload;
        self.judge_map(cx, m);
    }

    /// A live map speaks for all disks of its WWID.
    pub(super) fn judge_map(&mut self, cx: &Context<'_>, m: u32) {
        let wwid = self.maps[m].wwid.clone();
        self.judge_siblings(cx, &wwid, NONE);
    }

    /// The map was removed on request: its paths are ours no more until asked for or named anew.
    pub(super) fn map_dismiss(&mut self, cx: &Context<'_>, m: u32) {
        while self.maps[m].paths.head != NONE {
            let i = self.maps[m].paths.head;
            self.path_leave(cx, i);
            (self.paths[i].admin, self.paths[i].failed_by_admin) = (super::path::Admin::TakenOut, false);
            self.paths[i].reason = super::Reason::TakenOut;
        }
    }

    /// To be looked at in the next dispatch.
    pub(super) fn map_touch(&mut self, m: u32) {
        if m == NONE || self.maps.get(m).is_none() || self.map_heavy_chain.linked(m) {
            return;
        }
        self.map_chain.push_back(&mut self.map_ready, m);
    }

    pub(super) fn path_touch(&mut self, i: u32) {
        if i != NONE && self.paths.get(i).is_some() {
            self.path_ready_chain.push_back(&mut self.path_ready, i);
        }
    }

    /// Counts the usable members anew and says so when the last one went or the first came.
    pub(super) fn refresh_usable(&mut self, cx: &Context<'_>, m: u32) {
        if m == NONE || self.maps.get(m).is_none() {
            return;
        }
        let now = self.count_usable(m);
        let mut standing = 0u8;
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            standing = standing.saturating_add(u8::from(self.paths[at].stands()));
            at = self.path_by_map.next(at);
        }
        let map = &mut self.maps[m];
        let before = core::mem::replace(&mut map.usable, now);
        let stood = core::mem::replace(&mut map.standing, standing);
        map.path_came |= standing > stood;
        map.path_failed |= standing < stood;
        let live = map.have.known != Known::Absent && map.have.active;
        let queueing = map.have.features.queue_if_no_path;
        // Only I/O that waits can hold memory: a map that fails it at once, or that nobody has open, makes nobody wait.
        let waits = queueing || map.have.suspended;
        // What it was before it is read again counts until then.
        let table = map.have.table_known || !map.have.members.is_empty();
        let starved = live && now == 0 && table && waits && map.have.open_count > 0;
        if map.starved != starved {
            map.starved = starved;
            // What was put off may be its way out, or may be done again.
            self.wake = true;
            if starved {
                self.starved += 1;
                (self.starved_since, self.roomy) = (self.now, false);
            } else {
                self.starved -= 1;
            }
        }
        if live && before > 0 && now == 0 {
            self.note(None, Some(m), What::NoUsablePath { queueing });
        } else if live && before == 0 && now > 0 {
            self.note(None, Some(m), What::UsableAgain);
        }
        let _ = cx;
    }

    pub(super) fn note(&mut self, path: Option<u32>, map: Option<u32>, what: What) {
        let path = path.map(|i| self.path_id(i));
        let map = map.map(|m| self.map_id(m));
        if self.notes.push_back(Note { path, map, what }).is_err() {
            self.lost_notes = self.lost_notes.saturating_add(1);
        }
    }

    /// When the status of `m` is to be read again: every second while something is wrong, else as seldom as the longest check.
    pub(super) fn status_due(&self, cx: &Context<'_>, m: u32) -> Instant {
        let map = &self.maps[m];
        // A map that nobody has used yet holds its I/O back, too, without a group that is being prepared.
        let preparing = map.have.queue_io && map.have.groups.contains(&crate::model::GroupState::Active);
        let wrong = preparing || map.usable == 0 || map.have.members.iter().any(|x| x.dm == crate::model::DmPathState::Failed);
        if wrong {
            return cx.now + Duration::from_secs(1);
        }
        // Twice as seldom as the paths are asked, as dm events tell of each change, and in places of their own: together with paths they
        // would wait for each other's workers.
        let period = cx.settings.globals().max_polling_interval.max(Duration::from_secs(1)).saturating_mul(2);
        let spot = super::schedule::spot(m, self.maps.used) + self.paths.used;
        super::schedule::place(cx.now, period, spot)
    }

    pub(super) fn map_timer(&self, m: u32) -> u32 {
        self.paths.capacity() as u32 + m
    }
}

impl Engine<'_> {
    /// Does the array table know this disk's model? Only smart mode wants to know.
    pub(super) fn known_array(&self, cx: &Context<'_>, facts: &PathFacts) -> bool {
        cx.settings.globals().find_multipaths == FindMultipaths::Smart && cx.settings.path(facts).known
    }

    /// A load failed for a reason that lies with a path: look at all of them again.
    pub(super) fn members_look(&mut self, cx: &Context<'_>, m: u32) {
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            self.paths[at].look = true;
            self.check_now(cx, at);
            self.path_touch(at);
            at = self.path_by_map.next(at);
        }
    }

    /// Status of the maps that wait, now.
    pub(super) fn read_starved(&mut self, _cx: &Context<'_>) {
        let mut left = self.starved;
        for m in 0..self.maps.capacity() as u32 {
            if left == 0 {
                return;
            }
            if self.maps.get(m).is_some_and(|map| map.starved) {
                self.maps[m].have.status_known = false;
                self.map_touch(m);
                left -= 1;
            }
        }
    }
}

/// Who has which name, for names.rs.
struct Names<'a, 'e, 's> {
    engine: &'a Engine<'s>,
    cx: &'a Context<'e>,
    m: u32,
}

impl names::Book for Names<'_, '_, '_> {
    fn alias(&self, wwid: &str) -> Option<&str> {
        self.cx.settings.binding(wwid)
    }
    fn owner(&self, name: &str) -> names::Owner<'_> {
        match self.engine.map_by_name(name) {
            Some(m) if m != self.m || self.engine.maps[m].names_taken == 0 => names::Owner::Map(&self.engine.maps[m].wwid),
            Some(_) => names::Owner::Other,
            None if self.engine.maps[self.m].names_taken > 0 => names::Owner::Other,
            None => names::Owner::Nobody,
        }
    }
    fn taken(&self, seen: &mut dyn FnMut(&str, Option<&str>)) {
        self.cx.settings.aliases(&mut |alias, wwid| seen(alias, Some(wwid)));
        for (_, map) in self.engine.maps.iter().filter(|(_, map)| !map.name.is_empty()) {
            seen(&map.name, Some(&map.wwid));
        }
    }
}
