//! The wildcard formats of `show maps format ...` and `show paths format ...`: one row per wildcard with its header and writer.
//!
//! The peer's rules (docs/differences.md): an unknown wildcard drops both characters; a column is as wide as its widest value or
//! header, at most 255; every column is padded, the last one too; raw pads nothing and has no header.

use super::view::{MapRow, PathRow, Queueing, View, dm_word, sys_word};
use crate::conf::settings::Failback;
use crate::model::{PathState, Sectors, SysState, Tpgs};
use core::fmt::{self, Write};

/// Counts what is written, for the width of a column.
struct Counter(usize);

impl Write for Counter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

const WIDEST: usize = 255;
/// Most wildcards one format may hold; the rest is dropped like an unknown wildcard.
const COLUMNS: usize = 64;

/// `number` / 2^`bits`, halves to the even neighbour.
fn rounded(number: u64, bits: u32) -> u64 {
    let whole = number >> bits;
    whole + u64::from(((number - (whole << bits)) << 1) + (whole & 1) > 1 << bits)
}

/// A size as people read it: KiB base, one decimal below ten.
pub fn size(sectors: Sectors, out: &mut dyn Write) -> fmt::Result {
    let kib = sectors.0 >> 1;
    // The peer counts in 24 significant bits, so the last KiB before a TiB are a TiB.
    let lost = (u64::BITS - kib.leading_zeros()).saturating_sub(24);
    let kib = rounded(kib, lost) << lost;
    let unit = (kib.max(1).ilog2() / 10).min(4);
    let letter = ["K", "M", "G", "T", "P"][unit as usize];
    let bits = unit * 10;
    if kib < 10 << bits {
        let tenths = rounded(kib * 10, bits);
        return write!(out, "{}.{}{letter}", tenths / 10, tenths % 10);
    }
    write!(out, "{}{letter}", rounded(kib, bits))
}

fn or(text: &str, default: &'static str, out: &mut dyn Write) -> fmt::Result {
    out.write_str(if text.is_empty() { default } else { text })
}

/// What the peer prints for a vendor or product nobody told.
pub const fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "##" } else { text }
}

/// The failback column: while it counts, a bar of what is left.
pub fn failback_column(row: &MapRow<'_>, out: &mut dyn Write) -> fmt::Result {
    match (row.failback, row.failback_in) {
        (Failback::After(all), Some(left)) => progress(left, all, out),
        _ => failback(row, out),
    }
}

/// When the map goes back to its best group, in words.
pub fn failback(row: &MapRow<'_>, out: &mut dyn Write) -> fmt::Result {
    match (row.failback, row.failback_in) {
        (Failback::After(_), Some(left)) => write!(out, "in {left} sec"),
        (Failback::Manual, _) => out.write_str("manual"),
        (Failback::Immediate, _) => out.write_str("immediate"),
        (Failback::Followover, _) => out.write_str("followover"),
        (Failback::After(secs), None) => write!(out, "deferred:{secs}"),
    }
}

/// The queueing column.
pub fn queueing(row: &MapRow<'_>, out: &mut dyn Write) -> fmt::Result {
    match row.queueing {
        Queueing::Unset => out.write_str("-"),
        Queueing::Off => out.write_str("off"),
        Queueing::On => out.write_str("on"),
        Queueing::Seconds(n) => write!(out, "{n} sec"),
        Queueing::Checks(n) => write!(out, "{n} chk"),
    }
}

/// `dm-3`, or `undef` before the map exists.
pub fn sysfs_name(row: &MapRow<'_>, out: &mut dyn Write) -> fmt::Result {
    if row.devno.major == 0 { out.write_str("undef") } else { write!(out, "dm-{}", row.devno.minor) }
}

