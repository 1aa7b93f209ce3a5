//! Commands that a running daemon answers: each is one request on its socket, in the peer's framing.

use super::args::Arg;
use super::setup::Common;
use super::{Cx, DONE, FAILED};
use crate::fault::Errno;
use crate::model::parse_unsigned;
use crate::raw::OwnedFd;
use crate::sock::{self, Address};
use crate::wire::cursor::put;
use crate::wire::ipc;
use core::fmt::Write;
use core::num::{NonZeroU32, NonZeroU64};

/// How long an answer may take, in milliseconds: programs that have something else to do then.
pub const SHORT: u32 = 5000;
/// The same for people: the daemon says itself that it takes longer than `uxsock_timeout`, 4 s where nothing else is configured.
const PATIENCE: u32 = 60_000;

/// Names the one socket to use.
const VARIABLE: &str = "MULTIPATH_SOCKET_NAME";

/// Connects to the daemon: the path, then the abstract name.
pub fn connect(cx: &Cx<'_>) -> Result<OwnedFd, Errno> {
    match cx.invocation.variable(VARIABLE) {
        Some(name) => sock::connect(Address::parse(name)),
        None => sock::connect(Address::Path(sock::NAMED)).or_else(|_| sock::connect(Address::Abstract(sock::ABSTRACT))),
    }
}

/// Has the daemon do this, where one runs; false where none does, it refuses, or it is not this machine that is worked on.
#[inline(never)]
pub fn tell(cx: &Cx<'_>, common: &Common<'_>, text: &str) -> bool {
    let done = |socket| request(&socket, text, PATIENCE, &mut |_| {}) == Ok(false);
    common.dev == "/dev" && connect(cx).is_ok_and(done)
}

/// Sends one request and hands the reply on, piece by piece. True when the reply began with `fail`.
pub fn request(socket: &OwnedFd, text: &str, patience: u32, out: &mut dyn FnMut(&[u8])) -> Result<bool, Errno> {
    sock::send_all(socket, &ipc::header(text.len()))?;
    sock::send_all(socket, text.as_bytes())?;
    sock::send_all(socket, &[0])?;
    let mut header = [0u8; ipc::HEADER_LEN];
    let mut have = 0;
    while let Some(rest @ [_, ..]) = header.get_mut(have..) {
        have += receive(socket, rest, patience)?;
    }
    let mut left = ipc::parse_header(header, ipc::REPLY_LEN).map_err(|_| Errno::IO)?;
    let mut failed = None;
    let mut buffer = [0u8; 4096];
    while left > 0 {
        let room = left.min(buffer.len());
        let got = receive(socket, buffer.get_mut(..room).unwrap_or_default(), patience)?;
        left -= got;
        let mut bytes = buffer.get(..got).unwrap_or_default();
        if left == 0 {
            bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        }
        failed.get_or_insert(bytes.starts_with(b"fail\n"));
        out(bytes);
    }
    Ok(failed == Some(true))
}

fn receive(socket: &OwnedFd, buffer: &mut [u8], patience: u32) -> Result<usize, Errno> {
    if !sock::wait_readable(socket, patience) {
        return Err(Errno::TIMEDOUT);
    }
    match sock::receive(socket, buffer)? {
        0 => Err(Errno::IO),
        n => Ok(n),
    }
}

/// Nobody listens.
fn nobody(cx: &mut Cx<'_>) -> i32 {
    let name = cx.invocation.variable(VARIABLE).unwrap_or(sock::NAMED);
    cx.fail(format_args!("no daemon answers on {name}; 'corepath list' looks without one"))
}

/// Sends `text` and prints the reply; `quiet`: unless it says no more than that it is done.
pub fn converse(cx: &mut Cx<'_>, text: &str, quiet: bool) -> i32 {
    let Ok(socket) = connect(cx) else { return nobody(cx) };
    let out = &mut *cx.out;
    let mut print = |bytes: &[u8]| {
        if !quiet || bytes != b"ok\n" {
            out.write_bytes(bytes);
        }
    };
    match request(&socket, text, PATIENCE, &mut print) {
        Ok(false) => DONE,
        Ok(true) => FAILED,
        Err(errno) => cx.fail(format_args!("the daemon gave no answer: {}", errno.word().unwrap_or("error"))),
    }
}

/// Joins the remaining words to a request; words with blanks are quoted.
fn join(cx: &mut Cx<'_>, text: &mut crate::model::Text<500>) -> Result<(), i32> {
    while let Some(arg) = cx.args.next() {
        let word = match arg {
            Arg::Word(word) => word,
            _ => return Err(cx.fail(format_args!("unknown option; 'corepath help' lists the commands"))),
        };
        let done = if word.contains(' ') { write!(text.as_mut_view(), " \"{word}\"") } else { write!(text.as_mut_view(), " {word}") };
        if done.is_err() {
            return Err(cx.fail(format_args!("the request is longer than 500 bytes")));
        }
    }
    Ok(())
}

