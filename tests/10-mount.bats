#!/usr/bin/env bats
# The life of the daemon: starting, saying why not, stopping, coming back; and mount(8).

bats_require_minimum_version 1.5.0
load helpers

setup()
{
	requires fuse
	mount_setup
}

# ctxfs as a person starts it: in the background, where what counts is the exit code and stderr.
# Its descriptors lead nowhere that bats waits on.
background()
{
	timeout -k 5 30 "$CTXFS" "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" 3>&- </dev/null
}

# Runs ctxfs, which must fail with exit code $1 and without a mount.
refused()
{
	local want=$1 status=0
	shift
	background "$@" || status=$?
	is "$status" "$want" "exit code of ctxfs $* ($(cat "$BATS_TEST_TMPDIR/err"))"
	if is_mounted; then
		echo "mounted all the same"
		return 1
	fi
}

# Each argument must be in what ctxfs said on stderr.
says()
{
	local word
	for word; do
		if ! grep -qiF -- "$word" "$BATS_TEST_TMPDIR/err"; then
			printf 'does not say %s, but:\n%s\n' "$word" "$(cat "$BATS_TEST_TMPDIR/err")"
			return 1
		fi
	done
}

# The daemon behind $MNT when we did not start it as a child: found by its arguments, which name a
# folder that is this test's alone.
find_daemon()
{
	local file
	for file in $(grep -lzxF -- "$MNT" /proc/[0-9]*/cmdline 2>/dev/null); do
		if [ "$(readlink "${file%cmdline}exe")" = "$(readlink -f "$CTXFS")" ]; then
			file=${file%/cmdline}
			echo "${file#/proc/}"
			return 0
		fi
	done
	return 1
}

adopt_daemon()
{
	DAEMON=$(find_daemon) || {
		echo "no daemon with $MNT among its arguments"
		return 1
	}
	watchdog_start
}

# --- starting -----------------------------------------------------------------------------------

@test "mount: in the foreground, the daemon serves until SIGTERM and exits 0" {
	start
	echo hello >"$MNT/key"
	is "$(cat "$MNT/key")" hello
	stop
	[ -z "$(ls -A "$MNT")" ]
}

@test "mount: SIGINT ends it as SIGTERM does" {
	# A shell without job control starts its background jobs with SIGINT ignored: undo that.
	printf '#!/bin/sh\nexec env --default-signal=INT %s "$@"\n' "$CTXFS" >"$BATS_TEST_TMPDIR/ctxfs"
	chmod +x "$BATS_TEST_TMPDIR/ctxfs"
	CTXFS=$BATS_TEST_TMPDIR/ctxfs
	start
	kill -INT "$DAEMON"
	ended_within 20 "$DAEMON"
	wait "$DAEMON"
	DAEMON=''
	! is_mounted
}

@test "mount: in the background, the command returns 0 when the mount answers" {
	background "$MNT"
	adopt_daemon
	# No waiting here: the very first request must be served.
	echo value >"$MNT/key"
	is "$(cat "$MNT/key")" value
}

@test "mount: a daemon in the background ends with its mount" {
	background "$MNT"
	adopt_daemon
	timeout 20 umount "$MNT" || timeout 20 fusermount3 -u "$MNT"
	ended_within 20 "$DAEMON"
	DAEMON=''
	! is_mounted
}

@test "mount: SIGTERM ends a daemon in the background, and its mount" {
	background "$MNT"
	adopt_daemon
	kill -TERM "$DAEMON"
	ended_within 20 "$DAEMON"
	DAEMON=''
	! is_mounted
}

@test "mount: a daemon in the background holds no descriptor or folder of its caller's" {
	cd "$BATS_TEST_TMPDIR"
	background "$MNT"
	adopt_daemon
	is "$(readlink "/proc/$DAEMON/cwd")" /
	for fd in 0 1 2; do
		is "$(readlink "/proc/$DAEMON/fd/$fd")" /dev/null "descriptor $fd"
	done
}

@test "mount: a source before the mount point is accepted, as in fstab" {
	background none "$MNT"
	adopt_daemon
	echo 1 >"$MNT/key"
	is "$(cat "$MNT/key")" 1
}

