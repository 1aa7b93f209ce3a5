//! REPORT TARGET PORT GROUPS replies: totals that lie, groups that end in the middle, either header.
#![no_main]

use corepath::engine::prio::alua::priority_from;
use corepath::wire::alua::Report;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(report) = Report::parse(bytes) else { return };
    let groups: Vec<_> = report.groups().collect();
    assert!(groups.len() * 8 <= bytes.len());
    for group in &groups {
        assert!(group.ports().count() <= 255);
        assert!(report.find(group.id).is_some());
        let prio = priority_from(bytes, group.id, false).unwrap();
        assert!((0..=130).contains(&prio.0));
    }
});
