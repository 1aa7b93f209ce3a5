//! What is in force: the parsed sections, the built-in array table and the defaults, asked by path, by map, or as a whole.
//!
//! Precedence, highest first: multipaths, overrides/protocol, overrides, devices (last match first, the built-in table before all
//! configured ones), defaults, the program's own default.

use super::ere;
use super::keyword::{self, FAIL, FOLLOWOVER, IMMEDIATE, INFINITY, Key, MANUAL, OFF, Place, QUEUE};
use super::names::{Form, Names};
use super::parse::{Entry, Link, Parsed, Section, Source, chain, hash, own, run, slot};
use super::settings::*;
use super::table::{ROWS, Row};
use super::value::{self, OLD_FEATURES, Value, decimal};
use crate::model::{PathFacts, Text};
use core::fmt::Write;
use core::time::Duration;

/// A configuration in force.
pub struct Settings<'a> {
    /// The files read, for messages: [`Origin::File`] names them by number.
    pub files: &'a [Source<'a>],
    pub(super) sections: &'a [Section],
    pub(super) entries: &'a [Entry<'a>],
    slots: &'a [u32],
    /// Rows of the array table that a configured entry for the same device took over, one bit each.
    replaced: [u32; ROWS.len().div_ceil(32)],
    pub(super) globals: Globals,
    /// Does the kernel do its own NVMe multipathing? Its disks are then blacklisted.
    pub native_nvme: bool,
    pub wwids: Names<'a>,
    pub bindings: Names<'a>,
    /// WWIDs named on the command line.
    pub command_line: &'a [&'a str],
}

/// A value and where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located<'a> {
    pub value: Value<'a>,
    pub origin: Origin,
}

/// One value for each keyword: what is found first stays.
pub struct Pick<'a> {
    values: [Option<Located<'a>>; Key::COUNT],
    /// A device entry, built-in or configured, was among the sources.
    pub(super) known: bool,
}

impl<'a> Pick<'a> {
    pub(super) fn empty() -> Pick<'a> {
        Pick { values: [None; Key::COUNT], known: false }
    }
    #[inline(never)]
    pub fn get(&self, key: Key) -> Option<Located<'a>> {
        self.values[key as usize]
    }
    #[inline(never)]
    pub fn number(&self, key: Key) -> Option<u32> {
        self.get(key).and_then(|l| l.value.number())
    }
    pub fn text(&self, key: Key) -> Option<&'a str> {
        self.get(key).and_then(|l| l.value.text())
    }
    pub fn yes(&self, key: Key) -> bool {
        self.number(key) == Some(1)
    }
    /// A number for which "off" and "unset" are the same.
    pub(super) fn unless_off(&self, key: Key) -> Option<u32> {
        self.number(key).filter(|&n| n != OFF)
    }
    pub(super) fn timeout(&self, key: Key) -> Timeout {
        match self.number(key) {
            None => Timeout::Unset,
            Some(OFF) => Timeout::Off,
            Some(INFINITY) => Timeout::Infinity,
            Some(seconds) => Timeout::Secs(seconds),
        }
    }

    /// Before a level of precedence is taken.
    fn mark(&self) -> (bool, Option<Located<'a>>) {
        (self.get(Key::Prio).is_some(), self.get(Key::PrioArgs))
    }
    /// After it: the arguments of a prioritizer count only at the level that names the prioritizer. (Among device entries, which are
    /// one level, they may come from another entry.)
    fn settle(&mut self, (had_prio, args): (bool, Option<Located<'a>>)) {
        if had_prio || self.get(Key::Prio).is_none() {
            self.values[Key::PrioArgs as usize] = args;
        }
    }

    /// Takes the values of one block, last one first; `seen` are the keywords that the block has given already.
    fn take(&mut self, entries: impl Iterator<Item = Given<'a>>, seen: &mut u128) {
        entries.for_each(|given| self.take_one(&given, seen));
    }
    #[inline(never)]
    fn take_one(&mut self, &Given { key, value, origin }: &Given<'a>, seen: &mut u128) {
        let slot = &mut self.values[key as usize];
        if slot.is_none() && *seen & key.bit() == 0 && !value::is_unset(key, value) {
            *slot = Some(Located { value, origin });
        }
        *seen |= key.bit();
    }
}

