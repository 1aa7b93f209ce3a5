//! All readers in their order on a disk of any bytes.
#![no_main]

mod part;

libfuzzer_sys::fuzz_target!(|data: &[u8]| part::check(None, data));
