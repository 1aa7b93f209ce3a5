//! Random histories of the policy pieces, and what must hold whatever happens: never a group without a usable path, never a time in
//! the past, queueing by the clock, the last path never held back. A failure prints the seed that replays it.

use core::time::Duration;
use corepath::conf::settings::{Failback, NoPathRetry, Shaky};
use corepath::engine::group::{Rating, best_group};
use corepath::engine::marginal::{History, Verdict};
use corepath::engine::queueing::{self, Want};
use corepath::engine::schedule::{Ask, Outcome, Port, PortChange, next_check};
use corepath::failback::{self, Decision, GUARD, View};
use corepath::model::{Instant, PathState, Prio};

struct Rng(u64);

impl Rng {
    /// Below `n`.
    fn next(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.next(100) < percent
    }
}

fn histories(count: u64, mut one: impl FnMut(&mut Rng)) {
    for seed in 0..count {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5151);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(&mut rng)));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn failback_histories() {
    let mut switches = [0u32; 4];
    histories(10_000, |rng| {
        let (kind, mode) = match rng.next(4) {
            0 => (0, Failback::Manual),
            1 => (1, Failback::Immediate),
            2 => (2, Failback::Followover),
            _ => (3, Failback::After(1 + rng.next(30) as u32)),
        };
        let mut groups: Vec<Rating> =
            (0..1 + rng.next(4)).map(|_| Rating { prio: Prio(rng.next(60) as i32 - 1), usable: 2, marginal: rng.chance(10) }).collect();
        let mut state = failback::State::new();
        let (mut now, mut current) = (Instant::from_secs(1000), 1u8);
        let mut quiet_since = now;
        let mut asked: Option<u8> = None;
        let mut repeated = false;
        for _ in 0..60 {
            now = now + Duration::from_millis(rng.next(9_000));
            if let Some(due) = state.poll_at().filter(|_| rng.chance(50)) {
                now = now.max(due);
            }
            let (mut failed, mut came_up, mut revived) = (false, false, None);
            let i = rng.next(groups.len() as u64) as usize;
            match rng.next(8) {
                0 if groups[i].usable > 0 => (groups[i].usable, failed) = (groups[i].usable - 1, true),
                1 if groups[i].usable < 2 => {
                    revived = (groups[i].usable == 0).then_some(i as u8 + 1);
                    (groups[i].usable, came_up) = (groups[i].usable + 1, true);
                }
                2 => groups[i].prio = Prio(rng.next(60) as i32),
                // Another host, or the kernel.
                3 if groups[i].usable > 0 => current = i as u8 + 1,
                _ => {}
            }
            if failed || came_up {
                quiet_since = now;
            }
            // The message took effect, or not yet.
            if let Some(group) = asked.take().filter(|_| rng.chance(70)) {
                current = group;
            }
            let view = View {
                groups: &groups,
                current,
                regroup: rng.chance(5),
                failed,
                came_up,
                revived,
                refused: false,
                array_moves: rng.chance(20),
            };
            let decision = state.process(now, mode, &view);
            if let Some(due) = state.poll_at() {
                assert!(due > now, "poll_at in the past");
            }
            match decision {
                Decision::Stay => {}
                Decision::Switch(n) => {
                    assert!(groups[usize::from(n) - 1].usable > 0, "a dead group");
                    assert_ne!(n, current);
                    assert_eq!(n, best_group(groups.iter().copied()));
                    asked = Some(n);
                }
                Decision::Reload => {
                    assert!(groups.iter().any(|g| g.usable > 0));
                    groups.sort_by_key(|g| (g.marginal, core::cmp::Reverse(g.prio)));
                    asked = Some(best_group(groups.iter().copied()));
                }
            }
            if decision != Decision::Stay {
                assert_ne!(mode, Failback::Manual);
                if let Failback::After(n) = mode {
                    assert!(repeated || now.since(quiet_since) >= Duration::from_secs(u64::from(n)));
                }
                switches[kind] += 1;
            }
            // Until it is seen to have taken effect a decision is given again.
            repeated = decision != Decision::Stay;
        }
    });
    assert_eq!(switches[0], 0);
    assert!(switches[1..].iter().all(|&n| n > 100), "{switches:?}");
}

