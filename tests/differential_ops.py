"""
differential_ops.py: the operations of differential.py: what they do and give back.

gen_NAME(rng) draws the arguments of one operation (differential_draw.py), op_NAME(side, ...)
performs it on one side and returns what must be equal on both. Plan draws the operations of a seed.
"""

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import random
import stat
import struct

from differential_draw import *

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
LIBC.getxattr.restype = ctypes.c_ssize_t
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x100, 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE = 1, 2
DATA_MAX = 64 << 20  # more data than this in one file is a wrong answer of SEEK_DATA


def called(result):
    """The result of a libc call, or its errno as an exception."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def brief(st):
    """What of a stat must be equal at once; times are the business of invariant 3."""
    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    return (oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, size, st.st_rdev)


def readable(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY


def digest(data):
    return (
        data if len(data) <= 64 else "%d bytes %s" % (len(data), hashlib.md5(data).hexdigest())
    )


def data_ranges(fd, offset, size):
    """(start, end) of what SEEK_DATA calls data, from offset on."""
    total = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        total += end - start
        if not offset <= start < end <= size or total > DATA_MAX:
            raise AssertionError(
                "SEEK_DATA(%d) = %d, SEEK_HOLE = %d, size %d" % (offset, start, end, size)
            )
        yield start, end
        offset = end


def read_range(fd, start, end):
    parts = []
    while start < end:
        part = os.pread(fd, min(end - start, 1 << 20), start)
        if not part:
            raise AssertionError("end of file at %d, before %d" % (start, end))
        parts.append(part)
        start += len(part)
    return b"".join(parts)


# ---- the operations: gen_NAME draws arguments, op_NAME performs ----


def gen_open(rng):
    if rng.random() < 0.12:
        return any_slot(rng), some_path(rng, "dir"), os.O_RDONLY | os.O_DIRECTORY, 0
    flags = rng.choice(ACCESS) | os.O_NONBLOCK | os.O_CLOEXEC
    for flag, chance in FLAGS:
        flags |= flag if rng.random() < chance else 0
    path = (
        new_path(rng) if flags & os.O_CREAT and rng.random() < 0.5 else some_path(rng, "file")
    )
    return any_slot(rng), path, flags, rng.choice(MODES)


def op_open(side, slot, path, flags, mode):
    fd = os.open(path, flags, mode)
    side.put(slot, fd)
    return brief(os.fstat(fd))


def gen_close(rng):
    return (any_slot(rng),)


def op_close(side, slot):
    side.drop(slot)


def gen_write(rng):
    return some_slot(rng), some_data(rng)


def op_write(side, slot, data):
    return os.write(side.fd(slot), data)


def gen_pwrite(rng):
    return some_slot(rng), some_data(rng), some_offset(rng)


def op_pwrite(side, slot, data, offset):
    return os.pwrite(side.fd(slot), data, offset)


def gen_read(rng):
    return some_slot(rng), rng.choice(SIZES)


def op_read(side, slot, size):
    return digest(os.read(side.fd(slot), size))


def gen_pread(rng):
    return some_slot(rng), rng.choice(SIZES), some_offset(rng)


def op_pread(side, slot, size, offset):
    return digest(os.pread(side.fd(slot), size, offset))


def gen_seek(rng):
    return some_slot(rng), some_offset(rng), rng.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])


def op_seek(side, slot, offset, whence):
    """Positions in directories are the kernel's and the file system's own business."""
    fd = side.fd(slot)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        return "directory"
    return os.lseek(fd, min(offset, 1 << 41), whence)


def gen_cat(rng):
    return (some_path(rng, "file"),)


def op_cat(side, path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return digest(os.read(fd, 300000))
    finally:
        os.close(fd)


def gen_put(rng):
    path = new_path(rng) if rng.random() < 0.5 else some_path(rng, "file")
    return path, some_data(rng), rng.choice(MODES)


def op_put(side, path, data, mode):
    """What `echo value > key` does."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, mode)
    try:
        return os.write(fd, data) if stat.S_ISREG(os.fstat(fd).st_mode) else "not regular"
    finally:
        os.close(fd)


