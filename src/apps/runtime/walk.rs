//! What there is, as the kernel tells it: scans of all disks, surveys of all maps, and uevents, each read by workers a few at a time.

use super::job::Task;
use super::{GENERAL, Hands, MESSAGES, SPARED, live};
use crate::engine::{Context, Engine, Event, Refused};
use crate::model::{DevName, Hctl, Instant, last_part};
use crate::netlink::{self, Received};
use crate::sysfs;
use crate::wire::uevent::Uevent;
use core::time::Duration;

/// A walk over all devices that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Walk {
    pub(super) running: bool,
    /// Entries handed out so far.
    pub(super) at: usize,
    /// Jobs of it under way.
    pub(super) out: u32,
    pub(super) complete: bool,
}

/// Names of /sys/block waiting to be read.
pub(super) struct Names {
    list: &'static mut [DevName],
    pub(super) count: usize,
    /// Those at the list's end that are put off.
    pub(super) later: usize,
}

impl Names {
    pub(super) fn new(list: &'static mut [DevName]) -> Names {
        Names { list, count: 0, later: 0 }
    }

    /// Keeps a name for [`Names::recall`]. One for which there is no room is not kept: its next uevent brings it back.
    pub(super) fn put_off(&mut self, name: &DevName) {
        let Some((free, put_off)) = self.list.split_at_mut_checked(self.list.len() - self.later) else { return };
        if let Some([.., place]) = free.get_mut(self.count..)
            && !put_off.contains(name)
        {
            place.clone_from(name);
            self.later += 1;
        }
    }

    pub(super) fn recall(&mut self) {
        for at in self.list.len() - core::mem::take(&mut self.later)..self.list.len() {
            if let Some(name) = self.list.get(at).cloned() {
                self.push(&name);
            }
        }
    }

    pub(super) fn push(&mut self, name: &str) -> bool {
        if self.list.iter().take(self.count).any(|n| n == name) {
            return true;
        }
        let free = self.list.len() - self.later;
        let Some(place) = self.list.get_mut(..free).and_then(|list| list.get_mut(self.count)) else { return false };
        place.clear();
        if place.push_str(name).is_ok() {
            self.count += 1;
        }
        true
    }

    /// The next that is not among `but`.
    fn pop(&mut self, but: &[DevName]) -> Option<DevName> {
        let list = self.list.get_mut(..self.count)?;
        let at = list.iter().rposition(|name| !but.contains(name))?;
        let last = list.last()?.clone();
        self.count -= 1;
        Some(core::mem::replace(list.get_mut(at)?, last))
    }
}

/// While a map has no path a read of sysfs, which allocates, is given so long before the next disk is read beside it.
const SLOW: Duration = Duration::from_secs(2);

/// May another disk be read? With a map without paths any read may hang, and take a worker with it: one at a time, so that a path that comes
/// back is still seen, and beside those that hang another now and then, so that they keep none from being seen.
fn another(out: u32, starved: bool, last: Instant, now: Instant) -> bool {
    !starved || out == 0 || now.since(last) >= SLOW
}

impl Hands {
    pub(super) fn begin_scan(&mut self) -> Result<(), Refused> {
        if self.scan.running {
            // Its end would be taken for that of the one asked for, and what it read before for missing.
            return Err(Refused::Full);
        }
        let Hands { tools, wanted, .. } = self;
        let mut fits = true;
        let listed = sysfs::disks(&tools.roots, &mut |name| {
            fits &= wanted.push(name);
            true
        });
        self.scan = Walk { running: true, complete: listed.is_ok() && fits, ..Walk::default() };
        Ok(())
    }

