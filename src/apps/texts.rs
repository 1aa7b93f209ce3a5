//! What build.rs packs: texts of which half is repetition, and which would be read with every image the executable is in.

/// What `build.rs` packed; stops where the room ends.
#[inline(never)]
pub fn unpack(mut packed: &[u8], room: &mut [u8]) {
    let mut at = 0usize;
    while let Some((&code, rest)) = packed.split_first() {
        packed = rest;
        let repeats = code >= 0x80;
        let back = if repeats { packed.get(..2).map_or(0, |b| usize::from(b[0]) | usize::from(b[1]) << 8) } else { 0 };
        let count = usize::from(code & 0x7f) + if repeats { 4 } else { 1 };
        for n in 0..count {
            let byte = if repeats { at.checked_sub(back).and_then(|from| room.get(from)) } else { packed.get(n) };
            let Some(&byte) = byte else { return };
            let Some(place) = room.get_mut(at) else { return };
            *place = byte;
            at += 1;
        }
        packed = packed.get(if repeats { 2 } else { count }..).unwrap_or(&[]);
    }
}
