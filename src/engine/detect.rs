//! Autodetection: which checker and prioritizer suit a path, whatever the configuration names (unless `detect_checker` or
//! `detect_prio` is off).
//!
//! Two things cannot be read from sysfs: whether an array configured as RDAC is one (VPD page 0xC9), and whether an NVMe controller
//! reports asymmetric access. [`question`] says what to ask first, [`detect`] decides with or without the answer.

use crate::conf::settings::{CheckerKind, PathSettings, PrioKind};
use crate::model::{Bus, PathFacts, Tpgs};
use crate::wire::nvme::{self, Admin};
use crate::wire::rdac;
use crate::wire::scsi::{Command, Reply};

/// What was asked of the device; `None` is not asked, or no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    pub rdac: Option<bool>,
    pub ana: Option<bool>,
}

impl Evidence {
    /// From the reply to [`Question::Scsi`]. Silence is no evidence, a refusal is.
    pub fn from_scsi(reply: &Reply<'_>) -> Evidence {
        use crate::wire::scsi::Outcome;
        let rdac = match reply.outcome() {
            Outcome::Good | Outcome::Recovered(_) => Some(rdac::is_rdac(reply.data)),
            Outcome::Check(sense) if sense.key == crate::wire::sense::ILLEGAL_REQUEST => Some(false),
            _ => None,
        };
        Evidence { rdac, ana: None }
    }

    /// From the data of [`Question::Nvme`].
    pub fn from_nvme(controller: &[u8]) -> Evidence {
        Evidence { rdac: None, ana: nvme::reports_ana(controller).ok() }
    }
}

/// What to ask the device before deciding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Question {
    Nothing,
    Scsi(Command),
    Nvme(Admin),
}

/// What was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Detected {
    pub checker: CheckerKind,
    pub prio: PrioKind,
    /// The configured `prio_args` were meant for the prioritizer that was chosen: autodetection throws them away otherwise.
    pub keep_args: bool,
}

/// What to ask first. Page 0xC9 only where the configuration expects an RDAC array: others may take offence at a vendor's page.
pub fn question(facts: &PathFacts, settings: &PathSettings) -> Question {
    match facts.bus {
        Bus::Scsi if settings.checker == CheckerKind::Rdac && (settings.detect_checker || settings.detect_prio) => {
            Question::Scsi(Command::vpd(rdac::VOLUME_ACCESS, 48))
        }
        Bus::Nvme if settings.detect_prio && facts.access.is_none() => Question::Nvme(nvme::identify_controller()),
        _ => Question::Nothing,
    }
}

