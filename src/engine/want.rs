//! What a map should be: its members, size, groups and words as a table, and how that differs from what the kernel has.
//!
//! Pure looking: changes nothing but flags that say "told already". A path joins a live table only after it has answered and only with
//! the map's size; a path already in it stays as long as it exists, whatever its state, for the kernel keeps it open anyway.

use super::group::{self, Grouping};
use super::map::Known;
use super::path::{Fds, Held, PathSlot};
use super::selector::{self, Kernel, Missing, Selector};
use super::storage::NONE;
use super::{Context, Difference, Engine, balance};
use crate::conf::settings::{AutoResize, MarginalPathgroups, Policy, PrioKind};
use crate::model::{DmPathState, MAP_PATHS, PathState, Prio, Sectors, SysState, Text, Tpgs};
use crate::wire::table::{Table, TableGroup, TablePath};
use heapless::Vec;

/// A wanted table with what it was made of.
pub(super) struct Plan {
    pub(super) table: Table,
    pub(super) size: Sectors,
    pub(super) read_only: bool,
    /// The slot of each `table.paths`.
    pub(super) paths: Vec<u32, MAP_PATHS, u8>,
    pub(super) attached: Text<16>,
    pub(super) selector_replaced: bool,
    pub(super) handler_missing: bool,
    /// Members that were left out for their size, or because a table holds no more.
    pub(super) odd: bool,
    /// Port of the path that leads; NONE where that does not matter.
    pub(super) lead: u32,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            table: Table::default(),
            size: Sectors(0),
            read_only: false,
            paths: Vec::new(),
            attached: Text::new(),
            selector_replaced: false,
            handler_missing: false,
            odd: false,
            lead: NONE,
        }
    }
}

