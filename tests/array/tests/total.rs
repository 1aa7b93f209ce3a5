//! No bytes make it panic: random commands against every personality in random states, random control
//! lines. Answers stay within what the guest gave room for.

mod common;
use common::*;
use corepath_array::array::Outcome;
use corepath_array::fault::Rng;
use corepath_array::persona;
use corepath_array::scsi::Command;

const OPS: &[u8] = &[
    0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x16, 0x17, 0x1a, 0x1b, 0x25, 0x28, 0x2a, 0x35, 0x55, 0x56, 0x57, 0x5a, 0x88, 0x8a, 0x91, 0x9e,
    0xa0, 0xa3, 0xa4, 0xa8, 0xaa,
];
const PAGES: &[u8] = &[0, 0x80, 0x83, 0xb0, 0xb1, 0xb2, 0xc0, 0xc2, 0xc4, 0xc8, 0xc9, 0x22, 0x2c, 0x3f, 0x0a];

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

fn random(rng: &mut Rng, max: u64) -> Vec<u8> {
    let n = rng.below(max + 1);
    (0..n).map(|_| rng.draw() as u8).collect()
}

fn random_command(rng: &mut Rng) -> Command {
    let mut cdb = random(rng, 32);
    if let (Some(b), true) = (cdb.first_mut(), rng.below(4) > 0) {
        *b = pick(rng, OPS);
    }
    if rng.below(2) == 0 && cdb.len() > 9 {
        // Small numbers in most bytes make commands that get further than the first check.
        for b in &mut cdb[1..] {
            *b = if rng.below(3) == 0 { *b & 0x1f } else { 0 };
        }
        cdb[2] = pick(rng, PAGES);
        cdb[8] = rng.draw() as u8;
    }
    let mut out = random(rng, 600);
    if rng.below(2) == 0 && out.len() > 12 {
        out[..8].fill(0);
        let at = pick(rng, &[4, 8]);
        out[at] = pick(rng, &[0x22, 0x2c, 0x6c, 0x0a, 0x08]);
        out[at + 1] = rng.below(12) as u8;
        out[at + 2] = pick(rng, &[1, 0x81, 2]);
    }
    Command {
        port: rng.below(6) as usize, // two more than there are
        lun: pick(rng, &[0, 0, 0, 1, 1, 2, 0x3fff]),
        cdb,
        out,
        room: pick(rng, &[0, 1, 18, 36, 252, 4096]),
    }
}

const WORDS: &[&str] = &[
    "down",
    "up",
    "hang",
    "release",
    "after",
    "*",
    "a0",
    "sp=a",
    "sp=q",
    "group=1",
    "for=1",
    "response=6",
    "lun",
    "0",
    "1",
    "unmap",
    "map",
    "resize",
    "2M",
    "0",
    "wwn",
    "home",
    "trespass",
    "b",
    "owner",
    "a",
    "unbound",
    "on",
    "off",
    "copying",
    "stuck",
    "lunz",
    "inactive",
    "reserve",
    "other",
    "unreserve",
    "rule",
    "add",
    "del",
    "all",
    "do",
    "hold",
    "delay=5",
    "garbage",
    "chance=3",
    "every=2",
    "count=1",
    "op=INQUIRY",
    "page=83",
    "data=0083ffff",
    "sense=06/29/00",
    "lba=0-5",
    "at",
    "+1",
    "every",
    "1",
    "cancel",
    "log",
    "max=3",
    "counters",
    "count",
    "trespasses",
    "alua",
    "2",
    "standby",
    "optimized",
    "transitioning",
    "after=2",
    "pref",
    "tpgs",
    "3",
    "transition",
    "clariion",
    "failover",
    "6",
    "4",
    "ndu",
    "model",
    "rdac",
    "mode",
    "avt",
    "ioship",
    "tpgde",
    "0f000f00",
    "sp",
    "reboot",
    "down=1",
    "ndu=1",
    "status",
    "event",
    "rescan",
    "lun=0",
    "attention",
    "power-on",
    "seed",
    "=",
    "lun=",
    "\u{fffd}",
    "-1",
    "99999999999999999999",
    "#",
    "+",
];

/// Lines that are understood, so that the states they lead to are really reached.
const LINES: &[&str] = &[
    "hang a0",
    "hang sp=b after",
    "down a1 for=1",
    "release *",
    "rule add op=INQUIRY every=3 do hold",
    "rule add chance=5 after do sense=05/24/00",
    "rule add op=READ_10,INQUIRY do data=00",
    "garbage 4",
    "lun 0 stuck on",
    "lun * stuck off",
    "lun 0 resize 1000",
    "lun 0 resize 0",
    "lun 1 resize 4M",
    "lun 1 unmap sp=a",
    "lun 1 del",
    "lun 2 add size=3K",
    "lun 1 add size=1M block=4096 owner=b",
    "lun 0 reserve other",
    "lun 0 trespass b",
    "sp a reboot ndu=1 down=1",
    "alua 1 standby after=1",
    "alua tpgs 1",
    "clariion failover 6",
    "clariion model",
    "rdac mode avt",
    "rdac tpgde 0f000f00",
];

fn random_line(rng: &mut Rng) -> String {
    if rng.below(2) == 0 {
        return pick(rng, LINES).to_string();
    }
    let n = 1 + rng.below(7);
    let words: Vec<&str> = (0..n).map(|_| pick(rng, WORDS)).collect();
    words.join(" ")
}

#[test]
fn no_command_and_no_control_line_panics() {
    let (mut answered, mut checked, mut held_ever) = (0u64, 0u64, 0u64);
    for name in persona::NAMES {
        let mut b = bench(name);
        let mut rng = Rng::new(0x5eed);
        let mut held = Vec::new();
        for round in 0..60_000u64 {
            if rng.below(20) == 0 {
                let _ = b.try_say(&random_line(&mut rng));
            }
            if round % 500 == 0 {
                // Back to a state in which most commands get through.
                for line in ["up *", "rule del all", "cancel all", "lun * stuck off", "lun * map quiet", "lun * unreserve"] {
                    b.say(line);
                }
                held.retain(|(c, h)| b.array.retry(b.now, c, h).is_none());
            }
            b.advance(rng.below(50));
            let command = random_command(&mut rng);
            match b.array.execute(b.now, &command) {
                Outcome::Answer { reply, .. } => {
                    answered += 1;
                    checked += u64::from(reply.status == 2);
                    assert!(reply.data.len() <= command.room);
                    assert!(reply.sense.len() <= 96);
                    assert!(reply.status != 0 || reply.response != 0 || reply.sense.is_empty());
                }
                Outcome::Held(h) => {
                    held_ever += 1;
                    held.push((command, h));
                }
            }
        }
    }
    // The test must have reached all three, or it proves nothing.
    assert!(answered > 200_000 && checked > 10_000 && held_ever > 100, "{answered} {checked} {held_ever}");
}

#[test]
fn every_opcode_without_anything_behind_it() {
    for name in persona::NAMES {
        let mut b = bench(name);
        for op in 0..=255u8 {
            for len in [1, 6, 10, 16] {
                let mut cdb = vec![0; len];
                cdb[0] = op;
                b.ask(A, 0, &cdb, &[]);
            }
        }
        assert!(b.good(A, 0, TUR));
        assert_eq!(b.sense(A, 0, &[0xff]).map(|s| s.asc), Some(0x20), "unknown: 05/20/00");
    }
}
