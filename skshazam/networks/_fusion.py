"""What every fusing network shares: tokens before the fusion, an MLP after it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from skshazam.networks._projection import TeacherProjection
from skshazam.networks._standardization import Standardization

__all__ = ["FusionNetwork", "FusionOutput", "make_classifier"]


@dataclass(frozen=True)
class FusionOutput:
    """What one forward pass of a rival of the student gives.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Class scores.
    fused : Tensor of shape (B, D)
        What the classifier sees.
    tokens : Tensor of shape (B, N, D)
        The projected features T_i.
    """

    logits: torch.Tensor
    fused: torch.Tensor
    tokens: torch.Tensor


class FusionNetwork(nn.Module):
    """Base of the networks that turn features into tokens and fuse them.

    A subclass builds its fusion and then ``classifier``, with
    :func:`make_classifier`, and implements ``_fused(tokens)`` or a ``forward`` of its
    own.

    Parameters
    ----------
    teacher_dims : sequence of int
        Widths D_i of the teachers' blocks, in column order.
    token_dim : int
        Width D of a token.
    projection : {"linear", "mlp"}, default="linear"
        See :class:`TeacherProjection`.
    standardize : bool, default=True
        z-score the features with statistics given to ``standardization``.
    dropout : float, default=0.0
        Share of token components that are zeroed in training.
    """

    def __init__(
        self,
        teacher_dims: Sequence[int],
        token_dim: int,
        *,
        projection: str = "linear",
        standardize: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.standardization = (
            Standardization(sum(teacher_dims)) if standardize else nn.Identity()
        )
        self.projection = TeacherProjection(teacher_dims, token_dim, projection)
        self.token_dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> FusionOutput:
        """Return logits, and what they are made from.

        Parameters
        ----------
        features : Tensor of shape (B, sum D_i), dtype=float32
            Feature blocks side by side, in teacher order.

        Returns
        -------
        output : FusionOutput
        """
        tokens = self.projection(self.standardization(features))  # (B, N, D)
        fused = self._fused(self.token_dropout(tokens))
        return FusionOutput(logits=self.classifier(fused), fused=fused, tokens=tokens)

    def _fused(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return fused vectors of shape (B, D)."""
        raise AttributeError(f"{type(self).__name__} does not say how it fuses tokens.")


def make_classifier(token_dim: int, n_classes: int, dropout: float) -> nn.Sequential:
    """Return the MLP from a fused vector to logits, as in the paper's released code.

    Parameters
    ----------
    token_dim : int
        Width D of the fused vector, and of the hidden layer.
    n_classes : int
        Number C of classes.
    dropout : float
        Share of hidden units that are zeroed in training; not in the released code.

    Returns
    -------
    classifier : Sequential
        Linear, ReLU, LayerNorm, dropout, linear.
    """
    return nn.Sequential(
        nn.Linear(token_dim, token_dim),
        nn.ReLU(),
        nn.LayerNorm(token_dim),
        nn.Dropout(dropout),
        nn.Linear(token_dim, n_classes),
    )
