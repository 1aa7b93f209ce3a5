//! The next step of a path: open it, ask it, close it; one job at a time, and no more jobs per port than its share of the pool.

use super::map::Known;
use super::note::Cause;
use super::path::{Fds, Job};
use super::probe::Question;
use super::schedule::Ask;
use super::storage::NONE;
use super::{Action, Context, Engine, Refused, tuning};
use crate::model::PathState;
use core::time::Duration;

/// What came of a path's turn.
pub(super) enum Turn {
    Idle,
    Sent,
    Refused(Refused),
    /// No probe slot is free: the queue waits for one.
    Stalled,
}

type Emit<'e> = dyn FnMut(Action<'_>) -> Result<(), Refused> + 'e;

impl Engine<'_> {
    /// Something that allocates in the kernel for this path: not while another map's I/O waits for a path. For its own starving map
    /// it is the way out.
    fn may_allocate(&self, i: u32) -> bool {
        let p = &self.paths[i];
        let own = self.maps.get(p.map).is_some_and(|map| map.starved);
        self.starved == 0 || self.options.boot || (own && self.starved == 1)
    }

    pub(super) fn path_step(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let turn = self.path_next(cx, i, emit);
        if let Turn::Refused(Refused::Busy) = turn {
            // Its worker is parked on the device: that is an answer of a kind.
            self.probe_end(i);
            let later = Some(cx.now + Duration::from_secs(1));
            self.paths[i].retry_at = later;
            if self.paths[i].fds == Fds::Open {
                self.verdict(cx, i, PathState::Timeout, Cause::NoAnswer);
            }
        }
        if self.paths.get(i).is_some() {
            self.path_arm(i);
        }
        turn
    }

    fn path_next(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let p = &self.paths[i];
        if p.job != Job::None {
            return Turn::Idle;
        }
        if p.gone || p.map == NONE {
            return self.path_leaving(cx, i, emit);
        }
        if p.look && self.may_allocate(i) {
            if let Err(refused) = emit(Action::Facts { name: &p.name }) {
                return Turn::Refused(refused);
            }
            self.paths[i].look = false;
            return Turn::Sent;
        }
        if p.fds == Fds::Closed {
            return self.path_open(cx, i, emit);
        }
        if p.retry_at.is_some_and(|t| t > cx.now) {
            return Turn::Idle;
        }
        if p.probe == NONE {
            let due = p.next_check <= cx.now && (self.options.resident || !p.judged);
            if !due {
                return self.path_extras(cx, i, emit);
            }
            // (A first verdict is waited for; everything else of a dead port is asked through one of its paths.)
            if let Some(port) = self.ports.get(p.port).filter(|_| p.judged).map(|_| p.port) {
                let (put_off, paths) = (p.put_off, self.ports[port].paths.len);
                let ask = self.ports[port].silence.ask(cx.now, i, put_off, paths);
                self.paths[i].put_off = ask != Ask::Yes;
                if let Ask::At(later) = ask {
                    self.paths[i].next_check = later;
                    return Turn::Idle;
                }
            }
            if !self.port_take(i) {
                return Turn::Idle;
            }
            if !self.probe_start(cx, i) {
                self.port_release(i);
                return Turn::Stalled;
            }
        } else if !self.port_take(i) {
            return Turn::Idle;
        }
        self.probe_send(cx, i, emit)
    }

    fn probe_send(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let k = self.paths[i].probe;
        let (path, ticket) = (self.path_id(i), self.ticket());
        let time = self.probe_time(i);
        let sent = match &self.probes[k].question {
            Question::None => {
                self.port_release(i);
                return Turn::Idle;
            }
            Question::State => emit(Action::State { path, ticket }),
            Question::Scsi(command) => emit(Action::Scsi { path, ticket, command }),
            Question::Read(length) => emit(Action::Read { path, ticket, length: *length }),
        };
        if let Err(refused) = sent {
            self.port_release(i);
            return Turn::Refused(refused);
        }
        self.probes[k].question = Question::None;
        let p = &mut self.paths[i];
        (p.job, p.ticket, p.deadline, p.retry_at) = (Job::Probe, ticket, cx.now + time, None);
        Turn::Sent
    }

    fn path_open(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let p = &self.paths[i];
        if p.retry_at.is_some_and(|t| t > cx.now) {
            return Turn::Idle;
        }
        if let Some(state) = super::checks::sys_verdict(p.sys) {
            // An open would fail (offline) or wait for the transport (blocked): its state is verdict enough.
            let sys = p.sys;
            self.paths[i].retry_at = Some(cx.now + Duration::from_secs(1));
            self.paths[i].look = true;
            let state = if state == PathState::Pending && !self.paths[i].judged { PathState::Down } else { state };
            self.verdict(cx, i, state, Cause::Sys(sys));
            return Turn::Idle;
        }
        if !self.may_allocate(i) || !self.port_take(i) {
            return Turn::Idle;
        }
        let (path, ticket) = (self.path_id(i), self.ticket());
        let p = &self.paths[i];
        if let Err(refused) = emit(Action::Open { path, ticket, name: &p.name, devno: p.devno }) {
            self.port_release(i);
            return Turn::Refused(refused);
        }
        let p = &mut self.paths[i];
        (p.job, p.ticket, p.deadline, p.retry_at) = (Job::Open, ticket, cx.now + Duration::from_secs(30), None);
        Turn::Sent
    }

    /// A path that is not ours, or not any more, gives back what it has.
    fn path_leaving(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        self.probe_end(i);
        let path = self.path_id(i);
        let p = &self.paths[i];
        if p.smart_until.is_some_and(|t| t <= cx.now) {
            self.paths[i].smart_until = None;
            let facts = self.facts_of(i);
            self.judge(cx, i, &facts);
            return Turn::Idle;
        }
        if p.parts_dropped && !p.gone && p.live_in == NONE && p.fds == Fds::Open && self.may_allocate(i) {
            if let Err(refused) = emit(Action::PathPartitions { path, keep: true }) {
                return Turn::Refused(refused);
            }
            self.paths[i].parts_dropped = false;
            return Turn::Sent;
        }
        if p.fds == Fds::Open {
            if let Err(refused) = emit(Action::Close { path }) {
                return Turn::Refused(refused);
            }
            self.paths[i].fds = Fds::Closed;
            self.path_touch(i);
            return Turn::Sent;
        }
        if p.look && !p.gone && self.may_allocate(i) {
            if let Err(refused) = emit(Action::Facts { name: &p.name }) {
                return Turn::Refused(refused);
            }
            self.paths[i].look = false;
            return Turn::Sent;
        }
        self.path_account(i);
        self.path_free_if_unused(i);
        Turn::Idle
    }

    /// What a path in a live map gets besides checks.
    fn path_extras(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let p = &self.paths[i];
        let live = self.maps.get(p.map).is_some_and(|m| m.have.known == Known::Live && m.have.active);
        if self.options.path_partitions && !self.options.dry_run && !p.parts_dropped && live && p.live_in == p.map && self.starved == 0 {
            if let Err(refused) = emit(Action::PathPartitions { path: self.path_id(i), keep: false }) {
                return Turn::Refused(refused);
            }
            self.paths[i].parts_dropped = true;
            return Turn::Sent;
        }
        if live && p.live_in == p.map && self.starved == 0 && !self.options.dry_run {
            return self.path_tune(cx, i, emit);
        }
        Turn::Idle
    }

    /// The next of the path's transport settings, once per settings in force.
    fn path_tune(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        if self.paths[i].tuned_of != self.paths[i].settings_of {
            let p = &mut self.paths[i];
            (p.tuned_of, p.tuned) = (p.settings_of, 0);
        }
        let p = &self.paths[i];
        if p.tuned == u8::MAX || p.tune_at > cx.now {
            return Turn::Idle;
        }
        let (Some(profile), Some(map)) = (self.profiles.get(p.profile), self.maps.get(p.map)) else { return Turn::Idle };
        let globals = cx.settings.globals();
        let wish = tuning::Wish {
            fast_io_fail: profile.settings.fast_io_fail,
            dev_loss: profile.settings.dev_loss,
            eh_deadline: profile.settings.eh_deadline,
            max_retries: globals.max_retries,
            max_sectors_kb: map.settings.max_sectors_kb,
            no_path_retry: map.settings.no_path_retry,
            polling_interval: globals.polling_interval,
        };
        let (writes, _) = tuning::plan(&wish, p.protocol);
        let Some(&tuning::Write { attribute, value }) = writes.get(usize::from(p.tuned)) else {
            self.paths[i].tuned = u8::MAX;
            return Turn::Idle;
        };
        if !self.port_take(i) {
            return Turn::Idle;
        }
        let (path, ticket) = (self.path_id(i), self.ticket());
        if let Err(refused) = emit(Action::Write { path, ticket, attribute, value }) {
            self.port_release(i);
            // A parked worker says nothing about the setting.
            return if refused == Refused::Busy { Turn::Idle } else { Turn::Refused(refused) };
        }
        let p = &mut self.paths[i];
        (p.job, p.ticket, p.deadline) = (Job::Write, ticket, cx.now + Duration::from_secs(30));
        Turn::Sent
    }

    /// Takes one of the port's shares for a job of path `i`, or lets the path wait for one.
    fn port_take(&mut self, i: u32) -> bool {
        let port = self.paths[i].port;
        if port == NONE {
            return true;
        }
        if self.ports[port].busy >= self.options.port_jobs.max(1) {
            self.path_waiting.push_back(&mut self.ports[port].waiting, i);
            return false;
        }
        self.ports[port].busy += 1;
        true
    }

    /// Gives the share back; the path that waits longest has its turn.
    pub(super) fn port_release(&mut self, i: u32) {
        let port = self.paths[i].port;
        if port == NONE {
            return;
        }
        self.ports[port].busy = self.ports[port].busy.saturating_sub(1);
        if let Some(next) = self.path_waiting.pop_front(&mut self.ports[port].waiting) {
            self.path_touch(next);
        }
    }
}
