//! NVMe: what asymmetric namespace access needs: two IDENTIFY fields and the ANA log page.
//!
//! Only for namespaces that the kernel leaves to us (native multipath off): then sysfs has no `ana_state`. NVMe base 2.0, 5.17.2 and
//! 5.16.1.13. All integers are little endian.

use crate::fault::Malformed;
use crate::model::AccessState;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Which namespace an admin command is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Namespace {
    /// None (0).
    None,
    /// The one that the device file stands for; the shell knows its number (NVME_IOCTL_ID).
    Own,
    /// 0xffffffff.
    All,
}

/// One admin command that reads data (NVME_IOCTL_ADMIN_CMD).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admin {
    pub opcode: u8,
    pub namespace: Namespace,
    pub cdw10: u32,
    pub cdw11: u32,
    pub cdw12: u32,
    /// Bytes wanted.
    pub length: u16,
}

/// IDENTIFY controller.
pub const fn identify_controller() -> Admin {
    Admin { opcode: 0x06, namespace: Namespace::None, cdw10: 1, cdw11: 0, cdw12: 0, length: 4096 }
}

/// IDENTIFY namespace.
pub const fn identify_namespace() -> Admin {
    Admin { opcode: 0x06, namespace: Namespace::Own, cdw10: 0, cdw11: 0, cdw12: 0, length: 4096 }
}

/// GET LOG PAGE of page 0x0c from `offset` on (a multiple of four), groups with their namespaces left out (RGO), so that its size depends on the
/// groups alone.
pub const fn ana_log(length: u16, offset: u32) -> Admin {
    // NUMDL counts dwords from 0.
    let dwords = (length / 4).saturating_sub(1) as u32;
    Admin { opcode: 0x02, namespace: Namespace::All, cdw10: 0x0c | 1 << 8 | dwords << 16, cdw11: 0, cdw12: offset, length }
}

/// Does the controller report asymmetric access (CMIC bit 3)?
pub fn reports_ana(controller: &[u8]) -> Result<bool, Malformed> {
    Ok(controller.get(76).ok_or(Malformed)? & 0x08 != 0)
}

/// ANA group of the namespace (bytes 92..96 of IDENTIFY namespace); 0 is none.
pub fn ana_group(namespace: &[u8]) -> Result<u32, Malformed> {
    let bytes = namespace.get(92..).and_then(|b| b.first_chunk::<4>()).ok_or(Malformed)?;
    Ok(u32::from_le_bytes(*bytes))
}

/// Head of the ANA log.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LogHead {
    change: U64,
    groups: U16,
    reserved: [u8; 6],
}

/// One group descriptor without its namespaces.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct GroupHead {
    id: U32,
    namespaces: U32,
    change: U64,
    state: u8,
    reserved: [u8; 15],
}

/// Where one group's state is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    Here(AccessState),
    /// Not among the descriptors in these bytes: so many follow, so many bytes were read. None follow a list that is not believed.
    Further {
        left: u16,
        used: usize,
    },
}

/// State of one group in the ANA log, which begins with its head. Group and namespace counts are only believed as far as the bytes go.
pub fn ana_state(log: &[u8], group: u32) -> Result<Listed, Malformed> {
    let (head, rest) = LogHead::ref_from_prefix(log).map_err(|_| Malformed)?;
    Ok(match ana_further(rest, group, head.groups.get()) {
        Listed::Further { left, used } => Listed::Further { left, used: used + size_of::<LogHead>() },
        here => here,
    })
}

/// The same of a part of the log that begins with one of its last `count` descriptors.
pub fn ana_further(descriptors: &[u8], group: u32, count: u16) -> Listed {
    let mut rest = descriptors;
    for n in 0..count {
        let Ok((g, after)) = GroupHead::ref_from_prefix(rest) else {
            return Listed::Further { left: count - n, used: descriptors.len() - rest.len() };
        };
        if g.id.get() == group {
            return Listed::Here(state(g.state & 0x0f));
        }
        let skip = usize::try_from(g.namespaces.get()).ok().and_then(|n| n.checked_mul(4));
        match skip.and_then(|n| after.get(n..)) {
            Some(next) => rest = next,
            None => break,
        }
    }
    Listed::Further { left: 0, used: 0 }
}

/// ANA states in the words of SCSI, which the rest of the program speaks: inaccessible is unavailable, persistent loss is offline,
/// change is transitioning.
pub const fn state(code: u8) -> AccessState {
    match code {
        0x1 => AccessState::Optimized,
        0x2 => AccessState::NonOptimized,
        0x3 => AccessState::Unavailable,
        0x4 => AccessState::Offline,
        0xf => AccessState::Transitioning,
        other => AccessState::Unknown(other),
    }
}

/// The kernel's word in `ana_state`.
pub fn parse_word(text: &str) -> Option<AccessState> {
    Some(match text.trim_ascii_end() {
        "optimized" => AccessState::Optimized,
        "non-optimized" => AccessState::NonOptimized,
        "inaccessible" => AccessState::Unavailable,
        "persistent-loss" => AccessState::Offline,
        "change" => AccessState::Transitioning,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn log(groups: &[(u32, u8, u32)]) -> Vec<u8> {
        let mut out = std::vec![0; 16];
        out[8..10].copy_from_slice(&(groups.len() as u16).to_le_bytes());
        for (id, state, namespaces) in groups {
            let mut g = [0; 32];
            g[..4].copy_from_slice(&id.to_le_bytes());
            g[4..8].copy_from_slice(&namespaces.to_le_bytes());
            g[16] = *state;
            out.extend(g);
            out.extend(std::vec![0xee; *namespaces as usize * 4]);
        }
        out
    }

    #[test]
    fn groups() {
        let l = log(&[(1, 1, 0), (2, 3, 5), (7, 0xf, 0)]);
        let none = Ok(Listed::Further { left: 0, used: 16 });
        assert_eq!(ana_state(&l, 7), Ok(Listed::Here(AccessState::Transitioning)));
        assert_eq!(ana_state(&l, 2), Ok(Listed::Here(AccessState::Unavailable)));
        assert_eq!(ana_state(&l, 3), none);
        // What is cut off follows, from the descriptor on that is not whole.
        assert_eq!(ana_state(&l[..60], 2), Ok(Listed::Further { left: 2, used: 48 }));
        assert_eq!(ana_further(&l[48..], 7, 2), Listed::Here(AccessState::Transitioning));
        assert_eq!(ana_further(&l[48..], 9, 2), Listed::Further { left: 0, used: 0 });
        assert_eq!(ana_further(&l[48..], 7, 1), Listed::Further { left: 0, used: 0 });
        assert_eq!(ana_state(&l[..15], 1), Err(Malformed));
        let liar = log(&[(1, 1, 0), (2, 2, 0)]);
        let mut liar = liar.clone();
        liar[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(ana_state(&liar, 2), none, "a namespace count past the end");
    }

    #[test]
    fn commands() {
        assert_eq!((ana_log(4096, 4080).cdw10, ana_log(4096, 4080).cdw12), (0x03ff_010c, 4080));
        assert_eq!(reports_ana(&[0; 76]), Err(Malformed));
        let mut id = [0; 96];
        id[76] = 0x0a;
        id[92] = 9;
        assert_eq!((reports_ana(&id), ana_group(&id)), (Ok(true), Ok(9)));
        assert_eq!(ana_group(&id[..95]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), group in any::<u32>()) {
            let _ = (ana_state(&bytes, group), ana_further(&bytes, group, group as u16), ana_group(&bytes), reports_ana(&bytes));
        }
    }
}
