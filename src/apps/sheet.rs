//! Named facts, written once for both readers: for people one line per section (`vpd c0    sp A, port 1`), for programs one document.
//!
//! Holds nothing back, so a page of any length needs no memory. What is empty is left out of the lines, and is there in the document.
//! Nothing returns an error: the console keeps it, and the exit status tells.

use super::json::Json;
use core::fmt::{self, Arguments, Result, Write};

pub enum Sheet<'a> {
    /// True: the line has something on it.
    Text(&'a mut dyn Write, bool),
    Document(Json<'a>),
}

impl Sheet<'_> {
    fn bracket(&mut self, open: bool, name: &str, bracket: char) {
        if let Sheet::Document(json) = self {
            let _ = if open { json.open(name, bracket) } else { json.close(bracket) };
        }
    }

    /// Before the first section.
    pub fn begin(&mut self) {
        self.bracket(true, "", '{');
    }

    /// After the last.
    pub fn finish(&mut self) {
        self.bracket(false, "", '}');
    }

    /// Several sections of one kind.
    pub fn list(&mut self, name: &str) {
        self.bracket(true, name, '[');
    }

    pub fn end(&mut self) {
        self.bracket(false, "", ']');
    }

    /// Begins a section; `element`: one in a [`Sheet::list`].
    #[inline(never)]
    pub fn open(&mut self, name: &str, element: bool) {
        if let Sheet::Text(out, begun) = self {
            *begun = false;
            let _ = write!(out, "{name:<9}");
        }
        self.bracket(true, if element { "" } else { name }, '{');
    }

    #[inline(never)]
    pub fn close(&mut self) {
        if let Sheet::Text(out, _) = self {
            let _ = out.write_char('\n');
        }
        self.bracket(false, "", '}');
    }

    #[inline(never)]
    pub fn put(&mut self, key: &str, value: Arguments<'_>) {
        let _ = match self {
            Sheet::Text(out, begun) => {
                let _ = out.write_str(if core::mem::replace(begun, true) { ", " } else { " " });
                // An underscore is for programs.
                for word in key.split('_') {
                    let _ = write!(out, "{word} ");
                }
                out.write_fmt(value)
            }
            Sheet::Document(json) => json.with(key, &|out| out.write_fmt(value)),
        };
    }

    /// Text that may be empty.
    #[inline(never)]
    pub fn text(&mut self, key: &str, value: &str) {
        if !(value.is_empty() && matches!(self, Sheet::Text(..))) {
            self.put(key, format_args!("{value}"));
        }
    }

    #[inline(never)]
    pub fn number(&mut self, key: &str, value: i32) {
        match self {
            Sheet::Text(..) => self.put(key, format_args!("{value}")),
            Sheet::Document(json) => drop(json.number(key, i64::from(value))),
        }
    }

    #[inline(never)]
    pub fn flag(&mut self, key: &str, value: bool) {
        match self {
            Sheet::Text(..) => self.text(key, if value { "yes" } else { "no" }),
            Sheet::Document(json) => drop(json.boolean(key, value)),
        }
    }

    /// A value that a function writes; a colon or blank in front, as reasons have it, is dropped.
    pub fn with(&mut self, key: &str, value: &dyn Fn(&mut dyn Write) -> Result) {
        self.put(key, format_args!("{}", Written(value)));
    }
}

/// What a function writes, as a value to be formatted.
pub struct Written<'a>(pub &'a dyn Fn(&mut dyn Write) -> Result);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> Result {
        (self.0)(&mut Bare(f, false))
    }
}

struct Bare<'a, 'b>(&'a mut fmt::Formatter<'b>, bool);

impl Write for Bare<'_, '_> {
    fn write_str(&mut self, text: &str) -> Result {
        let begun = core::mem::replace(&mut self.1, true);
        self.0.write_str(if begun { text } else { text.trim_start_matches([':', ' ']) })
    }
}

/// Bytes as hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn fill(sheet: &mut Sheet<'_>) {
        sheet.begin();
        sheet.list("groups");
        for id in [1, 2] {
            sheet.open("group", true);
            sheet.number("id", id);
            sheet.with("is_so", &|o| write!(o, ": \"{}\"", Hex(&[0xc, 0xff])));
            sheet.text("name", "");
            sheet.flag("here", id == 1);
            sheet.close();
        }
        sheet.end();
        sheet.finish();
    }

    #[test]
    fn one_text_for_both() {
        let mut lines = String::new();
        fill(&mut Sheet::Text(&mut lines, false));
        assert_eq!(lines, "group     id 1, is so \"0cff\", here yes\ngroup     id 2, is so \"0cff\", here no\n");
        let mut document = String::new();
        fill(&mut Sheet::Document(Json::new(&mut document)));
        let value: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(value["groups"][1], serde_json::json!({"id": 2, "is_so": "\"0cff\"", "name": "", "here": false}));
    }
}
