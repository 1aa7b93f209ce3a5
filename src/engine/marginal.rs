//! Paths that come and go: when one that is up again is nevertheless held back.
//!
//! Two methods of multipath.conf(5). `san_path_err_*` counts returns and forgets them slowly; `marginal_path_*` reads the path ten
//! times a second for a while and counts errors, and where all of its settings are given it alone is used. Pure: what the checker or
//! a read said and a time in, a verdict out. Never sends a read and never fails a path: a path held back is simply not reinstated, or
//! stands in a group of its own. Never holds back the only usable path of a map.

use crate::conf::settings::{MarginalPathgroups, Shaky};
use crate::model::{Instant, PathState};
use core::time::Duration;

/// Reads of one path being sampled come this far apart.
pub const SAMPLE_GAP: Duration = Duration::from_millis(100);
/// Least sampling time, whatever is configured.
pub const SAMPLE_LEAST: Duration = Duration::from_secs(120);

/// What the path is to the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Normal,
    /// Up, but not to be relied on.
    Shaky,
}

/// What is done with a shaky path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Treatment {
    Normal,
    /// Not reinstated: `delayed`.
    HoldOut,
    /// Used, in a group behind all healthy ones.
    Marginal,
}

/// `marginal_pathgroups` says which. With `fpin` both methods are off: the fabric tells.
pub fn treatment(verdict: Verdict, groups: MarginalPathgroups) -> Treatment {
    match (verdict, groups) {
        (Verdict::Normal, _) | (_, MarginalPathgroups::Fpin) => Treatment::Normal,
        (Verdict::Shaky, MarginalPathgroups::Off) => Treatment::HoldOut,
        (Verdict::Shaky, MarginalPathgroups::On) => Treatment::Marginal,
    }
}

/// All three of `san_path_err_*`.
#[derive(Clone, Copy)]
struct Counting {
    threshold: u32,
    forget_rate: u32,
    recovery: Duration,
}

/// All four of `marginal_path_*`.
#[derive(Clone, Copy)]
struct Sampling {
    time: Duration,
    permille: u32,
    recheck: Duration,
    double_failed: Duration,
}

fn positive(v: Option<u32>) -> Option<u32> {
    v.filter(|&n| n > 0)
}

fn secs(n: u32) -> Duration {
    Duration::from_secs(u64::from(n))
}

fn counting(s: &Shaky) -> Option<Counting> {
    if sampling(s).is_some() {
        return None;
    }
    Some(Counting {
        threshold: positive(s.san_path_err_threshold)?,
        forget_rate: positive(s.san_path_err_forget_rate)?,
        recovery: secs(positive(s.san_path_err_recovery_time)?),
    })
}

fn sampling(s: &Shaky) -> Option<Sampling> {
    Some(Sampling {
        time: secs(positive(s.marginal_path_err_sample_time)?).max(SAMPLE_LEAST),
        permille: positive(s.marginal_path_err_rate_threshold)?,
        recheck: secs(positive(s.marginal_path_err_recheck_gap_time)?),
        double_failed: secs(positive(s.marginal_path_double_failed_time)?),
    })
}

/// Where a path stands with the two methods.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    #[default]
    Normal,
    /// `san_path_err`: held until then, and then until it is good.
    Held {
        until: Instant,
    },
    /// `marginal_path`: failed twice in short time; sampled as soon as it is up.
    Suspect,
    Sampling {
        until: Instant,
        next: Instant,
        reads: u32,
        errors: u32,
        under_way: bool,
    },
    /// Too many errors: sampled again then.
    Marginal {
        again: Instant,
    },
}

/// One path's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct History {
    phase: Phase,
    /// Returns not forgotten yet.
    failures: u32,
    good: u32,
    last_failure: Option<Instant>,
}

impl History {
    pub const fn new() -> History {
        History { phase: Phase::Normal, failures: 0, good: 0, last_failure: None }
    }

