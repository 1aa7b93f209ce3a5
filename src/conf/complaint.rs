//! What is wrong with a configuration, as values; the sentence is made here and printed at the edge.
//!
//! Bounded: the first complaints are kept, the rest are counted ([`Report`]), so a binary file of 100 MB is one screen of text.

use super::ere;
use super::keyword::{KEYWORDS, Key, Kind, OLD, Place};
use super::lex::LINE_MAX;
use super::value::{self, LONGEST, Value, decimal};
pub use super::wrong::What;
use core::fmt::{Result as Printed, Write};

/// What holds in spite of the complaint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InForce<'a> {
    /// The line, or the block, has no effect.
    Nothing,
    /// What was written.
    Written,
    /// This value.
    Value(Value<'a>),
    /// The keyword has no value in this section.
    Unset,
}

/// One complaint, with its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Complaint<'a> {
    /// Number of the file in load order.
    pub file: u16,
    pub line: u32,
    /// The block the line stands in.
    pub place: Place,
    /// The keyword's row, if it is one.
    pub key: Option<Key>,
    /// The keyword as written; empty when the line has none.
    pub keyword: &'a [u8],
    pub what: What,
    pub in_force: InForce<'a>,
}

impl Complaint<'_> {
    pub const EMPTY: Complaint<'static> =
        Complaint { file: 0, line: 0, place: Place::Top, key: None, keyword: &[], what: What::Full, in_force: InForce::Nothing };
}

/// The complaints of one parse.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The first ones, in the order they were found.
    pub kept: &'a [Complaint<'a>],
    /// How many more there were.
    pub lost: u32,
    /// How many, kept or not, are errors and not just remarks.
    pub errors: u32,
    /// A blacklist pattern or reservation key in the main file is bad: disks may be claimed that should not be. The peer loads
    /// nothing in this case; here the caller decides.
    pub fatal: bool,
}

/// Writes one complaint as a line: `file:line: keyword: what is wrong, what was expected; what stays in force`.
#[inline(never)]
pub fn emit(out: &mut dyn Write, file: &str, complaint: &Complaint<'_>) -> Printed {
    out.write_str(file)?;
    out.write_char(':')?;
    decimal(out, u64::from(complaint.line))?;
    out.write_str(": ")?;
    if !complaint.keyword.is_empty() {
        clean(out, complaint.keyword)?;
        out.write_str(": ")?;
    }
    let key = complaint.key;
    match complaint.what {
        What::LineTooLong => {
            out.write_str("longer than ")?;
            decimal(out, LINE_MAX as u64)?;
            out.write_str(" bytes")?;
        }
        What::Binary => out.write_str("not text (control bytes, or not UTF-8)")?,
        What::NonAscii => out.write_str("bytes outside ASCII count as blanks unless quoted")?,
        What::MissingValue => expected(out, "no value", key)?,
        What::MissingOpen => out.write_str("no { behind it")?,
        What::StrayOpen => out.write_str("{ without a section's name before it")?,
        What::ExtraText => out.write_str("text behind the value or brace is ignored")?,
        What::MissingQuote => out.write_str("no closing quotation mark")?,
        What::UnknownKeyword => out.write_str("unknown keyword")?,
        What::WrongPlace => {
            out.write_str("not a keyword of ")?;
            out.write_str(complaint.place.word())?;
            if let Some(key) = key {
                out.write_str(" but of ")?;
                places(out, key.row().name())?;
            }
        }
        What::UnknownBlock => {
            out.write_str("no such block in ")?;
            out.write_str(complaint.place.word())?;
        }
        What::UnmatchedClose => out.write_str("} closes nothing")?,
        What::Unclosed => {
            out.write_str("the file ends inside ")?;
            out.write_str(complaint.place.word())?;
        }
        What::Duplicate => out.write_str("given before; the last one counts")?,
        What::BadValue => expected(out, "bad value", key)?,
        What::Capped => expected(out, "out of range", key)?,
        What::BadCount => expected(out, "the count is not that of the words", key)?,
        What::BadPair => out.write_str("words that are not prefix:ATTRIBUTE are ignored")?,
        What::Slash => out.write_str("a / cannot be part of it")?,
        What::TooLong => match key.map(|key| *key.row().kind) {
            Some(Kind::Pairs | Kind::Pattern | Kind::Inverting) => {
                out.write_str("longer than ")?;
                decimal(out, LONGEST as u64)?;
                out.write_str(" bytes")?;
            }
            _ => expected(out, "too long", key)?,
        },
        What::BadPattern(error) => {
            out.write_str("bad regular expression: ")?;
            out.write_str(pattern_error(error))?;
        }
        What::BadKey => expected(out, "bad key", key)?,
        What::Deprecated => match key.map(|key| *key.row().kind) {
            Some(Kind::Ignored) => out.write_str("obsolete")?,
            _ => out.write_str("an old spelling, still understood")?,
        },
        What::NotRead => {
            out.write_str("not read: the WWID of a SCSI disk is what udev has as ID_SERIAL, made from the disk's own pages")?
        }
        What::Incomplete => out.write_str(match complaint.place {
            Place::Multipath => "no wwid given",
            Place::Protocol => "no valid type given",
            _ => "vendor and product must be given",
        })?,
        What::DuplicateDevice => out.write_str("the same vendor, product and revision as before: the two are merged")?,
        What::DuplicateMultipath => out.write_str("the same wwid as before: the two are merged")?,
        What::DuplicateAlias => out.write_str("a map with a smaller WWID has the same alias")?,
        What::Full => out.write_str("the configuration is too large")?,
    }
    match complaint.in_force {
        InForce::Written => Ok(()),
        InForce::Nothing => out.write_str(match complaint.what {
            What::Incomplete | What::UnknownBlock | What::StrayOpen => "; the block has no effect",
            What::DuplicateAlias => "; this alias has no effect",
            _ => "; the line has no effect",
        }),
        InForce::Unset => out.write_str("; it stays unset here"),
        InForce::Value(value) => {
            out.write_str("; ")?;
            match key {
                Some(key) => value::emit(out, key, value)?,
                None => out.write_str("the old value")?,
            }
            out.write_str(if complaint.what == What::Capped { " is taken" } else { " stays in force" })
        }
    }
}

