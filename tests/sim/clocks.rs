//! Stories of what happens by the clock: queueing that ends, failback in its four modes, maps that go with their last path, the end.

use crate::config::Config;
use crate::stories::{SECS, UUID, W, daemon, story};
use crate::world::{Health, World};
use corepath::conf::settings::{Failback, FlushOnLastDel, NoPathRetry, Policy};
use corepath::engine::{Ask, What};

fn with(retry: NoPathRetry) -> Config {
    let mut config = Config::default();
    config.map.no_path_retry = retry;
    config
}

/// Two paths through two ports.
fn two(w: &mut World<'_>) -> (usize, usize) {
    let lun = w.add_lun(W, 2048);
    let paths = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
    w.settle(SECS(10)).unwrap();
    paths
}

fn queues(w: &World<'_>) -> bool {
    w.dm.by_uuid(UUID).unwrap().queues()
}

#[test]
fn retries_run_out_and_begin_anew() {
    // 2 x polling_interval of 5 s.
    story(with(NoPathRetry::Retries(2)), daemon(), |w| {
        let (a, b) = two(w);
        assert!(queues(w));
        w.set_health(a, Health::Failing);
        w.set_health(b, Health::Failing);
        assert_ne!(w.io(UUID), Some(false), "it waits");
        w.run_for(SECS(9)).unwrap();
        assert!(queues(w));
        let map = w.engine.find_map(W).unwrap();
        assert!(map.queue_until().is_some_and(|t| t > w.now));
        w.run_for(SECS(8)).unwrap();
        assert!(!queues(w) && w.saw(|n| *n == What::QueueExpired));
        assert_eq!(w.io(UUID), Some(false), "now it fails");
        w.run_for(SECS(100)).unwrap();
        assert!(!queues(w));
        w.set_health(b, Health::Good);
        w.run_for(SECS(2)).unwrap();
        assert!(queues(w), "with the first path");
        assert_eq!(w.io(UUID), Some(true));
        assert_eq!(w.engine.find_map(W).unwrap().queue_timeouts(), 1);
    });
}

#[test]
fn nobody_waits_long_once_the_machine_goes_down() {
    story(with(NoPathRetry::Queue), daemon(), |w| {
        let (a, b) = two(w);
        w.ask(7, Ask::HurryQueueing(true));
        w.run_for(SECS(60)).unwrap();
        assert!(queues(w), "it has its paths");
        w.set_health(a, Health::Failing);
        w.set_health(b, Health::Failing);
        let seen = (0..40).find(|_| {
            w.run_for(SECS(1)).unwrap();
            w.engine.find_map(W).unwrap().usable() == 0
        });
        assert!(seen.is_some() && queues(w), "a moment is left");
        w.run_for(SECS(8)).unwrap();
        assert!(queues(w));
        w.run_for(SECS(3)).unwrap();
        assert!(!queues(w) && w.saw(|n| *n == What::QueueExpired));
        // Not going down after all.
        w.ask(7, Ask::HurryQueueing(false));
        w.run_for(SECS(600)).unwrap();
        assert!(queues(w));
        // It begins while a path has been missing for long.
        w.ask(7, Ask::HurryQueueing(true));
        w.run_for(SECS(8)).unwrap();
        assert!(queues(w), "a moment from now");
        w.run_for(SECS(8)).unwrap();
        assert!(!queues(w));
    });
}

#[test]
fn silence_is_waited_for_a_lun_that_is_gone_is_not() {
    story(with(NoPathRetry::Queue), daemon(), |w| {
        let (a, b) = two(w);
        w.set_health(a, Health::Failing);
        w.set_health(b, Health::Failing);
        w.run_for(SECS(3600)).unwrap();
        assert!(queues(w), "an hour without an answer");
        w.set_health(a, Health::Unmapped);
        w.run_for(SECS(100)).unwrap();
        assert!(queues(w), "one path says so");
        w.set_health(b, Health::Unmapped);
        w.run_for(SECS(30)).unwrap();
        assert!(queues(w) && w.saw(|n| *n == What::LunGone));
        w.run_for(SECS(40)).unwrap();
        assert!(!queues(w), "a minute is enough");
        w.set_health(a, Health::Good);
        w.run_for(SECS(3)).unwrap();
        assert!(queues(w) && w.io(UUID) == Some(true));
    });
}

