//! Files -> sections and values, each with its place; nothing is interpreted beyond the keyword's row.
//!
//! Never opens a file, never allocates, never recurses, reads every byte a bounded number of times: the caller hands in the texts in
//! load order and the [`Room`] for what they hold. Full is a complaint with a place; what was read before stays. Shared with
//! build.rs, which reads the array table with it. Where this decides otherwise than the peer, docs/differences.md says why.

mod same;
mod statement;

pub use same::{chain, hash, own, run, slot};

use super::complaint::{Complaint, InForce, Report, What};
use super::keyword::{self, Key, Kind, Meaning, Place};
use super::lex::{LINE_MAX, Lines, Token};
use super::value::{self, Value};
use statement::Statement;

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// For messages.
    pub name: &'a str,
    pub text: &'a [u8],
}

/// One value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    pub key: Key,
    pub line: u32,
    pub value: Value<'a>,
}

impl Entry<'_> {
    pub const EMPTY: Entry<'static> = Entry { key: Key::Verbosity, line: 0, value: Value::Number(0) };
}

/// What an entry of devices, multipaths or overrides/protocol takes its missing values from: an earlier one for the same thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    None,
    Section(u32),
    /// A row of the built-in array table.
    Row(u16),
}

/// A run of values of one block: all of it for an inner block, what stands between two inner blocks for an outer one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section {
    pub place: Place,
    pub file: u16,
    pub line: u32,
    pub first: u32,
    pub count: u32,
    pub link: Link,
    /// A later section for the same thing has taken over.
    pub superseded: bool,
    /// A map with a smaller WWID has this one's alias.
    pub alias_lost: bool,
}

impl Section {
    pub const EMPTY: Section =
        Section { place: Place::Top, file: 0, line: 0, first: 0, count: 0, link: Link::None, superseded: false, alias_lost: false };
}

/// Where a configuration is kept. [`Room::lines`] says how large the slices should be; smaller ones are legal and may get full.
pub struct Room<'a> {
    pub sections: &'a mut [Section],
    pub entries: &'a mut [Entry<'a>],
    /// Hash slots, four for each section.
    pub slots: &'a mut [u32],
    /// Values with doubled quotation marks in them are copied here.
    pub text: &'a mut [u8],
    pub complaints: &'a mut [Complaint<'a>],
}

impl Room<'_> {
    /// Lines that could hold a value: as many sections and as many entries are always enough.
    pub fn lines(files: &[Source<'_>]) -> usize {
        files.iter().flat_map(|file| Lines::new(file.text)).filter(|line| !line.is_empty()).count()
    }
    /// Bytes that `text` could need.
    pub fn quoted(files: &[Source<'_>]) -> usize {
        let doubled = |line: &&[u8]| line.len() <= LINE_MAX && line.windows(2).any(|w| w == b"\"\"");
        files.iter().flat_map(|file| Lines::new(file.text)).filter(doubled).map(<[u8]>::len).sum()
    }
}

/// What the files say.
pub struct Parsed<'a> {
    pub sections: &'a mut [Section],
    pub entries: &'a [Entry<'a>],
    pub slots: &'a [u32],
    pub report: Report<'a>,
}

/// Reads all files in order.
pub fn parse<'a>(files: &[Source<'a>], room: Room<'a>) -> Parsed<'a> {
    let Room { sections, entries, slots, text, complaints } = room;
    slots.fill(0);
    let mut parser = Parser {
        sections,
        section_count: 0,
        entries,
        entry_count: 0,
        slots,
        slots_used: 0,
        text,
        complaints,
        kept: 0,
        lost: 0,
        errors: 0,
        fatal: false,
        file: 0,
        line: 0,
        place: Place::Top,
        running: false,
        opened: 0,
        skip: 0,
        brace_due: false,
        seen: [0; 3],
    };
    for (number, file) in files.iter().enumerate() {
        parser.file = u16::try_from(number).unwrap_or(u16::MAX);
        parser.read(file.text);
    }
    parser.give_aliases();
    parser.finish()
}

struct Parser<'a> {
    sections: &'a mut [Section],
    section_count: usize,
    entries: &'a mut [Entry<'a>],
    entry_count: usize,
    slots: &'a mut [u32],
    slots_used: usize,
    text: &'a mut [u8],
    complaints: &'a mut [Complaint<'a>],
    kept: usize,
    lost: u32,
    errors: u32,
    fatal: bool,
    file: u16,
    line: u32,
    place: Place,
    /// The last section is the one that values go to.
    running: bool,
    /// Line of the `{` of an inner block.
    opened: u32,
    /// Open blocks that are skipped, inside `place`.
    skip: u32,
    /// A section's name stood without its brace on the statement before.
    brace_due: bool,
    /// Keywords seen in the block open at each depth.
    seen: [u128; 3],
}

