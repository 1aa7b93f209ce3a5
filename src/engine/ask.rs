//! What administrators ask: turned into wants like everything else, answered when the want is fulfilled, refused, or out of time.

use super::map::Known;
use super::path::Admin;
use super::storage::{NONE, hash};
use super::{Action, Ask, Context, Engine, Reason, Refusal, Refused};
use crate::model::{DevNo, DmPathState, Instant, MapId, PathId};
use core::time::Duration;
use heapless::Vec;

/// Requests that may wait at the same time.
const PENDING: usize = 32;
/// A request that takes longer is answered `TimedOut`; what it wants stays wanted, but for a group switch.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a request is fulfilled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Goal {
    /// Decided: only the answer is still to be given.
    Known(Result<(), Refusal>),
    PathFailed(PathId),
    PathActive(PathId),
    PathOut(PathId),
    PathIn(PathId),
    MapLive(MapId),
    MapAbsent(MapId),
    NoRemovals,
    Switched(MapId),
    Suspended(MapId),
    Running(MapId),
    Reloaded(MapId),
    Resized(MapId),
    Stopped,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    token: u32,
    goal: Goal,
    until: Instant,
}

/// Requests not answered yet.
#[derive(Default)]
pub(super) struct Asks {
    waiting: Vec<Pending, PENDING, u8>,
    /// Requests that found no room: their tokens, so that they too get an answer.
    turned_away: Vec<u32, PENDING, u8>,
    /// Removals that failed because the map is open, since `RemoveMaps` was asked.
    busy: bool,
}

impl Asks {
    pub(super) fn at(&self) -> Option<Instant> {
        self.waiting.iter().map(|p| p.until).min()
    }

    /// Nothing comes of this goal any more.
    #[inline(never)]
    fn refuse(&mut self, goal: Goal, refusal: Refusal) {
        self.waiting.iter_mut().filter(|p| p.goal == goal).for_each(|p| p.goal = Goal::Known(Err(refusal)));
    }
}

/// A path or map as people and clients name it: with or without its folder.
fn bare(name: &str) -> &str {
    name.strip_prefix("/dev/").map_or(name, |rest| rest.strip_prefix("mapper/").unwrap_or(rest))
}

