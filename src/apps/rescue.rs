//! `corepath rescue`: for a person at the shell of a machine whose root does not come. Names what is there and why root is not, offers the
//! command that would help, and with `--go` does it.
//!
//! It must work when nothing else does: it reads no file of any disk (the configuration only where "/" is memory, or where it is named),
//! asks no daemon, and seals itself first; a step of the seal that fails is a refusal. What runs keeps running: a live map is only resumed,
//! its paths reinstated when they answer. No table of a live map is loaded on a machine whose "/" is a disk.

use super::args::Arg;
use super::boot;
use super::root_search::{self, Found, Lens, Watch, known};
use super::runtime::Hands;
use super::session::{self, End, Teller};
use super::setup::{self, Common, Machine, Trouble, Wish};
use super::{Cx, DONE, FAILED, TIMED_OUT, look, say};
use crate::dmioctl::Page;
use crate::engine::{Attribute, Context, Engine, Event, MapView, Options, PathView, Reason};
use crate::lockdown::{self, Seal};
use crate::model::{DevNo, DmPathState, Instant, SysState, Wwid, parse_unsigned};
use crate::sysfs;
use crate::wire::dm::{Cookie, Message, Request, Target};
use crate::wire::root::Root;
use core::cell::RefCell;
use core::fmt::Write;
use core::time::Duration;

/// No file, and no disk is asked whether it is one.
const NOWHERE: &str = "/proc/corepath";
/// How long the first look may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What would help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cure {
    /// Root is there.
    Nothing,
    /// Its map is there: resume it, reinstate its paths when they answer.
    Mend,
    /// Its disk is there: make the map.
    Assemble,
    /// Paths were set offline in sysfs.
    Online,
    /// No disk is root's: look for others.
    Rescan,
    /// Nothing we could do.
    Beyond,
}

/// What is known of root.
struct Wanted<'a> {
    text: &'a str,
    spec: Option<Root<'a>>,
    found: &'a RefCell<Found>,
    /// The device that "/" is mounted from.
    mounted: Option<DevNo>,
}

impl Wanted<'_> {
    fn map<'e>(&self, engine: &'e Engine<'static>) -> Option<(MapView<'e>, u32)> {
        boot::root_map(engine, self.spec.as_ref(), &known(self.found)).or_else(|| {
            let devno = self.mounted?;
            engine.maps().find_map(|map| {
                let part = map.partitions().find(|part| part.devno == devno).map(|part| part.number);
                part.or((map.devno() == devno && map.live()).then_some(0)).map(|number| (map, number))
            })
        })
    }

    /// May the path lead to root's disk? While its disk is not known every path may.
    fn may_lead(&self, path: &PathView<'_>, map: Option<MapView<'_>>) -> bool {
        match map {
            Some(map) => path.wwid() == map.wwid(),
            None => known(self.found).wwid.is_empty() || path.wwid() == known(self.found).wwid,
        }
    }
}

