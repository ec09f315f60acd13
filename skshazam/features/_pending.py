"""PendingImages: which images a store still lacks, and their pixels.

Finds out as little as it must: a file whose stat is known is not read, an image that is
stored is not decoded. Everything else is read once.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from skshazam.exceptions import ImageReadError, SkshazamError
from skshazam.features._image_digests import known_files
from skshazam.images import read_image
from skshazam.images._digest import (
    DIGEST_SIZE,
    digest_of_encoded,
    digest_of_pixels,
    file_key,
)
from skshazam.images._reading import decode_image, read_encoded
from skshazam.images._stream import map_in_order
from skshazam.storage._shards import ShardFolder

__all__ = ["PendingImages"]

# Images whose files are looked up together.
SIFTED = 512


class PendingImages:
    """Iterate over the images that some teacher has not seen.

    Blocks of neighbours come in an order of this run's own, so that processes which
    share a store and a collection seldom work on the same batch.

    Parameters
    ----------
    images : sequence of length n
        From :func:`skshazam.images.check_image_collection`.
    files : ShardFolder
        Index of files: from :func:`file_key` to a digest.
    stored : mapping of str to ShardFolder
        The features of each teacher by image digest.
    n_threads : int, default=1
        Threads that read and decode.
    batch_size : int, default=64
        Images that are asked for together, and decoded one batch ahead.
    on_error : {"raise", "nan"}, default="raise"
        Whether an image that gives no features is raised or kept in `errors`.
    first : int, default=0
        Position of the first image in the user's collection; for error messages.
    n_images : int, default=None
        Length of the user's collection. None means that of `images`.
    on_settled : callable, default=None
        Called whenever images turn out to need nothing more.

    Attributes
    ----------
    digests : ndarray of shape (n, 32), dtype=uint8
        Digest of each readable image, as far as they are known.
    errors : dict of int to SkshazamError
        Images that give no features by position in `images`.
    n_found : int
        Images that needed nothing.
    learnt : list of (bytes, bytes)
        New entries for `files`.
    """

    def __init__(
        self,
        images: Sequence,
        files: ShardFolder,
        stored: Mapping[str, ShardFolder],
        *,
        n_threads: int = 1,
        batch_size: int = 64,
        on_error: str = "raise",
        first: int = 0,
        n_images: int | None = None,
        on_settled: Callable[[], None] | None = None,
    ):
        self.images = images
        self.files = files
        self.stored = stored
        self.n_threads = n_threads
        self.batch_size = batch_size
        self.on_error = on_error
        self.first = first
        self.n_images = n_images or len(images)
        self.on_settled = on_settled or (lambda: None)
        self.digests = np.zeros((len(images), DIGEST_SIZE), dtype=np.uint8)
        self.errors: dict[int, SkshazamError] = {}
        self.n_found = 0
        self.learnt: list[tuple[bytes, bytes]] = []

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield position and pixels of images whose features are not all stored."""
        looked_at = map_in_order(
            self._look_at,
            self._unsettled(),
            n_threads=self.n_threads,
            n_ahead=2 * self.batch_size,
        )
        for position, pixels in looked_at:
            if isinstance(pixels, ImageReadError):
                self.refuse(position, pixels)
            elif pixels is None:
                self.n_found += 1
                self.on_settled()
            else:
                yield position, pixels

    def refuse(
        self, position: int, error: SkshazamError, was_found: bool = False
    ) -> None:
        """Note that an image gives no features, or raise that.

        Parameters
        ----------
        position : int
            Which image.
        error : SkshazamError
            Why.
        was_found : bool, default=False
            Whether it counts as found until now.
        """
        named = error.at(self.first + position, self.n_images)
        if self.on_error == "raise":
            raise named
        self.digests[position] = 0
        self.errors[position] = named
        self.n_found -= was_found
        self.on_settled()

    def lacking(self, positions: Sequence[int]) -> dict[str, list[int]]:
        """Return, for each teacher, the indices of images that it has not seen.

        Parameters
        ----------
        positions : sequence of int
            Images whose digests are known.

        Returns
        -------
        rows : dict of str to list of int
            Indices into `positions`. An image that is there twice counts once.
        """
        digests = self.digests[positions]
        first_of = np.zeros(len(positions), dtype=bool)
        first_of[np.unique(digests, axis=0, return_index=True)[1]] = True
        return {
            name: np.flatnonzero(first_of & ~folder.has(digests)).tolist()
            for name, folder in self.stored.items()
        }

    def _unsettled(self) -> Iterator[int]:
        """Yield positions that have to be looked at; others are found by their stat."""
        n_images, size = len(self.images), self.batch_size
        starts = size * np.random.default_rng().permutation(-(-n_images // size))
        per_sift = -(-SIFTED // size)
        groups = (
            [p for start in some for p in range(start, min(start + size, n_images))]
            for some in np.split(starts, range(per_sift, len(starts), per_sift))
        )
        # One thread of its own, ahead of the others: on a network a stat takes long.
        for positions, n_found in map_in_order(self._sift, groups, n_ahead=2):
            self.n_found += n_found
            self.on_settled()
            yield from positions

    def _sift(self, positions: list[int]) -> tuple[list[int], int]:
        """Return which positions need a look, and how many do not."""
        known, digests = known_files(self.images, positions, self.files)
        is_stored = np.ones(len(known), dtype=bool)
        for folder in self.stored.values():
            is_stored &= folder.has(digests)
        self.digests[known[is_stored]] = digests[is_stored]
        found = set(known[is_stored].tolist())
        return [p for p in positions if p not in found], len(found)

    def _look_at(self, position: int) -> tuple[int, np.ndarray | ImageReadError | None]:
        """Return an image's pixels, None if it is stored, or what is wrong with it."""
        try:
            digest, pixels = self._identify(self.images[position])
        except ImageReadError as error:
            return position, error
        self.digests[position] = _as_rows([digest])[0]
        return position, pixels

    def _identify(self, source) -> tuple[bytes, np.ndarray | None]:
        """Return an image's digest, and its pixels unless all features are stored."""
        if isinstance(source, np.ndarray | Image.Image):
            pixels = read_image(source)
            digest = digest_of_pixels(pixels)
            return digest, None if self._is_stored(digest) else pixels
        data, digest = self._content(source)
        return digest, None if self._is_stored(digest) else decode_image(data, source)

    def _content(self, source) -> tuple[bytes, bytes]:
        """Return an encoded image and its digest; remember whose it is."""
        is_file = isinstance(source, str | os.PathLike)
        before = file_key(source) if is_file else None
        data = read_encoded(source)
        digest = digest_of_encoded(data)
        # Of a file that changed while it was read, nothing is remembered.
        if before is not None and before == file_key(source):
            self.learnt.append((before, digest))
        return data, digest

    def _is_stored(self, digest: bytes) -> bool:
        """Return whether no teacher has to see an image."""
        row = _as_rows([digest])
        return all(folder.has(row)[0] for folder in self.stored.values())


def _as_rows(digests: Iterable[bytes]) -> np.ndarray:
    """Return digests as an array of shape (n, 32), dtype=uint8."""
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_SIZE)
