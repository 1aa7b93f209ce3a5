//! ALUA (SPC-4 5.11, 6.37, 6.45): access states per LUN and target port group, changed by the array
//! (implicit) or by SET TARGET PORT GROUPS (explicit), with a transition of any length.

use super::{Ctx, Persona, Step, View, on_off};
use crate::lun::{Effect, Lun};
use crate::scsi::{Class, Command, Reply, Sense, be16, be32, byte, op, put};
use crate::site::Site;
use std::collections::BTreeMap;

pub const OPTIMIZED: u8 = 0x0;
pub const NON_OPTIMIZED: u8 = 0x1;
pub const STANDBY: u8 = 0x2;
pub const UNAVAILABLE: u8 = 0x3;
pub const LBA_DEPENDENT: u8 = 0x4;
pub const OFFLINE: u8 = 0xe;
pub const TRANSITIONING: u8 = 0xf;

const STATES: &[(u8, &str)] = &[
    (OPTIMIZED, "optimized"),
    (NON_OPTIMIZED, "non-optimized"),
    (STANDBY, "standby"),
    (UNAVAILABLE, "unavailable"),
    (LBA_DEPENDENT, "lba-dependent"),
    (OFFLINE, "offline"),
    (TRANSITIONING, "transitioning"),
];

/// One group as REPORT TARGET PORT GROUPS shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub group: u16,
    pub state: u8,
    pub preferred: bool,
    /// Status code: 1 changed by STPG, 2 implicitly.
    pub status: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    state: u8,
    preferred: bool,
    status: u8,
    /// Transitioning until then, to that state, asked for through that port.
    pending: Option<(u64, u8, Option<usize>)>,
}

/// Whether RTPG knows the extended header; the two refusals that arrays were seen to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    On,
    Refused(Sense),
}

pub struct Alua {
    tpgs: u8,
    /// Supported states byte of RTPG.
    supported: u8,
    extended: Extended,
    /// Implicit transition time of the extended header, seconds.
    timeout: u8,
    /// How long an explicit transition takes, milliseconds.
    transition: u64,
    /// STPG is answered only when the transition is over.
    late: bool,
    /// The state that the others get when one group becomes optimized; None leaves them.
    demote: Option<u8>,
    /// READ CAPACITY is answered in standby (SPC leaves it to the array).
    standby_capacity: bool,
    groups: BTreeMap<(u16, u16), Group>,
}

impl Default for Alua {
    fn default() -> Alua {
        Alua {
            tpgs: 3,
            supported: 0xdf,
            extended: Extended::On,
            timeout: 60,
            transition: 0,
            late: false,
            demote: Some(NON_OPTIMIZED),
            standby_capacity: true,
            groups: BTreeMap::new(),
        }
    }
}

impl Alua {
    /// Before anything was said: the owner's groups are optimized, the default owner's preferred.
    fn group(&self, site: &Site, lun: &Lun, group: u16) -> Group {
        if let Some(g) = self.groups.get(&(lun.number, group)) {
            return *g;
        }
        let on = |sp| site.ports.iter().any(|p| p.group == group && p.sp == sp);
        Group { state: if on(lun.owner) { OPTIMIZED } else { NON_OPTIMIZED }, preferred: on(lun.default_owner), status: 0, pending: None }
    }

    fn table(&self, site: &Site, lun: &Lun) -> Vec<Entry> {
        let entry = |group| {
            let g = self.group(site, lun, group);
            Entry { group, state: if g.pending.is_some() { TRANSITIONING } else { g.state }, preferred: g.preferred, status: g.status }
        };
        site.groups().into_iter().map(entry).collect()
    }

    fn state(&self, view: &View) -> u8 {
        let Some(port) = view.site.port(view.port) else {
            return UNAVAILABLE;
        };
        let g = self.group(view.site, view.lun, port.group);
        if g.pending.is_some() { TRANSITIONING } else { g.state }
    }

