//! Started as `multipath`, `multipathd` or `multipathc`: the options that clients of those really use, on the same machinery.

use super::args::{Arg, Args};
use super::look::{self, Look, Tells};
use super::setup::Common;
use super::topology::{self, Style};
use super::wwids::{self, Edit};
use super::{Cx, DONE, FAILED, boot, change, client, columns, config, daemon, help};
use crate::conf::effective::policy_named;
use crate::console::{self, Stream};
use crate::engine::{Ask, MapView, Options, PathView, Reason};
use crate::files;
use crate::model::{Text, parse_unsigned};
use crate::raw::AsFd;
use core::fmt::Write;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Make,
    List,
    Remove,
    RemoveAll,
    IsPath { udev: bool },
    HasPath,
    Config { local: bool },
    Wwids(Edit),
}

/// `multipath ...`
#[inline(never)]
pub fn multipath(cx: &mut Cx<'_>) -> i32 {
    let mut common = Common::default();
    let (mut mode, mut device, mut dry, mut reload, mut policy, mut retries) = (Mode::Make, None, false, false, None, 0u32);
    let (mut alone, mut deep) = (false, false);
    while let Some(arg) = cx.args.next() {
        match arg {
            Arg::Short('v') => match cx.args.value().and_then(|v| v.get(..1)).and_then(parse_unsigned) {
                Some(level) => common.verbosity = level,
                None => return cx.fail(format_args!("-v takes a number")),
            },
            Arg::Short('l') => (mode, deep) = (Mode::List, mode == Mode::List),
            Arg::Short('d') => dry = true,
            Arg::Short('r') => reload = true,
            Arg::Short('f') => mode = Mode::Remove,
            Arg::Short('F') => mode = Mode::RemoveAll,
            Arg::Short('c') => mode = Mode::IsPath { udev: false },
            Arg::Short('u') => mode = Mode::IsPath { udev: true },
            Arg::Short('C' | 'U') => mode = Mode::HasPath,
            Arg::Short('a') => mode = Mode::Wwids(Edit::Add),
            Arg::Short('w') => mode = Mode::Wwids(Edit::Remove),
            Arg::Short('W') => mode = Mode::Wwids(Edit::Reset),
            Arg::Short('t') => mode = Mode::Config { local: false },
            Arg::Short('T') => mode = Mode::Config { local: true },
            Arg::Short('p') => match cx.args.value().map(policy_named) {
                Some(Some(named)) => policy = Some(named),
                _ => {
                    return cx.fail(format_args!(
                        "-p takes failover, multibus, group_by_serial, group_by_prio, group_by_node_name or group_by_tpg"
                    ));
                }
            },
            Arg::Short('D') => alone = true,
            // Asked for by scripts; there is nothing to switch: no wwids file is needed, bindings written by the daemon only.
            Arg::Short('q' | 'i' | 'B' | 'e') => {}
            Arg::Short('b' | 'M') if cx.args.value().is_some() => {}
            Arg::Short('R') => match cx.args.value().and_then(parse_unsigned) {
                Some(times) => retries = times,
                None => return cx.fail(format_args!("-R takes a number")),
            },
            Arg::Short('h') => {
                help::plain("@multipath", cx.out);
                return DONE;
            }
            Arg::Word(word) if device.is_none() => device = Some(word),
            Arg::Long(_) if common.take(arg, &mut cx.args) == Ok(true) => {}
            _ => {
                help::plain("@multipath", cx.err);
                return FAILED;
            }
        }
    }
    // The states of paths, and priorities, are wanted of these only: a disk that hangs holds up no other.
    common.unasked = !matches!(mode, Mode::Make | Mode::HasPath) && !deep;
    let mut room = [0; 255];
    let device = device.map(|word| look::named(&common, word, &mut room));
    if mode == Mode::Make && reload && !dry && !alone {
        let mut text = Text::<160>::new();
        let all = write!(text.as_mut_view(), "reload map {}", device.unwrap_or("")).is_err() || device.is_none();
        // The one map it reloads itself. Its configuration it reads anew; that all maps are reloaded is left to us.
        if client::tell(cx, &common, if all { "reconfigure all" } else { &text }) && !all {
            return DONE;
        }
    }
    match mode {
        Mode::Config { local: false } => dump(cx, &common),
        Mode::Config { local: true } => local(cx, &common),
        Mode::List => list(cx, &common, device),
        Mode::Make if dry => look::scan_with(cx, "multipath", &common, device).min(FAILED),
        Mode::Make => match device {
            // A named one only, whatever find_multipaths says of it.
            Some(name) => {
                let options = Options { force_reload: reload, policy, ..boot::options(true) };
                // Clients know 0 and 1 only.
                change::ask(cx, "multipath", &common, options, &mut |push| push(Ask::AddMap(name))).min(FAILED)
            }
            None => boot::make(cx, &common, policy, reload),
        },
        Mode::Remove | Mode::RemoveAll => {
            let maps = if mode == Mode::Remove { device.as_slice() } else { &[] };
            if mode == Mode::Remove && maps.is_empty() {
                return cx.fail(format_args!("-f takes a map"));
            }
            loop {
                let status = change::dismiss(cx, "multipath", &common, maps);
                if status == DONE || retries == 0 {
                    return status;
                }
                retries -= 1;
                crate::wait::sleep(1000);
            }
        }
        Mode::Wwids(edit) => {
            let Some(device) = device.or((edit == Edit::Reset).then_some("")) else {
                return cx.fail(format_args!("which disk, map or WWID?"));
            };
            match looked(cx, &common, Tells::Least) {
                Ok(look) => wwids::edit(cx, &common, &look, edit, device),
                Err(status) => status,
            }
        }
        Mode::IsPath { udev } => is_path(cx, &common, device, udev),
        Mode::HasPath => has_path(cx, &common, device),
    }
}

