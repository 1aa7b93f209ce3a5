//! Trouble: what hangs, is refused or comes late keeps nothing else from going on.

use crate::config::Config;
use crate::stories::{SECS, UUID, W, daemon, story};
use crate::world::{Health, World};
use corepath::conf::settings::{AutoResize, CheckerKind, NoPathRetry, Policy, Shaky};
use corepath::engine::{Ask, Event, Options, Refusal, What};
use corepath::fault::Errno;
use corepath::model::{AccessState, DevNo, DmPathState, PathState, Sectors};
use std::time::Duration;

const OTHER: &str = "360014050000000000000000000000bbb";
const SDA: DevNo = DevNo { major: 8, minor: 0 };

/// Does the kernel use this path of the story's LUN?
fn active(w: &World<'_>, devno: DevNo) -> bool {
    w.dm.by_uuid(UUID).unwrap().path(devno).is_some_and(|p| p.active)
}

fn state(w: &World<'_>, name: &str) -> PathState {
    w.engine.find_path(name).unwrap().state()
}

/// Two paths, the map in use, and both away: its I/O waits.
fn starve(w: &mut World<'_>) -> (usize, usize, usize) {
    let lun = w.add_lun(W, 2048);
    let (a, b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
    w.settle(SECS(10)).unwrap();
    let minor = w.dm.by_uuid(UUID).unwrap().minor;
    w.dm.devices.get_mut(&minor).unwrap().opens = 1;
    w.run_for(SECS(30)).unwrap();
    w.set_health(a, Health::Failing);
    w.set_health(b, Health::Failing);
    w.run_for(SECS(40)).unwrap();
    assert_eq!(w.engine.starved(), 1);
    (lun, a, b)
}

/// One disk's attributes take longer than a scan is waited for; all others are there at once.
#[test]
fn a_scan_that_is_slow_loses_no_path() {
    story(Config::default(), daemon(), |w| {
        let (lun, other) = (w.add_lun(W, 2048), w.add_lun(OTHER, 2048));
        for lun in [lun, other] {
            w.add_path(lun, 1, 0);
            w.add_path(lun, 2, 0);
        }
        w.settle(SECS(10)).unwrap();
        w.run_for(SECS(60)).unwrap();
        w.scan_time = SECS(70);
        w.feed(Event::Overrun);
        w.run_for(SECS(600)).unwrap();
        assert!(!w.saw(|n| *n == What::PathLost));
        assert!(active(w, SDA));
        // What went away while it ran is missed all the same.
        w.disks[3].present = false;
        w.feed(Event::Overrun);
        w.run_for(SECS(300)).unwrap();
        assert!(w.saw(|n| *n == What::PathLost));
    });
}

/// The map loses its only path while its partition table is read through it: the reading ends when the path is back, so it must not have it.
#[test]
fn a_read_through_the_map_leaves_its_path_alone() {
    let mut config = Config::default();
    config.named.push(W.into());
    story(config, Options { partitions: true, ..daemon() }, |w| {
        let lun = w.add_lun(W, 2048);
        w.luns[lun].partitions = vec![(1, 64, 128)];
        // An array whose LUN a handler moves.
        w.luns[lun].alua = Some([AccessState::Optimized, AccessState::Standby]);
        let a = w.add_path(lun, 1, 0);
        // The direct one fails.
        w.fail_reads = true;
        for _ in 0..100_000 {
            w.step(w.now + Duration::from_millis(1)).unwrap();
            let read = |what: &str| w.log.iter().any(|l| l.contains("are read by") && l.contains(what));
            if read("through Some") {
                break;
            }
            if read("through None") && w.disks[a].health == Health::Good {
                w.set_health(a, Health::Failing);
            }
        }
        w.fail_reads = false;
        w.run_for(SECS(120)).unwrap();
        let reads = w.log.iter().filter(|l| l.contains("through Some")).count();
        assert_eq!(reads, 1, "no second worker is spent on it");
        w.set_health(a, Health::Good);
        w.run_for(SECS(5)).unwrap();
        assert!(active(w, SDA));
        assert!(w.saw(|n| *n == What::PartitionsFound { count: 1 }), "and the table is read in the end");
    });
}

/// One LUN answers TEST UNIT READY but no read, and no more than one table can be read at a time.
#[test]
fn a_partition_table_that_cannot_be_read_keeps_no_map_from_being_made() {
    story(Config::default(), Options { partitions: true, ..daemon() }, |w| {
        w.rooms = 1;
        let bad = w.add_lun(OTHER, 2048);
        w.unread.insert(bad);
        w.add_path(bad, 1, 0);
        w.add_path(bad, 2, 0);
        let _ = w.settle(SECS(10));
        w.run_for(SECS(100)).unwrap();
        let more = w.add_lun("360014050000000000000000000000ccc", 2048);
        let lun = w.add_lun(W, 2048);
        for lun in [more, lun] {
            w.comes(lun, 1, 0);
            w.comes(lun, 2, 0);
            w.run_for(SECS(20)).unwrap();
        }
        assert_eq!(w.dm.by_uuid(UUID).map(|d| d.members().len()), Some(2));
    });
}

/// Workers hang on other disks, so that none may be spared for opening the third path.
#[test]
fn a_path_that_may_not_be_opened_keeps_no_other_from_being_asked() {
    story(Config::default(), daemon(), |w| {
        let (lun, a, _) = starve(w);
        w.refuse_open = true;
        w.comes(lun, 3, 0);
        w.run_for(SECS(5)).unwrap();
        w.set_health(a, Health::Good);
        w.run_for(SECS(3)).unwrap();
        assert!(active(w, SDA));
        w.refuse_open = false;
        w.run_for(SECS(10)).unwrap();
        assert_eq!(w.dm.by_uuid(UUID).unwrap().members().len(), 3);
    });
}

/// Without udev; the worker that makes nodes, and writes to the log, hangs.
#[test]
fn a_node_that_is_not_made_keeps_no_path_from_being_reinstated() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, _b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        w.refuse_nodes = true;
        let other = w.add_lun(OTHER, 2048);
        w.comes(other, 1, 0);
        w.comes(other, 2, 0);
        w.run_for(SECS(10)).unwrap();
        w.set_health(a, Health::Failing);
        w.run_for(SECS(30)).unwrap();
        assert!(!active(w, SDA));
        w.set_health(a, Health::Good);
        w.run_for(SECS(3)).unwrap();
        assert!(active(w, SDA));
        w.refuse_nodes = false;
        w.run_for(SECS(1)).unwrap();
        assert!(w.nodes.contains_key(OTHER));
    });
}

