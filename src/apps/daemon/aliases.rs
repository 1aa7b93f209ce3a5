//! Names that new maps are given (`user_friendly_names`), kept in the bindings file: else /dev/mapper/mpatha could be another LUN after the
//! next start.
//!
//! Want and have: wanted is a line for each live map that has such a name and no binding, whoever gave it; what a worker has written is had.
//! Lines count from when they are made (two LUNs never get one alias), and are written by a worker, never while I/O waits for a path: the
//! file may be on that very disk. While it cannot be written a LUN without a binding is named by its WWID: an alias that the next start does
//! not know is worse than none.

use super::Ears;
use crate::apps::runtime::Hands;
use crate::apps::say;
use crate::conf::effective::Settings;
use crate::conf::names::{self, Form, Names};
use crate::conf::settings::{Globals, Lookup, MapSettings, PathSettings, Verdict};
use crate::dmioctl::Page;
use crate::engine::{Engine, names::id_of};
use crate::fault::Errno;
use crate::files;
use crate::klog::Line;
use crate::model::{Instant, PathFacts, Text};
use crate::wire::cursor::try_put;
use core::cell::Cell;
use core::fmt::Write;
use core::time::Duration;

/// Until several maps that come together are written together.
const SOON: Duration = Duration::from_millis(100);
/// Until maps that were found live have been looked at.
const SETTLING: Duration = Duration::from_secs(2);
/// Until a file that could not be written is tried again: at boot the root may still be read-only.
const RETRY: Duration = Duration::from_secs(10);
/// Most bytes of one line.
const LONGEST: usize = crate::model::NAME_LEN + crate::model::WWID_LEN + 2;

/// Longest name of the directory: a job has no room for more.
const LONGEST_STATE: usize = 128;

/// Bytes of new lines between two readings of the file, with room for so many paths: a line has some 45, and there are three such rooms.
pub const fn size(paths: usize) -> usize {
    1024 + paths * 16
}

/// With less room than this no more aliases are given: maps that come together are named before the first of them has its line.
const SPARE: usize = 2 * LONGEST;

pub struct Aliases {
    /// Bindings of ours since the file was read, as its lines.
    text: &'static mut [u8],
    used: usize,
    /// Bytes of them that are in the file, and those that a worker has now.
    written: usize,
    away: Option<usize>,
    /// Some may have been written since the file began to be read.
    newer: bool,
    /// Why there are no new aliases at present: the file, or the room.
    closed: Option<Errno>,
    full: bool,
    told: bool,
    /// A map would have got one.
    wanted: Cell<bool>,
    /// None are written at all.
    off: bool,
    /// Maps are to be looked at.
    look: bool,
    /// When they are, and lines written.
    at: Option<Instant>,
}

impl Aliases {
    /// None are written in an initramfs, whose files are gone with it, nor where a worker would not find the directory.
    pub fn new(text: &'static mut [u8], state: &str, write: bool) -> Aliases {
        let off = !write || !state.starts_with('/') || state.len() > LONGEST_STATE;
        let open = match files::writable(state) {
            Err(Errno::NOENT) => files::writable(super::prepare::parent(state)),
            open => open,
        };
        let wanted = Cell::new(false);
        Aliases {
            text,
            used: 0,
            written: 0,
            away: None,
            newer: false,
            closed: open.err(),
            full: false,
            told: false,
            wanted,
            off,
            look: false,
            at: None,
        }
    }

    /// Are aliases given?
    pub fn on(&self) -> bool {
        !self.off
    }

