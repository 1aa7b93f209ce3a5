//! One file per applet: compose shell and engine, print. May use everything but rustix and unsafe.

pub mod args;
pub mod boot;
pub mod change;
pub mod client;
pub mod columns;
pub mod config;
pub mod daemon;
pub mod devmap_name;
pub mod engine_view;
pub mod generator;
pub mod help;
pub mod install;
pub mod json;
pub mod kpartx;
pub mod look;
pub mod multipath;
pub mod partitions;
pub mod partmaps;
pub mod probe;
pub mod reading;
pub mod rescue;
pub mod root_search;
pub mod runtime;
pub mod say;
pub mod session;
pub mod setup;
pub mod sheet;
pub mod texts;
pub mod topology;
pub mod view;
pub mod wwids;

use crate::console::{Console, Stream};
use crate::model::last_part;
use args::{Arg, Args};
use core::ffi::CStr;
use core::fmt::Write;

/// Most arguments one call may have; more are refused, never cut.
pub const MAX_ARGS: usize = 256;
/// Most environment entries that are looked at.
pub const MAX_ENV: usize = 512;

/// Exit statuses of our own commands.
pub const DONE: i32 = 0;
pub const FAILED: i32 = 1;
pub const TIMED_OUT: i32 = 2;

/// How the program was started.
pub struct Invocation<'a> {
    /// Arguments, the program's own name first.
    pub args: &'a [&'a CStr],
    /// `NAME=value` entries.
    pub env: &'a [&'a CStr],
    /// False when there were more than [`MAX_ARGS`] arguments.
    pub complete: bool,
}

impl<'a> Invocation<'a> {
    /// The value of an environment variable; `None` when unset or not UTF-8.
    pub fn variable(&self, name: &str) -> Option<&'a str> {
        self.env.iter().find_map(|entry| entry.to_str().ok()?.strip_prefix(name)?.strip_prefix('='))
    }
}

/// What an applet gets: its words and the two streams.
pub struct Cx<'a> {
    pub invocation: &'a Invocation<'a>,
    /// The program that speaks: `corepath`, or the name of the peer's that it was started as.
    pub called: &'a str,
    /// The applet's arguments, its own name and the sub command already taken.
    pub args: Args<'a>,
    pub out: &'a mut Console,
    pub err: &'a mut Console,
}

impl<'a> Cx<'a> {
    /// One line on what could not be set up; gives [`FAILED`].
    pub fn trouble(&mut self, command: &str, trouble: setup::Trouble<'_>) -> i32 {
        self.speak(command);
        trouble.say(self.err);
        FAILED
    }

