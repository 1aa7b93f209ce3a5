//! The array: one command in, one outcome out. Knows no socket, no thread and no clock: the time is an
//! argument, in milliseconds since the start.
//!
//! Order of a command: link of the port, rules, LUN presented?, unit attention, reservation, the
//! personality, its gate, the common commands.

use crate::fault::{Faults, Link, garble};
use crate::log::Log;
use crate::lun::{Effect, Holder, Luns};
use crate::persona::{Ctx, Persona, Step, View};
use crate::rule::{Act, Rule};
use crate::scsi::{self, Class, Command, Reply, Sense, byte, op};
use crate::site::Site;
use crate::{mode, sbc, spc};
use std::collections::{BTreeMap, VecDeque};

/// Why a command is kept. It goes on when the cause has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    Link,
    Rule(u64),
    /// A trespass of this LUN that never completes.
    Stuck(u16),
}

/// A command without an answer: what `retry` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub seq: u64,
    pub cause: Cause,
    /// It was executed; only this answer is kept back.
    pub ready: Option<Reply>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To be sent after `delay` milliseconds.
    Answer {
        seq: u64,
        reply: Reply,
        delay: u64,
    },
    Held(Held),
}

/// What virtio-scsi may tell the guest through its event queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Rescan,
    Removed,
    /// Parameters changed: ASC and ASCQ.
    Changed(u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub port: usize,
    pub lun: u16,
    pub kind: EventKind,
}

pub struct Array {
    pub site: Site,
    pub luns: Luns,
    pub persona: Box<dyn Persona>,
    pub faults: Faults,
    pub log: Log,
    pub timers: crate::control::Timers,
    /// Events for the transport to send, in order.
    pub events: VecDeque<Event>,
    attentions: BTreeMap<(usize, u16), VecDeque<Sense>>,
}

impl Array {
    pub fn new(site: Site, persona: Box<dyn Persona>, log_size: usize) -> Array {
        let faults = Faults::new(site.ports.len());
        Array {
            site,
            luns: Luns::new(),
            persona,
            faults,
            log: Log::new(log_size),
            timers: Default::default(),
            events: VecDeque::new(),
            attentions: BTreeMap::new(),
        }
    }

    /// Every nexus of the port starts anew: 29/00 once for each LUN, and nothing older.
    pub fn power_on(&mut self, port: usize) {
        for n in self.luns.keys() {
            let queue = VecDeque::from([Sense::POWER_ON]);
            self.attentions.insert((port, *n), queue);
        }
    }

    pub fn attention(&mut self, port: usize, lun: u16, sense: Sense) {
        let queue = self.attentions.entry((port, lun)).or_default();
        if !queue.contains(&sense) {
            queue.push_back(sense);
        }
    }

    pub fn apply(&mut self, now: u64, effects: Vec<Effect>) {
        for e in effects {
            match e {
                Effect::Attention { lun, except, sense } => {
                    let luns: Vec<u16> = match lun {
                        Some(n) => vec![n],
                        None => self.luns.keys().copied().collect(),
                    };
                    for port in (0..self.site.ports.len()).filter(|p| Some(*p) != except) {
                        for n in &luns {
                            self.attention(port, *n, sense);
                        }
                    }
                }
                Effect::Moved { lun, from, to, by } => {
                    let (from, to) = (crate::site::sp_letter(from), crate::site::sp_letter(to));
                    self.log.note(now, &format!("lun={lun} moved from {from} to {to} by {by}"));
                }
                Effect::Note(text) => self.log.note(now, &text),
            }
        }
    }

    /// Runs `f` with the personality and what it may change.
    pub fn with_persona<T>(&mut self, now: u64, port: usize, lun: u16, f: impl FnOnce(&mut dyn Persona, &mut Ctx) -> T) -> T {
        let mut fx = Vec::new();
        let mut ctx = Ctx { site: &self.site, luns: &mut self.luns, port, lun, now, fx: &mut fx };
        let out = f(self.persona.as_mut(), &mut ctx);
        self.apply(now, fx);
        out
    }

    /// Lines for the log file since the last call.
    pub fn take_log_lines(&mut self) -> String {
        let entries = self.log.sink.as_mut().map(std::mem::take).unwrap_or_default();
        entries.iter().fold(String::new(), |s, e| s + &crate::log::line(&self.site, e) + "\n")
    }

    pub fn settle(&mut self, now: u64) {
        if self.persona.due().is_some_and(|d| d <= now) {
            self.with_persona(now, 0, 0, |p, ctx| p.settle(ctx));
        }
    }

