# 41-names.bats: names and directories through a real mount.
# FULL=1: a million keys in one directory.

# shellcheck disable=SC2010,SC2012  # ls is what is tested
load helpers
load probe

@test "names: any bytes but slash and NUL, up to 255 of them" {
	requires root fuse python3
	start
	probe odd_names
}

@test "names: 256 bytes are refused with ENAMETOOLONG by every call" {
	requires root fuse python3
	start
	probe long_names
}

@test "names: a directory of very many keys lists each exactly once" {
	requires root fuse python3
	start
	count=100000
	[ -z "${FULL:-}" ] || count=1000000
	PROBE_LIMIT=600 probe many $count
}

@test "names: ls and find agree on ten thousand keys, and rm -r removes them" {
	requires root fuse python3
	start
	mkdir "$MNT/d"
	(cd "$MNT/d" && seq 10000 | xargs touch)
	is "$(ls "$MNT/d" | wc -l)" 10000 "ls"
	is "$(ls -f "$MNT/d" | sort -u | wc -l)" 10002 "ls -f"
	is "$(find "$MNT/d" -type f | wc -l)" 10000 "find"
	is "$(ls -l "$MNT/d" | grep -c '^-rw')" 10000 "ls -l"
	timeout 60 rm -r "$MNT/d"
	is "$(ls "$MNT")" "" "after rm -r"
}

@test "names: a listing is stable while others create, rename and unlink" {
	requires root fuse python3
	start
	probe churn 5
}

@test "names: a listing goes on where it was, also when what was read is gone" {
	requires root fuse python3
	start
	probe cookies
}

@test "names: types and numbers in a listing are those of stat" {
	requires root fuse python3
	start
	probe listing
}

@test "names: directories nest 300 deep" {
	requires root fuse python3
	start
	probe deep
}

@test "names: directories move, count their links, and refuse what they must" {
	requires root fuse python3
	start
	probe directories
}

@test "names: symbolic links are followed, dangle, loop and are replaced" {
	requires root fuse python3
	start
	probe symlinks
}

@test "names: find, mv and globs work on directories within directories" {
	requires root fuse python3
	start
	mkdir -p "$MNT"/users/{1..30}/{age,name}
	for i in {1..30}; do echo "$i" >"$MNT/users/$i/age/value"; done
	is "$(cat "$MNT"/users/*/age/value | sort -n | tail -n 1)" 30 "by a glob"
	mv "$MNT/users" "$MNT/people"
	is "$(cat "$MNT/people/7/age/value")" 7 "after mv"
	is "$(find "$MNT/people" -type d | wc -l)" 91 "directories"
	rm -r "$MNT/people"
	is "$(ls "$MNT")" ""
}
