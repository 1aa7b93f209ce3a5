//! The simulated machine: disks in sysfs, arrays behind them, a device mapper, and a shell that carries actions out late, never, or
//! in another order, on a virtual clock. The engine under test sees nothing else.

use crate::config::{Config, HALF};
use crate::dm::{self, Disks, Dm, KTable};
use crate::rng::Rng;
use corepath::engine::{
    Action, Ask, Attribute, Context, DmAnswer, Engine, Event, LiveMap, MapSlot, MapView, Note, Options, PartSlot, PartitionSlot, PathSlot,
    PortSlot, ProbeSlot, ProfileSlot, Refusal, Refused, Sizes, Storage, Ticket, What,
};
use corepath::fault::Errno;
use corepath::model::{
    AccessState, Bus, DevNo, Hctl, Holder, Instant, MapId, PathFacts, PathId, Protocol, Sectors, SysState, Text, Tpgs, WwidOrigin,
};
use corepath::wire::dm::{Request, Target};
use corepath::wire::scsi::{Command, Reply};
use corepath::wire::table::{Status, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How a disk answers now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    Good,
    /// Commands fail at once: the host says no.
    Failing,
    /// Commands get no answer until the health changes.
    Hanging,
    /// sysfs says offline.
    Offline,
    /// sysfs says blocked: commands are held.
    Blocked,
    /// 02/04/0b.
    Standby,
    /// 05/25/00: the LUN is gone.
    Unmapped,
}

impl Health {
    pub fn carries_io(self) -> bool {
        self == Health::Good
    }
}

#[derive(Clone, Debug)]
pub struct Disk {
    pub name: String,
    pub devno: DevNo,
    pub diskseq: u64,
    pub hctl: Hctl,
    pub lun: usize,
    pub wwid: String,
    pub size: u64,
    pub read_only: bool,
    /// Not opened for writing, whatever sysfs says: sd.c between two answers of the disk.
    pub refuses_writers: bool,
    pub health: Health,
    pub present: bool,
    /// sysfs has no page of it: what is known of it is what it answers itself.
    pub blank: bool,
    /// Nor a size, until it has answered once.
    pub sizeless: bool,
    /// Requests of so many KB are taken.
    pub limit: i64,
}

#[derive(Clone, Debug)]
pub struct Lun {
    pub wwid: String,
    pub size: u64,
    pub partitions: Vec<(u32, u64, u64)>,
    /// Access states of target port groups 1 and 2; `None`: an array that knows no such thing.
    pub alua: Option<[AccessState; 2]>,
    /// SET TARGET PORT GROUPS is understood.
    pub explicit: bool,
}

/// What may go wrong in the shell and the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Answers take random times.
    pub late: bool,
    /// Some answers never come.
    pub lost: bool,
    /// Some answers come twice.
    pub doubled: bool,
    /// dm requests fail with EINTR, EBUSY, ENOMEM.
    pub errors: bool,
    /// The shell refuses steps now and then.
    pub full: bool,
}

/// An answer under way.
#[derive(Clone, Debug)]
enum Reply_ {
    Closed(PathId),
    Opened(PathId, Ticket, Result<(), Errno>),
    State(PathId, Ticket, SysState),
    Scsi {
        path: PathId,
        ticket: Ticket,
        host: u16,
        status: u8,
        sense: Vec<u8>,
        data: Vec<u8>,
        errno: Option<Errno>,
    },
    Read(PathId, Ticket, Result<u32, Errno>),
    Written(PathId, Ticket, Result<(), Errno>),
    Dm(MapId, Ticket, Result<dm::Answer, Errno>, Kind),
    Partitions(MapId, Ticket, Result<Vec<PartitionSlot>, Errno>),
    PathPartitions(PathId),
    Facts(String),
    /// `true`: the end of the walk.
    Scanned(Vec<String>, bool),
    Surveyed(Vec<(dm::Answer, Option<(String, String)>)>),
    Listed(Vec<(DevNo, String, u32)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Create,
    Status,
    Table,
}

/// An action as the shell keeps it, without the engine's borrow.
#[derive(Clone, Debug)]
pub enum Job {
    Scan,
    Survey,
    List,
    Facts(String),
    Open(PathId, Ticket, String),
    State(PathId, Ticket),
    Scsi(PathId, Ticket, Box<Command>),
    Read(PathId, Ticket, u32),
    Write(PathId, Ticket, Attribute, i64, String),
    /// The uuid a rename was asked for with; the shell finds the name.
    Dm {
        map: MapId,
        ticket: Ticket,
        opcode: u32,
        bytes: Vec<u8>,
        rename: Option<(String, String)>,
        words: String,
    },
    Partitions(MapId, Ticket, PathId, Option<DevNo>),
    PathPartitions(PathId),
    Close(PathId),
}

struct Waiting {
    at: Instant,
    order: u64,
    reply: Reply_,
    /// Whose worker is parked until then.
    owner: Owner,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owner {
    Path(u32, u32),
    Map(u32, u32),
    Nobody,
}

pub type Fault = String;

/// Memory for one engine.
pub struct Memory {
    paths: Vec<PathSlot>,
    maps: Vec<MapSlot>,
    partitions: Vec<PartSlot>,
    ports: Vec<PortSlot>,
    profiles: Vec<ProfileSlot>,
    probes: Vec<ProbeSlot>,
    words: Vec<u32>,
    times: Vec<Instant>,
}

fn slots<T: Default>(n: usize) -> Vec<T> {
    (0..n).map(|_| T::default()).collect()
}

impl Memory {
    pub fn new(sizes: Sizes) -> Memory {
        Memory {
            paths: slots(sizes.paths),
            maps: slots(sizes.maps),
            partitions: slots(sizes.partitions),
            ports: slots(sizes.ports),
            profiles: slots(sizes.profiles),
            probes: slots(sizes.probes),
            words: vec![0; sizes.words()],
            times: vec![Instant::ZERO; sizes.timers()],
        }
    }
    pub fn storage(&mut self) -> Storage<'_> {
        Storage {
            paths: &mut self.paths,
            maps: &mut self.maps,
            partitions: &mut self.partitions,
            ports: &mut self.ports,
            profiles: &mut self.profiles,
            probes: &mut self.probes,
            words: &mut self.words,
            times: &mut self.times,
        }
    }
}

pub const SMALL: Sizes = Sizes { paths: 32, maps: 16, partitions: 16, ports: 16, profiles: 4, probes: 8 };

pub struct World<'m> {
    pub now: Instant,
    pub config: Config,
    pub options: Options,
    pub disks: Vec<Disk>,
    pub luns: Vec<Lun>,
    pub dm: Dm,
    pub faults: Faults,
    pub rng: Rng,
    pub engine: Engine<'m>,
    spare: Vec<Storage<'m>>,
    waiting: Vec<Waiting>,
    parked: BTreeSet<Owner>,
    /// Commands on disks that do not answer: they come back when the disk does.
    hung: Vec<(Reply_, Owner, u64)>,
    order: u64,
    /// fds: which disk (by diskseq) each path id has open.
    fds: BTreeMap<(u32, u32), u64>,
    pub notes: Vec<(Note, String, String)>,
    pub answers: Vec<(u32, Result<(), Refusal>)>,
    pub nodes: BTreeMap<String, DevNo>,
    /// Every dm request with its time, for stories and for the trace of a failure.
    pub log: Vec<String>,
    pub keep_log: bool,
    /// Foreign devices as they must stay.
    pub foreign: BTreeMap<u32, dm::Device>,
    /// The kernel name of a disk whose attributes give an error.
    pub unreadable: Option<String>,
    /// (uuid, devno) that the engine was told is another disk now: to be failed before anything else is done.
    must_fail: BTreeSet<(String, DevNo)>,
    /// The engine was told that there is memory to spare.
    plenty: bool,
    pub next_minor: u32,
    pub next_seq: u64,
    /// How long it takes to read the last disk of a scan; a scan that runs is not begun anew.
    pub scan_time: Duration,
    /// How long a read of a disk takes, and the reading of a partition table; 0: what anything takes.
    pub read_time: Duration,
    pub table_time: Duration,
    /// How long a path's descriptors take to be closed, at least.
    pub close_time: Duration,
    /// What sysfs has for the disks' timeout.
    pub timeout_secs: u32,
    scanning: bool,
    /// Partition tables that may be read at once, and are being read.
    pub rooms: usize,
    rooms_out: usize,
    /// LUNs that answer everything but the reading of their partition table, and whether every such reading fails.
    pub unread: BTreeSet<usize>,
    pub fail_reads: bool,
    /// No worker is spared for opening a path.
    pub refuse_open: bool,
    /// Whoever makes nodes is away.
    pub refuse_nodes: bool,
    /// Workers for paths.
    pub workers: usize,
    /// Commands sent.
    pub commands: u32,
    /// Reads through a map that wait for one of its paths.
    through: Vec<(MapId, Ticket, u32, usize)>,
}

