#![allow(unsafe_code)]
//! The one mapping that holds every table: sized at start from what sysfs and the configuration hold, handed out once, never freed.
//!
//! A bump slice over anonymous memory; nothing is ever returned to it, so a slice that was handed out lives as long as the process.
//! Full is an answer. After the seal nothing more is mapped (seccomp kills the process that tries).
//!
//! System calls: mmap.
//!
//! # Safety
//! The memory is borrowed exclusively for as long as anything handed out lives; the bump slice hands out disjoint parts of it. Values in
//! it are never dropped.

use crate::fault::{Errno, Full};
use core::alloc::Layout;
use rustix::mm::{MapFlags, ProtFlags};
use static_alloc::bump::BumpSlice;

/// Memory handed out from front to back. What it hands out lives as long as the memory: for ever, when it was mapped.
pub struct Arena<'m> {
    bump: &'m BumpSlice,
    size: usize,
    used: usize,
}

/// Room for the allocator's own bookkeeping and for alignment.
const SLACK: usize = 64;

/// `size` zeroed bytes that are never given back; for memory that is used again and again through [`Arena::over`].
pub fn map(size: usize) -> Result<&'static mut [u8], Errno> {
    // Never a single page: it could come to lie in the hole between two workers' stacks.
    let size = (size.checked_add(SLACK + 4095).ok_or(Errno::NOMEM)? & !4095).max(2 * 4096);
    // SAFETY: a fresh anonymous mapping, kept for ever, referred to by nothing else.
    unsafe {
        let base = rustix::mm::mmap_anonymous(core::ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
            .map_err(|e| Errno(e.raw_os_error() as u16))?;
        Ok(core::slice::from_raw_parts_mut(base.cast(), size))
    }
}

impl Arena<'static> {
    /// Maps `size` bytes, rounded up to pages.
    pub fn map(size: usize) -> Result<Arena<'static>, Errno> {
        Arena::over(map(size)?)
    }
}

impl<'m> Arena<'m> {
    /// Over memory of the caller's, which is free again when everything handed out is gone. What is in it then means nothing: it is to be
    /// written before it is read.
    pub fn over(memory: &'m mut [u8]) -> Result<Arena<'m>, Errno> {
        let size = memory.len();
        // SAFETY: the same bytes, borrowed for as long. Values with holes between their fields are written to them, and bytes that nobody reads.
        let memory = unsafe { core::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), size) };
        let bump = BumpSlice::from_memory(memory).ok_or(Errno::NOMEM)?;
        Ok(Arena { bump, size, used: 0 })
    }

    /// Bytes mapped.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes handed out (without alignment losses).
    pub fn used(&self) -> usize {
        self.used
    }

    /// A slice of `count` values, each made by `make` from its index.
    pub fn take<T: 'm>(&mut self, count: usize, make: impl FnMut(usize) -> T) -> Result<&'m mut [T], Full> {
        self.gather((0..count).map(make))
    }

    /// A slice of what `values` gives.
    #[inline(never)]
    pub fn gather<T: 'm>(&mut self, values: impl ExactSizeIterator<Item = T>) -> Result<&'m mut [T], Full> {
        let layout = Layout::new::<T>();
        let place = self.room(layout, values.len())?.cast::<T>();
        let (room, mut count) = (values.len(), 0);
        // SAFETY: `place` is aligned room for `room` values that nothing else refers to, and the slice is as long as what was written: an
        // iterator that gives more than it said is cut, one that gives less makes a shorter slice.
        unsafe {
            for value in values.take(room) {
                place.add(count).write(value);
                count += 1;
            }
            Ok(core::slice::from_raw_parts_mut(place, count))
        }
    }

    /// Room for so many values, not null; dangling for none. (Once for all types: that is 3 KB.)
    #[inline(never)]
    fn room(&mut self, one: Layout, count: usize) -> Result<*mut u8, Full> {
        let size = one.size().checked_mul(count).ok_or(Full)?;
        let layout = Layout::from_size_align(size, one.align()).map_err(|_| Full)?;
        if size == 0 {
            return Ok(core::ptr::without_provenance_mut(one.align()));
        }
        let place = self.bump.alloc(layout).ok_or(Full)?.as_ptr();
        self.used += size;
        Ok(place)
    }

    /// One value.
    pub fn put<T: 'm>(&mut self, value: T) -> Result<&'m mut T, Full> {
        let mut value = Some(value);
        // `take` calls back exactly once for one value.
        let slice = self.take(1, |_| value.take())?;
        match slice {
            [Some(place)] => Ok(place),
            _ => Err(Full),
        }
    }

    /// `count` zeroed bytes on a page boundary.
    pub fn pages(&mut self, count: usize) -> Result<&'m mut [u8], Full> {
        let page = Layout::from_size_align(1, 4096).map_err(|_| Full)?;
        let place = self.room(page, count)?;
        // SAFETY: as in `gather`; bytes need no more than being written, and the mapping is zeroed.
        unsafe {
            core::ptr::write_bytes(place, 0, count);
            Ok(core::slice::from_raw_parts_mut(place, count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_disjoint_and_full_is_an_answer() {
        let mut arena = Arena::map(8192).unwrap();
        let a = arena.take(100, |i| i as u32).unwrap();
        let b = arena.take(10, |_| 0xaau8).unwrap();
        let c = arena.put([7u64; 4]).unwrap();
        a[99] = 5;
        b[0] = 1;
        assert_eq!(a[98], 98);
        assert_eq!(*c, [7; 4]);
        let d = arena.gather(b.iter_mut().map(|b| (b, 5u16))).unwrap();
        assert!(d.len() == 10 && d.iter().skip(1).all(|(b, five)| **b == 0xaa && *five == 5));
        assert!(arena.take(8192, |_| 0u64).is_err());
        assert_eq!(arena.take(2, |_| 9u16).unwrap(), &[9, 9]);
        let page = Arena::map(3 * 4096).unwrap().pages(4096).unwrap();
        assert_eq!(page.as_ptr() as usize % 4096, 0);
    }
}
