//! Verbs on LUNs.

use super::option;
use crate::array::{Array, Event, EventKind};
use crate::config::parse_size;
use crate::lun::{Effect, Holder, Lun};
use crate::persona::on_off;
use crate::rule::{parse_hex, parse_sense};
use crate::scsi::Sense;
use crate::site::sp_by_letter;
use crate::store::Store;

const HELP: &str = "\
lun N add size=SIZE [file=PATH] [block=N] [owner=SP] [quiet] | lun N del [quiet]
lun N|* map|unmap [PORTS] [quiet]   quiet: no unit attention 3F/0E
lun N|* resize SIZE [quiet] [event] quiet: no 2A/09; event: virtio event as well
lun N|* wwn HEX32|home [quiet]      quiet: no 3F/03
lun N|* trespass SP [by=NAME]       as another host or the administrator would
lun N|* owner SP | default SP       set without a trespass
lun N|* unbound|lunz|copying|inactive|stuck|read-only on|off
lun N|* reserve other|PORT | unreserve
lun N|* attention K/A/Q [PORTS]";

pub(super) fn lun(array: &mut Array, now: u64, words: &[&str]) -> Result<String, String> {
    let mut words = words.to_vec();
    if words.first() == Some(&"help") {
        return Ok(HELP.to_string());
    }
    let mut flag = |name: &str| {
        let at = words.iter().position(|w| *w == name);
        at.map(|i| words.remove(i)).is_some()
    };
    let (quiet, event) = (flag("quiet"), flag("event"));
    if words.get(1) == Some(&"add") {
        return add(array, now, words, quiet);
    }
    let Some((which, rest)) = words.split_first() else {
        return Err(HELP.into());
    };
    for n in array.pick_luns(which)? {
        one(array, now, n, rest, quiet, event)?;
    }
    Ok(String::new())
}

fn add(array: &mut Array, now: u64, mut words: Vec<&str>, quiet: bool) -> Result<String, String> {
    let size = option(&mut words, "size").map(parse_size).transpose()?;
    let file = option(&mut words, "file");
    let block = option(&mut words, "block").map_or(Ok(512), str::parse).map_err(|_| "bad block")?;
    let owner = option(&mut words, "owner").map_or(Some(0), sp_by_letter).ok_or("bad SP")?;
    let [number, "add"] = words[..] else {
        return Err(HELP.into());
    };
    let number: u16 = number.parse().map_err(|_| "bad lun")?;
    if array.luns.contains_key(&number) || number >= 0x4000 {
        return Err(format!("lun {number} exists or is out of range"));
    }
    let store = match (file, size) {
        (Some(path), size) => Store::open(path.as_ref(), size),
        (None, Some(size)) => Store::memory(size),
        (None, None) => return Err("size= or file= is needed".into()),
    };
    let store = store.map_err(|e| e.to_string())?;
    let lun = Lun::new(&array.site, number, block, store, owner);
    array.luns.insert(number, lun);
    if !quiet {
        luns_changed(array, now);
    }
    Ok(String::new())
}

fn luns_changed(array: &mut Array, now: u64) {
    everywhere(array, now, None, Sense::LUNS_CHANGED);
}

fn everywhere(array: &mut Array, now: u64, lun: Option<u16>, sense: Sense) {
    let except = None;
    array.apply(now, vec![Effect::Attention { lun, except, sense }]);
}

fn one(array: &mut Array, now: u64, n: u16, words: &[&str], quiet: bool, event: bool) -> Result<(), String> {
    let all: u64 = (0..array.site.ports.len().min(64)).fold(0, |m, p| m | 1 << p);
    let ports = |text: Option<&&str>| -> Result<u64, String> {
        match text {
            None => Ok(all),
            Some(t) => Ok(array.site.select(t)?.iter().fold(0, |m, p| m | 1 << p.min(&63))),
        }
    };
    match words {
        ["unmap" | "map", which @ ..] => {
            let mask = ports(which.first())?;
            if let Some(l) = array.luns.get_mut(&n) {
                match words[0] {
                    "map" => l.hidden &= !mask,
                    _ => l.hidden |= mask,
                }
            }
            if !quiet {
                luns_changed(array, now);
            }
        }
        ["del"] => {
            array.luns.remove(&n);
            if !quiet {
                luns_changed(array, now);
            }
        }
        ["attention", sense, which @ ..] => {
            let sense = parse_sense(sense).ok_or("bad sense")?;
            let mask = ports(which.first())?;
            for p in (0..64).filter(|p| mask >> p & 1 == 1) {
                array.attention(p, n, sense);
            }
        }
        ["resize", size] => {
            let size = parse_size(size)?;
            if let Some(l) = array.luns.get_mut(&n) {
                l.store.resize(size).map_err(|e| e.to_string())?;
            }
            if !quiet {
                everywhere(array, now, Some(n), Sense::CAPACITY_CHANGED);
            }
            if event {
                let kind = EventKind::Changed(0x2a, 0x09);
                for port in 0..array.site.ports.len() {
                    array.events.push_back(Event { port, lun: n, kind });
                }
            }
        }
        ["wwn", text] => {
            let home = array.luns.get(&n).map(|l| l.home_wwn).unwrap_or_default();
            let wwn = match *text {
                "home" => home,
                hex => {
                    let b = parse_hex(hex).ok_or("bad hex")?;
                    b.try_into().map_err(|_| "a WWN has 32 digits")?
                }
            };
            if let Some(l) = array.luns.get_mut(&n) {
                l.wwn = wwn;
            }
            if !quiet {
                everywhere(array, now, Some(n), Sense::INQUIRY_CHANGED);
            }
        }
        ["trespass", sp, rest @ ..] => {
            let to = sp_by_letter(sp).ok_or("bad SP")?;
            let by = option(&mut rest.to_vec(), "by").unwrap_or("another host");
            array.with_persona(now, 0, n, |p, ctx| p.moved(ctx, to, by));
        }
        _ => return simple(array, n, words),
    }
    Ok(())
}

/// What only sets a field of the LUN.
fn simple(array: &mut Array, n: u16, words: &[&str]) -> Result<(), String> {
    let holder = match words {
        ["reserve", "other"] => Some(Holder::Other),
        ["reserve", port] => match array.site.select(port)?[..] {
            [p] => Some(Holder::Port(p)),
            _ => return Err("reserve one port".into()),
        },
        _ => None,
    };
    let Some(l) = array.luns.get_mut(&n) else {
        return Err(format!("no lun {n}"));
    };
    match words {
        ["owner", sp] => l.owner = sp_by_letter(sp).ok_or("bad SP")?,
        ["default", sp] => l.default_owner = sp_by_letter(sp).ok_or("bad SP")?,
        ["unbound", v] => l.unbound = on_off(v)?,
        ["lunz", v] => l.lunz = on_off(v)?,
        ["copying", v] => l.copying = on_off(v)?,
        ["inactive", v] => l.inactive = on_off(v)?,
        ["stuck", v] => l.stuck = on_off(v)?,
        ["read-only", v] => l.read_only = on_off(v)?,
        ["reserve", _] => l.reserved = holder,
        ["unreserve"] => l.reserved = None,
        _ => return Err(HELP.into()),
    }
    Ok(())
}
