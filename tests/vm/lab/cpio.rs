//! Writes cpio archives in the "newc" form that the kernel unpacks as an initramfs.
//!
//! Own code and not cpio(1): no staging folder, no root for device nodes, and the same bytes for the same input, so
//! that archives can be cached. Ruled by the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DIR: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHAR: u32 = 0o020_000;

/// An archive being written. Folders above an entry are made when they are missing from it.
#[derive(Debug, Default)]
pub struct Cpio {
    out: Vec<u8>,
    dirs: BTreeSet<String>,
    inode: u32,
}

impl Cpio {
    /// An empty archive.
    pub fn new() -> Cpio {
        Cpio::default()
    }

    /// Adds a folder; a second time is nothing.
    pub fn dir(&mut self, path: &str) {
        let path = clean(path);
        if path.is_empty() || self.dirs.contains(&path) {
            return;
        }
        self.parents(&path);
        self.dirs.insert(path.clone());
        self.entry(&path, DIR | 0o755, (0, 0), &[]);
    }

    /// Adds a file with permission bits such as 0o755.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        let path = clean(path);
        self.parents(&path);
        self.entry(&path, FILE | (mode & 0o7777), (0, 0), data);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        let path = clean(path);
        self.parents(&path);
        self.entry(&path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a symbolic link at this very path, also where files of that folder would go elsewhere (`bin`, `lib`).
    pub fn top_link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device, such as the console that init has before /dev is mounted.
    pub fn char_dev(&mut self, path: &str, major: u32, minor: u32) {
        let path = clean(path);
        self.parents(&path);
        self.entry(&path, CHAR | 0o600, (major, minor), &[]);
    }

    /// Adds what is under a folder of the host, in sorted order. `place` maps each relative path to its place in the
    /// archive, or drops it.
    pub fn tree(&mut self, root: &Path, place: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        self.walk(root, "", place)
    }

    fn walk(&mut self, root: &Path, under: &str, place: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        let dir = root.join(under);
        let failed = |e: std::io::Error| format!("cannot read {}: {e}", dir.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().into_string().map_err(|n| format!("odd file name {n:?}"))?;
            names.push((name, entry.file_type().map_err(failed)?));
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            let path = if under.is_empty() { name } else { format!("{under}/{name}") };
            let Some(target) = place(&path) else { continue };
            let full = root.join(&path);
            let failed = |e: std::io::Error| format!("cannot read {}: {e}", full.display());
            if kind.is_dir() {
                self.dir(&target);
                self.walk(root, &path, place)?;
            } else if kind.is_symlink() {
                let to = fs::read_link(&full).map_err(failed)?;
                self.link(&target, &to.to_string_lossy());
            } else if kind.is_file() {
                let mode = fs::metadata(&full).map_err(failed)?.permissions().mode();
                self.file(&target, mode, &fs::read(&full).map_err(failed)?);
            }
        }
        Ok(())
    }

    /// Ends the archive. Archives may follow each other in one initramfs: each has its trailer, on a 512-byte boundary.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        while !self.out.len().is_multiple_of(512) {
            self.out.push(0);
        }
        self.out
    }

    fn parents(&mut self, path: &str) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.dir(above);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, dev: (u32, u32), data: &[u8]) {
        let size = u32::try_from(data.len()).expect("a file of 4 GiB does not fit into a cpio archive");
        let name = u32::try_from(path.len() + 1).expect("a path is short");
        self.inode += 1;
        // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, dev.0, dev.1, name, 0];
        self.out.extend_from_slice(b"070701");
        for field in fields {
            self.out.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.out.extend_from_slice(path.as_bytes());
        self.out.push(0);
        self.pad();
        self.out.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.out.len().is_multiple_of(4) {
            self.out.push(0);
        }
    }
}

/// The path without a leading slash, and with the old top folders in their merged place: the root of the image has
/// links `bin -> usr/bin` and so on, and the kernel would unpack a folder over such a link.
fn clean(path: &str) -> String {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    for top in ["bin", "sbin", "lib", "lib64"] {
        if path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')) {
            let merged = if top == "sbin" { path.replacen("sbin", "bin", 1) } else { path.to_string() };
            return format!("usr/{merged}");
        }
    }
    match path.strip_prefix("usr/sbin") {
        Some(rest) => format!("usr/bin{rest}"),
        None => path.to_string(),
    }
}
