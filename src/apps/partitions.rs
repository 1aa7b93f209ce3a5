//! `corepath partitions list|add|delete DEVICE`: the table of a disk, map or image with types, ids and names; its maps made and removed.

use super::args::Arg;
use super::json::Json;
use super::partmaps::{self, Maps, Parent, Touched, Trouble};
use super::{Cx, DONE, FAILED};
use crate::devlinks;
use crate::diskread::What;
use crate::model::{DevNo, Sectors, Text, last_part, parse_decimal};
use crate::raw::AsFd;
use crate::wire::dm::map_wwid;
use crate::wire::links::{self, Subject};
use crate::wire::partition::{Complaint, Found, Kind, Options, Partition, Type, Unique};
use core::fmt::{self, Write};
use heapless::Vec;

struct Asked<'a> {
    json: bool,
    read_only: bool,
    links: bool,
    delimiter: Option<&'a str>,
    block_size: Option<u32>,
    options: Options,
    device: &'a str,
}

const USAGE: &str =
    "partitions list|add|delete [--json] [--read-only] [--links] [--delimiter D] [--type T] [--force-gpt] [--block-size N] DEVICE";

#[inline(never)]
fn parse<'a>(cx: &mut Cx<'a>) -> Option<Asked<'a>> {
    let mut asked =
        Asked { json: false, read_only: false, links: false, delimiter: None, block_size: None, options: Options::default(), device: "" };
    while let Some(arg) = cx.args.next() {
        match arg {
            Arg::Long("json") => asked.json = true,
            Arg::Short('r') | Arg::Long("read-only") => asked.read_only = true,
            Arg::Long("links") => asked.links = true,
            Arg::Short('p') | Arg::Long("delimiter") => asked.delimiter = Some(cx.args.value()?),
            Arg::Short('t') | Arg::Long("type") => asked.options.only = Some(Kind::parse(cx.args.value()?)?),
            Arg::Short('g') | Arg::Long("force-gpt") => asked.options.force_gpt = true,
            Arg::Long("block-size") => {
                let size = parse_decimal(cx.args.value()?).filter(|size| matches!(size, 512 | 1024 | 2048 | 4096))?;
                asked.block_size = Some(size);
            }
            Arg::Word(word) if asked.device.is_empty() => asked.device = word,
            _ => return None,
        }
        if cx.args.stray_value() {
            return None;
        }
    }
    (!asked.device.is_empty()).then_some(asked)
}

#[inline(never)]
pub fn run(cx: &mut Cx<'_>) -> i32 {
    let Some(Arg::Word(verb)) = cx.args.next() else { return cx.fail(format_args!("usage: corepath {USAGE}")) };
    let known = matches!(verb, "list" | "add" | "delete");
    let Some(asked) = parse(cx).filter(|_| known) else { return cx.fail(format_args!("usage: corepath {USAGE}")) };
    let result = match verb {
        "list" => list(cx, &asked),
        "add" => add(cx, &asked),
        _ => delete(cx, &asked),
    };
    result.unwrap_or_else(|trouble| cx.fail(format_args!("{}: {trouble}", asked.device)))
}

/// The device as a parent of maps. A map's own name will do for a path.
fn parent(maps: &mut Maps, device: &str) -> Result<Parent, Trouble> {
    let mut path = Text::<255>::new();
    let there = |path: &str| matches!(partmaps::what(path), Ok(What::Block(_)));
    if !device.contains('/') && !there(device) {
        path.push_str("/dev/mapper/").map_err(|_| Trouble::TooLong)?;
    }
    path.push_str(device).map_err(|_| Trouble::TooLong)?;
    match partmaps::what(&path)? {
        What::Block(devno) => maps.parent(&path, devno),
        What::File | What::Other => Err(Trouble::NoDisk),
    }
}

fn complain(cx: &mut Cx<'_>, device: &str, found: &Found<'_>) -> i32 {
    let mut failed = DONE;
    for complaint in found.complaints() {
        if partmaps::refused(complaint) {
            failed = FAILED;
        }
        let _ = write!(cx.err, "corepath: {device}: ");
        let _ = partmaps::complain(complaint, cx.err);
        let _ = cx.err.write_str("\n");
    }
    if found.lost() > 0 {
        let _ = writeln!(cx.err, "corepath: {device}: {} complaints more", found.lost());
    }
    if found.complete() { failed } else { FAILED }
}

