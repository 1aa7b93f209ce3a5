//! Uevents waiting to be looked into: one row per device, however many events it had.
//!
//! An event only says where to look; sysfs says what is. So of many events of one disk only two facts count: did it go away, and is
//! there something to look at now. A full table becomes one order to scan everything, never a lost event. Nothing here waits
//! for udev or merges by WWID: a disk is looked at once, its WWID is read then.

use crate::model::DevName;
use crate::wire::uevent::{Action, Uevent};
use heapless::Deque;

/// Devices with events at one time; a fabric that comes back brings more, and is scanned as a whole.
pub const ROWS: usize = 128;

/// What to look into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Work {
    /// The disk that had this name is gone; another may have the name by now.
    Gone(DevName),
    /// Read all about this disk.
    Look(DevName),
    /// A dm device changed: list them.
    Maps,
    /// Too much happened (or events were lost): scan all disks and list all maps. What was waiting is part of it.
    Everything,
}

#[derive(Clone)]
struct Row {
    name: DevName,
    gone: bool,
    look: bool,
}

/// The table.
#[derive(Clone, Default)]
pub struct Pending {
    rows: Deque<Row, ROWS>,
    maps: bool,
    everything: bool,
}

impl Pending {
    pub fn new() -> Pending {
        Pending::default()
    }

    /// Events were lost (ENOBUFS), or found no room.
    pub fn overrun(&mut self) {
        self.rows.clear();
        self.maps = false;
        self.everything = true;
    }

    /// Notes one kernel event. Partitions and other subsystems are nothing to us.
    pub fn push(&mut self, event: &Uevent<'_>) {
        if event.is_disk() {
            self.push_disk(event.action, event.name());
        }
    }

    /// As [`Pending::push`], for a disk by its kernel name.
    pub fn push_disk(&mut self, action: Action, name: &str) {
        if self.everything {
            return;
        }
        if name.starts_with("dm-") {
            self.maps = true;
            return;
        }
        let gone = action == Action::Remove;
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            row.gone |= gone;
            row.look = !gone;
            return;
        }
        // Kernel names have `!` for `/`; longer ones than the kernel makes are not disks.
        let Ok(name) = DevName::try_from(name) else { return };
        if self.rows.push_back(Row { name, gone, look: !gone }).is_err() {
            self.overrun();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && !self.maps && !self.everything
    }

    /// The next thing to do. A name that went and came is two: first gone, then a look.
    pub fn pop(&mut self) -> Option<Work> {
        if core::mem::take(&mut self.everything) {
            return Some(Work::Everything);
        }
        if core::mem::take(&mut self.maps) {
            return Some(Work::Maps);
        }
        let row = self.rows.front_mut()?;
        if core::mem::take(&mut row.gone) {
            let name = row.name.clone();
            if !row.look {
                self.rows.pop_front();
            }
            return Some(Work::Gone(name));
        }
        self.rows.pop_front().map(|row| Work::Look(row.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    fn drain(p: &mut Pending) -> Vec<Work> {
        core::iter::from_fn(|| p.pop()).collect()
    }

    fn name(text: &str) -> DevName {
        DevName::try_from(text).unwrap()
    }

    #[test]
    fn a_name_that_went_and_came() {
        let mut p = Pending::new();
        p.push_disk(Action::Remove, "sda");
        p.push_disk(Action::Change, "sdb");
        p.push_disk(Action::Add, "sda");
        p.push_disk(Action::Change, "sda");
        assert_eq!(drain(&mut p), [Work::Gone(name("sda")), Work::Look(name("sda")), Work::Look(name("sdb"))]);
        assert!(p.is_empty());
    }

    #[test]
    fn a_name_that_came_and_went() {
        let mut p = Pending::new();
        p.push_disk(Action::Add, "sda");
        p.push_disk(Action::Remove, "sda");
        assert_eq!(drain(&mut p), [Work::Gone(name("sda"))]);
    }

    #[test]
    fn full_is_a_scan() {
        let mut p = Pending::new();
        for i in 0..=ROWS {
            p.push_disk(Action::Add, &format!("sd{i}"));
        }
        p.push_disk(Action::Add, "dm-0");
        assert_eq!(drain(&mut p), [Work::Everything]);
        p.push_disk(Action::Add, "sda");
        assert_eq!(drain(&mut p), [Work::Look(name("sda"))], "works again afterwards");
    }

    #[test]
    fn maps_and_partitions() {
        let mut p = Pending::new();
        let event = b"add@/b/sda1\0ACTION=add\0DEVPATH=/b/sda1\0SUBSYSTEM=block\0DEVTYPE=partition\0";
        p.push(&Uevent::parse(event).unwrap());
        assert!(p.is_empty());
        p.push_disk(Action::Change, "dm-3");
        p.push_disk(Action::Remove, "dm-3");
        assert_eq!(drain(&mut p), [Work::Maps]);
    }
}
