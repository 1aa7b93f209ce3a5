//! Sense data: what a device says about a command it did not simply carry out.
//!
//! Decodes key, additional code and qualifier of both formats; information fields and descriptors are not looked at. Never
//! formats: words come from a table. SPC-6 4.4 (formats), annex F (codes).

use crate::fault::Malformed;
use crate::model::Text;

pub const NO_SENSE: u8 = 0x0;
pub const RECOVERED_ERROR: u8 = 0x1;
pub const NOT_READY: u8 = 0x2;
pub const ILLEGAL_REQUEST: u8 = 0x5;
pub const UNIT_ATTENTION: u8 = 0x6;
pub const ABORTED_COMMAND: u8 = 0xb;

/// Sense key, additional sense code and qualifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Sense {
    pub key: u8,
    pub asc: u8,
    pub ascq: u8,
    /// Belongs to an earlier command; the one it came with was not carried out (SPC-6 4.4.7).
    pub deferred: bool,
}

impl Sense {
    /// Fixed (0x70, 0x71) or descriptor (0x72, 0x73) format. Codes that the data is too short for are 0, as the kernel's
    /// scsi_normalize_sense has it; a fixed block's own length field counts too.
    pub fn parse(bytes: &[u8]) -> Result<Sense, Malformed> {
        let response = bytes.first().ok_or(Malformed)? & 0x7f;
        let at = |i: usize| bytes.get(i).copied();
        match response {
            0x70 | 0x71 => {
                let key = at(2).ok_or(Malformed)? & 0x0f;
                let end = at(7).map_or(0, |n| 8 + usize::from(n));
                let code = |i: usize| if i < end { at(i).unwrap_or(0) } else { 0 };
                Ok(Sense { key, asc: code(12), ascq: code(13), deferred: response == 0x71 })
            }
            0x72 | 0x73 => {
                let key = at(1).ok_or(Malformed)? & 0x0f;
                Ok(Sense { key, asc: at(2).unwrap_or(0), ascq: at(3).unwrap_or(0), deferred: response == 0x73 })
            }
            _ => Err(Malformed),
        }
    }

    /// Fixed format, 18 bytes.
    pub fn emit(&self) -> [u8; 18] {
        let mut out = [0; 18];
        out[0] = if self.deferred { 0x71 } else { 0x70 };
        out[2] = self.key & 0x0f;
        out[7] = 10;
        out[12] = self.asc;
        out[13] = self.ascq;
        out
    }

    pub const fn is(&self, key: u8, asc: u8, ascq: u8) -> bool {
        self.key == key && self.asc == asc && self.ascq == ascq
    }

    /// `5/25/00`, for the log. No formatting machinery.
    pub fn text(&self) -> Text<8> {
        let digit = |n: u8| b"0123456789abcdef"[usize::from(n & 0x0f)];
        let (asc, ascq) = (self.asc, self.ascq);
        let mut out = Text::new();
        for b in [digit(self.key), b'/', digit(asc >> 4), digit(asc), b'/', digit(ascq >> 4), digit(ascq)] {
            // Seven characters: there is always room.
            let _ = out.push(char::from(b));
        }
        out
    }

