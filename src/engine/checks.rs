//! Checks of paths: when, by which machine, and what a verdict leads to.
//!
//! A verdict moves the path's state; what the kernel is told follows from the state (mapsteps.rs). Failed paths are asked every second,
//! good ones at an interval that grows. Never decides which path is used.

use super::checker::{self, Answer, Checker, Subject, Verdict};
use super::note::{Cause, What};
use super::path::Job;
use super::probe::{ProbeSlot, Question, Stage};
use super::schedule::{self, Outcome, PortChange};
use super::storage::NONE;
use super::{Context, Engine, Ticket};
use crate::conf::settings::{CheckerKind, PrioKind};
use crate::model::{AccessState, DmPathState, Instant, PathId, PathState, Prio, SysState};
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// Added to a command's own time limit before an answer is taken for lost.
const GRACE: Duration = Duration::from_secs(2);

impl Engine<'_> {
    /// The path joined a map: ask it as soon as it can be asked.
    pub(super) fn path_start(&mut self, cx: &Context<'_>, i: u32) {
        let p = &mut self.paths[i];
        p.judged = false;
        p.state = PathState::Unchecked;
        p.next_check = cx.now;
        p.retry_at = None;
        p.prio_kind = self.profiles[p.profile].settings.prio;
        self.path_account(i);
        self.path_touch(i);
    }

    /// Asks the path now instead of at its time.
    pub(super) fn check_now(&mut self, cx: &Context<'_>, i: u32) {
        if self.paths[i].map == NONE {
            return;
        }
        let p = &mut self.paths[i];
        p.next_check = p.next_check.min(cx.now);
        p.retry_at = None;
        self.path_touch(i);
    }

    /// Begins the check of a path whose fds are open. False when no slot is free.
    pub(super) fn probe_start(&mut self, cx: &Context<'_>, i: u32) -> bool {
        let Ok(k) = self.probes.take() else { return false };
        let p = &self.paths[i];
        let settings = &self.profiles[p.profile].settings;
        let timeout = match cx.settings.globals().checker_timeout {
            Some(t) => t,
            None => p.timeout_secs,
        };
        let subject = Subject {
            state: sys_verdict(p.sys).unwrap_or(PathState::Up),
            block_size: p.block_size,
            timeout_secs: u16::try_from(timeout).unwrap_or(u16::MAX),
        };
        let head = self.probes[k].head;
        let (stage, question) = if settings.checker == CheckerKind::None {
            // Nothing to send: what sysfs says is all there is.
            (Stage::Idle, Question::State)
        } else {
            let (checker, step) = Checker::start(settings.checker, subject, &p.memory);
            (Stage::Check(checker), Question::from(step))
        };
        self.probes[k] = ProbeSlot { head, stage, question };
        self.paths[i].probe = k;
        true
    }

    pub(super) fn probe_end(&mut self, i: u32) {
        let k = self.paths[i].probe;
        if k != NONE {
            self.paths[i].probe = NONE;
            self.probes.give(k);
        }
    }

    /// How long the answer to a question may take.
    pub(super) fn probe_time(&self, i: u32) -> Duration {
        let k = self.paths[i].probe;
        let secs = match self.probes.get(k).map(|p| &p.question) {
            Some(Question::Scsi(command)) => command.timeout_secs,
            _ => crate::wire::scsi::TIMEOUT_SECS,
        };
        Duration::from_secs(u64::from(secs)) + GRACE
    }

    /// Is this answer the one that is awaited? Anything else is dropped and counted; of an overdue job it says that the path's worker
    /// is back, so the path is asked again.
    fn path_answer(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, job: Job) -> Option<u32> {
        let i = id.index;
        let known = self.paths.get(i).is_some_and(|p| p.head.generation == id.generation);
        if known && self.paths[i].overdue == Some(ticket) {
            self.paths[i].overdue = None;
            self.check_now(cx, i);
            self.path_touch(i);
            self.stale_answers = self.stale_answers.saturating_add(1);
            return None;
        }
        if !known || self.paths[i].ticket != ticket || self.paths[i].job != job {
            self.stale_answers = self.stale_answers.saturating_add(1);
            return None;
        }
        self.path_job_done(i);
        Some(i)
    }

    /// The path is free for another job; so is its port's share.
    pub(super) fn path_job_done(&mut self, i: u32) {
        self.paths[i].job = Job::None;
        self.paths[i].overdue = None;
        self.port_release(i);
        self.path_touch(i);
        let m = self.paths[i].map;
        if self.maps.get(m).is_some_and(|map| map.part_table == super::map::PartTable::Unread && map.have.active) {
            self.map_touch(m);
        }
    }

    pub(super) fn opened(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, result: Result<(), crate::fault::Errno>) {
        let Some(i) = self.path_answer(cx, id, ticket, Job::Open) else { return };
        let p = &mut self.paths[i];
        match result {
            Ok(()) => {
                p.fds = super::path::Fds::Open;
                p.failures_to_open = 0;
                p.next_check = cx.now;
            }
            Err(errno) => {
                if p.failures_to_open == 0 {
                    self.note(Some(i), self.map_id_of(i), What::OpenFailed(errno));
                }
                let p = &mut self.paths[i];
                p.failures_to_open = p.failures_to_open.saturating_add(1);
                p.retry_at = Some(cx.now + SECOND);
                self.verdict(cx, i, PathState::Down, Cause::Errno(errno));
            }
        }
    }

    pub(super) fn state_answer(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, state: SysState) {
        let Some(i) = self.path_answer(cx, id, ticket, Job::Probe) else { return };
        self.paths[i].sys = state;
        self.probe_end(i);
        let to = sys_verdict(state).unwrap_or(PathState::Up);
        self.verdict(cx, i, to, Cause::Sys(state));
    }

    pub(super) fn probe_answer(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, answer: Answer<'_>) {
        let Some(i) = self.path_answer(cx, id, ticket, Job::Probe) else { return };
        let k = self.paths[i].probe;
        if k == NONE {
            return;
        }
        self.paths[i].sys = SysState::Running;
        let m = self.paths[i].map;
        let mut unused = checker::MapMemory::default();
        let map_memory = if m == NONE { &mut unused } else { &mut self.maps[m].memory };
        let step = match &mut self.probes[k].stage {
            Stage::Check(checker) => checker.next(answer, &mut self.paths[i].memory, map_memory),
            Stage::Idle => return,
        };
        match step {
            checker::Step::Done(Verdict { state, cause }) => {
                self.probe_end(i);
                self.verdict(cx, i, state, Cause::from(cause));
            }
            other => self.probes[k].question = Question::from(other),
        }
    }

    /// An attribute was written.
    pub(super) fn written(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, result: Result<(), crate::fault::Errno>) {
        let Some(i) = self.path_answer(cx, id, ticket, Job::Write) else { return };
        let p = &mut self.paths[i];
        match result {
            // The port is blocked: later. (Any other refusal stays one; the rest of the list may still be taken.)
            Err(crate::fault::Errno::BUSY | crate::fault::Errno::AGAIN) => p.tune_at = cx.now + Duration::from_secs(5),
            _ => p.tuned = p.tuned.saturating_add(1),
        }
    }

    /// No answer in time: the worker stays parked on the device, the path counts as not answering.
    pub(super) fn path_overdue(&mut self, cx: &Context<'_>, i: u32) {
        let job = self.paths[i].job;
        let ticket = self.paths[i].ticket;
        self.path_job_done(i);
        self.paths[i].overdue = Some(ticket);
        self.probe_end(i);
        match job {
            Job::Open => {
                self.paths[i].retry_at = Some(cx.now + SECOND);
                self.verdict(cx, i, PathState::Timeout, Cause::NoAnswer);
            }
            Job::Probe => self.verdict(cx, i, PathState::Timeout, Cause::NoAnswer),
            Job::None | Job::Write | Job::Partitions => {}
        }
    }

    /// The checker has spoken.
    pub(super) fn verdict(&mut self, cx: &Context<'_>, i: u32, state: PathState, cause: Cause) {
        let p = &mut self.paths[i];
        if p.gone || p.map == NONE {
            return;
        }
        let (from, first) = (p.state, !p.judged);
        // Could not judge, or was not let: the old state stands. A path that was never judged is held to be waiting.
        let to = match state {
            PathState::Wild | PathState::Unchecked if first => PathState::Down,
            PathState::Wild | PathState::Unchecked => from,
            PathState::Pending if !first => from,
            other => other,
        };
        if to == PathState::Pending {
            p.next_check = cx.now + SECOND;
            self.path_arm(i);
            return;
        }
        p.state = to;
        p.judged = true;
        p.cause = cause;
        let was_stale = core::mem::take(&mut p.stale) && state != PathState::Pending;
        if to.usable() {
            p.last_good = Some(cx.now);
        } else if from.usable() {
            p.failures = p.failures.saturating_add(1);
        }
        self.schedule(cx, i, from);
        self.port_heard(cx, i, cause);
        self.refresh_prio(i);
        if from != to {
            self.note(Some(i), self.map_id_of(i), What::PathState { from, to, cause });
            if from.usable() && !to.usable() {
                self.port_suspect(cx, i);
            }
        }
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

    /// When the next check is due.
    fn schedule(&mut self, cx: &Context<'_>, i: u32, from: PathState) {
        let globals = cx.settings.globals();
        let secs = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
        let p = &mut self.paths[i];
        let outcome = if !p.state.usable() {
            Outcome::Failed
        } else if from != p.state || p.interval_secs == 0 {
            Outcome::Changed
        } else {
            Outcome::Steady
        };
        let (least, most) = (secs(globals.polling_interval), secs(globals.max_polling_interval));
        p.next_check = schedule::next_check(cx.now, outcome, &mut p.interval_secs, least, most, i);
    }

    /// Keeps the port's count of silent paths: when they fall silent together one is asked for all, and the first answer makes all of
    /// them due.
    fn port_heard(&mut self, cx: &Context<'_>, i: u32, cause: Cause) {
        let p = &self.paths[i];
        let unheard = matches!(cause, Cause::NoAnswer | Cause::Host(_) | Cause::Driver(_) | Cause::Errno(_) | Cause::Sys(_));
        let silent = unheard && !p.state.usable();
        let (port, was) = (p.port, core::mem::replace(&mut self.paths[i].silent, silent));
        if port == NONE {
            return;
        }
        let paths = self.ports[port].paths.len;
        match self.ports[port].silence.checked(was, silent, paths) {
            PortChange::Nothing => {}
            PortChange::Down => self.note(Some(i), None, What::PortDown),
            PortChange::Up => {
                self.note(Some(i), None, What::PortUp);
                let mut at = self.ports[port].paths.head;
                while at != NONE {
                    let next = self.path_by_port.next(at);
                    if at != i {
                        self.check_now(cx, at);
                    }
                    at = next;
                }
            }
        }
    }

    /// The priority, where no command is needed for it.
    fn refresh_prio(&mut self, i: u32) {
        let p = &self.paths[i];
        let prio = match p.prio_kind {
            PrioKind::Const => Prio(1),
            _ => match p.access {
                None => Prio::UNDEFINED,
                Some(access) => Prio(
                    match access {
                        AccessState::Optimized => 50,
                        AccessState::NonOptimized => 10,
                        AccessState::LbaDependent => 5,
                        AccessState::Standby => 1,
                        _ => 0,
                    } + if p.preferred && access != AccessState::Optimized { 80 } else { 0 },
                ),
            },
        };
        self.set_prio(i, prio);
    }

    pub(super) fn set_prio(&mut self, i: u32, prio: Prio) {
        let before = self.paths[i].prio;
        if before == prio {
            return;
        }
        self.paths[i].prio = prio;
        self.note(Some(i), self.map_id_of(i), What::PrioChanged { from: before.0, to: prio.0 });
        let m = self.paths[i].map;
        if m != NONE {
            self.maps[m].replan = true;
            self.map_touch(m);
        }
    }

    /// A path of this port failed: ask the others at once, as far as its share of the pool goes.
    fn port_suspect(&mut self, cx: &Context<'_>, i: u32) {
        let port = self.paths[i].port;
        if port == NONE {
            return;
        }
        let mut at = self.ports[port].paths.head;
        let mut left = super::PORT_BURST;
        while at != NONE && left > 0 {
            let next = self.path_by_port.next(at);
            if at != i && self.paths[at].state.usable() {
                self.check_now(cx, at);
                left -= 1;
            }
            at = next;
        }
    }

    /// Is the path kept from the kernel although it answers?
    pub(super) fn held_back(&self, _m: u32, i: u32) -> bool {
        self.paths[i].admin == super::path::Admin::Failed
    }

    /// Counts the path among those without a first verdict, or not.
    pub(super) fn path_account(&mut self, i: u32) {
        let p = &mut self.paths[i];
        let open = p.map != NONE && !p.gone && !p.judged;
        if p.open != open {
            p.open = open;
            if open { self.open_paths += 1 } else { self.open_paths -= 1 }
        }
    }

    /// Sets the path's timer. A time that has passed is not set again: what was due has had its turn, and something else is in its way.
    pub(super) fn path_arm(&mut self, i: u32) {
        let p = &self.paths[i];
        let now = self.now;
        let mut at: Option<Instant> = None;
        let mut earlier = |t: Option<Instant>| {
            if let Some(t) = t.filter(|&t| t > now) {
                at = Some(at.map_or(t, |a| a.min(t)));
            }
        };
        if p.job != Job::None {
            earlier(Some(p.deadline));
        } else if !p.gone && p.map != NONE {
            earlier(p.retry_at);
            if p.fds == super::path::Fds::Open && (self.options.resident || !p.judged) {
                earlier(Some(p.next_check));
            }
        }
        earlier(p.smart_until);
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