def gen_truncate(rng):
    sizes = [0, 0, 1, 5, 199, 200, 201, 4096, 65536, 70000, 1 << 30, 1 << 40, (1 << 63) - 1, -1]
    return some_path(rng, "file"), rng.choice(sizes)


def op_truncate(side, path, size):
    """
    Never to the size that the file has: whether that moves times is up to the file system, and
    tmpfs decides by whether it has pages of the file. ftruncate and O_TRUNC always move them.
    """
    st = os.stat(path)
    if stat.S_ISREG(st.st_mode) and st.st_size == size:
        return "same size"
    os.truncate(path, size)
    return brief(os.stat(path))


def gen_ftruncate(rng):
    return some_slot(rng), gen_truncate(rng)[1]


def op_ftruncate(side, slot, size):
    os.ftruncate(side.fd(slot), size)
    return brief(os.fstat(side.fd(slot)))


def gen_fallocate(rng):
    mode = rng.choice(
        [0, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE]
    )
    return (
        some_slot(rng),
        mode,
        some_offset(rng),
        rng.choice([0, 1, 100, 4096, 65536, 100000, 1 << 20]),
    )


def op_fallocate(side, slot, mode, offset, length):
    called(LIBC.fallocate(side.fd(slot), mode, offset, length))
    return brief(os.fstat(side.fd(slot)))


def gen_seek_data(rng):
    return some_slot(rng), some_offset(rng)


def op_seek_data(side, slot, offset):
    """The first byte that is not zero at or behind offset, found by SEEK_DATA and SEEK_HOLE."""
    fd = side.fd(slot)
    size = os.fstat(fd).st_size
    if not stat.S_ISREG(os.fstat(fd).st_mode) or not readable(fd):
        return "nothing to read"
    position = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        if offset < 0 or offset >= size:
            os.lseek(fd, offset, os.SEEK_DATA)
            return "no error behind the end"
        hole = os.lseek(fd, offset, os.SEEK_HOLE)
        if not offset <= hole <= size:
            return "a hole at %d of %d" % (hole, size)
        for start, end in data_ranges(fd, offset, size):
            data = read_range(fd, start, end)
            if data.strip(b"\0"):
                return start + len(data) - len(data.lstrip(b"\0"))
        return "zeros"
    finally:
        os.lseek(fd, position, os.SEEK_SET)


def gen_copy_range(rng):
    size = rng.choice([1, 200, 4096, 5000, 65536, 100000, 300000])
    return some_slot(rng), some_slot(rng), rng.randrange(200000), some_offset(rng), size


def op_copy_range(side, source, target, offset_in, offset_out, size):
    """Short copies are allowed, so it goes on until the end or an error."""
    total = 0
    while total < size:
        try:
            count = os.copy_file_range(
                side.fd(source),
                side.fd(target),
                size - total,
                offset_in + total,
                offset_out + total,
            )
        except OSError:
            if total:
                break
            raise
        if count == 0:
            break
        total += count
    return total


def gen_mmap_write(rng):
    return (
        some_slot(rng),
        rng.choice([0, 1, 2, 16, 17]) * BLOCK,
        some_data(rng),
        rng.random() < 0.7,
    )


def op_mmap_write(side, slot, offset, data, sync):
    fd = side.fd(slot)
    length = min(os.fstat(fd).st_size - offset, len(data))
    if not stat.S_ISREG(os.fstat(fd).st_mode) or length <= 0:
        return "nothing to map"
    with mmap.mmap(fd, length, mmap.MAP_SHARED, offset=offset) as m:
        m[:] = data[:length]
        if sync:
            m.flush()
    return digest(os.pread(fd, length + 10, offset))


