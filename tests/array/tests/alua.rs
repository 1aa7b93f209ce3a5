//! ALUA as scsi_dh_alua and multipath's alua prioritizer read it.

mod common;
use common::*;
use corepath_array::array::Outcome;
use corepath_array::scsi::Sense;

/// (state and preferred bit, group, ports) of each group in an RTPG reply.
fn groups(data: &[u8]) -> Vec<(u8, u16, Vec<u16>)> {
    let len = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize;
    assert_eq!(len + 4, data.len());
    let mut at = if data[4] & 0x70 == 0x10 && data[4] & 0x80 == 0 && data[5] > 0 { 8 } else { 4 };
    let mut found = Vec::new();
    while at < data.len() {
        let d = &data[at..];
        let n = usize::from(d[7]);
        let port = |i: usize| u16::from_be_bytes([d[10 + 4 * i], d[11 + 4 * i]]);
        found.push((d[0], u16::from_be_bytes([d[2], d[3]]), (0..n).map(port).collect()));
        at += 8 + 4 * n;
    }
    found
}

fn stpg(group: u8, state: u8) -> [u8; 8] {
    [0, 0, 0, 0, state, 0, 0, group]
}

#[test]
fn groups_ports_and_preference_are_reported() {
    let mut b = bench("alua");
    let d = b.data(B, 0, RTPG);
    assert_eq!(groups(&d), [(0x80, 1, vec![1, 2]), (0x01, 2, vec![3, 4])]);
    let d = b.data(A, 1, RTPG_EXT);
    assert_eq!(d[4..6], [0x10, 60]);
    assert_eq!(groups(&d), [(0x01, 1, vec![1, 2]), (0x80, 2, vec![3, 4])]);
    // Cut to the allocation length, the length field still true.
    let cut = b.data(A, 0, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
    assert_eq!((cut.len(), cut[3]), (16, 32));
}

#[test]
fn the_extended_header_can_be_refused_in_both_ways() {
    let mut b = bench("alua");
    b.say("alua extended off");
    assert_eq!(b.sense(A, 0, RTPG_EXT), Some(Sense::BAD_FIELD));
    assert_eq!(groups(&b.data(A, 0, RTPG)).len(), 2);
    b.say("alua extended off 00");
    assert_eq!(b.sense(A, 0, RTPG_EXT), Some(Sense::new(5, 0, 0)));
}

#[test]
fn page_83_names_group_and_port() {
    let mut b = bench("alua");
    let d = b.data(B1, 0, &inquiry(0x83));
    assert_eq!(d[24..32], [1, 0x14, 0, 4, 0, 0, 0, 4]);
    assert_eq!(d[32..40], [1, 0x15, 0, 4, 0, 0, 0, 2]);
    assert_eq!(b.data(A, 0, &[0x12, 0, 0, 0, 96, 0])[5] >> 4, 3);
}

#[test]
fn each_state_refuses_in_its_own_way() {
    let mut b = bench("alua");
    let cases = [
        ("standby", Some(Sense::STANDBY), true),
        ("unavailable", Some(Sense::UNAVAILABLE), false),
        ("offline", Some(Sense::OFFLINE), false),
        ("transitioning", Some(Sense::TRANSITION), false),
        ("non-optimized", None, true),
        ("lba-dependent", None, true),
        ("optimized", None, true),
    ];
    for (state, refusal, capacity) in cases {
        b.say(&format!("alua 1 {state}"));
        assert_eq!(b.sense(A, 0, TUR), Some(Sense::ACCESS_CHANGED));
        for cdb in [TUR, READ, WRITE, SYNC] {
            assert_eq!(b.sense(A, 0, cdb), refusal, "{state}");
        }
        let cap = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(b.good(A, 0, &cap), capacity, "{state}");
        assert!(b.good(A, 0, RTPG), "{state}");
        assert!(b.good(A, 0, &inquiry(0x83)), "{state}");
    }
}

#[test]
fn stpg_promotes_one_group_and_demotes_the_other() {
    let mut b = bench("alua");
    assert_eq!(b.ask(B, 0, STPG, &stpg(2, 0)).status, 0);
    let d = b.data(B, 0, RTPG); // the port that asked gets no attention
    assert_eq!(groups(&d), [(0x81, 1, vec![1, 2]), (0x00, 2, vec![3, 4])]);
    for port in [A, A1, B1] {
        assert_eq!(b.sense(port, 0, TUR), Some(Sense::ACCESS_CHANGED));
        assert!(b.good(port, 0, TUR));
        assert!(b.good(port, 1, TUR), "the other LUN did not change");
    }
    assert_eq!(b.trespasses(), "1");
    assert_eq!(b.ask(B, 0, STPG, &stpg(2, 0)).status, 0); // nothing to do
    assert_eq!(b.trespasses(), "1");
    assert!(b.good(A, 0, TUR));
}

#[test]
fn an_explicit_transition_takes_its_time() {
    let mut b = bench("alua");
    b.say("alua transition 30");
    assert_eq!(b.ask(B, 0, STPG, &stpg(2, 0)).status, 0);
    let d = b.data(B, 0, RTPG);
    assert_eq!(groups(&d).iter().map(|g| g.0 & 15).collect::<Vec<_>>(), [15, 15]);
    assert_eq!(b.sense(B, 0, READ), Some(Sense::TRANSITION));
    b.advance(29_999);
    assert_eq!(b.sense(B, 0, READ), Some(Sense::TRANSITION));
    assert_eq!(b.trespasses(), "0");
    b.advance(1);
    assert!(b.good(B, 0, READ));
    assert_eq!(b.trespasses(), "1");
    // `late`: the answer itself comes at the end.
    b.say("alua late on");
    match b.outcome(A, 1, STPG, &stpg(1, 0)) {
        Outcome::Answer { delay, .. } => assert_eq!(delay, 30_000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_implicit_change_tells_every_port() {
    let mut b = bench("alua");
    b.say("alua 1 standby lun=0 after=10");
    assert_eq!(b.sense(A, 0, TUR), Some(Sense::ACCESS_CHANGED));
    assert_eq!(b.sense(A, 0, TUR), Some(Sense::TRANSITION));
    b.advance(10_000);
    assert_eq!(b.sense(A, 0, TUR), Some(Sense::ACCESS_CHANGED));
    assert_eq!(b.sense(A, 0, TUR), Some(Sense::STANDBY));
    assert_eq!(b.sense(B, 0, TUR), Some(Sense::ACCESS_CHANGED));
    assert!(b.good(B, 0, TUR));
    b.say("lun 0 trespass b");
    assert_eq!(
        groups(&{
            b.sense(B, 0, TUR);
            b.data(B, 0, RTPG)
        })[1]
            .0,
        0
    );
}

#[test]
fn bad_stpg_lists_change_nothing() {
    let mut b = bench("alua");
    for list in [&[][..], &[0; 4], &[0; 7], &stpg(9, 0), &stpg(2, 4), &stpg(2, 15)] {
        assert_eq!(b.ask(B, 0, STPG, list).status, 2, "{list:?}");
    }
    b.say("alua tpgs 1");
    let r = b.ask(B, 0, STPG, &stpg(2, 0));
    assert_eq!(Sense::parse(&r.sense), Some(Sense::BAD_OPCODE));
    b.say("alua tpgs 0");
    assert_eq!(b.sense(A, 0, RTPG), Some(Sense::BAD_OPCODE));
    assert_eq!(b.trespasses(), "0");
}

#[test]
fn one_group_of_many_ports() {
    let ports: String = (0..60).map(|i| format!("--port x{i}=s{i},group=7 ")).collect();
    let mut b = bench_with("alua", &format!("--luns 1,size=1M {ports}"));
    let d = b.data(A, 0, RTPG);
    let g = groups(&d);
    assert_eq!(g.iter().map(|g| g.2.len()).sum::<usize>(), 64);
    assert_eq!(g[2].2.len(), 60);
}

#[test]
fn preference_and_support_are_said() {
    let mut b = bench("alua");
    b.say("alua pref 2 on lun=0");
    b.say("alua pref 1 off");
    b.say("alua supported 8f");
    let d = b.data(A, 0, RTPG);
    assert_eq!(groups(&d)[0].0, 0);
    assert_eq!(groups(&d)[1].0, 0x81);
    assert_eq!(d[5], 0x8f);
    assert_eq!(groups(&b.data(A, 1, RTPG))[1].0, 0x80);
}
