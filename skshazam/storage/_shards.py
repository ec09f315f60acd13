"""ShardFolder: rows by 32-byte key, in immutable shards that any process may add.

No locks between processes: a shard appears whole or not at all, and equal keys hold
equal rows.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from skshazam.exceptions import FeatureStoreError, FeatureStoreMismatchError
from skshazam.storage._durable_file import make_folder, remove_old_temporaries
from skshazam.storage._shard_file import KEY_BYTES, DamagedShardError, chunks
from skshazam.storage._shard_kind import COMMIT
from skshazam.storage._shard_merging import OwnShards, compact_shards, merge_shards
from skshazam.storage._shard_reading import read_rows
from skshazam.storage._shard_set import ShardSet, logger
from skshazam.storage._store_report import ShardReport

__all__ = ["ShardFolder"]

SHARD_BYTES = 64 << 20
SHARD_ROWS = 65_536


class ShardFolder:
    """Rows of one width and dtype by 32-byte key, in a folder of immutable shards.

    Any number of processes may write, read and compact at the same time; threads may
    share one object. A pickle holds the path and no rows.

    Parameters
    ----------
    folder : path-like
        Where the shards lie; made by the first write.
    width : int or None
        Numbers in a row; None is learnt from what lies there, or from the first write.
    dtype : dtype
        float16, float32 or uint8, as stored and as returned.
    merge_every : int, default=32
        How many small shards of its own this object lets lie before it merges them.
    claim : callable, default=None
        Called without arguments before the first write; raises if the place is wrong.
    owner : str, default=None
        Whose rows these are, written into each shard; shards of another owner, which
        someone moved here, are ignored with a warning. None takes all.

    Notes
    -----
    Numbers stored as float16 are rounded to the nearest, ties to even: a relative
    error of at most 2**-11 (4.9e-4), and an absolute one of at most 2**-25 (3e-8)
    below 2**-14 (6.1e-5), where float16 is subnormal.
    """

    def __init__(
        self,
        folder,
        width: int | None,
        dtype,
        *,
        merge_every: int = 32,
        claim: Callable[[], None] | None = None,
        owner: str | None = None,
    ):
        self.folder = Path(folder)
        self.dtype = np.dtype(dtype)
        self.merge_every = merge_every
        self.claim = claim
        self._set = ShardSet(self.folder, width, self.dtype, owner)
        self._own = OwnShards(merge_every)
        self._claimed = False

    @property
    def width(self) -> int | None:
        """Numbers in a row; None while nobody has told."""
        if self._set.width is None:
            self._set.refresh(once=True)
        return self._set.width

    @width.setter
    def width(self, width: int) -> None:
        self._set.width = width

    @property
    def commit(self) -> str | None:
        """Commit of the weights behind the rows; None while no shard has told."""
        if self._set.commit is None:
            self._set.refresh(once=True)
        return self._set.commit

    def expect_commit(self, commit: str | None) -> None:
        """Refuse rows of other weights from now on.

        Parameters
        ----------
        commit : str or None
            Of the weights behind the rows; None expects nothing. Rows that were
            written without one are not refused.

        Raises
        ------
        FeatureStoreMismatchError
            Rows of another commit are known to lie there.
        """
        self._set.expect_commit(commit)

    @property
    def rows_per_shard(self) -> int:
        """Rows of a full shard: those of 64 MiB, at most 65,536."""
        row_bytes = (self.width or 1) * self.dtype.itemsize
        return max(1, min(SHARD_ROWS, SHARD_BYTES // row_bytes))

    def __reduce__(self):
        """Pickle what the constructor was given."""
        return _rebuild, (
            self.folder,
            self._set.width,
            self.dtype,
            self.merge_every,
            self.claim,
            self._set.owner,
        )

    def __repr__(self) -> str:
        return (
            f"ShardFolder({str(self.folder)!r}, {self._set.width}, {self.dtype.name!r})"
        )

    def refresh(self) -> None:
        """See what other processes have stored since; cheap when there is nothing.

        Raises
        ------
        FeatureStoreError
            The folder cannot be read, or holds a shard of a later version.
        FeatureStoreMismatchError
            It holds a shard of another width, dtype or commit.
        """
        self._set.refresh()

    def expire(self) -> None:
        """Let the next question see what other processes have stored."""
        self._set.expire()

    def write(self, keys, rows, metadata: Mapping[str, str] | None = None):
        """Store rows; they are durable when this returns.

        Parameters
        ----------
        keys : ndarray of shape (n, 32), dtype=uint8
            Keys.
        rows : ndarray of shape (n, width)
            Finite numbers, rounded to the dtype of the folder.
        metadata : dict of str to str, default=None
            Kept in the header of the shard until it is merged; "commit", the weights
            behind the rows, for ever.

        Returns
        -------
        path : Path or None
            The new shard, which may since be merged into another; None for no rows.

        Raises
        ------
        FeatureStoreMismatchError
            Keys or rows of a wrong shape or dtype, a number that the dtype cannot
            hold, or another commit than that of the rows that lie there.
        FeatureStoreError
            No room, no right to write, or a failing disk. Nothing half-written stays.
        """
        keys = _checked_keys(keys)
        self._set.refresh(once=True)
        rows = self._checked_rows(rows, len(keys))
        if not len(keys):
            return None
        metadata = dict(metadata or {})
        commit = metadata.get(COMMIT)
        self._set.expect_commit(commit)
        self._prepare()
        with self._set.lock():
            self._set.width = rows.shape[1]
            number = self._set.store(keys, rows, metadata)
            path = self._set.path(number)
            full = self.rows_per_shard
            self._merge_own(self._own.add(number, len(keys), full, commit))
        return path

    def _checked_rows(self, rows, n_keys: int) -> np.ndarray:
        """Return rows in the dtype of the folder, or say why that cannot be."""
        given = np.asarray(rows)
        if given.ndim != 2 or len(given) != n_keys or not given.shape[1]:
            raise FeatureStoreMismatchError(
                f"Rows have shape {given.shape}; {n_keys} keys need ({n_keys}, width)."
            )
        if self.width not in {None, given.shape[1]}:
            raise FeatureStoreMismatchError(
                f"Rows have {given.shape[1]} numbers; {str(self.folder)!r} holds rows "
                f"of {self.width}. Use another store."
            )
        if self.dtype.kind == "u" and given.dtype == self.dtype:
            return given
        if given.dtype.kind != "f" or self.dtype.kind != "f":
            raise FeatureStoreMismatchError(
                f"Rows have dtype {given.dtype}; {str(self.folder)!r} holds "
                f"{self.dtype.name}. Convert them first."
            )
        with np.errstate(over="ignore"):
            stored = given.astype(self.dtype, copy=False)
        if not np.isfinite(stored).all():
            raise FeatureStoreMismatchError(_why_not_finite(given, stored))
        return stored

    def _prepare(self) -> None:
        """Make the folder, once, or again if it was deleted."""
        if self._claimed and self.folder.is_dir():
            return
        if self.claim is not None:
            self.claim()
        make_folder(self.folder)
        remove_old_temporaries(self.folder)
        self._claimed = True

    def _merge_own(self, numbers: list[int]) -> None:
        """Merge small shards of this process, and then merges of merges."""
        while len(numbers) > 1:
            try:
                merged = merge_shards(self._set, numbers, self.rows_per_shard)
            except FeatureStoreError as error:
                # The write that led here has succeeded; every row is still stored.
                logger.warning("Small shards stay as they are: %s", error)
                return
            numbers = []
            for number in merged:
                shard = self._set.shards.get(number)
                if shard is not None:  # nobody has merged it since
                    numbers += self._own.add(
                        number, shard.n_rows, self.rows_per_shard, shard.commit
                    )

    def close(self) -> None:
        """Merge the small shards that this object wrote, and close all files.

        The object can be used again.
        """
        with self._set.lock():
            for numbers in self._own.take_all():
                self._merge_own(numbers)
            self._set.close_files()

    def has(self, keys) -> np.ndarray:
        """Return which keys are stored.

        Knows what this object wrote, and what others had written at the last
        :meth:`refresh`. A row that is stored can still prove damaged when read.

        Parameters
        ----------
        keys : ndarray of shape (n, 32), dtype=uint8
            Keys, in any order, repeated or not.

        Returns
        -------
        found : ndarray of shape (n,), dtype=bool
        """
        self._set.refresh(once=True)
        return self._set.locate(_checked_keys(keys))[0] >= 0

    def read(self, keys) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of keys; each is verified against its check.

        A damaged row is never returned, and counts as not found: its shard is set
        aside, and the intact rows are stored again. Without room or right to do so the
        file stays, and its intact rows are still read.

        Parameters
        ----------
        keys : ndarray of shape (n, 32), dtype=uint8
            Keys, in any order, repeated or not.

        Returns
        -------
        rows : ndarray of shape (n, width)
            In the dtype of the folder; zeros where not found. The width is 0 while
            nobody has told it.
        found : ndarray of shape (n,), dtype=bool
            Which keys have a row.

        Raises
        ------
        FeatureStoreError
            The disk or the server fails. No file is touched.
        """
        keys = _checked_keys(keys)
        self._set.refresh(once=True)
        rows = np.zeros((len(keys), self.width or 0), dtype=self.dtype)
        found = np.zeros(len(keys), dtype=bool)
        read_rows(self._set, keys, rows, found)
        return rows, found

    def report(self) -> ShardReport:
        """Return what lies in the folder now.

        Returns
        -------
        report : ShardReport
        """
        self.refresh()
        shards = list(self._set.shards.values())
        return ShardReport(
            rows=self._set.n_rows(),
            shards=len(shards),
            bytes=sum(shard.n_bytes for shard in shards),
            damaged=self._set.damaged(),
        )

    def verify(self) -> ShardReport:
        """Read every row; set damaged shards aside, and keep their intact rows.

        Returns
        -------
        report : ShardReport
            What lies in the folder afterwards.
        """
        self.refresh()
        verified: set[int] = set()
        # What is rescued from a damaged shard is a new shard, to be verified too.
        while numbers := self._set.shards.keys() - verified:
            for number in numbers:
                self._set.attempt(number, _check_all)
            verified |= numbers
        return self.report()

    def compact(self, rows_per_shard: int | None = None) -> ShardReport:
        """Merge small shards and drop duplicates, while others may read and write.

        Needs the free space of one full shard. A kill at any moment loses nothing.

        Parameters
        ----------
        rows_per_shard : int, default=None
            Rows of a full shard; those with more than half of it stay as they are,
            unless they hold duplicates. None is 64 MiB, at most 65,536 rows.

        Returns
        -------
        report : ShardReport
            What lies in the folder afterwards.
        """
        with self._set.lock():
            self.refresh()
            self._own.take_all()
            if self._set.shards:
                remove_old_temporaries(self.folder)
                compact_shards(self._set, rows_per_shard or self.rows_per_shard)
            self._set.close_files()
        return self.report()


