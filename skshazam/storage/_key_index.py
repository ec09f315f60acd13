"""Where keys lie: sorted 64-bit prefixes in numpy, 16 bytes a row.

Knows neither files nor whole keys; the caller accepts or refuses each candidate.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["KeyIndex", "by_shard", "key_prefixes"]

# Fewer and larger levels are faster to search and slower to add to.
LEVEL_RATIO = 8


def key_prefixes(keys: np.ndarray) -> np.ndarray:
    """Return the first eight bytes of keys (n, 32) uint8, as uint64 (n,)."""
    return np.ascontiguousarray(keys[:, :8]).view("<u8")[:, 0]


class _Level(NamedTuple):
    """Entries sorted by prefix; equal prefixes in the order of arrival."""

    prefixes: np.ndarray  # uint64
    shards: np.ndarray  # uint32
    rows: np.ndarray  # uint32

    def equal(self, places: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        """Return a mask of the prefixes that stand at these places, bool (n,)."""
        if not len(self.prefixes):
            return np.zeros(len(places), dtype=bool)
        there = self.prefixes.take(places, mode="clip") == prefixes
        return there & (places < len(self.prefixes))


def _sorted_level(parts: Sequence[_Level]) -> _Level:
    """Return one level with all entries of the parts, the earlier parts first."""
    joined = _Level(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    # Stable, and on sorted runs a merge: timsort finds them.
    order = np.argsort(joined.prefixes, kind="stable")
    return _Level(*(column[order] for column in joined))


class KeyIndex:
    """Find the shard and row of keys by their first eight bytes.

    Log-structured: what arrives becomes a small sorted level, and levels merge when
    they come near the size of the next, so that a shard of 64 rows seldom moves the
    rest. A lookup costs one binary search a level, of which there are log8(n).
    """

    def __init__(self):
        self._levels: tuple[_Level, ...] = ()
        self._alive = np.zeros(0, dtype=bool)
        self._n_shards = 0

    def add(self, prefixes: Sequence[np.ndarray]) -> list[int]:
        """Add whole shards.

        Parameters
        ----------
        prefixes : sequence of ndarray of shape (n_rows,), dtype=uint64
            Prefixes of the keys of each shard, in row order.

        Returns
        -------
        shards : list of int
            The number of each shard from now on.
        """
        numbers = list(range(self._n_shards, self._n_shards + len(prefixes)))
        if not numbers:
            return numbers
        self._n_shards += len(numbers)
        if self._n_shards > len(self._alive):
            grown = np.zeros(2 * self._n_shards, dtype=bool)
            grown[: len(self._alive)] = self._alive
            self._alive = grown
        self._alive[numbers] = True
        parts = [
            _Level(
                shard_prefixes,
                np.full(len(shard_prefixes), number, dtype=np.uint32),
                np.arange(len(shard_prefixes), dtype=np.uint32),
            )
            for number, shard_prefixes in zip(numbers, prefixes, strict=True)
        ]
        levels = [*self._levels, _sorted_level(parts)]
        while len(levels) > 1 and LEVEL_RATIO * len(levels[-1].rows) >= len(
            levels[-2].rows
        ):
            levels[-2:] = [_sorted_level([self._living(lv) for lv in levels[-2:]])]
        # One assignment: a thread that searches keeps the levels it began with.
        self._levels = tuple(levels)
        return numbers

    def _living(self, level: _Level) -> _Level:
        """Return a level without the entries of shards that are gone."""
        living = self._alive[level.shards]
        return level if living.all() else _Level(*(column[living] for column in level))

    def drop(self, shard: int) -> None:
        """Forget a shard; its entries go when their level merges.

        Parameters
        ----------
        shard : int
            A number that :meth:`add` gave.
        """
        self._alive[shard] = False

    @property
    def n_bytes(self) -> int:
        """Memory of the entries."""
        return sum(column.nbytes for level in self._levels for column in level)

    def find(
        self,
        prefixes: np.ndarray,
        accept: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the first accepted entry of each prefix.

        Parameters
        ----------
        prefixes : ndarray of shape (n,), dtype=uint64
            What is looked for.
        accept : callable
            Takes positions in `prefixes`, shards and rows of candidates, all int64
            (m,), and returns a mask of bool (m,).

        Returns
        -------
        shards : ndarray of shape (n,), dtype=int64
            -1 where there is none.
        rows : ndarray of shape (n,), dtype=int64
        """
        shards = np.full(len(prefixes), -1, dtype=np.int64)
        rows = np.zeros(len(prefixes), dtype=np.int64)
        # Searching in the order of the level keeps its pages in the cache.
        pending = prefixes.argsort()
        for level in self._levels:
            sought = prefixes[pending]
            places = level.prefixes.searchsorted(sought)
            # Equal prefixes stand side by side: try one after the other.
            tried = np.flatnonzero(level.equal(places, sought))
            if not len(tried):
                continue
            while len(tried):
                at = places[tried]
                accepted = self._alive[level.shards[at]]
                living = at[accepted]
                accepted[accepted] = accept(
                    pending[tried[accepted]],
                    level.shards[living].astype(np.int64),
                    level.rows[living].astype(np.int64),
                )
                shards[pending[tried[accepted]]] = level.shards[at[accepted]]
                rows[pending[tried[accepted]]] = level.rows[at[accepted]]
                tried = tried[~accepted]
                places[tried] += 1
                tried = tried[level.equal(places[tried], sought[tried])]
            pending = pending[shards[pending] < 0]
            if not len(pending):
                break
        return shards, rows

    def repeated_prefixes(self, shards: Iterable[int] | None = None) -> np.ndarray:
        """Return the prefixes that occur more than once.

        Parameters
        ----------
        shards : iterable of int, default=None
            Count only entries of these; None is all that are not dropped.

        Returns
        -------
        prefixes : ndarray of shape (n,), dtype=uint64
            Sorted, each once.
        """
        chosen = self._alive.copy()
        if shards is not None:
            chosen[:] = False
            chosen[list(shards)] = True
        parts = [level.prefixes[chosen[level.shards]] for level in self._levels]
        every = np.sort(np.concatenate([np.zeros(0, np.uint64), *parts]))
        return np.unique(every[1:][every[1:] == every[:-1]])

    def shards_with(self, prefixes: np.ndarray) -> set[int]:
        """Return the shards that hold some of these prefixes.

        Parameters
        ----------
        prefixes : ndarray of shape (n,), dtype=uint64
            Prefixes.

        Returns
        -------
        shards : set of int
        """
        found: set[int] = set()
        for level in self._levels:
            # By a table, numpy 2.0 overflows at large prefixes.
            holds = np.isin(level.prefixes, prefixes, kind="sort")
            holds &= self._alive[level.shards]
            found.update(np.unique(level.shards[holds]).tolist())
        return found


def by_shard(shards: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each shard and the positions of its rows, in the order of the rows."""
    order = np.argsort((shards << 32) | rows)
    in_order = shards[order]
    starts = np.flatnonzero(in_order[1:] != in_order[:-1]) + 1
    ends = [*starts.tolist(), len(order)]
    start = 0
    for end in ends if len(order) else ():
        yield int(in_order[start]), order[start:end]
        start = end
