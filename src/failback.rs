//! When a map goes back to its best group: manual, immediate, followover, or after N quiet seconds of the clock.
//!
//! Pure: what the groups are worth and what happened since the last call in, one decision out. Never sends a message; never chooses a
//! group without a usable path (going *away* from a dead group is the kernel's, dm-mpath.c `choose_pgpath`). The ping-pong guard is for
//! arrays where a group switch moves the LUN for every host: two hosts with different opinions would trespass it to and fro for ever.

use crate::conf::settings::Failback;
use crate::engine::group::{Rating, best_group, in_order};
use crate::model::{Instant, Prio};
use core::time::Duration;

/// A switch of ours that is undone within this time, though no path failed, was undone by someone else.
pub const GUARD: Duration = Duration::from_secs(60);

/// One map at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View<'a> {
    /// What each group is worth now, in the order of the live table.
    pub groups: &'a [Rating],
    /// The kernel's group, 1-based: in use or next to be used; 0 when not known.
    pub current: u8,
    /// The paths would be grouped differently now (priorities changed under `group_by_prio`).
    pub regroup: bool,
    /// Since the last call: a path became unusable.
    pub failed: bool,
    /// Since the last call: a path became usable.
    pub came_up: bool,
    /// Since the last call: this group (1-based) got its first usable path after having had none.
    pub revived: Option<u8>,
    /// The kernel passes over the best group: the array did not let the LUN go there (a copy, an upgrade).
    pub refused: bool,
    /// The array alone says where the LUN is best reached (ANA, implicit ALUA): no other host can have taken it.
    pub array_moves: bool,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    Stay,
    /// Send `switch_group`; the order of the table is right.
    Switch(u8),
    /// Load a table anew grouped and ordered, best group first.
    Reload,
}

/// One map's failback.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Deferred mode: when its quiet time is over.
    due: Option<Instant>,
    /// Our last switch: when, and what the group in use was worth once it was seen to have taken effect.
    last: Option<(Instant, Option<Prio>)>,
    held: Option<Hold>,
}

/// Why nothing is done although it could be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Another host undid our switch.
    Quarrel,
    /// An administrator chose the group that is in use.
    Admin,
}

impl State {
    pub const fn new() -> State {
        State { due: None, last: None, held: None }
    }

    /// Looks at the map. Call it when a path's state or priority or the kernel's group changed, and at [`State::poll_at`]. Until the
    /// decision has taken effect it is given again.
    pub fn process(&mut self, now: Instant, mode: Failback, view: &View<'_>) -> Decision {
        // Failures and returns of our own paths end a quarrel: what follows is our own business again.
        if view.failed || view.came_up {
            self.held = None;
        }
        let best = best_group(view.groups.iter().copied());
        let rating = |group: u8| usize::from(group).checked_sub(1).and_then(|i| view.groups.get(i));
        let alive = |group: u8| rating(group).is_some_and(|g| g.usable > 0);
        let worth = rating(view.current).map_or(Prio(i32::MIN), |g| g.prio);
        let usable = alive(best);
        // Out of a group without a usable path the kernel goes by itself, with the next I/O.
        let switch = usable && alive(view.current) && view.current != best;
        let order = view.regroup || !usable_in_order(view.groups);
        // Not so a return that changes nothing, as that of the second path of the group that was gone back to.
        if view.failed || (view.came_up && (switch || order)) {
            self.last = self.last.filter(|(_, seen)| seen.is_none());
        }
        if !usable || !(switch || order) {
            self.due = None;
            if let Some((_, seen)) = &mut self.last {
                *seen = Some(worth);
            }
            return Decision::Stay;
        }
        // What was turned away is still to be done, and nobody's quarrel.
        if let Some((_, seen)) = &mut self.last
            && view.refused
        {
            *seen = None;
        }
        // Who follows others, or leaves it to an administrator, has no quarrel. Nor is it one that another group has become better than
        // the one that was gone to, as when an array gives access back: who takes a LUN away leaves that one worse than it was.
        let fights = !view.array_moves && matches!(mode, Failback::Immediate | Failback::After(_));
        if let Some((at, Some(then))) = self.last.filter(|_| fights)
            && now.since(at) < GUARD
            && worth < then
        {
            self.held = Some(Hold::Quarrel);
        }
        if self.held.is_some() {
            self.due = None;
            return Decision::Stay;
        }
        let act = match mode {
            Failback::Manual => false,
            Failback::Immediate | Failback::After(0) => true,
            _ if self.unfinished() => true,
            // Only when our own path failures had emptied the best group: another host's choice is followed, not fought.
            Failback::Followover => view.revived == Some(best),
            Failback::After(secs) => {
                if view.failed || view.came_up || self.due.is_none() {
                    self.due = Some(now + Duration::from_secs(u64::from(secs)));
                }
                self.due.is_some_and(|due| now >= due)
            }
        };
        if !act {
            return Decision::Stay;
        }
        self.due = None;
        if !self.unfinished() {
            self.last = Some((now, None));
        }
        if order { Decision::Reload } else { Decision::Switch(best) }
    }

