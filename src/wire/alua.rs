//! REPORT TARGET PORT GROUPS replies: the access state of each group of ports.
//!
//! Takes groups as they arrived; the total that the device claims is only believed when less arrived than it says. Never decides
//! what a state is worth. SPC-6 6.37; sysfs words as scsi_dh.h has them.

use crate::fault::Malformed;
use crate::model::AccessState;
use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Target port group descriptor without its ports.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Head {
    /// Bit 7 preferred, bits 3..0 state.
    state: u8,
    supported: u8,
    group: U16,
    reserved: u8,
    status: u8,
    vendor: u8,
    ports: u8,
}

/// One target port group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group<'a> {
    pub id: u16,
    pub state: AccessState,
    pub preferred: bool,
    /// States the group can be in, one bit each (byte 1 of the descriptor).
    pub supported: u8,
    /// Why it is in this state: 1 by STPG, 2 by itself.
    pub status: u8,
    /// Port descriptors, four bytes each, as far as they arrived.
    ports: &'a [u8],
}

impl<'a> Group<'a> {
    /// Relative target port identifiers.
    pub fn ports(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.ports.chunks_exact(4).map(|p| match p {
            [_, _, hi, lo] => u16::from_be_bytes([*hi, *lo]),
            _ => 0,
        })
    }
}

/// The whole reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report<'a> {
    /// Seconds that a transition may take (extended header only; 0 is "not said").
    pub transition_secs: u8,
    /// Bytes the device says it has, its length field included.
    pub declared: usize,
    /// More than what arrived.
    pub truncated: bool,
    groups: &'a [u8],
}

impl<'a> Report<'a> {
    /// Either header format. `Malformed` when not even the length arrived.
    pub fn parse(data: &'a [u8]) -> Result<Report<'a>, Malformed> {
        let (length, _) = U32::ref_from_prefix(data).map_err(|_| Malformed)?;
        let declared = usize::try_from(length.get()).map_err(|_| Malformed)?.checked_add(4).ok_or(Malformed)?;
        let truncated = declared > data.len();
        let data = data.get(..declared).unwrap_or(data);
        // SPC-6 table 220: RETURN DATA FORMAT 001b in byte 4. In the plain format byte 4 is the first descriptor's, whose bits 6..4 are
        // reserved.
        let extended = data.get(4).is_some_and(|b| b & 0x70 == 0x10);
        let transition_secs = if extended { data.get(5).copied().unwrap_or(0) } else { 0 };
        let groups = data.get(if extended { 8 } else { 4 }..).unwrap_or(&[]);
        Ok(Report { transition_secs, declared, truncated, groups })
    }

    /// The groups, in the device's order. Ends where the bytes do: each step takes at least eight.
    pub fn groups(&self) -> Groups<'a> {
        Groups { rest: self.groups }
    }

    /// The first group with this id.
    pub fn find(&self, id: u16) -> Option<Group<'a>> {
        self.groups().find(|g| g.id == id)
    }
}

/// Iterator over the groups of a [`Report`].
#[derive(Clone, Debug)]
pub struct Groups<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Groups<'a> {
    type Item = Group<'a>;

    fn next(&mut self) -> Option<Group<'a>> {
        let (head, rest) = Head::ref_from_prefix(self.rest).ok()?;
        let length = usize::from(head.ports) * 4;
        // The last group may have been cut in its ports; its state did arrive.
        let (ports, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        self.rest = rest;
        Some(Group {
            id: head.group.get(),
            state: state(head.state & 0x0f),
            preferred: head.state & 0x80 != 0,
            supported: head.supported,
            status: head.status,
            ports,
        })
    }
}

/// Writes one group descriptor with its ports; gives the number of bytes, or `None` when `out` is too short.
pub fn emit_group(id: u16, access: AccessState, preferred: bool, ports: &[u16], out: &mut [u8]) -> Option<usize> {
    let count = u8::try_from(ports.len()).ok()?;
    let length = 8 + 4 * ports.len();
    let (head, rest) = out.get_mut(..length)?.split_first_chunk_mut::<8>()?;
    let state = code(access) | if preferred { 0x80 } else { 0 };
    let value = Head { state, supported: 0x8f, group: U16::new(id), reserved: 0, status: 0, vendor: 0, ports: count };
    head.copy_from_slice(value.as_bytes());
    for (place, port) in rest.chunks_exact_mut(4).zip(ports) {
        place.copy_from_slice(&u32::from(*port).to_be_bytes());
    }
    Some(length)
}

/// SPC-6 table 223.
pub const fn state(code: u8) -> AccessState {
    match code {
        0x0 => AccessState::Optimized,
        0x1 => AccessState::NonOptimized,
        0x2 => AccessState::Standby,
        0x3 => AccessState::Unavailable,
        0x4 => AccessState::LbaDependent,
        0xe => AccessState::Offline,
        0xf => AccessState::Transitioning,
        other => AccessState::Unknown(other),
    }
}

/// The reverse of [`state`].
pub const fn code(state: AccessState) -> u8 {
    match state {
        AccessState::Optimized => 0x0,
        AccessState::NonOptimized => 0x1,
        AccessState::Standby => 0x2,
        AccessState::Unavailable => 0x3,
        AccessState::LbaDependent => 0x4,
        AccessState::Offline => 0xe,
        AccessState::Transitioning => 0xf,
        AccessState::Unknown(code) => code & 0x0f,
    }
}

