//! The kernel's dm answers as the engine's values: one device's header, status and table, and the list of all.

use super::tools::PartitionRoom;
use crate::dmioctl::Page;
use crate::engine::{LiveMap, PartitionSlot};
use crate::fault::Errno;
use crate::model::{DevNo, Sectors, UUID_PREFIX};
use crate::wire::dm::Reply;
use crate::wire::table::{Status, Table};

/// Is a device with this uuid a map of ours, or a partition of one?
pub fn ours(uuid: &[u8]) -> bool {
    uuid.starts_with(UUID_PREFIX.as_bytes()) || (uuid.starts_with(b"part") && uuid.windows(7).any(|w| w == b"-mpath-"))
}

/// The device number in an answer's header.
pub fn devno(page: &Page) -> Option<DevNo> {
    Reply::parse(&page.0).ok().map(|reply| reply.info().devno)
}

/// Builds the engine's value of a live device from an answer and hands it to `then`. `table`: the page holds the table line, else status
/// or header alone; `more`: a second page, with the table line.
pub fn with(page: &Page, table_line: bool, more: Option<&Page>, then: &mut dyn FnMut(Result<&LiveMap<'_>, Errno>)) {
    let Ok(reply) = Reply::parse(&page.0) else { return then(Err(Errno::IO)) };
    let info = reply.info();
    let (Ok(name), Ok(uuid)) = (core::str::from_utf8(info.name), core::str::from_utf8(info.uuid)) else { return then(Err(Errno::IO)) };
    let mut live = LiveMap {
        devno: info.devno,
        name,
        uuid,
        size: Sectors(0),
        read_only: info.flags.read_only(),
        suspended: info.flags.suspended(),
        inactive_table: info.flags.inactive(),
        deferred_remove: info.flags.deferred_remove(),
        open_count: info.open_count,
        event_nr: info.event_nr,
        table: None,
        status: None,
        linear: None,
    };
    let (mut table, mut status) = (None, None);
    let pages = [(Some(reply), table_line), (more.and_then(|more| Reply::parse(&more.0).ok()), true)];
    for (reply, is_table) in pages {
        let Some(Ok(line)) = reply.map(|reply| reply.only_line(None)) else { continue };
        live.size = line.length;
        match line.kind {
            b"multipath" => {
                let Ok(text) = line.text() else { continue };
                if is_table {
                    table = Table::parse(text).ok();
                } else {
                    status = Status::parse(text).ok();
                }
            }
            b"linear" if is_table => live.linear = line.linear().ok().or(live.linear),
            _ => {}
        }
    }
    live.table = table.as_ref();
    live.status = status.as_ref();
    then(Ok(&live));
}

/// Device number of entry `at` of a list, and whether it may be ours (kernels before 5.15 do not say: then it may).
pub fn entry(big: &[u8], at: usize) -> Option<(DevNo, bool)> {
    let entry = Reply::parse(big).ok()?.entries().nth(at)?.ok()?;
    Some((entry.devno, entry.uuid.is_none_or(ours)))
}

/// All entries that may be ours; false when the list was cut or malformed.
pub fn each(big: &[u8], tell: &mut dyn FnMut(DevNo, &str, u32)) -> bool {
    let Ok(reply) = Reply::parse(big) else { return false };
    for entry in reply.entries() {
        let Ok(entry) = entry else { return false };
        if entry.uuid.is_none_or(ours)
            && let Ok(name) = core::str::from_utf8(entry.name)
        {
            tell(entry.devno, name, entry.event_nr);
        }
    }
    complete(big)
}

/// Did all devices fit?
pub fn complete(big: &[u8]) -> bool {
    Reply::parse(big).is_ok_and(|reply| !reply.info().flags.buffer_full())
}

/// A partition table as the engine wants it.
pub fn partitions(room: &PartitionRoom, then: &mut dyn FnMut(&[PartitionSlot])) {
    let mut slots = heapless::Vec::<PartitionSlot, { super::tools::PARTITIONS }>::new();
    for p in &room.partitions {
        let _ = slots.push(PartitionSlot { number: p.number, start: p.start, length: p.length });
    }
    then(&slots);
}
