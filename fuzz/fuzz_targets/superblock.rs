//! File system ids anywhere on a disk of any bytes.
#![no_main]

mod part;

use corepath::model::Sectors;
use corepath::wire::superblock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((start, data)) = data.split_first_chunk::<8>() else { return };
    let Some((_, mut disk)) = part::Disk::new(data) else { return };
    let start = u64::from_le_bytes(*start);
    for (start, length) in [(start, !start), (start % 64, start >> 56), (0, u64::MAX)] {
        if let Ok(Some(ids)) = superblock::read(&mut disk, Sectors(start), Sectors(length)) {
            assert!(ids.label().len() <= superblock::LABEL_LEN && !ids.label().contains(&0));
        }
    }
});
