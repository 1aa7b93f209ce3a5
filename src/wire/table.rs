//! The multipath target's table and status text (dm-mpath.c, `multipath_ctr` and `multipath_status`) as values.
//!
//! Strict: a count that does not hold, a word too many or too few is malformed. What a newer kernel may add (feature words, status
//! letters, selector arguments) is carried or passed over. A foreign table that does not fit is an error, never cut to fit. Never
//! decides what a table should be; [`Table::agrees_with`] only knows what the kernel rewrites by itself.

use crate::fault::{Full, Malformed};
use crate::model::{DevNo, DmPathState, GroupState, MAP_PATHS, Text, parse_decimal};
use crate::wire::cursor::{Cursor, Words};
use heapless::Vec;

mod features;

pub use features::Features;

/// Most priority groups one map holds.
pub const MAP_GROUPS: usize = MAP_PATHS;

/// Why a text did not become a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum TableError {
    Malformed,
    /// Well formed as far as it was read, but more than the value holds: a foreign table that is left alone.
    TooBig,
}

impl From<Malformed> for TableError {
    fn from(_: Malformed) -> TableError {
        TableError::Malformed
    }
}

/// One path line of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TablePath {
    pub devno: DevNo,
    /// Index into [`Table::groups`].
    pub group: u8,
    /// First per-path selector argument (repeat count); `None` when the table had none.
    pub repeat: Option<u32>,
    /// Second per-path argument of service-time: relative throughput, 0..=100. Given without `repeat`, a repeat count of 1 is written.
    pub weight: Option<u8>,
    /// io-affinity's only per-path argument, the processors this path serves; 0 for every other selector. A mask with processors
    /// beyond 63 does not fit.
    pub processors: u64,
}

/// One priority group: its selector. Members are the [`TablePath`]s that carry its index, in table order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableGroup {
    /// Selector name and its arguments with their count, as `service-time 0` or `historical-service-time 2 100 5`.
    pub selector: Text<64>,
}

/// The constructor line of one multipath map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    pub features: Features,
    /// Hardware handler and arguments without the count (`alua`, `emc 1 0`); empty for none.
    pub handler: Text<64>,
    /// 1-based group to use first; 0 only in a table without groups.
    pub first_group: u8,
    pub groups: Vec<TableGroup, MAP_GROUPS, u8>,
    /// In table order: all paths of group 0, then those of group 1, ...
    pub paths: Vec<TablePath, MAP_PATHS, u8>,
}

const IO_AFFINITY: &str = "io-affinity";
const HISTORICAL: &str = "historical-service-time";

fn first_word(text: &str) -> &str {
    Words::new(text).next().unwrap_or("")
}

/// A selector as configuration writes it: a name, the count of its arguments, and exactly that many.
pub fn valid_selector(selector: &str) -> bool {
    let mut words = Words::new(selector);
    let Ok(_name) = words.word() else { return false };
    let Ok(count) = words.number() else { return false };
    words.skip_words(count).is_ok() && words.end().is_ok()
}

impl Table {
    /// The kernel's table line; a trailing blank, as STATUS_TABLE gives it, is no error.
    pub fn parse(text: &str) -> Result<Table, TableError> {
        let mut words = Words::new(text);
        let mut table = Table::default();
        let count = words.number()?;
        table.features = Features::parse_words(&mut words, count)?;
        let count = words.number()?;
        join(&mut table.handler, &mut words, count)?;
        let groups = words.number()?;
        let first = words.number()?;
        if first > groups || (first == 0) != (groups == 0) {
            return Err(TableError::Malformed);
        }
        if groups as usize > MAP_GROUPS {
            return Err(TableError::TooBig);
        }
        table.first_group = first as u8;
        for group in 0..groups as u8 {
            table.parse_group(&mut words, group)?;
        }
        words.end()?;
        Ok(table)
    }

    fn parse_group(&mut self, words: &mut Words<'_>, group: u8) -> Result<(), TableError> {
        let mut selector = Text::new();
        let name = words.word()?;
        let arguments_text = words.word()?;
        let count = parse_decimal(arguments_text).ok_or(Malformed)?;
        push_joined(&mut selector, name)?;
        push_joined(&mut selector, arguments_text)?;
        join(&mut selector, words, count)?;
        let paths = words.number()?;
        let arguments = words.number()?;
        if paths == 0 {
            return Err(TableError::Malformed);
        }
        for _ in 0..paths {
            let mut path = TablePath { devno: words.devno()?, group, ..TablePath::default() };
            match (name, arguments) {
                (IO_AFFINITY, 1) => path.processors = parse_mask(words.word()?)?,
                (IO_AFFINITY, _) => return Err(TableError::Malformed),
                (_, 0) => {}
                (_, 1) => path.repeat = Some(words.number()?),
                (_, 2) => {
                    path.repeat = Some(words.number()?);
                    path.weight = Some(u8::try_from(words.number()?).map_err(|_| TableError::TooBig)?);
                }
                _ => return Err(TableError::TooBig),
            }
            self.paths.push(path).map_err(|_| TableError::TooBig)?;
        }
        self.groups.push(TableGroup { selector }).map_err(|_| TableError::TooBig)
    }

