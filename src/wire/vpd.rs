//! Vital product data pages 0x00, 0x80 and 0x83: what a device knows of itself, and the WWID made from it.
//!
//! Reads only what arrived and what the page declares, whichever is less. The WWID's text is the one scsi_id writes to udev's
//! ID_SERIAL, so that maps made with and without udev carry the same uuid. SPC-6 7.7; 7.7.6 for the designators.

use crate::fault::Malformed;
use crate::model::Wwid;
use crate::wire::cursor::try_put;

/// Page codes.
pub const SUPPORTED_PAGES: u8 = 0x00;
pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
pub const DEVICE_IDENTIFICATION: u8 = 0x83;

/// The body of a page: what follows the four byte header, as far as it arrived. `Malformed` when another page came back.
pub fn body(data: &[u8], page: u8) -> Result<&[u8], Malformed> {
    let [_, code, hi, lo, rest @ ..] = data else { return Err(Malformed) };
    if *code != page {
        return Err(Malformed);
    }
    let declared = usize::from(u16::from_be_bytes([*hi, *lo]));
    Ok(rest.get(..declared).unwrap_or(rest))
}

/// Bytes that the page says it has, header included; 0 when the header did not arrive. More than what arrived: ask once more.
pub fn declared_len(data: &[u8]) -> usize {
    match data {
        [_, _, hi, lo, ..] => 4 + usize::from(u16::from_be_bytes([*hi, *lo])),
        _ => 0,
    }
}

/// Does VPD page 0x00 list this page?
pub fn supports(data: &[u8], page: u8) -> bool {
    body(data, SUPPORTED_PAGES).is_ok_and(|pages| pages.contains(&page))
}

/// Whom a designator names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Association {
    LogicalUnit,
    TargetPort,
    TargetDevice,
    Reserved,
}

/// One designation descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Designator<'a> {
    /// 1 binary, 2 ASCII, 3 UTF-8.
    pub code_set: u8,
    pub association: Association,
    /// 1 T10 vendor, 2 EUI-64, 3 NAA, 4 relative target port, 5 target port group, 8 SCSI name string, ...
    pub kind: u8,
    pub data: &'a [u8],
}

/// The designators of one page, in order. A designator that reaches past the end is one `Err` and the end of the list; a rest of
/// less than four bytes is padding. Every step takes at least four bytes, so any page ends.
#[derive(Clone, Debug)]
pub struct Designators<'a> {
    rest: &'a [u8],
}

impl<'a> Designators<'a> {
    /// `data`: the whole page 0x83, header included.
    pub fn parse(data: &'a [u8]) -> Result<Designators<'a>, Malformed> {
        Ok(Designators { rest: body(data, DEVICE_IDENTIFICATION)? })
    }
}

impl<'a> Iterator for Designators<'a> {
    type Item = Result<Designator<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let [set, kind, _, len, rest @ ..] = self.rest else { return None };
        let Some((data, rest)) = rest.split_at_checked(usize::from(*len)) else {
            self.rest = &[];
            return Some(Err(Malformed));
        };
        self.rest = rest;
        let association = match *kind >> 4 & 3 {
            0 => Association::LogicalUnit,
            1 => Association::TargetPort,
            2 => Association::TargetDevice,
            _ => Association::Reserved,
        };
        Some(Ok(Designator { code_set: set & 0x0f, association, kind: kind & 0x0f, data }))
    }
}

/// Where a path enters the target: target port group (designator type 5) and relative target port (type 4), the first of each.
pub fn target_port(data: &[u8]) -> (Option<u16>, Option<u16>) {
    let (mut group, mut port) = (None, None);
    for d in Designators::parse(data).into_iter().flatten().flatten() {
        let (Association::TargetPort, [_, _, hi, lo, ..]) = (d.association, d.data) else { continue };
        let value = Some(u16::from_be_bytes([*hi, *lo]));
        match d.kind {
            4 => port = port.or(value),
            5 => group = group.or(value),
            _ => {}
        }
    }
    (group, port)
}

/// Why a page gives no WWID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoWwid {
    /// It names no logical unit in a way that is unique.
    Absent,
    /// The last designator that could have served is not what its type demands.
    Invalid,
    /// A designator reaches past the end of the page.
    Overflow,
    /// The text is longer than a dm uuid holds. Cut short, two LUNs could have the same.
    TooLong,
}

