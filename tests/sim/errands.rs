//! Errands: what names a map does that and leaves all others as they are.

use crate::config::Config;
use crate::dm::KTable;
use crate::stories::{SECS, UUID, W, story};
use crate::world::{Health, World};
use corepath::engine::{Ask, Options, Refusal};
use std::time::Duration;

const OTHER: &str = "36001405bbbbbbbbbbbbbbbbbbbbbbbbb";
const OTHER_UUID: &str = "mpath-36001405bbbbbbbbbbbbbbbbbbbbbbbbb";

/// Two maps live; the second lacks a path that has come since, and a third disk has no map yet. Then an errand begins.
fn errand(before: impl FnOnce(&mut World<'_>), tell: impl FnOnce(&mut World<'_>)) {
    story(Config::default(), Options { partitions: true, ..Options::default() }, |w| {
        for wwid in [W, OTHER] {
            let lun = w.add_lun(wwid, 2048);
            w.luns[lun].partitions = vec![(1, 64, 256)];
            w.add_path(lun, 1, 0);
            w.add_path(lun, 2, 0);
        }
        w.settle(SECS(10)).unwrap();
        w.add_path(1, 3, 0);
        let third = w.add_lun("36001405ccccccccccccccccccccccccc", 2048);
        w.add_path(third, 1, 1);
        w.add_path(third, 2, 1);
        before(w);
        w.options = Options { errand: true, partitions: true, ..Options::default() };
        assert!(w.restart());
        w.settle(SECS(10)).unwrap();
        tell(w);
    });
}

fn answer(w: &mut World<'_>, ask: Ask<'_>) -> Result<(), Refusal> {
    w.ask(7, ask);
    w.settle(SECS(10)).unwrap();
    w.run_for(Duration::from_millis(100)).unwrap();
    w.answers.pop().expect("an answer").1
}

#[test]
fn remove_removes_that_map_only() {
    errand(
        |_| {},
        |w| {
            let (writes, other) = (w.dm.writes, w.dm.table_text(w.dm.by_uuid(OTHER_UUID).unwrap().minor));
            assert_eq!(answer(w, Ask::RemoveMap(W)), Ok(()));
            assert!(w.dm.by_uuid(UUID).is_none());
            // Its partition and itself.
            assert_eq!(w.dm.writes - writes, 2);
            assert_eq!(w.dm.table_text(w.dm.by_uuid(OTHER_UUID).unwrap().minor), other, "the new path is not added");
            assert_eq!(w.dm.by_uuid("mpath-36001405ccccccccccccccccccccccccc").map(|d| d.minor), None, "nor a map made");
            let names: Vec<&str> = w.nodes.keys().map(String::as_str).collect();
            assert_eq!(names, [OTHER, &format!("{OTHER}1")], "its nodes are gone, those of the other stay");
        },
    );
}

#[test]
fn a_dead_path_does_not_hold_up_a_removal() {
    let hang = |w: &mut World<'_>| [0, 1].into_iter().for_each(|disk| w.set_health(disk, Health::Hanging));
    errand(hang, |w| {
        assert_eq!(answer(w, Ask::RemoveMap(W)), Ok(()));
        assert!(w.dm.by_uuid(UUID).is_none());
    });
}

#[test]
fn what_is_in_use_keeps_its_partitions() {
    let mount = |w: &mut World<'_>| {
        let minor = w.dm.by_uuid(&format!("part1-{UUID}")).unwrap().minor;
        w.dm.devices.get_mut(&minor).unwrap().opens = 1;
    };
    errand(mount, |w| {
        let writes = w.dm.writes;
        assert_eq!(answer(w, Ask::RemoveMap(W)), Err(Refusal::InUse));
        assert_eq!(w.dm.writes, writes);
        assert_eq!(answer(w, Ask::RemoveMaps), Err(Refusal::InUse));
        assert!(w.dm.by_uuid(UUID).is_some() && w.dm.by_uuid(OTHER_UUID).is_none());
    });
}

#[test]
fn a_map_is_brought_up_to_date_alone() {
    errand(
        |_| {},
        |w| {
            let before = w.dm.table_text(w.dm.by_uuid(UUID).unwrap().minor);
            assert_eq!(answer(w, Ask::AddMap(OTHER)), Ok(()));
            assert_eq!(w.dm.by_uuid(OTHER_UUID).unwrap().members().len(), 3);
            assert_eq!(w.dm.table_text(w.dm.by_uuid(UUID).unwrap().minor), before);
            assert!(w.dm.by_uuid("mpath-36001405ccccccccccccccccccccccccc").is_none());
        },
    );
}

#[test]
fn a_map_that_starves_does_not_hold_up_a_removal() {
    let starve = |w: &mut World<'_>| {
        let minor = w.dm.by_uuid(OTHER_UUID).unwrap().minor;
        let map = w.dm.devices.get_mut(&minor).unwrap();
        map.opens += 1;
        let Some((_, _, KTable::Multipath { queue, .. })) = &mut map.live else { panic!("{map:?}") };
        *queue = true;
        (2..5).for_each(|d| w.unplug(d));
        assert_eq!(w.io(OTHER_UUID), None, "it waits");
    };
    errand(starve, |w| {
        assert_eq!(w.engine.starved(), 1);
        assert_eq!(answer(w, Ask::RemoveMap(W)), Ok(()));
        assert!(w.dm.by_uuid(UUID).is_none() && w.dm.by_uuid(OTHER_UUID).is_some());
    });
}
