# 20-ttl.bats: keys that end: how a TTL is said, what changes it, and what is left when it is over.
#
# No claim here depends on how fast the machine is. That a deadline moved is seen from
# user.expires_at, which stands still while time passes; that a key is gone is waited for.

load helpers

setup()
{
	requires fuse setfattr getfattr python3
	mount_setup
}

# The attribute $1 (ttl, ttl_ms, expires_at) of $2.
get()
{
	timeout 10 getfattr --absolute-names --only-values -n "user.$1" "$2"
}

# set_ttl VALUE KEY
set_ttl()
{
	timeout 10 setfattr -n user.ttl -v "$1" "$2"
}

# A number with three decimals as thousandths.
thousandths()
{
	echo "${1/./}"
}

deadline()
{
	thousandths "$(get expires_at "$1")"
}

# between LOW GOT HIGH
between()
{
	if [ "$2" -lt "$1" ] || [ "$2" -gt "$3" ]; then
		echo "$2 is not in $1..$3"
		return 1
	fi
}

# Waits until the clock has moved by 20 ms: far more than the rounding of a deadline.
a_moment()
{
	local start=${EPOCHREALTIME/./}
	while [ $((${EPOCHREALTIME/./} - start)) -lt 20000 ]; do
		:
	done
}

absent()
{
	! timeout 10 stat "$1" >/dev/null 2>&1
}

gone()
{
	eventually absent "$1"
}

lists()
{
	timeout 10 ls -A "$1"
}

@test "ttl: a key has none unless somebody says so" {
	start
	echo 1 >"$MNT/key"
	fails_with ENODATA getfattr -n user.ttl "$MNT/key"
	fails_with ENODATA getfattr -n user.ttl_ms "$MNT/key"
	fails_with ENODATA getfattr -n user.expires_at "$MNT/key"
	fails_with ENODATA setfattr -x user.ttl "$MNT/key"
}

@test "ttl: every unit means what it says" {
	start
	echo 1 >"$MNT/key"
	local word ms
	while read -r word ms; do
		set_ttl "$word" "$MNT/key"
		between $((ms - 100000)) "$(get ttl_ms "$MNT/key")" "$ms"
	done <<-END
		600 600000
		1800.5 1800500
		900000ms 900000
		700s 700000
		15m 900000
		1h 3600000
		0.5d 43200000
		7d 604800000
		2w 1209600000
	END
}

@test "ttl: reading gives the seconds left, with milliseconds" {
	start
	echo 1 >"$MNT/key"
	set_ttl 10m "$MNT/key"
	local left
	left=$(get ttl "$MNT/key")
	[[ $left =~ ^[0-9]+\.[0-9]{3}$ ]]
	between 500000 "$(thousandths "$left")" 600000
}

@test "ttl: user.ttl_ms sets and tells whole milliseconds" {
	start
	echo 1 >"$MNT/key"
	setfattr -n user.ttl_ms -v 600000 "$MNT/key"
	between 500000 "$(thousandths "$(get ttl "$MNT/key")")" 600000
	[[ $(get ttl_ms "$MNT/key") =~ ^[0-9]+$ ]]
	fails_with EINVAL setfattr -n user.ttl_ms -v 1.5 "$MNT/key"
}

@test "ttl: user.expires_at sets and tells a time of day" {
	start
	echo 1 >"$MNT/key"
	local at=$((EPOCHSECONDS + 3600))
	setfattr -n user.expires_at -v "$at" "$MNT/key"
	between $((at * 1000 - 5)) "$(deadline "$MNT/key")" $((at * 1000 + 5))
	between 3500000 "$(get ttl_ms "$MNT/key")" 3600000
}

@test "ttl: a time of day that has passed ends a key at once" {
	start
	echo 1 >"$MNT/key"
	setfattr -n user.expires_at -v $((EPOCHSECONDS - 10)) "$MNT/key"
	gone "$MNT/key"
}

@test "ttl: 0, never and removal make a key permanent" {
	start
	echo 1 >"$MNT/key"
	local word
	for word in 0 never 0ms 0.0; do
		set_ttl 1h "$MNT/key"
		set_ttl "$word" "$MNT/key"
		fails_with ENODATA getfattr -n user.ttl "$MNT/key"
	done
	set_ttl 1h "$MNT/key"
	setfattr -x user.ttl "$MNT/key"
	fails_with ENODATA getfattr -n user.ttl "$MNT/key"
}

