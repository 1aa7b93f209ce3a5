//! What happens to I/O while a map has no usable path: `no_path_retry`, its clock, and who may override it.
//!
//! Pure: counts of paths and a time in, what the kernel shall do out; the message itself is the caller's. Two states are told apart:
//! nobody answers (cables, fabric, an array that reboots: it may come back) and the array says that the LUN is gone (05/25/00 on every
//! path: it was unmapped, or is a snapshot that is not active). The first is queued as configured. The second is never queued for
//! ever, for no waiting brings the LUN back and every process that touches it would hang. Once the machine goes down neither is waited for
//! long. dm-mpath.c `queue_if_no_path`.

use crate::conf::settings::{FlushOnLastDel, NoPathRetry};
use crate::model::Instant;
use core::time::Duration;

/// How long a LUN that is gone is queued for where `no_path_retry` would queue longer: arrays say 05/25/00 for a while when they boot.
pub const GONE_GRACE: Duration = Duration::from_secs(60);

/// How long a path is waited for where `no_path_retry` would wait longer, once the machine goes down: it is to be off in half a minute.
pub const LAST_GRACE: Duration = Duration::from_secs(10);

/// Whoever looks at a clock so long after it ran out stood still meanwhile, as a process that was stopped or a machine that was moved.
pub const STOOD_STILL: Duration = Duration::from_secs(3);

/// The paths of one map at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View {
    pub paths: u16,
    /// Up or ghost. A path whose check is still under way counts as what it was.
    pub usable: u16,
    /// The array says on this path that the LUN is gone.
    pub gone: u16,
}

/// What the kernel's queue_if_no_path shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// As it is; a new map does not queue.
    Leave,
    On,
    Off,
}

/// For people and for `%Q`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// `-`
    Unset,
    Off,
    On,
    /// Seconds until I/O fails, rounded up; no path is usable.
    Counting(u64),
    /// The time was over: I/O fails until a path comes back.
    Expired,
    /// An administrator switched it off.
    Disabled,
}

/// Why no path is usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outage {
    NoAnswer,
    LunGone,
}

/// One map's queueing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Since when no path is usable.
    lost: Option<Instant>,
    /// Since when the LUN is gone on every path.
    gone: Option<Instant>,
    /// Since when the machine goes down.
    hurried: Option<Instant>,
    disabled: bool,
    expired: bool,
}

/// What `process` found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub want: Want,
    /// The last usable path was lost since the last call.
    pub outage_began: Option<Outage>,
    /// The clock ran out since the last call.
    pub expired: bool,
    /// The first usable path came since the last call.
    pub outage_ended: bool,
}

impl State {
    pub const fn new() -> State {
        State { lost: None, gone: None, hurried: None, disabled: false, expired: false }
    }

    /// Looks at the map. Call it when a path's state changed and at [`State::poll_at`]. A map without any path is not looked at: see
    /// [`on_last_path`].
    pub fn process(&mut self, now: Instant, setting: NoPathRetry, interval: Duration, view: View) -> Answer {
        let mut answer = Answer { want: Want::Leave, outage_began: None, expired: false, outage_ended: false };
        if view.usable > 0 {
            answer.outage_ended = self.lost.is_some();
            (self.lost, self.gone, self.expired) = (None, None, false);
        } else {
            let gone = view.paths > 0 && view.gone >= view.paths;
            self.gone = if gone { self.gone.or(Some(now)) } else { None };
            if self.lost.is_none() {
                self.lost = Some(now);
                answer.outage_began = Some(if gone { Outage::LunGone } else { Outage::NoAnswer });
            }
            let mut deadline = self.deadline(setting, interval);
            if let Some(passed) = deadline.filter(|&d| now.since(d) >= STOOD_STILL && !self.expired) {
                // Nobody has asked the paths since: they are asked twice before I/O fails.
                let late = now.since(passed).saturating_add(interval.max(Duration::from_secs(1)).saturating_mul(2));
                for since in [&mut self.lost, &mut self.gone, &mut self.hurried] {
                    *since = since.map(|t| t + late);
                }
                deadline = self.deadline(setting, interval);
            }
            let expired = deadline.is_some_and(|d| now >= d);
            answer.expired = expired && !self.expired;
            // A LUN that was gone and is silent now: the longer clock counts again.
            self.expired = expired;
        }
        answer.want = self.want(setting);
        answer
    }

