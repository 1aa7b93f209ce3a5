//! What drives the engine: the queues of what has a turn, and the three calls the world knows: `process`, `dispatch`, `poll_at`.
//!
//! `process` only moves state; `dispatch` only names steps. One call does a bounded number of steps, so that none takes long; while
//! there are more, `poll_at` answers "now".

use super::claim;
use super::map::Job;
use super::mapsteps::Turn as MapTurn;
use super::note::{Note, Subject, What};
use super::pathsteps::Turn as PathTurn;
use super::storage::NONE;
use super::{Action, Context, Engine, Event, Refused};
use crate::model::{Instant, PathId};
use core::time::Duration;

/// Steps in one `dispatch` at most, of each kind.
const STEPS: usize = 64;
/// So long a map's I/O has waited before anything else that takes the kernel's memory is asked for; only where there is plenty.
const LONG_WAIT: Duration = Duration::from_secs(60);
/// A refused queue is tried again after this time at the latest, should no event come before.
const STALL: Duration = Duration::from_millis(100);

/// What is not done yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unsettled {
    /// Disks are being read.
    pub scan: bool,
    /// Live maps are being read.
    pub survey: bool,
    /// Maps with a request under way or a pause before the next.
    pub maps: u32,
    /// Paths without a first verdict.
    pub paths: u32,
    /// Turns due now.
    pub turns: u32,
}

const PATHS: usize = 0;
const MAPS: usize = 1;
const HEAVY: usize = 2;

