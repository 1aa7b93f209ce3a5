//! Kernel uevents: any datagram.
#![no_main]

use corepath::wire::uevent::{Properties, Uevent, uid_attribute};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let properties = Properties::new(bytes);
    let _ = (properties.devno(), properties.long("SEQNUM"), properties.is_mpath());
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = uid_attribute(text, "sda");
    }
    // Several datagrams, cut at a byte no datagram holds.
    for datagram in bytes.split(|&b| b == 0xff) {
        if let Ok(event) = Uevent::parse(datagram) {
            assert!(event.devpath.starts_with('/') && event.devpath.ends_with(event.name()));
            let _ = event.is_disk();
        }
    }
});