def _rebuild(folder, width, dtype, merge_every, claim, owner) -> ShardFolder:
    """Return the folder that a pickle describes."""
    return ShardFolder(
        folder, width, dtype, merge_every=merge_every, claim=claim, owner=owner
    )


def _checked_keys(keys) -> np.ndarray:
    """Return keys as contiguous uint8 (n, 32)."""
    given = np.asarray(keys)
    if given.dtype != np.uint8 or given.ndim != 2 or given.shape[1] != KEY_BYTES:
        raise FeatureStoreMismatchError(
            f"Keys have shape {given.shape} and dtype {given.dtype}; expected "
            f"(n, {KEY_BYTES}) and uint8."
        )
    return np.ascontiguousarray(given)


def _why_not_finite(given: np.ndarray, stored: np.ndarray) -> str:
    """Return what is wrong with numbers that cannot be stored."""
    if not np.isfinite(given).all():
        return (
            "Rows hold NaN or infinity, which no feature is; store only the rows of "
            "images that could be read."
        )
    worst = np.abs(given[~np.isfinite(stored)]).max()
    return (
        f"Rows hold {worst:.6g}, and {stored.dtype.name} ends at "
        f"{np.finfo(stored.dtype).max:.6g}. Use FeatureStore(path, dtype='float32')."
    )


def _check_all(file) -> bool:
    """Read a whole shard, or say that a row is damaged."""
    for _, _, intact in chunks(file):
        if not intact.all():
            raise DamagedShardError("a row fails its check")
    return True
