# 40-files.bats: values and attributes through a real mount: what files do, ctxfs does.
# Names are in 41-names.bats, TTLs in 20-ttl.bats. FULL=1 makes the large ones larger.

load helpers
load probe

# A small tree with every kind of thing that archives keep.
make_tree()
{
	mkdir -p "$1/sub/deeper" "$1/empty"
	echo value >"$1/key"
	: >"$1/nothing"
	head -c 300000 /dev/urandom >"$1/sub/large"
	truncate -s 10M "$1/sub/holes"
	ln "$1/key" "$1/sub/hard"
	ln -s ../key "$1/sub/soft"
	ln -s nowhere "$1/dangling"
	mkfifo "$1/fifo"
	printf x >"$1/sub/deeper/"$'new\nline'
	chmod 640 "$1/key"
	chmod 2750 "$1/sub"
	chown 1000:2000 "$1/nothing"
	if command -v setfattr >/dev/null; then
		setfattr -n user.note -v attribute "$1/key"
	fi
	# Long ago, and each differently: rsync leaves a directory's time when the second is right.
	find "$1" -depth -exec touch -h -d '2001-02-03 04:05:06.789012345' {} +
	touch -h -d '2002-02-02 02:02:02.2' "$1/dangling" "$1/sub"
}

describe_tree()
{
	(cd "$1" && find . -printf '%y %m %U:%G %n %l %T@ %p\n' | sort)
}

same_tree()
{
	diff <(describe_tree "$1") <(describe_tree "$2")
	diff -r --no-dereference --exclude=fifo "$1" "$2"
}

@test "files: values of every size come back as they were, one read never short" {
	requires root fuse python3
	start
	probe sizes
}

@test "files: a value keeps every byte, NUL and newline among them" {
	requires root fuse python3
	start
	python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 300)' \
		>"$BATS_TEST_TMPDIR/bytes"
	cp "$BATS_TEST_TMPDIR/bytes" "$MNT/key"
	cmp "$BATS_TEST_TMPDIR/bytes" "$MNT/key"
	printf 'no newline at the end' >"$MNT/key"
	is "$(stat -c %s "$MNT/key")" 21 "size"
	printf '\n\n\0\n' >"$MNT/key"
	is "$(od -An -tx1 "$MNT/key")" " 0a 0a 00 0a"
}

@test "files: random overwrites, appends and cuts agree with a model" {
	requires root fuse python3
	start
	probe every_byte
}

@test "files: a sparse file of 1 TiB costs what was written to it" {
	requires root fuse python3
	start
	probe sparse
	used=$(stats_json bytes_used)
	[ "$used" -lt 2000000 ] || { echo "bytes used: $used"; false; }
}

@test "files: SEEK_DATA and SEEK_HOLE find the data and the holes" {
	requires root fuse python3
	start
	probe seek_holes
}

@test "files: a rename over an open file leaves its reader the old value" {
	requires root fuse python3
	start
	probe rename_open
}

@test "files: a reader of a key that is replaced by rename never misses it" {
	requires root fuse python3
	start
	probe atomic 3
}

@test "files: O_EXCL has exactly one winner" {
	requires root fuse python3
	start
	probe exclusive
}

@test "files: an open file works on after unlink" {
	requires root fuse python3
	start
	probe unlinked
}

@test "files: the memory of an unlinked file returns when it is closed" {
	requires root fuse python3
	start
	before=$(stats_json bytes_used)
	exec 7<>"$MNT/big"
	head -c 20000000 /dev/zero | tr '\0' x >&7
	rm "$MNT/big"
	during=$(stats_json bytes_used)
	[ $((during - before)) -ge 20000000 ]
	exec 7>&-
	memory_is_back() { [ $(($(stats_json bytes_used) - before)) -lt 100000 ]; }
	eventually memory_is_back
}

@test "files: O_TMPFILE has no name until it is linked" {
	requires root fuse python3
	has_tmpfile || skip "needs libfuse 3.17 for O_TMPFILE"
	start
	probe tmpfile
}

@test "files: hard links share one value and are counted" {
	requires root fuse python3
	start
	probe links
}

@test "files: RENAME_NOREPLACE and RENAME_EXCHANGE" {
	requires root fuse python3
	start
	probe rename_flags
}

@test "files: a write by another user clears set-id bits" {
	requires root fuse python3
	start allow_other
	probe set_id
}

@test "files: set-id programs run without privilege, unless mounted suid" {
	requires root fuse python3
	start allow_other
	cp "$(command -v id)" "$MNT/id"
	chmod 4755 "$MNT/id"
	cd "$MNT"
	is "$(setpriv --reuid=65534 --regid=65534 --clear-groups ./id -u)" 65534 "effective user"
}

@test "files: fallocate makes room and holes" {
	requires root fuse python3
	start
	probe allocate
}

@test "files: what fallocate reserved can be written when the store is full" {
	requires root fuse python3
	start size=16M
	probe reserved 16777216
}

@test "files: at size= new data gets ENOSPC, removal and rename work, and it clears itself" {
	requires root fuse python3
	start size=16M
	probe full 16777216
}

@test "files: the shell sees a full store as it sees a full disk" {
	requires root fuse python3
	start size=8M
	fails_with ENOSPC dd if=/dev/zero of="$MNT/big" bs=64k count=1000
	echo x >"$MNT/small" || true
	mv "$MNT/big" "$MNT/moved"
	rm "$MNT/moved"
	echo again >"$MNT/key"
	is "$(cat "$MNT/key")" again
}

