//! The CLARiiON, byte by byte as scsi_dh_emc and the emc_clariion checker read it.

mod common;
use common::*;
use corepath_array::scsi::{RESERVATION_CONFLICT, Sense};

const PASSIVE: Option<Sense> = Some(Sense::PASSIVE_MANUAL);
const SELECT_10: &[u8] = &[0x55, 0x10, 0, 0, 0, 0, 0, 0, 19, 0];
const LONG: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0x22, 9, 1, 255, 255, 0, 0, 0, 0, 0, 0];
const SELECT_6: &[u8] = &[0x15, 0x10, 0, 0, 8, 0];
const SHORT: &[u8] = &[0, 0, 0, 0, 0x22, 2, 1, 255];

/// `page` with bit 7 of the trespass code set: reservations are not honoured.
fn forced(page: &[u8]) -> Vec<u8> {
    let at = page.len() - if page.len() == LONG.len() { 9 } else { 2 };
    let mut p = page.to_vec();
    p[at] |= 0x80;
    p
}

#[test]
fn page_c0_is_what_the_checker_expects_of_an_owner() {
    let mut b = bench("clariion");
    b.say("lun 0 wwn 000102030405060708090a0b0c0d0e0f quiet");
    let got = b.data(A, 0, &inquiry(0xc0));
    // Bytes 4 to 127 of the page that the checker's test vectors call "owned, read ok".
    let mut want = [0u8; 124];
    want[0] = 2;
    for i in 0..16u8 {
        want[usize::from(6 + i)] = i;
    }
    want[23] = 3;
    want[24] = 4;
    want[26] = 4;
    assert_eq!(got[4..128], want[..]);
    assert_eq!(got[..4], [0, 0xc0, 0, 248]);
    let other = b.data(B1, 0, &inquiry(0xc0));
    assert_eq!((other[4], other[5], other[7], other[8]), (1, 0, 1, 1));
    // Listed in page 00, or the kernel would not look.
    assert!(b.data(A, 0, &inquiry(0))[4..].contains(&0xc0));
}

#[test]
fn the_model_is_where_the_handler_looks() {
    let mut b = bench("clariion");
    let d = b.data(A, 0, &[0x12, 0, 0, 0, 252, 0]);
    let (model_len, serial_len) = (usize::from(d[99]), usize::from(d[160]));
    assert_eq!(&d[161..161 + serial_len], b"CPA0001");
    assert_eq!(&d[161 + serial_len..161 + serial_len + model_len], b"CX3-40f");
    assert_eq!(usize::from(d[4]) + 5, d.len());
    assert!(d.len() >= 160);
    assert_eq!((&d[8..16], &d[16..32]), (&b"DGC     "[..], &b"VRAID           "[..]));
    assert_eq!(d[5], 0, "TPGS must be 0 or the kernel takes it for ALUA");
}

#[test]
fn one_identity_on_all_ports() {
    let mut b = bench("clariion");
    let page = |b: &mut Bench, p| b.data(p, 1, &inquiry(0x83));
    let (a, z) = (page(&mut b, A), page(&mut b, B1));
    assert_eq!(a[4..24], z[4..24]);
    assert_eq!(a[8] >> 4, 6);
    assert_ne!(a[24..], z[24..]); // relative target ports differ
    assert_ne!(page(&mut b, A)[8..24], b.data(A, 0, &inquiry(0x83))[8..24]);
}

