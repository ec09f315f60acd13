"""Processes that fill a store of numbers that anyone can compute, to be killed."""

import contextlib
import os
import select
import signal
import time
import traceback

import numpy as np

from skshazam.storage import ShardFolder

WIDTH = 48
BATCH = 16
RECORD = 5  # bytes of a record on the pipe: what happened, and in which batch


def make_keys(n, seed=0):
    """Return n different keys."""
    return np.random.default_rng(seed).integers(0, 256, (n, 32), dtype=np.uint8)


def rows_of(keys, width=WIDTH):
    """Return the only right rows of keys; float16 holds them exactly."""
    places = np.arange(width)
    return keys[:, places % 32].astype(np.float32) / 16 - places % 7


def open_folder(path, **kwargs):
    """Return the folder that all processes here use."""
    return ShardFolder(path, WIDTH, np.float16, **kwargs)


def check_rows(path, keys):
    """Return which keys are stored; raise if any row is wrong."""
    rows, found = open_folder(path).read(keys)
    np.testing.assert_array_equal(rows[found], rows_of(keys)[found])
    return found


def fork(function, *args):
    """Run a function in a forked child; return its process id and a pipe from it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        os.close(reading)
        function(writing, *args)
        status = 0
    except BaseException:  # noqa: BLE001 - the parent sees only the exit status
        traceback.print_exc()
    finally:
        os._exit(status)


def fill(pipe, path, keys, order, merge_every=4):
    """Store what is missing, batch by batch; say "c" when computed, "d" when durable.

    Every few batches it merges its shards, and at times all that lie there.
    """
    folder = open_folder(path, merge_every=merge_every)
    for number in order:
        batch = keys[number * BATCH : (number + 1) * BATCH]
        folder.refresh()
        missing = batch[~folder.has(batch)]
        if not len(missing):
            continue
        os.write(pipe, b"c" + int(number).to_bytes(4, "little"))
        folder.write(missing, rows_of(missing))
        os.write(pipe, b"d" + int(number).to_bytes(4, "little"))
        if number % 11 == 10:
            folder.compact()
    folder.close()


def read_pipe(pipe):
    """Return what a process said until its end: (what, batch) in order."""
    content = b""
    while portion := os.read(pipe, 65536):
        content += portion
    os.close(pipe)
    return [
        (content[i : i + 1], int.from_bytes(content[i + 1 : i + RECORD], "little"))
        for i in range(0, len(content) - RECORD + 1, RECORD)
    ]


def end_of(child):
    """Wait for a child and return how it ended; 0 is well."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_while_filling(path, keys, rng, longest):
    """Start a writer, kill it after a random time below `longest` seconds of work.

    Returns what it said, and whether it had come to its end before.
    """
    order = np.arange(len(keys) // BATCH)
    child, pipe = fork(fill, path, keys, order)
    delay = rng.uniform(0, longest)
    # The time counts from the first word: starting up is no work.
    select.select([pipe], [], [], 10)
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    said = read_pipe(pipe)
    return said, end_of(child) == 0


class KillRecord:
    """What may not happen over many kills on one store."""

    def __init__(self, path, keys):
        self.path, self.keys = path, keys
        self.durable = set()
        self.n_computed = self.n_again = 0
        self.seen = set()

    def check(self, said):
        """Raise if a row is wrong or lost, or was computed again although durable."""
        for what, batch in said:
            if what == b"c":
                self.n_computed += 1
                self.n_again += batch in self.seen
                self.seen.add(batch)
                # One batch, the one in flight, may be computed again.
                assert batch not in self.durable, f"batch {batch} was computed again"
            else:
                self.durable.add(batch)
        found = check_rows(self.path, self.keys).reshape(-1, BATCH).all(axis=1)
        lost = self.durable - set(np.flatnonzero(found).tolist())
        assert not lost, f"batches {sorted(lost)} are lost"
