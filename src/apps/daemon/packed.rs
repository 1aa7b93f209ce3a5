//! The one long reply, held packed until its client has read it: listings repeat themselves, and the room for them is locked memory.
//!
//! What was written is a snapshot, however slowly it is read; writing it anew piece by piece would mix two states, and its length has to
//! be said first. Copies out of the last 12 KB of the text (LZ77): a byte below 128 is followed by that many literal bytes and one more,
//! any other says how much to copy, its distance follows in two bytes. A text that does not fit is counted on and not kept.

use core::fmt;

/// Bytes of the text that are at hand, for the writer to find copies in and for the reader to make them from; a power of two.
pub const WINDOW: usize = 16 * 1024;
/// Places that are remembered, by a hash of what stands there.
pub const PLACES: usize = 2048;
/// Shortest and longest copy. A copy takes three bytes.
const SHORT: usize = 4;
const LONG: usize = SHORT + 127;
/// Bytes that are unpacked ahead of the reader.
const AHEAD: usize = 4096;
/// How far back a copy may lie: what is written or unpacked next must not have covered it.
const REACH: usize = WINDOW - AHEAD - 2 * LONG;

/// A text that is written, then read, each from the front.
pub struct Packed {
    packed: &'static mut [u8],
    window: &'static mut [u8; WINDOW],
    places: &'static mut [u16; PLACES],
    /// Packed bytes that are used (writing) or left behind (reading).
    at: usize,
    /// Where the run of literal bytes under way has its length; none when the last was a copy.
    run: Option<usize>,
    /// Bytes of the text so far, and those of them that are packed; reading: those that are unpacked.
    length: usize,
    done: usize,
    /// Bytes of the text that the reader has taken.
    taken: usize,
    full: bool,
}

impl Packed {
    /// What the text is packed into may have any length.
    pub fn new(packed: &'static mut [u8], window: &'static mut [u8; WINDOW], places: &'static mut [u16; PLACES]) -> Packed {
        Packed { packed, window, places, at: 0, run: None, length: 0, done: 0, taken: 0, full: false }
    }

    /// A new text; the old one is gone.
    pub fn begin(&mut self) {
        (self.at, self.run, self.length, self.done, self.taken, self.full) = (0, None, 0, 0, 0, false);
    }

    /// The text is complete: how long it is, `None` if it did not fit. Reading begins.
    pub fn end(&mut self) -> Option<usize> {
        while self.done < self.length {
            self.pack();
        }
        (self.at, self.done) = (0, 0);
        (!self.full).then_some(self.length)
    }

    /// Bytes that come next; empty at the end only.
    pub fn rest(&mut self) -> &[u8] {
        while self.done - self.taken < AHEAD && self.done < self.length {
            self.unpack();
        }
        let from = self.taken % WINDOW;
        self.window.get(from..(from + self.done - self.taken).min(WINDOW)).unwrap_or(&[])
    }