/// An entry on its way into a [`Pick`].
struct Given<'a> {
    key: Key,
    value: Value<'a>,
    origin: Origin,
}

impl<'a> Settings<'a> {
    /// `files`: those that were parsed.
    #[inline(never)]
    pub fn new(files: &'a [Source<'a>], parsed: Parsed<'a>) -> Settings<'a> {
        let Parsed { sections, entries, slots, .. } = parsed;
        let mut replaced = [0; ROWS.len().div_ceil(32)];
        for section in sections.iter_mut().filter(|section| section.place == Place::Device && section.link == Link::None) {
            let identity = [Key::Vendor, Key::Product, Key::Revision].map(|key| own(entries, section, key).and_then(|e| e.value.text()));
            // The rows of the table are never merged with each other, so the last one is the one that would be found first.
            let same = |row: &Row| [Key::Vendor, Key::Product, Key::Revision].map(|key| row.text(key)) == identity;
            if let Some(row) = ROWS.iter().rposition(same) {
                section.link = Link::Row(row as u16);
                replaced[row / 32] |= 1 << (row % 32);
            }
        }
        let mut settings = Settings {
            files,
            sections,
            entries,
            slots,
            replaced,
            globals: Globals::default(),
            native_nvme: false,
            wwids: Names::empty(Form::Wwids),
            bindings: Names::empty(Form::Bindings),
            command_line: &[],
        };
        settings.globals = globals(&settings.defaults(false), &settings.defaults(true));
        settings
    }

