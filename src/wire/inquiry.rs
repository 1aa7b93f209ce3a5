//! Standard INQUIRY data: who the device says it is.
//!
//! A checked view: only bytes that arrived and that the additional length admits are read. Text is cleaned to printable ASCII.
//! SPC-6 6.7.2; byte 99 ff. as scsi_dh_emc reads the storage processor's model.

use crate::fault::Malformed;
use crate::model::{Text, Tpgs};

/// Standard INQUIRY data, at least the 36 bytes every device must have.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    data: &'a [u8],
}

impl<'a> Inquiry<'a> {
    /// `Malformed` when the mandatory 36 bytes did not arrive.
    pub fn parse(data: &'a [u8]) -> Result<Inquiry<'a>, Malformed> {
        let declared = usize::from(*data.get(4).ok_or(Malformed)?) + 5;
        let data = data.get(..declared).unwrap_or(data);
        if data.len() < 36 {
            return Err(Malformed);
        }
        Ok(Inquiry { data })
    }

    fn byte(&self, at: usize) -> u8 {
        self.data.get(at).copied().unwrap_or(0)
    }

    /// Peripheral qualifier: 0 connected, 1 not connected, 3 no such logical unit.
    pub fn qualifier(&self) -> u8 {
        self.byte(0) >> 5
    }
    /// Peripheral device type: 0 disk.
    pub fn device_type(&self) -> u8 {
        self.byte(0) & 0x1f
    }
    pub fn tpgs(&self) -> Tpgs {
        match self.byte(5) >> 4 & 3 {
            0 => Tpgs::None,
            1 => Tpgs::Implicit,
            2 => Tpgs::Explicit,
            _ => Tpgs::Both,
        }
    }
    pub fn vendor(&self) -> Text<8> {
        text(self.data.get(8..16).unwrap_or(&[]))
    }
    pub fn product(&self) -> Text<16> {
        text(self.data.get(16..32).unwrap_or(&[]))
    }
    pub fn revision(&self) -> Text<4> {
        text(self.data.get(32..36).unwrap_or(&[]))
    }

    /// Does the short trespass page apply? As scsi_dh_emc decides it: data shorter than 160 bytes, an empty model or one that
    /// starts with `FC` are the old Fibre Channel models, which know only the short page.
    pub fn short_trespass(&self) -> bool {
        if self.data.len() < 160 {
            return true;
        }
        let start = 161 + usize::from(self.byte(160));
        let model = self.data.get(start..start + usize::from(self.byte(99))).unwrap_or(&[]);
        let model = model.trim_ascii();
        model.is_empty() || model.starts_with(b"FC")
    }
}

/// Printable ASCII with trailing blanks cut; anything else becomes `_`, and a NUL ends it.
pub fn text<const N: usize>(bytes: &[u8]) -> Text<N> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let bytes = bytes.get(..end).unwrap_or(bytes).trim_ascii_end();
    let mut out = Text::new();
    for &b in bytes {
        let c = if matches!(b, 0x20..=0x7e) { char::from(b) } else { '_' };
        if out.as_mut_view().push(c).is_err() {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clariion(model: &[u8]) -> std::vec::Vec<u8> {
        let mut d = std::vec![0u8; 200];
        d[4] = 195;
        d[5] = 0x30;
        d[8..36].copy_from_slice(b"DGC     VRAID           0533");
        d[99] = model.len() as u8;
        d[160] = 4;
        d[161..165].copy_from_slice(b"SER0");
        d[165..165 + model.len()].copy_from_slice(model);
        d
    }

    #[test]
    fn fields() {
        let d = clariion(b"CX4-120");
        let i = Inquiry::parse(&d).unwrap();
        assert_eq!((i.vendor().as_str(), i.product().as_str(), i.revision().as_str()), ("DGC", "VRAID", "0533"));
        assert_eq!((i.qualifier(), i.device_type(), i.tpgs()), (0, 0, Tpgs::Both));
        assert!(!i.short_trespass());
        assert!(Inquiry::parse(&clariion(b"FC4700")).unwrap().short_trespass());
        assert!(Inquiry::parse(&clariion(b"")).unwrap().short_trespass());
        assert!(Inquiry::parse(&d[..96]).unwrap().short_trespass());
    }

    #[test]
    fn declared_length_ends_the_data() {
        let mut d = clariion(b"CX4-120");
        d[4] = 31;
        assert!(Inquiry::parse(&d).unwrap().short_trespass(), "bytes behind the declared end are not data");
        d[4] = 30;
        assert!(Inquiry::parse(&d).is_err());
    }

    #[test]
    fn vendor_text_is_tamed() {
        assert_eq!(text::<8>(b"A\x07\xffB  \0junk").as_str(), "A__B");
        assert_eq!(text::<2>(b"ABC").as_str(), "AB");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(i) = Inquiry::parse(&bytes) {
                let _ = (i.vendor(), i.product(), i.revision(), i.tpgs(), i.short_trespass(), i.qualifier(), i.device_type());
            }
        }
    }
}