/// `problem, expected ...`.
fn expected(out: &mut dyn Write, problem: &str, key: Option<Key>) -> Printed {
    out.write_str(problem)?;
    if let Some(key) = key {
        out.write_str(", expected ")?;
        describe(out, key)?;
    }
    Ok(())
}

/// What a keyword's value may be, in words.
pub fn describe(out: &mut dyn Write, key: Key) -> Printed {
    match *key.row().kind {
        Kind::Block => out.write_str("{"),
        Kind::Choice { words, numbers, .. } => {
            let mut before = "";
            // One spelling of each: `1` and `0` beside `yes` and `no`, and old words, would only confuse. A word's code is small
            // enough for these tests but for the few from OFF up, which have one spelling each.
            for (i, (word, code)) in words.iter().enumerate() {
                let told = words.iter().take(i).any(|(_, c)| c == code) || (*code & OLD != 0 && *code < OLD << 1);
                if !told {
                    out.write_str(before)?;
                    out.write_str(word)?;
                    before = ", ";
                }
            }
            if let Some((least, most)) = numbers {
                out.write_str(if before.is_empty() { "" } else { " or " })?;
                out.write_str("a number from ")?;
                if least < 0 {
                    out.write_char('-')?;
                }
                decimal(out, u64::from(least.unsigned_abs()))?;
                out.write_str(" to ")?;
                decimal(out, u64::from(most))?;
            }
            Ok(())
        }
        Kind::Octal(_) => out.write_str("octal digits up to 0777"),
        Kind::Owner => out.write_str("root or a number"),
        Kind::Text(most) | Kind::Name(most) => {
            out.write_str("text of at most ")?;
            decimal(out, u64::from(most))?;
            out.write_str(if matches!(*key.row().kind, Kind::Name(_)) { " bytes without /" } else { " bytes" })
        }
        Kind::Counted { at: 0, .. } => out.write_str("\"count word ...\""),
        Kind::Counted { .. } => out.write_str("\"name count word ...\""),
        Kind::Pairs => out.write_str("\"prefix:ATTRIBUTE ...\""),
        Kind::Pattern => out.write_str("a POSIX extended regular expression"),
        Kind::Inverting => out.write_str("a POSIX extended regular expression, inverted by a leading !"),
        Kind::ReservationKey => out.write_str("1 to 16 hexadecimal digits with an optional :aptpl, or file"),
        Kind::Same(key) => out.write_str(key.row().name()),
        Kind::Ignored => out.write_str("anything: it has no effect"),
    }
}

/// The sections that know a keyword.
pub fn places(out: &mut dyn Write, name: &str) -> Printed {
    let known = KEYWORDS.iter().filter(|row| row.name() == name).fold(0, |bits, row| bits | row.places);
    list(out, known)
}

/// Names of places, by their bits.
pub fn list(out: &mut dyn Write, bits: u16) -> Printed {
    let mut before = "";
    for place in Place::ALL {
        if bits & place.bit() != 0 {
            out.write_str(before)?;
            out.write_str(place.word())?;
            before = ", ";
        }
    }
    Ok(())
}

fn pattern_error(error: ere::Error) -> &'static str {
    match error {
        ere::Error::TooBig => "too large when compiled",
        ere::Error::Parenthesis => "( without )",
        ere::Error::Bracket => "[ without ]",
        ere::Error::Brace => "bad numbers in {}",
        ere::Error::Range => "a range whose end is before its start",
        ere::Error::Class => "unknown [:class:]",
        ere::Error::Escape => "a \\ that stands for nothing here",
        ere::Error::Depth => "nested too deeply",
        ere::Error::Repeat => "nothing to repeat",
    }
}

/// Untrusted text in a message: printable ASCII, cut.
fn clean(out: &mut dyn Write, text: &[u8]) -> Printed {
    for &b in text.iter().take(48) {
        out.write_char(if b.is_ascii_graphic() || b == b' ' { char::from(b) } else { '?' })?;
    }
    out.write_str(if text.len() > 48 { "..." } else { "" })
}