fn dump(cx: &mut Cx<'_>, common: &Common<'_>) -> i32 {
    let configuration = match cx.configuration("multipath", common) {
        Ok(configuration) => configuration,
        Err(status) => return status,
    };
    let _ = config::complain(cx.err, configuration.files, &configuration.report);
    if config::dump(cx.out, &configuration.settings, None, false).is_err() { FAILED } else { DONE }
}

/// Of the arrays and maps, what concerns those that are there.
fn local(cx: &mut Cx<'_>, common: &Common<'_>) -> i32 {
    let look = match look::look(cx, "multipath", common, Tells::All) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let view = look.view();
    if config::dump(cx.out, &look.configuration.settings, Some(&view), false).is_err() { FAILED } else { DONE }
}

fn looked(cx: &mut Cx<'_>, common: &Common<'_>, least: Tells) -> Result<Look, i32> {
    look::look(cx, "multipath", common, if common.verbosity < 3 { least } else { Tells::All })
}

fn list(cx: &mut Cx<'_>, common: &Common<'_>, device: Option<&str>) -> i32 {
    let look = match looked(cx, common, Tells::Trouble) {
        Ok(look) => look,
        Err(status) => return status,
    };
    if look.hidden {
        return FAILED;
    }
    let view = look.view();
    let only = match device {
        None => None,
        // A path stands for its map.
        Some(name) => match view.position(name).or_else(|| view.position(look.machine.engine.find_path(name)?.map()?.name())) {
            Some(position) => Some(position),
            // What is nowhere is no error, nor a disk that could have a map.
            None => {
                let refused = |p: PathView<'_>| matches!(p.reason(), Reason::Blacklisted(_) | Reason::NoIdentity);
                return match look.machine.engine.find_path(name).is_some_and(refused) {
                    true => cx.fail(format_args!("no disk that could have a map: {name}")),
                    false => DONE,
                };
            }
        },
    };
    if common.verbosity >= 3 {
        // Clients look for this line, and for maps behind the table only.
        let _ = writeln!(cx.out, "===== {} =====", if view.shown().next().is_some() { "paths list" } else { "no paths" });
        let _ = columns::paths(&view, "%w %i %d %D %p %t %T %s %o", columns::Dress::Pretty, cx.out);
    }
    let style = Style { colour: console::is_terminal(Stream::Out) };
    let _ = match common.verbosity {
        0 | 1 => columns::maps(&view, only, "%n", columns::Dress::Raw, cx.out),
        _ => topology::tree(&view, only, style, cx.out),
    };
    DONE
}

