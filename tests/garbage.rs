//! Arrays that answer anything: every checker and prioritizer must end after a bounded number of steps, never panic, and never say
//! that a path is good when nothing good was answered.

#[path = "common/device.rs"]
mod device;

use corepath::conf::settings::{CheckerKind, PrioKind};
use corepath::engine::checker::{self, Checker, MapMemory, PathMemory};
use corepath::engine::prio::{self, Prioritizer};
use corepath::fault::Errno;
use corepath::model::{PathFacts, PathState};
use corepath::wire::scsi::Reply;
use device::Dice;

const CHECKERS: [CheckerKind; 8] = [
    CheckerKind::Tur,
    CheckerKind::Directio,
    CheckerKind::ReadSector0,
    CheckerKind::Rdac,
    CheckerKind::EmcClariion,
    CheckerKind::HpSw,
    CheckerKind::CcissTur,
    CheckerKind::None,
];

const PRIOS: [PrioKind; 14] = [
    PrioKind::Const,
    PrioKind::Alua,
    PrioKind::Sysfs,
    PrioKind::Ana,
    PrioKind::Rdac,
    PrioKind::Emc,
    PrioKind::HpSw,
    PrioKind::Hds,
    PrioKind::Ontap,
    PrioKind::Datacore,
    PrioKind::Iet,
    PrioKind::Random,
    PrioKind::WeightedPath,
    PrioKind::PathLatency,
];

#[test]
fn checkers_end() {
    for kind in CHECKERS {
        for seed in 0..2000 {
            let mut dice = Dice::new(seed);
            let (mut path, mut map) = (PathMemory::default(), MapMemory { inactive_snapshot: seed % 2 == 0 });
            let (mut machine, mut step) = Checker::start(kind, checker::Subject { scsi: seed % 3 != 0, ..Default::default() }, &path);
            let (mut steps, mut good) = (0, kind == CheckerKind::None);
            let verdict = loop {
                steps += 1;
                assert!(steps <= 20, "{kind:?} {seed}");
                step = match step {
                    checker::Step::Send(_) => {
                        let (sense, data) = (dice.bytes(), dice.bytes());
                        let errno = dice.roll().is_multiple_of(8).then(|| Errno(dice.roll() as u16 % 134));
                        let reply = Reply { status: dice.status(), host: dice.host(), driver: 0, sense: &sense, data: &data, errno };
                        // Reservation conflict is up for tur, ENOMEM for readsector0: the mapping is the vectors' matter.
                        good |= reply.done() || reply.status & 0x7e == 0x18 || errno == Some(Errno::NOMEM);
                        machine.next(checker::Answer::Scsi(&reply), &mut path, &mut map)
                    }
                    checker::Step::Read { length } => {
                        let got = if dice.roll().is_multiple_of(4) { Err(Errno::IO) } else { Ok(dice.roll() as u32 % 1024) };
                        good |= got == Ok(length);
                        machine.next(checker::Answer::Read(got), &mut path, &mut map)
                    }
                    checker::Step::Done(verdict) => break verdict,
                }
            };
            assert!(verdict.state != PathState::Up || good, "{kind:?} {seed}");
        }
    }
}

#[test]
fn prioritizers_end() {
    for kind in PRIOS {
        for seed in 0..500 {
            let mut dice = Dice::new(seed);
            let facts = PathFacts::default();
            let args = ["", "preferredsds=a timeout=1000", "io_num=20", "hbtl . 5", "preferredip=1"][seed as usize % 5];
            let subject = prio::Subject { facts: &facts, args, seed: seed as u32, timeout_secs: 1 };
            let (mut machine, mut step) = Prioritizer::start(kind, &subject);
            let mut steps = 0;
            loop {
                steps += 1;
                assert!(steps <= 210, "{kind:?} {seed}");
                let (sense, data) = (dice.bytes(), dice.bytes());
                step = match step {
                    prio::Step::Send(_) => {
                        let reply = Reply { status: dice.status(), host: dice.host(), driver: 0, sense: &sense, data: &data, errno: None };
                        machine.next(&subject, prio::Answer::Scsi(&reply))
                    }
                    prio::Step::Admin(_) => machine.next(&subject, prio::Answer::Admin(Ok(&data))),
                    prio::Step::Read { length } => {
                        machine.next(&subject, prio::Answer::Read { result: Ok(length), micros: dice.roll() as u32 })
                    }
                    prio::Step::Done(verdict) => {
                        assert!(verdict.prio.0 >= -1, "{kind:?} {seed}");
                        break;
                    }
                };
            }
        }
    }
}