    pub(super) fn begin_list(&mut self, survey: bool) -> Result<(), Refused> {
        if self.survey.running {
            return Err(Refused::Full);
        }
        if !self.tools.has_mapper() {
            // No device mapper, hence no maps: the walk ends at the first look.
            self.survey = Walk { running: true, complete: true, at: usize::MAX, ..Walk::default() };
            return Ok(());
        }
        let worker = self.crew.free(MESSAGES).ok_or(Refused::Full)?;
        let big = self.big.take().ok_or(Refused::Full)?;
        let job = self.fill(worker, Task::List { survey })?;
        job.big = Some(big);
        self.survey = Walk { running: true, complete: true, ..Walk::default() };
        self.send(worker)
    }

    /// Starts reading the next disks and dm devices that wait.
    pub(super) fn walk_on(&mut self, engine: &mut Engine<'_>, cx: &Context<'_>) {
        let starved = engine.starved() > 0;
        while self.wanted.count > 0
            && another(self.scan.out, starved, self.read_at, cx.now)
            && (!starved || self.crew.free_count(GENERAL) > SPARED)
            && let Some(worker) = self.crew.free(GENERAL)
        {
            let Some(name) = self.wanted.pop(&self.reading) else { break };
            if let Ok(job) = self.fill(worker, Task::Facts) {
                job.name.clone_from(&name);
                self.asked.outdate(engine, &name);
                let _ = self.reading.push(name);
                self.scan.out += 1;
                self.read_at = cx.now;
                let _ = self.send(worker);
            }
        }
        if self.peek_again.is_some_and(|at| at <= cx.now) {
            self.peek_again = None;
            self.peeks.recall();
        }
        while self.peeks.count > 0
            && self.peeking < if starved { 1 } else { 2 }
            && let Some(worker) = self.crew.free(GENERAL)
        {
            let Some(name) = self.peeks.pop(&[]) else { break };
            let root = self.looked_for.clone();
            if let Ok(job) = self.fill(worker, Task::Peek) {
                job.name = name;
                job.text = root;
                self.peeking += 1;
                let _ = self.send(worker);
            }
        }
        self.identify(engine, cx.now);
        if self.scan.running && self.wanted.count == 0 && self.scan.out == 0 {
            self.scan.running = false;
            engine.process(cx, Event::ScanDone { complete: self.scan.complete });
        }
        self.look_on(engine, cx);
    }

    /// The next dm device of a survey.
    fn look_on(&mut self, engine: &mut Engine<'_>, cx: &Context<'_>) {
        let Some(big) = self.big.take() else { return };
        while self.survey.running && self.survey.out == 0 {
            let Some(worker) = self.crew.free(MESSAGES) else { break };
            match live::entry(big, self.survey.at) {
                Some((devno, ours)) => {
                    self.survey.at += 1;
                    if ours && let Ok(job) = self.fill(worker, Task::Look { devno }) {
                        let _ = job;
                        self.survey.out += 1;
                        let _ = self.send(worker);
                    }
                }
                None => {
                    self.survey.running = false;
                    engine.process(cx, Event::SurveyDone { complete: self.survey.complete });
                }
            }
        }
        self.big = Some(big);
    }