/// Two hosts that both want their own group, each with immediate failback: the LUN comes to rest.
#[test]
fn two_hosts_do_not_fight_for_ever() {
    let ratings = [Rating { prio: Prio(50), usable: 2, marginal: false }, Rating { prio: Prio(10), usable: 2, marginal: false }];
    let mirrored = [ratings[1], ratings[0]];
    let mut hosts = [(failback::State::new(), ratings), (failback::State::new(), mirrored)];
    let (mut owner, mut moves) = (1u8, Vec::new());
    for second in 0..3600 {
        let now = Instant::from_secs(second);
        for (state, groups) in &mut hosts {
            let view = View { groups: &groups[..], current: owner, ..View::default() };
            if let Decision::Switch(n) = state.process(now, Failback::Immediate, &view) {
                owner = n;
                moves.push(second);
            }
        }
    }
    assert!(moves.len() <= 4, "{moves:?}");
    assert!(moves.iter().all(|&s| s < 2 * GUARD.as_secs()));
}

#[test]
fn queueing_histories() {
    let (mut expiries, mut stood) = (0, 0);
    histories(10_000, |rng| {
        let interval = Duration::from_secs(1 + rng.next(10));
        let setting = match rng.next(4) {
            0 => NoPathRetry::Unset,
            1 => NoPathRetry::Fail,
            2 => NoPathRetry::Queue,
            _ => NoPathRetry::Retries(1 + rng.next(20) as u32),
        };
        let mut state = queueing::State::new();
        let mut now = Instant::from_secs(5);
        let (mut lost, mut gone) = (None, None);
        let mut view = queueing::View { paths: 4, usable: 4, gone: 0 };
        let (mut disabled, mut over) = (false, false);
        // What runs out: the LUN that is gone, the retries.
        let limits = |lost: Option<Instant>, gone: Option<Instant>| {
            let retries = match setting {
                NoPathRetry::Retries(n) => lost.map(|t| t + Duration::from_secs(u64::from(n) * interval.as_secs())),
                _ => None,
            };
            [gone.map(|t| t + queueing::GONE_GRACE), retries].into_iter().flatten().min().filter(|_| setting != NoPathRetry::Fail)
        };
        for _ in 0..60 {
            now = now + Duration::from_millis(rng.next(20_000));
            if let Some(due) = state.poll_at(setting, interval).filter(|_| rng.chance(50)) {
                now = now.max(due);
            }
            match rng.next(10) {
                0 => view = queueing::View { paths: 4, usable: rng.next(5) as u16, gone: 0 },
                1 => view = queueing::View { paths: 4, usable: 0, gone: rng.next(5) as u16 },
                2 => {
                    state.disable();
                    disabled = true;
                }
                3 => {
                    state.restore(now);
                    (disabled, over) = (false, over && lost.is_none());
                    lost = lost.map(|_| now);
                    gone = gone.map(|_| now);
                }
                _ => {}
            }
            if view.usable > 0 {
                (lost, gone, over) = (None, None, false);
            } else {
                lost = lost.or(Some(now));
                gone = if view.gone == 4 { gone.or(Some(now)) } else { None };
            }
            // Looked at so late, it asks first.
            if let Some(end) = limits(lost, gone).filter(|&end| !over && now.since(end) >= queueing::STOOD_STILL) {
                let late = now.since(end) + interval * 2;
                (lost, gone) = (lost.map(|t| t + late), gone.map(|t| t + late));
                stood += 1;
            }
            let answer = state.process(now, setting, interval, view);
            expiries += u32::from(answer.expired);
            over = limits(lost, gone).is_some_and(|end| now >= end);
            let want = match setting {
                _ if disabled => Want::Off,
                NoPathRetry::Fail => Want::Off,
                _ if over => Want::Off,
                NoPathRetry::Unset => Want::Leave,
                NoPathRetry::Queue | NoPathRetry::Retries(_) => Want::On,
            };
            assert_eq!(answer.want, want, "{setting:?} {view:?} disabled {disabled}");
            if let Some(due) = state.poll_at(setting, interval) {
                assert!(due > now && !over && !disabled);
            }
            assert_eq!(state.outage().is_some(), view.usable == 0);
        }
    });
    assert!(expiries > 1000 && stood > 1000, "{expiries} {stood}");
}

