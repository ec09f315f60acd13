"""A private random stream for torch, whose generators belong to the whole process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["private_randomness"]

# Threads share torch's generators: what one draws in between would change the other.
_one_at_a_time = threading.RLock()


@contextmanager
def private_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside the block and leave its generators as they were.

    Blocks of several threads run one after the other.

    Parameters
    ----------
    seed : int
        Seed of the CPU's generator and of the device's.
    device : torch.device
        Where random numbers are drawn besides the CPU.

    Yields
    ------
    None
        While the generators are seeded.
    """
    with (
        _one_at_a_time,
        torch.random.fork_rng([device] if device.type == "cuda" else []),
    ):
        # torch.manual_seed would seed every other device as well.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield
