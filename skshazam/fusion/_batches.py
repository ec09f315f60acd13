"""Batches by slicing whole tensors, in place of a row-by-row DataLoader."""

from collections.abc import Iterator

import torch
from skorch.dataset import Dataset

__all__ = ["TensorBatches"]


class TensorBatches:
    """Iterate over in-memory tensors batch by batch.

    Parameters
    ----------
    dataset : skorch.dataset.Dataset
        ``X`` is a dict of tensors with one row per sample, ``y`` a tensor or None.
    batch_size : int
        Rows a batch; the last one may be shorter.
    shuffle : bool, default=False
        Draw a new order from torch's generator at each pass.
    """

    def __init__(self, dataset: Dataset, batch_size: int, *, shuffle: bool = False):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        """Yield dicts of tensors and targets (zeros where the dataset has none)."""
        n_rows = len(self.dataset)
        X, y = self.dataset.X, self.dataset.y
        y = torch.zeros(n_rows, dtype=torch.long) if y is None else y
        order = torch.randperm(n_rows) if self.shuffle else None
        for start in range(0, n_rows, self.batch_size):
            rows = slice(start, start + self.batch_size)
            picked = rows if order is None else order[rows]
            yield {name: tensor[picked] for name, tensor in X.items()}, y[picked]
