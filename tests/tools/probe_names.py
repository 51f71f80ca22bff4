"""probe_names.py: claims about names, listings and directories."""

import ctypes
import errno
import mmap
import os
import random
import stat
import struct
import time

from probing import *


def odd_names():
    """Names are bytes: whatever has no slash and no NUL, up to 255 of them."""
    names = [
        b"new\nline", b"\xff\xfe\x80", b"-rf", b" ", b"  x", "ключ".encode(), b"\\", b"'\"",
        b"*", b"?", b"n" * 255, b"\xc3" * 255, b"\x01\x02\x1b[0m", b"...", b".hidden",
        b"e\xcc\x81", b"\xc3\xa9", b"~", b"a:b", b"CON", b"EX",
    ]
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
    equal(
        (len(names), len(set(names))),
        (count - gone, count - gone),
        "names after unlinking some",
    )


def churn(seconds):
    """
    Names that are there throughout a listing are seen exactly once, whatever others come and go.
    (One that is removed and made again meanwhile may be seen at its old place and at its new one.)
    """
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
                if n < 2000 and n % 3 == i:
                    os.path.exists("d/early%d" % n) and os.unlink("d/early%d" % n)
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
                seen = [n for n in names if n in fixed]
                equal(len(seen), len(set(seen)), "names listed, and different ones")
                equal(sorted(fixed - set(seen))[:5], [], "names that are missing")

    children(4, work)


def cookies():
    """A listing goes on from a position that an earlier read gave, also when that is gone."""
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
            name = buffer.raw[at + 19 : at + length].split(b"\0")[0]
            entries.append((name, offset))
            at += length
        return entries

    first, second = some(), some()
    os.lseek(fd, first[-1][1], os.SEEK_SET)
    equal(
        [n for n, _ in some()][:5],
        [n for n, _ in second][:5],
        "after seeking back to a position",
    )
    for name, _ in first[:-1]:
        if name not in (b".", b".."):
            os.unlink(b"d/" + name)
    os.lseek(fd, first[-1][1], os.SEEK_SET)
    rest = []
    while entries := some():
        rest += [n for n, _ in entries]
    want = {b"f%d" % i for i in range(3000)} - {n for n, _ in first}
    equal(
        (len(rest), set(rest) == want),
        (len(want), True),
        "the rest, after what was read had been unlinked",
    )
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
        equal(sum(results[n * racers : (n + 1) * racers]), 1, "winners of round %d" % n)


def atomic(seconds):
    """A reader of a key that is replaced by rename sees a whole value, old or new, always one."""
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
