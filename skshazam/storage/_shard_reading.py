"""From keys to verified rows: quickly for nearly all, thoroughly for the rest."""

from functools import partial

import numpy as np

from skshazam.storage._key_index import by_shard
from skshazam.storage._shard_file import CHUNK_ROWS, DamagedShardError, ShardFile
from skshazam.storage._shard_set import ShardSet

__all__ = ["read_rows"]


def read_rows(shard_set: ShardSet, keys, rows, found) -> None:
    """Fill in the rows of keys and which of them were found.

    Parameters
    ----------
    shard_set : ShardSet
        Where to look.
    keys : ndarray of shape (n, 32), dtype=uint8
        Keys.
    rows : ndarray of shape (n, width)
        Filled in place.
    found : ndarray of shape (n,), dtype=bool
        All False; filled in place.
    """
    # Nearly always right, and half the time: no key is compared, and the check of
    # each row tells. The second way is slow, and thorough with what is left.
    _read_guessed(shard_set, keys, rows, found)
    _read_located(shard_set, keys, rows, found)


def _read_guessed(shard_set, keys, rows, found) -> None:
    """Read the rows that the index alone finds."""
    shards, places = shard_set.guess(keys)
    located = np.flatnonzero(shards >= 0)

    def copy(file: ShardFile, positions: np.ndarray) -> None:
        for chunk, values, intact in file.stream(places[positions], keys[positions]):
            copied = positions[chunk]
            if not intact.all():
                copied, values = copied[intact], values[intact]
            rows[copied] = values
            found[copied] = True

    for number, group in by_shard(shards[located], places[located]):
        shard_set.attempt(number, partial(copy, positions=located[group]))


def _read_located(shard_set, keys, rows, found) -> None:
    """Read rows whose keys have been compared; set damaged shards aside."""
    pending = np.flatnonzero(~found)
    while len(pending):
        shards, places = shard_set.locate(keys[pending])
        located = shards >= 0
        pending, shards, places = pending[located], shards[located], places[located]
        for number, group in by_shard(shards, places):
            for start in range(0, len(group), CHUNK_ROWS):
                chunk = group[start : start + CHUNK_ROWS]
                take = partial(_intact_rows, rows=places[chunk])
                values = shard_set.attempt(number, take)
                if values is None:
                    break
                rows[pending[chunk]] = values
                found[pending[chunk]] = True
        # Located and not read: that shard is gone or damaged. Look again.
        pending = pending[~found[pending]]


def _intact_rows(file: ShardFile, rows: np.ndarray) -> np.ndarray:
    """Return rows of a shard, or say that one is damaged."""
    _, values, intact = file.take(rows)
    if not intact.all():
        raise DamagedShardError("a row fails its check")
    return values
