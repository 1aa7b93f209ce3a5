//! Is this disk ours? Default deny: a disk is taken only for a reason, and both the reason and the refusal have a name.
//!
//! Pure: what is known of one disk and the rules in, a verdict out. Never opens a disk, never asks a daemon, never reads a file. The
//! modes are multipath.conf(5) `find_multipaths`; the hard refusals (virtual, native NVMe, USB, LUNZ, held by someone else) hold in
//! every mode, for they are what made other tools take root disks that were not theirs.

use super::Reason;
use crate::conf::settings::{FindMultipaths, Verdict};
use crate::model::{Bus, DevNo, Hctl, Holder, Instant, PathFacts, Protocol, UUID_PREFIX};
use core::time::Duration;

/// What is known of one disk besides its facts.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub facts: &'a PathFacts,
    /// What the blacklist says.
    pub verdict: Verdict,
    /// The command line, a multipaths section or the wwids file names its WWID.
    pub named: bool,
    /// A live map of ours has its WWID.
    pub live_map: bool,
    /// An administrator asked for it (`add path`).
    pub asked: bool,
    /// An administrator took it out (`remove path`).
    pub taken_out: bool,
    /// All disks with its WWID, itself included.
    pub siblings: Siblings,
    /// The array table has an entry for its vendor and product (smart mode's negative timeout).
    pub known_array: bool,
    /// When its WWID was first seen.
    pub since: Instant,
}

/// The rules in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    pub mode: FindMultipaths,
    /// `find_multipaths_timeout`: seconds; negative as the grammar says; 0 is the default, -10.
    pub smart_timeout: i32,
    pub allow_usb: bool,
    /// The kernel's nvme_core.multipath is on.
    pub native_nvme: bool,
    /// In strict mode two paths with one strong identity through different ports are reason enough. Off when the configuration
    /// itself says `find_multipaths strict`: that administrator wants named disks only.
    pub evidence: bool,
    /// The question comes from udev or a command (`multipath -u`, `-c`), not from who makes maps: mode `off` then is as `strict`.
    pub only_asking: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { mode: FindMultipaths::Strict, smart_timeout: 0, allow_usb: false, native_nvme: false, evidence: true, only_asking: false }
    }
}

/// The verdict on one disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    Yes(Reason),
    No(Reason),
    /// Nobody else may have it until then; it is asked again at that time or when another path comes.
    Wait {
        until: Instant,
    },
}

/// What a WWID is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    /// Empty, or blanks or zeros only: it names nothing.
    None,
    /// A serial number or vendor text, which two different disks may share.
    Weak,
    /// Registered: NAA or EUI-64 (SPC-6 7.7.6), NVMe NGUID, EUI-64 or UUID.
    Strong,
}

/// The worth of `wwid`, written as scsi_id and the kernel's NVMe driver write it.
pub fn identity(wwid: &str) -> Identity {
    let nothing = |b: u8| matches!(b, b'0' | b' ' | b'_' | b'-' | b'.' | b'\t');
    if wwid.bytes().all(nothing) {
        return Identity::None;
    }
    if let Some(body) = wwid.strip_prefix("eui.").or_else(|| wwid.strip_prefix("uuid.")) {
        return if body.bytes().all(nothing) { Identity::None } else { Identity::Strong };
    }
    // First digit of a SCSI WWID: the designator type (2 EUI-64, 3 NAA).
    let (body, lengths): (&str, &[usize]) = if let Some(body) = wwid.strip_prefix('3') {
        // Formats of NAA that are registered, or given by an administrator; no array may be relied upon to have meant another.
        (body, if body.starts_with(['2', '3', '5', '6']) { &[16, 32] } else { &[] })
    } else if let Some(body) = wwid.strip_prefix('2') {
        (body, &[16, 24, 32])
    } else {
        return Identity::Weak;
    };
    if body.bytes().all(nothing) {
        Identity::None
    } else if lengths.contains(&body.len()) && body.bytes().all(|b| b.is_ascii_hexdigit()) {
        Identity::Strong
    } else {
        Identity::Weak
    }
}

/// The way to a disk, without the LUN: initiator port and target port (SAM-6 I_T nexus), as the kernel numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Nexus(u32, u64);

impl Nexus {
    pub fn of(facts: &PathFacts) -> Nexus {
        Nexus::at(facts.bus, facts.hctl, &facts.name, facts.devno)
    }
    pub fn at(bus: Bus, hctl: Option<Hctl>, name: &str, devno: DevNo) -> Nexus {
        match (bus, hctl) {
            // Each iSCSI session and each HBA port is a SCSI host of its own.
            (Bus::Scsi, Some(a)) => Nexus(a.host, (u64::from(a.channel) << 32) | u64::from(a.target)),
            // Without native multipath each NVMe controller has a disk name of its own.
            (Bus::Nvme, _) if controller(name).is_some() => Nexus(u32::MAX, controller(name).unwrap_or(0)),
            _ => Nexus(u32::MAX - 1, devno.to_kernel()),
        }
    }
    /// The two numbers it is made of, for an index.
    pub fn key(self) -> (u32, u64) {
        (self.0, self.1)
    }
}

/// The controller number in `nvme3n1`.
fn controller(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("nvme")?;
    let (number, _) = rest.split_once(['n', 'c'])?;
    crate::model::parse_decimal(number).map(u64::from)
}

/// More disks than this share no identity: theirs names nothing. (A map holds a quarter of it.)
pub const CROWD: u16 = 256;

/// The disks of one WWID, counted: by what ways, never which.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Siblings {
    paths: u16,
    first: Option<Nexus>,
    several: bool,
    in_use: bool,
}

