//! The sentences: every typed note of the engine, every refusal and reason, in the words a person at a serial console needs: what
//! happened, to which disk, and what to do. The only place where the engine's values become prose.

use crate::engine::activate::{Ended, Why};
use crate::engine::checker::{ArrayFault, emc, rdac};
use crate::engine::{Cause, Difference, LAST_GRACE, Note, Reason, Refusal, Room, Step, Subject, What};
use crate::fault::Errno;
use crate::lockdown;
use crate::model::{DmPathState, PathState, SysState};
use core::fmt::{self, Write};

// Numbers are written as u32, u64, u8 or i32, whatever they are: each size has a quarter of a kilobyte of its own.

/// `EBUSY`, or `error 123`.
pub fn errno(errno: Errno, out: &mut dyn Write) -> fmt::Result {
    match errno.word() {
        Some(word) => out.write_str(word),
        None => write!(out, "error {}", u32::from(errno.0)),
    }
}

/// How much a person wants to see of it; syslog's numbers.
pub fn level(what: &What) -> u8 {
    match what {
        What::WwidChanged | What::NoUsablePath { .. } | What::LunGone | What::QueueExpired => 2,
        What::PathState { to: PathState::Down | PathState::Timeout | PathState::Disconnected, .. }
        | What::DmState { to: DmPathState::Failed, .. }
        | What::PortDown
        | What::OpenFailed(_)
        | What::StepFailed { .. }
        | What::StepOverdue(_)
        | What::SizeDiffers
        | What::TooManyPaths
        | What::AliasTaken
        | What::HandlerMissing
        | What::SelectorReplaced
        | What::Shaky
        | What::ActivationFailed(_)
        | What::ActivationSlow { .. }
        | What::OtherwiseNamed
        | What::Quarrel
        | What::ScanIncomplete
        | What::Full { .. }
        | What::Lost { .. }
        | What::PartitionInUse { .. }
        | What::MapVanished => 4,
        What::PathRefused(_) => 6,
        _ => 5,
    }
}

/// Why a path is as it is, with a colon in front; nothing where that is not known.
#[inline(never)]
pub fn cause(cause: Cause, out: &mut dyn Write) -> fmt::Result {
    match cause {
        Cause::Unknown | Cause::Good => Ok(()),
        Cause::Sense { key, asc, ascq } => {
            write!(out, ": sense {key:02x}/{asc:02x}/{ascq:02x}")?;
            write!(out, " ({})", crate::wire::sense::Sense { key, asc, ascq, deferred: false }.words())
        }
        Cause::Host(code) => write!(out, ": host byte {:#04x}{}", u64::from(code), host_words(code)),
        Cause::Status(status) => write!(out, ": SCSI status {status:#04x}{}", status_words(status)),
        Cause::Errno(e) => {
            out.write_str(": ")?;
            errno(e, out)
        }
        Cause::Sys(state) => write!(out, ": the device is {}", sys_words(state)),
        Cause::NoAnswer => out.write_str(": no answer within the checker's time"),
        Cause::Kernel => out.write_str(": the kernel said so after I/O"),
        Cause::Admin => out.write_str(": an administrator said so"),
        Cause::WwidChanged => out.write_str(": it is another LUN now"),
        Cause::Array(fault) => array_fault(fault, out),
        Cause::Driver(code) => write!(out, ": driver byte {:#04x}", u64::from(code)),
        Cause::ShortRead(bytes) => write!(out, ": only {bytes} bytes could be read"),
        Cause::Gone => out.write_str(": the device is gone"),
        Cause::Shaky => out.write_str(": it failed too often lately"),
    }
}