/// Fewer paths than a port needs to be held for down: each of them is asked, and none comes back.
#[test]
fn two_dead_ports_leave_workers_for_the_others() {
    for workers in [3, 5, 8, 21] {
        story(Config::default(), daemon(), |w| {
            w.workers = workers;
            let root = w.add_lun(W, 2048);
            let (a, _b) = (w.add_path(root, 3, 0), w.add_path(root, 4, 0));
            for n in 0..4 {
                let lun = w.add_lun(&format!("36001405{n:025x}"), 2048);
                w.add_path(lun, 1, 0);
                w.add_path(lun, 2, 0);
            }
            w.settle(SECS(10)).unwrap();
            w.run_for(SECS(30)).unwrap();
            w.set_health(a, Health::Failing);
            w.run_for(SECS(40)).unwrap();
            for d in 2..w.disks.len() {
                w.set_health(d, Health::Hanging);
            }
            w.run_for(SECS(600)).unwrap();
            w.set_health(a, Health::Good);
            w.run_for(SECS(3)).unwrap();
            assert!(active(w, SDA), "{workers}");
            for d in 2..w.disks.len() {
                w.set_health(d, Health::Good);
            }
            w.run_for(SECS(10)).unwrap();
            assert!(w.engine.paths().all(|p| p.usable()));
        });
    }
}

