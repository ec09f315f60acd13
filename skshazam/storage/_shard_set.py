"""ShardSet: which shards a folder holds, where their keys lie, and which are open.

Follows what other processes add and remove, and sets damaged files aside.
"""

import logging
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from skshazam.exceptions import FeatureStoreError, FeatureStoreMismatchError
from skshazam.storage._durable_file import is_vanished, publish, storage_error
from skshazam.storage._key_index import KeyIndex, key_prefixes
from skshazam.storage._shard_file import (
    CHUNK_ROWS,
    DamagedShardError,
    ShardFile,
    encode_shard,
)

__all__ = ["ShardSet", "by_shard", "chunks", "logger"]

SUFFIX = ".safetensors"
SET_ASIDE = ".damaged"
MAX_OPEN_FILES = 32  # of 1024 that a process may have, for each teacher
TEMPORARY_SECONDS = 24 * 3600

logger = logging.getLogger("skshazam")


@dataclass(frozen=True)
class _Shard:
    """A shard in the index."""

    name: str
    n_rows: int
    n_bytes: int


class ShardSet:
    """The shards of one folder, as this process knows them.

    Parameters
    ----------
    folder : Path
        Where they lie; need not exist.
    width : int or None
        Numbers in a row; None is learnt from the first shard.
    dtype : dtype
        Of the rows.

    Attributes
    ----------
    shards : dict of int to _Shard
        What is in the index, by its number there.
    n_forgotten : int
        Grows whenever a shard leaves the index.
    """

    def __init__(self, folder: Path, width: int | None, dtype: np.dtype):
        self.folder = folder
        self.width = width
        self.dtype = dtype
        self.index = KeyIndex()
        self.shards: dict[int, _Shard] = {}
        self.n_forgotten = 0
        self._numbers: dict[str, int] = {}
        self._open: OrderedDict[int, ShardFile] = OrderedDict()
        self._ignored: set[str] = set()  # damaged, and could not be renamed
        self._scanned = False
        self._lock, self._pid = threading.RLock(), os.getpid()

    def lock(self) -> threading.RLock:
        """Return the lock of this process's threads; a forked child has its own."""
        if self._pid != os.getpid():
            self._lock, self._pid = threading.RLock(), os.getpid()
        return self._lock

    def path(self, number: int) -> Path:
        """Return where a shard of the index lies."""
        return self.folder / self.shards[number].name

    def refresh(self, *, once: bool = False) -> None:
        """Learn which shards came and went; `once` does so only the first time."""
        if once and self._scanned:
            return
        with self.lock():
            names = self._list()
            for name in self._numbers.keys() - names:
                self.forget(self._numbers[name])
            self._admit(sorted(names - self._numbers.keys() - self._ignored))
            self._scanned = True

    def _list(self) -> set[str]:
        """Return the names of all shards in the folder."""
        try:
            # A listing that another process's merge runs into may show neither the
            # old shards nor the new one; the folder's time tells.
            for _ in range(3):
                before = self.folder.stat().st_mtime_ns
                names = os.listdir(self.folder)  # noqa: PTH208 - a tenth of the time
                if self.folder.stat().st_mtime_ns == before:
                    break
        except OSError as error:
            if is_vanished(error):
                return set()
            raise storage_error(error, self.folder) from error
        return {name for name in names if name.endswith(SUFFIX) and name[0] != "."}

    def _admit(self, names: list[str]) -> None:
        """Open new shards and put their keys into the index."""
        prefixes, shards = [], []
        for name in names:
            try:
                file = ShardFile(self.folder / name)
                self._check_kind(file)
                prefixes.append(key_prefixes(file.keys()))
                shards.append(_Shard(name, file.n_rows, file.n_bytes))
            except DamagedShardError as error:
                self._rename_damaged(name, str(error))
            except FeatureStoreError:
                raise
            except OSError as error:
                if not is_vanished(error):
                    raise storage_error(error, self.folder / name) from error
        for number, shard in zip(self.index.add(prefixes), shards, strict=True):
            self.shards[number] = shard
            self._numbers[shard.name] = number

    def _check_kind(self, file: ShardFile) -> None:
        """Refuse a sound shard of another kind: never mixed, never removed."""
        if self.width is None:
            self.width = file.width
        if (file.width, file.dtype) != (self.width, self.dtype):
            raise FeatureStoreMismatchError(
                f"{str(file.path)!r} holds rows of {file.width} {file.dtype.name}, but "
                f"{self.width} {self.dtype.name} are expected in this folder. Move "
                "that file elsewhere, or use another store."
            )

    def store(self, keys, rows, metadata: Mapping[str, str]) -> int:
        """Write one durable shard and return its number."""
        name = f"{uuid.uuid4().hex}{SUFFIX}"
        content = encode_shard(keys, rows, metadata)
        publish(self.folder / name, content)
        with self.lock():
            # A thread that refreshed since has already found it.
            if name not in self._numbers:
                [number] = self.index.add([key_prefixes(keys)])
                self.shards[number] = _Shard(name, len(keys), len(content))
                self._numbers[name] = number
            return self._numbers[name]

    def locate(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return shard and row of each key, int64 (n,); the shard is -1 for none."""

        def same_keys(positions, shards, rows):
            same = np.zeros(len(positions), dtype=bool)
            for number, group in by_shard(shards, rows):
                stored = self.attempt(number, partial(ShardFile.keys, rows=rows[group]))
                if stored is not None:
                    same[group] = (stored == keys[positions[group]]).all(axis=1)
            return same

        prefixes = key_prefixes(keys)
        while True:
            n_forgotten = self.n_forgotten
            found = self.index.find(prefixes, same_keys)
            if n_forgotten == self.n_forgotten:
                return found

    def guess(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what :meth:`locate` does but for keys that share eight bytes.

        Opens no file; the check of a row tells whether the guess was right.
        """
        return self.index.find(
            key_prefixes(keys), lambda positions, _, __: positions >= 0
        )

    def attempt(self, number: int, action: Callable[[ShardFile], object]):
        """Return what an action gives on an open shard.

        None means that the shard is no longer in the index: another process merged
        it, and what replaces it has been looked up, or it is damaged and set aside.
        """
        shard = self.shards.get(number)
        if shard is None:  # another thread forgot it
            return None
        path = self.folder / shard.name
        try:
            return action(self._opened(number, path))
        except DamagedShardError as error:
            self.set_aside(number, str(error))
        except FeatureStoreError:
            raise
        except OSError as error:
            if not is_vanished(error):
                raise storage_error(error, path) from error
            self.forget(number)
            self.refresh()
        return None

    def _opened(self, number: int, path: Path) -> ShardFile:
        """Return an open shard; the one that was used longest ago is closed for it."""
        file = self._open.pop(number, None)
        if file is None:
            file = ShardFile(path)
        self._open[number] = file
        if len(self._open) > MAX_OPEN_FILES:
            with suppress(KeyError):  # another thread was faster
                self._open.popitem(last=False)
        return file

    def close_files(self) -> None:
        """Close all files."""
        self._open.clear()

    def forget(self, number: int) -> None:
        """Take a shard out of the index."""
        with self.lock():
            shard = self.shards.pop(number, None)
            if shard is None:
                return
            self.index.drop(number)
            self._open.pop(number, None)
            self._numbers.pop(shard.name, None)
            self.n_forgotten += 1

    def remove(self, number: int) -> None:
        """Remove a shard whose rows are stored elsewhere, durably."""
        with self.lock():
            if number not in self.shards:
                return
            path = self.path(number)
            self.forget(number)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(error, path) from error

    def set_aside(self, number: int, reason: str) -> None:
        """Store the intact rows of a damaged shard again, and rename it."""
        with self.lock():
            if number not in self.shards:
                return
            name = self.shards[number].name
            self._rescue(number)
            self.forget(number)
            self._rename_damaged(name, reason)

    def _rescue(self, number: int) -> None:
        """Write the intact rows of a damaged shard to a new one, if possible."""
        parts = []
        # A file too damaged to read on keeps what was read before.
        with suppress(DamagedShardError, OSError):
            file = ShardFile(self.path(number))
            parts.extend(
                (keys[intact], values[intact]) for keys, values, intact in chunks(file)
            )
        if not sum(len(keys) for keys, _ in parts):
            return
        try:
            self.store(*map(np.concatenate, zip(*parts, strict=True)), file.metadata)
        except FeatureStoreError as error:
            logger.warning("Intact rows of a damaged shard are not kept: %s", error)

    def _rename_damaged(self, name: str, reason: str) -> None:
        """Set a damaged file aside, or ignore it where it cannot be renamed."""
        path = self.folder / name
        outcome = f"set aside as {name + SET_ASIDE!r}"
        try:
            path.replace(path.with_name(name + SET_ASIDE))
        except OSError:
            self._ignored.add(name)
            outcome = "ignored by this process"
        logger.warning(
            "Shard %r is damaged: %s. It is %s; what it alone holds is not stored.",
            str(path),
            reason,
            outcome,
        )

    def remove_old_temporaries(self) -> None:
        """Remove what writers that were killed more than a day ago left."""
        for path in self.folder.glob(".*.tmp"):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - TEMPORARY_SECONDS:
                    path.unlink()

    def damaged(self) -> tuple[str, ...]:
        """Return the paths of the files that are set aside."""
        renamed = {path.name for path in self.folder.glob(f"*{SUFFIX}{SET_ASIDE}")}
        return tuple(str(self.folder / n) for n in sorted(renamed | self._ignored))


def chunks(file: ShardFile) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield keys, rows and which are intact, for all of a shard in order."""
    for start in range(0, file.n_rows, CHUNK_ROWS):
        yield file.take(np.arange(start, min(start + CHUNK_ROWS, file.n_rows)))


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
