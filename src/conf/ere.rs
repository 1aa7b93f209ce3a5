//! POSIX extended regular expressions: does the pattern match anywhere in the text? C locale, bytes, no captures.
//!
//! Never allocates and never recurses; compiling takes `O(pattern x MAX_OPS)`, matching `O(text x program)`, so no pattern that an
//! administrator (or a hostile file) can write hangs the program. IEEE Std 1003.1 chapter 9.4 rules it; where that leaves the
//! result undefined, glibc's answer is taken if it is a plain one (`*a` is an error, `\d` is `d`, `\w` and `\s` are classes) and an
//! error if it is not (back-references, word boundaries).

/// One step of a compiled pattern. Jumps are relative, so a piece of program can be copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Match,
    Byte(u8),
    Any,
    Set(u8),
    Bol,
    Eol,
    Jmp(i16),
    /// Go on with the next step and also `n` steps from here.
    Split(i16),
}

/// A bracket expression: one bit per byte value.
pub type Set = [u32; 8];

/// Why a pattern does not compile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// More than [`MAX_OPS`] steps or [`MAX_SETS`] different brackets.
    TooBig,
    Parenthesis,
    Bracket,
    Brace,
    Range,
    Class,
    /// Back-reference, word boundary, or a lone backslash at the end.
    Escape,
    /// Groups nested deeper than [`MAX_DEPTH`].
    Depth,
    /// `*`, `+`, `?` or `{` with nothing before it to repeat.
    Repeat,
}

/// Longest program: what the matcher's bit sets hold.
pub const MAX_OPS: usize = 512;
/// Most different bracket expressions of one pattern.
pub const MAX_SETS: usize = 32;
const WORDS: usize = MAX_OPS / 64;
/// Deepest nesting of groups.
pub const MAX_DEPTH: usize = 32;

/// A compiled pattern, in buffers of the caller or in constant data.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    pub ops: &'a [Op],
    pub sets: &'a [Set],
}

/// A pattern without operators but for anchors at its ends: compared without a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Literal<'a> {
    pub text: &'a [u8],
    pub from_start: bool,
    pub to_end: bool,
}

impl<'a> Literal<'a> {
    /// `None` when the pattern needs a program.
    pub fn parse(pattern: &'a [u8]) -> Option<Literal<'a>> {
        let (from_start, rest) = match pattern.strip_prefix(b"^") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let (to_end, text) = match rest.strip_suffix(b"$") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let plain = |b: &u8| !matches!(b, b'.' | b'[' | b']' | b'(' | b')' | b'*' | b'+' | b'?' | b'{' | b'}' | b'|' | b'\\' | b'^' | b'$');
        text.iter().all(plain).then_some(Literal { text, from_start, to_end })
    }

    pub fn is_match(&self, text: &[u8]) -> bool {
        match (self.from_start, self.to_end) {
            (true, true) => text == self.text,
            (true, false) => text.starts_with(self.text),
            (false, true) => text.ends_with(self.text),
            (false, false) => self.text.is_empty() || text.windows(self.text.len()).any(|w| w == self.text),
        }
    }
}

/// Does the pattern compile?
pub fn check(pattern: &[u8]) -> Result<(), Error> {
    with_program(pattern, |_| ())
}

/// Does `pattern` match anywhere in `text`? A pattern that does not compile never does; whoever accepts a pattern checks it first.
pub fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    match Literal::parse(pattern) {
        Some(literal) => literal.is_match(text),
        None => with_program(pattern, |program| program.is_match(text)).unwrap_or(false),
    }
}

