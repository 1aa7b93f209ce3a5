//! Where the engine keeps things: slots with generations, intrusive lists, hash indexes, a timer heap; all in slices given once.
//!
//! Nothing here allocates, and nothing costs more than O(log n), so 65,536 paths stay linear overall. Full is an answer. Knows
//! nothing of paths and maps.

use crate::fault::Full;
use crate::model::Instant;

/// "No slot."
pub(super) const NONE: u32 = u32::MAX;
/// In a chain's `prev`: not a member of any list.
const DETACHED: u32 = u32::MAX - 1;

/// Cuts `n` words off the front of `words` and fills them; fewer when there are fewer, which `Engine::new` has excluded.
#[inline(never)]
pub(super) fn cut<'s>(words: &mut &'s mut [u32], n: usize, value: u32) -> &'s mut [u32] {
    let all = core::mem::take(words);
    let (front, back) = all.split_at_mut(n.min(all.len()));
    *words = back;
    front.fill(value);
    front
}

/// Numbers by number. A wrong one stops the program as elsewhere, but all of them at one place: a Location for each of the forty here, and the
/// code that loads it, are 2 KB.
struct Words<'s, T = u32>(&'s mut [T]);

#[cold]
#[inline(never)]
fn outside() -> ! {
    panic!()
}

impl<T> core::ops::Index<usize> for Words<'_, T> {
    type Output = T;
    #[inline(always)]
    fn index(&self, i: usize) -> &T {
        self.0.get(i).unwrap_or_else(|| outside())
    }
}

impl<T> core::ops::IndexMut<usize> for Words<'_, T> {
    #[inline(always)]
    fn index_mut(&mut self, i: usize) -> &mut T {
        self.0.get_mut(i).unwrap_or_else(|| outside())
    }
}

/// What every slot starts with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// Odd while in use: an id of a freed slot never compares equal to one of its next owner.
    pub(super) generation: u32,
}

impl Head {
    pub(super) fn used(self) -> bool {
        self.generation & 1 == 1
    }
}

/// A thing kept in a [`Pool`].
pub(super) trait Slot {
    fn head(&self) -> Head;
    fn head_mut(&mut self) -> &mut Head;
}

/// Slots of one kind with a first-in first-out free list: a freed slot keeps its names for as long as possible, for the notes that
/// still speak of it.
pub(super) struct Pool<'s, T> {
    slots: Words<'s, T>,
    next: Words<'s>,
    free: u32,
    last: u32,
    pub(super) used: u32,
    /// Newcomers turned away.
    pub(super) refused: u32,
}

impl<'s, T: Slot> Pool<'s, T> {
    pub(super) fn new(slots: &'s mut [T], words: &mut &'s mut [u32]) -> Pool<'s, T> {
        let next = cut(words, slots.len(), NONE);
        let n = slots.len().min(next.len());
        for (i, link) in next.iter_mut().enumerate() {
            *link = if i + 1 < n { i as u32 + 1 } else { NONE };
        }
        // A function whose address is taken keeps its parameters: else each of 640 places loads the slice's two words.
        core::hint::black_box((Self::slot as fn(&Self, u32) -> &T, Self::slot_mut as fn(&mut Self, u32) -> &mut T));
        let (free, last) = if n == 0 { (NONE, NONE) } else { (0, n as u32 - 1) };
        Pool { slots: Words(slots), next: Words(next), free, last, used: 0, refused: 0 }
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.0.len()
    }

    /// Takes a slot; the caller fills it (its old content is still there).
    pub(super) fn take(&mut self) -> Result<u32, Full> {
        let i = self.free;
        if i == NONE {
            self.refused = self.refused.saturating_add(1);
            return Err(Full);
        }
        self.free = self.next[i as usize];
        if self.free == NONE {
            self.last = NONE;
        }
        self.used += 1;
        let head = self.slots[i as usize].head_mut();
        head.generation = head.generation.wrapping_add(1);
        Ok(i)
    }

    pub(super) fn has_free(&self) -> bool {
        self.free != NONE
    }

    pub(super) fn give(&mut self, i: u32) {
        let head = self.slots[i as usize].head_mut();
        debug_assert!(head.used());
        head.generation = head.generation.wrapping_add(1);
        self.next[i as usize] = NONE;
        if self.last == NONE {
            self.free = i;
        } else {
            self.next[self.last as usize] = i;
        }
        self.last = i;
        self.used -= 1;
    }

    #[inline(never)]
    pub(super) fn get(&self, i: u32) -> Option<&T> {
        self.slots.0.get(i as usize).filter(|s| s.head().used())
    }

    // Not inlined, and told no caller's place: a Location and the code that loads it, at 450 places, are 15 KB.
    #[inline(never)]
    fn slot(&self, i: u32) -> &T {
        &self.slots[i as usize]
    }

    #[inline(never)]
    fn slot_mut(&mut self, i: u32) -> &mut T {
        &mut self.slots[i as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.0.iter().enumerate().filter(|(_, s)| s.head().used()).map(|(i, s)| (i as u32, s))
    }
}