struct Sysfs<'a>(&'a [Disk]);

impl Disks for Sysfs<'_> {
    fn open(&self, devno: DevNo) -> Result<(u64, bool), Errno> {
        let d = self.0.iter().find(|d| d.present && d.devno == devno).ok_or(Errno::NODEV)?;
        if matches!(d.health, Health::Offline) { Err(Errno::NXIO) } else { Ok((d.size, d.read_only || d.refuses_writers)) }
    }
}

fn text<const N: usize>(s: &str) -> Text<N> {
    Text::try_from(s).unwrap()
}

impl<'m> World<'m> {
    pub fn new(mut spare: Vec<Storage<'m>>, config: Config, options: Options, seed: u64) -> World<'m> {
        let engine = Engine::new(spare.pop().expect("memory for one engine"), options).expect("enough words");
        World {
            now: Instant::from_secs(1000),
            config,
            options,
            disks: Vec::new(),
            luns: Vec::new(),
            dm: Dm::default(),
            faults: Faults::default(),
            rng: Rng::part(seed, 1 << 32),
            engine,
            spare,
            waiting: Vec::new(),
            parked: BTreeSet::new(),
            hung: Vec::new(),
            order: 0,
            fds: BTreeMap::new(),
            notes: Vec::new(),
            answers: Vec::new(),
            nodes: BTreeMap::new(),
            log: Vec::new(),
            keep_log: false,
            foreign: BTreeMap::new(),
            unreadable: None,
            must_fail: BTreeSet::new(),
            plenty: false,
            next_minor: 0,
            next_seq: 0,
            scan_time: Duration::ZERO,
            read_time: Duration::ZERO,
            table_time: Duration::ZERO,
            close_time: Duration::ZERO,
            timeout_secs: 30,
            scanning: false,
            rooms: usize::MAX,
            rooms_out: 0,
            unread: BTreeSet::new(),
            fail_reads: false,
            refuse_open: false,
            refuse_nodes: false,
            workers: usize::MAX,
            commands: 0,
            through: Vec::new(),
        }
    }

    /// The program ends and is started again; whatever was under way in the kernel still ends some time.
    pub fn restart(&mut self) -> bool {
        let Some(storage) = self.spare.pop() else { return false };
        self.trace(|| "restart".into());
        self.engine = Engine::new(storage, self.options).expect("enough words");
        self.must_fail.clear();
        self.fds.clear();
        // Its threads died with it.
        self.parked.clear();
        self.hung.clear();
        self.through.clear();
        self.waiting.retain(|w| !matches!(w.reply, Reply_::Scanned(..)));
        (self.scanning, self.rooms_out) = (false, 0);
        true
    }

    /// A map sends what the least of its paths took when its table was loaded: below that no path may be put.
    fn limit(&mut self, name: &str, kb: i64) -> Result<Result<(), Errno>, String> {
        let Some(d) = self.disks.iter().position(|d| d.present && d.name == name) else { return Ok(Err(Errno::NOENT)) };
        self.trace(|| format!("limit {name} {kb}"));
        if kb < 0 {
            return Ok(if self.disks[d].limit <= -kb { Ok(()) } else { Err(Errno::RANGE) });
        }
        let devno = self.disks[d].devno;
        for map in self.dm.devices.values().filter(|map| map.members().contains(&devno)) {
            let least = self.disks.iter().filter(|d| map.members().contains(&d.devno)).map(|d| d.limit).min();
            if least.is_some_and(|least| least > kb) {
                return Err(format!("{name} is to take {kb} KB, its live map {} sends {least:?}", map.name));
            }
        }
        self.disks[d].limit = kb;
        Ok(Ok(()))
    }

    pub fn trace(&mut self, what: impl FnOnce() -> String) {
        if self.keep_log {
            let line = format!("{:>10.3} {}", self.now.as_micros() as f64 / 1e6, what());
            self.log.push(line);
        }
    }

    // ---- the machine ----

    pub fn add_lun(&mut self, wwid: &str, size: u64) -> usize {
        self.luns.push(Lun { wwid: wwid.into(), size, partitions: Vec::new(), alua: None, explicit: false });
        self.luns.len() - 1
    }

    /// A disk appears in sysfs; nobody is told yet.
    pub fn add_path(&mut self, lun: usize, host: u32, target: u32) -> usize {
        let minor = self.next_minor;
        self.next_minor += 16;
        self.next_seq += 1;
        let l = &self.luns[lun];
        let disk = Disk {
            name: format!("sd{}", letters(minor / 16)),
            devno: DevNo::new(8 + (minor >> 8), minor & 0xff),
            diskseq: self.next_seq,
            hctl: Hctl { host, channel: 0, target, lun: lun as u64 },
            lun,
            wwid: l.wwid.clone(),
            size: l.size,
            read_only: false,
            refuses_writers: false,
            health: Health::Good,
            present: true,
            blank: false,
            sizeless: false,
            limit: 1280,
        };
        self.disks.push(disk);
        self.disks.len() - 1
    }

    pub fn facts(&self, d: usize) -> PathFacts {
        let disk = &self.disks[d];
        let holder = self.dm.devices.values().find(|m| m.members().contains(&disk.devno) && m.live.is_some());
        PathFacts {
            name: text(&disk.name),
            devno: disk.devno,
            diskseq: disk.diskseq,
            bus: Bus::Scsi,
            protocol: Protocol::ScsiFcp,
            hctl: Some(disk.hctl),
            vendor: text("ACME"),
            product: text("Array"),
            revision: text("1"),
            serial: text(&disk.wwid),
            wwid: text(&disk.wwid),
            wwid_origin: WwidOrigin::Vpd83,
            size: Sectors(disk.size),
            block_size: 512,
            read_only: disk.read_only,
            tpgs: match &self.luns[disk.lun] {
                Lun { alua: None, .. } => Tpgs::None,
                Lun { explicit: true, .. } => Tpgs::Both,
                _ => Tpgs::Implicit,
            },
            target_port_group: self.luns[disk.lun].alua.map(|_| group_of(disk)),
            target_port: text(&format!("t{}", disk.hctl.target)),
            target_node: text(&format!("n{}", disk.hctl.target)),
            sys_state: match disk.health {
                Health::Offline => SysState::TransportOffline,
                Health::Blocked => SysState::Blocked,
                _ => SysState::Running,
            },
            timeout_secs: self.timeout_secs,
            holder: match holder {
                None => Holder::Nobody,
                Some(m) => Holder::Map { devno: m.devno(), uuid: text(&m.uuid) },
            },
            ..PathFacts::default()
        }
    }

    /// A disk comes, and its uevent.
    pub fn comes(&mut self, lun: usize, host: u32, target: u32) -> usize {
        let d = self.add_path(lun, host, target);
        self.heard(d);
        d
    }

    /// A disk goes, and its uevent.
    pub fn goes(&mut self, d: usize) {
        self.unplug(d);
        self.heard(d);
    }

    /// A uevent of this disk.
    pub fn heard(&mut self, d: usize) {
        let name = self.disks[d].name.clone();
        self.uevent(&name);
    }

    /// Is there memory to spare? As the shell tells it while maps starve.
    pub fn memory(&mut self, plenty: bool) {
        self.plenty = plenty;
        self.feed(Event::Memory { plenty });
    }

    /// A uevent: the engine is told what sysfs says of this kernel name.
    pub fn uevent(&mut self, name: &str) {
        if self.unreadable.as_deref() == Some(name) {
            if !self.scanning {
                self.feed(Event::ScanDone { complete: false });
            }
            return;
        }
        let found = (0..self.disks.len()).find(|&d| self.disks[d].present && self.disks[d].name == name);
        match found {
            Some(d) => {
                let mut facts = self.facts(d);
                if self.disks[d].blank {
                    // As the shell does it: what sysfs says first, then what the disk says.
                    let mut half = PathFacts { wwid_origin: WwidOrigin::default(), target_port_group: None, ..facts.clone() };
                    half.wwid.clear();
                    half.serial.clear();
                    if self.disks[d].sizeless {
                        half.size = Sectors(0);
                    }
                    // udev could not ask it either: it knows the serial number only.
                    self.feed(Event::Facts { facts: &half, udev: Some(HALF), own: false });
                    if !matches!(self.disks[d].health, Health::Good | Health::Standby) {
                        return;
                    }
                    self.disks[d].sizeless = false;
                    facts = self.facts(d);
                }
                self.note_identity(&facts);
                let own = self.disks[d].blank;
                self.feed(Event::Facts { facts: &facts, udev: own.then_some(HALF), own });
            }
            None => self.feed(Event::Gone { name }),
        }
    }

    /// From now on the engine knows that this disk is not what a live table holds it for.
    fn note_identity(&mut self, facts: &PathFacts) {
        if facts.wwid.is_empty() {
            return;
        }
        // Back to what the table holds it for: nothing to fail any more.
        self.must_fail.remove(&(format!("mpath-{}", facts.wwid), facts.devno));
        let Some(p) = self.engine.find_path(&facts.name) else { return };
        if p.devno() != facts.devno || p.wwid().is_empty() || p.wwid() == facts.wwid.as_str() || !p.live() {
            return;
        }
        let uuid = format!("mpath-{}", p.wwid());
        let active = self.dm.by_uuid(&uuid).and_then(|d| d.path(facts.devno)).is_some_and(|p| p.active);
        let calm = p.map().is_some_and(|m| !self.parked.contains(&Owner::Map(m.id().index, m.id().generation)) && !m.suspended());
        if active && calm {
            self.must_fail.insert((uuid, facts.devno));
        }
    }

    pub fn feed(&mut self, event: Event<'_>) {
        let cx = Context { now: self.now, settings: &self.config };
        self.engine.process(&cx, event);
    }

    pub fn ask(&mut self, token: u32, ask: Ask<'_>) {
        self.trace(|| format!("ask {ask:?}"));
        self.feed(Event::Ask { token, ask });
    }

    /// Health changes; held commands come back when the disk answers again.
    pub fn set_health(&mut self, d: usize, health: Health) {
        self.trace(|| format!("{} is {health:?}", d));
        self.disks[d].health = health;
        if !matches!(health, Health::Hanging | Health::Blocked) {
            let seq = self.disks[d].diskseq;
            self.release(seq);
        }
    }

    pub fn unplug(&mut self, d: usize) {
        self.trace(|| format!("{d} unplugged"));
        self.disks[d].present = false;
        let seq = self.disks[d].diskseq;
        self.release(seq);
    }

    fn release(&mut self, seq: u64) {
        let (back, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.hung).into_iter().partition(|h| h.2 == seq);
        self.hung = still;
        for (reply, owner, _) in back {
            self.answer_in(Duration::from_millis(1), reply, owner);
        }
    }

    /// The access state of a disk's port group.
    pub fn access(&self, d: &Disk) -> Option<AccessState> {
        self.luns[d.lun].alua.map(|states| states[usize::from(group_of(d) - 1)])
    }

    /// Does the disk carry I/O now?
    pub fn serves(&self, d: &Disk) -> bool {
        let open = self.access(d).is_none_or(|a| matches!(a, AccessState::Optimized | AccessState::NonOptimized));
        d.present && d.health.carries_io() && open
    }

    /// One request of a user through the map of this WWID.
    pub fn io(&mut self, uuid: &str) -> Option<bool> {
        let minor = self.dm.by_uuid(uuid)?.minor;
        let serving: BTreeSet<DevNo> = self.disks.iter().filter(|d| self.serves(d)).map(|d| d.devno).collect();
        let good = |devno: DevNo| serving.contains(&devno);
        let result = self.dm.io(minor, &good);
        self.trace(|| format!("io {uuid}: {result:?}"));
        result
    }

    // ---- the shell ----

    fn answer_in(&mut self, after: Duration, reply: Reply_, owner: Owner) {
        self.order += 1;
        self.waiting.push(Waiting { at: self.now + after, order: self.order, reply, owner });
    }

    fn delay(&mut self) -> Duration {
        if !self.faults.late {
            return Duration::from_micros(100);
        }
        match self.rng.below(20) {
            0 => Duration::from_millis(self.rng.below(40_000) as u64),
            1..4 => Duration::from_millis(self.rng.below(2_000) as u64),
            _ => Duration::from_micros(self.rng.below(20_000) as u64),
        }
    }

    fn finish(&mut self, reply: Reply_, owner: Owner) {
        if self.faults.lost && self.rng.one_in(60) {
            // The worker stays parked for a while, then is free; nobody hears of it.
            self.trace(|| format!("lost: {owner:?}"));
            self.parked.remove(&owner);
            return;
        }
        let delay = self.delay();
        if self.faults.doubled && self.rng.one_in(20) {
            let again = self.delay();
            self.answer_in(delay + again, reply.clone(), Owner::Nobody);
        }
        self.answer_in(delay, reply, owner);
    }

    fn disk_of(&self, path: PathId) -> Option<usize> {
        let seq = *self.fds.get(&(path.index, path.generation))?;
        self.disks.iter().position(|d| d.diskseq == seq)
    }

    fn carry_out(&mut self, job: Job) -> Result<(), Fault> {
        match job {
            Job::Scan => {
                let mut names: Vec<String> = self.disks.iter().filter(|d| d.present).map(|d| d.name.clone()).collect();
                self.scanning = true;
                if self.scan_time.is_zero() {
                    self.finish_sure(Reply_::Scanned(names, true));
                } else {
                    let last = names.pop().into_iter().collect();
                    self.answer_in(Duration::from_millis(1), Reply_::Scanned(names, false), Owner::Nobody);
                    self.answer_in(self.scan_time, Reply_::Scanned(last, true), Owner::Nobody);
                }
            }
            Job::Survey => {
                let mut all = Vec::new();
                for d in self.dm.devices.values().filter(|d| d.uuid.starts_with("mpath-") || d.uuid.starts_with("part")) {
                    let multipath = matches!(d.live, Some((_, _, KTable::Multipath { .. })));
                    let texts = multipath.then(|| (self.dm.table_text(d.minor), self.dm.status_text(d.minor)));
                    all.push((self.dm.answer(d.minor, None), texts));
                }
                self.finish_sure(Reply_::Surveyed(all));
            }
            Job::List => {
                let all = self.dm.devices.values().map(|d| (d.devno(), d.name.clone(), d.event_nr)).collect();
                self.finish_sure(Reply_::Listed(all));
            }
            Job::Facts(name) => self.finish_sure(Reply_::Facts(name)),
            Job::Open(path, ticket, name) => {
                let owner = Owner::Path(path.index, path.generation);
                self.parked.insert(owner);
                let found = self.disks.iter().find(|d| d.present && d.name == name);
                let result = match found {
                    None => Err(Errno::NODEV),
                    Some(d) if d.health == Health::Offline => Err(Errno::NXIO),
                    Some(d) => {
                        self.fds.insert((path.index, path.generation), d.diskseq);
                        Ok(())
                    }
                };
                self.finish(Reply_::Opened(path, ticket, result), owner);
            }
            Job::State(path, ticket) => {
                let owner = Owner::Path(path.index, path.generation);
                self.parked.insert(owner);
                let state = self.disk_of(path).map_or(SysState::Deleted, |d| self.sys_state(d));
                self.finish(Reply_::State(path, ticket, state), owner);
            }
            Job::Scsi(path, ticket, command) => self.scsi(path, ticket, &command),
            Job::Read(path, ticket, length) => {
                let owner = Owner::Path(path.index, path.generation);
                self.parked.insert(owner);
                let d = self.disk_of(path);
                let health = d.filter(|&d| self.disks[d].present).map(|d| self.disks[d].health);
                let reply = match health {
                    Some(Health::Good) => Reply_::Read(path, ticket, Ok(length)),
                    Some(Health::Blocked | Health::Offline) | None => {
                        Reply_::State(path, ticket, d.map_or(SysState::Deleted, |d| self.sys_state(d)))
                    }
                    Some(_) => Reply_::Read(path, ticket, Err(Errno::IO)),
                };
                match (health, d) {
                    (Some(Health::Hanging), Some(d)) => self.hung.push((reply, owner, self.disks[d].diskseq)),
                    _ if !self.read_time.is_zero() => self.answer_in(self.read_time, reply, owner),
                    _ => self.finish(reply, owner),
                }
            }
            Job::Write(path, ticket, attribute, value, name) => {
                let owner = Owner::Path(path.index, path.generation);
                if let (Attribute::Rescan, Some(d)) = (attribute, self.disks.iter().position(|d| d.present && d.name == name)) {
                    self.disks[d].wwid = self.luns[self.disks[d].lun].wwid.clone();
                }
                self.parked.insert(owner);
                self.trace(|| format!("write {attribute:?} {name}"));
                let result = if attribute == Attribute::MaxSectorsKb { self.limit(&name, value)? } else { Ok(()) };
                self.finish(Reply_::Written(path, ticket, result), owner);
            }
            Job::Dm { map, ticket, opcode, bytes, rename, .. } => self.dm_ioctl(map, ticket, opcode, bytes, rename)?,
            Job::Close(path) => {
                let owner = Owner::Path(path.index, path.generation);
                self.fds.remove(&(path.index, path.generation));
                self.parked.insert(owner);
                self.trace(|| format!("close {path:?}"));
                let time = self.close_time.max(self.delay());
                self.answer_in(time, Reply_::Closed(path), owner);
            }
            Job::PathPartitions(path) => {
                let owner = Owner::Path(path.index, path.generation);
                self.parked.insert(owner);
                self.finish(Reply_::PathPartitions(path), owner);
            }
            Job::Partitions(map, ticket, path, through) => {
                self.rooms_out += 1;
                self.trace(|| format!("partitions of {map:?} are read by {path:?}, through {through:?}"));
                let d = self.disk_of(path);
                if let (Some(devno), Some(d)) = (through, d) {
                    self.through.push((map, ticket, devno.minor, self.disks[d].lun));
                    return Ok(());
                }
                let owner = Owner::Path(path.index, path.generation);
                self.parked.insert(owner);
                if let Some(d) = d.filter(|&d| self.unread.contains(&self.disks[d].lun)) {
                    self.hung.push((Reply_::Partitions(map, ticket, Err(Errno::IO)), owner, self.disks[d].diskseq));
                    return Ok(());
                }
                let good = |&d: &usize| !self.fail_reads && self.disks[d].present && self.disks[d].health == Health::Good;
                let result = d.filter(good).map_or(Err(Errno::IO), |d| Ok(self.partitions(self.disks[d].lun)));
                if self.table_time.is_zero() {
                    self.finish(Reply_::Partitions(map, ticket, result), owner);
                } else {
                    self.answer_in(self.table_time, Reply_::Partitions(map, ticket, result), owner);
                }
            }
        }
        Ok(())
    }

    fn partitions(&self, lun: usize) -> Vec<PartitionSlot> {
        let slot = |&(number, start, length): &(u32, u64, u64)| PartitionSlot { number, start: Sectors(start), length: Sectors(length) };
        self.luns[lun].partitions.iter().map(slot).collect()
    }

    /// Reads through maps end when their I/O does.
    fn read_through(&mut self) {
        for (map, ticket, minor, lun) in std::mem::take(&mut self.through) {
            // The handler makes the path's group active first.
            let serves = |d: &&Disk| d.present && matches!(d.health, Health::Good | Health::Standby);
            let serving: BTreeSet<DevNo> = self.disks.iter().filter(serves).map(|d| d.devno).collect();
            let result = match self.dm.devices.contains_key(&minor).then(|| self.dm.io(minor, &|devno| serving.contains(&devno))) {
                Some(None) => {
                    self.through.push((map, ticket, minor, lun));
                    continue;
                }
                Some(Some(true)) => Ok(self.partitions(lun)),
                Some(Some(false)) | None => Err(Errno::IO),
            };
            self.answer_in(Duration::from_millis(1), Reply_::Partitions(map, ticket, result), Owner::Nobody);
        }
    }

    /// What the main thread does itself is never lost.
    fn finish_sure(&mut self, reply: Reply_) {
        let delay = self.delay().min(Duration::from_secs(5));
        self.answer_in(delay, reply, Owner::Nobody);
    }

    fn sys_state(&self, d: usize) -> SysState {
        match (self.disks[d].present, self.disks[d].health) {
            (false, _) => SysState::Deleted,
            (_, Health::Offline) => SysState::TransportOffline,
            (_, Health::Blocked) => SysState::Blocked,
            _ => SysState::Running,
        }
    }

    fn scsi(&mut self, path: PathId, ticket: Ticket, command: &Command) {
        self.commands += 1;
        let owner = Owner::Path(path.index, path.generation);
        self.parked.insert(owner);
        let Some(d) = self.disk_of(path) else {
            return self.finish(Reply_::State(path, ticket, SysState::Deleted), owner);
        };
        let state = self.sys_state(d);
        if state != SysState::Running {
            return self.finish(Reply_::State(path, ticket, state), owner);
        }
        let cdb = command.cdb();
        let passive = self.access(&self.disks[d]).is_some_and(|a| matches!(a, AccessState::Standby | AccessState::Unavailable));
        let (host, mut status, mut sense) = match self.disks[d].health {
            Health::Failing => (1, 0, vec![]),
            Health::Standby => (0, 2, fixed_sense(2, 4, 0x0b)),
            Health::Unmapped => (0, 2, fixed_sense(5, 0x25, 0)),
            _ if passive && cdb[0] == 0 => (0, 2, fixed_sense(2, 4, 0x0b)),
            _ => (0, 0, vec![]),
        };
        let mut data = Vec::new();
        if host == 0 && self.disks[d].health != Health::Unmapped {
            match (cdb[0], self.luns[self.disks[d].lun].alua) {
                (0, _) => {}
                // MAINTENANCE IN, REPORT TARGET PORT GROUPS.
                (0xa3, Some(states)) => {
                    assert_eq!(cdb[1] & 0x1f, 0x0a);
                    (status, sense) = (0, vec![]);
                    data = vec![0, 0, 0, 24];
                    for (n, state) in states.iter().enumerate() {
                        data.extend([access_code(*state), 0x8f, 0, n as u8 + 1, 0, 0, 0, 1, 0, 0, 0, n as u8 + 1]);
                    }
                }
                // MAINTENANCE OUT, SET TARGET PORT GROUPS: the named group becomes active/optimized, the other passive.
                (0xa4, Some(_)) if self.luns[self.disks[d].lun].explicit => {
                    (status, sense) = (0, vec![]);
                    let group = usize::from(command.parameters()[7]);
                    let lun = self.disks[d].lun;
                    let mut states = [AccessState::Standby; 2];
                    states[group - 1] = AccessState::Optimized;
                    self.luns[lun].alua = Some(states);
                    self.trace(|| format!("lun {lun}: group {group} active"));
                }
                (0xa3 | 0xa4, _) => (status, sense) = (2, fixed_sense(5, 0x20, 0)),
                _ => data = vec![0; 96],
            }
        }
        let reply = Reply_::Scsi { path, ticket, host, status, sense, data, errno: None };
        if self.disks[d].health == Health::Hanging {
            let seq = self.disks[d].diskseq;
            // Given back as a time-out of the host when the disk returns.
            self.hung.push((reply, owner, seq));
        } else {
            self.finish(reply, owner);
        }
    }

    fn dm_ioctl(
        &mut self,
        map: MapId,
        ticket: Ticket,
        opcode: u32,
        mut bytes: Vec<u8>,
        rename: Option<(String, String)>,
    ) -> Result<(), Fault> {
        let owner = Owner::Map(map.index, map.generation);
        self.parked.insert(owner);
        let mut early = None;
        if let Some((uuid, to)) = rename {
            match self.dm.by_uuid(&uuid).map(|d| d.name.clone()) {
                None => early = Some(Err(Errno::NXIO)),
                Some(name) => {
                    let mut buffer = [0u8; 4096];
                    let request = Request::Rename { to: &to, cookie: Default::default() };
                    let n = corepath::wire::dm::emit(Target::Name(&name), &request, &mut buffer).map_err(|e| format!("emit: {e:?}"))?;
                    bytes = buffer[..n].to_vec();
                }
            }
        }
        let kind = match opcode & 0xff {
            3 => Kind::Create,
            12 if dm::decode(opcode, &bytes).3 == dm::Command::Table => Kind::Table,
            12 => Kind::Status,
            _ => Kind::Plain,
        };
        if early.is_none() && self.faults.errors && self.rng.one_in(15) {
            let errno = match opcode & 0xff {
                12 | 14 => self.rng.pick(&[Errno::INTR, Errno::NOMEM]),
                _ => self.rng.pick(&[Errno::INTR, Errno::NOMEM, Errno::BUSY, Errno::AGAIN]),
            };
            // A removal that is refused as busy is believed; the rest is tried again.
            if !(opcode & 0xff == 4 && errno == Errno::BUSY) {
                early = Some(Err(errno));
            }
        }
        let result = match early {
            Some(result) => result,
            None => self.dm.ioctl(opcode, &bytes, &Sysfs(&self.disks)),
        };
        if self.keep_log {
            let (_, uuid, _, command) = dm::decode(opcode, &bytes);
            let short = result.as_ref().map(|_| ()).map_err(|e| *e);
            // Statuses that say nothing new would hide the rest.
            if command != dm::Command::Status || short.is_err() {
                self.trace(|| format!("dm {uuid} {command:?} -> {short:?}"));
            }
        }
        self.check_foreign()?;
        self.finish(Reply_::Dm(map, ticket, result, kind), owner);
        Ok(())
    }

    /// What is not ours is as it was.
    fn check_foreign(&self) -> Result<(), Fault> {
        for (minor, before) in &self.foreign {
            if self.dm.devices.get(minor) != Some(before) {
                return Err(format!("foreign device {} was changed: {:?}", before.name, self.dm.devices.get(minor)));
            }
        }
        Ok(())
    }

    fn deliver(&mut self, w: Waiting) {
        if w.owner != Owner::Nobody {
            self.parked.remove(&w.owner);
        }
        match w.reply {
            Reply_::Closed(path) => self.feed(Event::Closed { path }),
            Reply_::Opened(path, ticket, result) => self.feed(Event::Opened { path, ticket, result }),
            Reply_::State(path, ticket, state) => self.feed(Event::State { path, ticket, state }),
            Reply_::Scsi { path, ticket, host, status, sense, data, errno } => {
                let reply = Reply { status, host, driver: if sense.is_empty() { 0 } else { 8 }, sense: &sense, data: &data, errno };
                self.feed(Event::Scsi { path, ticket, reply: &reply });
            }
            Reply_::Read(path, ticket, result) => self.feed(Event::Read { path, ticket, result }),
            Reply_::Written(path, ticket, result) => self.feed(Event::Written { path, ticket, result }),
            Reply_::PathPartitions(path) => self.feed(Event::PathPartitions { path, in_use: 0 }),
            Reply_::Partitions(map, ticket, result) => {
                self.rooms_out = self.rooms_out.saturating_sub(1);
                let result = result.as_deref().map_err(|e| *e);
                self.feed(Event::Partitions { map, ticket, result });
            }
            Reply_::Dm(map, ticket, result, kind) => match result {
                Err(errno) => self.feed(Event::Dm { map, ticket, result: Err(errno) }),
                Ok(answer) => match kind {
                    Kind::Plain => self.feed(Event::Dm { map, ticket, result: Ok(DmAnswer::Done) }),
                    Kind::Create => self.feed(Event::Dm { map, ticket, result: Ok(DmAnswer::Created(answer.devno)) }),
                    Kind::Status | Kind::Table => {
                        let line = answer.text.as_deref().unwrap_or("");
                        let multipath = answer.linear.is_none() && !line.is_empty();
                        let table = (kind == Kind::Table && multipath).then(|| Table::parse(line).expect("the kernel's own table line"));
                        let status =
                            (kind == Kind::Status && multipath).then(|| Status::parse(line).expect("the kernel's own status line"));
                        let live = live_map(&answer, table.as_ref(), status.as_ref());
                        self.feed(Event::Dm { map, ticket, result: Ok(DmAnswer::Live(&live)) });
                    }
                },
            },
            Reply_::Facts(name) => self.uevent(&name),
            Reply_::Scanned(names, end) => {
                for name in names {
                    // Read now, not when the scan was asked: sysfs shows the present.
                    if self.disks.iter().any(|d| d.present && d.name == name) {
                        self.uevent(&name);
                    }
                }
                if end {
                    self.scanning = false;
                    self.feed(Event::ScanDone { complete: self.unreadable.is_none() });
                }
            }
            Reply_::Surveyed(all) => {
                for (answer, texts) in &all {
                    let table = texts.as_ref().map(|t| Table::parse(&t.0).expect("table line"));
                    let status = texts.as_ref().map(|t| Status::parse(&t.1).expect("status line"));
                    let live = live_map(answer, table.as_ref(), status.as_ref());
                    self.feed(Event::Live(&live));
                }
                self.feed(Event::SurveyDone { complete: true });
            }
            Reply_::Listed(all) => {
                for (devno, name, event_nr) in &all {
                    if self.dm.devices.get(&devno.minor).is_none_or(|d| d.uuid.starts_with("mpath-") || d.uuid.starts_with("part")) {
                        self.feed(Event::Listed { devno: *devno, name, event_nr: *event_nr });
                    }
                }
                self.feed(Event::ListDone { complete: true });
            }
        }
    }

    // ---- time ----

    /// One call of dispatch with everything that must hold about what it names.
    pub fn dispatch(&mut self) -> Result<usize, Fault> {
        self.engine.set_workers(self.workers.min(21) as u16);
        let mut jobs: Vec<Job> = Vec::new();
        let mut told: Vec<(Note, String, String)> = Vec::new();
        let mut answers = Vec::new();
        let mut nodes = Vec::new();
        let mut fault: Option<Fault> = None;
        // Something that may not be asked while a map starves: a fault if it starved before and still does.
        let mut loud: Option<Fault> = None;
        let mut starved: Vec<MapId> = Vec::new();
        if self.engine.starved() > 0 {
            starved.extend(self.engine.maps().filter(|m| m.starved()).map(|m| m.id()));
        }
        // What lets I/O go on that waits: its table, or its being suspended, keeps it from a path that answers.
        let kept = |m: &MapView<'_>| {
            self.dm.by_uuid(&format!("mpath-{}", m.wwid())).is_some_and(|d| {
                let within = |devno: DevNo| d.path(devno).is_some();
                let newcomer = m.paths().any(|p| p.usable() && (d.suspended || !within(p.devno())));
                d.opens > 0 && newcomer && (d.suspended || !m.paths().any(|p| p.usable() && within(p.devno())))
            })
        };
        let outs: Vec<MapId> = if starved.is_empty() { Vec::new() } else { self.engine.maps().filter(kept).map(|m| m.id()).collect() };
        let mut switches: Vec<(MapId, u8)> = Vec::new();
        let mut busy: BTreeSet<Owner> = BTreeSet::new();
        let mut count = 0;
        {
            let cx = Context { now: self.now, settings: &self.config };
            let (parked, fds, rng, faults) = (&self.parked, &self.fds, &mut self.rng, self.faults);
            let (boot, plenty) = (self.options.boot || !self.options.resident, self.plenty);
            let (mut scanning, refuse_nodes, refuse_open, workers, rooms, mut rooms_out) =
                (self.scanning, self.refuse_nodes, self.refuse_open, self.workers, self.rooms, self.rooms_out);
            let away = |owners: &BTreeSet<Owner>| owners.iter().filter(|o| matches!(o, Owner::Path(..))).count();
            let mut emit = |action: Action<'_>| -> Result<(), Refused> {
                if faults.full && rng.one_in(25) {
                    return Err(Refused::Full);
                }
                count += 1;
                let mut mine = |owner: Owner| -> Result<(), Refused> {
                    if parked.contains(&owner) || busy.contains(&owner) {
                        return Err(Refused::Busy);
                    }
                    if matches!(owner, Owner::Path(..)) && away(parked) + away(&busy) >= workers {
                        return Err(Refused::Full);
                    }
                    busy.insert(owner);
                    Ok(())
                };
                let quiet = |what: &str, loud: &mut Option<Fault>| {
                    if !starved.is_empty() && !boot && !plenty {
                        *loud = Some(format!("{what} while {starved:?} wait for a path"));
                    }
                };
                let path_owner = |p: PathId| Owner::Path(p.index, p.generation);
                match action {
                    Action::Scan => {
                        if std::mem::replace(&mut scanning, true) {
                            return Err(Refused::Full);
                        }
                        jobs.push(Job::Scan);
                    }
                    Action::Survey => jobs.push(Job::Survey),
                    Action::List => {
                        quiet("LIST_DEVICES", &mut loud);
                        jobs.push(Job::List);
                    }
                    Action::Facts { name } => jobs.push(Job::Facts(name.into())),
                    Action::Open { path, ticket, name, .. } => {
                        if refuse_open {
                            return Err(Refused::Full);
                        }
                        mine(path_owner(path))?;
                        if parked.iter().any(|o| matches!(o, Owner::Path(index, of) if *index == path.index && *of != path.generation)) {
                            fault = Some(format!("the worker of another is away with the place of {name}"));
                        }
                        jobs.push(Job::Open(path, ticket, name.into()));
                    }
                    Action::Close { path } => {
                        mine(path_owner(path)).map_err(|_| Refused::Busy)?;
                        if fds.contains_key(&(path.index, path.generation)) {
                            jobs.push(Job::Close(path));
                            return Err(Refused::Busy);
                        }
                        busy.remove(&path_owner(path));
                    }
                    Action::State { path, ticket } => {
                        mine(path_owner(path))?;
                        jobs.push(Job::State(path, ticket));
                    }
                    Action::Scsi { path, ticket, command } => {
                        mine(path_owner(path))?;
                        jobs.push(Job::Scsi(path, ticket, Box::new(*command)));
                    }
                    Action::Admin { .. } => fault = Some("an NVMe command to a SCSI disk".into()),
                    Action::Read { path, ticket, length } => {
                        mine(path_owner(path))?;
                        jobs.push(Job::Read(path, ticket, length));
                    }
                    Action::Write { path, ticket, name, attribute, value } => {
                        mine(path_owner(path))?;
                        jobs.push(Job::Write(path, ticket, attribute, value, name.into()));
                    }
                    Action::Partitions { map, ticket, path, through } => {
                        if rooms_out >= rooms {
                            return Err(Refused::Busy);
                        }
                        if through.is_none() {
                            mine(path_owner(path)).map_err(|_| Refused::Busy)?;
                        }
                        rooms_out += 1;
                        jobs.push(Job::Partitions(map, ticket, path, through));
                    }
                    Action::Dm { map, ticket, device, request } => {
                        mine(Owner::Map(map.index, map.generation))?;
                        let Target::Uuid(uuid) = device else {
                            fault = Some(format!("not named by uuid: {device:?}"));
                            return Ok(());
                        };
                        if let Request::Load { content: corepath::wire::dm::Content::Multipath(table), .. } = &request {
                            let twice =
                                table.paths.iter().enumerate().find(|(at, p)| table.paths[..*at].iter().any(|q| q.devno == p.devno));
                            if let Some((_, path)) = twice {
                                fault = Some(format!("{} twice in one table: {table:?}", path.devno));
                            }
                        }
                        let harmless = matches!(request, Request::Status | Request::TableLine | Request::Info | Request::Message(_));
                        if !harmless && !outs.contains(&map) {
                            quiet("a request that allocates", &mut loud);
                        }
                        if let Request::Message(corepath::wire::dm::Message::SwitchGroup(g)) = request {
                            switches.push((map, g));
                        }
                        let mut buffer = [0u8; 4096];
                        let mut rename = None;
                        let emitted = match request {
                            // The shell gives the name that the uuid has when the rename is carried out.
                            Request::Rename { to, .. } => {
                                rename = Some((uuid.to_string(), to.to_string()));
                                corepath::wire::dm::emit(Target::Name("x"), &request, &mut buffer)
                            }
                            _ => corepath::wire::dm::emit(device, &request, &mut buffer),
                        };
                        match emitted {
                            Ok(n) => jobs.push(Job::Dm {
                                map,
                                ticket,
                                opcode: request.opcode(),
                                bytes: buffer[..n].to_vec(),
                                rename,
                                words: format!("{uuid} {request:?}"),
                            }),
                            Err(e) => fault = Some(format!("cannot be sent: {e:?} {request:?}")),
                        }
                    }
                    Action::PathPartitions { path, .. } => {
                        quiet("BLKPG", &mut loud);
                        mine(path_owner(path))?;
                        jobs.push(Job::PathPartitions(path));
                    }
                    Action::Node { name, devno } => {
                        if refuse_nodes {
                            return Err(Refused::Full);
                        }
                        quiet("a node", &mut loud);
                        nodes.push((name.to_string(), devno));
                    }
                    Action::Bind { .. } => {}
                    Action::Answer { token, result } => answers.push((token, result)),
                    Action::Note { note, subject } => told.push((note, subject.path.into(), subject.map.into())),
                }
                Ok(())
            };
            self.engine.dispatch(&cx, &mut emit);
        }
        let still = loud.is_some() && starved.iter().any(|&id| self.engine.map(id).is_some_and(|m| m.starved()));
        for (id, g) in switches {
            let group = self.engine.map(id).and_then(|m| m.groups().find(|x| x.number() == g));
            if !group.is_some_and(|g| g.paths().any(|p| p.usable())) {
                fault = Some(format!("switch to group {g} of {id:?}, which has no usable path"));
            }
        }
        if let Some(fault) = fault.or(loud.filter(|_| still)) {
            return Err(fault);
        }
        for (name, devno) in nodes {
            match devno {
                Some(devno) => drop(self.nodes.insert(name, devno)),
                None => drop(self.nodes.remove(&name)),
            }
        }
        for n in &told {
            self.trace(|| format!("note {:?} {} {}", n.0.what, n.1, n.2));
        }
        self.notes.extend(told);
        for (token, result) in answers {
            self.trace(|| format!("answer {token}: {result:?}"));
            self.answers.push((token, result));
        }
        for job in jobs {
            self.check_job(&job)?;
            self.carry_out(job)?;
        }
        Ok(count)
    }

    /// A path that the engine was told is another disk is failed before its map sees any other change.
    fn check_job(&mut self, job: &Job) -> Result<(), Fault> {
        let Job::Dm { bytes, opcode, words, .. } = job else { return Ok(()) };
        let (_, uuid, _, command) = dm::decode(*opcode, bytes);
        let due: Vec<DevNo> = self.must_fail.iter().filter(|(u, _)| *u == uuid).map(|(_, d)| *d).collect();
        // A suspended map takes no messages (EBUSY): it is resumed first.
        let suspended = self.dm.by_uuid(&uuid).is_some_and(|d| d.suspended);
        if due.is_empty() || suspended || matches!(command, dm::Command::Status | dm::Command::Table | dm::Command::Info) {
            return Ok(());
        }
        // Several changed: any of them may be the first.
        let other = |d: &Disk| format!("mpath-{}", d.wwid) != uuid && command == dm::Command::Message(format!("fail_path {}", d.devno));
        if self.disks.iter().any(|d| d.present && other(d)) {
            return Ok(());
        }
        let active = |d: &DevNo| self.dm.by_uuid(&uuid).and_then(|m| m.path(*d)).is_some_and(|p| p.active);
        let due: Vec<DevNo> = due.into_iter().filter(active).collect();
        for d in &due {
            if command == dm::Command::Message(format!("fail_path {d}")) {
                self.must_fail.remove(&(uuid, *d));
                return Ok(());
            }
        }
        if due.is_empty() {
            self.must_fail.retain(|(u, _)| *u != uuid);
            return Ok(());
        }
        Err(format!("{words} before the changed disks {due:?} were failed"))
    }

    /// Dispatches until nothing more is due now, then checks what must always hold.
    pub fn quiesce(&mut self) -> Result<(), Fault> {
        for round in 0.. {
            self.dispatch()?;
            if let Some(at) = self.engine.poll_at() {
                if at < self.now {
                    return Err(format!("poll_at in the past: {at:?} at {:?}", self.now));
                }
                if at > self.now {
                    break;
                }
            } else {
                break;
            }
            if round > 3000 {
                return Err(format!("dispatch finds no end at one moment: {:?}", self.engine.unsettled()));
            }
        }
        Ok(())
    }

    /// The next thing that happens by itself, at the latest at `until`; false when that time has come.
    pub fn step(&mut self, until: Instant) -> Result<bool, Fault> {
        self.quiesce()?;
        self.read_through();
        let next = self.waiting.iter().map(|w| (w.at, w.order)).min();
        let timer = self.engine.poll_at();
        let at = [next.map(|n| n.0), timer].into_iter().flatten().min();
        let Some(at) = at.filter(|&t| t <= until) else {
            self.now = self.now.max(until);
            return Ok(false);
        };
        self.now = self.now.max(at);
        if next.is_some_and(|n| n.0 <= self.now) {
            let k = self.waiting.iter().position(|w| Some((w.at, w.order)) == next).unwrap();
            let w = self.waiting.swap_remove(k);
            self.deliver(w);
        }
        Ok(true)
    }

    pub fn run_for(&mut self, time: Duration) -> Result<(), Fault> {
        let until = self.now + time;
        let mut steps = 0;
        while self.step(until)? {
            steps += 1;
            if steps > 200_000 {
                return Err(format!("no end of events within {time:?}"));
            }
        }
        Ok(())
    }

    /// Runs until the engine says it has settled and nothing is under way.
    pub fn settle(&mut self, within: Duration) -> Result<(), Fault> {
        let until = self.now + within;
        loop {
            self.quiesce()?;
            // A disk that is being read again is under way, too: the shell knows (`Hands::quiet`).
            let answers_due = self.waiting.iter().any(|w| w.owner != Owner::Nobody || matches!(w.reply, Reply_::Facts(_)));
            if self.engine.settled() && !answers_due {
                return Ok(());
            }
            if !self.step(until)? {
                let open: Vec<_> = self
                    .engine
                    .paths()
                    .filter(|p| p.map().is_some() && !p.judged())
                    .map(|p| format!("{} gone {} busy {} open {} next {:?}", p.name(), p.gone(), p.busy(), p.open(), p.next_check()))
                    .collect();
                return Err(format!("not settled within {within:?}: {:?} {open:?}", self.engine.unsettled()));
            }
        }
    }

    pub fn saw(&self, what: impl Fn(&What) -> bool) -> bool {
        self.notes.iter().any(|(n, ..)| what(&n.what))
    }
}

