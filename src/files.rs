//! Whole files into caller's buffers, names of a directory, atomic replacement. Everything starts from a held directory.
//!
//! Bounded: a file larger than its buffer is an error, never a part of it taken for the whole. Never holds policy: which file, and
//! what is in it, is the caller's.
//!
//! System calls: openat, read, pread64, getdents64, newfstatat, write, fsync, renameat, unlinkat, close; mkdirat and symlinkat to install; fchdir and chroot to look into the
//! root of process 1 and back; clock_gettime (vDSO) and utimensat
//! where udev asks; faccessat at start only.

use crate::fault::Errno;
use crate::model::{Text, split_last};
use crate::raw::errno;
use crate::wire::cursor::try_put;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use heapless::String;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timestamps};

/// A name in a directory.
pub type FileName = Text<128>;

/// Opens a directory by its full path: at start only, later lookups could read a root disk that does not answer.
pub fn open_dir(path: &str) -> Result<OwnedFd, Errno> {
    open_dir_at(rustix::fs::CWD, path)
}

/// As [`open_dir`]; makes it where there is none.
#[inline(never)]
pub fn open_or_make_dir(path: &str) -> Result<OwnedFd, Errno> {
    open_dir(path).or_else(|errno| match errno {
        Errno::NOENT => make_dir(rustix::fs::CWD, path).and_then(|()| open_dir(path)),
        errno => Err(errno),
    })
}

/// Opens a directory under a held one.
pub fn open_dir_at(dir: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    open_at(dir.as_fd(), path, OFlags::DIRECTORY)
}

/// Waits until nobody else holds this directory's lock; it is held until the descriptor is closed.
pub fn lock(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::flock(dir, rustix::fs::FlockOperation::LockExclusive).map_err(errno)
}

/// Opens a file for reading. A FIFO in its place does not hold us up.
pub fn open_read(dir: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    open_at(dir.as_fd(), path, OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Opens by any flags; never inherited.
#[inline(never)]
pub fn open_at(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    named(path, |path| rustix::fs::openat(dir, path, OFlags::CLOEXEC | flags, Mode::empty()))
}

/// What is known of a name.
#[inline(never)]
pub fn stat(dir: BorrowedFd<'_>, path: &str, flags: AtFlags) -> Result<Stat, Errno> {
    named(path, |path| rustix::fs::statat(dir, path, flags))
}

/// Takes a name away.
#[inline(never)]
pub fn unlink(dir: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    named(path, |path| rustix::fs::unlinkat(dir, path, AtFlags::empty()))
}

/// Makes a symbolic link to `target`.
#[inline(never)]
pub fn symlink(target: &str, dir: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    named(target, |target| given(path, |path| rustix::fs::symlinkat(target, dir, path)))
}

/// Makes a directory where there is none by that name.
#[inline(never)]
pub fn make_dir(dir: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    match named(path, |path| rustix::fs::mkdirat(dir, path, Mode::from_raw_mode(0o755))) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Until when something is waited for, in seconds since 1970, 0 once that is over: what the file at `path` was last changed at, for the next
/// process that asks. Where there is none it is made, and its folder, with `wait`, for so many seconds from now on.
#[inline(never)]
pub fn deadline(dir: BorrowedFd<'_>, path: &str, wait: Option<u64>) -> Result<u64, Errno> {
    let mut time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let now = time.tv_sec;
    if let Some(seconds) = wait {
        // Only its time is ever asked for: it needs no permissions. A second more than is left of this one.
        let _ = split_last(path, b'/').map(|(folder, _)| make_dir(dir, folder));
        if let Ok(file) = open_at(dir, path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL) {
            time.tv_sec += seconds as i64 + 1;
            let _ = rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time });
        }
    }
    let until = stat(dir, path, AtFlags::SYMLINK_NOFOLLOW)?.st_mtime as u64;
    Ok(if until > now as u64 { until } else { 0 })
}

/// Where a link points, as much of it as fits.
#[inline(never)]
pub fn read_link<'b>(dir: BorrowedFd<'_>, path: &str, into: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let used = named(path, |path| rustix::fs::readlinkat_raw(dir, path, &mut *into))?;
    Ok(into.get(..used).unwrap_or(&[]))
}

