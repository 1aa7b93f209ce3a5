//! The peer's alias vectors, and the stories of names that conflict, drift or do not fit.

use super::*;
use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec::Vec;

/// Bindings as a bindings file has them, and dm names with their owners.
#[derive(Default)]
struct Names {
    bindings: Vec<(String, String)>,
    dm: Vec<(String, Option<String>)>,
}

impl Names {
    fn parse(file: &str) -> Names {
        let mut bindings = Vec::new();
        for line in file.lines() {
            let mut words = line.split('#').next().unwrap().split_whitespace();
            if let (Some(alias), Some(wwid)) = (words.next(), words.next()) {
                bindings.push((alias.to_string(), wwid.to_string()));
            }
        }
        Names { bindings, dm: Vec::new() }
    }
    fn with(mut self, name: &str, wwid: Option<&str>) -> Names {
        self.dm.push((name.to_string(), wwid.map(str::to_string)));
        self
    }
}

impl Book for Names {
    fn alias(&self, wwid: &str) -> Option<&str> {
        self.bindings.iter().find(|b| b.1 == wwid).map(|b| b.0.as_str())
    }
    fn owner(&self, name: &str) -> Owner<'_> {
        match self.dm.iter().find(|d| d.0 == name) {
            None => Owner::Nobody,
            Some((_, Some(wwid))) => Owner::Map(wwid),
            Some(_) => Owner::Other,
        }
    }
    fn taken(&self, seen: &mut dyn FnMut(&str, Option<&str>)) {
        self.bindings.iter().for_each(|b| seen(&b.0, Some(&b.1)));
        self.dm.iter().for_each(|d| seen(&d.0, d.1.as_deref()));
    }
}

fn settings(alias: &str, friendly: bool) -> MapSettings {
    MapSettings {
        alias: MapName::try_from(alias).unwrap(),
        user_friendly_names: friendly,
        alias_prefix: heapless::String::try_from("mpath").unwrap(),
        ..MapSettings::default()
    }
}

fn name(wwid: &str, live: Option<&str>, s: &MapSettings, read_only: bool, book: &Names) -> (String, NameOrigin) {
    let c = choose(wwid, live, s, read_only, book).unwrap();
    (c.name.to_string(), c.origin)
}

