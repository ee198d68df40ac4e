# make up · make down · make reset · make test · make fuzz · make bench · make lint

CARGO ?= cargo
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
PINTLE := $(TARGET)/release/pintle

# what a build needs; what comes out of it needs nothing
PACKAGES := build-essential mold protobuf-compiler libseccomp-dev
# what only the tests need: other runtimes to compare with; images are made from Debian's packages and pulled from its registry
TEST_PACKAGES := containerd runc crun nftables iproute2 curl busybox-static nginx-light knot-dnsutils libc-bin docker-registry util-linux bsdutils

.PHONY: up down reset build test fuzz bench lint packages test-packages install toolchain

up: build
	$(PINTLE) up --detach

down: build
	$(PINTLE) down

reset: build
	$(PINTLE) reset --yes

# libseccomp goes into the program: a machine it runs on need not have it
build: packages toolchain
	LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH=$$(dirname $$($(CC) -print-file-name=libseccomp.a)) \
		$(CARGO) build --release --locked

install: build
	install -D -m 0755 $(PINTLE) $(DESTDIR)$(PREFIX)/bin/pintle
	install -D -m 0644 packaging/pintle.service $(DESTDIR)/etc/systemd/system/pintle.service

test: packages test-packages toolchain
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run --workspace --locked --no-fail-fast; \
	else \
	  $(CARGO) test --workspace --locked --no-fail-fast; \
	fi

# seconds for each target, and which targets (all, if none is named); `make test` gives each a few hundred inputs
FUZZ_SECONDS ?= 120
FUZZ_TARGETS ?=

fuzz: packages toolchain
	./tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ_TARGETS)

bench: packages toolchain
	$(CARGO) run --release --locked -p pintle-bench -- $(BENCH)

lint: packages toolchain
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

packages:
	@./packaging/install-packages $(PACKAGES)

test-packages:
	@./packaging/install-packages $(TEST_PACKAGES)

toolchain:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs"; exit 1; }
