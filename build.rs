//! Links the executable without libc or start files. Link arguments belong here and nowhere else: given by RUSTFLAGS they would
//! also reach build scripts and the test harness, which then crash at start.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    link_without_libc();
}

/// Static-pie, self-relocating, no start files; `bins` only, so the library and the tests link as usual.
fn link_without_libc() {
    let var = |k| std::env::var(k).unwrap_or_default();
    if var("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    let args: &[&str] = match var("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" => &["-nostartfiles", "-nostdlib", "-static-pie", "-Wl,-z,separate-code", "-Wl,--no-undefined"],
        // Linked by ld.lld itself (no cross gcc is needed), so these are linker arguments, not compiler ones.
        "aarch64" => &["-pie", "--no-dynamic-linker", "-z", "separate-code", "--no-undefined"],
        _ => &[],
    };
    for arg in args {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}
