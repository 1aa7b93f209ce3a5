//! Partition maps for the commands that make them by hand (`kpartx`, `corepath partitions`): which device is meant, its table, the maps over it.
//! The daemon does the same through the engine.
//!
//! A map of somebody else, told by its uuid, is never touched. A multipath map's table is read through a path that is up, not through
//! the map: a map without paths would queue the read for ever.

use super::say;
use crate::diskread::{self, Disk, What};
use crate::dmioctl::{self, Control, Failure, Page};
use crate::fault::{Errno, Full};
use crate::files;
use crate::model::{DevNo, DmPathState, GroupState, MapName, Sectors, Text, last_part};
use crate::raw::{AsFd, OwnedFd};
use crate::wait;
use crate::wire::dm::{Content, Cookie, Request, Target, UUID_LEN, mangle, printable};
use crate::wire::links;
use crate::wire::partition::{self, Complaint, Found, Kind, MAX_NUMBER, Options, Partition};
use crate::wire::superblock::{self, Ids};
use crate::wire::table::{Status, Table};
use core::fmt::{self, Write};
use core::time::Duration;

/// A dm uuid.
pub type Uuid = Text<UUID_LEN>;

/// udev's flags (wire::dm::Cookie): we are the primary source and made the node ourselves; nobody waits for udev.
const FRESH: Cookie = Cookie(0x0060);
/// The same with multipath's "only reloaded" flag, which kpartx sets too.
const RELOADED: Cookie = Cookie(0x0160);

/// Why something was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The device cannot be looked at or opened.
    Open(Errno),
    /// No block device and no regular file.
    NoDisk,
    /// The multipath map has no path that could be read through.
    NoPath,
    Read(Errno),
    Dm(Errno),
    /// A name, uuid or path that is too long.
    TooLong,
    /// The name belongs to a map of somebody else.
    Foreign,
    /// The map is there, but is no linear map over this device.
    NotOurs,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Dm(failure.errno())
    }
}

impl From<Full> for Trouble {
    fn from(_: Full) -> Trouble {
        Trouble::TooLong
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, errno) = match *self {
            Trouble::Open(errno) => ("cannot be opened", Some(errno)),
            Trouble::NoDisk => ("is neither a block device nor a regular file", None),
            Trouble::NoPath => ("has no usable path to read its table through", None),
            Trouble::Read(errno) => ("its table cannot be read", Some(errno)),
            Trouble::Dm(errno) => ("device-mapper refuses", Some(errno)),
            Trouble::TooLong => ("its name is too long", None),
            Trouble::Foreign => ("the name belongs to another map", None),
            Trouble::NotOurs => ("is no partition map of this device", None),
        };
        f.write_str(words)?;
        if let Some(errno) = errno {
            f.write_str(": ")?;
            say::errno(errno, f)?;
        }
        Ok(())
    }
}

/// The device whose partitions are meant.
#[derive(Clone, Default, Debug)]
pub struct Parent {
    pub devno: DevNo,
    /// Name of a dm device, else the last part of the path.
    pub name: MapName,
    pub uuid: Uuid,
    /// What is opened to read the table, below /dev or a path.
    pub read_from: Text<255>,
    /// A dm device whose table says `no_partitions`.
    pub no_partitions: bool,
}

/// A map that is there.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    pub devno: DevNo,
    pub name: MapName,
    pub uuid: Uuid,
    pub read_only: bool,
    pub suspended: bool,
    /// It has no table.
    pub empty: bool,
    /// Of a map with one linear target: its device, start there, and length.
    pub linear: Option<(DevNo, Sectors, Sectors)>,
}

/// What adding came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Made {
    Created(DevNo),
    Reloaded(DevNo),
    /// Was there as wanted.
    Same(DevNo),
}

impl Made {
    pub fn devno(self) -> DevNo {
        let (Made::Created(devno) | Made::Reloaded(devno) | Made::Same(devno)) = self;
        devno
    }
}

/// The control device and /dev, for one command.
pub struct Maps {
    pub dev: OwnedFd,
    control: Result<Control, Errno>,
    page: Page,
}

fn text<const N: usize>(bytes: &[u8]) -> Result<Text<N>, Trouble> {
    printable(bytes).and_then(|text| Text::try_from(text).ok()).ok_or(Trouble::TooLong)
}

