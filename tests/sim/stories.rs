//! Stories: what must happen, told as short as the standard tells it.

use crate::config::Config;
use crate::world::{Health, Memory, SMALL, World};
use corepath::conf::settings::{CheckerKind, Policy, PrioKind};
use corepath::engine::{Event, Options, What};
use corepath::model::{AccessState, DevNo};
use std::time::Duration;

pub const W: &str = "36001405aaaaaaaaaaaaaaaaaaaaaaaaa";
pub const UUID: &str = "mpath-36001405aaaaaaaaaaaaaaaaaaaaaaaaa";

pub fn story(config: Config, options: Options, tell: impl FnOnce(&mut World<'_>)) {
    let mut memory = [Memory::new(SMALL), Memory::new(SMALL)];
    let spare = memory.iter_mut().map(Memory::storage).collect();
    let mut w = World::new(spare, config, options, 1);
    w.keep_log = true;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tell(&mut w)));
    if let Err(e) = result {
        for line in &w.log {
            println!("{line}");
        }
        std::panic::resume_unwind(e);
    }
}

pub fn daemon() -> Options {
    Options { resident: true, ..Options::default() }
}

pub const SECS: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn two_paths_become_one_map() {
    story(Config::default(), Options::default(), |w| {
        let lun = w.add_lun(W, 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.settle(SECS(10)).unwrap();
        let d = w.dm.by_uuid(UUID).unwrap();
        assert_eq!((d.name.as_str(), d.members()), (W, vec![DevNo::new(8, 0), DevNo::new(8, 16)]));
        assert!(d.queues() && d.inactive.is_none() && !d.suspended);
        assert_eq!(w.nodes.get(W), Some(&d.devno()));
        assert!(w.saw(|n| *n == What::MapCreated));
    });
}

#[test]
fn a_second_run_changes_nothing() {
    story(Config::default(), Options::default(), |w| {
        let lun = w.add_lun(W, 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.settle(SECS(10)).unwrap();
        let writes = w.dm.writes;
        assert!(writes > 0 && w.restart());
        w.settle(SECS(10)).unwrap();
        assert_eq!(w.dm.writes, writes);
    });
}

#[test]
fn failover_and_back() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, _b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        assert_eq!(w.io(UUID), Some(true));
        w.set_health(a, Health::Failing);
        assert_eq!(w.io(UUID), Some(true), "the other path carries it");
        w.run_for(SECS(30)).unwrap();
        assert!(!w.dm.by_uuid(UUID).unwrap().path(DevNo::new(8, 0)).unwrap().active);
        w.set_health(a, Health::Good);
        w.run_for(SECS(2)).unwrap();
        assert!(w.dm.by_uuid(UUID).unwrap().path(DevNo::new(8, 0)).unwrap().active, "reinstated within two seconds");
    });
}

/// The kernel activates a group through each of its paths: a path that does not answer must not come to stand with the other controller's
/// for what it was worth when it last did.
#[test]
fn a_dead_path_stays_with_its_controller() {
    let mut config = Config::default();
    config.map.policy = Policy::GroupByPrio;
    // What sysfs shows, path by path: no report speaks for those that do not answer.
    config.path.prio = PrioKind::Sysfs;
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        w.luns[lun].alua = Some([AccessState::Optimized, AccessState::Standby]);
        let disks = [(1, 0), (2, 0), (3, 1)].map(|(host, target)| w.add_path(lun, host, target));
        w.settle(SECS(10)).unwrap();
        // The first controller dies, the other takes over.
        w.set_health(disks[0], Health::Failing);
        w.set_health(disks[1], Health::Failing);
        w.run_for(SECS(5)).unwrap();
        w.luns[lun].alua = Some([AccessState::Standby, AccessState::Optimized]);
        w.uevent("sdc");
        w.run_for(SECS(30)).unwrap();
        // A new path changes the table.
        let new = w.add_path(lun, 4, 1);
        let name = w.disks[new].name.clone();
        w.uevent(&name);
        w.run_for(SECS(10)).unwrap();
        let live = w.dm.by_uuid(UUID).unwrap();
        let mut groups: Vec<Vec<u32>> = live.groups().iter().map(|g| g.paths.iter().map(|p| p.devno.minor / 16).collect()).collect();
        groups.sort();
        assert_eq!(groups, [[0, 1], [2, 3]]);
    });
}

