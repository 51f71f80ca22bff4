"""probe_regressions.py: claims about what earlier stores of this kind got wrong."""

import os

from probing import *


def two_clients(writes):
    """Two clients that write on and on both come to their end."""

    def work(i):
        for n in range(int(writes)):
            put("client%d-%d" % (i, n % 100), b"value %d" % n)

    children(2, work)
    for i in range(2):
        equal(
            cat("client%d-99" % i),
            b"value %d" % (int(writes) - 1),
            "the last value of client %d" % i,
        )


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
