//! Which paths of a map belong together, in which order the groups stand, and which group is used first.
//!
//! Pure: a slice of small views in, indices out. Never looks at a table, a clock or a kernel; never loads anything. The policies are
//! the peer's (multipath.conf(5) `path_grouping_policy`); the order is dm-mpath's, which walks the groups of a table from the first.

use crate::conf::settings::{Policy, PrioKind};
use crate::fault::Full;
use crate::model::{MAP_PATHS, PathState, Prio};
use crate::wire::table::MAP_GROUPS;
use core::cmp::{Ordering, Reverse};
use heapless::Vec;

/// What grouping needs to know of one path. The position in the slice is the path's name in the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Member<'a> {
    pub prio: Prio,
    pub state: PathState,
    pub marginal: bool,
    /// For `group_by_serial`; paths without one belong together.
    pub serial: &'a str,
    /// Target node name, for `group_by_node_name`; paths without one belong together.
    pub node: &'a str,
    /// Target port group, for `group_by_tpg`; paths without one belong together.
    pub tpg: Option<u16>,
}

/// What a set of paths is worth as a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rating {
    /// Integer mean over the usable paths whose priority is known. Usable paths but no known priority: undefined (-1). No usable
    /// path: 0, which is above undefined, as the peer has it; [`best_group`] never chooses such a group while another is usable.
    pub prio: Prio,
    /// Paths that are up or ghost.
    pub usable: u8,
    /// All members are marginal.
    pub marginal: bool,
}

/// One group of the answer: `len` paths from `first` in [`Grouping::order`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Group {
    pub rating: Rating,
    pub first: u8,
    pub len: u8,
}

/// Groups in table order with their members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grouping {
    pub groups: Vec<Group, MAP_GROUPS, u8>,
    /// Positions in the member slice, group after group.
    pub order: Vec<u8, MAP_PATHS, u8>,
    /// 1-based group to use first; 0 when there is none.
    pub best: u8,
}

impl Grouping {
    /// Members of group `index` (from 0), as positions in the slice that was grouped; empty for a group that is not there.
    pub fn members(&self, index: usize) -> &[u8] {
        self.groups
            .get(index)
            .and_then(|g| self.order.get(usize::from(g.first)..usize::from(g.first).saturating_add(usize::from(g.len))))
            .unwrap_or(&[])
    }
}

/// How grouping is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    pub policy: Policy,
    /// `marginal_pathgroups`: marginal paths never share a group with healthy ones.
    pub split_marginal: bool,
    /// This path leads: first in its group, and its group first among equals. From [`super::balance`], or the path a live map uses.
    pub lead: Option<u8>,
}

