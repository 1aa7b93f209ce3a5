#!/bin/sh
# Runs fuzz targets one after the other: sh fuzz/run.sh RUNS [TARGET ...]   (all targets when none is named)
#
# Stable Rust and a C++ compiler are enough: coverage comes from the compiler's own pass, libFuzzer from the crate. No sanitizer: there is
# no unsafe code behind these readers, and what goes wrong in them panics. `cargo fuzz run TARGET` works too, where it is installed.
set -e
cd "$(dirname "$0")"
runs=${1:?usage: run.sh RUNS [TARGET ...]}
shift
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
 -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1"
export RUSTFLAGS
triple=$(rustc -vV | sed -n 's/host: //p')
# A target given, so that build scripts are not instrumented.
cargo build --release --target "$triple" --bins
[ $# -gt 0 ] || set -- $(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | grep -v corepath)
for target in "$@"; do
    mkdir -p "corpus/$target" "target/found/$target" artifacts
    printf '%s: ' "$target"
    # The first folder is written to, the kept corpus only read.
    if "$CARGO_TARGET_DIR/$triple/release/$target" -runs="$runs" -max_len=4096 -timeout=10 -artifact_prefix="artifacts/$target-" \
        "target/found/$target" "corpus/$target" >"target/$target.log" 2>&1; then
        tail -1 "target/$target.log"
    else
        tail -20 "target/$target.log"
        exit 1
    fi
done
