"""Several networks of one kind that are trained and asked together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

__all__ = ["EnsembleOutput", "NetworkEnsemble"]


@dataclass(frozen=True)
class EnsembleOutput:
    """What one forward pass of all members gives.

    Parameters
    ----------
    members : tuple
        The members' own outputs, each with ``logits`` (B, C) and ``fused`` (B, D).
    """

    members: tuple

    @cached_property
    def logits(self) -> torch.Tensor:
        """Logarithms of the mean of the members' probabilities, (B, C)."""
        each = torch.stack([member.logits for member in self.members])
        return each.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(each))

    @cached_property
    def fused(self) -> torch.Tensor:
        """The members' fused vectors side by side, (B, M D)."""
        return torch.cat([member.fused for member in self.members], dim=1)


class NetworkEnsemble(nn.Module):
    """Hold members that share the standardisation of their input, and nothing else.

    Parameters
    ----------
    members : sequence of Module
        Networks of one kind, differently initialised. What they have under
        ``standardization`` moves to the ensemble.

    Examples
    --------
    >>> import torch
    >>> from skshazam.networks import ShazamNetwork
    >>> pair = NetworkEnsemble([ShazamNetwork((4, 6), 3, token_dim=8) for _ in "ab"])
    >>> output = pair(torch.zeros(5, 10))
    >>> output.logits.shape, output.fused.shape
    (torch.Size([5, 3]), torch.Size([5, 16]))
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        if not members:
            raise ValueError("NetworkEnsemble needs at least one member, got none.")
        self.standardization = getattr(members[0], "standardization", nn.Identity())
        for member in members:
            if hasattr(member, "standardization"):
                member.standardization = nn.Identity()
        self.members = nn.ModuleList(members)

    def forward(self, features: torch.Tensor) -> EnsembleOutput:
        """Return the outputs of all members.

        Parameters
        ----------
        features : Tensor of shape (B, sum D_i), dtype=float32
            Feature blocks side by side, in teacher order.

        Returns
        -------
        output : EnsembleOutput
        """
        features = self.standardization(features)
        return EnsembleOutput(tuple(member(features) for member in self.members))
