//! Rules: "for the commands that match, do this instead". The finest of the faults, made of a filter,
//! a rhythm and an action. Which commands, how often and what, is said in words (see `parse`).

use crate::fault::Rng;
use crate::log::{Filter, hex};
use crate::scsi::{Sense, byte};
use crate::site::Site;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Check condition with this sense.
    Sense(Sense),
    /// This status byte, without sense.
    Status(u8),
    /// This virtio response.
    Response(u8),
    /// Kept until the rule is deleted or released.
    Hold,
    /// Milliseconds on top of everything else.
    Delay(u64),
    /// These bytes as data-in with GOOD status.
    Data(Vec<u8>),
    /// Seeded nonsense instead of the answer.
    Garbage,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub id: u64,
    pub filter: Filter,
    /// Acts on one match in this many, counted.
    pub every: u64,
    /// Acts on one match in this many, drawn from the array's seeded generator.
    pub chance: u64,
    /// How many times it still acts; None is for ever.
    pub left: Option<u64>,
    /// The command is executed first, and only its answer replaced.
    pub after: bool,
    pub act: Act,
    pub seen: u64,
    pub acted: u64,
    /// `release` was said: what it holds goes on, and it holds nothing more.
    pub released: bool,
}

impl Rule {
    /// `[FILTER...] [every=N] [chance=N] [count=N] [after] ACTION`, ACTION one of `sense=K/A/Q`,
    /// `status=XX`, `response=N`, `hold`, `delay=MS`, `data=HEX` or `data=@FILE`, `garbage`.
    pub fn parse(site: &Site, words: &[&str]) -> Result<Rule, String> {
        let mut rule = Rule {
            id: 0,
            filter: Filter::default(),
            every: 1,
            chance: 1,
            left: None,
            after: false,
            act: Act::Hold,
            seen: 0,
            acted: 0,
            released: false,
        };
        let mut act = None;
        for word in words {
            if rule.filter.word(site, word)? {
                continue;
            }
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || value.parse::<u64>().map_err(|_| format!("bad '{word}'"));
            match key {
                "every" => rule.every = number()?.max(1),
                "chance" => rule.chance = number()?.max(1),
                "count" => rule.left = Some(number()?),
                "after" => rule.after = true,
                "do" if value.is_empty() => {} // may stand before the action, for readers
                _ => act = Some(parse_act(key, value).ok_or_else(|| format!("bad '{word}'"))?),
            }
        }
        rule.act = act.ok_or("a rule needs an action")?;
        Ok(rule)
    }

    /// Counts a matching command and says whether to act on this one.
    pub fn fires(&mut self, rng: &mut Rng) -> bool {
        if self.left == Some(0) || self.released {
            return false;
        }
        self.seen += 1;
        if !self.seen.is_multiple_of(self.every) || (self.chance > 1 && rng.below(self.chance) != 0) {
            return false;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        self.acted += 1;
        true
    }

    pub fn describe(&self, site: &Site) -> String {
        let mut s = format!("id={}", self.id);
        if let Some(p) = &self.filter.ports {
            let names: Vec<&str> = p.iter().map(|i| site.port_name(*i)).collect();
            s.push_str(&format!(" port={}", names.join(",")));
        }
        if let Some(l) = &self.filter.luns {
            let n: Vec<String> = l.iter().map(u16::to_string).collect();
            s.push_str(&format!(" lun={}", n.join(",")));
        }
        if let Some(o) = &self.filter.ops {
            let n: Vec<String> = o.iter().map(|c| crate::scsi::op_name(*c)).collect();
            s.push_str(&format!(" op={}", n.join(",")));
        }
        if let Some(p) = self.filter.page {
            s.push_str(&p.map_or(" page=std".to_string(), |p| format!(" page={p:02x}")));
        }
        if let Some((a, b)) = self.filter.lba {
            s.push_str(&format!(" lba={a}-{b}"));
        }
        if self.every > 1 {
            s.push_str(&format!(" every={}", self.every));
        }
        if self.chance > 1 {
            s.push_str(&format!(" chance={}", self.chance));
        }
        if let Some(n) = self.left {
            s.push_str(&format!(" count={n}"));
        }
        if self.after {
            s.push_str(" after");
        }
        s.push_str(&match &self.act {
            Act::Sense(x) => format!(" sense={x}"),
            Act::Status(x) => format!(" status={x:02x}"),
            Act::Response(x) => format!(" response={x}"),
            Act::Hold => " hold".to_string(),
            Act::Delay(ms) => format!(" delay={ms}"),
            Act::Data(d) => format!(" data={}", hex(d)),
            Act::Garbage => " garbage".to_string(),
        });
        s.push_str(&format!(" seen={} acted={}", self.seen, self.acted));
        s
    }
}

fn parse_act(key: &str, value: &str) -> Option<Act> {
    Some(match key {
        "sense" => Act::Sense(parse_sense(value)?),
        "status" => Act::Status(u8::from_str_radix(value, 16).ok()?),
        "response" => Act::Response(value.parse().ok()?),
        "hold" => Act::Hold,
        "delay" => Act::Delay(value.parse().ok()?),
        "data" => match value.strip_prefix('@') {
            Some(path) => Act::Data(std::fs::read(path).ok()?),
            None => Act::Data(parse_hex(value)?),
        },
        "garbage" => Act::Garbage,
        _ => return None,
    })
}

/// `05/25/01`, hexadecimal.
pub fn parse_sense(text: &str) -> Option<Sense> {
    let mut parts = text.split('/').map(|p| u8::from_str_radix(p, 16).ok());
    let sense = Sense::new(parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(sense)
}

pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.bytes().map(|b| char::from(b).to_digit(16).map(|d| d as u8)).collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|p| byte(p, 0) << 4 | byte(p, 1)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<Rule, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        Rule::parse(&crate::site::tests::site(), &words)
    }

    #[test]
    fn rules_are_read_back_as_they_were_said() {
        let r = rule("sp=a op=MODE_SELECT_10 count=2 after do sense=05/04/00").unwrap();
        assert_eq!(
            r.describe(&crate::site::tests::site()),
            "id=0 port=a0,a1 op=MODE_SELECT_10 count=2 after sense=05/04/00 seen=0 acted=0"
        );
        assert!(rule("op=READ_10").is_err());
        assert!(rule("sense=05/04").is_err());
        assert!(rule("data=abc").is_err());
        assert!(rule("frobnicate").is_err());
    }

    #[test]
    fn every_and_count_limit_a_rule() {
        let mut r = rule("every=3 count=2 status=08").unwrap();
        let mut rng = Rng::new(1);
        let fired: Vec<bool> = (0..12).map(|_| r.fires(&mut rng)).collect();
        let hits: Vec<usize> = (0..12).filter(|i| fired[*i]).collect();
        assert_eq!(hits, [2, 5]);
    }
}