    /// Starts or makes changes of one LUN. `by` is the port that asked, None the array itself.
    fn change(&mut self, ctx: &mut Ctx, wanted: &[(u16, u8)], by: Option<usize>, wait: u64) {
        let Some(lun) = ctx.luns.get(&ctx.lun) else {
            return;
        };
        let mut all: Vec<(u16, u8)> = wanted.to_vec();
        let promoted = wanted.iter().any(|w| w.1 == OPTIMIZED);
        if let (true, Some(demoted)) = (promoted, self.demote) {
            for e in self.table(ctx.site, lun) {
                let named = wanted.iter().any(|w| w.0 == e.group);
                if !named && self.group(ctx.site, lun, e.group).state == OPTIMIZED {
                    all.push((e.group, demoted));
                }
            }
        }
        let mut changed = false;
        for (group, state) in all {
            let mut g = self.group(ctx.site, lun, group);
            if g.state == state && g.pending.is_none() {
                continue;
            }
            changed = true;
            g.status = if by.is_some() { 1 } else { 2 };
            g.pending = Some((ctx.now.saturating_add(wait), state, by));
            self.groups.insert((ctx.lun, group), g);
        }
        if changed && wait > 0 {
            // SPC-4 5.11.2.5: the change into transitioning is a change, too.
            attention(ctx.fx, ctx.lun, by);
        }
        self.settle(ctx);
    }

    fn set_target_groups(&mut self, ctx: &mut Ctx, cmd: &Command) -> Step {
        if self.tpgs & 2 == 0 {
            return Step::Done(Sense::BAD_OPCODE.into());
        }
        let said = be32(&cmd.cdb, 6) as usize;
        let list = cmd.out.get(..said).unwrap_or(&cmd.out);
        let Some(wanted) = parse_stpg(list) else {
            return Step::Done(Sense::BAD_PARAMETER.into());
        };
        let groups = ctx.site.groups();
        let settable = |s: u8| matches!(s, 0..=3 | OFFLINE);
        if wanted.iter().any(|(g, s)| !groups.contains(g) || !settable(*s)) {
            return Step::Done(Sense::BAD_PARAMETER.into());
        }
        let Some(lun) = ctx.luns.get(&ctx.lun) else {
            return Step::Pass;
        };
        if lun.copying {
            return Step::Done(Sense::new(5, 0x04, 0).into());
        }
        if lun.stuck {
            return Step::Stuck(ctx.lun);
        }
        let wait = self.transition;
        self.change(ctx, &wanted, Some(ctx.port), wait);
        if self.late {
            return Step::Late(Reply::good(), wait);
        }
        Step::Done(Reply::good())
    }
}

fn attention(fx: &mut Vec<Effect>, lun: u16, except: Option<usize>) {
    fx.push(Effect::Attention { lun: Some(lun), except, sense: Sense::ACCESS_CHANGED });
}

/// The SET TARGET PORT GROUPS list: pairs of group and state. None when it has no whole descriptor.
pub fn parse_stpg(list: &[u8]) -> Option<Vec<(u16, u8)>> {
    let (found, rest) = list.get(4..)?.as_chunks::<4>();
    let found: Vec<(u16, u8)> = found.iter().map(|d| (be16(d, 2), d[0] & 0xf)).collect();
    (rest.is_empty() && !found.is_empty()).then_some(found)
}

