//! Checker vectors: the same replies must give the peer's state by the peer's commands. Where we differ on purpose is listed here and
//! reasoned in docs/differences.md.

#[path = "common/device.rs"]
mod device;

use corepath::conf::settings::CheckerKind;
use corepath::engine::checker::{Answer, Checker, MapMemory, PathMemory, Step, Subject};
use corepath::model::PathState;
use device::{Device, hex, load};

/// The same differences by what was answered, for cases that have no name here: our state, and how often we send the last command.
fn different(checker: &str, input: &serde_json::Value, theirs: PathState) -> Option<(PathState, usize)> {
    let last = input["responses"].as_array()?.last()?;
    let sense = hex(last["sense"].as_str()?);
    let key = match *sense.first()? & 0x7f {
        // Somebody else's error: asked again, with the same answer.
        0x71 | 0x73 if checker == "tur" => return Some((theirs, 5)),
        0x70 => sense.get(2)? & 0xf,
        0x72 => sense.get(1)? & 0xf,
        _ => return None,
    };
    // Recovered: the command succeeded.
    (key == 1 && matches!(checker, "tur" | "readsector0")).then_some((PathState::Up, 1))
}

/// Checker, name, our state, how often we send the last command.
const DIFFERENCES: &[(&str, &str, PathState, usize)] = &[
    ("tur", "fixed sense 1/17/01", PathState::Up, 1),
    ("tur", "descriptor sense 1/17/01", PathState::Up, 1),
    ("tur", "deferred fixed sense 71", PathState::Ghost, 5),
    ("readsector0", "fixed sense 1/17/01", PathState::Up, 1),
    ("readsector0", "descriptor sense 1/17/01", PathState::Up, 1),
    ("hp_sw", "inquiry good, tur host error", PathState::Down, 1),
    ("emc_clariion", "recovered error still fails", PathState::Up, 1),
];

fn kind(name: &str) -> CheckerKind {
    match name {
        "tur" => CheckerKind::Tur,
        "readsector0" => CheckerKind::ReadSector0,
        "hp_sw" => CheckerKind::HpSw,
        "rdac" => CheckerKind::Rdac,
        "emc_clariion" => CheckerKind::EmcClariion,
        other => panic!("{other}"),
    }
}

#[test]
fn checkers() {
    let (mut same, mut listed, mut different_too) = (0, 0, 0);
    for v in load("checkers") {
        let (checker, name) = (v["checker"].as_str().unwrap(), v["name"].as_str().unwrap());
        let mut device = Device::new(&v["input"]["responses"]);
        // The look at the mode page is not part of the vectors.
        let mut path = PathMemory { rdac_prepared: true, ..Default::default() };
        let mut map = MapMemory::default();
        let (mut machine, mut step) = Checker::start(kind(checker), Subject::default(), &path);
        let state = loop {
            step = match step {
                Step::Send(command) => device.ask(&command, |reply| machine.next(Answer::Scsi(reply), &mut path, &mut map)),
                Step::Read { .. } => panic!("{name}"),
                Step::Done(verdict) => break verdict.state,
            }
        };
        let theirs = v["expected"]["state"].as_str().unwrap();
        let expected = match theirs {
            "up" => PathState::Up,
            "down" => PathState::Down,
            "ghost" => PathState::Ghost,
            "pending" => PathState::Pending,
            "shaky" => PathState::Shaky,
            "wild" => PathState::Wild,
            "disconnected" => PathState::Disconnected,
            other => panic!("{other}"),
        };
        let commands: Vec<Vec<u8>> = v["expected"]["commands"].as_array().unwrap().iter().map(|c| hex(c.as_str().unwrap())).collect();
        match DIFFERENCES.iter().find(|d| (d.0, d.1) == (checker, name)) {
            Some(&(_, _, ours, times)) => {
                assert_eq!(state, ours, "{checker}: {name}");
                let last = device.asked.last().unwrap();
                assert_eq!(device.asked.iter().filter(|c| *c == last).count(), times, "{checker}: {name}");
                assert!(state != expected || device.asked != commands, "{checker}: {name} is no difference any more");
                listed += 1;
            }
            None if (state, &device.asked) == (expected, &commands) => same += 1,
            None => {
                let last = device.asked.last();
                let times = device.asked.iter().filter(|c| Some(*c) == last).count();
                assert_eq!(Some((state, times)), different(checker, &v["input"], expected), "{checker}: {name}: {expected:?} {commands:?}");
                different_too += 1;
            }
        }
    }
    println!("checkers: {same} as the peer, {} on purpose not", listed + different_too);
    assert!(same > 0);
}