#[test]
fn an_answer_of_the_wrong_kind_judges_nothing() {
    let (mut path, mut map) = (PathMemory::default(), MapMemory::default());
    let (mut machine, _) = Checker::start(CheckerKind::Tur, checker::Subject::default(), &path);
    let checker::Step::Done(verdict) = machine.next(checker::Answer::Read(Ok(512)), &mut path, &mut map) else { panic!() };
    assert_eq!(verdict.state, PathState::Wild);
}

#[test]
fn emc_remembers_who_the_lun_was() {
    use checker::{Answer, Cause, Step, emc::Fault};
    let page = |wwn: u8, lun: u8| {
        let mut p = [0; 128];
        (p[1], p[4], p[27], p[28], p[30]) = (0xc0, lun, 3, 4, 4);
        p[10..26].fill(wwn);
        p
    };
    let (mut path, mut map) = (PathMemory::default(), MapMemory::default());
    let check = |path: &mut PathMemory, map: &mut MapMemory, data: &[u8], read: Reply<'_>| {
        let (mut machine, _) = Checker::start(CheckerKind::EmcClariion, checker::Subject::default(), path);
        match machine.next(Answer::Scsi(&Reply::good(data)), path, map) {
            Step::Send(_) => match machine.next(Answer::Scsi(&read), path, map) {
                Step::Done(verdict) => verdict,
                other => panic!("{other:?}"),
            },
            Step::Done(verdict) => verdict,
            other => panic!("{other:?}"),
        }
    };
    let good = Reply::good(&[]);
    // Seen once it may have been garbled: the path is failed all the same, but what comes next is believed.
    for (wwn, state) in [(9, PathState::Up), (1, PathState::Down), (1, PathState::Up), (1, PathState::Up)] {
        assert_eq!(check(&mut path, &mut map, &page(wwn, 1), good).state, state);
    }
    let changed = check(&mut path, &mut map, &page(2, 2), good);
    assert_eq!((changed.state, changed.cause), (PathState::Down, Cause::Emc(Fault::WwnChanged)));
    // The second look asks for the unit attention too, and changes no verdict.
    assert_eq!(check(&mut path, &mut map, &page(2, 2), good).cause, Cause::Emc(Fault::WwnChanged));
    // The identity follows: then it is this LUN and no other.
    let (from, to) = (format!("3{}", "01".repeat(16)), format!("3{}", "02".repeat(16)));
    let mut renamed = path;
    corepath::engine::checker::emc::renamed(&mut renamed, &from, &to);
    assert_eq!(check(&mut renamed, &mut map, &page(1, 1), good).cause, Cause::Emc(Fault::WwnChanged));
    assert_eq!(check(&mut renamed, &mut map, &page(2, 1), good).state, PathState::Up);
    // The owner says "inactive snapshot": the path to the other controller, which cannot tell, goes down with it and comes back with it.
    let sense = [0x72, 5, 0x25, 1];
    let inactive = Reply { status: 2, driver: 8, sense: &sense, ..good };
    let mut other = PathMemory::default();
    assert_eq!(check(&mut path, &mut map, &page(1, 2), inactive).cause, Cause::Emc(Fault::InactiveSnapshot));
    assert_eq!(check(&mut other, &mut map, &page(1, 1), good).cause, Cause::Emc(Fault::InactiveSnapshot));
    assert_eq!(check(&mut path, &mut map, &page(1, 2), good).state, PathState::Up);
    assert_eq!(check(&mut other, &mut map, &page(1, 1), good).state, PathState::Up);
}

#[test]
fn rdac_looks_at_the_mode_page_once() {
    let current = [0, 18, 0, 0, 0, 0, 0, 0, 0x8a, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut changeable = current;
    changeable[13] = 0x40;
    let mut owner = [0; 48];
    owner[1] = 0xc9;
    owner[4..8].copy_from_slice(b"vac1");
    owner[8] = 1;
    let (mut path, mut map) = (PathMemory::default(), MapMemory::default());
    let mut sent = Vec::new();
    for _ in 0..2 {
        let (mut machine, mut step) = Checker::start(CheckerKind::Rdac, checker::Subject::default(), &path);
        let verdict = loop {
            step = match step {
                checker::Step::Send(command) => {
                    sent.push((command.cdb[0], command.cdb[2]));
                    let data: &[u8] = match command.cdb[..3] {
                        [0x5a, _, 0x4a] => &changeable,
                        [0x5a, _, 0x0a] => &current,
                        [0x12, ..] => &owner,
                        _ => &[],
                    };
                    machine.next(checker::Answer::Scsi(&Reply::good(data)), &mut path, &mut map)
                }
                checker::Step::Done(verdict) => break verdict,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(verdict.state, PathState::Up);
    }
    assert_eq!(sent, [(0x5a, 0x4a), (0x5a, 0x0a), (0x55, 0), (0x12, 0xc9), (0x12, 0xc9)]);
}
