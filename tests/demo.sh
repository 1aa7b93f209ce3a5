#!/bin/sh
# The main job on an emulated machine, as a timeline: disks found, maps made, I/O running, a cable pulled, I/O going on, the cable back.
set -e
cd "$(dirname "$0")/.."
cargo build --release
COREPATH_BIN="${CARGO_TARGET_DIR:-target}/release/corepath"
COREPATH_BIN=$(readlink -f "$COREPATH_BIN")
export COREPATH_BIN
COREPATH_VM_KERNELS="${COREPATH_VM_KERNELS:-6.12}" cargo test --quiet --test vm -- --exact scenarios_demo::timeline::on_6_12 --nocapture 2>/dev/null |
    grep -v -e '^running ' -e '^test ' -e '^$'
