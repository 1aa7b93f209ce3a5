//! SCSI numbers and the small values that commands and answers are made of (SPC-4, SBC-3).
//!
//! Never trusts a length: every accessor answers 0 past the end, so that no CDB can make us panic.

pub const GOOD: u8 = 0x00;
pub const CHECK_CONDITION: u8 = 0x02;
pub const BUSY: u8 = 0x08;
pub const RESERVATION_CONFLICT: u8 = 0x18;

/// virtio-scsi response codes (virtio 1.2, 5.6.6.1.1).
pub mod response {
    pub const OK: u8 = 0;
    pub const ABORTED: u8 = 2;
    pub const BAD_TARGET: u8 = 3;
    pub const RESET: u8 = 4;
    pub const TRANSPORT_FAILURE: u8 = 6;
    pub const FAILURE: u8 = 9;
    pub const INCORRECT_LUN: u8 = 12;
}

pub mod op {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const READ_6: u8 = 0x08;
    pub const WRITE_6: u8 = 0x0a;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SELECT_6: u8 = 0x15;
    pub const RESERVE_6: u8 = 0x16;
    pub const RELEASE_6: u8 = 0x17;
    pub const MODE_SENSE_6: u8 = 0x1a;
    pub const START_STOP_UNIT: u8 = 0x1b;
    pub const READ_CAPACITY_10: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const WRITE_10: u8 = 0x2a;
    pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    pub const MODE_SELECT_10: u8 = 0x55;
    pub const RESERVE_10: u8 = 0x56;
    pub const RELEASE_10: u8 = 0x57;
    pub const MODE_SENSE_10: u8 = 0x5a;
    pub const READ_16: u8 = 0x88;
    pub const WRITE_16: u8 = 0x8a;
    pub const SYNCHRONIZE_CACHE_16: u8 = 0x91;
    pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
    pub const REPORT_LUNS: u8 = 0xa0;
    pub const MAINTENANCE_IN: u8 = 0xa3;
    pub const MAINTENANCE_OUT: u8 = 0xa4;
    pub const READ_12: u8 = 0xa8;
    pub const WRITE_12: u8 = 0xaa;
}

const NAMES: &[(u8, &str)] = &[
    (op::TEST_UNIT_READY, "TEST_UNIT_READY"),
    (op::REQUEST_SENSE, "REQUEST_SENSE"),
    (op::READ_6, "READ_6"),
    (op::WRITE_6, "WRITE_6"),
    (op::INQUIRY, "INQUIRY"),
    (op::MODE_SELECT_6, "MODE_SELECT_6"),
    (op::RESERVE_6, "RESERVE_6"),
    (op::RELEASE_6, "RELEASE_6"),
    (op::MODE_SENSE_6, "MODE_SENSE_6"),
    (op::START_STOP_UNIT, "START_STOP_UNIT"),
    (op::READ_CAPACITY_10, "READ_CAPACITY_10"),
    (op::READ_10, "READ_10"),
    (op::WRITE_10, "WRITE_10"),
    (op::SYNCHRONIZE_CACHE_10, "SYNCHRONIZE_CACHE_10"),
    (op::MODE_SELECT_10, "MODE_SELECT_10"),
    (op::RESERVE_10, "RESERVE_10"),
    (op::RELEASE_10, "RELEASE_10"),
    (op::MODE_SENSE_10, "MODE_SENSE_10"),
    (op::READ_16, "READ_16"),
    (op::WRITE_16, "WRITE_16"),
    (op::SYNCHRONIZE_CACHE_16, "SYNCHRONIZE_CACHE_16"),
    (op::SERVICE_ACTION_IN_16, "SERVICE_ACTION_IN_16"),
    (op::REPORT_LUNS, "REPORT_LUNS"),
    (op::MAINTENANCE_IN, "MAINTENANCE_IN"),
    (op::MAINTENANCE_OUT, "MAINTENANCE_OUT"),
    (op::READ_12, "READ_12"),
    (op::WRITE_12, "WRITE_12"),
];

/// The name used in the log, in counters and in filters; `OP_xx` for what this array does not know.
pub fn op_name(code: u8) -> String {
    match NAMES.iter().find(|(c, _)| *c == code) {
        Some((_, name)) => (*name).to_string(),
        None => format!("OP_{code:02X}"),
    }
}

