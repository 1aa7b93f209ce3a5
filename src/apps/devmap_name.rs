//! `devmap_name MAJOR:MINOR` and `devmap_name MAJOR MINOR`: the name of the map with that number, as udev rules and scripts ask; and
//! `corepath name`, which also takes a path or a kernel name and the other way round turns a map's name into its number.

use super::args::Arg;
use super::partmaps::{self, Maps, Seen, Trouble};
use super::{Cx, DONE, FAILED};
use crate::diskread::What;
use crate::model::{DevNo, Text, parse_decimal};
use crate::wire::dm::Target;
use core::fmt::Write;

/// Exit status 1, and nothing on standard output, where there is no such map.
pub fn run(cx: &mut Cx<'_>) -> i32 {
    let mut words = [""; 2];
    let mut count = 0;
    while let Some(arg) = cx.args.next() {
        match (arg, words.get_mut(count)) {
            (Arg::Word(word), Some(place)) => *place = word,
            _ => return usage(cx),
        }
        count += 1;
    }
    let devno = match count {
        1 => DevNo::parse(words[0]),
        2 => parse_decimal(words[0]).and_then(|major| Some(DevNo::new(major, parse_decimal(words[1])?))),
        _ => None,
    };
    let Some(devno) = devno else { return usage(cx) };
    let seen = Maps::open().and_then(|mut maps| maps.name_of(devno));
    show(cx, seen, "devmap_name", words[0], false)
}

fn usage(cx: &mut Cx<'_>) -> i32 {
    let _ = cx.err.write_str("usage: devmap_name MAJOR:MINOR\n       devmap_name MAJOR MINOR\n");
    FAILED
}

fn show(cx: &mut Cx<'_>, seen: Result<Option<Seen>, Trouble>, program: &str, asked: &str, number: bool) -> i32 {
    match seen {
        Ok(Some(seen)) if number => {
            let _ = writeln!(cx.out, "{} dm-{}", seen.devno, seen.devno.minor);
        }
        Ok(Some(seen)) => {
            let _ = writeln!(cx.out, "{}", seen.name);
        }
        Ok(None) => {
            let _ = writeln!(cx.err, "{program}: no map for {asked}");
            return FAILED;
        }
        Err(trouble) => {
            let _ = writeln!(cx.err, "{program}: {asked}: {trouble}");
            return FAILED;
        }
    }
    DONE
}

/// `corepath name WHAT`: a number, a device path or a kernel name (`dm-3`) gives the map's name; a map's name gives number and kernel name.
#[inline(never)]
pub fn name(cx: &mut Cx<'_>) -> i32 {
    let (Some(Arg::Word(asked)), None) = (cx.args.next(), cx.args.next()) else {
        return cx.fail(format_args!("name takes one device or map"));
    };
    let mut maps = match Maps::open() {
        Ok(maps) => maps,
        Err(trouble) => return cx.fail(format_args!("/dev: {trouble}")),
    };
    if let Some(devno) = DevNo::parse(asked) {
        let seen = maps.name_of(devno);
        return show(cx, seen, "corepath", asked, false);
    }
    let node = node(asked);
    if let Ok(What::Block(devno)) = partmaps::what(&node) {
        let seen = maps.name_of(devno);
        return show(cx, seen, "corepath", asked, false);
    }
    let seen = maps.look(Target::Name(asked));
    show(cx, seen, "corepath", asked, true)
}

/// A path as it is; a bare word as a kernel name under /dev.
fn node(asked: &str) -> Text<255> {
    let mut path = Text::new();
    let prefix = if asked.contains('/') { "" } else { "/dev/" };
    if path.push_str(prefix).and_then(|()| path.push_str(asked)).is_err() {
        path.clear();
    }
    path
}
