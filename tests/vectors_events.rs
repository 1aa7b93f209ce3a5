//! The peer's uevent queue against our table: whatever order the events came in, for each device the same must follow: it went away,
//! there is something to look at, or both. Order across devices and merging by WWID are not compared (docs/differences.md, Events).

#[path = "common/device.rs"]
mod device;

use corepath::engine::coalesce::{Pending, Work};
use corepath::wire::uevent::Action;
use device::load;
use std::collections::BTreeMap;

/// (went away, look at it now)
type Outcome = BTreeMap<String, (bool, bool)>;

fn note(outcome: &mut Outcome, action: &str, kernel: &str) {
    let name = if kernel.starts_with("dm-") { "maps" } else { kernel };
    let entry = outcome.entry(name.to_string()).or_default();
    match (name, action) {
        ("maps", _) => *entry = (false, true),
        (_, "remove") => *entry = (true, false),
        _ => entry.1 = true,
    }
}

#[test]
fn queue() {
    let mut seen = 0;
    for v in load("uevent").iter().filter(|v| v["kind"] == "queue") {
        let mut pending = Pending::new();
        for event in v["input"]["batches"].as_array().unwrap().iter().flat_map(|b| b.as_array().unwrap()) {
            let (action, Some(kernel)) = (event["action"].as_str().unwrap(), event["kernel"].as_str()) else { continue };
            let action = match action {
                "add" => Action::Add,
                "change" => Action::Change,
                "remove" => Action::Remove,
                other => panic!("{other}"),
            };
            pending.push_disk(action, kernel);
        }
        let mut ours = Outcome::new();
        while let Some(work) = pending.pop() {
            match work {
                Work::Gone(name) => ours.entry(name.to_string()).or_default().0 = true,
                Work::Look(name) => ours.entry(name.to_string()).or_default().1 = true,
                Work::Maps => ours.entry("maps".into()).or_default().1 = true,
                Work::Everything => panic!("no overflow here"),
            }
        }
        let mut theirs = Outcome::new();
        for entry in v["expected"]["queue"].as_array().unwrap() {
            let merged = entry["merged"].as_array().unwrap();
            for event in merged.iter().chain([&entry["ev"]]) {
                let (action, kernel) = event.as_str().unwrap().split_once(':').unwrap();
                note(&mut theirs, action, kernel);
            }
        }
        assert_eq!(ours, theirs, "{v}");
        seen += 1;
    }
    println!("events: {seen} queues");
    assert!(seen > 0);
}
