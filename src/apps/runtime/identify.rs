//! Disks of which sysfs does not say who, or how large, they are: the kernel did not get to read it when it found them, and never tells when it
//! could. They are asked themselves, and the kernel is made to look again.
//!
//! What is asked whom and when (main thread), and the asking (worker). Beside the reading of sysfs, so that neither a scan nor a command waits
//! long for a disk that does not answer.

use super::job::{Job, Task};
use super::{GENERAL, Hands, SPARED};
use crate::engine::{Engine, PathView, Reason};
use crate::fault::Errno;
use crate::model::{Bus, Instant, PathFacts, PathId, SysState, Tpgs};
use crate::raw::{AsFd, OwnedFd};
use crate::wire::scsi::{Command, DATA_LEN, Outcome, Reply, SHORT_LEN};
use crate::wire::sense::{ILLEGAL_REQUEST, NOT_READY, UNIT_ATTENTION};
use crate::wire::vpd;
use crate::{sgio, sysfs, wait};
use core::time::Duration;

/// When one that did not answer is asked again, at first.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause doubles so often at most.
const DOUBLINGS: u8 = 5;
/// When those are asked that no worker could be spared for.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// So long a command that waits until all is done waits for an answer.
const HUSH: Duration = Duration::from_secs(2);

/// What is kept of one disk, at its path's desk.
#[derive(Default)]
pub(super) struct Blank {
    /// When it is asked; `None`: there is nothing to ask.
    due: Option<Instant>,
    /// In vain so often since it was last heard of.
    tries: u8,
    /// The kernel was told to look again: since then or, of a disk that has a size, ever.
    rescanned: bool,
    diskseq: u64,
}

/// A worker that asks a disk.
struct Asking {
    worker: usize,
    path: PathId,
    /// sysfs was read meanwhile: what it brings is older.
    stale: bool,
    hush: Instant,
}

/// The asking as a whole.
#[derive(Default)]
pub(super) struct Asked {
    /// When the first of them is due.
    at: Option<Instant>,
    now: heapless::Vec<Asking, 2>,
    /// One that was due found no worker.
    left: bool,
}

impl Asked {
    fn sooner(&mut self, other: Instant) {
        self.at = Some(self.at.map_or(other, |at| at.min(other)));
    }

    /// When to wake for it.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let hush = self.now.iter().map(|asking| asking.hush).filter(|at| *at > wait::now()).min();
        self.at.into_iter().chain(hush).min()
    }

    /// Workers that ask for so long that nobody waits for them any more; `None`: those who were to be asked wait for others to end.
    pub(super) fn hushed(&self) -> Option<u64> {
        let bits = if self.now.is_empty() { 0 } else { self.hushed_at(wait::now()) };
        (!self.left || bits != 0).then_some(bits)
    }

    fn hushed_at(&self, now: Instant) -> u64 {
        self.now.iter().filter(|asking| asking.hush <= now).fold(0, |bits, asking| bits | 1 << asking.worker)
    }

    /// What this disk is being asked is older than what sysfs will say of it.
    pub(super) fn outdate(&mut self, engine: &Engine<'_>, name: &str) {
        let Some(path) = engine.find_path(name) else { return };
        self.now.iter_mut().filter(|asking| asking.path == path.id()).for_each(|asking| asking.stale = true);
    }

    /// This worker has its answer; false: it is not to be used.
    pub(super) fn answered(&mut self, worker: usize, now: Instant) -> bool {
        if self.left {
            // There is a place for the next.
            self.at = Some(now);
        }
        let at = self.now.iter().position(|asking| asking.worker == worker);
        at.is_some_and(|at| !self.now.swap_remove(at).stale)
    }
}

