//! SCSI commands and replies as values: what is asked of a path and what came back.
//!
//! Builds CDBs and sorts replies into [`Outcome`]; never decides what an outcome means for a path (that is the checkers' work).
//! SPC-6 and SBC-4 for the CDBs, SAM-6 5.3 for the status byte, the kernel's scsi_status.h for the DID_* host bytes.

use crate::fault::Errno;
use crate::wire::sense::Sense;

/// Most parameter bytes one command carries: the expanded RDAC mode page with its header.
pub const PARAMETERS: usize = 308;
/// Most reply bytes a command asks for: the page that a worker has for the answer.
pub const DATA_LEN: u16 = 4096;
/// What early devices take for an allocation length; a page that has more is asked for again.
pub const SHORT_LEN: u16 = 252;
/// Seconds a command may take when neither the configuration nor the device's own `timeout` attribute says otherwise.
pub const TIMEOUT_SECS: u16 = 30;

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    None,
    /// Bytes wanted from the device.
    In(u16),
    /// Parameter data to send: `Command::out[..n]`.
    Out(u16),
}

/// One command descriptor block with its parameter data. Copied: it outlives the engine's borrow in a worker's slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    pub cdb: [u8; 16],
    pub cdb_len: u8,
    pub transfer: Transfer,
    /// Parameter list of MODE SELECT, STPG, ...
    pub out: [u8; PARAMETERS],
    pub timeout_secs: u16,
}

