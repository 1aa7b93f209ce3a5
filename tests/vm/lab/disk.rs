//! Disk images with partitions and file systems, made on the host without root and without mounting anything.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::host;

/// One partition.
#[derive(Debug)]
pub struct Part<'a> {
    /// Size in MiB.
    pub mib: u64,
    /// The file system's label (ext4 of the files below a folder of the host), or no file system.
    pub ext4: Option<(&'a str, &'a Path)>,
}

/// Writes a disk image with a partition table (`gpt` or `dos`) and these partitions, from the first MiB on.
#[track_caller]
pub fn partitioned(path: &Path, mib: u64, table: &str, parts: &[Part<'_>]) {
    let failed = |e: std::io::Error| panic!("cannot make {}: {e}", path.display());
    File::create(path).and_then(|file| file.set_len(mib << 20)).unwrap_or_else(failed);
    let mut script = format!("label: {table}\n");
    let mut start = 1;
    for part in parts {
        script += &format!("start={start}MiB, size={}MiB\n", part.mib);
        if let Some((label, tree)) = &part.ext4 {
            mke2fs(path, start, part.mib, label, tree);
        }
        start += part.mib;
    }
    let mut sfdisk = Command::new(host::program("sfdisk"))
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start sfdisk: {e}"));
    if let Some(mut stdin) = sfdisk.stdin.take() {
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = sfdisk.wait_with_output().unwrap_or_else(|e| panic!("sfdisk: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "sfdisk did not accept:\n{script}{said}");
}

fn mke2fs(path: &Path, start: u64, mib: u64, label: &str, tree: &Path) {
    host::must(
        Command::new(host::program("mke2fs"))
            .args(["-q", "-F", "-t", "ext4", "-L", label, "-E", &format!("offset={},root_owner=0:0", start << 20), "-d"])
            .arg(tree)
            .arg(path)
            .arg(format!("{}k", mib << 10)),
    );
}

/// A small root file system in a folder of the host: the guest's busybox comes with it, `/sbin/init` is this script.
pub fn root_tree(dir: &Path, busybox: &[u8], init: &str) {
    for name in ["bin", "sbin", "usr", "proc", "sys", "dev", "run", "tmp", "etc", "mnt"] {
        host::make_dir(&dir.join(name));
    }
    let put = |name: &str, data: &[u8]| {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join(name);
        fs::write(&path, data)
            .and_then(|()| fs::set_permissions(&path, PermissionsExt::from_mode(0o755)))
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    };
    put("bin/busybox", busybox);
    put("sbin/init", init.as_bytes());
    let _ = std::os::unix::fs::symlink("../bin", dir.join("usr/bin"));
    for applet in ["sh", "mount", "umount", "cat", "echo", "ls", "sync", "poweroff", "sleep", "dd", "grep"] {
        let _ = std::os::unix::fs::symlink("busybox", dir.join("bin").join(applet));
    }
}
