"""What a store holds, in numbers."""

from dataclasses import dataclass

__all__ = ["ShardReport", "StoreInfo", "StoredTeacher"]


@dataclass(frozen=True)
class ShardReport:
    """What lies in a folder of shards.

    Parameters
    ----------
    rows : int
        Rows, duplicates counted.
    shards : int
        Files.
    bytes : int
        Their size together.
    damaged : tuple of str, default=()
        Paths of the files that were set aside (``*.damaged``), or had to stay.
    """

    rows: int
    shards: int
    bytes: int
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredTeacher:
    """What a store holds of one teacher in one dtype.

    Parameters
    ----------
    fingerprint : str
        The identity of the teacher.
    name : str
        Its name, or "" if nobody has described it.
    dim : int or None
        Length of its vectors; None while nothing is stored.
    dtype : str
        As stored.
    rows : int
        Stored vectors, duplicates counted.
    shards : int
        Files.
    bytes : int
        Their size together.
    damaged : tuple of str, default=()
        Paths of the files that were set aside (``*.damaged``), or had to stay.
    commit : str or None, default=None
        Of the weights, if they are from the Hub.
    """

    fingerprint: str
    name: str
    dim: int | None
    dtype: str
    rows: int
    shards: int
    bytes: int
    damaged: tuple[str, ...] = ()
    commit: str | None = None


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds.

    Parameters
    ----------
    path : str
        The folder of the store.
    teachers : tuple of StoredTeacher
        One entry per teacher and dtype, by name.
    files : ShardReport
        The index that knows unchanged files without reading them.
    """

    path: str
    teachers: tuple[StoredTeacher, ...]
    files: ShardReport

    @property
    def damaged(self) -> tuple[str, ...]:
        """Paths of all files that were set aside, or had to stay."""
        reports = (*self.teachers, self.files)
        return tuple(path for report in reports for path in report.damaged)
