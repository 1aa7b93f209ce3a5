//! A device mapper that takes the very bytes of an ioctl apart, with a decoder of its own, and behaves as drivers/md/dm-ioctl.c and
//! dm-mpath.c do as far as corepath can see it.

use corepath::fault::Errno;
use corepath::model::DevNo;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the device mapper asks of block devices when a table is loaded.
pub trait Disks {
    /// Size in sectors and write protection, or why the device does not open.
    fn open(&self, devno: DevNo) -> Result<(u64, bool), Errno>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct KPath {
    pub devno: DevNo,
    pub args: Vec<String>,
    pub active: bool,
    pub fails: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KGroup {
    pub selector: String,
    pub bypassed: bool,
    pub paths: Vec<KPath>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum KTable {
    Multipath { queue: bool, features: Vec<String>, handler: Vec<String>, groups: Vec<KGroup>, next: usize, current: Option<usize> },
    Linear { parent: DevNo, start: u64 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    pub minor: u32,
    pub name: String,
    pub uuid: String,
    pub live: Option<(u64, bool, KTable)>,
    pub inactive: Option<(u64, bool, KTable)>,
    pub suspended: bool,
    pub opens: u32,
    pub event_nr: u32,
    pub deferred: bool,
}

impl Device {
    pub fn groups(&self) -> &[KGroup] {
        match &self.live {
            Some((_, _, KTable::Multipath { groups, .. })) => groups,
            _ => &[],
        }
    }
    pub fn path(&self, devno: DevNo) -> Option<&KPath> {
        self.groups().iter().flat_map(|g| &g.paths).find(|p| p.devno == devno)
    }
    pub fn queues(&self) -> bool {
        matches!(self.live, Some((_, _, KTable::Multipath { queue: true, .. })))
    }
    pub fn devno(&self) -> DevNo {
        DevNo::new(253, self.minor)
    }
    pub fn members(&self) -> Vec<DevNo> {
        self.groups().iter().flat_map(|g| &g.paths).map(|p| p.devno).collect()
    }
}

/// What an ioctl gave back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub devno: DevNo,
    pub name: String,
    pub uuid: String,
    pub size: u64,
    pub read_only: bool,
    pub suspended: bool,
    pub inactive: bool,
    pub deferred: bool,
    pub opens: u32,
    pub event_nr: u32,
    /// Table or status line, where one was asked.
    pub text: Option<String>,
    pub linear: Option<(DevNo, u64)>,
}

/// One request, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Create { name: String, uuid: String },
    Remove { deferred: bool },
    Rename { to: String },
    Suspend,
    Resume,
    Info,
    Load { size: u64, read_only: bool, kind: String, text: String },
    Clear,
    Status,
    Table,
    Message(String),
}

#[derive(Default)]
pub struct Dm {
    pub devices: BTreeMap<u32, Device>,
    /// Selectors this kernel lacks.
    pub missing_selectors: Vec<String>,
    /// No table is swapped in, as when a disk has shrunk since it was loaded.
    pub refuse_swap: bool,
    next_minor: u32,
    /// Loads and resumes carried out, for "a second run changes nothing".
    pub writes: u32,
    /// Likewise messages, suspends, renames and cleared tables.
    pub touches: u32,
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(b[at..at + 4].try_into().unwrap())
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(b[at..at + 8].try_into().unwrap())
}
fn text_at(b: &[u8]) -> String {
    let end = b.iter().position(|&c| c == 0).expect("terminated text");
    String::from_utf8(b[..end].to_vec()).expect("printable text")
}

/// Takes the bytes apart; what no kernel would accept is a defect of the emitter.
pub fn decode(opcode: u32, b: &[u8]) -> (String, String, u64, Command) {
    assert_eq!(opcode & 0xffff_ff00, 0xc138_fd00, "dm ioctl of the right size and direction");
    assert_eq!(u32_at(b, 0), 4, "interface major");
    let size = u32_at(b, 12) as usize;
    assert_eq!(size, b.len(), "data_size is what is offered");
    assert!(size <= 4096, "no buffer beyond a page");
    let start = u32_at(b, 16) as usize;
    let (count, flags) = (u32_at(b, 20), u32_at(b, 28));
    let (name, uuid, dev) = (text_at(&b[48..176]), text_at(&b[176..305]), u64_at(b, 40));
    let payload = || {
        assert!(start == 312 && size > start, "payload after the header");
        &b[start..]
    };
    let command = match opcode & 0xff {
        3 => Command::Create { name: name.clone(), uuid: uuid.clone() },
        4 => Command::Remove { deferred: flags & 0x2_0000 != 0 },
        5 => Command::Rename { to: text_at(payload()) },
        6 => {
            // A flush suspend errors queued I/O; so does a resume whose internal suspend flushes.
            assert_eq!(flags & 0xc00, 0xc00, "NOFLUSH and SKIP_LOCKFS, always");
            if flags & 2 != 0 { Command::Suspend } else { Command::Resume }
        }
        7 => Command::Info,
        9 => {
            assert_eq!(count, 1, "one target");
            let p = payload();
            let next = u32_at(p, 20) as usize;
            assert!(next.is_multiple_of(8) && next <= p.len(), "next target aligned and inside");
            assert_eq!(u64_at(p, 0), 0, "from sector 0");
            Command::Load { size: u64_at(p, 8), read_only: flags & 1 != 0, kind: text_at(&p[24..40]), text: text_at(&p[40..]) }
        }
        10 => Command::Clear,
        12 => {
            if flags & 0x10 != 0 {
                Command::Table
            } else {
                Command::Status
            }
        }
        14 => {
            let p = payload();
            assert_eq!(u64_at(p, 0), 0, "sector 0");
            Command::Message(text_at(&p[8..]))
        }
        other => panic!("unexpected ioctl {other}"),
    };
    (name, uuid, dev, command)
}

/// Words of a table, taken one by one as the kernel's dm_split_args and dm_read_arg do.
struct Args<'a>(std::str::SplitAsciiWhitespace<'a>);

impl<'a> Args<'a> {
    fn word(&mut self) -> Result<&'a str, Errno> {
        self.0.next().ok_or(Errno::INVAL)
    }
    fn number(&mut self, most: u32) -> Result<u32, Errno> {
        self.word()?.parse().ok().filter(|&n| n <= most).ok_or(Errno::INVAL)
    }
    fn words(&mut self, n: u32) -> Result<Vec<String>, Errno> {
        (0..n).map(|_| self.word().map(String::from)).collect()
    }
}

