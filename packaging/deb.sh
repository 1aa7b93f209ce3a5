#!/bin/sh
# Builds the Debian package: sh packaging/deb.sh PROGRAM OUT-DIR (make deb calls it). Nothing of it needs root or the network.
set -e
program=$1
out=$2
here=$(dirname "$0")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml" | head -1)
arch=$(dpkg --print-architecture)
tree=$out/tree
umask 022
rm -rf "$tree"
make -s -C "$here/.." install-files DESTDIR="$(realpath -m "$tree")" BIN="$(realpath "$program")" >/dev/null
# These three names are multipath-tools' own, with which this package conflicts. kpartx is a package that other programs need: it stays as
# it is, and ours is in /usr/lib/corepath/bin only.
for name in multipath multipathd multipathc; do ln -s corepath "$tree/usr/sbin/$name"; done
# Other packages order themselves behind that unit, and administrators reload it.
units=$tree/usr/lib/systemd/system
ln -s corepath.service "$units/multipathd.service"
sed -i '/^Conflicts=multipathd.service$/d' "$units/corepath.service"
doc=$tree/usr/share/doc/corepath
install -D -m 644 "$here/deb/copyright" "$doc/copyright"
install -m 644 "$here/../README.md" "$here/../docs/differences.md" "$doc"
install -D -m 755 "$here/../initramfs/busybox/init" "$doc/examples/busybox-init"
gzip -9n <"$here/../CHANGELOG.md" >"$doc/changelog.gz"
gzip -9n "$tree/usr/share/man/man8/corepath.8"
mkdir "$tree/DEBIAN"
for script in postinst prerm postrm; do install -m 755 "$here/deb/$script" "$tree/DEBIAN/$script"; done
install -m 644 "$here/deb/triggers" "$tree/DEBIAN/triggers"
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
size=$(du -ks --apparent-size "$tree/usr" | cut -f1)
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/" "$here/deb/control" >"$tree/DEBIAN/control"
dpkg-deb --root-owner-group -Zxz --build "$tree" "$out/corepath_${version}_$arch.deb"
rm -rf "$tree"