    /// So many of them have been used.
    pub fn take(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.done);
    }

    fn put(&mut self, byte: u8) {
        match self.packed.get_mut(self.at) {
            Some(place) => *place = byte,
            None => self.full = true,
        }
        self.at += 1;
    }

    fn byte(&self, at: usize) -> u8 {
        self.window[at % WINDOW]
    }

    /// Packs one byte, or as many as stand somewhere before.
    fn pack(&mut self) {
        let left = (self.length - self.done).min(LONG);
        let mut distance = usize::MAX;
        if left >= SHORT {
            let word =
                u32::from_le_bytes([self.byte(self.done), self.byte(self.done + 1), self.byte(self.done + 2), self.byte(self.done + 3)]);
            let place = (word.wrapping_mul(0x9e37_79b1) >> 21) as usize % PLACES;
            // A place of long ago, or of another text, may seem near: what stands there decides.
            distance = usize::from((self.done as u16).wrapping_sub(core::mem::replace(&mut self.places[place], self.done as u16)));
        }
        let mut same = 0;
        if (1..=REACH.min(self.done)).contains(&distance) {
            while same < left && self.byte(self.done - distance + same) == self.byte(self.done + same) {
                same += 1;
            }
        }
        if same >= SHORT {
            self.put((same - SHORT) as u8 | 0x80);
            self.put(distance as u8);
            self.put((distance >> 8) as u8);
            self.run = None;
            self.done += same;
            return;
        }
        match self.run.and_then(|run| self.packed.get_mut(run)).filter(|run| **run < 127) {
            Some(run) => *run += 1,
            None => {
                self.run = Some(self.at);
                self.put(0);
            }
        }
        self.put(self.byte(self.done));
        self.done += 1;
    }

    fn unpack(&mut self) {
        let mut next = || {
            self.at += 1;
            usize::from(self.packed.get(self.at - 1).copied().unwrap_or(0))
        };
        let code = next();
        let copy = code >= 0x80;
        let count = if copy { code - 0x80 + SHORT } else { code + 1 };
        let distance = if copy { next() | next() << 8 } else { 0 };
        for _ in 0..count {
            let byte = if copy { self.byte(self.done.wrapping_sub(distance)) } else { self.packed.get(self.at).copied().unwrap_or(0) };
            self.at += usize::from(!copy);
            self.window[self.done % WINDOW] = byte;
            self.done += 1;
        }
    }
}

