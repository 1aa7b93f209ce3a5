//! What a map does by the clock: queueing that ends in time, failback that is due, a map that goes with its last path.
//!
//! Decides through queueing.rs and failback.rs and leaves wishes behind (`switch_to`, `regroup`, `flush`); the requests are mapsteps.rs'.
//! A one-shot run decides only which group is to be used: nobody would be left to count.

use super::checker::{ArrayFault, emc};
use super::group::{self, Rating};
use super::map::Known;
use super::note::{Cause, What};
use super::path::PathSlot;
use super::queueing::{self, LastPath, Outage, Want};
use super::storage::NONE;
use super::{Context, Engine};
use crate::conf::settings::{Failback, MarginalPathgroups, NoPathRetry, Policy, PrioKind};
use crate::failback::{Decision, Hold, View, usable_in_order};
use crate::model::{GroupState, Instant, MAP_PATHS, PathState, Tpgs};
use crate::wire::table::MAP_GROUPS;
use core::time::Duration;
use heapless::Vec;

/// A group switch has so long to take effect before it is asked for again.
const REST: Duration = Duration::from_secs(1);
/// The paths of a map are given so long to say their priorities after one has changed.
const SETTLE: Duration = Duration::from_secs(3);
/// An activation that takes so long is told of. Arrays take a few seconds, half a minute at most.
pub(super) const SLOW: Duration = Duration::from_secs(10);

/// Does the array say through this path that there is nothing to wait for: no such LUN, unbound, or a snapshot that is not active?
fn lun_gone(p: &PathSlot) -> bool {
    let told = matches!(p.cause, Cause::Array(ArrayFault::Emc(emc::Fault::InactiveSnapshot | emc::Fault::Unbound)));
    p.state == PathState::Disconnected || (p.state == PathState::Down && told)
}

