#!/usr/bin/env python3
"""
differential.py: the same random file operations on two directories; whatever differs is a bug.

    differential.py --dir-a MOUNT --dir-b TMPFS [--seed N] [--seeds N] [--ops N] [--without op,op]

Directory A is the file system under test, B the reference (a tmpfs mounted nosuid,nodev). Every
operation is performed on A, then on B, and the two outcomes are compared: the result, or the errno.
Every --check operations the whole trees are compared, and what the open descriptors show: names,
types, contents, sizes, modes, owners, link counts, device numbers, times, extended attributes,
link targets, and which names are one object. Not compared: atime, st_blocks, the size of a
directory, the order of a listing. Nothing is shrunk: `--seed S --ops N` repeats a failure exactly.

Structure: differential_ops.py has the operations, differential_draw.py what they
draw from. Here: Side, one of the two trees; snapshot, the
state of a tree in comparable form; Run, one seed; watch, the parent that notices a hang.

Invariants:
  1. Operation number i depends on the seed and on the state of B alone, never on A, so any prefix
     of a run is a run, whatever A does.
  2. Each side's operations run in a chroot of its own tree, so neither "..", nor a symbolic link,
     nor the length of the path above can lead out of it or make a difference.
  3. Absolute times differ between the sides. A time inside the run is compared as "now", every
     other one exactly; the explicit times that operations set all lie outside the run. For a share
     --times of the operations, the changes of mtime and ctime of all objects and parents that they
     name are compared, after ticks of the kernel's coarse clock, so that before and after differ.
  4. Granularity of holes may differ: data found by SEEK_DATA is compared with zero blocks left out.
"""

import argparse
import errno
import hashlib
import mmap
import os
import signal
import stat
import struct
import sys
import time
import traceback

import differential_ops as ops
from differential_draw import BLOCK, SLOTS, Data, Path, Slot
from differential_ops import Plan, brief, data_ranges, digest, read_range, readable

COARSE = 6  # CLOCK_MONOTONIC_COARSE
HANG_SECONDS = 40
KNOWN_EVERY = 20  # operations between looks at what exists


# ---- Side ----


class Side:
    """One tree: everything that an operation needs to run on it."""

    def __init__(self, name, directory):
        self.name = name
        self.root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self.fds = [-1] * SLOTS

    def enter(self):
        os.fchdir(self.root)
        os.chroot(".")

    def fd(self, slot):
        if self.fds[slot] < 0:
            raise OSError(errno.EBADF, "empty slot")
        return self.fds[slot]

    def put(self, slot, fd):
        self.drop(slot)
        self.fds[slot] = fd

    def drop(self, slot):
        if self.fds[slot] >= 0:
            os.close(self.fds[slot])
        self.fds[slot] = -1

    def perform(self, op, user, args):
        """The outcome of an operation: ("ok", value) or (errno name,)."""
        self.enter()
        uid, gid = user
        try:
            if uid:
                os.setegid(gid)
                os.seteuid(uid)
            try:
                return ("ok", op(self, *args))
            finally:
                if uid:
                    os.seteuid(0)
                    os.setegid(0)
        except OSError as e:
            return (errno.errorcode.get(e.errno, str(e.errno)),)


# ---- Snapshot ----


def contents(fd):
    """A digest of every block of a file that is not zero, with its place (invariant 4)."""
    size = os.fstat(fd).st_size
    blocks = {}
    for start, end in data_ranges(fd, 0, size):
        start, end = start // BLOCK * BLOCK, min(-(-end // BLOCK) * BLOCK, size)
        data = read_range(fd, start, end)
        if data.strip(b"\0"):
            for i in range(0, len(data), BLOCK):
                block = data[i : i + BLOCK].rstrip(b"\0")
                if block:
                    blocks[start + i] = block
    total = hashlib.md5()
    for place in sorted(blocks):
        total.update(b"%d %d " % (place, len(blocks[place])) + blocks[place])
    return len(blocks), total.hexdigest()


class Clock:
    """Tells times of the run from explicit ones, and waits for the kernel's tick."""

    def __init__(self):
        self.start = time.time() - 1

    def normal(self, ns):
        return "now" if self.start * 1e9 <= ns <= (time.time() + 1) * 1e9 else ns

    @staticmethod
    def tick():
        """Two ticks of the coarse clock: after one, its time may be before that of a stat."""
        for _ in range(2):
            before = time.clock_gettime_ns(COARSE)
            while time.clock_gettime_ns(COARSE) == before:
                pass