    /// The checker spoke. `from`: the state before. `alone`: no other path of the map is usable.
    pub fn checked(&mut self, now: Instant, from: PathState, to: PathState, alone: bool, settings: &Shaky) -> Verdict {
        if let Some(s) = sampling(settings) {
            self.checked_sampling(now, from, to, &s);
        } else if let Some(c) = counting(settings) {
            self.checked_counting(now, from, to, &c);
        } else {
            *self = History::new();
        }
        if alone && to.usable() {
            // Shaky is better than nothing; it has to fail anew to be held back again.
            self.phase = Phase::Normal;
            self.failures = 0;
        }
        self.verdict()
    }

    fn checked_counting(&mut self, now: Instant, from: PathState, to: PathState, c: &Counting) {
        let returned = !from.usable() && to.usable() && !matches!(from, PathState::Unchecked | PathState::Wild);
        match self.phase {
            // A hold that began under other settings ends with them.
            Phase::Held { until } if until > now + c.recovery => self.phase = Phase::Normal,
            Phase::Held { until } if now < until => return,
            Phase::Held { .. } if !to.usable() => return,
            Phase::Held { .. } => {
                self.phase = Phase::Normal;
                (self.failures, self.good) = (0, 0);
                return;
            }
            Phase::Normal => (),
            // What the other method knew is of no use to this one.
            Phase::Suspect | Phase::Sampling { .. } | Phase::Marginal { .. } => *self = History::new(),
        }
        if returned {
            self.failures = self.failures.saturating_add(1);
            self.good = 0;
            if self.failures > c.threshold {
                self.phase = Phase::Held { until: now + c.recovery };
            }
        } else if to.usable() && self.failures > 0 {
            self.good = self.good.saturating_add(1);
            if self.good >= c.forget_rate {
                self.good = 0;
                self.failures = self.failures.saturating_sub(1);
            }
        }
    }

    fn checked_sampling(&mut self, now: Instant, from: PathState, to: PathState, s: &Sampling) {
        if matches!(self.phase, Phase::Held { .. }) {
            *self = History::new();
        }
        if from.usable() && !to.usable() {
            let twice = self.last_failure.is_some_and(|t| now.since(t) <= s.double_failed);
            self.last_failure = Some(now);
            if twice && self.phase == Phase::Normal {
                self.phase = Phase::Suspect;
            }
        }
        match self.phase {
            Phase::Suspect if to.usable() => self.start(now, s),
            Phase::Marginal { again } if to.usable() && now >= again => self.start(now, s),
            // Down in the middle of it: what was read says enough, but it is begun again when the path is back.
            Phase::Sampling { .. } if !to.usable() => self.phase = Phase::Suspect,
            _ => (),
        }
    }

    fn start(&mut self, now: Instant, s: &Sampling) {
        self.phase = Phase::Sampling { until: now + s.time, next: now, reads: 0, errors: 0, under_way: false };
    }

