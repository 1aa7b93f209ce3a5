//! Where readers put what they find: every entry passes the same checks (inside the disk, no overlap, a number and a slot left), every
//! refusal becomes a [`Complaint`]. Full is an answer: complaints that have no room are counted.

use super::{Complaint, MAX_NUMBER, Name, Partition, Type, Unique};
use crate::model::Sectors;
use heapless::VecView;

/// What overlaps a format allows between its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Nesting {
    /// None: UEFI 5.3.1 wants GPT partitions apart.
    Never,
    /// An entry may lie inside an earlier, larger one: logical partitions, and the images that boot from disc and stick (isohybrid).
    Inside,
    /// Either may hold the other, or be its twin: labels with a slice for the whole disk (BSD `c`, Sun and Solaris slice 2).
    Either,
}

/// The caller's room for partitions and complaints.
pub struct Found<'a> {
    partitions: &'a mut VecView<Partition>,
    complaints: &'a mut VecView<Complaint>,
    lost: u32,
    complete: bool,
    disk_sectors: u64,
}

/// A state to go back to: what was read so far turned out to be wrong.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    partitions: usize,
    complaints: usize,
    lost: u32,
}

impl<'a> Found<'a> {
    /// Empty; what the views held is dropped.
    pub fn new(partitions: &'a mut VecView<Partition>, complaints: &'a mut VecView<Complaint>) -> Found<'a> {
        partitions.clear();
        complaints.clear();
        Found { partitions, complaints, lost: 0, complete: true, disk_sectors: 0 }
    }
    /// In ascending order of their numbers once [`super::read`] has returned.
    pub fn partitions(&self) -> &[Partition] {
        self.partitions
    }
    pub fn complaints(&self) -> &[Complaint] {
        self.complaints
    }
    /// Complaints that had no room.
    pub fn lost(&self) -> u32 {
        self.lost
    }
    /// False when part of a recognised table could not be read: nothing may be removed on the word of this list.
    pub fn complete(&self) -> bool {
        self.complete
    }

    pub(super) fn start(&mut self, disk_sectors: u64) {
        self.drop_all();
        self.complaints.clear();
        self.lost = 0;
        self.complete = true;
        self.disk_sectors = disk_sectors;
    }
    pub(super) fn drop_all(&mut self) {
        self.partitions.clear();
    }
    pub(super) fn mark(&self) -> Mark {
        Mark { partitions: self.partitions.len(), complaints: self.complaints.len(), lost: self.lost }
    }
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.partitions.truncate(mark.partitions);
        self.complaints.truncate(mark.complaints);
        self.lost = mark.lost;
    }
    pub(super) fn complain(&mut self, complaint: Complaint) {
        if let Complaint::Unreadable { .. } = complaint {
            self.complete = false;
        }
        if self.complaints.push(complaint).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// Takes `new` or complains. An entry of length 0 is an unused slot and no matter.
    pub(super) fn put(&mut self, new: Partition, nesting: Nesting) {
        let number = new.number;
        if new.length.0 == 0 {
            return;
        }
        let span = if new.span.0 < new.length.0 { new.length } else { new.span };
        let fits = |length: u64| new.start.0.checked_add(length).is_some_and(|end| end <= self.disk_sectors);
        if !fits(new.length.0) {
            return self.complain(Complaint::Outside { number, start: new.start.0, length: new.length.0 });
        }
        // An extended partition may claim more than the disk has: the kernel maps its head and looks at each logical one.
        let end = new.start.0.saturating_add(span.0);
        for old in self.partitions.iter() {
            let old_end = old.start.0.saturating_add(old.span.0);
            if end <= old.start.0 || old_end <= new.start.0 {
                continue;
            }
            let inside = old.start.0 <= new.start.0 && end <= old_end;
            let around = new.start.0 <= old.start.0 && old_end <= end;
            let allowed = match nesting {
                Nesting::Never => false,
                Nesting::Inside => inside && !around,
                Nesting::Either => inside || around,
            };
            if !allowed {
                let with = old.number;
                return self.complain(Complaint::Overlap { number, with });
            }
        }
        if number == 0 || number > MAX_NUMBER || self.partitions.push(Partition { span, ..new }).is_err() {
            self.complain(Complaint::TooMany { number });
        }
    }

    /// One slice of a label that lies inside primary `outer`, under the next free number.
    pub(super) fn put_inside(&mut self, outer: &Partition, start: u64, length: u32, kind: Type, next: &mut u32) {
        let (number, length) = (*next, u64::from(length));
        if number > MAX_NUMBER {
            return self.complain(Complaint::TooMany { number });
        }
        *next += 1;
        let within = start >= outer.start.0 && start.saturating_add(length) <= outer.start.0.saturating_add(outer.span.0);
        if !within {
            return self.complain(Complaint::NotInParent { number, parent: outer.number });
        }
        let partition = Partition {
            number,
            start: Sectors(start),
            length: Sectors(length),
            span: Sectors(length),
            container: outer.number,
            kind,
            unique: Unique::None,
            name: Name::default(),
        };
        self.put(partition, Nesting::Either);
    }

    /// Orders by number and names the containers that readers did not name: of several the smallest, of twins the later.
    pub(super) fn finish(&mut self) {
        crate::order::sort(self.partitions, |a, b| a.number < b.number);
        for i in 0..self.partitions.len() {
            let inner = self.partitions[i];
            if inner.container != 0 {
                continue;
            }
            let end = inner.start.0.saturating_add(inner.span.0);
            let outer = self
                .partitions
                .iter()
                .filter(|p| p.start.0 <= inner.start.0 && end <= p.start.0.saturating_add(p.span.0))
                .filter(|p| (p.span.0, p.number) > (inner.span.0, inner.number))
                // Of a primary and its label's slice for the whole, the reader has said which holds which.
                .filter(|p| p.container != inner.number)
                .min_by_key(|p| (p.span.0, p.number));
            if let Some(outer) = outer {
                self.partitions[i].container = outer.number;
            }
        }
    }
}