def describe(st, clock, identity):
    identity.setdefault(st.st_ino, len(identity))
    fifo = stat.S_ISFIFO(st.st_mode)  # data in it is the kernel's alone, and moves no times
    return {
        "attributes": brief(st),
        "mtime": None if fifo else clock.normal(st.st_mtime_ns),
        "ctime": None if fifo else clock.normal(st.st_ctime_ns),
        "object": identity[st.st_ino],
    }


def xattrs_of(target, **how):
    return {
        n: digest(os.getxattr(target, n, **how)) for n in sorted(os.listxattr(target, **how))
    }


def snapshot(side, clock):
    """Everything of a tree and of the open descriptors that must be equal, by name."""
    side.enter()
    result, identity, pending = {}, {}, [b"."]
    while pending:
        path = pending.pop()
        st = os.lstat(path)
        result[path] = entry = describe(st, clock, identity)
        entry["xattrs"] = xattrs_of(path, follow_symlinks=False)
        if stat.S_ISDIR(st.st_mode):
            names = sorted(os.listdir(path))
            if len(set(names)) != len(names):
                entry["twice"] = names
            pending += [os.path.join(path, n) for n in names]
        elif stat.S_ISLNK(st.st_mode):
            entry["target"] = os.readlink(path)
        elif stat.S_ISREG(st.st_mode):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                entry["contents"] = contents(fd)
            finally:
                os.close(fd)
    for slot, fd in enumerate(side.fds):
        if fd >= 0:
            result["slot %d" % slot] = entry = describe(os.fstat(fd), clock, identity)
            if stat.S_ISREG(os.fstat(fd).st_mode) and readable(fd):
                position = os.lseek(fd, 0, os.SEEK_CUR)
                entry["contents"] = contents(fd)
                os.lseek(fd, position, os.SEEK_SET)
    return result


def tree_difference(a, b):
    """Lines that say how two snapshots differ."""
    lines = []
    for name in sorted(set(a) | set(b), key=repr):
        if name not in a or name not in b:
            lines.append("%r is only in %s" % (name, "B" if name not in a else "A"))
            continue
        for field in sorted(set(a[name]) | set(b[name])):
            left, right = a[name].get(field), b[name].get(field)
            if left != right:
                lines.append("%r %s: A %r, B %r" % (name, field, left, right))
    return lines


# ---- invariant 3: which times an operation changed ----


def watched(side, args):
    """The stats of all that the arguments name: objects, their parents, descriptors."""
    side.enter()
    result = {}
    for arg in args:
        try:
            if isinstance(arg, Path):
                parent = os.path.dirname(arg.rstrip(b"/")) or b"."
                result["parent of %r" % arg] = os.stat(parent)
                result["%r" % arg] = os.lstat(arg)
            elif isinstance(arg, Slot) and side.fds[arg] >= 0:
                result["slot %d" % arg] = os.fstat(side.fds[arg])
        except OSError:
            pass
    return result


def time_changes(before, after):
    changes = {}
    for name in before:
        if stat.S_ISFIFO(before[name].st_mode):
            continue  # data in a fifo is the kernel's alone
        if name in after and before[name].st_ino == after[name].st_ino:
            changes[name] = (
                ("mtime", before[name].st_mtime_ns != after[name].st_mtime_ns),
                ("ctime", before[name].st_ctime_ns != after[name].st_ctime_ns),
            )
    return changes


# ---- the run ----


class Mismatch(Exception):
    pass


def show(kind, user, mask, args):
    shown = [
        "Data(%d bytes)" % len(a)
        if isinstance(a, Data)
        else repr(a if len(a) < 80 else a[:20] + b"...(%d)" % len(a))
        if isinstance(a, bytes)
        else repr(a)
        for a in args
    ]
    return "%s(%s) as uid %d, umask %o" % (kind, ", ".join(shown), user[0], mask)


