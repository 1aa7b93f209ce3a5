# Each target sets up what it needs (as root, from the package registries) and is the same command a person and CI use.
DESTDIR ?=

.PHONY: all build test demo bench lint setup install install-files deb clean

all: build

build:
	cargo build --release

setup:
	sh tests/setup.sh

test: setup
	cargo test --manifest-path tests/array/Cargo.toml
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(nproc) + 1))} cargo test

demo: setup
	sh tests/demo.sh

bench: setup
	cargo bench

lint:
	sh ci.sh lint

# For packagers: DESTDIR as usual. The names of multipath-tools go where they hide nobody's files; NAMES=/usr/sbin puts them into everybody's
# way, for a machine on which no package of multipath-tools is.
NAMES ?= /usr/lib/corepath/bin
BIN ?= target/release/corepath

# Root need not have the compiler that its user has: then what the user built is installed, and its age is said.
install:
	@if command -v cargo >/dev/null; then cargo build --release; else echo "no cargo here: installing $(BIN) as built on $$(date -r "$(BIN)")"; fi
	$(MAKE) install-files

install-files:
	install -D -m 755 "$(BIN)" "$(DESTDIR)/usr/sbin/corepath"
	ln -sf corepath "$(DESTDIR)/usr/sbin/@corepath"
	install -d "$(DESTDIR)$(NAMES)"
	for name in multipath multipathd multipathc kpartx devmap_name; do ln -srfT "$(DESTDIR)/usr/sbin/corepath" "$(DESTDIR)$(NAMES)/$$name"; done
	install -D -m 644 docs/man/corepath.8 "$(DESTDIR)/usr/share/man/man8/corepath.8"
	"$(BIN)" install --root "$(DESTDIR)/"

deb: build
	sh packaging/deb.sh "$(BIN)" target/deb
	@ls target/deb/*.deb

clean:
	cargo clean
