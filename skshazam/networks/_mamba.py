"""The teachers' tokens as a sequence for Mamba, in plain torch.

N is at most eight or so: a loop over tokens is all the scan needs.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from skshazam.networks._fusion import FusionNetwork, make_classifier

__all__ = ["MambaBlock", "MambaNetwork", "selective_scan"]

# Step sizes at initialisation lie between these (Gu & Dao, section 3.6), log-uniform as
# in their code.
_FIRST_STEPS = (1e-3, 1e-1)
_NORM_EPS = 1e-5


def selective_scan(
    inputs: torch.Tensor,
    steps: torch.Tensor,
    decay: torch.Tensor,
    input_weights: torch.Tensor,
    output_weights: torch.Tensor,
    skip: torch.Tensor,
) -> torch.Tensor:
    """Run a linear state space whose step, input and output depend on the token.

    Parameters
    ----------
    inputs : Tensor of shape (B, N, E)
        The sequence x.
    steps : Tensor of shape (B, N, E)
        Δ > 0: how far each channel's state moves on at each token.
    decay : Tensor of shape (E, S)
        A < 0, the same at all tokens; S states a channel.
    input_weights : Tensor of shape (B, N, S)
        B: how a token is written to the states.
    output_weights : Tensor of shape (B, N, S)
        C: how the states are read.
    skip : Tensor of shape (E,)
        D: share of the input in the output.

    Returns
    -------
    outputs : Tensor of shape (B, N, E)
        h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t x_t, from h_0 = 0, and y_t = C_t h_t + D x_t.
        A is discretised by zero-order hold (equation 4 of [1]_), B by its first-order
        approximation Δ B, as in the code that goes with [1]_.

    References
    ----------
    .. [1] A. Gu, T. Dao, "Mamba: linear-time sequence modeling with selective state
       spaces", 2023, arXiv 2312.00752, equations 2 and 4, algorithm 2.
    """
    n_rows, n_tokens, n_channels = inputs.shape
    state = inputs.new_zeros(n_rows, n_channels, decay.shape[1])  # (B, E, S)
    outputs = []
    for token in range(n_tokens):
        step = steps[:, token].unsqueeze(-1)  # (B, E, 1)
        write, read = input_weights[:, token], output_weights[:, token]  # (B, S)
        written = step * inputs[:, token].unsqueeze(-1) * write.unsqueeze(1)
        state = torch.exp(step * decay) * state + written
        outputs.append((state @ read.unsqueeze(-1)).squeeze(-1))  # (B, E)
    return torch.stack(outputs, dim=1) + skip * inputs


class MambaBlock(nn.Module):
    """One residual Mamba layer: a short convolution, a selective scan, a gate.

    Token t of the result depends on tokens 1 to t alone.

    Parameters
    ----------
    token_dim : int
        Width D of a token.
    state_dim : int, default=16
        States S of each inner channel.
    conv_width : int, default=4
        Tokens that the convolution looks at: the present one and those before it.
    expansion : int, default=2
        Inner channels E by token component.

    References
    ----------
    .. [1] A. Gu, T. Dao, "Mamba: linear-time sequence modeling with selective state
       spaces", 2023, arXiv 2312.00752, section 3.4 and algorithm 2; the defaults are
       those of its code.
    """

    def __init__(
        self,
        token_dim: int,
        state_dim: int = 16,
        *,
        conv_width: int = 4,
        expansion: int = 2,
    ):
        super().__init__()
        inner_dim = expansion * token_dim
        rank = math.ceil(token_dim / 16)
        self.split_sizes = (rank, state_dim, state_dim)
        self.norm = nn.RMSNorm(token_dim, eps=_NORM_EPS)
        self.input_projection = nn.Linear(token_dim, 2 * inner_dim, bias=False)
        self.convolution = nn.Conv1d(
            inner_dim, inner_dim, conv_width, groups=inner_dim, padding=conv_width - 1
        )
        self.selection = nn.Linear(inner_dim, sum(self.split_sizes), bias=False)
        self.step = nn.Linear(rank, inner_dim)
        rates = torch.arange(1, state_dim + 1, dtype=torch.float32)
        # A = -exp(log_rates): negative, so that no state can grow.
        self.log_rates = nn.Parameter(rates.log().repeat(inner_dim, 1))  # (E, S)
        self.skip = nn.Parameter(torch.ones(inner_dim))
        self.output_projection = nn.Linear(inner_dim, token_dim, bias=False)
        self._set_first_steps(rank)

    def _set_first_steps(self, rank: int) -> None:
        """Initialise the step sizes softplus(W s + b) around log-uniform values."""
        nn.init.uniform_(self.step.weight, -(rank**-0.5), rank**-0.5)
        low, high = map(math.log, _FIRST_STEPS)
        with torch.no_grad():
            steps = self.step.bias.uniform_(low, high).exp_()
            # The inverse of softplus.
            self.step.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return tokens of shape (B, N, D) for tokens of shape (B, N, D)."""
        projected = self.input_projection(self.norm(tokens))
        inner, gate = projected.chunk(2, dim=-1)  # (B, N, E) each
        inner = functional.silu(self._convolved(inner))
        step, input_weights, output_weights = self.selection(inner).split(
            self.split_sizes, dim=-1
        )
        scanned = selective_scan(
            inner,
            functional.softplus(self.step(step)),
            -self.log_rates.exp(),
            input_weights,
            output_weights,
            self.skip,
        )
        return tokens + self.output_projection(scanned * functional.silu(gate))

    def _convolved(self, inner: torch.Tensor) -> torch.Tensor:
        """Return each channel's causal convolution along the tokens, (B, N, E)."""
        n_tokens = inner.shape[1]
        return self.convolution(inner.transpose(1, 2))[..., :n_tokens].transpose(1, 2)


