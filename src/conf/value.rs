//! Values: text <-> value, by the keyword's row.
//!
//! Pure and total; numbers are read without overflow and capped to the row's range, everything else is either taken or refused.
//! Formatting is by hand: this prints in places where core::fmt's machinery would cost more than the rest of the file.

use super::ere;
use super::keyword::{Key, Kind, OLD, Style, Word};
use super::wrong::What;
use core::fmt::{Result as Printed, Write};

/// A keyword's value. Words are numbers here: their codes stand in the keyword's row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    Number(u32),
    Text(&'a str),
}

impl<'a> Value<'a> {
    pub fn number(self) -> Option<u32> {
        match self {
            Value::Number(n) => Some(n),
            Value::Text(_) => None,
        }
    }
    pub fn text(self) -> Option<&'a str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        }
    }
}

/// Bytes of a pattern or list, quotation marks counted twice.
pub const LONGEST: usize = 900;
/// The delimiter's own word for "none".
pub const NO_DELIMITER: &str = "/UNSET/";

/// Is this value "not set" in disguise, so that it takes nothing away from other sections?
pub fn is_unset(key: Key, value: Value<'_>) -> bool {
    match (*key.row().kind, value) {
        (Kind::Choice { style: Style::ZeroUnset, .. }, Value::Number(0)) => true,
        (Kind::Pairs, Value::Text(text)) => text.is_empty(),
        (_, Value::Text(text)) => key == Key::PartitionDelimiter && text == NO_DELIMITER,
        _ => false,
    }
}

/// Reads a value. `Ok` may carry a complaint about a value that was taken all the same; `Err` is why it was refused.
pub fn parse(key: Key, text: &str) -> Result<(Value<'_>, Option<What>), What> {
    let taken = |value| Ok((value, None));
    match *key.row().kind {
        Kind::Choice { words, numbers, .. } => choice(words, numbers, text),
        Kind::Octal(most) => match unsigned(digits(text), 8) {
            Some(mode) if mode <= most => taken(Value::Number(mode)),
            _ => Err(What::BadValue),
        },
        Kind::Owner => match unsigned(digits(text), 10) {
            // The kernel's "no such id" is nobody's.
            Some(id) if id != u32::MAX => taken(Value::Number(id)),
            _ if text == "root" => taken(Value::Number(0)),
            _ => Err(What::BadValue),
        },
        Kind::Text(most) | Kind::Name(most) if text.len() > usize::from(most) => Err(What::TooLong),
        Kind::Name(_) if text.contains('/') && !(key == Key::PartitionDelimiter && text == NO_DELIMITER) => Err(What::Slash),
        Kind::Name(_) | Kind::Text(_) if text.is_empty() && matches!(key, Key::Alias | Key::MapWwid) => Err(What::BadValue),
        Kind::Counted { at, most } => match counted(text, at) {
            true if text.len() > usize::from(most) => Err(What::TooLong),
            true if key == Key::Features && text.split_ascii_whitespace().any(|w| OLD_FEATURES.contains(&w)) => {
                Ok((Value::Text(text), Some(What::Deprecated)))
            }
            true => taken(Value::Text(text)),
            false => Err(What::BadCount),
        },
        // A line that holds it, with its keyword and indentation, must not be too long when it is printed.
        Kind::Pairs | Kind::Pattern | Kind::Inverting if text.len() + text.bytes().filter(|&b| b == b'"').count() > LONGEST => {
            Err(What::TooLong)
        }
        Kind::Pairs => {
            let good = |word: &&str| word.split_once(':').is_some_and(|(prefix, attribute)| !prefix.is_empty() && !attribute.is_empty());
            let (words, pairs) = (text.split_ascii_whitespace().count(), text.split_ascii_whitespace().filter(good).count());
            match (words == pairs, pairs) {
                (true, _) => {
                    let mut pairs = text.split_ascii_whitespace().filter_map(|word| word.split_once(':'));
                    let odd = pairs.any(|(prefix, attribute)| !(ours(attribute) || attribute == "ID_WWN" && prefix.starts_with("nvme")));
                    Ok((Value::Text(text), odd.then_some(What::NotRead)))
                }
                (false, 0) => Err(What::BadPair),
                (false, _) => Ok((Value::Text(text), Some(What::BadPair))),
            }
        }
        Kind::Pattern => ere::check(text.as_bytes()).map(|()| (Value::Text(text), None)).map_err(What::BadPattern),
        Kind::Inverting => ere::check(inverting(text).1).map(|()| (Value::Text(text), None)).map_err(What::BadPattern),
        Kind::ReservationKey => reservation_key(text).map(|_| (Value::Text(text), None)).ok_or(What::BadKey),
        Kind::Text(_) if key == Key::UidAttribute => Ok((Value::Text(text), (!ours(text)).then_some(What::NotRead))),
        Kind::Text(_) | Kind::Name(_) => taken(Value::Text(text)),
        Kind::Block | Kind::Same(_) | Kind::Ignored => Err(What::Deprecated),
    }
}