impl Engine<'_> {
    /// What happened. Moves state only; what follows from it is named by the next `dispatch`.
    #[inline(never)]
    pub fn process(&mut self, cx: &Context<'_>, event: Event<'_>) {
        self.advance(cx.now);
        self.stalled = [None; 3];
        match event {
            Event::Tick => {}
            Event::Facts { facts, udev, own } => self.facts(cx, facts, udev, own),
            Event::Gone { name } => {
                if let Some(i) = self.path_by_name(name) {
                    self.path_gone(cx, i);
                }
            }
            Event::ScanDone { complete } => self.scan_done(cx, complete),
            Event::Overrun => {
                self.scan.want = true;
                self.survey.want = true;
            }
            Event::Live(live) => self.live(cx, live),
            Event::SurveyDone { complete } => self.survey_done(cx, complete),
            Event::DmEvent => self.list.want = true,
            Event::Memory { plenty } => {
                let roomy = plenty && self.starved > 0 && cx.now.since(self.starved_since) >= LONG_WAIT;
                self.wake |= roomy != self.roomy;
                self.roomy = roomy;
            }
            Event::Listed { devno, name, event_nr } => self.listed(cx, devno, name, event_nr),
            Event::ListDone { complete } => self.list_done(cx, complete),
            Event::Opened { path, ticket, result } => self.opened(cx, path, ticket, result),
            Event::State { path, ticket, state } => self.state_answer(cx, path, ticket, state),
            Event::Scsi { path, ticket, reply } => self.scsi_answer(cx, path, ticket, reply),
            Event::Admin { path, ticket, result } => self.admin_answer(cx, path, ticket, result),
            Event::Read { path, ticket, result } => self.read_answer(cx, path, ticket, result),
            Event::Written { path, ticket, result } => self.written(cx, path, ticket, result),
            Event::Dm { map, ticket, result } => self.dm_answer(cx, map, ticket, result),
            Event::Partitions { map, ticket, result } => self.partitions(cx, map, ticket, result),
            Event::Closed { path } => {
                if let Some(i) = self.path_at(path) {
                    self.paths[i].retry_at = None;
                    self.path_touch(i);
                }
            }
            Event::PathPartitions { path, in_use } => self.path_partitions(path, in_use),
            Event::Reconfigured => {
                self.settings_serial = self.settings_serial.wrapping_add(1).max(1);
                self.scan.want = true;
            }
            Event::Ask { token, ask } => self.ask(cx, token, ask),
        }
        self.sweep(cx);
    }

    /// How many workers there are for paths.
    pub fn set_workers(&mut self, workers: u16) {
        self.workers = workers;
    }

    /// From looking to doing. Follow it with [`Event::Reconfigured`], so that everything is looked at again.
    pub fn end_dry_run(&mut self) {
        self.options.dry_run = false;
    }

    fn advance(&mut self, now: Instant) {
        // Monotonic by contract; a caller that breaks it must not turn deadlines around.
        self.now = self.now.max(now);
    }

    /// No map's I/O waits for a path, or it has for so long that it may be for ever, while there is memory for all else.
    pub(super) fn spare(&self) -> bool {
        self.starved == 0 || self.roomy
    }

    /// As far as asking the kernel for memory goes: at boot nothing is dirty yet, and a command that hangs for want of it keeps nobody else.
    pub fn quiet(&self) -> bool {
        self.spare() || self.options.boot || !self.options.resident
    }

    /// Names the next steps. `emit` may refuse; the gap then stays open.
    #[inline(never)]
    pub fn dispatch(&mut self, cx: &Context<'_>, emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>) {
        self.advance(cx.now);
        self.sweep(cx);
        self.expire(cx);
        self.look_again();
        self.rouse(cx);
        self.tell(emit);
        self.answer_asks(cx, emit);
        self.begin_sweeps(cx, emit);
        self.step_maps(cx, emit, false);
        self.step_paths(cx, emit);
        self.step_maps(cx, emit, true);
        self.answer_asks(cx, emit);
        self.tell(emit);
    }

    /// Timers that have passed.
    fn expire(&mut self, cx: &Context<'_>) {
        let (paths, maps) = (self.paths.capacity() as u32, self.maps.capacity() as u32);
        for _ in 0..STEPS {
            let Some((id, when)) = self.timers.first() else { return };
            if when > cx.now {
                return;
            }
            self.timers.set(id, None);
            if id < paths {
                if self.paths[id].job != super::path::Job::None && self.paths[id].deadline <= cx.now {
                    self.path_overdue(cx, id);
                }
                self.path_touch(id);
            } else if id < paths + maps {
                let m = id - paths;
                if self.maps[m].job != Job::None && self.maps[m].deadline <= cx.now {
                    self.map_overdue(cx, m);
                }
                self.map_touch(m);
            }
        }
    }

    /// After something that held everything up is over: each path and map has a turn, some at a time.
    fn look_again(&mut self) {
        if self.wake {
            self.wake = false;
            (self.wake_path, self.wake_map) = (0, 0);
        }
        for _ in 0..STEPS {
            if self.wake_path != NONE {
                let i = self.wake_path;
                self.wake_path = if (i as usize) + 1 < self.paths.capacity() { i + 1 } else { NONE };
                if (i as usize) < self.paths.capacity() {
                    self.path_touch(i);
                }
            }
            if self.wake_map != NONE {
                let m = self.wake_map;
                self.wake_map = if (m as usize) + 1 < self.maps.capacity() { m + 1 } else { NONE };
                if (m as usize) < self.maps.capacity() {
                    self.map_touch(m);
                }
            }
        }
    }

    /// Notes, with the names that go with them.
    fn tell(&mut self, emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>) {
        while let Some(note) = self.notes.front().copied() {
            let subject = self.subject(&note);
            if emit(Action::Note { note, subject }).is_err() {
                return;
            }
            self.notes.pop_front();
        }
        if self.lost_notes > 0 {
            let note = Note { path: None, map: None, what: What::Lost { count: self.lost_notes } };
            if emit(Action::Note { note, subject: Subject::default() }).is_ok() {
                self.lost_notes = 0;
            }
        }
    }

    /// Names of a note's path and map: of the slot's present or, when it was freed, last owner.
    fn subject(&self, note: &Note) -> Subject<'_> {
        let same = |generation: u32, id: u32| generation == id || generation == id.wrapping_add(1);
        let mut subject = Subject::default();
        if let Some(id) = note.path {
            let p = &self.paths[id.index];
            if same(p.head.generation, id.generation) {
                subject.path = &p.name;
                subject.devno = p.devno;
                subject.hctl = p.hctl;
                subject.wwid = &p.wwid;
            }
        }
        if let Some(id) = note.map {
            let map = &self.maps[id.index];
            if same(map.head.generation, id.generation) {
                subject.map = if map.name.is_empty() { &map.wwid } else { &map.name };
                subject.wwid = &map.wwid;
            }
        }
        subject
    }

    #[inline(never)]
    fn step_maps(&mut self, cx: &Context<'_>, emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>, heavy: bool) {
        let queue = if heavy { HEAVY } else { MAPS };
        if self.stalled[queue].is_some_and(|t| t > cx.now) {
            return;
        }
        self.stalled[queue] = None;
        let mut last = NONE;
        for _ in 0..STEPS {
            let m = if heavy { self.map_heavy_chain.pop_front(&mut self.map_heavy) } else { self.map_chain.pop_front(&mut self.map_ready) };
            let Some(m) = m else { return };
            if self.maps.get(m).is_none() {
                continue;
            }
            match self.map_step(cx, m, heavy, emit) {
                MapTurn::Idle => {}
                // A step without an answer: there may be another.
                MapTurn::Sent if self.maps.get(m).is_some_and(|map| map.job == Job::None) => self.map_touch(m),
                MapTurn::Sent => {}
                MapTurn::Heavy => self.map_heavy_chain.push_back(&mut self.map_heavy, m),
                MapTurn::Refused(Refused::Busy) => {}
                // Whoever makes nodes is away, perhaps for ever: others are to be told of their paths meanwhile.
                MapTurn::Later if !heavy && last != m => {
                    self.map_chain.push_back(&mut self.map_ready, m);
                    self.stalled[queue] = Some(cx.now + STALL);
                    last = if last == NONE { m } else { last };
                }
                MapTurn::Refused(Refused::Full) | MapTurn::Later => {
                    if heavy {
                        self.map_heavy_chain.push_front(&mut self.map_heavy, m);
                    } else {
                        self.map_chain.push_front(&mut self.map_ready, m);
                    }
                    self.stalled[queue] = Some(cx.now + STALL);
                    return;
                }
            }
        }
    }

    #[inline(never)]
    fn step_paths(&mut self, cx: &Context<'_>, emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>) {
        if self.stalled[PATHS].is_some_and(|t| t > cx.now) {
            return;
        }
        self.stalled[PATHS] = None;
        let mut last = NONE;
        for _ in 0..STEPS {
            let Some(i) = self.path_ready_chain.pop_front(&mut self.path_ready) else { return };
            if self.paths.get(i).is_none() {
                continue;
            }
            let stalled = match self.path_step(cx, i, emit) {
                PathTurn::Idle | PathTurn::Refused(Refused::Busy) => false,
                PathTurn::Sent => {
                    if self.paths.get(i).is_some_and(|p| p.job == super::path::Job::None) {
                        self.path_touch(i);
                    }
                    false
                }
                PathTurn::Stalled => {
                    // Those that have a slot go on, and give it back.
                    self.path_probe_chain.push_back(&mut self.probe_wait, i);
                    false
                }
                // For an open, say, no worker may be spared that a check is given: those behind it have their turn first.
                PathTurn::Refused(Refused::Full) if self.paths[i].probe == NONE && last != i => {
                    self.path_ready_chain.push_back(&mut self.path_ready, i);
                    self.stalled[PATHS] = Some(cx.now + STALL);
                    last = if last == NONE { i } else { last };
                    false
                }
                PathTurn::Refused(Refused::Full) => true,
            };
            if stalled {
                self.path_ready_chain.push_front(&mut self.path_ready, i);
                self.stalled[PATHS] = Some(cx.now + STALL);
                return;
            }
        }
    }

    /// When to call `dispatch` again if nothing happens before: never in the past; `None` for not at all.
    pub fn poll_at(&self) -> Option<Instant> {
        let mut at = self.timers.first().map(|(_, t)| t);
        let mut earlier = |t: Option<Instant>| {
            if let Some(t) = t {
                at = Some(at.map_or(t, |a| a.min(t)));
            }
        };
        let ready = [
            (self.path_ready.len > 0, self.stalled[PATHS]),
            (self.map_ready.len > 0, self.stalled[MAPS]),
            (self.map_heavy.len > 0, self.stalled[HEAVY]),
        ];
        for (waiting, stalled) in ready {
            if waiting {
                earlier(Some(stalled.unwrap_or(self.now)));
            }
        }
        if self.wake
            || self.wake_map != NONE
            || self.wake_path != NONE
            || self.scan.sweeping
            || self.survey.sweeping
            || self.rousing.len > 0
        {
            earlier(Some(self.now));
        }
        if !self.stopping {
            earlier(self.scan.at(self.now));
            earlier(self.survey.at(self.now));
            earlier(self.list.at(self.now));
        }
        earlier(self.asks.at());
        at.map(|t| t.max(self.now))
    }

    /// Everything that can be done has been done: maps are as wanted, or their trouble is known and will not go away by itself.
    pub fn settled(&self) -> bool {
        self.unsettled() == Unsettled::default()
    }

    /// What `settled` is waiting for. What is put off while a map's I/O waits for a path is not waited for.
    pub fn unsettled(&self) -> Unsettled {
        let quiet = self.quiet();
        let (scan, survey) = (&self.scan, &self.survey);
        Unsettled {
            scan: !(self.options.resident && scan.late)
                && (!self.scanned || scan.sweeping || scan.running || (quiet && scan.want && !self.scan_incomplete())),
            survey: !self.surveyed || survey.sweeping || survey.running || (quiet && survey.want),
            maps: self.open_maps,
            paths: if quiet { self.open_paths } else { 0 },
            turns: self.map_ready.len
                + self.map_heavy.len
                + self.path_ready.len
                + u32::from(self.wake || self.wake_map != NONE || self.wake_path != NONE),
        }
    }

    pub(super) fn claim_rules(&self, cx: &Context<'_>) -> claim::Rules {
        let globals = cx.settings.globals();
        claim::Rules {
            mode: globals.find_multipaths,
            smart_timeout: globals.find_multipaths_timeout,
            allow_usb: globals.allow_usb_devices,
            native_nvme: self.options.native_nvme,
            evidence: !globals.find_multipaths_given,
            // Who makes nothing and asks no disk is udev, or a command on its behalf.
            only_asking: self.options.errand && self.options.dry_run,
        }
    }

    /// A path that is still the one the id was given for.
    pub(super) fn path_at(&self, id: PathId) -> Option<u32> {
        self.paths.get(id.index).filter(|p| p.head.generation == id.generation).map(|_| id.index)
    }
}