@test "files: statvfs and df tell the truth" {
	requires root fuse python3
	start size=64M
	probe statvfs 67108864
	total=$(df -B1 --output=size "$MNT" | tail -n 1)
	is $((total / 1048576)) 64 "MiB that df shows"
}

@test "files: copy_file_range of 64 MiB shares the memory" {
	requires root fuse python3
	start
	before=$(stats_json bytes_used)
	probe copy_range 67108864
	grown=$(($(stats_json bytes_used) - before))
	[ $grown -ge 67108864 ]
	echo "two files of 64 MiB cost $grown bytes"
	[ $grown -lt $((67108864 + 4 * 1048576)) ]
}

@test "files: a copy and its source change apart" {
	requires root fuse python3
	start
	probe copy_apart
}

@test "files: mappings, descriptors and other processes see one value" {
	requires root fuse python3
	start
	probe mappings
}

@test "files: many threads fault in one mapping" {
	requires root fuse python3
	start
	probe faults
}

@test "files: O_DIRECT reads and writes the full length in one call" {
	requires root fuse python3
	start
	probe direct
}

@test "files: direct and cached access agree" {
	requires root fuse python3
	start
	probe direct_mixed
}

@test "files: records appended by many writers are all there, whole" {
	requires root fuse python3
	start
	probe append
}

@test "files: one write takes 1 MiB whole" {
	requires root fuse python3
	start
	probe big_write
}

@test "files: a large file written and read in sequence" {
	requires root fuse python3
	start
	size=$((256 << 20))
	[ -z "${FULL:-}" ] || size=$((1 << 30))
	PROBE_LIMIT=110 probe sequential $size
}

@test "files: NumPy saves, loads and maps arrays" {
	requires root fuse python3
	start
	python3 -c 'import numpy' 2>/dev/null || skip "needs the Python module numpy"
	probe numpy
}

@test "files: fsync, fdatasync, O_SYNC and syncfs succeed, on directories too" {
	requires root fuse python3
	start
	probe syncs
}

@test "files: times are exact and move as they should" {
	requires root fuse python3
	start
	probe times
}

@test "files: modes, owners, the umask and sticky directories" {
	requires root fuse python3
	start allow_other
	probe owners
}

@test "files: flock and fcntl locks exclude other processes" {
	requires root fuse python3
	start
	probe locks
}

@test "files: inotify hears of changes" {
	requires root fuse python3
	start
	probe inotify
}

@test "files: fifos and sockets work, devices do not open" {
	requires root fuse python3
	start
	probe special
}

@test "files: extended attributes are bytes, listed, created and replaced" {
	requires root fuse python3
	start
	probe xattrs
}

@test "files: tar, there and back" {
	requires root fuse python3
	start
	requires tar
	make_tree "$BATS_TEST_TMPDIR/tree"
	tar -C "$BATS_TEST_TMPDIR" --format=posix -cf - tree | tar -C "$MNT" -xpf -
	same_tree "$BATS_TEST_TMPDIR/tree" "$MNT/tree"
	mkdir "$BATS_TEST_TMPDIR/back"
	tar -C "$MNT" --format=posix -cf "$BATS_TEST_TMPDIR/tree.tar" tree \
		2>"$BATS_TEST_TMPDIR/words"
	is "$(cat "$BATS_TEST_TMPDIR/words")" "" "what tar had to say"
	tar -C "$BATS_TEST_TMPDIR/back" -xpf "$BATS_TEST_TMPDIR/tree.tar"
	same_tree "$BATS_TEST_TMPDIR/tree" "$BATS_TEST_TMPDIR/back/tree"
}

@test "files: cp -a, there and back" {
	requires root fuse python3
	start
	make_tree "$BATS_TEST_TMPDIR/tree"
	cp -a "$BATS_TEST_TMPDIR/tree" "$MNT/tree"
	same_tree "$BATS_TEST_TMPDIR/tree" "$MNT/tree"
	cp -a "$MNT/tree" "$MNT/copy"
	same_tree "$BATS_TEST_TMPDIR/tree" "$MNT/copy"
	cp -a "$MNT/copy" "$BATS_TEST_TMPDIR/back"
	same_tree "$BATS_TEST_TMPDIR/tree" "$BATS_TEST_TMPDIR/back"
}

@test "files: rsync, there and back, and nothing to do the second time" {
	requires root fuse python3
	start
	requires rsync
	make_tree "$BATS_TEST_TMPDIR/tree"
	rsync -aHX "$BATS_TEST_TMPDIR/tree/" "$MNT/tree/"
	same_tree "$BATS_TEST_TMPDIR/tree" "$MNT/tree"
	is "$(rsync -aHXi "$BATS_TEST_TMPDIR/tree/" "$MNT/tree/")" "" "what a second run does"
	rsync -aHX "$MNT/tree/" "$BATS_TEST_TMPDIR/back/"
	same_tree "$BATS_TEST_TMPDIR/tree" "$BATS_TEST_TMPDIR/back"
}

@test "files: scripts edit keys in place: sed -i, >>, truncate, dd conv=notrunc" {
	requires root fuse python3
	start
	printf 'one\ntwo\n' >"$MNT/key"
	sed -i s/two/TWO/ "$MNT/key"
	echo three >>"$MNT/key"
	is "$(paste -sd, "$MNT/key")" one,TWO,three
	printf ONE | dd of="$MNT/key" conv=notrunc status=none
	is "$(paste -sd, "$MNT/key")" ONE,TWO,three
	truncate -s 3 "$MNT/key"
	is "$(cat "$MNT/key")" ONE
	: >"$MNT/key"
	is "$(stat -c %s "$MNT/key")" 0
}
