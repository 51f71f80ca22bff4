# 30-stats.bats: .stats for people, .ctx/stats.json for programs, .ctx/control, and what these
# files, which no directory lists, do to tools that expect ordinary ones.

load helpers

setup()
{
	requires fuse python3
	mount_setup
}

page()
{
	timeout 10 cat "$MNT/.stats"
}

reset()
{
	echo reset >"$MNT/.ctx/control"
}

messages()
{
	stats_json "messages.$1"
}

# The root's listing by a program, which asks for everything.
listing()
{
	timeout 10 python3 -c 'import os, sys; print(*sorted(os.listdir(sys.argv[1])))' "$1"
}

@test "stats: the page says who, for how long, how much and how fast" {
	start size=64M
	echo 1 >"$MNT/key"
	is "$(cat "$MNT/key")" 1
	fails_with ENOENT cat "$MNT/absent"
	local text word
	text=$(page)
	for word in "ctxfs [0-9]" "up +0d 00:0" "^transport +[a-z/]" "^keys +1 " "limit +64.0 MiB" \
		"with TTL +0" "^hits +[0-9]" "misses +[1-9]" "hit rate +[0-9.]+ %" \
		"of requests that reached ctxfs" "^expired +0" "^batches +[0-9]" "keys per batch" \
		"daemon's own handling time" "p50 +p90 +p95 +p99 +p99.9 +max" \
		"^WRITE +1 +0 +[0-9.]+ [nmu]s"; do
		grep -qE -- "$word" <<<"$text" || is "$text" "a page with: $word"
	done
}

@test "stats: every line of the page fits in 100 columns" {
	start
	is "$(page | awk 'length > 100')" ""
}

@test "stats: the JSON has the same figures, as integers" {
	start size=64M
	echo 1 >"$MNT/key"
	timeout 20 python3 - "$MNT/.ctx/stats.json" <<-'END'
		import json, sys
		with open(sys.argv[1]) as f:
		    s = json.load(f)
		assert s["keys"] == 1 and s["bytes_limit"] == 64 << 20
		assert isinstance(s["version"], str) and isinstance(s["transport"], str)
		for name in """uptime_ns counting_ns keys objects with_ttl bytes_used bytes_limit
		        hits misses expired batches batch_keys""".split():
		    assert type(s[name]) is int, name
		assert s["messages"].keys() == s["operations"].keys()
		for name in """LOOKUP FORGET GETATTR SETATTR READ WRITE CREATE UNLINK RENAME READDIR
		        READDIRPLUS GETXATTR SETXATTR STATFS FSYNC""".split():
		    assert type(s["messages"][name]) is int, name
		for name, o in s["operations"].items():
		    assert o["count"] == s["messages"][name]
		    assert 0 <= o["errors"] <= o["count"]
		    times = [o[k + "_ns"] for k in ("p50", "p90", "p95", "p99", "p999", "max")]
		    assert times == sorted(times), name
		    assert (times[0] > 0) == (o["count"] > 0), name
		    assert o["sum_ns"] <= o["count"] * o["max_ns"], name
		assert s["operations"]["WRITE"]["count"] == 1
	END
}

@test "stats: messages are counted by kind, exactly" {
	start
	reset
	mkdir "$MNT/d"
	local i
	for i in 1 2 3; do
		echo "$i" >"$MNT/d/key$i"
	done
	mv "$MNT/d/key1" "$MNT/d/key4"
	rm "$MNT/d/key2"
	ln -s x "$MNT/d/link"
	is "$(messages MKDIR)" 1
	is "$(messages CREATE)" 3
	is "$(messages WRITE)" 3
	is "$(messages RENAME)" 1
	is "$(messages UNLINK)" 1
	is "$(messages SYMLINK)" 1
	is "$(messages RMDIR)" 0
}

@test "stats: hits, misses and errors are counted" {
	start
	mkdir "$MNT/d"
	touch "$MNT/d/key"
	local misses
	misses=$(stats_json misses)
	fails_with ENOENT cat "$MNT/absent1"
	fails_with ENOENT cat "$MNT/absent2"
	[ "$(stats_json misses)" -ge $((misses + 2)) ]
	fails_with ENOTEMPTY rmdir "$MNT/d"
	is "$(stats_json operations.RMDIR.errors)" 1
	is "$(stats_json operations.RMDIR.count)" 1
}

@test "stats: asking for the statistics is neither a hit nor a miss" {
	start
	local before
	page >/dev/null
	before="$(stats_json hits) $(stats_json misses)"
	page >/dev/null
	is "$(stats_json hits) $(stats_json misses)" "$before"
}

