//! Activation against small arrays: who owns what, what was sent, and what a machine makes of arrays that refuse, lie, are slow or
//! answer garbage.

#[path = "common/device.rs"]
mod device;

use corepath::engine::activate::{Activation, Ended, Method, Step, Why};
use corepath::engine::checker::{Cause, emc::Fault};
use corepath::model::{AccessState, PathFacts, Tpgs};
use corepath::wire::scsi::{Command, Reply};
use corepath::wire::sense::Sense;
use corepath::wire::{alua, emc, rdac};
use device::Dice;

#[derive(Clone, Default)]
struct Said {
    status: u8,
    host: u16,
    sense: Vec<u8>,
    data: Vec<u8>,
}

fn data(bytes: &[u8]) -> Said {
    Said { data: bytes.to_vec(), ..Said::default() }
}
fn check(key: u8, asc: u8, ascq: u8) -> Said {
    Said { status: 2, sense: Sense { key, asc, ascq, deferred: false }.emit().to_vec(), ..Said::default() }
}
fn lost(host: u16) -> Said {
    Said { host, ..Said::default() }
}

/// Runs one activation to its end and gives what was sent and how long it waited.
fn run(method: Method, mut array: impl FnMut(&Command) -> Said) -> (Ended, Vec<Command>, u32, bool) {
    let (mut machine, mut step) = Activation::start(method);
    let (mut sent, mut waited) = (Vec::new(), 0);
    loop {
        assert!(sent.len() < 100, "no end");
        step = match step {
            Step::Send(command) => {
                sent.push(command);
                let s = array(&command);
                let driver = if s.sense.is_empty() { 0 } else { 8 };
                machine.next(&Reply { status: s.status, host: s.host, driver, sense: &s.sense, data: &s.data, errno: None })
            }
            Step::Wait { secs } => {
                waited += u32::from(secs);
                machine.waited()
            }
            Step::Done(ended) => return (ended, sent, waited, machine.asked()),
        }
    }
}

fn opcodes(sent: &[Command]) -> Vec<u8> {
    sent.iter().map(|c| c.cdb[0]).collect()
}

fn clariion(lun: emc::Lun) -> emc::Page {
    emc::Page {
        lun,
        default_sp: 0,
        port: 1,
        sp: 1,
        revision: 0,
        wwn: [7; 16],
        initiator_type: 3,
        failover_mode: 4,
        array_comm_path: true,
        operations: 0,
    }
}

const EMC: Method = Method::Emc { short: Some(false), honour_reservations: false };

#[test]
fn emc_trespass() {
    let mut owned = false;
    let (ended, sent, _, asked) = run(EMC, |c| match c.cdb[0] {
        0x55 => {
            owned = true;
            Said::default()
        }
        _ => data(&clariion(if owned { emc::Lun::Owned } else { emc::Lun::Bound }).emit()),
    });
    assert_eq!((ended, opcodes(&sent), asked), (Ended::Taken, vec![0x12, 0x55, 0x12], true));
    assert_eq!(sent[1].timeout_secs, 60);
    let (ended, sent, _, asked) = run(EMC, |_| data(&clariion(emc::Lun::Owned).emit()));
    assert_eq!((ended, sent.len(), asked), (Ended::Owned, 1, false));
}

#[test]
fn emc_model_decides() {
    for (model, opcode) in [(&b"FC4700"[..], 0x15), (b"CX4-120", 0x55)] {
        let mut inquiry = vec![0; 200];
        inquiry[4] = 195;
        inquiry[8..11].copy_from_slice(b"DGC");
        inquiry[99] = model.len() as u8;
        inquiry[161..161 + model.len()].copy_from_slice(model);
        let (_, sent, _, _) = run(Method::Emc { short: None, honour_reservations: true }, |c| match (c.cdb[0], c.cdb[1]) {
            (0x12, 0) => data(&inquiry),
            (0x12, _) => data(&clariion(emc::Lun::Bound).emit()),
            _ => check(5, 0x24, 0),
        });
        assert_eq!(opcodes(&sent), [0x12, 0x12, opcode]);
        assert!(sent[2].parameters().contains(&0x01) && !sent[2].parameters().contains(&0x81), "reservations honoured");
    }
}

