//! Verbs that only look.

use super::{filter, option};
use crate::array::Array;
use crate::fault::Link;
use crate::log::{hex, line};
use crate::scsi::op_name;
use crate::site::sp_letter;

pub(super) fn show(array: &Array, now: u64, what: &str) -> String {
    let mut lines = Vec::new();
    if what == "status" {
        lines.push(format!(
            "persona={} serial={} time={}.{:03} log={} lost={}",
            array.persona.name(),
            array.site.serial,
            now / 1000,
            now % 1000,
            array.log.next(),
            array.log.lost
        ));
    }
    if matches!(what, "status" | "ports") {
        for (i, p) in array.site.ports.iter().enumerate() {
            let link = match array.faults.link(i) {
                Link::Up => "up".to_string(),
                Link::Down(code) => format!("down response={code}"),
                Link::Hung { after: false } => "hung".to_string(),
                Link::Hung { after: true } => "hung after".to_string(),
            };
            lines.push(format!("port={} sp={} number={} group={} rtpi={} {link}", p.name, sp_letter(p.sp), p.number, p.group, p.rtpi));
        }
    }
    if matches!(what, "status" | "luns") {
        for l in array.luns.values() {
            let mut s = format!(
                "lun={} size={} block={} wwn={} serial={} owner={} default={} trespasses={}",
                l.number,
                l.store.size(),
                l.block,
                hex(&l.wwn),
                l.serial,
                sp_letter(l.owner),
                sp_letter(l.default_owner),
                l.trespasses
            );
            if l.stuck {
                s.push_str(" stuck");
            }
            if let Some(h) = l.reserved {
                s.push_str(&format!(" reserved={h:?}"));
            }
            if l.hidden != 0 {
                s.push_str(&format!(" hidden={:x}", l.hidden));
            }
            let own = array.persona.status(&array.site, l);
            if !own.is_empty() {
                s.push(' ');
                s.push_str(&own);
            }
            lines.push(s);
        }
    }
    if matches!(what, "status" | "rules") {
        for r in &array.faults.rules {
            lines.push(format!("rule {}", r.describe(&array.site)));
        }
    }
    if matches!(what, "status" | "timers") {
        for t in array.timers.list() {
            let left = t.due.saturating_sub(now);
            let again = t.every.map_or(String::new(), |e| format!(" every={}", e / 1000));
            lines.push(format!("timer id={} in={}.{:03}{again} {}", t.id, left / 1000, left % 1000, t.line));
        }
    }
    lines.join("\n")
}

pub(super) fn log(array: &mut Array, words: &[&str]) -> Result<String, String> {
    match words {
        ["clear"] => {
            array.log.clear();
            return Ok(String::new());
        }
        ["next"] => return Ok(array.log.next().to_string()),
        _ => {}
    }
    let mut words = words.to_vec();
    let number = |text: Option<&str>| match text.map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(n)) => Ok(Some(n)),
        Some(Err(_)) => Err("bad number".to_string()),
    };
    let since = number(option(&mut words, "since"))?.unwrap_or(0);
    let max = number(option(&mut words, "max"))?.unwrap_or(u64::MAX);
    let all = words.is_empty();
    let f = filter(array, &words)?;
    let hits: Vec<_> =
        array.log.entries().filter(|e| e.seq >= since).filter(|e| all || (!e.cdb.is_empty() && f.hits(e.port, e.lun, &e.cdb))).collect();
    // The newest of them: a test asks for what just happened.
    let skip = hits.len().saturating_sub(usize::try_from(max).unwrap_or(usize::MAX));
    let lines: Vec<String> = hits.iter().skip(skip).map(|e| line(&array.site, e)).collect();
    Ok(lines.join("\n"))
}

pub(super) fn counters(array: &mut Array, words: &[&str]) -> Result<String, String> {
    if words == ["reset"] {
        array.log.reset_counts();
        return Ok(String::new());
    }
    let f = filter(array, words)?;
    let lines: Vec<String> = array
        .log
        .counted(&f)
        .map(|((port, code), c)| {
            format!(
                "port={} op={} received={} good={} check={} transport={}",
                array.site.port_name(port),
                op_name(code),
                c.received,
                c.good,
                c.check,
                c.transport
            )
        })
        .collect();
    Ok(lines.join("\n"))
}

/// One number: commands received that match ports and opcodes since the start or the last reset;
/// with a LUN, page or LBA in the filter, those still in the log.
pub(super) fn count(array: &mut Array, words: &[&str]) -> Result<String, String> {
    let f = filter(array, words)?;
    if f.luns.is_none() && f.page.is_none() && f.lba.is_none() {
        return Ok(array.log.count(&f).received.to_string());
    }
    let n = array.log.entries().filter(|e| !e.cdb.is_empty() && f.hits(e.port, e.lun, &e.cdb)).count();
    Ok(n.to_string())
}

/// `N`: one number. Without: the sum over all LUNs.
pub(super) fn trespasses(array: &Array, words: &[&str]) -> Result<String, String> {
    let luns = array.pick_luns(words.first().unwrap_or(&"*"))?;
    let sum: u64 = luns.iter().filter_map(|n| array.luns.get(n)).map(|l| l.trespasses).sum();
    Ok(sum.to_string())
}
