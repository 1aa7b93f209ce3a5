//! The next step of a path: open it, ask it, close it; one job at a time, and no more jobs per port than its share of the pool.

use super::note::Cause;
use super::path::{Fds, Job, Nodes};
use super::probe::Question;
use super::schedule::{self, Ask};
use super::storage::NONE;
use super::{Action, Attribute, Context, Engine, Refused};
use crate::model::{DmPathState, Instant, PathId, PathState};
use core::time::Duration;

/// What came of a path's turn.
pub(super) enum Turn {
    Idle,
    Sent,
    Refused(Refused),
    /// No probe slot is free: the path waits for one.
    Stalled,
}

pub(super) type Emit<'e> = dyn FnMut(Action<'_>) -> Result<(), Refused> + 'e;

const SECOND: Duration = Duration::from_secs(1);
/// A worker that is away so long without our having given its job up is taken for hanging.
const AWAY: Duration = Duration::from_secs(30);

impl Engine<'_> {
    /// Something that allocates in the kernel for this path: not while another map's I/O waits for a path. For its own starving map
    /// it is the way out; where several starve for a few at a time, as each may cost a worker.
    pub(super) fn may_allocate(&self, i: u32) -> bool {
        let starves = |m: u32| self.maps.get(m).is_some_and(|map| map.starved);
        let own = || starves(self.paths[i].map) || starves(self.paths[i].live_in);
        self.quiet() || (own() && (self.starved == 1 || self.opening_slot().is_some()))
    }

    /// A place among the paths that are opened while maps starve. One whose worker hangs keeps its place.
    fn opening_slot(&self) -> Option<usize> {
        let free = |id: &Option<PathId>| {
            let path = id.and_then(|id| self.path_at(id)).map(|i| &self.paths[i]);
            path.is_none_or(|p| p.job != Job::Open && p.overdue.is_none())
        };
        self.opening.iter().position(free)
    }

    #[inline(never)]
    pub(super) fn path_step(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let port = self.paths[i].port;
        let turn = self.path_next(cx, i, emit);
        match turn {
            Turn::Sent => {
                if self.paths.get(i).is_some() {
                    self.paths[i].busy_since = None;
                }
            }
            Turn::Refused(Refused::Busy) => {
                self.path_busy(cx, i);
                self.port_wake(port);
            }
            // Had it waited for a share that it does not need any more, the next in the row has it.
            _ => self.port_wake(port),
        }
        // Who was woken for a probe's slot may not have taken it.
        if self.probes.has_free()
            && let Some(next) = self.path_probe_chain.pop_front(&mut self.probe_wait)
        {
            self.path_touch(next);
        }
        if self.paths.get(i).is_some() {
            self.path_timer(i);
        }
        turn
    }

    /// The path's worker is away: with something that has no answer, or parked on a device that gives none.
    fn path_busy(&mut self, cx: &Context<'_>, i: u32) {
        let p = &mut self.paths[i];
        let since = *p.busy_since.get_or_insert(cx.now);
        p.retry_at = Some(cx.now + SECOND);
        let hangs = p.overdue.is_some() || cx.now.since(since) >= AWAY;
        if hangs {
            self.probe_end(i);
            self.verdict(cx, i, PathState::Timeout, Cause::NoAnswer, false);
            // Its next look is at the worker, not at the device.
            self.paths[i].retry_at = Some(cx.now + SECOND);
        }
    }

    #[inline(never)]
    fn path_next(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let p = &self.paths[i];
        if p.job != Job::None || self.stopping {
            return Turn::Idle;
        }
        if p.gone || p.map == NONE {
            return self.path_leaving(cx, i, emit);
        }
        if self.unasked(i) {
            return Turn::Idle;
        }
        // Who it is must be known before it is used, whatever waits: the shell reads one disk at a time then.
        if p.look && (p.unsure || self.may_allocate(i)) {
            return self.path_look(i, emit);
        }
        match p.fds {
            Fds::Closed => return self.path_open(cx, i, emit),
            Fds::Closing => return self.path_close(i, emit),
            Fds::Open => {}
        }
        if p.retry_at.is_some_and(|t| t > cx.now) {
            return Turn::Idle;
        }
        if p.probe == NONE
            && let Some(kb) = self.limit_due(i)
        {
            return self.path_limit(cx, i, kb, emit);
        }
        if p.probe == NONE {
            let due = p.next_check <= cx.now && (self.options.resident || !p.judged);
            if !due {
                return self.path_extras(cx, i, emit);
            }
            if let Some(t) = self.port_asks(cx, i) {
                // The port is asked through another path; this one would only keep a worker waiting.
                self.paths[i].next_check = t;
                return Turn::Idle;
            }
            if !self.port_take(i) {
                return Turn::Idle;
            }
            if !self.probe_start(cx, i) {
                self.port_release(i);
                return Turn::Stalled;
            }
        } else {
            if let Question::Wait(t) = self.probes[p.probe].question {
                if t > cx.now {
                    return Turn::Idle;
                }
                self.activation_answer(cx, i, None);
            }
            if !self.port_take(i) {
                return Turn::Idle;
            }
        }
        self.probe_send(cx, i, emit)
    }

    /// On an errand that is not about it, or that removes its map: it need not be asked anything.
    pub(super) fn unasked(&self, i: u32) -> bool {
        let m = self.paths[i].map;
        self.bystander(m) || (self.options.errand && self.maps[m].remove)
    }

    /// Is another path asked instead of this one, as their port is down? Then until when. (A first verdict is waited for, and one that
    /// counts as usable is asked itself: maps, groups and queueing rely on it.)
    fn port_asks(&mut self, cx: &Context<'_>, i: u32) -> Option<Instant> {
        let (port, put_off) = (self.paths[i].port, self.paths[i].put_off);
        let paths = self.ports.get(port).filter(|_| self.paths[i].judged && !self.paths[i].state.usable())?.paths.len;
        let ask = self.ports[port].silence.ask(cx.now, i, put_off, paths);
        self.paths[i].put_off = ask != Ask::Yes;
        match ask {
            Ask::Yes => None,
            Ask::At(t) => Some(t),
        }
    }

    fn path_look(&mut self, i: u32, emit: &mut Emit<'_>) -> Turn {
        if let Err(refused) = emit(Action::Facts { name: &self.paths[i].name }) {
            return Turn::Refused(refused);
        }
        self.paths[i].look = false;
        Turn::Sent
    }

    /// Sends the question of the running probe; the port's share is taken.
    fn probe_send(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let k = self.paths[i].probe;
        let (path, ticket) = (self.path_id(i), self.ticket());
        let time = self.probe_time(cx, i);
        let sent = match self.probes.get(k).map(|p| &p.question) {
            None | Some(Question::None | Question::Wait(_)) => {
                self.port_release(i);
                return Turn::Idle;
            }
            Some(Question::State) => emit(Action::State { path, ticket }),
            Some(Question::Scsi(command)) => emit(Action::Scsi { path, ticket, command }),
            Some(Question::Admin(command)) => emit(Action::Admin { path, ticket, command }),
            Some(Question::Read(length)) => emit(Action::Read { path, ticket, length: *length }),
        };
        if let Err(refused) = sent {
            self.port_release(i);
            return Turn::Refused(refused);
        }
        let probe = &mut self.probes[k];
        (probe.question, probe.sent) = (Question::None, cx.now);
        self.path_sent(i, Job::Probe, ticket, cx.now + time);
        Turn::Sent
    }

    pub(super) fn path_sent(&mut self, i: u32, job: Job, ticket: super::Ticket, deadline: Instant) {
        let p = &mut self.paths[i];
        (p.job, p.ticket, p.deadline, p.retry_at) = (job, ticket, deadline, None);
    }

    fn path_open(&mut self, cx: &Context<'_>, i: u32, emit: &mut Emit<'_>) -> Turn {
        let p = &self.paths[i];
        if p.retry_at.is_some_and(|t| t > cx.now) {
            return Turn::Idle;
        }
        if let Some(state) = super::verdict::sys_verdict(p.sys) {
            // An open would fail (offline) or wait for the transport (blocked): its state is verdict enough.
            let sys = p.sys;
            self.paths[i].retry_at = Some(cx.now + SECOND);
            self.paths[i].look = true;
            let state = if state == PathState::Pending && !self.paths[i].judged { PathState::Down } else { state };
            self.verdict(cx, i, state, Cause::Sys(sys), false);
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
        if self.starved > 0
            && let Some(slot) = self.opening_slot()
        {
            self.opening[slot] = Some(path);
        }
        self.path_sent(i, Job::Open, ticket, cx.now + AWAY);
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
        if self.nodes_return(i) && self.may_allocate(i) {
            self.path_account(i);
            if self.paths[i].fds == Fds::Closed {
                return self.path_open(cx, i, emit);
            }
            if let Err(refused) = emit(Action::PathPartitions { path, keep: true }) {
                return Turn::Refused(refused);
            }
            self.paths[i].nodes = Nodes::There;
            return Turn::Sent;
        }
        if self.exchange_due(i) && self.may_allocate(i) {
            // The kernel learns with the next command that a disk is another one again, and of all its paths in a map that waits, or
            // that nobody uses, there is none: it is made to ask.
            self.paths[i].next_check = cx.now + cx.settings.globals().max_polling_interval.max(SECOND);
            return self.path_write(cx, i, Attribute::Rescan, 1, emit);
        }
        if self.paths[i].announced && !self.paths[i].gone && self.paths[i].live_in == NONE && self.announces() {
            return self.path_announce(cx, i, false, emit);
        }
        let closed = if p.fds == Fds::Closed { Turn::Idle } else { self.path_close(i, emit) };
        let p = &self.paths[i];
        // What it is now does not wait for what it was.
        if p.look && !p.gone && self.may_allocate(i) {
            return self.path_look(i, emit);
        }
        if !matches!(closed, Turn::Idle) {
            return closed;
        }
        self.path_account(i);
        self.path_free_if_unused(i);
        Turn::Idle
    }

    /// Until they are closed the slot is nobody else's.
    fn path_close(&mut self, i: u32, emit: &mut Emit<'_>) -> Turn {
        self.paths[i].fds = Fds::Closing;
        if let Err(refused) = emit(Action::Close { path: self.path_id(i) }) {
            return Turn::Refused(refused);
        }
        self.paths[i].fds = Fds::Closed;
        Turn::Sent
    }

    /// Is it failed, and another disk than that of the map that holds it?
    pub(super) fn stands_for_another(&self, i: u32) -> bool {
        let p = &self.paths[i];
        let other = self.maps.get(p.live_in).is_some_and(|map| !p.wwid.is_empty() && map.wwid != p.wwid);
        other && p.map == NONE && !p.gone && p.dm == DmPathState::Failed
    }

    /// Is the kernel to ask again who it is?
    fn exchange_due(&self, i: u32) -> bool {
        let p = &self.paths[i];
        let due = p.next_check <= self.now && super::verdict::sys_verdict(p.sys).is_none();
        due && self.stands_for_another(i) && self.options.resident && !self.options.dry_run
    }

    /// Is the kernel to read the table of this plain disk again? Not while it cannot be opened.
    pub(super) fn nodes_return(&self, i: u32) -> bool {
        let p = &self.paths[i];
        let ours = p.map != NONE || p.live_in != NONE || p.gone;
        !ours && p.nodes != Nodes::There && p.retry_at.is_none_or(|t| t <= self.now) && super::verdict::sys_verdict(p.sys).is_none()
    }

    /// Takes one of the port's shares for a job of path `i`, or lets the path wait for one.
    pub(super) fn port_take(&mut self, i: u32) -> bool {
        let port = self.paths[i].port;
        if port == NONE {
            return true;
        }
        if self.port_full(port) {
            self.path_waiting.push_back(&mut self.ports[port].waiting, i);
            return false;
        }
        if self.port_trouble(port) == (true, true) && !self.last_resort(i) {
            self.paths[i].retry_at = Some(self.now + SECOND);
            return false;
        }
        self.port_count(i);
        true
    }

    /// Does a map wait for it that has no other, and did it answer, with a failure, when it was last asked? Then it may be what is waited for.
    fn last_resort(&self, i: u32) -> bool {
        let p = &self.paths[i];
        let waits = self.maps.get(p.map).is_some_and(|map| map.starved);
        waits && p.judged && p.overdue.is_none() && !p.usable() && p.cause != Cause::NoAnswer
    }

    /// Is the last worker left, which is for ports that have none; and did some not come back from this port, nor an answer since?
    fn port_trouble(&self, port: u32) -> (bool, bool) {
        let p = &self.ports[port];
        let low = self.ports.used > 1 && self.away + (self.workers / 3).min(1) >= self.workers;
        (low, p.lost > 0 && p.silence.suspect())
    }

    /// Has the port its share? Then one of its jobs ends first.
    fn port_full(&self, port: u32) -> bool {
        let (low, dead) = self.port_trouble(port);
        // Four at least: one path that hangs does not hold up its neighbours, and answers that come together cost fewer system calls.
        let share = if low || dead { 1 } else { schedule::share(self.workers, self.ports.used).max(4) };
        self.ports[port].busy >= share
    }

    /// A worker is with the path, on behalf of its port.
    pub(super) fn port_count(&mut self, i: u32) {
        let port = self.paths[i].port;
        if port != NONE {
            self.ports[port].busy += 1;
            self.away += 1;
        }
    }

    /// A job of the path is given up, or (`None`) its worker is back, or not heard of any more.
    pub(super) fn path_lost(&mut self, i: u32, lost: Option<super::Ticket>) {
        let was = core::mem::replace(&mut self.paths[i].overdue, lost);
        let port = self.paths[i].port;
        if port == NONE || was.is_some() == lost.is_some() {
            return;
        }
        let count = |n: &mut u16| *n = if lost.is_some() { n.saturating_add(1) } else { n.saturating_sub(1) };
        count(&mut self.ports[port].lost);
        count(&mut self.away);
        self.port_wake(port);
    }

    /// Gives the share back; the path that waits longest has its turn.
    pub(super) fn port_release(&mut self, i: u32) {
        let port = self.paths[i].port;
        if port == NONE || self.ports[port].busy == 0 {
            return;
        }
        self.ports[port].busy -= 1;
        self.away = self.away.saturating_sub(1);
        self.port_wake(port);
    }

    fn port_wake(&mut self, port: u32) {
        if self.ports.get(port).is_some()
            && !self.port_full(port)
            && let Some(next) = self.path_waiting.pop_front(&mut self.ports[port].waiting)
        {
            self.path_touch(next);
        }
    }
}