def gen_mmap_read(rng):
    return some_slot(rng), rng.choice([0, 1, 16]) * BLOCK, rng.choice(SIZES), rng.random() < 0.5


def op_mmap_read(side, slot, offset, size, shared):
    fd = side.fd(slot)
    length = min(os.fstat(fd).st_size - offset, size)
    if not stat.S_ISREG(os.fstat(fd).st_mode) or length <= 0:
        return "nothing to map"
    kind = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    with mmap.mmap(fd, length, kind, prot=mmap.PROT_READ, offset=offset) as m:
        return digest(m[:])


def gen_fsync(rng):
    return some_slot(rng), rng.random() < 0.5


def op_fsync(side, slot, data_only):
    (os.fdatasync if data_only else os.fsync)(side.fd(slot))


def gen_mkdir(rng):
    return new_path(rng), rng.choice(MODES)


def op_mkdir(side, path, mode):
    os.mkdir(path, mode)
    return brief(os.lstat(path))


def gen_rmdir(rng):
    return (some_path(rng, "dir"),)


def op_rmdir(side, path):
    os.rmdir(path)


def gen_unlink(rng):
    return (some_path(rng, "file"),)


def op_unlink(side, path):
    os.unlink(path)


def gen_rename(rng):
    flags = rng.choices([0, RENAME_NOREPLACE, RENAME_EXCHANGE, 3], [70, 14, 15, 1])[0]
    target = some_path(rng) if rng.random() < 0.5 or flags == RENAME_EXCHANGE else new_path(rng)
    return some_path(rng), target, flags


def op_rename(side, source, target, flags):
    called(LIBC.renameat2(AT_FDCWD, bytes(source), AT_FDCWD, bytes(target), flags))
    return brief(os.lstat(target.rstrip(b"/")))


def gen_link(rng):
    return some_path(rng, "file"), new_path(rng), rng.random() < 0.3


def op_link(side, source, target, follow):
    flags = AT_SYMLINK_FOLLOW if follow else 0
    called(LIBC.linkat(AT_FDCWD, bytes(source), AT_FDCWD, bytes(target), flags))
    return brief(os.lstat(target))


def gen_symlink(rng):
    target = rng.choice(
        [
            b"f0",
            b"f1",
            b"a",
            b"../a/f1",
            b"/b/f2",
            b"none",
            b".",
            b"..",
            b"l" * 4095,
            b"l" * 4096,
            b"",
            b"\xff\n",
            b"d0/f3",
        ]
    )
    return target, new_path(rng)


def op_symlink(side, target, path):
    os.symlink(target, path)
    return brief(os.lstat(path))


def gen_readlink(rng):
    return (some_path(rng, "link"),)


def op_readlink(side, path):
    return os.readlink(path)


def gen_mknod(rng):
    kinds = [
        stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFDIR,
    ]
    return new_path(rng), rng.choice(kinds) | rng.choice(MODES), os.makedev(rng.randrange(9), 3)


def op_mknod(side, path, mode, device):
    os.mknod(path, mode, device)
    return brief(os.lstat(path))


def gen_chmod(rng):
    return some_path(rng), rng.choice(MODES)


def op_chmod(side, path, mode):
    os.chmod(path, mode)
    return brief(os.stat(path))


def gen_fchmod(rng):
    return some_slot(rng), rng.choice(MODES)


def op_fchmod(side, slot, mode):
    os.fchmod(side.fd(slot), mode)
    return brief(os.fstat(side.fd(slot)))


def gen_chown(rng):
    ids = [-1, 0, 1000, 2000]
    return some_path(rng), rng.choice(ids), rng.choice(ids), rng.random() < 0.5


def op_chown(side, path, uid, gid, follow):
    os.chown(path, uid, gid, follow_symlinks=follow)
    return brief(os.stat(path, follow_symlinks=follow))


def gen_utime(rng):
    return some_path(rng), rng.choice(TIMES), rng.choice(TIMES), rng.random() < 0.5


