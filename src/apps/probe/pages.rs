//! The VPD pages of a disk, each decoded where its layout is known: identity, storage processors, owners.
//!
//! Asks for the pages that page 00 lists and, of arrays that keep theirs secret, for those that their checker asks for. Every page once,
//! however often it is listed.

use super::{Talk, fault};
use crate::apps::say;
use crate::apps::sheet::{Hex, Sheet};
use crate::conf::settings::{CheckerKind, Lookup};
use crate::engine::Cause;
use crate::engine::checker::{ArrayFault, emc::fault as emc_fault, rdac::fault as rdac_fault};
use crate::model::{PathFacts, Text, WwidOrigin};
use crate::wire::alua;
use crate::wire::emc::{self, Lun};
use crate::wire::inquiry::text;
use crate::wire::rdac::{self, VolumeAccess};
use crate::wire::scsi::{Command, DATA_LEN, SHORT_LEN};
use crate::wire::vpd::{self, Association, Designators};
use core::fmt::Write;

/// Designators that are shown of one page.
const DESIGNATORS: usize = 16;

/// One page, in full.
#[inline(never)]
fn page<'t>(talk: &'t mut Talk<'_>, code: u8) -> Result<&'t [u8], Cause> {
    // Twice only for the long ones: early devices do not know an allocation length above 255.
    let most = usize::from(SHORT_LEN);
    let data = talk.ask(&Command::vpd(code, SHORT_LEN))?;
    if data.len() >= most && vpd::declared_len(data) > most {
        return talk.ask(&Command::vpd(code, DATA_LEN));
    }
    Ok(talk.waiting.data())
}

#[inline(never)]
pub(super) fn all(sheet: &mut Sheet<'_>, talk: &mut Talk<'_>, facts: &PathFacts) {
    let mut wanted = [false; 256];
    let array: &[u8] = match talk.look.configuration.settings.path(facts).checker {
        CheckerKind::EmcClariion => &[emc::PAGE],
        CheckerKind::Rdac => &[rdac::SOFTWARE_VERSION, rdac::SUBSYSTEM, rdac::EXTENDED_DEVICE, rdac::VOLUME_ACCESS],
        _ => &[],
    };
    let mut want = |code: &u8| wanted[usize::from(*code)] = true;
    [vpd::SUPPORTED_PAGES, vpd::UNIT_SERIAL_NUMBER, vpd::DEVICE_IDENTIFICATION].iter().chain(array).for_each(&mut want);
    if let Ok(data) = page(talk, vpd::SUPPORTED_PAGES) {
        vpd::body(data, vpd::SUPPORTED_PAGES).unwrap_or(&[]).iter().for_each(want);
    }
    sheet.list("vpd");
    let mut slot = None;
    for (code, wanted) in (0..=255u8).zip(wanted) {
        if !wanted || talk.silent.is_some() {
            continue;
        }
        open(sheet, code);
        match page(talk, code) {
            Ok(data) => {
                decoded(sheet, code, data, facts, &mut slot);
                let declared = vpd::declared_len(data);
                if declared > data.len() {
                    sheet.put("cut", format_args!("{} of {declared} bytes", data.len()));
                }
            }
            Err(why) => fault(sheet, why),
        }
        sheet.close();
    }
    sheet.end();
}

fn open(sheet: &mut Sheet<'_>, code: u8) {
    let mut name = Text::<8>::new();
    let _ = write!(name.as_mut_view(), "vpd {code:02x}");
    sheet.open(&name, true);
    if let Sheet::Document(_) = sheet {
        sheet.text("page", name.get(4..).unwrap_or(""));
    }
}

/// `A`, `B`.
fn letter(sp: u8) -> &'static str {
    "ABCDEFGH".get(usize::from(sp)..usize::from(sp) + 1).unwrap_or("?")
}

fn wrong(sheet: &mut Sheet<'_>, fault: Option<ArrayFault>) {
    match fault {
        None => sheet.text("wrong", "nothing"),
        Some(fault) => sheet.with("wrong", &|out| say::array_fault(fault, out)),
    }
}

