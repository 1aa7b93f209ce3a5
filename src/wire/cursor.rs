//! The two small tools of the text formats: a writer into a caller's bytes that answers `Full`, and a reader of blank separated words.
//!
//! Never formats through `core::fmt` (each integer `Display` costs 2.5 KB), never allocates, never cuts: what does not fit is an error.

use crate::fault::{Full, Malformed};
use crate::model::{DevNo, parse_decimal};

/// Copies `bytes` to where they belong in `buffer`, for callers that know them to have room there.
pub fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    let done = try_put(buffer, at, bytes);
    debug_assert!(done.is_ok(), "{} bytes at {at}", bytes.len());
}

/// Copies `bytes` to where they belong in `buffer`, all of them or none: one check for all of the program.
#[inline(never)]
pub fn try_put(buffer: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), Full> {
    let place = buffer.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())).ok_or(Full)?;
    place.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    Ok(())
}

/// Appends to a slice. After `Full` the content is whatever fitted; the caller throws it away.
pub struct Cursor<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl core::fmt::Write for Cursor<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push_str(text).map_err(|_| core::fmt::Error)
    }
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a mut [u8]) -> Cursor<'a> {
        Cursor { bytes, len: 0 }
    }
    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        try_put(self.bytes, self.len, bytes)?;
        self.len += bytes.len();
        Ok(())
    }
    pub fn push_str(&mut self, text: &str) -> Result<(), Full> {
        self.push(text.as_bytes())
    }
    /// `text` with one blank before it, unless it is the first.
    pub fn push_word(&mut self, word: &str) -> Result<(), Full> {
        self.separate()?;
        self.push_str(word)
    }
    pub fn push_decimal(&mut self, value: u64) -> Result<(), Full> {
        // At most 20 deep.
        if value >= 10 {
            self.push_decimal(value / 10)?;
        }
        self.push(&[b'0' + (value % 10) as u8])
    }
    /// A number with one blank before it, unless it is the first.
    pub fn push_number(&mut self, value: u64) -> Result<(), Full> {
        self.separate()?;
        self.push_decimal(value)
    }
    /// `digits` lower-case hexadecimal digits.
    pub fn push_hex(&mut self, value: u64, digits: u32) -> Result<(), Full> {
        for place in (0..digits).rev() {
            let nibble = (value >> (place * 4).min(60)) & 0xf;
            self.push(&[b"0123456789abcdef"[nibble as usize]])?;
        }
        Ok(())
    }
    /// `8:16`, with one blank before it unless it is the first.
    pub fn push_devno(&mut self, devno: DevNo) -> Result<(), Full> {
        self.push_number(u64::from(devno.major))?;
        self.push_str(":")?;
        self.push_decimal(u64::from(devno.minor))
    }
    fn separate(&mut self) -> Result<(), Full> {
        if self.len == 0 { Ok(()) } else { self.push(b" ") }
    }
}

/// Words of a kernel text, separated by ASCII white space.
#[derive(Clone)]
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub fn new(text: &'a str) -> Words<'a> {
        Words { rest: text }
    }
    pub fn word(&mut self) -> Result<&'a str, Malformed> {
        self.next().ok_or(Malformed)
    }
    pub fn number(&mut self) -> Result<u32, Malformed> {
        parse_decimal(self.word()?).ok_or(Malformed)
    }
    pub fn devno(&mut self) -> Result<DevNo, Malformed> {
        DevNo::parse(self.word()?).ok_or(Malformed)
    }
    /// Passes over `count` words.
    pub fn skip_words(&mut self, count: u32) -> Result<(), Malformed> {
        for _ in 0..count {
            self.word()?;
        }
        Ok(())
    }
    /// Malformed unless only blanks are left.
    pub fn end(&mut self) -> Result<(), Malformed> {
        if self.next().is_none() { Ok(()) } else { Err(Malformed) }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_ascii_start();
        if text.is_empty() {
            self.rest = text;
            return None;
        }
        let end = text.bytes().position(|b| b.is_ascii_whitespace()).unwrap_or(text.len());
        let (word, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        self.rest = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_full() {
        let mut bytes = [0u8; 12];
        let mut cursor = Cursor::new(&mut bytes);
        cursor.push_number(0).unwrap();
        cursor.push_devno(DevNo::new(8, 16)).unwrap();
        cursor.push_word("x").unwrap();
        assert_eq!(cursor.len(), 8);
        cursor.push_hex(0xa5, 4).unwrap();
        assert_eq!(cursor.push_str("!"), Err(Full));
        assert_eq!(&bytes, b"0 8:16 x00a5");
    }

    #[test]
    fn words() {
        let mut words = Words::new("  a\t12\n8:0  ");
        assert_eq!(words.word(), Ok("a"));
        assert_eq!(words.number(), Ok(12));
        assert_eq!(words.devno(), Ok(DevNo::new(8, 0)));
        assert_eq!(words.end(), Ok(()));
        assert_eq!(words.word(), Err(Malformed));
        assert_eq!(Words::new("4294967296").number(), Err(Malformed));
    }
}
