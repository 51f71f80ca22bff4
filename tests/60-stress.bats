# 60-stress.bats: several processes at once, with expiring keys, on one mount; then the tree must be
# consistent and the store empty. With the sanitizers and with the invariant checks, where they are
# built: make VARIANT=asan, make VARIANT=debug. SEED=N repeats, STRESS_TIME=S takes longer.

load helpers

crowd()
{
	timeout -k 5 90 python3 "$ROOT/tests/tools/stress.py" --dir "$MNT" --seconds "$1" \
		--seed "${SEED:-$(date +%s)}" "${@:2}" 3>&-
}

# The sanitizers of clang 14 cannot map their shadow where the kernel spreads addresses widely.
variant()
{
	local program=$ROOT/build/$1/ctxfs
	[ -x "$program" ] || skip "needs build/$1/ctxfs (make VARIANT=$1)"
	CTXFS=$BATS_TEST_TMPDIR/ctxfs
	printf '#!/bin/sh\nexec setarch -R "%s" "$@"\n' "$program" >"$CTXFS"
	chmod +x "$CTXFS"
}

@test "stress: mixed work by four processes leaves a consistent tree and an empty store" {
	requires root fuse python3
	start size=256M
	crowd "${STRESS_TIME:-8}"
	stop
}

@test "stress: the same in a store that is nearly always full" {
	requires root fuse python3
	start size=3M
	crowd "${STRESS_TIME:-4}" --full
	stop
}

@test "stress: the same under ASan and UBSan" {
	requires root fuse python3 setarch
	variant asan
	start size=256M
	crowd "${STRESS_TIME:-8}"
	stop
}

@test "stress: the same with the store checking its invariants" {
	requires root fuse python3 setarch
	variant debug
	start size=256M
	crowd "${STRESS_TIME:-6}"
	stop
}