impl Maps {
    pub fn open() -> Result<Maps, Trouble> {
        let dev = files::open_dir("/dev").map_err(Trouble::Open)?;
        let control = Control::open(dev.as_fd());
        Ok(Maps { dev, control, page: Page::new() })
    }

    /// Is device-mapper there? The error says why not.
    pub fn ready(&self) -> Result<(), Errno> {
        self.control.as_ref().map(|_| ()).map_err(|errno| *errno)
    }

    fn submit(&mut self, target: Target<'_>, request: &Request<'_>) -> Result<crate::wire::dm::Reply<'_>, Trouble> {
        let control = self.control.as_ref().map_err(|errno| Trouble::Dm(*errno))?;
        Ok(control.submit(target, request, &mut self.page)?)
    }

    /// The map that `target` names; `None` when there is none.
    #[inline(never)]
    pub fn look(&mut self, target: Target<'_>) -> Result<Option<Seen>, Trouble> {
        let reply = match self.submit(target, &Request::TableLine) {
            Err(Trouble::Dm(Errno::NXIO)) => return Ok(None),
            other => other?,
        };
        let info = reply.info();
        let mut seen = Seen {
            devno: info.devno,
            name: text(info.name)?,
            uuid: text(info.uuid)?,
            read_only: info.flags.read_only(),
            suspended: info.flags.suspended(),
            empty: info.target_count == 0,
            linear: None,
        };
        if let Ok(line) = reply.only_line(Some("linear"))
            && let Ok((devno, start)) = line.linear()
        {
            seen.linear = Some((devno, start, line.length));
        }
        Ok(Some(seen))
    }

    /// The block device `path`, as a dm device if it is one.
    #[inline(never)]
    pub fn parent(&mut self, path: &str, devno: DevNo) -> Result<Parent, Trouble> {
        let mut parent = Parent { devno, read_from: text(path.as_bytes())?, ..Parent::default() };
        let seen = match self.look(Target::Device(devno)) {
            Ok(seen) => seen,
            // Without device-mapper nothing is a dm device.
            Err(Trouble::Dm(_)) if self.control.is_err() => None,
            Err(other) => return Err(other),
        };
        match seen {
            Some(seen) => {
                parent.name = seen.name;
                parent.uuid = seen.uuid;
                self.paths(&mut parent)?;
            }
            None => parent.name = text(last_part(path).as_bytes())?,
        }
        if parent.uuid.is_empty() {
            links::devnode_uuid(devno, parent.uuid.as_mut_view())?;
        }
        Ok(parent)
    }

    /// For a multipath map: what is in its table, and a path that is up to read through instead of it.
    #[inline(never)]
    fn paths(&mut self, parent: &mut Parent) -> Result<(), Trouble> {
        let reply = self.submit(Target::Device(parent.devno), &Request::TableLine)?;
        let Ok(line) = reply.only_line(Some("multipath")) else { return Ok(()) };
        if let Some(table) = line.text().ok().and_then(|text| Table::parse(text).ok()) {
            parent.no_partitions = table.features.other.split(' ').any(|word| word == "no_partitions");
        }
        let reply = self.submit(Target::Device(parent.devno), &Request::Status)?;
        let status = reply.only_line(Some("multipath")).ok().and_then(|line| line.text().ok()).and_then(|text| Status::parse(text).ok());
        // Without a path there is nothing to read through; what is there can be removed nevertheless.
        parent.read_from.clear();
        let Some(status) = status else { return Ok(()) };
        let rank = |group: u8| match status.groups.get(usize::from(group)) {
            Some(GroupState::Active) => 2,
            Some(GroupState::Enabled) => 1,
            _ => 0,
        };
        let up = status.paths.iter().filter(|path| path.state == DmPathState::Active);
        if let Some(path) = up.max_by_key(|path| rank(path.group)) {
            parent.read_from = device_name(path.devno)?;
        }
        Ok(())
    }

    /// Makes, or brings up to date, the map of one partition. One that is there under another name is renamed.
    #[inline(never)]
    pub fn add(&mut self, parent: &Parent, delimiter: &str, partition: &Partition, read_only: bool) -> Result<(Made, MapName), Trouble> {
        let (name, uuid) = names(parent, delimiter, partition.number)?;
        let content = Content::Linear { device: parent.devno, start: partition.start };
        let load = Request::Load { size: partition.length, read_only, content };
        if let Some(seen) = self.look(Target::Uuid(&uuid))? {
            if seen.name != name {
                self.submit(Target::Name(&seen.name), &Request::Rename { to: &name, cookie: FRESH })?;
                let _ = dmioctl::unlink(self.dev.as_fd(), &seen.name);
            }
            let wanted = (parent.devno, partition.start, partition.length);
            let same = seen.linear == Some(wanted) && seen.read_only == read_only && !seen.suspended;
            if !same {
                self.submit(Target::Uuid(&uuid), &load)?;
                self.submit(Target::Uuid(&uuid), &Request::Resume { cookie: RELOADED })?;
            }
            self.link(&name, seen.devno)?;
            return Ok((if same { Made::Same(seen.devno) } else { Made::Reloaded(seen.devno) }, name));
        }
        if self.look(Target::Name(&name))?.is_some() {
            return Err(Trouble::Foreign);
        }
        let devno = self.submit(Target::NONE, &Request::Create { name: &name, uuid: &uuid })?.info().devno;
        let live = match self.submit(Target::Uuid(&uuid), &load) {
            Ok(_) => self.submit(Target::Uuid(&uuid), &Request::Resume { cookie: FRESH }).map(|_| ()),
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = live {
            // A map without a table would be in everybody's way.
            let _ = self.submit(Target::Uuid(&uuid), &Request::Remove { deferred: false, cookie: FRESH });
            return Err(trouble);
        }
        self.link(&name, devno)?;
        Ok((Made::Created(devno), name))
    }

    fn link(&self, name: &str, devno: DevNo) -> Result<(), Trouble> {
        dmioctl::link(self.dev.as_fd(), name, devno).map_err(Trouble::Open)
    }

    /// The map of partition `number`, if there is one: its uuid says so, whatever its name is.
    pub fn find(&mut self, parent: &Parent, number: u32) -> Result<Option<Seen>, Trouble> {
        let mut uuid = Uuid::new();
        links::partition_uuid(&parent.uuid, number, uuid.as_mut_view())?;
        self.look(Target::Uuid(&uuid))
    }

    /// Any map with one linear target over `parent`, made by whomever: what `kpartx -fd` removes. One at a time, as removing changes the list.
    pub fn find_any(&mut self, parent: &Parent, passed: &[DevNo]) -> Result<Option<Seen>, Trouble> {
        let mut path = Text::<64>::new();
        write!(path.as_mut_view(), "sys/dev/block/{}/holders", parent.devno).map_err(|_| Trouble::TooLong)?;
        let root = files::open_dir("/").map_err(Trouble::Open)?;
        let holders = files::open_dir_at(&root, &path).map_err(Trouble::Open)?;
        let mut found = Ok(None);
        files::names(&holders, &mut |holder| {
            let mut room = [0; 32];
            let mut path = Text::<64>::new();
            let dev = match write!(path.as_mut_view(), "{holder}/dev") {
                Ok(()) => files::read(&holders, &path, &mut room).ok(),
                Err(_) => None,
            };
            if let Some(devno) = dev.and_then(|text| DevNo::parse(core::str::from_utf8(text).ok()?))
                && holder.starts_with("dm-")
                && !passed.contains(&devno)
            {
                found = self.look(Target::Device(devno)).map(|seen| seen.filter(|seen| over(seen, parent)));
            }
            matches!(found, Ok(None))
        })
        .map_err(Trouble::Open)?;
        found
    }

    /// Removes a map that was found, if it is a linear map over `parent`, or has no table: the rest of a failed attempt.
    pub fn remove(&mut self, parent: &Parent, seen: &Seen) -> Result<(), Trouble> {
        if !over(seen, parent) && !seen.empty {
            return Err(Trouble::NotOurs);
        }
        self.submit(Target::Name(&seen.name), &Request::Remove { deferred: false, cookie: FRESH })?;
        let _ = dmioctl::unlink(self.dev.as_fd(), &seen.name);
        Ok(())
    }

    /// Name of a dm device by number.
    pub fn name_of(&mut self, devno: DevNo) -> Result<Option<Seen>, Trouble> {
        self.look(Target::Device(devno))
    }
}

