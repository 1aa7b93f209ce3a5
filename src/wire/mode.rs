//! Mode pages as MODE SENSE(10) gives them: header, block descriptors, pages (SPC-6 7.5.6).

use crate::fault::Malformed;
use crate::wire::cursor::put;
use crate::wire::scsi::Command;

/// Control mode page (SPC-6 7.5.10).
pub const CONTROL: u8 = 0x0a;
/// Asked for: the header and every page this program reads.
pub const ALLOCATION: u16 = 64;

/// Bytes of one page in a MODE SENSE(10) reply, its own two byte head included. Only page_0 format (no subpages).
pub fn page(data: &[u8], code: u8) -> Result<&[u8], Malformed> {
    let [hi, lo, _, _, _, _, desc_hi, desc_lo, rest @ ..] = data else { return Err(Malformed) };
    // The length counts what follows its own two bytes; six of those are header.
    let declared = usize::from(u16::from_be_bytes([*hi, *lo])).checked_sub(6).ok_or(Malformed)?;
    let rest = rest.get(..declared).unwrap_or(rest);
    let descriptors = usize::from(u16::from_be_bytes([*desc_hi, *desc_lo]));
    let mut rest = rest.get(descriptors..).ok_or(Malformed)?;
    while let [head, len, ..] = rest {
        let (page, next) = rest.split_at_checked(2 + usize::from(*len)).ok_or(Malformed)?;
        if head & 0x7f == code {
            return Ok(page);
        }
        rest = next;
    }
    Err(Malformed)
}

/// Task Aborted Status, byte 5 bit 6: commands aborted on behalf of another host end with a status rather than in silence.
const TAS: u8 = 0x40;

/// May TAS be changed? `data` is the reply for the changeable values.
pub fn tas_changeable(data: &[u8]) -> bool {
    page(data, CONTROL).is_ok_and(|p| p.get(5).is_some_and(|b| b & TAS != 0))
}

/// MODE SELECT(10) that sets TAS and leaves all else; `None` when it is set, or the current page is not understood.
pub fn set_tas(data: &[u8]) -> Option<Command> {
    let page = page(data, CONTROL).ok()?;
    if page.len() > 12 || page.get(5).is_none_or(|b| b & TAS != 0) {
        return None;
    }
    let length = 8 + page.len();
    let mut command = Command::mode_select10(0x10, u16::try_from(length).ok()?);
    put(&mut command.out, 8, page);
    // PS is reserved in MODE SELECT.
    command.out[8] &= 0x7f;
    command.out[13] |= TAS;
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CURRENT: [u8; 20] = [0, 18, 0, 0x10, 0, 0, 0, 0, 0x8a, 0x0a, 2, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];

    #[test]
    fn task_aborted_status() {
        let c = set_tas(&CURRENT).unwrap();
        assert_eq!(c.cdb(), [0x55, 0x10, 0, 0, 0, 0, 0, 0, 20, 0]);
        assert_eq!(c.parameters(), [0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x0a, 2, 0x10, 0, 0x40, 0, 0, 0xff, 0xff, 0, 0]);
        let mut set = CURRENT;
        set[13] = 0x40;
        assert!(set_tas(&set).is_none());
        assert!(tas_changeable(&set) && !tas_changeable(&CURRENT));
        assert!(set_tas(&CURRENT[..19]).is_none(), "the page did not arrive whole");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = page(&bytes, CONTROL);
            if let Some(c) = set_tas(&bytes) {
                prop_assert!(c.parameters().len() <= 20);
            }
        }
    }
}
