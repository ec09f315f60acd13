"""Mean and standard deviation of columns, in float64 but in little memory."""

import torch

__all__ = ["column_statistics"]

# Rows in float64 at a time: few, so that they stay in the processor's cache.
CHUNK = 64


def column_statistics(
    features: torch.Tensor, held_out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return means and standard deviations of the rows that are not held out.

    Parameters
    ----------
    features : Tensor of shape (n_samples, n_features)
        Of single or half precision; may be over a memory map, which is read once.
    held_out : Tensor of shape (n_samples,), dtype=bool, default=None
        Rows that do not count.

    Returns
    -------
    mean, scale : Tensor of shape (n_features,), dtype=float64
        The standard deviation divides by the number of rows; it is exactly 0 for a
        column that is constant.
    """
    counted = None if held_out is None else ~held_out
    first = features[0 if counted is None else int(counted.int().argmax())].double()
    # Sums of what differs from the first row: large means cost no digits.
    total, squares, n_rows = torch.zeros_like(first), torch.zeros_like(first), 0
    for start in range(0, len(features), CHUNK):
        chunk = features[start : start + CHUNK]
        if counted is not None:
            chunk = chunk[counted[start : start + CHUNK]]
        difference = chunk.double().sub_(first)
        total += difference.sum(dim=0)
        squares += difference.square_().sum(dim=0)
        n_rows += len(chunk)
    mean = total / n_rows
    return first + mean, (squares / n_rows - mean.square()).clamp_min(0).sqrt()