@test "ttl: nonsense is refused and changes nothing" {
	start
	echo 1 >"$MNT/key"
	set_ttl 1h "$MNT/key"
	local before word
	before=$(deadline "$MNT/key")
	for word in soon -1 "1 h" 1e3 1y 5. 1h30m 101w000 99999999999 ""; do
		fails_with EINVAL setfattr -n user.ttl -v "$word" "$MNT/key"
	done
	between $((before - 5)) "$(deadline "$MNT/key")" $((before + 5))
}

@test "ttl: a newline or a NUL behind the word is forgiven" {
	start
	echo 1 >"$MNT/key"
	setfattr -n user.ttl -v 0x36300a "$MNT/key"
	between 1 "$(get ttl_ms "$MNT/key")" 60000
	setfattr -n user.ttl -v 0x36303000 "$MNT/key"
	between 60001 "$(get ttl_ms "$MNT/key")" 600000
}

@test "ttl: XATTR_CREATE and XATTR_REPLACE are honoured" {
	start
	echo 1 >"$MNT/key"
	timeout 20 python3 - "$MNT/key" <<-'END'
		import errno, os, sys
		def code(flags):
		    try:
		        os.setxattr(sys.argv[1], "user.ttl", b"1h", flags)
		    except OSError as e:
		        return errno.errorcode[e.errno]
		assert code(os.XATTR_REPLACE) == "ENODATA"
		assert code(os.XATTR_CREATE) is None
		assert code(os.XATTR_CREATE) == "EEXIST"
		assert code(os.XATTR_REPLACE) is None
	END
}

@test "ttl: only user.ttl is listed, and only when there is one" {
	start
	echo 1 >"$MNT/key"
	is "$(getfattr --absolute-names -m - "$MNT/key")" ""
	set_ttl 1h "$MNT/key"
	setfattr -n user.mine -v x "$MNT/key"
	is "$(getfattr --absolute-names -m - "$MNT/key" | grep ^user | sort | xargs)" \
		"user.mine user.ttl"
	setfattr -x user.ttl "$MNT/key"
	is "$(getfattr --absolute-names -m - "$MNT/key" | grep ^user | xargs)" "user.mine"
}

@test "ttl: a key is there until its time and absent afterwards" {
	start
	echo 1 >"$MNT/key"
	local start=${EPOCHREALTIME/./}
	set_ttl 300ms "$MNT/key"
	gone "$MNT/key"
	[ $((${EPOCHREALTIME/./} - start)) -ge 299000 ]
	fails_with ENOENT cat "$MNT/key"
	fails_with ENOENT rm "$MNT/key"
	fails_with ENOENT getfattr -n user.ttl "$MNT/key"
	fails_with ENOENT mv "$MNT/key" "$MNT/other"
	fails_with ENOENT ln "$MNT/key" "$MNT/other"
	is "$(lists "$MNT")" ""
}

@test "ttl: keys that nobody asks for are reaped, and counted" {
	start
	mkdir "$MNT/d"
	set_ttl 100ms "$MNT/d"
	touch "$MNT"/d/{1..50}
	reaped()
	{
		[ "$(stats_json expired)" = 50 ] && [ "$(stats_json keys)" = 0 ]
	}
	eventually reaped
	is "$(lists "$MNT/d")" ""
	rmdir "$MNT/d"
}

@test "ttl: a name whose key has expired is free for a new one" {
	start
	echo old >"$MNT/key"
	set_ttl 1 "$MNT/key"
	setfattr -n user.mine -v x "$MNT/key"
	set_ttl 1ms "$MNT/key"
	gone "$MNT/key"
	echo new >"$MNT/key"
	is "$(cat "$MNT/key")" new
	fails_with ENODATA getfattr -n user.ttl "$MNT/key"
	fails_with ENODATA getfattr -n user.mine "$MNT/key"
}

