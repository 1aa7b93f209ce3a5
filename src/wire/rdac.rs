//! LSI/Engenio RDAC arrays: VPD pages 0xC2, 0xC4, 0xC8, 0xC9 and mode page 0x2C (transfer of ownership).
//!
//! Decodes pages; meaning is the checker's. Each page carries a four letter name in bytes 4..8 which must be right. scsi_dh_rdac.c.

use crate::fault::Malformed;
use crate::wire::scsi::Command;

/// VPD pages.
pub const SOFTWARE_VERSION: u8 = 0xc2;
pub const SUBSYSTEM: u8 = 0xc4;
pub const EXTENDED_DEVICE: u8 = 0xc8;
pub const VOLUME_ACCESS: u8 = 0xc9;

/// What is asked for of pages 0xC2, 0xC4, 0xC8.
pub const ALLOCATION: u16 = 255;

/// LUNs that the six byte mode page has room for.
const SHORT_LUNS: u8 = 32;

/// How long the array may take to quiesce the volume.
const QUIESCENCE_SECS: u8 = 20;

/// A page with its letters checked; the fourth letter differs between firmware generations and is not looked at.
fn page<'a>(data: &'a [u8], code: u8, letters: &[u8; 3]) -> Result<&'a [u8], Malformed> {
    let named = data.get(4..7).is_some_and(|l| l == letters);
    if data.get(1) != Some(&code) || !named {
        return Err(Malformed);
    }
    Ok(data)
}

/// VPD page 0xC9, volume access control: who owns the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VolumeAccess {
    /// Peripheral qualifier and type are those of a connected disk.
    pub connected: bool,
    /// This controller owns the volume.
    pub owner: bool,
    /// I/O shipping: the other controller serves I/O that comes here, too.
    pub ioship: bool,
    /// Automatic volume transfer: any I/O moves the volume.
    pub avt: bool,
    /// The access state bytes below mean something.
    pub tpgde: bool,
    /// Low nibble of byte 9: 1 this is the volume's preferred controller, 2 its secondary.
    pub preference: u8,
    /// Asymmetric access state here and at the alternate controller (SPC codes).
    pub state: u8,
    pub alternate_state: u8,
    /// Vendor's reason for `state`.
    pub reason: u8,
}

impl VolumeAccess {
    /// `Malformed` when the page or its letters are others, or the owner bytes did not arrive. Missing state bytes are 0.
    pub fn parse(data: &[u8]) -> Result<VolumeAccess, Malformed> {
        let data = page(data, VOLUME_ACCESS, b"vac")?;
        let flags = *data.get(8).ok_or(Malformed)?;
        let preference = *data.get(9).ok_or(Malformed)?;
        let at = |i: usize| data.get(i).copied().unwrap_or(0);
        Ok(VolumeAccess {
            // The top qualifier bit is not used by these arrays.
            connected: at(0) & 0x7f == 0,
            owner: flags & 0x01 != 0,
            ioship: flags & 0x20 != 0,
            avt: flags & 0x80 != 0,
            tpgde: flags & 0x10 != 0,
            preference: preference & 0x0f,
            state: at(10) & 0x0f,
            reason: at(11),
            alternate_state: at(12) & 0x0f,
        })
    }

    pub fn emit(&self) -> [u8; 48] {
        let mut out = [0; 48];
        out[0] = if self.connected { 0 } else { 0x20 };
        out[1] = VOLUME_ACCESS;
        out[3] = 0x2c;
        out[4..8].copy_from_slice(b"vac1");
        let bit = |on: bool, at: u8| u8::from(on) << at;
        out[8] = bit(self.owner, 0) | bit(self.tpgde, 4) | bit(self.ioship, 5) | bit(self.avt, 7);
        out[9] = self.preference & 0x0f;
        out[10] = self.state & 0x0f;
        out[11] = self.reason;
        out[12] = self.alternate_state & 0x0f;
        out
    }
}

/// Is this the page 0xC9 of an RDAC array, as autodetection asks it (`vac1` in full)?
pub fn is_rdac(data: &[u8]) -> bool {
    data.get(1) == Some(&VOLUME_ACCESS) && data.get(4..8) == Some(b"vac1")
}

