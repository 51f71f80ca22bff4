#!/bin/sh
# deps.sh [build|test]: install what ctxfs needs.
#   build   what `make run` needs: compiler, libfuse, lz4, xxHash, setfattr (the default)
#   test    also what `make test` needs: bats, clang with its sanitizers, python3, shellcheck
#
# 1. Packages come from the distribution, by its own tool; nothing is asked of the network when all
#    of them are there. Quick then, so that `make run` may call this every time.
# 2. libfuse: where the system's is older than 3.18.3, that version is built from the distribution's
#    own newer source package into .deps/fuse3, as a static library that only this checkout uses.
#    The source comes through the machine's configured mirror, with apt's signature checks on, into
#    lists of its own: the system's lists and packages stay as they are.
# 3. Where 2 is impossible (no network, another distribution, no such source), the build takes the
#    system's libfuse, and a notice says what is lost. That is no error. It is tried again a day
#    later, or at once after `make distclean`.
#
# FUSE=system skips 2. DEPS_LIMIT=seconds bounds each step that may hang (default 600).
set -eu

cd "$(dirname "$0")/.."
root=$PWD
prefix=$root/.deps/fuse3
failed=$root/.deps/fuse3.failed
limit=${DEPS_LIMIT:-600}

fuse_wanted=3.18.3
fuse_suites='forky sid'
fuse_packages='meson ninja-build liburing-dev libnuma-dev'
build_packages='gcc libc6-dev make pkg-config libfuse3-dev fuse3 libxxhash-dev liblz4-dev attr'
test_packages='bats python3 clang libclang-rt-dev llvm clang-format shellcheck'

say()
{
	echo "deps: $*"
}

fail()
{
	echo "deps: $*" >&2
	exit 1
}

usage()
{
	sed -n '2,4s/^# //p' "$0"
	exit "$1"
}

# --- packages -----------------------------------------------------------------

# Prints those of its arguments that are not installed.
missing()
{
	# shellcheck disable=SC2016  # the format is dpkg-query's, not the shell's
	present=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
		sed -n 's/^installed //p')
	for package in "$@"; do
		echo "$present" | grep -qx "$package" || echo "$package"
	done
}

apt()
{
	DEBIAN_FRONTEND=noninteractive timeout -k 10 "$limit" \
		apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=2 \
		-o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 "$@" </dev/null
}

# A repository of somebody else's that does not answer must not stop us: whether the lists are good
# enough shows when the packages are asked for.
refresh_lists()
{
	say 'apt-get update'
	apt update >"$log" 2>&1 || grep -E '^(E|W|Err)' "$log" >&2 || true
}

install_packages()
{
	absent=$(missing "$@")
	[ -n "$absent" ] || return 0
	absent=$(echo "$absent" | tr '\n' ' ')
	if [ "$(id -u)" != 0 ]; then
		fail "these packages are missing; as root:
  apt-get update && apt-get install -y --no-install-recommends $absent"
	fi

	say "installing $absent"
	# The lists may be missing or out of date: a new start with new lists is the second try.
	# shellcheck disable=SC2086  # a list of words
	if ! apt install -y --no-install-recommends $absent >"$log" 2>&1; then
		refresh_lists
		# shellcheck disable=SC2086
		if ! apt install -y --no-install-recommends $absent >"$log" 2>&1; then
			tail -n 15 "$log" >&2
			fail "apt-get could not install: $absent
  (its last lines are above; check the network and 'apt-get update', then try again)"
		fi
	fi
	still=$(missing "$@")
	[ -z "$still" ] || fail "still missing after apt-get install: $still"
}

require_by_hand()
{
	for tool in cc make pkg-config; do
		command -v "$tool" >/dev/null || fail "no apt-get here, and no $tool: install
  a C compiler, make, pkg-config, and the development files of libfuse 3, lz4 and xxHash"
	done
	for library in fuse3 liblz4 libxxhash; do
		pkg-config --exists "$library" ||
			fail "no apt-get here, and no development files of $library: install them"
	done
}

# --- libfuse ------------------------------------------------------------------

fuse_version()
{
	PKG_CONFIG_PATH=${1-} pkg-config --modversion fuse3 2>/dev/null || echo 0
}

new_enough()
{
	dpkg --compare-versions "$1" ge "$fuse_wanted"
}

# The URI of the mirror this machine takes its own release from; empty when apt has no lists.
mirror()
{
	# shellcheck disable=SC1091  # the distribution's file
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
	# shellcheck disable=SC2016  # the format is apt's, not the shell's
	apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
		sed -n "s/^Debian $codename //p" | head -n 1
}

# apt, with lists and sources of its own and everything else (keys, proxies) as configured.
apt_aside()
{
	tool=$1
	shift
	timeout -k 10 "$limit" "$tool" -q -o "Dir::Etc::sourcelist=$work/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$work/lists" \
		-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Get::List-Cleanup=0 \
		-o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 "$@" </dev/null
}

refresh_aside()
{
	apt_aside apt-get -o APT::Update::Error-Mode=any update >"$log" 2>&1
}

