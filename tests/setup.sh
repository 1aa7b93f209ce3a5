#!/bin/sh
# Installs what building and testing need, and nothing that is there already. Run as root; without root it says what is missing.
set -e
cd "$(dirname "$0")"

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo 1.88 or later is needed: install Debian's rustup package and run 'rustup default stable'" >&2
    exit 1
fi

missing=
want() { # want COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
want gcc gcc
want ld binutils
want sfdisk fdisk
want sgdisk gdisk
want parted parted
want mkfs.ext4 e2fsprogs
want mkfs.xfs xfsprogs
want mkfs.btrfs btrfs-progs
want kpartx kpartx
[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || [ "$(uname -m)" != x86_64 ] || missing="$missing libc6-dev"

if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: not root, please install:$missing" >&2
        exit 1
    fi
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
[ ! -f vm/setup.sh ] || sh vm/setup.sh
