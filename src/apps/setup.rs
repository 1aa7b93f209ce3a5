//! From a command line to a running engine: common options, memory, workers. One for all commands.

use super::args::{Arg, Args};
use super::runtime::job::Job;
use super::runtime::tools::{PartitionRoom, READERS, Tools};
use super::runtime::{Desk, FEWEST, Hands, Memory};
use crate::arena::Arena;
use crate::dmioctl::{Failure, Page};
use crate::engine::selector::{Handler, Kernel, Selector};
use crate::engine::{Engine, MapSlot, Options, PartSlot, PathSlot, PortSlot, ProbeSlot, ProfileSlot, Sizes, Storage};
use crate::fault::{Errno, Full};
use crate::files;
use crate::klog::Sink;
use crate::model::{DevName, Instant, parse_unsigned};
use crate::netlink::Uevents;
use crate::sysfs::{self, Roots};
use crate::wire::dm::{Request, Target};
use crate::workers::{self, Completions, Crew};
use core::fmt::Write;

/// Bytes of each worker's stack where disks are looked into for root: that takes 22 KB of it.
const DEEP_STACK: usize = 32 * 1024;
/// Likewise where they are not, as in the daemon: reading a partition table takes 13 KB, the facts in sysfs 10 KB.
const STACK: usize = 16 * 1024;
/// Unoptimised code keeps a copy of every value it moves.
const STACK_OF_DEBUG: usize = 256 * 1024;

/// Options of every command that reads the configuration or looks at disks.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    pub config: &'a str,
    pub config_dir: &'a str,
    pub state_dir: &'a str,
    pub sys: &'a str,
    pub dev: &'a str,
    pub proc: &'a str,
    pub run: &'a str,
    pub verbosity: u8,
    /// Room for this many paths at least; 0 for what is found.
    pub paths: usize,
    /// `--config` was given: a missing file is an error then.
    pub config_given: bool,
    /// Complaints about the configuration that are kept.
    pub complaints: usize,
    /// Who looks goes by what the kernel knows: no disk is asked that has told its name.
    pub unasked: bool,
}

impl Default for Common<'_> {
    #[inline(never)]
    fn default() -> Self {
        Common {
            config: "/etc/multipath.conf",
            config_dir: "/etc/multipath/conf.d",
            state_dir: "/etc/multipath",
            sys: "/sys",
            dev: "/dev",
            proc: "/proc",
            run: "/run",
            verbosity: 2,
            paths: 0,
            config_given: false,
            complaints: 64,
            unasked: false,
        }
    }
}