/// What is wrong with an array's path that answers, and the value that says so.
pub fn array_fault(fault: ArrayFault, out: &mut dyn Write) -> fmt::Result {
    let (words, value) = match fault {
        ArrayFault::Malformed => ("the array's reply is not the page that was asked for", None),
        ArrayFault::Emc(fault) => match fault {
            emc::Fault::Revision(v) => ("page C0 has a layout that is not known, revision", Some(v)),
            emc::Fault::InitiatorType(v) => ("this host is not registered as CLARiiON Open (3) but as initiator type", Some(v)),
            emc::Fault::FailoverMode(v) => ("failover mode is neither 4 (passive not ready) nor 6 (ALUA) but", Some(v)),
            emc::Fault::ArrayCommPathOff => ("arraycommpath is off for this host", None),
            emc::Fault::Unbound => ("no LUN is bound here", None),
            emc::Fault::State(v) => ("the LUN's owner state is not known:", Some(v)),
            emc::Fault::WwnChanged => ("it is another LUN now", None),
            emc::Fault::InactiveSnapshot => ("the LUN is an inactive snapshot", None),
            emc::Fault::Operations(v) => ("an upgrade of the storage processor is under way, code", Some(v)),
        },
        ArrayFault::Rdac(fault) => match fault {
            rdac::Fault::NotConnected => ("the volume is not mapped to this host", None),
            rdac::Fault::Unavailable(v) => ("the controller cannot serve the volume, reason", Some(v)),
            rdac::Fault::Transitioning => ("the controller is changing state", None),
            rdac::Fault::NotOwner => ("the other controller owns the volume", None),
        },
    };
    write!(out, ": {words}")?;
    value.map_or(Ok(()), |v| write!(out, " {v:#04x}"))
}

/// How an activation of ours ended when it did not come about.
fn activation(ended: Ended, out: &mut dyn Write) -> fmt::Result {
    let (words, why) = match ended {
        Ended::Owned | Ended::Taken => return Ok(()),
        Ended::Busy(why) => ("the array is busy, the LUN is not moved now", why),
        Ended::Refused(why) => ("could not be made active", why),
        Ended::Unverified(why) => ("was asked to become active, but does not show it", why),
    };
    out.write_str(words)?;
    match why {
        Why::Reply(reply) => cause(Cause::from(reply), out)?,
        why => out.write_str(match why {
            Why::NotListed => ": its target port group is not in the array's list",
            Why::ImplicitOnly => ": the array changes access states by itself only",
            Why::Transition => ": still in transition after the array's own time for it",
            Why::Offline => ": its target port group is offline",
            Why::NotOwner => ": the other controller still has it",
            _ => ": without end",
        })?,
    }
    out.write_str("; tried again later")
}

fn host_words(code: u16) -> &'static str {
    match code {
        1 => " (no connection)",
        2 => " (bus busy)",
        3 => " (timed out)",
        4 => " (bad target)",
        5 => " (aborted)",
        7 => " (internal error)",
        8 => " (reset)",
        0xe => " (transport disrupted)",
        0xf => " (transport failed fast)",
        0x14 => " (transport marginal)",
        _ => "",
    }
}

fn status_words(status: u8) -> &'static str {
    match status {
        0x02 => " (check condition)",
        0x08 => " (busy)",
        0x18 => " (reservation conflict)",
        0x28 => " (task set full)",
        0x40 => " (task aborted)",
        _ => "",
    }
}

fn sys_words(state: SysState) -> &'static str {
    match state {
        SysState::Unknown => "in a state sysfs does not tell",
        SysState::Created => "still being set up",
        SysState::Running => "running",
        SysState::Offline => "offline",
        SysState::TransportOffline => "offline because its transport is",
        SysState::Blocked => "blocked by its transport",
        SysState::Quiesce => "quiesced",
        SysState::Deleted => "being deleted",
    }
}

fn step_words(step: Step) -> &'static str {
    match step {
        Step::Create => "creating the map",
        Step::Load => "loading its table",
        Step::Resume => "resuming it",
        Step::Suspend => "suspending it",
        Step::Rename => "renaming it",
        Step::Remove => "removing it",
        Step::Clear => "clearing its inactive table",
        Step::Message => "sending it a message",
        Step::Read => "reading its status",
    }
}

