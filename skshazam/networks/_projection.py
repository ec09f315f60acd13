"""From each teacher's block of columns to one token: equation 1."""

from collections.abc import Sequence

import torch
from torch import nn

from skshazam.networks._choices import check_choice

__all__ = ["TeacherProjection"]


class TeacherProjection(nn.Module):
    """Project every teacher's feature into one token space, each with its own map.

    Parameters
    ----------
    teacher_dims : sequence of int
        Widths D_i of the blocks, in column order.
    token_dim : int
        Width D of a token.
    kind : {"linear", "mlp"}, default="linear"
        "linear" is equation 1, T_i = W_i F_i + b_i. "mlp" is what the paper's released
        code does: twice (linear, LayerNorm, ReLU).

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, equation 1.
    """

    def __init__(
        self, teacher_dims: Sequence[int], token_dim: int, kind: str = "linear"
    ):
        super().__init__()
        self.teacher_dims = tuple(teacher_dims)
        makers = {"linear": nn.Linear, "mlp": _two_layers}
        check_choice("projection", kind, makers)
        self.maps = nn.ModuleList(
            makers[kind](dim, token_dim) for dim in self.teacher_dims
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return tokens of shape (B, N, D) for features of shape (B, sum D_i)."""
        blocks = features.split(self.teacher_dims, dim=1)
        tokens = [
            project(block) for project, block in zip(self.maps, blocks, strict=True)
        ]
        return torch.stack(tokens, dim=1)  # (B, N, D)


def _two_layers(dim: int, token_dim: int) -> nn.Module:
    """Return the released code's projector."""
    return nn.Sequential(
        nn.Linear(dim, token_dim),
        nn.LayerNorm(token_dim),
        nn.ReLU(),
        nn.Linear(token_dim, token_dim),
        nn.LayerNorm(token_dim),
        nn.ReLU(),
    )