@test "ttl: a shell's write at the moment of expiry creates, whatever the kernel remembers" {
	start
	local i
	for i in {1..20}; do
		echo old >"$MNT/key"
		set_ttl 30ms "$MNT/key"
		while [ -e "$MNT/key" ]; do
			: # keep it in the kernel's memory until it goes
		done
		echo "new $i" >"$MNT/key"
		is "$(cat "$MNT/key")" "new $i"
	done
}

@test "ttl: who has an expired key open reads on, and gets ESTALE for a write" {
	start
	timeout 30 python3 - "$MNT/key" <<-'END'
		import errno, mmap, os, sys, time
		key = sys.argv[1]
		with open(key, "wb") as f:
		    f.write(b"a" * 100000)
		fd = os.open(key, os.O_RDWR)
		m = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
		os.setxattr(key, "user.ttl", b"50ms")
		until = time.monotonic() + 10
		while os.path.exists(key):
		    assert time.monotonic() < until
		assert os.pread(fd, 100000, 0) == b"a" * 100000
		assert m[:] == b"a" * 100000
		while True:  # until it is reaped the kernel must ask by name; then it is an unlinked file
		    try:
		        st = os.fstat(fd)
		        break
		    except OSError as e:
		        assert e.errno == errno.ESTALE and time.monotonic() < until, e
		assert (st.st_size, st.st_nlink) == (100000, 0), st
		try:
		    os.pwrite(fd, b"b", 0)
		    sys.exit("the write succeeded")
		except OSError as e:
		    assert e.errno == errno.ESTALE, e
		assert not os.path.exists(key)
	END
}

@test "ttl: overwriting, appending and touching re-arm the same period" {
	start
	echo 1 >"$MNT/key"
	set_ttl 1h "$MNT/key"
	local before after change
	for change in "echo 2 >key" "echo 3 >>key" "touch key" ": >key" "truncate -s 9 key" \
		"dd if=/dev/zero of=key bs=1 count=1 conv=notrunc status=none"; do
		before=$(deadline "$MNT/key")
		a_moment
		(cd "$MNT" && eval "$change")
		after=$(deadline "$MNT/key")
		[ "$after" -ge $((before + 15)) ] || is "$after" "later than $before" "$change"
		between 3500000 "$(get ttl_ms "$MNT/key")" 3600000
	done
}

@test "ttl: reading, linking, renaming and changing the mode leave the deadline alone" {
	start
	echo 1 >"$MNT/key"
	set_ttl 1h "$MNT/key"
	local before after change
	before=$(deadline "$MNT/key")
	for change in "cat key" "stat key" "ls -l" "chmod 600 key" "ln key link" \
		"mv key x; mv x key" "setfattr -n user.mine -v 1 key"; do
		a_moment
		(cd "$MNT" && eval "$change" >/dev/null)
		after=$(deadline "$MNT/key")
		between $((before - 5)) "$after" $((before + 5))
	done
}

@test "ttl: a rename over a key brings the new file's TTL along" {
	start
	echo old >"$MNT/key"
	set_ttl 1h "$MNT/key"
	echo new >"$MNT/tmp"
	mv "$MNT/tmp" "$MNT/key"
	is "$(cat "$MNT/key")" new
	fails_with ENODATA getfattr -n user.ttl "$MNT/key"
	echo newer >"$MNT/tmp"
	set_ttl 2h "$MNT/tmp"
	mv "$MNT/tmp" "$MNT/key"
	between 7100000 "$(get ttl_ms "$MNT/key")" 7200000
}

@test "ttl: all names of a key end together" {
	start
	mkdir "$MNT/d"
	echo 1 >"$MNT/key"
	ln "$MNT/key" "$MNT/d/other"
	set_ttl 1h "$MNT/d/other"
	between 3500000 "$(get ttl_ms "$MNT/key")" 3600000
	set_ttl 100ms "$MNT/key"
	gone "$MNT/key"
	gone "$MNT/d/other"
	is "$(lists "$MNT/d")" ""
}

@test "ttl: a directory's is the default for new files in it, not for those that are there" {
	start
	mkdir "$MNT/d"
	echo 1 >"$MNT/d/before"
	set_ttl 1h "$MNT/d"
	is "$(get ttl "$MNT/d")" 3600.000
	is "$(get ttl_ms "$MNT/d")" 3600000
	fails_with ENODATA getfattr -n user.expires_at "$MNT/d"
	fails_with EINVAL setfattr -n user.expires_at -v 1790000000 "$MNT/d"
	echo 1 >"$MNT/d/after"
	between 3500000 "$(get ttl_ms "$MNT/d/after")" 3600000
	fails_with ENODATA getfattr -n user.ttl "$MNT/d/before"
	echo 1 >"$MNT/outside"
	fails_with ENODATA getfattr -n user.ttl "$MNT/outside"
}

