//! `kpartx`: options, output and exit statuses as upstream's, so that udev rules and scripts need no change.
//!
//! Differences are in docs/differences.md ("Partitions"): the link under /dev/mapper is made here and udev is waited for by its database,
//! not by a semaphore; a listing needs no loop device, an update removes nothing on the word of a table that could not be read to its end.

use super::args::Arg;
use super::partmaps::{self, Maps, Parent, Seen, Touched, Trouble};
use super::{Cx, DONE, FAILED, help};
use crate::diskread::What;
use crate::files;
use crate::model::{DevNo, Text};
use crate::wire::links;
use crate::wire::partition::{Complaint, Found, Kind, Options, Partition};
use core::fmt::Write;
use heapless::Vec;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    List,
    Add,
    Delete,
    Update,
}

struct Asked<'a> {
    action: Action,
    read_only: bool,
    delimiter: Option<&'a str>,
    /// With -d all linear maps over the device; else also maps that say `no_partitions`.
    force: bool,
    verbose: bool,
    /// Return before udev has seen the maps: for its own rules.
    no_wait: bool,
    options: Options,
    device: &'a str,
}

fn parse<'a>(cx: &mut Cx<'a>) -> Option<Asked<'a>> {
    let mut asked = Asked {
        action: Action::List,
        read_only: false,
        delimiter: None,
        force: false,
        verbose: false,
        no_wait: false,
        options: Options::default(),
        device: "",
    };
    while let Some(arg) = cx.args.next() {
        match arg {
            Arg::Short('a') => asked.action = Action::Add,
            Arg::Short('d') => asked.action = Action::Delete,
            Arg::Short('u') => asked.action = Action::Update,
            Arg::Short('l') => asked.action = Action::List,
            Arg::Short('r') => asked.read_only = true,
            Arg::Short('p') => asked.delimiter = Some(cx.args.value()?),
            Arg::Short('f') => asked.force = true,
            Arg::Short('g') => asked.options.force_gpt = true,
            Arg::Short('s') => asked.no_wait = false,
            Arg::Short('n') => asked.no_wait = true,
            Arg::Short('v') => asked.verbose = true,
            Arg::Short('t') => asked.options.only = Some(Kind::parse(cx.args.value()?)?),
            Arg::Word(word) if asked.device.is_empty() => asked.device = word,
            _ => return None,
        }
    }
    (!asked.device.is_empty()).then_some(asked)
}

#[inline(never)]
pub fn run(cx: &mut Cx<'_>) -> i32 {
    let Some(asked) = parse(cx) else {
        help::plain("@kpartx", cx.out);
        return FAILED;
    };
    let mut maps = match Maps::open() {
        Ok(maps) => maps,
        Err(trouble) => return say(cx, "/dev", trouble),
    };
    if asked.action != Action::List
        && let Err(errno) = maps.ready()
    {
        return say(cx, "device-mapper", Trouble::Dm(errno));
    }
    match partmaps::what(asked.device) {
        Ok(What::Block(devno)) => match maps.parent(asked.device, devno) {
            Ok(parent) if parent.no_partitions && !asked.force => DONE,
            Ok(parent) => perform(cx, &asked, &mut maps, &parent, asked.device).0,
            // The maps of a device that cannot be read can be removed nevertheless: `parent` reads nothing but dm tables.
            Err(trouble) => say(cx, asked.device, trouble),
        },
        Ok(What::File) => image(cx, &asked, &mut maps),
        Ok(What::Other) => say(cx, asked.device, Trouble::NoDisk),
        Err(_) => {
            let _ = writeln!(cx.err, "failed to stat() {}", asked.device);
            FAILED
        }
    }
}

fn say(cx: &mut Cx<'_>, what: &str, trouble: Trouble) -> i32 {
    let _ = writeln!(cx.err, "kpartx: {what}: {trouble}");
    FAILED
}

/// Maps that were made, changed or removed.
type Done = Vec<Touched, 512>;

