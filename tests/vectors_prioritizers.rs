//! Prioritizer vectors: the same replies must give the peer's priority by the peer's commands. Where we differ on purpose is listed
//! here and reasoned in docs/differences.md.

#[path = "common/device.rs"]
mod device;

use corepath::conf::settings::PrioKind;
use corepath::engine::prio::{Answer, Prioritizer, Step, Subject};
use corepath::model::{AccessState, Hctl, PathFacts, Prio, Text};
use corepath::wire::{alua, nvme};
use device::{Device, hex, load};

fn kind(name: &str) -> PrioKind {
    match name {
        "alua" => PrioKind::Alua,
        "rdac" => PrioKind::Rdac,
        "emc" => PrioKind::Emc,
        "hp_sw" => PrioKind::HpSw,
        "hds" => PrioKind::Hds,
        "ontap" => PrioKind::Ontap,
        "datacore" => PrioKind::Datacore,
        "const" => PrioKind::Const,
        "weightedpath" => PrioKind::WeightedPath,
        "sysfs" => PrioKind::Sysfs,
        "ana" => PrioKind::Ana,
        other => panic!("{other}"),
    }
}

fn text<const N: usize>(s: &str) -> Text<N> {
    Text::try_from(s).unwrap()
}

/// As much of extended regular expressions as the vectors use: literals, `.` and `x*`; a `*` without anything before it matches nothing.
fn matches(expression: &str, text: &str) -> bool {
    fn here(e: &[u8], t: &[u8]) -> bool {
        match e {
            [] => true,
            [c, b'*', rest @ ..] => (0..=t.len()).take_while(|&n| t[..n].iter().all(|x| *c == b'.' || x == c)).any(|n| here(rest, &t[n..])),
            [c, rest @ ..] => t.first().is_some_and(|x| *c == b'.' || x == c) && here(rest, &t[1..]),
        }
    }
    !expression.starts_with('*') && (0..=text.len()).any(|i| here(expression.as_bytes(), &text.as_bytes()[i..]))
}

#[test]
fn prioritizers() {
    let mut seen = 0;
    for v in load("prioritizers") {
        let (prio, name, input) = (v["prio"].as_str().unwrap(), v["name"].as_str().unwrap(), &v["input"]);
        let mut facts = PathFacts::default();
        if let Some(dev) = input["dev"].as_str() {
            facts.name = text(dev);
            facts.hctl = Hctl::parse(input["hctl"].as_str().unwrap());
            facts.serial = text(input["serial"].as_str().unwrap());
        }
        if let Some(state) = input["access_state"].as_str() {
            facts.access = Some(alua::parse_word(state).unwrap());
        }
        facts.preferred = input["preferred_path"].as_u64() == Some(1);
        if let Some(state) = input["ana_state"].as_u64() {
            facts.access = Some(nvme::state(state as u8));
        }
        let subject =
            Subject { facts: &facts, args: input["prio_args"].as_str().unwrap_or(""), seed: 1, timeout_secs: 0, matches: &matches };
        let mut device = Device::new(input.get("responses").unwrap_or(&serde_json::json!([])));
        let (mut machine, mut step) = Prioritizer::start(kind(prio), &subject);
        let Prio(found) = loop {
            step = match step {
                Step::Send(command) => device.ask(&command, |reply| machine.next(&subject, Answer::Scsi(reply))),
                Step::Done(verdict) => break verdict.prio,
                _ => panic!("{prio}: {name}"),
            }
        };
        assert_eq!(i64::from(found), v["expected"]["priority"].as_i64().unwrap(), "{prio}: {name}");
        if let Some(commands) = v["expected"]["commands"].as_array() {
            let commands: Vec<Vec<u8>> = commands.iter().map(|c| hex(c.as_str().unwrap())).collect();
            assert_eq!(device.asked, commands, "{prio}: {name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 130);
}

#[test]
fn ana_asked_of_the_controller() {
    let facts = PathFacts::default();
    let subject = Subject { facts: &facts, args: "", seed: 0, timeout_secs: 0, matches: &matches };
    let (mut machine, step) = Prioritizer::start(PrioKind::Ana, &subject);
    assert_eq!(step, Step::Admin(nvme::identify_controller()));
    let mut controller = vec![0; 4096];
    controller[76] = 8;
    assert_eq!(machine.next(&subject, Answer::Admin(Ok(&controller))), Step::Admin(nvme::identify_namespace()));
    let mut namespace = vec![0; 4096];
    namespace[92] = 3;
    assert_eq!(machine.next(&subject, Answer::Admin(Ok(&namespace))), Step::Admin(nvme::ana_log(4096)));
    let mut log = vec![0; 48];
    log[8] = 1;
    log[16] = 3;
    log[32] = 2;
    let Step::Done(verdict) = machine.next(&subject, Answer::Admin(Ok(&log))) else { panic!() };
    assert_eq!(verdict.prio, Prio(10));
    assert_eq!(nvme::state(2), AccessState::NonOptimized);
}

#[test]
fn latency_reads_as_often_as_told() {
    let facts = PathFacts { block_size: 512, ..Default::default() };
    let subject = Subject { facts: &facts, args: "io_num=20 base_num=10", seed: 0, timeout_secs: 0, matches: &matches };
    let (mut machine, mut step) = Prioritizer::start(PrioKind::PathLatency, &subject);
    let mut reads = 0;
    let verdict = loop {
        step = match step {
            Step::Read { length: 512 } => {
                reads += 1;
                machine.next(&subject, Answer::Read { result: Ok(512), micros: 100 })
            }
            Step::Done(verdict) => break verdict,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((reads, verdict.prio), (20, Prio(7)));
}

#[test]
fn iet_compares_whole_addresses() {
    let facts = PathFacts { portal: text("10.0.0.12"), ..Default::default() };
    let prio = |args| {
        let subject = Subject { facts: &facts, args, seed: 0, timeout_secs: 0, matches: &matches };
        match Prioritizer::start(PrioKind::Iet, &subject).1 {
            Step::Done(verdict) => verdict.prio,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(prio("preferredip=10.0.0.12"), Prio(20));
    assert_eq!(prio("preferredip=10.0.0.1"), Prio(10));
    assert_eq!(prio("preferredip="), Prio(0));
    assert_eq!(prio("10.0.0.12"), Prio(0));
}
