"""Work in order by a few threads, never more than a window ahead; images among it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from skshazam.exceptions import ImageReadError
from skshazam.images._reading import read_image

__all__ = ["ImageStream", "map_in_order"]


def map_in_order(
    function: Callable, items: Iterable, *, n_threads: int = 1, n_ahead: int = 64
) -> Iterator:
    """Apply a function to items in threads, and yield the results in order.

    Parameters
    ----------
    function : callable
        Called with one item; its exception is raised where its result would stand.
    items : iterable
        Taken one by one, in the caller's thread, as the window moves on.
    n_threads : int, default=1
        Threads that work.
    n_ahead : int, default=64
        How many items may be worked on before they are asked for; bounds memory. At
        least `n_threads`.

    Yields
    ------
    result : object
        What the function returned for each item.
    """
    n_ahead = max(n_ahead, n_threads)
    with ThreadPoolExecutor(n_threads, "skshazam-decode") as pool:
        pending: deque = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= n_ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


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
        self.n_ahead = n_ahead

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.sources)

    def __iter__(self) -> Iterator[np.ndarray | ImageReadError]:
        """Yield the pixels of each image in order, or the error that it caused."""
        yield from map_in_order(
            self._read,
            range(len(self.sources)),
            n_threads=self.n_threads,
            n_ahead=self.n_ahead,
        )

    def _read(self, index: int) -> np.ndarray | ImageReadError:
        """Return the pixels of one image, or an error that says which one it is."""
        try:
            return read_image(self.sources[index])
        except ImageReadError as error:
            return error.at(index, len(self.sources))
