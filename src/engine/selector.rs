//! What a table says besides its paths: path selector, hardware handler and features, chosen from the settings and from what the
//! running kernel has; and whether a live table is the one that is wanted.
//!
//! Never tries a table to see whether it loads: a module that is missing is named here, and where something safe can stand in for it,
//! it does. Rules: dm-mpath.c (`parse_features`, `parse_hw_handler`, `setup_scsi_dh`), dm-io-affinity.c, scsi_dh_emc.c.

use super::Difference;
use crate::conf::settings::{MapSettings, PrioKind};
use crate::model::{Bus, DevNo, MAP_PATHS, Prio, Text, Tpgs, parse_decimal, same_word, shorten};
use crate::wire::table::{Features, MAP_GROUPS, Table};
use heapless::Vec;

/// Path selectors of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selector {
    RoundRobin,
    QueueLength,
    ServiceTime,
    /// Since 5.8.
    HistoricalServiceTime,
    /// Since 5.11.
    IoAffinity,
}

impl Selector {
    pub const ALL: [Selector; 5] =
        [Selector::RoundRobin, Selector::QueueLength, Selector::ServiceTime, Selector::HistoricalServiceTime, Selector::IoAffinity];

    /// The name in a table; the module is `dm-` with this name.
    pub const fn word(self) -> &'static str {
        match self {
            Selector::RoundRobin => "round-robin",
            Selector::QueueLength => "queue-length",
            Selector::ServiceTime => "service-time",
            Selector::HistoricalServiceTime => "historical-service-time",
            Selector::IoAffinity => "io-affinity",
        }
    }
    pub fn parse(word: &str) -> Option<Selector> {
        Selector::ALL.into_iter().find(|s| s.word() == word)
    }
    /// The name with no arguments, as a table has it.
    const fn plain(self) -> &'static str {
        match self {
            Selector::RoundRobin => "round-robin 0",
            Selector::QueueLength => "queue-length 0",
            Selector::ServiceTime => "service-time 0",
            Selector::HistoricalServiceTime => "historical-service-time 0",
            Selector::IoAffinity => "io-affinity 0",
        }
    }
}

/// Hardware handlers of the kernel (drivers/scsi/device_handler).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handler {
    Alua,
    Emc,
    Rdac,
    HpSw,
}

impl Handler {
    pub const ALL: [Handler; 4] = [Handler::Alua, Handler::Emc, Handler::Rdac, Handler::HpSw];

    /// The name in a table; the module is `scsi_dh_` with this name.
    pub const fn word(self) -> &'static str {
        match self {
            Handler::Alua => "alua",
            Handler::Emc => "emc",
            Handler::Rdac => "rdac",
            Handler::HpSw => "hp_sw",
        }
    }
    pub fn parse(word: &str) -> Option<Handler> {
        Handler::ALL.into_iter().find(|h| h.word() == word)
    }
}

/// What the running kernel has or can load. The shell finds out; where it cannot tell, it says "present" and the kernel answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kernel {
    selectors: u8,
    handlers: u8,
    pub multipath: bool,
    pub linear: bool,
    /// Since 7.0 an attached handler is always used, whatever the table says.
    pub always_retains: bool,
    /// Processors the system may have, for io-affinity.
    pub processors: u16,
}

impl Kernel {
    /// Everything is there.
    pub const FULL: Kernel =
        Kernel { selectors: 0x1f, handlers: 0x0f, multipath: true, linear: true, always_retains: false, processors: 1 };
    /// Nothing is there.
    pub const BARE: Kernel = Kernel { selectors: 0, handlers: 0, multipath: false, linear: false, always_retains: false, processors: 1 };

    pub const fn with_selector(mut self, s: Selector, present: bool) -> Kernel {
        self.selectors = set(self.selectors, s as u8, present);
        self
    }
    pub const fn with_handler(mut self, h: Handler, present: bool) -> Kernel {
        self.handlers = set(self.handlers, h as u8, present);
        self
    }
    pub const fn without_handlers(mut self) -> Kernel {
        self.handlers = 0;
        self
    }
    pub const fn selector(&self, s: Selector) -> bool {
        self.selectors & (1 << s as u8) != 0
    }
    pub const fn handler(&self, h: Handler) -> bool {
        self.handlers & (1 << h as u8) != 0
    }
}