/// Does what was asked over `parent`, waits for udev; gives the exit status and how many maps there are now.
#[inline(never)]
fn perform(cx: &mut Cx<'_>, asked: &Asked<'_>, maps: &mut Maps, parent: &Parent, device: &str) -> (i32, u32) {
    let mut done = Done::new();
    let result = act(cx, asked, maps, parent, device, &mut done);
    if !asked.no_wait && !partmaps::settle(parent, links::delimiter(&parent.name, asked.delimiter), &done) {
        let _ = writeln!(cx.err, "kpartx: {device}: udev has not handled the maps yet");
    }
    result
}

#[inline(never)]
fn act(cx: &mut Cx<'_>, asked: &Asked<'_>, maps: &mut Maps, parent: &Parent, device: &str, done: &mut Done) -> (i32, u32) {
    let delimiter = links::delimiter(&parent.name, asked.delimiter);
    if asked.action == Action::Delete {
        let failed =
            if asked.force { delete_all(cx, asked, maps, parent, done) } else { delete(cx, asked, maps, parent, done, &mut |_| true) };
        return (failed.min(255), 0);
    }
    let mut partitions = Vec::<Partition, 256>::new();
    let mut complaints = Vec::<Complaint, 32>::new();
    let mut found = Found::new(&mut partitions, &mut complaints);
    let kind = match partmaps::read(parent, &asked.options, &mut found) {
        Ok(kind) => kind,
        Err(trouble) => return (say(cx, device, trouble), 0),
    };
    let mut failed = 0;
    for complaint in found.complaints() {
        failed += i32::from(partmaps::refused(complaint));
        let _ = write!(cx.err, "kpartx: {device}: ");
        let _ = partmaps::complain(complaint, cx.err);
        let _ = cx.err.write_str("\n");
    }
    if asked.action == Action::List {
        for p in found.partitions() {
            let _ = writeln!(cx.out, "{}{delimiter}{} : 0 {} {device} {}", parent.name, p.number, p.length.0, p.start.0);
        }
        return (DONE, 0);
    }
    let mut there = 0;
    for p in found.partitions() {
        match maps.add(parent, delimiter, p, asked.read_only) {
            Ok((made, name)) => {
                there += 1;
                if asked.verbose {
                    let (devno, length, start) = (made.devno(), p.length.0, p.start.0);
                    let _ = writeln!(cx.out, "add map {name} ({devno}): 0 {length} linear {} {start}", parent.devno);
                }
                let _ = done.push((made.devno(), Some(p.number)));
            }
            Err(trouble) => {
                failed += 1;
                let mut name = Text::<160>::new();
                let _ = write!(name.as_mut_view(), "{}{delimiter}{}", parent.name, p.number);
                say(cx, &name, trouble);
            }
        }
    }
    if asked.action == Action::Update && kind.is_some() && found.complete() {
        let stays = |number: u32| found.partitions().iter().any(|p| p.number == number);
        failed += delete(cx, asked, maps, parent, done, &mut |number| !stays(number));
    }
    (failed.min(255), there)
}

/// Removes the maps that `which` names by number; gives the number of those that stay.
fn delete(
    cx: &mut Cx<'_>,
    asked: &Asked<'_>,
    maps: &mut Maps,
    parent: &Parent,
    done: &mut Done,
    which: &mut dyn FnMut(u32) -> bool,
) -> i32 {
    let mut failed = 0;
    for number in partmaps::numbers().filter(|number| which(*number)) {
        match maps.find(parent, number) {
            Ok(None) => {}
            Ok(Some(seen)) => failed += remove(cx, asked, maps, parent, &seen, done),
            Err(trouble) => {
                say(cx, &parent.name, trouble);
                return failed + 1;
            }
        }
    }
    failed
}

