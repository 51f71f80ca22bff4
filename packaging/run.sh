#!/bin/sh
# run.sh PROGRAM MOUNTPOINT [OPTIONS]: mount, say where, and name three things to try (`make run`).
# Does nothing but say so when ctxfs is mounted there already.
set -eu

program=$1
mountpoint=$2
options=${3-}
limit=60

fail()
{
	echo "make run: $*" >&2
	exit 1
}

# The type of what is mounted on the mount point itself; from the kernel's table, which answers
# even when a dead daemon's mount does not.
mounted_type()
{
	findmnt --noheadings --output FSTYPE --mountpoint "$mountpoint" 2>/dev/null | tail -n 1
}

answers()
{
	timeout 10 stat -f "$mountpoint" >/dev/null 2>&1
}

introduce()
{
	cat <<EOF

ctxfs is $1 at $mountpoint. Try:

  echo hello > $mountpoint/greeting; cat $mountpoint/greeting
  setfattr -n user.ttl -v 60 $mountpoint/greeting; getfattr -n user.ttl $mountpoint/greeting
  cat $mountpoint/.stats

Unmount:  umount $mountpoint
EOF
}

[ "$(id -u)" = 0 ] || fail "mounting at $mountpoint needs root: sudo make run"
case $mountpoint in
/*) ;;
*) mountpoint=$PWD/$mountpoint ;;
esac

case $(mounted_type) in
*ctxfs*)
	if answers; then
		introduce "already mounted"
		exit 0
	fi
	;;
'') ;;
*) fail "$mountpoint is in use by another file system: choose another with MNT=" ;;
esac

if ! mkdir -p "$mountpoint" 2>/dev/null && ! [ -d "$mountpoint" ]; then
	# A mount whose daemon died answers ENOTCONN to everything; ctxfs detaches it itself.
	[ -n "$(mounted_type)" ] || fail "cannot create the mount point $mountpoint"
fi

if [ -n "$options" ]; then
	set -- -o "$options"
else
	set --
fi
timeout "$limit" "$program" "$mountpoint" "$@" ||
	fail "$program did not mount (its reason is above)"
answers || fail "mounted, but $mountpoint does not answer"
introduce mounted