#[test]
fn the_passive_sp_identifies_and_serves_nothing() {
    let mut b = bench("clariion");
    for cdb in [TUR, READ, WRITE, SYNC] {
        assert_eq!(b.sense(B, 0, cdb), PASSIVE);
        assert_eq!(b.sense(A, 0, cdb), None);
    }
    assert!(b.good(B, 0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    b.say("clariion passive-capacity off");
    assert_eq!(b.sense(B, 0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), PASSIVE);
    assert!(b.good(B, 0, &inquiry(0x80)));
    assert!(b.good(B, 0, &[0x1a, 0, 0x3f, 0, 252, 0]));
}

#[test]
fn long_and_short_trespass_move_the_lun_once() {
    let mut b = bench("clariion");
    assert_eq!(b.ask(B, 0, SELECT_10, LONG).status, 0);
    assert!(b.good(B, 0, WRITE));
    assert_eq!(b.sense(A, 0, READ), PASSIVE);
    assert_eq!(b.ask(B1, 0, SELECT_10, &forced(LONG)).status, 0); // owned already
    assert_eq!(b.trespasses(), "1");
    assert_eq!(b.ask(A1, 0, SELECT_6, SHORT).status, 0);
    assert!(b.good(A, 0, READ));
    assert_eq!(b.trespasses(), "2");
    let c0 = b.data(A, 0, &inquiry(0xc0));
    assert_eq!(c0[4], 2);
    assert_eq!(b.data(A, 1, &inquiry(0xc0))[4], 1, "the other LUN stayed with B");
}

#[test]
fn stack_content_in_the_cdb_does_not_matter() {
    // scsi_dh_emc sets bytes 1 and 8 only; the others are what was on the stack.
    let mut b = bench("clariion");
    let cdb = [0x55, 0x10, 9, 8, 7, 6, 5, 0xee, 19, 3];
    assert_eq!(b.ask(B, 0, &cdb, LONG).status, 0);
    assert_eq!(b.trespasses(), "1");
}

#[test]
fn a_broken_trespass_page_moves_nothing() {
    let mut b = bench("clariion");
    for cut in 0..LONG.len() {
        let r = b.ask(B, 0, SELECT_10, &LONG[..cut]);
        // A header alone, or nothing, is a list without pages: good and without effect.
        assert_eq!(r.status == 0, cut == 8, "cut at {cut}");
    }
    let mut wrong = LONG.to_vec();
    wrong[10] = 2;
    assert_eq!(b.ask(B, 0, SELECT_10, &wrong).status, 2);
    assert_eq!(b.trespasses(), "0");
}

#[test]
fn reservations_are_honoured_unless_told_otherwise() {
    let mut b = bench("clariion");
    b.say("lun 0 reserve other");
    assert_eq!(b.ask(A, 0, TUR, &[]).status, RESERVATION_CONFLICT);
    assert_eq!(b.ask(B, 0, SELECT_10, LONG).status, RESERVATION_CONFLICT);
    assert_eq!(b.trespasses(), "0");
    assert_eq!(b.ask(B, 0, SELECT_10, &forced(LONG)).status, 0);
    assert_eq!(b.ask(A, 0, SELECT_6, SHORT).status, RESERVATION_CONFLICT);
    assert_eq!(b.ask(A, 0, SELECT_6, &forced(SHORT)).status, 0);
    assert_eq!(b.trespasses(), "2");
    b.say("lun 0 unreserve");
    assert!(b.good(A, 0, TUR));
    assert!(b.good(A, 0, &[0x16, 0, 0, 0, 0, 0])); // RESERVE: this nexus only
    assert_eq!(b.ask(A1, 0, READ, &[]).status, RESERVATION_CONFLICT);
    assert!(b.good(A1, 0, &[0x17, 0, 0, 0, 0, 0])); // releasing what is not mine
    assert_eq!(b.ask(A1, 0, READ, &[]).status, RESERVATION_CONFLICT);
    assert!(b.good(A, 0, &[0x17, 0, 0, 0, 0, 0]));
    assert!(b.good(A1, 0, READ));
}

#[test]
fn copy_ndu_and_snapshot_answer_as_the_handler_knows_them() {
    let mut b = bench("clariion");
    b.say("lun 0 copying on");
    let r = b.ask(B, 0, SELECT_10, LONG);
    assert_eq!(Sense::parse(&r.sense), Some(Sense::new(5, 4, 0)));
    b.say("lun 0 copying off");

    b.say("clariion ndu b on");
    assert_eq!(b.data(B, 0, &inquiry(0xc0))[48], 1);
    assert_eq!(b.data(A, 0, &inquiry(0xc0))[48], 0);
    let r = b.ask(B, 0, SELECT_10, LONG);
    assert_eq!(Sense::parse(&r.sense), PASSIVE);
    b.say("clariion ndu off");

    b.say("lun 0 inactive on");
    assert_eq!(b.sense(A, 0, READ), Some(Sense::new(5, 0x25, 1)));
    assert_eq!(b.sense(B, 0, READ), PASSIVE);
    assert_eq!(b.trespasses(), "0");
}

#[test]
fn unbound_lunz_and_a_failover_mode_that_is_not_set_up() {
    let mut b = bench("clariion");
    b.say("lun 0 unbound on");
    assert_eq!(b.data(A, 0, &inquiry(0xc0))[4], 0);
    assert_eq!(b.ask(B, 0, SELECT_10, LONG).status, 2);
    b.say("lun 0 unbound off");
    b.say("lun 0 lunz on");
    assert_eq!(&b.data(A, 0, &[0x12, 0, 0, 0, 252, 0])[16..20], b"LUNZ");
    assert_eq!(b.sense(A, 0, READ), PASSIVE);
    b.say("lun 0 lunz off");
    b.say("clariion failover 0");
    b.say("clariion initiator 2");
    b.say("clariion comm-path off");
    b.say("clariion revision 1");
    let c0 = b.data(A, 0, &inquiry(0xc0));
    assert_eq!((c0[9], c0[27], c0[28], c0[30]), (1, 2, 0, 0));
}

#[test]
fn a_stuck_trespass_is_never_answered_and_stops_nobody_else() {
    let mut b = bench("clariion");
    b.say("lun 0 stuck on");
    let held = b.held(B, 0, SELECT_10, LONG);
    assert_eq!(b.trespasses(), "0");
    assert!(b.good(A, 0, READ));
    assert_eq!(b.ask(A, 1, SELECT_10, LONG).status, 0); // LUN 1 goes over as ever
    assert!(b.retry(&held, B, 0, SELECT_10, LONG).is_none());
    b.say("lun 0 stuck off");
    assert_eq!(b.retry(&held, B, 0, SELECT_10, LONG).unwrap().status, 0);
    assert!(b.good(B, 0, READ));
}

#[test]
fn an_upgrade_of_one_sp() {
    let mut b = bench("clariion");
    b.say("sp a reboot ndu=5 down=20");
    assert_eq!(b.data(A, 0, &inquiry(0xc0))[48], 1);
    assert!(b.good(A, 0, READ));
    b.advance(5_000);
    assert_eq!(b.ask(A, 0, READ, &[]).response, 3);
    assert!(b.good(B, 0, READ), "the array gave it to the other SP");
    assert_eq!(b.trespasses(), "1");
    b.advance(20_000);
    assert_eq!(b.sense(A, 0, TUR), Some(Sense::POWER_ON));
    assert_eq!(b.sense(A, 0, TUR), PASSIVE);
    assert_eq!(b.data(A, 0, &inquiry(0xc0))[48], 0);
    assert_eq!(b.trespasses(), "1", "giving back is the host's business");
}

#[test]
fn another_host_trespasses_every_five_seconds() {
    let mut b = bench("clariion");
    b.say("every 5 lun 0 trespass b by=otherhost");
    b.advance(5_000);
    assert_eq!(b.sense(A, 0, READ), PASSIVE);
    assert_eq!(b.ask(A, 0, SELECT_10, LONG).status, 0);
    b.advance(5_000);
    assert_eq!(b.sense(A, 0, READ), PASSIVE);
    assert_eq!(b.trespasses(), "3");
    assert!(b.say("log").contains("moved from A to B by otherhost"));
}

#[test]
fn failover_mode_4_is_alua_on_the_same_ownership() {
    let mut b = bench("clariion");
    b.say("clariion failover 6");
    let d = b.data(A, 0, &[0x12, 0, 0, 0, 252, 0]);
    assert_eq!(d[5] >> 4, 3);
    assert!(b.good(B, 0, READ), "the other SP serves, too");
    let d = b.data(B, 0, RTPG);
    assert_eq!((d[4], d[6..8].to_vec()), (0x80, vec![0, 1])); // A: optimized and preferred
    assert_eq!((d[20], d[22..24].to_vec()), (0x01, vec![0, 2]));
    assert_eq!(b.ask(B, 0, STPG, &[0, 0, 0, 0, 0, 0, 0, 2]).status, 0);
    assert_eq!(b.data(B, 0, &inquiry(0xc0))[4], 2);
    assert_eq!(b.data(A, 0, RTPG)[4], 0x81);
    assert_eq!(b.trespasses(), "1");
}

#[test]
fn the_log_holds_what_was_sent() {
    let mut b = bench("clariion");
    let since = b.say("log next");
    b.ask(B, 0, SELECT_10, &forced(LONG));
    let log = b.say(&format!("log since={since} op=MODE_SELECT_10"));
    assert!(log.contains("port=b0 lun=0 op=MODE_SELECT_10 cdb=55100000000000001300"), "{log}");
    assert!(log.contains("out=0000000000000000220981ffff000000000000"), "{log}");
    assert_eq!(b.say("count op=MODE_SELECT_10 sp=b"), "1");
    assert_eq!(b.say("count op=MODE_SELECT_10 sp=a"), "0");
}
