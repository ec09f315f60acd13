"""Batches by slicing whole tensors, in place of a row-by-row DataLoader."""

from collections.abc import Iterator

import torch
from skorch.dataset import Dataset

__all__ = ["TensorBatches", "TensorRows"]


class TensorRows(Dataset):
    """Some rows of tensors in memory, not copied before they are asked for.

    skorch's callbacks know it as a dataset, and read ``X`` and ``y``.

    Parameters
    ----------
    tensors : dict of Tensor
        One row per sample.
    codes : Tensor of shape (n_samples,), dtype=int64, default=None
        Class codes.
    rows : Tensor of shape (n_rows,), dtype=int64, default=None
        The rows that belong to it; None means all.
    """

    def __init__(self, tensors, codes=None, rows=None):
        self.tensors = tensors
        self.codes = codes
        self.rows = rows

    @property
    def X(self) -> dict[str, torch.Tensor]:  # noqa: N802 - skorch's name
        """The rows of every tensor."""
        return self[slice(None)][0]

    @property
    def y(self) -> torch.Tensor | None:
        """The codes of the rows."""
        return (
            self.codes
            if self.codes is None or self.rows is None
            else self.codes[self.rows]
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        if self.rows is None:
            return len(next(iter(self.tensors.values())))
        return len(self.rows)

    def __getitem__(self, picked: "slice | torch.Tensor"):
        """Return dicts of tensors and codes (zeros where there are none)."""
        if self.rows is not None:
            picked = self.rows[picked]
        tensors = {name: _rows(tensor, picked) for name, tensor in self.tensors.items()}
        if self.codes is None:
            n_rows = len(next(iter(tensors.values())))
            return tensors, torch.zeros(n_rows, dtype=torch.long)
        return tensors, _rows(self.codes, picked)


class TensorBatches:
    """Iterate over in-memory tensors batch by batch.

    Parameters
    ----------
    dataset : TensorRows
        What to iterate over.
    batch_size : int
        Rows a batch; the last one may be shorter.
    shuffle : bool, default=False
        Draw a new order from torch's generator at each pass.
    """

    def __init__(self, dataset: TensorRows, batch_size: int, *, shuffle: bool = False):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        """Yield dicts of tensors and targets (zeros where the dataset has none)."""
        n_rows = len(self.dataset)
        if self.shuffle:
            # Drawn on the CPU, so that every device sees the same order.
            device = next(iter(self.dataset.tensors.values())).device
            order = torch.randperm(n_rows).to(device)
            for rows in order.split(self.batch_size):
                yield self.dataset[rows]
        else:
            for start in range(0, n_rows, self.batch_size):
                yield self.dataset[start : start + self.batch_size]


def _rows(tensor: torch.Tensor, picked: "slice | torch.Tensor") -> torch.Tensor:
    """Return a view of a slice, or a copy of rows by number."""
    return (
        tensor[picked] if isinstance(picked, slice) else tensor.index_select(0, picked)
    )
