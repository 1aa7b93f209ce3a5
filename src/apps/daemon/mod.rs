//! `corepath daemon`: the resident path manager. One loop that never sleeps on a device; everything that can is a worker's.
//!
//! In the foreground, but for `multipathd` without -d, which goes on as a process of its own before anything is made. Started as `@corepath`
//! or `multipathd` it keeps that name (systemd leaves a process alone whose first argument begins with `@`).

pub mod aliases;
pub mod clients;
pub mod control;
mod ears;
mod heir;
mod manager;
pub mod packed;
mod prepare;
pub mod state;
pub mod status;

use super::args::Arg;
use super::engine_view::EngineView;
use super::reading::{self, Configuration, Places};
use super::runtime::TOKEN_OTHERS;
use super::setup::{self, Common, Machine};
use super::{Cx, DONE, FAILED, say};
use crate::arena;
use crate::conf::settings::Lookup;
use crate::engine::{Ask, Context, Event};
use crate::files;
use crate::inotify::Watch;
use crate::klog::{Line, Ring};
use crate::lockdown::{self, Faults, Seal};
use crate::model::{Instant, last_part};
use crate::raw::{AsFd, OwnedFd};
use crate::wait::{self, Hears};
use crate::wire::cursor::put;
use aliases::Aliases;
use clients::{CLIENTS, Caller, Clients};
use control::Verdict;
use core::time::Duration;
use ears::Ears;
use manager::Manager;
use prepare::Plan;
use state::State;

const TOKEN_SIGNALS: u64 = TOKEN_OTHERS;
const TOKEN_LISTENERS: u64 = TOKEN_OTHERS + 1;
const TOKEN_FILES: u64 = TOKEN_OTHERS + 4;
const TOKEN_CLIENTS: u64 = TOKEN_OTHERS + 8;
/// What is said of a reconfiguration that was not one.
const KEPT: &str = "the new configuration cannot be used: the old one stays in force";
/// The same while a disk that may hold the files does not answer.
const STARVED: &str = "a map has no usable path, and may hold the configuration: not read now; the old one stays in force";
/// How long an initramfs may take to be emptied.
const EMPTYING: Duration = Duration::from_secs(5);
/// The manager is told that it is up so long after the start at the latest: systemd ends what is not, and queueing with it.
const READY_BY: Duration = Duration::from_secs(60);
/// For so long nobody is listened to who cannot be taken in.
const DEAF: Duration = Duration::from_secs(1);
/// The token of our own requests.
const OWN: u32 = 0;

/// What a daemon is made of.
struct Daemon {
    machine: Machine,
    errors: u32,
    seal: Seal,
    faults: Option<Faults>,
    sealed_faults: Option<(u64, u64)>,
    aliases: Aliases,
    clients: Clients,
    listeners: heapless::Vec<OwnedFd, 2>,
    signals: OwnedFd,
    ears: Ears,
    manager: Manager,
    started: Instant,
    phase: &'static str,
    /// No client can be taken in until then: there is no descriptor or no memory for it.
    deaf_until: Option<Instant>,
    ready: bool,
    /// It is to end, at this time whatever is still under way.
    stop_by: Option<Instant>,
    dump: bool,
    reload: bool,
    /// A worker reads the configuration's files, and somebody waits for what becomes of it.
    reading: bool,
    /// So many bytes of texts were read.
    texts: Option<usize>,
    places: &'static Places<'static>,
    /// Who wants to know what came of it.
    reloaders: heapless::Vec<Caller, CLIENTS>,
    watch: Option<Watch>,
    /// The files of the configuration are not what is in force.
    outdated: bool,
    /// They seem to have changed, and this is when that is said: an initramfs loses its files because it is emptied.
    changed: Option<Instant>,
}