/// Longest wait for udev: it may be stopped, or busy with a machine that boots.
const UDEV_PATIENCE: Duration = Duration::from_secs(5);

/// What was done to a map: the partition that it is of now, or `None` if it is gone. Their names are made again when they are needed: hundreds of
/// them would not fit the stack.
pub type Touched = (DevNo, Option<u32>);

/// Waits until udev has seen what was done to maps over `parent`. Without udev there is nothing to wait for. False when udev took too long.
///
/// By udev's database, which is written when a device's links are right: the semaphores that libdm waits on are lost with a daemon that
/// dies, and belong to another IPC namespace in a container.
#[inline(never)]
pub fn settle(parent: &Parent, delimiter: &str, maps: &[Touched]) -> bool {
    let Ok(run) = files::open_dir("/run/udev") else { return true };
    if !files::exists(&run, "control") {
        return true;
    }
    let until = wait::now() + UDEV_PATIENCE;
    let mut left = maps.iter();
    let mut next = left.next();
    while let Some(&(devno, number)) = next {
        let name = number.and_then(|number| names(parent, delimiter, number).ok());
        if handled(&run, devno, name.as_ref().map(|(name, _)| name.as_str())) {
            next = left.next();
        } else if wait::now() < until {
            wait::sleep(5);
        } else {
            return false;
        }
    }
    true
}

