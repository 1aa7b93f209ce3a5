//! The engine's state as rows for the listings. Answered from memory; asks nothing of any device.

use super::view::{GroupRow, MapRow, PathRow, Queueing, View};
use crate::conf::settings::{CheckerKind, NoPathRetry};
use crate::engine::{Engine, GroupView, MapView, PathView, Reason};
use crate::model::{GroupState, Instant, Text};
use core::fmt::Write;

/// Looks at `engine` as of `now`.
pub struct EngineView<'e> {
    pub engine: &'e Engine<'e>,
    pub now: Instant,
    /// Seconds one retry of `no_path_retry` stands for.
    pub retry_secs: u32,
}

/// The word of a checker, as configuration writes it.
pub const fn checker_word(kind: CheckerKind) -> &'static str {
    match kind {
        CheckerKind::Tur => "tur",
        CheckerKind::Directio => "directio",
        CheckerKind::ReadSector0 => "readsector0",
        CheckerKind::Rdac => "rdac",
        CheckerKind::EmcClariion => "emc_clariion",
        CheckerKind::HpSw => "hp_sw",
        CheckerKind::CcissTur => "cciss_tur",
        CheckerKind::None => "none",
    }
}

impl<'e> EngineView<'e> {
    /// Maps with a live device first come as they are; order is that of the slots.
    fn nth(&self, map: usize) -> Option<MapView<'e>> {
        self.engine.maps().filter(MapView::live).nth(map)
    }

    /// Disks that are paths, or would be if there were a map for them. Others are not listed: clients take an orphan for what is left of a LUN,
    /// and have the kernel forget it.
    pub fn shown(&self) -> impl Iterator<Item = PathView<'e>> {
        let left_alone = |reason| {
            matches!(
                reason,
                Reason::Blacklisted(_) | Reason::MissingProperty | Reason::Virtual | Reason::NativeNvme | Reason::Usb | Reason::Removable
            )
        };
        self.engine.paths().filter(move |path| path.map().is_some() || !left_alone(path.reason()))
    }

    fn nth_group(&self, map: usize, group: usize) -> Option<GroupView<'e>> {
        self.nth(map)?.groups().nth(group)
    }

    #[inline(never)]
    fn path_row(&self, path: PathView<'e>) -> PathRow<'e> {
        let checker = path.settings().map_or(CheckerKind::Tur, |settings| settings.checker);
        PathRow {
            name: path.name(),
            devno: path.devno(),
            hctl: path.hctl(),
            wwid: path.wwid(),
            vendor: path.vendor(),
            product: path.product(),
            revision: path.revision(),
            serial: path.serial(),
            size: path.size(),
            protocol: path.protocol(),
            sys_state: path.sys_state(),
            tpgs: path.facts().tpgs,
            target_port_group: path.target_port_group(),
            host_node: path.host_node(),
            host_port: path.host_port(),
            target_node: path.target_node(),
            target_port: path.target_port(),
            adapter: path.adapter(),
            dm: path.dm_state(),
            state: path.state(),
            prio: path.prio(),
            checker: checker_word(checker),
            map: path.map().map(|map| map.name()),
            marginal: path.marginal(),
            failures: path.failures(),
            next_check: path.next_check().map(|(at, interval)| (at.since(self.now).as_secs() as u32, interval.as_secs() as u32)),
            partial: path.map().is_some() && !path.judged(),
        }
    }

    /// Position of the map that is named so (dm name, WWID or dm-N).
    pub fn position(&self, name: &str) -> Option<usize> {
        let wanted = self.engine.find_map(name)?.id();
        self.engine.maps().filter(MapView::live).position(|map| map.id() == wanted)
    }
}

impl View for EngineView<'_> {
    fn maps(&self) -> usize {
        self.engine.maps().filter(MapView::live).count()
    }

    fn map(&self, map: usize) -> MapRow<'_> {
        let Some(m) = self.nth(map) else { return MapRow::default() };
        let disk = m.paths().find(|p| !p.product().is_empty());
        let mut features = Text::<128>::new();
        let mut buffer = [0u8; 128];
        let length = m.features().emit(&mut buffer).unwrap_or(0);
        let written = buffer.get(..length).and_then(|written| core::str::from_utf8(written).ok()).unwrap_or("");
        let _ = features.push_str(written.trim_ascii_end());
        let mut handler = Text::<72>::new();
        let words = m.handler().split_ascii_whitespace().count();
        let _ = if words == 0 { handler.write_str("0") } else { write!(handler.as_mut_view(), "{words} {}", m.handler()) };
        let settings = m.settings();
        MapRow {
            name: m.name(),
            wwid: m.wwid(),
            devno: m.devno(),
            vendor: disk.map_or("", |d| d.vendor()),
            product: disk.map_or("", |d| d.product()),
            revision: disk.map_or("", |d| d.revision()),
            size: m.size(),
            features,
            handler,
            read_only: m.read_only(),
            suspended: m.suspended(),
            failback: settings.failback,
            failback_in: m.failback_at().map(|at| at.since(self.now).as_secs() as u32),
            held: m.failback_held(),
            activating: m.activation_since().map(|at| self.now.since(at).as_secs()).filter(|&secs| secs >= 3),
            queueing: match (settings.no_path_retry, m.queue_until()) {
                _ if m.queueing_disabled_by_admin() => Queueing::Off,
                (_, Some(at)) => Queueing::Seconds(at.since(self.now).as_secs() as u32),
                (NoPathRetry::Unset, _) => Queueing::Unset,
                (NoPathRetry::Fail, _) => Queueing::Off,
                (NoPathRetry::Queue | NoPathRetry::Retries(_), _) if m.usable() == 0 && !m.queueing() => Queueing::Off,
                (NoPathRetry::Queue, _) => Queueing::On,
                (NoPathRetry::Retries(n), _) => Queueing::Checks(n),
            },
            usable: m.usable(),
            outage: m.outage(),
            action: "",
            path_faults: m.path_faults(),
            group_switches: m.group_switches(),
            loads: m.loads(),
            queue_seconds: m.queue_seconds() as u32,
            queue_timeouts: m.queue_timeouts(),
            failures: m.queue_timeouts(),
        }
    }

    fn groups(&self, map: usize) -> usize {
        self.nth(map).map_or(0, |m| m.groups().count())
    }

    fn group(&self, map: usize, group: usize) -> GroupRow<'_> {
        let Some(g) = self.nth_group(map, group) else { return GroupRow { state: GroupState::Undefined, ..GroupRow::default() } };
        let rating = g.rating();
        GroupRow { selector: g.selector(), prio: rating.prio.0, state: g.state(), marginal: rating.marginal, paths: g.paths().count() }
    }

    fn group_path(&self, map: usize, group: usize, path: usize) -> PathRow<'_> {
        self.nth_group(map, group).and_then(|g| g.paths().nth(path)).map_or_else(PathRow::default, |p| self.path_row(p))
    }

    fn paths(&self) -> usize {
        self.shown().count()
    }

    fn path(&self, path: usize) -> PathRow<'_> {
        self.shown().nth(path).map_or_else(PathRow::default, |p| self.path_row(p))
    }
}
