//! What the engine itself costs, without a kernel: discovery of many paths, maps of four paths each, a minute of checks, a port that fails
//! and comes back. `cargo bench --bench engine`.
//!
//! Every answer is good and comes at once, so that nothing but the engine is measured. It prints, for each number of paths, the time of
//! the whole and for each path (linear: the same in every row) and the longest single step; it asserts that all maps were made and that
//! the port's failure was seen and mended, never a time.
#![allow(unreachable_pub)]

#[allow(dead_code)]
#[path = "../tests/sim/config.rs"]
mod config;

use corepath::conf::settings::FindMultipaths;
use corepath::engine::{
    Action, Context, DmAnswer, Engine, Event, LiveMap, MapSlot, Options, PartSlot, PathSlot, PortSlot, ProbeSlot, ProfileSlot, Refused,
    Sizes, Storage, Ticket,
};
use corepath::model::{
    Bus, DevNo, DmPathState, GroupState, Hctl, Instant, MapId, PathFacts, PathId, Protocol, Sectors, SysState, Text, UUID_PREFIX,
    WwidOrigin,
};
use corepath::wire::dm::{Content, Message, Request, Target};
use corepath::wire::scsi::Reply;
use corepath::wire::table::{Status, StatusPath, Table};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Paths of each map, one through each port.
const PORTS: usize = 4;
const DISK: Sectors = Sectors(1 << 21);

fn text<const N: usize>(s: &str) -> Text<N> {
    Text::try_from(s).expect("fits")
}

fn disk_name(i: usize) -> String {
    format!("sd{i}x")
}

/// sysfs of disk `i`: LUN `i / PORTS`, port `i % PORTS`.
fn facts(i: usize) -> PathFacts {
    let port = (i % PORTS) as u32;
    PathFacts {
        name: text(&disk_name(i)),
        devno: DevNo::new(8 + (i >> 16) as u32, (i & 0xffff) as u32),
        diskseq: i as u64 + 1,
        bus: Bus::Scsi,
        protocol: Protocol::ScsiFcp,
        hctl: Some(Hctl { host: port, channel: 0, target: 0, lun: (i / PORTS) as u64 }),
        vendor: text("ACME"),
        product: text("Array"),
        wwid: text(&format!("360014050000000000000000{:08x}", i / PORTS)),
        wwid_origin: WwidOrigin::Vpd83,
        size: DISK,
        block_size: 512,
        target_port: text(&format!("t{port}")),
        target_node: text("n0"),
        sys_state: SysState::Running,
        timeout_secs: 30,
        ..PathFacts::default()
    }
}

/// A map as the kernel keeps it.
#[derive(Default)]
struct Map {
    minor: u32,
    name: String,
    uuid: String,
    inactive: Option<Table>,
    live: Option<Table>,
    failed: Vec<DevNo>,
}

enum Job {
    Facts(usize),
    Scan,
    ScanDone,
    SurveyDone,
    Listed,
    Opened(PathId, Ticket),
    Scsi(PathId, Ticket),
    Written(PathId, Ticket),
    Partitions(MapId, Ticket),
    PathPartitions(PathId),
    Done(MapId, Ticket),
    Created(MapId, Ticket, DevNo),
    Look { map: MapId, ticket: Ticket, at: usize, table: bool },
}

/// How long the engine took, and its longest step.
#[derive(Default)]
struct Watch {
    total: Duration,
    longest: Duration,
    steps: u64,
}

impl Watch {
    fn time(&mut self, step: impl FnOnce()) {
        // Processor time of this thread: what else the machine does is no step of the engine's.
        let clock = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let begin = clock();
        step();
        let took = clock() - begin;
        self.total += took;
        self.longest = self.longest.max(took);
        self.steps += 1;
    }
}

struct World<'m> {
    engine: Engine<'m>,
    config: config::Config,
    now: Instant,
    disks: usize,
    /// Which disk a path id has open.
    open: HashMap<PathId, usize>,
    maps: Vec<Map>,
    by_uuid: HashMap<String, usize>,
    jobs: VecDeque<Job>,
    /// A port through which nothing comes back.
    down: Option<usize>,
    watch: Watch,
}

