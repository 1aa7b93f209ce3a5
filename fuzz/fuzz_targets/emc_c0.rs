//! VPD page 0xC0 and standard INQUIRY data of a CLARiiON.
#![no_main]

use corepath::engine::checker::emc::misconfigured;
use corepath::wire::emc::Page;
use corepath::wire::inquiry::Inquiry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(page) = Page::parse(bytes) {
        assert_eq!(Page::parse(&page.emit()), Ok(page));
        if page.revision != 0 {
            assert!(misconfigured(&page).is_some());
        }
    }
    if let Ok(inquiry) = Inquiry::parse(bytes) {
        let _ = (inquiry.vendor(), inquiry.product(), inquiry.revision(), inquiry.short_trespass(), inquiry.tpgs());
    }
});
