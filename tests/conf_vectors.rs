//! tests/vectors/config.json and blacklist.json: the configuration language against multipath-tools 0.14.3.
//!
//! Each vector must give what the peer gives, or stand in a list of differences here with what it gives instead; the reasons are in
//! docs/differences.md, section "Configuration". A difference that has gone away fails the test too.

use corepath::conf::complaint::What;
use corepath::conf::keyword::{CHECKERS, Key, Place};
use corepath::conf::settings::*;
use corepath::conf::{Complaint, Entry, Room, Section, Settings, Source, keyword, parse};
use corepath::model::{Bus, PathFacts, Protocol, Text};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Parses files and leaks them: a test's settings live as long as the test.
fn load(files: &[(&str, &[u8])]) -> (Settings<'static>, corepath::conf::Report<'static>) {
    let files: Vec<Source<'static>> =
        files.iter().map(|(name, text)| Source { name: name.to_string().leak(), text: text.to_vec().leak() }).collect();
    let files: &'static [Source<'static>] = files.leak();
    let lines = Room::lines(files);
    let room = Room {
        sections: vec![Section::EMPTY; lines].leak(),
        entries: vec![Entry::EMPTY; lines].leak(),
        slots: vec![0; 4 * lines].leak(),
        text: vec![0; Room::quoted(files)].leak(),
        complaints: vec![Complaint::EMPTY; 64].leak(),
    };
    let parsed = parse(files, room);
    let report = parsed.report;
    (Settings::new(files, parsed), report)
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect()
}

fn vectors(name: &str) -> Json {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The peer's class of message.
fn class(what: What) -> &'static str {
    match what {
        What::UnknownKeyword | What::WrongPlace | What::UnknownBlock | What::StrayOpen => "unknown-keyword",
        What::MissingValue => "missing-value",
        What::MissingOpen => "missing-open",
        What::ExtraText => "extra-data",
        What::MissingQuote => "missing-quote",
        What::UnmatchedClose => "unmatched-close",
        What::Unclosed => "missing-close-at-eof",
        What::Duplicate => "duplicate-keyword",
        What::BadValue | What::Slash | What::TooLong | What::BadPair => "invalid-value",
        What::Capped => "capped",
        What::BadCount => "arg-count",
        What::BadPattern(_) | What::BadKey => "parse-failed",
        What::Deprecated => "deprecated",
        What::DuplicateDevice => "duplicate-device",
        What::DuplicateMultipath => "duplicate-multipath",
        What::DuplicateAlias => "duplicate-alias",
        What::LineTooLong => "line-too-long",
        What::Binary => "binary",
        What::NonAscii => "non-ascii",
        What::Full => "full",
        What::Incomplete => "dropped",
        What::NotRead => "not-read",
    }
}

fn messages(report: &corepath::conf::Report<'_>) -> Vec<String> {
    let one = |c: &Complaint<'_>| match (c.what, c.place) {
        // The peer reads them.
        (What::NotRead, _) => vec![],
        (What::Incomplete, Place::Device) => vec!["device-dropped".to_string()],
        (What::Incomplete, Place::Protocol) => vec!["protocol-dropped".to_string()],
        // The peer says these without a line.
        (What::DuplicateDevice | What::DuplicateMultipath | What::Unclosed, _) => vec![class(c.what).to_string()],
        (What::Deprecated, _) if c.key == Some(Key::Features) => vec![class(c.what).to_string()],
        // And this twice.
        (What::UnmatchedClose, _) => ["unmatched-close", "unknown-keyword"].map(|class| format!("{} {class}", c.line)).to_vec(),
        _ => vec![format!("{} {}", c.line, class(c.what))],
    };
    report.kept.iter().flat_map(one).collect()
}

/// By the numbers of SPC-6 7.6.1, the last one for everything else, as the vectors have them.
const SCSI_PROTOCOLS: [Protocol; 11] = [
    Protocol::ScsiFcp,
    Protocol::ScsiSpi,
    Protocol::ScsiSsa,
    Protocol::ScsiSbp,
    Protocol::ScsiSrp,
    Protocol::ScsiIscsi,
    Protocol::ScsiSas,
    Protocol::ScsiAdt,
    Protocol::ScsiAta,
    Protocol::ScsiUsb,
    Protocol::ScsiUnspec,
];