/// Paths whose state is what sysfs says, as all of NVMe is by default, have a priority like others, and their map goes where the array goes,
/// however often: nobody else can have moved it.
#[test]
fn a_path_that_is_not_checked_has_a_priority() {
    for options in [daemon(), Options::default()] {
        let mut config = Config::default();
        (config.path.checker, config.path.prio, config.map.policy) = (CheckerKind::None, PrioKind::Alua, Policy::GroupByPrio);
        story(config, options, |w| {
            let lun = w.add_lun(W, 2048);
            for n in 0..3 {
                let to = if n % 2 == 0 {
                    [AccessState::Optimized, AccessState::NonOptimized]
                } else {
                    [AccessState::NonOptimized, AccessState::Optimized]
                };
                w.luns[lun].alua = Some(to);
                if n == 0 {
                    w.add_path(lun, 1, 0);
                    w.add_path(lun, 2, 1);
                }
                w.run_for(SECS(30)).unwrap();
                let live = w.dm.by_uuid(UUID).unwrap();
                let first: Vec<u32> = live.groups()[0].paths.iter().map(|p| p.devno.minor / 16).collect();
                assert_eq!((live.groups().len(), first), (2, vec![n % 2]));
                if !options.resident {
                    break;
                }
            }
            assert!(!w.saw(|n| *n == What::Quarrel));
        });
    }
}

/// A map sends what the least of its paths took when its table was loaded (the world watches that): `max_sectors_kb` comes before the table,
/// and is left alone where a map lives without it. A path that joins a limited map is limited too, by whoever watches it then.
#[test]
fn a_limit_comes_before_the_table() {
    let mut config = Config::default();
    config.map.max_sectors_kb = Some(128);
    let limits = |w: &World<'_>| w.disks.iter().filter(|d| d.present).map(|d| d.limit).collect::<Vec<_>>();
    story(config, daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.settle(SECS(10)).unwrap();
        assert_eq!(limits(w), [128, 128]);
        assert!(w.restart());
        w.settle(SECS(10)).unwrap();
        w.add_path(lun, 3, 0);
        w.uevent("sdc");
        w.run_for(SECS(30)).unwrap();
        assert_eq!((w.dm.by_uuid(UUID).unwrap().members().len(), limits(w)), (3, vec![128; 3]));
        // Less is wanted: not of a live map.
        w.config.map.max_sectors_kb = Some(64);
        w.feed(Event::Reconfigured);
        w.run_for(SECS(30)).unwrap();
        assert_eq!(limits(w), [128; 3]);
    });
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        w.add_path(lun, 1, 0);
        w.add_path(lun, 2, 0);
        w.settle(SECS(10)).unwrap();
        w.config.map.max_sectors_kb = Some(128);
        assert!(w.restart());
        w.settle(SECS(10)).unwrap();
        w.add_path(lun, 3, 0);
        w.uevent("sdc");
        w.run_for(SECS(30)).unwrap();
        assert_eq!((w.dm.by_uuid(UUID).unwrap().members().len(), limits(w)), (3, vec![1280; 3]));
    });
}

/// Somebody left the map suspended while no path answered and I/O waits. No message reaches a suspended map, so that a path which comes back
/// could not be given to it: then, and not before, it is resumed.
#[test]
fn a_suspended_map_gets_its_path_back() {
    story(Config::default(), daemon(), |w| {
        let lun = w.add_lun(W, 2048);
        let (a, b) = (w.add_path(lun, 1, 0), w.add_path(lun, 2, 0));
        w.settle(SECS(10)).unwrap();
        let minor = w.dm.by_uuid(UUID).unwrap().minor;
        w.dm.devices.get_mut(&minor).unwrap().opens = 1;
        assert_eq!(w.io(UUID), Some(true));
        w.set_health(a, Health::Failing);
        w.set_health(b, Health::Failing);
        w.run_for(SECS(40)).unwrap();
        assert_eq!(w.engine.starved(), 1);
        w.dm.devices.get_mut(&minor).unwrap().suspended = true;
        w.run_for(SECS(10)).unwrap();
        assert!(w.dm.by_uuid(UUID).unwrap().suspended, "not touched as long as it cannot help");
        w.set_health(a, Health::Good);
        w.run_for(SECS(10)).unwrap();
        let map = w.dm.by_uuid(UUID).unwrap();
        assert!(!map.suspended && map.path(DevNo::new(8, 0)).unwrap().active);
    });
}