/// Slot by number. Numbers come from `take`, an index or a list and are always inside; a wrong one is a defect and stops the
/// program rather than reach another disk.
impl<T: Slot> core::ops::Index<u32> for Pool<'_, T> {
    type Output = T;
    #[inline(always)]
    fn index(&self, i: u32) -> &T {
        self.slot(i)
    }
}

impl<T: Slot> core::ops::IndexMut<u32> for Pool<'_, T> {
    #[inline(always)]
    fn index_mut(&mut self, i: u32) -> &mut T {
        self.slot_mut(i)
    }
}

/// Ends of one list in a [`Chain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) head: u32,
    tail: u32,
    pub(super) len: u32,
}

impl List {
    pub(super) const EMPTY: List = List { head: NONE, tail: NONE, len: 0 };
}

impl Default for List {
    fn default() -> List {
        List::EMPTY
    }
}

/// Links of doubly linked lists; each number is in at most one list of its chain.
pub(super) struct Chain<'s> {
    next: Words<'s>,
    prev: Words<'s>,
}

impl<'s> Chain<'s> {
    /// Takes the links of `n` numbers off the front of `words`.
    #[inline(never)]
    pub(super) fn cut(words: &mut &'s mut [u32], n: usize) -> Chain<'s> {
        Chain { next: Words(cut(words, n, NONE)), prev: Words(cut(words, n, DETACHED)) }
    }

    pub(super) fn linked(&self, i: u32) -> bool {
        self.prev[i as usize] != DETACHED
    }

    pub(super) fn next(&self, i: u32) -> u32 {
        self.next[i as usize]
    }

    /// Appends; no effect on a number that is in a list already.
    pub(super) fn push_back(&mut self, list: &mut List, i: u32) {
        if self.linked(i) {
            return;
        }
        self.next[i as usize] = NONE;
        self.prev[i as usize] = list.tail;
        if list.tail == NONE {
            list.head = i;
        } else {
            self.next[list.tail as usize] = i;
        }
        list.tail = i;
        list.len += 1;
    }

    pub(super) fn push_front(&mut self, list: &mut List, i: u32) {
        if self.linked(i) {
            return;
        }
        self.prev[i as usize] = NONE;
        self.next[i as usize] = list.head;
        if list.head == NONE {
            list.tail = i;
        } else {
            self.prev[list.head as usize] = i;
        }
        list.head = i;
        list.len += 1;
    }

    /// Takes `i` out of `list`; no effect when it is in none.
    pub(super) fn remove(&mut self, list: &mut List, i: u32) {
        if !self.linked(i) {
            return;
        }
        let (prev, next) = (self.prev[i as usize], self.next[i as usize]);
        if prev == NONE {
            list.head = next;
        } else {
            self.next[prev as usize] = next;
        }
        if next == NONE {
            list.tail = prev;
        } else {
            self.prev[next as usize] = prev;
        }
        self.prev[i as usize] = DETACHED;
        self.next[i as usize] = NONE;
        list.len -= 1;
    }

    pub(super) fn pop_front(&mut self, list: &mut List) -> Option<u32> {
        let i = list.head;
        if i == NONE {
            return None;
        }
        self.remove(list, i);
        Some(i)
    }
}

/// Hash index: numbers by some key that the caller compares.
pub(super) struct Index<'s> {
    heads: Words<'s>,
    next: Words<'s>,
}