/// Fails over from the first path to the second, brings the first back, and tells after which second its group is in use again.
fn seconds_to_failback(mode: Failback) -> Option<u64> {
    let mut seconds = None;
    let mut config = with(NoPathRetry::Queue);
    (config.map.policy, config.map.failback) = (Policy::Failover, mode);
    story(config, daemon(), |w| {
        let (a, _) = two(w);
        let first = w.engine.find_map(W).unwrap().current_group();
        assert_eq!((w.io(UUID), first), (Some(true), 1));
        w.set_health(a, Health::Failing);
        assert_eq!(w.io(UUID), Some(true));
        w.run_for(SECS(30)).unwrap();
        assert_eq!(w.engine.find_map(W).unwrap().current_group(), 2);
        let loads = w.engine.find_map(W).unwrap().loads();
        w.set_health(a, Health::Good);
        for second in 1..=120 {
            w.run_for(SECS(1)).unwrap();
            w.io(UUID);
            let map = w.engine.find_map(W).unwrap();
            if map.current_group() == 1 {
                assert_eq!((map.loads(), map.group_switches()), (loads, 1), "a message, no reload, once");
                seconds = Some(second);
                break;
            }
        }
        w.run_for(SECS(300)).unwrap();
        assert!(w.engine.find_map(W).unwrap().group_switches() <= 1);
    });
    seconds
}

#[test]
fn failback_modes() {
    assert_eq!(seconds_to_failback(Failback::Manual), None);
    assert!(seconds_to_failback(Failback::Immediate).is_some_and(|s| s <= 2));
    assert!(seconds_to_failback(Failback::Followover).is_some_and(|s| s <= 2));
    assert!(seconds_to_failback(Failback::After(20)).is_some_and(|s| (20..=22).contains(&s)));
}

#[test]
fn what_an_administrator_chose_is_respected() {
    let mut config = with(NoPathRetry::Queue);
    config.map.policy = Policy::Failover;
    story(config, daemon(), |w| {
        two(w);
        w.io(UUID);
        w.ask(1, Ask::SwitchGroup { map: W, group: 2 });
        w.run_for(SECS(1)).unwrap();
        w.io(UUID);
        w.run_for(SECS(600)).unwrap();
        assert_eq!(w.engine.find_map(W).unwrap().current_group(), 2);
        assert_eq!(w.answers, [(1, Ok(()))]);
    });
}

/// All disks of the LUN go; is there a map afterwards, and does it queue?
fn after_the_last_path(flush: FlushOnLastDel, open: bool) -> Option<bool> {
    let mut left = None;
    let mut config = with(NoPathRetry::Queue);
    config.map.flush_on_last_del = flush;
    story(config, daemon(), |w| {
        let paths = two(w);
        let minor = w.dm.by_uuid(UUID).unwrap().minor;
        w.dm.devices.get_mut(&minor).unwrap().opens = u32::from(open);
        w.run_for(SECS(30)).unwrap();
        [paths.0, paths.1].into_iter().for_each(|d| w.goes(d));
        w.run_for(SECS(30)).unwrap();
        left = w.dm.by_uuid(UUID).map(|d| d.queues());
        if left.is_some() {
            // A path comes back in time: all is as before.
            let d = w.comes(0, 3, 0);
            w.run_for(SECS(30)).unwrap();
            assert!(queues(w), "{flush:?}");
            assert_eq!(w.dm.by_uuid(UUID).unwrap().members(), [w.disks[d].devno], "{flush:?}");
            assert_eq!(w.io(UUID), Some(true), "{flush:?}");
        }
    });
    left
}

#[test]
fn the_last_path_goes() {
    assert_eq!(after_the_last_path(FlushOnLastDel::Unused, false), None);
    assert_eq!(after_the_last_path(FlushOnLastDel::Unused, true), Some(true));
    assert_eq!(after_the_last_path(FlushOnLastDel::Always, false), None);
    assert_eq!(after_the_last_path(FlushOnLastDel::Always, true), Some(false));
    assert_eq!(after_the_last_path(FlushOnLastDel::Never, true), Some(true));
}

