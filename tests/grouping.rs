//! The peer's grouping and best-group vectors. Where we differ on purpose no vector looks (docs/differences.md, "Grouping").

use corepath::conf::settings::Policy;
use corepath::engine::group::{Group, Member, Rules, best_group, group, rate};
use corepath::model::{PathState, Prio};
use serde_json::Value;

fn load() -> Value {
    serde_json::from_str(include_str!("vectors/pgpolicy.json")).unwrap()
}

fn member(v: &Value) -> Member<'_> {
    Member {
        prio: Prio(v["prio"].as_i64().unwrap() as i32),
        state: match v["state"].as_str().unwrap() {
            "up" => PathState::Up,
            "ghost" => PathState::Ghost,
            "down" => PathState::Down,
            "shaky" => PathState::Shaky,
            "delayed" => PathState::Delayed,
            "pending" => PathState::Pending,
            other => panic!("state {other}"),
        },
        marginal: v["marginal"].as_i64().unwrap() == 1,
        serial: v["serial"].as_str().unwrap_or(""),
        node: v["node_name"].as_str().unwrap_or(""),
        tpg: v["tpg"].as_u64().map(|t| t as u16),
    }
}

fn policy(word: &str) -> Policy {
    match word {
        "failover" => Policy::Failover,
        "multibus" => Policy::Multibus,
        "group_by_serial" => Policy::GroupBySerial,
        "group_by_prio" => Policy::GroupByPrio,
        "group_by_node_name" => Policy::GroupByNodeName,
        "group_by_tpg" => Policy::GroupByTpg,
        other => panic!("policy {other}"),
    }
}

#[test]
fn groups_as_the_peer() {
    let file = load();
    let vectors = file["vectors"].as_array().unwrap();
    for (n, v) in vectors.iter().enumerate() {
        let (input, want) = (&v["input"], &v["expected"]);
        let members: Vec<_> = input["paths"].as_array().unwrap().iter().map(member).collect();
        let rules =
            Rules { policy: policy(input["policy"].as_str().unwrap()), split_marginal: input["marginal_pathgroups"] == 1, lead: None };
        let got = group(&members, rules).unwrap();
        let wanted = want["groups"].as_array().unwrap();
        assert_eq!(got.groups.len(), wanted.len(), "{n}");
        for (i, (g, w)) in got.groups.iter().zip(wanted).enumerate() {
            let paths: Vec<u64> = got.members(i).iter().map(|&p| u64::from(p)).collect();
            assert_eq!(serde_json::json!(paths), w["paths"], "{n}: {v}");
            assert_eq!(i64::from(g.rating.prio.0), w["prio"].as_i64().unwrap(), "{n}: {v}");
            assert_eq!(u64::from(g.rating.usable), w["enabled"].as_u64().unwrap(), "{n}: {v}");
            assert_eq!(u64::from(g.rating.marginal), w["marginal"].as_u64().unwrap(), "{n}: {v}");
        }
        if let Some(best) = want.get("best_pg").and_then(Value::as_u64) {
            assert_eq!(u64::from(got.best), best, "{n}: {v}");
        }
    }
    assert!(!vectors.is_empty());
}

#[test]
fn best_group_as_the_peer() {
    let file = load();
    let vectors = file["best_group"].as_array().unwrap();
    for (n, v) in vectors.iter().enumerate() {
        let mut groups = Vec::new();
        for g in v["input"]["groups"].as_array().unwrap() {
            let rating = rate(g.as_array().unwrap().iter().map(member));
            groups.push(Group { rating, ..Group::default() });
        }
        let prios: Vec<_> = groups.iter().map(|g| g.rating.prio.0).collect();
        assert_eq!(serde_json::json!(prios), v["expected"]["prios"], "{n}: {v}");
        let got = best_group(groups.iter().map(|g| g.rating));
        let best = v["expected"]["best_pg"].as_u64().unwrap();
        assert_eq!(u64::from(got), best, "{n}: {v}");
    }
    assert!(!vectors.is_empty());
}
