//! virtio-scsi requests out of descriptor chains and answers into them (virtio 1.2, 5.6.6). Layout is
//! free (ANY_LAYOUT): headers and data are byte streams, whatever descriptors they are cut into.

use super::ring::{Memory, Ring};
use crate::scsi::{Command, Reply, response};
use std::io::{Read, Write};
use vhost_user_backend::VringT;
use virtio_bindings::virtio_scsi::{
    VIRTIO_SCSI_CDB_SIZE, VIRTIO_SCSI_SENSE_SIZE, VIRTIO_SCSI_T_AN_QUERY, VIRTIO_SCSI_T_AN_SUBSCRIBE, VIRTIO_SCSI_T_TMF,
};
use virtio_queue::{DescriptorChain, QueueT, Reader, Writer};
use vm_memory::{GuestAddressSpace, GuestMemoryLoadGuard, GuestMemoryMmap};

pub type Chain = DescriptorChain<GuestMemoryLoadGuard<GuestMemoryMmap>>;

const CDB: usize = VIRTIO_SCSI_CDB_SIZE as usize;
const SENSE: usize = VIRTIO_SCSI_SENSE_SIZE as usize;
/// lun 8, tag 8, task_attr, prio, crn, cdb.
const REQUEST: usize = 19 + CDB;
/// sense_len 4, resid 4, status_qualifier 2, status, response, sense.
const RESPONSE: usize = 12 + SENSE;

/// A chain taken from a ring, and the way back.
#[derive(Clone)]
pub struct Slot {
    pub ring: Ring,
    pub queue: usize,
    chain: Chain,
}

/// What a guest address means. Linux sends `01 target lun lun`, flat space or peripheral.
fn lun_of(b: &[u8; 8]) -> Option<u16> {
    (b[0] == 1 && b[1] == 0).then(|| (u16::from(b[2]) << 8 | u16::from(b[3])) & 0x3fff)
}

/// A LUN in an event: peripheral addressing below 256, as in REPORT LUNS. Linux takes the two bytes as they are and
/// would look for LUN 4001h if LUN 1 came in flat space.
pub fn event_address(lun: u16) -> [u8; 8] {
    let [hi, lo] = lun.to_be_bytes();
    let hi = if lun < 256 { 0 } else { 0x40 | hi };
    [1, 0, hi, lo, 0, 0, 0, 0]
}

/// The next chain of the ring, None when it is empty or not in order.
pub fn pop(ring: &Ring, queue: usize, memory: &Memory) -> Option<Slot> {
    let chain = ring.get_mut().get_queue_mut().pop_descriptor_chain(memory.memory())?;
    let ring = ring.clone();
    Some(Slot { ring, queue, chain })
}

#[derive(Debug)]
pub enum Task {
    /// Subtype, LUN, tag of the command meant.
    Manage(u32, Option<u16>, u64),
    /// Asynchronous notification query or subscription: none are offered.
    Notify,
    Unknown,
}

