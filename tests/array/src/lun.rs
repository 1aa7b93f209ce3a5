//! One logical unit: its identity, its blocks, who owns it, and what is wrong with it.

use crate::scsi::Sense;
use crate::site::{Site, Sp};
use crate::store::Store;
use std::collections::BTreeMap;

pub type Luns = BTreeMap<u16, Lun>;

/// Who holds a SPC-2 reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A host that is not the guest.
    Other,
    /// The guest, through this port.
    Port(usize),
}

#[derive(Debug)]
pub struct Lun {
    pub number: u16,
    /// NAA 6 identifier, what VPD 83 and page C0 show now.
    pub wwn: [u8; 16],
    /// The identifier it was made with.
    pub home_wwn: [u8; 16],
    pub serial: String,
    /// Logical block size in bytes.
    pub block: u32,
    pub store: Store,
    /// SP that serves it now (active/passive personalities).
    pub owner: Sp,
    pub default_owner: Sp,
    /// Changes of owner since the start, by whoever.
    pub trespasses: u64,
    /// Ports (bit per index) through which it is not presented any more.
    pub hidden: u64,
    pub read_only: bool,
    /// CLARiiON: not bound (page C0 byte 4 is 0).
    pub unbound: bool,
    /// CLARiiON: presented as the LUNZ stand-in.
    pub lunz: bool,
    /// An array-based copy runs: a trespass is refused with 05/04/00.
    pub copying: bool,
    /// An inactive snapshot: reads and writes on the owner answer 05/25/01.
    pub inactive: bool,
    /// A trespass of it is taken and never answered.
    pub stuck: bool,
    pub reserved: Option<Holder>,
    /// Byte 5 of the control mode page (TAS is bit 6), settable by MODE SELECT.
    pub control5: u8,
}

impl Lun {
    pub fn new(site: &Site, number: u16, block: u32, store: Store, owner: Sp) -> Lun {
        let wwn = default_wwn(&site.serial, number);
        Lun {
            number,
            wwn,
            home_wwn: wwn,
            serial: format!("{}{number:04X}", site.serial),
            block: block.max(512),
            store,
            owner,
            default_owner: owner,
            trespasses: 0,
            hidden: 0,
            read_only: false,
            unbound: false,
            lunz: false,
            copying: false,
            inactive: false,
            stuck: false,
            reserved: None,
            control5: 0,
        }
    }

    /// Whole blocks.
    pub fn blocks(&self) -> u64 {
        self.store.size() / u64::from(self.block)
    }

    pub fn visible(&self, port: usize) -> bool {
        port < 64 && self.hidden >> port & 1 == 0
    }
}

/// NAA 6 with EMC's company id, the array's serial hashed (FNV-1a) into the vendor part, the LUN last:
/// the same array and LUN number give the same identity in every run.
pub fn default_wwn(serial: &str, number: u16) -> [u8; 16] {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for b in serial.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut w = [0u8; 16];
    w[..4].copy_from_slice(&[0x60, 0x06, 0x01, 0x60]);
    w[4..12].copy_from_slice(&h.to_be_bytes());
    w[14..].copy_from_slice(&number.to_be_bytes());
    w
}

/// What the surroundings must do after a command or a control verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Unit attention for `lun` (None: every LUN) on all nexuses but those of port `except`.
    Attention { lun: Option<u16>, except: Option<usize>, sense: Sense },
    /// The owner of `lun` changed; `by` goes to the log.
    Moved { lun: u16, from: Sp, to: Sp, by: String },
    /// A remark for the log.
    Note(String),
}

/// Gives `lun` to `to`. Says so only when it was elsewhere: a trespass to the owner is no trespass.
pub fn move_lun(luns: &mut Luns, number: u16, to: Sp, by: &str, fx: &mut Vec<Effect>) {
    let Some(lun) = luns.get_mut(&number) else {
        return;
    };
    if lun.owner == to {
        return;
    }
    let from = lun.owner;
    lun.owner = to;
    lun.trespasses += 1;
    fx.push(Effect::Moved { lun: number, from, to, by: by.to_string() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wwns_differ_by_lun_and_array_and_are_naa_6() {
        let a = default_wwn("X", 1);
        assert_eq!(a[0] >> 4, 6);
        assert_ne!(a, default_wwn("X", 2));
        assert_ne!(a, default_wwn("Y", 1));
        assert_eq!(a, default_wwn("X", 1));
    }
}
