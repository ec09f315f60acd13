"""Simpler fusions of the teachers' tokens: their mean, side by side, a mixture."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from skshazam.networks._choices import check_choice
from skshazam.networks._fusion import FusionNetwork, FusionOutput, make_classifier

__all__ = ["ConcatNetwork", "MoENetwork", "MoEOutput", "SumNetwork"]


class SumNetwork(FusionNetwork):
    """Add up the tokens of N teachers and classify: the paper's "Sum".

    Parameters
    ----------
    teacher_dims : sequence of int
        Widths D_i of the teachers' blocks, in column order.
    n_classes : int
        Number C of classes.
    token_dim : int, default=128
        Width D of a token.
    projection : {"linear", "mlp"}, default="linear"
        See :class:`TeacherProjection`.
    standardize : bool, default=True
        z-score the features with statistics given to ``standardization``.
    dropout : float, default=0.0
        Share of token components, and of the classifier's hidden units, that are zeroed
        in training.

    Notes
    -----
    T_i = W_i F_i + b_i (eq. 1, ``projection``); fused = 1/N sum_i T_i: "summed and
    averaged" [1]_, so that its scale does not depend on the number of teachers; logits
    = MLP(fused). This is :class:`ShazamNetwork` without attention, ``depth=0``.

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, section 3.4.

    Examples
    --------
    >>> import torch
    >>> network = SumNetwork((4, 6), n_classes=3, token_dim=8)
    >>> output = network(torch.zeros(5, 10))
    >>> output.logits.shape, output.fused.shape
    (torch.Size([5, 3]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        teacher_dims: Sequence[int],
        n_classes: int,
        token_dim: int = 128,
        *,
        projection: str = "linear",
        standardize: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__(
            teacher_dims,
            token_dim,
            projection=projection,
            standardize=standardize,
            dropout=dropout,
        )
        self.classifier = make_classifier(token_dim, n_classes, dropout)

    def _fused(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.mean(dim=1)


class ConcatNetwork(FusionNetwork):
    """Put the tokens of N teachers side by side and classify: the paper's "Concat".

    Parameters
    ----------
    teacher_dims : sequence of int
        Widths D_i of the teachers' blocks, in column order.
    n_classes : int
        Number C of classes.
    token_dim : int, default=128
        Width D of a token, and of the fused vector.
    projection : {"linear", "mlp"}, default="linear"
        See :class:`TeacherProjection`.
    standardize : bool, default=True
        z-score the features with statistics given to ``standardization``.
    dropout : float, default=0.0
        Share of token components, and of the classifier's hidden units, that are zeroed
        in training.

    Notes
    -----
    T_i = W_i F_i + b_i (eq. 1, ``projection``); fused = LayerNorm(ReLU(W [T_1, ...,
    T_N] + b)), from N D to D components (``mixing``); logits = MLP(fused). The paper
    says no more than "concatenates teacher features before classification" [1]_. The
    ReLU is ours: a linear map of concatenated linear maps is a sum of linear maps, and
    Concat would compute nothing that Sum cannot.

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, section 3.4.

    Examples
    --------
    >>> import torch
    >>> network = ConcatNetwork((4, 6), n_classes=3, token_dim=8)
    >>> output = network(torch.zeros(5, 10))
    >>> output.logits.shape, output.fused.shape
    (torch.Size([5, 3]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        teacher_dims: Sequence[int],
        n_classes: int,
        token_dim: int = 128,
        *,
        projection: str = "linear",
        standardize: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__(
            teacher_dims,
            token_dim,
            projection=projection,
            standardize=standardize,
            dropout=dropout,
        )
        self.mixing = nn.Sequential(
            nn.Linear(len(teacher_dims) * token_dim, token_dim),
            nn.ReLU(),
            nn.LayerNorm(token_dim),
        )
        self.classifier = make_classifier(token_dim, n_classes, dropout)

    def _fused(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.mixing(tokens.flatten(start_dim=1))  # (B, N D) -> (B, D)


@dataclass(frozen=True)
class MoEOutput(FusionOutput):
    """What one forward pass of a mixture of experts gives.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Class scores.
    fused : Tensor of shape (B, D)
        What the classifier sees.
    tokens : Tensor of shape (B, N, D)
        The projected features T_i.
    expert_weights : Tensor of shape (B, N)
        The gate g: non-negative, rows sum to 1.
    """

    expert_weights: torch.Tensor


class MoENetwork(FusionNetwork):
    """Weight N teachers sample by sample with a gate and classify: the paper's "MoE".

    Parameters
    ----------
    teacher_dims : sequence of int
        Widths D_i of the teachers' blocks, in column order.
    n_classes : int
        Number C of classes.
    token_dim : int, default=128
        Width D of a token.
    gate : {"after_norm", "before_norm"}, default="after_norm"
        Where the weight acts: on the normalised token, or on the token before it is
        normalised, as in the paper's released code, where it is nearly without effect.
    projection : {"linear", "mlp"}, default="linear"
        See :class:`TeacherProjection`.
    standardize : bool, default=True
        z-score the features with statistics given to ``standardization``.
    dropout : float, default=0.0
        Share of token components, and of the classifier's hidden units, that are zeroed
        in training.

    Notes
    -----
    T_i = W_i F_i + b_i (eq. 1, ``projection``), the experts' outputs; g = softmax(W_g
    [T_1, ..., T_N] + b_g), of shape (B, N) (``gate``); logits = MLP(fused). All experts
    are used: N is small, and sparse gating [2]_ saves nothing.

    "after_norm": fused = sum_i g_i LayerNorm(T_i).

    "before_norm": fused = 1/N sum_i LayerNorm(g_i T_i). LayerNorm(g T) equals
    LayerNorm(T) for any g > 0 but for its ε: with a variance v of the components of T
    the factor is 1 / sqrt(1 + ε / (g² v)). With ε = 1e-5 and v = 1/3, that of a linear
    layer at initialisation on standardised features, g = 0.5 and g = 0.2 give tokens
    that differ by 0.03 %; g has to be 0.003 to halve a token. So expert weights of this
    form say nothing about a teacher's importance. With equal weights both forms are the
    same, but for ε.

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, section 3.4.
    .. [2] N. Shazeer et al., "Outrageously large neural networks: the sparsely-gated
       mixture-of-experts layer", 2017, arXiv 1701.06538.

    Examples
    --------
    >>> import torch
    >>> network = MoENetwork((4, 6), n_classes=3, token_dim=8)
    >>> output = network(torch.zeros(5, 10))
    >>> output.logits.shape, output.expert_weights.shape
    (torch.Size([5, 3]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        teacher_dims: Sequence[int],
        n_classes: int,
        token_dim: int = 128,
        *,
        gate: str = "after_norm",
        projection: str = "linear",
        standardize: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__(
            teacher_dims,
            token_dim,
            projection=projection,
            standardize=standardize,
            dropout=dropout,
        )
        n_teachers = len(teacher_dims)
        check_choice("gate", gate, ("after_norm", "before_norm"))
        self.weighs_before_norm = gate == "before_norm"
        self.gate = nn.Linear(n_teachers * token_dim, n_teachers)
        self.norm = nn.LayerNorm(token_dim)
        self.classifier = make_classifier(token_dim, n_classes, dropout)

    def forward(self, features: torch.Tensor) -> MoEOutput:
        """Return logits, what they are made from, and the gate.

        Parameters
        ----------
        features : Tensor of shape (B, sum D_i), dtype=float32
            Feature blocks side by side, in teacher order.

        Returns
        -------
        output : MoEOutput
        """
        tokens = self.projection(self.standardization(features))  # (B, N, D)
        experts = self.token_dropout(tokens)
        weights = self.gate(experts.flatten(start_dim=1)).softmax(dim=1)  # (B, N)
        if self.weighs_before_norm:
            fused = self.norm(weights.unsqueeze(2) * experts).mean(dim=1)
        else:
            fused = (weights.unsqueeze(2) * self.norm(experts)).sum(dim=1)
        return MoEOutput(
            logits=self.classifier(fused),
            fused=fused,
            tokens=tokens,
            expert_weights=weights,
        )
