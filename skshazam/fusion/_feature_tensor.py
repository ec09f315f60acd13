"""A checked feature matrix as a tensor: half precision is kept, memory is shared."""

import warnings

import numpy as np
import torch

__all__ = ["FEATURE_DTYPES", "as_tensor"]

# Anything else becomes the first.
FEATURE_DTYPES = [np.float32, np.float16]


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a tensor over the same memory, which nobody may write to.

    Parameters
    ----------
    array : ndarray
        May be a read-only memory map.

    Returns
    -------
    tensor : Tensor
    """
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        # torch has no read-only tensors and says so; the rows are only gathered.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(array)
