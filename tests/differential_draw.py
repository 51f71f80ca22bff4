"""
differential_draw.py: what the arguments of random operations are drawn from.

The universes of names, paths, sizes and times are small, so that operations meet each other and
errors are as common as successes; Known, what exists on the reference side, lets more succeed.
"""

import os
import random
import stat

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
BLOCK = 4096


class Path(bytes):
    """An argument that names a file."""


class Slot(int):
    """An argument that is the index of an open descriptor."""


class Data(bytes):
    """An argument that is written; printed by its length."""


# ---- Rules: the universes that arguments are drawn from ----

SLOTS = 10
USERS = [(0, 0), (1000, 1000), (2000, 1000)]
DIRS = [b"a", b"b", b"c", b"t", b"d0", b"d1"]
NAMES = [b"f%d" % i for i in range(6)] + [b"d0", b"d1", b"a", b"b"]
ODD = [
    b"n" * 255, b"m" * 256, b"new\nline", b"\xff\xfe\x80", "ключ".encode(), b" ", b"-rf",
    b".dot", b"EX", b"a\tb", b"*", b"%s%n", b".", b"..", b"x" * 254, b"\xc3" * 255,
]
SIZES = [
    0, 1, 7, 100, 199, 200, 201, 255, 256, 4095, 4096, 4097, 65535, 65536, 65537, 131072,
    200001,
]
OFFSETS = [
    0, 0, 0, 1, 10, 199, 200, 4095, 4096, 65535, 65536, 65537, 1 << 20, (1 << 20) + 13, 1 << 30,
    (1 << 32) - 1, 1 << 40, (1 << 40) - 3,
]
# No set-group-id without group execute: there the kernel (the writer's group counts) and ctxfs (the
# bit is left alone) differ by design. No set-id with sticky: without default_permissions the kernel
# does not know the sticky bit, and drops it where it clears set-id bits itself (older libfuse).
MODES = [
    0, 0o400, 0o600, 0o644, 0o644, 0o666, 0o755, 0o755, 0o777, 0o777, 0o777, 0o711, 0o1777,
    0o1755, 0o2755, 0o2777, 0o4755, 0o4644, 0o6755, 0o6777, 0o6711,
]
TIMES = [
    (UTIME_NOW, 0), (UTIME_OMIT, 0), (0, 0), (999999999, 1), (0, -1), (5, -(1 << 31)),
    (1, 1 << 31), (7, 1 << 33), (123456789, 1000000000), (500, 253402300799), (1000000000, 3),
    (3, 4102444800),
]
XATTRS = [
    b"user.a", b"user.a", b"user.b", b"user.b", b"user.b", b"user." + b"l" * 250,
    b"user." + b"l" * 251, b"trusted.t", b"security.s", b"user.\xff\n", b"system.none",
    b"nonsense",
]
XATTR_SIZES = [0, 1, 20, 300, 4000, 65536, 65537]
ACCESS = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR]
FLAGS = [
    (os.O_CREAT, 0.6), (os.O_EXCL, 0.15), (os.O_TRUNC, 0.2), (os.O_APPEND, 0.15),
    (os.O_NOFOLLOW, 0.1), (os.O_DIRECTORY, 0.05), (os.O_SYNC, 0.03), (os.O_NOATIME, 0.02),
]


def some_name(rng, names):
    return rng.choice(ODD) if rng.random() < 0.06 else rng.choice(names)


class Known:
    """What there is on side B: lets a draw hit what exists, and stays as repeatable as B is."""

    def __init__(self):
        self.xattrs = []
        self.forget()

    def forget(self):
        self.paths = {"any": [], "dir": [b"."], "file": [], "link": []}
        self.slots = {"file": [], "dir": []}

    def refresh(self, side):
        """Walks side B, to a depth of 4, in a chroot of it."""
        self.forget()
        pending = [b""]
        while pending:
            base = pending.pop()
            with os.scandir(base or b".") as entries:
                found = sorted(
                    (e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in entries
                )
            for name, is_dir, is_link in found:
                path = base + name
                self.paths["any"].append(path)
                self.paths["dir" if is_dir else "link" if is_link else "file"].append(path)
                if is_dir and path.count(b"/") < 3:
                    pending.append(path + b"/")
        for slot, fd in enumerate(side.fds):
            if fd >= 0:
                mode = os.fstat(fd).st_mode
                if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                    self.slots["file" if stat.S_ISREG(mode) else "dir"].append(slot)

    def note(self, kind, args):
        """An attribute was set on side B: later draws want to find it."""
        if kind == "setxattr":
            self.xattrs = self.xattrs[-20:] + [args[:2]]


def odd_path(rng, path):
    twist = rng.random()
    if twist < 0.35:
        return path + b"/"
    if twist < 0.6:
        return path + rng.choice([b"/.", b"/..", b"//f1", b"/./f2"])
    return rng.choice([b"", b"/" + path, b"p" * 4200, b"a/" * 2040 + b"f0", path + b"/none/f0"])


def new_path(rng):
    """A name that may not be there yet, mostly in a directory that is."""
    if rng.random() < 0.85:
        parent = rng.choice(rng.known.paths["dir"])
        path = (
            some_name(rng, NAMES) if parent == b"." else parent + b"/" + some_name(rng, NAMES)
        )
    else:
        depth = rng.choices([0, 1, 2, 3], [50, 40, 8, 2])[0]
        path = b"/".join([some_name(rng, DIRS) for _ in range(depth)] + [some_name(rng, NAMES)])
    return Path(odd_path(rng, path) if rng.random() < 0.02 else path)


def some_path(rng, kind="any"):
    """A name of this kind that was there a moment ago, or any name."""
    there = rng.known.paths[kind]
    if there and rng.random() < 0.75:
        path = rng.choice(there)
        return Path(odd_path(rng, path) if rng.random() < 0.02 else path)
    return new_path(rng)


def some_data(rng, sizes=None):
    size = rng.choice(sizes or SIZES) if rng.random() < 0.7 else rng.randrange(3000)
    return Data(rng.randbytes(size) if rng.random() < 0.9 else bytes(size))


def some_offset(rng):
    kind = rng.random()
    if kind < 0.5:
        return rng.randrange(300000)
    if kind < 0.99:
        return rng.choice(OFFSETS)
    return rng.choice([(1 << 63) - 1, (1 << 63) - 100, (1 << 62) + 5, -1])


def some_slot(rng, kind="file"):
    there = rng.known.slots[kind]
    if there and rng.random() < 0.8:
        return Slot(rng.choice(there))
    return Slot(rng.randrange(SLOTS))


def any_slot(rng):
    return Slot(rng.randrange(SLOTS))


class Draw(random.Random):
    """Random numbers for the arguments of one operation, and what is known to exist."""

    def __init__(self, seed, known):
        super().__init__(seed)
        self.known = known