/// Does this property of udev's hold the WWID that we make? (ID_UID: of a DASD.)
fn ours(attribute: &str) -> bool {
    matches!(attribute, "" | "ID_SERIAL" | "ID_UID")
}

/// Features that became keywords of their own.
pub const OLD_FEATURES: [&str; 2] = ["queue_if_no_path", "retain_attached_hw_handler"];

/// A blacklist pattern: does a leading `!` invert it, and the expression itself. `\!` is a `!`.
pub fn inverting(text: &str) -> (bool, &[u8]) {
    match text.strip_prefix('!') {
        Some(rest) => (true, rest.as_bytes()),
        None => (false, unescaped(text).as_bytes()),
    }
}

/// `\!` at the start of a blacklist pattern is a plain `!`.
pub fn unescaped(pattern: &str) -> &str {
    pattern.strip_prefix('\\').filter(|rest| rest.starts_with('!')).unwrap_or(pattern)
}

fn choice<'a>(words: &'static [Word], numbers: Option<(i32, u32)>, text: &str) -> Result<(Value<'a>, Option<What>), What> {
    let word = |text: &str| words.iter().find(|(word, _)| *word == text).map(|(_, code)| *code);
    if let Some(code) = word(text) {
        let note = (code & OLD != 0 && code < OLD << 1).then_some(What::Deprecated);
        return Ok((Value::Number(if note.is_some() { code & !OLD } else { code }), note));
    }
    let (least, most) = numbers.ok_or(What::BadValue)?;
    // Only `0` itself is the word: where that means something of its own, ` 0` and `00` are numbers below the least one, as with the peer.
    let number = parse_number(text).ok_or(What::BadValue)?;
    let capped = number.max(i64::from(least)).min(i64::from(most));
    // In range of u32 or, for the one signed keyword, of i32.
    Ok((Value::Number(capped as u32), (capped != number).then_some(What::Capped)))
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0b' | '\x0c')
}

/// Text of plain digits, blanks around it cut; empty for anything else.
fn digits(text: &str) -> &str {
    let text = text.trim_matches(blank);
    if text.bytes().all(|b| b.is_ascii_digit()) { text } else { "" }
}

/// A decimal number with an optional sign and blanks around it; saturates.
fn parse_number(text: &str) -> Option<i64> {
    let text = text.trim_matches(blank);
    let (negative, number) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value = number.bytes().fold(0i64, |n, b| n.saturating_mul(10).saturating_add(i64::from(b - b'0')));
    Some(if negative { -value } else { value })
}

/// By way of 64 bits, as all numbers: each size has half a kilobyte of code.
fn unsigned(text: &str, radix: u32) -> Option<u32> {
    u64::from_str_radix(text, radix).ok().and_then(|number| u32::try_from(number).ok())
}

/// Does word `at` say how many words follow it?
fn counted(text: &str, at: u8) -> bool {
    let mut words = text.split_ascii_whitespace().skip(usize::from(at));
    let count = words.next().and_then(|word| unsigned(digits(word.strip_prefix('+').unwrap_or(word)), 10));
    count.is_some_and(|count| count as usize == words.count())
}

