#!/usr/bin/env python3
"""
stress.py --dir MOUNT [--seconds N] [--processes N] [--seed N] [--keys N]: mixed work by several
processes in one tree, then proof that what is left is consistent.

Two kinds of names. Those that begin with "k" are overwritten, cut, linked and renamed by anybody at
any time. Those that begin with "r" are only ever replaced as a whole, by rename or exchange, and
their values carry a checksum: who reads one must see a whole value. Many keys get TTLs of a
fraction of a second, so that expiry meets everything else; an errno that a race or an expiry
explains is part of the work, any other one fails.

Afterwards, when every TTL has run out: each name that is listed resolves, once; the type in the
listing is that of stat; an object has as many names as its link count says; a directory counts its
directories; a value reads to its exact size. Then everything is removed, and the store must be as
empty as before: objects at once, memory too, but for what a small store keeps (SLACK).

Ends with 0, or 1 after one line for each thing that was wrong.
"""

import argparse
import collections
import ctypes
import errno
import hashlib
import json
import mmap
import os
import random
import stat
import sys
import time
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
AT_FDCWD = -100
DIRECTORIES = 6
FIXED = ["fixed%d" % i for i in range(8)]  # files that nobody touches, in every directory
TTL_MS_MAX = 1500
SLACK = 4 << 20
EXPECTED = {
    errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.ESTALE,
    errno.ENODATA, errno.ENXIO,
}
SIZES = [0, 1, 50, 199, 200, 201, 1000, 4096, 5000, 65535, 65537, 150000]