@test "stats: bytes and keys follow what is stored" {
	start
	local before
	before=$(stats_json bytes_used)
	head -c 1000000 /dev/zero >"$MNT/big"
	[ "$(stats_json bytes_used)" -ge $((before + 1000000)) ]
	is "$(stats_json keys)" 1
	rm "$MNT/big"
	is "$(stats_json keys)" 0
}

@test "stats: reset begins anew, but forgets no key" {
	start
	echo 1 >"$MNT/key"
	is "$(messages WRITE)" 1
	reset
	is "$(messages WRITE)" 0
	is "$(messages CREATE)" 0
	is "$(stats_json keys)" 1
	[ "$(stats_json counting_ns)" -lt "$(stats_json uptime_ns)" ]
	is "$(cat "$MNT/key")" 1
}

@test "stats: a page shows what happened just before it was asked for" {
	start
	local i
	for i in {1..5}; do
		echo "$i" >"$MNT/key$i"
		page | grep -qE "^WRITE +$i "
		is "$(messages WRITE)" "$i"
	done
}

@test "stats: control takes no other word" {
	start
	local word
	for word in rest reset-all "reset now" RESET flush; do
		# shellcheck disable=SC2016
		fails_with EINVAL bash -c 'echo "$1" >"$2"' - "$word" "$MNT/.ctx/control"
	done
	is "$(stat -c %a:%s "$MNT/.ctx/control")" 200:0
}

@test "stats: only root and the owner may reset" {
	requires root setpriv
	chmod go+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test" "$BATS_TEST_TMPDIR"
	start allow_other
	echo 1 >"$MNT/key"
	local nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	"${nobody[@]}" stat "$MNT" >/dev/null 2>&1 || skip "nobody cannot get to $MNT"
	"${nobody[@]}" timeout 10 cat "$MNT/.stats" | grep -q ^ctxfs
	# shellcheck disable=SC2016
	fails_with EACCES "${nobody[@]}" bash -c 'echo reset >"$1"' - "$MNT/.ctx/control"
	is "$(messages WRITE)" 1
}

@test "stats: no directory lists the virtual names" {
	start
	mkdir "$MNT/d"
	is "$(listing "$MNT")" d
	is "$(listing "$MNT/d")" ""
	page >/dev/null
	stat "$MNT/d/.ctx" >/dev/null
	is "$(listing "$MNT")" d
	is "$(listing "$MNT/d")" ""
	is "$(cd "$MNT" && timeout 10 find . | sort | xargs)" ". ./d"
}

@test "stats: .ctx is in every directory, and lists what is in it" {
	start
	mkdir -p "$MNT/a/b"
	touch "$MNT/a/file"
	is "$(listing "$MNT/.ctx")" "control stats.json"
	is "$(listing "$MNT/a/.ctx")" ""
	is "$(listing "$MNT/a/b/.ctx")" ""
	is "$(stat -c %a:%F "$MNT/a/b/.ctx")" "555:directory"
	timeout 10 ls -la "$MNT/.ctx" "$MNT/a/.ctx" >/dev/null
	fails_with ENOENT stat "$MNT/absent/.ctx"
	fails_with ENOTDIR stat "$MNT/a/file/.ctx"
	fails_with ENOENT stat "$MNT/.ctx/.ctx"
	fails_with ENOENT stat "$MNT/a/.ctx/stats.json"
	fails_with ENOENT stat "$MNT/a/.stats"
}

@test "stats: a process can stay in .ctx" {
	start
	mkdir "$MNT/d"
	(
		cd "$MNT/d/.ctx"
		local ino
		ino=$(stat -c %i .)
		touch "$MNT/d/key"
		is "$(stat -c %i .)" "$ino"
		is "$(stat -c %i "$MNT/d/.ctx")" "$ino"
		is "$(pwd -P)" "$(cd "$MNT" && pwd -P)/d/.ctx"
		is "$(ls ..)" key
	)
}

@test "stats: an empty directory can be removed although it has a .ctx" {
	start
	mkdir "$MNT/d"
	stat "$MNT/d/.ctx" >/dev/null
	rmdir "$MNT/d"
	fails_with ENOENT stat "$MNT/d/.ctx"
	mkdir "$MNT/d"
	stat "$MNT/d/.ctx" >/dev/null
}

@test "stats: virtual names cannot be made, replaced, renamed or removed" {
	start
	mkdir "$MNT/d"
	touch "$MNT/key"
	cd "$MNT"
	fails_with EPERM rm -f .stats
	fails_with EPERM rmdir .ctx
	fails_with EPERM rmdir d/.ctx
	fails_with EPERM rm -f .ctx/stats.json
	fails_with EPERM mv .stats other
	fails_with EPERM mv -T key .stats
	fails_with EPERM mv -T .ctx other
	fails_with EPERM ln .stats other
	fails_with EPERM touch .ctx/new
	fails_with EPERM mkdir .ctx/new
	fails_with EPERM ln -s x .ctx/new
	fails_with EPERM bash -c 'echo x >.stats'
	fails_with EPERM chmod 666 .stats
	fails_with EPERM setfattr -n user.mine -v 1 .stats
	cd /
	is "$(listing "$MNT")" "d key"
}