fn devno(word: &str) -> Result<DevNo, Errno> {
    let (a, b) = word.split_once(':').ok_or(Errno::INVAL)?;
    Ok(DevNo::new(a.parse().map_err(|_| Errno::INVAL)?, b.parse().map_err(|_| Errno::INVAL)?))
}

impl Dm {
    fn parse_multipath(&self, text: &str) -> Result<KTable, Errno> {
        let mut a = Args(text.split_ascii_whitespace());
        let n = a.number(8)?;
        let words = a.words(n)?;
        let (mut queue, mut features, mut i) = (false, Vec::new(), 0);
        while i < words.len() {
            match words[i].as_str() {
                "queue_if_no_path" => queue = true,
                "retain_attached_hw_handler" => features.push(words[i].clone()),
                "pg_init_retries" | "pg_init_delay_msecs" | "queue_mode" => {
                    features.push(words[i].clone());
                    i += 1;
                    features.push(words.get(i).ok_or(Errno::INVAL)?.clone());
                }
                _ => return Err(Errno::INVAL),
            }
            i += 1;
        }
        let n = a.number(1024)?;
        let handler = a.words(n)?;
        let groups_n = a.number(1024)?;
        let first = a.number(1024)?;
        if (groups_n == 0) != (first == 0) || first > groups_n {
            return Err(Errno::INVAL);
        }
        let mut groups = Vec::new();
        for _ in 0..groups_n {
            let selector = a.word()?.to_string();
            if self.missing_selectors.contains(&selector)
                || !["round-robin", "queue-length", "service-time", "historical-service-time", "io-affinity"].contains(&selector.as_str())
            {
                return Err(Errno::INVAL);
            }
            let n = a.number(1024)?;
            let _ = a.words(n)?;
            let (paths_n, args_n) = (a.number(1024)?, a.number(1024)?);
            if paths_n == 0 {
                return Err(Errno::INVAL);
            }
            let mut paths = Vec::new();
            for _ in 0..paths_n {
                paths.push(KPath { devno: devno(a.word()?)?, args: a.words(args_n)?, active: true, fails: 0 });
            }
            groups.push(KGroup { selector, bypassed: false, paths });
        }
        if a.0.next().is_some() {
            return Err(Errno::INVAL);
        }
        Ok(KTable::Multipath { queue, features, handler, groups, next: (first as usize).saturating_sub(1), current: None })
    }

