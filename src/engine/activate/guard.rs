//! Keeps two hosts from fighting over a LUN: whoever sees only one controller wants the LUN there, and so may another.

use crate::model::Instant;
use core::time::Duration;

/// Ownership that goes back so soon was taken back by somebody.
pub const BACK_WITHIN: Duration = Duration::from_secs(60);
/// How long we leave it to them. Then the world may have changed: one more try, and the same rule.
pub const HOLD: Duration = Duration::from_secs(600);

/// The last take-overs of one map, as times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guard {
    taken: Option<Instant>,
    held: Option<Instant>,
    fights: u8,
}

impl Guard {
    /// May ownership be asked for now?
    pub fn may_take(&self, now: Instant) -> bool {
        self.held.is_none_or(|since| now.since(since) >= HOLD)
    }

    /// When a held guard lets go.
    pub fn poll_at(&self) -> Option<Instant> {
        self.held.map(|since| since + HOLD)
    }

    /// We (or the kernel for us) took the LUN over, or tried to: an attempt whose fate is unknown counts as well.
    pub fn took(&mut self, now: Instant) {
        self.taken = Some(now);
        self.held = None;
    }

    /// The LUN is owned by the other controller, and not because we asked for that. True when somebody took back what we had just
    /// taken: the guard holds from now on, and this is the moment to say so.
    pub fn lost(&mut self, now: Instant) -> bool {
        let fight = self.taken.take().is_some_and(|at| now.since(at) <= BACK_WITHIN);
        if fight {
            self.held = Some(now);
            self.fights = self.fights.saturating_add(1);
        }
        fight
    }

    /// How often somebody took back what we had taken.
    pub fn fights(&self) -> u8 {
        self.fights
    }

    /// An administrator says to try again, or the last path to the other controller is gone for good.
    pub fn clear(&mut self) {
        *self = Guard::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn another_host_every_five_seconds() {
        let (mut guard, mut taken) = (Guard::default(), 0);
        // For an hour: whenever we may, we take; five seconds later it is gone.
        for secs in (0..3600).step_by(5) {
            guard.lost(at(secs));
            if guard.may_take(at(secs)) {
                guard.took(at(secs));
                taken += 1;
            }
        }
        assert_eq!(taken, 6, "once in ten minutes");
        assert_eq!(guard.fights(), 6);
    }

    #[test]
    fn an_upgrade_is_no_fight() {
        let mut guard = Guard::default();
        guard.took(at(0));
        assert!(!guard.lost(at(61)));
        assert!(guard.may_take(at(61)));
        guard.took(at(70));
        assert!(guard.lost(at(130)));
        assert!(!guard.lost(at(131)), "said once");
        assert!(!guard.may_take(at(131)));
        assert_eq!(guard.poll_at(), Some(at(730)));
        assert!(guard.may_take(at(730)));
        guard.clear();
        assert!(guard.may_take(at(132)));
    }
}
