//! The program that calls the shell's files one by one in a guest (probe/, a workspace of its own), linked statically.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::host;

/// Builds the probe once per process and gives its bytes, for `Vm::file("/usr/bin/probe", 0o755, ..)`.
pub fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target = host::cache().join("probe");
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let _lock = host::Lock::wait("probe");
        let mut command = Command::new(cargo);
        command.args(["rustc", "--quiet", "--locked", "--manifest-path"]).arg(host::lab_dir().join("probe/Cargo.toml"));
        command.arg("--target-dir").arg(&target);
        // The images have no C library.
        command.args(["--", "-C", "target-feature=+crt-static"]);
        host::must(&mut command);
        let built = target.join("debug/corepath-probe");
        fs::read(&built).unwrap_or_else(|e| panic!("cannot read {}: {e}", built.display()))
    })
}