/// Groups `members`. `Full` when there are more than one map holds ([`MAP_PATHS`]); nothing is dropped silently.
#[inline(never)]
pub fn group(members: &[Member<'_>], rules: Rules) -> Result<Grouping, Full> {
    let mut order: Vec<u8, MAP_PATHS, u8> = Vec::new();
    for i in 0..members.len() {
        order.push(u8::try_from(i).map_err(|_| Full)?).map_err(|_| Full)?;
    }
    // Members of one group become neighbours; the position decides last, so that the result never depends on the sort's stability.
    let class = |i: u8| members.get(usize::from(i)).copied().unwrap_or_default();
    crate::order::sort(&mut order, |&a, &b| {
        together(rules, a, class(a), b, class(b)).then((rules.lead != Some(a)).cmp(&(rules.lead != Some(b)))).then(a.cmp(&b)).is_lt()
    });

    let mut drafts: Vec<Draft, MAP_GROUPS, u8> = Vec::new();
    let mut rest = order.as_slice();
    while let [head, ..] = *rest {
        let others = rest.iter().position(|&i| together(rules, head, class(head), i, class(i)) != Ordering::Equal);
        let (run, others) = others.and_then(|others| rest.split_at_checked(others)).unwrap_or((rest, &[]));
        let first = (order.len() - rest.len()) as u8;
        let group = Group { rating: rate(run.iter().map(|&i| class(i))), first, len: run.len() as u8 };
        let seen = run.iter().copied().min().unwrap_or(head);
        let lead = rules.lead.is_some_and(|l| run.contains(&l));
        drafts.push(Draft { group, seen, lead }).map_err(|_| Full)?;
        rest = others;
    }
    let key = |d: &Draft| {
        let r = d.group.rating;
        (r.marginal, Reverse(r.prio), Reverse(r.usable), !d.lead, d.seen)
    };
    crate::order::sort(&mut drafts, |a, b| key(a) < key(b));

    let mut answer = Grouping::default();
    for draft in &drafts {
        let from = usize::from(draft.group.first);
        let first = answer.order.len() as u8;
        let run = order.get(from..from + usize::from(draft.group.len)).unwrap_or(&[]);
        answer.order.extend_from_slice(run).map_err(|_| Full)?;
        answer.groups.push(Group { first, ..draft.group }).map_err(|_| Full)?;
    }
    answer.best = best_group(answer.groups.iter().map(|g| g.rating));
    Ok(answer)
}

/// A group before the groups are put in order.
struct Draft {
    group: Group,
    /// Position of the member seen first: groups of equal worth stand in the order in which their paths were found.
    seen: u8,
    lead: bool,
}

/// `Equal` when the policy puts both into one group; otherwise some fixed order.
fn together(rules: Rules, ai: u8, a: Member<'_>, bi: u8, b: Member<'_>) -> Ordering {
    let split = if rules.split_marginal { a.marginal.cmp(&b.marginal) } else { Ordering::Equal };
    split.then_with(|| match rules.policy {
        Policy::Failover => ai.cmp(&bi),
        Policy::Multibus => Ordering::Equal,
        Policy::GroupBySerial => a.serial.cmp(b.serial),
        Policy::GroupByPrio => a.prio.cmp(&b.prio),
        Policy::GroupByNodeName => a.node.cmp(b.node),
        Policy::GroupByTpg => a.tpg.cmp(&b.tpg),
    })
}

/// What these paths are worth together. Also rates the groups of a live table, whose members were chosen earlier.
pub fn rate<'a>(members: impl Iterator<Item = Member<'a>>) -> Rating {
    let (mut sum, mut known) = (0i64, 0u32);
    let (mut all, mut usable, mut marginal) = (0u32, 0u8, 0u32);
    for m in members {
        all = all.saturating_add(1);
        marginal = marginal.saturating_add(u32::from(m.marginal));
        if m.state.usable() {
            usable = usable.saturating_add(1);
            if m.prio != Prio::UNDEFINED {
                sum = sum.saturating_add(i64::from(m.prio.0));
                known = known.saturating_add(1);
            }
        }
    }
    let prio = match (known, usable) {
        (0, 0) => Prio(0),
        (0, _) => Prio::UNDEFINED,
        // The mean of i32 values is an i32.
        _ => Prio((sum / i64::from(known)) as i32),
    };
    Rating { prio, usable, marginal: all > 0 && all == marginal }
}

/// The 1-based group to use first: the best usable one without marginal paths only, else the best usable marginal one, else 1; 0 for
/// no groups. Best is by priority, then by usable paths, then the earlier one.
///
/// The peer passes over a lone usable marginal path of priority 0 or below and names group 1, which then has no usable path at all.
/// We never prefer a group without a usable path to one with (docs/differences.md, Grouping).
pub fn best_group(ratings: impl Iterator<Item = Rating>) -> u8 {
    let mut best: Option<(u8, (bool, Prio, u8))> = None;
    let mut number = 0u8;
    for r in ratings {
        number = number.saturating_add(1);
        let key = (!r.marginal, r.prio, r.usable);
        if r.usable > 0 && best.is_none_or(|(_, b)| key > b) {
            best = Some((number, key));
        }
    }
    best.map_or(number.min(1), |(n, _)| n)
}

/// Are the groups in the order that [`group`] would give them? Groups of undefined priority are passed over, as the peer does: their
/// place says nothing.
pub fn in_order(ratings: impl Iterator<Item = Rating>) -> bool {
    let mut last: Option<Rating> = None;
    for r in ratings {
        if r.prio == Prio::UNDEFINED {
            continue;
        }
        if last.is_some_and(|l| (l.marginal && !r.marginal) || (l.marginal == r.marginal && r.prio > l.prio)) {
            return false;
        }
        last = Some(r);
    }
    true
}