impl<'a> Common<'a> {
    /// Takes `arg` if it is one of the common options. `Err` says what is wrong with it.
    #[inline(never)]
    pub fn take(&mut self, arg: Arg<'a>, args: &mut Args<'a>) -> Result<bool, &'static str> {
        let Arg::Long(name) = arg else {
            if arg == Arg::Short('v') {
                let louder = self.verbosity.saturating_add(1);
                self.verbosity = match args.glued_value() {
                    Some(more) if more.bytes().all(|b| b == b'v') => louder.saturating_add(more.len() as u8),
                    Some(level) => parse_unsigned(level).ok_or("-v takes a number")?,
                    None => match args.clone().value().and_then(parse_unsigned) {
                        Some(level) => {
                            let _ = args.value();
                            level
                        }
                        None => louder,
                    },
                };
                return Ok(true);
            }
            return Ok(false);
        };
        let place = match name {
            "config" => &mut self.config,
            "config-dir" => &mut self.config_dir,
            "state-dir" => &mut self.state_dir,
            "sysfs" => &mut self.sys,
            "dev" => &mut self.dev,
            "proc" => &mut self.proc,
            "run" => &mut self.run,
            "paths" => {
                self.paths = args.value().and_then(parse_unsigned).filter(|n| *n <= 1 << 16).ok_or("--paths takes a number up to 65536")?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        *place = args.value().ok_or("the option takes a value")?;
        self.config_given |= name == "config";
        Ok(true)
    }
}

/// What could not be set up; the sentence is made by [`Trouble::say`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble<'a> {
    Root(&'a str, Errno),
    Memory,
    Workers(Errno),
    File(&'a str, Errno),
    Loop(Errno),
    /// The kernel's device mapper.
    Control(Errno),
    NoTarget,
    NoSelector,
}

impl Trouble<'_> {
    pub fn say(self, out: &mut dyn Write) {
        let (what, errno): (_, Option<Errno>) = match self {
            Trouble::Root(dir, errno) => {
                let _ = write!(out, "{dir} cannot be opened");
                ("; it must be mounted", Some(errno))
            }
            Trouble::Memory => ("no memory for the tables; --paths asks for less", None),
            Trouble::Workers(errno) => ("the worker threads cannot be made", Some(errno)),
            Trouble::File(name, errno) => {
                let _ = write!(out, "{name} cannot be read");
                match errno {
                    Errno::NOENT => (": no such file", None),
                    Errno::OVERFLOW => (": larger than 8 MiB, no configuration is", None),
                    _ => ("", Some(errno)),
                }
            }
            Trouble::Loop(errno) => ("the event loop failed", Some(errno)),
            Trouble::Control(Errno::NODEV | Errno::NXIO) => ("the kernel has no device mapper: load the dm_mod module", None),
            Trouble::Control(Errno::ACCES | Errno::PERM) => {
                ("the device mapper refuses: root's capabilities are needed (CAP_SYS_ADMIN)", None)
            }
            Trouble::Control(errno) => ("/dev/mapper/control cannot be opened", Some(errno)),
            Trouble::NoSelector => {
                ("the kernel has no path selector: load the module dm_service_time, dm_queue_length or dm_round_robin", None)
            }
            Trouble::NoTarget => ("the kernel has no multipath target: load the dm_multipath module", None),
        };
        let _ = out.write_str(what);
        if let Some(errno) = errno {
            let _ = out.write_str(": ");
            let _ = super::say::errno(errno, out);
        }
        let _ = out.write_str("\n");
    }
}

/// Room for the longest command line that a kernel takes, and one byte.
pub const COMMAND_LINE: usize = 4097;

/// The text of `cmdline` below /proc; none where it cannot be read.
#[inline(never)]
pub fn kernel_words<'r>(proc: &str, room: &'r mut [u8; COMMAND_LINE]) -> &'r str {
    let proc = files::open_dir(proc).ok();
    let text = proc.and_then(|proc| files::read(proc, "cmdline", room).ok()).unwrap_or(&[]);
    core::str::from_utf8(text).unwrap_or("")
}

/// Is this the root of an initramfs? Not every builder marks it, but the kernel starts /init there.
pub fn in_initramfs() -> bool {
    ["/etc/initrd-release", "/init"].iter().any(|name| files::exists(files::current_dir(), name))
}

/// What the kernel's command line says to multipath as a whole.
pub fn switched_off<'w>(words: &[&'w str]) -> Option<&'w str> {
    let initramfs = in_initramfs();
    words.iter().copied().find(|word| switches_off(word, initramfs))
}

/// Does this word of the kernel's command line turn multipath off? Those that begin with `rd.` speak to an initramfs only.
pub fn switches_off(word: &str, initramfs: bool) -> bool {
    match word.split_once('=') {
        None => word == "nompath",
        Some(("multipath", value)) => value == "off",
        Some(("rd.multipath" | "rd.corepath", value)) => initramfs && matches!(value, "0" | "no" | "off"),
        Some(_) => false,
    }
}

/// What a command wants of the machinery.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub options: Options,
    pub uevents: bool,
    pub sink: (bool, bool),
    /// dm is needed: its absence is trouble.
    pub control: bool,
    /// Disks are looked into for root.
    pub peeks: bool,
}

/// How much of everything there is, for so many paths: what [`machine`] maps.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub sizes: Sizes,
    workers: usize,
    /// Bytes for the list of all dm devices.
    listed: usize,
    /// Names of disks that wait to be read.
    names: usize,
    /// Names of those that wait to be looked into.
    peeks: usize,
    stack: usize,
}

impl Measure {
    /// For `paths` paths at least; `peeks` as in [`Wish`].
    pub fn of(paths: usize, peeks: bool) -> Measure {
        let sizes = Sizes::for_paths(paths.max(64));
        let names = sizes.paths * 2 + 128;
        Measure {
            sizes,
            // A worker for each few paths: what they can do at once is what the ports can take.
            workers: (FEWEST + sizes.paths / 12).min(24),
            listed: (sizes.maps * 4 * 128 + 4096) & !4095,
            names,
            peeks: if peeks { names } else { 0 },
            stack: if peeks { DEEP_STACK } else { STACK },
        }
    }