/// What a page says. `slot`: the controller, for the pages after the one that names it.
#[inline(never)]
fn decoded(sheet: &mut Sheet<'_>, code: u8, data: &[u8], facts: &PathFacts, slot: &mut Option<u8>) {
    let body = vpd::body(data, code).unwrap_or(&[]);
    let (key, number) = match code {
        vpd::SUPPORTED_PAGES => return sheet.with("pages", &|out| body.iter().take(64).try_for_each(|code| write!(out, " {code:02x}"))),
        vpd::UNIT_SERIAL_NUMBER => return sheet.text("serial", &text::<128>(body.trim_ascii_start())),
        vpd::DEVICE_IDENTIFICATION => return designators(sheet, data, facts),
        emc::PAGE => return clariion(sheet, data),
        rdac::VOLUME_ACCESS => return volume(sheet, data, *slot),
        rdac::SUBSYSTEM => {
            *slot = rdac::slot(data).ok();
            return sheet.text("controller", slot.map_or("?", letter));
        }
        rdac::SOFTWARE_VERSION => ("max_luns", rdac::max_luns(data)),
        rdac::EXTENDED_DEVICE => ("lun", rdac::lun(data)),
        _ => return sheet.number("bytes", data.len() as i32),
    };
    match number {
        Ok(number) => sheet.number(key, i32::from(number)),
        Err(_) => wrong(sheet, Some(ArrayFault::Malformed)),
    }
}

/// Page 83, a line for each designator, and the WWID that follows from them.
#[inline(never)]
fn designators(sheet: &mut Sheet<'_>, data: &[u8], facts: &PathFacts) {
    for designator in Designators::parse(data).into_iter().flatten().take(DESIGNATORS) {
        let Ok(d) = designator else {
            sheet.text("fault", "a designator reaches past the end of the page");
            break;
        };
        sheet.text(
            "names",
            match d.association {
                Association::LogicalUnit => "lun",
                Association::TargetPort => "port",
                Association::TargetDevice => "target",
                Association::Reserved => "?",
            },
        );
        const KINDS: [&str; 11] =
            ["vendor", "t10", "eui", "naa", "relative_port", "port_group", "lun_group", "md5", "scsi_name", "protocol", "uuid"];
        let kind = KINDS.get(usize::from(d.kind)).copied().unwrap_or("unknown");
        match (d.kind, d.code_set, d.data) {
            (4..=6, _, [_, _, hi, lo]) => sheet.number(kind, i32::from(u16::from_be_bytes([*hi, *lo]))),
            (_, 2 | 3, bytes) => sheet.text(kind, &text::<128>(bytes)),
            (_, _, bytes) => sheet.put(kind, format_args!("{}", Hex(bytes))),
        }
        sheet.close();
        open(sheet, vpd::DEVICE_IDENTIFICATION);
    }
    let wwid = vpd::wwid(data).unwrap_or_default();
    sheet.text("wwid", if wwid.is_empty() { "none" } else { &wwid });
    if facts.wwid_origin == WwidOrigin::Vpd83 && facts.wwid != wwid {
        sheet.text("wrong", "sysfs has another WWID");
    }
}

/// Page C0. Of a layout that is not known nothing is guessed.
#[inline(never)]
fn clariion(sheet: &mut Sheet<'_>, data: &[u8]) {
    let Ok(page) = emc::Page::parse(data) else { return wrong(sheet, Some(ArrayFault::Malformed)) };
    let owner = match page.lun {
        Lun::Owned => letter(page.sp),
        Lun::Bound => letter(page.sp ^ 1),
        Lun::Unbound | Lun::Unknown(_) => "none",
    };
    if page.revision == 0 {
        sheet.text("sp", letter(page.sp));
        sheet.number("port", i32::from(page.port));
        sheet.text("owner", owner);
        sheet.text("default_owner", letter(page.default_sp));
        let mode = match page.failover_mode {
            4 => " (passive not ready)",
            6 => " (ALUA)",
            _ => "",
        };
        sheet.put("failover_mode", format_args!("{}{mode}", page.failover_mode));
        sheet.number("initiator_type", i32::from(page.initiator_type));
        sheet.flag("array_comm_path", page.array_comm_path);
        sheet.put("wwn", format_args!("{}", Hex(&page.wwn)));
    }
    wrong(sheet, emc_fault(&page).map(ArrayFault::Emc));
}

/// Page C9.
#[inline(never)]
fn volume(sheet: &mut Sheet<'_>, data: &[u8], slot: Option<u8>) {
    let Ok(volume) = VolumeAccess::parse(data) else { return wrong(sheet, Some(ArrayFault::Malformed)) };
    let named = |here: bool| match (slot, here) {
        (Some(slot), here) => letter(slot ^ u8::from(!here)),
        (None, true) => "this controller",
        (None, false) => "the other controller",
    };
    sheet.text("owner", named(volume.owner));
    if matches!(volume.preference, 1 | 2) {
        sheet.text("default_owner", named(volume.preference == 1));
    }
    sheet.text(
        "mode",
        if volume.ioship {
            "I/O shipping"
        } else if volume.avt {
            "AVT"
        } else {
            "RDAC"
        },
    );
    if volume.tpgde {
        sheet.text("state", alua::word(alua::state(volume.state)));
        sheet.text("other_state", alua::word(alua::state(volume.alternate_state)));
    }
    wrong(sheet, rdac_fault(&volume).map(ArrayFault::Rdac));
}