pub fn op_by_name(text: &str) -> Option<u8> {
    if let Some((code, _)) = NAMES.iter().find(|(_, n)| n.eq_ignore_ascii_case(text)) {
        return Some(*code);
    }
    let hex = text.strip_prefix("0x").unwrap_or(text);
    let hex = hex.strip_prefix("OP_").unwrap_or(hex);
    u8::from_str_radix(hex, 16).ok()
}

/// What a command needs of the path: this is what decides who answers on a passive or standby port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// INQUIRY, REPORT LUNS, REQUEST SENSE, MAINTENANCE IN and OUT: any path answers.
    Always,
    /// TEST UNIT READY.
    Ready,
    /// READ, WRITE, SYNCHRONIZE CACHE.
    Medium,
    /// READ CAPACITY.
    Capacity,
    /// MODE SENSE and SELECT, START STOP UNIT, RESERVE, RELEASE and all that is unknown.
    Other,
}

pub fn class(cdb: &[u8]) -> Class {
    match byte(cdb, 0) {
        op::INQUIRY | op::REPORT_LUNS | op::REQUEST_SENSE => Class::Always,
        op::MAINTENANCE_IN | op::MAINTENANCE_OUT => Class::Always,
        op::TEST_UNIT_READY => Class::Ready,
        op::READ_CAPACITY_10 => Class::Capacity,
        op::SERVICE_ACTION_IN_16 if byte(cdb, 1) & 0x1f == 0x10 => Class::Capacity,
        op::READ_6 | op::READ_10 | op::READ_12 | op::READ_16 => Class::Medium,
        op::WRITE_6 | op::WRITE_10 | op::WRITE_12 | op::WRITE_16 => Class::Medium,
        op::SYNCHRONIZE_CACHE_10 | op::SYNCHRONIZE_CACHE_16 => Class::Medium,
        _ => Class::Other,
    }
}

pub fn is_write(cdb: &[u8]) -> bool {
    matches!(byte(cdb, 0), op::WRITE_6 | op::WRITE_10 | op::WRITE_12 | op::WRITE_16)
}

/// Bytes of a CDB that mean something, from the group code (SPC-4 4.2.5.1); vendor codes count as 10.
pub fn cdb_len(code: u8) -> usize {
    match code >> 5 {
        0 => 6,
        1 | 2 => 10,
        4 => 16,
        5 => 12,
        3 => 32,
        _ => 10,
    }
}

pub fn byte(b: &[u8], at: usize) -> u8 {
    b.get(at).copied().unwrap_or(0)
}

pub fn be16(b: &[u8], at: usize) -> u16 {
    u16::from(byte(b, at)) << 8 | u16::from(byte(b, at + 1))
}

pub fn be32(b: &[u8], at: usize) -> u32 {
    u32::from(be16(b, at)) << 16 | u32::from(be16(b, at + 2))
}

pub fn be64(b: &[u8], at: usize) -> u64 {
    u64::from(be32(b, at)) << 32 | u64::from(be32(b, at + 4))
}

/// Writes what fits of `src` at `at`: builders never panic on a short buffer.
pub fn put(dst: &mut [u8], at: usize, src: &[u8]) {
    for (i, v) in src.iter().enumerate() {
        if let Some(d) = dst.get_mut(at + i) {
            *d = *v;
        }
    }
}

/// `text` cut or padded with blanks to exactly `len` bytes, as INQUIRY strings are.
pub fn padded(text: &str, len: usize) -> Vec<u8> {
    let mut v: Vec<u8> = text.bytes().take(len).collect();
    v.resize(len, b' ');
    v
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    pub key: u8,
    pub asc: u8,
    pub ascq: u8,
}

impl Sense {
    pub const fn new(key: u8, asc: u8, ascq: u8) -> Sense {
        Sense { key, asc, ascq }
    }

    pub const NONE: Sense = Sense::new(0, 0, 0);
    pub const PASSIVE_MANUAL: Sense = Sense::new(2, 0x04, 0x03);
    pub const PASSIVE_INIT: Sense = Sense::new(2, 0x04, 0x02);
    pub const TRANSITION: Sense = Sense::new(2, 0x04, 0x0a);
    pub const STANDBY: Sense = Sense::new(2, 0x04, 0x0b);
    pub const UNAVAILABLE: Sense = Sense::new(2, 0x04, 0x0c);
    pub const OFFLINE: Sense = Sense::new(2, 0x04, 0x12);
    pub const BAD_OPCODE: Sense = Sense::new(5, 0x20, 0x00);
    pub const BAD_LBA: Sense = Sense::new(5, 0x21, 0x00);
    pub const BAD_FIELD: Sense = Sense::new(5, 0x24, 0x00);
    pub const NO_LUN: Sense = Sense::new(5, 0x25, 0x00);
    pub const BAD_PARAMETER: Sense = Sense::new(5, 0x26, 0x00);
    pub const BAD_LENGTH: Sense = Sense::new(5, 0x1a, 0x00);
    pub const POWER_ON: Sense = Sense::new(6, 0x29, 0x00);
    pub const ACCESS_CHANGED: Sense = Sense::new(6, 0x2a, 0x06);
    pub const CAPACITY_CHANGED: Sense = Sense::new(6, 0x2a, 0x09);
    pub const INQUIRY_CHANGED: Sense = Sense::new(6, 0x3f, 0x03);
    pub const LUNS_CHANGED: Sense = Sense::new(6, 0x3f, 0x0e);