    /// Bytes of all tables.
    pub fn tables(&self) -> usize {
        let Measure { sizes, workers, .. } = self;
        size_of::<PathSlot>() * sizes.paths
            + size_of::<MapSlot>() * sizes.maps
            + size_of::<PartSlot>() * sizes.partitions
            + size_of::<PortSlot>() * sizes.ports
            + size_of::<ProfileSlot>() * sizes.profiles
            + size_of::<ProbeSlot>() * sizes.probes
            + 4 * sizes.words()
            + size_of::<Instant>() * sizes.timers()
            + size_of::<workers::Slot<Job>>() * workers
            + size_of::<Page>() * 2 * workers
            + size_of::<Desk>() * sizes.paths
            + size_of::<DevName>() * (self.names + self.peeks)
            + size_of::<PartitionRoom>() * readers(sizes.paths)
            + size_of::<Tools>()
            + size_of::<Completions>()
            + self.listed
            // What stands on page borders (the workers' pages, then the list) leaves up to a page free before it; the rest some bytes.
            + size_of::<Page>()
            + 1024
    }

    /// Bytes of all workers' stacks in a release build.
    pub fn stacks(&self) -> usize {
        self.stack * self.workers
    }
}

/// The machinery.
pub struct Machine {
    pub engine: Engine<'static>,
    pub hands: Hands,
    pub sizes: Sizes,
    /// Bytes of all tables.
    pub memory: usize,
    /// Why no map can be made.
    pub lacks: Option<Trouble<'static>>,
}

/// Which selectors, handlers and targets the kernel has. A module that is not loaded counts as there when the kernel could load it.
///
/// The device mapper itself is opened if it is there, or if nothing is known that would load it: a machine without a SAN needs none, and
/// is not made to load it.
#[inline(never)]
fn kernel(tools: &mut Tools) -> Kernel {
    let roots = &tools.roots;
    const NAMES: [&str; 11] = [
        "dm_round_robin",
        "dm_queue_length",
        "dm_service_time",
        "dm_historical_service_time",
        "dm_io_affinity",
        "scsi_dh_alua",
        "scsi_dh_emc",
        "scsi_dh_rdac",
        "scsi_dh_hp_sw",
        "dm_mod",
        "dm_multipath",
    ];
    const MAPPER: u32 = 0x600;
    let (there, known) = sysfs::available(roots, &NAMES);
    let mut kernel = Kernel::BARE;
    for (at, selector) in Selector::ALL.into_iter().enumerate() {
        // Built into a kernel without an index of it they leave no trace: the kernel itself has to answer.
        kernel = kernel.with_selector(selector, !known && there & 0x1f == 0 || there & (1 << at) != 0);
    }
    for (at, handler) in Handler::ALL.into_iter().enumerate() {
        kernel = kernel.with_handler(handler, there & (0x20 << at) != 0);
    }
    kernel.linear = true;
    kernel.multipath = true;
    if !known || there & MAPPER != MAPPER || sysfs::has_mapper(roots) {
        match tools.control() {
            Ok(control) => {
                let mut page = Page::new();
                let mut target = |name| control.submit(Target::NONE, &Request::TargetVersion(name), &mut page).map(|_| ());
                kernel.linear = target("linear").is_ok();
                let multipath = target("multipath").map_err(Failure::errno);
                kernel.multipath = multipath.is_ok();
                // The node may be open to all; what it is asked is not.
                tools.refused = multipath.err().filter(|errno| matches!(*errno, Errno::ACCES | Errno::PERM));
            }
            Err(errno) => tools.refused = Some(errno),
        }
    }
    kernel
}

