//! The built-in array table: src/conf/arrays.conf, compiled by build.rs into constant data.
//!
//! Holds no reference but one, so it costs neither relocations nor memory of its own. The text it was made from is not in the binary;
//! a test proves that both say the same.

use super::ere::{self, Code, Program, Set};
use super::keyword::{INFINITY, KEYWORDS, Key, OFF};
use super::parse::Entry;
use super::value::Value;

/// One array: where its values stand, and the programs of its patterns.
pub struct Row {
    first: u16,
    count: u8,
    vendor: u8,
    product: u8,
    revision: u8,
    blacklist: u8,
}

/// One value: text at an offset, or a number when `len` is 255.
struct Cell {
    key: u8,
    len: u8,
    value: u16,
}

// Numbers of programs: this one says that the pattern is a literal, or that there is none.
const NO_PROGRAM: u8 = 255;

#[allow(clippy::all)]
mod data {
    use super::{Cell, Code, Row, Set};
    include!(concat!(env!("OUT_DIR"), "/arrays.rs"));
}
pub use data::ROWS;

impl Cell {
    fn value(&self) -> Value<'static> {
        if self.len == 255 {
            return Value::Number(match self.value {
                0xffff => INFINITY,
                code @ 0x8000.. => OFF + u32::from(code & 0x7fff),
                number => u32::from(number),
            });
        }
        let at = usize::from(self.value);
        Value::Text(data::TEXT.get(at..at + usize::from(self.len)).unwrap_or(""))
    }
}

impl Row {
    /// The values, in the order of the text.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = Entry<'static>> {
        let first = usize::from(self.first);
        let cells = data::CELLS.get(first..first + usize::from(self.count)).unwrap_or_default();
        cells.iter().filter_map(|cell| Some(Entry { key: KEYWORDS.get(usize::from(cell.key))?.key, line: 0, value: cell.value() }))
    }
    pub fn get(&self, key: Key) -> Option<Value<'static>> {
        self.entries().find(|entry| entry.key == key).map(|entry| entry.value)
    }
    pub fn text(&self, key: Key) -> Option<&'static str> {
        self.get(key).and_then(Value::text)
    }

    fn is_match(&self, key: Key, program: u8, text: &str) -> bool {
        let Some(&(first, len)) = data::PROGRAMS.get(usize::from(program)) else {
            return self.text(key).is_none_or(|pattern| ere::is_match(pattern.as_bytes(), text.as_bytes()));
        };
        let first = usize::from(first);
        let ops = data::OPS.get(first..first + usize::from(len)).unwrap_or_default();
        Program { ops, sets: &data::SETS }.is_match(text.as_bytes())
    }
    pub fn matches(&self, vendor: &str, product: &str, revision: &str) -> bool {
        self.is_match(Key::Vendor, self.vendor, vendor)
            && self.is_match(Key::Product, self.product, product)
            && self.is_match(Key::Revision, self.revision, revision)
    }
    /// Is this one of the vendor's products that are never paths?
    pub fn blacklists(&self, vendor: &str, product: &str) -> bool {
        (self.blacklist != NO_PROGRAM || self.get(Key::ProductBlacklist).is_some())
            && self.is_match(Key::Vendor, self.vendor, vendor)
            && self.is_match(Key::ProductBlacklist, self.blacklist, product)
    }
}

#[cfg(test)]
mod tests {
    use super::super::complaint::Complaint;
    use super::super::keyword::Place;
    use super::super::parse::{Room, Section, Source, parse, run};
    use super::*;
    use std::vec;

    /// The compiled table and the text it was made from say the same, value by value and pattern by pattern.
    #[test]
    fn compiled_equals_text() {
        let files = [Source { name: "arrays.conf", text: include_bytes!("arrays.conf") }];
        let lines = Room::lines(&files);
        let (mut sections, mut entries) = (vec![Section::EMPTY; lines], vec![Entry::EMPTY; lines]);
        let (mut slots, mut text) = (vec![0; 4 * lines], vec![0; Room::quoted(&files)]);
        let mut complaints = [Complaint::EMPTY; 1];
        let room = Room { sections: &mut sections, entries: &mut entries, slots: &mut slots, text: &mut text, complaints: &mut complaints };
        let parsed = parse(&files, room);
        assert_eq!(parsed.report.kept, []);
        assert_eq!(parsed.sections.len(), 137);
        assert_eq!(ROWS.len(), 137);
        for (section, row) in parsed.sections.iter().zip(&ROWS) {
            assert_eq!(section.place, Place::Device);
            let texts: vec::Vec<_> = run(parsed.entries, section).iter().map(|e| (e.key, e.value)).collect();
            let compiled: vec::Vec<_> = row.entries().map(|e| (e.key, e.value)).collect();
            assert_eq!(texts, compiled);
        }
        // Programs: the compiled one and the pattern itself agree on every product that some row names, and on odd ones.
        let mut samples: vec::Vec<&str> =
            ROWS.iter().flat_map(|r| [r.text(Key::Vendor), r.text(Key::Product), r.text(Key::ProductBlacklist)]).flatten().collect();
        samples.extend(["", "HP", "MSA2312fc", "VRAID", "ETERNUS_DXL", "IBM  2145", "DD4A-X", "(", "Universal Xport"]);
        for row in &ROWS {
            for (key, program) in [(Key::Vendor, row.vendor), (Key::Product, row.product), (Key::ProductBlacklist, row.blacklist)] {
                let Some(pattern) = row.text(key) else { continue };
                for sample in &samples {
                    let plain = ere::is_match(pattern.as_bytes(), sample.as_bytes());
                    assert_eq!(row.is_match(key, program, sample), plain, "{pattern} on {sample}");
                }
            }
        }
    }

    #[test]
    fn rows_match() {
        let find = |vendor, product| ROWS.iter().rposition(|row| row.matches(vendor, product, "")).map(|i| i + 1);
        assert_eq!(find("EMC", "SYMMETRIX"), Some(27));
        assert_eq!(find("LIO-ORG", "disk0"), Some(ROWS.iter().position(|r| r.text(Key::Vendor) == Some("(LIO-ORG|SUSE)")).unwrap() + 1));
        assert_eq!(find("ATA", "WDC WD40"), None);
        assert!(ROWS.iter().any(|row| row.blacklists("DGC", "LUNZ")));
        assert!(!ROWS.iter().any(|row| row.blacklists("DGC", "VRAID")));
    }

    /// What the table costs in the binary.
    #[test]
    fn size() {
        let bytes = size_of_val(&ROWS)
            + size_of_val(&data::CELLS)
            + size_of_val(&data::PROGRAMS)
            + size_of_val(&data::OPS)
            + size_of_val(&data::SETS)
            + data::TEXT.len();
        std::println!("array table: {bytes} bytes");
        assert!(bytes < 20_000, "{bytes}");
    }
}
