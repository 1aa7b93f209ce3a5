//! The multipath target's table, feature and status text against the peer's vectors, and as properties.

use corepath::conf::settings::{Lookup, MapSettings, NoPathRetry};
use corepath::conf::{Complaint, Entry, Room, Section, Settings, Source, parse};
use corepath::engine::queueing::{State, View, Want};
use corepath::engine::selector::repeat_count;
use corepath::model::{DevNo, DmPathState, GroupState, Instant, PathFacts, Prio, Text};
use corepath::wire::table::{Features, Status, StatusPath, Table, TableError, TableGroup, TablePath, valid_selector};
use proptest::prelude::*;
use serde_json::Value;
use std::time::Duration;

fn vectors(text: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(text).unwrap();
    let all = all["vectors"].as_array().unwrap().clone();
    assert!(!all.is_empty());
    all
}

fn emit_table(table: &Table) -> String {
    let mut bytes = [0u8; 8192];
    let len = table.emit(&mut bytes).unwrap();
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

fn emit_features(features: &Features) -> String {
    let mut bytes = [0u8; 512];
    let len = features.emit(&mut bytes).unwrap();
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

fn text<const N: usize>(s: &str) -> Text<N> {
    Text::try_from(s).unwrap()
}

/// Where we differ from the peer on purpose (docs/differences.md, Device-mapper).
const STRICTER: [&str; 2] = [
    // A table with words after the last path is not ours to judge.
    "extra paths ignored",
    // The peer fills missing groups from the table; status and table are two values here, the engine joins them by device number.
    "status fewer groups than table",
];

#[test]
fn peer_tables() {
    let (mut parsed, mut built) = (0, 0);
    for vector in vectors(include_str!("vectors/dm_table.json")) {
        let name = vector["name"].as_str().unwrap();
        let expected = &vector["expected"];
        match vector["kind"].as_str().unwrap() {
            "parse" => {
                let table = Table::parse(vector["input"]["table"].as_str().unwrap());
                let status = vector["input"]["status"].as_str().map(Status::parse);
                parsed += 1;
                if name == "status truncated" {
                    assert!(table.is_ok());
                    assert_eq!(status.unwrap(), Err(TableError::Malformed), "{name}");
                } else if vector["malformed"] == true || name == STRICTER[0] {
                    assert_eq!(table, Err(TableError::Malformed), "{name}");
                } else {
                    check_parsed(name, &table.unwrap(), status.map(Result::unwrap), expected);
                }
            }
            "build" => {
                built += 1;
                let table = build(&vector["input"]);
                let ours = emit_table(&table);
                let theirs = expected["params"].as_str().unwrap();
                if ours != theirs {
                    // Features stand in the kernel's own order, so that a listing of ours and of the kernel read alike.
                    let sorted = |text: &str| {
                        let mut words: Vec<_> = text.split(' ').map(String::from).collect();
                        words.sort();
                        words
                    };
                    assert_eq!(sorted(&ours), sorted(theirs), "{name}");
                    assert_eq!(Table::parse(theirs).unwrap(), table, "{name}");
                }
                assert_eq!(Table::parse(&ours).unwrap(), table, "{name}");
            }
            other => panic!("unknown kind {other}"),
        }
    }
    assert!(parsed > 0 && built > 0);
}

fn check_parsed(name: &str, table: &Table, status: Option<Status>, expected: &Value) {
    assert_eq!(expected["rc"], 0, "{name}");
    assert_eq!(emit_features(&table.features), expected["features"].as_str().unwrap(), "{name}");
    let words = table.handler.split_whitespace().count();
    let handler = if words == 0 { "0".into() } else { format!("{words} {}", table.handler.as_str()) };
    assert_eq!(handler, expected["hwhandler"].as_str().unwrap(), "{name}");
    assert_eq!(table.groups.first().map(|g| g.selector.as_str()), expected["selector"].as_str(), "{name}");
    assert_eq!(u64::from(table.first_group), expected["nextpg"].as_u64().unwrap(), "{name}");
    assert_eq!(u64::from(table.paths.last().and_then(|p| p.repeat).unwrap_or(0)), expected["minio"].as_u64().unwrap(), "{name}");
    let groups = expected["pgs"].as_array().unwrap();
    assert_eq!(table.groups.len(), groups.len(), "{name}");
    for (index, group) in groups.iter().enumerate() {
        let ours: Vec<String> = table.paths.iter().filter(|p| usize::from(p.group) == index).map(|p| p.devno.to_string()).collect();
        let theirs: Vec<String> = group["paths"].as_array().unwrap().iter().map(|p| p["dev_t"].as_str().unwrap().to_string()).collect();
        assert_eq!(ours, theirs, "{name}");
        let Some(status) = &status else { continue };
        if index >= status.groups.len() {
            assert_eq!(name, STRICTER[1]);
            continue;
        }
        let state = match status.groups[index] {
            GroupState::Active => "active",
            GroupState::Enabled => "enabled",
            GroupState::Disabled => "disabled",
            GroupState::Undefined => "undef",
        };
        assert_eq!(state, group["status"].as_str().unwrap(), "{name}");
        for path in group["paths"].as_array().unwrap() {
            let devno = DevNo::parse(path["dev_t"].as_str().unwrap()).unwrap();
            let ours = status.paths.iter().find(|p| p.devno == devno).unwrap();
            let state = match ours.state {
                DmPathState::Active => "active",
                DmPathState::Failed => "failed",
                DmPathState::Undefined => "undef",
            };
            assert_eq!(state, path["dm"].as_str().unwrap(), "{name}");
            assert_eq!(u64::from(ours.fail_count), path["fails"].as_u64().unwrap(), "{name}");
        }
    }
    if let Some(status) = status {
        assert_eq!(u64::from(status.queue_io), expected["queuedio"].as_u64().unwrap(), "{name}");
    }
}

/// `unset`, `fail`, `queue` or a number.
fn no_path_retry(value: &Value) -> NoPathRetry {
    match (value.as_str(), value.as_u64()) {
        (Some("queue"), _) => NoPathRetry::Queue,
        (Some("fail"), _) => NoPathRetry::Fail,
        (Some(_), _) => NoPathRetry::Unset,
        (None, number) => NoPathRetry::Retries(u32::try_from(number.unwrap()).unwrap()),
    }
}

/// Does the map queue, by the engine's rule? In recovery the last path is lost; the rounds are over when none is left.
fn queues(input: &Value) -> bool {
    let (setting, interval) = (no_path_retry(&input["no_path_retry"]), Duration::from_secs(5));
    let paths = || input["groups"].as_array().unwrap().iter().flat_map(|group| group.as_array().unwrap());
    let usable = paths().filter(|path| matches!(path["state"].as_str(), Some("up" | "ghost"))).count() as u16;
    let view = View { paths: paths().count() as u16, usable, gone: 0 };
    let mut state = State::new();
    if input["in_recovery"] == true {
        state.process(Instant::from_secs(0), setting, interval, View { usable: 0, ..view });
        let over = input["retry_tick"].as_u64() == Some(0);
        let end = state.poll_at(setting, interval).filter(|_| over);
        state.process(end.unwrap_or(Instant::from_secs(1)), setting, interval, view);
    }
    state.want(setting) == Want::On
}

/// The table that an engine which decided as the vector says would hand over.
fn build(input: &Value) -> Table {
    let mut table = Table { features: Features::parse(input["features"].as_str().unwrap()).unwrap(), ..Table::default() };
    table.features.queue_if_no_path |= queues(input);
    let settings = MapSettings {
        repeat_count: u32::try_from(input["minio"].as_u64().unwrap()).unwrap(),
        rr_weight_priorities: input["rr_weight"] == "priorities",
        ..MapSettings::default()
    };
    let handler = input["hardware_handler"].as_str().unwrap();
    table.handler = text(handler.split_once(' ').map_or("", |(_, words)| words));
    table.first_group = input["best_pg"].as_u64().unwrap() as u8;
    for (index, group) in input["groups"].as_array().unwrap().iter().enumerate() {
        let selector = input["selector"].as_str().unwrap();
        assert!(valid_selector(selector));
        table.groups.push(TableGroup { selector: text(selector) }).unwrap();
        for path in group.as_array().unwrap() {
            let name = path["dev_t"].as_str().unwrap();
            let prio = Prio(path["prio"].as_str().unwrap().parse().unwrap());
            let repeat = Some(repeat_count(&settings, prio));
            let devno = DevNo::parse(name).unwrap();
            table.paths.push(TablePath { devno, group: index as u8, repeat, ..Default::default() }).unwrap();
        }
    }
    table
}

/// What is in force for a map of a configured device.
fn map_settings(config: &str) -> MapSettings {
    let config = format!("devices {{\ndevice {{\nvendor foo\nproduct bar\n{config}}}\n}}\n");
    let files = [Source { name: "main", text: config.as_bytes() }];
    let room = Room {
        sections: &mut [Section::EMPTY; 8],
        entries: &mut [Entry::EMPTY; 8],
        slots: &mut [0; 32],
        text: &mut [],
        complaints: &mut [Complaint::EMPTY; 8],
    };
    let settings = Settings::new(&files, parse(&files, room));
    let facts = PathFacts { vendor: text("foo"), product: text("bar"), ..PathFacts::default() };
    settings.map("W0", &facts)
}

/// Words one blank apart: the peer keeps the white space it was given, we write one blank.
fn normal(features: &str) -> String {
    features.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn peer_features() {
    for vector in vectors(include_str!("vectors/features.json")) {
        let (input, expected) = (&vector["input"], &vector["expected"]);
        let given = input["features"].as_str().unwrap_or("0");
        let wanted = expected["features"].as_str().unwrap();
        let parsed = Features::parse(given);
        let word = input["word"].as_str().unwrap_or("");
        match vector["op"].as_str().unwrap() {
            op @ ("add" | "remove") => {
                let rc = parsed.and_then(|features| {
                    let mut changed = features.clone();
                    let result = if op == "add" { changed.add(word) } else { changed.remove(word) };
                    assert!(result.is_ok() || changed == features, "an error changes nothing");
                    assert_eq!(normal(wanted), emit_features(&changed), "{given:?} {op} {word:?}");
                    result
                });
                assert_eq!(u64::from(rc.is_err()), expected["rc"].as_u64().unwrap(), "{given:?} {op} {word:?}");
            }
            "reconcile_queue_mode" => {
                // A queue mode the kernel does not know is an error here, and so is a text without a count; the peer drops both silently.
                let words: Vec<&str> = given.split_whitespace().collect();
                let unknown = words.windows(2).any(|w| w[0] == "queue_mode" && !["bio", "rq", "mq"].contains(&w[1]));
                if unknown || words[0].parse::<u32>().is_err() {
                    assert_eq!(parsed, Err(TableError::Malformed));
                    continue;
                }
                let mut features = parsed.unwrap();
                match input["queue_mode"].as_str().unwrap() {
                    "bio" => features.queue_mode = text("bio"),
                    "rq" => features.queue_mode = text(""),
                    _ => {}
                }
                // Order is the kernel's, not the writer's.
                assert_eq!(Features::parse(&normal(wanted)), Ok(features), "{given:?}");
            }
            "reconcile_no_path_retry" => {
                // Both words are keywords now: what they say counts where the keyword says nothing.
                let mut config = format!("features \"{}\"\n", normal(given));
                for (keyword, words) in [("no_path_retry", ["fail", "queue"]), ("retain_attached_hw_handler", ["no", "yes"])] {
                    let value = &input[if keyword == "no_path_retry" { keyword } else { "retain_hwhandler" }];
                    config += &match (value.as_str(), value.as_i64(), keyword) {
                        (Some(word), ..) => format!("{keyword} {word}\n"),
                        (_, None | Some(0), _) => String::new(),
                        // The peer's own codes: -1 and -2 beside numbers of rounds, 1 and 2 for no and yes.
                        (_, Some(code @ (-1 | -2)), _) => format!("{keyword} {}\n", words[(-code - 1) as usize]),
                        (_, Some(code), "retain_attached_hw_handler") => format!("{keyword} {}\n", words[code as usize - 1]),
                        (_, Some(rounds), _) => format!("{keyword} {rounds}\n"),
                    };
                }
                let map = map_settings(&config);
                assert_eq!(map.features.as_str(), normal(wanted), "{vector}");
                let retry = match map.no_path_retry {
                    NoPathRetry::Unset => None,
                    NoPathRetry::Fail => Some("fail".to_string()),
                    NoPathRetry::Queue => Some("queue".into()),
                    NoPathRetry::Retries(rounds) => Some(rounds.to_string()),
                };
                assert_eq!(retry.as_deref(), expected["no_path_retry"].as_str().map(|text| text.trim_matches('"')), "{vector}");
                // 0 is unset, for which the handler is kept; 1 is no.
                assert_eq!(map.retain_handler, expected["retain_hwhandler"] != 1, "{vector}");
            }
            other => panic!("unknown op {other}"),
        }
    }
}

#[test]
fn features_merge_and_carry() {
    let mut features = Features::parse("5 PG_INIT_RETRIES 50 some new words").unwrap();
    assert_eq!(features.pg_init_retries, Some(50));
    features.add("pg_init_retries 3").unwrap();
    features.add("Queue_Mode BIO").unwrap();
    assert_eq!(emit_features(&features), "7 pg_init_retries 3 queue_mode bio some new words");
    features.remove("new").unwrap();
    features.remove("pg_init_retries 9").unwrap();
    assert_eq!(emit_features(&features), "4 queue_mode bio some words");
    let before = features.clone();
    assert_eq!(features.add(&"x".repeat(70)), Err(TableError::TooBig));
    assert_eq!(features.add("pg_init_retries"), Err(TableError::Malformed));
    assert_eq!(features.add("pg_init_retries 4294967296"), Err(TableError::Malformed));
    assert_eq!(features, before);
    assert_eq!(Features::parse("1 queue_if_no_path extra"), Err(TableError::Malformed));
    assert_eq!(Features::parse("4294967295 a"), Err(TableError::Malformed));
}

/// Lines of Debian kernels 6.1 to 7.2 with scsi_debug paths (reference observations), and of the other selectors by their source.
#[test]
fn kernel_lines() {
    let status = Status::parse("2 0 1 0 2 1 A 0 1 2 8:0 F 1 0 1 E 0 1 2 8:16 A 0 0 1 ").unwrap();
    assert!(!status.queue_io);
    assert_eq!((status.pg_init_count, status.current_group), (1, 1));
    assert_eq!(status.paths[0], StatusPath { devno: DevNo::new(8, 0), group: 0, state: DmPathState::Failed, fail_count: 1 });
    assert_eq!(status.groups.as_slice(), &[GroupState::Active, GroupState::Enabled]);
    // More feature figures and a handler's own, as a newer kernel might print; a letter we do not know.
    let newer = Status::parse("3 1 0 99 2 x y 1 1 D 2 7 8 1 0 8:0 Z 3").unwrap();
    assert!(newer.queue_io);
    assert_eq!((newer.groups[0], newer.paths[0].state, newer.paths[0].fail_count), (GroupState::Disabled, DmPathState::Undefined, 3));
    for bad in
        ["", "2", "1 0 0 0 0", "2 0 0 0 1 2 A 0 0 0", "2 0 0 0 0 0 x", "2 0 0 0 1 1 A 0 1 0 8:0 A", "2 0 0 0 1 1 A 0 1 4294967295 8:0 A 0"]
    {
        assert_eq!(Status::parse(bad), Err(TableError::Malformed), "{bad}");
    }

    let historical = Table::parse("0 1 alua 1 1 historical-service-time 2 973 0 2 1 8:0 0 8:16 0 ").unwrap();
    assert_eq!(historical.groups[0].selector.as_str(), "historical-service-time 2 973 0");
    let affinity = Table::parse("1 queue_if_no_path 0 1 1 io-affinity 0 2 1 8:0 00000001,80000000 8:16 f ").unwrap();
    assert_eq!((affinity.paths[0].processors, affinity.paths[1].processors), (0x1_8000_0000, 0xf));
    assert_eq!(emit_table(&affinity), "1 queue_if_no_path 0 1 1 io-affinity 0 2 1 8:0 00000001,80000000 8:16 f");
    assert_eq!(Table::parse("0 0 1 1 io-affinity 0 1 1 8:0 1,00000000,00000000"), Err(TableError::TooBig));
    assert_eq!(Table::parse("0 0 1 1 io-affinity 0 1 0 8:0"), Err(TableError::Malformed));
    let weighted = Table::parse("0 0 1 1 service-time 0 1 2 8:0 1 100").unwrap();
    assert_eq!(weighted.paths[0].weight, Some(100));
    let bio = Table::parse("2 queue_mode bio 3 emc 1 0 1 1 round-robin 0 1 1 8:0 1").unwrap();
    assert!(bio.features.bio());
    assert_eq!(bio.handler.as_str(), "emc 1 0");
    // Does not fit: refused whole.
    assert_eq!(Table::parse("0 0 1 1 service-time 0 1 2 8:0 1 256"), Err(TableError::TooBig));
    assert_eq!(Table::parse("0 0 1 1 future 0 1 3 8:0 1 2 3"), Err(TableError::TooBig));
    assert_eq!(Table::parse("0 0 65 1"), Err(TableError::TooBig));
    let many: String = (0..65).map(|n| format!(" 8:{n}")).collect();
    assert_eq!(Table::parse(&format!("0 0 1 1 round-robin 0 65 0{many}")), Err(TableError::TooBig));
    for bad in [
        "0 0 1 2 round-robin 0 1 0 8:0",
        "0 0 1 0 round-robin 0 1 0 8:0",
        "0 0 0 1",
        "0 0 1 1 round-robin 0 0 0",
        "0 0 1 1 rr 0 1 0 8",
        "-1 0 0 0",
    ] {
        assert_eq!(Table::parse(bad), Err(TableError::Malformed), "{bad}");
    }
}

#[test]
fn kernel_rewrites_are_no_difference() {
    let agree = |wanted: &str, live: &str| Table::parse(wanted).unwrap().agrees_with(&Table::parse(live).unwrap());
    // 7.0 and later: retain is gone and an attached handler shows up in a table loaded without one.
    assert!(agree("1 retain_attached_hw_handler 0 1 1 service-time 0 1 1 8:0 1", "0 1 alua 1 1 service-time 0 1 2 8:0 1 1"));
    assert!(agree("0 1 emc 1 1 service-time 0 1 1 8:0 1", "0 1 alua 1 1 service-time 0 1 2 8:0 1 1"));
    assert!(agree("1 queue_if_no_path 3 emc 1 0 1 1 service-time 0 1 0 8:0", "0 1 emc 1 1 service-time 0 1 2 8:0 1 1"));
    assert!(agree("2 queue_mode mq 0 1 1 round-robin 0 1 1 8:0 1000", "0 0 1 1 round-robin 0 1 1 8:0 1"));
    assert!(agree("2 queue_mode bio 1 alua 1 1 round-robin 0 1 0 8:0", "2 queue_mode bio 0 1 1 round-robin 0 1 1 8:0 1"));
    assert!(agree("0 0 1 1 historical-service-time 0 1 1 8:0 1", "0 0 1 1 historical-service-time 2 973 0 1 1 8:0 0"));
    assert!(agree("0 0 1 1 round-robin 0 2 0 8:0 8:16", "0 0 1 1 round-robin 0 2 0 8:16 8:0"));
    // Differences.
    assert!(!agree("0 1 alua 1 1 service-time 0 1 1 8:0 1", "0 0 1 1 service-time 0 1 1 8:0 1"));
    assert!(!agree("0 0 1 1 historical-service-time 1 50 1 1 8:0 1", "0 0 1 1 historical-service-time 2 973 0 1 1 8:0 0"));
    assert!(!agree("0 0 1 1 round-robin 0 1 0 8:0", "0 0 1 1 round-robin 0 1 0 8:16"));
    assert!(!agree("0 0 1 1 round-robin 0 2 0 8:0 8:16", "0 0 2 1 round-robin 0 1 0 8:0 round-robin 0 1 0 8:16"));
    assert!(!agree("2 queue_mode bio 0 1 1 round-robin 0 1 0 8:0", "0 0 1 1 round-robin 0 1 0 8:0"));
    assert!(!agree("2 pg_init_retries 5 0 1 1 round-robin 0 1 0 8:0", "0 0 1 1 round-robin 0 1 0 8:0"));
    assert!(!agree("0 0 1 1 service-time 0 1 2 8:0 1 50", "0 0 1 1 service-time 0 1 2 8:0 1 1"));
}

#[test]
fn selectors() {
    for good in ["service-time 0", "round-robin 1 5", "historical-service-time 2 100 5", " queue-length  0 "] {
        assert!(valid_selector(good), "{good}");
    }
    for bad in ["", "service-time", "service-time x", "service-time 1", "service-time 0 1", "service-time 4294967295"] {
        assert!(!valid_selector(bad), "{bad}");
    }
}

#[test]
fn full_is_an_answer() {
    let table = Table::parse("1 queue_if_no_path 1 alua 1 1 service-time 0 2 2 8:0 1 1 8:16 1 1").unwrap();
    let whole = emit_table(&table).len();
    let mut bytes = vec![0u8; whole];
    assert_eq!(table.emit(&mut bytes), Ok(whole));
    for short in 0..whole {
        assert!(table.emit(&mut bytes[..short]).is_err(), "{short}");
    }
}

fn any_devno() -> impl Strategy<Value = DevNo> {
    (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| DevNo { major, minor })
}

fn any_features() -> impl Strategy<Value = Features> {
    let mode = prop_oneof![Just(""), Just("bio"), Just("rq"), Just("mq")];
    (any::<bool>(), any::<bool>(), any::<Option<u32>>(), any::<Option<u32>>(), mode, "([a-z]{1,9}( [a-z0-9]{1,9}){0,3})?").prop_map(
        |(queue, retain, retries, delay, mode, other)| Features {
            queue_if_no_path: queue,
            retain_attached_hw_handler: retain,
            pg_init_retries: retries,
            pg_init_delay_msecs: delay,
            queue_mode: text(mode),
            other: text(&other),
        },
    )
}

fn any_table() -> impl Strategy<Value = Table> {
    let selector = prop_oneof![
        Just(("round-robin 0", 0)),
        Just(("queue-length 0", 1)),
        Just(("service-time 0", 2)),
        Just(("historical-service-time 2 100 5", 1)),
        Just(("io-affinity 0", 3)),
        Just(("round-robin 1 5", 1)),
    ];
    let group = (selector, prop::collection::vec((any_devno(), any::<u32>(), any::<u8>(), 1u64..), 1..6));
    (any_features(), "([a-z_]{1,9}( [0-9]{1,3}){0,3})?", prop::collection::vec(group, 0..8), any::<u8>()).prop_map(
        |(features, handler, groups, first)| {
            let mut table = Table { features, handler: text(&handler), ..Table::default() };
            for (index, ((selector, shape), paths)) in groups.into_iter().enumerate() {
                table.groups.push(TableGroup { selector: text(selector) }).unwrap();
                for (devno, repeat, weight, processors) in paths {
                    let path = match shape {
                        0 => TablePath::default(),
                        1 => TablePath { repeat: Some(repeat), ..Default::default() },
                        2 => TablePath { repeat: Some(repeat), weight: Some(weight), ..Default::default() },
                        _ => TablePath { processors, ..Default::default() },
                    };
                    table.paths.push(TablePath { devno, group: index as u8, ..path }).unwrap();
                }
            }
            let groups = table.groups.len() as u8;
            table.first_group = if groups == 0 { 0 } else { first % groups + 1 };
            table
        },
    )
}

fn any_status() -> impl Strategy<Value = Status> {
    let group = prop_oneof![Just(GroupState::Active), Just(GroupState::Enabled), Just(GroupState::Disabled), Just(GroupState::Undefined)];
    let state = prop_oneof![Just(DmPathState::Active), Just(DmPathState::Failed), Just(DmPathState::Undefined)];
    let groups = prop::collection::vec((group, prop::collection::vec((any_devno(), state, any::<u32>()), 0..6)), 0..8);
    (any::<bool>(), any::<u32>(), groups, any::<u8>()).prop_map(|(queue_io, pg_init_count, groups, current)| {
        let mut status = Status { queue_io, pg_init_count, ..Status::default() };
        for (index, (state, paths)) in groups.into_iter().enumerate() {
            status.groups.push(state).unwrap();
            for (devno, state, fail_count) in paths {
                status.paths.push(StatusPath { devno, group: index as u8, state, fail_count }).unwrap();
            }
        }
        status.current_group = current % (status.groups.len() as u8 + 1);
        status
    })
}

/// Words of the grammar in any order: gets further into the parsers than plain noise.
fn any_words() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("0".to_string()),
        Just("1".to_string()),
        Just("2".to_string()),
        Just("8:0".to_string()),
        Just("A".to_string()),
        Just("queue_if_no_path".to_string()),
        Just("pg_init_retries".to_string()),
        Just("io-affinity".to_string()),
        Just("service-time".to_string()),
        "[0-9]{1,12}",
        "[ -~]{0,20}",
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn table_survives_text(table in any_table()) {
        let line = emit_table(&table);
        let back = Table::parse(&line);
        prop_assert_eq!(back.as_ref(), Ok(&table), "{}", line);
        prop_assert!(table.agrees_with(&table));
    }

    #[test]
    fn status_survives_text(status in any_status()) {
        let mut bytes = [0u8; 8192];
        let len = status.emit(&mut bytes).unwrap();
        prop_assert_eq!(Status::parse(core::str::from_utf8(&bytes[..len]).unwrap()), Ok(status));
    }

    #[test]
    fn any_text_is_judged(noise in "\\PC{0,200}", words in any_words()) {
        for line in [&noise, &words] {
            if let Ok(table) = Table::parse(line) {
                prop_assert_eq!(Table::parse(&emit_table(&table)), Ok(table));
            }
            let _ = Status::parse(line);
            if let Ok(features) = Features::parse(line) {
                prop_assert_eq!(Features::parse(&emit_features(&features)), Ok(features));
            }
        }
    }
}