    /// Writes the constructor line; returns its length in bytes.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, Full> {
        let mut line = Cursor::new(out);
        self.features.emit_into(&mut line)?;
        line.push_number(Words::new(&self.handler).count() as u64)?;
        for word in Words::new(&self.handler) {
            line.push_word(word)?;
        }
        line.push_number(self.groups.len() as u64)?;
        line.push_number(u64::from(self.first_group))?;
        for (index, group) in self.groups.iter().enumerate() {
            let members = || self.paths.iter().filter(move |p| usize::from(p.group) == index);
            for word in Words::new(&group.selector) {
                line.push_word(word)?;
            }
            let masks = first_word(&group.selector) == IO_AFFINITY;
            let arguments = if masks { 1 } else { members().map(TablePath::arguments).max().unwrap_or(0) };
            line.push_number(members().count() as u64)?;
            line.push_number(arguments)?;
            for path in members() {
                line.push_devno(path.devno)?;
                if masks {
                    line.push_str(" ")?;
                    emit_mask(path.mask(), &mut line)?;
                    continue;
                }
                if arguments > 0 {
                    line.push_number(u64::from(path.repeat.unwrap_or(1)))?;
                }
                if arguments > 1 {
                    line.push_number(u64::from(path.weight.unwrap_or(1)))?;
                }
            }
        }
        Ok(line.len())
    }

    /// Is `live`, as the kernel prints it, what loading `self` gives? Known rewrites are no difference:
    /// handler arguments are never printed; an attached handler wins over the table's, and from 7.0 on over none; the retain word is
    /// gone from 7.0 on; queue_if_no_path and the first group show the run-time state; repeat counts are forced to 1
    /// (dm-ps-round-robin.c, dm-ps-service-time.c); historical-service-time prints its defaults. Order inside a group is free.
    pub fn agrees_with(&self, live: &Table) -> bool {
        let wanted_handler = !self.handler.is_empty() && !self.features.bio();
        self.features.agrees_with(&live.features)
            && (!wanted_handler || !live.handler.is_empty())
            && self.groups.len() == live.groups.len()
            && self.paths.len() == live.paths.len()
            && self.groups.iter().zip(live.groups.iter()).all(|(a, b)| selectors_agree(&a.selector, &b.selector))
            && self.paths.iter().all(|path| live.paths.iter().any(|l| path.agrees_with(l)))
    }
}

impl TablePath {
    fn arguments(&self) -> u64 {
        match (self.repeat, self.weight) {
            (_, Some(_)) => 2,
            (Some(_), None) => 1,
            (None, None) => 0,
        }
    }
    /// io-affinity refuses a path without a mask; the repeat count stands in for one, as configurations written for the peer expect.
    fn mask(&self) -> u64 {
        if self.processors != 0 { self.processors } else { u64::from(self.repeat.unwrap_or(1).max(1)) }
    }
    fn agrees_with(&self, live: &TablePath) -> bool {
        self.devno == live.devno && self.group == live.group && self.weight.unwrap_or(1) == live.weight.unwrap_or(1)
    }
}

fn selectors_agree(wanted: &str, live: &str) -> bool {
    let (mut a, mut b) = (Words::new(wanted), Words::new(live));
    let name = a.next();
    if name != b.next() {
        return false;
    }
    if name != Some(HISTORICAL) {
        return a.eq(b);
    }
    // dm-ps-historical-service-time.c: HST_FIXED_95 and HST_DEFAULT_THRESHOLD_MULTIPLIER stand for what is not given.
    let (_, _) = (a.next(), b.next());
    ["973", "0"].into_iter().all(|default| a.next().unwrap_or(default) == b.next().unwrap_or(default))
}

/// Appends `count` words, blank separated.
fn join<const N: usize>(text: &mut Text<N>, words: &mut Words<'_>, count: u32) -> Result<(), TableError> {
    for _ in 0..count {
        push_joined(text, words.word()?)?;
    }
    Ok(())
}

