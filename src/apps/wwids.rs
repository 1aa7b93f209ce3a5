//! `multipath -a`, `-w` and `-W`: the wwids file. What stands there is claimed with one path (`find_multipaths strict` asks for nothing else).

use super::look::Look;
use super::setup::{self, Common};
use super::{Cx, DONE};
use crate::arena::Arena;
use crate::conf::names::{Form, emit, emit_header};
use crate::engine::Reason;
use crate::fault::Errno;
use crate::files;
use crate::wire::cursor::put;
use core::fmt::{self, Write};

/// What is done to the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edit {
    Add,
    Remove,
    /// The WWIDs of the live maps and no others.
    Reset,
}

/// The new file.
struct Text<'a> {
    room: &'a mut [u8],
    used: usize,
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        if end > self.room.len() {
            return Err(fmt::Error);
        }
        put(self.room, self.used, text.as_bytes());
        self.used = end;
        Ok(())
    }
}

const FILE: &str = "wwids";

/// Longer than any kernel name: what is no disk and no map is taken for a WWID from here on.
const SHORTEST_WWID: usize = 15;

/// Edits the file; `device` is a disk, a map or a WWID.
#[inline(never)]
pub fn edit(cx: &mut Cx<'_>, common: &Common<'_>, look: &Look, edit: Edit, device: &str) -> i32 {
    let engine = &look.machine.engine;
    let path = engine.find_path(device);
    let wwid = match (path, engine.find_map(device)) {
        (Some(path), _) if edit == Edit::Add && matches!(path.reason(), Reason::Blacklisted(_) | Reason::MissingProperty) => {
            return cx.fail(format_args!("multipath: {device} is blacklisted; 'corepath why {device}' names the rule"));
        }
        (Some(path), _) => path.wwid(),
        (None, Some(map)) => map.wwid(),
        (None, None) => device,
    };
    if edit != Edit::Reset && wwid.len() < SHORTEST_WWID {
        return cx.fail(format_args!("multipath: {device} is no disk with a WWID, no map and no WWID"));
    }
    // Without a device mapper there are no maps; one that refuses may have some.
    let refused = matches!(look.machine.hands.tools.refused, Some(Errno::ACCES | Errno::PERM));
    if edit == Edit::Reset && (!look.complete || refused) {
        return cx.fail(format_args!("multipath: not all maps could be looked at; the wwids file stays as it is"));
    }
    let maps = || engine.maps().filter(|map| map.live() && !map.wwid().is_empty());
    let written = files::open_dir(common.state_dir).map_err(|errno| (errno, false)).and_then(|dir| {
        let trouble = |errno| (errno, true);
        let held = crate::raw::AsFd::as_fd(&dir);
        files::lock(held).map_err(trouble)?;
        let size = files::size(&dir, FILE).unwrap_or(0) as usize;
        let mut arena = Arena::map(2 * size + 4096 + maps().count() * 256).map_err(trouble)?;
        let old = match setup::read(&mut arena, held, FILE) {
            Err(Errno::NOENT) => &[],
            old => old.map_err(trouble)?,
        };
        let room = arena.take(size + 1024 + maps().count() * 160, |_| 0u8).map_err(|_| trouble(Errno::NOMEM))?;
        let mut text = Text { room, used: 0 };
        let mut there = false;
        let mut fill = || {
            if edit == Edit::Reset || old.is_empty() {
                emit_header(&mut text, Form::Wwids)?;
            }
            if edit == Edit::Reset {
                return maps().try_for_each(|map| emit(&mut text, Form::Wwids, map.wwid(), ""));
            }
            for line in old.split_inclusive(|&b| b == b'\n') {
                let same = Form::Wwids.parse(line).is_some_and(|(known, _)| known == wwid);
                there |= same;
                if !same || edit == Edit::Add {
                    // Lines that nobody understands stay; a last one without its end gets it.
                    core::str::from_utf8(line).map_or(Err(fmt::Error), |line| text.write_str(line))?;
                    if !line.ends_with(b"\n") {
                        text.write_str("\n")?;
                    }
                }
            }
            if edit == Edit::Add && !there { emit(&mut text, Form::Wwids, wwid, "") } else { Ok(()) }
        };
        fill().map_err(|_| trouble(Errno::INVAL))?;
        let changes = edit == Edit::Reset || there == (edit == Edit::Remove);
        if changes {
            files::replace(&dir, FILE, text.room.get(..text.used).unwrap_or_default(), 0o600).map_err(trouble)?;
        }
        Ok(there)
    });
    let _ = match (written, edit) {
        (Err((errno, opened)), _) => {
            let (slash, file) = if opened { ("/", FILE) } else { ("", "") };
            return cx.fail(format_args!("multipath: {}{slash}{file}: {}", common.state_dir, errno.word().unwrap_or("error")));
        }
        (Ok(_), Edit::Add) => writeln!(cx.out, "wwid '{wwid}' added"),
        (Ok(true), Edit::Remove) => writeln!(cx.out, "wwid '{wwid}' removed"),
        (Ok(false), Edit::Remove) => writeln!(cx.out, "wwid '{wwid}' not in wwids file"),
        (Ok(_), Edit::Reset) => writeln!(cx.out, "successfully reset wwids"),
    };
    DONE
}
