//! SCSI commands and replies as values: what is asked of a path and what came back (SPC-6, SBC-4, SAM-6; sg.h for the host bytes).

use crate::fault::Errno;

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    None,
    /// Bytes wanted from the device.
    In(u16),
    /// Parameter data to send: `Command::out[..n]`.
    Out(u8),
}

/// One command descriptor block with its parameter data. Small and copied: it outlives the engine's borrow in a worker's slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    pub cdb: [u8; 16],
    pub cdb_len: u8,
    pub transfer: Transfer,
    /// Parameter list of MODE SELECT, STPG, ...
    pub out: [u8; 32],
    pub timeout_secs: u16,
}

/// What the host adapter and the device said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply<'a> {
    /// SAM status byte.
    pub status: u8,
    /// DID_* code.
    pub host: u16,
    /// DRIVER_* code; 0x08 means sense is present.
    pub driver: u16,
    pub sense: &'a [u8],
    pub data: &'a [u8],
    /// The ioctl itself failed; the other fields mean nothing then.
    pub errno: Option<Errno>,
}