    /// Fixed format, 18 bytes (SPC-4 4.5.3).
    pub fn fixed(self) -> Vec<u8> {
        let mut s = vec![0u8; 18];
        put(&mut s, 0, &[0x70, 0, self.key]);
        put(&mut s, 7, &[0x0a]);
        put(&mut s, 12, &[self.asc, self.ascq]);
        s
    }

    /// Descriptor format without descriptors, 8 bytes (SPC-4 4.5.2).
    pub fn descriptor(self) -> Vec<u8> {
        vec![0x72, self.key, self.asc, self.ascq, 0, 0, 0, 0]
    }

    /// Reads back either format, for the log.
    pub fn parse(s: &[u8]) -> Option<Sense> {
        match byte(s, 0) & 0x7f {
            0x70 | 0x71 => Some(Sense::new(byte(s, 2) & 0xf, byte(s, 12), byte(s, 13))),
            0x72 | 0x73 => Some(Sense::new(byte(s, 1) & 0xf, byte(s, 2), byte(s, 3))),
            _ => None,
        }
    }
}

impl std::fmt::Display for Sense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x}/{:02x}/{:02x}", self.key, self.asc, self.ascq)
    }
}

/// One command as it came from the guest.
#[derive(Clone, Debug)]
pub struct Command {
    /// Index of the target port it came through.
    pub port: usize,
    pub lun: u16,
    pub cdb: Vec<u8>,
    /// Data-out bytes that the guest provided.
    pub out: Vec<u8>,
    /// Bytes of data-in that the guest has room for.
    pub room: usize,
}

/// One answer. `response` is virtio's; status and sense count only when it is OK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub response: u8,
    pub status: u8,
    pub sense: Vec<u8>,
    pub data: Vec<u8>,
}

impl Reply {
    pub fn good() -> Reply {
        Reply::default()
    }

    pub fn data(data: Vec<u8>) -> Reply {
        Reply { data, ..Reply::default() }
    }

    pub fn check(sense: Sense) -> Reply {
        Reply { status: CHECK_CONDITION, sense: sense.fixed(), ..Reply::default() }
    }

    pub fn status(status: u8) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub fn transport(response: u8) -> Reply {
        Reply { response, ..Reply::default() }
    }

    /// Cut to the allocation length of the CDB: more than that is never sent (SPC-4 4.2.5.6).
    pub fn cut(mut self, allocation: usize) -> Reply {
        self.data.truncate(allocation);
        self
    }
}

impl From<Sense> for Reply {
    fn from(s: Sense) -> Reply {
        Reply::check(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sense_survives_both_formats() {
        for s in [Sense::PASSIVE_MANUAL, Sense::POWER_ON, Sense::BAD_FIELD] {
            assert_eq!(Sense::parse(&s.fixed()), Some(s));
            assert_eq!(Sense::parse(&s.descriptor()), Some(s));
        }
        assert_eq!(Sense::parse(&[]), None);
        assert_eq!(Sense::parse(&[0x70]), Some(Sense::NONE));
    }

    #[test]
    fn accessors_answer_zero_past_the_end() {
        assert_eq!(be64(&[1], 0), 1 << 56);
        assert_eq!(be32(&[], 100), 0);
        let mut b = [0u8; 2];
        put(&mut b, 1, &[7, 8, 9]);
        assert_eq!(b, [0, 7]);
    }

    #[test]
    fn opcode_names_are_read_back() {
        assert_eq!(op_by_name("read_10"), Some(0x28));
        assert_eq!(op_by_name("0x28"), Some(0x28));
        assert_eq!(op_by_name("28"), Some(0x28));
        assert_eq!(op_by_name(&op_name(0xee)), Some(0xee));
        assert_eq!(op_by_name("nonsense"), None);
    }
}