#[inline(never)]
pub fn run(cx: &mut Cx<'_>, detached: bool) -> i32 {
    let socket = cx.invocation.variable("MULTIPATH_SOCKET_NAME").unwrap_or(crate::sock::NAMED);
    let mut plan =
        Plan { common: Common::default(), strict: false, filter: true, own_activation: false, take_over: false, detached, socket };
    while let Some(arg) = cx.args.next() {
        match plan.common.take(arg, &mut cx.args) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(what) => return cx.fail(format_args!("daemon: {what}")),
        }
        match arg {
            Arg::Long("foreground") | Arg::Short('d' | 's' | 'B' | 'n' | 'w') => {}
            Arg::Long("strict") => plan.strict = true,
            Arg::Long("no-filter") => plan.filter = false,
            Arg::Long("own-activation") => plan.own_activation = true,
            Arg::Long("take-over") => plan.take_over = true,
            Arg::Long("socket") => match cx.args.value() {
                Some(name) => plan.socket = name,
                None => return cx.fail(format_args!("daemon: --socket takes a path, or @name")),
            },
            _ => return cx.fail(format_args!("daemon: unknown option; 'corepath help daemon' lists them")),
        }
    }
    live(cx, &plan)
}

/// Runs until it is told to stop and has stopped in order. Each reading of the configuration lives in one half of the memory; the next is
/// tried in the other, and only if it can be read the halves change places: twice in each turn of the loop. It is read once: a second time it
/// could be half written, and there would be none.
#[inline(never)]
fn live(cx: &mut Cx<'_>, plan: &Plan<'_>) -> i32 {
    let common = &plan.common;
    let half = prepare::half_size(common);
    let (Ok(first), Ok(second)) = (arena::map(half), arena::map(half)) else {
        return cx.trouble("daemon", setup::Trouble::Memory);
    };
    let (mut first, mut second) = (Some(first), Some(second));
    let one = match first.as_deref_mut() {
        Some(memory) => reading::read(&Places::of(common), memory).and_then(|used| reading::understand(memory, used, common.complaints)),
        None => Err(setup::Trouble::Memory),
    };
    let mut one = match one {
        Ok(configuration) => configuration,
        Err(trouble) => return cx.trouble("daemon", trouble),
    };
    let mut daemon = match prepare::daemon(cx, plan, &one) {
        Ok(daemon) => daemon,
        Err(status) => return status,
    };
    loop {
        let two = loop {
            if let Some(status) = daemon.serve(&one, common, &mut second) {
                return status;
            }
            if let Some(next) = daemon.read_again(common, second.as_deref_mut()) {
                break next;
            }
        };
        one = loop {
            if let Some(status) = daemon.serve(&two, common, &mut first) {
                return status;
            }
            if let Some(next) = daemon.read_again(common, first.as_deref_mut()) {
                break next;
            }
        };
    }
}

impl Daemon {
    fn log_on(&mut self) {
        self.machine.hands.log(&mut self.ears.ring);
    }

    /// Has the configuration's files read into `spare`, if that is not away with an earlier reading.
    fn begin_reading(&mut self, spare: &mut Option<&'static mut [u8]>, now: Instant) {
        if self.machine.engine.starved() > 0 {
            self.reload = false;
            self.manager.reloading(now);
            return self.reloaded(3, STARVED);
        }
        // Without a worker to spare another turn finds one.
        if spare.is_some() && self.machine.hands.read(self.places, spare).is_ok() {
            (self.reload, self.reading, self.changed) = (false, true, None);
            self.manager.reloading(now);
            self.aliases.reading();
        }
    }

    /// Makes the files that were read into `memory` the configuration that is to be in force, if they are one.
    #[inline(never)]
    fn read_again<'m>(&mut self, common: &Common<'_>, memory: Option<&'m mut [u8]>) -> Option<Configuration<'m>> {
        let now = wait::now();
        let next = self.texts.take().zip(memory).and_then(|(used, memory)| reading::understand(memory, used, common.complaints).ok());
        if let Some(next) = &next {
            self.report(next);
        }
        let Some(next) = next.filter(|next| !next.report.fatal) else {
            self.outdated = true;
            self.reloaded(3, KEPT);
            return None;
        };
        self.outdated = false;
        self.errors = next.report.errors;
        self.aliases.read_again(now);
        let cx = Context { now, settings: &self.aliases.over(&next.settings) };
        self.machine.engine.process(&cx, Event::Reconfigured);
        // Also before it is ready for the first time: who asked waits for the answer.
        self.reloaded(5, "the configuration was read again");
        Some(next)
    }

