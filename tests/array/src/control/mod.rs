//! The language of the control socket: one line of words, one answer. Pure: it changes the array and
//! its timers, the server does the waiting and the sending.

mod lun;
mod port;
mod show;

use crate::array::{Array, Event, EventKind};
use crate::fault::Rng;
use crate::log::Filter;
use crate::rule::{Rule, parse_sense};

pub const HELP: &str = "\
help | quit
status | ports | luns | timers | rules
down PORTS [response=N] [for=S]    up PORTS
hang PORTS [after] [for=S]         release PORTS
sp SP reboot [ndu=S] [down=S] [trespass=yes|no]
power-on PORTS                     unit attention 29/00 on every nexus
attention PORTS K/A/Q [lun=N]
lun N|* (see lun help)
rule add [FILTER..] [every=N] [chance=N] [count=N] [after] do ACTION
rule del ID|all | rule release ID|all
delay MS [FILTER..]                garbage N [seed=N] [FILTER..]
seed N
event PORTS rescan|removed|changed [K/A/Q] lun=N
at +S VERB..                       every S VERB..        cancel ID|all
log [since=SEQ] [max=N] [FILTER..] | log next | log clear
counters [FILTER..] | counters reset | count [FILTER..]
trespasses [N]
plain|alua|clariion|rdac|hpsw ...  the personality's own words
FILTER: port=P,.. sp=A group=N lun=N,.. op=NAME|XX,.. page=XX|std lba=A-B
ACTION: sense=K/A/Q status=XX response=N hold delay=MS data=HEX|@FILE garbage
PORTS:  * or names, sp=A, group=N, separated by commas";

#[derive(Clone, Debug)]
pub struct Timer {
    pub id: u64,
    /// Milliseconds since the array started.
    pub due: u64,
    pub every: Option<u64>,
    pub line: String,
}

#[derive(Clone, Debug, Default)]
pub struct Timers {
    list: Vec<Timer>,
    last: u64,
}

impl Timers {
    pub fn add(&mut self, due: u64, every: Option<u64>, line: String) -> u64 {
        self.last += 1;
        let id = self.last;
        self.list.push(Timer { id, due, every, line });
        id
    }

    pub fn due(&self) -> Option<u64> {
        self.list.iter().map(|t| t.due).min()
    }

    pub fn list(&self) -> &[Timer] {
        &self.list
    }

    fn cancel(&mut self, id: Option<u64>) -> usize {
        let before = self.list.len();
        self.list.retain(|t| id.is_some_and(|i| i != t.id));
        before - self.list.len()
    }

    /// The next line to run. A repeating timer that is late runs once, not once for each time missed.
    fn take(&mut self, now: u64) -> Option<String> {
        let next = self.list.iter().filter(|t| t.due <= now).min_by_key(|t| (t.due, t.id))?;
        let (id, every, line) = (next.id, next.every, next.line.clone());
        match every {
            Some(ms) => {
                for t in self.list.iter_mut().filter(|t| t.id == id) {
                    t.due = (t.due + ms).max(now + 1);
                }
            }
            None => self.list.retain(|t| t.id != id),
        }
        Some(line)
    }
}

/// `1.5` or `2`: milliseconds.
pub fn seconds(text: &str) -> Result<u64, String> {
    let bad = || format!("bad number of seconds '{text}'");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let part: u64 = format!("{part:0<3}").parse().map_err(|_| bad())?;
    whole.checked_mul(1000).and_then(|w| w.checked_add(part)).ok_or_else(bad)
}

/// Runs what is due. Gives back what went wrong, for the log.
pub fn run_timers(array: &mut Array, now: u64) {
    while let Some(line) = array.timers.take(now) {
        match run(array, now, &line) {
            Ok(_) => array.log.note(now, &format!("timer: {line}")),
            Err(e) => array.log.note(now, &format!("timer failed: {line}: {e}")),
        }
    }
}

/// One line. The answer has no trailing newline and may have several lines.
pub fn run(array: &mut Array, now: u64, line: &str) -> Result<String, String> {
    array.settle(now);
    let line = line.split('#').next().unwrap_or("");
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((verb, rest)) = words.split_first() else {
        return Ok(String::new());
    };
    match *verb {
        "help" => Ok(HELP.to_string()),
        "status" | "ports" | "luns" | "timers" | "rules" => Ok(show::show(array, now, verb)),
        "log" => show::log(array, rest),
        "counters" => show::counters(array, rest),
        "count" => show::count(array, rest),
        "trespasses" => show::trespasses(array, rest),
        "down" | "up" | "hang" | "release" => port::link(array, now, verb, rest),
        "sp" => port::sp(array, now, rest),
        "power-on" => {
            for p in array.site.select(rest.first().unwrap_or(&"*"))? {
                array.power_on(p);
            }
            Ok(String::new())
        }
        "attention" => attention(array, rest),
        "lun" => lun::lun(array, now, rest),
        "rule" => rule(array, rest),
        "delay" | "garbage" => sugar(array, verb, rest),
        "seed" => {
            let n = rest.first().and_then(|w| w.parse().ok()).ok_or("seed N")?;
            array.faults.rng = Rng::new(n);
            Ok(String::new())
        }
        "event" => event(array, rest),
        "at" | "every" => timer(array, now, verb, rest),
        "cancel" => match rest {
            ["all"] => Ok(format!("{} cancelled", array.timers.cancel(None))),
            [id] => {
                let id = id.parse().map_err(|_| "bad id")?;
                match array.timers.cancel(Some(id)) {
                    0 => Err(format!("no timer {id}")),
                    _ => Ok(String::new()),
                }
            }
            _ => Err("cancel ID|all".into()),
        },
        name if name == array.persona.name() => array.with_persona(now, 0, 0, |p, ctx| p.control(ctx, rest)),
        _ => Err(format!("unknown verb '{verb}', try help")),
    }
}

