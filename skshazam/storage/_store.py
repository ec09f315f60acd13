"""FeatureStore: which folders a store of features has, and what they are about.

One folder per teacher fingerprint and dtype; knows fingerprints as plain strings.
"""

import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from skshazam.exceptions import FeatureStoreError, FeatureStoreMismatchError
from skshazam.storage._durable_file import (
    make_folder,
    publish,
    remove_old_temporaries,
    storage_error,
)
from skshazam.storage._open_folders import OPEN_FOLDERS
from skshazam.storage._shard_file import KEY_BYTES
from skshazam.storage._shard_set import logger
from skshazam.storage._shards import ShardFolder
from skshazam.storage._store_report import StoredTeacher, StoreInfo
from skshazam.storage._teacher_facts import check_facts, read_json, to_json

__all__ = ["FeatureStore"]

FORMAT = 1
MARKER = "skshazam-store.json"
FACTS = "teacher.json"
DTYPES = ("float16", "float32")


class FeatureStore:
    """A folder of features that any number of processes may fill and read.

    The constructor touches no file; the folder is made by the first write. Two stores
    are equal if path and dtype are.

    Parameters
    ----------
    path : path-like
        The folder. "~" is the home folder.
    dtype : {"float16", "float32"}, default="float16"
        How features are stored. float16 takes half the space and rounds to the
        nearest: a relative error of at most 2**-11 (4.9e-4), and an absolute one of
        at most 3e-8 below 6.1e-5. Each dtype has its own folders: what is stored in
        one is not seen by the other.

    Raises
    ------
    FeatureStoreMismatchError
        `dtype` is neither.

    Notes
    -----
    ``<path>/skshazam-store.json`` says that the folder is a store;
    ``teachers/<fingerprint>/teacher.json`` what a teacher is;
    ``teachers/<fingerprint>/<dtype>/*.safetensors`` are its features, and
    ``files/*.safetensors`` the index of files. Shards never change, so a store can be
    copied with ``cp`` or ``rsync`` while it is in use, and two stores merged by copying
    one over the other, if :meth:`info` shows the same commits. Shards remember theirs:
    a teacher of which two lie in one folder is refused, whoever reads it.

    Stores of one path share in a process what they know of it; for the others' rows,
    each looks again.

    Examples
    --------
    >>> from skshazam.features import FeatureStore
    >>> FeatureStore("features") == FeatureStore("features", dtype="float32")
    False
    """

    def __init__(self, path, *, dtype: str = "float16"):
        if dtype not in DTYPES:
            raise FeatureStoreMismatchError(
                f"FeatureStore(dtype={dtype!r}): expected one of {DTYPES}."
            )
        self.path = Path(path).expanduser()
        self.dtype = dtype
        self._folders: dict[str, ShardFolder] = {}

    def __reduce__(self):
        """Pickle and copy path and dtype, and nothing that was read."""
        return _rebuild, (str(self.path), self.dtype)

    def __eq__(self, other) -> bool:
        if not isinstance(other, FeatureStore):
            return NotImplemented
        return (self.path, self.dtype) == (other.path, other.dtype)

    def __hash__(self) -> int:
        return hash((self.path, self.dtype))

    def __repr__(self) -> str:
        dtype = "" if self.dtype == DTYPES[0] else f", dtype={self.dtype!r}"
        return f"FeatureStore({str(self.path)!r}{dtype})"

    @classmethod
    def of(cls, store) -> "FeatureStore":
        """Return a store as it is, or the float16 store at a path.

        Parameters
        ----------
        store : FeatureStore or path-like
            A store or its path.

        Returns
        -------
        store : FeatureStore
        """
        return store if isinstance(store, cls) else cls(store)

    def rows(self, fingerprint: str, dim: int | None = None) -> ShardFolder:
        """Return the stored features of a teacher.

        Parameters
        ----------
        fingerprint : str
            The identity of the teacher.
        dim : int, default=None
            Length of its vectors; None is learnt from what is stored.

        Returns
        -------
        rows : ShardFolder
            The same object each time.

        Raises
        ------
        FeatureStoreMismatchError
            The store is of a later version, holds vectors of another length, or of
            other weights than it says.
        """
        teacher = self._teacher(fingerprint)
        folder = self._folder(teacher / self.dtype, None, self.dtype, fingerprint)
        commit = (read_json(teacher / FACTS) or {}).get("commit")
        folder.expect_commit(commit if isinstance(commit, str) else None)
        if dim is not None and folder.width not in {None, dim}:
            folder.refresh()  # or what was known is gone
        if dim not in {None, folder.width}:
            if folder.width is not None:
                raise FeatureStoreMismatchError(
                    f"Teacher {fingerprint!r} has vectors of {dim} numbers, and "
                    f"{str(self.path)!r} holds vectors of {folder.width}. Use another "
                    "store."
                )
            folder.width = dim
        return folder

    @property
    def files(self) -> ShardFolder:
        """The index of files: identity of path and stat to digest, both 32 bytes."""
        return self._folder(self.path / "files", KEY_BYTES, "uint8", "files")

    def _folder(
        self, path: Path, width: int | None, dtype: str, owner: str
    ) -> ShardFolder:
        """Return the one object for a folder."""
        key = os.path.abspath(path)  # noqa: PTH100 - links stay as they are
        if key not in self._folders:
            self._check_format()
            root = os.path.abspath(self.path)  # noqa: PTH100
            claim = type(self)(root, dtype=self.dtype)._claim
            self._folders[key] = OPEN_FOLDERS.folder(
                root,
                key,
                lambda: ShardFolder(key, width, dtype, claim=claim, owner=owner),
            )
        return self._folders[key]

    def _teacher(self, fingerprint: str) -> Path:
        """Return the folder of a teacher; a fingerprint must be a plain name."""
        if not re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z_.@+-]{0,199}", fingerprint):
            raise FeatureStoreMismatchError(
                f"Fingerprint {fingerprint!r} cannot name a folder; expected letters, "
                "digits, and _ . @ + -."
            )
        return self.path / "teachers" / fingerprint

    def _check_format(self) -> bool:
        """Return whether the folder is a store; refuse one of a later version."""
        marker = self.path / MARKER
        content = read_json(marker)
        if content is None:
            return False
        version = content.get("format")
        if type(version) is not int or version < 1:
            raise FeatureStoreError(
                f"{str(marker)!r} does not say which format the store has. Write "
                f'{{"format": {FORMAT}}} into it if the store was made by this version.'
            )
        if version > FORMAT:
            raise FeatureStoreMismatchError(
                f"The store {str(self.path)!r} has format {version}; this version of "
                f"skshazam knows up to {FORMAT}. Update: pip install -U skshazam."
            )
        return True

    def _claim(self) -> None:
        """Make the folder a store, unless it is full of something else."""
        make_folder(self.path)
        try:
            # Listed before the marker is looked for: a second process may be at it.
            strangers = [n for n in os.listdir(self.path) if n[0] != "."]  # noqa: PTH208
        except OSError as error:
            raise storage_error(error, self.path) from error
        if self._check_format():
            return
        if set(strangers) - {"lost+found"}:
            raise FeatureStoreMismatchError(
                f"{str(self.path)!r} holds {min(strangers)!r} and no {MARKER}: it is "
                "not a store. Pass an empty or new folder, such as "
                f"{str(self.path / 'features')!r}."
            )
        publish(self.path / MARKER, to_json({"format": FORMAT}), overwrite=False)

    def check_writable(self) -> None:
        """Refuse a store that cannot be written, before hours of computing.

        Makes the folder, and writes and removes a small file in it, which
        :meth:`compact` sweeps up if the process is killed meanwhile.

        Raises
        ------
        FeatureStoreError
            No right to write there, no room, or no folder.
        FeatureStoreMismatchError
            The folder holds something else, or a store of a later version.
        """
        self._claim()
        probe = self.path / f".{uuid.uuid4().hex}.probe"
        try:
            publish(probe, b"skshazam")
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)

    def describe(self, fingerprint: str, facts: Mapping) -> None:
        """Say what a teacher is; the first word stands.

        Parameters
        ----------
        fingerprint : str
            The identity of the teacher.
        facts : dict
            What JSON can hold: "name", "dim", "commit", ... A fact that was None, or
            missing, is filled in.

        Raises
        ------
        FeatureStoreMismatchError
            "dim" or "commit" differ from what the store was filled with.
        FeatureStoreError
            The store cannot be written.
        """
        path = self._teacher(fingerprint) / FACTS
        facts = dict(facts)
        known = read_json(path)
        if known == {}:
            logger.warning("%r is not readable; it is written anew.", str(path))
        held = (known or {}).get("commit")
        if held is None and (not known or facts.get("commit") is not None):
            held = self._commit_of_rows(fingerprint)
        check_facts({**(known or {}), "commit": held}, facts, self.path)
        if known is None:
            self._claim()
            make_folder(path.parent)
            stated = {**facts, "commit": held} if held else facts
            if publish(path, to_json(stated), overwrite=False):
                return
            known = read_json(path) or {}
            check_facts(known, facts, self.path)
        stated = {**known, "commit": held} if held else known
        merged = {**facts, **{k: v for k, v in stated.items() if v is not None}}
        if merged != known:
            self._claim()
            publish(path, to_json(merged))

    def _commit_of_rows(self, fingerprint: str) -> str | None:
        """Return the commit that shards of a teacher, of any dtype, remember."""
        teacher = self._teacher(fingerprint)
        folders = [(teacher / dtype, dtype) for dtype in DTYPES]
        held = [
            self._folder(path, None, dtype, fingerprint).commit
            for path, dtype in folders
            if path.is_dir()
        ]
        return next(filter(None, held), None)

    def teachers(self) -> dict[str, dict]:
        """Return the facts of each teacher that the store knows.

        Returns
        -------
        facts : dict of str to dict
            By fingerprint; empty for one that nobody has described.
        """
        self._check_format()
        root = self.path / "teachers"
        try:
            found = sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise storage_error(error, root) from error
        return {p.name: read_json(p / FACTS) or {} for p in found}

    def info(self) -> StoreInfo:
        """Return what the store holds.

        Returns
        -------
        info : StoreInfo
        """
        return self._survey(ShardFolder.report)

    def verify(self) -> StoreInfo:
        """Read every row, and set damaged shards aside; their intact rows stay.

        Returns
        -------
        info : StoreInfo
            What the store holds afterwards.
        """
        return self._survey(ShardFolder.verify)

    def compact(self) -> StoreInfo:
        """Merge small shards and drop duplicates, while others may read and write.

        Returns
        -------
        info : StoreInfo
            What the store holds afterwards.

        Raises
        ------
        FeatureStoreError
            No right to write, or no room; nothing is lost.
        """
        found = self._survey(ShardFolder.compact)
        if self._check_format():
            teachers = map(self._teacher, self.teachers())
            for folder in (self.path, self.path / "teachers", *teachers):
                remove_old_temporaries(folder)
        return found

    def close(self) -> None:
        """Merge the small shards that this process wrote, and close all files."""
        for folder in list(self._folders.values()):
            folder.close()

    def _survey(self, visit) -> StoreInfo:
        """Visit every folder of shards, whatever its dtype, and collect the reports."""
        entries = []
        for fingerprint, facts in self.teachers().items():
            for dtype in DTYPES:
                path = self._teacher(fingerprint) / dtype
                if path.is_dir():
                    folder = self._folder(path, None, dtype, fingerprint)
                    report = visit(folder)
                    entries.append(
                        StoredTeacher(
                            fingerprint=fingerprint,
                            name=str(facts.get("name") or ""),
                            dim=folder.width,
                            dtype=dtype,
                            commit=folder.commit or facts.get("commit"),
                            **vars(report),
                        )
                    )
        entries.sort(key=lambda entry: (entry.name, entry.fingerprint, entry.dtype))
        return StoreInfo(str(self.path), tuple(entries), visit(self.files))


def _rebuild(path: str, dtype: str) -> FeatureStore:
    """Return the store that a pickle describes."""
    return FeatureStore(path, dtype=dtype)