fn is_path(cx: &mut Cx<'_>, common: &Common<'_>, device: Option<&str>, udev: bool) -> i32 {
    let Some(device) = device.or_else(|| cx.invocation.variable("DEVNAME").map(|name| name.strip_prefix("/dev/").unwrap_or(name))) else {
        return cx.fail(format_args!("which device?"));
    };
    let look = match look::look(cx, "multipath", common, Tells::Trouble) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let path = look.machine.engine.find_path(device);
    // What udev gave away to somebody else stays so, but for what a map holds.
    let given_away = udev && cx.invocation.variable("DM_MULTIPATH_DEVICE_PATH") == Some("0");
    let path = path.as_ref().filter(|path| path.live() || !given_away);
    let mut answer = u8::from(path.is_some_and(|path| path.map().is_some()));
    if let (Some(path), Some(run)) = (path, &look.machine.hands.tools.roots.run) {
        // The first question starts the clock.
        let (wait, mut name) = (path.smart_wait(), Text::<48>::new());
        let _ = write!(name.as_mut_view(), "multipath/smart-{}", path.devno());
        if let Ok(until) = files::deadline(run.as_fd(), &name, wait) {
            let _ = writeln!(cx.out, "FIND_MULTIPATHS_WAIT_UNTIL=\"{until}\"");
            if wait.is_some() && until > 0 {
                answer = 2;
            }
        }
    }
    let _ = writeln!(cx.out, "DM_MULTIPATH_DEVICE_PATH=\"{answer}\"");
    if answer > 0 || udev { DONE } else { FAILED }
}

fn has_path(cx: &mut Cx<'_>, common: &Common<'_>, device: Option<&str>) -> i32 {
    let Some(device) = device else { return cx.fail(format_args!("which map?")) };
    let look = match look::look(cx, "multipath", common, Tells::Trouble) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let usable = look.machine.engine.find_map(device).is_some_and(|map: MapView<'_>| map.usable() > 0);
    if usable { DONE } else { FAILED }
}

/// `multipathd`: the daemon, or with words (or `-k`) one request to it.
pub fn multipathd(cx: &mut Cx<'_>, mut words: Args<'_>) -> i32 {
    let mut foreground = cx.invocation.variable("NOTIFY_SOCKET").is_some();
    while let Some(arg) = words.next() {
        match arg {
            Arg::Word(_) | Arg::Short('k') => return multipathc(cx),
            Arg::Short('v') => drop(words.value()),
            // Whoever knows options of ours knows that it stays.
            Arg::Short('d') | Arg::Long(_) => foreground = true,
            Arg::Short('s' | 'B' | 'n' | 'w') => {}
            _ => return cx.fail(format_args!("unknown option; 'corepath help daemon' lists them")),
        }
    }
    // Whoever starts it so waits until it returns. Where no second process can be had the first goes on.
    let forked = if foreground { None } else { crate::raw::fork().ok() };
    if forked.is_some_and(|child| child != 0) {
        return DONE;
    }
    daemon::run(cx, forked.is_some())
}

/// `multipathc` and `multipathd -k...`: the words as one request; without any, a request in each line of the input.
pub fn multipathc(cx: &mut Cx<'_>) -> i32 {
    let mut text = Text::<500>::new();
    let mut fits = true;
    while let Some(arg) = cx.args.next() {
        let word = match arg {
            Arg::Short('k') => cx.args.glued_value().unwrap_or(""),
            Arg::Short('v') if cx.args.value().is_some() => "",
            Arg::Short('d' | 's' | 'B' | 'n' | 'w') => "",
            Arg::Word(word) => word,
            _ => return cx.fail(format_args!("unknown option; 'corepath help daemon' lists them")),
        };
        if word.is_empty() {
            continue;
        }
        let blank = if text.is_empty() { "" } else { " " };
        // A word with blanks came as one argument: quoted again, but for the whole command glued to -k.
        let quote = if word.contains(' ') && !text.is_empty() { "\"" } else { "" };
        fits &= write!(text.as_mut_view(), "{blank}{quote}{word}{quote}").is_ok();
    }
    match (fits, text.as_str()) {
        (true, "") => lines(cx),
        (true, text) => client::converse(cx, text, false),
        (false, _) => cx.fail(format_args!("the request is longer than a daemon reads (511 bytes)")),
    }
}

/// Requests from standard input until it ends; gives the last one's status.
#[inline(never)]
fn lines(cx: &mut Cx<'_>) -> i32 {
    let prompt = if console::is_terminal(Stream::Out) { "multipathd> " } else { "" };
    let mut status = DONE;
    loop {
        let _ = cx.out.write_str(prompt);
        cx.out.flush();
        let mut room = [0; 512];
        let line = match console::line(&mut room) {
            Some(Ok(line)) => line.trim_ascii(),
            Some(Err(())) => return cx.fail(format_args!("no request is as long as that line, and none is binary")),
            None => return status,
        };
        match line {
            "" => {}
            "quit" | "exit" => return status,
            line => status = client::converse(cx, line, false),
        }
    }
}
