"""Many images in order, decoded by a few threads, never more than a window ahead."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from skshazam.exceptions import ImageReadError
from skshazam.images._reading import read_image

__all__ = ["ImageStream"]


class ImageStream:
    """Decode a collection of images in parallel and hand them over in order.

    Decoders release the interpreter lock while they decompress, so threads suffice.

    Parameters
    ----------
    sources : sequence
        What :func:`read_image` reads, one an entry.
    n_threads : int, default=1
        Decoding threads. More help until the consumer is the bottleneck.
    n_ahead : int, default=64
        How many images may be decoded before they are asked for; bounds memory.
    """

    def __init__(self, sources: Sequence, *, n_threads: int = 1, n_ahead: int = 64):
        self.sources = sources
        self.n_threads = n_threads
        self.n_ahead = max(n_ahead, n_threads)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.sources)

    def __iter__(self) -> Iterator[np.ndarray | ImageReadError]:
        """Yield the pixels of each image in order, or the error that it caused."""
        with ThreadPoolExecutor(self.n_threads, "skshazam-decode") as pool:
            pending: deque = deque()
            try:
                for index in range(len(self.sources)):
                    pending.append(pool.submit(self._read, index))
                    if len(pending) >= self.n_ahead:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _read(self, index: int) -> np.ndarray | ImageReadError:
        """Return the pixels of one image, or an error that says which one it is."""
        try:
            return read_image(self.sources[index])
        except ImageReadError as error:
            named = ImageReadError(f"Image {index} of {len(self.sources)}: {error}")
            named.__cause__ = error
            return named
