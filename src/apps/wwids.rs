//! `multipath -a`, `-w` and `-W`: the wwids file. What stands there is claimed with one path (`find_multipaths strict` asks for nothing else).

use super::look::Look;
use super::setup::Common;
use super::{Cx, DONE, client};
use crate::arena::Arena;
use crate::conf::names::{Form, Names, emit, emit_header, leave_out};
use crate::engine::Reason;
use crate::fault::Errno;
use crate::files;
use crate::model::Text;
use crate::raw::{AsFd, OwnedFd};
use crate::wire::cursor::Cursor;
use core::fmt::{self, Write};

/// What is done to the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edit {
    Add,
    Remove,
    /// The WWIDs of the live maps and no others.
    Reset,
}

const FILE: &str = "wwids";

/// A file larger than this is not one.
const LARGEST: usize = 8 << 20;

/// Longer than any kernel name: what is no disk and no map is taken for a WWID from here on.
const SHORTEST_WWID: usize = 15;

/// Edits the file; `device` is a disk, a map or a WWID.
#[inline(never)]
pub fn edit(cx: &mut Cx<'_>, common: &Common<'_>, look: &Look, edit: Edit, device: &str) -> i32 {
    let engine = &look.machine.engine;
    let path = engine.find_path(device);
    let wwid = match (path, engine.find_map(device)) {
        (Some(path), _) if edit == Edit::Add && matches!(path.reason(), Reason::Blacklisted(_) | Reason::MissingProperty) => {
            return cx.fail(format_args!("{device} is blacklisted; 'corepath why {device}' names the rule"));
        }
        (Some(path), _) => path.wwid(),
        (None, Some(map)) => map.wwid(),
        (None, None) => device,
    };
    if edit != Edit::Reset && wwid.len() < SHORTEST_WWID {
        return cx.fail(format_args!("{device} is no disk with a WWID, no map and no WWID"));
    }
    // Without a device mapper there are no maps; one that refuses may have some.
    if edit == Edit::Reset && (!look.complete || look.hidden) {
        return cx.fail(format_args!("not all maps could be looked at; the wwids file stays as it is"));
    }
    let maps = || engine.maps().filter(|map| map.live() && !map.wwid().is_empty());
    let written = files::open_or_make_dir(common.state_dir).map_err(|errno| (errno, false)).and_then(|dir| {
        change(dir, edit, wwid, &mut |out| maps().try_for_each(|map| emit(out, Form::Wwids, map.wwid(), "")), maps().count())
            .map_err(|errno| (errno, true))
    });
    let _ = match (written, edit) {
        (Err((errno, opened)), _) => {
            let (slash, file) = if opened { ("/", FILE) } else { ("", "") };
            return cx.fail(format_args!("{}{slash}{file}: {}", common.state_dir, errno.word().unwrap_or("error")));
        }
        (Ok(_), Edit::Add) => writeln!(cx.out, "wwid '{wwid}' added"),
        (Ok(true), Edit::Remove) => writeln!(cx.out, "wwid '{wwid}' removed"),
        (Ok(false), Edit::Remove) => writeln!(cx.out, "wwid '{wwid}' not in wwids file"),
        (Ok(_), Edit::Reset) => writeln!(cx.out, "successfully reset wwids"),
    };
    // It reads the file with its configuration only.
    client::tell(cx, common, "reconfigure");
    DONE
}

/// Changes the file in `dir`; says whether `wwid` stood there. `live` writes the lines of so many `maps`.
fn change(dir: OwnedFd, edit: Edit, wwid: &str, live: &mut dyn FnMut(&mut dyn Write) -> fmt::Result, maps: usize) -> Result<bool, Errno> {
    files::lock(dir.as_fd())?;
    let size = match files::size(&dir, FILE) {
        Err(Errno::NOENT) => 0,
        size => size? as usize,
    };
    if size > LARGEST {
        return Err(Errno::OVERFLOW);
    }
    let full = |_| Errno::NOMEM;
    let mut arena = Arena::map(size + maps * 160 + 8192)?;
    let old = arena.take(size + 1, |_| 0u8).map_err(full)?;
    let length = match files::read(&dir, FILE, old) {
        Err(Errno::NOENT) => 0,
        text => text?.len(),
    };
    let there = Names::few(Form::Wwids, old.get(..length).unwrap_or_default()).contains(wwid);
    let room = arena.take(maps * 160 + 1024, |_| 0u8).map_err(full)?;
    let mut text = Cursor::new(room);
    match edit {
        Edit::Add if !there => {
            let mut head = Text::<192>::new();
            emit_header(&mut head, Form::Wwids).and_then(|()| emit(&mut text, Form::Wwids, wwid, "")).map_err(|_| Errno::INVAL)?;
            let length = text.len();
            files::append(&dir, FILE, head.as_bytes(), room.get(..length).unwrap_or_default(), &mut [0; 1024])?;
        }
        Edit::Remove if there => {
            let (left, _) = leave_out(Form::Wwids, old.get_mut(..length).unwrap_or_default(), wwid, "");
            files::replace(&dir, FILE, old.get(..left).unwrap_or_default(), 0o600)?;
        }
        Edit::Reset => {
            emit_header(&mut text, Form::Wwids).and_then(|()| live(&mut text)).map_err(|_| Errno::INVAL)?;
            let length = text.len();
            files::replace(&dir, FILE, room.get(..length).unwrap_or_default(), 0o600)?;
        }
        Edit::Add | Edit::Remove => {}
    }
    Ok(there)
}