impl<'s> Index<'s> {
    /// Takes the heads and links for `n` numbers off the front of `words`.
    #[inline(never)]
    pub(super) fn cut(words: &mut &'s mut [u32], n: usize) -> Index<'s> {
        Index { heads: Words(cut(words, n, NONE)), next: Words(cut(words, n, NONE)) }
    }

    fn bucket(&self, hash: u32) -> Option<usize> {
        (hash as usize).checked_rem(self.heads.0.len())
    }

    pub(super) fn insert(&mut self, hash: u32, i: u32) {
        if let Some(b) = self.bucket(hash) {
            self.next[i as usize] = self.heads[b];
            self.heads[b] = i;
        }
    }

    pub(super) fn remove(&mut self, hash: u32, i: u32) {
        let Some(b) = self.bucket(hash) else { return };
        let mut at = self.heads[b];
        if at == i {
            self.heads[b] = self.next[i as usize];
            return;
        }
        while at != NONE {
            let next = self.next[at as usize];
            if next == i {
                self.next[at as usize] = self.next[i as usize];
                return;
            }
            at = next;
        }
    }

    /// First number of this hash, for a walk with [`Index::after`]; other keys may be among them.
    pub(super) fn first(&self, hash: u32) -> u32 {
        self.bucket(hash).map_or(NONE, |b| self.heads[b])
    }

    pub(super) fn after(&self, i: u32) -> u32 {
        self.next[i as usize]
    }

    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.walk(hash, &mut is)
    }

    #[inline(never)]
    fn walk(&self, hash: u32, is: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.first(hash);
        while at != NONE {
            if is(at) {
                return Some(at);
            }
            at = self.after(at);
        }
        None
    }
}

/// FNV-1a, folded: short keys, spread well enough by a modulus.
pub(super) fn hash(bytes: &[u8]) -> u32 {
    let mut h: u32 = 0x811c_9dc5;
    for &b in bytes {
        h = (h ^ u32::from(b)).wrapping_mul(0x0100_0193);
    }
    h ^ (h >> 15)
}

/// Hash of two numbers (major and minor, host and target).
pub(super) fn hash_pair(a: u32, b: u32) -> u32 {
    let h = (a.wrapping_mul(0x9e37_79b1) ^ b).wrapping_mul(0x85eb_ca6b);
    h ^ (h >> 13)
}

/// One point in time per number, earliest first: a binary heap with back pointers, so that any entry moves in O(log n).
pub(super) struct Timers<'s> {
    heap: Words<'s>,
    /// Place in the heap, or NONE.
    place: Words<'s>,
    when: Words<'s, Instant>,
    len: usize,
}