    /// What [`State::process`] last said.
    pub fn want(&self, setting: NoPathRetry) -> Want {
        match setting {
            _ if self.disabled => Want::Off,
            NoPathRetry::Fail => Want::Off,
            // A running map keeps what it has, unless that would be for ever on a LUN that is gone.
            NoPathRetry::Unset => {
                if self.expired {
                    Want::Off
                } else {
                    Want::Leave
                }
            }
            NoPathRetry::Queue | NoPathRetry::Retries(_) => {
                if self.expired {
                    Want::Off
                } else {
                    Want::On
                }
            }
        }
    }

    /// When I/O begins to fail; `None` for never, or while a path is usable.
    fn deadline(&self, setting: NoPathRetry, interval: Duration) -> Option<Instant> {
        let lost = self.lost?;
        let counted = match setting {
            NoPathRetry::Fail => None,
            NoPathRetry::Retries(n) => Some(lost + Duration::from_secs(u64::from(n).saturating_mul(interval.as_secs().max(1)))),
            NoPathRetry::Queue | NoPathRetry::Unset => None,
        };
        let gone = match setting {
            NoPathRetry::Fail => None,
            _ => self.gone.map(|g| g + GONE_GRACE),
        };
        let hurried = match setting {
            NoPathRetry::Fail => None,
            _ => self.hurried.map(|h| h.max(lost) + LAST_GRACE),
        };
        [counted, gone, hurried].into_iter().flatten().min()
    }

    /// When to look again though nothing happens.
    pub fn poll_at(&self, setting: NoPathRetry, interval: Duration) -> Option<Instant> {
        if self.expired || self.disabled { None } else { self.deadline(setting, interval) }
    }

    pub fn shown(&self, now: Instant, setting: NoPathRetry, interval: Duration) -> Shown {
        match setting {
            _ if self.disabled => Shown::Disabled,
            NoPathRetry::Fail => Shown::Off,
            _ if self.expired => Shown::Expired,
            _ => match self.deadline(setting, interval) {
                Some(d) => Shown::Counting(d.as_micros().saturating_sub(now.as_micros()).div_ceil(1_000_000)),
                None if setting == NoPathRetry::Unset => Shown::Unset,
                None => Shown::On,
            },
        }
    }

    /// Since when no path is usable.
    pub fn lost_at(&self) -> Option<Instant> {
        self.lost
    }

    /// Why no path is usable; `None` while one is.
    pub fn outage(&self) -> Option<Outage> {
        self.lost.map(|_| if self.gone.is_some() { Outage::LunGone } else { Outage::NoAnswer })
    }

    /// From then on no path is waited for longer than [`LAST_GRACE`]; `None`: as configured again, with a full time.
    pub fn hurry(&mut self, since: Option<Instant>, now: Instant) {
        if self.hurried.is_some() && since.is_none() {
            self.anew(now);
        }
        self.hurried = since;
    }
    /// Off until [`State::restore`], whatever the settings say.
    pub fn disable(&mut self) {
        self.disabled = true;
    }
    /// Back to what is configured, with a full time if no path is usable. True when it had been disabled.
    pub fn restore(&mut self, now: Instant) -> bool {
        self.anew(now);
        core::mem::replace(&mut self.disabled, false)
    }
    fn anew(&mut self, now: Instant) {
        if self.lost.is_some() {
            self.lost = Some(now);
            self.gone = self.gone.map(|_| now);
            self.expired = false;
        }
    }
    pub fn disabled(&self) -> bool {
        self.disabled
    }
}

/// When the program that would bring paths back goes away: queueing ends unless `queue_without_daemon` says otherwise, for nobody is
/// left to count its time.
pub fn at_exit(queue_without_daemon: bool) -> Want {
    if queue_without_daemon { Want::Leave } else { Want::Off }
}

/// What becomes of a map whose last path was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastPath {
    /// It stays, without paths, and its I/O waits for one.
    Keep,
    /// It is removed; with `stop_queueing` its queueing is ended first, so that what is queued fails and its users can close it.
    Remove { stop_queueing: bool },
}