/// Gives `path` to `call` as the kernel wants it: with a NUL at its end.
pub(crate) fn named<T>(path: &str, call: impl FnMut(&CStr) -> rustix::io::Result<T>) -> Result<T, Errno> {
    given(path, call).map_err(errno)
}

fn given<T>(path: &str, mut call: impl FnMut(&CStr) -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let mut answer = Err(rustix::io::Errno::INVAL);
    with_nul(path, &mut |path| answer = call(path)).and(answer)
}

/// One buffer, and one set of its checks, for all calls: rustix would make them for each. Only what is given on a command line can be long:
/// a worker has no room for it.
fn with_nul(path: &str, call: &mut dyn FnMut(&CStr)) -> rustix::io::Result<()> {
    if path.len() < 256 { copied::<256>(path, call) } else { copied::<4096>(path, call) }
}

#[inline(never)]
fn copied<const ROOM: usize>(path: &str, call: &mut dyn FnMut(&CStr)) -> rustix::io::Result<()> {
    use rustix::io::Errno;
    let mut room = [0; ROOM];
    try_put(&mut room, 0, path.as_bytes()).map_err(|_| Errno::NAMETOOLONG)?;
    let with_nul = room.get(..=path.len()).ok_or(Errno::NAMETOOLONG)?;
    call(CStr::from_bytes_with_nul(with_nul).map_err(|_| Errno::INVAL)?);
    Ok(())
}

/// The current directory, for paths given on the command line: before the seal only.
pub fn current_dir() -> BorrowedFd<'static> {
    rustix::fs::CWD
}

/// The root of process 1 and ours, where they differ: a process that was started in an initramfs has one that was emptied. `proc` is /proc,
/// held open: its name is gone as well.
fn roots(proc: BorrowedFd<'_>) -> Result<Option<[OwnedFd; 2]>, Errno> {
    let place = |dir: BorrowedFd<'_>, path: &str| open_at(dir, path, OFlags::PATH | OFlags::DIRECTORY);
    let both = [place(proc, "1/root")?, place(rustix::fs::CWD, "/")?];
    let [a, b] = [&both[0], &both[1]].map(|dir| rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino)));
    Ok((a.map_err(errno)? != b.map_err(errno)?).then_some(both))
}

/// Has process 1 gone on to another root?
pub fn left_behind(proc: impl AsFd) -> bool {
    roots(proc.as_fd()).is_ok_and(|roots| roots.is_some())
}

/// Calls `look` with the root of process 1 for "/". Nothing of it stays open.
pub fn in_host_root<T>(proc: impl AsFd, look: impl FnOnce() -> T) -> Result<T, Errno> {
    use rustix::process::{chroot, fchdir};
    let Some([host, own]) = roots(proc.as_fd())? else { return Ok(look()) };
    let here = open_at(rustix::fs::CWD, ".", OFlags::PATH | OFlags::DIRECTORY)?;
    fchdir(&host).and_then(|()| chroot(c".")).map_err(errno)?;
    let found = look();
    fchdir(&own).and_then(|()| chroot(c".")).and_then(|()| fchdir(&here)).map_err(errno)?;
    Ok(found)
}

/// Could a file be made in the directory `path`, by what is known of it and of its file system? Not after the seal.
pub fn writable(path: &str) -> Result<(), Errno> {
    named(path, |path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK))
}

/// Is there anything by that name?
pub fn exists(dir: impl AsFd, path: &str) -> bool {
    stat(dir.as_fd(), path, AtFlags::empty()).is_ok()
}

