//! Sorting in place: one small heap sort for every list the program puts in order. And moving bytes to the front of their buffer.
//!
//! `core::slice::sort_unstable` brings 2-5 KB of machine code for each element type, 20 KB in all, to be fast on lists far longer
//! than ours. This is O(n log n) on every input, so a long list is no danger either. Not stable: whoever has equal elements to tell
//! apart says so in `before`. Core only.

/// Puts `list` in the order in which `before(a, b)` says that `a` comes first; it must be a strict weak order, or the result is some
/// permutation.
pub fn sort<T>(list: &mut [T], before: impl FnMut(&T, &T) -> bool) {
    let len = list.len();
    heap_sort(&mut List { list, before }, len);
}

/// Moves `bytes[from]` to `to`, which is before it or where it is; without a panic, unlike `copy_within`. What is not there is not moved.
pub fn move_to(bytes: &mut [u8], to: usize, from: core::ops::Range<usize>) {
    let bytes = core::cell::Cell::from_mut(bytes).as_slice_of_cells();
    for (to, from) in bytes.iter().skip(to).zip(bytes.get(from).unwrap_or_default()) {
        to.set(from.get());
    }
}

/// What sorting asks of a list, by numbers: so that it is there once and not for each kind of element.
trait Heap {
    fn before(&mut self, a: usize, b: usize) -> bool;
    fn swap(&mut self, a: usize, b: usize);
}

struct List<'l, T, F> {
    list: &'l mut [T],
    before: F,
}

impl<T, F: FnMut(&T, &T) -> bool> Heap for List<'_, T, F> {
    fn before(&mut self, a: usize, b: usize) -> bool {
        self.list.get(a).zip(self.list.get(b)).is_some_and(|(a, b)| (self.before)(a, b))
    }
    fn swap(&mut self, a: usize, b: usize) {
        if let Ok([a, b]) = self.list.get_disjoint_mut([a, b]) {
            core::mem::swap(a, b);
        }
    }
}

#[inline(never)]
fn heap_sort(heap: &mut dyn Heap, mut len: usize) {
    let mut root = len / 2;
    while len > 1 {
        if root > 0 {
            root -= 1;
        } else {
            len -= 1;
            heap.swap(0, len);
        }
        // Let the root sink: below it, every parent comes after its children.
        let mut at = root;
        while 2 * at + 1 < len {
            let mut child = 2 * at + 1;
            if child + 1 < len && heap.before(child, child + 1) {
                child += 1;
            }
            if !heap.before(at, child) {
                break;
            }
            heap.swap(at, child);
            at = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sort;

    #[test]
    fn as_the_standard_library() {
        let mut seed = 1u32;
        for len in 0..200 {
            let mut list: std::vec::Vec<u16> = (0..len)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 16) as u16 % 150
                })
                .collect();
            let mut expected = list.clone();
            expected.sort();
            sort(&mut list, |a, b| a < b);
            assert_eq!(list, expected);
            sort(&mut list, |a, b| a > b);
            expected.reverse();
            assert_eq!(list, expected);
        }
    }

    #[test]
    fn what_is_moved_may_overlap() {
        let mut bytes = *b"abcdefgh";
        super::move_to(&mut bytes, 1, 3..8);
        assert_eq!(&bytes, b"adefghgh");
        super::move_to(&mut bytes, 0, 7..9);
        super::move_to(&mut bytes, 4, 4..6);
        assert_eq!(&bytes, b"adefghgh");
    }

    #[test]
    fn an_order_that_is_none_loses_nothing() {
        let mut list: std::vec::Vec<u8> = (0..64).collect();
        let mut flip = false;
        sort(&mut list, |_, _| {
            flip = !flip;
            flip
        });
        list.sort();
        assert_eq!(list, (0..64).collect::<std::vec::Vec<u8>>());
    }
}