/// What an errno of a step usually means and what to do about it.
fn step_advice(step: Step, errno: Errno) -> &'static str {
    match (step, errno) {
        (Step::Load, Errno::BUSY) => "; a path is mounted or held by someone else: 'corepath why DEV' says by whom",
        (Step::Load, Errno::INVAL) => "; the kernel's log names the word it did not take",
        (Step::Load, Errno::NXIO | Errno::NODEV) => "; a path went away meanwhile, it is tried again without it",
        (Step::Create, Errno::BUSY) => "; a map of that name or uuid exists already",
        (Step::Remove, Errno::BUSY) => "; it is open: unmount what uses it first",
        (_, Errno::ACCES | Errno::PERM) => "; root's capabilities are needed (CAP_SYS_ADMIN)",
        (_, Errno::NOMEM) => "; the kernel has no memory for it now, it is tried again",
        _ => "",
    }
}

fn differences(d: Difference, out: &mut dyn Write) -> fmt::Result {
    let words: [(&str, bool); 9] = [
        ("size", d.size),
        ("hardware handler", d.handler),
        ("path selector", d.selector),
        ("features", d.features),
        ("paths", d.members),
        ("groups", d.groups),
        ("best group", d.best_group),
        ("write protection", d.read_only),
        ("asked for", d.forced),
    ];
    let mut first = true;
    for (word, _) in words.iter().filter(|(_, set)| *set) {
        write!(out, "{}{word}", if first { "" } else { ", " })?;
        first = false;
    }
    Ok(())
}

