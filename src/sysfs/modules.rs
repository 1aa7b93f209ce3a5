//! What the kernel has: loaded modules, and whether it could load more; and which disk a SCSI device is.

use super::{Roots, plain};
use crate::fault::Errno;
use crate::files;
use crate::model::{DevName, Text};
use core::fmt::Write;

/// Is a module loaded? One that is built in shows only if it has parameters.
pub fn has_module(roots: &Roots, name: &str) -> bool {
    let mut path = Text::<64>::new();
    write!(path, "module/{name}").is_ok() && files::exists(&roots.sys, &path)
}

/// Which of these modules (names with `_`) the kernel could load or has built in, a bit each, by the lists of its depmod; `None` where
/// there are none.
pub fn loadable(roots: &Roots, names: &[&str]) -> Option<u32> {
    let able = has_modprobe(roots);
    let mut room = [0u8; 4096];
    let mut path = Text::<160>::new();
    let release = files::read(&roots.proc, "sys/kernel/osrelease", &mut room).ok().and_then(|text| core::str::from_utf8(text).ok());
    let written = write!(path, "/lib/modules/{}/modules.", release.unwrap_or("").trim());
    let (length, mut found, mut known) = (path.len(), 0u32, false);
    for list in ["dep", "builtin"] {
        if list == "dep" && !able {
            continue;
        }
        path.truncate(length);
        let _ = path.push_str(list);
        known |= written.is_ok()
            && files::lines(files::current_dir(), &path, &mut room, &mut |line| {
                let file = line.split(|&b| b == b':').next().unwrap_or(line);
                let file = file.rsplit(|&b| b == b'/').next().unwrap_or(file);
                let same = |name: &str| {
                    let (head, tail) = file.split_at_checked(name.len()).unwrap_or((&[], &[]));
                    tail.starts_with(b".ko") && head.iter().zip(name.bytes()).all(|(&a, b)| a == b || (a == b'-' && b == b'_'))
                };
                for (bit, _) in names.iter().enumerate().filter(|(_, name)| same(name)) {
                    found |= 1 << bit;
                }
                true
            })
            .is_ok();
    }
    known.then_some(found)
}

/// Would the kernel find a program to load modules with (/proc/sys/kernel/modprobe)?
fn has_modprobe(roots: &Roots) -> bool {
    let mut room = [0u8; 257];
    let Ok(text) = files::read(&roots.proc, "sys/kernel/modprobe", &mut room) else { return false };
    let path = core::str::from_utf8(text).unwrap_or("").trim_end();
    path.starts_with('/') && files::exists(files::current_dir(), path)
}

/// Is this major number device-mapper's (/proc/devices)?
pub fn dm_major(roots: &Roots) -> Option<u32> {
    let mut room = [0u8; 4096];
    let text = files::read(&roots.proc, "devices", &mut room).ok()?;
    let text = core::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.trim().strip_suffix(" device-mapper")?.trim().parse().ok())
}

/// The disk of a SCSI device, from the `DEVPATH` of its uevent; `ENOENT` when it has none (any more).
pub fn disk_of_scsi(roots: &Roots, devpath: &str) -> Result<DevName, Errno> {
    // From the kernel, but it becomes a path: no way out of /sys.
    if !devpath.starts_with('/') || devpath.split('/').any(|part| part == "..") {
        return Err(Errno::INVAL);
    }
    let mut path = Text::<400>::new();
    write!(path, "{}/block", devpath.trim_start_matches('/')).map_err(|_| Errno::NAMETOOLONG)?;
    let dir = files::open_dir_at(&roots.sys, &path)?;
    let mut found = Err(Errno::NOENT);
    files::names(&dir, &mut |name| {
        found = plain(name).and_then(|name| DevName::try_from(name).map_err(|_| Errno::NAMETOOLONG));
        false
    })?;
    found
}
