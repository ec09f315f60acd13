"""What the shards of one folder have in common, and a refusal of what differs."""

import numpy as np

from skshazam.exceptions import FeatureStoreMismatchError
from skshazam.storage._shard_file import ShardFile

__all__ = ["COMMIT", "OWNER", "agreed_kind"]

# In the metadata of a shard.
COMMIT = "commit"
OWNER = "owner"


def agreed_kind(
    file: ShardFile, width: int | None, commit: str | None, dtype: np.dtype
) -> tuple[int, str | None]:
    """Return width and commit with those of one shard more.

    A sound shard of another kind is refused: never mixed, never removed.

    Parameters
    ----------
    file : ShardFile
        One shard more.
    width : int or None
        Of the shards before; None is not known yet.
    commit : str or None
        Of the weights behind the rows; None is not known yet.
    dtype : dtype
        Of the folder.

    Returns
    -------
    width : int
    commit : str or None

    Raises
    ------
    FeatureStoreMismatchError
        Width, dtype or commit differ.
    """
    width = file.width if width is None else width
    if (file.width, file.dtype) != (width, dtype):
        raise FeatureStoreMismatchError(
            f"{str(file.path)!r} holds rows of {file.width} {file.dtype.name}, but "
            f"{width} {dtype.name} are expected in this folder. Move that file "
            "elsewhere, or use another store."
        )
    given = file.metadata.get(COMMIT)
    if None not in {given, commit} and given != commit:
        raise FeatureStoreMismatchError(
            f"{str(file.path)!r} holds features of commit {given}, but those of "
            f"commit {commit} are expected in this folder: two stores of different "
            "weights were copied into one. Move the files elsewhere that "
            f"`grep -l {given} {file.path.parent}/*{file.path.suffix}` lists."
        )
    return width, given if commit is None else commit
