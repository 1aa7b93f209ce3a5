//! What a map is called, and what its partitions are called.
//!
//! Pure: it looks names up through [`Book`] and writes into fixed text. Never reads or writes a bindings file and never renames
//! anything: a map that exists keeps its name, whatever any file says (names that drift between initramfs and root have cost more
//! boots than any alias was worth). Limits are dm-ioctl.h's; the letters are the peer's bindings.

use crate::conf::settings::MapSettings;
use crate::model::{MapName, NAME_LEN};

/// Who has a dm name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner<'a> {
    Nobody,
    /// A multipath map with this WWID.
    Map(&'a str),
    /// Some other dm device.
    Other,
}

/// What the bindings and the kernel say about names.
pub trait Book {
    /// The alias that the bindings give to `wwid`; the first in their order if several do.
    fn alias(&self, wwid: &str) -> Option<&str>;
    fn owner(&self, name: &str) -> Owner<'_>;
    /// Calls `seen` with each name that is taken and the WWID it belongs to, if it is one: all bound aliases, all aliases of multipaths
    /// sections, all dm names; in any order, repeated if need be.
    fn taken(&self, seen: &mut dyn FnMut(&str, Option<&str>));
}

/// Why a text is no dm name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameFault {
    Empty,
    /// More than [`NAME_LEN`] bytes.
    TooLong,
    Slash,
    /// `control`, `.` or `..`: the kernel or /dev/mapper has them.
    Reserved,
    /// A blank, a control character or a byte beyond ASCII: every tool that prints or links it would mangle it its own way.
    Unprintable,
}

/// May a map be called so?
pub fn check(name: &str) -> Result<(), NameFault> {
    if name.is_empty() {
        return Err(NameFault::Empty);
    }
    if name.len() > NAME_LEN {
        return Err(NameFault::TooLong);
    }
    if name.contains('/') {
        return Err(NameFault::Slash);
    }
    if matches!(name, "control" | "." | "..") {
        return Err(NameFault::Reserved);
    }
    if !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(NameFault::Unprintable);
    }
    Ok(())
}

/// Where a name came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameOrigin {
    /// The live map has it.
    Live,
    /// A multipaths section.
    Alias,
    /// The bindings.
    Binding,
    /// The lowest free one: to be bound.
    New,
    /// The WWID, as nothing else was configured.
    Wwid,
    /// The WWID, as the alias or binding is another map's.
    Conflict,
    /// The WWID, as the alias is no dm name.
    Invalid(NameFault),
    /// The WWID, as none is bound and the bindings may not be written.
    ReadOnly,
}

/// A name and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    pub name: MapName,
    pub origin: NameOrigin,
}

/// Names the map of `wwid`. `live`: the name its live map has. `None` only for an empty WWID.
pub fn choose(wwid: &str, live: Option<&str>, settings: &MapSettings, read_only: bool, book: &dyn Book) -> Option<Chosen> {
    if wwid.is_empty() {
        return None;
    }
    if let Some(name) = live.and_then(|l| MapName::try_from(l).ok()).filter(|n| !n.is_empty()) {
        return Some(Chosen { name, origin: NameOrigin::Live });
    }
    let free = |name: &str| match book.owner(name) {
        Owner::Nobody => true,
        Owner::Map(owner) => owner == wwid,
        Owner::Other => false,
    };
    let configured = settings.alias.as_str();
    let origin = if !configured.is_empty() {
        match check(configured) {
            Err(fault) => NameOrigin::Invalid(fault),
            Ok(()) if free(configured) => return Some(Chosen { name: settings.alias.clone(), origin: NameOrigin::Alias }),
            Ok(()) => NameOrigin::Conflict,
        }
    } else if settings.user_friendly_names {
        match friendly(wwid, &settings.alias_prefix, read_only, book, free) {
            Ok(chosen) => return Some(chosen),
            Err(origin) => origin,
        }
    } else {
        NameOrigin::Wwid
    };
    Some(Chosen { name: from_wwid(wwid), origin })
}

fn friendly(wwid: &str, prefix: &str, read_only: bool, book: &dyn Book, free: impl Fn(&str) -> bool) -> Result<Chosen, NameOrigin> {
    if let Some(alias) = book.alias(wwid) {
        check(alias).map_err(NameOrigin::Invalid)?;
        if !free(alias) {
            return Err(NameOrigin::Conflict);
        }
        let name = MapName::try_from(alias).map_err(|_| NameOrigin::Invalid(NameFault::TooLong))?;
        return Ok(Chosen { name, origin: NameOrigin::Binding });
    }
    if read_only {
        return Err(NameOrigin::ReadOnly);
    }
    let name = lowest_free(wwid, prefix, book).map_err(NameOrigin::Invalid)?;
    Ok(Chosen { name, origin: NameOrigin::New })
}

