//! Started as `multipath`, `multipathd` or `multipathc`: the options that clients of those really use, on the same machinery.

use super::args::{Arg, Args};
use super::look::{self, Look};
use super::setup::{self, Common};
use super::topology::{self, Style};
use super::{Cx, DONE, FAILED, boot, change, client, columns, config, daemon};
use crate::conf::settings::Policy;
use crate::engine::{Ask, MapView, Options};
use crate::model::parse_unsigned;
use core::fmt::Write;

const USAGE: &str = "multipath-tools v0.14.3 (compatible: corepath)\n\
usage: multipath [-v N] [-d] [-r] [-p POLICY] [device]   make or update maps\n       \
multipath -l|-ll [-v N] [device]                  list maps (-ll asks the paths)\n       \
multipath -f MAP | -F                             remove an unused map, all unused maps\n       \
multipath -c|-u DEV                               is this disk a path of a map?\n       \
multipath -C|-U MAP                               has this map a usable path?\n       \
multipath -t|-T                                   print the configuration in force\n";

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
}

/// `multipath ...`
#[inline(never)]
pub fn multipath(cx: &mut Cx<'_>) -> i32 {
    let mut common = Common::default();
    let (mut mode, mut device, mut dry, mut reload, mut policy) = (Mode::Make, None, false, false, None);
    while let Some(arg) = cx.args.next() {
        match arg {
            Arg::Short('v') => match cx.args.value().and_then(|v| v.get(..1)).and_then(parse_unsigned) {
                Some(level) => common.verbosity = level,
                None => return cx.fail(format_args!("multipath: -v takes a number")),
            },
            Arg::Short('l') => mode = Mode::List,
            Arg::Short('d') => dry = true,
            Arg::Short('r') => reload = true,
            Arg::Short('f') => mode = Mode::Remove,
            Arg::Short('F') => mode = Mode::RemoveAll,
            Arg::Short('c') => mode = Mode::IsPath { udev: false },
            Arg::Short('u') => mode = Mode::IsPath { udev: true },
            Arg::Short('C' | 'U') => mode = Mode::HasPath,
            Arg::Short('t') => mode = Mode::Config { local: false },
            Arg::Short('T') => mode = Mode::Config { local: true },
            Arg::Short('p') => match cx.args.value().map(policy_named) {
                Some(Some(named)) => policy = Some(named),
                _ => {
                    return cx.fail(format_args!(
                        "multipath: -p takes failover, multibus, group_by_serial, group_by_prio, group_by_node_name or group_by_tpg"
                    ));
                }
            },
            // Asked for by scripts; there is nothing to switch: no wwids file is needed, no daemon delegated to, bindings written by the daemon only.
            Arg::Short('q' | 'i' | 'B' | 'D' | 'e') => {}
            Arg::Short('b' | 'M' | 'R') => {
                let _ = cx.args.value();
            }
            Arg::Short('h') => {
                let _ = cx.out.write_str(USAGE);
                return DONE;
            }
            Arg::Word(word) => device = Some(word.strip_prefix("/dev/mapper/").or_else(|| word.strip_prefix("/dev/")).unwrap_or(word)),
            _ => {
                let _ = cx.err.write_str(USAGE);
                return FAILED;
            }
        }
    }
    match mode {
        Mode::Config { local } => dump(cx, &common, local),
        Mode::List => list(cx, &common, device),
        Mode::Make if dry => look::scan_with(cx, "multipath", &common, device),
        Mode::Make => match device {
            // A named one only, whatever find_multipaths says of it.
            Some(name) => {
                let options = Options { force_reload: reload, policy, ..boot::options(true) };
                // Clients know 0 and 1 only.
                change::ask(cx, "multipath", &common, options, &mut |push| push(Ask::AddMap(name))).min(FAILED)
            }
            None => boot::make(cx, &common, policy, reload),
        },
        Mode::Remove => match device {
            Some(map) => change::dismiss(cx, "multipath", &common, &[map]),
            None => cx.fail(format_args!("multipath: -f takes a map")),
        },
        Mode::RemoveAll => change::dismiss(cx, "multipath", &common, &[]),
        Mode::IsPath { udev } => is_path(cx, &common, device, udev),
        Mode::HasPath => has_path(cx, &common, device),
    }
}

fn policy_named(word: &str) -> Option<Policy> {
    Some(match word {
        "failover" => Policy::Failover,
        "multibus" => Policy::Multibus,
        "group_by_serial" => Policy::GroupBySerial,
        "group_by_prio" => Policy::GroupByPrio,
        "group_by_node_name" => Policy::GroupByNodeName,
        "group_by_tpg" => Policy::GroupByTpg,
        _ => return None,
    })
}

