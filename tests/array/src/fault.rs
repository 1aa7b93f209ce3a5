//! What is wrong with ports, and the seeded nonsense that a rule may answer with.

use crate::rule::{Act, Rule};
use crate::scsi::{self, CHECK_CONDITION, Class, Command, Reply, Sense, response};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Up,
    /// Every command is answered at once with this virtio response.
    Down(u8),
    /// Commands are kept until released; with `after` they are executed first, so that what was
    /// written is written although nobody ever says so.
    Hung {
        after: bool,
    },
}

/// xorshift64*: small, seeded, the same sequence on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }
}

#[derive(Debug)]
pub struct Faults {
    pub links: Vec<Link>,
    pub rules: Vec<Rule>,
    pub rng: Rng,
    pub next_id: u64,
}

impl Faults {
    pub fn new(ports: usize) -> Faults {
        Faults { links: vec![Link::Up; ports], rules: Vec::new(), rng: Rng::new(1), next_id: 1 }
    }

    pub fn link(&self, port: usize) -> Link {
        self.links.get(port).copied().unwrap_or(Link::Up)
    }

    /// The sum of all delays that act on the command, and the first other rule that does.
    pub fn act(&mut self, cmd: &Command) -> (u64, Option<Rule>) {
        let rng = &mut self.rng;
        let (mut delay, mut found) = (0u64, None);
        for r in self.rules.iter_mut().filter(|r| r.filter.hits(cmd.port, cmd.lun, &cmd.cdb)) {
            let ms = if let Act::Delay(ms) = r.act { Some(ms) } else { None };
            if (ms.is_none() && found.is_some()) || !r.fires(rng) {
                continue;
            }
            match ms {
                Some(ms) => delay = delay.saturating_add(ms),
                None => found = Some(r.clone()),
            }
        }
        (delay, found)
    }
}

/// Replaces an answer by nonsense of six kinds. A READ never gets wrong bytes with GOOD status: an
/// array that returns false data silently is not what any path manager can help with.
pub fn garble(rng: &mut Rng, cmd: &Command, reply: Reply) -> Reply {
    let mut reply = reply;
    let medium = scsi::class(&cmd.cdb) == Class::Medium;
    let kind = if medium { 3 + rng.below(3) } else { rng.below(6) };
    match kind {
        0 => {
            // Random bytes of the length asked for.
            let n = cmd.room.min(4096);
            reply = Reply::data((0..n).map(|_| rng.draw() as u8).collect());
        }
        1 => {
            // Bits turned over: lengths lie, codes change.
            for _ in 0..1 + rng.below(8) {
                let at = rng.below(reply.data.len() as u64) as usize;
                if let Some(b) = reply.data.get_mut(at) {
                    *b ^= 1 << rng.below(8);
                }
            }
        }
        2 => {
            let keep = rng.below(reply.data.len() as u64 + 1) as usize;
            reply.data.truncate(keep);
        }
        3 => {
            let s = Sense::new(rng.below(16) as u8, rng.draw() as u8, (rng.draw() >> 8) as u8);
            reply = Reply::check(s);
        }
        4 => {
            // A check condition whose sense data is nonsense itself, of any length.
            let n = rng.below(97) as usize;
            reply = Reply::status(CHECK_CONDITION);
            reply.sense = (0..n).map(|_| rng.draw() as u8).collect();
        }
        _ => {
            reply = Reply::transport(match rng.below(3) {
                0 => response::BAD_TARGET,
                1 => response::TRANSPORT_FAILURE,
                _ => response::FAILURE,
            });
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_nonsense() {
        let cmd = Command { port: 0, lun: 0, cdb: vec![0x12], out: vec![], room: 96 };
        let run = |seed| {
            let mut rng = Rng::new(seed);
            (0..50).map(|_| garble(&mut rng, &cmd, Reply::data(vec![1; 36]))).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn a_read_never_returns_false_data_as_good() {
        let cmd = Command { port: 0, lun: 0, cdb: vec![0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], out: vec![], room: 512 };
        let mut rng = Rng::new(3);
        for _ in 0..1000 {
            let r = garble(&mut rng, &cmd, Reply::data(vec![9; 512]));
            assert!(r.response != 0 || r.status != 0);
        }
    }
}
