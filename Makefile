# Each target sets up what it needs (as root, from the package registries) and is the same command a person and CI use.
PREFIX ?= /usr
DESTDIR ?=

.PHONY: all build test demo bench lint setup install clean

all: build

build:
	cargo build --release

setup:
	sh tests/setup.sh

test: setup
	cargo test

demo: setup
	sh tests/demo.sh

bench: setup
	cargo bench

lint:
	sh ci.sh lint

install: build
	target/release/corepath install --root "$(DESTDIR)/" --prefix "$(PREFIX)"

clean:
	cargo clean