/// The kernel's word in `access_state`; `None` for one we do not know (`unknown`, or of a later kernel).
pub fn parse_word(text: &str) -> Option<AccessState> {
    Some(match text.trim_ascii_end() {
        "active/optimized" => AccessState::Optimized,
        "active/non-optimized" => AccessState::NonOptimized,
        "standby" => AccessState::Standby,
        "unavailable" => AccessState::Unavailable,
        "lba-dependent" => AccessState::LbaDependent,
        "offline" => AccessState::Offline,
        "transitioning" => AccessState::Transitioning,
        _ => return None,
    })
}

/// The kernel's word.
pub const fn word(state: AccessState) -> &'static str {
    match state {
        AccessState::Optimized => "active/optimized",
        AccessState::NonOptimized => "active/non-optimized",
        AccessState::Standby => "standby",
        AccessState::Unavailable => "unavailable",
        AccessState::LbaDependent => "lba-dependent",
        AccessState::Offline => "offline",
        AccessState::Transitioning => "transitioning",
        AccessState::Unknown(_) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn report(groups: &[(u16, AccessState, bool, &[u16])], extended: Option<u8>) -> Vec<u8> {
        let mut out = std::vec![0; 4];
        if let Some(secs) = extended {
            out.extend([0x10, secs, 0, 0]);
        }
        for (id, access, preferred, ports) in groups {
            let mut one = [0; 1028];
            let n = emit_group(*id, *access, *preferred, ports, &mut one).unwrap();
            out.extend(&one[..n]);
        }
        let length = (out.len() as u32 - 4).to_be_bytes();
        out[..4].copy_from_slice(&length);
        out
    }

    #[test]
    fn both_headers() {
        let groups: [(u16, AccessState, bool, &[u16]); 2] =
            [(1, AccessState::Optimized, true, &[1, 2]), (0x102, AccessState::Transitioning, false, &[])];
        for extended in [None, Some(90)] {
            let bytes = report(&groups, extended);
            let r = Report::parse(&bytes).unwrap();
            assert_eq!((r.transition_secs, r.truncated, r.declared), (extended.unwrap_or(0), false, bytes.len()));
            let all: Vec<_> = r.groups().collect();
            assert_eq!((all[0].id, all[0].state, all[0].preferred), (1, AccessState::Optimized, true));
            assert_eq!(all[0].ports().collect::<Vec<_>>(), [1, 2]);
            assert_eq!((all[1].id, all[1].state, all[1].preferred), (0x102, AccessState::Transitioning, false));
            assert_eq!(all.len(), 2);
        }
    }

    #[test]
    fn lying_totals() {
        let mut bytes = report(&[(1, AccessState::Standby, false, &[1, 2, 3])], None);
        bytes[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        let r = Report::parse(&bytes).unwrap();
        assert!(r.truncated && r.groups().count() == 1);
        bytes[..4].copy_from_slice(&7u32.to_be_bytes());
        assert_eq!(Report::parse(&bytes).unwrap().groups().count(), 0, "less than one descriptor");
        assert_eq!(Report::parse(&[0; 3]), Err(Malformed));
        assert_eq!(Report::parse(&[0; 4]).unwrap().groups().count(), 0);
        let cut = report(&[(1, AccessState::Standby, false, &[1, 2, 3])], None);
        let g = Report::parse(&cut[..18]).unwrap().find(1).unwrap();
        assert_eq!((g.state, g.ports().count()), (AccessState::Standby, 1));
    }

    #[test]
    fn ten_thousand_groups() {
        let mut bytes = std::vec![0; 4];
        for id in 0..10_000u32 {
            bytes.extend([1, 0x8f, (id >> 8) as u8, id as u8, 0, 0, 0, 0]);
        }
        let length = (bytes.len() as u32 - 4).to_be_bytes();
        bytes[..4].copy_from_slice(&length);
        let r = Report::parse(&bytes).unwrap();
        assert_eq!(r.groups().count(), 10_000);
        assert_eq!(r.find(9_999).map(|g| g.state), Some(AccessState::NonOptimized));
        let part = Report::parse(&bytes[..4096]).unwrap();
        assert!(part.truncated && part.find(9_999).is_none());
    }

    #[test]
    fn words() {
        for code_ in 0..16 {
            assert_eq!(code(state(code_)), code_);
            let s = state(code_);
            assert_eq!(parse_word(word(s)), (!matches!(s, AccessState::Unknown(_))).then_some(s));
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), id in any::<u16>()) {
            if let Ok(r) = Report::parse(&bytes) {
                prop_assert!(r.groups().count() * 8 <= bytes.len());
                let _ = (r.find(id), r.groups().map(|g| g.ports().count()).sum::<usize>());
            }
        }

        #[test]
        fn emitted_groups_come_back(id in any::<u16>(), access in 0u8..16, preferred in any::<bool>(),
                                    ports in proptest::collection::vec(any::<u16>(), 0..255)) {
            let bytes = report(&[(id, state(access), preferred, &ports)], None);
            let g = Report::parse(&bytes).unwrap().find(id).unwrap();
            prop_assert_eq!((g.state, g.preferred), (state(access), preferred));
            prop_assert_eq!(g.ports().collect::<Vec<_>>(), ports);
        }
    }
}