type MapWriter = fn(&MapRow<'_>, &mut dyn Write) -> fmt::Result;

/// Wildcards of maps.
#[rustfmt::skip]
pub const MAP_COLUMNS: &[(char, &str, MapWriter)] = &[
    ('n', "name", |m, o| o.write_str(m.name)),
    ('w', "uuid", |m, o| o.write_str(m.wwid)),
    ('d', "sysfs", sysfs_name),
    ('F', "failback", failback_column),
    ('Q', "queueing", queueing),
    ('N', "paths", |m, o| write!(o, "{}", m.usable)),
    ('r', "write_prot", |m, o| o.write_str(if m.read_only { "ro" } else { "rw" })),
    ('t', "dm-st", |m, o| o.write_str(if m.devno.major == 0 { "undef" } else if m.suspended { "suspend" } else { "active" })),
    ('S', "size", |m, o| size(m.size, o)),
    ('f', "features", |m, o| o.write_str(&m.features)),
    ('h', "hwhandler", |m, o| o.write_str(&m.handler)),
    ('A', "action", |m, o| o.write_str(m.action)),
    ('x', "failures", |m, o| write!(o, "{}", m.failures)),
    ('0', "path_faults", |m, o| write!(o, "{}", m.path_faults)),
    ('1', "switch_grp", |m, o| write!(o, "{}", m.group_switches)),
    ('2', "map_loads", |m, o| write!(o, "{}", m.loads)),
    ('3', "total_q_time", |m, o| write!(o, "{}", m.queue_seconds)),
    ('4', "q_timeouts", |m, o| write!(o, "{}", m.queue_timeouts)),
    ('s', "vend/prod/rev", |m, o| vendor_product(m, o)),
    ('v', "vend", |m, o| o.write_str(or_unknown(m.vendor))),
    ('p', "prod", |m, o| o.write_str(or_unknown(m.product))),
    ('e', "rev", |m, o| o.write_str(or_unknown(m.revision))),
    ('G', "foreign", |_, o| o.write_str("--")),
    ('g', "vpd page data", |_, o| o.write_str("[undef]")),
    ('k', "max_sectors_kb", |_, o| o.write_str("n/a")),
];

/// `vendor,product`, as the tree's first line has it.
pub fn vendor_product(row: &MapRow<'_>, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{},{}", or_unknown(row.vendor), or_unknown(row.product))
}

type PathWriter = fn(&PathRow<'_>, &mut dyn Write) -> fmt::Result;

fn hctl(p: &PathRow<'_>, out: &mut dyn Write) -> fmt::Result {
    match p.hctl {
        Some(hctl) => write!(out, "{hctl}"),
        None => out.write_str("#:#:#:#"),
    }
}

/// The LUN as the eight bytes of SAM-6 4.6: the kernel's number has the first two in its lowest 16 bits (`scsilun_to_int`).
pub fn lun_hex(p: &PathRow<'_>, out: &mut dyn Write) -> fmt::Result {
    let n = p.hctl.map_or(0, |hctl| hctl.lun);
    write!(out, "{:#018x}", n << 48 | (n >> 16 & 0xffff) << 32 | (n >> 32 & 0xffff) << 16 | n >> 48)
}

fn next_check(p: &PathRow<'_>, out: &mut dyn Write) -> fmt::Result {
    let Some((left, interval)) = p.next_check else { return out.write_str("orphan") };
    progress(left, interval, out)
}

/// `XXX....... 3/10`
fn progress(left: u32, all: u32, out: &mut dyn Write) -> fmt::Result {
    let bar = u64::from(left.min(all)) * 10 / u64::from(all.max(1));
    for i in 0..10 {
        out.write_str(if i < bar { "X" } else { "." })?;
    }
    write!(out, " {left}/{all}")
}

fn device_state(p: &PathRow<'_>, out: &mut dyn Write) -> fmt::Result {
    // Of an orphan the peer says neither this nor what its checker found.
    out.write_str(if p.map.is_none() { "unknown" } else { sys_word(p.sys_state) })
}

/// Wildcards of paths.
#[rustfmt::skip]
pub const PATH_COLUMNS: &[(char, &str, PathWriter)] = &[
    ('w', "uuid", |p, o| o.write_str(p.wwid)),
    ('i', "hcil", hctl),
    ('d', "dev", |p, o| or(p.name, "-", o)),
    ('D', "dev_t", |p, o| write!(o, "{}", p.devno)),
    ('t', "dm_st", |p, o| o.write_str(dm_word(p.dm))),
    ('o', "dev_st", device_state),
    ('T', "chk_st", |p, o| o.write_str(if p.map.is_none() { "undef" } else { p.state.word() })),
    ('s', "vend/prod/rev", |p, o| write!(o, "{},{},{}", or_unknown(p.vendor), or_unknown(p.product), or_unknown(p.revision))),
    ('c', "checker", |p, o| o.write_str(p.checker)),
    ('C', "next_check", next_check),
    ('p', "pri", |p, o| write!(o, "{}", p.prio.0)),
    ('S', "size", |p, o| size(p.size, o)),
    ('z', "serial", |p, o| o.write_str(p.serial)),
    ('M', "marginal_st", |p, o| o.write_str(if p.marginal { "marginal" } else { "normal" })),
    ('m', "multipath", |p, o| o.write_str(match p.map {
        Some(name) => name,
        None if matches!(p.sys_state, SysState::Offline | SysState::TransportOffline) => "[offline]",
        None if p.state == PathState::Removed => "[unknown]",
        None => "[orphan]",
    })),
    ('N', "host WWNN", |p, o| or(p.host_node, "[undef]", o)),
    ('n', "target WWNN", |p, o| or(p.target_node, "[undef]", o)),
    ('R', "host WWPN", |p, o| or(p.host_port, "[undef]", o)),
    ('r', "target WWPN", |p, o| or(p.target_port, "[undef]", o)),
    ('a', "host adapter", |p, o| or(p.adapter, "[undef]", o)),
    ('G', "foreign", |_, o| o.write_str("--")),
    ('g', "vpd page data", |_, o| o.write_str("[undef]")),
    ('0', "failures", |p, o| write!(o, "{}", p.failures)),
    ('P', "protocol", |p, o| o.write_str(p.protocol.word())),
    ('I', "init_st", |p, o| o.write_str(if p.partial { "partial" } else { "ok" })),
    ('L', "LUN hex", lun_hex),
    ('A', "TPG", |p, o| match (p.target_port_group, p.tpgs) {
        (Some(group), _) => write!(o, "{:#06x}", u64::from(group)),
        (None, Tpgs::Unknown) => o.write_str("[unknown]"),
        (None, _) => o.write_str("[undef]"),
    }),
    ('k', "max_sectors_kb", |_, o| o.write_str("n/a")),
];

/// Wildcards of groups: listed as the peer lists them; no command prints groups by a format.
const GROUP_COLUMNS: [(char, &str); 4] = [('s', "selector"), ('p', "pri"), ('t', "dm_st"), ('M', "marginal_st")];

/// Default formats of the peer's short commands.
pub const PATHS_DEFAULT: &str = "%i %d %D %p %t %T %o %C";
pub const MAPS_DEFAULT: &str = "%n %d %w";
pub const MAPS_STATUS: &str = "%n %F %Q %N %t %r";
pub const MAPS_STATS: &str = "%n %0 %1 %2 %3 %4";

/// Which dress a table wears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dress {
    /// Header and padding.
    Pretty,
    /// Padding, no header.
    Padded,
    /// Neither.
    Raw,
}

/// The pieces of a format: literal text, or a wildcard's row number.
enum Piece<'a> {
    Text(&'a str),
    Column(usize),
}

/// What a table asks about its columns, the same for maps and paths.
trait Columns {
    fn find(&self, letter: char) -> Option<usize>;
    fn title(&self, column: usize) -> &'static str;
}

impl<W> Columns for &[(char, &'static str, W)] {
    fn find(&self, letter: char) -> Option<usize> {
        self.iter().position(|(c, _, _)| *c == letter)
    }
    fn title(&self, column: usize) -> &'static str {
        self.get(column).map_or("", |(_, title, _)| title)
    }
}

/// Splits off the next piece; `None` at the end. Unknown wildcards vanish with their percent sign.
#[inline(never)]
fn next_piece<'a>(format: &mut &'a str, columns: &dyn Columns) -> Option<Piece<'a>> {
    loop {
        if format.is_empty() {
            return None;
        }
        let Some(rest) = format.strip_prefix('%') else {
            let end = format.find('%').unwrap_or(format.len());
            let (text, rest) = format.split_at_checked(end).unwrap_or((*format, ""));
            *format = rest;
            return Some(Piece::Text(text));
        };
        let mut letters = rest.chars();
        let letter = letters.next();
        *format = letters.as_str();
        if let Some(column) = letter.and_then(|letter| columns.find(letter)) {
            return Some(Piece::Column(column));
        }
    }
}

