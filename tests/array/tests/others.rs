//! RDAC and the HP active/passive array.

mod common;
use common::*;
use corepath_array::scsi::Sense;

const NOT_OWNER: Option<Sense> = Some(Sense::new(5, 0x94, 1));

/// The page that scsi_dh_rdac sends, for these LUNs.
fn rdac_page(ten: bool, luns: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let (header, page, table) = if ten { (8, vec![0x6c, 1, 1, 0x28], 256) } else { (4, vec![0x2c, 0x68], 32) };
    let mut d = vec![0; header];
    d.extend(page);
    let at = d.len();
    d.resize(at + 38 + table + if ten { 2 } else { 34 }, 0);
    d[at + 33] = 2;
    d[at + 36] = 20;
    d[at + 37] = 2;
    for n in luns {
        d[at + 38 + n] = 0x81;
    }
    let len = (d.len() as u16).to_be_bytes();
    let cdb = if ten { vec![0x55, 0, 0, 0, 0, 0, 0, len[0], len[1], 0] } else { vec![0x15, 0, 0, 0, len[1], 0] };
    (cdb, d)
}

#[test]
fn rdac_pages_are_where_the_handler_looks() {
    let mut b = bench("rdac");
    let c8 = b.data(B, 1, &inquiry(0xc8));
    assert_eq!((&c8[4..8], c8[174], c8[89], c8.len()), (&b"edid"[..], 1, 16, 175));
    let name: Vec<u8> = (0..8).map(|i| c8[107 + 2 * i + 1]).collect();
    assert_eq!(name, b"corepath");
    let c4 = b.data(A, 0, &inquiry(0xc4));
    assert_eq!((&c4[4..8], &c4[28..30], c4.len()), (&b"subs"[..], &b"01"[..], 32));
    assert_eq!(b.data(B, 0, &inquiry(0xc4))[28..30], *b"02");
    let c2 = b.data(A, 0, &inquiry(0xc2));
    assert_eq!((&c2[4..8], c2[15]), (&b"swr4"[..], 255));
    // The vector "owner, preferred" of the rdac checker, whole.
    let mut want = vec![0u8; 48];
    want[..12].copy_from_slice(&[0, 0xc9, 0, 0x2c, b'v', b'a', b'c', b'1', 1, 1, 0, 0]);
    assert_eq!(b.data(A, 0, &inquiry(0xc9)), want);
    assert_eq!(b.data(B, 0, &inquiry(0xc9))[8..10], [0, 2]);
}

#[test]
fn rdac_moves_luns_by_both_mode_selects() {
    for ten in [true, false] {
        let mut b = bench("rdac");
        assert_eq!(b.sense(B, 0, READ), NOT_OWNER);
        assert!(b.good(B, 0, TUR));
        let (cdb, page) = rdac_page(ten, &[0, 1]); // LUN 1 is B's already
        assert_eq!(b.ask(B, 0, &cdb, &page).status, 0);
        assert!(b.good(B, 0, READ));
        assert_eq!(b.sense(A, 0, WRITE), NOT_OWNER);
        assert_eq!(b.trespasses(), "1");
        let (cdb, page) = rdac_page(ten, &[0, 1]);
        assert_eq!(b.ask(A, 1, &cdb, &page).status, 0);
        assert_eq!(b.trespasses(), "3", "one command for both LUNs");
        for cut in 0..page.len() {
            assert!(b.ask(B, 0, &cdb, &page[..cut]).status != 0 || cut == if ten { 8 } else { 4 });
        }
        assert_eq!(b.trespasses(), "3");
    }
}

#[test]
fn rdac_modes_and_access_states() {
    let mut b = bench("rdac");
    b.say("rdac mode ioship");
    assert!(b.good(B, 0, READ));
    assert_eq!(b.data(B, 0, &inquiry(0xc9))[8], 0x20);
    b.say("rdac tpgde 0f000f00");
    assert_eq!(b.data(A, 0, &inquiry(0xc9))[8..14], [0x31, 1, 0x0f, 0, 0x0f, 0]);
    b.say("rdac mode avt");
    assert_eq!(b.trespasses(), "0");
    assert!(b.good(B, 0, READ));
    assert_eq!(b.trespasses(), "1");
    b.say("rdac mode rdac");
    b.say("rdac passive-tur off");
    assert_eq!(b.sense(A, 0, TUR), NOT_OWNER);
    let table = b.data(B, 0, &[0x5a, 8, 0x2c, 1, 0, 0, 0, 2, 0, 0]);
    assert_eq!((table[8], table[8 + 4 + 38]), (0x6c, 0x81));
}

#[test]
fn the_control_mode_page_takes_tas() {
    // multipath's rdac checker reads it, sets TAS and writes it back.
    let mut b = bench("rdac");
    let mask = b.data(A, 0, &[0x1a, 8, 0x4a, 0, 24, 0]);
    assert_eq!((mask[4], mask[9]), (0x0a, 0x40));
    let mut page = b.data(A, 0, &[0x1a, 8, 0x0a, 0, 24, 0]);
    assert_eq!(page[9], 0);
    page[0] = 0;
    page[9] |= 0x40;
    assert_eq!(b.ask(A, 0, &[0x15, 0x10, 0, 0, 16, 0], &page).status, 0);
    assert_eq!(b.data(B, 0, &[0x1a, 8, 0x0a, 0, 24, 0])[9], 0x40);
}

#[test]
fn hp_moves_by_start_unit() {
    let mut b = bench("hpsw");
    let start = [0x1b, 0, 0, 0, 1, 0];
    for cdb in [TUR, READ, WRITE] {
        assert_eq!(b.sense(B, 0, cdb), Some(Sense::PASSIVE_INIT));
    }
    assert!(b.good(B, 0, &inquiry(0x80)));
    assert!(b.good(B, 0, &[0x1b, 0, 0, 0, 0, 0])); // STOP moves nothing
    assert_eq!(b.trespasses(), "0");
    assert!(b.good(B, 0, &start));
    assert!(b.good(B, 0, READ));
    assert_eq!(b.sense(A, 0, READ), Some(Sense::PASSIVE_INIT));
    b.say("lun 0 stuck on");
    let held = b.held(A, 0, &start, &[]);
    b.say("lun 0 stuck off");
    assert_eq!(b.retry(&held, A, 0, &start, &[]).unwrap().status, 0);
    assert_eq!(b.trespasses(), "2");
}
