"""probing.py: what the claims of probe_*.py are written with."""

import ctypes
import errno
import os
import random
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE = 1, 2
KIB, MIB = 1 << 10, 1 << 20
NOBODY = 65534


def equal(got, want, what):
    if got != want:
        got, want = (
            repr(v) if len(repr(v)) < 200 else repr(v)[:200] + "..." for v in (got, want)
        )
        raise AssertionError("%s: got %s, want %s" % (what, got, want))


def that(truth, what):
    if not truth:
        raise AssertionError(what)


def refused(code, call, *args, **named):
    """The call must fail with this errno."""
    try:
        result = call(*args, **named)
    except OSError as e:
        equal(
            errno.errorcode.get(e.errno),
            errno.errorcode[code],
            "errno of %s%r" % (call.__name__, args),
        )
        return
    raise AssertionError(
        "%s%r succeeded (%r), want %s" % (call.__name__, args, result, errno.errorcode[code])
    )


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
            view = view[os.write(fd, view) :]
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