fn handled(run: &OwnedFd, devno: DevNo, name: Option<&str>) -> bool {
    let mut path = Text::<64>::new();
    if write!(path.as_mut_view(), "data/b{devno}").is_err() {
        return true;
    }
    let mut room = [0; 4096];
    match (files::read_front(run, &path, &mut room), name) {
        (Ok(entry), Some(name)) => entry.split(|b| *b == b'\n').any(|line| line.strip_prefix(b"E:DM_NAME=") == Some(name.as_bytes())),
        (Ok(_), None) => false,
        (Err(_), name) => name.is_none(),
    }
}

/// Is it one linear target over `parent`?
fn over(seen: &Seen, parent: &Parent) -> bool {
    seen.linear.is_some_and(|(devno, ..)| devno == parent.devno)
}

/// Name and uuid of the map of partition `number`, in udev's spelling.
#[inline(never)]
fn names(parent: &Parent, delimiter: &str, number: u32) -> Result<(MapName, Uuid), Trouble> {
    let (mut plain, mut name, mut uuid) = (MapName::new(), MapName::new(), Uuid::new());
    links::partition_name(&parent.name, delimiter, number, plain.as_mut_view())?;
    mangle(&plain, name.as_mut_view()).map_err(|_| Trouble::TooLong)?;
    links::partition_uuid(&parent.uuid, number, uuid.as_mut_view())?;
    Ok((name, uuid))
}

/// Below /dev, the node that the kernel made for a device number.
pub fn device_name(devno: DevNo) -> Result<Text<255>, Trouble> {
    let mut path = Text::<64>::new();
    write!(path.as_mut_view(), "/sys/dev/block/{devno}/uevent").map_err(|_| Trouble::TooLong)?;
    let root = files::open_dir("/").map_err(Trouble::Open)?;
    let mut room = [0; 1024];
    let uevent = files::read(&root, path.trim_start_matches('/'), &mut room).map_err(Trouble::Open)?;
    let name = uevent.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"DEVNAME=")).ok_or(Trouble::NoDisk)?;
    let mut node = Text::new();
    node.push_str("/dev/").and_then(|()| node.push_str(printable(name).unwrap_or(""))).map_err(|_| Trouble::TooLong)?;
    Ok(node)
}

/// Reads the table of `parent` into `found`.
pub fn read(parent: &Parent, options: &Options, found: &mut Found<'_>) -> Result<Option<Kind>, Trouble> {
    read_disk(&mut through(parent)?, options, found)
}

/// Opens what the parent is read through.
fn through(parent: &Parent) -> Result<Disk, Trouble> {
    if parent.read_from.is_empty() { Err(Trouble::NoPath) } else { open(&parent.read_from) }
}