    /// Takes all uevents that wait.
    #[inline(never)]
    pub(super) fn hear(&mut self, engine: &mut Engine<'_>, cx: &Context<'_>) {
        let Some(uevents) = &self.uevents else { return };
        let mut buffer = [0u8; netlink::LARGEST];
        // Bounded, so that a storm cannot keep the loop from its other work; what is left wakes the next turn.
        for _ in 0..1024 {
            match uevents.receive(&mut buffer) {
                Ok(Received::Event(n)) => {
                    let Some(Ok(event)) = buffer.get(..n).map(Uevent::parse) else { continue };
                    if event.subsystem == "block" && event.is_disk() && !sysfs::made_here(event.name()) {
                        if !self.wanted.push(event.name()) {
                            engine.process(cx, Event::Overrun);
                        }
                    } else if event.subsystem == "block" && self.events.is_none() && event.name().starts_with("dm-") {
                        // Somebody else needed dm first: from now on it is listened to.
                        engine.process(cx, Event::DmEvent);
                    } else if event.subsystem == "scsi" && self.starving {
                        // To find its disk in sysfs the kernel may need memory. Those there are paths of are known by their address: one may
                        // be what I/O waits for. Others come later.
                        let address = Hctl::parse(last_part(event.devpath));
                        let known = engine.paths().find(|path| path.hctl() == address).map(|path| path.name());
                        if address.is_some() && !known.is_some_and(|name| self.wanted.push(name)) {
                            engine.process(cx, Event::Overrun);
                        }
                    } else if event.subsystem == "scsi"
                        && let Ok(name) = sysfs::disk_of_scsi(&self.tools.roots, event.devpath)
                        && !self.wanted.push(&name)
                    {
                        engine.process(cx, Event::Overrun);
                    }
                }
                Ok(Received::Foreign) => {}
                Ok(Received::Nothing) => {
                    if core::mem::take(&mut self.deafened) {
                        engine.process(cx, Event::Overrun);
                    }
                    break;
                }
                Ok(Received::Overrun) => {
                    // Until the queue is empty the kernel drops all that is new, and does not say so again.
                    self.deafened = true;
                    engine.process(cx, Event::Overrun);
                }
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::string::{String, ToString};
    use std::vec;

    /// tests/vectors/uevent.json: a disk for which the peer's queue has something left is looked at, once, whatever happened to it.
    #[test]
    fn a_queue_of_events() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../../tests/vectors/uevent.json")).unwrap();
        let queues = file["vectors"].as_array().unwrap().iter().filter(|v| v["kind"] == "queue");
        let mut seen = 0;
        for v in queues {
            let mut names = Names::new(vec![DevName::new(); 32].leak());
            let disk = |name: &str| !name.starts_with("dm-");
            for event in v["input"]["batches"].as_array().unwrap().iter().flat_map(|b| b.as_array().unwrap()) {
                if let Some(kernel) = event["kernel"].as_str().filter(|name| disk(name)) {
                    assert!(names.push(kernel), "{v}");
                }
            }
            let mut ours = vec![];
            while let Some(name) = names.pop(&[]) {
                ours.push(name.to_string());
            }
            ours.sort();
            let left = v["expected"]["queue"].as_array().unwrap().iter();
            let left = left.flat_map(|entry| entry["merged"].as_array().unwrap().iter().chain([&entry["ev"]]));
            let theirs: BTreeSet<String> =
                left.map(|event| event.as_str().unwrap().split_once(':').unwrap().1.to_string()).filter(|name| disk(name)).collect();
            assert!(ours.iter().eq(&theirs), "{ours:?} {v}");
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn what_is_put_off_comes_back() {
        let mut names = Names::new(vec![DevName::new(); 3].leak());
        let name = |text| DevName::try_from(text).unwrap();
        assert!(names.push("sda") && names.push("sda") && names.count == 1);
        names.put_off(&name("sdb"));
        names.put_off(&name("sdb"));
        assert_eq!((names.count, names.later), (1, 1));
        assert!(names.push("sdc") && !names.push("sdd"), "no room");
        names.put_off(&name("sde"));
        assert_eq!(names.pop(&[name("sdc")]).as_deref(), Some("sda"));
        names.recall();
        assert_eq!((names.pop(&[]).as_deref(), names.pop(&[]).as_deref(), names.pop(&[])), (Some("sdb"), Some("sdc"), None));
    }

    #[test]
    fn a_read_that_hangs_keeps_no_other_disk_from_being_read() {
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        assert!(another(20, false, at(10), at(10)), "with paths as many as there are workers");
        assert!(another(0, true, at(10), at(10)), "without, one after the other");
        assert!(!another(1, true, at(10), at(11)));
        assert!(another(1, true, at(10), at(12)), "and not for ever after one that hangs");
        assert!(!another(2, true, at(12), at(13)));
    }
}
