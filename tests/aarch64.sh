#!/bin/sh
# Compiles the program for aarch64 down to its objects, assembly included: a stable toolchain has the standard library of its own target
# only, but Debian's rustc-web comes with one for arm64. Its packages are unpacked into the cache (120 MB to fetch, once); nothing is
# installed or linked. Where there are no such packages it says so, and that nothing was compiled.
set -e
cd "$(dirname "$0")/.."
cache=${COREPATH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corepath}/aarch64
root=$cache/root
if [ ! -e "$cache/ready" ]; then
    rm -rf "$cache"
    mkdir -p "$cache/lists/partial" "$cache/debs/archives/partial" "$cache/state" "$root"
    : >"$cache/status"
    cat >"$cache/apt.conf" <<CONF
Dir::State "$cache/state";
Dir::State::Lists "$cache/lists";
Dir::State::status "$cache/status";
Dir::Cache "$cache/debs";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
CONF
    export APT_CONFIG="$cache/apt.conf"
    apt-get -qq update || true
    std=$(apt-cache depends rustc-web 2>/dev/null | sed -n 's/.*Depends: \(libstd-rust-web-dev\).*/\1/p')
    lib=$(apt-cache depends libstd-rust-web-dev 2>/dev/null | sed -n 's/.*Depends: \(libstd-rust-web-[0-9.]*\).*/\1/p' | head -n 1)
    llvm=$(apt-cache depends "$lib" 2>/dev/null | sed -n 's/.*Depends: \(libllvm[0-9]*\).*/\1/p')
    if [ -z "$std" ] || [ -z "$lib" ] || [ -z "$llvm" ]; then
        echo "aarch64: not compiled, these package sources have no rustc-web" >&2
        exit 0
    fi
    (cd "$cache/debs" && apt-get -qq download rustc-web:amd64 "$lib:amd64" "$llvm:amd64" "$std:amd64" "$std:arm64")
    for deb in "$cache"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
    rm -rf "$cache/debs" "$cache/lists"
    touch "$cache/ready"
fi
export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu" RUSTC="$root/usr/bin/rustc" CARGO_TARGET_DIR="$cache/target"
# Nothing runs, so nothing is optimized; there is no linker for it, and none is needed to see that it compiles.
export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=true
cargo build --quiet --target aarch64-unknown-linux-gnu --bin corepath
echo "aarch64: compiled by $("$RUSTC" --version)"
