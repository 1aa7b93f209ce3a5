//! What a worker is given: one step of the engine as a value that owns everything it needs, and what came of it.
//!
//! A path's descriptors travel with its job and come back with it, so that no two jobs of one path can run and a path that is closed
//! meanwhile keeps them until the job ends. Runs on workers; decides nothing.

use super::tools::{DirectReader, PartitionRoom, Tools};
use crate::apps::reading::{self, Places};
use crate::conf::names::{self, Form};
use crate::dmioctl::{Failure, Page};
use crate::engine::{Attribute, Ticket};
use crate::fault::Errno;
use crate::model::{DevName, DevNo, MapId, MapName, PathFacts, PathId, Sectors, SysState, Text};
use crate::raw::{AsFd, OwnedFd};
use crate::sgio::{self, Outcome, SENSE};
use crate::wire::dm::{Cookie, Request, Target};
use crate::wire::nvme::Admin;
use crate::wire::partition::{self, Found, Partition};
use crate::wire::root::{Candidate, Root};
use crate::wire::scsi::Command;
use crate::wire::superblock;
use crate::workers::Work;
use crate::{dmioctl, files, sysfs};
use core::fmt::Write;

/// Result of [`Task::Peek`]: nothing on the disk is what was looked for.
pub const NO_MATCH: u32 = u32::MAX;
/// Root is not on the disk as it is, but may be inside what others open there.
pub const INSIDE: u32 = u32::MAX - 1;
/// Partitions of one disk that are looked at for root: more do not fit the worker's stack, and no root disk has them.
const PEEKED: usize = 64;

/// Descriptors of one path: its node and its sysfs `state` (none for what has no such file).
pub struct PathFds {
    pub device: OwnedFd,
    pub state: Option<OwnedFd>,
}

/// One step. The command makes it large; a pointer to it would have to live somewhere else.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Task {
    #[default]
    Nothing,
    Open {
        path: PathId,
        ticket: Ticket,
    },
    Close {
        path: PathId,
    },
    State {
        path: PathId,
        ticket: Ticket,
    },
    Scsi {
        path: PathId,
        ticket: Ticket,
        command: Command,
    },
    /// A question of ours, not the engine's, to the disk `name`.
    Ask {
        command: Command,
    },
    Admin {
        path: PathId,
        ticket: Ticket,
        command: Admin,
    },
    Read {
        path: PathId,
        ticket: Ticket,
        length: u32,
    },
    Write {
        path: PathId,
        ticket: Ticket,
        attribute: Attribute,
        value: i64,
    },
    /// Reads everything sysfs knows of the disk `name`.
    Facts,
    /// The same, and asks the disk itself for what the kernel did not get to read when it found it: who it is and, if it may `rescan`, how large.
    /// An error: it does not answer now.
    Identify {
        rescan: bool,
    },
    /// Looks into the disk `name` for the root that `text` asks for: the result is the partition's number, 0 for the whole disk.
    Peek,
    /// The request is written into the page already; `opcode` is its ioctl.
    Dm {
        map: MapId,
        ticket: Ticket,
        opcode: u32,
        answer: Answer,
    },
    /// Renames the map with the uuid in `text` to `name`.
    Rename {
        map: MapId,
        ticket: Ticket,
        cookie: Cookie,
    },
    /// Reads one dm device: header, then status into `page`, table into `more`.
    Look {
        devno: DevNo,
    },
    /// LIST_DEVICES into `big`; for `survey` each device is looked at afterwards.
    List {
        survey: bool,
    },
    Partitions {
        map: MapId,
        ticket: Ticket,
        path: PathId,
        through: Option<DevNo>,
    },
    PathPartitions {
        path: PathId,
        keep: bool,
    },
    Node {
        devno: Option<DevNo>,
    },
    /// Adds the lines in `more` to the bindings file of the directory `text`.
    Keep {
        length: u16,
    },
    /// Reads the configuration's files into `big`: the result is how many bytes that were.
    Configuration,
    /// Writes the lines in `page` (each ended by a newline, its level first) to the sink.
    Log {
        length: u16,
    },
}

/// What a dm request's answer is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    Created,
    /// Header, with the status line where there is one.
    Status,
    Table,
}

