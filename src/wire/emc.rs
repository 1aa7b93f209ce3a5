//! EMC CLARiiON/VNX: VPD page 0xC0 (who owns the LUN) and mode page 0x22 (trespass).
//!
//! The page is decoded as it stands; what a value means for a path is the checker's and the prioritizer's. Offsets as scsi_dh_emc.c
//! and the field's checkers use them; the revision byte must be 0, a later layout is not guessed at.

use crate::fault::Malformed;
use crate::wire::scsi::Command;

/// VPD page code.
pub const PAGE: u8 = 0xc0;
/// Bytes of the page that have a meaning here.
pub const LEN: usize = 49;
/// Asked for: what the field's checkers ask, so that one command log fits both.
pub const ALLOCATION: u16 = 128;

/// Owner state of the LUN (byte 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lun {
    /// No LUN behind this address (a LUNZ).
    Unbound,
    /// Bound, the other storage processor owns it.
    Bound,
    /// Owned by the storage processor that answered.
    Owned,
    Unknown(u8),
}

impl Lun {
    const fn from_byte(b: u8) -> Lun {
        match b {
            0 => Lun::Unbound,
            1 => Lun::Bound,
            2 => Lun::Owned,
            other => Lun::Unknown(other),
        }
    }
    /// The byte as the array gives it.
    pub const fn byte(self) -> u8 {
        match self {
            Lun::Unbound => 0,
            Lun::Bound => 1,
            Lun::Owned => 2,
            Lun::Unknown(b) => b,
        }
    }
}

/// VPD page 0xC0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub lun: Lun,
    /// Storage processor that owns the LUN by configuration: 0 A, 1 B.
    pub default_sp: u8,
    pub port: u8,
    /// Storage processor that this path leads to: 0 A, 1 B.
    pub sp: u8,
    /// Layout of the page.
    pub revision: u8,
    /// The LUN's own WWN.
    pub wwn: [u8; 16],
    /// 3 is CLARiiON Open, the one with failover.
    pub initiator_type: u8,
    /// Low three bits: 4 passive not ready (mode 1), 6 ALUA (mode 4).
    pub failover_mode: u8,
    /// Bit 2 of byte 30: array communication path enabled.
    pub array_comm_path: bool,
    /// Non-zero: an upgrade (NDU) or another operation is under way, paths are not to be relied on and nothing is trespassed.
    pub operations: u8,
}

impl Page {
    /// `Malformed` when it is another page or did not arrive as far as byte 48. Its length field is not believed: early arrays
    /// leave it 0.
    pub fn parse(data: &[u8]) -> Result<Page, Malformed> {
        let data: &[u8; LEN] = data.first_chunk().ok_or(Malformed)?;
        if data[1] != PAGE {
            return Err(Malformed);
        }
        let mut wwn = [0; 16];
        wwn.copy_from_slice(&data[10..26]);
        Ok(Page {
            lun: Lun::from_byte(data[4]),
            default_sp: data[5],
            port: data[7],
            sp: data[8],
            revision: data[9],
            wwn,
            initiator_type: data[27],
            failover_mode: data[28] & 7,
            array_comm_path: data[30] & 4 != 0,
            operations: data[48],
        })
    }

    pub fn emit(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[1] = PAGE;
        out[4] = self.lun.byte();
        out[5] = self.default_sp;
        out[7] = self.port;
        out[8] = self.sp;
        out[9] = self.revision;
        out[10..26].copy_from_slice(&self.wwn);
        out[27] = self.initiator_type;
        out[28] = self.failover_mode & 7;
        out[30] = u8::from(self.array_comm_path) << 2;
        out[48] = self.operations;
        out
    }
}

/// INQUIRY of page 0xC0.
pub const fn inquiry() -> Command {
    Command::vpd(PAGE, ALLOCATION)
}

/// MODE SELECT of page 0x22: give the LUN to the storage processor that gets this command. `short` is the page of the old Fibre Channel
/// models. With `honour_reservations` the array refuses while another host holds a reservation.
pub const fn trespass(short: bool, honour_reservations: bool) -> Command {
    let what = if honour_reservations { 0x01 } else { 0x81 };
    if short {
        let mut c = Command::mode_select6(0x10, 8);
        c.out[4] = 0x22;
        c.out[5] = 0x02;
        c.out[6] = what;
        c.out[7] = 0xff;
        return c;
    }
    // Byte 1 stays 0 here, as scsi_dh_emc sends it.
    let mut c = Command::mode_select10(0, 19);
    c.out[8] = 0x22;
    c.out[9] = 0x09;
    c.out[10] = what;
    c.out[11] = 0xff;
    c.out[12] = 0xff;
    c
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn trespass_pages() {
        let short = trespass(true, false);
        assert_eq!(short.cdb(), [0x15, 0x10, 0, 0, 8, 0]);
        assert_eq!(short.parameters(), [0, 0, 0, 0, 0x22, 2, 0x81, 0xff]);
        let long = trespass(false, true);
        assert_eq!(long.cdb(), [0x55, 0, 0, 0, 0, 0, 0, 0, 19, 0]);
        assert_eq!(long.parameters(), [0, 0, 0, 0, 0, 0, 0, 0, 0x22, 9, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Page::parse(&bytes);
            if let Some(b) = bytes.get_mut(1) {
                *b = PAGE;
            }
            match Page::parse(&bytes) {
                Ok(page) => prop_assert_eq!(Page::parse(&page.emit()), Ok(page)),
                Err(_) => prop_assert!(bytes.len() < LEN),
            }
        }
    }
}
