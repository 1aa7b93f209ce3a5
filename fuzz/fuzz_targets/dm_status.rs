//! Target lines of a dm reply, and the status text in them.
#![no_main]

use corepath::wire::dm::Reply;
use corepath::wire::table::{Status, Table};

libfuzzer_sys::fuzz_target!(|payload: &[u8]| {
    let mut bytes = vec![0u8; 312];
    bytes.extend_from_slice(payload);
    let size = (bytes.len() as u32).to_ne_bytes();
    bytes[12..16].copy_from_slice(&size);
    bytes[16..20].copy_from_slice(&312u32.to_ne_bytes());
    bytes[20..24].copy_from_slice(&4u32.to_ne_bytes());
    for line in Reply::parse(&bytes).unwrap().lines().flatten() {
        let _ = line.linear();
        if let Ok(text) = line.text() {
            let _ = Status::parse(text);
            let _ = Table::parse(text);
        }
    }
    if let Ok(text) = core::str::from_utf8(payload)
        && let Ok(status) = Status::parse(text)
    {
        let mut line = vec![0u8; payload.len() + 4096];
        let len = status.emit(&mut line).unwrap();
        assert_eq!(Status::parse(core::str::from_utf8(&line[..len]).unwrap()), Ok(status));
    }
});
