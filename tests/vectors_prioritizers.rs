//! Prioritizer vectors: the same replies must give the peer's priority by the peer's commands. Where we differ on purpose is listed
//! here and reasoned in docs/differences.md.

#[path = "common/device.rs"]
mod device;

use corepath::conf::settings::PrioKind;
use corepath::engine::prio::{Answer, Prioritizer, Step, Subject};
use corepath::model::{AccessState, Hctl, PathFacts, Prio, Protocol, Text};
use corepath::wire::{alua, nvme};
use device::{Device, hex, load};

/// Prioritizer, name, our priority, how many of the peer's commands we send.
const DIFFERENCES: &[(&str, &str, i32, usize)] = &[("alua", "long rtpg list is re-read with the full length", -1, 2)];

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

#[test]
fn prioritizers() {
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
        let subject = Subject { facts: &facts, args: input["prio_args"].as_str().unwrap_or(""), seed: 1, timeout_secs: 0 };
        let mut device = Device::new(input.get("responses").unwrap_or(&serde_json::json!([])));
        let (mut machine, mut step) = Prioritizer::start(kind(prio), &subject);
        let Prio(found) = loop {
            step = match step {
                Step::Send(command) => device.ask(&command, |reply| machine.next(&subject, Answer::Scsi(reply))),
                Step::Done(verdict) => break verdict.prio,
                _ => panic!("{prio}: {name}"),
            }
        };
        let expected = v["expected"]["priority"].as_i64().unwrap() as i32;
        let commands = v["expected"]["commands"].as_array().cloned().unwrap_or_default();
        let commands: Vec<Vec<u8>> = commands.iter().map(|c| hex(c.as_str().unwrap())).collect();
        match DIFFERENCES.iter().find(|d| (d.0, d.1) == (prio, name)) {
            Some(&(_, _, ours, sent)) => {
                assert_eq!((found, &device.asked[..]), (ours, &commands[..sent]), "{prio}: {name}");
                assert!(found != expected, "{prio}: {name} is no difference any more");
            }
            None => assert_eq!((found, &device.asked), (expected, &commands), "{prio}: {name}"),
        }
    }
}

/// The priority, and how many commands it took.
fn asked(kind: PrioKind, args: &str, responses: serde_json::Value) -> (i32, usize) {
    let facts = PathFacts { name: text("sda"), hctl: Hctl::parse("1:0:2:3"), serial: text("0395J1FR904324"), ..Default::default() };
    let subject = Subject { facts: &facts, args, seed: 1, timeout_secs: 0 };
    let mut device = Device::new(&responses);
    let (mut machine, mut step) = Prioritizer::start(kind, &subject);
    loop {
        step = match step {
            Step::Send(command) => device.ask(&command, |reply| machine.next(&subject, Answer::Scsi(reply))),
            Step::Done(verdict) => return (verdict.prio.0, device.asked.len()),
            other => panic!("{other:?}"),
        }
    }
}

fn response(status: u8, host_status: u8, errno: u8, sense: &str, data: &str) -> serde_json::Value {
    serde_json::json!({"status": status, "host_status": host_status, "driver_status": 0, "sense": sense, "data": data, "errno": errno})
}

#[test]
fn ontap_by_what_answers() {
    let failures = [response(2, 0, 0, "700005000000000a00000000240000000000", ""), response(0, 1, 0, "", ""), response(0, 0, 5, "", "")];
    let fibre = response(0, 0, 0, "", &format!("000000180a980a01410000006663{}", "00".repeat(114)));
    for failure in failures {
        assert_eq!(asked(PrioKind::Ontap, "", serde_json::json!([failure])), (0, 1), "{failure}");
        assert_eq!(asked(PrioKind::Ontap, "", serde_json::json!([fibre, failure])), (4, 2), "{failure}");
    }
}

#[test]
fn datacore_arguments() {
    let inquiry = response(0, 0, 0, "", &format!("{}53445331{}", "00".repeat(112), "00".repeat(139)));
    for (args, expected) in [
        ("preferredsds=SDS1", (1, 1)),
        ("timeout=5 preferredsds=SDS1", (1, 1)),
        ("preferredsds=SDS1,timeout=5", (0, 1)),
        ("preferredsds=", (0, 0)),
        ("timeout=5000", (0, 0)),
        ("timeout=x preferredsds=SDS1", (0, 0)),
        ("foo preferredsds=SDS1", (0, 0)),
    ] {
        assert_eq!(asked(PrioKind::Datacore, args, serde_json::json!([inquiry])), expected, "{args}");
    }
}

