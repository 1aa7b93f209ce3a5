#!/bin/sh
# Installs what the VM tests need on a Debian machine, and only what is missing.
# Run as root. `make test`, .ci/run and the tests themselves (when a tool is missing) call it.
set -eu
need=
want() { # want PROGRAM PACKAGE
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || need="$need $2"
}
want qemu-system-x86_64 qemu-system-x86
want dpkg-deb dpkg
want depmod kmod
want xz xz-utils
want zstd zstd
want mke2fs e2fsprogs
want sfdisk fdisk
want cc gcc
[ "${COREPATH_VM_ROUNDS:-}" != full ] || want mmdebstrap mmdebstrap
# libc.a, for the statically linked helper that runs in the guest; qemu's firmware comes by "recommends" only
find /usr/lib -name libc.a 2>/dev/null | grep -q . || need="$need libc6-dev"
[ -e /usr/share/seabios/bios-256k.bin ] || need="$need seabios"
if [ -z "$need" ]; then
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "tests/vm/setup.sh: missing:$need (run this script as root, or install them)" >&2
	exit 1
fi
echo "tests/vm/setup.sh: installing$need" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086
apt-get -qq install -y --no-install-recommends $need >/dev/null