/// The same for a LUN with a partition, which is opened after it was read, and closed later; by a deletion, or by another LUN behind all
/// addresses. When is the map gone?
fn with_a_partition(exchanged: bool, open: bool, deferred: bool) {
    let options = corepath::engine::Options { partitions: true, ..daemon() };
    let mut config = with(NoPathRetry::Queue);
    config.map.deferred_remove = deferred;
    if deferred {
        config.map.flush_on_last_del = FlushOnLastDel::Always;
    }
    story(config, options, |w| {
        let lun = w.add_lun(W, 2048);
        w.luns[lun].partitions = vec![(1, 64, 256)];
        let other = w.add_lun("360014050000000000000000000000bbb", 2048);
        let paths = [w.add_path(lun, 1, 0), w.add_path(lun, 2, 0)];
        w.settle(SECS(10)).unwrap();
        w.run_for(SECS(10)).unwrap();
        let part = w.dm.devices.values().find(|d| d.uuid.starts_with("part1-")).unwrap().minor;
        w.dm.devices.get_mut(&part).unwrap().opens += u32::from(open);
        for d in paths {
            if exchanged {
                w.disks[d].lun = other;
                w.disks[d].wwid = w.luns[other].wwid.clone();
            } else {
                w.unplug(d);
            }
            w.heard(d);
        }
        let said = w.log.len();
        w.run_for(SECS(60)).unwrap();
        // What is exchanged is not taken from its users, whatever is said of disks that went.
        let queues = exchanged || !deferred;
        assert_eq!(w.dm.by_uuid(UUID).map(|d| d.queues()), open.then_some(queues), "{exchanged} {open} {deferred}");
        // Reads of its status each second, and of a partition that is open.
        assert!(w.log.len() - said < 200, "{} requests", w.log.len() - said);
        if open {
            w.dm.devices.get_mut(&part).unwrap().opens -= 1;
            w.run_for(SECS(60)).unwrap();
            assert!(w.dm.by_uuid(UUID).is_none(), "closed, {exchanged}");
        }
        assert!(!w.dm.devices.contains_key(&part));
        assert_eq!(w.engine.starved(), 0);
        let new = w.dm.by_uuid(&format!("mpath-{}", w.luns[other].wwid));
        assert_eq!(new.map(|d| d.members().len()), exchanged.then_some(2), "{open}");
    });
}

#[test]
fn the_last_path_of_a_map_with_a_partition_goes() {
    for n in 0..8 {
        with_a_partition(n & 1 != 0, n & 2 != 0, n & 4 != 0);
    }
}

#[test]
fn at_the_end_nobody_waits_for_a_daemon_that_is_gone() {
    // One that takes over waits for them instead.
    for (stay, keep) in [(false, false), (true, false), (false, true)] {
        let mut config = with(NoPathRetry::Queue);
        config.globals.queue_without_daemon = stay;
        story(config, daemon(), |w| {
            let (a, b) = two(w);
            w.set_health(a, Health::Failing);
            w.set_health(b, Health::Failing);
            w.run_for(SECS(30)).unwrap();
            w.ask(9, Ask::Shutdown { keep });
            w.run_for(SECS(5)).unwrap();
            assert_eq!(w.answers, [(9, Ok(()))]);
            assert_eq!(queues(w), stay || keep);
        });
    }
}

