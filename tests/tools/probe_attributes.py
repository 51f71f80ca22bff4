"""probe_attributes.py: claims about attributes, users, locks, events, fifos and sockets."""

import errno
import fcntl
import os
import select
import socket
import stat
import struct
import time

from probing import *


def syncs():
    """fsync, fdatasync, of files and directories, O_SYNC, sync_file_range, syncfs: all succeed."""
    fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_SYNC)
    os.write(fd, b"value")
    os.fsync(fd)
    os.fdatasync(fd)
    directory = os.open(".", os.O_RDONLY)
    os.fsync(directory)
    os.fdatasync(directory)
    called(LIBC.syncfs(fd))
    os.unlink("f")
    os.fsync(fd)


def times():
    """Explicit times come back to the nanosecond, and changes move mtime and ctime."""
    put("f", b"1")
    for ns in (
        0,
        1,
        -1,
        123456789123456789,
        2**33 * 10**9 + 999999999,
        -(2**31) * 10**9,
    ):
        os.utime("f", ns=(ns, ns))
        equal(os.stat("f").st_mtime_ns, ns, "mtime")
        equal(os.stat("f").st_atime_ns, ns, "atime")
    before = os.stat("f")
    put("f", b"2")
    after = os.stat("f")
    that(
        after.st_mtime_ns > 0 and after.st_ctime_ns > before.st_ctime_ns,
        "a write moves mtime and ctime",
    )
    that(abs(after.st_mtime - time.time()) < 60, "mtime is now")
    os.utime("f", ns=(5, 5))
    os.chmod("f", 0o600)
    equal(os.stat("f").st_mtime_ns, 5, "mtime after chmod")
    os.mkdir("d")
    os.utime("d", ns=(5, 5))
    put("d/x", b"")
    that(os.stat("d").st_mtime_ns > 5, "create moves the directory's mtime")
    os.utime("d", ns=(5, 5))
    put("d/x", b"again")
    equal(os.stat("d").st_mtime_ns, 5, "a write to a file leaves the directory's mtime")
    os.unlink("d/x")
    that(os.stat("d").st_mtime_ns > 5, "unlink moves the directory's mtime")


def owners():
    """Modes, owners and the umask, as the caller says; what others may not do is refused."""
    os.umask(0o027)
    put("f", b"secret", mode=0o666)
    equal(oct(os.stat("f").st_mode), oct(0o100640), "mode under umask 027")
    os.umask(0)
    os.chown("f", 1000, 2000)
    equal((os.stat("f").st_uid, os.stat("f").st_gid), (1000, 2000), "owner")
    os.mkdir("open")
    os.chmod("open", 0o1777)
    os.chmod(".", 0o755)
    put("open/roots", b"")

    def other():
        refused(errno.EACCES, os.open, "f", os.O_RDONLY)
        refused(errno.EPERM, os.chmod, "f", 0o777)
        refused(errno.EPERM, os.chown, "f", NOBODY, NOBODY)
        refused(errno.EACCES, os.mkdir, "no", 0o755)
        refused(errno.EPERM, os.unlink, "open/roots")
        refused(errno.EPERM, os.rename, "open/roots", "open/mine")
        put("open/own", b"x")
        equal(os.stat("open/own").st_uid, NOBODY, "owner of a new file")
        os.chmod("open/own", 0o600)
        os.unlink("open/own")
        put("open/own", b"x")

    as_user(NOBODY, other)
    os.mkdir("group")
    os.chown("group", 0, 3000)
    os.chmod("group", 0o2775)
    put("group/f", b"")
    os.mkdir("group/d")
    equal(os.stat("group/f").st_gid, 3000, "group from a set-group-id directory")
    equal(
        oct(os.stat("group/d").st_mode & 0o2000), oct(0o2000), "and the bit goes to directories"
    )