    /// Turns under one configuration, until it ends or, with `None`, another is to be read.
    #[inline(never)]
    fn serve(&mut self, configuration: &Configuration<'_>, common: &Common<'_>, spare: &mut Option<&'static mut [u8]>) -> Option<i32> {
        loop {
            let now = wait::now();
            self.ears.ring.second = now.as_secs() as u32;
            self.log_on();
            while let Some(index) = self.clients.queued() {
                self.serve_client(configuration, index, now);
            }
            let mut until = self.clients.expire(&self.machine.hands.poll, now, configuration.settings.globals().uxsock_timeout);
            if self.changed.is_some_and(|at| at <= now) {
                self.changed = None;
                if self.reading || self.machine.engine.starved() > 0 {
                    // Looking at the roots takes memory, and a worker that reads has changed ours.
                    self.changed = Some(now + EMPTYING);
                } else if files::left_behind(self.machine.hands.tools.roots.proc.as_fd()) {
                    self.ears
                        .say(6, "the configuration is that of the initramfs; 'corepath reconfigure' reads that of the root in its place");
                } else if !core::mem::replace(&mut self.outdated, true) {
                    self.ears.say(5, "a file of the configuration has changed; 'corepath reconfigure' puts it in force");
                }
            }
            if self.deaf_until.is_some_and(|by| by <= now) {
                self.deaf_until = None;
                for (token, listener) in (TOKEN_LISTENERS..).zip(&self.listeners) {
                    let _ = self.machine.hands.poll.listen(listener.as_fd(), token, Hears::Input);
                }
            }
            let ready_by = self.started + READY_BY;
            for time in [self.manager.alive(now), self.stop_by, self.changed, (!self.ready).then_some(ready_by), self.deaf_until]
                .into_iter()
                .flatten()
            {
                until = Some(until.map_or(time, |u| u.min(time)));
            }
            let mut tokens = heapless::Vec::<u64, { wait::BATCH }>::new();
            let Daemon { machine: Machine { engine, hands, .. }, aliases, ears, .. } = self;
            hands.advance(engine, &aliases.over(&configuration.settings), ears);
            if core::mem::take(&mut ears.named) {
                aliases.named(now, false);
            }
            if let Some(time) = aliases.tend(common.state_dir, engine, hands, &configuration.settings, ears, now) {
                until = Some(until.map_or(time, |u| u.min(time)));
            }
            // Before the wait: what was done at once may be all there is to wait for.
            self.answer();
            if self.phase == "shutdown" {
                return Some(self.leave());
            }
            let Daemon { machine: Machine { engine, hands, .. }, aliases, ears, .. } = self;
            // Told before the wait: on a machine without disks nothing may ever end it.
            if !self.ready && (engine.settled() || now >= ready_by) {
                self.ready = true;
                self.phase = "running";
                aliases.named(now, true);
                self.manager.tell("READY=1\nSTATUS=up");
            }
            if hands
                .listen(engine, &aliases.over(&configuration.settings), ears, until, &mut |token| {
                    // As many as one wait can give.
                    let _ = tokens.push(token);
                })
                .is_err()
            {
                return Some(FAILED);
            }
            if let Some(result) = ears.kept.take() {
                aliases.kept(result, common.state_dir, ears, wait::now());
            }
            self.clients.mute = self.machine.hands.short(&self.machine.engine);
            self.hear(configuration, common, &tokens);
            if self.phase == "shutdown" {
                return Some(self.leave());
            }
            if self.stop_by.is_some_and(|by| wait::now() >= by) {
                // Whatever hangs: the exit does not wait for it.
                self.ears.say(4, "ending with requests still under way in the kernel; 'corepath release' stops queueing");
                return Some(self.leave());
            }
            if let Some((result, memory)) = self.ears.read.take() {
                *spare = memory;
                self.texts = result.ok().map(|used| used as usize);
                // One that was asked for meanwhile may mean what changed meanwhile.
                if core::mem::take(&mut self.reading) && !self.reload {
                    return None;
                }
            }
            if self.reading && self.machine.engine.starved() > 0 {
                // The files may be on a disk behind those paths: who asked is not kept waiting, and is told what will be so.
                self.reading = false;
                self.reloaded(3, STARVED);
            }
            if self.reload {
                self.begin_reading(spare, wait::now());
            }
        }
    }

