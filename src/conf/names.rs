//! The bindings and wwids files: names that WWIDs were given, and WWIDs that were claimed before.
//!
//! Hints, never needed: nothing here decides anything. Pure parsers and emitters over the files' bytes, which are kept; the index is
//! a hash table in slots of the caller, and if those do not suffice the text is searched line by line instead.

use super::parse::{hash, slot};
use crate::model::{NAME_LEN, WWID_LEN};
use core::fmt::{Result as Printed, Write};

/// Which of the two files, and so what its lines look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `alias wwid`
    Bindings,
    /// `/wwid/`
    Wwids,
}

impl Form {
    /// One line: WWID and alias (empty in a wwids file). `None` for comments, blank lines and what is neither.
    pub fn parse(self, line: &[u8]) -> Option<(&str, &str)> {
        let line = line.split(|&b| b == b'#').next()?;
        let mut words = core::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let (wwid, alias) = match self {
            Form::Bindings => {
                let alias = words.next()?;
                (words.next()?, alias)
            }
            Form::Wwids => (words.next()?.strip_prefix('/')?.strip_suffix('/')?, ""),
        };
        let fits = !wwid.is_empty() && wwid.len() <= WWID_LEN && alias.len() <= NAME_LEN && !alias.contains('/') && !wwid.contains('/');
        fits.then_some((wwid, alias))
    }
}

/// Slots are offsets; this bit marks those found by alias.
const BY_ALIAS: u32 = 1 << 31;

/// One of the files, parsed.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    form: Form,
    text: &'a [u8],
    slots: &'a [u32],
    /// All of `text` is in `slots`.
    indexed: bool,
}

impl<'a> Names<'a> {
    /// No file.
    pub const fn empty(form: Form) -> Names<'static> {
        Names::few(form, &[])
    }

    /// Few lines, which are searched each time.
    pub const fn few(form: Form, text: &[u8]) -> Names<'_> {
        Names { form, text, slots: &[], indexed: false }
    }

    /// How many slots make every look-up quick.
    pub fn slots(text: &[u8]) -> usize {
        text.iter().filter(|&&b| b == b'\n').count().saturating_add(1).saturating_mul(4)
    }

    /// `slots`: room for the index; any length will do.
    pub fn parse(form: Form, text: &'a [u8], slots: &'a mut [u32]) -> Names<'a> {
        slots.fill(0);
        let mut names = Names { form, text, slots: &[], indexed: text.len() < BY_ALIAS as usize };
        let mut free = slots.len() / 2;
        let mut rest = text;
        while names.indexed && !rest.is_empty() {
            let offset = (text.len() - rest.len()) as u32;
            let (line, next) = split_line(rest);
            rest = next;
            let Some((wwid, alias)) = form.parse(line) else { continue };
            for (name, mark) in [(wwid, 0), (alias, BY_ALIAS)] {
                if name.is_empty() {
                    continue;
                }
                let found = slot(slots, hash(&[Some(name)]), |other| {
                    names.name_at(other) == Some((name, other & BY_ALIAS)) && other & BY_ALIAS == mark
                });
                match found {
                    // The first line that gives a name counts.
                    Some((_, Some(_))) if free > 0 => {}
                    Some((at, None)) if free > 0 => {
                        if let Some(slot) = slots.get_mut(at) {
                            *slot = (offset | mark) + 1;
                        }
                        free -= 1;
                    }
                    _ => names.indexed = false,
                }
            }
        }
        names.slots = slots;
        names
    }

    /// The name that a slot stands for.
    fn name_at(&self, slot: u32) -> Option<(&'a str, u32)> {
        let mark = slot & BY_ALIAS;
        let (wwid, alias) = self.line_at((slot & !BY_ALIAS) as usize)?;
        Some((if mark == 0 { wwid } else { alias }, mark))
    }
    fn line_at(&self, offset: usize) -> Option<(&'a str, &'a str)> {
        self.form.parse(split_line(self.text.get(offset..)?).0)
    }

    fn find(&self, name: &str, mark: u32) -> Option<(&'a str, &'a str)> {
        if name.is_empty() {
            return None;
        }
        if !self.indexed {
            return self.iter().find(|(wwid, alias)| *(if mark == 0 { wwid } else { alias }) == name);
        }
        let (_, found) = slot(self.slots, hash(&[Some(name)]), |other| self.name_at(other) == Some((name, mark)))?;
        self.line_at((found? & !BY_ALIAS) as usize)
    }

    pub fn contains(&self, wwid: &str) -> bool {
        self.find(wwid, 0).is_some()
    }
    /// The alias bound to `wwid`: the first one if several lines bind it.
    pub fn alias(&self, wwid: &str) -> Option<&'a str> {
        self.find(wwid, 0).map(|(_, alias)| alias).filter(|alias| !alias.is_empty())
    }
    /// The WWID that has `alias`.
    pub fn wwid(&self, alias: &str) -> Option<&'a str> {
        self.find(alias, BY_ALIAS).map(|(wwid, _)| wwid)
    }
    /// All lines that say something: WWID and alias.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let form = self.form;
        self.text.split(|&b| b == b'\n').filter_map(move |line| form.parse(line))
    }
}