class Run:
    def __init__(self, options, seed, sides):
        self.options, self.seed, self.sides = options, seed, sides
        self.plan = Plan(seed, options.without, options.root)
        self.clock = Clock()
        self.outcomes = {}

    def operation(self, index, progress):
        if index % KNOWN_EVERY == 0:
            self.sides[1].enter()
            self.plan.known.refresh(self.sides[1])
        kind, user, mask, args, chance = self.plan.next()
        op = getattr(ops, "op_" + kind)
        timed = chance < self.options.times
        text = "op #%d: %s%s" % (index, show(kind, user, mask, args), " timed" if timed else "")
        progress[8:1032] = text.encode()[:1024].ljust(1024, b"\0")
        if self.options.verbose:
            print(text, flush=True)
        os.umask(mask)
        before = [watched(side, args) for side in self.sides] if timed else None
        if timed:
            self.clock.tick()
        outcomes = [side.perform(op, user, args) for side in self.sides]
        if outcomes[0] != outcomes[1]:
            raise Mismatch("%s\n  A: %r\n  B: %r" % (text, *outcomes))
        if timed and kind != "mmap_write":
            changes = [time_changes(b, watched(s, args)) for b, s in zip(before, self.sides)]
            if changes[0] != changes[1]:
                raise Mismatch(
                    "%s -> %r\n  changes of times, A: %r\n  changes of times, B: %r"
                    % (text, outcomes[0], *changes)
                )
        if outcomes[1][0] == "ok":
            self.plan.known.note(kind, args)
        good, bad = self.outcomes.get(kind, (0, 0))
        self.outcomes[kind] = (good + 1, bad) if outcomes[0][0] == "ok" else (good, bad + 1)

    def check(self, index):
        lines = tree_difference(*(snapshot(side, self.clock) for side in self.sides))
        if lines:
            raise Mismatch(
                "the trees differ after op #%d:\n  %s" % (index, "\n  ".join(lines[:20]))
            )

    def all(self, progress):
        for side in self.sides:
            side.perform(
                lambda s: (os.mkdir("t"), os.chmod("t", 0o1777), os.chmod(".", 0o777)),
                (0, 0),
                (),
            )
        for index in range(self.options.ops):
            progress[:8] = struct.pack("=q", index)
            self.operation(index, progress)
            if (index + 1) % self.options.check == 0:
                self.check(index)
        self.check(self.options.ops - 1)
        for side in self.sides:
            for slot in range(SLOTS):
                side.drop(slot)


def fresh(directory, seed):
    path = os.path.join(directory, "seed-%d-%d" % (seed, os.getpid()))
    os.mkdir(path)
    return path


def worker(options, seed, progress):
    """Runs one seed: 0 equal, 1 different, 2 the test itself failed."""
    sides = [Side("A", fresh(options.dir_a, seed)), Side("B", fresh(options.dir_b, seed))]
    os.setgroups([])
    run = Run(options, seed, sides)
    started = time.monotonic()
    try:
        run.all(progress)
    except (Mismatch, AssertionError) as e:
        print(
            "seed %d: MISMATCH\n%s\nrepeat: --seed %d --ops %d%s"
            % (
                seed,
                e,
                seed,
                struct.unpack("=q", progress[:8])[0] + 1,
                (" --without " + ",".join(options.without) if options.without else "")
                + (" --root" if options.root else ""),
            )
        )
        return 1
    seconds = time.monotonic() - started
    good = sum(g for g, _ in run.outcomes.values())
    print(
        "seed %d: %d ops equal, %d of them successes, %.0f ops/s"
        % (seed, options.ops, good, options.ops / seconds)
    )
    if options.verbose:
        for kind in sorted(run.outcomes):
            print("  %-12s %5d ok %5d refused" % (kind, *run.outcomes[kind]))
    return 0


def watch(options, seed):
    """Runs a worker in a child; an operation that takes HANG_SECONDS is a failure too."""
    progress = mmap.mmap(-1, 4096)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = worker(options, seed, progress)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    last, since = -1, time.monotonic()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        now = struct.unpack("=q", progress[:8])[0]
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > HANG_SECONDS:
            os.kill(child, signal.SIGKILL)
            print("seed %d: hangs in %s" % (seed, progress[8:1032].rstrip(b"\0").decode()))
            return 3
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description="the same file operations on two file systems")
    parser.add_argument(
        "--dir-a", required=True, help="a directory of the file system under test"
    )
    parser.add_argument("--dir-b", required=True, help="a directory of the reference, a tmpfs")
    parser.add_argument("--seed", type=int, help="the first seed (default: by the clock)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counting up")
    parser.add_argument("--ops", type=int, default=5000, help="operations a seed")
    parser.add_argument(
        "--check", type=int, default=400, help="compare the trees every so many operations"
    )
    parser.add_argument(
        "--times", type=float, default=0.05, help="share of operations whose times are compared"
    )
    parser.add_argument("--without", default="", help="operations to leave out, with commas")
    parser.add_argument("--root", action="store_true", help="no operations by other users")
    parser.add_argument("--verbose", action="store_true", help="print every operation")
    options = parser.parse_args()
    options.without = [w for w in options.without.split(",") if w]
    first = options.seed if options.seed is not None else int(time.time())
    codes = [watch(options, seed) for seed in range(first, first + options.seeds)]
    return max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main())