/// Compiles on the stack (about 3 KB) and hands the program to `f`; cheaper than keeping programs of patterns that are asked rarely.
pub fn with_program<T>(pattern: &[u8], f: impl FnOnce(Program<'_>) -> T) -> Result<T, Error> {
    let mut ops = [Op::Match; MAX_OPS];
    let mut sets = [[0; 8]; MAX_SETS];
    let (n, k) = compile(pattern, &mut ops, &mut sets)?;
    Ok(f(Program { ops: ops.get(..n).unwrap_or(&[]), sets: sets.get(..k).unwrap_or(&[]) }))
}

/// Compiles `pattern` into the caller's buffers; the numbers of ops and sets used.
#[inline(never)]
pub fn compile(pattern: &[u8], ops: &mut [Op], sets: &mut [Set]) -> Result<(usize, usize), Error> {
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
    ops: &'a mut [Op],
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
        *self.ops.get_mut(self.n).ok_or(Error::TooBig)? = op;
        self.n += 1;
        Ok(())
    }
    fn insert(&mut self, at: usize, op: Op) -> Result<(), Error> {
        // What stands there goes one further, and so on.
        let mut moved = op;
        self.ops.get_mut(at..=self.n).ok_or(Error::TooBig)?.iter_mut().for_each(|place| core::mem::swap(place, &mut moved));
        self.n += 1;
        Ok(())
    }
    fn copy(&mut self, from: usize, len: usize) -> Result<(), Error> {
        (from..from + len).try_for_each(|at| self.emit(*self.ops.get(at).ok_or(Error::TooBig)?))
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
            let Some(Op::Jmp(by)) = self.ops.get_mut(at) else { return };
            let link = core::mem::replace(by, (self.n - at) as i16);
            chain = if link == 0 { None } else { at.checked_sub(link as usize) };
        }
    }

    /// The `*`, `+`, `?` and intervals after what starts at `start`.
    #[inline(never)]
    fn repetitions(&mut self, start: usize) -> Result<(), Error> {
        // glibc refuses to repeat an anchor.
        if matches!(self.ops.get(start..self.n), Some([Op::Bol | Op::Eol])) && matches!(self.peek(), Some(b'*' | b'+' | b'?')) {
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
                    let hit = match self.ops.get(pc) {
                        Some(Op::Byte(x)) => *x == b,
                        Some(Op::Any) => b != 0,
                        Some(Op::Set(k)) => self.sets.get(usize::from(*k)).is_some_and(|s| s[usize::from(b >> 5)] >> (b & 31) & 1 == 1),
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
            let step = if seen { None } else { self.ops.get(pc) };
            pc = match step {
                Some(Op::Match) => return true,
                Some(Op::Jmp(by)) => pc.wrapping_add_signed(isize::from(*by)),
                Some(Op::Split(by)) => {
                    if let Some(slot) = stack.get_mut(top) {
                        *slot = pc.wrapping_add_signed(isize::from(*by)) as u16;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    #[test]
    fn what_matches() {
        for (pattern, text, expected) in [
            ("abc", "xabcx", true),
            ("^abc$", "abc", true),
            ("^abc$", "abcd", false),
            ("a|b", "xb", true),
            ("(a|b|cd)e", "cde", true),
            ("(a|b|cd)e", "ce", false),
            ("^(a|)$", "", true),
            ("()", "", true),
            ("a{3}", "aa", false),
            ("a{3}", "aaa", true),
            ("^a{1,2}$", "aaa", false),
            ("^a{,2}$", "", true),
            ("^(ab){2,}$", "ababab", true),
            ("^(ab){2,}$", "ab", false),
            ("[]a]", "]", true),
            ("[^]a]", "a", false),
            ("[a-]", "-", true),
            ("[[:digit:]]+$", "x12", true),
            ("[[.a.]-c]", "b", true),
            (r"\.", "x", false),
            (r"\d+", "d", true),
            (r"\d+", "5", false),
            (r"^\s\w\S\W$", "\ta!-", true),
            ("ba[[rxy]", "ba[", true),
            ("((((((((a))))))))", "a", true),
            ("x*", "", true),
            ("(x*)*y", "xxxxy", true),
            ("a)", "a)", true),
            ("S/390 DASD", "S/390 DASD ECKD", true),
            ("!^(sd[a-z])", "!", false),
        ] {
            assert_eq!(is_match(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
            assert!(check(pattern.as_bytes()).is_ok());
        }
    }

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

    /// The quick way and the program agree on every literal.
    #[test]
    fn literal_equals_program() {
        for pattern in ["", "a", "^", "$", "^$", "ab", "^ab", "ab$", "^ab$", "a b"] {
            let literal = Literal::parse(pattern.as_bytes()).unwrap();
            for text in ["", "a", "b", "ab", "xab", "abx", "xabx", "a b"] {
                let by_program = with_program(pattern.as_bytes(), |p| p.is_match(text.as_bytes())).unwrap();
                assert_eq!(literal.is_match(text.as_bytes()), by_program, "{pattern} on {text}");
            }
        }
    }

    /// Every alternation and repetition of a small alphabet against a plain backtracking matcher.
    #[test]
    fn agrees_with_backtracking() {
        let pieces = ["a", "b", ".", "(a|b)", "(ab|a)", "(a|)", "[^a]"];
        let marks = ["", "*", "+", "?", "{2}", "{1,2}", "{0,1}"];
        let mut texts: Vec<String> = std::vec![String::new()];
        for n in 0..4 {
            let longer: Vec<String> = texts.iter().filter(|t| t.len() == n).flat_map(|t| ["a", "b"].map(|c| t.clone() + c)).collect();
            texts.extend(longer);
        }
        for p in pieces {
            for m in marks {
                for q in pieces {
                    for (start, end) in [("", ""), ("^", "$")] {
                        let pattern = std::format!("{start}{p}{m}{q}{end}");
                        for text in &texts {
                            let expected = (0..=text.len()).any(|i| {
                                (start.is_empty() || i == 0)
                                    && ends(p, m, text, i)
                                        .iter()
                                        .flat_map(|&j| ends(q, "", text, j))
                                        .any(|k| end.is_empty() || k == text.len())
                            });
                            assert_eq!(is_match(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
                        }
                    }
                }
            }
        }
    }
    /// Where piece `p` repeated as `m` says can end when it starts at `i`.
    fn ends(p: &str, m: &str, text: &str, i: usize) -> Vec<usize> {
        let once = |i: usize| -> Vec<usize> {
            let words: &[&str] = match p {
                "a" => &["a"],
                "b" | "[^a]" => &["b"],
                "." | "(a|b)" => &["a", "b"],
                "(ab|a)" => &["ab", "a"],
                _ => &["a", ""],
            };
            words.iter().filter(|w| text[i..].starts_with(**w)).map(|w| i + w.len()).collect()
        };
        let (least, most) = match m {
            "" => (1, 1),
            "*" => (0, 6),
            "+" => (1, 6),
            "?" | "{0,1}" => (0, 1),
            "{2}" => (2, 2),
            _ => (1, 2),
        };
        let mut at = std::vec![i];
        let mut all = if least == 0 { at.clone() } else { Vec::new() };
        for n in 1..=most {
            at = at.iter().flat_map(|&i| once(i)).collect();
            at.dedup();
            if n >= least {
                all.extend(&at);
            }
        }
        all
    }

    proptest::proptest! {
        #[test]
        fn never_panics(pattern in proptest::collection::vec(proptest::sample::select(&b"ab^$.*+?{}(),|[]\\-0129:\x00\xff"[..]), 0..80), text: Vec<u8>) {
            is_match(&pattern, &text);
        }
    }
}
