//! Verbs on ports and whole SPs.

use super::{option, seconds};
use crate::array::Array;
use crate::fault::Link;
use crate::scsi::response;
use crate::site::{sp_by_letter, sp_letter};

pub(super) fn link(array: &mut Array, now: u64, verb: &str, words: &[&str]) -> Result<String, String> {
    let mut words = words.to_vec();
    let for_ms = option(&mut words, "for").map(seconds).transpose()?;
    let code = match option(&mut words, "response") {
        None | Some("bad-target") => response::BAD_TARGET,
        Some("transport-failure") => response::TRANSPORT_FAILURE,
        Some(n) => n.parse().map_err(|_| "bad response code")?,
    };
    if code == response::OK {
        return Err("response 0 would be success".into());
    }
    let after = words.last() == Some(&"after");
    if after {
        words.pop();
    }
    let [ports] = words[..] else {
        return Err(format!("{verb} PORTS"));
    };
    let link = match verb {
        "down" => Link::Down(code),
        "hang" => Link::Hung { after },
        _ => Link::Up,
    };
    for p in array.site.select(ports)? {
        // `release` ends a hang only, so that it never pulls up what was taken down.
        let hung = matches!(array.faults.link(p), Link::Hung { .. });
        if let Some(l) = array.faults.links.get_mut(p)
            && (verb != "release" || hung)
        {
            *l = link;
        }
    }
    if let Some(ms) = for_ms {
        let back = if verb == "hang" { "release" } else { "up" };
        if !matches!(verb, "down" | "hang") {
            return Err("for= goes with down and hang".into());
        }
        let id = array.timers.add(now.saturating_add(ms), None, format!("{back} {ports}"));
        return Ok(format!("timer {id}"));
    }
    Ok(String::new())
}

/// `sp a reboot`: what an upgrade of one SP looks like. NDU flag on, `ndu` seconds later its LUNs go
/// to the other SP (unless trespass=no) and its ports down, `down` seconds later the ports are up with
/// power-on attentions and the flag is off. The LUNs stay where they are: giving back is the host's.
pub(super) fn sp(array: &mut Array, now: u64, words: &[&str]) -> Result<String, String> {
    let mut words = words.to_vec();
    let ndu = option(&mut words, "ndu").map(seconds).transpose()?;
    let down = option(&mut words, "down").map(seconds).transpose()?.unwrap_or(10_000);
    let trespass = match option(&mut words, "trespass") {
        None | Some("yes") => true,
        Some("no") => false,
        Some(_) => return Err("trespass=yes|no".into()),
    };
    let [letter, step] = words[..] else {
        return Err("sp SP reboot [ndu=S] [down=S] [trespass=yes|no]".into());
    };
    let sp = sp_by_letter(letter).ok_or("bad SP")?;
    let name = sp_letter(sp).to_ascii_lowercase();
    if !array.site.ports.iter().any(|p| p.sp == sp) {
        return Err(format!("no SP {letter}"));
    }
    let has_ndu = array.persona.name() == "clariion";
    match step {
        "reboot" => {
            if has_ndu && ndu.is_some() {
                super::run(array, now, &format!("clariion ndu {name} on"))?;
            }
            let start = now.saturating_add(ndu.unwrap_or(0));
            let end = start.saturating_add(down);
            let gone = format!("sp {name} gone trespass={}", if trespass { "yes" } else { "no" });
            if start == now {
                super::run(array, now, &gone)?;
            } else {
                array.timers.add(start, None, gone);
            }
            array.timers.add(end, None, format!("sp {name} back"));
        }
        "gone" => {
            let other = array.site.ports.iter().find(|p| p.sp != sp).map(|p| p.sp);
            let owned: Vec<u16> = array.luns.values().filter(|l| l.owner == sp).map(|l| l.number).collect();
            if let (true, Some(to)) = (trespass, other) {
                for n in owned {
                    array.with_persona(now, 0, n, |p, ctx| p.moved(ctx, to, "SP reboot"));
                }
            }
            super::run(array, now, &format!("down sp={name}"))?;
        }
        "back" => {
            super::run(array, now, &format!("up sp={name}"))?;
            for p in array.site.select(&format!("sp={name}"))? {
                array.power_on(p);
            }
            if has_ndu {
                super::run(array, now, &format!("clariion ndu {name} off"))?;
            }
        }
        _ => return Err("sp SP reboot|gone|back".into()),
    }
    Ok(String::new())
}
