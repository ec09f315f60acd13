"""ExtractionOptions: how teachers run, checked once and sent to every worker."""

from dataclasses import asdict, dataclass
from numbers import Integral

import torch
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from skshazam.teachers._preprocessing import PREPROCESSINGS

__all__ = ["OPTION_CONSTRAINTS", "ExtractionOptions"]

OPTION_CONSTRAINTS: dict = {
    "device": "no_validation",
    "precision": [StrOptions({"auto", "float32", "float16", "bfloat16"})],
    "preprocessing": [StrOptions(set(PREPROCESSINGS))],
    "channels_last": ["boolean"],
    "compile": ["boolean"],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "n_threads": [Interval(Integral, 1, None, closed="left")],
    "on_error": [StrOptions({"raise", "nan"})],
}


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
        What becomes of an image that gives no features.

    Raises
    ------
    sklearn.utils._param_validation.InvalidParameterError
        An option holds what it cannot; also a ValueError and a TypeError.
    """

    device: str | torch.device = "auto"
    precision: str = "auto"
    preprocessing: str = "fast"
    channels_last: bool = False
    compile: bool = False
    batch_size: int = 64
    n_threads: int = 1
    on_error: str = "raise"

    def __post_init__(self):
        """Refuse what no extraction can do."""
        validate_parameter_constraints(
            OPTION_CONSTRAINTS, asdict(self), caller_name="extraction"
        )
