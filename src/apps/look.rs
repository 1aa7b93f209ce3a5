//! `scan`, `list` and `why`: what is there, what would be done, and for what reason. They write nothing to the kernel.

use super::args::Arg;
use super::engine_view::EngineView;
use super::session::{self, End, Teller};
use super::setup::{self, Common, Machine, Wish};
use super::topology::Style;
use super::{Cx, DONE, FAILED, TIMED_OUT, columns, json, say, topology};
use crate::conf::print;
use crate::conf::settings::{Lookup, Origin, Verdict};
use crate::console::{self, Stream};
use crate::diskread::{self, What};
use crate::engine::{Engine, MapView, Options, PathView};
use crate::fault::Errno;
use crate::files;
use crate::model::{DmPathState, Holder, last_part};
use core::fmt::Write;
use core::time::Duration;

/// How long looking may take: a hung disk must not hold up a person.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a look found; the machinery stays as it was when it was settled.
pub struct Look {
    pub machine: Machine,
    pub configuration: super::reading::Configuration<'static>,
    pub complete: bool,
    /// The device mapper, which may have maps, was not to be asked.
    pub hidden: bool,
}

/// What a look tells by itself, on standard error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tells {
    /// That dm was not to be asked.
    Least,
    /// And why no map could be made of what is there.
    Trouble,
    /// And what is wrong with the configuration and with what is there.
    All,
}

/// Scans and surveys without changing anything.
pub fn look(cx: &mut Cx<'_>, command: &str, common: &Common<'_>, tells: Tells) -> Result<Look, i32> {
    let configuration = cx.configuration(command, common)?;
    if tells == Tells::All {
        session::complain(cx, &configuration);
    }
    let options = Options { dry_run: true, errand: common.unasked, ..Options::default() };
    let mut machine = match setup::machine(common, Wish { options, uevents: false, sink: (false, true), control: false, peeks: false }) {
        Ok(machine) => machine,
        Err(trouble) => return Err(cx.trouble(command, trouble)),
    };
    // Reading is no news: only trouble is told.
    let mut teller = Teller::new(common.verbosity.saturating_sub(1).min(if tells == Tells::All { u8::MAX } else { 0 }));
    let deadline = crate::wait::now() + PATIENCE;
    let end = session::run(&mut machine.engine, &mut machine.hands, &configuration.settings, &mut teller, deadline, &mut |e, h| {
        session::settled(e, h).into()
    });
    match end {
        End::Failed(errno) => return Err(cx.trouble(command, setup::Trouble::Loop(errno))),
        End::TimedOut => {
            let whose = if machine.engine.unsettled().survey { "the device mapper" } else { "a disk" };
            cx.speak(command);
            let _ = writeln!(cx.err, "{whose} did not answer within {} s: what is shown is incomplete", PATIENCE.as_secs());
        }
        End::Done => {}
    }
    let hidden = matches!(machine.lacks, Some(setup::Trouble::Control(Errno::ACCES | Errno::PERM)));
    if let Some(trouble) = machine.lacks
        && (hidden || tells > Tells::Least && machine.engine.paths().any(|path| path.map().is_some()))
    {
        cx.trouble(command, trouble);
    }
    Ok(Look { machine, configuration, complete: end == End::Done, hidden })
}

impl Look {
    pub fn view(&self) -> EngineView<'_> {
        let retry_secs = self.configuration.settings.globals().polling_interval.as_secs() as u32;
        EngineView { engine: &self.machine.engine, now: crate::wait::now(), retry_secs }
    }

    fn status(&self) -> i32 {
        if self.complete { DONE } else { TIMED_OUT }
    }
}

/// Terminal or plain?
fn style() -> Style {
    Style { colour: console::is_terminal(Stream::Out) }
}

/// What a command that looks is given.
pub struct Words<'a> {
    pub common: Common<'a>,
    /// A disk or map.
    pub word: Option<&'a str>,
    pub json: bool,
}

/// Reads the arguments.
#[inline(never)]
pub fn words<'a>(cx: &mut Cx<'a>, command: &str) -> Result<Words<'a>, i32> {
    let mut words = Words { common: Common::default(), word: None, json: false };
    while let Some(arg) = cx.args.next() {
        match words.common.take(arg, &mut cx.args) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(what) => return Err(cx.fail(format_args!("{command}: {what}"))),
        }
        match arg {
            Arg::Long("json") => words.json = true,
            Arg::Word(name) if words.word.is_none() => words.word = Some(name),
            _ => return Err(cx.fail(format_args!("{command}: unknown option or too many words; 'corepath help {command}' lists them"))),
        }
    }
    Ok(words)
}