/// Each target is one controller.
fn group_of(d: &Disk) -> u16 {
    1 + (d.hctl.target % 2) as u16
}

fn access_code(state: AccessState) -> u8 {
    match state {
        AccessState::Optimized => 0,
        AccessState::NonOptimized => 1,
        AccessState::Standby => 2,
        AccessState::Unavailable => 3,
        AccessState::LbaDependent => 4,
        AccessState::Offline => 14,
        AccessState::Transitioning => 15,
        AccessState::Unknown(n) => n,
    }
}

fn live_map<'a>(a: &'a dm::Answer, table: Option<&'a Table>, status: Option<&'a Status>) -> LiveMap<'a> {
    LiveMap {
        devno: a.devno,
        name: &a.name,
        uuid: &a.uuid,
        size: Sectors(a.size),
        read_only: a.read_only,
        suspended: a.suspended,
        inactive_table: a.inactive,
        deferred_remove: a.deferred,
        open_count: a.opens,
        event_nr: a.event_nr,
        table,
        status,
        linear: a.linear.map(|(d, s)| (d, Sectors(s))),
    }
}

pub fn fixed_sense(key: u8, asc: u8, ascq: u8) -> Vec<u8> {
    let mut s = vec![0; 18];
    s[0] = 0x70;
    s[2] = key;
    s[7] = 10;
    s[12] = asc;
    s[13] = ascq;
    s
}

/// a, b, ..., z, aa: as sd names its disks.
pub fn letters(mut n: u32) -> String {
    let mut out = String::new();
    loop {
        out.insert(0, char::from(b'a' + (n % 26) as u8));
        if n < 26 {
            return out;
        }
        n = n / 26 - 1;
    }
}
