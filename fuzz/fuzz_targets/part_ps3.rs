//! The ps3 reader on a disk of any bytes.
#![no_main]

mod part;

libfuzzer_sys::fuzz_target!(|data: &[u8]| part::check(Some(corepath::wire::partition::Kind::Ps3), data));