    /// No configuration: the built-in table and the defaults.
    pub fn builtin() -> Settings<'static> {
        let report = super::complaint::Report { kept: &[], lost: 0, errors: 0, fatal: false };
        Settings::new(&[], Parsed { sections: &mut [], entries: &[], slots: &[], report })
    }

    fn origin(section: &Section, entry: &Entry<'_>) -> Origin {
        Origin::File { file: section.file, line: entry.line }
    }
    fn located(&self, section: &'a Section) -> impl Iterator<Item = Given<'a>> + use<'a> {
        let entries: &'a [Entry<'a>] = run(self.entries, section);
        entries.iter().rev().map(|e| Given { key: e.key, value: e.value, origin: Self::origin(section, e) })
    }
    pub(super) fn take_row(pick: &mut Pick<'a>, row: usize) {
        let Some(array) = ROWS.get(row) else { return };
        let origin = Origin::Table(row as u16);
        pick.take(array.entries().rev().map(|e| Given { key: e.key, value: e.value, origin }), &mut 0);
    }
    /// A section and all it took over from, each a block of its own.
    pub(super) fn take_chain(&self, pick: &mut Pick<'a>, from: usize) {
        let mut at = from;
        while let Some(section) = self.sections.get(at) {
            pick.take(self.located(section), &mut 0);
            match section.link {
                Link::Section(earlier) => at = earlier as usize,
                Link::Row(row) => return Self::take_row(pick, usize::from(row)),
                Link::None => return,
            }
        }
    }
    /// All runs of one outer block: together they are one block.
    pub(super) fn take_block(&self, pick: &mut Pick<'a>, place: Place) {
        let mut seen = 0;
        for section in self.sections.iter().rev().filter(|section| section.place == place) {
            pick.take(self.located(section), &mut seen);
        }
    }
    /// The defaults section, and with `own` the program's own defaults.
    pub(super) fn defaults(&self, own: bool) -> Pick<'a> {
        let mut pick = Pick::empty();
        self.take_block(&mut pick, Place::Defaults);
        if own {
            Self::take_own(&mut pick);
        }
        pick
    }
    fn take_own(pick: &mut Pick<'a>) {
        let rows = keyword::KEYWORDS.iter().filter(|row| !row.default().is_empty());
        let values = rows.filter_map(|row| value::parse(row.key, row.default()).ok().map(|(value, _)| (row.key, value)));
        pick.take(values.map(|(key, value)| Given { key, value, origin: Origin::Default }), &mut 0);
    }

    /// Rows of the array table that no configured entry took over.
    pub(super) fn row_counts(&self, row: usize) -> bool {
        self.replaced.get(row / 32).is_some_and(|word| word >> (row % 32) & 1 == 0)
    }
    pub(super) fn text_of(&self, section: &Section, key: Key) -> Option<&'a str> {
        own(self.entries, section, key).and_then(|entry| entry.value.text())
    }
    /// A device entry's product_blacklist: its own or that of an entry it took over.
    pub(super) fn product_pattern(&self, device: usize) -> Option<(&'a str, Origin)> {
        let mut at = device;
        while let Some(section) = self.sections.get(at) {
            if let Some(entry) = own(self.entries, section, Key::ProductBlacklist) {
                return Some((entry.value.text()?, Self::origin(section, entry)));
            }
            match section.link {
                Link::Section(earlier) => at = earlier as usize,
                Link::Row(row) => return Some((ROWS.get(usize::from(row))?.text(Key::ProductBlacklist)?, Origin::Table(row))),
                Link::None => return None,
            }
        }
        None
    }
    /// `device`: vendor, product, revision.
    pub(super) fn device_matches(&self, section: &Section, device: [&str; 3]) -> bool {
        [Key::Vendor, Key::Product, Key::Revision]
            .into_iter()
            .zip(device)
            .all(|(key, text)| self.text_of(section, key).is_none_or(|pattern| ere::is_match(pattern.as_bytes(), text.as_bytes())))
    }
    /// The sections of one kind that are in force, with their numbers.
    pub(super) fn live(&self, place: Place) -> impl DoubleEndedIterator<Item = (usize, &'a Section)> + use<'a> {
        self.sections.iter().enumerate().filter(move |(_, section)| section.place == place && !section.superseded)
    }
    /// What device entries keep out by product_blacklist, until `visit` says false: vendor, product, origin.
    pub(super) fn kept_out(&self, visit: &mut dyn FnMut(&'a str, &'a str, Origin) -> bool) {
        for (i, row) in ROWS.iter().enumerate().filter(|(i, _)| self.row_counts(*i)) {
            if let (Some(vendor), Some(product)) = (row.text(Key::Vendor), row.text(Key::ProductBlacklist))
                && !visit(vendor, product, Origin::Table(i as u16))
            {
                return;
            }
        }
        for (i, section) in self.live(Place::Device) {
            if let (Some(vendor), Some((product, origin))) = (self.text_of(section, Key::Vendor), self.product_pattern(i))
                && !visit(vendor, product, origin)
            {
                return;
            }
        }
    }
    /// All device entries that match, last one first.
    fn take_devices(&self, pick: &mut Pick<'a>, facts: &PathFacts) {
        for (i, section) in self.live(Place::Device).rev() {
            if self.device_matches(section, [&facts.vendor, &facts.product, &facts.revision]) {
                pick.known = true;
                self.take_chain(pick, i);
            }
        }
        for (i, row) in ROWS.iter().enumerate().rev() {
            if self.row_counts(i) && row.matches(&facts.vendor, &facts.product, &facts.revision) {
                pick.known = true;
                Self::take_row(pick, i);
            }
        }
    }

    /// The section that has `word` for its identity (a WWID, a protocol's word).
    pub(super) fn section_for(&self, place: Place, word: &str) -> Option<usize> {
        let is_it = |i: u32| {
            self.sections.get(i as usize).is_some_and(|section| {
                section.place == place
                    && match place {
                        Place::Multipath => self.text_of(section, Key::MapWwid) == Some(word),
                        _ => {
                            let code = own(self.entries, section, Key::Type).and_then(|entry| entry.value.number());
                            keyword::PROTOCOLS.iter().any(|(w, c)| *w == word && Some(*c) == code)
                        }
                    }
            })
        };
        let (_, held) = slot(self.slots, hash(&[Some(word), None, None]), is_it)?;
        held.map(|i| i as usize)
    }

    /// Everything that is in force for one path, or for a map with such a path.
    #[inline(never)]
    pub fn pick(&self, wwid: &str, facts: &PathFacts) -> Pick<'a> {
        let mut pick = Pick::empty();
        let mark = pick.mark();
        if let Some(section) = (!wwid.is_empty()).then(|| self.section_for(Place::Multipath, wwid)).flatten() {
            self.take_chain(&mut pick, section);
            if self.sections.get(section).is_some_and(|section| section.alias_lost) {
                pick.values[Key::Alias as usize] = None;
            }
        }
        pick.settle(mark);
        if let Some(section) = self.section_for(Place::Protocol, facts.protocol.word()) {
            self.take_chain(&mut pick, section);
        }
        let mark = pick.mark();
        self.take_block(&mut pick, Place::Overrides);
        pick.settle(mark);
        let mark = pick.mark();
        self.take_devices(&mut pick, facts);
        pick.settle(mark);
        let mark = pick.mark();
        self.take_block(&mut pick, Place::Defaults);
        // Before the program's own prioritizer is there, which has no arguments.
        pick.settle(mark);
        Self::take_own(&mut pick);
        pick
    }

    /// Device entries in force, built-in and configured.
    pub fn devices(&self) -> usize {
        self.live(Place::Device).count() + (0..ROWS.len()).filter(|&row| self.row_counts(row)).count()
    }

    /// The aliases that multipaths sections give, with their WWIDs.
    pub fn map_aliases(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let maps = self.live(Place::Multipath).filter(|(_, section)| !section.alias_lost);
        maps.filter_map(|(i, section)| {
            let alias = chain(self.sections, self.entries, i, Key::Alias)?.value.text()?;
            Some((alias, self.text_of(section, Key::MapWwid)?))
        })
    }
}

