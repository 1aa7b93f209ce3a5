//! `corepath boot`: from bare disks to live maps, once, and out. Waits on events, never sleeps; one line says why it ended.
//!
//! Root's disk is claimed at the first sight of one of its paths, whatever find_multipaths says, when the command line names its WWID, or
//! when what is on it is what `root=` asks for and it is a disk that can have paths. A root that is on no such disk ends the wait at once:
//! a machine without a SAN must not lose time here.

use super::args::Arg;
use super::root_search::{Found, Lens, Watch, known, made_by_others, on_disks};
use super::session::{self, End, Ready, Teller};
use super::setup::{self, Common, Wish};
use super::{Cx, DONE, FAILED, TIMED_OUT};
use crate::conf::settings::{Lookup, Policy};
use crate::engine::{Engine, MapView, Options, Reason};
use crate::model::{PathFacts, Text, parse_unsigned};
use crate::wire::partition::Partition;
use crate::wire::root::{Candidate, Root};
use core::cell::RefCell;
use core::fmt::Write;
use core::time::Duration;

/// What the command line asks for.
struct Order<'a> {
    common: Common<'a>,
    policy: Option<Policy>,
    force_reload: bool,
    root: Option<&'a str>,
    timeout: u32,
    only_root: bool,
    /// Make the links of udev.
    links: bool,
    min_paths: u32,
    /// Standard output is root's device and nothing else: for a script that is to mount it.
    device: bool,
    /// root= is that of the kernel's command line, and may name what others make.
    from_kernel: bool,
}

/// How long after the last disk one more is waited for, where root is on none as it is, and may be inside what others open on a local one.
const QUIET: Duration = Duration::from_secs(10);

/// Could a map of ours be called so? What is on top of maps (LVM, dm-crypt) is made by others later: not waited for.
fn ours(name: &str, settings: &dyn Lookup, prefix: &str) -> bool {
    let hex = |text: &str| text.len() >= 16 && text.bytes().take(16).all(|b| b.is_ascii_hexdigit());
    let mut ours = name.starts_with(prefix) || name.get(1..).is_some_and(hex) || settings.named(name);
    ours |= ["eui.", "naa.", "nvme.", "uuid.", "t10."].iter().any(|start| name.starts_with(start));
    settings.aliases(&mut |_, alias| ours |= name.starts_with(alias));
    ours
}

#[inline(never)]
pub fn run(cx: &mut Cx<'_>) -> i32 {
    let mut order = Order {
        common: Common::default(),
        policy: None,
        force_reload: false,
        root: None,
        timeout: 60,
        only_root: false,
        links: false,
        min_paths: 1,
        device: false,
        from_kernel: false,
    };
    let mut timeout_given = false;
    while let Some(arg) = cx.args.next() {
        match order.common.take(arg, &mut cx.args) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(what) => return cx.fail(format_args!("boot: {what}")),
        }
        match arg {
            Arg::Long("root") => match cx.args.value().filter(|root| !root.is_empty()) {
                Some(root) => order.root = Some(root),
                None => return cx.fail(format_args!("boot: --root takes a device, a WWID or PARTUUID=, PARTLABEL=, UUID=, LABEL=")),
            },
            Arg::Long("timeout") => match cx.args.value().and_then(parse_unsigned) {
                Some(seconds) => (order.timeout, timeout_given) = (seconds, true),
                None => return cx.fail(format_args!("boot: --timeout takes seconds")),
            },
            Arg::Long("min-paths") => match cx.args.value().and_then(parse_unsigned).filter(|n| *n > 0) {
                Some(n) => order.min_paths = n,
                None => return cx.fail(format_args!("boot: --min-paths takes a number from 1")),
            },
            Arg::Long("device") => order.device = true,
            Arg::Long("links") => order.links = true,
            Arg::Long("only-root") => order.only_root = true,
            Arg::Long("cmdline") => order.from_kernel = true,
            _ => return cx.fail(format_args!("boot: unknown option; 'corepath help boot' lists them")),
        }
    }
    let configuration = match cx.configuration("boot", &order.common) {
        Ok(configuration) => configuration,
        Err(status) => return status,
    };
    let faulty = session::complain(cx, &configuration);
    if order.from_kernel {
        let value = |key: &str| configuration.words.iter().rev().find_map(|w| w.strip_prefix(key));
        order.root = order.root.or_else(|| value("root="));
        if !timeout_given && let Some(seconds) = value("rd.corepath.timeout=").and_then(parse_unsigned) {
            order.timeout = seconds;
        }
        if let Some(n) = value("rd.corepath.min_paths=").and_then(parse_unsigned) {
            order.min_paths = n;
        }
    }
    if let Some(word) = setup::switched_off(configuration.words) {
        match order.root {
            Some(root) if order.device => drop(writeln!(cx.out, "{root}")),
            _ => drop(writeln!(cx.out, "boot: nothing is done: {word} on the kernel's command line")),
        }
        return DONE;
    }
    if configuration.report.fatal {
        // Disks might be claimed that it means to leave alone: root's is named, and no other is touched.
        let _ =
            writeln!(cx.err, "corepath boot: a blacklist or a key cannot be read: no disk is claimed but root's; mend the configuration");
        order.only_root = true;
        if order.root.is_none() {
            return FAILED;
        }
    }
    match assemble(cx, &order, &configuration) {
        // Root is what its caller waits for; else a configuration that is not in force as it stands is a failure.
        DONE if faulty && order.root.is_none() => FAILED,
        status => status,
    }
}