// Two functions of their own for the small error: each `?` in `machine` itself writes a whole `Trouble` (2 KB in all).
#[inline(never)]
fn storage(arena: &mut Arena<'static>, sizes: &Sizes) -> Result<Storage<'static>, Full> {
    Ok(Storage {
        paths: arena.take(sizes.paths, |_| PathSlot::default())?,
        maps: arena.take(sizes.maps, |_| MapSlot::default())?,
        partitions: arena.take(sizes.partitions, |_| PartSlot::default())?,
        ports: arena.take(sizes.ports, |_| PortSlot::default())?,
        profiles: arena.take(sizes.profiles, |_| ProfileSlot::default())?,
        probes: arena.take(sizes.probes, |_| ProbeSlot::default())?,
        words: arena.take(sizes.words(), |_| 0)?,
        times: arena.take(sizes.timers(), |_| Instant::ZERO)?,
    })
}

#[inline(never)]
fn desks(arena: &mut Arena<'static>, measure: &Measure, big: &'static mut [u8]) -> Result<Memory, Full> {
    let paths = measure.sizes.paths;
    let mut rooms = heapless::Vec::new();
    for room in arena.take(readers(paths), |_| PartitionRoom::default())? {
        let _ = rooms.push(room);
    }
    Ok(Memory {
        paths: arena.take(paths, |_| Desk::default())?,
        big,
        rooms,
        names: arena.take(measure.names, |_| DevName::new())?,
        peeks: arena.take(measure.peeks, |_| DevName::new())?,
    })
}

/// How many partition tables may be read at once: each needs 37 KB.
fn readers(paths: usize) -> usize {
    (paths / 64).clamp(1, READERS)
}

/// Builds the machinery: sizes from what sysfs holds, one mapping, the workers.
#[inline(never)]
pub fn machine<'c>(common: &Common<'c>, mut wish: Wish) -> Result<Machine, Trouble<'c>> {
    let roots = Roots::open(common.sys, common.dev, common.proc, common.run).map_err(|(root, errno)| {
        Trouble::Root(
            match root {
                sysfs::Root::Sys => common.sys,
                sysfs::Root::Dev => common.dev,
                sysfs::Root::Proc => common.proc,
            },
            errno,
        )
    })?;
    let found = sysfs::count_disks(&roots).unwrap_or(0);
    let measure = Measure::of(common.paths.max(found * 2), wish.peeks);
    let Measure { sizes, workers, .. } = measure;
    let mut arena = Arena::map(measure.tables()).map_err(|_| Trouble::Memory)?;
    let no_memory = |_| Trouble::Memory;

    let sink = Sink::open(wish.sink.0, wish.sink.1).unwrap_or(Sink::stderr());
    let tools = arena.put(Tools::new(roots, sink)).map_err(no_memory)?;
    wish.options.kernel = kernel(tools);
    let tools: &'static Tools = tools;
    let lacks = match tools.refused {
        Some(errno) => Some(Trouble::Control(errno)),
        None if !wish.options.kernel.multipath => Some(Trouble::NoTarget),
        None if !Selector::ALL.into_iter().any(|s| wish.options.kernel.selector(s)) => Some(Trouble::NoSelector),
        None => None,
    };
    if let (true, Some(trouble)) = (wish.control, lacks) {
        return Err(trouble);
    }
    wish.options.udev = tools.roots.run.as_ref().is_some_and(|run| files::exists(run, "udev/control"));
    wish.options.native_nvme = sysfs::native_nvme(&tools.roots);
    // Subscribed before the first scan: what comes in between is not lost.
    let uevents = if wish.uevents { Uevents::open().ok() } else { None };

    let storage = storage(&mut arena, &sizes).map_err(no_memory)?;
    let engine = Engine::new(storage, wish.options).map_err(no_memory)?;

    let done: &'static Completions = arena.put(Completions::new()).map_err(no_memory)?;
    let pages = arena.take(workers, |_| [Page::new(), Page::new()]).map_err(no_memory)?;
    // After the workers' pages: what stands on a page's border once needs no second step to one.
    let big = arena.pages(measure.listed).map_err(no_memory)?;
    let jobs = pages.iter_mut().enumerate().map(|(i, [page, more])| workers::slot(i, done, Job::new(tools, page, more)));
    let slots = arena.gather(jobs).map_err(no_memory)?;
    let woken = crate::wait::eventfd().map_err(Trouble::Loop)?;
    let stack = if cfg!(debug_assertions) { STACK_OF_DEBUG } else { measure.stack };
    let crew = Crew::start(slots, done, crate::sock::fd(&woken), stack).map_err(Trouble::Workers)?;
    let memory = desks(&mut arena, &measure, big).map_err(no_memory)?;
    let mut hands = Hands::new(tools, crew, woken, uevents, memory).map_err(Trouble::Loop)?;
    hands.make_nodes = !wish.options.udev;
    hands.dry = wish.options.dry_run;
    hands.errand = wish.options.errand;
    Ok(Machine { engine, hands, sizes, memory: arena.size(), lacks })
}