/// No LUN, as the device says, and unknown to the checker: that says nothing of a path which the kernel has failed.
#[test]
fn what_a_checker_cannot_judge_is_not_reinstated() {
    for kind in [CheckerKind::Tur, CheckerKind::Rdac, CheckerKind::HpSw, CheckerKind::EmcClariion] {
        let mut config = Config::default();
        config.map.no_path_retry = NoPathRetry::Retries(4);
        (config.path.checker, config.path.detect_checker) = (kind, false);
        story(config, daemon(), |w| {
            let lun = w.add_lun(W, 2048);
            let (a, b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
            w.settle(SECS(10)).unwrap();
            w.run_for(SECS(10)).unwrap();
            w.set_health(a, Health::Unmapped);
            w.set_health(b, Health::Unmapped);
            let from = w.log.len();
            for _ in 0..600 {
                w.io(UUID);
                w.run_for(SECS(1)).unwrap();
            }
            let reinstated = w.log[from..].iter().filter(|l| l.contains("reinstate_path")).count();
            assert_eq!((reinstated, w.dm.by_uuid(UUID).unwrap().queues()), (0, false), "{kind:?}");
            w.set_health(a, Health::Good);
            w.run_for(SECS(5)).unwrap();
            // The simulated disks know nothing of the others' pages.
            assert!(active(w, SDA) || kind != CheckerKind::Tur);
        });
    }
}

/// While the path is away the array maps another LUN at its address; no event tells.
#[test]
fn a_path_is_not_used_again_before_it_is_known_which_lun_it_is() {
    let mut config = Config::default();
    config.path.recheck_wwid = true;
    story(config, daemon(), |w| {
        let (lun, other) = (w.add_lun(W, 2048), w.add_lun(OTHER, 2048));
        let (a, _b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        w.run_for(SECS(30)).unwrap();
        w.set_health(a, Health::Failing);
        w.run_for(SECS(30)).unwrap();
        w.set_health(a, Health::Good);
        w.run_for(SECS(2)).unwrap();
        assert!(active(w, SDA), "the same LUN is reinstated");
        w.set_health(a, Health::Failing);
        w.run_for(SECS(30)).unwrap();
        w.disks[a].lun = other;
        w.disks[a].wwid = w.luns[other].wwid.clone();
        let from = w.log.len();
        w.set_health(a, Health::Good);
        w.run_for(SECS(10)).unwrap();
        assert!(!w.log[from..].iter().any(|l| l.contains("reinstate_path 8:0")));
    });
}

/// `recheck_wwid`, and the map's I/O waits for just this path.
#[test]
fn a_starved_map_gets_a_path_that_is_looked_at_first() {
    let mut config = Config::default();
    config.path.recheck_wwid = true;
    story(config, daemon(), |w| {
        let (_, a, _) = starve(w);
        w.set_health(a, Health::Good);
        w.run_for(SECS(3)).unwrap();
        assert!(active(w, SDA));
    });
}

#[test]
fn sampling_ends() {
    let mut config = Config::default();
    config.map.no_path_retry = NoPathRetry::Queue;
    config.map.shaky = Shaky {
        marginal_path_err_sample_time: Some(120),
        marginal_path_err_rate_threshold: Some(10),
        marginal_path_err_recheck_gap_time: Some(300),
        marginal_path_double_failed_time: Some(60),
        ..Shaky::default()
    };
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, _b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        w.run_for(SECS(30)).unwrap();
        for _ in 0..2 {
            w.set_health(a, Health::Failing);
            w.run_for(SECS(22)).unwrap();
            w.set_health(a, Health::Good);
            w.run_for(SECS(5)).unwrap();
        }
        assert_eq!(state(w, "sda"), PathState::Delayed);
        w.run_for(SECS(200)).unwrap();
        assert_eq!(state(w, "sda"), PathState::Up);
        assert!(active(w, SDA));
    });
}

#[test]
fn a_refused_removal_leaves_the_path_where_it_is() {
    story(Config::default(), daemon(), |w| {
        let (_, a, _) = starve(w);
        w.ask(5, Ask::RemovePath("sda"));
        w.run_for(SECS(1)).unwrap();
        assert_eq!(w.answers, [(5, Err(Refusal::NoUsablePath))]);
        w.set_health(a, Health::Good);
        w.run_for(SECS(3)).unwrap();
        assert!(active(w, SDA));
    });
}

#[test]
fn a_resize_that_found_nothing_to_do_allows_none_later() {
    let mut config = Config::default();
    config.globals.auto_resize = AutoResize::Never;
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        w.ask(1, Ask::Resize(W));
        w.run_for(SECS(5)).unwrap();
        assert_eq!(w.answers, [(1, Ok(()))]);
        for d in [a, b] {
            w.disks[d].size = 1024;
            w.heard(d);
        }
        w.run_for(SECS(60)).unwrap();
        assert!(!w.saw(|n| *n == What::MapResized));
    });
}

