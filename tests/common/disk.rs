//! Disks for the partition tests: sparse, as large as 2^64 bytes, failing where a test says so, counting what is read.

#![allow(unreachable_pub, dead_code)]

use corepath::fault::Errno;
use corepath::wire::partition::ReadAt;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Default)]
pub struct MemDisk {
    pub size: u64,
    pub block_size: u32,
    pub sectors: Arc<BTreeMap<u64, [u8; 512]>>,
    /// Reads that touch this sector give EIO.
    pub bad: Option<u64>,
    /// After so many reads the device is gone.
    pub vanishes_after: Option<u32>,
    pub reads: u32,
    pub bytes: u64,
}

impl MemDisk {
    pub fn new(size: u64) -> MemDisk {
        MemDisk { size, block_size: 512, ..MemDisk::default() }
    }
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            let at = offset + i as u64;
            Arc::make_mut(&mut self.sectors).entry(at / 512).or_insert([0; 512])[(at % 512) as usize] = *byte;
        }
    }
}

impl ReadAt for MemDisk {
    fn size(&self) -> u64 {
        self.size
    }
    fn block_size(&self) -> u32 {
        self.block_size
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        assert!(offset.is_multiple_of(512) && into.len().is_multiple_of(512) && !into.is_empty(), "whole sectors");
        assert!(into.len() <= 4096, "at most a page at a time");
        assert!(offset.checked_add(into.len() as u64).is_some_and(|end| end <= self.size), "a reader left the disk");
        self.reads += 1;
        self.bytes += into.len() as u64;
        if self.vanishes_after.is_some_and(|n| self.reads > n) {
            return Err(Errno::NXIO);
        }
        let (first, count) = (offset / 512, into.len() as u64 / 512);
        if self.bad.is_some_and(|bad| (first..first + count).contains(&bad)) {
            return Err(Errno::IO);
        }
        for (i, sector) in into.chunks_mut(512).enumerate() {
            sector.copy_from_slice(self.sectors.get(&(first + i as u64)).unwrap_or(&[0; 512]));
        }
        Ok(())
    }
}

/// An image on disk.
pub struct FileDisk {
    file: std::fs::File,
    size: u64,
    block_size: u32,
}

impl FileDisk {
    pub fn open(path: &std::path::Path, block_size: u32) -> FileDisk {
        let file = std::fs::File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        FileDisk { file, size, block_size }
    }
}

impl ReadAt for FileDisk {
    fn size(&self) -> u64 {
        self.size
    }
    fn block_size(&self) -> u32 {
        self.block_size
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, into, offset).map_err(|_| Errno::IO)
    }
}