/// Writes `rows` rows of `format`. `cell(row, column, out)` writes one value.
#[inline(never)]
fn table(
    format: &str,
    columns: &dyn Columns,
    dress: Dress,
    rows: usize,
    cell: &dyn Fn(usize, usize, &mut dyn Write) -> fmt::Result,
    out: &mut dyn Write,
) -> fmt::Result {
    if rows == 0 {
        return Ok(());
    }
    let mut widths = [0usize; COLUMNS];
    if dress != Dress::Raw {
        let mut rest = format;
        while let Some(piece) = next_piece(&mut rest, columns) {
            let Piece::Column(column) = piece else { continue };
            let Some(known) = widths.get_mut(column).filter(|known| **known == 0) else { continue };
            let mut width = if dress == Dress::Pretty { columns.title(column).len() } else { 1 };
            for row in 0..rows {
                let mut counter = Counter(0);
                cell(row, column, &mut counter)?;
                width = width.max(counter.0);
            }
            *known = width.min(WIDEST);
        }
    }
    let pad = |used: usize, column: usize, out: &mut dyn Write| -> fmt::Result {
        for _ in used..widths.get(column).copied().unwrap_or(0) {
            out.write_char(' ')?;
        }
        Ok(())
    };
    if dress == Dress::Pretty {
        let mut rest = format;
        while let Some(piece) = next_piece(&mut rest, columns) {
            match piece {
                Piece::Text(text) => out.write_str(text)?,
                Piece::Column(column) => {
                    let title = columns.title(column);
                    out.write_str(title)?;
                    pad(title.len(), column, out)?;
                }
            }
        }
        out.write_char('\n')?;
    }
    for row in 0..rows {
        let mut rest = format;
        while let Some(piece) = next_piece(&mut rest, columns) {
            match piece {
                Piece::Text(text) => out.write_str(text)?,
                Piece::Column(column) => {
                    let mut counter = Counter(0);
                    cell(row, column, &mut counter)?;
                    cell(row, column, out)?;
                    if dress != Dress::Raw {
                        pad(counter.0, column, out)?;
                    }
                }
            }
        }
        out.write_char('\n')?;
    }
    Ok(())
}

