# ctxfs: build, test, install. `make help` lists the targets.
#
# One folder per variant, so that none ever mixes with another: build/ (release), build/debug,
# build/asan, build/tsan, chosen by VARIANT=. Within a folder two stamps hold the flags in use: an
# object is rebuilt when its stamp changes, so CFLAGS=..., WERROR=1 or FUSE=system never leave
# objects of two kinds in one program.
#
# Yours to set: CC CFLAGS CPPFLAGS LDFLAGS LIBS, PREFIX BINDIR MOUNTHELPERDIR DESTDIR, and
#   VARIANT=release|debug|asan|tsan   BUILD=dir   FUSE=auto|system   WERROR=1   V=1

VERSION = 0.1.0

BUILD ?= build
VARIANT ?= release
FUSE ?= auto
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MOUNTHELPERDIR ?= /sbin
INSTALL ?= install
PKG_CONFIG ?= pkg-config
CLANG ?= clang

MNT ?= /mnt/ctx
OPTS ?=
SOAK_TIME ?= 30m

# --- variants ---------------------------------------------------------------------------------

SANITIZE_ADDRESS = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

ifeq ($(VARIANT),release)
OUT = $(BUILD)
else ifeq ($(VARIANT),debug)
OUT = $(BUILD)/debug
CFLAGS ?= -O1 -g
VARIANT_FLAGS = -DDEBUG=1
else ifeq ($(VARIANT),asan)
OUT = $(BUILD)/asan
CFLAGS ?= -O1 -g
VARIANT_FLAGS = -DDEBUG=1 $(SANITIZE_ADDRESS)
override CC = $(CLANG)
else ifeq ($(VARIANT),tsan)
OUT = $(BUILD)/tsan
CFLAGS ?= -O1 -g
VARIANT_FLAGS = -fsanitize=thread
override CC = $(CLANG)
else
$(error VARIANT=$(VARIANT): release, debug, asan or tsan)
endif

ifeq ($(origin CC),default)
CC = gcc
endif
CFLAGS ?= -O2 -g

WARNINGS = -Wall -Wextra -Wshadow -Wundef -Wconversion -Wsign-conversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wwrite-strings -Wvla -Wcast-qual -Wpointer-arith -Wformat=2 \
	-Wswitch-enum -Wimplicit-fallthrough -Wnull-dereference
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif

ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -I. -DCTXFS_VERSION='"$(VERSION)"' \
	$(CPPFLAGS) $(WARNINGS) $(VARIANT_FLAGS) $(CFLAGS) -pthread
ALL_LDFLAGS = $(VARIANT_FLAGS) $(CFLAGS) $(LDFLAGS) -pthread

# --- libfuse ----------------------------------------------------------------------------------
# packaging/deps.sh leaves a newer libfuse in .deps/fuse3 where the system's lacks something. Only
# the objects of fs/ get its flags: a file of store/ that includes a FUSE header does not compile.

FUSE_LOCAL = $(wildcard .deps/fuse3/lib/pkgconfig/fuse3.pc)
ifeq ($(FUSE),auto)
ifneq ($(FUSE_LOCAL),)
FUSE_PKG_CONFIG = PKG_CONFIG_PATH=$(CURDIR)/.deps/fuse3/lib/pkgconfig $(PKG_CONFIG)
FUSE_LIBS_ALSO = --static
FUSE_NEEDS = .deps/fuse3/lib/libfuse3.a
endif
else ifneq ($(FUSE),system)
$(error FUSE=$(FUSE): auto or system)
endif
FUSE_PKG_CONFIG ?= $(PKG_CONFIG)

# Asked once, and only by a target that needs the answer.
FUSE_CFLAGS = $(eval FUSE_CFLAGS := $$(shell $(FUSE_PKG_CONFIG) --cflags fuse3))$(FUSE_CFLAGS)
FUSE_LIBS = $(eval FUSE_LIBS := \
	$$(shell $(FUSE_PKG_CONFIG) $(FUSE_LIBS_ALSO) --libs fuse3))$(FUSE_LIBS)

# --- sources ----------------------------------------------------------------------------------