#[test]
fn emc_leaves_alone() {
    let mut ndu = clariion(emc::Lun::Bound);
    ndu.operations = 1;
    let (ended, sent, _, _) = run(EMC, |_| data(&ndu.emit()));
    assert_eq!((ended, sent.len()), (Ended::Busy(Why::Reply(Cause::Emc(Fault::Operations(1)))), 1));
    let (ended, sent, _, _) = run(EMC, |_| data(&clariion(emc::Lun::Unbound).emit()));
    assert_eq!((ended, sent.len()), (Ended::Refused(Why::Reply(Cause::Emc(Fault::Unbound))), 1));
    let mut later = clariion(emc::Lun::Bound);
    later.revision = 1;
    let (ended, sent, _, _) = run(EMC, |_| data(&later.emit()));
    assert_eq!((ended, sent.len()), (Ended::Refused(Why::Reply(Cause::Emc(Fault::Revision(1)))), 1));
    let bound = |refusal: Said| run(EMC, move |c| if c.cdb[0] == 0x55 { refusal.clone() } else { data(&clariion(emc::Lun::Bound).emit()) });
    let (ended, sent, _, _) = bound(check(5, 0x04, 0));
    assert!(matches!(ended, Ended::Busy(_)), "array copy");
    assert_eq!(opcodes(&sent), [0x12, 0x55]);
    assert!(matches!(bound(check(2, 0x04, 3)).0, Ended::Busy(_)), "upgrade");
    assert!(matches!(bound(check(5, 0x26, 0)).0, Ended::Refused(_)));
    let reserved = Said { status: 0x18, ..Said::default() };
    assert_eq!(bound(reserved).0, Ended::Refused(Why::Reply(Cause::ReservationConflict)));
}

#[test]
fn a_lost_answer_is_never_a_second_trespass() {
    // Done, but the answer was lost.
    let mut owned = false;
    let (ended, sent, _, _) = run(EMC, |c| match c.cdb[0] {
        0x55 => {
            owned = true;
            lost(3)
        }
        _ => data(&clariion(if owned { emc::Lun::Owned } else { emc::Lun::Bound }).emit()),
    });
    assert_eq!((ended, opcodes(&sent)), (Ended::Taken, vec![0x12, 0x55, 0x12]));
    // Lost on the way there.
    let (ended, sent, waited, _) = run(EMC, |c| if c.cdb[0] == 0x55 { lost(3) } else { data(&clariion(emc::Lun::Bound).emit()) });
    assert_eq!(ended, Ended::Refused(Why::Reply(Cause::Host(3))));
    assert_eq!(opcodes(&sent).iter().filter(|&&o| o == 0x55).count(), 1);
    assert_eq!(waited, 9);
    // Taken note of, never done.
    let (ended, _, _, _) = run(EMC, |c| if c.cdb[0] == 0x55 { Said::default() } else { data(&clariion(emc::Lun::Bound).emit()) });
    assert_eq!(ended, Ended::Unverified(Why::NotOwner));
    // A unit attention is no answer: it may be sent again, five times in all.
    let (_, sent, _, _) = run(EMC, |c| if c.cdb[0] == 0x55 { check(6, 0x29, 0) } else { data(&clariion(emc::Lun::Bound).emit()) });
    assert_eq!(opcodes(&sent).iter().filter(|&&o| o == 0x55).count(), 5);
}