/// Has the disk to be asked what sysfs does not say? Not one that is left alone for another reason; but whoever has a name that sysfs does not
/// say is asked again whenever something is heard of it: it may be another by now.
fn lacks(path: &PathView<'_>, facts: &PathFacts) -> bool {
    let (no_name, no_size) = (facts.wwid.is_empty(), facts.size.0 == 0);
    let lacks = match path.reason() {
        Reason::NoIdentity | Reason::MissingProperty => no_name,
        Reason::NoSize => no_size,
        _ => no_name && !path.wwid().is_empty() || (no_name || no_size) && path.map().is_some(),
    };
    lacks && facts.bus == Bus::Scsi && !facts.removable
}

impl Blank {
    /// sysfs was read; true: the disk is asked next.
    pub(super) fn read(&mut self, asked: &mut Asked, path: &PathView<'_>, facts: &PathFacts, now: Instant) -> bool {
        // What was told of an earlier device of this slot says nothing.
        let same = self.diskseq == facts.diskseq && facts.size.0 > 0;
        *self = Blank { diskseq: facts.diskseq, rescanned: self.rescanned && same, ..Blank::default() };
        if lacks(path, facts) {
            self.put_off(asked, if facts.sys_state == SysState::Running { now } else { now + PAUSE });
        }
        self.due.is_some()
    }

    /// It was asked; an error: it did not answer.
    pub(super) fn heard(&mut self, asked: &mut Asked, path: &PathView<'_>, job: &Job, now: Instant) {
        self.rescanned |= job.rescanned;
        // One that has answered without a name has none; nor has one a size that the kernel still gives none.
        let again = job.result.is_err() || !job.facts.wwid.is_empty() && !job.rescanned && lacks(path, &job.facts);
        if again {
            self.put_off(asked, now + PAUSE.saturating_mul(1 << self.tries.min(DOUBLINGS)));
            self.tries = self.tries.saturating_add(1);
        }
    }

    fn put_off(&mut self, asked: &mut Asked, at: Instant) {
        self.due = Some(at);
        asked.sooner(at);
    }
}

impl Hands {
    /// Asks those that are due.
    #[inline(never)]
    pub(super) fn identify(&mut self, engine: &Engine<'_>, now: Instant) {
        if self.asked.at.is_none_or(|at| at > now) {
            return;
        }
        (self.asked.at, self.asked.left) = (None, false);
        for path in engine.paths() {
            let Some(desk) = self.paths.get_mut(path.id().index as usize) else { continue };
            let Some(due) = desk.blank.due.filter(|_| !path.gone()) else {
                desk.blank.due = None;
                continue;
            };
            let rescan = !self.dry && !self.errand && !desk.blank.rescanned;
            let known = !path.wwid().is_empty();
            // A rescan allocates, and so may an open: what is known already is confirmed all the same.
            let quiet = engine.quiet();
            // Where a worker hangs on it one is enough.
            let hangs = self.asked.now.iter().any(|asking| asking.path == path.id());
            if due > now || hangs || !quiet && !known {
                self.asked.sooner(if due > now { due } else { now + PAUSE });
                continue;
            }
            let busy = self.asked.now.is_full() || self.crew.free_count(GENERAL) <= SPARED;
            let Some(worker) = self.crew.free(GENERAL).filter(|_| !busy && !self.reading.iter().any(|n| n == path.name())) else {
                self.asked.left = true;
                continue;
            };
            let Ok(job) = self.crew.job(worker) else { continue };
            job.task = Task::Identify { rescan: rescan && quiet };
            job.name.clear();
            let _ = job.name.push_str(path.name());
            let _ = self.asked.now.push(Asking { worker, path: path.id(), stale: false, hush: now + HUSH });
            desk.blank.due = None;
            let _ = self.crew.hand_over(worker);
        }
        if self.asked.left {
            // The end of a question brings it back at once; those that hang may take long.
            let hang = self.asked.hushed_at(now) != 0;
            self.asked.sooner(now + if hang { PAUSE } else { BUSY_PAUSE });
        }
    }
}