    pub fn by_uuid(&self, uuid: &str) -> Option<&Device> {
        self.devices.values().find(|d| d.uuid == uuid)
    }
    pub fn by_name(&self, name: &str) -> Option<&Device> {
        self.devices.values().find(|d| d.name == name)
    }

    fn find(&self, name: &str, uuid: &str, dev: u64) -> Result<u32, Errno> {
        let ways = usize::from(!name.is_empty()) + usize::from(!uuid.is_empty()) + usize::from(dev != 0);
        assert_eq!(ways, 1, "a device is named in exactly one way");
        self.devices
            .values()
            .find(|d| {
                (!name.is_empty() && d.name == name) || (!uuid.is_empty() && d.uuid == uuid) || (dev != 0 && d.devno().to_kernel() == dev)
            })
            .map(|d| d.minor)
            .ok_or(Errno::NXIO)
    }

    pub fn create(&mut self, name: &str, uuid: &str) -> Result<u32, Errno> {
        if self.devices.values().any(|d| d.name == name || (!uuid.is_empty() && d.uuid == uuid)) {
            return Err(Errno::BUSY);
        }
        if name.is_empty() || name.contains('/') {
            return Err(Errno::INVAL);
        }
        let minor = self.next_minor;
        self.next_minor += 1;
        self.devices.insert(
            minor,
            Device {
                minor,
                name: name.into(),
                uuid: uuid.into(),
                live: None,
                inactive: None,
                suspended: false,
                opens: 0,
                event_nr: 0,
                deferred: false,
            },
        );
        Ok(minor)
    }

    /// Builds a table from its line, opening its devices.
    pub fn build(&self, minor: u32, kind: &str, text: &str, size: u64, read_only: bool, disks: &dyn Disks) -> Result<KTable, Errno> {
        match kind {
            "multipath" => {
                let table = self.parse_multipath(text)?;
                let KTable::Multipath { groups, .. } = &table else { unreachable!() };
                let device = &self.devices[&minor];
                let held = if device.live.as_ref().is_some_and(|live| live.1 == read_only) { device.members() } else { Vec::new() };
                for p in groups.iter().flat_map(|g| &g.paths) {
                    // dm.c, dm_get_table_device: what this mapped device has open already, and for the same, is not opened again.
                    if held.contains(&p.devno) {
                        continue;
                    }
                    let (have, ro) = disks.open(p.devno)?;
                    if ro && !read_only {
                        return Err(Errno::ROFS);
                    }
                    if have < size {
                        return Err(Errno::INVAL);
                    }
                }
                Ok(table)
            }
            "linear" => {
                let mut a = Args(text.split_ascii_whitespace());
                let parent = devno(a.word()?)?;
                let start: u64 = a.word()?.parse().map_err(|_| Errno::INVAL)?;
                let p = self.devices.values().find(|d| d.devno() == parent).ok_or(Errno::NXIO)?;
                let have = p.live.as_ref().map_or(0, |l| l.0);
                if start + size > have { Err(Errno::INVAL) } else { Ok(KTable::Linear { parent, start }) }
            }
            _ => Err(Errno::INVAL),
        }
    }

    fn parent_of(table: &Option<(u64, bool, KTable)>) -> Option<DevNo> {
        match table {
            Some((_, _, KTable::Linear { parent, .. })) => Some(*parent),
            _ => None,
        }
    }

    fn reopen(&mut self, old: Option<DevNo>, new: Option<DevNo>) {
        for d in self.devices.values_mut() {
            if Some(d.devno()) == old {
                d.opens = d.opens.saturating_sub(1);
            }
            if Some(d.devno()) == new {
                d.opens += 1;
            }
        }
    }

    pub fn remove(&mut self, minor: u32) {
        let d = self.devices.remove(&minor).unwrap();
        self.reopen(Self::parent_of(&d.live), None);
        self.reopen(Self::parent_of(&d.inactive), None);
    }

    /// A table takes effect.
    pub fn swap(&mut self, minor: u32) {
        let d = self.devices.get_mut(&minor).unwrap();
        if let Some(t) = d.inactive.take() {
            let old = d.live.replace(t);
            self.reopen(Self::parent_of(&old), None);
        }
        self.devices.get_mut(&minor).unwrap().suspended = false;
    }

