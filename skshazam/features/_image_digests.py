"""image_digests: by which keys a store knows images; no image is decoded for it."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from skshazam.exceptions import ImageReadError
from skshazam.features._progress import progress_bar
from skshazam.images import read_image
from skshazam.images._digest import (
    DIGEST_SIZE,
    digest_of_encoded,
    digest_of_pixels,
    file_key,
)
from skshazam.images._reading import read_encoded
from skshazam.images._stream import map_in_order
from skshazam.storage._shards import ShardFolder
from skshazam.storage._store import FeatureStore

__all__ = ["image_digests", "known_files"]

# Files that are looked up together in the store's index of files.
BLOCK = 1024


def image_digests(
    images: Sequence,
    store: FeatureStore,
    *,
    n_threads: int = 1,
    progress: bool = False,
) -> tuple[np.ndarray, dict[int, ImageReadError]]:
    """Return the content digest of each image, without writing anything.

    Parameters
    ----------
    images : sequence of length n
        From :func:`skshazam.images.check_image_collection`.
    store : FeatureStore
        Its index of files spares reading those that it knows unchanged.
    n_threads : int, default=1
        Threads that read.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    digests : ndarray of shape (n, 32), dtype=uint8
        Zeros where an image cannot be read.
    errors : dict of int to ImageReadError
        Those by position.
    """
    digests = np.zeros((len(images), DIGEST_SIZE), dtype=np.uint8)
    errors: dict[int, ImageReadError] = {}
    with progress_bar(len(images), progress) as bar:
        for start in range(0, len(images), BLOCK):
            block = range(start, min(start + BLOCK, len(images)))
            known, digests_of_known = known_files(images, block, store.files)
            digests[known] = digests_of_known
            unknown = sorted({*block} - {*known.tolist()})
            found = map_in_order(
                lambda position: _digest(images[position]), unknown, n_threads=n_threads
            )
            for position, digest in zip(unknown, found, strict=True):
                if isinstance(digest, ImageReadError):
                    errors[position] = digest.at(position, len(images))
                else:
                    digests[position] = np.frombuffer(digest, dtype=np.uint8)
            bar.update(len(block))
    return digests, errors


def known_files(
    images: Sequence, positions: Sequence[int], files: ShardFolder
) -> tuple[np.ndarray, np.ndarray]:
    """Return which images are files that have not changed since they were digested.

    Parameters
    ----------
    images : sequence of length n
        The collection.
    positions : sequence of int
        Which of them to look up.
    files : ShardFolder
        A store's index of files.

    Returns
    -------
    known : ndarray of shape (n_known,), dtype=int
        Those of `positions` whose content is known.
    digests : ndarray of shape (n_known, 32), dtype=uint8
        Their digests.
    """
    keys = {}
    for position in positions:
        if isinstance(images[position], str | os.PathLike):
            key = file_key(images[position])
            if key is not None:
                keys[position] = key
    rows = np.frombuffer(b"".join(keys.values()), dtype=np.uint8)
    digests, is_known = files.read(rows.reshape(-1, DIGEST_SIZE))
    known = np.fromiter(keys, dtype=np.intp, count=len(keys))[is_known]
    return known, digests[is_known]


def _digest(source) -> bytes | ImageReadError:
    """Return the digest of one image, or what is wrong with it."""
    try:
        if isinstance(source, np.ndarray | Image.Image):
            return digest_of_pixels(read_image(source))
        return digest_of_encoded(read_encoded(source))
    except ImageReadError as error:
        return error