impl<'a> Parser<'a> {
    #[inline(never)]
    fn read(&mut self, text: &'a [u8]) {
        (self.place, self.running, self.skip, self.brace_due, self.seen) = (Place::Top, false, 0, false, [0; 3]);
        let mut lines = Lines::new(text);
        while let Some(line) = lines.next() {
            self.line = lines.number();
            if line.len() > LINE_MAX {
                self.complain(What::LineTooLong, None, &[], InForce::Nothing);
            } else if let Some(statement) = Statement::parse(line) {
                self.statement(&statement);
            }
        }
        if self.place != Place::Top || self.skip > 0 {
            self.complain(What::Unclosed, None, &[], InForce::Written);
        }
        while self.place != Place::Top {
            self.close();
        }
    }

    #[inline(never)]
    fn statement(&mut self, s: &Statement<'a>) {
        let brace_due = core::mem::take(&mut self.brace_due);
        if self.skip > 0 {
            return self.braces(match s.first {
                Token::Open => s.net + 1,
                Token::Close => s.net - 1,
                _ => s.net,
            });
        }
        if s.binary {
            return self.complain(What::Binary, None, &[], InForce::Nothing);
        }
        if s.non_ascii {
            self.complain(What::NonAscii, None, &[], InForce::Written);
        }
        match s.first {
            Token::Close => {
                if s.extra || s.value.is_some() {
                    self.complain(What::ExtraText, None, &[], InForce::Written);
                }
                self.close();
                self.braces(s.net);
            }
            Token::Open if brace_due => {
                if s.extra || s.value.is_some() {
                    self.complain(What::ExtraText, None, &[], InForce::Written);
                }
                self.braces(s.net);
            }
            Token::Open => {
                self.complain(What::StrayOpen, None, &[], InForce::Nothing);
                self.braces(s.net + 1);
            }
            Token::Word(name) => self.keyword(name, s),
            // A quoted keyword is none.
            Token::Quote | Token::Quoted(_) => self.complain(What::UnknownKeyword, None, s.value.unwrap_or(&[]), InForce::Nothing),
        }
    }

    #[inline(never)]
    fn keyword(&mut self, name: &'a [u8], s: &Statement<'a>) {
        let named = match keyword::find(name, self.place) {
            Meaning::Known(key) => key,
            other => {
                let key = if let Meaning::Elsewhere(key) = other { Some(key) } else { None };
                if s.opens {
                    self.complain(What::UnknownBlock, key, name, InForce::Nothing);
                    self.braces(s.net);
                } else {
                    let what = if key.is_some() { What::WrongPlace } else { What::UnknownKeyword };
                    self.complain(what, key, name, InForce::Nothing);
                }
                return;
            }
        };
        let key = if let Kind::Same(key) = *named.row().kind { key } else { named };
        let kind = *key.row().kind;
        if matches!(kind, Kind::Block) {
            self.note_seen(named, name);
            self.open(key);
            if !s.opens {
                self.complain(What::MissingOpen, Some(key), name, InForce::Written);
                self.brace_due = true;
                return;
            }
            if s.extra {
                self.complain(What::ExtraText, Some(key), name, InForce::Written);
            }
            return self.braces(s.net - 1);
        }
        let Some(raw) = s.value else {
            let in_force = self.in_force(key);
            self.complain(What::MissingValue, Some(key), name, in_force);
            return if s.opens {
                self.braces(s.net)
            };
        };
        self.note_seen(named, name);
        if s.unclosed {
            self.complain(What::MissingQuote, Some(key), name, InForce::Written);
        }
        if s.extra {
            self.complain(What::ExtraText, Some(key), name, InForce::Written);
        }
        if matches!(kind, Kind::Ignored) {
            return self.complain(What::Deprecated, Some(key), name, InForce::Nothing);
        }
        let result = match self.keep(raw) {
            Ok(text) => value::parse(key, text),
            Err(what) => Err(what),
        };
        match result {
            Ok((value, note)) => {
                if !self.push(key, value) {
                    return self.complain(What::Full, Some(key), name, InForce::Nothing);
                }
                // NVMe's is the same: an array's entry may be one of those.
                let same = self.place == Place::Device && value == Value::Text("ID_WWN");
                if let Some(what) = note.filter(|what| *what != What::NotRead || !same) {
                    let in_force = if what == What::Capped { InForce::Value(value) } else { InForce::Written };
                    self.complain(what, Some(key), name, in_force);
                }
            }
            Err(what) => {
                let listed =
                    self.place.bit() & (Place::Blacklist.bit() | Place::Exceptions.bit()) != 0 || self.place.parent() != Place::Top;
                self.fatal |= self.file == 0
                    && match what {
                        What::BadPattern(_) => listed && self.place != Place::Device,
                        What::BadKey => true,
                        _ => false,
                    };
                let in_force = self.in_force(key);
                self.complain(what, Some(key), name, in_force);
            }
        }
    }

    /// A keyword that stands twice in its block is told whether or not its values were good. Two spellings are two keywords.
    fn note_seen(&mut self, named: Key, name: &'a [u8]) {
        let Some(seen) = self.seen.get_mut(self.place.depth()) else { return };
        let twice = *seen & named.bit() != 0 && !named.repeats();
        *seen |= named.bit();
        if twice {
            self.complain(What::Duplicate, Some(named), name, InForce::Written);
        }
    }

