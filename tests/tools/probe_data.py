"""probe_data.py: claims about values: reading, writing, holes, room, copies, mappings."""

import errno
import hashlib
import mmap
import os
import random
import stat
import struct
import threading

from probing import *


def sizes():
    """Values of every interesting size come back as they were, and no read is short."""
    edges = [
        0, 1, 2, 198, 199, 200, 201, 255, 256, 4095, 4096, 4097, 65535, 65536, 65537, 131072,
        MIB - 1, MIB, MIB + 1, 3 * MIB + 7,
    ]
    for size in edges:
        data = pattern(size, size)
        put("value", data)
        equal(os.stat("value").st_size, size, "st_size")
        fd = os.open("value", os.O_RDONLY)
        equal(os.read(fd, size + 1) == data, True, "one read of %d bytes" % size)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        equal(
            os.pread(fd, size + 1, 0) == data,
            True,
            "one read of %d bytes, pages dropped" % size,
        )
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
            model[offset : offset + len(data)] = data
        else:
            size = rng.randrange(200000)
            os.ftruncate(fd, size)
            model.extend(bytes(max(0, size - len(model))))
            del model[size:]
        at, count = rng.randrange(len(model) + 1), rng.randrange(100000)
        equal(
            os.pread(fd, count, at) == model[at : at + count], True, "bytes %d+%d" % (at, count)
        )
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
    equal(
        os.lseek(fd, tib // 2 + MIB, os.SEEK_DATA) > tib - MIB,
        True,
        "SEEK_DATA crosses the hole",
    )
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
    that(
        all(any(s <= p and p + 4096 <= e for s, e in seen) for p in places),
        "all data is found: %r" % seen,
    )
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
    """A write by a user clears set-user-id, and set-group-id of what the group can execute."""
    cases = [
        (0o6777, 0o777),
        (0o4777, 0o777),
        (0o2777, 0o777),
        (0o2767, 0o2767),
        (0o666, 0o666),
    ]
    changes = {
        "write": lambda fd, name: os.write(fd, b"x"),
        "ftruncate": lambda fd, name: os.ftruncate(fd, 1),
        "truncate": lambda fd, name: os.truncate(name, 1),
        "truncate-same": lambda fd, name: os.truncate(name, 3),
        "open": lambda fd, name: os.open(name, os.O_WRONLY | os.O_TRUNC),
        "append": lambda fd, name: os.write(os.open(name, os.O_WRONLY | os.O_APPEND), b"x"),
        "fallocate": lambda fd, name: fallocate(fd, 0, 0, 5000),
        "copy": lambda fd, name: os.copy_file_range(os.open("source", os.O_RDONLY), fd, 100, 0, 0),
    }
    put("source", bytes(1000))
    for what, change in changes.items():
        for before, after in cases:
            name = "%s-%o" % (what, before)
            put(name, b"abc")
            os.chmod(name, before)
            as_user(NOBODY, lambda: change(os.open(name, os.O_RDWR), name))
            equal(
                oct(os.stat(name).st_mode & 0o7777),
                oct(after),
                "%s as nobody, mode was %o" % (what, before),
            )
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
    """At size=, new data gets ENOSPC; unlink, truncate, rename work; then there is room again."""
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
    that(
        v.f_bavail * v.f_frsize < MIB,
        "statvfs says full: %d bytes free" % (v.f_bavail * v.f_frsize),
    )
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
    equal(
        os.statvfs(".").f_files - os.statvfs(".").f_ffree - (after.f_files - after.f_ffree),
        100,
        "files",
    )
    os.unlink("file")
    until(
        lambda: os.statvfs(".").f_bfree >= before.f_bfree - MIB // before.f_frsize, "free again"
    )


def copy_range(size):
    """copy_file_range of a whole file; the caller weighs the memory."""
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
    equal(
        os.pread(target, 300000, 0) == bytes(777) + data[12345:212346],
        True,
        "an unaligned copy",
    )
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
        equal(
            os.pread(fd, size, 0) == data,
            True,
            "read sees the shared mapping, not the private one",
        )
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