/// `multipath` without a mode: everything once, within half a minute.
pub fn make(cx: &mut Cx<'_>, common: &Common<'_>, policy: Option<Policy>, force_reload: bool) -> i32 {
    let configuration = match cx.configuration("multipath", common) {
        Ok(configuration) => configuration,
        Err(status) => return status,
    };
    if session::complain(cx, &configuration) && configuration.report.fatal {
        return cx.fail(format_args!("a blacklist or a key cannot be read: nothing is done; mend the configuration"));
    }
    let order = Order {
        common: *common,
        policy,
        force_reload,
        root: None,
        timeout: 30,
        only_root: false,
        links: false,
        min_paths: 1,
        device: false,
        from_kernel: false,
    };
    match assemble(cx, &order, &configuration) {
        DONE => DONE,
        // Clients know 0 and 1 only.
        _ => FAILED,
    }
}

/// How maps are made by a command that ends.
pub fn options(path_partitions: bool) -> Options {
    Options { partitions: true, path_partitions, ..Options::default() }
}

#[inline(never)]
fn assemble(cx: &mut Cx<'_>, order: &Order<'_>, configuration: &super::reading::Configuration<'_>) -> i32 {
    let began = crate::wait::now();
    let deadline = began + Duration::from_secs(u64::from(order.timeout));
    let drop_partitions = !configuration.words.contains(&"dont_del_part_nodes");
    let options = Options { boot: true, policy: order.policy, force_reload: order.force_reload, ..options(drop_partitions) };
    let mut machine = match setup::machine(&order.common, Wish { options, uevents: true, sink: (false, true), control: true, peeks: true })
    {
        Ok(machine) => machine,
        Err(trouble) => return cx.trouble("boot", trouble),
    };
    let root = order.root.map(|text| (text, Root::parse(text)));
    let mut found = RefCell::new(Found::default());
    let prefix = configuration.settings.map("", &PathFacts::default()).alias_prefix;
    // Root is not a map, or not one of ours: done when all that is there is done.
    let mut elsewhere = false;
    match root {
        Some((text, None)) if ours(text, &configuration.settings, &prefix) => {
            // Not a device in any way we know: a WWID.
            let _ = found.get_mut().wwid.push_str(text);
        }
        Some((_, None)) => elsewhere = true,
        Some((_, Some(Root::MapName(name)))) if order.from_kernel => elsewhere = !ours(name, &configuration.settings, &prefix),
        Some((_, Some(spec))) => elsewhere = made_by_others(&spec),
        None => {}
    }
    let sought = root.filter(|(_, spec)| !elsewhere && spec.as_ref().is_some_and(on_disks));
    if let Some((text, _)) = sought {
        machine.hands.look_for(text);
    }
    // Where nothing that is there could hold it, root itself is waited for: it is not there yet.
    let inside = |found: &Found| order.from_kernel && found.openable && found.wwid.is_empty() && found.local.is_empty();
    let spec = root.as_ref().and_then(|(_, spec)| *spec);
    let lens = Lens { inner: &configuration.settings, found: &found, spec, only_root: order.only_root };
    let mut watch = Watch {
        teller: Teller::new(order.common.verbosity),
        found: &found,
        inner: &configuration.settings,
        spec: sought.and_then(|(_, spec)| spec),
    };
    let min = order.min_paths;
    let mut live_since = None;
    let named = configuration.settings.command_line;
    let all = |engine: &Engine<'static>, hands: &super::runtime::Hands| {
        let mut missing = named.iter().filter(|wwid| !engine.maps().any(|map| map.active() && map.wwid() == **wwid));
        session::settled(engine, hands) && enough(engine, min) && missing.next().is_none()
    };
    let mut done = |engine: &Engine<'static>, hands: &super::runtime::Hands| match &root {
        Some((_, spec)) if !elsewhere => {
            let found = known(&found);
            let now = crate::wait::now();
            if !found.local.is_empty() && !engine.unsettled().scan && !hands.peeking() {
                return Ready::Yes;
            }
            match root_is_live(engine, hands, spec.as_ref(), &found, min) {
                None if inside(&found) && !hands.peeking() && all(engine, hands) => {
                    let claimed = engine.maps().any(|map| map.active() && map.wwid() == found.openable_wwid.as_str());
                    match found.last.unwrap_or(began) + QUIET {
                        end if claimed || now >= end => Ready::Yes,
                        end => Ready::At(end),
                    }
                }
                None => Ready::No,
                Some(map) if map.tidy() => Ready::Yes,
                // Nothing tells of the end of this patience but the clock.
                Some(_) => match *live_since.get_or_insert(now) + TIDYING {
                    end if now >= end => Ready::Yes,
                    end => Ready::At(end),
                },
            }
        }
        _ => all(engine, hands).into(),
    };
    let end = session::run(&mut machine.engine, &mut machine.hands, &lens, &mut watch, deadline, &mut done);
    let mut maps = 0;
    let mut paths = 0;
    for map in machine.engine.maps().filter(MapView::active) {
        maps += 1;
        paths += map.usable();
    }
    let took = u64::try_from(crate::wait::now().since(began).as_millis()).unwrap_or(u64::MAX);
    let who = if cx.called == "corepath" { "boot" } else { cx.called };
    match end {
        End::Done => {
            let local = known(&found).local.clone();
            let inside = inside(&known(&found));
            if let Some((map, _)) = root_map(&machine.engine, spec.as_ref(), &known(&found)).filter(|(map, _)| !map.tidy()) {
                cx.speak("boot");
                let _ = writeln!(cx.err, "partitions of a path of {} are still there: mount none of them", map.name());
            }
            if order.device
                && let Some(text) = order.root
            {
                device(&machine.engine, spec.as_ref(), &known(&found), text, cx.out);
                return DONE;
            }
            let how = match order.root {
                None => "",
                Some(_) if inside => " is on no disk as it is, and may be inside LUKS, LVM or MD: not waited for; ",
                Some(_) if elsewhere => " is no map of corepath's: not waited for; ",
                Some(_) if !local.is_empty() => " is on ",
                Some(_) => " is live: ",
            };
            let _ = write!(cx.out, "{who}: {}{how}", order.root.unwrap_or(""));
            let _ = match local.as_str() {
                "" => write!(cx.out, "{maps} maps with {paths} usable paths ({took} ms"),
                local => write!(cx.out, "{local}, a disk with one way to it; nothing to wait for ({took} ms"),
            };
            if !inside && !elsewhere && local.is_empty() {
                let _ = write!(cx.out, ", {} changes", machine.hands.changes);
            }
            let _ = cx.out.write_str(")\n");
            let wrong = |map: MapView<'_>| map.last_error().is_some() || map.alias_refused() || map.paths_left_out();
            let mut trouble = machine.engine.maps().any(wrong) | tell_held(cx, &machine);
            trouble &= order.root.is_none();
            if order.links {
                for map in machine.engine.maps().filter(MapView::active) {
                    let linked = super::partitions::links_of(cx, map.name());
                    trouble |= linked.unwrap_or_else(|t| cx.fail(format_args!("boot: links of {}: {t}", map.name()))) != DONE;
                }
            }
            if trouble { FAILED } else { DONE }
        }
        End::TimedOut => {
            let seen = machine.engine.paths().count();
            let out = if order.device { &mut *cx.err } else { &mut *cx.out };
            let (root, how, what) = order.root.map_or(("", "not done", "what is missing"), |root| (root, " did not appear", "them"));
            let _ = writeln!(
                out,
                "{who}: {root}{how} within {} s: {seen} disks seen, {maps} maps with {paths} usable paths; 'corepath scan' shows {what}",
                order.timeout
            );
            TIMED_OUT
        }
        End::Failed(errno) => cx.trouble("boot", setup::Trouble::Loop(errno)),
    }
}

