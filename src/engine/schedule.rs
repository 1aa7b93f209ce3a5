//! When a path is asked again, and when its port is asked instead of it.
//!
//! Pure: times and counts in, times out; the queue of times is the caller's. Failed paths are asked every second; good ones at an
//! interval that doubles from `polling_interval` to `max_polling_interval`. Every sixteen good paths have a place of their own within the
//! interval, so that however many begin together, they do not stay together, and that a turn of the loop serves sixteen: alone each would
//! cost its own waking of the loop and of a worker, twice the system calls. Never random: the same number gets the same place.
//!
//! Ports: when the paths of one I_T nexus fall silent together, one path of it is asked each second and the others wait, for each
//! check of a dead port may hold a worker for as long as the transport likes. That is the "scalable path
//! testing" of the 2005 paper.

use crate::model::Instant;
use core::time::Duration;

/// How often a failed path is asked.
pub const FAILED: Duration = Duration::from_secs(1);
/// Paths that fall silent one after the other, with no answer from the port in between, before the port is held to be down.
pub const SILENT_LIMIT: u16 = 4;
/// Ports with fewer paths are not asked through one of them: little is won, and the one may be dead by itself.
pub const PORT_LEAST: u32 = 8;
/// Paths (or maps) that share a place.
const TOGETHER: u32 = 16;

/// What a check said, as far as its repetition goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Usable, as before.
    Steady,
    /// Usable, and was not; or never checked before.
    Changed,
    Failed,
}

/// Which place number `index` of `count` paths (or maps) has. Neighbours, which are often behind one port, have different ones; an odd
/// number of places, so that every second or fourth path does not meet in a few of them.
pub fn spot(index: u32, count: u32) -> u32 {
    index % (count.div_ceil(TOGETHER) | 1)
}

/// The next check of path number `index` of `count`. `interval`: the path's, in seconds, moved on here; 0 at first. `least`, `most`: polling
/// intervals in seconds.
pub fn next_check(now: Instant, outcome: Outcome, interval: &mut u16, least: u32, most: u32, (index, count): (u32, u32)) -> Instant {
    let cap = |secs: u32| u16::try_from(secs).unwrap_or(u16::MAX).max(1);
    let (least, most) = (cap(least.min(most)), cap(most));
    *interval = match outcome {
        Outcome::Failed => 0,
        Outcome::Changed => least,
        Outcome::Steady => interval.saturating_mul(2).max(least).min(most),
    };
    match *interval {
        0 => place(now, FAILED, index),
        seconds => place(now, Duration::from_secs(u64::from(seconds)), spot(index, count)),
    }
}

/// The first moment after `now` that is number `index`'s own within `period`, but not so soon that it would be asked twice in a row:
/// at least a quarter of the period, or a second, away; so at most that much more than the period.
pub fn place(now: Instant, period: Duration, index: u32) -> Instant {
    let period = u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(1);
    // Multiples of the golden ratio's fraction: any run of numbers is spread evenly, and so is every fourth, say, of them.
    let fraction = u128::from(index.wrapping_mul(0x9e37_79b1));
    let own = ((fraction * u128::from(period)) >> 32) as u64;
    let earliest = now.as_micros().saturating_add((period / 4).min(1_000_000)).saturating_add(1);
    let since = earliest.saturating_add(period - own) % period;
    Instant::from_micros(if since == 0 { earliest } else { earliest.saturating_add(period - since) })
}

/// How many workers one port may hold at once. `workers`: those for checks; `ports`: ports in use. A dead port never gets them all
/// while there is another.
pub fn share(workers: u16, ports: u32) -> u16 {
    let among = u16::try_from(ports.clamp(1, 4)).unwrap_or(4);
    (workers / among).max(1)
}

/// What became of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortChange {
    Nothing,
    /// Its paths fell silent together: from now on one is asked for all.
    Down,
    /// It answers: all its paths are worth asking at once.
    Up,
}

/// May a path be asked now?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    Yes,
    /// Another path is asked for it; look again then.
    At(Instant),
}

/// The silence of one port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Port {
    /// Paths whose last check ended without an answer.
    silent: u16,
    /// Of these, those that fell silent since a path of this port last answered.
    streak: u16,
    down: bool,
    /// The port's next turn.
    turn: Instant,
}

impl Port {
    pub const fn new() -> Port {
        Port { silent: 0, streak: 0, down: false, turn: Instant::ZERO }
    }

    pub fn down(&self) -> bool {
        self.down
    }

    /// Did a path fall silent, and none of the port's answer since?
    pub fn suspect(&self) -> bool {
        self.streak > 0
    }