#[inline(never)]
fn list(cx: &mut Cx<'_>, asked: &Asked<'_>) -> Result<i32, Trouble> {
    let mut partitions = Vec::<Partition, 256>::new();
    let mut complaints = Vec::<Complaint, 32>::new();
    let mut found = Found::new(&mut partitions, &mut complaints);
    // An image is read as it is: a listing needs neither a loop device nor root.
    let image = matches!(partmaps::what(asked.device), Ok(What::File));
    let (kind, name) = if image {
        let mut disk = partmaps::open(asked.device)?;
        disk.set_block_size(asked.block_size.unwrap_or(512));
        let name = Text::try_from(last_part(asked.device)).map_err(|_| Trouble::TooLong)?;
        (partmaps::read_disk(&mut disk, &asked.options, &mut found)?, name)
    } else {
        let parent = parent(&mut Maps::open()?, asked.device)?;
        (partmaps::read(&parent, &asked.options, &mut found)?, parent.name)
    };
    let delimiter = links::delimiter(&name, asked.delimiter);
    let _ = if asked.json { document(cx.out, kind, &name, delimiter, &found) } else { lines(cx.out, kind, &name, delimiter, &found) };
    Ok(complain(cx, asked.device, &found))
}

fn type_of(kind: Type, out: &mut dyn Write) -> fmt::Result {
    match kind {
        Type::None => Ok(()),
        Type::Dos(byte) => write!(out, "{byte:02x}"),
        Type::Gpt(guid) => write!(out, "{guid}"),
        Type::Bsd(byte) => write!(out, "{byte}"),
        Type::Tag(tag) => write!(out, "{}", u32::from(tag)),
    }
}

#[inline(never)]
fn lines(out: &mut dyn Write, kind: Option<Kind>, name: &str, delimiter: &str, found: &Found<'_>) -> fmt::Result {
    let Some(kind) = kind else { return writeln!(out, "{name}: no partition table") };
    writeln!(out, "{name}: {}", kind.word())?;
    for p in found.partitions() {
        write!(out, "{name}{delimiter}{} start={} size={}", p.number, p.start.0, p.length.0)?;
        if p.container != 0 {
            write!(out, " in={}", p.container)?;
        }
        if p.kind != Type::None {
            out.write_str(" type=")?;
            type_of(p.kind, out)?;
        }
        if p.unique != Unique::None {
            out.write_str(" partuuid=")?;
            p.write_unique(out)?;
        }
        if !p.name.is_empty() {
            // A name is the disk's text: nothing of it may reach a terminal as a command.
            out.write_str(" name=\"")?;
            p.name.chars().try_for_each(|c| out.write_char(if c.is_control() { '?' } else { c }))?;
            out.write_char('"')?;
        }
        out.write_char('\n')?;
    }
    Ok(())
}

/// Inside a disk of at most 2^64 bytes, so it fits.
fn sectors(sectors: Sectors) -> i64 {
    i64::try_from(sectors.0).unwrap_or(i64::MAX)
}

#[inline(never)]
fn document(out: &mut dyn Write, kind: Option<Kind>, name: &str, delimiter: &str, found: &Found<'_>) -> fmt::Result {
    let mut json = Json::new(out);
    json.open("", '{')?;
    json.text("device", name)?;
    json.text("table", kind.map_or("", Kind::word))?;
    json.open("partitions", '[')?;
    for p in found.partitions() {
        json.open("", '{')?;
        json.number("number", i64::from(p.number))?;
        json.with("map", &|out| write!(out, "{name}{delimiter}{}", p.number))?;
        json.number("start", sectors(p.start))?;
        json.number("size", sectors(p.length))?;
        json.number("container", i64::from(p.container))?;
        json.with("type", &|out| type_of(p.kind, out))?;
        json.with("partuuid", &|out| p.write_unique(out))?;
        json.with("name", &|out| write!(out, "{}", p.name))?;
        json.close('}')?;
    }
    json.close(']')?;
    json.open("complaints", '[')?;
    for complaint in found.complaints() {
        json.with("", &|out| partmaps::complain(complaint, out))?;
    }
    json.close(']')?;
    json.close('}')
}

