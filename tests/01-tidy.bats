#!/usr/bin/env bats
# The rules of the house that a machine can check. Each prints the offenders, and passes when there
# are none. Needs no mount; the two about symbols read what `make check` has built.

bats_require_minimum_version 1.5.0

setup()
{
	cd "$BATS_TEST_DIRNAME/.."
	OUT=${OUT:-build}
	export LC_ALL=C.UTF-8
	shopt -s nullglob
	product=(store/*.[ch] fs/*.[ch])
	c_files=("${product[@]}" bench/*.[ch] tests/unit/*.[ch] tests/fuzz/*.[ch] tests/fault/*.[ch])
	headers=(store/*.h fs/*.h bench/*.h tests/unit/*.h)
	shell_files=(packaging/*.sh tests/*.sh tests/*.bash tests/run .ci/run mount-helpers/*)
	all_files=("${c_files[@]}" "${shell_files[@]}" tests/*.bats tests/*.py Makefile bench/* packaging/*
		.clang-format .gitignore ./*.md)
}

# Passes when standard input is empty; otherwise prints it under the rule that it breaks.
none()
{
	local offenders
	offenders=$(cat)
	if [ -n "$offenders" ]; then
		printf '%s\n' "$1:" "$offenders"
		return 1
	fi
}

# grep, for which finding nothing is no failure, but not being able to look is.
find_in()
{
	local status=0
	grep "$@" || status=$?
	[ $status -le 1 ]
}

# Prints "file: symbol" for every function and variable that an object exports.
exported()
{
	local object source
	for object in "$OUT"/store/*.o "$OUT"/fs/*.o; do
		source=${object#"$OUT"/}
		source=${source%.o}.c
		[ -e "$source" ] || continue # left over from a file that has gone
		nm -g --defined-only "$object" | awk -v source="$source" 'NF == 3 { print source ": " $3 }'
	done
}

built()
{
	if [ ! -e "$OUT/libstore.a" ]; then
		echo "nothing is built in $OUT: make check"
		return 1
	fi
}

# --- layers -------------------------------------------------------------------------------------

@test "tidy: store/ knows nothing of FUSE or of fs/" {
	[ ${#product[@]} -gt 0 ]
	find_in -nE '#[ 	]*include[ 	]*[<"]([^">]*fuse|fs/)' store/*.[ch] | none "an include upwards"
	find_in -nwE 'fuse_[a-z_]+|FUSE_[A-Z_]+' store/*.[ch] | none "a name of FUSE's in store/"
}

@test "tidy: fs/ and bench/ see store/store.h and nothing else of store/" {
	find_in -nE '#[ 	]*include[ 	]*"store/' fs/*.[ch] bench/*.[ch] |
		find_in -v '"store/store\.h"' | none "an include of a private header"
}

@test "tidy: includes are written from the root" {
	find_in -nE '#[ 	]*include[ 	]*"([^/"]*"|\.)' "${c_files[@]}" | none "an include without its folder"
}

@test "tidy: only one file of fs/ is written for a version of libfuse" {
	find_in -lE 'FUSE_USE_VERSION|FUSE_VERSION|FUSE_MAKE_VERSION|<fuse' "${product[@]}" |
		find_in -vx fs/compat.h | none "an eye on libfuse's version outside fs/compat.h"
}

@test "tidy: only the notifier sends notifications to the kernel" {
	find_in -n 'fuse_lowlevel_notify_' fs/*.c | find_in -v '^fs/notifier\.c:' |
		none "a notification that may be sent from a handler"
}

# --- shape --------------------------------------------------------------------------------------

@test "tidy: functions have at most 70 lines" {
	awk 'FNR == 1 { start = 0 }
		/^{/ { start = FNR }
		/^}/ { if (start && FNR - start - 1 > 70)
			print FILENAME ":" start ": " FNR - start - 1 " lines"
			start = 0 }' "${c_files[@]}" | none "a function of more than 70 lines"
}

@test "tidy: lines have at most 100 columns" {
	local file
	for file in "${c_files[@]}" "${shell_files[@]}" Makefile; do
		expand -t 8 "$file" | find_in -nE '^.{101}' | sed "s|^|$file:|"
	done | none "a line of more than 100 columns"
}

@test "tidy: files have at most 700 lines, those of tests and benches at most 1000" {
	{
		wc -l "${product[@]}" "${shell_files[@]}" | awk '$1 > 700 && $2 != "total"'
		wc -l "${c_files[@]}" | awk '$1 > 1000 && $2 != "total"'
	} | none "a file that is too long"
}

@test "tidy: lines end in their last word, and files in a line" {
	find_in -nE '[ 	]+$' "${c_files[@]}" "${shell_files[@]}" tests/*.bats Makefile |
		none "white space at the end of a line"
	local file
	for file in "${c_files[@]}" "${shell_files[@]}"; do
		[ -z "$(tail -c 1 "$file")" ] || echo "$file"
	done | none "a last line without its end"
}

@test "tidy: C is laid out by clang-format" {
	command -v clang-format >/dev/null || skip "needs the program clang-format"
	local file
	for file in "${c_files[@]}"; do
		echo "$file"
	done | xargs -P 2 -n 1 sh -c 'clang-format --dry-run -Werror "$0" 2>/dev/null || echo "$0"' |
		none "not as clang-format lays it out (make format)"
}

@test "tidy: shellcheck has nothing to say about the shell files" {
	command -v shellcheck >/dev/null || skip "needs the program shellcheck"
	shellcheck "${shell_files[@]}" 2>&1 | none "shellcheck"
}

# --- names --------------------------------------------------------------------------------------

@test "tidy: a module exports only names that begin with its own" {
	built
	local file symbol module
	[ "$(exported | wc -l)" -gt 0 ]
	# store.h is implemented by several modules, and a module may take two files: name.c and
	# name_part.c.
	exported | while IFS=' ' read -r file symbol; do
		module=${file##*/}
		module=${module%.c:}
		case $symbol in
		"${module}"_* | "${module%%_*}"_* | main) ;;
		store_*) [[ $file == store/* ]] || echo "$file $symbol" ;;
		*) echo "$file $symbol" ;;
		esac
	done | none "exported without the prefix of its module"
}

# Prints the functions that header $1 declares and does not define, as the compiler sees them.
promised()
{
	local flags=()
	[[ $1 == store/* ]] || IFS=' ' read -ra flags < <(cut -d: -f1 "$OUT/flags.fuse")
	gcc -std=c11 -D_GNU_SOURCE -I. "${flags[@]}" -fsyntax-only -x c \
		-aux-info "$BATS_TEST_TMPDIR/declared" "$1" || echo "does-not-compile-alone"
	sed -nE "s|^/\* $1:[0-9]+:NC \*/ extern [^(]*[ *]([a-z][a-z0-9_]*) \(.*|\1|p" \
		"$BATS_TEST_TMPDIR/declared"
}

@test "tidy: every function that a header promises is there" {
	built
	local header name
	exported | sed 's/.*: //' | sort -u >"$BATS_TEST_TMPDIR/there"
	for header in store/*.h fs/*.h; do
		# What fs/ promises can be held against it only where fs/ has been built.
		if [[ $header == fs/* ]] && [ ! -e "$OUT/ctxfs" ]; then
			continue
		fi
		for name in $(promised "$header"); do
			grep -qx "$name" "$BATS_TEST_TMPDIR/there" || echo "$header: $name"
		done
	done | none "declared, but defined nowhere"
}

@test "tidy: structs have no typedef" {
	find_in -nE '^[ 	]*typedef[ 	]+(struct|union|enum)\b' "${c_files[@]}" | none "a typedef"
}

@test "tidy: no call of a function that cannot be used safely" {
	find_in -nE '\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca) *\(' "${c_files[@]}" |
		none "a banned call"
}

@test "tidy: assertions stay on" {
	find_in -nwE 'NDEBUG|DNDEBUG' "${c_files[@]}" Makefile | none "assertions are turned off"
}

# --- words --------------------------------------------------------------------------------------

@test "tidy: a C file opens by saying what it is for" {
	local file
	for file in "${c_files[@]}"; do
		head -n 1 "$file" | grep -q '^/\*' || echo "$file"
	done | none "no comment at the top"
}

@test "tidy: a header states ownership, threads and errors" {
	local file word
	[ ${#headers[@]} -gt 0 ]
	for file in "${headers[@]}"; do
		for word in Ownership Threads Errors; do
			grep -qE "^ \* $word:" "$file" || echo "$file: $word"
		done
	done | none "a header without that part of its contract"
}

@test "tidy: no marks of unfinished work" {
	find_in -nwE "TO""DO|FIX""ME|XX""X|HA""CK" "${all_files[@]}" | none "unfinished"
}

@test "tidy: no host of a package registry and no path of somebody's machine" {
	local host='\b(deb|ftp|security|snapshot|registry|archive|mirrors?|proxy|index|static|files)'
	find_in -nE "$host(\.[a-z0-9-]+)+\.(org|com|io|net|dev)\b" "${all_files[@]}" | none "a host name"
	find_in -nE '(^|[^A-Za-z0-9_.$}/-])/(work|root|home/[a-z]+)/' "${all_files[@]}" |
		none "a path of one machine"
}

@test "tidy: scripts can be run" {
	local file
	for file in packaging/*.sh tests/*.sh tests/run .ci/run mount-helpers/*; do
		[ -x "$file" ] || echo "$file"
	done | none "not executable"
}