class MambaNetwork(FusionNetwork):
    """Read the tokens of N teachers as a sequence and classify: the paper's "Mamba".

    Parameters
    ----------
    teacher_dims : sequence of int
        Widths D_i of the teachers' blocks, in column order. Unlike in the other
        networks the order matters: a teacher sees only those before it.
    n_classes : int
        Number C of classes.
    token_dim : int, default=128
        Width D of a token.
    depth : int, default=1
        Number of :class:`MambaBlock`.
    state_dim : int, default=16
        States of each inner channel.
    projection : {"linear", "mlp"}, default="linear"
        See :class:`TeacherProjection`.
    standardize : bool, default=True
        z-score the features with statistics given to ``standardization``.
    dropout : float, default=0.0
        Share of token components, and of the classifier's hidden units, that are zeroed
        in training.

    Notes
    -----
    T_i = W_i F_i + b_i (eq. 1, ``projection``); ``depth`` blocks over T_1, ..., T_N and
    a last RMSNorm, as in Mamba's own models [2]_; fused = mean over tokens [1]_; logits
    = MLP(fused).

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, section 3.4.
    .. [2] A. Gu, T. Dao, "Mamba: linear-time sequence modeling with selective state
       spaces", 2023, arXiv 2312.00752.

    Examples
    --------
    >>> import torch
    >>> network = MambaNetwork((4, 6), n_classes=3, token_dim=8, state_dim=4)
    >>> output = network(torch.zeros(5, 10))
    >>> output.logits.shape, output.fused.shape
    (torch.Size([5, 3]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        teacher_dims: Sequence[int],
        n_classes: int,
        token_dim: int = 128,
        depth: int = 1,
        *,
        state_dim: int = 16,
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
        self.blocks = nn.Sequential(
            *(MambaBlock(token_dim, state_dim) for _ in range(depth))
        )
        self.norm = nn.RMSNorm(token_dim, eps=_NORM_EPS)
        self.classifier = make_classifier(token_dim, n_classes, dropout)

    def _fused(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.norm(self.blocks(tokens)).mean(dim=1)