#[test]
fn a_dead_port_is_asked_about_through_one_path() {
    let config = with(NoPathRetry::Queue);
    let mut memory = [crate::world::Memory::new(crate::world::SMALL)];
    let spare = memory.iter_mut().map(crate::world::Memory::storage).collect();
    let mut w = World::new(spare, config, daemon(), 1);
    // Ten LUNs behind two ports.
    for n in 0..10 {
        let lun = w.add_lun(&format!("36001405{n:025x}"), 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
    }
    w.settle(SECS(10)).unwrap();
    w.run_for(SECS(60)).unwrap();
    let behind: Vec<usize> = (0..w.disks.len()).filter(|&d| w.disks[d].hctl.host == 1).collect();
    for &d in &behind {
        w.set_health(d, Health::Failing);
    }
    w.run_for(SECS(60)).unwrap();
    assert_eq!(w.notes.iter().filter(|n| n.0.what == What::PortDown).count(), 1);
    for &d in &behind {
        w.set_health(d, Health::Good);
    }
    w.run_for(SECS(2)).unwrap();
    assert!(w.saw(|n| *n == What::PortUp));
    let good = |w: &World<'_>, d: usize| w.engine.find_path(&w.disks[d].name).unwrap().usable();
    assert!(behind.iter().all(|&d| good(&w, d)), "all of them, within two seconds");
}

/// LUNs in use lose all their disks, which come back under other names, but for one: its I/O waits for ever, and is no reason for the others'
/// to.
#[test]
fn luns_come_back_under_other_names() {
    story(with(NoPathRetry::Queue), daemon(), |w| {
        let uuids = ["a", "b", "c"].map(|last| format!("mpath-36001405{}", last.repeat(25)));
        let mut disks = Vec::new();
        for uuid in &uuids {
            let lun = w.add_lun(uuid.strip_prefix("mpath-").unwrap(), 2048);
            disks.extend([w.add_path(lun, 1, 0), w.add_path(lun, 2, 0)]);
        }
        w.settle(SECS(10)).unwrap();
        for uuid in &uuids {
            let minor = w.dm.by_uuid(uuid).unwrap().minor;
            w.dm.devices.get_mut(&minor).unwrap().opens = 1;
        }
        w.run_for(SECS(30)).unwrap();
        disks.into_iter().for_each(|d| w.goes(d));
        w.run_for(SECS(30)).unwrap();
        assert_eq!(w.engine.starved(), 3);
        for lun in 1..uuids.len() {
            w.comes(lun, 3, 0);
        }
        w.run_for(SECS(60)).unwrap();
        for uuid in &uuids[1..] {
            assert_eq!(w.io(uuid), Some(true), "{uuid}");
        }
        assert_eq!(w.engine.starved(), 1);
        // A second path of one of them waits with all else, until the first fails.
        let first = w.disks.iter().position(|d| d.present && d.lun == 1).unwrap();
        w.comes(1, 4, 0);
        w.run_for(SECS(30)).unwrap();
        assert_eq!(w.dm.by_uuid(&uuids[1]).unwrap().members().len(), 1);
        w.set_health(first, Health::Failing);
        let _ = w.io(&uuids[1]);
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.io(&uuids[1]), Some(true));
    });
}

/// A LUN that is in use is gone for good. What is new waits with it, but not for ever where memory is plenty.
#[test]
fn a_new_lun_beside_one_that_starves() {
    const NEW: &str = "360014050000000000000000000000bbb";
    story(with(NoPathRetry::Queue), daemon(), |w| {
        let paths = two(w);
        let minor = w.dm.by_uuid(UUID).unwrap().minor;
        w.dm.devices.get_mut(&minor).unwrap().opens = 1;
        w.run_for(SECS(30)).unwrap();
        [paths.0, paths.1].into_iter().for_each(|d| w.goes(d));
        w.run_for(SECS(30)).unwrap();
        let lun = w.add_lun(NEW, 2048);
        for host in [1, 2] {
            w.comes(lun, host, 0);
        }
        let there = |w: &World<'_>| w.dm.by_uuid(&format!("mpath-{NEW}")).map(|d| d.members().len());
        w.memory(true);
        w.run_for(SECS(10)).unwrap();
        assert_eq!(there(w), None, "too early");
        w.memory(false);
        w.run_for(SECS(300)).unwrap();
        assert_eq!(there(w), None, "memory is short");
        w.memory(true);
        w.run_for(SECS(10)).unwrap();
        assert_eq!((there(w), w.engine.starved()), (Some(2), 1));
        // Memory gets short again: all is quiet at once, which dispatch checks.
        w.memory(false);
        w.comes(lun, 3, 0);
        w.run_for(SECS(60)).unwrap();
        assert_eq!(there(w), Some(2));
    });
}