/// A persistent reservation key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReservationKey {
    /// From the reservation key file.
    File,
    Key {
        key: u64,
        aptpl: bool,
    },
}

/// `file`, or up to 16 hexadecimal digits with an optional `0x` and an optional `:aptpl`. Zero is "no key" to every target, so it is
/// refused.
pub fn reservation_key(text: &str) -> Option<ReservationKey> {
    if text == "file" {
        return Some(ReservationKey::File);
    }
    let (number, aptpl) = match text.strip_suffix(":aptpl") {
        Some(number) => (number, true),
        None => (text, false),
    };
    let number = number.strip_prefix("0x").or(number.strip_prefix("0X")).unwrap_or(number);
    if number.starts_with('+') {
        return None;
    }
    u64::from_str_radix(number, 16).ok().filter(|&key| key != 0).map(|key| ReservationKey::Key { key, aptpl })
}

/// Prints a value as the language writes it: text and most words quoted, numbers bare.
pub fn emit(out: &mut dyn Write, key: Key, value: Value<'_>) -> Printed {
    match (*key.row().kind, value) {
        (Kind::Choice { words, numbers, style }, Value::Number(code)) => {
            if let Some((word, _)) = words.iter().find(|(_, c)| *c == code) {
                return if style == Style::Bare { out.write_str(word) } else { quote(out, word) };
            }
            if numbers.is_some_and(|(least, _)| least < 0) && (code as i32) < 0 {
                out.write_char('-')?;
                return decimal(out, u64::from((code as i32).unsigned_abs()));
            }
            decimal(out, u64::from(code))
        }
        (Kind::Octal(_), Value::Number(mode)) => {
            out.write_char('0')?;
            radix(out, u64::from(mode), 8)
        }
        (Kind::ReservationKey, Value::Text(text)) => match reservation_key(text) {
            Some(ReservationKey::Key { key, aptpl }) => {
                out.write_str("0x")?;
                radix(out, key, 16)?;
                out.write_str(if aptpl { ":aptpl" } else { "" })
            }
            _ => quote(out, text),
        },
        (_, Value::Number(number)) => decimal(out, u64::from(number)),
        (_, Value::Text(text)) => quote(out, text),
    }
}

/// `"text"`, quotation marks inside doubled.
pub fn quote(out: &mut dyn Write, text: &str) -> Printed {
    out.write_char('"')?;
    let mut parts = text.split('"');
    out.write_str(parts.next().unwrap_or(""))?;
    for part in parts {
        out.write_str("\"\"")?;
        out.write_str(part)?;
    }
    out.write_char('"')
}

pub fn decimal(out: &mut dyn Write, number: u64) -> Printed {
    radix(out, number, 10)
}