impl<'s> Timers<'s> {
    pub(super) fn new(heap: &'s mut [u32], place: &'s mut [u32], when: &'s mut [Instant]) -> Timers<'s> {
        place.fill(NONE);
        Timers { heap: Words(heap), place: Words(place), when: Words(when), len: 0 }
    }

    pub(super) fn first(&self) -> Option<(u32, Instant)> {
        if self.len == 0 {
            return None;
        }
        let i = self.heap[0];
        Some((i, self.when[i as usize]))
    }

    /// Sets, moves or (`None`) clears the time of `i`.
    pub(super) fn set(&mut self, i: u32, when: Option<Instant>) {
        let place = self.place[i as usize];
        match when {
            None if place == NONE => {}
            None => {
                let at = place as usize;
                self.len -= 1;
                self.place[i as usize] = NONE;
                if at != self.len {
                    let moved = self.heap[self.len];
                    self.heap[at] = moved;
                    self.place[moved as usize] = at as u32;
                    let at = self.up(at);
                    self.down(at);
                }
            }
            Some(t) if place == NONE => {
                self.when[i as usize] = t;
                self.heap[self.len] = i;
                self.place[i as usize] = self.len as u32;
                self.len += 1;
                self.up(self.len - 1);
            }
            Some(t) => {
                if self.when[i as usize] != t {
                    self.when[i as usize] = t;
                    let at = self.up(place as usize);
                    self.down(at);
                }
            }
        }
    }

    fn time(&self, at: usize) -> Instant {
        self.when[self.heap[at] as usize]
    }

    fn swap(&mut self, a: usize, b: usize) {
        (self.heap[a], self.heap[b]) = (self.heap[b], self.heap[a]);
        self.place[self.heap[a] as usize] = a as u32;
        self.place[self.heap[b] as usize] = b as u32;
    }

    fn up(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.time(parent) <= self.time(at) {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
        at
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.len && self.time(child) < self.time(least) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[derive(Default, Clone)]
    struct Thing(Head);
    impl Slot for Thing {
        fn head(&self) -> Head {
            self.0
        }
        fn head_mut(&mut self) -> &mut Head {
            &mut self.0
        }
    }

    #[test]
    fn full_is_counted_and_old_ids_differ() {
        let (mut slots, mut next) = (vec![Thing::default(); 2], vec![0; 2]);
        let mut pool = Pool::new(&mut slots, &mut next.as_mut_slice());
        let a = pool.take().unwrap();
        let b = pool.take().unwrap();
        assert_eq!((pool.take(), pool.refused), (Err(Full), 1));
        let old = pool[a].head().generation;
        pool.give(a);
        assert!(pool.get(a).is_none());
        pool.give(b);
        assert_eq!(pool.take(), Ok(a), "freed first, used first");
        assert_ne!(pool[a].head().generation, old);
        assert_eq!(pool.used, 1);
    }

    #[test]
    fn timers_pop_in_order_whatever_moved() {
        let n = 200;
        let (mut heap, mut place, mut when) = (vec![0; n], vec![0; n], vec![Instant::ZERO; n]);
        let mut timers = Timers::new(&mut heap, &mut place, &mut when);
        let mut truth: Vec<Option<u64>> = vec![None; n];
        let mut seed = 7u32;
        for _ in 0..5000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let i = (seed >> 8) as usize % n;
            let t = (seed >> 20) & 7 != 0;
            let at = u64::from(seed >> 16);
            truth[i] = t.then_some(at);
            timers.set(i as u32, t.then(|| Instant::from_micros(at)));
            assert_eq!(timers.first().map(|(_, t)| t.as_micros()), truth.iter().flatten().min().copied());
        }
        let mut last = 0;
        while let Some((i, t)) = timers.first() {
            assert!(t.as_micros() >= last && truth[i as usize] == Some(t.as_micros()));
            last = t.as_micros();
            timers.set(i, None);
        }
    }

    #[test]
    fn chains_and_indexes_take_out_of_the_middle() {
        let mut words = vec![0; 26];
        let words = &mut words.as_mut_slice();
        let mut chain = Chain::cut(words, 8);
        let mut list = List::EMPTY;
        for i in 0..5 {
            chain.push_back(&mut list, i);
        }
        chain.push_back(&mut list, 2);
        chain.remove(&mut list, 2);
        chain.remove(&mut list, 2);
        chain.push_front(&mut list, 7);
        let mut seen = vec![];
        while let Some(i) = chain.pop_front(&mut list) {
            seen.push(i);
        }
        assert_eq!((seen, list), (vec![7, 0, 1, 3, 4], List::EMPTY));

        let mut index = Index { heads: Words(cut(words, 2, NONE)), next: Words(cut(words, 8, NONE)) };
        for i in 0..8 {
            index.insert(hash(&[i as u8]), i);
        }
        index.remove(hash(&[3]), 3);
        index.remove(hash(&[3]), 3);
        for i in 0..8u32 {
            assert_eq!(index.find(hash(&[i as u8]), |j| j == i), (i != 3).then_some(i));
        }
    }
}
