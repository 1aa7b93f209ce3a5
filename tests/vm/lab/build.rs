//! Programs that the lab builds: the guest's helper, and the path of corepath itself.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::host;
use super::kernel::Kernel;

#[path = "../../common/shipped.rs"]
mod shipped;

/// The corepath executable under test: the one that is shipped; on the older kernel the one that cargo built for this target, whose checks
/// are on. COREPATH_BIN stands for both.
pub fn corepath(kernel: &Kernel) -> PathBuf {
    match option_env!("CARGO_BIN_EXE_corepath") {
        Some(checked) if kernel.label == "6.1" && std::env::var_os("COREPATH_BIN").is_none() => PathBuf::from(checked),
        _ => shipped(),
    }
}

/// The executable that is shipped.
pub fn shipped() -> PathBuf {
    shipped::shipped().to_path_buf()
}

/// The guest's helper (tools/guest), linked statically against the machine's C library so that it runs in an image
/// that has none. Built once for each text of its source and each compiler.
pub fn guest_helper() -> Vec<u8> {
    let source = host::lab_dir().join("tools/guest");
    let entries = fs::read_dir(&source).unwrap_or_else(|e| panic!("cannot read {}: {e}", source.display()));
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.sort_unstable();
    let text = |file: &PathBuf| fs::read(file).unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()));
    let mut parts: Vec<Vec<u8>> = files.iter().map(text).collect();
    let rustc = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    parts.push(host::must(Command::new(&rustc).arg("-vV")));
    let dir = host::cache().join("tools");
    host::make_dir(&dir);
    let out = dir.join(format!("guest-{}", host::digest(parts.iter().map(Vec::as_slice))));
    let _lock = host::Lock::wait("tools");
    if !out.exists() {
        let part = host::part(&out);
        host::must(
            Command::new(&rustc)
                .args(["--edition", "2024", "--crate-name", "guest", "-D", "warnings", "-O"])
                .args(["-C", "target-feature=+crt-static", "-C", "panic=abort", "-C", "strip=symbols", "-o"])
                .arg(&part)
                .arg(source.join("main.rs")),
        );
        fs::rename(&part, &out).unwrap_or_else(|e| panic!("cannot make {}: {e}", out.display()));
    }
    host::used(&out);
    fs::read(&out).unwrap_or_else(|e| panic!("cannot read {}: {e}", out.display()))
}
