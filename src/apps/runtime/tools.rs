//! What every worker shares: the held directories, the control device, the log's sink.

use crate::dmioctl::{Control, Later, Page};
use crate::fault::Errno;
use crate::klog::Sink;
use crate::raw::{AsFd, OwnedFd};
use crate::sgio;
use crate::sysfs::{self, Roots};
use crate::wire::partition::{Complaint, Kind, Partition, ReadAt};
use heapless::Vec;

/// Most partitions read from one disk (the kernel's own limit).
pub const PARTITIONS: usize = 256;

/// Shared by all workers.
pub struct Tools {
    pub roots: Roots,
    /// Why there is no control device and will be none: only what needs no dm works then.
    pub refused: Option<Errno>,
    control: Later,
    /// Another, for dm's events.
    events: Later,
    pub sink: Sink,
}

impl Tools {
    /// Nothing is opened yet.
    pub fn new(roots: Roots, sink: Sink) -> Tools {
        Tools { roots, refused: None, control: Later::default(), events: Later::default(), sink }
    }

    /// The control device: opening it has the kernel load dm where that is a module which nobody needed before. May sleep then.
    pub fn control(&self) -> Result<Control, Errno> {
        if let Some(control) = self.control.get() {
            return Ok(control);
        }
        if let Some(errno) = self.refused {
            return Err(errno);
        }
        let dev = self.roots.dev.as_fd();
        let control = Control::open(dev)?;
        // First: who sees the one finds the other.
        self.events.keep(Control::open(dev)?);
        Ok(self.control.keep(control))
    }

    /// The one for dm's events, once dm is there.
    pub fn events(&self) -> Option<Control> {
        self.control.get().and_then(|_| self.events.get())
    }

    /// Has the kernel a device mapper now? Without one there are no maps.
    pub fn has_mapper(&self) -> bool {
        self.control.get().is_some() || self.refused.is_none() && sysfs::has_mapper(&self.roots)
    }
}

/// Most jobs that may read a partition table at once.
pub const READERS: usize = 4;

/// Room for one disk's partition table; lent to one job at a time.
#[derive(Default)]
pub struct PartitionRoom {
    pub partitions: Vec<Partition, PARTITIONS>,
    pub complaints: Vec<Complaint, 32>,
    pub kind: Option<Kind>,
}

/// A disk read past the page cache, through one path that is known to be up.
pub struct DirectReader<'a> {
    device: &'a OwnedFd,
    page: &'a mut Page,
    /// Where on the disk the page is from, and how much of it.
    held: (u64, usize),
    size: u64,
    block: u32,
}

impl<'a> DirectReader<'a> {
    pub fn new(device: &'a OwnedFd, page: &'a mut Page) -> Result<DirectReader<'a>, Errno> {
        let size = sgio::size(sgio::borrow(device))?.bytes();
        let block = sgio::block_size(sgio::borrow(device))?;
        Ok(DirectReader { device, page, held: (0, 0), size, block })
    }
}

impl ReadAt for DirectReader<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u32 {
        self.block
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        let page = self.page.0.len() as u64;
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            // Whole pages from page borders: aligned for any block size up to 4 KiB.
            let base = at - at % page;
            // What tells the kinds of tables apart lies close together: read once, not once for each of them.
            if self.held.0 != base || self.held.1 == 0 {
                self.held.1 = 0;
                let length = page.min(self.size.saturating_sub(base));
                let got = sgio::read(sgio::borrow(self.device), base, length as usize, self.page)?;
                self.held = (base, got);
            }
            let from = (at - base) as usize;
            let part = self.page.0.get(from..self.held.1).filter(|p| !p.is_empty()).ok_or(Errno::IO)?;
            for (place, byte) in into.iter_mut().skip(done).zip(part) {
                *place = *byte;
                done += 1;
            }
        }
        Ok(())
    }
}