fn dump(cx: &mut Cx<'_>, common: &Common<'_>, local: bool) -> i32 {
    let configuration = match setup::arena(common).and_then(|mut arena| setup::configuration(common, &mut arena)) {
        Ok(configuration) => configuration,
        Err(trouble) => return cx.trouble("multipath", trouble),
    };
    let _ = config::complain(cx.err, configuration.files, &configuration.report);
    let only: Option<&[[&str; 3]]> = if local { Some(&[]) } else { None };
    if config::dump(cx.out, &configuration.settings, only, false).is_err() { FAILED } else { DONE }
}

fn looked(cx: &mut Cx<'_>, common: &Common<'_>) -> Result<Look, i32> {
    look::look(cx, "multipath", common, common.verbosity < 3)
}

fn list(cx: &mut Cx<'_>, common: &Common<'_>, device: Option<&str>) -> i32 {
    let look = match looked(cx, common) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let view = look.view();
    let only = match device {
        None => None,
        // A path stands for its map.
        Some(name) => match view.position(name).or_else(|| view.position(look.machine.engine.find_path(name)?.map()?.name())) {
            Some(position) => Some(position),
            None => return FAILED,
        },
    };
    let style = Style { colour: crate::console::is_terminal(crate::console::Stream::Out) };
    let _ = match common.verbosity {
        0 | 1 => columns::maps(&view, only, "%n", columns::Dress::Raw, cx.out),
        _ => topology::tree(&view, only, style, cx.out),
    };
    if common.verbosity >= 3 {
        let _ = columns::paths(&view, columns::PATHS_DEFAULT, columns::Dress::Pretty, cx.out);
    }
    DONE
}

fn is_path(cx: &mut Cx<'_>, common: &Common<'_>, device: Option<&str>, udev: bool) -> i32 {
    let Some(device) = device.or_else(|| cx.invocation.variable("DEVNAME").map(|name| name.strip_prefix("/dev/").unwrap_or(name))) else {
        return cx.fail(format_args!("multipath: which device?"));
    };
    let look = match look::look(cx, "multipath", common, true) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let claimed = look.machine.engine.find_path(device).is_some_and(|path| path.map().is_some());
    if udev {
        let _ = writeln!(cx.out, "DM_MULTIPATH_DEVICE_PATH=\"{}\"", u8::from(claimed));
        return DONE;
    }
    let _ = writeln!(cx.out, "{device} {} a valid multipath device path", if claimed { "is" } else { "is not" });
    if claimed { DONE } else { FAILED }
}

fn has_path(cx: &mut Cx<'_>, common: &Common<'_>, device: Option<&str>) -> i32 {
    let Some(device) = device else { return cx.fail(format_args!("multipath: which map?")) };
    let look = match look::look(cx, "multipath", common, true) {
        Ok(look) => look,
        Err(status) => return status,
    };
    let usable = look.machine.engine.find_map(device).is_some_and(|map: MapView<'_>| map.usable() > 0);
    if usable { DONE } else { FAILED }
}

/// `multipathd`: the daemon, or with words (or `-k`) one request to it.
pub fn multipathd(cx: &mut Cx<'_>, words: Args<'_>) -> i32 {
    let asks = words.clone().any(|arg| matches!(arg, Arg::Word(_) | Arg::Short('k')));
    if asks { multipathc(cx) } else { daemon::run(cx) }
}

/// `multipathc` and `multipathd -k...`: the words as one request.
pub fn multipathc(cx: &mut Cx<'_>) -> i32 {
    let mut text = crate::model::Text::<500>::new();
    let mut fits = true;
    while let Some(arg) = cx.args.next() {
        let word = match arg {
            Arg::Short('k') => cx.args.glued_value().unwrap_or(""),
            Arg::Word(word) => word,
            _ => "",
        };
        if word.is_empty() {
            continue;
        }
        let blank = if text.is_empty() { "" } else { " " };
        // A word with blanks came as one argument: quoted again, but for the whole command glued to -k.
        let quote = if word.contains(' ') && !text.is_empty() { "\"" } else { "" };
        fits &= write!(text.as_mut_view(), "{blank}{quote}{word}{quote}").is_ok();
    }
    if !fits || text.is_empty() {
        return cx.fail(format_args!("multipathd: no command; 'multipathd show maps'"));
    }
    client::converse(cx, &text)
}
