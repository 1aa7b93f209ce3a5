//! `status` in its forms: a screen for people, JSON, metrics, and the peer's `show status`. From memory, always.

use super::state::State;
use crate::apps::columns;
use crate::apps::json::Json;
use crate::apps::say;
use crate::apps::view::{MapRow, View, group_word};
use crate::engine::{MapView, Outage, PathView};
use crate::failback::Hold;
use crate::lockdown::STEPS;
use crate::model::PathState;
use core::fmt::{self, Write};

/// The screen.
#[inline(never)]
pub fn text(state: &State<'_>, out: &mut dyn Write) -> fmt::Result {
    let engine = state.view.engine;
    let up = state.view.now.since(state.started).as_secs();
    writeln!(
        out,
        "corepath {} pid {} {} for {up} s: {} maps, {} paths, {} of {} workers busy, tables {} KiB",
        env!("CARGO_PKG_VERSION"),
        state.pid,
        state.phase,
        engine.maps().filter(MapView::live).count(),
        engine.paths().count(),
        state.workers.0,
        state.workers.1,
        state.memory / 1024,
    )?;
    out.write_str("seal:")?;
    for (step, word) in STEPS {
        match state.seal.result(step) {
            None => write!(out, " {word}=not-yet")?,
            Some(Ok(())) => write!(out, " {word}=yes")?,
            Some(Err(errno)) => {
                write!(out, " {word}=NO(")?;
                say::errno(errno, out)?;
                out.write_str(")")?;
            }
        }
    }
    if let Some((minor, major)) = state.faults {
        write!(out, "\npage faults since the seal: {minor} minor, {major} major")?;
    }
    if state.errors > 0 {
        write!(out, "\nconfiguration: {} errors; 'corepath config --check' lists them", state.errors)?;
    }
    if state.outdated {
        out.write_str("\nconfiguration: its files have changed; 'corepath reconfigure' puts them in force")?;
    }
    if state.log_lost > 0 || state.clients_dropped > 0 {
        write!(out, "\nlost log lines: {}, clients let go: {}", state.log_lost, state.clients_dropped)?;
    }
    for (what, room) in [("paths", engine.path_room()), ("maps", engine.map_room())] {
        if room.refused > 0 {
            write!(out, "\nREFUSED: {} {what}, as there is room for {} only; start again with --paths", room.refused, room.size)?;
        }
    }
    out.write_str("\n")?;
    for map in 0..state.view.maps() {
        let row = state.view.map(map);
        write!(out, "\n{} ", row.name)?;
        columns::sysfs_name(&row, out)?;
        out.write_str(" ")?;
        columns::vendor_product(&row, out)?;
        out.write_str(" ")?;
        columns::size(row.size, out)?;
        write!(out, ", {} usable, queueing ", row.usable)?;
        columns::queueing(&row, out)?;
        out.write_str(", failback ")?;
        columns::failback(&row, out)?;
        if row.suspended {
            out.write_str(", SUSPENDED")?;
        }
        if row.usable == 0 {
            out.write_str(match row.outage {
                Some(Outage::LunGone) => ", NO USABLE PATH: the array says the LUN is gone or inactive",
                Some(Outage::NoAnswer) => ", NO USABLE PATH: none answers",
                None => ", NO USABLE PATH",
            })?;
        }
        if let Some(secs) = row.activating {
            write!(out, ", ITS LUN IS BEING ACTIVATED for {secs} s")?;
        }
        if let Some(held) = row.held {
            let held = if held == Hold::Quarrel { "another host took the LUN back" } else { "an administrator chose" };
            write!(out, ", failback rests: {held}")?;
        }
        out.write_str("\n")?;
        for g in 0..state.view.groups(map) {
            let group = state.view.group(map, g);
            writeln!(out, "  group {} {} prio {}", g + 1, group_word(group.state), group.prio)?;
            for p in 0..group.paths {
                let path = state.view.group_path(map, g, p);
                write!(out, "    {:<8}", path.name)?;
                if let Some(hctl) = path.hctl {
                    write!(out, " {hctl}")?;
                }
                write!(out, " {} {}", crate::apps::view::dm_word(path.dm), path.state.word())?;
                if let Some((left, interval)) = path.next_check {
                    write!(out, ", next check in {left} of {interval} s")?;
                }
                if path.failures > 0 {
                    write!(out, ", failed {} times", path.failures)?;
                }
                out.write_str("\n")?;
            }
        }
    }
    Ok(())
}

