//! The configuration's files as they are now, and what they say. Two steps: one reads the texts into memory, which may wait for the disk that they
//! are on for as long as that disk is away, so that in the daemon a worker does it; the other makes settings of them, and asks the kernel nothing.

use super::setup::{Common, Trouble};
use crate::arena::{self, Arena};
use crate::conf::complaint::{Complaint, Report};
use crate::conf::effective::Settings;
use crate::conf::names::{Form, Names};
use crate::conf::parse::{self, Entry, Room, Section, Source};
use crate::fault::Errno;
use crate::files;
use crate::raw::{AsFd, BorrowedFd};

/// A configuration file larger than this is not one.
const LARGEST_FILE: u64 = 8 << 20;

/// Where they are.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    pub config: &'a str,
    pub config_dir: &'a str,
    pub state_dir: &'a str,
    pub proc: &'a str,
    /// The first was named on the command line: it must be there.
    pub given: bool,
}

impl<'a> Places<'a> {
    pub fn of(common: &Common<'a>) -> Places<'a> {
        let Common { config, config_dir, state_dir, proc, config_given: given, .. } = *common;
        Places { config, config_dir, state_dir, proc, given }
    }

    /// Bytes for [`Places::keep`].
    pub fn size(&self) -> usize {
        [self.config, self.config_dir, self.state_dir, self.proc].iter().map(|text| text.len()).sum::<usize>() + size_of::<Places<'_>>() + 8
    }

    /// The same for as long as the memory lives.
    pub fn keep<'m>(&self, arena: &mut Arena<'m>) -> Result<&'m Places<'m>, Errno> {
        let mut kept = Places { config: "", config_dir: "", state_dir: "", proc: "", given: self.given };
        let to = [&mut kept.config, &mut kept.config_dir, &mut kept.state_dir, &mut kept.proc];
        for (to, text) in to.into_iter().zip([self.config, self.config_dir, self.state_dir, self.proc]) {
            let bytes = arena.gather(text.bytes()).map_err(|_| Errno::NOMEM)?;
            *to = core::str::from_utf8(bytes).unwrap_or("");
        }
        Ok(arena.put(kept).map_err(|_| Errno::NOMEM)?)
    }
}

/// A configuration with the memory it lives in.
pub struct Configuration<'m> {
    pub settings: Settings<'m>,
    pub report: Report<'m>,
    pub files: &'m [Source<'m>],
    /// The kernel's command line, split at blanks.
    pub words: &'m [&'m str],
}

/// Calls `visit` for each drop-in, in their order.
fn drop_ins(places: &Places<'_>, visit: &mut dyn FnMut(BorrowedFd<'_>, &str) -> Result<(), Errno>) -> Result<(), Errno> {
    let Ok(dir) = files::open_dir(places.config_dir) else { return Ok(()) };
    let mut name = files::FileName::new();
    while files::next_name(dir.as_fd(), ".conf", &mut name)? {
        visit(dir.as_fd(), &name)?;
    }
    Ok(())
}

/// Bytes that a file needs: its text twice (quoted values are written anew), and for each line a section, an entry and their slots.
fn size_of_file(dir: BorrowedFd<'_>, name: &str, lines: &mut usize) -> usize {
    let size = files::size(dir, name).unwrap_or(0);
    if size == 0 || size >= LARGEST_FILE {
        return 0;
    }
    let (mut room, before) = ([0u8; 1024], *lines);
    let long = files::lines(dir, name, &mut room, &mut |line| {
        *lines += usize::from(!line.is_empty());
        true
    });
    *lines += long.unwrap_or(0) as usize;
    const LINE: usize = size_of::<Section>() + size_of::<Entry<'_>>() + 4 * size_of::<u32>();
    size as usize * 2 + (*lines - before) * LINE
}

/// What an administrator adds to a small configuration.
const SMALL_CONFIGURATION: usize = 32 * 1024;

/// Bytes of memory that the configuration needs, should its files not grow much.
pub fn configuration_size(common: &Common<'_>) -> usize {
    let mut lines = 4;
    let mut total = size_of_file(files::current_dir(), common.config, &mut lines);
    // What is wrong with one is said by whoever reads it.
    let _ = drop_ins(&Places::of(common), &mut |dir, name| {
        total += size_of_file(dir, name, &mut lines);
        Ok(())
    });
    if let Ok(state) = files::open_dir(common.state_dir) {
        total += ["bindings", "wwids"].iter().map(|name| size_of_file(state.as_fd(), name, &mut lines)).sum::<usize>();
    }
    // A quarter more.
    SMALL_CONFIGURATION + total + total / 4 + common.complaints.min(lines * 2) * size_of::<Complaint<'_>>()
}

