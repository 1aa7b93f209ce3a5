//! Trouble: what hangs, is refused or comes late keeps nothing else from going on.

use crate::config::Config;
use crate::stories::{SECS, UUID, W, daemon, story};
use crate::world::{Health, World};
use corepath::conf::settings::{AutoResize, CheckerKind, NoPathRetry, Policy, Shaky};
use corepath::engine::{Ask, Event, Options, Refusal, What};
use corepath::model::{DevNo, PathState};
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
