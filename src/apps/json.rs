//! The peer's JSON document (version 0.1, same keys, same order) with strings escaped, and the writer every other document uses.

use super::columns::{failback_column, lun_hex, or_unknown, queueing, sysfs_name};
use super::view::{View, dm_word, group_word, sys_word};
use core::fmt::{self, Write};

/// Escapes what passes through (RFC 8259 section 7).
struct Escape<'a>(&'a mut dyn Write);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' => self.0.write_str("\\\"")?,
                '\\' => self.0.write_str("\\\\")?,
                '\n' => self.0.write_str("\\n")?,
                '\t' => self.0.write_str("\\t")?,
                c if (c as u32) < 0x20 => write!(self.0, "\\u{:04x}", c as u8)?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Streams one document: keeps the commas and the indentation right, holds nothing back.
pub struct Json<'a> {
    out: &'a mut dyn Write,
    depth: u8,
    first: bool,
}

impl<'a> Json<'a> {
    pub fn new(out: &'a mut dyn Write) -> Json<'a> {
        Json { out, depth: 0, first: true }
    }

    fn separate(&mut self) -> fmt::Result {
        if self.depth > 0 {
            self.out.write_str(if self.first { "\n" } else { ",\n" })?;
            for _ in 0..self.depth {
                self.out.write_str("   ")?;
            }
        }
        self.first = false;
        Ok(())
    }

    fn key(&mut self, key: &str) -> fmt::Result {
        self.separate()?;
        if !key.is_empty() {
            write!(self.out, "\"{key}\": ")?;
        }
        Ok(())
    }

    /// Opens `{` or `[`; an empty key for an element of an array.
    pub fn open(&mut self, key: &str, bracket: char) -> fmt::Result {
        self.key(key)?;
        self.out.write_char(bracket)?;
        self.depth += 1;
        self.first = true;
        Ok(())
    }

    pub fn close(&mut self, bracket: char) -> fmt::Result {
        self.depth = self.depth.saturating_sub(1);
        if !self.first {
            self.out.write_char('\n')?;
            for _ in 0..self.depth {
                self.out.write_str("   ")?;
            }
        }
        self.first = false;
        self.out.write_char(bracket)?;
        if self.depth == 0 { self.out.write_char('\n') } else { Ok(()) }
    }

    pub fn text(&mut self, key: &str, value: &str) -> fmt::Result {
        self.with(key, &|out| out.write_str(value))
    }

    /// A string value written by `write`.
    pub fn with(&mut self, key: &str, write: &dyn Fn(&mut dyn Write) -> fmt::Result) -> fmt::Result {
        self.key(key)?;
        self.out.write_char('"')?;
        write(&mut Escape(self.out))?;
        self.out.write_char('"')
    }

    pub fn number(&mut self, key: &str, value: i64) -> fmt::Result {
        self.key(key)?;
        // By its sign: no other number of this size is written.
        self.out.write_str(if value < 0 { "-" } else { "" })?;
        write!(self.out, "{}", value.unsigned_abs())
    }

    pub fn boolean(&mut self, key: &str, value: bool) -> fmt::Result {
        self.key(key)?;
        self.out.write_str(if value { "true" } else { "false" })
    }
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

/// All maps (`maps` array), or the one at position `only` (`map` object).
pub fn maps(view: &dyn View, only: Option<usize>, out: &mut dyn Write) -> fmt::Result {
    let json = &mut Json::new(out);
    json.open("", '{')?;
    json.number("major_version", 0)?;
    json.number("minor_version", 1)?;
    match only {
        Some(map) => one(view, map, "map", json)?,
        None => {
            json.open("maps", '[')?;
            for map in 0..view.maps() {
                one(view, map, "", json)?;
            }
            json.close(']')?;
        }
    }
    json.close('}')
}

#[inline(never)]
fn one(view: &dyn View, map: usize, key: &str, json: &mut Json<'_>) -> fmt::Result {
    let m = view.map(map);
    json.open(key, '{')?;
    json.text("name", m.name)?;
    json.text("uuid", m.wwid)?;
    json.with("sysfs", &|o| sysfs_name(&m, o))?;
    json.with("failback", &|o| failback_column(&m, o))?;
    json.with("queueing", &|o| queueing(&m, o))?;
    json.number("paths", i64::from(m.usable))?;
    json.text("write_prot", if m.read_only { "ro" } else { "rw" })?;
    json.text("dm_st", if m.suspended { "suspend" } else { "active" })?;
    json.text("features", &m.features)?;
    json.text("hwhandler", &m.handler)?;
    json.text("action", m.action)?;
    json.number("path_faults", i64::from(m.path_faults))?;
    json.text("vend", or_unknown(m.vendor))?;
    json.text("prod", or_unknown(m.product))?;
    json.text("rev", or_unknown(m.revision))?;
    json.number("switch_grp", i64::from(m.group_switches))?;
    json.number("map_loads", i64::from(m.loads))?;
    json.number("total_q_time", i64::from(m.queue_seconds))?;
    json.number("q_timeouts", i64::from(m.queue_timeouts))?;
    json.open("path_groups", '[')?;
    for g in 0..view.groups(map) {
        let group = view.group(map, g);
        json.open("", '{')?;
        json.text("selector", group.selector)?;
        json.number("pri", i64::from(group.prio))?;
        json.text("dm_st", group_word(group.state))?;
        json.text("marginal_st", if group.marginal { "marginal" } else { "normal" })?;
        json.number("group", g as i64 + 1)?;
        json.open("paths", '[')?;
        for p in 0..group.paths {
            let path = view.group_path(map, g, p);
            json.open("", '{')?;
            json.text("dev", path.name)?;
            json.with("dev_t", &|o| write!(o, "{}", path.devno))?;
            json.text("dm_st", dm_word(path.dm))?;
            json.text("dev_st", sys_word(path.sys_state))?;
            json.text("chk_st", path.state.word())?;
            json.text("checker", path.checker)?;
            json.number("pri", i64::from(path.prio.0))?;
            json.text("host_wwnn", or(path.host_node, "[undef]"))?;
            json.text("target_wwnn", or(path.target_node, "[undef]"))?;
            json.text("host_wwpn", or(path.host_port, "[undef]"))?;
            json.text("target_wwpn", or(path.target_port, "[undef]"))?;
            json.text("host_adapter", or(path.adapter, "[undef]"))?;
            json.with("lun_hex", &|o| lun_hex(&path, o))?;
            json.text("marginal_st", if path.marginal { "marginal" } else { "normal" })?;
            json.close('}')?;
        }
        json.close(']')?;
        json.close('}')?;
    }
    json.close(']')?;
    json.close('}')
}

#[cfg(test)]
mod tests {
    use super::super::view::fixture::Fixture;
    use super::*;
    use std::string::String;

    #[test]
    fn a_strict_parser_reads_it_whatever_the_array_is_called() {
        let mut out = String::new();
        maps(&Fixture, None, &mut out).unwrap();
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        let map = &document["maps"][0];
        assert_eq!(map["prod"], "Disk \"7\"");
        assert_eq!(map["path_groups"][0]["paths"][1]["chk_st"], "faulty");
        assert_eq!(map["path_groups"][1]["group"], 2);
        assert_eq!(map["path_groups"][1]["paths"][0]["lun_hex"], "0x0001000000000000");
        let mut out = String::new();
        maps(&Fixture, Some(0), &mut out).unwrap();
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(document["map"]["uuid"], "3600a");
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut out = String::new();
        let json = &mut Json::new(&mut out);
        json.open("", '{').unwrap();
        json.text("k", "a\u{1}\\\"\n").unwrap();
        json.close('}').unwrap();
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(document["k"], "a\u{1}\\\"\n");
    }
}
