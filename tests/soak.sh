#!/bin/bash
# tests/soak.sh: mixed work with expiring keys for a long time; memory must stay flat.
#
#   CTXFS=build/ctxfs SOAK_TIME=30m tests/soak.sh      (as root; SOAK_TIME in s, or 30m, 2h)
#
# Mounts in a temporary folder and lets tests/tools/stress.py work in it. Its names are few, so that
# after a warm-up the live set is of one size; what the daemon then takes is sampled, and the median
# of the last fifth of the time may not be above that of the second fifth by more than FLAT_PERCENT
# and FLAT_KIB. Then everything is removed, a directory of many keys comes and goes, and the daemon
# must end cleanly. SEED=N repeats. Ends with "N passed, N failed".
set -u

ROOT=$(cd "$(dirname "$0")/.." && pwd)
CTXFS=${CTXFS:-$ROOT/build/ctxfs}
FLAT_PERCENT=${FLAT_PERCENT:-10}
FLAT_KIB=${FLAT_KIB:-8192}
export LC_ALL=C

case ${SOAK_TIME:-1800} in
*h) seconds=$((${SOAK_TIME%h} * 3600)) ;;
*m) seconds=$((${SOAK_TIME%m} * 60)) ;;
*) seconds=${SOAK_TIME:-1800} && seconds=${seconds%s} ;;
esac
step=$((seconds >= 600 ? 10 : seconds >= 60 ? 2 : 1))

passed=0 failed=0
work=$(mktemp -d)
mnt=$work/mnt
samples=$work/samples
daemon='' crowd=''

finish()
{
	[ -z "$crowd" ] || kill "$crowd" 2>/dev/null
	if grep -q " $mnt " /proc/self/mountinfo; then
		timeout 10 umount "$mnt" || timeout 10 umount -l "$mnt"
	fi
	[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# claim WHAT COMMAND...: counts one claim, true when the command succeeds.
claim()
{
	local what=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
		echo "ok   $what"
	else
		failed=$((failed + 1))
		echo "FAIL $what"
	fi
}

figure()
{
	timeout 20 python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \
		"$mnt/.ctx/stats.json" "$1"
}

rss_kib()
{
	awk '/^VmRSS:/ { print $2 }' "/proc/$daemon/status"
}

# One line: seconds, RSS in KiB, bytes of the account in KiB, objects, keys, expired so far.
sample()
{
	timeout 20 python3 - "$mnt/.ctx/stats.json" $((SECONDS - started)) "$(rss_kib)" <<-'END'
		import json, sys
		s = json.load(open(sys.argv[1]))
		print(sys.argv[2], sys.argv[3], s["bytes_used"] // 1024, s["objects"], s["keys"],
		    s["expired"])
	END
}

# median COLUMN FROM TO: of the samples between two shares of the time, in percent.
median()
{
	awk -v column="$1" -v from=$((seconds * $2 / 100)) -v to=$((seconds * $3 / 100)) \
		'$1 >= from && $1 <= to { print $column }' "$samples" | sort -n |
		awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'
}

flat()
{
	local early late
	early=$(median "$1" 20 40) late=$(median "$1" 80 100)
	echo "     median early $early KiB, late $late KiB"
	[ "$early" -gt 0 ] && [ "$late" -le $((early + early * FLAT_PERCENT / 100 + FLAT_KIB)) ]
}

table()
{
	echo
	printf '%8s %10s %10s %9s %9s %10s\n' seconds 'RSS KiB' 'used KiB' objects keys expired
	awk -v every=$(($(wc -l <"$samples") / 20 + 1)) 'NR % every == 1 || every == 1 {
		printf "%8d %10d %10d %9d %9d %10d\n", $1, $2, $3, $4, $5, $6 }' "$samples"
	echo
}

few_objects()
{
	local deadline=$((SECONDS + 20)) objects
	while objects=$(figure objects) && [ "$objects" -gt "$1" ]; do
		[ $SECONDS -lt $deadline ] || break
		sleep 0.2
	done
	echo "     $objects objects, $(figure bytes_used) bytes of account, RSS $(rss_kib) KiB"
	[ "$objects" -le "$1" ]
}

many_keys()
{
	timeout $((60 + $1 / 1000)) python3 "$ROOT/tests/tools/probe.py" many "$mnt" "$1" &&
		timeout $((60 + $1 / 1000)) rm -r "$mnt/many"
}

ends_cleanly()
{
	kill -TERM "$daemon" && timeout 30 tail --pid="$daemon" -s 0.1 -f /dev/null || return 1
	local status=0
	wait "$daemon" || status=$?
	daemon=''
	[ $status = 0 ] && ! grep -q " $mnt " /proc/self/mountinfo
}

if [ "$(id -u)" != 0 ] || [ ! -x "$CTXFS" ]; then
	echo "tests/soak.sh: needs root, and $CTXFS (make)"
	exit 2
fi

mkdir "$mnt"
"$CTXFS" "$mnt" -f -o size=1G >"$work/log" 2>&1 &
daemon=$!
until grep -q " $mnt " /proc/self/mountinfo && timeout 10 stat -f "$mnt" >/dev/null 2>&1; do
	if ! kill -0 "$daemon" 2>/dev/null; then
		cat "$work/log"
		exit 1
	fi
	sleep 0.05
done

objects=$(figure objects)
echo "$CTXFS: mixed work for $seconds s"
started=$SECONDS
timeout $((seconds + 120)) python3 "$ROOT/tests/tools/stress.py" --dir "$mnt" --seconds "$seconds" \
	--seed "${SEED:-$(date +%s)}" &
crowd=$!
while [ $((SECONDS - started)) -lt "$seconds" ] && kill -0 "$crowd" 2>/dev/null; do
	sample >>"$samples" || break
	sleep $step
done
status=0
wait "$crowd" || status=$?
crowd=''
table

claim "soak: mixed work by four processes ran $seconds s and left a consistent tree" [ $status = 0 ]
claim "soak: the account (bytes_used) is flat" flat 3
claim "soak: the resident memory of the daemon is flat" flat 2
claim "soak: nothing is left after everything was removed" few_objects "$objects"
claim "soak: a directory of many keys lists each once, and goes" many_keys \
	$((seconds >= 600 ? 1000000 : 50000))
claim "soak: nothing is left after that" few_objects "$objects"
claim "soak: the daemon ends cleanly at SIGTERM" ends_cleanly

if [ $failed -gt 0 ]; then
	echo "--- the daemon's log"
	tail -n 40 "$work/log"
fi
echo
echo "$passed passed, $failed failed"
[ $failed = 0 ]
