//! What a map needs next: what is wanted beside what the kernel has, and the one request that closes the gap.
//!
//! Order is safety: read before doing when the truth is not known; messages (which always work) before anything structural; a resume
//! whenever a map of ours is suspended.

use super::map::{Job, Known};
use super::note::{Difference, What};
use super::storage::NONE;
use super::want::Plan;
use super::{Context, Engine};
use crate::model::{DmPathState, PathState, Tpgs};
use crate::wire::dm::Message;
use core::time::Duration;

/// The kernel is given so long to leave a group whose paths fail by its own doing.
const LEAVE: Duration = Duration::from_secs(5);

impl Engine<'_> {
    /// What `m` needs next; `None` when nothing, or nothing now.
    #[inline(never)]
    pub(super) fn map_next(&self, cx: &Context<'_>, m: u32) -> Option<Job> {
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

    pub(super) fn map_structure(&self, cx: &Context<'_>, m: u32) -> Option<Job> {
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
    pub(super) fn map_compare(&mut self, cx: &Context<'_>, m: u32) {
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
        if have.known == Known::Absent && self.limits_due(m) {
            return;
        }
        let map = &self.maps[m];
        let have = &map.have;
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
    pub(super) fn tell_odd(&mut self, m: u32, plan: &Plan) {
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
    pub(super) fn map_lead(&mut self, m: u32, lead: u32) {
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
    pub(super) fn members_judged(&self, cx: &Context<'_>, m: u32) -> bool {
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
    pub(super) fn map_message(&self, cx: &Context<'_>, m: u32) -> Option<Message> {
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

    pub(super) fn queue_message(&self, cx: &Context<'_>, m: u32) -> Option<Message> {
        let queue = self.want_queueing(cx, m)?;
        if queue == self.maps[m].have.features.queue_if_no_path {
            return None;
        }
        Some(if queue { Message::QueueIfNoPath } else { Message::FailIfNoPath })
    }

    /// Must the kernel stop using it?
    pub(super) fn must_fail(&self, i: u32) -> bool {
        let p = &self.paths[i];
        p.gone
            || p.failed_by_admin
            || matches!(
                p.state,
                // Not Shaky: to fail a path for an upgrade of its storage processor would make the kernel trespass in the middle of it.
                PathState::Down | PathState::Delayed | PathState::Timeout | PathState::Removed | PathState::Disconnected
            )
    }
}