/// The same as one document.
#[inline(never)]
pub fn json(state: &State<'_>, out: &mut dyn Write) -> fmt::Result {
    let engine = state.view.engine;
    let json = &mut Json::new(out);
    json.open("", '{')?;
    json.text("version", env!("CARGO_PKG_VERSION"))?;
    json.number("pid", i64::from(state.pid))?;
    json.text("phase", state.phase)?;
    json.number("seconds", state.view.now.since(state.started).as_secs() as i64)?;
    json.number("workers_busy", i64::from(state.workers.0))?;
    json.number("workers", state.workers.1 as i64)?;
    json.number("table_bytes", state.memory as i64)?;
    json.open("seal", '{')?;
    for (step, word) in STEPS {
        match state.seal.result(step) {
            None => json.text(word, "not-yet")?,
            Some(Ok(())) => json.text(word, "yes")?,
            Some(Err(errno)) => json.with(word, &|o| say::errno(errno, o))?,
        }
    }
    json.close('}')?;
    if let Some((minor, major)) = state.faults {
        json.number("minor_faults", minor as i64)?;
        json.number("major_faults", major as i64)?;
    }
    json.number("refused_paths", i64::from(engine.path_room().refused))?;
    json.number("refused_maps", i64::from(engine.map_room().refused))?;
    json.number("configuration_errors", i64::from(state.errors))?;
    json.boolean("configuration_changed", state.outdated)?;
    json.open("maps", '[')?;
    for map in 0..state.view.maps() {
        let row = state.view.map(map);
        json.open("", '{')?;
        json.text("name", row.name)?;
        json.text("wwid", row.wwid)?;
        json.with("device", &|o| columns::sysfs_name(&row, o))?;
        json.number("usable", i64::from(row.usable))?;
        json.boolean("suspended", row.suspended)?;
        if let Some(outage) = row.outage {
            json.text("outage", if outage == Outage::LunGone { "lun-gone" } else { "no-answer" })?;
        }
        if let Some(secs) = row.activating {
            json.number("activating_seconds", secs as i64)?;
        }
        json.boolean("quarrel", row.held == Some(Hold::Quarrel))?;
        json.with("queueing", &|o| columns::queueing(&row, o))?;
        json.open("groups", '[')?;
        for g in 0..state.view.groups(map) {
            let group = state.view.group(map, g);
            json.open("", '{')?;
            json.text("state", group_word(group.state))?;
            json.number("prio", i64::from(group.prio))?;
            json.open("paths", '[')?;
            for p in 0..group.paths {
                let path = state.view.group_path(map, g, p);
                json.open("", '{')?;
                json.text("dev", path.name)?;
                json.with("dev_t", &|o| write!(o, "{}", path.devno))?;
                json.text("dm", crate::apps::view::dm_word(path.dm))?;
                json.text("state", path.state.word())?;
                json.number("failures", i64::from(path.failures))?;
                json.close('}')?;
            }
            json.close(']')?;
            json.close('}')?;
        }
        json.close(']')?;
        json.close('}')?;
    }
    json.close(']')?;
    json.close('}')
}

/// The value of a label: a live map may have any name, and what is no value makes a scraper refuse the whole text.
fn label(value: &str, out: &mut dyn Write) -> fmt::Result {
    value.chars().try_for_each(|c| match c {
        '\n' => out.write_str("\\n"),
        '\\' | '"' => out.write_str("\\").and_then(|()| out.write_char(c)),
        _ => out.write_char(c),
    })
}

/// One sample of a family of which each map, or path `dev` of it, has one. The first tells the family's type.
fn sample(out: &mut dyn Write, first: &mut bool, family: &str, map: &str, dev: &str, value: u32) -> fmt::Result {
    if core::mem::take(first) {
        let kind = if family.ends_with("_total") { "counter" } else { "gauge" };
        writeln!(out, "# TYPE {family} {kind}")?;
    }
    write!(out, "{family}{{map=\"")?;
    label(map, out)?;
    if !dev.is_empty() {
        write!(out, "\",dev=\"{dev}")?;
    }
    writeln!(out, "\"}} {value}")
}

/// Text for a monitoring system that scrapes (the Prometheus exposition format): the samples of a family stand together.
pub fn metrics(state: &State<'_>, out: &mut dyn Write) -> fmt::Result {
    type Value<T> = fn(&T) -> u32;
    let families: [(&str, Value<MapRow<'_>>); 4] = [
        ("corepath_map_usable_paths", |map| map.usable),
        ("corepath_map_path_faults_total", |map| map.path_faults),
        ("corepath_map_group_switches_total", |map| map.group_switches),
        ("corepath_map_loads_total", |map| map.loads),
    ];
    for (family, value) in families {
        let mut first = true;
        for map in 0..state.view.maps() {
            let row = state.view.map(map);
            sample(out, &mut first, family, row.name, "", value(&row))?;
        }
    }
    let families: [(&str, Value<PathView<'_>>); 2] =
        [("corepath_path_up", |path| u32::from(path.usable())), ("corepath_path_failures_total", |path| path.failures())];
    for (family, value) in families {
        let mut first = true;
        for path in state.view.engine.paths() {
            if let Some(map) = path.map() {
                sample(out, &mut first, family, map.name(), path.name(), value(&path))?;
            }
        }
    }
    writeln!(
        out,
        "# TYPE corepath_workers_busy gauge\ncorepath_workers_busy {}\n# TYPE corepath_log_lines_lost_total counter\ncorepath_log_lines_lost_total {}",
        state.workers.0, state.log_lost
    )
}

/// The peer's `show status`.
pub fn peer(state: &State<'_>, out: &mut dyn Write) -> fmt::Result {
    out.write_str("path checker states:\n")?;
    let words = [
        (PathState::Up, "up"),
        (PathState::Down, "down"),
        (PathState::Shaky, "shaky"),
        (PathState::Ghost, "ghost"),
        (PathState::Pending, "pending"),
        (PathState::Timeout, "timeout"),
        (PathState::Delayed, "delayed"),
        (PathState::Disconnected, "disconnected"),
    ];
    let mine = || state.view.engine.paths().filter(|path| path.map().is_some());
    for (wanted, word) in words {
        let count = mine().filter(|path| path.state() == wanted).count();
        if count > 0 {
            writeln!(out, "{word:<20}{count}")?;
        }
    }
    writeln!(out, "\npaths: {}\nbusy: {}", mine().count(), if state.view.engine.settled() { "False" } else { "True" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn samples_can_be_scraped_whatever_a_map_is_called() {
        let (mut text, mut first) = (String::new(), true);
        for (map, dev) in [("mpatha", ""), ("a\\x20\"b\"\n\\", "sda")] {
            sample(&mut text, &mut first, "loads_total", map, dev, 3).unwrap();
        }
        let second = r#"loads_total{map="a\\x20\"b\"\n\\",dev="sda"} 3"#;
        assert_eq!(text, std::format!("# TYPE loads_total counter\nloads_total{{map=\"mpatha\"}} 3\n{second}\n"));
    }
}