#[test]
fn weighted_path_numbers() {
    for (args, expected) in [
        ("hbtl .* 5x", 5),
        ("hbtl .* abc", 0),
        ("hbtl .* +7", 7),
        ("hbtl 9 x 1:0 7", 7),
        ("hbtl ( 3 1: 7", 7),
        ("serial 0395 -1", -1),
        ("hbtl .* 99999999999", i32::MAX),
        ("hbtl 1:0", 0),
    ] {
        assert_eq!(asked(PrioKind::WeightedPath, args, serde_json::json!([])).0, expected, "{args}");
    }
}

#[test]
fn ana_asked_of_the_controller() {
    let facts = PathFacts::default();
    let subject = Subject { facts: &facts, args: "", seed: 0, timeout_secs: 0 };
    let (mut machine, step) = Prioritizer::start(PrioKind::Ana, &subject);
    assert_eq!(step, Step::Admin(nvme::identify_controller()));
    let mut controller = vec![0; 4096];
    controller[76] = 8;
    assert_eq!(machine.next(&subject, Answer::Admin(Ok(&controller))), Step::Admin(nvme::identify_namespace()));
    let mut namespace = vec![0; 4096];
    namespace[92] = 3;
    assert_eq!(machine.next(&subject, Answer::Admin(Ok(&namespace))), Step::Admin(nvme::ana_log(4096, 0)));
    let mut log = vec![0; 48];
    log[8] = 1;
    log[16] = 3;
    log[32] = 2;
    let Step::Done(verdict) = machine.next(&subject, Answer::Admin(Ok(&log))) else { panic!() };
    assert_eq!(verdict.prio, Prio(10));
    assert_eq!(nvme::state(2), AccessState::NonOptimized);
}

/// The group is looked for in the whole log, a page at a time, and not for ever.
#[test]
fn ana_in_a_long_log() {
    let facts = PathFacts::default();
    let subject = Subject { facts: &facts, args: "", seed: 0, timeout_secs: 0 };
    let ask = |groups: u32, wanted: u32| {
        let mut log = vec![0; 16];
        log[8..10].copy_from_slice(&(groups as u16).to_le_bytes());
        for id in 1..=groups {
            log.extend(id.to_le_bytes());
            log.extend([0; 12]);
            log.extend([if id == wanted { 1 } else { 3 }; 16]);
        }
        let (mut controller, mut namespace) = (vec![0; 4096], vec![0; 4096]);
        (controller[76], namespace[92], namespace[93]) = (8, wanted as u8, (wanted >> 8) as u8);
        let (mut machine, mut step) = Prioritizer::start(PrioKind::Ana, &subject);
        let mut asked = 0;
        loop {
            step = match step {
                Step::Admin(command) if command.opcode == 2 => {
                    asked += 1;
                    let at = (command.cdw12 as usize).min(log.len());
                    machine.next(&subject, Answer::Admin(Ok(&log[at..log.len().min(at + 4096)])))
                }
                Step::Admin(command) if command.cdw10 == 1 => machine.next(&subject, Answer::Admin(Ok(&controller))),
                Step::Admin(_) => machine.next(&subject, Answer::Admin(Ok(&namespace))),
                Step::Done(verdict) => break (verdict.prio.0, asked),
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!([(127, 127), (128, 128), (300, 255), (300, 256)].map(|(n, id)| ask(n, id)), [(50, 1), (50, 2), (50, 2), (50, 3)]);
    assert_eq!(ask(300, 301), (-1, 3));
    assert_eq!(ask(60_000, 65_000), (-1, 17));
}

#[test]
fn latency_reads_as_often_as_told() {
    let facts = PathFacts { block_size: 512, ..Default::default() };
    let subject = Subject { facts: &facts, args: "io_num=20 base_num=10", seed: 0, timeout_secs: 0 };
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
    let facts = |port| PathFacts { protocol: Protocol::ScsiIscsi, target_port: text(port), ..Default::default() };
    let prio = |port, args| {
        let facts = facts(port);
        let subject = Subject { facts: &facts, args, seed: 0, timeout_secs: 0 };
        match Prioritizer::start(PrioKind::Iet, &subject).1 {
            Step::Done(verdict) => verdict.prio,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(prio("10.0.0.12:3260", "preferredip=10.0.0.12"), Prio(20));
    assert_eq!(prio("10.0.0.12:3260", "preferredip=10.0.0.1"), Prio(10));
    assert_eq!(prio("10.0.0.12:3260", "preferredip="), Prio(0));
    assert_eq!(prio("10.0.0.12:3260", "10.0.0.12"), Prio(0));
    assert_eq!(prio("[fe80::1]:3260", "preferredip=fe80::1"), Prio(20));
    assert_eq!(prio("", "preferredip=fe80::1"), Prio(10));
}
