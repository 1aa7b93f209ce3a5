//! What the array was asked: a ring of commands with sequence numbers, and counters that never wrap.
//!
//! A test asserts on these; nothing here is dropped without `lost` saying how many entries fell out.

use crate::scsi::{self, Command, Reply, Sense};
use crate::site::{Site, sp_by_letter};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

/// Data-out bytes kept per entry: the longest is RDAC's page 2C with its table of 256 LUNs.
const KEPT: usize = 320;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not answered yet: held by a fault or on its way through a delay.
    Held,
    Answered {
        response: u8,
        status: u8,
        sense: Option<Sense>,
        data: usize,
    },
    /// A remark of the array itself, not a command.
    Note(String),
    /// The guest went away or reset before the answer.
    Dropped,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub seq: u64,
    /// Milliseconds since the array started.
    pub at: u64,
    pub done: u64,
    pub port: usize,
    pub lun: u16,
    pub cdb: Vec<u8>,
    pub out: Vec<u8>,
    pub state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub received: u64,
    pub good: u64,
    /// Any status but GOOD.
    pub check: u64,
    /// Any virtio response but OK.
    pub transport: u64,
}

/// Which entries, counters or commands are meant. Empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub ports: Option<Vec<usize>>,
    pub luns: Option<Vec<u16>>,
    pub ops: Option<Vec<u8>>,
    /// VPD page of an INQUIRY, page code of a MODE SENSE; None inside is the standard INQUIRY.
    pub page: Option<Option<u8>>,
    /// Any of these blocks is touched by a READ or WRITE: first and last.
    pub lba: Option<(u64, u64)>,
}

