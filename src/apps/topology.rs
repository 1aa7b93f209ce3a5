//! The tree people know from `multipath -ll`: map, size line, groups, paths.

use super::columns::{size, sysfs_name, vendor_product};
use super::view::{View, dm_word, group_word, sys_word};
use core::fmt::{self, Write};

/// Bold and colours, for a terminal; plain text otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    pub colour: bool,
}

impl Style {
    pub const PLAIN: Style = Style { colour: false };

    fn bold(self) -> (&'static str, &'static str) {
        if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") }
    }
}

/// Widths of the path columns, over all paths shown, so that the eye can run down.
#[derive(Default)]
struct Widths {
    hctl: usize,
    name: usize,
    devno: usize,
    dm: usize,
    state: usize,
}

struct Counter(usize);

impl Write for Counter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

fn length(value: fmt::Arguments<'_>) -> usize {
    let mut counter = Counter(0);
    let _ = counter.write_fmt(value);
    counter.0
}

fn widths(view: &dyn View, only: Option<usize>) -> Widths {
    let mut w = Widths::default();
    for map in only.map_or(0..view.maps(), |m| m..m + 1) {
        for group in 0..view.groups(map) {
            for path in 0..view.group(map, group).paths {
                let p = view.group_path(map, group, path);
                w.hctl = w.hctl.max(p.hctl.map_or(7, |h| length(format_args!("{h}"))));
                w.name = w.name.max(p.name.len());
                w.devno = w.devno.max(length(format_args!("{}", p.devno)));
                w.dm = w.dm.max(dm_word(p.dm).len());
                w.state = w.state.max(p.state.word().len());
            }
        }
    }
    w
}

fn padded(out: &mut dyn Write, value: fmt::Arguments<'_>, width: usize) -> fmt::Result {
    let used = length(value);
    out.write_fmt(value)?;
    for _ in used..=width {
        out.write_char(' ')?;
    }
    Ok(())
}

/// All maps, or the one at position `only`.
#[inline(never)]
pub fn tree(view: &dyn View, only: Option<usize>, style: Style, out: &mut dyn Write) -> fmt::Result {
    let widths = widths(view, only);
    for map in only.map_or(0..view.maps(), |m| m..m + 1) {
        one(view, map, &widths, style, out)?;
    }
    Ok(())
}

#[inline(never)]
fn one(view: &dyn View, map: usize, widths: &Widths, style: Style, out: &mut dyn Write) -> fmt::Result {
    let row = view.map(map);
    let (on, off) = style.bold();
    if !row.action.is_empty() {
        write!(out, "{}: ", row.action)?;
    }
    write!(out, "{on}{}{off}", row.name)?;
    if row.name != row.wwid {
        write!(out, " ({})", row.wwid)?;
    }
    out.write_char(' ')?;
    sysfs_name(&row, out)?;
    out.write_char(' ')?;
    vendor_product(&row, out)?;
    out.write_str("\nsize=")?;
    size(row.size, out)?;
    writeln!(out, " features='{}' hwhandler='{}' wp={}", row.features, row.handler, if row.read_only { "ro" } else { "rw" })?;
    let groups = view.groups(map);
    for g in 0..groups {
        let group = view.group(map, g);
        let last_group = g + 1 == groups;
        let corner = if last_group { "`" } else { "|" };
        writeln!(out, "{corner}-+- policy='{}' prio={} status={}", group.selector, group.prio, group_word(group.state))?;
        for p in 0..group.paths {
            let path = view.group_path(map, g, p);
            out.write_str(if last_group { "  " } else { "| " })?;
            out.write_str(if p + 1 == group.paths { "`- " } else { "|- " })?;
            match path.hctl {
                Some(hctl) => padded(out, format_args!("{hctl}"), widths.hctl)?,
                None => padded(out, format_args!("#:#:#:#"), widths.hctl)?,
            }
            padded(out, format_args!("{}", path.name), widths.name)?;
            padded(out, format_args!("{}", path.devno), widths.devno)?;
            padded(out, format_args!("{}", dm_word(path.dm)), widths.dm)?;
            padded(out, format_args!("{}", path.state.word()), widths.state)?;
            writeln!(out, "{}", sys_word(path.sys_state))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::view::fixture::Fixture;
    use super::*;
    use std::string::String;

    #[test]
    fn the_tree_people_know() {
        let mut out = String::new();
        tree(&Fixture, None, Style::PLAIN, &mut out).unwrap();
        assert_eq!(
            out,
            "mpatha (3600a) dm-3 ACME,Disk \"7\"\n\
             size=8.0M features='1 queue_if_no_path' hwhandler='1 alua' wp=rw\n\
             |-+- policy='service-time 0' prio=50 status=active\n\
             | |- 2:0:0:1 sda 8:0  active ready  running\n\
             | `- 3:0:0:1 sdb 8:16 failed faulty running\n\
             `-+- policy='service-time 0' prio=10 status=enabled\n  \
               `- 4:0:0:1 sdc 8:32 active ready  running\n"
        );
    }
}