/// Bytes of a regular file; `EINVAL` for anything else.
pub fn size(dir: impl AsFd, path: &str) -> Result<u64, Errno> {
    let stat = stat(dir.as_fd(), path, AtFlags::empty())?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    if regular { u64::try_from(stat.st_size).map_err(|_| Errno::INVAL) } else { Err(Errno::INVAL) }
}

/// The directory of `path` below the directory `root`, those on the way made where they are missing, and the last name.
#[inline(never)]
fn way<'p>(root: &str, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
    let mut dir = open_dir(root)?;
    let (way, name) = split_last(path, b'/').unwrap_or(("", path));
    for part in way.split('/').filter(|part| !part.is_empty()) {
        make_dir(dir.as_fd(), part)?;
        dir = open_dir_at(&dir, part)?;
    }
    Ok((dir, name))
}

/// Puts `bytes` at `path` below the directory `root`, making the directories on the way, replacing what was there at once.
pub fn install(root: &str, path: &str, bytes: &[u8], mode: u32) -> Result<(), Errno> {
    let (dir, name) = way(root, path)?;
    replace(&dir, name, bytes, mode)
}

/// Makes a symbolic link to `target` in the same way; what was there is taken away first.
pub fn link(root: &str, path: &str, target: &str) -> Result<(), Errno> {
    let (dir, name) = way(root, path)?;
    let _ = unlink(dir.as_fd(), name);
    symlink(target, dir.as_fd(), name)
}

/// Reads until `into` is full or the file ends.
fn fill(fd: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize, Errno> {
    let mut used = 0;
    while let Some(rest @ [_, ..]) = into.get_mut(used..) {
        match rustix::io::read(fd, rest) {
            Ok(0) => break,
            Ok(count) => used += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(used)
}

/// A whole file; `EOVERFLOW` when it is larger than `into`.
pub fn read<'b>(dir: impl AsFd, path: &str, into: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let fd = open_read(dir, path)?;
    let used = fill(fd.as_fd(), into)?;
    if used == into.len() && fill(fd.as_fd(), &mut [0])? > 0 {
        return Err(Errno::OVERFLOW);
    }
    Ok(into.get(..used).unwrap_or_default())
}

/// The front of a sysfs attribute, as much as fits; for formats that carry their own length (VPD pages). An attribute comes in pieces of
/// whole pages but for the last: a shorter piece is the end, and is not asked for twice (there are thirty of them for each disk).
pub fn read_front<'b>(dir: impl AsFd, path: &str, into: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let fd = open_read(dir, path)?;
    let mut used = 0;
    while let Some(rest @ [_, ..]) = into.get_mut(used..) {
        let count = fill_once(fd.as_fd(), rest)?;
        used += count;
        if count == 0 || !count.is_multiple_of(4096) {
            break;
        }
    }
    Ok(into.get(..used).unwrap_or_default())
}

/// Reads an open file from its start: how a held sysfs attribute is read again, without any lookup. One system call; an attribute
/// is given in one piece.
pub fn reread(fd: impl AsFd, into: &mut [u8]) -> Result<&[u8], Errno> {
    loop {
        match rustix::io::pread(fd.as_fd(), &mut *into, 0) {
            Ok(count) => return Ok(into.get(..count).unwrap_or_default()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(errno(error)),
        }
    }
}

/// Calls `visit` for each line of a file of any size, without the newline, until it answers false. A line longer than `room` is
/// passed over and counted; the count is the answer.
pub fn lines(dir: impl AsFd, path: &str, room: &mut [u8], visit: &mut dyn FnMut(&[u8]) -> bool) -> Result<u32, Errno> {
    lines_of(open_read(dir, path)?, room, visit)
}

fn lines_of(fd: OwnedFd, room: &mut [u8], visit: &mut dyn FnMut(&[u8]) -> bool) -> Result<u32, Errno> {
    let (mut used, mut skipping, mut skipped) = (0, false, 0);
    loop {
        // Neither error can happen: the kernel gives no more than there is room for.
        let count = fill_once(fd.as_fd(), room.get_mut(used..).ok_or(Errno::INVAL)?)?;
        used += count;
        let mut rest = room.get(..used).ok_or(Errno::INVAL)?;
        while let (line, Some(next)) = split_line(rest) {
            if !core::mem::take(&mut skipping) && !visit(line) {
                return Ok(skipped);
            }
            rest = next;
        }
        if count == 0 {
            if !rest.is_empty() && !skipping {
                visit(rest);
            }
            return Ok(skipped);
        }
        let whole = used - rest.len();
        crate::order::move_to(room, 0, whole..used);
        used -= whole;
        if used == room.len() {
            skipped += u32::from(!skipping);
            skipping = true;
            used = 0;
        }
    }
}

/// The text before the first newline, and what comes after it if there is one.
fn split_line(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = text.splitn(2, |&b| b == b'\n');
    (parts.next().unwrap_or_default(), parts.next())
}

/// The next piece of an open file; 0 at its end.
pub fn fill_once(fd: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::read(fd, &mut *into) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(errno),
        }
    }
}

