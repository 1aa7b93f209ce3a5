//! POSIX extended regular expressions: does the pattern match anywhere in the text? C locale, bytes, no captures.
//!
//! A pattern is compiled to a program (`compile.rs`), which is run over the text (`matcher.rs`).
//!
//! Never allocates and never recurses; compiling takes `O(pattern x MAX_OPS)`, matching `O(text x program)`, so no pattern that an
//! administrator (or a hostile file) can write hangs the program. IEEE Std 1003.1 chapter 9.4 rules it; where that leaves the
//! result undefined, glibc's answer is taken if it is a plain one (`*a` is an error, `\d` is `d`, `\w` and `\s` are classes) and an
//! error if it is not (back-references, word boundaries).

mod compile;
mod matcher;

pub use compile::compile;

/// What one step of a compiled pattern does. Jumps are relative, so a piece of program can be copied.
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

/// A step as programs keep it: its kind in the upper three bits, the rest for a byte, a number or a distance. Two bytes: the array table
/// has eight hundred.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(pub(super) u16);

impl Code {
    pub const fn new(op: Op) -> Code {
        let (kind, operand) = match op {
            Op::Match => (0, 0),
            Op::Byte(byte) => (1, byte as u16),
            Op::Any => (2, 0),
            Op::Set(number) => (3, number as u16),
            Op::Bol => (4, 0),
            Op::Eol => (5, 0),
            Op::Jmp(by) => (6, by as u16),
            Op::Split(by) => (7, by as u16),
        };
        Code(kind << 13 | operand & 0x1fff)
    }
    pub const fn op(self) -> Op {
        // With its sign.
        let distance = (self.0 << 3) as i16 >> 3;
        match self.0 >> 13 {
            0 => Op::Match,
            1 => Op::Byte(self.0 as u8),
            2 => Op::Any,
            3 => Op::Set(self.0 as u8),
            4 => Op::Bol,
            5 => Op::Eol,
            6 => Op::Jmp(distance),
            _ => Op::Split(distance),
        }
    }
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
/// Deepest nesting of groups.
pub const MAX_DEPTH: usize = 32;

/// A compiled pattern, in buffers of the caller or in constant data.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    pub ops: &'a [Code],
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

/// Compiles on the stack (about 2 KB) and hands the program to `f`; cheaper than keeping programs of patterns that are asked rarely.
pub fn with_program<T>(pattern: &[u8], f: impl FnOnce(Program<'_>) -> T) -> Result<T, Error> {
    let mut ops = [Code::new(Op::Match); MAX_OPS];
    let mut sets = [[0; 8]; MAX_SETS];
    let (n, k) = compile(pattern, &mut ops, &mut sets)?;
    Ok(f(Program { ops: ops.get(..n).unwrap_or(&[]), sets: sets.get(..k).unwrap_or(&[]) }))
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
    fn steps_come_back() {
        let distances = (-(MAX_OPS as i16)..=MAX_OPS as i16).flat_map(|by| [Op::Jmp(by), Op::Split(by)]);
        let bytes = (0..=255).flat_map(|b| [Op::Byte(b), Op::Set(b)]);
        for op in distances.chain(bytes).chain([Op::Match, Op::Any, Op::Bol, Op::Eol]) {
            assert_eq!(Code::new(op).op(), op);
        }
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