    pub fn execute(&mut self, now: u64, cmd: &Command) -> Outcome {
        self.settle(now);
        let seq = self.log.begin(now, cmd);
        self.run(now, cmd, seq, true)
    }

    /// A held command again: None as long as its cause lasts.
    pub fn retry(&mut self, now: u64, cmd: &Command, held: &Held) -> Option<Outcome> {
        let link = self.faults.link(cmd.port);
        if let Link::Down(code) = link {
            // Whatever held it: the cable is out now, and the initiator's port knows.
            return Some(self.answer(now, cmd, held.seq, Reply::transport(code), 0));
        }
        let lasts = match held.cause {
            Cause::Link => matches!(link, Link::Hung { .. }),
            Cause::Rule(id) => {
                let rule = self.faults.rules.iter().find(|r| r.id == id);
                rule.is_some_and(|r| !r.released)
            }
            Cause::Stuck(n) => self.luns.get(&n).is_some_and(|l| l.stuck),
        };
        if lasts {
            return None;
        }
        self.settle(now);
        Some(match &held.ready {
            Some(reply) => self.answer(now, cmd, held.seq, reply.clone(), 0),
            None => self.run(now, cmd, held.seq, false),
        })
    }

    /// The guest reset or left: nobody waits for the answer any more.
    pub fn forget(&mut self, now: u64, held: &Held) {
        self.log.drop_held(now, held.seq);
    }

    fn answer(&mut self, now: u64, cmd: &Command, seq: u64, reply: Reply, delay: u64) -> Outcome {
        let reply = reply.cut(cmd.room);
        self.log.finish(now.saturating_add(delay), seq, cmd, &reply);
        Outcome::Answer { seq, reply, delay }
    }

    fn run(&mut self, now: u64, cmd: &Command, seq: u64, rules: bool) -> Outcome {
        let mut keep = None;
        match self.faults.link(cmd.port) {
            Link::Up => {}
            Link::Down(code) => return self.answer(now, cmd, seq, Reply::transport(code), 0),
            Link::Hung { after: true } => keep = Some(Cause::Link),
            Link::Hung { after: false } => {
                let (cause, ready) = (Cause::Link, None);
                return Outcome::Held(Held { seq, cause, ready });
            }
        }
        let (mut delay, rule) = if rules { self.faults.act(cmd) } else { (0, None) };
        // Instead of the command: what is not "after", but for garbage, which is made of an answer.
        let instead = rule.as_ref().filter(|r| !r.after && r.act != Act::Garbage);
        match (&rule, instead) {
            (Some(r), Some(_)) if r.act == Act::Hold => {
                let (cause, ready) = (Cause::Rule(r.id), None);
                return Outcome::Held(Held { seq, cause, ready });
            }
            (Some(r), None) if r.act == Act::Hold => keep = keep.or(Some(Cause::Rule(r.id))),
            _ => {}
        }
        let mut reply = match instead.map(|r| replaced(r, Reply::good())) {
            Some(reply) => reply,
            None => match self.target(now, cmd) {
                Step::Done(reply) => reply,
                Step::Late(reply, ms) => {
                    delay = delay.saturating_add(ms);
                    reply
                }
                Step::Stuck(lun) => {
                    let (cause, ready) = (Cause::Stuck(lun), None);
                    return Outcome::Held(Held { seq, cause, ready });
                }
                Step::Pass => Sense::BAD_OPCODE.into(),
            },
        };
        if self.site.descriptor_sense
            && let (scsi::CHECK_CONDITION, Some(s)) = (reply.status, Sense::parse(&reply.sense))
        {
            reply.sense = s.descriptor();
        }
        if let Some(r) = &rule {
            if r.act == Act::Garbage {
                reply = garble(&mut self.faults.rng, cmd, reply);
            } else if r.after {
                reply = replaced(r, reply);
            }
        }
        match keep {
            Some(cause) => {
                let ready = Some(reply);
                Outcome::Held(Held { seq, cause, ready })
            }
            None => self.answer(now, cmd, seq, reply, delay),
        }
    }

