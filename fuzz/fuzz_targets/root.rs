//! `root=` arguments, partition map uuids and link names: any text, and what is encoded is found again.
#![no_main]

use corepath::model::{DevNo, Sectors, Text};
use corepath::wire::partition::{Name, Partition, Unique};
use corepath::wire::root::{Candidate, Root};
use corepath::wire::{dm, links};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut encoded = Text::<512>::new();
    if links::encode(data, &mut encoded).is_ok() {
        assert!(links::names(&encoded, data));
        assert!(!encoded.contains('/') && !encoded.contains('\0'));
    }
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Some((number, parent)) = dm::partition_of(text) {
        let mut again = Text::<256>::new();
        if links::partition_uuid(parent, number, &mut again).is_ok() {
            assert_eq!(dm::partition_of(&again), Some((number, parent)));
        }
    }
    let mut name = Text::<127>::new();
    let _ = links::partition_name(text, links::delimiter(text, None), 256, &mut name);
    if let Some(root) = Root::parse(text) {
        let own = Partition {
            number: 2,
            length: Sectors(1),
            unique: Unique::Dos(0xdeca0de1),
            name: Name::from_bytes(text.as_bytes()),
            ..Partition::default()
        };
        let table = [own];
        let partition = Some((&own, &table[..]));
        let candidate = Candidate { devno: DevNo::new(253, 2), name: text, uuid: text, wwid: text, partition, ids: None };
        let _ = root.is(&candidate);
    }
});