@test "stats: a name like .ctx is an ordinary name where it is not reserved" {
	start
	mkdir "$MNT/d"
	echo 1 >"$MNT/d/.stats"
	echo 2 >"$MNT/.ctxx"
	echo 3 >"$MNT/stats.json"
	is "$(cat "$MNT/d/.stats" "$MNT/.ctxx" "$MNT/stats.json" | xargs)" "1 2 3"
	is "$(listing "$MNT/d")" .stats
}

@test "stats: size is exact and stays so, whatever is counted" {
	start
	local file size i
	for file in .stats .ctx/stats.json; do
		size=$(stat -c %s "$MNT/$file")
		[ "$size" -gt 1000 ]
		for i in {1..20}; do
			echo "$i" >"$MNT/key$i"
			is "$(stat -c %s "$MNT/$file")" "$size"
			is "$(timeout 10 cat "$MNT/$file" | wc -c)" "$size"
		done
	done
}

@test "stats: tools that copy files copy all of these" {
	start
	local to=$BATS_TEST_TMPDIR/to file size name
	mkdir "$to"
	for file in .stats .ctx/stats.json; do
		size=$(stat -c %s "$MNT/$file")
		name=$(basename "$file")
		timeout 10 cp -a "$MNT/$file" "$to/cp"
		timeout 10 dd if="$MNT/$file" of="$to/dd" bs=100 status=none
		timeout 10 tail -c +1 "$MNT/$file" >"$to/tail"
		timeout 10 tar -C "$(dirname "$MNT/$file")" -cf - "$name" | tar -C "$to" -xf -
		timeout 10 python3 -c 'import shutil, sys; shutil.copyfile(*sys.argv[1:])' \
			"$MNT/$file" "$to/python"
		if command -v rsync >/dev/null; then
			timeout 10 rsync "$MNT/$file" "$to/rsync"
			is "$(stat -c %s "$to/rsync")" "$size" "rsync $file"
		fi
		for copy in cp dd tail "$name" python; do
			is "$(stat -c %s "$to/$copy")" "$size" "$copy $file"
			is "$(tr -d '\0' <"$to/$copy" | wc -c)" "$size" "$copy $file"
		done
		is "$(grep -c '[^ -~]' "$to/cp" || true)" 0
	done
}

@test "stats: who has opened the page reads one snapshot of it" {
	start
	timeout 30 python3 - "$MNT" <<-'END'
		import mmap, os, sys
		mnt = sys.argv[1]
		path = mnt + "/.stats"
		fds, pages = [], []
		for i in range(20):
		    fd = os.open(path, os.O_RDONLY)
		    fds.append(fd)
		    pages.append(os.pread(fd, 1 << 20, 0))
		    with open(f"{mnt}/key{i}", "w") as f:
		        f.write(str(i))
		assert len(set(pages)) == 20, "pages do not move on"
		assert len({len(p) for p in pages}) == 1, "sizes differ"
		assert len({os.fstat(fd).st_ino for fd in fds} | {os.stat(path).st_ino}) == 1
		for fd, page in zip(fds, pages):
		    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # ask ctxfs again
		    assert os.pread(fd, 1 << 20, 0) == page
		    assert os.fstat(fd).st_size == len(page)
		    with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as m:
		        assert m[:] == page
	END
}

@test "stats: too many open snapshots are refused, and only for who has them open" {
	start
	timeout 60 python3 - "$MNT" <<-'END'
		import errno, os, sys
		fds = []
		try:
		    for i in range(1500):
		        fds.append(os.open(sys.argv[1] + "/.stats", os.O_RDONLY))
		        os.read(fds[-1], 1 << 20)
		    sys.exit("no bound")
		except OSError as e:
		    assert e.errno == errno.ENFILE, e
		assert len(fds) >= 50
		for fd in fds:
		    os.close(fd)
	END
	eventually page
}

@test "stats: keys that expire are counted" {
	requires setfattr
	start
	echo 1 >"$MNT/key"
	setfattr -n user.ttl -v 1h "$MNT/key"
	is "$(stats_json with_ttl)" 1
	setfattr -n user.ttl -v 20ms "$MNT/key"
	expired()
	{
		[ "$(stats_json expired)" = 1 ] && [ "$(stats_json with_ttl)" = 0 ]
	}
	eventually expired
	is "$(stats_json keys)" 0
}
