//! corepath's own checkers, prioritizers and activation against the arrays, without a guest: two programs that were written from the
//! same facts apart from each other must agree.

mod common;

use common::*;
use corepath::conf::settings::{CheckerKind, PrioKind};
use corepath::engine::activate::{Activation, Ended, Guard, Method, Step, Why};
use corepath::engine::checker::{self, Cause, Checker, MapMemory, PathMemory, emc::Fault};
use corepath::engine::prio::{self, Prioritizer};
use corepath::model::{Instant, PathFacts, PathState, Tpgs};
use corepath::wire::scsi;
use corepath_array::array::Outcome;

/// One command of corepath's to the array. No answer is what SG_IO makes of it: the command's time runs out.
fn send(b: &mut Bench, port: usize, lun: u16, command: &scsi::Command) -> (u8, u16, Vec<u8>, Vec<u8>) {
    match b.outcome(port, lun, command.cdb(), command.parameters()) {
        Outcome::Answer { reply, .. } => {
            // virtio_scsi.c: bad target 3, transport failure 6.
            let host = match reply.response {
                0 => 0,
                3 => scsi::host::BAD_TARGET,
                _ => scsi::host::TRANSPORT_FAILFAST,
            };
            let room = match command.transfer {
                scsi::Transfer::In(n) => usize::from(n),
                _ => 0,
            };
            let mut data = reply.data;
            data.truncate(room);
            (reply.status, host, reply.sense, data)
        }
        Outcome::Held(_) => {
            b.advance(u64::from(command.timeout_secs) * 1000);
            (0, scsi::host::TIME_OUT, vec![], vec![])
        }
    }
}

fn reply<'a>(said: &'a (u8, u16, Vec<u8>, Vec<u8>)) -> scsi::Reply<'a> {
    let driver = if said.2.is_empty() { 0 } else { 8 };
    scsi::Reply { status: said.0, host: said.1, driver, sense: &said.2, data: &said.3, errno: None }
}

fn activate(b: &mut Bench, port: usize, lun: u16, method: Method) -> Ended {
    let (mut machine, mut step) = Activation::start(method);
    loop {
        step = match step {
            Step::Send(command) => machine.next(&reply(&send(b, port, lun, &command))),
            Step::Wait { secs } => {
                b.advance(u64::from(secs) * 1000);
                machine.waited()
            }
            Step::Done(ended) => return ended,
        }
    }
}

#[derive(Default)]
struct Path {
    memory: PathMemory,
}

fn check(b: &mut Bench, port: usize, lun: u16, kind: CheckerKind, path: &mut Path, map: &mut MapMemory) -> (PathState, Cause) {
    let (mut machine, mut step) = Checker::start(kind, checker::Subject::default(), &path.memory);
    loop {
        step = match step {
            checker::Step::Send(command) => {
                let said = send(b, port, lun, &command);
                machine.next(checker::Answer::Scsi(&reply(&said)), &mut path.memory, map)
            }
            checker::Step::Done(verdict) => return (verdict.state, verdict.cause),
            other => panic!("{other:?}"),
        }
    }
}

fn state(b: &mut Bench, port: usize, lun: u16, kind: CheckerKind) -> PathState {
    check(b, port, lun, kind, &mut Path::default(), &mut MapMemory::default()).0
}

fn prio(b: &mut Bench, port: usize, lun: u16, kind: PrioKind) -> i32 {
    let facts = PathFacts::default();
    let subject = prio::Subject { facts: &facts, args: "", seed: 0, timeout_secs: 0 };
    let (mut machine, mut step) = Prioritizer::start(kind, &subject);
    loop {
        step = match step {
            prio::Step::Send(command) => {
                let said = send(b, port, lun, &command);
                machine.next(&subject, prio::Answer::Scsi(&reply(&said)))
            }
            prio::Step::Done(verdict) => return verdict.prio.0,
            other => panic!("{other:?}"),
        }
    }
}

const AUTO: Method = Method::Emc { short: None, honour_reservations: false };
const POLITE: Method = Method::Emc { short: None, honour_reservations: true };