impl Job {
    #[inline(never)]
    pub(super) fn identify(&mut self, rescan: bool) -> Result<(), Errno> {
        self.rescanned = false;
        self.facts()?;
        if self.facts.sys_state != SysState::Running {
            return Err(Errno::AGAIN);
        }
        // That it cannot be opened does not mean that it is gone.
        let device = sgio::open_disk(self.tools.roots.dev.as_fd(), &self.name, self.facts.devno).map_err(|_| Errno::AGAIN)?;
        self.name(&device)?;
        if !rescan || !self.asked && self.facts.size.0 != 0 {
            return Ok(());
        }
        // Only now that the pages come: the kernel's own copy of them, which device handlers need, is made anew too. It waits for a disk that does
        // not answer, and forgets the size of one that cannot tell it, hence the question; the first after an outage is often only told of that.
        let mut outcome = self.ask(&device, &Command::read_capacity10()).outcome();
        if matches!(outcome, Outcome::Check(sense) if sense.key == UNIT_ATTENTION) {
            outcome = self.ask(&device, &Command::read_capacity10()).outcome();
        }
        let again = || sysfs::write_attribute(&self.tools.roots, &self.name, crate::model::Attribute::Rescan, 1).is_ok();
        match outcome {
            Outcome::Good | Outcome::Recovered(_) if again() => {
                self.rescanned = true;
                self.facts()?;
                self.name(&device)
            }
            Outcome::Host(_) | Outcome::Errno(_) | Outcome::Driver(_) => Err(Errno::AGAIN),
            // Without them the ALUA handler does not attach, and no table of its map would be taken.
            _ if self.asked && !matches!(self.facts.tpgs, Tpgs::None | Tpgs::Unknown) => Err(Errno::AGAIN),
            _ => Ok(()),
        }
    }

    /// Asks for the name, where sysfs has none, and for the serial number.
    fn name(&mut self, device: &OwnedFd) -> Result<(), Errno> {
        self.asked = self.facts.wwid.is_empty();
        let sure = !self.asked || self.take_page(device, vpd::DEVICE_IDENTIFICATION)?;
        let serial = if self.facts.serial.is_empty() { self.take_page(device, vpd::UNIT_SERIAL_NUMBER) } else { Ok(true) };
        if self.facts.wwid.is_empty() && serial? && sure {
            sysfs::name_by_serial(&mut self.facts);
        }
        Ok(())
    }

    fn ask(&mut self, device: &OwnedFd, command: &Command) -> Reply<'_> {
        self.outcome = sgio::execute(sgio::borrow(device), command, self.page, &mut self.sense);
        self.outcome.reply(self.page, &self.sense)
    }

    /// Asks for a page of VPD. False: the answer is not that page, nor that there is none. An error: it cannot answer now.
    #[inline(never)]
    fn take_page(&mut self, device: &OwnedFd, code: u8) -> Result<bool, Errno> {
        for length in [SHORT_LEN, DATA_LEN] {
            match self.ask(device, &Command::vpd(code, length)).outcome() {
                Outcome::Good | Outcome::Recovered(_) => {}
                // No such command, or no such page.
                Outcome::Check(sense) if sense.key == ILLEGAL_REQUEST && matches!(sense.asc, 0x20 | 0x24) => return Ok(true),
                // No such LUN now, not ready, told of an outage first: another time.
                Outcome::Check(sense) if !matches!(sense.key, ILLEGAL_REQUEST | NOT_READY | UNIT_ATTENTION) => return Ok(false),
                _ => return Err(Errno::AGAIN),
            }
            let page = self.outcome.reply(self.page, &self.sense).data;
            if vpd::body(page, code).is_err() {
                return Ok(false);
            }
            if vpd::declared_len(page) <= page.len() || length == DATA_LEN {
                sysfs::take_page(page, &mut self.facts);
                break;
            }
        }
        Ok(true)
    }
}