/// REPORT TARGET PORT GROUPS. `timeout` None: the extended header is not offered.
pub fn rtpg(site: &Site, table: &[Entry], supported: u8, timeout: Option<u8>, cdb: &[u8]) -> Reply {
    let extended = byte(cdb, 1) >> 5 == 1;
    if byte(cdb, 1) >> 5 > 1 || (extended && timeout.is_none()) {
        return Sense::BAD_FIELD.into();
    }
    let mut d = vec![0u8; 4];
    if let (true, Some(t)) = (extended, timeout) {
        d.extend_from_slice(&[0x10, t, 0, 0]);
    }
    for e in table {
        let ports = site.ports.iter().filter(|p| p.group == e.group);
        let pref = if e.preferred { 0x80 } else { 0 };
        let [hi, lo] = e.group.to_be_bytes();
        let count = u8::try_from(ports.clone().count()).unwrap_or(u8::MAX);
        d.extend_from_slice(&[pref | e.state & 0xf, supported, hi, lo, 0, e.status, 0, count]);
        for p in ports.take(usize::from(count)) {
            let [hi, lo] = p.rtpi.to_be_bytes();
            d.extend_from_slice(&[0, 0, hi, lo]);
        }
    }
    let len = u32::try_from(d.len() - 4).unwrap_or(0);
    put(&mut d, 0, &len.to_be_bytes());
    Reply::data(d).cut(be32(cdb, 6) as usize)
}

fn state_by_name(text: &str) -> Option<u8> {
    if let Some((code, _)) = STATES.iter().find(|(_, n)| *n == text) {
        return Some(*code);
    }
    u8::from_str_radix(text.strip_prefix("0x")?, 16).ok().filter(|s| *s < 16)
}

