//! Lines and tokens of multipath.conf.
//!
//! Knows no keyword. Never copies text: a token borrows the file's bytes, `""` inside quotes is left for whoever keeps the value.
//! Total on any bytes and linear; a line longer than [`LINE_MAX`] is an answer of its own, not two lines.

/// Longest line in bytes, without its end. The peer reads pieces of this size and takes the second piece for a line of its own, so
/// what such a line means depends on where it is cut; here it is refused as a whole.
pub const LINE_MAX: usize = 1023;

/// The lines of a file with their numbers from 1. LF or CR LF ends a line.
pub struct Lines<'a> {
    rest: Option<&'a [u8]>,
    number: u32,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a [u8]) -> Lines<'a> {
        // A byte order mark is no part of the text.
        Lines { rest: Some(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)), number: 0 }
    }
    /// Number of the line given last.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let line = match rest.iter().position(|&b| b == b'\n') {
            Some(end) => {
                self.rest = rest.get(end + 1..);
                rest.get(..end).unwrap_or(rest)
            }
            None if rest.is_empty() => return None,
            None => {
                self.rest = None;
                rest
            }
        };
        self.number = self.number.saturating_add(1);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// One token of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token<'a> {
    Open,
    Close,
    /// A quotation mark, opening or closing.
    Quote,
    Word(&'a [u8]),
    /// What stands between two quotation marks, `""` for one of them still doubled. Nothing between them is no token.
    Quoted(&'a [u8]),
}

/// The tokens of one line, comments left out.
#[derive(Clone)]
pub struct Tokens<'a> {
    rest: &'a [u8],
    quoted: bool,
    /// A control byte stood outside comments: this is no text.
    pub binary: bool,
    /// A byte from 0x80 up stood outside quotes and comments, where it counts as a blank.
    pub non_ascii: bool,
}

impl<'a> Tokens<'a> {
    pub fn new(line: &'a [u8]) -> Tokens<'a> {
        Tokens { rest: line, quoted: false, binary: false, non_ascii: false }
    }
    /// After the last token: is a quotation mark still open?
    pub fn unclosed(&self) -> bool {
        self.quoted
    }
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        head
    }
    fn quoted_text(&mut self) -> Token<'a> {
        let mut len = 0;
        loop {
            match (self.rest.get(len), self.rest.get(len + 1)) {
                (Some(b'"'), Some(b'"')) => len += 2,
                (None | Some(b'"'), _) => break,
                (Some(b), _) => {
                    self.binary |= control(*b);
                    len += 1;
                }
            }
        }
        Token::Quoted(self.take(len))
    }
}

/// C's isspace, and every byte outside ASCII.
fn blank(b: u8) -> bool {
    b == b' ' || (9..=13).contains(&b) || b >= 0x80
}
/// Control bytes that no text holds; a CR that is not the end of its line is one.
fn control(b: u8) -> bool {
    (b < 0x20 && !matches!(b, b'\t' | 0x0b | 0x0c)) || b == 0x7f
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        if self.quoted {
            if self.rest.is_empty() {
                return None;
            }
            // A single mark closes; a doubled one belongs to the text.
            if self.rest.first() == Some(&b'"') && self.rest.get(1) != Some(&b'"') {
                self.quoted = false;
                self.take(1);
                return Some(Token::Quote);
            }
            return Some(self.quoted_text());
        }
        while let Some(&b) = self.rest.first().filter(|&&b| blank(b)) {
            self.non_ascii |= b >= 0x80;
            self.binary |= control(b);
            self.take(1);
        }
        match self.rest.first()? {
            b'#' | b'!' => {
                self.rest = &[];
                None
            }
            b'{' => {
                self.take(1);
                Some(Token::Open)
            }
            b'}' => {
                self.take(1);
                Some(Token::Close)
            }
            b'"' => {
                self.take(1);
                self.quoted = true;
                Some(Token::Quote)
            }
            _ => {
                let ends = |b: &u8| blank(*b) || matches!(b, b'#' | b'!' | b'{' | b'}' | b'"');
                let len = self.rest.iter().position(ends).unwrap_or(self.rest.len());
                let word = self.take(len);
                self.binary |= word.iter().any(|&b| control(b));
                Some(Token::Word(word))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn words(line: &str) -> (Vec<String>, bool) {
        let mut tokens = Tokens::new(line.as_bytes());
        let mut all = Vec::new();
        for token in tokens.by_ref() {
            all.push(match token {
                Token::Open => "{".into(),
                Token::Close => "}".into(),
                Token::Quote => "<Q>".into(),
                Token::Word(w) => String::from_utf8_lossy(w).into_owned(),
                Token::Quoted(w) => String::from_utf8_lossy(w).replace("\"\"", "\""),
            });
        }
        (all, tokens.unclosed())
    }

    /// tests/vectors/conf_line_tokens.json: every line splits as the peer splits it.
    #[test]
    fn vectors() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors/conf_line_tokens.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert!(!vectors.is_empty());
        for vector in vectors {
            let line = vector["input"].as_str().unwrap();
            let expected: Vec<String> = match vector["expected"]["tokens"].as_array() {
                None => Vec::new(),
                Some(list) => list.iter().map(|t| t.as_str().unwrap().into()).collect(),
            };
            let line = Lines::new(line.as_bytes()).next().unwrap_or_default();
            assert_eq!(words(core::str::from_utf8(line).unwrap()).0, expected, "{vector}");
        }
    }

    #[test]
    fn lines() {
        let mut lines = Lines::new(b"\xef\xbb\xbfa\r\nb\n\nlast\r");
        assert_eq!(lines.by_ref().collect::<Vec<_>>(), [&b"a"[..], b"b", b"", b"last"]);
        assert_eq!(lines.number(), 4);
        assert_eq!(Lines::new(b"").count(), 0);
        assert_eq!(Lines::new(b"\n").count(), 1);
    }

    #[test]
    fn odd_bytes() {
        let flags = |line: &[u8]| {
            let mut t = Tokens::new(line);
            t.by_ref().for_each(drop);
            (t.binary, t.non_ascii)
        };
        assert_eq!(flags(b"a b"), (false, false));
        assert_eq!(flags(b"a\xc2\xa0b"), (false, true));
        assert_eq!(flags(b"a \"\xc3\xa9\""), (false, false));
        assert_eq!(flags(b"a\0b"), (true, false));
        assert_eq!(flags(b"a b\rc"), (true, false));
        assert_eq!(flags(b"a \"\x1b[m\""), (true, false));
        assert_eq!(flags(b"a b # \x1b\xff"), (false, false));
        assert!(words("a \"b").1 && !words("a \"b\"").1);
    }

    proptest::proptest! {
        #[test]
        fn ends_on_any_bytes(line: Vec<u8>) {
            // Every token consumes something.
            assert!(Tokens::new(&line).count() <= line.len());
        }
    }
}
