//! What the vector tests share: reading the files, and a device that answers from a list.
#![allow(unreachable_pub, dead_code)]

use corepath::fault::Errno;
use corepath::wire::scsi::{Command, Reply};
use serde_json::Value;

pub fn load(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect(&path);
    let value: Value = serde_json::from_str(&text).unwrap();
    let vectors = value["vectors"].as_array().unwrap().clone();
    assert!(!vectors.is_empty(), "{path}");
    vectors
}

pub fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Gives each command the next response; the last one repeats for ever. A machine that does not end is stopped.
pub struct Device {
    responses: Vec<Value>,
    pub asked: Vec<Vec<u8>>,
}

impl Device {
    pub fn new(responses: &Value) -> Device {
        Device { responses: responses.as_array().unwrap().clone(), asked: Vec::new() }
    }

    pub fn ask<T>(&mut self, command: &Command, then: impl FnOnce(&Reply<'_>) -> T) -> T {
        let r = self.responses.get(self.asked.len()).or(self.responses.last()).unwrap();
        self.asked.push(command.cdb().to_vec());
        assert!(self.asked.len() <= 64, "no end in sight");
        let number = |key: &str| r[key].as_u64().unwrap();
        let (sense, data) = (hex(r["sense"].as_str().unwrap()), hex(r["data"].as_str().unwrap()));
        let room = match command.transfer {
            corepath::wire::scsi::Transfer::In(n) => usize::from(n),
            _ => 0,
        };
        let errno = number("errno") as u16;
        then(&Reply {
            status: number("status") as u8,
            host: number("host_status") as u16,
            driver: number("driver_status") as u16,
            sense: &sense,
            data: &data[..data.len().min(room)],
            errno: (errno != 0).then_some(Errno(errno)),
        })
    }
}

/// Seeded randomness (xorshift).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn bytes(&mut self) -> Vec<u8> {
        let n = self.roll() as usize % 300;
        (0..n).map(|_| self.roll() as u8).collect()
    }
    pub fn status(&mut self) -> u8 {
        [0, 0, 2, 8, 0x18, 0x28, self.roll() as u8][self.roll() as usize % 7]
    }
    pub fn host(&mut self) -> u16 {
        [0, 0, 0, 1, 2, 3, self.roll() as u16 & 0x1f][self.roll() as usize % 7]
    }
}
