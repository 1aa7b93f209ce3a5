//! The executable that is shipped. What `cargo test` builds has its checks on and a stack many times as large: a command that does not fit the
//! real one would pass with it.
#![allow(unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `COREPATH_BIN`, or what `cargo build --release` makes beside this test's own build: also when there is one, as it may be of yesterday.
pub fn shipped() -> &'static Path {
    static SHIPPED: OnceLock<PathBuf> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        if let Some(given) = std::env::var_os("COREPATH_BIN") {
            return PathBuf::from(given);
        }
        let Some(tested) = option_env!("CARGO_BIN_EXE_corepath") else {
            panic!("this target was built without the corepath binary: use the default features, or set COREPATH_BIN")
        };
        let target = Path::new(tested).ancestors().nth(2).unwrap_or_else(|| panic!("{tested} is in no target directory"));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--release", "--bin", "corepath", "--target-dir"]).arg(target);
        assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo").success(), "no release build");
        target.join("release/corepath")
    })
}
