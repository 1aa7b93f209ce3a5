//! Small fields that single vendors keep in INQUIRY data or answer to a command of their own: HDS, DataCore, NetApp ONTAP.
//!
//! Decodes only; what a field is worth is the prioritizer's.

use crate::fault::Malformed;
use crate::wire::scsi::{Command, Transfer};

/// Asked for where a vendor's field lies past the standard 36 bytes.
pub const INQUIRY_LEN: u16 = 255;

/// Hitachi modular arrays: bytes 44..48 of the standard INQUIRY data are the LDEV number in upper case hex, byte 49 the controller.
/// Gives whether LDEV and controller are both even or both odd: that controller owns the LDEV. `Malformed` for other characters.
pub fn hds_owned(inquiry: &[u8]) -> Result<bool, Malformed> {
    let ldev = match *inquiry.get(47).ok_or(Malformed)? {
        b @ b'0'..=b'9' => b - b'0',
        b @ b'A'..=b'F' => b - b'A' + 10,
        _ => return Err(Malformed),
    };
    let controller = match *inquiry.get(49).ok_or(Malformed)? {
        b @ b'0'..=b'9' => b - b'0',
        _ => return Err(Malformed),
    };
    Ok(ldev % 2 == controller % 2)
}

/// DataCore: the name of the storage server, 32 bytes from byte 112 of the standard INQUIRY data, ended by a NUL.
pub fn datacore_server(inquiry: &[u8]) -> Result<&[u8], Malformed> {
    let field = inquiry.get(112..).ok_or(Malformed)?;
    let field = field.get(..32).unwrap_or(field);
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    field.get(..end).ok_or(Malformed)
}

/// How a path reaches a NetApp controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OntapInterface {
    SoftwareIscsi,
    HardwareIscsi,
    /// Fibre Channel, or a word we do not know.
    Other,
}

const ONTAP_LEN: u16 = 128;

/// ONTAP's own command 0xC0, page 0x41: which interface is this?
pub const fn ontap_interface() -> Command {
    let cdb = [0xc0, 0, 0x01, 0x0a, 0x98, 0x0a, 0x41, ONTAP_LEN as u8, 0, 0, 0, 0, 0, 0, 0, 0];
    Command::long(cdb, 10, Transfer::In(ONTAP_LEN))
}

/// Reply to [`ontap_interface`]: 32 bit length, the marks 0a 98 0a and 01, the page, and at byte 12 the driver's name.
pub fn ontap_interface_reply(data: &[u8]) -> Result<OntapInterface, Malformed> {
    let (length, _) = data.split_first_chunk::<4>().ok_or(Malformed)?;
    let name = data.get(12..16).ok_or(Malformed)?;
    if u32::from_be_bytes(*length) < 12 || data.get(4..8) != Some(&[0x0a, 0x98, 0x0a, 0x01]) || data.get(8) != Some(&0x41) {
        return Err(Malformed);
    }
    Ok(match name {
        [b'i', b's', b'w', _] => OntapInterface::SoftwareIscsi,
        [b'i', b's', b'm', _] => OntapInterface::HardwareIscsi,
        _ => OntapInterface::Other,
    })
}

/// INQUIRY of ONTAP's page 0xC1.
pub const fn ontap_proxy() -> Command {
    Command::vpd(0xc1, ONTAP_LEN)
}

/// Does this path go through the partner controller?
pub fn ontap_proxy_reply(data: &[u8]) -> Result<bool, Malformed> {
    if data.get(1) != Some(&0xc1) || data.get(8..13) != Some(&[0x0a, 0x98, 0x0a, 0x00, 0xc1]) {
        return Err(Malformed);
    }
    Ok(data.get(19).ok_or(Malformed)? & 0x02 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_data() {
        assert_eq!(hds_owned(&[b'0'; 49]), Err(Malformed));
        assert_eq!(hds_owned(&[b'0'; 50]), Ok(true));
        assert_eq!(datacore_server(&[b'x'; 111]), Err(Malformed));
        assert_eq!(datacore_server(&[b'x'; 120]), Ok(&b"xxxxxxxx"[..]));
        assert_eq!(datacore_server(&[b'x'; 200]).map(<[u8]>::len), Ok(32));
        assert_eq!(ontap_interface_reply(&[0; 15]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (hds_owned(&bytes), datacore_server(&bytes), ontap_interface_reply(&bytes), ontap_proxy_reply(&bytes));
        }
    }
}