/// All maps, or the one at position `only`.
#[inline(never)]
pub fn maps(view: &dyn View, only: Option<usize>, format: &str, dress: Dress, out: &mut dyn Write) -> fmt::Result {
    let rows = if only.is_some() { 1 } else { view.maps() };
    table(
        format,
        &MAP_COLUMNS,
        dress,
        rows,
        &|row, column, out| match MAP_COLUMNS.get(column) {
            Some((_, _, write)) => write(&view.map(only.unwrap_or(row)), out),
            None => Ok(()),
        },
        out,
    )
}

/// All paths.
#[inline(never)]
pub fn paths(view: &dyn View, format: &str, dress: Dress, out: &mut dyn Write) -> fmt::Result {
    table(
        format,
        &PATH_COLUMNS,
        dress,
        view.paths(),
        &|row, column, out| match PATH_COLUMNS.get(column) {
            Some((_, _, write)) => write(&view.path(row), out),
            None => Ok(()),
        },
        out,
    )
}

/// The list of wildcards, as `show wildcards` prints it.
#[inline(never)]
pub fn wildcards(out: &mut dyn Write) -> fmt::Result {
    out.write_str("multipath format wildcards:\n")?;
    MAP_COLUMNS.iter().try_for_each(|(letter, name, _)| wildcard(*letter, name, out))?;
    out.write_str("\npath format wildcards:\n")?;
    PATH_COLUMNS.iter().try_for_each(|(letter, name, _)| wildcard(*letter, name, out))?;
    out.write_str("\npathgroup format wildcards:\n")?;
    GROUP_COLUMNS.iter().try_for_each(|(letter, name)| wildcard(*letter, name, out))
}

fn wildcard(letter: char, name: &str, out: &mut dyn Write) -> fmt::Result {
    out.write_char('%')?;
    out.write_char(letter)?;
    writeln!(out, "  {name}")
}

#[cfg(test)]
mod tests {
    use super::super::view::fixture::Fixture;
    use super::*;
    use crate::model::Hctl;
    use std::format;
    use std::string::String;

    fn text(f: impl FnOnce(&mut dyn Write) -> fmt::Result) -> String {
        let mut out = String::new();
        f(&mut out).unwrap();
        out
    }

