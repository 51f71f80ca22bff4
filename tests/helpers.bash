# helpers.bash: what every bats file through a real mount loads.
#
# A test gets its own mount point, $MNT, and starts its own daemon on it:
#
#	load helpers
#	@test "topic: the claim as a sentence" {
#		start size=1M,ttl=1h
#		echo hello >"$MNT/key"
#		is "$(cat "$MNT/key")" hello
#		fails_with ENOENT cat "$MNT/absent"
#	}
#
#   start [OPTION,...]    mount with -o OPTION,... ; returns when the mount answers; sets $DAEMON
#   stop                  SIGTERM; the daemon must unmount and exit 0
#   crash                 kill -9: the mount point stays behind, dead
#   remount [OPTION,...]  start again on the same mount point; without options, as last time
#   is GOT WANT [WHAT]    fail, showing both, unless they are the same
#   requires THING...     skip, naming it, unless there: root, fuse, or a command
#   stats_json KEY        one figure of .ctx/stats.json: `keys`, `operations.READ.count`
#   fails_with ERRNO CMD  fail unless CMD fails and says what that errno means
#   eventually CMD...     fail unless CMD succeeds within 10 s (for what the daemon does by itself)
#   errno_text ERRNO      what strerror(3) says for it (one wording a line, where tools differ)
#
# CTXFS names the program under test (default: build/ctxfs): every test also runs with build/asan's.
# The daemon runs in the foreground (-f), a child of the test, its output in $LOG. So `start` must
# not be called by `run`, nor in a pipe or a subshell.
#
# No test can hang the machine: a watchdog aborts the FUSE connection, which fails every request in
# flight, when a test has had its mount for WATCHDOG seconds; a test that has lost its time fails.
# Teardown ends only what the test started: its daemon, by number, and its own mount point.

ROOT=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
CTXFS=${CTXFS:-$ROOT/build/ctxfs}
WATCHDOG=${WATCHDOG:-100}
export LC_ALL=C

setup()
{
	mount_setup
}

teardown()
{
	mount_teardown
}

# For files with a setup or teardown of their own: call these from it.
mount_setup()
{
	MNT=$BATS_TEST_TMPDIR/mnt
	LOG=$BATS_TEST_TMPDIR/daemon.log
	DAEMON=''
	WATCHER=''
	OPTIONS=''
	mkdir -p "$MNT"
	: >"$LOG"
}

mount_teardown()
{
	cd / # a working directory in the mount would keep it busy
	watchdog_stop
	if [ -z "${BATS_TEST_COMPLETED:-}" ] && [ -s "$LOG" ]; then
		echo "--- daemon.log"
		tail -n 60 "$LOG"
	fi
	if is_mounted; then
		umount_by_force
	fi
	if [ -n "$DAEMON" ] && ! ended_within 5 "$DAEMON"; then
		kill -9 "$DAEMON" 2>/dev/null || true
		ended_within 5 "$DAEMON" || echo "daemon $DAEMON does not die"
	fi
	# A report of a sanitizer fails the test, also when nobody asked for the exit code.
	if grep -E 'ERROR: (Address|Leak|Thread)Sanitizer|runtime error:' "$LOG"; then
		return 1
	fi
}

# --- the daemon -------------------------------------------------------------------------------

start()
{
	local options
	options=$(IFS=, && echo "$*")
	OPTIONS=$options
	if [ ! -x "$CTXFS" ]; then
		echo "no program to test: $CTXFS (make first)"
		return 1
	fi

	# bats waits for whoever holds its descriptor 3, so the daemon must not.
	"$CTXFS" "$MNT" -f ${options:+-o "$options"} >>"$LOG" 2>&1 3>&- </dev/null &
	DAEMON=$!
	until mount_answers; do
		if ! is_alive "$DAEMON"; then
			echo "the daemon ended before it mounted; its log:"
			cat "$LOG"
			DAEMON=''
			return 1
		fi
		sleep 0.02
	done
	watchdog_start
}

stop()
{
	local pid=$DAEMON status=0
	kill -TERM "$pid" || return 1
	if ! ended_within 20 "$pid"; then
		echo "the daemon did not end within 20 s of SIGTERM"
		return 1
	fi
	wait "$pid" || status=$?
	DAEMON=''
	watchdog_stop
	is "$status" 0 "exit code of the daemon after SIGTERM"
	if is_mounted; then
		echo "still mounted after SIGTERM"
		return 1
	fi
}

crash()
{
	kill -9 "$DAEMON" || return 1
	ended_within 10 "$DAEMON" || return 1
	wait "$DAEMON" 2>/dev/null || true
	DAEMON=''
	watchdog_stop
}

remount()
{
	if [ -n "$DAEMON" ]; then
		stop || return 1
	fi
	start "${@:-$OPTIONS}"
}

