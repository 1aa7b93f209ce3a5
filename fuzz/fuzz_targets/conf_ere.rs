//! Any pattern on any text: no panic, and the stack holds.
#![no_main]

use corepath::conf::ere;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&[u8], &[u8])| {
    let (pattern, text) = data;
    let compiles = ere::check(pattern).is_ok();
    assert!(compiles || ere::Literal::parse(pattern).is_some() || !ere::is_match(pattern, text));
});
