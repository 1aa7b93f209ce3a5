//! A daemon put together: memory, socket, threads, what it hears, and the seal last. Nothing here runs again.

use super::aliases::{self, Aliases};
use super::clients::{CLIENTS, Client, Clients};
use super::ears::Ears;
use super::manager::Manager;
use super::packed::{self, Packed};
use super::{Daemon, TOKEN_CLIENTS, TOKEN_FILES, TOKEN_LISTENERS, TOKEN_SIGNALS, heir};
use crate::apps::reading::{self, Configuration, Places};
use crate::apps::setup::{self, Common, Wish};
use crate::apps::{Cx, DONE, say, session};
use crate::arena::Arena;
use crate::engine::Options;
use crate::fault::Errno;
use crate::files;
use crate::inotify::Watch;
use crate::klog::{Line, Ring};
use crate::lockdown::{self, Seal};
use crate::model::split_last;
use crate::raw::AsFd;
use crate::wait;
use core::fmt::Write;

/// How a daemon is to run.
pub(super) struct Plan<'a> {
    pub(super) common: Common<'a>,
    /// A failed step of the seal is a refusal to run.
    pub(super) strict: bool,
    pub(super) filter: bool,
    pub(super) own_activation: bool,
    /// Another path manager that answers is asked to leave.
    pub(super) take_over: bool,
    /// It has no terminal any more once it has started.
    pub(super) detached: bool,
    pub(super) socket: &'a str,
}

/// Bytes of the log's ring.
const LOG: usize = 16 * 1024;

/// Bytes of the largest reply, packed, with room for so many paths: of 1,000 bytes that are said of a path 100 are left.
pub(super) const fn reply_size(paths: usize) -> usize {
    8 * 1024 + paths * 256
}

/// Bytes for clients, replies and log lines.
const fn talk_size(paths: usize) -> usize {
    CLIENTS * size_of::<Option<Client>>() + reply_size(paths) + packed::WINDOW + 2 * packed::PLACES + LOG + aliases::size(paths) + 64
}

/// Bytes for one reading of the configuration, and for what this daemon adds to the bindings itself: text, and an index of it.
#[inline(never)]
pub(super) fn half_size(common: &Common<'_>) -> usize {
    let mut disks = 0;
    let block = files::open_dir(common.sys).and_then(|sys| files::open_dir_at(sys, "block"));
    let _ = block.and_then(|block| {
        files::names_once(block.as_fd(), &mut |_| {
            disks += 1;
            true
        })
    });
    reading::half_size(common) + aliases::size(common.paths.max(disks * 2)) * 3 / 2
}

