"""ShardSet: which shards a folder holds, where their keys lie, and which are open.

Follows what other processes add and remove, and sets damaged files aside.
"""

import logging
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from skshazam.exceptions import FeatureStoreError, FeatureStoreMismatchError
from skshazam.storage._durable_file import is_vanished, publish, storage_error
from skshazam.storage._key_index import KeyIndex, by_shard, key_prefixes
from skshazam.storage._shard_file import (
    DamagedShardError,
    ShardFile,
    chunks,
    encode_shard,
)
from skshazam.storage._shard_kind import COMMIT, OWNER, agreed_kind

__all__ = ["ShardSet", "logger"]

SUFFIX = ".safetensors"
SET_ASIDE = ".damaged"
MAX_OPEN_FILES = 32  # of 1024 that a process may have, for each teacher

logger = logging.getLogger("skshazam")


@dataclass(frozen=True)
class _Shard:
    """A shard in the index."""

    name: str
    n_rows: int
    n_bytes: int
    commit: str | None


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
    owner : str, default=None
        Whose rows these are; shards of another owner are ignored. None takes all.

    Attributes
    ----------
    shards : dict of int to _Shard
        What is in the index, by its number there.
    commit : str or None
        Of the weights behind the rows, where shards say so; never two in one folder.
    n_forgotten : int
        Grows whenever a shard leaves the index.
    """

    def __init__(
        self,
        folder: Path,
        width: int | None,
        dtype: np.dtype,
        owner: str | None = None,
    ):
        self.folder = folder
        self.owner = owner
        self.width, self._told_width = width, width
        self.dtype = dtype
        self.commit: str | None = None
        self.index = KeyIndex()
        self.shards: dict[int, _Shard] = {}
        self.n_forgotten = 0
        self._numbers: dict[str, int] = {}
        self._open: OrderedDict[int, ShardFile] = OrderedDict()
        self._ignored: set[str] = set()  # foreign; or damaged, and not renamed
        self._damaged_rows: dict[int, np.ndarray] = {}  # of shards that had to stay
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
            self._ignored &= names
            gone = self._numbers.keys() - names
            # Merged by another process, or deleted and made anew for another kind.
            renewed = bool(gone) and len(gone) == len(self._numbers)
            new = sorted(names - self._numbers.keys() - self._ignored)
            self._admit(new, relearn=renewed)
            # Only now: another thread finds a row in what went or in what came.
            for name in gone:
                self.forget(self._numbers[name])
            self._scanned = True

    def expire(self) -> None:
        """Let the next question look into the folder again."""
        self._scanned = False

    def expect_commit(self, commit: str | None) -> None:
        """Refuse shards of other weights from now on; None expects nothing."""
        if commit in {None, self.commit}:
            return
        with self.lock():
            if self.commit is not None:
                self.refresh()  # or the shards that said so are gone
            held = {shard.commit for shard in self.shards.values()} - {None, commit}
            if held:
                raise FeatureStoreMismatchError(
                    f"{str(self.folder)!r} holds features of commit {min(held)}, and "
                    f"those of commit {commit} are expected there. If two stores of "
                    "different weights were copied into one, move the files elsewhere "
                    f"that `grep -l {min(held)} {self.folder}/*{SUFFIX}` lists; else "
                    f"use another store, or pin the teacher with 'name@{min(held)}'."
                )
            self.commit = commit

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

    def _admit(self, names: list[str], *, relearn: bool) -> None:
        """Open new shards of one kind and put their keys into the index."""
        prefixes, shards = [], []
        kind = (self._told_width, None) if relearn else (self.width, self.commit)
        for name in names:
            try:
                file = ShardFile(self.folder / name)
                if self.owner not in {None, file.metadata.get(OWNER)}:
                    self._ignore_foreign(name)
                    continue
                kind = agreed_kind(file, *kind, self.dtype)
                prefixes.append(key_prefixes(file.keys()))
                commit = file.metadata.get(COMMIT)
                shards.append(_Shard(name, file.n_rows, file.n_bytes, commit))
            except DamagedShardError as error:
                self._rename_damaged(name, str(error))
            except FeatureStoreError:
                raise
            except OSError as error:
                if not is_vanished(error):
                    raise storage_error(error, self.folder / name) from error
        self.width, self.commit = kind
        for number, shard in zip(self.index.add(prefixes), shards, strict=True):
            self.shards[number] = shard
            self._numbers[shard.name] = number

    def _ignore_foreign(self, name: str) -> None:
        """Leave a shard alone that was written for another folder."""
        self._ignored.add(name)
        logger.warning(
            "Shard %r was written for another teacher or store folder, and is ignored. "
            "Move it back to where it came from, or delete it.",
            str(self.folder / name),
        )

    def store(self, keys, rows, metadata: Mapping[str, str]) -> int:
        """Write one durable shard and return its number."""
        name = f"{uuid.uuid4().hex}{SUFFIX}"
        if self.owner is not None:
            metadata = {**metadata, OWNER: self.owner}
        content = encode_shard(keys, rows, metadata)
        publish(self.folder / name, content)
        with self.lock():
            # A thread that refreshed since has already found it.
            if name not in self._numbers:
                [number] = self.index.add([key_prefixes(keys)])
                commit = metadata.get(COMMIT)
                self.shards[number] = _Shard(name, len(keys), len(content), commit)
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
                damaged = self._damaged_rows.get(number)
                if damaged is not None:
                    same[group] &= ~np.isin(rows[group], damaged)
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
            self._forget_vanished(number)
        return None

    def _forget_vanished(self, number: int) -> None:
        """Learn what replaces a shard that is gone, and then forget it."""
        self.refresh()
        self.forget(number)  # even if a listing still shows it

    def _opened(self, number: int, path: Path) -> ShardFile:
        """Return an open shard; the one that was used longest ago is closed for it."""
        file = self._open.pop(number, None)
        if file is None:
            file = self._sound(number, path)
        self._open[number] = file
        if len(self._open) > MAX_OPEN_FILES:
            with suppress(KeyError):  # another thread was faster
                self._open.popitem(last=False)
        return file

    def _sound(self, number: int, path: Path) -> ShardFile:
        """Return a shard, opened anew; its header must say what it did before."""
        file = ShardFile(path)
        known = self.shards.get(number)
        if known is not None and (file.n_rows, file.width, file.dtype) != (
            known.n_rows,
            self.width,
            self.dtype,
        ):
            raise DamagedShardError("it holds other tensors than before")
        return file

    def close_files(self) -> None:
        """Close all files."""
        self._open.clear()

    def forget(self, number: int) -> None:
        """Take a shard out of the index."""
        with self.lock():
            if number not in self.shards:
                return
            # First: a search that misses the shard must know that one was forgotten.
            self.n_forgotten += 1
            shard = self.shards.pop(number)
            self.index.drop(number)
            self._open.pop(number, None)
            self._damaged_rows.pop(number, None)
            self._numbers.pop(shard.name, None)

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
        """Store the intact rows of a damaged shard again, and rename it.

        Where that is impossible the file stays, and only its damaged rows are ignored.
        """
        with self.lock():
            shard = self.shards.get(number)
            if shard is None:
                return
            intact = np.zeros(shard.n_rows, dtype=bool)
            try:
                self._rescue(number, intact)
            except FeatureStoreError as error:
                self._leave_damaged(number, intact, reason, error)
                return
            except OSError as error:
                if not is_vanished(error):
                    raise storage_error(error, self.path(number)) from error
                self._forget_vanished(number)
                return
            self.forget(number)
            self._rename_damaged(shard.name, reason)

    def _rescue(self, number: int, intact: np.ndarray) -> None:
        """Write the intact rows of a damaged shard to a new one; fill in which."""
        parts = []
        end = 0
        # A file too damaged to read on keeps what was read before.
        with suppress(DamagedShardError):
            file = self._sound(number, self.path(number))
            for keys, values, sound in chunks(file):
                start, end = end, end + len(sound)
                intact[start:end] = sound
                parts.append((keys[sound], values[sound]))
        if intact.any():
            self.store(*map(np.concatenate, zip(*parts, strict=True)), file.metadata)

    def _leave_damaged(
        self, number: int, intact: np.ndarray, reason: str, error: OSError
    ) -> None:
        """Ignore the damaged rows of a shard whose intact rows it alone can hold."""
        self._damaged_rows[number] = np.flatnonzero(~intact)
        self._open.pop(number, None)
        logger.warning(
            "Shard %r is damaged: %s. Its intact rows could not be stored elsewhere, "
            "so it stays where it is; this process ignores %d of its %d rows. %s",
            str(self.path(number)),
            reason,
            (~intact).sum(),
            len(intact),
            error,
        )

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

    def n_rows(self) -> int:
        """Return how many rows can be read, duplicates counted."""
        n_damaged = sum(map(len, self._damaged_rows.values()))
        return sum(shard.n_rows for shard in self.shards.values()) - n_damaged

    def damaged(self) -> tuple[str, ...]:
        """Return the paths of the files that are set aside, or had to stay."""
        names = {path.name for path in self.folder.glob(f"*{SUFFIX}{SET_ASIDE}")}
        names |= self._ignored
        names |= {self.shards[number].name for number in self._damaged_rows}
        return tuple(str(self.folder / name) for name in sorted(names))
