"""A file becomes visible whole and durable, or not at all; errors have remedies."""

import errno
import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

from skshazam.exceptions import FeatureStoreError

__all__ = [
    "is_vanished",
    "make_folder",
    "publish",
    "remove_old_temporaries",
    "storage_error",
]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
NO_PLACE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
}
# What a killed process left: no write takes as long.
TEMPORARY_SECONDS = 24 * 3600


def storage_error(error: OSError, path: Path) -> FeatureStoreError:
    """Return the typed error for what the operating system said about a path."""
    reason = f"{str(path)!r}: {error.strerror or error}."
    if error.errno in FULL:
        return FeatureStoreError(
            f"No room to write {reason} {_free_bytes(path)} bytes are free. What is "
            "stored is kept. 1. Free space or raise the quota there, and run again: it "
            "continues. 2. Or copy the store to a larger disk and pass that path. "
            "3. `skshazam store compact` gives back the space of duplicate rows, if "
            "there is room for one shard more, of up to 67 MiB."
        )
    if error.errno in READ_ONLY:
        return FeatureStoreError(
            f"The feature store may not be used at {reason} What is stored is kept. "
            "1. Ask for the right to it, or copy the store to a folder of yours and "
            "pass that path. 2. TeacherFeatureTransformer(store=None) computes "
            "without a store."
        )
    if error.errno in NO_PLACE:
        return FeatureStoreError(
            f"A feature store cannot be at {reason} Pass a folder that exists, or one "
            "that `mkdir -p` can make."
        )
    return FeatureStoreError(
        f"The feature store failed at {reason} What is stored is kept. Check the disk "
        "or the mount, and run again: it continues."
    )


def _free_bytes(path: Path) -> str:
    """Return the free space of the nearest folder that exists, as text."""
    for folder in (path, *path.parents):
        with suppress(OSError):
            return f"{shutil.disk_usage(folder).free:,}"
    return "An unknown number of"


def is_vanished(error: OSError) -> bool:
    """Return whether a file is gone, here or on a file server."""
    return error.errno in {errno.ENOENT, errno.ESTALE}


def publish(path: Path, content: bytes, *, overwrite: bool = True) -> bool:
    """Make a file visible whole and durable, or not at all.

    Returns False, and leaves the file alone, if it exists and `overwrite` is False.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not overwrite:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                if path.exists():
                    return False
                temporary.replace(path)
        else:
            temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return True


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably."""
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, folder) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where folders can be synchronised."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(descriptor)


def remove_old_temporaries(folder: Path) -> None:
    """Remove what writers that were killed more than a day ago left in a folder."""
    for pattern in (".*.tmp", ".*.probe"):
        for path in folder.glob(pattern):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - TEMPORARY_SECONDS:
                    path.unlink()
