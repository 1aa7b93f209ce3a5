//! The layout is the architecture: greps each room for what it may never use (ARCHITECTURE.md, "Rooms and arrows").

use std::path::{Path, PathBuf};

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Code lines of a file before its in-file tests, without comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap();
    shipped
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim_start().starts_with("//"))
        .map(|(n, l)| (n + 1, l.split(" // ").next().unwrap().to_string()))
        .collect()
}

const SHELL: [&str; 18] = [
    "arena", "console", "devlinks", "diskread", "dmioctl", "files", "inotify", "klog", "lockdown", "loopdev", "netlink", "raw", "sgio",
    "sock", "sysfs", "wait", "workers", "modules",
];

/// (room, path prefixes under src, words that may not occur)
fn rules() -> Vec<(&'static str, Vec<String>, Vec<String>)> {
    let shell = SHELL.iter().flat_map(|s| [format!("{s}.rs"), format!("{s}/")]).collect::<Vec<_>>();
    let owned = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    // What talks to nobody: no system call, no clock, none of the shell.
    let below = |more: &[&str]| {
        let shell = SHELL.iter().map(|s| format!("crate::{s}"));
        owned(&["rustix", "log::", "unsafe", "clock_gettime"]).into_iter().chain(shell).chain(owned(more)).collect()
    };
    vec![
        ("model", owned(&["model.rs", "fault.rs", "order.rs"]), below(&["crate::wire", "crate::conf", "crate::engine", "crate::apps"])),
        ("wire", owned(&["wire/"]), below(&["crate::conf", "crate::engine", "crate::apps"])),
        ("conf", owned(&["conf/"]), below(&["crate::wire", "crate::engine", "crate::apps"])),
        ("engine", owned(&["engine/", "failback.rs"]), below(&["crate::apps", "write!(", "format_args!"])),
        ("shell", shell, owned(&["crate::engine", "crate::conf", "crate::apps"])),
        ("apps", owned(&["apps/"]), owned(&["rustix", "unsafe"])),
        ("start", owned(&["main.rs", "start/"]), owned(&["corepath::engine", "corepath::conf", "corepath::wire"])),
    ]
}

fn occurs(line: &str, word: &str) -> bool {
    if word != "unsafe" && word != "rustix" {
        return line.contains(word);
    }
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
}

#[test]
fn each_room_keeps_to_its_arrows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut broken = Vec::new();
    let mut homeless = Vec::new();
    for file in &files {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap().to_string();
        let rules = rules();
        let Some((room, _, never)) = rules.iter().find(|(_, prefixes, _)| prefixes.iter().any(|p| name.starts_with(p.as_str()))) else {
            if name != "lib.rs" {
                homeless.push(name);
            }
            continue;
        };
        for (number, line) in code(file) {
            for word in never {
                if occurs(&line, word) {
                    broken.push(format!("src/{name}:{number}: {room} may not use {word}: {}", line.trim()));
                }
            }
        }
    }
    assert!(homeless.is_empty(), "files in no room: {homeless:?}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let silent: Vec<_> = files
        .iter()
        .filter(|f| {
            let text = std::fs::read_to_string(f).unwrap();
            let head = text.lines().find(|l| !l.starts_with("#![")).unwrap_or("");
            !head.starts_with("//! ") || head.contains("To be filled")
        })
        .collect();
    assert!(silent.is_empty(), "no //! head: {silent:?}");
}

#[test]
fn unsafe_has_an_address() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let uses = code(file).iter().any(|(_, l)| occurs(l, "unsafe") && !l.contains("unsafe_code"));
        if uses {
            assert!(text.contains("//! # Safety"), "{} uses unsafe without a Safety head", file.display());
        }
    }
}