/// `flush_on_last_del`. `queueing`: what the kernel does now. `users`: of the map and of its partitions.
pub fn on_last_path(setting: FlushOnLastDel, queueing: bool, users: u32) -> LastPath {
    match setting {
        FlushOnLastDel::Always => LastPath::Remove { stop_queueing: queueing },
        FlushOnLastDel::Never | FlushOnLastDel::Unused if queueing && users > 0 => LastPath::Keep,
        FlushOnLastDel::Unused => LastPath::Remove { stop_queueing: queueing },
        FlushOnLastDel::Never => LastPath::Remove { stop_queueing: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(5);
    const UP: View = View { paths: 4, usable: 2, gone: 0 };
    const DOWN: View = View { paths: 4, usable: 0, gone: 3 };
    const GONE: View = View { paths: 4, usable: 0, gone: 4 };

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn a_map_with_paths() {
        for (setting, want, shown) in [
            (NoPathRetry::Unset, Want::Leave, Shown::Unset),
            (NoPathRetry::Fail, Want::Off, Shown::Off),
            (NoPathRetry::Queue, Want::On, Shown::On),
            (NoPathRetry::Retries(3), Want::On, Shown::On),
        ] {
            let mut s = State::new();
            assert_eq!(s.process(at(1), setting, FIVE, UP).want, want);
            assert_eq!((s.shown(at(1), setting, FIVE), s.poll_at(setting, FIVE)), (shown, None));
        }
    }

    #[test]
    fn who_stood_still_asks_first() {
        let n = NoPathRetry::Retries(12);
        let down = |first: u64| {
            let mut s = State::new();
            s.process(at(100), n, FIVE, DOWN);
            (s.process(at(first), n, FIVE, DOWN).expired, s)
        };
        assert!(down(162).0, "a little late");
        let (expired, mut s) = down(5000);
        assert!(!expired);
        assert_eq!((s.want(n), s.poll_at(n, FIVE)), (Want::On, Some(at(5010))));
        assert!(!s.process(at(5009), n, FIVE, DOWN).expired && s.process(at(5010), n, FIVE, DOWN).expired);
        assert!(!s.process(at(9000), n, FIVE, DOWN).expired && s.want(n) == Want::Off, "it stays over");
        let (_, mut s) = down(5000);
        assert!(s.process(at(5001), n, FIVE, UP).outage_ended && s.want(n) == Want::On);
    }

    #[test]
    fn retries_are_seconds_of_the_clock() {
        let n = NoPathRetry::Retries(12);
        let mut s = State::new();
        let a = s.process(at(100), n, FIVE, DOWN);
        assert_eq!((a.want, a.outage_began), (Want::On, Some(Outage::NoAnswer)));
        assert_eq!(s.poll_at(n, FIVE), Some(at(160)));
        assert_eq!(s.shown(Instant::from_millis(100_500), n, FIVE), Shown::Counting(60));
        // However often one looks.
        for t in 100..160 {
            let a = s.process(at(t), n, FIVE, DOWN);
            assert_eq!((a.want, a.expired, a.outage_began), (Want::On, false, None));
        }
        let a = s.process(at(160), n, FIVE, DOWN);
        assert_eq!((a.want, a.expired), (Want::Off, true));
        assert_eq!((s.shown(at(160), n, FIVE), s.poll_at(n, FIVE)), (Shown::Expired, None));
        assert!(!s.process(at(161), n, FIVE, DOWN).expired, "told once");
        let a = s.process(at(200), n, FIVE, UP);
        assert_eq!((a.want, a.outage_ended), (Want::On, true));
        assert_eq!(s.process(at(300), n, FIVE, DOWN).want, Want::On, "a new full time");
    }

    #[test]
    fn queue_waits_for_ever_for_an_answer_but_not_for_a_lun_that_is_gone() {
        let mut s = State::new();
        for t in 0..100 {
            assert_eq!(s.process(at(t * 86_400), NoPathRetry::Queue, FIVE, DOWN).want, Want::On);
        }
        let mut s = State::new();
        assert_eq!(s.process(at(100), NoPathRetry::Queue, FIVE, GONE).outage_began, Some(Outage::LunGone));
        assert_eq!(s.poll_at(NoPathRetry::Queue, FIVE), Some(at(160)));
        assert_eq!(s.outage(), Some(Outage::LunGone));
        // Silent for a moment: not gone any more, and the grace begins anew.
        assert_eq!(s.process(at(150), NoPathRetry::Queue, FIVE, DOWN).want, Want::On);
        assert_eq!((s.outage(), s.poll_at(NoPathRetry::Queue, FIVE)), (Some(Outage::NoAnswer), None));
        s.process(at(170), NoPathRetry::Queue, FIVE, GONE);
        assert_eq!(s.process(at(229), NoPathRetry::Queue, FIVE, GONE).want, Want::On);
        assert_eq!(s.process(at(230), NoPathRetry::Queue, FIVE, GONE).want, Want::Off);
        // Every path silent again (the array reboots): it is waited for as configured.
        assert_eq!(s.process(at(240), NoPathRetry::Queue, FIVE, DOWN).want, Want::On);
    }

    #[test]
    fn the_shorter_clock_counts() {
        let mut s = State::new();
        s.process(at(0), NoPathRetry::Retries(2), FIVE, GONE);
        assert_eq!(s.poll_at(NoPathRetry::Retries(2), FIVE), Some(at(10)));
        assert_eq!(s.poll_at(NoPathRetry::Retries(1000), FIVE), Some(at(60)));
        assert_eq!(s.poll_at(NoPathRetry::Fail, FIVE), None);
        assert_eq!(s.process(at(60), NoPathRetry::Unset, FIVE, GONE).want, Want::Off);
    }

    #[test]
    fn disabling_sticks() {
        let n = NoPathRetry::Queue;
        let mut s = State::new();
        s.disable();
        assert_eq!(s.process(at(1), n, FIVE, UP).want, Want::Off);
        assert_eq!(s.process(at(2), n, FIVE, DOWN).want, Want::Off);
        assert_eq!(s.process(at(3), n, FIVE, UP).want, Want::Off);
        assert_eq!(s.shown(at(3), n, FIVE), Shown::Disabled);
        assert!(s.restore(at(4)));
        assert!(!s.restore(at(4)));
        assert_eq!(s.process(at(5), n, FIVE, UP).want, Want::On);
    }

    #[test]
    fn restoring_during_an_outage_gives_a_full_time() {
        let n = NoPathRetry::Retries(2);
        let mut s = State::new();
        s.process(at(0), n, FIVE, DOWN);
        assert_eq!(s.process(at(10), n, FIVE, DOWN).want, Want::Off);
        s.restore(at(20));
        assert_eq!(s.process(at(21), n, FIVE, DOWN).want, Want::On);
        assert_eq!(s.poll_at(n, FIVE), Some(at(30)));
    }

    #[test]
    fn extreme_values_saturate() {
        let n = NoPathRetry::Retries(u32::MAX);
        let mut s = State::new();
        s.process(Instant::from_micros(u64::MAX), n, Duration::MAX, DOWN);
        assert_eq!(s.process(Instant::from_micros(u64::MAX), n, Duration::MAX, DOWN).want, Want::Off, "the clock's end is the end");
        let mut s = State::new();
        s.process(at(1), n, Duration::ZERO, DOWN);
        assert!(matches!(s.shown(at(0), n, Duration::ZERO), Shown::Counting(_)));
    }

    #[test]
    fn the_last_path() {
        use FlushOnLastDel::*;
        let remove = |stop_queueing| LastPath::Remove { stop_queueing };
        for (setting, queueing, open, want) in [
            (Always, true, 1, remove(true)),
            (Always, false, 1, remove(false)),
            (Unused, true, 1, LastPath::Keep),
            (Unused, true, 0, remove(true)),
            (Unused, false, 1, remove(false)),
            (Never, true, 1, LastPath::Keep),
            (Never, true, 0, remove(false)),
            (Never, false, 0, remove(false)),
        ] {
            assert_eq!(on_last_path(setting, queueing, open), want, "{setting:?} {queueing} {open}");
        }
        assert_eq!((at_exit(false), at_exit(true)), (Want::Off, Want::Leave));
    }

    #[test]
    fn nobody_waits_long_once_the_machine_goes_down() {
        for (setting, ends) in [
            (NoPathRetry::Queue, 30),
            (NoPathRetry::Unset, 30),
            (NoPathRetry::Retries(60), 30),
            (NoPathRetry::Retries(3), 20), // no later than configured
        ] {
            let mut s = State::new();
            s.process(at(5), setting, FIVE, DOWN);
            s.hurry(Some(at(20)), at(20));
            assert!(!s.process(at(ends - 1), setting, FIVE, DOWN).expired || ends < 30, "{setting:?}");
            let answer = s.process(at(ends), setting, FIVE, DOWN);
            assert!(answer.expired && answer.want == Want::Off, "{setting:?}: {answer:?}");
            assert_eq!(s.poll_at(setting, FIVE), None);
        }
        let mut s = State::new();
        s.hurry(Some(at(0)), at(0));
        assert_eq!(s.process(at(1), NoPathRetry::Queue, FIVE, UP).want, Want::On);
        // Lost later: a moment from then.
        s.process(at(100), NoPathRetry::Queue, FIVE, GONE);
        assert_eq!(s.poll_at(NoPathRetry::Queue, FIVE), Some(at(110)));
        assert!(s.process(at(110), NoPathRetry::Queue, FIVE, GONE).expired);
        s.hurry(None, at(200));
        assert_eq!(s.want(NoPathRetry::Queue), Want::On);
        assert_eq!(s.poll_at(NoPathRetry::Queue, FIVE), Some(at(260)), "gone: its own clock, anew");
        let mut s = State::new();
        s.hurry(Some(at(0)), at(0));
        assert_eq!(s.process(at(1), NoPathRetry::Fail, FIVE, DOWN).want, Want::Off);
        assert_eq!(s.poll_at(NoPathRetry::Fail, FIVE), None);
    }
}
