//! Pattern -> program: one pass over the bytes, steps of what is repeated are copied, jumps of alternatives are patched at their end.

use super::{Code, Error, MAX_DEPTH, MAX_OPS, Op, Set};

/// Compiles `pattern` into the caller's buffers; the numbers of ops and sets used.
#[inline(never)]
pub fn compile(pattern: &[u8], ops: &mut [Code], sets: &mut [Set]) -> Result<(usize, usize), Error> {
    let most = ops.len().min(MAX_OPS);
    let ops = ops.get_mut(..most).ok_or(Error::TooBig)?;
    let mut c = Compiler { pattern, at: 0, ops, n: 0, sets, k: 0 };
    c.run()?;
    Ok((c.n, c.k))
}

/// Alternatives under way: of the whole pattern or of one group.
#[derive(Clone, Copy, Default)]
struct Frame {
    /// Where the group starts.
    group: usize,
    /// Where the current alternative starts.
    branch: usize,
    /// Last of the jumps to the common end, each holding the distance to the one before it; patched when the end is known.
    chain: Option<usize>,
}

struct Compiler<'p, 'a> {
    pattern: &'p [u8],
    at: usize,
    ops: &'a mut [Code],
    n: usize,
    sets: &'a mut [Set],
    k: usize,
}

impl Compiler<'_, '_> {
    #[inline(never)]
    fn run(&mut self) -> Result<(), Error> {
        let mut frame = Frame::default();
        let (mut around, mut depth) = ([Frame::default(); MAX_DEPTH], 0);
        while let Some(c) = self.peek() {
            match c {
                b'(' => {
                    *around.get_mut(depth).ok_or(Error::Depth)? = frame;
                    depth += 1;
                    frame = Frame { group: self.n, branch: self.n, chain: None };
                    self.at += 1;
                }
                b'|' => {
                    self.at += 1;
                    self.alternative(&mut frame)?;
                }
                b')' if depth > 0 => {
                    self.at += 1;
                    self.join(&frame);
                    let start = frame.group;
                    depth -= 1;
                    frame = *around.get(depth).ok_or(Error::Parenthesis)?;
                    self.repetitions(start)?;
                }
                _ => {
                    let start = self.n;
                    self.atom()?;
                    self.repetitions(start)?;
                }
            }
        }
        if depth > 0 {
            return Err(Error::Parenthesis);
        }
        self.join(&frame);
        self.emit(Op::Match)
    }

    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.at).copied()
    }
    fn emit(&mut self, op: Op) -> Result<(), Error> {
        self.append(Code::new(op))
    }
    fn append(&mut self, code: Code) -> Result<(), Error> {
        *self.ops.get_mut(self.n).ok_or(Error::TooBig)? = code;
        self.n += 1;
        Ok(())
    }
    fn insert(&mut self, at: usize, op: Op) -> Result<(), Error> {
        // What stands there goes one further, and so on.
        let mut moved = Code::new(op);
        self.ops.get_mut(at..=self.n).ok_or(Error::TooBig)?.iter_mut().for_each(|place| core::mem::swap(place, &mut moved));
        self.n += 1;
        Ok(())
    }
    fn copy(&mut self, from: usize, len: usize) -> Result<(), Error> {
        (from..from + len).try_for_each(|at| self.append(*self.ops.get(at).ok_or(Error::TooBig)?))
    }

    /// `|`: the branch so far becomes one of two ways.
    fn alternative(&mut self, frame: &mut Frame) -> Result<(), Error> {
        let len = self.n - frame.branch;
        self.insert(frame.branch, split(len + 2))?;
        let link = frame.chain.map_or(0, |chain| self.n - chain);
        frame.chain = Some(self.n);
        self.emit(jump(link))?;
        frame.branch = self.n;
        Ok(())
    }
    /// End of a group or of the pattern: all branches meet here.
    fn join(&mut self, frame: &Frame) {
        let mut chain = frame.chain;
        while let Some(at) = chain {
            let Some(place) = self.ops.get_mut(at) else { return };
            let Op::Jmp(link) = place.op() else { return };
            *place = Code::new(jump(self.n - at));
            chain = if link == 0 { None } else { at.checked_sub(link as usize) };
        }
    }

    /// The `*`, `+`, `?` and intervals after what starts at `start`.
    #[inline(never)]
    fn repetitions(&mut self, start: usize) -> Result<(), Error> {
        // glibc refuses to repeat an anchor.
        let anchor = |code: &Code| matches!(code.op(), Op::Bol | Op::Eol);
        if matches!(self.ops.get(start..self.n), Some([only]) if anchor(only)) && matches!(self.peek(), Some(b'*' | b'+' | b'?')) {
            return Err(Error::Repeat);
        }
        loop {
            let len = self.n - start;
            match self.peek() {
                Some(b'*') => self.star(start, len)?,
                Some(b'+') => self.plus(len)?,
                Some(b'?') => self.insert(start, split(len + 1))?,
                Some(b'{') => match self.interval()? {
                    Some((least, most)) => {
                        self.repeat(start, len, least, most)?;
                        continue;
                    }
                    // A literal brace follows; it is an atom of its own, which `atom` refuses as glibc does.
                    None => return Ok(()),
                },
                _ => return Ok(()),
            }
            self.at += 1;
        }
    }
    fn star(&mut self, start: usize, len: usize) -> Result<(), Error> {
        self.insert(start, split(len + 2))?;
        self.emit(back(len + 1))
    }
    fn plus(&mut self, len: usize) -> Result<(), Error> {
        self.emit(Op::Split(2))?;
        self.emit(back(len + 1))
    }
    /// `{m}`, `{m,}`, `{,n}`, `{m,n}`; `None`, with nothing consumed, for anything else.
    fn interval(&mut self) -> Result<Option<(u16, Option<u16>)>, Error> {
        let save = self.at;
        self.at += 1;
        let least = self.number();
        let most = if self.peek() == Some(b',') {
            self.at += 1;
            self.number()
        } else if least.is_some() {
            least
        } else {
            self.at = save;
            return Ok(None);
        };
        if self.peek() != Some(b'}') {
            self.at = save;
            return Ok(None);
        }
        self.at += 1;
        let least = least.unwrap_or(0);
        if most.is_some_and(|most| most < least || most > 0x7fff) || least > 0x7fff {
            return Err(Error::Brace);
        }
        Ok(Some((least, most)))
    }
    fn number(&mut self) -> Option<u16> {
        let mut value: Option<u16> = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            self.at += 1;
            value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(u16::from(digit - b'0')));
        }
        value
    }
    fn repeat(&mut self, start: usize, len: usize, least: u16, most: Option<u16>) -> Result<(), Error> {
        match (least, most) {
            (0, Some(0)) => self.n = start,
            (0, None) => self.star(start, len)?,
            (0, Some(most)) => {
                self.insert(start, split(len + 1))?;
                for _ in 1..most {
                    self.copy(start, len + 1)?;
                }
            }
            (least, most) => {
                for _ in 1..least {
                    self.copy(start, len)?;
                }
                match most {
                    None => self.plus(len)?,
                    Some(most) => {
                        for _ in least..most {
                            self.emit(split(len + 1))?;
                            self.copy(start, len)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn atom(&mut self) -> Result<(), Error> {
        let Some(c) = self.peek() else { return Ok(()) };
        self.at += 1;
        let op = match c {
            b'*' | b'+' | b'?' | b'{' => return Err(Error::Repeat),
            b'.' => Op::Any,
            b'^' => Op::Bol,
            b'$' => Op::Eol,
            b'[' => return self.bracket(),
            b'\\' => {
                let e = self.peek().ok_or(Error::Escape)?;
                self.at += 1;
                match e {
                    b'w' => return self.class(word, false),
                    b'W' => return self.class(word, true),
                    b's' => return self.class(space, false),
                    b'S' => return self.class(space, true),
                    b'1'..=b'9' | b'b' | b'B' | b'<' | b'>' | b'`' | b'\'' => return Err(Error::Escape),
                    _ => Op::Byte(e),
                }
            }
            _ => Op::Byte(c),
        };
        self.emit(op)
    }
    fn class(&mut self, member: fn(u8) -> bool, negated: bool) -> Result<(), Error> {
        let mut set: Set = [0; 8];
        add_class(&mut set, member);
        self.emit_set(set, negated)
    }
    #[inline(never)]
    fn bracket(&mut self) -> Result<(), Error> {
        let mut set: Set = [0; 8];
        let negated = self.peek() == Some(b'^');
        if negated {
            self.at += 1;
        }
        let mut first = true;
        loop {
            let c = self.peek().ok_or(Error::Bracket)?;
            self.at += 1;
            if c == b']' && !first {
                break;
            }
            first = false;
            if c == b'[' && self.peek() == Some(b':') {
                let rest = self.pattern.get(self.at + 1..).unwrap_or(&[]);
                let len = rest.windows(2).position(|w| w == b":]").ok_or(Error::Bracket)?;
                add_class(&mut set, class(rest.get(..len).unwrap_or(&[])).ok_or(Error::Class)?);
                self.at += len + 3;
                continue;
            }
            let low = self.element(c)?;
            if self.peek() == Some(b'-') && self.pattern.get(self.at + 1).is_some_and(|&x| x != b']') {
                self.at += 1;
                let c = self.peek().ok_or(Error::Bracket)?;
                self.at += 1;
                let high = self.element(c)?;
                if high < low {
                    return Err(Error::Range);
                }
                (low..=high).for_each(|b| add(&mut set, b));
            } else {
                add(&mut set, low);
            }
        }
        self.emit_set(set, negated)
    }
    fn emit_set(&mut self, mut set: Set, negated: bool) -> Result<(), Error> {
        if negated {
            set.iter_mut().for_each(|w| *w = !*w);
            // NUL ends a string where these rules come from: nothing matches it.
            set[0] &= !1;
        }
        let k = match self.sets.get(..self.k).and_then(|used| used.iter().position(|s| *s == set)) {
            Some(k) => k,
            None => {
                *self.sets.get_mut(self.k).ok_or(Error::TooBig)? = set;
                self.k += 1;
                self.k - 1
            }
        };
        self.emit(Op::Set(u8::try_from(k).map_err(|_| Error::TooBig)?))
    }
    /// A bracket's element: a byte, or `[.x.]`, `[=x=]` with a single byte.
    fn element(&mut self, c: u8) -> Result<u8, Error> {
        let Some(mark @ (b'.' | b'=')) = self.peek().filter(|_| c == b'[') else { return Ok(c) };
        let byte = *self.pattern.get(self.at + 1).ok_or(Error::Bracket)?;
        if self.pattern.get(self.at + 2) != Some(&mark) || self.pattern.get(self.at + 3) != Some(&b']') {
            return Err(Error::Bracket);
        }
        self.at += 4;
        Ok(byte)
    }
}

// Distances are below MAX_OPS, so they fit.
fn jump(by: usize) -> Op {
    Op::Jmp(by as i16)
}
fn back(by: usize) -> Op {
    Op::Jmp(-(by as i16))
}
fn split(by: usize) -> Op {
    Op::Split(by as i16)
}

fn add(set: &mut Set, b: u8) {
    set[usize::from(b >> 5)] |= 1 << (b & 31);
}
fn add_class(set: &mut Set, member: fn(u8) -> bool) {
    (0..=127u8).filter(|&b| member(b)).for_each(|b| add(set, b));
}
fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}
fn space(b: u8) -> bool {
    b.is_ascii_whitespace() || b == 0x0b
}
fn class(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alnum" => |b| b.is_ascii_alphanumeric(),
        b"alpha" => |b| b.is_ascii_alphabetic(),
        b"digit" => |b| b.is_ascii_digit(),
        b"upper" => |b| b.is_ascii_uppercase(),
        b"lower" => |b| b.is_ascii_lowercase(),
        b"xdigit" => |b| b.is_ascii_hexdigit(),
        b"space" => space,
        b"blank" => |b| b == b' ' || b == b'\t',
        b"punct" => |b| b.is_ascii_punctuation(),
        b"print" => |b| (0x20..0x7f).contains(&b),
        b"graph" => |b| b.is_ascii_graphic(),
        b"cntrl" => |b| b.is_ascii_control(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{check, is_match};
    use super::*;

    #[test]
    fn what_does_not_compile() {
        for (pattern, error) in [
            ("*a", Error::Repeat),
            ("+x", Error::Repeat),
            ("^*", Error::Repeat),
            ("a|*b", Error::Repeat),
            ("(*)", Error::Repeat),
            ("{1}", Error::Repeat),
            ("a{x", Error::Repeat),
            ("(", Error::Parenthesis),
            ("a(b", Error::Parenthesis),
            ("[z", Error::Bracket),
            ("[]", Error::Bracket),
            ("[b-a]", Error::Range),
            ("[[:foo:]]", Error::Class),
            ("a{2,1}", Error::Brace),
            ("a\\", Error::Escape),
            (r"(a)\1", Error::Escape),
            (r"\bx", Error::Escape),
            ("a{9999}", Error::TooBig),
        ] {
            assert_eq!(check(pattern.as_bytes()), Err(error), "{pattern}");
            assert!(!is_match(pattern.as_bytes(), b"a"));
        }
        assert_eq!(check("(".repeat(33).as_bytes()), Err(Error::Depth));
        assert!(check(std::format!("{}a{}", "(".repeat(32), ")".repeat(32)).as_bytes()).is_ok());
    }
}
