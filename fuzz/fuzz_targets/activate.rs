//! Whole conversations: activation, checkers and the ALUA prioritizer against replies cut from the input. All of them end.
#![no_main]

use corepath::conf::settings::{CheckerKind, PrioKind};
use corepath::engine::activate::{self, Activation, Method};
use corepath::engine::checker::{self, Checker, MapMemory, PathMemory};
use corepath::engine::prio::{self, Prioritizer};
use corepath::model::PathFacts;
use corepath::wire::scsi::Reply;

/// Status, host, length of sense, length of data, then those.
fn reply<'a>(input: &mut &'a [u8]) -> Reply<'a> {
    let mut byte = || {
        let (first, rest) = input.split_first().unwrap_or((&0, &[]));
        *input = rest;
        *first
    };
    let (status, host, sense, data) = (byte(), byte() & 0x1f, byte() & 0x1f, byte());
    let mut take = |n: u8| {
        let (taken, rest) = input.split_at(usize::from(n).min(input.len()));
        *input = rest;
        taken
    };
    let (sense, data) = (take(sense), take(data));
    Reply { status, host: u16::from(host), driver: 0, sense, data, errno: None }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&which, mut input)) = bytes.split_first() else { return };
    let mut steps = 0;
    let mut tick = || {
        steps += 1;
        assert!(steps < 200);
    };
    let method = match which % 8 {
        0 => Method::Emc { short: None, honour_reservations: true },
        1 => Method::Alua { group: 1, explicit: true },
        2 => Method::Rdac,
        3 => Method::HpSw,
        4 => {
            let facts = PathFacts::default();
            let subject = prio::Subject { facts: &facts, args: "", seed: 1, timeout_secs: 1 };
            let (mut machine, mut step) = Prioritizer::start(PrioKind::Alua, &subject);
            while let prio::Step::Send(_) = step {
                tick();
                step = machine.next(&subject, prio::Answer::Scsi(&reply(&mut input)));
            }
            return;
        }
        n => {
            let kind = [CheckerKind::Tur, CheckerKind::Rdac, CheckerKind::EmcClariion][usize::from(n - 5)];
            let (mut path, mut map) = (PathMemory::default(), MapMemory::default());
            let (mut machine, mut step) = Checker::start(kind, checker::Subject::default(), &path);
            while let checker::Step::Send(_) = step {
                tick();
                step = machine.next(checker::Answer::Scsi(&reply(&mut input)), &mut path, &mut map);
            }
            return;
        }
    };
    let (mut machine, mut step) = Activation::start(method);
    loop {
        tick();
        step = match step {
            activate::Step::Send(command) => {
                assert!(command.cdb().len() >= 6);
                machine.next(&reply(&mut input))
            }
            activate::Step::Wait { .. } => machine.waited(),
            activate::Step::Done(_) => return,
        };
    }
});