/// The LUN by which the array knows the volume, from page 0xC8 (its last byte; the mode page has no room for more than 256).
pub fn lun(data: &[u8]) -> Result<u8, Malformed> {
    page(data, EXTENDED_DEVICE, b"edi")?.get(174).copied().ok_or(Malformed)
}

/// How many LUNs the array knows per host, from page 0xC2: decides which mode page it takes.
pub fn max_luns(data: &[u8]) -> Result<u8, Malformed> {
    page(data, SOFTWARE_VERSION, b"swr")?.get(15).copied().ok_or(Malformed)
}

/// Controller of this path, from page 0xC4: 0 A, 1 B. The slot is text; scsi_dh_rdac.c takes `1` for A and all else for B.
pub fn slot(data: &[u8]) -> Result<u8, Malformed> {
    page(data, SUBSYSTEM, b"sub")?.get(29).map(|&digit| u8::from(digit != b'1')).ok_or(Malformed)
}

/// MODE SELECT of page 0x2C: transfer this one LUN to the controller that gets the command. `max_luns` chooses between the six byte
/// form and the expanded page.
pub fn transfer(lun: u8, max_luns: u8) -> Command {
    let wide = max_luns >= SHORT_LUNS || lun >= SHORT_LUNS;
    let (mut command, head) = if wide { (Command::mode_select10(0, 308), 12) } else { (Command::mode_select6(0, 110), 6) };
    // The header stays 0, and so does byte 1 of the CDB: this is not a page-format list to these arrays.
    if wide {
        command.out[8] = 0x2c | 0x40;
        command.out[9] = 0x01;
        let [hi, lo] = (308u16 - 12).to_be_bytes();
        command.out[10] = hi;
        command.out[11] = lo;
    } else {
        command.out[4] = 0x2c;
        command.out[5] = 110 - 6;
    }
    // Common part: two serial numbers (0), own mode "transfer the marked LUNs", alternate mode 0, quiescence time, options, LUN table.
    command.out[head + 33] = 0x02;
    command.out[head + 36] = QUIESCENCE_SECS;
    command.out[head + 37] = 0x02;
    command.out[head + 38 + usize::from(lun)] = 0x81;
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn transfer_pages() {
        let short = transfer(5, 31);
        assert_eq!(short.cdb(), [0x15, 0, 0, 0, 110, 0]);
        let p = short.parameters();
        assert_eq!((p.len(), p[4], p[5], p[39], p[42], p[43], p[44 + 5]), (110, 0x2c, 104, 2, 20, 2, 0x81));
        let wide = transfer(200, 255);
        assert_eq!(wide.cdb(), [0x55, 0, 0, 0, 0, 0, 0, 1, 0x34, 0]);
        let p = wide.parameters();
        assert_eq!((p.len(), p[8], p[9], p[11], p[45], p[49], p[50 + 200]), (308, 0x6c, 1, 0x28, 2, 2, 0x81));
        assert_eq!(p.iter().filter(|&&b| b == 0x81).count(), 1, "one LUN only");
        assert_eq!(transfer(40, 0).cdb()[0], 0x55, "a LUN that the short table has no place for");
    }

    proptest! {
        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), code in 0xc2u8..0xca, max in any::<u8>(), lun_no in any::<u8>()) {
            let _ = VolumeAccess::parse(&bytes);
            if let Some(head) = bytes.get_mut(..8) {
                head[1] = code;
                head[4..8].copy_from_slice(match code {
                    0xc2 => b"swr4",
                    0xc4 => b"subs",
                    0xc8 => b"edid",
                    _ => b"vac1",
                });
            }
            if let Ok(v) = VolumeAccess::parse(&bytes) {
                prop_assert_eq!(VolumeAccess::parse(&v.emit()), Ok(v));
            }
            let _ = (lun(&bytes), max_luns(&bytes), slot(&bytes), is_rdac(&bytes));
            prop_assert!(transfer(lun_no, max).parameters().contains(&0x81));
        }
    }
}