    /// A map was named, or is about to be found live.
    pub fn named(&mut self, now: Instant, found: bool) {
        let at = now + if found { SETTLING } else { SOON };
        if self.on() {
            self.look = true;
            self.at = Some(self.at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// A reading of the file begins.
    pub fn reading(&mut self) {
        self.newer = self.away.is_some();
    }

    /// The file was read again, and what was written before that is in it.
    pub fn read_again(&mut self, now: Instant) {
        if !self.newer && self.away.is_none() && self.written == self.used {
            (self.used, self.written, self.full) = (0, 0, false);
        }
        self.named(now, true);
    }

    fn lines(&self) -> Names<'_> {
        Names::few(Form::Bindings, self.text.get(..self.used).unwrap_or_default())
    }

    /// Makes a line for every map that wants one.
    #[inline(never)]
    fn gather(&mut self, engine: &Engine<'_>, settings: &Settings<'_>) {
        for map in engine.maps().filter(|map| map.active()) {
            let (name, wwid) = (map.name(), map.wwid());
            let bound = |names: Names<'_>| names.contains(wwid) || names.wwid(name).is_some();
            if id_of(name, &map.settings().alias_prefix).is_none() || bound(settings.bindings) || bound(self.lines()) {
                continue;
            }
            // Asked anew: the map has what it was told when it came, which may have been while the file could not be written.
            let Some(path) = map.paths().next() else { continue };
            let now = settings.map(wwid, &path.facts());
            let mut line = Text::<LONGEST>::new();
            if !now.user_friendly_names || !now.alias.is_empty() || names::emit(&mut line, Form::Bindings, wwid, name).is_err() {
                continue;
            }
            if try_put(self.text, self.used, line.as_bytes()).is_err() {
                self.full = true;
                return;
            }
            self.used += line.len();
        }
        self.full = self.used + SPARE > self.text.len();
    }

    /// Gives a worker what is to be written; when to call again, if nothing happens before.
    pub(super) fn tend(
        &mut self,
        state: &str,
        engine: &Engine<'_>,
        hands: &mut Hands,
        settings: &Settings<'_>,
        ears: &mut Ears,
        now: Instant,
    ) -> Option<Instant> {
        if self.away.is_some() || engine.starved() > 0 {
            return None;
        }
        let idle = |aliases: &Aliases| aliases.closed.is_none() || !aliases.wanted.get();
        let at = self.at.or((!idle(self)).then_some(now))?;
        if at > now {
            return Some(at);
        }
        self.at = None;
        let full = self.full;
        if core::mem::take(&mut self.look) {
            self.gather(engine, settings);
        }
        if self.full && !full {
            ears.say(3, "no room for more aliases: new LUNs are named by their WWID; 'corepath reconfigure' makes room");
        }
        let rest = self.text.get(self.written..self.used).unwrap_or_default();
        // Whole lines, as many as one job takes.
        let most = rest.get(..rest.len().min(size_of::<Page>())).unwrap_or_default();
        let length = most.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        // With nothing to write it is tried whether that could be.
        if length == 0 && idle(self) {
            return None;
        }
        match hands.keep(state, most.get(..length).unwrap_or_default()) {
            Ok(()) => self.away = Some(length),
            Err(_) => self.at = Some(now + SOON),
        }
        self.at
    }

    /// What came of it.
    pub(super) fn kept(&mut self, result: Result<u32, Errno>, state: &str, ears: &mut Ears, now: Instant) {
        let length = self.away.take().unwrap_or(0);
        let mut line = Line::new();
        match result {
            Ok(others) => {
                self.written += length;
                self.newer = true;
                self.closed = None;
                self.wanted.set(false);
                self.at = (self.written < self.used).then_some(now);
                if core::mem::take(&mut self.told) {
                    ears.say(5, "new aliases are kept again");
                }
                if others == 0 {
                    return;
                }
                let _ = write!(
                    line,
                    "{state}/bindings was changed meanwhile and gives {others} aliases or LUNs of ours to others: these have theirs until the next start"
                );
            }
            Err(errno) => {
                self.closed = Some(errno);
                self.at = Some(now + RETRY);
                if core::mem::replace(&mut self.told, true) {
                    return;
                }
                let _ = write!(line, "{state}/bindings cannot be written (");
                let _ = say::errno(errno, &mut line);
                let _ = line.write_str("): until it can be, LUNs without a binding are named by their WWID");
            }
        }
        ears.say(3, line.text());
    }

    /// The settings with these names.
    pub fn over<'a>(&'a self, settings: &'a Settings<'a>) -> Named<'a> {
        Named { inner: settings, aliases: self }
    }
}

/// The configuration, and the bindings since it was read.
pub struct Named<'a> {
    inner: &'a Settings<'a>,
    aliases: &'a Aliases,
}

impl Lookup for Named<'_> {
    fn globals(&self) -> &Globals {
        self.inner.globals()
    }
    fn path(&self, facts: &PathFacts) -> PathSettings {
        self.inner.path(facts)
    }
    fn map(&self, wwid: &str, facts: &PathFacts) -> MapSettings {
        let mut settings = self.inner.map(wwid, facts);
        let closed = self.aliases.on() && (self.aliases.closed.is_some() || self.aliases.full);
        if settings.user_friendly_names && closed && self.binding(wwid).is_none() {
            self.aliases.wanted.set(true);
            settings.user_friendly_names = false;
        }
        settings
    }
    fn filter(&self, facts: &PathFacts, udev: Option<&[u8]>) -> Verdict {
        self.inner.filter(facts, udev)
    }
    fn named(&self, wwid: &str) -> bool {
        self.inner.named(wwid)
    }
    fn binding(&self, wwid: &str) -> Option<&str> {
        self.inner.binding(wwid).or_else(|| self.aliases.lines().alias(wwid))
    }
    fn aliases(&self, seen: &mut dyn FnMut(&str, &str)) {
        self.inner.aliases(seen);
        self.aliases.lines().iter().for_each(|(wwid, alias)| seen(alias, wwid));
    }
}