/// One worker's slot: the step, its buffers, its result.
pub struct Job {
    pub tools: &'static Tools,
    pub task: Task,
    pub name: DevName,
    pub text: Text<128>,
    pub fds: Option<PathFds>,
    /// Elsewhere: a slot that held pages would be as aligned as they are, and half as large again.
    pub page: &'static mut Page,
    pub more: &'static mut Page,
    pub sense: [u8; SENSE],
    pub outcome: Outcome,
    pub facts: PathFacts,
    /// The kernel was told to look at the disk again.
    pub rescanned: bool,
    /// Who it is was asked of the disk itself.
    pub asked: bool,
    /// Bytes of udev database text in `page`; `None` where udev keeps none.
    pub udev: Option<usize>,
    pub state: Option<SysState>,
    pub result: Result<u32, Errno>,
    /// Lent to the one partition job at a time.
    pub room: Option<&'static mut PartitionRoom>,
    pub big: Option<&'static mut [u8]>,
    pub places: Option<&'static Places<'static>>,
}

impl Job {
    pub fn new(tools: &'static Tools, page: &'static mut Page, more: &'static mut Page) -> Job {
        Job {
            tools,
            task: Task::Nothing,
            name: DevName::new(),
            text: Text::new(),
            fds: None,
            page,
            more,
            sense: [0; SENSE],
            outcome: Outcome::default(),
            facts: PathFacts::default(),
            rescanned: false,
            asked: false,
            udev: None,
            state: None,
            result: Ok(0),
            room: None,
            big: None,
            places: None,
        }
    }

    fn open(&mut self) -> Result<u32, Errno> {
        let device = sgio::open(self.tools.roots.dev.as_fd(), &self.name)?;
        let state = sysfs::open_state(&self.tools.roots, &self.name).ok();
        self.fds = Some(PathFds { device, state });
        Ok(0)
    }

    /// The device's own state; `None` where there is no such attribute. A removed device's attribute answers ENODEV.
    fn read_state(&self) -> Option<SysState> {
        let state = self.fds.as_ref()?.state.as_ref()?;
        Some(sysfs::read_state(state.as_fd()))
    }

    /// May a command be sent in this state? In `blocked` it would be held without any timeout.
    fn forbidden(&mut self) -> bool {
        self.state = None;
        match self.read_state() {
            None | Some(SysState::Running | SysState::Unknown) => false,
            state => {
                self.state = state;
                true
            }
        }
    }

    fn scsi(&mut self, command: &Command) -> Result<u32, Errno> {
        if !self.forbidden()
            && let Some(fds) = &self.fds
        {
            self.outcome = sgio::execute(sgio::borrow(&fds.device), command, self.page, &mut self.sense);
        }
        Ok(0)
    }

    fn dm(&mut self, opcode: u32) -> Result<u32, Errno> {
        self.tools.control()?.call_page(opcode, self.page).map(|()| 0).map_err(Failure::errno)
    }

    #[inline(never)]
    fn rename(&mut self, cookie: Cookie) -> Result<u32, Errno> {
        let control = self.tools.control()?;
        let mut old = MapName::new();
        {
            let reply = control.submit(Target::Uuid(&self.text), &Request::Info, self.page).map_err(Failure::errno)?;
            let name = core::str::from_utf8(reply.info().name).map_err(|_| Errno::INVAL)?;
            old.push_str(name).map_err(|_| Errno::NOSPC)?;
        }
        let to = core::str::from_utf8(self.more.0.split(|&b| b == 0).next().unwrap_or(&[])).map_err(|_| Errno::INVAL)?;
        control.submit(Target::Name(&old), &Request::Rename { to, cookie }, self.page).map(|_| 0).map_err(Failure::errno)
    }

    /// Status into `page`, table into `more`; the header of the status call is the newer one and is kept.
    fn look(&mut self, devno: DevNo) -> Result<u32, Errno> {
        let control = self.tools.control()?;
        control.submit(Target::Device(devno), &Request::TableLine, self.more).map_err(Failure::errno)?;
        control.submit(Target::Device(devno), &Request::Status, self.page).map_err(Failure::errno)?;
        Ok(0)
    }

    fn list(&mut self) -> Result<u32, Errno> {
        let control = self.tools.control()?;
        let Some(big) = self.big.as_mut() else { return Err(Errno::NOBUFS) };
        control.list(Target::NONE, big).map(|_| 0).map_err(Failure::errno)
    }

