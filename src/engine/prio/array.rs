//! Prioritizers that ask one array family one or two questions: emc, rdac, hp_sw, hds, ontap, datacore.

use super::{Cause, Prioritizer, Step, Subject, argument};
use crate::conf::settings::PrioKind;
use crate::engine::checker::{self, passing};
use crate::model::parse_decimal;
use crate::wire::rdac::{VOLUME_ACCESS, VolumeAccess};
use crate::wire::scsi::{Command, Outcome, Reply};
use crate::wire::sense::{NOT_READY, UNIT_ATTENTION};
use crate::wire::{emc, vendor};

/// Times one question is asked when a unit attention or a passing host error is in the way.
const TRIES: u8 = 5;
const RDAC_LEN: u16 = 128;

pub(super) fn start(kind: PrioKind, subject: &Subject<'_>) -> Step {
    if kind == PrioKind::Datacore && preferred_server(subject.args).is_none() {
        return Step::done(0, Cause::Arguments);
    }
    Step::Send(question(kind, subject))
}

fn question(kind: PrioKind, subject: &Subject<'_>) -> Command {
    let command = match kind {
        PrioKind::Emc => emc::inquiry(),
        PrioKind::Rdac => Command::vpd(VOLUME_ACCESS, RDAC_LEN),
        PrioKind::Ontap => vendor::ontap_interface(),
        PrioKind::Hds => Command::inquiry(vendor::INQUIRY_LEN),
        PrioKind::Datacore => return Command::inquiry(vendor::INQUIRY_LEN).within(datacore_timeout(subject)),
        _ => Command::test_unit_ready(),
    };
    command.within(subject.timeout_secs)
}

/// `preferredsds=NAME`, with `timeout=NUMBER` before or behind it. Anything else in front is no arguments at all, as with the peer.
fn preferred_server(args: &str) -> Option<&str> {
    let mut words = args.split_ascii_whitespace();
    let mut word = words.next()?;
    if let Some(number) = word.strip_prefix("timeout=") {
        parse_decimal(number)?;
        word = words.next()?;
    }
    word.strip_prefix("preferredsds=").filter(|name| !name.is_empty())
}

/// `timeout=` in milliseconds, 500 to 20000, rounded up to seconds (SG_IO on a disk knows no less than seven anyway).
fn datacore_timeout(subject: &Subject<'_>) -> u16 {
    match argument(subject.args, "timeout").and_then(parse_decimal) {
        Some(ms @ 500..=20_000) => ms.div_ceil(1000) as u16,
        _ => subject.timeout_secs,
    }
}

pub(super) fn next(machine: &mut Prioritizer, subject: &Subject<'_>, reply: &Reply<'_>) -> Step {
    let outcome = reply.outcome();
    let reason = Cause::Reply(checker::Cause::from(outcome));
    if machine.kind == PrioKind::HpSw {
        return hp_sw(machine, subject, outcome);
    }
    if !reply.done() && machine.kind != PrioKind::Ontap {
        if passing(&outcome) && machine.again(TRIES) {
            return Step::Send(question(machine.kind, subject));
        }
        // These two call a path that does not answer the worst one, and so count it in its group.
        let silent = matches!(machine.kind, PrioKind::Rdac | PrioKind::Datacore);
        return if silent { Step::done(0, reason) } else { Step::undefined(reason) };
    }
    let data = reply.data;
    let malformed = Cause::Reply(checker::Cause::Malformed);
    match machine.kind {
        PrioKind::Emc => match emc::Page::parse(data) {
            Ok(page) => emc_priority(&page),
            Err(_) => Step::undefined(malformed),
        },
        PrioKind::Rdac => VolumeAccess::parse(data).map_or(Step::done(0, malformed), |v| Step::done(rdac_priority(&v), Cause::Plain)),
        PrioKind::Hds => match vendor::hds_owned(data) {
            Ok(owned) => Step::done(i32::from(owned), Cause::Plain),
            Err(_) => Step::undefined(malformed),
        },
        PrioKind::Datacore => {
            let wanted = preferred_server(subject.args).unwrap_or("").as_bytes();
            let Ok(server) = vendor::datacore_server(data) else { return Step::done(0, malformed) };
            // The server's name is part of a longer one on some releases.
            let found = !wanted.is_empty() && server.windows(wanted.len()).any(|w| w == wanted);
            Step::done(i32::from(found), Cause::Plain)
        }
        PrioKind::Ontap => ontap(machine, subject, reply, reason),
        _ => Step::undefined(Cause::Unsupported),
    }
}

/// Owner state, plus two where the path leads to the default owner: so the default owner's group wins while nobody else owns the LUN,
/// and failback goes there.
fn emc_priority(page: &emc::Page) -> Step {
    use checker::emc::{Fault, fault};
    if let Some(found) = fault(page).filter(|found| *found != Fault::Unbound) {
        return Step::undefined(Cause::Reply(checker::Cause::Emc(found)));
    }
    let home = if page.default_sp == page.sp { 2 } else { 0 };
    Step::done(i32::from(page.lun.byte()) + home, Cause::Plain)
}

fn rdac_priority(volume: &VolumeAccess) -> i32 {
    let preference = match volume.preference {
        1 => 4,
        2 => 1,
        _ => 0,
    };
    preference + if volume.owner { 2 } else { 0 } + if volume.ioship { 8 } else { 0 }
}

/// 4 serves, 2 stands by, 0 neither.
fn hp_sw(machine: &mut Prioritizer, subject: &Subject<'_>, outcome: Outcome) -> Step {
    let reason = Cause::Reply(checker::Cause::from(outcome));
    match outcome {
        Outcome::Good | Outcome::Recovered(_) => Step::done(4, Cause::Plain),
        Outcome::Check(sense) if sense.is(NOT_READY, 0x04, 0x02) => Step::done(2, reason),
        Outcome::Check(sense) if sense.key == UNIT_ATTENTION && sense.asc == 0x29 && machine.again(TRIES) => {
            Step::Send(question(PrioKind::HpSw, subject))
        }
        _ => Step::done(0, reason),
    }
}

/// 4 Fibre Channel to the owner, 3 hardware iSCSI, 2 software iSCSI, 1 through the partner, 0 where nothing tells which.
fn ontap(machine: &mut Prioritizer, subject: &Subject<'_>, reply: &Reply<'_>, reason: Cause) -> Step {
    if machine.stage == 0 {
        if !reply.done() {
            return Step::done(0, reason);
        }
        match vendor::ontap_interface_reply(reply.data) {
            Ok(vendor::OntapInterface::SoftwareIscsi) => return Step::done(2, Cause::Plain),
            Ok(vendor::OntapInterface::HardwareIscsi) => return Step::done(3, Cause::Plain),
            _ => {}
        }
        machine.stage = 1;
        return Step::Send(vendor::ontap_proxy().within(subject.timeout_secs));
    }
    // Only the page itself says "partner"; without it the path is an owner's.
    let proxy = reply.done() && vendor::ontap_proxy_reply(reply.data) == Ok(true);
    Step::done(if proxy { 1 } else { 4 }, Cause::Plain)
}