/// Ids looked at in one pass over the taken names.
const WINDOW: u32 = 4096;

/// The name with the lowest id that is neither bound nor another device's. One pass over all names per [`WINDOW`] ids in use.
fn lowest_free(wwid: &str, prefix: &str, book: &dyn Book) -> Result<MapName, NameFault> {
    let mut from = 1u32;
    loop {
        let mut used = [0u64; (WINDOW / 64) as usize];
        book.taken(&mut |name, owner| {
            if owner != Some(wwid)
                && let Some(offset) = id_of(name, prefix).and_then(|id| id.checked_sub(from)).filter(|&o| o < WINDOW)
                && let Some(word) = used.get_mut((offset / 64) as usize)
            {
                *word |= 1 << (offset % 64);
            }
        });
        for offset in 0..WINDOW {
            let taken = used.get((offset / 64) as usize).is_some_and(|w| w & 1 << (offset % 64) != 0);
            let id = from.saturating_add(offset);
            if id > MAX_ID {
                return Err(NameFault::TooLong);
            }
            if !taken {
                let name = name_of(id, prefix).ok_or(NameFault::TooLong)?;
                check(&name)?;
                return Ok(name);
            }
        }
        from = from.saturating_add(WINDOW);
    }
}

/// Highest id, as in the peer.
const MAX_ID: u32 = i32::MAX as u32;

/// `mpatha` for 1, `mpathz` for 26, `mpathaa` for 27: bijective base 26. `None` for 0, above the peer's limit, or when too long.
pub fn name_of(id: u32, prefix: &str) -> Option<MapName> {
    if id == 0 || id > MAX_ID {
        return None;
    }
    let mut letters = [0u8; 8];
    let (mut n, mut at) = (id, letters.len());
    while n > 0 {
        n -= 1;
        at = at.checked_sub(1)?;
        *letters.get_mut(at)? = b'a' + (n % 26) as u8;
        n /= 26;
    }
    let mut name = MapName::try_from(prefix).ok()?;
    name.push_str(core::str::from_utf8(letters.get(at..)?).ok()?).ok()?;
    Some(name)
}

/// The id of a name with this prefix; `None` when it has none (another prefix, other characters, too large). Text after a blank does
/// not count, as in a bindings line.
pub fn id_of(name: &str, prefix: &str) -> Option<u32> {
    let mut id = 0u32;
    for b in name.strip_prefix(prefix)?.bytes().take_while(|b| !b.is_ascii_whitespace()) {
        if !b.is_ascii_lowercase() {
            return None;
        }
        id = id.checked_mul(26)?.checked_add(u32::from(b - b'a') + 1)?;
    }
    (1..=MAX_ID).contains(&id).then_some(id)
}

/// The WWID as a name: characters that a dm name may not have become `_`, as udev's rules for identities have it.
fn from_wwid(wwid: &str) -> MapName {
    let mut name = MapName::new();
    for c in wwid.chars() {
        let plain = c.is_ascii_graphic() && c != '/';
        if name.as_mut_view().push(if plain { c } else { '_' }).is_err() {
            break;
        }
    }
    if matches!(name.as_str(), "control" | "." | "..") {
        let _ = name.push_str("_");
    }
    name
}

/// `<map><delimiter><number>`. Without a delimiter, `p` is put after a name that ends in a digit, as kpartx and the kernel do.
/// `Err` when it does not fit a dm name.
pub fn partition(map: &str, delimiter: &str, number: u32) -> Result<MapName, NameFault> {
    let mut name = MapName::try_from(map).map_err(|_| NameFault::TooLong)?;
    let delimiter = match delimiter {
        "" if map.ends_with(|c: char| c.is_ascii_digit()) => "p",
        d => d,
    };
    name.push_str(delimiter).map_err(|_| NameFault::TooLong)?;
    let mut digits = [0u8; 10];
    let (mut n, mut at) = (number, digits.len());
    loop {
        at = at.saturating_sub(1);
        if let Some(d) = digits.get_mut(at) {
            *d = b'0' + (n % 10) as u8;
        }
        n /= 10;
        if n == 0 {
            break;
        }
    }
    for &d in digits.get(at..).unwrap_or(&[]) {
        name.as_mut_view().push(char::from(d)).map_err(|_| NameFault::TooLong)?;
    }
    check(&name)?;
    Ok(name)
}

#[cfg(test)]
mod tests;
