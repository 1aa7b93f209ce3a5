//! Which disk root is on: by its name, or by what is on it; and whether a map of it is to be waited for. A disk that can have paths is named by it,
//! so that it is claimed at the first sight; one that cannot, or that the configuration keeps out, is the end of the wait.

use super::runtime::{Audience, Held};
use super::session::Teller;
use crate::conf::settings::{Lookup, MapSettings, Origin, PathSettings, Stage, Verdict};
use crate::engine::{Note, Refusal, Subject};
use crate::fault::Errno;
use crate::model::{Bus, DevName, Instant, PathFacts, Protocol, Wwid, parse_unsigned};
use crate::wire::root::Root;
use core::cell::{Ref, RefCell};
use core::time::Duration;

/// How long an active path to a disk that cannot be read is waited for before it is claimed as it is: moving it has its price.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one such disk is tried before the next.
const TRIAL: Duration = Duration::from_secs(10);

/// What is known of root so far.
#[derive(Default)]
pub struct Found {
    /// Its disk.
    pub wwid: Wwid,
    /// Its partition; 0 for the whole disk.
    pub number: u32,
    /// It is on this disk, which has one way to it as far as is known.
    pub local: DevName,
    /// The identity of that disk.
    local_wwid: Wwid,
    /// A disk that cannot be read, and so may hold root: claimed to see.
    trial: Wwid,
    /// When that was decided; before the first, when the first disk could not be read.
    since: Option<Instant>,
    /// Something holds LUKS, LVM or MD, which root may be inside of.
    pub openable: bool,
    /// The last disk of that kind which can have several paths.
    pub openable_wwid: Wwid,
    /// When a disk was last looked into.
    pub last: Option<Instant>,
}

impl Found {
    /// Is this another way to the disk on which root was found? That is one with paths then.
    fn again(&self, facts: &PathFacts) -> bool {
        !self.local.is_empty() && facts.name != self.local && !facts.wwid.is_empty() && facts.wwid == self.local_wwid
    }
}

/// A look at it. Not inlined: each look that may fail has its own place to tell of.
#[inline(never)]
pub fn known(found: &RefCell<Found>) -> Ref<'_, Found> {
    found.borrow()
}

/// The configuration with root's disk named.
pub struct Lens<'a> {
    pub inner: &'a dyn Lookup,
    pub found: &'a RefCell<Found>,
    pub spec: Option<Root<'a>>,
    pub only_root: bool,
}

impl Lens<'_> {
    fn root(&self, wwid: &str) -> bool {
        if wwid.is_empty() {
            return false;
        }
        let mut named = [&known(self.found).wwid, &known(self.found).trial].iter().any(|known| *known == wwid);
        let Some(spec) = self.spec else { return named };
        // An identifier that every local disk has too is no request for a map: as with what is on a disk, [`Watch`] finds out.
        named |= spec.on_disk(wwid).is_none() && spec.names(wwid, wwid);
        if matches!(spec, Root::MapName(_)) {
            self.inner.aliases(&mut |alias, of| named |= of == wwid && spec.names(wwid, alias));
        }
        named
    }
}

impl Lookup for Lens<'_> {
    fn globals(&self) -> &crate::conf::settings::Globals {
        self.inner.globals()
    }
    fn path(&self, facts: &PathFacts) -> PathSettings {
        self.inner.path(facts)
    }
    fn map(&self, wwid: &str, facts: &PathFacts) -> MapSettings {
        self.inner.map(wwid, facts)
    }
    fn filter(&self, facts: &PathFacts, udev: Option<&[u8]>) -> Verdict {
        // One that has not said yet who it is may be root's.
        if self.only_root && !facts.wwid.is_empty() && !self.root(&facts.wwid) {
            return Verdict::Rejected { stage: Stage::Wwid, origin: Origin::CommandLine };
        }
        self.inner.filter(facts, udev)
    }
    fn named(&self, wwid: &str) -> bool {
        self.root(wwid) || self.inner.named(wwid)
    }
    fn binding(&self, wwid: &str) -> Option<&str> {
        self.inner.binding(wwid)
    }
    fn aliases(&self, seen: &mut dyn FnMut(&str, &str)) {
        self.inner.aliases(seen);
    }
}

/// Can a disk like this have several paths at all?
fn reachable_by_paths(facts: &PathFacts, settings: &PathSettings) -> bool {
    let storage_network = matches!(
        facts.protocol,
        Protocol::ScsiFcp
            | Protocol::ScsiSrp
            | Protocol::ScsiIscsi
            | Protocol::ScsiSas
            | Protocol::NvmeFc
            | Protocol::NvmeRdma
            | Protocol::NvmeTcp
    );
    // Of NVMe all is in the array table.
    let known = settings.known && facts.protocol != Protocol::NvmePcie;
    !facts.wwid.is_empty() && !facts.usb && (storage_network || known || facts.bus == Bus::Dasd)
}

