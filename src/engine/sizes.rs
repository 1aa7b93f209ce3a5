//! How many paths, maps and the like there is room for, and the memory that takes: given once, by whoever makes the engine.

use super::map::{MapSlot, PartSlot};
use super::path::{PathSlot, PortSlot, ProfileSlot};
use super::probe::ProbeSlot;
use crate::model::Instant;

/// How many things there is room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    pub paths: usize,
    pub maps: usize,
    pub partitions: usize,
    pub ports: usize,
    /// Array models with their settings.
    pub profiles: usize,
    /// Checks under way at the same time.
    pub probes: usize,
}

impl Sizes {
    /// For `paths` paths: a map for every four and some, a port likewise (a target may have one LUN only). A machine is given room for
    /// twice the disks it has: of the smallest, each may be a map, a port and a model of its own.
    pub const fn for_paths(paths: usize) -> Sizes {
        let small = paths < 128;
        let maps = paths / 4 + if small { paths * 3 / 8 } else { 32 };
        let few = if small { paths / 2 } else { 64 };
        // A target port is one with each port of the host: where every disk has a target of its own, as many as paths.
        Sizes { paths, maps, partitions: maps * 2, ports: if small { paths } else { maps }, profiles: few, probes: few }
    }

    /// Words that [`Storage::words`] must have.
    pub const fn words(&self) -> usize {
        // Per path: free list, name, devno and wwid indexes (heads and links), lists by map, port, scan order, waiting (twice), ready.
        let paths = self.paths * (1 + 3 * 2 + 6 * 2);
        // Per map: free list; wwid, name and devno indexes; order, ready and heavy lists.
        let maps = self.maps * (1 + 3 * 2 + 3 * 2);
        let parts = self.partitions * (1 + 2 * 2 + 2);
        let ports = self.ports * (1 + 2 + 2);
        let profiles = self.profiles * (1 + 2);
        paths + maps + parts + ports + profiles + self.probes + 2 * self.timers()
    }

    /// Entries that [`Storage::times`] must have.
    pub const fn timers(&self) -> usize {
        self.paths + self.maps
    }
}

/// The memory the engine works in, given once. Lengths as [`Sizes`] says; all slots in their default state.
pub struct Storage<'s> {
    pub paths: &'s mut [PathSlot],
    pub maps: &'s mut [MapSlot],
    pub partitions: &'s mut [PartSlot],
    pub ports: &'s mut [PortSlot],
    pub profiles: &'s mut [ProfileSlot],
    pub probes: &'s mut [ProbeSlot],
    pub words: &'s mut [u32],
    pub times: &'s mut [Instant],
}