#[test]
fn clariion_failover_and_back() {
    let mut b = bench("clariion");
    let owner = PrioKind::Emc;
    assert_eq!((prio(&mut b, A, 0, owner), prio(&mut b, B, 0, owner)), (4, 1));
    assert_eq!(state(&mut b, A, 0, CheckerKind::EmcClariion), PathState::Up);
    assert_eq!(state(&mut b, B, 0, CheckerKind::EmcClariion), PathState::Up);
    // SP A's cables are out.
    b.say("down sp=a");
    assert_eq!(state(&mut b, A, 0, CheckerKind::EmcClariion), PathState::Down);
    assert_eq!(activate(&mut b, B, 0, AUTO), Ended::Taken);
    assert_eq!(b.trespasses(), "1");
    assert!(b.good(B, 0, READ));
    assert_eq!((prio(&mut b, B, 0, owner), b.say("count op=MODE_SELECT_10")), (2, "1".into()));
    // Owned: nothing is sent, however often it is asked for.
    assert_eq!(activate(&mut b, B1, 0, AUTO), Ended::Owned);
    b.say("up sp=a");
    b.data(A, 0, &inquiry(0xc0));
    assert_eq!((prio(&mut b, A, 0, owner), prio(&mut b, B, 0, owner)), (3, 2), "the default owner is preferred");
    assert_eq!(activate(&mut b, A, 0, AUTO), Ended::Taken);
    assert_eq!(b.trespasses(), "2");
}

#[test]
fn clariion_old_models_take_the_short_page() {
    let mut b = bench("clariion");
    b.say("clariion model FC5700");
    assert_eq!(activate(&mut b, B, 0, AUTO), Ended::Taken);
    assert_eq!((b.say("count op=MODE_SELECT_6"), b.say("count op=MODE_SELECT_10")), ("1".into(), "0".into()));
}

#[test]
fn clariion_leaves_alone() {
    let mut b = bench("clariion");
    b.say("lun 0 reserve other");
    assert_eq!(activate(&mut b, B, 0, POLITE), Ended::Refused(Why::Reply(Cause::ReservationConflict)));
    assert_eq!(b.trespasses(), "0");
    assert_eq!(activate(&mut b, B, 0, AUTO), Ended::Taken);
    b.say("lun 1 owner a");
    b.say("lun 1 copying on");
    assert!(matches!(activate(&mut b, B, 1, AUTO), Ended::Busy(_)));
    b.say("lun 1 copying off");
    // An upgrade: shaky on the processor that is upgraded, and nothing is trespassed, nor even asked for.
    b.say("clariion ndu on");
    let since = b.say("log next");
    assert_eq!(activate(&mut b, B, 1, AUTO), Ended::Busy(Why::Reply(Cause::Emc(Fault::Operations(1)))));
    assert_eq!(b.say(&format!("log since={since} op=MODE_SELECT_10")), "");
    assert_eq!(state(&mut b, A, 1, CheckerKind::EmcClariion), PathState::Shaky);
    assert_eq!(prio(&mut b, A, 1, PrioKind::Emc), -1);
    b.say("clariion ndu off");
    for (line, fault) in [
        ("clariion revision 1", Fault::Revision(1)),
        ("clariion initiator 2", Fault::InitiatorType(2)),
        ("clariion failover 0", Fault::FailoverMode(0)),
        ("clariion comm-path off", Fault::ArrayCommPathOff),
    ] {
        let mut b = bench("clariion");
        b.say(line);
        assert_eq!(activate(&mut b, B, 0, AUTO), Ended::Refused(Why::Reply(Cause::Emc(fault))), "{line}");
        let found = check(&mut b, A, 0, CheckerKind::EmcClariion, &mut Path::default(), &mut MapMemory::default());
        assert_eq!(found, (PathState::Down, Cause::Emc(fault)), "{line}");
        assert_eq!(b.say("count op=MODE_SELECT_10"), "0");
    }
}