impl World<'_> {
    fn feed(&mut self, event: Event<'_>) {
        let cx = Context { now: self.now, settings: &self.config };
        let engine = &mut self.engine;
        self.watch.time(|| engine.process(&cx, event));
    }

    fn dispatch(&mut self) {
        let World { engine, config, now, open, maps, by_uuid, jobs, watch, .. } = self;
        let cx = Context { now: *now, settings: config };
        let mut emit = |action: Action<'_>| -> Result<(), Refused> {
            let job = match action {
                Action::Scan => Job::Scan,
                Action::Survey => Job::SurveyDone,
                Action::List => Job::Listed,
                Action::Facts { name } => Job::Facts(name.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a disk of ours")),
                Action::Open { path, ticket, name, .. } => {
                    open.insert(path, name.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a disk of ours"));
                    Job::Opened(path, ticket)
                }
                Action::Close { path } => {
                    open.remove(&path);
                    return Ok(());
                }
                Action::Scsi { path, ticket, .. } => Job::Scsi(path, ticket),
                Action::Write { path, ticket, .. } => Job::Written(path, ticket),
                Action::Partitions { map, ticket, .. } => Job::Partitions(map, ticket),
                Action::PathPartitions { path, .. } => Job::PathPartitions(path),
                Action::Dm { map, ticket, device, request } => {
                    let Target::Uuid(uuid) = device else { panic!("not by uuid") };
                    let at = *by_uuid.entry(uuid.to_string()).or_insert_with(|| {
                        maps.push(Map { minor: maps.len() as u32, uuid: uuid.into(), ..Map::default() });
                        maps.len() - 1
                    });
                    let m = &mut maps[at];
                    match request {
                        Request::Create { name, .. } => {
                            m.name = name.into();
                            jobs.push_back(Job::Created(map, ticket, DevNo::new(253, m.minor)));
                            return Ok(());
                        }
                        Request::Load { content: Content::Multipath(table), .. } => m.inactive = Some(table.clone()),
                        Request::Resume { .. } => {
                            m.live = m.inactive.take().or(m.live.take());
                            m.failed.clear();
                        }
                        Request::Message(Message::FailPath(devno)) => m.failed.push(devno),
                        Request::Message(Message::ReinstatePath(devno)) => m.failed.retain(|d| *d != devno),
                        Request::Status | Request::Info | Request::TableLine => {
                            let table = matches!(request, Request::TableLine);
                            jobs.push_back(Job::Look { map, ticket, at, table });
                            return Ok(());
                        }
                        _ => {}
                    }
                    Job::Done(map, ticket)
                }
                Action::Node { .. } | Action::Bind { .. } | Action::Answer { .. } | Action::Note { .. } => return Ok(()),
                Action::State { .. } | Action::Admin { .. } | Action::Read { .. } => panic!("not asked of these disks"),
            };
            jobs.push_back(job);
            Ok(())
        };
        watch.time(|| engine.dispatch(&cx, &mut emit));
    }

    fn answer(&mut self, job: Job) {
        match job {
            Job::Facts(i) => self.feed(Event::Facts { facts: &facts(i), udev: None, own: false }),
            Job::Scan => {
                self.jobs.extend((0..self.disks).map(Job::Facts));
                self.jobs.push_back(Job::ScanDone);
            }
            Job::ScanDone => self.feed(Event::ScanDone { complete: true }),
            Job::SurveyDone => self.feed(Event::SurveyDone { complete: true }),
            Job::Listed => {
                for at in 0..self.maps.len() {
                    let (name, devno) = (self.maps[at].name.clone(), DevNo::new(253, self.maps[at].minor));
                    self.feed(Event::Listed { devno, name: &name, event_nr: 0 });
                }
                self.feed(Event::ListDone { complete: true });
            }
            Job::Opened(path, ticket) => self.feed(Event::Opened { path, ticket, result: Ok(()) }),
            Job::Scsi(path, ticket) => {
                let dead = self.open.get(&path).is_some_and(|i| Some(i % PORTS) == self.down);
                // DID_NO_CONNECT where nothing comes back.
                let reply = Reply { status: 0, host: u16::from(dead), driver: 0, sense: &[], data: &[], errno: None };
                self.feed(Event::Scsi { path, ticket, reply: &reply });
            }
            Job::Written(path, ticket) => self.feed(Event::Written { path, ticket, result: Ok(()) }),
            Job::Partitions(map, ticket) => self.feed(Event::Partitions { map, ticket, result: Ok(&[]) }),
            Job::PathPartitions(path) => self.feed(Event::PathPartitions { path, in_use: 0 }),
            Job::Done(map, ticket) => self.feed(Event::Dm { map, ticket, result: Ok(DmAnswer::Done) }),
            Job::Created(map, ticket, devno) => self.feed(Event::Dm { map, ticket, result: Ok(DmAnswer::Created(devno)) }),
            Job::Look { map, ticket, at, table } => {
                let m = &self.maps[at];
                let (name, uuid, live) = (m.name.clone(), m.uuid.clone(), m.live.clone());
                let status = live.as_ref().filter(|_| !table).map(|live| {
                    let mut status = Status { current_group: 1, ..Status::default() };
                    for _ in &live.groups {
                        let _ = status.groups.push(GroupState::Active);
                    }
                    for p in &live.paths {
                        let state = if m.failed.contains(&p.devno) { DmPathState::Failed } else { DmPathState::Active };
                        let _ = status.paths.push(StatusPath { devno: p.devno, group: p.group, state, fail_count: 0 });
                    }
                    status
                });
                let answer = LiveMap {
                    devno: DevNo::new(253, m.minor),
                    name: &name,
                    uuid: &uuid,
                    size: if live.is_some() { DISK } else { Sectors(0) },
                    read_only: false,
                    suspended: live.is_none(),
                    inactive_table: m.inactive.is_some(),
                    deferred_remove: false,
                    open_count: 0,
                    event_nr: 0,
                    table: live.as_ref().filter(|_| table),
                    status: status.as_ref(),
                    linear: None,
                };
                self.feed(Event::Dm { map, ticket, result: Ok(DmAnswer::Live(&answer)) });
            }
        }
    }

    /// Everything that is due until `until`.
    fn run(&mut self, until: Instant) {
        loop {
            self.dispatch();
            // As many answers as workers could bring in one turn.
            for _ in 0..24 {
                let Some(job) = self.jobs.pop_front() else { break };
                self.answer(job);
            }
            if !self.jobs.is_empty() {
                continue;
            }
            match self.engine.poll_at() {
                Some(at) if at <= self.now => {}
                Some(at) if at <= until => self.now = at,
                _ => break,
            }
        }
        self.now = self.now.max(until);
    }

    fn usable(&self) -> usize {
        self.engine.paths().filter(|p| p.usable()).count()
    }

    /// Runs for `time`, prints what it cost.
    fn phase(&mut self, what: &str, time: Duration) {
        self.watch = Watch::default();
        self.run(self.now + time);
        let Watch { total, longest, steps } = self.watch;
        let each = total.as_nanos() as f64 / 1e3 / self.disks as f64;
        println!(
            "{:>7} paths  {what:<22} {:>9.1} ms in all, {each:>6.2} us for each path, {steps:>8} steps, longest {:>8.3} ms",
            self.disks,
            total.as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3
        );
    }
}

