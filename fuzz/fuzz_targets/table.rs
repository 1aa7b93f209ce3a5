//! Table and feature text: what parses is written back to a text that parses to the same.
#![no_main]

use corepath::wire::table::{Features, Table};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut line = vec![0u8; text.len() + 16384];
    if let Ok(table) = Table::parse(text) {
        let len = table.emit(&mut line).unwrap();
        assert_eq!(Table::parse(core::str::from_utf8(&line[..len]).unwrap()), Ok(table.clone()));
        assert!(table.agrees_with(&table));
    }
    if let Ok(mut features) = Features::parse(text) {
        let len = features.emit(&mut line).unwrap();
        assert_eq!(Features::parse(core::str::from_utf8(&line[..len]).unwrap()), Ok(features.clone()));
        let _ = features.add("queue_mode bio");
        let _ = features.remove("queue_mode bio");
        assert!(features.queue_mode.is_empty());
    }
});
