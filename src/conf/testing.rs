//! For this room's tests: settings of a text. They live as long as the test program.

use super::{Complaint, Entry, Report, Room, Section, Settings, Source, parse};
use std::boxed::Box;
use std::vec;

pub(super) fn load(text: &str) -> (Settings<'static>, Report<'static>) {
    load_bytes(&[text.as_bytes()])
}

pub(super) fn load_bytes(texts: &[&[u8]]) -> (Settings<'static>, Report<'static>) {
    let files: vec::Vec<Source<'static>> = texts.iter().map(|text| Source { name: "test", text: text.to_vec().leak() }).collect();
    let files: &'static [Source<'static>] = Box::leak(files.into_boxed_slice());
    let lines = Room::lines(files);
    let room = Room {
        sections: vec![Section::EMPTY; lines].leak(),
        entries: vec![Entry::EMPTY; lines].leak(),
        slots: vec![0; 4 * lines].leak(),
        text: vec![0; Room::quoted(files)].leak(),
        complaints: vec![Complaint::EMPTY; 32].leak(),
    };
    let parsed = parse(files, room);
    let report = parsed.report;
    (Settings::new(files, parsed), report)
}