/// The sentence of one note, without time and newline.
#[inline(never)]
pub fn sentence(note: &Note, subject: &Subject<'_>, out: &mut dyn Write) -> fmt::Result {
    if !subject.map.is_empty() {
        write!(out, "{}: ", subject.map)?;
    } else if !subject.wwid.is_empty() {
        write!(out, "{}: ", subject.wwid)?;
    }
    if !subject.path.is_empty() {
        write!(out, "path {} {}", subject.path, subject.devno)?;
        if let Some(hctl) = subject.hctl {
            write!(out, " [{hctl}]")?;
        }
        out.write_char(' ')?;
    }
    match note.what {
        What::PathFound => out.write_str("found"),
        What::PathLost => out.write_str("is gone from sysfs"),
        What::WwidChanged => {
            out.write_str("answers with another WWID: failed at once, nothing is written to it; check the array's LUN mapping")
        }
        What::PathState { from, to, cause: why } => {
            write!(out, "is {} (was {})", to.word(), from.word())?;
            cause(why, out)
        }
        What::DmState { to, by_us } => {
            out.write_str(match to {
                DmPathState::Active => "reinstated",
                DmPathState::Failed => "failed",
                DmPathState::Undefined => "has no state in the kernel",
            })?;
            out.write_str(if by_us { "" } else { " by the kernel" })
        }
        What::PathRefused(why) => {
            out.write_str("is left alone: ")?;
            reason(why, out)
        }
        What::SizeDiffers => out.write_str("has another size than its map: left out, as writing through it could lose data"),
        What::SizeChanged => out.write_str("changed its size"),
        What::OpenFailed(e) => {
            out.write_str("could not be opened: ")?;
            errno(e, out)
        }
        What::TooManyPaths => out.write_str("is one more than a map can carry: left out"),
        What::PrioChanged { from, to } => write!(out, "has priority {to} (was {from})"),
        What::Shaky => out.write_str("fails too often: held back"),
        What::Steady => out.write_str("is steady again"),
        What::PortDown => out.write_str("fails with every other path of its port: the port is probed, not each LUN behind it"),
        What::PortUp => out.write_str("answers again: all paths of its port are checked now"),
        What::MapAdopted => out.write_str("adopted as it is"),
        What::MapCreated => out.write_str("created"),
        What::MapReloaded(d) => {
            out.write_str("reloaded (")?;
            differences(d, out)?;
            out.write_char(')')
        }
        What::MapRenamed => out.write_str("renamed"),
        What::MapResized => out.write_str("resized"),
        What::MapRemoved => out.write_str("removed"),
        What::MapVanished => out.write_str("was removed by someone else"),
        What::MapRenamedByOther => out.write_str("was renamed by someone else; the new name stays"),
        What::MapResumed => out.write_str("was found suspended and is resumed"),
        What::AliasTaken => out.write_str("its alias is another map's, or no name for a map: the WWID is its name; give it another alias"),
        What::StepFailed { step, errno: e } => {
            write!(out, "{} failed: ", step_words(step))?;
            errno(e, out)?;
            out.write_str(step_advice(step, e))
        }
        What::StepOverdue(step) => write!(out, "{} takes longer than it should; what runs keeps running", step_words(step)),
        What::ReadOnly => out.write_str("a path is write protected: the map is read-only"),
        What::SelectorReplaced => {
            out.write_str("this kernel lacks the wanted path selector: another is used; load its module to change that")
        }
        What::HandlerMissing => {
            out.write_str("this kernel lacks the wanted hardware handler: the map runs without; load its scsi_dh module")
        }
        What::GroupSwitched { group } => write!(out, "group {group} is used now"),
        What::Activated => out.write_str("was made active: the kernel has no handler attached"),
        What::ActivationFailed(ended) => activation(ended, out),
        What::ActivationSlow { secs } => write!(
            out,
            "its LUN is being moved between controllers for {secs} s without end: its I/O waits, and so does every map that the kernel has to \
             activate after it; look at the array"
        ),
        What::Quarrel => out.write_str(
            "another host took the LUN back: it is left there until a path of this map fails or comes, or 'corepath switch-group'; \
             give both hosts the same preferred controller, or use failback followover",
        ),
        What::OtherwiseNamed => {
            out.write_str("its disks have another WWID than it was made with (another uid_attribute?): left as it is, no path is checked")
        }
        What::ScanIncomplete => out.write_str("a disk in /sys cannot be read: left out; 'corepath scan' lists the others"),
        What::NoUsablePath { queueing: true } => out.write_str("NO USABLE PATH: I/O waits"),
        What::NoUsablePath { queueing: false } => out.write_str("NO USABLE PATH: I/O fails"),
        What::UsableAgain => out.write_str("has a usable path again"),
        What::QueueExpired => out.write_str("no path came back in time: I/O fails from now on"),
        What::GoingDown { on: true } => {
            write!(out, "the machine goes down: no map waits longer than {} s for a path from now on", LAST_GRACE.as_secs())
        }
        What::GoingDown { on: false } => out.write_str("maps without a path wait as no_path_retry says again"),
        What::QueueingOff => out.write_str("queueing is off"),
        What::QueueingOn => out.write_str("queueing is on"),
        What::LunGone => {
            out.write_str("the array says on every path that the LUN is gone or inactive: it is not waited for; check the LUN's mapping")
        }
        What::PartitionInUse { number } => {
            write!(out, "keeps its partition {number}, which is in use: what uses it sees one path only and should use the map's")
        }
        What::PartitionsFound { count } => write!(out, "{} partition{} found", u32::from(count), if count == 1 { "" } else { "s" }),
        What::PartitionMade { number } => write!(out, "partition {number} made"),
        What::PartitionRemoved { number } => write!(out, "partition {number} removed"),
        What::Full { what, refused } => write!(
            out,
            "refused: no room for another {} (so far {refused}); start again with room for more",
            match what {
                Room::Paths => "path",
                Room::Maps => "map",
                Room::Partitions => "partition",
                Room::Ports => "target port",
                Room::Profiles => "set of settings",
            }
        ),
        What::Lost { count } => write!(out, "lost {count} messages"),
    }
}

/// Why a disk is ours or not.
pub fn reason(reason: Reason, out: &mut dyn Write) -> fmt::Result {
    out.write_str(reason_row(reason).1)
}