#[inline(never)]
pub(super) fn daemon(cx: &mut Cx<'_>, plan: &Plan<'_>, configuration: &Configuration<'_>) -> Result<Daemon, i32> {
    session::complain(cx, configuration);
    if configuration.report.fatal {
        return Err(cx.fail(format_args!("daemon: with these errors disks could be claimed that are not meant: mend them first")));
    }
    cx.err.flush();
    if let Some(word) = setup::switched_off(configuration.words) {
        let _ = writeln!(cx.out, "daemon: nothing is done: {word} on the kernel's command line");
        return Err(DONE);
    }
    // The signals are blocked and the flags set before the threads are made: both are inherited.
    let signals = wait::signals().map_err(|errno| cx.fail(format_args!("daemon: signals: {}", errno.word().unwrap_or("error"))))?;
    let heir = heir::expected(plan);
    let mut listeners = heir::Listeners::new();
    if !heir {
        let mut unheard = |errno: Errno| {
            let _ = writeln!(cx.err, "corepath daemon: no control socket: {}", errno.word().unwrap_or("error"));
        };
        let Ok(found) = heir::listen(plan.socket, &mut unheard) else {
            return Err(cx.fail(format_args!(
                "daemon: another path manager answers on {}; stop it first ('corepath stop'), or say --take-over",
                plan.socket
            )));
        };
        listeners = found;
    }
    let mut seal = Seal::default();
    lockdown::before_threads(&mut seal);
    let keep_partitions = configuration.words.contains(&"dont_del_part_nodes");
    let options = Options {
        resident: true,
        partitions: true,
        path_partitions: !keep_partitions,
        write_bindings: !setup::in_initramfs(),
        own_activation: plan.own_activation,
        dry_run: heir,
        ..Options::default()
    };
    // Whoever starts `@corepath` in an initramfs gives it the kernel's log for its output: there each line would stand twice.
    let root_daemon = cx.invocation.args.first().is_some_and(|name| name.to_bytes().starts_with(b"@"));
    let stderr =
        crate::console::is_terminal(crate::console::Stream::Error) || (!root_daemon && cx.invocation.variable("INVOCATION_ID").is_none());
    let wish = Wish { options, uevents: true, sink: (true, stderr), control: true, peeks: false };
    let mut machine = match setup::machine(&plan.common, wish) {
        Ok(machine) => machine,
        Err(trouble) => return Err(cx.trouble("daemon", trouble)),
    };
    lockdown::descriptors(&mut seal, machine.sizes.paths);
    let reply = reply_size(machine.sizes.paths);
    let memory = Arena::map(talk_size(machine.sizes.paths) + Places::of(&plan.common).size()).and_then(|mut arena| {
        let slots = arena.take(CLIENTS, |_| None).map_err(|_| Errno::NOMEM)?;
        let packed = arena.take(reply, |_| 0u8).map_err(|_| Errno::NOMEM)?;
        let window = arena.take(packed::WINDOW, |_| 0u8).ok().and_then(|window| window.first_chunk_mut()).ok_or(Errno::NOMEM)?;
        let places = arena.take(packed::PLACES, |_| 0u16).ok().and_then(|places| places.first_chunk_mut()).ok_or(Errno::NOMEM)?;
        let large = Packed::new(packed, window, places);
        let ring = arena.take(LOG, |_| 0u8).map_err(|_| Errno::NOMEM)?;
        let names = arena.take(aliases::size(machine.sizes.paths), |_| 0u8).map_err(|_| Errno::NOMEM)?;
        Ok((slots, large, ring, names, Places::of(&plan.common).keep(&mut arena)?))
    });
    let Ok((slots, large, ring, names, places)) = memory else { return Err(cx.fail(format_args!("daemon: no memory for replies"))) };
    let mut ears = Ears::new(Ring::new(ring), plan.common.verbosity.saturating_add(3));
    let aliases = Aliases::new(names, plan.common.state_dir, options.write_bindings);
    if heir {
        listeners = match heir::succeed(&mut machine, &configuration.settings, &mut ears, plan) {
            Ok(listeners) => listeners,
            Err(errno) => {
                return Err(cx.fail(format_args!(
                    "daemon: the path manager that answers on {} does not leave ({}): it goes on",
                    plan.socket,
                    errno.word().unwrap_or("error")
                )));
            }
        };
    }
    let now = wait::now();
    let poll = &machine.hands.poll;
    let mut added = poll.add(signals.as_fd(), TOKEN_SIGNALS);
    for (i, listener) in listeners.iter().enumerate() {
        added = added.and(poll.add(AsFd::as_fd(listener), TOKEN_LISTENERS + i as u64));
    }
    if added.is_err() {
        return Err(cx.fail(format_args!("daemon: the event loop cannot be set up")));
    }
    // Before the seal: what is watched afterwards may be on the root disk, and telling of it needs no read there.
    let watch = Watch::over([parent(plan.common.config), plan.common.config_dir]).ok();
    if let Some(watch) = &watch {
        let _ = poll.add(watch.fd(), TOKEN_FILES);
    }
    let manager = Manager::open(cx, now);
    let mut daemon = Daemon {
        machine,
        errors: configuration.report.errors,
        seal,
        faults: lockdown::open_faults(),
        sealed_faults: None,
        aliases,
        clients: Clients::new(slots, large, TOKEN_CLIENTS),
        listeners,
        signals,
        ears,
        manager,
        started: now,
        phase: "configure",
        ready: false,
        deaf_until: None,
        stop_by: None,
        dump: false,
        reload: false,
        reading: false,
        texts: None,
        places,
        reloaders: heapless::Vec::new(),
        watch,
        outdated: false,
        changed: None,
    };
    if plan.detached {
        // Not before: what stood in the way of a start was said on the terminal.
        cx.err.flush();
        let _ = crate::console::let_go();
    }
    daemon.close(cx, plan)?;
    Ok(daemon)
}

impl Daemon {
    /// Seals the process.
    fn close(&mut self, cx: &mut Cx<'_>, plan: &Plan<'_>) -> Result<(), i32> {
        lockdown::after_threads(&mut self.seal, plan.filter);
        self.sealed_faults = self.faults.as_ref().and_then(lockdown::faults);
        for (step, _) in lockdown::STEPS {
            if let Some(Err(errno)) = self.seal.result(step) {
                let mut line = Line::new();
                let _ = say::seal(step, errno, &mut line);
                if plan.strict {
                    return Err(cx.fail(format_args!("daemon: {}", line.text())));
                }
                self.ears.say(4, line.text());
            }
        }
        Ok(())
    }
}

/// The directory of a file.
pub(super) fn parent(path: &str) -> &str {
    match split_last(path, b'/') {
        Some(("", _)) => "/",
        Some((dir, _)) => dir,
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is mapped and locked beside the executable, with no configuration to speak of; the scenario
    /// a_steady_daemon_is_cheap holds the whole. Debug builds have larger stacks.
    #[test]
    fn tables_keep_their_budget() {
        let common = Common { config: "/nonexistent", config_dir: "/nonexistent", state_dir: "/nonexistent", ..Common::default() };
        for (paths, most) in [(64, 825_000), (4096, 11_460_000)] {
            let measure = setup::Measure::of(paths, false);
            let parts = [measure.tables(), measure.stacks(), talk_size(paths), 2 * reading::half_size(&common) + aliases::size(paths) * 3];
            std::println!("{paths} paths: tables, stacks, talk, configuration: {parts:?}, {} in all", parts.iter().sum::<usize>());
            assert!(parts.iter().sum::<usize>() <= most, "{paths}: {parts:?}");
        }
    }

    /// It is moved a few times while it is put together; the main stack has 160 KB.
    #[test]
    fn a_daemon_is_small_enough_to_be_moved() {
        assert!(size_of::<Daemon>() < 24 * 1024, "{} bytes; machine {}", size_of::<Daemon>(), size_of::<setup::Machine>());
    }
}