#[test]
fn aliases_as_the_peer() {
    let file: serde_json::Value = serde_json::from_str(include_str!("../../../tests/vectors/alias.json")).unwrap();
    let mut kinds = [0; 3];
    for v in file["vectors"].as_array().unwrap() {
        let (input, want) = (&v["input"], &v["expected"]);
        let prefix = input["prefix"].as_str().unwrap();
        match v["kind"].as_str().unwrap() {
            "id_to_name" => {
                let got = u32::try_from(input["id"].as_i64().unwrap()).ok().and_then(|id| name_of(id, prefix));
                assert_eq!(got.as_deref(), want["name"].as_str(), "{v}");
                kinds[0] += 1;
            }
            "name_to_id" => {
                let got = id_of(input["name"].as_str().unwrap(), prefix);
                assert_eq!(got.map(i64::from), want["id"].as_i64().filter(|&id| id > 0), "{v}");
                kinds[1] += 1;
            }
            "allocate" => {
                let mut book = Names::parse(input["bindings_file"].as_str().unwrap());
                for d in input["dm_names_in_use"].as_array().unwrap() {
                    let wwid = d["wwid"].as_str().filter(|&w| w != "non-multipath");
                    book = book.with(d["name"].as_str().unwrap(), wwid);
                }
                let wwid = input["wwid"].as_str().unwrap();
                let live = input["current_alias"].as_str().filter(|a| !a.is_empty());
                let settings = MapSettings { alias_prefix: heapless::String::try_from(prefix).unwrap(), ..settings("", true) };
                let (got, origin) = name(wwid, live, &settings, input["read_only"] == 1, &book);
                if let Some(live) = live {
                    // docs/differences.md, "Names": a live map keeps its name.
                    assert_eq!((got.as_str(), origin), (live, NameOrigin::Live), "{v}");
                } else {
                    // No alias: the WWID is the name.
                    assert_eq!(got.as_str(), want["alias"].as_str().unwrap_or(wwid), "{v}");
                    let mut after: BTreeSet<String> = book.bindings.iter().map(|(a, w)| std::format!("{a} {w}")).collect();
                    if origin == NameOrigin::New {
                        after.insert(std::format!("{got} {wwid}"));
                    }
                    let expected: BTreeSet<String> =
                        want["bindings_after"].as_array().unwrap().iter().map(|b| b.as_str().unwrap().to_string()).collect();
                    assert_eq!(after, expected, "{v}");
                }
                kinds[2] += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(kinds.iter().all(|&n| n > 0), "{kinds:?}");
}

#[test]
fn a_live_map_keeps_its_name() {
    let book = Names::parse("mpatha W1\n").with("oldname", Some("W1"));
    assert_eq!(name("W1", Some("oldname"), &settings("root", true), false, &book), ("oldname".into(), NameOrigin::Live));
}

#[test]
fn a_name_bound_to_another_is_not_free_though_this_map_has_it() {
    let book = Names::parse("mpatha X\n").with("mpatha", Some("W1"));
    assert_eq!(name("W1", None, &settings("", true), false, &book), ("mpathb".into(), NameOrigin::New));
}

#[test]
fn an_alias_of_two_luns_is_the_first_ones() {
    let book = Names::default().with("root", Some("W1"));
    assert_eq!(name("W1", None, &settings("root", true), false, &book), ("root".into(), NameOrigin::Alias));
    assert_eq!(name("W2", None, &settings("root", true), false, &book), ("W2".into(), NameOrigin::Conflict));
    let book = Names::default().with("root", None);
    assert_eq!(name("W1", None, &settings("root", false), false, &book), ("W1".into(), NameOrigin::Conflict));
}

#[test]
fn a_bound_alias_that_another_map_has_is_not_taken() {
    let book = Names::parse("mpatha W1\n").with("mpatha", Some("W2"));
    assert_eq!(name("W1", None, &settings("", true), false, &book), ("W1".into(), NameOrigin::Conflict));
}

#[test]
fn read_only_bindings_are_read() {
    let book = Names::parse("mpathq W1\n");
    assert_eq!(name("W1", None, &settings("", true), true, &book), ("mpathq".into(), NameOrigin::Binding));
    assert_eq!(name("W2", None, &settings("", true), true, &book), ("W2".into(), NameOrigin::ReadOnly));
    assert_eq!(name("W1", None, &settings("", false), true, &book), ("W1".into(), NameOrigin::Wwid));
}

#[test]
fn names_that_dm_does_not_take() {
    use NameFault::*;
    for (text, fault) in [("", Empty), ("a/b", Slash), ("control", Reserved), ("..", Reserved), (".", Reserved), ("a b", Unprintable)] {
        assert_eq!(check(text), Err(fault), "{text}");
    }
    assert_eq!(check("a\nb"), Err(Unprintable));
    assert_eq!(check("h\u{e9}"), Err(Unprintable));
    assert_eq!(check(&"x".repeat(127)), Ok(()));
    assert_eq!(check(&"x".repeat(128)), Err(TooLong));
    let book = Names::default();
    assert_eq!(name("W1", None, &settings("a b", true), false, &book), ("W1".into(), NameOrigin::Invalid(Unprintable)));
    assert_eq!(name("1VENDOR a/b", None, &settings("", false), false, &book).0, "1VENDOR_a_b");
    assert_eq!(name("control", None, &settings("", false), false, &book).0, "control_");
    assert_eq!(choose("", None, &settings("x", true), false, &book), None);
    let long = "\u{e9}".repeat(200);
    assert_eq!(name(&long, None, &settings("", false), false, &book).0.len(), NAME_LEN);
}

#[test]
fn the_lowest_free_name_far_out() {
    let mut book = Names::default();
    for id in 1..=9000u32 {
        if id != 8999 {
            book.bindings.push((name_of(id, "mpath").unwrap().to_string(), std::format!("X{id}")));
        }
    }
    let expect = name_of(8999, "mpath").unwrap().to_string();
    assert_eq!(name("W1", None, &settings("", true), false, &book), (expect, NameOrigin::New));
}

#[test]
fn a_prefix_without_room() {
    let mut s = settings("", true);
    s.alias_prefix = heapless::String::try_from("a b").unwrap();
    assert_eq!(name("W1", None, &s, false, &Names::default()), ("W1".into(), NameOrigin::Invalid(NameFault::Unprintable)));
    assert_eq!(name_of(1, &"p".repeat(127)), None);
    assert_eq!(id_of("mpath", "mpath"), None);
    assert_eq!(id_of("mpathzzzzzzzzzzzzzz", "mpath"), None);
}

#[test]
fn every_id_and_back() {
    for id in (1..2_000_000).step_by(37).chain([MAX_ID - 1, MAX_ID]) {
        assert_eq!(id_of(&name_of(id, "m").unwrap(), "m"), Some(id));
    }
    assert_eq!((name_of(0, "m"), name_of(MAX_ID + 1, "m")), (None, None));
}

#[test]
fn partition_names() {
    for (map, delimiter, n, want) in [
        ("mpatha", "", 1, "mpatha1"),
        ("3600", "", 12, "3600p12"),
        ("mpatha", "-part", 3, "mpatha-part3"),
        ("x", "p", u32::MAX, "xp4294967295"),
    ] {
        assert_eq!(partition(map, delimiter, n).unwrap(), want);
    }
    assert_eq!(partition(&"x".repeat(127), "", 1), Err(NameFault::TooLong));
    assert_eq!(partition(&"x".repeat(128), "", 1), Err(NameFault::TooLong));
    assert_eq!(partition("x", "/", 1), Err(NameFault::Slash));
    assert_eq!(partition("x", "", 0).unwrap(), "x0");
}