STORE_OBJECTS = $(patsubst %.c,$(OUT)/%.o,$(wildcard store/*.c))
FS_OBJECTS = $(patsubst %.c,$(OUT)/%.o,$(wildcard fs/*.c))

# Parts of fs/ that need no FUSE: compiled without its flags, so that unit tests may link them.
FS_PURE = $(patsubst %.c,$(OUT)/%.o,\
	$(wildcard fs/options.c fs/report.c fs/ttl.c fs/virtual.c))

UNIT_TESTS = $(patsubst %.c,$(OUT)/tests/%,$(notdir $(wildcard tests/unit/test_*.c)))

Q = $(if $(V),,@)
SAY = $(if $(V),@:,@printf '  %-5s %s\n')

.DELETE_ON_ERROR:
.SUFFIXES:

all: $(OUT)/ctxfs ## build build/ctxfs (the default; no root, no network)

$(OUT)/ctxfs: $(FS_OBJECTS) $(OUT)/libstore.a $(FUSE_NEEDS) $(OUT)/flags.fuse
	$(SAY) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(FS_OBJECTS) $(OUT)/libstore.a $(FUSE_LIBS) $(LIBS)

# Made anew each time: an archive keeps the member of a file that has gone.
$(OUT)/libstore.a: $(STORE_OBJECTS)
	$(SAY) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $(STORE_OBJECTS)

$(OUT)/libpure.a: $(FS_PURE)
	$(SAY) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $(FS_PURE)

$(STORE_OBJECTS) $(FS_PURE): $(OUT)/%.o: %.c $(OUT)/flags
	$(SAY) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(filter-out $(FS_PURE),$(FS_OBJECTS)): $(OUT)/%.o: %.c $(OUT)/flags $(OUT)/flags.fuse
	$(SAY) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(FUSE_CFLAGS) -MMD -MP -c -o $@ $<

# A test that defines __wrap_malloc gets the calls of malloc: see ld(1), --wrap.
wraps = $(shell grep -oh '__wrap_[a-z0-9_]*' $(1) | sort -u | sed 's/__wrap_/-Wl,--wrap=/')

$(OUT)/tests/%: tests/unit/%.c $(OUT)/libstore.a $(OUT)/libpure.a $(OUT)/flags
	$(SAY) TEST $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(call wraps,$<) -MMD -MP -MF $@.d -o $@ $< \
		$(OUT)/libpure.a $(OUT)/libstore.a -lm $(LIBS)

$(OUT)/bench-store: $(wildcard bench/*.[ch]) $(OUT)/libstore.a $(OUT)/flags
	$(SAY) LINK $@
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^) $(OUT)/libstore.a -lm $(LIBS)

$(OUT)/flags: FORCE
	$(Q)mkdir -p $(@D)
	$(Q)printf '%s\n' "$(CC) $(ALL_CFLAGS) : $(LDFLAGS) $(LIBS)" >$@.new
	$(Q)if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(OUT)/flags.fuse: FORCE
	$(Q)$(FUSE_PKG_CONFIG) --exists fuse3 || { \
		echo 'no libfuse3 to compile with: run packaging/deps.sh as root' >&2; exit 1; }
	$(Q)mkdir -p $(@D)
	$(Q)printf '%s\n' '$(FUSE_CFLAGS) : $(FUSE_LIBS)' >$@.new
	$(Q)if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

-include $(STORE_OBJECTS:.o=.d) $(FS_OBJECTS:.o=.d) $(UNIT_TESTS:=.d) $(OUT)/bench-store.d

# --- run and test -----------------------------------------------------------------------------

# As root in somebody's checkout (sudo make run), the build itself is run as its owner, so that no
# file in it ends up root's.
AS_OWNER = packaging/as-owner.sh

# What `make test` runs through a mount a second time, with the sanitizers in the daemon.
ASAN_BATS ?= 20-ttl 40-files 41-names 42-regressions 50-differential
MOUNT_BATS = $(filter-out 01-%,$(patsubst tests/%.bats,%,$(wildcard tests/[0-9][0-9]-*.bats)))
asan_runs = $(patsubst %,bats:tests/%.bats@$(BUILD)/asan/ctxfs,$(1))

JOBS = -j$(shell nproc)

run: ## install what is missing, build, mount at MNT=/mnt/ctx with OPTS= (as root)
	$(Q)packaging/deps.sh build
	$(Q)$(AS_OWNER) $(MAKE) --no-print-directory $(JOBS) all
	$(Q)packaging/run.sh $(OUT)/ctxfs '$(MNT)' '$(OPTS)'

units: $(UNIT_TESTS)

check: ## unit tests and tidy: seconds, no FUSE, no root
	$(Q)$(MAKE) --no-print-directory $(JOBS) units
	$(Q)OUT=$(OUT) tests/run unit:$(OUT)/tests bats:tests/01-tidy.bats

test: ## install what is missing, build, pass every test (as root; T=20-ttl for one bats file)
	$(Q)packaging/deps.sh test
	$(Q)$(AS_OWNER) $(MAKE) --no-print-directory $(JOBS) all
ifneq ($(T),)
	$(Q)CTXFS=$${CTXFS:-$(abspath $(OUT))/ctxfs} tests/run bats:tests/$(T:.bats=).bats
else
	$(Q)$(AS_OWNER) $(MAKE) --no-print-directory $(JOBS) units
	$(Q)$(AS_OWNER) $(MAKE) --no-print-directory $(JOBS) VARIANT=asan all units
	$(Q)$(AS_OWNER) $(MAKE) --no-print-directory $(JOBS) VARIANT=tsan units
	$(Q)$(AS_OWNER) $(MAKE) --no-print-directory $(JOBS) VARIANT=debug all units
	$(Q)OUT=$(BUILD) tests/run \
		unit:$(BUILD)/tests unit:$(BUILD)/asan/tests unit:$(BUILD)/tsan/tests \
		unit:$(BUILD)/debug/tests bats:tests \
		$(call asan_runs,$(ASAN_BATS))
endif

asan: ## unit tests and every bats file with AddressSanitizer and UBSan (clang)
	$(Q)$(MAKE) --no-print-directory $(JOBS) VARIANT=asan all units
	$(Q)tests/run unit:$(BUILD)/asan/tests $(call asan_runs,$(MOUNT_BATS))

tsan: ## unit tests with ThreadSanitizer (clang)
	$(Q)$(MAKE) --no-print-directory $(JOBS) VARIANT=tsan units
	$(Q)tests/run unit:$(BUILD)/tsan/tests

debug: ## build/debug/ctxfs: invariants checked after every operation; its unit tests
	$(Q)$(MAKE) --no-print-directory $(JOBS) VARIANT=debug all units
	$(Q)tests/run unit:$(BUILD)/debug/tests

soak: $(OUT)/ctxfs ## mixed work with expiring keys for SOAK_TIME=30m (as root)
	$(Q)CTXFS=$(abspath $(OUT))/ctxfs SOAK_TIME=$(SOAK_TIME) tests/soak.sh

bench: bench-store ## run the store's benchmark
	$(Q)$(OUT)/bench-store

bench-store: $(OUT)/bench-store ## build build/bench-store

# --- care -------------------------------------------------------------------------------------

C_FILES = $(wildcard store/*.[ch] fs/*.[ch] bench/*.[ch] tests/unit/*.[ch])
SHELL_FILES = $(wildcard packaging/*.sh tests/*.sh .ci/run tests/run mount-helpers/mount.ctxfs)
LINT_FLAGS = -std=c11 -D_GNU_SOURCE -I. -fsyntax-only -Wthread-safety -Werror

format: ## lay out every C file with clang-format
	$(Q)clang-format -i $(C_FILES)

lint: ## thread-safety analysis (clang), cppcheck, shellcheck, clang-format
	$(Q)clang-format --dry-run -Werror $(C_FILES)
	$(Q)$(CLANG) $(LINT_FLAGS) $(wildcard store/*.c)
	$(Q)$(CLANG) $(LINT_FLAGS) $(FUSE_CFLAGS) $(wildcard fs/*.c)
	$(Q)cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr -I. \
		--suppress=missingIncludeSystem store fs
	$(Q)shellcheck $(SHELL_FILES)

# --- install ----------------------------------------------------------------------------------

install: all ## install to PREFIX=/usr/local and MOUNTHELPERDIR=/sbin, under DESTDIR
	$(INSTALL) -D -m 755 $(OUT)/ctxfs $(DESTDIR)$(BINDIR)/ctxfs
	sed 's|^bindir=.*|bindir=$(BINDIR)|' mount-helpers/mount.ctxfs >$(OUT)/mount.ctxfs
	$(INSTALL) -D -m 755 $(OUT)/mount.ctxfs $(DESTDIR)$(MOUNTHELPERDIR)/mount.ctxfs

uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(BINDIR)/ctxfs $(DESTDIR)$(MOUNTHELPERDIR)/mount.ctxfs

dist: ## build/ctxfs-VERSION.tar.gz of the last commit, the same bytes every time
	$(Q)mkdir -p $(BUILD)
	$(Q)git archive --prefix=ctxfs-$(VERSION)/ HEAD | gzip -9n >$(BUILD)/ctxfs-$(VERSION).tar.gz
	$(SAY) DIST $(BUILD)/ctxfs-$(VERSION).tar.gz

clean: ## remove build/
	rm -rf $(BUILD)

distclean: clean ## remove build/ and the libfuse that deps.sh built
	rm -rf .deps

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

FORCE:
.PHONY: all run units check test asan tsan debug soak bench bench-store format lint install \
	uninstall dist clean distclean help FORCE