/// Takes `key=value` out of the words.
pub(crate) fn option<'a>(words: &mut Vec<&'a str>, key: &str) -> Option<&'a str> {
    let at = words.iter().position(|w| w.split_once('=').is_some_and(|(k, _)| k == key))?;
    words.remove(at).split_once('=').map(|(_, v)| v)
}

fn attention(array: &mut Array, words: &[&str]) -> Result<String, String> {
    let mut words = words.to_vec();
    let lun = option(&mut words, "lun");
    let [ports, sense] = words[..] else {
        return Err("attention PORTS K/A/Q [lun=N]".into());
    };
    let sense = parse_sense(sense).ok_or("bad sense, K/A/Q in hex")?;
    let luns = array.pick_luns(lun.unwrap_or("*"))?;
    for p in array.site.select(ports)? {
        for n in &luns {
            array.attention(p, *n, sense);
        }
    }
    Ok(String::new())
}

fn rule(array: &mut Array, words: &[&str]) -> Result<String, String> {
    match words {
        ["add", rest @ ..] => add_rule(array, Rule::parse(&array.site, rest)?),
        ["del", "all"] => {
            array.faults.rules.clear();
            Ok(String::new())
        }
        ["release", "all"] => {
            array.faults.rules.iter_mut().for_each(|r| r.released = true);
            Ok(String::new())
        }
        ["del" | "release", id] => {
            let id: u64 = id.parse().map_err(|_| "bad id")?;
            let at = array.faults.rules.iter().position(|r| r.id == id);
            let at = at.ok_or(format!("no rule {id}"))?;
            if words[0] == "del" {
                array.faults.rules.remove(at);
            } else {
                array.faults.rules[at].released = true;
            }
            Ok(String::new())
        }
        _ => Err("rule add .. | del ID|all | release ID|all".into()),
    }
}

fn add_rule(array: &mut Array, mut rule: Rule) -> Result<String, String> {
    rule.id = array.faults.next_id;
    array.faults.next_id += 1;
    let id = rule.id;
    array.faults.rules.push(rule);
    Ok(format!("rule {id}"))
}

/// `delay 200 port=a0` and `garbage 10 seed=7` are rules said shortly.
fn sugar(array: &mut Array, verb: &str, words: &[&str]) -> Result<String, String> {
    let mut words = words.to_vec();
    if let Some(seed) = option(&mut words, "seed") {
        array.faults.rng = Rng::new(seed.parse().map_err(|_| "bad seed")?);
    }
    let Some((number, filter)) = words.split_first() else {
        return Err(format!("{verb} N [FILTER..]"));
    };
    let action = match verb {
        "delay" => vec![format!("delay={number}")],
        _ => vec![format!("chance={number}"), "garbage".to_string()],
    };
    let mut all = filter.to_vec();
    all.extend(action.iter().map(String::as_str));
    let rule = Rule::parse(&array.site, &all)?;
    add_rule(array, rule)
}

fn event(array: &mut Array, words: &[&str]) -> Result<String, String> {
    let mut words = words.to_vec();
    let lun = option(&mut words, "lun").ok_or("event needs lun=N")?;
    let lun: u16 = lun.parse().map_err(|_| "bad lun")?;
    let (ports, kind) = match words[..] {
        [p, "rescan"] => (p, EventKind::Rescan),
        [p, "removed"] => (p, EventKind::Removed),
        [p, "changed"] => (p, EventKind::Changed(0x2a, 0x09)),
        [p, "changed", s] => {
            let s = parse_sense(s).ok_or("bad sense")?;
            (p, EventKind::Changed(s.asc, s.ascq))
        }
        _ => return Err("event PORTS rescan|removed|changed [K/A/Q] lun=N".into()),
    };
    for port in array.site.select(ports)? {
        array.events.push_back(Event { port, lun, kind });
    }
    Ok(String::new())
}

fn timer(array: &mut Array, now: u64, verb: &str, words: &[&str]) -> Result<String, String> {
    let [time, line @ ..] = words else {
        return Err(format!("{verb} SECONDS VERB.."));
    };
    if line.is_empty() {
        return Err("a timer needs a verb".into());
    }
    let ms = seconds(time.strip_prefix('+').unwrap_or(time))?;
    let every = match verb {
        "every" if ms == 0 => return Err("every 0 is never over".into()),
        "every" => Some(ms),
        _ => None,
    };
    let id = array.timers.add(now.saturating_add(ms), every, line.join(" "));
    Ok(format!("timer {id}"))
}

impl Array {
    /// `*` or numbers with commas: the LUNs that exist of those.
    pub fn pick_luns(&self, text: &str) -> Result<Vec<u16>, String> {
        if text == "*" {
            return Ok(self.luns.keys().copied().collect());
        }
        let mut found = Vec::new();
        for word in text.split(',') {
            match word.parse::<u16>() {
                Ok(n) if self.luns.contains_key(&n) => found.push(n),
                _ => return Err(format!("no lun '{word}'")),
            }
        }
        Ok(found)
    }
}

/// Collects the filter words; anything else is an error.
pub(crate) fn filter(array: &Array, words: &[&str]) -> Result<Filter, String> {
    let mut f = Filter::default();
    for w in words {
        if !f.word(&array.site, w)? {
            return Err(format!("'{w}' is not a filter"));
        }
    }
    Ok(f)
}