# Downloads the source of libfuse from suite $1 of mirror $2 into $work/source. apt checks the
# suite's signature, and the tarball against the signed list.
fetch_fuse()
{
	keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	if [ -r "$keyring" ]; then
		echo "deb-src [signed-by=$keyring] $2 $1 main"
	else
		echo "deb-src $2 $1 main"
	fi >"$work/sources.list"
	rm -rf "$work/lists" "$work/source"
	mkdir -p "$work/lists/partial" "$work/source"
	chmod 755 "$work"
	if [ "$(id -u)" = 0 ] && id _apt >/dev/null 2>&1; then
		chown -R _apt "$work/lists" "$work/source"
	fi

	if ! refresh_aside; then
		# A suite newer than this machine's keys: the newer keys come as a package too,
		# signed by a key that is already here.
		grep -q NO_PUBKEY "$log" && [ "$(id -u)" = 0 ] || return 1
		apt install -y --only-upgrade debian-archive-keyring >/dev/null 2>&1 || return 1
		refresh_aside || return 1
	fi
	version=$(apt_aside apt-cache showsrc --only-source fuse3 2>/dev/null |
		sed -n 's/^Version: //p' | sort -V | tail -n 1)
	new_enough "${version:-0}" || {
		echo "suite $1 has libfuse ${version:-none}" >"$log"
		return 1
	}
	(cd "$work/source" && apt_aside apt-get --download-only source "fuse3=$version") \
		>"$log" 2>&1
}

# Builds $work/source into $prefix. Only the library: the system's fusermount3 serves it well.
compile_fuse()
{
	mkdir -p "$work/tree"
	tarball=$(find "$work/source" -name 'fuse3_*.orig.tar.*' ! -name '*.asc')
	tar -xf "$tarball" -C "$work/tree" --strip-components=1 2>"$log" || return 1
	(
		cd "$work/tree" || exit 1
		timeout -k 10 "$limit" meson setup "$work/objects" --buildtype=release \
			--prefix="$prefix" --libdir=lib --bindir=/usr/bin --sysconfdir=/etc \
			-Dutils=false -Dexamples=false -Dtests=false -Ddefault_library=static &&
			timeout -k 10 "$limit" ninja -C "$work/objects" &&
			DESTDIR=$work/installed timeout -k 10 "$limit" \
				meson install -C "$work/objects"
	) >"$log" 2>&1 </dev/null || return 1

	# The checkout may be moved or copied: the prefix is wherever the .pc file is.
	sed -i "s|$prefix|\${prefix}|g; s|^prefix=.*|prefix=\${pcfiledir}/../..|" \
		"$work/installed$prefix/lib/pkgconfig/fuse3.pc" || return 1
	rm -rf "$prefix" && mkdir -p "${prefix%/*}" || return 1
	mv "$work/installed$prefix" "$prefix"
}

give_up_fuse()
{
	mkdir -p "$root/.deps"
	echo "$1" >"$failed"
	if [ -s "$log" ]; then
		tail -n 3 "$log" | sed 's/^/  /' >>"$failed"
	fi
}

notice()
{
	say "NOTICE: building with the system's libfuse $(fuse_version), not $fuse_wanted."
	sed 's/^/deps:   why: /' "$failed"
	cat <<-EOF
	deps:   lost: O_TMPFILE (before libfuse 3.17 it gets EOPNOTSUPP), and the kernel's word on
	deps:   when a write must clear set-id bits (the kernel then does it itself, by one more
	deps:   message). All else works alike.
	EOF
}

# Sets up libfuse; returns 0 also when it had to settle for the system's.
provide_fuse()
{
	if new_enough "$(fuse_version)" || [ "${FUSE-}" = system ]; then
		return 0
	fi
	if new_enough "$(fuse_version "$prefix/lib/pkgconfig")"; then
		# shellcheck disable=SC2086
		install_packages $fuse_packages
		return 0
	fi
	if [ -n "$(find "$failed" -mmin -1440 2>/dev/null)" ]; then
		notice
		return 0
	fi

	uri=$(mirror)
	if [ -z "$uri" ] && [ "$(id -u)" = 0 ]; then
		refresh_lists
		uri=$(mirror)
	fi
	if [ -z "$uri" ]; then
		: >"$log"
		give_up_fuse "no Debian mirror is configured here to take its source from"
		notice
		return 0
	fi
	# shellcheck disable=SC2086
	install_packages $fuse_packages

	say "building libfuse $fuse_wanted from the distribution's source package"
	for suite in $fuse_suites; do
		fetch_fuse "$suite" "$uri" && break
		suite=
	done
	if [ -z "$suite" ]; then
		give_up_fuse "its source package could not be had ($fuse_suites)"
	elif ! compile_fuse; then
		give_up_fuse "it did not compile"
	else
		rm -f "$failed"
		say "libfuse $(fuse_version "$prefix/lib/pkgconfig") is in .deps/fuse3"
		return 0
	fi
	notice
}

# --- main ---------------------------------------------------------------------

case ${1-build} in
build) packages=$build_packages ;;
test) packages="$build_packages $test_packages" ;;
-h | --help) usage 0 ;;
*) usage 2 >&2 ;;
esac

work=$(mktemp -d)
log=$work/log
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

if ! command -v apt-get >/dev/null; then
	require_by_hand
	mkdir -p "$root/.deps"
	exit 0
fi
# shellcheck disable=SC2086
install_packages $packages
provide_fuse

# Under sudo, what was made here belongs to the owner of the checkout.
if [ "$(id -u)" = 0 ] && [ -d .deps ]; then
	chown -R "$(stat -c %u:%g Makefile)" .deps
fi
