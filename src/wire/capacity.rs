//! READ CAPACITY(10) and (16) replies: how large the device says it is (SBC-4 5.20, 5.21).

use crate::fault::Malformed;
use crate::model::Sectors;

/// Last block address and block size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Address of the last block.
    pub last: u64,
    /// Bytes in a block.
    pub block_size: u32,
}

impl Capacity {
    /// Eight byte reply. `None`: the device is larger than this command can say, ask READ CAPACITY(16).
    pub fn parse10(data: &[u8]) -> Result<Option<Capacity>, Malformed> {
        let (last, rest) = data.split_first_chunk::<4>().ok_or(Malformed)?;
        let size = rest.first_chunk::<4>().ok_or(Malformed)?;
        let last = u32::from_be_bytes(*last);
        if last == u32::MAX {
            return Ok(None);
        }
        Capacity::checked(u64::from(last), u32::from_be_bytes(*size)).map(Some)
    }

    /// At least twelve bytes.
    pub fn parse16(data: &[u8]) -> Result<Capacity, Malformed> {
        let (last, rest) = data.split_first_chunk::<8>().ok_or(Malformed)?;
        let size = rest.first_chunk::<4>().ok_or(Malformed)?;
        Capacity::checked(u64::from_be_bytes(*last), u32::from_be_bytes(*size))
    }

    /// Block sizes that sd accepts; a LUNZ answers 0.
    fn checked(last: u64, block_size: u32) -> Result<Capacity, Malformed> {
        if !matches!(block_size, 512 | 1024 | 2048 | 4096) || last >= u64::MAX / 8 {
            return Err(Malformed);
        }
        Ok(Capacity { last, block_size })
    }

    pub fn emit16(&self) -> [u8; 12] {
        let mut out = [0; 12];
        let (last, size) = out.split_at_mut(8);
        last.copy_from_slice(&self.last.to_be_bytes());
        size.copy_from_slice(&self.block_size.to_be_bytes());
        out
    }

    /// In 512 byte sectors.
    pub fn sectors(&self) -> Sectors {
        Sectors((self.last + 1) * u64::from(self.block_size / 512))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!(Capacity::parse10(&[0, 0, 0, 7, 0, 0, 2, 0]), Ok(Some(Capacity { last: 7, block_size: 512 })));
        assert_eq!(Capacity::parse10(&[0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]), Ok(None));
        assert_eq!(Capacity::parse10(&[0, 0, 0, 7, 0, 0, 2]), Err(Malformed));
        assert_eq!(Capacity::parse10(&[0; 8]), Err(Malformed), "a LUNZ has no size");
        assert_eq!(Capacity { last: 0xff, block_size: 4096 }.sectors(), Sectors(2048));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Capacity::parse10(&bytes);
            if let Ok(c) = Capacity::parse16(&bytes) {
                prop_assert_eq!(Capacity::parse16(&c.emit16()), Ok(c));
                prop_assert!(c.sectors().0 > 0);
            }
        }
    }
}
