//! An array on a bench: commands by hand, time by hand.
#![allow(dead_code)] // each test program uses its share

use corepath_array::array::{Array, Held, Outcome};
use corepath_array::config;
use corepath_array::scsi::{Command, Reply, Sense};

pub struct Bench {
    pub array: Array,
    pub now: u64,
}

pub fn bench(persona: &str) -> Bench {
    bench_with(persona, "--luns 2,size=1M")
}

/// Ports a0 a1 b0 b1 are 0 to 3. Power-on attentions are cleared.
pub fn bench_with(persona: &str, more: &str) -> Bench {
    let line = format!("--persona {persona} --port a0=a --port a1=b --port b0=c --port b1=d {more}");
    let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
    let (_, array) = config::parse(&args).unwrap();
    let mut bench = Bench { array, now: 0 };
    for port in 0..4 {
        for lun in bench.array.luns.keys().copied().collect::<Vec<_>>() {
            assert_eq!(bench.sense(port, lun, TUR), Some(Sense::POWER_ON));
        }
    }
    bench
}

pub const TUR: &[u8] = &[0, 0, 0, 0, 0, 0];
pub const READ: &[u8] = &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
pub const WRITE: &[u8] = &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
pub const SYNC: &[u8] = &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];
pub const RTPG: &[u8] = &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
pub const RTPG_EXT: &[u8] = &[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
pub const STPG: &[u8] = &[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0];
pub const A: usize = 0;
pub const A1: usize = 1;
pub const B: usize = 2;
pub const B1: usize = 3;

pub fn inquiry(page: u8) -> [u8; 6] {
    [0x12, 1, page, 0, 252, 0]
}

impl Bench {
    pub fn outcome(&mut self, port: usize, lun: u16, cdb: &[u8], out: &[u8]) -> Outcome {
        let command = command(port, lun, cdb, out);
        self.array.execute(self.now, &command)
    }

    pub fn ask(&mut self, port: usize, lun: u16, cdb: &[u8], out: &[u8]) -> Reply {
        match self.outcome(port, lun, cdb, out) {
            Outcome::Answer { reply, .. } => reply,
            Outcome::Held(h) => panic!("held: {h:?}"),
        }
    }

    pub fn held(&mut self, port: usize, lun: u16, cdb: &[u8], out: &[u8]) -> Held {
        match self.outcome(port, lun, cdb, out) {
            Outcome::Held(h) => h,
            other => panic!("answered: {other:?}"),
        }
    }

    pub fn retry(&mut self, held: &Held, port: usize, lun: u16, cdb: &[u8], out: &[u8]) -> Option<Reply> {
        match self.array.retry(self.now, &command(port, lun, cdb, out), held)? {
            Outcome::Answer { reply, .. } => Some(reply),
            Outcome::Held(h) => panic!("held again: {h:?}"),
        }
    }

    /// Data of a command that must be good.
    pub fn data(&mut self, port: usize, lun: u16, cdb: &[u8]) -> Vec<u8> {
        let r = self.ask(port, lun, cdb, &[]);
        assert_eq!((r.response, r.status), (0, 0), "{cdb:02x?} {:02x?}", r.sense);
        r.data
    }

    /// Sense of a command without data-out; None when it is good.
    pub fn sense(&mut self, port: usize, lun: u16, cdb: &[u8]) -> Option<Sense> {
        let out = if cdb == WRITE { vec![7; 512] } else { vec![] };
        let r = self.ask(port, lun, cdb, &out);
        assert_eq!(r.response, 0);
        (r.status != 0).then(|| Sense::parse(&r.sense).unwrap())
    }

    pub fn good(&mut self, port: usize, lun: u16, cdb: &[u8]) -> bool {
        self.sense(port, lun, cdb).is_none()
    }

    pub fn say(&mut self, line: &str) -> String {
        self.try_say(line).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    pub fn try_say(&mut self, line: &str) -> Result<String, String> {
        corepath_array::control::run(&mut self.array, self.now, line)
    }

    pub fn advance(&mut self, ms: u64) {
        self.now += ms;
        corepath_array::control::run_timers(&mut self.array, self.now);
        self.array.settle(self.now);
    }

    pub fn trespasses(&mut self) -> String {
        self.say("trespasses")
    }
}

pub fn command(port: usize, lun: u16, cdb: &[u8], out: &[u8]) -> Command {
    let (cdb, out) = (cdb.to_vec(), out.to_vec());
    Command { port, lun, cdb, out, room: 4096 }
}