#[inline(never)]
pub fn run(cx: &mut Cx<'_>) -> i32 {
    let mut common = Common { config: NOWHERE, config_dir: NOWHERE, state_dir: NOWHERE, verbosity: 1, ..Common::default() };
    let (mut root, mut go, mut sealed, mut timeout) = (None, false, true, 30u32);
    while let Some(arg) = cx.args.next() {
        match common.take(arg, &mut cx.args) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(what) => return cx.fail(format_args!("rescue: {what}")),
        }
        match (arg, cx.args.clone().value()) {
            (Arg::Long("root"), Some(_)) => root = cx.args.value(),
            (Arg::Long("timeout"), Some(text)) if parse_unsigned::<u32>(text).is_some() => {
                timeout = cx.args.value().and_then(parse_unsigned).unwrap_or(timeout);
            }
            (Arg::Long("go"), _) => go = true,
            (Arg::Long("unsealed"), _) => sealed = false,
            _ => return cx.fail(format_args!("rescue: unknown option; 'corepath help rescue' lists them")),
        }
    }
    // In an initramfs "/" is memory: its configuration can be read, and is what the boot went by.
    let mounted = sysfs::mounted_from(common.proc, "/").filter(|devno| devno.major != 0);
    if mounted.is_none() && !common.config_given {
        let plain = Common::default();
        (common.config, common.config_dir, common.state_dir) = (plain.config, plain.config_dir, plain.state_dir);
    }
    let configuration = match cx.configuration("rescue", &common) {
        Ok(configuration) => configuration,
        Err(status) => return status,
    };
    let mut seal = Seal::default();
    lockdown::before_threads(&mut seal);
    let options = Options {
        dry_run: true,
        resident: true,
        // Nothing is written before --go, and then a map without paths must not be in the way of its own cure.
        boot: true,
        partitions: true,
        path_partitions: !configuration.words.contains(&"dont_del_part_nodes"),
        ..Options::default()
    };
    let wish = Wish { options, uevents: true, sink: (false, true), control: true, peeks: true };
    let mut missing = false;
    let machine = match setup::machine(&common, wish) {
        Err(trouble @ (Trouble::Control(_) | Trouble::NoTarget)) => {
            // Disks can be looked at all the same.
            let _ = cx.trouble("rescue", trouble);
            missing = true;
            setup::machine(&common, Wish { control: false, ..wish })
        }
        other => other,
    };
    let mut machine = match machine {
        Ok(machine) => machine,
        Err(trouble) => return cx.trouble("rescue", trouble),
    };
    lockdown::descriptors(&mut seal, machine.sizes.paths);
    if sealed {
        lockdown::after_threads(&mut seal, true);
        if let Some((step, errno)) = seal.failed() {
            let mut line = crate::klog::Line::new();
            let _ = say::seal(step, errno, &mut line);
            return cx.fail(format_args!("rescue: {}; --unsealed goes on without, and may hang with the disk", line.text()));
        }
    }
    let text = root.or_else(|| configuration.words.iter().rev().find_map(|word| word.strip_prefix("root="))).unwrap_or("");
    let (spec, mut found) = (Root::parse(text), Found::default());
    if spec.is_none() {
        let _ = found.wwid.push_str(text);
    }
    let found = RefCell::new(found);
    let wanted = Wanted { text, spec, found: &found, mounted };
    let sought = wanted.spec.filter(root_search::on_disks);
    if sought.is_some() {
        machine.hands.look_for(text);
    }
    let mut watch =
        Watch { teller: Teller::new(common.verbosity.saturating_sub(1)), found: &found, inner: &configuration.settings, spec: sought };
    let deadline = crate::wait::now() + PATIENCE;
    let Machine { engine, hands, .. } = &mut machine;
    let end = session::run(engine, hands, &configuration.settings, &mut watch, deadline, &mut |e, h| session::settled(e, h).into());
    if let End::Failed(errno) = end {
        return cx.trouble("rescue", setup::Trouble::Loop(errno));
    }
    let _ = look::scan_text(engine, None, cx.out);
    if end == End::TimedOut {
        let _ = writeln!(cx.out, "a disk did not answer within {} s: what is shown is incomplete", PATIENCE.as_secs());
    }
    let cure = diagnose(cx.out, engine, &wanted);
    let blind = cure == Cure::Assemble && mounted.is_some() && !common.config_given;
    if missing {
        let _ = writeln!(cx.out, "try: modprobe dm_multipath");
        return FAILED;
    }
    prescribe(cx.out, engine, &wanted, cure);
    if blind {
        let _ = writeln!(
            cx.out,
            "that reads the configuration; 'corepath rescue --config FILE --go' goes by another one (an empty file will do)"
        );
    }
    match cure {
        Cure::Nothing => DONE,
        Cure::Beyond => FAILED,
        _ if !go || blind => {
            if !go {
                let _ = cx.out.write_str("or 'corepath rescue --go' with the same words, which does it\n");
            }
            FAILED
        }
        _ => {
            cx.out.flush();
            let until = crate::wait::now() + Duration::from_secs(u64::from(timeout));
            let lens = Lens { inner: &configuration.settings, found: &found, spec: wanted.spec, only_root: false };
            treat(cx, &mut machine, &wanted, &lens, &mut watch, cure, until)
        }
    }
}