fn globals(given: &Pick<'_>, all: &Pick<'_>) -> Globals {
    let number = |key| all.number(key).unwrap_or(0);
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    let most = given.number(Key::MaxPollingInterval);
    // The shortest follows the longest when only that is given, and is never longer.
    let least = match (given.number(Key::PollingInterval), most) {
        (Some(least), _) => least,
        (None, Some(most)) => (most / 4).max(1),
        (None, None) => number(Key::PollingInterval),
    };
    let most = most.unwrap_or(least.saturating_mul(4));
    let least = least.min(most);
    Globals {
        verbosity: number(Key::Verbosity) as u8,
        polling_interval: seconds(least),
        max_polling_interval: seconds(most),
        find_multipaths: match number(Key::FindMultipaths) {
            0 => FindMultipaths::Off,
            1 => FindMultipaths::On,
            3 => FindMultipaths::Greedy,
            4 => FindMultipaths::Smart,
            _ => FindMultipaths::Strict,
        },
        find_multipaths_given: given.get(Key::FindMultipaths).is_some(),
        find_multipaths_timeout: number(Key::FindMultipathsTimeout) as i32,
        allow_usb_devices: all.yes(Key::AllowUsbDevices),
        checker_timeout: all.number(Key::CheckerTimeout),
        queue_without_daemon: all.yes(Key::QueueWithoutDaemon),
        marginal_pathgroups: match number(Key::MarginalPathgroups) {
            1 => MarginalPathgroups::On,
            2 => MarginalPathgroups::Fpin,
            _ => MarginalPathgroups::Off,
        },
        auto_resize: match number(Key::AutoResize) {
            1 => AutoResize::GrowOnly,
            2 => AutoResize::GrowShrink,
            _ => AutoResize::Never,
        },
        remove_retries: number(Key::RemoveRetries),
        partition_delimiter: text(all, Key::PartitionDelimiter),
        reassign_maps: all.yes(Key::ReassignMaps),
        log_checker_err_once: all.yes(Key::LogCheckerErr),
        uxsock_timeout: Duration::from_millis(u64::from(number(Key::UxsockTimeout))),
        missing_uev_wait: seconds(number(Key::MissingUevWaitTimeout)),
        max_retries: all.timeout(Key::MaxRetries),
        pp_balance_paths: all.yes(Key::PpBalancePaths),
    }
}

/// The keyword's text. Each keyword's row bounds it to what the settings hold, so nothing is cut; unset is empty.
pub(super) fn text<const N: usize>(pick: &Pick<'_>, key: Key) -> Text<N> {
    Text::try_from(pick.text(key).unwrap_or("")).unwrap_or_default()
}

/// Feature words without those that became keywords, with their count. The flag: queue_if_no_path was among them.
pub(super) fn features(configured: &str) -> (Text<64>, bool) {
    let words = || configured.split_ascii_whitespace().skip(1).filter(|word| !OLD_FEATURES.contains(word));
    let mut out = Text::new();
    let mut full = decimal(&mut out, words().count() as u64).is_err();
    for word in words() {
        full |= out.write_char(' ').is_err() || out.write_str(word).is_err();
    }
    // Not longer than what was configured, which fits.
    debug_assert!(!full);
    (out, configured.split_ascii_whitespace().any(|word| word == OLD_FEATURES[0]))
}