    #[inline(never)]
    fn read_partitions(&mut self, through: Option<DevNo>) -> Result<u32, Errno> {
        let Some(room) = self.room.as_mut() else { return Err(Errno::NODEV) };
        let map = match through {
            Some(devno) => {
                let mut name = DevName::new();
                let _ = write!(name, "dm-{}", devno.minor);
                Some(sgio::open_disk(self.tools.roots.dev.as_fd(), &name, devno)?)
            }
            None => None,
        };
        let device = map.as_ref().or(self.fds.as_ref().map(|fds| &fds.device)).ok_or(Errno::NODEV)?;
        let mut reader = DirectReader::new(device, self.page)?;
        let mut found = Found::new(&mut room.partitions, &mut room.complaints);
        let kind = partition::read(&mut reader, &partition::Options::default(), &mut found)?;
        if !found.complete() {
            // Part of the table could not be read: nothing may be removed on the word of this list.
            return Err(Errno::IO);
        }
        room.kind = kind;
        Ok(0)
    }

    pub(super) fn facts(&mut self) -> Result<(), Errno> {
        self.udev = None;
        sysfs::read_facts(&self.tools.roots, &self.name, &mut self.more.0, &mut self.facts)
    }

    fn udev(&mut self) {
        let text = sysfs::read_udev(&self.tools.roots, self.facts.devno, &mut self.page.0);
        self.udev = text.ok().flatten().map(<[u8]>::len);
    }

    // Not inlined, nor are `rename` and `read_partitions`: what a worker does most often would stand on their frames.
    #[inline(never)]
    fn peek(&mut self) -> Result<u32, Errno> {
        sysfs::read_facts(&self.tools.roots, &self.name, &mut self.more.0, &mut self.facts)?;
        let Some(root) = Root::parse(&self.text) else { return Err(Errno::INVAL) };
        if matches!(root, Root::Kernel(_) | Root::Disk { .. }) {
            // Nothing on the disk says so: who looks for it knows.
            return Ok(NO_MATCH);
        }
        if let Root::Device(devno) = root {
            let mut number = if devno == self.facts.devno { 0 } else { NO_MATCH };
            sysfs::partitions(&self.tools.roots, &self.name, &mut |_, partition| {
                if partition.devno == devno {
                    number = partition.number;
                }
            })?;
            return Ok(number);
        }
        let device = sgio::open(self.tools.roots.dev.as_fd(), &self.name)?;
        let mut reader = DirectReader::new(&device, self.page)?;
        let mut partitions = heapless::Vec::<Partition, PEEKED>::new();
        let mut complaints = heapless::Vec::<partition::Complaint, 1>::new();
        let mut found = Found::new(&mut partitions, &mut complaints);
        partition::read(&mut reader, &partition::Options::default(), &mut found)?;
        let by_ids = matches!(root, Root::Uuid(_) | Root::Label(_));
        let mut inside = false;
        let facts = &self.facts;
        let matches = |partition, ids: Option<&superblock::Ids>| {
            root.is(&Candidate { devno: facts.devno, name: &facts.name, uuid: "", wwid: &facts.wwid, partition, ids })
        };
        if partitions.is_empty() && by_ids {
            let ids = superblock::read(&mut reader, Sectors(0), facts.size)?;
            inside = ids.is_none() && superblock::opened_by_others(&mut reader, Sectors(0), facts.size).unwrap_or(false);
            return Ok(if matches(None, ids.as_ref()) {
                0
            } else if inside {
                INSIDE
            } else {
                NO_MATCH
            });
        }
        for partition in &partitions {
            let ids = if by_ids { superblock::read(&mut reader, partition.start, partition.length).ok().flatten() } else { None };
            if matches(Some((partition, &partitions)), ids.as_ref()) {
                return Ok(partition.number);
            }
            inside |=
                by_ids && ids.is_none() && superblock::opened_by_others(&mut reader, partition.start, partition.length).unwrap_or(false);
        }
        Ok(if inside { INSIDE } else { NO_MATCH })
    }

    fn path_partitions(&mut self, keep: bool) -> Result<u32, Errno> {
        let Some(fds) = &self.fds else { return Err(Errno::NODEV) };
        let device = sgio::borrow(&fds.device);
        if keep {
            return sgio::reread_partitions(device).map(|()| 0);
        }
        let mut in_use = 0;
        sysfs::partitions(&self.tools.roots, &self.name, &mut |_, partition| {
            if sgio::delete_partition(device, partition.number) == Err(Errno::BUSY) {
                in_use = partition.number;
            }
        })?;
        Ok(in_use)
    }