/// Bytes for each of the two readings of a daemon: room for the files to become twice as large before the next start. What does not fit
/// then is a complaint, and the old one stays.
pub fn half_size(common: &Common<'_>) -> usize {
    configuration_size(common) * 2 - SMALL_CONFIGURATION
}

/// Texts in one memory, one behind the other, each with its length before it.
struct Writer<'a> {
    room: &'a mut [u8],
    used: usize,
}

impl Writer<'_> {
    /// Adds what `fill` puts at the front of the room that is left.
    fn add(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<(), Errno> {
        let rest = self.room.get_mut(self.used..).unwrap_or_default();
        let (head, rest) = rest.split_first_chunk_mut().ok_or(Errno::NOMEM)?;
        let length = fill(rest)?;
        *head = length.to_ne_bytes();
        self.used += head.len() + length;
        Ok(())
    }

    #[inline(never)]
    fn text(&mut self, text: &str) -> Result<(), Errno> {
        self.add(&mut |room| {
            room.get_mut(..text.len()).ok_or(Errno::NOMEM)?.copy_from_slice(text.as_bytes());
            Ok(text.len())
        })
    }

    #[inline(never)]
    fn file(&mut self, dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        self.add(&mut |room| {
            // What is no regular file has no size; what there is no permission for answers that when it is opened.
            let size = files::size(dir, name)?;
            if size >= LARGEST_FILE {
                return Err(Errno::OVERFLOW);
            }
            // One byte to spare tells that nothing follows.
            let room = room.get_mut(..size as usize + 1).ok_or(Errno::NOMEM)?;
            Ok(files::read(dir, name, room)?.len())
        })
    }

    /// A hint: it need not be there. One that is there and not heard would give an alias away that has its LUN.
    fn hint(&mut self, read: Result<(), Errno>) -> Result<(), Trouble<'static>> {
        match read {
            Err(Errno::NOMEM | Errno::OVERFLOW) => Err(Trouble::Memory),
            Err(_) => self.text("").map_err(|_| Trouble::Memory),
            Ok(()) => Ok(()),
        }
    }
}

/// Reads them back.
#[derive(Clone, Copy)]
struct Reader<'m> {
    rest: &'m [u8],
}

impl<'m> Iterator for Reader<'m> {
    type Item = &'m [u8];

    fn next(&mut self) -> Option<&'m [u8]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(usize::from_ne_bytes(*head))?;
        self.rest = rest;
        Some(text)
    }
}

/// Reads all texts into `room`, for [`understand`]: bindings, wwids, the kernel's command line, then each file with its name before it. How
/// many bytes that were; `ENOMEM`: more than there is room. May wait for a disk.
#[inline(never)]
pub fn read<'c>(places: &Places<'c>, room: &mut [u8]) -> Result<usize, Trouble<'c>> {
    let mut texts = Writer { room, used: 0 };
    let state = files::open_dir(places.state_dir).ok();
    let no_memory = |_| Trouble::Memory;
    for name in ["bindings", "wwids"] {
        let read = state.as_ref().map_or(Err(Errno::NOENT), |dir| texts.file(dir.as_fd(), name));
        texts.hint(read)?;
    }
    // Its size is not told.
    let line = files::open_dir(places.proc).and_then(|proc| texts.add(&mut |room| Ok(files::read(&proc, "cmdline", room)?.len())));
    texts.hint(line)?;
    texts.text(places.config).map_err(no_memory)?;
    match texts.file(files::current_dir(), places.config) {
        Err(Errno::NOENT) if !places.given => texts.text("").map_err(no_memory)?,
        other => other.map_err(|errno| Trouble::File(places.config, errno))?,
    }
    let added = drop_ins(places, &mut |dir, name| texts.text(name).and_then(|()| texts.file(dir, name)));
    added.map_err(|errno| Trouble::File(places.config_dir, errno))?;
    Ok(texts.used)
}