/// Listens for disks that may hold root.
pub struct Watch<'a> {
    pub teller: Teller,
    pub found: &'a RefCell<Found>,
    pub inner: &'a dyn Lookup,
    /// What `root=` looks for where that is on disks ([`on_disks`]).
    pub spec: Option<Root<'a>>,
}

/// May it name a disk, or what is on one? Then disks are looked into.
pub fn on_disks(spec: &Root<'_>) -> bool {
    !matches!(spec, Root::MapName(_) | Root::MapUuid(_))
}

/// Is it what can be neither a map of ours nor a disk that has paths: MD, nbd, LVM?
pub fn made_by_others(spec: &Root<'_>) -> bool {
    spec.of_others() || matches!(spec, Root::Kernel(name) if crate::sysfs::made_here(name))
}

impl Watch<'_> {
    /// Root's partition of this disk, if `root=` names it by its identity or by the kernel's own name (`sda2`).
    fn called(&self, facts: &PathFacts) -> Option<u32> {
        let spec = self.spec?;
        let Root::Kernel(name) = spec else { return spec.on_disk(&facts.wwid) };
        let rest = name.strip_prefix(facts.name.as_str())?;
        if rest.is_empty() { Some(0) } else { parse_unsigned(rest.trim_start_matches('p')) }
    }
}

impl Audience for Watch<'_> {
    fn note(&mut self, now: Instant, note: &Note, subject: &Subject<'_>) {
        self.teller.note(now, note, subject);
    }

    fn answer(&mut self, token: u32, result: Result<(), Refusal>) {
        self.teller.answer(token, result);
    }

    fn disk(&mut self, facts: &PathFacts) -> bool {
        let found = known(self.found);
        let news = found.local.is_empty() || found.again(facts);
        self.spec.is_some() && facts.size.0 > 0 && found.wwid.is_empty() && news
    }

    fn looked_into(&mut self, facts: &PathFacts, several: bool, held: Result<Held, Errno>) -> bool {
        let mut found = self.found.borrow_mut();
        let held = match found.again(facts) {
            // By the kernel's name or number only the first would be root.
            true => Ok(Held::Root(found.number)),
            false => held.map(|held| self.called(facts).map_or(held, Held::Root)),
        };
        // What the configuration keeps out, as all of NVMe while the kernel's own multipathing has it, is never a map to be waited for.
        let kept_out = || matches!(self.inner.filter(facts, None), Verdict::Rejected { .. });
        let reachable = || several || self.inner.named(&facts.wwid) || (reachable_by_paths(facts, &self.inner.path(facts)) && !kept_out());
        if held.is_ok() {
            found.last = Some(crate::wait::now());
        }
        let number = match held {
            Ok(Held::Root(number)) => number,
            Ok(held) => {
                if found.trial == facts.wwid {
                    found.trial.clear();
                }
                if held == Held::Openable {
                    found.openable = true;
                    if reachable() {
                        found.openable_wwid = facts.wwid.clone();
                    }
                }
                return false;
            }
            // Only passive paths so far, perhaps: then nothing but I/O through a map moves the disk to where they lead.
            Err(Errno::IO) if found.wwid.is_empty() && found.trial != facts.wwid && reachable() => {
                let now = crate::wait::now();
                let due = now >= *found.since.get_or_insert(now) + if found.trial.is_empty() { PATIENCE } else { TRIAL };
                if due {
                    (found.trial, found.since) = (facts.wwid.clone(), Some(now));
                }
                return due;
            }
            Err(_) => return false,
        };
        if reachable() {
            found.wwid = facts.wwid.clone();
            found.number = number;
            found.local.clear();
            return true;
        }
        found.number = number;
        found.local = facts.name.clone();
        found.local_wwid = facts.wwid.clone();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for() {
        for (text, others, sought) in [
            ("/dev/md0", true, true),
            ("/dev/md127p2", true, true),
            ("/dev/nbd0p1", true, true),
            ("/dev/dm-3", true, true),
            ("/dev/disk/by-id/dm-uuid-LVM-0aB1", true, false),
            ("/dev/disk/by-id/dm-uuid-CRYPT-LUKS2-5f0c", true, false),
            ("/dev/disk/by-id/dm-uuid-mpath-3600a", false, false),
            ("/dev/disk/by-id/dm-name-mpatha", false, false),
            ("/dev/mapper/mpatha", false, false),
            ("/dev/sda2", false, true),
            ("/dev/mmcblk0p2", false, true),
            ("/dev/disk/by-id/wwn-0x600a", false, true),
            ("LABEL=root", false, true),
            ("8:2", false, true),
            ("9:127", true, true),
            ("43:1", true, true),
            ("253:0", false, true),
        ] {
            let spec = Root::parse(text).unwrap();
            assert_eq!((made_by_others(&spec), on_disks(&spec)), (others, sought), "{text}");
        }
    }
}
