//! VPD pages: designators end, what is written fits, and a WWID is made of characters udev would let stand.
#![no_main]

use corepath::wire::vpd::{self, Designators};

libfuzzer_sys::fuzz_target!(|page: &[u8]| {
    assert!(Designators::parse(page).into_iter().flatten().count() * 4 <= page.len());
    let mut out = [0xaa; 130];
    for room in [0, 1, 2, 33, 127] {
        if let Ok((len, whole)) = vpd::wwid_into(page, &mut out[..room]) {
            assert!(len <= room && out[room..].iter().all(|&b| b == 0xaa));
            assert!(out[..len].iter().all(|b| b.is_ascii_graphic() && *b != b'/'));
            if whole {
                assert_eq!(vpd::wwid(page).map(|w| w.len()).unwrap_or(len), len);
            }
        }
        let _ = vpd::serial_into(page, &mut out[..room]);
        out = [0xaa; 130];
    }
    let _ = (vpd::target_port(page), vpd::supports(page, 0xc0), vpd::declared_len(page));
});