/// `list [MAP] [--json]`
#[inline(never)]
pub fn list(cx: &mut Cx<'_>) -> i32 {
    let Words { common, word: wanted, json: as_json } = match words(cx, "list") {
        Ok(words) => words,
        Err(status) => return status,
    };
    let look = match look(cx, "list", &common, Tells::All) {
        Ok(look) => look,
        Err(status) => return status,
    };
    if look.hidden {
        return FAILED;
    }
    let view = look.view();
    let only = match wanted.map(|name| (name, view.position(name))) {
        Some((name, None)) => return cx.fail(format_args!("list: no map '{name}'")),
        Some((_, Some(position))) => Some(position),
        None => None,
    };
    let _ = if as_json { json::maps(&view, only, cx.out) } else { topology::tree(&view, only, style(), cx.out) };
    look.status()
}

/// What would be done to a map, in a word.
fn plan(map: &MapView<'_>) -> &'static str {
    if !map.live() { "would be created" } else { "is live" }
}

/// `scan [--json]`
#[inline(never)]
pub fn scan(cx: &mut Cx<'_>) -> i32 {
    let Words { common, word, json: as_json } = match words(cx, "scan") {
        Ok(words) => words,
        Err(status) => return status,
    };
    if word.is_some() {
        return cx.fail(format_args!("scan: takes no disk; 'corepath why' and 'corepath probe' do"));
    }
    if !as_json {
        return scan_with(cx, "scan", &common, None);
    }
    let look = match look(cx, "scan", &common, Tells::All) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let _ = scan_json(&look, cx);
    look.status()
}

/// What is there and what would be done, as text; `only`: to this map, or the map of this disk.
#[inline(never)]
pub fn scan_with(cx: &mut Cx<'_>, command: &str, common: &Common<'_>, only: Option<&str>) -> i32 {
    let look = match look(cx, command, common, Tells::All) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let _ = scan_text(&look.machine.engine, only, cx.out);
    look.status()
}

/// What is there, and in what state.
pub fn scan_text(engine: &Engine<'static>, only: Option<&str>, out: &mut dyn Write) -> core::fmt::Result {
    let meant = |map: &MapView<'_>| only.is_none_or(|n| map.name() == n || map.wwid() == n || map.paths().any(|path| path.name() == n));
    for map in engine.maps().filter(|map| (map.live() || map.paths().next().is_some()) && meant(map)) {
        let name = if map.name().is_empty() { map.wwid() } else { map.name() };
        write!(out, "{name} {}: {} of {} paths usable", plan(&map), map.usable(), map.paths().count())?;
        for (so, words) in [
            (map.suspended(), ", SUSPENDED: I/O waits"),
            (map.active() && map.usable() == 0 && map.queueing(), ", NO PATH: I/O waits"),
            (map.active() && map.usable() == 0 && !map.queueing(), ", NO PATH: I/O fails"),
            (map.read_only(), ", read-only"),
        ] {
            out.write_str(if so { words } else { "" })?;
        }
        out.write_str("\n")?;
        for path in map.paths() {
            write!(out, "  {:<8} {:<8} ", path.name(), Show(path.devno()))?;
            if let Some(hctl) = path.hctl() {
                write!(out, "{hctl} ")?;
            }
            write!(out, "{},{} ", path.vendor(), path.product())?;
            columns::size(path.size(), out)?;
            write!(out, " {} prio {} ", path.state().word(), path.prio().0)?;
            if !path.live() {
                out.write_str("(to be added) ")?;
            }
            out.write_str("- ")?;
            say::reason(path.reason(), out)?;
            if !path.usable() {
                say::cause(path.cause(), out)?;
            } else if path.live() && path.dm_state() == DmPathState::Failed {
                out.write_str("; the kernel holds it failed")?;
            }
            out.write_str("\n")?;
        }
    }
    let mut first = true;
    for path in engine.paths().filter(|path| path.map().is_none() && only.is_none_or(|n| path.name() == n)) {
        if core::mem::take(&mut first) {
            out.write_str("left alone:\n")?;
        }
        write!(out, "  {:<8} {:<8} {} - ", path.name(), Show(path.devno()), path.wwid())?;
        say::reason(path.reason(), out)?;
        out.write_str("\n")?;
    }
    Ok(())
}

/// A device number that honours a width.
struct Show(crate::model::DevNo);

impl core::fmt::Display for Show {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut text = crate::model::Text::<24>::new();
        write!(text.as_mut_view(), "{}", self.0)?;
        f.pad(&text)
    }
}

fn scan_json(look: &Look, cx: &mut Cx<'_>) -> core::fmt::Result {
    let engine = &look.machine.engine;
    let out = &mut json::Json::new(cx.out);
    out.open("", '{')?;
    out.boolean("complete", look.complete)?;
    out.open("maps", '[')?;
    for map in engine.maps().filter(|map| map.live() || map.paths().next().is_some()) {
        out.open("", '{')?;
        out.text("name", map.name())?;
        out.text("wwid", map.wwid())?;
        out.boolean("live", map.live())?;
        out.number("usable", i64::from(map.usable()))?;
        out.open("paths", '[')?;
        for path in map.paths() {
            path_json(&path, out)?;
        }
        out.close(']')?;
        out.close('}')?;
    }
    out.close(']')?;
    out.open("others", '[')?;
    for path in engine.paths().filter(|path| path.map().is_none()) {
        path_json(&path, out)?;
    }
    out.close(']')?;
    out.close('}')
}