/// The array's LUN has grown, and nobody has told the daemon: sysfs knows. One path that the kernel has not looked at keeps it from happening.
#[test]
fn a_resize_goes_by_sizes_that_are_read_for_it() {
    let mut config = Config::default();
    config.globals.auto_resize = AutoResize::Never;
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        w.disks[b].size = 4096;
        w.ask(1, Ask::Resize(W));
        w.run_for(SECS(1)).unwrap();
        assert_eq!(w.answers, [(1, Err(Refusal::SizesDiffer))]);
        w.disks[a].size = 4096;
        w.ask(2, Ask::Resize(W));
        w.run_for(SECS(1)).unwrap();
        assert_eq!(w.answers, [(1, Err(Refusal::SizesDiffer)), (2, Ok(()))]);
        assert!(w.saw(|n| *n == What::MapResized));
        assert_eq!(w.engine.find_map(W).unwrap().size(), Sectors(4096));
    });
}

/// What was asked of a path last does not undo what was asked of it before.
#[test]
fn to_fail_a_path_takes_no_other_decision_back() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let _ = [w.add_path(lun, 1, 0), w.add_path(lun, 2, 0)];
        let alone = w.add_lun("3600140500000000000000000000000c1", 2048);
        w.add_path(alone, 1, 1);
        w.settle(SECS(10)).unwrap();
        w.ask(1, Ask::RemovePath("sda"));
        w.run_for(SECS(1)).unwrap();
        for (token, ask) in [(2, Ask::FailPath("sda")), (3, Ask::ReinstatePath("sda")), (4, Ask::FailPath("sdz"))] {
            w.ask(token, ask);
        }
        w.run_for(SECS(60)).unwrap();
        w.answers.sort_by_key(|(token, _)| *token);
        assert_eq!(w.answers, [(1, Ok(())), (2, Err(Refusal::NoMap)), (3, Err(Refusal::NoMap)), (4, Err(Refusal::NoSuchPath))]);
        assert!(!w.engine.find_path("sda").unwrap().live());
        // Nor does it throw a single path out of the map that it was asked into.
        w.ask(5, Ask::AddPath("sdc"));
        w.run_for(SECS(5)).unwrap();
        w.ask(6, Ask::FailPath("sdc"));
        w.run_for(SECS(5)).unwrap();
        w.heard(2);
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.answers.get(4..), Some(&[(5, Ok(())), (6, Ok(()))][..]));
        let path = w.engine.find_path("sdc").unwrap();
        assert!(path.live() && path.dm_state() == DmPathState::Failed, "{:?}", path.reason());
    });
}

/// The group that was asked for has no path when the map could be told; an hour later it has one again.
#[test]
fn a_group_switch_is_not_carried_out_later() {
    let mut config = Config::default();
    config.map.policy = Policy::Failover;
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let d = [w.add_path(lun, 1, 0), w.add_path(lun, 2, 0), w.add_path(lun, 3, 0)];
        w.settle(SECS(10)).unwrap();
        w.io(UUID);
        w.run_for(SECS(60)).unwrap();
        w.ask(1, Ask::Suspend(W));
        w.run_for(SECS(1)).unwrap();
        w.ask(2, Ask::SwitchGroup { map: W, group: 3 });
        w.run_for(SECS(1)).unwrap();
        w.set_health(d[2], Health::Failing);
        w.run_for(SECS(70)).unwrap();
        w.ask(3, Ask::Resume(W));
        w.run_for(SECS(5)).unwrap();
        assert!(w.answers.iter().any(|(token, result)| *token == 2 && result.is_err()), "{:?}", w.answers);
        // Fails over, and the first comes back.
        w.set_health(d[0], Health::Failing);
        w.io(UUID);
        w.run_for(SECS(60)).unwrap();
        w.io(UUID);
        w.set_health(d[0], Health::Good);
        w.run_for(SECS(600)).unwrap();
        w.io(UUID);
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.engine.find_map(W).unwrap().current_group(), 1);
        w.set_health(d[2], Health::Good);
        w.run_for(SECS(10)).unwrap();
        w.io(UUID);
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.engine.find_map(W).unwrap().current_group(), 1);
    });
}

#[test]
fn directio_waits_as_long_as_it_is_told_to() {
    let mut config = Config::default();
    config.path.checker = CheckerKind::Directio;
    config.globals.checker_timeout = Some(5);
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, _b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        w.run_for(SECS(30)).unwrap();
        w.set_health(a, Health::Hanging);
        w.run_for(SECS(29)).unwrap();
        assert_eq!(state(w, "sda"), PathState::Timeout);
    });
}

/// Queueing ended with the LUN; an administrator switches it off and on again before the LUN is back.
#[test]
fn what_queued_before_its_lun_went_queues_after_it() {
    struct Any;
    impl crate::dm::Disks for Any {
        fn open(&self, _: DevNo) -> Result<(u64, bool), Errno> {
            Ok((2048, false))
        }
    }
    let mut config = Config::default();
    config.map.no_path_retry = NoPathRetry::Unset;
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        // Somebody has it queue.
        let minor = w.dm.by_uuid(UUID).unwrap().minor;
        let line = "1 queue_if_no_path 0 1 1 service-time 0 2 1 8:0 1 8:16 1";
        let table = w.dm.build(minor, "multipath", line, 2048, false, &Any).unwrap();
        w.dm.devices.get_mut(&minor).unwrap().inactive = Some((2048, false, table));
        w.dm.swap(minor);
        w.feed(Event::Overrun);
        w.run_for(SECS(60)).unwrap();
        assert!(w.dm.by_uuid(UUID).unwrap().queues());
        w.set_health(a, Health::Unmapped);
        w.set_health(b, Health::Unmapped);
        w.run_for(SECS(120)).unwrap();
        assert!(!w.dm.by_uuid(UUID).unwrap().queues());
        w.ask(1, Ask::DisableQueueing(None));
        w.run_for(SECS(5)).unwrap();
        w.ask(2, Ask::RestoreQueueing(None));
        w.run_for(SECS(5)).unwrap();
        w.set_health(a, Health::Good);
        w.set_health(b, Health::Good);
        w.run_for(SECS(60)).unwrap();
        assert!(w.dm.by_uuid(UUID).unwrap().queues());
    });
}

/// The machine goes down, and somebody removes a map, which is made again.
#[test]
fn a_map_made_again_is_not_waited_for_long_once_the_machine_goes_down() {
    let mut config = Config::default();
    config.map.no_path_retry = NoPathRetry::Queue;
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        w.ask(1, Ask::HurryQueueing(true));
        let minor = w.dm.by_uuid(UUID).unwrap().minor;
        w.dm.devices.remove(&minor);
        w.run_for(SECS(60)).unwrap();
        assert!(w.dm.by_uuid(UUID).unwrap().queues());
        w.set_health(a, Health::Failing);
        w.set_health(b, Health::Failing);
        w.run_for(SECS(60)).unwrap();
        assert!(!w.dm.by_uuid(UUID).unwrap().queues());
    });
}

/// A DASD or a namespace has no timeout in sysfs: reads that take their time are waited for as long as any command is.
#[test]
fn a_read_of_a_disk_without_a_timeout_may_take_a_while() {
    let mut config = Config::default();
    config.path.checker = CheckerKind::Directio;
    story(config, daemon(), |w| {
        w.timeout_secs = 0;
        let lun = w.add_lun(W, 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.settle(SECS(10)).unwrap();
        w.read_time = Duration::from_millis(2500);
        w.run_for(SECS(120)).unwrap();
        assert!(active(w, SDA) && !w.saw(|what| matches!(what, What::NoUsablePath { .. })));
    });
}

/// One partition table is read at a time: the next begins when it is read, not a second later.
#[test]
fn partition_tables_are_read_one_after_the_other_without_a_pause() {
    story(Config::default(), Options { partitions: true, ..daemon() }, |w| {
        (w.rooms, w.table_time) = (1, Duration::from_millis(1));
        for n in 0..15 {
            let lun = w.add_lun(&format!("36001405{n:025x}"), 2048);
            w.luns[lun].partitions = vec![(1, 64, 128)];
            w.add_path(lun, 1, 0);
            w.add_path(lun, 2, 0);
        }
        let from = w.now;
        w.settle(SECS(60)).unwrap();
        assert!(w.now.since(from) < SECS(2), "{:?}", w.now.since(from));
    });
}

/// A LUN is gone for ever and its I/O waits; another's path comes back, and is to be looked at before it is used.
#[test]
fn a_path_that_is_rechecked_comes_back_while_another_map_waits() {
    let mut config = Config::default();
    config.path.recheck_wwid = true;
    story(config, daemon(), |w| {
        let (lun, other) = (w.add_lun(W, 2048), w.add_lun(OTHER, 2048));
        let (a, _) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        let (c, d) = (w.add_path(other, 1, 0), w.add_path(other, 2, 0));
        w.settle(SECS(10)).unwrap();
        for uuid in [UUID.to_string(), format!("mpath-{OTHER}")] {
            let minor = w.dm.by_uuid(&uuid).unwrap().minor;
            w.dm.devices.get_mut(&minor).unwrap().opens = 1;
        }
        w.run_for(SECS(30)).unwrap();
        w.set_health(c, Health::Failing);
        w.set_health(d, Health::Failing);
        w.run_for(SECS(40)).unwrap();
        assert_eq!(w.engine.starved(), 1);
        w.set_health(a, Health::Failing);
        w.run_for(SECS(30)).unwrap();
        w.set_health(a, Health::Good);
        w.run_for(SECS(60)).unwrap();
        assert!(active(w, SDA) && w.engine.starved() == 1);
    });
}

/// The first who asked for a group gives up waiting; the second is not told that it was done.
#[test]
fn a_switch_that_is_late_is_not_another_ones_done() {
    let mut config = Config::default();
    config.map.policy = Policy::Failover;
    config.map.failback = corepath::conf::settings::Failback::Manual;
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.settle(SECS(10)).unwrap();
        w.run_for(SECS(30)).unwrap();
        w.ask(1, Ask::Suspend(W));
        w.run_for(SECS(2)).unwrap();
        w.ask(2, Ask::SwitchGroup { map: W, group: 2 });
        w.run_for(SECS(50)).unwrap();
        w.ask(3, Ask::SwitchGroup { map: W, group: 2 });
        w.run_for(SECS(20)).unwrap();
        assert!(w.answers.contains(&(2, Err(Refusal::TimedOut))) && !w.answers.iter().any(|(token, _)| *token == 3), "{:?}", w.answers);
        w.ask(4, Ask::Resume(W));
        w.run_for(SECS(20)).unwrap();
        assert!(w.answers.contains(&(3, Ok(()))) && w.saw(|what| matches!(what, What::GroupSwitched { .. })), "{:?}", w.answers);
    });
}

/// The kernel takes a table and then refuses to swap it in: it leaves the map suspended with the old one. I/O must not wait for the pause
/// after which the new one is tried again.
#[test]
fn a_table_that_is_not_swapped_in_suspends_nothing() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.settle(SECS(10)).unwrap();
        w.dm.refuse_swap = true;
        w.add_path(lun, 1, 1);
        w.feed(Event::Overrun);
        let (mut refused, mut since) = (false, None);
        for _ in 0..5_000 {
            w.step(w.now + Duration::from_millis(1)).unwrap();
            if w.dm.by_uuid(UUID).unwrap().suspended {
                refused = true;
                let since = *since.get_or_insert(w.now);
                assert!(w.now.since(since) < Duration::from_millis(200), "suspended for too long");
            } else {
                since = None;
            }
        }
        assert!(refused);
        w.dm.refuse_swap = false;
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.dm.by_uuid(UUID).unwrap().members().len(), 3);
    });
}

/// A disk of a read-only map can be written to again, says sysfs, while the kernel opens it for nobody who would: no uevent tells when it does.
#[test]
fn a_map_is_for_writing_again_though_the_kernel_said_so_too_early() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let disks = [w.add_path(lun, 1, 0), w.add_path(lun, 2, 0)];
        for d in disks {
            w.disks[d].read_only = true;
        }
        w.settle(SECS(10)).unwrap();
        let mode = |w: &World<'_>| w.dm.by_uuid(UUID).unwrap().live.as_ref().unwrap().1;
        assert!(mode(w), "read-only");
        for d in disks {
            (w.disks[d].read_only, w.disks[d].refuses_writers) = (false, true);
        }
        w.feed(Event::Overrun);
        w.run_for(SECS(5)).unwrap();
        assert!(mode(w) && !w.dm.by_uuid(UUID).unwrap().suspended);
        for d in disks {
            w.disks[d].refuses_writers = false;
        }
        w.run_for(SECS(60)).unwrap();
        assert!(!mode(w), "for writing");
    });
}

