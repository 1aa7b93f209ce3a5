//! Sense data of any length, and the words made of it.
#![no_main]

use corepath::wire::scsi::{Outcome, Reply};
use corepath::wire::sense::Sense;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let reply = Reply { status: 2, host: 0, driver: 8, sense: bytes, data: &[], errno: None };
    match (Sense::parse(bytes), reply.outcome()) {
        (Ok(sense), Outcome::Check(said) | Outcome::Recovered(said)) => {
            assert_eq!(sense, said);
            assert_eq!(Sense::parse(&sense.emit()), Ok(sense));
            assert!(sense.text().len() == 7 && !sense.words().is_empty());
        }
        (Err(_), Outcome::Status(2)) => {}
        other => panic!("{other:?}"),
    }
});