/// The commands of our own name.
#[inline(never)]
pub fn run(cx: &mut Cx<'_>, command: &str) -> i32 {
    let mut text = crate::model::Text::<500>::new();
    match command {
        "status" => return status(cx),
        "fail" | "reinstate" => {
            let _ = write!(text.as_mut_view(), "{command} path");
        }
        "suspend" | "resume" | "reload" | "resize" => {
            let _ = write!(text.as_mut_view(), "{command} map");
        }
        "stop" => {
            let _ = text.push_str("shutdown");
        }
        "switch-group" => {
            let (Some(Arg::Word(map)), Some(Arg::Word(group))) = (cx.args.next(), cx.args.next()) else {
                return cx.fail(format_args!("switch-group takes a map and the group's number"));
            };
            let _ = write!(text.as_mut_view(), "switchgroup map {map} group {group}");
        }
        "show" => {
            let Some(Arg::Word(name)) = cx.args.next() else { return cx.fail(format_args!("show takes a map or a path")) };
            let _ = write!(text.as_mut_view(), "show map {name} topology");
            // A map, or else a path: the daemon knows.
            let Ok(socket) = connect(cx) else { return nobody(cx) };
            let mut reply = [0u8; 5];
            let mut first = true;
            let failed = request(&socket, &text, PATIENCE, &mut |bytes| {
                if core::mem::take(&mut first) {
                    put(&mut reply, 0, bytes.get(..5).unwrap_or(bytes));
                }
            });
            if failed == Ok(true) {
                text.clear();
                let _ = write!(text.as_mut_view(), "list path {name}");
            }
        }
        "raw" => {}
        other => {
            let _ = text.push_str(other);
        }
    }
    if let Err(status) = join(cx, &mut text) {
        return status;
    }
    let text = text.trim_ascii();
    converse(cx, text, false)
}

/// Minors whose rates `--watch` shows.
const RATED: usize = 128;

/// What each map does, from the block layer's counters: read here and not by the daemon, which must not wait for sysfs.
fn show_rates(cx: &mut Cx<'_>, before: &mut [[u64; 3]; RATED], seconds: NonZeroU32) {
    let Ok(dir) = crate::files::open_dir("/sys/block") else { return };
    for (minor, before) in before.iter_mut().enumerate() {
        let read = |file: &str, buffer: &mut [u8]| {
            let mut name = crate::model::Text::<32>::new();
            let _ = write!(name.as_mut_view(), "dm-{minor}/{file}");
            crate::files::read(&dir, &name, buffer).map_or(0, |text| text.len())
        };
        let mut buffer = [0u8; 256];
        let length = read("dm/uuid", &mut buffer);
        if !buffer.get(..length).unwrap_or_default().starts_with(crate::model::UUID_PREFIX.as_bytes()) {
            continue;
        }
        let length = read("stat", &mut buffer);
        // Documentation/block/stat.rst: reads, merged, sectors, ms, then the same of writes.
        let mut fields = [0u64; 7];
        let words = core::str::from_utf8(buffer.get(..length).unwrap_or_default()).unwrap_or("").split_ascii_whitespace();
        for (field, word) in fields.iter_mut().zip(words) {
            *field = parse_unsigned(word).unwrap_or(0);
        }
        let [reads, _, read, _, writes, _, written] = fields;
        let now = [reads, writes, (read + written) / 2];
        if *before != [0; 3] {
            let mut rates = [0; 3];
            for ((rate, now), before) in rates.iter_mut().zip(now).zip(*before) {
                *rate = now.saturating_sub(before) / NonZeroU64::from(seconds);
            }
            let [reads, writes, kib] = rates;
            let _ = writeln!(cx.out, "dm-{minor}: {reads} reads/s, {writes} writes/s, {kib} KiB/s");
        }
        *before = now;
    }
}

/// `status [--json] [--watch[=SECONDS]]`
#[inline(never)]
fn status(cx: &mut Cx<'_>) -> i32 {
    let (mut json, mut watch) = (false, None);
    while let Some(arg) = cx.args.next() {
        match arg {
            Arg::Long("json") => json = true,
            Arg::Long("watch") => {
                watch = match cx.args.glued_value().map(str::parse::<u32>) {
                    None => Some(NonZeroU32::MIN),
                    Some(Ok(seconds @ 1..)) => NonZeroU32::new(seconds),
                    Some(_) => return cx.fail(format_args!("status: --watch takes seconds")),
                }
            }
            _ => return cx.fail(format_args!("status: unknown option; 'corepath help status' lists them")),
        }
    }
    let text = if json { "status json" } else { "status" };
    let Some(seconds) = watch else { return converse(cx, text, false) };
    let mut rates = [[0; 3]; RATED];
    loop {
        // Home, and clear what was there: lines differ in length.
        let _ = cx.out.write_str("\x1b[H\x1b[J");
        let status = converse(cx, text, false);
        if !json {
            show_rates(cx, &mut rates, seconds);
        }
        cx.out.flush();
        if status != DONE || cx.out.failed() {
            return status;
        }
        crate::wait::sleep(seconds.get() * 1000);
    }
}
