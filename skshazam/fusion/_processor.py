"""How students use the processor: how many threads, and where memory comes from."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["on_one_thread"]

# The most that glibc lets one freed block teach it to keep is 32 MiB.
KEPT_BYTES = 31 * 2**20


@contextmanager
def on_one_thread(device: torch.device) -> Iterator[None]:
    """Compute with one thread inside the block if ``device`` is the CPU.

    A step of a student is many small products. On cores shared with other work, where
    threads wait for each other, a second thread has cost a factor of 4 to 100. One
    thread also makes results independent of the number of cores.

    Parameters
    ----------
    device : torch.device
        Where the student computes.

    Yields
    ------
    None
        While there is one thread.
    """
    if device.type != "cpu":
        yield
        return
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # glibc returns what a step frees to the system, and the next step faults it in page
    # by page: 740 faults and 1.2 ms a step of 13 ms. Once it has seen a large block
    # freed, it keeps as much.
    torch.empty(KEPT_BYTES, dtype=torch.uint8)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