    /// Is a sampling read due? The caller sends it and gives its outcome to [`History::read`]; until then no other is due.
    pub fn read_due(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Sampling { until, next, under_way, .. } if !*under_way && now >= *next && now < *until => {
                *under_way = true;
                *next = now + SAMPLE_GAP;
                true
            }
            _ => false,
        }
    }

    /// The read that was due could not be sent (no worker was free): it speaks neither for nor against the path.
    pub fn not_sent(&mut self) {
        if let Phase::Sampling { under_way, .. } = &mut self.phase {
            *under_way = false;
        }
    }

    /// A sampling read ended; one that got no answer within the caller's time has failed.
    pub fn read(&mut self, now: Instant, good: bool, settings: &Shaky) -> Verdict {
        if let Phase::Sampling { reads, errors, under_way, .. } = &mut self.phase
            && core::mem::take(under_way)
        {
            *reads = reads.saturating_add(1);
            *errors = errors.saturating_add(u32::from(!good));
        }
        self.poll(now, settings)
    }

    /// Looks whether a time is over.
    pub fn poll(&mut self, now: Instant, settings: &Shaky) -> Verdict {
        if let Phase::Sampling { until, reads, errors, under_way, .. } = self.phase
            && now >= until
            && !under_way
        {
            self.phase = match sampling(settings) {
                // Nothing could be read at all: nothing speaks for it.
                Some(s) if reads == 0 || u64::from(errors) * 1000 > u64::from(s.permille) * u64::from(reads) => {
                    Phase::Marginal { again: now + s.recheck }
                }
                _ => {
                    self.last_failure = None;
                    Phase::Normal
                }
            };
        }
        self.verdict()
    }

    /// When to call [`History::poll`] or [`History::read_due`] though nothing happens; the end of a hold or of a recheck gap waits for
    /// the next check after it, as only a good check ends it.
    pub fn poll_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Sampling { under_way: true, .. } => None,
            Phase::Sampling { until, next, .. } => Some(next.min(until)),
            _ => None,
        }
    }

    /// When the path may be given back at the soonest, for people.
    pub fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Held { until } | Phase::Sampling { until, .. } => Some(until),
            Phase::Marginal { again } => Some(again),
            Phase::Normal | Phase::Suspect => None,
        }
    }

    pub fn verdict(&self) -> Verdict {
        match self.phase {
            Phase::Normal => Verdict::Normal,
            Phase::Held { .. } | Phase::Suspect | Phase::Sampling { .. } | Phase::Marginal { .. } => Verdict::Shaky,
        }
    }
}