const fn set(bits: u8, bit: u8, on: bool) -> u8 {
    if on { bits | 1 << bit } else { bits & !(1 << bit) }
}

/// What the choice needs to know of one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Member<'a> {
    pub bus: Bus,
    pub tpgs: Tpgs,
    /// `dh_state`; empty when none is attached.
    pub attached: &'a str,
    pub prio: PrioKind,
}

/// Why no table can be made at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The multipath target (module dm-multipath).
    Target,
    /// Every selector that could be used.
    Selector,
}

/// The choice, in the form a [`Table`] holds it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// Name, argument count, arguments.
    pub selector: Text<64>,
    /// Name and arguments without the count; empty for none.
    pub handler: Text<64>,
    /// `queue_if_no_path` is off: queueing decides that.
    pub features: Features,
    /// The wanted selector is not to be had; `selector` names another.
    pub selector_replaced: bool,
    /// This handler was wanted and is not in the kernel: activation is ours.
    pub handler_missing: Option<Handler>,
    /// The wanted handler is none that we know; it is left out.
    pub handler_unknown: bool,
    /// Feature words that no kernel we know takes were left out, or values put into the kernel's range.
    pub features_mended: bool,
}

/// Chooses for a map of these `members`. `widest`: paths in its largest group.
#[inline(never)]
pub fn choose(settings: &MapSettings, kernel: &Kernel, members: &[Member<'_>], widest: usize) -> Result<Choice, Missing> {
    if !kernel.multipath {
        return Err(Missing::Target);
    }
    let mut choice = Choice::default();
    choose_selector(&settings.selector, kernel, widest, &mut choice)?;
    read_features(&settings.features, &mut choice);
    choose_handler(&settings.handler, kernel, members, &mut choice);
    Ok(choice)
}

/// What stands in for a selector that is missing: the nearest in effect first.
const STAND_INS: [Selector; 3] = [Selector::ServiceTime, Selector::QueueLength, Selector::RoundRobin];

fn choose_selector(wanted: &str, kernel: &Kernel, widest: usize, choice: &mut Choice) -> Result<(), Missing> {
    let mut words = wanted.split_ascii_whitespace();
    let name = words.next().unwrap_or(Selector::ServiceTime.word());
    let usable = |s: Selector| {
        // io-affinity gives each path processors of its own; a path without any makes the kernel refuse the table.
        kernel.selector(s) && (s != Selector::IoAffinity || widest <= usize::from(kernel.processors.min(64)))
    };
    if let Some(s) = Selector::parse(name).filter(|&s| usable(s)) {
        // Carried as it is when its arguments are as many as it says, else without arguments.
        let count = words.next().and_then(parse_decimal);
        let whole = count.is_some_and(|n| words.count() == n as usize);
        let text = if whole { wanted.trim_ascii() } else { s.plain() };
        choice.selector = Text::try_from(text).unwrap_or_else(|_| fixed(s.plain()));
        return Ok(());
    }
    let other = STAND_INS.into_iter().find(|&s| kernel.selector(s)).ok_or(Missing::Selector)?;
    choice.selector = fixed(other.plain());
    choice.selector_replaced = true;
    Ok(())
}

/// A text of ours that is known to fit.
fn fixed<const N: usize>(text: &str) -> Text<N> {
    Text::try_from(text).unwrap_or_default()
}

/// `2 pg_init_retries 50` and the like. A word the kernel does not know makes it refuse the whole table, so such words are left out:
/// the map comes first.
fn read_features(text: &str, choice: &mut Choice) {
    let mut words = text.split_ascii_whitespace();
    let _count = words.next();
    let f = &mut choice.features;
    // The kernel compares without regard to case.
    while let Some(word) = words.next() {
        let is = |known: &str| same_word(word, known);
        if is("queue_if_no_path") {
            // Decided by no_path_retry.
        } else if is("retain_attached_hw_handler") {
            // The attached handler is named in the table, which has the same effect up to 6.18; since 7.0 the word does nothing.
        } else if is("pg_init_retries") {
            f.pg_init_retries = mended(words.next(), 1, 50, &mut choice.features_mended);
        } else if is("pg_init_delay_msecs") {
            f.pg_init_delay_msecs = mended(words.next(), 0, 60_000, &mut choice.features_mended);
        } else if is("queue_mode") {
            let given = words.next().unwrap_or("");
            match ["bio", "rq", "mq"].into_iter().find(|m| same_word(given, m)) {
                Some(mode) => f.queue_mode = fixed(mode),
                None => choice.features_mended = true,
            }
        } else {
            choice.features_mended = true;
        }
    }
}

fn mended(word: Option<&str>, low: u32, high: u32, changed: &mut bool) -> Option<u32> {
    let value = word.and_then(parse_decimal);
    let kept = value.map(|v| v.clamp(low, high));
    *changed |= kept.is_none() || kept != value;
    kept
}

/// An attached handler wins: the kernel does not give it up, and refuses (or rewrites) a table that names another. Then the
/// configuration, then ALUA where every path that answered speaks it, then what goes with the prioritizer: the array table names no
/// handlers, for the kernel attaches its own at the scan, but only where the module was there in time.
fn choose_handler(configured: &str, kernel: &Kernel, members: &[Member<'_>], choice: &mut Choice) {
    // A handler on a path that is not SCSI fails the load up to 6.18; a bio-based map ignores handlers.
    if members.iter().any(|m| m.bus != Bus::Scsi) || choice.features.queue_mode.as_str() == "bio" {
        return;
    }
    let attached = members.iter().map(|m| m.attached).find(|a| !a.is_empty());
    let no_tpgs = members.iter().any(|m| m.tpgs == Tpgs::None);
    let some_tpgs = members.iter().any(|m| !matches!(m.tpgs, Tpgs::None | Tpgs::Unknown));
    // `1 alua`, `3 emc 1 0`; `0` for none. The count is not trusted, for the words are there.
    let mut words = configured.split_ascii_whitespace();
    let counted = words.next().and_then(parse_decimal).unwrap_or(0) > 0;
    let wanted = if counted { words.next() } else { None };
    let (name, from_settings) = match (attached, wanted) {
        (Some(a), w) => (a, w == Some(a)),
        (None, Some(w)) => (w, true),
        (None, None) if some_tpgs && !no_tpgs => (Handler::Alua.word(), false),
        (None, None) if configured.trim_ascii_start().starts_with('0') => return,
        (None, None) => {
            let prio = members.first().map(|m| m.prio);
            let handler = match prio.filter(|&p| members.iter().all(|m| m.prio == p)) {
                Some(PrioKind::Emc) => Handler::Emc,
                Some(PrioKind::Rdac) => Handler::Rdac,
                Some(PrioKind::HpSw) => Handler::HpSw,
                _ => return,
            };
            (handler.word(), false)
        }
    };
    if name == Handler::Alua.word() && no_tpgs {
        return;
    }
    if attached.is_none() {
        match Handler::parse(name) {
            Some(h) if !kernel.handler(h) => {
                choice.handler_missing = Some(h);
                return;
            }
            Some(_) => (),
            None => {
                choice.handler_unknown = true;
                return;
            }
        }
    }
    if choice.handler.push_str(name).is_err() {
        return;
    }
    // `1 emc` never with parameters: they are sent to the array at each table load. Only alua's (no STPG to optimise) are kept.
    if from_settings && name == Handler::Alua.word() {
        for word in words {
            let before = choice.handler.len();
            if choice.handler.push_str(" ").is_err() || choice.handler.push_str(word).is_err() {
                shorten(&mut choice.handler, before);
                return;
            }
        }
    }
}

/// The repeat count of one path: `rr_min_io_rq`, times the priority with `rr_weight priorities`. The kernel uses 1 whatever is said
/// here (since 4.6), so [`differs`] does not look at it.
pub fn repeat_count(settings: &MapSettings, prio: Prio) -> u32 {
    let count = settings.repeat_count.max(1);
    match u32::try_from(prio.0) {
        Ok(p) if settings.rr_weight_priorities && p > 0 => count.saturating_mul(p),
        _ => count,
    }
}

/// io-affinity: the processors (bit 0 is the first) of path `index` of `paths`, dealt out in turn. Zero, which the kernel refuses,
/// only when there are more paths than processors; [`choose`] does not take io-affinity then.
pub fn processors(kernel: &Kernel, index: usize, paths: usize) -> u64 {
    let mut mask = 0u64;
    let mut cpu = index;
    while paths > 0 && index < paths && cpu < usize::from(kernel.processors.min(64)) {
        mask |= 1 << cpu;
        cpu = cpu.saturating_add(paths);
    }
    mask
}

/// How `have` differs from `want`, tolerating what the kernel rewrites by itself: repeat counts, handler parameters (never printed),
/// a handler that was attached and that it retains, defaults of a selector's arguments, `rq` and `mq`. The order of paths within a
/// group is no difference; neither are feature words we do not know, nor the queue mode, which a live device cannot change.
///
/// Size, write protection and force are the caller's to add. `attached`: the handler attached to any path, or empty.
pub fn differs(want: &Table, have: &Table, attached: &str, kernel: &Kernel) -> Difference {
    let mut d = Difference { handler: handlers_differ(&want.handler, &have.handler, attached, kernel), ..Difference::default() };
    let (w, h) = (&want.features, &have.features);
    d.features = w.pg_init_retries != h.pg_init_retries || w.pg_init_delay_msecs != h.pg_init_delay_msecs;
    d.selector = want.groups.iter().zip(have.groups.iter()).any(|(w, h)| !selectors_agree(&w.selector, &h.selector));
    let (members, groups) = members_differ(want, have);
    d.members = members;
    d.groups = groups || want.groups.len() != have.groups.len();
    d.best_group = want.first_group != have.first_group;
    d
}

fn handlers_differ(want: &str, have: &str, attached: &str, kernel: &Kernel) -> bool {
    // STATUS_TABLE prints the name only.
    let [want, have] = [want, have].map(|text| text.split_ascii_whitespace().next().unwrap_or(""));
    let retained = !have.is_empty() && have == attached && (!want.is_empty() || kernel.always_retains);
    want != have && !retained
}

fn selectors_agree(want: &str, have: &str) -> bool {
    let (mut w, mut h) = (want.split_ascii_whitespace(), have.split_ascii_whitespace());
    let name = w.next();
    if name != h.next() {
        return false;
    }
    // historical-service-time prints the arguments in force where the table gave none.
    let defaults = name == Some(Selector::HistoricalServiceTime.word());
    match (w.next(), h.next()) {
        (Some("0"), _) if defaults => true,
        (a, b) => a == b && w.eq(h),
    }
}

/// Are other paths in it, and do the same paths stand together differently or in another order of groups?
fn members_differ(want: &Table, have: &Table) -> (bool, bool) {
    let mut sides = [const { Vec::<(DevNo, u8), MAP_PATHS, u8>::new() }; 2];
    for (side, table) in sides.iter_mut().zip([want, have]) {
        for path in &table.paths {
            // As many as there is room for.
            let _ = side.push((path.devno, path.group));
        }
        crate::order::sort(side, |a, b| a < b);
    }
    let [w, h] = &sides;
    let members = w.len() != h.len() || w.iter().zip(h).any(|(a, b)| a.0 != b.0);
    // With the same groups in the same order each path has the same group number in both.
    let groups = !members && w.iter().zip(h).any(|(a, b)| a.1 != b.1);
    (members, groups)
}

/// Only the order of the groups differs, not who stands with whom: what `failback` may leave as it is.
pub fn only_order_differs(want: &Table, have: &Table) -> bool {
    if members_differ(want, have) != (false, true) || want.groups.len() != have.groups.len() {
        return false;
    }
    // Group number in `have` -> in `want`, one to one.
    let mut to = [None; MAP_GROUPS];
    let mut taken = [false; MAP_GROUPS];
    want.paths.iter().all(|w| {
        let Some(h) = have.paths.iter().find(|h| h.devno == w.devno) else { return false };
        let (Some(slot), Some(used)) = (to.get_mut(usize::from(h.group)), taken.get_mut(usize::from(w.group))) else { return false };
        match *slot {
            Some(g) => g == w.group,
            None if *used => false,
            None => {
                *slot = Some(w.group);
                *used = true;
                true
            }
        }
    })
}

#[cfg(test)]
mod tests;