impl Persona for Alua {
    fn name(&self) -> &'static str {
        "alua"
    }

    fn identity(&self, _view: &View) -> (&'static str, &'static str, &'static str) {
        ("COREPATH", "ALUA", "0001")
    }

    fn tpgs(&self) -> u8 {
        self.tpgs
    }

    /// SPC-4 5.11.2.4: what each state refuses, and how.
    fn gate(&self, view: &View, class: Class) -> Result<(), Sense> {
        let state = self.state(view);
        let refused = match class {
            Class::Always => false,
            Class::Ready | Class::Medium => true,
            Class::Capacity => state != STANDBY || !self.standby_capacity,
            Class::Other => state != STANDBY,
        };
        match state {
            STANDBY if refused => Err(Sense::STANDBY),
            UNAVAILABLE if refused => Err(Sense::UNAVAILABLE),
            OFFLINE if refused => Err(Sense::OFFLINE),
            TRANSITIONING if refused => Err(Sense::TRANSITION),
            _ => Ok(()),
        }
    }

    fn command(&mut self, ctx: &mut Ctx, cmd: &Command) -> Step {
        if self.tpgs == 0 {
            return Step::Pass;
        }
        match (byte(&cmd.cdb, 0), byte(&cmd.cdb, 1) & 0x1f) {
            (op::MAINTENANCE_IN, 0x0a) => {
                let Some(lun) = ctx.luns.get(&ctx.lun) else {
                    return Step::Pass;
                };
                let table = self.table(ctx.site, lun);
                let timeout = match self.extended {
                    Extended::On => Some(self.timeout),
                    Extended::Refused(s) if byte(&cmd.cdb, 1) >> 5 != 0 => {
                        return Step::Done(s.into());
                    }
                    Extended::Refused(_) => None,
                };
                Step::Done(rtpg(ctx.site, &table, self.supported, timeout, &cmd.cdb))
            }
            (op::MAINTENANCE_OUT, 0x0a) => self.set_target_groups(ctx, cmd),
            _ => Step::Pass,
        }
    }

    fn settle(&mut self, ctx: &mut Ctx) {
        let mut done = Vec::new();
        for ((lun, group), g) in &mut self.groups {
            if let Some((due, state, by)) = g.pending
                && due <= ctx.now
            {
                g.state = state;
                g.pending = None;
                done.push((*lun, *group, state, by));
            }
        }
        for (number, group, state, by) in done {
            attention(ctx.fx, number, by);
            let sp = ctx.site.ports.iter().find(|p| p.group == group);
            if let (OPTIMIZED, Some(sp)) = (state, sp.map(|p| p.sp)) {
                let by = if by.is_some() { "STPG" } else { "implicit" };
                crate::lun::move_lun(ctx.luns, number, sp, by, ctx.fx);
            }
        }
    }

    fn due(&self) -> Option<u64> {
        self.groups.values().filter_map(|g| g.pending.map(|p| p.0)).min()
    }

    fn moved(&mut self, ctx: &mut Ctx, to: u8, _by: &str) {
        let group = ctx.site.ports.iter().find(|p| p.sp == to).map(|p| p.group);
        if let Some(group) = group {
            self.change(ctx, &[(group, OPTIMIZED)], None, 0);
        }
    }

    fn control(&mut self, ctx: &mut Ctx, words: &[&str]) -> Result<String, String> {
        let seconds =
            |t: &str| -> Result<u64, String> { t.parse::<u64>().map(|s| s.saturating_mul(1000)).map_err(|_| format!("bad '{t}'")) };
        match *words {
            ["tpgs", v] => self.tpgs = v.parse::<u8>().ok().filter(|t| *t < 4).ok_or("0 to 3")?,
            ["supported", v] => {
                self.supported = u8::from_str_radix(v, 16).map_err(|_| "bad byte")?;
            }
            ["extended", "on"] => self.extended = Extended::On,
            ["extended", "off"] => self.extended = Extended::Refused(Sense::BAD_FIELD),
            ["extended", "off", "00"] => {
                self.extended = Extended::Refused(Sense::new(5, 0, 0));
            }
            ["timeout", v] => self.timeout = v.parse().map_err(|_| "seconds, 0 to 255")?,
            ["transition", v] => self.transition = seconds(v)?,
            ["late", v] => self.late = on_off(v)?,
            ["demote", "off"] => self.demote = None,
            ["demote", v] => self.demote = Some(state_by_name(v).ok_or("no such state")?),
            ["standby-capacity", v] => self.standby_capacity = on_off(v)?,
            ["pref", group, v, ref rest @ ..] => {
                let on = on_off(v)?;
                let group: u16 = group.parse().map_err(|_| "bad group")?;
                for n in alua_luns(ctx, rest)? {
                    if let Some(lun) = ctx.luns.get(&n) {
                        let mut g = self.group(ctx.site, lun, group);
                        g.preferred = on;
                        self.groups.insert((n, group), g);
                    }
                }
            }
            [group, state, ref rest @ ..] => {
                let group: u16 = group.parse().map_err(|_| "bad group")?;
                if !ctx.site.groups().contains(&group) {
                    return Err(format!("no group {group}"));
                }
                let state = state_by_name(state).ok_or("no such state")?;
                let mut wait = 0;
                let mut luns = Vec::new();
                for w in rest {
                    match w.strip_prefix("after=") {
                        Some(v) => wait = seconds(v)?,
                        None => luns.push(*w),
                    }
                }
                for n in alua_luns(ctx, &luns)? {
                    ctx.lun = n;
                    self.change(ctx, &[(group, state)], None, wait);
                }
            }
            _ => {
                return Err("alua GROUP STATE [lun=N] [after=S], pref GROUP on|off [lun=N], tpgs N, \
                            extended on|off [00], timeout S, transition S, late on|off, \
                            demote off|STATE, supported HEX, standby-capacity on|off"
                    .into());
            }
        }
        Ok(String::new())
    }

    fn status(&self, site: &Site, lun: &Lun) -> String {
        let mut s = format!("tpgs={}", self.tpgs);
        for e in self.table(site, lun) {
            let name = STATES.iter().find(|(c, _)| *c == e.state).map_or("?", |x| x.1);
            let star = if e.preferred { "*" } else { "" };
            s.push_str(&format!(" group{}={name}{star}", e.group));
        }
        s
    }
}

/// The LUNs a control verb means: `lun=N`, or all of them.
fn alua_luns(ctx: &Ctx, words: &[&str]) -> Result<Vec<u16>, String> {
    match words {
        [] => Ok(ctx.luns.keys().copied().collect()),
        [w] => match w.strip_prefix("lun=").map(str::parse::<u16>) {
            Some(Ok(n)) if ctx.luns.contains_key(&n) => Ok(vec![n]),
            _ => Err(format!("bad '{w}'")),
        },
        _ => Err("too many words".into()),
    }
}
