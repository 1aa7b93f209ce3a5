//! A line taken apart: keyword, value, braces, and what is odd about it. Knows no keyword.

use super::super::lex::{Token, Tokens};

/// A line taken apart.
pub(super) struct Statement<'t> {
    pub(super) first: Token<'t>,
    /// The first value, doubled quotation marks still doubled.
    pub(super) value: Option<&'t [u8]>,
    /// `{` stands right behind the keyword.
    pub(super) opens: bool,
    /// Something stands behind the value, or behind the brace.
    pub(super) extra: bool,
    /// Braces opened less braces closed, the first token not counted.
    pub(super) net: i32,
    pub(super) unclosed: bool,
    pub(super) binary: bool,
    pub(super) non_ascii: bool,
}

impl<'t> Statement<'t> {
    pub(super) fn parse(line: &'t [u8]) -> Option<Statement<'t>> {
        let mut tokens = Tokens::new(line);
        let first = tokens.next()?;
        let mut s = Statement { first, value: None, opens: false, extra: false, net: 0, unclosed: false, binary: false, non_ascii: false };
        match tokens.next() {
            None => {}
            Some(Token::Open) => (s.opens, s.net) = (true, 1),
            Some(Token::Close) => (s.extra, s.net) = (true, -1),
            Some(Token::Word(text) | Token::Quoted(text)) => s.value = Some(text),
            Some(Token::Quote) => {
                s.value = Some(b"");
                if let Some(Token::Quoted(text)) = tokens.clone().next() {
                    s.value = Some(text);
                    tokens.next();
                }
                if let Some(Token::Quote) = tokens.clone().next() {
                    tokens.next();
                }
            }
        }
        for token in tokens.by_ref() {
            s.extra = true;
            match token {
                Token::Open => s.net += 1,
                Token::Close => s.net -= 1,
                _ => {}
            }
        }
        (s.unclosed, s.binary, s.non_ascii) = (tokens.unclosed(), tokens.binary, tokens.non_ascii);
        Some(s)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::lex::Lines;
    use super::*;
    use std::string::String;

    /// Sections that the peer enters without a brace; any other keyword without a value is a line without effect.
    const SECTIONS: [&[u8]; 7] = [b"defaults", b"blacklist", b"blacklist_exceptions", b"devices", b"device", b"multipaths", b"multipath"];

    /// tests/vectors/conf_line_tokens.json: which lines the peer drops, and the value it takes from the others.
    #[test]
    fn vectors() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../../tests/vectors/conf_line_tokens.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert!(!vectors.is_empty());
        for vector in vectors {
            let expected = &vector["expected"];
            let line = Lines::new(vector["input"].as_str().unwrap().as_bytes()).next().unwrap_or_default();
            let Some(s) = Statement::parse(line) else {
                assert!(expected["tokens"].is_null(), "{vector}");
                continue;
            };
            // A brace behind a keyword is its value with the peer; here it opens a block (docs/differences.md).
            let value = match (s.first, s.value) {
                (Token::Open | Token::Close, _) => None,
                (_, None) if s.opens => Some("{".into()),
                (_, value) => value.map(|text| String::from_utf8_lossy(text).replace("\"\"", "\"")),
            };
            let dropped = match s.first {
                Token::Open => true,
                Token::Word(name) => value.is_none() && !SECTIONS.contains(&name),
                _ => false,
            };
            assert_eq!(expected["validate"].as_i64().unwrap() != 0, dropped, "{vector}");
            assert_eq!(value.as_deref(), expected["value"].as_str(), "{vector}");
        }
    }
}