fn rtpg(state: AccessState, extended: bool, secs: u8) -> Vec<u8> {
    let mut group = [0; 12];
    let n = alua::emit_group(2, state, false, &[1], &mut group).unwrap();
    let head: &[u8] = if extended { &[0x10, secs, 0, 0] } else { &[] };
    let body = [head, &group[..n]].concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

const EXPLICIT: Method = Method::Alua { group: 2, explicit: true };

#[test]
fn alua_set() {
    let mut state = AccessState::Standby;
    let (ended, sent, _, _) = run(EXPLICIT, |c| match (c.cdb[0], c.cdb[1]) {
        (0xa4, _) => {
            assert_eq!(c.parameters(), [0, 0, 0, 0, 0, 0, 0, 2]);
            state = AccessState::Optimized;
            Said::default()
        }
        (_, 0x2a) => check(5, 0x24, 0),
        _ => data(&rtpg(state, false, 0)),
    });
    assert_eq!(ended, Ended::Taken);
    assert_eq!(sent.iter().map(|c| (c.cdb[0], c.cdb[1])).collect::<Vec<_>>(), [(0xa3, 0x2a), (0xa3, 0x0a), (0xa4, 0x0a), (0xa3, 0x0a)]);
    let (ended, _, _, asked) = run(Method::Alua { group: 2, explicit: false }, |_| data(&rtpg(AccessState::Standby, true, 0)));
    assert_eq!((ended, asked), (Ended::Refused(Why::ImplicitOnly), false));
    let (ended, _, _, _) = run(Method::Alua { group: 9, explicit: true }, |_| data(&rtpg(AccessState::Standby, true, 0)));
    assert_eq!(ended, Ended::Refused(Why::NotListed));
    let (ended, _, _, _) = run(EXPLICIT, |_| data(&rtpg(AccessState::Offline, true, 0)));
    assert_eq!(ended, Ended::Refused(Why::Offline));
}

#[test]
fn alua_transition() {
    // 30 s of transitioning after the request.
    let (mut asked, mut looks) = (false, 0);
    let (ended, _, waited, _) = run(EXPLICIT, |c| {
        if c.cdb[0] == 0xa4 {
            asked = true;
            return check(2, 0x04, 0x0a);
        }
        looks += u32::from(asked);
        let state = match (asked, looks) {
            (false, _) => AccessState::Standby,
            (true, 0..=15) => AccessState::Transitioning,
            _ => AccessState::Optimized,
        };
        data(&rtpg(state, true, 90))
    });
    assert_eq!((ended, waited), (Ended::Taken, 30));
    // For ever: as long as the array itself says it may take, and no longer.
    let (ended, sent, waited, _) = run(EXPLICIT, |_| data(&rtpg(AccessState::Transitioning, true, 40)));
    assert_eq!((ended, waited), (Ended::Busy(Why::Transition), 40));
    assert!(sent.iter().all(|c| c.cdb[0] == 0xa3));
}

fn volume(owner: bool) -> rdac::VolumeAccess {
    rdac::VolumeAccess {
        connected: true,
        owner,
        ioship: false,
        avt: false,
        tpgde: false,
        preference: 2,
        state: 0,
        alternate_state: 0,
        reason: 0,
    }
}

fn rdac_page(code: u8) -> Vec<u8> {
    let mut page = vec![0; 255];
    page[1] = code;
    page[4..8].copy_from_slice(if code == 0xc8 { b"edid" } else { b"swr4" });
    page[15] = 31;
    if code == 0xc8 {
        page[174] = 5;
    }
    page
}

#[test]
fn rdac_transfer() {
    let (mut owner, mut locked) = (false, 2);
    let (ended, sent, waited, _) = run(Method::Rdac, |c| match (c.cdb[0], c.cdb[2]) {
        (0x12, 0xc9) => data(&volume(owner).emit()),
        (0x12, page) => data(&rdac_page(page)),
        _ if locked > 0 => {
            locked -= 1;
            check(5, 0x91, 0x36)
        }
        _ => {
            assert_eq!(c.parameters()[44 + 5], 0x81);
            owner = true;
            Said::default()
        }
    });
    assert_eq!((ended, waited), (Ended::Taken, 2));
    assert_eq!(opcodes(&sent), [0x12, 0x12, 0x12, 0x15, 0x15, 0x15, 0x12]);
    let mut avt = volume(false);
    avt.avt = true;
    assert_eq!(run(Method::Rdac, |_| data(&avt.emit())).0, Ended::Owned);
}

#[test]
fn hp_start_unit() {
    let (mut started, mut moving) = (false, 3);
    let (ended, sent, waited, _) = run(Method::HpSw, |c| match (c.cdb[0], started) {
        (0x1b, _) => {
            started = true;
            Said::default()
        }
        (_, false) => check(2, 0x04, 0x02),
        (_, true) if moving > 0 => {
            moving -= 1;
            check(2, 0x04, 0x03)
        }
        _ => Said::default(),
    });
    assert_eq!((ended, waited), (Ended::Taken, 6));
    assert_eq!(opcodes(&sent), [0, 0x1b, 0, 0, 0, 0]);
    let (ended, sent, _, _) = run(Method::HpSw, |_| lost(1));
    assert_eq!((ended, sent.len()), (Ended::Refused(Why::Reply(Cause::Host(1))), 1));
}

#[test]
fn methods() {
    let facts = PathFacts { tpgs: Tpgs::Both, target_port_group: Some(3), ..Default::default() };
    assert_eq!(Method::choose("1 emc", &facts), Some(Method::Emc { short: None, honour_reservations: false }));
    assert_eq!(Method::choose("3 emc 1 1", &facts), Some(Method::Emc { short: Some(true), honour_reservations: true }));
    assert_eq!(Method::choose("emc 0 1", &facts), Some(Method::Emc { short: Some(false), honour_reservations: true }));
    assert_eq!(Method::choose("1 alua", &facts), Some(Method::Alua { group: 3, explicit: true }));
    assert_eq!(Method::choose("1 alua", &PathFacts::default()), None, "no group, nothing to set");
    assert_eq!(Method::choose("0", &facts), None);
    assert_eq!(Method::choose("", &facts), None);
    assert_eq!(Method::choose("1 unheard_of", &facts), None);
}

fn anything(dice: &mut Dice) -> Said {
    Said { status: dice.status(), host: dice.host(), sense: dice.bytes(), data: dice.bytes() }
}

#[test]
fn garbage_ends() {
    for method in [EMC, EXPLICIT, Method::Rdac, Method::HpSw, Method::Emc { short: None, honour_reservations: true }] {
        for seed in 1..2000 {
            let mut dice = Dice::new(seed);
            run(method, |_| anything(&mut dice));
        }
    }
}

#[test]
fn one_reply_in_ten_is_garbage() {
    for seed in 1..5000 {
        let mut dice = Dice::new(seed);
        let (mut owned, mut trespasses) = (false, 0);
        let (ended, _, _, asked) = run(EMC, |c| {
            let real = match c.cdb[0] {
                0x55 => {
                    owned = true;
                    trespasses += 1;
                    Said::default()
                }
                _ => data(&clariion(if owned { emc::Lun::Owned } else { emc::Lun::Bound }).emit()),
            };
            if dice.roll().is_multiple_of(10) { anything(&mut dice) } else { real }
        });
        assert_eq!(asked, trespasses > 0, "{seed}");
        // The command that arrived is not sent again unless the array itself says that it did not hear it.
        assert!(trespasses <= 5, "{seed}");
        assert!(ended != Ended::Taken || owned, "{seed}");
        // An owned LUN is left alone whatever else is said.
        let (_, sent, _, _) =
            run(EMC, |_| if dice.roll().is_multiple_of(10) { anything(&mut dice) } else { data(&clariion(emc::Lun::Owned).emit()) });
        assert!(sent.iter().all(|c| c.cdb[0] == 0x12), "{seed}");
    }
}