/// Says why root is not there.
fn diagnose(out: &mut dyn Write, engine: &Engine<'static>, wanted: &Wanted<'_>) -> Cure {
    let _ = match (wanted.text, wanted.mounted) {
        ("", None) => {
            let _ = out.write_str("root: no root= on the kernel's command line; 'corepath rescue --root SPEC' names it\n");
            return Cure::Beyond;
        }
        ("", Some(devno)) => write!(out, "root: \"/\" is mounted from {devno}, "),
        (text, _) => write!(out, "root: {text} "),
    };
    let local = known(wanted.found).local.clone();
    let (words, cure) = match wanted.map(engine) {
        Some((map, part)) => {
            let name = if map.name().is_empty() { map.wwid() } else { map.name() };
            let _ = write!(out, "is on {name}, which ");
            of_map(&map, boot::there(&map, part))
        }
        None if !local.is_empty() => {
            let _ = write!(out, "is on {local}, ");
            ("a disk with one way to it: it needs no map (--root with its WWID claims it all the same)", Cure::Nothing)
        }
        None => {
            let wwid = known(wanted.found).wwid.clone();
            let mut paths = engine.paths().filter(|path| !wwid.is_empty() && path.wwid() == wwid);
            match paths.next() {
                Some(path) => {
                    let _ = write!(out, "is on {}, which has no map: ", path.name());
                    of_disk(out, &path)
                }
                None if engine.paths().any(|path| path.sys_state() == SysState::Offline) => {
                    ("is on no disk that answers, and there are disks that are offline", Cure::Online)
                }
                None if engine.paths().next().is_none() => {
                    ("is nowhere: the kernel has no disk at all; is the driver of the host adapter loaded?", Cure::Rescan)
                }
                None => ("is on none of these disks; check zoning, LUN mapping and the name itself", Cure::Rescan),
            }
        }
    };
    let _ = writeln!(out, "{words}");
    cure
}

/// Paths that answer, and that the kernel uses.
fn in_use(map: &MapView<'_>) -> usize {
    map.paths().filter(|path| path.usable() && path.live() && path.dm_state() == DmPathState::Active).count()
}

fn of_map(map: &MapView<'_>, part: bool) -> (&'static str, Cure) {
    let used = in_use(map);
    let answers = |live| map.paths().any(|path| path.usable() && path.live() == live);
    let offline = map.paths().all(|path| path.sys_state() == SysState::Offline) && map.paths().next().is_some();
    match () {
        () if !map.live() => ("is not made yet", Cure::Assemble),
        () if offline => ("has no path: all are offline, as the kernel gave them up or somebody said so", Cure::Online),
        () if map.suspended() => ("is suspended by somebody: every read and write waits until it is resumed", Cure::Mend),
        () if !map.active() => ("has no table", Cure::Assemble),
        () if used == 0 && answers(true) => ("has no path in the kernel, though paths answer: nobody reinstates them", Cure::Mend),
        () if used == 0 && answers(false) => ("has no path left, but others lead to its disk: they must be loaded", Cure::Assemble),
        () if used == 0 && map.queueing() => ("has no path that answers: I/O waits; check cables, switches and the array", Cure::Mend),
        () if used == 0 => ("has no path that answers: I/O fails; check cables, switches and the array", Cure::Mend),
        () if !part => ("lives, but the partition has no map", Cure::Assemble),
        () => ("lives: root can be mounted", Cure::Nothing),
    }
}

fn of_disk(out: &mut dyn Write, path: &PathView<'_>) -> (&'static str, Cure) {
    let _ = say::reason(path.reason(), out);
    match path.reason() {
        _ if path.sys_state() == SysState::Offline => ("; it is offline", Cure::Online),
        Reason::Blacklisted(_) | Reason::MissingProperty => ("; change the configuration", Cure::Beyond),
        Reason::InUse | Reason::NativeNvme | Reason::NoIdentity | Reason::NoSize | Reason::Lunz | Reason::NoRoom => ("", Cure::Beyond),
        _ => ("", Cure::Assemble),
    }
}