def op_utime(side, path, atime, mtime, follow):
    times = struct.pack("@qqqq", atime[1], atime[0], mtime[1], mtime[0])
    flags = 0 if follow else AT_SYMLINK_NOFOLLOW
    called(LIBC.utimensat(AT_FDCWD, bytes(path), times, flags))
    if mtime[0] not in (UTIME_NOW, UTIME_OMIT):
        return os.stat(path, follow_symlinks=follow).st_mtime_ns
    return None


def gen_futime(rng):
    return some_slot(rng), rng.choice(TIMES), rng.choice(TIMES)


def op_futime(side, slot, atime, mtime):
    times = struct.pack("@qqqq", atime[1], atime[0], mtime[1], mtime[0])
    called(LIBC.futimens(side.fd(slot), times))


def gen_setxattr(rng):
    size = rng.choices(XATTR_SIZES, [10, 20, 30, 20, 15, 3, 2])[0]
    flags = rng.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])
    return (
        some_path(rng, rng.choice(["file", "dir"])),
        rng.choice(XATTRS),
        Data(rng.randbytes(size)),
        flags,
        rng.random() < 0.8,
    )


def op_setxattr(side, path, name, value, flags, follow):
    os.setxattr(path, name, value, flags, follow_symlinks=follow)


def gen_fsetxattr(rng):
    return some_slot(rng), rng.choice(XATTRS), Data(rng.randbytes(rng.choice([0, 5, 500]))), 0


def op_fsetxattr(side, slot, name, value, flags):
    os.setxattr(side.fd(slot), name, value, flags)


def xattr_there(rng):
    if rng.known.xattrs and rng.random() < 0.7:
        return rng.choice(rng.known.xattrs)
    return some_path(rng), rng.choice(XATTRS)


def gen_getxattr(rng):
    return *xattr_there(rng), rng.choice([0, 1, 20, 4000, 65536, 65536])


def op_getxattr(side, path, name, room):
    """With the caller's own room, so that asking for the size and ERANGE are compared too."""
    buffer = ctypes.create_string_buffer(max(room, 1))
    size = called(LIBC.getxattr(bytes(path), name, buffer, ctypes.c_size_t(room)))
    return size, digest(buffer.raw[: min(size, room)])


def gen_listxattr(rng):
    return some_path(rng), rng.random() < 0.5


def op_listxattr(side, path, follow):
    return sorted(os.listxattr(path, follow_symlinks=follow))


gen_removexattr = xattr_there


def op_removexattr(side, path, name):
    os.removexattr(path, name)


def gen_tmpfile(rng):
    flags = (
        os.O_TMPFILE
        | rng.choice([os.O_RDWR, os.O_WRONLY])
        | (os.O_EXCL if rng.random() < 0.1 else 0)
    )
    directory = Path(b".") if rng.random() < 0.3 else some_path(rng, "dir")
    return any_slot(rng), directory, flags, rng.choice(MODES)


op_tmpfile = op_open


def gen_link_fd(rng):
    return some_slot(rng), new_path(rng)


def op_link_fd(side, slot, path):
    called(LIBC.linkat(side.fd(slot), b"", AT_FDCWD, bytes(path), AT_EMPTY_PATH))
    return brief(os.lstat(path))


def gen_at(rng):
    """Through a descriptor of a directory, which may have been removed or renamed."""
    return (
        some_slot(rng, "dir"),
        rng.choice(["mkdir", "create", "unlink", "stat", "list"]),
        some_name(rng, NAMES),
    )


def op_at(side, slot, what, name):
    fd = side.fd(slot)
    if what == "mkdir":
        os.mkdir(name, 0o755, dir_fd=fd)
    elif what == "create":
        os.close(
            os.open(
                name, os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK | os.O_EXCL, 0o644, dir_fd=fd
            )
        )
    elif what == "unlink":
        os.unlink(name, dir_fd=fd)
    elif what == "stat":
        return brief(os.stat(name, dir_fd=fd, follow_symlinks=False))
    else:
        return sorted(os.listdir(fd))
    return None


