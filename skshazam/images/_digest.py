"""The identity of an image: a digest of its content, wherever it lies.

Encoded images (files, bytes) count by their bytes; arrays and opened images by their
pixels. Re-encoding an image makes another one: its decoded pixels may differ.
"""

import hashlib
import os
import time

import numpy as np

__all__ = ["DIGEST_SIZE", "digest_of_encoded", "digest_of_pixels", "file_key"]

DIGEST_SIZE = 32

# A file may be written twice within one tick of the file system's clock, so that its
# stat cannot tell the two apart. Some clocks tick in steps of two seconds.
SETTLED_AFTER_NS = 3_000_000_000


def digest_of_encoded(data: bytes) -> bytes:
    """Return the digest of an encoded image.

    Parameters
    ----------
    data : bytes-like
        The content of an image file.

    Returns
    -------
    digest : bytes of length 32
    """
    return hashlib.sha256(data).digest()


def digest_of_pixels(pixels: np.ndarray) -> bytes:
    """Return the digest of decoded pixels; never that of an encoded image.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), dtype=uint8
        RGB values.

    Returns
    -------
    digest : bytes of length 32
    """
    digest = hashlib.sha256(f"pixels {pixels.shape}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def file_key(path: str | os.PathLike) -> bytes | None:
    """Return a key that changes whenever a file's content may have.

    Parameters
    ----------
    path : str or path-like
        A file. Nothing of it is read.

    Returns
    -------
    key : bytes of length 32, or None
        From absolute path, size, inode and times of change. None if there is no such
        file, or if it changed so recently that a second change could go unnoticed.
    """
    try:
        stat = os.stat(path)  # noqa: PTH116 - a Path object costs more than the call
    except (OSError, ValueError):
        return None
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
    # A time ahead of this machine's clock says nothing about the next change either.
    if time.time_ns() - changed < SETTLED_AFTER_NS:
        return None
    facts = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    name = os.fsencode(os.path.abspath(path))  # noqa: PTH100 - as above
    return hashlib.sha256(repr(facts).encode() + b"\n" + name).digest()
