"""progress_bar: how far an extraction is, its rate, and when it will be done."""

import sys

from tqdm.auto import tqdm

__all__ = ["progress_bar"]


def progress_bar(n_images: int, shown: bool) -> tqdm:
    """Return a progress bar over images.

    Parameters
    ----------
    n_images : int
        How many there are.
    shown : bool
        Whether it is drawn, on the standard error stream.

    Returns
    -------
    bar : tqdm
        A context manager; ``update(n)`` moves it on.
    """
    # A log is read later: a line now and then is enough there. Little smoothing,
    # because batches come in jumps.
    return tqdm(
        total=n_images,
        desc="images",
        unit="image",
        disable=not shown,
        leave=False,
        smoothing=0.05,
        mininterval=0.1 if sys.stderr.isatty() else 30,
    )
