#!/usr/bin/env python3
"""
probe.py CLAIM DIRECTORY [ARGUMENT...]: file operations that a shell cannot perform, for the bats files.

Each claim is one function below; it works inside DIRECTORY (its current directory, entered before any
change of user, so that the path above needs no permissions) and raises when what it saw is not so.
"""

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import random
import select
import socket
import stat
import struct
import sys
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE = 1, 2
KIB, MIB = 1 << 10, 1 << 20
NOBODY = 65534


# ---- helpers ----


def equal(got, want, what):
    if got != want:
        got, want = (repr(v) if len(repr(v)) < 200 else repr(v)[:200] + "..." for v in (got, want))
        raise AssertionError("%s: got %s, want %s" % (what, got, want))


def that(truth, what):
    if not truth:
        raise AssertionError(what)


def refused(code, call, *args, **named):
    """The call must fail with this errno."""
    try:
        result = call(*args, **named)
    except OSError as e:
        equal(errno.errorcode.get(e.errno), errno.errorcode[code], "errno of %s%r" % (call.__name__, args))
        return
    raise AssertionError("%s%r succeeded (%r), want %s" % (call.__name__, args, result, errno.errorcode[code]))


def called(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def fallocate(fd, mode, offset, length):
    called(LIBC.fallocate(fd, mode, offset, length))


def renameat2(old, new, flags):
    called(LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def link_fd(fd, path):
    """Gives what a descriptor is open on a name."""
    called(LIBC.linkat(fd, b"", AT_FDCWD, os.fsencode(path), 0x1000))  # AT_EMPTY_PATH


def put(path, data, flags=0, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)


def cat(path):
    with open(path, "rb", buffering=0) as f:
        return f.read()


def children(count, work):
    """Runs work(i) in count processes at once; all must succeed."""
    sys.stdout.flush()
    pids = []
    for i in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                work(i)
                os._exit(0)
            except BaseException as e:
                print("process %d: %s: %s" % (i, type(e).__name__, e), flush=True)
                os._exit(1)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    equal(codes, [0] * count, "exit codes of the processes")


def as_user(uid, work):
    """Runs work() as another user, without root's capabilities."""

    def change(_):
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        work()

    children(1, change)


def until(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        that(time.monotonic() < deadline, "not within %d s: %s" % (seconds, what))
        time.sleep(0.01)


def pattern(size, seed=1):
    return random.Random(seed).randbytes(size)


# ---- values ----


def sizes():
    """Values of every interesting size come back as they were, from one read that is never short."""
    edges = [0, 1, 2, 198, 199, 200, 201, 255, 256, 4095, 4096, 4097, 65535, 65536, 65537, 131072, MIB - 1,
             MIB, MIB + 1, 3 * MIB + 7]
    for size in edges:
        data = pattern(size, size)
        put("value", data)
        equal(os.stat("value").st_size, size, "st_size")
        fd = os.open("value", os.O_RDONLY)
        equal(os.read(fd, size + 1) == data, True, "one read of %d bytes" % size)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        equal(os.pread(fd, size + 1, 0) == data, True, "one read of %d bytes, pages dropped" % size)
        os.close(fd)


def every_byte():
    """Overwriting and appending byte by byte and at odd places agrees with a model in memory."""
    rng = random.Random(7)
    model = bytearray()
    fd = os.open("model", os.O_RDWR | os.O_CREAT)
    for _ in range(600):
        offset = rng.choice([len(model), rng.randrange(len(model) + 1), rng.randrange(200000)])
        data = rng.randbytes(rng.choice([1, 3, 100, 200, 5000, 70000]))
        kind = rng.random()
        if kind < 0.75:
            equal(os.pwrite(fd, data, offset), len(data), "length written")
            model.extend(bytes(max(0, offset - len(model))))
            model[offset:offset + len(data)] = data
        else:
            size = rng.randrange(200000)
            os.ftruncate(fd, size)
            model.extend(bytes(max(0, size - len(model))))
            del model[size:]
        at, count = rng.randrange(len(model) + 1), rng.randrange(100000)
        equal(os.pread(fd, count, at) == model[at:at + count], True, "bytes %d+%d" % (at, count))
    equal(cat("model") == model, True, "the whole value")


def sparse():
    """A file of 1 TiB with a byte at the end: holes read as zeros, at once."""
    tib = 1 << 40
    fd = os.open("sparse", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"end", tib - 3)
    os.pwrite(fd, b"middle", tib // 2)
    os.pwrite(fd, b"start", 0)
    equal(os.stat("sparse").st_size, tib, "size")
    equal(os.pread(fd, 100, tib - 3), b"end", "the end")
    equal(os.pread(fd, 8, tib // 2 - 1), b"\0middle\0", "the middle")
    equal(os.pread(fd, MIB, 1 << 33), bytes(MIB), "a hole")
    equal(os.lseek(fd, tib // 2 + MIB, os.SEEK_DATA) > tib - MIB, True, "SEEK_DATA crosses the hole")
    os.ftruncate(fd, 10)
    os.ftruncate(fd, tib)
    equal(os.pread(fd, 100, 0), b"start" + bytes(95), "cut and grown again: zeros")
    equal(os.pread(fd, 8, tib // 2 - 1), bytes(8), "what was cut does not come back")


def seek_holes():
    """SEEK_DATA and SEEK_HOLE walk exactly the data of a sparse file."""
    fd = os.open("holes", os.O_RDWR | os.O_CREAT)
    places = [0, MIB, 10 * MIB + 4096, 1 << 32]
    for place in places:
        os.pwrite(fd, b"D" * 4096, place)
    os.ftruncate(fd, (1 << 32) + MIB)
    size, at, seen = os.fstat(fd).st_size, 0, []
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            equal(e.errno, errno.ENXIO, "errno behind the last data")
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        that(start < at <= size, "SEEK_HOLE goes forward")
        seen.append((start, at))
    covered = sum(end - start for start, end in seen)
    that(all(any(s <= p and p + 4096 <= e for s, e in seen) for p in places), "all data is found: %r" % seen)
    that(covered <= len(places) * 65536, "holes are not called data: %d bytes" % covered)
    equal(os.lseek(fd, size - 10, os.SEEK_HOLE), size - 10, "SEEK_HOLE in the hole at the end")
    refused(errno.ENXIO, os.lseek, fd, size, os.SEEK_DATA)
    refused(errno.ENXIO, os.lseek, fd, size + 5, os.SEEK_HOLE)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 65536)
    equal(os.pread(fd, 4096, 0), bytes(4096), "a punched hole")
    equal(os.lseek(fd, 0, os.SEEK_DATA) >= 65536, True, "a punched hole is a hole")


def rename_open():
    """A reader keeps the file that it opened; who opens after the rename gets the new one."""
    for size in (10, 5000, 300000):
        old, new = pattern(size, 1), pattern(size // 2, 2)
        put("key", old)
        fd = os.open("key", os.O_RDONLY)
        put("tmp", new)
        os.rename("tmp", "key")
        equal(os.pread(fd, size + 1, 0) == old, True, "the old bytes, by the descriptor")
        equal(cat("key") == new, True, "the new bytes, by the name")
        equal(os.fstat(fd).st_nlink, 0, "links of what was replaced")
        os.close(fd)


def unlinked():
    """An unlinked file can be read, written, cut and stat'ed until it is closed."""
    data = pattern(100000)
    put("gone", data)
    fd = os.open("gone", os.O_RDWR)
    os.unlink("gone")
    refused(errno.ENOENT, os.stat, "gone")
    equal(os.fstat(fd).st_nlink, 0, "links")
    equal(os.pread(fd, 200000, 0) == data, True, "the bytes")
    os.pwrite(fd, b"more", 100000)
    equal(os.fstat(fd).st_size, 100004, "size after a write")
    os.ftruncate(fd, 5)
    equal(os.pread(fd, 10, 0), data[:5], "after ftruncate")
    os.fchmod(fd, 0o600)
    os.utime(fd, ns=(5, 7))
    equal(os.fstat(fd).st_mtime_ns, 7, "mtime")
    os.setxattr(fd, "user.a", b"1")
    equal(os.getxattr(fd, "user.a"), b"1", "an attribute")
    refused(errno.ENOENT, link_fd, fd, "back")


def tmpfile():
    """O_TMPFILE has no name until it is linked; with O_EXCL it never gets one."""
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    data = pattern(70000)
    os.write(fd, data)
    equal(os.fstat(fd).st_nlink, 0, "links before")
    equal(os.listdir("."), [], "names before")
    link_fd(fd, "named")
    equal(os.fstat(fd).st_nlink, 1, "links after")
    equal(cat("named") == data, True, "contents")
    equal(stat.S_IMODE(os.stat("named").st_mode), 0o640, "mode")
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o640)
    refused(errno.ENOENT, link_fd, fd, "other")


def links():
    """Hard links are one object: one number, one value, counted."""
    put("one", b"value")
    os.mkdir("d")
    for i in range(100):
        os.link("one", "d/link%d" % i)
    equal(os.stat("one").st_nlink, 101, "links")
    equal(os.stat("one").st_ino, os.stat("d/link7").st_ino, "number")
    put("d/link50", b"changed through a link")
    equal(cat("one"), b"changed through a link", "value")
    os.unlink("one")
    for i in range(99):
        os.unlink("d/link%d" % i)
    equal(os.stat("d/link99").st_nlink, 1, "links at the end")
    equal(cat("d/link99"), b"changed through a link", "value at the end")
    refused(errno.EPERM, os.link, "d", "e")
    refused(errno.EEXIST, os.link, "d/link99", "d")


def set_id():
    """A write by an ordinary user clears set-user-id, and set-group-id of what the group can execute."""
    cases = [(0o6777, 0o777), (0o4777, 0o777), (0o2777, 0o777), (0o2767, 0o2767 & ~0o2000), (0o666, 0o666)]
    changes = {
        "write": lambda fd: os.write(fd, b"x"),
        "truncate": lambda fd: os.ftruncate(fd, 1),
        "fallocate": lambda fd: fallocate(fd, 0, 0, 5000),
        "copy": lambda fd: os.copy_file_range(os.open("source", os.O_RDONLY), fd, 100, 0, 0),
    }
    put("source", bytes(1000))
    for what, change in changes.items():
        for before, after in cases:
            name = "%s-%o" % (what, before)
            put(name, b"abc")
            os.chmod(name, before)
            as_user(NOBODY, lambda: change(os.open(name, os.O_RDWR)))
            equal(oct(os.stat(name).st_mode & 0o7777), oct(after), "%s as nobody, mode was %o" % (what, before))
    put("root", b"abc")
    os.chmod("root", 0o6755)
    with open("root", "r+b", buffering=0) as f:
        f.write(b"x")
    equal(oct(os.stat("root").st_mode & 0o7777), oct(0o6755), "a write by root keeps them")
    os.chown("root", 1000, 1000)
    equal(oct(os.stat("root").st_mode & 0o7777), oct(0o755), "chown clears them")


def allocate():
    """fallocate makes room: it grows the size unless told not to, and keeps what is there."""
    fd = os.open("room", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"data")
    fallocate(fd, KEEP_SIZE, 0, MIB)
    equal(os.fstat(fd).st_size, 4, "size with KEEP_SIZE")
    fallocate(fd, 0, 0, MIB)
    equal(os.fstat(fd).st_size, MIB, "size")
    equal(os.pread(fd, 10, 0), b"data" + bytes(6), "contents")
    equal(os.pread(fd, MIB, 4), bytes(MIB - 4), "the rest is zeros")
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 1, 2)
    equal(os.pread(fd, 4, 0), b"d\0\0a", "a hole of two bytes")
    refused(errno.EOPNOTSUPP, fallocate, fd, PUNCH_HOLE, 0, 10)
    refused(errno.EINVAL, fallocate, fd, 0, 0, 0)


def reserved(limit):
    """After fallocate, writes into the range cannot fail, though the store is full."""
    fd = os.open("reserved", os.O_RDWR | os.O_CREAT)
    fallocate(fd, 0, 0, int(limit) // 2)
    fill("filler")
    for offset in range(0, int(limit) // 2, 128 * KIB):
        os.pwrite(fd, pattern(128 * KIB, offset), offset)


def fill(name, step=256 * KIB):
    """Writes until ENOSPC, in smaller and smaller steps; returns the bytes written."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    total = 0
    while step >= 1:
        try:
            total += os.write(fd, b"f" * step)
        except OSError as e:
            equal(e.errno, errno.ENOSPC, "errno when full")
            step //= 16
    os.close(fd)
    return total


def full(limit):
    """At size=, new data gets ENOSPC; unlink, truncate and rename work; then there is room again."""
    limit = int(limit)
    os.mkdir("d")
    put("small", b"small")
    put("victim", pattern(2 * MIB))
    written = fill("big")
    that(written + 2 * MIB > limit * 0.7, "full after %d of %d bytes" % (written, limit))
    that(written + 2 * MIB <= limit, "took more than the limit: %d of %d" % (written, limit))
    equal(os.stat("big").st_size, written, "size of what was accepted")
    refused(errno.ENOSPC, put, "more", pattern(2 * MIB))
    refused(errno.ENOSPC, fallocate, os.open("small", os.O_RDWR), 0, 0, limit)
    v = os.statvfs(".")
    that(v.f_bavail * v.f_frsize < MIB, "statvfs says full: %d bytes free" % (v.f_bavail * v.f_frsize))
    equal(cat("small"), b"small", "reads work")
    os.rename("small", "d/moved")
    renameat2("d/moved", "big", EXCHANGE)
    renameat2("d/moved", "big", EXCHANGE)
    os.unlink("victim")
    put("again", pattern(MIB))
    equal(cat("again") == pattern(MIB), True, "there is room after unlink")
    fill("big")
    os.truncate("big", 5)
    put("again2", pattern(2 * MIB))
    equal(cat("again2") == pattern(2 * MIB), True, "there is room after truncate")


def statvfs(limit):
    """statvfs: the limit, what is used of it, and the number of files."""
    limit = int(limit)
    before = os.statvfs(".")
    total = before.f_blocks * before.f_frsize
    that(abs(total - limit) <= limit // 100, "total %d, limit %d" % (total, limit))
    equal(before.f_namemax, 255, "f_namemax")
    put("file", pattern(8 * MIB))
    after = os.statvfs(".")
    used = (before.f_bfree - after.f_bfree) * before.f_frsize
    that(8 * MIB <= used <= 9 * MIB, "8 MiB written, %d bytes fewer are free" % used)
    for i in range(100):
        put("f%d" % i, b"")
    equal(os.statvfs(".").f_files - os.statvfs(".").f_ffree - (after.f_files - after.f_ffree), 100, "files")
    os.unlink("file")
    until(lambda: os.statvfs(".").f_bfree >= before.f_bfree - MIB // before.f_frsize, "free again")


def copy_range(size):
    """copy_file_range of a whole file and of odd parts; prints nothing, the caller weighs memory."""
    size = int(size)
    data = pattern(MIB)
    with open("source", "wb", buffering=0) as f:
        for _ in range(size // MIB):
            f.write(data)
    source, target = os.open("source", os.O_RDONLY), os.open("target", os.O_RDWR | os.O_CREAT)
    done = 0
    while done < size:
        count = os.copy_file_range(source, target, size - done, done, done)
        that(count > 0, "copy_file_range ends at %d" % done)
        done += count
    equal(os.fstat(target).st_size, size, "size of the copy")
    for offset in range(0, size, MIB):
        equal(os.pread(target, MIB, offset) == data, True, "the copy at %d" % offset)


def copy_apart():
    """Source and copy live apart: a write to one never shows in the other."""
    data = pattern(300000)
    put("source", data)
    source, target = os.open("source", os.O_RDWR), os.open("target", os.O_RDWR | os.O_CREAT)
    equal(os.copy_file_range(source, target, 200001, 12345, 777), 200001, "bytes copied")
    equal(os.pread(target, 300000, 0) == bytes(777) + data[12345:212346], True, "an unaligned copy")
    os.pwrite(source, b"S" * 1000, 50000)
    os.pwrite(target, b"T" * 1000, 150000)
    want = bytearray(bytes(777) + data[12345:212346])
    want[150000:151000] = b"T" * 1000
    equal(os.pread(target, 300000, 0) == want, True, "the copy after both changed")
    os.unlink("source")
    equal(os.pread(target, 300000, 0) == want, True, "the copy after the source went")
    refused(errno.EINVAL, os.copy_file_range, target, target, 1000, 0, 500)
    equal(os.copy_file_range(target, target, 1000, 0, 180000), 1000, "within one file")
    equal(os.pread(target, 1000, 180000), os.pread(target, 1000, 0), "within one file")


def mappings():
    """Mappings, descriptors and other processes see one value."""
    size = 300000
    data = bytearray(pattern(size))
    put("mapped", data)
    fd = os.open("mapped", os.O_RDWR)
    with mmap.mmap(fd, size) as shared, mmap.mmap(fd, size, mmap.MAP_PRIVATE) as private:
        equal(shared[:] == data, True, "a shared mapping")
        equal(private[:] == data, True, "a private mapping")
        shared[1000:1005] = b"share"
        private[2000:2005] = b"priv."
        data[1000:1005] = b"share"
        equal(os.pread(fd, size, 0) == data, True, "read sees the shared mapping, not the private one")
        os.pwrite(fd, b"write", 100000)
        data[100000:100005] = b"write"
        equal(shared[100000:100005], b"write", "a shared mapping sees write")

        def child(_):
            with mmap.mmap(os.open("mapped", os.O_RDWR), size) as other:
                equal(other[1000:1005], b"share", "another process")
                other[5000:5005] = b"other"

        children(1, child)
        data[5000:5005] = b"other"
        equal(shared[5000:5005], b"other", "a change by another process")
        shared.flush()
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    equal(cat("mapped") == data, True, "after msync and without pages")


def faults():
    """Many threads fault in one mapping at once."""
    size = 16 * MIB
    data = pattern(size)
    put("big", data)
    fd = os.open("big", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    want = hashlib.md5(data).hexdigest()
    failures = []

    def reader(seed):
        with mmap.mmap(fd, size, mmap.MAP_SHARED, prot=mmap.PROT_READ) as m:
            rng = random.Random(seed)
            for _ in range(200):
                at = rng.randrange(size)
                if m[at] != data[at]:
                    failures.append(at)

    threads = [threading.Thread(target=reader, args=(i,)) for i in range(32)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(failures, [], "bytes that were wrong")
    with mmap.mmap(fd, size, mmap.MAP_SHARED, prot=mmap.PROT_READ) as m:
        equal(hashlib.md5(m).hexdigest(), want, "the whole mapping")


def direct():
    """O_DIRECT: one write and one readv of the full length, as KV-cache tiers do it."""
    size = 2 * MIB
    buffer = mmap.mmap(-1, size)
    buffer[:] = pattern(size)
    fd = os.open("tmp", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_TRUNC | os.O_DIRECT)
    equal(os.write(fd, buffer), size, "one write")
    os.close(fd)
    os.replace("tmp", "block")
    back = mmap.mmap(-1, size)
    fd = os.open("block", os.O_RDONLY | os.O_DIRECT)
    equal(os.readv(fd, [back]), size, "one readv")
    equal(back[:] == buffer[:], True, "contents")
    equal(os.readv(fd, [back]), 0, "readv at the end")
    equal(cat("block") == buffer[:], True, "contents by a cached read")
    refused(errno.EEXIST, os.open, "block", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def direct_mixed():
    """Direct writes show in cached reads and mappings, and the other way round."""
    put("mixed", bytes(8192))
    fd = os.open("mixed", os.O_RDWR)
    with mmap.mmap(fd, 8192) as m:
        equal(m[:10], bytes(10), "before")
        buffer = mmap.mmap(-1, 4096)
        buffer[:] = b"d" * 4096
        dfd = os.open("mixed", os.O_RDWR | os.O_DIRECT)
        os.pwrite(dfd, buffer, 4096)
        equal(os.pread(fd, 4096, 4096), b"d" * 4096, "a cached read after a direct write")
        equal(m[4096:8192], b"d" * 4096, "a mapping after a direct write")
        os.pwrite(fd, b"c" * 4096, 0)
        os.preadv(dfd, [buffer], 0)
        equal(buffer[:], b"c" * 4096, "a direct read after a cached write")


def append():
    """Records appended by several processes are all there, whole."""
    writers, each = 4, 400

    def work(i):
        fd = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for n in range(each):
            record = b"%d:%d:" % (i, n) + b"x" * (n % 300) + b"\n"
            equal(os.write(fd, record), len(record), "length appended")

    children(writers, work)
    seen = {}
    for line in cat("log").split(b"\n")[:-1]:
        writer, n, rest = line.split(b":")
        equal(len(rest), int(n) % 300, "length of record %s of %s" % (n, writer))
        equal(int(n), seen.get(writer, 0), "order of the records of %s" % writer)
        seen[writer] = int(n) + 1
    equal(seen, {b"%d" % i: each for i in range(writers)}, "records")


def big_write():
    """write(2) takes 1 MiB, and 5 MiB, whole; read(2) gives them back whole."""
    for size in (MIB, 5 * MIB):
        data = pattern(size)
        fd = os.open("big", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        equal(os.write(fd, data), size, "one write")
        equal(os.pread(fd, size, 0) == data, True, "one read")
        os.close(fd)


def sequential(size):
    """A large file, written and read in sequence."""
    size = int(size)
    chunk, total = pattern(4 * MIB), hashlib.md5()
    with open("large", "wb", buffering=0) as f:
        for i in range(size // len(chunk)):
            part = struct.pack("=Q", i) + chunk[8:]
            total.update(part)
            equal(f.write(part), len(part), "length written")
    equal(os.stat("large").st_size, size, "size")
    got = hashlib.md5()
    with open("large", "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while part := f.read(4 * MIB):
            got.update(part)
    equal(got.hexdigest(), total.hexdigest(), "digest")


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
    """Explicit times come back to the nanosecond, far past and future; changes move mtime and ctime."""
    put("f", b"1")
    for ns in (0, 1, -1, 123456789123456789, 2**33 * 10**9 + 999999999, -(2**31) * 10**9):
        os.utime("f", ns=(ns, ns))
        equal(os.stat("f").st_mtime_ns, ns, "mtime")
        equal(os.stat("f").st_atime_ns, ns, "atime")
    before = os.stat("f")
    put("f", b"2")
    after = os.stat("f")
    that(after.st_mtime_ns > 0 and after.st_ctime_ns > before.st_ctime_ns, "a write moves mtime and ctime")
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
    equal(oct(os.stat("group/d").st_mode & 0o2000), oct(0o2000), "and the bit goes to directories")


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
    called(LIBC.inotify_add_watch(fd, b"d", 0xfff))
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
    values = {"user.empty": b"", "user.bytes": bytes(range(256)), "user.max": pattern(65536),
              "trusted.t": b"t", "user." + "n" * 250: b"long name"}
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
    that((np.fromfile("array.bin", dtype=np.float32).reshape(1000, 1000) == array).all(), "np.fromfile")


# ---- names ----


def odd_names():
    """Names are bytes: whatever has no slash and no NUL, up to 255 of them."""
    names = [b"new\nline", b"\xff\xfe\x80", b"-rf", b" ", b"  x", "ключ".encode(), b"\\", b"'\"", b"*", b"?",
             b"n" * 255, b"\xc3" * 255, b"\x01\x02\x1b[0m", b"...", b".hidden", b"e\xcc\x81", b"\xc3\xa9", b"~",
             b"a:b", b"CON", b"EX"]
    for name in names:
        put(name, b"value of " + name)
    equal(sorted(os.listdir(b".")), sorted(names), "the listing")
    for name in names:
        equal(cat(name), b"value of " + name, "value of %r" % name)
        os.rename(name, b"d" + name[:254])
        os.rename(b"d" + name[:254], name)
        os.unlink(name)
    equal(os.listdir(b"."), [], "the listing at the end")


def long_names():
    """256 bytes are refused by every call that takes a name, with ENAMETOOLONG."""
    longest, over = "n" * 255, "n" * 256
    os.mkdir(longest)
    put(longest + "/" + longest, b"deep")
    equal(cat(longest + "/" + longest), b"deep", "a value below the longest name")
    put("f", b"")
    too_long = errno.ENAMETOOLONG
    refused(too_long, put, over, b"")
    refused(too_long, os.stat, over)
    refused(too_long, os.mkdir, over)
    refused(too_long, os.unlink, over)
    refused(too_long, os.rmdir, over)
    refused(too_long, os.rename, "f", over)
    refused(too_long, os.rename, over, "f")
    refused(too_long, os.link, "f", over)
    refused(too_long, os.symlink, "f", over)
    refused(too_long, os.mknod, over, stat.S_IFREG | 0o600)
    refused(too_long, os.stat, over + "/x")
    os.symlink("t" * 4095, "link")
    equal(os.readlink("link"), "t" * 4095, "the longest target")
    refused(too_long, os.symlink, "t" * 4096, "link2")


def many(count):
    """A large directory lists every name exactly once, and each is found."""
    count = int(count)
    os.mkdir("many")
    os.chdir("many")
    for i in range(count):
        os.mknod("key-%07d" % i)
    names = os.listdir(".")
    equal(len(names), count, "names listed")
    equal(set(names) == {"key-%07d" % i for i in range(count)}, True, "the names")
    rng = random.Random(3)
    for i in rng.sample(range(count), 1000):
        os.stat("key-%07d" % i)
        refused(errno.ENOENT, os.stat, "kei-%07d" % i)
    for i in range(0, count, 2):
        if i % 20 == 0:
            os.unlink("key-%07d" % i)
    gone = len(range(0, count, 20))
    names = os.listdir(".")
    equal((len(names), len(set(names))), (count - gone, count - gone), "names after unlinking some")


def churn(seconds):
    """Names that are there throughout a listing are seen exactly once, whatever others come and go."""
    seconds = float(seconds)
    os.mkdir("d")
    fixed = {"fixed%d" % i for i in range(2000)}
    for i, name in enumerate(sorted(fixed)):
        put("d/" + name, b"")
        if i % 3 == 0:
            put("d/early%d" % i, b"")
    end = time.monotonic() + seconds

    def work(i):
        rng, n = random.Random(i), 0
        while time.monotonic() < end:
            if i < 2:
                n += 1
                name = "d/%d-%d" % (i, rng.randrange(500))
                what = rng.random()
                if what < 0.5:
                    put(name, b"")
                elif what < 0.8 and os.path.exists(name):
                    os.unlink(name)
                elif os.path.exists(name):
                    os.rename(name, "d/%d-%d" % (i, rng.randrange(500)))
            else:
                names = os.listdir("d")
                equal(len(names), len(set(names)), "a name is listed twice: names, different ones")
                equal(sorted(fixed - set(names))[:5], [], "names that are missing")

    children(4, work)


def cookies():
    """A listing goes on from a position that an earlier read gave, also when what it read is gone."""
    os.mkdir("d")
    for i in range(3000):
        os.mknod("d/f%d" % i)
    fd = os.open("d", os.O_RDONLY)
    buffer = ctypes.create_string_buffer(4096)

    def some():
        size = called(LIBC.syscall(217, fd, buffer, 4096))
        at, entries = 0, []
        while at < size:
            _, offset, length = struct.unpack_from("=QqH", buffer, at)
            name = buffer.raw[at + 19:at + length].split(b"\0")[0]
            entries.append((name, offset))
            at += length
        return entries

    first, second = some(), some()
    os.lseek(fd, first[-1][1], os.SEEK_SET)
    equal([n for n, _ in some()][:5], [n for n, _ in second][:5], "after seeking back to a position")
    for name, _ in first[:-1]:
        if name not in (b".", b".."):
            os.unlink(b"d/" + name)
    os.lseek(fd, first[-1][1], os.SEEK_SET)
    rest = []
    while entries := some():
        rest += [n for n, _ in entries]
    want = {b"f%d" % i for i in range(3000)} - {n for n, _ in first}
    equal((len(rest), set(rest) == want), (len(want), True), "the rest, after what was read had been unlinked")
    os.lseek(fd, 0, os.SEEK_SET)
    again = []
    while entries := some():
        again += [n for n, _ in entries]
    equal(set(again), {b".", b".."} | want | {first[-1][0]}, "from the start again")


def deep():
    """Directories nest as deep as paths can say, and deeper by going down."""
    for level in range(1, 301):
        os.mkdir("d" * 20)
        os.chdir("d" * 20)
    put("key", b"at the bottom")
    for _ in range(300):
        os.chdir("..")
    equal(os.listdir("."), ["d" * 20], "back at the top")
    os.rename("d" * 20, "moved")
    for level in range(300):
        os.chdir("moved" if level == 0 else "d" * 20)
    equal(cat("key"), b"at the bottom", "after the top was renamed")


def directories():
    """Links, moves and removals of directories."""
    os.makedirs("a/b/c")
    os.makedirs("x/y")
    equal(os.stat("a").st_nlink, 3, "links of a directory with one directory in it")
    put("a/f", b"")
    equal(os.stat("a").st_nlink, 3, "files do not count")
    refused(errno.EINVAL, os.rename, "a", "a/b/c/d")
    refused(errno.ENOTEMPTY, os.rename, "x", "a")
    refused(errno.ENOTEMPTY, os.rmdir, "a")
    refused(errno.EISDIR, os.rename, "a/f", "x")
    refused(errno.ENOTDIR, os.rename, "x", "a/f")
    refused(errno.ENOTDIR, os.rmdir, "a/f")
    refused(errno.EISDIR, os.unlink, "a")
    os.mkdir("empty")
    parent = os.open("a/b", os.O_RDONLY)
    os.rename("a/b", "x/y/b")
    equal((os.stat("a").st_nlink, os.stat("x/y").st_nlink), (2, 3), "links after a move")
    equal(os.stat("..", dir_fd=parent).st_ino, os.stat("x/y").st_ino, ".. after a move")
    os.rename("x", "empty")
    equal(os.listdir("empty/y/b"), ["c"], "after a rename onto an empty directory")
    os.mkdir("gone")
    fd = os.open("gone", os.O_RDONLY)
    os.rmdir("gone")
    equal(os.fstat(fd).st_nlink, 0, "links of a removed directory")
    equal(os.listdir(fd), [], "a removed directory lists nothing")
    refused(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    refused(errno.ENOENT, os.mkdir, "x", dir_fd=fd)


def listing():
    """Types and numbers in a listing are those of stat."""
    put("file", b"")
    os.mkdir("dir")
    os.symlink("nowhere", "link")
    os.mkfifo("fifo")
    os.link("file", "hard")
    with os.scandir(".") as entries:
        found = {e.name: e for e in entries}
    equal(sorted(found), ["dir", "fifo", "file", "hard", "link"], "names")
    for name, e in found.items():
        equal(e.inode(), os.lstat(name).st_ino, "number of " + name)
    equal([n for n in found if found[n].is_dir(follow_symlinks=False)], ["dir"], "directories")
    equal([n for n in found if found[n].is_symlink()], ["link"], "links")


def symlinks():
    """Links are followed, dangle, loop and are replaced like on any file system."""
    os.mkdir("d")
    put("d/target", b"value")
    os.symlink("d/target", "link")
    os.symlink("../link", "d/back")
    equal(cat("d/back"), b"value", "through two links")
    equal(os.lstat("link").st_size, len("d/target"), "size of a link")
    os.symlink("loop", "loop")
    refused(errno.ELOOP, os.stat, "loop")
    os.symlink("nothing", "dangling")
    refused(errno.ENOENT, cat, "dangling")
    put("dangling", b"made")
    equal(cat("nothing"), b"made", "created through a dangling link")
    refused(errno.EEXIST, os.open, "dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    refused(errno.ELOOP, os.open, "link", os.O_RDONLY | os.O_NOFOLLOW)
    os.symlink("nothing", "tmp")
    os.rename("tmp", "link")
    equal((os.readlink("link"), cat("link")), ("nothing", b"made"), "a link that was replaced")


def exclusive():
    """Of many processes that create one name with O_EXCL, exactly one succeeds, every time."""
    rounds, racers = 200, 4
    results = mmap.mmap(-1, rounds * racers)

    def work(i):
        for n in range(rounds):
            try:
                os.close(os.open("key%d" % n, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                results[n * racers + i] = 1
            except FileExistsError:
                pass

    children(racers, work)
    for n in range(rounds):
        equal(sum(results[n * racers:(n + 1) * racers]), 1, "winners of round %d" % n)


def atomic(seconds):
    """A reader of a key that is replaced by rename sees a whole old or a whole new value, always one."""
    end = time.monotonic() + float(seconds)

    def value(n):
        return b"%08d" % n * (1 + n % 3000)

    put("key", value(0))

    def work(i):
        n = 0
        while time.monotonic() < end:
            if i == 0:
                n += 1
                put("tmp", value(n))
                os.rename("tmp", "key")
            else:
                data = cat("key")
                number = int(data[:8])
                equal(data == value(number), True, "a whole value")
                that(number >= n, "values go forward: %d after %d" % (number, n))
                n = number

    children(3, work)


# ---- regressions ----


def two_clients(writes):
    """Two clients that write on and on both come to their end."""

    def work(i):
        for n in range(int(writes)):
            put("client%d-%d" % (i, n % 100), b"value %d" % n)

    children(2, work)
    for i in range(2):
        equal(cat("client%d-99" % i), b"value %d" % (int(writes) - 1), "the last value of client %d" % i)


def visible(rounds):
    """Another process reads a value as soon as write(2) has returned, whatever it read before."""
    to_reader, to_writer = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(to_reader[1])
        code = 1
        try:
            kept = None
            while message := os.read(to_reader[0], 100):
                name, want = message.rstrip().split(b" ", 1)
                equal(cat(name), want, "another process, by open")
                equal(os.stat(name).st_size, len(want), "another process, by stat")
                if name == b"key0":
                    kept = os.open(name, os.O_RDONLY) if kept is None else kept
                    equal(os.pread(kept, 100, 0), want, "another process, by an old descriptor")
                os.write(to_writer[1], b".")
            code = 0
        except BaseException as e:
            print(e, flush=True)
        finally:
            os._exit(code)
    os.close(to_reader[0])
    os.close(to_writer[1])
    fd = os.open("key0", os.O_RDWR | os.O_CREAT)
    for n in range(int(rounds)):
        value = b"%d " % n * (1 + n % 7) + b"."
        if n % 2:
            os.ftruncate(fd, len(value))
            os.pwrite(fd, value, 0)
            name = b"key0"
        else:
            name = b"key%d" % (n % 50 + 1)
            put(name, value)
        os.write(to_reader[1], name + b" " + value)
        that(os.read(to_writer[0], 1) == b".", "the reader is content in round %d" % n)
    os.close(to_reader[1])
    equal(os.waitpid(pid, 0)[1], 0, "the reader's end")


def main():
    claim, directory, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    os.chdir(directory)
    globals()[claim](*arguments)


if __name__ == "__main__":
    main()
