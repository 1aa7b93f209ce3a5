//! What lives already is taken over as it is: whoever starts second, with whatever paths down, writes nothing.

use crate::config::Config;
use crate::stories::{SECS, UUID, W, daemon, story};
use crate::world::Health;
use corepath::conf::settings::{Failback, NoPathRetry, Policy, PrioKind};
use corepath::engine::Options;
use corepath::model::AccessState;

const POLICIES: [Policy; 6] =
    [Policy::Failover, Policy::Multibus, Policy::GroupBySerial, Policy::GroupByPrio, Policy::GroupByNodeName, Policy::GroupByTpg];

/// Four paths, made while all are good; then those of `down` fail (bit by bit) and somebody starts anew.
fn again(policy: Policy, alua: bool, down: u8, health: Health, first: Options, second: Options) {
    let mut config = Config::default();
    config.map.policy = policy;
    config.map.failback = Failback::Immediate;
    if alua {
        config.path.prio = PrioKind::Sysfs;
        config.path.detect_prio = true;
    }
    story(config, first, |w| {
        let lun = w.add_lun(W, 2048);
        if alua {
            w.luns[lun].alua = Some([AccessState::Optimized, AccessState::NonOptimized]);
        }
        let disks = [1, 2, 3, 4].map(|host| w.add_path(lun, host, host & 1));
        w.settle(SECS(20)).unwrap();
        for (bit, &disk) in disks.iter().enumerate() {
            if down & (1 << bit) != 0 {
                w.set_health(disk, health);
            }
        }
        if w.options.resident {
            w.run_for(SECS(60)).unwrap();
        }
        let (loads, all) = (w.dm.writes, w.dm.touches);
        w.options = second;
        assert!(w.restart());
        w.settle(SECS(20)).unwrap();
        if second.resident {
            w.run_for(SECS(60)).unwrap();
        }
        // What fails is said to the kernel, and which group is used may follow; no table is loaded for it.
        assert_eq!(w.dm.writes, loads, "{policy:?}, {down:04b} down");
        if first.resident || down == 0 {
            assert_eq!(w.dm.touches, all, "{policy:?}, {down:04b} down");
        }
    });
}

#[test]
fn a_path_down_is_no_reason_to_reload() {
    let boot = Options { boot: true, ..Options::default() };
    for policy in POLICIES {
        for alua in [false, true] {
            for down in 0..15 {
                for (first, second) in [(daemon(), boot), (daemon(), daemon()), (boot, daemon()), (boot, boot)] {
                    again(policy, alua, down, Health::Failing, first, second);
                }
                again(policy, alua, down, Health::Offline, daemon(), boot);
                again(policy, alua, down, Health::Offline, daemon(), daemon());
            }
        }
    }
}

/// A map whose disks go by another name than it has, all by the same, as one made with another `uid_attribute`: nothing is done to it, and it
/// does not count as one whose I/O waits. If one of them has its name, or they have two, some are other disks, which are failed.
#[test]
fn a_map_made_by_other_names_is_left_alone() {
    const OTHER: [&str; 2] = ["0QEMU_QEMU_HARDDISK_one", "0QEMU_QEMU_HARDDISK_two"];
    for (names, failed) in [([0, 0], 0), ([0, 1], 2), ([0, 2], 1)] {
        let mut config = Config::default();
        config.map.no_path_retry = NoPathRetry::Retries(5);
        story(config, daemon(), |w| {
            let lun = w.add_lun(W, 2048);
            let disks = [1, 2].map(|host| w.add_path(lun, host, host & 1));
            w.settle(SECS(20)).unwrap();
            let map = w.dm.by_uuid(UUID).unwrap().minor;
            w.dm.devices.get_mut(&map).unwrap().opens += 1;
            for (disk, name) in disks.into_iter().zip(names) {
                if let Some(name) = OTHER.get(name) {
                    w.disks[disk].lun = w.add_lun(name, 2048);
                    w.disks[disk].wwid = (*name).into();
                }
            }
            assert!(w.restart());
            w.run_for(SECS(60)).unwrap();
            let device = w.dm.by_uuid(UUID).unwrap();
            let bad = disks.iter().filter(|&&d| device.path(w.disks[d].devno).is_none_or(|p| !p.active)).count();
            assert_eq!(bad, failed, "{names:?}");
            assert_eq!(w.engine.starved(), u32::from(failed == 2), "{names:?}");
            assert_eq!(w.log.iter().filter(|line| line.contains("OtherwiseNamed")).count(), usize::from(failed == 0), "{names:?}");
            if failed < 2 {
                return assert!(device.queues());
            }
            // They come home, and nobody says so: found out by asking.
            disks.iter().for_each(|&d| w.disks[d].lun = lun);
            w.run_for(SECS(25)).unwrap();
            assert_eq!(w.engine.find_map(W).unwrap().usable(), 2, "{names:?}");
        });
    }
}