#[test]
fn shaky_histories() {
    let mut held = 0;
    histories(5_000, |rng| {
        let some = |rng: &mut Rng, n: u64| Some(rng.next(n) as u32);
        let settings = Shaky {
            san_path_err_threshold: some(rng, 4),
            san_path_err_forget_rate: some(rng, 20),
            san_path_err_recovery_time: some(rng, 200),
            marginal_path_err_sample_time: some(rng, 2).map(|n| n * 120),
            marginal_path_err_rate_threshold: some(rng, 50),
            marginal_path_err_recheck_gap_time: some(rng, 300),
            marginal_path_double_failed_time: some(rng, 120),
        };
        let mut h = History::new();
        let (mut now, mut state) = (Instant::from_secs(3), PathState::Up);
        let mut pending = false;
        for _ in 0..200 {
            now = now + Duration::from_millis(rng.next(2_000));
            let from = state;
            if rng.chance(25) {
                state = [PathState::Up, PathState::Ghost, PathState::Down, PathState::Timeout][rng.next(4) as usize];
            }
            let alone = rng.chance(10);
            let verdict = h.checked(now, from, state, alone, &settings);
            assert!(!(alone && state.usable()) || verdict == Verdict::Normal, "the only path");
            if h.read_due(now) {
                assert!(!h.read_due(now));
                pending = true;
            }
            if pending && rng.chance(60) {
                pending = false;
                match rng.next(3) {
                    0 => h.not_sent(),
                    n => drop(h.read(now, n == 1, &settings)),
                }
            }
            h.poll(now, &settings);
            held += u32::from(h.verdict() == Verdict::Shaky);
        }
    });
    assert!(held > 10_000, "{held}");
}

/// A port of many paths that dies, is silent for a while and returns: few checks while it is dead, all paths asked soon after.
#[test]
fn port_histories() {
    histories(300, |rng| {
        let paths = 8 + rng.next(200) as u32;
        let mut put_off = vec![false; paths as usize];
        let (dies, returns) = (20_000, 20_000 + 5_000 + rng.next(60_000));
        let mut port = Port::new();
        let mut due: Vec<Instant> = vec![Instant::ZERO; paths as usize];
        let mut silent = vec![false; paths as usize];
        let mut interval = vec![0u16; paths as usize];
        let (mut asked_dead, mut first_answer) = (0u64, None);
        for millis in (0..returns + 30_000).step_by(50) {
            let now = Instant::from_millis(millis);
            let dead = (dies..returns).contains(&millis);
            for i in 0..paths {
                let n = i as usize;
                if due[n] > now {
                    continue;
                }
                match port.ask(now, i, put_off[n], paths) {
                    Ask::At(t) => {
                        assert!(t > now);
                        (due[n], put_off[n]) = (t, true);
                        continue;
                    }
                    Ask::Yes => put_off[n] = false,
                }
                asked_dead += u64::from(dead && millis > dies + 25_000);
                let outcome = match (silent[n], dead) {
                    (_, true) => Outcome::Failed,
                    (true, false) => Outcome::Changed,
                    (false, false) => Outcome::Steady,
                };
                due[n] = next_check(now, outcome, &mut interval[n], 5, 20, (i, paths));
                let change = port.checked(silent[n], dead, paths);
                silent[n] = dead;
                if !dead && millis >= returns {
                    first_answer.get_or_insert(millis);
                }
                if change == PortChange::Up {
                    due.iter_mut().for_each(|t| *t = now);
                }
            }
        }
        let seconds = (returns - dies).saturating_sub(25_000) / 1000 + 1;
        assert!(asked_dead <= 4 * seconds + 2, "{asked_dead} checks in {seconds} s of a dead port of {paths}");
        let first = first_answer.unwrap();
        assert!(first - returns <= 1_300, "{}", first - returns);
        assert!(silent.iter().all(|s| !s), "every path answered again");
    });
}
