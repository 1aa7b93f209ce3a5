//! `corepath probe DEV`: one screen on one path. What the engine knows of it is the engine's word; what the device says is asked here, of
//! the device itself, one command after the other and each through a worker, so that a disk which hangs holds up nobody.
//!
//! Sends only what reads: INQUIRY of VPD pages, REPORT TARGET PORT GROUPS, and what a checker asks (never its preparations).

mod pages;

use super::engine_view::checker_word;
use super::look::{self, Look, Tells, Words};
use super::runtime::Audience;
use super::session::{self, End};
use super::sheet::{Sheet, Written};
use super::view::sys_word;
use super::{Cx, DONE, TIMED_OUT, columns, json, say};
use crate::conf::keyword::PRIOS;
use crate::conf::print::emit_origin;
use crate::conf::settings::{CheckerKind, Lookup};
use crate::diskread;
use crate::dmioctl::Page;
use crate::engine::checker::{self, Answer, ArrayFault, Checker, MapMemory, PathMemory, Step};
use crate::engine::detect::{self, Evidence, Question};
use crate::engine::prio::alua;
use crate::engine::{Cause, Context, Note, Refusal, Subject};
use crate::files;
use crate::model::{Bus, DevName, Holder, Instant, PathFacts, PathId, PathState, SysState, Tpgs};
use crate::sgio::SENSE;
use crate::wire::alua as rtpg;
use crate::wire::scsi::{Command, Outcome, Reply};
use core::cell::Cell;
use core::fmt::Write;
use core::time::Duration;

/// How long all answers together may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Times a command is sent while only a unit attention comes back.
const TRIES: u8 = 5;
/// Groups that are shown of a list.
const GROUPS: usize = 16;

/// The answer that is waited for, kept until the next question.
struct Waiting<'t> {
    here: &'t Cell<bool>,
    page: Page,
    sense: [u8; SENSE],
    /// Its data and sense are in the two above.
    reply: Reply<'static>,
    lengths: (usize, usize),
    state: Option<SysState>,
}

impl Waiting<'_> {
    fn data(&self) -> &[u8] {
        self.page.0.get(..self.lengths.0).unwrap_or(&[])
    }

    fn reply(&self) -> Reply<'_> {
        Reply { data: self.data(), sense: self.sense.get(..self.lengths.1).unwrap_or(&[]), ..self.reply }
    }
}

impl Audience for Waiting<'_> {
    fn note(&mut self, _: Instant, _: &Note, _: &Subject<'_>) {}
    fn answer(&mut self, _: u32, _: Result<(), Refusal>) {}
    fn asked(&mut self, answer: Result<&Reply<'_>, SysState>) {
        self.here.set(true);
        match answer {
            Err(state) => self.state = Some(state),
            Ok(reply) => {
                self.lengths = (reply.data.len(), reply.sense.len());
                self.page.0.iter_mut().zip(reply.data).for_each(|(to, from)| *to = *from);
                self.sense.iter_mut().zip(reply.sense).for_each(|(to, from)| *to = *from);
                self.reply = Reply { data: &[], sense: &[], ..*reply };
            }
        }
    }
}

/// A conversation with one disk.
struct Talk<'t> {
    look: &'t mut Look,
    path: PathId,
    name: &'t str,
    waiting: Waiting<'t>,
    until: Instant,
    /// Why nothing more is asked.
    silent: Option<Cause>,
}

impl Talk<'_> {
    /// Sends a command and waits for its end: the answer is in `waiting`, unless there is none.
    #[inline(never)]
    fn send(&mut self, command: &Command) -> Result<(), Cause> {
        if let Some(why) = self.silent {
            return Err(why);
        }
        let Talk { look, name, waiting, until, .. } = self;
        let here = waiting.here;
        here.set(false);
        let machine = &mut look.machine;
        let sent = machine.hands.ask(name, command);
        let settings = &look.configuration.settings;
        let mut run = || session::run(&mut machine.engine, &mut machine.hands, settings, waiting, *until, &mut |_, _| here.get().into());
        let done = sent.is_ok() && run() == End::Done;
        self.silent = match waiting.state {
            Some(state) => Some(Cause::Sys(state)),
            None if !done => Some(Cause::NoAnswer),
            None => None,
        };
        self.silent.map_or(Ok(()), Err)
    }

    /// The data that a command brings, or why there is none.
    #[inline(never)]
    fn ask(&mut self, command: &Command) -> Result<&[u8], Cause> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.send(command)?;
            match self.waiting.reply().outcome() {
                Outcome::Good | Outcome::Recovered(_) => return Ok(self.waiting.data()),
                outcome if tries < TRIES && checker::passing(&outcome) => {}
                outcome => return Err(checker::Cause::from(outcome).into()),
            }
        }
    }
}