impl Command {
    /// Six byte CDB without data.
    const fn short(cdb: [u8; 6], transfer: Transfer) -> Command {
        let [a, b, c, d, e, f] = cdb;
        Command {
            cdb: [a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            cdb_len: 6,
            transfer,
            out: [0; PARAMETERS],
            timeout_secs: TIMEOUT_SECS,
        }
    }

    /// Any CDB; bytes from `cdb_len` on are not sent.
    pub const fn long(cdb: [u8; 16], cdb_len: u8, transfer: Transfer) -> Command {
        Command { cdb, cdb_len, transfer, out: [0; PARAMETERS], timeout_secs: TIMEOUT_SECS }
    }

    /// The same command with another time limit; 0 leaves it as it is.
    pub const fn within(mut self, timeout_secs: u16) -> Command {
        if timeout_secs != 0 {
            self.timeout_secs = timeout_secs;
        }
        self
    }

    /// The CDB as it goes to the device.
    pub fn cdb(&self) -> &[u8] {
        self.cdb.get(..usize::from(self.cdb_len)).unwrap_or(&self.cdb)
    }

    /// The parameter data that goes to the device; empty unless [`Transfer::Out`].
    pub fn parameters(&self) -> &[u8] {
        match self.transfer {
            Transfer::Out(n) => self.out.get(..usize::from(n)).unwrap_or(&self.out),
            _ => &[],
        }
    }

    /// TEST UNIT READY (SPC-6 6.47).
    pub const fn test_unit_ready() -> Command {
        Command::short([0; 6], Transfer::None)
    }

    /// Standard INQUIRY (SPC-6 6.7).
    pub const fn inquiry(length: u16) -> Command {
        let [hi, lo] = length.to_be_bytes();
        Command::short([0x12, 0, 0, hi, lo, 0], Transfer::In(length))
    }

    /// INQUIRY of one vital product data page.
    pub const fn vpd(page: u8, length: u16) -> Command {
        let [hi, lo] = length.to_be_bytes();
        Command::short([0x12, 1, page, hi, lo, 0], Transfer::In(length))
    }

    /// READ(10) of the first block. 4096 bytes of room, so that any block size in use fits.
    pub const fn read_first_block() -> Command {
        Command::long([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], 10, Transfer::In(DATA_LEN))
    }

    /// READ CAPACITY(10) (SBC-4 5.20).
    pub const fn read_capacity10() -> Command {
        Command::long([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10, Transfer::In(8))
    }

    /// START STOP UNIT with START set (SBC-4 5.31): makes an HP active/passive controller take the LUN.
    pub const fn start_unit() -> Command {
        Command::short([0x1b, 0, 0, 0, 1, 0], Transfer::None)
    }

    /// REPORT TARGET PORT GROUPS (SPC-6 6.37); `extended` asks for the header with the transition time.
    pub const fn report_target_port_groups(length: u16, extended: bool) -> Command {
        let [hi, lo] = length.to_be_bytes();
        let format = if extended { 0x2a } else { 0x0a };
        Command::long([0xa3, format, 0, 0, 0, 0, 0, 0, hi, lo, 0, 0, 0, 0, 0, 0], 12, Transfer::In(length))
    }

    /// SET TARGET PORT GROUPS (SPC-6 6.45) for one group.
    pub const fn set_target_port_group(group: u16, state: u8) -> Command {
        let mut c = Command::long([0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0], 12, Transfer::Out(8));
        let [hi, lo] = group.to_be_bytes();
        c.out[4] = state & 0x0f;
        c.out[6] = hi;
        c.out[7] = lo;
        c
    }

    /// MODE SENSE(10) of one page without block descriptors. `control`: 0 current, 1 changeable values.
    pub const fn mode_sense10(page: u8, control: u8, length: u16) -> Command {
        let [hi, lo] = length.to_be_bytes();
        let page = (page & 0x3f) | (control << 6);
        Command::long([0x5a, 0x08, page, 0, 0, 0, 0, hi, lo, 0, 0, 0, 0, 0, 0, 0], 10, Transfer::In(length))
    }

    /// MODE SELECT(6). `flags` is byte 1 (0x10: page format); `length` counts the four byte header; the list itself is written to
    /// `out` by the caller.
    pub const fn mode_select6(flags: u8, length: u8) -> Command {
        Command::short([0x15, flags, 0, 0, length, 0], Transfer::Out(length as u16))
    }

    /// MODE SELECT(10); `length` counts the eight byte header.
    pub const fn mode_select10(flags: u8, length: u16) -> Command {
        let [hi, lo] = length.to_be_bytes();
        Command::long([0x55, flags, 0, 0, 0, 0, 0, hi, lo, 0, 0, 0, 0, 0, 0, 0], 10, Transfer::Out(length))
    }
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
    /// What the device sent, without the residual.
    pub data: &'a [u8],
    /// The ioctl itself failed; the other fields mean nothing then.
    pub errno: Option<Errno>,
}

/// A reply sorted by who speaks: the kernel, the host adapter, or the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done.
    Good,
    /// Done, and the device wants us to know something (CHECK CONDITION with RECOVERED ERROR, SPC-6 4.4.8: the command succeeded).
    Recovered(Sense),
    Check(Sense),
    ReservationConflict,
    /// Any other status byte, CHECK CONDITION without usable sense among them.
    Status(u8),
    Host(u16),
    /// DRIVER_* code other than "sense is present" (before kernel 5.14: 6 is a timeout).
    Driver(u16),
    Errno(Errno),
}

/// SAM-6 5.3.1.
pub mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// DID_* codes (scsi_status.h).
pub mod host {
    pub const OK: u16 = 0x00;
    pub const NO_CONNECT: u16 = 0x01;
    pub const BUS_BUSY: u16 = 0x02;
    pub const TIME_OUT: u16 = 0x03;
    pub const BAD_TARGET: u16 = 0x04;
    pub const ABORT: u16 = 0x05;
    pub const TRANSPORT_FAILFAST: u16 = 0x0f;

    /// May the same command succeed at once? Not when nobody is there, or when the transport itself told us to fail fast.
    pub const fn transient(code: u16) -> bool {
        !matches!(code, OK | NO_CONNECT | BAD_TARGET | ABORT | TRANSPORT_FAILFAST)
    }
}

impl<'a> Reply<'a> {
    /// A reply of an ioctl that failed.
    pub const fn failed(errno: Errno) -> Reply<'static> {
        Reply { status: 0, host: 0, driver: 0, sense: &[], data: &[], errno: Some(errno) }
    }

