//! Walks over all there is: scans of the disks, surveys and lists of the maps. When one is begun, what its end means, and when enough is
//! known to act on.

use super::note::What;
use super::{Action, Context, Engine, Refused};
use crate::model::Instant;
use core::time::Duration;

/// A scan, survey or list: wanted, under way, and what it has counted.
#[derive(Default)]
pub(super) struct Sweep {
    pub(super) want: bool,
    pub(super) running: bool,
    /// Those not mentioned are being given up.
    pub(super) sweeping: bool,
    /// Number of the last one asked.
    pub(super) serial: u32,
    pub(super) deadline: Instant,
    pub(super) retry_at: Option<Instant>,
    pub(super) failures: u8,
    /// It is past its deadline, and under way still: its end is not waited for, nor is another begun.
    pub(super) late: bool,
}

/// A scan that misses something so often in a row goes on missing it: what it found is worked with.
const GIVEN_UP: u8 = 5;

impl Sweep {
    /// It failed: once more, after a pause that grows.
    pub(super) fn again(&mut self, now: Instant) {
        self.want = true;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + Duration::from_millis(50 << self.failures.min(8)));
    }

    fn due(&self, now: Instant) -> bool {
        self.want && !self.running && !self.late && self.retry_at.is_none_or(|t| t <= now)
    }

    fn begin(&mut self, now: Instant) {
        self.want = false;
        self.running = true;
        (self.sweeping, self.late) = (false, false);
        self.serial = self.serial.wrapping_add(1);
        self.deadline = now + Duration::from_secs(60);
        self.retry_at = None;
    }

    /// A time that has passed is none: what was due then is held up by something that wakes it.
    pub(super) fn at(&self, now: Instant) -> Option<Instant> {
        if self.running { Some(self.deadline) } else { self.retry_at.filter(|&t| self.want && !self.late && t > now) }
    }
}

impl Engine<'_> {
    /// `Event::ScanDone`.
    pub(super) fn scan_done(&mut self, cx: &Context<'_>, complete: bool) {
        (self.scan.running, self.scan.late) = (false, false);
        if complete {
            self.scan.failures = 0;
            self.scan.sweeping = true;
            self.scanned = true;
            self.wake = true;
        } else {
            self.scan.again(cx.now);
            if self.scan.failures == GIVEN_UP {
                self.note(None, None, What::ScanIncomplete);
                self.wake |= !self.scanned;
                self.scanned = true;
            }
        }
    }

    pub(super) fn sweep(&mut self, cx: &Context<'_>) {
        if self.scan.sweeping {
            self.sweep_paths(cx);
        }
        if self.survey.sweeping {
            self.sweep_maps(cx);
        }
    }

    /// Both the disks and the live maps are known.
    pub(super) fn ready(&self) -> bool {
        self.scanned && self.surveyed && !self.scan.running && !self.scan.sweeping && !self.survey.sweeping
    }

    /// Has it been given up to see every disk?
    pub(super) fn scan_incomplete(&self) -> bool {
        self.scan.failures >= GIVEN_UP
    }

    pub(super) fn begin_sweeps(&mut self, cx: &Context<'_>, emit: &mut dyn FnMut(Action<'_>) -> Result<(), Refused>) {
        if self.stopping {
            return;
        }
        if self.scan.running && self.scan.deadline <= cx.now {
            (self.scan.running, self.scan.late) = (false, true);
        }
        for sweep in [&mut self.survey, &mut self.list] {
            if sweep.running && sweep.deadline <= cx.now {
                sweep.running = false;
                sweep.again(cx.now);
            }
        }
        // Reading sysfs and listing devices allocate, or take locks that others hold while they allocate.
        let quiet = self.quiet();
        if self.survey.due(cx.now) && (quiet || !self.surveyed) && emit(Action::Survey).is_ok() {
            self.survey.begin(cx.now);
            self.list.want = false;
        }
        if self.scan.due(cx.now) && (quiet || !self.scanned) {
            match emit(Action::Scan) {
                Ok(()) => self.scan.begin(cx.now),
                // One that was given up still runs: its end is that of the last one begun.
                Err(_) => self.scan.retry_at = Some(cx.now + Duration::from_secs(1)),
            }
        }
        if self.list.due(cx.now) && self.surveyed {
            if quiet {
                if emit(Action::List).is_ok() {
                    self.list.begin(cx.now);
                }
            } else {
                // Status of those that wait is what matters now, and that may be asked.
                self.list.want = false;
                self.read_starved(cx);
            }
        }
    }
}
