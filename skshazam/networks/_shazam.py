"""ShazamNetwork: the student of the paper, equations 1 to 4 and the classifier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from skshazam.networks._attention import SelfAttentionStack
from skshazam.networks._distillation import DistillationTargets
from skshazam.networks._fusion import FusionNetwork, make_classifier

__all__ = ["ShazamNetwork", "ShazamOutput"]


@dataclass(frozen=True)
class ShazamOutput:
    """What one forward pass of the student gives.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Class scores Z.
    fused : Tensor of shape (B, D)
        The student's vector T_final.
    tokens : Tensor of shape (B, N, D)
        The projected features T_i.
    attention : tuple of Tensor of shape (B, N, N)
        One matrix a layer; row i says whom teacher i listens to.
    make_targets : callable
        Returns ``targets``.
    """

    logits: torch.Tensor
    fused: torch.Tensor
    tokens: torch.Tensor
    attention: tuple[torch.Tensor, ...]
    make_targets: Callable[[], torch.Tensor] = field(repr=False)

    @cached_property
    def targets(self) -> torch.Tensor:
        """What distillation compares ``fused`` with, (B, N, D); made when asked for."""
        return self.make_targets()


class ShazamNetwork(FusionNetwork):
    """Fuse the features of N teachers by self-attention and classify.

    Parameters
    ----------
    teacher_dims : sequence of int
        Widths D_i of the teachers' blocks, in column order.
    n_classes : int
        Number C of classes.
    token_dim : int, default=128
        Width D of a token (released code; the paper gives none).
    depth : int, default=5
        Number K of attention layers (paper, table 2).
    projection : {"linear", "mlp"}, default="linear"
        See :class:`TeacherProjection`.
    block : {"residual", "plain"}, default="residual"
        See :class:`SelfAttentionStack`.
    standardize : bool, default=True
        z-score the features with statistics given to ``standardization``.
    distillation_target : {"token", "token_detached", "frozen", "trained"}, \
default="token"
        See :class:`DistillationTargets`.
    dropout : float, default=0.0
        Share of token components, and of the classifier's hidden units, that are zeroed
        in training.

    Notes
    -----
    T_i = W_i F_i + b_i (eq. 1, ``projection``); K times attention over the N tokens
    (eq. 2-3, ``attention``); T_final = mean over teachers (eq. 4, ``fused``); Z =
    MLP(T_final), linear, ReLU, LayerNorm, linear, as in the released code.

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, section 2.1.

    Examples
    --------
    >>> import torch
    >>> network = ShazamNetwork((4, 6), n_classes=3, token_dim=8, depth=2)
    >>> output = network(torch.zeros(5, 10))
    >>> output.logits.shape, output.fused.shape, output.attention[0].shape
    (torch.Size([5, 3]), torch.Size([5, 8]), torch.Size([5, 2, 2]))
    """

    def __init__(
        self,
        teacher_dims: Sequence[int],
        n_classes: int,
        token_dim: int = 128,
        depth: int = 5,
        *,
        projection: str = "linear",
        block: str = "residual",
        standardize: bool = True,
        distillation_target: str = "token",
        dropout: float = 0.0,
    ):
        super().__init__(
            teacher_dims,
            token_dim,
            projection=projection,
            standardize=standardize,
            dropout=dropout,
        )
        self.attention = SelfAttentionStack(token_dim, depth, block)
        self.classifier = make_classifier(token_dim, n_classes, dropout)
        # Last, so that the choice of a target does not change how the rest starts.
        self.targets = DistillationTargets(teacher_dims, token_dim, distillation_target)

    def forward(self, features: torch.Tensor) -> ShazamOutput:
        """Return everything the losses and the inspection need.

        Parameters
        ----------
        features : Tensor of shape (B, sum D_i), dtype=float32
            Feature blocks side by side, in teacher order.

        Returns
        -------
        output : ShazamOutput
        """
        features = self.standardization(features)
        tokens = self.projection(features)  # (B, N, D)
        attended, attention = self.attention(self.token_dropout(tokens))
        fused = attended.mean(dim=1)  # (B, D), eq. 4
        return ShazamOutput(
            logits=self.classifier(fused),
            fused=fused,
            tokens=tokens,
            attention=tuple(attention),
            make_targets=lambda: self.targets(features, tokens),
        )
