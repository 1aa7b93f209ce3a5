//! Path balancing (`pp_balance_paths`): which of several equally good paths a map shall lead with, so that the maps of one array
//! spread evenly over its target ports.
//!
//! The idea is the path balancer of the 2005 Linux Multipathing paper, made stable: a map moves only if that makes the spread more
//! even, so the result settles and never swings. Pure: counts in, a position out. Never moves I/O itself and never outweighs a
//! priority: the caller offers only the usable paths of the best priority. Useful for `failover`, where one path carries all.

/// Chooses among `ports` (the target port of each candidate path, as an index into `load`) the path to lead with.
///
/// `load[p]`: how many *other* maps lead with port `p`; a port outside `load` counts as idle. `current`: the candidate that leads
/// now, kept unless another port carries fewer maps. Ports of different arrays are different ports, so arrays do not mix.
pub fn lead(ports: &[u32], current: Option<usize>, load: &[u32]) -> Option<usize> {
    let cost = |i: usize| ports.get(i).map(|&p| load.get(p as usize).copied().unwrap_or(0));
    let best = (0..ports.len()).min_by_key(|&i| cost(i))?;
    match current.and_then(|c| cost(c).map(|l| (c, l))) {
        Some((c, l)) if cost(best).is_none_or(|b| l <= b) => Some(c),
        _ => Some(best),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// One round over all maps: each reconsiders in turn. Returns how many moved.
    fn round(maps: &[Vec<u32>], leads: &mut [Option<usize>], load: &mut [u32]) -> u32 {
        let mut moved = 0;
        for (map, now) in maps.iter().zip(leads.iter_mut()) {
            if let Some(i) = *now {
                load[map[i] as usize] -= 1;
            }
            let next = lead(map, *now, load);
            moved += u32::from(next != *now);
            *now = next;
            if let Some(i) = next {
                load[map[i] as usize] += 1;
            }
        }
        moved
    }

    #[test]
    fn spreads_evenly_and_settles() {
        let maps: Vec<Vec<u32>> = (0..103).map(|_| vec![0, 1, 2, 3]).collect();
        let mut leads = vec![None; maps.len()];
        let mut load = vec![0; 4];
        round(&maps, &mut leads, &mut load);
        assert_eq!(load, [26, 26, 26, 25]);
        assert_eq!(round(&maps, &mut leads, &mut load), 0, "settled");
    }

    #[test]
    fn recovers_from_a_lopsided_start() {
        let maps: Vec<Vec<u32>> = (0..64).map(|i| if i % 2 == 0 { vec![0, 1] } else { vec![1, 2] }).collect();
        let mut leads: Vec<_> = maps.iter().map(|_| Some(0)).collect();
        let mut load = vec![32, 32, 0];
        let mut rounds = 0;
        while round(&maps, &mut leads, &mut load) > 0 {
            rounds += 1;
            assert!(rounds < 64, "must settle");
        }
        assert_eq!(load.iter().sum::<u32>(), 64);
        assert!(load.iter().max().unwrap() - load.iter().min().unwrap() <= 1, "{load:?}");
    }

    #[test]
    fn keeps_what_is_as_good() {
        assert_eq!(lead(&[0, 1], Some(1), &[3, 3]), Some(1));
        assert_eq!(lead(&[0, 1], Some(1), &[2, 3]), Some(0));
        assert_eq!(lead(&[0, 1], Some(7), &[2, 3]), Some(0), "a lead that is gone");
        assert_eq!(lead(&[9, 1], None, &[2, 3]), Some(0), "an unknown port is idle");
        assert_eq!(lead(&[], None, &[]), None);
    }
}
