#!/bin/sh
# Every CI job, runnable by hand: ./ci.sh JOB
set -e
cd "$(dirname "$0")"

lint() {
    cargo fmt --check
    cargo clippy --all-targets --no-default-features -- -D warnings
    cargo clippy -- -D warnings
    (cd tests/array && cargo fmt --check && cargo clippy --all-targets -- -D warnings)
    (cd tests/vm/probe && cargo fmt --check && cargo clippy -- -D warnings)
    # Nothing is linked: libFuzzer, which a C++ compiler would build, need not be there.
    (cd fuzz && cargo fmt --check && CUSTOM_LIBFUZZER_PATH=none/libfuzzer.a cargo clippy -- -D warnings)
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet
    sh tests/aarch64.sh
}

size() {
    cargo build --release
    COREPATH_BIN=$(realpath "${CARGO_TARGET_DIR:-target}/release/corepath") cargo test --test elf -- --nocapture
}

case "${1:-}" in
lint | size) "$1" ;;
test) make test ;;
*)
    echo "usage: ./ci.sh lint|size|test" >&2
    exit 2
    ;;
esac
