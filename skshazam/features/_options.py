"""ExtractionOptions: how teachers run, checked once and sent to every worker."""

from dataclasses import dataclass

import torch

__all__ = ["ExtractionOptions"]


@dataclass(frozen=True)
class ExtractionOptions:
    """How teachers run over images.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        Where they run; "auto" is resolved by the process that runs them.
    precision : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        Autocast dtype.
    preprocessing : {"fast", "pil"}, default="fast"
        Who resizes.
    channels_last : bool, default=False
        Memory layout of convolutions.
    compile : bool, default=False
        Whether :func:`torch.compile` translates the teachers.
    batch_size : int, default=64
        Images a forward pass.
    n_threads : int, default=1
        Threads that read and decode.
    on_error : {"raise", "nan"}, default="raise"
        What becomes of an unreadable image.
    """

    device: str | torch.device = "auto"
    precision: str = "auto"
    preprocessing: str = "fast"
    channels_last: bool = False
    compile: bool = False
    batch_size: int = 64
    n_threads: int = 1
    on_error: str = "raise"