/// A path that its map's table cannot take, for its size, does not keep the I/O of those that died waiting for ever.
#[test]
fn a_path_of_another_size_carries_no_io() {
    let mut config = Config::default();
    config.map.no_path_retry = NoPathRetry::Retries(4);
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        let minor = w.dm.by_uuid(UUID).unwrap().minor;
        w.dm.devices.get_mut(&minor).unwrap().opens = 1;
        w.luns[lun].size = 4096;
        w.add_path(lun, 3, 0);
        w.feed(Event::Overrun);
        w.run_for(SECS(5)).unwrap();
        assert_eq!(w.dm.by_uuid(UUID).unwrap().members().len(), 2);
        w.set_health(a, Health::Failing);
        w.set_health(b, Health::Failing);
        w.run_for(SECS(10)).unwrap();
        assert_eq!((w.engine.starved(), w.dm.by_uuid(UUID).unwrap().queues()), (1, true));
        w.run_for(SECS(30)).unwrap();
        assert!(!w.dm.by_uuid(UUID).unwrap().queues());
    });
}

/// A path that comes changes the table, which would be swapped in by a resume: not while an administrator has the map suspended.
#[test]
fn a_path_that_comes_resumes_nothing() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.settle(SECS(10)).unwrap();
        w.ask(1, Ask::Suspend(W));
        w.run_for(SECS(2)).unwrap();
        let new = w.add_path(lun, 3, 0);
        w.heard(new);
        let said = w.log.len();
        w.run_for(SECS(60)).unwrap();
        assert!(w.dm.by_uuid(UUID).unwrap().suspended);
        let touched: Vec<_> = w.log[said..].iter().filter(|line| line.contains(" Load ") || line.contains(" Resume ")).collect();
        assert!(touched.is_empty(), "{touched:?}");
        w.ask(2, Ask::Resume(W));
        w.run_for(SECS(2)).unwrap();
        let device = w.dm.by_uuid(UUID).unwrap();
        assert_eq!((device.suspended, device.members().len()), (false, 3));
    });
}

/// What sysfs has of one disk cannot be read: the other disks get their maps, a live map keeps it, and all is well when it can be read.
#[test]
fn one_disk_that_cannot_be_read() {
    story(Config::default(), daemon(), |w| {
        let old = w.add_lun(W, 2048);
        let odd = w.add_path(old, 1, 0);
        w.add_path(old, 2, 0);
        w.settle(SECS(10)).unwrap();
        w.unreadable = Some(w.disks[odd].name.clone());
        let new = w.add_lun("360014050000000000000000000000bbb", 2048);
        w.add_path(new, 1, 0);
        w.add_path(new, 2, 0);
        assert!(w.restart());
        w.run_for(SECS(60)).unwrap();
        assert!(w.engine.settled());
        assert!(w.saw(|n| *n == What::ScanIncomplete));
        let members = |w: &World<'_>, uuid: &str| w.dm.by_uuid(uuid).map(|d| d.members().len());
        assert_eq!(members(w, "mpath-360014050000000000000000000000bbb"), Some(2));
        assert_eq!(members(w, UUID), Some(2));
        w.unreadable = None;
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.engine.find_map(W).unwrap().usable(), 2);
    });
}

/// A walk over all disks takes longer than a minute, and then another: what it has found by its end is worked with, the daemon is up.
#[test]
fn a_scan_that_is_always_late() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.scan_time = SECS(200);
        w.run_for(SECS(61)).unwrap();
        assert!(w.engine.settled(), "{:?}", w.engine.unsettled());
        w.run_for(SECS(200)).unwrap();
        assert_eq!(w.dm.by_uuid(UUID).map(|d| d.members().len()), Some(2));
        w.feed(Event::Overrun);
        w.run_for(SECS(61)).unwrap();
        assert!(w.engine.settled(), "{:?}", w.engine.unsettled());
        w.run_for(SECS(1000)).unwrap();
        assert!(w.engine.settled(), "one scan was enough");
    });
}