/// `ghost_delay`: until when a new map that has only ghost paths is flagged as not ready, so that nobody reads it and makes the array
/// move the LUN. `None`: it is ready.
pub fn ghost_wait(created: Instant, now: Instant, delay: Option<u32>, up: u16, ghost: u16) -> Option<Instant> {
    let until = created + secs(positive(delay)?);
    (up == 0 && ghost > 0 && now < until).then_some(until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PathState::{Down, Ghost, Up};

    fn at(s: u64) -> Instant {
        Instant::from_secs(s)
    }

    fn counts(threshold: u32, forget: u32, recovery: u32) -> Shaky {
        Shaky {
            san_path_err_threshold: Some(threshold),
            san_path_err_forget_rate: Some(forget),
            san_path_err_recovery_time: Some(recovery),
            ..Shaky::default()
        }
    }

    const SAMPLES: Shaky = Shaky {
        san_path_err_threshold: Some(1),
        san_path_err_forget_rate: Some(1),
        san_path_err_recovery_time: Some(1),
        marginal_path_err_sample_time: Some(60),
        marginal_path_err_rate_threshold: Some(10),
        marginal_path_err_recheck_gap_time: Some(300),
        marginal_path_double_failed_time: Some(60),
    };

    /// Fails and comes back.
    fn flap(h: &mut History, t: u64, alone: bool, s: &Shaky) -> Verdict {
        h.checked(at(t), Up, Down, alone, s);
        h.checked(at(t + 1), Down, Up, alone, s)
    }

    #[test]
    fn off_unless_all_are_set() {
        for s in [Shaky::default(), Shaky { san_path_err_forget_rate: None, ..counts(1, 1, 1) }, counts(1, 0, 1)] {
            let mut h = History::new();
            for t in 0..100 {
                assert_eq!(flap(&mut h, t * 2, false, &s), Verdict::Normal);
            }
        }
    }

    #[test]
    fn held_after_more_than_the_threshold_and_given_back_by_a_good_check() {
        let s = counts(2, 100, 60);
        let mut h = History::new();
        assert_eq!(flap(&mut h, 10, false, &s), Verdict::Normal);
        assert_eq!(flap(&mut h, 20, false, &s), Verdict::Normal);
        assert_eq!(flap(&mut h, 30, false, &s), Verdict::Shaky);
        assert_eq!(h.until(), Some(at(91)));
        assert_eq!(h.checked(at(90), Up, Up, false, &s), Verdict::Shaky);
        assert_eq!(h.checked(at(91), Up, Down, false, &s), Verdict::Shaky, "not while it is down");
        assert_eq!(h.checked(at(95), Down, Up, false, &s), Verdict::Normal);
        assert_eq!(flap(&mut h, 100, false, &s), Verdict::Normal, "counted from nought");
    }

    #[test]
    fn good_checks_forget() {
        let s = counts(1, 3, 60);
        let mut h = History::new();
        assert_eq!(flap(&mut h, 10, false, &s), Verdict::Normal);
        for t in 12..15 {
            h.checked(at(t), Up, Up, false, &s);
        }
        assert_eq!(flap(&mut h, 20, false, &s), Verdict::Normal, "the first was forgotten");
        assert_eq!(flap(&mut h, 22, false, &s), Verdict::Shaky);
    }

    #[test]
    fn the_only_path_is_never_held() {
        let s = counts(1, 3, 60);
        let mut h = History::new();
        for t in 0..20 {
            assert_eq!(flap(&mut h, t * 2, true, &s), Verdict::Normal);
        }
        flap(&mut h, 50, false, &s);
        assert_eq!(flap(&mut h, 52, false, &s), Verdict::Shaky);
        assert_eq!(h.checked(at(55), Up, Up, true, &s), Verdict::Normal, "the others went down");
    }

    #[test]
    fn a_path_that_is_first_seen_down_has_not_returned() {
        let s = counts(1, 3, 60);
        let mut h = History::new();
        h.checked(at(1), PathState::Unchecked, Up, false, &s);
        assert_eq!(flap(&mut h, 2, false, &s), Verdict::Normal);
        assert_eq!(h.failures, 1);
    }

    /// Reads as told until the time is over; returns the reads made.
    fn sample(h: &mut History, from: u64, mut good: impl FnMut(u32) -> bool) -> u32 {
        let mut reads = 0;
        let mut now = at(from);
        while let Some(t) = h.poll_at() {
            now = now.max(t);
            if h.read_due(now) {
                assert!(!h.read_due(now), "one at a time");
                assert_eq!(h.poll_at(), None);
                h.read(now + Duration::from_millis(3), good(reads), &SAMPLES);
                reads += 1;
            } else {
                h.poll(now, &SAMPLES);
            }
        }
        reads
    }

    #[test]
    fn two_failures_in_short_time_are_sampled() {
        let mut h = History::new();
        assert_eq!(flap(&mut h, 10, false, &SAMPLES), Verdict::Normal);
        assert_eq!(h.checked(at(50), Up, Down, false, &SAMPLES), Verdict::Shaky);
        assert_eq!(h.poll_at(), None, "not while it is down");
        assert_eq!(h.checked(at(51), Down, Up, false, &SAMPLES), Verdict::Shaky);
        // 120 s at least, ten a second; 10 of 1000 is allowed, more is not.
        let reads = sample(&mut h, 51, |n| n % 100 != 0);
        assert!((1190..=1200).contains(&reads), "{reads}");
        assert_eq!(h.verdict(), Verdict::Normal);
        assert_eq!(h.checked(at(200), Up, Up, false, &SAMPLES), Verdict::Normal);
    }

    #[test]
    fn too_many_errors_keep_it_out_until_a_good_sample() {
        let mut h = History::new();
        flap(&mut h, 10, false, &SAMPLES);
        flap(&mut h, 20, false, &SAMPLES);
        sample(&mut h, 21, |n| n % 50 != 0);
        assert_eq!((h.verdict(), h.until()), (Verdict::Shaky, Some(at(441))));
        assert_eq!(h.checked(at(440), Up, Up, false, &SAMPLES), Verdict::Shaky);
        assert_eq!(h.poll_at(), None);
        assert_eq!(h.checked(at(442), Up, Up, false, &SAMPLES), Verdict::Shaky, "sampled again");
        sample(&mut h, 442, |_| true);
        assert_eq!(h.verdict(), Verdict::Normal);
    }

    #[test]
    fn slow_failures_are_not_suspect() {
        let mut h = History::new();
        for t in 0..10 {
            assert_eq!(flap(&mut h, t * 100, false, &SAMPLES), Verdict::Normal);
        }
    }

    #[test]
    fn a_path_that_fails_while_sampled_begins_again() {
        let mut h = History::new();
        flap(&mut h, 10, false, &SAMPLES);
        flap(&mut h, 20, false, &SAMPLES);
        assert!(h.read_due(at(21)));
        h.checked(at(22), Up, Down, false, &SAMPLES);
        assert_eq!((h.verdict(), h.poll_at()), (Verdict::Shaky, None));
        assert_eq!(h.read(at(23), true, &SAMPLES), Verdict::Shaky, "a late read counts for nothing");
        h.checked(at(30), Down, Up, false, &SAMPLES);
        assert_eq!(h.until(), Some(at(150)));
        assert!(h.read_due(at(30)));
        assert_eq!(h.checked(at(31), Up, Up, true, &SAMPLES), Verdict::Normal, "the only one");
        assert_eq!(h.poll_at(), None);
    }

    #[test]
    fn reads_that_never_come_speak_against_it() {
        let mut h = History::new();
        flap(&mut h, 10, false, &SAMPLES);
        flap(&mut h, 20, false, &SAMPLES);
        assert!(h.read_due(at(21)));
        h.not_sent();
        assert!(!h.read_due(at(21)), "not at once again");
        assert!(h.read_due(at(22)));
        assert_eq!(h.poll(at(1000), &SAMPLES), Verdict::Shaky, "its read is still awaited");
        assert_eq!(h.read(at(1000), false, &SAMPLES), Verdict::Shaky);
        assert_eq!(h.until(), Some(at(1300)));
    }

    #[test]
    fn changed_settings_change_the_method() {
        let mut h = History::new();
        flap(&mut h, 10, false, &SAMPLES);
        flap(&mut h, 20, false, &SAMPLES);
        assert_eq!(h.verdict(), Verdict::Shaky);
        assert_eq!(h.checked(at(30), Up, Up, false, &Shaky::default()), Verdict::Normal);
        let c = counts(1, 10, 1000);
        flap(&mut h, 40, false, &c);
        assert_eq!(flap(&mut h, 42, false, &c), Verdict::Shaky);
        assert_eq!(h.checked(at(50), Up, Up, false, &SAMPLES), Verdict::Normal);
    }

    #[test]
    fn extremes() {
        let c = counts(u32::MAX, u32::MAX, u32::MAX);
        let mut h = History::new();
        h.failures = u32::MAX;
        flap(&mut h, 1, false, &c);
        h.checked(Instant::from_micros(u64::MAX), Up, Up, false, &c);
        assert_eq!(h.verdict(), Verdict::Normal);
    }

    #[test]
    fn treatments() {
        use MarginalPathgroups::*;
        assert_eq!(treatment(Verdict::Shaky, Off), Treatment::HoldOut);
        assert_eq!(treatment(Verdict::Shaky, On), Treatment::Marginal);
        assert_eq!(treatment(Verdict::Shaky, Fpin), Treatment::Normal);
        assert_eq!(treatment(Verdict::Normal, On), Treatment::Normal);
    }

    #[test]
    fn ghosts_wait() {
        assert_eq!(ghost_wait(at(10), at(12), Some(5), 0, 2), Some(at(15)));
        assert_eq!(ghost_wait(at(10), at(15), Some(5), 0, 2), None);
        assert_eq!(ghost_wait(at(10), at(12), Some(5), 1, 2), None);
        assert_eq!(ghost_wait(at(10), at(12), Some(5), 0, 0), None);
        assert_eq!(ghost_wait(at(10), at(12), None, 0, 2), None);
        assert_eq!(ghost_wait(at(10), at(12), Some(0), 0, 2), None);
        assert!(Ghost.usable());
    }
}