impl Engine<'_> {
    /// The clocks of map `m` have their turn.
    #[inline(never)]
    pub(super) fn map_tend(&mut self, cx: &Context<'_>, m: u32) {
        self.interval = cx.settings.globals().polling_interval;
        if self.stopping {
            return;
        }
        let map = &self.maps[m];
        if map.have.known == Known::Absent || !map.have.active || self.bystander(m) {
            return;
        }
        if map.switch_to.is_some_and(|group| !self.group_usable(m, group)) {
            self.switch_dropped(m);
        }
        if !self.options.resident {
            // Done now, or left to the daemon.
            if !self.options.dry_run {
                self.tend_failback(cx, m);
                self.tend_activation(cx, m);
            }
            return;
        }
        if self.ready() && self.maps[m].told_names != self.otherwise_named(m) {
            self.maps[m].told_names ^= true;
            if self.maps[m].told_names {
                self.note(None, Some(m), What::OtherwiseNamed);
            }
        }
        self.tend_queueing(cx, m);
        self.tend_last_path(m);
        self.tend_failback(cx, m);
        self.tend_activation(cx, m);
    }

    /// The path to be activated by us has a turn; an activation without end is told of once.
    fn tend_activation(&mut self, cx: &Context<'_>, m: u32) {
        if let Some(i) = self.activation_path(cx, m) {
            self.path_touch(i);
        }
        let map = &mut self.maps[m];
        let since = map.activation_since();
        let late = since.map(|t| cx.now.since(t)).filter(|&t| t >= SLOW);
        if late.is_none() {
            map.told_init &= since.is_some();
        } else if !core::mem::replace(&mut map.told_init, true) {
            let secs = late.map_or(0, |t| t.as_secs() as u32);
            self.note(None, Some(m), What::ActivationSlow { secs });
        }
    }

    fn tend_queueing(&mut self, cx: &Context<'_>, m: u32) {
        let usable = self.maps[m].usable;
        let mut view = queueing::View { paths: 0, usable: u16::from(usable), gone: 0 };
        if usable == 0 {
            let mut at = self.maps[m].paths.head;
            while at != NONE {
                view.paths = view.paths.saturating_add(1);
                view.gone = view.gone.saturating_add(u16::from(lun_gone(&self.paths[at])));
                at = self.path_by_map.next(at);
            }
        }
        let map = &mut self.maps[m];
        let was_gone = map.queue.outage() == Some(Outage::LunGone);
        let since = map.queue.lost_at();
        let answer = map.queue.process(cx.now, map.settings.no_path_retry, self.interval, view);
        let gone = map.queue.outage() == Some(Outage::LunGone);
        if answer.expired {
            map.queue_timeouts = map.queue_timeouts.saturating_add(1);
            if map.settings.no_path_retry == NoPathRetry::Unset && map.queue_before.is_none() {
                // What was there before comes back with the first path.
                map.queue_before = Some(map.have.features.queue_if_no_path);
            }
        }
        if answer.outage_ended
            && let Some(since) = since
        {
            map.queue_time_secs = map.queue_time_secs.saturating_add(cx.now.since(since).as_secs());
        }
        if gone && !was_gone {
            self.note(None, Some(m), What::LunGone);
        }
        if answer.expired {
            self.note(None, Some(m), What::QueueExpired);
        }
    }

    /// Whether the kernel should queue when no path is left; `None` to leave it as it is.
    pub(super) fn want_queueing(&self, cx: &Context<'_>, m: u32) -> Option<bool> {
        let map = &self.maps[m];
        if map.admin_no_queueing || map.flush_quiet {
            return Some(false);
        }
        if self.stopping && self.keep_queueing {
            return None;
        }
        if self.stopping && self.options.resident {
            return match queueing::at_exit(cx.settings.globals().queue_without_daemon) {
                Want::Off => Some(false),
                Want::On => Some(true),
                Want::Leave => None,
            };
        }
        if !self.options.resident {
            return match map.settings.no_path_retry {
                NoPathRetry::Unset => map.queue_before,
                NoPathRetry::Fail => Some(false),
                NoPathRetry::Queue => Some(true),
                // Without somebody who counts, the retries would never end.
                NoPathRetry::Retries(_) => None,
            };
        }
        match map.queue.want(map.settings.no_path_retry) {
            Want::On => Some(true),
            Want::Off => Some(false),
            // As it was before an administrator, or a LUN that was gone, ended it.
            Want::Leave => map.queue_before,
        }
    }

    /// `flush_on_last_del`: a map of which no disk is left. One whose disks are there, but not ours, or not known to us (yet), is left
    /// alone: it may be somebody's work of this very moment.
    fn tend_last_path(&mut self, m: u32) {
        let map = &self.maps[m];
        // A disk that is another one now, and whose own map is there without it, is gone as this one's: held here it cannot be claimed there.
        let own = |wwid: &str| self.map_by_wwid(wwid).filter(|&own| own != m).map(|own| &self.maps[own].have);
        let moved = |wwid: &str| own(wwid).is_some_and(|have| have.known == Known::Live && have.active);
        let here = |i: u32| self.paths.get(i).is_none_or(|p| !p.gone && !moved(&p.wwid));
        // One that became another under our eyes cannot have a map of its own as long as this one holds it.
        let held = |i: u32| here(i) && !self.paths.get(i).is_some_and(|p| p.exchanged);
        let left = map.paths.len > 0 || map.have.members.iter().any(|x| held(x.path));
        let exchanged = map.have.members.iter().any(|x| here(x.path));
        let asked = map.parts_asked;
        let forget = left || !self.ready() || !map.have.table_known || map.remove;
        if !forget && !asked {
            // Who has the map or a partition open is known from when it was read last.
            self.maps[m].have.status_known = false;
            self.parts_doubt(m, false);
            self.map_touch(m);
        }
        let (users, parts_used) = (self.users(m), self.parts_open(m).1);
        let map = &mut self.maps[m];
        map.parts_asked = !forget;
        if forget || exchanged && users > 0 {
            (map.flush, map.flush_quiet) = (false, false);
            return;
        }
        if !map.have.status_known {
            return;
        }
        let decision = queueing::on_last_path(map.settings.flush_on_last_del, map.have.features.queue_if_no_path, users);
        // Its users can close it only when their I/O ends; then, or at once where dm may defer it, it is removed.
        let removable = users == 0 || map.settings.deferred_remove && !parts_used;
        match decision {
            LastPath::Keep => map.flush = false,
            LastPath::Remove { stop_queueing } => {
                map.flush_quiet |= stop_queueing;
                map.flush = removable && !map.have.deferred;
            }
        }
    }

    #[inline(never)]
    fn tend_failback(&mut self, cx: &Context<'_>, m: u32) {
        let map = &self.maps[m];
        let have = &map.have;
        let steady = have.known == Known::Live && have.table_known && have.status_known && !have.suspended && !have.inactive;
        let rests = map.failback_rest.is_some_and(|t| t > cx.now) && map.prio_changed.is_none();
        if !steady || map.job != super::map::Job::None || rests {
            return;
        }
        // Right after adoption a group seems dead, or worth nothing, until its paths have been asked: that is no reason for a trespass.
        let unasked = |x: &super::map::Member| self.paths.get(x.path).is_none_or(|p| p.map == m && !p.judged && !p.gone);
        if !self.ready() || have.members.iter().any(unasked) {
            return;
        }
        if let Some(since) = map.prio_changed {
            let old = |i: u32| self.paths.get(i).is_some_and(|p| p.stands() && p.prio_at.is_none());
            if have.members.iter().any(|x| old(x.path)) && cx.now.since(since) < SETTLE {
                self.maps[m].failback_rest = Some(since + SETTLE);
                return;
            }
            (self.maps[m].prio_changed, self.maps[m].prio_moved) = (None, None);
            // What the kernel failed and the checker finds good was our own trouble, unless the LUN has gone to the other controller.
            let (mut all, mut whole) = (0u64, 0u64);
            for &(i, group) in &self.member_groups(m) {
                let dipped = self.paths[i].usable() && core::mem::take(&mut self.paths[i].dipped) && !self.idle(i);
                let bit = 1u64 << (group & 63);
                all |= if dipped { bit } else { 0 };
                whole |= if !dipped && self.paths[i].usable() { bit } else { 0 };
            }
            let map = &mut self.maps[m];
            (map.path_failed, map.path_came) = (map.path_failed || all != 0, map.path_came || all != 0);
            map.alive_groups &= !all | whole;
        }
        let map = &self.maps[m];
        let have = &map.have;
        let mut ratings: Vec<Rating, MAP_GROUPS, u8> = Vec::new();
        for g in 0..have.groups.len() as u8 {
            let inside = have.members.iter().filter(|x| x.group == g && self.paths.get(x.path).is_some());
            // As many as the table has groups.
            let _ = ratings.push(group::rate(inside.map(|x| self.group_member(x.path))));
        }
        let mut alive = 0u64;
        for x in &have.members {
            alive |= u64::from(self.paths.get(x.path).is_some_and(|p| p.stands())) << (x.group & 63);
        }
        let best = group::best_group(ratings.iter().copied());
        let best_state = best.checked_sub(1).and_then(|b| have.groups.get(usize::from(b))).copied().unwrap_or_default();
        let arrived = have.arrived() == best;
        let fresh = alive & !map.alive_groups;
        let revived = best.checked_sub(1).is_some_and(|b| fresh & (1u64 << (b & 63)) != 0 && map.alive_groups != 0);
        let array_moves = |p: &PathSlot| p.prio_kind == PrioKind::Ana || p.tpgs == Tpgs::Implicit;
        let view = View {
            groups: &ratings,
            current: have.current_group,
            regroup: self.prio_regroup(cx, m),
            failed: map.path_failed,
            came_up: map.path_came,
            revived: revived.then_some(best),
            refused: best_state == GroupState::Disabled,
            array_moves: have.members.iter().all(|x| self.paths.get(x.path).is_none_or(array_moves)),
        };
        // Not on what was known before the last move, nor half of it before and half after: what the paths are worth is asked once more.
        let need = view.regroup || (have.current_group != best && have.current_group != 0) || !usable_in_order(&ratings);
        if !core::mem::replace(&mut self.maps[m].asked_anew, need) && need && self.options.resident && !self.maps[m].starved {
            return self.ask_prios(cx, m);
        }
        let map = &self.maps[m];
        let mode = if self.options.resident { map.settings.failback } else { Failback::Immediate };
        let idle = self.own_idle_group(m, best);
        let map = &mut self.maps[m];
        let decision = map.failback.process(cx.now, mode, &view);
        (map.path_failed, map.path_came, map.alive_groups) = (false, false, alive);
        (map.failback_rest, map.activate_group) = (None, 0);
        let quarrel = map.failback.held() == Some(Hold::Quarrel);
        let told = core::mem::replace(&mut map.told_quarrel, quarrel);
        if view.failed || view.came_up {
            map.failback_tries = 0;
        }
        if view.failed {
            // Where the LUN has to go now is our own business again: nobody waits for a quarrel to be forgotten.
            map.guard.clear();
        }
        match decision {
            Decision::Stay if arrived => map.failback_tries = 0,
            Decision::Stay => {}
            // The LUN first, then the I/O.
            Decision::Switch(group) if idle => map.activate_group = group,
            Decision::Switch(group) => map.switch_to = Some(group),
            Decision::Reload => (map.regroup, map.replan) = (true, true),
        }
        if quarrel && !told {
            self.note(None, Some(m), What::Quarrel);
        }
        if decision != Decision::Stay {
            self.maps[m].asked_anew = false;
            // An array that is busy with something else turns a switch away; it is not to be asked every second.
            let map = &mut self.maps[m];
            map.failback_rest = Some(cx.now + REST.saturating_mul(1 << map.failback_tries));
            map.failback_tries = (map.failback_tries + 1).min(6);
        }
    }

    /// Under `group_by_prio`: do paths of one priority stand apart, or paths of different ones together?
    fn prio_regroup(&self, cx: &Context<'_>, m: u32) -> bool {
        let have = &self.maps[m].have;
        let mut slots: Vec<u32, MAP_PATHS, u8> = Vec::new();
        let split = cx.settings.globals().marginal_pathgroups != MarginalPathgroups::Off;
        let mut known: Vec<((bool, i32), u8), MAP_PATHS, u8> = Vec::new();
        for x in &have.members {
            let Some(p) = self.paths.get(x.path) else { continue };
            // As many as one table holds.
            let _ = slots.push(x.path);
            if p.usable() && p.prio != crate::model::Prio::UNDEFINED {
                let marginal = split && (p.marginal || p.marginal_by_admin);
                let _ = known.push(((marginal, p.prio.0), x.group));
            }
        }
        if self.policy_of(m, &slots) != Policy::GroupByPrio {
            return false;
        }
        crate::order::sort(&mut known, |a, b| a < b);
        // Sorted by priority: one group each, and no group twice.
        let mut groups = 0u64;
        for run in known.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(_, g)) = run.first() else { continue };
            let bit = 1u64 << (g & 63);
            if groups & bit != 0 || run.iter().any(|x| x.1 != g) {
                return true;
            }
            groups |= bit;
        }
        false
    }

    /// The next time one of the map's clocks runs out.
    pub(super) fn map_clock(&self, m: u32) -> Option<Instant> {
        if !self.options.resident || self.stopping {
            return None;
        }
        let map = &self.maps[m];
        let activation = if map.own { map.activate_after.filter(|&t| t > self.now) } else { None };
        let slow = map.activation_since().filter(|_| !map.told_init).map(|t| t + SLOW);
        [map.queue.poll_at(map.settings.no_path_retry, self.interval), map.failback.poll_at(), map.failback_rest, activation, slow]
            .into_iter()
            .flatten()
            .min()
    }
}