    /// Reads the configuration; where that cannot be done says why, and gives [`FAILED`].
    #[inline(never)]
    pub fn configuration(&mut self, command: &str, common: &setup::Common<'_>) -> Result<reading::Configuration<'static>, i32> {
        reading::configuration(common).map_err(|trouble| self.trouble(command, trouble))
    }

    /// Begins a line on standard error.
    #[inline(never)]
    pub fn speak(&mut self, command: &str) {
        let (blank, command) = if self.called == "corepath" { (" ", command) } else { ("", "") };
        let _ = write!(self.err, "{}{blank}{command}: ", self.called);
    }

    /// One line on standard error, with the program's name in front; gives [`FAILED`].
    pub fn fail(&mut self, what: core::fmt::Arguments<'_>) -> i32 {
        let _ = writeln!(self.err, "{}: {what}", self.called);
        FAILED
    }
}

/// Runs the applet that the arguments name; the value is the exit status.
#[inline(never)]
pub fn main(invocation: &Invocation<'_>) -> i32 {
    let mut out = Console::new(Stream::Out);
    let mut err = Console::new(Stream::Error);
    let status = dispatch(invocation, &mut out, &mut err);
    out.flush();
    if out.failed() && status == DONE { FAILED } else { status }
}

#[inline(never)]
fn dispatch(invocation: &Invocation<'_>, out: &mut Console, err: &mut Console) -> i32 {
    if !invocation.complete {
        let _ = writeln!(err, "corepath: more than {MAX_ARGS} arguments");
        return FAILED;
    }
    let rest = invocation.args.get(1..).unwrap_or(&[]);
    let mut args = Args::new(rest);
    let name = invocation.args.first().and_then(|name| name.to_str().ok()).unwrap_or("");
    let name = last_part(name);
    let words = args.clone();
    let name = name.trim_start_matches('@');
    let called = if name.starts_with("multipath") { name } else { "corepath" };
    let mut cx = Cx { invocation, called, args: words.clone(), out, err };
    match name {
        "multipath" => return multipath::multipath(&mut cx),
        "multipathd" => return multipath::multipathd(&mut cx, words),
        "multipathc" => return multipath::multipathc(&mut cx),
        "kpartx" => return kpartx::run(&mut cx),
        "devmap_name" => return devmap_name::run(&mut cx),
        "corepath-generator" => return generator::run(&mut cx),
        _ => {}
    }
    let Cx { out, err, .. } = cx;
    let command = match args.next() {
        Some(Arg::Word(word)) => word,
        Some(Arg::Short('h') | Arg::Long("help")) => "help",
        Some(Arg::Short('V') | Arg::Long("version")) => "version",
        None => {
            help::overview(err);
            return FAILED;
        }
        Some(_) => {
            let _ = writeln!(err, "corepath: the first word is a command; 'corepath help' lists them");
            return FAILED;
        }
    };
    if args.clone().any(|arg| arg == Arg::Long("help")) && help::page(command, out) {
        return DONE;
    }
    let mut cx = Cx { invocation, called, args, out, err };
    match command {
        "boot" => boot::run(&mut cx),
        "scan" => look::scan(&mut cx),
        "list" => look::list(&mut cx),
        "why" => look::why(&mut cx),
        "probe" => probe::run(&mut cx),
        "remove" => change::remove(&mut cx),
        "config" => settings(&mut cx),
        "install-hooks" => install::hooks(&mut cx),
        "install" => install::everything(&mut cx),
        "daemon" => daemon::run(&mut cx, false),
        "release" => change::release(&mut cx),
        "rescue" => rescue::run(&mut cx),
        "status" | "metrics" | "log" | "show" | "fail" | "reinstate" | "switch-group" | "suspend" | "resume" | "reload" | "resize"
        | "reconfigure" | "stop" | "raw" => client::run(&mut cx, command),
        "help" => help::run(&mut cx),
        "version" => {
            let _ = writeln!(cx.out, "corepath {}", env!("CARGO_PKG_VERSION"));
            DONE
        }
        "kpartx" => kpartx::run(&mut cx),
        "partitions" => partitions::run(&mut cx),
        "devmap_name" => devmap_name::run(&mut cx),
        "name" => devmap_name::name(&mut cx),
        _ => cx.fail(format_args!("no command '{command}'; 'corepath help' lists them")),
    }
}

/// `config [--check FILE] [--origins] [KEYWORD]`
#[inline(never)]
fn settings(cx: &mut Cx<'_>) -> i32 {
    let mut common = setup::Common::default();
    let (mut check, mut plain, mut keyword) = (false, false, None);
    while let Some(arg) = cx.args.next() {
        match common.take(arg, &mut cx.args) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(what) => return cx.fail(format_args!("config: {what}")),
        }
        match arg {
            Arg::Long("check") => {
                check = true;
                common.complaints = 1 << 16;
                if let Some(file) = cx.args.clone().value().filter(|v| !v.starts_with('-')) {
                    let _ = cx.args.value();
                    // That file alone.
                    (common.config, common.config_dir, common.config_given) = (file, "/nonexistent", true);
                }
            }
            Arg::Long("plain") => plain = true,
            Arg::Long("keywords") => keyword = Some(None),
            Arg::Word(word) => keyword = Some(Some(word)),
            _ => return cx.fail(format_args!("config: unknown option; 'corepath help config' lists them")),
        }
    }
    if let Some(only) = keyword {
        return match config::keywords(cx.out, only) {
            Ok(true) => DONE,
            _ => cx.fail(format_args!("config: no such keyword")),
        };
    }
    let configuration = match cx.configuration("config", &common) {
        Ok(configuration) => configuration,
        Err(status) => return status,
    };
    if check {
        return match config::check(cx.out, configuration.files, &configuration.report) {
            Ok(true) => DONE,
            _ => FAILED,
        };
    }
    let _ = config::complain(cx.err, configuration.files, &configuration.report);
    if config::dump(cx.out, &configuration.settings, None, !plain).is_err() { FAILED } else { DONE }
}