impl fmt::Write for Packed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            self.window[self.length % WINDOW] = byte;
            self.length += 1;
            if self.length - self.done == LONG {
                self.pack();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::view::{GroupRow, MapRow, PathRow, View};
    use crate::model::{DevNo, Hctl, Protocol};
    use core::fmt::Write;
    use std::boxed::Box;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    fn packed(room: usize) -> Packed {
        Packed::new(vec![0; room].leak(), Box::leak(Box::new([0; WINDOW])), Box::leak(Box::new([0; PLACES])))
    }

    /// Reads it all, `most` bytes at a time.
    fn read(packed: &mut Packed, most: usize) -> Vec<u8> {
        let mut all = vec![];
        loop {
            let rest = packed.rest();
            let n = rest.len().min(most);
            if n == 0 {
                return all;
            }
            all.extend_from_slice(&rest[..n]);
            packed.take(n);
        }
    }

    proptest::proptest! {
        /// Any text in any pieces, before and after others, comes out as it went in, whatever the reader takes at a time.
        #[test]
        fn what_goes_in_comes_out(pieces in proptest::collection::vec(("[ab]{0,9}|[ -~ä]{0,300}", 1usize..400), 0..60), most in 1usize..5000) {
            let mut packed = packed(200_000);
            for _ in 0..2 {
                packed.begin();
                let mut text = String::new();
                for (piece, times) in &pieces {
                    for _ in 0..*times / 20 {
                        packed.write_str(piece).unwrap();
                        text.push_str(piece);
                    }
                }
                proptest::prop_assert_eq!(packed.end(), Some(text.len()));
                proptest::prop_assert!(read(&mut packed, most) == text.as_bytes());
            }
        }
    }

    #[test]
    fn full_is_an_answer() {
        let mut packed = packed(100);
        for (count, fits) in [(90, true), (200, false), (95, true)] {
            packed.begin();
            for n in 0..count {
                // No four of these stand twice.
                packed.write_char((33 + (n * 7 + n / 13) % 90) as u8 as char).unwrap();
            }
            assert_eq!(packed.end().is_some(), fits, "{count}");
        }
        assert_eq!(read(&mut packed, 9).len(), 95);
    }

    /// Maps of two paths each, whose names and numbers follow no order.
    struct Many {
        maps: Vec<(String, [String; 2])>,
    }

    impl View for Many {
        fn maps(&self) -> usize {
            self.maps.len()
        }
        fn map(&self, map: usize) -> MapRow<'_> {
            let devno = DevNo::new(254, map as u32);
            MapRow {
                name: &self.maps[map].0,
                wwid: &self.maps[map].0,
                devno,
                vendor: "ACME",
                product: "VRAID",
                usable: 2,
                ..MapRow::default()
            }
        }
        fn groups(&self, _: usize) -> usize {
            2
        }
        fn group(&self, _: usize, group: usize) -> GroupRow<'_> {
            GroupRow { selector: "service-time 0", prio: 50 - 40 * group as i32, paths: 1, ..GroupRow::default() }
        }
        fn group_path(&self, map: usize, group: usize, _: usize) -> PathRow<'_> {
            self.path(map * 2 + group)
        }
        fn paths(&self) -> usize {
            self.maps.len() * 2
        }
        fn path(&self, path: usize) -> PathRow<'_> {
            let hctl = Some(Hctl { host: path as u32 % 4, channel: 0, target: path as u32 % 7, lun: path as u64 / 28 });
            let (wwid, names) = &self.maps[path / 2];
            let ports = ["0x500a098185c4f9d1", "0x500a098285c4f9d1"];
            PathRow {
                name: &names[path % 2],
                devno: DevNo::new(65 + path as u32 % 71, (path as u32 * 16) % 256),
                hctl,
                wwid,
                protocol: Protocol::ScsiFcp,
                host_port: ports[path % 2],
                target_port: ports[1 - path % 2],
                checker: "tur",
                map: Some(wwid),
                next_check: Some((path as u32 % 5, 20)),
                ..PathRow::default()
            }
        }
    }

    /// Every listing of as many paths as there is room for fits, with twice as much to spare, and is put together in a moment.
    #[test]
    fn listings_fit_their_room() {
        for paths in [64, 4096] {
            let mut seed = 1u64;
            let mut random = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed >> 16
            };
            let mut map = |n: usize| {
                let names = [format!("sd{}", random() % 10_000), format!("sd{}", random() % 10_000)];
                (format!("36{:016x}{:015x}", random() << 16 | n as u64, random() << 12), names)
            };
            let view = Many { maps: (0..paths / 2).map(&mut map).collect() };
            let mut packed = packed(super::super::prepare::reply_size(paths));
            type Form = fn(&Many, &mut dyn Write) -> fmt::Result;
            let forms: [(&str, Form); 4] = [
                ("json", |v, o| crate::apps::json::maps(v, None, o)),
                ("tree", |v, o| crate::apps::topology::tree(v, None, crate::apps::topology::Style::PLAIN, o)),
                ("paths", |v, o| {
                    crate::apps::columns::paths(v, crate::apps::columns::PATHS_DEFAULT, crate::apps::columns::Dress::Pretty, o)
                }),
                ("raw", |v, o| {
                    crate::apps::columns::paths(
                        v,
                        "%w %i %d %D %t %o %T %s %c %p %S %z %N %n %R %r %a",
                        crate::apps::columns::Dress::Raw,
                        o,
                    )
                }),
            ];
            for (name, form) in forms {
                let mut text = String::new();
                form(&view, &mut text).unwrap();
                packed.begin();
                let begin = std::time::Instant::now();
                form(&view, &mut packed).unwrap();
                let took = begin.elapsed();
                while packed.done < packed.length {
                    packed.pack();
                }
                let used = packed.at;
                std::println!("{paths} paths, {name}: {} bytes, {used} packed, {took:?}; room {}", text.len(), packed.packed.len());
                assert_eq!(packed.end(), Some(text.len()));
                assert!(used * 2 <= packed.packed.len(), "{name}: {used}");
                assert!(read(&mut packed, 1 << 20) == text.as_bytes());
            }
        }
    }

    /// The longest of all on a small machine: the configuration with every array that is built in.
    #[test]
    fn the_configuration_fits() {
        let mut packed = packed(super::super::prepare::reply_size(64));
        packed.begin();
        let parsed = crate::conf::effective::Settings::builtin();
        crate::apps::config::dump(&mut packed, &parsed, None, false).unwrap();
        let length = packed.end();
        std::println!("{length:?} bytes of configuration, room {}", packed.packed.len());
        assert!(length.is_some_and(|n| n > 20_000));
    }
}
