//! A vring that tells the guest to look once whenever the call descriptor is replaced.
//!
//! QEMU replaces it right after the start and each time the guest masks or unmasks the interrupt. What
//! was signalled on the old descriptor in between is lost, and a guest that waits for that one
//! completion (its first INQUIRY, say) waits for ever. One spurious interrupt costs nothing.

use std::fs::File;
use std::io;
use std::sync::MutexGuard;
use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::Error;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

pub type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

#[derive(Clone)]
pub struct Ring(VringMutex<Memory>);

impl<'a> VringStateGuard<'a, Memory> for Ring {
    type G = MutexGuard<'a, VringState<Memory>>;
}

impl<'a> VringStateMutGuard<'a, Memory> for Ring {
    type G = MutexGuard<'a, VringState<Memory>>;
}

impl VringT<Memory> for Ring {
    fn new(mem: Memory, max_queue_size: u16) -> Result<Self, Error> {
        VringMutex::new(mem, max_queue_size).map(Ring)
    }

    fn set_call(&self, file: Option<File>) {
        let new = file.is_some();
        self.0.set_call(file);
        if new {
            let _ = self.0.signal_used_queue(); // a full counter means the guest is told already
        }
    }

    fn get_ref(&self) -> MutexGuard<'_, VringState<Memory>> {
        self.0.get_ref()
    }
    fn get_mut(&self) -> MutexGuard<'_, VringState<Memory>> {
        self.0.get_mut()
    }
    fn add_used(&self, desc_index: u16, len: u32) -> Result<(), Error> {
        self.0.add_used(desc_index, len)
    }
    fn signal_used_queue(&self) -> io::Result<()> {
        self.0.signal_used_queue()
    }
    fn enable_notification(&self) -> Result<bool, Error> {
        self.0.enable_notification()
    }
    fn disable_notification(&self) -> Result<(), Error> {
        self.0.disable_notification()
    }
    fn needs_notification(&self) -> Result<bool, Error> {
        self.0.needs_notification()
    }
    fn set_enabled(&self, enabled: bool) {
        self.0.set_enabled(enabled);
    }
    fn set_queue_info(&self, desc: u64, avail: u64, used: u64) -> Result<(), Error> {
        self.0.set_queue_info(desc, avail, used)
    }
    fn queue_next_avail(&self) -> u16 {
        self.0.queue_next_avail()
    }
    fn set_queue_next_avail(&self, base: u16) {
        self.0.set_queue_next_avail(base);
    }
    fn set_queue_next_used(&self, idx: u16) {
        self.0.set_queue_next_used(idx);
    }
    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.0.queue_used_idx()
    }
    fn set_queue_size(&self, num: u16) {
        self.0.set_queue_size(num);
    }
    fn set_queue_event_idx(&self, enabled: bool) {
        self.0.set_queue_event_idx(enabled);
    }
    fn set_queue_ready(&self, ready: bool) {
        self.0.set_queue_ready(ready);
    }
    fn set_kick(&self, file: Option<File>) {
        self.0.set_kick(file);
    }
    fn read_kick(&self) -> io::Result<bool> {
        self.0.read_kick()
    }
    fn set_err(&self, file: Option<File>) {
        self.0.set_err(file);
    }
}