@test "ttl: new directories inherit the default" {
	start
	mkdir -p "$MNT/d/before"
	set_ttl 1h "$MNT/d"
	mkdir -p "$MNT/d/e/f"
	is "$(get ttl "$MNT/d/e/f")" 3600.000
	fails_with ENODATA getfattr -n user.ttl "$MNT/d/before"
	echo 1 >"$MNT/d/e/f/key"
	between 3500000 "$(get ttl_ms "$MNT/d/e/f/key")" 3600000
	setfattr -x user.ttl "$MNT/d/e"
	echo 1 >"$MNT/d/e/key"
	fails_with ENODATA getfattr -n user.ttl "$MNT/d/e/key"
	is "$(get ttl "$MNT/d/e/f")" 3600.000
}

@test "ttl: tmp and rename in a directory with a default re-arms" {
	start
	mkdir "$MNT/d"
	set_ttl 1h "$MNT/d"
	echo 1 >"$MNT/d/key"
	local before
	before=$(deadline "$MNT/d/key")
	a_moment
	echo 2 >"$MNT/d/.tmp"
	mv "$MNT/d/.tmp" "$MNT/d/key"
	[ "$(deadline "$MNT/d/key")" -ge $((before + 15)) ]
}

@test "ttl: -o ttl= is the default of the mount, which a directory can overrule" {
	start ttl=2h
	echo 1 >"$MNT/key"
	between 7100000 "$(get ttl_ms "$MNT/key")" 7200000
	mkdir "$MNT/d" "$MNT/kept"
	echo 1 >"$MNT/d/key"
	between 7100000 "$(get ttl_ms "$MNT/d/key")" 7200000
	set_ttl never "$MNT/kept"
	is "$(get ttl "$MNT/kept")" 0
	echo 1 >"$MNT/kept/key"
	fails_with ENODATA getfattr -n user.ttl "$MNT/kept/key"
	setfattr -x user.ttl "$MNT/kept"
	echo 1 >"$MNT/kept/other"
	between 7100000 "$(get ttl_ms "$MNT/kept/other")" 7200000
	set_ttl 1h "$MNT/d"
	echo 1 >"$MNT/d/other"
	between 3500000 "$(get ttl_ms "$MNT/d/other")" 3600000
}

@test "ttl: directories and links do not expire" {
	start ttl=50ms
	mkdir "$MNT/d"
	ln -s nowhere "$MNT/link"
	mkfifo "$MNT/fifo"
	echo 1 >"$MNT/key"
	gone "$MNT/key"
	is "$(lists "$MNT" | xargs)" "d fifo link"
	is "$(readlink "$MNT/link")" nowhere
}

@test "ttl: a program that lists while keys expire sees each of the others once" {
	start
	mkdir "$MNT/d"
	timeout 60 python3 - "$MNT/d" <<-'END'
		import os, sys, time
		d = sys.argv[1]
		for i in range(400):
		    with open(f"{d}/{i}", "w") as f:
		        f.write(str(i))
		    if i % 2:
		        os.setxattr(f"{d}/{i}", "user.ttl", b"%dms" % (20 + i))
		stay = {str(i) for i in range(0, 400, 2)}
		until = time.monotonic() + 20
		while True:
		    names = os.listdir(d)
		    assert len(names) == len(set(names)), "a name twice"
		    assert stay <= set(names), "a name is missing"
		    if set(names) == stay:
		        break
		    assert time.monotonic() < until, "not all expired"
	END
}

@test "ttl: a copy with attributes takes the TTL along" {
	start
	requires cp
	echo 1 >"$MNT/key"
	set_ttl 1h "$MNT/key"
	cp --preserve=xattr "$MNT/key" "$MNT/copy"
	between 3500000 "$(get ttl_ms "$MNT/copy")" 3600000
	is "$(cat "$MNT/copy")" 1
}