    /// Carries one ioctl out.
    pub fn ioctl(&mut self, opcode: u32, bytes: &[u8], disks: &dyn Disks) -> Result<Answer, Errno> {
        let (name, uuid, dev, command) = decode(opcode, bytes);
        if let Command::Create { name, uuid } = &command {
            let minor = self.create(name, uuid)?;
            self.writes += 1;
            return Ok(self.answer(minor, None));
        }
        let minor = self.find(&name, &uuid, dev)?;
        let mut text = None;
        self.touches += u32::from(matches!(command, Command::Message(_) | Command::Suspend | Command::Rename { .. } | Command::Clear));
        match command {
            Command::Create { .. } => unreachable!(),
            Command::Info => {}
            Command::Status => text = Some(self.status_text(minor)),
            Command::Table => text = Some(self.table_text(minor)),
            Command::Load { size, read_only, kind, text } => {
                let table = self.build(minor, &kind, &text, size, read_only, disks)?;
                let d = self.devices.get_mut(&minor).unwrap();
                let old = d.inactive.replace((size, read_only, table));
                let new = Self::parent_of(&self.devices[&minor].inactive);
                self.reopen(Self::parent_of(&old), new);
                self.writes += 1;
            }
            Command::Clear => {
                let old = self.devices.get_mut(&minor).unwrap().inactive.take();
                self.reopen(Self::parent_of(&old), None);
            }
            Command::Resume => {
                let d = self.devices.get_mut(&minor).unwrap();
                if d.inactive.is_none() && d.live.is_none() {
                    return Err(Errno::INVAL);
                }
                // dm-ioctl.c, do_resume: the new table is destroyed, the device stays suspended with the old one.
                if self.refuse_swap && d.live.is_some() && d.inactive.take().is_some() {
                    d.suspended = true;
                    return Err(Errno::INVAL);
                }
                if d.inactive.is_some() || d.suspended {
                    self.writes += 1;
                }
                self.swap(minor);
            }
            Command::Suspend => self.devices.get_mut(&minor).unwrap().suspended = true,
            Command::Remove { deferred } => {
                let d = self.devices.get_mut(&minor).unwrap();
                if d.opens > 0 {
                    if !deferred {
                        return Err(Errno::BUSY);
                    }
                    d.deferred = true;
                } else {
                    let answer = self.answer(minor, None);
                    self.remove(minor);
                    self.writes += 1;
                    return Ok(answer);
                }
            }
            Command::Rename { to } => {
                if self.devices.values().any(|d| d.name == to) {
                    return Err(Errno::BUSY);
                }
                let d = self.devices.get_mut(&minor).unwrap();
                d.name = to;
                d.event_nr += 1;
            }
            Command::Message(words) => self.message(minor, &words)?,
        }
        Ok(self.answer(minor, text))
    }

