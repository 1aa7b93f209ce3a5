//! `corepath help [COMMAND]`: the text that a person at a serial console needs, from `help.txt`, packed by build.rs: a paragraph for each
//! command in the order in which a newcomer meets them, its usage, a line on what it does, and its options.
//! What begins with `@` is no command's: the end of the overview, and the usage of the other names it is started by.

use super::{Cx, DONE, args::Arg, texts};
use core::fmt::Write;

include!(concat!(env!("OUT_DIR"), "/help.rs"));

type Text = [u8; UNPACKED];

#[inline(never)]
fn unpacked(room: &mut Text) -> &str {
    texts::unpack(PACKED, room);
    core::str::from_utf8(room).unwrap_or("")
}

/// Takes the first paragraph off: the usage, and the lines after it.
fn paragraph<'t>(text: &mut &'t str) -> Option<(&'t str, &'t str)> {
    let end = text.as_bytes().windows(2).position(|pair| pair == b"\n\n").unwrap_or(text.len());
    let (paragraph, rest) = text.split_at_checked(end)?;
    *text = rest.trim_start_matches('\n');
    paragraph.split_once('\n')
}

/// Is there help on it, and is it written?
#[inline(never)]
pub fn page(command: &str, out: &mut dyn Write) -> bool {
    let mut room = [0; UNPACKED];
    let mut text = unpacked(&mut room);
    while let Some((usage, rest)) = paragraph(&mut text) {
        if usage.split(' ').next() == Some(command) && !usage.starts_with('@') {
            let (summary, options) = rest.split_once('\n').unwrap_or((rest, ""));
            let _ = writeln!(out, "usage: corepath {usage}\n\n{summary}");
            if !options.is_empty() {
                let _ = writeln!(out, "\n{options}");
            }
            return true;
        }
    }
    false
}

/// A text that is no command's: the usage of another name of ours.
#[inline(never)]
pub fn plain(name: &str, out: &mut dyn Write) {
    let mut room = [0; UNPACKED];
    let mut text = unpacked(&mut room);
    while let Some((first, rest)) = paragraph(&mut text) {
        if first == name {
            let _ = writeln!(out, "{rest}");
        }
    }
}

/// The list of commands.
#[inline(never)]
pub fn overview(out: &mut dyn Write) {
    let _ = out
        .write_str("corepath: multipath I/O from bare disks to live maps, in one static binary\n\nusage: corepath COMMAND [OPTIONS]\n\n");
    let mut room = [0; UNPACKED];
    let mut text = unpacked(&mut room);
    while let Some((usage, rest)) = paragraph(&mut text).filter(|(usage, _)| !usage.starts_with('@')) {
        let _ = writeln!(out, "  {:<14}{}", usage.split(' ').next().unwrap_or(""), rest.split('\n').next().unwrap_or(""));
    }
    let _ = out.write_str("\n");
    plain("@", out);
}

pub fn run(cx: &mut Cx<'_>) -> i32 {
    match cx.args.next() {
        None => overview(cx.out),
        Some(Arg::Word(name)) => {
            if !page(name, cx.out) {
                return cx.fail(format_args!("no command '{name}'; 'corepath help' lists them"));
            }
        }
        Some(_) => return cx.fail(format_args!("help takes the name of a command")),
    }
    DONE
}