/// Takes those of the lines `text` away that name `wwid` or `alias`; how many bytes are left, at the front, and whether one of them
/// said something else than that the two belong together.
pub fn leave_out(form: Form, text: &mut [u8], wwid: &str, alias: &str) -> (usize, bool) {
    let (mut from, mut left, mut other) = (0, 0, false);
    while let Some(rest @ [_, ..]) = text.get(from..) {
        let length = rest.len() - split_line(rest).1.len();
        let mine = form.parse(split_line(rest).0);
        if mine.is_some_and(|(w, a)| w == wwid || !a.is_empty() && a == alias) {
            other |= mine != Some((wwid, alias));
        } else {
            crate::order::move_to(text, left, from..from + length);
            left += length;
        }
        from += length;
    }
    (left, other)
}

fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|&b| b == b'\n') {
        Some(end) => (text.get(..end).unwrap_or_default(), text.get(end + 1..).unwrap_or_default()),
        None => (text, &[]),
    }
}

/// What a new file starts with.
pub fn emit_header(out: &mut dyn Write, form: Form) -> Printed {
    out.write_str(match form {
        Form::Bindings => {
            "# Multipath bindings: one alias and its WWID a line.\n# Written by corepath; a line may be added or removed by hand.\n"
        }
        Form::Wwids => {
            "# WWIDs of multipath devices, each between slashes.\n# Written by corepath; a line may be added or removed by hand.\n"
        }
    })
}

/// One line. An alias or WWID that could not be read back is the caller's mistake and gives an error, with nothing written.
pub fn emit(out: &mut dyn Write, form: Form, wwid: &str, alias: &str) -> Printed {
    let clean = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'/');
    if !clean(wwid) || (form == Form::Bindings && !clean(alias)) {
        return Err(core::fmt::Error);
    }
    let (first, middle, last, end) = match form {
        Form::Bindings => (alias, " ", wwid, "\n"),
        Form::Wwids => ("/", wwid, "/", "\n"),
    };
    [first, middle, last, end].iter().try_for_each(|part| out.write_str(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec;

    #[test]
    fn bindings() {
        let text = b"# alias wwid\nmpatha W1\n\nmpathb\nmpathc W2 # root\nmpathd W1\nmpatha W3\na/b W4\nx\xff W5\n";
        for room in [0, 1, 5, Names::slots(text)] {
            let mut slots = vec![7; room];
            let names = Names::parse(Form::Bindings, text, &mut slots);
            assert_eq!(names.alias("W1"), Some("mpatha"), "{room} slots");
            assert_eq!(names.alias("W2"), Some("mpathc"));
            assert_eq!(names.alias("W4"), None);
            assert_eq!(names.alias(""), None);
            assert_eq!(names.wwid("mpatha"), Some("W1"));
            assert_eq!(names.wwid("mpathd"), Some("W1"));
            assert_eq!(names.wwid("mpathb"), None);
            assert_eq!(names.iter().count(), 4);
        }
    }

    #[test]
    fn wwids() {
        let text = b"# x\n/36001/\n/36002\n36003\n//\n  /36004/  \n";
        let mut slots = vec![0; Names::slots(text)];
        let names = Names::parse(Form::Wwids, text, &mut slots);
        assert!(names.contains("36001") && names.contains("36004"));
        assert!(!names.contains("36002") && !names.contains("36003") && !names.contains(""));
        assert_eq!(names.alias("36001"), None);
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut text = String::new();
        emit_header(&mut text, Form::Bindings).unwrap();
        emit(&mut text, Form::Bindings, "3600a", "mpatha").unwrap();
        assert!(emit(&mut text, Form::Bindings, "3600a", "a b").is_err());
        assert!(emit(&mut text, Form::Bindings, "36/0", "a").is_err());
        assert_eq!(Names::parse(Form::Bindings, text.as_bytes(), &mut []).alias("3600a"), Some("mpatha"));
        let mut text = String::new();
        emit_header(&mut text, Form::Wwids).unwrap();
        emit(&mut text, Form::Wwids, "3600a", "").unwrap();
        assert!(text.ends_with("\n/3600a/\n"));
        assert!(Names::parse(Form::Wwids, text.as_bytes(), &mut []).contains("3600a"));
    }

    #[test]
    fn what_is_there_already_is_left_out() {
        let left = |wwid, alias| {
            let mut text = *b"mpatha W1\nmpathb W2\nmpathc W3";
            let (length, other) = leave_out(Form::Bindings, &mut text, wwid, alias);
            (String::from_utf8(text[..length].to_vec()).unwrap(), other)
        };
        assert_eq!(left("W1", "mpatha"), ("mpathb W2\nmpathc W3".into(), false));
        assert_eq!(left("W3", "x"), ("mpatha W1\nmpathb W2\n".into(), true));
        assert_eq!(left("W1", "mpathc"), ("mpathb W2\n".into(), true));
        assert_eq!(left("W4", "mpathd"), ("mpatha W1\nmpathb W2\nmpathc W3".into(), false));
    }

    proptest::proptest! {
        #[test]
        fn index_equals_search(text: std::vec::Vec<u8>, words in proptest::collection::vec("[ab]{1,2} [WX]{1,2}\n", 0..20)) {
            let mut bytes = words.concat().into_bytes();
            bytes.extend(&text);
            let mut slots = vec![0; Names::slots(&bytes)];
            let indexed = Names::parse(Form::Bindings, &bytes, &mut slots);
            let searched = Names::parse(Form::Bindings, &bytes, &mut []);
            for name in ["a", "b", "ab", "W", "X", "WX", "XX"] {
                proptest::prop_assert_eq!(indexed.alias(name), searched.alias(name));
                proptest::prop_assert_eq!(indexed.wwid(name), searched.wwid(name));
            }
        }
    }
}