def locks():
    """flock and fcntl locks exclude other processes."""
    put("lock", b"")

    def child(_):
        fd = os.open("lock", os.O_RDWR)
        refused(errno.EAGAIN, fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    fd = os.open("lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    children(1, child)
    fcntl.flock(fd, fcntl.LOCK_UN)

    def range_child(_):
        other = os.open("lock", os.O_RDWR)
        refused(errno.EAGAIN, fcntl.lockf, other, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
        fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 100)

    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)
    children(1, range_child)


def inotify():
    """A watcher of a directory hears of create, write, rename and unlink."""
    wanted = {"create": 0x100, "modify": 0x2, "moved": 0x80, "delete": 0x200}
    fd = called(LIBC.inotify_init1(os.O_NONBLOCK))
    os.mkdir("d")
    called(LIBC.inotify_add_watch(fd, b"d", 0xFFF))
    put("d/a", b"value")
    os.rename("d/a", "d/b")
    os.unlink("d/b")
    heard = 0
    while select.select([fd], [], [], 5)[0]:
        data, at = os.read(fd, 65536), 0
        while at < len(data):
            _, mask, _, length = struct.unpack_from("=iIII", data, at)
            heard |= mask
            at += 16 + length
        if all(heard & bit for bit in wanted.values()):
            return
    raise AssertionError("heard only of %s" % [w for w in wanted if heard & wanted[w]])


def special():
    """Fifos and sockets work between processes; devices are refused by nodev."""
    os.mkfifo("fifo", 0o600)

    def writer(_):
        with open("fifo", "wb", buffering=0) as f:
            f.write(b"through the fifo")

    pid = os.fork()
    if pid == 0:
        writer(0)
        os._exit(0)
    equal(cat("fifo"), b"through the fifo", "a fifo")
    os.waitpid(pid, 0)
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    server.listen(1)
    client = socket.socket(socket.AF_UNIX)
    client.connect("socket")
    client.send(b"hello")
    equal(server.accept()[0].recv(10), b"hello", "a socket")
    equal(stat.S_ISSOCK(os.stat("socket").st_mode), True, "type of the socket")
    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    equal(os.stat("null").st_rdev, os.makedev(1, 3), "device number")
    refused(errno.EACCES, os.open, "null", os.O_RDONLY)


def xattrs():
    """Extended attributes are bytes, to 64 KiB, listed by name, created and replaced as asked."""
    put("f", b"")
    values = {
        "user.empty": b"",
        "user.bytes": bytes(range(256)),
        "user.max": pattern(65536),
        "trusted.t": b"t",
        "user." + "n" * 250: b"long name",
    }
    for name, value in values.items():
        os.setxattr("f", name, value)
    for name, value in values.items():
        equal(os.getxattr("f", name), value, name[:20])
    equal(sorted(os.listxattr("f")), sorted(values), "the list")
    refused(errno.EEXIST, os.setxattr, "f", "user.empty", b"1", os.XATTR_CREATE)
    refused(errno.ENODATA, os.setxattr, "f", "user.none", b"1", os.XATTR_REPLACE)
    refused(errno.ENODATA, os.getxattr, "f", "user.none")
    refused(errno.ENODATA, os.removexattr, "f", "user.none")
    refused(errno.E2BIG, os.setxattr, "f", "user.big", bytes(65537))
    refused(errno.EOPNOTSUPP, os.setxattr, "f", "system.other", b"1")
    os.removexattr("f", "user.max")
    refused(errno.ENODATA, os.getxattr, "f", "user.max")
    os.rename("f", "g")
    equal(os.getxattr("g", "user.bytes"), bytes(range(256)), "after a rename")


def rename_flags():
    """RENAME_NOREPLACE refuses, RENAME_EXCHANGE swaps, also a file with a directory."""
    put("a", b"A")
    put("b", b"B")
    refused(errno.EEXIST, renameat2, "a", "b", NOREPLACE)
    renameat2("a", "c", NOREPLACE)
    equal((cat("c"), cat("b"), os.path.exists("a")), (b"A", b"B", False), "NOREPLACE")
    renameat2("c", "b", EXCHANGE)
    equal((cat("c"), cat("b")), (b"B", b"A"), "EXCHANGE")
    refused(errno.ENOENT, renameat2, "c", "none", EXCHANGE)
    os.mkdir("d")
    put("d/x", b"X")
    renameat2("d", "c", EXCHANGE)
    equal((cat("c/x"), cat("d")), (b"X", b"B"), "a file and a directory")
    refused(errno.EINVAL, renameat2, "c", "b", NOREPLACE | EXCHANGE)


def numpy():
    """np.save, np.load, mmap_mode, tofile and fromfile."""
    import numpy as np

    array = np.arange(1000000, dtype=np.float32).reshape(1000, 1000)
    np.save("array.npy", array)
    that((np.load("array.npy") == array).all(), "np.load")
    that((np.load("array.npy", mmap_mode="r") == array).all(), "np.load, mapped")
    array.tofile("array.bin")
    that(
        (np.fromfile("array.bin", dtype=np.float32).reshape(1000, 1000) == array).all(),
        "np.fromfile",
    )
