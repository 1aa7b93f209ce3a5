//! Which sections are about the same thing: found by hash, the later one linked to the earlier; and who of all that want one alias gets it.

use super::super::complaint::{InForce, What};
use super::super::keyword::{self, Key, Place};
use super::super::value;
use super::{Entry, Link, Parser, Section};

/// FNV-1a over parts that cannot run into each other.
pub fn hash(parts: &[Option<&str>]) -> u32 {
    let mut hash = 0x811c_9dc5u32;
    for part in parts {
        for b in part.map_or(&[0xfe][..], str::as_bytes).iter().chain(&[0xff]) {
            hash = (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193);
        }
    }
    hash
}

/// The slot of the item that `is_it` accepts, and the item; or the free slot where it belongs. `None`: all slots are taken by others.
pub fn slot(slots: &[u32], hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<(usize, Option<u32>)> {
    let len = slots.len();
    let start = (hash as usize).checked_rem(len)?;
    (0..len).find_map(|i| {
        let at = (start + i) % len;
        let held = slots.get(at)?.checked_sub(1);
        held.is_none_or(&mut is_it).then_some((at, held))
    })
}

/// Marks a slot that says which section has an alias.
const ALIAS: u32 = 1 << 31;

impl<'a> Parser<'a> {
    /// The end of an inner block: is it complete, and has there been one for the same thing?
    pub(super) fn complete(&mut self) {
        let Some(this) = self.section_count.checked_sub(1) else { return };
        let Some(&section) = self.sections.get(this) else { return };
        let of_list = matches!(section.place, Place::BlacklistDevice | Place::ExceptionsDevice);
        let complete = match section.place {
            Place::Device => self.text_of(&section, Key::Vendor).is_some() && self.text_of(&section, Key::Product).is_some(),
            Place::Multipath => self.text_of(&section, Key::MapWwid).is_some(),
            Place::Protocol => own(self.entries, &section, Key::Type).is_some(),
            _ => section.count > 0,
        };
        if !complete {
            self.section_count = this;
            self.entry_count = section.first as usize;
            // One that names no device keeps nothing out: the peer says nothing either.
            if !of_list {
                self.complain_at(self.opened, What::Incomplete, None, &[], InForce::Nothing);
            }
            return;
        }
        if of_list {
            return;
        }
        let identity = self.identity(&section);
        let found = slot(self.slots, hash(&identity), |other| {
            let other = self.sections.get(other as usize).filter(|_| other & ALIAS == 0);
            other.is_some_and(|other| other.place == section.place && self.identity(other) == identity)
        });
        match found {
            Some((i, Some(earlier))) => {
                self.hold(i, this as u32);
                let Ok([before, now]) = self.sections.get_disjoint_mut([earlier as usize, this]) else { return };
                before.superseded = true;
                now.link = Link::Section(earlier);
                let same_file = before.file == now.file;
                // Another file's device entry is there to be added to; of a map only one section is expected.
                let what = match section.place {
                    Place::Device if same_file => What::DuplicateDevice,
                    Place::Multipath => What::DuplicateMultipath,
                    _ => return,
                };
                self.complain_at(section.line, what, None, &[], InForce::Written);
            }
            Some((i, None)) if self.slots_used < self.slots.len() / 2 => {
                self.hold(i, this as u32);
                self.slots_used += 1;
            }
            _ => {
                self.section_count = this;
                self.entry_count = section.first as usize;
                self.complain_at(section.line, What::Full, None, &[], InForce::Nothing);
            }
        }
    }

    /// From now on slot `i` holds `item`.
    fn hold(&mut self, i: usize, item: u32) {
        if let Some(slot) = self.slots.get_mut(i) {
            *slot = item + 1;
        }
    }

    /// What makes two sections of one kind the same.
    fn identity(&self, section: &Section) -> [Option<&'a str>; 3] {
        match section.place {
            Place::Device => [Key::Vendor, Key::Product, Key::Revision].map(|key| self.text_of(section, key)),
            Place::Multipath => [self.text_of(section, Key::MapWwid), None, None],
            _ => {
                let code = own(self.entries, section, Key::Type).and_then(|entry| entry.value.number());
                [keyword::PROTOCOLS.iter().find(|(_, c)| Some(*c) == code).map(|(word, _)| *word), None, None]
            }
        }
    }
    fn text_of(&self, section: &Section, key: Key) -> Option<&'a str> {
        own(self.entries, section, key).and_then(|entry| entry.value.text())
    }

    /// Of all maps that want one alias, the one with the smallest WWID gets it, as with the peer.
    pub(super) fn give_aliases(&mut self) {
        for this in 0..self.section_count {
            if self.sections.get(this).is_none_or(|section| section.place != Place::Multipath || section.superseded) {
                continue;
            }
            let Some(entry) = chain(self.sections, self.entries, this, Key::Alias) else { continue };
            let Some(alias) = entry.value.text() else { continue };
            let wwid = |section: usize| self.sections.get(section).and_then(|section| self.text_of(section, Key::MapWwid));
            let found = slot(self.slots, hash(&[Some(alias)]), |other| {
                other & ALIAS != 0 && {
                    let held = chain(self.sections, self.entries, (other & !ALIAS) as usize, Key::Alias);
                    held.and_then(|entry| entry.value.text()) == Some(alias)
                }
            });
            let Some((i, holder)) = found else { continue };
            let holder = holder.map(|holder| (holder & !ALIAS) as usize);
            let loser = match holder {
                Some(holder) if wwid(this) >= wwid(holder) => Some(this),
                _ => {
                    self.hold(i, this as u32 | ALIAS);
                    holder
                }
            };
            let Some(loser) = loser.and_then(|loser| self.sections.get_mut(loser)) else { continue };
            loser.alias_lost = true;
            let Section { file, line, place, .. } = *loser;
            (self.file, self.place) = (file, place);
            self.complain_at(line, What::DuplicateAlias, Some(Key::Alias), alias.as_bytes(), InForce::Nothing);
        }
    }
}

/// The value that counts in one section: the last one given.
pub fn own<'e, 'a>(entries: &'e [Entry<'a>], section: &Section, key: Key) -> Option<&'e Entry<'a>> {
    run(entries, section).iter().rev().find(|entry| entry.key == key)
}

/// The values of one section.
pub fn run<'e, 'a>(entries: &'e [Entry<'a>], section: &Section) -> &'e [Entry<'a>] {
    let first = section.first as usize;
    entries.get(first..first + section.count as usize).unwrap_or_default()
}

/// The value that counts in a section and those it took over from.
pub fn chain<'e, 'a>(sections: &[Section], entries: &'e [Entry<'a>], from: usize, key: Key) -> Option<&'e Entry<'a>> {
    let mut at = Some(from);
    while let Some(section) = at.and_then(|i| sections.get(i)) {
        match own(entries, section, key) {
            Some(entry) if !value::is_unset(key, entry.value) => return Some(entry),
            _ => at = if let Link::Section(earlier) = section.link { Some(earlier as usize) } else { None },
        }
    }
    None
}
