#!/usr/bin/env bats
# What the kernel is told when a key expires or gets a TTL: enough, soon, and nothing too much.

load helpers

setup()
{
	requires fuse python3
	mount_setup
}

# Runs the program on standard input with the mount point as its argument.
python()
{
	timeout 90 python3 - "$MNT"
}

@test "expiry: a directory that takes the name of an expired key stays whole" {
	start
	python <<-'EOF'
	import os, random, sys, time
	keys, made, d = 20000, {}, sys.argv[1] + "/d"
	os.mkdir(d)
	for i in range(keys):
	    os.close(os.open(f"{d}/k{i}", os.O_CREAT | os.O_WRONLY))
	at = time.time() + 3
	for i in range(keys):
	    os.setxattr(f"{d}/k{i}", "user.expires_at", str(at).encode())
	os.listdir(d)
	while time.time() < at + 0.03:
	    time.sleep(0.002)
	draw = random.Random(1)
	for i in draw.sample(range(keys), 2000):
	    try:
	        os.mkdir(f"{d}/k{i}")
	    except FileExistsError:
	        continue
	    made[i] = os.open(f"{d}/k{i}", os.O_RDONLY | os.O_DIRECTORY)
	# All are announced when the kernel has forgotten them, and the store has dropped them.
	until = time.time() + 30
	while len(os.listdir(d)) > len(made) and time.time() < until:
	    time.sleep(0.05)
	time.sleep(1)
	broken = 0
	for fd in made.values():
	    os.fchdir(fd)
	    try:
	        os.getcwd()
	    except FileNotFoundError:
	        broken += 1
	assert made
	# One may fall into the gap between our look and the kernel's lock of the directory.
	assert broken <= 1, f"{broken} of {len(made)} lost their path"
	EOF
}

@test "expiry: a TTL that is set again and again is queued once" {
	case $CTXFS in
	*/asan/* | */tsan/* | */debug/*) skip "needs a build that makes 270000 changes in time" ;;
	esac
	start
	python <<-'EOF'
	import os, sys
	d = sys.argv[1] + "/d"
	os.mkdir(d)
	open(d + "/0", "w").close()
	for i in range(1, 20000):
	    os.link(d + "/0", f"{d}/{i}")
	# More often than the queue is long; each would be 20000 messages to the kernel.
	for i in range(270000):
	    os.setxattr(d + "/0", "user.ttl", b"1h")
	EOF
	stop
}

@test "expiry: rechecks of many names do not keep expired keys in memory" {
	start
	python <<-'EOF'
	import os, sys, time
	m = sys.argv[1]
	d = m + "/d"
	os.mkdir(d)
	open(d + "/0", "w").close()
	for i in range(1, 20000):
	    os.link(d + "/0", f"{d}/{i}")
	open(m + "/key", "w").close()
	fd = os.open(m + "/key", os.O_RDONLY | os.O_PATH)
	os.setxattr(m + "/key", "user.ttl_ms", b"50")
	os.close(fd)
	# While the queue of rechecks is never empty, the key goes, and the kernel forgets it.
	until = time.time() + 10
	inodes = lambda: os.statvfs(m).f_files - os.statvfs(m).f_ffree
	while inodes() > 3 and time.time() < until:
	    os.setxattr(d + "/0", "user.ttl", b"1h")
	assert inodes() <= 3, inodes()
	EOF
}

@test "expiry: a prefix with nothing behind it is no attribute" {
	start
	python <<-'EOF'
	import errno, os, sys
	key = sys.argv[1] + "/key"
	open(key, "w").close()
	for prefix in ("user.", "trusted.", "security."):
	    for call in (lambda: os.setxattr(key, prefix, b"1"), lambda: os.getxattr(key, prefix),
	                 lambda: os.removexattr(key, prefix)):
	        try:
	            call()
	            raise AssertionError(prefix)
	        except OSError as error:
	            assert error.errno in (errno.EINVAL, errno.EPERM, errno.ENODATA), error
	            if prefix == "user.":
	                assert error.errno == errno.EINVAL, error
	EOF
}
