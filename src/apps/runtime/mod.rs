//! The loop that ties engine and shell together: takes the engine's actions to workers, brings answers back as events, listens for
//! uevents and dm events. One for all commands; they differ in what they wait for.
//!
//! The main thread never does anything that can sleep on a device.

mod bring;
mod identify;
pub mod job;
pub mod live;
pub mod tools;
mod walk;

use crate::apps::reading::Places;
use crate::dmioctl::Control;
use crate::engine::{Action, Attribute, Context, Engine, Event, Note, Refusal, Refused, Subject, Ticket, Unsettled};
use crate::fault::Errno;
use crate::model::{DevName, DevNo, Instant, MapId, PathFacts, PathId, Sectors, SysState, Text};
use crate::netlink::Uevents;
use crate::raw::{AsFd, OwnedFd};
use crate::wait::{self, Poll};
use crate::wire::cursor::put;
use crate::wire::dm::{self, Request, Target};
use crate::wire::scsi::{Command, Reply};
use crate::workers::{Crew, MOST};
use crate::{conf::settings::Lookup, wire::dm::Message};
use core::time::Duration;
use identify::{Asked, Blank};
use job::{Answer, Job, PathFds, Task};
use tools::{PartitionRoom, READERS, Tools};
use walk::{Names, Walk};

/// The worker that carries dm messages and status reads: a reinstate must never wait for a load.
const MESSAGES: u64 = 1 << 0;
/// The worker for loads and suspends: a load may wait for a host in error recovery.
const LOADS: u64 = 1 << 1;
/// The worker for what can sleep in the allocator only: the kernel's log, links.
const CLERK: u64 = 1 << 2;
/// Workers for paths: everything above the reserved three.
const GENERAL: u64 = !(MESSAGES | LOADS | CLERK);
const NO_DEVICE: DevNo = DevNo { major: 0, minor: 0 };
/// The request that loads a table.
const LOAD: u32 =
    Request::Load { size: Sectors(0), read_only: false, content: dm::Content::Linear { device: NO_DEVICE, start: Sectors(0) } }.opcode();
/// Workers for paths that are kept from what others could do, or could wait for.
const SPARED: u32 = 2;
/// How long the answers of one round of checks may wait for each other.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often it is looked whether there is memory to spare, while maps starve.
const MEMORY_PAUSE: Duration = Duration::from_secs(1);
/// Workers a pool has at least.
pub const FEWEST: usize = 6;

const TOKEN_WORKERS: u64 = 1;
const TOKEN_UEVENTS: u64 = 2;
const TOKEN_DM: u64 = 3;
/// Tokens from here on are the caller's.
pub const TOKEN_OTHERS: u64 = 16;

/// What a disk holds of what was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    Nothing,
    /// LUKS, LVM or MD, which others open: it may be inside.
    Openable,
    /// In this partition; 0 for the whole disk.
    Root(u32),
}