    /// GOOD status with data.
    pub const fn good(data: &'a [u8]) -> Reply<'a> {
        Reply { status: 0, host: 0, driver: 0, sense: &[], data, errno: None }
    }

    /// Who says what. The ioctl comes first, then the host adapter, then the device: a status byte means nothing if the command
    /// never arrived.
    pub fn outcome(&self) -> Outcome {
        if let Some(errno) = self.errno {
            return Outcome::Errno(errno);
        }
        if self.host != host::OK {
            return Outcome::Host(self.host);
        }
        // Reserved and obsolete bits of the status byte are not looked at (SAM-6 table 40 uses bits 1..6).
        let code = self.status & 0x7e;
        if code == status::RESERVATION_CONFLICT {
            return Outcome::ReservationConflict;
        }
        let driver = self.driver & 0x0f;
        if code == status::CHECK_CONDITION || driver == 0x08 {
            return match Sense::parse(self.sense) {
                Ok(sense) if sense.key == crate::wire::sense::RECOVERED_ERROR && !sense.deferred => Outcome::Recovered(sense),
                Ok(sense) => Outcome::Check(sense),
                Err(_) => Outcome::Status(status::CHECK_CONDITION),
            };
        }
        if driver != 0 {
            return Outcome::Driver(self.driver);
        }
        if code == status::GOOD { Outcome::Good } else { Outcome::Status(self.status) }
    }

    /// The command was carried out.
    pub fn done(&self) -> bool {
        matches!(self.outcome(), Outcome::Good | Outcome::Recovered(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT_ATTENTION: [u8; 18] = [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0];

    fn reply(status: u8, host: u16, driver: u16, sense: &[u8]) -> Outcome {
        Reply { status, host, driver, sense, data: &[], errno: None }.outcome()
    }

    #[test]
    fn who_speaks() {
        assert_eq!(reply(0, 0, 0, &[]), Outcome::Good);
        assert_eq!(reply(0x18, 0, 0, &[]), Outcome::ReservationConflict);
        assert_eq!(reply(2, 0, 8, &[]), Outcome::Status(2), "no sense is not good news");
        assert_eq!(reply(0, 0, 8, &UNIT_ATTENTION), Outcome::Check(Sense { key: 6, asc: 0x29, ascq: 0, deferred: false }));
        assert_eq!(reply(2, 1, 8, &UNIT_ATTENTION), Outcome::Host(1), "the host adapter is heard before the device");
        assert_eq!(reply(0, 0, 6, &[]), Outcome::Driver(6));
        assert_eq!(reply(0x28, 0, 0, &[]), Outcome::Status(0x28));
        assert_eq!(Reply::failed(Errno::NXIO).outcome(), Outcome::Errno(Errno::NXIO));
        let mut recovered = UNIT_ATTENTION;
        recovered[2] = 1;
        assert!(matches!(reply(2, 0, 8, &recovered), Outcome::Recovered(_)));
        recovered[0] = 0x71;
        assert!(matches!(reply(2, 0, 8, &recovered), Outcome::Check(_)), "deferred: this command was not carried out");
    }

    #[test]
    fn data_lengths_agree_with_the_cdb() {
        assert_eq!(Command::vpd(0x83, 4096).cdb(), [0x12, 1, 0x83, 0x10, 0, 0]);
        assert_eq!(Command::set_target_port_group(0x102, 0).parameters(), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(Command::report_target_port_groups(4096, true).cdb(), [0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
        assert_eq!(Command::mode_select6(0x10, 8).cdb(), [0x15, 0x10, 0, 0, 8, 0]);
        assert_eq!(Command::test_unit_ready().within(0).timeout_secs, TIMEOUT_SECS);
        assert_eq!(Command::test_unit_ready().within(5).timeout_secs, 5);
        assert!(Command::test_unit_ready().parameters().is_empty());
    }
}