/// All paths of a LUN show another one, and then it again. A command that is sent to them would make the kernel notice, but none is: the map
/// has no path that works, and the daemon does not check what is not its own.
#[test]
fn a_disk_that_was_another_one_comes_home() {
    story(with(NoPathRetry::Queue), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let other = w.add_lun("360014050000000000000000000000bbb", 2048);
        let paths = [w.add_path(lun, 1, 0), w.add_path(lun, 2, 0)];
        w.settle(SECS(10)).unwrap();
        w.run_for(SECS(10)).unwrap();
        let map = w.dm.by_uuid(UUID).unwrap().minor;
        w.dm.devices.get_mut(&map).unwrap().opens += 1;
        for d in paths {
            w.disks[d].lun = other;
            w.disks[d].wwid = w.luns[other].wwid.clone();
            w.heard(d);
        }
        w.run_for(SECS(60)).unwrap();
        assert_eq!(w.engine.find_map(W).map(|m| m.usable()), Some(0));
        // What sysfs says of them stays as it is.
        paths.iter().for_each(|&d| w.disks[d].lun = lun);
        w.run_for(SECS(25)).unwrap();
        assert_eq!(w.engine.find_map(W).map(|m| m.usable()), Some(2));
        assert_eq!(w.engine.starved(), 0);
    });
}

/// With each event of a disk its own partitions may be there again: they are taken away at once, not when the path is asked next (and a run
/// that ends asks it no more).
#[test]
fn partitions_of_a_path_go_with_its_event() {
    let options = corepath::engine::Options { path_partitions: true, ..daemon() };
    for options in [options, corepath::engine::Options { resident: false, ..options }] {
        story(with(NoPathRetry::Queue), options, |w| {
            let lun = w.add_lun(W, 2048);
            let paths = [w.add_path(lun, 1, 0), w.add_path(lun, 2, 0)];
            w.settle(SECS(10)).unwrap();
            w.run_for(SECS(3)).unwrap();
            for d in paths {
                assert!(w.engine.find_map(W).unwrap().tidy());
                w.heard(d);
                w.run_for(std::time::Duration::from_millis(500)).unwrap();
            }
            assert!(w.engine.find_map(W).unwrap().tidy());
        });
    }
}

/// The process, or the machine, stands still while no path answers, for longer than no_path_retry. Meanwhile the paths come back: I/O does
/// not fail for want of somebody who looks.
#[test]
fn standing_still_is_no_retry() {
    story(with(NoPathRetry::Retries(6)), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let paths = [w.add_path(lun, 1, 0), w.add_path(lun, 2, 0)];
        w.settle(SECS(10)).unwrap();
        w.run_for(SECS(10)).unwrap();
        paths.iter().for_each(|&d| w.set_health(d, Health::Failing));
        w.run_for(SECS(12)).unwrap();
        assert_eq!(w.engine.find_map(W).unwrap().usable(), 0);
        paths.iter().for_each(|&d| w.set_health(d, Health::Good));
        w.now = w.now + SECS(300);
        w.run_for(SECS(30)).unwrap();
        assert!(!w.saw(|n| *n == What::QueueExpired));
        assert_eq!(w.engine.find_map(W).unwrap().usable(), 2);
    });
}

/// Of a disk that gets a map, and of one that leaves it, udev is told, once each.
#[test]
fn udev_is_told_of_paths() {
    let options = corepath::engine::Options { udev: true, path_partitions: true, ..daemon() };
    story(with(NoPathRetry::Queue), options, |w| {
        let lun = w.add_lun(W, 2048);
        let paths = [w.add_path(lun, 1, 0), w.add_path(lun, 2, 0)];
        let name = w.disks[paths[0]].name.clone();
        let told = |w: &World<'_>| w.log.iter().filter(|line| line.ends_with(&format!("write Announce {name}"))).count();
        w.settle(SECS(10)).unwrap();
        w.run_for(SECS(3)).unwrap();
        assert_eq!(told(w), 1);
        w.ask(1, Ask::RemovePath(&name));
        w.run_for(SECS(5)).unwrap();
        assert_eq!((told(w), w.dm.by_uuid(UUID).unwrap().members().len()), (2, 1));
        w.ask(2, Ask::AddPath(&name));
        w.run_for(SECS(5)).unwrap();
        assert_eq!((told(w), w.dm.by_uuid(UUID).unwrap().members().len()), (3, 2));
        w.run_for(SECS(600)).unwrap();
        assert_eq!(told(w), 3);
    });
}