impl Engine<'_> {
    /// A path by kernel name or `major:minor`.
    pub(super) fn path_named(&self, name: &str) -> Option<u32> {
        let name = bare(name);
        self.path_by_name(name).or_else(|| DevNo::parse(name).and_then(|d| self.path_by_devno(d)))
    }

    /// A map by dm name, WWID, or `dm-N`.
    pub(super) fn map_named(&self, name: &str) -> Option<u32> {
        let name = bare(name);
        let kernel = || {
            let minor = crate::model::parse_decimal(name.strip_prefix("dm-")?)?;
            self.maps.iter().find(|(_, m)| m.have.known == Known::Live && m.have.devno.minor == minor).map(|(i, _)| i)
        };
        self.map_by_name(name).or_else(|| self.map_by_wwid(name)).or_else(kernel)
    }

    /// `Event::Ask`.
    pub(super) fn ask(&mut self, cx: &Context<'_>, token: u32, ask: Ask<'_>) {
        let goal = if self.stopping { Err(Refusal::ShuttingDown) } else { self.ask_goal(cx, ask) };
        let goal = goal.unwrap_or_else(|refusal| Goal::Known(Err(refusal)));
        let pending = Pending { token, goal, until: cx.now + PATIENCE };
        if self.asks.waiting.is_full() {
            // Whoever waits longest has been told by now that it takes longer: fewer can wait at once than fit here.
            let waiting = self.asks.waiting.iter().enumerate().filter(|(_, p)| p.goal != Goal::Stopped);
            if let Some((oldest, _)) = waiting.min_by_key(|(_, p)| p.until) {
                take_out(&mut self.asks.waiting, oldest);
            }
        }
        if self.asks.waiting.push(pending).is_err() {
            // What was wanted stays wanted; only nobody waits for it.
            let _ = self.asks.turned_away.push(token);
        }
    }

    #[inline(never)]
    fn ask_goal(&mut self, cx: &Context<'_>, ask: Ask<'_>) -> Result<Goal, Refusal> {
        let path = |e: &Self, name: &str| e.path_named(name).ok_or(Refusal::NoSuchPath);
        let map = |e: &Self, name: &str| e.map_named(name).ok_or(Refusal::NoSuchMap);
        let member = |e: &Self, name: &str| {
            let in_map = |&i: &u32| e.paths[i].map != NONE || e.paths[i].live_in != NONE;
            path(e, name).and_then(|i| Some(i).filter(in_map).ok_or(Refusal::NoMap))
        };
        let done = Goal::Known(Ok(()));
        match ask {
            Ask::FailPath(name) => {
                let i = member(self, name)?;
                self.paths[i].failed_by_admin = true;
                self.path_asked(cx, i);
                Ok(Goal::PathFailed(self.path_id(i)))
            }
            Ask::ReinstatePath(name) => {
                let i = member(self, name)?;
                self.paths[i].failed_by_admin = false;
                self.path_asked(cx, i);
                self.check_now(cx, i);
                Ok(Goal::PathActive(self.path_id(i)))
            }
            Ask::AddPath(name) => {
                let i = path(self, name)?;
                self.paths[i].admin = Admin::Asked;
                self.ask_judge(cx, i)?;
                Ok(Goal::PathIn(self.path_id(i)))
            }
            Ask::RemovePath(name) => {
                let i = path(self, name)?;
                self.refusal_while_starved(self.paths[i].live_in)?;
                (self.paths[i].admin, self.paths[i].failed_by_admin) = (Admin::TakenOut, false);
                let facts = self.facts_of(i);
                self.judge(cx, i, &facts);
                Ok(Goal::PathOut(self.path_id(i)))
            }
            Ask::AddMap(name) => {
                let i = match self.path_named(name) {
                    Some(i) => Some(i),
                    None => self.path_wwids.find(hash(name.as_bytes()), |i| self.paths[i].wwid == name),
                };
                let Some(i) = i else {
                    let m = map(self, name)?;
                    self.ask_map(m);
                    return Ok(Goal::MapLive(self.map_id(m)));
                };
                let wwid = self.paths[i].wwid.clone();
                self.admit(cx, &wwid);
                self.ask_judge(cx, i)?;
                let m = self.map_by_wwid(&wwid).ok_or(Refusal::NoSuchMap)?;
                self.ask_map(m);
                Ok(Goal::MapLive(self.map_id(m)))
            }
            Ask::RemoveMap(name) => {
                let m = map(self, name)?;
                self.refusal_while_starved(m)?;
                if self.in_use(m) {
                    return Err(Refusal::InUse);
                }
                let map = &mut self.maps[m];
                (map.remove, map.dismiss) = (true, true);
                self.ask_map(m);
                Ok(Goal::MapAbsent(self.map_id(m)))
            }
            Ask::RemoveMaps => {
                self.asks.busy = false;
                for m in 0..self.maps.capacity() as u32 {
                    if self.maps.get(m).is_some_and(|x| x.have.known != Known::Absent && !x.starved) {
                        if self.in_use(m) {
                            self.asks.busy = true;
                            continue;
                        }
                        let map = &mut self.maps[m];
                        (map.remove, map.dismiss) = (true, true);
                        self.ask_map(m);
                    }
                }
                Ok(Goal::NoRemovals)
            }
            Ask::SwitchGroup { map: name, group } => {
                let m = map(self, name)?;
                if group == 0 || usize::from(group) > self.maps[m].have.groups.len() {
                    return Err(Refusal::NoSuchGroup);
                }
                if !self.group_usable(m, group) {
                    return Err(Refusal::NoUsablePath);
                }
                let map = &mut self.maps[m];
                map.switch_to = Some(group);
                map.failback.hold();
                self.ask_map(m);
                Ok(Goal::Switched(self.map_id(m)))
            }
            Ask::Suspend(name) => {
                let m = map(self, name)?;
                self.refusal_while_starved(m)?;
                self.maps[m].admin_suspend = true;
                self.ask_map(m);
                Ok(Goal::Suspended(self.map_id(m)))
            }
            Ask::Resume(name) => {
                let m = map(self, name)?;
                self.maps[m].admin_suspend = false;
                self.ask_map(m);
                Ok(Goal::Running(self.map_id(m)))
            }
            Ask::Reload(name) => {
                let m = map(self, name)?;
                self.refusal_while_starved(m)?;
                let map = &mut self.maps[m];
                (map.force_reload, map.regroup, map.replan) = (true, true, true);
                self.ask_map(m);
                Ok(Goal::Reloaded(self.map_id(m)))
            }
            Ask::Resize(name) => {
                let m = map(self, name)?;
                self.refusal_while_starved(m)?;
                let mut at = self.maps[m].paths.head;
                while at != NONE {
                    (self.paths[at].look, self.paths[at].unmeasured) = (true, true);
                    self.path_touch(at);
                    at = self.path_by_map.next(at);
                }
                let map = &mut self.maps[m];
                (map.resize_allowed, map.replan) = (true, true);
                self.ask_map(m);
                Ok(Goal::Resized(self.map_id(m)))
            }
            Ask::HurryQueueing(on) => {
                if on != self.hurried.is_some() {
                    self.hurried = on.then_some(cx.now);
                    self.note(None, None, super::What::GoingDown { on });
                }
                for m in 0..self.maps.capacity() as u32 {
                    if self.maps.get(m).is_some() {
                        self.maps[m].queue.hurry(self.hurried, cx.now);
                        self.refresh_usable(cx, m);
                        self.map_touch(m);
                    }
                }
                Ok(done)
            }
            Ask::DisableQueueing(name) | Ask::RestoreQueueing(name) => {
                let off = matches!(ask, Ask::DisableQueueing(_));
                match name {
                    Some(name) => {
                        let m = map(self, name)?;
                        self.queueing_asked(cx, m, off);
                    }
                    None => {
                        for m in 0..self.maps.capacity() as u32 {
                            if self.maps.get(m).is_some() {
                                self.queueing_asked(cx, m, off);
                            }
                        }
                    }
                }
                Ok(done)
            }
            Ask::SetMarginal(name) => {
                let i = path(self, name)?;
                self.paths[i].marginal_by_admin = true;
                self.path_regroup(i);
                Ok(done)
            }
            Ask::UnsetMarginal(name) => {
                if let Some(i) = self.path_named(name) {
                    self.unmark(i);
                    return Ok(done);
                }
                let m = map(self, name)?;
                let mut at = self.maps[m].paths.head;
                while at != NONE {
                    self.unmark(at);
                    at = self.path_by_map.next(at);
                }
                Ok(done)
            }
            Ask::Shutdown { keep } => {
                self.keep_queueing = keep;
                self.stop(cx);
                Ok(Goal::Stopped)
            }
        }
    }

    /// Do the paths of a map agree on its size? `None` while one's is to be read for a request.
    #[inline(never)]
    pub(super) fn measured(&self, m: u32) -> Option<bool> {
        let first = self.maps[m].paths.head;
        let (mut at, mut agree) = (first, true);
        while at != NONE {
            if self.paths[at].unmeasured {
                return None;
            }
            agree &= self.paths[at].size == self.paths[first].size;
            at = self.path_by_map.next(at);
        }
        Some(agree)
    }

    fn unmark(&mut self, i: u32) {
        self.paths[i].marginal_by_admin = false;
        self.paths[i].marginal = false;
        self.path_regroup(i);
    }

    fn path_regroup(&mut self, i: u32) {
        let m = self.paths[i].map;
        if m != NONE {
            (self.maps[m].regroup, self.maps[m].replan) = (true, true);
            self.map_touch(m);
        }
    }

    fn path_asked(&mut self, cx: &Context<'_>, i: u32) {
        for m in [self.paths[i].map, self.paths[i].live_in] {
            self.refresh_usable(cx, m);
            self.map_touch(m);
        }
    }

    fn ask_map(&mut self, m: u32) {
        let map = &mut self.maps[m];
        map.named = true;
        let mut at = map.paths.head;
        while self.options.errand && at != NONE {
            self.path_account(at);
            self.path_touch(at);
            at = self.path_by_map.next(at);
        }
        let map = &mut self.maps[m];
        map.attempts = 0;
        map.retry_at = None;
        self.map_touch(m);
    }

    /// Paths of this WWID that were taken out are welcome again.
    fn admit(&mut self, cx: &Context<'_>, wwid: &str) {
        let mut at = self.path_wwids.first(hash(wwid.as_bytes()));
        while at != NONE {
            let next = self.path_wwids.after(at);
            if self.paths[at].wwid == wwid && !self.paths[at].gone {
                self.paths[at].admin = Admin::Asked;
            }
            at = next;
        }
        self.judge_siblings(cx, wwid, NONE);
    }

    fn ask_judge(&mut self, cx: &Context<'_>, i: u32) -> Result<(), Refusal> {
        let facts = self.facts_of(i);
        self.judge(cx, i, &facts);
        if self.paths[i].map != NONE {
            return Ok(());
        }
        Err(match self.paths[i].reason {
            Reason::NoIdentity | Reason::WeakIdentity => Refusal::NoIdentity,
            Reason::InUse => Refusal::InUse,
            Reason::NoRoom => Refusal::Full,
            _ => Refusal::Blacklisted,
        })
    }

    /// Structural requests would hang in the kernel now.
    fn refusal_while_starved(&self, m: u32) -> Result<(), Refusal> {
        if self.maps.get(m).is_some_and(|map| map.starved) { Err(Refusal::NoUsablePath) } else { Ok(()) }
    }

    fn queueing_asked(&mut self, cx: &Context<'_>, m: u32, off: bool) {
        let map = &mut self.maps[m];
        // What an outage ended before is remembered already.
        if off && !map.admin_no_queueing && map.have.table_known && map.queue_before.is_none() {
            map.queue_before = Some(map.have.features.queue_if_no_path);
        }
        if map.admin_no_queueing && !off {
            // A full time, should no path be usable.
            map.queue.restore(cx.now);
        }
        map.admin_no_queueing = off;
        self.refresh_usable(cx, m);
        self.map_touch(m);
    }

    /// Has it users besides its partitions, or have they? On an errand only, where all was read just now: its partitions would be gone
    /// before the kernel says so. (A daemon makes them again.)
    fn in_use(&self, m: u32) -> bool {
        self.options.errand && !self.maps[m].settings.deferred_remove && self.users(m) > 0
    }

    /// A map to be removed is open: it stays, and so do its paths.
    pub(super) fn remove_busy(&mut self, _cx: &Context<'_>, m: u32) {
        let map = &mut self.maps[m];
        (map.remove, map.dismiss, map.named) = (false, false, false);
        self.asks.busy = true;
        map.replan = true;
        self.asks.refuse(Goal::MapAbsent(self.map_id(m)), Refusal::InUse);
    }

    /// The group that is to be used has lost its paths: nothing is done about it once they are back.
    pub(super) fn switch_dropped(&mut self, m: u32) {
        self.maps[m].switch_to = None;
        self.asks.refuse(Goal::Switched(self.map_id(m)), Refusal::NoUsablePath);
    }

    fn map_at(&self, id: MapId) -> Option<&super::MapSlot> {
        self.maps.get(id.index).filter(|m| m.head.generation == id.generation)
    }

    /// `Some` when the goal is reached or out of reach.
    fn reached(&self, goal: Goal) -> Option<Result<(), Refusal>> {
        let path = |id: PathId| self.path_at(id).map(|i| &self.paths[i]);
        let when = |done: bool| done.then_some(Ok(()));
        let stuck = |m: &super::MapSlot| m.last_error.filter(|_| m.attempts >= super::mapsteps::GIVE_UP).map(|e| Err(Refusal::Kernel(e)));
        match goal {
            Goal::Known(result) => Some(result),
            Goal::PathFailed(id) => {
                path(id).map_or(Some(Err(Refusal::NoSuchPath)), |p| when(p.live_in == NONE || p.dm == DmPathState::Failed))
            }
            Goal::PathActive(id) => path(id).map_or(Some(Err(Refusal::NoSuchPath)), |p| {
                when(p.live_in == NONE || p.dm == DmPathState::Active || p.judged && !p.usable() && !p.stale)
            }),
            Goal::PathOut(id) => path(id).map_or(Some(Ok(())), |p| when(p.live_in == NONE)),
            Goal::PathIn(id) => path(id).map_or(Some(Err(Refusal::NoSuchPath)), |p| match self.maps.get(p.map) {
                Some(m) => when(p.live_in == p.map).or_else(|| stuck(m)),
                None => Some(Err(Refusal::Blacklisted)),
            }),
            Goal::MapLive(id) => self
                .map_at(id)
                .map_or(Some(Err(Refusal::NoSuchMap)), |m| when(m.have.known == Known::Live && m.have.active).or_else(|| stuck(m))),
            Goal::MapAbsent(id) => self.map_at(id).map_or(Some(Ok(())), |m| {
                // With deferred_remove it is enough that the kernel has been told.
                when(m.have.known == Known::Absent || (!m.remove && m.have.deferred)).or_else(|| stuck(m))
            }),
            Goal::NoRemovals => {
                let left = self.maps.iter().any(|(_, m)| m.remove && m.attempts < super::mapsteps::GIVE_UP);
                (!left).then_some(if self.asks.busy { Err(Refusal::InUse) } else { Ok(()) })
            }
            Goal::Switched(id) => self.map_at(id).map_or(Some(Err(Refusal::NoSuchMap)), |m| when(m.switch_to.is_none())),
            Goal::Suspended(id) => self.map_at(id).map_or(Some(Err(Refusal::NoSuchMap)), |m| when(m.have.suspended).or_else(|| stuck(m))),
            Goal::Running(id) => self.map_at(id).map_or(Some(Err(Refusal::NoSuchMap)), |m| when(!m.have.suspended).or_else(|| stuck(m))),
            Goal::Reloaded(id) => self.map_at(id).map_or(Some(Err(Refusal::NoSuchMap)), |m| when(!m.force_reload).or_else(|| stuck(m))),
            Goal::Resized(id) => {
                let size = |m: &super::MapSlot| self.paths.get(m.paths.head).map(|p| p.size);
                self.map_at(id).map_or(Some(Err(Refusal::NoSuchMap)), |m| match self.measured(id.index)? {
                    true => when(size(m) == Some(m.have.size)).or_else(|| stuck(m)),
                    false => Some(Err(Refusal::SizesDiffer)),
                })
            }
            Goal::Stopped => self.stopped().then_some(Ok(())),
        }
    }

    #[inline(never)]
    pub(super) fn answer_asks(&mut self, cx: &Context<'_>, emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>) {
        while let Some(&token) = self.asks.turned_away.first() {
            if emit(Action::Answer { token, result: Err(Refusal::Full) }).is_err() {
                return;
            }
            take_out(&mut self.asks.turned_away, 0);
        }
        let mut k = 0;
        while let Some(&p) = self.asks.waiting.get(k) {
            let late = (p.until <= cx.now).then_some(Err(Refusal::TimedOut));
            let reached = self.reached(p.goal);
            if let (Goal::Switched(id), None, Some(_)) = (p.goal, reached, late)
                && self.asks.waiting.iter().filter(|other| other.goal == p.goal).count() == 1
            {
                // Another group may be the right one by the time it could be done.
                self.maps[id.index].switch_to = None;
            }
            match reached.or(late) {
                Some(result) => {
                    if emit(Action::Answer { token: p.token, result }).is_err() {
                        // Asked again with the next call; the answer is remembered.
                        self.asks.waiting[k].goal = Goal::Known(result);
                        self.asks.waiting[k].until = cx.now + Duration::from_secs(1);
                        k += 1;
                        continue;
                    }
                    take_out(&mut self.asks.waiting, k);
                }
                None => k += 1,
            }
        }
    }

    /// The engine's work ends: see [`Ask::Shutdown`].
    fn stop(&mut self, cx: &Context<'_>) {
        self.stopping = true;
        for m in 0..self.maps.capacity() as u32 {
            if self.maps.get(m).is_none() {
                continue;
            }
            self.maps[m].admin_suspend = false;
            self.maps[m].remove = false;
            self.map_touch(m);
        }
        let _ = cx;
    }

    /// Is everything put in order that `stop` began?
    fn stopped(&self) -> bool {
        self.stopping && self.map_ready.len == 0 && self.map_heavy.len == 0 && self.open_maps == 0
    }
}

/// Removes what stands at `at`; the last takes its place.
fn take_out<T>(list: &mut Vec<T, PENDING, u8>, at: usize) {
    let last = list.pop();
    if let (Some(place), Some(last)) = (list.get_mut(at), last) {
        *place = last;
    }
}