/// Makes settings of the first `used` bytes of `memory`, which [`read`] filled, in what follows them.
#[inline(never)]
pub fn understand<'m>(memory: &'m mut [u8], used: usize, complaints: usize) -> Result<Configuration<'m>, Trouble<'static>> {
    let (texts, rest) = memory.split_at_mut_checked(used).ok_or(Trouble::Memory)?;
    let arena = &mut Arena::over(rest).map_err(|_| Trouble::Memory)?;
    let no_memory = |_| Trouble::Memory;
    let mut texts = Reader { rest: texts };
    let mut next = || texts.next().unwrap_or_default();
    let [bindings, wwids, line] = [next(), next(), next()];
    let mut each = texts;
    let files: &'m [Source<'m>] = arena
        .take(texts.count() / 2, |_| Source {
            name: each.next().and_then(|name| core::str::from_utf8(name).ok()).unwrap_or(""),
            text: each.next().unwrap_or_default(),
        })
        .map_err(no_memory)?;

    let lines = Room::lines(files);
    let room = Room {
        sections: arena.take(lines, |_| Section::EMPTY).map_err(no_memory)?,
        entries: arena.take(lines, |_| Entry::EMPTY).map_err(no_memory)?,
        slots: arena.take(lines * 4, |_| 0).map_err(no_memory)?,
        text: arena.take(Room::quoted(files), |_| 0).map_err(no_memory)?,
        complaints: arena.take((lines * 2).max(4).min(complaints), |_| Complaint::EMPTY).map_err(no_memory)?,
    };
    let parsed = parse::parse(files, room);
    let report = parsed.report;
    let mut settings = Settings::new(files, parsed);
    let mut names = |form, text| {
        let slots = arena.take(Names::slots(text), |_| 0).unwrap_or(&mut []);
        Names::parse(form, text, slots)
    };
    (settings.bindings, settings.wwids) = (names(Form::Bindings, bindings), names(Form::Wwids, wwids));
    let mut words = core::str::from_utf8(line).unwrap_or("").split_ascii_whitespace();
    let count = words.clone().count();
    let words: &'m [&'m str] = arena.take(count, |_| words.next().unwrap_or("")).map_err(no_memory)?;
    settings.command_line = named_wwids(arena, words)?;
    Ok(Configuration { settings, report, files, words })
}

/// Both steps in memory that is kept for ever: for commands that end.
pub fn configuration<'c>(common: &Common<'c>) -> Result<Configuration<'static>, Trouble<'c>> {
    let memory = arena::map(configuration_size(common)).map_err(|_| Trouble::Memory)?;
    let used = read(&Places::of(common), memory)?;
    understand(memory, used, common.complaints)
}

/// WWIDs that the kernel's command line names.
fn named_wwids<'m>(arena: &mut Arena<'m>, words: &'m [&'m str]) -> Result<&'m [&'m str], Trouble<'static>> {
    let mut named = words.iter().filter_map(|w| w.strip_prefix("mpath.wwid=").or_else(|| w.strip_prefix("rd.corepath.wwid=")));
    let count = named.clone().count();
    Ok(arena.take(count, |_| named.next().unwrap_or("")).map_err(|_| Trouble::Memory)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::settings::Lookup;

    #[test]
    fn what_is_read_is_understood() {
        let place = std::env::temp_dir().join(std::format!("corepath-reading-{}", std::process::id()));
        std::fs::create_dir_all(place.join("conf.d")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(place.join(name), text).unwrap();
        put("main", "defaults {\n polling_interval 3\n}\n");
        put("conf.d/b.conf", "defaults {\n polling_interval 7\n}\n");
        put("conf.d/a.conf", "defaults {\n polling_interval 5\n max_polling_interval 9\n}\n");
        put("bindings", "mpathx 3600a\n");
        put("cmdline", "quiet mpath.wwid=3600b\n");
        let text = |name: &str| std::string::String::from(place.join(name).to_str().unwrap());
        let (config, dir, here) = (text("main"), text("conf.d"), text(""));
        let places = Places { config: &config, config_dir: &dir, state_dir: &here, proc: &here, given: true };
        let mut room = std::vec![0u8; 64 * 1024];
        let used = read(&places, &mut room).unwrap();
        // In memory that held something else before, and where nothing is left.
        for length in 0..used {
            assert!(read(&places, &mut room[..length]).is_err(), "{length}");
        }
        room.fill(0xff);
        let used = read(&places, &mut room).unwrap();
        let Configuration { settings, report, files, words } = understand(&mut room, used, 8).unwrap();
        assert_eq!(files.iter().map(|f| f.name.rsplit('/').next().unwrap()).collect::<std::vec::Vec<_>>(), ["main", "a.conf", "b.conf"]);
        let globals = settings.globals();
        assert_eq!((globals.polling_interval.as_secs(), globals.max_polling_interval.as_secs(), report.errors), (7, 9, 0));
        assert_eq!((settings.binding("3600a"), settings.named("3600b"), words), (Some("mpathx"), true, &["quiet", "mpath.wwid=3600b"][..]));
        // What is cut off is never taken for the whole.
        assert!(understand(&mut room[..used], used, 8).is_err());
        std::fs::remove_file(place.join("main")).unwrap();
        assert!(matches!(read(&places, &mut room), Err(Trouble::File(_, Errno::NOENT))));
        let used = read(&Places { given: false, ..places }, &mut room).unwrap();
        assert_eq!(understand(&mut room, used, 8).unwrap().files.len(), 3);
        std::fs::remove_dir_all(place).unwrap();
    }
}
