//! What build.rs packs: texts of which half is repetition, and which would be read with every image the executable is in.

/// What `build.rs` packed; stops where the room ends.
#[inline(never)]
pub fn unpack(packed: &[u8], room: &mut [u8]) {
    let mut bits = Bits { packed, used: 0 };
    let mut at = 0;
    while step(&mut bits, room, &mut at).is_some() {}
}

/// One character, or a repetition of what came before.
fn step(bits: &mut Bits<'_>, room: &mut [u8], at: &mut usize) -> Option<()> {
    if bits.take(1)? == 0 {
        *room.get_mut(*at)? = bits.take(7)? as u8;
        *at += 1;
        return Some(());
    }
    let count = bits.number()? + 1;
    let back = ((bits.number()? - 1) << 7 | bits.take(7)?) + 1;
    for _ in 0..count {
        let byte = *room.get(at.checked_sub(back)?)?;
        *room.get_mut(*at)? = byte;
        *at += 1;
    }
    Some(())
}

/// The highest bit of a byte comes first.
struct Bits<'a> {
    packed: &'a [u8],
    used: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<usize> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.packed.get(self.used / 8)?;
            value = value << 1 | usize::from(byte >> (7 - self.used % 8) & 1);
            self.used += 1;
        }
        Some(value)
    }

    /// A number from 1: as many zeros as it has bits after its highest, then the number.
    fn number(&mut self) -> Option<usize> {
        let mut more = 0;
        while self.take(1)? == 0 {
            more += 1;
        }
        // No text is so long that it has a number of more bits.
        (more < 16).then_some(())?;
        Some(1 << more | self.take(more)?)
    }
}
