//! Prioritizers by the administrator's own list: weightedpath (regular expressions) and iet (a preferred portal address).

use super::{Cause, Step, Subject, argument};
use crate::conf::ere;
use crate::fault::Full;
use crate::model::{PathFacts, Protocol, split_last};
use crate::wire::cursor::Cursor;

/// Most bytes of the text that `wwn` matches: host node, host port, target node, target port.
const WWN_LEN: usize = 64 + 64 + 224 + 64 + 3;

/// `hbtl|devname|serial|wwn` and pairs of expression and priority; the first that matches wins, else 0.
pub(super) fn weighted_path(subject: &Subject<'_>) -> Step {
    let mut words = subject.args.split_ascii_whitespace();
    let facts = subject.facts;
    let mut buffer = [0; WWN_LEN];
    let text = match words.next() {
        Some("hbtl") => written(&mut buffer, |c| hctl(facts, c)),
        Some("wwn") => written(&mut buffer, |c| wwn(facts, c)),
        Some("devname") => Some(facts.name.as_str()),
        Some("serial") => Some(facts.serial.as_str()),
        _ => None,
    };
    let Some(text) = text else { return Step::done(0, Cause::Arguments) };
    while let (Some(expression), Some(number)) = (words.next(), words.next()) {
        if ere::is_match(expression.as_bytes(), text.as_bytes()) {
            return Step::done(leading_number(number), Cause::Plain);
        }
    }
    Step::done(0, Cause::Plain)
}

/// The peer's atoi: what stands behind the digits is passed over, and no digits are 0.
fn leading_number(text: &str) -> i32 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    sign * digits.fold(0i32, |n, b| n.saturating_mul(10).saturating_add(i32::from(b - b'0')))
}

fn written(buffer: &mut [u8], write: impl FnOnce(&mut Cursor<'_>) -> Result<(), Full>) -> Option<&str> {
    let mut cursor = Cursor::new(buffer);
    write(&mut cursor).ok()?;
    let len = cursor.len();
    core::str::from_utf8(buffer.get(..len)?).ok()
}

fn hctl(facts: &PathFacts, out: &mut Cursor<'_>) -> Result<(), Full> {
    let Some(address) = facts.hctl else { return Ok(()) };
    out.push_decimal(u64::from(address.host))?;
    for part in [u64::from(address.channel), u64::from(address.target), address.lun] {
        out.push_str(":")?;
        out.push_decimal(part)?;
    }
    Ok(())
}

fn wwn(facts: &PathFacts, out: &mut Cursor<'_>) -> Result<(), Full> {
    out.push_str(&facts.host_node)?;
    for part in [facts.host_port.as_str(), facts.target_node.as_str(), facts.target_port.as_str()] {
        out.push_str(":")?;
        out.push_str(part)?;
    }
    Ok(())
}

/// `preferredip=ADDRESS`: 20 for the path whose session is connected to that address, 10 for others.
pub(super) fn iet(subject: &Subject<'_>) -> Step {
    match argument(subject.args, "preferredip") {
        Some(address) if !address.is_empty() => Step::done(if portal(subject.facts) == Some(address) { 20 } else { 10 }, Cause::Plain),
        _ => Step::done(0, Cause::Arguments),
    }
}

/// The address of an iSCSI session's portal (`address:port` in the facts).
fn portal(facts: &PathFacts) -> Option<&str> {
    if facts.protocol != Protocol::ScsiIscsi {
        return None;
    }
    let (address, _) = split_last(&facts.target_port, b':')?;
    Some(address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address))
}