/// Calls `visit` for each name in a directory but `.` and `..`, in the kernel's order, until it answers false. The answer is the count
/// of names that are not UTF-8 and were passed over.
pub fn names(dir: impl AsFd, visit: &mut dyn FnMut(&str) -> bool) -> Result<u32, Errno> {
    // A second listing of the same descriptor would go on where the first ended.
    names_once(open_dir_at(dir, ".")?.as_fd(), visit)
}

/// As [`names`], for a directory that was opened to be listed this once.
pub fn names_once(dir: BorrowedFd<'_>, visit: &mut dyn FnMut(&str) -> bool) -> Result<u32, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = rustix::fs::RawDir::new(dir, &mut buffer);
    let mut odd = 0;
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(errno)?;
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) => {
                if !visit(name) {
                    break;
                }
            }
            Err(_) => odd += 1,
        }
    }
    Ok(odd)
}

/// Goes on from `last` to the next name that ends in `suffix`, in the order of their bytes; false: there is none. The directory is read for
/// each, as a list of them would not fit a worker's stack. `ENAMETOOLONG` for one longer than a [`FileName`]: a drop-in that is left out
/// would be a setting lost.
pub fn next_name(dir: BorrowedFd<'_>, suffix: &str, last: &mut FileName) -> Result<bool, Errno> {
    let (mut next, mut fits) = (FileName::new(), true);
    names(dir, &mut |name| {
        if name.ends_with(suffix) && name > last.as_str() && (next.is_empty() || name < next.as_str()) {
            next.clear();
            fits &= next.push_str(name).is_ok();
        }
        fits
    })?;
    let more = !next.is_empty();
    if more {
        *last = next;
    }
    if fits { Ok(more) } else { Err(Errno::NAMETOOLONG) }
}

/// Writes all of `bytes`.
pub fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd.as_fd(), bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(())
}

/// Puts `bytes` in the place of the file `name` in `dir`, all or nothing, on the disk when this returns: a new file is written and
/// synced, takes the name, and the directory is synced. A failure leaves the old file.
pub fn replace(dir: impl AsFd, name: &str, bytes: &[u8], mode: u32) -> Result<(), Errno> {
    put(dir.as_fd(), name, Mode::from_raw_mode(mode), &mut |fresh| write_all(fresh, bytes))
}

