"""Kill writers, fill a disk, forbid writing, and look for wrong or lost rows.

Run by hand from the repository: ``python -m benchmarks.kill_store [KILLS]``. The parts
with a small disk and a read-only one mount a tmpfs, which takes root.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from skshazam.exceptions import FeatureStoreError
from tests.store_processes import (
    BATCH,
    KillRecord,
    check_rows,
    end_of,
    fill,
    fork,
    kill_while_filling,
    make_keys,
    open_folder,
    read_pipe,
    rows_of,
)


def kill_many(folder, n_kills):
    """Kill writers at random moments, over and over on the same store."""
    rng = np.random.default_rng(int(time.time()))
    kills = n_stores = n_computed = n_again = n_rows = 0
    while kills < n_kills:
        n_stores += 1
        path = folder / f"kills{n_stores}"
        record = KillRecord(path, make_keys(100 * BATCH, seed=n_stores))
        finished = False
        while kills < n_kills and not finished:
            said, finished = kill_while_filling(path, record.keys, rng, 0.12)
            kills += not finished
            record.check(said)
        n_computed += record.n_computed
        n_again += record.n_again
        n_rows += len(record.durable) * BATCH
        n_left = len(list(path.glob(".*.tmp")))
        print(f"  {kills} kills, store {n_stores}: {n_left} temporary files left")
    print(
        f"{kills} kills: {n_rows:,} rows durable, none wrong, none lost; "
        f"{n_computed} batches of {BATCH} computed, {n_again} of them again"
    )


def write_together(folder, n_writers=4):
    """Let writers with the same keys, in orders of their own, meet a compactor."""
    path, keys = folder / "together", make_keys(400 * BATCH)
    rng = np.random.default_rng(0)
    writers = [fork(fill, path, keys, rng.permutation(400)) for _ in range(n_writers)]
    compactor, pipe = fork(compact_for, path, 3.0)
    said = [read_pipe(pipe) for _, pipe in writers]
    failed = [end_of(child) for child, _ in writers]
    read_pipe(pipe)
    found = check_rows(path, keys)
    n_computed = sum(what == b"c" for words in said for what, _ in words)
    report = open_folder(path).compact()
    print(
        f"{n_writers} writers and a compactor: exits {[*failed, end_of(compactor)]}, "
        f"{found.sum()} of {len(keys)} rows right, {n_computed} batches computed for "
        f"{len(keys) // BATCH}; compacted: {report.rows} rows in {report.shards} shards"
    )


def compact_for(pipe, path, seconds):
    """Compact again and again."""
    end = time.monotonic() + seconds
    folder = open_folder(path)
    while time.monotonic() < end:
        folder.compact()


@contextlib.contextmanager
def small_disk(folder, size):
    """Mount a file system of a few megabytes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_disk(folder):
    """Write until the disk is full, make room, and go on."""
    keys = make_keys(2000 * BATCH)
    with small_disk(folder / "small", "2m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1 << 20))
        path, stored = disk / "rows", 0
        store = open_folder(path)
        try:
            for start in range(0, len(keys), BATCH):
                store.write(
                    keys[start : start + BATCH], rows_of(keys)[start : start + BATCH]
                )
                stored = start + BATCH
        except FeatureStoreError as error:
            print(f"full disk: {stored} rows durable, then: {error}")
        found = check_rows(path, keys)
        n_left = len(list(path.glob(".*")))
        print(f"full disk: {found.sum()} rows right, {n_left} temporary files left")
        ballast.unlink()
        store.write(
            keys[stored : stored + BATCH], rows_of(keys)[stored : stored + BATCH]
        )
        print(f"full disk: after making room {check_rows(path, keys).sum()} rows right")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        try:
            open_folder(path).write(keys[-BATCH:], rows_of(keys[-BATCH:]))
        except FeatureStoreError as error:
            print(f"read-only: {error}")
        print(f"read-only: {check_rows(path, keys).sum()} rows right")
        store.close()


def main(n_kills=200):
    """Do all of it."""
    folder = Path(tempfile.mkdtemp())
    try:
        write_together(folder)
        try:
            fill_disk(folder)
        except subprocess.CalledProcessError as error:
            print(f"no disk could be mounted: {error}")
        kill_many(folder, n_kills)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