    /// Opens (positive) or closes (negative) as many blocks as a text that is otherwise ignored does; what it opens is skipped.
    fn braces(&mut self, net: i32) {
        if net >= 0 {
            self.skip = self.skip.saturating_add(net.unsigned_abs());
            return;
        }
        let closed = net.unsigned_abs();
        let skipped = self.skip.min(closed);
        self.skip -= skipped;
        for _ in skipped..closed {
            self.close();
        }
    }

    fn open(&mut self, key: Key) {
        let place = self.place.child(key);
        self.running = false;
        self.opened = self.line;
        let depth = place.depth();
        if depth == 2 && !self.begin(place) {
            // No room for it: its content must not end up in the block around it.
            self.complain(What::Full, Some(key), key.row().name().as_bytes(), InForce::Nothing);
            self.skip = 1;
            return;
        }
        self.place = place;
        if let Some(seen) = self.seen.get_mut(depth) {
            *seen = 0;
        }
    }

    /// `}`.
    fn close(&mut self) {
        if self.place == Place::Top {
            return self.complain(What::UnmatchedClose, None, &[], InForce::Nothing);
        }
        if self.place.depth() == 2 {
            self.complete();
        }
        self.running = false;
        self.place = self.place.parent();
    }

    /// Starts a section at the current line.
    fn begin(&mut self, place: Place) -> bool {
        let Some(slot) = self.sections.get_mut(self.section_count) else { return false };
        *slot = Section { place, file: self.file, line: self.line, first: self.entry_count as u32, ..Section::EMPTY };
        self.section_count += 1;
        self.running = true;
        true
    }

    fn push(&mut self, key: Key, value: Value<'a>) -> bool {
        if self.entry_count >= self.entries.len() || (!self.running && !self.begin(self.place)) {
            return false;
        }
        let last = self.section_count.checked_sub(1).and_then(|last| self.sections.get_mut(last));
        let (Some(entry), Some(section)) = (self.entries.get_mut(self.entry_count), last) else { return false };
        *entry = Entry { key, line: self.line, value };
        self.entry_count += 1;
        section.count += 1;
        true
    }

    /// A value's text for good: the file's own bytes, or a copy without the doubling of quotation marks.
    fn keep(&mut self, raw: &'a [u8]) -> Result<&'a str, What> {
        let raw = core::str::from_utf8(raw).map_err(|_| What::Binary)?;
        if !raw.contains('"') {
            return Ok(raw);
        }
        let mut len = 0;
        let mut doubled = false;
        for b in raw.bytes() {
            // Inside quotation marks they only come in pairs: every second one is left out.
            doubled = b == b'"' && !doubled;
            if b != b'"' || doubled {
                *self.text.get_mut(len).ok_or(What::Full)? = b;
                len += 1;
            }
        }
        let (copy, rest) = core::mem::take(&mut self.text).split_at_mut_checked(len).ok_or(What::Full)?;
        self.text = rest;
        core::str::from_utf8(copy).map_err(|_| What::Binary)
    }

    /// What the keyword's value is without the line at hand.
    fn in_force(&self, key: Key) -> InForce<'a> {
        if self.kept >= self.complaints.len() || key.repeats() {
            return InForce::Nothing;
        }
        let whole_block = matches!(self.place, Place::Defaults | Place::Overrides);
        let mut current = self.running;
        for section in self.sections.iter().take(self.section_count).rev() {
            if section.place == self.place
                && (current || whole_block)
                && let Some(entry) = own(self.entries, section, key)
            {
                return InForce::Value(entry.value);
            }
            if !whole_block {
                break;
            }
            current = false;
        }
        match value::parse(key, key.row().default()) {
            Ok((value, _)) if self.place == Place::Defaults && !key.row().default().is_empty() => InForce::Value(value),
            _ => InForce::Unset,
        }
    }

    fn complain(&mut self, what: What, key: Option<Key>, keyword: &'a [u8], in_force: InForce<'a>) {
        self.complain_at(self.line, what, key, keyword, in_force);
    }
    fn complain_at(&mut self, line: u32, what: What, key: Option<Key>, keyword: &'a [u8], in_force: InForce<'a>) {
        if !what.is_remark() {
            self.errors = self.errors.saturating_add(1);
        }
        match self.complaints.get_mut(self.kept) {
            None => self.lost = self.lost.saturating_add(1),
            Some(slot) => {
                *slot = Complaint { file: self.file, line, place: self.place, key, keyword, what, in_force };
                self.kept += 1;
            }
        }
    }

    fn finish(self) -> Parsed<'a> {
        let (complaints, kept): (&'a [Complaint<'a>], usize) = (self.complaints, self.kept);
        let (entries, entry_count): (&'a [Entry<'a>], usize) = (self.entries, self.entry_count);
        Parsed {
            sections: self.sections.get_mut(..self.section_count).unwrap_or_default(),
            entries: entries.get(..entry_count).unwrap_or_default(),
            slots: self.slots,
            report: Report { kept: complaints.get(..kept).unwrap_or_default(), lost: self.lost, errors: self.errors, fatal: self.fatal },
        }
    }
}
