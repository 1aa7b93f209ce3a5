//! GUIDs and names of GPT entries as values: mixed-endian bytes <-> text (UEFI appendix A), UTF-16 -> UTF-8.

use core::fmt;

/// A GUID in the byte order of the disk: three little-endian fields, then eight bytes as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// All zero: an unused entry.
    pub fn is_nil(&self) -> bool {
        self.0 == [0; 16]
    }

    /// `0fc63daf-8483-4772-8e79-3d69d8477de4`, either case; `None` for anything else.
    pub fn parse(text: &str) -> Option<Guid> {
        parse_uuid(text).map(|written| Guid(mixed(written)))
    }
}

/// From the order of the disk to that of the text, and back: the same exchange.
fn mixed([a, b, c, d, e, f, g, h, rest @ ..]: [u8; 16]) -> [u8; 16] {
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// The bytes of `0fc63daf-8483-4772-8e79-3d69d8477de4`, either case, as they are written; `None` for anything else.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut digits = text.bytes();
    let mut bytes = [0; 16];
    for (i, byte) in bytes.iter_mut().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) && digits.next() != Some(b'-') {
            return None;
        }
        *byte = hex(digits.next()?)? << 4 | hex(digits.next()?)?;
    }
    digits.next().is_none().then_some(bytes)
}

/// And back, in lower case.
pub(crate) fn write_uuid(bytes: [u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, byte) in bytes.into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write_hex(byte, f)?;
    }
    Ok(())
}

/// The value of one hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Two lower-case digits. By hand: `{:02x}` brings the padding code of core::fmt along.
pub(crate) fn write_hex<W: fmt::Write + ?Sized>(byte: u8, out: &mut W) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.write_char(char::from(DIGITS[usize::from(byte >> 4)]))?;
    out.write_char(char::from(DIGITS[usize::from(byte & 15)]))
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(mixed(self.0), f)
    }
}

/// A partition's name: UTF-16 as GPT stores it, ended by a NUL or the field's end. What is no UTF-16 reads as U+FFFD.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Name([u16; 36]);

impl Default for Name {
    fn default() -> Name {
        Name([0; 36])
    }
}

impl Name {
    /// From the 72 bytes of a GPT entry; what is missing reads as NUL.
    pub fn from_utf16le(bytes: &[u8]) -> Name {
        let mut name = Name::default();
        for (unit, pair) in name.0.iter_mut().zip(bytes.chunks_exact(2)) {
            *unit = u16::from_le_bytes([pair[0], pair[1]]);
        }
        name
    }
    /// From a NUL-ended field of single bytes (Mac), each taken as Latin-1.
    pub fn from_bytes(bytes: &[u8]) -> Name {
        let mut name = Name::default();
        for (unit, byte) in name.0.iter_mut().zip(bytes.iter().take_while(|b| **b != 0)) {
            *unit = u16::from(*byte);
        }
        name
    }
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }
    /// Its characters, at most 36.
    pub fn chars(&self) -> impl Iterator<Item = char> + '_ {
        char::decode_utf16(self.0.iter().copied().take_while(|unit| *unit != 0)).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
    }
    /// Is it this text, character by character?
    pub fn is(&self, text: &str) -> bool {
        self.chars().eq(text.chars())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.chars().try_for_each(|c| f.write_char(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn guid_text_is_mixed_endian_and_comes_back() {
        let linux = [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];
        assert_eq!(Guid(linux).to_string(), "0fc63daf-8483-4772-8e79-3d69d8477de4");
        assert_eq!(Guid::parse("0FC63DAF-8483-4772-8E79-3D69D8477DE4"), Some(Guid(linux)));
        for bad in
            ["", "0fc63daf-8483-4772-8e79-3d69d8477de", "0fc63daf+8483-4772-8e79-3d69d8477de4", "0fc63daf-8483-4772-8e79-3d69d8477dg4"]
        {
            assert_eq!(Guid::parse(bad), None, "{bad}");
        }
        // 36 bytes, but not of one byte each.
        assert_eq!(Guid::parse("0fc63daf-8483-4772-8e79-3d69d8477é4"), None);
    }

    #[test]
    fn names_are_utf16() {
        let bytes: std::vec::Vec<u8> = "root é 𝄞".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let name = Name::from_utf16le(&bytes);
        assert_eq!(name.to_string(), "root é 𝄞");
        assert!(name.is("root é 𝄞") && !name.is("root"));
        assert_eq!(Name::from_utf16le(&[0x00, 0xd8, b'a', 0]).to_string(), "\u{fffd}a", "a lone surrogate");
        assert_eq!(Name::from_utf16le(&[b'a'; 72]).chars().count(), 36, "no NUL at all");
        assert!(Name::from_utf16le(&[]).is_empty());
    }
}