fn facts(device: &Json) -> PathFacts {
    let text = |key: &str, default: &str| device[key].as_str().unwrap_or(default).to_string();
    PathFacts {
        name: Text::try_from("sda").unwrap(),
        bus: Bus::Scsi,
        vendor: Text::try_from(text("vendor", "").as_str()).unwrap(),
        product: Text::try_from(text("product", "").as_str()).unwrap(),
        wwid: Text::try_from(text("wwid", "W0").as_str()).unwrap(),
        protocol: device["proto"].as_u64().map_or(Protocol::Undefined, |code| SCSI_PROTOCOLS[code as usize]),
        ..PathFacts::default()
    }
}

fn word(words: &[(&'static str, u32)], code: usize) -> String {
    words.iter().find(|(_, c)| *c as usize == code).unwrap().0.to_string()
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_string()
}

/// What the peer's program would show for a path and its map, in its words. Autodetection is the engine's; the rule of multipath.conf
/// ("beats even multipaths") is applied here for the device's TPGS, so that what is configured beneath can be compared.
fn effective(settings: &Settings<'_>, device: &Json) -> BTreeMap<&'static str, String> {
    let facts = facts(device);
    let path = settings.path(&facts);
    let map = settings.map(&facts.wwid, &facts);
    let pick = settings.pick(&facts.wwid, &facts);
    // The engine's rule for `find_multipaths smart`: 0 is the default, negative is for known arrays only, 1 s for others.
    let smart = match settings.globals().find_multipaths_timeout {
        0 if path.known => 10,
        n if n > 0 || path.known => n.unsigned_abs(),
        _ => 1,
    };
    let tpgs = device["tpgs"].as_str();
    let alua = matches!(tpgs, Some("implicit" | "explicit"));
    let timeout = |t: Timeout| match t {
        Timeout::Unset => "(unset)".to_string(),
        Timeout::Off => "off".into(),
        Timeout::Secs(n) => n.to_string(),
        Timeout::Infinity => "infinity".into(),
    };
    let off = |n: Option<u32>| n.map_or("no".to_string(), |n| n.to_string());
    let detected_prio = alua && path.detect_prio;
    let prio = if detected_prio { "alua".into() } else { word(&keyword::PRIOS, path.prio as usize) };
    let policy = match (alua && map.detect_policy && prio == "alua", map.detect_policy_use_tpg) {
        (true, true) => "group_by_tpg".into(),
        (true, false) => "group_by_prio".into(),
        _ => word(&keyword::POLICIES, map.policy as usize),
    };
    let alias = match (map.alias.as_str(), map.user_friendly_names) {
        ("", false) => facts.wwid.to_string(),
        ("", true) => "user friendly".to_string(),
        (alias, _) => alias.to_string(),
    };
    let mut list = BTreeMap::from([
        ("alias", alias),
        ("uid_attribute", path.uid_attribute.to_string()),
        ("path_checker", if alua && path.detect_checker { "tur".into() } else { word(&CHECKERS, path.checker as usize) }),
        ("prio", prio),
        ("prio_args", if detected_prio { String::new() } else { path.prio_args.to_string() }),
        ("path_grouping_policy", policy),
        ("path_selector", map.selector.to_string()),
        ("features", map.features.to_string()),
        (
            "hardware_handler",
            match map.handler.as_str() {
                "" | "0" if alua => "1 alua".into(),
                // Not configured, which leaves the choice to us.
                "" => "0".into(),
                handler => handler.to_string(),
            },
        ),
        (
            "failback",
            match map.failback {
                Failback::Manual => "manual".into(),
                Failback::Immediate => "immediate".into(),
                Failback::Followover => "followover".into(),
                Failback::After(n) => n.to_string(),
            },
        ),
        (
            "no_path_retry",
            match map.no_path_retry {
                NoPathRetry::Unset => "(unset)".into(),
                NoPathRetry::Fail => "fail".into(),
                NoPathRetry::Queue => "queue".into(),
                NoPathRetry::Retries(n) => n.to_string(),
            },
        ),
        ("rr_weight", if map.rr_weight_priorities { "priorities" } else { "uniform" }.into()),
        (
            "flush_on_last_del",
            match map.flush_on_last_del {
                FlushOnLastDel::Never => "never".into(),
                FlushOnLastDel::Always => "always".into(),
                FlushOnLastDel::Unused => "unused".into(),
            },
        ),
        ("fast_io_fail_tmo", timeout(path.fast_io_fail)),
        ("dev_loss_tmo", timeout(path.dev_loss)),
        ("eh_deadline", timeout(path.eh_deadline)),
        ("san_path_err_threshold", off(map.shaky.san_path_err_threshold)),
        ("san_path_err_forget_rate", off(map.shaky.san_path_err_forget_rate)),
        ("san_path_err_recovery_time", off(map.shaky.san_path_err_recovery_time)),
        ("marginal_path_err_sample_time", off(map.shaky.marginal_path_err_sample_time)),
        ("marginal_path_err_rate_threshold", off(map.shaky.marginal_path_err_rate_threshold)),
        ("marginal_path_err_recheck_gap_time", off(map.shaky.marginal_path_err_recheck_gap_time)),
        ("marginal_path_double_failed_time", off(map.shaky.marginal_path_double_failed_time)),
        ("ghost_delay", off(map.ghost_delay)),
        ("rr_min_io_effective", map.repeat_count.to_string()),
        ("skip_kpartx", yes(map.skip_kpartx)),
        ("purge_disconnected", yes(path.purge_disconnected)),
        ("all_tg_pt", yes(pick.yes(Key::AllTgPt))),
        ("deferred_remove", yes(map.deferred_remove)),
        ("retain_attached_hw_handler", yes(map.retain_handler)),
        ("detect_prio", yes(path.detect_prio)),
        ("detect_checker", yes(path.detect_checker)),
        ("detect_pgpolicy", yes(map.detect_policy)),
        ("detect_pgpolicy_use_tpg", yes(map.detect_policy_use_tpg)),
        ("recheck_wwid", yes(path.recheck_wwid)),
        ("max_sectors_kb", map.max_sectors_kb.unwrap_or(0).to_string()),
        ("find_multipaths_timeout", smart.to_string()),
        ("vpd_vendor_id", u8::from(path.vpd_vendor_hp3par).to_string()),
    ]);
    if let Some(mode) = map.mode {
        list.insert("mode", format!("0{mode:o}"));
    }
    for (key, id) in [("uid", map.uid), ("gid", map.gid)] {
        if let Some(id) = id {
            list.insert(key, id.to_string());
        }
    }
    // One stage of the filter at a time, as the vectors name them.
    let stage = |wanted: Stage, facts: PathFacts| match settings.filter(&facts, None) {
        Verdict::Rejected { stage, .. } if stage == wanted => "blacklisted".to_string(),
        Verdict::Whitelisted { stage, .. } if stage == wanted => "whitelisted".to_string(),
        _ => "no-match".to_string(),
    };
    list.insert("filter_device", stage(Stage::Device, facts.clone()));
    let bare = PathFacts { vendor: Text::new(), product: Text::new(), ..facts };
    list.insert("filter_protocol", stage(Stage::Protocol, bare.clone()));
    list.insert("filter_wwid", stage(Stage::Wwid, bare));
    list
}

/// Vectors with other messages: name, ours.
const OTHER_MESSAGES: &[(&str, &[&str])] = &[
    // san_path_err_* is not deprecated here.
    ("precedence san_path_err_threshold d-o-", &[]),
    ("precedence san_path_err_threshold -Do-", &[]),
    ("precedence san_path_err_threshold d--m", &[]),
    ("precedence san_path_err_threshold -D-m", &[]),
    // Braces in ignored text count.
    ("grammar: section on one line", &["1 extra-data"]),
    // A brace on the line after its section's name is its brace.
    ("grammar: brace on next line", &["1 missing-open"]),
    ("grammar: overrides no brace", &["1 missing-open"]),
    ("grammar: overrides brace next line", &["1 missing-open"]),
    // Unknown blocks are skipped with all they hold.
    ("grammar: unknown section", &["1 unknown-keyword"]),
    ("grammar: unknown section containing a known section name", &["1 unknown-keyword"]),
    ("grammar: lone open brace in section", &["2 unknown-keyword"]),
    ("grammar: device outside devices", &["1 unknown-keyword"]),
    // Latin-1, not UTF-8.
    ("grammar: non ascii inside quotes", &["2 binary"]),
    ("grammar: quoted keyword", &["2 unknown-keyword"]),
    ("grammar: comment text spilling past 1023 bytes becomes a new line", &["2 line-too-long"]),
    ("grammar: alias for two wwids", &["6 duplicate-alias"]),
];
/// Vectors with other results: name, what is different and what it is here.
const OTHER_RESULTS: &[(&str, &[(&str, &str)])] = &[
    ("grammar: overrides no brace", &[("no_path_retry", "5")]),
    ("grammar: overrides brace next line", &[("no_path_retry", "5")]),
    ("grammar: unknown section containing a known section name", &[("no_path_retry", "(unset)")]),
    ("grammar: lone open brace in section", &[("no_path_retry", "(unset)"), ("failback", "3")]),
    ("grammar: comment text spilling past 1023 bytes becomes a new line", &[("no_path_retry", "(unset)")]),
    // The peer resolves this when maps are made, after what the vector shows.
    ("grammar: alias for two wwids", &[("alias", "W1")]),
    ("grammar: mode then uid in two sections loses mode", &[("mode", "0640")]),
];

#[test]
fn configurations() {
    let file = vectors("config.json");
    let baseline = file["baseline_effective"].as_object().unwrap();
    let list = file["vectors"].as_array().unwrap();
    assert!(!list.is_empty());
    let mut wrong = Vec::new();
    for vector in list {
        let name = vector["name"].as_str().unwrap();
        let mut files = vec![("main".to_string(), latin1(vector["input"]["main"].as_str().unwrap_or("")))];
        // The caller hands in drop-ins whose name ends in .conf, in byte order.
        let drop_ins: BTreeMap<_, _> = vector["input"]["conf_d"].as_object().map(|m| m.iter().collect()).unwrap_or_default();
        for (name, text) in drop_ins.into_iter().filter(|(name, _)| name.ends_with(".conf")) {
            files.push((name.clone(), latin1(text.as_str().unwrap())));
        }
        let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (name.as_str(), text.as_slice())).collect();
        let (settings, report) = load(&borrowed);
        let expected = &vector["expected"];

        // Messages, in order of line; those without one come last.
        let mut ours: Vec<String> = messages(&report);
        let mut theirs: Vec<String> = expected["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m.as_array().unwrap().iter().map(|p| p.as_str().map_or(p.to_string(), String::from)).collect::<Vec<_>>().join(" "))
            .filter(|m| m != "load-failed")
            .collect();
        ours.sort();
        theirs.sort();
        match OTHER_MESSAGES.iter().find(|(n, _)| *n == name) {
            None if ours != theirs => wrong.push(format!("{name}: messages {ours:?}, the peer's {theirs:?}")),
            Some((_, listed)) if ours != *listed || ours == theirs => wrong.push(format!("{name}: messages {ours:?}, listed {listed:?}")),
            _ => {}
        }
        if (expected["load"] == "error") != report.fatal {
            wrong.push(format!("{name}: fatal {}", report.fatal));
        }
        if report.fatal {
            continue;
        }
        let globals = settings.globals();
        let intervals = [globals.polling_interval.as_secs(), globals.max_polling_interval.as_secs()];
        if intervals != ["polling_interval", "max_polling_interval"].map(|k| expected[k].as_u64().unwrap()) {
            wrong.push(format!("{name}: intervals {intervals:?}"));
        }
        if settings.devices() as u64 != expected["device_table_entries"].as_u64().unwrap() {
            wrong.push(format!("{name}: {} device entries", settings.devices()));
        }
        let listed: BTreeMap<&str, &str> = OTHER_RESULTS.iter().filter(|(n, _)| *n == name).flat_map(|(_, r)| r.iter().copied()).collect();
        let mut differ = BTreeMap::new();
        for device in expected["devices"].as_array().unwrap() {
            let ours = effective(&settings, &device["device"]);
            let named = device["effective"].as_object().unwrap();
            for (key, base) in baseline.iter().chain(named) {
                let key = key.as_str();
                let mut theirs = named.get(key).unwrap_or(base).as_str().unwrap();
                // The baseline is that of WWID W0.
                if key == "alias" && !named.contains_key(key) {
                    theirs = device["device"]["wwid"].as_str().unwrap_or("W0");
                }
                let here = ours.get(key).unwrap_or_else(|| panic!("{name}: {key} is not looked at")).as_str();
                if here != theirs {
                    differ.insert(key.to_string(), here.to_string());
                    if listed.get(key) != Some(&here) {
                        wrong.push(format!("{name}: {}: {key} {here}, the peer's {theirs}", device["device"]));
                    }
                }
            }
            // What the peer does not show must not be set here either.
            for key in ["mode", "uid", "gid"] {
                if let (Some(here), None) = (ours.get(key), named.get(key)) {
                    differ.insert(key.to_string(), here.clone());
                    if listed.get(key) != Some(&here.as_str()) {
                        wrong.push(format!("{name}: {key} {here}, not set by the peer"));
                    }
                }
            }
        }
        if differ.len() != listed.len() {
            wrong.push(format!("{name}: listed {listed:?}, found {differ:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// The arguments of a prioritizer count where the section that holds them names it; const has none.
#[test]
fn arguments_go_with_their_prioritizer() {
    for (text, prio, args) in [
        ("defaults {\nprio_args d\n}\n", PrioKind::Const, ""),
        ("defaults {\nprio_args d\nprio emc\n}\n", PrioKind::Emc, "d"),
        ("overrides {\nprio_args o\n}\ndefaults {\nprio emc\nprio_args d\n}\n", PrioKind::Emc, "d"),
        ("overrides {\nprio emc\n}\ndefaults {\nprio_args d\n}\n", PrioKind::Emc, ""),
    ] {
        let path = load(&[("main", text.as_bytes())]).0.path(&facts(&Json::Null));
        assert_eq!((path.prio, path.prio_args.as_str()), (prio, args), "{text}");
    }
}

#[test]
fn counts_reach_the_kernel_without_a_sign() {
    let text = "devices {\ndevice {\nvendor foo\nproduct bar\npath_selector \"round-robin +1 5\"\nhardware_handler \"+1 alua\"\nfeatures \"+1 x\"\n}\n}\n";
    let (settings, report) = load(&[("main", text.as_bytes())]);
    assert_eq!(report.kept, []);
    let map = settings.map("W0", &facts(&serde_json::json!({"vendor": "foo", "product": "bar"})));
    assert_eq!((map.selector.as_str(), map.handler.as_str(), map.features.as_str()), ("round-robin 1 5", "1 alua", "1 x"));
}

/// Cells of the keyword matrix that differ: keyword, value as written (`*`: any), what is printed (`None`: nothing), and messages.
type Cell = (&'static str, &'static str, Option<&'static str>, &'static [&'static str]);
const INVALID: &[&str] = &["invalid-value"];
const OTHER_CELLS: &[Cell] = &[
    // Names of checkers and prioritizers are checked.
    ("checker", "*", Some("\"tur\""), INVALID),
    ("path_checker", "*", Some("\"tur\""), INVALID),
    ("prio", "*", Some("\"const\""), INVALID),
    // 0 is unset, and unset is max.
    ("max_fds", "-1", Some("\"max\""), &["capped"]),
    ("max_fds", "0", Some("\"max\""), &[]),
    // Numbers are read whole or not at all.
    ("mode", "+5", None, INVALID),
    ("mode", "0x10", None, INVALID),
    ("mode", "0x123:aptpl", None, INVALID),
    ("mode", "4294967295", None, INVALID),
    ("mode", "5x", None, INVALID),
    ("uid", "+5", None, INVALID),
    ("uid", "-1", None, INVALID),
    ("uid", "0123456789abcdef", None, INVALID),
    ("uid", "0x10", None, INVALID),
    ("uid", "0x123:aptpl", None, INVALID),
    ("uid", "4294967295", None, INVALID),
    ("uid", "5x", None, INVALID),
    ("uid", "99999999999999", None, INVALID),
    ("dev_loss_tmo", "-1", None, &["capped"]),
    ("dev_loss_tmo", "0123456789abcdef", None, INVALID),
    ("dev_loss_tmo", "0x10", None, INVALID),
    ("dev_loss_tmo", "0x123:aptpl", None, INVALID),
    ("dev_loss_tmo", "5x", None, INVALID),
    ("dev_loss_tmo", "99999999999999", Some("\"infinity\""), &["capped"]),
    // Ids are printed as they are read: in decimal.
    ("uid", "\" 5\"", Some("5"), &[]),
    ("uid", "\"5 \"", Some("5"), &[]),
    ("uid", "0", Some("0"), &[]),
    ("uid", "010", Some("10"), &[]),
    ("uid", "1", Some("1"), &[]),
    ("uid", "2147483648", Some("2147483648"), &[]),
    ("uid", "5", Some("5"), &[]),
    ("uid", "root", Some("0"), &[]),
    // The peer's program here was built without it.
    ("marginal_pathgroups", "fpin", Some("\"fpin\""), &[]),
];

fn dumped(settings: &Settings<'_>) -> String {
    let mut out = String::new();
    corepath::apps::config::dump(&mut out, settings, None, false).unwrap();
    out
}

#[test]
fn keyword_values() {
    let file = vectors("config.json");
    let (mut wrong, mut cells) = (Vec::new(), 0);
    for keyword in file["keyword_values"].as_array().unwrap() {
        let name = keyword["keyword"].as_str().unwrap();
        for (text, expected) in keyword["values"].as_object().unwrap() {
            cells += 1;
            let devices = keyword["section"] == "devices";
            let input = if devices {
                format!("devices {{\ndevice {{\nvendor foo\nproduct bar\n{name} {text}\n}}\n}}\n")
            } else {
                format!("defaults {{\n{name} {text}\n}}\n")
            };
            let (settings, report) = load(&[("main", input.as_bytes())]);
            let dump = dumped(&settings);
            let block = if devices { dump.split("vendor \"foo\"").nth(1).unwrap() } else { dump.split("\n}").next().unwrap() };
            let shown = if name == "checker" { "path_checker" } else { name };
            let value = block.lines().take_while(|l| !l.contains('}')).find_map(|l| l.trim_start().strip_prefix(shown)?.strip_prefix(' '));
            let mut ours = vec![value.map(String::from)];
            ours.extend(report.kept.iter().map(|c| Some(class(c.what).to_string())));
            let theirs: Vec<Option<String>> = match expected.as_array() {
                None => vec![],
                Some(list) => list.iter().map(|v| v.as_str().map(String::from)).collect(),
            };
            if (expected == "LOAD-ERROR") != report.fatal {
                wrong.push(format!("{name} {text}: fatal {}", report.fatal));
            }
            if report.fatal {
                continue;
            }
            let alike = if name == "gid" { "uid" } else { name };
            let listed = OTHER_CELLS.iter().find(|(n, t, ..)| *n == alike && (*t == text || *t == "*")).map(|(_, _, value, messages)| {
                let mut list = vec![value.map(String::from)];
                list.extend(messages.iter().map(|m| Some(m.to_string())));
                list
            });
            if ours != *listed.as_ref().unwrap_or(&theirs) || listed.as_ref() == Some(&theirs) {
                wrong.push(format!("{name} {text}: {ours:?}, the peer's {theirs:?}"));
            }
        }
    }
    // A file that was not read proves nothing.
    assert!(cells > 0);
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
