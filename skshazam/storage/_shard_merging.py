"""Many small shards become few, while others read, write and merge.

The new shard is durable before an old one is removed, so that a kill at any moment
leaves every row at least once; a row that is there twice is harmless.
"""

import os
from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

from skshazam.storage._key_index import key_prefixes
from skshazam.storage._shard_file import KEY_BYTES, DamagedShardError, chunks
from skshazam.storage._shard_kind import COMMIT
from skshazam.storage._shard_set import ShardSet

__all__ = ["OwnShards", "compact_shards", "merge_shards"]


class OwnShards:
    """The small shards that this process wrote, by commit and order of size.

    Only they are merged without being asked, so that writers never meet. A row is
    copied once for each power of `merge_every` between a batch and a full shard.

    Parameters
    ----------
    merge_every : int
        How many of one size are merged.
    """

    def __init__(self, merge_every: int):
        self.merge_every = merge_every
        self._numbers: dict[tuple[str | None, int], list[int]] = {}
        self._pid = os.getpid()

    def add(
        self, number: int, n_rows: int, full: int, commit: str | None = None
    ) -> list[int]:
        """Note a shard; return those to merge now, which are no longer noted."""
        if self._pid != os.getpid():  # a forked child has written nothing yet
            self._numbers, self._pid = {}, os.getpid()
        if n_rows > full // 2:
            return []
        # The integer logarithm of n_rows to the base merge_every.
        size = 0
        while n_rows >= self.merge_every ** (size + 1):
            size += 1
        kind = (commit, size)
        alike = self._numbers.setdefault(kind, [])
        alike.append(number)
        return self._numbers.pop(kind) if len(alike) >= self.merge_every else []

    def take_all(self) -> list[list[int]]:
        """Return all noted shards of each commit, which are no longer noted."""
        groups: dict[str | None, list[int]] = {}
        if self._pid == os.getpid():
            for (commit, _), numbers in self._numbers.items():
                groups.setdefault(commit, []).extend(numbers)
        self._numbers.clear()
        return list(groups.values())


class _Output:
    """Rows on their way to a merged shard; at most one shard in memory."""

    def __init__(
        self,
        shard_set: ShardSet,
        rows_per_shard: int,
        expected: int,
        metadata: Mapping[str, str],
    ):
        self.shard_set = shard_set
        self.metadata = metadata
        n_rows = max(1, min(rows_per_shard, expected))
        self.keys = np.empty((n_rows, KEY_BYTES), dtype=np.uint8)
        self.rows = np.empty((n_rows, shard_set.width), dtype=shard_set.dtype)
        self.n_rows = 0
        self.n_stored = 0
        self.written: list[int] = []

    def append(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Take rows, and write a shard whenever one is full."""
        while len(keys):
            taken = slice(0, min(len(keys), len(self.keys) - self.n_rows))
            end = self.n_rows + taken.stop
            self.keys[self.n_rows : end], self.rows[self.n_rows : end] = (
                keys[taken],
                rows[taken],
            )
            self.n_rows = end
            keys, rows = keys[taken.stop :], rows[taken.stop :]
            if self.n_rows == len(self.keys):
                self.flush()

    def flush(self) -> None:
        """Write what is in memory."""
        if self.n_rows:
            kept = slice(0, self.n_rows)
            number = self.shard_set.store(
                self.keys[kept], self.rows[kept], self.metadata
            )
            self.written.append(number)
            self.n_stored += self.n_rows
            self.n_rows = 0


def compact_shards(shard_set: ShardSet, rows_per_shard: int) -> None:
    """Merge small shards and those with duplicates; never those of two commits.

    Parameters
    ----------
    shard_set : ShardSet
        Where they are.
    rows_per_shard : int
        Rows of a new shard, at most.

    Raises
    ------
    FeatureStoreError
        No room, or a failing disk. Every row is still stored.
    """
    known = dict(shard_set.shards)
    for commit in {shard.commit for shard in known.values()}:
        shards = {n: shard for n, shard in known.items() if shard.commit == commit}
        repeated = shard_set.index.repeated_prefixes(shards)
        doubled = shard_set.index.shards_with(repeated) & shards.keys()
        small = {n for n, s in shards.items() if s.n_rows <= rows_per_shard // 2}
        if doubled or len(small) > 1:
            merge_shards(shard_set, sorted(small | doubled), rows_per_shard)


def merge_shards(
    shard_set: ShardSet, numbers: Iterable[int], rows_per_shard: int
) -> list[int]:
    """Copy shards into few, each key once, and remove them.

    Parameters
    ----------
    shard_set : ShardSet
        Where they are.
    numbers : iterable of int
        Which, all of one commit, which the new shards keep. One that is gone or
        damaged is left out.
    rows_per_shard : int
        Rows of a new shard, at most.

    Returns
    -------
    merged : list of int
        The new shards.

    Raises
    ------
    FeatureStoreError
        No room, or a failing disk. Every row is still stored.
    """
    numbers = [number for number in numbers if number in shard_set.shards]
    # Only keys whose prefix occurs twice are worth remembering.
    repeated = shard_set.index.repeated_prefixes(numbers)
    seen: set[bytes] = set()
    expected = sum(shard_set.shards[number].n_rows for number in numbers)
    commit = shard_set.shards[numbers[0]].commit if numbers else None
    metadata = {} if commit is None else {COMMIT: commit}
    output = _Output(shard_set, rows_per_shard, expected, metadata)
    copied: deque[tuple[int, int]] = deque()

    def copy(file) -> bool:
        for keys, rows, intact in chunks(file):
            if not intact.all():
                raise DamagedShardError("a row fails its check")
            new = _unseen(keys, repeated, seen)
            output.append(keys[new], rows[new])
        return True

    for number in numbers:
        # A key of `seen` is in the output even if its shard proves damaged later.
        if shard_set.attempt(number, copy):
            copied.append((number, output.n_stored + output.n_rows))
        _remove_stored(shard_set, copied, output.n_stored)
    output.flush()
    _remove_stored(shard_set, copied, output.n_stored)
    return output.written


def _remove_stored(
    shard_set: ShardSet, copied: deque[tuple[int, int]], n_stored: int
) -> None:
    """Remove the shards whose last row is among the first `n_stored` of the output."""
    while copied and copied[0][1] <= n_stored:
        shard_set.remove(copied.popleft()[0])


def _unseen(keys: np.ndarray, repeated: np.ndarray, seen: set[bytes]) -> np.ndarray:
    """Return a mask of the keys that come for the first time; remember them."""
    new = np.ones(len(keys), dtype=bool)
    if len(repeated):
        # By a table, numpy 2.0 overflows at large prefixes.
        may_repeat = np.isin(key_prefixes(keys), repeated, kind="sort")
        for place in np.flatnonzero(may_repeat):
            key = keys[place].tobytes()
            new[place] = key not in seen
            seen.add(key)
    return new