impl Filter {
    /// Takes `port= sp= group= lun= op= page= lba=` words; gives back false for any other word.
    pub fn word(&mut self, site: &Site, word: &str) -> Result<bool, String> {
        let Some((key, value)) = word.split_once('=') else {
            return Ok(false);
        };
        let bad = || format!("bad value in '{word}'");
        match key {
            "port" => self.ports = Some(site.select(value)?),
            "sp" | "group" => {
                if key == "sp" && sp_by_letter(value).is_none() {
                    return Err(bad());
                }
                self.ports = Some(site.select(word)?);
            }
            "lun" => {
                let luns: Result<Vec<u16>, _> = value.split(',').map(str::parse).collect();
                self.luns = Some(luns.map_err(|_| bad())?);
            }
            "op" => {
                let ops: Option<Vec<u8>> = value.split(',').map(scsi::op_by_name).collect();
                self.ops = Some(ops.ok_or_else(bad)?);
            }
            "page" if value == "std" => self.page = Some(None),
            "page" => {
                let hex = value.strip_prefix("0x").unwrap_or(value);
                self.page = Some(Some(u8::from_str_radix(hex, 16).map_err(|_| bad())?));
            }
            "lba" => {
                let (a, b) = value.split_once('-').unwrap_or((value, value));
                let range = (a.parse().map_err(|_| bad())?, b.parse().map_err(|_| bad())?);
                self.lba = Some(range);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub fn hits(&self, port: usize, lun: u16, cdb: &[u8]) -> bool {
        let has = |set: &Option<Vec<usize>>| set.as_ref().is_none_or(|s| s.contains(&port));
        if !has(&self.ports) || self.luns.as_ref().is_some_and(|l| !l.contains(&lun)) {
            return false;
        }
        let op = scsi::byte(cdb, 0);
        if self.ops.as_ref().is_some_and(|o| !o.contains(&op)) {
            return false;
        }
        if let Some(page) = self.page {
            let asked = match op {
                scsi::op::INQUIRY => (scsi::byte(cdb, 1) & 1 == 1).then(|| scsi::byte(cdb, 2)),
                scsi::op::MODE_SENSE_6 | scsi::op::MODE_SENSE_10 => Some(scsi::byte(cdb, 2) & 0x3f),
                _ => return false,
            };
            if asked != page {
                return false;
            }
        }
        if let Some((first, last)) = self.lba {
            return match crate::sbc::extent(cdb) {
                Some((lba, n)) => lba <= last && lba.saturating_add(n) > first,
                None => false,
            };
        }
        true
    }
}

#[derive(Debug)]
pub struct Log {
    ring: VecDeque<Entry>,
    capacity: usize,
    next: u64,
    pub lost: u64,
    counts: BTreeMap<(usize, u8), Count>,
    /// Entries that ended, for a log file; None when nobody takes them.
    pub sink: Option<Vec<Entry>>,
}

impl Log {
    pub fn new(capacity: usize) -> Log {
        Log { ring: VecDeque::new(), capacity: capacity.max(1), next: 1, lost: 0, counts: BTreeMap::new(), sink: None }
    }

    fn push(&mut self, entry: Entry) -> u64 {
        if self.ring.len() >= self.capacity {
            self.ring.pop_front();
            self.lost += 1;
        }
        let seq = entry.seq;
        self.ring.push_back(entry);
        self.next += 1;
        seq
    }

    /// Enters a command on arrival; the number is what `finish` takes.
    pub fn begin(&mut self, now: u64, cmd: &Command) -> u64 {
        let code = scsi::byte(&cmd.cdb, 0);
        self.counts.entry((cmd.port, code)).or_default().received += 1;
        let medium = scsi::class(&cmd.cdb) == scsi::Class::Medium;
        let kept = if medium { 0 } else { KEPT.min(cmd.out.len()) };
        self.push(Entry {
            seq: self.next,
            at: now,
            done: now,
            port: cmd.port,
            lun: cmd.lun,
            cdb: cmd.cdb.iter().take(scsi::cdb_len(code)).copied().collect(),
            out: cmd.out.iter().take(kept).copied().collect(),
            state: State::Held,
        })
    }

    pub fn note(&mut self, now: u64, text: &str) {
        let seq = self.push(Entry {
            seq: self.next,
            at: now,
            done: now,
            port: usize::MAX,
            lun: 0,
            cdb: Vec::new(),
            out: Vec::new(),
            state: State::Note(text.to_string()),
        });
        self.ended(seq);
    }

    fn ended(&mut self, seq: u64) {
        if let Some(e) = self.find(seq).cloned()
            && let Some(sink) = &mut self.sink
        {
            sink.push(e);
        }
    }

    fn find(&mut self, seq: u64) -> Option<&mut Entry> {
        let first = self.ring.front()?.seq;
        self.ring.get_mut(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    pub fn finish(&mut self, now: u64, seq: u64, cmd: &Command, reply: &Reply) {
        let code = scsi::byte(&cmd.cdb, 0);
        let count = self.counts.entry((cmd.port, code)).or_default();
        if reply.response != scsi::response::OK {
            count.transport += 1;
        } else if reply.status == scsi::GOOD {
            count.good += 1;
        } else {
            count.check += 1;
        }
        if let Some(e) = self.find(seq) {
            e.done = now;
            e.state = State::Answered {
                response: reply.response,
                status: reply.status,
                sense: Sense::parse(&reply.sense),
                data: reply.data.len(),
            };
        }
        self.ended(seq);
    }

    pub fn drop_held(&mut self, now: u64, seq: u64) {
        if let Some(e) = self.find(seq) {
            e.done = now;
            e.state = State::Dropped;
        }
        self.ended(seq);
    }

    pub fn clear(&mut self) {
        self.ring.clear();
        self.lost = 0;
    }

    pub fn reset_counts(&mut self) {
        self.counts.clear();
    }

    /// The number that the next entry will get: `log since=` it shows only what comes after.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.ring.iter()
    }

    /// Sum over the ports and opcodes of the filter; LUN, page and LBA do not apply.
    pub fn count(&self, filter: &Filter) -> Count {
        let mut sum = Count::default();
        for (_, c) in self.counted(filter) {
            sum.received += c.received;
            sum.good += c.good;
            sum.check += c.check;
            sum.transport += c.transport;
        }
        sum
    }

    pub fn counted<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = ((usize, u8), Count)> + 'a {
        self.counts.iter().filter_map(|(k, c)| {
            let port = filter.ports.as_ref().is_none_or(|p| p.contains(&k.0));
            let code = filter.ops.as_ref().is_none_or(|o| o.contains(&k.1));
            (port && code).then_some((*k, *c))
        })
    }
}

pub fn hex(b: &[u8]) -> String {
    b.iter().fold(String::new(), |mut s, v| {
        let _ = write!(s, "{v:02x}");
        s
    })
}

/// One line, `key=value` words, the same order always.
pub fn line(site: &Site, e: &Entry) -> String {
    if let State::Note(text) = &e.state {
        return format!("seq={} t={}.{:03} note {text}", e.seq, e.at / 1000, e.at % 1000);
    }
    let mut s = format!(
        "seq={} t={}.{:03} port={} lun={} op={} cdb={}",
        e.seq,
        e.at / 1000,
        e.at % 1000,
        site.port_name(e.port),
        e.lun,
        scsi::op_name(scsi::byte(&e.cdb, 0)),
        hex(&e.cdb)
    );
    if !e.out.is_empty() {
        let _ = write!(s, " out={}", hex(&e.out));
    }
    match &e.state {
        State::Held => s.push_str(" held"),
        State::Dropped => s.push_str(" dropped"),
        State::Answered { response, status, sense, data } => {
            let _ = write!(s, " response={response} status={status:02x}");
            if let Some(sense) = sense {
                let _ = write!(s, " sense={sense}");
            }
            let _ = write!(s, " data={data} ms={}", e.done - e.at);
        }
        State::Note(_) => {}
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cmd(port: usize, cdb: &[u8]) -> Command {
        Command { port, lun: 0, cdb: cdb.to_vec(), out: Vec::new(), room: 0 }
    }

    #[test]
    fn the_ring_forgets_the_oldest_and_says_so() {
        let mut log = Log::new(2);
        let c = cmd(0, &[0]);
        let first = log.begin(1, &c);
        log.begin(2, &c);
        log.begin(3, &c);
        assert_eq!(log.lost, 1);
        log.finish(4, first, &c, &Reply::good()); // gone from the ring, still counted
        assert_eq!(log.entries().count(), 2);
        let n = log.count(&Filter::default());
        assert_eq!((n.received, n.good), (3, 1));
    }

    #[test]
    fn filters_read_words_and_match() {
        let site = crate::site::tests::site();
        let mut f = Filter::default();
        for w in ["sp=a", "lun=0,3", "op=READ_10,12", "lba=10-19"] {
            assert_eq!(f.word(&site, w), Ok(true), "{w}");
        }
        assert_eq!(f.word(&site, "every=3"), Ok(false));
        assert!(f.word(&site, "op=zz").is_err());
        assert!(f.word(&site, "lun=x").is_err());
        let read = |lba: u8, n: u8| [0x28, 0, 0, 0, 0, lba, 0, 0, n, 0];
        assert!(f.hits(0, 3, &read(19, 1)));
        assert!(f.hits(0, 3, &read(5, 8)));
        assert!(!f.hits(0, 3, &read(20, 1)));
        assert!(!f.hits(2, 3, &read(10, 1)));
        assert!(!f.hits(0, 1, &read(10, 1)));
    }
}