/// The command that would help.
fn prescribe(out: &mut dyn Write, engine: &Engine<'static>, wanted: &Wanted<'_>, cure: Cure) {
    let map = wanted.map(engine).map(|(map, _)| map);
    match cure {
        Cure::Nothing | Cure::Beyond => {}
        Cure::Mend | Cure::Assemble => {
            // A WWID claims the disk with one path.
            let wwid = map.map_or(known(wanted.found).wwid.clone(), |map| Wwid::try_from(map.wwid()).unwrap_or_default());
            let _ = writeln!(out, "try: corepath boot --root={}", if wwid.is_empty() { wanted.text } else { &wwid });
            if map.is_some_and(|map| in_use(&map) == 0 && map.queueing()) {
                let _ = out.write_str("if no path will come back: 'corepath release' lets what waits fail, and loses it\n");
            }
        }
        Cure::Online => {
            for path in engine.paths().filter(|p| p.sys_state() == SysState::Offline && wanted.may_lead(p, map)) {
                let _ = writeln!(out, "try: echo running > /sys/block/{}/device/state", path.name());
            }
        }
        Cure::Rescan => {
            let _ = out.write_str("try: for h in /sys/class/scsi_host/host*; do echo '- - -' > $h/scan; done\n");
        }
    }
}

/// Does it, and waits until root is there.
fn treat(
    cx: &mut Cx<'_>,
    machine: &mut Machine,
    wanted: &Wanted<'_>,
    lens: &Lens<'_>,
    watch: &mut Watch<'_>,
    cure: Cure,
    until: Instant,
) -> i32 {
    let Machine { engine, hands, .. } = machine;
    match cure {
        Cure::Online => {
            let map = wanted.map(engine).map(|(map, _)| map);
            for path in engine.paths().filter(|p| p.sys_state() == SysState::Offline && wanted.may_lead(p, map)) {
                let _ = hands.write(path.name(), Attribute::Online, 1);
            }
        }
        Cure::Rescan => {
            let _ = sysfs::hosts(&hands.tools.roots, &mut |host| hands.write(host, Attribute::Scan, 1).is_ok());
        }
        _ => {}
    }
    // Where "/" is a disk, a live map is mended with bare requests: without its configuration another table could be wanted.
    let gentle = cure != Cure::Assemble && wanted.mounted.is_some() && wanted.map(engine).is_some_and(|(map, _)| map.live());
    if !gentle {
        engine.end_dry_run();
        hands.dry = false;
        engine.process(&Context { now: crate::wait::now(), settings: lens }, Event::Reconfigured);
    }
    let mut done = |engine: &Engine<'static>, hands: &Hands| {
        if gentle {
            mend(engine, hands, wanted);
        }
        let named = |map: &MapView<'_>| map.named() && map.tidy() && !hands.naming();
        let local = !known(wanted.found).local.is_empty() && !engine.unsettled().scan && !hands.peeking();
        let live = |(map, part): (MapView<'_>, u32)| {
            boot::there(&map, part) && map.active() && !map.suspended() && in_use(&map) > 0 && (gentle || named(&map))
        };
        (local || wanted.map(engine).is_some_and(live)).into()
    };
    let end = session::run(engine, hands, lens, watch, until, &mut done);
    if end == End::Done {
        let _ = writeln!(cx.out, "rescue: root is there: {} usable paths", wanted.map(engine).map_or(1, |(map, _)| in_use(&map)));
        return DONE;
    }
    let _ = cx.out.write_str("rescue: not yet; now ");
    diagnose(cx.out, engine, wanted);
    TIMED_OUT
}

/// What a daemon would do for the map first: a resume, and its paths that answer reinstated.
fn mend(engine: &Engine<'static>, hands: &Hands, wanted: &Wanted<'_>) {
    let (Some((map, _)), Ok(control)) = (wanted.map(engine), hands.tools.control()) else { return };
    let mut page = Page::new();
    let device = Target::Device(map.devno());
    if map.suspended() {
        // A table that somebody left half way must not come with it.
        let _ = control.submit(device, &Request::Clear, &mut page);
        let _ = control.submit(device, &Request::Resume { cookie: Cookie(0) }, &mut page);
    }
    for path in map.paths().filter(|path| path.usable() && path.dm_state() == DmPathState::Failed) {
        let _ = control.submit(device, &Request::Message(Message::ReinstatePath(path.devno())), &mut page);
    }
}