/// Which text a designator becomes.
#[derive(Clone, Copy)]
enum Form<'a> {
    Hex(u8, &'a [u8]),
    Lower(u8, &'a [u8]),
    Plain(u8, &'a [u8]),
    /// Runs of white space become one `_`.
    Blanks(u8, &'a [u8]),
}

/// Rank (higher wins) and form of a designator that names the LUN; `None` when it is not what its type demands.
fn rank<'a>(d: &Designator<'a>) -> Result<Option<(u8, Form<'a>)>, Malformed> {
    let data = d.data;
    Ok(Some(match d.kind {
        // Bytes, not text: read as text it would end at the first zero, and LUNs that differ behind it would be one.
        1 if data.len() >= 8 && d.code_set == 1 => (2, Form::Hex(b'1', data)),
        1 if data.len() >= 8 => (2, Form::Blanks(b'1', data)),
        2 if matches!(data.len(), 8 | 12 | 16) => (4, Form::Hex(b'2', data)),
        3 => {
            let rank = match (data.first().map_or(0, |b| b >> 4), data.len()) {
                (6, 16) => 8,
                (5, 8) => 7,
                (2, 8) => 6,
                (3, 8) => 1,
                _ => return Err(Malformed),
            };
            (rank, Form::Hex(b'3', data))
        }
        8 => match data.split_at_checked(4) {
            Some((b"naa.", rest)) => (3, Form::Lower(b'3', rest)),
            Some((b"eui.", rest)) => (3, Form::Lower(b'2', rest)),
            Some((b"iqn.", rest)) => (3, Form::Plain(b'8', rest)),
            _ => return Err(Malformed),
        },
        1 | 2 => return Err(Malformed),
        _ => return Ok(None),
    }))
}

/// Text cut at the end of the buffer.
struct Cut<'a> {
    out: &'a mut [u8],
    len: usize,
    whole: bool,
}

impl Cut<'_> {
    /// All of `bytes` or nothing: a hex pair is never split.
    fn push(&mut self, bytes: &[u8]) {
        self.whole = self.whole && try_put(self.out, self.len, bytes).is_ok();
        if self.whole {
            self.len += bytes.len();
        }
    }
}

/// What udev lets stand in a property value made from a device's words; all else becomes `_`. (udev keeps UTF-8 too; no array in
/// the field has it, and a dm name is better without.)
const fn udev_char(b: u8) -> u8 {
    match b {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'#' | b'+' | b'-' | b'.' | b':' | b'=' | b'@' | b'_' => b,
        _ => b'_',
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes the WWID of page 0x83 to `out` and gives its length, and whether it is whole. Of several designators of the logical unit
/// the best wins: NAA 6, NAA 5, NAA 2, EUI-64, SCSI name string, T10 vendor, NAA 3; of equals the first.
pub fn wwid_into(data: &[u8], out: &mut [u8]) -> Result<(usize, bool), NoWwid> {
    let mut best: Option<(u8, Form<'_>)> = None;
    let mut why = NoWwid::Absent;
    // SCSI-2: the identifier itself follows the header. In a descriptor this byte is reserved and 0. (Old EMC Symmetrix.)
    if let [_, DEVICE_IDENTIFICATION, _, len, _, _, scsi2, ..] = data
        && *scsi2 != 0
    {
        best = Some((u8::MAX, Form::Hex(b'3', data.get(4..4 + usize::from(*len)).ok_or(NoWwid::Overflow)?)));
    }
    for d in Designators::parse(data).map_err(|_| NoWwid::Absent)? {
        let Ok(d) = d else {
            why = NoWwid::Overflow;
            break;
        };
        let found = match d.association {
            Association::LogicalUnit => rank(&d),
            Association::Reserved => Err(Malformed),
            _ => Ok(None),
        };
        match found {
            Ok(Some(new)) if best.is_none_or(|old| new.0 > old.0) => best = Some(new),
            Ok(_) => {}
            Err(_) => why = NoWwid::Invalid,
        }
    }
    let (_, form) = best.ok_or(why)?;
    let mut text = Cut { out, len: 0, whole: true };
    let until_nul = |bytes: &'_ [u8]| bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    match form {
        Form::Hex(digit, bytes) => {
            text.push(&[digit]);
            for b in bytes {
                text.push(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 0x0f)]]);
            }
        }
        Form::Lower(digit, bytes) => {
            text.push(&[digit]);
            for b in bytes.iter().take(until_nul(bytes)) {
                text.push(&[udev_char(b.to_ascii_lowercase())]);
            }
        }
        Form::Plain(digit, bytes) => {
            text.push(&[digit]);
            for b in bytes.iter().take(until_nul(bytes)) {
                text.push(&[udev_char(*b)]);
            }
        }
        Form::Blanks(digit, bytes) => {
            text.push(&[digit]);
            let mut blank = false;
            for b in bytes.iter().take(until_nul(bytes)) {
                if b.is_ascii_whitespace() || *b == 0x0b {
                    blank = true;
                    continue;
                }
                if core::mem::take(&mut blank) {
                    text.push(b"_");
                }
                text.push(&[udev_char(*b)]);
            }
        }
    }
    Ok((text.len, text.whole))
}

/// What scsi_id names a logical unit by that [`wwid`] finds no name for: type, designator, and whether it is bytes and no text. A NAA, EUI-64
/// or T10 designator of a kind or length that the standard does not know; last what its vendor calls it (type 0), which is unique only with
/// vendor and product before it. Bytes come before text, of equals the first.
pub fn odd_name(data: &[u8]) -> Option<(u8, &[u8], bool)> {
    let mut best: Option<(u8, &[u8], bool)> = None;
    for d in Designators::parse(data).ok()?.flatten() {
        let bytes = d.code_set == 1;
        if d.association == Association::LogicalUnit
            && d.kind <= 3
            && (bytes || d.code_set == 2)
            && !d.data.is_empty()
            && best.is_none_or(|(kind, _, old)| (d.kind, bytes) > (kind, old))
        {
            best = Some((d.kind, d.data, bytes));
        }
    }
    best
}