    /// When to look again though nothing happens.
    pub fn poll_at(&self) -> Option<Instant> {
        self.due
    }

    /// Why it rests: until a path of ours changes, or [`State::reset`].
    pub fn held(&self) -> Option<Hold> {
        self.held
    }

    /// An administrator switched the group: that is respected until a path of ours changes.
    pub fn hold(&mut self) {
        *self = State { held: Some(Hold::Admin), ..State::new() };
    }

    /// The settings changed: forget what was.
    pub fn reset(&mut self) {
        *self = State::new();
    }

    /// We decided to switch, and it has not been seen to take effect.
    fn unfinished(&self) -> bool {
        matches!(self.last, Some((_, None)))
    }
}

/// The order test over the groups that have a usable path. A group whose paths all failed is worth 0 for the time being; to move it to
/// the end and back again would be two table loads for nothing.
#[inline(never)]
pub fn usable_in_order(groups: &[Rating]) -> bool {
    in_order(groups.iter().copied().filter(|g| g.usable > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Prio;

    const A: Rating = Rating { prio: Prio(50), usable: 2, marginal: false };
    const A_DEAD: Rating = Rating { prio: Prio(0), usable: 0, marginal: false };
    const B: Rating = Rating { prio: Prio(10), usable: 2, marginal: false };

    fn view(groups: &[Rating], current: u8) -> View<'_> {
        View { groups, current, ..View::default() }
    }

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    /// Group 1 lost its paths, the kernel went to group 2, and now the first path of group 1 is back.
    fn back<'a>(groups: &'a [Rating]) -> View<'a> {
        View { came_up: true, revived: Some(1), ..view(groups, 2) }
    }

    #[test]
    fn manual_never() {
        let mut s = State::new();
        for t in 0..1000 {
            assert_eq!(s.process(at(t), Failback::Manual, &back(&[A, B])), Decision::Stay);
        }
        assert_eq!(s.poll_at(), None);
    }

    #[test]
    fn immediate_at_once() {
        let mut s = State::new();
        assert_eq!(s.process(at(1), Failback::Immediate, &View { failed: true, ..view(&[A_DEAD, B], 2) }), Decision::Stay);
        assert_eq!(s.process(at(2), Failback::Immediate, &back(&[A, B])), Decision::Switch(1));
        assert_eq!(s.process(at(2), Failback::Immediate, &view(&[A, B], 2)), Decision::Switch(1), "not yet in effect");
        assert_eq!(s.process(at(3), Failback::Immediate, &view(&[A, B], 1)), Decision::Stay);
    }

    #[test]
    fn immediate_reloads_when_the_order_is_wrong() {
        let mut s = State::new();
        assert_eq!(s.process(at(1), Failback::Immediate, &view(&[B, A], 1)), Decision::Reload);
        let mut s = State::new();
        assert_eq!(s.process(at(1), Failback::Immediate, &View { regroup: true, ..view(&[A, B], 1) }), Decision::Reload);
        let mut s = State::new();
        assert_eq!(s.process(at(1), Failback::Manual, &view(&[B, A], 1)), Decision::Stay);
    }

    #[test]
    fn a_dead_group_is_not_moved_about() {
        let mut s = State::new();
        assert_eq!(s.process(at(1), Failback::Immediate, &View { failed: true, ..view(&[A_DEAD, B], 2) }), Decision::Stay);
    }

    #[test]
    fn never_to_a_group_without_a_usable_path() {
        for mode in [Failback::Immediate, Failback::Followover, Failback::After(1)] {
            for groups in [&[A_DEAD, A_DEAD][..], &[A_DEAD], &[]] {
                let mut s = State::new();
                for t in 0..5 {
                    let v = View { regroup: true, revived: Some(1), ..view(groups, 2) };
                    assert_eq!(s.process(at(t), mode, &v), Decision::Stay);
                }
            }
        }
    }

    #[test]
    fn deferred_counts_quiet_seconds() {
        let mode = Failback::After(10);
        let mut s = State::new();
        assert_eq!(s.process(at(100), mode, &back(&[A, B])), Decision::Stay);
        assert_eq!(s.poll_at(), Some(at(110)));
        assert_eq!(s.process(at(105), mode, &view(&[A, B], 2)), Decision::Stay);
        assert_eq!(s.poll_at(), Some(at(110)), "time goes on");
        assert_eq!(s.process(at(106), mode, &View { came_up: true, ..view(&[A, B], 2) }), Decision::Stay);
        assert_eq!(s.poll_at(), Some(at(116)), "a second path came: from the start");
        assert_eq!(s.process(at(112), mode, &View { failed: true, ..view(&[A, B], 2) }), Decision::Stay);
        assert_eq!(s.poll_at(), Some(at(122)), "a path failed: from the start");
        assert_eq!(s.process(at(122), mode, &view(&[A, B], 2)), Decision::Switch(1));
        assert_eq!(s.poll_at(), None, "never in the past");
        assert_eq!(s.process(at(122), mode, &view(&[A, B], 2)), Decision::Switch(1), "not yet in effect");
        assert_eq!(s.process(at(123), mode, &view(&[A, B], 1)), Decision::Stay);
        assert_eq!(s.poll_at(), None);
    }

    #[test]
    fn deferred_is_called_off_when_the_need_is_gone() {
        let mut s = State::new();
        s.process(at(100), Failback::After(10), &back(&[A, B]));
        s.process(at(105), Failback::After(10), &View { failed: true, ..view(&[A_DEAD, B], 2) });
        assert_eq!(s.poll_at(), None);
        assert_eq!(s.process(at(500), Failback::After(10), &back(&[A, B])), Decision::Stay, "a new full time");
    }

    #[test]
    fn followover_goes_back_only_after_our_own_failure() {
        let mut s = State::new();
        // Another host moved the LUN: none of our paths changed.
        assert_eq!(s.process(at(1), Failback::Followover, &view(&[A, B], 2)), Decision::Stay);
        // A second path of a group that was never empty.
        assert_eq!(s.process(at(2), Failback::Followover, &View { came_up: true, ..view(&[A, B], 2) }), Decision::Stay);
        // A group that is not the best one.
        assert_eq!(s.process(at(3), Failback::Followover, &View { revived: Some(2), came_up: true, ..view(&[A, B], 2) }), Decision::Stay);
        assert_eq!(s.process(at(4), Failback::Followover, &back(&[A, B])), Decision::Switch(1));
        assert_eq!(s.process(at(5), Failback::Followover, &view(&[A, B], 2)), Decision::Switch(1), "not yet in effect");
        assert_eq!(s.process(at(6), Failback::Followover, &view(&[A, B], 1)), Decision::Stay);
        assert_eq!(s.process(at(7), Failback::Followover, &view(&[A, B], 2)), Decision::Stay, "someone else again");
    }

    #[test]
    fn ping_pong_stops_after_one() {
        let mut s = State::new();
        assert_eq!(s.process(at(1), Failback::Immediate, &view(&[A, B], 2)), Decision::Switch(1));
        assert_eq!(s.process(at(2), Failback::Immediate, &view(&[A, B], 1)), Decision::Stay);
        // The other host takes it back, again and again.
        for t in 6..10_000 {
            assert_eq!(s.process(at(t), Failback::Immediate, &view(&[A, B], if t % 5 == 0 { 1 } else { 2 })), Decision::Stay);
            assert_eq!(s.held(), Some(Hold::Quarrel));
        }
        // Our own paths fail and come back: it is our business again.
        s.process(at(20_000), Failback::Immediate, &View { failed: true, ..view(&[A_DEAD, B], 2) });
        assert_eq!(s.held(), None);
        assert_eq!(s.process(at(20_010), Failback::Immediate, &back(&[A, B])), Decision::Switch(1));
    }

    #[test]
    fn a_second_path_does_not_blind_the_guard() {
        let mut s = State::new();
        assert_eq!(s.process(at(1), Failback::Immediate, &back(&[A, B])), Decision::Switch(1));
        s.process(at(2), Failback::Immediate, &view(&[A, B], 1));
        assert_eq!(s.process(at(3), Failback::Immediate, &View { came_up: true, ..view(&[A, B], 1) }), Decision::Stay);
        assert_eq!(s.process(at(9), Failback::Immediate, &view(&[A, B], 2)), Decision::Stay);
        assert_eq!(s.held(), Some(Hold::Quarrel));
    }

    #[test]
    fn an_array_that_is_busy_is_no_quarrel() {
        let mut s = State::new();
        let refused = View { refused: true, ..view(&[A, B], 2) };
        assert_eq!(s.process(at(1), Failback::Immediate, &view(&[A, B], 2)), Decision::Switch(1));
        for t in 2..50 {
            // On its way there, and turned away.
            assert_eq!(s.process(at(2 * t), Failback::Immediate, &view(&[A, B], 1)), Decision::Stay);
            assert_eq!(s.process(at(2 * t + 1), Failback::Immediate, &refused), Decision::Switch(1));
            assert_eq!(s.held(), None);
        }
    }

    #[test]
    fn what_another_group_gains_is_no_quarrel() {
        // Access through the first group was taken away, so the groups were reloaded in another order; then it is given back.
        let none = Rating { prio: Prio(1), ..A };
        let mut s = State::new();
        assert_eq!(s.process(at(1), Failback::Immediate, &View { regroup: true, ..view(&[none, B], 2) }), Decision::Reload);
        assert_eq!(s.process(at(2), Failback::Immediate, &view(&[B, none], 1)), Decision::Stay);
        assert_eq!(s.process(at(9), Failback::Immediate, &view(&[B, A], 1)), Decision::Reload);
        assert_eq!(s.held(), None);
    }

    #[test]
    fn an_array_that_moves_luns_itself_is_followed() {
        let mut s = State::new();
        let (there, back) = (view(&[A, B], 1), View { array_moves: true, ..view(&[B, A], 1) });
        for t in 0..9 {
            let decision = s.process(at(4 * t), Failback::Immediate, &back);
            assert_eq!((decision, s.held()), (Decision::Reload, None));
            s.process(at(4 * t + 2), Failback::Immediate, &there);
        }
    }

    #[test]
    fn a_change_after_the_guard_is_no_quarrel() {
        let mut s = State::new();
        s.process(at(1), Failback::Immediate, &view(&[A, B], 2));
        s.process(at(2), Failback::Immediate, &view(&[A, B], 1));
        assert_eq!(s.process(at(62), Failback::Immediate, &view(&[A, B], 2)), Decision::Switch(1));
    }

    #[test]
    fn an_administrator_ends_the_hold() {
        let mut s = State::new();
        s.process(at(1), Failback::Immediate, &view(&[A, B], 2));
        s.process(at(2), Failback::Immediate, &view(&[A, B], 1));
        s.process(at(3), Failback::Immediate, &view(&[A, B], 2));
        assert_eq!(s.held(), Some(Hold::Quarrel));
        s.reset();
        assert_eq!(s.process(at(4), Failback::Immediate, &view(&[A, B], 2)), Decision::Switch(1));
    }

    #[test]
    fn what_an_administrator_chose_stays() {
        let mut s = State::new();
        s.hold();
        for t in 0..1000 {
            assert_eq!(s.process(at(t), Failback::Immediate, &view(&[A, B], 2)), Decision::Stay);
        }
        assert_eq!(s.process(at(1000), Failback::Immediate, &View { came_up: true, ..view(&[A, B], 2) }), Decision::Switch(1));
    }

    #[test]
    fn leaving_a_dead_group_is_the_kernels() {
        let mut s = State::new();
        assert_eq!(s.process(at(1), Failback::Immediate, &View { failed: true, ..view(&[A_DEAD, B], 1) }), Decision::Stay);
        // It went somewhere, but not to the best.
        let other = Rating { prio: Prio(1), ..B };
        assert_eq!(s.process(at(2), Failback::Immediate, &view(&[A_DEAD, B, other], 3)), Decision::Switch(2));
    }

    #[test]
    fn an_unknown_current_group_is_no_reason() {
        assert_eq!(State::new().process(at(1), Failback::Immediate, &view(&[A, B], 0)), Decision::Stay);
    }
}
