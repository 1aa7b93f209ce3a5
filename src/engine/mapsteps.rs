//! The steps of maps: the requests that mapnext.rs finds due are sent, with a pause after what failed and a time for what has no answer.
//!
//! While a map has no usable path nothing is sent that allocates in the kernel, neither for it
//! nor, as it may hold swap, for others.

use super::map::{Job, Known, PartTable};
use super::note::{Difference, Step, What};
use super::storage::NONE;
use super::want::Plan;
use super::{Action, Context, Engine, Refused, Ticket};
use crate::fault::Errno;
use crate::model::{DmPathState, Instant, MAP_PATHS, MapName, PathState, Text, UUID_PREFIX};
use crate::wire::dm::{Content, Cookie, Request, Target};
use core::time::Duration;
use heapless::Vec;

/// How long an answer may take before the truth is read again. A load or resume waits for hosts in error recovery; a message never.
const SLOW: Duration = Duration::from_secs(60);
const QUICK: Duration = Duration::from_secs(10);
/// Failures after which a map no longer keeps `settled` waiting; it is tried again all the same.
pub(super) const GIVE_UP: u8 = 4;

/// What came of a map's turn.
pub(super) enum Turn {
    /// Nothing to do (now).
    Idle,
    Sent,
    /// The next step is one of those that may sleep long: to be taken in the other queue.
    Heavy,
    Refused(Refused),
    /// A step that no other map's waits for was refused.
    Later,
}

pub(super) type Uuid = Text<128>;

