# 42-regressions.bats: faults of earlier stores of this kind, each as a test that it would fail.

load helpers
load probe

@test "regressions: clients that write on and on do not hang" {
	requires root fuse python3
	start
	PROBE_LIMIT=60 probe two_clients 5000
}

@test "regressions: a miss is not an empty value" {
	requires root fuse python3
	start
	: >"$MNT/empty"
	is "$(cat "$MNT/empty"; echo "exit $?")" "exit 0"
	fails_with ENOENT cat "$MNT/absent"
	[ -e "$MNT/empty" ]
	[ ! -e "$MNT/absent" ]
	rm "$MNT/empty"
	fails_with ENOENT cat "$MNT/empty"
	: >"$MNT/empty"
	is "$(stat -c %s "$MNT/empty")" 0
}

@test "regressions: newlines and the word EX in a value are nothing special" {
	requires root fuse python3
	start
	printf 'SET k v EX 10\nDEL k\n EX \r\n\0EX 0\n' >"$BATS_TEST_TMPDIR/value"
	cp "$BATS_TEST_TMPDIR/value" "$MNT/k EX 1"
	cp "$BATS_TEST_TMPDIR/value" "$MNT/EX"
	cmp "$BATS_TEST_TMPDIR/value" "$MNT/k EX 1"
	cmp "$BATS_TEST_TMPDIR/value" "$MNT/EX"
	[ ! -e "$MNT/k" ]
	fails_with ENODATA getfattr -n user.ttl "$MNT/EX"
}

@test "regressions: a write is visible to other processes when write returns" {
	requires root fuse python3
	start
	probe visible 1000
}

@test "regressions: kill -9, and the same mount point mounts again, empty" {
	requires root fuse python3
	start
	echo value >"$MNT/key"
	crash
	remount
	fails_with ENOENT cat "$MNT/key"
	echo again >"$MNT/key"
	is "$(cat "$MNT/key")" again
	stop
}

@test "regressions: kill -9 while clients write ends them with an error, not a hang" {
	requires root fuse python3
	start
	# shellcheck disable=SC2016  # the inner shell's own argument
	timeout 60 bash -c 'while echo value >"$1/key$RANDOM"; do :; done' client "$MNT" \
		2>/dev/null 3>&- &
	client=$!
	wrote() { [ "$(stats_json messages.CREATE 2>/dev/null)" -gt 200 ]; }
	eventually wrote
	crash
	ended_within 10 $client
	remount
	echo again >"$MNT/key"
	is "$(cat "$MNT/key")" again
}
