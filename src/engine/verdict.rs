//! What a verdict leads to: the path's state, its next check, whether it is one that comes and goes, and when its timer is due.
//!
//! What the kernel is told follows from the state (mapnext.rs).

use super::marginal::{self, Treatment};
use super::note::{Cause, What};
use super::path::{Fds, Job};
use super::probe::Question;
use super::schedule::{self, Outcome};
use super::storage::NONE;
use super::{Context, Engine, Ticket};
use crate::conf::settings::MarginalPathgroups;
use crate::fault::Errno;
use crate::model::{DmPathState, Instant, PathId, PathState, SysState};
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

impl Engine<'_> {
    /// The checker has spoken. `more`: a priority is asked for next, so the first verdict is not complete.
    #[inline(never)]
    pub(super) fn verdict(&mut self, cx: &Context<'_>, i: u32, state: PathState, cause: Cause, more: bool) {
        let p = &mut self.paths[i];
        if p.gone || p.map == NONE {
            return;
        }
        let (from, first) = (p.state, !p.judged);
        // Could not judge, or was not let: the old state stands. A path that was never judged is held to be waiting.
        let to = match state {
            PathState::Wild | PathState::Unchecked | PathState::Removed if first => PathState::Down,
            PathState::Wild | PathState::Unchecked | PathState::Removed => from,
            PathState::Pending if !first => from,
            other => other,
        };
        if state == PathState::Pending {
            // Blocked, or in transition: soon known.
            p.next_check = cx.now + SECOND;
            return self.path_arm(i);
        }
        if state == PathState::Wild && p.stale && !first {
            // The kernel has failed it, and nothing says that it is good.
            p.next_check = cx.now + SECOND;
            return self.path_arm(i);
        }
        let to = self.hold_back(cx, i, from, to);
        let p = &mut self.paths[i];
        p.state = to;
        p.cause = cause;
        p.judged |= !more;
        let was_stale = core::mem::take(&mut p.stale);
        if to.usable() {
            p.last_good = Some(cx.now);
        } else {
            // Its cable, not the kernel's doing alone: what it returns from counts as its return, once, and not as a second failure.
            p.dipped &= !super::ports::silent(to, cause);
            p.failures = p.failures.saturating_add(u32::from(from.usable()));
        }
        self.schedule(cx, i, from);
        self.port_heard(i, super::ports::silent(to, cause));
        if from != to {
            self.note(Some(i), self.map_id_of(i), What::PathState { from, to, cause });
            self.path_turned(cx, i, from, to);
        }
        // Asked for again until it is answered.
        self.paths[i].look |= self.paths[i].unsure;
        let m = self.paths[i].map;
        if from != to || first || was_stale {
            self.maps[m].replan |= first;
            self.refresh_usable(cx, m);
            self.map_touch(m);
        } else if self.paths[i].dm == DmPathState::Failed && to.usable() || self.paths[i].dm == DmPathState::Active && !to.usable() {
            self.map_touch(m);
        }
        self.path_account(i);
        self.path_arm(i);
    }

    /// A path became usable, or stopped to be: its port's others are asked, or its identity is looked at.
    pub(super) fn path_turned(&mut self, cx: &Context<'_>, i: u32, from: PathState, to: PathState) {
        match (from.usable(), to.usable()) {
            (true, false) if to != PathState::Delayed => self.port_suspect(cx, i),
            (false, true) => {
                // Behind a name that was away there may be another disk now.
                let recheck = self.profiles.get(self.paths[i].profile).is_some_and(|p| p.settings.recheck_wwid);
                let p = &mut self.paths[i];
                p.unsure = recheck && from != PathState::Unchecked;
            }
            _ => {}
        }
        let purge = self.profiles.get(self.paths[i].profile).is_some_and(|p| p.settings.purge_disconnected);
        self.paths[i].purge = purge && to == PathState::Disconnected;
    }

    /// Is the path one that comes and goes? Then it is held back, or put among the marginal ones.
    pub(super) fn hold_back(&mut self, cx: &Context<'_>, i: u32, from: PathState, to: PathState) -> PathState {
        let m = self.paths[i].map;
        let alone = !self.other_usable(m, i);
        let shaky = self.maps[m].settings.shaky;
        // Held back, it is neither good nor bad for the counting.
        let before = if from == PathState::Delayed { PathState::Up } else { from };
        let verdict = self.paths[i].history.checked(cx.now, before, to, alone, &shaky);
        self.shakiness(cx, i, verdict, to)
    }

    /// What follows from a path being shaky or not.
    pub(super) fn shakiness(&mut self, cx: &Context<'_>, i: u32, verdict: marginal::Verdict, to: PathState) -> PathState {
        let m = self.paths[i].map;
        let groups: MarginalPathgroups = cx.settings.globals().marginal_pathgroups;
        let treatment = marginal::treatment(verdict, groups);
        let marginal = treatment == Treatment::Marginal;
        if self.paths[i].marginal != marginal {
            self.paths[i].marginal = marginal;
            let map = &mut self.maps[m];
            (map.regroup, map.replan) = (true, true);
            self.map_touch(m);
        }
        let held = treatment != Treatment::Normal;
        if self.paths[i].shaky != held {
            self.paths[i].shaky = held;
            self.note(Some(i), Some(m), if held { What::Shaky } else { What::Steady });
        }
        match treatment {
            Treatment::HoldOut if to.usable() => PathState::Delayed,
            _ => to,
        }
    }

    pub(super) fn other_usable(&self, m: u32, i: u32) -> bool {
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            if at != i && self.paths[at].usable() {
                return true;
            }
            at = self.path_by_map.next(at);
        }
        false
    }

    /// A sampling read ended.
    pub(super) fn sampled(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, result: Result<u32, Errno>) {
        let Some(i) = self.path_answer(cx, id, ticket, Job::Sample) else { return };
        self.sample_read(cx, i, result.is_ok_and(|n| n > 0));
        self.path_arm(i);
    }

    pub(super) fn sample_read(&mut self, cx: &Context<'_>, i: u32, good: bool) {
        let m = self.paths[i].map;
        if m == NONE {
            return;
        }
        let shaky = self.maps[m].settings.shaky;
        let verdict = self.paths[i].history.read(cx.now, good, &shaky);
        self.sample_weigh(cx, i, verdict);
    }

    /// The time of sampling may be over between two reads.
    pub(super) fn sample_over(&mut self, cx: &Context<'_>, i: u32) {
        let m = self.paths[i].map;
        if m != NONE && self.paths[i].history.verdict() != marginal::Verdict::Normal {
            let shaky = self.maps[m].settings.shaky;
            let verdict = self.paths[i].history.poll(cx.now, &shaky);
            self.sample_weigh(cx, i, verdict);
        }
    }

    pub(super) fn sample_weigh(&mut self, cx: &Context<'_>, i: u32, verdict: marginal::Verdict) {
        let state = self.paths[i].state;
        self.shakiness(cx, i, verdict, state);
        if verdict == marginal::Verdict::Normal && state == PathState::Delayed {
            // Released: the next check says what it is.
            self.check_now(cx, i);
        }
    }

    /// When the next check is due.
    pub(super) fn schedule(&mut self, cx: &Context<'_>, i: u32, from: PathState) {
        let globals = cx.settings.globals();
        let secs = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
        let count = self.paths.used;
        let p = &mut self.paths[i];
        let outcome = if !p.state.usable() {
            Outcome::Failed
        } else if from == p.state {
            Outcome::Steady
        } else {
            Outcome::Changed
        };
        let (least, most) = (secs(globals.polling_interval), secs(globals.max_polling_interval));
        p.next_check = schedule::next_check(cx.now, outcome, &mut p.interval_secs, least, most, (i, count));
    }

    /// Is the path kept from the kernel although it answers?
    pub(super) fn held_back(&self, i: u32) -> bool {
        self.paths[i].failed_by_admin
    }

    /// Counts the path among those without a first verdict, or not.
    pub(super) fn path_account(&mut self, i: u32) {
        let p = &self.paths[i];
        let open = if p.map == NONE { self.nodes_return(i) } else { !p.gone && !p.judged && !self.unasked(i) };
        let p = &mut self.paths[i];
        if p.open != open {
            p.open = open;
            if open { self.open_paths += 1 } else { self.open_paths -= 1 }
        }
    }

    /// Sets the path's timer after something happened to it; what is due already has its turn.
    pub(super) fn path_arm(&mut self, i: u32) {
        let p = &self.paths[i];
        let due = |t: Option<Instant>| t.is_some_and(|t| t <= self.now);
        if p.job == Job::None && (due(p.retry_at) || due(p.smart_until) || p.next_check <= self.now) {
            self.path_touch(i);
        }
        self.path_timer(i);
    }

    /// Sets the path's timer. A time that has passed is not set again: what was due has had its turn, and something else is in its way.
    /// Not so a deadline: it ends the job when its timer is seen.
    pub(super) fn path_timer(&mut self, i: u32) {
        let p = &self.paths[i];
        let now = self.now;
        let mut at: Option<Instant> = None;
        let mut earlier = |t: Option<Instant>| {
            if let Some(t) = t.filter(|&t| t > now) {
                at = Some(at.map_or(t, |a| a.min(t)));
            }
        };
        if p.job == Job::None && !p.gone && p.map != NONE {
            earlier(p.retry_at);
            if p.fds == Fds::Open && (self.options.resident || !p.judged) {
                earlier(Some(p.next_check));
                earlier(p.history.poll_at());
            }
            if let Some(Question::Wait(t)) = self.probes.get(p.probe).map(|k| k.question) {
                earlier(Some(t));
            }
        }
        if p.job == Job::None && (p.map == NONE && p.announced && !p.gone || p.fds == Fds::Closing) {
            earlier(p.retry_at);
        }
        if p.job == Job::None && self.stands_for_another(i) {
            earlier(Some(p.next_check));
        }
        earlier(p.smart_until);
        if p.job != Job::None {
            at = Some(at.map_or(p.deadline, |a| a.min(p.deadline)));
        }
        self.timers.set(i, at);
    }
}

/// What a device's state in sysfs means for its path; `None` where it must be asked.
pub(super) fn sys_verdict(state: SysState) -> Option<PathState> {
    match state {
        SysState::Running | SysState::Unknown => None,
        SysState::Offline | SysState::TransportOffline | SysState::Deleted => Some(PathState::Down),
        SysState::Blocked | SysState::Quiesce | SysState::Created => Some(PathState::Pending),
    }
}