    /// What is wrong with a configuration, to the log.
    fn report(&mut self, configuration: &Configuration<'_>) {
        let mut line = Line::new();
        for c in configuration.report.kept {
            line.clear();
            let file = configuration.files.get(usize::from(c.file)).map_or("configuration", |f| f.name);
            let _ = crate::conf::complaint::emit(&mut line, file, c);
            self.ears.say(4, line.text());
        }
    }

    /// A reading of the configuration has ended, or is not waited for: those who asked for it are told, and the log.
    fn reloaded(&mut self, level: u8, text: &str) {
        let now = wait::now();
        self.ears.say(level, text);
        self.manager.tell("READY=1");
        while let Some(caller) = self.reloaders.pop() {
            let mut reply = crate::model::Text::<160>::new();
            let parts = if level > 3 { ["ok\n", "", ""] } else { ["fail\n", text, "; 'corepath log' tells why\n"] };
            let _ = parts.iter().try_for_each(|part| reply.push_str(part));
            self.clients.reply(caller, &reply, &self.machine.hands.poll, now);
        }
    }

    fn leave(&mut self) -> i32 {
        self.ears.say(5, "corepath ends; the maps stay as they are");
        // What is in the ring goes out here: the clerk may be parked.
        let mut buffer = [0u8; crate::klog::LINE];
        while let Some((level, length)) = self.ears.ring.pop(&mut buffer) {
            if let Ok(text) = core::str::from_utf8(buffer.get(..length).unwrap_or(&[])) {
                self.machine.hands.tools.sink.write(level, text);
            }
        }
        DONE
    }

    #[inline(never)]
    fn hear(&mut self, configuration: &Configuration<'_>, common: &Common<'_>, tokens: &[u64]) {
        let now = wait::now();
        for &token in tokens {
            match token {
                TOKEN_SIGNALS => {
                    while let Some(signal) = wait::next_signal(&self.signals) {
                        match signal {
                            wait::SIGHUP => self.reload = true,
                            wait::SIGUSR1 => self.dump = true,
                            _ => self.stop(configuration, false),
                        }
                    }
                }
                TOKEN_FILES => {
                    let main = last_part(common.config);
                    let mine = |first: bool, name: &str| if first { name == main } else { name.ends_with(".conf") };
                    if self.watch.as_ref().is_some_and(|w| w.changed(&mine)) {
                        self.changed = self.changed.or(Some(now + EMPTYING));
                    }
                }
                TOKEN_LISTENERS..TOKEN_FILES => {
                    if let Some(listener) = self.listeners.get((token - TOKEN_LISTENERS) as usize)
                        && (self.clients.mute || self.clients.accept(listener, &self.machine.hands.poll, now).is_err())
                    {
                        // It would be told of again at once, and for ever.
                        let _ = self.machine.hands.poll.listen(listener.as_fd(), token, Hears::Nothing);
                        self.deaf_until = Some(now + DEAF);
                    }
                }
                _ => self.serve_client(configuration, (token - TOKEN_CLIENTS) as usize, now),
            }
        }
        if core::mem::take(&mut self.dump) {
            self.dump_state();
        }
    }

    /// `keep`: another one takes over, and queueing stays as it is.
    fn stop(&mut self, configuration: &Configuration<'_>, keep: bool) {
        if self.stop_by.is_none() {
            self.manager.tell("STOPPING=1\nSTATUS=stopping");
            let now = wait::now();
            self.stop_by = Some(now + Duration::from_millis(800));
            let cx = Context { now, settings: &self.aliases.over(&configuration.settings) };
            self.machine.engine.process(&cx, Event::Ask { token: OWN, ask: Ask::Shutdown { keep } });
        }
    }