@test "mount: the table of mounts shows the type fuse.ctxfs" {
	start
	is "$(mount_line | sed 's/.* - //' | cut -d' ' -f1)" fuse.ctxfs
}

@test "mount: the file system is mounted nosuid,nodev" {
	requires root
	start
	case ,$(mount_line | cut -d' ' -f6), in
	*,nosuid,*) ;;
	*) false ;;
	esac
	case ,$(mount_line | cut -d' ' -f6), in
	*,nodev,*) ;;
	*) false ;;
	esac
}

@test "mount: -o ro refuses every change" {
	start ro
	fails_with EROFS touch "$MNT/key"
	fails_with EROFS mkdir "$MNT/directory"
}

@test "mount: the options of this version are accepted together" {
	start size=16M,ttl=1h,shards=8,data=none
	echo 1 >"$MNT/key"
	is "$(cat "$MNT/key")" 1
}

@test "mount: -o may be given more than once" {
	background "$MNT" -o size=16M -o ttl=1h
	adopt_daemon
	echo 1 >"$MNT/key"
	is "$(cat "$MNT/key")" 1
}

# --- -h, -V and saying why not ------------------------------------------------------------------

@test "mount: -h explains the call on stdout and exits 0" {
	background -h
	grep -q 'MOUNTPOINT' "$BATS_TEST_TMPDIR/out"
	grep -q 'size=' "$BATS_TEST_TMPDIR/out"
}

@test "mount: -V prints a version on stdout and exits 0" {
	background -V
	grep -qE '[0-9]+\.[0-9]+' "$BATS_TEST_TMPDIR/out"
}

@test "mount: no mount point is a usage error" {
	refused 2
	says MOUNTPOINT
}

@test "mount: an unknown flag is a usage error that names it" {
	refused 2 --frobnicate "$MNT"
	says --frobnicate
}

@test "mount: three operands are a usage error" {
	refused 2 none "$MNT" /tmp
}

@test "mount: a mount point that is not there is named, with the reason" {
	refused 1 "$BATS_TEST_TMPDIR/absent"
	says "$BATS_TEST_TMPDIR/absent" "does not exist"
}

@test "mount: a mount point that is a file is named, with the reason" {
	touch "$BATS_TEST_TMPDIR/file"
	refused 1 "$BATS_TEST_TMPDIR/file"
	says "$BATS_TEST_TMPDIR/file"
}

@test "mount: a missing mount point is reported in the foreground too" {
	refused 1 "$BATS_TEST_TMPDIR/absent" -f
	says "$BATS_TEST_TMPDIR/absent" "does not exist"
}

@test "mount: an unknown option is named" {
	refused 2 "$MNT" -o size=1M,sise=2M
	says sise
}

