"""Reading and writing files of features: damage has a name, nothing is half there."""

import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from skshazam.exceptions import FeatureFileError, MissingDependencyError
from skshazam.exchange._feature_file import FeatureFile, wrong_shape
from skshazam.exchange._file_formats import FORMATS, FileFormat
from skshazam.storage._durable_file import sync_folder

__all__ = ["feature_file_shape", "read_feature_file", "write_feature_file"]

# The attribute that holds a checksum of the numbers.
CHECKSUM = "crc32"


def read_feature_file(path: str | os.PathLike) -> FeatureFile:
    """Read features that another program, or skshazam, wrote.

    Parameters
    ----------
    path : path-like
        ``.h5`` or ``.hdf5``: datasets ``features`` (n, dim) and ``coords`` (n, 2), as
        TRIDENT and CLAM write them. ``.npz``: the same as arrays; nothing is unpickled.
        ``.pt`` or ``.pth``: a tensor (n, dim), as CLAM writes it; a dict of the above;
        or a tuple of one such tensor and labels, which are left out. It is read with
        ``torch.load(weights_only=True)``. A leading axis of length 1 is dropped.

    Returns
    -------
    file : FeatureFile
        An empty slide has features of shape (0, dim), and (0, 0) where the file does
        not tell dim.

    Raises
    ------
    FeatureFileError
        The file is missing, damaged, of another layout, or holds NaN.
    MissingDependencyError
        It is an HDF5 file, and h5py is not installed.

    Notes
    -----
    Files with ``digests`` that skshazam wrote hold a checksum, by which damaged numbers
    are noticed. In others', damage that leaves numbers finite can go unseen. Attributes
    of HDF5 that are texts of variable length are left out: where such a file is
    damaged, HDF5's library may never return from reading them.
    """
    path = Path(path)
    with _reading(path) as file_format:
        entries = file_format.read(path)
        for name in ("features", "coords"):
            entries[name] = _without_leading_axis(entries.get(name))
        return _verified(FeatureFile(**entries))


def feature_file_shape(path: str | os.PathLike) -> tuple[int, int]:
    """Return the shape of the features in a file, of HDF5 without reading them.

    Parameters
    ----------
    path : path-like
        As for :func:`read_feature_file`.

    Returns
    -------
    n, dim : int
        Tiles, and numbers a tile; (0, 0) if the file holds no tile and not their dim.

    Raises
    ------
    FeatureFileError
        As :func:`read_feature_file`.
    """
    path = Path(path)
    with _reading(path) as file_format:
        shape = file_format.shape(path)
        shape = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
        if shape == (0,):
            return 0, 0
        if len(shape) != 2:
            raise FeatureFileError(wrong_shape(shape))
        return shape[0], shape[1]


def write_feature_file(
    path: str | os.PathLike, file: FeatureFile, *, overwrite: bool = False
) -> None:
    """Write features for other programs; the file is there whole, or not at all.

    Parameters
    ----------
    path : path-like
        Ends in ``.h5``, ``.hdf5``, ``.npz``, ``.pt`` or ``.pth``, which says how.
        HDF5 files hold ``features`` and ``coords`` as TRIDENT and CLAM read them, the
        attributes on ``coords``. A ``.pt`` file is a tensor if there is nothing but
        features, else a dict.
    file : FeatureFile
        What to write.
    overwrite : bool, default=False
        Whether a file of that name is replaced.

    Raises
    ------
    FeatureFileError
        There is such a file already, no such format, or no room.
    MissingDependencyError
        It is an HDF5 file, and h5py is not installed.
    """
    path = Path(path)
    file_format = _format_of(path)
    if not overwrite and path.exists():
        raise FeatureFileError(_already_there(path))
    if file.digests is not None:
        facts = {**file.attributes, CHECKSUM: _checksum(file)}
        file = replace(file, attributes=facts)
    with _written_whole(path, overwrite) as temporary:
        file_format.write(temporary, file)


def _format_of(path: Path) -> FileFormat:
    """Return how a file is read and written, from its name."""
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise FeatureFileError(
            f"{str(path)!r} ends in {path.suffix!r}; expected one of "
            f"{', '.join(FORMATS)}. Rename it after what it holds."
        )
    return file_format


def _checksum(file: FeatureFile) -> int:
    """Return a checksum of the numbers in a file."""
    checksum = 0
    for array in (file.features, file.coords, file.digests):
        if array is not None:
            checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
    return checksum


def _verified(file: FeatureFile) -> FeatureFile:
    """Return a file whose numbers are those that were written."""
    facts = dict(file.attributes)
    if facts.pop(CHECKSUM, None) not in {None, _checksum(file)}:
        raise FeatureFileError(
            "its numbers are not those that were written: the checksum differs. Copy "
            f"or export it again; if you changed them, delete the attribute {CHECKSUM}."
        )
    return replace(file, attributes=facts)


@contextmanager
def _reading(path: Path) -> Iterator[FileFormat]:
    """Name the file in whatever is found wrong with it."""
    file_format = _format_of(path)
    if not path.is_file():
        raise FeatureFileError(
            f"No file at {str(path)!r} (working directory {str(Path.cwd())!r}). Pass "
            "an existing path."
        )
    try:
        yield file_format
    except MissingDependencyError:
        raise
    except FeatureFileError as error:
        raise FeatureFileError(f"Cannot use {str(path)!r}: {error}") from error
    except Exception as error:  # damaged files raise nearly anything
        raise FeatureFileError(
            f"Cannot read {str(path)!r} as {file_format.name}: "
            f"{type(error).__name__}: {error}. Copy or write the file again."
        ) from error


@contextmanager
def _written_whole(path: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a name to write to; the file gets its own name when it is durable."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            _rename_to_new(temporary, path)
        sync_folder(path.parent)
    except FileExistsError as error:
        raise FeatureFileError(_already_there(path)) from error
    # HDF5 tells of a full disk by a RuntimeError, too.
    except (OSError, RuntimeError) as error:
        if isinstance(error, FeatureFileError):
            raise
        raise FeatureFileError(
            f"Cannot write {str(path)!r}: {error}. Nothing was left there. Free space, "
            "or pass a path in an existing folder that you may write to."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Give a file its name, or raise FileExistsError; never replace another."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError from None
        temporary.replace(path)


def _already_there(path: Path) -> str:
    """Return the message for a file that would be replaced."""
    return (
        f"There is a file at {str(path)!r} already, and it is kept. Pass another path, "
        "or overwrite=True (--overwrite) to replace it."
    )


def _without_leading_axis(array):
    """Return an array (1, n, d) as (n, d), and any other as it is."""
    if getattr(array, "ndim", None) == 3 and array.shape[0] == 1:
        return array[0]
    return array