/// The WWID of page 0x83.
pub fn wwid(data: &[u8]) -> Result<Wwid, NoWwid> {
    let mut buffer = [0; crate::model::WWID_LEN];
    let (len, whole) = wwid_into(data, &mut buffer)?;
    if !whole {
        return Err(NoWwid::TooLong);
    }
    let mut out = Wwid::new();
    for b in buffer.iter().take(len) {
        out.push(char::from(*b)).map_err(|_| NoWwid::TooLong)?;
    }
    Ok(out)
}

/// Writes the serial number of page 0x80 to `out`, without the blanks around it, and gives its length. It is cut where `out`
/// ends: who makes a name of it gives one byte more than it takes, and refuses what fills that too.
pub fn serial_into(data: &[u8], out: &mut [u8]) -> Result<usize, Malformed> {
    let bytes = body(data, UNIT_SERIAL_NUMBER)?;
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let bytes = bytes.get(..end).unwrap_or(bytes).trim_ascii();
    let mut text = Cut { out, len: 0, whole: true };
    for &b in bytes {
        text.push(&[if matches!(b, 0x20..=0x7e) {
            b
        } else if b.is_ascii_whitespace() {
            b' '
        } else {
            b'_'
        }]);
    }
    Ok(text.len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports() {
        let page = [0, 0x83, 0, 0x18, 1, 0x94, 0, 4, 0, 0, 0, 7, 1, 0x15, 0, 4, 0, 0, 0, 2, 1, 0x15, 0, 4, 0, 0, 0, 9];
        assert_eq!(target_port(&page), (Some(2), Some(7)));
        assert_eq!(target_port(&page[..12]), (None, Some(7)), "what did not arrive is not read");
        assert_eq!(declared_len(&page[..12]), 28);
        assert_eq!(target_port(&[]), (None, None));
    }

    #[test]
    fn too_long_is_refused_not_cut() {
        let mut page = std::vec![0, 0x83, 0, 0xcc, 2, 1, 0, 200];
        page.extend(b"VENDOR  ");
        page.extend([b'x'; 192]);
        assert_eq!(wwid(&page), Err(NoWwid::TooLong));
        assert_eq!(wwid_into(&page, &mut [0; 9]), Ok((9, false)));
    }

    /// As iSCSI Enterprise Target sends it.
    #[test]
    fn a_vendor_designator_of_bytes_is_written_in_hex() {
        let page = |lun: u8| {
            let mut page = std::vec![0, 0x83, 0, 20, 1, 1, 0, 16];
            page.extend(b"IET\0\0\0\0\0\x01\0\0\0");
            page.extend([lun, 2, 0, 0]);
            page
        };
        assert_eq!(wwid(&page(0xe3)).unwrap(), "1494554000000000001000000e3020000");
        assert_ne!(wwid(&page(0xe3)), wwid(&page(0xe8)));
    }

    /// scsi_id, check_fill_0x83_prespc3_id.
    #[test]
    fn a_page_of_scsi_2() {
        let mut page = std::vec![0, 0x83, 0, 16];
        page.extend(*b"\x60\x06\x04\x80\0\x02\x84\x60\x14\x92\x53\x30\x30\x38\x46\x41");
        assert_eq!(wwid(&page).unwrap(), "360060480000284601492533030384641");
        page[3] = 8;
        assert_eq!(wwid(&page).unwrap(), "36006048000028460");
        page[3] = 17;
        assert_eq!(wwid(&page), Err(NoWwid::Overflow));
        page[3] = 200;
        page.resize(204, 7);
        assert_eq!(wwid(&page), Err(NoWwid::TooLong));
    }

    #[test]
    fn page_list() {
        assert!(supports(&[0, 0, 0, 3, 0, 0x80, 0xc0], 0xc0));
        assert!(!supports(&[0, 0, 0, 2, 0, 0x80, 0xc0], 0xc0), "behind the declared end");
        assert!(!supports(&[0, 0x83, 0, 2, 0, 0xc0], 0xc0));
    }

    proptest! {
        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), room in 0usize..130) {
            if let [_, page, ..] = bytes.as_mut_slice() {
                *page = if *page & 1 == 0 { 0x83 } else { 0x80 };
            }
            let mut out = [0; 130];
            if let Ok((len, _)) = wwid_into(&bytes, &mut out[..room]) {
                prop_assert!(len <= room);
                prop_assert!(out[..len].iter().all(|b| b.is_ascii_graphic()));
            }
            if let Ok(len) = serial_into(&bytes, &mut out[..room]) {
                prop_assert!(len <= room);
            }
            let _ = (wwid(&bytes), target_port(&bytes), supports(&bytes, 0xc0));
            let designators = Designators::parse(&bytes).into_iter().flatten().count();
            prop_assert!(designators * 4 <= bytes.len());
        }
    }
}