fn slots<T: Default>(n: usize) -> Vec<T> {
    (0..n).map(|_| T::default()).collect()
}

fn measure(disks: usize) {
    let sizes = Sizes::for_paths(disks);
    let (mut paths, mut maps, mut partitions) =
        (slots::<PathSlot>(sizes.paths), slots::<MapSlot>(sizes.maps), slots::<PartSlot>(sizes.partitions));
    let (mut ports, mut profiles, mut probes) =
        (slots::<PortSlot>(sizes.ports), slots::<ProfileSlot>(sizes.profiles), slots::<ProbeSlot>(sizes.probes));
    let (mut words, mut times) = (vec![0; sizes.words()], vec![Instant::ZERO; sizes.timers()]);
    let storage = Storage {
        paths: &mut paths,
        maps: &mut maps,
        partitions: &mut partitions,
        ports: &mut ports,
        profiles: &mut profiles,
        probes: &mut probes,
        words: &mut words,
        times: &mut times,
    };
    let options = Options { resident: true, partitions: true, path_partitions: true, ..Options::default() };
    let mut config = config::Config::default();
    config.globals.find_multipaths = FindMultipaths::Greedy;
    let mut world = World {
        engine: Engine::new(storage, options).expect("room"),
        config,
        now: Instant::from_secs(1000),
        disks,
        // Room for all, so that none is made while the engine is timed.
        open: HashMap::with_capacity(disks * 2),
        maps: Vec::with_capacity(disks),
        by_uuid: HashMap::with_capacity(disks),
        jobs: VecDeque::with_capacity(disks * 4),
        down: None,
        watch: Watch::default(),
    };
    world.phase("found, maps made", Duration::from_secs(10));
    assert_eq!((world.engine.maps().filter(|m| m.active()).count(), world.usable()), (disks / PORTS, disks));
    assert!(world.maps.iter().all(|m| m.uuid.starts_with(UUID_PREFIX) && m.live.as_ref().is_some_and(|t| t.paths.len() == PORTS)));
    world.phase("a minute of checks", Duration::from_secs(60));
    world.down = Some(1);
    world.phase("a port fails: 30 s", Duration::from_secs(30));
    assert_eq!(world.usable(), disks / PORTS * (PORTS - 1));
    world.down = None;
    world.phase("it is back: 30 s", Duration::from_secs(30));
    assert_eq!(world.usable(), disks);
}

fn main() {
    for disks in [1024, 4096, 16384, 65536] {
        measure(disks);
    }
}
