//! Any bytes as a configuration, an array's name and a udev database entry: no panic, and what is printed reads back to itself.
#![no_main]

use corepath::conf::settings::Lookup;
use corepath::conf::{Complaint, Entry, Room, Section, Settings, Source, parse, print};
use corepath::model::{PathFacts, Text};
use libfuzzer_sys::fuzz_target;

/// Parses and prints; the printed text and what was complained about.
fn dump(text: &[u8], room: usize, ask: bool, local: Option<&[[&str; 3]]>) -> (String, bool) {
    let files = [Source { name: "fuzz", text }];
    let (mut sections, mut entries) = (vec![Section::EMPTY; room], vec![Entry::EMPTY; room]);
    let (mut slots, mut copies) = (vec![0; 4 * room], vec![0; Room::quoted(&files).min(8 * room)]);
    let mut complaints = [Complaint::EMPTY; 8];
    let parsed = parse(
        &files,
        Room { sections: &mut sections, entries: &mut entries, slots: &mut slots, text: &mut copies, complaints: &mut complaints },
    );
    let report = parsed.report;
    let settings = Settings::new(&files, parsed);
    let mut out = String::new();
    print::complaints(&mut out, &files, &report).unwrap();
    if ask {
        let name = |skip| Text::try_from(std::str::from_utf8(text.get(skip..skip + 8).unwrap_or(b"foo")).unwrap_or("bar")).unwrap();
        let facts = PathFacts { vendor: name(3), product: name(30), wwid: Text::try_from("W0").unwrap(), ..PathFacts::default() };
        settings.path(&facts);
        settings.map("W0", &facts);
        settings.filter(&facts, Some(text));
    }
    out.clear();
    let local = local.map(|disks| print::Local { disks, maps: &|wwid| wwid == "W0" });
    print::dump(&mut out, &settings, print::Options { origins: false, local }).unwrap();
    (out, report.errors > 0)
}

fuzz_target!(|data: &[u8]| {
    // The whole array table each time would take most of the time.
    let local: Option<&[[&str; 3]]> = if data.len().is_multiple_of(64) { None } else { Some(&[["foo", "bar", ""]]) };
    // A small room first: full is an answer.
    dump(data, data.len() % 7, false, local);
    let room = Room::lines(&[Source { name: "fuzz", text: data }]);
    let (first, _) = dump(data, room, true, local);
    let lines = first.lines().count();
    let (second, _) = dump(first.as_bytes(), lines, false, local);
    assert_eq!(first, second);
});