/// As [`replace`], with what the file holds now, whatever its size, and `more` after it. A new one, or an empty one, begins with `head`;
/// a new one is root's alone, as the peer's.
/// `room` is what it is copied through.
pub fn append(dir: impl AsFd, name: &str, head: &[u8], more: &[u8], room: &mut [u8]) -> Result<(), Errno> {
    let dir = dir.as_fd();
    let (old, mode) = match open_read(dir, name) {
        Ok(old) => {
            let mode = rustix::fs::fstat(&old).map_err(errno)?.st_mode;
            (Some(old), Mode::from_raw_mode(mode & 0o777))
        }
        Err(Errno::NOENT) => (None, Mode::from_raw_mode(0o600)),
        Err(errno) => return Err(errno),
    };
    put(dir, name, mode, &mut |fresh| {
        let mut last = None;
        while let Some(old) = &old {
            let count = fill_once(old.as_fd(), room)?;
            let Some(part @ [.., end]) = room.get(..count) else { break };
            last = Some(*end);
            write_all(fresh, part)?;
        }
        let between = match last {
            None => head,
            Some(b'\n') => b"",
            Some(_) => b"\n",
        };
        write_all(fresh, between)?;
        write_all(fresh, more)
    })
}

/// Puts what `write` writes in the place of a file.
#[inline(never)]
fn put(dir: BorrowedFd<'_>, name: &str, mode: Mode, write: &mut dyn FnMut(BorrowedFd<'_>) -> Result<(), Errno>) -> Result<(), Errno> {
    if name.is_empty() || name.contains('/') {
        return Err(Errno::INVAL);
    }
    let mut fresh = String::<255>::new();
    for part in [".", name, ".new"] {
        fresh.push_str(part).map_err(|_| Errno::NAMETOOLONG)?;
    }
    // One left behind by a crash is ours to take away; a link there is never followed.
    let _ = unlink(dir, &fresh);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // The umask may narrow the mode; setting it afterwards would be one more call for the seal to allow.
    let fd = named(&fresh, |fresh| rustix::fs::openat(dir, fresh, flags, mode))?;
    let result = write(fd.as_fd())
        .and_then(|()| rustix::fs::fsync(&fd).map_err(errno))
        .and_then(|()| named(&fresh, |fresh| given(name, |name| rustix::fs::renameat(dir, fresh, dir, name))));
    if result.is_err() {
        let _ = unlink(dir, &fresh);
        return result;
    }
    rustix::fs::fsync(dir).map_err(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, removed at the end.
    struct Place(std::path::PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let path = std::env::temp_dir().join(std::format!("corepath-files-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            Place(path)
        }
        fn fd(&self) -> OwnedFd {
            open_dir(self.0.to_str().unwrap()).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn whole_or_not_at_all() {
        let place = Place::new("whole");
        std::fs::write(place.0.join("a"), b"12345").unwrap();
        let mut room = [0u8; 5];
        assert_eq!(read(place.fd(), "a", &mut room), Ok(&b"12345"[..]));
        assert_eq!(read(place.fd(), "a", &mut room[..4]), Err(Errno::OVERFLOW));
        assert_eq!(read_front(place.fd(), "a", &mut room[..4]), Ok(&b"1234"[..]));
        assert_eq!(read(place.fd(), "b", &mut room), Err(Errno::NOENT));
        let held = open_read(place.fd(), "a").unwrap();
        assert_eq!(reread(&held, &mut room), Ok(&b"12345"[..]));
        std::fs::write(place.0.join("a"), b"6").unwrap();
        assert_eq!(reread(&held, &mut room), Ok(&b"6"[..]), "from the start again");
        assert!(exists(place.fd(), "a") && !exists(place.fd(), "b"));
    }

    #[test]
    fn lines_of_any_file() {
        let place = Place::new("lines");
        let long = "x".repeat(100);
        std::fs::write(place.0.join("a"), std::format!("one\n\n{long}\ntwo\n{long}{long}\nlast")).unwrap();
        for size in [17, 31, 64, 4096] {
            let mut room = std::vec![0u8; size];
            let mut seen = std::vec::Vec::new();
            let skipped = lines(place.fd(), "a", &mut room, &mut |line| {
                seen.push(line.len());
                true
            });
            if size == 4096 {
                assert_eq!((skipped, seen), (Ok(0), std::vec![3, 0, 100, 3, 200, 4]));
            } else {
                assert_eq!((skipped, seen), (Ok(2), std::vec![3, 0, 3, 4]), "{size}");
            }
        }
        let mut count = 0;
        lines(place.fd(), "a", &mut [0; 200], &mut |_| {
            count += 1;
            count < 2
        })
        .unwrap();
        assert_eq!(count, 2, "ends when told");
    }

    #[test]
    fn drop_ins_are_sorted_and_none_is_lost() {
        let place = Place::new("names");
        for name in ["20-b.conf", "10-a.conf", "x.conf~", "README"] {
            std::fs::write(place.0.join(name), b"").unwrap();
        }
        let list = |suffix| {
            let (dir, mut name, mut list) = (place.fd(), FileName::new(), std::vec::Vec::new());
            while next_name(dir.as_fd(), suffix, &mut name)? {
                list.push(std::string::String::from(name.as_str()));
            }
            Ok(list)
        };
        std::fs::write(place.0.join("15-c.conf"), b"").unwrap();
        assert_eq!(list(".conf").unwrap(), ["10-a.conf", "15-c.conf", "20-b.conf"]);
        assert_eq!(list(".none").unwrap(), [""; 0]);
        std::fs::write(place.0.join("y".repeat(140) + ".cnf"), b"").unwrap();
        assert_eq!(list(".cnf"), Err(Errno::NAMETOOLONG));
        let dir = place.fd();
        let count = |dir: &OwnedFd| {
            let mut count = 0;
            names(dir, &mut |_| {
                count += 1;
                true
            })
            .unwrap();
            count
        };
        assert_eq!((count(&dir), count(&dir)), (6, 6), "a held directory can be listed again");
    }

    #[test]
    fn replaced_whole() {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new("replace");
        std::fs::write(place.0.join("bindings"), b"old").unwrap();
        // What a crash left, as a link that must not be followed.
        std::fs::write(place.0.join("victim"), b"victim").unwrap();
        std::os::unix::fs::symlink("victim", place.0.join(".bindings.new")).unwrap();
        replace(place.fd(), "bindings", b"mpatha 3600\n", 0o644).unwrap();
        assert_eq!(std::fs::read_to_string(place.0.join("bindings")).unwrap(), "mpatha 3600\n");
        assert_eq!(std::fs::metadata(place.0.join("bindings")).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_to_string(place.0.join("victim")).unwrap(), "victim");
        assert!(!place.0.join(".bindings.new").exists());
        for bad in ["", "a/b", "../x"] {
            assert_eq!(replace(place.fd(), bad, b"", 0o600), Err(Errno::INVAL));
        }
        // Added to, in small pieces: what was there stays, byte by byte.
        for (old, new) in [("", "# head\nb 2\n"), ("# x\nä 1", "# x\nä 1\nb 2\n"), ("a 1\n", "a 1\nb 2\n")] {
            std::fs::write(place.0.join("bindings"), old).unwrap();
            append(place.fd(), "bindings", b"# head\n", b"b 2\n", &mut [0; 3]).unwrap();
            assert_eq!(std::fs::read_to_string(place.0.join("bindings")).unwrap(), new);
        }
        append(place.fd(), "fresh", b"# head\n", b"", &mut [0; 3]).unwrap();
        assert_eq!(std::fs::read_to_string(place.0.join("fresh")).unwrap(), "# head\n");
        std::fs::create_dir(place.0.join("dir")).unwrap();
        assert_eq!(append(place.fd(), "dir", b"", b"x", &mut [0; 3]), Err(Errno::ISDIR));
        assert!(replace(place.fd(), "dir", b"x", 0o600).is_err());
        assert!(!place.0.join(".dir.new").exists(), "nothing is left behind: {}", place.0.display());
    }
}
