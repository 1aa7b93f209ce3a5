//! The next step of a map: the one request that closes the gap between what is wanted and what the kernel has.
//!
//! Order is safety: read before doing when the truth is not known; messages (which always work) before anything structural; a resume
//! whenever a map of ours is suspended. While a map has no usable path nothing is sent that allocates in the kernel, neither for it
//! nor, as it may hold swap, for others.

use super::map::{Job, Known, PartTable};
use super::note::{Difference, Step, What};
use super::storage::NONE;
use super::want::Plan;
use super::{Action, Context, Engine, Refused, Ticket};
use crate::fault::Errno;
use crate::model::{DmPathState, Instant, MAP_PATHS, MapName, PathState, Text, Tpgs, UUID_PREFIX};
use crate::wire::dm::{Content, Cookie, Message, Request, Target};
use core::time::Duration;
use heapless::Vec;

/// How long an answer may take before the truth is read again. A load or resume waits for hosts in error recovery; a message never.
const SLOW: Duration = Duration::from_secs(60);
const QUICK: Duration = Duration::from_secs(10);
/// The kernel is given so long to leave a group whose paths fail by its own doing.
const LEAVE: Duration = Duration::from_secs(5);
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
    fn permitted(&self, m: u32) -> bool {
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

    /// What `m` needs next; `None` when nothing, or nothing now.
    #[inline(never)]
    fn map_next(&self, cx: &Context<'_>, m: u32) -> Option<Job> {
        let map = &self.maps[m];
        let have = &map.have;
        if map.job != Job::None {
            return None;
        }
        // Reads and messages have a pause of their own: a table that does not load must not delay a reinstate.
        let calm = map.soft_retry_at.is_none_or(|t| t <= cx.now);
        match have.known {
            Known::Unknown => return (self.surveyed && calm).then_some(Job::Status),
            Known::Absent => {}
            Known::Live => {
                if have.active && !have.table_strange && !have.table_known {
                    return calm.then_some(Job::Table);
                }
                if have.active && (!have.status_known || (map.next_status <= cx.now && !self.stopping)) {
                    return calm.then_some(Job::Status);
                }
                if have.table_strange {
                    return None;
                }
                if have.active
                    && let Some(message) = self.map_message(cx, m)
                {
                    return (calm && !self.options.dry_run && !self.bystander(m)).then_some(Job::Message(message));
                }
            }
        }
        let back = map.go_back && have.known == Known::Live && have.suspended && have.active && !have.inactive;
        if !back && map.retry_at.is_some_and(|t| t > cx.now) {
            return None;
        }
        // Whether it may go; reading takes no memory.
        if map.parts_asked
            && !self.options.dry_run
            && let Some(job) = self.part_unread(m)
        {
            return Some(job);
        }
        if !self.permitted(m) {
            return None;
        }
        if have.known == Known::Live && have.suspended && !map.admin_suspend && (have.active || have.inactive) {
            // A resume would swap in whatever table somebody left. (Without any table it is EINVAL: then a table comes first, below.)
            return Some(if have.inactive && !map.loaded && have.active { Job::Clear } else { Job::Resume });
        }
        if self.stopping {
            return None;
        }
        if map.remove || (map.flush && map.paths.len == 0) {
            return match have.known {
                Known::Live => Some(self.part_remove_next(m).unwrap_or(Job::Remove)),
                _ => None,
            };
        }
        if have.known == Known::Live && map.admin_suspend && !have.suspended {
            return Some(Job::Suspend);
        }
        if have.known == Known::Live && map.admin_suspend {
            // Any new table would resume it.
            return None;
        }
        self.map_structure(cx, m)
    }

    fn map_structure(&self, cx: &Context<'_>, m: u32) -> Option<Job> {
        let map = &self.maps[m];
        let have = &map.have;
        match have.known {
            Known::Unknown => None,
            Known::Absent => map.plannable.then_some(Job::Create),
            Known::Live if have.inactive && map.loaded => Some(Job::Resume),
            Known::Live if map.plannable && (!have.active || map.differs.any()) => Some(Job::Load),
            // Somebody else's table that any resume would swap in.
            Known::Live if have.inactive => Some(Job::Clear),
            Known::Live if self.new_name(m).is_some() => Some(Job::Rename),
            Known::Live => self.part_next(cx, m),
        }
    }

    /// Compares what is wanted with what is there, when something it depends on has changed.
    fn map_compare(&mut self, cx: &Context<'_>, m: u32) {
        let map = &self.maps[m];
        let have = &map.have;
        if map.job != Job::None || self.stopping || have.table_strange || have.known == Known::Unknown || self.bystander(m) {
            return;
        }
        if !map.replan || !self.ready() || (have.active && !have.table_known) {
            return;
        }
        // Groups follow priorities; before every member has told its own, a comparison would only move paths about.
        if (have.known == Known::Absent || map.regroup) && !self.members_judged(cx, m) {
            return;
        }
        let live = have.known == Known::Live && have.active;
        if live && self.scan_incomplete() && have.members.iter().any(|x| x.path == NONE) {
            // The disk that cannot be read may be that member.
            return;
        }
        let plan = self.plan(cx, m);
        let differs = match &plan {
            Some(plan) if live => self.difference(m, plan),
            _ => Difference::default(),
        };
        let lead = plan.as_ref().map_or(NONE, |p| p.lead);
        if let Some(plan) = &plan {
            self.tell_odd(m, plan);
        }
        let unmeasured = self.maps[m].resize_allowed && self.measured(m).is_none();
        let map = &mut self.maps[m];
        map.replan = false;
        map.plannable = plan.is_some();
        map.own = plan.as_ref().map_or(map.own, |p| p.handler_missing);
        map.differs = differs;
        if live && !differs.any() {
            // As wanted: nothing is left of whatever asked for a comparison, but for a size that is still to be read.
            (map.regroup, map.force_reload, map.resize_allowed) = (false, false, unmeasured);
        }
        self.map_lead(m, lead);
    }

    /// Says once for each path that it is left out of its map's table for its size, or because the table is full.
    fn tell_odd(&mut self, m: u32, plan: &Plan) {
        if !plan.odd {
            return;
        }
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            let next = self.path_by_map.next(at);
            let size = self.odd_size(m, at, plan.size);
            let full = !size && plan.paths.is_full() && !plan.paths.contains(&at) && self.paths[at].live_in != m;
            if (size || full) && !self.paths[at].told_odd {
                self.paths[at].told_odd = true;
                self.note(Some(at), Some(m), if size { What::SizeDiffers } else { What::TooManyPaths });
            }
            at = next;
        }
    }

    /// Which port the map leads with, for the balance.
    fn map_lead(&mut self, m: u32, lead: u32) {
        let old = core::mem::replace(&mut self.maps[m].lead, lead);
        if old == lead {
            return;
        }
        if self.ports.get(old).is_some() {
            self.ports[old].leads = self.ports[old].leads.saturating_sub(1);
        }
        if self.ports.get(lead).is_some() {
            self.ports[lead].leads += 1;
        }
    }

    /// Have all members had their first verdict (or their time for it)?
    fn members_judged(&self, cx: &Context<'_>, m: u32) -> bool {
        let map = &self.maps[m];
        if map.first_wait.is_none_or(|t| t <= cx.now) {
            return true;
        }
        let mut at = map.paths.head;
        while at != NONE {
            if !self.paths[at].judged {
                return false;
            }
            at = self.path_by_map.next(at);
        }
        true
    }

    /// The message that is due. A path that is another disk now comes first, then paths that work again, then those that do not.
    fn map_message(&self, cx: &Context<'_>, m: u32) -> Option<Message> {
        let map = &self.maps[m];
        let have = &map.have;
        if have.suspended {
            return None;
        }
        if self.stopping {
            return self.queue_message(cx, m);
        }
        let some_active = have.members.iter().any(|x| x.dm == DmPathState::Active);
        // A path of a processor that is upgraded serves better than none, or than passive ones that nobody may activate meanwhile.
        let serving = |x: &super::map::Member| {
            x.dm == DmPathState::Active && self.paths.get(x.path).is_none_or(|p| p.state != PathState::Shaky || !self.passive(x.path))
        };
        let some_serving = have.members.iter().any(serving);
        let moving = map.own && (map.activating.is_some() || self.activation_path(cx, m).is_some());
        let elsewhere = |group: u8| {
            let other = |x: &super::map::Member| x.group != group && x.dm == DmPathState::Active;
            !have.handler.is_empty() && self.starved == 0 && group.saturating_add(1) == have.current_group && have.members.iter().any(other)
        };
        let mut reinstate = None;
        let mut fail = None;
        let otherwise = self.otherwise_named(m);
        for x in &have.members {
            let Some(p) = self.paths.get(x.path) else { continue };
            let foreign = !otherwise && p.map != m && !p.wwid.is_empty() && p.wwid != map.wwid;
            // Also when its state is not known (the table was just read): to fail a failed path does no harm.
            if foreign && x.dm != DmPathState::Failed {
                return Some(Message::FailPath(x.devno));
            }
            if p.map != m {
                // Taken out or refused: it leaves with the next reload; until then the kernel may have it, unless it is gone.
                if p.gone && x.dm == DmPathState::Active {
                    fail = fail.or(Some(x.devno));
                }
                continue;
            }
            match x.dm {
                // A standby path of an array that only moves by itself is of no use while nothing else works.
                DmPathState::Failed if p.state == PathState::Ghost && p.tpgs == Tpgs::Implicit && !some_active => {}
                // Being activated by us: until then it fails whatever is sent.
                DmPathState::Failed if moving && self.passive(x.path) => {}
                DmPathState::Failed if p.dips > 3 && cx.now.since(p.dipped_at) < super::answers::PACE => {}
                // To reinstate a path of the group in use makes the kernel's handler trespass: a LUN that somebody moved to the other
                // controller would come back against failback's will. The kernel goes there with the next I/O; then it is reinstated.
                // (Should there be no I/O, it is not kept out for ever.)
                DmPathState::Failed
                    if elsewhere(x.group) && cx.now.since(p.dipped_at) < LEAVE && (p.prio_at.is_none() || self.passive(x.path)) => {}
                DmPathState::Failed if (p.usable() || p.shaky_only(some_serving)) && !self.held_back(x.path) => {
                    reinstate = reinstate.or(Some(x.devno))
                }
                DmPathState::Active if self.must_fail(x.path) => fail = fail.or(Some(x.devno)),
                _ => {}
            }
        }
        if let Some(devno) = reinstate {
            return Some(Message::ReinstatePath(devno));
        }
        if let Some(devno) = fail {
            return Some(Message::FailPath(devno));
        }
        if let Some(message) = self.queue_message(cx, m) {
            return Some(message);
        }
        if let Some(group) = map.switch_to.filter(|&g| self.group_usable(m, g)) {
            return Some(Message::SwitchGroup(group));
        }
        if have.deferred && map.keep_after_all {
            return Some(Message::CancelDeferredRemove);
        }
        None
    }

    fn queue_message(&self, cx: &Context<'_>, m: u32) -> Option<Message> {
        let queue = self.want_queueing(cx, m)?;
        if queue == self.maps[m].have.features.queue_if_no_path {
            return None;
        }
        Some(if queue { Message::QueueIfNoPath } else { Message::FailIfNoPath })
    }

    /// Must the kernel stop using it?
    fn must_fail(&self, i: u32) -> bool {
        let p = &self.paths[i];
        p.gone
            || p.failed_by_admin
            || matches!(
                p.state,
                // Not Shaky: to fail a path for an upgrade of its storage processor would make the kernel trespass in the middle of it.
                PathState::Down | PathState::Delayed | PathState::Timeout | PathState::Removed | PathState::Disconnected
            )
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
        self.maps[m].have.members.iter().map(|x| x.path).filter(|&p| p != NONE).collect()
    }

    /// The same with their groups, from 0.
    pub(super) fn member_groups(&self, m: u32) -> Vec<(u32, u8), MAP_PATHS, u8> {
        self.maps[m].have.members.iter().filter(|x| x.path != NONE).map(|x| (x.path, x.group)).collect()
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.last_ticket = self.last_ticket.wrapping_add(1);
        Ticket(self.last_ticket)
    }
}