fn path_json(path: &PathView<'_>, out: &mut json::Json<'_>) -> core::fmt::Result {
    let (code, sentence) = say::reason_row(path.reason());
    out.open("", '{')?;
    out.text("dev", path.name())?;
    out.with("dev_t", &|o| write!(o, "{}", path.devno()))?;
    out.text("wwid", path.wwid())?;
    out.text("vendor", path.vendor())?;
    out.text("product", path.product())?;
    out.number("sectors", path.size().0 as i64)?;
    out.text("state", path.state().word())?;
    out.number("prio", i64::from(path.prio().0))?;
    out.boolean("live", path.live())?;
    out.text("reason", code)?;
    out.text("because", sentence)?;
    out.close('}')
}

/// A disk or map as people name it: for a path that is a link, the kernel's name of what it leads to.
#[inline(never)]
pub fn named<'n>(common: &Common<'_>, word: &'n str, room: &'n mut [u8; 255]) -> &'n str {
    let short = word.strip_prefix("/dev/").map_or(word, |rest| rest.strip_prefix("mapper/").unwrap_or(rest));
    if short.contains('/')
        && let Ok(What::Block(devno)) = diskread::what(files::current_dir(), word)
        && let Ok(sys) = files::open_dir(common.sys)
    {
        let mut link = crate::model::Text::<32>::new();
        let _ = write!(link.as_mut_view(), "dev/block/{devno}");
        let there = files::read_link(crate::raw::AsFd::as_fd(&sys), &link, room).unwrap_or_default();
        return last_part(core::str::from_utf8(there).unwrap_or_default());
    }
    short
}

/// `why DEV`
#[inline(never)]
pub fn why(cx: &mut Cx<'_>) -> i32 {
    let Words { common, word: device, .. } = match words(cx, "why") {
        Ok(words) => words,
        Err(status) => return status,
    };
    let Some(device) = device else { return cx.fail(format_args!("why: which device? 'corepath why sda'")) };
    let mut room = [0; 255];
    let name = named(&common, device, &mut room);
    let look = match look(cx, "why", &common, Tells::Trouble) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let Some(path) = look.machine.engine.find_path(name) else {
        return cx.fail(format_args!("why: no disk '{name}' in sysfs"));
    };
    let (code, sentence) = say::reason_row(path.reason());
    let _ = write!(cx.out, "{} {} ", path.name(), path.devno());
    let _ = match path.map() {
        Some(map) => write!(cx.out, "is claimed for {}: ", if map.name().is_empty() { map.wwid() } else { map.name() }),
        None => write!(cx.out, "is left alone: "),
    };
    let _ = writeln!(cx.out, "{sentence} [{code}]");
    if let Some(origin) = rule(path.verdict()) {
        let _ = cx.out.write_str("rule: ");
        let _ = print::emit_origin(cx.out, look.configuration.files, origin);
        let _ = cx.out.write_str("\n");
    }
    let _ = holder(cx.out, &look.machine, path.name());
    if path.map().is_some() { look.status() } else { FAILED }
}

/// Where the blacklist's rule for a disk stands, if one spoke.
pub fn rule(verdict: Verdict) -> Option<Origin> {
    match verdict {
        Verdict::Whitelisted { origin, .. } | Verdict::Rejected { origin, .. } => Some(origin),
        _ => None,
    }
}

/// Who holds a disk. The engine keeps only that somebody does; sysfs and mountinfo say who.
pub fn holder(out: &mut dyn Write, machine: &Machine, name: &str) -> core::fmt::Result {
    let mut facts = crate::model::PathFacts::default();
    let mut scratch = [0u8; 4096];
    if crate::sysfs::read_facts(&machine.hands.tools.roots, name, &mut scratch, &mut facts).is_err() {
        return Ok(());
    }
    if facts.holder == Holder::Nobody {
        return Ok(());
    }
    out.write_str("held by: ")?;
    held_by(&facts.holder, out)?;
    out.write_str("\n")
}

pub fn held_by(holder: &Holder, out: &mut dyn Write) -> core::fmt::Result {
    match holder {
        Holder::Map { devno, uuid } => write!(out, "dm device {devno} with uuid {uuid}"),
        Holder::Device(name) => out.write_str(name),
        Holder::Mounted(place) => write!(out, "the file system mounted on {place}"),
        Holder::Nobody => Ok(()),
    }
}