#[inline(never)]
pub fn run(cx: &mut Cx<'_>) -> i32 {
    let Words { common, word: device, json: as_json } = match look::words(cx, "probe") {
        Ok(words) => words,
        Err(status) => return status,
    };
    let Some(device) = device else { return cx.fail(format_args!("probe: which device? 'corepath probe sda'")) };
    let mut room = [0; 255];
    let name = look::named(&common, device, &mut room);
    if name.is_empty() || name.contains('/') {
        return match diskread::what(files::current_dir(), device) {
            Err(errno) => cx.fail(format_args!("probe: {device}: {}", errno.word().unwrap_or("unknown error"))),
            Ok(_) => cx.fail(format_args!("probe: {device} is no block device")),
        };
    }
    let mut look = match look::look(cx, "probe", &common, Tells::Least) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let engine = &look.machine.engine;
    let Some(path) = engine.find_path(name) else {
        let map = engine.find_map(name);
        let Some(map) = map else {
            return cx.fail(format_args!("probe: no disk '{device}' in sysfs; 'corepath scan' lists those there are"));
        };
        let paths = |out: &mut dyn Write| map.paths().try_for_each(|path| write!(out, " {}", path.name()));
        return cx.fail(format_args!("probe: {device} is a map; ask one of its paths: {}", Written(&paths)));
    };
    let mut facts = PathFacts::default();
    // Who kept a worker so long is not asked more.
    let silent = (!look.complete && path.busy()).then_some(Cause::NoAnswer);
    let own_wwid = crate::model::Wwid::try_from(path.wwid()).unwrap_or_default();
    let (path, name) = (path.id(), DevName::try_from(path.name()).unwrap_or_default());
    if crate::sysfs::read_facts(&look.machine.hands.tools.roots, &name, &mut [0; 4096], &mut facts).is_err() {
        return cx.fail(format_args!("probe: {name} went away"));
    }
    if facts.wwid.is_empty() {
        // What the disk itself has said.
        facts.wwid = own_wwid;
    }
    let here = Cell::new(false);
    let waiting = Waiting { here: &here, page: Page::new(), sense: [0; SENSE], reply: Reply::good(&[]), lengths: (0, 0), state: None };
    let until = crate::wait::now() + PATIENCE;
    let mut talk = Talk { look: &mut look, path, name: &name, waiting, until, silent };
    let sheet = &mut if as_json { Sheet::Document(json::Json::new(cx.out)) } else { Sheet::Text(cx.out, false) };
    sheet.begin();
    kernel(sheet, &facts);
    if facts.bus == Bus::Scsi {
        pages::all(sheet, &mut talk, &facts);
        if !matches!(facts.tpgs, Tpgs::None | Tpgs::Unknown) {
            groups(sheet, &mut talk, &facts);
        }
    }
    judgement(sheet, &mut talk, &facts);
    plan(sheet, &talk);
    sheet.finish();
    if talk.silent == Some(Cause::NoAnswer) { TIMED_OUT } else { DONE }
}

/// What sysfs says.
#[inline(never)]
fn kernel(sheet: &mut Sheet<'_>, facts: &PathFacts) {
    sheet.open("disk", false);
    sheet.text("name", &facts.name);
    sheet.put("number", format_args!("{}", facts.devno));
    if let Some(hctl) = facts.hctl {
        sheet.put("address", format_args!("{hctl}"));
    }
    sheet.with("size", &|out| columns::size(facts.size, out));
    sheet.number("block", facts.block_size as i32);
    sheet.text("transport", facts.protocol.word());
    sheet.text("target", &facts.target_port);
    sheet.close();
    sheet.open("identity", false);
    sheet.text("wwid", &facts.wwid);
    sheet.text("vendor", &facts.vendor);
    sheet.text("product", &facts.product);
    sheet.text("revision", &facts.revision);
    sheet.close();
    sheet.open("kernel", false);
    sheet.text("state", sys_word(facts.sys_state));
    sheet.text("handler", if facts.handler.is_empty() { "none" } else { &facts.handler });
    if let Some(access) = facts.access {
        sheet.text("access", rtpg::word(access));
        sheet.flag("preferred", facts.preferred);
    }
    sheet.number("timeout", facts.timeout_secs as i32);
    sheet.flag("read_only", facts.read_only);
    if facts.holder != Holder::Nobody {
        sheet.with("held_by", &|out| look::held_by(&facts.holder, out));
    }
    sheet.close();
}

/// Why something could not be had.
#[inline(never)]
fn fault(sheet: &mut Sheet<'_>, why: Cause) {
    sheet.with("fault", &|out| say::cause(why, out));
}

