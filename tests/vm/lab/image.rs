//! Initial RAM disks: a cached base (busybox, modules, init), cached layers of Debian packages, and a scenario's files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Debs;
use super::cpio::Cpio;
use super::host;
use super::kernel::{Kernel, MODULES};

/// What runs as process 1 unless the scenario brings its own: mounts, modules, then the agent that takes commands.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/bin HOME=/root TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
modprobe -a virtio_pci virtio_console virtio_scsi sd_mod sg
[ -e /lab/setup ] && . /lab/setup
lab agent &
wait $!
echo "@agent ended"
poweroff -f
"#;

/// The base of a kernel with these modules besides the usual ones. Returns a cached archive.
pub fn base(kernel: &Kernel, extra: &[String]) -> PathBuf {
    let mut modules: Vec<&str> = MODULES.iter().copied().filter(|module| kernel.has(module)).collect();
    modules.extend(extra.iter().map(String::as_str));
    modules.sort_unstable();
    modules.dedup();
    let files = kernel.closure(&modules);
    let busybox = busybox(kernel);
    let code = include_str!("image.rs").as_bytes();
    let parts = files.iter().map(String::as_bytes).chain([kernel.release.as_bytes(), code]);
    let id = host::digest(parts);
    cached(&format!("base-{}-{id}", kernel.label), || {
        let mut cpio = skeleton();
        cpio.file("bin/busybox", 0o755, &busybox.program);
        for applet in &busybox.applets {
            cpio.link(&format!("bin/{applet}"), "busybox");
        }
        modules_into(&mut cpio, kernel, &files);
        cpio.file("init", 0o755, INIT.as_bytes());
        cpio.finish()
    })
}

/// A layer with the files of these packages, without what only people read.
pub fn packages(debs: &Debs) -> PathBuf {
    cached(&format!("debs-{}", host::digest([debs.id.as_bytes(), include_str!("image.rs").as_bytes()])), || {
        let mut cpio = Cpio::new();
        for root in &debs.roots {
            let place = |path: &str| {
                let unread = ["doc", "man", "locale", "info", "lintian", "bug", "bash-completion", "zsh", "i18n"];
                let dropped = path.strip_prefix("usr/share/").is_some_and(|rest| {
                    unread.iter().any(|dir| rest.strip_prefix(dir).is_some_and(|r| r.is_empty() || r.starts_with('/')))
                });
                // Character set converters (glibc), names of PCI and USB vendors, and boot files are of no use either.
                let heavy = path.ends_with("/gconv") || path.ends_with("udev/hwdb.d") || path == "boot";
                (!dropped && !heavy && !leads_to_itself(root, path)).then(|| path.to_string())
            };
            cpio.tree(root, &place).unwrap_or_else(|e| panic!("{e}"));
        }
        cpio.finish()
    })
}

/// A link from one of the folders for programs to the same name in another: here they are one folder.
fn leads_to_itself(root: &Path, path: &str) -> bool {
    let folder = |path: &Path| {
        let name = path.parent().and_then(Path::file_name);
        name.is_some_and(|name| name == "bin" || name == "sbin")
    };
    fs::read_link(root.join(path)).is_ok_and(|to| {
        let path = Path::new(path);
        folder(path) && folder(&to) && to.file_name() == path.file_name()
    })
}

/// Joins archives into one initial RAM disk: the kernel unpacks them in this order, later files win.
pub fn join(parts: &[&Path], last: Cpio, out: &Path) {
    let mut whole = Vec::new();
    for part in parts {
        let data = fs::read(part).unwrap_or_else(|e| panic!("cannot read {}: {e}", part.display()));
        whole.extend_from_slice(&data);
        // A compressed one ends anywhere; the next is looked for at a multiple of four (init/initramfs.c).
        whole.resize(whole.len().next_multiple_of(4), 0);
    }
    whole.extend_from_slice(&last.finish());
    fs::write(out, whole).unwrap_or_else(|e| panic!("cannot write {}: {e}", out.display()));
}

fn cached(name: &str, make: impl FnOnce() -> Vec<u8>) -> PathBuf {
    let dir = host::cache().join("images");
    host::make_dir(&dir);
    let path = dir.join(format!("{name}.cpio"));
    let _lock = host::Lock::wait("images");
    if !path.exists() {
        host::write_whole(&path, &make());
    }
    host::used(&path);
    path
}

/// Folders, links and device nodes that must be there before init runs.
fn skeleton() -> Cpio {
    let mut cpio = Cpio::new();
    for dir in ["usr/bin", "usr/lib", "usr/lib64", "proc", "sys", "dev", "run", "tmp", "etc", "root", "mnt", "var/lib", "lab"] {
        cpio.dir(dir);
    }
    for (link, to) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        cpio.top_link(link, to);
    }
    cpio.top_link("usr/sbin", "bin");
    cpio.link("var/run", "../run");
    cpio.link("etc/mtab", "../proc/self/mounts");
    cpio.char_dev("dev/console", 5, 1);
    cpio.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    cpio.file("etc/group", 0o644, b"root:x:0:\ndisk:x:6:\ntty:x:5:\n");
    cpio
}

struct Busybox {
    program: Vec<u8>,
    applets: BTreeSet<String>,
}

/// The static busybox of a kernel's suite, for images of other disks.
pub fn busybox_program(kernel: &Kernel) -> Vec<u8> {
    busybox(kernel).program
}

fn busybox(kernel: &Kernel) -> Busybox {
    let debs = kernel.suite.debs(&["busybox-static"]);
    let path = debs
        .roots
        .iter()
        .flat_map(|root| [root.join("bin/busybox"), root.join("usr/bin/busybox")])
        .find(|path| path.is_file())
        .expect("the package busybox-static has a program busybox");
    let list = host::must(Command::new(&path).arg("--list"));
    let applets = String::from_utf8_lossy(&list).lines().filter(|name| *name != "busybox").map(str::to_string).collect();
    let program = fs::read(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    Busybox { program, applets }
}

/// The modules without compression, and their index as depmod writes it for just these.
fn modules_into(cpio: &mut Cpio, kernel: &Kernel, files: &[String]) {
    let scratch = host::Scratch::new();
    modules_below(&scratch.dir, kernel, files);
    cpio.tree(&scratch.dir, &|path| Some(path.to_string())).unwrap_or_else(|e| panic!("{e}"));
}

/// The same below a folder: a machine's root that has these modules and no others.
pub fn modules_below(root: &Path, kernel: &Kernel, files: &[String]) {
    let dir = root.join(format!("lib/modules/{}", kernel.release));
    for file in files {
        let plain = file.trim_end_matches(".xz").trim_end_matches(".zst");
        let path = dir.join(plain);
        host::make_dir(path.parent().unwrap_or(&dir));
        fs::write(&path, kernel.module(file)).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }
    for name in ["modules.builtin", "modules.order", "modules.builtin.modinfo"] {
        let _ = fs::copy(kernel.modules_dir().join(name), dir.join(name));
    }
    host::must(Command::new(host::program("depmod")).arg("-b").arg(root).arg(&kernel.release));
}
