//! Links, rules, LUNs that come, go and change, timers.

mod common;
use common::*;
use corepath_array::array::{Cause, EventKind, Outcome};
use corepath_array::scsi::{Reply, Sense};

#[test]
fn down_answers_with_the_response_asked_for() {
    let mut b = bench("plain");
    b.say("down a0 for=40");
    assert_eq!(b.ask(A, 0, READ, &[]), Reply::transport(3));
    assert!(b.good(A1, 0, READ));
    b.say("down sp=b response=transport-failure");
    assert_eq!(b.ask(B, 0, &inquiry(0), &[]), Reply::transport(6));
    b.advance(39_999);
    assert_eq!(b.ask(A, 0, TUR, &[]).response, 3);
    b.advance(1);
    assert!(b.good(A, 0, TUR));
    assert_eq!(b.say("count port=a0 op=READ_10"), "1");
    let c = b.say("counters port=a0 op=READ_10");
    assert_eq!(c, "port=a0 op=READ_10 received=1 good=0 check=0 transport=1");
}

#[test]
fn a_hung_port_keeps_commands_until_it_is_released() {
    let mut b = bench("plain");
    b.say("hang a0");
    let held = b.held(A, 0, WRITE, &[1; 512]);
    assert_eq!((&held.cause, &held.ready), (&Cause::Link, &None));
    assert_eq!(b.data(B, 0, READ)[0], 0, "not executed");
    assert!(b.retry(&held, A, 0, WRITE, &[1; 512]).is_none());
    assert!(b.say("log op=WRITE_10").ends_with("held"));
    b.advance(3_000);
    b.say("release a0");
    assert_eq!(b.retry(&held, A, 0, WRITE, &[1; 512]).unwrap().status, 0);
    assert_eq!(b.data(B, 0, READ)[0], 1);
    assert!(b.say("log op=WRITE_10").ends_with("status=00 data=0 ms=3000"));
    assert_eq!(b.say("count op=WRITE_10"), "1", "received once");
}

#[test]
fn a_port_that_hangs_after_has_written() {
    let mut b = bench("plain");
    b.say("hang a0 after");
    let held = b.held(A, 0, WRITE, &[1; 512]);
    assert_eq!(b.data(B, 0, READ)[0], 1, "executed");
    b.ask(B, 0, WRITE, &[2; 512]);
    b.say("release a0");
    assert_eq!(b.retry(&held, A, 0, WRITE, &[1; 512]).unwrap().status, 0);
    assert_eq!(b.data(B, 0, READ)[0], 2, "the late answer writes nothing again");
}

#[test]
fn a_rule_does_not_pass_a_port_that_hangs() {
    let mut b = bench("plain");
    b.say("rule add op=READ_10 do status=08");
    b.say("hang a0 after");
    let held = b.held(A, 0, READ, &[]);
    b.say("release a0");
    assert_eq!(b.retry(&held, A, 0, READ, &[]).unwrap().status, 8);
}

#[test]
fn down_ends_what_hangs_and_release_pulls_nothing_up() {
    let mut b = bench("plain");
    b.say("hang a0");
    let held = b.held(A, 0, READ, &[]);
    b.say("down a0 response=6");
    assert_eq!(b.retry(&held, A, 0, READ, &[]), Some(Reply::transport(6)));
    b.say("release a0");
    assert_eq!(b.ask(A, 0, READ, &[]).response, 6);
    assert!(b.try_say("down a0 response=0").is_err());
    assert!(b.try_say("down").is_err());
    assert!(b.try_say("up a0 for=3").is_err());
}