#[test]
fn clariion_lun_that_changes() {
    let mut b = bench("clariion");
    let (mut path, mut map) = (Path::default(), MapMemory::default());
    let mut look = |b: &mut Bench| check(b, A, 0, CheckerKind::EmcClariion, &mut path, &mut map);
    // What a single look says of the LUN may be garbled: it is sure at the second.
    assert_eq!((look(&mut b).0, look(&mut b).0), (PathState::Up, PathState::Up));
    b.say("lun 0 wwn 60060160deadbeefdeadbeefdeadbeef");
    for _ in 0..3 {
        assert_eq!(look(&mut b), (PathState::Down, Cause::Emc(Fault::WwnChanged)));
    }
    b.say("lun 0 wwn home quiet");
    assert_eq!(look(&mut b).0, PathState::Up);
    b.say("lun 0 unbound on");
    assert_eq!(look(&mut b), (PathState::Down, Cause::Emc(Fault::Unbound)));
    b.say("lun 0 unbound off");
    b.say("lun 0 inactive on");
    assert_eq!(look(&mut b), (PathState::Down, Cause::Emc(Fault::InactiveSnapshot)));
    b.say("lun 0 inactive off");
    assert_eq!(look(&mut b).0, PathState::Up);
    // A LUN that is not presented to this port any more.
    b.say("lun 0 unmap sp=a quiet");
    assert_eq!(look(&mut b).0, PathState::Wild, "INQUIRY of a LUN that is not there is an illegal request");
}

#[test]
fn clariion_trespass_that_never_completes() {
    let mut b = bench("clariion");
    b.say("lun 1 owner a");
    b.say("lun 0 stuck on");
    assert_eq!(activate(&mut b, B, 0, AUTO), Ended::Refused(Why::Reply(Cause::Host(scsi::host::TIME_OUT))));
    assert_eq!(b.say("count op=MODE_SELECT_10"), "1", "never a second one on a guess");
    assert_eq!(activate(&mut b, B, 1, AUTO), Ended::Taken, "the other LUN is served");
}

#[test]
fn clariion_other_host_every_five_seconds() {
    let mut b = bench("clariion");
    b.say("every 5 lun 0 trespass a by=otherhost");
    let (mut guard, mut ours) = (Guard::default(), 0);
    for _ in 0..1800 {
        b.advance(1000);
        let now = Instant::from_millis(b.now);
        if prio(&mut b, B, 0, PrioKind::Emc) == 2 {
            continue;
        }
        guard.lost(now);
        if guard.may_take(now) {
            assert_eq!(activate(&mut b, B, 0, AUTO), Ended::Taken);
            guard.took(now);
            ours += 1;
        }
    }
    assert_eq!(ours, 3, "once in ten minutes of half an hour");
}

#[test]
fn alua_explicit() {
    let mut b = bench("alua");
    assert_eq!((prio(&mut b, A, 0, PrioKind::Alua), prio(&mut b, B, 0, PrioKind::Alua)), (50, 90 - 80));
    let explicit = Method::Alua { group: 2, explicit: true };
    b.say("alua transition 30");
    assert_eq!(activate(&mut b, B, 0, explicit), Ended::Taken);
    assert!((29_000..40_000).contains(&b.now), "{}", b.now);
    assert_eq!(prio(&mut b, B, 0, PrioKind::Alua), 50);
    assert_eq!(b.say("count op=A4"), "1");
    for (word, tur, value) in [
        ("standby", PathState::Ghost, 1),
        ("unavailable", PathState::Down, 0),
        ("offline", PathState::Down, 0),
        ("lba-dependent", PathState::Up, 5),
    ] {
        b.say(&format!("alua 2 {word}"));
        assert_eq!((state(&mut b, B, 0, CheckerKind::Tur), prio(&mut b, B, 0, PrioKind::Alua)), (tur, value), "{word}");
    }
    b.say("alua 2 standby lun=0 after=20");
    assert_eq!(state(&mut b, B, 0, CheckerKind::Tur), PathState::Pending);
    assert_eq!(activate(&mut b, B, 0, explicit), Ended::Taken, "waits for the transition, then asks");
}

#[test]
fn alua_without_extended_header_and_implicit_only() {
    for refusal in ["alua extended off", "alua extended off 00"] {
        let mut b = bench("alua");
        b.say(refusal);
        assert_eq!(activate(&mut b, B, 0, Method::Alua { group: 2, explicit: true }), Ended::Taken);
    }
    let mut b = bench("alua");
    b.say("alua tpgs 1");
    b.say("alua 2 standby");
    assert_eq!(activate(&mut b, B, 0, Method::Alua { group: 2, explicit: false }), Ended::Refused(Why::ImplicitOnly));
    assert_eq!(b.say("count op=A4"), "0");
    let facts = PathFacts { tpgs: Tpgs::Implicit, target_port_group: Some(2), ..Default::default() };
    assert_eq!(Method::choose("1 alua", &facts), Some(Method::Alua { group: 2, explicit: false }));
}

