//! Sorting in place: one small heap sort for every list the program puts in order.
//!
//! `core::slice::sort_unstable` brings 2-5 KB of machine code for each element type, 20 KB in all, to be fast on lists far longer
//! than ours. This is O(n log n) on every input, so a long list is no danger either. Not stable: whoever has equal elements to tell
//! apart says so in `before`. Core only.

/// Puts `list` in the order in which `before(a, b)` says that `a` comes first; it must be a strict weak order, or the result is some
/// permutation.
pub fn sort<T>(list: &mut [T], mut before: impl FnMut(&T, &T) -> bool) {
    let mut len = list.len();
    let mut root = len / 2;
    while len > 1 {
        if root > 0 {
            root -= 1;
        } else {
            len -= 1;
            list.swap(0, len);
        }
        // Let the root sink: below it, every parent comes after its children.
        let (Some(heap), mut at) = (list.get_mut(..len), root) else { return };
        while let Some(mut child) = heap.get(2 * at + 1).map(|_| 2 * at + 1) {
            if heap.get(child + 1).is_some_and(|right| before(&heap[child], right)) {
                child += 1;
            }
            if !before(&heap[at], &heap[child]) {
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
