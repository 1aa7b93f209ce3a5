//! Checks of paths: when, by which machine, and what a verdict leads to.
//!
//! A probe is detection (once), the checker, then the prioritizer. A verdict moves the path's state; what the kernel is told follows
//! from the state (mapnext.rs). While a map's I/O waits for a path nothing is asked that a reinstate does not need: a prioritizer's
//! data buffer is memory the kernel has to find. Never decides which path is used.

use super::checker::{self, Answer, Checker, Subject, Verdict};
use super::detect::{self, Evidence};
use super::note::{Cause, What};
use super::path::{Fds, Job};
use super::prio::{self, Prioritizer};
use super::probe::{ProbeSlot, Question, Stage};
use super::storage::NONE;
use super::verdict::sys_verdict;
use super::{Context, Engine, Ticket};
use crate::conf::settings::{CheckerKind, PrioKind};
use crate::fault::Errno;
use crate::model::{Bus, PathFacts, PathId, PathState, Prio, SysState};
use crate::wire::scsi::Reply;
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// Added to a command's own time limit before an answer is taken for lost.
const GRACE: Duration = Duration::from_secs(2);

impl Engine<'_> {
    /// The path joined a map: ask it as soon as it can be asked.
    pub(super) fn path_start(&mut self, cx: &Context<'_>, i: u32, facts: &PathFacts) {
        let p = &mut self.paths[i];
        p.judged = false;
        p.state = PathState::Unchecked;
        p.next_check = cx.now;
        p.retry_at = None;
        p.tuned = 0;
        p.announced = false;
        p.limit = p.limit.renewed();
        self.path_detect(i, facts);
        self.path_account(i);
        self.path_touch(i);
    }

    /// Checker and prioritizer, as far as sysfs tells; a question to the device may follow.
    pub(super) fn path_detect(&mut self, i: u32, facts: &PathFacts) {
        let settings = &self.profiles[self.paths[i].profile].settings;
        let found = detect::detect(facts, settings, Evidence::default());
        let asks = !matches!(detect::question(facts, settings), detect::Question::Nothing);
        let p = &mut self.paths[i];
        (p.checker, p.prio_kind, p.keep_args) = (found.checker, found.prio, found.keep_args);
        p.undetected = asks;
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

    fn timeout_secs(&self, cx: &Context<'_>, i: u32) -> u16 {
        let secs = cx.settings.globals().checker_timeout.unwrap_or(self.paths[i].timeout_secs);
        u16::try_from(secs).unwrap_or(u16::MAX)
    }

    /// Begins the check of a path whose fds are open. False when no slot is free.
    pub(super) fn probe_start(&mut self, cx: &Context<'_>, i: u32) -> bool {
        let Ok(k) = self.probes.take() else { return false };
        let head = self.probes[k].head;
        self.probes[k] = ProbeSlot { head, ..ProbeSlot::default() };
        self.paths[i].probe = k;
        if self.paths[i].undetected {
            let facts = self.facts_of(i);
            let settings = &self.profiles[self.paths[i].profile].settings;
            let question = match detect::question(&facts, settings) {
                detect::Question::Scsi(command) => Some(Question::Scsi(command)),
                detect::Question::Nvme(admin) => Some(Question::Admin(admin)),
                detect::Question::Nothing => None,
            };
            if let Some(question) = question {
                self.probes[k].stage = Stage::Detect;
                self.probes[k].question = question;
                return true;
            }
        }
        self.probe_check(cx, i);
        true
    }

    /// The checker's turn.
    fn probe_check(&mut self, cx: &Context<'_>, i: u32) {
        let timeout_secs = self.timeout_secs(cx, i);
        let p = &self.paths[i];
        let (stage, question) = if p.checker == CheckerKind::None {
            // Nothing to send: what sysfs says is all there is.
            (Stage::State, Question::State)
        } else {
            let state = sys_verdict(p.sys).unwrap_or(PathState::Up);
            let subject = Subject { state, block_size: p.block_size, timeout_secs, scsi: p.bus == Bus::Scsi };
            let (checker, step) = Checker::start(p.checker, subject, &p.memory);
            (Stage::Check(checker), Question::from(step))
        };
        let probe = &mut self.probes[p.probe];
        (probe.stage, probe.question) = (stage, question);
    }

    pub(super) fn probe_end(&mut self, i: u32) {
        let k = self.paths[i].probe;
        if k != NONE {
            self.paths[i].probe = NONE;
            // However an activation ends: its map waits for it no longer.
            if let (Stage::Activate(machine), Some(_)) = (self.probes[k].stage, self.maps.get(self.paths[i].map)) {
                let map = &mut self.maps[self.paths[i].map];
                (map.activating, map.activate_after) = (None, Some(self.now + SECOND));
                if machine.asked() {
                    map.guard.took(self.now);
                }
            }
            self.probes.give(k);
            if let Some(next) = self.path_probe_chain.pop_front(&mut self.probe_wait) {
                self.path_touch(next);
            }
        }
    }

    /// How long the answer to a question may take.
    pub(super) fn probe_time(&self, cx: &Context<'_>, i: u32) -> Duration {
        let k = self.paths[i].probe;
        let secs = match self.probes.get(k).map(|p| &p.question) {
            Some(Question::Scsi(command)) => command.timeout_secs,
            Some(Question::Read(_)) => self.timeout_secs(cx, i),
            _ => 0,
        };
        // Not every kind of disk has one.
        let secs = if secs == 0 { crate::wire::scsi::TIMEOUT_SECS } else { secs };
        Duration::from_secs(u64::from(secs)).saturating_add(GRACE)
    }

    /// Is this answer the one that is awaited? Anything else is dropped; of an overdue job it says that the path's worker
    /// is back, so the path is asked again.
    pub(super) fn path_answer(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, job: Job) -> Option<u32> {
        let i = id.index;
        let known = self.paths.get(i).is_some_and(|p| p.head.generation == id.generation);
        if known && self.paths[i].overdue == Some(ticket) {
            self.path_lost(i, None);
            self.check_now(cx, i);
            self.path_touch(i);
            return None;
        }
        if !known || self.paths[i].ticket != ticket || self.paths[i].job != job {
            return None;
        }
        self.path_job_done(i);
        Some(i)
    }

    /// The path is free for another job; so is its port's share.
    pub(super) fn path_job_done(&mut self, i: u32) {
        self.paths[i].job = Job::None;
        self.path_lost(i, None);
        self.port_release(i);
        self.path_touch(i);
        let m = self.paths[i].map;
        if self.maps.get(m).is_some_and(|map| map.part_table == super::map::PartTable::Unread && map.have.active) {
            self.map_touch(m);
        }
    }

    pub(super) fn opened(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, result: Result<(), Errno>) {
        // Others may wait for its place.
        self.wake |= self.starved > 0;
        let Some(i) = self.path_answer(cx, id, ticket, Job::Open) else { return };
        self.opening.iter_mut().filter(|opening| **opening == Some(id)).for_each(|opening| *opening = None);
        let p = &mut self.paths[i];
        match result {
            Ok(()) => {
                p.fds = Fds::Open;
                p.failures_to_open = 0;
                p.next_check = cx.now;
                let (m, judged) = (p.map, p.judged);
                if judged && self.maps.get(m).is_some() {
                    // One that was judged before it could be opened may stand in the table now.
                    self.maps[m].replan = true;
                    self.map_touch(m);
                }
            }
            Err(errno) => {
                if p.failures_to_open == 0 {
                    self.note(Some(i), self.map_id_of(i), What::OpenFailed(errno));
                }
                let p = &mut self.paths[i];
                p.failures_to_open = p.failures_to_open.saturating_add(1);
                p.retry_at = Some(cx.now + SECOND);
                self.verdict(cx, i, PathState::Down, Cause::Errno(errno), false);
            }
        }
    }

    /// What sysfs says instead of an answer: the state forbids to ask, or is all that there is.
    pub(super) fn state_answer(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, state: SysState) {
        if self.paths.get(id.index).is_some_and(|p| p.head.generation == id.generation && p.job == Job::Sample) {
            return self.sampled(cx, id, ticket, Err(Errno::IO));
        }
        let Some(i) = self.path_answer(cx, id, ticket, Job::Probe) else { return };
        self.paths[i].sys = state;
        match (sys_verdict(state), self.probes.get(self.paths[i].probe).map(|probe| probe.stage)) {
            (None, Some(Stage::State)) => self.checked(cx, i, PathState::Up, Cause::Sys(state)),
            (verdict, _) => {
                self.probe_end(i);
                self.verdict(cx, i, verdict.unwrap_or(PathState::Up), Cause::Sys(state), false);
            }
        }
    }

    /// A reply, a read, or an admin command's data, for whichever machine runs.
    pub(super) fn scsi_answer(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, reply: &Reply<'_>) {
        let Some(i) = self.path_answer(cx, id, ticket, Job::Probe) else { return };
        let k = self.paths[i].probe;
        if k == NONE {
            return;
        }
        self.paths[i].sys = SysState::Running;
        match self.probes[k].stage {
            Stage::State => self.probe_end(i),
            Stage::Detect => self.detected(cx, i, Evidence::from_scsi(reply)),
            Stage::Check(_) => self.check_answer(cx, i, Answer::Scsi(reply)),
            Stage::Prio(_) => {
                if reply.errno.is_none() {
                    self.share_report(cx, i, reply.data);
                }
                self.prio_answer(cx, i, prio::Answer::Scsi(reply));
            }
            Stage::Activate(_) => self.activation_answer(cx, i, Some(reply)),
        }
    }

    pub(super) fn read_answer(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, result: Result<u32, Errno>) {
        if self.paths.get(id.index).is_some_and(|p| p.head.generation == id.generation && p.job == Job::Sample) {
            return self.sampled(cx, id, ticket, result);
        }
        let Some(i) = self.path_answer(cx, id, ticket, Job::Probe) else { return };
        let k = self.paths[i].probe;
        if k == NONE {
            return;
        }
        let micros = u32::try_from(cx.now.since(self.probes[k].sent).as_micros()).unwrap_or(u32::MAX);
        match self.probes[k].stage {
            Stage::Check(_) => self.check_answer(cx, i, Answer::Read(result)),
            Stage::Prio(_) => self.prio_answer(cx, i, prio::Answer::Read { result, micros }),
            Stage::State | Stage::Detect | Stage::Activate(_) => self.probe_end(i),
        }
    }

    pub(super) fn admin_answer(&mut self, cx: &Context<'_>, id: PathId, ticket: Ticket, result: Result<&[u8], Errno>) {
        let Some(i) = self.path_answer(cx, id, ticket, Job::Probe) else { return };
        let k = self.paths[i].probe;
        if k == NONE {
            return;
        }
        match self.probes[k].stage {
            Stage::Detect => self.detected(cx, i, result.map_or(Evidence::default(), Evidence::from_nvme)),
            Stage::Prio(_) => self.prio_answer(cx, i, prio::Answer::Admin(result)),
            Stage::State | Stage::Check(_) | Stage::Activate(_) => self.probe_end(i),
        }
    }

    fn detected(&mut self, cx: &Context<'_>, i: u32, evidence: Evidence) {
        let facts = self.facts_of(i);
        let found = detect::detect(&facts, &self.profiles[self.paths[i].profile].settings, evidence);
        let p = &mut self.paths[i];
        (p.checker, p.prio_kind, p.keep_args) = (found.checker, found.prio, found.keep_args);
        p.undetected = false;
        self.probe_check(cx, i);
    }

    #[inline(never)]
    fn check_answer(&mut self, cx: &Context<'_>, i: u32, answer: Answer<'_>) {
        let (k, m) = (self.paths[i].probe, self.paths[i].map);
        let mut unused = checker::MapMemory::default();
        let map_memory = if m == NONE { &mut unused } else { &mut self.maps[m].memory };
        let Stage::Check(checker) = &mut self.probes[k].stage else { return };
        match checker.next(answer, &mut self.paths[i].memory, map_memory) {
            checker::Step::Done(Verdict { state, cause }) if self.doubtful(i, state, Cause::from(cause)) => self.probe_check(cx, i),
            checker::Step::Done(Verdict { state, cause }) => self.checked(cx, i, state, Cause::from(cause)),
            other => self.probes[k].question = Question::from(other),
        }
    }

    /// The checker has spoken; the prioritizer may be next.
    fn checked(&mut self, cx: &Context<'_>, i: u32, state: PathState, cause: Cause) {
        let (k, m) = (self.paths[i].probe, self.paths[i].map);
        // A prioritizer that says nothing about a path which does not answer is not asked.
        // Nor is one for whose answer waiting I/O would wait longer: that is made up for.
        let hurry = self.maps.get(m).is_some_and(|map| map.starved) && !self.quiet();
        let more = (state.usable() || !self.paths[i].judged) && state != PathState::Pending && !hurry;
        self.paths[i].prio_owed |= hurry && !self.paths[i].judged;
        if more && state != self.paths[i].state {
            self.paths[i].prio_at = None;
            if m != NONE && state.usable() {
                // Its priority is of another time: failback waits for today's.
                self.maps[m].prio_changed = self.maps[m].prio_changed.or(Some(cx.now));
            }
        }
        self.verdict(cx, i, state, cause, more && self.prio_due(cx, i));
        if self.paths[i].probe == k {
            if more && self.paths[i].map != NONE {
                self.probe_prio(cx, i);
            } else {
                self.probe_end(i);
            }
        }
    }

    /// Bad news of a good path, in the device's own words: one reply may be garbled, and a path failed for it may move the LUN. So it is
    /// asked once more, at once. Silence needs no second question, and another LUN behind the name is not written to meanwhile.
    fn doubtful(&mut self, i: u32, state: PathState, cause: Cause) -> bool {
        let p = &mut self.paths[i];
        let told = matches!(cause, Cause::Sense { .. } | Cause::Status(_) | Cause::Array(_));
        p.doubted = p.judged && p.state.usable() && !state.usable() && state != PathState::Pending && told && !p.doubted;
        p.doubted
    }

    /// Is a priority wanted now? One report serves all paths of a LUN, whose checks are spread over a round: two reports a round, one for
    /// each target port group where there are two. What changes meanwhile shows in the paths' states.
    fn prio_due(&self, cx: &Context<'_>, i: u32) -> bool {
        let p = &self.paths[i];
        let round = Duration::from_secs(u64::from(p.interval_secs)).max(cx.settings.globals().polling_interval);
        p.prio == Prio::UNDEFINED || p.prio_at.is_none_or(|t| cx.now.since(t) >= round / 2)
    }

    /// The prioritizer's turn.
    #[inline(never)]
    fn probe_prio(&mut self, cx: &Context<'_>, i: u32) {
        if !self.prio_due(cx, i) {
            self.probe_end(i);
            return self.probed(cx, i);
        }
        let facts = self.facts_of(i);
        let timeout_secs = self.timeout_secs(cx, i);
        let seed = (cx.now.as_micros() as u32) ^ i;
        let p = &self.paths[i];
        let args = if p.keep_args { self.profiles[p.profile].settings.prio_args.as_str() } else { "" };
        let (machine, step) = Prioritizer::start(p.prio_kind, &prio::Subject { facts: &facts, args, seed, timeout_secs });
        self.prio_step(cx, i, machine, step);
    }

    #[inline(never)]
    fn prio_answer(&mut self, cx: &Context<'_>, i: u32, answer: prio::Answer<'_>) {
        let facts = self.facts_of(i);
        let timeout_secs = self.timeout_secs(cx, i);
        let p = &self.paths[i];
        let Stage::Prio(mut machine) = self.probes[p.probe].stage else { return };
        let args = if p.keep_args { self.profiles[p.profile].settings.prio_args.as_str() } else { "" };
        let step = machine.next(&prio::Subject { facts: &facts, args, seed: 0, timeout_secs }, answer);
        self.prio_step(cx, i, machine, step);
    }

    fn prio_step(&mut self, cx: &Context<'_>, i: u32, machine: Prioritizer, step: prio::Step) {
        let k = self.paths[i].probe;
        match step {
            prio::Step::Done(prio::Verdict { prio, .. }) => {
                self.probe_end(i);
                let p = &self.paths[i];
                // An array that does not tell, or whose list is too long: what the kernel's handler knows, if there is one.
                let known = p.access.filter(|_| p.prio_kind == PrioKind::Alua && prio == Prio::UNDEFINED);
                self.set_prio(cx, i, known.map_or(prio, |state| prio::alua::priority(state, p.preferred, false)));
                self.probed(cx, i);
            }
            other => {
                self.probes[k].stage = Stage::Prio(machine);
                self.probes[k].question = Question::from(other);
            }
        }
    }

    /// A reply to REPORT TARGET PORT GROUPS speaks of all paths of the LUN.
    fn share_report(&mut self, cx: &Context<'_>, i: u32, data: &[u8]) {
        let m = self.paths[i].map;
        if self.paths[i].prio_kind != PrioKind::Alua || m == NONE {
            return;
        }
        let mut at = self.maps[m].paths.head;
        while at != NONE {
            let next = self.path_by_map.next(at);
            let p = &self.paths[at];
            if at != i
                && p.prio_kind == PrioKind::Alua
                && let Some(group) = p.target_port_group
            {
                let args = if p.keep_args { self.profiles[p.profile].settings.prio_args.as_str() } else { "" };
                if let Some(prio) = prio::alua::priority_from(data, group, prio::alua::exclusive(args)) {
                    self.set_prio(cx, at, prio);
                }
            }
            at = next;
        }
    }

    pub(super) fn set_prio(&mut self, cx: &Context<'_>, i: u32, prio: Prio) {
        let p = &mut self.paths[i];
        p.prio_at = Some(cx.now);
        let before = p.prio;
        let m = p.map;
        if self.maps.get(m).is_some_and(|map| map.prio_changed.is_some()) {
            self.map_touch(m);
        }
        // Not known now: what was known stands.
        if before == prio || prio == Prio::UNDEFINED {
            return;
        }
        self.paths[i].prio = prio;
        self.note(Some(i), self.map_id_of(i), What::PrioChanged { from: before.0, to: prio.0 });
        if m != NONE {
            if core::mem::take(&mut self.paths[i].prio_owed) {
                // It stands in a table that was made without knowing.
                (self.maps[m].regroup, self.maps[m].replan) = (true, true);
                self.map_touch(m);
            }
            self.ownership(cx, i, before);
            // One LUN moves for all its paths: those that were asked before it was seen to are asked before they are grouped anew.
            if before != Prio::UNDEFINED {
                let map = &mut self.maps[m];
                let since = *map.prio_moved.get_or_insert(cx.now);
                map.prio_changed = map.prio_changed.or(Some(cx.now));
                let mut at = map.paths.head;
                while at != NONE {
                    let next = self.path_by_map.next(at);
                    let p = &self.paths[at];
                    if at != i && p.stands() && p.prio_at.is_none_or(|t| t < since) {
                        self.paths[at].prio_at = None;
                        self.check_now(cx, at);
                    }
                    at = next;
                }
            }
            self.maps[m].replan = true;
            self.map_touch(m);
        }
    }

    /// The whole probe is over: the path has had its first verdict.
    fn probed(&mut self, cx: &Context<'_>, i: u32) {
        let p = &mut self.paths[i];
        if p.map == NONE || p.gone {
            return;
        }
        let first = !p.judged;
        p.judged = true;
        let m = p.map;
        if first {
            self.maps[m].replan = true;
            self.refresh_usable(cx, m);
            self.map_touch(m);
        }
        self.path_account(i);
        self.path_arm(i);
    }

    /// No answer in time: the worker stays parked on the device, the path counts as not answering.
    pub(super) fn path_overdue(&mut self, cx: &Context<'_>, i: u32) {
        let job = self.paths[i].job;
        let ticket = self.paths[i].ticket;
        self.path_job_done(i);
        self.path_lost(i, Some(ticket));
        let activating = self.probes.get(self.paths[i].probe).is_some_and(|p| matches!(p.stage, Stage::Activate(_)));
        self.probe_end(i);
        match job {
            Job::Open => {
                self.paths[i].retry_at = Some(cx.now + SECOND);
                self.verdict(cx, i, PathState::Timeout, Cause::NoAnswer, false);
            }
            Job::Probe => {
                if activating {
                    self.activation_lost(cx, i);
                }
                self.verdict(cx, i, PathState::Timeout, Cause::NoAnswer, false);
            }
            Job::Sample => {
                self.sample_read(cx, i, false);
                self.verdict(cx, i, PathState::Timeout, Cause::NoAnswer, false);
            }
            Job::Write if self.paths[i].map != NONE => self.write_failed(cx, i, Errno::TIMEDOUT),
            Job::Write => {}
            Job::Partitions => self.part_overdue(ticket),
            Job::None => {}
        }
    }
}