/// The reason's code for scripts and its sentence.
pub fn reason_row(reason: Reason) -> (&'static str, &'static str) {
    use crate::conf::settings::Stage;
    match reason {
        Reason::Unknown => ("unknown", "not looked at yet"),
        Reason::LiveMap => ("live-map", "a live map has its WWID"),
        Reason::Named => ("named", "its WWID is named (command line, multipaths section or wwids file)"),
        Reason::SeveralPaths => ("several-paths", "two or more paths with the same identity come through different ports"),
        Reason::Greedy => ("greedy", "find_multipaths takes every disk that is not blacklisted"),
        Reason::Asked => ("asked", "an administrator asked for it"),
        Reason::SmartWait => ("smart-wait", "find_multipaths smart waits a while for a second path"),
        Reason::SinglePath => ("single-path", "only one path, and its WWID is not named"),
        Reason::SamePort => ("same-port", "several paths, but all through one port"),
        Reason::Strict => ("strict", "find_multipaths strict: neither named nor live"),
        Reason::Blacklisted(Stage::Property) => ("blacklisted-property", "blacklisted by a udev property"),
        Reason::Blacklisted(Stage::Devnode) => ("blacklisted-devnode", "blacklisted by its device name"),
        Reason::Blacklisted(Stage::Device) => ("blacklisted-device", "blacklisted by vendor and product"),
        Reason::Blacklisted(Stage::Protocol) => ("blacklisted-protocol", "blacklisted by its transport"),
        Reason::Blacklisted(Stage::Wwid) => ("blacklisted-wwid", "blacklisted by its WWID"),
        Reason::MissingProperty => ("missing-property", "no udev property of the exceptions list allows it"),
        Reason::WeakIdentity => {
            ("weak-identity", "its identity is no NAA or EUI name: two disks could share it, so it is claimed only when named")
        }
        Reason::Lunz => ("lunz", "LUNZ, an array's placeholder for a LUN that is not there"),
        Reason::NoIdentity => ("no-identity", "no WWID, or one of blanks or zeros: it cannot be told from others"),
        Reason::Virtual => ("virtual", "virtual, or of a kind that has no paths"),
        Reason::NativeNvme => ("native-nvme", "the kernel's own NVMe multipath has it"),
        Reason::Usb => ("usb", "a USB disk (allow_usb_devices is no)"),
        Reason::Removable => ("removable", "removable medium"),
        Reason::NoSize => ("no-size", "its size is zero or not known"),
        Reason::SizeDiffers => ("size-differs", "its size is not its map's"),
        Reason::InUse => ("in-use", "it or another path of its LUN is mounted, swapped on, or held by another driver"),
        Reason::TakenOut => ("taken-out", "an administrator took it out"),
        Reason::NoRoom => ("no-room", "no room left for it"),
    }
}

/// A step of the seal that failed, and what it needs.
pub fn seal(step: lockdown::Step, failed: Errno, out: &mut dyn Write) -> fmt::Result {
    let word = lockdown::STEPS.iter().find(|row| row.0 == step).map_or("", |row| row.1);
    write!(out, "seal: {word} failed: ")?;
    errno(failed, out)?;
    out.write_str(match step {
        lockdown::Step::Memory => "; CAP_IPC_LOCK or LimitMEMLOCK=infinity is needed, or an outage of the root disk may hang this process",
        lockdown::Step::IoFlusher => "; CAP_SYS_RESOURCE and Linux 5.6 are needed",
        lockdown::Step::Realtime => "; CAP_SYS_NICE is needed",
        _ => "",
    })
}

/// Why a request was not carried out.
pub fn refusal(refusal: Refusal, out: &mut dyn Write) -> fmt::Result {
    out.write_str(match refusal {
        Refusal::NoSuchMap => "no such map",
        Refusal::NoSuchPath => "no such path",
        Refusal::NoSuchGroup => "no such group",
        Refusal::Blacklisted => "blacklisted",
        Refusal::NoIdentity => "the disk has no WWID",
        Refusal::InUse => "map or partition in use",
        Refusal::NoMap => "the path is in no map",
        Refusal::SizesDiffer => "the paths disagree on the size",
        Refusal::Kernel(e) => {
            out.write_str("the kernel refused: ")?;
            return errno(e, out);
        }
        Refusal::NoUsablePath => "not while a map has no usable path",
        Refusal::TimedOut => "timeout",
        Refusal::Full => "no room",
        Refusal::ShuttingDown => "shutting down",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn an_array_says_what_is_wrong() {
        let say = |fault| {
            let mut out = String::new();
            array_fault(fault, &mut out).unwrap();
            out
        };
        let upgrade = say(ArrayFault::Emc(emc::Fault::Operations(1)));
        assert_eq!(upgrade, ": an upgrade of the storage processor is under way, code 0x01");
        assert_eq!(say(ArrayFault::Rdac(rdac::Fault::NotOwner)), ": the other controller owns the volume");
    }
}