/// A disk goes while a worker hangs at it. The next disk does not get its place, where it would have to wait for that worker.
#[test]
fn the_place_of_one_that_hangs_is_not_taken() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let old = w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.settle(SECS(10)).unwrap();
        let place = |w: &World<'_>, d: usize| w.engine.find_path(&w.disks[d].name).unwrap().id().index;
        let first = place(w, old);
        w.set_health(old, Health::Hanging);
        w.run_for(SECS(120)).unwrap();
        // Its command does not come back for that.
        w.disks[old].present = false;
        w.heard(old);
        w.run_for(SECS(20)).unwrap();
        for _ in 0..200 {
            let new = w.add_path(lun, 3, 0);
            w.heard(new);
            w.run_for(SECS(5)).unwrap();
            assert_ne!(place(w, new), first);
            assert!(w.engine.find_path(&w.disks[new].name).unwrap().usable());
            w.unplug(new);
            w.heard(new);
            w.run_for(SECS(5)).unwrap();
        }
    });
}

/// A command hangs behind each port, and one worker is left. It is kept for ports that have none away; there are none. A map whose I/O waits
/// has paths behind those ports that failed at once: they are asked with it.
#[test]
fn the_last_worker_asks_for_those_who_wait() {
    let mut config = Config::default();
    config.map.no_path_retry = NoPathRetry::Queue;
    story(config, daemon(), |w| {
        w.workers = 5;
        let lun = w.add_lun(W, 2048);
        let other = w.add_lun(OTHER, 2048);
        let paths = [1, 2, 3, 4].map(|host| w.add_path(lun, host, 0));
        let others = [1, 2, 3, 4].map(|host| w.add_path(other, host, 0));
        w.settle(SECS(20)).unwrap();
        w.run_for(SECS(10)).unwrap();
        let map = w.dm.by_uuid(UUID).unwrap().minor;
        w.dm.devices.get_mut(&map).unwrap().opens += 1;
        paths.iter().for_each(|&d| w.set_health(d, Health::Failing));
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.engine.starved(), 1);
        others.iter().for_each(|&d| w.set_health(d, Health::Hanging));
        w.run_for(SECS(300)).unwrap();
        w.set_health(paths[2], Health::Good);
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.engine.find_map(W).unwrap().usable(), 1);
    });
}

/// The array says that a LUN is gone through one path: its disk is removed, once. Not so the last one.
#[test]
fn a_path_without_its_lun_is_purged() {
    let mut config = Config::default();
    config.path.purge_disconnected = true;
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let paths = [w.add_path(lun, 1, 0), w.add_path(lun, 2, 0)];
        w.settle(SECS(10)).unwrap();
        let purged =
            |w: &World<'_>, d: usize| w.log.iter().filter(|line| line.ends_with(&format!("write Delete {}", w.disks[d].name))).count();
        w.set_health(paths[0], Health::Unmapped);
        w.run_for(SECS(300)).unwrap();
        assert_eq!(purged(w, paths[0]), 1);
        w.set_health(paths[1], Health::Unmapped);
        w.run_for(SECS(300)).unwrap();
        assert_eq!(paths.map(|d| purged(w, d)), [1, 0]);
    });
}

/// The close of a path that went hangs (it writes back what others left in the disk's page cache): its place is given to nobody, and nothing
/// else waits for it.
#[test]
fn a_close_that_hangs_keeps_nothing_but_its_place() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, _) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        let gone = w.engine.find_path("sda").unwrap().id();
        w.close_time = SECS(600);
        w.goes(a);
        w.run_for(SECS(20)).unwrap();
        let other = w.add_lun(OTHER, 2048);
        w.comes(other, 1, 0);
        w.comes(other, 2, 0);
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.dm.by_uuid(&format!("mpath-{OTHER}")).map(|d| d.members().len()), Some(2));
        let there = |w: &World<'_>| w.engine.paths().any(|p| p.id() == gone);
        assert!(there(w), "its worker is away with what belongs to the place");
        w.run_for(SECS(700)).unwrap();
        assert!(!there(w));
    });
}
