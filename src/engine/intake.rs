//! Disks come, change and go: facts in, path slots and their maps' membership out.
//!
//! Decides whose a disk is (claim.rs) and what a change means: another WWID fails the path at once, another size is the map's
//! business. Never talks to a device. A slot outlives its disk until no live table and no job needs it.

use super::checker;
use super::claim::{self, Candidate, Claim, Nexus, Siblings};
use super::map::Known;
use super::note::{Cause, Room, What};
use super::path::{Admin, Fds, Held, Job, Nodes, PathSlot};
use super::storage::{NONE, hash, hash_pair};
use super::{Context, Engine, Reason};
use crate::conf::blacklist::properties;
use crate::conf::settings::Verdict;
use crate::model::{DevNo, Holder, PathFacts, PathState, Prio, SysState, Text, UUID_PREFIX};

/// The property by which udev's rules tell all others that a disk is a path.
const MARK: &[u8] = b"DM_MULTIPATH_DEVICE_PATH";

/// Paths given up per call when a scan missed many.
pub(super) const SWEEP: usize = 64;

impl Engine<'_> {
    /// The present (not gone) path of this kernel name.
    pub(super) fn path_by_name(&self, name: &str) -> Option<u32> {
        self.path_names.find(hash(name.as_bytes()), |i| self.paths[i].name == name)
    }

    /// The present path of this device number.
    pub(super) fn path_by_devno(&self, devno: DevNo) -> Option<u32> {
        self.path_devnos.find(hash_pair(devno.major, devno.minor), |i| self.paths[i].devno == devno)
    }

    /// `Event::Facts`.
    #[inline(never)]
    pub(super) fn facts(&mut self, cx: &Context<'_>, facts: &PathFacts, udev: Option<&[u8]>, own: bool) {
        if let Some(old) = self.path_by_devno(facts.devno).filter(|&i| self.paths[i].name != facts.name) {
            self.path_gone(cx, old);
        }
        let found = self.path_by_name(&facts.name).filter(|&i| {
            let p = &self.paths[i];
            p.devno == facts.devno && (p.diskseq == 0 || facts.diskseq == 0 || p.diskseq == facts.diskseq)
        });
        let i = match found {
            Some(i) => i,
            None => {
                if let Some(old) = self.path_by_name(&facts.name) {
                    self.path_gone(cx, old);
                }
                match self.path_new(cx, facts) {
                    Some(i) => i,
                    None => return,
                }
            }
        };
        self.path_seen(i);
        self.path_refresh(cx, i, facts);
        // A path that does not answer shows no identity; it is judged by the one it had.
        let unnamed = facts.wwid.is_empty();
        let kept;
        let facts = if unnamed && !self.paths[i].wwid.is_empty() {
            kept = self.facts_of(i);
            &kept
        } else {
            facts
        };
        self.paths[i].verdict = match cx.settings.filter(facts, udev) {
            // udev could not ask it either.
            Verdict::MissingProperty if unnamed || own => cx.settings.filter(facts, None),
            verdict => verdict,
        };
        self.judge(cx, i, facts);
        if found.is_none() {
            // Later entries may be older than what udev was told since.
            let marked = udev.is_some_and(|udev| properties(udev).any(|name| name == MARK));
            self.paths[i].announced = marked && matches!(self.paths[i].held, Held::Ours(_));
        }
    }

    fn path_seen(&mut self, i: u32) {
        self.paths[i].seen = self.scan.serial;
        self.path_order.remove(&mut self.path_seen_list, i);
        self.path_order.push_back(&mut self.path_seen_list, i);
    }

    #[inline(never)]
    fn path_new(&mut self, cx: &Context<'_>, facts: &PathFacts) -> Option<u32> {
        let Ok(port) = self.port_for(facts) else {
            self.note(None, None, What::Full { what: Room::Ports, refused: self.ports.refused });
            return None;
        };
        let Ok(i) = self.paths.take() else {
            self.port_unused(port);
            self.note(None, None, What::Full { what: Room::Paths, refused: self.paths.refused });
            return None;
        };
        let head = self.paths[i].head;
        self.paths[i] = PathSlot { head, found_at: cx.now, ..PathSlot::default() };
        if !self.path_profile(cx, i, facts, false) {
            self.paths.give(i);
            self.port_unused(port);
            self.note(None, None, What::Full { what: Room::Profiles, refused: self.profiles.refused });
            return None;
        }
        self.paths[i].absorb(facts);
        self.path_names.insert(hash(facts.name.as_bytes()), i);
        self.path_devnos.insert(hash_pair(facts.devno.major, facts.devno.minor), i);
        self.path_set_wwid(i, &facts.wwid);
        self.paths[i].wwid_origin = facts.wwid_origin;
        self.paths[i].port = port;
        self.path_by_port.push_back(&mut self.ports[port].paths, i);
        self.bind_live_member(i, facts);
        self.note(Some(i), None, What::PathFound);
        Some(i)
    }

    /// A live table may hold the device number already: that is how a restart finds its paths again.
    fn bind_live_member(&mut self, i: u32, facts: &PathFacts) {
        let holder = match &facts.holder {
            Holder::Map { devno, .. } => self.map_by_devno(*devno),
            _ => None,
        };
        // Two, when it became another disk while a table held it: it lives in its own, and is failed in the other.
        for m in [self.map_by_wwid(&facts.wwid), holder].into_iter().flatten() {
            if let Some(member) = self.maps[m].have.members.iter_mut().find(|x| x.devno == facts.devno && x.path == NONE) {
                member.path = i;
                let path = &mut self.paths[i];
                if path.live_in == NONE {
                    (path.live_in, path.dm) = (m, member.dm);
                }
                self.maps[m].replan = true;
                self.map_touch(m);
            }
        }
    }

    /// What changed in a path that is known.
    fn path_refresh(&mut self, cx: &Context<'_>, i: u32, facts: &PathFacts) {
        let old = &self.paths[i];
        let (old_size, old_sys, old_ro, old_access) = (old.size, old.sys, old.read_only, (old.access, old.preferred));
        // The identity it had stands until it shows another.
        let changed = !facts.wwid.is_empty() && old.wwid != facts.wwid;
        let first = old.wwid.is_empty();
        self.paths[i].absorb(facts);
        self.port_refresh(i, facts);
        if changed {
            if !first {
                self.note(Some(i), self.map_id_of(i), What::WwidChanged);
                self.path_leave(cx, i);
                let strange = self.maps.get(self.paths[i].live_in).is_some_and(|map| map.wwid != facts.wwid);
                let p = &mut self.paths[i];
                p.judged = false;
                p.state = PathState::Unchecked;
                p.prio = Prio::UNDEFINED;
                p.cause = Cause::WwidChanged;
                p.exchanged = strange;
                checker::emc::renamed(&mut p.memory, &p.wwid, &facts.wwid);
                self.refresh_usable(cx, self.paths[i].live_in);
            }
            self.path_set_wwid(i, &facts.wwid);
            self.paths[i].wwid_origin = facts.wwid_origin;
            self.map_touch(self.paths[i].live_in);
        }
        let map = self.paths[i].map;
        if core::mem::take(&mut self.paths[i].unsure) {
            self.refresh_usable(cx, map);
            self.map_touch(map);
        }
        // What was read before it was asked for does not count.
        self.paths[i].unmeasured &= self.paths[i].look;
        if old_size != facts.size && old_size.0 != 0 {
            self.note(Some(i), self.map_id_of(i), What::SizeChanged);
            self.map_touch(map);
        }
        if map != NONE {
            if self.paths[i].nodes == Nodes::Gone {
                self.paths[i].nodes = Nodes::Again;
                self.path_touch(i);
            }
            // Any of these may decide whether, and how, it can stand in the table.
            self.maps[map].replan = true;
        }
        if old_ro != facts.read_only {
            if map != NONE && old_ro {
                self.maps[map].writable = true;
                self.maps[map].force_read_only = false;
            }
            self.map_touch(map);
        }
        if old_sys != facts.sys_state || old_access != (facts.access, facts.preferred) {
            // What sysfs says is a hint to ask the device, now; a one-shot run, too, asks once more.
            self.paths[i].judged &= self.options.resident;
            self.path_account(i);
            self.check_now(cx, i);
        }
    }

    fn path_set_wwid(&mut self, i: u32, wwid: &str) {
        if !self.paths[i].wwid.is_empty() {
            let h = hash(self.paths[i].wwid.as_bytes());
            self.path_wwids.remove(h, i);
        }
        let p = &mut self.paths[i];
        p.wwid.clear();
        // Same capacity on both sides: it fits.
        let _ = p.wwid.push_str(wwid);
        if !wwid.is_empty() {
            self.path_wwids.insert(hash(wwid.as_bytes()), i);
        }
    }

    /// `Event::Gone`, or found missing.
    pub(super) fn path_gone(&mut self, cx: &Context<'_>, i: u32) {
        if self.paths[i].gone {
            return;
        }
        self.note(Some(i), self.map_id_of(i), What::PathLost);
        let p = &mut self.paths[i];
        p.gone = true;
        p.state = PathState::Removed;
        p.cause = Cause::Gone;
        let (name, devno, wwid) = (hash(p.name.as_bytes()), p.devno, p.wwid.clone());
        self.path_names.remove(name, i);
        self.path_devnos.remove(hash_pair(devno.major, devno.minor), i);
        self.path_leave(cx, i);
        if !wwid.is_empty() {
            self.path_wwids.remove(hash(wwid.as_bytes()), i);
        }
        self.path_order.remove(&mut self.path_seen_list, i);
        let live = self.paths[i].live_in;
        self.refresh_usable(cx, live);
        self.map_touch(live);
        self.path_touch(i);
        // Fewer ways to the same disk may change what the others are worth.
        if !wwid.is_empty() && !self.crowded(&wwid, i) {
            self.judge_siblings(cx, &wwid, i);
        }
    }

    /// Takes the path out of the map it is wanted in.
    pub(super) fn path_leave(&mut self, cx: &Context<'_>, i: u32) {
        let map = self.paths[i].map;
        // One that left before may have a job under way, whose deadline stands.
        if map == NONE {
            return;
        }
        self.activation_dropped(cx, i);
        self.timers.set(i, None);
        self.path_by_map.remove(&mut self.maps[map].paths, i);
        self.paths[i].map = NONE;
        self.maps[map].replan = true;
        self.path_account(i);
        self.refresh_usable(cx, map);
        self.map_touch(map);
        self.path_touch(i);
    }

    /// Does a table hold it that it does not live in?
    fn held_elsewhere(&self, i: u32) -> bool {
        (0..self.maps.capacity() as u32).any(|m| self.maps.get(m).is_some_and(|map| map.have.members.iter().any(|x| x.path == i)))
    }

    /// Frees the slot of a gone path when nobody needs it any more.
    pub(super) fn path_free_if_unused(&mut self, i: u32) {
        let p = &self.paths[i];
        if !p.gone
            || p.live_in != NONE
            || p.job != Job::None
            || p.fds != Fds::Closed
            // Its worker is away with what belongs to the slot.
            || p.overdue.is_some()
            || self.held_elsewhere(i)
        {
            return;
        }
        let (port, profile) = (p.port, p.profile);
        self.timers.set(i, None);
        self.path_ready_chain.remove(&mut self.path_ready, i);
        self.path_probe_chain.remove(&mut self.probe_wait, i);
        self.port_leave(i);
        self.port_unused(port);
        self.profile_release(profile);
        self.paths[i].profile = NONE;
        self.paths.give(i);
    }

    /// `Event::ScanDone`: those not mentioned are gone, some at a time.
    pub(super) fn sweep_paths(&mut self, cx: &Context<'_>) {
        for _ in 0..SWEEP {
            let i = self.path_seen_list.head;
            if i == NONE || self.paths[i].seen == self.scan.serial {
                self.scan.sweeping = false;
                return;
            }
            self.path_gone(cx, i);
        }
    }

    /// Facts as they were told, from what is kept.
    #[inline(never)]
    pub(super) fn facts_of(&self, i: u32) -> PathFacts {
        let p = &self.paths[i];
        let mut f = PathFacts {
            name: p.name.clone(),
            devno: p.devno,
            diskseq: p.diskseq,
            bus: p.bus,
            protocol: p.protocol,
            hctl: p.hctl,
            serial: p.serial.clone(),
            wwid: p.wwid.clone(),
            wwid_origin: p.wwid_origin,
            size: p.size,
            block_size: p.block_size,
            read_only: p.read_only,
            removable: p.removable,
            hidden: p.hidden,
            usb: p.usb,
            tpgs: p.tpgs,
            target_port_group: p.target_port_group,
            relative_port: p.relative_port,
            access: p.access,
            preferred: p.preferred,
            sys_state: p.sys,
            handler: p.handler.clone(),
            timeout_secs: p.timeout_secs,
            ..PathFacts::default()
        };
        f.holder = match p.held {
            Held::Nobody => Holder::Nobody,
            Held::Ours(devno) => {
                let mut uuid: Text<128> = Text::new();
                // Of that map, which is another's where the disk has become another LUN. 6 and 122 bytes.
                let wwid = self.map_by_devno(devno).map_or(&p.wwid, |m| &self.maps[m].wwid);
                let _ = uuid.push_str(UUID_PREFIX).and_then(|()| uuid.push_str(wwid));
                Holder::Map { devno, uuid }
            }
            Held::Others => Holder::Device(Text::new()),
        };
        if let Some(port) = self.ports.get(p.port) {
            f.host_node = port.host_node.clone();
            f.host_port = port.host_port.clone();
            f.target_node = port.target_node.clone();
            f.target_port = port.target_port.clone();
            f.adapter = port.adapter.clone();
        }
        if let Some(profile) = self.profiles.get(p.profile) {
            f.vendor = profile.vendor.clone();
            f.product = profile.product.clone();
            f.revision = profile.revision.clone();
        }
        f
    }

    /// Is it ours? Puts it into its map or takes it out. Its siblings are asked again when their number changed.
    pub(super) fn judge(&mut self, cx: &Context<'_>, i: u32, facts: &PathFacts) {
        let before = self.paths[i].reason;
        self.judge_one(cx, i, facts);
        let wwid = self.paths[i].wwid.clone();
        if before != self.paths[i].reason && !self.crowded(&wwid, i) {
            self.judge_siblings(cx, &wwid, i);
        }
    }

    /// Do so many disks have this WWID that one more or less changes nothing, and has another than `i` been told so? Without this
    /// question a fabric full of disks that share one broken identity would take the square of their number.
    fn crowded(&self, wwid: &str, i: u32) -> bool {
        let mut at = self.path_wwids.first(hash(wwid.as_bytes()));
        while at != NONE && (at == i || self.paths[at].wwid != wwid) {
            at = self.path_wwids.after(at);
        }
        at != NONE && self.paths[at].crowded && self.siblings(wwid).0.crowd()
    }

    /// Asks again for every path of this WWID but `except`.
    pub(super) fn judge_siblings(&mut self, cx: &Context<'_>, wwid: &str, except: u32) {
        if wwid.is_empty() {
            return;
        }
        let mut at = self.path_wwids.first(hash(wwid.as_bytes()));
        while at != NONE {
            let next = self.path_wwids.after(at);
            if at != except && !self.paths[at].gone && self.paths[at].wwid == wwid {
                let facts = self.facts_of(at);
                self.judge_one(cx, at, &facts);
            }
            at = next;
        }
    }

    fn siblings(&self, wwid: &str) -> (Siblings, crate::model::Instant) {
        let mut siblings = Siblings::default();
        let mut since = self.now;
        let mut at = self.path_wwids.first(hash(wwid.as_bytes()));
        while at != NONE {
            let p = &self.paths[at];
            if !p.gone && p.wwid == wwid {
                siblings.add(Nexus::at(p.bus, p.hctl, &p.name, p.devno));
                if p.held == Held::Others {
                    siblings.hold();
                }
                since = since.min(p.found_at);
                if siblings.crowd() {
                    break;
                }
            }
            at = self.path_wwids.after(at);
        }
        (siblings, since)
    }

    #[inline(never)]
    fn judge_one(&mut self, cx: &Context<'_>, i: u32, facts: &PathFacts) {
        let wwid = self.paths[i].wwid.clone();
        let (siblings, since) = self.siblings(&wwid);
        self.paths[i].crowded = siblings.crowd();
        let live_in = self.paths[i].live_in;
        // The live table is a better witness than an identity that cannot be read now.
        let orphan_of = if wwid.is_empty() && live_in != NONE && self.paths[i].sys != SysState::Deleted { live_in } else { NONE };
        let map = if orphan_of != NONE { Some(orphan_of) } else { self.map_by_wwid(&wwid) };
        // One of which nothing is known for a moment still lives if it ever did.
        let lives = |have: &super::map::Have| have.known == Known::Live || (have.known == Known::Unknown && have.devno != DevNo::default());
        let live_map = map.is_some_and(|m| lives(&self.maps[m].have) && !self.maps[m].remove);
        let p = &self.paths[i];
        let claim = if orphan_of != NONE && matches!(p.verdict, Verdict::Accepted | Verdict::Whitelisted { .. }) {
            Claim::Yes(Reason::LiveMap)
        } else {
            let candidate = Candidate {
                facts,
                verdict: p.verdict,
                named: !wwid.is_empty() && cx.settings.named(&wwid),
                live_map,
                asked: p.admin == Admin::Asked,
                taken_out: p.admin == Admin::TakenOut,
                siblings,
                known_array: self.known_array(cx, facts),
                since,
            };
            claim::claim(&candidate, &self.claim_rules(cx), cx.now)
        };
        let until = match claim {
            Claim::Wait { until } => Some(until),
            _ => None,
        };
        let reason = match claim {
            Claim::Yes(reason) | Claim::No(reason) => reason,
            Claim::Wait { .. } => Reason::SmartWait,
        };
        // Once live, a map keeps its paths although the reason they were taken for has gone (the second path, say).
        self.paths[i].smart_until = until;
        let ours = matches!(claim, Claim::Yes(_));
        if self.paths[i].reason != reason {
            self.paths[i].reason = reason;
            // During the first scan the verdict may still change with the next disk.
            if !ours && until.is_none() && self.scanned {
                self.note(Some(i), None, What::PathRefused(reason));
            }
        }
        if until.is_some() {
            self.path_arm(i);
        }
        if !ours {
            self.path_leave(cx, i);
            self.map_touch(self.paths[i].live_in);
            return;
        }
        self.path_join(cx, i, facts, map);
    }

    /// Puts a path into its map, which is made known if it is not yet.
    fn path_join(&mut self, cx: &Context<'_>, i: u32, facts: &PathFacts, map: Option<u32>) {
        let m = match map {
            Some(m) => m,
            None => match self.map_new(&self.paths[i].wwid.clone()) {
                Some(m) => m,
                None => {
                    self.paths[i].reason = Reason::NoRoom;
                    return;
                }
            },
        };
        let reprofiled = self.paths[i].settings_of != self.settings_serial;
        if reprofiled && !self.path_profile(cx, i, facts, true) {
            self.note(Some(i), None, What::Full { what: Room::Profiles, refused: self.profiles.refused });
            self.paths[i].reason = Reason::NoRoom;
            self.path_leave(cx, i);
            return;
        }
        if self.paths[i].map != m {
            self.path_leave(cx, i);
            self.paths[i].map = m;
            self.path_by_map.push_back(&mut self.maps[m].paths, i);
            if let Some(x) = self.maps[m].have.members.iter().find(|x| x.path == i) {
                // It may have been another disk meanwhile, and live where that is held.
                (self.paths[i].live_in, self.paths[i].dm) = (m, x.dm);
            }
            if self.maps[m].settings_of != self.settings_serial {
                self.map_settings(cx, m, facts);
            }
            self.path_start(cx, i, facts);
            self.map_new_member(cx, m);
        } else {
            if reprofiled {
                self.path_detect(i, facts);
                self.paths[i].tuned = 0;
                self.check_now(cx, i);
            }
            if self.maps[m].settings_of != self.settings_serial {
                self.map_settings(cx, m, facts);
            }
        }
        self.refresh_usable(cx, m);
        self.map_touch(m);
    }
}