    #[test]
    fn sizes_as_people_read_them() {
        for (sectors, expected) in
            [(16384, "8.0M"), (15_628_053_168, "7.3T"), (11_721_045_168, "5.5T"), ((1 << 31) - 2, "1.0T"), (u64::MAX, "8388608P")]
        {
            assert_eq!(text(|o| size(Sectors(sectors), o)), expected, "{sectors}");
        }
    }

    /// tests/vectors/misc_format.json, kinds size_from_sectors and lun_hex.
    #[test]
    fn vectors() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors/misc_format.json")).unwrap();
        let mut seen = [0; 2];
        for vector in file["vectors"].as_array().unwrap() {
            let (expected, ours) = match vector["kind"].as_str().unwrap() {
                "size_from_sectors" => {
                    seen[0] += 1;
                    (&vector["expected"]["size"], text(|o| size(Sectors(vector["input"].as_u64().unwrap()), o)))
                }
                "lun_hex" => {
                    seen[1] += 1;
                    let hctl = Hctl { host: 2, channel: 0, target: 0, lun: vector["input"].as_u64().unwrap() };
                    (&vector["expected"]["lunhex"], text(|o| lun_hex(&PathRow { hctl: Some(hctl), ..Fixture.path(0) }, o)))
                }
                _ => continue,
            };
            assert_eq!(ours, expected.as_str().unwrap(), "{vector}");
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    }

    #[test]
    fn raw_formats_of_real_clients() {
        let view = Fixture;
        assert_eq!(text(|o| maps(&view, None, "%d %w", Dress::Raw, o)), "dm-3 3600a\n");
        assert_eq!(text(|o| maps(&view, None, " %d,%w ", Dress::Raw, o)), " dm-3,3600a \n");
        assert_eq!(
            text(|o| paths(&view, "%d %m %t %o %T", Dress::Raw, o)),
            "sda mpatha active running ready\nsdb mpatha failed running faulty\nsdc mpatha active running ready\nsdaa [orphan] active unknown undef\n"
        );
    }

    #[test]
    fn the_state_of_a_device_is_what_sysfs_says() {
        let seen = |sys_state, map| {
            let row = PathRow { sys_state, map, state: PathState::Pending, ..Fixture.path(0) };
            text(|o| {
                PATH_COLUMNS.iter().filter(|(wildcard, ..)| "oT".contains(*wildcard)).try_for_each(|(_, _, write)| {
                    write(&row, o)?;
                    o.write_str(" ")
                })
            })
        };
        for (state, word) in [
            (SysState::Running, "running"),
            (SysState::TransportOffline, "offline"),
            (SysState::Blocked, "blocked"),
            (SysState::Quiesce, "quiesce"),
        ] {
            assert_eq!(seen(state, Some("mpatha")), format!("{word} i/o pending "));
            assert_eq!(seen(state, None), "unknown undef ");
        }
    }

    #[test]
    fn a_failback_that_counts_is_a_bar() {
        let row = |failback, failback_in| MapRow { failback, failback_in, ..Fixture.map(0) };
        let column = |row| text(|o| failback_column(&row, o));
        assert_eq!(column(row(Failback::After(20), Some(7))), "XXX....... 7/20");
        assert_eq!(column(row(Failback::After(u32::MAX), Some(u32::MAX))), "XXXXXXXXXX 4294967295/4294967295");
        assert_eq!(column(row(Failback::After(20), None)), "deferred:20");
        assert_eq!(column(row(Failback::Manual, Some(7))), "manual");
        assert_eq!(text(|o| failback(&row(Failback::After(20), Some(7)), o)), "in 7 sec");
    }

    #[test]
    fn pretty_columns_are_padded_to_the_last() {
        let view = Fixture;
        assert_eq!(text(|o| maps(&view, None, MAPS_DEFAULT, Dress::Pretty, o)), "name   sysfs uuid \nmpatha dm-3  3600a\n");
        let table = text(|o| paths(&view, "%d|%i", Dress::Pretty, o));
        assert_eq!(table, "dev |hcil    \nsda |2:0:0:1 \nsdb |3:0:0:1 \nsdc |4:0:0:1 \nsdaa|10:0:0:1\n");
    }

    #[test]
    fn unknown_wildcards_vanish() {
        let view = Fixture;
        assert_eq!(text(|o| maps(&view, None, "a%Zb%", Dress::Raw, o)), "ab\n");
    }
}