    #[inline(never)]
    fn serve_client(&mut self, configuration: &Configuration<'_>, index: usize, now: Instant) {
        let faults = match (self.sealed_faults, self.faults.as_ref().and_then(lockdown::faults)) {
            (Some((minor, major)), Some((now_minor, now_major))) => Some((now_minor - minor, now_major - major)),
            _ => None,
        };
        let outdated = self.outdated;
        let Daemon { machine, aliases, clients, seal, ears, started, phase, reload, reloaders, .. } = self;
        let Machine { engine, hands, memory, .. } = machine;
        let mut asked: Option<(Caller, [u8; 512], usize)> = None;
        let mut shutdown = None;
        let mut reconfigure = None;
        let errors = configuration.report.errors;
        let dropped = clients.dropped;
        clients.ready(index, &hands.poll, now, &mut |caller, request, out| {
            let state = State {
                view: EngineView { engine, now, retry_secs: configuration.settings.globals().polling_interval.as_secs() as u32 },
                settings: &configuration.settings,
                seal,
                started: *started,
                phase,
                pid: lockdown::pid(),
                workers: hands.load(),
                memory: *memory,
                faults,
                log_lost: ears.ring.lost(),
                log: &ears.ring,
                outdated,
                clients_dropped: dropped,
                errors,
            };
            match control::serve(request, caller.root, &state, out) {
                Verdict::Replied => true,
                Verdict::Ask => {
                    let mut copy = [0u8; 512];
                    let length = request.len().min(copy.len());
                    put(&mut copy, 0, request.get(..length).unwrap_or_default());
                    asked = Some((caller, copy, length));
                    false
                }
                Verdict::Reconfigure => {
                    reconfigure = Some(caller);
                    false
                }
                Verdict::Shutdown { keep } => {
                    shutdown = Some((caller, keep));
                    false
                }
            }
        });
        if let Some((caller, request, length)) = asked {
            // Parsed again, as the engine may be moved only now that nothing looks at it.
            let mut scratch = Default::default();
            if let Some(ask) = control::ask(request.get(..length).unwrap_or_default(), &mut scratch) {
                let cx = Context { now, settings: &aliases.over(&configuration.settings) };
                engine.process(&cx, Event::Ask { token: caller.token(), ask });
            }
        }
        if let Some(caller) = reconfigure {
            *reload = true;
            // A place for every client.
            let _ = reloaders.push(caller);
        }
        if let Some((caller, keep)) = shutdown {
            clients.reply(caller, "ok\n", &hands.poll, now);
            self.stop(configuration, keep);
        }
    }

    /// Takes the engine's answers to those who asked.
    fn answer(&mut self) {
        let now = wait::now();
        while let Some((token, result)) = self.ears.answers.pop_front() {
            if token == OWN {
                self.phase = "shutdown";
                continue;
            }
            let Some(caller) = self.clients.caller(token) else { continue };
            let mut text = crate::model::Text::<160>::new();
            match result {
                Ok(()) => {
                    let _ = text.push_str("ok\n");
                }
                Err(refusal) => {
                    let _ = text.push_str("fail\n");
                    let _ = say::refusal(refusal, &mut text);
                    let _ = text.push_str("\n");
                }
            }
            self.clients.reply(caller, &text, &self.machine.hands.poll, now);
        }
    }

    /// USR1: the whole state to the log, a line each.
    fn dump_state(&mut self) {
        struct Lines<'a>(&'a mut Ring, Line);
        impl core::fmt::Write for Lines<'_> {
            fn write_str(&mut self, text: &str) -> core::fmt::Result {
                for part in text.split_inclusive('\n') {
                    let _ = self.1.write_str(part.trim_end_matches('\n'));
                    if part.ends_with('\n') {
                        self.0.push(5, self.1.text());
                        self.1.clear();
                    }
                }
                Ok(())
            }
        }
        let view = EngineView { engine: &self.machine.engine, now: wait::now(), retry_secs: 5 };
        let _ = super::topology::tree(&view, None, super::topology::Style::PLAIN, &mut Lines(&mut self.ears.ring, Line::new()));
    }
}