#[test]
fn rules_act_before_or_after_on_what_they_match() {
    let mut b = bench("plain");
    b.say("rule add op=WRITE_10 lba=0 count=1 after do response=6");
    assert_eq!(b.ask(A, 0, WRITE, &[9; 512]).response, 6);
    assert_eq!(b.data(B, 0, READ)[0], 9, "written and reported lost");
    assert_eq!(b.ask(A, 0, WRITE, &[8; 512]).response, 0);

    b.say("rule add op=READ_10 lun=1 every=2 do sense=03/11/00");
    assert!(b.good(A, 1, READ));
    assert_eq!(b.sense(A, 1, READ), Some(Sense::new(3, 0x11, 0)));
    assert!(b.good(A, 0, READ));
    b.say("rule del all");

    b.say("rule add op=INQUIRY page=83 port=b0 do data=0083ffff");
    assert_eq!(b.data(B, 0, &inquiry(0x83)), [0, 0x83, 0xff, 0xff]);
    assert_eq!(b.data(A, 0, &inquiry(0x83)).len(), 32);
    b.say("rule add op=INQUIRY page=std port=b0 do data=7f");
    assert_eq!(b.data(B, 0, &[0x12, 0, 0, 0, 96, 0]), [0x7f]);
    assert_eq!(b.data(B, 0, &inquiry(0x80))[1], 0x80);
    assert!(b.try_say("rule add do data=@/no/such/file").is_err());

    let id = b.say("rule add op=TEST_UNIT_READY port=a0 do hold");
    let id = id.strip_prefix("rule ").unwrap();
    let held = b.held(A, 0, TUR, &[]);
    assert!(b.retry(&held, A, 0, TUR, &[]).is_none());
    b.say(&format!("rule release {id}"));
    assert_eq!(b.retry(&held, A, 0, TUR, &[]).unwrap().status, 0);
    assert!(b.good(A, 0, TUR));

    b.say("delay 250 port=a1");
    b.say("delay 50");
    b.say("rule add op=READ_10 port=a1 do status=08");
    match b.outcome(A1, 0, READ, &[]) {
        Outcome::Answer { delay, reply, .. } => assert_eq!((delay, reply.status), (300, 8)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn garbage_is_rare_seeded_and_repeatable() {
    let run = |seed: u64| {
        let mut b = bench("clariion");
        b.say(&format!("garbage 10 seed={seed}"));
        let clean = bench("clariion").data(A, 0, &inquiry(0xc0));
        (0..1000).filter(|_| b.ask(A, 0, &inquiry(0xc0), &[]).data != clean).collect::<Vec<_>>()
    };
    let hits = run(7);
    assert!((60..140).contains(&hits.len()), "{}", hits.len());
    assert_eq!(hits, run(7));
    assert_ne!(hits, run(8));
}

#[test]
fn a_lun_grows_and_says_so_once_per_nexus() {
    let mut b = bench("plain");
    b.say("lun 0 resize 2M event");
    for port in 0..4 {
        assert_eq!(b.sense(port, 0, READ), Some(Sense::CAPACITY_CHANGED));
        assert!(b.good(port, 0, READ));
        assert!(b.good(port, 1, READ));
    }
    let d = b.data(A, 0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(d[..4], [0, 0, 0x0f, 0xff]);
    let kinds: Vec<_> = b.array.events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::Changed(0x2a, 9); 4]);
}

#[test]
fn a_lun_is_unmapped_from_some_ports() {
    let mut b = bench("plain");
    let report = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(b.data(A, 0, &report).len(), 24);
    b.say("lun 1 unmap sp=a");
    assert_eq!(b.sense(A, 0, TUR), Some(Sense::LUNS_CHANGED));
    for cdb in [TUR, READ, &inquiry(0x83)] {
        assert_eq!(b.sense(A, 1, cdb), Some(Sense::NO_LUN));
    }
    assert_eq!(b.data(A, 1, &[0x12, 0, 0, 0, 36, 0])[0], 0x7f);
    assert_eq!(b.data(A, 0, &report).len(), 16);
    assert_eq!(b.data(B, 0, &report).len(), 24);
    b.say("lun 1 map quiet");
    b.say("lun 5 add size=1M owner=b");
    assert_eq!(b.data(A, 0, &report).len(), 32);
    b.say("lun 5 del");
    assert_eq!(b.sense(A, 5, READ), Some(Sense::NO_LUN));
    assert!(b.try_say("lun 1 add size=1M").is_err());
    assert!(b.try_say("lun 9 unmap").is_err());
}

#[test]
fn a_wwn_changes_and_comes_home() {
    let mut b = bench("plain");
    let before = b.data(A, 0, &inquiry(0x83));
    b.say("lun 0 wwn 60060160deadbeefdeadbeefdeadbeef");
    assert_eq!(b.sense(A, 0, READ), Some(Sense::INQUIRY_CHANGED));
    assert_eq!(b.data(A, 0, &inquiry(0x83))[8..12], [0x60, 0x06, 0x01, 0x60]);
    assert_ne!(b.data(A, 0, &inquiry(0x83)), before);
    b.say("lun 0 wwn home quiet");
    assert_eq!(b.data(A, 0, &inquiry(0x83)), before);
    assert!(b.try_say("lun 0 wwn 1234").is_err());
}

#[test]
fn unit_attentions_wait_for_a_command_that_may_carry_them() {
    let mut b = bench("plain");
    b.say("attention a0 06/29/00");
    b.say("attention a0 06/2a/09 lun=0");
    assert!(b.good(A, 0, &inquiry(0x80)));
    assert!(b.good(A, 0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
    let d = b.data(A, 0, &[3, 0, 0, 0, 18, 0]); // REQUEST SENSE takes it as data
    assert_eq!((d[2], d[12], d[13]), (6, 0x29, 0));
    assert_eq!(b.sense(A, 0, READ), Some(Sense::CAPACITY_CHANGED));
    assert!(b.good(A, 0, READ));
    assert_eq!(b.sense(A, 1, READ), Some(Sense::POWER_ON));
}

#[test]
fn descriptor_sense_and_read_only() {
    let mut b = bench_with("clariion", "--luns 2,size=1M --descriptor-sense");
    let r = b.ask(B, 0, TUR, &[]);
    assert_eq!(r.sense, [0x72, 2, 4, 3, 0, 0, 0, 0]);
    b.say("lun 0 read-only on");
    assert_eq!(b.sense(A, 0, WRITE), Some(Sense::new(7, 0x27, 0)));
    assert_eq!(b.data(A, 0, &[0x1a, 0, 8, 0, 252, 0])[2], 0x80);
}

#[test]
fn timers_run_in_order_and_are_listed() {
    let mut b = bench("plain");
    b.say("at +2 up *");
    b.say("at +1.5 down * # the comment is not part of it");
    let every = b.say("every 1 attention a0 06/29/00");
    assert!(b.say("timers").contains("in=1.500 down *"));
    b.advance(1_600);
    assert_eq!(b.ask(A, 0, TUR, &[]).response, 3);
    b.advance(400);
    assert_eq!(b.sense(A, 0, TUR), Some(Sense::POWER_ON));
    b.say(&format!("cancel {}", every.strip_prefix("timer ").unwrap()));
    assert_eq!(b.say("timers"), "");
    assert!(b.try_say("cancel 1").is_err());
    assert!(b.try_say("at").is_err());
    assert!(b.try_say("every 0 down *").is_err());
    assert!(b.try_say("at +1x up *").is_err());
}