#[inline(never)]
fn add(cx: &mut Cx<'_>, asked: &Asked<'_>) -> Result<i32, Trouble> {
    let mut maps = Maps::open()?;
    maps.ready().map_err(Trouble::Dm)?;
    let parent = parent(&mut maps, asked.device)?;
    let delimiter = links::delimiter(&parent.name, asked.delimiter);
    let mut partitions = Vec::<Partition, 256>::new();
    let mut complaints = Vec::<Complaint, 32>::new();
    let mut found = Found::new(&mut partitions, &mut complaints);
    partmaps::read(&parent, &asked.options, &mut found)?;
    let mut status = complain(cx, asked.device, &found);
    let mut done = Vec::<Touched, 256>::new();
    for p in found.partitions() {
        match maps.add(&parent, delimiter, p, asked.read_only) {
            Ok((made, name)) => {
                let _ = writeln!(cx.out, "{name} {}", made.devno());
                if asked.links {
                    status = link(cx, &maps, &parent, made.devno(), &name, p).max(status);
                }
                let _ = done.push((made.devno(), Some(p.number)));
            }
            Err(trouble) => status = cx.fail(format_args!("{}{delimiter}{}: {trouble}", parent.name, p.number)),
        }
    }
    settle(cx, asked, &parent, &done);
    Ok(status)
}

/// The links that udev would make for a partition map, and for its map.
#[inline(never)]
fn link(cx: &mut Cx<'_>, maps: &Maps, parent: &Parent, devno: DevNo, name: &str, p: &Partition) -> i32 {
    let wwid = map_wwid(&parent.uuid).unwrap_or("");
    let mut uuid = partmaps::Uuid::new();
    if links::partition_uuid(&parent.uuid, p.number, uuid.as_mut_view()).is_err() {
        uuid.clear();
    }
    let ids = partmaps::ids(parent, p).unwrap_or(None);
    let whole = Subject { name: &parent.name, uuid: &parent.uuid, wwid, partition: None, ids: None };
    let part = Subject { name, uuid: &uuid, partition: Some(p), ids: ids.as_ref(), ..whole };
    let mut status = DONE;
    for (subject, devno) in [(&whole, parent.devno), (&part, devno)] {
        // Links of a plain disk are not ours to make.
        if !wwid.is_empty()
            && let (_, Err(errno)) = devlinks::make(maps.dev.as_fd(), subject, devno)
        {
            status = cx.fail(format_args!("links of {}: {}", subject.name, Trouble::Open(errno)));
        }
    }
    status
}

/// Makes the links of a multipath map and of its partition maps that are there.
pub fn links_of(cx: &mut Cx<'_>, map: &str) -> Result<i32, Trouble> {
    let mut maps = Maps::open()?;
    let parent = parent(&mut maps, map)?;
    let mut partitions = Vec::<Partition, 256>::new();
    let mut complaints = Vec::<Complaint, 1>::new();
    let mut found = Found::new(&mut partitions, &mut complaints);
    partmaps::read(&parent, &Options::default(), &mut found)?;
    let mut status = DONE;
    for p in found.partitions() {
        if let Some(seen) = maps.find(&parent, p.number)? {
            status = link(cx, &maps, &parent, seen.devno, &seen.name, p).max(status);
        }
    }
    Ok(status)
}

/// Names under /dev/mapper and what udev makes besides are there, or gone, when we return.
fn settle(cx: &mut Cx<'_>, asked: &Asked<'_>, parent: &Parent, done: &[Touched]) {
    if !partmaps::settle(parent, links::delimiter(&parent.name, asked.delimiter), done) {
        let device = asked.device;
        let _ = writeln!(cx.err, "corepath: {device}: udev has not handled the maps yet");
    }
}

#[inline(never)]
fn delete(cx: &mut Cx<'_>, asked: &Asked<'_>) -> Result<i32, Trouble> {
    let mut maps = Maps::open()?;
    maps.ready().map_err(Trouble::Dm)?;
    let parent = parent(&mut maps, asked.device)?;
    let mut status = DONE;
    let mut done = Vec::<Touched, 256>::new();
    for number in partmaps::numbers() {
        let Some(seen) = maps.find(&parent, number)? else { continue };
        match maps.remove(&parent, &seen) {
            Ok(()) => {
                let _ = writeln!(cx.out, "{}", seen.name);
                devlinks::clear(maps.dev.as_fd(), seen.devno);
                let _ = done.push((seen.devno, None));
            }
            Err(trouble) => status = cx.fail(format_args!("{}: {trouble}", seen.name)),
        }
    }
    settle(cx, asked, &parent, &done);
    Ok(status)
}
