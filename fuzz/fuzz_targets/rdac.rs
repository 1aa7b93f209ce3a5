//! RDAC pages, mode pages, and the small vendor fields.
#![no_main]

use corepath::wire::rdac::{VolumeAccess, is_rdac, lun, max_luns, slot, transfer};
use corepath::wire::{mode, nvme, vendor};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(volume) = VolumeAccess::parse(bytes) {
        assert_eq!(VolumeAccess::parse(&volume.emit()), Ok(volume));
    }
    let _ = (is_rdac(bytes), slot(bytes), mode::tas_changeable(bytes));
    let command = transfer(lun(bytes).unwrap_or(0), max_luns(bytes).unwrap_or(0));
    assert_eq!(command.parameters().iter().filter(|&&b| b == 0x81).count(), 1);
    if let Some(command) = mode::set_tas(bytes) {
        assert!(command.parameters().len() <= 20);
    }
    let _ = (vendor::hds_owned(bytes), vendor::datacore_server(bytes), vendor::ontap_interface_reply(bytes));
    let _ = (vendor::ontap_proxy_reply(bytes), nvme::reports_ana(bytes), nvme::ana_group(bytes), nvme::ana_state(bytes, 1));
});