impl Engine<'_> {
    /// The size the map should have: the live one, unless its paths agree on another and that may be followed.
    pub(super) fn want_size(&self, cx: &Context<'_>, m: u32) -> Sectors {
        let map = &self.maps[m];
        let mut sizes: Vec<(Sectors, u16), 8> = Vec::new();
        let mut at = map.paths.head;
        while at != NONE {
            let p = &self.paths[at];
            if p.size.0 != 0 && !p.gone {
                // One that answers outweighs all that do not: theirs is what they had when they last did.
                let weight = if p.usable() { 256 } else { 1 };
                match sizes.iter_mut().find(|(s, _)| *s == p.size) {
                    Some((_, n)) => *n = n.saturating_add(weight),
                    // Nine different sizes of one WWID: the first eight stand for them all.
                    None => drop(sizes.push((p.size, weight))),
                }
            }
            at = self.path_by_map.next(at);
        }
        let live = map.have.known == Known::Live && map.have.active;
        if !live {
            let mut best = (Sectors(0), 0);
            for &(size, n) in &sizes {
                if n > best.1 {
                    best = (size, n);
                }
            }
            return best.0;
        }
        match sizes.as_slice() {
            [(size, _)] if *size != map.have.size => {
                let allowed = match cx.settings.globals().auto_resize {
                    AutoResize::Never => false,
                    AutoResize::GrowOnly => *size > map.have.size,
                    AutoResize::GrowShrink => true,
                };
                if allowed || map.resize_allowed { *size } else { map.have.size }
            }
            _ => map.have.size,
        }
    }

    /// May path `i` stand in map `m`'s next table of `size`?
    fn eligible(&self, m: u32, i: u32, size: Sectors) -> bool {
        let p = &self.paths[i];
        if p.gone || p.map != m {
            return false;
        }
        if p.live_in == m {
            return p.size >= size || p.size.0 == 0;
        }
        // The kernel fails a whole load with a device that does not open; ours is open, so it does.
        let ready = p.live_in == NONE && p.fds == Fds::Open && p.judged && p.held == Held::Nobody;
        let there = !matches!(p.sys, SysState::Offline | SysState::TransportOffline | SysState::Deleted);
        // A disk that took a number which the live table still holds for its predecessor waits until that one is out.
        let taken = self.maps[m].have.members.iter().any(|x| x.devno == p.devno && x.path != i);
        ready && there && p.size == size && !taken
    }

    /// Is path `i` kept out for its size?
    pub(super) fn odd_size(&self, m: u32, i: u32, size: Sectors) -> bool {
        let p = &self.paths[i];
        p.size.0 != 0 && if p.live_in == m { p.size < size } else { p.size != size }
    }

    /// The map's wanted table; `None` when it has no path to be made of, or the kernel lacks what it takes.
    #[inline(never)]
    pub(super) fn plan(&self, cx: &Context<'_>, m: u32) -> Option<Plan> {
        let map = &self.maps[m];
        let mut plan = Plan { size: self.want_size(cx, m), read_only: map.force_read_only, ..Plan::default() };
        if plan.size.0 == 0 {
            return None;
        }
        let mut slots: Vec<u32, MAP_PATHS, u8> = Vec::new();
        // Those in the live table first, in its order: the order of equals does not change with every reload.
        for member in &map.have.members {
            if member.path != NONE && self.eligible(m, member.path, plan.size) {
                let _ = slots.push(member.path);
            }
        }
        let mut at = map.paths.head;
        while at != NONE {
            if self.paths[at].live_in != m {
                plan.odd |= self.odd_size(m, at, plan.size) || (self.eligible(m, at, plan.size) && slots.push(at).is_err());
            }
            at = self.path_by_map.next(at);
        }
        // Newcomers by their address: the order in which they were heard of is chance.
        let kept = slots.iter().filter(|&&i| self.paths[i].live_in == m).count();
        if let Some(newcomers) = slots.get_mut(kept..) {
            let key = |i: u32| (self.paths[i].hctl, self.paths[i].devno);
            crate::order::sort(newcomers, |&a, &b| key(a) < key(b));
        }
        if slots.is_empty() {
            return None;
        }
        let (grouping, lead) = self.grouping(cx, m, &slots);
        plan.lead = lead;
        self.fill(m, &slots, &grouping, &mut plan).ok()?;
        plan.table.features.queue_if_no_path = self.want_queueing(cx, m).unwrap_or(map.have.features.queue_if_no_path);
        Some(plan)
    }

    /// Members as grouping sees them.
    pub(super) fn group_member(&self, i: u32) -> group::Member<'_> {
        let p = &self.paths[i];
        // A standby path of an array that only moves by itself is not made better by being preferred: nobody can ask for it.
        let unmoved = p.state == PathState::Ghost && p.tpgs == Tpgs::Implicit && matches!(p.prio_kind, PrioKind::Alua | PrioKind::Sysfs);
        group::Member {
            prio: if unmoved && p.prio.0 >= 80 { Prio(p.prio.0 - 80) } else { p.prio },
            state: if p.usable() { p.state } else { PathState::Down },
            marginal: p.marginal || p.marginal_by_admin,
            serial: &p.serial,
            node: self.ports.get(p.port).map_or("", |port| &port.target_node),
            tpg: p.target_port_group,
        }
    }

    /// The grouping policy in force for these paths.
    pub(super) fn policy_of(&self, m: u32, slots: &[u32]) -> Policy {
        let s = &self.maps[m].settings;
        let prios = slots.iter().map(|&i| self.prio_kind(i));
        group::policy(s.policy, self.options.policy, s.detect_policy, s.detect_policy_use_tpg, prios).0
    }

    pub(super) fn prio_kind(&self, i: u32) -> PrioKind {
        self.paths[i].prio_kind
    }

    /// The groups, and the port of the path that leads where that is chosen.
    #[inline(never)]
    fn grouping(&self, cx: &Context<'_>, m: u32, slots: &[u32]) -> (Grouping, u32) {
        let mut members: Vec<group::Member<'_>, MAP_PATHS, u8> = Vec::new();
        for &i in slots {
            let mut member = self.group_member(i);
            if member.prio == Prio::UNDEFINED || !member.state.usable() {
                member.prio = self.neighbours_prio(m, i).unwrap_or(member.prio);
            }
            let _ = members.push(member);
        }
        let policy = self.policy_of(m, slots);
        let globals = cx.settings.globals();
        let lead = if globals.pp_balance_paths && policy == Policy::Failover { self.balanced(m, slots) } else { None };
        let split_marginal = globals.marginal_pathgroups != MarginalPathgroups::Off;
        let rules = group::Rules { policy, split_marginal, lead: lead.map(|(at, _)| at) };
        // As many as slots, which is what grouping takes at most.
        (group::group(&members, rules).unwrap_or_default(), lead.map_or(NONE, |(_, port)| port))
    }

    /// What a path is worth whose priority nobody knows, or knew only when it still answered: as much as those it stands with in the live
    /// table; where none of them answers either, nothing that another group could be worth. By its old priority it could come to stand
    /// with the other controller's paths, and the kernel, which activates a group through each of its paths, would move the LUN to and fro.
    fn neighbours_prio(&self, m: u32, i: u32) -> Option<Prio> {
        let have = &self.maps[m].have;
        let group = have.members.iter().find(|x| x.path == i)?.group;
        let mut others = have.members.iter().filter(|x| x.group == group).filter_map(|x| self.paths.get(x.path)).filter(|p| p.usable());
        let alone = if self.paths[i].usable() { Prio::UNDEFINED } else { Prio(i32::MIN + i32::from(group)) };
        Some(others.find(|p| p.prio != Prio::UNDEFINED).map_or(alone, |p| p.prio))
    }

    /// The path to lead with so that maps spread over ports: its position in `slots`, and its port.
    fn balanced(&self, m: u32, slots: &[u32]) -> Option<(u8, u32)> {
        let best = slots.iter().filter(|&&i| self.paths[i].usable()).map(|&i| self.paths[i].prio).max()?;
        let mut at: Vec<u8, MAP_PATHS, u8> = Vec::new();
        let mut ports: Vec<u32, MAP_PATHS, u8> = Vec::new();
        let mut load: Vec<u32, MAP_PATHS, u8> = Vec::new();
        let now = self.maps[m].lead;
        let mut current = None;
        for (k, &i) in slots.iter().enumerate() {
            let p = &self.paths[i];
            let Some(port) = self.ports.get(p.port).filter(|_| p.usable() && p.prio == best) else { continue };
            if p.port == now {
                current = current.or(Some(at.len()));
            }
            let _ = at.push(k as u8);
            let _ = ports.push(load.len() as u32);
            let _ = load.push(port.leads - u32::from(p.port == now).min(port.leads));
        }
        let chosen = balance::lead(&ports, current, &load)?;
        let position = *at.get(chosen)?;
        Some((position, self.paths[*slots.get(usize::from(position))?].port))
    }

    #[inline(never)]
    fn fill(&self, m: u32, slots: &[u32], grouping: &Grouping, plan: &mut Plan) -> Result<(), Missing> {
        let map = &self.maps[m];
        let mut members: Vec<selector::Member<'_>, MAP_PATHS, u8> = Vec::new();
        for &i in slots {
            let p = &self.paths[i];
            plan.read_only |= p.read_only;
            if plan.attached.is_empty() && !p.handler.is_empty() {
                plan.attached = p.handler.clone();
            }
            let _ = members.push(selector::Member { bus: p.bus, tpgs: p.tpgs, attached: &p.handler, prio: p.prio_kind });
        }
        let widest = grouping.groups.iter().map(|g| usize::from(g.len)).max().unwrap_or(0);
        let mut kernel = if map.plain > 1 { plainest(self.options.kernel) } else { self.options.kernel };
        if self.options.own_activation {
            kernel = kernel.without_handlers();
        }
        let choice = selector::choose(&map.settings, &kernel, &members, widest)?;
        plan.selector_replaced = choice.selector_replaced;
        plan.handler_missing = choice.handler_missing.is_some();
        plan.table.features = choice.features;
        plan.table.handler = choice.handler;
        plan.table.first_group = grouping.best;
        let affine = choice.selector.starts_with(selector::Selector::IoAffinity.word());
        for (g, _) in grouping.groups.iter().enumerate() {
            let _ = plan.table.groups.push(TableGroup { selector: choice.selector.clone() });
            let inside = grouping.members(g);
            for (k, &position) in inside.iter().enumerate() {
                let Some(&i) = slots.get(usize::from(position)) else { continue };
                let p = &self.paths[i];
                let mut path = TablePath { devno: p.devno, group: g as u8, ..TablePath::default() };
                if affine {
                    path.processors = selector::processors(&kernel, k, inside.len());
                } else {
                    path.repeat = Some(selector::repeat_count(&map.settings, p.prio));
                }
                let _ = plan.table.paths.push(path);
                let _ = plan.paths.push(i);
            }
        }
        Ok(())
    }

    /// How the live table differs from the plan. Other groups or another order of them is a difference only when `regroup` is set;
    /// otherwise failback decides about it.
    #[inline(never)]
    pub(super) fn difference(&self, m: u32, plan: &Plan) -> Difference {
        let map = &self.maps[m];
        let have = &map.have;
        let table = have.table();
        let mut d = selector::differs(&plan.table, &table, &plan.attached, &self.options.kernel);
        d.selector |= have.mixed;
        d.size = plan.size != have.size;
        // A map that somebody made read-only over paths that can be written stays so.
        d.read_only = plan.read_only != have.read_only && (plan.read_only || map.writable);
        d.forced = map.force_reload;
        // The first group of a table is run-time state; switch_group moves it without a reload.
        d.best_group = false;
        if d.groups {
            // A group whose paths all failed is worth nothing for the time being; it is not moved to the end and back for that.
            let ratings = (0..have.groups.len() as u8).map(|g| {
                let inside = have.members.iter().filter(move |x| x.group == g && self.paths.get(x.path).is_some());
                group::rate(inside.map(|x| self.group_member(x.path)))
            });
            let in_order = group::in_order(ratings.filter(|r| r.usable > 0));
            d.groups = map.regroup && !(selector::only_order_differs(&plan.table, &table) && in_order);
        }
        d
    }

    /// Has the live table's group (1-based) a path that may be used?
    pub(super) fn group_usable(&self, m: u32, group: u8) -> bool {
        self.maps[m].have.members.iter().any(|x| x.group.saturating_add(1) == group && self.paths.get(x.path).is_some_and(PathSlot::usable))
    }

    /// Do the disks of its table all say that they are one and the same other disk, as they did when this process met them, and is there
    /// none that says it is this one? Then the map was made by other names (another `uid_attribute`, a tool of another age). It is left as
    /// it is: to fail what serves would end I/O for the sake of a name.
    pub(super) fn otherwise_named(&self, m: u32) -> bool {
        let map = &self.maps[m];
        let mut name: Option<&str> = None;
        for x in &map.have.members {
            let Some(p) = self.paths.get(x.path).filter(|p| !p.gone && !p.wwid.is_empty()) else { continue };
            if p.exchanged || p.wwid == map.wwid || name.is_some_and(|name| p.wwid != name) {
                return false;
            }
            name = Some(&p.wwid);
        }
        let live = |own: u32| self.maps.get(own).is_some_and(|own| own.have.known != Known::Absent);
        map.paths.len == 0 && name.is_some_and(|name| !self.map_by_wwid(name).is_some_and(live))
    }

    /// Counts the members the kernel may use, and whether the map's I/O has to wait for one.
    pub(super) fn count_usable(&self, m: u32) -> u8 {
        let mut n = 0u8;
        let map = &self.maps[m];
        // (A table that was just swapped in is not known yet.)
        let live = map.have.known != Known::Absent && map.have.active && map.have.table_known;
        let mut at = map.paths.head;
        while at != NONE {
            let p = &self.paths[at];
            // One that its table holds, or will: another map's, or one of another size, carries none of its I/O.
            let serves = !live || p.live_in == m || (p.live_in == NONE && p.size == map.have.size);
            n = n.saturating_add(u8::from(serves && (p.usable() || p.shaky_only(false))));
            at = self.path_by_map.next(at);
        }
        let otherwise = self.otherwise_named(m);
        for x in &map.have.members {
            // A path nobody has judged yet is as good as the kernel says.
            let unknown = match self.paths.get(x.path) {
                None => true,
                Some(p) if p.map == m => !p.gone && !p.judged && p.state == PathState::Unchecked,
                // Nor is one that the configuration leaves alone: the map lives on with it.
                Some(p) => !p.gone && (otherwise || p.wwid == map.wwid) && p.admin != super::path::Admin::TakenOut,
            };
            n = n.saturating_add(u8::from(unknown && x.dm == DmPathState::Active));
        }
        n
    }
}

/// A kernel of which nothing but the oldest is trusted: what is tried after it refused a table without saying why.
fn plainest(kernel: Kernel) -> Kernel {
    let mut plain = kernel;
    for selector in [Selector::HistoricalServiceTime, Selector::IoAffinity] {
        plain = plain.with_selector(selector, false);
    }
    plain.without_handlers()
}
