//! What lives already is taken over as it is: whoever starts second, with whatever paths down, writes nothing.

use crate::config::Config;
use crate::stories::{SECS, W, daemon, story};
use crate::world::Health;
use corepath::conf::settings::{Failback, Policy, PrioKind};
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
