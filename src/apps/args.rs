//! The command line, walked once from left to right: short options in groups (`-vd`), values glued or following, long options with
//! `=` or a following value, `--` ends options. By hand, as it is 60 lines and every applet's grammar differs a little.

use core::ffi::CStr;

/// One word of the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg<'a> {
    /// `-x`
    Short(char),
    /// `--name` (without a value that `=` gave: see [`Args::value`])
    Long(&'a str),
    /// Anything else.
    Word(&'a str),
    /// Not UTF-8; no name of ours is.
    Unreadable,
}

/// Walks the arguments after the program's name.
#[derive(Clone)]
pub struct Args<'a> {
    list: &'a [&'a CStr],
    at: usize,
    /// Rest of a group of short options.
    group: &'a str,
    /// Value that `--name=value` carried.
    glued: Option<&'a str>,
    words_only: bool,
}

impl<'a> Args<'a> {
    /// `list` without the program's name.
    pub fn new(list: &'a [&'a CStr]) -> Args<'a> {
        Args { list, at: 0, group: "", glued: None, words_only: false }
    }

    fn take(&mut self) -> Option<Result<&'a str, ()>> {
        let word = self.list.get(self.at)?;
        self.at += 1;
        Some(word.to_str().map_err(|_| ()))
    }

    /// The value of the option just read: what `=` or the group's rest gave, else the next word.
    pub fn value(&mut self) -> Option<&'a str> {
        if let Some(value) = self.glued.take() {
            return Some(value);
        }
        if !self.group.is_empty() {
            return Some(core::mem::take(&mut self.group));
        }
        self.take()?.ok()
    }

    /// The value only if it stands in the same word (`-v3`, `--watch=2`).
    pub fn glued_value(&mut self) -> Option<&'a str> {
        if let Some(value) = self.glued.take() {
            return Some(value);
        }
        (!self.group.is_empty()).then(|| core::mem::take(&mut self.group))
    }

    /// True when an option that takes no value was given one with `=`.
    pub fn stray_value(&self) -> bool {
        self.glued.is_some()
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = Arg<'a>;

    fn next(&mut self) -> Option<Arg<'a>> {
        self.glued = None;
        let mut letters = self.group.chars();
        if let Some(c) = letters.next() {
            self.group = letters.as_str();
            return Some(Arg::Short(c));
        }
        let Ok(word) = self.take()? else { return Some(Arg::Unreadable) };
        if self.words_only || word == "-" || !word.starts_with('-') {
            return Some(Arg::Word(word));
        }
        if word == "--" {
            self.words_only = true;
            return self.next();
        }
        if let Some(long) = word.strip_prefix("--") {
            return Some(match long.split_once('=') {
                Some((name, value)) => {
                    self.glued = Some(value);
                    Arg::Long(name)
                }
                None => Arg::Long(long),
            });
        }
        self.group = word.strip_prefix('-').unwrap_or("");
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_values_and_ends() {
        let list = [c"-vd", c"-p", c"multibus", c"--root=8:1", c"--timeout", c"9", c"-v3", c"--", c"-x"];
        let mut args = Args::new(&list);
        assert_eq!(args.next(), Some(Arg::Short('v')));
        assert_eq!(args.next(), Some(Arg::Short('d')));
        assert_eq!(args.next(), Some(Arg::Short('p')));
        assert_eq!(args.value(), Some("multibus"));
        assert_eq!(args.next(), Some(Arg::Long("root")));
        assert!(args.stray_value());
        assert_eq!(args.value(), Some("8:1"));
        assert_eq!(args.next(), Some(Arg::Long("timeout")));
        assert_eq!(args.value(), Some("9"));
        assert_eq!(args.next(), Some(Arg::Short('v')));
        assert_eq!(args.glued_value(), Some("3"));
        assert_eq!(args.next(), Some(Arg::Word("-x")));
        assert_eq!(args.next(), None);
    }
}