    fn message(&mut self, minor: u32, words: &str) -> Result<(), Errno> {
        let d = self.devices.get_mut(&minor).unwrap();
        let w: Vec<&str> = words.split_ascii_whitespace().collect();
        if w == ["@cancel_deferred_remove"] {
            d.deferred = false;
            return Ok(());
        }
        if d.suspended {
            return Err(Errno::BUSY);
        }
        let Some((_, _, KTable::Multipath { queue, groups, next, current, .. })) = &mut d.live else { return Err(Errno::INVAL) };
        match w.as_slice() {
            ["queue_if_no_path"] => *queue = true,
            ["fail_if_no_path"] => *queue = false,
            [verb @ ("fail_path" | "reinstate_path"), dev] => {
                let dev = devno(dev)?;
                let p = groups.iter_mut().flat_map(|g| &mut g.paths).find(|p| p.devno == dev).ok_or(Errno::INVAL)?;
                let on = *verb == "reinstate_path";
                if p.active != on {
                    p.active = on;
                    p.fails += u32::from(!on);
                    d.event_nr += 1;
                }
            }
            [verb @ ("switch_group" | "disable_group" | "enable_group"), n] => {
                let n: usize = n.parse().map_err(|_| Errno::INVAL)?;
                if n == 0 || n > groups.len() {
                    return Err(Errno::INVAL);
                }
                match *verb {
                    "switch_group" => {
                        groups.iter_mut().for_each(|g| g.bypassed = false);
                        *next = n - 1;
                        *current = None;
                    }
                    "disable_group" => {
                        groups[n - 1].bypassed = true;
                        *current = None;
                    }
                    _ => groups[n - 1].bypassed = false,
                }
                d.event_nr += 1;
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    /// What an answer's header says; also what a survey reads.
    pub fn answer(&self, minor: u32, text: Option<String>) -> Answer {
        let d = &self.devices[&minor];
        Answer {
            devno: d.devno(),
            name: d.name.clone(),
            uuid: d.uuid.clone(),
            size: d.live.as_ref().map_or(0, |l| l.0),
            read_only: d.live.as_ref().is_some_and(|l| l.1),
            suspended: d.suspended,
            inactive: d.inactive.is_some(),
            deferred: d.deferred,
            opens: d.opens,
            event_nr: d.event_nr,
            text,
            linear: match &d.live {
                Some((_, _, KTable::Linear { parent, start })) => Some((*parent, *start)),
                _ => None,
            },
        }
    }

    /// dm-mpath.c, multipath_status, STATUSTYPE_TABLE.
    pub fn table_text(&self, minor: u32) -> String {
        let mut s = String::new();
        match &self.devices[&minor].live {
            Some((_, _, KTable::Multipath { queue, features, handler, groups, next, .. })) => {
                let n = features.len() + usize::from(*queue);
                write!(s, "{n} ").unwrap();
                if *queue {
                    s.push_str("queue_if_no_path ");
                }
                for f in features {
                    write!(s, "{f} ").unwrap();
                }
                match handler.first() {
                    Some(h) => write!(s, "1 {h} ").unwrap(),
                    None => s.push_str("0 "),
                }
                write!(s, "{} {} ", groups.len(), if groups.is_empty() { 0 } else { next + 1 }).unwrap();
                for g in groups {
                    let n = if g.selector == "service-time" { 2 } else { 1 };
                    write!(s, "{} 0 {} {n} ", g.selector, g.paths.len()).unwrap();
                    for p in &g.paths {
                        write!(s, "{} 1 {}", p.devno, if n == 2 { "1 " } else { "" }).unwrap();
                    }
                }
            }
            Some((_, _, KTable::Linear { parent, start })) => write!(s, "{parent} {start}").unwrap(),
            None => {}
        }
        s
    }

    /// STATUSTYPE_INFO.
    pub fn status_text(&self, minor: u32) -> String {
        let mut s = String::new();
        let Some((_, _, KTable::Multipath { handler, groups, next, current, .. })) = &self.devices[&minor].live else { return s };
        let held = usize::from(current.is_none() && !handler.is_empty());
        write!(s, "2 {held} 0 0 {} {} ", groups.len(), if groups.is_empty() { 0 } else { current.unwrap_or(*next) + 1 }).unwrap();
        for (i, g) in groups.iter().enumerate() {
            let letter = match (g.bypassed, *current == Some(i)) {
                (true, _) => 'D',
                (_, true) => 'A',
                _ => 'E',
            };
            let n = if g.selector == "service-time" { 2 } else { 0 };
            write!(s, "{letter} 0 {} {n} ", g.paths.len()).unwrap();
            for p in &g.paths {
                write!(s, "{} {} {} {}", p.devno, if p.active { 'A' } else { 'F' }, p.fails, if n == 2 { "0 1 " } else { "" }).unwrap();
            }
        }
        s
    }

    /// One request through the map; fails paths on the way as the kernel does. `good`: does this device carry I/O now?
    /// Some(true) done, Some(false) an error to the user, None queued.
    pub fn io(&mut self, minor: u32, good: &dyn Fn(DevNo) -> bool) -> Option<bool> {
        let d = self.devices.get_mut(&minor).unwrap();
        if d.suspended {
            return None;
        }
        loop {
            let Some((_, _, KTable::Multipath { queue, groups, next, current, .. })) = &mut d.live else { return Some(false) };
            let usable = |g: &KGroup| g.paths.iter().any(|p| p.active);
            let order = (*current).into_iter().chain([*next]).chain(0..groups.len());
            let chosen = order.filter(|&g| g < groups.len()).find(|&g| usable(&groups[g]) && !groups[g].bypassed);
            let chosen = chosen.or_else(|| (0..groups.len()).find(|&g| usable(&groups[g])));
            let Some(g) = chosen else {
                return if *queue { None } else { Some(false) };
            };
            if *current != Some(g) {
                *current = Some(g);
                *next = g;
            }
            let p = groups[g].paths.iter_mut().find(|p| p.active).unwrap();
            if good(p.devno) {
                return Some(true);
            }
            p.active = false;
            p.fails += 1;
            d.event_nr += 1;
        }
    }
}