/// Opens a device or image by its path.
pub fn open(path: &str) -> Result<Disk, Trouble> {
    Disk::open(files::current_dir(), path).map_err(Trouble::Open)
}

/// Reads the table of an open disk into `found`.
pub fn read_disk(disk: &mut Disk, options: &Options, found: &mut Found<'_>) -> Result<Option<Kind>, Trouble> {
    let mut page = Page::new();
    partition::read(&mut disk.reader(&mut page, None), options, found).map_err(Trouble::Read)
}

/// Ids of the file system on a partition.
pub fn ids(parent: &Parent, partition: &Partition) -> Result<Option<Ids>, Trouble> {
    let disk = through(parent)?;
    let mut page = Page::new();
    superblock::read(&mut disk.reader(&mut page, None), partition.start, partition.length).map_err(Trouble::Read)
}

/// What `path` is.
pub fn what(path: &str) -> Result<What, Trouble> {
    diskread::what(files::current_dir(), path).map_err(Trouble::Open)
}

/// Does the complaint mean that a partition of the table is not there for anybody?
pub fn refused(complaint: &Complaint) -> bool {
    matches!(
        complaint,
        Complaint::Outside { .. }
            | Complaint::Reversed { .. }
            | Complaint::Overlap { .. }
            | Complaint::NotInParent { .. }
            | Complaint::TooMany { .. }
    )
}

/// All numbers that a map may have, highest first: a contained slice goes before its container.
pub fn numbers() -> impl Iterator<Item = u32> {
    (1..=MAX_NUMBER).rev()
}

/// A complaint in words, without a newline.
#[inline(never)]
pub fn complain(complaint: &Complaint, out: &mut dyn Write) -> fmt::Result {
    use crate::wire::partition::{GptCopy, GptFault};
    let copy_word = |copy| match copy {
        GptCopy::Primary => "primary",
        GptCopy::Backup => "backup",
        GptCopy::Alternate => "alternate",
    };
    match *complaint {
        Complaint::Protective { start } => write!(out, "protective MBR starts at block {start}, not 1: not taken for a GPT (-g does)"),
        Complaint::Gpt { copy, fault } => {
            write!(out, "{} GPT not believed: ", copy_word(copy))?;
            match fault {
                GptFault::NoSignature => out.write_str("no signature"),
                GptFault::HeaderSize(size) => write!(out, "header of {size} bytes"),
                GptFault::HeaderCrc => out.write_str("header checksum"),
                GptFault::MyLba(block) => write!(out, "header of block {block}"),
                GptFault::Usable => out.write_str("usable blocks outside the disk"),
                GptFault::EntrySize(size) => write!(out, "entries of {size} bytes"),
                GptFault::EntryCount(count) => write!(out, "{count} entries do not fit"),
                GptFault::EntriesCrc => out.write_str("entries checksum"),
                GptFault::Unreadable(errno) => say::errno(errno, out),
            }
        }
        Complaint::GptBackupUsed(copy) => write!(out, "{} GPT used; repair the primary", copy_word(copy)),
        Complaint::Outside { number, start, length } => {
            write!(out, "partition {number} refused: {length} sectors from {start} are not all on the disk")
        }
        Complaint::Reversed { number } => write!(out, "partition {number} refused: ends before it starts"),
        Complaint::Overlap { number, with } => write!(out, "partition {number} refused: overlaps partition {with}"),
        Complaint::NotInParent { number, parent } => write!(out, "partition {number} refused: reaches out of partition {parent}"),
        Complaint::TooMany { number } => write!(out, "partition {number} refused: too many partitions"),
        Complaint::ChainLoop { sector } => write!(out, "chain of logical partitions loops at sector {sector}"),
        Complaint::ChainBroken { sector } => write!(out, "chain of logical partitions breaks at sector {sector}"),
        Complaint::ChainTooLong { sector } => write!(out, "chain of logical partitions too long at sector {sector}"),
        Complaint::Unreadable { sector, errno } => {
            write!(out, "table incomplete: sector {sector} unreadable: ")?;
            say::errno(errno, out)
        }
        Complaint::Checksum(kind) => write!(out, "{} label not believed: checksum", kind.word()),
        Complaint::Unsupported(kind) => write!(out, "{} label of an unknown version or block size", kind.word()),
    }
}