/// `-fd`: all linear maps over the device, whoever made them.
fn delete_all(cx: &mut Cx<'_>, asked: &Asked<'_>, maps: &mut Maps, parent: &Parent, done: &mut Done) -> i32 {
    let mut failed = 0;
    // Those that were tried and are in use; more than fit are not tried.
    let mut passed = Vec::<DevNo, 256>::new();
    loop {
        let seen = match maps.find_any(parent, &passed) {
            Ok(None) => return failed,
            Ok(Some(seen)) => seen,
            Err(trouble) => {
                say(cx, &parent.name, trouble);
                return failed + 1;
            }
        };
        failed += remove(cx, asked, maps, parent, &seen, done);
        if passed.push(seen.devno).is_err() {
            return failed + 1;
        }
    }
}

fn remove(cx: &mut Cx<'_>, asked: &Asked<'_>, maps: &mut Maps, parent: &Parent, seen: &Seen, done: &mut Done) -> i32 {
    match maps.remove(parent, seen) {
        Ok(()) => {
            if asked.verbose {
                let _ = writeln!(cx.out, "del devmap : {}", seen.name);
            }
            let _ = done.push((seen.devno, None));
            0
        }
        Err(trouble) => {
            say(cx, &seen.name, trouble);
            1
        }
    }
}

/// A regular file: its partitions are maps over a loop device, which is made for -a and -u and taken away by -d.
#[inline(never)]
fn image(cx: &mut Cx<'_>, asked: &Asked<'_>, maps: &mut Maps) -> i32 {
    let loop_trouble = |cx: &mut Cx<'_>, errno| {
        let _ = writeln!(cx.err, "can't set up loop");
        say(cx, asked.device, Trouble::Open(errno))
    };
    let here = files::current_dir();
    let block = match files::open_dir("/sys/block") {
        Ok(block) => block,
        Err(errno) => return loop_trouble(cx, errno),
    };
    let bound = match crate::loopdev::find(&maps.dev, &block, here, asked.device) {
        Ok(bound) => bound,
        Err(errno) => return loop_trouble(cx, errno),
    };
    let number = match (bound, asked.action) {
        (Some(number), _) => Ok(number),
        (None, Action::Delete) => return DONE,
        // What -a would use; the file itself can be read without it.
        (None, Action::List) => crate::loopdev::free(&maps.dev),
        (None, _) => crate::loopdev::attach(&maps.dev, here, asked.device, asked.read_only),
    };
    let number = match number {
        Ok(number) => number,
        Err(errno) => return loop_trouble(cx, errno),
    };
    let mut device = Text::<32>::new();
    let _ = write!(device.as_mut_view(), "/dev/loop{number}");
    let parent = if bound.is_none() && asked.action == Action::List {
        Text::try_from(asked.device).map_err(|_| Trouble::TooLong).map(|read_from| {
            let mut parent = Parent { devno: DevNo::new(7, number), read_from, ..Parent::default() };
            let _ = write!(parent.name.as_mut_view(), "loop{number}");
            parent
        })
    } else {
        match partmaps::what(&device) {
            Ok(What::Block(devno)) => maps.parent(&device, devno),
            Ok(_) => Err(Trouble::NoDisk),
            Err(trouble) => Err(trouble),
        }
    };
    let (status, there) = match parent {
        Ok(parent) => perform(cx, asked, maps, &parent, &device),
        Err(trouble) => (say(cx, &device, trouble), 0),
    };
    let done = match asked.action {
        Action::List => return status,
        Action::Delete => status == DONE,
        // A loop device that nothing lies over would never be taken away again.
        Action::Add | Action::Update => bound.is_none() && there == 0,
    };
    if !done {
        return status;
    }
    match crate::loopdev::detach(&maps.dev, number) {
        Ok(()) => {
            if asked.action == Action::Delete {
                let _ = writeln!(cx.out, "loop deleted : {device}");
            }
            status
        }
        Err(errno) => {
            let _ = writeln!(cx.err, "can't del loop : {device}");
            say(cx, &device, Trouble::Open(errno))
        }
    }
}
