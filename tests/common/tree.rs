//! A file tree written down in one text, made in a directory of its own and removed at the end.
//!
//! One line per file, paths below the root: `path = text` (a newline is added; `\n`, `\xNN` in it), `path : hex digits`, `path -> target`,
//! `path * count byte` (that many), `path /` (an empty directory). Directories come of themselves. `@name = path` names a prefix that
//! later lines write as `@name`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct Tree {
    pub(crate) root: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Tree {
    pub(crate) fn new(texts: &[&str]) -> Tree {
        let name = format!("corepath-tree-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        for sub in ["sys/block", "dev", "proc/self", "run"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        let tree = Tree { root };
        for text in texts {
            tree.add(text);
        }
        tree
    }

    pub(crate) fn add(&self, text: &str) {
        let mut names = HashMap::new();
        for line in text.lines().map(str::trim_end).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (path, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no form in {line:?}"));
            if let Some(name) = path.strip_prefix('@').filter(|name| !name.contains('/')) {
                names.insert(name.to_string(), expand(rest.strip_prefix("= ").unwrap(), &names));
                continue;
            }
            self.line(&expand(path, &names), rest, &names);
        }
    }

    fn line(&self, path: &str, rest: &str, names: &HashMap<String, String>) {
        let place = self.root.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let (form, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let _ = fs::remove_file(&place);
        match form {
            "=" => fs::write(&place, unescape(value)).unwrap(),
            ":" => fs::write(&place, hex(value)).unwrap(),
            "->" => std::os::unix::fs::symlink(expand(value, names), &place).unwrap(),
            "*" => {
                let (count, byte) = value.split_once(' ').unwrap();
                fs::write(&place, vec![u8::from_str_radix(byte, 16).unwrap(); count.parse().unwrap()]).unwrap();
            }
            "/" => fs::create_dir_all(&place).unwrap(),
            _ => panic!("form {form:?} of {path}"),
        }
    }

    pub(crate) fn path(&self, sub: &str) -> String {
        self.root.join(sub).to_str().unwrap().to_string()
    }

    pub(crate) fn read(&self, sub: &str) -> String {
        fs::read_to_string(self.root.join(sub)).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.root));
    }
}

fn expand(path: &str, names: &HashMap<String, String>) -> String {
    match path.strip_prefix('@').and_then(|p| p.split_once('/').or(Some((p, "")))) {
        Some((name, rest)) => format!("{}/{rest}", names.get(name).unwrap_or_else(|| panic!("@{name}"))).trim_end_matches('/').to_string(),
        None => path.to_string(),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, if byte == b'\\' { bytes.next() } else { None }) {
            (b'\\', Some(b'n')) => out.push(b'\n'),
            (b'\\', Some(b'x')) => {
                let pair = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.extend(hex(std::str::from_utf8(&pair).unwrap()));
            }
            (b'\\', other) => panic!("escape {other:?}"),
            (byte, _) => out.push(byte),
        }
    }
    out.push(b'\n');
    out
}