def gen_wipe(rng):
    return (some_path(rng, "dir"),)


def op_wipe(side, path):
    """What `rm -r` does, so that trees stay small."""
    for name in sorted(os.listdir(path)):
        name = os.path.join(path, name)
        if stat.S_ISDIR(os.lstat(name).st_mode):
            op_wipe(side, name)
            os.rmdir(name)
        else:
            os.unlink(name)


def gen_stat(rng):
    return some_path(rng), rng.random() < 0.3


def op_stat(side, path, follow):
    return brief(os.stat(path, follow_symlinks=follow))


def gen_fstat(rng):
    return (some_slot(rng),)


def op_fstat(side, slot):
    return brief(os.fstat(side.fd(slot)))


def gen_list(rng):
    return (Path(b".") if rng.random() < 0.2 else some_path(rng, "dir"),)


def op_list(side, path):
    with os.scandir(path) as entries:
        return sorted(
            (
                e.name,
                e.is_dir(follow_symlinks=False),
                e.is_symlink(),
                e.inode() == os.lstat(os.path.join(path, e.name)).st_ino,
            )
            for e in entries
        )


def gen_access(rng):
    return some_path(rng), rng.choice([os.F_OK, os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK])


def op_access(side, path, mode):
    return os.access(path, mode, effective_ids=True)


def gen_statvfs(rng):
    return (some_path(rng),)


def op_statvfs(side, path):
    """Figures differ; what must hold in each."""
    v = os.statvfs(path)
    return (
        v.f_namemax,
        v.f_frsize > 0,
        v.f_blocks >= v.f_bfree >= v.f_bavail,
        v.f_files >= v.f_ffree >= v.f_favail,
    )


def op_position(side, slot):
    return os.lseek(side.fd(slot), 0, os.SEEK_CUR)


gen_position = gen_fstat

WEIGHTS = {
    "open": 80, "close": 12, "write": 40, "pwrite": 40, "read": 25, "pread": 30, "seek": 8,
    "cat": 25, "put": 40, "truncate": 15, "ftruncate": 18, "fallocate": 18, "seek_data": 14,
    "copy_range": 20, "mmap_write": 12, "mmap_read": 10, "fsync": 4, "mkdir": 30, "rmdir": 12,
    "unlink": 25, "rename": 50, "link": 20, "symlink": 14, "readlink": 8, "mknod": 10,
    "chmod": 22, "fchmod": 8, "chown": 18, "utime": 18, "futime": 6, "setxattr": 22,
    "fsetxattr": 8, "getxattr": 16, "listxattr": 10, "removexattr": 10, "tmpfile": 8,
    "link_fd": 12, "at": 16, "stat": 30, "fstat": 14, "list": 10, "access": 8, "statvfs": 2,
    "position": 4, "wipe": 4,
}
ROOT_ONLY = {"link_fd", "mmap_write", "mmap_read"}


class Plan:
    """The operations of a seed, one after the other."""

    def __init__(self, seed, without, root):
        self.root_share = 1 if root else 0.8
        self.rng = random.Random(seed)
        self.known = Known()
        self.kinds = [k for k in WEIGHTS if k not in without]
        self.weights = [WEIGHTS[k] for k in self.kinds]

    def next(self):
        """(kind, user, umask, arguments, a number in [0, 1))."""
        rng = self.rng
        kind = rng.choices(self.kinds, self.weights)[0]
        by_root = kind in ROOT_ONLY or rng.random() < self.root_share
        user = USERS[0] if by_root else rng.choice(USERS[1:])
        mask = rng.choice([0, 0, 0, 0o22, 0o27])  # never group execute alone: see MODES
        own = Draw(rng.getrandbits(64), self.known)
        return kind, user, mask, globals()["gen_" + kind](own), rng.random()