/// The target port groups.
#[inline(never)]
fn groups(sheet: &mut Sheet<'_>, talk: &mut Talk<'_>, facts: &PathFacts) {
    sheet.list("groups");
    match talk.ask(&alua::report()).map(rtpg::Report::parse) {
        Ok(Ok(report)) => {
            let here = facts.target_port_group;
            for group in report.groups().take(GROUPS) {
                sheet.open("group", true);
                sheet.number("id", i32::from(group.id));
                sheet.text("state", rtpg::word(group.state));
                sheet.flag("preferred", group.preferred);
                sheet.flag("here", here == Some(group.id));
                sheet.with("ports", &|out| group.ports().take(GROUPS).try_for_each(|port| write!(out, " {}", u32::from(port))));
                sheet.close();
            }
            let more = report.groups().count().saturating_sub(GROUPS);
            let listed = here.is_some_and(|here| report.find(here).is_some());
            if more > 0 || report.truncated || !listed {
                sheet.open("group", true);
                sheet.number("more", more as i32);
                sheet.flag("cut", report.truncated);
                sheet.flag("own_listed", listed);
                sheet.close();
            }
        }
        other => {
            sheet.open("group", true);
            fault(sheet, other.err().unwrap_or(Cause::Array(ArrayFault::Malformed)));
            sheet.close();
        }
    }
    sheet.end();
}

/// Asks what the checker of a path that is left alone asks; its paths the engine has checked already.
#[inline(never)]
fn check(talk: &mut Talk<'_>, facts: &PathFacts) -> (CheckerKind, PathState, Cause) {
    let settings = talk.look.configuration.settings.path(facts);
    let evidence = match detect::question(facts, &settings) {
        Question::Scsi(command) if talk.send(&command).is_ok() => Evidence::from_scsi(&talk.waiting.reply()),
        _ => Evidence::default(),
    };
    let kind = detect::detect(facts, &settings, evidence).checker;
    let mut memory = PathMemory { rdac_prepared: true, ..PathMemory::default() };
    let (mut checker, mut step) = Checker::start(kind, checker::Subject::default(), &memory);
    loop {
        step = match step {
            Step::Send(command) if facts.bus == Bus::Scsi => match talk.send(&command) {
                Ok(()) => checker.next(Answer::Scsi(&talk.waiting.reply()), &mut memory, &mut MapMemory::default()),
                Err(why) => return (kind, PathState::Down, why),
            },
            Step::Done(verdict) => return (kind, verdict.state, verdict.cause.into()),
            // A disk that is left alone is not read with O_DIRECT.
            _ => return (kind, PathState::Unchecked, Cause::Unknown),
        };
    }
}

/// What its checker says, and its priority.
#[inline(never)]
fn judgement(sheet: &mut Sheet<'_>, talk: &mut Talk<'_>, facts: &PathFacts) {
    let path = talk.look.machine.engine.path(talk.path).filter(|path| path.map().is_some());
    let prio = path.map(|path| (path.prio_kind(), path.prio()));
    let (kind, state, cause) = match path {
        Some(path) => (path.checker(), path.state(), path.cause()),
        None => check(talk, facts),
    };
    sheet.open("checker", false);
    sheet.text("name", checker_word(kind));
    sheet.text("state", state.word());
    if !matches!(cause, Cause::Good | Cause::Unknown) {
        sheet.with("because", &|out| say::cause(cause, out));
    }
    if let Some((kind, prio)) = prio {
        sheet.text("prio", PRIOS.get(kind as usize).map_or("", |word| word.0));
        sheet.number("value", prio.0);
    }
    sheet.close();
}

/// What would be done with it, and for what reason.
#[inline(never)]
fn plan(sheet: &mut Sheet<'_>, talk: &Talk<'_>) {
    let Some(path) = talk.look.machine.engine.path(talk.path) else { return };
    let configuration = &talk.look.configuration;
    sheet.open("plan", false);
    let (code, sentence) = say::reason_row(path.reason());
    sheet.flag("claim", path.map().is_some());
    sheet.text("reason", code);
    sheet.text("because", sentence);
    if let Some(origin) = look::rule(path.verdict()) {
        sheet.with("rule", &|out| emit_origin(out, configuration.files, origin));
    }
    sheet.close();
    let Some(map) = path.map() else { return };
    sheet.open("map", false);
    sheet.text("name", if map.name().is_empty() { map.wwid() } else { map.name() });
    sheet.flag("live", map.live());
    let mut text = Page::new();
    if let Some((size, words)) = map.wanted_table(&Context { now: crate::wait::now(), settings: &configuration.settings }, &mut text.0) {
        sheet.put("table", format_args!("0 {} multipath {}", size.0, core::str::from_utf8(words).unwrap_or("").trim_ascii_start()));
    }
    sheet.close();
}
