//! EMC CLARiiON/VNX: VPD page 0xC0, then a read on the owning controller.
//!
//! Not owned is up, not ghost: a trespass makes the path work and the group order keeps it second. The read finds inactive
//! snapshots, which only the owner admits (05/25/01); the finding is shared by the map's paths.

use super::{Cause, Checker, MapMemory, PathMemory, Step, TRIES, passing};
use crate::fault::Errno;
use crate::model::PathState;
use crate::wire::emc::{Lun, Page};
use crate::wire::scsi::{Command, Outcome, Reply};
use crate::wire::sense::ILLEGAL_REQUEST;

pub(super) use crate::wire::emc::inquiry;

/// What is wrong with a CLARiiON path that answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A page layout we do not know.
    Revision(u8),
    /// Not registered as CLARiiON Open.
    InitiatorType(u8),
    /// Not mode 1 (passive not ready) or 4 (ALUA).
    FailoverMode(u8),
    ArrayCommPathOff,
    /// LUNZ, or unbound since.
    Unbound,
    /// An owner state we do not know.
    State(u8),
    /// The LUN behind this address is another one now.
    WwnChanged,
    InactiveSnapshot,
    /// Upgrade or another operation under way (byte 48).
    Operations(u8),
}

/// The set-up checks that a page must pass before its owner state means anything.
pub fn misconfigured(page: &Page) -> Option<Fault> {
    if page.revision != 0 {
        return Some(Fault::Revision(page.revision));
    }
    if page.initiator_type != 3 {
        return Some(Fault::InitiatorType(page.initiator_type));
    }
    if !matches!(page.failover_mode, 4 | 6) {
        return Some(Fault::FailoverMode(page.failover_mode));
    }
    if !page.array_comm_path {
        return Some(Fault::ArrayCommPathOff);
    }
    None
}

/// The page was read, and shows another LUN as it did before.
const ASK_AGAIN: u8 = 2;

/// The WWN that page 0xC0 shows of a LUN of this WWID (NAA 6, as VPD page 0x83 has it).
fn wwn(wwid: &str) -> Option<[u8; 16]> {
    let hex = wwid.strip_prefix('3').filter(|hex| hex.len() == 32)?;
    let mut wwn = [0; 16];
    for (byte, pair) in wwn.iter_mut().zip(hex.as_bytes().chunks(2)) {
        for &digit in pair {
            *byte = (*byte << 4) | char::from(digit).to_digit(16)? as u8;
        }
    }
    Some(wwn)
}

/// The path's WWID is another one now: so must be what the page shows. Nothing is expected of an array whose page is of another mind.
pub fn renamed(path: &mut PathMemory, from: &str, to: &str) {
    path.emc_wwn = path.emc_wwn.filter(|&known| wwn(from) == Some(known)).and_then(|_| wwn(to));
}

pub(super) fn next(checker: &mut Checker, reply: &Reply<'_>, path: &mut PathMemory, map: &mut MapMemory) -> Step {
    let outcome = reply.outcome();
    if checker.stage == 0 {
        return page(checker, reply, outcome, path, map);
    }
    if checker.stage == ASK_AGAIN {
        return done(PathState::Down, Fault::WwnChanged);
    }
    match outcome {
        Outcome::Good | Outcome::Recovered(_) => {
            map.inactive_snapshot = false;
            Step::done(PathState::Up, Cause::Plain)
        }
        Outcome::Check(sense) if sense.is(ILLEGAL_REQUEST, 0x25, 0x01) => {
            map.inactive_snapshot = true;
            done(PathState::Down, Fault::InactiveSnapshot)
        }
        Outcome::Check(_) if passing(&outcome) && checker.again(TRIES) => checker.send(Command::read_first_block()),
        _ => Step::done(PathState::Down, Cause::from(outcome)),
    }
}

fn page(checker: &mut Checker, reply: &Reply<'_>, outcome: Outcome, path: &mut PathMemory, map: &MapMemory) -> Step {
    match outcome {
        Outcome::Good | Outcome::Recovered(_) => {}
        // Not a CLARiiON.
        Outcome::Check(sense) if sense.key == ILLEGAL_REQUEST => return Step::done(PathState::Wild, Cause::Sense(sense)),
        Outcome::Errno(Errno::NOTTY) => return Step::done(PathState::Wild, Cause::Errno(Errno::NOTTY)),
        _ if passing(&outcome) && checker.again(TRIES) => return checker.send(inquiry()),
        _ => return Step::done(PathState::Down, Cause::from(outcome)),
    }
    let Ok(page) = Page::parse(reply.data) else { return Step::done(PathState::Down, Cause::Malformed) };
    match fault(&page) {
        Some(found @ Fault::Operations(_)) => return done(PathState::Shaky, found),
        Some(found) => return done(PathState::Down, found),
        None => {}
    }
    match path.emc_wwn {
        // Failed at once. INQUIRY fetches no unit attention, but the one that waits makes the kernel read the identity anew: at later
        // checks it is fetched by a command that does.
        Some(known) if known != page.wwn => {
            if !path.emc_wwn_sure {
                path.emc_wwn = Some(page.wwn);
                return done(PathState::Down, Fault::WwnChanged);
            }
            if core::mem::replace(&mut path.emc_changed, true) {
                checker.stage = ASK_AGAIN;
                return checker.send(Command::test_unit_ready());
            }
            return done(PathState::Down, Fault::WwnChanged);
        }
        known => (path.emc_wwn, path.emc_wwn_sure, path.emc_changed) = (Some(page.wwn), known.is_some(), false),
    }
    if page.lun == Lun::Owned {
        checker.stage = 1;
        checker.tries = 0;
        return checker.send(Command::read_first_block());
    }
    if map.inactive_snapshot {
        return done(PathState::Down, Fault::InactiveSnapshot);
    }
    Step::done(PathState::Up, Cause::Plain)
}

/// What is wrong with a page by itself; the prioritizer asks the same.
pub fn fault(page: &Page) -> Option<Fault> {
    misconfigured(page).or(match page.lun {
        _ if page.operations != 0 => Some(Fault::Operations(page.operations)),
        Lun::Unbound => Some(Fault::Unbound),
        Lun::Unknown(state) => Some(Fault::State(state)),
        Lun::Bound | Lun::Owned => None,
    })
}

const fn done(state: PathState, fault: Fault) -> Step {
    Step::done(state, Cause::Emc(fault))
}