/// `base` from 2 to 16.
fn radix(out: &mut dyn Write, number: u64, base: u64) -> Printed {
    if number >= base {
        radix(out, number / base, base)?;
    }
    out.write_char(char::from(b"0123456789abcdef"[(number % base) as usize & 15]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn again(key: Key, text: &str) -> String {
        let mut out = String::new();
        match parse(key, text) {
            Ok((value, _)) => emit(&mut out, key, value).unwrap(),
            Err(what) => out = std::format!("{what:?}"),
        }
        out
    }

    #[test]
    fn numbers() {
        assert_eq!(again(Key::PollingInterval, " +07 "), "7");
        assert_eq!(again(Key::PollingInterval, "0"), "1");
        assert_eq!(again(Key::PollingInterval, "0x5"), "BadValue");
        assert_eq!(again(Key::FindMultipathsTimeout, "-10"), "-10");
        assert_eq!(again(Key::FindMultipathsTimeout, "-99999999999999999999999"), "-2147483647");
        assert_eq!(again(Key::FastIoFailTmo, "0"), "0");
        assert_eq!(again(Key::FastIoFailTmo, " 0 "), "1");
        assert_eq!(parse(Key::NoPathRetry, "00"), Ok((Value::Number(1), Some(What::Capped))));
        assert_eq!(again(Key::DevLossTmo, "4294967295"), "\"infinity\"");
        assert_eq!(again(Key::Mode, "0640"), "0640");
        assert_eq!(again(Key::Mode, "01000"), "BadValue");
        assert_eq!(again(Key::Mode, "8"), "BadValue");
        assert_eq!(again(Key::Uid, "010"), "10");
        assert_eq!(again(Key::Uid, "4294967295"), "BadValue");
    }

    #[test]
    fn texts() {
        assert_eq!(again(Key::Alias, "a/b"), "Slash");
        assert_eq!(again(Key::Alias, ""), "BadValue");
        assert_eq!(again(Key::PrioArgs, "say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(again(Key::PathSelector, "queue-length 0"), "\"queue-length 0\"");
        assert_eq!(again(Key::PathSelector, "queue-length"), "BadCount");
        assert_eq!(again(Key::PathSelector, "round-robin +1 5"), "\"round-robin +1 5\"");
        assert_eq!(again(Key::HardwareHandler, "-0"), "BadCount");
        assert_eq!(again(Key::UidAttrs, "sd:ID_SERIAL dasd"), "\"sd:ID_SERIAL dasd\"");
        assert_eq!(again(Key::UidAttrs, "sd dasd:"), "BadPair");
        for (key, text, read) in [
            (Key::UidAttrs, "sd:ID_SERIAL dasd:ID_UID nvme:ID_WWN", true),
            (Key::UidAttrs, "sd:ID_WWN", false),
            (Key::UidAttrs, "sd:ID_SERIAL nvme:ID_SERIAL_SHORT", false),
            (Key::UidAttribute, "", true),
            (Key::UidAttribute, "ID_SERIAL", true),
            (Key::UidAttribute, "ID_UID", true),
            (Key::UidAttribute, "ID_WWN", false),
            (Key::UidAttribute, "ID_SERIAL_SHORT", false),
        ] {
            assert_eq!(parse(key, text), Ok((Value::Text(text), (!read).then_some(What::NotRead))), "{text}");
        }
        assert_eq!(again(Key::Features, "2 pg_init_retries"), "BadCount");
        assert_eq!(parse(Key::Features, "1 queue_if_no_path").unwrap().1, Some(What::Deprecated));
        assert_eq!(again(Key::FlushOnLastDel, "yes"), "\"always\"");
        assert_eq!(parse(Key::FlushOnLastDel, "yes").unwrap().1, Some(What::Deprecated));
        assert_eq!(parse(Key::NoPathRetry, "queue").unwrap().1, None);
    }

    /// Every default is a value that reads and prints to itself.
    #[test]
    fn defaults() {
        for row in super::super::keyword::KEYWORDS.iter().filter(|row| !row.default().is_empty()) {
            let (value, note) = parse(row.key, row.default()).unwrap();
            assert_eq!(note, None, "{}", row.name());
            let mut out = String::new();
            emit(&mut out, row.key, value).unwrap();
            assert_eq!(out.trim_matches('"'), row.default());
        }
    }

    /// tests/vectors/misc_format.json, kind prkey. Differences, each with its reason in docs/differences.md:
    const DIFFERENT_KEYS: [&str; 5] = ["x12", "0x0", "0x123abc:APTPL", "0x123abc:", "0x123abc:aptpl2"];
    #[test]
    fn reservation_keys() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors/misc_format.json")).unwrap();
        let mut seen = false;
        for vector in file["vectors"].as_array().unwrap().iter().filter(|v| v["kind"] == "prkey") {
            seen = true;
            let text = vector["input"].as_str().unwrap();
            let expected = vector["expected"]["key"].as_str().map(|key| ReservationKey::Key {
                key: u64::from_str_radix(&key[2..], 16).unwrap(),
                aptpl: vector["expected"]["aptpl"] == 1,
            });
            // A bare `file` is the key file's business there.
            if text != "file" {
                let same = reservation_key(text) == expected;
                assert_eq!(same, !DIFFERENT_KEYS.contains(&text), "{vector}");
            }
        }
        assert!(seen);
    }
}
