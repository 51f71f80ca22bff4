# 50-differential.bats: the same random file operations on ctxfs and on tmpfs: what differs fails.
# SEED=N OPS=N repeat or extend a run; differential.py prints both with what differed.

load helpers
load probe

teardown()
{
	if mountpoint -q "$BATS_TEST_TMPDIR/reference"; then
		umount "$BATS_TEST_TMPDIR/reference"
	fi
	mount_teardown
}

compare()
{
	requires root fuse python3
	start "$1"
	shift
	mkdir "$BATS_TEST_TMPDIR/reference"
	mount -t tmpfs -o size=2G,nosuid,nodev,mode=755 reference "$BATS_TEST_TMPDIR/reference"
	has_tmpfile || set -- "$@" --without tmpfile
	timeout -k 5 110 python3 "$ROOT/tests/differential.py" --dir-a "$MNT" \
		--dir-b "$BATS_TEST_TMPDIR/reference" "$@" 3>&-
}

@test "differential: the same operations, results, trees and times as on tmpfs" {
	compare size=2G,allow_other --seed "${SEED:-1}" --seeds 3 --ops "${OPS:-5000}"
}

@test "differential: the same, with a seed of this run" {
	compare size=2G,allow_other --seed "${SEED:-$(date +%s)}" --ops "${OPS:-5000}"
}

@test "differential: the same for root alone, on a mount that leaves permissions to root" {
	compare size=2G --root --seed "${SEED:-7}" --ops "${OPS:-5000}"
}