    /// The sentence people know it by, else the key's name.
    pub const fn words(&self) -> &'static str {
        match (self.key, self.asc, self.ascq) {
            (0x2, 0x04, 0x00) => "not ready, cause not reportable",
            (0x2, 0x04, 0x01) => "becoming ready",
            (0x2, 0x04, 0x02) => "initializing command required",
            (0x2, 0x04, 0x03) => "manual intervention required (passive controller or upgrade in progress)",
            (0x2, 0x04, 0x09) => "self-test in progress",
            (0x2, 0x04, 0x0a) => "asymmetric access state transition",
            (0x2, 0x04, 0x0b) => "target port in standby state",
            (0x2, 0x04, 0x0c) => "target port in unavailable state",
            (0x2, 0x04, 0x12) => "logical unit offline",
            (0x2, 0x04, 0x22) => "power cycle required",
            (0x2, 0x3a, _) => "medium not present",
            (0x2, 0x3e, 0x01) => "logical unit failure",
            (_, 0x0b, _) => "warning from the device",
            (_, 0x5d, _) => "failure predicted by the device",
            (0x4, 0x44, 0x00) => "internal target failure",
            (0x5, 0x04, 0x00) => "array copy in progress",
            (0x5, 0x20, 0x00) => "command not supported",
            (0x5, 0x24, 0x00) => "invalid field in command",
            (0x5, 0x25, 0x00) => "no such logical unit",
            (0x5, 0x25, 0x01) => "inactive snapshot",
            (0x5, 0x26, _) => "invalid field in parameters",
            (0x5, 0x91, 0x36) => "command lock held by another host",
            (0x5, 0x94, 0x01) => "not the preferred controller of the logical unit",
            (0x6, 0x28, _) => "not ready to ready, medium may have changed",
            (0x6, 0x29, _) => "power on or reset",
            (0x6, 0x2a, 0x01) => "mode parameters changed",
            (0x6, 0x2a, 0x06) => "asymmetric access state changed",
            (0x6, 0x2a, 0x07) => "implicit access state transition failed",
            (0x6, 0x2a, 0x09) => "capacity changed",
            (0x6, 0x3f, 0x03) => "inquiry data changed",
            (0x6, 0x3f, 0x0e) => "reported LUNs changed",
            (0xb, 0x44, 0x00) => "internal target failure",
            (0xb, 0x4b, _) => "data phase error",
            _ => key_words(self.key),
        }
    }
}

/// SPC-6 table 48.
const fn key_words(key: u8) -> &'static str {
    match key & 0x0f {
        0x0 => "no sense",
        0x1 => "recovered error",
        0x2 => "not ready",
        0x3 => "medium error",
        0x4 => "hardware error",
        0x5 => "illegal request",
        0x6 => "unit attention",
        0x7 => "data protect",
        0x8 => "blank check",
        0x9 => "vendor specific",
        0xa => "copy aborted",
        0xb => "aborted command",
        0xd => "volume overflow",
        0xe => "miscompare",
        0xf => "completed",
        _ => "reserved sense key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_formats() {
        let gone = Sense { key: 5, asc: 0x25, ascq: 0, deferred: false };
        assert_eq!(Sense::parse(&gone.emit()), Ok(gone));
        assert_eq!(Sense::parse(&[0x72, 5, 0x25, 0]), Ok(gone));
        assert_eq!(Sense::parse(&[0xf2, 5, 0x25, 0]).map(|s| s.key), Ok(5), "bit 7 says only that the information field is valid");
        assert_eq!(gone.text(), "5/25/00");
        assert_eq!(gone.words(), "no such logical unit");
        assert_eq!(Sense { key: 0xb, asc: 0xc0, ascq: 0xde, deferred: true }.text(), "b/c0/de");
    }

    #[test]
    fn what_is_not_there_is_not_read() {
        assert_eq!(Sense::parse(&[]), Err(Malformed));
        assert_eq!(Sense::parse(&[0x70, 0]), Err(Malformed));
        assert_eq!(Sense::parse(&[0x7f, 0, 6, 0]), Err(Malformed), "vendor specific");
        let mut cut = Sense { key: 2, asc: 4, ascq: 3, deferred: false }.emit();
        assert_eq!(Sense::parse(&cut[..13]), Ok(Sense { key: 2, asc: 4, ascq: 0, deferred: false }));
        cut[7] = 4;
        assert_eq!(Sense::parse(&cut).map(|s| (s.asc, s.ascq)), Ok((0, 0)), "the block's own length ends before the codes");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(sense) = Sense::parse(&bytes) {
                prop_assert!(sense.key < 16);
                prop_assert_eq!(sense.text().len(), 7);
                prop_assert_eq!(Sense::parse(&sense.emit()), Ok(sense));
            }
        }
    }
}