    fn target(&mut self, now: u64, cmd: &Command) -> Step {
        let (code, nexus) = (byte(&cmd.cdb, 0), (cmd.port, cmd.lun));
        let Some(lun) = self.luns.get_mut(&cmd.lun).filter(|l| l.visible(cmd.port)) else {
            return Step::Done(match code {
                op::INQUIRY => spc::absent_inquiry(&cmd.cdb),
                op::REPORT_LUNS => spc::report_luns(&self.luns, cmd.port, &cmd.cdb),
                op::REQUEST_SENSE => spc::request_sense(Some(Sense::NO_LUN), &cmd.cdb),
                _ => Sense::NO_LUN.into(),
            });
        };
        let exempt = matches!(code, op::INQUIRY | op::REPORT_LUNS);
        if !exempt && let Some(sense) = self.attentions.get_mut(&nexus).and_then(|q| q.pop_front()) {
            return Step::Done(match code {
                op::REQUEST_SENSE => spc::request_sense(Some(sense), &cmd.cdb),
                _ => sense.into(),
            });
        }
        let other = lun.reserved.is_some_and(|h| h != Holder::Port(cmd.port));
        // SPC-2 5.5.1: what a reservation of somebody else does not stop. The trespass decides itself.
        let free = matches!(code, op::INQUIRY | op::REPORT_LUNS | op::REQUEST_SENSE | op::RELEASE_6 | op::RELEASE_10)
            || matches!(code, op::MODE_SELECT_6 | op::MODE_SELECT_10 | op::START_STOP_UNIT);
        if other && !free {
            return Step::Done(Reply::status(scsi::RESERVATION_CONFLICT));
        }
        match code {
            op::RESERVE_6 | op::RESERVE_10 => {
                lun.reserved = Some(Holder::Port(cmd.port));
                return Step::Done(Reply::good());
            }
            op::RELEASE_6 | op::RELEASE_10 => {
                if lun.reserved == Some(Holder::Port(cmd.port)) {
                    lun.reserved = None;
                }
                return Step::Done(Reply::good());
            }
            _ => {}
        }
        match self.with_persona(now, cmd.port, cmd.lun, |p, ctx| p.command(ctx, cmd)) {
            Step::Pass => {}
            step => return step,
        }
        if let Err(sense) = self.gate(now, cmd) {
            return Step::Done(sense.into());
        }
        if matches!(code, op::MODE_SELECT_6 | op::MODE_SELECT_10) {
            return self.with_persona(now, cmd.port, cmd.lun, |p, ctx| mode::select(ctx, p, cmd));
        }
        Step::Done(self.common(now, cmd))
    }

    fn gate(&self, now: u64, cmd: &Command) -> Result<(), Sense> {
        let class = scsi::class(&cmd.cdb);
        match self.luns.get(&cmd.lun) {
            Some(lun) if class != Class::Always => {
                let (site, port) = (&self.site, cmd.port);
                let view = View { site, lun, port, now };
                self.persona.gate(&view, class)
            }
            _ => Ok(()),
        }
    }

    fn common(&self, now: u64, cmd: &Command) -> Reply {
        let Some(lun) = self.luns.get(&cmd.lun) else {
            return Sense::NO_LUN.into();
        };
        let (site, port) = (&self.site, cmd.port);
        let view = View { site, lun, port, now };
        let persona = self.persona.as_ref();
        match byte(&cmd.cdb, 0) {
            op::TEST_UNIT_READY | op::START_STOP_UNIT => Reply::good(),
            op::SYNCHRONIZE_CACHE_10 | op::SYNCHRONIZE_CACHE_16 => Reply::good(),
            op::REQUEST_SENSE => spc::request_sense(None, &cmd.cdb),
            op::INQUIRY => spc::inquiry(&view, persona, &cmd.cdb),
            op::REPORT_LUNS => spc::report_luns(&self.luns, cmd.port, &cmd.cdb),
            op::MODE_SENSE_6 | op::MODE_SENSE_10 => mode::sense(&view, persona, &cmd.cdb),
            op::READ_CAPACITY_10 => sbc::capacity_10(lun),
            op::SERVICE_ACTION_IN_16 if byte(&cmd.cdb, 1) & 0x1f == 0x10 => sbc::capacity_16(lun, &cmd.cdb),
            _ if sbc::extent(&cmd.cdb).is_some() => sbc::read_write(lun, cmd),
            _ => Sense::BAD_OPCODE.into(),
        }
    }
}

fn replaced(rule: &Rule, reply: Reply) -> Reply {
    match &rule.act {
        Act::Sense(s) => Reply::check(*s),
        Act::Status(s) => Reply::status(*s),
        Act::Response(r) => Reply::transport(*r),
        Act::Data(d) => Reply::data(d.clone()),
        Act::Hold | Act::Delay(_) | Act::Garbage => reply,
    }
}