impl Siblings {
    pub fn add(&mut self, nexus: Nexus) {
        self.paths = self.paths.saturating_add(1);
        match self.first {
            None => self.first = Some(nexus),
            Some(f) => self.several |= f != nexus,
        }
    }
    /// One of them is mounted or held by another driver.
    pub fn hold(&mut self) {
        self.in_use = true;
    }
    pub fn count(self) -> u16 {
        self.paths
    }
    /// Too many to be one disk; nobody needs to count on.
    pub fn crowd(self) -> bool {
        self.paths > CROWD
    }
    /// Two of them come through different ports.
    pub fn several_ways(self) -> bool {
        self.several
    }
}

/// Kernel names of disks that are made of other things, or of nothing. Those of kinds not listed are refused by their bus.
const VIRTUAL: [&str; 16] =
    ["loop", "ram", "zram", "rbd", "nbd", "dm-", "md", "drbd", "bcache", "nullb", "zd", "ublkb", "vd", "xvd", "sr", "fd"];

/// What `facts` alone forbid, whatever the configuration or a name says.
fn never(facts: &PathFacts, rules: &Rules) -> Option<Reason> {
    if facts.hidden || (facts.bus == Bus::Nvme && rules.native_nvme) {
        return Some(Reason::NativeNvme);
    }
    if facts.bus == Bus::Other || VIRTUAL.iter().any(|v| facts.name.starts_with(v)) {
        return Some(Reason::Virtual);
    }
    if !rules.allow_usb && (facts.usb || facts.protocol == Protocol::ScsiUsb) {
        return Some(Reason::Usb);
    }
    // The stand-in an EMC array shows when no LUN is bound at LUN 0.
    if facts.vendor.trim_ascii() == "DGC" && facts.product.trim_ascii() == "LUNZ" {
        return Some(Reason::Lunz);
    }
    None
}

/// Does our own map hold the disk?
fn held_by_its_map(facts: &PathFacts) -> bool {
    match &facts.holder {
        Holder::Map { uuid, .. } => uuid.strip_prefix(UUID_PREFIX).is_some_and(|w| !w.is_empty() && w == facts.wwid.as_str()),
        _ => false,
    }
}

/// The verdict. The order of the tests is the order of the reasons one would give: what the disk is, what the blacklist says, who it
/// is, who has it, what speaks for it.
pub fn claim(c: &Candidate<'_>, rules: &Rules, now: Instant) -> Claim {
    let facts = c.facts;
    if c.taken_out {
        return Claim::No(Reason::TakenOut);
    }
    if let Some(reason) = never(facts, rules) {
        return Claim::No(reason);
    }
    match c.verdict {
        Verdict::Accepted | Verdict::Whitelisted { .. } => (),
        Verdict::Rejected { stage, .. } => return Claim::No(Reason::Blacklisted(stage)),
        Verdict::MissingProperty => return Claim::No(Reason::MissingProperty),
    }
    let identity = identity(&facts.wwid);
    if identity == Identity::None {
        return Claim::No(Reason::NoIdentity);
    }
    let held = held_by_its_map(facts);
    if facts.holder != Holder::Nobody && !held {
        return Claim::No(Reason::InUse);
    }
    // Before the size: a path of a passive controller may not know it.
    if held || c.live_map {
        return Claim::Yes(Reason::LiveMap);
    }
    // The kernel would take the other paths: two users of one LUN that know nothing of each other.
    if c.siblings.in_use {
        return Claim::No(Reason::InUse);
    }
    // Whoever named it: which of them is meant?
    if c.siblings.crowd() {
        return Claim::No(Reason::WeakIdentity);
    }
    if facts.size.0 == 0 {
        return Claim::No(Reason::NoSize);
    }
    if c.asked {
        return Claim::Yes(Reason::Asked);
    }
    if c.named {
        return Claim::Yes(Reason::Named);
    }
    if facts.removable {
        return Claim::No(Reason::Removable);
    }
    unnamed(c, rules, identity, now)
}

/// A disk that nothing but itself speaks for.
fn unnamed(c: &Candidate<'_>, rules: &Rules, identity: Identity, now: Instant) -> Claim {
    let several = c.siblings.count() > 1;
    match rules.mode {
        FindMultipaths::Greedy => Claim::Yes(Reason::Greedy),
        FindMultipaths::Off if !rules.only_asking => Claim::Yes(Reason::Greedy),
        FindMultipaths::Strict if !rules.evidence => Claim::No(Reason::Strict),
        FindMultipaths::Off => Claim::No(Reason::Strict),
        FindMultipaths::Strict => match (several, c.siblings.several_ways(), identity) {
            (false, ..) => Claim::No(Reason::SinglePath),
            (_, false, _) => Claim::No(Reason::SamePort),
            (_, _, Identity::Strong) => Claim::Yes(Reason::SeveralPaths),
            _ => Claim::No(Reason::WeakIdentity),
        },
        FindMultipaths::On | FindMultipaths::Smart if several => Claim::Yes(Reason::SeveralPaths),
        FindMultipaths::On => Claim::No(Reason::SinglePath),
        FindMultipaths::Smart => {
            let until = c.since + smart_wait(rules.smart_timeout, c.known_array);
            if now < until { Claim::Wait { until } } else { Claim::No(Reason::SinglePath) }
        }
    }
}

/// How long smart mode holds a lone disk back.
fn smart_wait(timeout: i32, known_array: bool) -> Duration {
    let secs = match timeout {
        0 if known_array => 10,
        t if t > 0 || known_array => t.unsigned_abs(),
        _ => 1,
    };
    Duration::from_secs(u64::from(secs))
}

#[cfg(test)]
mod tests;
