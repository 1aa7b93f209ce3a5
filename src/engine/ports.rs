//! Ports and profiles: what several paths share. A port is one I_T nexus (host, channel, target); its paths fail and return together, and
//! are asked together when it falls silent or answers again.

use super::claim::Nexus;
use super::note::{Cause, What};
use super::path::{PortSlot, ProfileSlot};
use super::schedule::PortChange;
use super::storage::{NONE, hash, hash_pair};
use super::{Context, Engine};
use crate::conf::settings::PathSettings;
use crate::fault::Full;
use crate::model::{PathFacts, PathState};

fn key_hash(nexus: Nexus) -> u32 {
    let (a, b) = nexus.key();
    hash_pair(a, (b as u32) ^ ((b >> 32) as u32).rotate_left(16))
}

impl Engine<'_> {
    /// The port of a disk, made known if it is not yet.
    pub(super) fn port_for(&mut self, facts: &PathFacts) -> Result<u32, Full> {
        let nexus = Nexus::of(facts);
        if let Some(i) = self.port_keys.find(key_hash(nexus), |i| self.ports[i].nexus == Some(nexus)) {
            return Ok(i);
        }
        let i = self.ports.take()?;
        let head = self.ports[i].head;
        self.ports[i] = PortSlot::default();
        let port = &mut self.ports[i];
        (port.head, port.nexus) = (head, Some(nexus));
        self.port_keys.insert(key_hash(nexus), i);
        Ok(i)
    }

    /// Texts of the port as last told; a target that was renumbered shows its new names.
    pub(super) fn port_refresh(&mut self, i: u32, facts: &PathFacts) {
        let Some(port) = self.ports.get(self.paths[i].port).map(|_| self.paths[i].port) else { return };
        let p = &mut self.ports[port];
        if p.target_port != facts.target_port || p.target_node != facts.target_node || p.host_port != facts.host_port {
            p.host_node = facts.host_node.clone();
            p.host_port = facts.host_port.clone();
            p.target_node = facts.target_node.clone();
            p.target_port = facts.target_port.clone();
        }
        if p.adapter != facts.adapter {
            p.adapter = facts.adapter.clone();
        }
    }

    /// The path is no longer one of its port's.
    pub(super) fn port_leave(&mut self, i: u32) {
        let port = self.paths[i].port;
        if port == NONE {
            return;
        }
        self.path_lost(i, None);
        let next = self.path_by_port.next(i);
        self.path_by_port.remove(&mut self.ports[port].paths, i);
        let silent = core::mem::take(&mut self.paths[i].silent);
        self.ports[port].silence.left(silent);
        self.path_waiting.remove(&mut self.ports[port].waiting, i);
        if self.ports[port].rousing == i {
            self.ports[port].rousing = next;
        }
        let silent = core::mem::take(&mut self.paths[i].silent);
        self.ports[port].silence.left(silent);
        self.paths[i].port = NONE;
    }

    /// Frees a port without paths.
    pub(super) fn port_unused(&mut self, port: u32) {
        if port == NONE || self.ports[port].paths.len > 0 {
            return;
        }
        if let Some(nexus) = self.ports[port].nexus {
            self.port_keys.remove(key_hash(nexus), port);
        }
        self.port_chain.remove(&mut self.rousing, port);
        self.away = self.away.saturating_sub(self.ports[port].busy);
        self.ports.give(port);
    }

    /// Gives the path the profile of its model and settings (`ours`: derived now; else none are needed). False when there is no room.
    pub(super) fn path_profile(&mut self, cx: &Context<'_>, i: u32, facts: &PathFacts, ours: bool) -> bool {
        let settings = if ours { cx.settings.path(facts) } else { PathSettings::default() };
        let h = hash(facts.product.as_bytes()) ^ hash(facts.vendor.as_bytes()).rotate_left(8);
        let found = self.profile_keys.find(h, |k| {
            let p = &self.profiles[k];
            p.product == facts.product
                && p.vendor == facts.vendor
                && p.revision == facts.revision
                && p.ours == ours
                && p.settings == settings
        });
        let k = match found {
            Some(k) => k,
            None => {
                let Ok(k) = self.profiles.take() else { return false };
                let head = self.profiles[k].head;
                self.profiles[k] = ProfileSlot {
                    head,
                    vendor: facts.vendor.clone(),
                    product: facts.product.clone(),
                    revision: facts.revision.clone(),
                    settings,
                    ours,
                    users: 0,
                    hash: h,
                };
                self.profile_keys.insert(h, k);
                k
            }
        };
        self.profiles[k].users += 1;
        let old = self.paths[i].profile;
        self.paths[i].profile = k;
        if ours {
            self.paths[i].settings_of = self.settings_serial;
        }
        self.profile_release(old);
        true
    }

    pub(super) fn profile_release(&mut self, k: u32) {
        if k == NONE {
            return;
        }
        let p = &mut self.profiles[k];
        p.users -= 1;
        if p.users == 0 {
            let h = p.hash;
            self.profile_keys.remove(h, k);
            self.profiles.give(k);
        }
    }

    /// The port was heard through this path, or was not.
    pub(super) fn port_heard(&mut self, i: u32, silent: bool) {
        let port = self.paths[i].port;
        if port == NONE {
            return;
        }
        let was = core::mem::replace(&mut self.paths[i].silent, silent);
        let paths = self.ports[port].paths.len;
        match self.ports[port].silence.checked(was, silent, paths) {
            PortChange::Nothing => {}
            PortChange::Down => {
                self.note(Some(i), None, What::PortDown);
                // Those that still count as usable must not: each is asked once more, and only then one for all.
                self.port_rouse(port);
            }
            PortChange::Up => {
                self.note(Some(i), None, What::PortUp);
                self.port_rouse(port);
            }
        }
    }

    /// All paths of a port are to be asked at once; some at a time, see `rouse`.
    fn port_rouse(&mut self, port: u32) {
        self.ports[port].rousing = self.ports[port].paths.head;
        self.port_chain.push_back(&mut self.rousing, port);
    }

    /// Asks some of the paths that wait to be asked because their port answers again, or answers no more: those that are not as it is.
    pub(super) fn rouse(&mut self, cx: &Context<'_>) {
        for _ in 0..super::PORT_BURST {
            let port = self.rousing.head;
            if port == NONE {
                return;
            }
            let i = self.ports[port].rousing;
            if i == NONE {
                self.port_chain.remove(&mut self.rousing, port);
                continue;
            }
            self.ports[port].rousing = self.path_by_port.next(i);
            if self.paths[i].state.usable() == self.ports[port].silence.down() {
                self.check_now(cx, i);
            }
        }
    }

    /// A path of this port failed for a reason of the transport: ask the others at once, as far as its share of the pool goes.
    pub(super) fn port_suspect(&mut self, cx: &Context<'_>, i: u32) {
        let port = self.paths[i].port;
        if port == NONE || !self.paths[i].silent || self.ports[port].silence.down() {
            return;
        }
        let mut at = self.ports[port].paths.head;
        let mut left = super::PORT_BURST;
        while at != NONE && left > 0 {
            let next = self.path_by_port.next(at);
            if at != i && self.paths[at].state.usable() {
                self.check_now(cx, at);
            }
            left -= 1;
            at = next;
        }
    }
}

/// Did nothing come back through the port: no answer in time, an error of the host adapter or the link, a device that is offline?
pub(super) fn silent(state: PathState, cause: Cause) -> bool {
    !state.usable() && matches!(cause, Cause::NoAnswer | Cause::Host(_) | Cause::Driver(_) | Cause::Errno(_) | Cause::Sys(_))
}