/// Prints the node of root: of its map or partition, of the disk that has no paths, or what `root=` says.
fn device(engine: &Engine<'static>, spec: Option<&Root<'_>>, found: &Found, text: &str, out: &mut dyn Write) {
    let _ = match root_map(engine, spec, found) {
        Some((map, number)) => {
            let part = map.partitions().find(|part| part.number == number);
            writeln!(out, "/dev/mapper/{}", part.as_ref().map_or(map.name(), |part| part.name))
        }
        None if !found.local.is_empty() && found.number > 0 => {
            let name = crate::engine::names::partition(&found.local, "", found.number).unwrap_or_default();
            writeln!(out, "/dev/{name}")
        }
        None if !found.local.is_empty() => writeln!(out, "/dev/{}", found.local),
        None => writeln!(out, "{text}"),
    };
}

/// Says of each disk that is in use though others lead to the same LUN: no map is made over them. Such a disk has one path left to lose.
fn tell_held(cx: &mut Cx<'_>, machine: &setup::Machine) -> bool {
    let mut told = false;
    for path in machine.engine.paths().filter(|path| path.reason() == Reason::InUse && path.held_by_others()) {
        if machine.engine.paths().any(|other| other.wwid() == path.wwid() && other.id() != path.id()) {
            cx.speak("boot");
            let _ = write!(cx.err, "no map for {}: {} {} is ", path.wwid(), path.name(), path.devno());
            let _ = super::look::holder(cx.err, machine, path.name());
            told = true;
        }
    }
    told
}