/// Checker and prioritizer of one path.
pub fn detect(facts: &PathFacts, settings: &PathSettings, evidence: Evidence) -> Detected {
    let alua = matches!(facts.tpgs, Tpgs::Implicit | Tpgs::Explicit | Tpgs::Both);
    let scsi = facts.bus == Bus::Scsi;
    let is_rdac = evidence.rdac == Some(true);
    let checker = match (settings.detect_checker && scsi, is_rdac) {
        (true, true) => CheckerKind::Rdac,
        (true, false) if alua => CheckerKind::Tur,
        _ => settings.checker,
    };
    let detected = match facts.bus {
        _ if !settings.detect_prio => None,
        Bus::Nvme if facts.access.is_some() || evidence.ana == Some(true) => Some(PrioKind::Ana),
        // Never `sysfs`: a handler that was attached after the scan shows every path optimized until it is first used, and what the
        // handler learns by itself makes no uevent. One report for all paths of a LUN costs less than sysfs read for each.
        Bus::Scsi if alua => Some(PrioKind::Alua),
        _ => None,
    };
    match detected {
        Some(prio) => Detected { checker, prio, keep_args: false },
        // Nobody to ask about groups: one priority for all, rather than an error at every check.
        None if settings.prio == PrioKind::Alua && scsi && facts.tpgs == Tpgs::None => {
            Detected { checker, prio: PrioKind::Const, keep_args: false }
        }
        None => Detected { checker, prio: settings.prio, keep_args: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccessState;

    fn path(bus: Bus, tpgs: Tpgs, access: Option<AccessState>) -> PathFacts {
        PathFacts { bus, tpgs, access, ..Default::default() }
    }

    fn auto(checker: CheckerKind, prio: PrioKind) -> PathSettings {
        PathSettings { checker, prio, detect_checker: true, detect_prio: true, ..Default::default() }
    }

    fn kinds(d: Detected) -> (CheckerKind, PrioKind) {
        (d.checker, d.prio)
    }

    #[test]
    fn alua_arrays() {
        let s = auto(CheckerKind::Directio, PrioKind::Const);
        let none = Evidence::default();
        let some = Some(AccessState::Optimized);
        assert_eq!(kinds(detect(&path(Bus::Scsi, Tpgs::Both, some), &s, none)), (CheckerKind::Tur, PrioKind::Alua));
        assert_eq!(kinds(detect(&path(Bus::Scsi, Tpgs::Implicit, None), &s, none)), (CheckerKind::Tur, PrioKind::Alua));
        assert_eq!(kinds(detect(&path(Bus::Scsi, Tpgs::None, some), &s, none)), (CheckerKind::Directio, PrioKind::Const));
        assert_eq!(kinds(detect(&path(Bus::Scsi, Tpgs::Unknown, some), &s, none)), (CheckerKind::Directio, PrioKind::Const));
        assert!(!detect(&path(Bus::Scsi, Tpgs::Both, some), &s, none).keep_args);
    }

    #[test]
    fn switched_off() {
        let s = PathSettings { detect_checker: false, detect_prio: false, ..auto(CheckerKind::EmcClariion, PrioKind::Emc) };
        let d = detect(&path(Bus::Scsi, Tpgs::Both, Some(AccessState::Standby)), &s, Evidence::default());
        assert_eq!((kinds(d), d.keep_args), ((CheckerKind::EmcClariion, PrioKind::Emc), true));
        let alua = PathSettings { prio: PrioKind::Alua, ..s };
        assert_eq!(detect(&path(Bus::Scsi, Tpgs::None, None), &alua, Evidence::default()).prio, PrioKind::Const);
        assert_eq!(detect(&path(Bus::Scsi, Tpgs::Unknown, None), &alua, Evidence::default()).prio, PrioKind::Alua);
    }

    #[test]
    fn rdac_arrays() {
        let s = auto(CheckerKind::Rdac, PrioKind::Rdac);
        let implicit = path(Bus::Scsi, Tpgs::Implicit, Some(AccessState::Optimized));
        assert!(matches!(question(&implicit, &s), Question::Scsi(c) if c.cdb() == [0x12, 1, 0xc9, 0, 48, 0]));
        let yes = Evidence { rdac: Some(true), ana: None };
        assert_eq!(kinds(detect(&implicit, &s, yes)), (CheckerKind::Rdac, PrioKind::Alua));
        let explicit = path(Bus::Scsi, Tpgs::Explicit, Some(AccessState::Optimized));
        assert_eq!(kinds(detect(&explicit, &s, yes)), (CheckerKind::Rdac, PrioKind::Alua));
        let no = Evidence { rdac: Some(false), ana: None };
        assert_eq!(kinds(detect(&implicit, &s, no)), (CheckerKind::Tur, PrioKind::Alua));
        assert_eq!(kinds(detect(&path(Bus::Scsi, Tpgs::None, None), &s, yes)), (CheckerKind::Rdac, PrioKind::Rdac));
        let mut page = [0; 48];
        page[1] = 0xc9;
        page[4..8].copy_from_slice(b"vac1");
        assert_eq!(Evidence::from_scsi(&Reply::good(&page)).rdac, Some(true));
        assert_eq!(Evidence::from_scsi(&Reply::good(&page[..7])).rdac, Some(false));
        assert_eq!(Evidence::from_scsi(&Reply::failed(crate::fault::Errno::IO)).rdac, None);
        assert_eq!(question(&implicit, &auto(CheckerKind::Tur, PrioKind::Rdac)), Question::Nothing);
    }

    #[test]
    fn nvme() {
        let s = auto(CheckerKind::None, PrioKind::Const);
        let unknown = path(Bus::Nvme, Tpgs::Unknown, None);
        assert_eq!(question(&unknown, &s), Question::Nvme(nvme::identify_controller()));
        assert_eq!(kinds(detect(&unknown, &s, Evidence::default())), (CheckerKind::None, PrioKind::Const));
        assert_eq!(detect(&unknown, &s, Evidence { rdac: None, ana: Some(true) }).prio, PrioKind::Ana);
        let known = path(Bus::Nvme, Tpgs::Unknown, Some(AccessState::Optimized));
        assert_eq!((question(&known, &s), detect(&known, &s, Evidence::default()).prio), (Question::Nothing, PrioKind::Ana));
    }
}