# A process that has ended but that nobody has waited for yet has ended.
is_alive()
{
	local stat
	read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
	[[ ${stat##*) } != [ZX]* ]]
}

# True when process $2, which need not be a child, ends within $1 seconds.
ended_within()
{
	local deadline=$((SECONDS + $1 + 1))
	while is_alive "$2"; do
		if [ $SECONDS -ge $deadline ]; then
			return 1
		fi
		sleep 0.02
	done
}

# --- the mount --------------------------------------------------------------------------------
# All of these read the kernel's table of mounts, never the mount itself: they cannot hang.

# The line of the mount on top of $MNT, as in /proc/self/mountinfo; empty if there is none.
mount_line()
{
	awk -v mnt="$MNT" '$5 == mnt { line = $0 } END { if (line) print line }' \
		/proc/self/mountinfo
}

is_mounted()
{
	[ -n "$(mount_line)" ]
}

mount_answers()
{
	# By type: a dead mount that goes away still has a line when the bare directory answers.
	is_mounted && [ "$(timeout 10 stat -f -c %T "$MNT" 2>/dev/null)" = fuseblk ]
}

# The number of the FUSE connection, which is the minor device number of the mount.
connection()
{
	mount_line | awk '{ split($3, device, ":"); print device[2] }'
}

abort_connection()
{
	local abort
	abort=/sys/fs/fuse/connections/$(connection)/abort
	if [ -w "$abort" ]; then
		echo 1 >"$abort"
	fi
}

umount_by_force()
{
	local tries=0
	while is_mounted && [ $tries -lt 4 ]; do
		tries=$((tries + 1))
		# Refused while something uses it, and for ever by a daemon that hangs.
		timeout 5 umount "$MNT" 2>/dev/null && continue
		abort_connection
		timeout 5 umount -l "$MNT" 2>/dev/null || timeout 5 fusermount3 -uz "$MNT" || true
	done
}

# A session of its own, so that its sleep goes with it.
watchdog_start()
{
	local abort
	abort=/sys/fs/fuse/connections/$(connection)/abort
	# shellcheck disable=SC2016  # the inner shell's own arguments
	setsid bash -c 'sleep "$1"; echo "watchdog: aborted" >>"$3"; echo 1 >"$2" || kill -9 "$4"' \
		watchdog "$WATCHDOG" "$abort" "$LOG" "$DAEMON" >/dev/null 2>&1 3>&- </dev/null &
	WATCHER=$!
}

watchdog_stop()
{
	if [ -n "$WATCHER" ]; then
		kill -- "-$WATCHER" 2>/dev/null || kill "$WATCHER" 2>/dev/null || true
		wait "$WATCHER" 2>/dev/null || true
		WATCHER=''
	fi
}

# --- claims -----------------------------------------------------------------------------------

is()
{
	if [ "$1" != "$2" ]; then
		printf '%s\n  got:  %s\n  want: %s\n' "${3:-not the same}" "$1" "$2"
		return 1
	fi
}

requires()
{
	local thing
	for thing; do
		case $thing in
		root) [ "$(id -u)" = 0 ] || skip "needs root" ;;
		fuse) [ -c /dev/fuse ] || skip "needs /dev/fuse" ;;
		*) command -v "$thing" >/dev/null || skip "needs the program $thing" ;;
		esac
	done
}

# A figure that is not there is an error, but for a message that was never sent: that is 0.
stats_json()
{
	timeout 20 python3 -c '
import json, sys
path, key = sys.argv[1:]
with open(path) as file:
    value = json.load(file)
steps = key.split(".")
for depth, step in enumerate(steps):
    if step not in value and depth == 1 and steps[0] == "messages":
        value = 0
    else:
        value = value[step]
print(json.dumps(value) if isinstance(value, (dict, list)) else value)
' "$MNT/.ctx/stats.json" "$1"
}

errno_text()
{
	case $1 in
	ENOENT) echo "No such file or directory" ;;
	EEXIST) echo "File exists" ;;
	EINVAL) echo "Invalid argument" ;;
	ENODATA) # getfattr(1) and setfattr(1) have words of their own for it
		echo "No data available"
		echo "No such attribute"
		;;
	ENOSPC) echo "No space left on device" ;;
	ENOTEMPTY) echo "Directory not empty" ;;
	ESTALE) echo "Stale file handle" ;;
	EACCES) echo "Permission denied" ;;
	EPERM) echo "Operation not permitted" ;;
	*) python3 -c 'import errno, os, sys
print(os.strerror(getattr(errno, sys.argv[1])))' "$1" ;;
	esac
}

fails_with()
{
	local want status=0 output
	want=$(errno_text "$1")
	shift
	output=$(timeout -k 5 30 "$@" 2>&1 3>&-) || status=$?
	if [ $status = 0 ]; then
		echo "succeeded, but should fail with '$want': $*"
		return 1
	fi
	if [ $status = 124 ] || [ $status = 137 ]; then
		echo "ran out of time: $*"
		return 1
	fi
	if ! grep -qF -- "$want" <<<"$output"; then
		printf "failed (%d), but not with '%s': %s\n%s\n" $status "$want" "$*" "$output"
		return 1
	fi
}

eventually()
{
	local deadline=$((SECONDS + 10))
	until "$@"; do
		if [ $SECONDS -ge $deadline ]; then
			echo "not within 10 s: $*"
			return 1
		fi
		sleep 0.02
	done
}