/// Does every map have as many usable paths as asked for?
fn enough(engine: &Engine<'static>, min: u32) -> bool {
    engine.maps().filter(MapView::active).all(|map| map.usable() >= min)
}

/// How long a usable root waits for the kernel to give up its own partitions of the paths.
const TIDYING: Duration = Duration::from_secs(3);

/// The map that root is on, and which of its partitions root is, 0 for the map itself.
pub fn root_map<'e>(engine: &'e Engine<'static>, spec: Option<&Root<'_>>, found: &Found) -> Option<(MapView<'e>, u32)> {
    let exactly = engine.maps().find_map(|map| {
        if map.wwid() == found.wwid {
            return Some((map, found.number));
        }
        let spec = spec?;
        let is = |devno, name: &str, number: u32| {
            let own = Partition { number, ..Partition::default() };
            let mut uuid = Text::<160>::new();
            let _ = if number > 0 { write!(uuid.as_mut_view(), "part{number}-") } else { Ok(()) };
            let _ = write!(uuid.as_mut_view(), "{}{}", crate::model::UUID_PREFIX, map.wwid());
            let partition = (number > 0).then_some((&own, &[][..]));
            spec.is(&Candidate { devno, name, uuid: &uuid, wwid: map.wwid(), partition, ids: None })
        };
        if is(map.devno(), map.name(), 0) {
            return Some((map, 0));
        }
        let part = map.partitions().find(|part| is(part.devno, part.name, part.number))?;
        Some((map, part.number))
    });
    // By the name that another maker of partition maps gives it, where nothing is called so.
    exactly.or_else(|| engine.maps().find_map(|map| Some((map, spec?.part_of(map.name())?))))
}

/// Has this partition of the map a device, if it is one?
pub fn there(map: &MapView<'_>, number: u32) -> bool {
    number == 0 || map.partitions().any(|part| part.number == number && part.live)
}

/// Is root's map (and its partition's) there, by name? Gives the map.
#[inline(never)]
pub fn root_is_live<'e>(
    engine: &'e Engine<'static>,
    hands: &super::runtime::Hands,
    spec: Option<&Root<'_>>,
    found: &Found,
    min: u32,
) -> Option<MapView<'e>> {
    let (map, number) = root_map(engine, spec, found)?;
    (there(&map, number) && map.active() && !map.suspended() && map.usable() >= min && map.named() && !hands.naming()).then_some(map)
}