/// What the engine says to people; the caller decides what becomes of it.
pub trait Audience {
    fn note(&mut self, now: Instant, note: &Note, subject: &Subject<'_>);
    /// The end of an administrator's request.
    fn answer(&mut self, token: u32, result: Result<(), Refusal>);
    /// A disk was seen. True: look into it for what [`Hands::look_for`] was told.
    fn disk(&mut self, _facts: &PathFacts) -> bool {
        false
    }
    /// It was looked into; `found` is what it holds, or why it cannot be read now: it will be looked into again. `several`: it has been seen through more than one port. True: what the engine thinks of it may have changed.
    fn looked_into(&mut self, _facts: &PathFacts, _several: bool, _found: Result<Held, Errno>) -> bool {
        false
    }
    /// The answer to [`Hands::ask`]; `Err` with the state of a device that nothing may be sent to.
    fn asked(&mut self, _answer: Result<&Reply<'_>, SysState>) {}
    /// An alias is to be kept.
    fn bind(&mut self, _wwid: &str, _alias: &str) {}
    /// What came of [`Hands::read`]: so many bytes of the memory.
    fn read(&mut self, _result: Result<u32, Errno>, _memory: Option<&'static mut [u8]>) {}
    /// What came of [`Hands::keep`].
    fn kept(&mut self, _result: Result<u32, Errno>) {}
}

/// What is kept per path slot of the engine.
#[derive(Default)]
pub struct Desk {
    fds: Option<PathFds>,
    /// The name it was opened by.
    name: DevName,
    /// A job is under way; the descriptors travel with it.
    away: bool,
    blank: Blank,
}

/// Everything but the engine: what carries its actions out.
pub struct Hands {
    pub tools: &'static Tools,
    pub poll: Poll,
    crew: Crew<Job>,
    /// Kept open: the workers write to it, epoll reports it.
    _woken: OwnedFd,
    uevents: Option<Uevents>,
    /// Uevents were lost, and may be until there are none left.
    deafened: bool,
    /// A control descriptor of its own: its event counter is private.
    events: Option<Control>,
    /// /proc/meminfo, and when it is read again; only while maps starve.
    memory: Option<OwnedFd>,
    memory_at: Option<Instant>,
    paths: &'static mut [Desk],
    big: Option<&'static mut [u8]>,
    rooms: heapless::Vec<&'static mut PartitionRoom, READERS>,
    scan: Walk,
    wanted: Names,
    /// When the last of them was given to a worker.
    read_at: Instant,
    /// Being read now. One at a time for each disk: of two answers the older might come last, and stay.
    reading: heapless::Vec<DevName, MOST>,
    survey: Walk,
    /// Disks to be looked into, and for what.
    peeks: Names,
    peeking: u32,
    /// When those that could not be read are looked into again.
    peek_again: Option<Instant>,
    looked_for: Text<128>,
    /// Disks that are asked who they are.
    asked: Asked,
    /// /dev/mapper names are made by us (no udev).
    pub make_nodes: bool,
    /// Nobody waits for an answer: checks and status reads of one turn are told of together.
    calm: bool,
    /// A map's I/O waits for a path: memory may be short, and whoever asks the kernel for some may not come back.
    starving: bool,
    /// Until when they are.
    patience: Option<Instant>,
    /// Writes nothing at all: actions that would change something are refused.
    pub dry: bool,
    /// Named maps only are touched: no other disk is written to either.
    pub errand: bool,
    /// A table was taken: what its handler needs is in the kernel.
    loaded: bool,
    /// System-changing dm requests so far: `boot` a second time must have none.
    pub changes: u32,
}

/// What `Hands::new` is given besides the pool.
pub struct Memory {
    pub paths: &'static mut [Desk],
    pub big: &'static mut [u8],
    pub rooms: heapless::Vec<&'static mut PartitionRoom, READERS>,
    pub names: &'static mut [DevName],
    pub peeks: &'static mut [DevName],
}

/// Arms the device mapper's events: first armed, then looked, so that nothing is lost in between. Header-only, so it allocates nothing and
/// does not sleep. Not inlined: the loop would stand on its page. No way around the page: where there is one, the LLVM of Rust 1.95 moves
/// the making of the frame to where it is needed, and forgets half of it for a frame that is aligned to pages and probed.
#[inline(never)]
fn arm(events: Control) {
    let _ = events.submit(Target::NONE, &Request::ArmPoll, &mut crate::dmioctl::Page::new());
}

impl Hands {
    pub fn new(tools: &'static Tools, crew: Crew<Job>, woken: OwnedFd, uevents: Option<Uevents>, memory: Memory) -> Result<Hands, Errno> {
        let poll = Poll::new()?;
        // By edges: what it tells of is collected to the end each time, so nobody has to read it.
        poll.add_edge(crate::sock::fd(&woken), TOKEN_WORKERS)?;
        if let Some(uevents) = &uevents {
            poll.add(uevents.fd(), TOKEN_UEVENTS)?;
        }
        let events = tools.events();
        if let Some(events) = events {
            poll.add(events.fd(), TOKEN_DM)?;
        }
        Ok(Hands {
            tools,
            poll,
            crew,
            _woken: woken,
            uevents,
            deafened: false,
            events,
            memory: crate::sysfs::open_memory(&tools.roots).ok(),
            memory_at: None,
            paths: memory.paths,
            big: Some(memory.big),
            rooms: memory.rooms,
            scan: Walk::default(),
            wanted: Names::new(memory.names),
            read_at: Instant::ZERO,
            reading: heapless::Vec::new(),
            survey: Walk::default(),
            peeks: Names::new(memory.peeks),
            peeking: 0,
            peek_again: None,
            looked_for: Text::new(),
            asked: Asked::default(),
            make_nodes: false,
            calm: false,
            starving: false,
            patience: None,
            dry: false,
            errand: false,
            loaded: false,
            changes: 0,
        })
    }

    /// Disks that the audience wants looked into are searched for this `root=`.
    pub fn look_for(&mut self, root: &str) {
        self.looked_for.clear();
        let _ = self.looked_for.push_str(root);
    }

    /// Workers that hold a job, and how many there are.
    pub fn load(&self) -> (u32, usize) {
        (self.crew.busy().count_ones(), self.crew.workers())
    }

    /// Writes an attribute of the disk or host `name` that the engine did not ask for; what came of it is seen in sysfs.
    pub fn write(&mut self, name: &str, attribute: Attribute, value: i64) -> Result<(), Refused> {
        let worker = self.crew.free(GENERAL).ok_or(Refused::Full)?;
        let nobody = PathId { index: u32::MAX, generation: 0 };
        let job = self.fill(worker, Task::Write { path: nobody, ticket: Ticket::default(), attribute, value })?;
        job.fds = None;
        job.name.clear();
        job.name.push_str(name).map_err(|_| Refused::Full)?;
        self.send(worker)
    }

    /// Sends a command to the disk `name` that the engine did not ask for; the audience is told what comes back.
    pub fn ask(&mut self, name: &str, command: &Command) -> Result<(), Refused> {
        let worker = self.crew.free(GENERAL).ok_or(Refused::Full)?;
        let job = self.fill(worker, Task::Ask { command: *command })?;
        job.name.clear();
        job.name.push_str(name).map_err(|_| Refused::Full)?;
        self.send(worker)
    }

    /// Adds `lines`, a page of them at most, to the bindings file in the directory `state`. By a worker that is not kept from anybody else, as
    /// the disk that the file is on may hang.
    pub fn keep(&mut self, state: &str, lines: &[u8]) -> Result<(), Refused> {
        let worker = self.spare()?;
        let job = self.fill(worker, Task::Keep { length: lines.len() as u16 })?;
        job.text.clear();
        job.text.push_str(state).map_err(|_| Refused::Full)?;
        put(&mut job.more.0, 0, lines);
        self.send(worker)
    }

    /// Has a worker read the configuration's files into `memory`, which the audience is given back; not by one of the last, as [`Hands::keep`].
    pub fn read(&mut self, places: &'static Places<'static>, memory: &mut Option<&'static mut [u8]>) -> Result<(), Refused> {
        let worker = self.spare()?;
        let job = self.fill(worker, Task::Configuration)?;
        (job.big, job.places) = (memory.take(), Some(places));
        self.send(worker)
    }

    /// Are disks being looked into, or waiting for it?
    pub fn peeking(&self) -> bool {
        self.peeking > 0 || self.peeks.count > 0
    }

    /// Is it likely that whoever asks the kernel for memory does not come back? While I/O waits for a path, with next to nothing free or clean:
    /// the rest can only be had by writing to such paths.
    pub fn short(&self, engine: &Engine<'_>) -> bool {
        engine.starved() > 0 && self.memory.as_ref().is_some_and(|memory| !crate::sysfs::has_clean(memory.as_fd(), 32))
    }

    /// Are names under /dev/mapper being made?
    pub fn naming(&self) -> bool {
        self.crew.busy() & CLERK != 0
    }

    /// A worker that nobody else needs.
    fn spare(&self) -> Result<usize, Refused> {
        self.crew.free(GENERAL).filter(|_| self.crew.free_count(GENERAL) > SPARED).ok_or(Refused::Full)
    }

    fn fill(&mut self, worker: usize, task: Task) -> Result<&mut Job, Refused> {
        let job = self.crew.job(worker).map_err(|_| Refused::Full)?;
        job.task = task;
        Ok(job)
    }

    /// Hands the job over; `listen` wakes all that were handed over in this turn with one call.
    fn send(&mut self, worker: usize) -> Result<(), Refused> {
        self.crew.hand_over(worker).map_err(|_| Refused::Full)
    }

    /// A job that takes the path's descriptors along; `prepare` fills in the rest.
    #[inline(never)]
    fn path_job(&mut self, path: PathId, task: Task, prepare: impl FnOnce(&mut Job)) -> Result<(), Refused> {
        let Hands { crew, paths, calm, .. } = self;
        let desk = paths.get_mut(path.index as usize).ok_or(Refused::Full)?;
        if desk.away {
            return Err(Refused::Busy);
        }
        let worker = crew.free(GENERAL).ok_or(Refused::Full)?;
        let job = crew.job(worker).map_err(|_| Refused::Full)?;
        job.task = task;
        job.name.clone_from(&desk.name);
        job.fds = desk.fds.take();
        desk.away = true;
        prepare(job);
        // Not reads: how long they take may be what is asked (path_latency).
        let check = matches!(task, Task::State { .. } | Task::Scsi { .. } | Task::Admin { .. });
        if *calm && check { crew.hand_over_in_batch(worker) } else { crew.hand_over(worker) }.map_err(|_| Refused::Full)
    }

    fn map_job(&mut self, map: MapId, ticket: Ticket, device: Target<'_>, request: &Request<'_>) -> Result<(), Refused> {
        let quick = matches!(request, Request::Status | Request::TableLine | Request::Info | Request::Message(_));
        let worker = self.crew.free(if quick { MESSAGES } else { LOADS });
        // When the reserved one is taken a path's worker may help, as long as many are free. The first load goes alone: it may make the
        // kernel fetch a handler's module, and one that comes meanwhile finds half a module and is refused.
        let helped =
            self.crew.free_count(GENERAL) > SPARED + u32::from(self.starving) && (self.loaded || !matches!(request, Request::Load { .. }));
        let worker = worker.or_else(|| helped.then(|| self.crew.free(GENERAL)).flatten()).ok_or(Refused::Full)?;
        if let Request::Rename { to, cookie } = request
            && let Target::Uuid(uuid) = device
        {
            let cookie = *cookie;
            let job = self.fill(worker, Task::Rename { map, ticket, cookie })?;
            job.text.clear();
            put(&mut job.more.0, 0, to.as_bytes());
            put(&mut job.more.0, to.len(), &[0]);
            job.text.push_str(uuid).map_err(|_| Refused::Full)?;
            return self.send(worker);
        }
        let answer = match request {
            Request::Create { .. } => Answer::Created,
            Request::Status | Request::Info => Answer::Status,
            Request::TableLine => Answer::Table,
            _ => Answer::Done,
        };
        let job = self.fill(worker, Task::Dm { map, ticket, opcode: request.opcode(), answer })?;
        dm::emit(device, request, &mut job.page.0).map_err(|_| Refused::Full)?;
        if self.calm && matches!(request, Request::Status) {
            return self.crew.hand_over_in_batch(worker).map_err(|_| Refused::Full);
        }
        self.send(worker)
    }

    /// A partition table is read through its map, without the descriptors of a path: it may have to wait for that very path.
    fn map_read(&mut self, task: Task, room: &mut Option<&'static mut PartitionRoom>) -> Result<(), Refused> {
        let worker = self.spare().map_err(|_| Refused::Busy)?;
        self.fill(worker, task)?.room = room.take();
        self.send(worker)
    }

    /// Starts what the engine asks for.
    #[inline(never)]
    fn act(&mut self, now: Instant, action: &Action<'_>, audience: &mut dyn Audience) -> Result<(), Refused> {
        match *action {
            Action::Scan => self.begin_scan(),
            Action::Survey => self.begin_list(true),
            Action::List => self.begin_list(false),
            Action::Facts { name } => {
                if self.wanted.push(name) {
                    Ok(())
                } else {
                    Err(Refused::Full)
                }
            }
            Action::Open { path, ticket, name, .. } => {
                let desk = self.paths.get_mut(path.index as usize).ok_or(Refused::Full)?;
                if desk.away {
                    return Err(Refused::Busy);
                }
                if self.starving && self.crew.free_count(GENERAL) <= SPARED {
                    return Err(Refused::Full);
                }
                desk.name.clear();
                desk.name.push_str(name).map_err(|_| Refused::Full)?;
                self.path_job(path, Task::Open { path, ticket }, |_| {})
            }
            Action::Close { path } => {
                let desk = self.paths.get(path.index as usize).ok_or(Refused::Full)?;
                if !desk.away && desk.fds.is_none() {
                    return Ok(());
                }
                // The last close of a disk writes back what others left in its page cache, and waits for whoever reads its partition table
                // (block/bdev.c: sync_blockdev and open_mutex): as long as its path hangs.
                if self.crew.free_count(GENERAL) > SPARED {
                    self.path_job(path, Task::Close { path }, |_| {})?;
                }
                Err(Refused::Busy)
            }
            Action::State { path, ticket } => self.path_job(path, Task::State { path, ticket }, |_| {}),
            Action::Scsi { path, ticket, command } => self.path_job(path, Task::Scsi { path, ticket, command: *command }, |_| {}),
            Action::Admin { path, ticket, command } => self.path_job(path, Task::Admin { path, ticket, command: *command }, |_| {}),
            Action::Read { path, ticket, length } => self.path_job(path, Task::Read { path, ticket, length }, |_| {}),
            Action::Write { .. } | Action::PathPartitions { .. } | Action::Node { .. } | Action::Bind { .. } if self.dry => Ok(()),
            Action::Write { path, ticket, name, attribute, value } => {
                // It need not be open, nor ever have been.
                let desk = self.paths.get_mut(path.index as usize).filter(|desk| !desk.away).ok_or(Refused::Busy)?;
                desk.name.clear();
                desk.name.push_str(name).map_err(|_| Refused::Full)?;
                self.path_job(path, Task::Write { path, ticket, attribute, value }, |_| {})
            }
            Action::Dm { map, ticket, device, ref request } => {
                if self.dry && !matches!(request, Request::Status | Request::TableLine | Request::Info | Request::Deps) {
                    return Err(Refused::Full);
                }
                let counted = !matches!(
                    request,
                    Request::Status
                        | Request::TableLine
                        | Request::Info
                        | Request::Deps
                        | Request::Message(Message::ReinstatePath(_) | Message::FailPath(_))
                );
                let sent = self.map_job(map, ticket, device, request);
                // What found no worker is asked again, and counted then.
                self.changes += u32::from(counted && sent.is_ok());
                sent
            }
            Action::Partitions { map, ticket, path, through } => {
                // Not `Full`: what other maps need is not to wait for a disk that gives no answer.
                let Some(room) = self.rooms.pop() else { return Err(Refused::Busy) };
                let mut room = Some(room);
                let task = Task::Partitions { map, ticket, path, through };
                let result = match through {
                    None => self.path_job(path, task, |job| job.room = room.take()).map_err(|_| Refused::Busy),
                    Some(_) => self.map_read(task, &mut room),
                };
                if let Some(room) = room {
                    let _ = self.rooms.push(room);
                }
                result
            }
            Action::PathPartitions { path, keep } => self.path_job(path, Task::PathPartitions { path, keep }, |_| {}),
            Action::Node { name, devno } => {
                if !self.make_nodes {
                    return Ok(());
                }
                let worker = self.crew.free(CLERK).ok_or(Refused::Full)?;
                let job = self.fill(worker, Task::Node { devno })?;
                job.text.clear();
                job.text.push_str(name).map_err(|_| Refused::Full)?;
                self.send(worker)
            }
            Action::Bind { wwid, alias } => {
                audience.bind(wwid, alias);
                Ok(())
            }
            Action::Answer { token, result } => {
                audience.answer(token, result);
                Ok(())
            }
            Action::Note { ref note, ref subject } => {
                audience.note(now, note, subject);
                Ok(())
            }
        }
    }

    /// Lets the engine name steps until it has none or no worker is free.
    fn dispatch(&mut self, engine: &mut Engine<'_>, cx: &Context<'_>, audience: &mut dyn Audience) {
        let now = cx.now;
        // Only where nothing is being put together or waited for, and no I/O waits for a path.
        self.calm = engine.starved() == 0 && Unsettled { turns: 0, ..engine.unsettled() } == Unsettled::default();
        self.starving = !engine.quiet();
        engine.set_workers(self.crew.workers().saturating_sub(3) as u16);
        if engine.starved() == 0 {
            self.memory_at = None;
        } else if self.memory_at.is_none_or(|at| at <= now)
            && let Some(memory) = &self.memory
        {
            self.memory_at = Some(now + MEMORY_PAUSE);
            engine.process(cx, Event::Memory { plenty: crate::sysfs::has_clean(memory.as_fd(), 4) });
        }
        engine.dispatch(cx, &mut |action| self.act(now, &action, audience));
        self.walk_on(engine, cx);
    }

    /// Lets the engine name its steps and starts them: the first half of a turn. What is settled is so after this, not before.
    pub fn advance(&mut self, engine: &mut Engine<'_>, settings: &dyn Lookup, audience: &mut dyn Audience) {
        let cx = Context { now: wait::now(), settings };
        self.dispatch(engine, &cx, audience);
    }

    /// Waits until something happens or `until`, and takes it to the engine: the second half. `other` is told of the caller's own tokens.
    #[inline(never)]
    pub fn listen(
        &mut self,
        engine: &mut Engine<'_>,
        settings: &dyn Lookup,
        audience: &mut dyn Audience,
        until: Option<Instant>,
        other: &mut dyn FnMut(u64),
    ) -> Result<(), Errno> {
        self.crew.wake();
        self.patience = if self.crew.batch() { self.patience.or(Some(wait::now() + PATIENCE)) } else { None };
        let deadline =
            [engine.poll_at(), until, self.peek_again, self.asked.wake_at(), self.memory_at, self.patience].into_iter().flatten().min();
        let (mut uevents, mut dm) = (false, false);
        self.poll.wait(deadline, |token| match token {
            TOKEN_WORKERS => {}
            TOKEN_UEVENTS => uevents = true,
            TOKEN_DM => dm = true,
            token => other(token),
        })?;
        let cx = Context { now: wait::now(), settings };
        if self.patience.is_some_and(|until| until <= cx.now) {
            // One of them hangs, or is slow: the others do not wait for it.
            self.patience = None;
            self.crew.hurry();
        }
        while self.bring(engine, &cx, audience) {}
        if uevents {
            self.hear(engine, &cx);
        }
        if self.events.is_none()
            && let Some(events) = self.tools.events()
            && self.poll.add(events.fd(), TOKEN_DM).is_ok()
        {
            // A worker just opened it, and had the kernel load dm. What others made meanwhile is looked for.
            self.events = Some(events);
            dm = true;
        }
        if dm && let Some(events) = self.events {
            arm(events);
            engine.process(&cx, Event::DmEvent);
        }
        engine.process(&cx, Event::Tick);
        Ok(())
    }

    /// Hands waiting log lines to the clerk, if he is free; a parked clerk leaves them in the ring, which counts what it loses.
    pub fn log(&mut self, ring: &mut crate::klog::Ring) {
        if ring.is_empty() {
            return;
        }
        let Some(worker) = self.crew.free(CLERK) else { return };
        let Ok(job) = self.crew.job(worker) else { return };
        let mut length = 0;
        let page = &mut job.page.0;
        while length + crate::klog::LINE + 2 <= page.len()
            && let Some(line) = page.get_mut(length + 1..)
            && let Some((level, used)) = ring.pop(line)
        {
            put(page, length, &[b'0' + (level & 7)]);
            put(page, length + 1 + used, b"\n");
            length += used + 2;
        }
        job.task = Task::Log { length: length as u16 };
        let _ = self.crew.hand_over(worker);
    }

    /// Is nothing under way in the shell either?
    pub fn quiet(&self) -> bool {
        self.asked.hushed().is_some_and(|hushed| self.crew.busy() & !hushed == 0)
            && self.wanted.count == 0
            && self.peeks.count == 0
            && !self.scan.running
            && !self.survey.running
    }
}
