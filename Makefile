# Each target sets up what it needs (as root, from the package registries) and is the same command a person and CI use.
DESTDIR ?=

.PHONY: all build test demo bench lint setup install clean

all: build

build:
	cargo build --release

setup:
	sh tests/setup.sh

test: setup
	cargo test
	cargo test --manifest-path tests/array/Cargo.toml

demo: setup
	sh tests/demo.sh

bench: setup
	cargo bench

lint:
	sh ci.sh lint

install: build
	install -D -m 755 target/release/corepath "$(DESTDIR)/usr/sbin/corepath"
	for name in @corepath multipath multipathd multipathc kpartx devmap_name; do ln -sf corepath "$(DESTDIR)/usr/sbin/$$name"; done
	target/release/corepath install --root "$(DESTDIR)/"

clean:
	cargo clean