    /// A check of one of its `paths` ended. Silent: nothing came back through the port (no answer in time, an error of the host
    /// adapter or the link, a device that is offline). Any answer of the device, good or bad, is none. `was_silent`: what the last
    /// check of this path was; the caller keeps it with the path.
    pub fn checked(&mut self, was_silent: bool, is_silent: bool, paths: u32) -> PortChange {
        if !is_silent {
            if was_silent {
                self.silent = self.silent.saturating_sub(1);
            }
            self.streak = 0;
            return if core::mem::take(&mut self.down) { PortChange::Up } else { PortChange::Nothing };
        }
        if !was_silent {
            self.silent = self.silent.saturating_add(1);
            self.streak = self.streak.saturating_add(1);
        }
        let together = u32::from(self.silent) >= paths.max(1) || self.streak >= SILENT_LIMIT;
        if self.down || !together || paths < PORT_LEAST {
            return PortChange::Nothing;
        }
        self.down = true;
        PortChange::Down
    }

    /// A path is no longer one of its.
    pub fn left(&mut self, was_silent: bool) {
        if was_silent {
            self.silent = self.silent.saturating_sub(1);
        }
    }

    /// Path `index` of `paths` is due. While the port is down, the first that comes each second is asked: as a rule the one that was
    /// asked before, which as a failed path is due again by then. The others are put off once, each to its own time within as many
    /// seconds as there are paths, and then asked in any case (`put_off`), for the one may be dead by itself.
    pub fn ask(&mut self, now: Instant, index: u32, put_off: bool, paths: u32) -> Ask {
        if !self.down || put_off {
            return Ask::Yes;
        }
        if now >= self.turn {
            // A little less than the second after which the same path comes again.
            self.turn = now + FAILED / 2;
            return Ask::Yes;
        }
        Ask::At(place(now, Duration::from_secs(u64::from(paths.clamp(5, 300))), index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn intervals_double_and_fall_back() {
        let mut interval = 0;
        let mut seen = vec![];
        for outcome in [
            Outcome::Changed,
            Outcome::Steady,
            Outcome::Steady,
            Outcome::Steady,
            Outcome::Failed,
            Outcome::Changed,
            Outcome::Failed,
            Outcome::Steady,
        ] {
            next_check(at(0), outcome, &mut interval, 5, 20, (1, 2));
            seen.push(interval);
        }
        assert_eq!(seen, [5, 10, 20, 20, 0, 5, 0, 5]);
        for (least, most, want) in [(0, 0, 1), (30, 20, 20), (u32::MAX, u32::MAX, u16::MAX)] {
            next_check(at(0), Outcome::Changed, &mut interval, least, most, (1, 2));
            assert_eq!(interval, want);
            next_check(at(0), Outcome::Steady, &mut interval, least, most, (1, 2));
            assert!(interval >= want);
        }
    }

    #[test]
    fn a_failed_path_is_asked_within_a_second_and_a_quarter() {
        for index in 0..1000 {
            for now in [0, 1, 999, 1_234_567] {
                let mut interval = 20;
                let t = next_check(at(now), Outcome::Failed, &mut interval, 5, 20, (index, 1000));
                let wait = t.since(at(now));
                assert!(wait > Duration::from_millis(249) && wait <= Duration::from_millis(1251), "{wait:?}");
            }
        }
    }

    #[test]
    fn steady_paths_keep_their_period() {
        for index in [0, 1, 7, 65_535, u32::MAX] {
            let mut now = at(17);
            let mut interval = 20;
            let mut last = next_check(now, Outcome::Steady, &mut interval, 5, 20, (index, 100));
            for _ in 0..50 {
                // Carried out a little late.
                now = last + Duration::from_millis(300);
                let next = next_check(now, Outcome::Steady, &mut interval, 5, 20, (index, 100));
                assert_eq!(next.since(last), Duration::from_secs(20));
                last = next;
            }
        }
    }

    #[test]
    fn spread_evenly_however_many_begin_together() {
        for (count, step) in [(65_536u32, 1u32), (1000, 1), (1000, 4), (256, 64)] {
            let mut buckets: Vec<u32> = vec![0; 20];
            for i in 0..count {
                let mut interval = 10;
                let t = next_check(at(5_000), Outcome::Steady, &mut interval, 5, 20, (i * step, count));
                let wait = t.since(at(5_000));
                assert!(wait <= Duration::from_millis(21_001));
                buckets[(t.as_secs() % 20) as usize] += 1;
            }
            let even = count / 20;
            // As evenly as places of sixteen can be.
            let (low, high) = ((even * 7 / 10).saturating_sub(TOGETHER), even * 13 / 10 + TOGETHER + 2);
            assert!(buckets.iter().all(|&b| b >= low && b <= high), "{count} {step} {buckets:?}");
        }
    }

    #[test]
    fn the_ends_of_the_clock() {
        assert_eq!(place(Instant::from_micros(u64::MAX), Duration::MAX, u32::MAX), Instant::from_micros(u64::MAX));
        assert!(place(at(0), Duration::ZERO, 3) > at(0));
        for index in 0..100 {
            for now in 0..100 {
                let now = Instant::from_micros(now * 77_777);
                assert!(place(now, Duration::from_secs(3), index) > now);
            }
        }
    }

    #[test]
    fn shares() {
        assert_eq!((share(8, 1), share(8, 2), share(8, 4), share(8, 1000)), (8, 4, 2, 2));
        assert_eq!((share(0, 0), share(1, 9)), (1, 1));
    }

    #[test]
    fn a_port_goes_down_when_its_paths_fall_silent_together() {
        let mut p = Port::new();
        for _ in 0..SILENT_LIMIT - 1 {
            assert_eq!(p.checked(false, true, 100), PortChange::Nothing);
        }
        assert_eq!(p.checked(false, true, 100), PortChange::Down);
        assert_eq!(p.checked(false, true, 100), PortChange::Nothing, "told once");
        assert_eq!(p.checked(true, false, 100), PortChange::Up);
        assert_eq!(p.checked(true, false, 100), PortChange::Nothing);
    }

    #[test]
    fn one_dead_path_among_many_is_not_the_port() {
        let mut p = Port::new();
        assert_eq!(p.checked(false, true, 100), PortChange::Nothing);
        for _ in 0..1000 {
            assert_eq!(p.checked(true, true, 100), PortChange::Nothing);
        }
        // Others fall silent over the days, but the port answers in between.
        for _ in 0..10 {
            assert_eq!(p.checked(false, false, 100), PortChange::Nothing);
            assert_eq!(p.checked(false, true, 100), PortChange::Nothing);
        }
    }

    #[test]
    fn small_ports() {
        let mut p = Port::new();
        for n in 0..PORT_LEAST {
            assert_eq!(p.checked(false, true, PORT_LEAST - 1), PortChange::Nothing, "{n}");
        }
        assert_eq!(p.checked(false, true, PORT_LEAST), PortChange::Down);
        for _ in 0..100 {
            p.left(true);
        }
        assert_eq!(p.checked(false, false, 0), PortChange::Up);
    }

    #[test]
    fn a_dead_path_does_not_stand_for_a_port_that_answers() {
        // The one that is asked is dead by itself; the others answer again.
        let n = 20u32;
        let mut p = Port::new();
        for _ in 0..n {
            p.checked(false, true, n);
        }
        let (mut due, mut put_off) = (vec![at(0); n as usize], vec![false; n as usize]);
        let mut up = None;
        for ms in (0..30_000).step_by(10) {
            for i in 0..n as usize {
                if due[i] > at(ms) || up.is_some() {
                    continue;
                }
                match p.ask(at(ms), i as u32, put_off[i], n) {
                    Ask::At(t) => (due[i], put_off[i]) = (t, true),
                    Ask::Yes => {
                        put_off[i] = false;
                        due[i] = next_check(at(ms), Outcome::Failed, &mut 0, 5, 20, (i as u32, n));
                        if p.checked(true, i == 0 || ms < 5000, n) == PortChange::Up {
                            up = Some(ms);
                        }
                    }
                }
            }
        }
        assert!(up.is_some_and(|ms| ms < 8000), "{up:?}");
    }

    /// A thousand paths behind a dead port, driven as the engine does: how many are asked per second, and how soon all are.
    #[test]
    fn a_dead_port_costs_one_check_a_second_and_returns_at_once() {
        let n = 1000u32;
        let mut p = Port::new();
        let mut due: Vec<Instant> = (0..n).map(|_| at(0)).collect();
        let mut silent = vec![false; n as usize];
        let mut asked = 0;
        let mut put_off = vec![false; n as usize];
        let mut stuck = None;
        for ms in (0..60_000).step_by(10) {
            for i in 0..n as usize {
                if due[i] > at(ms) || stuck == Some(i) {
                    continue;
                }
                match p.ask(at(ms), i as u32, put_off[i], n) {
                    Ask::At(t) => {
                        assert!(t > at(ms));
                        due[i] = t;
                        put_off[i] = true;
                    }
                    Ask::Yes => {
                        put_off[i] = false;
                        if ms >= 10_000 {
                            asked += 1;
                        }
                        p.checked(silent[i], true, n);
                        silent[i] = true;
                        due[i] = next_check(at(ms), Outcome::Failed, &mut 0, 5, 20, (i as u32, n));
                        // Half way the one that is asked gets stuck.
                        if ms >= 30_000 && stuck.is_none() {
                            stuck = Some(i);
                        }
                    }
                }
            }
        }
        assert!((45..=300).contains(&asked), "{asked} in 50 s");
        assert_eq!(p.checked(true, false, n), PortChange::Up);
        assert_eq!(p.ask(at(60_000), 5, false, n), Ask::Yes);
        assert_eq!(p.ask(at(60_000), 6, false, n), Ask::Yes);
    }
}
