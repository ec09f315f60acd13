"""Reading a feature store against a raw memory map of the same numbers.

Run by hand: ``python benchmarks/store.py [ROWS [WIDTH]]``. Each line gives the median
time of the store, that of the raw way in the same run, their ratio, and the ratio of
processor times, which suffers less from neighbours. Files are in the page cache; 1536
numbers a row are those of GigaPath.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from skshazam.features import FeatureStore

REPEATS = 7


def seconds(*actions):
    """Return median wall and processor seconds of actions that take turns: (n, 2)."""
    times = np.zeros((REPEATS, len(actions), 2))
    for turn in times:
        for action, spent in zip(actions, turn, strict=True):
            start = time.perf_counter(), time.process_time()
            action()
            spent[:] = time.perf_counter() - start[0], time.process_time() - start[1]
    return np.median(times, axis=0)


def compare(title, n_rows, store_way, raw_way):
    """Print one line."""
    (ours, our_cpu), (raw, raw_cpu) = seconds(store_way, raw_way)
    print(
        f"{title:<36} {1e3 * ours:8.1f} ms {1e3 * raw:8.1f} ms   "
        f"ratio {ours / raw:5.2f}   processor {our_cpu / raw_cpu:5.2f}   "
        f"{n_rows / ours:9,.0f} rows/s"
    )


def main(n_rows=100_000, width=1536):
    """Fill a store and a raw file, and read both."""
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (n_rows, 32), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        raw_path = Path(folder) / "raw.bin"
        raw = np.memmap(raw_path, np.float16, "w+", shape=(n_rows, width))
        writer = FeatureStore(Path(folder) / "store")
        start, spent = time.perf_counter(), 0.0
        for begin in range(0, n_rows, 64):
            batch = rng.standard_normal((64, width), dtype=np.float32)
            batch = batch[: n_rows - begin]
            raw[begin : begin + 64] = batch
            start = time.perf_counter()
            writer.rows("teacher").write(keys[begin : begin + 64], batch)
            spent += time.perf_counter() - start
        writer.close()
        print(f"written in batches of 64: {n_rows / spent:,.0f} rows/s, durable each")
        for state in ("as written", "compacted"):
            store = FeatureStore(writer.path)
            print(f"{state}: {store.info().teachers[0].shards} shards")
            read_all(store.rows("teacher"), raw, keys, rng)
            store.compact()


def read_all(rows, raw, keys, rng):
    """Compare all ways of reading."""
    n_rows = len(keys)
    shuffled, fifth = rng.permutation(n_rows), rng.permutation(n_rows)[: n_rows // 5]
    hundredth, single = fifth[: n_rows // 100], fifth[:2000].tolist()
    for title, order in [
        ("all rows, shuffled, one call", shuffled),
        ("all rows, in order, one call", np.arange(n_rows)),
        ("a fifth, shuffled, one call", fifth),
        ("a hundredth, shuffled, one call", hundredth),
    ]:
        asked = keys[order]
        compare(
            f"  {title}",
            len(order),
            lambda asked=asked: rows.read(asked),
            lambda order=order: raw[order],
        )
    one_by_one = [keys[i : i + 1] for i in single]
    compare(
        "  one row a call",
        len(single),
        lambda: [rows.read(key) for key in one_by_one],
        lambda: [np.array(raw[i]) for i in single],
    )
    compare(
        "  has: all keys, one call",
        n_rows,
        lambda: rows.has(keys[shuffled]),
        lambda: raw[shuffled],
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