#[test]
fn rdac_both_pages() {
    for (max_luns, opcode) in [(255, "MODE_SELECT_10"), (16, "MODE_SELECT_6")] {
        let mut b = bench("rdac");
        b.say(&format!("rdac max-luns {max_luns}"));
        b.say("lun 1 owner a");
        b.say("lun 1 default a");
        assert_eq!((state(&mut b, A, 1, CheckerKind::Rdac), state(&mut b, B, 1, CheckerKind::Rdac)), (PathState::Up, PathState::Ghost));
        assert_eq!((prio(&mut b, A, 1, PrioKind::Rdac), prio(&mut b, B, 1, PrioKind::Rdac)), (6, 1));
        let since = b.say("log next");
        assert_eq!(activate(&mut b, B, 1, Method::Rdac), Ended::Taken);
        assert_eq!(b.say(&format!("log since={since} op={opcode}")).lines().count(), 1);
        assert_eq!(b.trespasses(), "1", "LUN 0 stays where it is");
        assert!(b.good(B, 1, READ) && b.good(A, 0, READ));
        assert_eq!((prio(&mut b, A, 1, PrioKind::Rdac), prio(&mut b, B, 1, PrioKind::Rdac)), (4, 3));
    }
    let mut b = bench("rdac");
    b.say("rdac mode avt");
    assert_eq!(activate(&mut b, B, 0, Method::Rdac), Ended::Owned, "I/O moves it");
    b.say("rdac mode ioship");
    assert_eq!(activate(&mut b, B, 0, Method::Rdac), Ended::Owned, "not the preferred controller, and it serves");
    assert_eq!(b.trespasses(), "0");
}

#[test]
fn hp_start_unit() {
    let mut b = bench("hpsw");
    assert_eq!((state(&mut b, A, 0, CheckerKind::HpSw), state(&mut b, B, 0, CheckerKind::HpSw)), (PathState::Up, PathState::Ghost));
    assert_eq!((prio(&mut b, A, 0, PrioKind::HpSw), prio(&mut b, B, 0, PrioKind::HpSw)), (4, 2));
    assert_eq!(activate(&mut b, B, 0, Method::HpSw), Ended::Taken);
    assert_eq!((prio(&mut b, A, 0, PrioKind::HpSw), prio(&mut b, B, 0, PrioKind::HpSw)), (2, 4));
    assert_eq!(b.trespasses(), "1");
}

/// Nonsense to one command in ten: nothing is taken that was not asked for, and in the end the LUN is where it should be.
#[test]
fn garbage_one_in_ten() {
    for (persona, method) in
        [("clariion", AUTO), ("alua", Method::Alua { group: 2, explicit: true }), ("rdac", Method::Rdac), ("hpsw", Method::HpSw)]
    {
        let mut tries = 0;
        for seed in 1..200 {
            let mut b = bench(persona);
            b.say(&format!("garbage 10 seed={seed}"));
            // The policy above tries again later; each attempt that said "taken" was.
            while activate(&mut b, B, 0, method) != Ended::Taken {
                tries += 1;
                assert!(tries < 400, "{persona} {seed}");
                b.advance(10_000);
                if activate(&mut b, B, 0, method) == Ended::Owned {
                    break;
                }
            }
            let moved: u32 = b.trespasses().parse().unwrap();
            assert!(moved <= 1, "{persona} {seed}: never back and forth");
            for kind in [CheckerKind::Tur, CheckerKind::EmcClariion, CheckerKind::Rdac, CheckerKind::HpSw, CheckerKind::ReadSector0] {
                state(&mut b, A, 0, kind);
            }
            for kind in [PrioKind::Alua, PrioKind::Emc, PrioKind::Rdac, PrioKind::HpSw, PrioKind::Hds, PrioKind::Ontap] {
                prio(&mut b, A1, 1, kind);
            }
            assert!(b.trespasses().parse::<u32>().unwrap() <= 1, "{persona} {seed}: looking moves nothing");
        }
        println!("{persona}: {tries} attempts spoiled in 199");
    }
}