pub(super) fn failback(code: Option<u32>) -> Failback {
    match code {
        None | Some(MANUAL) => Failback::Manual,
        Some(IMMEDIATE) => Failback::Immediate,
        Some(FOLLOWOVER) => Failback::Followover,
        Some(seconds) => Failback::After(seconds),
    }
}

pub(super) fn no_path_retry(code: Option<u32>) -> NoPathRetry {
    match code {
        None => NoPathRetry::Unset,
        Some(FAIL) => NoPathRetry::Fail,
        Some(QUEUE) => NoPathRetry::Queue,
        Some(rounds) => NoPathRetry::Retries(rounds),
    }
}

pub(super) fn prio(code: Option<u32>) -> PrioKind {
    match code {
        Some(1) => PrioKind::Alua,
        Some(2) => PrioKind::Sysfs,
        Some(3) => PrioKind::Ana,
        Some(4) => PrioKind::Rdac,
        Some(5) => PrioKind::Emc,
        Some(6) => PrioKind::HpSw,
        Some(7) => PrioKind::Hds,
        Some(8) => PrioKind::Ontap,
        Some(9) => PrioKind::Datacore,
        Some(10) => PrioKind::Iet,
        Some(11) => PrioKind::Random,
        Some(12) => PrioKind::WeightedPath,
        Some(13) => PrioKind::PathLatency,
        _ => PrioKind::Const,
    }
}

pub(super) fn checker(code: Option<u32>) -> CheckerKind {
    match code {
        Some(1) => CheckerKind::Directio,
        Some(2) => CheckerKind::ReadSector0,
        Some(3) => CheckerKind::Rdac,
        Some(4) => CheckerKind::EmcClariion,
        Some(5) => CheckerKind::HpSw,
        Some(6) => CheckerKind::CcissTur,
        Some(7) => CheckerKind::None,
        _ => CheckerKind::Tur,
    }
}

/// A policy by the word that `path_grouping_policy` has for it.
pub fn policy_named(word: &str) -> Option<Policy> {
    super::keyword::POLICIES.iter().find(|(name, _)| *name == word).map(|&(_, code)| policy(Some(code)))
}

pub(super) fn policy(code: Option<u32>) -> Policy {
    match code {
        Some(1) => Policy::Multibus,
        Some(2) => Policy::GroupBySerial,
        Some(3) => Policy::GroupByPrio,
        Some(4) => Policy::GroupByNodeName,
        Some(5) => Policy::GroupByTpg,
        _ => Policy::Failover,
    }
}

pub(super) fn shaky(pick: &Pick<'_>, max_polling_interval: u32) -> Shaky {
    let mut shaky = Shaky {
        san_path_err_threshold: pick.unless_off(Key::SanPathErrThreshold),
        san_path_err_forget_rate: pick.unless_off(Key::SanPathErrForgetRate),
        san_path_err_recovery_time: pick.unless_off(Key::SanPathErrRecoveryTime),
        marginal_path_err_sample_time: pick.unless_off(Key::MarginalPathErrSampleTime).map(|n| n.max(120)),
        marginal_path_err_rate_threshold: pick.unless_off(Key::MarginalPathErrRateThreshold),
        marginal_path_err_recheck_gap_time: pick.unless_off(Key::MarginalPathErrRecheckGapTime),
        marginal_path_double_failed_time: pick.unless_off(Key::MarginalPathDoubleFailedTime),
    };
    // The old forms count only where none of the new ones is on.
    let new = [shaky.san_path_err_threshold, shaky.san_path_err_forget_rate, shaky.san_path_err_recovery_time];
    if new == [None; 3] {
        let (watch, wait) = (pick.unless_off(Key::DelayWatchChecks), pick.unless_off(Key::DelayWaitChecks));
        shaky.san_path_err_threshold = watch.or(wait).map(|_| 1);
        shaky.san_path_err_forget_rate = watch;
        shaky.san_path_err_recovery_time = wait.map(|n| n.saturating_mul(max_polling_interval));
    }
    shaky
}