    fn node(&mut self, devno: Option<DevNo>) -> Result<u32, Errno> {
        let dev = self.tools.roots.dev.as_fd();
        match devno {
            Some(devno) => dmioctl::link(dev, &self.text, devno).map(|()| 0),
            None => dmioctl::unlink(dev, &self.text).map(|()| 0),
        }
    }

    /// Somebody may have written to the file since it was read: lines whose WWID or alias it has are left out. How many that were not the same.
    #[inline(never)]
    fn keep(&mut self, length: usize) -> Result<u32, Errno> {
        const FILE: &str = "bindings";
        let dir = files::open_or_make_dir(&self.text)?;
        let (mut lines, mut others) = (self.more.0.get_mut(..length).unwrap_or_default(), 0);
        let read = files::lines(&dir, FILE, &mut self.page.0, &mut |line| {
            if let Some((wwid, alias)) = Form::Bindings.parse(line) {
                let (left, other) = names::leave_out(Form::Bindings, lines, wwid, alias);
                lines = core::mem::take(&mut lines).get_mut(..left).unwrap_or_default();
                others += u32::from(other);
            }
            true
        });
        if let Err(errno) = read
            && errno != Errno::NOENT
        {
            return Err(errno);
        }
        let mut head = Text::<192>::new();
        let _ = names::emit_header(&mut head, Form::Bindings);
        files::append(&dir, FILE, head.as_bytes(), lines, &mut self.page.0).map(|()| others)
    }

    /// After a switch of the root those of the new one.
    #[inline(never)]
    fn configuration(&mut self) -> Result<u32, Errno> {
        let (Some(places), Some(room)) = (self.places, self.big.as_deref_mut()) else { return Err(Errno::NOBUFS) };
        let used = files::in_host_root(self.tools.roots.proc.as_fd(), || reading::read(places, room))?;
        used.map(|used| used as u32).map_err(|_| Errno::IO)
    }

    fn log(&mut self, length: usize) {
        let lines = self.page.0.get(..length).unwrap_or(&[]);
        for line in lines.split(|&b| b == b'\n') {
            if let [level, text @ ..] = line
                && let Ok(text) = core::str::from_utf8(text)
            {
                self.tools.sink.write(level & 7, text);
            }
        }
    }
}

impl Work for Job {
    #[inline(never)]
    fn work(&mut self) {
        self.result = match self.task {
            Task::Nothing => Ok(0),
            Task::Open { .. } => self.open(),
            Task::Close { .. } => {
                self.fds = None;
                Ok(0)
            }
            Task::State { .. } => {
                self.state = Some(self.read_state().unwrap_or(SysState::Unknown));
                Ok(0)
            }
            Task::Scsi { command, .. } => self.scsi(&command),
            Task::Ask { command } => {
                let result = self.open().and_then(|_| self.scsi(&command));
                self.fds = None;
                result
            }
            Task::Admin { command, .. } => match self.forbidden() {
                true => Ok(0),
                false => match &self.fds {
                    Some(fds) => sgio::admin(sgio::borrow(&fds.device), &command, self.page).map(|n| n as u32),
                    None => Err(Errno::NODEV),
                },
            },
            Task::Read { length, .. } => match self.forbidden() {
                true => Ok(0),
                false => match &self.fds {
                    Some(fds) => sgio::read(sgio::borrow(&fds.device), 0, length as usize, self.page).map(|n| n as u32),
                    None => Err(Errno::NODEV),
                },
            },
            Task::Write { attribute, value, .. } => sysfs::write_attribute(&self.tools.roots, &self.name, attribute, value).map(|()| 0),
            Task::Facts | Task::Identify { .. } => {
                let known = if let Task::Identify { rescan } = self.task { self.identify(rescan) } else { self.facts() };
                known.map(|()| {
                    self.udev();
                    0
                })
            }
            Task::Peek => self.peek(),
            Task::Dm { opcode, .. } => self.dm(opcode),
            Task::Rename { cookie, .. } => self.rename(cookie),
            Task::Look { devno } => self.look(devno),
            Task::List { .. } => self.list(),
            Task::Partitions { through, .. } => self.read_partitions(through),
            Task::PathPartitions { keep, .. } => self.path_partitions(keep),
            Task::Node { devno } => self.node(devno),
            Task::Keep { length } => self.keep(usize::from(length)),
            Task::Configuration => self.configuration(),
            Task::Log { length } => {
                self.log(usize::from(length));
                Ok(0)
            }
        };
    }
}
