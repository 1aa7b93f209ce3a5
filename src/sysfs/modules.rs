//! What the kernel has: loaded modules, and whether it could load more; and which disk a SCSI device is.

use super::{Roots, plain};
use crate::fault::Errno;
use crate::files;
use crate::model::{DevName, Text, parse_unsigned, shorten};
use core::fmt::Write;

/// Is a module loaded? One that is built in shows only if it has parameters.
pub fn has_module(roots: &Roots, name: &str) -> bool {
    let mut path = Text::<64>::new();
    write!(path.as_mut_view(), "module/{name}").is_ok() && files::exists(&roots.sys, &path)
}

/// Is the kernel's device mapper there, a module or not?
pub fn has_mapper(roots: &Roots) -> bool {
    files::exists(&roots.sys, "class/misc/device-mapper")
}

/// Would the kernel find a program to load modules with (/proc/sys/kernel/modprobe)?
fn has_modprobe(roots: &Roots) -> bool {
    let mut room = [0u8; 257];
    let Ok(text) = files::read(&roots.proc, "sys/kernel/modprobe", &mut room) else { return false };
    let path = core::str::from_utf8(text).unwrap_or("").trim_ascii_end();
    path.starts_with('/') && files::exists(files::current_dir(), path)
}

/// Which of `names` (with underscores, 32 at most) the running kernel has, or could load, a bit each: what is loaded, what depmod's index
/// calls built in, and, where there is a program to load them with, what it calls a module (all of them, where that has no index). And
/// whether there was any index: without one, what is built in leaves no trace.
pub fn available(roots: &Roots, names: &[&str]) -> (u32, bool) {
    let (mut found, mut known) = (0, false);
    for (at, name) in names.iter().enumerate() {
        found |= u32::from(has_module(roots, name)) << at;
    }
    let mut room = [0u8; 4096];
    let release = files::read(&roots.proc, "sys/kernel/osrelease", &mut room).unwrap_or_default();
    let mut index = Text::<256>::new();
    let _ = write!(index.as_mut_view(), "/lib/modules/{}/modules.", core::str::from_utf8(release).unwrap_or_default().trim_ascii_end());
    let stem = index.len();
    for file in ["builtin", "dep"] {
        if file == "dep" && !has_modprobe(roots) {
            break;
        }
        shorten(&mut index, stem);
        let _ = index.push_str(file);
        // A line too long for the room is that of a module which needs some fifty others: none of ours.
        let read = files::lines(files::current_dir(), &index, &mut room, &mut |line| {
            let name = line.split(|&b| b == b':').next().unwrap_or(line);
            let name = name.rsplit(|&b| b == b'/').next().unwrap_or(name).split(|&b| b == b'.').next().unwrap_or(name);
            let same = |wanted: &str| name.iter().map(|&b| if b == b'-' { b'_' } else { b }).eq(wanted.bytes());
            found |= names.iter().position(|wanted| same(wanted)).map_or(0, |at| 1 << at);
            true
        });
        known |= read.is_ok();
        if file == "dep" && read.is_err() {
            return (u32::MAX, false);
        }
    }
    (found, known)
}

/// Is this major number device-mapper's (/proc/devices)?
pub fn dm_major(roots: &Roots) -> Option<u32> {
    let mut room = [0u8; 4096];
    let text = files::read(&roots.proc, "devices", &mut room).ok()?;
    let text = core::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| parse_unsigned(line.trim_ascii().strip_suffix(" device-mapper")?.trim_ascii()))
}

/// The disk of a SCSI device, from the `DEVPATH` of its uevent; `ENOENT` when it has none (any more).
pub fn disk_of_scsi(roots: &Roots, devpath: &str) -> Result<DevName, Errno> {
    // From the kernel, but it becomes a path: no way out of /sys.
    if !devpath.starts_with('/') || devpath.split('/').any(|part| part == "..") {
        return Err(Errno::INVAL);
    }
    let mut path = Text::<400>::new();
    write!(path.as_mut_view(), "{}/block", devpath.trim_start_matches('/')).map_err(|_| Errno::NAMETOOLONG)?;
    let dir = files::open_dir_at(&roots.sys, &path)?;
    let mut found = Err(Errno::NOENT);
    files::names(&dir, &mut |name| {
        found = plain(name).and_then(|name| DevName::try_from(name).map_err(|_| Errno::NAMETOOLONG));
        false
    })?;
    found
}