fn push_joined<const N: usize>(text: &mut Text<N>, word: &str) -> Result<(), TableError> {
    if !text.is_empty() {
        text.push_str(" ").map_err(|_| TableError::TooBig)?;
    }
    text.push_str(word).map_err(|_| TableError::TooBig)
}

/// `%*pb`: groups of up to eight hexadecimal digits, highest first, separated by commas (lib/bitmap-str.c).
fn parse_mask(word: &str) -> Result<u64, TableError> {
    let mut mask = 0u64;
    for group in word.split(',') {
        if group.is_empty() || group.len() > 8 || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TableError::Malformed);
        }
        let bits = u64::from_str_radix(group, 16).map_err(|_| TableError::Malformed)?;
        if mask >> 32 != 0 {
            return Err(TableError::TooBig);
        }
        mask = mask << 32 | bits;
    }
    Ok(mask)
}

fn emit_mask(mask: u64, line: &mut Cursor<'_>) -> Result<(), Full> {
    if mask >> 32 != 0 {
        line.push_hex(mask >> 32, 8)?;
        line.push_str(",")?;
        return line.push_hex(mask & 0xffff_ffff, 8);
    }
    line.push_hex(mask, (64 - mask.leading_zeros()).div_ceil(4).max(1))
}

/// One path of a status line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusPath {
    pub devno: DevNo,
    pub group: u8,
    pub state: DmPathState,
    /// Failures since this table was loaded.
    pub fail_count: u32,
}

/// The runtime line of one multipath map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// I/O is held because activation is required or running (or a fresh map has seen no I/O yet).
    pub queue_io: bool,
    pub pg_init_count: u32,
    /// 1-based group in use or next to be used.
    pub current_group: u8,
    pub groups: Vec<GroupState, MAP_GROUPS, u8>,
    pub paths: Vec<StatusPath, MAP_PATHS, u8>,
}

impl Status {
    /// The kernel's status line. Letters we do not know are `Undefined`; selector figures are passed over.
    pub fn parse(text: &str) -> Result<Status, TableError> {
        let mut words = Words::new(text);
        let mut status = Status::default();
        let count = words.number()?;
        if count < 2 {
            return Err(TableError::Malformed);
        }
        status.queue_io = words.number()? != 0;
        status.pg_init_count = words.number()?;
        words.skip_words(count - 2)?;
        let count = words.number()?;
        words.skip_words(count)?;
        let groups = words.number()?;
        let current = words.number()?;
        if current > groups {
            return Err(TableError::Malformed);
        }
        if groups as usize > MAP_GROUPS {
            return Err(TableError::TooBig);
        }
        status.current_group = current as u8;
        for group in 0..groups as u8 {
            let state = match words.word()? {
                "A" => GroupState::Active,
                "E" => GroupState::Enabled,
                "D" => GroupState::Disabled,
                _ => GroupState::Undefined,
            };
            status.groups.push(state).map_err(|_| TableError::TooBig)?;
            let count = words.number()?;
            words.skip_words(count)?;
            let paths = words.number()?;
            let figures = words.number()?;
            for _ in 0..paths {
                let devno = words.devno()?;
                let state = match words.word()? {
                    "A" => DmPathState::Active,
                    "F" => DmPathState::Failed,
                    _ => DmPathState::Undefined,
                };
                let fail_count = words.number()?;
                words.skip_words(figures)?;
                status.paths.push(StatusPath { devno, group, state, fail_count }).map_err(|_| TableError::TooBig)?;
            }
        }
        words.end()?;
        Ok(status)
    }

    /// Writes the line as the kernel would, without selector figures; for listings, tests and the simulated kernel.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, Full> {
        let mut line = Cursor::new(out);
        line.push_str("2")?;
        line.push_number(u64::from(self.queue_io))?;
        line.push_number(u64::from(self.pg_init_count))?;
        line.push_str(" 0")?;
        line.push_number(self.groups.len() as u64)?;
        line.push_number(u64::from(self.current_group))?;
        for (index, group) in self.groups.iter().enumerate() {
            line.push_word(match group {
                GroupState::Active => "A",
                GroupState::Enabled => "E",
                GroupState::Disabled => "D",
                GroupState::Undefined => "?",
            })?;
            let members = || self.paths.iter().filter(move |p| usize::from(p.group) == index);
            line.push_str(" 0")?;
            line.push_number(members().count() as u64)?;
            line.push_str(" 0")?;
            for path in members() {
                line.push_devno(path.devno)?;
                line.push_word(match path.state {
                    DmPathState::Active => "A",
                    DmPathState::Failed => "F",
                    DmPathState::Undefined => "?",
                })?;
                line.push_number(u64::from(path.fail_count))?;
            }
        }
        Ok(line.len())
    }
}