impl Engine<'_> {
    /// `mpath-` and the WWID.
    pub(super) fn map_uuid(&self, m: u32) -> Uuid {
        let mut uuid = Uuid::new();
        // 6 and at most 122 bytes.
        let _ = uuid.push_str(UUID_PREFIX).and_then(|()| uuid.push_str(&self.maps[m].wwid));
        uuid
    }

    /// May a request that is not harmless be sent now? Whether it is for the map whose I/O waits or for another: a thread that hangs in
    /// the kernel for want of memory is lost either way.
    pub(super) fn permitted(&self, m: u32) -> bool {
        self.ready() && !self.options.dry_run && !self.bystander(m) && (self.quiet() || self.way_out(m))
    }

    /// Would the next table, or a resume, let I/O go on that waits? That is not put off for other maps' I/O, which may wait for ever.
    fn way_out(&self, m: u32) -> bool {
        let have = &self.maps[m].have;
        let served =
            |x: &super::map::Member| x.dm == DmPathState::Active || self.paths.get(x.path).is_some_and(|p| p.map == m && p.usable());
        if !have.active || have.open_count == 0 || !have.suspended && have.members.iter().any(served) {
            return false;
        }
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            if self.paths[at].usable() && (have.suspended || self.paths[at].live_in != m) {
                return true;
            }
            at = self.path_by_map.next(at);
        }
        false
    }

    /// On an errand: is it none of the maps that were named?
    pub(super) fn bystander(&self, m: u32) -> bool {
        self.options.errand && self.maps.get(m).is_none_or(|map| !map.named)
    }

    /// One turn of map `m`.
    #[inline(never)]
    pub(super) fn map_step(
        &mut self,
        cx: &Context<'_>,
        m: u32,
        heavy: bool,
        emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>,
    ) -> Turn {
        if self.maps[m].not_ready_until.is_some_and(|t| t <= cx.now || self.any_up(m)) {
            // udev was told "not ready"; a reload tells it otherwise.
            let map = &mut self.maps[m];
            map.not_ready_until = None;
            (map.force_reload, map.replan) = (true, true);
        }
        self.map_tend(cx, m);
        self.map_compare(cx, m);
        let Some(job) = self.map_next(cx, m) else {
            let turn = self.map_rest(cx, m, emit);
            if self.maps.get(m).is_some() {
                self.map_account(cx, m);
                self.map_arm(m);
            }
            return if let Turn::Refused(_) = turn { Turn::Later } else { turn };
        };
        if !heavy && !job.harmless() {
            return Turn::Heavy;
        }
        // Made anew: what it depends on may have changed since the comparison.
        let plan = if job == Job::Load { self.plan(cx, m) } else { None };
        if job == Job::Load && plan.is_none() {
            self.maps[m].plannable = false;
            self.map_arm(m);
            return Turn::Idle;
        }
        match self.map_send(cx, m, job, plan.as_ref(), emit) {
            Ok(()) => {
                self.map_account(cx, m);
                self.map_arm(m);
                Turn::Sent
            }
            Err(refused) => {
                if refused == Refused::Busy {
                    let later = Some(cx.now + Duration::from_secs(1));
                    if job.harmless() {
                        self.maps[m].soft_retry_at = later
                    } else {
                        self.maps[m].retry_at = later
                    }
                    self.map_account(cx, m);
                    self.map_arm(m);
                }
                Turn::Refused(refused)
            }
        }
    }

    /// Is one of its paths up, not only standby?
    fn any_up(&self, m: u32) -> bool {
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            if self.paths[at].state == PathState::Up {
                return true;
            }
            at = self.path_by_map.next(at);
        }
        false
    }

    #[inline(never)]
    fn map_send(
        &mut self,
        cx: &Context<'_>,
        m: u32,
        job: Job,
        plan: Option<&Plan>,
        emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let ticket = self.ticket();
        let id = self.map_id(m);
        let uuid = self.map_uuid(m);
        let device = Target::Uuid(&uuid);
        let mut name = MapName::new();
        let mut changing = Difference::default();
        let request = match job {
            Job::None => return Ok(()),
            Job::Part { part, step } => return self.part_send(cx, m, part, step, emit),
            Job::Partitions => return self.part_read(cx, m, emit),
            Job::Status => Request::Status,
            Job::Table => Request::TableLine,
            Job::Create => {
                name = self.create_name(cx, m);
                Request::Create { name: &name, uuid: &uuid }
            }
            Job::Load => {
                let Some(plan) = plan else { return Ok(()) };
                changing = if self.maps[m].have.active { self.difference(m, plan) } else { Difference::default() };
                Request::Load { size: plan.size, read_only: plan.read_only, content: Content::Multipath(&plan.table) }
            }
            Job::Clear => Request::Clear,
            Job::Resume => {
                self.ghost_delay(cx, m);
                Request::Resume { cookie: self.cookie(m) }
            }
            Job::Suspend => Request::Suspend,
            Job::Rename => {
                name = self.new_name(m).unwrap_or_default();
                Request::Rename { to: &name, cookie: self.cookie(m) }
            }
            Job::Remove => Request::Remove { deferred: self.maps[m].settings.deferred_remove, cookie: self.cookie(m) },
            Job::Message(message) => Request::Message(message),
        };
        emit(Action::Dm { map: id, ticket, device, request })?;
        let map = &mut self.maps[m];
        map.job = job;
        map.ticket = ticket;
        map.deadline = cx.now + if job.harmless() { QUICK } else { SLOW };
        match job {
            Job::Create => {
                self.map_rename_index(m, &name);
            }
            Job::Load => {
                let map = &mut self.maps[m];
                map.changing = changing;
                let Some(plan) = plan else { return Ok(()) };
                self.plan_notes(cx, m, plan);
            }
            _ => {}
        }
        Ok(())
    }

    /// Says once what a table could not be given.
    fn plan_notes(&mut self, _cx: &Context<'_>, m: u32, plan: &Plan) {
        if plan.selector_replaced && !self.maps[m].told_selector {
            self.maps[m].told_selector = true;
            self.note(None, Some(m), What::SelectorReplaced);
        }
        if plan.handler_missing && !self.options.own_activation && !self.maps[m].told_handler {
            self.maps[m].told_handler = true;
            self.note(None, Some(m), What::HandlerMissing);
        }
    }

    /// Steps without an answer, when no request is due: nodes, and slots that are no longer needed.
    #[inline(never)]
    fn map_rest(&mut self, cx: &Context<'_>, m: u32, emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>) -> Turn {
        // A bystander's nodes are as they are: taken for made, so that those of a map that is removed later are taken away.
        let mut pretend = |_: Action<'_>| Ok(());
        let emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused> = if self.bystander(m) { &mut pretend } else { emit };
        if self.maps[m].job == Job::None && !self.options.udev && !self.options.dry_run && self.spare() {
            let map = &self.maps[m];
            let live = map.have.known == Known::Live && map.have.active;
            let want = if live { map.name.clone() } else { MapName::new() };
            // Nothing is looked up or made in a file system while somebody waits for a path (above).
            if map.have.known != Known::Unknown && map.node != want {
                if !map.node.is_empty() {
                    if let Err(refused) = emit(Action::Node { name: &map.node, devno: None }) {
                        return Turn::Refused(refused);
                    }
                    self.maps[m].node.clear();
                }
                if live {
                    let devno = self.maps[m].have.devno;
                    if let Err(refused) = emit(Action::Node { name: &want, devno: Some(devno) }) {
                        return Turn::Refused(refused);
                    }
                    self.maps[m].node = want;
                }
                return Turn::Sent;
            }
            match self.part_nodes(m, emit) {
                Ok(true) => return Turn::Sent,
                Ok(false) => {}
                Err(refused) => return Turn::Refused(refused),
            }
        }
        if self.maps[m].bind && self.maps[m].have.active && self.options.write_bindings && !self.options.dry_run {
            let map = &self.maps[m];
            if let Err(refused) = emit(Action::Bind { wwid: &map.wwid, alias: &map.name }) {
                return Turn::Refused(refused);
            }
            self.maps[m].bind = false;
            return Turn::Sent;
        }
        self.map_free_if_unused(cx, m);
        Turn::Idle
    }

    /// A map that nobody wants and that does not live is forgotten.
    fn map_free_if_unused(&mut self, _cx: &Context<'_>, m: u32) {
        let map = &self.maps[m];
        let idle = map.job == Job::None && map.reading.is_none();
        if idle && map.have.known == Known::Absent && map.paths.len == 0 && map.parts.len == 0 && map.node.is_empty() {
            self.map_forget(m);
        }
    }

    /// The name a live map should be given instead of the one it has: only where the configuration names it.
    pub(super) fn new_name(&self, m: u32) -> Option<MapName> {
        let map = &self.maps[m];
        if map.rename_to.is_empty() || map.rename_to == map.name || map.have.known != Known::Live {
            return None;
        }
        Some(map.rename_to.clone())
    }

    /// A new map that has only standby paths is flagged as not ready for a while, so that nobody reads it and makes the array move.
    fn ghost_delay(&mut self, cx: &Context<'_>, m: u32) {
        if !self.maps[m].created || !self.options.udev || !self.options.resident {
            return;
        }
        let (mut up, mut ghost) = (0, 0);
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            up += u16::from(self.paths[at].state == PathState::Up);
            ghost += u16::from(self.paths[at].state == PathState::Ghost);
            at = self.path_by_map.next(at);
        }
        let map = &mut self.maps[m];
        map.not_ready_until = super::marginal::ghost_wait(cx.now, cx.now, map.settings.ghost_delay, up, ghost);
    }

    /// udev's flags for the uevent of the next step.
    pub(super) fn cookie(&self, m: u32) -> Cookie {
        if !self.options.udev {
            return Cookie(0);
        }
        let map = &self.maps[m];
        // 0x20 no library fallback, 0x40 primary source; 0x100 unchanged disk (reload), 0x200 no kpartx, 0x400 no paths.
        let mut flags = 0x0060;
        if map.have.active && map.changing.any() && !map.changing.size {
            flags |= 0x0100;
        }
        if map.settings.skip_kpartx || self.options.partitions {
            flags |= 0x0200;
        }
        if (map.usable == 0 && map.have.active) || map.not_ready_until.is_some() {
            flags |= 0x0400;
        }
        Cookie(flags)
    }

    /// A request went overdue: what it did is not known, so the truth is read before anything else.
    pub(super) fn map_overdue(&mut self, cx: &Context<'_>, m: u32) {
        let step = self.maps[m].job.step();
        self.note(None, Some(m), What::StepOverdue(step));
        if let Job::Part { part, .. } = self.maps[m].job {
            self.parts[part].known = Known::Unknown;
        }
        let map = &mut self.maps[m];
        map.job = Job::None;
        map.have.known = Known::Unknown;
        map.have.table_known = false;
        self.map_backoff(cx, m, None, step);
    }

    /// A step failed: tried again after a time that doubles to half a minute.
    pub(super) fn map_backoff(&mut self, cx: &Context<'_>, m: u32, errno: Option<Errno>, step: Step) {
        if let Some(errno) = errno {
            // Said the first times and when it is another error; not with every retry for ever.
            let map = &self.maps[m];
            if map.last_error != Some(errno) || map.attempts.max(map.soft_attempts) < 3 {
                self.note(None, Some(m), What::StepFailed { step, errno });
            }
            self.maps[m].last_error = Some(errno);
        }
        let map = &mut self.maps[m];
        if matches!(step, Step::Read | Step::Message) {
            map.soft_attempts = map.soft_attempts.saturating_add(1);
            let pause = 25u64 << map.soft_attempts.min(5);
            map.soft_retry_at = Some(cx.now + Duration::from_millis(pause));
        } else {
            map.attempts = map.attempts.saturating_add(1);
            let pause = 50u64 << map.attempts.min(10);
            map.retry_at = Some(cx.now + Duration::from_millis(pause.min(30_000)));
        }
        self.map_touch(m);
    }

    pub(super) fn map_arm(&mut self, m: u32) {
        let map = &self.maps[m];
        let mut at: Option<Instant> = None;
        // A time that has passed changes nothing by passing again: the step is due already, or something else is in its way.
        let now = self.now;
        let mut earlier = |t: Option<Instant>| {
            if let Some(t) = t.filter(|&t| t > now) {
                at = Some(at.map_or(t, |a| a.min(t)));
            }
        };
        if map.job == Job::None {
            earlier(map.retry_at);
            earlier(map.soft_retry_at);
            if map.have.known == Known::Live && map.have.active && self.options.resident {
                earlier(Some(map.next_status));
            }
            if (map.have.known == Known::Absent || map.regroup) && map.paths.len > 0 {
                earlier(map.first_wait);
            }
        }
        earlier(self.map_clock(m));
        earlier(map.not_ready_until);
        if map.job != Job::None {
            // Not filtered: a deadline ends the job when its timer is seen.
            at = Some(at.map_or(map.deadline, |a| a.min(map.deadline)));
        }
        let timer = self.map_timer(m);
        self.timers.set(timer, at);
    }

    /// Is the map done with everything that a one-shot run waits for? Kept as a count, so that asking costs nothing.
    pub(super) fn map_account(&mut self, cx: &Context<'_>, m: u32) {
        let map = &self.maps[m];
        // A read through a map without paths, or a suspended one, ends whenever that ends.
        let reads = map.reading.is_some() && !map.have.suspended && map.have.members.iter().any(|x| x.dm == DmPathState::Active);
        let working = map.job != Job::None || map.activating.is_some() || reads || (map.attempts < GIVE_UP && self.map_waits(cx, m));
        if map.open != working {
            self.maps[m].open = working;
            if working { self.open_maps += 1 } else { self.open_maps -= 1 }
        }
    }

    /// Would there be a step if only time had passed?
    fn map_waits(&self, cx: &Context<'_>, m: u32) -> bool {
        let map = &self.maps[m];
        let later = |t: Option<Instant>| t.is_some_and(|t| t > cx.now);
        if self.bystander(m) {
            return later(map.soft_retry_at) || (map.have.known == Known::Unknown && !self.surveyed);
        }
        // A pause after a failure, or the wait for first verdicts.
        later(map.retry_at)
            || later(map.soft_retry_at)
            || (map.replan && map.paths.len > 0 && (map.have.known == Known::Absent || map.regroup) && later(map.first_wait))
            || (map.have.known == Known::Unknown && !self.surveyed)
            || (map.part_table == PartTable::Unread && self.permitted(m) && self.part_pending(m))
    }

    /// Slots of the live table's paths, for walks that change them.
    pub(super) fn member_slots(&self, m: u32) -> Vec<u32, MAP_PATHS, u8> {
        let mut slots = Vec::new();
        for x in self.maps[m].have.members.iter().filter(|x| x.path != NONE) {
            // As many as there is room for.
            let _ = slots.push(x.path);
        }
        slots
    }

    /// The same with their groups, from 0.
    pub(super) fn member_groups(&self, m: u32) -> Vec<(u32, u8), MAP_PATHS, u8> {
        let mut slots = Vec::new();
        for x in self.maps[m].have.members.iter().filter(|x| x.path != NONE) {
            let _ = slots.push((x.path, x.group));
        }
        slots
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.last_ticket = self.last_ticket.wrapping_add(1);
        Ticket(self.last_ticket)
    }
}