@test "mount: a bad value names the option, the value and what is accepted" {
	local option value
	for bad in size=lots size=-1 size= size=1Q ttl=soon ttl=-5 shards=3 shards=0 shards=4096 shards=x; do
		option=${bad%%=*} value=${bad#*=}
		refused 2 "$MNT" -o "$bad"
		says "$option" "$value"
		# More is said than the words of the mistake: what would have been right.
		if [ "$(wc -w <"$BATS_TEST_TMPDIR/err")" -lt 6 ]; then
			echo "does not say what $option= accepts: $(cat "$BATS_TEST_TMPDIR/err")"
			return 1
		fi
	done
}

@test "mount: the vocabulary of fstab is swallowed" {
	start rw,_netdev,nofail,noauto,auto,user,users,nouser,owner,group,defaults,relatime,noatime,nodiratime,x-systemd.automount,x-systemd.requires=network.target,x-gvfs-hide,comment=text
	echo 1 >"$MNT/key"
	is "$(cat "$MNT/key")" 1
}

@test "mount: the root of all files is no mount point" {
	requires root unshare
	# Among mounts of its own: should it be taken, it is taken from nobody else.
	local status=0
	timeout -k 5 10 unshare -m "$CTXFS" / -f 2>"$BATS_TEST_TMPDIR/err" 3>&- </dev/null || status=$?
	is "$status" 1 "exit code"
	says "mount point /" "hide"
}

@test "mount: started with its standard descriptors closed, it still returns" {
	timeout -k 5 30 "$CTXFS" "$MNT" <&- >&- 2>&- 3>&-
	adopt_daemon
	echo 1 >"$MNT/key"
	is "$(cat "$MNT/key")" 1
}

@test "mount: a ctxfs that hangs on the mount point is reported, and left alone" {
	start
	kill -STOP "$DAEMON"
	local status=0
	background "$MNT" || status=$?
	kill -CONT "$DAEMON"
	is "$status" 1 "exit code"
	says "$MNT" "not answer"
	stop
}

@test "mount: a dead mount of another file system is not detached" {
	requires root python3
	python3 - "$MNT" <<-'EOF'
	import ctypes, os, sys
	fuse = os.open("/dev/fuse", os.O_RDWR)
	options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
	libc = ctypes.CDLL(None, use_errno=True)
	if libc.mount(b"foreign", sys.argv[1].encode(), b"fuse.foreign", 0, options):
	    sys.exit(os.strerror(ctypes.get_errno()))
	EOF
	local status=0
	background "$MNT" || status=$?
	is "$status" 1 "exit code"
	says "$MNT" fuse.foreign
	is "$(mount_line | sed 's/.* - //' | cut -d' ' -f1)" fuse.foreign
	umount -l "$MNT"
}

@test "mount: SIGTERM leaves alone what is mounted on top" {
	requires root mount
	start
	mount -t tmpfs above "$MNT"
	kill -TERM "$DAEMON"
	ended_within 20 "$DAEMON"
	wait "$DAEMON"
	DAEMON=''
	is "$(mount_line | sed 's/.* - //' | cut -d' ' -f1)" tmpfs
	grep -q "something else is mounted over $MNT" "$LOG"
	umount "$MNT"
	umount "$MNT"
	! is_mounted
}

@test "mount: no number of users keeps root from the statistics" {
	requires root python3
	start allow_other
	timeout 60 python3 - "$MNT" <<-'EOF'
	import errno, os, resource, sys
	os.chdir(sys.argv[1]) # users cannot come in by the path of a test
	resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
	def fill(uid):
	    os.seteuid(uid)
	    kept = []
	    try:
	        while len(kept) < 2000:
	            kept.append(os.open(".stats", os.O_RDONLY))
	            while os.read(kept[-1], 1 << 20):
	                pass
	    except OSError as error:
	        assert error.errno == errno.ENFILE, error
	    finally:
	        os.seteuid(0)
	    return kept
	kept = [fill(uid) for uid in range(1000, 1012)]
	assert kept[0] and not kept[-1], [len(fds) for fds in kept]
	assert len(fill(0)) > 100
	EOF
}

# --- coming back --------------------------------------------------------------------------------

@test "mount: after kill -9, starting again on the same mount point just works" {
	start
	echo 1 >"$MNT/key"
	crash
	is_mounted # dead, and in the way
	fails_with ENOTCONN ls "$MNT"
	remount
	echo 2 >"$MNT/key"
	is "$(cat "$MNT/key")" 2
	stop
}

@test "mount: after kill -9, the background daemon starts there too" {
	start
	crash
	background "$MNT"
	adopt_daemon
	echo 2 >"$MNT/key"
	is "$(cat "$MNT/key")" 2
}

@test "mount: two crashes leave no mounts piled up" {
	start
	crash
	remount
	crash
	remount
	is "$(awk -v mnt="$MNT" '$5 == mnt' /proc/self/mountinfo | wc -l)" 1 mounts
	stop
}

@test "mount: stopped and started again, it is empty: contents are volatile" {
	start
	echo 1 >"$MNT/key"
	remount
	fails_with ENOENT cat "$MNT/key"
	is "$(ls "$MNT")" ""
}

@test "mount: SIGTERM in the middle of writing ends it within seconds" {
	start
	(
		while echo value 2>/dev/null >"$MNT/key"; do :; done
	) 3>&- &
	local writer=$!
	eventually test -s "$MNT/key"
	kill -TERM "$DAEMON"
	local status=0
	ended_within 20 "$DAEMON"
	wait "$DAEMON" || status=$?
	DAEMON=''
	kill "$writer" 2>/dev/null || true
	wait "$writer" 2>/dev/null || true
	rm -f "$MNT/key" # if the last turn of the loop wrote under the mount point
	is "$status" 0 "exit code"
	! is_mounted
}

# --- mount(8) -----------------------------------------------------------------------------------

# Prints the helper as `make install` would leave it for a program in folder $1.
installed_helper()
{
	sed "s|^bindir=.*|bindir=$1|" "$ROOT/mount-helpers/mount.ctxfs"
}

@test "mount.ctxfs: turns the call of mount(8) into that of ctxfs" {
	local helper=$BATS_TEST_TMPDIR/mount.ctxfs folder=$BATS_TEST_TMPDIR/bin
	mkdir "$folder"
	printf '#!/bin/sh\nprintf "[%%s]" "$@"\n' >"$folder/ctxfs"
	installed_helper "$folder" >"$helper"
	chmod +x "$helper" "$folder/ctxfs"

	is "$(timeout 10 "$helper" none /mnt/ctx)" "[none][/mnt/ctx]"
	is "$(timeout 10 "$helper" none /mnt/ctx -o rw,size=1G)" "[none][/mnt/ctx][-o][rw,size=1G]"
	is "$(timeout 10 "$helper" none "/mnt/a b" -sn -t ctxfs -o rw -o 'x-y=a b')" \
		"[none][/mnt/a b][-o][rw,x-y=a b]"
	is "$(timeout 10 "$helper" -orw none /mnt/ctx)" "[none][/mnt/ctx][-o][rw]"
	is "$(timeout 10 "$helper" none /mnt/ctx -f -o rw)" ""
	is "$(timeout 10 "$helper" none /mnt/ctx -fv -o rw)" \
		"mount.ctxfs: $folder/ctxfs none /mnt/ctx -o rw"
}

@test "mount.ctxfs: says what is wrong with a call, and fails" {
	local helper=$ROOT/mount-helpers/mount.ctxfs
	run -1 timeout 10 "$helper" none
	run -1 timeout 10 "$helper" none /mnt/ctx third
	run -1 timeout 10 "$helper" none /mnt/ctx -o
	run -1 timeout 10 "$helper" none /mnt/ctx -z
	run -1 timeout 10 "$helper" none /mnt/ctx -o remount,ro
	run -0 timeout 10 "$helper" -h
}

@test "mount.ctxfs: make install puts it and the program where mount(8) looks" {
	requires make
	local to=$BATS_TEST_TMPDIR/installed tree=$BATS_TEST_TMPDIR/tree
	# Without building: install only copies, so a program of any kind will do.
	mkdir -p "$tree/build"
	cp "$CTXFS" "$tree/build/ctxfs"
	timeout 60 make -s -C "$ROOT" -o all BUILD="$tree/build" DESTDIR="$to" PREFIX=/usr install
	[ -x "$to/usr/bin/ctxfs" ]
	[ -x "$to/sbin/mount.ctxfs" ]
	grep -qx 'bindir=/usr/bin' "$to/sbin/mount.ctxfs"
	timeout 60 make -s -C "$ROOT" DESTDIR="$to" PREFIX=/usr uninstall
	is "$(find "$to" -type f)" ""
}

@test "mount.ctxfs: mount -t ctxfs works, with the vocabulary of fstab" {
	requires root mount
	if [ -e /sbin/mount.ctxfs ]; then
		skip "/sbin/mount.ctxfs is there already"
	fi
	local status=0
	installed_helper "${CTXFS%/*}" >/sbin/mount.ctxfs
	chmod +x /sbin/mount.ctxfs
	timeout -k 5 30 mount -t ctxfs none "$MNT" \
		-o size=1G,nofail,_netdev >"$LOG" 2>&1 3>&- </dev/null || status=$?
	rm /sbin/mount.ctxfs
	is "$status" 0 "exit code of mount"
	adopt_daemon
	echo 1 >"$MNT/key"
	is "$(cat "$MNT/key")" 1
	timeout 20 umount "$MNT"
	ended_within 20 "$DAEMON"
	DAEMON=''
}