/// Why a policy is in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyOrigin {
    /// The command line said so; nothing beats it.
    Forced,
    /// `detect_pgpolicy`: all paths have a prioritizer that knows the array's groups.
    Detected,
    Configured,
    /// `group_by_tpg`, but some path does not know its target port group: `failover`, which is safe on any array.
    TpgUnknown,
}

/// The policy in force. `prios`: the prioritizer of each path of the map.
pub fn policy(
    configured: Policy,
    forced: Option<Policy>,
    detect: bool,
    detect_use_tpg: bool,
    prios: impl Iterator<Item = PrioKind>,
) -> (Policy, PolicyOrigin) {
    let (mut any, mut alua, mut grouped) = (false, true, true);
    for p in prios {
        any = true;
        alua &= matches!(p, PrioKind::Alua | PrioKind::Sysfs);
        grouped &= matches!(p, PrioKind::Alua | PrioKind::Sysfs | PrioKind::Ana);
    }
    if let Some(policy) = forced {
        return (policy, PolicyOrigin::Forced);
    }
    if detect && any && grouped {
        // An ANA group is no target port group: by priority it is.
        let policy = if detect_use_tpg && alua { Policy::GroupByTpg } else { Policy::GroupByPrio };
        return (policy, PolicyOrigin::Detected);
    }
    if configured == Policy::GroupByTpg && !(any && alua) {
        return (Policy::Failover, PolicyOrigin::TpgUnknown);
    }
    (configured, PolicyOrigin::Configured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec as StdVec;

    fn up(prio: i32) -> Member<'static> {
        Member { prio: Prio(prio), state: PathState::Up, ..Member::default() }
    }

    fn shape(g: &Grouping) -> StdVec<StdVec<u8>> {
        (0..g.groups.len()).map(|i| g.members(i).to_vec()).collect()
    }

    fn by(policy: Policy) -> Rules {
        Rules { policy, ..Rules::default() }
    }

    #[test]
    fn no_paths_no_groups() {
        for policy in [Policy::Failover, Policy::Multibus, Policy::GroupByPrio] {
            assert_eq!(group(&[], by(policy)), Ok(Grouping::default()));
        }
        assert_eq!(best_group(core::iter::empty()), 0);
    }

    #[test]
    fn too_many_is_refused() {
        let members = [up(1); MAP_PATHS + 1];
        assert_eq!(group(&members, by(Policy::Multibus)), Err(Full));
        let g = group(&members[..MAP_PATHS], by(Policy::Failover)).unwrap();
        assert_eq!(g.groups.len(), MAP_PATHS);
        assert_eq!(group(&[up(1); 300], by(Policy::Failover)), Err(Full));
    }

    #[test]
    fn alua_makes_two_groups() {
        let g = group(&[up(10), up(50), up(10), up(50)], by(Policy::GroupByPrio)).unwrap();
        assert_eq!(shape(&g), [[1, 3], [0, 2]]);
        assert_eq!(g.best, 1);
    }

    #[test]
    fn the_lead_goes_first_among_equals_only() {
        let rules = Rules { lead: Some(2), ..by(Policy::Failover) };
        assert_eq!(shape(&group(&[up(1), up(1), up(1)], rules).unwrap()), [[2], [0], [1]]);
        assert_eq!(shape(&group(&[up(5), up(1), up(1)], rules).unwrap()), [[0], [2], [1]]);
        let rules = Rules { lead: Some(2), ..by(Policy::Multibus) };
        assert_eq!(shape(&group(&[up(1), up(1), up(1)], rules).unwrap()), [[2, 0, 1]]);
        let rules = Rules { lead: Some(200), ..by(Policy::Multibus) };
        assert_eq!(shape(&group(&[up(1), up(1)], rules).unwrap()), [[0, 1]]);
    }

    #[test]
    fn a_lone_marginal_path_is_better_than_none() {
        let down = Member { prio: Prio(50), state: PathState::Down, ..Member::default() };
        let shaky = Member { marginal: true, ..up(0) };
        let g = group(&[down, shaky], Rules { split_marginal: true, ..by(Policy::Multibus) }).unwrap();
        assert_eq!((shape(&g), g.best), ([[0].to_vec(), [1].to_vec()].to_vec(), 2));
    }

    #[test]
    fn extreme_priorities_do_not_overflow() {
        let g = group(&[up(i32::MAX); MAP_PATHS], by(Policy::Multibus)).unwrap();
        assert_eq!(g.groups[0].rating.prio, Prio(i32::MAX));
        let g = group(&[up(i32::MIN); MAP_PATHS], by(Policy::Multibus)).unwrap();
        assert_eq!(g.groups[0].rating.prio, Prio(i32::MIN));
    }

    #[test]
    fn order_test_passes_over_undefined() {
        let r = |prio, marginal| Rating { prio: Prio(prio), usable: 1, marginal };
        assert!(in_order([r(50, false), r(-1, false), r(10, false), r(70, true)].into_iter()));
        assert!(!in_order([r(10, false), r(-1, false), r(50, false)].into_iter()));
        assert!(!in_order([r(10, true), r(10, false)].into_iter()));
        assert!(in_order(core::iter::empty()));
    }

    #[test]
    fn policy_detection() {
        use PolicyOrigin::*;
        use PrioKind::*;
        let p = |c, f, d, t, k: &[PrioKind]| policy(c, f, d, t, k.iter().copied());
        assert_eq!(p(Policy::Failover, None, true, false, &[Alua, Sysfs]), (Policy::GroupByPrio, Detected));
        assert_eq!(p(Policy::Failover, None, true, true, &[Alua, Sysfs]), (Policy::GroupByTpg, Detected));
        assert_eq!(p(Policy::Multibus, None, true, true, &[Ana]), (Policy::GroupByPrio, Detected));
        assert_eq!(p(Policy::Multibus, None, true, true, &[Alua, Const]), (Policy::Multibus, Configured));
        assert_eq!(p(Policy::Multibus, None, false, false, &[Alua]), (Policy::Multibus, Configured));
        assert_eq!(p(Policy::GroupByTpg, None, false, false, &[Alua]), (Policy::GroupByTpg, Configured));
        assert_eq!(p(Policy::GroupByTpg, None, true, false, &[Const]), (Policy::Failover, TpgUnknown));
        assert_eq!(p(Policy::GroupByTpg, None, true, false, &[]), (Policy::Failover, TpgUnknown));
        assert_eq!(p(Policy::Multibus, Some(Policy::GroupByTpg), true, true, &[Const]), (Policy::GroupByTpg, Forced));
    }

    #[test]
    fn every_path_once_and_the_order_test_agrees() {
        let mut seed = 1u32;
        let mut next = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % n
        };
        let names = ["", "a", "b", "c"];
        let policies =
            [Policy::Failover, Policy::Multibus, Policy::GroupBySerial, Policy::GroupByPrio, Policy::GroupByNodeName, Policy::GroupByTpg];
        for _ in 0..3000 {
            let mut members = StdVec::new();
            for _ in 0..next(MAP_PATHS as u32 + 1) {
                members.push(Member {
                    prio: Prio([-1, 0, 1, 10, 50][next(5) as usize]),
                    state: [PathState::Up, PathState::Ghost, PathState::Down, PathState::Pending][next(4) as usize],
                    marginal: next(3) == 0,
                    serial: names[next(4) as usize],
                    node: names[next(4) as usize],
                    tpg: [None, Some(0), Some(1)][next(3) as usize],
                });
            }
            let rules = Rules {
                policy: policies[next(6) as usize],
                split_marginal: next(2) == 0,
                lead: Some(next(80) as u8).filter(|_| next(2) == 0),
            };
            let g = group(&members, rules).unwrap();
            let mut all = g.order.to_vec();
            all.sort_unstable();
            assert_eq!(all, (0..members.len() as u8).collect::<StdVec<_>>());
            assert!(in_order(g.groups.iter().map(|g| g.rating)));
            if members.iter().any(|m| m.state.usable()) {
                assert!(g.groups[usize::from(g.best) - 1].rating.usable > 0, "best group has a usable path");
            }
        }
    }
}