def called(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def sealed(data):
    """A value that shows whether it is whole."""
    return hashlib.md5(data).digest() + data


def check_sealed(value, name):
    if hashlib.md5(value[16:]).digest() != value[:16]:
        raise AssertionError("a torn value of %d bytes in %s" % (len(value), name))


class Worker:
    """One process of the crowd: its descriptors, mappings and random choices."""

    def __init__(self, number, options):
        self.number, self.keys = number, options.keys
        self.rng = random.Random(options.seed * 1000 + number)
        self.fds, self.maps, self.serial = [], [], 0
        self.work = [getattr(self, name) for name in dir(self) if name.startswith("do_")]
        if not options.tmpfile:
            self.work.remove(self.do_tmpfile)
        self.counts = collections.Counter()

    def directory(self):
        top = "d%d" % self.rng.randrange(DIRECTORIES)
        return top + "/sub%d" % self.rng.randrange(3) if self.rng.random() < 0.3 else top

    def key(self):
        return "%s/k%d" % (self.directory(), self.rng.randrange(self.keys))

    def whole(self):
        return "%s/r%d" % (self.directory(), self.rng.randrange(self.keys))

    def data(self):
        return self.rng.randbytes(self.rng.choice(SIZES))

    def expire(self, target):
        os.setxattr(target, "user.ttl", b"%dms" % self.rng.randrange(1, TTL_MS_MAX))

    def do_put(self):
        fd = os.open(self.key(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(fd, self.data())
            if self.rng.random() < 0.4:
                self.expire(fd)
        finally:
            os.close(fd)

    def do_pwrite(self):
        fd = os.open(self.key(), os.O_RDWR)
        try:
            os.pwrite(fd, self.data(), self.rng.randrange(300000))
        finally:
            os.close(fd)

    def do_append(self):
        fd = os.open(self.key(), os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(fd).st_size < 1 << 20:
                os.write(fd, self.data())
        finally:
            os.close(fd)

    def do_read(self):
        fd = os.open(self.key(), os.O_RDONLY)
        try:
            os.read(fd, 1 << 20)
        finally:
            os.close(fd)

    def do_truncate(self):
        os.truncate(self.key(), self.rng.choice([0, 10, 5000, 70000, 1 << 33]))

    def do_fallocate(self):
        fd = os.open(self.key(), os.O_RDWR)
        try:
            mode = self.rng.choice([0, 1, 3])
            called(
                LIBC.fallocate(
                    fd, mode, self.rng.randrange(200000), self.rng.randrange(1, 100000)
                )
            )
        finally:
            os.close(fd)

    def do_copy(self):
        source = os.open(self.key(), os.O_RDONLY)
        try:
            target = os.open(self.key(), os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if not os.path.sameopenfile(source, target):
                    os.copy_file_range(source, target, 200000, 0, self.rng.randrange(1000))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def do_replace(self):
        self.serial += 1
        tmp = "%s/tmp-%d-%d" % (self.directory(), self.number, self.serial)
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            value = sealed(self.data())
            if os.write(fd, value) != len(value):
                raise OSError(errno.ENOSPC, "a short write")
            if self.rng.random() < 0.3:
                self.expire(fd)
            os.rename(tmp, self.whole())
        except OSError:
            os.unlink(tmp)
            raise
        finally:
            os.close(fd)

    def do_check(self):
        name = self.whole()
        fd = os.open(name, os.O_RDONLY)
        try:
            check_sealed(os.read(fd, 1 << 20), name)
        finally:
            os.close(fd)

    def do_exchange(self):
        called(
            LIBC.renameat2(AT_FDCWD, self.whole().encode(), AT_FDCWD, self.whole().encode(), 2)
        )

    def do_map(self):
        """Kept across expiry and unlink: a mapping must stay readable."""
        name = self.whole()
        fd = os.open(name, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size  # ESTALE once the key has expired: no size, no mapping
            if size:
                self.maps.append((name, mmap.mmap(fd, size, prot=mmap.PROT_READ)))
        finally:
            os.close(fd)
        if len(self.maps) > 5:
            old, mapping = self.maps.pop(self.rng.randrange(len(self.maps)))
            check_sealed(mapping[:], old)
            mapping.close()

    def do_keep(self):
        """Descriptors kept open over what happens to their names."""
        name = self.whole()
        self.fds.append((name, os.open(name, os.O_RDONLY)))
        if len(self.fds) > 5:
            self.check_kept(*self.fds.pop(self.rng.randrange(len(self.fds))))

    @staticmethod
    def check_kept(name, fd):
        try:
            check_sealed(os.pread(fd, 1 << 20, 0), name)
        except OSError as e:
            raise AssertionError("an open descriptor of %s: %s" % (name, e.strerror)) from e
        finally:
            os.close(fd)

    def do_link(self):
        os.link(self.key(), self.key(), follow_symlinks=False)

    def do_rename(self):
        os.rename(self.key(), self.key())

    def do_unlink(self):
        os.unlink(self.key() if self.rng.random() < 0.7 else self.whole())

    def do_symlink(self):
        name = self.directory() + "/l%d" % self.rng.randrange(5)
        if self.rng.random() < 0.5:
            os.symlink("../" + self.key(), name)
        else:
            os.unlink(name)

    def do_touch(self):
        os.utime(self.key())

    def do_attributes(self):
        name = self.key()
        os.chmod(name, self.rng.choice([0o600, 0o644, 0o4755]))
        os.setxattr(name, "user.note", self.data()[:1000])
        os.getxattr(name, "user.note")
        os.removexattr(name, "user.note")

    def do_ttl(self):
        name = self.key()
        self.expire(name)
        if self.rng.random() < 0.3:
            os.removexattr(name, "user.ttl")

    def do_directories(self):
        name = self.directory() + "/dir%d" % self.rng.randrange(4)
        what = self.rng.random()
        if what < 0.5:
            os.mkdir(name)
        elif what < 0.75:
            os.rmdir(name)
        else:
            os.rename(name, self.directory() + "/dir%d" % self.rng.randrange(4))

    def do_tmpfile(self):
        fd = os.open(self.directory(), os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            os.write(fd, self.data())
            if self.rng.random() < 0.5:
                called(LIBC.linkat(fd, b"", AT_FDCWD, self.key().encode(), 0x1000))
        finally:
            os.close(fd)

    def do_list(self):
        counts = collections.Counter(os.listdir(self.directory()))
        for name in FIXED:
            if counts[name] != 1:
                raise AssertionError("%s is listed %d times" % (name, counts[name]))

    def do_stat(self):
        with os.scandir(self.directory()) as entries:
            for e in entries:
                try:
                    e.stat(follow_symlinks=False)
                except FileNotFoundError:
                    pass

    def run(self, end):
        while time.monotonic() < end:
            for _ in range(20):
                work = self.rng.choice(self.work)
                try:
                    work()
                    self.counts["done"] += 1
                except OSError as e:
                    if e.errno not in EXPECTED:
                        raise
                    self.counts["refused"] += 1
        for name, fd in self.fds:
            self.check_kept(name, fd)
        return self.counts


# ---- the proof ----


def figures(mount):
    try:
        with open(os.path.join(mount, ".ctx/stats.json")) as f:
            return json.load(f)
    except FileNotFoundError:
        return None  # not ctxfs, but a file system that these tests are tried on


def within(seconds, condition):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def has_tmpfile(directory):
    """Old versions of libfuse do not pass it on."""
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600))
    except OSError as e:
        if e.errno != errno.EOPNOTSUPP:
            raise
        print("without O_TMPFILE")
        return False
    return True


def unresolved(top):
    return [
        os.path.join(base, n)
        for base, dirs, files in os.walk(top)
        for n in dirs + files
        if not os.path.lexists(os.path.join(base, n))
    ]


def examine(top):
    """Lines about what is inconsistent in a tree in which nobody works."""
    wrong, names, seen = [], collections.Counter(), {}
    pending = [top]
    while pending:
        base = pending.pop()
        subdirectories = 0
        with os.scandir(base) as entries:
            entries = list(entries)
        if len({e.name for e in entries}) != len(entries):
            wrong.append("%s: a name is listed twice" % base)
        for e in entries:
            try:
                st = os.lstat(e.path)
            except OSError as error:
                wrong.append("%s: %s" % (e.path, error.strerror))
                continue
            names[st.st_ino] += 1
            seen[st.st_ino] = (e.path, st)
            if e.inode() != st.st_ino or e.is_dir(follow_symlinks=False) != stat.S_ISDIR(
                st.st_mode
            ):
                wrong.append("%s: the listing and stat do not agree" % e.path)
            if stat.S_ISDIR(st.st_mode):
                subdirectories += 1
                pending.append(e.path)
        if os.stat(base).st_nlink != 2 + subdirectories:
            wrong.append(
                "%s: %d links, %d directories in it"
                % (base, os.stat(base).st_nlink, subdirectories)
            )
    for number, (path, st) in seen.items():
        if not stat.S_ISDIR(st.st_mode) and st.st_nlink != names[number]:
            wrong.append("%s: %d links, %d names" % (path, st.st_nlink, names[number]))
        if stat.S_ISREG(st.st_mode) and st.st_size < 1 << 24:
            with open(path, "rb", buffering=0) as f:
                data = f.read()
            if len(data) != st.st_size:
                wrong.append("%s: size %d, reads %d bytes" % (path, st.st_size, len(data)))
            elif os.path.basename(path).startswith("r"):
                try:
                    check_sealed(data, path)
                except AssertionError as e:
                    wrong.append(str(e))
    return wrong


def remove(top):
    for base, dirs, files in os.walk(top, topdown=False):
        for name in files + dirs:
            path = os.path.join(base, name)
            os.rmdir(path) if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink(path)
    os.rmdir(top)


def crowd(options, top):
    """Runs the workers; the exit codes that are not 0."""
    end, pids = time.monotonic() + options.seconds, []
    sys.stdout.flush()
    for number in range(options.processes):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.chdir(top)
                counts = Worker(number, options).run(end)
                print(
                    "process %d: %d operations, %d refused"
                    % (number, counts["done"], counts["refused"])
                )
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            os._exit(code)
        pids.append(pid)
    return [c for c in (os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids) if c]


def main():
    parser = argparse.ArgumentParser(description="mixed work by several processes")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--keys", type=int, default=60, help="names of a kind in a directory")
    parser.add_argument("--full", action="store_true", help="the store may be full at any time")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    if options.full:
        EXPECTED.add(errno.ENOSPC)
    print("seed %d" % options.seed)
    options.tmpfile = has_tmpfile(options.dir)
    before = figures(options.dir)
    top = os.path.join(options.dir, "stress-%d" % os.getpid())
    for i in range(DIRECTORIES):
        for sub in range(3):
            os.makedirs("%s/d%d/sub%d" % (top, i, sub))
    for base, _, _ in list(os.walk(top)):
        for name in FIXED:
            os.mknod(os.path.join(base, name))
    wrong = ["a process ended with %d" % code for code in crowd(options, top)]
    if not within(10 + TTL_MS_MAX / 1000, lambda: not unresolved(top)):
        wrong += [
            "%s: listed, but absent, long after every TTL" % n for n in unresolved(top)[:10]
        ]
    # The last keys with a TTL are gone by now, or go while we look: then look again.
    if before and not within(10, lambda: figures(options.dir)["with_ttl"] == 0):
        wrong.append("%d keys with a TTL are left" % figures(options.dir)["with_ttl"])
    wrong += examine(top)
    remove(top)
    if before:
        if not within(10, lambda: figures(options.dir)["objects"] <= before["objects"]):
            wrong.append(
                "objects: %d before, %d after everything was removed"
                % (before["objects"], figures(options.dir)["objects"])
            )
        after = figures(options.dir)
        if after["bytes_used"] > before["bytes_used"] + SLACK:
            wrong.append(
                "memory: %d bytes before, %d after"
                % (before["bytes_used"], after["bytes_used"])
            )
    print("\n".join(wrong[:30]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
