//! Program over text: all ways at once (Thompson), a bit for each step that is reached, so that no text takes longer than its length
//! times the program's.

use super::{MAX_OPS, Op, Program};

const WORDS: usize = MAX_OPS / 64;

impl Program<'_> {
    /// Does the pattern match anywhere in `text`?
    pub fn is_match(&self, text: &[u8]) -> bool {
        let mut now = [0u64; WORDS];
        let mut next = [0u64; WORDS];
        let mut stack = [0u16; MAX_OPS];
        for at in 0..=text.len() {
            if self.close(&mut now, &mut stack, 0, at, text.len()) {
                return true;
            }
            let Some(&b) = text.get(at) else { break };
            next.fill(0);
            for (w, &bits) in now.iter().enumerate() {
                let mut bits = bits;
                while bits != 0 {
                    let pc = w * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    let hit = match self.ops.get(pc).map(|code| code.op()) {
                        Some(Op::Byte(x)) => x == b,
                        Some(Op::Any) => b != 0,
                        Some(Op::Set(k)) => self.sets.get(usize::from(k)).is_some_and(|s| s[usize::from(b >> 5)] >> (b & 31) & 1 == 1),
                        _ => false,
                    };
                    if hit && self.close(&mut next, &mut stack, pc + 1, at + 1, text.len()) {
                        return true;
                    }
                }
            }
            core::mem::swap(&mut now, &mut next);
        }
        false
    }

    /// Adds all steps that `pc` reaches without a byte; true when the match is one of them. Each step is entered once per `set`, so
    /// the stack (one push per Split) cannot overflow.
    fn close(&self, set: &mut [u64; WORDS], stack: &mut [u16; MAX_OPS], pc: usize, at: usize, len: usize) -> bool {
        let mut top = 0;
        let mut pc = pc;
        loop {
            let seen = set.get_mut(pc >> 6).is_none_or(|word| {
                let bit = 1u64 << (pc & 63);
                let seen = *word & bit != 0;
                *word |= bit;
                seen
            });
            let step = if seen { None } else { self.ops.get(pc).map(|code| code.op()) };
            pc = match step {
                Some(Op::Match) => return true,
                Some(Op::Jmp(by)) => pc.wrapping_add_signed(isize::from(by)),
                Some(Op::Split(by)) => {
                    if let Some(slot) = stack.get_mut(top) {
                        *slot = pc.wrapping_add_signed(isize::from(by)) as u16;
                        top += 1;
                    }
                    pc + 1
                }
                Some(Op::Bol) if at == 0 => pc + 1,
                Some(Op::Eol) if at == len => pc + 1,
                _ => {
                    let Some(pushed) = top.checked_sub(1).and_then(|top| stack.get(top)) else { return false };
                    top -= 1;
                    usize::from(*pushed)
                }
            };
        }
    }
}