impl Slot {
    fn reader<'a>(&self, mem: &'a GuestMemoryMmap) -> Option<Reader<'a>> {
        Reader::new(mem, self.chain.clone()).ok()
    }

    fn writer<'a>(&self, mem: &'a GuestMemoryMmap) -> Option<Writer<'a>> {
        Writer::new(mem, self.chain.clone()).ok()
    }

    /// Tag and command; Err holds the response for what is no command of this target.
    pub fn command(&self, port: usize) -> Result<(u64, Command), u8> {
        let mem = self.chain.memory();
        let (Some(mut r), Some(w)) = (self.reader(mem), self.writer(mem)) else {
            return Err(response::FAILURE);
        };
        let mut head = [0u8; REQUEST];
        r.read_exact(&mut head).map_err(|_| response::FAILURE)?;
        let room = w.available_bytes().checked_sub(RESPONSE);
        let room = room.ok_or(response::FAILURE)?;
        let (address, rest) = head.split_first_chunk::<8>().ok_or(response::FAILURE)?;
        let (tag, rest) = rest.split_first_chunk::<8>().ok_or(response::FAILURE)?;
        let lun = lun_of(address).ok_or(response::BAD_TARGET)?;
        let mut out = vec![0u8; r.available_bytes()];
        r.read_exact(&mut out).map_err(|_| response::FAILURE)?;
        let cdb = rest.get(3..).unwrap_or(&[]).to_vec();
        let command = Command { port, lun, cdb, out, room };
        Ok((u64::from_le_bytes(*tag), command))
    }

    /// Writes the answer and gives the chain back. False: the guest's descriptors did not hold it.
    pub fn complete(&self, reply: &Reply, room: usize) -> bool {
        let mem = self.chain.memory();
        let data = reply.data.get(..room).unwrap_or(&reply.data);
        let sense = reply.sense.get(..SENSE).unwrap_or(&reply.sense);
        let mut head = [0u8; RESPONSE];
        head[..4].copy_from_slice(&(sense.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&((room - data.len()) as u32).to_le_bytes());
        head[10] = reply.status;
        head[11] = reply.response;
        head[12..12 + sense.len()].copy_from_slice(sense);
        let written = match self.writer(mem) {
            Some(mut w) => {
                let done = w.write_all(&head).and_then(|()| w.write_all(data));
                done.map(|()| w.bytes_written())
            }
            None => return self.give_back(0),
        };
        self.give_back(written.unwrap_or(0) as u32)
    }

    fn give_back(&self, len: u32) -> bool {
        let used = self.ring.add_used(self.chain.head_index(), len).is_ok();
        // When it cannot be read whether the guest wants to know, it is told.
        if self.ring.needs_notification().unwrap_or(true) {
            let _ = self.ring.signal_used_queue();
        }
        used && len > 0
    }

    pub fn task(&self) -> Task {
        let mem = self.chain.memory();
        let mut b = [0u8; 24];
        let Some(mut r) = self.reader(mem) else {
            return Task::Unknown;
        };
        if r.read_exact(&mut b[..4]).is_err() {
            return Task::Unknown;
        }
        let kind = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        match kind {
            VIRTIO_SCSI_T_TMF if r.read_exact(&mut b[4..]).is_ok() => {
                let subtype = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
                let mut address = [0u8; 8];
                address.copy_from_slice(&b[8..16]);
                let mut tag = [0u8; 8];
                tag.copy_from_slice(&b[16..24]);
                Task::Manage(subtype, lun_of(&address), u64::from_le_bytes(tag))
            }
            VIRTIO_SCSI_T_AN_QUERY | VIRTIO_SCSI_T_AN_SUBSCRIBE => Task::Notify,
            _ => Task::Unknown,
        }
    }

    /// Answers a control request, or an event, with these bytes.
    pub fn complete_raw(&self, bytes: &[u8]) -> bool {
        let written = match self.writer(self.chain.memory()) {
            Some(mut w) => w.write_all(bytes).map(|()| bytes.len()).unwrap_or(0),
            None => 0,
        };
        self.give_back(written as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_addresses_are_read_back() {
        for n in [0u16, 1, 255, 256, 0x3fff] {
            let [hi, lo] = n.to_be_bytes();
            assert_eq!(lun_of(&[1, 0, 0x40 | hi, lo, 0, 0, 0, 0]), Some(n));
            assert_eq!(lun_of(&event_address(n)), Some(n));
        }
        assert_eq!(lun_of(&[1, 0, 0, 7, 0, 0, 0, 0]), Some(7));
        assert_eq!(lun_of(&[1, 1, 0x40, 0, 0, 0, 0, 0]), None); // another target
        assert_eq!(lun_of(&[0xc1, 1, 0, 0, 0, 0, 0, 0]), None); // REPORT LUNS well-known LUN
    }
}
