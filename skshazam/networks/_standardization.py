"""z-scores of feature columns, with statistics that travel with the network."""

import torch
from torch import nn

__all__ = ["Standardization"]


class Standardization(nn.Module):
    """Subtract a mean and divide by a scale, column by column.

    Both are buffers: saved with the network, never trained. Until
    :meth:`set_statistics` is called the features pass unchanged.

    Parameters
    ----------
    n_features : int
        Columns of the feature matrix.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def set_statistics(self, mean, scale) -> None:
        """Take over column statistics.

        Parameters
        ----------
        mean : array-like of shape (n_features,)
            Column means.
        scale : array-like of shape (n_features,)
            Column standard deviations; a column with 0 is constant and is only
            centred.
        """
        # In the buffers' precision: there a scale may vanish that was not 0.
        scale = torch.as_tensor(scale).to(self.scale)
        self.mean.copy_(torch.as_tensor(mean))
        self.scale.copy_(torch.where(scale > 0, scale, torch.ones_like(scale)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the z-scores of features of shape (B, n_features)."""
        return (features - self.mean) / self.scale
